"""Real engines at three parties, talking through real gateways."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("spu")

import pandas as pd
from engine_network import (
    COLUMNS,
    ID,
    NAMES,
    PATIENT,
    Party3,
    network,
    opened,
    output,
    split_credit,
    statistics_params,
    steps,
    write_csv,
)

from sealtrace.algorithms.bundles import load, shipped
from sealtrace.algorithms.template import create
from sealtrace.deploy.comparison import pooled
from sealtrace.node.engines.errors import (
    BadInput,
    EmptyIntersection,
    EngineError,
    EngineTimeout,
    PeerFailed,
    PeerUnreachable,
    ProgramMismatch,
    SessionCut,
    Stopped,
)
from sealtrace.node.engines.job import JobStep, Timeouts
from sealtrace.node.engines.process import JobResult
from sealtrace.protocol.canonical import sha256
from sealtrace.protocol.receipt import result_digest
from sealtrace.protocol.security import of_step

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    with network(tmp_path_factory.mktemp("engines")) as made:
        yield made


@pytest.fixture(scope="module")
def paths(net):
    return split_credit(net.folder)


@pytest.fixture(scope="module")
def finished(net, paths):
    """One good run that several tests look at."""
    run = Party3(net, net.new_task(), paths)
    return run, run.run()


def joined(paths: dict[str, Path]) -> pd.DataFrame:
    frames = [pd.read_csv(paths[name]) for name in NAMES]
    return frames[0].merge(frames[1], on=ID).merge(frames[2], on=ID)


def expected(frame: pd.DataFrame, params: dict[str, Any]) -> dict[str, Any]:
    return pooled(frame.astype(str).to_dict("records"), params)


def assert_close(observed, wanted):
    if isinstance(wanted, dict):
        assert observed.keys() == wanted.keys()
        for key in wanted:
            assert_close(observed[key], wanted[key])
    elif isinstance(wanted, list):
        assert len(observed) == len(wanted)
        for one, other in zip(observed, wanted, strict=True):
            assert_close(one, other)
    elif isinstance(wanted, float):
        assert observed == pytest.approx(wanted, rel=1e-4, abs=1e-6)
    else:
        assert observed == wanted


def test_three_parties_align_and_compute_what_the_joined_table_says(net, paths, finished):
    _, results = finished
    result = opened(net, results, steps()[1])
    assert_close(result, expected(joined(paths), statistics_params()))
    assert [g["by"]["employed"] for g in result["groups"] if g["suppressed"]] == ["unemployed"]


def test_every_party_comes_to_the_same_result_digest(net, finished):
    _, results = finished
    outputs = {n.address: sha256(r.output.read_bytes()) for n, r in zip(net.nodes, results, strict=True)}
    assert {r.result_digest for r in results} == {result_digest(outputs)}


def test_what_one_gateway_sent_is_what_the_other_received(net, finished):
    _, results = finished
    traffic = {
        (node.address, peer["address"]): peer
        for node, result in zip(net.nodes, results, strict=True)
        for peer in result.transcript["traffic"]
    }
    assert len(traffic) == 6
    for (here, there), seen in traffic.items():
        back = traffic[there, here]
        for what in ("messages", "bytes", "digest"):
            assert seen[f"sent_{what}"] == back[f"received_{what}"]


def test_nothing_but_sealed_output_and_accounts_stays_in_the_job_directory(finished):
    run, _ = finished
    for me in range(3):
        left = {path.name for path in run.folder(me).iterdir()}
        assert left == {"job.json", "output.sealed", "transcript.json", "progress.jsonl", "engine.log"}
        assert (run.folder(me) / "output.sealed").stat().st_mode & 0o777 == 0o600
        log = (run.folder(me) / "engine.log").read_text()
        assert "applicant-" not in log


def test_a_share_alone_is_not_the_result(net, finished):
    _, results = finished
    share = output(net, results[0])["stats"]
    assert b"groups/rows" in share  # the names are there
    header = json.loads(share[share.index(b"{") : share.index(b"}]") + 2] + b"}")
    assert header["kind"] == "mpc"


def test_two_parties_align_by_ecdh_and_compute_by_cheetah(net, paths):
    params = statistics_params()
    for name in ("residence", "credits"):
        del params["columns"][name]
        params["requests"]["linked"]["of"].remove(name)
    align, stats = steps("ECDH", "CHEETAH", names=NAMES[:2])
    two = (align, stats.model_copy(update={"params": params}))
    run = Party3(net, net.new_task(count=2), paths, count=2, common={"steps": two})
    result = opened(net, run.run(), two[1])
    frame = pd.read_csv(paths["bank"]).merge(pd.read_csv(paths["registry"]), on=ID)
    assert_close(result, expected(frame, params))


def alone(name: str, folder: Path, params: dict[str, Any]) -> JobStep:
    """One MPC step over all inputs, without an alignment before it."""
    _, stats = steps()
    return stats.model_copy(
        update={
            "id": name,
            "bundle": str(folder),
            "algorithm": load(folder).digest,
            "after": (),
            "params": params,
        }
    )


AMOUNTS = {name: ["amount"] for name in NAMES}
MARKER = 9876.543
"""A value that must be found nowhere but in its owner's table."""


