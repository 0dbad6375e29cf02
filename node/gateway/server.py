"""The gateway's two ports and what is answered on each.

Peer port (TLS 1.3, client certificate required): ``invoke`` and ``left``. Loopback port:
``push`` and ``pop`` for engines (per-job token), ``/control/sessions`` for the worker (node's
control token). A handshake proves that the caller holds a certificate that some session here
pins; each request is then bound to the fingerprint that *this* task's party has on the chain.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hmac
import os
import re
import secrets
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from sealtrace.node.gateway import wire
from sealtrace.node.gateway.authority import AuthorityUnavailable, Session, SessionAuthority
from sealtrace.node.gateway.certificates import (
    MalformedCertificate,
    client_context,
    fingerprint,
    pem_to_der,
    server_context,
)
from sealtrace.node.gateway.forwarding import Forwarder, PeerDown, WrongCertificate
from sealtrace.node.gateway.sessions import OpenSession, Peer, watch
from sealtrace.node.gateway.wire import Code, Refused
from sealtrace.protocol.canonical import NotCanonical, parse

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

TASK = re.compile(r"0x[0-9a-f]{64}")
TOPIC = re.compile(r"[\x21-\x7e]{1,256}")
SEQUENCE = re.compile(r"[0-9]{1,15}")
MAX_CONTROL_BYTES = 1 << 20
MAX_REASON_BYTES = 200
REFUSED_POP_DELAY_S = 0.2  # engines ask again at once after an error; this keeps that cheap


class PortTaken(OSError):
    """Another process listens at a port of this gateway; configure another, or stop that process."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes, times in seconds."""

    message_bytes: int = 8 << 20  # engines send at most 1 MiB at once
    queue_bytes: int = 256 << 20
    connect_timeout_s: float = 3.0
    reply_timeout_s: float = 15.0
    longest_pop_s: float = 30.0
    poll_interval_s: float = 1.0
    authority_grace_s: float = 30.0


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """Where a gateway listens and who it is. Port 0 takes a free one."""

    node: str
    certificate: Path
    private_key: Path
    control_token: str
    peer_host: str = "127.0.0.1"
    peer_port: int = 0
    local_port: int = 0
    limits: Limits = field(default_factory=Limits)


