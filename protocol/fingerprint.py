"""The fingerprint of a dataset: a Merkle root over its bytes, committed to with a salt.

The bytes of the file as they are (CSV, Parquet, any other), cut into pieces of 1 MiB, the last one
shorter, are the leaves of an RFC 9162 tree. The chain holds ``SHA-256(salt ‖ root)``: the fingerprint
of a small table can be guessed, the commitment cannot be opened without the salt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from sealtrace.protocol.identifiers import Hex32, hex32, raw
from sealtrace.protocol.merkle import MerkleTree, leaf_hash

PIECE_BYTES = 1 << 20
SALT_BYTES = 32


class BadSalt(ValueError):
    """A salt is not 32 bytes: make one with a secure random source, once per commitment."""


def fingerprint(pieces: Iterable[bytes]) -> Hex32:
    """The root over ``pieces``, each of 1 MiB but the last. Holds 64 bytes for each piece."""
    return root_of(leaf_hash(piece) for piece in pieces)


def root_of(leaves: Iterable[bytes]) -> Hex32:
    """The root over leaf hashes that were made elsewhere, for instance on several threads."""
    return hex32(MerkleTree(leaves).root())


def pieces_of(data: bytes) -> Iterator[bytes]:
    """Cut ``data`` as a file would be cut."""
    for start in range(0, len(data), PIECE_BYTES):
        yield data[start : start + PIECE_BYTES]


def commitment(root: Hex32, salt: bytes) -> Hex32:
    """``SHA-256(salt ‖ root)``, what the chain holds.

    Raises:
        BadSalt: ``salt`` is not 32 bytes.
    """
    if len(salt) != SALT_BYTES:
        raise BadSalt(f"the salt has {len(salt)} bytes, not {SALT_BYTES}")
    return hex32(hashlib.sha256(salt + raw(root)).digest())
