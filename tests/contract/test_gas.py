"""What each transaction costs, and the whole life of a task. ``docs/gas.md`` is drawn from the snapshot.

To accept new figures: ``UPDATE_GAS=1 pytest tests/contract/test_gas.py``, and commit what it writes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

import pytest
from chain_world import ALGORITHM, RESULT, World, bare, h

from sealtrace.contracts import abi, calls, documentation
from sealtrace.contracts.deployment import constructor_arguments
from sealtrace.protocol.identifiers import Address, Hex32
from sealtrace.protocol.outcome import Failure
from sealtrace.protocol.records import DataClass, Role, TaskTerms, Use


def setting_up(world: World) -> Iterator[tuple[str, int]]:
    """What is done once."""
    outsider = world.of("outsider")
    admit = calls.admit(outsider, Role.OWNER | Role.PROVIDER, h("tls"), h("key"))
    yield "admit a node", world.do(admit, "registrar").gas_used
    yield "rotate keys", world.do(calls.rotate_keys(h("t2"), h("k2")), "outsider").gas_used
    register = calls.register_dataset(h("c"), h("s"), DataClass.GENERAL)
    yield "register a dataset", world.do(register, "outsider").gas_used
    yield "register an algorithm", world.do(calls.register_algorithm(h("a")), "outsider").gas_used
    yield "issue a grant", world.do(calls.issue_grant(world.grant_terms("alice")), "alice").gas_used
    yield "revoke a grant", world.do(calls.revoke_grant(world.grants["alice"]), "alice").gas_used
    yield "withdraw a dataset", world.do(calls.withdraw_dataset(world.dataset("alice")), "alice").gas_used
    yield "revoke an algorithm", world.do(calls.revoke_algorithm(h("a")), "outsider").gas_used


def supervising(world: World) -> Iterator[tuple[str, int]]:
    """What the officers do."""
    alice = world.of("alice")
    yield "suspend a node", world.do(calls.suspend_node(alice, h("why")), "regulator").gas_used
    yield "reinstate a node", world.do(calls.reinstate_node(alice), "regulator").gas_used
    yield "retire a node", world.do(calls.retire_node(alice), "registrar").gas_used
    suspend = calls.suspend_algorithm(ALGORITHM, h("why"))
    yield "suspend an algorithm", world.do(suspend, "regulator").gas_used
    yield "reinstate an algorithm", world.do(calls.reinstate_algorithm(ALGORITHM), "regulator").gas_used


def anchoring(world: World) -> Iterator[tuple[str, int]]:
    """Evidence."""
    yield "anchor a node's first checkpoint", world.do(calls.anchor(1, h("r1")), "alice").gas_used
    yield "anchor a further checkpoint", world.do(calls.anchor(9, h("r9")), "alice").gas_used


def ways_out(world: World) -> Iterator[tuple[str, int]]:
    """What ends or delays a task, each on one of its own."""
    waiting = world.terms({"alice": world.issue("alice", approval_required=True)})
    task = world.create(waiting)
    yield "approve a task", world.do(calls.approve(waiting), "alice").gas_used
    yield "refuse a task", world.do(calls.refuse(waiting, 40), "bob").gas_used
    terms = world.terms()
    yield "cancel a task", world.do(_created(world, terms), "lab").gas_used
    for name, act in (
        ("fail a task", lambda task, terms: calls.fail(terms, Failure.TIMED_OUT)),
        ("stop a task", calls.stop),
    ):
        terms = world.terms()
        task = world.create(terms)
        world.start_all(terms)
        yield name, world.do(act(task, terms), "alice").gas_used


def with_uses(world: World, count: int) -> TaskTerms:
    """A task in which every party answers for ``count`` datasets, each under a grant of its own."""
    usual = world.terms()
    uses = list(usual.uses)
    for number in range(1, count):
        for i, name in enumerate(world.ranks):
            commitment = h(f"commitment of {name} {number}")
            world.do(calls.register_dataset(commitment, h("schema"), DataClass.GENERAL), name)
            dataset = world.dataset(name, number)
            uses.append(Use(i, dataset, ALGORITHM, world.issue(name, dataset=dataset)))
    return replace(usual, uses=tuple(uses))


def life(world: World, terms: TaskTerms) -> Iterator[tuple[str, int]]:
    """A task from its creation to its completion."""
    yield "create", world.do(calls.create(terms), "lab").gas_used
    task: Hex32 = world.chain.task_id(terms)
    order = ("first", "second", "last")
    for which, name in zip(order, world.ranks, strict=True):
        yield f"{which} start", world.do(calls.start(terms, h("input")), name).gas_used
    for which, name in zip(order, world.ranks, strict=True):
        done = world.do(calls.finish(terms, h(f"receipt {name}"), RESULT), name)
        yield f"{which} finish", done.gas_used


def deploying() -> Iterator[tuple[str, int]]:
    """The contracts themselves, from an estimate over an empty chain where no member answers yet."""
    _, link, _, _ = bare()
    nobody = {name: Address("0x" + "11" * 20) for name in abi.CONTRACTS}
    arguments = constructor_arguments(nobody, *[Address("0x" + "22" * 20)] * 3)
    for name in abi.SEVEN:
        code = abi.encode_constructor(name, arguments[name])
        found = link.request("eth_estimateGas", {"from": "0x" + "00" * 20, "data": "0x" + code.hex()})
        yield f"deploy {name}", int(found)


def test_no_transaction_costs_more_than_the_snapshot_says(world: World) -> None:
    snapshot = world.tester.backend.take_snapshot()
    figures: dict[str, dict[str, int]] = {}

    def story(heading: str, lines: Iterator[tuple[str, int]]) -> None:
        figures[heading] = dict(lines)
        world.tester.backend.revert_to_snapshot(snapshot)
        world.asked = 0

    world.asked = 0
    story("once", setting_up(world))
    story("officers", supervising(world))
    story("evidence", anchoring(world))
    story("ways out", ways_out(world))
    story("life, 1 use", life(world, with_uses(world, 1)))
    story("life, 2 uses", life(world, with_uses(world, 2)))
    figures["deployment"] = dict(deploying())

    if os.environ.get("UPDATE_GAS"):
        documentation.write_gas(figures)
    known = documentation.gas_figures()
    grown = [
        f"{heading}: {name} costs {cost}, was {known.get(heading, {}).get(name)}"
        for heading, lines in figures.items()
        for name, cost in lines.items()
        if cost > known.get(heading, {}).get(name, 0)
    ]
    if grown:
        pytest.fail("\n".join([*grown, "Accept it with UPDATE_GAS=1 pytest tests/contract/test_gas.py"]))


@pytest.mark.parametrize("name", documentation.PAGES)
def test_a_page_about_the_contracts_says_what_the_code_says(name: str) -> None:
    page = documentation.DOCS / name
    assert page.read_text() == documentation.PAGES[name](), "run python -m sealtrace.contracts.documentation"
