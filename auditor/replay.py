"""The auditor's own state machine: from events alone to the state of everything, at every place.

It shares the lifecycle table with the nodes and takes no fact from them. An event that the rules do not
allow is written down as an irregularity and changes nothing that the rules protect; nothing here crashes
because the chain says something absurd.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final

from eth_hash.auto import keccak

from sealtrace.auditor.events import Event, MalformedEvent
from sealtrace.auditor.world import (
    Anchor,
    Consumption,
    Irregularity,
    Start,
    Step,
    TaskHistory,
    Timeline,
    Topic,
    World,
)
from sealtrace.protocol.identifiers import Address, Hex32, UnixSeconds, hex32
from sealtrace.protocol.lifecycle import IllegalTransition, TaskEvent, TaskState, advance, at_time
from sealtrace.protocol.records import (
    Algorithm,
    AlgorithmStatus,
    DataClass,
    Dataset,
    DatasetStatus,
    Grant,
    Node,
    NodeStatus,
    Protection,
    Role,
    Use,
)

REGISTRAR: Final = hex32(keccak(b"REGISTRAR"))
REGULATOR: Final = hex32(keccak(b"REGULATOR"))
_ENDS = frozenset(
    {
        TaskState.COMPLETED,
        TaskState.FAILED,
        TaskState.DISPUTED,
        TaskState.REFUSED,
        TaskState.CANCELLED,
    }
)


def replay(events: Iterable[Event]) -> World:
    """Replay ``events``, which come in the order of the chain from the contracts' first block on."""
    return _Replay().run(events)


