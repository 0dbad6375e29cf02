"""Parts of kept values, outputs of several shares, and what a requester takes for the result of a task."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_protocol_documents import SPEC

from sealtrace.algorithms.bundles import load, shipped
from sealtrace.algorithms.disclosure import disclosure
from sealtrace.algorithms.frames import BadShare, SecretValue
from sealtrace.algorithms.kept import (
    PartHeader,
    decode_part,
    encode_part,
    is_part,
    read_header,
    why_unusable,
)
from sealtrace.algorithms.opening import open_outputs
from sealtrace.algorithms.shares import Computation, Header, decode_output, encode_output, encode_share
from sealtrace.node.datasets import infer_schema
from sealtrace.node.engines.errors import ProgramMismatch, ProtocolViolated
from sealtrace.node.engines.job import Job
from sealtrace.node.engines.keeping import meet_parts
from sealtrace.node.errors import DatasetUnreadable
from sealtrace.protocol.canonical import canonical
from sealtrace.protocol.spec import read_spec

TASK, OTHER_TASK = "0x" + "ab" * 32, "0x" + "cd" * 32
A, B, C = ("0x" + digit * 40 for digit in "123")
HEADER = PartHeader(
    task=TASK,
    source="train.model",
    party=A,
    keepers=[A, B, C],
    holders=[A, B],
    computation=Computation(protocol="CHEETAH", field="FM64", fraction_bits=18),
    public={"kind": "model", "about": {"rows": 3}, "arrays": [["weights", [2], "float64"]]},
)
SHARE = SecretValue("weights", b"meta", (b"one", b"two"))


@given(st.binary(max_size=40), st.lists(st.binary(max_size=40), max_size=4))
def test_a_part_reads_as_it_was_written(meta, chunks):
    share = SecretValue("weights", meta, tuple(chunks))
    part = decode_part(encode_part(HEADER, [share]))
    assert part.values == (share,)
    assert part.header.common == HEADER.common
    assert part.header.value.names == ["weights"]


def test_who_does_not_compute_keeps_a_part_without_a_share():
    say = HEADER.model_copy(update={"party": C})
    assert decode_part(encode_part(say, [])).header.common == HEADER.common
    for header, values in ((say, [SHARE]), (HEADER, []), (HEADER, [SHARE, SHARE])):
        with pytest.raises(BadShare, match="does not hold the arrays"):
            decode_part(encode_part(header, values))


def test_every_cut_of_a_part_and_a_byte_too_many_are_refused():
    whole = encode_part(HEADER, [SHARE])
    for length in range(len(whole)):
        with pytest.raises(BadShare):
            decode_part(whole[:length])
    with pytest.raises(BadShare):
        decode_part(whole + b"x")


def test_what_is_public_of_a_part_is_read_without_its_share(tmp_path):
    path = tmp_path / "a.part"
    path.write_bytes(encode_part(HEADER, [SHARE]))
    assert is_part(path)
    assert read_header(path).common == HEADER.common
    (column,) = infer_schema(path).columns
    assert (infer_schema(path).format, column.name) == ("sealtrace.part/1", "weights")
    path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(BadShare, match="cut off"):
        read_header(path)
    with pytest.raises(DatasetUnreadable, match=r"a\.part"):
        infer_schema(path)


def test_a_kept_value_needs_all_its_parts_and_those_who_hold_its_shares():
    assert why_unusable(HEADER, [A, B, C], [A, B]) is None
    assert "name an input of each" in why_unusable(HEADER, [A, B], [A, B])
    assert "these must compute" in why_unusable(HEADER, [A, B, C], [A, C])


class Said:
    """A control link over which each party has said this of its parts."""

    def __init__(self, *words):
        self._words = list(words)

    def gather(self, _mine):
        return self._words


def met(me, *words, part=None):
    """What the party ``me`` makes of what all said of their parts of one value, kept by A and B."""
    common = {"task": TASK, "requester_key": TASK, "parties": (A, B, C), "computing": (A, B)}
    table = {"name": "c", "party": C, "id_column": "id", "path": "/c" if me == C else None}
    parts = [
        {"name": n, "party": p, "part_of": "risk", "path": "/p" if me == p else None}
        for n, p in (("a", A), ("b", B))
    ]
    step = {"id": "s", "algorithm": TASK, "bundle": "/b", "engine": "mpc", "protocol": "CHEETAH"}
    step |= {"inputs": ("a", "b", "c"), "uses": {"model": "risk"}}
    where = {"gateway_url": "http://127.0.0.1:9", "gateway_token": "t", "results": ("s",), "party": me}
    job = Job.model_validate({**common, **where, "inputs": (*parts, table), "steps": (step,)})
    return meet_parts(job, Said(*words), {"risk": part} if part else {})


def test_a_party_without_a_part_takes_the_owners_word_for_what_is_public_of_it():
    said = {"risk": HEADER.common}
    held = met(C, said, said, {})["risk"]
    assert (held.value.names, held.shares, held.computation) == (["weights"], (), HEADER.computation)


def test_of_two_words_a_party_without_a_part_cannot_tell_which_is_the_lie():
    other = {"risk": {**HEADER.common, "task": OTHER_TASK}}
    with pytest.raises(ProgramMismatch) as caught:
        met(C, other, {"risk": HEADER.common}, {})
    assert caught.value.peer is None
    with pytest.raises(ProgramMismatch) as caught:
        met(A, {"risk": HEADER.common}, other, {}, part=decode_part(encode_part(HEADER, [SHARE])))
    assert caught.value.peer == B


@pytest.mark.parametrize("word", ["a text", 7, None, [], {}, {"public": {}}, {"public": 1, "computation": 1}])
def test_whatever_owners_say_of_their_parts_is_read_or_refused_by_name(word):
    with pytest.raises(ProtocolViolated):
        met(C, {"risk": word}, {"risk": word}, {})


@pytest.mark.parametrize(
    "words", [({}, {"risk": 1}, {}), ("x", {"risk": 1}, {}), ({"risk": 1, "more": 1}, {}, {})]
)
def test_a_peer_that_does_not_speak_of_its_parts_and_no_others_is_named(words):
    with pytest.raises(ProtocolViolated) as caught:
        met(C, *words)
    assert caught.value.peer == A


@given(st.dictionaries(st.text(max_size=9), st.binary(max_size=50), max_size=5))
def test_an_output_reads_as_it_was_written(shares):
    assert decode_output(encode_output(shares)) == shares


def test_an_output_with_two_shares_of_a_step_or_a_byte_too_many_is_refused():
    twice = encode_output({"a": b"1", "b": b"2"}).replace(b'"step":"b"', b'"step":"a"')
    for data in (twice, encode_output({"a": b"1"}) + b"x", b"", encode_output({})[:-1]):
        with pytest.raises(BadShare):
            decode_output(data)


PARTIES = SPEC["parties"]


def aligned(rank, **changes):
    words = {"kind": "psi", "task": TASK, "step": "align", "rank": rank, "world": 2, "rows": 5, "values": []}
    values = [SecretValue("aligned", b"", (b'{"rows":5}',))]
    return encode_share(Header(**{**words, **changes}), values)


def alignment_only():
    spec = copy.deepcopy(SPEC)
    del spec["steps"][1]
    spec["steps"][0]["algorithm"] = load(shipped()["psi"]).digest
    return read_spec(canonical(spec))


def open_alignment(*shares, task=TASK):
    spec = alignment_only()
    outputs = dict(zip(PARTIES, (encode_output(each) for each in shares), strict=True))
    return open_outputs(task, spec, outputs, lambda _digest: load(shipped()["psi"]))


def test_the_shares_of_a_step_are_opened_by_its_name():
    assert open_alignment({"align": aligned(0)}, {"align": aligned(1)}) == {"align": {"rows": 5}}


@pytest.mark.parametrize(
    ("second", "why"),
    [
        ({}, "has no share of step align"),
        ({"align": aligned(1, step="other")}, "of another step or task"),
        ({"align": aligned(1, task=OTHER_TASK)}, "of another step or task"),
        ({"align": aligned(1, world=3)}, "of another step or task"),
        ({"align": aligned(0)}, "no other"),
        ({"align": aligned(1, kind="mpc")}, "of another step or task"),
    ],
)
def test_a_share_that_is_not_of_the_step_that_was_asked_for_is_refused(second, why):
    with pytest.raises(BadShare, match=why):
        open_alignment({"align": aligned(0)}, second)


def test_a_result_under_another_protocol_than_was_asked_for_is_refused():
    spec = read_spec(canonical(SPEC))

    def share(rank):
        how = Computation(protocol="SEMI2K", field="FM64", fraction_bits=18)
        words = {"kind": "mpc", "task": TASK, "step": "sum", "rank": rank, "world": 2, "rows": 5}
        return encode_output({"sum": encode_share(Header(**words, computation=how, values=[]), [])})

    outputs = {party: share(rank) for rank, party in enumerate(PARTIES)}
    with pytest.raises(BadShare, match="ran under SEMI2K, and CHEETAH was asked for"):
        open_outputs(TASK, spec, outputs, lambda _digest: load(shipped()["statistics"]))


def test_what_nobody_opens_is_said_to_be_closed_and_what_is_kept_is_said_by_whom():
    spec = copy.deepcopy(SPEC)
    spec["keep"] = {"sums": "sum.totals"}
    found = list(disclosure(read_spec(canonical(spec)), lambda _digest: load(shipped()["psi"]).manifest))
    (closed,) = [each for each in found if each.step == "align" and each.role == "requester"]
    assert "not opened" in closed.what
    assert any(each.step == "sum" and "common keys" in each.what for each in found)
    (keep,) = [each for each in found if each.role == "those who keep it"]
    assert all(party in keep.what for party in PARTIES)
    assert "sum.totals" in keep.what
