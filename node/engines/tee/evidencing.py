"""An enclave's statements: evidence over what it has done so far, with the collateral to judge it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from sealtrace.node.engines.errors import AttesterFailed, AttesterUnavailable
from sealtrace.node.engines.tee.attesters.discovery import discover
from sealtrace.node.engines.tee.attesters.port import Attester, RawEvidence
from sealtrace.node.engines.tee.attesters.software import SimulatedEnclave
from sealtrace.node.engines.tee.attesters.tsm import ConfigfsTsm
from sealtrace.node.engines.tee.confinement import Confinement
from sealtrace.node.engines.tee.job import EnclaveJob, Platform
from sealtrace.node.gateway.certificates import pem_to_der
from sealtrace.protocol.attestation.appraisal import Stage
from sealtrace.protocol.attestation.binding import Challenge, report_data
from sealtrace.protocol.attestation.eventlog import Event
from sealtrace.protocol.attestation.evidence import (
    Collateral,
    Evidence,
    Kind,
    NitroCollateral,
    SnpCollateral,
    SoftwareCollateral,
    read_dcap_collateral,
)
from sealtrace.protocol.attestation.jws import SigningKey
from sealtrace.protocol.attestation.refusals import EvidenceRefused
from sealtrace.protocol.attestation.snp_table import read_host_table
from sealtrace.protocol.attestation.software import software_evidence
from sealtrace.protocol.attestation.statement import Statement
from sealtrace.protocol.identifiers import Hex32, UnixSeconds

COLLATERAL_S = 30.0
"""How long Intel's collateral is waited for."""
PRESENT = "01"
"""What a barrier that is in force counts as, among the measurements of software evidence."""


class Witness:
    """The platform's witness of one run: asked for a statement whenever its event log has grown."""

    def __init__(self, job: EnclaveJob, key: bytes, runtime: Hex32, confinement: Confinement) -> None:
        """``key`` is the enclave's public key, raw.

        Raises:
            AttesterUnavailable: the platform that the task asks for is not there.
        """
        self._job = job
        self._challenge = Challenge(job.task, job.block.hash, job.block.moment, key, job.algorithm)
        self._attester = _attester(job, runtime, confinement)
        self._extended = 0
        self._collateral: Collateral | None = None

    def state(self, stage: Stage, events: tuple[Event, ...]) -> Statement:
        """The statement over ``events``.

        Raises:
            AttesterUnavailable, AttesterFailed: the platform gives no evidence, or no collateral for it.
        """
        self._extend(events)
        raw = self._attester.evidence(report_data(self._challenge, events))
        collateral = self._collateral_for(raw)
        evidence = Evidence(raw.kind, raw.raw, events)
        return Statement(stage, self._job.party, self._challenge, evidence, collateral)

    def _collateral_for(self, raw: RawEvidence) -> Collateral:
        """Collateral of now, or that of before: a run does not fail because nobody publishes at its end."""
        try:
            self._collateral = _collateral(raw, self._job.platform)
        except AttesterUnavailable:
            if self._collateral is None:
                raise
        return self._collateral

    def _extend(self, events: tuple[Event, ...]) -> None:
        """Extend the platform's register by what is new, where it has one: a policy may ask for it."""
        if not isinstance(self._attester, ConfigfsTsm):
            return
        for event in events[self._extended :]:
            with suppress(AttesterUnavailable):
                self._attester.extend(event.kind, event.measured())
        self._extended = len(events)


def _attester(job: EnclaveJob, runtime: Hex32, confinement: Confinement) -> Attester:
    if job.protocol == "SIMULATED":
        return SimulatedEnclave(_word(job, runtime, confinement))
    found = next((each for each in discover() if each.available), None)
    if found is None:
        raise AttesterUnavailable(
            "this host offers no attested platform: see sealtrace node doctor, or have the owners grant "
            "tee-simulated in words"
        )
    return found.attester


def _word(job: EnclaveJob, runtime: Hex32, confinement: Confinement) -> Callable[[bytes], bytes]:
    """The node's word: its runtime and the barriers that hold the algorithm, over given report data."""
    key = load_signing_key(Path(job.platform.key))
    measurements = {"runtime": runtime[2:], **{each.value: PRESENT for each in confinement.barriers}}
    at = UnixSeconds(job.block.timestamp)
    return lambda bound: software_evidence(key, bound, measurements, at)


def load_signing_key(path: Path) -> SigningKey:
    """The node's TLS key.

    Raises:
        AttesterUnavailable: it cannot be read, or signs no such text.
    """
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise AttesterUnavailable(f"{path.name}: the node's TLS key cannot be read") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
        raise AttesterUnavailable(f"{path.name}: the node's TLS key is of a kind that signs no evidence")
    return key


def _collateral(raw: RawEvidence, platform: Platform) -> Collateral:
    if raw.kind is Kind.SOFTWARE:
        return SoftwareCollateral(pem_to_der(Path(platform.certificate).read_text(encoding="ascii")))
    if raw.kind is Kind.SEV_SNP:
        return _of_amd(raw.endorsements)
    if raw.kind is Kind.NITRO:
        return NitroCollateral()
    return _of_intel(raw.raw, platform.pccs_url)


def _of_amd(table: bytes) -> SnpCollateral:
    """The host's certificates, as configfs-tsm hands them over."""
    try:
        return read_host_table(table)
    except EvidenceRefused as cause:
        raise AttesterFailed(f"the host gave no usable certificates of itself: {cause.detail}") from cause


def _of_intel(quote: bytes, url: str) -> Collateral:
    """What Intel publishes for the platform of ``quote``, fetched from a caching service or from Intel."""
    try:
        import dcap_qvl
    except ImportError as cause:
        raise AttesterUnavailable("dcap-qvl is missing: pip install 'sealtrace[tee]'") from cause
    try:
        asked = dcap_qvl.get_collateral(url or dcap_qvl.INTEL_PCS_URL, quote)
        fetched = asyncio.run(asyncio.wait_for(asked, COLLATERAL_S))
        return read_dcap_collateral(fetched.to_json().encode())
    except Exception as cause:  # the library raises what its HTTP client does
        raise AttesterUnavailable(f"no collateral for this platform: {cause}") from cause
