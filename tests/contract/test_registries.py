"""Members, datasets, algorithms, grants and anchors: who may change what."""

from __future__ import annotations

from dataclasses import replace

import pytest
from chain_world import ALGORITHM, DAY, OWNERS, PEOPLE, Done, World, h

from sealtrace.contracts import calls
from sealtrace.contracts.calls import Call
from sealtrace.contracts.client import View
from sealtrace.protocol.identifiers import NOTHING, Hex32, UnixSeconds
from sealtrace.protocol.outcome import Denial
from sealtrace.protocol.records import (
    AlgorithmStatus,
    DataClass,
    DatasetStatus,
    GrantStatus,
    NodeStatus,
    Protection,
    Role,
    TaskTerms,
)

REASON = h("why")


def node_status(world: World, name: str) -> NodeStatus:
    return world.chain.node(world.of(name), at=world.chain.head()).status


def admit(world: World, name: str, roles: int = 1) -> Call:
    return calls.admit(world.of(name), Role(roles), h("tls"), h("key"))


# nodes


def test_a_registrar_admits_and_the_record_says_so(world: World) -> None:
    done = world.do(
        calls.admit(world.of("outsider"), Role.OWNER | Role.PROVIDER, h("t"), h("k")), "registrar"
    )
    assert done.names == ["NodeAdmitted"]
    node = world.chain.node(world.of("outsider"), at=world.chain.head())
    assert (node.status, node.roles) == (NodeStatus.ACTIVE, Role.OWNER | Role.PROVIDER)
    assert (node.tls_fingerprint, node.encryption_key) == (h("t"), h("k"))


@pytest.mark.parametrize("name", [name for name in PEOPLE if name != "registrar"])
def test_nobody_but_a_registrar_admits_or_retires(world: World, name: str) -> None:
    assert world.refused(admit(world, "outsider"), name).name == "OnlyRegistrar"
    assert world.refused(calls.retire_node(world.of("alice")), name).name == "OnlyRegistrar"


@pytest.mark.parametrize("name", [name for name in PEOPLE if name not in ("registrar", "regulator")])
def test_nobody_but_the_officers_suspends_or_reinstates(world: World, name: str) -> None:
    for call in (
        calls.suspend_node(world.of("alice"), REASON),
        calls.reinstate_node(world.of("alice")),
        calls.suspend_algorithm(ALGORITHM, REASON),
        calls.reinstate_algorithm(ALGORITHM),
    ):
        assert world.refused(call, name).name == "OnlyRegistrarOrRegulator"


@pytest.mark.parametrize("end", [None, "suspend", "retire"])
def test_an_address_is_admitted_once_and_for_ever(world: World, end: str | None) -> None:
    if end == "suspend":
        world.do(calls.suspend_node(world.of("alice"), REASON), "registrar")
    if end == "retire":
        world.do(calls.retire_node(world.of("alice")), "registrar")
    assert world.refused(admit(world, "alice"), "registrar").name == "NodeAlreadyKnown"


@pytest.mark.parametrize("roles", [0, 32, 255])
def test_unknown_roles_are_refused(world: World, roles: int) -> None:
    call = Call("NodeRegistry", "admit", (world.of("outsider"), roles, b"\1" * 32, b"\1" * 32))
    assert world.refused(call, "registrar").name == "InvalidRoles"


def test_a_node_without_keys_is_refused(world: World) -> None:
    for tls, key in ((NOTHING, h("key")), (h("tls"), NOTHING)):
        call = calls.admit(world.of("outsider"), Role.OWNER, tls, key)
        assert world.refused(call, "registrar").name == "EmptyKey"
        assert world.refused(calls.rotate_keys(tls, key), "alice").name == "EmptyKey"


@pytest.mark.parametrize("roles", [Role.REQUESTER, Role.PROVIDER, Role.REQUESTER | Role.PROVIDER])
def test_who_opens_no_port_needs_no_certificate(world: World, roles: Role) -> None:
    world.do(calls.admit(world.of("outsider"), roles, NOTHING, h("key")), "registrar")
    world.do(calls.rotate_keys(NOTHING, h("new key")), "outsider")
    assert world.refused(calls.rotate_keys(h("tls"), NOTHING), "outsider").name == "EmptyKey"


