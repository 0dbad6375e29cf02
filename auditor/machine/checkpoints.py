"""Checkpoints of the nodes' logs: they only grow."""

from __future__ import annotations

from collections.abc import Mapping

from sealtrace.auditor.events import Event
from sealtrace.auditor.machine.part import Handler, Part
from sealtrace.auditor.world import Anchor, Key, Topic
from sealtrace.protocol.identifiers import NOTHING


class CheckpointsPart(Part):
    """The rules of the evidence anchor."""

    def handlers(self) -> Mapping[str, Handler]:
        """The methods by the names of their events."""
        return {"CheckpointAnchored": self._anchored}

    def _anchored(self, event: Event) -> None:
        who, size, root = event.who("node"), event.number("size"), event.hex("root")
        key = Key(event.contract, who)
        thing, anchors = self.world.name(key), self.world.anchors.setdefault(key, [])
        last = anchors[-1].size if anchors else 0
        if self.node(event, who) is None:
            self.irregular(Topic.CHECKPOINTS, thing, event, "anchored by an admitted node", "never admitted")
        if root == NOTHING:
            self.irregular(Topic.CHECKPOINTS, thing, event, "a root", "an empty one")
        if event.number("previousSize") != last or size <= last:
            observed = f"from {event.number('previousSize')} to {size} records"
            self.irregular(Topic.CHECKPOINTS, thing, event, f"growth from {last} records", observed)
            return
        anchors.append(Anchor(who, size, root, event))
