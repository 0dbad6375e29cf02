"""A network whose parts die: nothing hangs, nothing runs twice, and what was recorded stays true."""

from __future__ import annotations

import time

import pytest

from sealtrace.auditor.inquiry import Inquiry, Source, examine
from sealtrace.deploy import stage, story
from sealtrace.deploy.plan import ORGANISATIONS
from sealtrace.protocol.identifiers import Hex32
from sealtrace.protocol.lifecycle import TaskState
from sealtrace.protocol.outcome import Blame, Failure
from tests.e2e.conftest import wait_for

pytestmark = pytest.mark.timeout(300)


def asked(world: stage.Story) -> Hex32:
    return stage.submit(world, world.lab, None, story.words(world, story.PURPOSE, statistics=True))


def ended(world: stage.Story, task: Hex32):
    *_, seen = world.lab.watch(task, 200)
    return seen


def state(world: stage.Story, task: Hex32) -> TaskState:
    return world.lab.look(task).state


def quiet(line: str) -> None:
    """Report nothing."""


def starts(world: stage.Story, task: Hex32) -> int:
    chain = world.network.chain()
    return len(chain.events(chain.deployed_at, chain.head().number, names={"TaskStarted"}, task=task))


def running(world: stage.Story, task: Hex32) -> None:
    before = (TaskState.NONE, TaskState.CREATED, TaskState.AUTHORIZED)
    wait_for(lambda: state(world, task) not in before, 120, "the start of all parties")


def test_a_killed_worker_fails_its_task_openly_and_never_runs_it_twice(world):
    task = asked(world)
    running(world, task)
    world.network.processes.kill("bank-worker")
    world.network.up(quiet)
    seen = ended(world, task)
    assert seen.state in (TaskState.FAILED, TaskState.COMPLETED)
    assert starts(world, task) == len(ORGANISATIONS)
    if seen.state is TaskState.FAILED:
        assert seen.ending.args["blame"] in (Blame.REPORTER, Blame.PARTY)


def test_a_peer_whose_gateway_dies_ends_the_task_and_is_named(world):
    task = asked(world)
    running(world, task)
    world.network.processes.kill("carrier-gateway")
    seen = ended(world, task)
    world.network.up(quiet)
    assert seen.state is TaskState.FAILED
    assert Failure(seen.ending.args["reason"]) in (
        Failure.PEER_UNREACHABLE,
        Failure.SESSION_REVOKED,
        Failure.ENGINE_CRASHED,
        Failure.TIMED_OUT,
    )


def test_an_owner_stops_a_run_on_its_data(world):
    task = asked(world)
    running(world, task)
    world.operators["registry"].stop(task)
    seen = ended(world, task)
    if seen.state is TaskState.FAILED:  # a peer saw the engine go before the block with the stop was made
        assert seen.ending.args["blamed"] == world.network.plan.addresses["registry"]
    else:
        assert seen.state in (TaskState.CANCELLED, TaskState.COMPLETED)
    assert list(world.network.members.directory("registry").glob("jobs/*/output.sealed")) == []


def test_without_redis_tasks_wait_and_are_not_lost(world):
    world.network.processes.stop(["redis"])
    task = asked(world)
    time.sleep(5)
    assert state(world, task) in (TaskState.CREATED, TaskState.AUTHORIZED)
    world.network.up(quiet)
    assert ended(world, task).state is TaskState.COMPLETED


def test_without_the_chain_everybody_waits_and_goes_on_when_it_is_back(world):
    task = asked(world)
    world.network.processes.kill("chain")
    time.sleep(5)
    world.network.up(quiet)
    assert ended(world, task).state in (TaskState.COMPLETED, TaskState.FAILED)
    assert starts(world, task) <= len(ORGANISATIONS)


def test_the_scheduler_killed_in_between_loses_nothing(world):
    task = asked(world)
    world.network.processes.kill("scheduler-api")
    world.network.processes.kill("scheduler-worker")
    time.sleep(3)
    world.network.up(quiet)
    assert ended(world, task).state is TaskState.COMPLETED
    assert world.lab.result(task, 100).value["rows"] > 600


def test_everything_survives_down_and_up(world):
    before = world.network.chain().head()
    world.network.down()
    assert not any(each.alive for each in world.network.statuses())
    world.network.up(quiet)
    chain = world.network.chain()
    assert chain.block(before.number) == before
    task = asked(world)
    assert ended(world, task).state is TaskState.COMPLETED


def test_one_specification_submitted_twice_is_one_task(world):
    spec = world.lab.build_spec(story.words(world, story.PURPOSE))
    assert world.lab.submit(spec).task == world.lab.submit(spec).task
    task = world.lab.chain.task_id(spec.terms())
    assert ended(world, task).state is TaskState.COMPLETED
    assert starts(world, task) == len(ORGANISATIONS)


def test_after_all_this_the_audit_has_no_findings(world, tmp_path):
    logs = [(name, world.operators[name].evidence(tmp_path / f"{name}.jsonl")) for name in ORGANISATIONS]
    sources = tuple(Source(world.network.plan.addresses[name], str(path)) for name, path in logs)
    done = examine(Inquiry(world.network.chain_settings(), sources=sources))
    assert [finding.explanation for finding in done.findings] == []
