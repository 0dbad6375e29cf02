"""TEE algorithms in the sandbox, on plain tables: what they come to, and what the guard does not let out."""

from __future__ import annotations

import csv
import json
import re
import shlex
from functools import cache
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from sealtrace.algorithms.bundles import load, shipped
from sealtrace.algorithms.enclave.measures import auc, log_loss
from sealtrace.algorithms.output_policy import Narrowing
from sealtrace.algorithms.template import create
from sealtrace.cli import build
from sealtrace.node.engines.errors import (
    BadInput,
    BadJob,
    BundleRefused,
    OutputForbidden,
    RuntimeMismatch,
    SandboxFailed,
)
from sealtrace.node.engines.tee.confinement import needed, probe
from sealtrace.node.engines.tee.inside.columns import LEAST_BYTES
from sealtrace.node.engines.tee.rehearsal import rehearse
from sealtrace.requester.cli import algorithm_app
from sealtrace.requester.rehearsing import NoSandbox

LACKING = probe().missing(needed())
pytestmark = pytest.mark.skipif(bool(LACKING), reason=f"this host gives no {', '.join(LACKING)}")
ROOT = Path(__file__).parents[2]
POSITIVE = "good"


@cache
def credit():
    with (ROOT / "examples/german_credit.csv").open() as file:
        return tuple(csv.DictReader(file))


def numeric(column):
    return all(row[column].isdigit() for row in credit())


COLUMNS = list(credit()[0])[:-1]
FEATURES = [
    {"column": name, "scale": "standardise"}
    if numeric(name)
    else {"column": name, "categories": sorted({row[name] for row in credit()})}
    for name in COLUMNS
]
TARGET = {"column": "creditability", "positive": POSITIVE}
TRAIN = {"mode": "train", "join": "vertical", "features": FEATURES, "target": TARGET}


def write(path, columns, rows):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", *columns])
        writer.writerows([f"person-{at}", *(row[name] for name in columns)] for at, row in rows)
    return path


