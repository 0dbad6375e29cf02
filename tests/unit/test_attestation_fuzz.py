"""Whatever a stranger sends, it is genuine or it is refused by name: nothing else happens."""

from __future__ import annotations

import random
from contextlib import suppress
from dataclasses import fields, replace

import pytest
from attestation_factory import NOW, DcapFactory, NitroFactory, SnpFactory, flipped
from hypothesis import given, settings
from hypothesis import strategies as st

from sealtrace.protocol.attestation.evidence import Evidence, Kind, NitroCollateral, read_evidence
from sealtrace.protocol.attestation.refusals import EvidenceRefused
from sealtrace.protocol.attestation.verification import verify

DCAP, SNP, NITRO = DcapFactory(), SnpFactory(), NitroFactory()
CASES = {
    Kind.SGX: (DCAP.evidence(Kind.SGX), DCAP.collateral(Kind.SGX), DCAP.roots),
    Kind.TDX: (DCAP.evidence(Kind.TDX, version=5), DCAP.collateral(Kind.TDX), DCAP.roots),
    Kind.SEV_SNP: (SNP.evidence(), SNP.collateral(), SNP.roots),
    Kind.NITRO: (NITRO.evidence(), NitroCollateral(), NITRO.roots),
}
PARTS = [
    (kind, each.name)
    for kind, (_, collateral, _) in CASES.items()
    for each in fields(collateral)
    if each.name != "tcb_info"  # the library reads it alone
]


@st.composite
def spliced(draw, data):
    """``data`` with a piece of it exchanged for other bytes, of any length."""
    first = draw(st.integers(0, len(data)))
    last = draw(st.integers(first, min(len(data), first + 40)))
    return data[:first] + draw(st.binary(max_size=40)) + data[last:]


def judged(kind, evidence=None, collateral=None):
    made, beside, roots = CASES[kind]
    try:
        return verify(evidence or made, collateral or beside, NOW, roots=roots)
    except EvidenceRefused:
        return None


@pytest.mark.parametrize("kind", CASES)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_spliced_evidence_is_refused_or_says_the_same(kind, data):
    made = CASES[kind][0]
    seen = judged(kind, replace(made, raw=data.draw(spliced(made.raw))))
    assert seen is None or seen == judged(kind)


@pytest.mark.parametrize(("kind", "part"), PARTS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_spliced_collateral_is_refused_or_says_the_same(kind, part, data):
    collateral = CASES[kind][1]
    value = getattr(collateral, part)
    altered = (
        data.draw(spliced(value))
        if isinstance(value, bytes)
        else data.draw(spliced(value.encode())).decode("latin-1")
    )
    seen = judged(kind, collateral=replace(collateral, **{part: altered}))
    assert seen is None or seen == judged(kind)


@pytest.mark.parametrize("kind", CASES)
@settings(max_examples=60, deadline=None)
@given(raw=st.binary(max_size=2_000))
def test_bytes_of_nobody_are_refused(kind, raw):
    assert judged(kind, Evidence(kind, raw)) is None


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_spliced_document_is_refused_or_read(data):
    text = data.draw(spliced(CASES[Kind.SEV_SNP][0].document()))
    with suppress(EvidenceRefused):
        assert read_evidence(text).document() == text


@pytest.mark.parametrize("kind", CASES)
def test_no_single_bit_of_made_evidence_can_be_changed(kind):
    raw = CASES[kind][0].raw
    for bit in random.Random(11).sample(range(len(raw) * 8), 400):
        assert judged(kind, replace(CASES[kind][0], raw=flipped(raw, bit))) is None


@pytest.mark.parametrize(("kind", "part"), [*PARTS, (Kind.SGX, "tcb_info"), (Kind.TDX, "tcb_info")])
def test_no_single_bit_of_made_collateral_can_be_changed(kind, part):
    collateral = CASES[kind][1]
    value = getattr(collateral, part)
    data = value if isinstance(value, bytes) else value.encode()
    for bit in random.Random(12).sample(range(len(data) * 8), min(100, len(data) * 8)):
        altered = flipped(data, bit)
        given = altered if isinstance(value, bytes) else altered.decode("latin-1")
        assert judged(kind, collateral=replace(collateral, **{part: given})) is None
