"""What the gate asks of the world, in its own words. Adapters are chosen in :mod:`.wiring` only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any, Protocol

from sealtrace.protocol.attestation.appraisal import Stage
from sealtrace.protocol.attestation.policy import AttestationPolicy
from sealtrace.protocol.attestation.statement import Statement
from sealtrace.protocol.authorization import Facts
from sealtrace.protocol.identifiers import Address, Hex32, UnixSeconds
from sealtrace.protocol.lifecycle import TaskState
from sealtrace.protocol.outcome import Blame, Denial, Failure
from sealtrace.protocol.records import BlockRef, Node, TaskTerms
from sealtrace.protocol.spec import TaskSpec


@dataclass(frozen=True, slots=True)
class Standing:
    """A task as the chain holds it at one block. The masks carry one bit for each party by its index."""

    task: Hex32
    state: TaskState
    deadline: UnixSeconds
    approved: int
    started: int
    finished: int

    def has_approved(self, index: int) -> bool:
        """Whether the party at ``index`` stands by its grants, or has approved."""
        return bool(self.approved >> index & 1)

    def has_started(self, index: int) -> bool:
        """Whether the party at ``index`` has spent its uses."""
        return bool(self.started >> index & 1)

    def has_finished(self, index: int) -> bool:
        """Whether the party at ``index`` has reported its receipt."""
        return bool(self.finished >> index & 1)


class Chain(Protocol):
    """What a node asks of the chain. Every read names the block it is read at.

    Every method raises :class:`~sealtrace.node.errors.ChainUnavailable` when the chain does not answer.
    """

    def finalized(self) -> BlockRef:
        """The last block that stays."""
        ...

    def task(self, task: Hex32, *, at: BlockRef) -> Standing | None:
        """The task, its state derived at that block's time; ``None`` where there is none."""
        ...

    def facts(self, terms: TaskTerms, *, at: BlockRef) -> Facts:
        """What the chain says of everything the terms name."""
        ...

    def node(self, node: Address, *, at: BlockRef) -> Node:
        """The organisation's record."""
        ...

    def block(self, number: int) -> BlockRef:
        """The block with this number."""
        ...

    def start_of(self, task: Hex32, party: Address, since: int, *, at: BlockRef) -> Hex32 | None:
        """What ``party`` bound by its start of the task, where that is in blocks ``since`` to ``at``."""
        ...

    def task_id(self, terms: TaskTerms) -> Hex32:
        """The id of the task with these terms: it commits to all of them."""
        ...


@dataclass(frozen=True, slots=True)
class Done:
    """An act that is mined: where."""

    transaction: Hex32
    block: BlockRef


class Reverted(Exception):
    """The ledger does not take the act: ``name`` is its error, ``denial`` its reason where it gives one."""

    def __init__(self, name: str, detail: str, denial: Denial | None = None) -> None:
        super().__init__(f"{name}: {detail}")
        self.name = name
        self.denial = denial


class Acts(Protocol):
    """A party's acts on the ledger. Each is idempotent: done twice, it happened once.

    Every method raises :class:`Reverted`, or ``ChainUnavailable`` while it is not known to be mined.
    """

    def start(self, task: Hex32, terms: TaskTerms, commitment: Hex32) -> Done:
        """Spend the uses and bind the input."""
        ...

    def approve(self, task: Hex32, terms: TaskTerms) -> Done:
        """Agree to this one task."""
        ...

    def refuse(self, task: Hex32, terms: TaskTerms, denial: Denial) -> Done:
        """Decline, and say why."""
        ...

    def finish(self, task: Hex32, terms: TaskTerms, receipt: Hex32, result: Hex32) -> Done:
        """Report this party's part done."""
        ...

    def fail(self, task: Hex32, terms: TaskTerms, reason: Failure, blame: Blame, blamed: Address) -> Done:
        """Report that the run failed."""
        ...

    def stop(self, task: Hex32, terms: TaskTerms) -> Done:
        """End a running task, as an owner may."""
        ...

    def progress(self, task: Hex32, terms: TaskTerms, step: int) -> None:
        """Say that the step with this index has begun, and do not wait until that is mined."""
        ...


@dataclass(frozen=True, slots=True)
class Peer:
    """Where one other party's gateway is, and the certificate that the chain holds for it."""

    address: Address
    gateway_url: str
    certificate_pem: str


@dataclass(frozen=True, slots=True)
class Introduction:
    """A task's specification and its parties, checked against the chain."""

    spec: TaskSpec
    parties: tuple[Peer, ...]

    def peers_of(self, me: Address) -> tuple[Peer, ...]:
        """The other parties."""
        return tuple(peer for peer in self.parties if peer.address != me)


