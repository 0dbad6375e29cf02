"""What goes to the chain and what comes back, without a chain."""

from __future__ import annotations

from dataclasses import replace
from inspect import isfunction
from typing import Any

import pytest

from sealtrace.contracts import abi, calls, events
from sealtrace.contracts.client import Chain, ChainSettings, Generation, Named
from sealtrace.contracts.errors import MalformedAnswer, MalformedCall, RequestRefused, UnknownBlock
from sealtrace.contracts.governance import Office, Rules
from sealtrace.contracts.link import Failure, content, number
from sealtrace.contracts.sender import read_transaction
from sealtrace.contracts.signing import Signed
from sealtrace.contracts.terms import task_id
from sealtrace.protocol.identifiers import Address, Hex32, UnixSeconds
from sealtrace.protocol.records import DataClass, GrantTerms, Protection, Role, TaskTerms, Use

ADDRESSES = {name: Address(f"0x{i:040x}") for i, name in enumerate(abi.CONTRACTS, start=1)}
CONTRACTS = {where: name for name, where in ADDRESSES.items()}
TASK = Hex32("0x" + "ab" * 32)
PARTY = Address("0x" + "cd" * 20)
TERMS = TaskTerms(
    requester=PARTY,
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
    named = Named((Generation(ADDRESSES, 1),))
    return Chain(link, ChainSettings("x", 1, ADDRESSES["Directory"]), named), link  # type: ignore[arg-type]


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
    ledger = ADDRESSES["TaskLedger"]
    usual = task_id(1, ledger, TERMS)
    assert usual != task_id(2, ledger, TERMS)
    assert usual != task_id(1, ledger, replace(TERMS, requester=ledger))
    assert usual != task_id(1, PARTY, TERMS)


def test_every_word_of_the_terms_is_in_the_id():
    changed = [
        replace(TERMS, spec=TASK),
        replace(TERMS, purpose=TASK),
        replace(TERMS, protections=Protection.MPC_CHEETAH),
        replace(TERMS, deadline=UnixSeconds(TERMS.deadline + 1)),
        replace(TERMS, parties=(*TERMS.parties, PARTY)),
        replace(TERMS, uses=(replace(TERMS.uses[0], party=0),)),
        replace(TERMS, uses=(replace(TERMS.uses[0], grant=TASK),)),
        replace(TERMS, uses=(replace(TERMS.uses[0], epsilon_millionths=1),)),
    ]
    ledger = ADDRESSES["TaskLedger"]
    assert len({task_id(1, ledger, terms) for terms in (TERMS, *changed)}) == 9


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
    asked = events.queries(CONTRACTS, None, TASK, None)
    places = {query.topics.index(TASK) for query in asked}
    assert places == {1, 2}  # the ledger's events, and the consumption of a grant
    assert len(asked) == 2


def test_a_party_is_looked_for_among_the_events_that_name_one():
    (query,) = events.queries(CONTRACTS, None, TASK, PARTY)
    assert query.topics[1:] == (TASK, "0x" + "00" * 12 + PARTY[2:])
    assert query.addresses == (ADDRESSES["TaskLedger"],)


def test_names_choose_and_no_name_asks_nothing():
    (query,) = events.queries(CONTRACTS, {"TaskPartyNamed"}, None, PARTY)
    assert len(query.topics[0] or ()) == 1
    assert events.queries(CONTRACTS, set(), None, None) == []


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


SIGNED = Signed(UnixSeconds(9), b"\1" * 32, b"\2" * 32)
GRANT_TERMS = GrantTerms(
    TASK, TASK, PARTY, TASK, 1, UnixSeconds(0), UnixSeconds(9), Protection.MPC_ABY3, participants=(PARTY,)
)
ACTIONS = [calls.Action(PARTY, b"\1\2\3\4")]
EVERY_CALL = {
    "create": calls.create(TERMS),
    "approve": calls.approve(TERMS),
    "approve_signed": calls.approve_signed(TERMS, 0, SIGNED),
    "start": calls.start(TERMS, TASK),
    "start_signed": calls.start_signed(TERMS, [(0, TASK, SIGNED)]),
    "refuse": calls.refuse(TERMS, 40),
    "refuse_signed": calls.refuse_signed(TERMS, 1, 40, SIGNED),
    "progress": calls.progress(TERMS, 1, 500),
    "finish": calls.finish(TERMS, TASK, TASK),
    "finish_signed": calls.finish_signed(TERMS, [(0, TASK, TASK, SIGNED)]),
    "fail": calls.fail(TERMS, 1),
    "cancel": calls.cancel(TERMS),
    "stop": calls.stop(TERMS),
    "acknowledge": calls.acknowledge(TERMS, TASK),
    "close_ledger": calls.close_ledger(),
    "serve_ledger": calls.serve_ledger(PARTY),
    "together": calls.together([calls.stop(TERMS), calls.cancel(TERMS)]),
    "register_dataset": calls.register_dataset(TASK, TASK, DataClass.CORE),
    "supersede_dataset": calls.supersede_dataset(TASK, TASK, TASK, DataClass.CORE),
    "withdraw_dataset": calls.withdraw_dataset(TASK),
    "issue_grant": calls.issue_grant(GRANT_TERMS),
    "issue_grant_signed": calls.issue_grant_signed(PARTY, GRANT_TERMS, SIGNED),
    "replace_grant": calls.replace_grant(TASK, GRANT_TERMS),
    "revoke_grant": calls.revoke_grant(TASK),
    "revoke_grant_signed": calls.revoke_grant_signed(TASK, SIGNED),
    "pass_serial": calls.pass_serial(),
    "register_algorithm": calls.register_algorithm(TASK),
    "propose_algorithm": calls.propose_algorithm(TASK, [PARTY]),
    "review_algorithm": calls.review_algorithm(TASK, TASK, agreed=True),
    "supersede_algorithm": calls.supersede_algorithm(TASK, TASK),
    "revoke_algorithm": calls.revoke_algorithm(TASK),
    "suspend_algorithm": calls.suspend_algorithm(TASK, TASK),
    "reinstate_algorithm": calls.reinstate_algorithm(TASK),
    "propose": calls.propose(ACTIONS, TASK),
    "vote": calls.vote(TASK, yes=False),
    "execute": calls.execute(ACTIONS, TASK),
    "add_member": calls.add_member(PARTY),
    "remove_member": calls.remove_member(PARTY),
    "set_rules": calls.set_rules(Rules()),
    "appoint": calls.appoint(Office.REGULATOR, PARTY),
    "dismiss": calls.dismiss(Office.REGULATOR, PARTY),
    "offer_office": calls.offer_office(Office.REGISTRAR, PARTY),
    "accept_office": calls.accept_office(Office.REGISTRAR, PARTY),
    "announce": calls.announce(PARTY, PARTY),
    "admit": calls.admit(PARTY, Role.OWNER, TASK, TASK),
    "suspend_node": calls.suspend_node(PARTY, TASK),
    "reinstate_node": calls.reinstate_node(PARTY),
    "retire_node": calls.retire_node(PARTY),
    "rotate_keys": calls.rotate_keys(TASK, TASK),
    "anchor": calls.anchor(1, TASK),
}


def test_every_call_encodes_and_names_a_function_of_its_contract():
    for call in EVERY_CALL.values():
        assert call.data()[:4] == abi.function(call.contract, call.function).selector


def test_every_function_that_makes_a_call_is_in_the_list_above():
    made = {
        name for name, each in vars(calls).items() if isfunction(each) and each.__module__ == calls.__name__
    }
    assert {name for name in made if not name.startswith("_")} == set(EVERY_CALL)


def test_acts_on_two_contracts_do_not_go_together():
    with pytest.raises(ValueError, match="one contract"):
        calls.together([calls.stop(TERMS), calls.anchor(1, TASK)])


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
