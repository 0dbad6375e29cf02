"""Loading SPU, and saying what is missing where it cannot be loaded."""

from __future__ import annotations

import ctypes
from typing import Any

from sealtrace.node.engines.errors import EngineMissing

HEAPS = 2
_M_ARENA_MAX = -8  # mallopt(3)


def keep_heaps_few() -> None:
    """Have this process's threads share ``HEAPS`` heaps; to be called before the engine starts its threads.

    Otherwise they have many, and in each one stays what an alignment has freed there. That is glibc's way;
    with another C library nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, HEAPS)


def load_engine() -> Any:
    """SPU's native module.

    Raises:
        EngineMissing: the ``mpc`` extra or a library of the system is not installed.
    """
    try:
        from spu import libspu
    except ImportError as cause:
        raise EngineMissing(_what_to_do(str(cause))) from cause
    return libspu


def _what_to_do(why: str) -> str:
    if "libgomp" in why:
        return f"the engine cannot be loaded ({why}): on Debian, apt install libgomp1"
    return f"the engine is not installed ({why}): pip install 'sealtrace[mpc]'"
