"""AMD SEV-SNP attestation reports, by ``cryptography`` alone.

Layout and rules: AMD 56860 (SEV-SNP Firmware ABI), table "ATTESTATION_REPORT", versions 2, 3 and 5; the
certificates: AMD 57230 (VCEK Certificate and KDS Interface). Both VCEK, a processor's own key, and VLEK, a
cloud's key on its processors, of the Milan, Genoa and Turin lines.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384

from sealtrace.protocol.attestation.certificates import (
    UNREADABLE,
    check_chain,
    check_not_revoked,
    common_name,
    key_fingerprint,
    p384_key,
    read_der,
    read_pem,
)
from sealtrace.protocol.attestation.evidence import (
    Evidence,
    Feature,
    Kind,
    SnpCollateral,
    TcbStatus,
    Verified,
)
from sealtrace.protocol.attestation.refusals import EvidenceRefused, Refusal
from sealtrace.protocol.attestation.roots import Product, Roots
from sealtrace.protocol.identifiers import UnixSeconds

# AMD's VEK certificates have the serial number 0, which RFC 5280 forbids and AMD will not change.
warnings.filterwarnings("ignore", message="Parsed a serial number which wasn't positive")

REPORT_BYTES: Final = 0x4A0
SIGNED_BYTES: Final = 0x2A0
VERSIONS: Final = (2, 3, 5)
_ECDSA_P384_SHA384: Final = 1
_POLICY_SMT, _POLICY_ONE, _POLICY_MIGRATION, _POLICY_DEBUG = 1 << 16, 1 << 17, 1 << 18, 1 << 19
_SIGNERS: Final[Mapping[int, str]] = {0: "SEV-VCEK", 1: "SEV-VLEK"}
_MASKED_CHIP_KEY: Final = 1 << 1
_ISSUERS: Final = ("SEV-{}", "SEV-VLEK-{}")  # ASK of VCEKs, ASVK of VLEKs; 57230 §1.3

_ARC: Final = "1.3.6.1.4.1.3704.1."  # 57230, table 8: extensions of the VEK
_TCB_EXTENSIONS: Final[Mapping[str, str]] = {
    "bootloader": _ARC + "3.1",
    "tee": _ARC + "3.2",
    "snp": _ARC + "3.3",
    "microcode": _ARC + "3.8",
    "fmc": _ARC + "3.9",
}
_PRODUCT_NAME: Final = _ARC + "2"
_HARDWARE_ID: Final = _ARC + "4"
_TCB_BYTES: Final[Mapping[Product, Mapping[str, int]]] = {
    Product.MILAN: {"bootloader": 0, "tee": 1, "snp": 6, "microcode": 7},
    Product.GENOA: {"bootloader": 0, "tee": 1, "snp": 6, "microcode": 7},
    Product.TURIN: {"fmc": 0, "bootloader": 1, "tee": 2, "snp": 3, "microcode": 7},
}
"""Where each security version number is in a TCB_VERSION (56860, table 3); all other bytes are zero."""
_PRODUCT_WORDS: Final[Mapping[str, Product]] = {
    "Milan": Product.MILAN,
    "Genoa": Product.GENOA,
    "Bergamo": Product.GENOA,
    "Siena": Product.GENOA,
    "Turin": Product.TURIN,
}
_CHIP_ID_BYTES: Final[Mapping[Product, int]] = {Product.MILAN: 64, Product.GENOA: 64, Product.TURIN: 8}


@dataclass(frozen=True, slots=True)
class Report:
    """The fields of a report that something depends on."""

    signed: bytes
    policy: int
    vmpl: int
    signer: int
    chip_key_masked: bool
    report_data: bytes
    measurement: bytes
    host_data: bytes
    id_key_digest: bytes
    author_key_digest: bytes
    reported_tcb: bytes
    chip_id: bytes
    signature: tuple[int, int]


def verify_snp(evidence: Evidence, collateral: SnpCollateral, roots: Roots, at: UnixSeconds) -> Verified:
    """Verify a SEV-SNP report at a time.

    Raises:
        EvidenceRefused: it is not genuine then; see the reason.
    """
    report = read_report(evidence.raw)
    vek, issuers = read_der(collateral.vek), read_pem(collateral.chain)
    if len(issuers) != 2:
        raise EvidenceRefused(
            Refusal.CHAIN_BROKEN, f"{len(issuers)} certificates instead of ASK or ASVK, and ARK"
        )
    ask, ark = issuers
    product = _product(ark, roots)
    window = check_chain((ark, ask, vek), at)
    if collateral.crl is not None:
        window = window.within(check_not_revoked(collateral.crl, ark, (ask,), at))
    _check_signature(report, vek)
    _check_names(report, vek, ask, product)
    versions = _check_tcb(report, vek, product)
    _check_chip(report, vek, product)
    return Verified(
        kind=Kind.SEV_SNP,
        raw=evidence.raw,
        report_data=report.report_data,
        measurements={
            "measurement": report.measurement.hex(),
            "host_data": report.host_data.hex(),
            "id_key_digest": report.id_key_digest.hex(),
            "author_key_digest": report.author_key_digest.hex(),
            "vmpl": f"{report.vmpl:02x}",
        },
        versions=versions,
        platform={"product": product.encode().hex(), "chip_id": report.chip_id.hex()},
        status=TcbStatus.UP_TO_DATE,
        debug=bool(report.policy & _POLICY_DEBUG),
        valid_from=window.first,
        valid_until=window.last,
        features=_features(report.policy),
        revocation_checked=collateral.crl is not None,
    )


def read_report(raw: bytes) -> Report:
    """Read a report and hold its reserved parts to zero, so that every byte counts.

    Raises:
        EvidenceRefused: it is not a report of version 2, 3 or 5, signed with ECDSA P-384.
    """
    if len(raw) != REPORT_BYTES:
        raise EvidenceRefused(Refusal.MALFORMED, f"{len(raw)} bytes instead of a report's {REPORT_BYTES}")
    version, algorithm, signer = _u32(raw, 0x000), _u32(raw, 0x034), _u32(raw, 0x048)
    if version not in VERSIONS or algorithm != _ECDSA_P384_SHA384:
        raise EvidenceRefused(
            Refusal.UNSUPPORTED, f"report version {version}, signature algorithm {algorithm}"
        )
    if any(raw[0x04C:0x050]) or any(raw[0x330:]) or signer >> 5:
        raise EvidenceRefused(Refusal.MALFORMED, "a reserved part of the report is not zero")
    return Report(
        signed=raw[:SIGNED_BYTES],
        policy=int.from_bytes(raw[0x008:0x010], "little"),
        vmpl=_u32(raw, 0x030),
        signer=signer >> 2 & 0b111,
        chip_key_masked=bool(signer & _MASKED_CHIP_KEY),
        report_data=raw[0x050:0x090],
        measurement=raw[0x090:0x0C0],
        host_data=raw[0x0C0:0x0E0],
        id_key_digest=raw[0x0E0:0x110],
        author_key_digest=raw[0x110:0x140],
        reported_tcb=raw[0x180:0x188],
        chip_id=raw[0x1A0:0x1E0],
        signature=(
            int.from_bytes(raw[0x2A0:0x2E8], "little"),
            int.from_bytes(raw[0x2E8:0x330], "little"),
        ),
    )


def _u32(raw: bytes, offset: int) -> int:
    return int.from_bytes(raw[offset : offset + 4], "little")


def _product(ark: x509.Certificate, roots: Roots) -> Product:
    found = key_fingerprint(ark)
    for product, pinned in roots.amd.items():
        if pinned == found:
            return product
    raise EvidenceRefused(Refusal.UNKNOWN_ROOT, f"the chain ends in a key {found}")


def _check_signature(report: Report, vek: x509.Certificate) -> None:
    if report.chip_key_masked:
        raise EvidenceRefused(Refusal.SIGNATURE_INVALID, "the platform was told not to sign (MASK_CHIP_KEY)")
    try:
        p384_key(vek).verify(encode_dss_signature(*report.signature), report.signed, ec.ECDSA(SHA384()))
    except InvalidSignature as cause:
        raise EvidenceRefused(Refusal.SIGNATURE_INVALID, "not signed by this VEK") from cause


def _check_names(report: Report, vek: x509.Certificate, ask: x509.Certificate, product: Product) -> None:
    """The report's signer is the kind of key that the certificate is, and all are of one product line."""
    if _SIGNERS.get(report.signer) != common_name(vek):
        raise EvidenceRefused(Refusal.CHAIN_BROKEN, f"signer {report.signer} with a {common_name(vek)!r}")
    if common_name(ask) != _ISSUERS[report.signer].format(product):
        raise EvidenceRefused(Refusal.CHAIN_BROKEN, f"a {common_name(vek)} issued by {common_name(ask)!r}")
    name = _der_value(_extension(vek, _PRODUCT_NAME), 0x16).decode("ascii", "replace")
    if _PRODUCT_WORDS.get(name.partition("-")[0]) is not product:
        raise EvidenceRefused(Refusal.CHAIN_BROKEN, f"the VEK is for {name!r}, its root for {product}")
    if not report.policy & _POLICY_ONE:
        raise EvidenceRefused(Refusal.MALFORMED, "bit 17 of the guest policy, which must be one, is not")


