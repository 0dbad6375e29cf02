"""The gate: :func:`run_task` carries one task to its end, and runs nothing that the chain does not allow.

Nothing here is remembered only in memory. Each act on the chain is idempotent, each record of the evidence
log is written once, and the engine begins once for each task, for good; so the same function, delivered
twice or begun again after a crash at any line, comes to the same end.
"""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from sealtrace.node import terms as stored_terms
from sealtrace.node.errors import DiskFull, NodeError, Unavailable
from sealtrace.node.evidence import EvidenceLog
from sealtrace.node.introduction import from_stored
from sealtrace.node.judging import (
    Approve,
    AskOperator,
    Case,
    Close,
    Continue,
    Later,
    Refuse,
    Settled,
    Start,
    Step,
    next_step,
)
from sealtrace.node.ports import (
    Acts,
    Chain,
    Done,
    Introduction,
    Plan,
    Ran,
    Reverted,
    RunFailed,
    RunStopped,
    Scheduler,
    SessionRefused,
    Sessions,
    Standing,
    Undeliverable,
)
from sealtrace.node.preparing import Holdings, Prepared, Unfit, prepare
from sealtrace.node.settings import Limits
from sealtrace.node.store import Store, TaskRow
from sealtrace.protocol.authorization import Facts, why_denied
from sealtrace.protocol.canonical import digest
from sealtrace.protocol.evidence import Kind
from sealtrace.protocol.identifiers import NOBODY, Address, Hex32
from sealtrace.protocol.lifecycle import OPEN_STATES, TaskState
from sealtrace.protocol.outcome import Blame, Denial, Failure
from sealtrace.protocol.receipt import Receipt
from sealtrace.protocol.records import BlockRef, TaskTerms

MAX_ROUNDS = 24  # a life has at most ten steps; more means that this code runs in a circle
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
    limits: Limits
    longest_run_s: float
    clock: Callable[[], float]
    sleep: Callable[[float], None]
    pulse: Pulse


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


def run_task(task: Hex32, ports: Ports) -> None:
    """Carry one task as far as it can go now. Safe to deliver twice, safe to kill at any line.

    1. Lease the task, so that no other worker holds it.
    2. Read everything at one finalized block.
    3. Decide the one next step; take it; begin again at 2 until there is nothing to do.

    The steps of a life, in their order: judge (:func:`next_step`), check what lies here (:func:`prepare`),
    start on the chain, wait until all have started, run, deliver the sealed share, finish on the chain, wipe.
    What is recorded is recorded before the next step relies on it.

    Raises:
        Unavailable: the world does not answer; deliver it again later.
    """
    token = ports.store.lease(task, ports.limits.lease_s)
    if token is None:
        return
    hold, next_in_s = Hold(ports, task, token, ports.clock()), SOON_S * 5
    try:
        with ports.pulse(hold.beat):
            next_in_s = _carry(hold)
    except LeaseLost:
        return
    except NodeError as cause:
        ports.store.note(task, "waiting", f"{type(cause).__name__}: {cause}")
        raise
    finally:
        ports.store.release(task, token, next_in_s)


def _carry(hold: Hold) -> float:
    """Take steps until one says how many seconds there is nothing to do."""
    for _ in range(MAX_ROUNDS):
        hold.require()
        row = hold.ports.store.task(hold.task)
        if row.over:
            return LONG_S
        view = _view(row, hold.ports)
        wait_s = _take(_decide(view, hold.ports), view, hold)
        if wait_s is not None:
            return wait_s
    raise Circular(f"task {hold.task} made no progress in {MAX_ROUNDS} steps")


def _view(row: TaskRow, ports: Ports) -> View:
    terms = stored_terms.from_text(row.terms)
    block = ports.chain.finalized()
    standing = ports.chain.task(row.id, at=block)
    if standing is None:
        raise TaskVanished(f"the chain has no task {row.id} at block {block.number}")
    facts = ports.chain.facts(terms, row.requester, at=block)
    known = from_stored(row.spec, json.loads(row.parties)) if row.spec and row.parties else None
    return View(row, terms, known, block, standing, facts)


def _decide(view: View, ports: Ports) -> Step:
    return next_step(
        Case(
            me=ports.me,
            standing=view.standing,
            terms=view.terms,
            introduction=view.introduction,
            facts=view.facts,
            now=view.block.timestamp,
            approval=view.row.approval,
            stop_wanted=view.row.stop_wanted,
            waited_s=ports.clock() - view.row.seen_at,
            introduction_wait_s=ports.limits.introduction_wait_s,
        )
    )


