"""Columns of a joint model: what is refused before anything is shared, and the features that come out."""

from __future__ import annotations

import copy
from typing import Any

import pytest

pytest.importorskip("spu")

import jax
import numpy as np
import spu
from spu.utils import simulation

from sealtrace.algorithms.learning import columns, design, encoding

jax.config.update("jax_enable_x64", True)  # type: ignore[no-untyped-call]

ROWS = 60
CHANCE = np.random.default_rng(5)
BANK: dict[str, Any] = {
    "amount": CHANCE.uniform(100, 9000, ROWS),
    "housing": CHANCE.choice(["own", "rent", "free"], ROWS),
    "outcome": CHANCE.choice(["good", "bad"], ROWS, p=[0.7, 0.3]),
}
REGISTRY: dict[str, Any] = {
    "age": CHANCE.uniform(19, 79, ROWS),
    "years": CHANCE.uniform(0, 20, ROWS),
    "member": CHANCE.choice(["yes", "no"], ROWS),
    "size": CHANCE.uniform(0.1, 1, ROWS),
}
PARAMS: dict[str, Any] = {
    "columns": {
        "amount": {"kind": "number", "input": "bank", "low": 0, "high": 10000},
        "housing": {"kind": "category", "input": "bank", "categories": ["own", "rent", "free"]},
        "bad": {"kind": "indicator", "input": "bank", "column": "outcome", "positive": "bad"},
        "age": {"kind": "number", "input": "registry", "low": 18, "high": 80},
        "member": {"kind": "indicator", "input": "registry", "positive": "yes"},
        "years": {"kind": "bins", "input": "registry", "edges": [0, 5, 10, 20], "woe": True},
        "size": {"kind": "number", "input": "registry", "low": 0, "high": 2},
    },
    "target": "bad",
    "weight": "size",
    "train": 0.75,
}
TRAIN = 45


def params(**changed: Any) -> dict[str, Any]:
    return copy.deepcopy(PARAMS) | changed


def with_column(name: str, **changed: Any) -> dict[str, Any]:
    made = params()
    made["columns"][name] = made["columns"].get(name, {}) | changed
    return made


def tables() -> dict[str, dict[str, Any]]:
    return {"bank": copy.deepcopy(BANK), "registry": copy.deepcopy(REGISTRY)}


