"""How training goes in an enclave, carried to the requester while it runs: sealed, in order, each once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from sealtrace.node.engines.tee.telling import SUFFIX
from sealtrace.node.ports import Undeliverable

_log = structlog.get_logger("worker")


@dataclass(slots=True)
class Carrier:
    """Carries what an enclave leaves in ``folder``, beside the run. What cannot be carried now is tried again
    at the next beat; the run never waits for it."""

    folder: Path
    put: Callable[[int, bytes], None]
    aside: Callable[[Callable[[], None]], None]
    _next: int = 0
    _over: bool = False
    _busy: threading.Lock = field(default_factory=threading.Lock)

    def beat(self) -> None:
        """Carry what is there, on another thread, unless one is at it."""
        if not self._over and self._path(self._next).exists() and not self._busy.locked():
            self.aside(self.carry)

    def carry(self) -> None:
        """Carry all that is there now."""
        with self._busy:
            try:
                while not self._over and (path := self._path(self._next)).exists():
                    self.put(self._next, path.read_bytes())
                    self._next += 1
            except Undeliverable as cause:  # that will not change
                self._over = True
                _log.info("metrics not taken", detail=str(cause)[:200])
            except Exception as cause:  # whatever it is: the result does not depend on it
                _log.info("metrics not carried", error=type(cause).__name__, detail=str(cause)[:200])

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}{SUFFIX}"