@pytest.mark.parametrize("role", [Role.OWNER, Role.COMPUTE])
def test_who_listens_to_peers_has_a_certificate(world: World, role: Role) -> None:
    call = calls.admit(world.of("outsider"), role | Role.REQUESTER, NOTHING, h("key"))
    assert world.refused(call, "registrar").name == "EmptyKey"


def test_a_suspension_ends_by_reinstatement(world: World) -> None:
    world.do(calls.suspend_node(world.of("alice"), REASON), "registrar")
    assert node_status(world, "alice") is NodeStatus.SUSPENDED
    world.do(calls.reinstate_node(world.of("alice")), "registrar")
    assert node_status(world, "alice") is NodeStatus.ACTIVE
    assert world.refused(calls.reinstate_node(world.of("alice")), "registrar").name == "NodeNotSuspended"


def test_what_the_regulator_suspended_only_the_regulator_reinstates(world: World) -> None:
    world.do(calls.suspend_node(world.of("alice"), REASON), "regulator")
    assert world.refused(calls.reinstate_node(world.of("alice")), "registrar").name == "NodeHeld"
    world.do(calls.suspend_algorithm(ALGORITHM, REASON), "regulator")
    refusal = world.refused(calls.reinstate_algorithm(ALGORITHM), "registrar")
    assert refusal.name == "AlgorithmHeld"
    world.do(calls.reinstate_node(world.of("alice")), "regulator")
    world.do(calls.reinstate_algorithm(ALGORITHM), "regulator")
    assert node_status(world, "alice") is NodeStatus.ACTIVE


def test_the_regulator_takes_over_a_registrars_suspension_and_not_the_other_way(world: World) -> None:
    node = world.of("alice")
    world.do(calls.suspend_node(node, REASON), "registrar")
    assert world.refused(calls.suspend_node(node, REASON), "registrar").name == "NodeNotActive"
    assert world.do(calls.suspend_node(node, REASON), "regulator").value("held") is True
    assert world.refused(calls.suspend_node(node, REASON), "registrar").name == "NodeNotActive"
    assert world.refused(calls.suspend_node(node, REASON), "regulator").name == "NodeNotActive"
    assert world.refused(calls.reinstate_node(node), "registrar").name == "NodeHeld"


def test_retirement_is_for_good(world: World) -> None:
    node = world.of("alice")
    world.do(calls.retire_node(node), "registrar")
    assert world.refused(calls.retire_node(node), "registrar").name == "NodeAlreadyRetired"
    assert world.refused(calls.suspend_node(node, REASON), "regulator").name == "NodeNotActive"
    assert world.refused(calls.reinstate_node(node), "registrar").name == "NodeNotSuspended"
    assert node_status(world, "alice") is NodeStatus.RETIRED


def test_who_was_never_admitted_is_unknown(world: World) -> None:
    outsider = world.of("outsider")
    assert world.refused(calls.retire_node(outsider), "registrar").name == "UnknownNode"
    assert world.refused(calls.suspend_node(outsider, REASON), "registrar").name == "NodeNotActive"
    for call in (
        calls.rotate_keys(h("t"), h("k")),
        calls.register_dataset(h("c"), h("s"), DataClass.GENERAL),
        calls.register_algorithm(h("other")),
        calls.issue_grant(world.grant_terms("alice")),
        calls.anchor(1, h("root")),
    ):
        assert world.refused(call, "outsider").name == "UnknownNode"


def test_a_node_rotates_its_own_keys_and_no_others(world: World) -> None:
    world.do(calls.rotate_keys(h("new tls"), h("new key")), "alice")
    alice, bob = (world.chain.node(world.of(name), at=world.chain.head()) for name in ("alice", "bob"))
    assert (alice.tls_fingerprint, alice.encryption_key) == (h("new tls"), h("new key"))
    assert bob.tls_fingerprint == h("tls bob")
    world.do(calls.suspend_node(world.of("alice"), REASON), "registrar")
    assert world.refused(calls.rotate_keys(h("t"), h("k")), "alice").name == "NodeNotActive"


