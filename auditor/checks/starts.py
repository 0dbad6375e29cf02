"""Whether every start was allowed, judged on replayed facts at the place of the start.

Each check answers for its own reasons out of ``protocol.authorization``; together they cover all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from sealtrace.auditor.case import Case
from sealtrace.auditor.checks.registries import verdict_of
from sealtrace.auditor.checks.registry import Need, check
from sealtrace.auditor.findings import Severity, Verdict, satisfied, undetermined, violated
from sealtrace.auditor.reasons import reasons_against
from sealtrace.auditor.world import Start, TaskHistory, Topic
from sealtrace.protocol.identifiers import Hex32
from sealtrace.protocol.outcome import Denial
from sealtrace.protocol.records import TaskTerms, Use

MISMATCHES = frozenset(
    {
        Denial.WRONG_DATASET,
        Denial.WRONG_ALGORITHM,
        Denial.WRONG_REQUESTER,
        Denial.WRONG_PURPOSE,
    }
)


@check("ST-G01", Severity.CRITICAL, Need.EVENTS)
def grant_in_force(case: Case) -> Iterator[Verdict]:
    """Every start spent a grant that existed, belonged to the party that started, and was not revoked."""
    wanted = frozenset({Denial.UNKNOWN_GRANT, Denial.WRONG_OWNER, Denial.GRANT_REVOKED})
    yield from _starts_without(case, wanted)


@check("ST-G02", Severity.CRITICAL, Need.EVENTS)
def uses_are_counted(case: Case) -> Iterator[Verdict]:
    """Every start spent exactly one use of each grant it names, nothing else spent one, and no grant was
    used more often than it allows.
    """
    yield from _counted(case, Topic.USES, "The count of uses left does not go down by one.")
    for each in case.world.spent_without_start:
        if case.covers(each.event):
            yield violated(
                each.grant,
                expected=f"a start of {each.task} in the same transaction",
                observed="a use spent without one",
                explanation="A use of the grant was spent by something that is not a start.",
                event=each.event,
                task=each.task,
            )
    for task, start in _starts(case):
        yield _spent_as_named(task, start)


@check("ST-G03", Severity.CRITICAL, Need.EVENTS)
def inside_the_window(case: Case) -> Iterator[Verdict]:
    """Every start lay inside the window of its grants: not before the first second, and before the last."""
    yield from _starts_without(case, frozenset({Denial.GRANT_NOT_YET_VALID, Denial.GRANT_EXPIRED}))


@check("ST-G04", Severity.CRITICAL, Need.EVENTS)
def terms_are_the_grants(case: Case) -> Iterator[Verdict]:
    """Every start was for the dataset, the algorithm, the requester and the purpose of its grants."""
    yield from _starts_without(case, MISMATCHES)


@check("ST-G05", Severity.CRITICAL, Need.EVENTS)
def protection_is_accepted(case: Case) -> Iterator[Verdict]:
    """Every start used only protections that its grants accept one by one."""
    yield from _starts_without(case, frozenset({Denial.PROTECTION_NOT_ALLOWED}))


@check("ST-G06", Severity.HIGH, Need.EVENTS)
def approval_was_given(case: Case) -> Iterator[Verdict]:
    """Where a grant asks for approval of each task, its owner approved the task before it started."""
    for task, start in _starts(case):
        terms = task.terms()
        if terms is None:
            yield undetermined(_name(start), "the events that name the task's parties and uses")
            continue
        facts = case.world.facts(task, terms, start.judged_at)
        grants = [facts.grants.get(use.grant) for use in terms.uses_of(start.party)]
        approved = task.approvals.get(start.party)
        if any(grant and grant.approval_required for grant in grants) and approved is None:
            yield violated(
                _name(start),
                expected=f"an approval by {start.party}",
                observed="a start without one",
                explanation="The grant asks for its owner's approval of each task.",
                event=start.event,
                task=task.id,
                node=start.party,
            )
        else:
            yield satisfied(_name(start))


@check("ST-G08", Severity.CRITICAL, Need.EVENTS)
def epsilon_is_counted(case: Case) -> Iterator[Verdict]:
    """Every start spent of each grant's privacy budget exactly what its task asks, more than nothing and no
    more than was left.
    """
    yield from _counted(case, Topic.EPSILON, "What is left of the privacy budget is not what was not spent.")
    yield from _starts_without(case, frozenset({Denial.EPSILON_NOT_COVERED}))


@check("ST-G09", Severity.CRITICAL, Need.EVENTS)
def participants_are_allowed(case: Case) -> Iterator[Verdict]:
    """Where a grant names participants, every start under it had no other parties beside the owner."""
    yield from _starts_without(case, frozenset({Denial.PARTICIPANT_NOT_ALLOWED}))


@check("ST-P01", Severity.CRITICAL, Need.EVENTS)
def parties_were_active(case: Case) -> Iterator[Verdict]:
    """Whenever a party started, every party of the task was an active node."""
    yield from _starts_without(case, frozenset({Denial.PARTY_NOT_ACTIVE}))


@check("ST-P02", Severity.CRITICAL, Need.EVENTS)
def requester_was_active(case: Case) -> Iterator[Verdict]:
    """Whenever a party started, the task's requester was an active node admitted as a requester."""
    yield from _starts_without(case, frozenset({Denial.REQUESTER_NOT_ACTIVE}))


