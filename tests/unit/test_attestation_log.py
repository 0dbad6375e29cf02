"""The event log and the binding: what evidence commits to."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest

from sealtrace.protocol.attestation import eventlog as log
from sealtrace.protocol.attestation.binding import Challenge, Moment, report_data
from sealtrace.protocol.attestation.evidence import Evidence, Kind, read_evidence
from sealtrace.protocol.attestation.refusals import EvidenceRefused, Refusal


def digest(number):
    return f"0x{number:064x}"


BEGIN = (log.runtime(digest(1)), log.algorithm(digest(2)), log.config(digest(3)), log.policy(digest(4)))
INPUTS = (log.took_input(digest(10), digest(11)), log.took_input(digest(12), digest(13)))
OUTPUT = log.gave_output(digest(20))
END = log.destroyed([digest(10), digest(12), digest(30)])
WHOLE = (*BEGIN, *INPUTS, OUTPUT, END)
CHALLENGE = Challenge(digest(100), digest(101), Moment(1_000, 10), b"\x07" * 32, digest(2))


def test_an_empty_log_has_the_head_of_a_register_that_nothing_extended():
    assert log.head_of(()) == bytes(48)


def test_the_head_is_what_the_documented_rule_gives():
    head = bytes(48)
    for text in (
        b'{"digest":"' + digest(1).encode() + b'","event":"runtime"}',
        b'{"digest":"' + digest(11).encode() + b'","event":"input","subject":"' + digest(10).encode() + b'"}',
        b'{"erased":["' + digest(10).encode() + b'"],"event":"destroy"}',
    ):
        head = hashlib.sha384(head + hashlib.sha384(text).digest()).digest()
    events = (log.runtime(digest(1)), log.took_input(digest(10), digest(11)), log.destroyed([digest(10)]))
    assert log.head_of(events) == head


def test_a_log_can_be_extended_one_event_at_a_time():
    assert log.extend(log.head_of(WHOLE[:-1]), END) == log.head_of(WHOLE)


@pytest.mark.parametrize("place", range(len(WHOLE) - 1))
def test_no_event_can_be_left_out_or_exchanged_with_the_next(place):
    without = (*WHOLE[:place], *WHOLE[place + 1 :])
    swapped = (*WHOLE[:place], WHOLE[place + 1], WHOLE[place], *WHOLE[place + 2 :])
    assert len({log.head_of(WHOLE), log.head_of(without), log.head_of(swapped)}) == 3


def test_a_run_from_measurement_to_destruction_is_in_order():
    for length in range(len(BEGIN), len(WHOLE) + 1):
        log.check_order(WHOLE[:length])
    assert log.is_destroyed(WHOLE)
    assert not log.is_destroyed(WHOLE[:-1])


BROKEN = {
    "an input before the algorithm": (BEGIN[0], INPUTS[0], *BEGIN[1:]),
    "an output before an input": (*BEGIN, OUTPUT, INPUTS[0]),
    "something after destruction": (*WHOLE, OUTPUT),
    "two runtimes": (BEGIN[0], *BEGIN),
    "two algorithms": (*BEGIN[:2], log.algorithm(digest(5)), *BEGIN[2:]),
    "no configuration": (*BEGIN[:2], BEGIN[3]),
    "no policy": BEGIN[:3],
    "one policy twice": (*BEGIN, BEGIN[3]),
    "one input twice": (*BEGIN, INPUTS[0], INPUTS[0]),
    "two destructions": (*WHOLE, END),
    "an input that was not destroyed": (*BEGIN, *INPUTS, log.destroyed([digest(10)])),
    "nothing": (),
    "too much": (*BEGIN, *(log.took_input(digest(each), digest(1)) for each in range(log.MAX_EVENTS))),
}


@pytest.mark.parametrize("why", BROKEN)
def test_a_log_that_no_run_can_have_written_is_broken(why):
    with pytest.raises(log.BrokenLog):
        log.check_order(BROKEN[why])


@pytest.mark.parametrize("event", WHOLE)
def test_an_event_is_read_as_it_was_written(event):
    assert log.event_of(json.loads(json.dumps(event.document()))) == event


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"event": "runtime"},
        {"event": "paint", "digest": digest(1)},
        {"event": "runtime", "digest": digest(1), "more": 1},
        {"event": "runtime", "digest": digest(171).upper().replace("0X", "0x")},
        {"event": "runtime", "digest": 7},
        {"event": "destroy", "erased": [digest(2), digest(1)]},
        {"event": "destroy", "erased": [digest(1), digest(1)]},
        {"event": "destroy", "erased": {digest(1): 1}},
        ["event"],
    ],
)
def test_what_is_not_an_event_in_its_one_spelling_is_refused(document):
    with pytest.raises(log.BrokenLog):
        log.event_of(document)


def test_report_data_is_what_the_documented_rule_gives():
    text = (
        f'{{"algorithm":"{digest(2)}","block":"{digest(101)}","key":"{"07" * 32}",'
        f'"log":"{log.head_of(BEGIN).hex()}","task":"{digest(100)}"}}'
    )
    assert report_data(CHALLENGE, BEGIN) == hashlib.sha512(b"sealtrace.tee.v1" + text.encode()).digest()


def test_everything_that_evidence_is_about_changes_its_report_data():
    bound = {
        report_data(CHALLENGE, BEGIN),
        report_data(CHALLENGE, WHOLE),
        report_data(replace(CHALLENGE, task=digest(1)), BEGIN),
        report_data(replace(CHALLENGE, block=digest(1)), BEGIN),
        report_data(replace(CHALLENGE, key=b"\x08" * 32), BEGIN),
        report_data(replace(CHALLENGE, algorithm=digest(3)), BEGIN),
    }
    assert len(bound) == 6
    assert {len(each) for each in bound} == {64}


def test_the_time_of_the_block_is_not_bound_because_its_hash_is():
    assert report_data(replace(CHALLENGE, issued=Moment(2, 2)), BEGIN) == report_data(CHALLENGE, BEGIN)


def test_evidence_travels_with_its_log_and_is_read_as_it_was_sent():
    evidence = Evidence(Kind.TDX, b"quote", WHOLE)
    assert read_evidence(evidence.document()) == evidence


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:-1],
        lambda text: text + b" ",
        lambda text: text.replace(b'"tdx"', b'"tpm"'),
        lambda text: text.replace(b"cXVvdGU=", b"cXVvdGV="),
        lambda text: text.replace(b"cXVvdGU=", b"!"),
        lambda text: text.replace(b"evidence/1", b"evidence/2"),
        lambda text: text.replace(b'"runtime"', b'"prelude"'),
        lambda text: b"[]",
    ],
)
def test_what_is_not_an_evidence_document_is_malformed(change):
    text = Evidence(Kind.TDX, b"quote", WHOLE).document()
    assert change(text) != text
    with pytest.raises(EvidenceRefused) as caught:
        read_evidence(change(text))
    assert caught.value.reason is Refusal.MALFORMED


def test_evidence_larger_than_any_platforms_is_refused():
    with pytest.raises(EvidenceRefused, match="65536 bytes"):
        read_evidence(Evidence(Kind.SGX, bytes((64 << 10) + 1)).document())
