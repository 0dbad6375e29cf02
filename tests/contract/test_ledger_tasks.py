"""The life of a task in detail: who may act, what is agreed, what is spent, and what time does."""

from __future__ import annotations

from dataclasses import replace

import pytest
from chain_world import ALGORITHM, OWNERS, RESULT, World, h

from sealtrace.contracts import calls
from sealtrace.contracts.client import CONFLICT, View
from sealtrace.node.chain import terms_from
from sealtrace.protocol.identifiers import NOBODY, NOTHING, Address, UnixSeconds, address, hex32
from sealtrace.protocol.lifecycle import TaskState
from sealtrace.protocol.outcome import Blame, Denial, Failure
from sealtrace.protocol.records import Protection, Role, TaskTerms, Use


def started(world: World) -> tuple[str, TaskTerms]:
    terms = world.terms()
    task = world.create(terms)
    world.start_all(terms)
    return task, terms


# creation


def test_a_task_under_standing_grants_is_authorized_at_once(world: World) -> None:
    terms = world.terms()
    done = world.do(calls.create(terms), "lab")
    assert done.names == ["TaskCreated", *["TaskUseNamed"] * 3, "TaskAuthorized"]
    found = world.task(world.chain.task_id(terms))
    assert found is not None
    assert (found.state, found.approved) == (TaskState.AUTHORIZED, 0b111)


def test_a_task_waits_for_the_owner_whose_grant_asks_for_approval(world: World) -> None:
    terms = world.terms({"bob": world.issue("bob", approval_required=True)})
    task = world.create(terms)
    found = world.task(task)
    assert found is not None
    assert (found.state, found.approved) == (TaskState.CREATED, 0b111 & ~(1 << world.ranks.index("bob")))
    assert world.refused(calls.start(terms, h("input")), "alice").name == "IllegalTransition"

    assert world.do(calls.approve(terms), "bob").names == ["TaskApproved", "TaskAuthorized"]


def test_a_grant_asking_for_approval_is_not_got_round_by_naming_it_under_another_party(world: World) -> None:
    """The approval of the owner is needed wherever the use is put; the start is denied in any case."""
    guarded = world.issue("bob", approval_required=True)
    usual = world.terms()
    uses = tuple(
        replace(u, grant=guarded) if u.party == world.ranks.index("carol") else u for u in usual.uses
    )
    terms = replace(usual, uses=uses)
    task = world.create(terms)
    found = world.task(task)
    assert found is not None
    assert found.state is TaskState.CREATED
    world.do(calls.approve(terms), "carol")
    assert world.refused(calls.start(terms, h("input")), "carol").denial is Denial.WRONG_OWNER


def test_anothers_standing_grant_starts_nothing(world: World) -> None:
    """Creation looks only whether a grant asks for approval; whose it is, the start looks at."""
    usual = world.terms()
    spare = world.issue("bob")
    uses = tuple(replace(u, grant=spare) if u.party == world.ranks.index("carol") else u for u in usual.uses)
    terms = replace(usual, uses=uses)
    world.create(terms)
    assert world.refused(calls.start(terms, h("input")), "carol").denial is Denial.WRONG_OWNER
    assert world.uses_left(spare) == 3


def test_a_stranger_gains_nothing_by_naming_a_victims_grant(world: World) -> None:
    world.do(calls.admit(world.of("outsider"), Role.REQUESTER, h("tls"), h("key")), "registrar")
    terms = world.terms(requester=world.of("outsider"))
    world.do(calls.create(terms), "outsider")
    assert world.refused(calls.start(terms, h("input")), "alice").denial is Denial.WRONG_REQUESTER
    assert world.uses_left(world.grants["alice"]) == 3


def test_nobody_creates_a_task_in_anothers_name(world: World) -> None:
    world.do(calls.admit(world.of("outsider"), Role.REQUESTER, h("tls"), h("key")), "registrar")
    assert world.refused(calls.create(world.terms()), "outsider").name == "NotTheRequester"


