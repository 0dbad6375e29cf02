"""Made-up histories with violations in them, at seeded places: what an audit must find, and nothing else.

A history is a row of episodes: tasks of every ending and changes of the registries. Most are honest. An
episode may be made to violate one rule, or several at once, on the chain, in a node's log, in storage or in
what the endpoint told. Each injected violation says which rule it breaks and which others its very doing
breaks too (who starts unlawfully also judges wrongly); whatever else is found is a false finding.

A record that is missing from a log of which only a part can be relied on may be in the rest: that is
undetermined, and no violation that an audit could find. So nobody leaves out a record whose log is spoilt.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "unit"))

from auditor_story import (
    ALGORITHM,
    COMMITMENTS,
    CONSORTIUM,
    DATASETS,
    DAY,
    GENESIS_TIME,
    OFFICE,
    OTHER_ALGORITHM,
    OUTSIDER,
    OWNERS,
    REQUESTER,
    Story,
    at,
    contract,
    h,
    usual_uses,
)
from enclave_story import EnclaveTask, with_statements
from enclave_violations import ENCLAVE_FAULTS

from sealtrace.auditor.case import (
    Case,
    Execution,
    OtherCode,
    ProofProblem,
    Replaced,
    Seals,
    StorageProof,
)
from sealtrace.auditor.checks.openings import PATIENCE_S
from sealtrace.auditor.findings import Finding
from sealtrace.auditor.openings import Opened
from sealtrace.contracts.abi import GENERATION
from sealtrace.contracts.governance import Office
from sealtrace.contracts.terms import dataset_id
from sealtrace.protocol.evidence import Kind
from sealtrace.protocol.identifiers import NOBODY, hex32
from sealtrace.protocol.merkle import MerkleTree, leaf_hash
from sealtrace.protocol.opening import Opening, statement, statement_digest

A, B, C = OWNERS
LIFETIME = 400 * DAY
UNLAWFUL_START = frozenset({"EV-J01", "EV-R03"})
"""What a node's log says of a start that the chain should not have let happen."""


@dataclass(frozen=True, slots=True)
class Injected:
    """One violation: the rule it breaks, what its doing breaks too, and the blocks and things it is at."""

    name: str
    rule: str
    also: frozenset[str]
    first: int
    last: int
    things: frozenset[str]

    def explains(self, finding: Finding) -> bool:
        """Whether ``finding`` is of this violation or of its doing."""
        return finding.rule in {self.rule, *self.also} and self._is_here(finding)

    def is_found_by(self, finding: Finding) -> bool:
        """Whether ``finding`` is what must be found."""
        return finding.rule == self.rule and self._is_here(finding)

    def _is_here(self, finding: Finding) -> bool:
        if finding.block is not None and self.first <= finding.block <= self.last:
            return True
        return any(thing in finding.object or thing == finding.task for thing in self.things)


Bend = Callable[[str, dict[str, Any]], dict[str, Any] | None]
Twist = Callable[[str, str, dict[str, Any]], dict[str, Any] | None]


@dataclass
class Episode:
    """One stretch of a history while it is made: its story, its word, and what bends it."""

    story: Story
    word: str
    chance: random.Random
    writers: tuple[str, ...] = tuple(OWNERS)
    """Those whose logs are handed over whole."""
    bends: list[Bend] = field(default_factory=list)
    twists: list[Twist] = field(default_factory=list)
    things: set[str] = field(default_factory=set)
    stored: list[Callable[[Case], Case]] = field(default_factory=list)

    def fresh(self, what: str) -> Any:
        """A digest of this episode's own."""
        made = h(f"{what} of {self.word}")
        self.things.add(made)
        return made

    def grant(self, owner: str = A, participants: tuple[str, ...] = (), **changes: Any) -> Any:
        """A grant of this episode's own."""
        made = self.story.grant(owner, participants, **{"uses": 1000, "expiresAt": _end(), **changes})
        self.things.add(made)
        return made

    def create(self, suffix: str = "", *, lasts: int = DAY, **how: Any) -> Any:
        """A task of this episode, only created, that may run for ``lasts`` seconds."""
        deadline = self.story.block().timestamp + lasts
        task = self.story.create(self.word + suffix, deadline=deadline, **how)
        self.things.add(task)
        return task

    def complete(self, **how: Any) -> Any:
        """A task of this episode, carried out."""
        deadline = self.story.block().timestamp + DAY
        task = self.story.complete(self.word, deadline=deadline, **how)
        self.things.add(task)
        return task

    def in_enclave(self, kind: type[EnclaveTask] = EnclaveTask, **how: Any) -> None:
        """A task of this episode in an enclave, carried out under grants of its own."""
        grant = {"uses": 1000, "expiresAt": _end()}
        made = kind(self.story, self.word, **{"grant": grant, **how})
        self.things.add(made.carry_out())
        self.things.update(made.grants.values())
        self.stored.append(lambda case: with_statements(case, made.kept))

    def under(self, participants: tuple[str, ...] = (), asked: int = 0, **change: Any) -> None:
        """A task of which A's grant says otherwise."""
        grant = self.grant(A, participants, **change)
        self.complete(uses=usual_uses({A: grant}, asked))


def _end() -> int:
    return GENESIS_TIME + LIFETIME


