"""The interconnection transport's words: headers, reply codes, and its one small reply message.

The reply is a protobuf ``TransportOutbound {bytes payload = 1; string code = 2; string message =
3;}`` inside HTTP 200; requests carry everything but the payload in ``x-ptp-*`` headers.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

SESSION = "x-ptp-session-id"
TOKEN = "x-ptp-token"  # noqa: S105 - the name of a header
TOPIC = "x-ptp-topic"
SOURCE = "x-ptp-source-node-id"
TARGET = "x-ptp-target-node-id"
SEQUENCE = "x-sealtrace-sequence"
VERSION = "x-sealtrace-version"
SPOKEN = "1"  # how gateways number, count and digest; another version is refused by name

PUSH = "/v1/interconn/chan/push"
POP = "/v1/interconn/chan/pop"
INVOKE = "/v1/interconn/chan/invoke"
LEFT = "/v1/sealtrace/left"


class Code(StrEnum):
    """Reply codes of the transport, as engines know them."""

    OK = "E0000000000"
    BAD_REQUEST = "E0000000400"
    FORBIDDEN = "E0000000403"
    NOT_FOUND = "E0000000404"
    UNREACHABLE = "E0000000503"
    TIMEOUT = "E0000000601"
    CERTIFICATE = "E0000000603"
    TOKEN = "E0000000604"  # noqa: S105 - a code
    MESSAGE = "E0000000616"
    VERSION = "E0000000505"
    NOT_CONNECTED = "E0000000618"
    QUEUE_FULL = "E0000000700"


class MalformedReply(ValueError):
    """A peer's gateway answered with something that is not a ``TransportOutbound``."""


class Refused(Exception):
    """The gateway will not carry this message; ``code`` tells the engine or the peer why."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Reply:
    """One decoded ``TransportOutbound``."""

    code: str
    message: str = ""
    payload: bytes = b""

    @property
    def ok(self) -> bool:
        """Whether the message was accepted, or found."""
        return self.code == Code.OK


def encode(code: Code, payload: bytes = b"", message: str = "") -> bytes:
    """Return the protobuf bytes of a reply."""
    fields = ((1, payload), (2, code.encode()), (3, message.encode()))
    return b"".join(field(number, len(value)) + value for number, value in fields if value)


def field(number: int, length: int) -> bytes:
    """Return what stands before the ``length`` bytes of a reply's field."""
    return bytes([number << 3 | 2]) + _varint(length)


def decode(data: bytes) -> Reply:
    """Read a reply strictly: known fields only, nothing after the last, text in UTF-8.

    Raises:
        MalformedReply: the bytes are not such a message.
    """
    fields = {1: b"", 2: b"", 3: b""}
    at = 0
    while at < len(data):
        number, kind = data[at] >> 3, data[at] & 7
        length, start = _read_varint(data, at + 1)
        at = start + length
        if kind != 2 or number not in fields or at > len(data):
            raise MalformedReply(f"byte {start}: not a TransportOutbound")
        fields[number] = data[start:at]
    try:
        return Reply(fields[2].decode(), fields[3].decode(), fields[1])
    except UnicodeDecodeError as error:
        raise MalformedReply("the code or message is not UTF-8") from error


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 35, 7):
        if at >= len(data):
            raise MalformedReply("a length is cut short")
        value |= (data[at] & 0x7F) << shift
        at += 1
        if not data[at - 1] & 0x80:
            return value, at
    raise MalformedReply("a length is too long")
