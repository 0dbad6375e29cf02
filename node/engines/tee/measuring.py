"""What an enclave without hardware measures of itself: which software is installed and runs in it.

This is the event ``runtime`` of every enclave's log, and the measurement ``runtime`` of software evidence. It
is what the installer recorded, and not a hash of the files: whoever runs the host can change a library and
leave the record as it was. Only a measured image (TDX, SEV-SNP, SGX, Nitro) has every byte in its
measurement; hashing a gigabyte of libraries at each start would show no more, because the same host says it.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable
from functools import cache
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any, Final

from packaging.utils import canonicalize_name

import sealtrace.algorithms
import sealtrace.node.engines
import sealtrace.protocol
from sealtrace.protocol.canonical import digest, sha256
from sealtrace.protocol.identifiers import Hex32

OURS: Final = "sealtrace"
_SOURCES: Final = (
    (sealtrace.protocol, "**/*.py"),
    (sealtrace.node.engines, "**/*.py"),
    (sealtrace.algorithms, "*.py"),
)
"""What runs in an enclave's process beside the bundle. A bundle's own folder has its digest on the chain."""
_OUTSIDE: Final = ("../", '"../', "/", '"/')
_OF_THE_INSTALLER: Final = tuple(
    f".dist-info/{name}" for name in ("INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json")
)


@cache
def runtime_digest() -> Hex32:
    """SHA-256 over the canonical JSON of :func:`runtime_document` for this process; computed once."""
    return digest(runtime_document(distributions()))


def runtime_document(installed: Iterable[Distribution]) -> dict[str, Any]:
    """Python's version, our sources that run in an enclave, and what each installed distribution recorded.

    Two hosts with the same versions of the same wheels have the same: of a RECORD (PEP 376, PEP 427), what
    differs with the place and the tool of installation is left out.
    """
    packages: dict[str, dict[str, str | None]] = {}
    for each in installed:
        about = each.metadata
        name = canonicalize_name(about["Name"] or "")
        packages.setdefault(name, {"version": about["Version"], "record": _recorded(name, each)})
    return {"python": platform.python_version(), "sources": _sources(), "packages": packages}


def _recorded(name: str, installed: Distribution) -> Hex32 | None:
    """The digest of the files that a distribution brought, by its own record.

    ``None`` where it has no record, and for our own: an installation from a checkout records a path, and our
    sources are hashed themselves.
    """
    text = installed.read_text("RECORD")
    if text is None or name == OURS:
        return None
    return sha256("\n".join(sorted(filter(_brought, text.splitlines()))).encode())


def _brought(line: str) -> bool:
    """Not what the installer made: scripts that name its interpreter, compiled files, notes of its own.

    A line is a path, a hash and a size, separated by commas; a path with a comma is in quotation marks.
    """
    path, hashed, _ = (*line.rsplit(",", 2), "", "")[:3]
    return bool(hashed) and not path.startswith(_OUTSIDE) and not path.endswith(_OF_THE_INSTALLER)


def _sources() -> Hex32:
    found: dict[str, str] = {}
    for module, pattern in _SOURCES:
        folder = Path(next(iter(module.__path__)))
        for path in folder.glob(pattern):
            named = f"{module.__name__}/{path.relative_to(folder).as_posix()}"
            found[named] = sha256(path.read_bytes())
    return digest(found)
