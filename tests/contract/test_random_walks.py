"""The contracts on revm, walked at random, against the reference (:mod:`reference`, :mod:`random_walk`).

Every step must end as the reference says: done, or refused for one of its reasons. What holds besides, after
every step, is looked up in what the chain shows, its events and records, whatever the reference thinks:

 1. The uses left of a grant never increase, and are what was granted less what the starts have spent.
 2. The epsilon left of a grant is never below zero, never increases, and falls by what starts spend alone.
 3. No start spends a grant outside its window, after its revocation, or with no use left.
 4. No task runs, is completed or disputed without a start by each of its parties, and each starts once.
 5. No task is completed unless every party reported the same result; none is disputed unless two differ.
 6. A task that ended never moves again; only its acknowledgement may be added, once, where it completed.
 7. What a party did stays done: no approval, start or report is ever taken back.
 8. When a party starts, every party of the task is an active node.
 9. A node's checkpoint never shrinks, and its size rises with every anchor.
10. What is final stays: a retired node, a withdrawn dataset, a revoked or rejected algorithm, a revoked
    grant.
11. Keys that a node had stay on record: each rotation counts one up and keeps what it replaced.
12. What is executed was voted for by more than the quorum of those who are members, and each voted once.
13. Nothing a non-member does proposes or votes; whoever is refused has changed and told nothing.
14. Members and rules change only where a proposal is executed.
15. An office moves only where a proposal is executed, its holder lays it down, or one to whom its holder
    offered it accepts.
16. A node is admitted or retired only where a proposal is executed, or by a registrar while there is a
    single member.
17. What the regulator or a vote suspended, no registrar who is not also regulator reinstates.
18. An id that the chain tells is the one computed without it: of tasks, grants and datasets.
19. An owner's serial never falls, and rises with every grant.
20. A closed ledger stays closed and takes no task.

And after every third walk, of the auditor, who knows neither the contracts' code nor the reference:

21. Its own machine comes, from the events alone, to exactly what the contracts store, and finds no event that
    the rules do not allow.
22. What it reads in storage slots is what the contracts' own functions answer.

Not failures: a proposal that passed and cannot be done, a use that is spent by a task which then fails, and
an expired task that stays on record as it was.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
from chain_world import h
from hypothesis import HealthCheck, Phase, note, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from random_walk import NEVER_ASKED, TABLES, Start, Step, Tally, TaskSeen, Walk, begin
from replayed import differences, events_of, replayed_from, stored_twice

from sealtrace.auditor.replay import replay
from sealtrace.contracts.events import ChainEvent
from sealtrace.contracts.terms import dataset_id
from sealtrace.protocol.identifiers import Address, Hex32
from sealtrace.protocol.lifecycle import OPEN_STATES, TRANSITIONS, TaskEvent, TaskState
from sealtrace.protocol.records import AlgorithmStatus, DatasetStatus, NodeStatus

WALKS, STEPS = 270, 200
AT_LEAST, TIMES_EACH = 50_000, 5
EVERY, REPLAYED = 3, 10_000
"""After how many walks the auditor replays one, and how many events come of it at least."""
REPORT = Path(__file__).resolve().parent.parent.parent / "build" / "random-walks.txt"
SEED = os.environ.get("SEALTRACE_WALKS", "0")
"""All that is drawn follows from it: another gives other walks."""
WAYS = {
    "governs": 5,
    "supervises": 5,
    "publishes": 3,
    "offers": 7,
    "grants": 3,
    "replays": 1,
    "anchors": 1,
    "creates": 5,
    "drives": 7,
    "relays": 1,
    "meddles": 7,
}
"""What a step may be about, and how often: names of methods of :class:`Walk`."""
FINAL: dict[str, tuple[int, ...]] = {
    "node": (NodeStatus.RETIRED,),
    "dataset": (DatasetStatus.WITHDRAWN,),
    "algorithm": (AlgorithmStatus.REVOKED, AlgorithmStatus.REJECTED),
}
TALLY = Tally()


@cache
def starts() -> tuple[Start, Start]:
    """A consortium of one, and one of three."""
    return begin(), begin(("alice", "bob"))


class Told:
    """What the chain has told since the walk began, and no more than that."""

    def __init__(self) -> None:
        self.parties: dict[Hex32, set[Address]] = defaultdict(set)
        self.started: dict[Hex32, list[Address]] = defaultdict(list)
        self.results: dict[Hex32, dict[Address, Hex32]] = defaultdict(dict)
        self.issued: dict[Hex32, ChainEvent] = {}
        self.spent: dict[Hex32, int] = defaultdict(int)
        self.epsilon: dict[Hex32, int] = {}
        self.revoked: set[Hex32] = set()
        self.active: dict[Address, bool] = {}
        self.votes: dict[Hex32, dict[Address, bool]] = defaultdict(dict)
        self.offered: dict[tuple[str, Address], Address] = {}
        self.closed = False

    def hear(self, step: Step) -> None:
        for event in step.events:
            getattr(self, f"_{event.name}", _nothing)(event.args)

    def _TaskUseNamed(self, e: Any) -> None:  # noqa: N802
        self.parties[e["task"]].add(e["party"])

    _TaskPartyNamed = _TaskUseNamed

    def _TaskStarted(self, e: Any) -> None:  # noqa: N802
        self.started[e["task"]].append(e["party"])

    def _TaskFinished(self, e: Any) -> None:  # noqa: N802
        self.results[e["task"]][e["party"]] = e["result"]

    def _GrantConsumed(self, e: Any) -> None:  # noqa: N802
        self.spent[e["grant"]] += 1
        self.epsilon[e["grant"]] = e["epsilonLeft"]

    def _GrantRevoked(self, e: Any) -> None:  # noqa: N802
        self.revoked.add(e["grant"])

    def _NodeAdmitted(self, e: Any) -> None:  # noqa: N802
        self.active[e["node"]] = True

    def _NodeReinstated(self, e: Any) -> None:  # noqa: N802
        self.active[e["node"]] = True

    def _NodeSuspended(self, e: Any) -> None:  # noqa: N802
        self.active[e["node"]] = False

    def _NodeRetired(self, e: Any) -> None:  # noqa: N802
        self.active[e["node"]] = False

    def _Voted(self, e: Any) -> None:  # noqa: N802
        assert e["member"] not in self.votes[e["proposal"]], "a member voted twice"
        self.votes[e["proposal"]][e["member"]] = e["yes"]

    def _OfficeOffered(self, e: Any) -> None:  # noqa: N802
        self.offered[e["office"], e["holder"]] = e["to"]

    def _LedgerClosed(self, e: Any) -> None:  # noqa: N802
        self.closed = True


def _nothing(_: Any) -> None:
    """An event that no invariant keeps."""


class RandomWalk(RuleBasedStateMachine):
    """Walk ``number`` of those that ``seed`` gives: the reference judges each step, the invariants watch.

    Hypothesis takes the steps, looks up the invariants after each, and tells how a walk went that failed; it
    draws nothing. What it draws depends on the constants of whatever modules are loaded, so that a rare state
    would come and go with changes elsewhere.
    """

    walk: Walk

    def __init__(self, seed: str, number: int) -> None:
        super().__init__()
        self.number = number
        self.name, self.luck = f"seed {seed}, walk {number}", Random(f"seed {seed}, walk {number}")

    @initialize()
    def founded(self) -> None:
        note(self.name)
        self.walk = Walk(self.luck.choices(starts(), (2, 1))[0], TALLY, self.luck)
        self.leanings = [weight * self.luck.choice((0, 1, 1, 2)) for weight in WAYS.values()]
        self.told = Told()
        self.told.active.update({address: True for kind, address in self.walk.seen if kind == "node"})
        self.issued_before = dict(self.walk.reference.serials)

    @property
    def step(self) -> Step | None:
        return self.walk.last if hasattr(self, "walk") else None

    @rule()
    def goes_on(self) -> None:
        """One step; every fourth is drawn without regard to what this walk leans to."""
        self.walk.last = None
        self.rules = self.walk.reference.rules
        self.members = set(self.walk.reference.members)
        weights = self.leanings if any(self.leanings) and self.luck.random() < 0.75 else list(WAYS.values())
        (way,) = self.luck.choices(list(WAYS), weights)
        getattr(self.walk, way)()
        self.offered = dict(self.told.offered)
        if self.step is not None:
            self.told.hear(self.step)

    def teardown(self) -> None:
        if hasattr(self, "walk"):
            self.walk.finish()
            if self.number % EVERY == 0:
                self.i21_and_i22_the_auditor_comes_to_what_is_stored()

    def i21_and_i22_the_auditor_comes_to_what_is_stored(self) -> None:
        world = self.walk.world
        replayed = replayed_from(world)
        told, kept = stored_twice(world, replayed)
        assert told == kept
        assert not replayed.irregular
        assert differences(world, replayed, told) == ()
        TALLY.replayed += replayed.events

    # what holds after every step

    def changes(self, kind: str) -> list[tuple[Any, Any, Any]]:
        """Of each record of a kind that the last step touched: id, before (if it was seen), after."""
        step = self.step
        if step is None:
            return []
        return [(key[1], step.before[key], step.after[key]) for key in step.after if key[0] == kind]

    def events(self, name: str) -> list[Any]:
        return [event.args for event in self.step.events if event.name == name] if self.step else []

    @property
    def executed(self) -> bool:
        return bool(self.events("Executed"))

    @invariant()
    def i01_uses_never_increase(self) -> None:
        for id, before, after in self.changes("grant"):
            assert before is None or not before.uses or after.uses_left <= before.uses_left
            assert after.uses_left == after.uses - self.told.spent[id]

    @invariant()
    def i02_epsilon_is_never_given_back(self) -> None:
        for id, before, after in self.changes("grant"):
            assert before is None or not before.uses or after.epsilon_left <= before.epsilon_left
            assert 0 <= after.epsilon_left == self.told.epsilon.get(id, after.epsilon)

    @invariant()
    def i03_no_start_outside_a_grant(self) -> None:
        for issued in self.events("GrantIssued"):
            self.told.issued[issued["grant"]] = issued
        for spent in self.events("GrantConsumed"):
            issued = self.told.issued[spent["grant"]]
            assert self.step is not None
            assert issued["notBefore"] <= self.step.at < issued["expiresAt"]
            assert spent["grant"] not in self.told.revoked
            assert self.told.spent[spent["grant"]] <= issued["uses"]

    @invariant()
    def i04_nothing_runs_before_all_have_started(self) -> None:
        for id, _, after in self.changes("task"):
            started = self.told.started[id]
            assert len(set(started)) == len(started)
            if after.status in (TaskState.RUNNING, TaskState.COMPLETED, TaskState.DISPUTED):
                assert set(started) == self.told.parties[id]

    @invariant()
    def i05_all_sign_the_outcome(self) -> None:
        for id, _, after in self.changes("task"):
            results = self.told.results[id]
            if after.status in (TaskState.COMPLETED, TaskState.DISPUTED):
                assert set(results) == self.told.parties[id]
                agreed = len(set(results.values())) == 1
                assert agreed is (after.status == TaskState.COMPLETED)

    @invariant()
    def i06_an_ended_task_never_moves(self) -> None:
        open_states = {*map(int, OPEN_STATES), int(TaskState.NONE)}
        for _, before, after in self.changes("task"):
            if before is not None and before.status not in open_states:
                assert after._replace(acknowledged=False) == before._replace(acknowledged=False)
                assert after.acknowledged or not before.acknowledged
            assert not after.acknowledged or after.status == TaskState.COMPLETED

    @invariant()
    def i07_what_a_party_did_stays_done(self) -> None:
        for _, before, after in self.changes("task"):
            before = before or TaskSeen(0, False, 0, 0, 0, 0)
            for mark in ("approved", "started", "finished"):
                assert getattr(before, mark) & ~getattr(after, mark) == 0
            assert after.finished & ~after.started == 0
            assert after.started & ~after.approved == 0

    @invariant()
    def i08_parties_are_active_when_one_starts(self) -> None:
        for started in self.events("TaskStarted"):
            assert all(self.told.active.get(party) for party in self.told.parties[started["task"]])

    @invariant()
    def i09_a_checkpoint_never_shrinks(self) -> None:
        for _, before, after in self.changes("checkpoint"):
            anchored = self.events("CheckpointAnchored")
            size = before[0] if before else 0
            assert after[0] > size if anchored else after[0] >= size

    @invariant()
    def i10_what_is_final_stays(self) -> None:
        for kind, final in FINAL.items():
            for _, before, after in self.changes(kind):
                assert before is None or before.status not in final or after.status == before.status
        for _, before, after in self.changes("grant"):
            assert before is None or not before.revoked or after.revoked

    @invariant()
    def i11_former_keys_stay(self) -> None:
        for id, before, after in self.changes("node"):
            if before is None or not before.status:
                continue
            rotated = any(event["node"] == id for event in self.events("NodeKeysRotated"))
            assert after.version == before.version + rotated
            if rotated:
                assert self.step is not None
                assert after.former == (self.step.at, before.tls, before.key)
            else:
                assert after.former == before.former
                assert (after.tls, after.key) == (before.tls, before.key)

    @invariant()
    def i12_what_is_executed_was_voted_for(self) -> None:
        for done in self.events("Executed"):
            votes = self.told.votes[done["proposal"]]
            yes = {member for member, said in votes.items() if said}
            assert yes <= self.members
            assert len(yes) * 100 > self.rules.quorum_percent * len(self.members)

    @invariant()
    def i13_whoever_is_no_member_decides_nothing(self) -> None:
        said = [*self.events("Voted"), *self.events("Proposed")]
        assert all(each.get("member", each.get("proposer")) in self.members for each in said)
        step = self.step
        if step is not None and step.refused:
            assert not step.events
            assert all(before is None or before == step.after[key] for key, before in step.before.items())

    @invariant()
    def i14_members_and_rules_change_by_vote(self) -> None:
        for _, before, after in self.changes("consortium"):
            assert before == after or self.executed

    @invariant()
    def i15_offices_move_by_vote_or_hand_over(self) -> None:
        for office, before, after in self.changes("office"):
            if before is None or before == after or self.executed:
                continue
            assert self.step is not None
            left, come, by = set(before) - set(after), set(after) - set(before), self.step.by
            if self.step.call.function == "renounceRole":
                assert (left, come) == ({by}, set())
            else:
                assert come <= {by}
                assert all(self.offered.get((office.id, holder)) == by for holder in left)

    @invariant()
    def i16_nodes_are_admitted_and_retired_by_vote(self) -> None:
        if self.events("NodeAdmitted") or self.events("NodeRetired"):
            assert self.executed or len(self.members) == 1

    @invariant()
    def i17_who_prevails_is_not_overruled(self) -> None:
        for kind in ("node", "algorithm"):
            for _, before, after in self.changes(kind):
                if before is not None and before.held and after.status == NodeStatus.ACTIVE:
                    assert self.step is not None
                    assert self.executed or self.walk.reference.prevails(self.step.by)

    @invariant()
    def i18_ids_are_computed_without_the_chain(self) -> None:
        step = self.step
        for told in self.events("TaskCreated"):
            assert told["task"] in self.walk.terms
        for told in self.events("GrantIssued"):
            assert told["grant"] in self.walk.reference.grants
        for told in self.events("DatasetRegistered"):
            assert told["dataset"] == dataset_id(told["owner"], told["commitment"])
        assert step is None or len(self.events("TaskCreated")) <= 1

    @invariant()
    def i19_a_serial_never_falls(self) -> None:
        for owner, before, after in self.changes("serial"):
            passed = [*self.events("GrantIssued"), *self.events("SerialPassed")]
            risen = sum(1 for event in passed if event["owner"] == owner)
            assert after == (self.issued_before.get(owner, 0) if before is None else before) + risen

    @invariant()
    def i20_a_closed_ledger_takes_no_task(self) -> None:
        if self.told.closed:
            closed_now = bool(self.events("LedgerClosed"))
            assert closed_now or not self.events("TaskCreated")
        for _, before, after in self.changes("closed"):
            assert after or not before


def table() -> str:
    """What was tried: by state, each act with a plus where it was done and a minus where it was refused."""
    rows = [
        f"{TALLY.steps} random steps; of these {TALLY.errors['done']} were done",
        f"{TALLY.replayed} events replayed by the auditor's machine",
    ]
    for kind, (states, acts) in TABLES.items():
        width = max(map(len, acts))
        rows += ["", f"{kind:{width}} " + " ".join(f"{state:>10}" for state in states)]
        rows.append(f"{'reached':{width}} " + " ".join(f"{_reached(kind, s):>10}" for s in states))
        for act, allowed in acts.items():
            counts = (
                f"{'+' if state in allowed else '-'}{TALLY.acts[kind, state, act, state in allowed]}"
                for state in states
            )
            rows.append(f"{act:{width}} " + " ".join(f"{count:>10}" for count in counts))
    rows += [
        "",
        "tried least:",
        *(f"  {what:44} {times:>5}" for what, times in tried().most_common()[:-11:-1]),
    ]
    rows += ["", "refused with:"]
    refusals = sorted((name, count) for name, count in TALLY.errors.items() if name != "done")
    rows += [f"  {name:36} {count:>7}" for name, count in refusals]
    return "\n".join([*rows, ""])


def _reached(kind: str, state: str) -> int:
    return TALLY.reached[kind, state] or sum(
        count for (k, s, _, _), count in TALLY.acts.items() if (k, s) == (kind, state)
    )


def tried() -> Counter[str]:
    """How often each step of a table was taken, and each forbidden one tried for the state's sake alone."""
    return Counter(
        {
            f"{kind}: {act} when {state}": TALLY.acts[kind, state, act, state in allowed]
            for kind, (states, acts) in TABLES.items()
            for act, allowed in acts.items()
            for state in states
            if (kind, state, act) not in NEVER_ASKED
        }
    )


