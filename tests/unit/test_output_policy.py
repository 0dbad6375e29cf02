"""What may leave an enclave: shapes, precision, sizes, small groups, and rows and ids of the inputs."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from sealtrace.algorithms.output_policy import (
    Held,
    Narrowing,
    OutputPolicy,
    OutputRefused,
    PolicyWidened,
    Reason,
    _cell,
    _telling,
    held_of,
    narrow,
    passed,
    passed_metrics,
    public_words,
    why_too_few_rows,
)
from sealtrace.protocol.canonical import canonical

NOTHING = Held()
NUMBER = {"kind": "number", "decimals": 2}
SECRET = "secret-of-somebody"


def policy(shape: dict[str, Any], max_bytes: int = 10_000, **more: Any) -> OutputPolicy:
    outputs = {"found": {"shape": shape, "max_bytes": max_bytes}}
    return OutputPolicy.model_validate({"outputs": outputs, "min_group": 5, "min_rows": 10, **more})


def out(value: Any, shape: dict[str, Any], held: Held = NOTHING, public: frozenset[str] = frozenset()) -> Any:
    return passed({"found": value}, policy(shape), public, held)["found"]


def reason(value: Any, shape: dict[str, Any], held: Held = NOTHING) -> Reason:
    with pytest.raises(OutputRefused) as refused:
        out(value, shape, held)
    assert refused.value.next_step in str(refused.value)
    assert SECRET not in str(refused.value)
    return refused.value.reason


RECORD = {"kind": "record", "fields": {"mean": NUMBER, "n": {"kind": "count"}}, "optional": ["mean"]}
WORD = {"kind": "word", "of": ["own", "rent"], "public": True}
TABLE = {"kind": "table", "columns": {"group": WORD, "mean": NUMBER}, "max_rows": 3}
MODEL = {"kind": "model", "decimals": 3, "words": ["weights", "bias"]}


@pytest.mark.parametrize(
    ("value", "shape", "leaves"),
    [
        (0.12945, NUMBER, 0.13),
        (7, NUMBER, 7),
        (-0.001, NUMBER, 0),
        (None, {**NUMBER, "nullable": True}, None),
        (5, {"kind": "count"}, 5),
        (None, {"kind": "count"}, None),
        ([0.126, 2], {"kind": "list", "of": NUMBER, "max_items": 2}, [0.13, 2]),
        ({"n": 9}, RECORD, {"n": 9}),
        (
            {"group": ["own", "rent"], "mean": [1.239, 2]},
            TABLE,
            {"group": ["own", "rent"], "mean": [1.24, 2]},
        ),
        ({"weights": [[0.12345], True], "bias": None}, MODEL, {"weights": [[0.123], True], "bias": None}),
    ],
)
def test_what_is_declared_leaves_rounded(value, shape, leaves):
    assert canonical(out(value, shape)) == canonical(leaves)


@pytest.mark.parametrize(
    ("value", "shape", "why"),
    [
        ("0.1", NUMBER, Reason.WRONG_SHAPE),
        (True, NUMBER, Reason.WRONG_SHAPE),
        (None, NUMBER, Reason.WRONG_SHAPE),
        (math.nan, NUMBER, Reason.OUT_OF_RANGE),
        (math.inf, NUMBER, Reason.OUT_OF_RANGE),
        (3, {**NUMBER, "high": 2}, Reason.OUT_OF_RANGE),
        (4, {"kind": "count"}, Reason.GROUP_TOO_SMALL),
        (0, {"kind": "count"}, Reason.GROUP_TOO_SMALL),
        (5.0, {"kind": "count"}, Reason.WRONG_SHAPE),
        (SECRET, WORD, Reason.FREE_TEXT),
        (SECRET, {"kind": "id"}, Reason.FREE_TEXT),
        ([1, 2, 3], {"kind": "list", "of": NUMBER, "max_items": 2}, Reason.TOO_LARGE),
        ({"mean": 1}, RECORD, Reason.MISSING),
        ({"n": 9, SECRET: 1}, RECORD, Reason.UNDECLARED),
        ({"group": ["own"], "mean": [1, 2]}, TABLE, Reason.WRONG_SHAPE),
        ({"group": ["own"] * 4, "mean": [1, 2, 3, 4]}, TABLE, Reason.TOO_LARGE),
        ({SECRET: 1}, MODEL, Reason.FREE_TEXT),
        ({"weights": SECRET}, MODEL, Reason.FREE_TEXT),
        ({"weights": [math.nan]}, MODEL, Reason.OUT_OF_RANGE),
    ],
)
def test_what_is_not_declared_is_refused_without_quoting_it(value, shape, why):
    assert reason(value, shape) == why


def test_an_output_without_a_declaration_is_refused_and_not_named():
    with pytest.raises(OutputRefused) as refused:
        passed({"found": 1, SECRET: 1}, policy(NUMBER), frozenset(), NOTHING)
    assert refused.value.reason == Reason.UNDECLARED
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("outputs", [None, [], "text", 1])
def test_a_result_that_is_no_dictionary_is_refused(outputs):
    with pytest.raises(OutputRefused, match="not_a_result"):
        passed(outputs, policy(NUMBER), frozenset(), NOTHING)


def test_a_missing_output_is_refused_unless_it_is_optional():
    with pytest.raises(OutputRefused, match="found: missing"):
        passed({}, policy(NUMBER), frozenset(), NOTHING)
    document = policy(NUMBER).model_dump()
    document["outputs"]["found"]["optional"] = True
    assert passed({}, OutputPolicy.model_validate(document), frozenset(), NOTHING) == {}


def test_the_size_counts_after_rounding():
    shape = {"kind": "list", "of": NUMBER, "max_items": 100}
    assert passed({"found": [0.111111]}, policy(shape, 6), frozenset(), NOTHING) == {"found": [0.11]}
    with pytest.raises(OutputRefused, match="too_large"):
        passed({"found": [0.111111] * 2}, policy(shape, 6), frozenset(), NOTHING)


def test_words_of_the_job_may_leave_where_the_policy_says_so():
    public = public_words({"columns": ["age"], "by": {"column": "housing"}})
    assert out("housing", WORD, public=public) == "housing"
    with pytest.raises(OutputRefused, match="free_text"):
        out("housing", {**WORD, "public": False}, public=public)


ROWS = [["1169", "radio/television", "67"], ["5951", "radio/television", "22"], ["1", "0", "1"]]
HELD = held_of([(["10001", "10002", "10003"], list(zip(*ROWS, strict=True)))])
ANYTHING = {"kind": "model", "decimals": 6, "words": ["a", "b", "c", "radio/television"]}


@pytest.mark.parametrize(
    "value",
    [
        [1169, "radio/television", 67],
        {"a": 1169.0, "b": ["radio/television"], "c": 67},
        [0.5, 5951, "radio/television", 22, 7],
        {"a": [1169, 5951], "b": ["radio/television"] * 2, "c": [67, 22]},
        [1168.9999999, "radio/television", 67],
    ],
)
def test_a_row_of_an_input_does_not_leave_in_any_arrangement(value):
    assert reason(value, ANYTHING, HELD) == Reason.ROW_IN_OUTPUT


def test_a_row_that_says_little_is_not_looked_for():
    assert out([1, 0, 1], ANYTHING, HELD) == [1, 0, 1]
    assert out([1169, 67], ANYTHING, HELD) == [1169, 67]


def test_ids_leave_only_where_the_policy_says_so():
    assert out(["10002"], {"kind": "list", "of": {"kind": "id"}, "max_items": 3}, HELD) == ["10002"]
    assert reason([10001, 10002, 10003], ANYTHING, HELD) == Reason.ID_IN_OUTPUT
    assert out([10001, 10002, 10002], ANYTHING, HELD) == [10001, 10002, 10002]


def test_fewer_rows_than_the_policy_asks_for_are_refused():
    assert why_too_few_rows(policy(NUMBER), {"bank": 10}) is None
    refusal = why_too_few_rows(policy(NUMBER), {"bank": 10, "bureau": 9})
    assert refusal is not None
    assert refusal.reason == Reason.TOO_FEW_ROWS
    assert "bureau" in str(refusal)


METRICS = {"max_rounds": 2, "names": {"loss": {"kind": "number", "decimals": 1}}}


def test_metrics_leave_rounded_in_ascending_rounds():
    told = policy(NUMBER, metrics=METRICS)
    assert passed_metrics(0, {"loss": 0.55123}, told, -1, 0) == (0, {"loss": 0.6})
    assert passed_metrics(7, {}, told, 0, 1) == (7, {})


@pytest.mark.parametrize(
    ("number", "metrics", "last", "told", "why"),
    [
        (0, {}, 0, 1, Reason.METRIC_ORDER),
        (True, {}, -1, 0, Reason.METRIC_ORDER),
        (2**31, {}, -1, 0, Reason.METRIC_ORDER),
        (5, {}, 1, 2, Reason.METRIC_ORDER),
        (0, {SECRET: 1}, -1, 0, Reason.UNDECLARED),
        (0, {"loss": SECRET}, -1, 0, Reason.WRONG_SHAPE),
        (0, {"loss": math.nan}, -1, 0, Reason.OUT_OF_RANGE),
    ],
)
def test_other_metrics_are_refused(number, metrics, last, told, why):
    with pytest.raises(OutputRefused) as refused:
        passed_metrics(number, metrics, policy(NUMBER, metrics=METRICS), last, told)
    assert refused.value.reason == why
    assert SECRET not in str(refused.value)


def test_a_policy_without_metrics_lets_none_out():
    with pytest.raises(OutputRefused, match="undeclared"):
        passed_metrics(0, {}, policy(NUMBER), -1, 0)


def test_a_grant_takes_away_and_several_take_away_together():
    wide = policy({"kind": "list", "of": NUMBER, "max_items": 9}, metrics=METRICS)
    once = narrow(wide, Narrowing(decimals=1, min_group=50, metrics=False))
    both = narrow(once, Narrowing(decimals=2, min_group=20, max_bytes=7))
    assert passed({"found": [0.16]}, both, frozenset(), NOTHING) == {"found": [0.2]}
    assert (both.min_group, both.min_rows, both.metrics) == (50, 50, None)
    assert both.outputs["found"].max_bytes == 7


def test_a_grant_can_leave_out_an_output_but_neither_all_nor_others():
    document = policy(NUMBER).model_dump()
    document["outputs"]["ids"] = {"shape": {"kind": "id"}, "max_bytes": 9, "optional": True}
    wide = OutputPolicy.model_validate(document)
    assert list(narrow(wide, Narrowing(outputs=["found"])).outputs) == ["found"]
    with pytest.raises(PolicyWidened, match="no output other"):
        narrow(wide, Narrowing(outputs=["found", "other"]))
    with pytest.raises(PolicyWidened, match="no output"):
        narrow(wide, Narrowing(outputs=[]))


def test_fields_called_like_a_shape_s_own_words_are_fields():
    shape = {"kind": "record", "fields": {"kind": NUMBER, "decimals": NUMBER}}
    narrowed = narrow(policy(shape), Narrowing(decimals=0))
    assert passed({"found": {"kind": 1.4, "decimals": 2.6}}, narrowed, frozenset(), NOTHING) == {
        "found": {"kind": 1, "decimals": 3}
    }


def test_a_policy_says_whole_what_it_allows():
    for wrong in ({"outputs": {}}, {"min_rows": 4}, {"min_group": 0}, {"more": 1}):
        with pytest.raises(ValidationError):
            OutputPolicy.model_validate({**policy(NUMBER).model_dump(), **wrong})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats() | st.text(max_size=5),
    lambda each: st.lists(each, max_size=4) | st.dictionaries(st.sampled_from("abx"), each, max_size=3),
    max_leaves=12,
)
SHAPES = [NUMBER, {"kind": "count"}, WORD, {"kind": "id"}, RECORD, TABLE, MODEL, ANYTHING]
SHAPES += [{"kind": "list", "of": each, "max_items": 3} for each in SHAPES]


def texts(value: Any) -> set[str]:
    return set(public_words(value))


@settings(deadline=None)
@given(JSON, st.sampled_from(SHAPES))
def test_whatever_is_returned_leaves_by_the_rules_or_is_refused_by_name(value, shape):
    try:
        found = out(value, shape, HELD)
    except OutputRefused:
        return
    assert len(canonical(found)) <= 10_000
    declared = {"own", "rent", "a", "b", "c", "radio/television", "weights", "bias", "n", "mean", "group"}
    assert texts(found) <= declared | HELD.ids
    assert canonical(out(found, shape, HELD)) == canonical(found)  # what may leave may leave again


CELLS = st.lists(st.integers(2, 99_999), min_size=3, max_size=6, unique=True)


@settings(deadline=None)
@given(CELLS, st.lists(st.floats(0, 1), max_size=3), st.lists(st.floats(0, 1), max_size=3))
def test_a_row_is_found_among_whatever_stands_around_it(row, before, after):
    held = held_of([([], [[str(each)] for each in row])])
    assert reason([*before, *row, *after], ANYTHING, held) == Reason.ROW_IN_OUTPUT


@settings(deadline=None)
@given(st.floats(-1e9, 1e9), st.integers(0, 12))
def test_no_number_leaves_with_more_places_than_declared(value, decimals):
    found = out(value, {"kind": "number", "decimals": decimals})
    assert found == round(found, decimals)
    assert abs(found - value) <= 0.5000001 * 10**-decimals + 1e-6 * abs(value)


COLUMN = st.lists(
    st.sampled_from(["", "0", "1", "2", "2.0", "3", "4", "own", "rent", "nan"]), min_size=3, max_size=3
)


@settings(deadline=None)
@given(
    st.lists(st.tuples(COLUMN, COLUMN, COLUMN, COLUMN), min_size=1, max_size=6),
    st.sets(st.sampled_from("0234")),
)
def test_the_rows_looked_for_are_the_telling_ones_whose_every_cell_is_in_the_output(parts, words):
    columns = [[cell for part in parts for cell in part[at]] for at in range(4)]
    cells = {_cell(each) for each in words} | {_cell("own"), 1.0}
    rows = {tuple(map(_cell, row)) for row in zip(*columns, strict=True)}
    expected = {row for row in rows if _telling(row) and all(cell in cells for cell in row)}
    assert held_of([((), columns)]).rows_among(cells) == expected


def test_rows_of_a_large_table_are_found_where_many_cells_fit_and_few_rows_do():
    columns = [[str(at % 7) for at in range(30_000)], [str(at) for at in range(30_000)], ["own"] * 30_000]
    held = held_of([((), columns)])
    assert held.rows_among({3.0, 10.0, 17.0, 12.0, "own"}) == {(3.0, 10.0, "own"), (3.0, 17.0, "own")}
    telling = [at for at in range(30_000) if at % 7 > 1 and at > 6]
    assert len(held.rows_among({*map(float, range(30_000)), "own"})) == len(telling)
    assert (
        reason([3, 10, "own"], {"kind": "model", "decimals": 2, "words": ["own"]}, held)
        == Reason.ROW_IN_OUTPUT
    )
