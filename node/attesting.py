"""What the gate does about an enclave: the party that runs it shows what it is, and the owners judge that.

An owner starts only after it has seen, on the chain, that the enclave's party bound its own start to the very
statement that it judges; and it counts a run as done only after it has judged the last statement too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sealtrace.node.directory import wipe
from sealtrace.node.engines.tee.job import FINAL
from sealtrace.node.engines.workplace import write
from sealtrace.node.hold import Hold, Ports, View
from sealtrace.node.ports import RunFailed, Undeliverable
from sealtrace.node.preparing import Prepared, Unfit
from sealtrace.protocol.attestation.appraisal import Appraisal, Stage
from sealtrace.protocol.attestation.binding import Moment
from sealtrace.protocol.attestation.evidence import SoftwareCollateral
from sealtrace.protocol.attestation.policy import AttestationPolicy
from sealtrace.protocol.attestation.refusals import EvidenceRefused
from sealtrace.protocol.attestation.results import VerifierId, result_claims
from sealtrace.protocol.attestation.statement import Statement, read_statement
from sealtrace.protocol.canonical import sha256
from sealtrace.protocol.identifiers import Address, Hex32
from sealtrace.protocol.outcome import Blame, Denial, Failure
from sealtrace.protocol.receipt import input_commitment

LOOK_BACK_BLOCKS: Final = 50_000
"""Where a statement is bound to an older block than this, the start that names it is not looked for."""


class NotShown(Exception):
    """The enclave's statement is not to be had yet; the message says where it should come from."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A statement that this owner accepts: under which policies, by input, and what is recorded of it."""

    statement: Statement
    policies: Mapping[str, AttestationPolicy]
    words: Mapping[str, Any]


def show(view: View, hold: Hold, prepared: Prepared) -> Prepared:
    """Begin the enclave and show what it states; what the start will bind names the statement.

    Raises:
        Unfit: no enclave can be begun here.
        SchedulerUnavailable: the statement cannot be shown now; the enclave ends with this hold.
    """
    ports, spec = hold.ports, view.known().spec
    folder = ports.jobs(view.task)
    wipe(folder)
    try:
        hosted = ports.holdings.engine.host(spec, view.task, prepared.bundles, view.block, folder, hold.stop)
    except RunFailed as failed:
        raise Unfit(Denial.ENGINE_UNAVAILABLE, failed.detail) from failed
    hold.enclave = hosted
    text = hosted.statement.document()
    keep(ports, text)
    try:
        ports.scheduler.put_statement(view.task, text)
    except Undeliverable as cause:
        raise Unfit(
            Denial.ATTESTATION_REFUSED, f"the scheduler does not take the statement: {cause}"
        ) from cause
    return prepared.attesting(view.task, hosted.statement.digest)


def judge(view: View, ports: Ports, prepared: Prepared) -> tuple[Prepared, Judged]:
    """Judge what the enclave shows, at the block of ``view``; what the start will bind names the statement.

    Raises:
        NotShown: there is nothing to judge yet.
        Unfit: it is not accepted; with every reason.
    """
    statement = _shown(view, ports)
    if why := _why_not_of(view, ports, statement):
        raise Unfit(Denial.ATTESTATION_REFUSED, why)
    policies = own_policies(view, ports)
    seen = _appraised(statement, policies, Moment(view.block.timestamp, view.block.number))
    keep(ports, statement.document())
    refused = [f"{name}: {'; '.join(map(str, each.reasons))}" for name, each in seen.items() if each.reasons]
    if refused:
        raise Unfit(Denial.ATTESTATION_REFUSED, " ".join(refused))
    words = {"attested": statement.digest, "appraisals": _words(seen, statement, ports)}
    return prepared.attesting(view.task, statement.digest), Judged(statement, policies, words)


def own_policies(view: View, ports: Ports) -> dict[str, AttestationPolicy]:
    """The policy of each of this party's inputs: that of its grant, which must be the one the task names.

    Raises:
        Unfit: it is not.
    """
    spec = view.known().spec
    step, found = spec.steps[0], {}
    for name in step.inputs:
        if spec.input(name).party != ports.me:
            continue
        policy = ports.policy_of(step.grants[name])
        if policy is None or policy.digest() != step.policies[name]:
            has = "has no policy" if policy is None else f"has the policy {policy.digest()}"
            raise Unfit(
                Denial.SPEC_MISMATCH,
                f"input {name}: the task names the policy {step.policies[name]}, its grant {has}",
            )
        found[name] = policy
    return found


def judge_final(view: View, ports: Ports) -> dict[str, Any]:
    """Judge the enclave's last statement, which lies in the job's folder; return what is recorded of it.

    The party of the enclave judges nothing: it shows.

    Raises:
        RunFailed: it is not accepted. What the enclave did is not what this owner allowed.
    """
    spec = view.known().spec
    if spec.enclave is None:
        return {}
    text = (ports.jobs(view.task) / FINAL).read_bytes()
    keep(ports, text)
    if spec.enclave == ports.me:
        return {}
    block = ports.chain.finalized()
    try:
        statement = read_statement(text)
        seen = _appraised(statement, own_policies(view, ports), Moment(block.timestamp, block.number))
    except (EvidenceRefused, Unfit) as cause:
        raise _broken(spec.enclave, str(cause)) from cause
    refused = [f"{name}: {'; '.join(map(str, each.reasons))}" for name, each in seen.items() if each.reasons]
    if statement.stage is not Stage.FINAL or refused:
        raise _broken(spec.enclave, " ".join(refused) or "it is not of the end")
    return {"appraisals": _words(seen, statement, ports), "block_number": block.number}


