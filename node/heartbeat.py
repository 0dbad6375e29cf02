"""While a long run goes on, the chain is told at which step it is: a word that nothing depends on.

It is sent beside the run and never waited for. What the chain does not take is not said again; a step that
began too soon after the last word is said when its time has come, unless another has begun by then.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

_log = structlog.get_logger("worker")


@dataclass(slots=True)
class Heartbeat:
    """The words about one run, at most one in ``every_s`` seconds, the first no sooner; 0 for none.

    ``tell`` says on the chain which step has begun, by its index in the specification. ``aside`` runs it on
    another thread.
    """

    tell: Callable[[int], None]
    every_s: float
    clock: Callable[[], float]
    aside: Callable[[Callable[[], None]], None]
    _since: float = field(init=False)
    _latest: int | None = None
    _step: int | None = None

    def __post_init__(self) -> None:
        self._since = self.clock()

    def begins(self, step: int) -> None:
        """The step with this index has begun; said again, nothing is new."""
        if step != self._latest:
            self._latest = self._step = step
        self.beat()

    def beat(self) -> None:
        """Say what is to be said, if it is time."""
        step = self._step
        if step is None or not self.every_s or self.clock() - self._since < self.every_s:
            return
        self._step, self._since = None, self.clock()
        self.aside(lambda: self._said(step))

    def _said(self, step: int) -> None:
        try:
            self.tell(step)
        except Exception as cause:  # whatever it is: the run goes on without this word
            _log.info("progress not told", step=step, error=type(cause).__name__, detail=str(cause)[:200])
