"""The textbook intersection in plain Python: every id on Curve25519, raised to both parties' secrets.

Both parties in one process and nothing sent, which flatters it. The curve itself is OpenSSL's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey


def intersect(mine: Sequence[str], theirs: Sequence[str]) -> list[str]:
    """Return which of ``mine`` are among ``theirs``, in their order."""
    my_secret, their_secret = X25519PrivateKey.generate(), X25519PrivateKey.generate()
    both_mine = [_raised(their_secret, _raised(my_secret, _point(each))) for each in mine]
    both_theirs = {_raised(my_secret, _raised(their_secret, _point(each))) for each in theirs}
    return [each for each, blinded in zip(mine, both_mine, strict=True) if blinded in both_theirs]


def _point(identity: str) -> bytes:
    return hashlib.sha256(identity.encode()).digest()


def _raised(secret: X25519PrivateKey, point: bytes) -> bytes:
    return secret.exchange(X25519PublicKey.from_public_bytes(point))