def test_the_keys_a_node_had_stay_readable(world: World) -> None:
    alice = world.of("alice")
    first = world.chain.node(alice, at=world.chain.head())
    told = [world.do(calls.rotate_keys(h(f"tls {n}"), h(f"key {n}")), "alice") for n in (1, 2)]
    assert [each.value("version") for each in told] == [1, 2]
    views = [View("NodeRegistry", "formerKeysOf", (alice, version)) for version in (0, 1, 2)]
    had = world.chain.read(views, world.chain.head())
    assert had == [
        (told[0].at, first.tls_fingerprint, first.encryption_key),
        (told[1].at, h("tls 1"), h("key 1")),
        (0, NOTHING, NOTHING),
    ]


def test_a_suspension_gives_its_reason(world: World) -> None:
    for call in (calls.suspend_node(world.of("alice"), NOTHING), calls.suspend_algorithm(ALGORITHM, NOTHING)):
        assert world.refused(call, "regulator").name == "ReasonMissing"


# datasets


def test_a_data_owner_registers_a_commitment(world: World) -> None:
    done = world.do(calls.register_dataset(h("c"), h("s"), DataClass.CORE), "alice")
    found = world.chain.dataset(done.value("dataset"), at=world.chain.head())
    assert found is not None
    assert (found.owner, found.commitment, found.schema_hash) == (world.of("alice"), h("c"), h("s"))
    assert (found.data_class, found.status) == (DataClass.CORE, DatasetStatus.ACTIVE)


@pytest.mark.parametrize("name", ["lab", "provider"])
def test_only_a_data_owner_registers_datasets(world: World, name: str) -> None:
    call = calls.register_dataset(h("c"), h("s"), DataClass.GENERAL)
    assert world.refused(call, name).name == "MissingRole"


def test_a_dataset_is_registered_once_and_by_each_owner_for_itself(world: World) -> None:
    call = calls.register_dataset(h("commitment of alice 0"), h("s"), DataClass.GENERAL)
    assert world.refused(call, "alice").name == "DatasetAlreadyKnown"
    # who copies a commitment from the chain gets an id of its own, and no standing over the other's
    assert world.do(call, "bob").value("dataset") != world.dataset("alice")


def test_an_empty_commitment_is_refused(world: World) -> None:
    for commitment, schema in ((NOTHING, h("s")), (h("c"), NOTHING)):
        call = calls.register_dataset(commitment, schema, DataClass.GENERAL)
        assert world.refused(call, "alice").name == "EmptyCommitment"


@pytest.mark.parametrize("name", [name for name in PEOPLE if name != "alice"])
def test_only_its_owner_withdraws_a_dataset(world: World, name: str) -> None:
    assert world.refused(calls.withdraw_dataset(world.dataset("alice")), name).name == "NotDatasetOwner"


def test_a_withdrawn_dataset_does_not_come_back(world: World) -> None:
    world.do(calls.withdraw_dataset(world.dataset("alice")), "alice")
    again = world.refused(calls.withdraw_dataset(world.dataset("alice")), "alice")
    assert again.name == "DatasetAlreadyWithdrawn"
    assert world.refused(calls.withdraw_dataset(h("?")), "alice").name == "UnknownDataset"
    call = calls.register_dataset(h("commitment of alice 0"), h("s"), DataClass.GENERAL)
    assert world.refused(call, "alice").name == "DatasetAlreadyKnown"


def test_a_suspended_owner_can_still_withdraw_and_revoke(world: World) -> None:
    world.do(calls.suspend_node(world.of("alice"), REASON), "registrar")
    world.do(calls.revoke_grant(world.grants["alice"]), "alice")
    world.do(calls.withdraw_dataset(world.dataset("alice")), "alice")


