"""Whether the consortium decided as its rules say, and nobody acted for it who might not."""

from __future__ import annotations

from collections.abc import Iterator

from sealtrace.auditor.case import Case, OtherCode
from sealtrace.auditor.checks.registries import by_topic
from sealtrace.auditor.checks.registry import Need, check
from sealtrace.auditor.findings import Severity, Verdict, satisfied, undetermined, violated
from sealtrace.auditor.world import Topic
from sealtrace.contracts.governance import Office


@check("ST-V01", Severity.CRITICAL, Need.EVENTS)
def members_changed_by_vote(case: Case) -> Iterator[Verdict]:
    """After its founding, the consortium's members and rules changed only in transactions that executed a
    proposal, each change counted, with at least one member and a quorum of 50 to 99 percent.
    """
    yield from by_topic(case, Topic.MEMBERS, [*case.world.governance.members, "rules"])


@check("ST-V02", Severity.CRITICAL, Need.EVENTS)
def proposals_were_voted_on(case: Case) -> Iterator[Verdict]:
    """Every proposal was a member's, who voted for it; only members voted, each once and while it was open;
    and it was executed at most once, in time, and with the votes that the rules and members it was made under
    asked for.
    """
    yield from by_topic(case, Topic.PROPOSALS, case.world.governance.proposals)


@check("ST-V03", Severity.CRITICAL, Need.EVENTS)
def offices_passed_by_rule(case: Case) -> Iterator[Verdict]:
    """After the founding, offices were given and taken only by vote, handed over to the one they had been
    offered to, or laid down by their holders.
    """
    yield from by_topic(case, Topic.OFFICES, [office.value.lower() for office in Office])


@check("ST-V04", Severity.CRITICAL, Need.EVENTS)
def generations_were_announced_by_vote(case: Case) -> Iterator[Verdict]:
    """Every generation of contracts but the first was announced, and every ledger served later or closed, in
    a transaction that executed a proposal, and no contract acted that the directory does not name.
    """
    yield from by_topic(case, Topic.GENERATIONS, [f"generation {g.number}" for g in case.world.generations])


@check("ST-V05", Severity.HIGH, Need.CODE)
def contracts_hold_our_code(case: Case) -> Iterator[Verdict]:
    """Every contract of the generation in use holds the code that this version of Sealtrace deploys.

    A former generation may hold the code of the version of its time: there it is undetermined.
    """
    current = len(case.world.generations) - 1
    for each in case.other_code:
        thing = f"{each.contract} of generation {each.generation}"
        if each.generation < current:
            yield undetermined(thing, "an auditor of the version that knows its code")
        else:
            yield _other_code(each, thing)
    differing = {each.generation for each in case.other_code}
    for number in sorted(set(range(current + 1)) - differing):
        yield satisfied(f"generation {number}")


def _other_code(each: OtherCode, thing: str) -> Verdict:
    return violated(
        thing,
        expected="the code of the contract of that name",
        observed=each.why,
        explanation="What this contract enforces and what its events mean is not known.",
    )
