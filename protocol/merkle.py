"""An append-only Merkle tree and its proofs (RFC 9162 §2.1).

Every function speaks of leaf *hashes*; :func:`leaf_hash` makes one from a record.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

EMPTY_ROOT = hashlib.sha256(b"").digest()


class BadProof(ValueError):
    """An inclusion or consistency proof does not lead to the root it was given for."""


def leaf_hash(record: bytes) -> bytes:
    """``SHA-256(0x00 ‖ record)`` (RFC 9162 §2.1.1)."""
    return hashlib.sha256(b"\0" + record).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """``SHA-256(0x01 ‖ left ‖ right)`` (RFC 9162 §2.1.1)."""
    return hashlib.sha256(b"\1" + left + right).digest()


class MerkleTree:
    """A tree that grows at its right edge and remembers every complete subtree.

    Extending it costs one hash a leaf on average; roots and proofs of any earlier size cost O(log n).
    """

    def __init__(self, leaves: Iterable[bytes] = ()) -> None:
        self._levels: list[list[bytes]] = [[], []]
        self.extend(leaves)

    def __len__(self) -> int:
        return len(self._levels[0])

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Add leaf hashes at the right edge."""
        nodes, level = self._levels[0], 1
        nodes.extend(leaves)
        while len(nodes) // 2 > len(above := self._levels[level]):
            known = 2 * len(above)
            above.extend(map(node_hash, nodes[known::2], nodes[known + 1 :: 2]))
            nodes, level = above, level + 1
            if level == len(self._levels):
                self._levels.append([])

    def leaf(self, index: int) -> bytes:
        """The leaf hash at ``index``."""
        return self._levels[0][index]

    def root(self, size: int | None = None) -> bytes:
        """The root of the first ``size`` leaves (default: all)."""
        return self._subtree(0, self._checked(size))

    def inclusion(self, index: int, size: int | None = None) -> list[bytes]:
        """The proof that leaf ``index`` is among the first ``size`` (RFC 9162 §2.1.3.1)."""
        size = self._checked(size)
        if not 0 <= index < size:
            raise IndexError(f"leaf {index} is not among the first {size}")
        return self._path(index, 0, size)

    def consistency(self, old: int, size: int | None = None) -> list[bytes]:
        """The proof that the first ``old`` leaves are a prefix of the first ``size`` (§2.1.4.1)."""
        size = self._checked(size)
        if not 0 < old <= size:
            raise IndexError(f"{old} leaves are not a prefix of {size}")
        return self._subproof(old, 0, size, complete=True) if old < size else []

    def _checked(self, size: int | None) -> int:
        size = len(self) if size is None else size
        if not 0 <= size <= len(self):
            raise IndexError(f"the tree holds {len(self)} leaves, not {size}")
        return size

    def _subtree(self, low: int, high: int) -> bytes:
        width = high - low
        if width == 0:
            return EMPTY_ROOT
        if width & (width - 1) == 0:  # splits keep every power of two aligned: it is stored
            level = width.bit_length() - 1
            return self._levels[level][low >> level]
        middle = low + _split(width)
        return node_hash(self._subtree(low, middle), self._subtree(middle, high))

    def _path(self, index: int, low: int, high: int) -> list[bytes]:
        if high - low == 1:
            return []
        middle = low + _split(high - low)
        if index < middle:
            return [*self._path(index, low, middle), self._subtree(middle, high)]
        return [*self._path(index, middle, high), self._subtree(low, middle)]

    def _subproof(self, old: int, low: int, high: int, *, complete: bool) -> list[bytes]:
        if old == high:
            return [] if complete else [self._subtree(low, high)]
        middle = low + _split(high - low)
        if old <= middle:
            rest = self._subproof(old, low, middle, complete=complete)
            return [*rest, self._subtree(middle, high)]
        return [*self._subproof(old, middle, high, complete=False), self._subtree(low, middle)]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Check that ``leaf`` is leaf ``index`` of the tree of ``size`` with ``root`` (§2.1.3.2).

    Raises:
        BadProof: it does not follow from ``proof``.
    """
    if not 0 <= index < size:
        raise BadProof(f"leaf {index} cannot be in a tree of {size}")
    node, last, current = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise BadProof("the proof is longer than the tree is deep")
        if node & 1 or node == last:
            current = node_hash(sibling, current)
            while node and not node & 1:
                node, last = node >> 1, last >> 1
        else:
            current = node_hash(current, sibling)
        node, last = node >> 1, last >> 1
    if last != 0 or current != root:
        raise BadProof(f"leaf {index} of {size} does not lead to the given root")


def verify_consistency(old: int, size: int, old_root: bytes, root: bytes, proof: Sequence[bytes]) -> None:
    """Check that the tree of ``old`` leaves is a prefix of the tree of ``size`` (§2.1.4.2).

    Raises:
        BadProof: it does not follow from ``proof``.
    """
    if not 0 < old <= size:
        raise BadProof(f"{old} leaves cannot be a prefix of {size}")
    if old == size:
        if proof or old_root != root:
            raise BadProof("two trees of one size differ")
        return
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    if not path:
        raise BadProof("the proof is empty")
    node, last = old - 1, size - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    first = second = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise BadProof("the proof is longer than the tree is deep")
        if node & 1 or node == last:
            first, second = node_hash(sibling, first), node_hash(sibling, second)
            while node and not node & 1:
                node, last = node >> 1, last >> 1
        else:
            second = node_hash(second, sibling)
        node, last = node >> 1, last >> 1
    if last != 0 or first != old_root or second != root:
        raise BadProof(f"{old} leaves do not lead to {size} leaves with the given roots")


def _split(width: int) -> int:
    """The largest power of two below ``width`` (RFC 9162 §2.1.1)."""
    return 1 << ((width - 1).bit_length() - 1)
