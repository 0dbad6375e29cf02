"""What faults put into the contracts showed to be untested: records, what is told, the last allowed step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from chain_world import ALGORITHM, DAY, OWNERS, RESULT, Done, World, h
from test_consortium import act, council, decided, id_of
from test_contract_deployment import put

from sealtrace.contracts import abi, calls, signing
from sealtrace.contracts.client import Chain, ChainSettings, View
from sealtrace.contracts.deployment import Founding, created, deploy_over
from sealtrace.contracts.governance import Office, Rules
from sealtrace.contracts.link import number
from sealtrace.contracts.reverts import read_revert
from sealtrace.protocol.identifiers import NOBODY, NOTHING, Address, UnixSeconds, address, raw
from sealtrace.protocol.lifecycle import TaskState
from sealtrace.protocol.outcome import Blame, Denial, Failure
from sealtrace.protocol.records import DataClass, GrantStatus, Protection, Role, TaskTerms, Use

__all__ = ["council"]  # a fixture
REASON = h("why")


def view(world: World, contract: str, function: str, *args: Any) -> Any:
    (found,) = world.chain.read([View(contract, function, args)], world.chain.head())
    return found


def told(done: Done) -> list[tuple[str, Mapping[str, Any]]]:
    return [(event.name, dict(event.args)) for event in done.events]


def many(count: int, first: int = 1) -> list[Address]:
    """Addresses in ascending order."""
    return [address(f"0x{n:040x}") for n in range(first, first + count)]


# what is told, with its values


def test_every_act_on_an_algorithm_is_told(world: World) -> None:
    digest, provider, registrar = h("another"), world.of("provider"), world.of("registrar")
    registered = world.do(calls.register_algorithm(digest), "provider")
    assert told(registered) == [("AlgorithmRegistered", {"algorithm": digest, "provider": provider})]
    suspended = told(world.do(calls.suspend_algorithm(digest, REASON), "registrar"))
    said = {"algorithm": digest, "by": registrar, "held": False, "reason": REASON}
    assert suspended == [("AlgorithmSuspended", said)]
    reinstated = told(world.do(calls.reinstate_algorithm(digest), "registrar"))
    assert reinstated == [("AlgorithmReinstated", {"algorithm": digest, "by": registrar})]
    revoked = told(world.do(calls.revoke_algorithm(digest), "provider"))
    assert revoked == [("AlgorithmRevoked", {"algorithm": digest, "by": provider})]


def test_every_act_on_a_node_and_a_dataset_is_told(world: World) -> None:
    alice, registrar = world.of("alice"), world.of("registrar")
    world.do(calls.suspend_node(alice, REASON), "registrar")
    reinstated = told(world.do(calls.reinstate_node(alice), "registrar"))
    assert reinstated == [("NodeReinstated", {"node": alice, "by": registrar})]
    withdrawn = told(world.do(calls.withdraw_dataset(world.dataset("alice")), "alice"))
    assert withdrawn == [("DatasetWithdrawn", {"dataset": world.dataset("alice"), "owner": alice})]
    retired = told(world.do(calls.retire_node(alice), "registrar"))
    assert retired == [("NodeRetired", {"node": alice, "by": registrar})]


def test_votes_and_members_are_told_and_counted(council: World) -> None:
    world = council
    before = world.chain.consortium(at=world.chain.head()).electorate
    actions = [act(world, calls.remove_member(world.of("lab")))]
    proposal = id_of(world, actions, REASON)
    proposed = told(world.do(calls.propose(actions, REASON), "alice"))
    assert proposed[1] == ("Voted", {"proposal": proposal, "member": world.of("alice"), "yes": True})
    for name, yes in (("bob", True), ("carol", True)):
        said = {"proposal": proposal, "member": world.of(name), "yes": yes}
        assert told(world.do(calls.vote(proposal, yes=yes), name)) == [("Voted", said)]
    done = told(world.do(calls.execute(actions, REASON), "outsider"))
    assert done[1] == ("MemberRemoved", {"member": world.of("lab"), "electorate": before + 1})
    added = [act(world, calls.add_member(world.of("lab")))]
    proposal = id_of(world, added, REASON)
    world.do(calls.propose(added, REASON), "alice")
    world.do(calls.vote(proposal, yes=True), "bob")
    done = told(world.do(calls.execute(added, REASON), "outsider"))
    assert done[1] == ("MemberAdded", {"member": world.of("lab"), "electorate": before + 2})


# what is on record


def test_records_hold_the_time_of_their_block_and_begin_clean(world: World) -> None:
    node, digest = world.of("outsider"), h("another")
    admitted = world.do(calls.admit(node, Role(31), h("tls"), h("key")), "registrar").at
    record = (1, 31, admitted, False, 0, h("tls"), h("key"))
    assert view(world, "NodeRegistry", "nodeOf", node) == record
    registered = world.do(calls.register_algorithm(digest), "provider").at
    record = (world.of("provider"), 1, False, False, registered, 0, 0)
    assert view(world, "AlgorithmRegistry", "algorithmOf", raw(digest)) == record
    dataset = world.do(calls.register_dataset(h("more"), h("schema"), DataClass.CORE), "alice")
    record = (world.of("alice"), 1, 2, dataset.at, 0, h("more"), h("schema"))
    assert view(world, "DatasetRegistry", "datasetOf", raw(dataset.value("dataset"))) == record
    anchored = world.do(calls.anchor(5, h("root")), "alice").at
    assert view(world, "EvidenceAnchor", "checkpointOf", world.of("alice")) == (5, anchored, h("root"))


@pytest.mark.parametrize("kind", ["node", "algorithm"])
def test_who_is_reinstated_by_the_regulator_is_held_no_more(world: World, kind: str) -> None:
    if kind == "node":
        suspend, reinstate = (
            calls.suspend_node(world.of("alice"), REASON),
            calls.reinstate_node(world.of("alice")),
        )
        held = lambda: view(world, "NodeRegistry", "nodeOf", world.of("alice"))[3]  # noqa: E731
    else:
        suspend, reinstate = calls.suspend_algorithm(ALGORITHM, REASON), calls.reinstate_algorithm(ALGORITHM)
        held = lambda: view(world, "AlgorithmRegistry", "algorithmOf", raw(ALGORITHM))[2]  # noqa: E731
    world.do(suspend, "regulator")
    assert held()
    assert "NotActive" in world.refused(suspend, "regulator").name  # it holds it already
    world.do(reinstate, "regulator")
    assert not held()
    world.do(suspend, "registrar")
    assert "NotActive" in world.refused(suspend, "registrar").name
    world.do(reinstate, "registrar")


def test_a_review_stands_on_record_as_it_was_given(world: World) -> None:
    digest, reviewers = h("reviewed"), sorted(map(world.of, ("alice", "lab")))
    world.do(calls.propose_algorithm(digest, reviewers), "provider")
    first, last = map(world.who, reviewers)
    world.do(calls.review_algorithm(digest, h("report"), agreed=True), first)
    assert view(world, "AlgorithmRegistry", "reviewOf", raw(digest), world.of(first)) == 2
    declined = world.do(calls.review_algorithm(digest, h("report"), agreed=False), last)
    assert declined.names == ["AlgorithmReviewed", "AlgorithmRejected"]
    assert view(world, "AlgorithmRegistry", "reviewOf", raw(digest), world.of(last)) == 3
    assert view(world, "AlgorithmRegistry", "algorithmOf", raw(digest))[-2:] == (2, 1)


def test_what_is_proposed_is_new_and_its_providers(world: World) -> None:
    reviewers = [world.of("alice")]
    known = world.refused(calls.propose_algorithm(ALGORITHM, reviewers), "provider")
    assert known.name == "AlgorithmAlreadyKnown"
    assert world.refused(calls.propose_algorithm(NOTHING, reviewers), "provider").name == "EmptyDigest"
    assert world.refused(calls.propose_algorithm(h("x"), reviewers), "lab").name == "MissingRole"


def test_a_passed_serial_counts_one_up(world: World) -> None:
    before = world.chain.serial(world.of("alice"), at=world.chain.head())
    passed = world.do(calls.pass_serial(), "alice")
    assert told(passed) == [("SerialPassed", {"owner": world.of("alice"), "serial": before})]
    assert world.chain.serial(world.of("alice"), at=world.chain.head()) == before + 1


# the last that is allowed, and the first that is not


def test_eight_reviewers_are_the_most(world: World) -> None:
    admitted = many(9, 0x100)
    for each in admitted:
        world.do(calls.admit(each, Role.REQUESTER, NOTHING, h("key")), "registrar")
    world.do(calls.propose_algorithm(h("eight"), admitted[:8]), "provider")
    refusal = world.refused(calls.propose_algorithm(h("nine"), admitted), "provider")
    assert refusal.name == "WrongNumberOfReviewers"


@pytest.mark.parametrize("founders", [0, 256, 257])
def test_a_consortium_begins_with_one_to_256_members(world: World, founders: int) -> None:
    officers = (world.of("registrar"), world.of("regulator"))
    words = Founding(tuple(many(founders)), *officers, Rules()).words()
    code = abi.encode_constructor("Consortium", words)
    where = put(world, code, gas=29_000_000)
    there = world.link.request("eth_getCode", where, "latest") not in ("0x", b"", "0x0")
    assert there is (founders == 256)


def test_a_consortium_of_nobody_names_nobody(world: World) -> None:
    words = Founding((), world.of("registrar"), world.of("regulator"), Rules()).words()
    call = {"from": world.of("outsider"), "data": "0x" + abi.encode_constructor("Consortium", words).hex()}
    failure = world.link.attempt("eth_estimateGas", call)
    refusal = read_revert(failure.data, "Consortium")
    assert (refusal.name, refusal.values) == ("NotAMember", {"account": NOBODY})


def test_a_registration_without_the_reviews_that_are_due_says_how_many(world: World) -> None:
    decided(world, calls.set_rules(Rules(reviews=2)))
    refusal = world.refused(calls.register_algorithm(h("another")), "provider")
    assert (refusal.name, refusal.values) == ("WrongNumberOfReviewers", {"named": 0, "needed": 2})


def test_a_consortium_has_both_officers_from_its_beginning(world: World) -> None:
    for office, name in ((Office.REGISTRAR, "registrar"), (Office.REGULATOR, "regulator")):
        assert view(world, "Consortium", "hasRole", raw(office.id), world.of(name))
    assert view(world, "Consortium", "isRegulator", world.of("regulator"))


def test_two_members_are_enough_to_make_a_vote_due(world: World) -> None:
    decided(world, calls.add_member(world.of("alice")))
    admission = calls.admit(world.of("outsider"), Role.OWNER, h("tls"), h("key"))
    assert world.refused(admission, "registrar").values["members"] == 2
    actions = [act(world, admission)]
    world.do(calls.propose(actions, REASON), "alice")
    again = world.refused(calls.vote(id_of(world, actions, REASON), yes=True), "alice")
    assert again.name == "AlreadyVoted"


@pytest.mark.parametrize("office", list(Office))
def test_both_offices_are_appointed_by_vote(world: World, office: Office) -> None:
    decided(world, calls.appoint(office, world.of("alice")))
    assert view(world, "Consortium", "hasRole", raw(office.id), world.of("alice"))


def crowd(world: World, parties: int) -> TaskTerms:
    """A task of alice and of parties that bring no data."""
    others = many(parties - 1)
    chosen = tuple(sorted([*others, world.of("alice")]))
    use = Use(chosen.index(world.of("alice")), world.dataset("alice"), ALGORITHM, world.grants["alice"])
    return world.terms(parties=chosen, uses=(use,))


def test_sixteen_parties_are_the_most(world: World) -> None:
    assert world.do(calls.create(crowd(world, 16)), "lab").names[0] == "TaskCreated"
    assert world.refused(calls.create(crowd(world, 17)), "lab").name == "WrongNumberOfParties"


def test_sixty_four_uses_are_the_most(world: World) -> None:
    terms = world.terms()
    uses = tuple(Use(0, h("dataset"), ALGORITHM, h(f"grant {i}")) for i in range(65))
    assert world.do(calls.create(replace(terms, uses=uses[:64])), "lab").names[0] == "TaskCreated"
    assert world.refused(calls.create(replace(terms, uses=uses)), "lab").name == "WrongNumberOfUses"


def test_sixteen_participants_are_the_most(world: World) -> None:
    grant = world.issue("alice", participants=tuple(many(16)))
    assert len(view(world, "GrantRegistry", "grantOf", raw(grant))[-1]) == 16
    terms = world.grant_terms("alice", participants=tuple(many(17)))
    assert world.refused(calls.issue_grant(terms), "alice").name == "TooManyParticipants"


def test_a_grant_lasts_at_least_into_the_next_second(world: World) -> None:
    at = UnixSeconds(world.now + 1)
    terms = world.grant_terms("alice", not_before=UnixSeconds(0), expires_at=at)
    assert world.refused(calls.issue_grant(terms), "alice").name == "InvalidWindow"
    at = UnixSeconds(world.now + 1)
    longer = world.grant_terms("alice", not_before=UnixSeconds(0), expires_at=UnixSeconds(at + 1))
    grant = world.do(calls.issue_grant(longer), "alice").value("grant")
    assert view(world, "GrantRegistry", "statusOf", raw(grant)) == GrantStatus.ACTIVE
    world.engine.mine_blocks()
    assert world.now == at + 1
    assert view(world, "GrantRegistry", "statusOf", raw(grant)) == GrantStatus.EXPIRED


def test_a_grant_that_was_never_issued_has_no_status(world: World) -> None:
    assert view(world, "GrantRegistry", "statusOf", raw(h("no grant"))) == GrantStatus.NONE


# roles that are enough, and those that are not


def admit(world: World, roles: Role) -> None:
    world.do(calls.admit(world.of("outsider"), roles, h("tls"), h("key")), "registrar")


def test_a_dataset_is_registered_by_a_data_owner_alone(world: World) -> None:
    call = calls.register_dataset(h("mine"), h("schema"), DataClass.GENERAL)
    admit(world, Role.COMPUTE)
    assert world.refused(call, "outsider").name == "MissingRole"
    owner = address("0x" + "77" * 20)
    world.do(calls.admit(owner, Role.OWNER, h("tls"), h("key")), "registrar")
    assert view(world, "NodeRegistry", "isActive", owner, int(Role.OWNER))
    assert not view(world, "NodeRegistry", "isActive", owner, int(Role.COMPUTE))


def test_one_role_among_several_is_enough(world: World) -> None:
    admit(world, Role.OWNER | Role.REQUESTER)
    world.issue("alice", requester=world.of("outsider"))


def test_a_party_that_only_computes_acts_like_any_other(world: World) -> None:
    admit(world, Role.COMPUTE)
    parties = tuple(sorted((*world.parties, world.of("outsider"))))
    usual = world.terms()
    uses = tuple(replace(use, party=parties.index(world.parties[use.party])) for use in usual.uses)
    terms = replace(usual, parties=parties, uses=uses)
    world.create(terms)
    for party in parties:
        world.do(calls.start(terms, h("input")), world.who(party))
    world.do(calls.progress(terms, 1, 1000), "outsider")
    place = signing.Place(world.engine.chain_id, world.chain.addresses["TaskLedger"])
    until = UnixSeconds(world.now + DAY)
    signed = signing.receipt(place, terms, h("r"), RESULT, until).sign(world.keys["outsider"])
    receipts = [(parties.index(world.of("outsider")), h("r"), RESULT, signed)]
    assert world.do(calls.finish_signed(terms, receipts), "lab").names == ["TaskFinished"]


# what a start may rest on


def test_a_single_participant_is_kept(world: World) -> None:
    rank = world.ranks
    grant = world.issue(rank[0], participants=(world.of(rank[1]),))
    terms = world.terms({rank[0]: grant})
    two = replace(terms, parties=terms.parties[:2], uses=terms.uses[:2])
    world.create(two)
    assert world.do(calls.start(two, h("input")), rank[0]).names == ["GrantConsumed", "TaskStarted"]


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_party_that_a_grant_does_not_name_is_told_wherever_it_stands(world: World, missing: int) -> None:
    rank = world.ranks
    owner = (missing + 1) % 3
    named = tuple(world.parties[i] for i in range(3) if i not in (missing, owner))
    grant = world.issue(rank[owner], participants=named)
    terms = world.terms({rank[owner]: grant})
    world.create(terms)
    refusal = world.refused(calls.start(terms, h("input")), rank[owner])
    assert refusal.denial is Denial.PARTICIPANT_NOT_ALLOWED


def test_epsilon_that_no_budget_limits_is_spent_of_none(world: World) -> None:
    usual = world.terms()
    terms = replace(usual, uses=tuple(replace(use, epsilon_millionths=7) for use in usual.uses))
    world.create(terms)
    consumed = world.do(calls.start(terms, h("input")), "alice").events[0]
    assert (consumed.args["usesLeft"], consumed.args["epsilonLeft"]) == (2, 0)


def test_no_protection_is_never_enough(world: World) -> None:
    request = (
        world.of("alice"),
        raw(world.dataset("alice")),
        raw(ALGORITHM),
        world.of("lab"),
        raw(world.grant_terms("alice").purpose),
        int(Protection(0)),
        0,
    )
    grant = raw(world.grants["alice"])
    found = view(world, "GrantRegistry", "denialOf", grant, request, list(world.parties))
    assert found == Denial.PROTECTION_NOT_ALLOWED


# signatures


def test_nobody_has_signed_where_there_is_no_signature(world: World) -> None:
    """A broken signature gives nobody as its signer, and nobody owns nothing."""
    junk = signing.Signed(UnixSeconds(world.now + DAY), bytes(32), bytes(32))
    for owner in (NOBODY, address("0x" + "00" * 19 + "01")):
        call = calls.issue_grant_signed(owner, world.grant_terms("alice"), junk)
        assert world.refused(call, "outsider").name == "WrongSigner"


# what the ledger says of a task


def reached(world: World, state: TaskState) -> TaskTerms:
    """A task in one of the states from which nothing, or not everything, goes on."""
    terms = world.terms()
    world.create(terms)
    if state is TaskState.AUTHORIZED:
        return terms
    world.start_all(terms)
    if state is TaskState.COMPLETED:
        world.finish_all(terms)
    return terms


@pytest.mark.parametrize(
    ("state", "act", "by", "to"),
    [
        (TaskState.AUTHORIZED, lambda terms: calls.approve(terms), "alice", TaskState.AUTHORIZED),
        (TaskState.AUTHORIZED, lambda terms: calls.progress(terms, 1, 1), "alice", TaskState.RUNNING),
        (
            TaskState.AUTHORIZED,
            lambda terms: calls.finish(terms, h("r"), RESULT),
            "alice",
            TaskState.COMPLETED,
        ),
        (TaskState.AUTHORIZED, lambda terms: calls.fail(terms, Failure.TIMED_OUT), "alice", TaskState.FAILED),
        (TaskState.AUTHORIZED, lambda terms: calls.stop(terms), "alice", TaskState.CANCELLED),
        (TaskState.AUTHORIZED, lambda terms: calls.acknowledge(terms, RESULT), "lab", TaskState.COMPLETED),
        (TaskState.RUNNING, lambda terms: calls.refuse(terms, 40), "alice", TaskState.REFUSED),
        (TaskState.COMPLETED, lambda terms: calls.cancel(terms), "lab", TaskState.CANCELLED),
        (TaskState.COMPLETED, lambda terms: calls.stop(terms), "alice", TaskState.CANCELLED),
    ],
)
def test_an_illegal_step_names_where_it_would_have_led(
    world: World, state: TaskState, act: Any, by: str, to: TaskState
) -> None:
    terms = reached(world, state)
    refusal = world.refused(act(terms), by)
    if refusal.name == "AlreadyApproved":  # a standing party has approved
        return
    assert refusal.name == "IllegalTransition"
    assert (refusal.values["from"], refusal.values["to"]) == (state, to)


def test_a_start_too_many_names_where_it_would_have_led(world: World) -> None:
    terms = world.terms({name: world.issue(name, approval_required=True) for name in OWNERS})
    world.create(terms)
    refusal = world.refused(calls.start(terms, h("input")), "alice")
    assert (refusal.name, refusal.values["to"]) == ("IllegalTransition", TaskState.RUNNING)
    for name in OWNERS:
        world.do(calls.approve(terms), name)
    world.do(calls.cancel(terms), "lab")
    other = world.terms({name: world.issue(name, approval_required=True) for name in OWNERS})
    world.create(other)
    world.do(calls.refuse(other, 40), "alice")
    refusal = world.refused(calls.approve(other), "bob")
    assert (refusal.name, refusal.values["to"]) == ("IllegalTransition", TaskState.AUTHORIZED)


def test_a_stranger_to_a_task_is_nobody_in_it(world: World) -> None:
    terms = world.terms()
    world.create(terms)
    junk = signing.Signed(UnixSeconds(world.now + DAY), bytes(32), bytes(32))
    refusal = world.refused(calls.approve_signed(terms, 3, junk), "alice")
    assert (refusal.name, refusal.values["caller"]) == ("NotAParty", NOBODY)


def test_the_ledger_derives_what_has_expired_to_the_second(world: World) -> None:
    terms = world.terms(deadline=UnixSeconds(world.now + 10))
    id = world.create(terms)
    assert view(world, "TaskLedger", "statusOf", raw(id)) == TaskState.AUTHORIZED
    world.travel(terms.deadline - 1)
    world.engine.mine_blocks()
    assert view(world, "TaskLedger", "statusOf", raw(id)) == TaskState.AUTHORIZED
    world.engine.mine_blocks()
    assert view(world, "TaskLedger", "statusOf", raw(id)) == TaskState.EXPIRED
    assert view(world, "TaskLedger", "statusOf", raw(h("no task"))) == TaskState.NONE


def test_what_ended_in_time_does_not_expire(world: World) -> None:
    terms = reached(world, TaskState.COMPLETED)
    world.travel(terms.deadline)
    world.engine.mine_blocks()
    assert view(world, "TaskLedger", "statusOf", raw(world.chain.task_id(terms))) == TaskState.COMPLETED
    late = world.refused(calls.fail(terms, Failure.TIMED_OUT, Blame.NOBODY), "alice")
    assert late.name == "IllegalTransition"
    world.do(calls.acknowledge(terms, RESULT), "lab")


def test_words_that_are_not_clean_are_nobodys_task(world: World) -> None:
    """The id is hashed from the call's own bytes: one stray bit in them and it is another task, or none."""
    terms = world.terms()
    world.create(terms)
    data = bytearray(calls.approve(terms).data())
    parties = data.index(raw(terms.parties[0])) - 12
    data[parties] = 1  # above the twenty bytes of an address
    outcome = world.engine.transact(world.keys["alice"], world.chain.addresses["TaskLedger"], bytes(data))
    assert outcome.refusal is not None


