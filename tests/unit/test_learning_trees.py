"""Boosted trees on shares, against a search for the best splits in numpy, and against XGBoost."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("spu")

import jax
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from learning_steps import on_shares, program, taken, train
from sklearn import datasets
from sklearn.metrics import roc_auc_score

from sealtrace.algorithms.learning import trees

jax.config.update("jax_enable_x64", True)
GROWTH = trees.Growth("logit", 3, 3, 0.3, 1.0, 0.0, 1.0, 0)
PARTS = ("selector", "threshold", "leaf", "base", "loss", "gain", "used")
INDICATOR = {"name": "y", "kind": "indicator", "low": 0, "high": 1}


def features(values: Any, steps: int, rows: int) -> tuple[Any, Any, Any]:
    """Numbers within [-1, 1], thresholds at their quantiles, and where the numbers are below."""
    low, high = values.min(axis=0), values.max(axis=0)
    matrix = (values - low) / (high - low) * 2 - 1
    edges = np.quantile(matrix[:rows], np.arange(1, steps + 1) / (steps + 1), axis=0).T
    return matrix, edges, (matrix[:, :, None] < edges[None]).astype(float)


def grown(below: Any, edges: Any, target: Any, rows: int, growth: trees.Growth, **how: Any) -> dict[str, Any]:
    def fit(below: Any, edges: Any, target: Any) -> Any:
        forest = trees.fit(below, edges, target, None, rows, growth)
        return tuple(getattr(forest, each) for each in PARTS)

    found = on_shares(fit, below, edges, target, **how)
    return dict(zip(PARTS, map(np.asarray, found), strict=True))


def scores(forest: dict[str, Any], matrix: Any) -> Any:
    """The trees walked in numpy, row by row."""
    found = np.full(len(matrix), float(forest["base"][0]))
    for selector, threshold, leaf in zip(
        forest["selector"], forest["threshold"], forest["leaf"], strict=True
    ):
        at = np.zeros(len(matrix), dtype=int)
        while (at < len(threshold)).any():
            chosen = (matrix * selector[at]).sum(axis=1)
            at = 2 * at + np.where(chosen < threshold[at] - 1e-9, 1, 2)
        found += leaf[at - len(threshold)]
    return found


@pytest.fixture(scope="module")
def cancer() -> tuple[Any, ...]:
    """Rows in an order in which no two splits of the first tree gain alike: which one is taken of two that do
    is a matter of the last bit, which shares do not have."""
    values, target = datasets.load_breast_cancer(return_X_y=True)
    order = np.random.default_rng(11).permutation(len(target))
    return (*features(values[order], 8, 400), target[order].astype(float))


@pytest.fixture(scope="module")
def forest(cancer) -> dict[str, Any]:
    _, edges, below, target = cancer
    return grown(below, edges, target, 400, replace(GROWTH, trees=5))


def xgboosted(cancer_like: tuple[Any, ...], rows: int, rounds: int, **params: Any) -> Any:
    xgboost = pytest.importorskip("xgboost")
    _, edges, below, target = cancer_like
    codes = edges.shape[1] - below.sum(axis=2)
    given = {"max_depth": 3, "eta": 0.3, "lambda": 1, "min_child_weight": 1, "tree_method": "exact", **params}
    booster = xgboost.train(given, xgboost.DMatrix(codes[:rows], target[:rows]), rounds)
    return booster.predict(xgboost.DMatrix(codes), output_margin=True)


def test_the_first_tree_is_xgboosts(forest, cancer):
    base = 1 / (1 + np.exp(-float(forest["base"][0])))
    wanted = xgboosted(cancer, 400, 1, objective="binary:logistic", base_score=base)
    first = {each: forest[each][:1] for each in ("selector", "threshold", "leaf", "base")}
    np.testing.assert_allclose(scores(first, cancer[0])[:400], wanted[:400], atol=1e-4)


def test_held_out_rows_are_ranked_as_well_as_by_xgboost(forest, cancer):
    wanted = xgboosted(cancer, 400, 5, objective="binary:logistic")
    ours, theirs = (
        roc_auc_score(cancer[3][400:], each[400:]) for each in (scores(forest, cancer[0]), wanted)
    )
    assert ours == pytest.approx(theirs, abs=0.005)


def test_numbers_are_predicted_as_well_as_by_xgboost():
    values, target = datasets.load_diabetes(return_X_y=True)
    target = (target - target.min()) / (target.max() - target.min()) * 2 - 1
    table = (*features(values, 8, 300), target)
    found = grown(table[2], table[1], target, 300, replace(GROWTH, link="identity", trees=4))
    wanted = xgboosted(table, 300, 4, objective="reg:squarederror")
    errors = [
        float(np.sqrt(np.mean((each - target)[300:] ** 2))) for each in (scores(found, table[0]), wanted)
    ]
    assert errors[0] == pytest.approx(errors[1], rel=0.01)
    assert found["loss"][-1] == pytest.approx(errors[0] ** 2, rel=1e-4)


def assert_best_splits(
    found: dict[str, Any], matrix: Any, edges: Any, target: Any, growth: trees.Growth
) -> None:
    """Every split gains as much as the best one that numpy finds, and every leaf is its rows' Newton step."""
    margin = np.full(len(target), float(found["base"][0]))
    for tree in range(growth.trees):
        chance = 1 / (1 + np.exp(-margin)) if growth.link == "logit" else margin
        bend = chance * (1 - chance) if growth.link == "logit" else np.ones_like(margin)
        slope, nodes = chance - target, {0: np.ones(len(target), dtype=bool)}
        for node in range(2**growth.depth - 1):
            rows, chosen = nodes[node], found["selector"][tree][node]
            left = (matrix @ chosen) < found["threshold"][tree][node] - 1e-9
            gains = [
                gain_of(rows, matrix[:, at] < edge, slope, bend, growth)
                for at, row in enumerate(edges)
                for edge in row
            ]
            reached = gain_of(rows, left, slope, bend, growth) if chosen.max() > 0.5 else 0.0
            best = max(gains)
            assert reached == pytest.approx(best if best > growth.gamma else 0.0, abs=1e-4)
            nodes |= {2 * node + 1: rows & left, 2 * node + 2: rows & ~left}
        for at, value in enumerate(found["leaf"][tree]):
            rows = nodes[2**growth.depth - 1 + at]
            wanted = -growth.rate * slope[rows].sum() / (bend[rows].sum() + growth.penalty)
            assert value == pytest.approx(wanted, abs=1e-4)
            margin[rows] += value


