"""What an enclave shows, as one document: read as it was written, in one spelling, and of one run."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from attestation_factory import NODE, NODE_CERTIFICATE, NOW, DcapFactory, SnpFactory
from hypothesis import given
from hypothesis import strategies as st
from simulated_enclave import measured

from sealtrace.protocol.attestation import eventlog as log
from sealtrace.protocol.attestation.appraisal import Stage
from sealtrace.protocol.attestation.binding import Challenge, Moment, report_data
from sealtrace.protocol.attestation.evidence import (
    Evidence,
    Kind,
    NitroCollateral,
    SoftwareCollateral,
)
from sealtrace.protocol.attestation.policy import AttestationPolicy, Image, Platform
from sealtrace.protocol.attestation.refusals import EvidenceRefused, Refusal
from sealtrace.protocol.attestation.software import software_evidence
from sealtrace.protocol.attestation.statement import (
    MAX_STATEMENT_BYTES,
    Statement,
    read_statement,
    why_another,
)
from sealtrace.protocol.canonical import canonical, sha256

DCAP, SNP = DcapFactory(), SnpFactory()
PARTY = "0x" + "ab" * 20


def digest(number):
    return f"0x{number:064x}"


MEASURED = {"runtime": "41" * 32}
POLICY = AttestationPolicy(
    platforms=(Platform.SIMULATED,),
    images=(Image(kind=Kind.SOFTWARE, measurements=MEASURED),),
    max_age_s=600,
    max_age_blocks=50,
)
CHALLENGE = Challenge(digest(100), digest(101), Moment(NOW - 60, 990), b"\x07" * 32, digest(2))
EVENTS = measured(digest(1), digest(2), digest(3), [POLICY.digest()])
WHOLE = (*EVENTS, log.took_input(digest(10), digest(11)), log.destroyed([digest(10)]))
WORD = software_evidence(NODE, report_data(CHALLENGE, EVENTS), MEASURED, NOW)
COLLATERAL = {
    "sgx": (Kind.SGX, DCAP.collateral(Kind.SGX)),
    "tdx": (Kind.TDX, DCAP.collateral(Kind.TDX)),
    "sev-snp": (Kind.SEV_SNP, SNP.collateral()),
    "sev-snp without a list": (Kind.SEV_SNP, SNP.collateral(crl=False)),
    "nitro": (Kind.NITRO, NitroCollateral()),
    "software": (Kind.SOFTWARE, SoftwareCollateral(NODE_CERTIFICATE)),
}


def statement(name="software", events=EVENTS, stage=Stage.RELEASE, **changes):
    kind, collateral = COLLATERAL[name]
    first = Statement(stage, PARTY, CHALLENGE, Evidence(kind, WORD, events), collateral)
    return replace(first, **changes)


def refused(text):
    with pytest.raises(EvidenceRefused) as caught:
        read_statement(text)
    assert caught.value.reason is Refusal.MALFORMED
    return str(caught.value)


# --- as a document ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COLLATERAL)
@pytest.mark.parametrize(("stage", "events"), [(Stage.RELEASE, EVENTS), (Stage.FINAL, WHOLE)])
def test_a_statement_of_every_kind_is_read_as_it_was_written_and_named_by_its_digest(name, stage, events):
    made = statement(name, events, stage)
    assert read_statement(made.document()) == made
    assert made.digest == sha256(made.document())


def test_a_statement_is_judged_by_what_it_carries():
    at = Moment(NOW, 1_000)
    assert statement().judged(POLICY, at).accepted
    read_again = read_statement(statement().document())
    assert read_again.judged(POLICY, at) == statement().judged(POLICY, at)
    other = replace(CHALLENGE, key=b"\x08" * 32)
    assert statement(challenge=other).judged(POLICY, at).codes == (Refusal.NOT_BOUND,)
    assert Refusal.NOT_DESTROYED in statement(stage=Stage.FINAL).judged(POLICY, at).codes


def with_(path, value, name="software"):
    body = json.loads(statement(name).document())
    *parents, last = path.split(".")
    target = body
    for parent in parents:
        target = target[parent]
    if value is ...:
        del target[last]
    else:
        target[last] = value
    return canonical(body)


FIELDS = ("version", "stage", "task", "party", "algorithm", "block", "key", "evidence", "collateral")
MALFORMED = [
    *((field, ...) for field in FIELDS),
    *((field, value) for field in FIELDS for value in (None, 7, "", [], {"a": 1})),
    ("more", 1),
    ("version", "sealtrace.enclave-statement/2"),
    ("stage", "middle"),
    ("task", digest(100)[2:]),
    ("task", "0x" + "AB" * 32),
    ("algorithm", "0X" + "ab" * 32),
    ("party", "0x" + "AB" * 20),
    ("party", "ab" * 20),
    ("key", "07" * 31),
    ("key", "07" * 33),
    ("key", "AB" * 32),
    ("key", "07 " * 32),
    ("block.hash", ...),
    ("block.hash", "0x" + "AB" * 32),
    ("block.more", 1),
    ("block.number", "990"),
    ("block.number", True),
    ("block.number", 990.5),
    ("block.number", -1),
    ("block.timestamp", None),
    ("block.timestamp", False),
    ("block.timestamp", -1),
    ("evidence.kind", "csv"),
    ("evidence.raw", "not base64"),
    ("evidence.events", {}),
    ("evidence.version", "sealtrace.attestation-evidence/2"),
    ("collateral.certificate", ...),
    ("collateral.certificate", "zz"),
    ("collateral.certificate", "AB"),
    ("collateral.certificate", "ab "),
    ("collateral.certificate", None),
    ("collateral.more", ""),
]


@pytest.mark.parametrize(("path", "value"), MALFORMED)
def test_a_statement_with_a_malformed_field_is_refused(path, value):
    assert read_statement(with_("stage", "final")).stage is Stage.FINAL
    refused(with_(path, value))


COLLATERAL_FIELDS = [
    (name, f"collateral.{field}", value)
    for name in ("sgx", "sev-snp")
    for field in json.loads(statement(name).document())["collateral"]
    for value in (..., 7)
]


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [
        *COLLATERAL_FIELDS,
        ("sev-snp", "collateral.more", None),
        ("sev-snp", "collateral.vek", "AB"),
        ("tdx", "collateral.more", ""),
        ("tdx", "collateral.pck_crl", "AB"),
        ("nitro", "collateral.certificate", ""),
        ("nitro", "collateral", []),
    ],
)
def test_malformed_collateral_of_every_kind_is_refused(name, path, value):
    read_statement(statement(name).document())
    refused(with_(path, value, name))


@pytest.mark.parametrize("name", ["sgx", "sev-snp", "nitro"])
def test_the_collateral_of_another_kind_is_refused(name):
    other = json.loads(statement(name).document())["collateral"]
    refused(with_("collateral", other))


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"7", b"\xff", b"[" * 100_000])
def test_what_is_no_statement_at_all_is_refused(text):
    refused(text)


def test_a_statement_has_at_most_two_mebibytes():
    text = statement().document()
    refused(text + b" " * (MAX_STATEMENT_BYTES - len(text) + 1))


TEXT = statement().document()


@given(st.integers(0, len(TEXT)), st.sampled_from([b" ", b"\n", b"\t", b"0", b"{}", b"A", b"\\u0061"]))
def test_a_statement_has_one_spelling(place, added):
    altered = TEXT[:place] + added + TEXT[place:]
    try:
        read = read_statement(altered)
    except EvidenceRefused:
        return
    assert read.document() == altered


@given(st.integers(0, len(TEXT) * 8 - 1))
def test_a_changed_bit_is_refused_or_makes_another_statement(bit):
    altered = bytearray(TEXT)
    altered[bit // 8] ^= 1 << bit % 8
    try:
        read = read_statement(bytes(altered))
    except EvidenceRefused:
        return
    assert read.document() == bytes(altered)
    assert read != statement()


# --- of one run -------------------------------------------------------------------------------------------


def test_the_last_statement_continues_the_first():
    assert why_another(statement(), statement()) is None
    assert why_another(statement(events=WHOLE, stage=Stage.FINAL), statement()) is None


@pytest.mark.parametrize(
    "change",
    [
        {"party": "0x" + "cd" * 20},
        *(
            {"challenge": replace(CHALLENGE, **each)}
            for each in (
                {"task": digest(7)},
                {"block": digest(7)},
                {"issued": Moment(NOW - 60, 991)},
                {"key": b"\x08" * 32},
                {"algorithm": digest(7)},
            )
        ),
    ],
)
def test_a_statement_of_another_task_party_block_key_or_algorithm_is_of_another_run(change):
    last = statement(events=WHOLE, stage=Stage.FINAL, **change)
    assert "another task, party, block, algorithm or key" in why_another(last, statement())


def test_a_statement_of_another_platform_is_of_another_run():
    assert "is nitro, the first was software" in why_another(statement("nitro"), statement())


@pytest.mark.parametrize("events", [(), WHOLE[1:], EVENTS[:-1], (log.runtime(digest(9)), *WHOLE[1:])])
def test_a_log_that_does_not_continue_the_first_is_of_another_run(events):
    last = statement(events=events, stage=Stage.FINAL)
    assert "does not continue" in why_another(last, statement())
