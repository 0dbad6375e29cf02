"""The replay's rules, contract by contract: what they allow, and each thing they do not."""

from dataclasses import replace

import pytest
from auditor_story import (
    ALGORITHM,
    COMPLETED,
    CONSORTIUM,
    DATASETS,
    FAILED,
    GENESIS_TIME,
    GRANTS,
    MEMBER,
    OFFICE,
    OTHER_ALGORITHM,
    OUTSIDER,
    OWNERS,
    REFUSED,
    REGULATOR_KEY,
    REQUESTER,
    WEEK,
    Story,
    at,
    contract,
    grant_of,
    h,
    honest,
    task_of,
    usual_uses,
)

from sealtrace.auditor.audit import audit
from sealtrace.auditor.report import document, to_html
from sealtrace.contracts.governance import Office, ProposalStatus
from sealtrace.contracts.terms import dataset_id
from sealtrace.protocol.identifiers import NOBODY, NOTHING
from sealtrace.protocol.lifecycle import TaskState
from sealtrace.protocol.records import AlgorithmStatus, DatasetStatus, NodeStatus

A, B, C = OWNERS
NEW, NEXT = "0x" + "a" * 40, "0x" + "b" * 40
REGISTRAR, REGULATOR = Office.REGISTRAR.id, Office.REGULATOR.id
MADE, LATER = h("a bundle"), h("a later bundle")


def findings(story):
    """What is found in a story; nodes are not asked."""
    return audit(replace(story.case(), logs={})).findings


def rules(story):
    return sorted({finding.rule for finding in findings(story)})


# what the rules allow


def test_members_decide_by_vote_and_rules_change_with_it():
    story = Story().found(members=2)
    story.decide("rules").rules(quorum=66, reviews=1)
    story.decide("leaving").change_electorate("MemberRemoved", member=MEMBER)
    assert rules(story) == []
    governance = story.world().governance
    assert (governance.members, governance.rules.quorum_percent, governance.electorate) == ({OFFICE}, 66, 5)


def test_a_vote_that_says_no_does_not_pass():
    story = Story().found(members=2)
    proposal = story.propose("something")
    story.vote(proposal, MEMBER, yes=False)
    governance = story.world().governance
    status = governance.status(governance.proposals[proposal], story.block().timestamp)
    assert status is ProposalStatus.REJECTED
    assert rules(story) == []


def test_one_member_may_leave_everything_to_the_registrar():
    story = Story().found()
    story.mine().admit(NEW).mine().emit("NodeRetired", node=NEW, by=OFFICE)
    assert rules(story) == []


def test_who_opens_no_port_needs_no_certificate():
    story = Story().found()
    story.mine().admit(NEW, 4, tlsFingerprint=NOTHING)
    assert rules(story) == []


def test_several_members_admit_and_retire_by_vote():
    story = Story().found(members=2)
    story.decide("a new one").admit(NEW)
    story.decide("an end").emit("NodeRetired", node=NEW, by=CONSORTIUM)
    assert rules(story) == []


def test_a_vote_suspends_and_only_a_vote_or_the_regulator_reinstates():
    story = Story().found(members=2)
    story.decide("stop").emit("NodeSuspended", node=A, by=CONSORTIUM, held=True, reason=h("why"))
    story.decide("stop it").emit(
        "AlgorithmSuspended", algorithm=ALGORITHM, by=CONSORTIUM, held=True, reason=h("why")
    )
    story.mine().emit("NodeReinstated", node=A, by=REGULATOR_KEY)
    story.decide("go on").emit("AlgorithmReinstated", algorithm=ALGORITHM, by=CONSORTIUM)
    assert rules(story) == []


def test_what_was_held_stays_held_when_it_is_retired():
    story = Story().found()
    story.mine().emit("NodeSuspended", node=A, by=REGULATOR_KEY, held=True, reason=h("why"))
    story.mine().emit("NodeRetired", node=A, by=OFFICE)
    assert rules(story) == []
    node = story.world().nodes[at("NodeRegistry", A)].last
    assert (node.status, node.held) == (NodeStatus.RETIRED, True)


def test_an_office_is_handed_over_to_the_one_it_was_offered_to():
    story = Story().found()
    story.mine().emit("OfficeOffered", office=REGISTRAR, holder=OFFICE, to=OUTSIDER)
    hand_over(story, OFFICE, OUTSIDER)
    story.mine().admit(NEW)
    story.mine().emit("NodeSuspended", node=NEW, by=OUTSIDER, held=False, reason=h("why"))
    assert rules(story) == []
    assert story.world().governance.is_registrar(OUTSIDER)


def hand_over(story, holder, to):
    story.mine().emit("RoleRevoked", role=REGISTRAR, account=holder, sender=to)
    story.emit("RoleGranted", role=REGISTRAR, account=to, sender=to)


def test_an_office_is_given_and_taken_by_vote_and_may_be_laid_down():
    story = Story().found()
    story.decide("appoint").emit("RoleGranted", role=REGULATOR, account=NEW, sender=CONSORTIUM)
    story.decide("dismiss").emit("RoleRevoked", role=REGULATOR, account=NEW, sender=CONSORTIUM)
    story.mine().emit("RoleRevoked", role=REGISTRAR, account=OFFICE, sender=OFFICE)
    assert rules(story) == []


