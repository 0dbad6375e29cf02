"""What an enclave without hardware shows: the word of its party's node over a log."""

from __future__ import annotations

from collections.abc import Sequence

from sealtrace.protocol.attestation.appraisal import Stage
from sealtrace.protocol.attestation.binding import Challenge, report_data
from sealtrace.protocol.attestation.eventlog import Event
from sealtrace.protocol.attestation.evidence import Evidence, Kind, SoftwareCollateral
from sealtrace.protocol.attestation.jws import SigningKey
from sealtrace.protocol.attestation.software import software_evidence
from sealtrace.protocol.attestation.statement import Statement
from sealtrace.protocol.identifiers import Address, Hex32


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