def test_the_same_terms_are_taken_once(world: World) -> None:
    terms = world.terms()
    world.create(terms)
    assert world.refused(calls.create(terms), "lab").name == "TaskAlreadyKnown"


def test_a_task_id_is_the_one_computed_without_the_chain(world: World) -> None:
    terms = world.terms()
    told = world.do(calls.create(terms), "lab").value("task")
    assert told == world.chain.task_id(terms)


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"spec": NOTHING}, "EmptyTerms"),
        ({"purpose": NOTHING}, "EmptyTerms"),
        ({"protections": Protection(0)}, "EmptyTerms"),
        ({"deadline": UnixSeconds(1)}, "DeadlinePassed"),
        ({"parties": ()}, "WrongNumberOfParties"),
        ({"parties": tuple(Address(f"0x{i:040x}") for i in range(1, 18))}, "WrongNumberOfParties"),
        ({"parties": (Address("0x" + "22" * 20), Address("0x" + "11" * 20))}, "PartiesNotAscending"),
        ({"parties": (Address("0x" + "22" * 20), Address("0x" + "22" * 20))}, "PartiesNotAscending"),
        ({"parties": (NOBODY, Address("0x" + "22" * 20))}, "PartiesNotAscending"),
        ({"uses": ()}, "WrongNumberOfUses"),
        ({"uses": tuple(Use(0, h("d"), ALGORITHM, h(f"{i}")) for i in range(65))}, "WrongNumberOfUses"),
        ({"uses": (Use(3, h("d"), ALGORITHM, h("g")),)}, "NoSuchParty"),
        ({"uses": (Use(0, h("d"), ALGORITHM, h("g")), Use(1, h("e"), ALGORITHM, h("g")))}, "GrantNamedTwice"),
    ],
)
def test_terms_out_of_shape_are_refused(world: World, changed: dict[str, object], error: str) -> None:
    terms = world.terms(**changed)
    assert world.refused(calls.create(terms), "lab").name == error
    assert world.task(world.chain.task_id(terms)) is None


def test_the_greatest_task_fits_a_block(world: World) -> None:
    parties = tuple(address(f"0x{i:040x}") for i in range(1, 17))
    uses = tuple(Use(i % 16, h("d"), ALGORITHM, h(f"{i}")) for i in range(64))
    assert world.do(calls.create(world.terms(parties=parties, uses=uses)), "lab").gas_used < 2_500_000


@pytest.mark.parametrize("name", ["alice", "provider", "registrar", "outsider"])
def test_only_an_admitted_requester_creates(world: World, name: str) -> None:
    refusal = world.refused(calls.create(world.terms()), name)
    assert refusal.name == ("MissingRole" if name in ("alice", "provider") else "UnknownNode")


def test_a_suspended_requester_creates_nothing_but_can_still_give_up(world: World) -> None:
    terms = world.terms()
    world.create(terms)
    world.do(calls.suspend_node(world.of("lab"), h("why")), "registrar")
    assert world.refused(calls.create(world.terms()), "lab").name == "NodeNotActive"
    assert world.do(calls.cancel(terms), "lab").names == ["TaskCancelled"]


# who acts

PARTY_ACTS = {
    "approve": calls.approve,
    "start": lambda terms: calls.start(terms, h("input")),
    "refuse": lambda terms: calls.refuse(terms, 40),
    "finish": lambda terms: calls.finish(terms, h("receipt"), RESULT),
    "fail": lambda terms: calls.fail(terms, Failure.TIMED_OUT),
    "stop": calls.stop,
}


@pytest.mark.parametrize("act", PARTY_ACTS)
@pytest.mark.parametrize("name", ["lab", "provider", "registrar", "regulator", "deployer", "outsider"])
def test_only_a_named_party_acts(world: World, act: str, name: str) -> None:
    _task, terms = started(world)
    assert world.refused(PARTY_ACTS[act](terms), name).name == "NotAParty"