def test_an_algorithm_is_registered_when_all_its_reviewers_agreed():
    story = Story().found()
    story.decide("reviews").rules(reviews=2)
    propose(story, MADE, [A, B])
    review(story, MADE, A)
    review(story, MADE, B).emit("AlgorithmRegistered", algorithm=MADE, provider=REQUESTER)
    propose(story, LATER, [A, B])
    review(story, LATER, B, agreed=False).emit("AlgorithmRejected", algorithm=LATER)
    assert rules(story) == []
    lines = story.world().algorithms
    stands = [lines[at("AlgorithmRegistry", each)].last.status for each in (MADE, LATER)]
    assert stands == [AlgorithmStatus.ACTIVE, AlgorithmStatus.REJECTED]


def propose(story, algorithm, reviewers, said=None):
    story.mine().emit(
        "AlgorithmProposed", algorithm=algorithm, provider=REQUESTER, reviewers=said or len(reviewers)
    )
    for each in reviewers:
        story.emit("ReviewAsked", algorithm=algorithm, reviewer=each)


def review(story, algorithm, by, *, agreed=True, report=None):
    said = {"agreed": agreed, "report": report or h("report")}
    return story.mine().emit("AlgorithmReviewed", algorithm=algorithm, reviewer=by, **said)


def test_a_superseded_dataset_and_algorithm_still_run_under_the_grants_in_being():
    story = Story().found()
    next_version(story)
    story.mine().emit("AlgorithmSuperseded", algorithm=ALGORITHM, by=OTHER_ALGORITHM)
    story.complete()
    assert rules(story) == []
    world = story.world()
    assert world.datasets[at("DatasetRegistry", DATASETS[A])].last.status is DatasetStatus.SUPERSEDED
    assert world.datasets[at("DatasetRegistry", dataset_id(A, h("next")))].last.version == 1


def next_version(story, owner=A, version=1):
    later = dataset_id(owner, h("next"))
    story.mine().dataset(later, owner, h("next"))
    story.emit("DatasetSuperseded", dataset=DATASETS[A], by=later, version=version)


def test_a_grant_is_replaced_and_a_serial_passed():
    story = Story().found()
    story.mine().emit("SerialPassed", owner=A, serial=1)
    story.serials[0, A] += 1
    story.mine().emit("GrantRevoked", grant=GRANTS[A], owner=A)
    later = story.grant_here(A, [B, C], uses=5)
    story.emit("GrantReplaced", grant=GRANTS[A], by=later)
    story.complete(uses=usual_uses({A: later}))
    assert later == grant_of(A, 2)
    assert rules(story) == []
    assert story.world().replaced == {at("GrantRegistry", GRANTS[A]): later}


def test_a_privacy_budget_is_spent_to_the_last_millionth_and_no_further():
    story = Story().found()
    grant = story.grant(A, epsilon=10)
    story.complete("first", uses=usual_uses({A: grant}, 6))
    story.complete("second", uses=usual_uses({A: grant}, 4))
    assert rules(story) == []
    story.complete("third", uses=usual_uses({A: grant}, 1))
    found = findings(story)
    assert {each.rule for each in found} == {"ST-G08"}
    assert "no more than 0 spent" in {each.expected for each in found}


def test_a_node_rotates_its_keys_and_they_are_counted():
    story = Story().found()
    rotate(story, 1)
    rotate(story, 2)
    assert rules(story) == []
    assert story.world().nodes[at("NodeRegistry", A)].last.version == 2


def rotate(story, version, node=A, tls=None):
    keys = {"tlsFingerprint": tls or h("new tls"), "encryptionKey": h("new key")}
    story.mine().emit("NodeKeysRotated", node=node, version=version, **keys)


def test_a_task_that_was_approved_makes_progress_and_is_stopped_by_a_party():
    story = Story().found(approvalRequired=True)
    task = story.create("approved", approved=0)
    for owner in OWNERS:
        story.mine().emit("TaskApproved", task=task, party=owner)
    story.emit("TaskAuthorized", task=task)
    story.start_all(task)
    story.progress(task, A).progress(task, A, 900)
    story.mine().emit("TaskCancelled", task=task, by=B)
    story.wipe(task)
    assert rules(story) == []
    found = story.world().tasks[task]
    assert (found.state, found.progress[A].args["permille"]) == (TaskState.CANCELLED, 900)


def test_parties_start_in_one_transaction_and_each_use_is_its_own_starts():
    story = Story().found()
    task = story.create("together")
    story.mine()
    for owner in OWNERS:
        story.spend(task, owner)
        story.emit("TaskStarted", task=task, party=owner, inputCommitment=story.commitment(task, owner))
    story.emit("TaskRunning", task=task)
    assert rules(story) == []
    assert [len(start.consumed) for start in story.world().tasks[task].starts.values()] == [1, 1, 1]


def test_several_tasks_are_created_in_one_transaction():
    story = Story().found()
    story.create("one")
    story.create("two", here=True)
    assert rules(story) == []


# generations


def two_generations():
    """The consortium announces new contracts and closes the former ledger; a task begun there goes on."""
    story = Story().found(members=2)
    story.complete("old")
    running = story.create("begun")
    story.decide("anew").announce(1)
    story.emit("LedgerClosed", by=CONSORTIUM, by_contract=contract("TaskLedger"))
    story.carry_out(running)
    story.generation = 1
    return story


def equipped():
    """The same, with everybody admitted at the new contracts."""
    story = two_generations()
    for node, roles in [*((owner, 3) for owner in OWNERS), (REQUESTER, 12)]:
        story.decide(f"again {node}").admit(node, roles)
    story.mine().emit("AlgorithmRegistered", algorithm=ALGORITHM, provider=REQUESTER)
    for owner in OWNERS:
        story.mine().dataset(DATASETS[owner], owner, h("commitment" + owner))
    return story


