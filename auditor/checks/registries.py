"""Whether the registries changed only as their rules allow, and storage is what the events say."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import pairwise
from typing import Any, TypeVar

from sealtrace.auditor.case import Case, Snapshot, StoredTask
from sealtrace.auditor.checks.registry import Need, check
from sealtrace.auditor.events import Event
from sealtrace.auditor.findings import Severity, Verdict, satisfied, undetermined, violated
from sealtrace.auditor.world import Anchor, Irregularity, Key, TaskHistory, Topic, World
from sealtrace.contracts.terms import dataset_id, grant_id, task_id
from sealtrace.protocol.identifiers import Hex32
from sealtrace.protocol.records import Checkpoint

K = TypeVar("K", bound=str)


@check("ST-N01", Severity.HIGH, Need.EVENTS)
def nodes_changed_by_rule(case: Case) -> Iterator[Verdict]:
    """Nodes were admitted once and retired, by vote, or by the registrar alone while there was one member;
    suspended and reinstated by a holder of the office or by vote, with a reason, and not by a registrar where
    the suspension was held; and their keys counted.
    """
    yield from by_topic(case, Topic.NODES, _names(case, case.world.nodes))


@check("ST-D02", Severity.HIGH, Need.EVENTS)
def datasets_changed_by_rule(case: Case) -> Iterator[Verdict]:
    """Datasets were registered once by an active data owner, superseded by the next version of the same owner
    while active, and withdrawn once and by their owner.
    """
    yield from by_topic(case, Topic.DATASETS, _names(case, case.world.datasets))


@check("ST-A02", Severity.HIGH, Need.EVENTS)
def algorithms_changed_by_rule(case: Case) -> Iterator[Verdict]:
    """Algorithms were registered once by an active provider, with every review they asked for and no fewer
    than the rules of that time did, and superseded, suspended, reinstated and revoked only by who may.
    """
    yield from by_topic(case, Topic.ALGORITHMS, _names(case, case.world.algorithms))


@check("ST-G07", Severity.HIGH, Need.EVENTS)
def grants_issued_by_rule(case: Case) -> Iterator[Verdict]:
    """Grants were issued by active owners over their own active datasets, for an active algorithm, neither of
    them superseded, an active requester and a window not yet over, each under its owner's next serial, and
    replaced and revoked once and by their owner.
    """
    yield from by_topic(case, Topic.GRANTS, _names(case, case.world.grants))


@check("ST-C01", Severity.HIGH, Need.EVENTS)
def checkpoints_only_grow(case: Case) -> Iterator[Verdict]:
    """Checkpoints of a node's log only grew, each from the size of the one before."""
    yield from by_topic(case, Topic.CHECKPOINTS, _names(case, case.world.anchors))


@check("ST-C02", Severity.HIGH, Need.EVENTS)
def logs_were_anchored_once(case: Case) -> Iterator[Verdict]:
    """No node anchored two roots for one size of its log, nor a shorter log than before, at whichever
    generation of the anchor.

    Each anchor holds a node to its own last size; a log begun anew at a new generation's shows here.
    """
    for node in sorted(case.world.anchored()):
        anchors = case.world.anchors_of(node)
        again = [(a, b) for a, b in pairwise(anchors) if _contradicts(a, b) and case.covers(b.event)]
        for before, after in again:
            yield violated(
                node,
                expected=f"a log that begins with {before.size} records of the root {before.root}",
                observed=f"{after.size} records of the root {after.root}",
                explanation=f"Node {node} anchored another log than it had anchored before.",
                event=after.event,
                node=node,
            )
        if not again:
            yield satisfied(node)


def _contradicts(before: Anchor, after: Anchor) -> bool:
    return after.size < before.size or (after.size == before.size and after.root != before.root)


@check("ST-N02", Severity.MEDIUM, Need.EVENTS)
def keys_stayed_during_tasks(case: Case) -> Iterator[Verdict]:
    """While a task ran, from its first start to its end or deadline, neither its parties nor its requester
    changed their keys on the chain.

    Peers are met by the certificate, and results are sealed for the key, that the chain had at the start.
    """
    rotations = [each for each in case.events if each.name == "NodeKeysRotated"]
    for task in case.tasks():
        if not task.starts:
            continue
        began = min(start.event.position for start in task.starts.values())
        ended = task.end.position if task.end else None
        people = {*task.parties, task.requester}
        during = [
            each
            for each in rotations
            if each.args.get("node") in people
            and began < each.position
            and (each.position < ended if ended else each.time < task.deadline)
        ]
        yield from (_rotated(task, each) for each in during)
        if not during:
            yield satisfied(task.id)


def _rotated(task: TaskHistory, event: Event) -> Verdict:
    return violated(
        task.id,
        expected="the keys of the start until the end",
        observed=f"new keys of {event.who('node')} at block {event.block.number}",
        explanation="A node changed its keys while it took part in a task.",
        event=event,
        task=task.id,
        node=event.who("node"),
    )


@check("ST-I01", Severity.CRITICAL, Need.EVENTS)
def ids_commit(case: Case) -> Iterator[Verdict]:
    """Every dataset's, grant's and task's id is the hash of what its events say it is: a dataset's of its
    owner and commitment; a grant's of chain, registry, owner, serial, dataset, algorithm, requester and
    purpose; a task's of chain, ledger, requester and all of its terms.

    The ledger stores no terms: whoever acts hands them over, and the id alone holds them to what was created.
    """
    for thing, given, computed, event in _ids(case):
        if given == computed:
            yield satisfied(thing)
        else:
            yield violated(
                thing,
                expected=f"the id {computed}",
                observed=given,
                explanation="The id does not commit to what the events say of it.",
                event=event,
                task=event.hex("task") if event.name == "TaskCreated" else None,
            )


