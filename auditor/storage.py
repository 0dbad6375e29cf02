"""Contract storage at one block, read for everything the replay knows, to be compared with it."""

from __future__ import annotations

from typing import Protocol

from sealtrace.auditor.case import Snapshot, StoredTask
from sealtrace.auditor.world import TaskHistory, World
from sealtrace.contracts.terms import terms_hash
from sealtrace.protocol.identifiers import Address, Hex32, UnixSeconds
from sealtrace.protocol.lifecycle import TaskState
from sealtrace.protocol.records import Algorithm, BlockRef, Checkpoint, Dataset, Grant, Node


class TaskRecord(Protocol):
    """A task as the ledger stores it; asked of the chain's client."""

    @property
    def requester(self) -> Address:
        """Who asked."""
        ...

    @property
    def state(self) -> TaskState:
        """Its state at the block it was read at."""
        ...

    @property
    def deadline(self) -> UnixSeconds:
        """Block time, Unix seconds."""
        ...

    @property
    def approved(self) -> int:
        """One bit for each party."""
        ...

    @property
    def started(self) -> int:
        """One bit for each party."""
        ...

    @property
    def finished(self) -> int:
        """One bit for each party."""
        ...

    @property
    def result(self) -> Hex32:
        """The digest agreed on so far."""
        ...

    @property
    def terms_hash(self) -> Hex32:
        """What the ledger keeps of its terms."""
        ...


class Storage(Protocol):
    """What is asked of the contracts. Every read names its block."""

    def node(self, address: Address, *, at: BlockRef) -> Node:
        """The organisation's record."""
        ...

    def dataset(self, dataset: Hex32, *, at: BlockRef) -> Dataset | None:
        """The dataset's record."""
        ...

    def algorithm(self, digest: Hex32, *, at: BlockRef) -> Algorithm | None:
        """The algorithm's record."""
        ...

    def grant(self, grant: Hex32, *, at: BlockRef) -> Grant | None:
        """The grant's record."""
        ...

    def task(self, task: Hex32, *, at: BlockRef) -> TaskRecord | None:
        """The task's record."""
        ...

    def checkpoint(self, node: Address, *, at: BlockRef) -> Checkpoint | None:
        """The last checkpoint."""
        ...


def read_snapshot(storage: Storage, world: World, at: BlockRef) -> Snapshot:
    """Read everything ``world`` knows at ``at``. Raises what ``storage`` raises."""
    return Snapshot(
        nodes={key: storage.node(key, at=at) for key in sorted(world.nodes)},
        datasets={key: storage.dataset(key, at=at) for key in sorted(world.datasets)},
        algorithms={key: storage.algorithm(key, at=at) for key in sorted(world.algorithms)},
        grants={key: storage.grant(key, at=at) for key in sorted(world.grants)},
        tasks={key: _task(storage.task(key, at=at), world.tasks[key]) for key in sorted(world.tasks)},
        checkpoints={key: storage.checkpoint(key, at=at) for key in sorted(world.anchors)},
    )


def _task(record: TaskRecord | None, history: TaskHistory) -> StoredTask | None:
    if record is None:
        return None
    terms = history.terms()
    return StoredTask(
        requester=record.requester,
        state=record.state,
        deadline=record.deadline,
        approved=record.approved,
        started=record.started,
        finished=record.finished,
        result=record.result,
        terms_hash=record.terms_hash,
        expected_terms_hash=terms_hash(terms) if terms else None,
    )
