"""Sealed outputs as files: each written whole or not at all, and named by its digest."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sealtrace.protocol.identifiers import Address, Hex32
from sealtrace.scheduler.errors import OutputDamaged, OutputDigestWrong, RequestTooLarge, StorageFull

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_ABANDONED_SECONDS = 3600


class Incoming:
    """A file being received; it becomes visible by :meth:`keep` only."""

    def __init__(self, path: Path, descriptor: int, limit_bytes: int, sync: Callable[[int], None]) -> None:
        self._path = path
        self._descriptor = descriptor
        self._left = limit_bytes
        self._limit = limit_bytes
        self._sync = sync
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, piece: bytes) -> None:
        """Add ``piece``.

        Raises:
            RequestTooLarge, StorageFull: nothing will be kept.
        """
        self._left -= len(piece)
        if self._left < 0:
            raise RequestTooLarge(self._limit)
        self._hash.update(piece)
        self.size += len(piece)
        with _full_disk_named():
            _write_all(self._descriptor, piece)

    def keep(self, final: Path, digest: Hex32) -> None:
        """Make the file durable as ``final``, if it has ``digest``.

        Raises:
            OutputDigestWrong, StorageFull: nothing is kept.
        """
        observed = Hex32("0x" + self._hash.hexdigest())
        if observed != digest:
            raise OutputDigestWrong(digest, observed)
        with _full_disk_named():
            self._sync(self._descriptor)
            final.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._path.replace(final)
            _sync_folder(final.parent)


class SealedFiles:
    """The folder of sealed outputs. ``sync`` forces a file to disk."""

    def __init__(self, folder: Path, limit_bytes: int, sync: Callable[[int], None] = os.fsync) -> None:
        self._folder = folder
        self._limit = limit_bytes
        self._sync = sync
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    @contextmanager
    def receive(self) -> Iterator[Incoming]:
        """A new file; whatever happens inside, nothing half written stays."""
        with _full_disk_named():
            descriptor, name = tempfile.mkstemp(suffix=".part", dir=self._folder)
        try:
            yield Incoming(Path(name), descriptor, self._limit, self._sync)
        finally:
            os.close(descriptor)
            Path(name).unlink(missing_ok=True)

    def path(self, task: Hex32, party: Address, digest: Hex32) -> Path:
        """Where the output of ``party`` with ``digest`` lies. All three are hexadecimal texts."""
        return self._folder / task / f"{party}.{digest}.sealed"

    def read(self, task: Hex32, party: Address, digest: Hex32) -> bytes:
        """The bytes of an output, as they were received.

        Raises:
            OutputDamaged: the file is gone, or no longer has ``digest``.
        """
        try:
            content = self.path(task, party, digest).read_bytes()
        except FileNotFoundError as cause:
            raise OutputDamaged(task, party) from cause
        if "0x" + hashlib.sha256(content).hexdigest() != digest:
            raise OutputDamaged(task, party)
        return content

    def discard(self, task: Hex32) -> None:
        """Delete all outputs of ``task``."""
        shutil.rmtree(self._folder / task, ignore_errors=True)

    def sweep(self) -> None:
        """Delete what receptions that were cut off by a crash left behind."""
        for path in self._folder.glob("*.part"):
            if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                path.unlink(missing_ok=True)


@contextmanager
def _full_disk_named() -> Iterator[None]:
    try:
        yield
    except OSError as cause:
        if cause.errno in _FULL:
            raise StorageFull("no room for the output") from cause
        raise


def _write_all(descriptor: int, piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        view = view[os.write(descriptor, view) :]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
