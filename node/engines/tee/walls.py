"""The options of bubblewrap for one run. Pure: what is seen inside is what is listed here.

There is no ``/proc``: as the host's root a process could write ``/proc/sys`` (``core_pattern`` starts
programs outside), and any process could write another's memory through ``/proc/PID/mem`` or open an input
file again for writing through ``/proc/self/fd``. For the same reason the command is process 1 itself, with no
unfiltered helper beside it. There is no ``/dev/shm`` but ``/tmp``, so one quota holds for all that can be
written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sealtrace.node.engines.tee.runtime import CODE, Runtime

HOSTNAME = "sealtrace-tee"
NOBODY = "65534"
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
READABLE = ("/proc/cpuinfo", "/proc/meminfo")
"""Two files of the host's ``/proc``, read-only, that numerical libraries look at."""


@dataclass(frozen=True, slots=True)
class Descriptors:
    """Numbers of the descriptors that bubblewrap itself uses."""

    filter: int | None
    """``None`` where there is no filter."""
    info: int
    block: int
    """It waits here for a byte."""
    go: int
    """The other end, which it keeps to itself: were we to die, an end of file would let the command run."""


def options_of(
    *,
    code: Path,
    runtime: Runtime,
    environment: Mapping[str, str],
    tmp_bytes: int,
    descriptors: Descriptors,
    user_namespace: bool,
) -> list[str]:
    """All options of bubblewrap; the command is no part of them."""
    return [
        *_namespaces(user_namespace),
        *_files(code, runtime, tmp_bytes),
        *(word for name, value in environment.items() for word in ("--setenv", name, value)),
        *(("--seccomp", str(descriptors.filter)) if descriptors.filter is not None else ()),
        *("--info-fd", str(descriptors.info), "--block-fd", str(descriptors.block)),
        *("--sync-fd", str(descriptors.go)),
    ]


def _namespaces(user: bool) -> list[str]:
    identity = ["--unshare-user", "--disable-userns", "--uid", NOBODY, "--gid", NOBODY] if user else []
    others = ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
    life = ["--hostname", HOSTNAME, "--cap-drop", "ALL", "--clearenv", "--die-with-parent", "--new-session"]
    return [*identity, *others, *life, "--as-pid-1"]


def _files(code: Path, runtime: Runtime, tmp_bytes: int) -> list[str]:
    words: list[str] = []
    for source, target in (*runtime.binds, (str(code), CODE)):
        words += ["--ro-bind", source, target]
    for target, name in runtime.links:
        words += ["--symlink", target, name]
    for device in DEVICES:
        words += ["--dev-bind", device, device]
    for file in READABLE:
        words += ["--ro-bind-try", file, file]
    words += ["--size", str(tmp_bytes), "--tmpfs", "/tmp", "--symlink", "/tmp", "/dev/shm"]  # noqa: S108
    return [*words, "--remount-ro", "/", "--chdir", "/tmp"]  # noqa: S108
