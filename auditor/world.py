"""The replayed state with its history: what everything was at every place in the chain."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Generic, NamedTuple, Protocol, TypeVar

import msgspec

from sealtrace.auditor.events import Event, Position
from sealtrace.auditor.governance import Governance
from sealtrace.contracts.client import CONFLICT
from sealtrace.protocol.authorization import Facts
from sealtrace.protocol.identifiers import NOTHING, Address, Hex32, UnixSeconds
from sealtrace.protocol.lifecycle import TaskState, at_time
from sealtrace.protocol.records import (
    Algorithm,
    BlockRef,
    Dataset,
    Grant,
    GrantTerms,
    Node,
    Protection,
    TaskTerms,
    Use,
)

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
K = TypeVar("K", bound=str)

MARK_DIGITS = len(CONFLICT)
"""The ledger keeps of a result digest its first 16 bytes; this much of the text stands for them."""

NO_MARK = NOTHING[:MARK_DIGITS]


class Key(NamedTuple, Generic[K]):
    """What an object is known by: two generations may know one dataset, each in a registry of its own."""

    contract: Address
    id: K


@dataclass(frozen=True, slots=True)
class Generation:
    """A set of contracts that the directory announced."""

    number: int
    nodes: Address
    datasets: Address
    algorithms: Address
    grants: Address
    ledger: Address
    evidence: Address
    announced: Event

    @property
    def contracts(self) -> tuple[Address, ...]:
        """The six, in the order in which the directory names them."""
        return self.nodes, self.datasets, self.algorithms, self.grants, self.ledger, self.evidence


class Timeline(Generic[T]):
    """The values one object took, each from its position on."""

    __slots__ = ("_positions", "_values")

    def __init__(self) -> None:
        self._positions: list[Position] = []
        self._values: list[T] = []

    def put(self, position: Position, value: T) -> None:
        """Record the value from ``position`` on; positions come in ascending order."""
        self._positions.append(position)
        self._values.append(value)

    def before(self, position: Position) -> T | None:
        """The value just before ``position``, ``None`` where there was none yet."""
        index = bisect_left(self._positions, position)
        return self._values[index - 1] if index else None

    @property
    def last(self) -> T:
        """The value at the end of the replay."""
        return self._values[-1]


class Left(msgspec.Struct, frozen=True, gc=False):
    """What is left of a grant: the grant as it was last changed, and the counts since."""

    grant: Grant
    uses: int
    epsilon: int

    @property
    def stands(self) -> bool:
        """Whether a task that names it needs no approval by its owner."""
        return bool(self.uses) and not self.grant.revoked and not self.grant.approval_required

    def whole(self) -> Grant:
        """The grant with these counts."""
        return replace(self.grant, uses_left=self.uses, epsilon_left=self.epsilon)


class GrantLine:
    """A grant's values. Nearly all come of a use that was spent, and of these the counts alone are kept."""

    __slots__ = ("_line",)

    def __init__(self) -> None:
        self._line: Timeline[Left] = Timeline()

    def put(self, position: Position, grant: Grant) -> None:
        """As :meth:`Timeline.put`."""
        self._line.put(position, Left(grant, grant.uses_left, grant.epsilon_left))

    def spend(self, position: Position, uses_left: int, epsilon_left: int) -> None:
        """Record what is left from ``position`` on."""
        self._line.put(position, Left(self._line.last.grant, uses_left, epsilon_left))

    def before(self, position: Position) -> Grant | None:
        """As :meth:`Timeline.before`."""
        left = self._line.before(position)
        return left.whole() if left else None

    def left_before(self, position: Position) -> Left | None:
        """What was left just before ``position``."""
        return self._line.before(position)

    @property
    def last(self) -> Grant:
        """The grant at the end of the replay."""
        return self._line.last.whole()

    @property
    def left(self) -> Left:
        """What is left at the end of the replay."""
        return self._line.last


class Line(Protocol[T_co]):
    """What :class:`Timeline` and :class:`GrantLine` have in common."""

    def before(self, position: Position) -> T_co | None:
        """The value just before ``position``, ``None`` where there was none yet."""


class Topic(StrEnum):
    """What an irregular event offends against; each topic belongs to one check."""

    LIFECYCLE = "lifecycle"
    ACTORS = "actors"
    CREATION = "creation"
    ACKNOWLEDGEMENTS = "acknowledgements"
    USES = "uses"
    EPSILON = "epsilon"
    GRANTS = "grants"
    NODES = "nodes"
    DATASETS = "datasets"
    ALGORITHMS = "algorithms"
    CHECKPOINTS = "checkpoints"
    DECODING = "decoding"
    MEMBERS = "members"
    PROPOSALS = "proposals"
    OFFICES = "offices"
    GENERATIONS = "generations"