@pytest.fixture(scope="module")
def vertical(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vertical")
    rows = list(enumerate(credit()))
    own = COLUMNS[:10], [*COLUMNS[10:], "creditability"]
    return {
        "bank": write(folder / "bank.csv", own[0], rows),
        "bureau": write(folder / "bureau.csv", own[1], reversed(rows)),
    }


@pytest.fixture(scope="module")
def horizontal(tmp_path_factory):
    folder, rows = tmp_path_factory.mktemp("horizontal"), list(enumerate(credit()))
    names = [*COLUMNS, "creditability"]
    return {"a": write(folder / "a.csv", names, rows[:400]), "b": write(folder / "b.csv", names, rows[400:])}


def tried(name, params, files, **more):
    return rehearse(load(shipped()[name]), params, files, "id", **more)


@cache
def pooled():
    """The whole table in the clear, prepared by numpy, rows in the order of ascending ids."""
    rows = [row for _, row in sorted((f"person-{at}", row) for at, row in enumerate(credit()))]
    parts = []
    for feature in FEATURES:
        cells = [row[feature["column"]] for row in rows]
        if "categories" in feature:
            parts += [np.array([float(cell == each) for cell in cells]) for each in feature["categories"]]
        else:
            values = np.array(cells, dtype=float)
            parts.append((values - values.mean()) / values.std())
    return np.stack(parts, axis=1), np.array([float(row["creditability"] == POSITIVE) for row in rows])


def scores_of(name, model, files, folder):
    held = folder / "model.json"
    held.write_text(json.dumps(model))
    found = tried(name, {"mode": "predict", "join": "vertical"}, {**files, "model": held}).outputs
    assert found["predictions"]["id"] == sorted(f"person-{at}" for at in range(len(credit())))
    return np.array(found["predictions"]["score"])


# --- shipped algorithms against what everybody uses, on the pooled table


def test_logistic_regression_is_scikit_learn_s(vertical, tmp_path):
    linear = pytest.importorskip("sklearn.linear_model")
    matrix, truth = pooled()
    found = tried("tee-logistic", TRAIN, vertical).outputs
    plain = linear.LogisticRegression(C=1.0, tol=1e-10, max_iter=10_000).fit(matrix, truth)
    assert found["model"]["fitted"]["weights"] == pytest.approx(plain.coef_[0].tolist(), abs=1e-5)
    expected = plain.predict_proba(matrix)[:, 1]
    assert scores_of("tee-logistic", found["model"], vertical, tmp_path) == pytest.approx(expected, abs=1e-5)
    assert found["measures"]["train"]["loss"] == pytest.approx(log_loss(truth, expected), abs=1e-6)


def test_horizontal_and_vertical_training_come_to_the_same(vertical, horizontal):
    beside = tried("tee-logistic", TRAIN, vertical).outputs
    below = tried("tee-logistic", {**TRAIN, "join": "horizontal"}, horizontal).outputs
    for name in ("weights", "bias"):
        assert below["model"]["fitted"][name] == pytest.approx(beside["model"]["fitted"][name], abs=1e-6)


def test_boosted_trees_are_xgboost_s(vertical, tmp_path):
    xgboost = pytest.importorskip("xgboost")
    matrix, truth = pooled()
    own = {"rounds": 30, "depth": 3, "rate": 0.2}
    found = tried("tee-xgboost", {**TRAIN, "train": own}, vertical).outputs
    settings = {
        "objective": "binary:logistic",
        "base_score": truth.mean(),
        "max_depth": 3,
        "eta": 0.2,
        "min_child_weight": 5,  # 20 rows at least in every leaf
        "tree_method": "hist",
        "nthread": 1,
    }
    held = xgboost.DMatrix(matrix, label=truth)
    expected = xgboost.train(settings, held, 30).predict(held)
    scores = scores_of("tee-xgboost", found["model"], vertical, tmp_path)
    assert scores == pytest.approx(expected, abs=2e-6)


REGRESSION = {
    "mode": "train",
    "join": "none",
    "features": [{"column": name, "scale": "normalise"} for name in ("duration_in_month", "age_in_years")],
    "target": {"column": "credit_amount"},
}


def amounts(tmp_path):
    """Months, ages with empty cells, and amounts in thousands; missing ages are what trees may take."""
    names = ["duration_in_month", "age_in_years", "credit_amount"]
    rows = [{name: row[name] for name in names} for row in credit()]
    for at, row in enumerate(rows):
        row["credit_amount"] = str(int(row["credit_amount"]) / 1000)
        row["age_in_years"] = "" if at % 10 == 0 else row["age_in_years"]
    cells = [[float(row[name] or "nan") for name in names] for row in rows]
    return {"t": write(tmp_path / "amounts.csv", names, enumerate(rows))}, np.array(cells)


def test_trees_take_empty_cells_and_no_leaf_is_of_fewer_rows_than_the_smallest_group(tmp_path):
    xgboost = pytest.importorskip("xgboost")
    files, cells = amounts(tmp_path)
    own = {"rounds": 20, "depth": 5, "sample": 0.8}
    found = tried("tee-xgboost", {**REGRESSION, "train": own}, files).outputs
    assert tried("tee-xgboost", {**REGRESSION, "train": own}, files).outputs == found
    low, high = np.nanmin(cells, axis=0), np.nanmax(cells, axis=0)
    matrix, truth = ((cells - low) / (high - low))[:, :2], cells[:, 2]
    settings = {"base_score": truth.mean(), "max_depth": 5, "min_child_weight": 20, "subsample": 0.8}
    held = xgboost.DMatrix(matrix, label=truth)
    plain = xgboost.train({**settings, "nthread": 1}, held, 20).predict(held)
    assert found["measures"]["train"]["loss"] == pytest.approx(np.mean((plain - truth) ** 2), rel=0.05)
    walk = import_module("sealtrace.algorithms.tee-xgboost.program")._walk
    for tree in found["model"]["fitted"]["trees"]:
        _, sizes = np.unique(walk(tree, matrix.astype(np.float32)), return_counts=True)
        assert sizes.min() >= 20


def test_empty_cells_are_refused_where_nothing_fills_them_and_a_perceptron_learns_numbers(tmp_path):
    files, cells = amounts(tmp_path)
    shown = []
    with pytest.raises(SandboxFailed):
        tried("tee-mlp", REGRESSION, files, shown=shown.append)
    assert b"a cell is empty: give the feature a fill" in shown[0]
    filled = [{**each, "fill": "median"} for each in REGRESSION["features"]]
    found = tried("tee-mlp", {**REGRESSION, "features": filled}, files).outputs
    assert set(found["measures"]["train"]) == {"rows", "loss"}
    assert found["measures"]["train"]["loss"] < 0.7 * cells[:, 2].var()


def test_the_perceptron_tells_breast_cancer_apart_as_scikit_learn_s_does(tmp_path):
    data = pytest.importorskip("sklearn.datasets").load_breast_cancer()
    network = pytest.importorskip("sklearn.neural_network")
    names = [f"f{at}" for at in range(30)]
    rows = [
        {**dict(zip(names, row, strict=True)), "y": "yes" if label else "no"}
        for row, label in zip(data.data, data.target, strict=True)
    ]
    files = {
        "lab": write(tmp_path / "lab.csv", names[:15], enumerate(rows)),
        "clinic": write(tmp_path / "clinic.csv", [*names[15:], "y"], enumerate(rows)),
    }
    params = {
        "mode": "train",
        "join": "vertical",
        "features": [{"column": name, "scale": "standardise"} for name in names],
        "target": {"column": "y", "positive": "yes"},
        "test_share": 0.3,
        "train": {"rounds": 30},
    }
    told = []
    found = tried("tee-mlp", params, files, report=lambda *each: told.append(each)).outputs
    matrix = (data.data - data.data.mean(0)) / data.data.std(0)
    cut = np.random.default_rng(1).permutation(len(matrix))
    test, train = cut[: len(cut) * 3 // 10], cut[len(cut) * 3 // 10 :]
    plain = network.MLPClassifier((16,), learning_rate_init=0.01, max_iter=30, random_state=1)
    plain.fit(matrix[train], data.target[train])
    expected = auc(data.target[test], plain.predict_proba(matrix[test])[:, 1])
    assert found["measures"]["test"]["auc"] > expected - 0.02
    assert [number for number, _ in told] == list(range(30))
    assert told[-1][1]["loss"] < told[0][1]["loss"] / 4
    again = tried("tee-mlp", params, files).outputs
    assert again == found  # seeds belong to the measured manifest


def test_statistics_are_numpy_s_and_small_groups_are_not_told(vertical):
    names = ["duration_in_month", "age_in_years"]
    groups = sorted({row["purpose"] for row in credit()})
    params = {"join": "vertical", "columns": names, "correlations": True}
    found = tried(
        "tee-statistics", {**params, "by": {"column": "purpose", "categories": groups}}, vertical
    ).outputs
    months, age = (np.array([float(row[name]) for row in credit()]) for name in names)
    assert found["columns"][0] == {
        "column": "duration_in_month",
        "count": 1000,
        "mean": pytest.approx(months.mean(), abs=1e-6),
        "deviation": pytest.approx(months.std(ddof=1), abs=1e-6),
        "lower_quartile": np.quantile(months, 0.25),
        "median": np.median(months),
        "upper_quartile": np.quantile(months, 0.75),
    }
    assert found["correlations"][0]["value"] == pytest.approx(np.corrcoef(months, age)[0, 1], abs=1e-6)
    sizes = {name: sum(row["purpose"] == name for row in credit()) for name in groups}
    assert min(sizes.values()) < 10  # retraining: 9
    shown = {each["group"]: each["count"] for each in found["groups"] if each["column"] == names[0]}
    hidden = [name for name in groups if shown[name] is None]
    assert {name: sizes[name] for name in groups if name not in hidden} == {
        k: v for k, v in shown.items() if v
    }
    assert sum(sizes[name] for name in hidden) >= 10  # the whole less those shown tells of no fewer


def test_psi_counts_or_names_the_common_ids(tmp_path):
    def table(name, numbers):
        return write(tmp_path / f"{name}.csv", ["x"], [(at, {"x": "1"}) for at in numbers])

    files = {"a": table("a", range(40)), "b": table("b", range(25, 60)), "c": table("c", range(30, 90))}
    assert tried("tee-psi", {}, files).outputs == {"count": 10}
    assert tried("tee-psi", {"result": "ids"}, files).outputs == {
        "ids": [f"person-{at}" for at in range(30, 40)]
    }
    assert tried("tee-psi", {}, files, narrowings=(Narrowing(min_group=11),)).outputs == {"count": None}
    with pytest.raises(OutputForbidden, match="undeclared"):
        tried("tee-psi", {"result": "ids"}, files, narrowings=(Narrowing(outputs=["count"]),))


# --- large tables, which Arrow reads


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """The same 12,000 rows twice: as they are, and with a quotation mark, which Arrow leaves to Python."""
    folder = tmp_path_factory.mktemp("large")
    cells = np.random.default_rng(3).standard_normal((12_000, 12)).round(9)
    names = [f"x{at}" for at in range(12)]
    rows = [{name: repr(cell) for name, cell in zip(names, row, strict=True)} for row in cells.tolist()]
    rows[7]["x0"] = ""
    plain = write(folder / "plain.csv", names, enumerate(rows))
    assert plain.stat().st_size > LEAST_BYTES
    quoted = folder / "quoted.csv"
    quoted.write_text(plain.read_text().replace("id,x0", 'id,"x0"', 1))
    return {"plain": plain, "quoted": quoted}, names, cells


def test_both_readers_come_to_the_same_outputs(large):
    files, names, cells = large
    params = {"join": "none", "columns": names, "correlations": True}
    plain, quoted = (tried("tee-statistics", params, {"t": path}).outputs for path in files.values())
    assert plain == quoted
    assert plain["columns"][1]["mean"] == pytest.approx(cells[:, 1].mean(), abs=1e-6)
    assert plain["columns"][0]["count"] == 11_999


def test_a_row_of_a_large_table_does_not_leave(large, author):
    files, names, _ = large
    body = f"return {{'found': [inputs['t'].numbers(name)[9] for name in {names}]}}"
    lock = {"runtime": {"python": "3.11", "lock": "requirements.txt"}}
    folder = author(body, {"kind": "list", "of": {"kind": "number", "decimals": 9}, "max_items": 12}, lock)
    (folder / "requirements.txt").write_text("numpy==1.26.4\npyarrow==25.0.1\n")
    with pytest.raises(OutputForbidden, match="row_in_output"):
        rehearse(load(folder), {}, {"t": files["plain"]}, "id")


# --- the guard, around code that gives what it should not


@pytest.fixture
def files(tmp_path):
    rows = [
        (at, {"income": str(20_000 + 37 * at), "age": str(20 + at), "home": f"home {at}"}) for at in range(30)
    ]
    return {"t": write(tmp_path / "t.csv", ["income", "age", "home"], rows)}


@pytest.fixture
def author(tmp_path):
    def author(body, shape=None, manifest=None):
        folder = create("mine", tmp_path / str(len(list(tmp_path.iterdir()))), "tee")
        shape = shape or {"kind": "list", "of": {"kind": "number", "decimals": 6}, "max_items": 100}
        words = json.loads((folder / "manifest.json").read_text())
        words["output_policy"]["outputs"] = {"found": {"shape": shape, "max_bytes": 2000}}
        (folder / "manifest.json").write_text(json.dumps({**words, **(manifest or {})}))
        lines = "".join(f"    {line}\n" for line in body.splitlines())
        (folder / "program.py").write_text(f"import os, sys\n\n\ndef run(inputs, params):\n{lines}")
        return folder

    return author


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        ("return {'found': ['text']}", "wrong_shape"),
        ("return {'found': [float('nan')]}", "not_a_result"),
        ("return {'found': [2**60]}", "not_a_result"),
        ("return None", "not_a_result"),
        ("return {'found': [1.0], inputs['t'].ids[0]: 1}", "undeclared"),
        ("return {'found': [0.123456] * 101}", "too_large"),
        ("inputs.report(1, {'share_shown': 1}); inputs.report(2, {'share_shown': 1})", "metric_order"),
        ("inputs.report(1, {inputs['t'].ids[0]: 1})", "undeclared"),
    ],
)
def test_what_the_policy_does_not_allow_does_not_leave(author, files, body, rule):
    bundle = load(author(body))
    with pytest.raises(OutputForbidden, match=rule) as refused:
        rehearse(bundle, {}, files, "id")
    assert "person-0" not in str(refused.value)


