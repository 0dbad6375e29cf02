"""The rule that decides whether a task may run; the chain, every node and the auditor share it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sealtrace.protocol.identifiers import Address, Hex32, UnixSeconds
from sealtrace.protocol.outcome import Denial
from sealtrace.protocol.records import (
    Algorithm,
    AlgorithmStatus,
    Dataset,
    Grant,
    Node,
    NodeStatus,
    Protection,
    Role,
    TaskTerms,
    Use,
)


@dataclass(frozen=True, slots=True)
class Request:
    """What one start asks of one grant."""

    owner: Address
    dataset: Hex32
    algorithm: Hex32
    requester: Address
    purpose: Hex32
    protections: Protection
    epsilon_millionths: int
    parties: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """What the chain says at one block about everything a task names. Absent means never recorded."""

    grants: Mapping[Hex32, Grant]
    nodes: Mapping[Address, Node]
    datasets: Mapping[Hex32, Dataset]
    algorithms: Mapping[Hex32, Algorithm]


def why_denied(terms: TaskTerms, party: Address, facts: Facts, now: UnixSeconds) -> Denial | None:
    """Return the first reason why ``party`` may not start the task, or ``None``.

    ``now`` is the timestamp of the block ``facts`` were read at, never the node's clock: an auditor
    replaying that block must reach the same answer. The uses of ``party`` are looked at in the order
    of the terms, as ``TaskLedger.start`` does, after the standing of all parties.
    """
    if any(not _is_active(facts.nodes.get(other)) for other in terms.parties):
        return Denial.PARTY_NOT_ACTIVE
    for use in terms.uses_of(party):
        request = request_of(terms, party, use)
        denial = why_grant_denied(request, facts.grants.get(use.grant), now)
        if denial := denial or why_standing_denied(request, facts):
            return denial
    return None


def request_of(terms: TaskTerms, party: Address, use: Use) -> Request:
    """What the start of ``party`` asks of the grant that ``use`` names."""
    return Request(
        party,
        use.dataset,
        use.algorithm,
        terms.requester,
        terms.purpose,
        terms.protections,
        use.epsilon_millionths,
        terms.parties,
    )


def why_grant_denied(request: Request, grant: Grant | None, now: UnixSeconds) -> Denial | None:
    """What the grant itself says of ``request``; the order is that of ``GrantRegistry.denialOf``."""
    if grant is None:
        return Denial.UNKNOWN_GRANT
    return _why_mismatched(request, grant) or _why_not_in_force(request, grant, now)


def why_standing_denied(request: Request, facts: Facts) -> Denial | None:
    """What the registries say of those the request names."""
    requester = facts.nodes.get(request.requester)
    if requester is None or not requester.may(Role.REQUESTER):
        return Denial.REQUESTER_NOT_ACTIVE
    dataset = facts.datasets.get(request.dataset)
    if dataset is None or not dataset.usable:
        return Denial.DATASET_NOT_ACTIVE
    algorithm = facts.algorithms.get(request.algorithm)
    if algorithm is None or algorithm.status is not AlgorithmStatus.ACTIVE:
        return Denial.ALGORITHM_NOT_ACTIVE
    return None


def _why_mismatched(request: Request, grant: Grant) -> Denial | None:
    if grant.owner != request.owner:
        return Denial.WRONG_OWNER
    if grant.dataset != request.dataset:
        return Denial.WRONG_DATASET
    if grant.algorithm != request.algorithm:
        return Denial.WRONG_ALGORITHM
    if grant.requester != request.requester:
        return Denial.WRONG_REQUESTER
    return Denial.WRONG_PURPOSE if grant.purpose != request.purpose else None


def _why_not_in_force(request: Request, grant: Grant, now: UnixSeconds) -> Denial | None:
    if grant.revoked:
        return Denial.GRANT_REVOKED
    if now < grant.not_before:
        return Denial.GRANT_NOT_YET_VALID
    if now >= grant.expires_at:
        return Denial.GRANT_EXPIRED
    if grant.uses_left == 0:
        return Denial.GRANT_EXHAUSTED
    if not request.protections or request.protections & ~grant.protections:
        return Denial.PROTECTION_NOT_ALLOWED
    budgeted, asked = grant.epsilon_millionths > 0, request.epsilon_millionths
    if budgeted and not 0 < asked <= grant.epsilon_left:
        return Denial.EPSILON_NOT_COVERED
    others = {party for party in request.parties if party != grant.owner}
    if grant.participants and not others <= set(grant.participants):
        return Denial.PARTICIPANT_NOT_ALLOWED
    return None


def _is_active(node: Node | None) -> bool:
    return node is not None and node.status is NodeStatus.ACTIVE
