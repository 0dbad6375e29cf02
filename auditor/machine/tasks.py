"""Tasks: created whole, approved, started, finished or otherwise ended, acknowledged; and ledgers closed."""

from __future__ import annotations

from bisect import insort
from collections.abc import Container, Mapping

from sealtrace.auditor.events import Event
from sealtrace.auditor.machine.grants import GrantsPart
from sealtrace.auditor.machine.part import Handler, Part
from sealtrace.auditor.world import (
    MARK_DIGITS,
    NO_MARK,
    Key,
    NamedUse,
    Start,
    Step,
    TaskHistory,
    Topic,
    World,
)
from sealtrace.contracts.client import CONFLICT
from sealtrace.protocol.identifiers import NOBODY, NOTHING, Address, Hex32, UnixSeconds
from sealtrace.protocol.lifecycle import IllegalTransition, TaskEvent, TaskState, advance, at_time
from sealtrace.protocol.outcome import Blame
from sealtrace.protocol.records import Protection, Role

MAX_PARTIES = 16
MAX_USES = 64
MAX_PERMILLE = 1000
_EVENTS = {event.value: event for event in TaskEvent}
_ENDS = frozenset(
    {
        TaskState.COMPLETED,
        TaskState.FAILED,
        TaskState.DISPUTED,
        TaskState.REFUSED,
        TaskState.CANCELLED,
    }
)


