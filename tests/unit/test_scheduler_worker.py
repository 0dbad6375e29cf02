from __future__ import annotations

import pytest
from scheduler_fakes import LAB, NOW, Record, make_chain, make_spec

from sealtrace.contracts.errors import ChainUnreachable
from sealtrace.protocol.lifecycle import TaskState
from sealtrace.scheduler.sealed_files import SealedFiles
from sealtrace.scheduler.settings import ChainSection, Settings
from sealtrace.scheduler.store import Store
from sealtrace.scheduler.tasks import Task
from sealtrace.scheduler.wiring import Scheduler
from sealtrace.scheduler.worker import build, chase, purge

SPEC = make_spec()


@pytest.fixture
def world(tmp_path):
    chain = make_chain()
    section = ChainSection(rpc_url="http://x", chain_id=1, directory=LAB.address)
    scheduler = Scheduler(
        settings=Settings(chain=section),
        store=Store.open(f"sqlite:///{tmp_path}/scheduler.db"),
        files=SealedFiles(tmp_path / "outputs", 1000),
        connect=lambda: chain,
        now=lambda: NOW,
    )
    parties = tuple(SPEC.parties)
    scheduler.store.add_task(Task(SPEC.digest(), LAB.address, SPEC.canonical(), parties, NOW, 600, NOW))
    yield scheduler, chain
    scheduler.store.close()


def test_the_queue_speaks_json_only_and_acknowledges_late(world):
    conf = build(world[0]).conf
    assert (conf.accept_content, conf.task_serializer, conf.result_serializer) == (["json"], "json", "json")
    assert conf.task_acks_late
    assert set(conf.beat_schedule) == {"chase", "purge"}


def test_a_beat_that_finds_no_chain_is_made_good_by_the_next(world):
    scheduler, chain = world
    chain.tasks[SPEC.digest()] = Record(TaskState.COMPLETED)
    chain.down = ChainUnreachable("http://x", "refused")
    chase(scheduler)
    assert len(scheduler.store.open_tasks()) == 1
    chain.down = None
    chase(scheduler)
    assert scheduler.store.open_tasks() == []
    purge(scheduler)
    assert scheduler.store.task(SPEC.digest()).purged_at is None


def test_a_scheduler_that_starts_before_its_chain_meets_it_later(world):
    scheduler, chain = world
    attempts = []

    def connect():
        attempts.append(1)
        if len(attempts) == 1:
            raise ChainUnreachable("http://x", "refused")
        return chain

    scheduler.connect = connect
    chase(scheduler)
    chase(scheduler)
    assert len(attempts) == 2