@dataclass(frozen=True, slots=True)
class Irregularity:
    """An event that the rules do not allow where it stands."""

    topic: Topic
    object: str
    event: Event
    expected: str
    observed: str


class Consumption(msgspec.Struct, frozen=True, gc=False):
    """One use spent: of which grant, for which task."""

    grant: Hex32
    task: Hex32
    uses_left: int
    event: Event


class Start(msgspec.Struct, frozen=True, gc=False):
    """A party's start and the uses spent in the same transaction."""

    task: Hex32
    party: Address
    event: Event
    consumed: tuple[Consumption, ...]

    @property
    def judged_at(self) -> Position:
        """Where the ledger looked: before the first use was spent."""
        return min([self.event.position, *(each.event.position for each in self.consumed)])


class Step(msgspec.Struct, frozen=True, gc=False):
    """One event of a task's life and the states around it."""

    event: Event
    before: TaskState
    after: TaskState


@dataclass(frozen=True, slots=True)
class Anchor:
    """A checkpoint as it was anchored."""

    node: Address
    size: int
    root: Hex32
    event: Event


@dataclass(frozen=True, slots=True)
class Issue:
    """How a grant came to be: its owner's running serial, and how many participants it names."""

    serial: int
    participants: int
    event: Event


class NamedUse(msgspec.Struct, frozen=True, gc=False):
    """A use of a dataset as its event names it: by the party that answers for it."""

    party: Address
    dataset: Hex32
    algorithm: Hex32
    grant: Hex32
    epsilon_millionths: int

    def under(self, parties: Sequence[Address]) -> Use:
        """The same by the party's index among ``parties``, in which it is."""
        index = parties.index(self.party)
        return Use(index, self.dataset, self.algorithm, self.grant, self.epsilon_millionths)


@dataclass(slots=True)
class TaskHistory:
    """A task's life as its events tell it."""

    id: Hex32
    created: Event
    requester: Address
    spec: Hex32
    purpose: Hex32
    protections: Protection
    deadline: UnixSeconds
    party_count: int
    use_count: int
    approved: int
    state: TaskState = TaskState.NONE
    parties: list[Address] = field(default_factory=list)
    """In ascending order, as the ledger takes them; a party's place is its index."""
    uses: list[NamedUse] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    approvals: dict[Address, Event] = field(default_factory=dict)
    starts: dict[Address, Start] = field(default_factory=dict)
    finishes: dict[Address, Event] = field(default_factory=dict)
    progress: dict[Address, Event] = field(default_factory=dict)
    acknowledged: Event | None = None
    end: Event | None = None

    @property
    def ledger(self) -> Address:
        """The ledger that holds it."""
        return self.created.contract

    @property
    def everybody(self) -> int:
        """The mask with one bit for each party."""
        return (1 << self.party_count) - 1

    @property
    def host(self) -> Address | None:
        """The one party that no use is of, where there is exactly one: a task's enclave is there."""
        idle = set(self.parties) - {use.party for use in self.uses}
        return idle.pop() if self.whole and len(idle) == 1 else None

    @property
    def whole(self) -> bool:
        """Whether the events that name its parts are all there."""
        return len(self.parties) == self.party_count and len(self.uses) == self.use_count

    def terms(self) -> TaskTerms | None:
        """What the task is, or ``None`` where the events that name its parts are not all there."""
        if not self.whole:
            return None
        return TaskTerms(
            requester=self.requester,
            spec=self.spec,
            purpose=self.purpose,
            protections=self.protections,
            deadline=self.deadline,
            parties=tuple(self.parties),
            uses=tuple(use.under(self.parties) for use in self.uses),
        )

    def mask(self, who: dict[Address, Start] | dict[Address, Event]) -> int:
        """One bit for each party that is a key of ``who``."""
        return sum(1 << index for index, party in enumerate(self.parties) if party in who)

    def state_at(self, now: UnixSeconds) -> TaskState:
        """Its state at block time ``now``."""
        return at_time(self.state, self.deadline, now)

    def agreed(self) -> str:
        """The mark the ledger holds as agreed: zero before the first, all ones once two differ."""
        found = {result[:MARK_DIGITS] for result in self.results()}
        return CONFLICT if len(found) > 1 else next(iter(found), NO_MARK)

    def results(self) -> set[Hex32]:
        """The result digests its parties reported."""
        return {event.hex("result") for event in self.finishes.values()}