@check("ST-E01", Severity.HIGH, Need.EVENTS)
def events_are_readable(case: Case) -> Iterator[Verdict]:
    """Every event of the contracts holds the values its ABI declares."""
    yield from by_topic(case, Topic.DECODING, [f"blocks {case.first} to {case.last.number}"])


@check("ST-S01", Severity.CRITICAL, Need.EVENTS, Need.STORAGE)
def storage_is_what_events_say(case: Case) -> Iterator[Verdict]:
    """At the last block, contract storage holds exactly the state that the events add up to."""
    if case.snapshot is None:
        yield undetermined(f"block {case.last.number}", case.no_snapshot)
        return
    for thing, replayed, stored in _pairs(case.world, case.snapshot, case):
        if replayed == stored:
            yield satisfied(thing)
        else:
            yield violated(
                thing,
                expected=_shown(replayed),
                observed=_shown(stored),
                explanation="What the contract stores differs from what its events add up to.",
            )


def by_topic(case: Case, topic: Topic, things: Collection[str]) -> Iterator[Verdict]:
    """One verdict for each irregularity of ``topic`` in the range, and for each thing without one."""
    found = [each for each in case.world.irregular if each.topic is topic and case.covers(each.event)]
    for each in found:
        yield verdict_of(each, f"{each.event.name} stands where the rules do not allow it.")
    for thing in sorted(set(things) - {each.object for each in found}):
        yield satisfied(thing)


def verdict_of(each: Irregularity, explanation: str) -> Verdict:
    """The verdict on an irregular event."""
    task = each.event.args.get("task")
    return violated(
        each.object,
        expected=each.expected,
        observed=each.observed,
        explanation=explanation,
        event=each.event,
        task=Hex32(task) if isinstance(task, str) else None,
    )


def _names(case: Case, known: Collection[Key[K]]) -> list[str]:
    return [case.world.name(key) for key in known]


def _ids(case: Case) -> Iterator[tuple[str, str, str, Event]]:
    """Every object in the range whose id commits to it: its name, its id, the hash, where it came to be."""
    world, chain_id = case.world, case.chain_id
    for key, datasets in sorted(world.datasets.items()):
        dataset, event = datasets.last, world.registered[key]
        if case.covers(event):
            yield f"dataset {world.name(key)}", key.id, dataset_id(dataset.owner, dataset.commitment), event
    for key, issue in sorted(world.issues.items()):
        if case.covers(issue.event):
            owner, terms = world.grants[key].last.owner, world.grant_terms(key)
            computed = grant_id(chain_id, key.contract, owner, issue.serial, terms)
            yield f"grant {key.id}", key.id, computed, issue.event
    for task in case.tasks():
        terms_ = task.terms()
        if case.covers(task.created):
            computed = task_id(chain_id, task.ledger, terms_) if terms_ else _INCOMPLETE
            yield f"task {task.id}", task.id, computed, task.created


_INCOMPLETE = Hex32("of parties and uses that were not all named")


def _pairs(world: World, stored: Snapshot, case: Case) -> Iterator[tuple[str, object, object]]:
    yield from _governing_pairs(world, stored, case)
    for who, node in sorted(world.nodes.items()):
        yield f"node {world.name(who)}", node.last, stored.nodes.get(who)
    for key, dataset in sorted(world.datasets.items()):
        yield f"dataset {world.name(key)}", dataset.last, stored.datasets.get(key)
    for key, algorithm in sorted(world.algorithms.items()):
        yield f"algorithm {world.name(key)}", algorithm.last, stored.algorithms.get(key)
    for key, grant in sorted(world.grants.items()):
        yield f"grant {world.name(key)}", grant.last, stored.grants.get(key)
    for who, serial in sorted(world.serials.items()):
        yield f"serial {world.name(who)}", serial, stored.serials.get(who)
    for digest, task in sorted(world.tasks.items()):
        yield f"task {digest}", _as_stored(task, case), stored.tasks.get(digest)
    for who, anchors in sorted(world.anchors.items()):
        if anchors:
            last = Checkpoint(who.id, anchors[-1].size, anchors[-1].root)
            yield f"checkpoint {world.name(who)}", last, stored.checkpoints.get(who)


def _governing_pairs(world: World, stored: Snapshot, case: Case) -> Iterator[tuple[str, object, object]]:
    governance = world.governance
    yield "consortium", governance.as_stored(), stored.consortium
    for office, who in sorted(governance.ever):
        held = (office, who)
        yield f"office {office} of {who}", held in governance.offices, held in stored.offices
    for key, proposal in sorted(governance.proposals.items()):
        shown = governance.proposal_as_stored(proposal, case.last.timestamp)
        yield f"proposal {key}", shown, stored.proposals.get(key)
    for number, generation in enumerate(world.generations):
        found = stored.generations[number] if number < len(stored.generations) else None
        yield f"generation {number}", generation.contracts, found
    for ledger, closed in sorted(stored.closed.items()):
        yield f"closing of {ledger}", ledger in world.closed, closed


def _as_stored(task: TaskHistory, case: Case) -> StoredTask:
    """The replayed task as storage should show it."""
    return StoredTask(
        state=task.state_at(case.last.timestamp),
        deadline=task.deadline,
        approved=task.approved,
        started=task.mask(task.starts),
        finished=task.mask(task.finishes),
        agreed=task.agreed(),
        acknowledged=task.acknowledged is not None,
    )


def _shown(value: Any) -> str:
    return "nothing" if value is None else str(value)
