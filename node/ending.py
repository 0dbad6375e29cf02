"""How a task ends at this node: refused, failed, stopped, finished, or closed because others ended it.

The chain is told first and the log second: what a crash leaves out in between is found by asking the chain
again, because every act is idempotent.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from sealtrace.node.directory import wipe
from sealtrace.node.errors import Unavailable
from sealtrace.node.hold import LONG_S, SOON_S, Ports, View, block_words, look, settle, where
from sealtrace.node.keeping import settle_parts
from sealtrace.node.ports import Done, Reverted, RunFailed
from sealtrace.protocol.authorization import why_denied
from sealtrace.protocol.evidence import Kind
from sealtrace.protocol.identifiers import NOBODY, Address, Hex32
from sealtrace.protocol.lifecycle import TaskState
from sealtrace.protocol.outcome import Blame, Denial, Failure
from sealtrace.protocol.receipt import Receipt


def refuse(view: View, ports: Ports, denial: Denial, detail: str) -> float | None:
    """Record the judgement, then refuse on the chain with its reason."""
    judged(view, ports, denial, detail)
    return refuse_judged(view, ports, denial, detail)


def refuse_judged(view: View, ports: Ports, denial: Denial, detail: str) -> float | None:
    """Refuse on the chain what is judged already, and record that."""
    try:
        done = ports.acts.refuse(view.task, view.terms, denial)
    except Reverted as reverted:
        return not_taken(view, ports, reverted)
    body = {"denial": int(denial), "name": denial.name, "detail": detail[:500], **where(done)}
    ports.evidence.append_once(Kind.TASK_REFUSED, body, view.task)
    ports.store.note(view.task, "refused", f"{denial.name}: {detail}")
    return settle(done, ports)


def judged(
    view: View,
    ports: Ports,
    denial: Denial | None,
    detail: str,
    bound: Hex32 | None = None,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Record the judgement with the block it rests on, unless the last one says the same.

    ``more`` is what was judged of an enclave.
    """
    said = {"denial": int(denial) if denial else None, "input_commitment": bound}
    last = ports.evidence.last(view.task, Kind.TASK_JUDGED)
    if last is not None and {key: last.body.get(key) for key in said} == said:
        return
    body = {**said, "detail": detail[:500], "spec": view.terms.spec, **(more or {})}
    ports.evidence.append(Kind.TASK_JUDGED, {**body, **block_words(view.block)}, view.task)


def denied_by_chain(view: View, ports: Ports, denial: Denial) -> float | None:
    """The chain denies a start that the last final block would have allowed: something changed since.

    Where a new look shows it, it is judged there. Where none does yet (a time that passed while no block was
    made, a revocation that is not final), the chain's word is taken, and no block is cited for it.
    """
    fresh = look(view.row, ports)
    if fresh.standing != view.standing or why_denied(
        view.terms, ports.me, fresh.facts, fresh.block.timestamp
    ):
        return None
    body = {"denial": int(denial), "input_commitment": None, "detail": "the chain denied the start"}
    ports.evidence.append(Kind.TASK_JUDGED, {**body, "block_number": None}, view.task)
    return refuse_judged(view, ports, denial, "the chain denied the start")


def fail(view: View, ports: Ports, failed: RunFailed) -> float | None:
    """Decide the failure, once, then report it: a crash in between changes nothing of what is said."""
    failure = {
        "reason": int(failed.reason),
        "blame": int(failed.blame),
        "blamed": failed.blamed,
        "detail": failed.detail[:500],
    }
    ports.store.decide_failure(view.task, json.dumps(failure))
    return report_failure(view, ports)


def report_failure(view: View, ports: Ports) -> float | None:
    """Report the failure that was decided: to the peers, to the chain, to the log."""
    kept = ports.store.task(view.task).failure
    failure: dict[str, Any] = json.loads(kept or "{}")
    with suppress(Unavailable):  # peers find out by themselves when our gateway is down
        ports.sessions.close(view.task, left="failed")
    blamed = Address(failure["blamed"] or NOBODY)
    reason, blame = Failure(failure["reason"]), Blame(failure["blame"])
    try:
        done = ports.acts.fail(view.task, view.terms, reason, blame, blamed)
    except Reverted as reverted:
        return not_taken(view, ports, reverted)
    ports.evidence.append_once(Kind.TASK_FAILED, {**failure, "name": reason.name, **where(done)}, view.task)
    ports.store.note(view.task, "failed", f"{reason.name}: {failure['detail']}")
    return settle(done, ports)


