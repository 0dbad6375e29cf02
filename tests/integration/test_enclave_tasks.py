"""Tasks in a simulated enclave between real processes: what owners release, what comes out, what is left."""

from __future__ import annotations

import csv
import os
import signal
from pathlib import Path

import pytest
from enclave_network import Task, dataset, policy, result
from engine_network import network, output

from sealtrace.node.engines.errors import EngineError, OutputForbidden
from sealtrace.node.engines.job import Timeouts
from sealtrace.node.engines.tee.confinement import needed, probe
from sealtrace.node.engines.tee.job import FINAL
from sealtrace.node.engines.workplace import CONNECTING, OUTPUT
from sealtrace.protocol.attestation.appraisal import Stage
from sealtrace.protocol.attestation.binding import Moment
from sealtrace.protocol.attestation.eventlog import EventKind
from sealtrace.protocol.attestation.policy import Narrowing
from sealtrace.protocol.attestation.statement import read_statement
from sealtrace.protocol.identifiers import UnixSeconds

LACKING = probe().missing(needed())
pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.skipif(bool(LACKING), reason=f"this host gives no {', '.join(LACKING)}"),
]
CREDIT = Path(__file__).parents[2] / "examples" / "german_credit.csv"
BANK = ["credit_amount", "duration_in_month"]
BUREAU = ["age_in_years", "creditability"]
FEATURES = [{"column": each, "scale": "standardise"} for each in [*BANK, "age_in_years"]]
TRAIN = {
    "mode": "train",
    "join": "vertical",
    "features": FEATURES,
    "target": {"column": "creditability", "positive": "bad"},
}
PREDICT = {"mode": "predict", "join": "vertical"}
NOW = Moment(UnixSeconds(1_790_000_100), 9)


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    with network(tmp_path_factory.mktemp("net")) as made:
        yield made


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    with CREDIT.open() as file:
        rows = [{"id": f"person-{at}", **row} for at, row in enumerate(csv.DictReader(file))]
    made = {"bank": (1, folder / "bank.csv", BANK), "bureau": (2, folder / "bureau.csv", BUREAU)}
    for name, (_, path, columns) in made.items():
        extra = ["marker"] if name == "bank" else []
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["id", *columns, *extra], extrasaction="ignore")
            writer.writeheader()
            writer.writerows({**row, "marker": "never-granted"} for row in rows)
    return made


@pytest.fixture(scope="module")
def trained(net, tables):
    task = Task(net, "tee-xgboost", TRAIN, tables, keep={"risk": "train.model"})
    return task, task.run()


def test_a_model_is_trained_on_joined_tables_and_only_the_requester_opens_its_measures(net, trained):
    _, ended = trained
    measures = result(net, ended)["measures"]
    assert measures["train"]["rows"] == 1000
    assert 0.7 < measures["train"]["auc"] < 1
    assert [output(net, each) for each in ended[1:]] == [{}, {}]


def test_every_party_reports_the_same_result_over_the_same_last_statement(trained):
    _, ended = trained
    finals = [each.transcript["statements"]["final"] for each in ended]
    assert len(set(finals)) == 1
    assert len({each.result_digest for each in ended}) == 1


def test_the_last_statement_is_accepted_and_ends_with_the_destruction_of_every_input(trained):
    task, _ = trained
    for me in range(3):
        final = read_statement((task.folder(me) / FINAL).read_bytes())
        assert final.stage is Stage.FINAL
        assert final.judged(policy(), NOW).accepted
        assert final.evidence.events[-1].kind is EventKind.DESTROY
        assert set(final.evidence.events[-1].erased) == {dataset("bank"), dataset("bureau")}


def test_columns_that_are_not_granted_are_not_sent(trained):
    _, ended = trained
    sent = ended[1].transcript["steps"][0]["sent"]["bank"]
    assert sent < (trained[0].tables["bank"][1]).stat().st_size - 13 * 1000


def test_a_kept_model_predicts_when_all_its_keepers_bring_their_parts(net, tables, trained):
    task, ended = trained
    assert "model" not in result(net, ended)
    parts = {f"{n}-part": (i, task.folder(i) / "kept" / "risk.part", "risk") for n, (i, *_) in tables.items()}
    later = Task(net, "tee-xgboost", PREDICT, tables, parts, uses={"model": "risk"})
    assert len(result(net, later.run())["predictions"]["id"]) == 1000


def test_one_part_of_a_kept_model_is_of_no_use(net, tables, trained):
    task, _ = trained
    stolen = task.folder(1) / "kept" / "risk.part"
    parts = {"a": (1, stolen, "risk"), "b": (2, stolen, "risk")}
    ended = Task(net, "tee-xgboost", PREDICT, tables, parts, uses={"model": "risk"}).run()
    assert isinstance(ended[0], EngineError)
    assert "kept by" in str(ended[0]) or "not the parts" in str(ended[0])


def test_what_an_owner_takes_away_does_not_come_out(net, tables):
    less = {"bank": policy(narrowing=Narrowing(outputs=["rows"]))}
    ended = Task(net, "tee-xgboost", TRAIN, tables, policies=less).run()
    assert isinstance(ended[0], OutputForbidden)
    assert all(isinstance(each, EngineError) for each in ended[1:])


def test_metrics_come_sealed_while_a_model_trains(net, trained):
    task, _ = trained
    sealed = sorted((task.folder(0) / "metrics").iterdir())
    assert sealed
    assert b"auc" not in sealed[0].read_bytes()


# --- killed at each step

MARKER = b"739182.25"
"""An amount that one granted cell of the bank holds."""


@pytest.fixture(scope="module")
def marked(tables, tmp_path_factory):
    owner, path, columns = tables["bank"]
    lines = path.read_bytes().splitlines()
    cells = lines[1].split(b",")
    cells[1] = MARKER
    own = tmp_path_factory.mktemp("marked") / "bank.csv"
    own.write_bytes(b"\n".join([lines[0], b",".join(cells), *lines[2:]]) + b"\n")
    return {**tables, "bank": (owner, own, columns)}


@pytest.mark.parametrize(
    ("victim", "phase"),
    [(0, CONNECTING), (0, "opening"), (0, "running"), (1, "sending"), (1, "waiting"), (2, "waiting")],
)
def test_a_party_that_is_killed_at_a_step_ends_the_task_and_leaves_no_row_in_the_clear(
    net, marked, victim, phase
):
    begun, killed = {}, []

    def progress(me):
        def told(said, step):
            if me == victim and said == phase and begun[me].process.poll() is None:
                os.killpg(begun[me].process.pid, signal.SIGKILL)
                killed.append(said)

        return told

    long = {**TRAIN, "train": {"rounds": 3_000, "depth": 6}}
    quick = Timeouts(receive_ms=8_000, connect_ms=8_000, wait_ms=60_000)
    task = Task(net, "tee-xgboost", long, marked, timeouts=quick, progress=progress)
    task.begun = begun.__setitem__
    ended = task.run()
    assert killed == [phase]
    assert [isinstance(each, EngineError) for each in ended] == [True] * 3
    files = [each for each in (net.folder / "jobs" / task.task).rglob("*") if each.is_file()]
    assert files
    assert [each for each in files if MARKER in each.read_bytes()] == []
    assert not (task.folder(0) / OUTPUT).exists()
