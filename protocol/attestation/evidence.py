"""Evidence, what comes beside it, and what is known once it is verified."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any, Final, TypeAlias

from sealtrace.protocol.attestation.eventlog import Event, event_of
from sealtrace.protocol.attestation.refusals import EvidenceRefused, Refusal
from sealtrace.protocol.canonical import canonical, digest, parse, parse_canonical, sha256
from sealtrace.protocol.identifiers import Hex32, UnixSeconds

MAX_RAW_BYTES = 64 << 10
MAX_DOCUMENT_BYTES = 1 << 20
_VERSION: Final = "sealtrace.attestation-evidence/1"


class Kind(StrEnum):
    """What made a piece of evidence."""

    SGX = "sgx"
    TDX = "tdx"
    SEV_SNP = "sev-snp"
    NITRO = "nitro"
    SOFTWARE = "software"

    @property
    def is_hardware(self) -> bool:
        """Whether a processor's vendor stands behind it. Software evidence is its operator's word alone."""
        return self is not Kind.SOFTWARE


class TcbStatus(StrEnum):
    """What a vendor says of a platform's firmware; the words are Intel's (PCS API v4, ``tcbStatus``).

    AMD and AWS publish no such word: their evidence counts as ``UpToDate`` here, and a policy holds SEV-SNP
    to minimum security version numbers instead. ``Revoked`` is no word here: what is revoked is not genuine.
    """

    UP_TO_DATE = "UpToDate"
    SW_HARDENING_NEEDED = "SWHardeningNeeded"
    CONFIGURATION_NEEDED = "ConfigurationNeeded"
    CONFIGURATION_AND_SW_HARDENING_NEEDED = "ConfigurationAndSWHardeningNeeded"
    OUT_OF_DATE = "OutOfDate"
    OUT_OF_DATE_CONFIGURATION_NEEDED = "OutOfDateConfigurationNeeded"


class Feature(StrEnum):
    """What weakens a platform and is nevertheless common: an owner allows each in words."""

    SMT = "smt"
    DYNAMIC_PLATFORM = "dynamic-platform"
    CACHED_KEYS = "cached-keys"
    MIGRATION_AGENT = "migration-agent"
    PROVISION_KEY = "provision-key"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What an attester hands over: the platform's signed bytes, and the events they commit to."""

    kind: Kind
    raw: bytes = field(repr=False)
    events: tuple[Event, ...] = ()

    def body(self) -> dict[str, Any]:
        """The fields as JSON has them: the platform's bytes as base64."""
        return {
            "version": _VERSION,
            "kind": self.kind,
            "raw": base64.b64encode(self.raw).decode(),
            "events": [event.document() for event in self.events],
        }

    def document(self) -> bytes:
        """The canonical JSON in which evidence travels."""
        return canonical(self.body())


def read_evidence(text: bytes) -> Evidence:
    """Read evidence as it travels.

    Raises:
        EvidenceRefused: it is not of that form, or longer than any platform's.
    """
    try:
        body = parse_canonical(text, limit_bytes=MAX_DOCUMENT_BYTES)
        if set(body) != {"version", "kind", "raw", "events"} or body["version"] != _VERSION:
            raise ValueError("not an evidence document of this version")
        if not isinstance(body["events"], list):
            raise TypeError("events is no array")
        events = tuple(map(event_of, body["events"]))
        return Evidence(Kind(body["kind"]), _strict_base64(body["raw"]), events)
    except (ValueError, TypeError, KeyError, AttributeError) as cause:
        raise EvidenceRefused(Refusal.MALFORMED, f"no evidence document ({str(cause)[:120]})") from cause


@dataclass(frozen=True, slots=True)
class DcapCollateral:
    """What Intel publishes for SGX and TDX platforms (PCS API v4): PEM chains, DER lists, signed JSON texts.

    The names are those of Intel's ``sgx_ql_qve_collateral_t`` v3, which PCCS servers and ``dcap-qvl`` speak.
    """

    pck_crl_issuer_chain: str
    root_ca_crl: bytes
    pck_crl: bytes
    tcb_info_issuer_chain: str
    tcb_info: str
    tcb_info_signature: bytes
    qe_identity_issuer_chain: str
    qe_identity: str
    qe_identity_signature: bytes

    def document(self) -> dict[str, str]:
        """The fields as JSON has them: bytes as lower-case hexadecimal."""
        each = asdict(self)
        return {name: value.hex() if isinstance(value, bytes) else value for name, value in each.items()}


