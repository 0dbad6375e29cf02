"""What the scheduler asks of the chain. Every read names the block it is read at."""

from __future__ import annotations

from typing import Protocol

from sealtrace.protocol.authorization import Facts
from sealtrace.protocol.identifiers import Address, Hex32
from sealtrace.protocol.lifecycle import TaskState
from sealtrace.protocol.records import BlockRef, Grant, Node, TaskTerms


class TaskOnChain(Protocol):
    """A task's record. ``state`` is derived at the time of the block; the masks have one bit a party."""

    @property
    def state(self) -> TaskState:
        """Where the task stands."""

    @property
    def approved(self) -> int:
        """Parties that agreed."""

    @property
    def started(self) -> int:
        """Parties that started."""

    @property
    def finished(self) -> int:
        """Parties that finished."""


class Chain(Protocol):
    """The chain, read only."""

    def finalized(self) -> BlockRef:
        """The last block that cannot be undone."""

    def node(self, address: Address, *, at: BlockRef) -> Node:
        """An organisation's record; status NONE when it was never admitted."""

    def grant(self, id: Hex32, *, at: BlockRef) -> Grant | None:
        """A grant, or nothing."""

    def facts(self, terms: TaskTerms, *, at: BlockRef) -> Facts:
        """Everything that ``terms`` name."""

    def task(self, id: Hex32, *, at: BlockRef) -> TaskOnChain | None:
        """A task's record, or nothing."""

    def task_id(self, terms: TaskTerms) -> Hex32:
        """The id of the task with these terms; computed, not asked."""