class Gateway:
    """One node's gateway. ``start`` binds the ports, ``close`` frees them."""

    def __init__(self, config: GatewayConfig, authority: SessionAuthority) -> None:
        self.config = config
        self.authority = authority
        self.sessions: dict[str, OpenSession] = {}
        self._watchers: dict[str, asyncio.Task[None]] = {}
        self._tls = server_context(str(config.certificate), str(config.private_key))
        self._runners: list[web.AppRunner] = []
        self.peer_port = 0
        self.local_port = 0

    @property
    def local_url(self) -> str:
        """Where engines and the worker reach this gateway."""
        return f"http://127.0.0.1:{self.local_port}"

    async def start(self) -> None:
        """Bind both ports.

        Raises:
            PortTaken: another process listens there.
        """
        config = self.config
        self.peer_port = await self._listen(peer_app(self), config.peer_host, config.peer_port, self._tls)
        self.local_port = await self._listen(local_app(self), "127.0.0.1", config.local_port, None)

    async def close(self) -> None:
        """Close every session and both ports."""
        for task in list(self.sessions):
            await self.close_session(task, None)
        for runner in self._runners:
            await runner.cleanup()

    async def open_session(self, task: str, peers: list[dict[str, str]]) -> OpenSession:
        """Open ``task`` for the engine that the worker is about to start.

        Raises:
            Refused: the chain has no such task or names other parties, this node is none of them,
                a certificate is not the one on the chain, or the task is open already.
        """
        if task in self.sessions:
            raise Refused(Code.BAD_REQUEST, "this task is open already; close it first")
        try:
            standing = await asyncio.to_thread(self.authority.session, task)
        except AuthorityUnavailable as error:
            raise Refused(Code.UNREACHABLE, f"the chain does not answer: {error}") from error
        if standing is None:
            raise Refused(Code.NOT_FOUND, "the chain has no such task")
        if task in self.sessions:
            raise Refused(Code.BAD_REQUEST, "this task is open already; close it first")
        session = OpenSession(
            task,
            self.config.node.lower(),
            self._peers(standing, peers),
            queue_bytes=self.config.limits.queue_bytes,
        )
        session.standing(standing)
        self.sessions[task] = session
        self._watchers[task] = asyncio.create_task(self._watch(session))
        return session

    async def close_session(self, task: str, left: str | None) -> dict[str, Any]:
        """Close a session and return its last report.

        ``left`` says why our engine ended early; the peers are told, so that they stop waiting.

        Raises:
            Refused: no such session is open.
        """
        session = self.sessions.pop(task, None)
        if session is None:
            raise Refused(Code.NOT_FOUND, "no such session is open")
        self._watchers.pop(task).cancel()
        report = session.report()
        if left is not None:
            await asyncio.gather(*(_tell(session, peer, left) for peer in session.peers.values()))
        session.close()
        return report

    def session(self, task: str | None) -> OpenSession:
        """Return the open session of ``task``.

        Raises:
            Refused: there is none.
        """
        session = self.sessions.get(task or "")
        if session is None:
            raise Refused(Code.NOT_CONNECTED, "no such session is open at this node")
        return session

    def _peers(self, standing: Session, introduced: list[dict[str, str]]) -> dict[str, Peer]:
        me = self.config.node.lower()
        pins = {party.address.lower(): party.tls_fingerprint for party in standing.parties}
        if me not in pins:
            raise Refused(Code.FORBIDDEN, "this node is no party of the task")
        given = {peer["address"].lower(): peer for peer in introduced}
        if given.keys() != pins.keys() - {me}:
            raise Refused(Code.FORBIDDEN, "the chain names other parties for this task")
        return {address: self._peer(given[address], pins[address]) for address in given}

    def _peer(self, introduced: Mapping[str, str], pin: bytes) -> Peer:
        address, pem = introduced["address"].lower(), introduced["certificate"]
        try:
            if fingerprint(pem_to_der(pem)) != pin:
                raise Refused(Code.CERTIFICATE, f"{address}: not the certificate on the chain")
            forwarder = self._forwarder(introduced["url"], pem, pin)
        except (MalformedCertificate, ValueError) as error:
            raise Refused(Code.BAD_REQUEST, f"{address}: {error}") from error
        # Trust added to a live context stays until restart; the fingerprint check of every
        # request is what decides, so a certificate that is trusted too long opens nothing.
        self._tls.load_verify_locations(cadata=pem)
        return Peer(address, pin, forwarder)

    def _forwarder(self, url: str, pem: str, pin: bytes) -> Forwarder:
        config = self.config
        return Forwarder(
            url,
            pin,
            client_context(str(config.certificate), str(config.private_key), pem),
            connect_timeout_s=config.limits.connect_timeout_s,
            reply_timeout_s=config.limits.reply_timeout_s,
        )

    async def _watch(self, session: OpenSession) -> None:
        limits = self.config.limits
        await watch(
            session,
            lambda: self.authority.session(session.task),
            interval_s=limits.poll_interval_s,
            grace_s=limits.authority_grace_s,
            unavailable=AuthorityUnavailable,
        )

    async def _listen(self, app: web.Application, host: str, port: int, tls: ssl.SSLContext | None) -> int:
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0, keepalive_timeout=3600)
        await runner.setup()
        self._runners.append(runner)
        site = web.TCPSite(runner, host, port, ssl_context=tls, backlog=512)
        try:
            await site.start()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortTaken(f"{host}:{port} is taken by another process") from error
            raise
        return int(runner.addresses[0][1])


async def _tell(session: OpenSession, peer: Peer, reason: str) -> None:
    headers = {
        wire.SESSION: session.task,
        wire.SOURCE: session.me,
        wire.TARGET: peer.address,
    }
    body = reason.encode()[:MAX_REASON_BYTES]
    with contextlib.suppress(PeerDown, WrongCertificate, TimeoutError):  # it finds out by itself
        async with asyncio.timeout(5):
            await peer.forwarder.send(wire.LEFT, headers, body)