# Honest episodes


def _completed(e: Episode) -> None:
    e.complete()


def _acknowledged(e: Episode) -> None:
    e.story.acknowledge(e.complete())


def _refused(e: Episode) -> None:
    task = e.create()
    owner = e.chance.choice(OWNERS)
    e.story.judge(task, owner, 34)
    e.story.mine().emit("TaskRefused", task=task, party=owner, reason=34)
    e.story.record(owner, Kind.TASK_REFUSED, {"reason": 34, "transaction": e.story.transaction}, task)
    e.story.anchor(owner)


def _failed(e: Episode) -> None:
    task, owner = e.create(), e.chance.choice(OWNERS)
    e.story.start_all(task)
    e.story.mine().emit("TaskFailed", task=task, party=owner, reason=2, blame=0, blamed=NOBODY)
    body = {"reason": 2, "blame": 0, "blamed": None, "transaction": e.story.transaction}
    e.story.record(owner, Kind.TASK_FAILED, body, task)
    e.story.wipe(task)


def _cancelled(e: Episode) -> None:
    task = e.create()
    e.story.mine().emit("TaskCancelled", task=task, by=REQUESTER)


def _budgeted(e: Episode) -> None:
    grant = e.grant(A, epsilon=50)
    e.complete(uses=usual_uses({A: grant}, 5))


def _among_named(e: Episode) -> None:
    e.under(participants=(B, C))


def _revoked_afterwards(e: Episode) -> None:
    grant = e.grant(A)
    e.complete(uses=usual_uses({A: grant}))
    e.story.mine().emit("GrantRevoked", grant=grant, owner=A)


def _in_progress(e: Episode) -> None:
    task = e.create()
    authority = e.story.block()
    e.story.start_all(task)
    e.story.progress(task, e.chance.choice(OWNERS))
    for owner in OWNERS:
        e.story.run(task, owner)
    results = {e.story.finish(task, owner, authority) for owner in OWNERS}
    e.story.emit("TaskCompleted", task=task, result=results.pop())
    e.story.wipe(task)


def _decided(e: Episode) -> None:
    e.story.decide(e.word).admit(f"0x{e.chance.getrandbits(160):040x}")


def _new_dataset(e: Episode) -> None:
    e.story.mine().dataset(dataset_id(B, e.fresh("c")), B, h(f"c of {e.word}"))


def _in_an_enclave(e: Episode) -> None:
    e.in_enclave()


def _opened(e: Episode, *, recorded: bool = True, **changes: Any) -> None:
    """An owner opens its dataset to the regulator, rightly or with these ``changes``."""
    owner, now = e.chance.choice(e.writers), e.story.block().timestamp
    opening = Opening(dataset=DATASETS[owner], root=h("root"), salt=e.fresh("salt"))
    digest = statement_digest(statement(opening, owner, "regulator", now))
    e.things.add(digest)
    if recorded:
        body = {"dataset": DATASETS[owner], "to": "regulator", "statement": digest}
        e.story.record(owner, Kind.DATASET_OPENED, body)
    opened = Opened(DATASETS[owner], owner, True, "regulator", now, COMMITMENTS[owner], digest)
    e.story.wait(10 * PATIENCE_S)
    e.complete()
    e.stored.append(lambda case: replace(case, openings=(*case.openings, replace(opened, **changes))))


def _kept(e: Episode) -> None:
    _part_of(e, e.complete())


def _part_of(e: Episode, task: Any, *, registered: bool = True) -> None:
    """A's part of a value that ``task`` is said to have kept."""
    commitment = e.fresh("part")
    dataset = dataset_id(A, commitment)
    if registered:
        e.story.mine().dataset(dataset, A, commitment)
    said = {"dataset": dataset, "commitment": commitment, "transaction": e.story.transaction}
    kept = {"task": task, "source": "train.model"}
    e.things.add(f"{A}, record {len(e.story.lines[A])}")
    e.story.record(A, Kind.DATASET_ADDED, {**said, "kept_from": kept})
    e.story.anchor(A)


def _new_generation(e: Episode) -> str:
    """The evidence anchor of a new generation that a vote announced; all else stays as it is."""
    number = sum(each.name == "GenerationAnnounced" for each in e.story.events)
    fields = ("nodes", "datasets", "algorithms", "grants", "ledger", "evidence")
    six = {field: contract(name) for field, name in zip(fields, GENERATION, strict=True)}
    six["evidence"] = contract("EvidenceAnchor", number)
    e.story.decide(f"generation {number}").emit("GenerationAnnounced", generation=number, **six)
    return six["evidence"]


def _anchored_at_a_new_generation(e: Episode) -> None:
    """A's log goes on where it was, though the new anchor has heard nothing of it."""
    where, tree = _new_generation(e), MerkleTree(map(leaf_hash, e.story.lines[A]))
    said = {"node": A, "size": len(tree), "root": hex32(tree.root()), "previousSize": 0}
    e.story.mine().emit("CheckpointAnchored", by_contract=where, **said)


def _new_keys(e: Episode, node: str) -> dict[str, Any]:
    """What the event of a node's new keys says."""
    before = [each for each in e.story.events if each.name == "NodeKeysRotated" and each.args["node"] == node]
    keys = {"tlsFingerprint": h(f"tls of {e.word}"), "encryptionKey": h(f"enc of {e.word}")}
    return {"node": node, "version": len(before) + 1, **keys}