def test_rows_of_three_parties_are_one_table_and_no_value_leaves_its_owner(net, tmp_path):
    amounts = {name: [100.0 * at + 7 * row for row in range(20 + at)] for at, name in enumerate(NAMES)}
    amounts["registry"][3] = MARKER
    paths = {name: tmp_path / f"{name}.csv" for name in NAMES}
    for name, values in amounts.items():
        write_csv(paths[name], [ID, "amount"], [[f"{name}{at}", str(x)] for at, x in enumerate(values)])
    params = {
        "horizontal": list(NAMES),
        "min_group": 5,
        "columns": {"amount": {"kind": "number", "low": 0, "high": 10_000}, "where": {"kind": "input"}},
        "requests": {
            "each": {
                "measure": "summary",
                "of": "amount",
                "by": "where",
                "statistics": ["mean", "deviation"],
            },
            "all": {"measure": "summary", "of": "amount", "statistics": ["sum"], "quantiles": [0.5]},
        },
    }
    step = alone("rows", shipped()["statistics"], params)
    common = {"steps": (step,), "columns": AMOUNTS}
    run = Party3(net, net.new_task(), paths, common=common)
    result = opened(net, run.run(), step)
    pooled_amounts = pd.Series([x for values in amounts.values() for x in values])
    assert result["rows"] == 63
    assert result["all"][0]["amount"] == pytest.approx(
        {"sum": pooled_amounts.sum(), "q0.5": pooled_amounts.quantile(0.5, interpolation="lower")}
    )
    for row, values in zip(result["each"], amounts.values(), strict=True):
        assert row["amount"] == pytest.approx(
            {"mean": pd.Series(values).mean(), "deviation": pd.Series(values).std()}
        )
    written = [path.read_bytes() for me in range(3) for path in run.folder(me).rglob("*") if path.is_file()]
    assert not [each for each in written if str(MARKER).encode() in each]


def test_a_value_out_of_its_declared_range_fails_at_its_owner_before_anything_is_shared(net, tmp_path):
    paths = {name: tmp_path / f"{name}.csv" for name in NAMES}
    for name in NAMES:
        write_csv(
            paths[name], [ID, "amount"], [[f"{at}", "11" if name == "bank" else "1"] for at in range(9)]
        )
    params = {
        "horizontal": list(NAMES),
        "min_group": 5,
        "columns": {"amount": {"kind": "number", "low": 0, "high": 10}},
        "requests": {"all": {"measure": "summary", "of": "amount", "statistics": ["mean"]}},
    }
    step = alone("rows", shipped()["statistics"], params)
    common = {"steps": (step,), "columns": AMOUNTS}
    results = Party3(net, net.new_task(), paths, common=common).run()
    assert isinstance(results[0], BadInput)
    assert results[0].reason == "out_of_range"
    assert "row 1" in str(results[0])
    assert all(isinstance(each, PeerFailed) for each in results[1:]), results


def test_an_authors_own_function_runs_between_real_parties(net, tmp_path):
    bundle = create("overdue", tmp_path)
    paths = {name: tmp_path / f"{name}.csv" for name in NAMES}
    for name, column, start in (("bank", "owed", 10), ("registry", "earned", 60), ("carrier", "none", 0)):
        write_csv(paths[name], [ID, column], [[f"{at}", str(start + at)] for at in range(30)])
    debt, income = {"input": "bank", "column": "owed"}, {"input": "registry", "column": "earned"}
    step = alone("overdue", bundle, {"columns": {"debt": debt, "income": income}})
    columns = {"bank": ["owed"], "registry": ["earned"], "carrier": ["none"]}
    run = Party3(net, net.new_task(), paths, common={"steps": (step,), "columns": columns})
    result = opened(net, run.run(), step)
    # 10 + n is above (60 + n) / 2 from n = 41 on, so nobody owes too much
    assert result == pytest.approx({"rows": 30, "share_over": 0.0, "mean_debt": 24.5}, abs=1e-4)


