"""Whether the times that nodes recorded agree with the times of the blocks."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import Final

from sealtrace.auditor.case import ACTS, Case
from sealtrace.auditor.checks.registry import Need, check
from sealtrace.auditor.evidence import NodeLog
from sealtrace.auditor.findings import Severity, Verdict, satisfied, undetermined, violated
from sealtrace.auditor.world import Anchor
from sealtrace.protocol.canonical import digest
from sealtrace.protocol.evidence import Kind, Record

MAX_SKEW_S: Final = 300
"""As far as two clocks may be apart before a statement is refused, see ``protocol.statements``."""


@check("EV-C01", Severity.MEDIUM, Need.EVENTS, Need.LOGS)
def clocks_agree(case: Case) -> Iterator[Verdict]:
    """Every record of an act or a judgement is dated, within 300 seconds, no earlier than the block it names
    and no later than the block that anchors it.
    """
    for node in sorted(case.logs):
        log, anchors = case.logs[node], case.world.anchors_of(node)
        sizes = [each.size for each in anchors]
        for record in log.records:
            if record.kind not in _DATED:
                continue
            after = bisect_right(sizes, record.index)
            yield _dated(case, log, record, anchors[after] if after < len(anchors) else None)


_DATED = frozenset({kind.value for kind in ACTS.values()} | {Kind.TASK_JUDGED.value})


def _dated(case: Case, log: NodeLog, record: Record, anchor: Anchor | None) -> Verdict:
    thing, named = f"{log.node}, record {record.index}", _named(case, record)
    if named is not None and record.at < named - MAX_SKEW_S:
        return _apart(log, record, f"not before {named}, the time of the block it names")
    if anchor is not None and record.at > anchor.event.time + MAX_SKEW_S:
        return _apart(log, record, f"not after {anchor.event.time}, the time of the block that anchors it")
    if named is None and anchor is None:
        return undetermined(thing, "it names no block that is known, and none anchors it")
    return satisfied(thing)


def _named(case: Case, record: Record) -> int | None:
    """The time of the block whose transaction, or whose state, a record speaks of."""
    number, transaction = record.body.get("block_number"), record.body.get("transaction")
    if record.kind == Kind.TASK_JUDGED:
        block = case.cited.get(number) if type(number) is int else None
        return block.timestamp if block else None
    task = case.world.tasks.get(record.task) if record.task else None
    steps = task.steps if task else []
    return next((step.event.time for step in steps if step.event.transaction == transaction), None)


def _apart(log: NodeLog, record: Record, expected: str) -> Verdict:
    return violated(
        f"{log.node}, record {record.index}",
        expected=f"{expected}, within {MAX_SKEW_S} s",
        observed=f"dated {record.at}",
        explanation=f"The clock of node {log.node} and the chain's are too far apart.",
        task=record.task,
        node=log.node,
        evidence=digest(record.model_dump(mode="json")),
    )
