"""The gateway: its two ports, and the sessions that the chain authorises.

Peer port: TLS 1.3, client certificate required. A handshake proves that the caller holds a
certificate that some session here pins; each request is then bound to the fingerprint that
*this* task's party has on the chain (see :mod:`sealtrace.node.gateway.services`).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import secrets
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sealtrace.node.gateway import wire
from sealtrace.node.gateway.authority import AuthorityUnavailable, Session, SessionAuthority
from sealtrace.node.gateway.certificates import (
    MalformedCertificate,
    client_context,
    fingerprint,
    pem_to_der,
    server_context,
)
from sealtrace.node.gateway.forwarding import HOLD_S, Forwarder
from sealtrace.node.gateway.listening import Port, Service
from sealtrace.node.gateway.services import MAX_REASON_BYTES, LocalService, PeerService
from sealtrace.node.gateway.sessions import OpenSession, Peer, watch
from sealtrace.node.gateway.wire import Code, Refused

HANDSHAKE_S = 10.0
BACKLOG = 512
TELL_S = 5.0  # for a peer to hear that our engine has left


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
    relay: str | None = None
    """``http://host:port`` of the relay through which peers are reached; straight without one."""
    limits: Limits = field(default_factory=Limits)


class Gateway:
    """One node's gateway. ``start`` binds the ports, ``close`` frees them."""

    def __init__(self, config: GatewayConfig, authority: SessionAuthority) -> None:
        self.config = config
        self.authority = authority
        self.sessions: dict[str, OpenSession] = {}
        self._watchers: dict[str, asyncio.Task[None]] = {}
        self._tls = server_context(str(config.certificate), str(config.private_key))
        self._ports: list[tuple[Port, asyncio.Server]] = []
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
        peers = self._port(PeerService(self), hold_s=HOLD_S)
        engines = self._port(LocalService(self, config.control_token, config.limits.longest_pop_s))
        self.peer_port = await self._listen(peers, config.peer_host, config.peer_port, self._tls)
        self.local_port = await self._listen(engines, "127.0.0.1", config.local_port, None)

    async def close(self) -> None:
        """Close every session and both ports."""
        for task in list(self.sessions):
            await self.close_session(task, None)
        for port, server in self._ports:
            server.close()
            port.close()

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

    def report(self, task: str) -> dict[str, Any]:
        """Return an open session's state and counters.

        Raises:
            Refused: no such session is open.
        """
        if task not in self.sessions:
            raise Refused(Code.NOT_FOUND, "no such session is open")
        return self.sessions[task].report()

    def sessions_with(self, fingerprint: bytes) -> list[tuple[OpenSession, Peer]]:
        """Return the open sessions in which a party has this certificate, and that party."""
        return [
            (session, peer)
            for session in self.sessions.values()
            for peer in session.peers.values()
            if peer.tls_fingerprint == fingerprint
        ]

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
            relay=config.relay,
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

    def _port(self, service: Service, *, hold_s: float = 0.0) -> Port:
        limits = self.config.limits
        return Port(service, limits.message_bytes, limits.queue_bytes, limits.reply_timeout_s, hold_s=hold_s)

    async def _listen(self, port: Port, host: str, number: int, tls: ssl.SSLContext | None) -> int:
        loop = asyncio.get_running_loop()
        handshake_s = HANDSHAKE_S if tls is not None else None
        try:
            server = await loop.create_server(
                port.connection, host, number, ssl=tls, backlog=BACKLOG, ssl_handshake_timeout=handshake_s
            )
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortTaken(f"{host}:{number} is taken by another process") from error
            raise
        self._ports.append((port, server))
        return int(server.sockets[0].getsockname()[1])


async def _tell(session: OpenSession, peer: Peer, reason: str) -> None:
    """Tell a peer why our engine ended early. One that does not hear it finds out by itself."""
    headers = {wire.SESSION: session.task, wire.SOURCE: session.me, wire.TARGET: peer.address}
    body = reason.encode()[:MAX_REASON_BYTES]
    heard: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    peer.forwarder.send(wire.LEFT, peer.forwarder.fields(headers), body, lambda it: _resolve(heard, it))
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(heard, TELL_S)


def _resolve(future: asyncio.Future[object], result: object) -> None:
    if not future.done():
        future.set_result(result)


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
