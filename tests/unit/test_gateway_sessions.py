from __future__ import annotations

import asyncio
import datetime as dt

import pytest
from cryptography import x509

from sealtrace.node.gateway.authority import AuthorityUnavailable, Party, Session
from sealtrace.node.gateway.certificates import (
    MalformedCertificate,
    create_certificate,
    fingerprint,
    pem_to_der,
)
from sealtrace.node.gateway.forwarding import PeerDown
from sealtrace.node.gateway.sessions import OpenSession, Peer, State, watch
from sealtrace.node.gateway.wire import SEQUENCE, Code, Refused, Reply

ME, BANK, STRANGER = "0x" + "11" * 20, "0x" + "22" * 20, "0x" + "33" * 20
RUNNING, STOPPED = Session((), running=True), Session((), running=False)


class Wire:
    """A forwarder that answers from a list and remembers the sequence numbers."""

    def __init__(self, *answers) -> None:
        self.answers = list(answers)
        self.numbers: list[str] = []

    async def send(self, path, headers, body):
        self.numbers.append(headers.get(SEQUENCE))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None: ...


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


def test_a_waiting_pop_ends_with_an_error_when_the_session_is_cut():
    async def story() -> None:
        cut = session()
        asyncio.get_running_loop().call_later(0.02, cut.cut, "revoked")
        async with asyncio.timeout(2):
            await cut.pop(cut.peer(BANK), "t", 30)

    with pytest.raises(Refused, match="revoked"):
        asyncio.run(story())


def test_queued_messages_are_still_delivered_after_the_peer_has_left():
    async def story() -> None:
        made = session()
        peer = made.peer(BANK)
        made.receive(peer, "t", 0, b"last words")
        made.peer_left(peer, "done in")
        assert await made.pop(peer, "t", 1) == b"last words"
        await made.pop(peer, "t", 1)

    with pytest.raises(Refused, match="done in"):
        asyncio.run(story())


def test_a_message_that_did_not_get_through_keeps_its_number_when_sent_again():
    async def story() -> list[str]:
        made = session(PeerDown("gone"), Reply(Code.OK), Reply(Code.OK))
        peer = made.peer(BANK)
        with pytest.raises(Refused):
            await made.forward(peer, "t", b"a")
        assert peer.down is not None
        await made.forward(peer, "t", b"a")
        assert peer.down is None
        await made.forward(peer, "t", b"b")
        return peer.forwarder.numbers

    assert asyncio.run(story()) == ["0", "0", "1"]


def test_a_message_received_twice_is_delivered_once():
    async def story() -> list[bytes | None]:
        made = session()
        peer = made.peer(BANK)
        made.receive(peer, "t", 0, b"a")
        made.receive(peer, "t", 0, b"a")
        return [await made.pop(peer, "t", 0), await made.pop(peer, "t", 0)]

    assert asyncio.run(story()) == [b"a", None]


def test_a_message_refused_for_a_full_queue_is_not_counted_and_may_come_again():
    made = session()
    peer = made.peer(BANK)
    made.receive(peer, "t", 0, b"a" * 90)
    with pytest.raises(Refused):
        made.receive(peer, "t", 1, b"b" * 90)
    assert not peer.received.seen(1)


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
