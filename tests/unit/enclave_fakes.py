"""A task whose one step runs in an enclave at the third party, and what that enclave shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scheduler_fakes import NOW, PARTIES, Person, document, h
from simulated_enclave import measured, stated, worked

from sealtrace.node.gateway.certificates import pem_to_der
from sealtrace.protocol.attestation.appraisal import Stage
from sealtrace.protocol.attestation.binding import Challenge, Moment
from sealtrace.protocol.attestation.eventlog import Event
from sealtrace.protocol.attestation.statement import Statement
from sealtrace.protocol.identifiers import Hex32
from sealtrace.protocol.spec import TaskSpec

HOST = PARTIES[2]
ALGORITHM, RUNTIME = h(2), h(701)
POLICIES = {"p0": h(901), "p1": h(902)}


def tee_document(protocol: str | None = "SIMULATED", **changes: Any) -> Any:
    """A specification of one step in an enclave as JSON; a protocol of ``None`` is left open."""
    value = document(
        2, **{"parties": [each.address for each in PARTIES], "compute": [HOST.address], **changes}
    )
    step = {**value["steps"][1], "id": "train", "engine": "tee", "after": [], "policies": dict(POLICIES)}
    if protocol is None:
        step.pop("protocol", None)
    else:
        step["protocol"] = protocol
    return {**value, "steps": [step]}


def tee_spec(**changes: Any) -> TaskSpec:
    return TaskSpec.model_validate(tee_document(**changes))


def begun(spec: TaskSpec) -> tuple[Event, ...]:
    """What the enclave has measured before any data came."""
    step = spec.steps[0]
    return measured(RUNTIME, step.algorithm, spec.digest(), step.policies.values())


def ended(spec: TaskSpec, output: Hex32) -> tuple[Event, ...]:
    """The whole log of a run that gave ``output``."""
    datasets = [spec.input(name).dataset for name in spec.steps[0].inputs]
    opened = {each: h(800 + index) for index, each in enumerate(datasets)}
    return (*begun(spec), *worked(opened, output))


def shown(
    task: Hex32,
    spec: TaskSpec,
    events: Sequence[Event],
    *,
    stage: Stage = Stage.RELEASE,
    by: Person = HOST,
    algorithm: Hex32 = ALGORITHM,
    key: bytes = b"\7" * 32,
) -> Statement:
    """What a simulated enclave at ``by`` shows after ``events``."""
    challenge = Challenge(task, h(10), Moment(NOW, 10), key, algorithm)
    certificate = pem_to_der(by.certificate)
    return stated(stage, by.address, by.tls, certificate, challenge, events, RUNTIME)
