from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealtrace.node.gateway.mailbox import MAX_TOPICS, Mailbox
from sealtrace.node.gateway.traffic import REORDERING, Flow
from sealtrace.node.gateway.wire import Code, MalformedReply, Refused, decode, encode


@given(st.binary(max_size=300), st.text(max_size=40), st.sampled_from(Code))
def test_a_reply_reads_as_it_was_written(payload, message, code):
    reply = decode(encode(code, payload, message))
    assert (reply.code, reply.message, reply.payload) == (code.value, message, payload)


@given(st.binary(max_size=64))
def test_any_bytes_are_read_or_refused_by_name(data):
    with contextlib.suppress(MalformedReply):
        decode(data)


@pytest.mark.parametrize(
    "data", [b"\x12", b"\x12\x05abc", b"\x22\x01a", b"\x10\x01", b"\x12\xff\xff\xff\xff\xff\xff"]
)
def test_a_reply_cut_short_or_with_foreign_fields_is_refused(data):
    with pytest.raises(MalformedReply):
        decode(data)


@given(st.permutations(list(range(8))))
def test_sender_and_receiver_come_to_one_digest_in_whatever_order_messages_arrive(order):
    messages = [bytes([i]) * (i + 1) for i in range(8)]
    sent, received = Flow(), Flow()
    for message in messages:
        assert sent.count(sent.next_number, message)
    for number in order:
        assert received.count(number, messages[number])
    assert (sent.digest, sent.octets, sent.messages) == (received.digest, received.octets, received.messages)


def test_a_message_that_arrives_twice_counts_once():
    flow = Flow()
    assert flow.count(0, b"a")
    assert not flow.count(0, b"a")
    assert flow.seen(0)
    assert flow.messages == 1


def test_a_number_far_ahead_is_not_awaited():
    assert Flow().awaits(REORDERING - 1)
    assert not Flow().awaits(REORDERING)


def test_a_full_mailbox_refuses_and_takes_again_when_emptied():
    box = Mailbox(capacity=10)
    box.put("a", "t", b"12345678")
    with pytest.raises(Refused) as refused:
        box.put("b", "t", b"123")
    assert refused.value.code is Code.QUEUE_FULL
    assert box.take(box.queue("a", "t")) == b"12345678"
    box.put("b", "t", b"123")


def test_a_message_larger_than_the_mailbox_passes_when_it_is_alone():
    box = Mailbox(capacity=2)
    box.put("a", "t", b"12345678")
    assert box.take(box.queue("a", "t")) == b"12345678"


def test_messages_of_one_sender_never_show_under_another():
    box = Mailbox(capacity=10)
    box.put("a", "t", b"x")
    assert box.take(box.queue("b", "t")) is None
    assert box.take(box.queue("a", "t")) == b"x"


def test_topics_are_bounded():
    box = Mailbox(capacity=10)
    for number in range(MAX_TOPICS):
        box.take(box.queue("a", str(number)))
    with pytest.raises(Refused):
        box.take(box.queue("a", "one more"))


def test_whoever_waits_is_woken_once_and_not_after_it_took_its_wish_back():
    woken: list[str] = []

    def first() -> None:
        woken.append("first")

    box = Mailbox(capacity=10)
    box.queue("a", "t").wait(first)
    box.put("a", "t", b"x")
    box.put("a", "t", b"y")
    box.queue("a", "t").wait(first)
    box.queue("a", "t").forget(first)
    box.put("a", "t", b"z")
    assert woken == ["first"]


def test_of_two_who_wait_for_the_same_the_older_gave_up():
    woken: list[str] = []
    box = Mailbox(capacity=10)
    box.queue("a", "t").wait(lambda: woken.append("older"))
    box.queue("a", "t").wait(lambda: woken.append("newer"))
    assert woken == ["older"]
    box.put("a", "t", b"x")
    assert woken == ["older", "newer"]
