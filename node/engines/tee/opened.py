"""An owner's input as the enclave holds it: in memory of its own, written once, erased at the end."""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from sealtrace.node.engines.errors import ProtocolViolated
from sealtrace.node.engines.tee.memory import wipe
from sealtrace.node.engines.tee.sealing import Blinded, Popped, unwrapped
from sealtrace.protocol.identifiers import Address, Hex32
from sealtrace.protocol.sealed_stream import BadSealedStream, Header, unseal

_FUTURE_WRITE = 0x10  # F_SEAL_FUTURE_WRITE, which fcntl does not name before Python 3.13
_ZEROS = bytes(1 << 20)
_NO_CHANGE = _FUTURE_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class Opened:
    """The bytes of one input, in a file that has no name and lies in memory (memfd_create(2))."""

    def __init__(self) -> None:
        self._file = os.memfd_create("input", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        self._frozen: mmap.mmap | None = None
        self.descriptor = os.open(f"/proc/self/fd/{self._file}", os.O_RDONLY | os.O_CLOEXEC)
        """Open for reading only: what the sandbox is given."""
        self.digest = Hex32("0x" + "0" * 64)
        self.return_key = b""

    @classmethod
    def of(cls, content: bytes) -> Opened:
        """One that holds ``content``."""
        made = cls()
        made.write(memoryview(content))
        return made

    def write(self, content: memoryview, /) -> None:
        """Add ``content``."""
        while content:
            content = content[os.write(self._file, content) :]

    def content(self) -> bytes:
        """All of it. The copy is the caller's."""
        return os.pread(self._file, os.fstat(self._file).st_size, 0)

    @contextmanager
    def mapped(self) -> Iterator[mmap.mmap | bytes]:
        """All of it where it lies, to read; no copy."""
        if not os.fstat(self._file).st_size:
            yield b""
            return
        pages = mmap.mmap(self._file, 0, access=mmap.ACCESS_READ)
        try:
            yield pages
        finally:
            with suppress(BufferError):  # a thread of a reader lets go of it a moment later, and closes it so
                pages.close()

    def lasting(self) -> mmap.mmap:
        """All of it where it lies, for as long as somebody reads it; not after it is erased."""
        return mmap.mmap(self._file, 0, access=mmap.ACCESS_READ)

    @contextmanager
    def filling(self) -> Iterator[BinaryIO]:
        """A file to write it by."""
        with os.fdopen(os.dup(self._file), "wb") as file:
            yield file

    def freeze(self) -> None:
        """Let nobody write it any more, whoever opens it again (F_SEAL_FUTURE_WRITE, fcntl(2)): only
        :meth:`erase` can. What this process reads in it is then what is there, whoever else holds it."""
        self._frozen = mmap.mmap(self._file, 0)
        fcntl.fcntl(self._file, fcntl.F_ADD_SEALS, _NO_CHANGE)

    def erase(self) -> None:
        """Overwrite it, and give the memory back."""
        size = os.fstat(self._file).st_size
        if self._frozen is not None:
            with self._frozen as pages:
                wipe(pages)
        else:
            for start in range(0, size, len(_ZEROS)):
                os.pwrite(self._file, _ZEROS[: size - start], start)
            os.ftruncate(self._file, 0)
        for descriptor in (self._file, self.descriptor):
            with suppress(OSError):
                os.close(descriptor)


class _Sink:
    def __init__(self, taken: Opened, blinded: Blinded, most: int) -> None:
        self._taken, self._blinded, self._most = taken, blinded, most

    def write(self, content: memoryview, /) -> None:
        """Keep and digest ``content``."""
        if self._blinded.octets + len(content) > self._most:
            raise ProtocolViolated(f"an input is over the {self._most >> 20} MiB that it may take here")
        self._blinded.update(content)
        self._taken.write(content)


def opened(
    offer: Mapping[str, Any],
    receive: Callable[[], bytes],
    key: X25519PrivateKey,
    header: Header,
    owner: Address,
    most: int,
) -> Opened:
    """Open what ``owner`` sends under ``header``, which says for which task and enclave it is; ``most`` is
    how many bytes it may be.

    Raises:
        ProtocolViolated: it is for another, or not whole and unaltered. Nothing of it is kept.
    """
    taken = Opened()
    try:
        secrets = unwrapped(bytes.fromhex(offer["wrapped"]), key, header)
        blinded = Blinded(secrets.nonce)
        found = unseal(Popped(receive), _Sink(taken, blinded, most), secrets.data_key)
        if found != header:
            raise ProtocolViolated("an input was sealed for another purpose")
    except (BadSealedStream, ProtocolViolated, KeyError, ValueError, TypeError) as error:
        taken.erase()
        raise ProtocolViolated(f"what {owner} sent does not open here: {error}", peer=owner) from error
    except BaseException:
        taken.erase()
        raise
    taken.digest, taken.return_key = blinded.digest(), secrets.return_key
    return taken
