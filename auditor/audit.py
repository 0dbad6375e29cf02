"""One audit: every check over one case, and what comes of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum

from sealtrace.auditor.case import Case, Parameters
from sealtrace.auditor.checks import Check, Need, catalogue
from sealtrace.auditor.findings import Finding, Outcome, Severity, Verdict, Violation, finding_id
from sealtrace.protocol.identifiers import Address


class Result(IntEnum):
    """The exit codes of an audit."""

    CLEAN = 0
    FINDINGS = 1
    CANNOT_TELL = 2


@dataclass(frozen=True, slots=True)
class Row:
    """One check's line in the control table, with what its undetermined verdicts lack."""

    check: Check
    satisfied: int
    violated: int
    undetermined: int
    missing: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Audit:
    """All that was found, in the order of the report."""

    case: Case
    rows: tuple[Row, ...]
    findings: tuple[Finding, ...]

    @property
    def result(self) -> Result:
        """Findings first; then, whether a critical check could not be decided; else clean."""
        if self.findings:
            return Result.FINDINGS
        unsure = any(r.undetermined for r in self.rows if r.check.severity is Severity.CRITICAL)
        return Result.CANNOT_TELL if unsure else Result.CLEAN

    def total(self, outcome: Outcome) -> int:
        """How many verdicts had this outcome."""
        return sum(int(getattr(row, outcome.value)) for row in self.rows)


_ORDER = list(Severity)


def audit(case: Case) -> Audit:
    """Run every check of the catalogue, or the one that the parameters name."""
    chosen = [each for each in catalogue() if case.parameters.rule in (None, each.rule)]
    rows, findings = [], []
    for each in chosen:
        verdicts = _wanted(each.judge(case), case.parameters)
        rows.append(_row(each, verdicts))
        findings += [_finding(case, each, v.object, v.violation) for v in verdicts if v.violation]
    findings.sort(key=lambda f: (_ORDER.index(f.severity), f.rule, f.block or 0, f.log_index or 0, f.object))
    return Audit(case, tuple(rows), tuple(findings))


def _wanted(verdicts: Iterable[Verdict], parameters: Parameters) -> list[Verdict]:
    return [verdict for verdict in verdicts if parameters.object in (None, verdict.object)]


def _row(check: Check, verdicts: list[Verdict]) -> Row:
    counts = Counter(verdict.outcome for verdict in verdicts)
    missing = Counter(v.missing for v in verdicts if v.missing is not None)
    return Row(
        check,
        counts[Outcome.SATISFIED],
        counts[Outcome.VIOLATED],
        counts[Outcome.UNDETERMINED],
        tuple(sorted(missing.items())),
    )


def _finding(case: Case, check: Check, thing: str, violation: Violation) -> Finding:
    event = violation.event
    return Finding(
        id=finding_id(check.rule, case.chain_id, thing, event),
        rule=check.rule,
        severity=check.severity,
        object=thing,
        task=violation.task,
        node=violation.node,
        block=event.block.number if event else None,
        transaction=event.transaction if event else None,
        log_index=event.log_index if event else None,
        expected=violation.expected,
        observed=violation.observed,
        explanation=violation.explanation,
        evidence=violation.evidence,
        recheck=_recheck(case, check, thing),
    )


def _recheck(case: Case, check: Check, thing: str) -> str:
    """The command that looks at this one thing again; where the chain answers is left to the reader."""
    parts = [
        f'sealtrace audit run --rpc "$RPC" --chain-id {case.chain_id} --contracts {case.directory}',
        f"--from {case.first} --to {case.last.number}",
        *_evidence_arguments(case.logs if Need.LOGS in check.needs else {}),
        *(["--openings OPENINGS"] if Need.OPENINGS in check.needs else []),
        *(["--statements STATEMENTS"] if Need.STATEMENTS in check.needs else []),
        *_proof_arguments(case, check),
        f"--rule {check.rule} --object '{thing}' --out recheck",
    ]
    return " ".join(parts)


def _proof_arguments(case: Case, check: Check) -> list[str]:
    """What a check of seals or of execution was told; the genesis file is left to the reader."""
    seals = [f"--validators {','.join(case.proof.seals.pinned)}"] if check.rule == "PR-03" else []
    return [*seals, *(["--reexecute"] if check.rule == "PR-05" else [])]


def _evidence_arguments(logs: Mapping[Address, object]) -> list[str]:
    return [f"--evidence {node}=LOG-OF-{node[2:8]}" for node in sorted(logs)]
