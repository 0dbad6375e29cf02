"""Sums over common rows: what the program asks for, refuses, and finishes."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("spu")

from sealtrace.algorithms.bundles import load, shipped
from sealtrace.algorithms.simulation import simulate

AMOUNT = {"input": "bank", "column": "amount"}
RATE = {"input": "registry", "column": "rate"}
PARAMS = {"sums": [AMOUNT, {**AMOUNT, "scale": 4, "times": {**RATE, "scale": 2}}], "min_group": 3}
HELD = {"bank": 3, "registry": 3}
FRAME = {"amount": [100.0, 200.0, 400.5], "rate": [0.5, 0.25, 2.0]}


@pytest.fixture
def program():
    return load(shipped()["psi-sum"]).program


def test_an_owner_shares_the_sum_of_its_own_column_and_columns_only_for_products(program):
    assert program.arrays(PARAMS, HELD) == [
        ("sums.0", "bank", (1,), "float64"),
        ("sums.1", "bank", (3,), "float64"),
        ("sums.1.times", "registry", (3,), "float64"),
    ]
    made = program.prepare(PARAMS, "bank", {"amount": FRAME["amount"]}, HELD)
    assert made.keys() == {"sums.0", "sums.1"}
    assert made["sums.0"].tolist() == [700.5]
    assert program.columns(PARAMS, "bank") == [("amount", "number")]


def test_the_joint_function_gives_what_the_joined_table_says(program):
    given = program.prepare(PARAMS, "bank", FRAME, HELD) | program.prepare(PARAMS, "registry", FRAME, HELD)
    found = program.program(PARAMS, HELD)(*(given[name] for name, *_ in program.arrays(PARAMS, HELD)))
    opened = dict(zip(program.outputs(PARAMS), map(np.asarray, found), strict=True))
    result = program.finish(PARAMS, 3, opened)
    assert result == {
        "rows": 3,
        "sums": [
            {"of": "bank.amount", "sum": 100.0 + 200.0 + 400.5},
            {"of": "bank.amount * registry.rate", "sum": 50.0 + 50.0 + 801.0},
        ],
    }


@pytest.mark.parametrize(
    ("held", "said"),
    [({"bank": 2, "registry": 2}, "fewer rows are common"), ({"bank": 3, "registry": 4}, "align them first")],
)
def test_too_few_rows_and_tables_of_other_lengths_are_added_up_nowhere(program, held, said):
    with pytest.raises(ValueError, match=said):
        program.rows(PARAMS, held)


def test_a_factor_that_could_overflow_is_refused_with_the_scale_it_needs(program):
    params = {"sums": [{**AMOUNT, "times": RATE}], "min_group": 3}
    big = [2.0**24, 0.0, 0.0]
    with pytest.raises(ValueError, match=r"a scale of 2$"):
        program.prepare(params, "bank", {"amount": big}, HELD)
    fits = {"sums": [{**AMOUNT, "scale": 2, "times": RATE}], "min_group": 3}
    assert program.prepare(fits, "bank", {"amount": big}, HELD)["sums.0"].tolist() == [2.0**23, 0.0, 0.0]


@pytest.mark.parametrize("values", [[2.0**60, 0.0, 0.0], [float("inf")] * 3, [float("nan")] * 3])
def test_a_sum_beyond_the_range_is_refused(program, values):
    with pytest.raises(ValueError, match="beyond"):
        program.prepare(PARAMS, "bank", {"amount": values}, HELD)


@pytest.mark.parametrize(
    "params",
    [
        {**PARAMS, "min_group": 1},
        {**PARAMS, "min_group": True},
        {**PARAMS, "surprise": 1},
        {**PARAMS, "sums": []},
        {**PARAMS, "sums": "all"},
        {**PARAMS, "sums": [{"input": "zoo", "column": "amount"}]},
        {**PARAMS, "sums": [{**AMOUNT, "scale": 3}]},
        {**PARAMS, "sums": [{**AMOUNT, "times": {"input": "registry"}}]},
        {**PARAMS, "sums": [{**AMOUNT, "times": {"input": "bank", "column": "other"}}]},
    ],
)
def test_parameters_that_make_no_sense_are_refused(program, params):
    with pytest.raises(ValueError, match=r"."):
        program.check(params, ["bank", "registry"])


def test_parameters_that_make_sense_are_taken(program):
    program.check(PARAMS, ["bank", "registry"])


@pytest.mark.parametrize("protocol", ["ABY3", "CHEETAH"])
def test_sums_and_products_in_mpc_are_those_of_the_joined_table(protocol):
    chance = np.random.default_rng(7)
    amount, rate = chance.uniform(-5_000, 5_000, 1_000), chance.uniform(0, 1, 1_000)
    sums = [AMOUNT, RATE, {**AMOUNT, "times": RATE}, {**AMOUNT, "scale": 4096, "times": RATE}]
    tables = {"bank": {"amount": amount}, "registry": {"rate": rate}}
    found = simulate(load(shipped()["psi-sum"]), {"sums": sums, "min_group": 10}, tables, protocol).result
    wanted = [amount.sum(), rate.sum(), amount @ rate, amount @ rate]
    assert [each["sum"] for each in found["sums"]] == pytest.approx(wanted, rel=1e-6)
