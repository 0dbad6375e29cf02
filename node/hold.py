"""One worker's hold on one task: the lease, the ports it works with, and the task as read in one round."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sealtrace.node import terms as stored_terms
from sealtrace.node.errors import NodeError, Unavailable
from sealtrace.node.evidence import EvidenceLog
from sealtrace.node.heartbeat import Heartbeat
from sealtrace.node.introduction import from_stored
from sealtrace.node.ports import (
    Acts,
    Chain,
    Done,
    Hosted,
    Introduction,
    Release,
    Scheduler,
    Sessions,
    Standing,
)
from sealtrace.node.preparing import Holdings, Prepared
from sealtrace.node.seats import Seats
from sealtrace.node.settings import Limits
from sealtrace.node.store import Store, TaskRow
from sealtrace.node.telling import Carrier
from sealtrace.protocol.attestation.policy import AttestationPolicy
from sealtrace.protocol.authorization import Facts
from sealtrace.protocol.identifiers import Address, Hex32
from sealtrace.protocol.lifecycle import OPEN_STATES
from sealtrace.protocol.records import BlockRef, DataClass, TaskTerms

LONG_S = 60.0
SOON_S = 2.0

Pulse = Callable[[Callable[[], None]], AbstractContextManager[None]]
"""Runs a function about twice a second, on another thread, while the context is open."""


@dataclass(frozen=True, slots=True)
class Ports:
    """What the gate works with; made by :func:`sealtrace.node.wiring.wiring`."""

    me: Address
    store: Store
    chain: Chain
    acts: Acts
    sessions: Sessions
    scheduler: Scheduler
    evidence: EvidenceLog
    holdings: Holdings
    jobs: Callable[[Hex32], Path]
    received: Callable[[Hex32], Path]
    parts: Callable[[Hex32], Path]
    register: Callable[[Path, str, DataClass, Hex32, str], object]
    """Makes a file a dataset of this node: its path, name and grade, and the task and value it is from."""
    limits: Limits
    longest_run_s: float
    clock: Callable[[], float]
    sleep: Callable[[float], None]
    pulse: Pulse
    aside: Callable[[Callable[[], None]], None]
    """Runs a function once, on another thread, and does not wait for it."""
    statements: Path
    """Where enclaves' statements are kept."""
    policy_of: Callable[[Hex32], AttestationPolicy | None]
    """The attestation policy of a grant of this node."""
    sign_result: Callable[[Mapping[str, Any]], str]
    """Signs an attestation result."""
    build: str
    """What verifies here: the name and version of this program."""
    seats: Seats
    """For the enclaves that this node holds."""


class TaskVanished(NodeError):
    """The chain no longer has a task that it named this node for."""

    next_step = "See whether the endpoint serves the right chain: sealtrace node doctor."


class Circular(NodeError):
    """A task made no progress in many steps: a fault of this program."""

    next_step = "Report it with the node's log."


class LeaseLost(Exception):
    """Another worker holds the task now; this one must not go on."""


@dataclass(slots=True)
class Hold:
    """One worker's hold on one task, for as long as the lease lasts."""

    ports: Ports
    task: Hex32
    token: str
    renewed_at: float
    stop: threading.Event = field(default_factory=threading.Event)
    lost: bool = False
    running: bool = False
    prepared: Prepared | None = None
    heartbeat: Heartbeat | None = None
    carrier: Carrier | None = None
    enclave: Hosted | None = None
    seated: bool = False
    release: Release | None = None

    def take_seat(self) -> bool:
        """Take a seat for an enclave, kept until :meth:`let_go`; whether there is one."""
        self.seated = self.seated or self.ports.seats.take()
        return self.seated

    def let_go(self) -> None:
        """End the enclave that is held, and give its seat back."""
        if self.enclave is not None:
            self.enclave.end()
        if self.seated:
            self.seated = False
            self.ports.seats.leave()

    def beat(self) -> None:
        """Renew the lease; tell the engine to stop when lease, operator or chain say so.

        Whatever goes wrong here may be gone at the next beat; what stays until the lease lapses ends the run.
        """
        try:
            self._beat()
        except Exception:
            self._give_up_if(self.ports.clock() - self.renewed_at > self.ports.limits.lease_s)

    def _beat(self) -> None:
        store = self.ports.store
        self._give_up_if(not store.renew(self.task, self.token, self.ports.limits.lease_s))
        self.renewed_at = self.ports.clock()
        if self.running and self.heartbeat is not None:
            self.heartbeat.beat()
        if self.running and self.carrier is not None:
            self.carrier.beat()
        if self.running and (store.task(self.task).stop_wanted or self._over()):
            self.stop.set()

    def _give_up_if(self, lost: bool) -> None:
        if lost:
            self.lost = True
            self.stop.set()

    def require(self) -> None:
        """Renew the lease, or give up.

        Raises:
            LeaseLost: it is another's.
        """
        if self.lost or not self.ports.store.renew(self.task, self.token, self.ports.limits.lease_s):
            raise LeaseLost(self.task)

    def _over(self) -> bool:
        with suppress(Unavailable):  # the gateway cuts a session that nobody can authorise for long
            standing = self.ports.chain.task(self.task, at=self.ports.chain.finalized())
            return standing is None or standing.state not in OPEN_STATES
        return False


@dataclass(frozen=True, slots=True)
class View:
    """The task as read in one round, everything at one block."""

    row: TaskRow
    terms: TaskTerms
    introduction: Introduction | None
    block: BlockRef
    standing: Standing
    facts: Facts

    @property
    def task(self) -> Hex32:
        """The task's id."""
        return self.row.id

    def known(self) -> Introduction:
        """The introduction, where the step taken presumes that there is one."""
        if self.introduction is None:
            raise Circular(f"task {self.task} went on without its specification")
        return self.introduction


def look(row: TaskRow, ports: Ports) -> View:
    """Read the task at the last final block.

    Raises:
        TaskVanished: the chain has no such task any more.
        ChainUnavailable: not now.
    """
    terms = stored_terms.from_text(row.terms)
    block = ports.chain.finalized()
    standing = ports.chain.task(row.id, at=block)
    if standing is None:
        raise TaskVanished(f"the chain has no task {row.id} at block {block.number}")
    facts = ports.chain.facts(terms, at=block)
    known = from_stored(row.spec, json.loads(row.parties)) if row.spec and row.parties else None
    return View(row, terms, known, block, standing, facts)


def settle(done: Done, ports: Ports) -> float | None:
    """Wait until the block of an act is final, so that the next look sees it."""
    give_up = ports.clock() + ports.limits.wait_for_others_s
    while ports.chain.finalized().number < done.block.number:
        if ports.clock() >= give_up:
            return SOON_S
        ports.sleep(ports.limits.poll_s)
    return None


def where(done: Done) -> dict[str, Any]:
    """The words of a record that say where an act is on the chain."""
    return {"transaction": done.transaction, **block_words(done.block)}


def block_words(block: BlockRef) -> dict[str, Any]:
    """The words of a record that cite a block."""
    return {
        "block_number": block.number,
        "block_hash": block.hash,
        "block_timestamp": block.timestamp,
    }