def test_a_row_of_the_table_does_not_leave(author, files):
    shape = {"kind": "model", "decimals": 6, "words": ["home 3"]}
    body = (
        "t = inputs['t']\nreturn {'found': [t.numbers('income')[3], t.numbers('age')[3], t.texts('home')[3]]}"
    )
    with pytest.raises(OutputForbidden, match="row_in_output"):
        rehearse(load(author(body, shape)), {}, files, "id")


def test_what_it_prints_reaches_its_author_alone(author, files):
    shown = []
    done = rehearse(
        load(author("print(inputs['t'].ids[0])\nreturn {'found': [1]}")), {}, files, "id", shown=shown.append
    )
    assert done.outputs == {"found": [1]}
    assert b"person-0" in shown[0]
    failing = load(author("raise ValueError(inputs['t'].ids[0])"))
    with pytest.raises(SandboxFailed) as failed:
        rehearse(failing, {}, files, "id", shown=shown.append)
    assert "person-0" not in str(failed.value)
    assert b"person-0" in shown[1]


def test_metrics_come_while_it_runs_and_a_forbidden_one_ends_it(author, files):
    told = []
    body = "inputs.report(0, {'share_shown': 0.7})\ninputs.report(1, {'share_shown': 1})\nwhile True: pass"
    with pytest.raises(OutputForbidden, match="metric_order"):
        rehearse(load(author(body)), {}, files, "id", report=lambda *each: told.append(each))
    assert told == [(0, {"share_shown": 1.0})]


