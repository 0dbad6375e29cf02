"""Several endpoints of one chain: who is asked, who is passed over, and what is final."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from sealtrace.contracts.blocks import ENDPOINT_FINALIZED, Finality
from sealtrace.contracts.endpoints import COMPARE_EVERY_S, FIRST_REST_S, Endpoint, Endpoints
from sealtrace.contracts.errors import (
    ChainUnreachable,
    FinalBlockReplaced,
    MalformedAnswer,
    NoEndpointUsable,
    WrongChain,
)
from sealtrace.contracts.link import Ask, Failure, HttpLink, Link, content, each_url, number


class Fake(Link):
    """An endpoint with a head; ``fork`` makes its blocks its own from there on."""

    by_hash = True

    def __init__(self, name: str, head: int = 10) -> None:
        self.url = name
        self.head = head
        self.fork: int | None = None
        self.down = False
        self.asked: list[str] = []
        self.answers: dict[str, Any] = {}

    def batch(self, asks: Sequence[Ask]) -> list[Any]:
        if self.down:
            raise ChainUnreachable(self.url, "it is down")
        return [self._one(ask) for ask in asks]

    def _one(self, ask: Ask) -> Any:
        self.asked.append(ask.method)
        if ask.method in self.answers:
            return self.answers[ask.method]
        if ask.method == "eth_blockNumber":
            return hex(self.head)
        if ask.method == "eth_getBlockByNumber":
            return self.block(ask.params[0])
        return f"by {self.url}"

    def block(self, tag: str) -> Any:
        height = {"latest": self.head, "finalized": max(0, self.head - 2)}.get(tag)
        height = int(tag, 16) if height is None else height
        branch = 0 if self.fork is None or height < self.fork else 1
        shown = {"number": hex(height), "hash": f"0x{height + (branch << 32):064x}", "timestamp": "0x1"}
        return shown if height <= self.head else None


class World:
    """Two endpoints, a clock, and what the check says of each."""

    def __init__(self) -> None:
        self.now = 0.0
        self.a, self.b = Fake("a"), Fake("b")
        self.checked: list[str] = []
        self.wrong: set[str] = set()
        self.link = Endpoints(
            [Endpoint(each, each) for each in (self.a, self.b)], self.check, lambda: self.now
        )

    def check(self, link: Link) -> None:
        self.checked.append(link.url)
        if link.url in self.wrong:
            raise WrongChain(link.url, 1, 2)

    def later(self, seconds: float = COMPARE_EVERY_S) -> None:
        self.now += seconds


@pytest.fixture
def world() -> World:
    return World()


def test_every_endpoint_is_checked_once_before_it_is_used(world: World) -> None:
    for _ in range(3):
        world.link.request("eth_chainId")
    assert sorted(world.checked) == ["a", "b"]


def test_the_first_is_asked_while_it_is_well(world: World) -> None:
    assert [world.link.request("eth_x") for _ in range(3)] == ["by a"] * 3
    assert "eth_x" not in world.b.asked


def test_one_that_is_down_is_passed_over_and_not_asked_for_a_while(world: World) -> None:
    world.link.request("eth_x")
    world.a.down = True
    assert world.link.request("eth_x") == "by b"
    world.a.down = False
    world.b.down = True
    assert world.link.request("eth_x") == "by a"  # where nobody else answers, it is asked all the same


def test_one_that_was_down_is_checked_again_before_it_is_used(world: World) -> None:
    world.link.request("eth_x")
    world.a.down = True
    world.link.request("eth_x")
    world.a.down, world.wrong = False, {"a"}  # another program listens at its port now
    world.b.down = True
    world.later(FIRST_REST_S * 3)
    with pytest.raises(NoEndpointUsable, match="a serves chain 2"):
        world.link.request("eth_x")


def test_a_rest_is_longer_each_time(world: World) -> None:
    world.a.down = True
    rests = []
    for _ in range(8):
        world.link.request("eth_x")
        (a, _) = world.link._all
        rests.append(a.rests_until - world.now)
        world.now = a.rests_until
    assert rests == sorted(rests)
    assert rests[0] == FIRST_REST_S
    assert rests[-1] == 120


def test_one_of_another_chain_is_asked_for_its_head_alone(world: World) -> None:
    world.wrong = {"a"}
    assert world.link.request("eth_x") == "by b"
    assert set(world.a.asked) == {"eth_blockNumber"}


def test_all_that_fail_are_named_with_their_reasons(world: World) -> None:
    world.a.down, world.wrong = True, {"b"}
    with pytest.raises(NoEndpointUsable) as caught:
        world.link.request("eth_x")
    assert set(caught.value.why) == {"a", "b"}
    assert "it is down" in caught.value.why["a"]
    assert "serves chain 2" in caught.value.why["b"]


def test_one_whose_head_is_older_than_what_was_seen_is_not_believed(world: World) -> None:
    assert number(world.link.request("eth_blockNumber")) == 10
    world.b.head = 11
    world.later()
    assert number(world.link.request("eth_blockNumber")) == 11
    assert number(world.link.request("eth_getBlockByNumber", "latest", False)["number"]) == 11


def test_one_that_lags_far_behind_rests(world: World) -> None:
    world.b.head = 20
    world.link.request("eth_x")
    world.later()
    assert world.link.request("eth_x") == "by b"
    assert "another at block 20" in world.link._all[0].why


def test_one_that_has_caught_up_is_used_again(world: World) -> None:
    world.b.head = 20
    world.link.request("eth_x")
    world.a.head, world.b.down = 20, True
    world.later(FIRST_REST_S + 1)
    assert world.link.request("eth_x") == "by a"


def test_where_all_went_back_the_newest_of_them_is_told(world: World) -> None:
    world.link.request("eth_blockNumber")
    world.a.head, world.b.head = 8, 9
    assert number(world.link.request("eth_blockNumber")) == 9


def test_a_block_that_one_lacks_is_asked_of_the_other(world: World) -> None:
    world.link.request("eth_x")
    world.b.head = 11
    assert world.link.request("eth_getBlockByNumber", hex(11), False)["number"] == hex(11)
    assert world.link.request("eth_getBlockByNumber", hex(12), False) is None


def test_an_error_is_told_only_where_nobody_does_better(world: World) -> None:
    world.a.answers["eth_call"] = Failure("eth_call", -32000, "header not found", None)
    assert world.link.request("eth_call") == "by b"
    world.b.answers["eth_call"] = Failure("eth_call", -32603, "internal error", None)
    assert world.link.attempt("eth_call") == world.b.answers["eth_call"]  # it was the one that worked last


def test_a_contract_s_refusal_is_an_answer(world: World) -> None:
    refusal = world.a.answers["eth_call"] = Failure("eth_call", 3, "execution reverted", b"\1\2\3\4")
    assert world.link.attempt("eth_call") is refusal
    assert "eth_call" not in world.b.asked


def test_a_batch_is_answered_by_one_endpoint(world: World) -> None:
    world.link.request("eth_x")
    world.a.answers["eth_y"] = Failure("eth_y", -32000, "no", None)
    assert world.link.batch([Ask("eth_x", []), Ask("eth_y", [])]) == ["by b", "by b"]


def test_a_head_that_is_no_number_is_a_failure_of_that_endpoint(world: World) -> None:
    world.link.request("eth_x")
    world.a.answers["eth_blockNumber"] = "0xzz"
    assert number(world.link.request("eth_blockNumber")) == 10
    assert "a number" in world.link._all[0].why


def test_what_is_said_everywhere_reaches_all_that_answer(world: World) -> None:
    assert world.link.everywhere("eth_x") == ["by a", "by b"]
    world.a.down = True
    assert world.link.everywhere("eth_x") == ["by b"]
    world.b.down = True
    with pytest.raises(NoEndpointUsable):
        world.link.everywhere("eth_x")


def test_endpoints_are_separated_by_commas() -> None:
    assert each_url("http://a:1, http://b:2 ,") == ("http://a:1", "http://b:2")
    assert isinstance(Link.http("http://a:1", 1), HttpLink)
    assert isinstance(Link.http("http://a:1,http://b:2", 1), Endpoints)


@pytest.mark.parametrize("value", ["0xzz", None, {"a": 1}, []])
def test_what_is_no_number_or_no_bytes_is_named(value: Any) -> None:
    for read in (number, content):
        with pytest.raises(MalformedAnswer):
            read(value)


# what is final


@pytest.mark.parametrize(("confirmations", "height"), [(0, 10), (4, 6), (ENDPOINT_FINALIZED, 8), (99, 0)])
def test_the_final_block_is_the_policy_s(confirmations: int, height: int) -> None:
    assert Finality(Fake("a"), confirmations).newest().number == height


@pytest.mark.parametrize("confirmations", [0, 2, ENDPOINT_FINALIZED])
def test_a_head_that_goes_back_makes_nothing_unfinal(confirmations: int) -> None:
    link = Fake("a")
    finality = Finality(link, confirmations)
    final = finality.newest()
    for head in (final.number, final.number - 1, 1):
        link.head = head
        assert finality.newest() == final
    link.head = 30
    assert finality.newest().number > final.number


@pytest.mark.parametrize("confirmations", [0, 2, ENDPOINT_FINALIZED])
def test_another_block_in_a_final_one_s_place_is_an_error_for_ever(confirmations: int) -> None:
    link = Fake("a")
    finality = Finality(link, confirmations)
    final = finality.newest()
    link.fork, link.head = final.number, 40
    for _ in range(2):
        with pytest.raises(FinalBlockReplaced, match=final.hash):
            finality.newest()
    assert finality.known == final


def test_a_reorganisation_above_the_final_block_is_none_of_its_business() -> None:
    link = Fake("a")
    finality = Finality(link, 2)
    final = finality.newest()
    link.fork, link.head = final.number + 1, 12
    assert finality.newest().number == 10


def test_a_final_block_of_an_earlier_process_is_held_to() -> None:
    link = Fake("a")
    final = Finality(link, 0).newest()
    link.fork, link.head = final.number, 12
    with pytest.raises(FinalBlockReplaced):
        Finality(link, 0).require(final)