def test_three_parties_align_by_ecdh_and_the_requester_gets_the_common_ids(net, paths):
    align = steps("ECDH")[0].model_copy(update={"params": {"result": "ids"}})
    run = Party3(net, net.new_task(), paths, common={"steps": (align,)})
    result = opened(net, run.run(), align)
    assert sorted(result["ids"]) == sorted(joined(paths)[ID])


def test_a_program_altered_at_one_party_runs_at_none(net, paths, tmp_path):
    """The liar's own check is out of its way: it holds its job to its own bundle's digest."""
    altered = tmp_path / "statistics"
    shutil.copytree(shipped()["statistics"], altered)
    program = altered / "joint.py"
    program.write_text(program.read_text().replace(">= self.plan.min_group", ">= 2"))
    align, stats = steps()
    lying = stats.model_copy(update={"bundle": str(altered), "algorithm": load(altered).digest})
    run = Party3(net, net.new_task(), paths, changes={1: {"steps": (align, lying)}})
    results = run.run()
    assert all(isinstance(r, ProgramMismatch) for r in results), results
    assert {results[0].peer, results[2].peer} == {net.nodes[1].address}
    assert not any((run.folder(me) / "output.sealed").exists() for me in range(3))


@pytest.mark.parametrize(
    ("psi", "mpc"),
    [("RR22", "SEMI2K"), ("ECDH", "ABY3"), ("KKRT", "ABY3")],
)
def test_a_party_told_of_another_protocol_runs_with_nobody(net, paths, psi, mpc):
    """The specification says RR22 and ABY3. One node's job says otherwise, and every engine could run it."""
    run = Party3(net, net.new_task(), paths, changes={1: {"steps": steps(psi, mpc)}})
    results = run.run()
    assert all(isinstance(r, ProgramMismatch) for r in results), results
    assert {results[0].peer, results[2].peer} == {net.nodes[1].address}
    assert not any((run.folder(me) / "output.sealed").exists() for me in range(3))
    assert (1, "running", "align") not in run.progress


def test_a_transcript_says_what_protects_each_step(finished):
    _, results = finished
    for result in results:
        said = [(step["protocol"], step["security"]) for step in result.transcript["steps"]]
        assert said == [("RR22", of_step("psi", "RR22").words), ("ABY3", of_step("mpc", "ABY3").words)]


def test_a_compiled_program_that_differs_is_noticed_before_anything_is_shared(net, paths, monkeypatch):
    """Same bundle, same job, other text: the digest of the compiled program is what counts."""
    from sealtrace.node.engines import computation

    said = [{"step": "s", "program": "a"}, {"step": "s", "program": "b"}, {"step": "s", "program": "a"}]

    class Control:
        ranks = (0, 1, 2)

        def gather(self, mine):
            return said

    class Job:
        parties = ("0xa", "0xb", "0xc")

    with pytest.raises(ProgramMismatch, match="0xb"):
        computation._agree(Job(), Control(), said[0])


WAITING = {"timeouts": PATIENT}
"""What ends a job within seconds was not a timeout."""
SECONDS = 20


def ends(run: Party3, meanwhile) -> tuple[list[JobResult | EngineError], float]:
    """Run, call ``meanwhile`` once party 1 computes, and return the results and seconds after."""
    when: list[float] = []

    def watch() -> None:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and (1, "running", "align") not in run.progress:
            time.sleep(0.02)
        meanwhile()
        when.append(time.monotonic())

    watcher = threading.Thread(target=watch)
    watcher.start()
    results = run.run()
    watcher.join()
    return results, time.monotonic() - when[0]


def engine_pid(run: Party3, me: int) -> int:
    needle = str(run.folder(me)).encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if needle in (entry / "cmdline").read_bytes():
                    return int(entry.name)
            except OSError:
                continue
    raise AssertionError("no engine process")