def grants_anew(story):
    return {owner: story.grant(owner) for owner in OWNERS}


def test_the_replay_goes_on_across_generations():
    story = equipped()
    grants = grants_anew(story)
    task = story.complete("new", uses=usual_uses(grants))
    story.acknowledge(task)
    result = audit(story.case())
    assert result.findings == ()
    assert [row.check.rule for row in result.rows if row.undetermined] == []
    assert set(grants.values()).isdisjoint(GRANTS.values())
    world = story.world()
    ledgers = [world.tasks[each].ledger for each in (task_of("old"), task)]
    assert ledgers == [contract("TaskLedger"), contract("TaskLedger", 1)]
    assert [log.size for log in world.anchors_of(A)] == sorted(log.size for log in world.anchors_of(A))


def test_a_report_over_two_generations_shows_both():
    story = equipped()
    story.complete("new", uses=usual_uses(grants_anew(story)))
    report = document(audit(story.case()))
    assert [each["number"] for each in report["annex"]["generations"]] == [0, 1]
    assert report["annex"]["generations"][0]["closed_at"] is not None
    assert len(report["annex"]["nodes"]) == 8
    assert contract("TaskLedger", 1) in to_html(report)


def test_a_grant_of_a_former_generation_is_none_at_a_later_ledger():
    story = equipped()
    story.complete("new", uses=usual_uses(grants_anew(story) | {A: GRANTS[A]}))
    assert rules(story) == ["ST-G01", "ST-T07"]


def test_who_was_suspended_at_the_former_contracts_is_judged_by_the_task_s_own():
    story = equipped()
    grants = grants_anew(story)
    story.mine().emit(
        "NodeSuspended",
        by_contract=contract("NodeRegistry"),
        node=A,
        by=OFFICE,
        held=False,
        reason=h("why"),
    )
    story.complete("new", uses=usual_uses(grants))
    assert rules(story) == []


def test_what_is_stored_is_compared_where_it_was_emitted():
    story = equipped()
    case = replace(story.case(), logs={})
    key = at("NodeRegistry", A, 1)
    nodes = {**case.snapshot.nodes, key: replace(case.snapshot.nodes[key], version=1)}
    (found,) = audit(replace(case, snapshot=replace(case.snapshot, nodes=nodes))).findings
    assert (found.rule, found.object) == ("ST-S01", f"node {A} of generation 1")


def test_no_task_is_created_in_a_closed_ledger():
    story = two_generations()
    story.generation = 0
    story.create("late", uses=[(0, *usual_uses()[0][1:4], 0)])
    (found,) = findings(story)
    assert (found.rule, found.observed) == ("ST-T07", "a new one")


# what the rules do not allow

STORED = {
    "consortium": lambda s: {"consortium": replace(s.consortium, electorate=9)},
    "office": lambda s: {"offices": frozenset()},
    "proposal": lambda s: {"proposals": dict.fromkeys(s.proposals)},
    "generation": lambda s: {"generations": ()},
    "closing": lambda s: {"closed": dict.fromkeys(s.closed, True)},
    "serial": lambda s: {"serials": {key: n + 1 for key, n in s.serials.items()}},
    "algorithm": lambda s: {"algorithms": {k: replace(v, agreed=1) for k, v in s.algorithms.items()}},
    "dataset": lambda s: {"datasets": {k: replace(v, version=1) for k, v in s.datasets.items()}},
    "grant": lambda s: {"grants": {k: replace(v, participants=(A,)) for k, v in s.grants.items()}},
    "node": lambda s: {"nodes": {k: replace(v, held=True) for k, v in s.nodes.items()}},
    "task": lambda s: {"tasks": {k: replace(v, agreed="0x12") for k, v in s.tasks.items()}},
    "checkpoint": lambda s: {"checkpoints": dict.fromkeys(s.checkpoints)},
}


@pytest.mark.parametrize("kind", STORED)
def test_storage_that_differs_is_found_by_what_it_is_of(kind):
    case = replace(honest().case(), logs={})
    changed = replace(case.snapshot, **STORED[kind](case.snapshot))
    found = audit(replace(case, snapshot=changed)).findings
    assert {(each.rule, each.object.split()[0]) for each in found} == {("ST-S01", kind)}


def then(name, **args):
    """An honest history of two members, and this."""
    return lambda: honest().mine().emit(name, **args)


def then_voted(name, **args):
    """The same, by vote."""
    return lambda: honest().decide("it").emit(name, **args)


def founded(act, **how):
    """A network just founded, and what ``act`` does to it."""

    def tell():
        story = Story().found(**how)
        act(story)
        return story

    return tell


def too_few_votes(story):
    proposal = story.propose("it")
    story.execute(proposal)


def too_late(story):
    proposal = story.propose("it")
    story.wait(2 * WEEK)
    story.execute(proposal)


def vote_after_the_end(story):
    proposal = story.propose("it")
    story.wait(WEEK)
    story.vote(proposal, MEMBER)


def stale(story):
    proposal = story.propose("it")
    story.decide("rules").rules(reviews=1)
    story.execute(proposal)


def executed_twice(story):
    story.decide("it")
    story.execute(h("proposalit"))


def own_vote_missing(story):
    said = {"actions": h("actions"), "description": h("why")}
    story.mine().emit("Proposed", proposal=h("quiet"), proposer=OFFICE, **said)


def voted_twice(story):
    story.vote(story.propose("it"), OFFICE)


