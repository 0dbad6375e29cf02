"""Whether what the endpoint told us is what the blocks commit to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sealtrace.auditor.case import Case, Level, ProofProblem
from sealtrace.auditor.checks.registry import Need, check
from sealtrace.auditor.findings import Severity, Verdict, satisfied, undetermined, violated


@check("PR-01", Severity.HIGH, Need.HEADERS)
def headers_link(case: Case) -> Iterator[Verdict]:
    """Every block header hashes to the block's hash and names the hash of the one before."""
    yield from _proven(case, case.proof.chain_problems, "The endpoint's headers do not form one chain.")


@check("PR-02", Severity.HIGH, Need.HEADERS)
def nothing_left_out(case: Case) -> Iterator[Verdict]:
    """The events are all there are and as they were emitted: every block's bloom filter excludes our
    contracts, or its receipts rebuild the receipts root and hold exactly these logs.
    """
    yield from _proven(
        case, case.proof.log_problems, "The endpoint left out, altered or invented what the block commits to."
    )


@check("PR-06", Severity.CRITICAL, Need.HEADERS)
def nothing_replaced(case: Case) -> Iterator[Verdict]:
    """No block is known to have been replaced after an earlier reading had it as final.

    Known is what a kept reading shows (`--resume`): without one there is nothing to compare with.
    """
    if not case.proof.replaced:
        yield satisfied(_range(case))
    for each in case.proof.replaced:
        yield violated(
            f"block {each.block}",
            expected=f"block hash {each.expected}, read when block {each.checkpoint} was the last",
            observed=f"block hash {each.observed}",
            explanation=f"The chain was reorganised below block {each.checkpoint}, which had been final.",
        )


def _proven(case: Case, problems: Sequence[ProofProblem], explanation: str) -> Iterator[Verdict]:
    thing = _range(case)
    if not problems and case.proof.level < Level.RECEIPTS_COMPLETE:
        yield undetermined(thing, case.proof.reason)
    if not problems and case.proof.level >= Level.RECEIPTS_COMPLETE:
        yield satisfied(thing)
    for problem in problems:
        place = f"block {problem.block}"
        yield violated(
            place if problem.log_index is None else f"{place}, log {problem.log_index}",
            expected=problem.expected,
            observed=problem.observed,
            explanation=explanation,
        )


def _range(case: Case) -> str:
    return f"blocks {case.proof.first} to {case.proof.last}"
