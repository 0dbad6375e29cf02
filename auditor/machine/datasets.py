"""Datasets: registered, superseded by their next version, withdrawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sealtrace.auditor.events import Event
from sealtrace.auditor.machine.part import Handler, Part
from sealtrace.auditor.world import Key, Timeline, Topic
from sealtrace.protocol.identifiers import NOTHING, Hex32
from sealtrace.protocol.records import DataClass, Dataset, DatasetStatus, Role


class DatasetsPart(Part):
    """The rules of the dataset registry."""

    def handlers(self) -> Mapping[str, Handler]:
        """The methods by the names of their events."""
        return {
            "DatasetRegistered": self._registered,
            "DatasetSuperseded": self._superseded,
            "DatasetWithdrawn": self._withdrawn,
        }

    def _registered(self, event: Event) -> None:
        key, owner = Key(event.contract, event.hex("dataset")), event.who("owner")
        thing = self.world.name(key)
        if key in self.world.datasets:
            self.irregular(Topic.DATASETS, thing, event, "a dataset is registered once", "registered again")
            return
        if not self.is_active(event, owner, Role.OWNER):
            self.irregular(Topic.DATASETS, thing, event, "registered by an active data owner", owner)
        commitment, schema = event.hex("commitment"), event.hex("schemaHash")
        if NOTHING in (commitment, schema):
            self.irregular(Topic.DATASETS, thing, event, "a commitment and a schema's hash", "an empty one")
        grade = DataClass(event.number("class"))
        dataset = Dataset(key.id, owner, DatasetStatus.ACTIVE, grade, commitment, schema)
        self.world.datasets[key] = Timeline()
        self.world.datasets[key].put(event.position, dataset)
        self.world.registered[key] = event

    def _superseded(self, event: Event) -> None:
        key, thing = self._key(event)
        later = Key(event.contract, event.hex("by"))
        known, following = self.world.datasets.get(key), self.world.datasets.get(later)
        if known is None or known.last.status is not DatasetStatus.ACTIVE:
            was = known.last.status.name if known else "NONE"
            self.irregular(Topic.DATASETS, thing, event, "an active dataset is superseded", was)
            return
        version = known.last.version + 1
        born = self.world.registered.get(later)
        if following is None or born is None or born.transaction != event.transaction:
            expected = "superseded by a dataset registered in the same transaction"
            self.irregular(Topic.DATASETS, thing, event, expected, later.id)
            return
        if following.last.owner != known.last.owner or event.number("version") != version:
            expected = f"version {version} of {known.last.owner}"
            observed = f"version {event.number('version')} of {following.last.owner}"
            self.irregular(Topic.DATASETS, thing, event, expected, observed)
        known.put(event.position, replace(known.last, status=DatasetStatus.SUPERSEDED))
        following.put(event.position, replace(following.last, version=version))

    def _withdrawn(self, event: Event) -> None:
        key, thing = self._key(event)
        known = self.world.datasets.get(key)
        if known is None or known.last.status is DatasetStatus.WITHDRAWN:
            was = known.last.status.name if known else "NONE"
            self.irregular(Topic.DATASETS, thing, event, "a dataset not withdrawn yet", was)
            return
        if event.who("owner") != known.last.owner:
            expected = f"withdrawn by {known.last.owner}"
            self.irregular(Topic.DATASETS, thing, event, expected, event.who("owner"))
        known.put(event.position, replace(known.last, status=DatasetStatus.WITHDRAWN))

    def _key(self, event: Event) -> tuple[Key[Hex32], str]:
        key = Key(event.contract, event.hex("dataset"))
        return key, self.world.name(key)