@dataclass(slots=True)
class World:
    """Everything the events tell. Written by :mod:`replay` alone, read by the checks."""

    governance: Governance = field(default_factory=Governance)
    generations: list[Generation] = field(default_factory=list)
    homes: dict[Address, Generation] = field(default_factory=dict)
    """The first generation that has each contract. Whom a contract asks it was told when it was made, so
    every later generation that has it has these too."""
    nodes: dict[Key[Address], Timeline[Node]] = field(default_factory=dict)
    datasets: dict[Key[Hex32], Timeline[Dataset]] = field(default_factory=dict)
    registered: dict[Key[Hex32], Event] = field(default_factory=dict)
    """Where each dataset came to be."""
    algorithms: dict[Key[Hex32], Timeline[Algorithm]] = field(default_factory=dict)
    reviews: dict[Key[Hex32], dict[Address, bool | None]] = field(default_factory=dict)
    """Who was asked to review an algorithm, and what each said."""
    grants: dict[Key[Hex32], GrantLine] = field(default_factory=dict)
    issues: dict[Key[Hex32], Issue] = field(default_factory=dict)
    replaced: dict[Key[Hex32], Hex32] = field(default_factory=dict)
    """The grant that took a grant's place."""
    serials: dict[Key[Address], int] = field(default_factory=dict)
    """The serial of each owner's next grant."""
    tasks: dict[Hex32, TaskHistory] = field(default_factory=dict)
    closed: dict[Address, Event] = field(default_factory=dict)
    """The ledgers that take no new task."""
    anchors: dict[Key[Address], list[Anchor]] = field(default_factory=dict)
    spent_without_start: list[Consumption] = field(default_factory=list)
    irregular: list[Irregularity] = field(default_factory=list)
    blocks: dict[int, BlockRef] = field(default_factory=dict)
    events: int = 0

    def generation_of(self, contract: Address) -> Generation | None:
        """The first generation that has ``contract``."""
        return self.homes.get(contract)

    def announce(self, generation: Generation) -> None:
        """Take in a generation; they come in the order in which they were announced."""
        self.generations.append(generation)
        for contract in generation.contracts:
            self.homes.setdefault(contract, generation)

    def name(self, key: Key[K]) -> str:
        """An object's id, and its generation where that is not the first."""
        generation = self.generation_of(key.contract)
        later = generation is not None and generation.number > 0
        return f"{key.id} of generation {generation.number}" if generation and later else key.id

    def anchors_of(self, node: Address) -> list[Anchor]:
        """All checkpoints of a node's log, of whichever generation, in the chain's order."""
        found = [each for key, anchors in self.anchors.items() if key.id == node for each in anchors]
        return sorted(found, key=lambda each: each.event.position)

    def anchored(self) -> set[Address]:
        """The nodes that anchored."""
        return {key.id for key in self.anchors}

    def grant_terms(self, key: Key[Hex32]) -> GrantTerms:
        """What a grant's owner allowed."""
        grant = self.grants[key].last
        return GrantTerms(
            grant.dataset,
            grant.algorithm,
            grant.requester,
            grant.purpose,
            grant.uses,
            grant.not_before,
            grant.expires_at,
            grant.protections,
            grant.approval_required,
            grant.epsilon_millionths,
            grant.participants,
        )

    def facts(self, task: TaskHistory, terms: TaskTerms, at: Position) -> Facts:
        """What the chain said of everything ``terms`` names, just before ``at``; of no other generation."""
        here = self.generation_of(task.ledger)
        if here is None:
            return Facts({}, {}, {}, {})
        people = {*terms.parties, terms.requester}
        return Facts(
            grants=_present(self.grants, here.grants, {use.grant for use in terms.uses}, at),
            nodes=_present(self.nodes, here.nodes, people, at),
            datasets=_present(self.datasets, here.datasets, {use.dataset for use in terms.uses}, at),
            algorithms=_present(self.algorithms, here.algorithms, {use.algorithm for use in terms.uses}, at),
        )


def _present(lines: Mapping[Key[K], Line[T]], contract: Address, ids: set[K], at: Position) -> dict[K, T]:
    found = {each: lines[Key(contract, each)].before(at) for each in ids if Key(contract, each) in lines}
    return {each: value for each, value in found.items() if value is not None}
