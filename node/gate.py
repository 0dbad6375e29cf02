"""The gate: :func:`run_task` carries one task to its end, and runs nothing that the chain does not allow.

Nothing here is remembered only in memory. Each act on the chain is idempotent, each record of the evidence
log is written once, and the engine begins once for each task, for good; so the same function, delivered
twice or begun again after a crash at any line, comes to the same end.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sealtrace.node.attesting import NotShown, judge, show, shown
from sealtrace.node.ending import close, denied_by_chain, judged, not_taken, refuse, settled
from sealtrace.node.errors import NodeError
from sealtrace.node.hold import LONG_S, SOON_S, Circular, Hold, LeaseLost, Ports, View, look, settle, where
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
from sealtrace.node.ports import Reverted
from sealtrace.node.preparing import Prepared, Unfit, prepare
from sealtrace.node.running import go_on, record_start
from sealtrace.protocol.attestation.statement import Statement
from sealtrace.protocol.evidence import Kind
from sealtrace.protocol.identifiers import Hex32
from sealtrace.protocol.outcome import Denial

MAX_ROUNDS = 24  # a life has at most ten steps; more means that this code runs in a circle


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
        hold.let_go()
        ports.store.release(task, token, next_in_s)


def _carry(hold: Hold) -> float:
    """Take steps until one says how many seconds there is nothing to do."""
    for _ in range(MAX_ROUNDS):
        hold.require()
        row = hold.ports.store.task(hold.task)
        if row.over:
            return LONG_S
        view = look(row, hold.ports)
        wait_s = _take(_decide(view, hold.ports), view, hold)
        if wait_s is not None:
            return wait_s
    raise Circular(f"task {hold.task} made no progress in {MAX_ROUNDS} steps")


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
            return close(view, ports)
        case Settled():
            return settled(view, ports)
        case Refuse(denial, detail):
            return refuse(view, ports, denial, detail)
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
            return go_on(view, hold)


def _seen(view: View, hold: Hold) -> Statement | None:
    """What the task's enclave shows, where it has one elsewhere; looked for before anything is read here."""
    enclave, ports = view.known().spec.enclave, hold.ports
    if enclave is None:
        return None
    if enclave != ports.me:
        return shown(view, ports)
    before = ports.evidence.last(view.task, Kind.TASK_JUDGED)
    if before is not None and before.body["denial"] is None:
        raise Unfit(Denial.ENCLAVE_LOST, "the start of an earlier enclave was sent, and its key is gone")
    if not hold.take_seat():
        raise NotShown("as many enclaves wait or run at this node as its concurrency lets it hold")
    return None


def _attested(view: View, hold: Hold, prepared: Prepared, seen: Statement | None) -> Mapping[str, Any]:
    """What the judgement says more, where the task runs in an enclave."""
    if view.known().spec.enclave is None:
        return {}
    if seen is None:
        return {"attested": show(view, hold, prepared).digest}
    hold.release, words = judge(view, hold.ports, seen)
    return words


def _approve(view: View, ports: Ports) -> float | None:
    try:
        done = ports.acts.approve(view.task, view.terms)
    except Reverted as reverted:
        return not_taken(view, ports, reverted)
    ports.evidence.append_once(Kind.TASK_APPROVED, where(done), view.task)
    return settle(done, ports)


def _start(view: View, hold: Hold) -> float | None:
    ports = hold.ports
    ports.store.note(view.task, "checking")
    try:
        seen = _seen(view, hold)
        prepared = prepare(view.task, ports.me, view.known(), view.facts, ports.holdings)
        more = _attested(view, hold, prepared, seen)
        hold.prepared = prepared.attesting(view.task, more.get("attested"))
    except Unfit as unfit:
        return refuse(view, ports, unfit.denial, unfit.detail)
    except NotShown as cause:
        ports.store.note(view.task, "waiting", str(cause))
        return SOON_S
    hold.require()
    judged(view, ports, None, "", hold.prepared.commitment, more)
    try:
        done = ports.acts.start(view.task, view.terms, hold.prepared.commitment)
    except Reverted as reverted:
        if reverted.denial is not None:
            return denied_by_chain(view, ports, reverted.denial)
        return not_taken(view, ports, reverted)
    record_start(view, ports, hold.prepared.commitment, done)
    return settle(done, ports)
