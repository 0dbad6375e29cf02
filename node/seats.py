"""How many enclaves a node holds at once."""

from __future__ import annotations

from threading import BoundedSemaphore


class Seats:
    """One for each enclave that waits or runs here; all ``workers`` but one may hold an enclave.

    A worker is held while its enclave waits for the owners. Were all held, this node could start none of its
    own parts, and two nodes that host for each other would wait in vain.
    """

    def __init__(self, workers: int) -> None:
        self._free = BoundedSemaphore(max(1, workers - 1))

    def take(self) -> bool:
        """Take a seat; whether there was one."""
        return self._free.acquire(blocking=False)

    def leave(self) -> None:
        """Give a seat back."""
        self._free.release()
