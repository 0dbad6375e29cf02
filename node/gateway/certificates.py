"""A node's self-signed TLS certificate, and the fingerprint of it that the chain holds."""

from __future__ import annotations

import datetime as dt
import hashlib
import ipaddress
import ssl
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME = dt.timedelta(days=3653)  # ten years; a node replaces it by changing the chain's entry


class MalformedCertificate(ValueError):
    """A peer's certificate is not one PEM certificate; ask the scheduler for the introduction."""


def create_certificate(
    node: str, hosts: Sequence[str] = (), *, now: dt.datetime | None = None
) -> tuple[bytes, bytes]:
    """Return ``(certificate PEM, private key PEM)`` for ``node`` (its chain address).

    EC P-256, self-signed, not a CA (what it signs is not trusted), valid for ten years, for
    localhost and ``hosts`` (names or IP addresses).
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, node)])
    start = (now or dt.datetime.now(dt.UTC)) - dt.timedelta(minutes=5)
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + LIFETIME)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(_alternative_names(hosts), critical=False)
        .sign(key, hashes.SHA256())
    )
    return (
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


def fingerprint(der: bytes) -> bytes:
    """Return the SHA-256 of a DER certificate: 32 bytes, what ``NodeRegistry`` holds."""
    return hashlib.sha256(der).digest()


def pem_to_der(pem: str) -> bytes:
    """Return the DER bytes of one PEM certificate.

    Raises:
        MalformedCertificate: it is not exactly one PEM certificate.
    """
    try:
        (certificate,) = x509.load_pem_x509_certificates(pem.encode("ascii"))
    except ValueError as error:
        raise MalformedCertificate("not one PEM certificate") from error
    return certificate.public_bytes(serialization.Encoding.DER)


def server_context(certificate: str, private_key: str) -> ssl.SSLContext:
    """Return a TLS 1.3 context that demands a client certificate; trusts nobody yet."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(certificate, private_key)
    return context


def client_context(certificate: str, private_key: str, peer_pem: str) -> ssl.SSLContext:
    """Return a TLS 1.3 context that presents our certificate and trusts exactly one peer's.

    Names are not checked: the pinned certificate says more than a name could.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.load_cert_chain(certificate, private_key)
    context.load_verify_locations(cadata=peer_pem)
    return context


def _alternative_names(hosts: Sequence[str]) -> x509.SubjectAlternativeName:
    names = dict.fromkeys(["localhost", "127.0.0.1", *hosts])
    return x509.SubjectAlternativeName([_general_name(host) for host in names])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
