"""The sessions open at this gateway: who may talk, what passed, and why a session was cut."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sealtrace.node.gateway import wire
from sealtrace.node.gateway.authority import Session
from sealtrace.node.gateway.deadlines import Deadlines
from sealtrace.node.gateway.forwarding import (
    TAKEN,
    Forwarder,
    PeerBeyondReach,
    PeerGarbled,
    Result,
    WrongCertificate,
)
from sealtrace.node.gateway.listening import Answer, Cancel
from sealtrace.node.gateway.mailbox import MAX_TOPICS, Mailbox, Message, Queue
from sealtrace.node.gateway.traffic import Flow
from sealtrace.node.gateway.wire import Code, Refused

MAX_WORDS = 200  # of a peer's message that is passed on


class State(StrEnum):
    """Where a session stands. It never leaves CUT."""

    WAITING = "waiting"  # the chain does not say Running yet
    RUNNING = "running"
    CUT = "cut"


@dataclass(slots=True)
class Peer:
    """One other party of a session, with the traffic to and from it."""

    address: str
    tls_fingerprint: bytes
    forwarder: Forwarder
    sent: Flow = field(default_factory=Flow)
    received: Flow = field(default_factory=Flow)
    left: str | None = None  # why its engine ended early, in its own words
    down: str | None = None  # why our last message did not get through
    blamed: bool = True  # whether that is known to be the peer's doing, not a relay's
    broke: str | None = None  # what its gateway sent that no gateway sends
    speaks: str | None = None  # that its gateway speaks another version of the link
    heard_at: float = field(default_factory=time.monotonic)
    _fields: dict[str, bytes] = field(default_factory=dict)
    _unsent: dict[tuple[str, bytes], int] = field(default_factory=dict)

    def fields(self, session: OpenSession, topic: str) -> bytes:
        """Return what all heads of messages on ``topic`` have in common."""
        found = self._fields.get(topic)
        if found is None:
            headers = {
                wire.SESSION: session.task,
                wire.TOPIC: topic,
                wire.SOURCE: session.me,
                wire.TARGET: self.address,
            }
            if len(self._fields) >= MAX_TOPICS:
                raise Refused(Code.MESSAGE, "too many topics in this session")
            found = self._fields[topic] = self.forwarder.fields(headers)
        return found

    def number(self, topic: str, payload: Message) -> tuple[int, bool]:
        """Return the message's sequence number, and whether it is new: one that did not get through
        keeps its number when the engine sends it again."""
        if self._unsent and (known := self._unsent.pop(_key(topic, payload), None)) is not None:
            return known, False
        return self.sent.next_number, True

    def undelivered(self, topic: str, payload: Message, number: int) -> None:
        """Remember the number: the engine may send the message again."""
        self._unsent[_key(topic, payload)] = number


def _key(topic: str, payload: Message) -> tuple[str, bytes]:
    return topic, hashlib.sha256(payload).digest()


@dataclass(slots=True, eq=False)
class _Waiting:
    """An engine that waits for a message; called when it may look again.

    An object, for two functions that know each other would stay in memory until they are searched for.
    """

    session: OpenSession
    peer: Peer
    queue: Queue
    answer: Answer

    def __call__(self) -> None:
        self.cancel()
        self.answer(self.session.waiting(self.peer, self.queue) or b"")

    def cancel(self) -> None:
        self.session.give_up(self)


class OpenSession:
    """One task's traffic through this gateway."""

    def __init__(self, task: str, me: str, peers: Mapping[str, Peer], *, queue_bytes: int) -> None:
        self.task = task
        self.me = me
        self.peers = dict(peers)
        self.state = State.WAITING
        self.reason = "the chain does not say that the task runs"
        self._token = secrets.token_urlsafe(32)
        self._mailbox = Mailbox(queue_bytes)
        self._deadlines = Deadlines()
        self.closed = False

    @property
    def token(self) -> str:
        """The secret of this node's engine for this task."""
        return self._token

    def holds(self, token: str) -> bool:
        """Whether ``token`` is this session's, in constant time."""
        return hmac.compare_digest(self._token.encode(), token.encode(errors="surrogateescape"))

    def standing(self, session: Session | None) -> None:
        """Take in what the chain says now. What ran and runs no more is cut for good."""
        if self.state is State.CUT:
            return
        if session is None:
            self.cut("the chain has no such task")
        elif self._repinned(session):
            self.cut("a party's certificate on the chain is no longer the one of this session")
        elif session.running:
            self.state, self.reason = State.RUNNING, ""
        elif self.state is State.RUNNING:
            self.cut("the chain says that the task runs no more")

    def _repinned(self, session: Session) -> bool:
        pins = {party.address.lower(): party.tls_fingerprint for party in session.parties}
        return any(pins.get(p.address, p.tls_fingerprint) != p.tls_fingerprint for p in self.peers.values())

    def cut(self, reason: str) -> None:
        """End all traffic now; waiting pops are answered with an error."""
        if self.state is not State.CUT:
            self.state, self.reason = State.CUT, reason
            self._mailbox.clear()
            for peer in self.peers.values():
                peer.forwarder.close(reason)

    def peer(self, address: str) -> Peer:
        """Return the party at ``address``.

        Raises:
            Refused: it is no party of this task, or this node itself.
        """
        peer = self.peers.get(address.lower())
        if peer is None:
            raise Refused(Code.FORBIDDEN, f"{address[:64]} is no other party of this task")
        return peer

    def require_running(self) -> None:
        """Refuse unless the chain says Running.

        Raises:
            Refused: with the reason.
        """
        if self.state is not State.RUNNING:
            raise Refused(Code.FORBIDDEN, self.reason)

    def forward(self, peer: Peer, topic: str, payload: Message, answer: Answer) -> None:
        """Carry one message of our engine to ``peer``; ``answer`` hears what became of it.

        Raises:
            Refused: the session does not run.
        """
        self.require_running()
        number, new = peer.number(topic, payload)

        def done(result: Result) -> None:
            refusal = self._outcome(peer, result)
            if refusal is not None:
                peer.undelivered(topic, payload, number)
            answer(refusal or b"")

        peer.forwarder.send(wire.INVOKE, peer.fields(self, topic), payload, done, sequence=number)
        if new:
            peer.sent.count(number, payload)

    def _outcome(self, peer: Peer, result: Result) -> Refused | None:
        """Note how a message to ``peer`` ended; return what our engine is told where it failed."""
        if result is TAKEN:
            peer.down = None
            return None
        if isinstance(result, wire.Reply):
            peer.down = None if result.ok else f"{result.code}: {result.message[:MAX_WORDS]}"
            if result.code == Code.VERSION:
                peer.speaks = f"speaks another version of the link: {result.message[:MAX_WORDS]}"
            if result.ok:
                return None
            code = Code(result.code) if result.code in set(Code) else Code.MESSAGE
            return Refused(code, f"peer {peer.address}: {result.message[:MAX_WORDS]}")
        peer.down, peer.blamed = str(result), not isinstance(result, PeerBeyondReach)
        if isinstance(result, PeerGarbled):
            peer.broke = f"answered what no gateway answers: {result}"
        code = Code.CERTIFICATE if isinstance(result, WrongCertificate) else Code.UNREACHABLE
        return Refused(code, f"peer {peer.address}: {result}")

    def receive(self, peer: Peer, topic: str, sequence: int, payload: Message) -> None:
        """Queue one message of ``peer`` for our engine; a number seen before is dropped.

        Raises:
            Refused: the queue is full, or the number makes no sense.
        """
        peer.heard_at = time.monotonic()
        if sequence != peer.received.next_number and not self._early(peer, sequence):
            return
        self._mailbox.put(peer.address, topic, payload)
        peer.received.count(sequence, payload)

    def _early(self, peer: Peer, sequence: int) -> bool:
        """Whether a message that is not the next one is new, and may come before the next one."""
        if peer.received.seen(sequence):
            return False
        if not peer.received.awaits(sequence):
            peer.broke = f"sent message {sequence} while {peer.received.next_number} is awaited"
            raise Refused(Code.MESSAGE, peer.broke)
        return True

    def pop(self, peer: Peer, topic: str, timeout_s: float, answer: Answer) -> Cancel | None:
        """Answer with the next message of ``peer``, with none after ``timeout_s``, or with why there
        will be none: the session was cut, or the peer has left and nothing of it is queued."""
        queue = self._mailbox.queue(peer.address, topic)
        outcome = self.waiting(peer, queue)
        if outcome is not None or timeout_s <= 0:
            answer(outcome or b"")
            return None

        waiting = _Waiting(self, peer, queue, answer)
        queue.wait(waiting)
        self._deadlines.later(waiting, timeout_s, waiting)
        return waiting.cancel

    def give_up(self, waiting: _Waiting) -> None:
        """Let an engine wait no longer."""
        self._deadlines.back(waiting)
        waiting.queue.forget(waiting)

    def waiting(self, peer: Peer, queue: Queue) -> Message | Refused | None:
        """Return what there is for an engine that asks: a message, why there will be none, or nothing."""
        if self.state is State.CUT:
            return Refused(Code.FORBIDDEN, self.reason)
        payload = self._mailbox.take(queue)
        if payload is None and peer.left is not None:
            return Refused(Code.NOT_CONNECTED, f"peer {peer.address} left: {peer.left}")
        return payload

    def peer_left(self, peer: Peer, reason: str) -> None:
        """Note that the peer's engine has ended without finishing."""
        if peer.left is None:
            peer.left = reason
            self._mailbox.wake_all()

    def close(self) -> None:
        """Drop connections and queued messages."""
        self.cut("closed by this node")
        self.closed = True
        for peer in self.peers.values():
            peer.forwarder.close("closed by this node")

    def report(self) -> dict[str, Any]:
        """Return state and counters as JSON values; the control interface's answer."""
        peers = [_report(peer) for peer in sorted(self.peers.values(), key=lambda p: p.address)]
        return {
            "task": self.task,
            "state": self.state.value,
            "reason": self.reason,
            "peers": peers,
        }


