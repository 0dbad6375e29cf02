"""What the scheduler remembers of a task and of what it carries: sealed outputs, an enclave's words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sealtrace.protocol.attestation.appraisal import Stage
from sealtrace.protocol.identifiers import Address, Hex32, UnixSeconds
from sealtrace.protocol.lifecycle import TaskState

MAX_METRICS_BYTES: Final = 64 << 10
"""Largest sealed message of metrics."""


@dataclass(frozen=True, slots=True)
class Observation:
    """A task as the chain had it at one block. ``NONE``: not created there yet."""

    state: TaskState
    block: int
    at: UnixSeconds
    approved: int = 0
    started: int = 0
    finished: int = 0


@dataclass(frozen=True, slots=True)
class Task:
    """A task that was submitted here. Times are this machine's clock but for the observation's.

    ``spec`` is the canonical text; ``running_since`` and ``over_at`` are when it was first seen so.
    """

    id: Hex32
    requester: Address
    spec: bytes
    parties: tuple[Address, ...]
    deadline: UnixSeconds
    engine_seconds: int
    accepted_at: UnixSeconds
    warnings: tuple[str, ...] = ()
    observed: Observation | None = None
    running_since: UnixSeconds | None = None
    over_at: UnixSeconds | None = None
    purged_at: UnixSeconds | None = None
    late: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Output:
    """A sealed output: where it came from and the signed statement that came with it."""

    task: Hex32
    party: Address
    digest: Hex32
    size: int
    statement: bytes
    received_at: UnixSeconds
    fetched_at: UnixSeconds | None = None


@dataclass(frozen=True, slots=True)
class EnclaveStatement:
    """What a task's enclave showed at one stage, kept by the SHA-256 of its canonical text."""

    task: Hex32
    stage: Stage
    digest: Hex32
    document: bytes
    received_at: UnixSeconds


@dataclass(frozen=True, slots=True)
class Metrics:
    """A sealed message of metrics: the ``number``-th of its task, with its party's signed statement."""

    task: Hex32
    number: int
    digest: Hex32
    sealed: bytes
    statement: bytes
    received_at: UnixSeconds
