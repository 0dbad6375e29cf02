"""The lifecycle table: what is in it happens, what is not in it does not."""

from __future__ import annotations

from itertools import product

import pytest

from sealtrace.protocol.identifiers import UnixSeconds
from sealtrace.protocol.lifecycle import (
    OPEN_STATES,
    TRANSITIONS,
    IllegalTransition,
    TaskEvent,
    TaskState,
    advance,
    at_time,
)

FORBIDDEN = [(s, e) for s, e in product(TaskState, TaskEvent) if e not in TRANSITIONS[s]]


@pytest.mark.parametrize(("state", "event"), FORBIDDEN)
def test_nothing_outside_the_table_happens(state, event):
    with pytest.raises(IllegalTransition):
        advance(state, event)


def test_a_task_that_goes_well_passes_through_these_states():
    state = TaskState.NONE
    for event in ("CREATED", "APPROVED", "AUTHORIZED", "STARTED", "RUNNING", "FINISHED", "COMPLETED"):
        state = advance(state, TaskEvent[event])
    assert state is TaskState.COMPLETED


def test_a_task_that_is_over_stays_over():
    over = set(TaskState) - OPEN_STATES - {TaskState.NONE}
    assert all(set(TRANSITIONS[state].values()) <= {state} for state in over)


@pytest.mark.parametrize("state", TaskState)
def test_only_an_open_task_expires_and_only_at_its_deadline(state):
    deadline = UnixSeconds(100)
    assert at_time(state, deadline, UnixSeconds(99)) is state
    expected = TaskState.EXPIRED if state in OPEN_STATES else state
    assert at_time(state, deadline, deadline) is expected


def test_every_state_can_be_reached():
    reached, todo = set(), [TaskState.NONE]
    while todo:
        state = todo.pop()
        if state not in reached:
            reached.add(state)
            todo.extend(TRANSITIONS[state].values())
    assert reached == set(TaskState) - {TaskState.EXPIRED}
