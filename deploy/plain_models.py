"""Models of one plain table, trained by XGBoost and SciPy directly: what an enclave's models are held to.

Nothing of the bundles' own code is used: what agrees was computed twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Floats = Any
Rows = Sequence[Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Halves:
    """Features and truth of the rows to train on, and of those kept out."""

    train: tuple[Floats, Floats]
    test: tuple[Floats, Floats]


def halves(rows: Rows, params: Mapping[str, Any], seed: int) -> Halves:
    """The features that ``params`` name of ``rows``, divided by the enclave's seeded permutation."""
    order = np.random.default_rng(seed).permutation(len(rows))
    out = round(params["test_share"] * len(rows))
    train, test = np.sort(order[out:]), np.sort(order[:out])
    made = np.hstack([_feature(rows, each, train) for each in params["features"]])
    target = params["target"]
    truth = np.array([float(row[target["column"]] == target["positive"]) for row in rows])
    return Halves((made[train], truth[train]), (made[test], truth[test]))


def boosted(data: Halves, asked: Mapping[str, Any]) -> dict[str, float]:
    """The AUC of XGBoost on both halves."""
    import xgboost

    matrix, truth = data.train
    settings = {
        "objective": "binary:logistic",
        "base_score": float(truth.mean()),
        "max_depth": asked["depth"],
        "eta": asked["rate"],
        "min_child_weight": asked["min_weight"],
        "tree_method": "hist",
        "nthread": 1,
    }
    model = xgboost.train(settings, xgboost.DMatrix(matrix, label=truth), asked["rounds"])
    return _measured(data, lambda cells: model.predict(xgboost.DMatrix(cells)))


def logistic(data: Halves, asked: Mapping[str, Any]) -> dict[str, float]:
    """The AUC of a logistic regression with an L2 penalty on both halves, by SciPy's BFGS."""
    from scipy.optimize import minimize

    matrix, truth = data.train

    def objective(weights: Floats) -> float:
        margins = matrix @ weights[:-1] + weights[-1]
        loss = np.logaddexp(0, margins) - truth * margins
        return float(loss.sum() + asked["penalty"] / 2 * weights[:-1] @ weights[:-1])

    def gradient(weights: Floats) -> Floats:
        off = 1 / (1 + np.exp(-(matrix @ weights[:-1] + weights[-1]))) - truth
        return np.append(matrix.T @ off + asked["penalty"] * weights[:-1], off.sum())

    found = minimize(objective, np.zeros(matrix.shape[1] + 1), jac=gradient, method="BFGS").x
    return _measured(data, lambda cells: cells @ found[:-1] + found[-1])


def auc(truth: Floats, scores: Floats) -> float:
    """Area under the ROC curve: how often a positive row has the higher score of a pair; ties count half."""
    above = scores[truth == 1][:, None] - scores[truth == 0][None, :]
    return float((above > 0).mean() + (above == 0).mean() / 2)


def _measured(data: Halves, score: Any) -> dict[str, float]:
    return {name: auc(truth, score(cells)) for name, (cells, truth) in _named(data)}


def _named(data: Halves) -> Sequence[tuple[str, tuple[Floats, Floats]]]:
    return (("train", data.train), ("test", data.test))


def _feature(rows: Rows, feature: Mapping[str, Any], train: Floats) -> Floats:
    cells = [row[feature["column"]] for row in rows]
    if "categories" in feature:
        return np.array([[float(cell == one) for one in feature["categories"]] for cell in cells])
    values = np.array([float(cell) for cell in cells])
    if feature.get("scale") == "standardise":
        values = (values - values[train].mean()) / values[train].std()
    return values[:, None]
