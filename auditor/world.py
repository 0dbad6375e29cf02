"""The replayed state with its history: what everything was at every place in the chain."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar

from sealtrace.auditor.events import Event, Position
from sealtrace.protocol.authorization import Facts
from sealtrace.protocol.identifiers import NOTHING, Address, Hex32, UnixSeconds
from sealtrace.protocol.lifecycle import TaskState, at_time
from sealtrace.protocol.records import Algorithm, BlockRef, Dataset, Grant, Node, Protection, TaskTerms, Use

T = TypeVar("T")

CONFLICT = Hex32("0x" + "ff" * 32)


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


class Topic(StrEnum):
    """What an irregular event offends against; each topic belongs to one check."""

    LIFECYCLE = "lifecycle"
    ACTORS = "actors"
    USES = "uses"
    GRANTS = "grants"
    NODES = "nodes"
    DATASETS = "datasets"
    ALGORITHMS = "algorithms"
    CHECKPOINTS = "checkpoints"
    DECODING = "decoding"


@dataclass(frozen=True, slots=True)
class Irregularity:
    """An event that the rules do not allow where it stands."""

    topic: Topic
    object: str
    event: Event
    expected: str
    observed: str


@dataclass(frozen=True, slots=True)
class Consumption:
    """One use spent: of which grant, for which task."""

    grant: Hex32
    task: Hex32
    uses_left: int
    event: Event


@dataclass(frozen=True, slots=True)
class Start:
    """A party's start and the uses spent in the same transaction."""

    task: Hex32
    party: Address
    event: Event
    consumed: tuple[Consumption, ...]

    @property
    def judged_at(self) -> Position:
        """Where the ledger looked: before the first use was spent."""
        return min([self.event.position, *(each.event.position for each in self.consumed)])


@dataclass(frozen=True, slots=True)
class Step:
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
    parties: dict[int, Address] = field(default_factory=dict)
    uses: dict[int, Use] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    approvals: dict[Address, Event] = field(default_factory=dict)
    starts: dict[Address, Start] = field(default_factory=dict)
    finishes: dict[Address, Event] = field(default_factory=dict)
    end: Event | None = None

    @property
    def everybody(self) -> int:
        """The mask with one bit for each party."""
        return (1 << self.party_count) - 1

    def terms(self) -> TaskTerms | None:
        """What the task is, or ``None`` where the events that name its parts are not all there."""
        whole = range(self.party_count), range(self.use_count)
        if sorted(self.parties) != list(whole[0]) or sorted(self.uses) != list(whole[1]):
            return None
        if any(use.party >= self.party_count for use in self.uses.values()):
            return None
        parties = tuple(self.parties[i] for i in whole[0])
        uses = tuple(self.uses[i] for i in whole[1])
        return TaskTerms(self.spec, self.purpose, self.protections, self.deadline, parties, uses)

    def mask(self, who: dict[Address, Start] | dict[Address, Event]) -> int:
        """One bit for each party that is a key of ``who``."""
        return sum(1 << index for index, party in self.parties.items() if party in who)

    def state_at(self, now: UnixSeconds) -> TaskState:
        """Its state at block time ``now``."""
        return at_time(self.state, self.deadline, now)

    def agreed(self) -> Hex32:
        """The digest the ledger holds as agreed: zero before the first, all ones once two differ."""
        found = self.results()
        return CONFLICT if len(found) > 1 else next(iter(found), NOTHING)

    def results(self) -> set[Hex32]:
        """The result digests its parties reported."""
        return {event.hex("result") for event in self.finishes.values()}


@dataclass(slots=True)
class World:
    """Everything the events tell. Written by :mod:`replay` alone, read by the checks."""

    nodes: dict[Address, Timeline[Node]] = field(default_factory=dict)
    datasets: dict[Hex32, Timeline[Dataset]] = field(default_factory=dict)
    algorithms: dict[Hex32, Timeline[Algorithm]] = field(default_factory=dict)
    grants: dict[Hex32, Timeline[Grant]] = field(default_factory=dict)
    tasks: dict[Hex32, TaskHistory] = field(default_factory=dict)
    anchors: dict[Address, list[Anchor]] = field(default_factory=dict)
    spent_without_start: list[Consumption] = field(default_factory=list)
    irregular: list[Irregularity] = field(default_factory=list)
    blocks: dict[int, BlockRef] = field(default_factory=dict)
    events: int = 0

    def facts(self, terms: TaskTerms, requester: Address, at: Position) -> Facts:
        """What the chain said of everything ``terms`` names, just before ``at``."""
        people = {*terms.parties, requester}
        return Facts(
            grants=_present({u.grant: self.grants.get(u.grant) for u in terms.uses}, at),
            nodes=_present({p: self.nodes.get(p) for p in people}, at),
            datasets=_present({u.dataset: self.datasets.get(u.dataset) for u in terms.uses}, at),
            algorithms=_present({u.algorithm: self.algorithms.get(u.algorithm) for u in terms.uses}, at),
        )


K = TypeVar("K", bound=str)


def _present(timelines: dict[K, Timeline[T] | None], at: Position) -> dict[K, T]:
    found = {key: line.before(at) for key, line in timelines.items() if line is not None}
    return {key: value for key, value in found.items() if value is not None}
