"""Which barriers hold a sandboxed run: what this host can give, said openly in the evidence."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path

from sealtrace.node.engines.errors import SandboxUnavailable
from sealtrace.node.engines.tee import cgroups, filter
from sealtrace.protocol.canonical import canonical

FORMAT = "sealtrace.confinement.v1"
INSTALL = "On Debian: apt install bubblewrap libseccomp2."
_ENOUGH_S = 20.0


class Barrier(StrEnum):
    """One thing that holds a run in."""

    NAMESPACES = "namespaces"
    """Own mounts, network, processes, IPC and host name; no capability; a root that cannot be written."""
    USER_NAMESPACE = "user_namespace"
    """Root within is nobody without; no further user namespace can be made."""
    SECCOMP = "seccomp"
    """System calls by an allow-list."""
    RLIMITS = "rlimits"
    """Limits of each process: address space, CPU seconds, descriptors, no core dump."""
    CGROUP_MEMORY = "cgroup_memory"
    """Memory of all processes together."""
    CGROUP_PROCESSES = "cgroup_processes"
    """Number of processes, counted by the kernel for the run alone."""
    ORDINARY_USER = "ordinary_user"
    """The node is not the host's root, so neither is what breaks out."""


NEEDED = frozenset({Barrier.NAMESPACES, Barrier.USER_NAMESPACE, Barrier.SECCOMP, Barrier.RLIMITS})
"""What is asked for of every host unless a policy says otherwise. All of it works for an ordinary user."""


def needed() -> frozenset[Barrier]:
    """What is asked for of this host unless a policy says otherwise.

    For root nothing but a control group counts processes: without one, a fork bomb is the host's.
    """
    return NEEDED | {Barrier.CGROUP_PROCESSES} if os.geteuid() == 0 else NEEDED


HOW_TO_GET = {
    Barrier.NAMESPACES: INSTALL,
    Barrier.USER_NAMESPACE: "Allow user namespaces: sysctl user.max_user_namespaces; on Ubuntu an AppArmor"
    " profile for bwrap; in a container, a seccomp profile that lets it unshare.",
    Barrier.SECCOMP: filter.LIBRARIES,
    Barrier.RLIMITS: "Every Linux kernel has them.",
    Barrier.CGROUP_MEMORY: cgroups.HOW_TO_HAVE_THEM,
    Barrier.CGROUP_PROCESSES: cgroups.HOW_TO_HAVE_THEM,
    Barrier.ORDINARY_USER: "Run the node as a user of its own, not as root.",
}


def how_to_get(lacking: Iterable[Barrier]) -> str:
    """What to do about all of ``lacking``, each thing said once."""
    return " ".join(dict.fromkeys(HOW_TO_GET[each] for each in lacking))


@dataclass(frozen=True, slots=True)
class Confinement:
    """The barriers in force, with what they are made of."""

    barriers: frozenset[Barrier]
    bubblewrap: str = ""
    """Its version; empty where there is none."""
    seccomp_filter: str = ""
    """SHA-256 of the filter."""
    cgroup_version: int = 0
    kernel: str = ""

    def missing(self, wanted: Iterable[Barrier] = tuple(Barrier)) -> tuple[Barrier, ...]:
        """Which of ``wanted`` are not in force, in the order of their names."""
        return tuple(sorted(set(wanted) - self.barriers))

    def require(self, wanted: Iterable[Barrier]) -> None:
        """Refuse where one of ``wanted`` is missing.

        Raises:
            SandboxUnavailable: it is; the message says how to get it.
        """
        if lacking := self.missing(wanted):
            raise SandboxUnavailable(f"this host gives no {', '.join(lacking)}. {how_to_get(lacking)}")

    def values(self) -> dict[str, object]:
        """The confinement as JSON values: every barrier is named, in force or not."""
        return {
            "format": FORMAT,
            "barriers": {each.value: each in self.barriers for each in Barrier},
            "bubblewrap": self.bubblewrap,
            "seccomp_filter": self.seccomp_filter,
            "cgroup_version": self.cgroup_version,
            "kernel": self.kernel,
        }

    def canonical(self) -> bytes:
        """The confinement as it goes into evidence (RFC 8785)."""
        return canonical(self.values())


def probe() -> Confinement:
    """What this host offers. Starts bubblewrap once or twice, with nothing in it but ``bwrap --version``."""
    version, place = _version(), cgroups.find()
    held = {Barrier.RLIMITS}
    if version:
        held |= _namespaces()
    filter_digest = _filter_digest()
    if filter_digest:
        held.add(Barrier.SECCOMP)
    if place.memory:
        held.add(Barrier.CGROUP_MEMORY)
    if place.pids:
        held.add(Barrier.CGROUP_PROCESSES)
    if os.geteuid() != 0:
        held.add(Barrier.ORDINARY_USER)
    return Confinement(frozenset(held), version, filter_digest, place.version, platform.release())


@cache
def bubblewrap() -> Path | None:
    """The program, if it is installed."""
    found = shutil.which("bwrap")
    return Path(found).resolve() if found else None


def _version() -> str:
    said = _said([str(bubblewrap()), "--version"]) if bubblewrap() else None
    found = re.search(r"[0-9.]+", said or "")
    return found.group() if found else ""


def _namespaces() -> frozenset[Barrier]:
    """Which namespaces bubblewrap can make here."""
    inside = [str(bubblewrap()), "--unshare-all", "--ro-bind", "/", "/", "--cap-drop", "ALL"]
    harmless = [str(bubblewrap()), "--version"]
    if _said([*inside, "--unshare-user", "--disable-userns", *harmless]) is not None:
        return frozenset({Barrier.NAMESPACES, Barrier.USER_NAMESPACE})
    without = [each for each in inside if each != "--unshare-all"] + _OTHER_NAMESPACES
    return frozenset({Barrier.NAMESPACES}) if _said([*without, *harmless]) is not None else frozenset()


_OTHER_NAMESPACES = ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"]


def _filter_digest() -> str:
    try:
        return filter.digest()
    except SandboxUnavailable:
        return ""


def _said(command: list[str]) -> str | None:
    """What a command prints, or ``None`` where it fails."""
    try:
        done = subprocess.run(command, capture_output=True, timeout=_ENOUGH_S, check=True, env={})
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", "replace")