def test_a_new_version_takes_the_place_of_the_last_one(world: World) -> None:
    old = world.dataset("alice")
    done = world.do(calls.supersede_dataset(old, h("next"), h("schema 2"), DataClass.CORE), "alice")
    assert done.names == ["DatasetRegistered", "DatasetSuperseded"]
    new = done.value("dataset")
    assert done.events[1].args == {"dataset": old, "by": new, "version": 1}
    before, after = (world.chain.dataset(each, at=world.chain.head()) for each in (old, new))
    assert before is not None
    assert after is not None
    assert (before.status, before.version) == (DatasetStatus.SUPERSEDED, 0)
    assert (after.status, after.version, after.data_class) == (DatasetStatus.ACTIVE, 1, DataClass.CORE)
    again = calls.supersede_dataset(old, h("other"), h("s"), DataClass.CORE)
    assert world.refused(again, "alice").name == "DatasetNotActive"


def test_a_superseded_dataset_gets_no_new_grant_and_serves_the_old_ones(world: World) -> None:
    world.do(calls.supersede_dataset(world.dataset("alice"), h("next"), h("s"), DataClass.CORE), "alice")
    assert world.refused(calls.issue_grant(world.grant_terms("alice")), "alice").name == "DatasetUnusable"
    terms = world.terms()
    world.create(terms)
    world.do(calls.start(terms, h("input")), "alice")
    world.do(calls.withdraw_dataset(world.dataset("alice")), "alice")  # and can still be withdrawn


@pytest.mark.parametrize("name", [name for name in PEOPLE if name != "alice"])
def test_only_its_owner_supersedes_a_dataset(world: World, name: str) -> None:
    call = calls.supersede_dataset(world.dataset("alice"), h("next"), h("s"), DataClass.CORE)
    assert world.refused(call, name).name == "NotDatasetOwner"
    unknown = calls.supersede_dataset(h("?"), h("next"), h("s"), DataClass.CORE)
    assert world.refused(unknown, name).name == "UnknownDataset"


def test_a_suspended_owner_registers_no_new_version(world: World) -> None:
    world.do(calls.suspend_node(world.of("alice"), REASON), "registrar")
    call = calls.supersede_dataset(world.dataset("alice"), h("next"), h("s"), DataClass.CORE)
    assert world.refused(call, "alice").name == "NodeNotActive"


# algorithms


def algorithm_status(world: World) -> AlgorithmStatus:
    found = world.chain.algorithm(ALGORITHM, at=world.chain.head())
    assert found is not None
    return found.status


@pytest.mark.parametrize("name", ["alice", "lab"])
def test_only_a_provider_registers_algorithms(world: World, name: str) -> None:
    assert world.refused(calls.register_algorithm(h("other")), name).name == "MissingRole"


def test_an_algorithm_is_registered_once(world: World) -> None:
    assert world.refused(calls.register_algorithm(ALGORITHM), "provider").name == "AlgorithmAlreadyKnown"
    assert world.refused(calls.register_algorithm(NOTHING), "provider").name == "EmptyDigest"


@pytest.mark.parametrize("name", [name for name in PEOPLE if name != "provider"])
def test_only_its_provider_revokes_an_algorithm(world: World, name: str) -> None:
    assert world.refused(calls.revoke_algorithm(ALGORITHM), name).name == "NotAlgorithmProvider"


def test_a_revoked_algorithm_does_not_come_back(world: World) -> None:
    world.do(calls.suspend_algorithm(ALGORITHM, REASON), "regulator")
    world.do(calls.revoke_algorithm(ALGORITHM), "provider")
    assert world.refused(calls.revoke_algorithm(ALGORITHM), "provider").name == "AlgorithmAlreadyRevoked"
    assert world.refused(calls.reinstate_algorithm(ALGORITHM), "regulator").name == "AlgorithmNotSuspended"
    assert world.refused(calls.register_algorithm(ALGORITHM), "provider").name == "AlgorithmAlreadyKnown"
    assert world.refused(calls.suspend_algorithm(ALGORITHM, REASON), "registrar").name == "AlgorithmNotActive"
    assert world.refused(calls.revoke_algorithm(h("?")), "provider").name == "UnknownAlgorithm"
    assert algorithm_status(world) is AlgorithmStatus.REVOKED


def test_a_suspended_algorithm_comes_back_by_reinstatement(world: World) -> None:
    world.do(calls.suspend_algorithm(ALGORITHM, REASON), "registrar")
    assert algorithm_status(world) is AlgorithmStatus.SUSPENDED
    world.do(calls.suspend_algorithm(ALGORITHM, REASON), "regulator")  # takes over
    world.do(calls.reinstate_algorithm(ALGORITHM), "regulator")
    assert algorithm_status(world) is AlgorithmStatus.ACTIVE


