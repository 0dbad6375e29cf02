"""What a scheduler says about a task, read strictly and believed only as far as the chain bears it out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sealtrace.node.gateway.certificates import MalformedCertificate, fingerprint, pem_to_der
from sealtrace.node.ports import Introduction, Peer
from sealtrace.protocol.canonical import digest
from sealtrace.protocol.faults import first_fault
from sealtrace.protocol.identifiers import Address, AddressField, Hex32, hex32
from sealtrace.protocol.records import Node, TaskTerms
from sealtrace.protocol.spec import MAX_SPEC_BYTES, InvalidSpec, TaskSpec, read_spec

MAX_PEM_BYTES = 16 << 10


class BadIntroduction(ValueError):
    """The introduction is malformed, or the chain says otherwise; ask the scheduler again."""


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _Party(_Document):
    address: AddressField
    gateway_url: Annotated[str, Field(pattern=r"^https://[\x21-\x7e]{1,255}$")]
    certificate_pem: Annotated[str, Field(max_length=MAX_PEM_BYTES)]


class _Introduction(_Document):
    spec: Annotated[str, Field(max_length=MAX_SPEC_BYTES)]
    parties: Annotated[list[_Party], Field(min_length=1, max_length=16)]


def read_introduction(
    given: Mapping[str, Any], terms: TaskTerms, nodes: Mapping[Address, Node]
) -> Introduction:
    """Read an introduction to the task with these ``terms`` (the chain's).

    ``nodes`` are the parties' records on the chain. That the specification *means* those terms is the
    gate's to judge, because a difference there is a reason to refuse; here only its digest is held to them.

    Raises:
        BadIntroduction: see its message.
    """
    try:
        body = _Introduction.model_validate(dict(given))
    except ValidationError as cause:
        raise BadIntroduction(first_fault(cause.errors(), "introduction")) from cause
    if tuple(party.address for party in body.parties) != terms.parties:
        raise BadIntroduction("it introduces other parties than the chain names")
    peers = tuple(_peer(party, nodes) for party in body.parties)
    return Introduction(_spec(body.spec, terms.spec), peers)


def to_stored(introduction: Introduction) -> tuple[str, list[dict[str, str]]]:
    """The introduction's specification and parties, as they are kept."""
    parties = [
        {"address": p.address, "gateway_url": p.gateway_url, "certificate_pem": p.certificate_pem}
        for p in introduction.parties
    ]
    return introduction.spec.canonical().decode(), parties


def from_stored(spec: str, parties: list[dict[str, str]]) -> Introduction:
    """What :func:`to_stored` kept."""
    body = _Introduction.model_validate({"spec": spec, "parties": parties})
    peers = tuple(Peer(p.address, p.gateway_url, p.certificate_pem) for p in body.parties)
    return Introduction(read_spec(spec.encode()), peers)


def _spec(text: str, expected: Hex32) -> TaskSpec:
    try:
        spec = read_spec(text.encode())
    except InvalidSpec as cause:
        raise BadIntroduction(str(cause)) from cause
    if (observed := digest(spec.model_dump(mode="json"))) != expected:
        raise BadIntroduction(f"the specification has the digest {observed}, the chain says {expected}")
    return spec


def _peer(party: _Party, nodes: Mapping[Address, Node]) -> Peer:
    try:
        observed = hex32(fingerprint(pem_to_der(party.certificate_pem)))
    except (MalformedCertificate, UnicodeEncodeError) as cause:
        raise BadIntroduction(f"party {party.address}: {cause}") from cause
    if observed != nodes[party.address].tls_fingerprint:
        raise BadIntroduction(f"party {party.address}: not the certificate that the chain holds for it")
    return Peer(party.address, party.gateway_url, party.certificate_pem)