def _report(peer: Peer) -> dict[str, Any]:
    return {
        "address": peer.address,
        "sent_messages": peer.sent.messages,
        "sent_bytes": peer.sent.octets,
        "sent_digest": peer.sent.digest,
        "received_messages": peer.received.messages,
        "received_bytes": peer.received.octets,
        "received_digest": peer.received.digest,
        "silent_s": round(time.monotonic() - peer.heard_at, 3),
        "left": peer.left,
        "down": peer.down,
        "blamed": peer.blamed,
        "broke": peer.broke,
        "speaks": peer.speaks,
    }


async def watch(
    session: OpenSession,
    ask: Callable[[], Session | None],
    *,
    interval_s: float,
    grace_s: float,
    unavailable: type[Exception],
) -> None:
    """Ask the chain about ``session`` until it is cut.

    A chain that does not answer for ``grace_s`` cuts it: traffic that nobody can authorise stops.
    """
    loop = asyncio.get_running_loop()
    answered = loop.time()
    while session.state is not State.CUT:
        try:
            session.standing(await asyncio.to_thread(ask))
            answered = loop.time()
        except unavailable as error:
            if loop.time() - answered > grace_s:
                session.cut(f"the chain has not answered for {grace_s:g} s: {error}")
        await asyncio.sleep(interval_s)
