"""Generations of contracts: which there are, and that a vote announced each but the first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sealtrace.auditor.events import Event, MalformedEvent
from sealtrace.auditor.machine.part import Handler, Part
from sealtrace.auditor.world import Generation, Topic

_FIELDS = ("nodes", "datasets", "algorithms", "grants", "ledger", "evidence")


class DirectoryPart(Part):
    """Holds announcements to a vote."""

    def handlers(self) -> Mapping[str, Handler]:
        """The methods by the names of their events."""
        return {"GenerationAnnounced": self._announced}

    def _announced(self, event: Event) -> None:
        generation = read_generation(event)
        thing = f"generation {generation.number}"
        before = [each for each in self.world.generations if each.announced.position < event.position]
        if generation.number != len(before):
            self.irregular(Topic.GENERATIONS, thing, event, f"generation {len(before)}", thing)
        if before and not self.governance.by_vote(event):
            expected = "announced in a transaction that executes a proposal"
            self.irregular(Topic.GENERATIONS, thing, event, expected, f"none in {event.transaction}")


def announced(events: Iterable[Event]) -> list[Generation]:
    """The generations that ``events`` announce. They are known before the replay begins: the contracts of a
    set may be used before it is announced, and the first ones always are."""
    found = []
    for event in [each for each in events if each.name == "GenerationAnnounced"]:
        try:
            found.append(read_generation(event))
        except MalformedEvent:
            continue  # noted where the replay comes to it
    return found


def read_generation(event: Event) -> Generation:
    """The set of contracts that an announcement names.

    Raises:
        MalformedEvent: it lacks one.
    """
    nodes, datasets, algorithms, grants, ledger, evidence = map(event.who, _FIELDS)
    return Generation(
        event.number("generation"), nodes, datasets, algorithms, grants, ledger, evidence, event
    )
