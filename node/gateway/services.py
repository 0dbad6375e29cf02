"""What is answered on a gateway's two ports.

Peer port: ``invoke`` and ``left``, bound to the certificate that *this* task's party has on the chain.
Loopback port: ``push`` and ``pop`` for engines (per-job token), ``/control/sessions`` for the worker
(the node's control token).
"""

from __future__ import annotations

import asyncio
import hmac
import json
import math
import re
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from sealtrace.node.gateway import wire
from sealtrace.node.gateway.heads import Head
from sealtrace.node.gateway.listening import Answer, Body, Cancel, Document, Outcome, Route
from sealtrace.node.gateway.sessions import OpenSession, Peer
from sealtrace.node.gateway.wire import Code, Refused
from sealtrace.protocol.canonical import NotCanonical, parse

TASK = re.compile(r"0x[0-9a-f]{64}")
TOPIC = re.compile(r"[\x21-\x7e]{1,256}")
CONTROL = "/control/sessions"
MAX_CONTROL_BYTES = 1 << 20
MAX_REASON_BYTES = 200
REFUSED_POP_DELAY_S = 0.2  # engines ask again at once after an error; this keeps that cheap


class Sessions(Protocol):
    """What the ports ask of the gateway."""

    @property
    def local_url(self) -> str:
        """Where engines reach it."""
        ...

    def session(self, task: str | None) -> OpenSession:
        """Return the open session of ``task``, or raise :class:`Refused`."""
        ...

    def sessions_with(self, fingerprint: bytes) -> list[tuple[OpenSession, Peer]]:
        """Return the open sessions in which a party has this certificate."""
        ...

    def report(self, task: str) -> dict[str, Any]:
        """Return an open session's state and counters, or raise :class:`Refused`."""
        ...

    async def open_session(self, task: str, peers: list[dict[str, str]]) -> OpenSession:
        """Open a session, or raise :class:`Refused`."""
        ...

    async def close_session(self, task: str, left: str | None) -> dict[str, Any]:
        """Close a session and return its last report, or raise :class:`Refused`."""
        ...


class PeerService:
    """What peers may ask, over mutual TLS only."""

    def __init__(self, gateway: Sessions) -> None:
        self._gateway = gateway

    def judge(self, head: Head, caller: bytes | None) -> Route:
        """Bind a request to its session and to the party whose certificate the connection proved.

        Raises:
            Refused: with the reason.
        """
        headers = head.form.headers
        _require_post(head)
        if head.form.path not in (wire.INVOKE, wire.LEFT):
            raise Refused(Code.NOT_FOUND, "peers ask invoke and left, nothing else")
        session = self._gateway.session(headers.get(wire.SESSION))
        peer = session.peer(headers.get(wire.SOURCE, ""))
        if caller is None or not hmac.compare_digest(caller, peer.tls_fingerprint):
            raise Refused(Code.CERTIFICATE, "this certificate is not the claimed node's on the chain")
        if headers.get(wire.TARGET, "").lower() != session.me:
            raise Refused(Code.BAD_REQUEST, "this message is for another node")
        if (spoken := headers.get(wire.VERSION, "")) != wire.SPOKEN:
            peer.speaks = f"speaks version {spoken[:16]!r} of the link, this gateway {wire.SPOKEN!r}"
            raise Refused(Code.VERSION, f"this gateway speaks version {wire.SPOKEN!r} of the link only")
        if head.form.path == wire.LEFT:
            return self._left(head, session, peer)
        return self._invoke(head, session, peer)

    def refusal(self, head: Head, refused: Refused) -> Outcome:
        """Return how a refusal is written."""
        return refused

    def broken(self, caller: bytes | None, why: str) -> None:
        """Hold it against the party: its certificate was proved before it sent this."""
        for _, peer in self._gateway.sessions_with(caller or b""):
            peer.broke = f"sent what is no message: {why}"

    def _invoke(self, head: Head, session: OpenSession, peer: Peer) -> Route:
        session.require_running()
        return _Invoke(session, peer, _header(head, wire.TOPIC, TOPIC))

    def _left(self, head: Head, session: OpenSession, peer: Peer) -> Route:
        if head.length > MAX_REASON_BYTES:
            raise Refused(Code.MESSAGE, f"a reason has at most {MAX_REASON_BYTES} bytes")
        return _Left(session, peer)