def another_votes_twice(story):
    proposal = story.propose("it")
    story.vote(proposal, MEMBER, yes=False)
    story.vote(proposal, MEMBER, yes=False)


def own_vote_later(story):
    own_vote_missing(story)
    story.vote(h("quiet"), OFFICE)


def handed_over_by_a_third(story):
    story.mine().emit("OfficeOffered", office=REGISTRAR, holder=OFFICE, to=NEW)
    story.mine().emit("RoleRevoked", role=REGISTRAR, account=OFFICE, sender=NEW)
    story.emit("RoleGranted", role=REGISTRAR, account=NEW, sender=OUTSIDER)


def superseded_by_one_registered_before(story):
    later = dataset_id(A, h("next"))
    story.mine().dataset(later, A, h("next"))
    story.mine().emit("DatasetSuperseded", dataset=DATASETS[A], by=later, version=1)


def superseded_when_withdrawn(story):
    story.mine().emit("DatasetWithdrawn", dataset=DATASETS[A], owner=A)
    next_version(story)


def granted_for_a_revoked_algorithm(story):
    story.mine().emit("AlgorithmRevoked", algorithm=ALGORITHM, by=REQUESTER)
    story.grant(A)


def granted_over_a_withdrawn_dataset(story):
    story.mine().emit("DatasetWithdrawn", dataset=DATASETS[A], owner=A)
    story.grant(A)


def granted_while_suspended(story):
    story.mine().emit("NodeSuspended", **suspension())
    story.grant(A)


def replaced_by_one_issued_before(story):
    later = story.grant(A)
    story.mine().emit("GrantRevoked", grant=GRANTS[A], owner=A)
    story.emit("GrantReplaced", grant=GRANTS[A], by=later)


def replaced_by_anothers(story):
    story.mine().emit("GrantRevoked", grant=GRANTS[A], owner=A)
    story.emit("GrantReplaced", grant=GRANTS[A], by=story.grant_here(B))


def offered_to_another(story):
    story.mine().emit("OfficeOffered", office=REGISTRAR, holder=OFFICE, to=NEW)
    hand_over(story, OFFICE, OUTSIDER)


def offer_taken_back(story):
    for to in (OUTSIDER, NOBODY):
        story.mine().emit("OfficeOffered", office=REGISTRAR, holder=OFFICE, to=to)
    hand_over(story, OFFICE, OUTSIDER)


def reviewed(*acts):
    """Reviews are due, and ``acts`` happen."""

    def act(story):
        story.decide("reviews").rules(reviews=2)
        for each in acts:
            each(story)

    return founded(act)


def registered(story):
    story.mine().emit("AlgorithmRegistered", algorithm=MADE, provider=REQUESTER)


def held_then_lifted(name, **args):
    def act(story):
        story.mine().emit(f"{name}Suspended", by=REGULATOR_KEY, held=True, reason=h("why"), **args)
        story.mine().emit(f"{name}Reinstated", by=OFFICE, **args)

    return founded(act)


def superseded_twice(story):
    story.mine().emit("AlgorithmSuperseded", algorithm=ALGORITHM, by=OTHER_ALGORITHM)
    story.mine().emit("AlgorithmSuperseded", algorithm=OTHER_ALGORITHM, by=ALGORITHM)


def superseded_by_anothers(story):
    story.mine().admit(NEW, 8)
    story.mine().emit("AlgorithmRegistered", algorithm=MADE, provider=NEW)
    story.mine().emit("AlgorithmSuperseded", algorithm=ALGORITHM, by=MADE)


def superseded_by_a_suspended_one(story):
    said = {"by": OFFICE, "held": False, "reason": h("why")}
    story.mine().emit("AlgorithmSuspended", algorithm=OTHER_ALGORITHM, **said)
    story.mine().emit("AlgorithmSuperseded", algorithm=ALGORITHM, by=OTHER_ALGORITHM)


def superseded_again(story):
    story.mine().emit("AlgorithmRegistered", algorithm=MADE, provider=REQUESTER)
    story.mine().emit("AlgorithmSuperseded", algorithm=ALGORITHM, by=OTHER_ALGORITHM)
    story.mine().emit("AlgorithmSuperseded", algorithm=ALGORITHM, by=MADE)


def granted_over_a_superseded_dataset(story):
    next_version(story)
    story.grant(A)


def granted_for_a_superseded_algorithm(story):
    story.mine().emit("AlgorithmSuperseded", algorithm=ALGORITHM, by=OTHER_ALGORITHM)
    story.grant(A)


def replaced_and_not_revoked(story):
    later = story.grant(A)
    story.emit("GrantReplaced", grant=GRANTS[A], by=later)


def participant_added_later(story):
    story.mine().emit("GrantParticipant", grant=GRANTS[A], participant=B)


def participant_missing(story):
    story.bend = lambda name, args: None if name == "GrantParticipant" else args
    story.grant(A, [B])


def party_added_later(story):
    task = story.create("it")
    story.mine().emit("TaskPartyNamed", task=task, party=OUTSIDER)


def party_missing(story):
    story.bend = lambda name, args: None if name == "TaskPartyNamed" else args
    story.create("it", uses=usual_uses()[:2])


def named_twice(story, name):
    story.create("it", uses=usual_uses()[:2])
    args = next(each.args for each in reversed(story.events) if each.name == name)
    story.emit(name, **args)


def a_use_answered_for_by_another(story):
    story.bend = lambda name, args: (
        args | {"party": B} if name == "TaskUseNamed" and args["party"] == A else args
    )
    story.create("it")