def _check_tcb(report: Report, vek: x509.Certificate, product: Product) -> dict[str, int]:
    """The reported TCB is the one that AMD derived and certified the key for."""
    places = _TCB_BYTES[product]
    reported = {name: report.reported_tcb[place] for name, place in places.items()}
    if any(byte for place, byte in enumerate(report.reported_tcb) if place not in places.values()):
        raise EvidenceRefused(Refusal.MALFORMED, "a reserved byte of the reported TCB is not zero")
    for name, number in reported.items():
        certified = int.from_bytes(_der_value(_extension(vek, _TCB_EXTENSIONS[name]), 0x02), "big")
        if certified != number:
            detail = f"{name} is {number} in the report and {certified} in the VEK"
            raise EvidenceRefused(Refusal.COLLATERAL_MISMATCH, detail)
    return reported


def _check_chip(report: Report, vek: x509.Certificate, product: Product) -> None:
    """A VCEK belongs to one chip, which the report must name (no MASK_CHIP_ID); a VLEK to none."""
    if _SIGNERS[report.signer] == "SEV-VLEK":
        return
    length = _CHIP_ID_BYTES[product]
    value = _extension(vek, _HARDWARE_ID)
    certified = value if len(value) == length else _der_value(value, 0x04)
    if report.chip_id != certified.ljust(64, b"\0") or len(certified) != length:
        raise EvidenceRefused(Refusal.COLLATERAL_MISMATCH, "the VCEK is of another chip")


def _features(policy: int) -> frozenset[Feature]:
    found = {Feature.SMT} if policy & _POLICY_SMT else set()
    return frozenset(found | ({Feature.MIGRATION_AGENT} if policy & _POLICY_MIGRATION else set()))


def _extension(vek: x509.Certificate, oid: str) -> bytes:
    try:
        value = vek.extensions.get_extension_for_oid(x509.ObjectIdentifier(oid)).value
    except UNREADABLE as cause:
        raise EvidenceRefused(Refusal.CHAIN_BROKEN, f"the VEK has no extension {oid}") from cause
    if not isinstance(value, x509.UnrecognizedExtension):
        raise EvidenceRefused(Refusal.CHAIN_BROKEN, f"the extension {oid} is not AMD's")
    return value.value


def _der_value(encoded: bytes, tag: int) -> bytes:
    """The content of a short DER value: one byte of tag, one of length (X.690 §8.1)."""
    if len(encoded) < 3 or encoded[0] != tag or encoded[1] != len(encoded) - 2:
        raise EvidenceRefused(Refusal.MALFORMED, f"an extension of the VEK is not a value of type {tag}")
    return encoded[2:]
