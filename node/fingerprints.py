"""Fingerprint a file on all cores: constant memory for the content, 32 bytes for each MiB of it."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from sealtrace.node.errors import DatasetUnreadable
from sealtrace.protocol.fingerprint import PIECE_BYTES, root_of
from sealtrace.protocol.identifiers import Hex32

_PIECES_AT_ONCE = 1024


@dataclass(frozen=True, slots=True)
class Identity:
    """Which file, and in which state: a change of its content changes ``changed_ns``, which no user sets."""

    device: int
    inode: int
    bytes: int
    changed_ns: int


class FileChanged(DatasetUnreadable):
    """The file was written to while it was read."""

    next_step = "Let nobody write to a dataset that is in use."


def identity(path: Path) -> Identity:
    """The identity of the file at ``path`` as it is now.

    Raises:
        DatasetUnreadable: there is none, or it is no regular file.
    """
    try:
        return _identity(os.stat(path))
    except OSError as cause:
        raise DatasetUnreadable(f"{path.name}: {cause.strerror}") from cause


def fingerprint_file(path: Path, threads: int | None = None) -> tuple[Hex32, Identity]:
    """The root over the file's pieces of 1 MiB, and the identity of the file it is the root of.

    Raises:
        DatasetUnreadable: the file cannot be read.
        FileChanged: it changed meanwhile.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as cause:
        raise DatasetUnreadable(f"{path.name}: {cause.strerror}") from cause
    try:
        before = _identity(os.fstat(descriptor))
        root = root_of(_leaves(descriptor, before.bytes, threads or min(8, os.cpu_count() or 1)))
        if _identity(os.fstat(descriptor)) != before:
            raise FileChanged(f"{path.name} changed while it was read")
    except IsADirectoryError as cause:
        raise DatasetUnreadable(f"{path.name} is a directory") from cause
    finally:
        os.close(descriptor)
    return root, before


def _leaves(descriptor: int, size: int, threads: int) -> list[bytes]:
    """The leaf hashes in order. Hashing and reading both let other threads run."""
    offsets = range(0, size, PIECE_BYTES)
    leaves: list[bytes] = []
    with ThreadPoolExecutor(threads) as pool:
        for first in range(0, len(offsets), _PIECES_AT_ONCE):  # so that no future is made for each piece
            batch = offsets[first : first + _PIECES_AT_ONCE]
            leaves += pool.map(lambda offset: _leaf(descriptor, offset, size), batch)
    return leaves


def _leaf(descriptor: int, offset: int, size: int) -> bytes:
    """``SHA-256(0x00 ‖ piece)`` (RFC 9162 §2.1.1), without copying the piece."""
    hasher = hashlib.sha256(b"\0")
    left = min(PIECE_BYTES, size - offset)
    while left:
        part = os.pread(descriptor, left, offset)
        if not part:
            raise FileChanged("the file became shorter while it was read")
        hasher.update(part)
        offset, left = offset + len(part), left - len(part)
    return hasher.digest()


def _identity(status: os.stat_result) -> Identity:
    return Identity(status.st_dev, status.st_ino, status.st_size, status.st_ctime_ns)
