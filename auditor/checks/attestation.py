"""Whether the enclaves that saw data were what their owners allowed, judged again from what they stated.

A task ran in an enclave where its terms name such a protection; the enclave is at the one party that no use
is of. What it stated is known by its digest, from the owners' logs; what it was to be, from their policies,
which stand in the records of their grants.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from sealtrace.auditor.case import Case
from sealtrace.auditor.checks.registry import Need, check
from sealtrace.auditor.events import Event, Position
from sealtrace.auditor.evidence import NodeLog
from sealtrace.auditor.findings import Severity, Verdict, satisfied, undetermined, violated
from sealtrace.auditor.statements import named_in
from sealtrace.auditor.world import TaskHistory
from sealtrace.protocol.attestation.appraisal import Appraisal, Stage
from sealtrace.protocol.attestation.binding import Moment
from sealtrace.protocol.attestation.eventlog import EventKind, digests_of, is_destroyed
from sealtrace.protocol.attestation.evidence import SoftwareCollateral
from sealtrace.protocol.attestation.jws import TokenRefused
from sealtrace.protocol.attestation.policy import (
    ENCLAVES,
    AttestationPolicy,
    BadPolicy,
    platform_of,
    read_policy,
)
from sealtrace.protocol.attestation.refusals import Refusal
from sealtrace.protocol.attestation.results import Result, Status, read_result, worst
from sealtrace.protocol.attestation.statement import Statement, why_another
from sealtrace.protocol.attestation.verification import VerifierMissing
from sealtrace.protocol.canonical import digest, sha256
from sealtrace.protocol.evidence import Kind, Record
from sealtrace.protocol.identifiers import Address, Hex32
from sealtrace.protocol.receipt import input_commitment, result_digest
from sealtrace.protocol.records import BlockRef


@check("EV-E01", Severity.CRITICAL, Need.EVENTS, Need.LOGS)
def enclaves_were_judged(case: Case) -> Iterator[Verdict]:
    """Every owner that started a task in an enclave had recorded the enclave's statement and its own
    judgement of it, and every owner that finished one that of the last statement.
    """
    for task in _in_enclaves(case):
        for owner in _owners(task):
            for stage, began in ((Stage.RELEASE, task.starts), (Stage.FINAL, task.finishes)):
                if owner in began:
                    yield _was_judged(case, task, owner, stage)


@check("EV-E02", Severity.CRITICAL, Need.EVENTS, Need.LOGS)
def starts_bind_the_statement(case: Case) -> Iterator[Verdict]:
    """In a task in an enclave, the enclave's party started first, and its start and each owner's bind the
    very statement that the owner judged.
    """
    for task in _in_enclaves(case):
        for owner in _owners(task):
            if owner in task.starts:
                yield _is_bound(case, task, owner)


@check("EV-E03", Severity.CRITICAL, Need.EVENTS, Need.LOGS, Need.STATEMENTS)
def enclaves_are_accepted(case: Case) -> Iterator[Verdict]:
    """Every statement that an owner went by is of that task, genuine at the block of the owner's judgement,
    no weaker than its grants and the task name, and accepted by the policy recorded with each of its grants.

    The auditor judges it again itself. What a simulated enclave shows vouches for no hardware.
    """
    recorded = _Policies(case)
    for shown in _all_shown(case):
        yield _is_accepted(case, shown, recorded)


@check("EV-E04", Severity.CRITICAL, Need.EVENTS, Need.LOGS, Need.STATEMENTS)
def enclaves_destroyed_what_they_opened(case: Case) -> Iterator[Verdict]:
    """The last statement of every enclave is of the same enclave and run as the first, and ends in the
    recorded destruction of every input of the task.
    """
    for task in _in_enclaves(case):
        if task.finishes:
            yield _is_destroyed(case, task)


@check("EV-E05", Severity.CRITICAL, Need.EVENTS, Need.LOGS, Need.STATEMENTS)
def enclaves_made_the_result(case: Case) -> Iterator[Verdict]:
    """The one output in the last statement's log is what the enclave's party delivered, and the result that
    each party put on the chain is the digest over all outputs and that statement.
    """
    for task in _in_enclaves(case):
        for party in task.parties:
            if party in task.finishes:
                yield _is_of_the_enclave(case, task, party)


@check("EV-E06", Severity.HIGH, Need.EVENTS, Need.LOGS, Need.STATEMENTS)
def results_say_what_was_appraised(case: Case) -> Iterator[Verdict]:
    """Every attestation result (EAR) that an owner recorded is signed by the key of its certificate, and says
    of the statement what the auditor finds.
    """
    recorded = _Policies(case)
    for shown in _all_shown(case):
        for name, said in sorted(shown.appraisals.items()):
            yield _is_result(case, shown, name, said, recorded)


# what is looked at


@dataclass(frozen=True, slots=True)
class _Shown:
    """A statement that an owner went by, and the record that says so. ``number`` is the block it was judged
    at, as the record has it."""

    task: TaskHistory
    owner: Address
    stage: Stage
    digest: Hex32
    appraisals: Mapping[str, Any]
    number: Any
    record: Record

    @property
    def name(self) -> str:
        return f"{self.task.id}/{self.owner}/{self.stage}"

    @property
    def event(self) -> Event:
        """The act on the chain that rests on it."""
        if self.stage is Stage.FINAL and self.owner in self.task.finishes:
            return self.task.finishes[self.owner]
        start = self.task.starts.get(self.owner)
        return start.event if start else self.task.created


class _Missing(Exception):
    """What is needed to tell is not there; the message says what."""


class _Wrong(Exception):
    """What a sentence asserts does not hold: what was expected, and what was seen."""

    def __init__(self, expected: str, observed: str) -> None:
        super().__init__(expected, observed)
        self.expected, self.observed = expected, observed


def _in_enclaves(case: Case) -> Iterator[TaskHistory]:
    yield from (task for task in case.tasks() if task.protections & ENCLAVES)


def _owners(task: TaskHistory) -> list[Address]:
    return sorted({use.party for use in task.uses})


def _host(task: TaskHistory) -> Address:
    """The party that runs the enclave.

    Raises:
        _Missing: there is not exactly one that it could be.
    """
    if task.host is None:
        raise _Missing("which one party runs the enclave")
    return task.host


def _all_shown(case: Case) -> Iterator[_Shown]:
    for task in _in_enclaves(case):
        for owner in _owners(task):
            log = case.logs.get(owner)
            found = (_shown(log, task, stage) for stage in Stage) if log and owner in task.starts else ()
            yield from (each for each in found if each is not None)


def _shown(log: NodeLog, task: TaskHistory, stage: Stage) -> _Shown | None:
    """What the owner of ``log`` recorded of its judgement at ``stage``, if it did."""
    record = _record(log, task, stage)
    if record is None or (named := named_in(record).get(stage)) is None:
        return None
    said = record.body if stage is Stage.RELEASE else record.body.get("attestation")
    appraisals = said.get("appraisals") if isinstance(said, Mapping) else None
    if not isinstance(said, Mapping) or not isinstance(appraisals, Mapping) or not appraisals:
        return None
    return _Shown(task, log.node, stage, named, appraisals, said.get("block_number"), record)


def _record(log: NodeLog, task: TaskHistory, stage: Stage) -> Record | None:
    """The judgement under which the owner started, or the record of its run."""
    if stage is Stage.FINAL:
        ran = log.of(task.id, Kind.TASK_RAN)
        return ran[-1] if ran else None
    judged = [each for each in log.of(task.id, Kind.TASK_JUDGED) if each.body.get("denial") is None]
    return judged[-1] if judged else None


def _verdict(thing: str, look: Callable[[], None], explanation: str, **where: Any) -> Verdict:
    """What comes of looking: nothing against it, something missing, or what is wrong."""
    try:
        look()
    except (_Missing, VerifierMissing) as cause:
        return undetermined(thing, str(cause))
    except _Wrong as wrong:
        return violated(
            thing, expected=wrong.expected, observed=wrong.observed, explanation=explanation, **where
        )
    return satisfied(thing)


def _against(shown: _Shown) -> dict[str, Any]:
    """Where a finding about ``shown`` is."""
    return {
        "event": shown.event,
        "task": shown.task.id,
        "node": shown.owner,
        "evidence": digest(shown.record.model_dump(mode="json")),
    }


# EV-E01 and EV-E02: the owner judged, and the chain is bound to what it judged


def _was_judged(case: Case, task: TaskHistory, owner: Address, stage: Stage) -> Verdict:
    thing, log = f"{task.id}/{owner}/{stage}", case.logs.get(owner)
    if log is None:
        return undetermined(thing, case.why_no_log(owner))
    if _shown(log, task, stage) is not None:
        return satisfied(thing)
    if not log.whole:
        return undetermined(thing, log.why_silent())
    final = stage is Stage.FINAL
    return violated(
        thing,
        expected=f"a judgement of the enclave's {'last' if final else 'first'} statement on record",
        observed="none",
        explanation=f"Node {owner} {'counted the run as done' if final else 'released data'} without one.",
        event=task.finishes[owner] if final else task.starts[owner].event,
        task=task.id,
        node=owner,
    )


def _is_bound(case: Case, task: TaskHistory, owner: Address) -> Verdict:
    start = task.starts[owner].event
    explanation = f"What {owner} judged is not what was bound on the chain."
    where = {"event": start, "task": task.id, "node": owner}
    return _verdict(f"{task.id}/{owner}", partial(_looked_bound, case, task, owner), explanation, **where)


def _looked_bound(case: Case, task: TaskHistory, owner: Address) -> None:
    shown = _first_shown(case, task, owner)
    host, terms = _host(task), task.terms()
    assert terms is not None  # noqa: S101 - the host is known
    own, first = task.starts[owner], task.starts.get(host)
    if first is None or first.event.position > own.event.position:
        raise _Wrong(f"a start by {host}, which runs the enclave, before", "none before")
    algorithms = sorted({use.algorithm for use in terms.uses})
    facts = case.world.facts(task, terms, own.judged_at)
    uses = terms.uses_of(owner)
    if any(use.dataset not in facts.datasets for use in uses):
        raise _Missing("the datasets that the owner's uses name")
    commitments = {use.dataset: facts.datasets[use.dataset].commitment for use in uses}
    for who, start, inputs in ((host, first, {}), (owner, own, commitments)):
        bound = start.event.hex("inputCommitment")
        expected = input_commitment(task.id, inputs, algorithms, shown.digest)
        if bound != expected:
            raise _Wrong(
                f"input commitment {expected} by {who}, over the statement {shown.digest}",
                f"input commitment {bound}",
            )


def _first_shown(case: Case, task: TaskHistory, owner: Address) -> _Shown:
    log = case.logs.get(owner)
    if log is None:
        raise _Missing(case.why_no_log(owner))
    shown = _shown(log, task, Stage.RELEASE)
    if shown is None:
        raise _Missing(f"no judgement of a statement by {owner}")
    return shown


# EV-E03: what it judged is accepted


def _is_accepted(case: Case, shown: _Shown, recorded: _Policies) -> Verdict:
    explanation = f"Node {shown.owner} went by a statement that it had no right to accept."
    return _verdict(
        shown.name, partial(_looked_accepted, case, shown, recorded), explanation, **_against(shown)
    )


def _looked_accepted(case: Case, shown: _Shown, recorded: _Policies) -> None:
    statement = _statement(case, shown.digest)
    policies = recorded.behind(shown)
    block = _block(case, shown)
    _require_of_task(case, shown, statement)
    _require_strength(case, shown, statement)
    judged = {str(said.get("policy")) for said in shown.appraisals.values() if isinstance(said, Mapping)}
    for policy in policies:
        if policy.digest() not in judged:
            raise _Wrong(f"a judgement under the policy {policy.digest()} of its grant", "none")
        reasons = [
            reason
            for reason in statement.judged(policy, _moment(block)).reasons
            if reason.code is not Refusal.NOT_DESTROYED  # EV-E04 says it
        ]
        if reasons:
            said = "; ".join(f"{reason.code}: {reason.detail}" for reason in reasons)
            raise _Wrong(f"evidence that the policy {policy.digest()} takes", said)


def _statement(case: Case, named: Hex32) -> Statement:
    found = case.statements.found.get(named)
    if found is None:
        raise _Missing(case.statements.why_missing(named))
    return found


def _block(case: Case, shown: _Shown) -> BlockRef:
    block = case.cited.get(shown.number) if type(shown.number) is int else None
    if block is None:
        raise _Missing(f"the block {shown.number}, which the record cites")
    return block


def _moment(block: BlockRef) -> Moment:
    return Moment(block.timestamp, block.number)


class _Policies:
    """Owners' policies as they recorded them when they gave their grants; each log is gone through once."""

    def __init__(self, case: Case) -> None:
        self._logs = case.logs
        self._bodies: dict[Address, Mapping[str, Mapping[str, Any]]] = {}

    def behind(self, shown: _Shown) -> list[AttestationPolicy]:
        """The policies of the grants that the owner spends for the task.

        Raises:
            _Missing: a grant has no such record.
            _Wrong: what is recorded is no policy, or not the one that is named.
        """
        uses = [use for use in shown.task.uses if use.party == shown.owner]
        bodies = self._of(shown.owner)
        return [_policy(grant, bodies.get(grant, {})) for grant in sorted({use.grant for use in uses})]

    def _of(self, owner: Address) -> Mapping[str, Mapping[str, Any]]:
        if owner not in self._bodies:
            records = self._logs[owner].records
            issued = [each.body for each in records if each.kind == Kind.GRANT_ISSUED]
            self._bodies[owner] = {str(body.get("grant")): body for body in issued}
        return self._bodies[owner]