def _rotated_between_tasks(e: Episode) -> None:
    node = e.chance.choice(OWNERS)
    e.story.mine().emit("NodeKeysRotated", **_new_keys(e, node))
    e.complete()


HONEST: dict[Callable[[Episode], None], int] = {
    _completed: 6,
    _acknowledged: 3,
    _refused: 2,
    _failed: 2,
    _cancelled: 1,
    _budgeted: 1,
    _among_named: 1,
    _revoked_afterwards: 1,
    _in_progress: 1,
    _decided: 1,
    _new_dataset: 1,
    _in_an_enclave: 1,
    _opened: 1,
    _kept: 1,
    _anchored_at_a_new_generation: 1,
    _rotated_between_tasks: 1,
}
"""Kinds of honest episodes, and how often each comes."""


# Violations on the chain


def _revoked(e: Episode) -> None:
    grant = e.grant(A)
    e.complete(uses=usual_uses({A: grant}), before=[("GrantRevoked", {"grant": grant, "owner": A})])


def _of_another(e: Episode) -> None:
    grant = e.grant(B)
    e.complete(uses=[(0, DATASETS[B], ALGORITHM, grant, 0), *usual_uses()[1:]])


def _unknown_grant(e: Episode) -> None:
    e.complete(uses=usual_uses({A: e.fresh("no grant")}))


def _used_too_often(e: Episode) -> None:
    uses = usual_uses({A: e.grant(A, uses=1)})
    tasks = [e.create(each, uses=uses) for each in (" one", " two")]
    for task in tasks:
        e.story.carry_out(task)


def _miscounted(e: Episode) -> None:
    grant = e.grant(A)
    _bend(e, "GrantConsumed", lambda args: {**args, "usesLeft": args["usesLeft"] + 1}, grant=grant)
    e.complete(uses=usual_uses({A: grant}))


def _not_spent(e: Episode) -> None:
    grant = e.grant(A)
    _bend(e, "GrantConsumed", _nothing, grant=grant)
    e.complete(uses=usual_uses({A: grant}))


def _spent_by_nobody(e: Episode) -> None:
    grant = e.grant(A)
    task = e.complete(uses=usual_uses({A: grant}))
    e.story.mine().emit("GrantConsumed", grant=grant, task=task, usesLeft=998, epsilonLeft=0)


def _too_late(e: Episode) -> None:
    e.under(expiresAt=e.story.block().timestamp + 6)


def _too_early(e: Episode) -> None:
    e.under(notBefore=e.story.block().timestamp + 9_000)


def _other_purpose(e: Episode) -> None:
    e.under(purpose=h("elsewhere"))


def _other_algorithm(e: Episode) -> None:
    e.complete(uses=[(0, DATASETS[A], OTHER_ALGORITHM, e.grant(A), 0), *usual_uses()[1:]])


def _not_approved(e: Episode) -> None:
    e.under(approvalRequired=True)


def _over_anothers(e: Episode) -> None:
    e.grant(A, dataset=DATASETS[B])


def _budget_not_counted(e: Episode) -> None:
    grant = e.grant(A, epsilon=50)
    _bend(e, "GrantConsumed", lambda args: {**args, "epsilonLeft": 50}, grant=grant)
    e.complete(uses=usual_uses({A: grant}, 5))


def _suspended(node: str) -> Callable[[Episode], None]:
    def violate(e: Episode) -> None:
        values = {"node": node, "by": OFFICE, "held": False, "reason": h("reason")}
        back = ("NodeReinstated", {"node": node, "by": OFFICE})
        e.complete(before=[("NodeSuspended", values)], after=[back])

    return violate


def _withdrawn(e: Episode) -> None:
    commitment = e.fresh("commitment")
    dataset = dataset_id(A, commitment)
    e.story.mine().dataset(dataset, A, commitment)
    grant = e.grant(A, dataset=dataset)
    uses = [(0, dataset, ALGORITHM, grant, 0), *usual_uses()[1:]]
    e.complete(uses=uses, before=[("DatasetWithdrawn", {"dataset": dataset, "owner": A})])


def _algorithm_revoked(e: Episode) -> None:
    algorithm = e.fresh("algorithm")
    e.story.mine().emit("AlgorithmRegistered", algorithm=algorithm, provider=REQUESTER)
    grant = e.grant(A, algorithm=algorithm)
    uses = [(0, DATASETS[A], algorithm, grant, 0), *usual_uses()[1:]]
    e.complete(uses=uses, before=[("AlgorithmRevoked", {"algorithm": algorithm, "by": REQUESTER})])


def _reinstated_for_nothing(e: Episode) -> None:
    e.story.mine().emit("NodeReinstated", node=e.chance.choice(OWNERS), by=OFFICE)


def _withdrawn_by_another(e: Episode) -> None:
    dataset = dataset_id(A, e.fresh("commitment"))
    e.story.mine().dataset(dataset, A, h(f"commitment of {e.word}"))
    e.story.mine().emit("DatasetWithdrawn", dataset=dataset, owner=B)


