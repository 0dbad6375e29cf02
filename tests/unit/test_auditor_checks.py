"""Every check on an honest history, and on one that is violated in just one way."""

from dataclasses import replace

import pytest
from auditor_story import (
    ALGORITHM,
    COMPLETED,
    DATASETS,
    FAILED,
    GENESIS_TIME,
    GRANTS,
    OFFICE,
    OTHER_ALGORITHM,
    OWNERS,
    PURPOSE,
    REFUSED,
    REGULATOR_KEY,
    REQUESTER,
    Story,
    h,
    honest,
)

from sealtrace.auditor.audit import Result, audit
from sealtrace.auditor.case import Level, Proof, ProofProblem
from sealtrace.auditor.checks import catalogue
from sealtrace.protocol.evidence import Kind
from sealtrace.protocol.identifiers import NOBODY

A, B, C = OWNERS


def rules(case):
    return sorted({finding.rule for finding in audit(case).findings})


def test_an_honest_history_has_no_finding_and_nothing_undetermined():
    result = audit(honest().case())
    assert result.findings == ()
    assert [(row.check.rule, row.missing) for row in result.rows if row.undetermined] == []
    assert result.result is Result.CLEAN


def test_every_check_of_the_catalogue_had_something_to_look_at():
    looked = {row.check.rule for row in audit(honest().case()).rows if row.satisfied}
    assert {each.rule for each in catalogue()} - looked == {"ST-R01"}  # no refusal for a reason on chain


# violated histories: each returns a case in which one thing is wrong


def bent(name, change, *, times=1, where=lambda args: True):
    """An honest history in which the first ``times`` events called ``name`` are changed."""
    left = [times]

    def bend(called, args):
        if called != name or not where(args) or left[0] == 0:
            return args
        left[0] -= 1
        return change(args)

    return honest(bend=bend).case()


def twisted(kind, change, *, node=A, task_only=True):
    """An honest history in which ``node`` writes its first record of ``kind`` otherwise."""
    left = [1]

    def twist(who, called, body):
        if called != kind.value or who != node or left[0] == 0:
            return body
        left[0] -= 1
        return change(body)

    return honest(twist=twist).case()


def before_the_starts(*acts, **grant):
    """A history in which ``acts`` happen after a task was authorized and before it starts."""
    story = Story().found(**grant)

    def bend(name, args):
        if name == "GrantConsumed" and acts and not done:
            done.append(True)
            index, story.log_index = story.log_index, 0
            story.number += len(acts) + 1
            for back, (event, values) in enumerate(acts):
                story.number -= len(acts) + 1 - back
                story.emit(event, **values)
                story.number += len(acts) + 1 - back
            story.log_index = index
        return args

    done = []
    story.bend = bend
    story.complete()
    return story.case()


def revoked():
    return before_the_starts(("GrantRevoked", {"grant": GRANTS[A], "owner": A}))


def grant_of_another():
    """A starts under a grant of B's, which says all that the task says."""
    story = Story().found()
    story.grant(B, h("alien"))
    uses = [(0, DATASETS[B], ALGORITHM, h("alien")), *named()[1:]]
    return swapped_start(story, uses, h("alien"))


def named():
    return [(i, DATASETS[o], ALGORITHM, GRANTS[o]) for i, o in enumerate(OWNERS)]


def swapped_start(story, uses, grant):
    """A completes its start under ``grant`` with the task's ``uses``; the others follow."""
    create, emit = story.create, story.emit
    story.create = lambda task, **_: create(task, uses=uses)

    def emit_swapped(name, **args):
        if name == "GrantConsumed" and args["grant"] == GRANTS[A]:
            args["grant"] = grant
        return emit(name, **args)

    story.emit = emit_swapped
    story.complete()
    return story.case()


def under_other_terms(**change):
    """A's grant says something else than the task: the chain should not have let it start."""
    story = Story().found()
    story.grant(A, h("other"), **change)
    return swapped_start(story, [(0, DATASETS[A], ALGORITHM, h("other")), *named()[1:]], h("other"))


def unknown_grant():
    return swapped_start(Story().found(), [(0, DATASETS[A], ALGORITHM, h("none")), *named()[1:]], h("none"))


def wrong_algorithm():
    story = Story().found()
    uses = [(0, DATASETS[A], OTHER_ALGORITHM, GRANTS[A]), *named()[1:]]
    return swapped_start(story, uses, GRANTS[A])


def used_four_times():
    story = Story().found(uses=1)
    story.complete()
    story.complete(h("second"))
    return story.case()


def spent_without_start():
    story = honest()
    story.mine().emit("GrantConsumed", grant=GRANTS[A], task=COMPLETED, usesLeft=0)
    return story.case()


def not_approved():
    story = Story().found(approvalRequired=True)
    story.complete()
    return story.case()


def suspended(node):
    values = {"node": node, "by": OFFICE, "regulator": False, "reason": h("reason")}
    return before_the_starts(("NodeSuspended", values))


