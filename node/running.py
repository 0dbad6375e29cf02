"""From this party's start to its finish: wait for the others, run once, deliver the sealed share."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from sealtrace.node.attesting import judge_final, kept, own_policies, show_final
from sealtrace.node.ending import fail, not_taken, record_finish, refuse, report_failure, stop
from sealtrace.node.engines.handover import RECEIVED
from sealtrace.node.engines.tee.job import METRICS
from sealtrace.node.errors import DiskFull, Unavailable
from sealtrace.node.heartbeat import Heartbeat
from sealtrace.node.hold import SOON_S, Circular, Hold, Ports, View, settle, where
from sealtrace.node.keeping import take_parts
from sealtrace.node.ports import (
    Done,
    LocalGateway,
    Plan,
    Ran,
    Release,
    Reverted,
    RunFailed,
    RunStopped,
    SessionRefused,
    Undeliverable,
)
from sealtrace.node.preparing import Prepared, Unfit, prepare
from sealtrace.node.telling import Carrier
from sealtrace.protocol.canonical import digest
from sealtrace.protocol.evidence import Kind
from sealtrace.protocol.identifiers import Hex32
from sealtrace.protocol.lifecycle import TaskState
from sealtrace.protocol.outcome import Blame, Denial, Failure
from sealtrace.protocol.receipt import Receipt

GONE: Final = "the enclave's process ended, and with it the key that owners were shown"


def go_on(view: View, hold: Hold) -> float | None:
    """This party has started: record it, wait for the others, run once, deliver, finish."""
    if view.standing.state is TaskState.AUTHORIZED:
        if view.row.stop_wanted:
            return refuse(view, hold.ports, Denial.OPERATOR_REFUSED, "the operator refused the task")
        _remember_start(view, hold.ports)
        if view.known().spec.enclave == hold.ports.me:
            return _await_owners(view, hold)
        return _await_others(view, hold)
    if view.row.stop_wanted:
        return stop(view, hold.ports)
    try:
        _remember_start(view, hold.ports)
        return _run_or_deliver(view, hold)
    except DiskFull as cause:
        if hold.ports.evidence.last(view.task, Kind.TASK_RAN) is not None:
            raise  # the result is there: it is delivered once there is room for the record
        return fail(view, hold.ports, RunFailed(Failure.DISK_FULL, Blame.REPORTER, None, str(cause)))


def _remember_start(view: View, ports: Ports) -> None:
    """Write the record of a start that was mined just before a crash."""
    if ports.evidence.last(view.task, Kind.TASK_STARTED) is None:
        bound = _authority(view, ports)["input_commitment"]
        record_start(view, ports, bound, ports.acts.start(view.task, view.terms, bound))


def _authority(view: View, ports: Ports) -> Mapping[str, Any]:
    """The judgement under which this party started."""
    for record in reversed(ports.evidence.of_task(view.task)):
        if record.kind == Kind.TASK_JUDGED and record.body["denial"] is None:
            return record.body
    raise Circular(f"task {view.task} was started without a judgement on record")


def _await_others(view: View, hold: Hold) -> float | None:
    """Wait a bounded while for the last start; then give the worker back and look again later."""
    return SOON_S if _still_waiting(view, hold, hold.ports.limits.wait_for_others_s) else None


def _await_owners(view: View, hold: Hold) -> float | None:
    """Hold the enclave until the last owner has started: its key lives in its process alone."""
    ports = hold.ports
    if _enclave_is_gone(hold):
        return refuse(view, ports, Denial.ENCLAVE_LOST, GONE)
    if _still_waiting(view, hold, ports.limits.enclave_wait_s):
        why = f"not all owners started within {ports.limits.enclave_wait_s:g} s of the enclave"
        return refuse(view, ports, Denial.OTHERS_ABSENT, why)
    return None


def _enclave_is_gone(hold: Hold) -> bool:
    """Whether this node, which hosts the task's enclave, no longer holds it."""
    return hold.enclave is None or not hold.enclave.alive


def _still_waiting(view: View, hold: Hold, seconds: float) -> bool:
    """Wait for the last start; whether ``seconds`` passed without it, or the task's own time."""
    ports = hold.ports
    give_up = min(ports.clock() + seconds, float(view.terms.deadline))
    while True:
        try:
            standing = ports.chain.task(view.task, at=ports.chain.finalized())
            if standing is None or standing.state is not TaskState.AUTHORIZED or hold.lost:
                return False
            if ports.store.task(view.task).stop_wanted or (hold.enclave and not hold.enclave.alive):
                return False
        except Unavailable:
            if hold.enclave is None or hold.lost or ports.clock() >= give_up:
                raise
        if ports.clock() >= give_up:
            return True
        ports.sleep(ports.limits.poll_s)


