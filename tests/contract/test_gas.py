"""What each transaction costs, and the whole life of a task. ``docs/gas.md`` is drawn from the snapshot.

To accept new figures: ``UPDATE_GAS=1 pytest tests/contract/test_gas.py``, and commit what it writes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator

import pytest
from chain_world import ALGORITHM, ENGINE, OWNERS, RESULT, World, h

from sealtrace.contracts import abi, calls, documentation, signing
from sealtrace.contracts.deployment import Founding, constructor_arguments
from sealtrace.contracts.governance import Office, Rules
from sealtrace.protocol.identifiers import UnixSeconds
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
    replacement = calls.replace_grant(world.grants["alice"], world.grant_terms("alice"))
    grant = world.do(replacement, "alice")
    yield "replace a grant", grant.gas_used
    yield "revoke a grant", world.do(calls.revoke_grant(grant.events[1].args["grant"]), "alice").gas_used
    next_version = calls.supersede_dataset(world.dataset("alice"), h("v2"), h("s"), DataClass.GENERAL)
    yield "supersede a dataset", world.do(next_version, "alice").gas_used
    yield "withdraw a dataset", world.do(calls.withdraw_dataset(world.dataset("alice")), "alice").gas_used
    proposal = calls.propose_algorithm(h("b"), [world.of("bob"), world.of("carol")])
    yield "propose an algorithm to two reviewers", world.do(proposal, "outsider").gas_used
    review = calls.review_algorithm(h("b"), h("report"), agreed=True)
    yield "review an algorithm", world.do(review, "bob").gas_used
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
    lasting = {name: world.issue(name, uses=9) for name in world.ranks}
    waiting = world.terms({"alice": world.issue("alice", approval_required=True)})
    world.create(waiting)
    yield "approve a task", world.do(calls.approve(waiting), "alice").gas_used
    yield "refuse a task", world.do(calls.refuse(waiting, 40), "bob").gas_used
    terms = world.terms(lasting)
    world.create(terms)
    yield "cancel a task", world.do(calls.cancel(terms), "lab").gas_used
    for name, act in (
        ("fail a task", lambda terms: calls.fail(terms, Failure.TIMED_OUT)),
        ("stop a task", calls.stop),
        ("say how far it is", lambda terms: calls.progress(terms, 1, 500)),
    ):
        terms = world.terms(lasting)
        world.create(terms)
        world.start_all(terms)
        yield name, world.do(act(terms), "alice").gas_used
    terms = world.terms(lasting)
    world.create(terms)
    world.do(calls.suspend_node(world.of("provider"), h("why")), "regulator")
    yield "start the first after a lapse", world.do(calls.start(terms, h("input")), world.ranks[0]).gas_used
    terms = world.terms(lasting)
    world.create(terms)
    world.start_all(terms)
    world.finish_all(terms)
    yield "acknowledge a result", world.do(calls.acknowledge(terms, RESULT), "lab").gas_used


ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "last")


def owners(world: World, count: int) -> list[str]:
    """Owners beside the usual three where a task has more, by their index in a task of all of them."""
    names = [*OWNERS, *(f"owner {i}" for i in range(len(OWNERS), count))][:count]
    for name in names[len(OWNERS) :]:
        world.keys[name] = hashlib.sha256(name.encode()).digest()
        admit = calls.admit(world.of(name), Role.OWNER | Role.COMPUTE, h(f"tls {name}"), h(f"key {name}"))
        world.do(admit, "registrar")
        commitment = h(f"commitment of {name} 0")
        world.do(calls.register_dataset(commitment, h("schema"), DataClass.GENERAL), name)
        world.grants[name] = world.issue(name)
    return sorted(names, key=world.of)


def task_of(world: World, names: list[str], uses_each: int = 1) -> TaskTerms:
    """A task in which every party answers for ``uses_each`` datasets, each under a grant of its own."""
    uses = [Use(i, world.dataset(name), ALGORITHM, world.grants[name]) for i, name in enumerate(names)]
    for number in range(1, uses_each):
        for i, name in enumerate(names):
            commitment = h(f"commitment of {name} {number}")
            world.do(calls.register_dataset(commitment, h("schema"), DataClass.GENERAL), name)
            dataset = world.dataset(name, number)
            uses.append(Use(i, dataset, ALGORITHM, world.issue(name, dataset=dataset)))
    return world.terms(parties=tuple(map(world.of, names)), uses=tuple(uses))


def life(world: World, parties: int, uses_each: int = 1) -> Iterator[tuple[str, int]]:
    """A task from its creation to its completion, every party sending for itself."""
    names = owners(world, parties)
    terms = task_of(world, names, uses_each)
    yield "create", world.do(calls.create(terms), "lab").gas_used
    order = (*ORDINALS[: parties - 1], "last")
    for which, name in zip(order, names, strict=True):
        yield f"{which} start", world.do(calls.start(terms, h("input")), name).gas_used
    for which, name in zip(order, names, strict=True):
        yield f"{which} finish", world.do(calls.finish(terms, h(f"r {name}"), RESULT), name).gas_used


def relayed_life(world: World, parties: int) -> Iterator[tuple[str, int]]:
    """The same with one relayer, who submits what the parties signed."""
    names = owners(world, parties)
    terms = task_of(world, names)
    yield "create", world.do(calls.create(terms), "lab").gas_used
    yield "all starts", world.do(signed_starts(world, names, terms), "outsider").gas_used
    yield "all receipts", world.do(signed_receipts(world, names, terms), "outsider").gas_used


def requesters_life(world: World, parties: int) -> Iterator[tuple[str, int]]:
    """The same where the requester relays, and collects the starts before it creates the task."""
    names = owners(world, parties)
    terms = task_of(world, names)
    begun = calls.together([calls.create(terms), signed_starts(world, names, terms)])
    yield "create and all starts", world.do(begun, "lab").gas_used
    yield "all receipts", world.do(signed_receipts(world, names, terms), "lab").gas_used


def signed_starts(world: World, names: list[str], terms: TaskTerms) -> calls.Call:
    """Every party's start, signed by it."""
    place, until = place_and_time(world)
    starts = [
        (i, h("input"), signing.start(place, terms, h("input"), until).sign(world.keys[name]))
        for i, name in enumerate(names)
    ]
    return calls.start_signed(terms, starts)