def disputed():
    story = Story().found()
    story.complete(results={A: h("mine"), B: h("theirs"), C: h("theirs")})
    return story.case()


def left_open():
    story = Story().found()
    story.create(COMPLETED, deadline=GENESIS_TIME + 200)
    for owner in OWNERS:
        story.start(COMPLETED, owner, last=owner == C)
    story.wipe(COMPLETED)
    return story.case(after=200)


def untrue_refusal():
    story = honest()
    story.twist = lambda node, kind, body: None if kind == "task.judged" else body
    story.refuse(h("fourth"), reason=8)
    return story.case()


def never_anchored():
    """B acts and never anchors: nothing holds its log, so it is not handed over either."""
    story = Story().found()
    anchor = story.anchor
    story.anchor = lambda node: anchor(node) if node != B else None
    story.complete()
    return story.case()


def truncated():
    cut = lambda node, text: b"".join(text.splitlines(keepends=True)[:-2]) if node == A else text  # noqa: E731
    return honest().case(spoil=cut)


def storage_differs():
    case = honest().case()
    grant = case.snapshot.grants[GRANTS[A]]
    grants = {**case.snapshot.grants, GRANTS[A]: replace(grant, uses_left=grant.uses_left + 1)}
    return replace(case, snapshot=replace(case.snapshot, grants=grants))


def lying(which):
    problem = ProofProblem(5, "this", "that")
    return honest().case(proof=Proof(Level.RPC_TRUSTED, "differs", 0, 9, **{which: (problem,)}))


def put(**changes):
    return lambda args: {**args, **changes}


def nothing(args):
    return None


VIOLATED = {
    "ST-G01 revoked": revoked,
    "ST-G01 another's": grant_of_another,
    "ST-G01 unknown": unknown_grant,
    "ST-G02 used too often": used_four_times,
    "ST-G02 miscounted": lambda: bent("GrantConsumed", put(usesLeft=3)),
    "ST-G02 spent by nobody": spent_without_start,
    "ST-G02 not spent": lambda: bent("GrantConsumed", nothing, times=9),
    "ST-G03 too late": lambda: under_other_terms(expiresAt=GENESIS_TIME + 29),
    "ST-G03 too early": lambda: under_other_terms(notBefore=GENESIS_TIME + 9_000),
    "ST-G04 purpose": lambda: under_other_terms(purpose=h("elsewhere")),
    "ST-G04 algorithm": wrong_algorithm,
    "ST-G05": lambda: under_other_terms(protections=2),
    "ST-G06": not_approved,
    "ST-G07": lambda: _issued_late(),
    "ST-P01": lambda: suspended(B),
    "ST-P02": lambda: suspended(REQUESTER),
    "ST-D01": lambda: before_the_starts(("DatasetWithdrawn", {"dataset": DATASETS[A], "owner": A})),
    "ST-A01": lambda: before_the_starts(("AlgorithmRevoked", {"algorithm": ALGORITHM, "by": REQUESTER})),
    "ST-N01 suspended twice": lambda: _suspended_twice(regulator=False),
    "ST-N01 twice": lambda: _then("NodeReinstated", node=A, by=OFFICE),
    "ST-N01 by nobody": lambda: _then("NodeRetired", node=A, by=B),
    "ST-D02": lambda: _then("DatasetWithdrawn", dataset=DATASETS[A], owner=B),
    "ST-A02": lambda: _then("AlgorithmRevoked", algorithm=ALGORITHM, by=B),
    "ST-C01": lambda: _then("CheckpointAnchored", node=A, size=3, root=h("root"), previousSize=9),
    "ST-E01": lambda: _then("GrantRevoked", grant="0x12", owner=A),
    "ST-S01": storage_differs,
    "ST-T01 after the end": lambda: _then("TaskCancelled", task=COMPLETED, by=REQUESTER),
    "ST-T01 unknown": lambda: _then("TaskCancelled", task=h("none"), by=REQUESTER),
    "ST-T02": lambda: _then("TaskStarted", task=COMPLETED, party=REQUESTER, inputCommitment=h("in")),
    "ST-T02 failed after finishing": lambda: _failed_by_a_finisher(),
    "ST-T03": lambda: bent("TaskCompleted", put(result=h("another"))),
    "ST-T04": disputed,
    "ST-T05": left_open,
    "ST-R01": untrue_refusal,
    "PR-01": lambda: lying("chain_problems"),
    "PR-02": lambda: lying("log_problems"),
    "EV-L02": truncated,
    "EV-L03": never_anchored,
    "EV-A01 no record": lambda: twisted(Kind.TASK_REFUSED, nothing),
    "EV-A02": lambda: _recorded(Kind.TASK_REFUSED, {"reason": 40, "transaction": h("none")}, COMPLETED),
    "EV-A03": lambda: _recorded(Kind.TASK_RAN, {}, h("a task nobody created")),
    "EV-R01": lambda: twisted(Kind.TASK_FINISHED, _other_output),
    "EV-R02": lambda: twisted(Kind.TASK_STARTED, put(input_commitment=h("other"))),
    "EV-R03": lambda: _authority(),
    "EV-R04": lambda: twisted(Kind.TASK_RAN, lambda b: b | {"transcript": b["transcript"] | {"task": ""}}),
    "EV-J01": lambda: twisted(Kind.TASK_JUDGED, put(denial=9)),
    "EV-D01": lambda: twisted(Kind.TASK_WIPED, nothing, node=C),
    "EV-X01": lambda: _other_program(),
    "EV-X02": lambda: twisted(Kind.TASK_RAN, lambda b: b | {"traffic": _more(b["traffic"])}),
}


