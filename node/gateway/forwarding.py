"""Kept-alive connections from this gateway to one peer's gateway, over mutual TLS.

A plain HTTP/1.1 client for one kind of request, because three things must be known exactly: which
certificate answered before a byte is sent, that nothing is copied twice, and what may be retried.
A message carries a sequence number that the receiver counts once, so sending again is harmless.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

from sealtrace.node.gateway import wire
from sealtrace.node.gateway.certificates import fingerprint
from sealtrace.node.gateway.deadlines import Deadlines
from sealtrace.node.gateway.heads import END, NUMBER_DIGITS, MalformedHead, reply_length
from sealtrace.node.gateway.listening import DONE, WHOLE_BYTES
from sealtrace.node.gateway.relay import RelayDown, tunnel
from sealtrace.node.gateway.wire import MalformedReply

WINDOW, WINDOW_BYTES = 64, 4 << 20  # under way on one connection; what is more opens another
ACKNOWLEDGEMENT_BYTES = 24  # an engine's acknowledgement is smaller, and all else of it is larger
HOLD_S, MAX_HELD = 0.005, 4  # for as long, and as many, an acknowledgement waits for a message to follow
READ_BYTES = 4096  # at once; replies are short
TAKEN = wire.Reply(wire.Code.OK)
"""The reply to a message that was taken; any other reply that says so is another object."""
MAX_REPLY = 64 * 1024  # a reply to a forward has a code and a sentence, no payload


class PeerDown(Exception):
    """The peer's gateway cannot be reached, or did not answer in time."""


class PeerBeyondReach(PeerDown):
    """The relay does not connect us to the peer's gateway; which of the two is to blame is not known."""


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


class _Connection(asyncio.BufferedProtocol):
    """One connection to the peer. Messages follow each other, and replies come in their order."""

    def __init__(self, forwarder: Forwarder) -> None:
        self._forwarder = forwarder
        self._transport: asyncio.Transport | None = None
        self._carried: deque[_Message] = deque()
        self._octets = 0  # of their bodies
        self._held: list[_Message] = []  # acknowledgements, to be written behind the rest
        self._holding = False
        self._room = memoryview(bytearray(READ_BYTES))
        self._got = b""

    @property
    def has_room(self) -> bool:
        """Whether one more message may follow those that are not replied to."""
        if self._transport is None or self._transport.is_closing():
            return False
        return len(self._carried) + len(self._held) < WINDOW and self._octets < WINDOW_BYTES

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
        self._fail(PeerDown(f"{error or 'the connection was closed'}"))

    def carry(self, message: _Message) -> None:
        """Send one message; where no reply comes, the forwarder hears of it.

        An acknowledgement rides behind the next message, for nobody waits for it, or goes alone after a
        while.
        """
        size = len(message.body)
        self._octets += size
        if size > ACKNOWLEDGEMENT_BYTES:
            self._write(message)
            return
        self._held.append(message)
        if len(self._held) >= MAX_HELD:
            self._write()
        elif not self._holding:
            self._holding = True
            asyncio.get_running_loop().call_later(HOLD_S, self._release)

    def get_buffer(self, hint: int) -> memoryview:
        return self._room

    def buffer_updated(self, count: int) -> None:
        self._read(bytes(self._room[:count]))

    def _read(self, data: bytes) -> None:
        got = self._got + data if self._got else data
        try:
            while got:
                reply, got = _first_reply(got)
                if reply is None:
                    break
                if not self._carried:
                    raise MalformedHead("a reply to nothing")
                message = self._carried.popleft()
                self._octets -= len(message.body)
                message.done(reply)
        except (MalformedHead, MalformedReply) as error:
            self._fail(PeerGarbled(str(error)))
        else:
            self._got = got
            self._await()

    def late(self) -> None:
        """Give up: the oldest message was not replied to in time."""
        self.close("no reply in time")

    def close(self, why: str = "the connection was closed") -> None:
        """Drop the connection at once; what it carries is not sent again."""
        for message in (*self._carried, *self._held):
            message.again = False
        self._fail(PeerDown(why))

    def _release(self) -> None:
        self._holding = False
        if self._held:
            self._write()

    def _write(self, first: _Message | None = None) -> None:
        """Write a message, and what was held behind it. Replies are expected in this order."""
        messages, self._held = self._held, []
        if first is not None:
            messages.insert(0, first)
        if not self._carried:
            self._forwarder.watch(self)
        self._carried.extend(messages)
        if self._transport is None:
            self._fail(PeerDown("the connection was closed"))
            return
        parts: list[bytes | bytearray] = []
        for message in messages:
            parts += (message.head, message.body)
        if self._octets < WHOLE_BYTES:
            self._transport.write(b"".join(parts))
        else:
            self._transport.writelines(parts)

    def _await(self) -> None:
        """Expect what is not replied to yet in time from now."""
        if self._carried and self._transport is not None:
            self._forwarder.watch(self)
        else:
            self._forwarder.rest(self)

    def _fail(self, result: PeerDown | PeerGarbled) -> None:
        """Drop the connection; all that it carried ends with ``result``."""
        self._forwarder.lost(self)
        if self._transport is not None:
            self._transport.abort()
        for message in self._empty():
            self._forwarder.failed(message, result)

    def _empty(self) -> list[_Message]:
        messages = [*self._carried, *self._held]
        self._carried, self._held = deque(), []
        return messages


