"""Every step of the lifecycle table happens, and nothing outside it does. The table is the protocol's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import product

import pytest
from chain_world import RESULT, World, h

from sealtrace.contracts import calls
from sealtrace.contracts.calls import Call
from sealtrace.protocol.identifiers import Hex32
from sealtrace.protocol.lifecycle import TRANSITIONS, TaskEvent, TaskState
from sealtrace.protocol.outcome import Blame, Denial, Failure
from sealtrace.protocol.records import TaskTerms

Story = Callable[[World, TaskTerms], Hex32]


def none(world: World, terms: TaskTerms) -> Hex32:
    return world.chain.task_id(terms)


def created(world: World, terms: TaskTerms) -> Hex32:
    return world.create(terms)


def authorized(world: World, terms: TaskTerms) -> Hex32:
    task = created(world, terms)
    for name in world.ranks:
        world.do(calls.approve(terms), name)
    return task


def half_started(world: World, terms: TaskTerms) -> Hex32:
    task = authorized(world, terms)
    world.do(calls.start(terms, h("input")), world.ranks[0])
    return task


def running(world: World, terms: TaskTerms) -> Hex32:
    task = authorized(world, terms)
    world.start_all(terms)
    return task


def half_finished(world: World, terms: TaskTerms) -> Hex32:
    task = running(world, terms)
    world.do(calls.finish(terms, h("receipt"), RESULT), world.ranks[0])
    return task


def completed(world: World, terms: TaskTerms) -> Hex32:
    task = running(world, terms)
    world.finish_all(terms)
    return task


def disputed(world: World, terms: TaskTerms) -> Hex32:
    task = running(world, terms)
    for name in world.ranks:
        world.do(calls.finish(terms, h("receipt"), h(f"result of {name}")), name)
    return task


def failed(world: World, terms: TaskTerms) -> Hex32:
    task = running(world, terms)
    world.do(calls.fail(terms, Failure.ENGINE_CRASHED), world.ranks[1])
    return task


def refused(world: World, terms: TaskTerms) -> Hex32:
    task = created(world, terms)
    world.do(calls.refuse(terms, Denial.OPERATOR_REFUSED), world.ranks[0])
    return task


def cancelled(world: World, terms: TaskTerms) -> Hex32:
    task = authorized(world, terms)
    world.do(calls.cancel(terms), "lab")
    return task


def expired(story: Story) -> Story:
    def after(world: World, terms: TaskTerms) -> Hex32:
        task = story(world, terms)
        world.travel(terms.deadline)
        world.engine.mine_blocks()
        return task

    after.__name__ = f"expired_when_{story.__name__}"
    return after


STORIES: list[tuple[Story, TaskState]] = [
    (none, TaskState.NONE),
    (created, TaskState.CREATED),
    (authorized, TaskState.AUTHORIZED),
    (half_started, TaskState.AUTHORIZED),
    (running, TaskState.RUNNING),
    (half_finished, TaskState.RUNNING),
    (completed, TaskState.COMPLETED),
    (disputed, TaskState.DISPUTED),
    (failed, TaskState.FAILED),
    (refused, TaskState.REFUSED),
    (cancelled, TaskState.CANCELLED),
    (expired(created), TaskState.EXPIRED),
    (expired(half_started), TaskState.EXPIRED),
    (expired(half_finished), TaskState.EXPIRED),
]

ACTIONS: Mapping[str, tuple[TaskEvent, Callable[[TaskTerms], Call]]] = {
    "create": (TaskEvent.CREATED, calls.create),
    "approve": (TaskEvent.APPROVED, calls.approve),
    "start": (TaskEvent.STARTED, lambda terms: calls.start(terms, h("input"))),
    "refuse": (TaskEvent.REFUSED, lambda terms: calls.refuse(terms, Denial.OPERATOR_REFUSED)),
    "finish": (TaskEvent.FINISHED, lambda terms: calls.finish(terms, h("receipt"), RESULT)),
    "fail": (TaskEvent.FAILED, lambda terms: calls.fail(terms, Failure.TIMED_OUT, Blame.NOBODY)),
    "cancel": (TaskEvent.CANCELLED, calls.cancel),
    "stop": (TaskEvent.CANCELLED, calls.stop),
    "progress": (TaskEvent.PROGRESS, lambda terms: calls.progress(terms, 1, 500)),
    "acknowledge": (TaskEvent.ACKNOWLEDGED, lambda terms: calls.acknowledge(terms, RESULT)),
}
_PAIRS = list(product(STORIES, ACTIONS))


def allowed(state: TaskState, action: str) -> bool:
    """What the table says; a party stops only what runs."""
    event, _ = ACTIONS[action]
    return event in TRANSITIONS[state] and (action != "stop" or state is TaskState.RUNNING)


def _ids(pairs: list[tuple[tuple[Story, TaskState], str]]) -> list[str]:
    return [f"{action}-{story.__name__}" for (story, _), action in pairs]


ALLOWED = [pair for pair in _PAIRS if allowed(pair[0][1], pair[1])]
FORBIDDEN = [pair for pair in _PAIRS if not allowed(pair[0][1], pair[1])]


def terms_with_approval(world: World) -> TaskTerms:
    """A task that each owner must approve, so that every state is passed through."""
    return world.terms({name: world.issue(name, approval_required=True) for name in world.ranks})


def actor(world: World, action: str) -> str:
    """The last party acts: in the half-way stories it has not acted yet."""
    return "lab" if action in ("create", "cancel", "acknowledge") else world.ranks[-1]


def state_of(world: World, task: Hex32) -> TaskState:
    found = world.task(task)
    return TaskState.NONE if found is None else found.state


@pytest.mark.parametrize(("story", "state"), STORIES, ids=[story.__name__ for story, _ in STORIES])
def test_every_state_of_the_table_is_reached(world: World, story: Story, state: TaskState) -> None:
    assert state_of(world, story(world, terms_with_approval(world))) is state


def test_no_state_of_the_table_is_left_out() -> None:
    assert {state for _, state in STORIES} == set(TRANSITIONS)


@pytest.mark.parametrize(("story", "action"), ALLOWED, ids=_ids(ALLOWED))
def test_every_step_of_the_table_happens_and_is_told(
    world: World, story: tuple[Story, TaskState], action: str
) -> None:
    terms = terms_with_approval(world)
    task = story[0](world, terms)
    event, call = ACTIONS[action]

    done = world.do(call(terms), actor(world, action))

    told = [TaskEvent(name) for name in done.names if name in list(TaskEvent)]
    assert event in told
    state = story[1]
    for each in told:  # every event told is a step of the table, and they end where the ledger stands
        state = TRANSITIONS[state][each]
    assert state_of(world, task) is state


def expected_error(world: World, task: Hex32, state: TaskState, action: str) -> str:
    """The named error, in the order in which the ledger looks."""
    if action == "create":  # an expired task's deadline is past for a new one too
        return "DeadlinePassed" if state is TaskState.EXPIRED else "TaskAlreadyKnown"
    if state is TaskState.NONE:
        return "UnknownTask"
    if state is TaskState.EXPIRED and action != "acknowledge":
        return "TaskExpired"
    found = world.task(task)
    assert found is not None
    bit = 1 << (len(world.ranks) - 1)
    done = {
        "approve": (found.approved, "AlreadyApproved"),
        "start": (found.started, "AlreadyStarted"),
        "finish": (found.finished, "AlreadyFinished"),
    }
    mask, error = done.get(action, (0, ""))
    return error if mask & bit else "IllegalTransition"


@pytest.mark.parametrize(("story", "action"), FORBIDDEN, ids=_ids(FORBIDDEN))
def test_nothing_outside_the_table_happens(world: World, story: tuple[Story, TaskState], action: str) -> None:
    terms = terms_with_approval(world)
    task = story[0](world, terms)
    before, spent = world.task(task), [world.uses_left(use.grant) for use in terms.uses]

    refusal = world.refused(ACTIONS[action][1](terms), actor(world, action))

    assert refusal.name == expected_error(world, task, story[1], action)
    assert world.task(task) == before
    assert [world.uses_left(use.grant) for use in terms.uses] == spent
