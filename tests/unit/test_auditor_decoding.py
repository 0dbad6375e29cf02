"""The generated decoders: what web3.py reads they read alike, and what is not as declared they refuse."""

from __future__ import annotations

import pytest
from eth_abi.abi import encode
from hypothesis import given, settings
from hypothesis import strategies as st
from web3 import Web3

from sealtrace.auditor.decoding import UNREADABLE, NotAsDeclared, decode, generate, read
from sealtrace.auditor.headers import RawLog
from sealtrace.contracts import abi
from sealtrace.contracts.abi import plain
from sealtrace.protocol.identifiers import Address, UnixSeconds, hex32
from sealtrace.protocol.records import BlockRef

WHERE = Address("0x" + "ab" * 20)
BLOCK = BlockRef(7, hex32(b"\7" * 32), UnixSeconds(1_700_000_000))
TRANSACTION = hex32(b"\1" * 32)
EVENTS = [(name, event) for name in abi.CONTRACTS for event in abi.events(name).values()]
WEB3 = {name: Web3().eth.contract(abi=list(abi.artifact(name).abi)) for name in abi.CONTRACTS}


def values_of(kind):
    if kind == "bool":
        return st.booleans()
    if kind == "address":
        return st.binary(min_size=20, max_size=20).map(lambda each: "0x" + each.hex())
    if kind == "bytes32":
        return st.binary(min_size=32, max_size=32)
    return st.integers(0, (1 << int(kind.removeprefix("uint"))) - 1)


def log_of(event, values):
    words = [encode([p.type], [v]) for p, v in zip((*event.indexed, *event.data), values, strict=True)]
    count = len(event.indexed)
    topics = (event.topic, *("0x" + word.hex() for word in words[:count]))
    return RawLog(7, 3, TRANSACTION, WHERE, topics, "0x" + b"".join(words[count:]).hex())


def as_web3_reads(contract, event, log):
    told = {
        "address": Web3.to_checksum_address(log.address),
        "topics": [bytes.fromhex(topic[2:]) for topic in log.topics],
        "data": bytes.fromhex(log.data[2:]),
        "blockNumber": 7,
        "blockHash": bytes(32),
        "transactionHash": bytes(32),
        "transactionIndex": 0,
        "logIndex": 3,
        "removed": False,
    }
    found = WEB3[contract].events[event.name]().process_log(told)
    return {name: plain(value) for name, value in found["args"].items()}


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_every_event_is_read_as_web3_reads_it(data):
    contract, event = data.draw(st.sampled_from(EVENTS))
    values = [data.draw(values_of(each.type)) for each in (*event.indexed, *event.data)]
    log = log_of(event, values)
    assert read(log, contract) == (event.name, as_web3_reads(contract, event, log))


@pytest.mark.parametrize(("contract", "event"), EVENTS, ids=lambda each: getattr(each, "name", each))
def test_a_word_with_bits_that_its_type_does_not_have_is_refused(contract, event):
    parameters = (*event.indexed, *event.data)
    clean = log_of(event, [_one(each) for each in parameters])
    for place, each in enumerate(parameters):
        if each.type in ("bytes32", "uint256"):
            continue
        with pytest.raises(NotAsDeclared, match=rf"{event.name}\.{each.name} is "):
            read(_dirtied(clean, place, len(event.indexed)), contract)


def _one(parameter):
    return {"bool": True, "bytes32": b"\1" * 32, "address": WHERE}.get(parameter.type, 1)


def _dirtied(log, place, indexed):
    """The same log with the highest bit of one word set."""
    if place < indexed:
        topics = list(log.topics)
        topics[place + 1] = "0x8" + topics[place + 1][3:]
        return RawLog(log.block, log.index, log.transaction, log.address, tuple(topics), log.data)
    at = 2 + 64 * (place - indexed)
    data = log.data[:at] + "8" + log.data[at + 1 :]
    return RawLog(log.block, log.index, log.transaction, log.address, log.topics, data)


def test_a_truth_value_of_two_is_refused():
    held, zeros = abi.Parameter("held", "bool", "bool"), "0x" + "0" * 63
    topics = ("0x" + "11" * 32,)
    values = generate("Suspended", [], [held])
    assert values(topics, zeros + "1") == {"held": True}
    with pytest.raises(NotAsDeclared, match=r"Suspended\.held"):
        values(topics, zeros + "2")
    with pytest.raises(NotAsDeclared, match=r"Suspended\.held"):
        generate("Suspended", [held], [])((*topics, zeros + "2"), "0x")


CREATED = next(event for _, event in EVENTS if event.name == "TaskCreated")
CLEAN = log_of(CREATED, [_one(each) for each in (*CREATED.indexed, *CREATED.data)])


def changed(**changes):
    fields = {name: getattr(CLEAN, name) for name in ("block", "index", "transaction", "address")}
    return RawLog(**fields, **({"topics": CLEAN.topics, "data": CLEAN.data} | changes))


@pytest.mark.parametrize(
    "log",
    [
        changed(data=CLEAN.data[:-2]),
        changed(data=CLEAN.data[:-64]),
        changed(data=CLEAN.data + "00" * 32),
        changed(data="0x"),
        changed(topics=CLEAN.topics[:-1]),
        changed(topics=(*CLEAN.topics, "0x" + "00" * 32)),
        changed(topics=("0x" + "11" * 32, *CLEAN.topics[1:])),
        changed(topics=()),
    ],
)
def test_what_is_short_or_long_or_unknown_is_refused_and_becomes_an_event_of_its_own_kind(log):
    with pytest.raises(NotAsDeclared):
        read(log, "TaskLedger")
    event = decode(log, BLOCK, {WHERE: "TaskLedger"})
    assert (event.name, event.args, event.log_index) == (UNREADABLE, {}, 3)


def test_a_known_event_of_another_contract_is_unknown_here():
    with pytest.raises(NotAsDeclared, match="NodeRegistry has no event"):
        read(CLEAN, "NodeRegistry")


def test_a_type_that_no_event_of_ours_has_is_not_guessed_at():
    with pytest.raises(NotImplementedError):
        generate("Named", [], [abi.Parameter("name", "string", "string")])