@pytest.mark.parametrize("act", PARTY_ACTS)
def test_an_act_hands_back_the_very_terms(world: World, act: str) -> None:
    """Other terms are another task, and there is none."""
    _, terms = started(world)
    altered = replace(terms, deadline=UnixSeconds(terms.deadline + 1))
    assert world.refused(PARTY_ACTS[act](altered), "alice").name == "UnknownTask"


def test_a_party_cannot_slip_itself_into_the_terms(world: World) -> None:
    world.do(calls.admit(world.of("outsider"), Role.OWNER, h("tls"), h("key")), "registrar")
    _task, terms = started(world)
    parties = tuple(sorted((*terms.parties, world.of("outsider"))))
    call = calls.finish(replace(terms, parties=parties), h("receipt"), RESULT)
    assert world.refused(call, "outsider").name == "UnknownTask"


@pytest.mark.parametrize("act", [act for act in PARTY_ACTS if act != "stop"])
def test_a_suspended_party_does_not_act(world: World, act: str) -> None:
    _task, terms = started(world)
    world.do(calls.suspend_node(world.of("alice"), h("why")), "regulator")
    expected = "PartyNotActive" if act == "start" else "NodeNotActive"
    assert world.refused(PARTY_ACTS[act](terms), "alice").name == expected


@pytest.mark.parametrize("end", [calls.suspend_node, lambda node, _: calls.retire_node(node)])
def test_a_suspended_or_retired_owner_still_stops_a_run_on_its_data(world: World, end: object) -> None:
    _task, terms = started(world)
    world.do(end(world.of("alice"), h("why")), "registrar")  # type: ignore[operator]
    assert world.do(calls.stop(terms), "alice").names == ["TaskCancelled"]


@pytest.mark.parametrize("name", [*OWNERS, "registrar", "regulator", "outsider"])
def test_only_the_requester_cancels(world: World, name: str) -> None:
    terms = world.terms()
    world.create(terms)
    assert world.refused(calls.cancel(terms), name).name == "NotTheRequester"


# starting


def test_each_start_spends_one_use_of_each_of_the_starters_grants(world: World) -> None:
    terms = world.terms()
    task = world.create(terms)
    for i, name in enumerate(world.ranks):
        done = world.do(calls.start(terms, h("input")), name)
        assert done.names == ["GrantConsumed", "TaskStarted", *(["TaskRunning"] if i == 2 else [])]
        assert done.events[0].args == {
            "grant": world.grants[name],
            "task": task,
            "usesLeft": 2,
            "epsilonLeft": 0,
        }
        left = [world.uses_left(world.grants[each]) for each in world.ranks]
        assert left == [2] * (i + 1) + [3] * (2 - i)


def test_a_party_starts_once_and_spends_once(world: World) -> None:
    terms = world.terms()
    world.create(terms)
    world.do(calls.start(terms, h("input")), "alice")
    assert world.refused(calls.start(terms, h("input")), "alice").name == "AlreadyStarted"
    assert world.uses_left(world.grants["alice"]) == 2


def test_a_start_that_is_denied_at_its_second_grant_spends_neither(world: World) -> None:
    usual = world.terms()
    index = world.ranks.index("alice")
    second = world.issue("alice", uses=1)
    uses = (*usual.uses, Use(index, world.dataset("alice"), ALGORITHM, second))
    terms = replace(usual, uses=uses)
    world.create(terms)
    world.do(calls.revoke_grant(second), "alice")
    refusal = world.refused(calls.start(terms, h("input")), "alice")
    assert (refusal.denial, refusal.values["grant"]) == (Denial.GRANT_REVOKED, second)
    assert world.uses_left(world.grants["alice"]) == 3


def test_nobody_finishes_or_fails_before_all_have_started(world: World) -> None:
    terms = world.terms()
    world.create(terms)
    for name in world.ranks[:2]:
        world.do(calls.start(terms, h("input")), name)
    for act in ("finish", "fail", "stop"):
        assert world.refused(PARTY_ACTS[act](terms), world.ranks[0]).name == "IllegalTransition"


