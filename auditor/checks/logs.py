"""Whether the nodes' evidence logs are there, whole, and as their checkpoints on the chain say."""

from __future__ import annotations

from collections.abc import Iterator

from sealtrace.auditor.case import Act, Case
from sealtrace.auditor.checks.registry import Need, check
from sealtrace.auditor.evidence import Fault, NodeLog
from sealtrace.auditor.findings import Severity, Verdict, satisfied, undetermined, violated
from sealtrace.auditor.world import Anchor
from sealtrace.protocol.identifiers import Address


@check("EV-L01", Severity.CRITICAL, Need.EVENTS, Need.LOGS)
def logs_match_checkpoints(case: Case) -> Iterator[Verdict]:
    """Every line of a node's log is one canonical record in its place, and the log has the anchored root at
    every anchored size.

    The first thing that does not fit is the finding. What lies after the last checkpoint that fits is not
    used by any other check.
    """
    for node in _involved(case):
        log = case.logs.get(node)
        if log is None:
            yield undetermined(node, case.why_no_log(node))
        elif log.fault is not None:
            yield _rewritten(case, log, log.fault)
        elif log.fitting:
            yield satisfied(node)
        else:
            yield undetermined(node, "no checkpoint on the chain reaches into what was handed over")


@check("EV-L02", Severity.HIGH, Need.EVENTS, Need.LOGS)
def logs_were_handed_over(case: Case) -> Iterator[Verdict]:
    """Every node that acted or anchored handed over its log, down to the last record it has anchored."""
    for node in _involved(case):
        log = case.logs.get(node)
        if log is None:
            yield undetermined(node, case.why_no_log(node))
        elif log.fault is not None:
            yield undetermined(node, log.why_silent())
        elif log.short_of:
            yield _truncated(case, log)
        else:
            yield satisfied(node)


@check("EV-L03", Severity.MEDIUM, Need.EVENTS)
def checkpoints_in_time(case: Case) -> Iterator[Verdict]:
    """Every party that acted in a task anchored its log after its last act, within a set number of blocks
    of the task's end.
    """
    last_acts: dict[tuple[str, Address], Act] = {}
    for act in case.acts():
        if act.task.end is not None:
            last_acts[act.task.id, act.party] = act
    for act in last_acts.values():
        yield _anchored_in_time(case, act)


def _involved(case: Case) -> list[Address]:
    """The nodes that acted in the range or ever anchored, and those whose logs were handed over."""
    return sorted({*case.logs, *case.unread, *(act.party for act in case.acts()), *case.world.anchored()})


def _rewritten(case: Case, log: NodeLog, fault: Fault) -> Verdict:
    anchor = _anchor(case, log.node, fault.size)
    held = f"root {fault.expected} at size {fault.size}" if fault.size is not None else "a canonical record"
    rebuilt = f"root {fault.observed}" if fault.observed else "no root can be rebuilt there"
    return violated(
        log.node,
        expected=held,
        observed=f"{rebuilt}; {fault.records}: {fault.problem}",
        explanation=f"The log of node {log.node} is not the one it anchored: {fault.records} differs.",
        event=anchor.event if anchor else None,
        node=log.node,
        evidence=fault.line or fault.observed,
    )


def _truncated(case: Case, log: NodeLog) -> Verdict:
    size = log.short_of[-1]
    anchor = _anchor(case, log.node, size)
    return violated(
        log.node,
        expected=f"{size} records",
        observed=f"{log.size} records",
        explanation=f"Node {log.node} anchored more records than it handed over.",
        event=anchor.event if anchor else None,
        node=log.node,
    )


def _anchor(case: Case, node: Address, size: int | None) -> Anchor | None:
    return next((each for each in case.world.anchors_of(node) if each.size == size), None)


def _anchored_in_time(case: Case, act: Act) -> Verdict:
    thing, end = f"{act.task.id}/{act.party}", act.task.end
    limit = (end or act.event).block.number + case.parameters.checkpoint_blocks
    anchors = [each for each in case.world.anchors_of(act.party) if each.event.position > act.event.position]
    if any(each.event.block.number <= limit for each in anchors):
        return satisfied(thing)
    if case.last.number <= limit:
        return undetermined(thing, f"the checkpoint is not due before block {limit}")
    return violated(
        thing,
        expected=f"a checkpoint of {act.party} by block {limit}",
        observed=f"the next one at block {anchors[0].event.block.number}" if anchors else "none",
        explanation="What the party recorded of the task could be rewritten unseen.",
        event=act.event,
        task=act.task.id,
        node=act.party,
    )