def peer_app(gateway: Gateway) -> web.Application:
    """Return what peers may ask, to be served over mutual TLS only."""
    app = web.Application(client_max_size=gateway.config.limits.message_bytes)
    app.router.add_post(wire.INVOKE, _answer(_invoke, gateway))
    app.router.add_post(wire.LEFT, _answer(_left, gateway))
    return app


def local_app(gateway: Gateway) -> web.Application:
    """Return what our own engines and our worker may ask, for the loopback port only."""
    app = web.Application(client_max_size=gateway.config.limits.message_bytes)
    app.router.add_post(wire.PUSH, _answer(_push, gateway))
    app.router.add_post(wire.POP, _answer(_pop, gateway))
    app.router.add_post("/control/sessions", _control(_open, gateway))
    app.router.add_get("/control/sessions/{task}", _control(_show, gateway))
    app.router.add_delete("/control/sessions/{task}", _control(_close, gateway))
    return app


async def _invoke(request: web.Request, gateway: Gateway) -> bytes:
    session, peer = _caller(request, gateway)
    session.require_running()
    topic = _header(request, wire.TOPIC, TOPIC)
    sequence = int(_header(request, wire.SEQUENCE, SEQUENCE))
    payload = await _body(request)
    session.require_running()  # a large body takes a while, and the chain does not wait
    session.receive(peer, topic, sequence, payload)
    return b""


async def _left(request: web.Request, gateway: Gateway) -> bytes:
    session, peer = _caller(request, gateway)
    if (request.content_length or 0) > MAX_REASON_BYTES:
        raise Refused(Code.MESSAGE, f"a reason has at most {MAX_REASON_BYTES} bytes")
    reason = (await _body(request)).decode("utf-8", "replace")
    session.peer_left(peer, reason if reason.isprintable() else "no printable reason given")
    return b""


async def _push(request: web.Request, gateway: Gateway) -> bytes:
    session, peer = _engine(request, gateway)
    topic = _header(request, wire.TOPIC, TOPIC)
    session.require_running()
    reply = await session.forward(peer, topic, await _body(request))
    if not reply.ok:
        code = Code(reply.code) if reply.code in set(Code) else Code.MESSAGE
        raise Refused(code, f"peer {peer.address}: {reply.message[:200]}")
    return b""


async def _pop(request: web.Request, gateway: Gateway) -> bytes:
    session, peer = _engine(request, gateway)
    topic = _header(request, wire.TOPIC, TOPIC)
    longest = gateway.config.limits.longest_pop_s
    try:
        wait = min(float(request.query.get("timeout", "1")), longest)
    except ValueError as error:
        raise Refused(Code.BAD_REQUEST, "timeout is a number of seconds") from error
    try:
        return await session.pop(peer, topic, max(wait, 0.0)) or b""
    except Refused:
        await asyncio.sleep(REFUSED_POP_DELAY_S)
        raise


def _caller(request: web.Request, gateway: Gateway) -> tuple[OpenSession, Peer]:
    """Return the session, and the party whose certificate this connection proved."""
    session = gateway.session(request.headers.get(wire.SESSION))
    peer = session.peer(request.headers.get(wire.SOURCE, ""))
    if not hmac.compare_digest(_peer_fingerprint(request), peer.tls_fingerprint):
        raise Refused(Code.CERTIFICATE, "this certificate is not the claimed node's on the chain")
    if request.headers.get(wire.TARGET, "").lower() != session.me:
        raise Refused(Code.BAD_REQUEST, "this message is for another node")
    return session, peer


def _engine(request: web.Request, gateway: Gateway) -> tuple[OpenSession, Peer]:
    session = gateway.session(request.headers.get(wire.SESSION))
    if not session.holds(request.headers.get(wire.TOKEN, "")):
        raise Refused(Code.TOKEN, "this is not the token of this task's engine")
    if request.headers.get(wire.SOURCE, "").lower() != session.me:
        raise Refused(Code.BAD_REQUEST, "an engine speaks for its own node only")
    return session, session.peer(request.headers.get(wire.TARGET, ""))


