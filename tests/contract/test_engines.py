"""Whatever is told of the contracts on one engine holds on the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from chain_world import ALGORITHM, ENGINE, World, build, h

from sealtrace.contracts import calls
from sealtrace.contracts.errors import Reverted
from sealtrace.protocol.identifiers import UnixSeconds
from sealtrace.protocol.records import DataClass

Told = list[Any]


@pytest.fixture(scope="module")
def both() -> tuple[World, World]:
    return build("eth-tester"), build("revm")


def life(world: World) -> Told:
    """Every kind of answer: events, a refusal with values, a record, a read at an old block."""
    terms = world.terms()
    task = world.create(terms)
    early = world.chain.head()
    done = [*world.start_all(terms), *world.finish_all(terms)]
    refusal = world.attempt(calls.finish(terms, h("receipt"), h("result")), world.ranks[0])
    assert isinstance(refusal, Reverted)
    return [
        [(event.name, dict(event.args)) for one in done for event in one.events],
        (refusal.name, dict(refusal.values)),
        world.task(task),
        world.chain.task(task, at=early),
        len(world.chain.events(0, world.chain.head().number, task=task)),
        len(world.chain.events(0, world.chain.head().number, party=world.of("alice"))),
    ]


def travels(world: World) -> Told:
    world.travel(world.now + 500)
    done = world.do(calls.register_dataset(h("later"), h("schema"), DataClass.CORE), "alice")
    world.engine.mine_blocks()
    return [done.at, world.now, world.chain.head().number]


def goes_back(world: World) -> Told:
    before = world.chain.head()
    first = world.engine.take_snapshot()
    world.do(calls.suspend_algorithm(ALGORITHM, h("why")), "registrar")
    world.engine.take_snapshot()
    world.do(calls.reinstate_algorithm(ALGORITHM), "registrar")
    world.engine.revert_to_snapshot(first)
    suspended = world.do(calls.suspend_algorithm(ALGORITHM, h("why")), "registrar").names
    world.engine.revert_to_snapshot(first)
    assert world.chain.head() == before
    return [suspended, world.chain.algorithm(ALGORITHM, at=before)]


@pytest.mark.parametrize("story", [life, travels, goes_back])
def test_both_engines_tell_the_same_story(both: tuple[World, World], story: Callable[[World], Told]) -> None:
    eth_tester, revm = both
    assert story(eth_tester) == story(revm)


def test_going_back_many_times_does_not_wear_revm_out() -> None:
    world = build("revm")
    for _ in range(1500):  # more than the depth of calls that the machine allows
        mark = world.engine.take_snapshot()
        world.do(calls.anchor(1, h("root")), "alice")
        world.engine.revert_to_snapshot(mark)
    assert world.chain.checkpoint(world.of("alice"), at=world.chain.head()) is None


def test_time_on_both_engines_begins_at_the_same_second(both: tuple[World, World]) -> None:
    assert both[0].now == both[1].now > UnixSeconds(4_000_000_000)


def test_the_engine_is_one_that_we_have() -> None:
    assert ENGINE in ("eth-tester", "revm"), "set SEALTRACE_ENGINE to eth-tester or revm"
