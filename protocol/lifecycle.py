"""The life of a task: one table, from which contracts' tests, replay and the documents are drawn."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum, StrEnum

from sealtrace.protocol.identifiers import UnixSeconds


class TaskState(IntEnum):
    """Where a task stands. ``EXPIRED`` is derived from time and never stored."""

    NONE = 0
    CREATED = 1
    AUTHORIZED = 2
    RUNNING = 3
    COMPLETED = 4
    FAILED = 5
    DISPUTED = 6
    REFUSED = 7
    CANCELLED = 8
    EXPIRED = 9


class TaskEvent(StrEnum):
    """What can happen to a task; the names of the ledger's events."""

    CREATED = "TaskCreated"
    APPROVED = "TaskApproved"
    AUTHORIZED = "TaskAuthorized"
    STARTED = "TaskStarted"
    RUNNING = "TaskRunning"
    PROGRESS = "TaskProgress"
    FINISHED = "TaskFinished"
    COMPLETED = "TaskCompleted"
    DISPUTED = "TaskDisputed"
    REFUSED = "TaskRefused"
    FAILED = "TaskFailed"
    CANCELLED = "TaskCancelled"
    ACKNOWLEDGED = "TaskAcknowledged"


class IllegalTransition(ValueError):
    """An event cannot happen to a task in this state."""


TRANSITIONS: Mapping[TaskState, Mapping[TaskEvent, TaskState]] = {
    TaskState.NONE: {TaskEvent.CREATED: TaskState.CREATED},
    TaskState.CREATED: {
        TaskEvent.APPROVED: TaskState.CREATED,
        TaskEvent.AUTHORIZED: TaskState.AUTHORIZED,
        TaskEvent.REFUSED: TaskState.REFUSED,
        TaskEvent.CANCELLED: TaskState.CANCELLED,
    },
    TaskState.AUTHORIZED: {
        TaskEvent.STARTED: TaskState.AUTHORIZED,  # until the last party has started
        TaskEvent.RUNNING: TaskState.RUNNING,
        TaskEvent.REFUSED: TaskState.REFUSED,
        TaskEvent.CANCELLED: TaskState.CANCELLED,
    },
    TaskState.RUNNING: {
        TaskEvent.PROGRESS: TaskState.RUNNING,  # a word, not a step
        TaskEvent.FINISHED: TaskState.RUNNING,  # until the last party has finished
        TaskEvent.COMPLETED: TaskState.COMPLETED,
        TaskEvent.DISPUTED: TaskState.DISPUTED,
        TaskEvent.FAILED: TaskState.FAILED,
        TaskEvent.CANCELLED: TaskState.CANCELLED,
    },
    TaskState.COMPLETED: {TaskEvent.ACKNOWLEDGED: TaskState.COMPLETED},  # by the requester, once
    TaskState.FAILED: {},
    TaskState.DISPUTED: {},
    TaskState.REFUSED: {},
    TaskState.CANCELLED: {},
    TaskState.EXPIRED: {},
}

OPEN_STATES = frozenset({TaskState.CREATED, TaskState.AUTHORIZED, TaskState.RUNNING})


def advance(state: TaskState, event: TaskEvent) -> TaskState:
    """The state after ``event``.

    Raises:
        IllegalTransition: the table has no such step.
    """
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise IllegalTransition(f"{event.value} cannot happen to a task that is {state.name}") from None


def at_time(state: TaskState, deadline: UnixSeconds, now: UnixSeconds) -> TaskState:
    """The state at block time ``now``: an open task is expired from its deadline on."""
    return TaskState.EXPIRED if state in OPEN_STATES and now >= deadline else state
