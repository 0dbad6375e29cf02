"""The heads of HTTP/1.1 messages, read strictly and, where they repeat themselves, only once.

An engine sends the same head with every message but for its length, and so does a peer but for the
sequence number: what stands around these two numbers is compared with the heads before it, byte for
byte, and only read where it is new.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qsl

from sealtrace.node.gateway.wire import SEQUENCE

if TYPE_CHECKING:
    from sealtrace.node.gateway.listening import Route

END = b"\r\n\r\n"
MAX_HEAD_BYTES = 16 * 1024
MAX_DIGITS = 12
MAX_KNOWN = 32  # heads remembered by one connection; an engine uses two for each link
_LINE = re.compile(r"(GET|POST|DELETE) (/[\x21-\x7e]{0,1024}) HTTP/1\.1")
_FIELD = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*")
_LENGTH = re.compile(r"[0-9]{1,12}")
_USUAL = re.compile(
    rb"(POST [\x21-\x7e]+ HTTP/1\.1\r\n)"
    rb"(?:" + SEQUENCE.encode() + rb": ([0-9]{1,15})\r\n)?"
    rb"[Cc]ontent-[Ll]ength: ([0-9]{1,12})\r\n"
)
_REPLY = re.compile(
    rb"HTTP/1\.1 200 [^\r\n]*\r\n(?:[^\r\n]+\r\n)*?[Cc]ontent-[Ll]ength:[ ]*([0-9]{1,12})\r\n", re.DOTALL
)


class MalformedHead(ValueError):
    """What came is not the head of an HTTP/1.1 message as gateways and engines send it."""


@dataclass(eq=False, slots=True)
class Form:
    """What is the same in all requests of one kind on a connection."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    route: Route | None = None
    """Who takes such requests, once that has been judged."""


class Head(NamedTuple):
    """The head of one request. ``length`` is of the body, in bytes."""

    form: Form
    length: int
    sequence: str


class _Known(NamedTuple):
    """A head as it came, in pieces: the numbers stand after ``before``, and after ``between`` if that is
    not empty."""

    before: bytes
    between: bytes
    after: bytes
    form: Form


class HeadReader:
    """Reads the heads that come on one connection."""

    def __init__(self) -> None:
        self._known: dict[tuple[bytes, bytes], Form] = {}
        self._last: tuple[_Known, ...] = ()  # two: an engine's connection carries pushes and pops by turns

    def again(self, data: bytearray, start: int, end: int) -> tuple[Head, int] | None:
        """Return the head that begins at ``start``, and where its body begins, if it repeats one of the
        last two; ``None`` if it has to be read. ``end`` is where the bytes that have come end."""
        for known in self._last:
            if not data.startswith(known.before, start, end):
                continue
            at, sequence = start + len(known.before), b""
            if known.between:
                at, sequence = _number(data, at)
                if not sequence or not data.startswith(known.between, at, end):
                    continue
                at += len(known.between)
            at, length = _number(data, at)
            if length and data.startswith(known.after, at, end):
                return Head(known.form, int(length), sequence.decode()), at + len(known.after)
        return None

    def read(self, head: bytes) -> Head:
        """Return the head of a request; ``head`` ends with the empty line.

        Raises:
            MalformedHead: it is not one.
        """
        usual = _USUAL.match(head)
        if usual is None:
            form, length = _read(head)
            return Head(form, length, form.headers.get(SEQUENCE, ""))
        line, sequence, length_text = usual.groups()
        key = line, head[usual.end() :]
        form = self._known.get(key) or self._learn(key)
        self._last = (_pieces(head, usual, form), *self._last[:1])
        return Head(form, int(length_text), sequence.decode() if sequence else "")

    def _learn(self, key: tuple[bytes, bytes]) -> Form:
        form, _ = _read(b"".join(key))
        if {"content-length", SEQUENCE} & form.headers.keys():
            raise MalformedHead("a header is given twice")
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known[key] = form
        return form


def _pieces(head: bytes, usual: re.Match[bytes], form: Form) -> _Known:
    start, stop = usual.span(3)
    if usual[2] is None:
        return _Known(head[:start], b"", head[stop:], form)
    first, second = usual.span(2)
    return _Known(head[:first], head[second:start], head[stop:], form)


def _number(data: bytearray, at: int) -> tuple[int, bytes]:
    """Return where the digits at ``at`` end, and the digits; none where there are none, or too many."""
    stop = data.find(b"\r", at, at + MAX_DIGITS + 1)
    digits = bytes(data[at:stop]) if stop > at else b""
    return (stop, digits) if digits.isdigit() else (at, b"")


def _read(head: bytes) -> tuple[Form, int]:
    lines = head.removesuffix(END).decode("latin-1").split("\r\n")
    if not head.endswith(END) or (asked := _LINE.fullmatch(lines[0])) is None:
        raise MalformedHead("not a request of HTTP/1.1")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        if (found := _FIELD.fullmatch(line)) is None:
            raise MalformedHead("a header is malformed")
        name = found[1].lower()
        if name in headers:
            raise MalformedHead("a header is given twice")
        headers[name] = found[2]
    if "transfer-encoding" in headers or "expect" in headers:
        raise MalformedHead("a body is sent with its content-length, and at once")
    length = headers.get("content-length", "0")
    if not _LENGTH.fullmatch(length):
        raise MalformedHead("content-length is not a number")
    path, _, query = asked[2].partition("?")
    return Form(asked[1], path, dict(parse_qsl(query)), headers), int(length)


def reply_length(head: bytes) -> int:
    """Return the length of the body that follows the head of a reply.

    Raises:
        MalformedHead: it is not one, or its status is not 200.
    """
    if (found := _REPLY.match(head)) is None:
        raise MalformedHead(f"the answer {head[:32]!r} is not one of a gateway")
    return int(found[1])
