"""Software evidence: a node's signed word about what it runs, for development and where an owner trusts it.

It proves who says it, and nothing else: whoever runs the host can read the inputs and can sign anything.
So it is a kind of its own, is appraised as contraindicated, and passes only where a policy names
``tee-simulated``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from sealtrace.protocol.attestation.certificates import Window, check_window
from sealtrace.protocol.attestation.evidence import Evidence, Kind, SoftwareCollateral, TcbStatus, Verified
from sealtrace.protocol.attestation.jws import SigningKey, TokenRefused, read, sign, thumbprint
from sealtrace.protocol.attestation.refusals import EvidenceRefused, Refusal
from sealtrace.protocol.attestation.roots import Roots
from sealtrace.protocol.identifiers import UnixSeconds

TYPE: Final = "sealtrace-software-evidence+jwt"
LIFETIME_S: Final = 86_400
"""How long a node's word holds after it was given: the longest run of an engine."""


def software_evidence(
    key: SigningKey, report_data: bytes, measurements: Mapping[str, str], at: UnixSeconds
) -> bytes:
    """The raw bytes of software evidence, as a node's simulated platform signs them with its TLS key.

    ``measurements`` are lower-case hexadecimal by name; ``runtime`` is the one that policies name. ``at`` is
    the time of the block that it is bound to.
    """
    claims = {
        "simulated": True,
        "iat": int(at),
        "report_data": report_data.hex(),
        "measurements": dict(measurements),
    }
    return sign(claims, key, TYPE).encode()


def verify_software(
    evidence: Evidence, collateral: SoftwareCollateral, roots: Roots, at: UnixSeconds
) -> Verified:
    """Verify that a node said this, within the day before ``at``.

    Raises:
        EvidenceRefused: it did not, or not then; see the reason.
    """
    try:
        key = x509.load_der_x509_certificate(collateral.certificate).public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey):
            raise TokenRefused("the node's certificate is of a key that signs no such text")
        claims = read(evidence.raw.decode("ascii"), [key], TYPE)
    except (TokenRefused, UnsupportedAlgorithm) as cause:
        raise EvidenceRefused(Refusal.SIGNATURE_INVALID, str(cause)) from cause
    except ValueError as cause:
        raise EvidenceRefused(Refusal.MALFORMED, "not a signed text, or no certificate") from cause
    made, report_data, measurements = _fields(claims)
    until = UnixSeconds(made + LIFETIME_S)
    check_window("the node's word", Window(made, until), at)
    return Verified(
        kind=Kind.SOFTWARE,
        raw=evidence.raw,
        report_data=report_data,
        measurements=measurements,
        versions={},
        platform={"certificate": collateral.fingerprint[2:], "kid": thumbprint(key)},
        status=TcbStatus.UP_TO_DATE,
        debug=False,
        valid_from=made,
        valid_until=until,
    )


def _fields(claims: dict[str, Any]) -> tuple[UnixSeconds, bytes, dict[str, str]]:
    try:
        made, text, measurements = claims["iat"], claims["report_data"], claims["measurements"]
        if (
            set(claims) != {"simulated", "iat", "report_data", "measurements"}
            or claims["simulated"] is not True
        ):
            raise ValueError("its claims are not those of software evidence")
        if type(made) is not int or not all(isinstance(each, str) for each in measurements.values()):
            raise ValueError("a claim is not of its type")
        return UnixSeconds(made), bytes.fromhex(text), measurements
    except (KeyError, ValueError, TypeError, AttributeError) as cause:
        raise EvidenceRefused(Refusal.MALFORMED, f"no software evidence ({cause})") from cause
