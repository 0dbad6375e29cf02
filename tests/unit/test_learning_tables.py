"""Whole tables through features and models: real ones against scikit-learn, and rows at the edge."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("spu")

import jax
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from learning_steps import number, program, run
from sklearn.linear_model import LogisticRegression, PoissonRegressor
from sklearn.metrics import roc_auc_score

from sealtrace.algorithms.learning import columns, design, encoding
from sealtrace.algorithms.learning.encoding import ColumnUnfit

jax.config.update("jax_enable_x64", True)

CREDIT = Path(__file__).parents[2] / "examples" / "german_credit.csv"
features, glm, predict, evaluate = (program(each) for each in ("features", "glm", "predict", "evaluate"))
CARD = {"base": 600, "odds": 50, "double": 20}


@pytest.fixture(scope="module")
def credit() -> dict[str, Any]:
    with CREDIT.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    chance = np.random.default_rng(4).permutation(
        len(rows)
    )  # in the file's order the last rows are not like others
    return {name: np.array([rows[at][name] for at in chance]) for name in rows[0]}


def held_by(owner: str, table: dict[str, Any], declared: dict[str, Any]) -> dict[str, Any]:
    """An owner's columns, read as the declarations say."""
    own = {
        name: (each.get("column", name), each["kind"])
        for name, each in declared.items()
        if each["input"] == owner
    }
    numeric = ("number", "bins", "count")
    return {
        column: table[column].astype(float) if kind in numeric else table[column]
        for column, kind in own.values()
    }


def categories(owner: str, cells: Any) -> dict[str, Any]:
    return {"kind": "category", "input": owner, "categories": sorted(set(cells.tolist())), "woe": True}


def test_a_scorecard_of_german_credit_has_scikit_learns_coefficients_and_ranks_new_applicants(credit):
    """Three quarters learn. The evidence is counted by hand here, over the rows that learn alone."""
    declared = {
        "status": {**categories("bank", credit["status_of_existing_checking_account"]),
                   "column": "status_of_existing_checking_account"},
        "history": {**categories("bank", credit["credit_history"]), "column": "credit_history"},
        "months": {"kind": "bins", "input": "bank", "column": "duration_in_month", "woe": True,
                   "edges": [0, 12, 24, 36, 72]},
        "age": {"kind": "bins", "input": "registry", "column": "age_in_years", "woe": True,
                "edges": [18, 25, 35, 50, 80]},
        "bad": {"kind": "indicator", "input": "bank", "column": "creditability", "positive": "bad"},
    }  # fmt: skip
    tables = {owner: held_by(owner, credit, declared) for owner in ("bank", "registry")}
    asked = {"columns": declared, "target": "bad", "train": 0.75}
    _, prepared = run(features, asked, tables, {})
    how = {"family": "logistic", "l2": 0.01, "reveal": "coefficients", "points": CARD}
    found, model = run(glm, how, {}, prepared)

    train, event = found["train"], credit["creditability"] == "bad"
    raw = np.column_stack(
        [
            by_hand(name, each, credit, event, train)
            for name, each in sorted(declared.items())
            if name != "bad"
        ]
    )
    matrix = (raw - raw[:train].mean(axis=0)) / raw[:train].std(axis=0)
    plain = LogisticRegression(C=1 / (0.01 * train), tol=1e-10).fit(matrix[:train], event[:train])
    fitted = [each["fitted"] for each in found["coefficients"]]
    np.testing.assert_allclose(fitted, plain.coef_[0], atol=1e-4)
    assert found["converged"] is True
    totals = points_of(found["scorecard"], declared, credit)
    factor = 20 / np.log(2)
    wanted = 600 - factor * np.log(50) - factor * plain.decision_function(matrix)
    np.testing.assert_allclose(totals, wanted, atol=0.02)

    _, scores = run(
        predict, {"rows": "held-out", "reveal": "nothing"}, {}, {**prepared, "model": model["model"]}
    )
    judged, _ = run(evaluate, {"metrics": ["auc"], "min_group": 10}, {}, scores)
    area = roc_auc_score(event[train:], plain.decision_function(matrix[train:]))
    assert judged["auc"] == pytest.approx(area, abs=1e-3)
    assert area > 0.7


