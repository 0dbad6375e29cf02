"""Every reason for which a start is denied; and the chain, the node and the auditor share one rule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from chain_world import DAY, OWNERS, World, h
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sealtrace.contracts import calls
from sealtrace.contracts.errors import Reverted
from sealtrace.protocol.authorization import why_denied
from sealtrace.protocol.identifiers import NOTHING, Hex32, UnixSeconds
from sealtrace.protocol.outcome import Denial
from sealtrace.protocol.records import DataClass, Protection, TaskTerms


@dataclass
class Case:
    """A task about to be started by alice, and what may be wrong with it."""

    world: World
    grant: Hex32
    terms: TaskTerms
    task: Hex32 = NOTHING

    def change_use(self, **changed: object) -> None:
        """Let alice's use say something else; her index stays hers."""
        uses = tuple(replace(u, **changed) if u.grant == self.grant else u for u in self.terms.uses)
        self.terms = replace(self.terms, uses=uses)


Twist = Callable[[Case], None]


def named_other_grant(case: Case) -> None:
    case.change_use(grant=h("never issued"))


def named_anothers_grant(case: Case) -> None:
    """Bob's grant in alice's place; bob himself names another of his."""
    other = case.world.issue("bob", dataset=case.world.dataset("bob"))
    case.change_use(grant=other)


def named_other_dataset(case: Case) -> None:
    case.change_use(dataset=h("another dataset"))


def named_other_algorithm(case: Case) -> None:
    case.change_use(algorithm=h("another algorithm"))


def asked_no_epsilon_of_a_budget(case: Case) -> None:
    """A grant with a privacy budget, and a use that names no part of it."""
    case.grant = case.world.issue("alice", epsilon_millionths=100)
    uses = tuple(
        replace(u, grant=case.grant) if u.party == case.world.ranks.index("alice") else u
        for u in case.terms.uses
    )
    case.terms = replace(case.terms, uses=uses)


def meets_a_party_that_is_not_allowed(case: Case) -> None:
    case.grant = case.world.issue("alice", participants=tuple(sorted(map(case.world.of, ("bob", "lab")))))
    uses = tuple(
        replace(u, grant=case.grant) if u.party == case.world.ranks.index("alice") else u
        for u in case.terms.uses
    )
    case.terms = replace(case.terms, uses=uses)


def said_other_purpose(case: Case) -> None:
    case.terms = replace(case.terms, purpose=h("advertising"))


def asked_other_protection(case: Case) -> None:
    case.terms = replace(case.terms, protections=Protection.MPC_ABY3 | Protection.TEE_SIMULATED)


BEFORE_CREATION: dict[str, Twist] = {
    "named_other_grant": named_other_grant,
    "named_anothers_grant": named_anothers_grant,
    "named_other_dataset": named_other_dataset,
    "named_other_algorithm": named_other_algorithm,
    "said_other_purpose": said_other_purpose,
    "asked_other_protection": asked_other_protection,
    "asked_no_epsilon_of_a_budget": asked_no_epsilon_of_a_budget,
    "meets_a_party_that_is_not_allowed": meets_a_party_that_is_not_allowed,
}

# Some exclude each other, such as suspending what is revoked: the second is then refused, as it should be.
AFTER_CREATION: dict[str, Twist] = {
    "revoked": lambda c: c.world.attempt(calls.revoke_grant(c.grant), "alice"),
    "expired": lambda c: c.world.travel(c.world.now + 2 * DAY),
    "requester_suspended": lambda c: c.world.attempt(
        calls.suspend_node(c.world.of("lab"), h("why")), "registrar"
    ),
    "requester_retired": lambda c: c.world.attempt(calls.retire_node(c.world.of("lab")), "registrar"),
    "dataset_withdrawn": lambda c: c.world.attempt(calls.withdraw_dataset(c.world.dataset("alice")), "alice"),
    "algorithm_suspended": lambda c: c.world.attempt(
        calls.suspend_algorithm(c.terms.uses[0].algorithm, h("why")), "regulator"
    ),
    "algorithm_revoked": lambda c: c.world.attempt(
        calls.revoke_algorithm(c.terms.uses[0].algorithm), "provider"
    ),
    "another_party_suspended": lambda c: c.world.attempt(
        calls.suspend_node(c.world.of("bob"), h("why")), "regulator"
    ),
    "another_party_retired": lambda c: c.world.attempt(calls.retire_node(c.world.of("carol")), "registrar"),
}


def opened(world: World, twists: list[Twist] | None = None, **grant: object) -> Case:
    """A task of all three owners, long enough for any window, approved where it must be."""
    issued = world.issue("alice", **grant)
    terms = replace(world.terms({"alice": issued}), deadline=UnixSeconds(world.now + 10 * DAY))
    case = Case(world, issued, terms)
    for twist in twists or []:
        twist(case)
    case.task = world.create(case.terms)
    approve(case)
    return case