def _policy(grant: Hex32, body: Mapping[str, Any]) -> AttestationPolicy:
    text, named = body.get("policy_text"), body.get("policy")
    if not isinstance(text, str):
        raise _Missing(f"no policy on record with the grant {grant}")
    if sha256(text.encode()) != named:
        raise _Wrong(f"the policy {named} with the grant {grant}", f"{sha256(text.encode())}")
    try:
        return read_policy(text.encode())
    except BadPolicy as cause:
        raise _Wrong(f"a policy with the grant {grant}", str(cause)) from cause


def _require_of_task(case: Case, shown: _Shown, statement: Statement) -> None:
    """The statement is of this task's enclave on this chain, at that stage, and over its specification."""
    task, said, events = shown.task, statement.challenge, statement.evidence.events
    host, block = _host(task), case.cited.get(said.issued.number)
    if block is None:
        raise _Missing(f"the block {said.issued.number}, which the statement is bound to")
    facts: list[tuple[str, int | str | None, int | str]] = [
        ("stage", shown.stage.value, statement.stage.value),
        ("party", host, statement.party),
        ("task", task.id, said.task),
        ("algorithms", _words({use.algorithm for use in task.uses}), said.algorithm),
        ("block", block.hash, said.block),
        ("time of the block", int(block.timestamp), int(said.issued.time)),
        ("specification", task.spec, _words(digests_of(events, EventKind.CONFIG))),
    ]
    if isinstance(statement.collateral, SoftwareCollateral):
        held = _fingerprint(case, task, host, shown.number)
        facts.append(("certificate", held, statement.collateral.fingerprint))
    different = [fact for fact in facts if fact[1] != fact[2]]
    if different:
        raise _Wrong(
            "; ".join(f"{name} {expected}" for name, expected, _ in different),
            "; ".join(f"{name} {observed}" for name, _, observed in different),
        )


