"""Whether a data owner accepts evidence: every reason against it, and what it is worth to others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from hmac import compare_digest
from typing import Final

from sealtrace.protocol.attestation.binding import Challenge, Moment, report_data
from sealtrace.protocol.attestation.eventlog import (
    BrokenLog,
    EventKind,
    check_order,
    digests_of,
    head_of,
    is_destroyed,
)
from sealtrace.protocol.attestation.evidence import Collateral, Evidence, Kind, TcbStatus, Verified
from sealtrace.protocol.attestation.policy import EVENT_LOG, AttestationPolicy, Image, platform_of
from sealtrace.protocol.attestation.refusals import EvidenceRefused, Reason, Refusal
from sealtrace.protocol.attestation.roots import Roots
from sealtrace.protocol.attestation.verification import verify
from sealtrace.protocol.canonical import sha256
from sealtrace.protocol.identifiers import Hex32


class Stage(StrEnum):
    """What the evidence is asked for."""

    RELEASE = "release"
    """Before a key is released: nothing has been opened yet."""
    FINAL = "final"
    """After the run: the log ends in the destruction of all that was opened."""


class Claim(StrEnum):
    """What a result speaks of: the names of AR4SI (draft-ietf-rats-ar4si §2.3)."""

    CONFIGURATION = "configuration"
    EXECUTABLES = "executables"
    HARDWARE = "hardware"
    RUNTIME_OPAQUE = "runtime-opaque"


AFFIRMED: Final = 2
BOOT_ONLY: Final = 3
TCB_BEHIND: Final = 32
EXECUTABLES_UNKNOWN: Final = 33
CONFIGURATION_UNKNOWN: Final = 36
CONTRAINDICATED: Final = 96
HARDWARE_UNRECOGNIZED: Final = 97
VALIDATION_FAILED: Final = 99


@dataclass(frozen=True, slots=True)
class Appraisal:
    """What came of judging one piece of evidence under one policy at one block.

    ``reasons`` is empty where it is accepted. ``trust`` is the AR4SI vector, which others read by their own
    rules: simulated evidence that this owner accepts is contraindicated all the same.
    """

    kind: Kind
    stage: Stage
    at: Moment
    evidence: Hex32
    policy: Hex32
    reasons: tuple[Reason, ...]
    trust: Mapping[Claim, int]
    verified: Verified | None = field(default=None, repr=False)

    @property
    def accepted(self) -> bool:
        """Whether the owner's policy takes this evidence."""
        return not self.reasons

    @property
    def codes(self) -> tuple[Refusal, ...]:
        """The reasons' codes, in the order in which they are looked for."""
        return tuple(reason.code for reason in self.reasons)


class NotAccepted(ValueError):
    """Evidence is not accepted under a policy; the message lists every reason and what to do about it."""


def require_accepted(appraisal: Appraisal) -> Verified:
    """Return what accepted evidence says.

    Raises:
        NotAccepted: it is not accepted.
    """
    if appraisal.verified is None or not appraisal.accepted:
        raise NotAccepted("; ".join(map(str, appraisal.reasons)))
    return appraisal.verified


def appraise(
    evidence: Evidence,
    collateral: Collateral | None,
    policy: AttestationPolicy,
    challenge: Challenge,
    at: Moment,
    *,
    stage: Stage = Stage.RELEASE,
    roots: Roots | None = None,
) -> Appraisal:
    """Judge ``evidence`` under ``policy`` at a block, never at a clock: an auditor reaches the same answer.

    It never raises for bad evidence: a refusal is an answer. Evidence that is not genuine has that one
    reason; genuine evidence has every reason that the policy holds against it.
    """
    try:
        verified = verify(evidence, collateral, at.time, roots=roots)
    except EvidenceRefused as cause:
        return _appraisal(evidence, policy, at, stage, (Reason(cause.reason, cause.detail),), None)
    reasons = tuple(_why_refused(verified, evidence, policy, challenge, at, stage))
    return _appraisal(evidence, policy, at, stage, reasons, verified)