@pytest.mark.timeout(900)
def test_whatever_is_done_in_whatever_order_the_contracts_are_as_the_reference_says(
    capsys: pytest.CaptureFixture[str],
) -> None:
    one = settings(
        max_examples=1,
        stateful_step_count=1 + STEPS,  # the first is the founding
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate],  # a walk follows from its number, which is not made simpler by being smaller
        suppress_health_check=list(HealthCheck),
    )
    for number in range(WALKS):
        run_state_machine_as_test(partial(RandomWalk, SEED, number), settings=one)
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(table())
    with capsys.disabled():
        print(f"\n{table()}")
    assert TALLY.steps >= AT_LEAST
    assert TALLY.replayed >= REPLAYED
    seldom = {what: times for what, times in tried().items() if times < TIMES_EACH}
    assert not seldom, f"of {len(tried())} steps of the tables these were tried less than {TIMES_EACH} times"


@pytest.mark.parametrize(
    "name", ["GrantConsumed", "NodeAdmitted", "TaskStarted", "Voted", "DatasetWithdrawn"]
)
def test_a_replay_that_lacks_one_event_does_not_come_to_what_is_stored(name: str) -> None:
    start = starts()[1]
    walk = Walk(start, Tally(), Random("lacking"))
    for way in walk.luck.choices(list(WAYS), list(WAYS.values()), k=200):
        getattr(walk, way)()
    told, _ = stored_twice(start.world, replayed_from(start.world))
    events = events_of(start.world)
    events.remove(next(each for each in events[::-1] if each.name == name))
    replayed = replay(events)
    assert replayed.irregular or differences(start.world, replayed, told)


def test_the_tables_of_the_walk_are_the_protocols() -> None:
    events = {
        "create": TaskEvent.CREATED,
        "approve": TaskEvent.APPROVED,
        "start": TaskEvent.STARTED,
        "refuse": TaskEvent.REFUSED,
        "finish": TaskEvent.FINISHED,
        "fail": TaskEvent.FAILED,
        "cancel": TaskEvent.CANCELLED,
    }
    acts = TABLES["task"][1]
    for act, event in events.items():
        assert acts[act] == {state.name for state, steps in TRANSITIONS.items() if event in steps}


def test_a_walk_that_begins_anew_finds_the_world_as_it_was() -> None:
    start = starts()[0]
    first = Walk(start, Tally(), Random("any"))
    for _ in range(30):
        first.grants()
    again = Walk(start, Tally(), Random("any"))
    assert again.found(("serial", again.of("alice"))) == 0
    assert h("anything") not in again.reference.tasks
    again.finish()