def _words(values: set[Hex32] | frozenset[Hex32]) -> str:
    return ", ".join(sorted(values))


def _fingerprint(case: Case, task: TaskHistory, node: Address, number: int) -> Hex32 | None:
    """Of which certificate the chain said at the end of a block that it is the node's."""
    terms = task.terms()
    facts = case.world.facts(task, terms, Position.end_of(number)) if terms else None
    known = facts.nodes.get(node) if facts else None
    return known.tls_fingerprint if known else None


def _require_strength(case: Case, shown: _Shown, statement: Statement) -> None:
    """Evidence of this kind is what the task names, and what each grant of the owner allows."""
    task, terms, kind = shown.task, shown.task.terms(), statement.evidence.kind
    assert terms is not None  # noqa: S101 - the host is known
    needed = platform_of(kind).protection
    if needed not in task.protections:
        named = (task.protections & ENCLAVES).name
        raise _Wrong(f"evidence of what the task names, {named}", f"evidence of {kind}")
    facts = case.world.facts(task, terms, task.starts[shown.owner].judged_at)
    for use in terms.uses_of(shown.owner):
        grant = facts.grants.get(use.grant)
        if grant is not None and needed not in grant.protections:
            allowed = (grant.protections & ENCLAVES).name
            raise _Wrong(f"evidence of what the grant {use.grant} allows, {allowed}", f"evidence of {kind}")