def signed_receipts(world: World, names: list[str], terms: TaskTerms) -> calls.Call:
    """Every party's receipt, signed by it."""
    place, until = place_and_time(world)
    receipts = [
        (i, h(name), RESULT, signing.receipt(place, terms, h(name), RESULT, until).sign(world.keys[name]))
        for i, name in enumerate(names)
    ]
    return calls.finish_signed(terms, receipts)


def place_and_time(world: World) -> tuple[signing.Place, UnixSeconds]:
    """Where a signature counts, and until when."""
    place = signing.Place(world.chain.settings.chain_id, world.chain.addresses["TaskLedger"])
    return place, UnixSeconds(world.now + 1000)


def deciding(world: World) -> Iterator[tuple[str, int]]:
    """What a vote of three members costs."""
    consortium = world.chain.addresses["Consortium"]
    first = [calls.Action(consortium, calls.add_member(world.of(n)).data()) for n in ("alice", "bob")]
    world.do(calls.propose(first, h("why")), "registrar")
    world.do(calls.execute(first, h("why")), "registrar")
    admit = calls.admit(world.of("outsider"), Role.OWNER, h("tls"), h("key"))
    actions = [calls.Action(world.chain.addresses["NodeRegistry"], admit.data())]
    proposed = world.do(calls.propose(actions, h("why")), "alice")
    yield "propose an admission", proposed.gas_used
    yield "vote", world.do(calls.vote(proposed.value("proposal"), yes=True), "bob").gas_used
    yield "carry it out", world.do(calls.execute(actions, h("why")), "bob").gas_used
    yield (
        "offer an office",
        world.do(calls.offer_office(Office.REGULATOR, world.of("alice")), "regulator").gas_used,
    )
    accept = calls.accept_office(Office.REGULATOR, world.of("regulator"))
    yield "accept an office", world.do(accept, "alice").gas_used


def deploying(world: World) -> Iterator[tuple[str, int]]:
    """The contracts themselves, from an estimate of the same once more beside those that are there."""
    officer = world.of("registrar")
    arguments = constructor_arguments(world.chain.addresses, Founding((officer,), officer, officer, Rules()))
    for name in abi.SEVEN:
        code = abi.encode_constructor(name, arguments[name])
        found = world.link.request("eth_estimateGas", {"from": "0x" + "00" * 20, "data": "0x" + code.hex()})
        yield f"deploy {name}", int(found)


@pytest.mark.skipif(ENGINE == "revm", reason="revm keeps warm what it once touched")
def test_no_transaction_costs_more_than_the_snapshot_says(world: World) -> None:
    snapshot, granted = world.engine.take_snapshot(), dict(world.grants)
    figures: dict[str, dict[str, int]] = {}

    def story(heading: str, lines: Iterator[tuple[str, int]]) -> None:
        figures[heading] = dict(lines)
        world.engine.revert_to_snapshot(snapshot)
        world.asked, world.grants = 0, dict(granted)

    world.asked = 0
    story("once", setting_up(world))
    story("officers", supervising(world))
    story("evidence", anchoring(world))
    story("ways out", ways_out(world))
    story("votes", deciding(world))
    for parties in (2, 3, 8):
        story(f"life of {parties}", life(world, parties))
        story(f"relayed life of {parties}", relayed_life(world, parties))
        story(f"requester's life of {parties}", requesters_life(world, parties))
    story("life of 3, 2 uses each", life(world, 3, uses_each=2))
    figures["deployment"] = dict(deploying(world))

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


def test_every_function_that_changes_anything_is_in_one_row_of_the_rights() -> None:
    changing = [
        f"{name}.{entry['name']}"
        for name in abi.CONTRACTS
        for entry in abi.artifact(name).abi
        if entry["type"] == "function" and entry["stateMutability"] not in ("view", "pure")
    ]
    listed = [function for row in documentation.RIGHTS.values() for function in row]
    assert sorted(listed) == sorted(changing)
