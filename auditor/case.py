"""All that the checks look at: replayed facts, contract storage, node logs and how far the proof reaches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from sealtrace.auditor.events import Event
from sealtrace.auditor.evidence import NodeLog
from sealtrace.auditor.openings import Opened
from sealtrace.auditor.statements import Statements
from sealtrace.auditor.world import Key, TaskHistory, World
from sealtrace.contracts.governance import Consortium, Proposal
from sealtrace.protocol.evidence import Kind
from sealtrace.protocol.identifiers import Address, Hex32
from sealtrace.protocol.lifecycle import TaskState
from sealtrace.protocol.records import Algorithm, BlockRef, Checkpoint, Dataset, Grant, Node

Contracts = tuple[Address, ...]
"""The six contracts of a generation, in the order in which the directory names them."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """What an auditor may choose. ``checkpoint_blocks``: how long after a task's end a log may stay
    unanchored. ``rule`` and ``object`` narrow a run to looking at one thing again."""

    checkpoint_blocks: int = 100
    rule: str | None = None
    object: str | None = None


class Level(IntEnum):
    """How far what was read is proven."""

    RPC_TRUSTED = 1
    RECEIPTS_COMPLETE = 2
    SEALS_CHECKED = 3


@dataclass(frozen=True, slots=True)
class ProofProblem:
    """A block, or a log in it, that is not what its header commits to."""

    block: int
    expected: str
    observed: str
    transaction: Hex32 | None = None
    log_index: int | None = None


@dataclass(frozen=True, slots=True)
class ValidatorChange:
    """From ``block`` on, who seals is another set than before."""

    block: int
    added: tuple[Address, ...]
    removed: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class Seals:
    """What was found of commit seals. ``pinned`` are the validators of the first block, as the auditor knows
    them from elsewhere; ``missing`` tells why seals were not checked."""

    missing: str = ""
    sealed: bool = False
    """Whether the chain seals its blocks at all."""
    pinned: tuple[Address, ...] = ()
    schemes: tuple[str, ...] = ()
    blocks: int = 0
    """How many blocks a quorum sealed; the genesis carries no seals."""
    last: tuple[Address, ...] = ()
    """The validators of the last block."""
    changes: tuple[ValidatorChange, ...] = ()
    problems: tuple[ProofProblem, ...] = ()


@dataclass(frozen=True, slots=True)
class Execution:
    """What came of executing the chain again from its genesis. ``why`` tells why it was not done."""

    why: str = "the blocks were not executed again: give --reexecute where the chain is the embedded one"
    genesis_hash: Hex32 | None = None
    blocks: int = 0
    transactions: int = 0
    problem: ProofProblem | None = None

    @property
    def done(self) -> bool:
        """Whether it was carried out, to whatever end."""
        return self.genesis_hash is not None or self.problem is not None


@dataclass(frozen=True, slots=True)
class StorageProof:
    """Whether the contract storage that was read is what the last block's state root commits to.
    ``why`` tells why it was not proven."""

    why: str = "contract storage was not read"
    state_root: Hex32 | None = None
    slots: int = 0
    problems: tuple[tuple[str, str, str], ...] = ()
    """Object, expected, observed."""


@dataclass(frozen=True, slots=True)
class Replaced:
    """A block that an earlier reading had as final, up to ``checkpoint``, and that another has replaced;
    the first of several in a row."""

    block: int
    checkpoint: int
    expected: Hex32
    observed: Hex32


@dataclass(frozen=True, slots=True)
class Proof:
    """What was proven about the blocks ``first`` to ``last``, and why not more."""

    level: Level
    reason: str
    first: int
    last: int
    headers: int = 0
    receipts_rebuilt: int = 0
    excluded_by_bloom: int = 0
    chain_problems: tuple[ProofProblem, ...] = ()
    log_problems: tuple[ProofProblem, ...] = ()
    seals: Seals = Seals(missing="commit seals were not looked at")
    execution: Execution = Execution()
    storage: StorageProof = StorageProof()
    replaced: tuple[Replaced, ...] = ()


@dataclass(frozen=True, slots=True)
class StoredTask:
    """A task as contract storage has it at a block; ``state`` with time already applied. Its terms are not
    stored: its id commits to them."""

    state: TaskState
    deadline: int
    approved: int
    started: int
    finished: int
    agreed: str
    acknowledged: bool


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Contract storage at the last block, for everything the replay knows, each object read from the
    contract that emitted its events."""

    consortium: Consortium
    offices: frozenset[tuple[Hex32, Address]]
    proposals: Mapping[Hex32, Proposal | None]
    generations: tuple[Contracts, ...]
    nodes: Mapping[Key[Address], Node]
    datasets: Mapping[Key[Hex32], Dataset | None]
    algorithms: Mapping[Key[Hex32], Algorithm | None]
    grants: Mapping[Key[Hex32], Grant | None]
    serials: Mapping[Key[Address], int]
    tasks: Mapping[Hex32, StoredTask | None]
    closed: Mapping[Address, bool]
    checkpoints: Mapping[Key[Address], Checkpoint | None]


