"""What the gate does about an enclave: the party that runs it shows what it is, and the owners judge that.

An owner starts only after it has seen, on the chain, that the enclave's party bound its own start to the very
statement that it judges; and it counts a run as done only after it has judged the last statement too.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from sealtrace.node.directory import wipe
from sealtrace.node.engines.tee.job import FINAL
from sealtrace.node.engines.workplace import write
from sealtrace.node.hold import Hold, Ports, View
from sealtrace.node.judging import own_algorithms
from sealtrace.node.ports import Release, RunFailed, Undeliverable
from sealtrace.node.preparing import Prepared, Unfit
from sealtrace.protocol.attestation.appraisal import Appraisal, Stage
from sealtrace.protocol.attestation.binding import Moment
from sealtrace.protocol.attestation.eventlog import EventKind, digests_of
from sealtrace.protocol.attestation.evidence import SoftwareCollateral
from sealtrace.protocol.attestation.policy import AttestationPolicy
from sealtrace.protocol.attestation.refusals import EvidenceRefused
from sealtrace.protocol.attestation.results import VerifierId, result_claims
from sealtrace.protocol.attestation.statement import Statement, read_statement, why_another
from sealtrace.protocol.canonical import sha256
from sealtrace.protocol.identifiers import Address, Hex32
from sealtrace.protocol.outcome import Blame, Denial, Failure
from sealtrace.protocol.receipt import input_commitment

LOOK_BACK_BLOCKS: Final = 50_000
"""A statement that is bound to an older block is refused before the start that names it is looked for."""


class NotShown(Exception):
    """The enclave's statement is not to be had yet; the message says where it should come from."""


def show(view: View, hold: Hold, prepared: Prepared) -> Statement:
    """Begin the enclave, and show what it states.

    Raises:
        Unfit: no enclave can be begun here.
        SchedulerUnavailable: the statement cannot be shown now; the enclave ends with this hold.
    """
    ports, spec = hold.ports, view.known().spec
    folder = ports.jobs(view.task)
    ports.scheduler.statement(view.task, Stage.RELEASE)  # does it answer? an enclave is not begun in vain
    wipe(folder)
    try:
        hosted = ports.holdings.engine.host(spec, view.task, prepared.bundles, view.block, folder, hold.stop)
    except RunFailed as failed:
        hold.require()  # whoever holds the task now says what becomes of it
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
    return hosted.statement


def judge(view: View, ports: Ports, statement: Statement) -> tuple[Release, dict[str, Any]]:
    """Judge what the enclave shows, at the block of ``view``: upon what this owner would release its inputs,
    and what is recorded of it.

    Raises:
        Unfit: it is not accepted; with every reason.
    """
    if why := _why_not_of(view, ports, statement):
        raise Unfit(Denial.ATTESTATION_REFUSED, why)
    policies = own_policies(view, ports)
    seen = _appraised(statement, policies, Moment(view.block.timestamp, view.block.number))
    keep(ports, statement.document())
    if why := _reasons(seen):
        raise Unfit(Denial.ATTESTATION_REFUSED, why)
    words = {"attested": statement.digest, "appraisals": _words(seen, statement, ports)}
    return Release(statement, policies), words


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


def judge_final(view: View, ports: Ports, attested: Hex32 | None) -> dict[str, Any]:
    """Judge the enclave's last statement, which lies in the job's folder; return what is recorded of it.

    ``attested`` is the digest of the first one, which this party's start bound. The party of the enclave
    judges nothing: it shows.

    Raises:
        RunFailed: it is not accepted. What the enclave did is not what this owner allowed.
    """
    spec = view.known().spec
    if spec.enclave is None or attested is None:
        return {}
    try:
        text = (ports.jobs(view.task) / FINAL).read_bytes()
    except OSError as cause:
        detail = f"the enclave's last statement is not here: {cause.strerror}"
        raise RunFailed(Failure.INTERRUPTED, Blame.REPORTER, None, detail) from cause
    keep(ports, text)
    if spec.enclave == ports.me:
        return {}
    block = ports.chain.finalized()
    try:
        policies = own_policies(view, ports)
    except Unfit as unfit:
        raise RunFailed(Failure.INPUT_INVALID, Blame.REPORTER, None, str(unfit)) from unfit
    try:
        statement = read_statement(text)
    except EvidenceRefused as cause:
        raise _broken(spec.enclave, str(cause)) from cause
    if why := why_another(statement, kept(ports, attested)) or _why_not_of(view, ports, statement):
        raise _broken(spec.enclave, why)
    seen = _appraised(statement, policies, Moment(block.timestamp, block.number))
    if (why := _reasons(seen)) or statement.stage is not Stage.FINAL:
        raise _broken(spec.enclave, why or "it is not of the end")
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


def shown(view: View, ports: Ports) -> Statement:
    """The statement that the enclave's party bound its start to.

    Raises:
        NotShown: it is not to be had yet.
        Unfit: it is bound to a block of long ago.
    """
    text = ports.scheduler.statement(view.task, Stage.RELEASE)
    if text is None:
        raise NotShown("the scheduler has no statement of the enclave yet")
    try:
        statement = read_statement(text)
    except EvidenceRefused as cause:
        raise NotShown(f"what the scheduler gives as the enclave's statement is none: {cause}") from cause
    if statement.challenge.issued.number < view.block.number - LOOK_BACK_BLOCKS:
        raise Unfit(Denial.ATTESTATION_REFUSED, "the enclave's evidence is bound to a block of long ago")
    if statement.stage is not Stage.RELEASE or not _is_bound(view, ports, statement):
        raise NotShown("the scheduler gives another statement than the enclave's start is bound to")
    return statement


def _is_bound(view: View, ports: Ports, statement: Statement) -> bool:
    known, issued = view.known(), statement.challenge.issued
    bound = input_commitment(view.task, {}, own_algorithms(known), statement.digest)
    enclave = known.spec.computing[0]
    return ports.chain.start_of(view.task, enclave, issued.number, at=view.block) == bound


def _why_not_of(view: View, ports: Ports, statement: Statement) -> str | None:
    """Why a statement is not of this task's enclave on this chain, in words, or ``None``."""
    spec, said = view.known().spec, statement.challenge
    if (statement.party, said.task) != (spec.enclave, view.task):
        return "the statement is of another task or another party"
    if said.algorithm != spec.steps[0].algorithm:
        return f"the statement is of the algorithm {said.algorithm}"
    events, step = statement.evidence.events, spec.steps[0]
    if digests_of(events, EventKind.CONFIG) != {spec.digest()}:
        return "the enclave's log names another specification than the task's"
    if digests_of(events, EventKind.POLICY) != set(step.policies.values()):
        return "the enclave's log names other policies than the task"
    wanted = step.protocol
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


def _reasons(seen: Mapping[str, Appraisal]) -> str:
    """Every reason against a statement, by input; empty where all accept it."""
    refused = {name: "; ".join(map(str, each.reasons)) for name, each in seen.items() if each.reasons}
    return " ".join(f"{name}: {why}" for name, why in refused.items())


def _words(seen: Mapping[str, Appraisal], statement: Statement, ports: Ports) -> dict[str, Any]:
    """What is recorded of each appraisal: the policy, and the signed result (EAR)."""
    by = VerifierId(developer=ports.me, build=ports.build)
    return {
        name: {
            "policy": each.policy,
            "kind": each.kind,
            "result": ports.sign_result(result_claims(each, statement.challenge, by)),
        }
        for name, each in seen.items()
    }
