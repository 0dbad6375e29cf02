"""A task's terms as the ledger hashes them, and the id it gives a task; computed without a chain."""

from __future__ import annotations

import os

os.environ.setdefault("ETH_HASH_BACKEND", "pysha3")  # five times the default backend's speed

from eth_abi.abi import encode
from eth_hash.auto import keccak

from sealtrace.protocol.identifiers import Address, Hex32, hex32, raw
from sealtrace.protocol.records import GrantTerms, TaskTerms

TASK_TERMS = "(bytes32,bytes32,uint16,uint32,address[],(uint8,bytes32,bytes32,bytes32)[])"
GRANT_TERMS = "(bytes32,bytes32,address,bytes32,uint32,uint40,uint40,uint16,bool,uint48)"


def terms_hash(terms: TaskTerms) -> Hex32:
    """What the ledger keeps of a task's terms: ``keccak256(abi.encode(terms))``."""
    return hex32(keccak(encode([TASK_TERMS], [task_terms_tuple(terms)])))


def task_id(chain_id: int, ledger: Address, requester: Address, spec: Hex32) -> Hex32:
    """The id of a task: ``keccak256(abi.encode(chainid, ledger, requester, spec))``."""
    types = ["uint256", "address", "address", "bytes32"]
    return hex32(keccak(encode(types, [chain_id, ledger, requester, raw(spec)])))


def dataset_id(owner: Address, commitment: Hex32) -> Hex32:
    """The id of a dataset: ``keccak256(abi.encode(owner, commitment))``."""
    return hex32(keccak(encode(["address", "bytes32"], [owner, raw(commitment)])))


def task_terms_tuple(terms: TaskTerms) -> tuple[object, ...]:
    """``terms`` as the ABI takes them."""
    uses = [(use.party, raw(use.dataset), raw(use.algorithm), raw(use.grant)) for use in terms.uses]
    return (
        raw(terms.spec),
        raw(terms.purpose),
        int(terms.protections),
        terms.deadline,
        list(terms.parties),
        uses,
    )


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
    )
