"""Following the head of a chain: an audit after each new block, and how far a long reading has come."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TextIO

from sealtrace.auditor.audit import Audit
from sealtrace.auditor.inquiry import Inquiry, connected
from sealtrace.contracts.client import Chain
from sealtrace.contracts.errors import ChainUnreachable, FinalBlockReplaced
from sealtrace.protocol.records import BlockRef

LOOK_S: Final = 2.0
"""Between two looks at the head."""
TELL_S: Final = 2.0
"""Between two lines on a long reading."""


@dataclass(slots=True)
class Shown:
    """Writes a line on a reading that takes long, every two seconds."""

    to: TextIO
    clock: Callable[[], float] = time.monotonic
    _told: float = field(init=False)

    def __post_init__(self) -> None:
        self._told = self.clock()

    def __call__(self, block: int, last: int, events: int) -> None:
        """See :data:`following.Notice`."""
        now = self.clock()
        if now - self._told >= TELL_S:
            self._told = now
            print(f"block {block:,} of {last:,}, {events:,} events", file=self.to, flush=True)


def followed(
    once: Callable[[], Audit], inquiry: Inquiry, sleep: Callable[[float], None] = time.sleep
) -> Audit:
    """Carry out ``once``, and again after each new final block, until interrupted; the last audit's result.

    An endpoint that does not answer while nothing is being read is asked again.

    Raises:
        What ``once`` raises; KeyboardInterrupt: before the first audit has ended.
    """
    done = once()
    try:
        while True:
            _wait(connected(inquiry.chain), done.case.last, sleep)
            done = once()
    except KeyboardInterrupt:
        return done


def _wait(chain: Chain, last: BlockRef, sleep: Callable[[float], None]) -> None:
    """Until the chain has another final block than ``last``, after it or in its place."""
    while True:
        sleep(LOOK_S)
        try:
            newest = chain.finalized()
        except ChainUnreachable:
            continue
        except FinalBlockReplaced:
            return
        if newest != last and newest.number >= last.number:
            return
