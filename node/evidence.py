"""The evidence log: an append-only file of canonical JSON lines, and the RFC 9162 tree over them.

A record is on the disk before :meth:`EvidenceLog.append` returns, so a step that follows it is never without
it. Several processes append to one log: each takes the lock, reads what the others wrote, and adds its line.
A last line torn by a crash was relied on by nobody; it is cut, and the cut is itself recorded.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import sys
import threading
import time
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate, repeat
from pathlib import Path
from typing import Any, BinaryIO

from sealtrace.node.errors import DiskFull, EvidenceTampered, RecordNotFound
from sealtrace.node.lines import Entry, lines
from sealtrace.protocol.evidence import MAX_RECORD_BYTES, Kind, Record, read_record
from sealtrace.protocol.identifiers import Address, Hex32, hex32
from sealtrace.protocol.merkle import MerkleTree, leaf_hash
from sealtrace.protocol.records import Checkpoint

SEGMENT_BYTES = 64 << 20
_READ_BYTES = 1 << 20

# The canonical form sorts keys: after "body" a record always ends like this.
_END = re.compile(
    rb'"index":(\d{1,15}),"kind":"([a-z]+\.[a-z]+)","node":"(0x[0-9a-f]{40})",'
    rb'"task":(?:null|"(0x[0-9a-f]{64})"),"version":"sealtrace\.evidence/1"\}$'
)


class EvidenceLog:
    """One node's log in ``folder``.

    ``anchored`` is the checkpoint the chain holds; a log that does not contain it does not open.

    Raises:
        EvidenceTampered: on construction, see above, or a line in the middle is no record.
    """

    def __init__(
        self,
        folder: Path,
        node: Address,
        *,
        anchored: Checkpoint | None = None,
        clock: Callable[[], float] = time.time,
        write: Callable[[BinaryIO, bytes], None] | None = None,
    ) -> None:
        self._folder = folder
        self._node = node
        self._clock = clock
        self._write = write or _durably
        self._thread = threading.RLock()
        self._tree = MerkleTree()
        # Of each record, where it is and what it speaks of; columns, because a log has millions.
        self._segments, self._offsets, self._lengths = array("I"), array("Q"), array("I")
        self._kinds: list[str] = []
        self._of_task: dict[Hex32, list[int]] = defaultdict(list)
        self._segment, self._offset = 0, 0
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._open()
        if anchored is not None:
            self.require(anchored)

    def __len__(self) -> int:
        return len(self._tree)

    def append(self, kind: Kind, body: dict[str, Any], task: Hex32 | None = None) -> Record:
        """Add one record and return it once it is on the disk.

        Raises:
            DiskFull: it is not, and the log is as it was.
        """
        with self._locked():
            return self._append(kind, body, task)

    def append_all(self, entries: Sequence[Entry]) -> range:
        """Add many records with one write, and return their indexes once all are on the disk.

        Where the process dies in between, the log may hold the first of them: they are true, and nobody was
        told of them.

        Raises:
            DiskFull: they are not, and the log is as it was.
            NotCanonical, ValidationError, ValueError: one is no record; nothing was written.
        """
        with self._locked():
            first, at = len(self._tree), int(self._clock())
            made = lines(entries, first=first, at=at, node=self._node)
            _require_size(max(map(len, made), default=0))
            if made:
                self._write_lines(made)
            self._enter(made, [each.kind for each in entries], [each.task for each in entries])
            return range(first, len(self._tree))

    def append_once(self, kind: Kind, body: dict[str, Any], task: Hex32) -> Record:
        """Add the record unless the log has one of this kind for ``task``; return the one it has.

        Raises:
            DiskFull: as :meth:`append`.
        """
        with self._locked():
            known = self._last(task, kind)
            return known if known is not None else self._append(kind, body, task)

    def last(self, task: Hex32, kind: Kind) -> Record | None:
        """The last record of ``kind`` for ``task``."""
        with self._locked():
            return self._last(task, kind)

    def of_task(self, task: Hex32) -> list[Record]:
        """All records of ``task`` in their order."""
        with self._locked():
            return [self._record(index) for index in self._of_task.get(task, ())]

    def record(self, index: int) -> Record:
        """The record at ``index``.

        Raises:
            RecordNotFound: the log is not that long.
        """
        with self._locked():
            return self._record(index)

    def since(self, first: int) -> list[Record]:
        """The records from ``first`` on."""
        with self._locked():
            return [self._record(index) for index in range(first, len(self._tree))]

    def root(self, size: int | None = None) -> Hex32:
        """The root of the first ``size`` records (default: all)."""
        with self._locked():
            return hex32(self._tree.root(size))

    def checkpoint(self) -> Checkpoint:
        """Size and root of the log as it is now."""
        with self._locked():
            return Checkpoint(self._node, len(self._tree), hex32(self._tree.root()))

    def inclusion(self, index: int, size: int | None = None) -> list[Hex32]:
        """The proof that record ``index`` is among the first ``size`` (RFC 9162 §2.1.3.1).

        Raises:
            RecordNotFound: it is not.
        """
        with self._locked():
            try:
                return [hex32(each) for each in self._tree.inclusion(index, size)]
            except IndexError as cause:
                raise RecordNotFound(str(cause)) from cause

    def consistency(self, old: int, size: int | None = None) -> list[Hex32]:
        """The proof that the first ``old`` records are a prefix of the first ``size`` (§2.1.4.1).

        Raises:
            RecordNotFound: they are not.
        """
        with self._locked():
            try:
                return [hex32(each) for each in self._tree.consistency(old, size)]
            except IndexError as cause:
                raise RecordNotFound(str(cause)) from cause

    def lines(self, first: int = 0, size: int | None = None) -> Iterator[bytes]:
        """The lines ``first`` to ``size`` as they are on the disk, each with its newline."""
        with self._locked():
            indexes = range(len(self._tree))[first:size]
        for index in indexes:
            yield self._line(index) + b"\n"

    def require(self, anchored: Checkpoint) -> None:
        """Refuse a log that does not begin with what was anchored.

        Raises:
            EvidenceTampered: it is shorter, or its first records are others.
        """
        if len(self) < anchored.size:
            raise EvidenceTampered(
                f"the evidence log has {len(self)} records, the chain anchors {anchored.size}"
            )
        if anchored.size and self.root(anchored.size) != anchored.root:
            raise EvidenceTampered(
                f"the first {anchored.size} records have the root {self.root(anchored.size)}, "
                f"the chain anchors {anchored.root}"
            )

    # --- under the lock

    def _append(self, kind: Kind, body: dict[str, Any], task: Hex32 | None) -> Record:
        index = len(self._tree)
        at = int(self._clock())
        record = Record(index=index, at=at, node=self._node, kind=kind.value, task=task, body=body)
        text = record.line()
        _require_size(len(text))
        self._write_lines([text])
        self._enter([text], [kind], [task])
        return record

    def _write_lines(self, lines: Sequence[bytes]) -> None:
        """Put lines on the disk; :meth:`_enter` then has to know of each."""
        if self._offset >= SEGMENT_BYTES:
            self._segment, self._offset = self._segment + 1, 0
        path = self._path(self._segment)
        with path.open("ab") as file:
            try:
                self._write(file, b"\n".join([*lines, b""]))
            except OSError as cause:
                os.ftruncate(file.fileno(), self._offset)
                if cause.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                    raise
                raise DiskFull(f"{path}: no room for the next record") from cause
        if self._offset == 0:
            _sync_directory(self._folder)

    def _take(self, lines: Sequence[bytes]) -> None:
        """Enter lines that are on the disk into the tree."""
        node, offset = self._node.encode(), self._offset
        kinds: list[str] = []
        tasks: list[Hex32 | None] = []
        for index, line in enumerate(lines, len(self._tree)):
            end = _END.search(line)
            if end is None or int(end[1]) != index or end[3] != node:
                raise EvidenceTampered(
                    f"{self._path(self._segment)}, byte {offset}: not record {index} of this node"
                )
            offset += len(line) + 1
            kinds.append(sys.intern(end[2].decode()))
            tasks.append(Hex32(end[4].decode()) if end[4] else None)
        self._enter(lines, kinds, tasks)

    def _enter(self, lines: Sequence[bytes], kinds: Sequence[str], tasks: Sequence[Hex32 | None]) -> None:
        """Remember where each line is and what it speaks of, and grow the tree."""
        for index, task in enumerate(tasks, len(self._tree)):
            if task:
                self._of_task[task].append(index)
        *offsets, self._offset = accumulate((len(line) + 1 for line in lines), initial=self._offset)
        self._segments.extend(repeat(self._segment, len(lines)))
        self._offsets.extend(offsets)
        self._lengths.extend(map(len, lines))
        self._kinds.extend(kinds)
        self._tree.extend(map(leaf_hash, lines))

    def _catch_up(self) -> bytes:
        """Read what other processes appended; returns a torn last line, where there is one."""
        while True:
            torn = self._read_segment()
            if torn or not self._path(self._segment + 1).exists():
                return torn
            self._segment, self._offset = self._segment + 1, 0

    def _read_segment(self) -> bytes:
        rest = b""
        try:
            file = self._path(self._segment).open("rb")
        except FileNotFoundError:
            return rest
        with file:
            if os.fstat(file.fileno()).st_size < self._offset:
                raise EvidenceTampered(f"{file.name} became shorter while it was open")
            file.seek(self._offset)
            while part := file.read(_READ_BYTES):
                *lines, rest = (rest + part).split(b"\n")
                self._take(lines)
        return rest

    def _open(self) -> None:
        with self._locking():
            if torn := self._catch_up():
                self._cut(torn)
            elif not len(self._tree):
                self._append(Kind.NODE_OPENED, {"cut_bytes": 0}, None)

    def _cut(self, torn: bytes) -> None:
        os.truncate(self._path(self._segment), self._offset)
        digest = hex32(hashlib.sha256(torn).digest())
        self._append(Kind.NODE_OPENED, {"cut_bytes": len(torn), "cut_digest": digest}, None)

    def _last(self, task: Hex32, kind: Kind) -> Record | None:
        found = [index for index in self._of_task.get(task, ()) if self._kinds[index] == kind]
        return self._record(found[-1]) if found else None

    def _record(self, index: int) -> Record:
        if not 0 <= index < len(self._tree):
            raise RecordNotFound(f"the log has {len(self._tree)} records, none at {index}")
        return read_record(self._line(index))

    def _line(self, index: int) -> bytes:
        with self._path(self._segments[index]).open("rb") as file:
            file.seek(self._offsets[index])
            return file.read(self._lengths[index])

    def _path(self, segment: int) -> Path:
        return self._folder / f"{segment:06d}.jsonl"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._locking():
            if torn := self._catch_up():  # a process died while it appended, after we had opened
                self._cut(torn)
            yield

    @contextmanager
    def _locking(self) -> Iterator[None]:
        with self._thread, (self._folder / "lock").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _require_size(longest: int) -> None:
    if longest > MAX_RECORD_BYTES:
        raise ValueError(f"a record of {longest} bytes is over {MAX_RECORD_BYTES}")


def _durably(file: BinaryIO, line: bytes) -> None:
    file.write(line)
    file.flush()
    os.fsync(file.fileno())


def _sync_directory(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