def bin_of(declared: dict[str, Any], table: dict[str, Any], name: str) -> Any:
    cells = table[declared.get("column", name)]
    if declared["kind"] == "category":
        return np.searchsorted(declared["categories"], cells)
    return np.clip(np.digitize(cells.astype(float), declared["edges"]) - 1, 0, len(declared["edges"]) - 2)


def by_hand(name: str, declared: dict[str, Any], table: dict[str, Any], event: Any, train: int) -> Any:
    """Each row's weight of evidence."""
    bins = bin_of(declared, table, name)
    count = int(bins.max()) + 1
    both = [np.bincount(bins[:train][event[:train] == each], minlength=count) + 0.5 for each in (True, False)]
    return np.log(both[0] / both[0].sum() * both[1].sum() / both[1])[bins]


def points_of(card: dict[str, Any], declared: dict[str, Any], table: dict[str, Any]) -> Any:
    """Each row's points: those of all, and those of its bins."""
    total = np.full(len(table["creditability"]), card["base_points"])
    for name, each in declared.items():
        if name != "bad":
            points = np.array([entry["points"] for entry in card["bins"] if entry["column"] == name])
            total += points[bin_of(each, table, name)]
    return total


def test_counts_on_two_owners_columns_have_scikit_learns_rates():
    chance = np.random.default_rng(11)
    age, distance = chance.uniform(18, 80, 300), chance.uniform(0, 30, 300)
    claims = chance.poisson(np.exp(0.02 * age - 0.05 * distance)).astype(float)
    declared = {**number("age", "registry", age), **number("distance", "carrier", distance)}
    declared["claims"] = {"kind": "count", "input": "carrier", "high": 50}
    tables = {"registry": {"age": age}, "carrier": {"distance": distance, "claims": claims}}
    _, prepared = run(features, {"columns": declared, "target": "claims"}, tables, {})
    found, _ = run(glm, {"family": "poisson", "reveal": "coefficients"}, {}, prepared)
    wanted = PoissonRegressor(alpha=0, tol=1e-10, max_iter=1000).fit(np.column_stack([age, distance]), claims)
    original = [each["original"] for each in found["coefficients"]]
    np.testing.assert_allclose(original, wanted.coef_, rtol=1e-3)
    assert found["intercept"]["original"] == pytest.approx(wanted.intercept_, abs=1e-3)


# --- rows of several owners below each other


def hospitals(sizes: tuple[int, ...], seed: int = 3) -> dict[str, Any]:
    """Each hospital's own patients, older ones further south."""
    chance = np.random.default_rng(seed)
    made = {}
    for at, rows in enumerate(sizes):
        age, dose = chance.uniform(20 + 10 * at, 60 + 10 * at, rows), chance.uniform(0, 5, rows)
        odds = (age - 55) / 12 - dose + 1.5
        ill = np.where(chance.uniform(size=rows) < 1 / (1 + np.exp(-odds)), "y", "n")
        ill[:2] = "y", "n"
        made[f"h{at}"] = {"age": age, "dose": dose, "ill": ill}
    return made


PATIENTS: dict[str, Any] = {
    "age": {"kind": "number", "low": 0, "high": 100},
    "dose": {"kind": "number", "low": 0, "high": 5},
    "ill": {"kind": "indicator", "positive": "y"},
}


def below(tables: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"columns": PATIENTS, "target": "ill", "horizontal": list(tables), **more}


def trained_rows(tables: dict[str, Any], share: float) -> dict[str, Any]:
    """The training rows of all owners: each shuffles by its number of rows, and gives its first ones."""
    found: dict[str, list[Any]] = {"age": [], "dose": [], "ill": []}
    for table in tables.values():
        rows = len(table["age"])
        chosen = np.random.default_rng(rows).permutation(rows)[: int(share * rows + 0.5)]
        for name, parts in found.items():
            parts.append(table[name][chosen])
    return {name: np.concatenate(parts) for name, parts in found.items()}


