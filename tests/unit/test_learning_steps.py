"""Features and glm one after the other, as their programs say: two owners' tables to a named model."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("spu")

import jax
import numpy as np
from learning_steps import number, run
from sklearn import datasets
from sklearn.linear_model import LinearRegression, LogisticRegression

from sealtrace.algorithms.features import program as features
from sealtrace.algorithms.glm import program as glm

jax.config.update("jax_enable_x64", True)


@pytest.fixture(scope="module")
def diabetes() -> Any:
    """Two owners' standardised features of diabetes, and the table."""
    table, target = datasets.load_diabetes(return_X_y=True)
    names = [f"x{at}" for at in range(10)]
    declared: dict[str, Any] = {}
    tables: dict[str, Any] = {"clinic": {}, "lab": {}}
    for at, name in enumerate(names):
        where = "clinic" if at % 2 else "lab"
        declared |= number(name, where, table[:, at])
        tables[where][name] = table[:, at]
    declared |= number("progress", "lab", target)
    tables["lab"]["progress"] = target
    _, given = run(features, {"columns": declared, "target": "progress", "train": 0.8}, tables, {})
    return table, target, given["features"]


def test_coefficients_of_two_owners_are_those_of_their_own_units(diabetes):
    table, target, given = diabetes
    found, _ = run(glm, {"family": "linear", "reveal": "coefficients"}, {}, {"features": given})
    train = found["train"]
    wanted = LinearRegression().fit(table[:train], target[:train])
    original = [each["original"] for each in found["coefficients"]]
    np.testing.assert_allclose(original, wanted.coef_, rtol=1e-2, atol=0.1)
    assert found["intercept"]["original"] == pytest.approx(wanted.intercept_, rel=1e-2)
    assert [each["feature"] for each in found["coefficients"]] == [f"x{at}" for at in range(10)]
    error = np.mean((wanted.predict(table[train:]) - target[train:]) ** 2)
    assert found["held_out_loss"] == pytest.approx(error, rel=1e-3)
    assert found["converged"] is True


def test_a_summary_opens_neither_coefficients_nor_means(diabetes):
    params = {"family": "linear", "taken": {"features": diabetes[2]["facts"]}}
    assert glm.outputs(params) == ["loss", "fits", "iterations", "converged", "held_out"]
    found, given = run(glm, {"family": "linear"}, {}, {"features": diabetes[2]})
    assert "coefficients" not in found
    assert given["model"]["facts"]["about"]["link"] == "identity"
    assert [each[0] for each in given["model"]["facts"]["arrays"]] == [
        "weights",
        "intercept",
        "shift",
        "scale",
    ]


def test_a_model_that_ran_away_is_named_so_and_shows_no_coefficients(diabetes):
    wild = {
        "family": "linear",
        "method": "sgd",
        "iterations": 1,
        "learning_rate": 1,
        "reveal": "coefficients",
    }
    found, _ = run(glm, wild, {}, {"features": diabetes[2]})
    assert (found["converged"], found["reason"]) == (False, "no_better_than_an_intercept")
    assert "coefficients" not in found


def test_a_model_that_needs_more_iterations_says_so(diabetes):
    found, _ = run(
        glm, {"family": "linear", "method": "sgd", "iterations": 3, "learning_rate": 0.02}, {},
        {"features": diabetes[2]},
    )  # fmt: skip
    assert (found["converged"], found["reason"]) == (False, "iterations_used_up")


def test_the_best_weights_are_kept_and_nobody_is_told_of_which_epoch(diabetes):
    asked = {"family": "linear", "method": "sgd", "keep": "best", "iterations": 4, "learning_rate": 0.02}
    params = {**asked, "taken": {"features": diabetes[2]["facts"]}}
    assert glm.outputs(params) == ["loss", "fits", "held_out"]
    found, _ = run(glm, asked, {}, {"features": diabetes[2]})
    assert found["iterations"] == 4
    assert "converged" not in found
    assert "reason" not in found
    last, _ = run(glm, {**asked, "keep": "last"}, {}, {"features": diabetes[2]})
    assert found["held_out_loss"] <= last["held_out_loss"] * (1 + 1e-6)


