"""Keys and certificates of the made-up networks' nodes: always the same, so that a history is too."""

from __future__ import annotations

import datetime as dt
import hashlib

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from sealtrace.protocol.canonical import sha256

NODES = ["0x" + c * 40 for c in "123"]


def _key(node):
    number = int.from_bytes(hashlib.sha256(b"tls " + node.encode()).digest())
    return ec.derive_private_key(number >> 1, ec.SECP256R1())


def _certificate(node, key):
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, node)])
    made = dt.datetime(2023, 1, 1, tzinfo=dt.UTC)
    unsigned = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(made)
        .not_valid_after(made + dt.timedelta(days=3650))
    )
    return unsigned.sign(key, hashes.SHA256(), ecdsa_deterministic=True).public_bytes(Encoding.DER)


KEYS = {node: _key(node) for node in NODES}
CERTIFICATES = {node: _certificate(node, key) for node, key in KEYS.items()}
FINGERPRINTS = {node: sha256(text) for node, text in CERTIFICATES.items()}
