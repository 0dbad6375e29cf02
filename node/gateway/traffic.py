"""Counters and digests of what passed between two gateways, in one direction."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

REORDERING = 4096  # how far ahead of the next number a message may arrive


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

    @property
    def next_number(self) -> int:
        """The sequence number of the next message; to be counted once it is on its way."""
        return self._next

    def count(self, sequence: int, payload: bytes | bytearray) -> bool:
        """Count one message; False where this number was counted before."""
        if sequence != self._next and self.seen(sequence):
            return False
        self.messages += 1
        self.octets += len(payload)
        digest = hashlib.sha256(payload).digest()
        if sequence == self._next:
            self._hash.update(digest)
            self._next += 1
            if self._early:
                self._advance()
        else:
            self._early[sequence] = digest
        return True

    def seen(self, sequence: int) -> bool:
        """Whether this number was counted before."""
        return sequence < self._next or sequence in self._early

    def awaits(self, sequence: int) -> bool:
        """Whether the number is one that an agreeing sender may give next: at most ``REORDERING`` ahead."""
        return sequence < self._next + REORDERING

    def _advance(self) -> None:
        while self._early and (digest := self._early.pop(self._next, None)) is not None:
            self._hash.update(digest)
            self._next += 1
