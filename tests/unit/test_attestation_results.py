"""Attestation results: what is written, who can read it, and what is not believed."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from attestation_factory import flipped
from cryptography.hazmat.primitives.asymmetric.ec import SECP256K1, SECP256R1, derive_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from joserfc import jwt
from joserfc.jwk import ECKey, OKPKey

from sealtrace.protocol.attestation import jws
from sealtrace.protocol.attestation.appraisal import Appraisal, Claim, Stage
from sealtrace.protocol.attestation.binding import Challenge, Moment
from sealtrace.protocol.attestation.evidence import Kind
from sealtrace.protocol.attestation.jws import TokenRefused, b64url, thumbprint, unb64url
from sealtrace.protocol.attestation.refusals import Reason, Refusal
from sealtrace.protocol.attestation.results import (
    Profile,
    Status,
    VerifierId,
    read_result,
    result_claims,
    sign_result,
    status_of,
    worst,
)
from sealtrace.protocol.canonical import canonical

ED25519 = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
ES256 = derive_private_key(12_345, SECP256R1())
KEYS = {"EdDSA": ED25519, "ES256": ES256}
TASK, BLOCK = "0x" + "aa" * 32, "0x" + "bb" * 32
CHALLENGE = Challenge(TASK, BLOCK, Moment(1_000, 10), b"k" * 32, "0x" + "cc" * 32)
BY = VerifierId("https://hospital-a.example", "sealtrace 0.1.0")
TRUST = {Claim.CONFIGURATION: 2, Claim.EXECUTABLES: 2, Claim.HARDWARE: 2, Claim.RUNTIME_OPAQUE: 2}
ACCEPTED = Appraisal(
    Kind.TDX, Stage.RELEASE, Moment(1_060, 12), "0x" + "dd" * 32, "0x" + "ee" * 32, (), TRUST, None
)
REFUSED = replace(ACCEPTED, reasons=(Reason(Refusal.TOO_OLD, "bound long ago"),))


def token(appraisal=ACCEPTED, key=ED25519, profile=Profile.VERAISON, **changes):
    return sign_result(result_claims(appraisal, CHALLENGE, BY, profile) | changes, key)


def payload(text):
    return json.loads(unb64url(text.split(".")[1]))


def test_a_result_has_the_claims_that_veraison_reads():
    assert payload(token()) == {
        "eat_profile": "tag:github.com,2023:veraison/ear",
        "iat": 1_060,
        "eat_nonce": b64url(b"\xbb" * 32),
        "ear.verifier-id": {"developer": BY.developer, "build": BY.build},
        "submods": {
            "cpu0": {
                "ear.status": "affirming",
                "ear.trustworthiness-vector": {
                    "configuration": 2,
                    "executables": 2,
                    "hardware": 2,
                    "runtime-opaque": 2,
                },
                "ear.appraisal-policy-id": ACCEPTED.policy,
            }
        },
        "sealtrace": {
            "accepted": True,
            "block": 12,
            "evidence": ACCEPTED.evidence,
            "kind": "tdx",
            "refusals": [],
            "stage": "release",
            "task": TASK,
        },
    }


def test_a_result_can_be_written_in_the_words_of_the_working_group():
    claims = payload(token(profile=Profile.IETF_DRAFT))
    assert claims["eat_profile"] == "tag:ietf.org,2026:rats/ear#04"
    assert claims["ear_verifier_id"] == {"developer": BY.developer, "build": BY.build}
    submodule = claims["submods"]["cpu0"]
    assert set(submodule) == {"ear_status", "ear_trustworthiness_vector", "ear_appraisal_policy_ids"}
    assert submodule["ear_appraisal_policy_ids"] == [ACCEPTED.policy]


@pytest.mark.parametrize("profile", Profile)
@pytest.mark.parametrize("algorithm", KEYS)
@pytest.mark.parametrize("appraisal", [ACCEPTED, REFUSED])
def test_a_result_is_read_as_it_was_written(profile, algorithm, appraisal):
    key = KEYS[algorithm]
    others = [each.public_key() for each in KEYS.values()]
    seen = read_result(token(appraisal, key, profile), others)
    assert (seen.profile, seen.issued_at, seen.block) == (profile, 1_060, 12)
    assert (seen.policy, seen.evidence) == (appraisal.policy, appraisal.evidence)
    assert (seen.accepted, seen.refusals) == (appraisal.accepted, tuple(appraisal.codes))
    assert seen.trust == {claim.value: value for claim, value in TRUST.items()}


def test_what_is_refused_is_contraindicated_though_its_vector_affirms():
    assert worst(REFUSED.trust) is Status.AFFIRMING
    assert read_result(token(REFUSED), [ED25519.public_key()]).status is Status.CONTRAINDICATED


@pytest.mark.parametrize(
    ("value", "status"),
    [
        (-1, Status.NONE),
        (0, Status.NONE),
        (1, Status.NONE),
        (2, Status.AFFIRMING),
        (31, Status.AFFIRMING),
        (32, Status.WARNING),
        (95, Status.WARNING),
        (96, Status.CONTRAINDICATED),
        (127, Status.CONTRAINDICATED),
        (-2, Status.AFFIRMING),
        (-32, Status.AFFIRMING),
        (-33, Status.WARNING),
        (-96, Status.WARNING),
        (-97, Status.CONTRAINDICATED),
        (-128, Status.CONTRAINDICATED),
    ],
)
def test_a_value_is_in_the_band_of_ar4si(value, status):
    assert status_of(value) is status


def test_the_status_of_a_vector_is_that_of_its_worst_claim():
    assert worst({**TRUST, Claim.CONFIGURATION: 0}) is Status.AFFIRMING
    assert worst({**TRUST, Claim.HARDWARE: 32}) is Status.WARNING
    assert worst({**TRUST, Claim.HARDWARE: 97, Claim.EXECUTABLES: 33}) is Status.CONTRAINDICATED
    assert worst({}) is Status.NONE


@pytest.mark.filterwarnings(
    "ignore:EdDSA is deprecated"
)  # RFC 9864 renames it; readers of EAR have the old name
@pytest.mark.parametrize("algorithm", KEYS)
def test_another_library_reads_our_results_and_we_read_its(algorithm):
    key = KEYS[algorithm]
    theirs = (ECKey if algorithm == "ES256" else OKPKey).import_key(key)
    seen = jwt.decode(token(key=key), theirs, algorithms=[algorithm])
    assert seen.claims == payload(token(key=key))
    assert seen.header == {"alg": algorithm, "kid": theirs.thumbprint(), "typ": "eat+jwt"}
    header = {"alg": algorithm, "kid": thumbprint(key.public_key()), "typ": "eat+jwt"}
    written = jwt.encode(header, result_claims(ACCEPTED, CHALLENGE, BY), theirs, algorithms=[algorithm])
    assert read_result(written, [key.public_key()]).accepted


@pytest.mark.parametrize("algorithm", KEYS)
def test_signing_takes_no_randomness(algorithm):
    assert token(key=KEYS[algorithm]) == token(key=KEYS[algorithm])


@pytest.mark.parametrize("algorithm", KEYS)
def test_no_bit_of_a_result_can_be_changed(algorithm):
    text, keys = token(key=KEYS[algorithm]).encode(), [KEYS[algorithm].public_key()]
    for bit in range(0, len(text) * 8, 5):
        with pytest.raises(TokenRefused):
            read_result(flipped(text, bit).decode("latin-1"), keys)


def test_a_result_of_somebody_else_is_refused():
    with pytest.raises(TokenRefused, match="not one of those asked for"):
        read_result(token(), [ES256.public_key(), Ed25519PrivateKey.generate().public_key()])
    with pytest.raises(TokenRefused):
        read_result(token(), [])


def forged(header, claims=None, signature=b""):
    body = result_claims(ACCEPTED, CHALLENGE, BY) if claims is None else claims
    return f"{b64url(canonical(header))}.{b64url(canonical(body))}.{b64url(signature)}"


HEADER = {"alg": "EdDSA", "kid": thumbprint(ED25519.public_key()), "typ": "eat+jwt"}


@pytest.mark.parametrize(
    "header",
    [
        HEADER | {"alg": "none"},
        HEADER | {"alg": "HS256"},
        HEADER | {"alg": "ES256"},
        HEADER | {"typ": "JWT"},
        HEADER | {"crit": ["b64"], "b64": False},
        HEADER | {"jwk": {"kty": "OKP"}},
        {"alg": "EdDSA", "typ": "eat+jwt"},
        HEADER,
    ],
)
def test_a_token_does_not_choose_how_it_is_verified(header):
    with pytest.raises(TokenRefused):
        read_result(forged(header), [ED25519.public_key()])


@pytest.mark.parametrize(
    "change", [{"typ": "JWT"}, {"alg": "ES256"}, {"alg": "Ed25519"}, {"crit": ["b64"], "b64": False}]
)
def test_a_header_that_is_not_ours_is_refused_though_it_is_signed(change):
    signed = forged(HEADER | change).rpartition(".")[0]
    with pytest.raises(TokenRefused, match="its header is not"):
        read_result(f"{signed}.{b64url(ED25519.sign(signed.encode()))}", [ED25519.public_key()])


def test_a_signature_has_no_room_for_more_bytes():
    signed, _, signature = token(key=ES256).rpartition(".")
    longer = b"\0" + unb64url(signature)
    middle = longer[1:33] + b"\0" + longer[33:]
    for altered in (longer, middle):
        with pytest.raises(TokenRefused):
            read_result(f"{signed}.{b64url(altered)}", [ES256.public_key()])


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "",
        lambda text: text + ".",
        lambda text: text.replace(".", "", 1),
        lambda text: text + "=",
        lambda text: " " + text,
        lambda text: text + "A" * (256 << 10),
    ],
)
def test_what_is_no_token_is_refused(change):
    with pytest.raises(TokenRefused):
        read_result(change(token()), [ED25519.public_key()])


@pytest.mark.parametrize(
    "changes",
    [
        {"eat_profile": "tag:somebody,2020:else"},
        {"submods": {}},
        {"submods": {"cpu0": {"ear.status": "affirming"}}},
        {"submods": {"cpu0": payload(token())["submods"]["cpu0"] | {"ear.trustworthiness-vector": [2]}}},
        {"sealtrace": None},
        {"sealtrace": {}},
    ],
)
def test_a_signed_text_that_is_no_result_is_refused(changes):
    with pytest.raises(TokenRefused):
        read_result(token(**changes), [ED25519.public_key()])


def test_a_status_better_than_its_vector_is_not_believed():
    claims = result_claims(replace(ACCEPTED, trust={**TRUST, Claim.HARDWARE: 97}), CHALLENGE, BY)
    claims["submods"]["cpu0"]["ear.status"] = "affirming"
    with pytest.raises(TokenRefused, match="better than its vector"):
        read_result(sign_result(claims, ED25519), [ED25519.public_key()])


def test_a_key_of_another_kind_signs_no_results():
    with pytest.raises(TokenRefused, match="use Ed25519 or P-256"):
        token(key=derive_private_key(7, SECP256K1()))


def test_json_that_is_read_in_two_ways_is_refused():
    header = b64url(canonical(HEADER))
    body = b64url(b'{"iat":1,"iat":2}')
    signed = f"{header}.{body}".encode()
    text = f"{signed.decode()}.{b64url(ED25519.sign(signed))}"
    with pytest.raises(TokenRefused, match="twice"):
        jws.read(text, [ED25519.public_key()], "eat+jwt")
