"""Audits over an endpoint that lies: each lie is a finding or a named error, never a clean verdict.

At proof level 2 what is told is held to the blocks. At level 1 (no receipts, or ``--unverified``) the
endpoint is trusted for the events: what shows then is what contradicts itself, the rules or contract storage.
A lie that keeps all three is not seen, and the report says that the level is 1.
"""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import time

import pytest
from lying_proxy import Refusal, lying
from test_auditor_chain import CHAIN_ID, Network, tell
from typer.testing import CliRunner

from sealtrace.auditor.cli import app
from sealtrace.contracts import abi, calls
from sealtrace.protocol.canonical import sha256
from sealtrace.protocol.records import Role

NOBODY = "0x" + "77" * 20


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    running = Network(tmp_path_factory.mktemp("network"))
    try:
        tell(running)
        yield running
    finally:
        running.process.kill()
        running.process.wait(20)


def audited(network, url, tmp_path, *more):
    """The exit code, what was said, and the report."""
    where = ["run", "--rpc", url, "--chain-id", str(CHAIN_ID), "--out", str(tmp_path / "out"), "--json"]
    logs = network.handed_over(tmp_path / f"logs-{time.monotonic_ns()}")
    arguments = [*where, "--contracts", network.deployed.directory, *logs, *more]
    result = CliRunner().invoke(app, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    path = tmp_path / "out/report.json"
    report = json.loads(path.read_text()) if path.exists() else None
    path.unlink(missing_ok=True)
    return result.exit_code, json.loads(result.stdout), report


def about(method, change):
    return lambda asked, params, result: change(result) if asked == method else result


def of_logs(change):
    """A lie that ``eth_getLogs`` and the receipts tell alike."""

    def lie(method, params, result):
        if method == "eth_getLogs":
            return change(result)
        if method == "eth_getBlockReceipts":
            return [each | {"logs": change(each["logs"])} for each in result]
        return result

    return lie


def at_level_one(lie):
    """The same from an endpoint that gives no receipts."""

    def poor(method, params, result):
        return Refusal("no receipts") if method == "eth_getBlockReceipts" else lie(method, params, result)

    return poor


def of_event(name, change):
    """Changes the logs that are ``name`` events."""
    topics = {each.topic for c in abi.CONTRACTS for each in abi.events(c).values() if each.name == name}
    told = lambda log: change(log) if log["topics"][0] in topics else [log]  # noqa: E731
    return lambda logs: [made for log in logs for made in told(log)]


DROPPED = of_event("TaskStarted", lambda log: [])
ALTERED = of_event("TaskStarted", lambda log: [log | {"data": "0x" + "11" * 32}])
INVENTED = of_event("TaskCompleted", lambda log: [log, log | {"logIndex": hex(int(log["logIndex"], 16) + 1)}])


@pytest.mark.parametrize("change", [DROPPED, ALTERED, INVENTED], ids=["dropped", "altered", "invented"])
def test_a_log_that_is_told_otherwise_than_its_block_has_it_is_a_finding_and_does_not_reach_the_replay(
    network, tmp_path, change
):
    with lying(network.url, about("eth_getLogs", change)) as url:
        code, told, report = audited(network, url, tmp_path)
    assert (code, told["proof_level"]) == (1, 1)
    assert {each["rule"] for each in told["findings"]} == {"PR-02"}
    honest = audited(network, network.url, tmp_path)[2]
    assert report["tasks"] == honest["tasks"]


@pytest.mark.parametrize("change", [DROPPED, ALTERED, INVENTED], ids=["dropped", "altered", "invented"])
def test_a_log_that_logs_and_receipts_tell_alike_otherwise_does_not_rebuild_the_root(
    network, tmp_path, change
):
    with lying(network.url, of_logs(change)) as url:
        code, told, _ = audited(network, url, tmp_path)
    assert (code, told["proof_level"]) == (1, 1)
    assert "PR-02" in {each["rule"] for each in told["findings"]}


LEVEL_ONE = {"dropped": DROPPED, "altered": ALTERED, "invented": INVENTED}
"""Each contradicts the rules, contract storage or the node's own log."""


@pytest.mark.parametrize("name", LEVEL_ONE)
@pytest.mark.parametrize("way", ["no receipts", "--unverified"])
def test_at_level_one_a_lie_about_an_event_that_matters_contradicts_something_else(
    network, tmp_path, name, way
):
    lie = about("eth_getLogs", LEVEL_ONE[name])
    lie, more = (at_level_one(lie), []) if way == "no receipts" else (lie, ["--unverified"])
    with lying(network.url, lie) as url:
        code, told, report = audited(network, url, tmp_path, *more)
    assert (code, told["proof_level"], report["proof"]["level"]) == (1, 1, 1)
    assert report["proof"]["why_not_more"]


def test_at_level_one_in_which_transaction_a_dataset_came_is_altered_unseen_and_the_report_says_level_one(
    network, tmp_path
):
    """Which transaction a registration came in is nowhere but in the block, and no rule asks for it."""
    moved = of_event("DatasetRegistered", lambda log: [log | {"transactionHash": "0x" + "55" * 32}])
    with lying(network.url, at_level_one(about("eth_getLogs", moved))) as url:
        code, told, report = audited(network, url, tmp_path)
    assert (code, told["findings"]) == (0, [])
    assert report["proof"]["level"] == 1
    assert any("nothing was left out" in each for each in report["not_checked"])
    with lying(network.url, about("eth_getLogs", moved)) as url:
        assert audited(network, url, tmp_path)[0] == 1


def swapped(method, params, result):
    if method == "eth_getBlockByNumber" and isinstance(result, dict) and result["number"] in ("0x5", "0x6"):
        return result | {"hash": "0x" + result["number"][2:] * 64}
    return result


HEADERS = {
    "a hash of its own": swapped,
    "another parent": lambda method, params, result: (
        result | {"parentHash": "0x" + "11" * 32}
        if method == "eth_getBlockByNumber" and result["number"] == "0x5"
        else result
    ),
    "another time": lambda method, params, result: (
        result | {"timestamp": hex(int(result["timestamp"], 16) + 1)}
        if method == "eth_getBlockByNumber" and result["number"] == "0x5"
        else result
    ),
    "another receipts root": lambda method, params, result: (
        result | {"receiptsRoot": "0x" + "11" * 32}
        if method == "eth_getBlockByNumber" and result["number"] == "0x5"
        else result
    ),
    "an empty bloom filter": about(
        "eth_getBlockByNumber", lambda block: block | {"logsBloom": "0x" + "00" * 256}
    ),
}


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("level", [1, 2])
def test_a_header_that_is_not_what_its_hash_says_is_a_finding_with_receipts_and_without(
    network, tmp_path, name, level
):
    lie = HEADERS[name] if level == 2 else at_level_one(HEADERS[name])
    with lying(network.url, lie) as url:
        code, told, _ = audited(network, url, tmp_path)
    assert (code, told["proof_level"]) == (1, 1)
    assert "PR-01" in {each["rule"] for each in told["findings"]}


def test_one_header_for_another_is_nonsense(network, tmp_path):
    def other(method, params, result):
        if method != "eth_getBlockByNumber" or params[0] not in ("0x5", "0x6"):
            return result
        return result | {"number": "0xb"}

    with lying(network.url, other) as url:
        code, told, report = audited(network, url, tmp_path)
    assert (code, told["error"], report) == (3, "EndpointTalksNonsense", None)


# a stale head


def stale(by):
    """Hides the newest blocks."""
    import httpx

    def lie(method, params, result):
        if method == "eth_getBlockByNumber" and params[0] in ("latest", "finalized", "safe"):
            number = hex(int(result["number"], 16) - by)
            asked = {"jsonrpc": "2.0", "id": 0, "method": method, "params": [number, False]}
            return httpx.post(lie.url, json=asked, trust_env=False).json()["result"]
        if method == "eth_blockNumber":
            return hex(int(result, 16) - by)
        return result

    return lie


def test_an_endpoint_with_a_stale_head_is_told_by_a_kept_reading_by_its_age_and_by_another_endpoint(
    network, tmp_path
):
    head = network.chain.head().number
    kept = ["--resume", str(tmp_path / "kept")]
    assert audited(network, network.url, tmp_path, *kept)[:2][0] == 0
    lie = stale(5)
    lie.url = network.url
    with lying(network.url, lie) as url:
        code, told, _ = audited(network, url, tmp_path, *kept)
        assert (code, told["error"]) == (3, "BehindReading")
        time.sleep(1.1)
        code, told, _ = audited(network, url, tmp_path, "--head-age", "1")
        assert (code, told["error"]) == (3, "HeadTooOld")
        code, told, _ = audited(network, url, tmp_path)
        assert told["last_block"] == head - 5  # alone, it is believed, and the report names its end


# garbage


def spoilt(methods, spoil):
    return {"spoil": spoil, "methods": methods}


READ = ("eth_getBlockReceipts", "eth_getLogs")
GARBAGE = {
    "no JSON": spoilt(READ, lambda body: b"<html>busy</html>"),
    "half of it": spoilt(READ, lambda body: body[: len(body) // 2]),
    "deep JSON": spoilt(READ, lambda body: b'{"id":0,"jsonrpc":"2.0","result":' + b"[" * 2_000_000),
    "another id": spoilt(READ, lambda body: body.replace(b'"id": 0', b'"id": 77')),
    "wrong types": spoilt(READ, lambda body: body.replace(b'"topics": [', b'"topics": [7, ')),
    "no UTF-8": spoilt(READ, lambda body: body.replace(b'"0x', b'"\xff\xfe')),
    "nothing": spoilt(READ, lambda body: b""),
    "a huge body": spoilt(READ, lambda body: itertools.repeat(b" " * (1 << 20), 100)),
}


@pytest.mark.parametrize("name", GARBAGE)
@pytest.mark.parametrize("way", [[], ["--unverified"]], ids=["verified", "unverified"])
def test_garbage_is_named_and_no_report_is_written(network, tmp_path, name, way):
    with lying(network.url, **GARBAGE[name]) as url:
        code, told, report = audited(network, url, tmp_path, *way)
    assert (code, report) == (3, None)
    assert told["error"] in ("EndpointTalksNonsense", "EndpointUnreachable", "AnswerTooLarge"), told


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_from_the_first_word_on_is_named(network, tmp_path, name):
    with lying(network.url, spoil=GARBAGE[name]["spoil"]) as url:
        code, told, report = audited(network, url, tmp_path)
    assert (code, report) == (3, None)
    assert told["error"] in ("ChainUnreachable", "MalformedAnswer", "EndpointTalksNonsense"), told


def test_an_endpoint_that_trickles_is_not_waited_for(network, tmp_path, monkeypatch):
    monkeypatch.setattr("sealtrace.auditor.inquiry.TIMEOUT_S", 0.5)

    def trickle(body):
        for _ in range(200):
            time.sleep(0.05)
            yield b" "

    began = time.monotonic()
    with lying(network.url, spoil=trickle, methods=READ) as url:
        code, told, report = audited(network, url, tmp_path)
    assert (code, told["error"], report) == (3, "EndpointUnreachable", None)
    assert time.monotonic() - began < 60


# going on from a kept reading, and following the head


def test_an_audit_gone_on_with_writes_the_bytes_of_an_audit_at_once(network, tmp_path):
    logs = network.handed_over(tmp_path / "logs")
    head, kept = network.chain.head().number, ["--resume", str(tmp_path / "kept")]
    where = ["run", "--rpc", network.url, "--chain-id", str(CHAIN_ID), "--json"]
    where += ["--contracts", network.deployed.directory, *logs, "--format", "html,json"]
    run = lambda out, *more: CliRunner().invoke(app, [*where, "--out", str(tmp_path / out), *more])  # noqa: E731
    for stop in (head - 9, head - 4):
        run("part", *kept, "--to", str(stop))
    assert run("resumed", *kept).exit_code == run("fresh", "--to", str(head)).exit_code == 0
    for name in ("report.json", "report.html"):
        assert (tmp_path / "resumed" / name).read_bytes() == (tmp_path / "fresh" / name).read_bytes()


def test_a_chain_reorganised_below_what_was_read_is_a_critical_finding(network, tmp_path):
    kept = ["--resume", str(tmp_path / "kept")]
    assert audited(network, network.url, tmp_path, *kept)[0] == 0
    with lying(network.url, swapped_from(network.chain.head().number - 3)) as url:
        code, told, _ = audited(network, url, tmp_path, *kept)
    found = [each for each in told["findings"] if each["rule"] == "PR-06"]
    assert code == 1
    assert [each["severity"] for each in found] == ["critical"]
    again = audited(network, network.url, tmp_path, *kept)[1]["findings"]
    assert "PR-06" in {each["rule"] for each in again}


def swapped_from(first):
    """Other blocks from ``first`` on; their hashes are made up."""
    other = lambda text: "0x" + sha256(text.encode())[2:]  # noqa: E731

    def lie(method, params, result):
        if method != "eth_getBlockByNumber" or int(result["number"], 16) < first:
            return result
        parent = result["parentHash"]
        parent = other(parent) if int(result["number"], 16) > first else parent
        return result | {"hash": other(result["hash"]), "parentHash": parent}

    return lie


def test_following_audits_again_after_each_block_until_interrupted(network, tmp_path):
    command = [sys.executable, "-m", "sealtrace", "audit", "run", "--rpc", network.url]
    command += ["--chain-id", str(CHAIN_ID), "--contracts", network.deployed.directory, "--json", "--follow"]
    command += ["--resume", str(tmp_path / "kept"), "--out", str(tmp_path / "out"), "--rule", "PR-02"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        first = json.loads(process.stdout.readline())
        admitted = calls.admit(NOBODY, Role.OWNER, sha256(b"tls"), sha256(b"enc"))
        (mined,) = network.all((network.office, admitted))
        second = json.loads(process.stdout.readline())
        assert second["last_block"] > first["last_block"]
        assert second["last_block"] >= mined.block.number
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait(20)


def test_following_needs_a_folder_and_no_end(network, tmp_path):
    assert audited(network, network.url, tmp_path, "--follow")[1]["error"] == "WrongArgument"
    more = ["--follow", "--resume", str(tmp_path / "kept"), "--to", "3"]
    assert audited(network, network.url, tmp_path, *more)[1]["error"] == "WrongArgument"