@dataclass(frozen=True, slots=True)
class SnpCollateral:
    """AMD's certificates of one processor (KDS, 57230): the VEK in DER, ASK or ASVK then ARK in PEM.

    ``vek`` is the processor's own VCEK, or the VLEK that AMD gave to a cloud; ``crl`` the ARK's list in DER.
    """

    vek: bytes
    chain: bytes
    crl: bytes | None = None

    def document(self) -> dict[str, str | None]:
        """The fields as JSON has them: bytes as lower-case hexadecimal."""
        return {
            "vek": self.vek.hex(),
            "chain": self.chain.hex(),
            "crl": None if self.crl is None else self.crl.hex(),
        }


@dataclass(frozen=True, slots=True)
class NitroCollateral:
    """Nothing: an AWS Nitro document carries its own chain."""

    def document(self) -> dict[str, str]:
        """An empty object."""
        return {}


@dataclass(frozen=True, slots=True)
class SoftwareCollateral:
    """The certificate (DER) whose key signed software evidence.

    Whoever relies on it compares its fingerprint with the one that the chain holds for the node.
    """

    certificate: bytes

    @property
    def fingerprint(self) -> Hex32:
        """SHA-256 of the certificate, as the chain holds it."""
        return sha256(self.certificate)

    def document(self) -> dict[str, str]:
        """The certificate as lower-case hexadecimal."""
        return {"certificate": self.certificate.hex()}


Collateral: TypeAlias = DcapCollateral | SnpCollateral | NitroCollateral | SoftwareCollateral


def collateral_digest(collateral: Collateral) -> Hex32:
    """What is anchored beside evidence, so that anybody can judge it again: SHA-256 of the canonical JSON."""
    return digest(collateral.document())


def read_dcap_collateral(text: bytes) -> DcapCollateral:
    """Read collateral as PCCS clients store it: a JSON object of nine fields, binary ones in hexadecimal.

    Raises:
        EvidenceRefused: a field is missing, unknown or not of its type. Hexadecimal is lower case, so that
            one value has one digest.
    """
    try:
        body = parse(text, limit_bytes=MAX_DOCUMENT_BYTES)
        if set(body) != {each.name for each in fields(DcapCollateral)}:
            raise ValueError("its fields are not the nine of Intel's collateral")
        binary = {each.name for each in fields(DcapCollateral) if each.type == "bytes"}
        read: dict[str, Any] = {
            name: strict_hex(value) if name in binary else value for name, value in body.items()
        }
        if not all(isinstance(value, str | bytes) for value in read.values()):
            raise ValueError("a field is not text")
        return DcapCollateral(**read)
    except (ValueError, TypeError, AttributeError) as cause:
        raise EvidenceRefused(Refusal.MALFORMED, f"no DCAP collateral ({str(cause)[:120]})") from cause


@dataclass(frozen=True, slots=True)
class Verified:
    """What genuine evidence says; nothing of it has been compared with anybody's policy.

    ``raw`` are the bytes that count: what followed them is cut, so that padding changes no digest.
    ``measurements`` and ``platform`` are lower-case hexadecimal by name, ``versions`` security version
    numbers. ``valid_from`` and ``valid_until`` bound the times at which all that was used was valid.
    """

    kind: Kind
    raw: bytes = field(repr=False)
    report_data: bytes
    measurements: Mapping[str, str]
    versions: Mapping[str, int]
    platform: Mapping[str, str]
    status: TcbStatus
    debug: bool
    valid_from: UnixSeconds
    valid_until: UnixSeconds
    advisories: tuple[str, ...] = ()
    features: frozenset[Feature] = frozenset()
    evaluation: int | None = None
    revocation_checked: bool = True

    @property
    def digest(self) -> Hex32:
        """SHA-256 of the bytes that count: the name of this evidence in logs and on the chain."""
        return sha256(self.raw)


def _strict_base64(text: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error as cause:
        raise ValueError("not base64") from cause
    if base64.b64encode(raw).decode() != text or len(raw) > MAX_RAW_BYTES:
        raise ValueError(f"not the one base64 of at most {MAX_RAW_BYTES} bytes")
    return raw


def strict_hex(text: str) -> bytes:
    """The bytes of hexadecimal in its one spelling.

    Raises:
        ValueError: it is in another spelling, or none.
    """
    raw = bytes.fromhex(text)
    if raw.hex() != text:
        raise ValueError("hexadecimal must be lower case, without spaces")
    return raw
