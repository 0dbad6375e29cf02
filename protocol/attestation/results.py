"""Attestation results that others can read: EAR, as a signed JWT.

In the words of RFC 9334 the owner's node is the verifier, and whoever reads the result a relying party. Two
profiles: the one that Veraison, rust-ear and Trustee read, which is the default, and that of the working
group's draft (draft-ietf-rats-ear-04), whose claims have other names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from sealtrace.protocol.attestation.appraisal import CONTRAINDICATED, Appraisal, Claim
from sealtrace.protocol.attestation.binding import Challenge
from sealtrace.protocol.attestation.jws import SigningKey, TokenRefused, VerifyingKey, b64url, read, sign
from sealtrace.protocol.identifiers import raw

TYPE: Final = "eat+jwt"  # RFC 9711 §6.2 media type application/eat+jwt, RFC 7515 §4.1.9
SUBMODULE: Final = "cpu0"
_OURS: Final = "sealtrace"


class Profile(StrEnum):
    """Which of two spellings a result is written in."""

    VERAISON = "tag:github.com,2023:veraison/ear"
    IETF_DRAFT = "tag:ietf.org,2026:rats/ear#04"


class Status(StrEnum):
    """How a vector, or a claim of it, is to be taken (AR4SI §2.3.2)."""

    NONE = "none"
    AFFIRMING = "affirming"
    WARNING = "warning"
    CONTRAINDICATED = "contraindicated"


@dataclass(frozen=True, slots=True)
class _Names:
    verifier: str
    status: str
    vector: str
    policy: str
    policy_is_list: bool


_NAMES: Final[Mapping[Profile, _Names]] = {
    Profile.VERAISON: _Names(
        "ear.verifier-id", "ear.status", "ear.trustworthiness-vector", "ear.appraisal-policy-id", False
    ),
    Profile.IETF_DRAFT: _Names(
        "ear_verifier_id", "ear_status", "ear_trustworthiness_vector", "ear_appraisal_policy_ids", True
    ),
}


@dataclass(frozen=True, slots=True)
class VerifierId:
    """Who appraised: the organisation, and the software's version or, better, its digest."""

    developer: str
    build: str


@dataclass(frozen=True, slots=True)
class Result:
    """A result that was read: what others may rely on, and what this network adds to it."""

    profile: Profile
    issued_at: int
    status: Status
    trust: Mapping[str, int]
    policy: str
    evidence: str
    accepted: bool
    refusals: tuple[str, ...]
    block: int


def status_of(value: int) -> Status:
    """The band of a claim's value: -1 to 1 none, then affirming, from 32 warning, from 96 contraindicated."""
    if -1 <= value <= 1:
        return Status.NONE
    size = value if value > 0 else ~value  # AR4SI mirrors the bands for a verifier's own values
    if size < 32:
        return Status.AFFIRMING
    return Status.WARNING if size < CONTRAINDICATED else Status.CONTRAINDICATED


def worst(trust: Mapping[Claim, int] | Mapping[str, int]) -> Status:
    """The status of a whole vector: that of its worst claim."""
    order = list(Status)
    return max((status_of(value) for value in trust.values()), key=order.index, default=Status.NONE)


def result_claims(
    appraisal: Appraisal, challenge: Challenge, by: VerifierId, profile: Profile = Profile.VERAISON
) -> dict[str, Any]:
    """The claims of a result. What is refused is contraindicated, whatever the vector says by itself."""
    names = _NAMES[profile]
    status = worst(appraisal.trust) if appraisal.accepted else Status.CONTRAINDICATED
    submodule = {
        names.status: status,
        names.vector: {claim.value: value for claim, value in sorted(appraisal.trust.items())},
        names.policy: [appraisal.policy] if names.policy_is_list else appraisal.policy,
    }
    return {
        "eat_profile": profile.value,
        "iat": int(appraisal.at.time),
        "eat_nonce": b64url(raw(challenge.block)),
        names.verifier: {"developer": by.developer, "build": by.build},
        "submods": {SUBMODULE: submodule},
        _OURS: {
            "accepted": appraisal.accepted,
            "block": appraisal.at.number,
            "evidence": appraisal.evidence,
            "kind": appraisal.kind.value,
            "refusals": [code.value for code in appraisal.codes],
            "stage": appraisal.stage.value,
            "task": challenge.task,
        },
    }


def sign_result(claims: Mapping[str, Any], key: SigningKey) -> str:
    """The result as a compact JWT."""
    return sign(dict(claims), key, TYPE)


def read_result(token: str, keys: Iterable[VerifyingKey]) -> Result:
    """Read a result of either profile that one of ``keys`` signed.

    Raises:
        TokenRefused: none of them did, or it is no such result, or its status is better than its vector.
    """
    claims = read(token, keys, TYPE)
    try:
        return _result(claims)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as cause:
        raise TokenRefused(f"signed, but no attestation result of ours ({cause})") from cause


def _result(claims: Mapping[str, Any]) -> Result:
    profile = Profile(claims["eat_profile"])
    names, ours = _NAMES[profile], claims[_OURS]
    submodule = claims["submods"][SUBMODULE]
    policy, trust, status = submodule[names.policy], submodule[names.vector], Status(submodule[names.status])
    order, least = list(Status), worst(trust)
    if order.index(status) < order.index(least):
        raise TokenRefused(f"its status {status} is better than its vector, which is {least}")
    return Result(
        profile=profile,
        issued_at=claims["iat"],
        status=status,
        trust=trust,
        policy=policy[0] if names.policy_is_list else policy,
        evidence=ours["evidence"],
        accepted=ours["accepted"],
        refusals=tuple(ours["refusals"]),
        block=ours["block"],
    )
