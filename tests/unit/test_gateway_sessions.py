from __future__ import annotations

import asyncio
import datetime as dt
import gc
import weakref

import pytest
from cryptography import x509

from sealtrace.node.gateway.authority import AuthorityUnavailable, Party, Session
from sealtrace.node.gateway.certificates import (
    MalformedCertificate,
    create_certificate,
    fingerprint,
    pem_to_der,
)
from sealtrace.node.gateway.forwarding import PeerDown, PeerGarbled
from sealtrace.node.gateway.sessions import OpenSession, Peer, State, watch
from sealtrace.node.gateway.traffic import REORDERING
from sealtrace.node.gateway.wire import Code, Refused, Reply

ME, BANK, STRANGER = "0x" + "11" * 20, "0x" + "22" * 20, "0x" + "33" * 20
RUNNING, STOPPED = Session((), running=True), Session((), running=False)


class Wire:
    """A forwarder that answers from a list and remembers the sequence numbers."""

    def __init__(self, *answers) -> None:
        self.answers = list(answers)
        self.numbers: list[int] = []
        self.closed: str | None = None

    def fields(self, headers):
        return b""

    def send(self, path, fields, body, done, *, sequence=None):
        self.numbers.append(sequence)
        done(self.answers.pop(0))

    def close(self, why):
        self.closed = why


def session(*answers) -> OpenSession:
    made = OpenSession("0xtask", ME, {BANK: Peer(BANK, b"f" * 32, Wire(*answers))}, queue_bytes=100)
    made.standing(RUNNING)
    return made


def test_nothing_passes_before_the_chain_says_running():
    waiting = OpenSession("0xtask", ME, {}, queue_bytes=1)
    waiting.standing(STOPPED)
    assert waiting.state is State.WAITING
    with pytest.raises(Refused):
        waiting.require_running()


def test_what_ran_and_runs_no_more_is_cut_for_good():
    cut = session()
    cut.standing(STOPPED)
    cut.standing(RUNNING)
    assert cut.state is State.CUT


def test_a_certificate_replaced_on_the_chain_cuts_the_session():
    cut = session()
    cut.standing(Session((Party(BANK, b"f" * 32),), running=True))
    assert cut.state is State.RUNNING
    cut.standing(Session((Party(BANK, b"g" * 32),), running=True))
    assert cut.state is State.CUT


def test_a_task_that_the_chain_does_not_know_is_cut():
    cut = session()
    cut.standing(None)
    assert cut.state is State.CUT


def test_a_stranger_is_no_peer():
    with pytest.raises(Refused) as refused:
        session().peer(STRANGER)
    assert refused.value.code is Code.FORBIDDEN


class Answers(list):
    """What was answered; unlike a plain list, it can be watched until it is gone."""

    __call__ = list.append


def popped(made: OpenSession, timeout_s: float = 0) -> list:
    """What pop has answered until now."""
    answers: list = []
    made.pop(made.peer(BANK), "t", timeout_s, answers.append)
    return answers


def forwarded(made: OpenSession, payload: bytes) -> Refused | bytes:
    answers: list = []
    made.forward(made.peer(BANK), "t", payload, answers.append)
    return answers.pop()


def test_a_waiting_pop_ends_with_an_error_when_the_session_is_cut():
    async def story() -> list:
        cut = session()
        answers = popped(cut, 30)
        assert answers == []
        cut.cut("revoked")
        return answers

    (refused,) = asyncio.run(story())
    assert refused.message == "revoked"


def test_a_waiting_pop_hears_the_message_and_only_it():
    async def story() -> list:
        made = session()
        answers = popped(made, 0.2)
        made.receive(made.peer(BANK), "t", 0, b"a")
        await asyncio.sleep(0.5)
        return answers

    assert asyncio.run(story()) == [b"a"]


def test_a_pop_that_waited_in_vain_is_answered_with_nothing():
    async def story() -> list:
        answers = popped(session(), 0.05)
        await asyncio.sleep(0.3)
        return answers

    assert asyncio.run(story()) == [b""]


def test_a_message_is_not_lost_on_an_engine_that_hung_up():
    async def story() -> list:
        made = session()
        answers: list = []
        cancel = made.pop(made.peer(BANK), "t", 30, answers.append)
        cancel()
        made.receive(made.peer(BANK), "t", 0, b"a")
        assert answers == []
        return popped(made)

    assert asyncio.run(story()) == [b"a"]