def _run_or_deliver(view: View, hold: Hold) -> float | None:
    ports = hold.ports
    if view.row.failure is not None:
        return report_failure(view, ports)
    ran = ports.holdings.engine.left_behind(ports.jobs(view.task)) if view.row.run else None
    if ran is not None:
        return _deliver(view, hold, ran)
    if view.row.run is not None:
        why = "the run was interrupted; it is not run twice under one use"
        return fail(view, ports, RunFailed(Failure.INTERRUPTED, Blame.REPORTER, None, why))
    try:
        _run(view, hold)
    except RunFailed as failed:
        return fail(view, ports, failed)
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
    release = _release(view, hold)
    if hold.enclave is None:
        shutil.rmtree(folder, ignore_errors=True)
    try:
        gateway = _opened(view, hold)
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
        enclave=hold.enclave,
        release=release,
    )
    ports.store.note(view.task, "running")
    tell = partial(ports.acts.progress, view.task, view.terms)
    hold.heartbeat = Heartbeat(tell, ports.limits.progress_every_s, ports.clock, ports.aside)
    if hold.enclave is not None:
        put = partial(ports.scheduler.put_metrics, view.task)
        hold.carrier = Carrier(folder / METRICS, put, ports.aside)
    hold.running = True
    try:
        ran = ports.holdings.engine.run(plan, hold.stop, hold.heartbeat.begins)
    finally:
        hold.running = False
    if hold.carrier is not None:
        hold.carrier.carry()
    _require_unchanged(prepared)
    _record_run(view, ports, ran)


def _opened(view: View, hold: Hold) -> LocalGateway:
    """The task's session, opened; an enclave that is held is worth a few more tries."""
    ports = hold.ports
    give_up = ports.clock() + (ports.limits.wait_for_others_s if hold.enclave is not None else 0)
    while True:
        try:
            return ports.sessions.open(view.task, view.known().peers_of(ports.me))
        except Unavailable:
            if ports.clock() >= give_up or hold.lost:
                raise
        ports.sleep(ports.limits.poll_s)


def _release(view: View, hold: Hold) -> Release | None:
    """Upon what this party releases its inputs to the task's enclave, if it has one elsewhere.

    Raises:
        RunFailed: this party runs it, and it is gone; or the statement that was judged is.
    """
    ports, enclave = hold.ports, view.known().spec.enclave
    if enclave is None:
        return None
    if enclave == ports.me:
        if _enclave_is_gone(hold):
            raise RunFailed(Failure.INTERRUPTED, Blame.REPORTER, None, GONE)
        return None
    if hold.release is None:
        try:
            policies = own_policies(view, ports)
        except Unfit as unfit:
            raise RunFailed(Failure.INPUT_INVALID, Blame.REPORTER, None, str(unfit)) from unfit
        hold.release = Release(kept(ports, _authority(view, ports)["attested"]), policies)
    return hold.release


def _checked_again(view: View, hold: Hold) -> Prepared:
    """What was checked before the start, or checked anew when that was before a crash or has changed."""
    if hold.prepared is not None and hold.prepared.changed() is None:
        return hold.prepared
    ports = hold.ports
    try:
        prepared = prepare(view.task, ports.me, view.known(), view.facts, ports.holdings)
    except Unfit as unfit:
        raise RunFailed(Failure.INPUT_INVALID, Blame.REPORTER, None, str(unfit)) from unfit
    authority = _authority(view, ports)
    prepared = prepared.attesting(view.task, authority.get("attested"))
    if prepared.commitment != authority["input_commitment"]:
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
    """The receipt of the run, as recorded: a second time, the one recorded first.

    Raises:
        RunFailed: an enclave did what this owner does not accept.
    """
    if (before := ports.evidence.last(view.task, Kind.TASK_RAN)) is not None:
        return Receipt.model_validate(before.body["receipt"])
    authority = _authority(view, ports)
    attestation = judge_final(view, ports, authority.get("attested"))
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
    if attestation:
        body["attestation"] = attestation
    record = ports.evidence.append_once(Kind.TASK_RAN, body, view.task)
    return Receipt.model_validate(record.body["receipt"])


def _deliver(view: View, hold: Hold, ran: Ran) -> float | None:
    """Hand the sealed share over, then finish. Done again after a crash, both say what they said before."""
    ports = hold.ports
    try:
        receipt = _record_run(view, ports, ran)
    except RunFailed as failed:
        return fail(view, ports, failed)
    _keep_received(view, ports)
    take_parts(view, ports)
    if receipt.output != ran.output:
        detail = "the sealed share is not the one on record"
        return fail(view, ports, RunFailed(Failure.RESULT_UNDELIVERABLE, Blame.REPORTER, None, detail))
    ports.store.note(view.task, "delivering")
    try:
        show_final(view, ports)
        ports.scheduler.upload(view.task, ran.sealed)
    except Undeliverable as cause:
        refused = RunFailed(Failure.RESULT_UNDELIVERABLE, Blame.NOBODY, None, str(cause))
        return fail(view, ports, refused)
    hold.require()
    try:
        done = ports.acts.finish(view.task, view.terms, receipt.digest(), receipt.result)
    except Reverted as reverted:
        return not_taken(view, ports, reverted)
    record_finish(view, ports, receipt, done)
    return settle(done, ports)


def _keep_received(view: View, ports: Ports) -> None:
    """Move what this party may keep out of the folder that is wiped; done again, there is nothing to move."""
    written, kept = ports.jobs(view.task) / RECEIVED, ports.received(view.task)
    if written.exists():
        kept.parent.mkdir(mode=0o700, exist_ok=True)
        written.rename(kept)


def record_start(view: View, ports: Ports, bound: Hex32, done: Done) -> None:
    """Record the start, once."""
    body = {"input_commitment": bound, **where(done)}
    ports.evidence.append_once(Kind.TASK_STARTED, body, view.task)
    ports.store.note(view.task, "started", "this party has started; the others may not have")