def _first_reply(data: bytes) -> tuple[wire.Reply | None, bytes]:
    """Return the first reply, if it is all there, and what follows it.

    Raises:
        MalformedHead, MalformedReply: that is no reply.
    """
    if data.startswith(DONE):
        return TAKEN, data[len(DONE) :]
    at = data.find(END) + len(END)
    length = reply_length(data[:at]) if at >= len(END) else 0
    if max(len(data) if at < len(END) else at, length) > MAX_REPLY:
        raise MalformedHead("a reply that does not end")
    if at < len(END) or len(data) < at + length:
        return None, data
    return wire.decode(data[at : at + length]), data[at + length :]


_NUMBER = b"%b: %%0%dd\r\n\r\n" % (wire.SEQUENCE.encode(), NUMBER_DIGITS)


@lru_cache(maxsize=1024)
def _head(path: str, fields: bytes, length: int) -> bytes:
    """A head up to the sequence number, which stands at its end; messages have few lengths."""
    return b"POST %b HTTP/1.1\r\ncontent-length: %d\r\n%b" % (path.encode("ascii"), length, fields)


class Forwarder:
    """Sends messages to one peer. ``url`` is its gateway, ``pin`` its certificate's SHA-256, ``relay``
    (``http://host:port``) what to connect through."""

    def __init__(
        self,
        url: str,
        pin: bytes,
        context: ssl.SSLContext,
        *,
        connect_timeout_s: float,
        reply_timeout_s: float,
        relay: str | None = None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.hostname:
            raise ValueError(f"a gateway's address starts with https://, not {url!r}")
        self._host = parts.hostname
        self._port = parts.port or 443
        self._pin = pin
        self._relay = relay
        self._context = context
        self._connect_timeout_s = connect_timeout_s
        self._reply_timeout_s = reply_timeout_s
        self._deadlines = Deadlines()
        self._connections: list[_Connection] = []
        self._waiting: list[_Message] = []  # for the connection that is being made
        self._connecting: asyncio.Task[_Connection] | None = None

    def fields(self, headers: Mapping[str, str]) -> bytes:
        """Return the lines of a head that are the same for many messages."""
        lines = [f"host: {self._host}:{self._port}", f"{wire.VERSION}: {wire.SPOKEN}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, ""]).encode("ascii")

    def send(
        self, path: str, fields: bytes, body: bytes | bytearray, done: Done, *, sequence: int | None = None
    ) -> None:
        """Send one message. ``done`` is called once, with the peer's reply or with what came instead.

        A kept-alive connection may have been closed under us: then once more, on a fresh one.
        """
        head = _head(path, fields, len(body)) + (_NUMBER % sequence if sequence is not None else b"\r\n")
        message = _Message(head, body, done)
        for connection in self._connections:
            if connection.has_room:
                connection.carry(message)
                return
        self._send_anew(message)

    def watch(self, connection: _Connection) -> None:
        """Expect a reply on ``connection`` in time."""
        self._deadlines.later(connection, self._reply_timeout_s, connection.late)

    def rest(self, connection: _Connection) -> None:
        """Expect nothing on ``connection``."""
        self._deadlines.back(connection)

    def failed(self, message: _Message, result: PeerDown | PeerGarbled) -> None:
        """Take in that a message was not replied to."""
        if isinstance(result, PeerDown) and message.again:
            self._send_anew(message)
        else:
            message.done(self._named(result))

    def lost(self, connection: _Connection) -> None:
        """Forget a connection that is no more."""
        self._deadlines.back(connection)
        if connection in self._connections:
            self._connections.remove(connection)

    def close(self, why: str = "the session was closed") -> None:
        """Drop all connections; whatever is under way ends as :class:`PeerDown`."""
        if self._connecting is not None:
            self._connecting.cancel()
        for connection in list(self._connections):
            connection.close(why)

    def _send_anew(self, message: _Message) -> None:
        message.again = False
        self._waiting.append(message)
        if self._connecting is None:
            self._connecting = asyncio.get_running_loop().create_task(self._connect())
            self._connecting.add_done_callback(self._connected)

    def _connected(self, task: asyncio.Task[_Connection]) -> None:
        self._connecting = None
        waiting, self._waiting = self._waiting, []
        error = PeerDown("the session was closed") if task.cancelled() else task.exception()
        for message in waiting:
            if error is None:
                task.result().carry(message)
            elif isinstance(error, PeerDown | WrongCertificate):
                message.done(self._named(error))
            else:
                message.done(PeerDown(f"our own error: {error!r}"))
        if error is not None and not isinstance(error, PeerDown | WrongCertificate):
            raise error

    async def _connect(self) -> _Connection:
        """Connect and see who is there, before anything is sent.

        Raises:
            PeerDown: no connection in time.
            WrongCertificate: somebody else answers there.
        """
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                connection = await self._reach()
        except RelayDown as error:
            raise PeerBeyondReach(str(error)) from error
        except ssl.SSLCertVerificationError as error:
            raise WrongCertificate("does not hold the certificate that the chain names") from error
        except (OSError, TimeoutError) as error:
            raise PeerDown(str(error) or "connect timed out") from error
        if connection.certificate() != self._pin:
            connection.close()
            raise WrongCertificate("holds another certificate than the chain names")
        self._connections.append(connection)
        return connection

    async def _reach(self) -> _Connection:
        """Connect, straight or through the relay; TLS ends at the peer either way."""
        loop = asyncio.get_running_loop()
        if self._relay is None:
            _, connection = await loop.create_connection(
                lambda: _Connection(self), self._host, self._port, ssl=self._context
            )
            return connection
        line = await tunnel(self._relay, self._host, self._port)
        _, connection = await loop.create_connection(
            lambda: _Connection(self), sock=line, ssl=self._context, server_hostname=self._host
        )
        return connection

    def _named(self, result: PeerDown | PeerGarbled | WrongCertificate) -> Result:
        return type(result)(f"{self._host}:{self._port}: {result}")
