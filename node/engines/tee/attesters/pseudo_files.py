"""Files that a kernel or a library OS shows: each write is one request."""

from __future__ import annotations

import errno
import os
from pathlib import Path


def write(path: Path, content: bytes) -> None:
    """Write in one call, to a file that is there already: it takes no O_CREAT and no O_TRUNC.

    Raises:
        OSError: it is not there, or refuses, or took only a part.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        written = os.write(descriptor, content)
    finally:
        os.close(descriptor)
    if written != len(content):
        raise OSError(errno.EIO, f"{path.name} took {written} of {len(content)} bytes")
