"""Receipts and logs as an endpoint tells them are held to their form before anything is made of them."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sealtrace.auditor.headers import (
    Emitted,
    MalformedBlock,
    Receipt,
    ToldLog,
    in_form,
    read_logs,
    receipts_rlp,
)

ADDRESS, TOPIC, DATA = "0x" + "ab" * 20, "0x" + "cd" * 32, "0x" + "ef" * 32
HASH, BLOOM = "0x" + "12" * 32, "0x" + "00" * 256
FORMS = {
    "address": r"0x[0-9a-fA-F]{40}",
    "topic": r"0x[0-9a-fA-F]{64}",
    "data": r"0x([0-9a-fA-F]{2})*",
    "hash": r"0x[0-9a-fA-F]{64}",
}


def told(**parts):
    """Two logs, one of which has ``parts``."""
    given = {"address": ADDRESS, "topic": TOPIC, "data": DATA, "hash": HASH} | parts
    clean = ToldLog(ADDRESS, (TOPIC, TOPIC), DATA, "0x7", "0x0", HASH)
    topics = (TOPIC, given["topic"])
    return [clean, ToldLog(given["address"], topics, given["data"], "0x7", "0x1", given["hash"])]


def received(**parts):
    """The same as a receipt."""
    logs = told(**parts)
    emitted = tuple(Emitted(log.address, log.topics, log.data) for log in logs)
    return [Receipt(logs[1].transactionHash, "0x1", "0x5208", BLOOM, emitted)]


def spoilt(form):
    """Texts that are nearly of a form: digits and what may pass for them, of any length."""
    size = {"address": 42, "data": 66}.get(form, 66)
    text = st.text("0123456789abcdefABCDEFxX|_ +-\n\u0660\uff11", min_size=size - 3, max_size=size + 1)
    whole = st.from_regex(FORMS[form].replace("*", "{32}"), fullmatch=True)
    swapped = st.builds(
        lambda t, i, c: t[:i] + c + t[i + 1 :], whole, st.integers(0, size - 1), st.characters()
    )
    return st.one_of(text, text.map(lambda each: "0x" + each[2:]), whole, swapped)


PARTS = st.sampled_from(sorted(FORMS)).flatmap(lambda form: st.tuples(st.just(form), spoilt(form)))


@given(PARTS)
@example(("topic", "0x" + "ab" * 15 + "0x" + "ab" * 16))
@example(("topic", "ab" * 33))
@example(("topic", "0X" + "ab" * 32))
@example(("topic", "0x" + "ab" * 15 + "|0x" + "ab" * 15 + "a"))
@example(("data", "0xabc"))
@example(("data", ""))
@example(("data", "0x"))
@example(("address", "0x" + "\u0660" * 40))
def test_each_part_is_of_its_form_and_comes_out_in_lower_case_or_all_is_refused(part):
    form, text = part
    if not re.fullmatch(FORMS[form], text, re.ASCII) or (form == "data" and text.endswith("\n")):
        for refused in (lambda: read_logs(told(**{form: text})), lambda: in_form(received(**{form: text}))):
            with pytest.raises(MalformedBlock):
                refused()
        return
    log = read_logs(told(**{form: text}))[1]
    receipt = in_form(received(**{form: text}))[0]
    found = {"address": log.address, "topic": log.topics[1], "data": log.data, "hash": log.transaction}
    assert found[form] == text.lower()
    emitted = receipt.logs[1]
    assert (emitted.address, emitted.topics, emitted.data) == (log.address, log.topics, log.data)
    assert receipt.transactionHash == log.transaction


def test_two_parts_that_make_up_for_each_other_are_refused():
    """One begins with what the other lacks, so that there are as many of everything as there should be."""
    topics = ("0x" + "ab" * 31 + "0x", "cd" * 33)
    for logs in (told(), received()[0].logs):
        swapped = [type(log)(log.address, topics, *_rest(log)) for log in logs]
        with pytest.raises(MalformedBlock):
            read_logs(swapped) if isinstance(swapped[0], ToldLog) else in_form(_with(swapped))


def _rest(log):
    return [getattr(log, name) for name in type(log).__struct_fields__[2:]]


def _with(logs):
    return [Receipt(HASH, "0x1", "0x5208", BLOOM, tuple(logs))]


@pytest.mark.parametrize("topics", [(), (TOPIC,) * 4, (TOPIC,) * 5])
@pytest.mark.parametrize("data", ["0x", "0x00", "0x7f", "0x80", DATA, "0x" + "00" * 300])
def test_a_receipts_rlp_is_that_of_an_independent_encoder(topics, data):
    rlp = pytest.importorskip("rlp")
    receipt = Receipt(HASH, "0x1", "0x5208", BLOOM, (Emitted(ADDRESS, topics, data),), "0x2")
    if len(topics) > 4:
        with pytest.raises(MalformedBlock):
            in_form([receipt])
        return
    raw = lambda text: bytes.fromhex(text[2:])  # noqa: E731
    log = [raw(ADDRESS), [raw(topic) for topic in topics], raw(data)]
    assert receipts_rlp(in_form([receipt])) == [b"\x02" + rlp.encode([1, 0x5208, raw(BLOOM), [log]])]
