"""What a gateway asks of the chain: may these parties talk about this task, now?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Party:
    """One party of a task, as the chain holds it."""

    address: str
    """The node's chain address, 0x-prefixed hex; compared without regard to case."""
    tls_fingerprint: bytes
    """SHA-256 of the node's DER certificate, 32 bytes."""


@dataclass(frozen=True, slots=True)
class Session:
    """A task's standing on the chain."""

    parties: tuple[Party, ...]
    running: bool
    """True while the task is Running: all have started, nobody cancelled, failed or let expire,
    and every party's node is in good standing."""


class AuthorityUnavailable(Exception):
    """The chain could not be asked; the gateway keeps its last answer for a short while."""


class SessionAuthority(Protocol):
    """The chain, in the gateway's words. Called in a thread; must end within seconds."""

    def session(self, task: str) -> Session | None:
        """Return the task's standing, or ``None`` where the chain has no such task.

        Raises:
            AuthorityUnavailable: the chain does not answer.
        """
        ...
