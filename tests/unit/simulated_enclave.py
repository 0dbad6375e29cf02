"""What an enclave without hardware shows: the word of its party's node over a log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sealtrace.protocol.attestation import eventlog
from sealtrace.protocol.attestation.appraisal import Stage
from sealtrace.protocol.attestation.binding import Challenge, report_data
from sealtrace.protocol.attestation.eventlog import Event
from sealtrace.protocol.attestation.evidence import Evidence, Kind, SoftwareCollateral
from sealtrace.protocol.attestation.jws import SigningKey
from sealtrace.protocol.attestation.software import software_evidence
from sealtrace.protocol.attestation.statement import Statement
from sealtrace.protocol.identifiers import Address, Hex32


def measured(runtime: Hex32, algorithm: Hex32, config: Hex32, policies: Iterable[Hex32]) -> tuple[Event, ...]:
    """The log before any data came."""
    start = (eventlog.runtime(runtime), eventlog.algorithm(algorithm), eventlog.config(config))
    return (*start, *map(eventlog.policy, sorted(set(policies))))


def worked(opened: Mapping[Hex32, Hex32], output: Hex32) -> tuple[Event, ...]:
    """What comes after it: datasets opened, each with the digest of its bytes, an output, destruction."""
    took = (eventlog.took_input(dataset, digest) for dataset, digest in opened.items())
    return (*took, eventlog.gave_output(output), eventlog.destroyed(opened))


def evidence_of(key: SigningKey, challenge: Challenge, events: Sequence[Event], runtime: Hex32) -> Evidence:
    """Evidence over ``events``, signed with a node's key at the block that it is bound to."""
    log = tuple(events)
    about = report_data(challenge, log)
    word = software_evidence(key, about, {"runtime": runtime[2:]}, challenge.issued.time)
    return Evidence(Kind.SOFTWARE, word, log)


def stated(
    stage: Stage,
    party: Address,
    key: SigningKey,
    certificate: bytes,
    challenge: Challenge,
    events: Sequence[Event],
    runtime: Hex32,
) -> Statement:
    """The statement with such evidence, beside ``certificate`` (DER)."""
    evidence = evidence_of(key, challenge, events, runtime)
    return Statement(stage, party, challenge, evidence, SoftwareCollateral(certificate))