def gain_of(rows: Any, left: Any, slope: Any, bend: Any, growth: trees.Growth) -> float:
    """What a split gains, 0 where a child is too light."""
    sides = [rows & left, rows & ~left]
    if min(bend[side].sum() for side in sides) < growth.least_weight:
        return 0.0
    worth = [slope[each].sum() ** 2 / (bend[each].sum() + growth.penalty) for each in (*sides, rows)]
    return float(worth[0] + worth[1] - worth[2])


@settings(max_examples=5, deadline=None, derandomize=True)
@given(
    st.integers(10, 40), st.integers(1, 4), st.integers(1, 5), st.integers(1, 3),
    st.sampled_from(["logit", "identity"]), st.integers(0, 2**32),
)  # fmt: skip
def test_splits_of_tables_of_any_shape_are_the_best(rows, width, steps, depth, link, seed):
    chance = np.random.default_rng(seed)
    matrix, edges, below = features(chance.normal(size=(rows, width)), steps, rows)
    target = np.clip(matrix[:, 0] + chance.normal(0, 0.3, rows), -1, 1)
    target = (target > 0).astype(float) if link == "logit" else target
    growth = replace(GROWTH, link=link, trees=2, depth=depth, least_weight=0.517, gamma=0.01)
    found = grown(below, edges, target, rows, growth)
    assert_best_splits(found, matrix, edges, target, growth)


def test_trees_after_the_held_out_loss_stops_falling_have_leaves_of_zero():
    chance = np.random.default_rng(4)
    _, edges, below = features(chance.normal(size=(80, 3)), 5, 60)
    growth = replace(GROWTH, trees=6, patience=2, rate=1.0)
    target = (chance.random(80) < 0.5).astype(float)  # there is nothing to learn
    found = grown(below, edges, target, 60, growth)
    used = int(found["used"].round())
    wanted = next(
        at
        for at in range(7)
        if at >= 2 and found["loss"][: at - 1].min() <= found["loss"][at - 1 : at + 1].min()
    )
    assert 0 < used == wanted < 6
    assert np.abs(found["leaf"][:used]).max(axis=1).min() > 0.01
    np.testing.assert_allclose(found["leaf"][used:], 0.0, atol=1e-9)


