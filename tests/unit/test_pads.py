"""Values that an enclave made and owners keep: all pads give them, fewer nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealtrace.algorithms.frames import BadShare
from sealtrace.algorithms.kept import read_header, why_unusable
from sealtrace.algorithms.pads import pads_of, value_of_pads, why_no_pad
from sealtrace.protocol.identifiers import Address, hex32

TASK = hex32(b"\5" * 32)
A, B, C = (Address("0x" + f"{n:02x}" * 20) for n in (1, 2, 3))


def made(value: bytes, *keepers: Address) -> dict[Address, bytes]:
    return pads_of(value, TASK, "train.model", keepers)


@given(st.binary(max_size=200), st.integers(min_value=1, max_value=16))
def test_all_parts_together_are_the_value(value, count):
    keepers = [Address("0x" + f"{n:02x}" * 20) for n in range(count)]
    assert value_of_pads(made(value, *keepers)) == value


def test_a_part_alone_holds_nothing_of_the_value():
    value = b"weights" * 40
    assert not any(value[:7] in part for part in made(value, A, B).values())
    assert made(value, A, B)[A] != made(value, A, B)[A]


def test_a_part_is_missing(tmp_path):
    with pytest.raises(BadShare, match="kept by"):
        value_of_pads({A: made(b"v", A, B)[A]})


def test_parts_of_two_runs_are_not_one_value():
    with pytest.raises(BadShare, match="not the parts of one value"):
        value_of_pads({A: made(b"v", A, B)[A], B: made(b"v", A, B)[B]})


def test_a_part_that_another_brings_is_refused():
    parts = made(b"v", A, B)
    with pytest.raises(BadShare, match="kept by"):
        value_of_pads({A: parts[B], B: parts[A]})


@pytest.mark.parametrize("at", [-1, -20, -40])
def test_a_part_that_was_altered_is_found(at):
    parts = made(b"value" * 10, A, B)
    changed = bytearray(parts[B])
    changed[at] ^= 1
    with pytest.raises(BadShare, match="altered"):
        value_of_pads({A: parts[A], B: bytes(changed)})


def test_a_part_of_an_enclaves_value_is_for_enclaves_only(tmp_path):
    path = tmp_path / "risk.part"
    path.write_bytes(made(b"v", A, B)[A])
    header = read_header(path)
    assert "engine tee" in str(why_unusable(header, [A, B], [A, B]))
    assert why_no_pad(header, A, [A, B]) is None
    assert "part of" in str(why_no_pad(header, B, [A, B]))
    assert "kept by" in str(why_no_pad(header, A, [A, C]))
