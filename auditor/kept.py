"""What was read of a chain, kept in a folder, from which a later audit goes on.

Three files: the logs of our contracts, the blocks (hash and time of each), and a bookmark that says how far
the other two count and what they hash to. The two grow at their ends; the bookmark is replaced whole, last.
So a process may be killed at any moment, and the reading goes on from the bookmark before.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

import msgspec

from sealtrace.auditor.case import Replaced
from sealtrace.auditor.headers import RawLog
from sealtrace.auditor.reading import Blocks, Standing
from sealtrace.auditor.seals import Follower
from sealtrace.protocol.identifiers import Address, UnixSeconds, hex32, raw
from sealtrace.protocol.records import BlockRef

VERSION: Final = "sealtrace.audit-reading/1"
LOGS_PER_FRAME: Final = 1_000
_BLOCK: Final = 40
_LENGTH: Final = 4


class ReadingDamaged(ValueError):
    """A kept reading's files are not what its bookmark says: remove the folder, and read from the start."""


class ReadingOfAnother(ValueError):
    """The folder keeps a reading of another chain, of other contracts, or read in another way: name another
    folder."""


class ReadingInUse(RuntimeError):
    """Another audit is reading into the folder: wait until it has ended."""


class Subject(msgspec.Struct, frozen=True):
    """What is read, and whether the endpoint is taken at its word."""

    chain_id: int
    directory: Address
    trusting: bool
    validators: tuple[Address, ...] = ()


class Extent(msgspec.Struct):
    """How many bytes of a file count, and their SHA-256."""

    size: int = 0
    sha256: str = hashlib.sha256(b"").hexdigest()


class Bookmark(msgspec.Struct):
    """How far the reading has come."""

    version: str
    subject: Subject
    contracts: dict[Address, str]
    standing: Standing
    logs: Extent
    blocks: Extent


class _Growing:
    """A file that grows at its end, and the hash of all of it."""

    def __init__(self, path: Path, extent: Extent) -> None:
        self._file = path.open("r+b" if path.exists() else "w+b")
        self._hash = hashlib.sha256()
        self.size = extent.size
        left = extent.size
        while left and (part := self._file.read(min(left, 1 << 20))):
            self._hash.update(part)
            left -= len(part)
        if left or self._hash.hexdigest() != extent.sha256:
            self._file.close()
            raise ReadingDamaged(f"{path} is not what its bookmark says")
        self._file.truncate()

    def add(self, content: bytes) -> None:
        self._file.seek(self.size)
        self._file.write(content)
        self._hash.update(content)
        self.size += len(content)

    def forget(self) -> None:
        """Begin at the front; what is there is written over."""
        self._hash, self.size = hashlib.sha256(), 0

    def saved(self) -> Extent:
        self._file.flush()
        os.fsync(self._file.fileno())
        return Extent(self.size, self._hash.hexdigest())

    def parts(self) -> Iterator[bytes]:
        """The content as it was framed: a length, then as many bytes."""
        place = 0
        while place < self.size:
            self._file.seek(place)
            length = int.from_bytes(self._file.read(_LENGTH), "big")
            yield self._file.read(length)
            place += _LENGTH + length

    def whole(self) -> bytes:
        self._file.seek(0)
        return self._file.read(self.size)

    def close(self) -> None:
        self._file.close()


class KeptReading:
    """A reading in ``folder``, which is made where there is none; closed by ``with``.

    ``contracts`` are those that the directory names by now. Where they have become more since, their logs of
    old are missing from what was kept, and the reading begins anew; so it does after a block was replaced.

    Raises:
        ReadingDamaged, ReadingOfAnother, ReadingInUse: on construction, it cannot be gone on with.
    """

    def __init__(self, folder: Path, subject: Subject, contracts: Mapping[Address, str]) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._subject = subject
        self._contracts = dict(contracts)
        with ExitStack() as stack:
            stack.enter_context(_locked(folder))
            known = self._bookmark()
            self.complete = known is not None and known.contracts == self._contracts
            """Whether all that was kept still counts."""
            self.standing: Standing | None = known.standing if known else None
            self._logs = _Growing(folder / "logs.msgpack", known.logs if known else Extent())
            stack.callback(self._logs.close)
            self._blocks_file = _Growing(folder / "blocks.bin", known.blocks if known else Extent())
            stack.callback(self._blocks_file.close)
            self.blocks = self._read_blocks()
            self._frame: list[RawLog] = []
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._stack.close()

    @property
    def last(self) -> BlockRef | None:
        """The last block that was read."""
        return self.blocks.ref(self.blocks.first + len(self.blocks) - 1)

    def restart(self, first: int, replaced: list[Replaced]) -> None:
        """Forget all but which blocks were ``replaced``, and begin at the block ``first``."""
        self._logs.forget()
        self._blocks_file.forget()
        seals = Follower(frozenset(self._subject.validators))
        self.standing = Standing(first, self._subject.trusting, replaced=replaced, seals=seals)
        self.blocks = Blocks(first)
        self.save()

    def add(self, block: BlockRef, logs: list[RawLog]) -> None:
        """Keep the next block and its logs."""
        self.blocks.add(block)
        self._blocks_file.add(raw(block.hash) + int(block.timestamp).to_bytes(8, "big"))
        self._frame += logs
        if len(self._frame) >= LOGS_PER_FRAME:
            self._write_frame()

    def save(self) -> None:
        """Make what was added count."""
        self._write_frame()
        assert self.standing is not None  # noqa: S101 - a reading has begun
        logs, blocks = self._logs.saved(), self._blocks_file.saved()
        bookmark = Bookmark(VERSION, self._subject, self._contracts, self.standing, logs, blocks)
        fresh = self._folder / "bookmark.json.part"
        with fresh.open("wb") as file:
            file.write(msgspec.json.encode(bookmark))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._folder / "bookmark.json")

    def logs(self) -> Iterator[list[RawLog]]:
        """All logs that were kept, in order."""
        decoder = msgspec.msgpack.Decoder(list[RawLog])
        for part in self._logs.parts():
            yield decoder.decode(part)

    def _bookmark(self) -> Bookmark | None:
        path = self._folder / "bookmark.json"
        if not path.exists():
            return None
        try:
            found = msgspec.json.decode(path.read_bytes(), type=Bookmark)
        except msgspec.DecodeError as cause:
            raise ReadingDamaged(f"{path}: {cause}") from cause
        if found.version != VERSION or found.subject != self._subject:
            raise ReadingOfAnother(f"{path} is of {found.version}, {found.subject}; this is {self._subject}")
        return found

    def _read_blocks(self) -> Blocks:
        found = Blocks(self.standing.first if self.standing else 0)
        content = self._blocks_file.whole()
        for number, place in enumerate(range(0, len(content), _BLOCK), found.first):
            digest, time = content[place : place + 32], content[place + 32 : place + _BLOCK]
            found.add(BlockRef(number, hex32(digest), UnixSeconds(int.from_bytes(time, "big"))))
        return found

    def _write_frame(self) -> None:
        if self._frame:
            content = msgspec.msgpack.encode(self._frame)
            self._logs.add(len(content).to_bytes(_LENGTH, "big") + content)
            self._frame = []


def _locked(folder: Path) -> IO[str]:
    file = (folder / "lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as cause:
        file.close()
        raise ReadingInUse(f"{folder}: another audit reads into it") from cause
    return file
