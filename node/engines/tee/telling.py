"""How training goes, told to the requester while it runs: rounds of metrics, sealed as they come."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from sealtrace.node.engines.workplace import write
from sealtrace.protocol.canonical import canonical
from sealtrace.protocol.envelope import seal
from sealtrace.protocol.identifiers import Address, Hex32, raw

EVERY_S: Final = 1.0
MOST: Final = 200
SUFFIX: Final = ".sealed"


class Telling:
    """Rounds that were not sealed yet. They go out together, once a second or when there are many."""

    def __init__(self, folder: Path, task: Hex32, party: Address, requester_key: Hex32) -> None:
        self._folder, self._task, self._party = folder, task, party
        self._key = raw(requester_key)
        self._waiting: list[dict[str, Any]] = []
        self._number = 0
        self._last = time.monotonic()
        folder.mkdir(mode=0o700, exist_ok=True)

    def report(self, number: int, metrics: Mapping[str, float]) -> None:
        """Take one round."""
        self._waiting.append({"round": number, "metrics": dict(metrics)})
        if len(self._waiting) >= MOST or time.monotonic() - self._last > EVERY_S:
            self.flush()

    def flush(self) -> None:
        """Seal what waits, and leave it in the folder for the node to carry."""
        if not self._waiting:
            return
        header = {"task": self._task, "party": self._party, "kind": "metrics", "number": self._number}
        sealed = seal(canonical(self._waiting), self._key, header)
        write(self._folder / f"{self._number:06d}{SUFFIX}", sealed)
        self._waiting, self._number, self._last = [], self._number + 1, time.monotonic()
