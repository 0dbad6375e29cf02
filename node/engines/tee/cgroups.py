"""Control groups for one run: memory and processes, of version 2 or 1, below the group this process is in.

Below, never beside: whatever limits the node itself goes on holding for what it starts. Under systemd a
service may do so with ``Delegate=memory pids`` and ``DelegateSubgroup=node``.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
MEMBERSHIP = Path("/proc/self/cgroup")
_PREFIX = "sealtrace-"
HOW_TO_HAVE_THEM = (
    "As a systemd service: Delegate=memory pids, DelegateSubgroup=node; otherwise run it as root."
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where groups can be made. A field is ``None`` where the host offers none."""

    memory: Path | None = None
    pids: Path | None = None
    version: int = 0
    """2 or 1; 0 where there is neither."""


class Groups:
    """The groups of one run."""

    def __init__(self, place: Place, memory: Path | None, pids: Path | None) -> None:
        self.place = place
        self.memory = memory
        self.pids = pids

    def join(self, pid: int) -> None:
        """Put a process, and so all that it starts, into the groups.

        Raises:
            OSError: the kernel refuses.
        """
        for folder in _distinct(self.memory, self.pids):
            (folder / "cgroup.procs").write_text(str(pid))

    def killed_for_memory(self) -> bool:
        """Whether the kernel killed a process of the run for its memory."""
        name = "memory.events" if self.place.version == 2 else "memory.oom_control"
        return self.memory is not None and _count(self.memory / name, "oom_kill") > 0

    def refused_processes(self) -> bool:
        """Whether the run asked for more processes than it may have."""
        return self.pids is not None and _count(self.pids / "pids.events", "max") > 0

    def remove(self) -> None:
        """Remove the groups; what is still in them is killed first."""
        for folder in _distinct(self.memory, self.pids):
            _remove(folder)


def find(mounts: Path = MOUNTS, membership: Path = MEMBERSHIP) -> Place:
    """Where this process may make groups: version 2 where it has both controllers, else version 1."""
    try:
        mounted, mine = _mounts(mounts.read_text()), _memberships(membership.read_text())
    except (OSError, ValueError):
        return Place()
    if unified := _unified(mounted, mine):
        return Place(unified, unified, 2)
    memory, pids = (_usable(_at(mounted, mine, name)) for name in ("memory", "pids"))
    return Place(memory, pids, 1 if memory or pids else 0)


@contextmanager
def groups(place: Place, memory_bytes: int, processes: int) -> Iterator[Groups]:
    """Groups with these limits, removed afterwards. One that cannot be made is ``None``."""
    _sweep(place)
    name = f"{_PREFIX}{os.getpid()}-{secrets.token_hex(4)}"
    memory_limit = str(memory_bytes)
    process_limit = {"pids.max": str(processes + 1)}  # bubblewrap waits in it too
    if place.version == 2:
        must = {"memory.max": memory_limit} | process_limit
        memory = pids = _made(place.memory, name, must, {"memory.swap.max": "0"})
    else:
        more = {"memory.memsw.limit_in_bytes": memory_limit}
        memory = _made(place.memory, name, {"memory.limit_in_bytes": memory_limit}, more)
        pids = _made(place.pids, name, process_limit, {})
    made = Groups(place, memory, pids)
    try:
        yield made
    finally:
        made.remove()


def _distinct(*folders: Path | None) -> list[Path]:
    """The folders that are there, each once: version 2 has one for both controllers."""
    return [folder for folder in dict.fromkeys(folders) if folder is not None]


def _sweep(place: Place) -> None:
    """End and remove what nodes left behind that were killed: the groups named after processes that are
    gone."""
    for parent in _distinct(place.memory, place.pids):
        for folder in parent.glob(f"{_PREFIX}*"):
            if not Path("/proc", folder.name.removeprefix(_PREFIX).partition("-")[0]).exists():
                _end(folder)
                with contextlib.suppress(OSError):
                    folder.rmdir()


def _end(folder: Path) -> None:
    """Kill what is in a group: at once by version 2, one after the other by version 1."""
    with contextlib.suppress(OSError):
        (folder / "cgroup.kill").write_text("1")
    with contextlib.suppress(OSError, ValueError):
        for pid in (folder / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


def _made(parent: Path | None, name: str, must: dict[str, str], may: dict[str, str]) -> Path | None:
    """The new group, or ``None`` where a limit of ``must`` does not hold; files of ``may`` need not be
    there."""
    if parent is None:
        return None
    folder = parent / name
    try:
        folder.mkdir()
        for file, value in must.items():
            (folder / file).write_text(value)
    except OSError:
        with contextlib.suppress(OSError):
            folder.rmdir()
        return None
    for file, value in may.items():  # without swap accounting there is no such file, and nothing to limit
        with contextlib.suppress(OSError):
            (folder / file).write_text(value)
    return folder


def _mounts(text: str) -> dict[str, tuple[str, Path]]:
    """By controller, or ``unified``: the root of the mount within its hierarchy, and where it is
    (proc(5))."""
    found: dict[str, tuple[str, Path]] = {}
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        root, where = before.split(" ")[3:5]
        if kind == "cgroup2":
            found["unified"] = (root, Path(where))
        elif kind == "cgroup":
            found |= {option: (root, Path(where)) for option in options.split(" ")[-1].split(",")}
    return found


def _memberships(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        found |= {name or "unified": path for name in controllers.split(",")}
    return found


def _at(mounted: dict[str, tuple[str, Path]], mine: dict[str, str], name: str) -> Path | None:
    """The folder of the group this process is in, if it is within the mount."""
    if name not in mounted or name not in mine:
        return None
    root, where = mounted[name]
    inside = os.path.relpath(mine[name], root)
    return None if inside.startswith("..") else where / inside


def _usable(folder: Path | None) -> Path | None:
    return folder if folder is not None and os.access(folder, os.W_OK) and folder.is_dir() else None


def _unified(mounted: dict[str, tuple[str, Path]], mine: dict[str, str]) -> Path | None:
    """A group that gives its children both controllers: ours, or the one above it (only leaves hold
    processes)."""
    own = _at(mounted, mine, "unified")
    for folder in filter(_usable, (own, own.parent) if own else ()):
        with contextlib.suppress(OSError):
            if {"memory", "pids"} <= set((folder / "cgroup.subtree_control").read_text().split()):
                return folder
    return None


def _count(file: Path, name: str) -> int:
    try:
        pairs = (line.split() for line in file.read_text().splitlines())
        return sum(int(pair[1]) for pair in pairs if pair[0] == name)
    except (OSError, ValueError, IndexError):
        return 0


def _remove(folder: Path) -> None:
    """A group can go once the kernel has buried its last process, which takes a moment."""
    _end(folder)
    for _ in range(100):
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.01)
        else:
            return
