"""Time limits that hardly ever run out, kept for less than a timer each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

TICK_S = 0.1


class Deadlines:
    """Calls back what was not taken back in time, up to ``TICK_S`` late.

    One timer ticks for all limits while there are any, since every message has several.
    """

    def __init__(self) -> None:
        self._calls: dict[object, tuple[float, Callable[[], None]]] = {}
        self._ticking: asyncio.TimerHandle | None = None

    def later(self, key: object, delay_s: float, call: Callable[[], None]) -> None:
        """Call ``call`` in ``delay_s``, unless ``key`` is taken back before."""
        self._calls[key] = (time.monotonic() + delay_s, call)
        if self._ticking is None:
            loop = asyncio.get_running_loop()
            self._ticking = loop.call_later(TICK_S, self._tick, loop)

    def back(self, key: object) -> None:
        """Take a limit back; nothing happens where there is none."""
        self._calls.pop(key, None)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        now = time.monotonic()
        for key, (due, call) in list(self._calls.items()):
            if due <= now and self._calls.pop(key, None) is not None:
                call()
        self._ticking = loop.call_later(TICK_S, self._tick, loop) if self._calls else None
