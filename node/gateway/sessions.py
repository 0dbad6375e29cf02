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
from sealtrace.node.gateway.forwarding import Forwarder, PeerDown, WrongCertificate
from sealtrace.node.gateway.mailbox import Mailbox
from sealtrace.node.gateway.traffic import Flow, OutOfWindow
from sealtrace.node.gateway.wire import Code, Refused


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
    heard_at: float = field(default_factory=time.monotonic)
    _unsent: dict[tuple[str, bytes], int] = field(default_factory=dict)

    def number(self, topic: str, payload: bytes) -> int:
        """Return the message's sequence number; the same again when the engine sends it again."""
        key = (topic, hashlib.sha256(payload).digest())
        if key not in self._unsent:
            self._unsent[key] = self.sent.number(payload)
        return self._unsent[key]

    def delivered(self, topic: str, payload: bytes) -> None:
        """Forget the number: the peer has the message."""
        self._unsent.pop((topic, hashlib.sha256(payload).digest()), None)


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

    async def forward(self, peer: Peer, topic: str, payload: bytes) -> wire.Reply:
        """Carry one message of our engine to ``peer`` and return its gateway's reply.

        Raises:
            Refused: the session does not run, or the peer cannot be reached.
        """
        self.require_running()
        headers = {
            wire.SESSION: self.task,
            wire.TOPIC: topic,
            wire.SOURCE: self.me,
            wire.TARGET: peer.address,
            wire.SEQUENCE: str(peer.number(topic, payload)),
        }
        try:
            reply = await peer.forwarder.send(wire.INVOKE, headers, payload)
        except PeerDown as error:
            peer.down = str(error)
            raise Refused(Code.UNREACHABLE, f"peer {peer.address}: {error}") from error
        except WrongCertificate as error:
            peer.down = str(error)
            raise Refused(Code.CERTIFICATE, f"peer {peer.address}: {error}") from error
        peer.down = None if reply.ok else f"{reply.code}: {reply.message}"
        if reply.ok:
            peer.delivered(topic, payload)
        return reply

    def receive(self, peer: Peer, topic: str, sequence: int, payload: bytes) -> None:
        """Queue one message of ``peer`` for our engine; a number seen before is dropped.

        Raises:
            Refused: the queue is full, or the number makes no sense.
        """
        peer.heard_at = time.monotonic()
        if peer.received.seen(sequence):
            return
        self._mailbox.put(peer.address, topic, payload)
        try:
            peer.received.count(sequence, payload)
        except OutOfWindow as error:
            self.cut(f"peer {peer.address}: {error}")
            raise Refused(Code.MESSAGE, str(error)) from error

    async def pop(self, peer: Peer, topic: str, timeout_s: float) -> bytes | None:
        """Return the next message of ``peer``, or ``None`` when none came in ``timeout_s``.

        Raises:
            Refused: the session was cut, or the peer has left and nothing of it is queued.
        """
        for wait in (timeout_s, 0.0):
            if self.state is State.CUT:
                raise Refused(Code.FORBIDDEN, self.reason)
            if (payload := self._mailbox.take(peer.address, topic)) is not None:
                return payload
            if peer.left is not None:
                raise Refused(Code.NOT_CONNECTED, f"peer {peer.address} left: {peer.left}")
            if wait:
                await self._mailbox.wait(peer.address, topic, wait)
        return None

    def peer_left(self, peer: Peer, reason: str) -> None:
        """Note that the peer's engine has ended without finishing."""
        if peer.left is None:
            peer.left = reason
            self._mailbox.wake_all()

    def close(self) -> None:
        """Drop connections and queued messages."""
        self.cut("closed by this node")
        for peer in self.peers.values():
            peer.forwarder.close()

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
