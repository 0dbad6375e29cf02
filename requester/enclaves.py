"""What a task's enclave states, held to the task and its result; and the metrics it tells while it runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from sealtrace.protocol.attestation.appraisal import Stage
from sealtrace.protocol.attestation.eventlog import (
    BrokenLog,
    EventKind,
    check_order,
    digests_of,
    is_destroyed,
)
from sealtrace.protocol.attestation.evidence import Kind
from sealtrace.protocol.attestation.refusals import EvidenceRefused
from sealtrace.protocol.attestation.statement import Statement, read_statement
from sealtrace.protocol.canonical import NotCanonical, parse_canonical
from sealtrace.protocol.envelope import BadEnvelope, unseal
from sealtrace.protocol.identifiers import Address, Hex32
from sealtrace.protocol.spec import TaskSpec
from sealtrace.requester.errors import EnclaveStatementWrong, MetricsUnreadable
from sealtrace.requester.ports import SealedMetrics

SIMULATED_WARNING = "the enclave is simulated: whoever runs its host can read every input and sign anything"


@dataclass(frozen=True, slots=True)
class Attested:
    """What vouches for a result that an enclave gave: its last statement, which the owners judged."""

    statement: Hex32
    kind: Kind

    @property
    def simulated(self) -> bool:
        """Whether no hardware stands behind it."""
        return not self.kind.is_hardware


def stated(text: bytes, task: Hex32, spec: TaskSpec, stage: Stage) -> Statement:
    """The enclave's statement of ``stage`` in ``text``, which is of this task and under its protocol.

    Whether its evidence is genuine, and good enough, the owners judged by their policies; judge it again by
    :meth:`Statement.judged`.

    Raises:
        EnclaveStatementWrong: it is none, or says otherwise.
    """
    try:
        found = read_statement(text)
        check_order(found.evidence.events)
    except (EvidenceRefused, BrokenLog) as cause:
        raise EnclaveStatementWrong(task, str(cause)) from cause
    for why in _why_not_of(found, task, spec, stage):
        raise EnclaveStatementWrong(task, why)
    return found


def vouching(text: bytes, task: Hex32, spec: TaskSpec, output: Hex32) -> Attested:
    """What the enclave's last statement in ``text`` says of the run that gave the sealed ``output``.

    Raises:
        EnclaveStatementWrong: it is another statement, or does not end in the destruction of the inputs, or
            names another output.
    """
    found = stated(text, task, spec, Stage.FINAL)
    events = found.evidence.events
    if not is_destroyed(events):
        raise EnclaveStatementWrong(task, "its event log does not end in the destruction of the inputs")
    if digests_of(events, EventKind.OUTPUT) != {output}:
        raise EnclaveStatementWrong(task, f"its event log does not name the output {output} alone")
    return Attested(found.digest, found.evidence.kind)


def _why_not_of(found: Statement, task: Hex32, spec: TaskSpec, stage: Stage) -> Iterator[str]:
    step, events = spec.steps[0], found.evidence.events
    if (found.challenge.task, found.party, found.stage) != (task, spec.enclave, stage):
        yield f"it is of another task, party or stage than {stage}"
    named = (found.challenge.algorithm, *digests_of(events, EventKind.ALGORITHM))
    if set(named) != {step.algorithm}:
        yield f"the algorithm that ran was not {step.algorithm}"
    if digests_of(events, EventKind.CONFIG) != {spec.digest()}:
        yield f"what ran was not the specification {spec.digest()}"
    if digests_of(events, EventKind.POLICY) != set(step.policies.values()):
        yield "it ran under other policies than the specification names"
    if found.evidence.kind.is_hardware != (step.protocol == "HARDWARE"):
        yield f"its evidence is of {found.evidence.kind}, and the task asks for {step.protocol}"


@dataclass(frozen=True, slots=True)
class Round:
    """What an algorithm told of itself after one round of training."""

    number: int
    metrics: dict[str, float]


def rounds_in(message: SealedMetrics, task: Hex32, party: Address, key: X25519PrivateKey) -> Sequence[Round]:
    """The rounds in one sealed message of the enclave at ``party``.

    Raises:
        MetricsUnreadable: it does not open under ``key``, is another message than it is said to be, or holds
            something else.
    """
    try:
        opened = unseal(message.sealed, key)
        expected = {"task": task, "party": party, "kind": "metrics", "number": message.number}
        if dict(opened.header) != expected:
            raise BadEnvelope("it is another message, or of another task")
        told = parse_canonical(opened.plaintext, limit_bytes=len(opened.plaintext), large=True)
        return [_round(each) for each in told]
    except (BadEnvelope, NotCanonical, ValueError, TypeError, KeyError, AttributeError) as cause:
        raise MetricsUnreadable(task, message.number, str(cause)) from cause


def _round(told: dict[str, Any]) -> Round:
    number, metrics = told["round"], told["metrics"]
    if type(number) is not int or not all(type(each) in (int, float) for each in metrics.values()):
        raise ValueError("a round is a number with metrics that are numbers")
    return Round(number, dict(metrics))