def test_a_model_of_three_hospitals_rows_is_that_of_one_table():
    tables = hospitals((50, 70, 81))
    _, prepared = run(features, below(tables, train=0.8), tables, {})
    found, _ = run(glm, {"family": "logistic", "l2": 0.01, "reveal": "coefficients"}, {}, prepared)
    pooled = trained_rows(tables, 0.8)
    raw = np.column_stack([pooled["age"], pooled["dose"]])
    matrix = (raw - raw.mean(axis=0)) / raw.std(axis=0)
    plain = LogisticRegression(C=1 / (0.01 * len(matrix)), tol=1e-10).fit(matrix, pooled["ill"] == "y")
    assert found["train"] == len(matrix)
    fitted = [each["fitted"] for each in found["coefficients"]]
    np.testing.assert_allclose(fitted, plain.coef_[0], atol=1e-4)


def test_a_hospital_whose_patients_are_all_well_is_no_reason_to_refuse():
    tables = hospitals((40, 60))
    tables["h0"]["ill"][:] = "n"
    _, prepared = run(features, below(tables), tables, {})
    found, _ = run(glm, {"family": "logistic", "l2": 0.01}, {}, prepared)
    assert (found["rows"], found["converged"]) == (100, True)


def test_where_no_patient_at_all_is_ill_the_model_is_named_no_better_than_an_intercept():
    """No owner can see it, and nobody may learn it of another: the model alone tells, to the requester."""
    tables = hospitals((40, 60))
    for table in tables.values():
        table["ill"][:] = "n"
    _, prepared = run(features, below(tables), tables, {})
    found, _ = run(glm, {"family": "logistic", "l2": 0.01, "reveal": "coefficients"}, {}, prepared)
    assert (found["converged"], found["reason"]) == (False, "no_better_than_an_intercept")
    assert "coefficients" not in found


def test_a_column_that_is_alike_at_all_owners_gets_no_weight():
    tables = hospitals((40, 60))
    for table in tables.values():
        table["dose"][:] = 2.0
    _, prepared = run(features, below(tables), tables, {})
    found, _ = run(glm, {"family": "logistic", "l2": 0.01, "reveal": "coefficients"}, {}, prepared)
    weights = {each["feature"]: each["fitted"] for each in found["coefficients"]}
    assert weights["dose"] == pytest.approx(0, abs=1e-6)
    assert weights["age"] > 0.2


def test_an_owner_with_too_few_rows_of_its_own_is_named():
    tables = hospitals((9, 60))
    with pytest.raises(ColumnUnfit, match="input h0") as refused:
        run(features, below(tables), tables, {})
    assert refused.value.reason == "too_few_rows"


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(10, 40), min_size=2, max_size=4),
    st.sampled_from([0.5, 0.75, 1.0]),
    st.integers(0, 1000),
)
def test_however_the_rows_are_divided_the_features_are_those_of_one_table(sizes, share, seed):
    """In the clear: the joint function is the same on shares."""
    tables = hospitals(tuple(sizes), seed)
    plan = columns.read(below(tables, train=share))
    held = {name: len(table["age"]) for name, table in tables.items()}
    pieces = {
        (part, name): array
        for name in plan.inputs
        for part, array in encoding.encoded(plan, name, tables[name], held[name]).items()
    }
    made = design.features(plan, pieces, held)
    pooled = trained_rows(tables, share)
    raw = np.column_stack([(pooled["age"] - 50) / 50, (pooled["dose"] - 2.5) / 2.5])
    np.testing.assert_allclose(made["shift"], raw.mean(axis=0), atol=1e-9)
    np.testing.assert_allclose(
        made["matrix"][: len(raw)], (raw - raw.mean(axis=0)) / raw.std(axis=0), atol=1e-6
    )
    np.testing.assert_array_equal(made["target"][: len(raw)], pooled["ill"] == "y")
    assert made["matrix"].shape == (sum(sizes), 2)


# --- what training rows do not show


SHOP: dict[str, Any] = {
    "amount": {"kind": "number", "input": "shop", "low": 0, "high": 10},
    "housing": {"kind": "category", "input": "shop", "categories": ["own", "rent", "free"]},
    "bad": {"kind": "indicator", "input": "bank", "positive": "y"},
}


