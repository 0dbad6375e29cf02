"""Counters and digests of what passed between two gateways, in one direction."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

REORDERING = 4096  # how far ahead of the next number a message may arrive


class OutOfWindow(ValueError):
    """A sequence number too far ahead: the peer's gateway does not number as agreed."""


@dataclass(slots=True)
class Flow:
    """Messages of one direction, in the order of their sequence numbers (from 0).

    ``digest`` is SHA-256 over the concatenation of each message's SHA-256, so that sender and
    receiver come to the same value although messages may overtake each other on the way.
    """

    messages: int = 0
    octets: int = 0
    _next: int = 0
    _early: dict[int, bytes] = field(default_factory=dict)
    _hash: hashlib._Hash = field(default_factory=hashlib.sha256)

    @property
    def digest(self) -> str:
        """The digest of all messages up to the first gap, hex."""
        return self._hash.hexdigest()

    def number(self, payload: bytes) -> int:
        """Count one outgoing message and return its sequence number."""
        sequence = self._next
        self.count(sequence, payload)
        return sequence

    def count(self, sequence: int, payload: bytes) -> bool:
        """Count one message; False where this number was counted before.

        Raises:
            OutOfWindow: the number is more than ``REORDERING`` ahead.
        """
        if sequence < self._next or sequence in self._early:
            return False
        if sequence >= self._next + REORDERING:
            raise OutOfWindow(f"message {sequence} while {self._next} is awaited")
        self.messages += 1
        self.octets += len(payload)
        self._early[sequence] = hashlib.sha256(payload).digest()
        self._advance()
        return True

    def seen(self, sequence: int) -> bool:
        """Whether this number was counted before."""
        return sequence < self._next or sequence in self._early

    def _advance(self) -> None:
        while (digest := self._early.pop(self._next, None)) is not None:
            self._hash.update(digest)
            self._next += 1
