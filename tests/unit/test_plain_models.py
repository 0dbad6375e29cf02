"""The plain models that an enclave's are held to are those that everybody knows."""

from __future__ import annotations

import numpy as np
import pytest

from sealtrace.deploy import plain_models

PARAMS = {
    "test_share": 0.25,
    "features": [
        {"column": "age", "scale": "standardise"},
        {"column": "home", "categories": ["own", "rent"]},
    ],
    "target": {"column": "paid", "positive": "no"},
}


def rows(count: int = 400) -> list[dict[str, str]]:
    chance = np.random.default_rng(7)
    ages = chance.integers(18, 80, count)
    homes = chance.choice(["own", "rent"], count)
    odds = 1 / (1 + np.exp((ages - 45) / 12 - (homes == "rent")))
    paid = chance.random(count) < odds
    return [
        {"age": str(age), "home": str(home), "paid": "no" if bad else "yes"}
        for age, home, bad in zip(ages, homes, paid, strict=True)
    ]


def test_ties_count_half_in_the_area_under_the_curve():
    assert plain_models.auc(np.array([1, 0, 1, 0]), np.array([0.9, 0.1, 0.5, 0.5])) == 0.875
    assert plain_models.auc(np.array([1, 0]), np.array([0.1, 0.9])) == 0


def test_rows_kept_out_are_a_quarter_and_teach_the_features_nothing():
    made = plain_models.halves(rows(), PARAMS, seed=1)
    assert (len(made.train[1]), len(made.test[1])) == (300, 100)
    assert made.train[0][:, 0].mean() == pytest.approx(0, abs=1e-12)
    assert made.test[0][:, 0].mean() != pytest.approx(0, abs=1e-6)


def test_the_plain_logistic_regression_is_scikit_learns():
    linear = pytest.importorskip("sklearn.linear_model")
    metrics = pytest.importorskip("sklearn.metrics")
    made = plain_models.halves(rows(), PARAMS, seed=1)
    model = linear.LogisticRegression(C=1 / 2, tol=1e-10, max_iter=1000).fit(*made.train)
    expected = metrics.roc_auc_score(made.test[1], model.decision_function(made.test[0]))
    assert plain_models.logistic(made, {"penalty": 2})["test"] == pytest.approx(expected, abs=1e-3)
