"""One way to verify evidence of any kind: is it genuine, at a given time?"""

from __future__ import annotations

from importlib import import_module
from typing import Final, Protocol, TypeAlias, cast

from sealtrace.protocol.attestation.evidence import (
    Collateral,
    DcapCollateral,
    Evidence,
    Kind,
    NitroCollateral,
    SnpCollateral,
    SoftwareCollateral,
    Verified,
)
from sealtrace.protocol.attestation.refusals import EvidenceRefused, Refusal
from sealtrace.protocol.attestation.roots import Roots, production_roots
from sealtrace.protocol.identifiers import UnixSeconds


class VerifierMissing(ImportError):
    """The library that verifies this kind of evidence is not installed: ``pip install 'sealtrace[tee]'``."""


class Verifier(Protocol):
    """What verifies one kind of evidence. It raises :class:`EvidenceRefused`, and decides nothing more."""

    def __call__(self, evidence: Evidence, collateral: Collateral, roots: Roots, at: UnixSeconds) -> Verified:
        """Return what genuine evidence says."""


_PACKAGE: Final = "sealtrace.protocol.attestation"
_Place: TypeAlias = tuple[str, str, type[Collateral]]
_PLACES: Final[dict[Kind, _Place]] = {
    Kind.SGX: ("dcap", "verify_dcap", DcapCollateral),
    Kind.TDX: ("dcap", "verify_dcap", DcapCollateral),
    Kind.SEV_SNP: ("snp", "verify_snp", SnpCollateral),
    Kind.NITRO: ("nitro", "verify_nitro", NitroCollateral),
    Kind.SOFTWARE: ("software", "verify_software", SoftwareCollateral),
}


def verify(
    evidence: Evidence, collateral: Collateral | None, at: UnixSeconds, *, roots: Roots | None = None
) -> Verified:
    """Return what ``evidence`` says, if it is genuine at ``at``.

    ``at`` is a block's timestamp, never a clock's: certificates, lists and collateral are all judged at it.
    ``roots`` are the vendors' unless given; only tests give others.

    Raises:
        EvidenceRefused: it is not genuine then; ``reason`` says why.
        VerifierMissing: the extra ``tee`` is not installed.
    """
    module, name, expected = _PLACES[evidence.kind]
    given = NitroCollateral() if collateral is None and evidence.kind is Kind.NITRO else collateral
    if given is None:
        raise EvidenceRefused(Refusal.COLLATERAL_MISSING, f"evidence of {evidence.kind} needs collateral")
    if type(given) is not expected:
        detail = f"evidence of {evidence.kind} with {type(given).__name__}"
        raise EvidenceRefused(Refusal.COLLATERAL_MISMATCH, detail)
    return _verifier(module, name)(evidence, given, roots or production_roots(), at)


def _verifier(module: str, name: str) -> Verifier:
    """Imported when it is asked for: who verifies no DCAP quote needs no DCAP library."""
    try:
        return cast(Verifier, getattr(import_module(f"{_PACKAGE}.{module}"), name))
    except ModuleNotFoundError as cause:
        raise VerifierMissing(f"{cause.name} is missing: pip install 'sealtrace[tee]'") from cause
