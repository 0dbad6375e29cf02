"""Loading SPU, and saying what is missing where it cannot be loaded."""

from __future__ import annotations

from typing import Any

from sealtrace.node.engines.errors import EngineMissing


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