def shop(rows: int = 60) -> dict[str, Any]:
    """Nobody among the first rows lives for free."""
    chance = np.random.default_rng(8)
    amount, housing = chance.uniform(0, 10, rows), chance.choice(["own", "rent"], rows)
    score = (amount - 5) / 2 + (housing == "own") - 0.5
    bad = np.where(chance.uniform(size=rows) < 1 / (1 + np.exp(-score)), "y", "n")
    return {"shop": {"amount": amount, "housing": housing}, "bank": {"bad": bad}}


def new_rows(**changed: Any) -> dict[str, Any]:
    place = {name: {key: SHOP[name][key] for key in ("kind", "input")} for name in ("amount", "housing")}
    return {"apply": True, "columns": {name: each | changed.get(name, {}) for name, each in place.items()}}


NEW = {"shop": {"amount": np.full(10, 4.0), "housing": np.array(["own", "free"] * 5)}}


@pytest.mark.parametrize("evidence", [False, True])
def test_a_declared_category_that_no_training_row_has_is_scored_without_harm(evidence):
    """As one of zeros and ones it is scaled by 0; its weight of evidence is that of empty counts."""
    tables = shop()
    declared = {**SHOP, "housing": SHOP["housing"] | {"woe": evidence}}
    _, prepared = run(features, {"columns": declared, "target": "bad"}, tables, {})
    _, model = run(glm, {"family": "logistic", "l2": 0.01}, {}, prepared)
    _, fresh = run(features, new_rows(), NEW, {"fitted": model["model"]})
    given = {"features": fresh["features"], "model": model["model"]}
    scores, _ = run(predict, {"rows": "all", "reveal": "scores", "digits": 6}, {}, given)

    bad, housing = tables["bank"]["bad"] == "y", tables["shop"]["housing"]
    names = ["own", "rent", "free"] if evidence else ["free", "own", "rent"]
    if evidence:
        both = [np.array([np.sum((housing == k) & (bad == e)) for k in names]) + 0.5 for e in (True, False)]
        woe = np.log(both[0] / both[0].sum() * both[1].sum() / both[1])
        code = {name: [woe[at]] for at, name in enumerate(names)}
    else:
        code = {name: [float(name == each) for each in ("own", "rent")] for name in names}
    raw = np.array([[(a - 5) / 5, *code[h]] for a, h in zip(tables["shop"]["amount"], housing, strict=True)])
    mean, deviation = raw.mean(axis=0), raw.std(axis=0)
    plain = LogisticRegression(C=1 / (0.01 * 60), tol=1e-10).fit((raw - mean) / deviation, bad)
    fresh_raw = np.array([[(4.0 - 5) / 5, *code[h]] for h in ("own", "free")])
    wanted = plain.predict_proba((fresh_raw - mean) / deviation)[:, 1]
    np.testing.assert_allclose(scores["scores"][:2], wanted, atol=1e-3)


@pytest.fixture(scope="module")
def shop_model() -> dict[str, Any]:
    _, prepared = run(features, {"columns": SHOP, "target": "bad"}, shop(), {})
    _, model = run(glm, {"family": "logistic", "l2": 0.01}, {}, prepared)
    found: dict[str, Any] = model["model"]
    return found


@pytest.mark.parametrize(
    ("column", "cell", "reason"),
    [("housing", "boat", "unknown_category"), ("housing", "", "missing_value"),
     ("amount", np.nan, "missing_value"), ("amount", 10.5, "out_of_range")],
)  # fmt: skip
def test_a_new_row_with_a_cell_that_the_model_does_not_know_is_refused_at_its_owner(
    shop_model, column, cell, reason
):
    table = {name: cells.copy() for name, cells in NEW["shop"].items()}
    table[column][3] = cell
    with pytest.raises(ColumnUnfit, match="row 4") as refused:
        run(features, new_rows(), {"shop": table}, {"fitted": shop_model})
    assert refused.value.reason == reason


def test_new_rows_may_not_say_that_cells_are_missing_where_training_rows_had_none(shop_model):
    with pytest.raises(ValueError, match="without missing cells"):
        run(features, new_rows(amount={"missing": "middle"}), NEW, {"fitted": shop_model})