def approve(case: Case) -> None:
    """Who does not stand by its grant must say yes: approval does not replace the grant's check."""
    found = case.world.task(case.task)
    assert found is not None
    for i, name in enumerate(case.world.ranks):
        if not found.approved >> i & 1:
            case.world.do(calls.approve(case.terms), name)


def start(case: Case) -> Denial | None:
    """The chain's answer to alice's start, held against the rule of node and auditor at the same time."""
    world = case.world
    facts = world.chain.facts(case.terms, at=world.chain.head())
    outcome = world.attempt(calls.start(case.terms, h("input")), "alice")
    ruled = why_denied(case.terms, world.of("alice"), facts, outcome.at)  # type: ignore[union-attr]
    if not isinstance(outcome, Reverted):
        assert ruled is None
        return None
    assert outcome.denial is ruled, f"{outcome} against {ruled!r}"
    return outcome.denial


CASES: list[tuple[Denial, list[str], dict[str, object]]] = [
    (Denial.UNKNOWN_GRANT, ["named_other_grant"], {}),
    (Denial.WRONG_OWNER, ["named_anothers_grant"], {}),
    (Denial.WRONG_DATASET, ["named_other_dataset"], {}),
    (Denial.WRONG_ALGORITHM, ["named_other_algorithm"], {}),
    (Denial.WRONG_PURPOSE, ["said_other_purpose"], {}),
    (Denial.GRANT_REVOKED, ["revoked"], {}),
    (Denial.GRANT_EXPIRED, ["expired"], {}),
    (Denial.PROTECTION_NOT_ALLOWED, ["asked_other_protection"], {}),
    (Denial.EPSILON_NOT_COVERED, ["asked_no_epsilon_of_a_budget"], {}),
    (Denial.PARTICIPANT_NOT_ALLOWED, ["meets_a_party_that_is_not_allowed"], {}),
    (Denial.REQUESTER_NOT_ACTIVE, ["requester_suspended"], {}),
    (Denial.REQUESTER_NOT_ACTIVE, ["requester_retired"], {}),
    (Denial.DATASET_NOT_ACTIVE, ["dataset_withdrawn"], {}),
    (Denial.ALGORITHM_NOT_ACTIVE, ["algorithm_suspended"], {}),
    (Denial.ALGORITHM_NOT_ACTIVE, ["algorithm_revoked"], {}),
    (Denial.PARTY_NOT_ACTIVE, ["another_party_suspended"], {}),
    (Denial.PARTY_NOT_ACTIVE, ["another_party_retired"], {}),
]


def _twisted(world: World, names: list[str], **grant: object) -> Case:
    case = opened(world, [BEFORE_CREATION[name] for name in names if name in BEFORE_CREATION], **grant)
    for name in names:
        if name in AFTER_CREATION:
            AFTER_CREATION[name](case)
    return case


@pytest.mark.parametrize(("denial", "names", "grant"), CASES, ids=[" ".join(names) for _, names, _ in CASES])
def test_a_start_is_denied_for_each_reason_and_spends_nothing(
    world: World, denial: Denial, names: list[str], grant: dict[str, object]
) -> None:
    case = _twisted(world, names, **grant)
    before = world.task(case.task)

    assert start(case) is denial

    assert world.uses_left(case.grant) == 3
    after = world.task(case.task)
    assert before is not None
    assert after is not None
    assert (after.state, after.started) == (before.state, 0)


def test_a_protocol_that_trusts_one_party_starts_only_where_every_grant_names_it(world: World) -> None:
    semi2k = Protection.MPC_SEMI2K_TRUSTED_FIRST_PARTY
    named = {name: world.issue(name, protections=semi2k | Protection.MPC_ABY3) for name in OWNERS}
    terms = replace(world.terms(named), protections=semi2k)
    willing = Case(world, named["alice"], terms, world.create(terms))
    assert start(willing) is None

    unwilling = world.issue("alice", protections=Protection.MPC_ABY3)
    terms = replace(world.terms(named | {"alice": unwilling}), protections=semi2k)
    case = Case(world, unwilling, terms, world.create(terms))
    approve(case)
    for name in ("bob", "carol"):
        world.do(calls.start(terms, h("input")), name)
    assert start(case) is Denial.PROTECTION_NOT_ALLOWED
    assert world.uses_left(unwilling) == 3
    after = world.task(case.task)
    assert after is not None
    assert not after.started >> world.ranks.index("alice") & 1