def test_a_scorecard_s_points_add_up_to_the_log_odds():
    chance = np.random.default_rng(2)
    rows = 300
    age, kind = chance.uniform(20, 80, rows), chance.choice(["a", "b", "c"], rows)
    score = (age - 50) / -15 + (kind == "a") - 0.5
    bad = np.where(chance.uniform(size=rows) < 1 / (1 + np.exp(-score)), "yes", "no")
    declared = {
        "age": {"kind": "bins", "input": "shop", "edges": [20, 40, 60, 80], "woe": True},
        "kind": {"kind": "category", "input": "bank", "categories": ["a", "b", "c"], "woe": True},
        "bad": {"kind": "indicator", "input": "bank", "positive": "yes"},
    }
    tables = {"bank": {"kind": kind, "bad": bad}, "shop": {"age": age}}
    _, given = run(features, {"columns": declared, "target": "bad"}, tables, {})
    asked = {"family": "logistic", "l2": 0.01, "reveal": "coefficients",
             "points": {"base": 600, "odds": 50, "double": 20}}  # fmt: skip
    found, _ = run(glm, asked, {}, given)
    card = found["scorecard"]
    points = {(each["column"], each["bin"]): each["points"] for each in card["bins"]}
    bins = np.array(["[20, 40)", "[40, 60)", "[60, 80]"])[np.digitize(age, [40, 60])]
    total = [
        card["base_points"] + points["age", b] + points["kind", k] for b, k in zip(bins, kind, strict=True)
    ]
    evidence = {(each["column"], each["bin"]): each["woe"] for each in card["bins"]}
    raw = np.array([[evidence["age", b], evidence["kind", k]] for b, k in zip(bins, kind, strict=True)])
    matrix = (raw - raw.mean(axis=0)) / raw.std(axis=0)
    plain = LogisticRegression(C=1 / (0.01 * rows), tol=1e-9).fit(matrix, bad == "yes")
    factor = 20 / np.log(2)
    wanted = 600 - factor * np.log(50) - factor * plain.decision_function(matrix)
    np.testing.assert_allclose(total, wanted, atol=0.05)


# --- what is refused


@pytest.mark.parametrize(
    ("program", "params"),
    [
        (glm, {"family": "linear"}),
        (features, {"columns": {"age": {"kind": "number", "input": "a", "low": 0, "high": 1}}}),
        (features, {"apply": True, "columns": {"age": {"kind": "number", "input": "a"}}}),
    ],
)
def test_nobody_may_write_what_a_step_takes(program, params):
    program.check(params, ["a"])
    with pytest.raises(ValueError, match="taken is not known"):
        program.check({**params, "taken": {}}, ["a"])


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"family": "probit"}, "family: one of logistic"),
        ({"family": "linear", "method": "guess"}, "method: one of irls"),
        ({"family": "linear", "iterations": 0}, "iterations: a whole number"),
        ({"family": "linear", "l2": -1}, "l2: a number from 0"),
        ({"family": "linear", "tolerance": 0}, "tolerance: a number"),
        ({"family": "linear", "momentum": 1}, "momentum: a number"),
        ({"family": "linear", "batch": 0}, "batch: a whole number"),
        ({"family": "linear", "keep": "first"}, "keep: one of last, best"),
        ({"family": "linear", "keep": "best"}, "keep: best is of the epochs of method: sgd"),
        ({"family": "linear", "reveal": "all"}, "reveal: one of summary"),
        ({"family": "linear", "taste": 1}, "taste is not known"),
        ({"family": "logistic", "points": {"base": 600, "odds": 50, "double": 20}}, "needs reveal"),
        ({"family": "logistic", "reveal": "coefficients", "points": {"base": 600}}, "points: double, odds"),
    ],
)
def test_a_regression_that_makes_no_sense_is_refused_in_words(wrong, words):
    with pytest.raises(ValueError, match=words):
        glm.check(wrong, [])


def taken(**changed: Any) -> dict[str, Any]:
    facts = {
        "rows": 90, "train": 90, "names": ["age"], "edges": 0, "target": {"kind": "indicator"},
        "columns": {"age": {"kind": "number", "low": 0, "high": 1}},
    }  # fmt: skip
    return {"taken": {"features": {"about": facts | changed, "arrays": []}}}


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"family": "linear", **taken()}, "target is of kind number"),
        ({"family": "logistic", **taken(target=None)}, "target is of kind indicator"),
        ({"family": "logistic", **taken(edges=4)}, "those with edges are for trees"),
        (
            {"family": "logistic", "method": "sgd", "keep": "best", **taken()},
            "keep: best needs rows that are held out",
        ),
        ({"family": "logistic", **taken(train=1)}, "as many features as training rows"),
        (
            {"family": "logistic", "reveal": "coefficients",
             "points": {"base": 600, "odds": 50, "double": 20}, **taken()},
            "every column of a scorecard",
        ),
    ],
)  # fmt: skip
def test_features_that_a_family_cannot_learn_from_are_refused_in_words(params, words):
    with pytest.raises(ValueError, match=words):
        glm.rows(params, {})


@pytest.mark.parametrize(
    ("held", "words"),
    [({"a": 20, "b": 21}, "align them first"), ({"a": 9, "b": 9}, "fewer than min_rows"),
     ({"a": 1 << 21, "b": 1 << 21}, "at most 2.20 rows")],
)  # fmt: skip
def test_rows_that_do_not_fit_together_are_refused_in_words(held, words):
    declared = {name: {"kind": "number", "input": name, "low": 0, "high": 1} for name in ("a", "b")}
    with pytest.raises(ValueError, match=words):
        features.rows({"columns": declared}, held)
