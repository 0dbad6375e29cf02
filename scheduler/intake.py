"""Taking statements: heartbeats and task specifications, each checked against the chain at one block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sealtrace.protocol.authorization import Facts, why_denied
from sealtrace.protocol.identifiers import NOTHING, Address, UnixSeconds
from sealtrace.protocol.outcome import Denial
from sealtrace.protocol.records import Node, NodeStatus, Role
from sealtrace.protocol.spec import TaskSpec
from sealtrace.protocol.statements import BadStatement, Signed, verified
from sealtrace.scheduler import planning, presence
from sealtrace.scheduler.errors import (
    HelperNotAdmitted,
    MalformedRequest,
    NotTheSpeaker,
    PartyNotAlive,
    RequesterNotAdmitted,
    SpecExpired,
    StatementRefused,
    TooManyOpenTasks,
)
from sealtrace.scheduler.ports import Chain
from sealtrace.scheduler.presence import Presence
from sealtrace.scheduler.store import Store
from sealtrace.scheduler.tasks import Task

AUDIENCE = "scheduler"


@dataclass(frozen=True, slots=True)
class Accepted:
    """A task that is on the scheduler's books; ``warnings`` is what owners' nodes may refuse it for."""

    task: Task
    new: bool


def trusted(signed: Signed, kind: str, now: UnixSeconds) -> tuple[Address, Mapping[str, Any]]:
    """The speaker and the body of a genuine, fresh statement of ``kind`` for the scheduler.

    Raises:
        StatementRefused: it is not one.
    """
    try:
        return verified(signed, kind=kind, audience=AUDIENCE, now=now)
    except BadStatement as cause:
        raise StatementRefused(str(cause)) from cause


def take_heartbeat(signed: Signed, store: Store, chain: Chain, now: UnixSeconds) -> Presence:
    """Remember that a node is there.

    Raises:
        StatementRefused: see :func:`trusted`.
        MalformedRequest, PartyUnknown, PartyNotActive, CertificateMismatch, HeartbeatStale: see
            :func:`sealtrace.scheduler.presence.hear`.
    """
    speaker, body = trusted(signed, presence.KIND, now)
    hello = presence.read_hello(body)
    node = chain.node(speaker, at=chain.finalized())
    said_at = UnixSeconds(signed.statement.at)
    heard = presence.hear(hello, node, said_at, now, store.presence(speaker))
    store.remember(heard)
    return heard


@dataclass(frozen=True, slots=True)
class Rules:
    """What the operator allows: seconds after which a node counts as gone, open tasks of one requester."""

    presence_s: float
    open_tasks_per_requester: int


def take_task(signed: Signed, store: Store, chain: Chain, rules: Rules, now: UnixSeconds) -> Accepted:
    """Put a task on the books. The same specification is the same task, however often it comes.

    What grants say is told as a warning only: the owners' nodes decide, and record the reason on chain.

    Raises:
        StatementRefused, MalformedRequest, NotTheSpeaker, SpecRefused: what was sent is not right.
        SpecExpired, ProtocolUnsuitable: it cannot run.
        RequesterNotAdmitted, PartyUnknown, PartyNotActive, PartyNotAlive: somebody is missing.
        TooManyOpenTasks: the requester has enough here.
    """
    speaker, body = trusted(signed, "task.submit", now)
    spec = _spec_in(body, speaker)
    id = chain.task_id(spec.terms())
    if known := store.task(id):
        return Accepted(known, new=False)
    if store.count_open(speaker) >= rules.open_tasks_per_requester:
        raise TooManyOpenTasks(rules.open_tasks_per_requester)
    warnings = check(spec, chain, store.presences(), rules.presence_s, now)
    task = Task(
        id=id,
        requester=speaker,
        spec=spec.canonical(),
        parties=tuple(spec.parties),
        deadline=UnixSeconds(spec.deadline),
        engine_seconds=spec.engine_seconds,
        accepted_at=now,
        warnings=tuple(warnings),
    )
    return Accepted(task, new=store.add_task(task))


def check(
    spec: TaskSpec, chain: Chain, present: Sequence[Presence], presence_s: float, now: UnixSeconds
) -> list[str]:
    """Refuse what cannot run; return in words what owners' nodes would refuse at this block.

    Raises:
        SpecExpired, ProtocolUnsuitable, RequesterNotAdmitted, PartyUnknown, PartyNotActive, PartyNotAlive.
    """
    at = chain.finalized()
    facts = chain.facts(spec.terms(), at=at)
    time = UnixSeconds(max(now, at.timestamp))  # the chain may not have made a block for a while
    if spec.deadline <= time:
        raise SpecExpired(spec.deadline, time)
    _require_members(spec, facts)
    planning.require_suitable(spec, facts.grants)
    _require_alive(spec, facts, present, presence_s, now)
    return list(warnings_of(spec, facts, time))


def warnings_of(spec: TaskSpec, facts: Facts, now: UnixSeconds) -> Iterator[str]:
    """In words, why parties would refuse, by the rule they apply themselves."""
    requester = facts.nodes.get(spec.requester)
    if requester is not None and requester.encryption_key != spec.requester_key:
        yield "the requester's key in the specification is not the one on chain: nodes may refuse it"
    for party in spec.parties:
        if denial := why_denied(spec.terms(), party, facts, now):
            yield f"{party} will refuse: {in_words(denial)}"


def in_words(denial: Denial) -> str:
    """A reason as it is spoken: ``grant exhausted``."""
    return denial.name.lower().replace("_", " ")


def _spec_in(body: Mapping[str, Any], speaker: Address) -> TaskSpec:
    if set(body) != {"spec"}:
        raise MalformedRequest("the body of a task.submit is an object with one key, spec")
    spec = planning.read(body["spec"])
    if spec.requester != speaker:
        raise NotTheSpeaker(f"the specification names {spec.requester} as requester, {speaker} signed")
    return spec


def _require_members(spec: TaskSpec, facts: Facts) -> None:
    if not _node(facts, spec.requester).may(Role.REQUESTER):
        raise RequesterNotAdmitted(spec.requester)
    for party in spec.parties:
        presence.require_active(_node(facts, party))
    for helper in spec.helpers:
        if not _node(facts, helper).may(Role.COMPUTE):
            raise HelperNotAdmitted(helper)


def _require_alive(
    spec: TaskSpec, facts: Facts, present: Sequence[Presence], presence_s: float, now: UnixSeconds
) -> None:
    """A node whose certificate was rotated on chain since its last heartbeat counts as gone."""
    alive = {
        each.node
        for each in present
        if each.alive(now, presence_s) and each.fingerprint == _node(facts, each.node).tls_fingerprint
    }
    if missing := [party for party in spec.parties if party not in alive]:
        raise PartyNotAlive(missing)


def _node(facts: Facts, address: Address) -> Node:
    return facts.nodes.get(address, Node(address, NodeStatus.NONE, Role(0), NOTHING, NOTHING))
