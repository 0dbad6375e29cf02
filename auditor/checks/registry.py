"""The catalogue: every check by its rule id. A check's docstring is the sentence it verifies."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from sealtrace.auditor.case import Case
from sealtrace.auditor.findings import Severity, Verdict


class UnknownRule(LookupError):
    """There is no check of that rule: see ``sealtrace audit checks``."""


Judge = Callable[[Case], Iterator[Verdict]]


class Need(StrEnum):
    """What a check looks at."""

    EVENTS = "events"
    HEADERS = "block headers and receipts"
    STORAGE = "contract storage"
    CODE = "contract code"
    LOGS = "node logs"
    STATEMENTS = "enclaves' statements"
    OPENINGS = "openings"


@dataclass(frozen=True, slots=True)
class Check:
    """One rule: its id, what it asserts, how bad a violation is, and what it needs."""

    rule: str
    severity: Severity
    needs: tuple[Need, ...]
    sentence: str
    remarks: str
    judge: Judge


_CHECKS: dict[str, Check] = {}


def check(rule: str, severity: Severity, *needs: Need) -> Callable[[Judge], Judge]:
    """Enter a function into the catalogue under ``rule``; the first paragraph of its docstring is the
    sentence, the rest are remarks."""

    def enter(judge: Judge) -> Judge:
        sentence, _, remarks = (inspect.getdoc(judge) or "").partition("\n\n")
        if rule in _CHECKS:
            raise ValueError(f"two checks are called {rule}")
        _CHECKS[rule] = Check(
            rule, severity, needs, " ".join(sentence.split()), " ".join(remarks.split()), judge
        )
        return judge

    return enter


def catalogue() -> tuple[Check, ...]:
    """All checks, by rule id."""
    from sealtrace.auditor.checks import (
        attestation,
        clocks,
        governance,
        logs,
        openings,
        proof,
        records,
        registries,
        starts,
        tasks,
        transcripts,
    )

    loaded = (
        *(attestation, clocks, governance, logs, openings, proof),
        *(records, registries, starts, tasks, transcripts),
    )
    assert all(loaded)  # noqa: S101 - loads them
    return tuple(_CHECKS[rule] for rule in sorted(_CHECKS))


def known_rule(rule: str | None) -> str | None:
    """``rule`` itself, where it is one or none is named.

    Raises:
        UnknownRule: there is no such check.
    """
    if rule is not None and rule not in {each.rule for each in catalogue()}:
        raise UnknownRule(f"{rule[:40]!r}: there is no such check; see sealtrace audit checks")
    return rule