# EV-E04 and EV-E05: how it ended


def _is_destroyed(case: Case, task: TaskHistory) -> Verdict:
    explanation = "That the enclave destroyed what it had opened is not on record."
    return _verdict(
        task.id, partial(_looked_destroyed, case, task), explanation, event=task.end, task=task.id
    )


def _looked_destroyed(case: Case, task: TaskHistory) -> None:
    told = sorted({tuple(named_in(record).items()) for record in _runs(case, task).values()} - {()})
    if not told:
        raise _Missing("no record of the run names the enclave's statements")
    if len(told) > 1:
        raise _Wrong("all parties name the same statements", " and ".join(str(dict(each)) for each in told))
    named = dict(told[0])
    if set(named) != set(Stage):
        raise _Wrong("a first and a last statement", f"only {', '.join(named)}")
    first, final = (_statement(case, named[stage]) for stage in (Stage.RELEASE, Stage.FINAL))
    events = final.evidence.events
    if (why := why_another(final, first)) is not None:
        raise _Wrong(f"a last statement that goes on from {first.digest}", f"{final.digest}: {why}")
    if final.stage is not Stage.FINAL or not is_destroyed(events):
        raise _Wrong("a log that ends in the destruction of every input", "it does not end so")
    kept = {use.dataset for use in task.uses} - set(events[-1].erased)
    if kept:
        raise _Wrong("the destruction of every input", f"none of {', '.join(sorted(kept))}")


