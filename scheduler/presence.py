"""Who is there: heartbeats of nodes, believed only as far as the chain vouches for the speaker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from sealtrace.protocol.canonical import sha256
from sealtrace.protocol.faults import first_fault
from sealtrace.protocol.identifiers import Address, Hex32, UnixSeconds
from sealtrace.protocol.records import Node, NodeStatus
from sealtrace.scheduler.errors import (
    CertificateMismatch,
    HeartbeatStale,
    MalformedRequest,
    PartyNotActive,
    PartyUnknown,
)

KIND = "node.hello"
MAX_CERTIFICATE_CHARACTERS = 16 << 10
Url = Annotated[str, StringConstraints(max_length=256, pattern=r"^https?://[A-Za-z0-9.\-_\[\]:]+/?$")]


class Hello(BaseModel):
    """The body of a heartbeat."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    gateway_url: Url
    api_url: Url | None = None
    certificate_pem: str = Field(max_length=MAX_CERTIFICATE_CHARACTERS)
    engines: list[Annotated[str, StringConstraints(max_length=64)]] = Field(
        default_factory=list, max_length=32
    )
    version: str = Field(max_length=64)


@dataclass(frozen=True, slots=True)
class Presence:
    """The last heartbeat of a node: ``said_at`` by its clock, ``heard_at`` by ours."""

    node: Address
    gateway_url: str
    certificate_pem: str
    fingerprint: Hex32
    engines: tuple[str, ...]
    version: str
    said_at: UnixSeconds
    heard_at: UnixSeconds

    def alive(self, now: UnixSeconds, presence_s: float) -> bool:
        """Whether the node was heard of within ``presence_s`` seconds."""
        return now - self.heard_at <= presence_s


def read_hello(body: object) -> Hello:
    """Read a heartbeat's body strictly.

    Raises:
        MalformedRequest: it is not one; the message names the field.
    """
    try:
        return Hello.model_validate(body)
    except ValidationError as cause:
        raise MalformedRequest(first_fault(cause.errors(), "heartbeat")) from cause


def hear(hello: Hello, node: Node, said_at: UnixSeconds, now: UnixSeconds, last: Presence | None) -> Presence:
    """What to remember of a genuine heartbeat by ``node`` (its record on chain).

    A heartbeat repeated within its second keeps a node no longer alive than the first did.

    Raises:
        PartyUnknown, PartyNotActive: the chain does not vouch for the speaker.
        CertificateMismatch: the certificate is not the one on chain.
        HeartbeatStale: a later one was heard already.
    """
    require_active(node)
    observed = fingerprint_of(hello.certificate_pem)
    if observed != node.tls_fingerprint:
        raise CertificateMismatch(node.tls_fingerprint, observed)
    if last is not None and said_at < last.said_at:
        raise HeartbeatStale(said_at, last.said_at)
    heard_at = last.heard_at if last is not None and said_at == last.said_at else now
    return Presence(
        node=node.address,
        gateway_url=hello.gateway_url,
        certificate_pem=hello.certificate_pem,
        fingerprint=observed,
        engines=tuple(hello.engines),
        version=hello.version,
        said_at=said_at,
        heard_at=heard_at,
    )


def require_active(node: Node) -> None:
    """Refuse a node that the chain does not list as active.

    Raises:
        PartyUnknown, PartyNotActive: by what the chain says.
    """
    if node.status is NodeStatus.NONE:
        raise PartyUnknown(node.address)
    if node.status is not NodeStatus.ACTIVE:
        raise PartyNotActive(node.address, node.status.name.lower())


def fingerprint_of(certificate_pem: str) -> Hex32:
    """SHA-256 of the DER form of one certificate.

    Raises:
        MalformedRequest: the text is not exactly one PEM certificate.
    """
    try:
        (certificate,) = x509.load_pem_x509_certificates(certificate_pem.encode("ascii"))
    except ValueError as cause:
        raise MalformedRequest("certificate_pem is not one PEM certificate") from cause
    return sha256(certificate.public_bytes(serialization.Encoding.DER))
