"""What a party writes for the engine of an alignment, and makes of what the engine found."""

from __future__ import annotations

import base64
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealtrace.node.engines import intersection
from sealtrace.node.engines.errors import BadJob, ProtocolViolated
from sealtrace.node.engines.intersection import GIVEN_BYTES
from sealtrace.node.engines.keys import TOKENS

SETS = st.sets(st.binary(min_size=16, max_size=16), max_size=40)


def tokens(values):
    return np.frombuffer(b"".join(sorted(values)), dtype=TOKENS)


def test_the_engine_is_given_the_beginning_of_each_token_and_no_more(tmp_path):
    values = [random.Random(at).randbytes(16) for at in range(5)]
    intersection._write(tmp_path / "in.csv", intersection._shortened(tokens(values)))
    header, *lines = (tmp_path / "in.csv").read_text().splitlines()
    assert header == "token"
    assert [base64.b64decode(line + "=") for line in lines] == [each[:GIVEN_BYTES] for each in sorted(values)]


@given(SETS, st.booleans(), st.randoms(use_true_random=False))
def test_what_the_engine_found_is_whole_again_in_whatever_order_it_came(
    tmp_path_factory, values, quoted, order
):
    mine = tokens({each[:GIVEN_BYTES]: each for each in values}.values())
    found = [
        base64.b64encode(each.ljust(16, b"\0")[:GIVEN_BYTES]).decode()[:15] for each in mine.tolist()[::2]
    ]
    order.shuffle(found)
    path = tmp_path_factory.mktemp("found") / "out.csv"
    lines = [f'"{each}"' if quoted else each for each in found]
    path.write_text("".join(f"{line}\n" for line in ["token", *lines]))
    whole = mine[intersection.positions(intersection._shortened(mine), intersection._read(path))]
    assert whole.tolist() == mine[::2].tolist()


def test_two_tokens_that_the_engine_could_not_tell_apart_are_refused():
    alike = bytes(GIVEN_BYTES)
    with pytest.raises(BadJob, match="ask for it again"):
        intersection._shortened(tokens([alike + b"aaaaa", alike + b"bbbbb"]))


def test_lines_that_are_no_tokens_are_refused(tmp_path):
    (tmp_path / "out.csv").write_text("token\nnothing\n")
    with pytest.raises(ProtocolViolated):
        intersection._read(tmp_path / "out.csv")