def one_grant_twice(story):
    story.create("it", uses=[*usual_uses(), usual_uses()[0]])


def no_time_left(story):
    story.create("it", deadline=GENESIS_TIME + 5)


def of_a_running_task(*acts):
    def act(story):
        task = story.create("it")
        story.start_all(task)
        for name, args in acts:
            story.mine().emit(name, task=task, **args)
        story.wipe(task)

    return founded(act)


def of_an_authorized_task(*acts):
    def act(story):
        task = story.create("it")
        for name, args in acts:
            story.mine().emit(name, task=task, **args)
        story.wipe(task)

    return founded(act)


def acknowledged_another_result(story):
    story.acknowledge(story.complete(), result=h("another"))


def failing(**args):
    usual = {"party": A, "reason": 1, "blame": 0, "blamed": NOBODY}
    return of_a_running_task(("TaskFailed", usual | args))


def suspension(**args):
    return {"node": A, "by": OFFICE, "held": False, "reason": h("why")} | args


NOT_ALLOWED = {
    # members and rules
    "ST-V01 a member leaves without a vote": then("MemberRemoved", member=MEMBER, electorate=4),
    "ST-V01 the last member leaves": founded(
        lambda s: s.decide("it").change_electorate("MemberRemoved", member=OFFICE)
    ),
    "ST-V01 a member twice": founded(lambda s: s.decide("it").join(OFFICE)),
    "ST-V01 rules without a vote": founded(lambda s: s.mine().rules()),
    "ST-V01 a quorum below half": founded(lambda s: s.decide("it").rules(quorum=40)),
    "ST-V01 an electorate that is not counted": then_voted("MemberAdded", member=NEW, electorate=9),
    # proposals
    "ST-V02 proposed by an outsider": founded(lambda s: s.propose("it", by=OUTSIDER)),
    "ST-V02 proposed twice": founded(lambda s: (s.propose("it"), s.propose("it"))),
    "ST-V02 the proposer's vote is missing": founded(own_vote_missing),
    "ST-V02 a second vote": founded(voted_twice, members=2),
    "ST-V02 a vote after the end": founded(vote_after_the_end, members=2),
    "ST-V02 a vote on nothing": then("Voted", proposal=h("none"), member=OFFICE, yes=True),
    "ST-V02 executed with too few votes": founded(too_few_votes, members=2),
    "ST-V02 executed too late": founded(too_late),
    "ST-V02 executed when stale": founded(stale),
    "ST-V02 executed twice": founded(executed_twice),
    "ST-V02 executed and never proposed": then("Executed", proposal=h("none"), by=OUTSIDER),
    "ST-V01 no time to vote": founded(lambda s: s.decide("it").rules(votingPeriod=0)),
    "ST-V01 no time to execute": founded(lambda s: s.decide("it").rules(executionPeriod=0)),
    "ST-V02 an outsider votes while it is open": founded(
        lambda s: s.vote(s.propose("it"), OUTSIDER), members=2
    ),
    "ST-V02 another's second vote": founded(another_votes_twice, members=3),
    "ST-V02 the proposer votes later": founded(own_vote_later, members=2),
    # offices
    "ST-V03 taken by somebody while a vote is executed": then_voted(
        "RoleRevoked", role=REGISTRAR, account=OFFICE, sender=OUTSIDER
    ),
    "ST-V03 handed over by a third": founded(handed_over_by_a_third),
    "ST-V03 taken by somebody": then("RoleRevoked", role=REGISTRAR, account=OFFICE, sender=OUTSIDER),
    "ST-V03 given by the holder": then("RoleGranted", role=REGISTRAR, account=NEW, sender=OFFICE),
    "ST-V03 given without a vote": then("RoleGranted", role=REGISTRAR, account=NEW, sender=CONSORTIUM),
    "ST-V03 an office that is none": then_voted("RoleGranted", role=NOTHING, account=NEW, sender=CONSORTIUM),
    "ST-V03 taken from nobody": then_voted("RoleRevoked", role=REGISTRAR, account=NEW, sender=CONSORTIUM),
    "ST-V03 offered by another": then("OfficeOffered", office=REGISTRAR, holder=OUTSIDER, to=NEW),
    "ST-V03 offered to another": founded(offered_to_another),
    "ST-V03 an offer taken back": founded(offer_taken_back),
    "ST-V03 an administrator": then(
        "RoleAdminChanged", role=REGISTRAR, previousAdminRole=NOTHING, newAdminRole=REGULATOR
    ),
    # generations
    "ST-V04 announced without a vote": founded(lambda s: s.mine().announce(1)),
    "ST-V04 announced out of turn": founded(lambda s: s.decide("it").announce(2)),
    "ST-V04 served without a vote": then("LedgerServed", ledger=OUTSIDER),
    "ST-V04 closed by somebody": then_voted("LedgerClosed", by=OUTSIDER),
    "ST-V04 closed twice": founded(
        lambda s: s.decide("it").emit("LedgerClosed", by=CONSORTIUM).emit("LedgerClosed", by=CONSORTIUM)
    ),
    "ST-V04 a contract nobody announced": founded(
        lambda s: s.mine().emit("AlgorithmRejected", algorithm=MADE, by_contract=OUTSIDER)
    ),
    # nodes
    "ST-N01 admitted without a vote": founded(lambda s: s.mine().admit(NEW), members=2),
    "ST-N01 retired without a vote": then("NodeRetired", node=A, by=OFFICE),
    "ST-N01 retired by the regulator": founded(
        lambda s: s.mine().emit("NodeRetired", node=A, by=REGULATOR_KEY)
    ),
    "ST-N01 retired twice": founded(
        lambda s: s.mine().emit("NodeRetired", node=A, by=OFFICE).emit("NodeRetired", node=A, by=OFFICE)
    ),
    "ST-N01 admitted twice": founded(lambda s: s.mine().admit(A)),
    "ST-N01 retired and never admitted": founded(lambda s: s.mine().emit("NodeRetired", node=NEW, by=OFFICE)),
    "ST-N01 retired by a vote that was none": founded(
        lambda s: s.mine().emit("NodeRetired", node=A, by=CONSORTIUM)
    ),
    "ST-N01 suspended twice by the regulator": founded(
        lambda s: (
            s.mine()
            .emit("NodeSuspended", **suspension(by=REGULATOR_KEY, held=True))
            .emit("NodeSuspended", **suspension(by=REGULATOR_KEY, held=True))
        )
    ),
    "ST-N01 keys of one suspended": founded(
        lambda s: rotate(s.mine().emit("NodeSuspended", **suspension()), 1)
    ),
    "ST-N01 roles that are none": founded(lambda s: s.mine().admit(NEW, 32)),
    "ST-N01 no certificate": founded(lambda s: s.mine().admit(NEW, tlsFingerprint=NOTHING)),
    "ST-N01 no encryption key": founded(lambda s: s.mine().admit(NEW, 4, encryptionKey=NOTHING)),
    "ST-N01 held by a registrar": then("NodeSuspended", **suspension(held=True)),
    "ST-N01 not held by the regulator": then("NodeSuspended", **suspension(by=REGULATOR_KEY)),
    "ST-N01 suspended by somebody": then("NodeSuspended", **suspension(by=B)),
    "ST-N01 suspended by a vote that was none": then("NodeSuspended", **suspension(by=CONSORTIUM, held=True)),
    "ST-N01 suspended without a reason": then("NodeSuspended", **suspension(reason=NOTHING)),
    "ST-N01 a held one reinstated by the registrar": held_then_lifted("Node", node=A),
    "ST-N01 key versions skipped": founded(lambda s: rotate(s, 2)),
    "ST-N01 keys of nobody": founded(lambda s: rotate(s, 1, NEW)),
    "ST-N01 an empty certificate": founded(lambda s: rotate(s, 1, tls=NOTHING)),
    # algorithms
    "ST-A02 registered without a review": reviewed(registered),
    "ST-A02 registered before all agreed": reviewed(
        lambda s: propose(s, MADE, [A, B]), lambda s: review(s, MADE, A), registered
    ),
    "ST-A02 fewer reviewers than needed": reviewed(lambda s: propose(s, MADE, [A])),
    "ST-A02 a reviewer who was not named": reviewed(lambda s: propose(s, MADE, [A, B], 3)),
    "ST-A02 reviewers out of order": reviewed(lambda s: propose(s, MADE, [B, A])),
    "ST-A02 a reviewer of its own": reviewed(lambda s: propose(s, MADE, [A, REQUESTER])),
    "ST-A02 a reviewer from outside": reviewed(lambda s: propose(s, MADE, [A, OUTSIDER])),
    "ST-A02 a review nobody asked for": reviewed(
        lambda s: propose(s, MADE, [A, B]), lambda s: review(s, MADE, C)
    ),
    "ST-A02 a second review": reviewed(
        lambda s: propose(s, MADE, [A, B]), lambda s: review(s, MADE, A), lambda s: review(s, MADE, A)
    ),
    "ST-A02 a review without a report": reviewed(
        lambda s: propose(s, MADE, [A, B]), lambda s: review(s, MADE, A, report=NOTHING)
    ),
    "ST-A02 a reviewer added later": reviewed(
        lambda s: propose(s, MADE, [A, B]),
        lambda s: s.mine().emit("ReviewAsked", algorithm=MADE, reviewer=C),
    ),
    "ST-A02 rejected by nobody": reviewed(
        lambda s: propose(s, MADE, [A, B]), lambda s: s.mine().emit("AlgorithmRejected", algorithm=MADE)
    ),
    "ST-A02 registered by somebody": then("AlgorithmRegistered", algorithm=MADE, provider=OUTSIDER),
    "ST-A02 registered by an owner": then("AlgorithmRegistered", algorithm=MADE, provider=A),
    "ST-A02 no digest": then("AlgorithmRegistered", algorithm=NOTHING, provider=REQUESTER),
    "ST-A02 registered for another": reviewed(
        lambda s: propose(s, MADE, [A, B]),
        lambda s: review(s, MADE, A),
        lambda s: review(s, MADE, B).emit("AlgorithmRegistered", algorithm=MADE, provider=C),
    ),
    "ST-A02 registered after its reviews": reviewed(
        lambda s: propose(s, MADE, [A, B]),
        lambda s: review(s, MADE, A),
        lambda s: review(s, MADE, B),
        registered,
    ),
    "ST-A02 a review of what is rejected": reviewed(
        lambda s: propose(s, MADE, [A, B]),
        lambda s: review(s, MADE, A, agreed=False).emit("AlgorithmRejected", algorithm=MADE),
        lambda s: review(s, MADE, B),
    ),
    "ST-A02 a review by one suspended": reviewed(
        lambda s: propose(s, MADE, [A, B]),
        lambda s: s.mine().emit("NodeSuspended", **suspension()),
        lambda s: review(s, MADE, A),
    ),
    "ST-A02 rejected though it is registered": then("AlgorithmRejected", algorithm=ALGORITHM),
    "ST-A02 revoked twice": founded(
        lambda s: (
            s.mine()
            .emit("AlgorithmRevoked", algorithm=ALGORITHM, by=REQUESTER)
            .emit("AlgorithmRevoked", algorithm=ALGORITHM, by=REQUESTER)
        )
    ),
    "ST-A02 revoked though it is rejected": reviewed(
        lambda s: propose(s, MADE, [A, B]),
        lambda s: review(s, MADE, A, agreed=False).emit("AlgorithmRejected", algorithm=MADE),
        lambda s: s.mine().emit("AlgorithmRevoked", algorithm=MADE, by=REQUESTER),
    ),
    "ST-A02 superseded by another's": founded(superseded_by_anothers),
    "ST-A02 superseded by a suspended one": founded(superseded_by_a_suspended_one),
    "ST-A02 superseded and superseded again": founded(superseded_again),
    "ST-A02 superseded by itself": then("AlgorithmSuperseded", algorithm=ALGORITHM, by=ALGORITHM),
    "ST-A02 superseded twice": founded(superseded_twice),
    "ST-A02 superseded by nothing": then("AlgorithmSuperseded", algorithm=ALGORITHM, by=MADE),
    "ST-A02 a held one reinstated by the registrar": held_then_lifted("Algorithm", algorithm=ALGORITHM),
    "ST-A02 proposed twice": founded(lambda s: propose(s, ALGORITHM, [A])),
    "ST-A02 registered twice": founded(
        lambda s: s.mine().emit("AlgorithmRegistered", algorithm=ALGORITHM, provider=REQUESTER)
    ),
    # datasets
    "ST-D02 registered by no owner": founded(
        lambda s: s.mine().dataset(dataset_id(REQUESTER, h("c")), REQUESTER, h("c"))
    ),
    "ST-D02 registered twice": founded(lambda s: s.mine().dataset(DATASETS[A], A, h("commitment" + A))),
    "ST-D02 superseded by one registered before": founded(superseded_by_one_registered_before),
    "ST-D02 superseded when withdrawn": founded(superseded_when_withdrawn),
    "ST-D02 withdrawn and never registered": then("DatasetWithdrawn", dataset=h("none"), owner=A),
    "ST-D02 withdrawn twice": founded(
        lambda s: (
            s.mine()
            .emit("DatasetWithdrawn", dataset=DATASETS[A], owner=A)
            .emit("DatasetWithdrawn", dataset=DATASETS[A], owner=A)
        )
    ),
    "ST-D02 a version skipped": founded(lambda s: next_version(s, version=2)),
    "ST-D02 another owner's version": founded(lambda s: next_version(s, owner=B)),
    "ST-D02 superseded by an old one": then(
        "DatasetSuperseded", dataset=DATASETS[A], by=DATASETS[B], version=1
    ),
    "ST-D02 an empty commitment": founded(lambda s: s.mine().dataset(dataset_id(A, NOTHING), A, NOTHING)),
    # grants
    "ST-G07 for a revoked algorithm": founded(granted_for_a_revoked_algorithm),
    "ST-G07 for an unknown algorithm": founded(lambda s: s.grant(A, algorithm=MADE)),
    "ST-G07 for no requester": founded(lambda s: s.grant(A, requester=B)),
    "ST-G07 over a withdrawn dataset": founded(granted_over_a_withdrawn_dataset),
    "ST-G07 by a suspended owner": founded(granted_while_suspended),
    "ST-G07 without a protection": founded(lambda s: s.grant(A, protections=0)),
    "ST-G07 revoked twice": founded(
        lambda s: (
            s.mine()
            .emit("GrantRevoked", grant=GRANTS[A], owner=A)
            .emit("GrantRevoked", grant=GRANTS[A], owner=A)
        )
    ),
    "ST-G07 revoked and never issued": then("GrantRevoked", grant=h("none"), owner=A),
    "ST-G07 revoked by another": then("GrantRevoked", grant=GRANTS[A], owner=B),
    "ST-G07 a participant of no grant": then("GrantParticipant", grant=h("none"), participant=B),
    "ST-G07 replaced by one issued before": founded(replaced_by_one_issued_before),
    "ST-G07 replaced by another's": founded(replaced_by_anothers),
    "ST-G07 over a superseded dataset": founded(granted_over_a_superseded_dataset),
    "ST-G07 for a superseded algorithm": founded(granted_for_a_superseded_algorithm),
    "ST-G07 without a purpose": founded(lambda s: s.grant(A, purpose=NOTHING)),
    "ST-G07 without a use": founded(lambda s: s.grant(A, uses=0)),
    "ST-G07 a window that is over": founded(lambda s: s.grant(A, expiresAt=GENESIS_TIME + 1)),
    "ST-G07 replaced and not revoked": founded(replaced_and_not_revoked),
    "ST-G07 a serial skipped": then("SerialPassed", owner=A, serial=2),
    "ST-G07 a participant added later": founded(participant_added_later),
    "ST-G07 a participant not named": founded(participant_missing),
    "ST-G07 a participant twice": founded(lambda s: s.grant(A, [B, B])),
    "ST-G07 participants out of order": founded(lambda s: s.grant(A, [C, B])),
    # tasks
    "ST-T07 a party added later": founded(party_added_later),
    "ST-I01+ST-T07 a party not named": founded(party_missing),
    "ST-T07 a party named twice": founded(lambda s: named_twice(s, "TaskPartyNamed")),
    "ST-T07 a use named twice": founded(lambda s: named_twice(s, "TaskUseNamed")),
    "ST-I01+ST-T07 a use answered for by another": founded(a_use_answered_for_by_another),
    "ST-T07 one grant twice": founded(one_grant_twice),
    "ST-T01+ST-T07 no time left": founded(no_time_left),
    "ST-T06 acknowledged by a party": founded(lambda s: s.acknowledge(s.complete(), by=A)),
    "ST-T06 acknowledged twice": then(
        "TaskAcknowledged", task=COMPLETED, requester=REQUESTER, result=h("it")
    ),
    "ST-T06 another result acknowledged": founded(acknowledged_another_result),
    "ST-T06 a failure acknowledged": then(
        "TaskAcknowledged", task=FAILED, requester=REQUESTER, result=h("it")
    ),
    "ST-T02 authorized later": founded(lambda s: authorized_later(s)),
    "ST-A02 rejected later": reviewed(
        lambda s: propose(s, MADE, [A, B]),
        lambda s: review(s, MADE, A, agreed=False),
        lambda s: s.mine().emit("AlgorithmRejected", algorithm=MADE),
    ),
    "ST-T02 progress beyond its end": of_a_running_task(
        ("TaskProgress", {"party": A, "step": 0, "permille": 1001})
    ),
    "ST-T02 progress of another": of_a_running_task(
        ("TaskProgress", {"party": OUTSIDER, "step": 0, "permille": 1})
    ),
    "ST-T01 progress before it runs": of_an_authorized_task(
        ("TaskProgress", {"party": A, "step": 0, "permille": 1})
    ),
    "ST-T01 a party stops what does not run": of_an_authorized_task(("TaskCancelled", {"by": A})),
    "ST-T02 refused without a reason": of_an_authorized_task(("TaskRefused", {"party": A, "reason": 0})),
    "ST-T02 failed without a reason": failing(reason=0),
    "ST-T02 blame on oneself": failing(blame=2, blamed=A),
    "ST-T02 blame on an outsider": failing(blame=2, blamed=OUTSIDER),
    "ST-T02 a name without blame": failing(blamed=B),
    "ST-T02 a start that commits to nothing": lambda: committed_to_nothing(),
    "ST-T02+ST-T04 disputed without a dispute": of_a_running_task(("TaskDisputed", {})),
    "ST-T02 an empty receipt": of_a_running_task(
        ("TaskFinished", {"party": A, "receipt": NOTHING, "result": h("it")})
    ),
    "ST-T02 an empty result": of_a_running_task(
        ("TaskFinished", {"party": A, "receipt": h("it"), "result": NOTHING})
    ),
    "ST-C01 a log that did not grow": founded(lambda s: anchored(s, (4, 0), (4, 4))),
    "ST-C01 not from the size before": founded(lambda s: anchored(s, (4, 0), (6, 5))),
    "ST-C01 by somebody": founded(lambda s: anchored(s, (4, 0), node=OUTSIDER)),
    "ST-C01 an empty root": founded(
        lambda s: s.mine().emit("CheckpointAnchored", node=A, size=1, root=NOTHING, previousSize=0)
    ),
}