class TasksPart(Part):
    """The rules of the task ledger."""

    def __init__(self, world: World, grants: GrantsPart) -> None:
        super().__init__(world)
        self._grants = grants

    def handlers(self) -> Mapping[str, Handler]:
        """The methods by the names of their events."""
        return {
            "TaskCreated": self._created,
            "TaskPartyNamed": self._party_named,
            "TaskUseNamed": self._use_named,
            "TaskApproved": self._approved,
            "TaskAuthorized": self._authorized,
            "TaskStarted": self._started,
            "TaskRunning": self._running,
            "TaskProgress": self._progress,
            "TaskFinished": self._finished,
            "TaskRefused": self._refused,
            "TaskFailed": self._failed,
            "TaskCancelled": self._cancelled,
            "TaskCompleted": self._completed,
            "TaskDisputed": self._disputed,
            "TaskAcknowledged": self._acknowledged,
            "LedgerClosed": self._closed,
        }

    def finish(self) -> None:
        """What was named of a task is what the ledger takes."""
        for task in self.world.tasks.values():
            for expected, observed in self._faults(task):
                self.irregular(Topic.CREATION, task.id, task.created, expected, observed)

    # creation

    def _created(self, event: Event) -> None:
        key = event.hex("task")
        if key in self.world.tasks:
            self.irregular(Topic.LIFECYCLE, key, event, "a task is created once", "created again")
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
        if task.deadline <= event.time:
            self.irregular(Topic.CREATION, key, event, f"a deadline after {event.time}", f"{task.deadline}")
        self._advance(task, event)
        if event.contract in self.world.closed:
            closed = self.world.closed[event.contract].block.number
            self.irregular(Topic.CREATION, key, event, f"no task once closed at block {closed}", "a new one")
        if not self.is_active(event, task.requester, Role.REQUESTER):
            self.irregular(Topic.ACTORS, key, event, "created by an active requester", task.requester)

    def _party_named(self, event: Event) -> None:
        task, party = self._task(event), event.who("party")
        if task is None or not self._is_part(task, event, "parties", len(task.parties) < task.party_count):
            return
        if party in task.parties:
            expected = "a party without a dataset, named once"
            self.irregular(Topic.CREATION, task.id, event, expected, f"{party} again")
            return
        insort(task.parties, party)

    def _use_named(self, event: Event) -> None:
        task, party = self._task(event), event.who("party")
        if task is None or not self._is_part(task, event, "uses", len(task.uses) < task.use_count):
            return
        hashes = event.hex("dataset"), event.hex("algorithm"), event.hex("grant")
        task.uses.append(NamedUse(party, *hashes, event.number("epsilon")))
        if party not in task.parties:
            insort(task.parties, party)

    def _is_part(self, task: TaskHistory, event: Event, what: str, missing: bool) -> bool:
        """Whether ``event`` names what is still missing of the task, where it was created."""
        if missing and event.transaction == task.created.transaction:
            return True
        expected = f"its {what} named where the task is created, as many as it says there"
        self.irregular(Topic.CREATION, task.id, event, expected, f"one more of block {event.block.number}")
        return False

    def _faults(self, task: TaskHistory) -> list[tuple[str, str]]:
        """What ``TaskLedger.create`` would have refused, or done otherwise; the order is its."""
        if NOTHING in (task.spec, task.purpose) or not task.protections:
            return [("a specification, a purpose and a protection", "an empty one")]
        parties, grants = task.parties, [use.grant for use in task.uses]
        if not task.whole:
            named = f"{len(parties)} parties and {len(grants)} uses"
            return [(f"{task.party_count} parties and {task.use_count} uses of theirs named", named)]
        if not 1 <= len(parties) <= MAX_PARTIES or NOBODY in parties:
            return [(f"1 to {MAX_PARTIES} parties", ", ".join(parties) or "nobody")]
        if not 1 <= len(grants) <= MAX_USES or len(set(grants)) != len(grants):
            return [(f"1 to {MAX_USES} uses, each of a grant of its own", ", ".join(grants) or "none")]
        standing = self._standing(task)
        at_creation = task.created.number("approved")
        if at_creation == standing:
            return []
        return [(f"approved at its creation by mask {standing:#x}", f"mask {at_creation:#x}")]

    def _standing(self, task: TaskHistory) -> int:
        """The mask of the parties none of whose grants asked for approval where the task was created."""
        registry, created, mask = self.here(task.created).grants, task.created.position, task.everybody
        for use in task.uses:
            line = self.world.grants.get(Key(registry, use.grant))
            left = line.left_before(created) if line else None
            if left is None or not left.stands:
                mask &= ~(1 << task.parties.index(use.party))
        return mask

    # from consent to run

    def _approved(self, event: Event) -> None:
        task, party = self._acting(event)
        if task is None or not self._once(task, event, party, task.approvals):
            return
        bit = task.mask({party: event})
        if task.approved & bit:
            expected = "an approval where a grant asks for one"
            self.irregular(Topic.ACTORS, task.id, event, expected, "the party had agreed by its grants")
        if self._advance(task, event):
            task.approvals[party] = event
            task.approved |= bit

    def _authorized(self, event: Event) -> None:
        if (task := self._task(event)) is None or not self._follows(task, event):
            return
        if task.approved != task.everybody:
            expected = f"authorized when all {task.party_count} parties' grants stand or they approved"
            self.irregular(Topic.ACTORS, task.id, event, expected, f"approved mask {task.approved:#x}")

    def _started(self, event: Event) -> None:
        consumed = self._grants.claim(self.here(event).grants, event.transaction, event.hex("task"))
        task, party = self._acting(event, active=False)  # whether all parties are is a check of its own
        if task is None or not self._once(task, event, party, task.starts):
            return
        if event.hex("inputCommitment") == NOTHING:
            self.irregular(Topic.ACTORS, task.id, event, "a start that commits to its input", "to nothing")
        if self._advance(task, event):
            task.starts[party] = Start(task.id, party, event, consumed)

    def _running(self, event: Event) -> None:
        if (task := self._task(event)) is None or not self._follows(task, event):
            return
        if task.mask(task.starts) != task.everybody:
            expected = f"running when all {task.party_count} parties have started"
            self.irregular(Topic.ACTORS, task.id, event, expected, f"{len(task.starts)} have started")

    def _progress(self, event: Event) -> None:
        task, party = self._acting(event)
        if task is None or self._step(task, event) is None:
            return
        if event.number("permille") > MAX_PERMILLE:
            observed = str(event.number("permille"))
            self.irregular(Topic.ACTORS, task.id, event, f"at most {MAX_PERMILLE} thousandths", observed)
        task.progress[party] = event

    # the end

    def _finished(self, event: Event) -> None:
        task, party = self._acting(event)
        if task is None or not self._once(task, event, party, task.finishes):
            return
        empty = event.hex("result")[:MARK_DIGITS] in (NO_MARK, CONFLICT)
        if empty or event.hex("receipt") == NOTHING:
            self.irregular(Topic.ACTORS, task.id, event, "a receipt and a result", "one that says nothing")
        if self._advance(task, event):
            task.finishes[party] = event

    def _completed(self, event: Event) -> None:
        if (task := self._task(event)) is not None:  # by whom and with what is a check of its own
            self._follows(task, event)

    def _disputed(self, event: Event) -> None:
        if (task := self._task(event)) is None or not self._follows(task, event):
            return
        if task.mask(task.finishes) != task.everybody or task.agreed() != CONFLICT:
            expected = f"disputed when {task.party_count} parties report different results"
            observed = f"{len(task.finishes)} reported {len(task.results())} results"
            self.irregular(Topic.ACTORS, task.id, event, expected, observed)

    def _refused(self, event: Event) -> None:
        task, _ = self._acting(event)
        if task is not None:
            self._judge_reason(task, event)
            self._advance(task, event)

    def _failed(self, event: Event) -> None:
        task, party = self._acting(event)
        if task is None:
            return
        if party in task.finishes:
            expected = "a failure reported by a party that has not finished"
            self.irregular(Topic.ACTORS, task.id, event, expected, f"{party} had finished")
        self._judge_reason(task, event)
        blame, blamed = Blame(event.number("blame")), event.who("blamed")
        others = set(task.parties) - {party}
        if not (blamed in others if blame is Blame.PARTY else blamed == NOBODY):
            expected = "another party blamed by name, or nobody named"
            self.irregular(Topic.ACTORS, task.id, event, expected, f"{blame.name} {blamed}")
        self._advance(task, event)

    def _judge_reason(self, task: TaskHistory, event: Event) -> None:
        if event.number("reason") == 0:
            self.irregular(Topic.ACTORS, task.id, event, "a reason", "none")

    def _cancelled(self, event: Event) -> None:
        if (task := self._task(event)) is None:
            return
        by, state = event.who("by"), at_time(task.state, task.deadline, event.time)
        if by != task.requester and by not in task.parties:
            self.irregular(Topic.ACTORS, task.id, event, "cancelled by its requester or a party", by)
        elif by != task.requester and state in (TaskState.CREATED, TaskState.AUTHORIZED):
            self.irregular(Topic.LIFECYCLE, task.id, event, "a party stops what is running", state.name)
        self._advance(task, event)

    def _acknowledged(self, event: Event) -> None:
        if (task := self._task(event)) is None:
            return
        completed = task.end.hex("result") if task.end and task.state is TaskState.COMPLETED else None
        if completed is None:
            self._note_acknowledgement(task, event, "a completed task", task.state.name)
        elif task.acknowledged is not None:
            self._note_acknowledgement(task, event, "one acknowledgement", "a second one")
        else:
            if event.who("requester") != task.requester:
                self._note_acknowledgement(task, event, f"by {task.requester}", event.who("requester"))
            if event.hex("result") != completed:
                self._note_acknowledgement(task, event, f"of {completed}", event.hex("result"))
            task.acknowledged = event
            task.steps.append(Step(event, task.state, task.state))

    def _note_acknowledgement(self, task: TaskHistory, event: Event, expected: str, observed: str) -> None:
        self.irregular(Topic.ACKNOWLEDGEMENTS, task.id, event, expected, observed)

    def _closed(self, event: Event) -> None:
        by, thing = event.who("by"), f"ledger {event.contract}"
        if by != self.governance.address or not self.governance.by_vote(event):
            expected = "closed in a transaction that executes a proposal"
            self.irregular(Topic.GENERATIONS, thing, event, expected, f"closed by {by}")
        if event.contract in self.world.closed:
            self.irregular(Topic.GENERATIONS, thing, event, "a ledger is closed once", "closed again")
            return
        self.world.closed[event.contract] = event

    # what all need

    def _task(self, event: Event) -> TaskHistory | None:
        """The task of ``event``, if the ledger that emitted it created one of that id."""
        key: Hex32 = event.hex("task")
        task = self.world.tasks.get(key)
        if task is None or task.created.contract != event.contract:
            self.irregular(Topic.LIFECYCLE, key, event, "a task that was created", "never created")
            return None
        return task

    def _acting(self, event: Event, *, active: bool = True) -> tuple[TaskHistory | None, Address]:
        """The task of an act of a party, and the party; notes an actor that is none, or no active node."""
        task, party = self._task(event), event.who("party")
        if task is None:
            return None, party
        if party not in task.parties:
            self.irregular(Topic.ACTORS, task.id, event, "an act of one of its parties", party)
            return None, party
        if active and not self.is_active(event, party):
            self.irregular(Topic.ACTORS, task.id, event, "an act of an active node", party)
        return task, party

    def _once(self, task: TaskHistory, event: Event, party: Address, done: Container[Address]) -> bool:
        if party not in done:
            return True
        expected = f"one {event.name} of {party}"
        self.irregular(Topic.ACTORS, task.id, event, expected, "a second one")
        return False

    def _advance(self, task: TaskHistory, event: Event) -> bool:
        """Take the step if the table has it at this block's time."""
        step = self._step(task, event)
        if step is None:
            return False
        task.state = step.after
        task.steps.append(step)
        if step.after in _ENDS:
            task.end = event
        return True

    def _step(self, task: TaskHistory, event: Event) -> Step | None:
        """The step that the table has for ``event`` at this block's time."""
        before = at_time(task.state, task.deadline, event.time)
        try:
            return Step(event, before, advance(before, _EVENTS[event.name]))
        except IllegalTransition as problem:
            self.irregular(Topic.LIFECYCLE, task.id, event, "a step in the lifecycle table", str(problem))
            return None

    def _follows(self, task: TaskHistory, event: Event) -> bool:
        """Take a step that the ledger takes by itself, in the transaction of the act that leads to it."""
        cause = task.steps[-1].event if task.steps else task.created
        if cause.transaction != event.transaction:
            expected = f"{event.name} in the transaction of {cause.name}, {cause.transaction}"
            self.irregular(Topic.ACTORS, task.id, event, expected, event.transaction)
        return self._advance(task, event)
