"""How an owner's input comes to an enclave: its key wrapped for the enclave, its bytes as a sealed stream.

The owner's *offer* comes first: its policy, and three secrets wrapped to the enclave's key (HPKE, RFC 9180) -
the data key, a nonce that blinds the input's digest in the event log, and the key under which the owner is
given its part of what the task keeps. They open for this task, dataset, algorithm and statement alone.
"""

from __future__ import annotations

import hashlib
import io
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from sealtrace.node.engines.errors import ProtocolViolated
from sealtrace.protocol.envelope import BadEnvelope, unwrap, wrap
from sealtrace.protocol.identifiers import Hex32, hex32
from sealtrace.protocol.sealed_stream import KEY_BYTES, PREFIX_BYTES, Header, Source

SECRETS_BYTES: Final = 3 * KEY_BYTES


@dataclass(frozen=True, slots=True)
class Secrets:
    """What an owner wraps for one enclave and one input: 32 bytes each."""

    data_key: bytes
    nonce: bytes
    return_key: bytes

    @classmethod
    def fresh(cls) -> Secrets:
        """Random ones."""
        return cls(*(secrets.token_bytes(KEY_BYTES) for _ in range(3)))

    def wrapped(self, enclave_key: bytes, header: Header) -> bytes:
        """They, for the one who holds the enclave's key, in this task alone."""
        return wrap(self.data_key + self.nonce + self.return_key, enclave_key, _info(header))


def unwrapped(wrapped: bytes, key: X25519PrivateKey, header: Header) -> Secrets:
    """What :meth:`Secrets.wrapped` wrapped.

    Raises:
        ProtocolViolated: it was wrapped for another enclave, task, dataset, algorithm or statement.
    """
    try:
        opened = unwrap(wrapped, key, _info(header))
    except BadEnvelope as error:
        raise ProtocolViolated("an owner's key does not open for this enclave and this task") from error
    if len(opened) != SECRETS_BYTES:
        raise ProtocolViolated("an owner's key is not of its size")
    return Secrets(opened[:KEY_BYTES], opened[KEY_BYTES : 2 * KEY_BYTES], opened[2 * KEY_BYTES :])


def fresh_prefix() -> bytes:
    """A nonce prefix for one sealed stream."""
    return secrets.token_bytes(PREFIX_BYTES)


class Blinded:
    """``SHA-256(nonce ‖ bytes)``: an input's digest in the event log, which tells nothing of its bytes."""

    def __init__(self, nonce: bytes) -> None:
        self._hash = hashlib.sha256(nonce)
        self.octets = 0

    def update(self, piece: Any) -> None:
        """Take the next bytes."""
        self._hash.update(piece)
        self.octets += len(piece)

    def digest(self) -> Hex32:
        """The digest of what was taken so far."""
        return hex32(self._hash.digest())


class Blinding(io.RawIOBase):
    """A source that digests what is read from it."""

    def __init__(self, source: Source, blinded: Blinded) -> None:
        self._source, self._blinded = source, blinded

    def readinto(self, target: Any, /) -> int:
        """Read into ``target``, and digest what was read."""
        got = self._source.readinto(target) or 0
        self._blinded.update(memoryview(target)[:got])
        return got


MORE, END = b"\x00", b"\x01"
"""What a message of a stream begins with. An end alone proves nothing: the sealed stream knows its last
chunk."""


def is_last(message: bytes) -> bool:
    """Whether nothing of a stream follows ``message``: it is the end, or what no stream has."""
    return message[:1] != MORE


class Pushed:
    """A sink that sends what it is given on, a message for each piece."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send

    def write(self, content: memoryview, /) -> None:
        """Send ``content`` on."""
        self._send(b"".join((MORE, content)))

    def end(self) -> None:
        """Say that nothing follows."""
        self._send(END)


class Popped:
    """A source of what comes message by message, up to the one that says that nothing follows."""

    def __init__(self, receive: Callable[[], bytes]) -> None:
        self._receive = receive
        self._left = memoryview(b"")
        self._over = False

    def readinto(self, target: Any, /) -> int:
        """Read at most ``len(target)`` bytes; waits for a message where none is left; 0 at the end.

        Raises:
            ProtocolViolated: a message is none of a stream.
        """
        if not self._left and not self._over:
            message = memoryview(self._receive())
            kind, self._left = bytes(message[:1]), message[1:]
            self._over = kind == END
            if kind not in (MORE, END) or self._over is bool(self._left):
                raise ProtocolViolated("an owner sent what is no part of a sealed input")
        got = min(len(target), len(self._left))
        memoryview(target)[:got] = self._left[:got]
        self._left = self._left[got:]
        return got


def _info(header: Header) -> bytes:
    return hashlib.sha256(header.core()).digest()
