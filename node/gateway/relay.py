"""A relay: carries connections between gateways that do not reach each other directly.

It speaks HTTP CONNECT, as any ordinary forward proxy does, so one of those serves as well. TLS runs
from gateway to gateway through it: the relay holds no key, sees ciphertext, who talks to whom, when and
how much, and can delay or cut, which both gateways notice.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import Callable, Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from sealtrace.node.gateway.heads import END, MAX_HEAD_BYTES

PIECE_BYTES = 256 * 1024
HEAD_S = 10.0
_ASKED = re.compile(r"CONNECT ([!-~]{1,256}:[0-9]{1,5}) HTTP/1\.[01]")
_GRANTED = re.compile(rb"HTTP/1\.[01] 200[ \r]")


class RelayDown(Exception):
    """The relay cannot be reached, or does not connect us; its answer is in the message."""


# --- a gateway's side


async def tunnel(relay: str, host: str, port: int) -> socket.socket:
    """Return a connected socket to ``host:port`` through the relay at ``relay`` (``http://host:port``).

    Raises:
        RelayDown: the relay is not there, or does not connect us.
    """
    try:
        line = await _connected(relay)
    except OSError as error:
        raise RelayDown(f"the relay {relay} is not there: {error}") from error
    try:
        await _ask(line, relay, f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    except OSError as error:
        line.close()
        raise RelayDown(f"the relay {relay} hung up: {error}") from error
    except BaseException:
        line.close()
        raise
    return line


async def _connected(relay: str) -> socket.socket:
    parts, loop = urlsplit(relay), asyncio.get_running_loop()
    found = await loop.getaddrinfo(parts.hostname, parts.port or 80, type=socket.SOCK_STREAM)
    family, kind, protocol, _, where = found[0]
    line = socket.socket(family, kind, protocol)
    try:
        line.setblocking(False)
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await loop.sock_connect(line, where)
    except BaseException:
        line.close()
        raise
    return line


async def _ask(line: socket.socket, relay: str, there: str) -> None:
    loop, head = asyncio.get_running_loop(), b""
    await loop.sock_sendall(line, f"CONNECT {there} HTTP/1.1\r\nHost: {there}\r\n\r\n".encode())
    while END not in head:
        piece = await loop.sock_recv(line, MAX_HEAD_BYTES)
        if not piece or len(head) > MAX_HEAD_BYTES:
            raise RelayDown(f"the relay {relay} hung up")
        head += piece
    if not _GRANTED.match(head) or not head.endswith(END):
        said = head.split(b"\r\n")[0][:80].decode("latin-1")
        raise RelayDown(f"the relay {relay} does not connect us to {there}: {said}")


# --- the relay itself


@dataclass(frozen=True, slots=True)
class Relay:
    """Carries connections to the gateways named in ``to`` (``host:port``), and to nowhere else."""

    to: Collection[str]
    connect_timeout_s: float = 5.0

    async def start(self, host: str, port: int) -> asyncio.Server:
        """Listen; port 0 takes a free one."""
        return await asyncio.start_server(self._accept, host, port, limit=MAX_HEAD_BYTES)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # whoever breaks off is gone, and the end of its connection is all that the other side needs
        with contextlib.suppress(OSError, EOFError, TimeoutError, asyncio.LimitOverrunError):
            refusal = await self._serve(reader, writer)
            if refusal is not None:
                writer.write(f"HTTP/1.1 {refusal}\r\nContent-Length: 0\r\n\r\n".encode())
                await writer.drain()
        writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str | None:
        """Carry one connection to its end; or return why not."""
        async with asyncio.timeout(HEAD_S):
            head = await reader.readuntil(END)
        asked = _ASKED.fullmatch(head.split(b"\r\n")[0].decode("latin-1"))
        if asked is None:
            return "400 A relay is asked to CONNECT"
        if asked[1] not in self.to:
            return "403 This relay does not go there"
        host, _, port = asked[1].rpartition(":")
        try:
            async with asyncio.timeout(self.connect_timeout_s):
                far_reader, far_writer = await asyncio.open_connection(host.strip("[]"), int(port))
        except (OSError, TimeoutError):
            return "502 That gateway does not answer"
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        there = asyncio.create_task(_pump(reader, far_writer))
        back = asyncio.create_task(_pump(far_reader, writer))
        await asyncio.wait((there, back), return_when=asyncio.FIRST_COMPLETED)
        for each in (there, back):
            each.cancel()
        far_writer.close()
        return None


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry one direction, no faster than the other end takes it."""
    with contextlib.suppress(OSError):
        while piece := await reader.read(PIECE_BYTES):
            writer.write(piece)
            await writer.drain()


async def serve(relay: Relay, host: str, port: int, ready: Callable[[int], None]) -> None:
    """Run a relay until cancelled. ``ready`` is called with the port once it listens."""
    server = await relay.start(host, port)
    async with server:
        ready(server.sockets[0].getsockname()[1])
        await server.serve_forever()
