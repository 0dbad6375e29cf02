"""Whether what the endpoint told us is what the blocks commit to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sealtrace.auditor.case import Case, Execution, Level, ProofProblem
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


@check("PR-03", Severity.HIGH, Need.HEADERS)
def blocks_are_sealed(case: Case) -> Iterator[Verdict]:
    """Every block is sealed by two thirds of the validators, each once: of those that the auditor was told
    seal the first block, and of those that they voted in since.

    It says nothing of a chain whose blocks carry no commit seals of QBFT or IBFT 2.0.
    """
    seals, thing = case.proof.seals, _blocks(case)
    if seals.sealed and seals.missing:
        yield undetermined(thing, seals.missing)
    if seals.pinned and not seals.problems:
        yield satisfied(thing)
    for problem in seals.problems:
        yield violated(
            f"block {problem.block}",
            expected=problem.expected,
            observed=problem.observed,
            explanation="The validators did not seal this block as one of the chain that they were told of.",
        )


@check("PR-04", Severity.HIGH, Need.STORAGE)
def storage_is_proven(case: Case) -> Iterator[Verdict]:
    """The contract storage that the replay is compared with is what the last block's state root commits
    to.
    """
    storage, thing = case.proof.storage, f"block {case.last.number}"
    if storage.why:
        yield undetermined(thing, storage.why)
    elif not storage.problems:
        yield satisfied(thing)
    for object_, expected, observed in storage.problems:
        explanation = (
            "The endpoint's proofs of storage do not hold, so its word was taken for the comparison."
        )
        yield violated(object_, expected=expected, observed=observed, explanation=explanation)


@check("PR-05", Severity.HIGH, Need.HEADERS)
def blocks_execute_again(case: Case) -> Iterator[Verdict]:
    """Where it was asked for: executed again from its genesis, the chain comes to the same last block."""
    execution, thing = case.proof.execution, f"blocks 0 to {case.last.number}"
    if execution.problem is not None:
        yield violated(
            f"block {execution.problem.block}",
            expected=execution.problem.expected,
            observed=execution.problem.observed,
            explanation="Executing the blocks again does not give this chain.",
        )
    elif execution.done:
        yield satisfied(thing)
    elif case.proof.execution != Execution():
        yield undetermined(thing, execution.why)


@check("PR-06", Severity.CRITICAL, Need.HEADERS)
def nothing_replaced(case: Case) -> Iterator[Verdict]:
    """No block is known to have been replaced after an earlier reading had it as final.

    Known is what a kept reading shows (`--resume`): without one there is nothing to compare with.
    """
    if not case.proof.replaced:
        yield satisfied(_blocks(case))
    for each in case.proof.replaced:
        yield violated(
            f"block {each.block}",
            expected=f"block hash {each.expected}, read when block {each.checkpoint} was the last",
            observed=f"block hash {each.observed}",
            explanation=f"The chain was reorganised below block {each.checkpoint}, which had been final.",
        )


def _blocks(case: Case) -> str:
    return f"blocks {case.proof.first} to {case.proof.last}"


def _proven(case: Case, problems: Sequence[ProofProblem], explanation: str) -> Iterator[Verdict]:
    thing = _blocks(case)
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
