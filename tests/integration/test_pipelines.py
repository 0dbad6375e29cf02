"""Steps that hand shared values on: real parties align, prepare, train, apply and evaluate in one task."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from engine_network import ID, PATIENT, Party3, job_step, network, opened, split_credit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from sealtrace.node.engines.errors import BadJob

NUMBERS = {
    "amount": ("bank", "credit_amount", 0, 20_000),
    "months": ("bank", "duration_in_month", 0, 80),
    "age": ("registry", "age_in_years", 18, 80),
    "residence": ("carrier", "present_residence_since", 0, 10),
}
COLUMNS = {
    name: {"input": owner, "column": column, "kind": "number", "low": low, "high": high}
    for name, (owner, column, low, high) in NUMBERS.items()
} | {"bad": {"input": "bank", "column": "creditability", "kind": "indicator", "positive": "bad"}}
L2 = 0.01


def pipeline(**train):
    return (
        job_step("align", "psi", "RR22"),
        job_step("prepared", "features", after=("align",), params={"columns": COLUMNS, "target": "bad"}),
        job_step(
            "train",
            "glm",
            after=("align", "prepared"),
            uses={"features": "prepared", **train},
            params={"family": "logistic", "l2": L2},
        ),
        job_step(
            "scores",
            "predict",
            after=("prepared", "train"),
            uses={"features": "prepared", "model": "train"},
            params={"rows": "all", "reveal": "nothing"},
        ),
        job_step(
            "quality",
            "evaluate",
            after=("scores",),
            uses={"scores": "scores"},
            params={"metrics": ["auc"], "min_group": 10},
        ),
    )


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    with network(tmp_path_factory.mktemp("net")) as running:
        yield running


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    return split_credit(tmp_path_factory.mktemp("tables"))


def common_rows(paths):
    tables = []
    for path in paths.values():
        with path.open(encoding="utf-8", newline="") as file:
            tables.append({row[ID]: row for row in csv.DictReader(file)})
    ids = set.intersection(*(set(each) for each in tables))
    return [{k: v for each in tables for k, v in each[id].items()} for id in ids]


def auc_of_the_joined_table(paths):
    rows = common_rows(paths)
    features = np.array([[float(r[column]) for _, column, _, _ in NUMBERS.values()] for r in rows])
    features = (features - features.mean(axis=0)) / features.std(axis=0)
    target = np.array([r["creditability"] == "bad" for r in rows], dtype=float)
    plain = LogisticRegression(C=1 / (L2 * len(rows)), tol=1e-10, max_iter=1000).fit(features, target)
    return roc_auc_score(target, plain.decision_function(features))


def test_a_model_is_trained_applied_and_judged_and_only_the_judgement_is_opened(net, paths):
    steps = pipeline()
    party = Party3(net, net.new_task(), paths, common={"steps": steps, "timeouts": PATIENT}, deadline_s=200.0)
    results = party.run()
    found = opened(net, results, steps[-1])
    assert found["auc"] == pytest.approx(auc_of_the_joined_table(paths), abs=0.005)
    used = [each.get("uses") for each in results[0].transcript["steps"]]
    assert used[2:] == [s.uses for s in steps[2:]]


def test_a_step_that_uses_what_no_step_gives_is_refused_by_every_party(net, paths):
    steps = pipeline(features="prepared.matrix")
    party = Party3(net, net.new_task(), paths, common={"steps": steps, "timeouts": PATIENT}, deadline_s=200.0)
    for result in party.run():
        assert isinstance(result, BadJob)
        assert "step prepared gives no 'matrix'" in str(result)
