"""Joint statistics, run by SPU's simulator in one process, against pandas, numpy and scipy on one table."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("spu")

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sealtrace.algorithms.bundles import load, shipped
from sealtrace.algorithms.simulation import CannotSimulate, simulate

CREDIT = Path(__file__).parents[2] / "examples" / "german_credit.csv"
STATISTICS = ["mean", "sum", "variance", "deviation", "min", "max"]
BUNDLE = load(shipped()["statistics"])


def run(params: dict[str, Any], protocol: str = "SEMI2K", **tables: pd.DataFrame) -> dict[str, Any]:
    lists = {name: {column: table[column].tolist() for column in table} for name, table in tables.items()}
    return simulate(BUNDLE, params, lists, protocol).result


def close(wanted: Any, rel: float = 1e-4, absolute: float = 1e-9) -> Any:
    return pytest.approx(wanted, rel=rel, abs=absolute)


def summary_of(values: pd.Series) -> dict[str, float]:
    """The same statistics by pandas."""
    return {
        "mean": values.mean(), "sum": values.sum(), "variance": values.var(), "deviation": values.std(),
        "min": values.min(), "max": values.max(),
    }  # fmt: skip


def quantile(values: pd.Series, share: float) -> float:
    """The least value that at least this share of the values does not exceed."""
    known = np.sort(values.dropna().to_numpy())
    return float(known[math.ceil(round(share * len(known), 6)) - 1])


# --- the real table, all measures in one program


@pytest.fixture(scope="module")
def credit() -> pd.DataFrame:
    frame = pd.read_csv(CREDIT)
    frame["savings"] = [
        math.nan if i % 13 == 0 else value for i, value in enumerate(frame.credit_amount / 7.3)
    ]
    frame["job"] = ["" if i % 17 == 0 else value for i, value in enumerate(frame.job)]
    return frame


def summary(*of: str, **more: Any) -> dict[str, Any]:
    return {"measure": "summary", "of": list(of), "statistics": STATISTICS, **more}


GOOD_TO_BAD = {"expected": "good", "actual": "bad"}
EDGES = [0, 1000, 2000, 3000, 5000, 10000, 20000]


def credit_params(frame: pd.DataFrame) -> dict[str, Any]:
    def key(input_: str, column: str, **more: Any) -> dict[str, Any]:
        found = sorted(set(frame[column]) - {""})
        return {"input": input_, "column": column, "kind": "category", "categories": found, **more}

    def number(input_: str, column: str, **more: Any) -> dict[str, Any]:
        return {"input": input_, "column": column, "kind": "number", **more}

    return {
        "min_group": 20,
        "columns": {
            "amount": number("bank", "credit_amount", low=0, high=20000),
            "months": number("bank", "duration_in_month"),
            "saved": number("bank", "savings", nulls=True),
            "bad": {"input": "bank", "column": "creditability", "kind": "indicator", "positive": "bad"},
            "age": number("registry", "age_in_years", low=18, high=80),
            "employed": key("registry", "present_employment_since"),
            "housing": key("bank", "housing"),
            "job": key("registry", "job", nulls=True),
            "size": {"input": "bank", "column": "credit_amount", "kind": "bins", "edges": EDGES},
            "outcome": key("bank", "creditability"),
        },
        "requests": {
            "all": summary("amount", "saved", "bad", quantiles=[0.05, 0.5, 0.9]),
            "by_two": summary("amount", "age", by=["employed", "housing"]),
            "by_job": summary("saved", by="job", statistics=["mean"], quantiles=[0.25]),
            "sizes": {"measure": "histogram", "of": "size"},
            "linked": {"measure": "correlation", "of": ["amount", "months", "age", "bad"]},
            "linked_known": {"measure": "correlation", "of": ["saved", "age"]},
            "together": {"measure": "covariance", "of": ["amount", "months", "saved"]},
            "independent": {"measure": "chi_square", "of": ["employed", "outcome"]},
            "differ": {"measure": "t_test", "of": "age", "between": "outcome"},
            "student": {"measure": "t_test", "of": "saved", "between": "outcome", "equal_variances": True},
            "shift": {"measure": "stability", "of": "employed", "between": "outcome", **GOOD_TO_BAD},
            "weights": {"measure": "woe", "of": "employed", "event": "bad"},
            "kinds": {"measure": "distinct", "of": ["job", "age", "saved"]},
            "empty": {"measure": "nulls", "of": ["job", "saved"]},
        },
    }


@pytest.fixture(scope="module")
def found(credit) -> dict[str, Any]:
    bank = credit[["credit_amount", "duration_in_month", "savings", "creditability", "housing"]]
    registry = credit[["age_in_years", "present_employment_since", "job"]]
    return run(credit_params(credit), "ABY3", bank=bank, registry=registry)


def test_a_summary_is_what_pandas_says(found, credit):
    (row,) = found["all"]
    assert (found["rows"], row["count"], row["suppressed"]) == (1000, 1000, False)
    assert {k: row["amount"][k] for k in STATISTICS} == close(summary_of(credit.credit_amount))
    assert {k: row["saved"][k] for k in STATISTICS} == close(summary_of(credit.savings))
    assert row["saved"]["count"] == credit.savings.count()
    assert row["bad"]["mean"] == close(0.3)


def test_quantiles_are_values_of_the_column(found, credit):
    (row,) = found["all"]
    for share in (0.05, 0.5, 0.9):
        assert row["amount"][f"q{share:g}"] == quantile(credit.credit_amount, share)
        assert row["saved"][f"q{share:g}"] == close(quantile(credit.savings, share))


def test_groups_by_keys_of_two_parties_are_those_of_pandas_and_small_ones_are_suppressed(found, credit):
    wanted = dict(iter(credit.groupby(["present_employment_since", "housing"])))
    assert any(len(rows) < 20 for rows in wanted.values())
    for row in found["by_two"]:
        rows = wanted.get((row["by"]["employed"], row["by"]["housing"]), credit.iloc[:0])
        if len(rows) < 20:
            assert row == {"by": row["by"], "count": None, "suppressed": True, "amount": None, "age": None}
        else:
            assert row["count"] == len(rows)
            assert row["amount"] == close(summary_of(rows.credit_amount))
            assert row["age"] == close(summary_of(rows.age_in_years))


def test_rows_without_a_key_belong_to_no_group_and_nulls_count_in_no_mean(found, credit):
    for row in found["by_job"]:
        rows = credit[credit.job == row["by"]["job"]]
        if row["suppressed"]:
            assert len(rows) < 20
            continue
        assert row["count"] == len(rows)
        assert row["saved"]["count"] == rows.savings.count()
        assert row["saved"]["mean"] == close(rows.savings.mean())
        assert row["saved"]["q0.25"] == close(quantile(rows.savings, 0.25))


def test_a_histogram_is_numpys(found, credit):
    counts, _ = np.histogram(credit.credit_amount, EDGES)
    assert [row["count"] for row in found["sizes"]] == [int(each) for each in counts]
    assert found["sizes"][-1]["size"] == "[10000, 20000]"


def test_correlation_and_covariance_are_those_of_pandas(found, credit):
    frame = credit.assign(bad=(credit.creditability == "bad").astype(float))
    linked = ["credit_amount", "duration_in_month", "age_in_years", "bad"]
    np.testing.assert_allclose(found["linked"]["matrix"], frame[linked].corr(), rtol=1e-4)
    np.testing.assert_allclose(
        found["linked_known"]["matrix"], frame[["savings", "age_in_years"]].corr(), rtol=1e-4
    )
    together = frame[["credit_amount", "duration_in_month", "savings"]].cov()
    np.testing.assert_allclose(found["together"]["matrix"], together, rtol=1e-4)


def test_chi_square_is_scipys(found, credit):
    table = pd.crosstab(credit.present_employment_since, credit.creditability)
    wanted = stats.chi2_contingency(table, correction=False)
    shown = found["independent"]
    assert (shown["rows"], shown["suppressed"], shown["degrees_of_freedom"]) == (1000, False, wanted.dof)
    assert (shown["statistic"], shown["p_value"]) == close((wanted.statistic, wanted.pvalue))


def test_t_tests_are_scipys(found, credit):
    good, bad = credit[credit.creditability == "good"], credit[credit.creditability == "bad"]
    for name, column, equal in (("differ", "age_in_years", False), ("student", "savings", True)):
        two = [bad[column].dropna(), good[column].dropna()]
        wanted = stats.ttest_ind(*two, equal_var=equal)
        shown = found[name]
        assert shown["rows"] == [len(each) for each in two]
        assert [shown[k] for k in ("statistic", "p_value", "degrees_of_freedom")] == close(
            [wanted.statistic, wanted.pvalue, wanted.df]
        )


def test_the_stability_index_and_weights_of_evidence_follow_from_the_counts(found, credit):
    counts = pd.crosstab(credit.present_employment_since, credit.creditability)
    counts = counts[(counts >= 20).all(axis=1)]
    shares = counts / counts.sum()
    weights = np.log(shares.bad / shares.good)
    assert found["shift"]["index"] == close(((shares.bad - shares.good) * weights).sum())
    assert found["weights"]["information_value"] == close(((shares.bad - shares.good) * weights).sum())
    assert [b["woe"] for b in found["weights"]["bins"]] == close(list(weights))
    assert [b["expected"] for b in found["shift"]["bins"]] == list(counts.good)


def test_distinct_values_and_nulls_are_counted(found, credit):
    known = credit.job[credit.job != ""]
    wanted = [(len(known), known.nunique()), (1000, credit.age_in_years.nunique())]
    wanted.append((credit.savings.count(), credit.savings.nunique()))
    assert [(each["count"], each["distinct"]) for each in found["kinds"]] == wanted
    assert found["empty"] == [
        {"column": "job", "count": len(known), "nulls": 1000 - len(known)},
        {"column": "saved", "count": credit.savings.count(), "nulls": credit.savings.isna().sum()},
    ]


# --- other tables


@pytest.mark.parametrize("name", ["load_breast_cancer", "load_diabetes"])
def test_other_real_tables_agree_with_pandas(name):
    datasets = pytest.importorskip("sklearn.datasets")
    more = {"scaled": False} if "diabetes" in name else {}
    frame = getattr(datasets, name)(as_frame=True, **more).frame
    frame = frame.rename(columns={column: f"c{at}" for at, column in enumerate(frame)})
    names = list(frame)[:10]
    params = {
        "min_group": 10,
        "columns": {each: {"input": "ab"[at % 2], "kind": "number"} for at, each in enumerate(names)},
        "requests": {
            "all": summary(*names),
            "linked": {"measure": "correlation", "of": names},
            "together": {"measure": "covariance", "of": names},
        },
    }
    found = run(params, a=frame[names[::2]], b=frame[names[1::2]])
    for each in names:
        assert found["all"][0][each] == close(summary_of(frame[each]), absolute=1e-9)
    np.testing.assert_allclose(found["linked"]["matrix"], frame[names].corr(), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(found["together"]["matrix"], frame[names].cov(), rtol=1e-4, atol=1e-9)


@st.composite
def tables(draw) -> pd.DataFrame:
    """Tables of any small shape: sizes of number, signs, ties, constant and mostly empty columns."""
    rows = draw(st.integers(6, 60))
    chance = np.random.default_rng(draw(st.integers(0, 2**32)))
    size = draw(st.sampled_from([1e-6, 1.0, 1e3, 1e9]))
    x = chance.normal(draw(st.sampled_from([0.0, 1.0, 100.0])), 1.0, rows) * size
    if draw(st.booleans()):
        x = np.round(x / size) * size
    y = np.where(
        chance.random(rows) < draw(st.sampled_from([0.0, 0.3, 0.9])), np.nan, chance.exponential(size, rows)
    )
    keys = chance.integers(0, draw(st.integers(1, 4)), rows)
    return pd.DataFrame({"x": x, "y": y, "k": [f"k{each}" for each in keys]})


@settings(max_examples=6, deadline=None, derandomize=True)
@given(tables(), st.booleans())
def test_tables_of_any_shape_agree_with_pandas(frame, horizontal):
    place = [{}, {}, {}] if horizontal else [{"input": "a"}, {"input": "b"}, {"input": "a"}]
    bounds = [{"low": frame[each].min(), "high": frame[each].max()} for each in "xy"]
    if math.isnan(bounds[1]["low"]):
        bounds[1] = {"low": 0, "high": 0}
    if not horizontal:
        bounds[0] = {}
    params = {
        "min_group": 3,
        "columns": {
            "x": {"kind": "number", **place[0], **bounds[0]},
            "y": {"kind": "number", "nulls": True, **place[1], **bounds[1]},
            "k": {"kind": "category", "categories": ["k0", "k1", "k2", "k3"], **place[2]},
        },
        "requests": {
            "s": summary("x", "y", by="k", quantiles=[0.5]),
            "c": {"measure": "correlation", "of": ["x", "y"]},
            "d": {"measure": "distinct", "of": ["x", "y", "k"]},
        },
        **({"horizontal": ["b", "a"]} if horizontal else {}),
    }
    cut = len(frame) // 3 + 1
    parts = (
        {"a": frame[:cut], "b": frame[cut:]} if horizontal else {"a": frame[["x", "k"]], "b": frame[["y"]]}
    )
    found = run(params, **parts)
    for row in found["s"]:
        _assert_group(row, frame[frame.k == row["by"]["k"]])
    known = frame.dropna()
    spread = len(known) >= 3 and known.x.std() > 0 and known.y.std() > 0
    wanted = close(known.x.corr(known.y), absolute=1e-6) if spread else None
    assert found["c"]["matrix"][0][1] == wanted
    counts = [len(frame), frame.y.count(), len(frame)]
    distinct = [frame[each].nunique() for each in "xyk"]
    wanted = [(n, d) if n >= 3 else (None, None) for n, d in zip(counts, distinct, strict=True)]
    assert [(each["count"], each["distinct"]) for each in found["d"]] == wanted


def _assert_group(row: dict[str, Any], rows: pd.DataFrame) -> None:
    assert row["suppressed"] == (len(rows) < 3)
    for name in "xy":
        values = rows[name].dropna()
        if len(values) < 3 or row["suppressed"]:
            assert row[name] is None
            continue
        wanted = {**summary_of(values), "q0.5": quantile(values, 0.5)}
        size = float(values.abs().max())
        shown = dict(row[name])
        shown.pop("count")
        for each in ("variance", "deviation"):  # of values that are alike nearly: relative to their size
            power = 2 if each == "variance" else 1
            assert shown.pop(each) == close(wanted.pop(each), absolute=(1e-6 * size) ** power)
        assert shown == close(wanted, absolute=1e-9 * size)


# --- rows of different parties


NORTH_TO_SOUTH = {"expected": "north", "actual": "south"}


def test_rows_of_several_parties_are_one_table():
    chance = np.random.default_rng(3)
    frame = pd.DataFrame({"x": chance.normal(50, 9, 90).round(2), "city": chance.choice(["Bonn", "Ulm"], 90)})
    north, south = frame[:30].assign(x=frame.x[:30] + 4), frame[30:]
    params = {
        "horizontal": ["north", "south"],
        "min_group": 5,
        "columns": {
            "x": {"kind": "number", "low": 0, "high": 100},
            "city": {"kind": "category", "categories": ["Bonn", "Ulm"]},
            "where": {"kind": "input"},
            "bin": {"column": "x", "kind": "bins", "edges": [40, 50, 60], "open_ends": True},
        },
        "requests": {
            "all": summary("x", by=["where", "city"], quantiles=[0.25]),
            "differ": {"measure": "t_test", "of": "x", "between": "where"},
            "shift": {"measure": "stability", "of": "bin", "between": "where", **NORTH_TO_SOUTH},
        },
    }
    found = run(params, north=north, south=south)
    assert found["rows"] == 90
    for row in found["all"]:
        rows = {"north": north, "south": south}[row["by"]["where"]]
        values = rows.x[rows.city == row["by"]["city"]]
        assert row["count"] == len(values)
        assert row["x"] == close({**summary_of(values), "q0.25": quantile(values, 0.25)})
    wanted = stats.ttest_ind(north.x, south.x, equal_var=False)
    assert (found["differ"]["statistic"], found["differ"]["p_value"]) == close(
        (wanted.statistic, wanted.pvalue)
    )
    shares = [np.array([(x < 50).mean(), (x >= 50).mean()]) for x in (north.x, south.x)]
    index = ((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum()
    assert found["shift"]["index"] == close(index)


# --- small groups


def raw(params: dict[str, Any], **tables: dict[str, list[Any]]) -> dict[str, Any]:
    """What the joint function returns before anybody opens it, computed in the clear."""
    import jax

    jax.config.update("jax_enable_x64", True)
    held = {name: len(next(iter(table.values()))) for name, table in tables.items()}
    made = {
        k: v for name, t in tables.items() for k, v in BUNDLE.program.prepare(params, name, t, held).items()
    }
    arrays = [made[name] for name, *_ in BUNDLE.program.arrays(params, held)]
    found = BUNDLE.program.program(params, held)(*arrays)
    return dict(zip(BUNDLE.program.outputs(params), map(np.asarray, found), strict=True))


def test_a_small_group_is_zero_before_anybody_could_open_it():
    params = {
        "min_group": 3,
        "columns": {
            "x": {"input": "a", "kind": "number", "low": 0, "high": 9},
            "y": {"input": "a", "kind": "number", "low": 0, "high": 9, "nulls": True},
            "k": {"input": "b", "kind": "category", "categories": ["p", "q"]},
            "e": {"input": "a", "kind": "indicator", "positive": "yes"},
        },
        "requests": {
            "s": summary("x", "y", by="k", statistics=["sum", "min", "max"], quantiles=[0.5]),
            "w": {"measure": "woe", "of": "k", "event": "e"},
            "v": {"measure": "stability", "of": "k", "between": "k", "expected": "p", "actual": "q"},
            "d": {"measure": "distinct", "of": ["y"]},
        },
    }
    nan = math.nan
    a = {
        "x": [1.0, 2.0, 3.0, 4.0, 5.0],
        "y": [1.0, nan, 3.0, nan, nan],
        "e": ["yes", "no", "yes", "yes", "no"],
    }
    found = raw(params, a=a, b={"k": ["p", "p", "p", "q", "q"]})
    assert found["s/rows"].tolist() == [3, 0]
    assert found["s/known"].tolist() == [[3, 0], [0, 0]]
    for part in ("sum", "min", "max", "quantiles"):
        small = np.moveaxis(found[f"s/{part}"], -2, 0)
        assert not small[1].any()  # the group q
        assert not small[0][..., 1].any()  # of y the group p knows two values
        assert small[0][..., 0].all()
    assert found["w/rows"].tolist() == [3, 0]
    assert found["w/events"].tolist() == [2, 0]
    assert not found["v/rows"].any()
    assert not found["d/rows"].any()
    assert not found["d/distinct"].any()


def test_a_t_test_or_chi_square_with_a_small_sample_shows_nothing():
    params = {
        "min_group": 3,
        "columns": {
            "x": {"input": "a", "kind": "number"},
            "k": {"input": "a", "kind": "category", "categories": ["p", "q", "none"]},
            "m": {"input": "a", "kind": "category", "categories": ["m", "n"]},
        },
        "requests": {
            "t": {"measure": "t_test", "of": "x", "between": "k", "groups": ["p", "q"]},
            "c": {"measure": "chi_square", "of": ["k", "m"]},
        },
    }
    table = {"x": [1.0, 2, 3, 4, 5, 6], "k": ["p"] * 4 + ["q"] * 2, "m": ["m", "n"] * 3}
    found = run(params, a=pd.DataFrame(table))
    assert found["t"] == {"groups": ["p", "q"], "suppressed": True}
    assert found["c"] == {"rows": None, "suppressed": True}
    table["k"] = ["p"] * 3 + ["q"] * 3
    found = run(params, a=pd.DataFrame(table))
    assert found["t"]["rows"] == [3, 3]
    assert found["c"]["degrees_of_freedom"] == 1  # the empty category is none
    wanted = stats.chi2_contingency([[2, 1], [1, 2]], correction=False).statistic
    assert found["c"]["statistic"] == close(wanted)


# --- ranges


def minimal(**changes: Any) -> dict[str, Any]:
    params = {
        "min_group": 2,
        "columns": {"x": {"input": "a", "kind": "number", "low": 0, "high": 10}},
        "requests": {"s": {"measure": "summary", "of": "x", "statistics": ["mean"]}},
    }
    return {**params, **changes}


def test_a_value_out_of_its_range_is_refused_at_its_owner_by_column_and_row():
    with pytest.raises(
        ValueError, match=r"column 'x', row 2: outside of 0 to 10; widen low and high in columns.x"
    ) as no:
        BUNDLE.program.prepare(minimal(), "a", {"x": [1.0, 10.5]}, {"a": 2})
    assert no.value.reason == "out_of_range"
    assert "10.5" not in str(no.value)


def test_a_value_outside_of_the_bins_is_refused_unless_their_ends_are_open():
    bins = {"input": "a", "column": "x", "kind": "bins", "edges": [0, 5, 10]}
    params = minimal(columns={"b": bins}, requests={"h": {"measure": "histogram", "of": "b"}})
    with pytest.raises(ValueError, match=r"row 1: outside of columns.b.edges") as no:
        BUNDLE.program.prepare(params, "a", {"x": [-1.0, 5.0, 10.0]}, {"a": 3})
    assert no.value.reason == "out_of_range"
    bins["open_ends"] = True
    made = BUNDLE.program.prepare(params, "a", {"x": [-1.0, 5.0, 11.0]}, {"a": 3})
    assert made["b.hot@a"].tolist() == [[1, 0], [0, 1], [0, 1]]


def test_an_undeclared_category_is_refused_at_its_owner_without_quoting_it():
    key = {"input": "a", "kind": "category", "categories": ["p"]}
    params = minimal(columns={"k": key}, requests={"s": {"measure": "summary", "by": "k"}})
    with pytest.raises(
        ValueError, match=r"column 'k', row 2: its value is none of columns.k.categories"
    ) as no:
        BUNDLE.program.prepare(params, "a", {"k": ["p", "secret"]}, {"a": 2})
    assert no.value.reason == "unknown_category"
    assert "secret" not in str(no.value)


@pytest.mark.parametrize("digits", range(1, 31))
def test_no_sum_or_product_can_leave_its_field(digits):
    ranges = __import__(BUNDLE.program.__package__ + ".ranges", fromlist=["chosen"])
    declared = __import__(BUNDLE.program.__package__ + ".declared", fromlist=["read"])
    params = minimal(columns={"x": {"input": "a", "kind": "number"}, "y": {"input": "b", "kind": "number"}})
    params["requests"] = {"s": summary("x"), "c": {"measure": "correlation", "of": ["x", "y"]}}
    rows = 2**digits - 1
    chosen = ranges.chosen(declared.read({**params, "min_group": 2}), max(rows, 2))
    code, standard = 2**chosen.code_bits, math.isqrt(rows) * 2**chosen.standard_bits + 1
    assert chosen.field == "FM128"
    assert rows * code < 2**62
    assert rows * rows * code**2 < 2**124
    assert rows * rows * standard**2 < 2**124
    assert chosen.code_bits >= 31
    assert chosen.standard_bits >= 16


def test_the_largest_values_in_many_rows_come_out_exactly():
    rows = 40_000
    x = np.where(np.arange(rows) % 2 == 0, 2.0**39, -(2.0**39))
    frame = pd.DataFrame({"x": x, "y": -x})
    columns = {each: {"input": "a", "kind": "number", "low": -(2**39), "high": 2**39} for each in "xy"}
    requests = {
        "s": summary("x", "y"),
        "linked": {"measure": "correlation", "of": ["x", "y"]},
        "together": {"measure": "covariance", "of": ["x", "y"]},
    }
    found = run(minimal(columns=columns, requests=requests), a=frame)
    assert found["s"][0]["x"] == close(summary_of(frame.x), rel=1e-12)
    assert found["linked"]["matrix"][0][1] == close(-1.0, rel=1e-9)
    assert found["together"]["matrix"][0][1] == close(frame.x.cov(frame.y), rel=1e-12)


@pytest.mark.parametrize(
    ("measure", "field"),
    [
        ({"statistics": ["mean", "sum", "min", "max"]}, "FM64"),
        ({"quantiles": [0.5]}, "FM64"),
        ({"statistics": ["variance"]}, "FM128"),
    ],
)
def test_the_field_is_as_small_as_the_request_allows(measure, field):
    params = minimal(requests={"s": {"measure": "summary", "of": "x", **measure}})
    assert BUNDLE.program.arithmetic(params, 1000)[0] == field


def test_too_few_and_too_many_rows_are_named():
    with pytest.raises(ValueError, match="1 rows, fewer than min_group, 2"):
        BUNDLE.program.arithmetic(minimal(), 1)
    with pytest.raises(ValueError, match="at most 2\\^30"):
        BUNDLE.program.arithmetic(minimal(), 2**30)
    key = {"input": "a", "kind": "category", "categories": ["p", "q"]}
    chi = {"c": {"measure": "chi_square", "of": ["k", "m"]}}
    with pytest.raises(ValueError, match=r"requests.c: chi_square takes fewer than 2\^20 rows"):
        BUNDLE.program.arithmetic(minimal(columns={"k": key, "m": key}, requests=chi), 2**20)


def test_inputs_of_different_lengths_are_refused_unless_they_are_put_below_each_other():
    with pytest.raises(ValueError, match="align them first"):
        BUNDLE.program.rows(minimal(), {"a": 3, "b": 4})
    assert BUNDLE.program.rows(minimal(horizontal=["a", "b"], columns={"x": BOUNDED}), {"a": 3, "b": 4}) == 7


# --- what is asked for

BOUNDED = {"kind": "number", "low": 0, "high": 1}
KEY = {"input": "a", "kind": "category", "categories": ["p", "q"]}
MANY = {**KEY, "categories": [f"{each}" for each in range(200)]}


def asked(request: dict[str, Any], **columns: Any) -> dict[str, Any]:
    return {"requests": {"r": request}, "columns": columns or minimal()["columns"]}


X = {"x": {**BOUNDED, "input": "a"}}
NONSENSE = [
    ({"min_group": 1}, "min_group: a whole number from 2"),
    ({"min_group": True}, "min_group: a whole number from 2"),
    ({"surprise": 1}, "params: 'surprise' means nothing here"),
    ({"requests": {}}, "requests: 1 to 32 of them"),
    ({"requests": {"rows": {}}}, "requests: 'rows' is no name"),
    ({"columns": {"x": {"kind": "numbre", "input": "a"}}}, "columns.x.kind: one of number"),
    ({"columns": {"x": {"kind": "number"}}}, "columns.x: input is missing"),
    (
        {"columns": {"x": {"kind": "number", "input": "zoo"}}},
        "columns.x.input: one of the step's inputs: a, b",
    ),
    ({"columns": {"x": {**X["x"], "high": -1}}}, "columns.x: low and high are numbers"),
    ({"columns": {"x": {"kind": "number", "input": "a", "low": 1}}}, "columns.x: give both low and high"),
    ({"columns": {"x": {**X["x"], "nulls": 1}}}, "columns.x.nulls: true"),
    ({"columns": {**X, "k": KEY}}, "columns.k: no request uses it"),
    ({"columns": {"x": {"kind": "input", "input": "a"}}}, "columns.x.kind: 'input' tells the rows"),
    ({"horizontal": ["a"]}, "horizontal: lists all of the step's inputs"),
    ({"horizontal": ["a", "c"]}, "horizontal: lists all of the step's inputs"),
    ({"horizontal": ["a", "b"]}, "columns.x: 'input' means nothing here"),
    ({"horizontal": ["a", "b"], "columns": {"x": {"kind": "number"}}}, "columns.x: give low and high"),
    (asked({"measure": "average"}), "requests.r.measure: one of summary"),
    (asked({"measure": "summary", "of": "xx"}), "requests.r.of: there is no column 'xx'; declared are x"),
    (asked({"measure": "summary", "of": ["x", "x"]}), "requests.r.of: one is given twice"),
    (asked({"measure": "summary", "of": "x"}), "requests.r: say which statistics or quantiles of x"),
    (asked({"measure": "summary", "of": "x", "statistics": ["median"]}), "'median' is none of mean"),
    (asked({"measure": "summary", "of": "x", "quantiles": [1]}), "requests.r.quantiles: at most 64"),
    (asked({"measure": "summary", "of": "x", "quantiles": [0.12345]}), "requests.r.quantiles: at most 64"),
    (asked({"measure": "summary", "by": "x"}), "r.by: x is declared as number, here it must be category"),
    (asked({"measure": "summary", "by": "k", "statistics": ["sum"]}, k=KEY), "name them in of"),
    (asked({"measure": "summary", "of": "k", "statistics": ["sum"]}, k=KEY), "k is declared as category"),
    (asked({"measure": "correlation", "of": "x"}), "requests.r.of: two columns or more"),
    (asked({"measure": "chi_square", "of": "k"}, k=KEY), "requests.r.of: exactly 2 columns"),
    (asked({"measure": "nulls", "of": "x"}), "x has no nulls unless columns.x.nulls is true"),
    (
        asked({"measure": "woe", "of": "k", "event": "k"}, k=KEY),
        "k is declared as category, here it must be i",
    ),
    (asked({"measure": "histogram", "of": "k"}, k=KEY), "k is declared as category, here it must be bins"),
    (
        asked({"measure": "stability", "of": "k", "between": "k", "expected": "p", "actual": "z"}, k=KEY),
        "requests.r: expected and actual are two of p, q",
    ),
    (
        asked({"measure": "t_test", "of": "x", "between": "k", "groups": ["p"]}, k=KEY, **X),
        "requests.r.groups: two of p, q",
    ),
    (asked({"measure": "summary", "by": ["k", "m"]}, k=MANY, m=MANY), "40000 groups; at most 1024"),
    (asked({"measure": "summary"}), "requests.r: groups need keys in by, or columns in of"),
    (
        asked({"measure": "histogram", "of": "x"}, x={"input": "a", "kind": "bins", "edges": [2, 1]}),
        "columns.x.edges: 2 to 257 numbers",
    ),
]


@pytest.mark.parametrize(("change", "said"), NONSENSE)
def test_what_makes_no_sense_is_refused_where_it_stands(change, said):
    with pytest.raises(ValueError, match=said.replace("(", r"\(")):
        BUNDLE.program.check(minimal(**change), ["a", "b"])


def test_the_simulator_says_what_the_program_refuses():
    with pytest.raises(CannotSimulate, match="outside of 0 to 10"):
        run(minimal(), a=pd.DataFrame({"x": [1.0, 99.0]}))
    with pytest.raises(CannotSimulate, match="runs under ABY3"):
        run(minimal(), "RR22", a=pd.DataFrame({"x": [1.0, 9.0]}))
