"""Trees, clusters and components as whole tasks between real parties, against the pooled table in the clear.

Rows are aligned in the order of their tokens: who knows ids and task, as the tests do, knows that order.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("spu")

from engine_network import ID, NAMES, PATIENT, Network, Party3, job_step, network, opened, write_csv
from sklearn import datasets
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import log_loss, roc_auc_score

from sealtrace.node.engines.job import JobStep
from sealtrace.protocol.keys import digests_of_one_part

pytestmark = pytest.mark.timeout(180)

DEADLINE_S = 150.0


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    with network(tmp_path_factory.mktemp("net")) as running:
        yield running


@dataclass
class Owners:
    """A table whose columns several parties hold, each with rows of its own in an order of its own."""

    table: Any
    target: Any
    columns: dict[str, Any]
    paths: dict[str, Path]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.paths)

    def aligned(self, task: str) -> Any:
        """Which rows of the table the parties have in common, in their common order."""
        digest = digests_of_one_part(task)
        common = range(len(self.names), len(self.table))  # each party lacks one of the first ones
        return np.array(sorted(common, key=lambda row: digest([row_id(row).encode()])))


def row_id(row: int) -> str:
    return f"row-{row:04}"


def split(table: Any, target: Any, names: tuple[str, ...], folder: Path) -> Owners:
    """Deal the columns out to ``names``; the first one holds the target as well."""
    columns: dict[str, Any] = {}
    paths = {}
    for at, name in enumerate(names):
        own = list(range(at, table.shape[1], len(names)))
        for each in own:
            low, high = float(table[:, each].min()), float(table[:, each].max())
            columns[f"x{each:02}"] = {"input": name, "kind": "number", "low": low, "high": high}
        rows = [row for row in np.random.default_rng(at).permutation(len(table)).tolist() if row != at]
        header = [ID, *(f"x{each:02}" for each in own), *(["y"] if at == 0 else [])]
        cells = [
            [row_id(row), *map(repr, table[row, own].tolist()), *([str(target[row])] if at == 0 else [])]
            for row in rows
        ]
        paths[name] = folder / f"{name}.csv"
        write_csv(paths[name], header, cells)
    return Owners(table, target, columns, paths)


def run(net: Network, owners: Owners, steps: tuple[JobStep, ...], columns: dict[str, Any]) -> Party3:
    """The parties of a task with ``steps``, not yet run."""
    held = {name: [key for key, each in columns.items() if each["input"] == name] for name in owners.names}
    count = len(owners.names)
    common = {"steps": steps, "columns": held, "timeouts": PATIENT}
    return Party3(net, net.new_task(count=count), owners.paths, count, common=common, deadline_s=DEADLINE_S)


def chain(owners: Owners, protocol: str, features: dict[str, Any], *more: JobStep) -> tuple[JobStep, ...]:
    """Alignment and features, and the steps that follow."""
    first = job_step("align", "psi", "RR22", owners.names)
    prepared = job_step("prepared", "features", protocol, owners.names, after=("align",), params=features)
    return (first, prepared, *more)


def trained(owners: Owners, algorithm: str, protocol: str, params: dict[str, Any]) -> JobStep:
    return job_step(
        "train", algorithm, protocol, owners.names,
        after=("prepared",), uses={"features": "prepared"}, params=params,
    )  # fmt: skip


def scored(owners: Owners, protocol: str, rows: str, reveal: str = "scores") -> JobStep:
    return job_step(
        "scores", "predict", protocol, owners.names, after=("prepared", "train"),
        uses={"features": "prepared", "model": "train"}, params={"rows": rows, "reveal": reveal, "digits": 6},
    )  # fmt: skip


def test_trees_of_three_parties_rank_new_rows_as_xgboost_on_the_pooled_table(net, tmp_path):
    xgboost = pytest.importorskip("xgboost")
    table, target = datasets.load_breast_cancer(return_X_y=True)
    owners = split(table[:, :9], target, NAMES, tmp_path)
    columns = {**owners.columns, "y": {"input": "bank", "kind": "indicator", "positive": "1"}}
    features = {"columns": columns, "target": "y", "edges": 7, "train": 0.75}
    quality = job_step(
        "quality", "evaluate", after=("scores",), uses={"scores": "scores"},
        params={"metrics": ["auc", "log_loss"], "min_group": 10},
    )  # fmt: skip
    steps = chain(
        owners, "ABY3", features, trained(owners, "boosted-trees", "ABY3", {"trees": 3, "depth": 3}),
        scored(owners, "ABY3", "held-out", "nothing"), quality,
    )  # fmt: skip
    party = run(net, owners, steps, columns)
    found = opened(net, party.run(), quality)

    order = owners.aligned(party.task)
    rows, labels = table[order, :9], target[order]
    train = int(0.75 * len(rows) + 0.5)
    edges = np.quantile(rows[:train], np.arange(1, 8) / 8, axis=0).T
    codes = (rows[:, :, None] >= edges[None]).sum(axis=2)
    given = {"max_depth": 3, "eta": 0.3, "lambda": 1, "tree_method": "exact", "objective": "binary:logistic"}
    given["base_score"] = float(1 / (1 + np.exp(-(4 * labels[:train].mean() - 2))))
    booster = xgboost.train(given, xgboost.DMatrix(codes[:train], labels[:train]), 3)
    chances = booster.predict(xgboost.DMatrix(codes[train:]))
    assert found["rows"] == len(rows) - train
    assert found["auc"] == pytest.approx(roc_auc_score(labels[train:], chances), abs=0.005)
    assert found["log_loss"] == pytest.approx(log_loss(labels[train:], chances), rel=0.01)


def test_clusters_of_two_parties_are_as_close_as_scikit_learns_on_the_pooled_table(net, tmp_path):
    table, target = datasets.load_iris(return_X_y=True)
    owners = split(table, target, NAMES[:2], tmp_path)
    asked = {"clusters": 3, "iterations": 6, "starts": 2, "seed": 1}
    train = trained(owners, "k-means", "CHEETAH", asked)
    party = run(net, owners, chain(owners, "CHEETAH", {"columns": owners.columns}, train), owners.columns)
    found = opened(net, party.run(), train)

    rows = table[owners.aligned(party.task)]
    rows = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    wanted = KMeans(3, n_init=10, random_state=0).fit(rows)
    assert found["inertia"] == pytest.approx(wanted.inertia_, rel=0.02)
    assert sum(each["rows"] for each in found["clusters"]) == len(rows)


def test_components_of_three_parties_place_every_row_where_scikit_learn_does(net, tmp_path):
    table, target = datasets.load_digits(return_X_y=True)
    table = table[:300][:, table[:300].std(axis=0) > 4]
    owners = split(table, target[:300], NAMES, tmp_path)
    features = {"columns": owners.columns, "standardise": False}
    scores = scored(owners, "ABY3", "all")
    steps = chain(owners, "ABY3", features, trained(owners, "pca", "ABY3", {"components": 2}), scores)
    party = run(net, owners, steps, owners.columns)
    found = np.array(opened(net, party.run(), scores)["scores"])

    rows = table[owners.aligned(party.task)]
    low, high = table.min(axis=0), table.max(axis=0)
    wanted = PCA(2, svd_solver="full").fit((rows - (low + high) / 2) / ((high - low) / 2))
    signs = [np.sign(axis[np.argmax(np.abs(axis))]) for axis in wanted.components_]
    placed = wanted.transform((rows - (low + high) / 2) / ((high - low) / 2)) * signs
    np.testing.assert_allclose(found, placed, atol=1e-3)
