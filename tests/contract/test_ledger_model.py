"""The chain against a small model: whatever is done in whatever order, both say the same.

The model knows the lifecycle table, the parties' marks and the uses left; nothing of how the contracts work.

Invariants held after every step:

1. The ledger's state, marks and result are the model's.
2. A grant's uses left are what was granted less the starts that succeeded.
3. What is refused changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from chain_world import World, build, h
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sealtrace.contracts import calls
from sealtrace.contracts.calls import Call
from sealtrace.contracts.client import CONFLICT
from sealtrace.contracts.errors import Reverted
from sealtrace.protocol.identifiers import Hex32
from sealtrace.protocol.lifecycle import OPEN_STATES, TaskState, at_time
from sealtrace.protocol.outcome import Failure
from sealtrace.protocol.records import TaskTerms

PARTIES = st.integers(0, 2)
USES = 2


@dataclass
class Model:
    """What a task should be."""

    terms: TaskTerms
    approved: set[int]
    state: TaskState
    started: set[int] = field(default_factory=set)
    finished: dict[int, Hex32] = field(default_factory=dict)

    def agreed(self) -> str:
        said = {result[:34] for result in self.finished.values()}
        return "0x" + "00" * 16 if not said else said.pop() if len(said) == 1 else CONFLICT


_worlds: list[World] = []


class Ledger(RuleBasedStateMachine):
    """Three owners with two uses each, one of them asking for approval; tasks come and go."""

    def __init__(self) -> None:
        super().__init__()
        if not _worlds:
            _worlds.append(build())
        self.world = _worlds[0]
        self.snapshot = self.world.engine.take_snapshot()
        self.tasks: dict[Hex32, Model] = {}
        self.left = [USES] * 3
        self.revoked = [False] * 3

    @initialize()
    def grant(self) -> None:
        ranks = self.world.ranks
        self.guarded = 1
        self.grants = [
            self.world.issue(name, uses=USES, approval_required=i == self.guarded)
            for i, name in enumerate(ranks)
        ]

    @rule(seconds=st.integers(1, 1200))
    def time_passes(self, seconds: int) -> None:
        self.world.travel(self.world.now + seconds)
        self.world.engine.mine_blocks()

    @rule()
    def create(self) -> None:
        terms = self.world.terms(dict(zip(self.world.ranks, self.grants, strict=True)))
        task = self.world.create(terms)
        standing = {i for i in range(3) if self.left[i] and not self.revoked[i] and i != self.guarded}
        self.tasks[task] = Model(terms, standing, TaskState.CREATED)

    @precondition(lambda self: self.tasks)
    @rule(data=st.data(), party=PARTIES)
    def approve(self, data: st.DataObject, party: int) -> None:
        _task, model = self.pick(data)
        allowed = self.state(model) is TaskState.CREATED and party not in model.approved
        if self.happens(calls.approve(model.terms), party, allowed):
            model.approved.add(party)
            if len(model.approved) == 3:
                model.state = TaskState.AUTHORIZED

    @precondition(lambda self: self.tasks)
    @rule(data=st.data(), party=PARTIES)
    def start(self, data: st.DataObject, party: int) -> None:
        _task, model = self.pick(data)
        allowed = (
            self.state(model) is TaskState.AUTHORIZED
            and party not in model.started
            and self.left[party] > 0
            and not self.revoked[party]
        )
        if self.happens(calls.start(model.terms, h("input")), party, allowed):
            model.started.add(party)
            self.left[party] -= 1
            if len(model.started) == 3:
                model.state = TaskState.RUNNING

    @precondition(lambda self: self.tasks)
    @rule(data=st.data(), party=PARTIES, honest=st.booleans())
    def finish(self, data: st.DataObject, party: int, honest: bool) -> None:
        _task, model = self.pick(data)
        result = h("result") if honest else h(f"lie {party}")
        allowed = self.state(model) is TaskState.RUNNING and party not in model.finished
        if self.happens(calls.finish(model.terms, h("receipt"), result), party, allowed):
            model.finished[party] = result
            if len(model.finished) == 3:
                agreed = model.agreed() != CONFLICT
                model.state = TaskState.COMPLETED if agreed else TaskState.DISPUTED

    @precondition(lambda self: self.tasks)
    @rule(data=st.data(), party=PARTIES, act=st.sampled_from(["refuse", "fail", "stop", "cancel"]))
    def end(self, data: st.DataObject, party: int, act: str) -> None:
        _task, model = self.pick(data)
        now = self.state(model)
        waiting = now in (TaskState.CREATED, TaskState.AUTHORIZED)
        running = now is TaskState.RUNNING
        call, allowed, after = {
            "refuse": (calls.refuse(model.terms, 40), waiting, TaskState.REFUSED),
            "fail": (
                calls.fail(model.terms, Failure.TIMED_OUT),
                running and party not in model.finished,
                TaskState.FAILED,
            ),
            "stop": (calls.stop(model.terms), running, TaskState.CANCELLED),
            "cancel": (calls.cancel(model.terms), now in OPEN_STATES, TaskState.CANCELLED),
        }[act]
        if self.happens(call, None if act == "cancel" else party, allowed):
            model.state = after

    @rule(party=PARTIES)
    def revoke(self, party: int) -> None:
        if self.happens(calls.revoke_grant(self.grants[party]), party, not self.revoked[party]):
            self.revoked[party] = True

    @invariant()
    def the_ledger_is_as_the_model_says(self) -> None:
        for task, model in self.tasks.items():
            found = self.world.task(task)
            assert found is not None
            assert found.state is self.state(model, past=True)
            assert found.approved == _mask(model.approved)
            assert found.started == _mask(model.started)
            assert found.finished == _mask(set(model.finished))
            assert found.agreed == model.agreed()

    @invariant()
    def uses_are_spent_by_starts_alone(self) -> None:
        if hasattr(self, "grants"):
            assert [self.world.uses_left(grant) for grant in self.grants] == self.left

    def teardown(self) -> None:
        self.world.engine.revert_to_snapshot(self.snapshot)

    def pick(self, data: st.DataObject) -> tuple[Hex32, Model]:
        task = data.draw(st.sampled_from(sorted(self.tasks)))
        return task, self.tasks[task]

    def state(self, model: Model, *, past: bool = False) -> TaskState:
        """At the next block's time, or at the last one's."""
        now = self.world.now if past else self.world.now + 1
        return at_time(model.state, model.terms.deadline, now)  # type: ignore[arg-type]

    def happens(self, call: Call, party: int | None, allowed: bool) -> bool:
        """Do it; it succeeds if and only if the model allows it."""
        outcome = self.world.attempt(call, "lab" if party is None else self.world.ranks[party])
        assert isinstance(outcome, Reverted) is not allowed, f"{call.function}: {outcome}"
        return allowed


def _mask(parties: set[int]) -> int:
    return sum(1 << party for party in parties)


TestLedger = Ledger.TestCase
TestLedger.settings = settings(
    max_examples=15, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