def test_two_parties_grow_the_same_tree():
    chance = np.random.default_rng(5)
    matrix, edges, below = features(chance.normal(size=(30, 2)), 3, 30)
    target = (matrix[:, 0] + chance.normal(0, 0.2, 30) > 0).astype(float)
    growth = replace(GROWTH, trees=1, depth=2)
    found = grown(below, edges, target, 30, growth, protocol="CHEETAH")
    assert_best_splits(found, matrix, edges, target, growth)


def test_weights_count_as_rows_do():
    chance = np.random.default_rng(6)
    matrix, edges, below = features(chance.normal(size=(40, 2)), 4, 40)
    target, weight = (matrix[:, 0] > 0.2).astype(float), chance.integers(1, 3, 40)
    one = trees.fit(below, edges, target, weight.astype(float), 40, GROWTH)
    many = np.repeat(np.arange(40), weight)
    other = trees.fit(below[many], edges, target[many], None, len(many), GROWTH)
    np.testing.assert_allclose(one.leaf, other.leaf, atol=1e-9)


# --- the step


def step(rows: int = 40, train_rows: int = 30, **more: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    chance = np.random.default_rng(7)
    matrix, edges, below = features(chance.normal(size=(rows, 2)), 3, train_rows)
    target = (matrix[:, 1] > 0).astype(float)
    arrays = {"matrix": matrix, "target": target, "edges": edges, "below": below}
    return {**taken(train_rows, INDICATOR, **arrays), "trees": 2, "depth": 2, **more}, arrays


def test_a_step_gives_secret_trees_and_shows_them_only_if_asked():
    params, arrays = step(reveal="model")
    result, model = train("boosted-trees", params, **arrays)
    assert (result["rows"], result["trees"], len(result["held_out_loss"])) == (30, 2, 3)
    assert result["importance"]["f1"] > 0.9
    assert sum(result["importance"].values()) == pytest.approx(1)
    assert result["model"]["trees"][0]["nodes"][0]["feature"] == "f1"
    assert result["model"]["trees"][1]["leaves"] == pytest.approx(model["leaf"][1].tolist(), abs=1e-9)
    assert program("boosted-trees").outputs({**params, "reveal": "summary"}) == ["used", "loss", "gain"]
    about = program("boosted-trees").gives(params, {})["model"]["about"]
    assert (about["family"], about["link"], about["depth"]) == ("trees", "logit", 2)
    assert "rows" not in about["features"]


BAD = [
    ({"trees": 51}, "trees: a whole number from 1 to 50"),
    ({"lambda": 0}, "lambda: a number from 0.01 to 1000"),
    ({"reveal": "all"}, "reveal: one of summary, model"),
    ({"forest": 1}, "params.forest is not known; there are trees, depth"),
]


@pytest.mark.parametrize(("change", "said"), BAD)
def test_settings_that_make_no_sense_are_refused(change, said):
    with pytest.raises(ValueError, match=said):
        program("boosted-trees").check(change, [])


UNFIT = [
    ({"edges": 0}, "set edges in the step that makes the features"),
    ({"target": None}, "trees need a target that is an indicator or a number"),
    ({"target": {**INDICATOR, "kind": "count"}}, "trees need a target that is an indicator or a number"),
    ({"train": 40}, "patience needs rows that are held out"),
    ({"train": 9}, "there are 9 training rows, 10 are needed"),
    ({"rows": 1 << 26}, "with these settings 22369621 fit in memory"),
]


@pytest.mark.parametrize(("change", "said"), UNFIT)
def test_features_that_no_tree_grows_on_are_refused(change, said):
    params, _ = step(patience=1)
    params["taken"]["features"]["about"] |= change
    with pytest.raises(ValueError, match=said):
        program("boosted-trees").rows(params, {})
