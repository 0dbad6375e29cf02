"""Signed texts in the compact form of JWS (RFC 7515), as far as attestation results need it.

Two algorithms, each of one kind of key: ``EdDSA`` with Ed25519 (RFC 8037) and ``ES256`` with P-256 (RFC 7518
§3.4), the latter with nonces derived from the message (RFC 6979): signing takes no randomness. The header is
fixed: who reads gives the keys, so nothing in a token chooses how it is verified.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable
from typing import Any, Final, TypeAlias

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sealtrace.protocol.canonical import NotCanonical, canonical, parse

SigningKey: TypeAlias = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey
VerifyingKey: TypeAlias = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey
MAX_TOKEN_BYTES: Final = 256 << 10


class TokenRefused(ValueError):
    """A signed text is not what one of the given keys signed; ask for it again, or for the right key."""


def b64url(data: bytes) -> str:
    """Base64url without padding (RFC 7515 §2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64url(text: str) -> bytes:
    """Read base64url without padding, in its one spelling.

    Raises:
        TokenRefused: it is not that.
    """
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as cause:
        raise TokenRefused("not base64url") from cause
    if b64url(data) != text:
        raise TokenRefused("base64url in another than its one spelling")
    return data


def thumbprint(key: VerifyingKey) -> str:
    """The key's name: RFC 7638, SHA-256 of its JWK."""
    return b64url(hashlib.sha256(canonical(_jwk(key))).digest())


def sign(claims: dict[str, Any], key: SigningKey, typ: str) -> str:
    """Return the token over ``claims`` in canonical JSON."""
    header = {"alg": _algorithm(key.public_key()), "kid": thumbprint(key.public_key()), "typ": typ}
    signed = f"{b64url(canonical(header))}.{b64url(canonical(claims))}"
    return f"{signed}.{b64url(_signature(signed.encode(), key))}"


def read(token: str, keys: Iterable[VerifyingKey], typ: str) -> dict[str, Any]:
    """Return the claims of a token that one of ``keys`` signed.

    Raises:
        TokenRefused: none of them did, or it is another type of token, or malformed.
    """
    parts = token.split(".")
    if len(parts) != 3 or len(token) > MAX_TOKEN_BYTES:
        raise TokenRefused("not three parts of a signed text, or longer than any of ours")
    header = _object(unb64url(parts[0]))
    named = {thumbprint(key): key for key in keys}
    key = named.get(str(header.get("kid")))
    if key is None:
        raise TokenRefused(f"signed by a key {header.get('kid')!r}, which is not one of those asked for")
    if header != {"alg": _algorithm(key), "kid": header["kid"], "typ": typ}:
        raise TokenRefused(f"its header is not that of a {typ} signed with {_algorithm(key)}")
    _verify(key, f"{parts[0]}.{parts[1]}".encode(), unb64url(parts[2]))
    return _object(unb64url(parts[1]))


def _object(text: bytes) -> dict[str, Any]:
    try:
        value = parse(text, limit_bytes=MAX_TOKEN_BYTES)
    except NotCanonical as cause:
        raise TokenRefused(f"not JSON: {cause}") from cause
    if not isinstance(value, dict):
        raise TokenRefused("not a JSON object")
    return value


def _algorithm(key: VerifyingKey) -> str:
    if isinstance(key, ed25519.Ed25519PublicKey):
        return "EdDSA"
    if isinstance(key.curve, ec.SECP256R1):
        return "ES256"
    raise TokenRefused(f"a key on {key.curve.name}: use Ed25519 or P-256")


def _jwk(key: VerifyingKey) -> dict[str, str]:
    _algorithm(key)  # refuses a curve whose numbers are of another length
    if isinstance(key, ed25519.Ed25519PublicKey):
        raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
        return {"crv": "Ed25519", "kty": "OKP", "x": b64url(raw)}
    numbers = key.public_numbers()
    x, y = (b64url(each.to_bytes(32, "big")) for each in (numbers.x, numbers.y))
    return {"crv": "P-256", "kty": "EC", "x": x, "y": y}


def _signature(signed: bytes, key: SigningKey) -> bytes:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(signed)
    r, s = decode_dss_signature(key.sign(signed, ec.ECDSA(SHA256(), deterministic_signing=True)))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def _verify(key: VerifyingKey, signed: bytes, signature: bytes) -> None:
    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, signed)
            return
        if len(signature) != 64:
            raise InvalidSignature
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
        key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(SHA256()))
    except InvalidSignature as cause:
        raise TokenRefused("the signature is not that key's over these bytes") from cause
