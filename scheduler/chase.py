"""Chasing: what the chain says of each open task, who is late, and what may be deleted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from sealtrace.protocol.identifiers import UnixSeconds
from sealtrace.protocol.lifecycle import OPEN_STATES, TaskState
from sealtrace.protocol.records import BlockRef
from sealtrace.scheduler.ports import Chain, TaskOnChain
from sealtrace.scheduler.sealed_files import SealedFiles
from sealtrace.scheduler.settings import Times
from sealtrace.scheduler.store import Store
from sealtrace.scheduler.tasks import Observation, Output, Task


def chase(store: Store, chain: Chain, times: Times, now: UnixSeconds) -> list[Task]:
    """Compare every open task with the chain at one block and keep what it says; return the changed.

    Safe to run twice, and side by side with itself: only what the chain says is written.
    """
    at = chain.finalized()
    changed = []
    for task in store.open_tasks():
        seen = look(task, chain.task(task.id, at=at), at, times.late_after_s, now)
        if seen != task:
            store.update_task(seen)
            changed.append(seen)
    return changed


def refresh(task: Task, store: Store, chain: Chain, times: Times, now: UnixSeconds) -> Task:
    """One task as the chain has it now. A task that is over stays as it was seen."""
    if task.over_at is not None:
        return task
    at = chain.finalized()
    seen = look(task, chain.task(task.id, at=at), at, times.late_after_s, now)
    if seen != task:
        store.update_task(seen)
    return seen


def look(task: Task, record: TaskOnChain | None, at: BlockRef, late_after_s: float, now: UnixSeconds) -> Task:
    """What is known of ``task`` after the chain said ``record`` at block ``at``.

    An answer of an earlier block than the last one seen changes nothing.
    """
    if task.observed is not None and at.number < task.observed.block:
        return task
    observed = observe(task, record, at)
    running = task.running_since
    if running is None and observed.state is TaskState.RUNNING:
        running = now
    over = now if observed.state not in OPEN_STATES and observed.state is not TaskState.NONE else None
    seen = replace(task, observed=_kept(task.observed, observed), running_since=running, over_at=over)
    return replace(seen, late=() if over else tuple(late(seen, late_after_s, now)))


def observe(task: Task, record: TaskOnChain | None, at: BlockRef) -> Observation:
    """The chain's word. A task never created is expired once its deadline has passed."""
    if record is None:
        state = TaskState.EXPIRED if at.timestamp >= task.deadline else TaskState.NONE
        return Observation(state, at.number, at.timestamp)
    return Observation(
        record.state, at.number, at.timestamp, record.approved, record.started, record.finished
    )


def late(task: Task, late_after_s: float, now: UnixSeconds) -> Iterator[str]:
    """In words, what should have happened by now and has not. Nobody is blamed: the chain may be slow."""
    seen = task.observed
    if seen is None or now - task.accepted_at <= late_after_s:
        return
    if seen.state is TaskState.NONE:
        yield "the requester has not put the task on chain"
    for index, party in enumerate(task.parties):
        if seen.state is TaskState.CREATED and not seen.approved >> index & 1:
            yield f"{party} has not approved"
        if seen.state is TaskState.AUTHORIZED and not seen.started >> index & 1:
            yield f"{party} has not started"
        if _overdue(task, late_after_s, now) and not seen.finished >> index & 1:
            yield f"{party} has not finished"


def purge(store: Store, files: SealedFiles, times: Times, now: UnixSeconds) -> list[Task]:
    """Delete what was carried for tasks that are over, once it was kept long enough; return those tasks."""
    done = []
    for task in store.tasks_to_purge():
        if not may_purge(task, store.outputs(task.id), times, now):
            continue
        purged = replace(task, purged_at=now)
        store.update_task(purged)  # first, so that no output is taken while files go
        store.forget_carried(task.id)
        files.discard(task.id)
        done.append(purged)
    files.sweep()
    return done


def may_purge(task: Task, outputs: list[Output], times: Times, now: UnixSeconds) -> bool:
    """Whether the outputs were fetched by the requester long enough ago, or nobody came for them."""
    if task.over_at is None:
        return False
    if now - task.over_at > times.keep_unfetched_s:
        return True
    fetched = [each.fetched_at for each in outputs if each.fetched_at is not None]
    if len(fetched) < len(task.parties):
        return False
    return now - max(*fetched, task.over_at) > times.keep_fetched_s


def _overdue(task: Task, late_after_s: float, now: UnixSeconds) -> bool:
    if task.running_since is None or task.observed is None or task.observed.state is not TaskState.RUNNING:
        return False
    return now - task.running_since > task.engine_seconds + late_after_s


def _kept(before: Observation | None, now: Observation) -> Observation:
    """The first block at which the chain said this: a new block alone is no news."""
    if before is None:
        return now
    same = replace(now, block=before.block, at=before.at)
    return before if same == before else now
