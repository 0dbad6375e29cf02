"""Networks that ask fees: what waits too long offers more, under the same nonce, and counts once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from chains import Between, Ground, act, calldata_of, ground

from sealtrace.contracts.outbox import State
from sealtrace.contracts.sender import MAX_RAISES, RAISE_AFTER_S, Progress, Sender, read_fees


@pytest.fixture(scope="module")
def priced() -> Iterator[Ground]:
    with ground("anvil", "--base-fee", "1000000000") as made:
        yield made


@pytest.fixture
def holding(priced: Ground) -> Iterator[Ground]:
    """It makes no block until it is asked to."""
    priced.link.request("evm_setAutomine", False)
    yield priced
    priced.mine()
    priced.link.request("evm_setAutomine", True)


class Slow:
    """A sender whose clock is moved by hand."""

    def __init__(self, on: Ground, folder: Path) -> None:
        self.now = 1000.0
        self.between = Between(on.link)
        self.sender: Sender = on.sender(folder, on.chain(self.between), clock=lambda: self.now)

    def pump_later(self) -> None:
        self.now += RAISE_AFTER_S + 1
        self.sender.pump()

    @property
    def progress(self) -> Progress:
        found = self.sender.progress("act")
        assert found is not None
        return found

    @property
    def fees(self) -> list[int]:
        return [read_fees(bytes.fromhex(raw[2:])).most for raw in self.between.sent]


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return request.node.name


def test_what_waits_too_long_offers_more_under_the_same_nonce(
    holding: Ground, tmp_path: Path, name: str
) -> None:
    slow = Slow(holding, tmp_path)
    first = slow.sender.submit("act", act(name))
    slow.sender.pump()
    assert slow.progress.transactions == (first,)  # it is not in a hurry
    slow.pump_later()
    second, earlier = slow.progress.transactions
    assert earlier == first != second
    assert slow.fees[-1] > slow.fees[0] * 1.1
    holding.mine()
    mined = slow.sender.wait("act")
    assert mined.transaction == second
    assert slow.progress.transactions == (second,)
    assert holding.record()[calldata_of(name)] == [(second, 1)]


def test_the_earlier_version_counts_where_it_is_the_one_that_was_mined(
    holding: Ground, tmp_path: Path, name: str
) -> None:
    slow = Slow(holding, tmp_path)
    first = slow.sender.submit("act", act(name))
    slow.between.rules["eth_sendRawTransaction"] = lambda raw: "0x"  # acknowledged and forgotten
    slow.pump_later()
    assert len(slow.progress.transactions) == 2
    holding.mine()
    assert slow.sender.wait("act").transaction == first
    assert slow.progress.transactions == (first,)
    assert slow.sender.submit("act", act(name)) == first
    assert holding.record()[calldata_of(name)] == [(first, 1)]


def test_only_the_one_whose_turn_it_is_offers_more(holding: Ground, tmp_path: Path, name: str) -> None:
    slow = Slow(holding, tmp_path)
    slow.sender.submit("act", act(name))
    slow.sender.submit("next", act(f"{name} next"))
    slow.pump_later()
    following = slow.sender.progress("next")
    assert following is not None
    assert (len(slow.progress.transactions), len(following.transactions)) == (2, 1)
    holding.mine()
    assert slow.sender.wait("next").events


def test_a_fee_that_became_too_low_before_it_was_sent_is_raised_at_once(
    priced: Ground, tmp_path: Path, name: str
) -> None:
    slow = Slow(priced, tmp_path)
    slow.between.rules["eth_sendRawTransaction"] = lambda raw: "0x"
    slow.sender.submit("act", act(name))
    slow.between.rules.clear()
    priced.link.request("anvil_setNextBlockBaseFeePerGas", hex(50_000_000_000))
    priced.mine()
    slow.sender.pump()
    assert slow.sender.wait("act").transaction == slow.progress.transactions[0]
    assert len(priced.record()[calldata_of(name)]) == 1


def test_an_offer_has_an_end(holding: Ground, tmp_path: Path, name: str) -> None:
    slow = Slow(holding, tmp_path)
    slow.sender.submit("act", act(name))
    for _ in range(MAX_RAISES + 5):
        slow.pump_later()
    assert len(slow.progress.transactions) == MAX_RAISES + 1
    assert max(slow.fees) < 5 * slow.fees[0]
    holding.mine()
    assert slow.sender.wait("act").events
    assert len(holding.record()[calldata_of(name)]) == 1


def test_no_fee_is_offered_where_none_is_asked_however_long_it_takes(tmp_path: Path, name: str) -> None:
    with ground("anvil") as free:
        free.link.request("evm_setAutomine", False)
        slow = Slow(free, tmp_path)
        hash = slow.sender.submit("act", act(name))
        for _ in range(5):
            slow.pump_later()
        assert slow.progress.transactions == (hash,)
        assert set(slow.fees) == {0}
        free.mine()
        assert slow.sender.wait("act").transaction == hash
        assert slow.progress.state is State.MINED
