"""The Merkle log against the reference roots of RFC 6962 and every proof of small trees."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealtrace.protocol.merkle import (
    EMPTY_ROOT,
    BadProof,
    MerkleTree,
    leaf_hash,
    node_hash,
    verify_consistency,
    verify_inclusion,
)

# The reference data of the Certificate Transparency implementations for RFC 6962 §2.1.
LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def tree_of(size: int) -> MerkleTree:
    return MerkleTree(leaf_hash(str(n).encode()) for n in range(size))


def plain_root(leaves: list[bytes]) -> bytes:
    """RFC 9162 §2.1.1, word for word."""
    if not leaves:
        return EMPTY_ROOT
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return node_hash(plain_root(leaves[:k]), plain_root(leaves[k:]))


@pytest.mark.parametrize("size", range(1, 9))
def test_roots_are_the_reference_roots(size):
    tree = MerkleTree(leaf_hash(leaf) for leaf in LEAVES)
    assert tree.root(size).hex() == ROOTS[size - 1]


def test_the_empty_tree_has_the_hash_of_nothing():
    assert MerkleTree().root() == EMPTY_ROOT


@given(st.lists(st.binary(max_size=8), max_size=70))
def test_roots_of_every_size_follow_the_definition(records):
    leaves = [leaf_hash(record) for record in records]
    tree = MerkleTree(leaves)
    for size in range(len(leaves) + 1):
        assert tree.root(size) == plain_root(leaves[:size])


@pytest.mark.parametrize("size", range(1, 18))
def test_every_record_is_proved_to_be_in_every_larger_tree(size):
    tree = tree_of(17)
    for index in range(size):
        verify_inclusion(tree.leaf(index), index, size, tree.inclusion(index, size), tree.root(size))


@pytest.mark.parametrize("size", range(1, 18))
def test_every_smaller_tree_is_proved_to_be_a_prefix(size):
    tree = tree_of(17)
    for old in range(1, size + 1):
        proof = tree.consistency(old, size)
        verify_consistency(old, size, tree.root(old), tree.root(size), proof)


@given(st.integers(2, 40), st.data())
def test_no_proof_survives_a_changed_bit(size, data):
    tree = tree_of(size)
    index = data.draw(st.integers(0, size - 1))
    proof = tree.inclusion(index)
    place = data.draw(st.integers(0, len(proof) - 1))
    proof[place] = bytes([proof[place][0] ^ 1]) + proof[place][1:]
    with pytest.raises(BadProof):
        verify_inclusion(tree.leaf(index), index, size, proof, tree.root())


@given(st.integers(2, 40), st.data())
def test_a_rewritten_record_cannot_be_hidden_behind_an_old_root(size, data):
    old = data.draw(st.integers(1, size - 1))
    rewritten = data.draw(st.integers(0, old - 1))
    honest = tree_of(size)
    leaves = [honest.leaf(n) for n in range(size)]
    leaves[rewritten] = leaf_hash(b"rewritten")
    forged = MerkleTree(leaves)
    with pytest.raises(BadProof):
        verify_consistency(old, size, honest.root(old), forged.root(), forged.consistency(old))


@pytest.mark.parametrize("mangle", [lambda p: [*p, b"\0" * 32], lambda p: p[:-1], lambda p: []])
def test_proofs_of_the_wrong_length_are_refused(mangle):
    tree = tree_of(7)
    with pytest.raises(BadProof):
        verify_inclusion(tree.leaf(2), 2, 7, mangle(tree.inclusion(2)), tree.root())
    with pytest.raises(BadProof):
        verify_consistency(3, 7, tree.root(3), tree.root(), mangle(tree.consistency(3)))


def test_a_place_outside_the_tree_is_refused():
    tree = tree_of(3)
    with pytest.raises(IndexError):
        tree.inclusion(3)
    with pytest.raises(IndexError):
        tree.consistency(0)
    with pytest.raises(BadProof):
        verify_inclusion(tree.leaf(0), 3, 3, [], tree.root())
    with pytest.raises(BadProof):
        verify_consistency(0, 3, tree.root(0), tree.root(), [])
    with pytest.raises(BadProof):
        verify_consistency(3, 3, tree.root(2), tree.root(), [])
