"""Canonical JSON against the vectors of RFC 8785, and our stricter reader."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealtrace.protocol.canonical import NotCanonical, canonical, parse, parse_canonical

# RFC 8785, Appendix B: IEEE 754 bits and their text.
NUMBERS = [
    ("0000000000000000", "0"),
    ("8000000000000000", "0"),
    ("0000000000000001", "5e-324"),
    ("8000000000000001", "-5e-324"),
    ("7fefffffffffffff", "1.7976931348623157e+308"),
    ("ffefffffffffffff", "-1.7976931348623157e+308"),
    ("4340000000000000", "9007199254740992"),
    ("c340000000000000", "-9007199254740992"),
    ("4430000000000000", "295147905179352830000"),
    ("44b52d02c7e14af5", "9.999999999999997e+22"),
    ("44b52d02c7e14af6", "1e+23"),
    ("44b52d02c7e14af7", "1.0000000000000001e+23"),
    ("444b1ae4d6e2ef4e", "999999999999999700000"),
    ("444b1ae4d6e2ef4f", "999999999999999900000"),
    ("444b1ae4d6e2ef50", "1e+21"),
    ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
    ("3eb0c6f7a0b5ed8d", "0.000001"),
    ("41b3de4355555553", "333333333.3333332"),
    ("41b3de4355555554", "333333333.33333325"),
    ("41b3de4355555555", "333333333.3333333"),
    ("41b3de4355555556", "333333333.3333334"),
    ("41b3de4355555557", "333333333.33333343"),
    ("becbf647612f3696", "-0.0000033333333333333333"),
    ("43143ff3c1cb0959", "1424953923781206.2"),
]

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize(("bits", "text"), NUMBERS)
def test_numbers_are_written_as_appendix_b_says(bits, text):
    assert canonical(struct.unpack(">d", bytes.fromhex(bits))[0]) == text.encode()


@pytest.mark.parametrize("bits", ["7fffffffffffffff", "7ff0000000000000", "fff0000000000000"])
def test_nan_and_infinity_have_no_canonical_form(bits):
    with pytest.raises(NotCanonical):
        canonical(struct.unpack(">d", bytes.fromhex(bits))[0])


def test_the_example_of_section_3_2_2_comes_out_byte_for_byte():
    given = (
        rb'{"numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],'
        rb'"string": "\u20ac$\u000F\u000aA' + b"'" + rb'\u0042\u0022\u005c\\\"\/",'
        rb'"literals": [null, true, false]}'
    )
    expected = (
        b'{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        b'"string":"\xe2\x82\xac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )
    assert canonical(parse(given)) == expected


def test_keys_are_sorted_by_utf_16_code_units_as_section_3_2_3_says():
    keys = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\x80", "\xf6"]
    expected = ["\r", "1", "\x80", "\xf6", "\u20ac", "\U0001f600", "\ufb33"]
    assert list(parse(canonical(dict.fromkeys(keys, 0)))) == expected


@given(JSON)
def test_what_is_written_reads_back_and_writes_the_same(value):
    text = canonical(value)
    assert canonical(parse_canonical(text)) == text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b'{"a":1,"a":2}', "twice"),
        (b"NaN", "NaN"),
        (b"[Infinity]", "Infinity"),
        (b"9007199254740992", "2^53"),
        (b"1" * 4_000, "2^53"),
        (b"[" * 100 + b"]" * 100, "deeper"),
        (b'"\xff"', "UTF-8"),
        (b"{", "JSON"),
        (b"", "JSON"),
    ],
)
def test_a_text_that_readers_could_take_differently_is_refused(text, why):
    with pytest.raises(NotCanonical, match=why.replace("^", r"\^")):
        parse(text)


@pytest.mark.parametrize("value", ["[" * 200, '"[{' * 200, "\\" * 3 + "[" * 99, {"[" * 99: ["]" * 99]}])
def test_brackets_within_texts_nest_nothing(value):
    assert parse_canonical(canonical(value)) == value


@pytest.mark.parametrize("text", ['{"a":"\\\\",' + '"b":[' * 70, '["\\"",' + "[" * 70, '["",' + "[" * 70])
def test_a_text_does_not_hide_how_deep_what_follows_it_is_nested(text):
    with pytest.raises(NotCanonical, match="deeper"):
        parse(text.encode())


@given(st.text(st.sampled_from('[]{}"\\a,:'), max_size=300))
def test_no_document_is_read_that_is_nested_too_deep(text):
    document = "[" * 60 + text + "]" * 60
    try:
        value = parse(document.encode())
    except NotCanonical:
        return
    assert levels(value) <= 64


def levels(value):
    if not isinstance(value, list | dict):
        return 0
    inner = value.values() if isinstance(value, dict) else value
    return 1 + max(map(levels, inner), default=0)


@pytest.mark.parametrize("text", ['"' + "[" * 400_000, '"' + '\\"[' * 200_000, '["\\' + "[" * 100])
def test_a_text_that_does_not_end_is_refused_soon(text):
    with pytest.raises(NotCanonical):
        parse(text.encode())  # in time that grows with its length; a square of it would outlast the test


def test_a_text_over_the_limit_is_refused_before_it_is_read():
    with pytest.raises(NotCanonical, match="more than the 10 allowed"):
        parse(b"[" + b"0," * 50 + b"0]", limit_bytes=10)


def test_json_that_is_not_in_canonical_form_is_refused_where_the_form_counts():
    assert parse(b'{"b":1, "a":2}') == {"a": 2, "b": 1}
    with pytest.raises(NotCanonical, match="not in its canonical form"):
        parse_canonical(b'{"b":1, "a":2}')


@pytest.mark.parametrize("value", [2.0**53, -(2.0**53), 1e16, 1e20, 123456789012345680000.0])
def test_a_float_that_is_written_with_all_its_digits_is_read_where_that_is_asked_for(value):
    text = canonical([value, 2**53 - 1])
    with pytest.raises(NotCanonical, match="beyond 2"):
        parse_canonical(text)
    assert parse_canonical(text, large=True) == [value, 2**53 - 1]


@pytest.mark.parametrize("text", [b"9007199254740993", b"-0", b"9" * 400, b"01"])
def test_an_integer_that_no_float_is_written_as_is_never_canonical(text):
    with pytest.raises(NotCanonical):
        parse_canonical(text, large=True)
