"""Whether tasks lived as the lifecycle table says and ended as all parties say."""

from __future__ import annotations

from collections.abc import Iterator

from sealtrace.auditor.case import Case
from sealtrace.auditor.checks.registries import by_topic
from sealtrace.auditor.checks.registry import Need, check
from sealtrace.auditor.events import Event, Position
from sealtrace.auditor.findings import Severity, Verdict, satisfied, undetermined, violated
from sealtrace.auditor.reasons import reasons_against
from sealtrace.auditor.world import TaskHistory, Topic
from sealtrace.protocol.identifiers import UnixSeconds
from sealtrace.protocol.lifecycle import TaskState
from sealtrace.protocol.outcome import Denial


@check("ST-T01", Severity.CRITICAL, Need.EVENTS)
def lifecycle_was_kept(case: Case) -> Iterator[Verdict]:
    """Nothing happened to a task that the lifecycle table does not have, nothing after its deadline, no
    progress but of a running task, and no stop by a party but of a running task.
    """
    yield from by_topic(case, Topic.LIFECYCLE, [task.id for task in case.tasks()])


@check("ST-T02", Severity.CRITICAL, Need.EVENTS)
def only_parties_acted(case: Case) -> Iterator[Verdict]:
    """Only an active requester created a task, only its named parties acted in it, while they were active
    nodes, each act once and with what it must say, and it was authorized, running and disputed only when all
    of them had agreed, started and reported.
    """
    yield from by_topic(case, Topic.ACTORS, [task.id for task in case.tasks()])


@check("ST-T03", Severity.CRITICAL, Need.EVENTS)
def completed_by_all(case: Case) -> Iterator[Verdict]:
    """Every completed task has a receipt of every party, and all report the one result digest it was
    completed with.
    """
    for task in case.tasks():
        if task.state is TaskState.COMPLETED:
            yield _completion(task)


@check("ST-T04", Severity.HIGH, Need.EVENTS)
def nobody_disputes(case: Case) -> Iterator[Verdict]:
    """No task ended with its parties reporting different results."""
    for task in case.tasks():
        if task.state is TaskState.DISPUTED and task.end is not None:
            yield violated(
                task.id,
                expected="one result digest",
                observed=_said(task),
                explanation="The parties' receipts name different results: at least one is wrong.",
                event=task.end,
                task=task.id,
            )
        elif task.finishes:
            yield satisfied(task.id)


@check("ST-T05", Severity.MEDIUM, Need.EVENTS)
def started_tasks_ended(case: Case) -> Iterator[Verdict]:
    """Every task that a party started came to a recorded end before its deadline."""
    for task in case.tasks():
        state = task.state_at(case.last.timestamp)
        if not task.starts:
            continue
        if task.end is not None:
            yield satisfied(task.id)
        elif state is TaskState.EXPIRED:
            yield _left_open(task)
        else:
            yield undetermined(task.id, f"it is {state.name} at the last block and its deadline is to come")


@check("ST-T06", Severity.MEDIUM, Need.EVENTS)
def acknowledged_by_the_requester(case: Case) -> Iterator[Verdict]:
    """Only completed tasks were acknowledged, once, by their requester, for the result of completion."""
    told = [task.id for task in case.tasks() if task.acknowledged is not None]
    yield from by_topic(case, Topic.ACKNOWLEDGEMENTS, told)


@check("ST-T07", Severity.CRITICAL, Need.EVENTS)
def created_whole(case: Case) -> Iterator[Verdict]:
    """Every task was created whole and at once: with a specification, a purpose, a protection and a deadline
    to come, 1 to 16 parties in ascending order, 1 to 64 uses under a grant each, agreed to by exactly the
    parties none of whose grants asked for approval, and in a ledger that was not closed.
    """
    yield from by_topic(case, Topic.CREATION, [task.id for task in case.tasks()])


@check("ST-R01", Severity.HIGH, Need.EVENTS)
def refusals_are_true(case: Case) -> Iterator[Verdict]:
    """Every refusal for a reason that the chain can judge was true at its block, or at one since the task
    was created, when the party may have looked.
    """
    for task in case.tasks():
        event = task.end
        if event is None or event.name != "TaskRefused" or not 1 <= event.number("reason") < 32:
            continue
        yield _refusal(case, task, event)


def _completion(task: TaskHistory) -> Verdict:
    parties, end = set(task.parties), task.end
    agreed = end.hex("result") if end is not None else None
    if set(task.finishes) == parties and task.results() == {agreed}:
        return satisfied(task.id)
    return violated(
        task.id,
        expected=f"{task.party_count} receipts with the result {agreed}",
        observed=_said(task),
        explanation="The task is completed without the agreement of all its parties.",
        event=end,
        task=task.id,
    )


def _said(task: TaskHistory) -> str:
    said = [f"{party}: {event.hex('result')}" for party, event in sorted(task.finishes.items())]
    return ", ".join(said) or "no receipt"


def _left_open(task: TaskHistory) -> Verdict:
    silent = sorted(set(task.parties) - set(task.finishes))
    return violated(
        task.id,
        expected=f"an end before {task.deadline}",
        observed=f"no receipt and no failure from {', '.join(silent)}",
        explanation="Uses were spent, and the task was left open until its deadline passed.",
        event=task.steps[-1].event,
        task=task.id,
    )


def _refusal(case: Case, task: TaskHistory, event: Event) -> Verdict:
    terms, party, reason = task.terms(), event.who("party"), event.number("reason")
    if terms is None:
        return undetermined(task.id, "the events that name the task's parties and uses")
    seen: list[Denial] = []
    for place, now in _places(case, task, event):
        facts = case.world.facts(task, terms, place)
        seen = [denial for denial, _ in reasons_against(terms, party, facts, now)]
        if reason in seen:
            return satisfied(task.id)
    return violated(
        task.id,
        expected=", ".join(denial.name.lower() for denial in seen) or "no reason to refuse",
        observed=_name_of(reason),
        explanation=f"{party} refused for a reason that the facts on the chain do not bear out.",
        event=event,
        task=task.id,
        node=party,
    )


def _places(case: Case, task: TaskHistory, event: Event) -> Iterator[tuple[Position, UnixSeconds]]:
    """The refusal itself, then the end of every block with an event since the task was created."""
    yield event.position, event.time
    for number in sorted(case.world.blocks, reverse=True):
        if task.created.block.number <= number < event.block.number:
            yield Position.end_of(number), case.world.blocks[number].timestamp


def _name_of(reason: int) -> str:
    try:
        return Denial(reason).name.lower()
    except ValueError:
        return f"reason {reason}, which no table has"