NEW = h("a new bundle")


def proposed(world: World, *reviewers: str) -> Done:
    return world.do(calls.propose_algorithm(NEW, [world.of(name) for name in reviewers]), "provider")


def review(world: World, name: str, agreed: bool = True) -> Done:
    return world.do(calls.review_algorithm(NEW, h(f"report of {name}"), agreed=agreed), name)


def status_of(world: World, digest: Hex32) -> AlgorithmStatus:
    found = world.chain.algorithm(digest, at=world.chain.head())
    assert found is not None
    return found.status


def test_an_algorithm_is_active_once_every_named_reviewer_has_agreed(world: World) -> None:
    assert proposed(world, "alice", "bob").names == ["AlgorithmProposed", "ReviewAsked", "ReviewAsked"]
    assert review(world, "alice").names == ["AlgorithmReviewed"]
    assert status_of(world, NEW) is AlgorithmStatus.PROPOSED
    grant = calls.issue_grant(world.grant_terms("alice", algorithm=NEW))
    assert world.refused(grant, "alice").name == "AlgorithmUnusable"
    assert review(world, "bob").names == ["AlgorithmReviewed", "AlgorithmRegistered"]
    assert status_of(world, NEW) is AlgorithmStatus.ACTIVE
    world.do(grant, "alice")


def test_one_reviewer_who_declines_rejects_an_algorithm_for_good(world: World) -> None:
    proposed(world, "alice", "bob")
    assert review(world, "bob", agreed=False).names == ["AlgorithmReviewed", "AlgorithmRejected"]
    late = calls.review_algorithm(NEW, h("report"), agreed=True)
    assert world.refused(late, "alice").name == "AlgorithmNotProposed"
    assert world.refused(calls.register_algorithm(NEW), "provider").name == "AlgorithmAlreadyKnown"
    assert world.refused(calls.revoke_algorithm(NEW), "provider").name == "AlgorithmIsRejected"
    assert world.refused(calls.suspend_algorithm(NEW, REASON), "regulator").name == "AlgorithmNotActive"
    assert status_of(world, NEW) is AlgorithmStatus.REJECTED


def test_a_review_is_given_once_by_who_was_asked_and_in_writing(world: World) -> None:
    proposed(world, "alice", "bob")
    empty = calls.review_algorithm(NEW, NOTHING, agreed=True)
    assert world.refused(empty, "alice").name == "ReasonMissing"
    review(world, "alice")
    again = calls.review_algorithm(NEW, h("report"), agreed=False)
    for name in ("alice", "carol", "lab", "provider"):
        assert world.refused(again, name).name == "NotAskedToReview"
    assert world.refused(again, "outsider").name == "UnknownNode"
    world.do(calls.suspend_node(world.of("bob"), REASON), "registrar")
    assert world.refused(again, "bob").name == "NodeNotActive"


def test_a_provider_may_withdraw_what_it_proposed(world: World) -> None:
    proposed(world, "alice")
    world.do(calls.revoke_algorithm(NEW), "provider")
    late = calls.review_algorithm(NEW, h("report"), agreed=True)
    assert world.refused(late, "alice").name == "AlgorithmNotProposed"


def test_reviewers_are_independent_active_and_named_once(world: World) -> None:
    alice, bob, provider = (world.of(name) for name in ("alice", "bob", "provider"))
    cases = {
        "NotIndependent": [provider],
        "ReviewersNotAscending": [max(alice, bob), min(alice, bob)],
        "WrongNumberOfReviewers": [],
        "UnknownNode": [world.of("outsider")],
    }
    for error, reviewers in cases.items():
        call = Call("AlgorithmRegistry", "propose", (bytes.fromhex(NEW[2:]), reviewers))
        assert world.refused(call, "provider").name == error
    twice = Call("AlgorithmRegistry", "propose", (bytes.fromhex(NEW[2:]), [alice, alice]))
    assert world.refused(twice, "provider").name == "ReviewersNotAscending"
    many = [f"0x{i:040x}" for i in range(1, 10)]
    too_many = Call("AlgorithmRegistry", "propose", (bytes.fromhex(NEW[2:]), many))
    assert world.refused(too_many, "provider").name == "WrongNumberOfReviewers"


