"""The log of reads: who was given what and when, as an RFC 9162 tree over canonical JSON lines.

A read is on the disk before its answer goes out. Whoever keeps this log could rewrite all of it, so every
answer tells the log's size and root: held to one of these, a log that was rewritten, cut or forked is found
out. Its own checkpoint beside it shows what was done to the log alone.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sealtrace.protocol.canonical import NotCanonical, canonical, parse, parse_canonical, sha256
from sealtrace.protocol.identifiers import Hex32, Hex32Field, MalformedIdentifier, hex32
from sealtrace.protocol.merkle import MerkleTree, leaf_hash

VERSION: Final = "sealtrace.audit-read/1"
LOG, CHECKPOINT = "reads.jsonl", "checkpoint.json"
MAX_LINE_BYTES: Final = 16 << 10
LONGEST_WHAT: Final = 2000
"""Characters of a request's line that are kept."""


class ReadsTampered(ValueError):
    """The log of reads is not as it was written: keep it as it is, and find out who changed it."""


class ReadsUnwritable(OSError):
    """A read cannot be logged, so nothing is given: see to the auditor's disk."""


class ReadNotFound(LookupError):
    """The log of reads is not as long as that: ask from a size that an answer told of."""


class CheckpointMalformed(ValueError):
    """What the log is to be held to is not SIZE:ROOT, as the header X-Sealtrace-Reads of an answer has it."""


class Read(BaseModel):
    """One answer: ``who`` (a token's name) was given for ``what`` (method and path) the bytes of ``sha256``.

    ``at`` is the service's clock in Unix seconds. The log itself speaks as ``service``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    version: Literal["sealtrace.audit-read/1"] = VERSION
    index: int = Field(ge=0)
    at: int
    who: str
    what: str
    status: int
    sha256: Hex32Field
    size: int = Field(ge=0)

    def line(self) -> bytes:
        """The canonical bytes of this entry, the leaf of the log's tree."""
        return canonical(self.model_dump(mode="json"))


@dataclass(frozen=True, slots=True)
class Head:
    """How many reads a log holds, and the root over them."""

    size: int
    root: Hex32

    def __str__(self) -> str:
        return f"{self.size}:{self.root}"


def head(text: str) -> Head:
    """Read ``SIZE:ROOT``.

    Raises:
        CheckpointMalformed: it is not that.
    """
    size, _, root = text.partition(":")
    try:
        if not (size.isascii() and size.isdigit() and len(size) < 16):
            raise CheckpointMalformed(f"{text[:100]!r}: the form is SIZE:ROOT")
        return Head(int(size), hex32(root))
    except MalformedIdentifier as cause:
        raise CheckpointMalformed(f"{text[:100]!r}: {cause}") from cause


def verified(lines: Iterable[bytes], held: Sequence[Head] = ()) -> tuple[Head, list[Read]]:
    """Read a log's ``lines`` (with their ends) and hold them to ``held``.

    Raises:
        ReadsTampered: a line is not the next entry, or the log does not begin with what it is held to.
    """
    tree, reads = MerkleTree(), []
    for line in lines:
        reads.append(_entry(line, len(tree)))
        tree.extend([leaf_hash(line.removesuffix(b"\n"))])
    for each in held:
        _require(tree, each)
    return Head(len(tree), hex32(tree.root())), reads


