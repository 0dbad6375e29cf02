"""The certificates that a SEV-SNP host hands to its guest beside a report: a table of GUIDs.

AMD, SEV-ES Guest-Hypervisor Communication Block Standardization (56421), section on the extended guest
request: rows of GUID, offset and length (both 32 bits, little-endian), ended by a row of zeros.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Mapping
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from sealtrace.protocol.attestation.evidence import SnpCollateral
from sealtrace.protocol.attestation.refusals import EvidenceRefused, Refusal

ARK: Final = uuid.UUID("c0b406a4-a803-4952-9743-3fb6014cd0ae")
ASK: Final = uuid.UUID("4ab7b379-bbac-4fe4-a02f-05aef327c782")
VCEK: Final = uuid.UUID("63da758d-e664-4564-adc5-f4b93be8accd")
VLEK: Final = uuid.UUID("a8074bc2-a25a-483e-aae6-39c045a0b8a1")
CRL: Final = uuid.UUID("92f81bc3-5811-4d3d-97ff-d19f88dc67ea")
MAX_ROWS: Final = 16
_ROW: Final = struct.Struct("<16sII")
_PEM: Final = b"-----BEGIN"


def read_host_table(table: bytes) -> SnpCollateral:
    """The collateral in a host's table. Certificates may be in DER or PEM.

    Raises:
        EvidenceRefused: it is malformed, or lacks a certificate of the chain.
    """
    found = _entries(table)
    vek = found.get(VLEK) or found.get(VCEK)
    if vek is None or ASK not in found or ARK not in found:
        raise EvidenceRefused(Refusal.COLLATERAL_MISSING, "the host's table lacks a certificate of the chain")
    try:
        chain = b"".join(_loaded(found[each]).public_bytes(Encoding.PEM) for each in (ASK, ARK))
        return SnpCollateral(_loaded(vek).public_bytes(Encoding.DER), chain, found.get(CRL))
    except ValueError as cause:
        raise EvidenceRefused(Refusal.MALFORMED, f"a row holds no certificate ({cause})") from cause


def _entries(table: bytes) -> Mapping[uuid.UUID, bytes]:
    found: dict[uuid.UUID, bytes] = {}
    for number in range(MAX_ROWS):
        row = table[number * _ROW.size : (number + 1) * _ROW.size]
        if len(row) < _ROW.size:
            break
        name, offset, length = _ROW.unpack(row)
        if not any(name):
            return found
        if offset + length > len(table) or not length:
            break
        found[uuid.UUID(bytes=name)] = table[offset : offset + length]
    raise EvidenceRefused(Refusal.MALFORMED, "the host's table of certificates is cut or does not end")


def _loaded(certificate: bytes) -> x509.Certificate:
    if certificate.lstrip().startswith(_PEM):
        return x509.load_pem_x509_certificate(certificate)
    return x509.load_der_x509_certificate(certificate)
