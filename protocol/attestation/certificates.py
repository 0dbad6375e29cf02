"""X.509 chains and revocation lists, judged at a given time (RFC 5280, as far as vendors use it)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import reduce
from itertools import pairwise
from typing import Final, NamedTuple, TypeAlias

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sealtrace.protocol.attestation.refusals import EvidenceRefused, Refusal
from sealtrace.protocol.identifiers import UnixSeconds

UNREADABLE: Final = (
    ValueError,
    TypeError,
    InvalidSignature,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.ExtensionNotFound,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What reading or verifying a certificate of somebody else's making can raise, its parts being read late."""

PublicKey: TypeAlias = ec.EllipticCurvePublicKey | rsa.RSAPublicKey


def read_pem(text: bytes) -> tuple[x509.Certificate, ...]:
    """Read certificates from PEM in its one spelling (RFC 7468 §3, strict): no byte of it is left uncounted.

    Raises:
        EvidenceRefused: it is no PEM, or another spelling of it.
    """
    try:
        read = tuple(x509.load_pem_x509_certificates(text))
    except UNREADABLE as cause:
        raise EvidenceRefused(Refusal.MALFORMED, f"no PEM certificates ({str(cause)[:80]})") from cause
    if b"".join(each.public_bytes(Encoding.PEM) for each in read) != text:
        raise EvidenceRefused(Refusal.MALFORMED, "PEM with bytes that belong to no certificate")
    return read


def read_der(data: bytes) -> x509.Certificate:
    """Read one certificate.

    Raises:
        EvidenceRefused: it is none.
    """
    try:
        return x509.load_der_x509_certificate(data)
    except UNREADABLE as cause:
        raise EvidenceRefused(Refusal.MALFORMED, f"no certificate ({str(cause)[:80]})") from cause


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the certificate's DER."""
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()


def key_fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the SubjectPublicKeyInfo of the certificate's key."""
    key = public_key(certificate)
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def public_key(certificate: x509.Certificate) -> PublicKey:
    """The certificate's key.

    Raises:
        EvidenceRefused: it is neither of an elliptic curve nor RSA.
    """
    try:
        key = certificate.public_key()
    except UNREADABLE as cause:
        raise EvidenceRefused(Refusal.CHAIN_BROKEN, "a certificate whose key cannot be read") from cause
    if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        raise EvidenceRefused(Refusal.CHAIN_BROKEN, "a certificate with a key of no vendor's kind")
    return key


def p384_key(certificate: x509.Certificate) -> ec.EllipticCurvePublicKey:
    """The key of a certificate that signs evidence with ECDSA on P-384.

    Raises:
        EvidenceRefused: it is another kind of key.
    """
    key = public_key(certificate)
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise EvidenceRefused(Refusal.CHAIN_BROKEN, "the certificate is not of a key on P-384")
    return key


def common_name(certificate: x509.Certificate) -> str:
    """The subject's common name; empty where there is not exactly one."""
    try:
        names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    except UNREADABLE:
        return ""
    return str(names[0].value) if len(names) == 1 else ""


class Window(NamedTuple):
    """The first and the last second at which something is valid."""

    first: UnixSeconds
    last: UnixSeconds

    def within(self, other: Window) -> Window:
        """The seconds at which both are valid."""
        return Window(max(self.first, other.first), min(self.last, other.last))


def check_chain(chain: Sequence[x509.Certificate], at: UnixSeconds) -> Window:
    """Hold a chain, root first and leaf last, to its signatures, its roles and its times.

    Returns the window in which all of it is valid. Whether the root is a vendor's is for the caller to see.

    Raises:
        EvidenceRefused: a certificate was not issued by the one before it, may issue none, or is not valid.
    """
    _check_issued(chain[0], chain[0])
    for depth, (issuer, issued) in enumerate(pairwise(chain)):
        _check_issued(issued, issuer)
        _check_authority(issuer, below=len(chain) - depth - 2)
    windows = list(map(window_of, chain))
    for each, window in zip(chain, windows, strict=True):
        if not window.first <= at <= window.last:  # a name takes longer to read than all the rest
            check_window(f"the certificate of {common_name(each)!r}", window, at)
    return reduce(Window.within, windows)


