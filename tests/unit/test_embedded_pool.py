"""The order of the pool, the producer's pace, and the strictness of what is read."""

import json
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealtrace.contracts.embedded import params, shallow_json
from sealtrace.contracts.embedded.errors import GenesisInvalid, RpcError
from sealtrace.contracts.embedded.genesis import Genesis, Wei, from_json, read_file, to_json
from sealtrace.contracts.embedded.pool import Pending, Pool
from sealtrace.contracts.embedded.server import Pace

GOOD = {"chainId": 7, "timestamp": 1, "gasLimit": 60_000_000, "alloc": {"0x" + "ab" * 20: "12"}}


def pending(arrival, sender, nonce):
    name = b"%d-%d" % (sender, nonce)
    return Pending(arrival, SimpleNamespace(hash=name, sender=b"%d" % sender, nonce=nonce))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), unique=True))
def test_what_is_ready_is_each_senders_unbroken_run_in_order_of_nonce(arrived):
    pool = Pool()
    for arrival, (sender, nonce) in enumerate(arrived):
        pool.add(pending(arrival, sender, nonce))
    ready = [(int(t.sender), t.nonce) for t in pool.ready(lambda _: 1)]
    for sender in range(4):
        run = [nonce for who, nonce in ready if who == sender]
        theirs = {nonce for who, nonce in arrived if who == sender}
        expected_end = next(nonce for nonce in range(1, 9) if nonce not in theirs)
        assert run == list(range(1, expected_end))


def test_senders_take_turns_by_arrival():
    pool = Pool()
    for arrival, (sender, nonce) in enumerate([(1, 0), (2, 0), (1, 1), (2, 1)]):
        pool.add(pending(arrival, sender, nonce))
    ready = [(int(t.sender), t.nonce) for t in pool.ready(lambda _: 0)]
    assert ready == [(1, 0), (2, 0), (1, 1), (2, 1)]
    pool.remove(b"1-0")
    pool.remove(b"no such")
    assert [int(t.sender) for t in pool.ready(lambda _: 0)] == [2, 2]


def test_a_block_is_due_an_interval_after_the_last_even_when_the_clock_was_set_back():
    pace = Pace(interval=2, heartbeat=0, last_made=100.0)
    assert not pace.is_due(1_000, 1_001.9, 101.9)
    assert pace.is_due(1_000, 1_002.0, 100.1)
    assert pace.is_due(1_000, 5.0, 102.0)
    assert not pace.is_heartbeat(1_000, 9_999.0, 9_999.0)
    assert Pace(2, 10, 100.0).is_heartbeat(1_000, 1_010.0, 100.0)


def test_a_genesis_survives_its_file(tmp_path):
    genesis = Genesis(7, 1, alloc={"0x" + "ab" * 20: Wei(12)})
    assert to_json(genesis) == GOOD
    (tmp_path / "g.json").write_text(json.dumps(GOOD))
    assert read_file(tmp_path / "g.json") == genesis


@pytest.mark.parametrize(
    "change",
    [
        {"chainId": 0},
        {"chainId": "7"},
        {"chainId": True},
        {"timestamp": -1},
        {"gasLimit": 5},
        {"alloc": []},
        {"alloc": {"0x12": "1"}},
        {"alloc": {"0x" + "AB" * 20: "1"}},
        {"alloc": {"0x" + "ab" * 20: 1}},
        {"alloc": {"0x" + "ab" * 20: "01"}},
        {"alloc": {"0x" + "ab" * 20: str(2**256)}},
        {"more": 1},
    ],
)
def test_a_genesis_that_says_something_else_is_refused(change):
    with pytest.raises(GenesisInvalid):
        from_json({**GOOD, **change})


def test_a_genesis_file_that_is_no_json_or_names_a_field_twice_is_refused(tmp_path):
    for text in ("{", '{"chainId": 1, "chainId": 2}', "[]"):
        (tmp_path / "g.json").write_text(text)
        with pytest.raises(GenesisInvalid):
            read_file(tmp_path / "g.json")


@given(st.integers(0, 2**256 - 1))
def test_every_quantity_has_one_form(number):
    assert params.quantity(hex(number)) == number
    with pytest.raises(RpcError):
        params.quantity("0x0" + hex(number)[2:])


@pytest.mark.parametrize("value", ["", "0x", "12", 12, None, "0xg", "0x1\n", "0x" + "1" * 65])
def test_what_is_no_quantity_is_refused(value):
    with pytest.raises(RpcError) as caught:
        params.quantity(value)
    assert caught.value.code == -32602


@given(st.recursive(st.none() | st.text() | st.integers(), st.lists, max_leaves=20))
def test_json_within_the_depth_is_read_as_it_is(value):
    assert shallow_json.loads(json.dumps(value).encode(), max_depth=100) == value


def test_brackets_in_text_are_no_depth():
    text = "[" * 100 + '\\"{'
    assert shallow_json.loads(json.dumps([text]).encode(), max_depth=1) == [text]
    with pytest.raises(ValueError, match="nested"):
        shallow_json.loads(b"[[1]]", max_depth=1)