def test_a_superseded_algorithm_gets_no_new_grant_and_serves_the_old_ones(world: World) -> None:
    world.do(calls.register_algorithm(NEW), "provider")
    done = world.do(calls.supersede_algorithm(ALGORITHM, NEW), "provider")
    assert done.events[0].args == {"algorithm": ALGORITHM, "by": NEW}
    assert world.refused(calls.issue_grant(world.grant_terms("alice")), "alice").name == "AlgorithmUnusable"
    terms = world.terms()
    world.create(terms)
    world.do(calls.start(terms, h("input")), "alice")
    found = world.chain.algorithm(ALGORITHM, at=world.chain.head())
    assert found is not None
    assert (found.status, found.superseded) == (AlgorithmStatus.ACTIVE, True)


def test_an_algorithm_is_superseded_once_by_another_of_its_provider(world: World) -> None:
    assert world.refused(calls.supersede_algorithm(ALGORITHM, NEW), "provider").name == "UnknownAlgorithm"
    world.do(calls.register_algorithm(NEW), "provider")
    itself = world.refused(calls.supersede_algorithm(NEW, NEW), "provider")
    assert itself.name == "AlgorithmAlreadySuperseded"
    assert world.refused(calls.supersede_algorithm(ALGORITHM, NEW), "alice").name == "NotAlgorithmProvider"
    world.do(calls.supersede_algorithm(ALGORITHM, NEW), "provider")
    for pair in ((ALGORITHM, NEW), (NEW, ALGORITHM)):
        refusal = world.refused(calls.supersede_algorithm(*pair), "provider")
        assert refusal.name == "AlgorithmAlreadySuperseded"
    world.do(calls.revoke_algorithm(NEW), "provider")
    assert world.refused(calls.supersede_algorithm(NEW, ALGORITHM), "provider").name == "AlgorithmNotActive"


# grants


def test_a_budget_is_spent_by_each_start_and_never_beyond_it(world: World) -> None:
    grant = world.issue("alice", uses=9, epsilon_millionths=100)
    index = world.ranks.index("alice")

    def asking(epsilon: int) -> TaskTerms:
        usual = world.terms({"alice": grant})
        uses = tuple(replace(u, epsilon_millionths=epsilon) if u.party == index else u for u in usual.uses)
        terms = replace(usual, uses=uses)
        world.create(terms)
        return terms

    for epsilon, left in ((60, 40), (40, 0)):
        done = world.do(calls.start(asking(epsilon), h("input")), "alice")
        assert done.events[0].args["epsilonLeft"] == left
    refusal = world.refused(calls.start(asking(1), h("input")), "alice")
    assert refusal.denial is Denial.EPSILON_NOT_COVERED
    found = world.chain.grant(grant, at=world.chain.head())
    assert found is not None
    assert (found.uses, found.uses_left, found.epsilon_left) == (9, 7, 0)


def test_a_grant_says_with_whom_its_data_meets(world: World) -> None:
    others = tuple(sorted(world.of(name) for name in ("bob", "carol")))
    terms = world.grant_terms("alice", participants=others)
    done = world.do(calls.issue_grant(terms), "alice")
    assert done.names == ["GrantIssued", "GrantParticipant", "GrantParticipant"]
    grant = done.value("grant")
    found = world.chain.grant(grant, at=world.chain.head())
    assert found is not None
    assert found.participants == others
    task = world.terms({"alice": grant})
    world.create(task)
    world.do(calls.start(task, h("input")), "alice")


def test_participants_are_at_most_sixteen_and_named_once(world: World) -> None:
    alice = world.of("alice")
    for participants, error in (
        ((alice, alice), "ParticipantsNotAscending"),
        (("0x" + "00" * 20,), "ParticipantsNotAscending"),
        (tuple(f"0x{i:040x}" for i in range(1, 18)), "TooManyParticipants"),
    ):
        call = calls.issue_grant(world.grant_terms("alice", participants=participants))
        assert world.refused(call, "alice").name == error


