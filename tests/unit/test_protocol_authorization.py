"""The rule that decides: change one thing in a world that works, and it names that thing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sealtrace.protocol.authorization import Facts, why_denied
from sealtrace.protocol.identifiers import UnixSeconds, address, hex32
from sealtrace.protocol.outcome import Denial
from sealtrace.protocol.records import (
    Algorithm,
    AlgorithmStatus,
    DataClass,
    Dataset,
    DatasetStatus,
    Grant,
    GrantStatus,
    Node,
    NodeStatus,
    Protection,
    Role,
    TaskTerms,
    Use,
)

BANK, CARRIER, LAB = (address("0x" + digit * 40) for digit in "123")
NOW = UnixSeconds(1_000)


def h(byte: int):
    return hex32(bytes([byte]) * 32)


GRANT = Grant(
    id=h(4),
    owner=BANK,
    dataset=h(1),
    algorithm=h(2),
    requester=LAB,
    purpose=h(3),
    uses_left=3,
    not_before=UnixSeconds(500),
    expires_at=UnixSeconds(2_000),
    protections=Protection.MPC_ABY3 | Protection.PSI_RR22,
    approval_required=False,
    revoked=False,
    epsilon_millionths=0,
    uses=5,
    epsilon_left=0,
)
TERMS = TaskTerms(
    requester=LAB,
    spec=h(9),
    purpose=h(3),
    protections=Protection.MPC_ABY3,
    deadline=UnixSeconds(3_000),
    parties=(BANK, CARRIER),
    uses=(Use(0, h(1), h(2), h(4)),),
)


def node(who, status=NodeStatus.ACTIVE, roles=Role.OWNER | Role.COMPUTE):
    return Node(who, status, roles, h(7), h(8))


FACTS = Facts(
    grants={h(4): GRANT},
    nodes={BANK: node(BANK), CARRIER: node(CARRIER), LAB: node(LAB, roles=Role.REQUESTER)},
    datasets={h(1): Dataset(h(1), BANK, DatasetStatus.ACTIVE, DataClass.GENERAL, h(5), h(6))},
    algorithms={h(2): Algorithm(h(2), LAB, AlgorithmStatus.ACTIVE)},
)


def judge(terms=TERMS, facts=FACTS, now=NOW, party=BANK):
    return why_denied(terms, party, facts, now)


def asking(epsilon: int) -> TaskTerms:
    return replace(TERMS, uses=(replace(TERMS.uses[0], epsilon_millionths=epsilon),))


def with_grant(**changes) -> Facts:
    return replace(FACTS, grants={h(4): replace(GRANT, **changes)})


def with_node(who, **changes) -> Facts:
    return replace(FACTS, nodes={**FACTS.nodes, who: replace(FACTS.nodes[who], **changes)})


def test_a_task_within_its_grant_may_run():
    assert judge() is None


@pytest.mark.parametrize(
    ("facts", "denial"),
    [
        (replace(FACTS, grants={}), Denial.UNKNOWN_GRANT),
        (with_grant(owner=CARRIER), Denial.WRONG_OWNER),
        (with_grant(dataset=h(11)), Denial.WRONG_DATASET),
        (with_grant(algorithm=h(12)), Denial.WRONG_ALGORITHM),
        (with_grant(requester=CARRIER), Denial.WRONG_REQUESTER),
        (with_grant(purpose=h(13)), Denial.WRONG_PURPOSE),
        (with_grant(revoked=True), Denial.GRANT_REVOKED),
        (with_grant(not_before=UnixSeconds(1_001)), Denial.GRANT_NOT_YET_VALID),
        (with_grant(expires_at=UnixSeconds(1_000)), Denial.GRANT_EXPIRED),
        (with_grant(uses_left=0), Denial.GRANT_EXHAUSTED),
        (with_grant(protections=Protection.PSI_RR22), Denial.PROTECTION_NOT_ALLOWED),
        (with_node(LAB, status=NodeStatus.SUSPENDED), Denial.REQUESTER_NOT_ACTIVE),
        (with_node(LAB, roles=Role.COMPUTE), Denial.REQUESTER_NOT_ACTIVE),
        (replace(FACTS, datasets={}), Denial.DATASET_NOT_ACTIVE),
        (replace(FACTS, algorithms={}), Denial.ALGORITHM_NOT_ACTIVE),
        (with_node(CARRIER, status=NodeStatus.SUSPENDED), Denial.PARTY_NOT_ACTIVE),
        (with_node(CARRIER, status=NodeStatus.RETIRED), Denial.PARTY_NOT_ACTIVE),
        (with_node(BANK, status=NodeStatus.SUSPENDED), Denial.PARTY_NOT_ACTIVE),
    ],
)
def test_one_thing_changed_is_the_reason_given(facts, denial):
    assert judge(facts=facts) is denial


def test_a_grant_works_until_the_second_before_it_expires():
    assert judge(now=UnixSeconds(1_999)) is None
    assert judge(now=UnixSeconds(2_000)) is Denial.GRANT_EXPIRED


def test_a_grant_works_from_the_second_it_begins():
    assert judge(now=UnixSeconds(499)) is Denial.GRANT_NOT_YET_VALID
    assert judge(now=UnixSeconds(500)) is None


def test_a_task_must_not_use_any_protection_that_the_grant_does_not_name():
    both = replace(TERMS, protections=Protection.MPC_ABY3 | Protection.PSI_RR22)
    more = replace(TERMS, protections=Protection.MPC_ABY3 | Protection.MPC_SEMI2K_TRUSTED_FIRST_PARTY)
    none = replace(TERMS, protections=Protection(0))
    assert judge(both) is None
    assert judge(more) is Denial.PROTECTION_NOT_ALLOWED
    assert judge(none) is Denial.PROTECTION_NOT_ALLOWED


def test_a_party_that_brings_no_data_needs_no_grant():
    assert judge(party=CARRIER, facts=replace(FACTS, grants={})) is None


def test_the_first_reason_wins_when_several_apply():
    assert judge(facts=with_grant(revoked=True, uses_left=0)) is Denial.GRANT_REVOKED


def test_codes_below_32_can_be_checked_against_the_chain_and_the_others_cannot():
    assert Denial.GRANT_EXPIRED.seen_on_chain
    assert not Denial.DATASET_ALTERED.seen_on_chain


@pytest.mark.parametrize(
    ("changes", "now", "status"),
    [
        ({}, 1_000, GrantStatus.ACTIVE),
        ({}, 499, GrantStatus.PENDING),
        ({}, 2_000, GrantStatus.EXPIRED),
        ({"uses_left": 0}, 2_000, GrantStatus.EXHAUSTED),
        ({"revoked": True, "uses_left": 0}, 1_000, GrantStatus.REVOKED),
    ],
)
def test_a_grants_status_is_the_first_that_applies(changes, now, status):
    assert replace(GRANT, **changes).status(UnixSeconds(now)) is status


BUDGETED = with_grant(epsilon_millionths=100, epsilon_left=40)


@pytest.mark.parametrize(
    ("epsilon", "denial"),
    [(40, None), (41, Denial.EPSILON_NOT_COVERED), (0, Denial.EPSILON_NOT_COVERED)],
)
def test_a_privacy_budget_is_spent_by_name_and_never_beyond_what_is_left(epsilon, denial):
    assert judge(asking(epsilon), BUDGETED) is denial


def test_a_grant_without_a_budget_counts_no_epsilon():
    assert judge(asking(7)) is None


@pytest.mark.parametrize(
    ("participants", "denial"),
    [((), None), ((CARRIER,), None), ((LAB,), Denial.PARTICIPANT_NOT_ALLOWED)],
)
def test_a_grant_may_say_with_whom_its_data_meets(participants, denial):
    assert judge(facts=with_grant(participants=participants)) is denial


def test_a_former_version_of_a_dataset_still_serves_the_grants_in_being():
    former = replace(FACTS.datasets[h(1)], status=DatasetStatus.SUPERSEDED)
    assert judge(facts=replace(FACTS, datasets={h(1): former})) is None
