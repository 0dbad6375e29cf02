"""Every reason against a start, not only the first.

``why_denied`` stops at its first reason, as the chain does. To see the ones behind it, what offended is put
right and the same rule is asked again; the rule itself is never restated here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from sealtrace.protocol.authorization import (
    Facts,
    Request,
    request_of,
    why_grant_denied,
    why_standing_denied,
)
from sealtrace.protocol.identifiers import Address, Hex32, UnixSeconds
from sealtrace.protocol.outcome import Denial
from sealtrace.protocol.records import (
    Algorithm,
    AlgorithmStatus,
    DataClass,
    Dataset,
    DatasetStatus,
    Grant,
    Node,
    NodeStatus,
    Role,
    TaskTerms,
    Use,
)

_NOTHING = Hex32("0x" + "00" * 32)


def reasons_against(
    terms: TaskTerms, party: Address, facts: Facts, now: UnixSeconds
) -> list[tuple[Denial, Use | None]]:
    """All reasons why ``party`` may not start at block time ``now``, each with the use it concerns."""
    found: list[tuple[Denial, Use | None]] = []
    if any(_not_active(facts.nodes.get(other)) for other in terms.parties):
        found.append((Denial.PARTY_NOT_ACTIVE, None))
    for use in terms.uses_of(party):
        request = request_of(terms, party, use)
        reasons = [*_of_grant(request, facts.grants.get(use.grant), now), *_of_standing(request, facts)]
        found += [(reason, use) for reason in reasons]
    return found


def _not_active(node: Node | None) -> bool:
    return node is None or node.status is not NodeStatus.ACTIVE


def _of_grant(request: Request, grant: Grant | None, now: UnixSeconds) -> list[Denial]:
    found: list[Denial] = []
    while (reason := why_grant_denied(request, grant, now)) is not None:
        found.append(reason)
        if grant is None or reason not in _CURES or reason in found[:-1]:
            break
        grant = _CURES[reason](grant, request, now)
    return found


def _of_standing(request: Request, facts: Facts) -> list[Denial]:
    found: list[Denial] = []
    while (reason := why_standing_denied(request, facts)) is not None and reason not in found:
        found.append(reason)
        facts = _standing_cured(reason, request, facts)
    return found


Cure = Callable[[Grant, Request, UnixSeconds], Grant]

_CURES: Mapping[Denial, Cure] = {
    Denial.WRONG_OWNER: lambda grant, request, _: replace(grant, owner=request.owner),
    Denial.WRONG_DATASET: lambda grant, request, _: replace(grant, dataset=request.dataset),
    Denial.WRONG_ALGORITHM: lambda grant, request, _: replace(grant, algorithm=request.algorithm),
    Denial.WRONG_REQUESTER: lambda grant, request, _: replace(grant, requester=request.requester),
    Denial.WRONG_PURPOSE: lambda grant, request, _: replace(grant, purpose=request.purpose),
    Denial.GRANT_REVOKED: lambda grant, _, __: replace(grant, revoked=False),
    Denial.GRANT_NOT_YET_VALID: lambda grant, _, now: replace(grant, not_before=now),
    Denial.GRANT_EXPIRED: lambda grant, _, now: replace(grant, expires_at=UnixSeconds(now + 1)),
    Denial.GRANT_EXHAUSTED: lambda grant, _, __: replace(grant, uses_left=1),
    Denial.PROTECTION_NOT_ALLOWED: lambda grant, request, _: replace(grant, protections=request.protections),
    Denial.EPSILON_NOT_COVERED: lambda grant, _, __: replace(grant, epsilon_millionths=0),
    Denial.PARTICIPANT_NOT_ALLOWED: lambda grant, _, __: replace(grant, participants=()),
}


def _standing_cured(reason: Denial, request: Request, facts: Facts) -> Facts:
    if reason is Denial.REQUESTER_NOT_ACTIVE:
        node = Node(request.requester, NodeStatus.ACTIVE, Role.REQUESTER, _NOTHING, _NOTHING)
        return replace(facts, nodes={**facts.nodes, request.requester: node})
    if reason is Denial.DATASET_NOT_ACTIVE:
        dataset = Dataset(
            request.dataset, request.owner, DatasetStatus.ACTIVE, DataClass.GENERAL, _NOTHING, _NOTHING
        )
        return replace(facts, datasets={**facts.datasets, request.dataset: dataset})
    algorithm = Algorithm(request.algorithm, request.owner, AlgorithmStatus.ACTIVE)
    return replace(facts, algorithms={**facts.algorithms, request.algorithm: algorithm})