def _why_refused(
    verified: Verified,
    evidence: Evidence,
    policy: AttestationPolicy,
    challenge: Challenge,
    at: Moment,
    stage: Stage,
) -> Iterator[Reason]:
    """Every reason against genuine evidence: the platform, then the image, the binding, the event log."""
    yield from _why_platform(verified, policy)
    yield from _why_image(verified, evidence, policy)
    if not compare_digest(verified.report_data, report_data(challenge, evidence.events)):
        yield Reason(Refusal.NOT_BOUND, f"it is bound to {verified.report_data.hex()[:16] or 'nothing'}...")
    yield from _why_age(challenge.issued, policy, at, stage)
    yield from _why_log(evidence, policy, challenge, stage)


def _why_platform(verified: Verified, policy: AttestationPolicy) -> Iterator[Reason]:
    if platform_of(verified.kind) not in policy.platforms:
        accepted = ", ".join(policy.platforms)
        yield Reason(Refusal.PROTECTION_NOT_ALLOWED, f"{verified.kind} evidence, accepted are {accepted}")
    if verified.debug:
        yield Reason(Refusal.DEBUG, "debugging is on")
    if verified.status not in policy.tcb_statuses:
        yield Reason(Refusal.TCB_STATUS, f"the vendor says {verified.status}")
    for advisory in verified.advisories:
        if advisory in policy.refused_advisories:
            yield Reason(Refusal.ADVISORY, f"{advisory} applies")
    for feature in sorted(verified.features - set(policy.features)):
        yield Reason(Refusal.FEATURE_NOT_ALLOWED, f"{feature} is on")
    if verified.evaluation is not None and verified.evaluation < policy.minimum_evaluation:
        wanted = f"edition {verified.evaluation} of the TCB information, wanted {policy.minimum_evaluation}"
        yield Reason(Refusal.COLLATERAL_OUTDATED, wanted)
    if policy.require_revocation_list and not verified.revocation_checked:
        yield Reason(Refusal.REVOCATION_UNKNOWN, "no revocation list came with the certificates")


def _why_image(verified: Verified, evidence: Evidence, policy: AttestationPolicy) -> Iterator[Reason]:
    alike = [image for image in policy.images_of(verified.kind) if _is_image(verified, evidence, image)]
    if not alike:
        yield Reason(Refusal.MEASUREMENT_UNKNOWN, _differences(verified, evidence, policy))
        return
    behind = [_versions_behind(verified, image) for image in alike]
    if all(behind):
        yield Reason(Refusal.TCB_BEHIND, behind[0])


def _expected(evidence: Evidence, image: Image) -> Iterator[tuple[str, str]]:
    for name, value in image.expected().items():
        yield name, head_of(evidence.events).hex() if value == EVENT_LOG else value


def _is_image(verified: Verified, evidence: Evidence, image: Image) -> bool:
    return all(verified.measurements.get(name) == value for name, value in _expected(evidence, image))


def _differences(verified: Verified, evidence: Evidence, policy: AttestationPolicy) -> str:
    images = policy.images_of(verified.kind)
    if not images:
        return f"no image of {verified.kind} is accepted"
    wrong = [
        f"{name} is {verified.measurements.get(name)}"
        for name, value in _expected(evidence, images[0])
        if verified.measurements.get(name) != value
    ]
    return ", ".join(wrong)


def _versions_behind(verified: Verified, image: Image) -> str:
    behind = (
        f"{name} is {verified.versions.get(name)}, wanted {least}"
        for name, least in image.minimum_versions.items()
        if verified.versions.get(name, -1) < least
    )
    return ", ".join(behind)


def _why_age(issued: Moment, policy: AttestationPolicy, at: Moment, stage: Stage) -> Iterator[Reason]:
    """The last evidence may be as late as its run was long: it is the same enclave's, by its key."""
    seconds, blocks = at.time - issued.time, at.number - issued.number
    if seconds < 0 or blocks < 0:
        yield Reason(Refusal.FROM_THE_FUTURE, f"bound to block {issued.number}, judged at {at.number}")
    elif stage is Stage.RELEASE and (seconds > policy.max_age_s or blocks > policy.max_age_blocks):
        yield Reason(Refusal.TOO_OLD, f"bound to a block {seconds} s and {blocks} blocks ago")


