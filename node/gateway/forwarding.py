"""Kept-alive connections from this gateway to one peer's gateway, over mutual TLS.

A plain HTTP/1.1 client for one kind of request, because three things must be known exactly: which
certificate answered before a byte is sent, that nothing is copied twice, and what may be retried.
A message carries a sequence number that the receiver counts once, so sending again is harmless.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from sealtrace.node.gateway import wire
from sealtrace.node.gateway.certificates import fingerprint
from sealtrace.node.gateway.deadlines import Deadlines
from sealtrace.node.gateway.heads import END, MalformedHead, reply_length
from sealtrace.node.gateway.listening import DONE, WHOLE_BYTES
from sealtrace.node.gateway.wire import MalformedReply

_TAKEN = wire.Reply(wire.Code.OK)
MAX_REPLY = 64 * 1024  # a reply to a forward has a code and a sentence, no payload


class PeerDown(Exception):
    """The peer's gateway cannot be reached, or did not answer in time."""


class PeerGarbled(Exception):
    """What answers with the peer's certificate is not a gateway's reply: its node is broken, or lies."""


class WrongCertificate(Exception):
    """The host that answers at the peer's address does not hold the certificate on the chain."""


Result = wire.Reply | PeerDown | PeerGarbled | WrongCertificate
Done = Callable[[Result], None]


@dataclass(slots=True)
class _Message:
    """One message under way."""

    head: bytes
    body: bytes | bytearray
    done: Done
    again: bool = True
    """Whether it may be sent once more where a kept-alive connection fails under it."""


class _Connection(asyncio.Protocol):
    """One connection to the peer; carries one message at a time."""

    def __init__(self, forwarder: Forwarder) -> None:
        self._forwarder = forwarder
        self._transport: asyncio.Transport | None = None
        self._message: _Message | None = None
        self._got = b""

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def certificate(self) -> bytes | None:
        """The SHA-256 of the certificate at the other end."""
        if self._transport is None:
            return None
        tls: ssl.SSLObject = self._transport.get_extra_info("ssl_object")
        der = tls.getpeercert(binary_form=True)
        return fingerprint(der) if der is not None else None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._forwarder.lost(self)
        self._end(PeerDown(f"{error or 'the connection was closed'}"))

    def carry(self, message: _Message, timeout_s: float) -> None:
        """Send one message; its reply, or what came instead, goes to the forwarder."""
        self._message = message
        if self._transport is None:
            self._end(PeerDown("the connection was closed"))
            return
        self._forwarder.deadlines.later(self, timeout_s, self._late)
        if len(message.body) < WHOLE_BYTES:
            self._transport.write(b"".join((message.head, message.body)))
        else:
            self._transport.writelines((message.head, message.body))

    def data_received(self, data: bytes) -> None:
        if data == DONE and not self._got:
            self._end(_TAKEN)
            return
        got = self._got + data if self._got else data
        at = got.find(END) + len(END)
        try:
            if at < len(END):
                self._more(got)
                return
            length = reply_length(got[:at])
            if length > MAX_REPLY or len(got) > at + length or self._message is None:
                raise MalformedHead("more than a reply came")
            if len(got) < at + length:
                self._more(got)
                return
            reply = wire.decode(got[at:])
        except (MalformedHead, MalformedReply) as error:
            self._end(PeerGarbled(str(error)))
            self.close()
        else:
            self._got = b""
            self._end(reply)

    def close(self, why: str = "the connection was closed") -> None:
        """Drop the connection at once; what it carries is not sent again."""
        if self._message is not None:
            self._message.again = False
        self._end(PeerDown(why))
        if self._transport is not None:
            self._transport.abort()

    def _more(self, got: bytes) -> None:
        if len(got) > MAX_REPLY:
            raise MalformedHead("a head that does not end")
        self._got = got

    def _late(self) -> None:
        self.close("no reply in time")

    def _end(self, result: Result) -> None:
        if self._message is not None:
            message, self._message = self._message, None
            self._forwarder.deadlines.back(self)
            self._forwarder.ended(self, message, result)


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
        self.deadlines = Deadlines()
        self._idle: list[_Connection] = []
        self._connections: set[_Connection] = set()
        self._connecting: set[asyncio.Task[_Connection]] = set()

    def fields(self, headers: Mapping[str, str]) -> bytes:
        """Return the lines of a head that are the same for many messages."""
        lines = [f"host: {self._host}:{self._port}", f"{wire.VERSION}: {wire.SPOKEN}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "", ""]).encode("ascii")

    def send(
        self, path: str, fields: bytes, body: bytes | bytearray, done: Done, *, sequence: int | None = None
    ) -> None:
        """Send one message. ``done`` is called once, with the peer's reply or with what came instead.

        A kept-alive connection may have been closed under us: then once more, on a fresh one.
        """
        number = f"{wire.SEQUENCE}: {sequence}\r\n" if sequence is not None else ""
        line = f"POST {path} HTTP/1.1\r\n{number}content-length: {len(body)}\r\n"
        message = _Message(line.encode("ascii") + fields, body, done)
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                connection.carry(message, self._reply_timeout_s)
                return
        self._send_anew(message)

    def ended(self, connection: _Connection, message: _Message, result: Result) -> None:
        """Take back a connection whose message has come to an end."""
        if isinstance(result, wire.Reply) and connection in self._connections:
            self._idle.append(connection)
        if isinstance(result, PeerDown) and message.again:
            self._send_anew(message)
        else:
            message.done(self._named(result))

    def lost(self, connection: _Connection) -> None:
        """Forget a connection that is no more."""
        self._connections.discard(connection)

    def close(self, why: str = "the session was closed") -> None:
        """Drop all connections; whatever is under way ends as :class:`PeerDown`."""
        self._idle.clear()
        for task in list(self._connecting):
            task.cancel()
        for connection in list(self._connections):
            connection.close(why)
        self._connections.clear()

    def _send_anew(self, message: _Message) -> None:
        message.again = False
        task = asyncio.get_running_loop().create_task(self._connect())
        self._connecting.add(task)
        task.add_done_callback(lambda done: self._connected(done, message))

    def _connected(self, task: asyncio.Task[_Connection], message: _Message) -> None:
        self._connecting.discard(task)
        if task.cancelled():
            message.done(self._named(PeerDown("the session was closed")))
        elif isinstance(error := task.exception(), PeerDown | WrongCertificate):
            message.done(self._named(error))
        else:
            task.result().carry(message, self._reply_timeout_s)

    async def _connect(self) -> _Connection:
        """Connect and see who is there, before anything is sent.

        Raises:
            PeerDown: no connection in time.
            WrongCertificate: somebody else answers there.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                _, connection = await loop.create_connection(
                    lambda: _Connection(self), self._host, self._port, ssl=self._context
                )
        except ssl.SSLCertVerificationError as error:
            raise WrongCertificate("does not hold the certificate that the chain names") from error
        except (OSError, TimeoutError) as error:
            raise PeerDown(str(error) or "connect timed out") from error
        if connection.certificate() != self._pin:
            connection.close()
            raise WrongCertificate("holds another certificate than the chain names")
        self._connections.add(connection)
        return connection

    def _named(self, result: Result) -> Result:
        if isinstance(result, wire.Reply):
            return result
        return type(result)(f"{self._host}:{self._port}: {result}")