# who may not


def test_only_the_consortium_closes_a_ledger_or_announces_another(world: World) -> None:
    mine = world.chain.addresses
    announce = calls.announce(mine["TaskLedger"], mine["EvidenceAnchor"])
    for call in (calls.close_ledger(), announce):
        for name in ("registrar", "regulator", "lab", "outsider"):
            assert world.refused(call, name).name == "OnlyConsortium"


def test_an_announcement_tells_the_generations_number(world: World) -> None:
    mine = world.chain.addresses
    actions = [act(world, calls.announce(mine["TaskLedger"], mine["EvidenceAnchor"]))]
    world.do(calls.propose(actions, REASON), "registrar")
    done = told(world.do(calls.execute(actions, REASON), "outsider"))
    assert done[1][0] == "GenerationAnnounced"
    assert done[1][1]["generation"] == 1


STRAY = address("0x" + "99" * 20)
ONE_WRONG: dict[str, dict[str, dict[int, Address]]] = {
    "the grants serve another ledger": {"GrantRegistry": {3: STRAY}},
    "the grants ask other nodes": {"GrantRegistry": {0: STRAY}},
    "the algorithms ask other nodes": {"AlgorithmRegistry": {1: STRAY}},
    "the datasets ask other nodes": {"DatasetRegistry": {0: STRAY}},
    "the evidence asks other nodes": {"EvidenceAnchor": {0: STRAY}},
    "the algorithms obey another consortium": {"AlgorithmRegistry": {0: STRAY}},
    "the nodes obey another consortium": {"NodeRegistry": {0: STRAY}},
    "the nodes hear of no dataset": {"NodeRegistry": {1: STRAY}},
    "the nodes hear of no algorithm": {"NodeRegistry": {2: STRAY}},
    "the ledger obeys another consortium": {"TaskLedger": {0: STRAY}},
}