def _then(name, **args):
    story = honest()
    story.mine().emit(name, **args)
    return story.case()


def _suspended_twice(*, regulator):
    story = honest()
    values = {"node": A, "reason": h("reason")}
    story.mine().emit("NodeSuspended", by=OFFICE, regulator=False, **values)
    by = REGULATOR_KEY if regulator else OFFICE
    story.mine().emit("NodeSuspended", by=by, regulator=regulator, **values)
    return story.case()


def test_the_regulator_takes_over_a_registrars_suspension():
    assert rules(_suspended_twice(regulator=True)) == []


def _failed_by_a_finisher():
    story = Story().found()
    story.create(COMPLETED)
    authority = story.block()
    for owner in OWNERS:
        story.start(COMPLETED, owner, last=owner == C)
    story.finish(COMPLETED, A, authority)
    story.mine().emit("TaskFailed", task=COMPLETED, party=A, reason=1, blame=0, blamed=NOBODY)
    story.wipe(COMPLETED)
    return story.case()


def _issued_late():
    story = honest()
    story.grant(A, h("late"), dataset=DATASETS[B])
    return story.case()


def _recorded(kind, body, task):
    story = honest()
    story.record(A, kind, body, task)
    story.anchor(A)
    return story.case()


def _authority():
    case = honest().case()
    return replace(case, cited={n: replace(block, hash=h("fork")) for n, block in case.cited.items()})


def _other_program():
    story = Story().found()
    transcript = story.transcript

    def other(task, owner):
        told = transcript(task, owner)
        return told if owner != B else told | {"steps": [told["steps"][0] | {"program": h("other")}]}

    story.transcript = other
    story.complete()
    return story.case()


def _other_output(body):
    return body | {"receipt": body["receipt"] | {"output": h("other")}}


def _more(traffic):
    first, *rest = traffic["peers"]
    return {"peers": [first | {"sent_bytes": first["sent_bytes"] + 1}, *rest]}


@pytest.mark.parametrize("name", VIOLATED)
def test_a_violation_is_found_as_what_it_is_and_as_nothing_else(name):
    case = VIOLATED[name]()
    if name.startswith("ST-"):  # nodes are not asked: who starts unlawfully also records wrongly
        case = replace(case, logs={})
    assert rules(case) == [name.split()[0]]


def test_every_check_but_the_rebuilt_log_has_a_violated_history_here():
    assert {each.rule for each in catalogue()} - {name.split()[0] for name in VIOLATED} == {"EV-L01"}


def test_a_log_that_was_not_handed_over_leaves_critical_checks_undetermined():
    result = audit(honest().case(nodes=[A, B]))
    assert result.findings == ()
    assert result.result is Result.CANNOT_TELL
    unsure = {row.check.rule for row in result.rows if row.undetermined}
    assert {"EV-L01", "EV-L02", "EV-A01", "EV-R01", "EV-X01", "EV-X02", "EV-D01"} <= unsure


def test_a_true_refusal_for_a_reason_on_the_chain_is_satisfied():
    story = honest()
    story.mine().emit("GrantRevoked", grant=GRANTS[A], owner=A)
    story.refuse(h("fourth"), reason=7)
    result = audit(story.case())
    assert result.findings == ()
    assert next(row for row in result.rows if row.check.rule == "ST-R01").satisfied == 1


def test_two_wrongs_in_one_start_are_two_findings():
    story = Story().found()
    story.grant(A, h("other"), purpose=PURPOSE[:-2] + "00", protections=2)
    case = swapped_start(story, [(0, DATASETS[A], ALGORITHM, h("other")), *named()[1:]], h("other"))
    assert rules(replace(case, logs={})) == ["ST-G04", "ST-G05"]


def test_a_narrowed_audit_finds_the_same_finding_again():
    case = storage_differs()
    (found,) = audit(case).findings
    narrowed = replace(case, parameters=replace(case.parameters, rule=found.rule, object=found.object))
    assert audit(narrowed).findings == (found,)
    assert f"--rule ST-S01 --object 'grant {GRANTS[A]}'" in found.recheck


def test_a_finding_says_where_and_what():
    (found,) = audit(_then("TaskCancelled", task=REFUSED, by=REQUESTER)).findings
    assert (found.task, found.severity) == (REFUSED, "critical")
    assert found.transaction
    assert found.expected != found.observed
    assert FAILED not in found.explanation
