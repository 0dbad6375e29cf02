"""When each party of a task was how far: read from what the nodes write, by looking often.

The evidence log is written before a step is relied on, and the store's stage before it is taken; both change
on the disk, so a look at them costs the network next to nothing.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from sealtrace.node.directory import Layout
from sealtrace.node.engines.workplace import JOB
from sealtrace.protocol.evidence import BadRecord, Kind, read_record
from sealtrace.protocol.identifiers import Hex32

LOOK_EVERY_S = 0.04
_ENDS = (Kind.TASK_REFUSED, Kind.TASK_FAILED, Kind.TASK_STOPPED)
PARTS = (
    ("asking", "asked", "scheduler and requester: the specification taken, the task on chain"),
    ("noticing", "checking", "watcher: block seen, introduction fetched, task queued and picked up"),
    ("hashing", "task.judged", "fingerprint of the table, digests of the bundles, the table's form"),
    ("start on chain", "task.started", "the start's block, one second at most apart"),
    ("meeting", "engine", "the last party's start seen, sessions opened at the gateways"),
    ("engine", "task.ran", "the engine process, from its start to the record of the run"),
    ("upload", "uploaded", "the sealed share handed to the scheduler"),
    ("finish", "over", "the finish's block, and the task completed"),
)
"""The parts of a governed run in their order: name, the milestone that ends it, what happens in it."""


@dataclass
class Milestones:
    """Follows one task at some nodes while the context is open. Times are of ``time.perf_counter``."""

    nodes: Sequence[Layout]
    outputs: Path
    task: Hex32
    seen: dict[tuple[int, str], float] = field(default_factory=dict)
    _over: threading.Event = field(default_factory=threading.Event)
    _read: dict[int, int] = field(default_factory=dict)
    _bases: list[sqlite3.Connection] = field(default_factory=list)

    def __enter__(self) -> Milestones:
        self._read = {at: _evidence(node).stat().st_size for at, node in enumerate(self.nodes)}
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(10)

    def last(self) -> dict[str, float]:
        """When the last party reached each milestone."""
        found: dict[str, float] = {}
        for (_, name), at in self.seen.items():
            found[name] = max(at, found.get(name, at))
        return found

    def finished(self) -> bool:
        """Whether every party has recorded its finish, or one that the task ended otherwise."""
        kinds = [name for _, name in list(self.seen)]
        return kinds.count(Kind.TASK_FINISHED) == len(self.nodes) or any(each in kinds for each in _ENDS)

    def _follow(self) -> None:
        self._bases = [_opened(node) for node in self.nodes]
        try:
            while not self._over.wait(LOOK_EVERY_S):
                self._look()
        finally:
            for base in self._bases:
                base.close()

    def _look(self) -> None:
        uploaded = len(list((self.outputs / self.task).glob("*.sealed")))
        for at, node in enumerate(self.nodes):
            names = {*_stage(self._bases[at], self.task), *self._kinds(at, node)}
            if (node.job(self.task) / JOB).exists():
                names.add("engine")
            if uploaded > at:
                names.add("uploaded")
            for name in names:
                self.seen.setdefault((at, name), time.perf_counter())

    def _kinds(self, at: int, node: Layout) -> Iterator[str]:
        with _evidence(node).open("rb") as file:
            file.seek(self._read[at])
            whole, newline, _ = file.read().rpartition(b"\n")
        self._read[at] += len(whole) + len(newline)
        for line in whole.splitlines():
            with suppress(BadRecord):
                record = read_record(line)
                if record.task == self.task:
                    yield record.kind


def parts(began: float, ended: float, last: Mapping[str, float]) -> dict[str, float]:
    """Seconds of each part, each ending when the last party is done with it; together they are the whole."""
    found, before = {}, began
    for name, milestone, _ in PARTS:
        at = ended if milestone == "over" else max(before, last.get(milestone, before))
        found[name] = at - before
        before = at
    return found


def _evidence(node: Layout) -> Path:
    return max(node.evidence.glob("*.jsonl"))


def _opened(node: Layout) -> sqlite3.Connection:
    path = node.database_url.removeprefix("sqlite:///")
    return sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=0.01)


def _stage(base: sqlite3.Connection, task: Hex32) -> Iterator[str]:
    with suppress(sqlite3.OperationalError):  # it is being written to: the next look will do
        for (stage,) in base.execute("SELECT stage FROM tasks WHERE id = ?", (task,)).fetchall():
            yield stage