def whole_set(world: World, wrong: Mapping[str, Mapping[int, Address]]) -> tuple[Address, Address]:
    """Six fresh contracts that name each other and our consortium, but for what is ``wrong``."""
    outsider = world.of("outsider")
    first = number(world.link.request("eth_getTransactionCount", outsider, "latest"))
    at = {name: created(outsider, first + i) for i, name in enumerate(abi.GENERATION)}
    consortium, nodes = world.chain.addresses["Consortium"], at["NodeRegistry"]
    right: dict[str, list[Address]] = {
        "NodeRegistry": [consortium, at["DatasetRegistry"], at["AlgorithmRegistry"], at["TaskLedger"]],
        "DatasetRegistry": [nodes],
        "AlgorithmRegistry": [consortium, nodes],
        "GrantRegistry": [nodes, at["DatasetRegistry"], at["AlgorithmRegistry"], at["TaskLedger"]],
        "TaskLedger": [consortium, nodes, at["GrantRegistry"]],
        "EvidenceAnchor": [nodes],
    }
    for name in abi.GENERATION:
        arguments = [wrong.get(name, {}).get(i, usual) for i, usual in enumerate(right[name])]
        put(world, abi.encode_constructor(name, tuple(arguments)))
    return at["TaskLedger"], at["EvidenceAnchor"]