def _why_log(
    evidence: Evidence, policy: AttestationPolicy, challenge: Challenge, stage: Stage
) -> Iterator[Reason]:
    events = evidence.events
    try:
        check_order(events)
    except BrokenLog as cause:
        yield Reason(Refusal.LOG_BROKEN, str(cause))
        return
    if stage is Stage.RELEASE and any(event.kind in _AFTER_RELEASE for event in events):
        yield Reason(Refusal.LOG_BROKEN, "something was opened before a key was released")
    if stage is Stage.FINAL and not is_destroyed(events):
        yield Reason(Refusal.NOT_DESTROYED, "the log does not end in destruction")
    for kind, accepted, reason in (
        (EventKind.RUNTIME, policy.runtimes, Refusal.WRONG_RUNTIME),
        (EventKind.ALGORITHM, (challenge.algorithm,), Refusal.WRONG_ALGORITHM),
        (EventKind.CONFIG, policy.configs, Refusal.WRONG_CONFIG),
    ):
        strange = digests_of(events, kind) - set(accepted)
        if accepted and strange:
            yield Reason(reason, f"the log names {', '.join(sorted(strange))}")
    if policy.digest() not in digests_of(events, EventKind.POLICY):
        yield Reason(Refusal.WRONG_POLICY, f"the log does not name the policy {policy.digest()}")


_AFTER_RELEASE: Final = frozenset({EventKind.INPUT, EventKind.OUTPUT, EventKind.DESTROY})


def _appraisal(
    evidence: Evidence,
    policy: AttestationPolicy,
    at: Moment,
    stage: Stage,
    reasons: tuple[Reason, ...],
    verified: Verified | None,
) -> Appraisal:
    return Appraisal(
        kind=evidence.kind,
        stage=stage,
        at=at,
        evidence=verified.digest if verified else sha256(evidence.raw),
        policy=policy.digest(),
        reasons=reasons,
        trust=_trust(evidence.kind, verified, policy, {reason.code for reason in reasons}),
        verified=verified,
    )


def _trust(
    kind: Kind, verified: Verified | None, policy: AttestationPolicy, codes: set[Refusal]
) -> dict[Claim, int]:
    if verified is None:
        failed = HARDWARE_UNRECOGNIZED if not kind.is_hardware else VALIDATION_FAILED
        return {**dict.fromkeys(Claim, VALIDATION_FAILED), Claim.HARDWARE: failed}
    return {claim: _JUDGES[claim](verified, policy, codes) for claim in Claim}


def _hardware(verified: Verified, policy: AttestationPolicy, codes: set[Refusal]) -> int:
    if not verified.kind.is_hardware:
        return HARDWARE_UNRECOGNIZED
    if verified.debug:
        return CONTRAINDICATED
    behind = verified.status is not TcbStatus.UP_TO_DATE or Refusal.TCB_BEHIND in codes
    return TCB_BEHIND if behind or Refusal.ADVISORY in codes else AFFIRMED


def _executables(verified: Verified, policy: AttestationPolicy, codes: set[Refusal]) -> int:
    if codes & {Refusal.MEASUREMENT_UNKNOWN, Refusal.WRONG_ALGORITHM, Refusal.WRONG_RUNTIME}:
        return EXECUTABLES_UNKNOWN
    return BOOT_ONLY if codes & {Refusal.LOG_BROKEN, Refusal.NOT_BOUND} else AFFIRMED


def _configuration(verified: Verified, policy: AttestationPolicy, codes: set[Refusal]) -> int:
    unknown = {Refusal.WRONG_CONFIG, Refusal.LOG_BROKEN, Refusal.NOT_BOUND, Refusal.WRONG_POLICY}
    if codes & unknown:
        return CONFIGURATION_UNKNOWN
    return AFFIRMED if policy.configs else 0


def _runtime_opaque(verified: Verified, policy: AttestationPolicy, codes: set[Refusal]) -> int:
    return AFFIRMED if verified.kind.is_hardware and not verified.debug else CONTRAINDICATED


_JUDGES: Final[Mapping[Claim, Callable[[Verified, AttestationPolicy, set[Refusal]], int]]] = {
    Claim.CONFIGURATION: _configuration,
    Claim.EXECUTABLES: _executables,
    Claim.HARDWARE: _hardware,
    Claim.RUNTIME_OPAQUE: _runtime_opaque,
}
