"""AWS Nitro Enclaves attestation documents, by ``cbor2`` and ``cryptography``.

Structure and steps: AWS Nitro Enclaves user guide, "Verifying the root of trust"; COSE_Sign1: RFC 9052 §4.2.
A document carries its chain; its leaf lives about three hours, so it is judged at a block of its own time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import cbor2
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384

from sealtrace.protocol.attestation.certificates import (
    Window,
    check_chain,
    check_signs,
    check_window,
    fingerprint,
    p384_key,
    read_der,
)
from sealtrace.protocol.attestation.evidence import Evidence, Kind, NitroCollateral, TcbStatus, Verified
from sealtrace.protocol.attestation.refusals import EvidenceRefused, Refusal
from sealtrace.protocol.attestation.roots import Roots
from sealtrace.protocol.identifiers import UnixSeconds

MAX_CHAIN: Final = 8
CLOCK_SKEW_S: Final = 300
"""How far a hypervisor's clock may be ahead of the block that a document is judged at."""
_ES384: Final = {1: -35}  # RFC 9053 §2.1
_COSE_SIGN1_TAG: Final = 0xD2  # tag 18, in one byte
_TEXT, _BYTES = (str,), (bytes,)
_FIELDS: Final[Mapping[str, tuple[type, ...]]] = {
    "module_id": _TEXT,
    "digest": _TEXT,
    "timestamp": (int,),
    "pcrs": (dict,),
    "certificate": _BYTES,
    "cabundle": (list,),
    "public_key": (bytes, type(None)),
    "user_data": (bytes, type(None)),
    "nonce": (bytes, type(None)),
}

_OPTIONAL: Final = frozenset({"public_key", "user_data", "nonce"})


def verify_nitro(evidence: Evidence, collateral: NitroCollateral, roots: Roots, at: UnixSeconds) -> Verified:
    """Verify an attestation document at a time; ``user_data`` holds the 64 bytes of the enclave's binding.

    Raises:
        EvidenceRefused: it is not genuine then; see the reason.
    """
    raw = evidence.raw[1:] if evidence.raw[:1] == bytes([_COSE_SIGN1_TAG]) else evidence.raw
    protected, payload, signature = _sign1(raw)
    document = _document(payload)
    chain = tuple(map(read_der, (*document["cabundle"], document["certificate"])))
    if fingerprint(chain[0]) != roots.nitro:
        raise EvidenceRefused(Refusal.UNKNOWN_ROOT, f"the chain begins with {fingerprint(chain[0])}")
    window = check_chain(chain, at)
    check_signs(chain[-1])
    _check_signature(chain[-1], protected, payload, signature)
    made = UnixSeconds(document["timestamp"] // 1000)  # milliseconds
    check_window("the document", Window(UnixSeconds(made - CLOCK_SKEW_S), window.last), at)
    pcrs: dict[int, bytes] = document["pcrs"]
    return Verified(
        kind=Kind.NITRO,
        raw=raw,
        report_data=document["user_data"] or b"",
        measurements={f"pcr{number}": value.hex() for number, value in sorted(pcrs.items())},
        versions={},
        platform={"module_id": document["module_id"].encode().hex()},
        status=TcbStatus.UP_TO_DATE,
        debug=not any(pcrs.get(0, b"")),
        valid_from=window.first,
        valid_until=window.last,
    )


def _sign1(raw: bytes) -> tuple[bytes, bytes, bytes]:
    """The protected header, payload and signature of a COSE_Sign1 in its one encoding."""
    value = _decode(raw)
    if _encoded(value) != raw:  # definite lengths, shortest heads, nothing after it: no byte is uncounted
        raise EvidenceRefused(Refusal.MALFORMED, "a COSE_Sign1 in another than its one encoding")
    if not isinstance(value, list) or len(value) != 4 or value[1] != {}:
        raise EvidenceRefused(Refusal.MALFORMED, "not a COSE_Sign1 with an empty unprotected header")
    protected, _, payload, signature = value
    if not all(isinstance(each, bytes) for each in (protected, payload, signature)):
        raise EvidenceRefused(Refusal.MALFORMED, "a COSE_Sign1 whose parts are not byte strings")
    if _decode(protected) != _ES384 or len(signature) != 96:
        raise EvidenceRefused(Refusal.UNSUPPORTED, "signed with another algorithm than ES384")
    return protected, payload, signature


def _document(payload: bytes) -> dict[str, Any]:
    document = _decode(payload)
    if not isinstance(document, dict) or not set(_FIELDS) - _OPTIONAL <= set(document) <= set(_FIELDS):
        raise EvidenceRefused(Refusal.MALFORMED, "not the fields of an attestation document")
    document = {**dict.fromkeys(_OPTIONAL), **document}
    for name, types in _FIELDS.items():
        if type(document[name]) not in types:
            raise EvidenceRefused(Refusal.MALFORMED, f"{name} is not of its type")
    if not document["module_id"]:
        raise EvidenceRefused(Refusal.MALFORMED, "a document of no module")
    if document["digest"] != "SHA384" or not 0 < document["timestamp"] < 1 << 53:
        raise EvidenceRefused(Refusal.UNSUPPORTED, "another digest than SHA384, or no time")
    pcrs, bundle = document["pcrs"], document["cabundle"]
    in_range = all(type(number) is int and 0 <= number < 32 for number in pcrs)
    if not pcrs or not in_range or any(type(pcr) is not bytes or len(pcr) != 48 for pcr in pcrs.values()):
        raise EvidenceRefused(Refusal.MALFORMED, "the PCRs are not 1 to 32 values of 48 bytes")
    if not 0 < len(bundle) <= MAX_CHAIN or any(type(each) is not bytes for each in bundle):
        raise EvidenceRefused(Refusal.MALFORMED, f"the bundle is not 1 to {MAX_CHAIN} certificates")
    return document


def _decode(data: bytes) -> Any:
    try:
        return cbor2.loads(data)
    except (ValueError, TypeError, OverflowError, RecursionError, cbor2.CBORError) as cause:
        raise EvidenceRefused(Refusal.MALFORMED, f"no CBOR ({str(cause)[:80]})") from cause


def _encoded(value: Any) -> bytes:
    try:
        return cbor2.dumps(value)
    except (ValueError, TypeError, RecursionError, cbor2.CBORError) as cause:
        raise EvidenceRefused(Refusal.MALFORMED, "CBOR of values that no document has") from cause


def _check_signature(leaf: x509.Certificate, protected: bytes, payload: bytes, signature: bytes) -> None:
    r, s = int.from_bytes(signature[:48], "big"), int.from_bytes(signature[48:], "big")
    signed = cbor2.dumps(["Signature1", protected, b"", payload])  # RFC 9052 §4.4
    try:
        p384_key(leaf).verify(encode_dss_signature(r, s), signed, ec.ECDSA(SHA384()))
    except InvalidSignature as cause:
        raise EvidenceRefused(Refusal.SIGNATURE_INVALID, "the COSE signature is not the leaf's") from cause