def lines_of(path: Path) -> Iterator[bytes]:
    """The lines of a log, none read further than one may be long; none where there is no log yet."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        while line := file.readline(MAX_LINE_BYTES + 2):
            yield line


def _entry(line: bytes, index: int) -> Read:
    try:
        if not line.endswith(b"\n"):
            raise ReadsTampered(f"read {index} is cut short")
        found = Read.model_validate(parse_canonical(line[:-1], limit_bytes=MAX_LINE_BYTES))
    except (NotCanonical, ValidationError) as cause:
        raise ReadsTampered(f"read {index} is no entry: {str(cause)[:200]}") from cause
    if found.index != index:
        raise ReadsTampered(f"read {found.index} stands where read {index} belongs")
    return found


def _require(tree: MerkleTree, held: Head) -> None:
    if len(tree) < held.size:
        raise ReadsTampered(f"the log has {len(tree)} reads, and had {held.size}")
    if (root := hex32(tree.root(held.size))) != held.root:
        raise ReadsTampered(f"the first {held.size} reads have the root {root}, and had {held.root}")


class ReadLog:
    """The log in ``folder``, for the one process that writes it.

    Raises:
        ReadsTampered: on construction, it is not as it was written. A last line torn by a crash is cut, and
            the cut is itself an entry: no answer had gone out for it.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._clock = clock
        self._lock = threading.Lock()
        self._tree = MerkleTree()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._alone():
            torn = _cut_torn(folder / LOG)
            for line in lines_of(folder / LOG):
                _entry(line, len(self._tree))
                self._tree.extend([leaf_hash(line.removesuffix(b"\n"))])
            _require(self._tree, _kept(folder / CHECKPOINT, len(self._tree)))
            self._written = (folder / LOG).stat().st_size if (folder / LOG).exists() else 0
        if torn:
            self.append("service", f"cut {len(torn)} bytes torn by a crash", 0, sha256(torn), len(torn))

    def head(self) -> Head:
        """Size and root of the log as it is now."""
        with self._lock:
            return Head(len(self._tree), hex32(self._tree.root()))

    def consistency(self, old: int) -> tuple[Head, list[Hex32]]:
        """The head now, and the proof that the first ``old`` reads are a prefix of it (RFC 9162 §2.1.4.1).

        Raises:
            ReadNotFound: there are not that many.
        """
        with self._lock:
            now = Head(len(self._tree), hex32(self._tree.root()))
            try:
                return now, [hex32(each) for each in self._tree.consistency(old)]
            except IndexError as cause:
                raise ReadNotFound(f"{old} reads: {cause}") from cause

    def append(self, who: str, what: str, status: int, digest: Hex32, size: int) -> Head:
        """Log that ``who`` is given for ``what`` the ``size`` bytes of ``digest``; once this returns it is on
        the disk.

        Raises:
            ReadsUnwritable: it is not, or its checkpoint is not.
            ReadsTampered: somebody else changed the file.
        """
        with self._lock, self._alone():
            entry = Read(
                index=len(self._tree),
                at=int(self._clock()),
                who=who,
                what=what[:LONGEST_WHAT],
                status=status,
                sha256=digest,
                size=size,
            )
            line = entry.line()
            self._put(line + b"\n")
            self._tree.extend([leaf_hash(line)])
            return self._note()

    def _put(self, line: bytes) -> None:
        path = self._folder / LOG
        try:
            with path.open("ab") as file:
                if file.tell() != self._written:
                    raise ReadsTampered(f"{path} has {file.tell()} bytes, and {self._written} were written")
                _durably(file, line, self._written)
        except OSError as cause:
            raise ReadsUnwritable(f"{path}: {cause.strerror}") from cause
        self._written += len(line)

    def _note(self) -> Head:
        now = Head(len(self._tree), hex32(self._tree.root()))
        part = self._folder / (CHECKPOINT + ".part")
        try:
            with part.open("wb") as file:
                _durably(file, json.dumps({"size": now.size, "root": now.root}).encode(), 0)
            part.replace(self._folder / CHECKPOINT)
        except OSError as cause:
            raise ReadsUnwritable(f"{part}: {cause.strerror}") from cause
        return now

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with (self._folder / "lock").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def stored(folder: Path, held: Sequence[Head] = ()) -> tuple[Head, list[Read]]:
    """The log in ``folder`` without changing anything, held to its own checkpoint and to ``held``.

    Raises:
        ReadsTampered: it is not as it was written.
    """
    if not folder.is_dir():
        return verified([], held)
    with (folder / "lock").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        lines = list(lines_of(folder / LOG))
        own = _kept(folder / CHECKPOINT, len(lines))
    if lines and not lines[-1].endswith(b"\n") and len(lines) > own.size:
        lines.pop()  # torn by a crash: the service cuts it when it starts
    return verified(lines, [own, *held])


def _kept(path: Path, lines: int) -> Head:
    """The log's own checkpoint; a log without one has no line, or the first one was written in a crash."""
    try:
        found = parse(path.read_bytes(), limit_bytes=MAX_LINE_BYTES)
        return head(f"{found['size']}:{found['root']}")
    except FileNotFoundError as cause:
        if lines > 1:
            raise ReadsTampered(f"{path} is gone, and the log has {lines} reads") from cause
        return Head(0, hex32(MerkleTree().root()))
    except (NotCanonical, KeyError, TypeError, CheckpointMalformed) as cause:
        raise ReadsTampered(f"{path} is no checkpoint: {cause}") from cause


def _cut_torn(path: Path) -> bytes:
    """Cut what stands after the last line end, and return it."""
    torn, size = b"", 0
    for line in lines_of(path):
        if line.endswith(b"\n"):
            size += len(line)
        else:
            torn += line
    if torn:
        os.truncate(path, size)
    return torn


def _durably(file: IO[bytes], line: bytes, before: int) -> None:
    try:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
    except OSError:
        os.ftruncate(file.fileno(), before)
        raise
