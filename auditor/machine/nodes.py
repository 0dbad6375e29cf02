"""Nodes: admitted, suspended, reinstated, retired, and their keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sealtrace.auditor.events import Event
from sealtrace.auditor.machine.part import Handler, Part
from sealtrace.auditor.world import Key, Timeline, Topic
from sealtrace.contracts.governance import Office
from sealtrace.protocol.identifiers import NOTHING, Address, Hex32
from sealtrace.protocol.records import Node, NodeStatus, Role

_LISTENS = Role.OWNER | Role.COMPUTE
_ALL_ROLES = 31


class NodesPart(Part):
    """The rules of the node registry."""

    def handlers(self) -> Mapping[str, Handler]:
        """The methods by the names of their events."""
        return {
            "NodeAdmitted": self._admitted,
            "NodeSuspended": self._suspended,
            "NodeReinstated": self._reinstated,
            "NodeRetired": self._retired,
            "NodeKeysRotated": self._rotated,
            "LedgerServed": self._served,
        }

    def _admitted(self, event: Event) -> None:
        key, thing = self._key(event)
        if key in self.world.nodes:
            self.irregular(Topic.NODES, thing, event, "an address is admitted once", "admitted again")
            return
        number = event.number("roles")
        if not 1 <= number <= _ALL_ROLES:
            self.irregular(Topic.NODES, thing, event, "roles that there are", f"role mask {number:#x}")
        self._judge_keys(event, thing, Role(number))
        registrars = [who for office, who in self.governance.offices if office == Office.REGISTRAR.id]
        alone = len(self.governance.members) == 1 and registrars
        if not self.governance.by_vote(event) and not alone:
            self._vote_was_due(event, thing)
        keys = event.hex("tlsFingerprint"), event.hex("encryptionKey")
        self.world.nodes[key] = Timeline()
        self.world.nodes[key].put(event.position, Node(key.id, NodeStatus.ACTIVE, Role(number), *keys))

    def _suspended(self, event: Event) -> None:
        known, thing = self._known(event)
        if self.may_suspend(Topic.NODES, thing, event, known.last if known else None) and known:
            held = event.flag("held")
            known.put(event.position, replace(known.last, status=NodeStatus.SUSPENDED, held=held))

    def _reinstated(self, event: Event) -> None:
        known, thing = self._known(event)
        if self.may_reinstate(Topic.NODES, thing, event, known.last if known else None) and known:
            known.put(event.position, replace(known.last, status=NodeStatus.ACTIVE, held=False))

    def _retired(self, event: Event) -> None:
        known, thing = self._known(event)
        if known is None or known.last.status is NodeStatus.RETIRED:
            was = known.last.status.name if known else "NONE"
            self.irregular(Topic.NODES, thing, event, "a node that is not retired yet", was)
            return
        self._judge_retirement(event, thing)
        known.put(event.position, replace(known.last, status=NodeStatus.RETIRED))

    def _judge_retirement(self, event: Event, thing: str) -> None:
        by = event.who("by")
        if by == self.governance.address and self.governance.by_vote(event):
            return
        if not self.governance.is_registrar(by):
            self.irregular(Topic.NODES, thing, event, "retired by a registrar or by vote", by)
        elif len(self.governance.members) != 1:
            self._vote_was_due(event, thing)

    def _rotated(self, event: Event) -> None:
        known, thing = self._known(event)
        if known is None or known.last.status is not NodeStatus.ACTIVE:
            was = known.last.status.name if known else "NONE"
            self.irregular(Topic.NODES, thing, event, "an active node rotates its keys", was)
            return
        self._judge_keys(event, thing, known.last.roles)
        version = known.last.version + 1
        if event.number("version") != version:
            observed = f"version {event.number('version')}"
            self.irregular(Topic.NODES, thing, event, f"version {version} of its keys", observed)
        fresh = replace(
            known.last,
            version=version,
            tls_fingerprint=event.hex("tlsFingerprint"),
            encryption_key=event.hex("encryptionKey"),
        )
        known.put(event.position, fresh)

    def _served(self, event: Event) -> None:
        if not self.governance.by_vote(event):
            thing = f"ledger {event.who('ledger')}"
            expected = "served in a transaction that executes a proposal"
            self.irregular(Topic.GENERATIONS, thing, event, expected, f"none in {event.transaction}")

    def _judge_keys(self, event: Event, thing: str, roles: Role) -> None:
        """Who opens no port to peers needs no certificate; all need an encryption key."""
        fingerprint: Hex32 = event.hex("tlsFingerprint")
        if event.hex("encryptionKey") == NOTHING or (roles & _LISTENS and fingerprint == NOTHING):
            self.irregular(Topic.NODES, thing, event, "the keys that its roles need", "an empty one")

    def _vote_was_due(self, event: Event, thing: str) -> None:
        expected = "by vote of the members, or by the registrar while there is one member"
        observed = f"no vote, and {len(self.governance.members)} members"
        self.irregular(Topic.NODES, thing, event, expected, observed)

    def _key(self, event: Event) -> tuple[Key[Address], str]:
        key = Key(event.contract, event.who("node"))
        return key, self.world.name(key)

    def _known(self, event: Event) -> tuple[Timeline[Node] | None, str]:
        key, thing = self._key(event)
        return self.world.nodes.get(key), thing
