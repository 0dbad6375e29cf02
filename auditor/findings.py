"""What a check says of one object, and what the auditor holds against the record."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sealtrace.auditor.events import Event
from sealtrace.protocol.canonical import digest
from sealtrace.protocol.identifiers import Address, Hex32


class Severity(StrEnum):
    """How much a violation takes from what the network promises."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


class Outcome(StrEnum):
    """What a check can say. ``UNDETERMINED`` is never counted as satisfied."""

    SATISFIED = "satisfied"
    VIOLATED = "violated"
    UNDETERMINED = "undetermined"


@dataclass(frozen=True, slots=True)
class Violation:
    """What was expected and what was seen; ``event`` is where on the chain, if it is on the chain."""

    expected: str
    observed: str
    explanation: str
    event: Event | None = None
    task: Hex32 | None = None
    node: Address | None = None
    evidence: Hex32 | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check says of ``object``. ``missing`` tells what an undetermined verdict lacks."""

    object: str
    outcome: Outcome
    missing: str | None = None
    violation: Violation | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """A violation with its rule, its place and the command that looks again."""

    id: Hex32
    rule: str
    severity: Severity
    object: str
    task: Hex32 | None
    node: Address | None
    block: int | None
    transaction: Hex32 | None
    log_index: int | None
    expected: str
    observed: str
    explanation: str
    evidence: Hex32 | None
    recheck: str


def satisfied(thing: str) -> Verdict:
    """The sentence holds for ``thing``."""
    return Verdict(thing, Outcome.SATISFIED)


def undetermined(thing: str, missing: str) -> Verdict:
    """It cannot be told whether the sentence holds for ``thing``; ``missing`` says why."""
    return Verdict(thing, Outcome.UNDETERMINED, missing=missing)


def violated(
    thing: str,
    *,
    expected: str,
    observed: str,
    explanation: str,
    event: Event | None = None,
    task: Hex32 | None = None,
    node: Address | None = None,
    evidence: Hex32 | None = None,
) -> Verdict:
    """The sentence does not hold for ``thing``."""
    violation = Violation(expected, observed, explanation, event, task, node, evidence)
    return Verdict(thing, Outcome.VIOLATED, violation=violation)


def finding_id(rule: str, chain_id: int, thing: str, event: Event | None) -> Hex32:
    """SHA-256 over rule, chain, transaction, log index and object: the same finding has the same id."""
    place = [event.transaction, event.log_index] if event else [None, None]
    return digest([rule, chain_id, *place, thing])