def _runs(case: Case, task: TaskHistory) -> dict[Address, Record]:
    """Each party's last record of the run, where its log has one."""
    logs = {party: case.logs[party] for party in task.parties if party in case.logs}
    found = {party: _record(log, task, Stage.FINAL) for party, log in logs.items()}
    return {party: record for party, record in found.items() if record is not None}


def _is_of_the_enclave(case: Case, task: TaskHistory, party: Address) -> Verdict:
    where = {"event": task.finishes[party], "task": task.id, "node": party}
    explanation = "The result is not what the enclave states that it made."
    return _verdict(f"{task.id}/{party}", partial(_looked_made, case, task, party), explanation, **where)


def _looked_made(case: Case, task: TaskHistory, party: Address) -> None:
    record = _runs(case, task).get(party)
    outputs = _outputs(record) if record else None
    named = named_in(record).get(Stage.FINAL) if record else None
    if outputs is None or named is None:
        raise _Missing(f"no record of the run by {party} that names outputs and the last statement")
    receipt = record.body.get("receipt") if record else None
    own = receipt.get("output") if isinstance(receipt, Mapping) else None
    if own not in (None, outputs.get(party)):
        raise _Wrong(f"the output {outputs.get(party)} in the receipt of {party}", f"{own}")
    reported, due = task.finishes[party].hex("result"), result_digest(outputs, named)
    if reported != due:
        raise _Wrong(f"result {due}, over the outputs and the statement {named}", f"result {reported}")
    given = [
        event.digest for event in _statement(case, named).evidence.events if event.kind is EventKind.OUTPUT
    ]
    delivered = outputs.get(_host(task))
    if given != [delivered]:
        said = ", ".join(map(str, given)) or "none"
        raise _Wrong(f"the output {delivered} alone in the enclave's log", said)