def anchored(story, *sizes, node=A):
    for size, previous in sizes:
        said = {"size": size, "root": h("root"), "previousSize": previous}
        story.mine().emit("CheckpointAnchored", node=node, **said)


def authorized_later(story):
    story.bend = lambda name, args: None if name == "TaskAuthorized" else args
    task = story.create("it")
    story.bend = lambda name, args: args
    story.mine().emit("TaskAuthorized", task=task)


def committed_to_nothing():
    story = Story(
        lambda name, args: args | {"inputCommitment": NOTHING} if name == "TaskStarted" else args
    ).found()
    story.start(story.create("it"), A)
    return story


@pytest.mark.parametrize("name", NOT_ALLOWED)
def test_what_the_rules_do_not_allow_is_found_as_that_and_nothing_else(name):
    assert rules(NOT_ALLOWED[name]()) == name.split()[0].split("+")


def test_an_approval_of_a_party_that_had_agreed_by_its_grant_is_irregular():
    story = Story().found()
    approving = story.grant(A, approvalRequired=True)
    task = story.create("it", approved=6, uses=usual_uses({A: approving}))
    story.mine().emit("TaskApproved", task=task, party=B)
    assert rules(story) == ["ST-T02"]


def test_two_results_that_the_ledger_does_not_tell_apart_are_still_two():
    story, one = Story().found(), h("one")
    emit = story.emit

    def as_the_ledger_sees_it(name, **args):
        return emit("TaskCompleted", result=one, **args) if name == "TaskDisputed" else emit(name, **args)

    story.emit = as_the_ledger_sees_it
    story.complete(results={A: one, B: one, C: one[:50] + "0" * 16})
    assert rules(story) == ["ST-T03"]


def test_a_use_spent_at_another_generation_s_registry_is_not_the_start_s():
    story, there = Story().found(members=2), contract("GrantRegistry", 1)
    story.decide("anew").announce(1)
    task, emit = story.create("it"), story.emit
    story.emit = lambda name, **args: emit(
        name, by_contract=there if name == "GrantConsumed" else None, **args
    )
    story.start(task, A)
    assert rules(story) == ["ST-G02"]


def test_an_event_whose_emitter_is_another_contract_moves_no_task():
    story = two_generations()
    story.mine().emit("TaskCancelled", task=task_of("old"), by=REQUESTER)
    assert rules(story) == ["ST-T01"]
    assert story.world().tasks[task_of("old")].state is TaskState.COMPLETED
    assert REFUSED not in story.world().tasks