def _revoked_by_another(e: Episode) -> None:
    algorithm = e.fresh("algorithm")
    e.story.mine().emit("AlgorithmRegistered", algorithm=algorithm, provider=REQUESTER)
    e.story.mine().emit("AlgorithmRevoked", algorithm=algorithm, by=B)


def _malformed(e: Episode) -> None:
    e.story.mine().emit("GrantRevoked", grant="0x12", owner=A)


def _stored_otherwise(e: Episode) -> None:
    key = at("GrantRegistry", e.grant(A))

    def change(case: Case) -> Case:
        snapshot = case.snapshot
        grant = snapshot.grants[key]
        other = {**snapshot.grants, key: replace(grant, uses_left=grant.uses_left + 1)}
        return replace(case, snapshot=replace(snapshot, grants=other))

    e.stored.append(change)


def _after_the_end(e: Episode) -> None:
    task = e.complete()
    e.story.mine().emit("TaskCancelled", task=task, by=REQUESTER)


def _unknown_task(e: Episode) -> None:
    e.story.mine().emit("TaskCancelled", task=e.fresh("no task"), by=REQUESTER)


def _started_by_a_stranger(e: Episode) -> None:
    task = e.complete()
    e.story.mine().emit("TaskStarted", task=task, party=REQUESTER, inputCommitment=h("in"))


def _failed_by_a_finisher(e: Episode) -> None:
    task = e.create()
    authority = e.story.block()
    e.story.start_all(task)
    e.story.finish(task, A, authority)
    e.story.mine().emit("TaskFailed", task=task, party=A, reason=1, blame=0, blamed=NOBODY)
    e.story.wipe(task)


def _completed_otherwise(e: Episode) -> None:
    _bend(e, "TaskCompleted", lambda args: {**args, "result": h("another")})
    e.complete()


def _disputed(e: Episode) -> None:
    e.complete(results={A: h("mine"), B: h("theirs"), C: h("theirs")})


def _left_open(e: Episode) -> None:
    task = e.create(lasts=60)
    e.story.start_all(task)
    e.story.wipe(task)
    e.story.mine(60)


def _untrue_refusal(e: Episode) -> None:
    e.twists.append(lambda node, kind, body: None if kind == "task.judged" else body)
    task = e.create()
    e.story.mine().emit("TaskRefused", task=task, party=A, reason=8)
    e.story.record(A, Kind.TASK_REFUSED, {"reason": 8, "transaction": e.story.transaction}, task)
    e.story.anchor(A)


def _acknowledged_by_a_party(e: Episode) -> None:
    e.story.acknowledge(e.complete(), by=A)


def _created_otherwise(e: Episode) -> None:
    e.create(approved=6)


def _task_under_another_id(e: Episode) -> None:
    e.create(id=e.fresh("id"))


def _dataset_under_another_id(e: Episode) -> None:
    said = {"commitment": h("c"), "schemaHash": h("s"), "class": 0}
    e.story.mine().emit("DatasetRegistered", dataset=e.fresh("it"), owner=A, **said)


def _grant_under_another_id(e: Episode) -> None:
    other = e.fresh("it")
    _bend(e, "GrantIssued", lambda args: {**args, "grant": other})
    e.grant(A)


def _rules_without_a_vote(e: Episode) -> None:
    e.story.mine().rules()


def _vote_of_a_stranger(e: Episode) -> None:
    proposal = e.story.propose(e.word)
    e.things.add(proposal)
    e.story.mine().emit("Voted", proposal=proposal, member=OUTSIDER, yes=False)


def _office_without_a_vote(e: Episode) -> None:
    stranger = f"0x{e.chance.getrandbits(160):040x}"
    e.things.add(stranger)
    e.story.mine().emit("RoleGranted", role=Office.REGULATOR.id, account=stranger, sender=OFFICE)


def _suspended_twice(e: Episode) -> None:
    values = {"node": B, "by": OFFICE, "held": False, "reason": h("reason")}
    e.story.mine().emit("NodeSuspended", **values)
    e.story.mine().emit("NodeSuspended", **values)
    e.story.mine().emit("NodeReinstated", node=B, by=OFFICE)


def _log_shrank(e: Episode) -> None:
    node = f"0x{e.chance.getrandbits(160):040x}"
    e.things.add(node)
    e.story.decide(e.word).admit(node)
    for size, before in ((9, 0), (3, 9)):
        anchored = {"node": node, "size": size, "root": h("root"), "previousSize": before}
        e.story.mine().emit("CheckpointAnchored", **anchored)


def _log_begun_anew(e: Episode) -> None:
    node = f"0x{e.chance.getrandbits(160):040x}"
    e.things.add(node)
    e.story.decide(e.word).admit(node)
    first = {"node": node, "size": 9, "root": h("root"), "previousSize": 0}
    e.story.mine().emit("CheckpointAnchored", **first)
    where = _new_generation(e)
    size, root = e.chance.choice([(9, "another root"), (3, "root")])
    again = {"node": node, "size": size, "root": h(root), "previousSize": 0}
    e.story.mine().emit("CheckpointAnchored", by_contract=where, **again)


def _rotated_during(e: Episode) -> None:
    node = e.chance.choice([*OWNERS, REQUESTER])
    e.complete(after=[("NodeKeysRotated", _new_keys(e, node))])


