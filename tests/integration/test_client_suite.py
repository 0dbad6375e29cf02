"""One suite for every chain: what the client promises holds wherever the contracts are.

``SEALTRACE_TEST_RPC=http://... pytest tests/integration/test_client_suite.py -k external`` runs it elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chains import (
    ACT,
    NAMES,
    REFUSAL,
    TWICE,
    Between,
    Ground,
    act,
    calldata_of,
    ground,
    impossible,
    is_done,
    wait_until,
)

from sealtrace.contracts.client import ENDPOINT_FINALIZED
from sealtrace.contracts.errors import (
    ChainUnreachable,
    NotMined,
    Reverted,
    UnknownBlock,
    WrongChain,
    WrongContracts,
)
from sealtrace.contracts.link import Failure
from sealtrace.contracts.outbox import State
from sealtrace.contracts.sender import Progress, Sender
from sealtrace.contracts.verification import examine
from sealtrace.protocol.identifiers import UnixSeconds
from sealtrace.protocol.records import BlockRef


@pytest.fixture(scope="module", params=NAMES)
def on(request: pytest.FixtureRequest) -> Iterator[Ground]:
    with ground(request.param) as made:
        yield made


@pytest.fixture
def between(on: Ground) -> Between:
    return Between(on.link)


@pytest.fixture
def sender(on: Ground, between: Between, tmp_path: Path) -> Sender:
    return on.sender(tmp_path, on.chain(between))


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """Something that no other test does."""
    return request.node.name


def included(sender: Sender) -> Progress:
    """Once it is in a block, however long that takes; it must not be final."""

    def there() -> bool:
        with pytest.raises(NotMined):
            sender.wait("act", timeout_s=0.5)
        progress = sender.progress("act")
        return progress is not None and progress.state is State.INCLUDED

    wait_until(there)
    progress = sender.progress("act")
    assert progress is not None
    return progress


def unreachable(*_: Any) -> Any:
    raise ChainUnreachable("http://nowhere", "connection refused")


# endpoints


def test_another_chain_is_not_taken_for_ours(on: Ground) -> None:
    with pytest.raises(WrongChain, match="9999"):
        on.chain(on.link, chain_id=9999)


def test_other_contracts_are_not_taken_for_ours(on: Ground) -> None:
    with pytest.raises(WrongContracts, match="Directory"):
        on.chain(on.link, directory=on.chain().addresses["TaskLedger"])


def test_the_code_on_the_chain_is_proven_ours(on: Ground) -> None:
    assert examine(on.link, on.settings.directory).proven


# reading


def test_what_is_read_is_of_the_block_that_was_named(on: Ground, sender: Sender, name: str) -> None:
    chain = on.chain()
    before = chain.finalized()
    mined = sender.send("act", act(name))
    assert not is_done(chain, name, before)
    assert is_done(chain, name, mined.block)


def test_events_are_found_by_name_and_are_those_of_the_receipt(on: Ground, sender: Sender, name: str) -> None:
    mined = sender.send("act", act(name))
    told = on.chain().events(mined.block.number, mined.block.number, names={ACT})
    assert [(e.name, e.args, e.transaction, e.block_hash) for e in told] == [
        (e.name, e.args, e.transaction, e.block_hash) for e in mined.events
    ]
    assert told[0].block_hash == mined.block.hash


def test_events_beyond_the_head_are_an_error_and_not_an_empty_list(on: Ground) -> None:
    chain = on.chain()
    with pytest.raises(UnknownBlock):
        chain.events(0, chain.head().number + 1_000)


def test_a_block_that_was_never_there_is_unknown(on: Ground) -> None:
    chain = on.chain()
    with pytest.raises(UnknownBlock):
        chain.block(chain.head().number + 1_000)
    if on.link.by_hash:
        with pytest.raises(UnknownBlock):
            is_done(chain, "anything", BlockRef(1, chain.settings.directory + "00" * 12, UnixSeconds(1)))  # type: ignore[arg-type]


# sending


def test_a_transaction_is_sent_mined_and_told(sender: Sender, name: str) -> None:
    mined = sender.send("act", act(name))
    assert [event.name for event in mined.events] == [ACT]
    assert mined.gas_used > 21_000
    progress = sender.progress("act")
    assert progress is not None
    assert (progress.state, progress.block_hash) == (State.MINED, mined.block.hash)
    assert progress.transactions == (mined.transaction,)


def test_the_same_intent_is_sent_once(sender: Sender, between: Between, name: str) -> None:
    first = sender.submit("act", act(name))
    assert sender.submit("act", act(name)) == first
    assert sender.wait("act").transaction == sender.wait("act").transaction == first
    sender.pump()
    assert len(between.sent) == 1


def test_several_intents_are_mined_in_their_order(on: Ground, sender: Sender, name: str) -> None:
    names = [f"{name} {i}" for i in range(4)]
    for each in names:
        sender.submit(each, act(each))
    blocks = [sender.wait(each).block.number for each in names]
    assert blocks == sorted(blocks)
    assert all(is_done(on.chain(), each, on.chain().head()) for each in names)


def test_a_refusal_is_named_before_anything_is_stored(sender: Sender) -> None:
    with pytest.raises(Reverted) as caught:
        sender.submit("no", impossible())
    assert (caught.value.name, caught.value.contract) == REFUSAL
    assert sender.progress("no") is None


def test_a_refusal_in_the_block_is_recorded_with_its_reason_and_never_sent_again(
    sender: Sender, between: Between, name: str
) -> None:
    between.rules["eth_sendRawTransaction"] = lambda raw: "0x"  # held back, so that both look good
    sender.submit("first", act(name))
    sender.submit("second", act(name))
    del between.rules["eth_sendRawTransaction"]
    for raw in tuple(between.sent):
        between.attempt("eth_sendRawTransaction", raw)
    sender.wait("first")
    for _ in range(2):
        with pytest.raises(Reverted, match=TWICE) as caught:
            sender.wait("second")
        assert caught.value.transaction is not None
    sent = len(between.sent)
    sender.submit("second", act(name))
    sender.pump()
    assert len(between.sent) == sent
    progress = sender.progress("second")
    assert progress is not None
    assert progress.state is State.REVERTED


def test_a_crash_between_storing_and_sending_is_repaired(
    on: Ground, sender: Sender, between: Between, name: str, tmp_path: Path
) -> None:
    between.rules["eth_sendRawTransaction"] = unreachable
    with pytest.raises(ChainUnreachable):
        sender.submit("act", act(name))
    del between.rules["eth_sendRawTransaction"]
    again = on.sender(tmp_path, on.chain(between))
    again.pump()
    assert again.wait("act").events
    assert len(set(between.sent)) == 1


def test_what_another_process_stored_and_did_not_send_keeps_nobody_waiting(
    on: Ground, sender: Sender, between: Between, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sealtrace.contracts.sender.RESEND_EVERY_S", 0.2)
    between.rules["eth_sendRawTransaction"] = unreachable
    with pytest.raises(ChainUnreachable):
        sender.submit("first", act(f"{name} first"))
    del between.rules["eth_sendRawTransaction"]
    other = on.sender(tmp_path, on.chain(between))
    assert other.send("second", act(f"{name} second")).events
    assert other.wait("first").events


def test_an_answer_that_was_lost_does_not_have_it_done_twice(
    on: Ground, sender: Sender, between: Between, name: str
) -> None:
    def lost(raw: str) -> Any:
        on.link.attempt("eth_sendRawTransaction", raw)
        return unreachable()

    between.rules["eth_sendRawTransaction"] = lost
    with pytest.raises(ChainUnreachable):
        sender.submit("act", act(name))
    del between.rules["eth_sendRawTransaction"]
    assert sender.send("act", act(name)).events
    assert sender.replaced() == []
    assert [len(found) for data, found in on.record().items() if data == calldata_of(name)] == [1]


def test_what_was_acknowledged_and_dropped_is_sent_again(sender: Sender, between: Between, name: str) -> None:
    between.rules["eth_sendRawTransaction"] = lambda raw: "0x" + "11" * 32
    sender.submit("act", act(name))
    with pytest.raises(NotMined):
        sender.wait("act", timeout_s=0.1)
    del between.rules["eth_sendRawTransaction"]
    sender.pump()
    assert sender.wait("act").events
    assert len(set(between.sent)) == 1


def test_a_foreign_transaction_at_our_nonce_costs_nothing(
    on: Ground, sender: Sender, between: Between, name: str, tmp_path: Path
) -> None:
    between.rules["eth_sendRawTransaction"] = lambda raw: "0x"
    sender.submit("ours", act(f"{name} ours"))
    (tmp_path / "other").mkdir()
    other = on.sender(tmp_path / "other")  # the same key in another program's hands
    theirs = other.send("theirs", act(f"{name} theirs"))
    del between.rules["eth_sendRawTransaction"]
    sender.pump()
    assert sender.wait("ours").events
    (lost,) = sender.replaced()
    assert lost.taken_by == theirs.transaction


def test_a_nonce_that_was_named_too_high_is_reached(
    on: Ground, between: Between, name: str, tmp_path: Path
) -> None:
    """The gap is closed by transactions that do nothing; ours stays the one it is."""
    now = [1000.0]
    sender = on.sender(tmp_path, on.chain(between), clock=lambda: now[0])
    real = on.link.request("eth_getTransactionCount", on.account, "pending")
    wrong = int(real, 16) + 3 if isinstance(real, str) else real + 3
    between.rules["eth_getTransactionCount"] = lambda account, at: (
        hex(wrong) if at == "pending" else on.link.attempt("eth_getTransactionCount", account, at)
    )
    if on.name == "eth-tester":  # it has no pool, and refuses such a transaction
        between.rules["eth_sendRawTransaction"] = lambda raw: Failure("x", -32000, "nonce too high", None)
    hash = sender.submit("act", act(name))
    between.rules.clear()
    now[0] += 60
    sender.pump()
    sender.pump()
    assert sender.wait("act").transaction == hash
    assert len(on.record()["0x"]) == 3


# finality


@pytest.mark.parametrize("confirmations", [0, 1, 2])
def test_a_transaction_is_final_once_it_is_buried_as_deep_as_was_agreed(
    on: Ground, name: str, tmp_path: Path, confirmations: int
) -> None:
    sender = on.sender(tmp_path, on.chain(confirmations=confirmations))
    hash = sender.submit("act", act(name))
    for _ in range(confirmations if on.name != "external" else 0):  # there, others make the blocks
        progress = included(sender)
        assert progress.transactions == (hash,)
        on.mine()
    mined = sender.wait("act")
    assert sender.chain.finalized().number >= mined.block.number
    assert sender.chain.head().number >= mined.block.number + confirmations


def test_the_endpoint_s_word_on_finality_is_taken_where_that_was_agreed(
    on: Ground, name: str, tmp_path: Path
) -> None:
    if on.name == "external":
        pytest.skip("not every endpoint of a chain with instant finality knows a block named finalized")
    sender = on.sender(tmp_path, on.chain(confirmations=ENDPOINT_FINALIZED))
    sender.submit("act", act(name))
    if on.name == "anvil":  # two epochs of 32 blocks
        with pytest.raises(NotMined):
            sender.wait("act", timeout_s=1)
        on.link.request("anvil_mine", "0x60")
    mined = sender.wait("act")
    assert sender.chain.finalized().number >= mined.block.number


def test_the_last_final_block_never_goes_back(on: Ground, between: Between) -> None:
    chain = on.chain(between)
    on.mine()
    final = chain.finalized()
    old = between.attempt("eth_getBlockByNumber", hex(final.number - 1), False)
    between.rules["eth_getBlockByNumber"] = lambda tag, full: old if tag == "latest" else None
    assert chain.finalized() == final
    between.rules.clear()
    on.mine()
    assert chain.finalized().number > final.number
