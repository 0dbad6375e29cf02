"""What the TEE engine asks of an attested platform."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from sealtrace.protocol.attestation.binding import REPORT_DATA_BYTES
from sealtrace.protocol.attestation.evidence import Kind

DIGEST_BYTES = 48
"""Of SHA-384, which is what runtime registers take."""


@dataclass(frozen=True, slots=True)
class RawEvidence:
    """What a platform signed, not verified by anybody yet."""

    kind: Kind
    raw: bytes = field(repr=False)
    report_data: bytes
    endorsements: bytes = b""
    """Certificates that came with it, in the platform's own form (SEV-SNP: the host's table)."""
    event_log: bytes = b""
    """The platform's own log of what it measured (dstack: JSON)."""
    machine: bytes = b""
    """How the machine was configured, in the platform's words (dstack: JSON). Nobody signed this."""

    @property
    def simulated(self) -> bool:
        """Whether no hardware stands behind it."""
        return not self.kind.is_hardware


class Attester(Protocol):
    """A platform that signs what it runs. Every kind but ``software`` is hardware's word."""

    name: str

    def available(self) -> bool:
        """Whether this host offers it, as far as can be told without asking for evidence."""
        ...

    def evidence(self, report_data: bytes) -> RawEvidence:
        """What the platform signs over ``report_data`` (64 bytes), fresh.

        Raises:
            AttesterUnavailable: the platform is not there, or stays busy.
            AttesterFailed: it gave what cannot be evidence for ``report_data``.
        """
        ...


class Extender(Protocol):
    """A platform whose registers take up events after the start."""

    def extend(self, event: str, digest: bytes) -> None:
        """Extend the runtime register with ``digest`` (SHA-384, 48 bytes) of ``event``.

        Raises:
            AttesterUnavailable: the platform does not take it.
        """
        ...


def check_report_data(report_data: bytes) -> None:
    """Refuse what is not 64 bytes: platforms pad shorter ones, each in its own way."""
    if len(report_data) != REPORT_DATA_BYTES:
        raise ValueError(f"report data is {REPORT_DATA_BYTES} bytes, not {len(report_data)}")


def check_digest(digest: bytes) -> None:
    """Refuse what is no digest that a runtime register can be extended with."""
    if len(digest) != DIGEST_BYTES:
        raise ValueError(f"a SHA-384 digest is {DIGEST_BYTES} bytes, not {len(digest)}")