@check("ST-D01", Severity.CRITICAL, Need.EVENTS)
def dataset_was_active(case: Case) -> Iterator[Verdict]:
    """Every start used only datasets that were registered and not withdrawn, be they superseded or not."""
    yield from _starts_without(case, frozenset({Denial.DATASET_NOT_ACTIVE}))


@check("ST-A01", Severity.CRITICAL, Need.EVENTS)
def algorithm_was_active(case: Case) -> Iterator[Verdict]:
    """Every start used only algorithms that were registered, not suspended and not revoked, be they
    superseded or not.
    """
    yield from _starts_without(case, frozenset({Denial.ALGORITHM_NOT_ACTIVE}))


def _starts(case: Case) -> Iterator[tuple[TaskHistory, Start]]:
    for task in case.tasks():
        for start in sorted(task.starts.values(), key=lambda each: each.event.position):
            if case.covers(start.event):
                yield task, start


def _name(start: Start) -> str:
    return f"{start.task}/{start.party}"


def _starts_without(case: Case, unwanted: frozenset[Denial]) -> Iterator[Verdict]:
    for task, start in _starts(case):
        terms = task.terms()
        if terms is None:
            yield undetermined(_name(start), "the events that name the task's parties and uses")
            continue
        facts = case.world.facts(task, terms, start.judged_at)
        against = reasons_against(terms, start.party, facts, start.event.time)
        found = [(reason, use) for reason, use in against if reason in unwanted]
        if not found:
            yield satisfied(_name(start))
            continue
        yield violated(
            _name(start),
            expected="no reason against the start at its block",
            observed="; ".join(_told(reason, use) for reason, use in found),
            explanation=f"{start.party} started although the facts at block {start.event.block.number} "
            "forbid it.",
            event=start.event,
            task=task.id,
            node=start.party,
        )


def _told(reason: Denial, use: Use | None) -> str:
    return f"{reason.name.lower()} (grant {use.grant})" if use else reason.name.lower()


def _counted(case: Case, topic: Topic, explanation: str) -> Iterator[Verdict]:
    """One verdict for each count that is wrong, and for each grant whose counts are right."""
    found = [each for each in case.world.irregular if each.topic is topic and case.covers(each.event)]
    for each in found:
        yield verdict_of(each, explanation)
    names = {case.world.name(key) for key in case.world.grants}
    for grant in sorted(names - {each.object for each in found}):
        yield satisfied(grant)


def _spent_as_named(task: TaskHistory, start: Start) -> Verdict:
    terms = task.terms()
    if terms is None:
        return undetermined(_name(start), "the events that name the task's parties and uses")
    named, spent = _named(terms, start), Counter(each.grant for each in start.consumed)
    if named == spent:
        return satisfied(_name(start))
    return violated(
        _name(start),
        expected=_listed(named),
        observed=_listed(spent),
        explanation="The start did not spend one use of each grant that the task names for the party.",
        event=start.event,
        task=task.id,
        node=start.party,
    )


def _named(terms: TaskTerms, start: Start) -> Counter[Hex32]:
    return Counter(use.grant for use in terms.uses_of(start.party))


def _listed(uses: Mapping[Hex32, int]) -> str:
    return ", ".join(f"{count} of {grant}" for grant, count in sorted(uses.items())) or "no use spent"
