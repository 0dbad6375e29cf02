"""The scheduler's real processes over a real chain; the test plays the parties, the CLI the requester."""

from __future__ import annotations

import json
import sqlite3

import httpx
import pytest
from scheduler_network import PURPOSE, eventually, network, run

from sealtrace.requester.client import Requester
from sealtrace.scheduler.store import Store


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    with network(tmp_path_factory.mktemp("scheduler")) as running:
        yield running


def seen_by_worker(net, task):
    """What the worker has written down, without asking the API (which would look itself)."""
    store = Store.open(f"sqlite:///{net.scheduler / 'scheduler.db'}")
    try:
        return store.task(task)
    finally:
        store.close()


def submitted(net, *options):
    net.hello()
    done = run("task", "submit", str(net.task_file()), "--dir", str(net.lab), "--json", *options)
    assert done.returncode == 0, done.stderr + done.stdout
    return json.loads(done.stdout.splitlines()[0])


def test_a_task_goes_from_words_to_a_result_while_the_scheduler_is_killed_between_steps(net):
    said = submitted(net)
    task = said["task"]
    assert said["warnings"] == []
    assert {each["protocol"] for each in said["learns"]} == {"ECDH"}

    net.programs.kill("api")
    net.start_api()
    net.start_task(task)
    eventually(lambda: seen_by_worker(net, task).running_since, "the worker to see the task run")

    net.programs.kill("worker")
    net.programs.kill("redis")
    net.finish_task(task, rows=42)
    net.programs.kill("api")
    net.start_redis()
    net.start_api()
    net.start_worker()
    eventually(lambda: seen_by_worker(net, task).over_at, "the worker to see the task end")

    found = run("task", "result", task, "--dir", str(net.lab), "--json", "--timeout", "30")
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["result"] == {"rows": 42}
    watched = run("task", "watch", task, "--dir", str(net.lab), "--json")
    assert json.loads(watched.stdout)["state"] == "completed"
    listed = run("task", "list", "--dir", str(net.lab), "--json")
    shown = {each["task"]: each for each in json.loads(listed.stdout)}
    assert (shown[task]["state"], shown[task]["purpose"]) == ("completed", PURPOSE)


def test_the_same_specification_submitted_twice_is_one_task_with_one_transaction(net):
    net.hello()
    spec = net.folder / "spec.json"
    planned = run("task", "plan", str(net.task_file()), "--dir", str(net.lab), "--out", str(spec), "--json")
    assert planned.returncode == 0, planned.stderr
    tasks = []
    for _ in range(2):
        done = run("task", "submit", str(spec), "--dir", str(net.lab), "--json")
        tasks.append(json.loads(done.stdout)["task"])
    assert tasks == [json.loads(planned.stdout)["task"]] * 2
    head = net.chain.head().number
    created = net.chain.events(net.chain.deployed_at, head, names={"TaskCreated"}, task=tasks[0])
    assert len(created) == 1


def test_a_cancelled_task_is_told_by_its_name(net):
    task = submitted(net)["task"]
    assert run("task", "cancel", task, "--dir", str(net.lab)).returncode == 0
    found = run("task", "result", task, "--dir", str(net.lab), "--json")
    assert found.returncode == 1
    assert json.loads(found.stdout)["error"] == "TaskCancelled"
    again = run("task", "cancel", task, "--dir", str(net.lab), "--json")
    assert again.returncode == 0, "the same wish is the same transaction"
    eventually(lambda: seen_by_worker(net, task).over_at, "the worker to see the task end")


def test_a_task_is_refused_by_name_while_a_party_is_silent_and_nothing_is_on_chain(net):
    with sqlite3.connect(net.scheduler / "scheduler.db") as connection:
        connection.execute("delete from presence")
    connection.close()
    before = net.chain.events(net.chain.deployed_at, net.chain.head().number, names={"TaskCreated"})
    done = run("task", "submit", str(net.task_file()), "--dir", str(net.lab), "--json")
    assert done.returncode == 1
    refusal = json.loads(done.stdout.splitlines()[-1])
    assert refusal["error"] == "SchedulerRefused"
    assert refusal["message"].startswith("PartyNotAlive: no heartbeat from")
    after = net.chain.events(net.chain.deployed_at, net.chain.head().number, names={"TaskCreated"})
    assert len(after) == len(before)


def test_a_large_output_may_come_twice_and_the_sender_sees_the_answer_each_time(net):
    task = submitted(net)["task"]
    for _ in range(2):
        net.deliver(task, net.parties[0], b"x" * (20 << 20))
    with pytest.raises(AssertionError, match="OutputChanged"):
        net.deliver(task, net.parties[0], b"y" * (20 << 20))


def test_a_second_scheduler_on_the_same_port_is_refused_by_name(net):
    port = net.api_url.rpartition(":")[2]
    text = (net.scheduler / "scheduler.toml").read_text()
    other = net.folder / "other"
    other.mkdir()
    (other / "scheduler.toml").write_text(text.replace("port = 0", f"port = {port}"))
    done = run("scheduler", "api", "--dir", str(other))
    assert done.returncode == 1
    assert "PortTaken" in done.stderr


def test_status_says_who_is_there(net):
    net.hello()
    done = run("scheduler", "status", "--dir", str(net.scheduler), "--url", net.api_url, "--json")
    assert done.returncode == 0
    assert sum(each["alive"] for each in json.loads(done.stdout)["nodes"]) == 3
    gone = run("scheduler", "status", "--dir", str(net.scheduler), "--url", "http://127.0.0.1:9", "--json")
    assert gone.returncode == 1


def test_the_api_answers_while_redis_is_away(net):
    net.programs.kill("redis")
    try:
        task = submitted(net)["task"]
        assert httpx.get(f"{net.api_url}/v1/tasks/{task}").json()["state"] == "authorized"
    finally:
        net.start_redis()
    Requester.open(net.lab).cancel(task)
    eventually(lambda: seen_by_worker(net, task).over_at, "the worker to come back")


def test_the_processes_stop_when_told(net):
    assert net.programs.stop("worker") == 0
    assert net.programs.stop("api") in (0, -15)
