"""Files written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from sealtrace.requester.errors import FileUnwritable


def write_whole(path: Path, content: bytes) -> None:
    """Write a file of mode 0600; whatever fails, what was there before is still there.

    Raises:
        FileUnwritable: the disk is full, or the directory cannot be written.
    """
    try:
        descriptor, partial = tempfile.mkstemp(dir=path.absolute().parent, prefix=".part-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(partial).replace(path)
        finally:
            Path(partial).unlink(missing_ok=True)
    except OSError as cause:
        raise FileUnwritable(path, cause.strerror or str(cause)) from cause
