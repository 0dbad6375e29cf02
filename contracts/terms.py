"""The ids that the contracts give, and what they hash; computed without a chain."""

from __future__ import annotations

import os

os.environ.setdefault("ETH_HASH_BACKEND", "pysha3")  # five times the default backend's speed

from collections.abc import Sequence
from typing import Any

from eth_abi.abi import encode
from eth_hash.auto import keccak

from sealtrace.protocol.identifiers import Address, Hex32, hex32, raw
from sealtrace.protocol.records import GrantTerms, TaskTerms

_USE = "(uint8,uint48,bytes32,bytes32,bytes32)"


def terms_hash(terms: TaskTerms) -> Hex32:
    """What stands for a task's terms in its key:
    ``keccak256(abi.encode(spec, purpose, protections, deadline, keccak256(words of the uses)))``.
    """
    uses = keccak(b"".join(encode([_USE], [use]) for use in _uses(terms)))
    types = ["bytes32", "bytes32", "uint16", "uint32", "bytes32"]
    words = [raw(terms.spec), raw(terms.purpose), int(terms.protections), terms.deadline, uses]
    return _keccak(types, words)


def task_id(chain_id: int, ledger: Address, terms: TaskTerms) -> Hex32:
    """The id of a task. It commits to all of ``terms``: other terms are another task."""
    parties = keccak(encode(["address"] * len(terms.parties), terms.parties))
    types = ["uint256", "address", "address", "bytes32", "bytes32"]
    return _keccak(types, [chain_id, ledger, terms.requester, raw(terms_hash(terms)), parties])


def grant_id(chain_id: int, registry: Address, owner: Address, serial: int, terms: GrantTerms) -> Hex32:
    """The id of the grant that ``owner`` issues under its running ``serial``."""
    types = ["uint256", "address", "address", "uint32", "bytes32", "bytes32", "address", "bytes32"]
    allowed = [raw(terms.dataset), raw(terms.algorithm), terms.requester, raw(terms.purpose)]
    return _keccak(types, [chain_id, registry, owner, serial, *allowed])


def dataset_id(owner: Address, commitment: Hex32) -> Hex32:
    """The id of a dataset: ``keccak256(abi.encode(owner, commitment))``."""
    return _keccak(["address", "bytes32"], [owner, raw(commitment)])


def task_terms_tuple(terms: TaskTerms) -> tuple[object, ...]:
    """``terms`` as the ABI takes them."""
    return (
        terms.requester,
        raw(terms.spec),
        raw(terms.purpose),
        int(terms.protections),
        terms.deadline,
        list(terms.parties),
        _uses(terms),
    )


def task_key_tuple(terms: TaskTerms) -> tuple[object, ...]:
    """The key of the task with ``terms``, as the ABI takes it."""
    return terms.requester, raw(terms_hash(terms)), list(terms.parties)


def grant_terms_tuple(terms: GrantTerms) -> tuple[object, ...]:
    """``terms`` as the ABI takes them."""
    return (
        raw(terms.dataset),
        raw(terms.algorithm),
        terms.requester,
        raw(terms.purpose),
        terms.uses,
        terms.not_before,
        terms.expires_at,
        int(terms.protections),
        terms.approval_required,
        terms.epsilon_millionths,
        list(terms.participants),
    )


def _uses(terms: TaskTerms) -> list[tuple[object, ...]]:
    return [
        (use.party, use.epsilon_millionths, raw(use.dataset), raw(use.algorithm), raw(use.grant))
        for use in terms.uses
    ]


def _keccak(types: Sequence[str], values: Sequence[Any]) -> Hex32:
    return hex32(keccak(encode(types, values)))