def _take(step: Step, view: View, hold: Hold) -> float | None:
    """Take one step; ``None`` to look at the chain again at once."""
    ports = hold.ports
    match step:
        case Close():
            return _close(view, ports)
        case Settled():
            return _settled(view, ports)
        case Refuse(denial, detail):
            return _refuse(view, ports, denial, detail)
        case AskOperator():
            ports.store.want_approval(view.task)
            return LONG_S
        case Approve():
            return _approve(view, ports)
        case Later(why):
            ports.store.note(view.task, "waiting", why)
            return min(LONG_S, max(SOON_S, view.terms.deadline - ports.clock()))
        case Start():
            return _start(view, hold)
        case Continue():
            return _continue(view, hold)


# --- before the start


def _refuse(view: View, ports: Ports, denial: Denial, detail: str) -> float | None:
    _judged(view, ports, denial, detail)
    return _refuse_judged(view, ports, denial, detail)


def _refuse_judged(view: View, ports: Ports, denial: Denial, detail: str) -> float | None:
    try:
        done = ports.acts.refuse(view.task, view.terms, denial)
    except Reverted as reverted:
        return _not_taken(view, ports, reverted)
    body = {"denial": int(denial), "name": denial.name, "detail": detail[:500], **_where(done)}
    ports.evidence.append_once(Kind.TASK_REFUSED, body, view.task)
    ports.store.note(view.task, "refused", f"{denial.name}: {detail}")
    return _settle(done, ports)


def _judged(view: View, ports: Ports, denial: Denial | None, detail: str, bound: Hex32 | None = None) -> None:
    """Record the judgement with the block it rests on, unless the last one says the same."""
    said = {"denial": int(denial) if denial else None, "input_commitment": bound}
    last = ports.evidence.last(view.task, Kind.TASK_JUDGED)
    if last is not None and {key: last.body.get(key) for key in said} == said:
        return
    body = {**said, "detail": detail[:500], "terms": view.standing.terms_hash, "spec": view.terms.spec}
    ports.evidence.append(Kind.TASK_JUDGED, {**body, **_block(view.block)}, view.task)


def _denied_by_chain(view: View, ports: Ports, denial: Denial) -> float | None:
    """The chain denies a start that the last final block would have allowed: something changed since.

    Where a new look shows it, it is judged there. Where none does yet (a time that passed while no block was
    made, a revocation that is not final), the chain's word is taken, and no block is cited for it.
    """
    fresh = _view(view.row, ports)
    if fresh.standing != view.standing or why_denied(
        view.terms, view.standing.requester, ports.me, fresh.facts, fresh.block.timestamp
    ):
        return None
    body = {"denial": int(denial), "input_commitment": None, "detail": "the chain denied the start"}
    ports.evidence.append(Kind.TASK_JUDGED, {**body, "block_number": None}, view.task)
    return _refuse_judged(view, ports, denial, "the chain denied the start")


def _approve(view: View, ports: Ports) -> float | None:
    try:
        done = ports.acts.approve(view.task, view.terms)
    except Reverted as reverted:
        return _not_taken(view, ports, reverted)
    ports.evidence.append_once(Kind.TASK_APPROVED, _where(done), view.task)
    return _settle(done, ports)


def _start(view: View, hold: Hold) -> float | None:
    ports = hold.ports
    ports.store.note(view.task, "checking")
    try:
        hold.prepared = prepare(view.task, ports.me, view.known(), view.facts, ports.holdings)
    except Unfit as unfit:
        return _refuse(view, ports, unfit.denial, unfit.detail)
    hold.require()
    _judged(view, ports, None, "", hold.prepared.commitment)
    try:
        done = ports.acts.start(view.task, view.terms, hold.prepared.commitment)
    except Reverted as reverted:
        if reverted.denial is not None:
            return _denied_by_chain(view, ports, reverted.denial)
        return _not_taken(view, ports, reverted)
    _record_start(view, ports, hold.prepared.commitment, done)
    return _settle(done, ports)


def _record_start(view: View, ports: Ports, bound: Hex32, done: Done) -> None:
    body = {"input_commitment": bound, **_where(done)}
    ports.evidence.append_once(Kind.TASK_STARTED, body, view.task)
    ports.store.note(view.task, "started", "this party has started; the others may not have")


# --- from the start to the end