def test_writing_to_the_output_past_us_passes_the_same_guard(author, files):
    body = (
        "import json\nout = json.loads(os.environ['SEALTRACE_DESCRIPTORS'])['output']\n"
        "os.write(out, {}.encode())\nreturn {{'found': [1]}}"
    )
    with pytest.raises(OutputForbidden, match="not_a_result"):
        rehearse(load(author(body.format("inputs['t'].ids[0]"))), {}, files, "id")


def test_too_few_rows_run_nothing(author, files, tmp_path):
    few = {"t": write(tmp_path / "few.csv", ["age"], [(at, {"age": "1"}) for at in range(19)])}
    with pytest.raises(OutputForbidden, match="input t: too_few_rows"):
        rehearse(load(author("while True: pass")), {}, few, "id")


def test_another_runtime_than_the_locked_one_is_refused(author, files):
    folder = author("return {'found': [1]}")
    (folder / "requirements.txt").write_text("numpy==0.0.1\n")
    with pytest.raises(RuntimeMismatch, match="lock file"):
        rehearse(load(folder), {}, files, "id")
    other = author(
        "return {'found': [1]}", manifest={"runtime": {"python": "3.1", "lock": "requirements.txt"}}
    )
    with pytest.raises(RuntimeMismatch):
        rehearse(load(other), {}, files, "id")


