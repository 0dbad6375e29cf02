"""One function per transaction: what is said to which contract. Nothing is sent here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sealtrace.contracts.abi import encode_call
from sealtrace.contracts.terms import grant_terms_tuple, task_terms_tuple
from sealtrace.protocol.identifiers import NOBODY, Address, Hex32, raw
from sealtrace.protocol.outcome import Blame
from sealtrace.protocol.records import DataClass, GrantTerms, Role, TaskTerms


@dataclass(frozen=True, slots=True)
class Call:
    """A function of one of our contracts with its arguments, as the ABI takes them."""

    contract: str
    function: str
    args: tuple[Any, ...]

    def data(self) -> bytes:
        """The call data.

        Raises:
            MalformedCall: an argument is not of its type.
        """
        return encode_call(self.contract, self.function, self.args)


# The life of a task; the manual is ITaskLedger.sol.


def create(terms: TaskTerms) -> Call:
    """Put a task on record; the caller is its requester."""
    return Call("TaskLedger", "create", (task_terms_tuple(terms),))


def approve(task: Hex32, terms: TaskTerms) -> Call:
    """Agree, as a party, to a task whose grant asks for that."""
    return Call("TaskLedger", "approve", (raw(task), task_terms_tuple(terms)))


def start(task: Hex32, terms: TaskTerms, input_commitment: Hex32) -> Call:
    """Start a party's part: spends one use of each of its grants that the task names."""
    return Call("TaskLedger", "start", (raw(task), task_terms_tuple(terms), raw(input_commitment)))


def refuse(task: Hex32, terms: TaskTerms, reason: int) -> Call:
    """Decline as a party. ``reason`` is a :class:`~sealtrace.protocol.outcome.Denial`."""
    return Call("TaskLedger", "refuse", (raw(task), task_terms_tuple(terms), int(reason)))


def finish(task: Hex32, terms: TaskTerms, receipt: Hex32, result: Hex32) -> Call:
    """Report a party's part done: the digest of its receipt, and the result digest all agree on."""
    return Call("TaskLedger", "finish", (raw(task), task_terms_tuple(terms), raw(receipt), raw(result)))


def fail(
    task: Hex32, terms: TaskTerms, reason: int, blame: Blame = Blame.NOBODY, blamed: Address | None = None
) -> Call:
    """Report a running task failed. ``blamed`` is given with ``Blame.PARTY`` and no other."""
    words = (raw(task), task_terms_tuple(terms), int(reason), int(blame), blamed or NOBODY)
    return Call("TaskLedger", "fail", words)


def cancel(task: Hex32) -> Call:
    """Give a task up, as its requester."""
    return Call("TaskLedger", "cancel", (raw(task),))


def stop(task: Hex32, terms: TaskTerms) -> Call:
    """Stop a running task, as a party of it."""
    return Call("TaskLedger", "stop", (raw(task), task_terms_tuple(terms)))


# Datasets, grants, algorithms.


def register_dataset(commitment: Hex32, schema_hash: Hex32, data_class: DataClass) -> Call:
    """Publish a dataset's salted commitment."""
    return Call("DatasetRegistry", "register", (raw(commitment), raw(schema_hash), int(data_class)))


def withdraw_dataset(dataset: Hex32) -> Call:
    """Take a dataset out of all future use."""
    return Call("DatasetRegistry", "withdraw", (raw(dataset),))


def issue_grant(terms: GrantTerms) -> Call:
    """Let a requester use a dataset of the caller's. Its id is in the event ``GrantIssued``."""
    return Call("GrantRegistry", "issue", (grant_terms_tuple(terms),))


def revoke_grant(grant: Hex32) -> Call:
    """End a grant at once."""
    return Call("GrantRegistry", "revoke", (raw(grant),))


def register_algorithm(digest: Hex32) -> Call:
    """Register a bundle by its digest."""
    return Call("AlgorithmRegistry", "register", (raw(digest),))


def revoke_algorithm(digest: Hex32) -> Call:
    """Take an algorithm out of use for good, as its provider."""
    return Call("AlgorithmRegistry", "revoke", (raw(digest),))


def suspend_algorithm(digest: Hex32, reason: Hex32) -> Call:
    """Take an algorithm out of use for a time. ``reason`` is the SHA-256 of the reason in words."""
    return Call("AlgorithmRegistry", "suspend", (raw(digest), raw(reason)))


def reinstate_algorithm(digest: Hex32) -> Call:
    """End an algorithm's suspension."""
    return Call("AlgorithmRegistry", "reinstate", (raw(digest),))


# Members of the consortium.


def admit(node: Address, roles: Role, tls_fingerprint: Hex32, encryption_key: Hex32) -> Call:
    """Admit an organisation, as a registrar."""
    return Call("NodeRegistry", "admit", (node, int(roles), raw(tls_fingerprint), raw(encryption_key)))


def suspend_node(node: Address, reason: Hex32) -> Call:
    """Take a node out of all use. ``reason`` is the SHA-256 of the reason in words."""
    return Call("NodeRegistry", "suspend", (node, raw(reason)))


def reinstate_node(node: Address) -> Call:
    """End a node's suspension."""
    return Call("NodeRegistry", "reinstate", (node,))


def retire_node(node: Address) -> Call:
    """End a node's membership for good, as a registrar."""
    return Call("NodeRegistry", "retire", (node,))


def rotate_keys(tls_fingerprint: Hex32, encryption_key: Hex32) -> Call:
    """Replace the caller's TLS fingerprint and encryption key."""
    return Call("NodeRegistry", "rotateKeys", (raw(tls_fingerprint), raw(encryption_key)))


def anchor(size: int, root: Hex32) -> Call:
    """Anchor the caller's evidence log at ``size`` records with ``root``."""
    return Call("EvidenceAnchor", "anchor", (size, raw(root)))
