"""What goes to the chain and what comes back, without a chain."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sealtrace.contracts import abi, calls, events
from sealtrace.contracts.client import Chain, ChainSettings
from sealtrace.contracts.errors import MalformedAnswer, MalformedCall, RequestRefused, UnknownBlock
from sealtrace.contracts.link import Failure, content, number
from sealtrace.contracts.sender import read_transaction
from sealtrace.contracts.terms import task_id, terms_hash
from sealtrace.protocol.identifiers import Address, Hex32, UnixSeconds
from sealtrace.protocol.records import Protection, TaskTerms, Use

ADDRESSES = {name: Address(f"0x{i:040x}") for i, name in enumerate(abi.CONTRACTS, start=1)}
TASK = Hex32("0x" + "ab" * 32)
PARTY = Address("0x" + "cd" * 20)
TERMS = TaskTerms(
    spec=Hex32("0x" + "01" * 32),
    purpose=Hex32("0x" + "02" * 32),
    protections=Protection.MPC_ABY3,
    deadline=UnixSeconds(2_000_000_000),
    parties=(Address("0x" + "11" * 20), Address("0x" + "22" * 20)),
    uses=(Use(1, Hex32("0x" + "03" * 32), Hex32("0x" + "04" * 32), Hex32("0x" + "05" * 32)),),
)


class Scripted:
    """A link that answers log queries from a list, and counts."""

    by_hash = True

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.head: Any = lambda number: {"number": number, "hash": "0x" + "ee" * 32, "timestamp": "0x1"}
        self.asked: list[dict[str, Any]] = []

    def batch(self, asks: Any) -> list[Any]:
        (block, wanted) = asks
        assert (block.method, wanted.method) == ("eth_getBlockByNumber", "eth_getLogs")
        query = wanted.params[0]
        self.asked.append(query)
        head = self.head(block.params[0]) if callable(self.head) else self.head
        return [head, self.answer(query) if callable(self.answer) else self.answer]


def chain(answer: Any) -> tuple[Chain, Scripted]:
    link = Scripted(answer)
    return Chain(link, ChainSettings("x", 1, ADDRESSES["Directory"]), ADDRESSES, 1), link  # type: ignore[arg-type]


def log(**changed: Any) -> dict[str, Any]:
    (topic,) = [t for t, event in abi.events("TaskLedger").items() if event.name == "TaskRefused"]
    usual = {
        "address": ADDRESSES["TaskLedger"],
        "topics": [topic, TASK, "0x" + "00" * 12 + PARTY[2:]],
        "data": "0x" + "00" * 31 + "28",
        "blockNumber": "0x10",
        "blockHash": "0x" + "ee" * 32,
        "transactionHash": "0x" + "ff" * 32,
        "logIndex": "0x2",
    }
    return usual | changed


def test_a_task_has_another_id_on_another_chain_and_for_another_requester():
    usual = task_id(1, ADDRESSES["TaskLedger"], PARTY, TERMS.spec)
    assert usual != task_id(2, ADDRESSES["TaskLedger"], PARTY, TERMS.spec)
    assert usual != task_id(1, ADDRESSES["TaskLedger"], ADDRESSES["TaskLedger"], TERMS.spec)


def test_every_word_of_the_terms_is_in_their_hash():
    changed = [
        replace(TERMS, spec=TASK),
        replace(TERMS, purpose=TASK),
        replace(TERMS, protections=Protection.MPC_CHEETAH),
        replace(TERMS, deadline=UnixSeconds(TERMS.deadline + 1)),
        replace(TERMS, parties=(*TERMS.parties, PARTY)),
        replace(TERMS, uses=(replace(TERMS.uses[0], party=0),)),
        replace(TERMS, uses=(replace(TERMS.uses[0], grant=TASK),)),
    ]
    assert len({terms_hash(terms) for terms in (TERMS, *changed)}) == 8


def test_a_log_becomes_an_event():
    found, _ = chain([log()])
    (event,) = found.events(1, 20)
    assert (event.name, event.contract) == ("TaskRefused", "TaskLedger")
    assert event.args == {"task": TASK, "party": PARTY, "reason": 40}
    assert (event.block_number, event.log_index, event.timestamp) == (16, 2, None)


def test_the_time_of_an_event_is_told_where_the_endpoint_tells_it():
    found, _ = chain([log(blockTimestamp="0x64")])
    assert found.events(1, 20)[0].timestamp == 100


def test_events_come_in_the_order_of_the_chain():
    logs = [log(blockNumber="0x12"), log(logIndex="0x1"), log(logIndex="0x0")]
    found, _ = chain(logs)
    assert [(e.block_number, e.log_index) for e in found.events(1, 20)] == [(16, 0), (16, 1), (18, 2)]


@pytest.mark.parametrize(
    "changed", [{"topics": ["0x" + "00" * 32]}, {"topics": []}, {"data": "0x"}, {"data": "0x" + "ff" * 32}]
)
def test_a_log_that_is_not_in_the_abi_is_an_error_and_not_skipped(changed):
    found, _ = chain([log(**changed)])
    with pytest.raises(MalformedAnswer):
        found.events(1, 20)


def test_a_stranger_s_log_is_left_out():
    found, _ = chain([log(address="0x" + "99" * 20)])
    assert found.events(1, 20) == []


def test_a_task_is_looked_for_where_each_event_has_it():
    asked = events.queries(ADDRESSES, None, TASK, None)
    places = {query.topics.index(TASK) for query in asked}
    assert places == {1, 2}  # the ledger's events, and the consumption of a grant
    assert len(asked) == 2


def test_a_party_is_looked_for_among_the_events_that_name_one():
    (query,) = events.queries(ADDRESSES, None, TASK, PARTY)
    assert query.topics[1:] == (TASK, "0x" + "00" * 12 + PARTY[2:])
    assert query.addresses == (ADDRESSES["TaskLedger"],)


def test_names_choose_and_no_name_asks_nothing():
    (query,) = events.queries(ADDRESSES, {"TaskPartyNamed"}, None, PARTY)
    assert len(query.topics[0] or ()) == 1
    assert events.queries(ADDRESSES, set(), None, None) == []


def test_a_range_the_endpoint_finds_too_long_is_asked_in_parts():
    def answer(wanted: dict[str, Any]) -> Any:
        first, last = int(wanted["fromBlock"], 16), int(wanted["toBlock"], 16)
        if last - first >= 10:
            return Failure("eth_getLogs", -32005, "query returned more than 10000 results", None)
        return [log(blockNumber=hex(n)) for n in range(first, last + 1)]

    found, _ = chain(answer)
    assert [e.block_number for e in found.events(0, 99)] == list(range(100))


def test_one_block_that_is_too_much_is_an_error_and_not_a_loop():
    found, link = chain(Failure("eth_getLogs", -32005, "query returned more than 10000 results", None))
    with pytest.raises(RequestRefused, match="10000"):
        found.events(0, 7)
    assert len(link.asked) <= 8


def test_long_ranges_are_cut_before_they_are_asked():
    found, link = chain([])
    found.events(0, 25_000)
    spans = [int(q["toBlock"], 16) - int(q["fromBlock"], 16) + 1 for q in link.asked]
    assert max(spans) <= 10_000
    assert sum(spans) == 25_001


def test_an_endpoint_without_the_last_block_cannot_leave_events_out():
    found, link = chain([log()])
    link.head = None
    with pytest.raises(UnknownBlock, match="0x14"):
        found.events(1, 20)


def test_events_of_two_branches_are_not_mixed():
    found, link = chain([])
    hashes = iter(["ee", "ff"])
    link.head = lambda number: {"number": number, "hash": "0x" + next(hashes) * 32, "timestamp": "0x1"}
    with pytest.raises(UnknownBlock, match="replaced"):
        found.events(1, 15_000)


@pytest.mark.parametrize("make", [lambda: calls.anchor(-1, TASK), lambda: calls.anchor(2**64, TASK)])
def test_an_argument_out_of_range_is_named(make):
    with pytest.raises(MalformedCall, match=r"EvidenceAnchor\.anchor"):
        make().data()


def test_every_call_encodes_and_names_a_function_of_its_contract():
    made = [
        calls.create(TERMS),
        calls.approve(TASK, TERMS),
        calls.start(TASK, TERMS, TASK),
        calls.refuse(TASK, TERMS, 40),
        calls.finish(TASK, TERMS, TASK, TASK),
        calls.fail(TASK, TERMS, 1),
        calls.cancel(TASK),
        calls.stop(TASK, TERMS),
        calls.retire_node(PARTY),
    ]
    for call in made:
        assert call.data()[:4] == abi.function(call.contract, call.function).selector


@pytest.mark.parametrize(("value", "expected"), [("0x10", 16), (16, 16)])
def test_numbers_are_read_either_way(value, expected):
    assert number(value) == expected


@pytest.mark.parametrize("value", ["0x0102", b"\1\2"])
def test_bytes_are_read_either_way(value):
    assert content(value) == b"\1\2"


def test_a_raw_transaction_is_read_back():
    from eth_account import Account

    signed = Account.from_key(b"\1" * 32).sign_transaction(
        {
            "type": 2,
            "chainId": 1,
            "nonce": 3,
            "gas": 99_000,
            "to": "0x" + "00" * 19 + "01",
            "value": 0,
            "data": "0x1234",
            "maxFeePerGas": 0,
            "maxPriorityFeePerGas": 0,
        }
    )
    found = read_transaction(bytes(signed.raw_transaction))
    assert found == {"to": "0x" + "00" * 19 + "01", "data": "0x1234", "gas": 99_000}