def test_seeds_hold_for_code_that_draws_without_saying_so(author, files):
    body = "import random\nreturn {'found': [random.random(), float(inputs.seeds['global'])]}"
    first, second = (rehearse(load(author(body)), {}, files, "id").outputs for _ in range(2))
    assert first == second


def test_what_cannot_be_rehearsed_is_refused_by_name(author, files, tmp_path):
    bundle = load(author("return {'found': [1]}"))
    with pytest.raises(BadJob, match="no TEE algorithm"):
        rehearse(load(shipped()["psi"]), {}, files, "id")
    with pytest.raises(BadJob, match="names the job itself"):
        rehearse(bundle, {}, {"job": files["t"]}, "id")
    with pytest.raises(BadInput, match="unreadable"):
        rehearse(bundle, {}, {"t": tmp_path / "none.csv"}, "id")
    (tmp_path / "odd.csv").write_text("a\n1,2\n")
    with pytest.raises(BadInput, match="table_unfit"):
        rehearse(bundle, {}, {"t": tmp_path / "odd.csv"}, "id")
    other = author("return 1", manifest={"entry": "other.py"})
    with pytest.raises(BundleRefused, match="no program"):
        rehearse(load(other), {}, files, "id")


# --- the command


def test_a_new_tee_algorithm_runs_by_the_commands_of_the_document(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runner, app = CliRunner(), build("algorithm")
    text = (ROOT / "docs" / "tee-algorithms.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    new, test = (shlex.split(line)[1:] for line in block.replace("\\\n", " ").splitlines())
    assert runner.invoke(app, new).exit_code == 0
    words = test[1:]
    done = runner.invoke(app, ["algorithm", *words, "--json", "--save", "out"], catch_exceptions=False)
    found = json.loads(done.stdout)["outputs"]["groups"]
    assert [each["group"] for each in found] == ["over", "under"]
    assert sum(each["count"] for each in found) == 200
    assert "round 0  share_shown 1" in done.stderr
    assert json.loads((tmp_path / "out/groups.json").read_text()) == found
    shown = runner.invoke(app, ["algorithm", *words], catch_exceptions=False)
    assert "1 outputs passed the output policy" in shown.stdout
    with pytest.raises(NoSandbox):
        runner.invoke(algorithm_app, words, catch_exceptions=False)