def _continue(view: View, hold: Hold) -> float | None:
    """This party has started: record it, wait for the others, run once, deliver, finish."""
    if view.standing.state is TaskState.AUTHORIZED:
        if view.row.stop_wanted:
            return _refuse(view, hold.ports, Denial.OPERATOR_REFUSED, "the operator refused the task")
        _remember_start(view, hold.ports)
        return _await_others(view, hold)
    if view.row.stop_wanted:
        return _stop(view, hold.ports)
    try:
        _remember_start(view, hold.ports)
        return _run_or_deliver(view, hold)
    except DiskFull as cause:
        if hold.ports.evidence.last(view.task, Kind.TASK_RAN) is not None:
            raise  # the result is there: it is delivered once there is room for the record
        return _fail(view, hold.ports, RunFailed(Failure.DISK_FULL, Blame.REPORTER, None, str(cause)))


def _remember_start(view: View, ports: Ports) -> None:
    """Write the record of a start that was mined just before a crash."""
    if ports.evidence.last(view.task, Kind.TASK_STARTED) is None:
        bound = _authority(view, ports)["input_commitment"]
        _record_start(view, ports, bound, ports.acts.start(view.task, view.terms, bound))


def _authority(view: View, ports: Ports) -> Mapping[str, Any]:
    """The judgement under which this party started."""
    for record in reversed(ports.evidence.of_task(view.task)):
        if record.kind == Kind.TASK_JUDGED and record.body["denial"] is None:
            return record.body
    raise Circular(f"task {view.task} was started without a judgement on record")


def _await_others(view: View, hold: Hold) -> float | None:
    """Wait a bounded while for the last start; then give the worker back and look again later."""
    ports = hold.ports
    give_up = min(ports.clock() + ports.limits.wait_for_others_s, float(view.terms.deadline))
    while True:
        standing = ports.chain.task(view.task, at=ports.chain.finalized())
        if standing is None or standing.state is not TaskState.AUTHORIZED or hold.lost:
            return None
        if ports.store.task(view.task).stop_wanted:
            return None
        if ports.clock() >= give_up:
            return SOON_S
        ports.sleep(ports.limits.poll_s)


def _run_or_deliver(view: View, hold: Hold) -> float | None:
    ports = hold.ports
    if view.row.failure is not None:
        return _report_failure(view, ports)
    ran = ports.holdings.engine.left_behind(ports.jobs(view.task)) if view.row.run else None
    if ran is not None:
        return _deliver(view, hold, ran)
    if view.row.run is not None:
        why = "the run was interrupted; it is not run twice under one use"
        return _fail(view, ports, RunFailed(Failure.INTERRUPTED, Blame.REPORTER, None, why))
    try:
        _run(view, hold)
    except RunFailed as failed:
        return _fail(view, ports, failed)
    except RunStopped:
        hold.require()
    return None


def _run(view: View, hold: Hold) -> None:
    """Run the engine, once for each task and never again.

    Raises:
        RunFailed: it ended without a result.
        RunStopped: the operator, the chain or a lost lease ended it.
    """
    ports, prepared = hold.ports, _checked_again(view, hold)
    folder = ports.jobs(view.task)
    shutil.rmtree(folder, ignore_errors=True)
    try:
        gateway = ports.sessions.open(view.task, view.known().peers_of(ports.me))
    except SessionRefused as refused:
        raise RunFailed(Failure.SESSION_REVOKED, Blame.NOBODY, None, str(refused)) from refused
    hold.require()
    if not ports.store.begin_run(view.task):
        return
    plan = Plan(
        task=view.task,
        party=ports.me,
        spec=view.known().spec,
        inputs=prepared.inputs,
        bundles=prepared.bundles,
        gateway=gateway,
        folder=folder,
        deadline_s=_seconds_to_run(view, ports),
    )
    ports.store.note(view.task, "running")
    hold.running = True
    try:
        ran = ports.holdings.engine.run(plan, hold.stop)
    finally:
        hold.running = False
    _require_unchanged(prepared)
    _record_run(view, ports, ran)


def _checked_again(view: View, hold: Hold) -> Prepared:
    """What was checked before the start, or checked anew when that was before a crash or has changed."""
    if hold.prepared is not None and hold.prepared.changed() is None:
        return hold.prepared
    ports = hold.ports
    try:
        prepared = prepare(view.task, ports.me, view.known(), view.facts, ports.holdings)
    except Unfit as unfit:
        raise RunFailed(Failure.INPUT_INVALID, Blame.REPORTER, None, str(unfit)) from unfit
    if prepared.commitment != _authority(view, ports)["input_commitment"]:
        raise RunFailed(Failure.INPUT_INVALID, Blame.REPORTER, None, "not the input that the start bound")
    return prepared


