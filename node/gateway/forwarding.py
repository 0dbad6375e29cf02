"""Kept-alive connections from this gateway to one peer's gateway, over mutual TLS.

A plain HTTP/1.1 client for one kind of request, because three things must be known exactly: which
certificate answered before a byte is sent, that nothing is copied twice, and what may be retried.
A message carries a sequence number that the receiver counts once, so sending again is harmless.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from urllib.parse import urlsplit

from sealtrace.node.gateway import wire
from sealtrace.node.gateway.certificates import fingerprint

MAX_REPLY = 64 * 1024  # a reply to a forward has a code and a sentence, no payload


class PeerDown(Exception):
    """The peer's gateway cannot be reached, or did not answer in time."""


class WrongCertificate(Exception):
    """The host that answers at the peer's address does not hold the certificate on the chain."""


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @property
    def usable(self) -> bool:
        return not self._writer.is_closing() and not self._reader.at_eof()

    async def exchange(self, head: bytes, body: bytes) -> bytes:
        self._writer.writelines((head, body))
        await self._writer.drain()
        header = await self._reader.readuntil(b"\r\n\r\n")
        length = _content_length(header)
        return await self._reader.readexactly(length)

    def close(self) -> None:
        self._writer.transport.abort()


class Forwarder:
    """Sends messages to one peer. ``url`` is its gateway, ``pin`` its certificate's SHA-256."""

    def __init__(
        self,
        url: str,
        pin: bytes,
        context: ssl.SSLContext,
        *,
        connect_timeout_s: float,
        reply_timeout_s: float,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.hostname:
            raise ValueError(f"a gateway's address starts with https://, not {url!r}")
        self._host = parts.hostname
        self._port = parts.port or 443
        self._pin = pin
        self._context = context
        self._connect_timeout_s = connect_timeout_s
        self._reply_timeout_s = reply_timeout_s
        self._idle: list[_Connection] = []

    async def send(self, path: str, headers: Mapping[str, str], body: bytes) -> wire.Reply:
        """Send one message and return the peer's reply.

        A kept-alive connection may have been closed under us: then once more, on a fresh one.

        Raises:
            PeerDown: no connection, or no reply in time.
            WrongCertificate: somebody else answers there.
        """
        head = self._head(path, headers, len(body))
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                try:
                    return await self._attempt(connection, head, body)
                except PeerDown:
                    break
        return await self._attempt(await self._connect(), head, body)

    def close(self) -> None:
        """Drop all connections."""
        while self._idle:
            self._idle.pop().close()

    async def _attempt(self, connection: _Connection, head: bytes, body: bytes) -> wire.Reply:
        try:
            async with asyncio.timeout(self._reply_timeout_s):
                reply = wire.decode(await connection.exchange(head, body))
        except (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError, ValueError) as error:
            connection.close()
            raise PeerDown(f"{self._host}:{self._port}: {error or 'no reply in time'}") from error
        except asyncio.CancelledError:
            connection.close()
            raise
        self._idle.append(connection)
        return reply

    async def _connect(self) -> _Connection:
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                reader, writer = await asyncio.open_connection(
                    self._host, self._port, ssl=self._context, limit=MAX_REPLY
                )
        except ssl.SSLCertVerificationError as error:
            raise WrongCertificate(
                f"{self._host}:{self._port} does not hold the certificate that the chain names"
            ) from error
        except (OSError, TimeoutError) as error:
            raise PeerDown(f"{self._host}:{self._port}: {error or 'connect timed out'}") from error
        connection = _Connection(reader, writer)
        der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        if der is None or fingerprint(der) != self._pin:
            connection.close()
            raise WrongCertificate(f"{self._host}:{self._port} holds another certificate")
        return connection

    def _head(self, path: str, headers: Mapping[str, str], length: int) -> bytes:
        lines = [f"POST {path} HTTP/1.1", f"host: {self._host}:{self._port}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        lines += [f"content-length: {length}", "", ""]
        return "\r\n".join(lines).encode("ascii")


def _content_length(header: bytes) -> int:
    status, *lines = header.split(b"\r\n")
    if not status.startswith(b"HTTP/1.1 200"):
        raise ValueError(f"the peer's gateway answered {status[:64]!r}")
    for line in lines:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            length = int(value)
            if 0 <= length <= MAX_REPLY:
                return length
    raise ValueError("the peer's gateway gave no usable content-length")