def window_of(certificate: x509.Certificate) -> Window:
    """When a certificate is valid: both ends belong to it (RFC 5280 §4.1.2.5)."""
    first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return Window(UnixSeconds(int(first.timestamp())), UnixSeconds(int(last.timestamp())))


def check_window(what: str, window: Window, at: UnixSeconds) -> None:
    """Hold ``at`` to a window.

    Raises:
        EvidenceRefused: it is outside.
    """
    if at < window.first:
        raise EvidenceRefused(Refusal.NOT_YET_VALID, f"{what} is valid from {window.first}, judged at {at}")
    if at > window.last:
        raise EvidenceRefused(Refusal.EXPIRED, f"{what} was valid until {window.last}, judged at {at}")


def check_not_revoked(
    crl: bytes, issuer: x509.Certificate, certificates: Sequence[x509.Certificate], at: UnixSeconds
) -> Window:
    """Hold certificates that ``issuer`` issued to its revocation list; returns the list's own window.

    It ends the second before the next list is due, as dcap-qvl has it too (RFC 5280 §5.1.2.5 leaves it open).

    Raises:
        EvidenceRefused: one is revoked, or the list is not the issuer's, or not of this time.
    """
    try:
        listed = x509.load_der_x509_crl(crl)
        genuine = listed.is_signature_valid(public_key(issuer))
    except UNREADABLE as cause:
        raise EvidenceRefused(Refusal.MALFORMED, f"no revocation list ({str(cause)[:80]})") from cause
    if not genuine:
        raise EvidenceRefused(Refusal.CHAIN_BROKEN, f"not the revocation list of {common_name(issuer)!r}")
    if listed.next_update_utc is None:
        raise EvidenceRefused(Refusal.MALFORMED, "a revocation list that does not say until when it holds")
    first = UnixSeconds(int(listed.last_update_utc.timestamp()))
    window = Window(first, UnixSeconds(int(listed.next_update_utc.timestamp()) - 1))
    check_window("the revocation list", window, at)
    for each in certificates:
        if listed.get_revoked_certificate_by_serial_number(each.serial_number) is not None:
            raise EvidenceRefused(Refusal.REVOKED, f"the certificate of {common_name(each)!r} is revoked")
    return window


def check_signs(leaf: x509.Certificate) -> None:
    """Hold the certificate of a key that signs evidence to its use: signatures, and no certificates.

    Raises:
        EvidenceRefused: it is for another use.
    """
    try:
        basic = leaf.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    except UNREADABLE as cause:
        raise EvidenceRefused(Refusal.CHAIN_BROKEN, "a certificate that does not say its use") from cause
    if basic.ca or not usage.digital_signature:
        raise EvidenceRefused(Refusal.CHAIN_BROKEN, f"{common_name(leaf)!r} may not sign evidence")


def _check_issued(issued: x509.Certificate, issuer: x509.Certificate) -> None:
    try:
        issued.verify_directly_issued_by(issuer)
    except UNREADABLE as cause:
        names = f"{common_name(issued)!r} was not issued by {common_name(issuer)!r}"
        raise EvidenceRefused(Refusal.CHAIN_BROKEN, f"the certificate of {names}") from cause


def _check_authority(issuer: x509.Certificate, below: int) -> None:
    """Whether ``issuer`` may issue, with ``below`` authorities under it (RFC 5280 §4.2.1.3, §4.2.1.9)."""
    try:
        basic = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = issuer.extensions.get_extension_for_class(x509.KeyUsage).value
        deep_enough = basic.path_length is None or basic.path_length >= below
        allowed = basic.ca and usage.key_cert_sign and deep_enough
    except UNREADABLE as cause:
        raise EvidenceRefused(Refusal.CHAIN_BROKEN, f"{common_name(issuer)!r} is no authority") from cause
    if not allowed:
        raise EvidenceRefused(Refusal.CHAIN_BROKEN, f"{common_name(issuer)!r} may not issue this certificate")