def _require_unchanged(prepared: Prepared) -> None:
    if (path := prepared.changed()) is not None:
        detail = f"{path.name} was changed while the task ran"
        raise RunFailed(Failure.INPUT_INVALID, Blame.REPORTER, None, detail)


def _seconds_to_run(view: View, ports: Ports) -> float:
    left = view.terms.deadline - ports.clock()
    return max(1.0, min(left, float(view.known().spec.engine_seconds), ports.longest_run_s))


def _record_run(view: View, ports: Ports, ran: Ran) -> Receipt:
    """The receipt of the run, as recorded: a second time, the one recorded first."""
    authority = _authority(view, ports)
    receipt = Receipt(
        task=view.task,
        party=ports.me,
        authority_number=authority["block_number"],
        authority_hash=authority["block_hash"],
        input_commitment=authority["input_commitment"],
        transcript=digest(dict(ran.transcript)),
        output=ran.output,
        result=ran.result,
    )
    body = {"transcript": dict(ran.transcript), "receipt": receipt.model_dump(mode="json")}
    record = ports.evidence.append_once(Kind.TASK_RAN, body, view.task)
    return Receipt.model_validate(record.body["receipt"])


def _deliver(view: View, hold: Hold, ran: Ran) -> float | None:
    """Hand the sealed share over, then finish. Done again after a crash, both say what they said before."""
    ports = hold.ports
    receipt = _record_run(view, ports, ran)
    if receipt.output != ran.output:
        detail = "the sealed share is not the one on record"
        return _fail(view, ports, RunFailed(Failure.RESULT_UNDELIVERABLE, Blame.REPORTER, None, detail))
    ports.store.note(view.task, "delivering")
    try:
        ports.scheduler.upload(view.task, ran.sealed)
    except Undeliverable as cause:
        failed = RunFailed(Failure.RESULT_UNDELIVERABLE, Blame.NOBODY, None, str(cause))
        return _fail(view, ports, failed)
    hold.require()
    try:
        done = ports.acts.finish(view.task, view.terms, receipt.digest(), receipt.result)
    except Reverted as reverted:
        return _not_taken(view, ports, reverted)
    _record_finish(view, ports, receipt, done)
    return _settle(done, ports)


def _record_finish(view: View, ports: Ports, receipt: Receipt, done: Done) -> None:
    body = {
        "receipt": receipt.model_dump(mode="json"),
        "receipt_digest": receipt.digest(),
        "result": receipt.result,
        **_where(done),
    }
    ports.evidence.append_once(Kind.TASK_FINISHED, body, view.task)


# --- ends


def _fail(view: View, ports: Ports, failed: RunFailed) -> float | None:
    """Decide the failure, once, then report it: a crash in between changes nothing of what is said."""
    failure = {
        "reason": int(failed.reason),
        "blame": int(failed.blame),
        "blamed": failed.blamed,
        "detail": failed.detail[:500],
    }
    ports.store.decide_failure(view.task, json.dumps(failure))
    return _report_failure(view, ports)


def _report_failure(view: View, ports: Ports) -> float | None:
    kept = ports.store.task(view.task).failure
    failure: dict[str, Any] = json.loads(kept or "{}")
    with suppress(Unavailable):  # peers find out by themselves when our gateway is down
        ports.sessions.close(view.task, left="failed")
    blamed = Address(failure["blamed"] or NOBODY)
    reason, blame = Failure(failure["reason"]), Blame(failure["blame"])
    try:
        done = ports.acts.fail(view.task, view.terms, reason, blame, blamed)
    except Reverted as reverted:
        return _not_taken(view, ports, reverted)
    ports.evidence.append_once(Kind.TASK_FAILED, {**failure, "name": reason.name, **_where(done)}, view.task)
    ports.store.note(view.task, "failed", f"{reason.name}: {failure['detail']}")
    return _settle(done, ports)


def _stop(view: View, ports: Ports) -> float | None:
    """The owner ends the run on its data: traffic first, then the chain."""
    with suppress(Unavailable):
        ports.sessions.close(view.task, left="stopped by its owner")
    try:
        done = ports.acts.stop(view.task, view.terms)
    except Reverted as reverted:
        return _not_taken(view, ports, reverted)
    ports.evidence.append_once(Kind.TASK_STOPPED, {"by": "owner", **_where(done)}, view.task)
    return _settle(done, ports)


