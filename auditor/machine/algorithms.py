"""Algorithms: proposed, reviewed, registered, rejected, superseded, suspended, reinstated, revoked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sealtrace.auditor.events import Event
from sealtrace.auditor.machine.part import Handler, Part, ascending
from sealtrace.auditor.world import Key, Timeline, Topic, World
from sealtrace.protocol.identifiers import NOTHING, Address, Hex32
from sealtrace.protocol.records import Algorithm, AlgorithmStatus, Role

MAX_REVIEWERS = 8


class AlgorithmsPart(Part):
    """The rules of the algorithm registry."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._proposals: dict[Key[Hex32], Event] = {}
        self._reviewed_in: dict[Key[Hex32], Hex32] = {}  # the transaction of each one's last review

    def handlers(self) -> Mapping[str, Handler]:
        """The methods by the names of their events."""
        return {
            "AlgorithmRegistered": self._registered,
            "AlgorithmProposed": self._proposed,
            "ReviewAsked": self._asked,
            "AlgorithmReviewed": self._reviewed,
            "AlgorithmRejected": self._rejected,
            "AlgorithmSuperseded": self._superseded,
            "AlgorithmSuspended": self._suspended,
            "AlgorithmReinstated": self._reinstated,
            "AlgorithmRevoked": self._revoked,
        }

    def finish(self) -> None:
        """Who proposes names all reviewers he says he asks, in ascending order."""
        for key, event in self._proposals.items():
            named, asked = list(self.world.reviews[key]), event.number("reviewers")
            if len(named) != asked or not ascending(named):
                expected = f"{asked} reviewers named in ascending order"
                self._note(event, expected, ", ".join(named) or "nobody")

    # coming into use

    def _registered(self, event: Event) -> None:
        key, known = self._known(event)
        if known is not None:
            self._registered_by_review(event, key, known)
            return
        needed = self.governance.rules.reviews
        if needed:
            self._note(event, f"{needed} reviews before it is registered", "registered without one")
        self._new(event, key, AlgorithmStatus.ACTIVE, 0)

    def _registered_by_review(self, event: Event, key: Key[Hex32], known: Timeline[Algorithm]) -> None:
        was = known.last
        if was.status is not AlgorithmStatus.PROPOSED:
            self._note(event, "a digest is registered once", f"registered again when {was.status.name}")
            return
        at_once = self._reviewed_in.get(key) == event.transaction
        if was.agreed != was.asked or event.who("provider") != was.provider or not at_once:
            expected = f"all {was.asked} reviewers of {was.provider} agreed, the last one in this transaction"
            self._note(event, expected, f"{was.agreed} agreed, for {event.who('provider')}")
        known.put(event.position, replace(was, status=AlgorithmStatus.ACTIVE))

    def _proposed(self, event: Event) -> None:
        key, known = self._known(event)
        if known is not None:
            self._note(event, "a digest is proposed once", f"proposed when {known.last.status.name}")
            return
        asked, needed = event.number("reviewers"), self.governance.rules.reviews
        if not max(needed, 1) <= asked <= MAX_REVIEWERS:
            expected = f"{max(needed, 1)} to {MAX_REVIEWERS} reviewers"
            self._note(event, expected, f"{asked} reviewers")
        self._new(event, key, AlgorithmStatus.PROPOSED, asked)
        self._proposals[key] = event
        self.world.reviews[key] = {}

    def _new(self, event: Event, key: Key[Hex32], status: AlgorithmStatus, asked: int) -> None:
        provider = event.who("provider")
        if key.id == NOTHING or not self.is_active(event, provider, Role.PROVIDER):
            self._note(event, "a digest of an active provider", provider)
        self.world.algorithms[key] = Timeline()
        self.world.algorithms[key].put(event.position, Algorithm(key.id, provider, status, asked=asked))

    def _asked(self, event: Event) -> None:
        key, known = self._known(event)
        proposed, who = self._proposals.get(key), event.who("reviewer")
        if known is None or proposed is None or proposed.transaction != event.transaction:
            self._note(event, "reviewers named where it is proposed", who)
            return
        if who == known.last.provider or not self.is_active(event, who):
            self._note(event, "an active reviewer who is not its provider", who)
        self.world.reviews[key].setdefault(who, None)

    def _reviewed(self, event: Event) -> None:
        key, known = self._known(event)
        said, who, agreed = self.world.reviews.get(key, {}), event.who("reviewer"), event.flag("agreed")
        if known is None or known.last.status is not AlgorithmStatus.PROPOSED:
            was = known.last.status.name if known else "NONE"
            self._note(event, "a review of what is proposed", was)
            return
        if who not in said or said[who] is not None:
            observed = f"{who} was not asked" if who not in said else f"a second one of {who}"
            self._note(event, "one review of each reviewer asked", observed)
            return
        if not self.is_active(event, who) or event.hex("report") == NOTHING:
            self._note(event, "a review by an active node, with its report", who)
        said[who] = agreed
        self._reviewed_in[key] = event.transaction
        known.put(event.position, replace(known.last, agreed=known.last.agreed + agreed))

    def _rejected(self, event: Event) -> None:
        key, known = self._known(event)
        if known is None or known.last.status is not AlgorithmStatus.PROPOSED:
            was = known.last.status.name if known else "NONE"
            self._note(event, "a rejection of what is proposed", was)
            return
        declined = False in self.world.reviews[key].values()
        if not declined or self._reviewed_in.get(key) != event.transaction:
            observed = "declined before" if declined else "nobody declined"
            self._note(event, "rejected where a reviewer declines", observed)
        known.put(event.position, replace(known.last, status=AlgorithmStatus.REJECTED))

    # going out of use

    def _superseded(self, event: Event) -> None:
        _, known = self._known(event)
        following = self.world.algorithms.get(Key(event.contract, event.hex("by")))
        if known is None or following is None or known is following:
            self._note(event, "superseded by another registered one", event.hex("by"))
            return
        lines = (known.last, following.last)
        if any(each.superseded or each.status is not AlgorithmStatus.ACTIVE for each in lines) or (
            known.last.provider != following.last.provider
        ):
            expected = "both active, of one provider, neither superseded"
            told = ", ".join(f"{a.status.name}{' superseded' * a.superseded} of {a.provider}" for a in lines)
            self._note(event, expected, told)
            if known.last.superseded:
                return
        known.put(event.position, replace(known.last, superseded=True))

    def _suspended(self, event: Event) -> None:
        key, known = self._known(event)
        thing, was = self.world.name(key), known.last if known else None
        if self.may_suspend(Topic.ALGORITHMS, thing, event, was) and known:
            held = event.flag("held")
            known.put(event.position, replace(known.last, status=AlgorithmStatus.SUSPENDED, held=held))

    def _reinstated(self, event: Event) -> None:
        key, known = self._known(event)
        thing, was = self.world.name(key), known.last if known else None
        if self.may_reinstate(Topic.ALGORITHMS, thing, event, was) and known:
            known.put(event.position, replace(known.last, status=AlgorithmStatus.ACTIVE, held=False))

    def _revoked(self, event: Event) -> None:
        _, known = self._known(event)
        if known is None or known.last.status in (AlgorithmStatus.REVOKED, AlgorithmStatus.REJECTED):
            was = known.last.status.name if known else "NONE"
            self._note(event, "an algorithm neither revoked nor rejected", was)
            return
        by: Address = event.who("by")
        if by != known.last.provider:
            self._note(event, f"revoked by {known.last.provider}", by)
        known.put(event.position, replace(known.last, status=AlgorithmStatus.REVOKED))

    def _known(self, event: Event) -> tuple[Key[Hex32], Timeline[Algorithm] | None]:
        key = Key(event.contract, event.hex("algorithm"))
        return key, self.world.algorithms.get(key)

    def _note(self, event: Event, expected: str, observed: str) -> None:
        thing = self.world.name(Key(event.contract, event.hex("algorithm")))
        self.irregular(Topic.ALGORITHMS, thing, event, expected, observed)