@dataclass(slots=True)
class _Bound:
    """Requests of one form are bound to one session and one other party until the session is closed."""

    session: OpenSession
    peer: Peer

    @property
    def lasting(self) -> bool:
        return not self.session.closed


@dataclass(slots=True)
class _Invoke(_Bound):
    topic: str

    def take(self, head: Head, body: Body, answer: Answer) -> None:
        self.session.require_running()  # a large body takes a while, and the chain does not wait
        if head.number is None:
            raise Refused(Code.BAD_REQUEST, f"header {wire.SEQUENCE} is missing or malformed")
        self.session.receive(self.peer, self.topic, head.number, body)
        answer(b"")


@dataclass(slots=True)
class _Left(_Bound):
    @property
    def lasting(self) -> bool:
        return False

    def take(self, head: Head, body: Body, answer: Answer) -> None:
        reason = body.decode("utf-8", "replace")
        self.session.peer_left(self.peer, reason if reason.isprintable() else "no printable reason given")
        answer(b"")


@dataclass(slots=True)
class _Push(_Bound):
    topic: str

    def take(self, head: Head, body: Body, answer: Answer) -> None:
        self.session.forward(self.peer, self.topic, body, answer)


@dataclass(slots=True)
class _Pop(_Bound):
    topic: str
    wait_s: float

    def take(self, head: Head, body: Body, answer: Answer) -> Cancel | None:
        return self.session.pop(self.peer, self.topic, self.wait_s, _slow(answer))


@dataclass(slots=True)
class _Slowly:
    """Refuses after a moment: engines ask again at once."""

    refused: Refused
    lasting: bool = False

    def take(self, head: Head, body: Body, answer: Answer) -> None:
        _slow(answer)(self.refused)


class LocalService:
    """What our own engines and our worker may ask, on loopback only."""

    def __init__(self, gateway: Sessions, control_token: str, longest_pop_s: float) -> None:
        self._gateway = gateway
        self._longest_pop_s = longest_pop_s
        self._bearer = f"Bearer {control_token}".encode()
        self._working: set[asyncio.Task[None]] = set()

    def judge(self, head: Head, caller: bytes | None) -> Route:
        """Bind a request to its engine's session, or to the worker.

        Raises:
            Refused: with the reason.
        """
        if _is_control(head):
            return self._control(head)
        _require_post(head)
        path = head.form.path
        if path == wire.PUSH:
            return self._push(head)
        if path == wire.POP:
            return self._pop(head)
        raise Refused(Code.NOT_FOUND, "engines ask push and pop, nothing else")

    def refusal(self, head: Head, refused: Refused) -> Outcome:
        """Return how a refusal is written: in JSON for the worker."""
        return _problem(refused) if _is_control(head) else refused

    def broken(self, caller: bytes | None, why: str) -> None:
        """Nothing to do: whoever that was has its answer."""

    def _engine(self, head: Head) -> tuple[OpenSession, Peer]:
        headers = head.form.headers
        session = self._gateway.session(headers.get(wire.SESSION))
        if not session.holds(headers.get(wire.TOKEN, "")):
            raise Refused(Code.TOKEN, "this is not the token of this task's engine")
        if headers.get(wire.SOURCE, "").lower() != session.me:
            raise Refused(Code.BAD_REQUEST, "an engine speaks for its own node only")
        return session, session.peer(headers.get(wire.TARGET, ""))

    def _push(self, head: Head) -> Route:
        session, peer = self._engine(head)
        session.require_running()
        return _Push(session, peer, _header(head, wire.TOPIC, TOPIC))

    def _pop(self, head: Head) -> Route:
        try:
            session, peer = self._engine(head)
            wait_s = min(_seconds(head), self._longest_pop_s)
            return _Pop(session, peer, _header(head, wire.TOPIC, TOPIC), wait_s)
        except Refused as refused:
            return _Slowly(refused)

    # --- the worker's

    def _control(self, head: Head) -> Route:
        given = head.form.headers.get("authorization", "").encode("latin-1")
        if not hmac.compare_digest(given, self._bearer):
            raise Refused(Code.TOKEN, "this is not this node's control token")
        if head.length > MAX_CONTROL_BYTES:
            raise Refused(Code.BAD_REQUEST, "the request is too large")

        return _Control(self)

    def work(self, head: Head, body: Body, answer: Answer) -> None:
        """Answer the worker, in a task of its own."""
        task = asyncio.get_running_loop().create_task(_documented(self._controlled(head, body), answer))
        self._working.add(task)
        task.add_done_callback(self._working.discard)

    async def _controlled(self, head: Head, body: Body) -> Mapping[str, Any]:
        form = head.form
        named = form.path.removeprefix(CONTROL).removeprefix("/")
        if form.method == "POST" and not named:
            task, peers = _introduction(_json(body))
            session = await self._gateway.open_session(task, peers)
            return {"token": session.token, "gateway": self._gateway.local_url}
        if form.method == "DELETE":
            return await self._gateway.close_session(named, form.query.get("left"))
        if form.method == "GET":
            return self._gateway.report(named)
        raise Refused(Code.BAD_REQUEST, "the worker opens, shows and closes sessions")


