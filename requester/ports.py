"""What a requester asks of the chain, of its sender and of the scheduler."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sealtrace.contracts.calls import Call
from sealtrace.protocol.attestation.appraisal import Stage
from sealtrace.protocol.identifiers import Address, Hex32, UnixSeconds
from sealtrace.protocol.lifecycle import TaskState
from sealtrace.protocol.records import Algorithm, BlockRef, Grant, Node, TaskTerms
from sealtrace.protocol.spec import TaskSpec
from sealtrace.protocol.statements import Signed


class TaskOnChain(Protocol):
    """A task's record; the masks have one bit a party."""

    @property
    def state(self) -> TaskState:
        """Where the task stands at the block's time."""

    @property
    def deadline(self) -> UnixSeconds:
        """When it expires."""

    @property
    def approved(self) -> int:
        """Parties that agreed."""

    @property
    def started(self) -> int:
        """Parties that started."""

    @property
    def finished(self) -> int:
        """Parties that finished."""

    @property
    def agreed(self) -> str:
        """The beginning of the digest over all sealed outputs that the parties agree on."""


class EventOnChain(Protocol):
    """An event; bytes and addresses are lower-case hexadecimal texts."""

    @property
    def name(self) -> str:
        """The event's name in the contract."""

    @property
    def args(self) -> Mapping[str, Any]:
        """Its arguments by name."""


class Chain(Protocol):
    """The chain, read only."""

    @property
    def deployed_at(self) -> int:
        """The block from which events are of interest."""

    def finalized(self) -> BlockRef:
        """The last block that cannot be undone."""

    def node(self, address: Address, *, at: BlockRef) -> Node:
        """An organisation's record."""

    def grant(self, id: Hex32, *, at: BlockRef) -> Grant | None:
        """A grant, or nothing."""

    def algorithm(self, digest: Hex32, *, at: BlockRef) -> Algorithm | None:
        """An algorithm, or nothing."""

    def task(self, id: Hex32, *, at: BlockRef) -> TaskOnChain | None:
        """A task, or nothing."""

    def task_id(self, terms: TaskTerms) -> Hex32:
        """The id of the task with these terms."""

    def events(
        self,
        first: int,
        last: int,
        *,
        names: Collection[str] | None = None,
        task: Hex32 | None = None,
    ) -> Sequence[EventOnChain]:
        """Events between two blocks, both included, in their order."""


class Sender(Protocol):
    """The one way to send transactions under the requester's key."""

    def send(self, intent: str, call: Call, *, timeout_s: float = 60) -> object:
        """Send ``call`` once, however often ``intent`` comes, and wait until it is in a block."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The scheduler took a task; the warnings are what owners' nodes may refuse it for."""

    task: Hex32
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Delivered:
    """A sealed output as the scheduler handed it over, with the statement of its party."""

    content: bytes
    statement: Signed | None


@dataclass(frozen=True, slots=True)
class SealedMetrics:
    """A sealed message of metrics as the scheduler handed it over."""

    number: int
    sealed: bytes


class Scheduler(Protocol):
    """The scheduler, which is not trusted: everything it says is checked."""

    url: str

    def submit(self, signed: Signed) -> Accepted:
        """Submit a signed specification."""

    def plan(self, draft: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
        """Have protocols chosen; the specification as JSON, and warnings."""

    def spec(self, task: Hex32) -> TaskSpec:
        """The specification the scheduler introduces ``task`` with."""

    def statements(self, task: Hex32) -> tuple[tuple[Hex32, Stage], ...]:
        """What the task's enclave has shown so far: digests and stages."""

    def statement(self, task: Hex32, digest: Hex32) -> bytes:
        """The statement of the task's enclave with this digest; that it is not another was checked."""

    def metrics(self, task: Hex32, after: int, signed: Signed) -> tuple[SealedMetrics, ...]:
        """The next sealed messages of metrics whose number is above ``after``, ascending; none is no more."""

    def output(self, task: Hex32, party: Address, signed: Signed) -> Delivered | None:
        """A party's sealed output, or nothing when it is not there."""