def stop(view: View, ports: Ports) -> float | None:
    """The owner ends the run on its data: traffic first, then the chain."""
    with suppress(Unavailable):
        ports.sessions.close(view.task, left="stopped by its owner")
    try:
        done = ports.acts.stop(view.task, view.terms)
    except Reverted as reverted:
        return not_taken(view, ports, reverted)
    ports.evidence.append_once(Kind.TASK_STOPPED, {"by": "owner", **where(done)}, view.task)
    return settle(done, ports)


def settled(view: View, ports: Ports) -> float:
    """This party has finished: nothing is left to do but to forget, and to hear how it ends."""
    _remember_finish(view, ports)
    _wipe(view, ports)
    ports.store.note(view.task, "finished", "the other parties have not all finished")
    return min(LONG_S, max(SOON_S, view.terms.deadline - ports.clock()))


def close(view: View, ports: Ports) -> float:
    """The task is over on the chain: whatever runs has been told to stop; record, wipe, forget."""
    with suppress(Unavailable):
        ports.sessions.close(view.task)
    if view.standing.has_finished(view.terms.parties.index(ports.me)):
        _remember_finish(view, ports)
    else:
        _remember_end(view, ports)
    settle_parts(view, ports)
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
        record_finish(view, ports, receipt, done)


def _remember_end(view: View, ports: Ports) -> None:
    """Record how the task ended, where that is not recorded yet. Acts are idempotent: trying an own one again
    tells whether it was ours."""
    ends = (Kind.TASK_FINISHED, Kind.TASK_REFUSED, Kind.TASK_FAILED, Kind.TASK_STOPPED)
    if any(ports.evidence.last(view.task, kind) for kind in ends):
        return
    judged = ports.evidence.last(view.task, Kind.TASK_JUDGED)
    own: Callable[[], float | None] | None = None
    if view.standing.state is TaskState.FAILED and view.row.failure is not None:
        own = partial(report_failure, view, ports)
    elif view.standing.state is TaskState.REFUSED and judged and judged.body["denial"]:
        denial = Denial(judged.body["denial"])
        own = partial(refuse_judged, view, ports, denial, judged.body["detail"])
    elif view.standing.state is TaskState.CANCELLED and view.row.stop_wanted:
        own = partial(stop, view, ports)
    if own is not None:
        own()
    if not any(ports.evidence.last(view.task, kind) for kind in ends):
        body = {"by": "others", "state": view.standing.state.name, **block_words(view.block)}
        ports.evidence.append_once(Kind.TASK_STOPPED, body, view.task)


def _wipe(view: View, ports: Ports) -> None:
    folder = ports.jobs(view.task)
    files = sum(1 for each in folder.rglob("*") if each.is_file()) if folder.exists() else 0
    wipe(folder)
    if ports.evidence.last(view.task, Kind.TASK_STARTED) is not None:
        ports.evidence.append_once(Kind.TASK_WIPED, {"files": files}, view.task)


def not_taken(view: View, ports: Ports, reverted: Reverted) -> float | None:
    """The chain did not take an act: look again when that explains itself, else say so and wait."""
    if reverted.name == "TaskExpired":  # time passed since the last block was made
        return close(replace(view, standing=replace(view.standing, state=TaskState.EXPIRED)), ports)
    standing = ports.chain.task(view.task, at=ports.chain.finalized())
    if standing is not None and standing != view.standing:
        return None
    ports.store.note(view.task, "waiting", f"the chain does not take it: {reverted}")
    return SOON_S * 5


def record_finish(view: View, ports: Ports, receipt: Receipt, done: Done) -> None:
    """Record the finish with the receipt's text, of which the chain holds the digest."""
    body = {
        "receipt": receipt.model_dump(mode="json"),
        "receipt_digest": receipt.digest(),
        "result": receipt.result,
        **where(done),
    }
    ports.evidence.append_once(Kind.TASK_FINISHED, body, view.task)
