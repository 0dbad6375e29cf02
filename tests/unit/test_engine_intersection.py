"""What a party writes for the engine of an alignment, and makes of what the engine found."""

from __future__ import annotations

import base64
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealtrace.node.engines import intersection
from sealtrace.node.engines.errors import BadJob, ProtocolViolated
from sealtrace.node.engines.intersection import GIVEN_BYTES
from sealtrace.node.engines.keys import TOKENS
from sealtrace.node.engines.link import Link

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


@given(SETS, SETS, st.integers(1, 9))
def test_every_token_is_in_the_same_part_at_every_party(mine, theirs, parts):
    own, others = (intersection._split(tokens(values), parts) for values in (mine, theirs))
    assert len(own) == len(others) == parts
    assert b"".join(piece.tobytes() for piece in own) == b"".join(sorted(mine))
    in_parts = [whole(one) & whole(other) for one, other in zip(own, others, strict=True)]
    assert set().union(*in_parts) == mine & theirs


def whole(values):
    return {values[at : at + 1].tobytes() for at in range(len(values))}


@dataclass
class Meeting:
    """Where two parties meet: what each says is there for the other."""

    both: threading.Barrier = field(default_factory=lambda: threading.Barrier(2, timeout=10))
    said: dict = field(default_factory=dict)

    def gather(self, me, value):
        self.said[me] = value
        self.both.wait()
        found = [self.said[0], self.said[1]]
        self.both.wait()
        return found


class MeetingLink(Link):
    """A link between two parties of one process."""

    def gather(self, value):
        return self.context.gather(self.me, value)

    def finish(self):
        self.context.said[f"finished {self.me}"] = True


def ask(asked, only):
    """What the engine does, on links that are meetings."""

    def answered(_protocol, _only, link, piece, folder):
        asked.append((link.me, folder.name, len(piece)))
        one, other = link.gather(whole(piece))
        common = one & other if only in (None, link.me) else set()
        return tokens(common)

    return answered


def both(folder, meetings, values, only=None):
    def one(me):
        links = [MeetingLink(each, ("0xa", "0xb"), (0, 1), me) for each in meetings]
        (folder / str(me)).mkdir()
        return intersection.intersect(
            links[0], links.__getitem__, "RR22", tokens(values[me]), folder / str(me) / "align", only
        )

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(one, (0, 1)))


@pytest.mark.parametrize("only", [None, 1])
def test_parts_over_two_links_are_one_set_in_one_order(tmp_path, monkeypatch, only):
    chance = random.Random(1)
    mine, theirs, shared = ([chance.randbytes(16) for _ in range(size)] for size in (5, 300, 25))
    asked = []
    monkeypatch.setattr(intersection, "PART_ROWS", 10)
    monkeypatch.setattr(intersection, "_ask", ask(asked, only))
    meetings = [Meeting(), Meeting()]
    found = both(tmp_path, meetings, [mine + shared, theirs + shared], only)
    assert [None if each is None else each.tobytes() for each in found] == [
        b"".join(sorted(shared)) if only in (None, me) else None for me in (0, 1)
    ]
    assert sorted(part for me, part, _ in asked if me == 0) == ["0", "1", "2"]  # of 30 tokens, not of 325
    assert sum(size for me, _, size in asked if me == 1) == 325
    assert all(f"finished {me}" in meeting.said for meeting in meetings for me in (0, 1))


def test_a_part_in_which_one_party_has_nothing_is_not_compared(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(intersection, "PART_ROWS", 2)
    monkeypatch.setattr(intersection, "_ask", ask(asked, None))
    low, high = [bytes([at]) * 16 for at in (1, 2, 3)], [bytes([at]) * 16 for at in (201, 202, 203)]
    found = both(tmp_path, [Meeting(), Meeting()], [low + high[:1], [*low[1:], bytes([9]) * 16]])
    assert [whole(each) for each in found] == [set(low[1:])] * 2
    assert {part for _, part, _ in asked} == {"0"}
    assert both(tmp_path / "0", [Meeting(), Meeting()], [low, []])[0].tolist() == []


def test_a_part_that_fails_ends_all(tmp_path, monkeypatch):
    def failing(*_):
        raise ProtocolViolated("the engine gave up")

    monkeypatch.setattr(intersection, "PART_ROWS", 2)
    monkeypatch.setattr(intersection, "_ask", failing)
    values = [bytes([at]) * 16 for at in range(0, 250, 10)]
    with pytest.raises(ProtocolViolated, match="gave up"):
        both(tmp_path, [Meeting(), Meeting()], [values, values])


@pytest.mark.parametrize("said", [None, 3, [], [1, 2], ["3"], [-1], [None], {"0": 1}])
def test_a_peer_that_does_not_say_how_many_keys_it_has_is_refused(tmp_path, said):
    class Lying(MeetingLink):
        def gather(self, value):
            return [value, said]

    with pytest.raises(ProtocolViolated, match="how many keys"):
        intersection.intersect(
            Lying(None, ("0xa", "0xb"), (0, 1), 0), None, "RR22", tokens([bytes(16)]), tmp_path / "x", None
        )
