"""Datasets sealed in chunks, so that one of any size is opened in constant memory and never half trusted.

The STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár 2015) over AES-256-GCM. Layout: the magic line,
the length of the header (4 bytes, big-endian), the header in canonical JSON; then a nonce prefix (7 bytes), a
commitment (32 bytes), and chunks of ``chunk_bytes`` of plaintext each with a tag of 16 bytes. The last chunk
is shorter or equal; it is empty only where the whole dataset is. A chunk's nonce is ``prefix ‖ counter (4
bytes, big-endian) ‖ 1 if last else 0``.

Key and commitment are the first and the second half of HKDF-SHA256 over the data key, with the prefix as salt
and, as info, the magic line and the SHA-256 of everything before the prefix. So a dataset opens under its own
header alone, and no two data keys open the same bytes to different tables. Prefix and data key must be fresh
and random for every dataset.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from sealtrace.protocol.canonical import NotCanonical, canonical, parse_canonical
from sealtrace.protocol.identifiers import Hex32, hex32

MAGIC: Final = b"sealtrace.sealed-dataset/1\n"
SUITE: Final = "HKDF-SHA256/AES-256-GCM/STREAM"
CHUNK_BYTES: Final = 1 << 20
MIN_CHUNK_BYTES: Final = 64
MAX_CHUNK_BYTES: Final = 1 << 24
MAX_CHUNKS: Final = 1 << 32
MAX_HEADER_BYTES: Final = 1 << 20
MAX_WRAPPED_BYTES: Final = 4096
KEY_BYTES: Final = 32
PREFIX_BYTES: Final = 7
TAG_BYTES: Final = 16
_COMMITMENT_BYTES: Final = 32


class BadSealedStream(ValueError):
    """A sealed dataset is malformed, altered, cut, reordered, or sealed under another key or header."""


class Source(Protocol):
    """Where bytes are read from: a file, a pipe, a decompressor."""

    def readinto(self, target: memoryview, /) -> int | None:
        """Read at most ``len(target)`` bytes into place; 0 at the end."""
        ...


class Sink(Protocol):
    """Where bytes are written to. It takes all of them, and copies what it keeps."""

    def write(self, content: memoryview, /) -> object:
        """Take ``content``."""
        ...


@dataclass(frozen=True, slots=True)
class Recipient:
    """One who can open the dataset: ``wrapped`` is the data key, sealed to the key that ``kid`` names."""

    kid: str
    wrapped: bytes


@dataclass(frozen=True, slots=True)
class Header:
    """What a sealed dataset is for. It travels in the clear and is authenticated with every chunk."""

    task: Hex32
    dataset: Hex32
    algorithm: Hex32
    """Digest of the bundle that may read it."""
    evidence: Hex32
    """Digest of the evidence upon which it was released."""
    recipients: tuple[Recipient, ...] = ()
    chunk_bytes: int = CHUNK_BYTES

    def core(self) -> bytes:
        """The header without its recipients. Its SHA-256 is what a data key is wrapped under (HPKE's
        info)."""
        return canonical(self._core())

    def document(self) -> bytes:
        """The header as it travels (RFC 8785)."""
        recipients = [{"kid": each.kid, "wrapped": each.wrapped.hex()} for each in self.recipients]
        return canonical({**self._core(), "recipients": recipients})

    def _core(self) -> dict[str, Any]:
        return {
            "version": 1,
            "suite": SUITE,
            "task": self.task,
            "dataset": self.dataset,
            "algorithm": self.algorithm,
            "evidence": self.evidence,
            "chunk_bytes": self.chunk_bytes,
        }


def read_header(source: Source) -> Header:
    """Read the header from the beginning of a sealed dataset. It is not authenticated before the first chunk
    is.

    Raises:
        BadSealedStream: it is malformed, or of another version or suite.
    """
    return _read_head(source)[0]


def seal(source: Source, target: Sink, key: bytes, prefix: bytes, header: Header) -> int:
    """Seal all of ``source`` under ``key`` (32 bytes) and ``prefix`` (7 bytes), and return how long it was.

    Raises:
        BadSealedStream: key, prefix or header are not of their sizes, or there are more than 2^32 chunks.
    """
    head = _head(header)
    cipher, commitment = _derive(key, prefix, head)
    for part in (head, prefix, commitment):
        target.write(memoryview(part))
    size = header.chunk_bytes
    held, after = bytearray(size), bytearray(size)
    sealed = memoryview(bytearray(size + TAG_BYTES))
    length, total, count = _fill(source, held), 0, 0
    while True:
        more = _fill(source, after) if length == size else 0
        room = sealed[: length + TAG_BYTES]
        cipher.encrypt_into(_nonce(prefix, count, last=more == 0), memoryview(held)[:length], None, room)
        target.write(room)
        total, count = total + length, count + 1
        if more == 0:
            return total
        held, after, length = after, held, more


def unseal(source: Source, target: Sink, key: bytes) -> Header:
    """Open a sealed dataset into ``target``, and return its header.

    Where it raises, what ``target`` took is a true beginning, and no more: throw it away.

    Raises:
        BadSealedStream: it is not whole and unaltered, or not sealed under ``key``.
    """
    opened = Opening(source, key)
    buffer = memoryview(bytearray(opened.header.chunk_bytes))
    for chunk in opened.chunks(buffer):
        target.write(chunk)
    return opened.header


class Opening:
    """A sealed dataset whose header is bound to the key: made by reading its beginning, then read chunk by
    chunk."""

    def __init__(self, source: Source, key: bytes) -> None:
        """Read the beginning.

        Raises:
            BadSealedStream: it is malformed, or the key or the header is another than at its sealing.
        """
        self.header, head = _read_head(source)
        self._source = source
        self._prefix = _exactly(source, PREFIX_BYTES)
        self._cipher, commitment = _derive(key, self._prefix, head)
        if not hmac.compare_digest(commitment, _exactly(source, _COMMITMENT_BYTES)):
            raise BadSealedStream("this key does not open it, or its header was altered")

    def chunks(self, target: memoryview) -> Iterator[memoryview]:
        """Each chunk in turn, opened into ``target`` (``chunk_bytes`` long) and overwritten by the next one.

        Only when this has ended by itself is the dataset whole.

        Raises:
            BadSealedStream: a chunk is altered, missing, repeated or out of its place, or there is more or
            less.
        """
        size = self.header.chunk_bytes + TAG_BYTES
        held, after = bytearray(size), bytearray(size)
        length, count = _fill(self._source, held), 0
        while True:
            more = _fill(self._source, after) if length == size else 0
            yield self._opened(memoryview(held)[:length], count, more == 0, target)
            if more == 0:
                return
            held, after, length, count = after, held, more, count + 1

    def _opened(self, sealed: memoryview, count: int, last: bool, target: memoryview) -> memoryview:
        length = len(sealed) - TAG_BYTES
        if length < 0 or (length == 0 and count > 0):
            raise BadSealedStream(f"it ends within chunk {count}")
        room = target[:length]
        try:
            self._cipher.decrypt_into(_nonce(self._prefix, count, last=last), sealed, None, room)
        except InvalidTag as cause:
            raise BadSealedStream(
                f"chunk {count} is altered or not in its place, or the rest is missing"
            ) from cause
        return room


def _derive(key: bytes, prefix: bytes, head: bytes) -> tuple[AESGCM, bytes]:
    if len(key) != KEY_BYTES or len(prefix) != PREFIX_BYTES:
        raise BadSealedStream(f"a data key is {KEY_BYTES} bytes and a nonce prefix {PREFIX_BYTES}")
    length = KEY_BYTES + _COMMITMENT_BYTES
    made = HKDF(SHA256(), length, salt=prefix, info=MAGIC + hashlib.sha256(head).digest()).derive(key)
    return AESGCM(made[:KEY_BYTES]), made[KEY_BYTES:]


def _nonce(prefix: bytes, count: int, *, last: bool) -> bytes:
    if count >= MAX_CHUNKS:
        raise BadSealedStream(f"more than {MAX_CHUNKS} chunks: seal in larger ones")
    return prefix + count.to_bytes(4, "big") + bytes([last])


def _fill(source: Source, target: bytearray) -> int:
    """Read until ``target`` is full or the source ends, and return how many bytes came."""
    view, done = memoryview(target), 0
    while done < len(target):
        got = source.readinto(view[done:])
        if not got:
            break
        done += got
    return done


def _exactly(source: Source, length: int) -> bytes:
    target = bytearray(length)
    if _fill(source, target) != length:
        raise BadSealedStream("it ends before its first chunk")
    return bytes(target)


def _head(header: Header) -> bytes:
    document = header.document()
    _check_sizes(header, len(document))
    return MAGIC + len(document).to_bytes(4, "big") + document


def _check_sizes(header: Header, length: int) -> None:
    if not MIN_CHUNK_BYTES <= header.chunk_bytes <= MAX_CHUNK_BYTES:
        raise BadSealedStream(f"chunks are of {MIN_CHUNK_BYTES} to {MAX_CHUNK_BYTES} bytes")
    if length > MAX_HEADER_BYTES:
        raise BadSealedStream(f"a header of {length} bytes is over {MAX_HEADER_BYTES}: name fewer recipients")


def _read_head(source: Source) -> tuple[Header, bytes]:
    start = _exactly(source, len(MAGIC) + 4)
    length = int.from_bytes(start[len(MAGIC) :], "big")
    if not start.startswith(MAGIC) or length > MAX_HEADER_BYTES:
        raise BadSealedStream("not a sealed dataset of this version")
    document = _exactly(source, length)
    try:
        header = _header_of(parse_canonical(document, limit_bytes=MAX_HEADER_BYTES))
    except (NotCanonical, KeyError, TypeError, ValueError, AttributeError) as cause:
        raise BadSealedStream(f"its header is malformed ({cause})") from cause
    _check_sizes(header, length)
    if header.document() != document:
        raise BadSealedStream("its header is of another version or suite, or says more than it should")
    return header, start + document


def _header_of(body: Mapping[str, Any]) -> Header:
    """The header that a document says. What the document says otherwise is found by writing it again."""
    if type(body["chunk_bytes"]) is not int:
        raise BadSealedStream("chunk_bytes is no integer")
    return Header(
        task=hex32(body["task"]),
        dataset=hex32(body["dataset"]),
        algorithm=hex32(body["algorithm"]),
        evidence=hex32(body["evidence"]),
        recipients=tuple(_recipient_of(each) for each in body["recipients"]),
        chunk_bytes=body["chunk_bytes"],
    )


def _recipient_of(body: Mapping[str, Any]) -> Recipient:
    kid, wrapped = body["kid"], bytes.fromhex(body["wrapped"])
    if not isinstance(kid, str) or len(wrapped) > MAX_WRAPPED_BYTES:
        raise BadSealedStream("a recipient is malformed")
    return Recipient(kid, wrapped)
