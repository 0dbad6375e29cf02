"""Where a party's processes run: on this machine as they are, or in a network namespace of their own."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from dataclasses import dataclass

_CLONE_NEWNET = 0x4000_0000


@dataclass(frozen=True, slots=True)
class Place:
    """One party's place: the address at which its peers reach it, and its namespace where it has one."""

    address: str = "127.0.0.1"
    namespace: str | None = None

    def enter(self) -> None:
        """Move the calling thread, and all threads and processes that it starts, to this place."""
        if self.namespace is None:
            return
        libc = ctypes.CDLL(None, use_errno=True)
        with open(f"/run/netns/{self.namespace}") as held:
            if libc.setns(held.fileno(), _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), f"cannot enter the namespace {self.namespace}")

    def command(self, command: Sequence[str]) -> list[str]:
        """Return what runs ``command`` at this place; the process that it starts becomes the command."""
        within = [] if self.namespace is None else ["ip", "netns", "exec", self.namespace]
        return [*within, *command]


HERE = Place()


def names_of_living(prefix: str, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split names ``prefix-PID-...`` into those whose process lives and those it left behind."""
    living, left = [], []
    for name in names:
        pid = name.removeprefix(prefix).partition("-")[0]
        if name.startswith(prefix) and pid.isdecimal():
            (living if os.path.exists(f"/proc/{pid}") else left).append(name)
    return living, left
