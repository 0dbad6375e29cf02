"""The auditor's service as a process, over a real chain: tokens, audits, reads, stops and the daily audit."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import httpx
import pytest
from test_auditor_chain import CHAIN_ID, Network, tell, verified
from typer.testing import CliRunner

from sealtrace.auditor.cli import app
from sealtrace.auditor.exports.formats import Format
from sealtrace.auditor.jobs import BUNDLE


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    running = Network(tmp_path_factory.mktemp("network"))
    try:
        tell(running)
        yield running
    finally:
        running.process.kill()
        running.process.wait(20)


def command(*words):
    result = CliRunner().invoke(app, [*words, "--json"])
    return result.exit_code, json.loads(result.stdout)


def founded(folder, url, contracts="0x" + "d0" * 20):
    """An auditor's folder, and the secrets of two regulators."""
    chain = ["--rpc", url, "--chain-id", str(CHAIN_ID), "--contracts", contracts]
    _, made = command("init", "--dir", str(folder), "--token", "north", *chain)
    _, other = command("token", "add", "south", "--dir", str(folder))
    return {"north": made["token"], "south": other["token"]}


@contextmanager
def serving(folder):
    """The service as a process, and its URL."""
    words = [sys.executable, "-m", "sealtrace", "audit", "serve", "--dir", str(folder), "--json"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        yield process, json.loads(process.stdout.readline())["url"]
    finally:
        process.terminate()
        process.wait(30)


def client(url, token):
    return httpx.Client(base_url=url, timeout=30, headers={"Authorization": f"Bearer {token}"})


def until(found, what):
    for _ in range(600):
        state = found()
        if state and state["state"] in what:
            return state
        time.sleep(0.1)
    raise AssertionError(state)


OVER = ("done", "broken", "interrupted")


def test_regulators_use_the_service_and_every_read_of_theirs_is_logged(network, tmp_path):
    folder = tmp_path / "auditor"
    secrets = founded(folder, network.url, network.deployed.directory)
    logs = network.handed_over(tmp_path / "logs")[1::2]
    with (folder / "auditor.toml").open("a") as file:
        for node, where in (each.split("=") for each in logs):
            file.write(f'[[evidence]]\nnode = "{node}"\nwhere = "{where}"\n')
    with serving(folder) as (_, url), client(url, secrets["north"]) as north:
        assert httpx.post(f"{url}/v1/audits", json={}).status_code == 401
        asked = north.post("/v1/audits", json={"formats": list(Format), "bundle": True}).json()
        path = f"/v1/audits/{asked['id']}"
        done = until(lambda: north.get(path).json(), OVER)
        assert (done["state"], done.get("result")) == ("done", "clean"), done
        assert set(done["artefacts"]) == {BUNDLE, *(each.file for each in Format)}
        with client(url, secrets["south"]) as south:
            given = {name: south.get(f"{path}/{name}") for name in done["artefacts"]}
            last = south.get("/v1/audits").headers["x-sealtrace-reads"]
        (tmp_path / BUNDLE).write_bytes(given[BUNDLE].content)
        assert command("token", "revoke", "south", "--dir", str(folder))[0] == 0
        assert (
            httpx.get(url + path, headers={"Authorization": f"Bearer {secrets['south']}"}).status_code == 401
        )
    told = verified(tmp_path / BUNDLE, done["last_hash"], tmp_path)
    assert told.returncode == 0, told.stdout + told.stderr
    code, log = command("reads", "--dir", str(folder), "--held", last, "--who", "south")
    assert code == 0
    digests = {each["what"].rpartition("/")[2]: each["sha256"] for each in log["reads"]}
    for name, answer in given.items():
        assert answer.status_code == 200
        assert digests[name] == done["artefacts"][name]["sha256"]
    reads = folder / "reads" / "reads.jsonl"
    reads.write_bytes(reads.read_bytes().replace(b'"who":"south"', b'"who":"north"', 1))
    code, refused = command("reads", "--dir", str(folder))
    assert (code, refused["error"]) == (3, "ReadsTampered")


@contextmanager
def silent():
    """An endpoint that takes every connection and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_an_audit_that_a_stop_cut_short_is_interrupted_and_its_process_is_gone(tmp_path, how):
    folder = tmp_path / "auditor"
    with silent() as endpoint:
        secrets = founded(folder, endpoint)
        with serving(folder) as (process, url), client(url, secrets["north"]) as north:
            identity = north.post("/v1/audits", json={}).json()["id"]
            until(
                lambda: north.get(f"/v1/audits/{identity}").json().get("progress") and RUNNING, ("running",)
            )
            child = worker_of(process.pid)
            os.kill(process.pid, how)
            process.wait(30)
        for _ in range(300):
            if not os.path.exists(f"/proc/{child}"):
                break
            time.sleep(0.1)
        assert not os.path.exists(f"/proc/{child}")
        with serving(folder) as (_, url), client(url, secrets["north"]) as north:
            assert north.get(f"/v1/audits/{identity}").json()["state"] == "interrupted"


RUNNING = {"state": "running"}


def worker_of(pid):
    """The process that carries out the audit, a child of one of the service's threads."""
    threads = os.listdir(f"/proc/{pid}/task")
    found = []
    for thread in threads:
        with open(f"/proc/{pid}/task/{thread}/children") as file:
            found += [int(each) for each in file.read().split()]
    (child,) = found
    return child


def test_the_daily_audit_is_made_once_by_a_process_that_is_started_again_and_again(network, tmp_path):
    folder = tmp_path / "auditor"
    secrets = founded(folder, network.url, network.deployed.directory)
    with (folder / "auditor.toml").open("a") as file:
        file.write('[schedule]\nat = "00:00"\nformats = ["json"]\n')
    for _ in range(3):
        with serving(folder) as (_, url), client(url, secrets["north"]) as north:
            made = until(lambda north=north: next(iter(north.get("/v1/audits").json()), None), OVER)
            assert (made["asked_by"], made["state"], made["scheduled_for"] % 86_400) == (
                "schedule",
                "done",
                0,
            )
            assert len(north.get("/v1/audits").json()) == 1


def test_a_second_service_over_one_folder_is_refused(tmp_path):
    folder = tmp_path / "auditor"
    founded(folder, "http://127.0.0.1:1")
    with serving(folder):
        code, refused = command("serve", "--dir", str(folder))
        assert (code, refused["error"]) == (3, "ServiceRunning")
