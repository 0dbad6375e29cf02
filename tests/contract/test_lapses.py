"""What is looked at is not looked at again until something lapses: and then everything is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from chain_world import ALGORITHM, PURPOSE, World, h
from test_consortium import act, decided, successor

from sealtrace.contracts import calls
from sealtrace.contracts.calls import Call
from sealtrace.contracts.client import Chain, View
from sealtrace.protocol.identifiers import Address
from sealtrace.protocol.lifecycle import TaskState
from sealtrace.protocol.outcome import Denial
from sealtrace.protocol.records import DataClass, Protection, Role

LAPSES: dict[str, tuple[Callable[[World], Call], str]] = {
    "a node is suspended": (lambda w: calls.suspend_node(w.of("outsider"), h("why")), "regulator"),
    "a node is retired": (lambda w: calls.retire_node(w.of("outsider")), "registrar"),
    "a dataset is withdrawn": (lambda w: calls.withdraw_dataset(w.dataset("outsider")), "outsider"),
    "an algorithm is suspended": (lambda w: calls.suspend_algorithm(h("other"), h("why")), "regulator"),
    "an algorithm is revoked": (lambda w: calls.revoke_algorithm(h("other")), "provider"),
}
NO_LAPSES: dict[str, tuple[Callable[[World], Call], str]] = {
    "a grant is revoked": (lambda w: calls.revoke_grant(w.issue("alice")), "alice"),
    "keys are rotated": (lambda w: calls.rotate_keys(h("tls"), h("key")), "alice"),
    "an algorithm is registered": (lambda w: calls.register_algorithm(h("third")), "provider"),
    "a dataset has a new version": (
        lambda w: calls.supersede_dataset(w.dataset("alice"), h("v2"), h("schema"), DataClass.GENERAL),
        "alice",
    ),
}


@pytest.fixture
def wide(world: World) -> World:
    """The world with a fourth owner, a dataset of its, and a second algorithm, all there to lapse."""
    admit = calls.admit(world.of("outsider"), Role.OWNER | Role.COMPUTE, h("tls o"), h("key o"))
    world.do(admit, "registrar")
    commitment = h("commitment of outsider 0")
    world.do(calls.register_dataset(commitment, h("schema"), DataClass.GENERAL), "outsider")
    world.do(calls.register_algorithm(h("other")), "provider")
    return world


def lapses(world: World, ledger: Address | None = None) -> int:
    chain = world.chain
    if ledger is not None:
        (chain,) = [
            each
            for each in Chain.over(world.link.w3, chain.settings).generations()
            if each.addresses["TaskLedger"] == ledger
        ]
    (found,) = chain.read([View("TaskLedger", "lapses")], world.chain.head())
    return int(found)


@pytest.mark.parametrize("what", LAPSES)
def test_the_ledger_hears_of_everything_that_lapses(wide: World, what: str) -> None:
    call, by = LAPSES[what]
    assert lapses(wide) == 1
    wide.do(call(wide), by)
    assert lapses(wide) == 2


@pytest.mark.parametrize("what", NO_LAPSES)
def test_what_takes_no_permission_from_anybody_else_is_no_lapse(wide: World, what: str) -> None:
    call, by = NO_LAPSES[what]
    wide.do(call(wide), by)
    assert lapses(wide) == 1


@pytest.mark.parametrize("what", LAPSES)
def test_a_task_goes_on_after_a_lapse_that_does_not_concern_it(wide: World, what: str) -> None:
    call, by = LAPSES[what]
    terms = wide.terms()
    wide.create(terms)
    wide.do(calls.start(terms, h("input")), wide.ranks[0])
    wide.do(call(wide), by)
    for name in wide.ranks[1:]:
        wide.do(calls.start(terms, h("input")), name)
    assert wide.finish_all(terms)[-1].names == ["TaskFinished", "TaskCompleted"]


CONCERNING: dict[str, tuple[Callable[[World], Call], str, Denial | str]] = {
    "a party": (lambda w: calls.suspend_node(w.parties[0], h("why")), "regulator", "PartyNotActive"),
    "the requester": (
        lambda w: calls.suspend_node(w.of("lab"), h("why")),
        "regulator",
        Denial.REQUESTER_NOT_ACTIVE,
    ),
    "the dataset": (
        lambda w: calls.withdraw_dataset(w.dataset(w.ranks[-1])),
        "last",
        Denial.DATASET_NOT_ACTIVE,
    ),
    "the algorithm": (lambda w: calls.revoke_algorithm(ALGORITHM), "provider", Denial.ALGORITHM_NOT_ACTIVE),
}


@pytest.mark.parametrize("what", CONCERNING)
def test_a_start_sees_what_lapsed_between_it_and_the_last_look(wide: World, what: str) -> None:
    call, by, why = CONCERNING[what]
    terms, last = wide.terms(), wide.ranks[-1]
    wide.create(terms)
    for name in wide.ranks[:-1]:
        wide.do(calls.start(terms, h("input")), name)
    wide.do(call(wide), last if by == "last" else by)
    refused = wide.refused(calls.start(terms, h("input")), last)
    if isinstance(why, Denial):
        assert (refused.name, refused.values["reason"]) == ("Denied", why)
    else:
        assert refused.name == why


def test_a_party_named_while_suspended_is_looked_at_again_until_it_is_reinstated(wide: World) -> None:
    first, *others = wide.ranks
    terms = wide.terms()
    wide.do(calls.suspend_node(wide.of(first), h("why")), "regulator")
    wide.create(terms)  # a task may wait for a party to come back
    assert wide.refused(calls.start(terms, h("input")), others[0]).name == "PartyNotActive"
    wide.do(calls.reinstate_node(wide.of(first)), "regulator")
    assert len(wide.start_all(terms)) == 3


@pytest.mark.parametrize("name", ["outsider", "registrar", "regulator", "alice"])
def test_nobody_but_the_registries_tells_of_a_lapse(wide: World, name: str) -> None:
    assert wide.refused(Call("NodeRegistry", "lapse", ()), name).name == "OnlyRegistry"
    assert wide.refused(Call("TaskLedger", "lapse", ()), name).name == "OnlyNodeRegistry"
    assert wide.refused(calls.serve_ledger(wide.of("outsider")), name).name == "OnlyConsortium"
    assert lapses(wide) == 1


def test_a_ledger_nobody_tells_counts_nothing_until_it_is_served_and_every_lapse_from_then_on(
    wide: World,
) -> None:
    ledger, evidence = successor(wide)
    assert decided(wide, calls.announce(ledger, evidence)) == ["Executed", "GenerationAnnounced"]
    assert lapses(wide, ledger) == 0
    wide.do(calls.suspend_node(wide.of("outsider"), h("why")), "regulator")
    assert (lapses(wide), lapses(wide, ledger)) == (2, 0)
    assert decided(wide, calls.serve_ledger(ledger)) == ["Executed", "LedgerServed"]
    assert (lapses(wide), lapses(wide, ledger)) == (2, 1)
    wide.do(calls.reinstate_node(wide.of("outsider")), "regulator")
    wide.do(calls.retire_node(wide.of("outsider")), "registrar")
    assert (lapses(wide), lapses(wide, ledger)) == (3, 2)
    for told, expected in ((ledger, True), (wide.chain.addresses["TaskLedger"], True), (evidence, False)):
        (tells,) = wide.chain.read([View("NodeRegistry", "tells", (told,))], wide.chain.head())
        assert tells is expected


@pytest.mark.parametrize("what", CONCERNING)
def test_a_ledger_nobody_tells_looks_at_everything_at_every_start(wide: World, what: str) -> None:
    call, by, why = CONCERNING[what]
    decided(wide, calls.announce(*successor(wide)))
    anew = World(wide.engine, Chain.over(wide.link.w3, wide.chain.settings), wide.keys)
    anew.grants = {name: anew.issue(name) for name in anew.ranks}
    terms, last = anew.terms(), anew.ranks[-1]
    anew.create(terms)
    for name in anew.ranks[:-1]:
        anew.do(calls.start(terms, h("input")), name)
    anew.do(call(anew), last if by == "last" else by)
    assert lapses(anew) == 0
    refused = anew.refused(calls.start(terms, h("input")), last)
    assert refused.values.get("reason", refused.name) == why


def test_what_is_no_ledger_is_not_served(wide: World) -> None:
    actions = [act(wide, calls.serve_ledger(wide.chain.addresses["EvidenceAnchor"]))]
    wide.do(calls.propose(actions, h("why")), "registrar")
    wide.refused(calls.execute(actions, h("why")), "registrar")
    (tells,) = wide.chain.read(
        [View("NodeRegistry", "tells", (wide.chain.addresses["EvidenceAnchor"],))], wide.chain.head()
    )
    assert tells is False


# what a task and a grant remember


def seen(world: World, task: str) -> int:
    (found,) = world.chain.read(
        [View("TaskLedger", "taskOf", (bytes.fromhex(task[2:]),))], world.chain.head()
    )
    return int(found[1])


def test_a_task_remembers_the_count_at_which_its_parties_were_active(wide: World) -> None:
    terms = wide.terms()
    task = wide.create(terms)
    assert seen(wide, task) == 1
    wide.do(calls.retire_node(wide.of("outsider")), "registrar")
    assert seen(wide, task) == 1
    wide.do(calls.start(terms, h("input")), wide.ranks[0])
    assert seen(wide, task) == 2


def test_a_task_with_a_party_that_is_not_active_remembers_no_count(wide: World) -> None:
    wide.do(calls.suspend_node(wide.parties[0], h("why")), "regulator")
    terms = wide.terms()
    task = wide.create(terms)
    assert seen(wide, task) == 0
    wide.do(calls.reinstate_node(wide.parties[0]), "regulator")
    wide.do(calls.start(terms, h("input")), wide.ranks[0])
    assert seen(wide, task) == 2


def test_a_party_that_owns_no_data_acts_after_a_lapse_too(world: World) -> None:
    world.do(calls.admit(world.of("outsider"), Role.COMPUTE, h("tls o"), h("key o")), "registrar")
    usual = world.terms()
    parties = tuple(sorted((*usual.parties, world.of("outsider"))))
    uses = tuple(replace(u, party=parties.index(usual.parties[u.party])) for u in usual.uses)
    terms = replace(usual, parties=parties, uses=uses)
    world.create(terms)
    world.do(calls.retire_node(world.of("provider")), "registrar")
    assert world.do(calls.refuse(terms, 40), "outsider").names == ["TaskRefused"]


def test_a_superseded_dataset_still_runs_under_its_grants_after_a_lapse(wide: World) -> None:
    terms = wide.terms()
    wide.create(terms)
    for name in wide.ranks:
        next_version = calls.supersede_dataset(wide.dataset(name), h("v2"), h("schema"), DataClass.GENERAL)
        wide.do(next_version, name)
    wide.do(calls.retire_node(wide.of("outsider")), "registrar")
    assert len(wide.start_all(terms)) == 3


def test_whoever_asks_why_a_start_would_be_denied_is_told_what_lapsed(wide: World) -> None:
    name = wide.ranks[0]
    request = (
        wide.of(name),
        bytes.fromhex(wide.dataset(name)[2:]),
        bytes.fromhex(ALGORITHM[2:]),
        wide.of("lab"),
        bytes.fromhex(PURPOSE[2:]),
        int(Protection.MPC_ABY3),
        0,
    )
    grant = bytes.fromhex(wide.grants[name][2:])

    def denial(of: bytes) -> int:
        view = View("GrantRegistry", "denialOf", (of, request, list(wide.parties)))
        return int(wide.chain.read([view], wide.chain.head())[0])

    assert (denial(grant), denial(bytes(32))) == (0, Denial.UNKNOWN_GRANT)
    wide.do(calls.withdraw_dataset(wide.dataset(name)), name)
    assert denial(grant) == Denial.DATASET_NOT_ACTIVE


def test_a_grant_that_names_participants_and_asks_for_approval_does_both(wide: World) -> None:
    both = wide.issue("alice", participants=wide.parties, approval_required=True)
    plain = wide.issue("alice")
    found = {id: wide.chain.grant(id, at=wide.chain.head()) for id in (both, plain)}
    assert [each and (each.approval_required, each.revoked) for each in found.values()] == [
        (True, False),
        (False, False),
    ]
    waiting = wide.task(wide.create(wide.terms({"alice": both})))
    assert waiting is not None
    assert waiting.state is TaskState.CREATED