@dataclass(slots=True)
class _Control:
    service: LocalService
    lasting: bool = False

    def take(self, head: Head, body: Body, answer: Answer) -> None:
        self.service.work(head, body, answer)


def _require_post(head: Head) -> None:
    if head.form.method != "POST":
        raise Refused(Code.BAD_REQUEST, "messages are posted")


def _header(head: Head, name: str, form: re.Pattern[str]) -> str:
    value = head.form.headers.get(name, "")
    if not form.fullmatch(value):
        raise Refused(Code.BAD_REQUEST, f"header {name} is missing or malformed")
    return value


def _seconds(head: Head) -> float:
    try:
        wait_s = float(head.form.query.get("timeout", "1"))
    except ValueError:
        wait_s = math.nan
    if not math.isfinite(wait_s):
        raise Refused(Code.BAD_REQUEST, "timeout is a number of seconds")
    return wait_s


def _slow(answer: Answer) -> Answer:
    """Keep refusals back for a moment: an engine asks again at once."""

    def later(outcome: Outcome) -> None:
        if isinstance(outcome, Refused):
            asyncio.get_running_loop().call_later(REFUSED_POP_DELAY_S, answer, outcome)
        else:
            answer(outcome)

    return later


_STATUS = {
    Code.BAD_REQUEST: 400,
    Code.TOKEN: 401,
    Code.FORBIDDEN: 403,
    Code.CERTIFICATE: 403,
    Code.NOT_FOUND: 404,
    Code.UNREACHABLE: 503,
}


async def _documented(answering: Awaitable[Mapping[str, Any]], answer: Answer) -> None:
    """Answer in JSON."""
    try:
        answer(Document(200, json.dumps(await answering).encode()))
    except Refused as refused:
        answer(_problem(refused))


def _problem(refused: Refused) -> Document:
    body = {"code": refused.code.value, "detail": refused.message}
    return Document(_STATUS.get(refused.code, 400), json.dumps(body).encode())


def _is_control(head: Head) -> bool:
    return head.form.path == CONTROL or head.form.path.startswith(f"{CONTROL}/")


def _json(body: Body) -> object:
    try:
        return parse(bytes(body), limit_bytes=MAX_CONTROL_BYTES)
    except NotCanonical as error:
        raise Refused(Code.BAD_REQUEST, f"the request is {error}"[:MAX_REASON_BYTES]) from error


def _introduction(body: object) -> tuple[str, list[dict[str, str]]]:
    """Read ``{"task", "peers": [{"address", "url", "certificate"}]}`` strictly."""
    malformed = Refused(Code.BAD_REQUEST, "expected task and peers: address, url, certificate")
    if not isinstance(body, dict) or body.keys() != {"task", "peers"}:
        raise malformed
    task, peers = body["task"], body["peers"]
    if not isinstance(task, str) or not TASK.fullmatch(task) or not isinstance(peers, list):
        raise malformed
    for peer in peers:
        if not isinstance(peer, dict) or peer.keys() != {"address", "url", "certificate"}:
            raise malformed
        if not all(isinstance(value, str) for value in peer.values()):
            raise malformed
    return task, peers
