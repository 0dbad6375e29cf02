"""What a sandboxed Python needs of this host: its interpreter, the folders of installed packages, and libc.

A virtual environment's ``python`` is a link to another installation: that one is bound, at its own path, and
the packages are named by ``PYTHONPATH``. Folders named so run no ``.pth`` file, so an editable install is not
followed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

CODE = "/code"
PACKAGES = "/packages"
_LIBRARIES = ("/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libx32")
_LINKS = ("/lib", "/lib32", "/lib64", "/libx32")


@dataclass(frozen=True, slots=True)
class Runtime:
    """What is seen inside, all of it read-only."""

    interpreter: str
    """The path of Python within the sandbox; empty where the command is another program."""
    binds: tuple[tuple[str, str], ...]
    """Paths of the host, and where they are within."""
    links: tuple[tuple[str, str], ...] = ()
    """Symbolic links within: target, name."""
    environment: Mapping[str, str] = field(default_factory=dict)

    def python(self, *arguments: str) -> tuple[str, ...]:
        """A command that runs Python on ``arguments``: no user site, no ``.pth`` files, no cache."""
        return (self.interpreter, "-s", "-S", "-P", "-B", *arguments)


def this_python(packages: Sequence[Path] | None = None) -> Runtime:
    """The interpreter that runs this, with ``packages`` (its own where none are given)."""
    base = Path(sys.base_prefix).resolve()
    program = _base_program(base)
    folders = _own_packages() if packages is None else packages
    inside = [f"{PACKAGES}/{number}" for number in range(len(folders))]
    python = ((str(program), str(program)), *_standard_library(base))
    named = {"PYTHONPATH": ":".join((CODE, *inside)), "PYTHONHASHSEED": "0"}
    bound = tuple(zip(map(str, folders), inside, strict=True))
    return Runtime(str(program), _system() + python + bound, _system_links(), named)


def program(path: Path) -> Runtime:
    """Any other dynamically linked program, seen at its own path."""
    real = str(path.resolve())
    return Runtime("", (*_system(), (real, real)), _system_links())


def _base_program(base: Path) -> Path:
    """The interpreter behind the virtual environment."""
    named = base / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    return (named if named.exists() else Path(sys.executable)).resolve()


def _standard_library(base: Path) -> tuple[tuple[str, str], ...]:
    """Where it is not below /usr/lib already; with libpython beside it."""
    library = base / "lib"
    return () if str(library) in _LIBRARIES else ((str(library), str(library)),)


def _own_packages() -> list[Path]:
    found = (
        Path(each).resolve() for each in sys.path if Path(each).name in ("site-packages", "dist-packages")
    )
    return [each for each in dict.fromkeys(found) if each.is_dir()]


def _system() -> tuple[tuple[str, str], ...]:
    """Shared libraries and where to find them; neither /etc nor programs."""
    libraries = [each for each in _LIBRARIES if os.path.isdir(each)]
    unmerged = [each for each in _LINKS if os.path.isdir(each) and not os.path.islink(each)]
    cache = [each for each in ("/etc/ld.so.cache",) if os.path.exists(each)]
    return tuple((each, each) for each in (*libraries, *unmerged, *cache))


def _system_links() -> tuple[tuple[str, str], ...]:
    return tuple((os.readlink(each), each) for each in _LINKS if os.path.islink(each))
