"""Keys and plaintexts that leave nothing behind: one buffer, filled in place, overwritten at the end.

A ``bytes`` object cannot be wiped, and each slice, decoding or concatenation of it is another copy that stays
after the object is gone. So secrets are read (:func:`fill`) or decrypted (``AESGCM.decrypt_into``) into a
:class:`Buffer` and used there. This narrows the window; what really wipes is the end of the process, so one
job has one process.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TypeAlias

Writable: TypeAlias = "bytearray | memoryview | mmap.mmap"

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_DUMPABLE = 4
_MADV_WIPEONFORK = 18
"""madvise(2), Linux 4.14."""
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4
"""mlockall(2): what is mapped, what will be, and each page only once it is touched."""


class InputEnded(ValueError):
    """Fewer bytes came than were announced; ask for the input again."""


@dataclass(frozen=True, slots=True)
class Hardening:
    """What the kernel granted this process. It goes into no evidence: a process's word on itself proves
    nothing."""

    undumpable: bool
    """No core dump, and no debugger of the same user (prctl(2), PR_SET_DUMPABLE)."""
    locked: bool
    """No page is written to swap (mlockall(2)). Ordinary users may lock 8 MiB by default, which is too
    little."""


def harden() -> Hardening:
    """Keep this process's memory out of core dumps, debuggers and swap, as far as the kernel allows.

    Afterwards ``/proc/self`` belongs to root: call it in the process of a job, not in a whole worker.
    """
    undumpable = _LIBC.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) == 0
    locked = _LIBC.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT) == 0
    return Hardening(undumpable, locked)


class Buffer:
    """Memory of its own for one secret: whole pages, not copied to children, not dumped, locked if
    allowed."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._pages = mmap.mmap(-1, max(size, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        for advice in (mmap.MADV_DONTDUMP, _MADV_WIPEONFORK):
            try:
                self._pages.madvise(advice)
            except OSError as error:
                if error.errno != errno.EINVAL:  # an old kernel does not know it
                    raise
        self.locked = _LIBC.mlock(ctypes.c_void_p(_address(self._pages)), ctypes.c_size_t(size)) == 0

    @property
    def view(self) -> memoryview:
        """The bytes themselves. Slices of it are views, not copies."""
        return memoryview(self._pages)[: self.size]

    def wipe(self) -> None:
        """Overwrite, and give the pages back. Safe to do twice."""
        if not self._pages.closed:
            wipe(self._pages)
            with suppress(BufferError):  # a slice is still held: it shows zeros
                self._pages.close()


@contextmanager
def buffer(size: int) -> Iterator[memoryview]:
    """``size`` bytes that are overwritten at the end, whatever happens."""
    held = Buffer(size)
    view = held.view
    try:
        yield view
    finally:
        wipe(view)
        view.release()
        held.wipe()


def wipe(secret: Writable) -> None:
    """Overwrite in place with zeros, by a call that no optimiser sees through.

    Raises:
        TypeError: it cannot be written, so it cannot be wiped: ``bytes`` and ``str`` are such.
    """
    length = len(secret)
    if length:
        ctypes.memset(_address(secret), 0, length)


def fill(descriptor: int, target: memoryview) -> None:
    """Read exactly ``len(target)`` bytes into place, with no buffer between.

    Raises:
        InputEnded: fewer came.
    """
    done = 0
    while done < len(target):
        got = os.readv(descriptor, [target[done:]])
        if got == 0:
            raise InputEnded(f"{done} bytes came, {len(target)} were announced")
        done += got


def _address(secret: Writable) -> int:
    """Where it lies. The export ends with this call, so the object may be closed afterwards."""
    return ctypes.addressof((ctypes.c_char * len(secret)).from_buffer(secret))