def test_a_use_stays_spent_when_another_party_refuses_afterwards(world: World) -> None:
    terms = world.terms()
    task = world.create(terms)
    world.do(calls.start(terms, h("input")), "alice")
    done = world.do(calls.refuse(terms, Denial.BUNDLE_ALTERED), "bob")
    assert done.events[0].args == {"task": task, "party": world.of("bob"), "reason": Denial.BUNDLE_ALTERED}
    assert world.refused(calls.start(terms, h("input")), "carol").name == "IllegalTransition"
    assert [world.uses_left(world.grants[name]) for name in OWNERS] == [2, 3, 3]


def test_a_refusal_and_a_failure_give_a_reason(world: World) -> None:
    terms = world.terms()
    world.create(terms)
    assert world.refused(calls.refuse(terms, 0), "alice").name == "ReasonMissing"
    world.start_all(terms)
    assert world.refused(calls.fail(terms, 0), "alice").name == "ReasonMissing"


def test_a_party_without_data_takes_part_under_no_grant_of_its_own(world: World) -> None:
    usual = world.terms()
    index = world.ranks.index("carol")
    terms = replace(usual, uses=tuple(use for use in usual.uses if use.party != index))
    world.create(terms)
    assert world.do(calls.start(terms, h("input")), "carol").names == ["TaskStarted"]
    assert world.uses_left(world.grants["carol"]) == 3


def test_uses_are_spent_by_the_ledger_only(world: World) -> None:
    request = (
        world.of("alice"),
        bytes.fromhex(world.dataset("alice")[2:]),
        bytes.fromhex(ALGORITHM[2:]),
        world.of("lab"),
        bytes(32),
        1,
        0,
    )
    grant = bytes.fromhex(world.grants["alice"][2:])
    call = calls.Call("GrantRegistry", "consume", (grant, request, list(world.parties), bytes(32), 1))
    for name in ("alice", "lab", "deployer", "registrar"):
        assert world.refused(call, name).name == "OnlyTaskLedger"
    assert world.uses_left(world.grants["alice"]) == 3


# the outcome


def test_a_task_completes_when_all_report_the_same_result(world: World) -> None:
    task, terms = started(world)
    done = world.finish_all(terms)
    assert [each.names for each in done] == [["TaskFinished"]] * 2 + [["TaskFinished", "TaskCompleted"]]
    found = world.task(task)
    assert found is not None
    assert (found.state, found.agreed) == (TaskState.COMPLETED, RESULT[:34])


@pytest.mark.parametrize("liar", [0, 1, 2])
def test_one_dissenting_party_is_enough_to_dispute(world: World, liar: int) -> None:
    task, terms = started(world)
    for i, name in enumerate(world.ranks):
        said = h("a lie") if i == liar else RESULT
        done = world.do(calls.finish(terms, h("receipt"), said), name)
    assert done.names == ["TaskFinished", "TaskDisputed"]
    found = world.task(task)
    assert found is not None
    assert (found.state, found.agreed) == (TaskState.DISPUTED, CONFLICT)


def test_a_dissent_is_not_undone_by_the_last_agreeing_with_the_first(world: World) -> None:
    task, terms = started(world)
    for name, said in zip(world.ranks, [RESULT, h("a lie"), RESULT], strict=True):
        world.do(calls.finish(terms, h("receipt"), said), name)
    found = world.task(task)
    assert found is not None
    assert found.state is TaskState.DISPUTED


def test_no_party_finishes_twice_or_for_another(world: World) -> None:
    task, terms = started(world)
    world.do(calls.finish(terms, h("receipt"), RESULT), "alice")
    again = calls.finish(terms, h("another receipt"), h("another result"))
    assert world.refused(again, "alice").name == "AlreadyFinished"
    found = world.task(task)
    assert found is not None
    assert (found.finished, found.agreed) == (1 << world.ranks.index("alice"), RESULT[:34])


