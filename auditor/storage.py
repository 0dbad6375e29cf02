"""Contract storage at one block, read for everything the replay knows, to be compared with it.

It is read by proofs against the block's state root where the endpoint gives them, and else by calls of the
contracts' functions, whose answers are the endpoint's word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from sealtrace.auditor.case import Contracts, Snapshot, StorageProof, StoredTask
from sealtrace.auditor.layout import StoredRecords
from sealtrace.auditor.rpc import (
    Asking,
    EndpointRefused,
    EndpointTalksNonsense,
    EndpointUnreachable,
)
from sealtrace.auditor.state import BadProof, ProvenSlots
from sealtrace.auditor.world import World
from sealtrace.contracts.abi import GENERATION
from sealtrace.contracts.governance import Consortium, Office, Proposal
from sealtrace.protocol.identifiers import Address, Hex32, UnixSeconds
from sealtrace.protocol.lifecycle import TaskState
from sealtrace.protocol.records import Algorithm, BlockRef, Checkpoint, Dataset, Grant, Node


class TaskRecord(Protocol):
    """A task as the ledger stores it; asked of the chain's client."""

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
    def agreed(self) -> str:
        """The mark of the digest agreed on so far."""
        ...

    @property
    def acknowledged(self) -> bool:
        """Whether its requester acknowledged the result."""
        ...


class Storage(Protocol):
    """What is asked of the contracts of one generation. Every read names its block."""

    @property
    def addresses(self) -> Mapping[str, Address]:
        """The generation's contracts by name."""
        ...

    def consortium(self, *, at: BlockRef) -> Consortium:
        """Who decides, and how."""
        ...

    def holds(self, office: Office, account: Address, *, at: BlockRef) -> bool:
        """Whether the account holds the office."""
        ...

    def proposal(self, id: Hex32, *, at: BlockRef) -> Proposal | None:
        """The proposal's record."""
        ...

    def node(self, node: Address, *, at: BlockRef) -> Node:
        """The organisation's record."""
        ...

    def dataset(self, id: Hex32, *, at: BlockRef) -> Dataset | None:
        """The dataset's record."""
        ...

    def algorithm(self, digest: Hex32, *, at: BlockRef) -> Algorithm | None:
        """The algorithm's record."""
        ...

    def grant(self, id: Hex32, *, at: BlockRef) -> Grant | None:
        """The grant's record."""
        ...

    def serial(self, owner: Address, *, at: BlockRef) -> int:
        """The serial of the owner's next grant."""
        ...

    def task(self, id: Hex32, *, at: BlockRef) -> TaskRecord | None:
        """The task's record."""
        ...

    def closed(self, *, at: BlockRef) -> bool:
        """Whether the ledger takes no new task."""
        ...

    def checkpoint(self, node: Address, *, at: BlockRef) -> Checkpoint | None:
        """The last checkpoint."""
        ...


def read_snapshot(generations: Sequence[Storage], world: World, at: BlockRef) -> Snapshot:
    """Read everything ``world`` knows at ``at``, of each object's own contract.

    Raises what the generations raise; a world that knows a contract of none of them is a ``KeyError``.
    """
    of = {where: each for each in reversed(generations) for where in each.addresses.values()}
    now = generations[-1]
    offices = {office.id: office for office in Office}
    consortium = now.consortium(at=at)
    return Snapshot(
        consortium=replace(consortium, members=tuple(sorted(consortium.members))),
        offices=frozenset(
            (office, account)
            for office, account in world.governance.ever
            if office in offices and now.holds(offices[office], account, at=at)
        ),
        proposals={key: now.proposal(key, at=at) for key in sorted(world.governance.proposals)},
        generations=tuple(map(_contracts, generations[: len(world.generations)])),
        nodes={key: of[key.contract].node(key.id, at=at) for key in sorted(world.nodes)},
        datasets={key: of[key.contract].dataset(key.id, at=at) for key in sorted(world.datasets)},
        algorithms={key: of[key.contract].algorithm(key.id, at=at) for key in sorted(world.algorithms)},
        grants={key: of[key.contract].grant(key.id, at=at) for key in sorted(world.grants)},
        serials={key: of[key.contract].serial(key.id, at=at) for key in sorted(world.serials)},
        tasks={key: _task(of[task.ledger].task(key, at=at)) for key, task in sorted(world.tasks.items())},
        closed={
            ledger: of[ledger].closed(at=at) for ledger in sorted({each.ledger for each in world.generations})
        },
        checkpoints={key: of[key.contract].checkpoint(key.id, at=at) for key in sorted(world.anchors)},
    )


def prove_snapshot(
    rpc: Asking, addresses: Sequence[Mapping[str, Address]], world: World, at: BlockRef, state_root: Hex32
) -> tuple[Snapshot | None, StorageProof]:
    """Read the same from slots that are proven against ``state_root``, the one in the header of ``at``, of
    generations at ``addresses``. Without a snapshot, the second tells why, or what was wrong.
    """
    slots = ProvenSlots(rpc, at.number, state_root)
    generations = [StoredRecords(each, slots) for each in addresses]
    try:
        snapshot = _proven_snapshot(generations, world, at)
        while slots.fetch():
            snapshot = _proven_snapshot(generations, world, at)
    except BadProof as cause:
        wrong = f"block {at.number}", f"proofs that lead to the state root {state_root}", str(cause)
        return None, StorageProof(why="", state_root=state_root, problems=(wrong,))
    except EndpointRefused as refused:
        return None, StorageProof(why=f"the endpoint gives no proofs of storage: {refused}")
    except (EndpointUnreachable, EndpointTalksNonsense) as cause:
        return None, StorageProof(why=f"no proofs of storage could be read ({type(cause).__name__})")
    except ValueError as cause:
        wrong = f"block {at.number}", "records as our contracts keep them", str(cause)
        return None, StorageProof(why="", state_root=state_root, problems=(wrong,))
    return snapshot, StorageProof(why="", state_root=state_root, slots=len(slots.known))


def _proven_snapshot(generations: Sequence[StoredRecords], world: World, at: BlockRef) -> Snapshot:
    snapshot = read_snapshot(generations, world, at)
    return replace(snapshot, generations=generations[-1].named(len(world.generations)))


def _contracts(generation: Storage) -> Contracts:
    return tuple(generation.addresses[name] for name in GENERATION)


def _task(record: TaskRecord | None) -> StoredTask | None:
    if record is None:
        return None
    return StoredTask(
        state=record.state,
        deadline=record.deadline,
        approved=record.approved,
        started=record.started,
        finished=record.finished,
        agreed=record.agreed,
        acknowledged=record.acknowledged,
    )
