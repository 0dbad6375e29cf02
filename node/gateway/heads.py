"""The heads of HTTP/1.1 messages, read strictly and, where they repeat themselves, only once.

An engine sends the same few heads again and again, and so does a peer but for the sequence number at
their end: what comes is compared with the heads before it, byte for byte, and only read where it is new.
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
NUMBER_DIGITS = 15  # of a sequence number, as peers send it: of one width, so that it is found by its place
MAX_KNOWN = 32  # forms remembered by one connection; an engine uses two for each link
MAX_RECENT = 6  # whole heads remembered by one connection: messages have few lengths
_LINE = re.compile(r"(GET|POST|DELETE) (/[\x21-\x7e]{0,1024}) HTTP/1\.1")
_FIELD = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*")
_LENGTH = re.compile(r"[0-9]{1,12}")
_LENGTH_LINE = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: ([0-9]{1,12})(?=\r\n)")
_NUMBER_LINE = re.compile(rb"\r\n" + SEQUENCE.encode() + rb": ([0-9]{1,15})(?=\r\n)")
_NUMBER_AT_END = re.compile(rb"%b: ([0-9]{%d})\r\n\r\n\Z" % (SEQUENCE.encode(), NUMBER_DIGITS))
_NUMBER = re.compile(r"[0-9]{1,15}")
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
    """The head of one request. ``length`` is of the body, in bytes; ``number`` its sequence number, where it
    has one."""

    form: Form
    length: int
    number: int | None


class _Recent(NamedTuple):
    """A head as it came, up to the sequence number that may stand at its end."""

    start: bytes
    size: int
    numbered: bool
    head: Head


class HeadReader:
    """Reads the heads that come on one connection."""

    def __init__(self) -> None:
        self._known: dict[bytes, Form] = {}
        self._recent: tuple[_Recent, ...] = ()

    def again(self, data: bytearray, start: int, end: int) -> tuple[Head, int] | None:
        """Return the head that begins at ``start``, and where its body begins, if it repeats a recent one;
        ``None`` if it has to be read. ``end`` is where the bytes that have come end."""
        for known, size, numbered, head in self._recent:
            if not data.startswith(known, start, end):
                continue
            at = start + size
            if not numbered:
                return head, at
            digits = data[at : at + NUMBER_DIGITS]
            at += NUMBER_DIGITS
            if digits.isdigit() and data.startswith(END, at, end):
                return Head(head.form, head.length, int(digits)), at + len(END)
        return None

    def read(self, head: bytes) -> Head:
        """Return the head of a request; ``head`` ends with the empty line.

        Raises:
            MalformedHead: it is not one.
        """
        length = _LENGTH_LINE.search(head)
        if length is None:
            form, given = _read(head)
            return Head(form, given, _number(form.headers.get(SEQUENCE, "")))
        number = _NUMBER_LINE.search(head)
        form = self._form(_NUMBER_LINE.sub(b"", _LENGTH_LINE.sub(b"", head, count=1), count=1))
        if number is not None and SEQUENCE in form.headers:
            raise MalformedHead("a header is given twice")
        text = number[1].decode() if number is not None else form.headers.get(SEQUENCE, "")
        found = Head(form, int(length[1]), _number(text))
        self._remember(head, found, numbered=number is not None)
        return found

    def _form(self, rest: bytes) -> Form:
        """Return what a head says beside its two numbers."""
        form = self._known.get(rest)
        if form is None:
            form, _ = _read(rest)
            if "content-length" in form.headers:
                raise MalformedHead("a header is given twice")
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[rest] = form
        return form

    def _remember(self, head: bytes, found: Head, *, numbered: bool) -> None:
        stop = len(head)
        if numbered:
            if (number := _NUMBER_AT_END.search(head)) is None:
                return
            stop = number.start(1)
        self._recent = (_Recent(head[:stop], stop, numbered, found), *self._recent[: MAX_RECENT - 1])


def _number(text: str) -> int | None:
    return int(text) if _NUMBER.fullmatch(text) else None


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