@pytest.mark.parametrize(
    ("receipt", "result"), [(NOTHING, RESULT), (h("r"), NOTHING), (h("r"), CONFLICT + "00" * 16)]
)
def test_a_report_of_nothing_is_refused(world: World, receipt: str, result: str) -> None:
    _task, terms = started(world)
    call = calls.finish(terms, receipt, result)  # type: ignore[arg-type]
    assert world.refused(call, "alice").name == "EmptyTerms"


def test_a_party_that_has_finished_cannot_turn_the_task_into_a_failure(world: World) -> None:
    """Else the first to report could spoil a dispute that it would lose."""
    _task, terms = started(world)
    world.do(calls.finish(terms, h("receipt"), RESULT), "alice")
    assert world.refused(calls.fail(terms, Failure.TIMED_OUT), "alice").name == "AlreadyFinished"
    assert world.do(calls.fail(terms, Failure.TIMED_OUT), "bob").names == ["TaskFailed"]


@pytest.mark.parametrize(
    ("blame", "blamed", "error"),
    [
        (Blame.PARTY, None, "NotAParty"),
        (Blame.PARTY, "lab", "NotAParty"),
        (Blame.PARTY, "alice", "BlameMismatch"),
        (Blame.NOBODY, "bob", "BlameMismatch"),
        (Blame.REPORTER, "alice", "BlameMismatch"),
        (Blame.SOME_PARTY, "bob", "BlameMismatch"),
        (Blame.PARTY, "bob", None),
        (Blame.NOBODY, None, None),
        (Blame.REPORTER, None, None),
        (Blame.SOME_PARTY, None, None),
    ],
)
def test_blame_reaches_another_party_by_name_or_nobody(
    world: World, blame: Blame, blamed: str | None, error: str | None
) -> None:
    _task, terms = started(world)
    call = calls.fail(terms, Failure.PEER_UNREACHABLE, blame, world.of(blamed) if blamed else None)
    if error:
        assert world.refused(call, "alice").name == error
    else:
        args = world.do(call, "alice").events[0].args
        assert (args["blame"], args["blamed"]) == (blame, world.of(blamed) if blamed else NOBODY)


# what the requester and the parties say besides


def test_the_requester_acknowledges_the_result_once(world: World) -> None:
    task, terms = started(world)
    assert world.refused(calls.acknowledge(terms, RESULT), "lab").name == "IllegalTransition"
    world.finish_all(terms)
    assert world.refused(calls.acknowledge(terms, RESULT), "alice").name == "NotTheRequester"
    assert world.refused(calls.acknowledge(terms, h("another")), "lab").name == "ResultDiffers"
    world.travel(terms.deadline + 5)  # a result may be opened late
    done = world.do(calls.acknowledge(terms, RESULT), "lab")
    assert done.events[0].args == {"task": task, "requester": world.of("lab"), "result": RESULT}
    found = world.task(task)
    assert found is not None
    assert (found.state, found.acknowledged) == (TaskState.COMPLETED, True)
    assert world.refused(calls.acknowledge(terms, RESULT), "lab").name == "AlreadyAcknowledged"


def test_a_party_says_how_far_it_is_and_nothing_changes(world: World) -> None:
    task, terms = started(world)
    before = world.task(task)
    told = world.do(calls.progress(terms, 2, 1000), "alice").events[0].args
    assert told == {"task": task, "party": world.of("alice"), "step": 2, "permille": 1000}
    assert world.refused(calls.progress(terms, 2, 1001), "alice").name == "InvalidProgress"
    assert world.refused(calls.progress(terms, 2, 1), "lab").name == "NotAParty"
    assert world.task(task) == before


def test_one_transaction_acts_on_many_tasks_or_on_none(world: World) -> None:
    tasks = [world.terms() for _ in range(3)]
    for terms in tasks:
        world.create(terms)
    starts = [calls.start(terms, h("input")) for terms in tasks]
    done = world.do(calls.together(starts), "alice")
    assert done.names == ["GrantConsumed", "TaskStarted"] * 3
    assert world.uses_left(world.grants["alice"]) == 0
    again = world.refused(calls.together([calls.stop(tasks[0]), starts[0]]), "alice")
    assert again.name == "IllegalTransition"
    assert world.uses_left(world.grants["alice"]) == 0