def on_shares(
    plan: columns.Plan, given: dict[str, dict[str, Any]], fitted: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Every owner encodes its table; the joint part runs on three parties' shares."""
    held = {name: len(next(iter(table.values()))) for name, table in given.items()}
    made = {
        (part, name): array
        for name in plan.inputs
        for part, array in encoding.encoded(plan, name, given[name], held[name]).items()
    }
    keys, known = list(made), list(fitted or {})

    def joint(*arrays: Any) -> Any:
        pieces = dict(zip(keys, arrays, strict=False))
        model = dict(zip(known, arrays[len(keys) :], strict=True))
        return tuple(design.features(plan, pieces, held, model or None).values())

    how = spu.RuntimeConfig(protocol=spu.ProtocolKind.ABY3, field=spu.FieldType.FM128, fxp_fraction_bits=40)
    arrays = [*made.values(), *(fitted or {}).values()]
    found = simulation.sim_jax(simulation.Simulator(3, how), joint)(*arrays)
    rows = sum(held.values()) if plan.horizontal else held[plan.inputs[0]]
    named = dict(zip(design.parts(plan), map(np.asarray, found), strict=True))
    assert [(part, array.shape) for part, array in named.items()] == design.shapes(plan, rows)
    return named


def evidence_of(bins: Any, event: Any, smoothing: float = 0.5) -> Any:
    """ln(share of events / share of others) of each bin, by counting."""
    counts = np.array([[np.sum((bins == b) & (event == e)) for b in range(3)] for e in (1, 0)]) + smoothing
    shares = counts / counts.sum(axis=1, keepdims=True)
    return np.log(shares[0] / shares[1])


def raw_matrix(event: Any) -> Any:
    """The features of PARAMS before they are standardised, by hand, and the weights of evidence."""
    bins = np.digitize(REGISTRY["years"], [5, 10])
    woe = evidence_of(bins[:TRAIN], event[:TRAIN])
    hot = BANK["housing"][:, None] == np.array(["own", "rent", "free"])
    member = (REGISTRY["member"] == "yes").astype(float)
    age, amount = (REGISTRY["age"] - 49) / 31, (BANK["amount"] - 5000) / 5000
    return np.column_stack([age, amount, hot, member, woe[bins]]), woe


# --- what comes out


def test_features_of_two_owners_are_what_one_table_would_give():
    found = on_shares(columns.read(params()), tables())
    event = (BANK["outcome"] == "bad").astype(float)
    raw, woe = raw_matrix(event)
    mean, deviation = raw[:TRAIN].mean(axis=0), raw[:TRAIN].std(axis=0)
    np.testing.assert_allclose(found["matrix"], (raw - mean) / deviation, atol=1e-5)
    np.testing.assert_allclose(found["shift"], mean, atol=1e-6)
    np.testing.assert_allclose(found["scale"], 1 / deviation, rtol=1e-5)
    np.testing.assert_allclose(found["woe"], woe, atol=1e-6)
    np.testing.assert_allclose(found["target"], event, atol=1e-9)
    np.testing.assert_allclose(found["weight"], REGISTRY["size"] / REGISTRY["size"][:TRAIN].mean(), atol=1e-6)


def test_with_balance_both_classes_weigh_alike_among_the_training_rows():
    plan = columns.read(params(balance=True))
    found = on_shares(plan, tables())
    target, weight = found["target"][:TRAIN] > 0.5, found["weight"][:TRAIN]
    assert weight[target].sum() == pytest.approx(weight[~target].sum(), rel=1e-5)
    assert weight.mean() == pytest.approx(1, rel=1e-5)


def test_a_missing_number_becomes_the_mean_of_the_known_training_rows():
    given = tables()
    given["registry"]["age"][[3, 17, 50]] = np.nan
    found = on_shares(columns.read(with_column("age", missing="middle")), given)
    known = np.delete(REGISTRY["age"][:TRAIN], [3, 17])
    assert found["shift"][0] == pytest.approx((known.mean() - 49) / 31, abs=1e-6)
    np.testing.assert_allclose(found["matrix"][[3, 17, 50], 0], 0, atol=1e-5)


def test_rows_of_two_owners_below_each_other_are_scaled_as_one_table():
    made = {"age": {"kind": "number", "low": 0, "high": 100, "missing": "middle"},
            "ill": {"kind": "indicator", "positive": "y"}}  # fmt: skip
    plan = columns.read({"columns": made, "target": "ill", "horizontal": ["north", "south"], "train": 0.5})
    chance = np.random.default_rng(1)
    given = {
        name: {"age": chance.uniform(low, low + 40, rows), "ill": np.array(["y", "n"] * (rows // 2))}
        for name, low, rows in (("north", 10, 20), ("south", 50, 40))
    }
    given["north"]["age"][4] = np.nan
    found = on_shares(plan, given)
    train = found["matrix"][:30, 0]
    assert (train.mean(), train.std()) == (pytest.approx(0, abs=1e-5), pytest.approx(1, abs=1e-5))
    ages = found["matrix"][:, 0] / found["scale"][0] + found["shift"][0]
    everyone = np.concatenate([given["north"]["age"], given["south"]["age"]])
    known = np.sort((everyone[~np.isnan(everyone)] - 50) / 50)
    assert np.abs(np.sort(ages)[:, None] - known[None, :]).min(axis=0).max() < 1e-6


def test_new_rows_are_encoded_as_the_model_s_were_and_teach_nothing():
    plan = columns.read(params())
    first = on_shares(plan, tables())
    place = {name: {key: each[key] for key in ("kind", "input", "column") if key in each}
             for name, each in PARAMS["columns"].items() if name not in ("bad", "size")}  # fmt: skip
    again = columns.fitted({"apply": True, "columns": place}, columns.about(plan, ROWS))
    few = {name: {column: cells[:7] for column, cells in table.items()} for name, table in tables().items()}
    found = on_shares(again, few, {part: first[part] for part in ("shift", "scale", "woe")})
    np.testing.assert_allclose(found["matrix"], first["matrix"][:7], atol=1e-6)
    assert "target" not in found


def test_edges_are_quantiles_that_their_owner_counts_below_by_itself():
    made = params(edges=3, weight=None)
    del made["columns"]["years"], made["columns"]["size"]
    found = on_shares(columns.read(made), tables())
    ages = (REGISTRY["age"] - 49) / 31
    np.testing.assert_allclose(found["edges"][0], np.quantile(ages[:TRAIN], [0.25, 0.5, 0.75]), atol=1e-9)
    np.testing.assert_allclose(found["edges"][5], [0.5, 2, 2], atol=1e-9)
    below = found["matrix"][:, :, None] < found["edges"][None]
    np.testing.assert_allclose(found["below"], below, atol=1e-9)


# --- what an owner refuses


def spoilt(where: str, column: str, row: Any, cell: Any) -> dict[str, dict[str, Any]]:
    made = tables()
    if isinstance(cell, str):
        made[where][column] = made[where][column].astype(object)
    made[where][column][row] = cell
    return made


EVERY = slice(None)
REFUSED = [
    ("out_of_range", "bank", spoilt("bank", "amount", 3, 10001.0), params()),
    ("out_of_range", "registry", spoilt("registry", "years", 3, 21.0), params()),
    ("unknown_category", "bank", spoilt("bank", "housing", 3, "boat"), params()),
    ("missing_value", "bank", spoilt("bank", "amount", 3, np.nan), params()),
    ("missing_value", "bank", spoilt("bank", "housing", 3, ""), params()),
    ("missing_value", "registry", spoilt("registry", "member", 3, ""), params()),
    ("not_finite", "bank", spoilt("bank", "amount", 3, np.inf), params()),
    ("constant_column", "bank", spoilt("bank", "amount", slice(TRAIN), 500.0), params()),
    ("constant_column", "bank", spoilt("bank", "housing", EVERY, "own"), params()),
    ("all_null", "registry", spoilt("registry", "age", EVERY, np.nan), with_column("age", missing="middle")),
    ("one_class", "bank", spoilt("bank", "outcome", slice(TRAIN), "good"), params()),
    ("no_weight", "registry", spoilt("registry", "size", slice(TRAIN), 0.0), params()),
    ("too_few_rows", "bank", tables(), params(min_rows=ROWS + 1)),
]


@pytest.mark.parametrize(("reason", "name", "given", "declared"), REFUSED)
def test_an_owner_refuses_by_name_what_does_not_fit(reason, name, given, declared):
    with pytest.raises(encoding.Unfit) as refused:
        encoding.encoded(columns.read(declared), name, given[name], ROWS)
    assert refused.value.reason == reason


def test_a_refusal_names_the_row_and_not_the_value():
    with pytest.raises(encoding.Unfit, match="'housing', row 4") as refused:
        encoding.encoded(columns.read(params()), "bank", spoilt("bank", "housing", 3, "boat")["bank"], ROWS)
    assert "boat" not in str(refused.value)


# --- what is refused in the parameters

WRONG = [
    (params(min_rows=9), "min_rows: a whole number from 10"),
    (params(train=0), "train: a number from 0.05 to 1"),
    (params(target="nothing"), "target: one of the declared columns"),
    (params(target="age", weight=None, balance=True), "need an indicator as target"),
    (params(target=None), "need an indicator as target"),
    (params(target="housing"), "target: housing is to be of kind"),
    (params(edges=4), "edges: they are of values as declared"),
    (params(edges=4, standardise=True), "edges: they are of values as declared"),
    (params(horizontal=["bank", "registry"]), "input: every input of a horizontal partition holds it"),
    (params(horizontal=["bank"]), "horizontal: lists all of the step's inputs"),
    (params(colour="red"), "params: colour is not known"),
    (params(columns={}), "columns: an object of 1 to 64 columns"),
    (params(columns={"bad": PARAMS["columns"]["bad"]}, weight=None), "columns: one feature at the least"),
    (params(drop_first="yes"), "drop_first: true or false"),
    (with_column("age", kind="text"), "columns.age.kind: one of number"),
    (with_column("age", low=80), "columns.age: low and high are numbers"),
    (with_column("age", input="elsewhere"), "columns.age.input: one of the step's inputs"),
    (with_column("age", missing="zero"), "columns.age.missing: 'middle'"),
    (with_column("member", missing="middle"), "columns.member.missing: 'middle'"),
    (with_column("member", positive=""), "columns.member.positive"),
    (with_column("housing", categories=["own"]), "columns.housing.categories: 2 to 64"),
    (with_column("housing", categories=["own", "own"]), "columns.housing.categories: each text once"),
    (with_column("years", edges=[0, 5, 5]), "columns.years.edges: 3 to 65 numbers"),
    (with_column("years", woe=1), "columns.years.woe: true or false"),
    (with_column("size", low=-1), "columns.size.low: a weight is not negative"),
    (with_column("visits", kind="count", input="bank", high=9), "columns.visits.kind: a count is a target"),
    (with_column("Age", kind="number"), "'Age' is no name"),
]


@pytest.mark.parametrize(("wrong", "words"), WRONG)
def test_parameters_that_make_no_sense_are_refused_in_words(wrong, words):
    with pytest.raises(ValueError, match=words):
        columns.read(wrong, ["bank", "registry"])


def applied(**changed: Any) -> dict[str, Any]:
    place = {"amount": {"kind": "number", "input": "bank"}, "housing": {"kind": "category", "input": "bank"}}
    return {"apply": True, "columns": {**place, **changed}}


@pytest.mark.parametrize(
    ("new", "words"),
    [
        (applied(age={"kind": "number", "input": "bank"}), "columns: exactly those of the model"),
        (
            applied(amount={"kind": "indicator", "input": "bank"}),
            "columns.amount.kind: the model's is",
        ),
        (applied(amount={"kind": "number", "input": "bank", "missing": "middle"}), "without missing cells"),
        (applied(amount={"kind": "number", "input": "bank", "low": 0}), "columns.amount: low is not known"),
        (applied() | {"target": "amount"}, "target: amount is not the model's, which is bad"),
        (applied() | {"target": "bad"}, "target: one of the columns"),
    ],
)
def test_new_rows_that_are_not_as_the_model_s_are_refused_in_words(new, words):
    made = params(weight=None)
    made["columns"] = {name: made["columns"][name] for name in ("amount", "housing", "bad")}
    with pytest.raises(ValueError, match=words):
        columns.fitted(new, columns.about(columns.read(made), ROWS))
