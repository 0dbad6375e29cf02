from __future__ import annotations

from dataclasses import replace

import pytest
from scheduler_fakes import NOW, PARTIES, Record, h, make_chain, make_spec

from sealtrace.protocol.identifiers import UnixSeconds
from sealtrace.protocol.lifecycle import OPEN_STATES, TaskState
from sealtrace.scheduler.chase import chase, look, may_purge, purge
from sealtrace.scheduler.sealed_files import SealedFiles
from sealtrace.scheduler.settings import Times
from sealtrace.scheduler.store import Store
from sealtrace.scheduler.tasks import Output, Task

TIMES = Times()
SPEC = make_spec()
TASK = Task(
    h(1),
    SPEC.requester,
    SPEC.canonical(),
    tuple(SPEC.parties),
    UnixSeconds(SPEC.deadline),
    SPEC.engine_seconds,
    NOW,
)


def at(seconds: int) -> UnixSeconds:
    return UnixSeconds(NOW + seconds)


@pytest.fixture
def chain():
    return make_chain()


@pytest.fixture
def store(tmp_path):
    store = Store.open(f"sqlite:///{tmp_path}/scheduler.db")
    store.add_task(TASK)
    yield store
    store.close()


@pytest.mark.parametrize("state", sorted(set(TaskState) - OPEN_STATES - {TaskState.NONE}))
def test_a_task_is_over_when_the_chain_says_so(store, chain, state):
    chain.tasks[TASK.id] = Record(state)
    (changed,) = chase(store, chain, TIMES, at(5))
    assert (changed.observed.state, changed.over_at) == (state, at(5))
    assert store.open_tasks() == []


def test_a_task_is_not_over_while_the_chain_has_it_open(store, chain):
    chain.tasks[TASK.id] = Record(TaskState.RUNNING, 7, 7, 1)
    chase(store, chain, TIMES, at(5))
    task = store.task(TASK.id)
    assert (task.observed.finished, task.running_since, task.over_at) == (1, at(5), None)


def test_a_task_expires_by_the_time_of_a_block_not_by_our_clock(store, chain):
    chain.tasks[TASK.id] = Record(TaskState.CREATED, deadline=TASK.deadline)
    chase(store, chain, TIMES, at(100_000))
    assert store.task(TASK.id).over_at is None
    chain.tick(3600)
    chase(store, chain, TIMES, at(100_001))
    assert store.task(TASK.id).observed.state is TaskState.EXPIRED


def test_a_task_that_was_never_created_is_over_after_its_deadline(store, chain):
    chase(store, chain, TIMES, at(5))
    assert store.task(TASK.id).observed.state is TaskState.NONE
    chain.tick(3600)
    chase(store, chain, TIMES, at(6))
    assert store.task(TASK.id).observed.state is TaskState.EXPIRED


def test_chasing_twice_changes_nothing_the_second_time(store, chain):
    chain.tasks[TASK.id] = Record(TaskState.AUTHORIZED, 7)
    assert len(chase(store, chain, TIMES, at(5))) == 1
    chain.tick()
    assert chase(store, chain, TIMES, at(6)) == []


def test_one_unreachable_chain_leaves_what_was_known(store, chain):
    chain.tasks[TASK.id] = Record(TaskState.AUTHORIZED, 7)
    chase(store, chain, TIMES, at(5))
    chain.down = ConnectionError("down")
    with pytest.raises(ConnectionError):
        chase(store, chain, TIMES, at(6))
    assert store.task(TASK.id).observed.state is TaskState.AUTHORIZED


def test_an_older_block_does_not_take_back_what_a_newer_one_said(chain):
    newer = look(TASK, Record(TaskState.RUNNING), chain.finalized(), 60, NOW)
    older = replace(chain.finalized(), number=3)
    assert look(newer, Record(TaskState.CREATED), older, 60, NOW) == newer


def test_a_task_that_is_over_is_never_opened_again(store, chain):
    over = look(TASK, Record(TaskState.COMPLETED), chain.finalized(), 60, NOW)
    store.update_task(over)
    store.update_task(look(TASK, Record(TaskState.RUNNING), chain.finalized(), 60, NOW))
    assert store.task(TASK.id).observed.state is TaskState.COMPLETED


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (None, "the requester has not put the task on chain"),
        (Record(TaskState.CREATED, approved=5), f"{PARTIES[1].address} has not approved"),
        (Record(TaskState.AUTHORIZED, 7, started=3), f"{PARTIES[2].address} has not started"),
    ],
)
def test_who_is_late_is_named_after_a_while(chain, record, said):
    assert look(TASK, record, chain.finalized(), 60, at(60)).late == ()
    assert look(TASK, record, chain.finalized(), 60, at(61)).late == (said,)


def test_a_party_that_computes_too_long_is_late(chain):
    record = Record(TaskState.RUNNING, 7, 7, finished=6)
    running = look(TASK, record, chain.finalized(), 60, at(10))
    assert look(running, record, chain.finalized(), 60, at(670)).late == ()
    late = look(running, record, chain.finalized(), 60, at(671)).late
    assert late == (f"{PARTIES[0].address} has not finished",)


def output(party, fetched_at=None):
    return Output(TASK.id, party, h(9), 3, b"{}", NOW, fetched_at)


def test_outputs_are_deleted_some_time_after_the_requester_has_them_all():
    over = replace(TASK, over_at=at(10))
    outputs = [output(party, at(100)) for party in TASK.parties]
    assert not may_purge(over, outputs, TIMES, at(100 + 86_400))
    assert may_purge(over, outputs, TIMES, at(101 + 86_400))


def test_outputs_nobody_fetched_are_kept_longer():
    over = replace(TASK, over_at=at(10))
    outputs = [output(party) for party in TASK.parties]
    assert not may_purge(over, outputs, TIMES, at(29 * 86_400))
    assert may_purge(over, outputs, TIMES, at(31 * 86_400))


def test_outputs_of_an_open_task_are_never_deleted():
    assert not may_purge(TASK, [output(p, NOW) for p in TASK.parties], TIMES, at(10**8))


def test_purging_leaves_no_file_and_no_row(store, chain, tmp_path):
    files = SealedFiles(tmp_path / "outputs", 1000)
    path = files.path(TASK.id, TASK.parties[0], h(9))
    path.parent.mkdir()
    path.write_bytes(b"abc")
    store.add_output(output(TASK.parties[0]))
    chain.tasks[TASK.id] = Record(TaskState.FAILED)
    chase(store, chain, TIMES, NOW)
    assert purge(store, files, TIMES, at(86_400)) == []
    (purged,) = purge(store, files, TIMES, at(31 * 86_400))
    assert purged.id == TASK.id
    assert not path.parent.exists()
    assert store.outputs(TASK.id) == []
    assert purge(store, files, TIMES, at(32 * 86_400)) == []