def _peer_fingerprint(request: web.Request) -> bytes:
    transport = request.transport
    tls = transport.get_extra_info("ssl_object") if transport is not None else None
    der = tls.getpeercert(binary_form=True) if tls is not None else None
    if der is None:
        raise Refused(Code.CERTIFICATE, "the connection has no client certificate")
    return fingerprint(der)


def _header(request: web.Request, name: str, form: re.Pattern[str]) -> str:
    value = request.headers.get(name, "")
    if not form.fullmatch(value):
        raise Refused(Code.BAD_REQUEST, f"header {name} is missing or malformed")
    return value


async def _body(request: web.Request) -> bytes:
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise Refused(Code.MESSAGE, "the message is larger than this gateway takes") from error


def _answer(handle: Callable[[web.Request, Gateway], Awaitable[bytes]], gateway: Gateway) -> Handler:
    """Turn a payload or a refusal into the transport's reply, always inside HTTP 200."""

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            body = wire.encode(Code.OK, await handle(request, gateway))
        except Refused as refusal:
            body = wire.encode(refusal.code, message=refusal.message)
        return web.Response(body=body)

    return answer


_STATUS = {
    Code.BAD_REQUEST: 400,
    Code.TOKEN: 401,
    Code.FORBIDDEN: 403,
    Code.CERTIFICATE: 403,
    Code.NOT_FOUND: 404,
    Code.UNREACHABLE: 503,
}


def _control(
    handle: Callable[[web.Request, Gateway], Awaitable[dict[str, Any]]], gateway: Gateway
) -> Handler:
    """Require the node's control token and answer in JSON."""
    expected = f"Bearer {gateway.config.control_token}".encode()

    async def answer(request: web.Request) -> web.StreamResponse:
        given = request.headers.get("authorization", "").encode(errors="surrogateescape")
        try:
            if not hmac.compare_digest(given, expected):
                raise Refused(Code.TOKEN, "this is not this node's control token")
            return web.json_response(await handle(request, gateway))
        except Refused as refusal:
            status = _STATUS.get(refusal.code, 400)
            problem = {"code": refusal.code.value, "detail": refusal.message}
            return web.json_response(problem, status=status)

    return answer


async def _open(request: web.Request, gateway: Gateway) -> dict[str, Any]:
    task, peers = _introduction(await _control_body(request))
    session = await gateway.open_session(task, peers)
    return {"token": session.token, "gateway": gateway.local_url}


async def _show(request: web.Request, gateway: Gateway) -> dict[str, Any]:
    session = gateway.sessions.get(request.match_info["task"])
    if session is None:
        raise Refused(Code.NOT_FOUND, "no such session is open")
    return session.report()


async def _close(request: web.Request, gateway: Gateway) -> dict[str, Any]:
    return await gateway.close_session(request.match_info["task"], request.query.get("left"))


async def _control_body(request: web.Request) -> object:
    if (request.content_length or 0) > MAX_CONTROL_BYTES:
        raise Refused(Code.BAD_REQUEST, "the request is too large")
    try:
        return parse(await _body(request), limit_bytes=MAX_CONTROL_BYTES)
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


def control_token(path: Path) -> str:
    """Return the node's control token, made at first use and readable by this user only."""
    with contextlib.suppress(FileExistsError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(32))
    return path.read_text(encoding="ascii").strip()


async def serve(config: GatewayConfig, authority: SessionAuthority, ready: Callable[[Gateway], None]) -> None:
    """Run a gateway until cancelled. ``ready`` is called once both ports are bound."""
    gateway = Gateway(config, authority)
    await gateway.start()
    try:
        ready(gateway)
        await asyncio.Event().wait()
    finally:
        await gateway.close()


def run(config: GatewayConfig, authority: SessionAuthority, ready: Callable[[Gateway], None]) -> None:
    """Run a gateway as a process's main work, on uvloop where it is installed."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(serve(config, authority, ready))
    else:
        uvloop.run(serve(config, authority, ready))