class Scheduler(Protocol):
    """What a node asks of the scheduler.

    Every method raises :class:`~sealtrace.node.errors.SchedulerUnavailable` when it does not answer.
    """

    def introduction(self, task: Hex32) -> Mapping[str, Any] | None:
        """The introduction as given, unchecked; ``None`` while the scheduler knows none."""
        ...

    def upload(self, task: Hex32, output: Path) -> None:
        """Hand over this party's sealed share. Idempotent.

        Raises:
            Undeliverable: the scheduler will never take it.
        """
        ...

    def put_statement(self, task: Hex32, document: bytes) -> None:
        """Hand over what the enclave that runs here shows, as its statement's document. Idempotent.

        Raises:
            Undeliverable: the scheduler will never take it.
        """
        ...

    def statement(self, task: Hex32, stage: Stage) -> bytes | None:
        """What the task's enclave shows at ``stage``, unjudged; ``None`` while there is none."""
        ...

    def put_metrics(self, task: Hex32, number: int, sealed: bytes) -> None:
        """Hand over message ``number`` of metrics, sealed to the requester. Idempotent.

        Numbers ascend from 0 without gaps.

        Raises:
            Undeliverable: the scheduler will never take it.
        """
        ...


class Undeliverable(Exception):
    """The scheduler refuses for good what it is handed; the message has its reason."""


@dataclass(frozen=True, slots=True)
class LocalGateway:
    """Where an engine speaks to its own node's gateway, and its secret for one task."""

    url: str
    token: str


class SessionRefused(Exception):
    """The gateway opens no session: the chain, or a certificate, is against it."""


class Sessions(Protocol):
    """What the gate asks of this node's gateway.

    Every method raises :class:`~sealtrace.node.errors.GatewayDown` when it does not answer.
    """

    def open(self, task: Hex32, peers: tuple[Peer, ...]) -> LocalGateway:
        """Open the task's session afresh; one left over from a crash is closed first.

        Raises:
            SessionRefused: see its message.
        """
        ...

    def close(self, task: Hex32, *, left: str | None = None) -> Mapping[str, Any]:
        """Close it where it is open, tell peers why, and return the traffic's counters and digests."""
        ...


@dataclass(frozen=True, slots=True)
class OwnInput:
    """One of this party's own datasets as the specification uses it."""

    name: str
    dataset: Hex32
    path: Path
    id_column: str
    columns: tuple[str, ...]
    part_of: str | None = None


class Hosted(Protocol):
    """An enclave at this node that has stated what it is, and waits for its task to run."""

    @property
    def statement(self) -> Statement:
        """What it states."""
        ...

    @property
    def alive(self) -> bool:
        """Whether its process, and with it its key, is still there."""
        ...

    def end(self) -> None:
        """Kill it, where it still lives."""
        ...


@dataclass(frozen=True, slots=True)
class Release:
    """Upon what an owner releases its inputs: the statement it has judged, and its policies by input."""

    statement: Statement
    policies: Mapping[str, AttestationPolicy]


@dataclass(frozen=True, slots=True)
class Plan:
    """All that an engine is told. ``enclave`` and ``release`` are for tasks that run in an enclave: the one
    at the party that hosts it, the other at the owners."""

    task: Hex32
    party: Address
    spec: TaskSpec
    inputs: tuple[OwnInput, ...]
    bundles: Mapping[Hex32, Path]
    gateway: LocalGateway
    folder: Path
    deadline_s: float
    enclave: Hosted | None = None
    release: Release | None = None


@dataclass(frozen=True, slots=True)
class Ran:
    """What an engine left: the sealed share, the transcript, and the digest all parties agree on."""

    sealed: Path
    output: Hex32
    result: Hex32
    transcript: Mapping[str, Any]


class RunFailed(Exception):
    """A run ended without a result: why, and how far the blame reaches."""

    def __init__(self, reason: Failure, blame: Blame, blamed: Address | None, detail: str) -> None:
        super().__init__(f"{reason.name}: {detail}")
        self.reason = reason
        self.blame = blame
        self.blamed = blamed
        self.detail = detail


class RunStopped(Exception):
    """The run was killed because it was told to stop."""


class Engine(Protocol):
    """Runs one job of one party in a fresh process."""

    def why_unable(self, spec: TaskSpec) -> Denial | None:
        """Why this node cannot run ``spec`` at all, or ``None``."""
        ...

    def check(self, own: OwnInput, spec: TaskSpec, bundles: Mapping[Hex32, Path]) -> str | None:
        """What is wrong with the input for the steps of ``spec``, in words without a cell, or ``None``."""
        ...

    def check_steps(self, spec: TaskSpec, bundles: Mapping[Hex32, Path]) -> tuple[Denial, str] | None:
        """Why an algorithm does not take its step as it is written, or ``None``. Runs code of the bundles."""
        ...

    def host(
        self,
        spec: TaskSpec,
        task: Hex32,
        bundles: Mapping[Hex32, Path],
        block: BlockRef,
        folder: Path,
        stop: Event,
    ) -> Hosted:
        """Begin the enclave of ``spec``, its evidence bound to ``block``, and wait for its statement.

        Raises:
            RunFailed: it cannot be begun here.
        """
        ...

    def run(self, plan: Plan, stop: Event, on_step: Callable[[int], None]) -> Ran:
        """Run to the end, or kill what runs when ``stop`` is set or the time is over.

        ``on_step`` is called with the index of the step that is worked on, maybe more than once.

        Raises:
            RunFailed: it ended without a result.
            RunStopped: ``stop`` was set.
        """
        ...

    def left_behind(self, folder: Path) -> Ran | None:
        """What a run that ended while nobody watched has left whole, or ``None``."""
        ...