def show_final(view: View, ports: Ports) -> None:
    """Show the last statement to those who will ask for it.

    Raises:
        SchedulerUnavailable: not now.
        Undeliverable: never.
    """
    if view.known().spec.enclave == ports.me:
        ports.scheduler.put_statement(view.task, (ports.jobs(view.task) / FINAL).read_bytes())


def keep(ports: Ports, text: bytes) -> None:
    """Keep a statement by its content; the evidence log and the chain name it by its digest."""
    path = ports.statements / f"{sha256(text)}.json"
    if not path.exists():
        path.parent.mkdir(mode=0o700, exist_ok=True)
        write(path, text)


def kept(ports: Ports, digest: Hex32) -> Statement:
    """The statement that was kept under ``digest``.

    Raises:
        RunFailed: it is gone or was altered.
    """
    path = ports.statements / f"{digest}.json"
    try:
        statement = read_statement(path.read_bytes())
    except (OSError, EvidenceRefused) as cause:
        raise _lost(path) from cause
    if statement.digest != digest:
        raise _lost(path)
    return statement


def _lost(path: Path) -> RunFailed:
    detail = f"{path.name} is gone or was altered: without it no key can be released"
    return RunFailed(Failure.INTERRUPTED, Blame.REPORTER, None, detail)


def _broken(enclave: Address, why: str) -> RunFailed:
    return RunFailed(Failure.ATTESTATION_FAILED, Blame.PARTY, enclave, f"the last statement: {why}")


def _shown(view: View, ports: Ports) -> Statement:
    """The statement that the enclave's party bound its start to."""
    text = ports.scheduler.statement(view.task, Stage.RELEASE)
    if text is None:
        raise NotShown("the scheduler has no statement of the enclave yet")
    try:
        statement = read_statement(text)
    except EvidenceRefused as cause:
        raise NotShown(f"what the scheduler gives as the enclave's statement is none: {cause}") from cause
    if statement.stage is not Stage.RELEASE or not _is_bound(view, ports, statement):
        raise NotShown("the scheduler gives another statement than the enclave's start is bound to")
    return statement


def _is_bound(view: View, ports: Ports, statement: Statement) -> bool:
    spec, issued = view.known().spec, statement.challenge.issued
    if issued.number < view.block.number - LOOK_BACK_BLOCKS or spec.enclave is None:
        return False
    algorithms = tuple(sorted({step.algorithm for step in spec.steps}))
    bound = input_commitment(view.task, {}, algorithms, statement.digest)
    return ports.chain.start_of(view.task, spec.enclave, issued.number, at=view.block) == bound


def _why_not_of(view: View, ports: Ports, statement: Statement) -> str | None:
    """Why a statement is not of this task's enclave on this chain, in words, or ``None``."""
    spec, said = view.known().spec, statement.challenge
    if (statement.party, said.task) != (spec.enclave, view.task):
        return "the statement is of another task or another party"
    if said.algorithm != spec.steps[0].algorithm:
        return f"the statement is of the algorithm {said.algorithm}"
    wanted = spec.steps[0].protocol
    if statement.evidence.kind.is_hardware is not (wanted == "HARDWARE"):
        return f"the task asks for {wanted}, the evidence is {statement.evidence.kind}"
    block = ports.chain.block(said.issued.number)
    if (block.hash, block.timestamp) != (said.block, said.issued.time):
        return f"the chain has another block {said.issued.number} than the evidence is bound to"
    given = statement.collateral
    if isinstance(given, SoftwareCollateral):
        known = view.facts.nodes[statement.party].tls_fingerprint
        if given.fingerprint != known:
            return "the evidence is not signed with the certificate that the chain holds for its party"
    return None


def _appraised(
    statement: Statement, policies: Mapping[str, AttestationPolicy], at: Moment
) -> dict[str, Appraisal]:
    return {name: statement.judged(policy, at) for name, policy in policies.items()}


def _words(seen: Mapping[str, Appraisal], statement: Statement, ports: Ports) -> dict[str, Any]:
    """What is recorded of each appraisal: the policy, and the signed result (EAR)."""
    return dict(_of_each(seen, statement, ports))


def _of_each(
    seen: Mapping[str, Appraisal], statement: Statement, ports: Ports
) -> Iterator[tuple[str, dict[str, Any]]]:
    by = VerifierId(developer=ports.me, build=ports.build)
    for name, each in seen.items():
        claims = result_claims(each, statement.challenge, by)
        yield name, {"policy": each.policy, "kind": each.kind, "result": ports.sign_result(claims)}