def _receipt_too_late(e: Episode) -> None:
    task = e.create(lasts=60)
    authority = e.story.block()
    e.story.start_all(task)
    e.story.wait(90)
    e.story.finish(task, A, authority)
    e.story.wipe(task)


def _admitted_alone(e: Episode) -> None:
    node = f"0x{e.chance.getrandbits(160):040x}"
    e.things.add(node)
    e.story.mine().admit(node)


def _retired_alone(e: Episode) -> None:
    node = f"0x{e.chance.getrandbits(160):040x}"
    e.things.add(node)
    e.story.decide(e.word).admit(node)
    e.story.mine().emit("NodeRetired", node=node, by=OFFICE)


def _code_of_another(e: Episode) -> None:
    e.things.add("EvidenceAnchor of generation")

    def change(case: Case) -> Case:
        current = len(case.world.generations) - 1
        other = OtherCode(current, "EvidenceAnchor", "it holds other code")
        return replace(case, other_code=(*case.other_code, other))

    e.stored.append(change)


# Violations in what the endpoint told


def _told(which: str) -> Callable[[Episode], None]:
    def violate(e: Episode) -> None:
        e.story.mine()
        problem = _problem(which, e.story.number, e.word)
        e.things.add(f"block {e.story.number}")

        def change(case: Case) -> Case:
            known = getattr(case.proof, which)
            return replace(case, proof=replace(case.proof, **{which: (*known, problem)}))

        e.stored.append(change)

    return violate


def _unsealed(e: Episode) -> None:
    e.story.mine()
    problem = ProofProblem(e.story.number, f"seals of 3 of 4 validators {e.word}", "seals of 2")
    e.things.add(f"block {e.story.number}")

    def change(case: Case) -> Case:
        known = case.proof.seals
        seals = Seals(sealed=True, pinned=(OWNERS[0],), problems=(*known.problems, problem))
        return replace(case, proof=replace(case.proof, seals=seals))

    e.stored.append(change)


def _proven_otherwise(e: Episode) -> None:
    e.story.mine()
    e.things.add(f"block {e.story.number}")
    wrong = f"block {e.story.number}", f"proofs of the state root {e.word}", "none"

    def change(case: Case) -> Case:
        storage = StorageProof(why="", problems=(*case.proof.storage.problems, wrong))
        return replace(case, proof=replace(case.proof, storage=storage))

    e.stored.append(change)


def _problem(which: str, block: int, word: str) -> ProofProblem | Replaced:
    if which == "replaced":
        return Replaced(block, block + 1, h(f"this {word}"), h("that"))
    return ProofProblem(block, f"this {word}", "that")


# Violations in a node's log


def _written(
    kind: Kind, change: Callable[[dict[str, Any]], dict[str, Any] | None]
) -> Callable[[Episode], None]:
    """A completed task of which one owner, by chance, writes one record otherwise."""

    def violate(e: Episode) -> None:
        _twist(e, e.chance.choice(e.writers), kind, change)
        e.complete()

    return violate


def _invented(e: Episode) -> None:
    task = e.complete()
    e.story.record(A, Kind.TASK_REFUSED, {"reason": 40, "transaction": e.fresh("none")}, task)
    e.story.anchor(A)


def _ran_without_a_start(e: Episode) -> None:
    e.story.mine().record(A, Kind.TASK_RAN, {}, e.fresh("a task nobody created"))
    e.story.anchor(A)


def _part_of_a_refused_task(e: Episode) -> None:
    task = e.create()
    e.story.judge(task, B, 34)
    e.story.mine().emit("TaskRefused", task=task, party=B, reason=34)
    e.story.record(B, Kind.TASK_REFUSED, {"reason": 34, "transaction": e.story.transaction}, task)
    e.story.anchor(B)
    _part_of(e, task)


def _dated(by_seconds: int) -> Callable[[Episode], None]:
    """A completed task whose start one owner dates otherwise."""

    def violate(e: Episode) -> None:
        node, record = e.chance.choice(e.writers), e.story.record

        def dated(who: str, kind: Kind, body: dict[str, Any], task: Any = None) -> None:
            skewed = (who, kind) == (node, Kind.TASK_STARTED)
            e.story.clock = by_seconds if skewed else 0
            record(who, kind, body, task)
            e.story.clock = 0

        e.story.record = dated
        try:
            e.complete()
        finally:
            del e.story.record
        e.things.update(f"{node}, record {n}" for n in range(len(e.story.lines[node])))

    return violate


def _other_authority(e: Episode) -> None:
    task = e.create()
    number = e.story.number  # what the receipts will cite

    def change(case: Case) -> Case:
        forked = replace(case.cited[number], hash=h(f"fork {number}"))
        return replace(case, cited={**case.cited, number: forked})

    e.stored.append(change)
    e.story.carry_out(task)


def _told_otherwise(**changes: Any) -> Callable[[Episode], None]:
    """A task of which one owner tells a step otherwise than the others; receipt and record agree."""

    def violate(e: Episode) -> None:
        _transcribed(e, {e.chance.choice(OWNERS)}, changes)

    return violate


def _all_told_otherwise(**changes: Any) -> Callable[[Episode], None]:
    def violate(e: Episode) -> None:
        _transcribed(e, set(OWNERS), changes)

    return violate