@pytest.mark.parametrize("wrong", ONE_WRONG)
def test_a_generation_in_which_one_names_another_is_refused(world: World, wrong: str) -> None:
    ledger, evidence = whole_set(world, ONE_WRONG[wrong])
    actions = [act(world, calls.announce(ledger, evidence))]
    world.do(calls.propose(actions, REASON), "registrar")
    assert world.refused(calls.execute(actions, REASON), "outsider").name == "NotOneSet"


def test_a_whole_generation_is_announced(world: World) -> None:
    ledger, evidence = whole_set(world, {})
    assert decided(world, calls.announce(ledger, evidence)) == ["Executed", "GenerationAnnounced"]
    chain = Chain.over(world.link.w3, world.chain.settings)
    views = [View("TaskLedger", "lapses"), View("NodeRegistry", "tells", (ledger,))]
    assert chain.read(views, chain.head()) == [1, True]


def test_who_founds_a_consortium_names_who_holds_its_offices(world: World) -> None:
    registrar, regulator = world.of("alice"), world.of("bob")
    chain_id = world.chain.settings.chain_id
    founded = deploy_over(world.link, chain_id, world.keys["outsider"], registrar, regulator)
    chain = Chain.over(world.link.w3, ChainSettings("in process", chain_id, founded.directory))
    holds = {
        (office, who): chain.holds(office, who, at=chain.head())
        for office in Office
        for who in (registrar, regulator)
    }
    assert {key for key, held in holds.items() if held} == {
        (Office.REGISTRAR, registrar),
        (Office.REGULATOR, regulator),
    }


def test_a_directory_is_refused_over_what_is_not_one_set(world: World) -> None:
    ledger, evidence = whole_set(world, ONE_WRONG["the evidence asks other nodes"])
    where = put(world, abi.encode_constructor("Directory", (ledger, evidence)))
    assert world.link.request("eth_getCode", where, "latest") in ("0x", b"", "0x0")