def test_a_grant_is_replaced_in_one_step(world: World) -> None:
    old = world.grants["alice"]
    done = world.do(calls.replace_grant(old, world.grant_terms("alice", uses=1)), "alice")
    assert done.names == ["GrantRevoked", "GrantIssued", "GrantReplaced"]
    assert done.events[2].args == {"grant": old, "by": done.events[1].args["grant"]}
    assert world.refused(calls.replace_grant(old, world.grant_terms("alice")), "alice").name == (
        "GrantAlreadyRevoked"
    )
    other = calls.replace_grant(world.grants["bob"], world.grant_terms("alice"))
    assert world.refused(other, "alice").name == "NotGrantOwner"
    nothing = calls.replace_grant(world.grants["bob"], world.grant_terms("bob", uses=0))
    assert world.refused(nothing, "bob").name == "NoUses"
    assert world.uses_left(world.grants["bob"]) == 3  # it stands: all or nothing


def test_a_grant_is_recorded_as_it_was_given(world: World) -> None:
    terms = world.grant_terms("alice", approval_required=True, epsilon_millionths=1_500_000)
    alice = world.of("alice")
    expected = world.chain.grant_id(alice, world.chain.serial(alice, at=world.chain.head()), terms)
    done = world.do(calls.issue_grant(terms), "alice")
    assert done.value("grant") == expected
    found = world.chain.grant(expected, at=world.chain.head())
    assert found is not None
    assert (found.owner, found.dataset, found.algorithm) == (
        world.of("alice"),
        terms.dataset,
        terms.algorithm,
    )
    assert (found.requester, found.purpose, found.uses_left) == (terms.requester, terms.purpose, terms.uses)
    assert (found.not_before, found.expires_at) == (terms.not_before, terms.expires_at)
    assert (found.protections, found.approval_required) == (terms.protections, True)
    assert (found.revoked, found.epsilon_millionths) == (False, 1_500_000)
    assert (found.uses, found.epsilon_left, found.participants) == (terms.uses, 1_500_000, ())


@pytest.mark.parametrize("name", ["bob", "lab", "provider"])
def test_only_the_owner_grants_the_use_of_a_dataset(world: World, name: str) -> None:
    assert world.refused(calls.issue_grant(world.grant_terms("alice")), name).name == "NotOwnDataset"


def test_the_same_words_granted_twice_are_two_grants(world: World) -> None:
    first, second = world.issue("alice"), world.issue("alice")
    assert first != second
    world.do(calls.revoke_grant(first), "alice")
    assert world.uses_left(second) == 3


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"uses": 0}, "NoUses"),
        ({"protections": Protection(0)}, "NoProtection"),
        ({"purpose": NOTHING}, "EmptyPurpose"),
        ({"dataset": h("?")}, "NotOwnDataset"),
        ({"algorithm": h("?")}, "AlgorithmUnusable"),
        ({"expires_at": UnixSeconds(1), "not_before": UnixSeconds(0)}, "InvalidWindow"),
        ({"expires_at": UnixSeconds(10**10), "not_before": UnixSeconds(10**10)}, "InvalidWindow"),
    ],
)
def test_a_grant_that_allows_nothing_is_refused(world: World, changed: dict[str, object], error: str) -> None:
    assert world.refused(calls.issue_grant(world.grant_terms("alice", **changed)), "alice").name == error


@pytest.mark.parametrize("name", ["provider", "bob", "outsider"])
def test_a_grant_names_an_admitted_requester(world: World, name: str) -> None:
    call = calls.issue_grant(world.grant_terms("alice", requester=world.of(name)))
    assert world.refused(call, "alice").name == "RequesterUnusable"


def test_no_grant_over_what_is_out_of_use(world: World) -> None:
    call = calls.issue_grant(world.grant_terms("alice"))
    world.do(calls.suspend_algorithm(ALGORITHM, REASON), "regulator")
    assert world.refused(call, "alice").name == "AlgorithmUnusable"
    world.do(calls.withdraw_dataset(world.dataset("alice")), "alice")
    assert world.refused(call, "alice").name == "DatasetUnusable"
    world.do(calls.suspend_node(world.of("alice"), REASON), "registrar")
    assert world.refused(call, "alice").name == "NodeNotActive"


