"""How the consortium decides: members vote, offices are handed over, and nobody acts alone."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from chain_world import ALGORITHM, DAY, PEOPLE, RESULT, World, h

from sealtrace.contracts import calls
from sealtrace.contracts.calls import Action, Call
from sealtrace.contracts.client import Chain, View
from sealtrace.contracts.deployment import constructor_arguments
from sealtrace.contracts.governance import Office, ProposalStatus, Rules, proposal_id
from sealtrace.protocol.identifiers import NOBODY, NOTHING, Address, Hex32, address, raw
from sealtrace.protocol.records import NodeStatus, Role

MEMBERS = ("alice", "bob", "carol", "lab")
WEEK = 7 * DAY


def act(world: World, call: Call) -> Action:
    """What the consortium is to do."""
    return Action(world.chain.addresses[call.contract], call.data())


def id_of(world: World, actions: Sequence[Action], why: Hex32) -> Hex32:
    electorate = world.chain.consortium(at=world.chain.head()).electorate
    return proposal_id([(each.target, each.data) for each in actions], why, electorate)


def status(world: World, proposal: Hex32) -> ProposalStatus:
    found = world.chain.proposal(proposal, at=world.chain.head())
    return ProposalStatus.NONE if found is None else found.status


def decided(world: World, *said: Call, by: Sequence[str] = ("registrar",), why: str = "why") -> list[str]:
    """Propose, vote for, and do; what the execution told."""
    actions = [act(world, call) for call in said]
    proposal = id_of(world, actions, h(why))
    world.do(calls.propose(actions, h(why)), by[0])
    for name in by[1:]:
        world.do(calls.vote(proposal, yes=True), name)
    return world.do(calls.execute(actions, h(why)), "outsider").names


@pytest.fixture
def council(world: World) -> World:
    """The registrar, who began alone, has taken in four members and left."""
    decided(world, *(calls.add_member(world.of(name)) for name in MEMBERS))
    by = ("registrar", "alice", "bob")
    decided(world, calls.remove_member(world.of("registrar")), by=by, why="it leaves")
    return world


def admission(world: World) -> Call:
    return calls.admit(world.of("outsider"), Role.OWNER, h("tls"), h("key"))


# members and votes


def test_a_consortium_begins_with_its_founders_and_rules(world: World) -> None:
    found = world.chain.consortium(at=world.chain.head())
    assert (found.members, found.rules, found.votes_needed) == ((world.of("registrar"),), Rules(), 1)


@pytest.mark.parametrize(
    ("members", "quorum", "needed"),
    [(1, 50, 1), (2, 50, 2), (3, 50, 2), (4, 50, 3), (4, 75, 4), (3, 66, 2), (4, 66, 3), (4, 99, 4)],
)
def test_more_than_the_quorum_must_agree(world: World, members: int, quorum: int, needed: int) -> None:
    added = [calls.add_member(world.of(name)) for name in MEMBERS[: members - 1]]
    decided(world, *added, calls.set_rules(Rules(quorum)))
    found = world.chain.consortium(at=world.chain.head())
    assert (len(found.members), found.votes_needed) == (members, needed)


def test_a_proposal_passes_by_votes_and_is_done_once(council: World) -> None:
    world = council
    actions, why = [act(world, admission(world))], h("it applied")
    proposal = id_of(world, actions, why)
    assert status(world, proposal) is ProposalStatus.NONE
    told = world.do(calls.propose(actions, why), "alice")
    assert told.names == ["Proposed", "Voted"]
    assert told.value("proposal") == proposal
    assert status(world, proposal) is ProposalStatus.OPEN
    assert world.refused(calls.execute(actions, why), "alice").name == "ProposalNotPassed"
    world.do(calls.vote(proposal, yes=False), "bob")
    world.do(calls.vote(proposal, yes=True), "carol")
    assert status(world, proposal) is ProposalStatus.OPEN
    world.do(calls.vote(proposal, yes=True), "lab")
    found = world.chain.proposal(proposal, at=world.chain.head())
    assert found is not None
    assert (found.status, found.yes, found.no) == (ProposalStatus.PASSED, 3, 1)

    assert world.do(calls.execute(actions, why), "outsider").names == ["Executed", "NodeAdmitted"]

    assert status(world, proposal) is ProposalStatus.EXECUTED
    assert world.refused(calls.execute(actions, why), "alice").name == "ProposalNotPassed"
    assert world.refused(calls.propose(actions, why), "alice").name == "AlreadyProposed"
    assert world.chain.node(world.of("outsider"), at=world.chain.head()).status is NodeStatus.ACTIVE


def test_a_proposal_that_cannot_pass_any_more_is_rejected(council: World) -> None:
    world = council
    actions = [act(world, admission(world))]
    proposal = id_of(world, actions, h("why"))
    world.do(calls.propose(actions, h("why")), "alice")
    for name in ("bob", "carol"):
        assert status(world, proposal) is ProposalStatus.OPEN
        world.do(calls.vote(proposal, yes=False), name)
    assert status(world, proposal) is ProposalStatus.REJECTED
    assert world.refused(calls.vote(proposal, yes=True), "lab").name == "ProposalNotOpen"


@pytest.mark.parametrize("name", [name for name in PEOPLE if name not in MEMBERS])
def test_nobody_but_a_member_proposes_or_votes(council: World, name: str) -> None:
    world = council
    actions = [act(world, admission(world))]
    assert world.refused(calls.propose(actions, h("why")), name).name == "OnlyMember"
    world.do(calls.propose(actions, h("why")), "alice")
    vote = calls.vote(id_of(world, actions, h("why")), yes=True)
    assert world.refused(vote, name).name == "OnlyMember"


def test_a_member_votes_once_and_the_proposer_has_voted(council: World) -> None:
    world = council
    actions = [act(world, admission(world))]
    proposal = id_of(world, actions, h("why"))
    world.do(calls.propose(actions, h("why")), "alice")
    world.do(calls.vote(proposal, yes=False), "bob")
    for name in ("alice", "bob"):
        assert world.refused(calls.vote(proposal, yes=True), name).name == "AlreadyVoted"


def test_what_was_never_proposed_is_neither_voted_on_nor_done(council: World) -> None:
    world = council
    assert world.refused(calls.vote(h("?"), yes=True), "alice").name == "UnknownProposal"
    actions = [act(world, admission(world))]
    assert world.refused(calls.execute(actions, h("why")), "alice").name == "UnknownProposal"
    assert world.refused(calls.propose([], h("why")), "alice").name == "NoActions"


def test_a_vote_ends_with_its_period(council: World) -> None:
    world = council
    actions = [act(world, admission(world))]
    proposal = id_of(world, actions, h("why"))
    opened = world.do(calls.propose(actions, h("why")), "alice").at
    world.travel(opened + WEEK - 1)
    world.do(calls.vote(proposal, yes=True), "bob")
    assert world.refused(calls.vote(proposal, yes=True), "carol").name == "ProposalNotOpen"
    assert status(world, proposal) is ProposalStatus.EXPIRED


def test_a_decision_is_carried_out_within_its_period(council: World) -> None:
    world = council
    actions = [act(world, admission(world))]
    proposal = id_of(world, actions, h("why"))
    opened = world.do(calls.propose(actions, h("why")), "alice").at
    for name in ("bob", "carol"):
        world.do(calls.vote(proposal, yes=True), name)
    world.travel(opened + 2 * WEEK)
    assert world.refused(calls.execute(actions, h("why")), "alice").name == "ProposalNotPassed"
    assert status(world, proposal) is ProposalStatus.EXPIRED


def test_a_decision_is_good_until_the_second_before_its_period_ends(council: World) -> None:
    world = council
    actions = [act(world, admission(world))]
    opened = world.do(calls.propose(actions, h("why")), "alice").at
    for name in ("bob", "carol"):
        world.do(calls.vote(id_of(world, actions, h("why")), yes=True), name)
    world.travel(opened + 2 * WEEK - 1)
    world.do(calls.execute(actions, h("why")), "outsider")


@pytest.mark.parametrize("change", ["member", "rules"])
def test_a_change_of_members_or_rules_ends_open_proposals(council: World, change: str) -> None:
    world = council
    waiting = [act(world, admission(world))]
    proposal = id_of(world, waiting, h("why"))
    world.do(calls.propose(waiting, h("why")), "alice")
    for name in ("bob", "carol"):  # it has passed, and is not done yet
        world.do(calls.vote(proposal, yes=True), name)
    changes = {"member": calls.remove_member(world.of("lab")), "rules": calls.set_rules(Rules(75))}
    decided(world, changes[change], by=("alice", "bob", "carol"), why="another matter")
    assert status(world, proposal) is ProposalStatus.STALE
    assert world.refused(calls.execute(waiting, h("why")), "alice").name == "UnknownProposal"
    world.do(calls.propose(waiting, h("why")), "alice")  # under the new electorate it is another one


def test_all_of_a_decision_is_done_or_none_of_it(council: World) -> None:
    world = council
    actions = [act(world, admission(world)), act(world, calls.retire_node(address("0x" + "99" * 20)))]
    world.do(calls.propose(actions, h("why")), "alice")
    proposal = id_of(world, actions, h("why"))
    for name in ("bob", "carol"):
        world.do(calls.vote(proposal, yes=True), name)
    assert world.refused(calls.execute(actions, h("why")), "alice").name == "UnknownNode"
    assert status(world, proposal) is ProposalStatus.PASSED
    assert world.chain.node(world.of("outsider"), at=world.chain.head()).status is NodeStatus.NONE


def test_an_action_on_an_address_without_code_is_refused(council: World) -> None:
    world = council
    actions = [Action(world.of("outsider"), b"\1\2\3\4")]
    world.do(calls.propose(actions, h("why")), "alice")
    for name in ("bob", "carol"):
        world.do(calls.vote(id_of(world, actions, h("why")), yes=True), name)
    assert world.refused(calls.execute(actions, h("why")), "alice").name == "AddressEmptyCode"


@pytest.mark.parametrize("name", PEOPLE)
def test_no_single_key_does_what_the_members_decide(council: World, name: str) -> None:
    world = council
    someone = world.of("provider")
    for call in (
        calls.add_member(someone),
        calls.remove_member(world.of("alice")),
        calls.set_rules(Rules(75)),
        calls.appoint(Office.REGISTRAR, someone),
        calls.dismiss(Office.REGULATOR, world.of("regulator")),
        calls.close_ledger(),
        calls.announce(world.chain.addresses["TaskLedger"], world.chain.addresses["EvidenceAnchor"]),
    ):
        assert world.refused(call, name).name == "OnlyConsortium"
    for office in (bytes(32), raw(Office.REGISTRAR.id)):
        grant = Call("Consortium", "grantRole", (office, someone))
        assert world.refused(grant, name).name == "AccessControlUnauthorizedAccount"


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda w: calls.add_member(w.of("alice")), "AlreadyMember"),
        (lambda w: calls.add_member(NOBODY), "NotAMember"),
        (lambda w: calls.remove_member(w.of("outsider")), "NotAMember"),
        (lambda w: calls.set_rules(Rules(49)), "InvalidRules"),
        (lambda w: calls.set_rules(Rules(100)), "InvalidRules"),
        (lambda w: calls.set_rules(Rules(voting_s=0)), "InvalidRules"),
        (lambda w: calls.set_rules(Rules(execution_s=0)), "InvalidRules"),
        (lambda w: calls.appoint(Office.REGULATOR, NOBODY), "NotTheHolder"),
        (lambda w: calls.dismiss(Office.REGULATOR, w.of("alice")), "NotTheHolder"),
        (
            lambda w: Call("Consortium", "appoint", (raw(h("treasurer")), w.of("alice"))),
            "UnknownOffice",
        ),
    ],
)
def test_a_decision_that_makes_no_sense_is_refused(council: World, call: object, error: str) -> None:
    world = council
    actions = [act(world, call(world))]  # type: ignore[operator]
    world.do(calls.propose(actions, h("why")), "alice")
    for name in ("bob", "carol"):
        world.do(calls.vote(id_of(world, actions, h("why")), yes=True), name)
    assert world.refused(calls.execute(actions, h("why")), "alice").name == error


def test_the_last_member_stays(world: World) -> None:
    actions = [act(world, calls.remove_member(world.of("registrar")))]
    world.do(calls.propose(actions, h("why")), "registrar")
    assert world.refused(calls.execute(actions, h("why")), "registrar").name == "LastMember"


# what is due by vote


def test_with_several_members_the_registrar_admits_and_retires_nobody_alone(council: World) -> None:
    world = council
    for call in (admission(world), calls.retire_node(world.of("alice"))):
        refusal = world.refused(call, "registrar")
        assert (refusal.name, refusal.values["members"]) == ("VoteDue", 4)
        assert world.refused(call, "alice").name == "OnlyRegistrar"
    assert decided(world, admission(world), by=("alice", "bob", "carol")) == ["Executed", "NodeAdmitted"]


def test_the_registrar_still_suspends_and_a_vote_prevails(council: World) -> None:
    world, alice = council, council.of("alice")
    world.do(calls.suspend_node(alice, h("why")), "registrar")
    told = decided(world, calls.suspend_node(alice, h("worse")), by=("bob", "carol", "lab"))
    assert told == ["Executed", "NodeSuspended"]
    assert world.refused(calls.reinstate_node(alice), "registrar").name == "NodeHeld"
    decided(world, calls.reinstate_node(alice), by=("bob", "carol", "lab"), why="cleared")
    decided(world, calls.suspend_algorithm(ALGORITHM, h("why")), by=("bob", "carol", "lab"), why="unsound")
    assert world.refused(calls.reinstate_algorithm(ALGORITHM), "registrar").name == "AlgorithmHeld"


def test_where_reviews_are_due_no_algorithm_is_registered_without_them(council: World) -> None:
    world = council
    decided(world, calls.set_rules(Rules(reviews=2)), by=("alice", "bob", "carol"))
    refusal = world.refused(calls.register_algorithm(h("new")), "provider")
    assert (refusal.name, refusal.values["needed"]) == ("WrongNumberOfReviewers", 2)
    one = calls.propose_algorithm(h("new"), [world.of("alice")])
    assert world.refused(one, "provider").name == "WrongNumberOfReviewers"
    world.do(calls.propose_algorithm(h("new"), [world.of("alice"), world.of("bob")]), "provider")


# offices


@pytest.mark.parametrize("office", list(Office))
def test_an_office_is_handed_over_in_two_steps(world: World, office: Office) -> None:
    holder, heir = office.name.lower(), "alice"
    accept = calls.accept_office(office, world.of(holder))
    assert world.refused(accept, heir).name == "NotOffered"
    assert world.refused(calls.offer_office(office, world.of(heir)), heir).name == "NotTheHolder"
    assert world.do(calls.offer_office(office, world.of(heir)), holder).names == ["OfficeOffered"]
    assert world.refused(accept, "bob").name == "NotOffered"
    assert holds(world, office, holder)  # until it is accepted
    assert world.do(accept, heir).names == ["RoleRevoked", "RoleGranted"]
    assert holds(world, office, heir)
    assert not holds(world, office, holder)
    assert world.refused(accept, heir).name == "NotTheHolder"


def holds(world: World, office: Office, name: str) -> bool:
    getter = "isRegistrar" if office is Office.REGISTRAR else "isRegulator"
    (found,) = world.chain.read([View("Consortium", getter, (world.of(name),))], world.chain.head())
    return bool(found)


def test_an_offer_is_taken_back_and_lapses_with_the_office(world: World) -> None:
    office, holder = Office.REGULATOR, world.of("regulator")
    world.do(calls.offer_office(office, world.of("alice")), "regulator")
    world.do(calls.offer_office(office, NOBODY), "regulator")
    assert world.refused(calls.accept_office(office, holder), "alice").name == "NotOffered"
    world.do(calls.offer_office(office, world.of("alice")), "regulator")
    decided(world, calls.dismiss(office, holder))
    assert world.refused(calls.accept_office(office, holder), "alice").name == "NotTheHolder"
    decided(world, calls.appoint(office, holder), why="again")
    assert world.refused(calls.accept_office(office, holder), "alice").name == "NotOffered"


def test_a_vote_appoints_and_dismisses(council: World) -> None:
    world = council
    by = ("alice", "bob", "carol")
    decided(world, calls.appoint(Office.REGULATOR, world.of("provider")), by=by)
    world.do(calls.suspend_node(world.of("alice"), h("why")), "provider")
    decided(world, calls.dismiss(Office.REGULATOR, world.of("provider")), by=by, why="enough")
    refusal = world.refused(calls.suspend_node(world.of("bob"), h("why")), "provider")
    assert refusal.name == "OnlyRegistrarOrRegulator"


# generations


def successor(world: World) -> tuple[Address, Address]:
    """A new ledger with its grants beside the registries that stay, and an anchor, put there by anybody."""
    from test_contract_deployment import put

    from sealtrace.contracts import abi
    from sealtrace.contracts.deployment import Founding, created
    from sealtrace.contracts.link import number

    outsider = world.of("outsider")
    first = number(world.link.request("eth_getTransactionCount", outsider, "latest"))
    fresh = ("GrantRegistry", "TaskLedger", "EvidenceAnchor")
    at = world.chain.addresses | {name: created(outsider, first + i) for i, name in enumerate(fresh)}
    arguments = constructor_arguments(at, Founding((NOBODY,), NOBODY, NOBODY, Rules()))
    for name in fresh:
        put(world, abi.encode_constructor(name, arguments[name]))
    return at["TaskLedger"], at["EvidenceAnchor"]


def test_a_new_generation_is_announced_and_the_old_one_stays_readable(council: World) -> None:
    world, by = council, ("alice", "bob", "carol")
    terms = world.terms()
    task = world.create(terms)
    world.start_all(terms)
    ledger, evidence = successor(world)

    renewal = calls.serve_ledger(ledger), calls.announce(ledger, evidence), calls.close_ledger()
    told = decided(world, *renewal, by=by)

    assert told == ["Executed", "LedgerServed", "GenerationAnnounced", "LedgerClosed"]
    assert world.refused(calls.create(world.terms()), "lab").name == "ClosedForNewTasks"
    world.finish_all(terms)  # what runs goes on to its end
    chain = Chain.over(world.link.w3, world.chain.settings)
    assert (chain.addresses["TaskLedger"], chain.addresses["EvidenceAnchor"]) == (ledger, evidence)
    assert chain.addresses["NodeRegistry"] == world.chain.addresses["NodeRegistry"]
    old, new = chain.generations()
    found = old.task(task, at=chain.head())
    assert found is not None
    assert found.agreed == RESULT[:34]
    assert new.task(task, at=chain.head()) is None
    completed = chain.events(0, chain.head().number, names={"TaskCompleted"})
    assert [event.address for event in completed] == [world.chain.addresses["TaskLedger"]]
    twice = [act(world, calls.close_ledger())]
    world.do(calls.propose(twice, h("twice")), "alice")
    for name in ("bob", "carol"):
        world.do(calls.vote(id_of(world, twice, h("twice")), yes=True), name)
    assert world.refused(calls.execute(twice, h("twice")), "alice").name == "ClosedForNewTasks"


def test_a_generation_is_one_set_of_the_same_consortium(council: World) -> None:
    """An anchor that answers to other nodes; and a whole set of another consortium."""
    from test_contract_deployment import put

    from sealtrace.contracts import abi
    from sealtrace.contracts.deployment import deploy_over

    world = council
    mine = world.chain.addresses
    stray = put(world, abi.encode_constructor("EvidenceAnchor", (world.of("outsider"),)))
    chain_id, officer = world.chain.settings.chain_id, world.of("outsider")
    other = deploy_over(world.link, chain_id, world.keys["outsider"], officer, officer).addresses
    for ledger, evidence in (
        (mine["TaskLedger"], stray),
        (other["TaskLedger"], other["EvidenceAnchor"]),
        (mine["TaskLedger"], other["EvidenceAnchor"]),
    ):
        fails_to_be_announced(world, ledger, evidence)


def fails_to_be_announced(world: World, ledger: Address, evidence: Address) -> None:
    actions = [act(world, calls.announce(ledger, evidence))]
    world.do(calls.propose(actions, h("why")), "alice")
    for name in ("bob", "carol"):
        world.do(calls.vote(id_of(world, actions, h("why")), yes=True), name)
    assert world.refused(calls.execute(actions, h("why")), "alice").name == "NotOneSet"
    assert len(Chain.over(world.link.w3, world.chain.settings).generations()) == 1


def test_a_generation_that_is_not_there_is_named(world: World) -> None:
    from sealtrace.contracts.errors import Reverted

    with pytest.raises(Reverted, match="UnknownGeneration"):
        world.chain.read([View("Directory", "generationOf", (1,))], world.chain.head())


def test_a_proposal_nobody_made_has_no_record(world: World) -> None:
    assert world.chain.proposal(NOTHING, at=world.chain.head()) is None
