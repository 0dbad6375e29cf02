"""One connection of somebody who asks: an engine, the worker, or a peer's gateway.

A request is judged by its head, before memory is taken for its body; the body is then read where it
will stay. Answers come by a callback, so that no message waits for a turn of the event loop.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol, cast

from sealtrace.node.gateway import wire
from sealtrace.node.gateway.certificates import fingerprint
from sealtrace.node.gateway.heads import END, MAX_HEAD_BYTES, Head, HeadReader, MalformedHead
from sealtrace.node.gateway.wire import Code, Refused

SCRATCH_BYTES = 2 * MAX_HEAD_BYTES
WHOLE_BYTES = 64 * 1024  # up to here, head and body are written together
MAX_OWED = 16  # acknowledgements that wait for more of them
MAX_SKIPPED_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Document:
    """A JSON answer of the control interface."""

    status: int
    body: bytes


Outcome = bytes | bytearray | Refused | Document  # a payload is empty where there is none
Answer = Callable[[Outcome], None]
Cancel = Callable[[], None]
Body = bytes | bytearray


class Route(Protocol):
    """Who takes the requests of one form."""

    @property
    def lasting(self) -> bool:
        """Whether the next request of this form on this connection goes the same way, unjudged."""
        ...

    def take(self, head: Head, body: Body, answer: Answer) -> Cancel | None:
        """Take one request and answer, now or later; return what to do when the asker is gone.

        Raises:
            Refused: this request is not taken.
        """
        ...


class Service(Protocol):
    """Who answers on a port."""

    def judge(self, head: Head, caller: bytes | None) -> Route:
        """Return who takes this request. ``caller`` is the SHA-256 of the certificate.

        Raises:
            Refused: nobody does.
        """
        ...

    def refusal(self, head: Head, refused: Refused) -> Outcome:
        """Return how a refusal is written."""
        ...

    def broken(self, caller: bytes | None, why: str) -> None:
        """Hear that ``caller`` sent what is no request."""
        ...


@dataclass(slots=True)
class Port:
    """What all connections of one port share. Sizes in bytes, times in seconds."""

    service: Service
    message_bytes: int
    arriving_bytes: int
    """How much of bodies that are still arriving one caller may have held for it."""
    stall_s: float
    hold_s: float = 0.0
    """How long the acknowledgement of a small message may wait for those of others."""
    open: set[Connection] = field(default_factory=set)
    arriving: defaultdict[bytes | None, int] = field(default_factory=lambda: defaultdict(int))

    def connection(self) -> Connection:
        """Return the protocol of a new connection."""
        return Connection(self)

    def close(self) -> None:
        """Drop all connections."""
        for each in list(self.open):
            each.abort()


class Connection(asyncio.BufferedProtocol):
    """Reads requests one by one and writes their answers in order."""

    def __init__(self, port: Port) -> None:
        self._port = port
        self._heads = HeadReader()
        self._scratch = bytearray(SCRATCH_BYTES)
        self._view = memoryview(self._scratch)
        self._start = self._end = 0  # what was read and not yet looked at
        self._arriving: tuple[Route, Head] | None = None  # the request whose body arrives
        self._body: bytearray | None = None  # that body, and how much of it is there
        self._have = 0
        self._owed = 0  # answers that say nothing but that a message was taken
        self._prompt = False  # whether one of them is to a message so large that its sender waits for room
        self._holding: asyncio.TimerHandle | None = None
        self._skip = 0  # bytes of a refused body still to come
        self._refusal: Outcome | None = None
        self._busy = False
        self._paused = False
        self._advancing = False
        self._cancel: Cancel | None = None
        self._received = 0
        self._stall: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None
        self._caller: bytes | None = None

    # --- what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember who is there."""
        self._transport = cast(asyncio.Transport, transport)
        tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        der = tls.getpeercert(binary_form=True) if tls is not None else None
        self._caller = fingerprint(der) if der is not None else None
        self._port.open.add(self)
        if tls is None:
            self._transport.set_write_buffer_limits(high=0)  # an engine waits: uvloop then writes at once

    def connection_lost(self, error: Exception | None) -> None:
        """Let go of all that this connection held."""
        self._transport = None
        self._port.open.discard(self)
        self._release()
        self._calm()
        self._flush()
        if self._cancel is not None:
            cancel, self._cancel = self._cancel, None
            cancel()

    def eof_received(self) -> bool:
        """Close: nobody asks and then only listens."""
        return False

    def get_buffer(self, hint: int) -> memoryview:
        """Return where the next bytes belong."""
        if self._body is not None:
            return memoryview(self._body)[self._have :]
        if self._start:
            left = self._end - self._start
            self._scratch[:left] = self._scratch[self._start : self._end]
            self._start, self._end = 0, left
        return self._view[self._end :] if self._end else self._view

    def buffer_updated(self, count: int) -> None:
        """Go on with what has come."""
        self._received += count
        if self._body is None:
            self._end += count
        else:
            self._have += count
            if self._have == len(self._body):
                self._arrived(self._body)
        self._advance()

    def abort(self) -> None:
        """Drop the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    # --- requests

    def _advance(self) -> None:
        if self._advancing:  # an answer given at once: the loop below goes on by itself
            return
        self._advancing = True
        while self._transport is not None and not self._busy and self._body is None:
            if self._skip:
                self._skipping()
            if self._skip or self._start == self._end or not self._next():
                break
        self._advancing = False
        if self._owed:
            self._acknowledge()
        if self._body is not None or self._skip or (not self._busy and self._start < self._end):
            self._watch()
        elif self._stall is not None:
            self._calm()
        if self._paused or self._end == SCRATCH_BYTES:
            self._press()

    def _watch(self) -> None:
        if self._stall is None:
            loop = asyncio.get_running_loop()
            self._stall = loop.call_later(self._port.stall_s, self._stalled, self._received)

    def _stalled(self, received: int) -> None:
        """Hang up on who stopped in the middle of a request."""
        self._stall = None
        if received == self._received:
            self.abort()
        else:
            self._watch()

    def _press(self) -> None:
        """Read no further while an answer is owed and the buffer is full."""
        full = self._busy and self._end - self._start == SCRATCH_BYTES
        if full != self._paused and self._transport is not None:
            self._paused = full
            self._transport.pause_reading() if full else self._transport.resume_reading()

    def _next(self) -> bool:
        """Begin with the next request; False where its head is not all there."""
        found = self._heads.again(self._scratch, self._start, self._end)
        if found is None:
            at = self._scratch.find(END, self._start, self._end)
            if at < 0 and self._end - self._start < MAX_HEAD_BYTES:
                return False
            found = self._read(at)
        if found is None:
            return True
        head, self._start = found
        try:
            self._begin(head)
        except Refused as refused:
            self._refuse(head, refused)
        return True

    def _read(self, at: int) -> tuple[Head, int] | None:
        """Return a head whose end was found at ``at``, and where its body begins; hang up on what is none."""
        try:
            if at < 0:
                raise MalformedHead("a head that does not end")
            stop = at + len(END)
            return self._heads.read(bytes(self._view[self._start : stop])), stop
        except MalformedHead as error:
            self._broken(str(error))
            return None

    def _begin(self, head: Head) -> None:
        form, length, _ = head
        if length > self._port.message_bytes:
            raise Refused(Code.MESSAGE, "the message is larger than this gateway takes")
        route = form.route
        if route is None or not route.lasting:
            route = form.route = self._port.service.judge(head, self._caller)
        start, stop = self._start, self._start + length
        if stop > self._end:
            self._expect(head, route)
            return
        body = self._scratch[start:stop]
        self._start = stop
        if stop == self._end:
            self._start = self._end = 0
        self._dispatch(route, head, body)

    def _expect(self, head: Head, route: Route) -> None:
        """Take memory for a body that is not all there, and read the rest of it into its place."""
        self._reserve(head.length)
        body = bytearray(head.length)
        here = self._end - self._start
        body[:here] = self._view[self._start : self._end]
        self._start = self._end = 0
        self._arriving, self._body, self._have = (route, head), body, here

    def _reserve(self, size: int) -> None:
        held = self._port.arriving[self._caller]
        if held and held + size > self._port.arriving_bytes:
            raise Refused(Code.QUEUE_FULL, "too much is arriving from this node at once; try again")
        self._port.arriving[self._caller] += size

    def _release(self) -> None:
        if self._body is not None:
            self._port.arriving[self._caller] -= len(self._body)
            if self._port.arriving[self._caller] == 0:
                del self._port.arriving[self._caller]
            self._body = self._arriving = None

    def _arrived(self, body: bytearray) -> None:
        arriving = self._arriving
        self._release()
        if arriving is not None:
            self._prompt = True
            self._dispatch(*arriving, body)

    def _dispatch(self, route: Route, head: Head, body: Body) -> None:
        self._busy = True
        try:
            cancel = route.take(head, body, self._answer)
        except Refused as refused:
            self._answer(self._port.service.refusal(head, refused))
        else:
            if self._busy:
                self._cancel = cancel

    def _refuse(self, head: Head, refused: Refused) -> None:
        """Let the body pass by, then say no: who still writes would not hear us."""
        if head.length > MAX_SKIPPED_BYTES:
            self._broken("a body without end")
            return
        self._skip, self._refusal = head.length, self._port.service.refusal(head, refused)
        self._skipping()

    def _skipping(self) -> None:
        gone = min(self._skip, self._end - self._start)
        self._start += gone
        self._skip -= gone
        if self._skip == 0 and self._refusal is not None:
            refusal, self._refusal = self._refusal, None
            self._busy = True
            self._answer(refusal)

    def _broken(self, why: str) -> None:
        """Say what is wrong and hang up: nothing after this can be understood."""
        self._port.service.broken(self._caller, why)
        self._flush()
        if self._transport is not None:
            body = wire.encode(Code.BAD_REQUEST, message=why)
            self._transport.write(_BROKEN % len(body) + body)
            self._transport.close()
        self._busy, self._start = True, self._end

    # --- answers

    def _answer(self, outcome: Outcome) -> None:
        self._busy, self._cancel = False, None
        if self._transport is None:
            return
        if outcome:
            if self._owed:
                self._flush()
            _write(self._transport, outcome)
        elif self._advancing:
            self._owed += 1
        else:
            self._transport.write(DONE)
        if self._start < self._end or self._paused:
            self._advance()

    def _acknowledge(self) -> None:
        """Acknowledge what was taken: together, and small messages a little later, with those that follow."""
        if self._prompt or self._owed >= MAX_OWED or not self._port.hold_s:
            self._flush()
        elif self._holding is None:
            loop = asyncio.get_running_loop()
            self._holding = loop.call_later(self._port.hold_s, self._flush)

    def _flush(self) -> None:
        if self._holding is not None:
            self._holding.cancel()
            self._holding = None
        if self._owed and self._transport is not None:
            self._transport.write(DONE * self._owed)
        self._owed, self._prompt = 0, False

    def _calm(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None


_HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
_BROKEN = b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n"
_OK = wire.encode(Code.OK)
DONE = _HEAD % len(_OK) + _OK
"""The whole answer to a message that was taken."""


def _write(transport: asyncio.Transport, outcome: Outcome) -> None:
    if isinstance(outcome, Refused):
        body = wire.encode(outcome.code, message=outcome.message)
        transport.write(_HEAD % len(body) + body)
    elif isinstance(outcome, Document):
        line = b"HTTP/1.1 %d %s\r\n" % (outcome.status, b"OK" if outcome.status == 200 else b"Refused")
        fields = b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(outcome.body)
        transport.write(line + fields + outcome.body)
    elif len(outcome) < WHOLE_BYTES:
        transport.write(b"".join((_before(len(outcome)), outcome, _OK)))
    else:
        transport.writelines((_before(len(outcome)), outcome, _OK))


@lru_cache(maxsize=1024)
def _before(length: int) -> bytes:
    """What stands before a payload of ``length`` bytes; messages have few lengths."""
    prefix = wire.field(1, length)
    return _HEAD % (len(prefix) + length + len(_OK)) + prefix