@dataclass(frozen=True, slots=True)
class OtherCode:
    """A contract that the directory names, by generation and name, whose code is not this version's."""

    generation: int
    contract: str
    why: str

    def __str__(self) -> str:
        return f"{self.contract} of generation {self.generation}: {self.why}"


@dataclass(frozen=True, slots=True)
class Case:
    """One audit's material. ``first`` and ``last`` bound what is judged; replay always starts at the
    contracts' first block."""

    chain_id: int
    directory: Address
    first: int
    last: BlockRef
    world: World
    proof: Proof
    snapshot: Snapshot | None = None
    no_snapshot: str = "contract storage was not read"
    logs: Mapping[Address, NodeLog] = field(default_factory=dict)
    openings: tuple[Opened, ...] = ()
    """The commitments that owners opened to the regulator."""
    unread: Mapping[Address, str] = field(default_factory=dict)
    """Why a log that was asked for could not be read."""
    cited: Mapping[int, BlockRef] = field(default_factory=dict)
    """The blocks that node logs cite, by number, as the chain has them."""
    other_code: tuple[OtherCode, ...] = ()
    """The contracts whose code is not this version's."""
    parameters: Parameters = Parameters()
    events: tuple[Event, ...] = ()
    """All that was replayed, from the contracts' first block on, in the order of the chain."""
    statements: Statements = field(default_factory=Statements)
    """What enclaves stated, as far as the logs name it and it was handed over."""

    def covers(self, event: Event) -> bool:
        """Whether ``event`` lies in the range that is judged."""
        return event.block.number >= self.first

    def tasks(self) -> list[TaskHistory]:
        """The tasks with an event in the range, by the order of their creation."""
        found = [
            t for t in self.world.tasks.values() if self.covers(t.steps[-1].event if t.steps else t.created)
        ]
        return sorted(found, key=lambda task: task.created.position)

    def why_no_log(self, node: Address) -> str:
        """Why the log of ``node`` is not there."""
        return self.unread.get(node, f"the log of {node} was not handed over")

    def acts(self) -> list[Act]:
        """What parties did in these tasks, in the order of the chain."""
        found = [act for task in self.tasks() for act in _acts_of(task) if self.covers(act.event)]
        return sorted(found, key=lambda act: act.event.position)


@dataclass(frozen=True, slots=True)
class Act:
    """One act of a party on the chain, and the kind of record it leaves in the party's own log."""

    task: TaskHistory
    party: Address
    event: Event
    kind: Kind

    @property
    def name(self) -> str:
        """The object that verdicts on it name."""
        return f"{self.task.id}/{self.party}/{self.event.name}"


ACTS = {
    "TaskApproved": Kind.TASK_APPROVED,
    "TaskStarted": Kind.TASK_STARTED,
    "TaskFinished": Kind.TASK_FINISHED,
    "TaskRefused": Kind.TASK_REFUSED,
    "TaskFailed": Kind.TASK_FAILED,
    "TaskCancelled": Kind.TASK_STOPPED,
}
"""The acts of a party by their events, and the kinds of their records."""


def _acts_of(task: TaskHistory) -> Iterator[Act]:
    for step in task.steps:
        event = step.event
        if event.name not in ACTS:
            continue
        party = event.who("by" if event.name == "TaskCancelled" else "party")
        if party in task.parties and not (event.name == "TaskCancelled" and party == task.requester):
            yield Act(task, party, event, ACTS[event.name])