def test_a_killed_engine_ends_the_job_everywhere_within_seconds(net, paths):
    run = Party3(net, net.new_task(), paths, common=WAITING)
    results, seconds = ends(run, lambda: os.kill(engine_pid(run, 1), signal.SIGKILL))
    assert results[1].code == "engine_crashed"
    for me in (0, 2):
        assert isinstance(results[me], PeerFailed)
    assert results[0].peer == net.nodes[1].address
    assert seconds < SECONDS
    assert not (run.folder(0) / "scratch").exists()


def test_a_silent_peer_ends_the_job_within_the_configured_time(net, paths):
    run = Party3(net, net.new_task(), paths, deadline_s=100)
    results, seconds = ends(run, lambda: os.kill(engine_pid(run, 1), signal.SIGSTOP))
    assert isinstance(results[0], PeerUnreachable | PeerFailed), results
    assert isinstance(results[2], PeerUnreachable | PeerFailed), results
    assert seconds < 45
    assert isinstance(results[1], PeerFailed | PeerUnreachable | EngineTimeout)


def test_a_session_revoked_on_the_chain_is_cut_at_once(net, paths):
    run = Party3(net, net.new_task(), paths, common=WAITING)
    results, seconds = ends(run, lambda: net.write(run.task, running=False))
    assert all(isinstance(r, SessionCut) for r in results), results
    assert seconds < SECONDS


def test_engines_wait_for_the_chain_to_say_running_and_for_a_late_party(net, paths):
    """Blocks come at their own pace, and so do workers: nobody fails for being first."""
    run = Party3(net, net.new_task(running=False), paths)
    late = run.run_one

    def run_one(me: int) -> JobResult | EngineError:
        if me == 2:
            time.sleep(2.5)
        return late(me)

    run.run_one = run_one
    flip = threading.Timer(1.5, lambda: net.write(run.task, running=True))
    flip.start()
    assert_close(opened(net, run.run(), steps()[1]), expected(joined(paths), statistics_params()))


def test_a_party_that_never_comes_is_named_within_the_connect_timeout(net, paths):
    quick = Timeouts(receive_ms=8_000, connect_ms=8_000, wait_ms=12_000)
    run = Party3(net, net.new_task(), paths, common={"timeouts": quick})
    late = run.run_one
    run.run_one = lambda me: late(me) if me < 2 else None
    start = time.monotonic()
    results = run.run()
    assert time.monotonic() - start < 45
    assert all(isinstance(r, PeerUnreachable | PeerFailed) for r in results[:2]), results
    assert net.nodes[2].address in {r.peer for r in results[:2]}


def test_an_operator_stops_a_job(net, paths):
    run = Party3(net, net.new_task(), paths, common=WAITING)
    results, seconds = ends(run, lambda: run.stops[2].set())
    assert isinstance(results[2], Stopped)
    assert all(isinstance(results[me], PeerFailed) for me in (0, 1))
    assert seconds < SECONDS


def test_a_job_is_killed_at_its_deadline(net, paths):
    run = Party3(net, net.new_task(), paths, count=3, deadline_s=0.5)
    results = run.run()
    assert all(isinstance(r, EngineTimeout) for r in results), results


def test_no_common_row_is_its_own_outcome(net, paths, tmp_path):
    others = dict(paths)
    others["carrier"] = tmp_path / "carrier.csv"
    write_csv(others["carrier"], [ID, *COLUMNS["carrier"]], [["nobody-1", "1", "1"], ["nobody-2", "2", "1"]])
    run = Party3(net, net.new_task(), others)
    results = run.run()
    assert all(isinstance(r, EmptyIntersection) for r in results), results


@pytest.mark.parametrize(
    ("reason", "header", "rows"),
    [
        ("duplicate_ids", [ID, *COLUMNS["carrier"]], [["a", "1", "1"], ["a", "2", "2"]]),
        ("missing_column", [ID, COLUMNS["carrier"][0]], [["a", "1"]]),
        ("malformed_csv", [ID, *COLUMNS["carrier"]], [["a", "1", "1"], ["b", "2"]]),
    ],
)
def test_a_table_that_does_not_fit_fails_at_its_owner_by_name(net, paths, tmp_path, reason, header, rows):
    others = dict(paths)
    others["carrier"] = tmp_path / "carrier.csv"
    write_csv(others["carrier"], header, rows)
    results = Party3(net, net.new_task(), others).run()
    assert isinstance(results[2], BadInput)
    assert results[2].reason == reason
    assert all(isinstance(r, PeerFailed) and "bad_input" in str(r) for r in results[:2]), results