def _transcribed(e: Episode, who: set[str], changes: dict[str, Any]) -> None:
    honest = e.story.transcript

    def other(task: Any, owner: str) -> Any:
        told = honest(task, owner)
        return {**told, "steps": [{**told["steps"][0], **changes}]} if owner in who else told

    e.story.transcript = other
    try:
        e.complete()
    finally:
        del e.story.transcript


def _never_anchored(e: Episode) -> None:
    anchor = e.story.anchor
    e.story.anchor = lambda node: anchor(node) if node != B else None
    try:
        e.complete()
    finally:
        del e.story.anchor
    e.story.mine(30)
    e.story.anchor(B)


def _nothing(_body: dict[str, Any]) -> None:
    return None


def _traffic(change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> Any:
    return lambda body: {**body, "traffic": {"peers": change(body["traffic"]["peers"])}}


def _more_bytes(peers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**peers[0], "sent_bytes": peers[0]["sent_bytes"] + 1}, *peers[1:]]


def _with_a_stranger(peers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [*peers, {**peers[0], "address": OUTSIDER}]


def _other_output(body: dict[str, Any]) -> dict[str, Any]:
    return {**body, "receipt": {**body["receipt"], "output": h("other")}}


def _other_task(body: dict[str, Any]) -> dict[str, Any]:
    return {**body, "transcript": {**body["transcript"], "task": ""}}


def _put(**changes: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda body: {**body, **changes}


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of violation: the rule, how it is done, and what its doing breaks too."""

    rule: str
    violate: Callable[[Episode], None]
    also: frozenset[str] = frozenset()


def _fault(rule: str, violate: Callable[[Episode], None], *also: str, start: bool = False) -> Fault:
    return Fault(rule, violate, frozenset(also) | (UNLAWFUL_START if start else frozenset()))


RECORDS: dict[str, tuple[Kind, Callable[[dict[str, Any]], Any]]] = {
    "not wiped": (Kind.TASK_WIPED, _nothing),
    "false judgement": (Kind.TASK_JUDGED, _put(denial=9)),
    "other transcript": (Kind.TASK_RAN, _other_task),
    "other input": (Kind.TASK_STARTED, _put(input_commitment=h("other"))),
    "other receipt": (Kind.TASK_FINISHED, _other_output),
}
"""Kinds that are one record written otherwise, and so may be done together in one task."""

FAULTS: dict[str, Fault] = {
    "revoked grant": _fault("ST-G01", _revoked, start=True),
    "another's grant": _fault("ST-G01", _of_another, start=True),
    "unknown grant": _fault("ST-G01", _unknown_grant, "ST-T07", start=True),
    "used too often": _fault("ST-G02", _used_too_often, start=True),
    "use miscounted": _fault("ST-G02", _miscounted),
    "use not spent": _fault("ST-G02", _not_spent),
    "use spent by nobody": _fault("ST-G02", _spent_by_nobody),
    "start too late": _fault("ST-G03", _too_late, start=True),
    "start too early": _fault("ST-G03", _too_early, start=True),
    "other purpose": _fault("ST-G04", _other_purpose, start=True),
    "other algorithm": _fault("ST-G04", _other_algorithm, start=True),
    "weaker protection": _fault("ST-G05", lambda e: e.under(protections=2), start=True),
    "not approved": _fault("ST-G06", _not_approved, "ST-T07", start=True),
    "grant over another's data": _fault("ST-G07", _over_anothers),
    "nothing asked of a budget": _fault("ST-G08", lambda e: e.under(epsilon=5), start=True),
    "budget overspent": _fault("ST-G08", lambda e: e.under(epsilon=5, asked=6), start=True),
    "budget not counted": _fault("ST-G08", _budget_not_counted),
    "party not named by the grant": _fault("ST-G09", lambda e: e.under(participants=(B,)), start=True),
    "party suspended": _fault("ST-P01", _suspended(B), start=True),
    "requester suspended": _fault("ST-P02", _suspended(REQUESTER), start=True),
    "dataset withdrawn": _fault("ST-D01", _withdrawn, start=True),
    "algorithm revoked": _fault("ST-A01", _algorithm_revoked, start=True),
    "reinstated for nothing": _fault("ST-N01", _reinstated_for_nothing),
    "suspended twice": _fault("ST-N01", _suspended_twice),
    "withdrawn by another": _fault("ST-D02", _withdrawn_by_another),
    "revoked by another": _fault("ST-A02", _revoked_by_another),
    "log shrank": _fault("ST-C01", _log_shrank, "EV-L02"),
    "malformed event": _fault("ST-E01", _malformed),
    "storage differs": _fault("ST-S01", _stored_otherwise),
    "after the end": _fault("ST-T01", _after_the_end),
    "unknown task": _fault("ST-T01", _unknown_task),
    "started by a stranger": _fault("ST-T02", _started_by_a_stranger),
    "failed by one who finished": _fault("ST-T02", _failed_by_a_finisher, "EV-A01", "EV-A03"),
    "completed otherwise": _fault("ST-T03", _completed_otherwise),
    "results disagree": _fault("ST-T04", _disputed),
    "left open": _fault("ST-T05", _left_open),
    "untrue refusal": _fault("ST-R01", _untrue_refusal),
    "acknowledged by a party": _fault("ST-T06", _acknowledged_by_a_party),
    "created otherwise": _fault("ST-T07", _created_otherwise),
    "task under another id": _fault("ST-I01", _task_under_another_id),
    "dataset under another id": _fault("ST-I01", _dataset_under_another_id),
    "grant under another id": _fault("ST-I01", _grant_under_another_id),
    "log begun anew": _fault("ST-C02", _log_begun_anew),
    "keys rotated mid-task": _fault("ST-N02", _rotated_during),
    "receipt too late": _fault("ST-T01", _receipt_too_late, "ST-T05", "EV-A02"),
    "admitted by the registrar alone": _fault("ST-N01", _admitted_alone),
    "retired by the registrar alone": _fault("ST-N01", _retired_alone),
    "other code at an address": _fault("ST-V05", _code_of_another),
    "rules without a vote": _fault("ST-V01", _rules_without_a_vote),
    "vote of a stranger": _fault("ST-V02", _vote_of_a_stranger),
    "office without a vote": _fault("ST-V03", _office_without_a_vote),
    "header altered": _fault("PR-01", _told("chain_problems")),
    "event left out": _fault("PR-02", _told("log_problems")),
    "block sealed by too few": _fault("PR-03", _unsealed),
    "storage not as the state root": _fault("PR-04", _proven_otherwise),
    "final block replaced": _fault("PR-06", _told("replaced")),
    "act without a record": _fault("EV-A01", _written(Kind.TASK_STARTED, _nothing)),
    "finish without a record": _fault("EV-A01", _written(Kind.TASK_FINISHED, _nothing)),
    "record without an act": _fault("EV-A02", _invented),
    "ran without a start": _fault("EV-A03", _ran_without_a_start),
    "not wiped": _fault("EV-D01", _written(*RECORDS["not wiped"])),
    "part of no task": _fault("EV-K01", lambda e: _part_of(e, e.fresh("no task"))),
    "part of a refused task": _fault("EV-K01", _part_of_a_refused_task),
    "part that is not on the chain": _fault("EV-K01", lambda e: _part_of(e, e.complete(), registered=False)),
    "clock ahead of the chain's": _fault("EV-C01", _dated(20_000)),
    "clock behind the chain's": _fault("EV-C01", _dated(-900)),
    "false judgement": _fault("EV-J01", _written(*RECORDS["false judgement"])),
    "not anchored": _fault("EV-L03", _never_anchored),
    "other receipt": _fault("EV-R01", _written(*RECORDS["other receipt"])),
    "other input": _fault("EV-R02", _written(*RECORDS["other input"])),
    "other authority": _fault("EV-R03", _other_authority, "EV-J01"),
    "other transcript": _fault("EV-R04", _written(*RECORDS["other transcript"])),
    "other program": _fault("EV-X01", _told_otherwise(program=h("other"))),
    "bytes that nobody received": _fault("EV-X02", _written(Kind.TASK_RAN, _traffic(_more_bytes))),
    "peer left out": _fault("EV-X02", _written(Kind.TASK_RAN, _traffic(lambda peers: peers[1:]))),
    "traffic with a stranger": _fault("EV-X02", _written(Kind.TASK_RAN, _traffic(_with_a_stranger))),
    "other protocol than named": _fault("EV-X03", _all_told_otherwise(protocol="CHEETAH")),
    "opened otherwise": _fault("EV-O01", lambda e: _opened(e, commitment=h("other"))),
    "opened by another": _fault("EV-O01", lambda e: _opened(e, speaker=OUTSIDER)),
    "opening not signed": _fault("EV-O01", lambda e: _opened(e, signed=False)),
    "opening of nothing": _fault("EV-O01", lambda e: _opened(e, dataset=h("nothing"))),
    "opening without a record": _fault("EV-O01", lambda e: _opened(e, recorded=False)),
    "other promise": _fault("EV-X03", _all_told_otherwise(security="malicious; nobody is trusted")),
}
"""Kinds of violation that may come anywhere in a history, and as often as one likes."""


def _of_enclave(kind: type[EnclaveTask], how: dict[str, Any]) -> Callable[[Episode], None]:
    return lambda e: e.in_enclave(kind, **how)


FAULTS |= {name: _fault(rule, _of_enclave(kind, how)) for name, (rule, kind, how) in ENCLAVE_FAULTS.items()}


def _rewritten(text: bytes) -> bytes:
    """The last word on what was wiped is another; all before it can still be relied on."""
    return b'"removed":5'.join(text.rsplit(b'"removed":4', 1))


def _cut(text: bytes) -> bytes:
    """All but the last two records."""
    return b"".join(text.splitlines(keepends=True)[:-2])


def _ledger_closed(e: Episode) -> None:
    e.story.mine().emit("LedgerClosed", by=CONSORTIUM)


def _executed_otherwise(e: Episode) -> None:
    e.story.mine()
    e.things.add(f"block {e.story.number}")
    execution = Execution(why="", problem=ProofProblem(e.story.number, "hash this", "hash that"))
    e.stored.append(lambda case: replace(case, proof=replace(case.proof, execution=execution)))


LAST: dict[str, str] = {
    "log rewritten": "EV-L01",
    "log cut": "EV-L02",
    "ledger closed without a vote": "ST-V04",
    "executed otherwise": "PR-05",
}
"""Kinds that say something of all that follows, so they come last, at the most one in a history."""

SPOILT: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "log rewritten": (A, _rewritten),
    "log cut": (C, _cut),
}
"""Those of them that are done to a log: whose, and how."""


def _bend(e: Episode, name: str, change: Callable[[dict[str, Any]], Any], **where: Any) -> None:
    """The first event of this episode called ``name`` (with these values) happens otherwise."""
    left = [1]

    def bend(called: str, args: dict[str, Any]) -> dict[str, Any] | None:
        if called != name or not left[0] or any(args[key] != value for key, value in where.items()):
            return args
        left[0] = 0
        made: dict[str, Any] | None = change(args)
        return made

    e.bends.append(bend)


def _twist(e: Episode, node: str, kind: Kind, change: Callable[[dict[str, Any]], Any]) -> None:
    """The first record of this episode of ``kind`` by ``node`` is written otherwise."""
    left = [1]

    def twist(who: str, called: str, body: dict[str, Any]) -> dict[str, Any] | None:
        if (who, called) != (node, kind.value) or not left[0]:
            return body
        left[0] = 0
        made: dict[str, Any] | None = change(body)
        return made

    e.twists.append(twist)


@dataclass(frozen=True, slots=True)
class History:
    """What an auditor is given, and all that is wrong with it."""

    case: Case
    injected: tuple[Injected, ...]
    tasks: int

    def missed(self, findings: Sequence[Finding]) -> list[Injected]:
        """Injected violations that ``findings`` say nothing of."""
        return [each for each in self.injected if not any(map(each.is_found_by, findings))]

    def unexplained(self, findings: Sequence[Finding]) -> list[Finding]:
        """Those of ``findings`` that no injected violation explains."""
        return [found for found in findings if not any(each.explains(found) for each in self.injected)]


def history(seed: int, episodes: int, faults: int, *, only: str | None = None) -> History:
    """A history of ``episodes`` stretches with violations in ``faults`` of them, at places of ``seed``.

    With ``only`` all of one kind; else kinds by chance, every eighth a task with several at once.
    """
    chance = random.Random(seed)
    current: list[Episode] = []
    story = Story(
        bend=lambda name, args: _through(current, "bends", args, name),
        twist=lambda node, kind, body: _through(current, "twists", body, node, kind),
    )
    story.found(members=2, uses=1_000_000, expiresAt=_end())
    places = set(chance.sample(range(episodes), faults))
    last = _last_kind(chance, faults, only)
    spoilt, rewrite = SPOILT.get(last or "", ("", bytes))
    writers = tuple(each for each in OWNERS if each != spoilt)
    injected: list[Injected] = []
    changes: list[Callable[[Case], Case]] = []
    for number in range(episodes):
        e = Episode(story, f"episode {seed} {number}", chance, writers)
        current[:] = [e]
        if number in places:
            injected += _inject(e, only)
        else:
            chance.choices(list(HONEST), list(HONEST.values()))[0](e)
        changes += e.stored
        current.clear()
    if last is not None:
        e = Episode(story, f"last {seed}", chance)
        injected.append(_inject_last(e, last))
        changes += e.stored
    case = story.case(spoil=lambda node, text: rewrite(text) if node == spoilt else text)
    for change in changes:
        case = change(case)
    return History(case, tuple(injected), len(case.world.tasks))


def _through(current: list[Episode], what: str, value: Any, *names: str) -> Any:
    for e in current:
        for change in getattr(e, what):
            if value is not None:
                value = change(*names, value)
    return value


def _inject(e: Episode, only: str | None) -> list[Injected]:
    first = e.story.number
    if only is None and e.chance.random() < 0.125:
        names = e.chance.sample(sorted(RECORDS), e.chance.randint(2, 3))
        for name in names:
            _twist(e, e.chance.choice(e.writers), *RECORDS[name])
        e.complete()
    else:
        names = [only if only in FAULTS else e.chance.choice(sorted(FAULTS))]
        FAULTS[names[0]].violate(e)
    last, things = e.story.number, frozenset(e.things)
    e.story.mine()
    kinds = [(name, FAULTS[name]) for name in names]
    also = frozenset().union(*(fault.also for _, fault in kinds))
    return [Injected(name, fault.rule, also, first, last, things) for name, fault in kinds]


def _last_kind(chance: random.Random, faults: int, only: str | None) -> str | None:
    """What comes last, in about a third of the histories."""
    if only is not None:
        return only if only in LAST else None
    return chance.choice(sorted(LAST)) if faults and chance.random() < 0.3 else None


def _inject_last(e: Episode, name: str) -> Injected:
    first = e.story.number
    if name in SPOILT:
        e.complete()
        e.story.mine()
        things = frozenset({SPOILT[name][0]})
    elif name == "executed otherwise":
        _executed_otherwise(e)
        things = frozenset(e.things)
    else:
        _ledger_closed(e)
        things = frozenset({"ledger", "generation"})
    return Injected(name, LAST[name], frozenset({"EV-L01"}), first, e.story.number, things)


__all__ = ["FAULTS", "HONEST", "LAST", "Fault", "History", "Injected", "history"]
