"""The auditor's own state machine: from events alone to the state of everything, at every place.

It shares the lifecycle table with the nodes and takes no fact from them. An event that the rules do not
allow is written down as an irregularity and changes nothing that the rules protect; nothing here crashes
because the chain says something absurd.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from sealtrace.auditor.decoding import UNREADABLE
from sealtrace.auditor.events import Event, MalformedEvent
from sealtrace.auditor.machine.algorithms import AlgorithmsPart
from sealtrace.auditor.machine.checkpoints import CheckpointsPart
from sealtrace.auditor.machine.consortium import ConsortiumPart
from sealtrace.auditor.machine.datasets import DatasetsPart
from sealtrace.auditor.machine.directory import DirectoryPart, announced
from sealtrace.auditor.machine.grants import GrantsPart
from sealtrace.auditor.machine.nodes import NodesPart
from sealtrace.auditor.machine.part import Part
from sealtrace.auditor.machine.tasks import TasksPart
from sealtrace.auditor.world import Irregularity, Topic, World


def replay(events: Iterable[Event]) -> World:
    """Replay ``events``, which come in the order of the chain from the contracts' first block on, of all
    generations together."""
    with _uncollected():
        return _Replay().run(list(events))


@contextmanager
def _uncollected() -> Iterator[None]:
    """Lets the collector of cycles rest: a replay makes none, and all that it makes stays, to be looked
    through again and again in vain."""
    wanted = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if wanted:
            gc.enable()


class _Replay:
    """Hands each event to the part whose rules it must keep."""

    def __init__(self) -> None:
        self.world = World()
        grants = GrantsPart(self.world)
        self._common: tuple[Part, ...] = (ConsortiumPart(self.world), DirectoryPart(self.world))
        self._of_generations: tuple[Part, ...] = (
            NodesPart(self.world),
            DatasetsPart(self.world),
            AlgorithmsPart(self.world),
            grants,
            TasksPart(self.world, grants),
            CheckpointsPart(self.world),
        )
        self._handlers = {name: handle for part in self._common for name, handle in part.handlers().items()}
        self._at_home = {name: handle for p in self._of_generations for name, handle in p.handlers().items()}
        self._handlers |= self._at_home

    def run(self, events: Sequence[Event]) -> World:
        for generation in announced(events):
            self.world.announce(generation)
        self.world.events = len(events)
        block, homes, at_home, handlers = None, self.world.homes, self._at_home, self._handlers
        for event in events:
            if event.block is not block:
                block = event.block
                self.world.blocks[block.number] = block
            try:
                if event.contract in homes or event.name not in at_home:
                    handlers.get(event.name, self._unknown)(event)
                else:
                    self._stranger(event)
            except (MalformedEvent, ValueError) as problem:
                self._irregular(Topic.DECODING, event, "values its ABI allows", str(problem))
        for part in (*self._common, *self._of_generations):
            part.finish()
        return self.world

    def _stranger(self, event: Event) -> None:
        expected = "an event of a contract that the directory names"
        self._irregular(Topic.GENERATIONS, event, expected, f"{event.name} of {event.contract}")

    def _unknown(self, event: Event) -> None:
        observed = "unreadable" if event.name == UNREADABLE else event.name
        self._irregular(Topic.DECODING, event, "an event that our contracts emit", observed)

    def _irregular(self, topic: Topic, event: Event, expected: str, observed: str) -> None:
        self.world.irregular.append(Irregularity(topic, event.transaction, event, expected, observed))