def test_a_grant_for_another_requester_is_denied(world: World) -> None:
    world.do(calls.admit(world.of("outsider"), 4, h("tls"), h("key")), "registrar")  # type: ignore[arg-type]
    case = opened(world, requester=world.of("outsider"))
    assert start(case) is Denial.WRONG_REQUESTER


def test_a_grant_is_denied_before_its_window_and_good_from_its_first_second(world: World) -> None:
    begins = world.now + DAY
    case = opened(world, not_before=UnixSeconds(begins), expires_at=UnixSeconds(begins + DAY))
    world.travel(begins - 1)
    assert start(case) is Denial.GRANT_NOT_YET_VALID
    world.travel(begins)
    assert start(case) is None


def test_a_grant_is_good_until_the_second_before_it_expires(world: World) -> None:
    ends = world.now + DAY
    first, second = opened(world, expires_at=UnixSeconds(ends)), opened(world, expires_at=UnixSeconds(ends))
    world.travel(ends - 1)
    assert start(first) is None
    assert world.now == ends - 1
    assert start(second) is Denial.GRANT_EXPIRED


def test_a_fourth_use_of_a_grant_for_three_is_denied(world: World) -> None:
    issued = world.issue("alice")
    for _ in range(3):
        terms = world.terms({"alice": issued})
        assert start(Case(world, issued, terms, world.create(terms))) is None
    terms = world.terms({"alice": issued})
    fourth = Case(world, issued, terms, world.create(terms))
    approve(fourth)
    assert start(fourth) is Denial.GRANT_EXHAUSTED
    assert world.uses_left(issued) == 0


def test_of_two_tasks_for_the_last_use_one_starts(world: World) -> None:
    issued = world.issue("alice", uses=1)
    cases = []
    for _ in range(2):
        terms = world.terms({"alice": issued})
        cases.append(Case(world, issued, terms, world.create(terms)))
    assert [start(case) for case in cases] == [None, Denial.GRANT_EXHAUSTED]


def test_approval_does_not_stand_in_for_a_grant(world: World) -> None:
    terms = world.terms({"alice": h("no such grant")})
    case = Case(world, h("no such grant"), terms, world.create(terms))
    world.do(calls.approve(terms), "alice")
    assert start(case) is Denial.UNKNOWN_GRANT


def test_every_reason_the_chain_can_see_is_tested_here() -> None:
    elsewhere = {Denial.WRONG_REQUESTER, Denial.GRANT_NOT_YET_VALID, Denial.GRANT_EXHAUSTED}
    assert {denial for denial, _, _ in CASES} | elsewhere == {d for d in Denial if d.seen_on_chain}


def test_a_party_whose_own_node_is_suspended_cannot_start(world: World) -> None:
    case = opened(world)
    world.do(calls.suspend_node(world.of("alice"), h("why")), "registrar")
    assert world.refused(calls.start(case.terms, h("input")), "alice").name == "PartyNotActive"


def test_a_start_that_binds_no_input_is_refused(world: World) -> None:
    case = opened(world)
    call = calls.start(case.terms, Hex32("0x" + "00" * 32))
    assert world.refused(call, "alice").name == "EmptyTerms"


# One rule: whatever is wrong at once, the chain, the node and the auditor name the same first reason.


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    twists=st.lists(st.sampled_from(sorted({**BEFORE_CREATION, **AFTER_CREATION})), unique=True, max_size=4),
    uses=st.integers(1, 2),
    extra=st.booleans(),
)
def test_the_chain_and_the_node_name_the_same_first_reason(
    world: World, twists: list[str], uses: int, extra: bool
) -> None:
    snapshot = world.engine.take_snapshot()
    try:
        case = opened(world, [BEFORE_CREATION[name] for name in twists if name in BEFORE_CREATION], uses=uses)
        if extra:  # a second dataset of alice's, under a grant of its own
            case = _with_second_dataset(case)
        for name in twists:
            if name in AFTER_CREATION:
                AFTER_CREATION[name](case)
        start(case)
    finally:
        world.engine.revert_to_snapshot(snapshot)


def _with_second_dataset(case: Case) -> Case:
    world = case.world
    world.do(calls.register_dataset(h("commitment of alice 1"), h("schema"), DataClass.CORE), "alice")
    second = world.issue("alice", dataset=world.dataset("alice", 1))
    (hers,) = [use for use in case.terms.uses if use.party == world.ranks.index("alice")]
    use = replace(hers, dataset=world.dataset("alice", 1), grant=second)
    terms = replace(case.terms, spec=h("with a second"), uses=(*case.terms.uses, use))
    again = Case(world, case.grant, terms, world.create(terms))
    approve(again)
    return again


def test_the_owners_of_the_tests_are_the_parties(world: World) -> None:
    assert set(world.ranks) == set(OWNERS)
