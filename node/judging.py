"""What to do with a task next: pure decisions over what the chain says at one block and what we remember."""

from __future__ import annotations

from dataclasses import dataclass

from sealtrace.node.ports import Introduction, Standing
from sealtrace.protocol.authorization import Facts, why_denied
from sealtrace.protocol.identifiers import Address, Hex32, UnixSeconds, raw
from sealtrace.protocol.lifecycle import OPEN_STATES, TaskState
from sealtrace.protocol.outcome import Denial
from sealtrace.protocol.records import Role, TaskTerms


@dataclass(frozen=True, slots=True)
class Close:
    """The task is over on the chain: record it and wipe."""

    state: TaskState


@dataclass(frozen=True, slots=True)
class Refuse:
    """The task may not run here."""

    denial: Denial
    detail: str = ""


@dataclass(frozen=True, slots=True)
class AskOperator:
    """A grant asks for approval of each task."""


@dataclass(frozen=True, slots=True)
class Approve:
    """The operator has agreed: tell the chain."""


@dataclass(frozen=True, slots=True)
class Later:
    """Nothing to do until the chain says more."""

    why: str


@dataclass(frozen=True, slots=True)
class Start:
    """All may begin: check what lies here, then spend the uses."""


@dataclass(frozen=True, slots=True)
class Continue:
    """This party has started; go on from what was recorded."""


@dataclass(frozen=True, slots=True)
class Settled:
    """This party has finished; others have not."""


Step = Close | Settled | Refuse | AskOperator | Approve | Later | Start | Continue


@dataclass(frozen=True, slots=True)
class Case:
    """One task at one block, as its party ``me`` sees it.

    ``terms`` are the chain's; ``introduction`` is ``None`` while the scheduler has not given one, and
    ``waited_s`` says for how long.
    """

    me: Address
    standing: Standing
    terms: TaskTerms
    introduction: Introduction | None
    facts: Facts
    now: UnixSeconds
    approval: str
    stop_wanted: bool
    waited_s: float
    introduction_wait_s: float


def next_step(case: Case) -> Step:
    """Decide. What the chain says comes before what the operator wants, and that before what we may do."""
    standing, index = case.standing, case.terms.parties.index(case.me)
    if standing.state not in OPEN_STATES:
        return Close(standing.state)
    if standing.has_finished(index):
        return Settled()
    if standing.has_started(index):
        return Continue()
    if case.stop_wanted:
        return Refuse(Denial.OPERATOR_REFUSED, "the operator refused the task")
    if denial := why_denied(case.terms, case.me, case.facts, case.now):
        return Refuse(denial)
    if case.introduction is None:
        return _without_introduction(case)
    if problem := why_mismatched(case.introduction, case.terms, case.facts):
        return Refuse(Denial.SPEC_MISMATCH, problem)
    return _by_approval(case, index)


def why_mismatched(introduction: Introduction, terms: TaskTerms, facts: Facts) -> str | None:
    """What in the specification is not what the chain says, or ``None``."""
    spec = introduction.spec
    if spec.terms() != terms:
        return "the specification says other terms than the chain"
    requester = facts.nodes.get(terms.requester)
    if requester is None or requester.encryption_key != spec.requester_key:
        return "the result would be sealed to a key that is not the requester's on the chain"
    for helper in spec.helpers:
        node = facts.nodes.get(helper)
        if node is None or not node.may(Role.COMPUTE):
            return f"{helper} would compute without data of its own, and was not admitted to compute"
    return None


def _start(case: Case) -> Step:
    """Who releases data to an enclave starts after the party that runs it: that start names what to judge."""
    assert case.introduction is not None  # noqa: S101 - looked at before
    enclave = case.introduction.spec.enclave
    if enclave is None or enclave == case.me:
        return Start()
    if case.standing.has_started(case.terms.parties.index(enclave)):
        return Start()
    return Later("the party of the enclave has not shown it yet")


def own_algorithms(introduction: Introduction) -> tuple[Hex32, ...]:
    """The bundles a party needs: every step's, because every party takes part in every step."""
    return tuple(sorted({step.algorithm for step in introduction.spec.steps}, key=raw))


def _without_introduction(case: Case) -> Step:
    if case.waited_s < case.introduction_wait_s:
        return Later("the scheduler has not introduced the task yet")
    return Refuse(Denial.SPEC_UNAVAILABLE, f"no specification in {case.waited_s:.0f} s")


def _by_approval(case: Case, index: int) -> Step:
    if case.standing.state is TaskState.AUTHORIZED:
        return _start(case)
    if case.standing.has_approved(index):
        return Later("another party has not approved yet")
    return Approve() if case.approval == "given" else AskOperator()
