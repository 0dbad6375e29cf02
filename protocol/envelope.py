"""Envelopes that one recipient can open: HPKE (RFC 9180) in base mode, bound to a header.

Layout: the magic line, the length of the header (4 bytes, big-endian), the header in canonical JSON, then
``enc ‖ ct`` of HPKE with DHKEM(X25519, HKDF-SHA256), HKDF-SHA256 and AES-256-GCM. ``info`` is the SHA-256 of
everything before ``enc``: an envelope made for one task does not open under another's header.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from sealtrace.protocol.canonical import NotCanonical, canonical, parse_canonical

MAGIC = b"sealtrace.envelope/1\n"
MAX_HEADER_BYTES = 16 << 10
_SUITE = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


class BadEnvelope(ValueError):
    """An envelope is malformed, altered, or sealed to another key."""


@dataclass(frozen=True, slots=True)
class Opened:
    """What an envelope held, and the header it is bound to."""

    header: Mapping[str, Any]
    plaintext: bytes


def seal(plaintext: bytes, recipient: bytes, header: Mapping[str, Any]) -> bytes:
    """Seal ``plaintext`` to the X25519 public key ``recipient`` (32 bytes) under ``header``.

    The header travels in the clear and is authenticated.

    Raises:
        BadEnvelope: ``recipient`` is not a usable X25519 key, or the header is too long.
    """
    prefix = _prefix(canonical(dict(header)))
    try:
        key = X25519PublicKey.from_public_bytes(recipient)
        return prefix + _SUITE.encrypt(plaintext, key, _info(prefix))
    except ValueError as cause:
        raise BadEnvelope(f"cannot seal to this key: {cause}") from cause


def unseal(envelope: bytes, key: X25519PrivateKey) -> Opened:
    """Open ``envelope`` with the recipient's private key.

    Raises:
        BadEnvelope: it is malformed, was altered, or was sealed to another key.
    """
    header, prefix = _split(envelope)
    try:
        plaintext = _SUITE.decrypt(envelope[len(prefix) :], key, _info(prefix))
    except (InvalidTag, ValueError) as cause:
        raise BadEnvelope("this key does not open it: wrong recipient, or bytes altered") from cause
    return Opened(header, plaintext)


def wrap(secret: bytes, recipient: bytes, info: bytes) -> bytes:
    """Wrap a short secret, such as a data key, to the X25519 public key ``recipient``: ``enc ‖ ct`` of HPKE.

    It opens under the same ``info`` alone, so that says what the secret is for.

    Raises:
        BadEnvelope: ``recipient`` is not a usable X25519 key.
    """
    try:
        return _SUITE.encrypt(secret, X25519PublicKey.from_public_bytes(recipient), info)
    except ValueError as cause:
        raise BadEnvelope(f"cannot wrap for this key: {cause}") from cause


def unwrap(wrapped: bytes, key: X25519PrivateKey, info: bytes) -> bytes:
    """What :func:`wrap` wrapped.

    Raises:
        BadEnvelope: it was wrapped to another key or under another ``info``, or was altered.
    """
    try:
        return _SUITE.decrypt(wrapped, key, info)
    except (InvalidTag, ValueError) as cause:
        raise BadEnvelope("this key does not open it: another recipient or purpose, or altered") from cause


def header_of(envelope: bytes) -> Mapping[str, Any]:
    """The header of ``envelope``, not yet authenticated: only :func:`unseal` vouches for it.

    Raises:
        BadEnvelope: it is malformed.
    """
    return _split(envelope)[0]


def _prefix(header: bytes) -> bytes:
    if len(header) > MAX_HEADER_BYTES:
        raise BadEnvelope(f"a header of {len(header)} bytes is over {MAX_HEADER_BYTES}")
    return MAGIC + len(header).to_bytes(4, "big") + header


def _split(envelope: bytes) -> tuple[Mapping[str, Any], bytes]:
    start = len(MAGIC) + 4
    if len(envelope) < start or not envelope.startswith(MAGIC):
        raise BadEnvelope("not a Sealtrace envelope")
    length = int.from_bytes(envelope[len(MAGIC) : start], "big")
    if length > MAX_HEADER_BYTES or len(envelope) < start + length:
        raise BadEnvelope("the header's length is wrong")
    try:
        header = parse_canonical(envelope[start : start + length])
    except NotCanonical as cause:
        raise BadEnvelope(f"the header is {cause}") from cause
    if not isinstance(header, dict):
        raise BadEnvelope("the header is not an object")
    return header, envelope[: start + length]


def _info(prefix: bytes) -> bytes:
    return hashlib.sha256(prefix).digest()