def _settled(view: View, ports: Ports) -> float:
    """This party has finished: nothing is left to do but to forget, and to hear how it ends."""
    _remember_finish(view, ports)
    _wipe(view, ports)
    ports.store.note(view.task, "finished", "the other parties have not all finished")
    return min(LONG_S, max(SOON_S, view.terms.deadline - ports.clock()))


def _close(view: View, ports: Ports) -> float:
    """The task is over on the chain: whatever runs has been told to stop; record, wipe, forget."""
    with suppress(Unavailable):
        ports.sessions.close(view.task)
    if view.standing.has_finished(view.terms.parties.index(ports.me)):
        _remember_finish(view, ports)
    else:
        _remember_end(view, ports)
    _wipe(view, ports)
    ports.store.end(view.task, view.standing.state.name.lower())
    return LONG_S


def _remember_finish(view: View, ports: Ports) -> None:
    """Write the record of a finish that was mined just before a crash."""
    ran = ports.evidence.last(view.task, Kind.TASK_RAN)
    if ran is None or ports.evidence.last(view.task, Kind.TASK_FINISHED) is not None:
        return
    receipt = Receipt.model_validate(ran.body["receipt"])
    with suppress(Reverted):
        done = ports.acts.finish(view.task, view.terms, receipt.digest(), receipt.result)
        _record_finish(view, ports, receipt, done)


def _remember_end(view: View, ports: Ports) -> None:
    """Record how the task ended, where that is not recorded yet. Acts are idempotent: trying an own one again
    tells whether it was ours."""
    ends = (Kind.TASK_FINISHED, Kind.TASK_REFUSED, Kind.TASK_FAILED, Kind.TASK_STOPPED)
    if any(ports.evidence.last(view.task, kind) for kind in ends):
        return
    judged = ports.evidence.last(view.task, Kind.TASK_JUDGED)
    own: Callable[[], float | None] | None = None
    if view.standing.state is TaskState.FAILED and view.row.failure is not None:
        own = partial(_report_failure, view, ports)
    elif view.standing.state is TaskState.REFUSED and judged and judged.body["denial"]:
        denial = Denial(judged.body["denial"])
        own = partial(_refuse_judged, view, ports, denial, judged.body["detail"])
    elif view.standing.state is TaskState.CANCELLED and view.row.stop_wanted:
        own = partial(_stop, view, ports)
    if own is not None:
        own()
    if not any(ports.evidence.last(view.task, kind) for kind in ends):
        body = {"by": "others", "state": view.standing.state.name, **_block(view.block)}
        ports.evidence.append_once(Kind.TASK_STOPPED, body, view.task)


def _wipe(view: View, ports: Ports) -> None:
    folder = ports.jobs(view.task)
    files = sum(1 for each in folder.rglob("*") if each.is_file()) if folder.exists() else 0
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        raise DiskFull(f"{folder} cannot be wiped")
    if ports.evidence.last(view.task, Kind.TASK_STARTED) is not None:
        ports.evidence.append_once(Kind.TASK_WIPED, {"files": files}, view.task)


def _not_taken(view: View, ports: Ports, reverted: Reverted) -> float | None:
    """The chain did not take an act: look again when that explains itself, else say so and wait."""
    if reverted.name == "TaskExpired":  # time passed since the last block was made
        return _close(replace(view, standing=replace(view.standing, state=TaskState.EXPIRED)), ports)
    standing = ports.chain.task(view.task, at=ports.chain.finalized())
    if standing is not None and standing != view.standing:
        return None
    ports.store.note(view.task, "waiting", f"the chain does not take it: {reverted}")
    return SOON_S * 5


def _settle(done: Done, ports: Ports) -> float | None:
    """Wait until the block of an act is final, so that the next look sees it."""
    give_up = ports.clock() + ports.limits.wait_for_others_s
    while ports.chain.finalized().number < done.block.number:
        if ports.clock() >= give_up:
            return SOON_S
        ports.sleep(ports.limits.poll_s)
    return None


def _where(done: Done) -> dict[str, Any]:
    return {"transaction": done.transaction, **_block(done.block)}


def _block(block: BlockRef) -> dict[str, Any]:
    return {
        "block_number": block.number,
        "block_hash": block.hash,
        "block_timestamp": block.timestamp,
    }