# time


def test_a_task_lives_until_the_second_before_its_deadline(world: World) -> None:
    terms = world.terms()
    task = world.create(terms)
    world.travel(terms.deadline - 1)
    world.do(calls.start(terms, h("input")), "alice")
    assert world.now == terms.deadline - 1
    assert world.refused(calls.start(terms, h("input")), "bob").name == "TaskExpired"
    found = world.task(task)
    assert found is not None
    assert found.state is TaskState.EXPIRED


def test_expiry_is_derived_and_the_client_derives_it_as_the_ledger_does(world: World) -> None:
    terms = world.terms()
    task = world.create(terms)
    early = world.chain.head()
    world.travel(terms.deadline)
    world.engine.mine_blocks()
    late = world.chain.head()
    assert late.timestamp == terms.deadline
    for at, state in ((early, TaskState.AUTHORIZED), (late, TaskState.EXPIRED)):
        found = world.chain.task(task, at=at)
        assert found is not None
        assert found.state is state


@pytest.mark.parametrize("end", ["completed", "refused"])
def test_what_is_over_does_not_expire(world: World, end: str) -> None:
    terms = world.terms()
    task = world.create(terms)
    if end == "refused":
        world.do(calls.refuse(terms, 40), "alice")
    else:
        world.start_all(terms)
        world.finish_all(terms)
    world.travel(terms.deadline + 1000)
    world.engine.mine_blocks()
    found = world.task(task)
    assert found is not None
    assert found.state is TaskState[end.upper()]


def test_a_deadline_of_this_very_second_is_passed(world: World) -> None:
    now = world.now + 1  # the next block's time
    assert world.refused(calls.create(world.terms(deadline=UnixSeconds(now))), "lab").name == "DeadlinePassed"
    world.create(world.terms(deadline=UnixSeconds(world.now + 2)))


# what the chain holds


def test_events_alone_give_back_the_terms(world: World) -> None:
    terms = world.terms(uses=world.terms().uses[:2])  # the third party has no dataset in it
    events = world.do(calls.create(terms), "lab").events
    told = events[0].args
    named = [e.name for e in events[1:]]
    assert named == ["TaskUseNamed", "TaskUseNamed", "TaskPartyNamed", "TaskAuthorized"]
    assert terms_from(events) == terms
    assert (told["spec"], told["purpose"]) == (terms.spec, terms.purpose)
    assert (told["protections"], told["deadline"]) == (terms.protections, terms.deadline)
    assert (told["parties"], told["uses"]) == (3, 2)


def test_the_ledger_gives_the_id_that_is_computed_without_it(world: World) -> None:
    terms = world.terms()
    view = View("TaskLedger", "idOf", calls.create(terms).args)
    (found,) = world.chain.read([view], world.chain.head())
    assert hex32(found) == world.chain.task_id(terms)


CARRY_CALLS = {"multicall", "propose", "execute"}
"""Their bytes are calls of contracts; nothing of them is kept or told but hashes."""


def test_no_contract_takes_or_tells_a_text() -> None:
    """Only fixed-width values: hashes, addresses, numbers. Nothing said in words can get on the chain."""
    from sealtrace.contracts import abi

    def types(entries: list[dict[str, object]]) -> set[str]:
        found: set[str] = set()
        for entry in entries:
            found.add(str(entry["type"]))
            found |= types(entry.get("components", []))  # type: ignore[arg-type]
        return found

    for name in abi.CONTRACTS:
        for entry in abi.artifact(name).abi:
            if entry["type"] in ("function", "event"):
                given = types(list(entry["inputs"]))
                if entry["name"] in CARRY_CALLS:
                    continue
                assert not given & {"string", "bytes", "string[]", "bytes[]"}, (name, entry["name"])
