"""What the client says and does when blocks are undone, on a chain that can undo them."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from chains import Between, Ground, act, calldata_of, ground, is_done, send_nothing

from sealtrace.contracts.errors import FinalBlockReplaced, NotMined, UnknownBlock
from sealtrace.contracts.link import number
from sealtrace.contracts.outbox import State
from sealtrace.contracts.sender import Progress, Sender

DEPTH = 3


@pytest.fixture(scope="module")
def anvil() -> Iterator[Ground]:
    with ground("anvil") as made:
        yield made


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return request.node.name


@pytest.fixture
def sender(anvil: Ground, tmp_path: Path) -> Sender:
    """On a chain where a block is final once three are on it."""
    for _ in range(DEPTH):
        anvil.mine()
    return anvil.sender(tmp_path, anvil.chain(confirmations=DEPTH))


def progress(sender: Sender, intent: str = "act") -> Progress:
    found = sender.progress(intent)
    assert found is not None
    return found


def included(sender: Sender, intent: str = "act") -> Progress:
    """Once it is in a block that is not final."""
    with pytest.raises(NotMined):
        sender.wait(intent, timeout_s=0.5)
    assert progress(sender, intent).state is State.INCLUDED
    return progress(sender, intent)


def undo(anvil: Ground, blocks: int, *transactions: tuple[str, int]) -> None:
    """Put other blocks in the place of the last ones, with these raw transactions at these places in them."""
    anvil.link.request("anvil_reorg", blocks, [list(each) for each in transactions])


def bury(anvil: Ground) -> None:
    for _ in range(DEPTH):
        anvil.mine()


def times(anvil: Ground, what: str) -> int:
    return len(anvil.record().get(calldata_of(what), []))


def test_what_a_reorganisation_took_back_is_sent_again_as_it_was(
    anvil: Ground, sender: Sender, name: str
) -> None:
    hash = sender.submit("act", act(name))
    before = included(sender)
    undo(anvil, 1)
    assert times(anvil, name) == 0

    sender.pump()

    again = included(sender)
    assert again.transactions == before.transactions == (hash,)
    assert again.block_hash != before.block_hash
    (undone,) = sender.undone()
    assert (undone.intent, undone.transaction, undone.block_hash) == ("act", hash, before.block_hash)
    bury(anvil)
    assert sender.wait("act").transaction == hash
    assert times(anvil, name) == 1


def test_what_was_taken_back_is_not_said_to_be_in_a_block(anvil: Ground, sender: Sender, name: str) -> None:
    hash = sender.submit("act", act(name))
    included(sender)
    anvil.link.request("evm_setAutomine", False)
    try:
        undo(anvil, 1)
        sender.pump()
        now = progress(sender)
        assert (now.state, now.block, now.block_hash) == (State.SENT, None, None)
        assert now.transactions == (hash,)
    finally:
        anvil.mine()
        anvil.link.request("evm_setAutomine", True)
    bury(anvil)
    assert sender.wait("act").transaction == hash


def test_nothing_is_sent_into_a_chain_that_replaced_a_block_which_was_read_as_final(
    anvil: Ground, tmp_path: Path, name: str
) -> None:
    between = Between(anvil.link)
    sender = anvil.sender(tmp_path, anvil.chain(between))
    between.rules["eth_sendRawTransaction"] = lambda raw: "0x"
    sender.submit("act", act(name))
    send_nothing(anvil.link, anvil.settings.chain_id, secrets.token_bytes(32))  # or both blocks are the same
    sender.chain.finalized()
    undo(anvil, 1)
    sent = len(between.sent)
    with pytest.raises(FinalBlockReplaced):
        sender.pump()
    assert len(between.sent) == sent


def test_a_transaction_that_is_mined_again_in_another_block_is_told_of_that_block(
    anvil: Ground, tmp_path: Path, name: str
) -> None:
    bury(anvil)
    between = Between(anvil.link)
    sender = anvil.sender(tmp_path, anvil.chain(between, confirmations=DEPTH))
    hash = sender.submit("act", act(name))
    anvil.mine()
    first = included(sender)
    undo(anvil, 2, (between.sent[0], 1))

    second = included(sender)

    assert second.transactions == (hash,)
    assert second.block == (first.block or 0) + 1
    assert [each.block_hash for each in sender.undone()] == [first.block_hash]
    bury(anvil)
    mined = sender.wait("act")
    assert (mined.transaction, mined.block.hash) == (hash, second.block_hash)
    assert len(between.sent) == 1


def test_a_chain_that_became_shorter_is_no_reason_to_stop_sending(
    anvil: Ground, sender: Sender, name: str
) -> None:
    sender.submit("act", act(name))
    included(sender)
    anvil.link.request("anvil_rollback", 1)
    sender.pump()
    sender.pump()
    bury(anvil)
    assert sender.wait("act").events
    assert times(anvil, name) == 1


def test_a_foreign_transaction_takes_our_nonce_only_once_it_is_final(
    anvil: Ground, tmp_path: Path, name: str
) -> None:
    """Signed again too early, both could be mined after a reorganisation."""
    bury(anvil)
    between = Between(anvil.link)
    between.rules["eth_sendRawTransaction"] = lambda raw: "0x"
    sender = anvil.sender(tmp_path, anvil.chain(between, confirmations=DEPTH))
    hash = sender.submit("act", act(name))
    between.rules.clear()
    nonce = number(anvil.link.request("eth_getTransactionCount", anvil.account, "latest"))
    send_nothing(anvil.link, anvil.settings.chain_id, anvil.key, nonce)

    sender.pump()
    assert sender.replaced() == []
    undo(anvil, 1)  # the foreign one is gone
    sender.pump()

    assert included(sender).transactions == (hash,)
    bury(anvil)
    assert sender.wait("act").transaction == hash
    assert sender.replaced() == []
    assert times(anvil, name) == 1


def test_a_foreign_transaction_that_is_final_has_ours_signed_again(
    anvil: Ground, tmp_path: Path, name: str
) -> None:
    bury(anvil)
    between = Between(anvil.link)
    between.rules["eth_sendRawTransaction"] = lambda raw: "0x"
    sender = anvil.sender(tmp_path, anvil.chain(between, confirmations=DEPTH))
    hash = sender.submit("act", act(name))
    between.rules.clear()
    nonce = number(anvil.link.request("eth_getTransactionCount", anvil.account, "latest"))
    foreign = send_nothing(anvil.link, anvil.settings.chain_id, anvil.key, nonce)
    bury(anvil)
    sender.pump()
    bury(anvil)
    assert sender.wait("act").transaction != hash
    (lost,) = sender.replaced()
    assert (lost.hash, lost.taken_by) == (hash, foreign)
    assert times(anvil, name) == 1


def test_a_block_below_a_final_one_that_is_replaced_is_an_error_and_nothing_is_sent(
    anvil: Ground, tmp_path: Path, name: str
) -> None:
    between = Between(anvil.link)
    sender = anvil.sender(tmp_path, anvil.chain(between))  # said to be final at once, and it is not
    mined = sender.send("act", act(name))
    between.rules["eth_sendRawTransaction"] = lambda raw: "0x"
    sender.submit("another", act(f"{name} another"))
    undo(anvil, 1)
    between.rules.clear()
    sent = len(between.sent)

    for _ in range(2):
        with pytest.raises(FinalBlockReplaced, match=mined.block.hash):
            sender.chain.finalized()
        with pytest.raises(FinalBlockReplaced, match=mined.block.hash):
            sender.pump()
        with pytest.raises(FinalBlockReplaced, match=mined.block.hash):
            sender.wait("act")
    afterwards = anvil.sender(tmp_path, anvil.chain(between))  # a new process does not forget
    with pytest.raises(FinalBlockReplaced, match=mined.block.hash):
        afterwards.pump()
    assert len(between.sent) == sent
    assert progress(sender).state is State.MINED


def test_a_block_that_was_replaced_is_not_read_as_if_it_were_there(
    anvil: Ground, sender: Sender, name: str
) -> None:
    sender.submit("act", act(name))
    included(sender)
    chain = sender.chain
    head = chain.head()
    assert is_done(chain, name, head)
    undo(anvil, 1)
    with pytest.raises(UnknownBlock):
        is_done(chain, name, head)
    assert not is_done(chain, name, chain.head())


def test_a_deep_reorganisation_of_many_acts_loses_none_and_doubles_none(
    anvil: Ground, sender: Sender, name: str
) -> None:
    names = [f"{name} {i}" for i in range(6)]
    for round in range(3):
        for each in names[2 * round : 2 * round + 2]:
            sender.submit(each, act(each))
        sender.pump()
        undo(anvil, min(DEPTH, 1 + round))
        sender.pump()
    for _ in range(4):
        sender.pump()
        bury(anvil)
    assert [sender.wait(each).events[0].name for each in names]
    assert [times(anvil, each) for each in names] == [1] * 6
    assert sender.undone()
