"""What two parties write differently and mean alike, and what a PSI step may ask for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealtrace.protocol.alignment import BadAlignment, contradictions, read_alignment
from sealtrace.protocol.keys import (
    DIGEST_BYTES,
    RULES,
    TOKEN_BYTES,
    UnfitKey,
    UnknownRule,
    digests_of_one_part,
    encode_key,
    rewriter,
    tokens_of,
)

ALIKE = [
    ("trim", ["  a b ", "a b"], "a b"),
    ("width", ["\uff21\uff11\u3000x", "A1 x"], "A1 x"),
    ("case", ["Stra\u00dfe", "STRASSE", "strasse"], "strasse"),
    ("id", ["ab-12 3", "AB123", "\uff21b.12/3"], "AB123"),
    ("integer", ["007", "7.0", "+7", " 7 ", "\uff17"], "7"),
    ("integer", ["-0", "0", "0.000"], "0"),
    ("integer", ["-012"], "-12"),
    ("phone:86", ["139 1234 5678", "+86 139-1234-5678", "0086 13912345678"], "+8613912345678"),
    ("phone:49", ["0731/123-45", "+49 (731) 12345", "0049 731 12345"], "+4973112345"),
    ("cn-resident", ["11010519491231002x", "11010519491231002X", "110105491231002"], "11010519491231002X"),
]


@pytest.mark.parametrize(("rule", "cells", "wanted"), ALIKE)
def test_what_means_the_same_is_written_the_same(rule, cells, wanted):
    assert {rewriter([rule])(cell) for cell in cells} == {wanted}


UNFIT = [
    ("integer", ["", "seven", "7.5", "1e3", "- 7", "0x7", "\u0667\u0667x"]),
    ("phone:86", ["", "1234", "call me", "+0 139 1234 5678", "1391234567812345", "139-1234-567a"]),
    ("cn-resident", ["", "110105194912310021", "1101051949123100", "A10105194912310021"]),
]


@pytest.mark.parametrize(("rule", "cell"), [(rule, cell) for rule, cells in UNFIT for cell in cells])
def test_a_cell_of_another_type_is_refused_and_not_quoted(rule, cell):
    with pytest.raises(UnfitKey) as refused:
        rewriter([rule])(cell)
    assert not cell or cell not in str(refused.value)


@pytest.mark.parametrize(
    "name", ["", "upper", "phone", "phone:", "phone:0", "phone:1234", "phone:de", "trim:1"]
)
def test_a_rule_that_does_not_exist_is_refused_with_those_that_do(name):
    with pytest.raises(UnknownRule, match="trim, width, case, id, integer, cn-resident, and phone:CC"):
        rewriter([name])


@given(st.sampled_from([*RULES, "phone:86"]), st.text(max_size=20))
def test_a_rule_changes_nothing_it_has_written(name, cell):
    rule = rewriter([name])
    try:
        once = rule(cell)
    except UnfitKey:
        return
    assert rule(once) == once


def test_rules_apply_from_left_to_right():
    assert rewriter(["trim", "width", "case"])(" \uff21 ") == "a"
    assert rewriter([])(" A ") == " A "


texts = st.lists(st.text(max_size=6), max_size=4)


@given(texts, texts)
def test_two_keys_have_one_encoding_only_where_every_part_is_the_same(one, other):
    assert (encode_key(one) == encode_key(other)) == (one == other)


def test_a_boundary_between_columns_is_part_of_the_key():
    assert encode_key(["ab", "c"]) != encode_key(["a", "bc"])


def test_a_key_stands_under_another_name_in_every_task():
    assert tokens_of("0x1")(b"x") != tokens_of("0x2")(b"x")
    assert len(tokens_of("0x1")(b"x")) == 16


MALFORMED = [
    ({"surprise": 1}, "params.surprise"),
    ({"result": "everything"}, "params.result"),
    ({"key": []}, "params.key"),
    ({"key": [{"rules": ["trim", "upper"]}]}, "params.key.0.rules.1: 'upper' is no rule: there are trim"),
    ({"duplicates": "last"}, "params.duplicates"),
    ({"receivers": []}, "params.receivers"),
    ({"keep": "yes"}, "params.keep"),
]


@pytest.mark.parametrize(("params", "said"), MALFORMED)
def test_malformed_parameters_are_refused_with_their_place(params, said):
    with pytest.raises(BadAlignment) as refused:
        read_alignment(params)
    assert str(refused.value).startswith(said)


COLUMNS = {"bank": ["id", "phone", "name"], "registry": ["no", "mobile"], "carrier": ["id", "phone"]}
PHONES = {"bank": "phone", "registry": "mobile", "carrier": "phone"}


def problems(params, columns=COLUMNS, read_later=False):
    return list(contradictions(read_alignment(params), columns, read_later=read_later))


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"key": [{"columns": PHONES, "rules": ["phone:86"]}]},
        {"key": [{}, {"columns": PHONES}]},
        {"receivers": ["registry"], "keep": True},
        {"receivers": ["registry", "bank", "carrier"], "result": "ids"},
        {"result": "rows", "left": "bank", "duplicates": "all"},
    ],
)
def test_parameters_that_fit_their_step_are_taken(params):
    assert problems(params) == []


CONTRADICTIONS = [
    ({"key": [{"columns": {"bank": "phone"}}]}, "a column for each of the step's inputs, or for none"),
    ({"key": [{"columns": {**PHONES, "bank": "salary"}}]}, "input bank does not name the column 'salary'"),
    ({"key": [{}, {}]}, "one column of input bank is given twice"),
    ({"receivers": ["nobody"]}, "among the step's inputs"),
    ({"receivers": ["bank", "bank"]}, "distinct"),
    ({"receivers": ["bank", "carrier"]}, "one input or all"),
    ({"duplicates": "all"}, "is for result: rows"),
    ({"left": "bank"}, "is for result: rows"),
    ({"result": "rows", "left": "nobody"}, "one of the step's inputs"),
    ({"result": "rows", "receivers": ["bank"]}, "every party gives its own columns"),
]


@pytest.mark.parametrize(("params", "said"), CONTRADICTIONS)
def test_parameters_that_do_not_fit_their_step_are_refused_by_name(params, said):
    assert any(said in each for each in problems(params))


@pytest.mark.parametrize("params", [{"receivers": ["bank"]}, {"result": "rows", "duplicates": "all"}])
def test_a_later_step_needs_every_party_and_one_row_for_a_key(params):
    assert problems(params) == []
    assert any("a later step computes" in each for each in problems(params, read_later=True))


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=300), st.sampled_from([1, 255, 256, 257]))
def test_keys_of_one_part_have_the_same_tokens_either_way(text, length):
    one = tokens_of("0x07")
    for parts in ([text], [text.ljust(length, "x")], [text, "", text.ljust(length, "x"), text]):
        found = digests_of_one_part("0x07")([each.encode() for each in parts])
        tokens = [found[at : at + TOKEN_BYTES] for at in range(0, len(found), DIGEST_BYTES)]
        assert tokens == [one(encode_key([each])) for each in parts]
