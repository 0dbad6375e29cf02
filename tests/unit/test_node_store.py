"""Leases, the one run, and what is remembered."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
from sqlalchemy import event

from sealtrace.node.errors import DatasetNotFound, StoreBusy, TaskNotFound
from sealtrace.node.store import IDS_AT_ONCE, Sighting, Store, open_engine
from sealtrace.protocol.identifiers import Address, Hex32, UnixSeconds, hex32

TASK = Hex32("0x" + "1" * 64)
LAB = Address("0x" + "c" * 40)
SEEN = Sighting(TASK, LAB, "{}", UnixSeconds(2000))


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(tmp_path, clock):
    found = Store(open_engine(f"sqlite:///{tmp_path}/node.db"), clock)
    found.take_in([SEEN])
    return found


def test_a_task_is_leased_to_one_worker_until_the_lease_lapses(store, clock):
    first = store.lease(TASK, 10)
    assert first is not None
    assert store.lease(TASK, 10) is None
    clock.now += 11
    second = store.lease(TASK, 10)
    assert second is not None
    assert not store.renew(TASK, first, 10)
    assert store.renew(TASK, second, 10)


def test_only_the_holder_releases(store):
    token = store.lease(TASK, 10)
    store.release(TASK, "another", 0)
    assert store.lease(TASK, 10) is None
    store.release(TASK, token, 0)
    assert store.lease(TASK, 10) is not None


def test_of_many_threads_one_gets_the_lease_and_one_the_run(store):
    leases, runs = [], []

    def race():
        leases.append(store.lease(TASK, 10))
        runs.append(store.begin_run(TASK))

    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len([each for each in leases if each]) == 1
    assert runs.count(True) == 1


def test_the_first_failure_decided_is_the_one_reported(store):
    assert store.decide_failure(TASK, '"first"') == '"first"'
    assert store.decide_failure(TASK, '"second"') == '"first"'


def test_open_tasks_that_nobody_holds_are_due_and_wait_longer_each_time(store, clock):
    waits = []
    for _ in range(5):
        assert [row.id for row in store.due()] == [TASK]
        store.queued(TASK, 10)
        assert store.due() == []
        waits.append(store.task(TASK).next_at - clock.now)
        clock.now += 61
    assert waits == [10, 20, 40, 60, 60]
    store.take_in([], [TASK])
    assert len(store.due()) == 1


def test_a_leased_or_ended_task_is_not_due(store):
    token = store.lease(TASK, 10)
    assert store.due() == []
    store.release(TASK, token, 0)
    store.end(TASK, "completed")
    assert store.due() == []


def test_a_task_is_seen_once(store):
    assert store.take_in([replace(SEEN, deadline=UnixSeconds(1))]) == []
    assert store.task(TASK).deadline == 2000


def test_many_tasks_are_taken_in_at_once_and_only_the_new_ones_returned(store):
    many = [replace(SEEN, id=hex32(n.to_bytes(32, "big"))) for n in range(2 * IDS_AT_ONCE + 1)]
    assert store.take_in(many[:3]) == [each.id for each in many[:3]]
    assert store.take_in([*many, many[7]]) == [each.id for each in many[3:]]
    for each in store.tasks():
        store.queued(each.id, 10)
    assert store.due() == []
    store.end(many[0].id, "completed")
    store.take_in([], [each.id for each in many])
    assert {each.id for each in store.due()} == {each.id for each in many[1:]}


def test_a_task_that_another_process_took_in_meanwhile_is_busy_and_changes_nothing(store):
    other = replace(SEEN, id=Hex32("0x" + "3" * 64))
    faster = [other]

    def overtaken(connection, cursor, statement, *rest):
        if statement.startswith("INSERT INTO tasks") and faster:
            store.take_in([faster.pop()])

    event.listen(store.engine, "before_cursor_execute", overtaken)
    with pytest.raises(StoreBusy, match="same blocks"):
        store.take_in([other], marks={"cursor": "9"})
    assert store.mark("cursor") is None
    assert store.take_in([other], marks={"cursor": "9"}) == []
    assert store.mark("cursor") == "9"


def test_what_is_not_there_is_named(store):
    with pytest.raises(TaskNotFound):
        store.task(Hex32("0x" + "9" * 64))
    with pytest.raises(DatasetNotFound):
        store.dataset(TASK)


def test_a_token_is_kept_as_a_hash_only(store):
    store.add_token(TASK, "auditor", "reader")
    assert store.token(TASK) == ("auditor", "reader")
    assert store.token(LAB) is None
    assert "sha256" not in store.tokens()[0]


def test_a_mark_is_overwritten(store):
    assert store.mark("cursor") is None
    store.set_mark("cursor", "1")
    store.set_mark("cursor", "2")
    assert store.mark("cursor") == "2"
