"""Whether the registries changed only as their rules allow, and storage is what the events say."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from sealtrace.auditor.case import Case, Snapshot, StoredTask
from sealtrace.auditor.checks.registry import Need, check
from sealtrace.auditor.findings import Severity, Verdict, satisfied, undetermined, violated
from sealtrace.auditor.world import Irregularity, TaskHistory, Topic, World
from sealtrace.protocol.identifiers import Hex32
from sealtrace.protocol.records import Checkpoint


@check("ST-N01", Severity.HIGH, Need.EVENTS)
def nodes_changed_by_rule(case: Case) -> Iterator[Verdict]:
    """Nodes were admitted once, and suspended, reinstated and retired only from where that is allowed and
    by a holder of the office.
    """
    yield from by_topic(case, Topic.NODES, case.world.nodes)


@check("ST-D02", Severity.HIGH, Need.EVENTS)
def datasets_changed_by_rule(case: Case) -> Iterator[Verdict]:
    """Datasets were registered once by an active data owner, and withdrawn once and by their owner."""
    yield from by_topic(case, Topic.DATASETS, case.world.datasets)


@check("ST-A02", Severity.HIGH, Need.EVENTS)
def algorithms_changed_by_rule(case: Case) -> Iterator[Verdict]:
    """Algorithms were registered once by an active provider, and changed only by who may change them."""
    yield from by_topic(case, Topic.ALGORITHMS, case.world.algorithms)


@check("ST-G07", Severity.HIGH, Need.EVENTS)
def grants_issued_by_rule(case: Case) -> Iterator[Verdict]:
    """Grants were issued by active owners over their own active datasets, for an active algorithm and
    requester and a window not yet over, and revoked once and by their owner.
    """
    yield from by_topic(case, Topic.GRANTS, case.world.grants)


@check("ST-C01", Severity.HIGH, Need.EVENTS)
def checkpoints_only_grow(case: Case) -> Iterator[Verdict]:
    """Checkpoints of a node's log only grew, each from the size of the one before."""
    yield from by_topic(case, Topic.CHECKPOINTS, case.world.anchors)


@check("ST-E01", Severity.HIGH, Need.EVENTS)
def events_are_readable(case: Case) -> Iterator[Verdict]:
    """Every event of the contracts holds the values its ABI declares."""
    yield from by_topic(case, Topic.DECODING, [f"blocks {case.first} to {case.last.number}"])


@check("ST-S01", Severity.CRITICAL, Need.EVENTS, Need.STORAGE)
def storage_is_what_events_say(case: Case) -> Iterator[Verdict]:
    """At the last block, contract storage holds exactly the state that the events add up to."""
    if case.snapshot is None:
        yield undetermined(f"block {case.last.number}", case.no_snapshot)
        return
    for thing, replayed, stored in _pairs(case.world, case.snapshot, case):
        if replayed == stored:
            yield satisfied(thing)
        else:
            yield violated(
                thing,
                expected=_shown(replayed),
                observed=_shown(stored),
                explanation="What the contract stores differs from what its events add up to.",
            )


def by_topic(case: Case, topic: Topic, things: Collection[str]) -> Iterator[Verdict]:
    """One verdict for each irregularity of ``topic`` in the range, and for each thing without one."""
    found = [each for each in case.world.irregular if each.topic is topic and case.covers(each.event)]
    for each in found:
        yield verdict_of(each, f"{each.event.name} stands where the rules do not allow it.")
    for thing in sorted(set(things) - {each.object for each in found}):
        yield satisfied(thing)


def verdict_of(each: Irregularity, explanation: str) -> Verdict:
    """The verdict on an irregular event."""
    task = each.event.args.get("task")
    return violated(
        each.object,
        expected=each.expected,
        observed=each.observed,
        explanation=explanation,
        event=each.event,
        task=Hex32(task) if isinstance(task, str) else None,
    )


def _pairs(world: World, stored: Snapshot, case: Case) -> Iterator[tuple[str, object, object]]:
    for key, node in sorted(world.nodes.items()):
        yield f"node {key}", node.last, stored.nodes.get(key)
    for digest, dataset in sorted(world.datasets.items()):
        yield f"dataset {digest}", dataset.last, stored.datasets.get(digest)
    for digest, algorithm in sorted(world.algorithms.items()):
        yield f"algorithm {digest}", algorithm.last, stored.algorithms.get(digest)
    for digest, grant in sorted(world.grants.items()):
        yield f"grant {digest}", grant.last, stored.grants.get(digest)
    for digest, task in sorted(world.tasks.items()):
        found = stored.tasks.get(digest)
        yield f"task {digest}", _as_stored(task, found, case), found
    for key, anchors in sorted(world.anchors.items()):
        if anchors:
            last = Checkpoint(key, anchors[-1].size, anchors[-1].root)
            yield f"checkpoint {key}", last, stored.checkpoints.get(key)


def _as_stored(task: TaskHistory, found: StoredTask | None, case: Case) -> StoredTask:
    """The replayed task as storage should show it; its terms are compared by the hash storage keeps."""
    terms_hash = found.expected_terms_hash if found else None
    return StoredTask(
        requester=task.requester,
        state=task.state_at(case.last.timestamp),
        deadline=task.deadline,
        approved=task.approved,
        started=task.mask(task.starts),
        finished=task.mask(task.finishes),
        result=task.agreed(),
        terms_hash=terms_hash or Hex32("terms incomplete in the events"),
        expected_terms_hash=terms_hash,
    )


def _shown(value: Any) -> str:
    return "nothing" if value is None else str(value)