@pytest.mark.parametrize("end", ["message", "hung up"])
def test_an_engine_that_waits_no_longer_is_forgotten_without_being_searched_for(end):
    async def story() -> object:
        made = session()
        answers = Answers()
        gone = weakref.ref(answers)
        cancel = made.pop(made.peer(BANK), "t", 30, answers)
        if end == "message":
            made.receive(made.peer(BANK), "t", 0, b"a")
        else:
            cancel()
        del cancel, answers
        return gone()

    gc.disable()
    try:
        assert asyncio.run(story()) is None
    finally:
        gc.enable()


def test_what_is_under_way_ends_when_the_session_is_cut():
    cut = session()
    cut.cut("revoked")
    assert cut.peer(BANK).forwarder.closed == "revoked"


def test_queued_messages_are_still_delivered_after_the_peer_has_left():
    made = session()
    peer = made.peer(BANK)
    made.receive(peer, "t", 0, b"last words")
    made.peer_left(peer, "done in")
    assert popped(made) == [b"last words"]
    (refused,) = popped(made)
    assert "done in" in refused.message


def test_a_message_that_did_not_get_through_keeps_its_number_when_sent_again():
    made = session(PeerDown("gone"), Reply(Code.OK), Reply(Code.OK))
    peer = made.peer(BANK)
    assert forwarded(made, b"a").code is Code.UNREACHABLE
    assert peer.down is not None
    assert forwarded(made, b"a") == b""
    assert peer.down is None
    assert forwarded(made, b"b") == b""
    assert peer.forwarder.numbers == [0, 0, 1]
    assert (peer.sent.messages, peer.sent.octets) == (2, 2)


def test_a_message_received_twice_is_delivered_once():
    made = session()
    peer = made.peer(BANK)
    made.receive(peer, "t", 0, b"a")
    made.receive(peer, "t", 0, b"a")
    assert popped(made) + popped(made) == [b"a", b""]


def test_a_message_refused_for_a_full_queue_is_not_counted_and_may_come_again():
    made = session()
    peer = made.peer(BANK)
    made.receive(peer, "t", 0, b"a" * 90)
    with pytest.raises(Refused):
        made.receive(peer, "t", 1, b"b" * 90)
    assert not peer.received.seen(1)


def test_a_peer_that_does_not_number_as_agreed_is_held_to_it():
    made = session()
    peer = made.peer(BANK)
    with pytest.raises(Refused, match="awaited"):
        made.receive(peer, "t", REORDERING, b"a")
    assert "awaited" in made.report()["peers"][0]["broke"]


def test_a_peer_whose_gateway_answers_nonsense_is_held_to_it():
    made = session(PeerGarbled("not a reply"))
    assert forwarded(made, b"a").code is Code.UNREACHABLE
    assert "not a reply" in made.report()["peers"][0]["broke"]


def test_a_peer_that_speaks_another_version_is_named_with_it():
    made = session(Reply(Code.VERSION, "only version 7"))
    assert forwarded(made, b"a").code is Code.VERSION
    assert "only version 7" in made.report()["peers"][0]["speaks"]


def test_a_chain_that_does_not_answer_cuts_the_session_after_the_grace():
    def silent():
        raise AuthorityUnavailable("no route")

    async def story() -> OpenSession:
        made = session()
        async with asyncio.timeout(5):
            await watch(made, silent, interval_s=0.01, grace_s=0.05, unavailable=AuthorityUnavailable)
        return made

    assert "not answered" in asyncio.run(story()).reason


def test_a_certificate_names_its_node_and_its_hosts_for_ten_years():
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    pem, _ = create_certificate(ME, ["node.example", "10.0.0.7"], now=now)
    certificate = x509.load_pem_x509_certificate(pem)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert certificate.subject.rfc4514_string() == f"CN={ME}"
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "node.example"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "10.0.0.7"]
    assert (certificate.not_valid_after_utc - now).days in (3652, 3653)


def test_the_fingerprint_is_of_the_der_bytes():
    pem, _ = create_certificate(ME)
    assert len(fingerprint(pem_to_der(pem.decode()))) == 32


@pytest.mark.parametrize("text", ["", "nonsense", "two"])
def test_a_peer_certificate_is_exactly_one(text):
    pem = create_certificate(ME)[0].decode()
    with pytest.raises(MalformedCertificate):
        pem_to_der(pem * 2 if text == "two" else text)