def _outputs(record: Record) -> dict[Address, Hex32] | None:
    """What a transcript says that each party delivers."""
    transcript = record.body.get("transcript")
    told = transcript.get("outputs") if isinstance(transcript, Mapping) else None
    if not isinstance(told, Mapping) or not all(isinstance(each, str) for each in told.values()):
        return None
    return {Address(party): Hex32(each) for party, each in told.items()}


# EV-E06: the owner's signed word


def _is_result(case: Case, shown: _Shown, name: str, said: Any, recorded: _Policies) -> Verdict:
    explanation = f"The attestation result that {shown.owner} signed is not what its statement deserves."
    look = partial(_looked_result, case, shown, said, recorded)
    return _verdict(f"{shown.name}/{name}", look, explanation, **_against(shown))


def _looked_result(case: Case, shown: _Shown, said: Any, recorded: _Policies) -> None:
    statement, block = _statement(case, shown.digest), _block(case, shown)
    named = Hex32(str(said.get("policy"))) if isinstance(said, Mapping) else Hex32("none")
    try:
        policies = {policy.digest(): policy for policy in recorded.behind(shown)}
    except _Wrong as cause:
        raise _Missing("a policy on record as it is named") from cause
    if named not in policies:
        raise _Wrong(f"a result under one of the policies {', '.join(sorted(policies))}", f"under {named}")
    appraisal = statement.judged(policies[named], _moment(block))
    result = _result(_key(case, shown), said.get("result"))
    expected, observed = _worth(appraisal), _told(result)
    different = [key for key in expected if expected[key] != observed[key]]
    if different:
        raise _Wrong(
            "; ".join(f"{key} {expected[key]}" for key in different),
            "; ".join(f"{key} {observed[key]}" for key in different),
        )


def _key(case: Case, shown: _Shown) -> ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey:
    fingerprint = _fingerprint(case, shown.task, shown.owner, shown.number)
    text = case.statements.certificates.get(fingerprint) if fingerprint else None
    if text is None:
        raise _Missing(f"the certificate {fingerprint} of {shown.owner}")
    try:
        key = x509.load_der_x509_certificate(text).public_key()
    except ValueError as cause:
        raise _Missing(f"a certificate of {shown.owner} that can be read") from cause
    if not isinstance(key, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey):
        raise _Missing(f"a certificate of {shown.owner} with a key that signs results")
    return key


def _result(key: ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey, token: Any) -> Result:
    try:
        return read_result(str(token), [key])
    except TokenRefused as cause:
        raise _Wrong("a result that the key of the owner's certificate signed", str(cause)) from cause


def _worth(appraisal: Appraisal) -> dict[str, Any]:
    status = worst(appraisal.trust) if appraisal.accepted else Status.CONTRAINDICATED
    return {
        "accepted": appraisal.accepted,
        "refusals": [code.value for code in appraisal.codes],
        "status": status.value,
        "trust": {claim.value: value for claim, value in appraisal.trust.items()},
        "policy": appraisal.policy,
        "evidence": appraisal.evidence,
        "block": appraisal.at.number,
        "time": int(appraisal.at.time),
    }


def _told(result: Result) -> dict[str, Any]:
    return {
        "accepted": result.accepted,
        "refusals": list(result.refusals),
        "status": result.status.value,
        "trust": dict(result.trust),
        "policy": result.policy,
        "evidence": result.evidence,
        "block": result.block,
        "time": result.issued_at,
    }