class _Replay:
    """The machine; one method for each event, refusing first, then changing."""

    def __init__(self) -> None:
        self.world = World()
        self._held: set[str] = set()  # nodes and algorithms that the regulator holds suspended
        self._offices: set[tuple[Hex32, Address]] = set()
        self._unclaimed: dict[tuple[Hex32, Hex32], list[Consumption]] = {}
        self._handlers: dict[str, Callable[[Event], None]] = {
            "RoleGranted": self._role_granted,
            "RoleRevoked": self._role_revoked,
            "NodeAdmitted": self._node_admitted,
            "NodeSuspended": self._node_suspended,
            "NodeReinstated": self._node_reinstated,
            "NodeRetired": self._node_retired,
            "NodeKeysRotated": self._node_keys_rotated,
            "DatasetRegistered": self._dataset_registered,
            "DatasetWithdrawn": self._dataset_withdrawn,
            "AlgorithmRegistered": self._algorithm_registered,
            "AlgorithmSuspended": self._algorithm_suspended,
            "AlgorithmReinstated": self._algorithm_reinstated,
            "AlgorithmRevoked": self._algorithm_revoked,
            "GrantIssued": self._grant_issued,
            "GrantRevoked": self._grant_revoked,
            "GrantConsumed": self._grant_consumed,
            "CheckpointAnchored": self._checkpoint_anchored,
            "TaskCreated": self._task_created,
            "TaskPartyNamed": self._party_named,
            "TaskUseNamed": self._use_named,
            "TaskApproved": self._task_approved,
            "TaskAuthorized": self._task_authorized,
            "TaskStarted": self._task_started,
            "TaskRunning": self._task_running,
            "TaskFinished": self._task_finished,
            "TaskRefused": self._task_ended_by_party,
            "TaskFailed": self._task_ended_by_party,
            "TaskCancelled": self._task_cancelled,
            "TaskCompleted": self._task_step,
            "TaskDisputed": self._task_step,
        }

    def run(self, events: Iterable[Event]) -> World:
        for event in events:
            self._note(event)
            try:
                self._handlers.get(event.name, self._unknown)(event)
            except (MalformedEvent, ValueError) as problem:
                self._irregular(
                    Topic.DECODING, event.transaction, event, "values its ABI allows", str(problem)
                )
        for left in self._unclaimed.values():
            self.world.spent_without_start.extend(left)
        return self.world

    def _note(self, event: Event) -> None:
        self.world.events += 1
        self.world.blocks[event.block.number] = event.block

    def _unknown(self, event: Event) -> None:
        if event.name != "RoleAdminChanged":
            self._irregular(Topic.DECODING, event.transaction, event, "an event of our contracts", event.name)

    def _irregular(self, topic: Topic, thing: str, event: Event, expected: str, observed: str) -> None:
        self.world.irregular.append(Irregularity(topic, thing, event, expected, observed))

    # offices

    def _role_granted(self, event: Event) -> None:
        self._offices.add((event.hex("role"), event.who("account")))

    def _role_revoked(self, event: Event) -> None:
        self._offices.discard((event.hex("role"), event.who("account")))

    def _holds_office(self, event: Event, *, registrar: bool = True) -> bool:
        """Whether the one it was done ``by`` held the office that it takes, at that place."""
        by = event.who("by")
        if event.args.get("regulator") is True:
            return (REGULATOR, by) in self._offices
        return (REGULATOR, by) in self._offices or (registrar and (REGISTRAR, by) in self._offices)

    def _may_take_over(self, event: Event, thing: str) -> bool:
        """Whether a second suspension stands: the regulator's, over a registrar's."""
        return event.flag("regulator") and thing not in self._held

    # nodes

    def _node_admitted(self, event: Event) -> None:
        who = event.who("node")
        node = Node(
            who,
            NodeStatus.ACTIVE,
            Role(event.number("roles")),
            event.hex("tlsFingerprint"),
            event.hex("encryptionKey"),
        )
        if who in self.world.nodes:
            self._irregular(Topic.NODES, who, event, "an address is admitted once", "admitted again")
            return
        self.world.nodes[who] = Timeline()
        self.world.nodes[who].put(event.position, node)

    def _node_suspended(self, event: Event) -> None:
        taken_over = {NodeStatus.SUSPENDED} if self._may_take_over(event, event.who("node")) else set()
        self._set_node(event, {NodeStatus.ACTIVE, *taken_over}, NodeStatus.SUSPENDED)
        if event.flag("regulator"):
            self._held.add(event.who("node"))

    def _node_reinstated(self, event: Event) -> None:
        self._set_node(event, {NodeStatus.SUSPENDED}, NodeStatus.ACTIVE)
        self._held.discard(event.who("node"))

    def _node_retired(self, event: Event) -> None:
        self._set_node(event, {NodeStatus.ACTIVE, NodeStatus.SUSPENDED}, NodeStatus.RETIRED)

    def _set_node(self, event: Event, allowed: set[NodeStatus], to: NodeStatus) -> None:
        who = event.who("node")
        known = self.world.nodes.get(who)
        if known is None or known.last.status not in allowed:
            was = known.last.status if known else NodeStatus.NONE
            expected = "a node that is " + " or ".join(sorted(s.name for s in allowed))
            self._irregular(Topic.NODES, who, event, expected, was.name)
            return
        if not self._holds_office(event, registrar=who not in self._held or to is not NodeStatus.ACTIVE):
            self._irregular(Topic.NODES, who, event, "done by a holder of the office", event.who("by"))
        known.put(event.position, replace(known.last, status=to))

    def _node_keys_rotated(self, event: Event) -> None:
        who = event.who("node")
        known = self.world.nodes.get(who)
        if known is None or known.last.status is not NodeStatus.ACTIVE:
            was = known.last.status.name if known else "NONE"
            self._irregular(Topic.NODES, who, event, "an active node rotates its keys", was)
            return
        fresh = replace(
            known.last,
            tls_fingerprint=event.hex("tlsFingerprint"),
            encryption_key=event.hex("encryptionKey"),
        )
        known.put(event.position, fresh)

    # datasets and algorithms

    def _dataset_registered(self, event: Event) -> None:
        key, owner = event.hex("dataset"), event.who("owner")
        if key in self.world.datasets:
            self._irregular(Topic.DATASETS, key, event, "a dataset is registered once", "registered again")
            return
        if not self._is_active(owner, Role.OWNER):
            self._irregular(Topic.DATASETS, key, event, "registered by an active data owner", owner)
        commitment, schema = event.hex("commitment"), event.hex("schemaHash")
        grade = DataClass(event.number("class"))
        dataset = Dataset(key, owner, DatasetStatus.ACTIVE, grade, commitment, schema)
        self.world.datasets[key] = Timeline()
        self.world.datasets[key].put(event.position, dataset)

    def _dataset_withdrawn(self, event: Event) -> None:
        key = event.hex("dataset")
        known = self.world.datasets.get(key)
        if known is None or known.last.status is not DatasetStatus.ACTIVE:
            was = known.last.status.name if known else "NONE"
            self._irregular(Topic.DATASETS, key, event, "an active dataset is withdrawn", was)
            return
        if event.who("owner") != known.last.owner:
            self._irregular(
                Topic.DATASETS, key, event, f"withdrawn by {known.last.owner}", event.who("owner")
            )
        known.put(event.position, replace(known.last, status=DatasetStatus.WITHDRAWN))

    def _algorithm_registered(self, event: Event) -> None:
        key, provider = event.hex("algorithm"), event.who("provider")
        if key in self.world.algorithms:
            self._irregular(Topic.ALGORITHMS, key, event, "a digest is registered once", "registered again")
            return
        if not self._is_active(provider, Role.PROVIDER):
            self._irregular(Topic.ALGORITHMS, key, event, "registered by an active provider", provider)
        self.world.algorithms[key] = Timeline()
        self.world.algorithms[key].put(event.position, Algorithm(key, provider, AlgorithmStatus.ACTIVE))

    def _algorithm_suspended(self, event: Event) -> None:
        key = event.hex("algorithm")
        taken_over = {AlgorithmStatus.SUSPENDED} if self._may_take_over(event, key) else set()
        self._set_algorithm(event, {AlgorithmStatus.ACTIVE, *taken_over}, AlgorithmStatus.SUSPENDED)
        if event.flag("regulator"):
            self._held.add(key)

    def _algorithm_reinstated(self, event: Event) -> None:
        self._set_algorithm(event, {AlgorithmStatus.SUSPENDED}, AlgorithmStatus.ACTIVE)
        self._held.discard(event.hex("algorithm"))

    def _algorithm_revoked(self, event: Event) -> None:
        allowed = {AlgorithmStatus.ACTIVE, AlgorithmStatus.SUSPENDED}
        self._set_algorithm(event, allowed, AlgorithmStatus.REVOKED)

    def _set_algorithm(self, event: Event, allowed: set[AlgorithmStatus], to: AlgorithmStatus) -> None:
        key = event.hex("algorithm")
        known = self.world.algorithms.get(key)
        if known is None or known.last.status not in allowed:
            was = known.last.status if known else AlgorithmStatus.NONE
            expected = "an algorithm that is " + " or ".join(sorted(s.name for s in allowed))
            self._irregular(Topic.ALGORITHMS, key, event, expected, was.name)
            return
        if not self._may_set_algorithm(event, known.last, to):
            self._irregular(Topic.ALGORITHMS, key, event, "done by who may do it", event.who("by"))
        known.put(event.position, replace(known.last, status=to))

    def _may_set_algorithm(self, event: Event, algorithm: Algorithm, to: AlgorithmStatus) -> bool:
        if to is AlgorithmStatus.REVOKED:
            return event.who("by") == algorithm.provider
        held = algorithm.digest in self._held and to is AlgorithmStatus.ACTIVE
        return self._holds_office(event, registrar=not held)

    def _is_active(self, who: Address, role: Role) -> bool:
        return who in self.world.nodes and self.world.nodes[who].last.may(role)

    # grants

    def _grant_issued(self, event: Event) -> None:
        grant = _grant_from(event)
        if grant.id in self.world.grants:
            self._irregular(Topic.GRANTS, grant.id, event, "a grant is issued once", "issued again")
            return
        if problem := self._why_not_issuable(grant, event.time):
            self._irregular(Topic.GRANTS, grant.id, event, "a grant that its owner may issue", problem)
        self.world.grants[grant.id] = Timeline()
        self.world.grants[grant.id].put(event.position, grant)

    def _why_not_issuable(self, grant: Grant, now: UnixSeconds) -> str | None:
        """What ``GrantRegistry.issue`` would have refused; the order is its."""
        if not self._is_active(grant.owner, Role(0)):
            return f"its owner {grant.owner} is not an active node"
        dataset = self.world.datasets.get(grant.dataset)
        if dataset is None or dataset.last.owner != grant.owner:
            return f"the dataset {grant.dataset} is not its owner's"
        if dataset.last.status is not DatasetStatus.ACTIVE:
            return f"the dataset {grant.dataset} is {dataset.last.status.name}"
        algorithm = self.world.algorithms.get(grant.algorithm)
        if algorithm is None or algorithm.last.status is not AlgorithmStatus.ACTIVE:
            return f"the algorithm {grant.algorithm} is not active"
        if not self._is_active(grant.requester, Role.REQUESTER):
            return f"{grant.requester} is not an active requester"
        if grant.expires_at <= max(grant.not_before, now):
            return f"a window from {grant.not_before} to {grant.expires_at}, issued at {now}"
        return None if grant.uses_left and grant.protections else "no use or no protection"

    def _grant_revoked(self, event: Event) -> None:
        key = event.hex("grant")
        known = self.world.grants.get(key)
        if known is None or known.last.revoked:
            was = "revoked already" if known else "never issued"
            self._irregular(Topic.GRANTS, key, event, "a grant in being is revoked", was)
            return
        if event.who("owner") != known.last.owner:
            self._irregular(Topic.GRANTS, key, event, f"revoked by {known.last.owner}", event.who("owner"))
        known.put(event.position, replace(known.last, revoked=True))

    def _grant_consumed(self, event: Event) -> None:
        key, task, left = event.hex("grant"), event.hex("task"), event.number("usesLeft")
        claim = (event.transaction, task)
        self._unclaimed.setdefault(claim, []).append(Consumption(key, task, left, event))
        known = self.world.grants.get(key)
        if known is None:  # the start that names it is judged by its own check
            return
        expected = known.last.uses_left - 1
        if left != expected:
            shown = f"{expected} uses left" if expected >= 0 else "nothing left to spend"
            self._irregular(Topic.USES, key, event, shown, f"{left} uses left")
        known.put(event.position, replace(known.last, uses_left=left))

    # checkpoints

    def _checkpoint_anchored(self, event: Event) -> None:
        who, size = event.who("node"), event.number("size")
        anchors = self.world.anchors.setdefault(who, [])
        last = anchors[-1].size if anchors else 0
        if who not in self.world.nodes:
            self._irregular(Topic.CHECKPOINTS, who, event, "anchored by an admitted node", "never admitted")
        if event.number("previousSize") != last or size <= last:
            observed = f"from {event.number('previousSize')} to {size} records"
            self._irregular(Topic.CHECKPOINTS, who, event, f"growth from {last} records", observed)
            return
        anchors.append(Anchor(who, size, event.hex("root"), event))

    # tasks

    def _task_created(self, event: Event) -> None:
        key = event.hex("task")
        if key in self.world.tasks:
            self._irregular(Topic.LIFECYCLE, key, event, "a task is created once", "created again")
            return
        task = TaskHistory(
            id=key,
            created=event,
            requester=event.who("requester"),
            spec=event.hex("spec"),
            purpose=event.hex("purpose"),
            protections=Protection(event.number("protections")),
            deadline=UnixSeconds(event.number("deadline")),
            party_count=event.number("parties"),
            use_count=event.number("uses"),
            approved=event.number("approved"),
        )
        self.world.tasks[key] = task
        self._advance(task, event)
        if not self._is_active(task.requester, Role.REQUESTER):
            self._irregular(Topic.ACTORS, key, event, "created by an active requester", task.requester)

    def _party_named(self, event: Event) -> None:
        if (task := self._task(event)) is not None:
            task.parties[event.number("index")] = event.who("party")

    def _use_named(self, event: Event) -> None:
        if (task := self._task(event)) is not None:
            use = Use(
                event.number("party"),
                event.hex("dataset"),
                event.hex("algorithm"),
                event.hex("grant"),
            )
            task.uses[event.number("index")] = use

    def _task_approved(self, event: Event) -> None:
        task = self._acting(event, "party")
        if task is None or not self._once(task, event, task.approvals):
            return
        if self._advance(task, event):
            task.approvals[event.who("party")] = event
            task.approved |= task.mask({event.who("party"): event})

    def _task_authorized(self, event: Event) -> None:
        if (task := self._task(event)) is None or not self._advance(task, event):
            return
        if task.approved != task.everybody:
            expected = f"authorized when all {task.party_count} parties' grants stand or they approved"
            self._irregular(Topic.ACTORS, task.id, event, expected, f"approved mask {task.approved:#x}")

    def _task_started(self, event: Event) -> None:
        consumed = tuple(self._unclaimed.pop((event.transaction, event.hex("task")), ()))
        task = self._acting(event, "party")
        if task is None or not self._once(task, event, task.starts):
            return
        if self._advance(task, event):
            party = event.who("party")
            task.starts[party] = Start(task.id, party, event, consumed)

    def _task_running(self, event: Event) -> None:
        if (task := self._task(event)) is None or not self._advance(task, event):
            return
        if task.mask(task.starts) != task.everybody:
            expected = f"running when all {task.party_count} parties have started"
            self._irregular(Topic.ACTORS, task.id, event, expected, f"{len(task.starts)} have started")

    def _task_finished(self, event: Event) -> None:
        task = self._acting(event, "party")
        if task is None or not self._once(task, event, task.finishes):
            return
        if self._advance(task, event):
            task.finishes[event.who("party")] = event

    def _task_ended_by_party(self, event: Event) -> None:
        task = self._acting(event, "party")
        if task is None:
            return
        if event.name == "TaskFailed" and event.who("party") in task.finishes:
            expected = "a failure reported by a party that has not finished"
            self._irregular(Topic.ACTORS, task.id, event, expected, f"{event.who('party')} had finished")
        self._advance(task, event)

    def _task_cancelled(self, event: Event) -> None:
        task = self._task(event)
        if task is None:
            return
        by = event.who("by")
        if by != task.requester and by not in task.parties.values():
            self._irregular(Topic.ACTORS, task.id, event, "cancelled by its requester or a party", by)
        self._advance(task, event)

    def _task_step(self, event: Event) -> None:
        if (task := self._task(event)) is not None:
            self._advance(task, event)

    def _task(self, event: Event) -> TaskHistory | None:
        key = event.hex("task")
        task = self.world.tasks.get(key)
        if task is None:
            self._irregular(Topic.LIFECYCLE, key, event, "a task that was created", "never created")
        return task

    def _acting(self, event: Event, who: str) -> TaskHistory | None:
        """The task of an act of a party, noting an actor that is none of the parties."""
        task = self._task(event)
        if task is None or event.who(who) in task.parties.values():
            return task
        self._irregular(Topic.ACTORS, task.id, event, "an act of one of its parties", event.who(who))
        return None

    def _once(
        self, task: TaskHistory, event: Event, done: dict[Address, Start] | dict[Address, Event]
    ) -> bool:
        if event.who("party") not in done:
            return True
        self._irregular(
            Topic.ACTORS, task.id, event, f"one {event.name} of {event.who('party')}", "a second one"
        )
        return False

    def _advance(self, task: TaskHistory, event: Event) -> bool:
        """Take the step if the table has it at this block's time."""
        before = at_time(task.state, task.deadline, event.time)
        try:
            after = advance(before, TaskEvent(event.name))
        except IllegalTransition as problem:
            self._irregular(Topic.LIFECYCLE, task.id, event, "a step in the lifecycle table", str(problem))
            return False
        task.state = after
        task.steps.append(Step(event, before, after))
        task.end = event if after in _ENDS else task.end
        return True


def _grant_from(event: Event) -> Grant:
    return Grant(
        id=event.hex("grant"),
        owner=event.who("owner"),
        dataset=event.hex("dataset"),
        algorithm=event.hex("algorithm"),
        requester=event.who("requester"),
        purpose=event.hex("purpose"),
        uses_left=event.number("uses"),
        not_before=UnixSeconds(event.number("notBefore")),
        expires_at=UnixSeconds(event.number("expiresAt")),
        protections=Protection(event.number("protections")),
        approval_required=event.flag("approvalRequired"),
        revoked=False,
        epsilon_millionths=event.number("epsilon"),
    )
