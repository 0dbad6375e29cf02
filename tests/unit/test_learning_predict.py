"""Predicting and evaluating on shares: the bundles' own functions, one step after the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

pytest.importorskip("spu")

import jax
import numpy as np
import spu
from sklearn import metrics as sk
from spu.utils import frontend
from spu.utils.simulation import Simulator

from sealtrace.algorithms.evaluate import program as evaluate
from sealtrace.algorithms.predict import program as predict

PARTIES = {"ABY3": 3, "CHEETAH": 2}
ROWS, TRAIN, WIDTH = 240, 120, 3
NAMES = ["age", "debt", "income"]
BAD = {"name": "bad", "kind": "indicator", "low": 0, "high": 1}
PRICE = {"name": "price", "kind": "number", "low": 100, "high": 500}
VISITS = {"name": "visits", "kind": "count", "low": 0, "high": 1000}

Value = dict[str, Any]


def value(kind: str, about: Mapping[str, Any], **arrays: Any) -> Value:
    """A value of an earlier step: its public facts, and beside them its arrays in the clear."""
    return {"kind": kind, "about": dict(about), "held": {name: np.asarray(a) for name, a in arrays.items()}}


def described(made: Value) -> dict[str, Any]:
    arrays = [[name, list(each.shape), "float64"] for name, each in made["held"].items()]
    return {"kind": made["kind"], "about": made["about"], "arrays": arrays}


def run(program: Any, params: Any, protocol: str = "ABY3", **taken: Value) -> tuple[dict[str, Any], Any]:
    """One step on shares: what the requester gets, and the scores handed on (``None`` if there are none)."""
    jax.config.update("jax_enable_x64", True)
    program.check(params, [])
    assert program.takes(params) == {role: each["kind"] for role, each in taken.items()}
    known = {**params, "taken": {role: described(each) for role, each in taken.items()}}
    rows = program.rows(known, {})
    arrays = [each for role in sorted(taken) for each in taken[role]["held"].values()]
    names = [f"in{at}" for at in range(len(arrays))]
    specs = [jax.ShapeDtypeStruct(each.shape, each.dtype) for each in arrays]
    executable, _ = frontend.compile(
        frontend.Kind.JAX, program.program(known, {}), specs, {}, names,
        [spu.Visibility.VIS_SECRET] * len(arrays), lambda found: [f"out{at}" for at in range(len(found))],
    )  # fmt: skip
    field, bits = program.arithmetic(known, rows)
    config = spu.RuntimeConfig(
        protocol=spu.parse_protocol_kind(protocol), field=spu.parse_field_type(field), fxp_fraction_bits=bits
    )
    found = list(Simulator(PARTIES[protocol], config)(executable, *arrays))
    opened = dict(zip(program.outputs(known), found, strict=False))
    gives = program.gives(known, {})["scores"] if hasattr(program, "gives") else None
    if gives is not None:
        handed = found[len(opened) :]
        assert [list(each.shape) for each in handed] == [shape for _, shape, _ in gives["arrays"]]
        pairs = zip(gives["arrays"], handed, strict=True)
        gives = value("scores", gives["about"], **{name: each for (name, *_), each in pairs})
    return program.finish(known, rows, opened), gives


def features(target: Any = BAD, seed: int = 1, weighted: bool = False, **more: Any) -> Value:
    rng = np.random.default_rng(seed)
    matrix = np.round(rng.uniform(-1, 1, (ROWS, WIDTH)), 1)  # few distinct values: thresholds are hit
    effect = matrix @ [2.0, -1.0, 0.5]
    values = {
        "indicator": (rng.random(ROWS) < 1 / (1 + np.exp(-effect))).astype(float),
        "number": np.clip(effect / 4 + rng.normal(0, 0.1, ROWS), -1, 1),
        "count": rng.poisson(np.exp(effect)).astype(float),
    }
    about = {
        "rows": ROWS, "train": TRAIN, "names": NAMES, "columns": {each: {"kind": "number"} for each in NAMES},
        "standardise": "shift" in more, "target": target, "weighted": weighted, "edges": 0,
    }  # fmt: skip
    arrays = {"matrix": matrix} | ({"target": values[target["kind"]]} if target else {})
    arrays |= {"weight": rng.uniform(0.5, 1.5, ROWS)} if weighted else {}
    return value("features", about, **(arrays | more))


def model(family: str, link: str | None, of: Value, **arrays: Any) -> Value:
    about = {each: fact for each, fact in of["about"].items() if each not in ("rows", "train")}
    own = {each: of["held"][each] for each in ("shift", "scale") if each in of["held"]}
    return value("model", {"family": family, "link": link, "features": about}, **(arrays | own))


def glm(link: str, of: Value) -> Value:
    return model("glm", link, of, weights=[2.0, -1.0, 0.5], intercept=[0.1])


ALL = {"rows": "all", "reveal": "scores", "digits": 5}


# --- applying a model


@pytest.mark.parametrize("protocol", ["ABY3", "CHEETAH"])
def test_a_logistic_model_gives_each_row_its_probability(protocol):
    made = features()
    found, _ = run(predict, ALL, protocol, features=made, model=glm("logit", made))
    wanted = 1 / (1 + np.exp(-(made["held"]["matrix"] @ [2.0, -1.0, 0.5] + 0.1)))
    assert (found["rows"], found["of"], found["revealed"]) == (ROWS, "probability", "scores")
    np.testing.assert_allclose(found["scores"], wanted, atol=7e-6)


def test_a_number_is_revealed_in_its_own_unit_and_handed_on_in_units_of_its_bounds():
    made = features(PRICE)
    found, scores = run(predict, ALL, features=made, model=glm("identity", made))
    wanted = made["held"]["matrix"] @ [2.0, -1.0, 0.5] + 0.1
    np.testing.assert_allclose(found["scores"], 300 + 200 * wanted, atol=1e-5)
    np.testing.assert_allclose(scores["held"]["score"], wanted, atol=1e-9)


def test_a_count_is_the_exponential_of_its_effects():
    made = features(VISITS)
    found, _ = run(predict, ALL, features=made, model=glm("log", made))
    wanted = np.exp(made["held"]["matrix"] @ [2.0, -1.0, 0.5] + 0.1)
    np.testing.assert_allclose(found["scores"], wanted, rtol=1e-5, atol=1e-5)


def forest(rng: Any, matrix: Any) -> dict[str, Any]:
    """Three trees of depth 2 whose thresholds are values of the matrix; one node does not split."""
    selector = np.eye(WIDTH)[rng.integers(0, WIDTH, (3, 3))]
    threshold = rng.choice(matrix.ravel(), (3, 3))
    selector[1, 2], threshold[1, 2] = 0.0, 1.0
    return {"selector": selector, "threshold": threshold, "leaf": rng.normal(0, 1, (3, 4)), "base": [0.2]}


def walked(row: Any, trees: Mapping[str, Any]) -> float:
    """What the trees say of a row, one comparison after the other."""
    total = float(trees["base"][0])
    for selector, threshold, leaf in zip(trees["selector"], trees["threshold"], trees["leaf"], strict=True):
        node = 0
        while node < len(threshold):
            node = 2 * node + (1 if selector[node] @ row < threshold[node] else 2)
        total += leaf[node - len(threshold)]
    return total


def test_trees_send_a_row_that_equals_a_threshold_to_the_right_as_in_training():
    made = features(PRICE)
    trees = forest(np.random.default_rng(4), made["held"]["matrix"])
    hits = (made["held"]["matrix"][:, None] == trees["threshold"].ravel()[:, None]).sum()
    assert hits > 50
    _, scores = run(predict, ALL, features=made, model=model("trees", "identity", made, **trees))
    wanted = [walked(row, trees) for row in made["held"]["matrix"]]
    np.testing.assert_allclose(scores["held"]["score"], wanted, atol=1e-8)


def test_clusters_are_the_nearest_centres_and_components_the_projections():
    made = features()
    rng = np.random.default_rng(6)
    centres, axes, mean = rng.normal(0, 1, (4, WIDTH)), rng.normal(0, 1, (WIDTH, 2)), rng.normal(0, 1, WIDTH)
    clusters = model("k-means", None, made, centres=centres)
    found, _ = run(predict, ALL, features=made, model=clusters)
    matrix = made["held"]["matrix"]
    assert found["scores"] == np.argmin(((matrix[:, None] - centres) ** 2).sum(-1), axis=1).tolist()
    projected = model("pca", None, made, mean=mean, axes=axes, variance=[1.0, 0.5])
    found, scores = run(predict, ALL, features=made, model=projected)
    np.testing.assert_allclose(found["scores"], (matrix - mean) @ axes, atol=1e-5)
    assert scores["about"]["of"] == "components"


def test_new_features_are_standardised_as_the_training_rows_were():
    trained = features(PRICE, shift=[0.1, 0.0, -0.2], scale=[2.0, 3.0, 0.0])
    raw, other = features(PRICE), features(PRICE, shift=[0.3, -0.5, 0.0], scale=[1.5, 4.0, 0.7])
    other["held"]["matrix"] = (raw["held"]["matrix"] - [0.3, -0.5, 0.0]) * [1.5, 4.0, 0.7]
    wanted = ((raw["held"]["matrix"] - [0.1, 0.0, -0.2]) * [2.0, 3.0, 0.0]) @ [2.0, -1.0, 0.5] + 0.1
    for given in (raw, other):
        _, scores = run(predict, ALL, features=given, model=glm("identity", trained))
        np.testing.assert_allclose(scores["held"]["score"], wanted, atol=1e-6)


# --- what is opened, of which rows


@pytest.mark.parametrize(("rows", "part"), [("held-out", slice(TRAIN, None)), ("train", slice(0, TRAIN))])
def test_held_out_and_training_rows_keep_their_targets_and_weights(rows, part):
    made = features(weighted=True)
    _, scores = run(predict, {"rows": rows, "reveal": "nothing"}, features=made, model=glm("logit", made))
    for each in ("target", "weight"):
        np.testing.assert_allclose(scores["held"][each], made["held"][each][part], atol=1e-9)
    assert (scores["about"]["rows"], scores["about"]["weighted"]) == (TRAIN, True)


def test_nothing_is_opened_unless_the_task_says_so():
    made = features()
    params = {"rows": "all", "reveal": "nothing"}
    found, _ = run(predict, params, features=made, model=glm("logit", made))
    assert found == {"rows": ROWS, "of": "probability", "revealed": "nothing"}
    known = {**params, "taken": {"features": described(made), "model": described(glm("logit", made))}}
    assert predict.outputs(known) == []


@pytest.mark.parametrize("digits", [0, 2])
def test_no_more_digits_are_opened_than_asked_for(digits):
    made = features()
    params = {**ALL, "digits": digits}
    known = {**params, "taken": {"features": described(made), "model": described(glm("logit", made))}}
    arrays = [each for one in (made, glm("logit", made)) for each in one["held"].values()]
    opened = np.asarray(predict.program(known, {})(*arrays)[0])
    assert opened.dtype == np.int64
    assert set(opened.tolist()) <= set(range(10**digits + 1))
    found, _ = run(predict, params, features=made, model=glm("logit", made))
    wanted = 1 / (1 + np.exp(-(made["held"]["matrix"] @ [2.0, -1.0, 0.5] + 0.1)))
    np.testing.assert_allclose(found["scores"], wanted, atol=0.5 / 10**digits + 1e-6)
    np.testing.assert_array_equal(np.round(found["scores"], digits), found["scores"])


# --- refusals


def edited(made: Value, **facts: Any) -> Value:
    return {**made, "about": {**made["about"], **facts}}


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        (
            {"names": ["age", "debts", "income"]},
            "feature 2 is 'debt' in the model and 'debts' in the features",
        ),
        ({"names": NAMES[:2]}, "the model has 3 features, 2 are given"),
        ({"columns": {"age": {"kind": "number", "low": 1}}}, "column 'age' is declared as"),
        (
            {"columns": {**{each: {"kind": "number"} for each in NAMES}, "sex": {"kind": "indicator"}}},
            "the model does not know the column 'sex'",
        ),
        ({"standardise": True}, "leave standardise out"),
        ({"target": PRICE}, "the model's target is"),
    ],
)
def test_a_model_of_other_features_is_refused_and_the_first_difference_named(facts, why):
    made = features()
    with pytest.raises(ValueError, match=why):
        run(predict, ALL, features=edited(made, **facts), model=glm("logit", made))


def test_new_rows_need_no_empty_cells_where_the_training_rows_had_some():
    made = features()
    columns = {**made["about"]["columns"], "age": {"kind": "number", "missing": "middle"}}
    trained = glm("logit", edited(made, columns=columns))
    assert len(run(predict, ALL, features=made, model=trained)[0]["scores"]) == ROWS


@pytest.mark.parametrize(
    ("params", "why"),
    [
        ({"reveal": "scores"}, "rows: one of"),
        ({"rows": "all"}, "reveal: one of"),
        ({**ALL, "digits": 10}, "digits: a whole number"),
        ({**ALL, "weights": 1}, "params.weights: predict takes"),
    ],
)
def test_parameters_of_a_prediction_that_make_no_sense_are_refused(params, why):
    with pytest.raises(ValueError, match=why):
        predict.check(params, [])


def test_rows_that_are_not_there_and_digits_that_do_not_fit_are_refused():
    made = edited(features(PRICE), train=ROWS)
    with pytest.raises(ValueError, match="there are no held-out rows"):
        run(predict, {**ALL, "rows": "held-out"}, features=made, model=glm("identity", made))
    wide = features({**PRICE, "high": 1e9})
    with pytest.raises(ValueError, match="digits: too many"):
        run(predict, ALL, features=wide, model=glm("identity", wide))


def test_a_model_of_an_unknown_family_is_refused():
    made = features()
    with pytest.raises(ValueError, match="'forest' is none of glm, trees"):
        run(predict, ALL, features=made, model=edited(glm("logit", made), family="forest"))


# --- evaluating


def scored(target: Any, seed: int = 2, weighted: bool = False) -> Value:
    """Scores of all rows, as a prediction gives them."""
    made = features(target, seed, weighted)
    link = {"indicator": "logit", "number": "identity", "count": "log"}[target["kind"]]
    trained = model("glm", link, made, weights=[0.4, -0.2, 0.1], intercept=[0.02])
    return run(predict, {"rows": "all", "reveal": "nothing"}, features=made, model=trained)[1]


OF_CLASSES = ["auc", "ks", "confusion", "log_loss", "gains", "calibration"]


@pytest.mark.parametrize("weighted", [False, True])
def test_metrics_of_probabilities_are_scikit_learns(weighted):
    made = scored(BAD, weighted=weighted)
    params = {"metrics": OF_CLASSES, "min_group": 2, "bins": 4}
    found, _ = run(evaluate, params, scores=made)
    score, target = made["held"]["score"], made["held"]["target"]
    weight = made["held"].get("weight", np.ones(ROWS))
    guess, more = score >= 0.5, {"sample_weight": weight}
    ties = np.floor(score * 2**20 + 0.5)  # sharing moves equal scores apart by less
    assert found["auc"] == pytest.approx(sk.roc_auc_score(target, ties, **more), abs=1e-6)
    assert found["log_loss"] == pytest.approx(sk.log_loss(target, score, **more), abs=1e-6)
    shown = found["confusion"]
    for name, one in (("precision", sk.precision_score), ("recall", sk.recall_score), ("f1", sk.f1_score)):
        assert shown[name] == pytest.approx(one(target, guess, **more))
    assert shown["accuracy"] == pytest.approx(sk.accuracy_score(target, guess, **more))
    false, true, _ = sk.roc_curve(target, ties, **more)
    assert found["ks"] == pytest.approx(np.abs(true - false).max(), abs=1e-6)
    assert found["gains"][-1]["captured"] == pytest.approx(1.0)
    assert found["events"] == pytest.approx((target * weight).sum())
    assert found["suppressed"] == {}


def test_gains_and_calibration_are_those_of_rows_sorted_in_the_clear():
    made = scored(BAD)
    params = {"metrics": ["gains", "calibration"], "min_group": 2, "bins": 4}
    found, _ = run(evaluate, params, scores=made)
    steps = np.floor(made["held"]["score"] * 2**20 + 0.5)
    order = np.argsort(-steps, kind="stable")
    target, score = made["held"]["target"][order].reshape(4, -1), made["held"]["score"][order].reshape(4, -1)
    overall, captured = target.mean(), np.cumsum(target.sum(1)) / target.sum()
    assert [row["events"] for row in found["gains"]] == target.sum(1).tolist()
    assert [row["lift"] for row in found["gains"]] == pytest.approx((target.mean(1) / overall).tolist())
    assert [row["captured"] for row in found["gains"]] == pytest.approx(captured.tolist())
    means = [row["mean_score"] for row in found["calibration"]]
    assert means == pytest.approx(score.mean(1).tolist(), abs=1e-5)
    assert [row["rate"] for row in found["calibration"]] == pytest.approx(target.mean(1).tolist())


@pytest.mark.parametrize("protocol", ["ABY3", "CHEETAH"])
@pytest.mark.parametrize("weighted", [False, True])
def test_metrics_of_numbers_are_in_the_targets_unit(weighted, protocol):
    made = scored(PRICE, weighted=weighted)
    found, _ = run(evaluate, {"metrics": ["rmse", "mae", "r2"], "min_group": 2}, protocol, scores=made)
    score, target = (300 + 200 * made["held"][each] for each in ("score", "target"))
    more = {"sample_weight": made["held"].get("weight")}
    assert found["rmse"] == pytest.approx(sk.mean_squared_error(target, score, **more) ** 0.5, rel=1e-6)
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(target, score, **more), rel=1e-6)
    assert found["r2"] == pytest.approx(sk.r2_score(target, score, **more), abs=1e-6)


def test_the_deviance_of_counts_is_scikit_learns():
    made = scored(VISITS)
    found, _ = run(evaluate, {"metrics": ["poisson_deviance", "rmse"], "min_group": 2}, scores=made)
    score, target = made["held"]["score"], made["held"]["target"]
    assert found["poisson_deviance"] == pytest.approx(sk.mean_poisson_deviance(target, score), rel=1e-5)
    assert found["rmse"] == pytest.approx(sk.mean_squared_error(target, score) ** 0.5, rel=1e-6)


@pytest.mark.parametrize("events", [0, 4, ROWS])
def test_a_set_with_too_few_of_a_class_gives_nulls_and_says_why(events):
    made = scored(BAD)
    made["held"]["target"] = (np.arange(ROWS) < events).astype(float)
    found, _ = run(evaluate, {"metrics": OF_CLASSES, "min_group": 5, "bins": 4}, scores=made)
    why = "there are fewer than 5 rows of one class"
    assert found == {
        "rows": ROWS, "events": None, **dict.fromkeys(OF_CLASSES),
        "suppressed": dict.fromkeys(OF_CLASSES, why),
    }  # fmt: skip


def test_bins_and_matrices_with_small_cells_are_suppressed_and_what_is_cumulative_ends_there():
    made = scored(BAD)
    order = np.argsort(-np.floor(made["held"]["score"] * 2**20 + 0.5), kind="stable")
    target = np.zeros(ROWS)
    target[order[:40]], target[order[60:63]], target[order[120:150]] = 1.0, 1.0, 1.0
    made["held"]["target"] = target
    params = {"metrics": ["gains", "confusion"], "min_group": 10, "bins": 4, "threshold": 0.9}
    found, _ = run(evaluate, params, scores=made)
    assert [row["suppressed"] for row in found["gains"]] == [False, True, False, False]
    assert [row["events"] for row in found["gains"]] == [40, None, 30, 0]
    assert [row["captured"] for row in found["gains"]] == [pytest.approx(40 / 73), None, None, None]
    middle = float(np.sort(made["held"]["score"])[-3])
    found, _ = run(evaluate, {**params, "metrics": ["confusion"], "threshold": middle - 1e-4}, scores=made)
    assert found["confusion"] is None
    assert found["suppressed"] == {"confusion": "a cell has rows, but fewer than 10"}


@pytest.mark.parametrize(
    ("target", "metric", "why"),
    [
        (PRICE, "rmse", "no row has weight"),
        (BAD, "auc", "there are fewer than 2 rows of one class, or its rows have no weight"),
    ],
)
def test_rows_without_any_weight_give_nulls_and_say_why(target, metric, why):
    made = scored(target, weighted=True)
    made["held"]["weight"] = np.zeros(ROWS)
    found, _ = run(evaluate, {"metrics": [metric], "min_group": 2}, scores=made)
    assert (found[metric], found["suppressed"]) == (None, {metric: why})


def test_a_threshold_that_no_score_reaches_has_a_recall_but_no_precision():
    params = {"metrics": ["confusion"], "min_group": 2, "threshold": 1.5}
    shown = run(evaluate, params, scores=scored(BAD))[0]["confusion"]
    assert (shown["true_positive"], shown["false_positive"]) == (0, 0)
    assert (shown["precision"], shown["recall"], shown["f1"]) == (None, 0.0, 0.0)


def test_a_constant_target_has_no_r2():
    made = scored(PRICE)
    made["held"]["target"] = np.full(ROWS, 0.3)
    found, _ = run(evaluate, {"metrics": ["r2"], "min_group": 2}, scores=made)
    assert (found["r2"], found["suppressed"]) == (None, {"r2": "the target is the same in all rows"})


@pytest.mark.parametrize(
    ("facts", "metrics", "why"),
    [
        ({"rows": 0}, ["auc"], "there is no row to measure"),
        ({"rows": 3}, ["auc"], "3 rows; at least min_group"),
        ({"target": None}, ["auc"], "came without a target"),
        ({}, ["rmse"], "rmse is for predicted numbers"),
        ({"target": PRICE, "of": "number"}, ["auc"], "auc is for probabilities or points"),
        ({"target": PRICE, "of": "number"}, ["poisson_deviance"], "poisson_deviance is for a count"),
        ({"of": "points"}, ["log_loss"], "log_loss is for probabilities"),
        ({"of": "cluster"}, ["ks"], "ks is for probabilities or points"),
        ({"rows": 45}, ["gains"], "ask for fewer bins"),
    ],
)
def test_scores_that_a_metric_is_not_for_are_refused(facts, metrics, why):
    about = {"rows": 100, "of": "probability", "target": BAD, "weighted": False, **facts}
    taken = {"scores": {"kind": "scores", "about": about, "arrays": []}}
    with pytest.raises(ValueError, match=why):
        evaluate.rows({"metrics": metrics, "min_group": 5, "taken": taken}, {})


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"metrics": []}, "metrics: a list"),
        ({"metrics": ["auc", "auc"]}, "metrics: a list"),
        ({"metrics": ["gini"]}, "'gini' is none of"),
        ({"min_group": 1}, "min_group: a whole number from 2"),
        ({"threshold": "half"}, "threshold: a number"),
        ({"bins": 1}, "bins: a whole number from 2"),
        ({"seed": 1}, "params.seed: evaluate takes"),
    ],
)
def test_parameters_of_an_evaluation_that_make_no_sense_are_refused(more, why):
    with pytest.raises(ValueError, match=why):
        evaluate.check({"metrics": ["auc"], "min_group": 5, **more}, [])
