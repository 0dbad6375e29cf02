"""Whether what owners opened to the regulator is what the chain holds, and is in their own logs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from sealtrace.auditor.case import Case
from sealtrace.auditor.checks.registry import Need, check
from sealtrace.auditor.findings import Severity, Verdict, satisfied, undetermined, violated
from sealtrace.auditor.openings import Opened
from sealtrace.protocol.evidence import Kind
from sealtrace.protocol.records import Dataset

PATIENCE_S: Final = 60
"""How much later than an opening another record must be, so that the opening's own must stand before it."""


@check("EV-O01", Severity.HIGH, Need.EVENTS, Need.LOGS, Need.OPENINGS)
def openings_are_commitments(case: Case) -> Iterator[Verdict]:
    """Every commitment that was opened to the regulator is opened by the dataset's owner, its salt and root
    hash to what the chain holds, and the opening is in the owner's log.
    """
    datasets = {key.id: line.last for key, line in case.world.datasets.items()}
    for opened in case.openings:
        known = datasets.get(opened.dataset)
        yield _of_nobody(opened, known) or _of_another(opened, known) or _recorded(case, opened)


def _of_nobody(opened: Opened, known: Dataset | None) -> Verdict | None:
    """The verdict on an opening that its dataset's owner did not sign."""
    if opened.signed and known is not None and known.owner == opened.speaker:
        return None
    return violated(
        opened.name,
        expected=f"a signature of {known.owner}" if known else "a dataset that is on the chain",
        observed=f"one of {opened.speaker}" if opened.signed else "none that fits",
        explanation="The opening is not signed by the dataset's owner.",
        node=known.owner if known else None,
        evidence=opened.statement,
    )


def _of_another(opened: Opened, known: Dataset | None) -> Verdict | None:
    """The verdict on an opening of what is not committed to."""
    if known is None or opened.commitment == known.commitment:
        return None
    return violated(
        opened.name,
        expected=f"commitment {known.commitment}",
        observed=f"commitment {opened.commitment}",
        explanation="What was opened to the regulator is not what the dataset committed to.",
        node=known.owner,
        evidence=opened.statement,
    )


def _recorded(case: Case, opened: Opened) -> Verdict:
    log = case.logs.get(opened.speaker)
    if log is None:
        return undetermined(opened.name, case.why_no_log(opened.speaker))
    found = (each for each in log.records if each.kind == Kind.DATASET_OPENED)
    if any(each.body.get("statement") == opened.statement for each in found):
        return satisfied(opened.name)
    if not log.whole:
        return undetermined(opened.name, log.why_silent())
    if all(each.at <= opened.at + PATIENCE_S for each in log.records):
        return undetermined(opened.name, "the record is newer than the last checkpoint in the range")
    return violated(
        opened.name,
        expected=f"a {Kind.DATASET_OPENED} record of {opened.statement}",
        observed="none",
        explanation=f"Node {opened.speaker} opened a dataset and did not record it.",
        node=opened.speaker,
        evidence=opened.statement,
    )
