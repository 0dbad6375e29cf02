"""Grants: issued, replaced, revoked, spent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sealtrace.auditor.events import Event
from sealtrace.auditor.machine.part import Handler, Part, ascending
from sealtrace.auditor.world import Consumption, GrantLine, Issue, Key, Left, NamedUse, Topic, World
from sealtrace.protocol.identifiers import NOTHING, Address, Hex32, UnixSeconds
from sealtrace.protocol.records import AlgorithmStatus, DatasetStatus, Grant, Protection, Role

MAX_PARTICIPANTS = 16


class GrantsPart(Part):
    """The rules of the grant registry."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._revoked_in: dict[Key[Hex32], Hex32] = {}  # the transaction that revoked each
        self._unclaimed: dict[tuple[Address, Hex32, Hex32], list[Consumption]] = {}

    def handlers(self) -> Mapping[str, Handler]:
        """The methods by the names of their events."""
        return {
            "GrantIssued": self._issued,
            "GrantParticipant": self._participant,
            "GrantReplaced": self._replaced,
            "GrantRevoked": self._revoked,
            "GrantConsumed": self._consumed,
            "SerialPassed": self._serial_passed,
        }

    def claim(self, registry: Address, transaction: Hex32, task: Hex32) -> tuple[Consumption, ...]:
        """The uses spent for a start at the registry its ledger asks: those of its task in its transaction
        that no start claimed yet."""
        return tuple(self._unclaimed.pop((registry, transaction, task), ()))

    def finish(self) -> None:
        """Every grant names all participants it says it has; what no start claimed was spent without one."""
        for key, issue in self.world.issues.items():
            named = self.world.grants[key].last.participants
            if len(named) != issue.participants or not ascending(named) or len(named) > MAX_PARTICIPANTS:
                expected = (
                    f"{issue.participants} participants, at most {MAX_PARTICIPANTS}, in ascending order"
                )
                thing = self.world.name(key)
                self.irregular(Topic.GRANTS, thing, issue.event, expected, ", ".join(named) or "nobody")
        for left in self._unclaimed.values():
            self.world.spent_without_start.extend(left)

    # what owners do

    def _issued(self, event: Event) -> None:
        grant = _grant_from(event)
        key, owner = Key(event.contract, grant.id), Key(event.contract, grant.owner)
        if key in self.world.grants:
            self._note(event, "a grant is issued once", "issued again")
            return
        if problem := self._why_not_issuable(event, grant):
            self._note(event, "a grant that its owner may issue", problem)
        serial = self.world.serials.get(owner, 0)
        self.world.serials[owner] = serial + 1
        self.world.issues[key] = Issue(serial, event.number("participants"), event)
        self.world.grants[key] = GrantLine()
        self.world.grants[key].put(event.position, grant)

    def _why_not_issuable(self, event: Event, grant: Grant) -> str | None:
        """What ``GrantRegistry.issue`` would have refused; the order is its."""
        if not self.is_active(event, grant.owner):
            return f"its owner {grant.owner} is not an active node"
        here = self.here(event)
        dataset = self.world.datasets.get(Key(here.datasets, grant.dataset))
        if dataset is None or dataset.last.owner != grant.owner:
            return f"the dataset {grant.dataset} is not its owner's"
        if dataset.last.status is not DatasetStatus.ACTIVE:
            return f"the dataset {grant.dataset} is {dataset.last.status.name}"
        algorithm = self.world.algorithms.get(Key(here.algorithms, grant.algorithm))
        if algorithm is None or algorithm.last.status is not AlgorithmStatus.ACTIVE:
            return f"the algorithm {grant.algorithm} is not active"
        if algorithm.last.superseded:
            return f"the algorithm {grant.algorithm} is superseded"
        if not self.is_active(event, grant.requester, Role.REQUESTER):
            return f"{grant.requester} is not an active requester"
        return _why_unsound(grant, event.time)

    def _participant(self, event: Event) -> None:
        key = self._key(event)
        issue, who = self.world.issues.get(key), event.who("participant")
        if issue is None or issue.event.transaction != event.transaction:
            self._note(event, "participants named where the grant is issued", who)
            return
        line = self.world.grants[key]
        line.put(event.position, replace(line.last, participants=(*line.last.participants, who)))

    def _revoked(self, event: Event) -> None:
        key = self._key(event)
        known = self.world.grants.get(key)
        if known is None or known.last.revoked:
            self._note(event, "a grant in being is revoked", "revoked already" if known else "never issued")
            return
        if event.who("owner") != known.last.owner:
            self._note(event, f"revoked by {known.last.owner}", event.who("owner"))
        known.put(event.position, replace(known.last, revoked=True))
        self._revoked_in[key] = event.transaction

    def _replaced(self, event: Event) -> None:
        key, later = self._key(event), Key(event.contract, event.hex("by"))
        issue = self.world.issues.get(later)
        together = issue is not None and issue.event.transaction == event.transaction
        if self._revoked_in.get(key) != event.transaction or not together:
            self._note(event, "one grant revoked and another issued in the same transaction", later.id)
            return
        owners = self.world.grants[key].last.owner, self.world.grants[later].last.owner
        if owners[0] != owners[1]:
            self._note(event, f"replaced by a grant of {owners[0]}", owners[1])
        self.world.replaced[key] = later.id

    def _serial_passed(self, event: Event) -> None:
        owner = Key[Address](event.contract, event.who("owner"))
        serial, told = self.world.serials.get(owner, 0), event.number("serial")
        if told != serial:
            observed = f"serial {told}"
            self.irregular(Topic.GRANTS, self.world.name(owner), event, f"serial {serial}", observed)
        self.world.serials[owner] = serial + 1

    # what starts spend

    def _consumed(self, event: Event) -> None:
        key, task, left = self._key(event), event.hex("task"), event.number("usesLeft")
        epsilon = event.number("epsilonLeft")
        spent = self._unclaimed.setdefault((event.contract, event.transaction, task), [])
        spent.append(Consumption(key.id, task, left, event))
        known = self.world.grants.get(key)
        if known is None:  # the start that names it is judged by its own check
            return
        before = known.left
        self._count_uses(event, before.uses - 1, left)
        self._count_epsilon(event, before, self._use_of(task, key.id), epsilon)
        known.spend(event.position, left, epsilon)

    def _count_uses(self, event: Event, expected: int, left: int) -> None:
        if left != expected or expected < 0:
            shown = f"{expected} uses left" if expected >= 0 else "nothing left to spend"
            thing = self.world.name(self._key(event))
            self.irregular(Topic.USES, thing, event, shown, f"{left} uses left")

    def _count_epsilon(self, event: Event, before: Left, use: NamedUse | None, left: int) -> None:
        if use is None:  # no start can claim it, and that is a finding of its own
            return
        expected = before.epsilon - (use.epsilon_millionths if before.grant.epsilon_millionths else 0)
        if left != expected or expected < 0:
            covered = expected >= 0
            shown = f"epsilon {expected} left" if covered else f"no more than {before.epsilon} spent"
            thing = self.world.name(self._key(event))
            self.irregular(Topic.EPSILON, thing, event, shown, f"epsilon {left} left")

    def _use_of(self, task: Hex32, grant: Hex32) -> NamedUse | None:
        known = self.world.tasks.get(task)
        for use in known.uses if known else ():
            if use.grant == grant:
                return use
        return None

    def _key(self, event: Event) -> Key[Hex32]:
        return Key(event.contract, event.hex("grant"))

    def _note(self, event: Event, expected: str, observed: str) -> None:
        self.irregular(Topic.GRANTS, self.world.name(self._key(event)), event, expected, observed)


def _why_unsound(grant: Grant, now: UnixSeconds) -> str | None:
    if grant.expires_at <= max(grant.not_before, now):
        return f"a window from {grant.not_before} to {grant.expires_at}, issued at {now}"
    if not grant.uses or not grant.protections:
        return "no use or no protection"
    return "no purpose" if grant.purpose == NOTHING else None


def _grant_from(event: Event) -> Grant:
    return Grant(
        id=event.hex("grant"),
        owner=event.who("owner"),
        dataset=event.hex("dataset"),
        algorithm=event.hex("algorithm"),
        requester=event.who("requester"),
        purpose=event.hex("purpose"),
        uses_left=event.number("uses"),
        not_before=UnixSeconds(event.number("notBefore")),
        expires_at=UnixSeconds(event.number("expiresAt")),
        protections=Protection(event.number("protections")),
        approval_required=event.flag("approvalRequired"),
        revoked=False,
        epsilon_millionths=event.number("epsilon"),
        uses=event.number("uses"),
        epsilon_left=event.number("epsilon"),
    )