@pytest.mark.parametrize("name", [name for name in PEOPLE if name != "alice"])
def test_only_its_owner_revokes_a_grant(world: World, name: str) -> None:
    assert world.refused(calls.revoke_grant(world.grants["alice"]), name).name == "NotGrantOwner"


def test_a_revoked_grant_stays_revoked(world: World) -> None:
    grant = world.grants["alice"]
    assert world.do(calls.revoke_grant(grant), "alice").names == ["GrantRevoked"]
    assert world.refused(calls.revoke_grant(grant), "alice").name == "GrantAlreadyRevoked"
    assert world.refused(calls.revoke_grant(h("?")), "alice").name == "UnknownGrant"


def test_the_status_of_a_grant_is_the_same_on_chain_and_off(world: World) -> None:
    begins = world.now + 100
    waiting = world.issue("alice", not_before=UnixSeconds(begins), uses=1)
    steps = [
        (begins - 1, GrantStatus.PENDING),
        (begins, GrantStatus.ACTIVE),
        (begins + DAY, GrantStatus.EXPIRED),
    ]
    for time, status in steps:
        world.travel(time)
        world.engine.mine_blocks()
        assert grant_statuses(world, waiting) == (status, status)
    world.do(calls.revoke_grant(waiting), "alice")
    assert grant_statuses(world, waiting) == (GrantStatus.REVOKED, GrantStatus.REVOKED)


def test_a_grant_without_uses_left_is_exhausted(world: World) -> None:
    grant = world.issue("alice", uses=1)
    terms = world.terms({"alice": grant})
    world.create(terms)
    world.do(calls.start(terms, h("input")), "alice")
    assert grant_statuses(world, grant) == (GrantStatus.EXHAUSTED, GrantStatus.EXHAUSTED)


def grant_statuses(world: World, grant: str) -> tuple[GrantStatus, GrantStatus]:
    """As the contract derives it at the clock of the last block, and as we do."""
    head = world.chain.head()
    (on_chain,) = world.chain.read([View("GrantRegistry", "statusOf", (bytes.fromhex(grant[2:]),))], head)
    found = world.chain.grant(grant, at=head)  # type: ignore[arg-type]
    assert found is not None
    return GrantStatus(on_chain), found.status(head.timestamp)


# anchors


def test_checkpoints_only_grow(world: World) -> None:
    done = world.do(calls.anchor(5, h("root 5")), "alice")
    assert done.events[0].args == {
        "node": world.of("alice"),
        "size": 5,
        "root": h("root 5"),
        "previousSize": 0,
    }
    for size in (5, 4, 0):
        assert world.refused(calls.anchor(size, h("another root")), "alice").name == "LogDidNotGrow"
    assert world.do(calls.anchor(6, h("root 6")), "alice").value("previousSize") == 5
    found = world.chain.checkpoint(world.of("alice"), at=world.chain.head())
    assert found is not None
    assert (found.size, found.root) == (6, h("root 6"))


def test_each_node_anchors_its_own_log(world: World) -> None:
    world.do(calls.anchor(5, h("root")), "alice")
    assert world.chain.checkpoint(world.of("bob"), at=world.chain.head()) is None
    world.do(calls.anchor(1, h("root")), "bob")


def test_an_anchor_has_a_root(world: World) -> None:
    assert world.refused(calls.anchor(1, NOTHING), "alice").name == "EmptyRoot"
    assert world.refused(calls.anchor(0, h("root")), "alice").name == "LogDidNotGrow"


@pytest.mark.parametrize("end", ["suspend", "retire"])
def test_a_suspended_or_retired_node_still_owes_its_evidence(world: World, end: str) -> None:
    node = world.of("alice")
    world.do(calls.suspend_node(node, REASON) if end == "suspend" else calls.retire_node(node), "registrar")
    assert world.do(calls.anchor(1, h("root")), "alice").names == ["CheckpointAnchored"]


def test_the_owners_hold_one_dataset_each(world: World) -> None:
    assert len({world.dataset(name) for name in OWNERS}) == 3
