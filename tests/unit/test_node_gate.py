"""The gate on a small world: what runs, what is refused, and what a crash leaves behind."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest
from node_world import ALGORITHM, GRANT, KEY, LAB, ME, NOW, OTHER, Fuse, Killed, World

from sealtrace.algorithms.kept import PartHeader, encode_part
from sealtrace.algorithms.shares import Computation
from sealtrace.node.errors import ChainUnavailable, DiskFull, SchedulerUnavailable
from sealtrace.node.judging import why_mismatched
from sealtrace.node.ports import Introduction, Reverted, RunFailed, Undeliverable
from sealtrace.protocol.canonical import digest
from sealtrace.protocol.evidence import Kind
from sealtrace.protocol.lifecycle import TaskState
from sealtrace.protocol.outcome import Blame, Denial, Failure
from sealtrace.protocol.receipt import Receipt
from sealtrace.protocol.records import AlgorithmStatus, DataClass, DatasetStatus, NodeStatus, Protection, Role


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def refused(world):
    world.deliver_until_over()
    assert world.runs == []
    assert world.ledger.started == 0
    return Denial(world.last(Kind.TASK_REFUSED)["denial"])


def failed(world):
    world.deliver_until_over()
    assert world.ledger.state is TaskState.FAILED
    assert not (world.folder / "jobs" / world.task[2:]).exists()
    body = world.last(Kind.TASK_FAILED)
    return Failure(body["reason"]), Blame(body["blame"])


# --- a life


def test_a_task_runs_is_delivered_finished_and_wiped(world):
    world.deliver_until_over()
    assert world.ledger.acts == ["start", "finish"]
    assert world.ledger.state is TaskState.COMPLETED
    assert world.scheduler.outputs == {world.task: b"sealed share"}
    assert list(world.kinds()) == ["task.judged", "task.started", "task.ran", "task.finished", "task.wiped"]
    assert not (world.folder / "jobs" / world.task[2:]).exists()


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        ([10, 40], []),
        ([70, 5], [(0, 70)]),
        ([10, 70, 5, 5, 60], [(1, 80), (4, 150)]),
        ([70, 100], [(0, 70), (1, 170)]),
        ([200], [(0, 200)]),
    ],
)
def test_a_long_run_tells_which_step_has_begun_and_at_most_once_a_minute(world, steps, told):
    began = []
    world.engine.steps, world.engine.before = steps, lambda: began.append(world.now - NOW)
    world.deliver_until_over()
    assert [(step, at - began[0]) for step, at in world.ledger.told] == told
    assert world.ledger.state is TaskState.COMPLETED


def test_a_node_that_is_told_to_tell_no_progress_tells_none(world):
    world.limits = world.limits.model_copy(update={"progress_every_s": 0})
    world.engine.steps = [500, 500]
    world.deliver_until_over()
    assert world.ledger.told == []


def test_a_run_whose_progress_the_chain_does_not_take_goes_on(world):
    def down():
        world.ledger.down = True

    def up():
        world.ledger.down = False

    world.engine.steps, world.engine.before, world.engine.during = [70, 70], down, up
    world.deliver_until_over()
    assert world.ledger.told == []
    assert world.ledger.acts == ["start", "finish"]


def test_what_a_party_may_keep_of_an_alignment_outlives_the_wiping(world):
    folder = world.folder / "jobs" / world.task[2:]
    world.engine.during = lambda: (folder / "received.csv").write_text("id\n1\n")
    world.deliver_until_over()
    assert not folder.exists()
    assert (world.folder / "received" / f"{world.task[2:]}.csv").read_text() == "id\n1\n"


def leaves_a_part(world):
    """The engine leaves a part of a kept value; return where the node keeps it."""
    header = PartHeader(
        task=world.task,
        source="train.model",
        party=ME,
        keepers=[ME],
        holders=[OTHER],
        computation=Computation(protocol="ABY3", field="FM64", fraction_bits=18),
        public={"kind": "model", "about": {}, "arrays": [["weights", [2], "float64"]]},
    )

    def leave():
        folder = world.folder / "jobs" / world.task[2:] / "kept"
        folder.mkdir()
        (folder / "risk.part").write_bytes(encode_part(header, ()))

    world.engine.during = leave
    return world.folder / "parts" / world.task[2:] / "risk.part"


def test_a_part_that_a_completed_task_leaves_becomes_a_dataset(world):
    kept = leaves_a_part(world)
    world.deliver()
    assert kept.exists()
    assert world.registry.added == {}  # not before the task is complete: others may not have finished
    world.deliver_until_over()
    name = f"risk (train.model of {world.task[:10]})"
    assert world.registry.added == {kept: (name, DataClass.GENERAL, world.task, "train.model")}


def test_a_part_of_a_task_that_did_not_complete_is_removed(world):
    kept = leaves_a_part(world)
    world.deliver()
    assert kept.exists()
    world.now = world.terms.deadline + 1
    world.deliver()
    assert not kept.exists()
    assert world.registry.added == {}


def test_the_receipt_binds_the_block_of_the_judgement_the_input_and_the_transcript(world):
    world.deliver_until_over()
    receipt = Receipt.model_validate(world.last(Kind.TASK_FINISHED)["receipt"])
    judged, ran = world.last(Kind.TASK_JUDGED), world.last(Kind.TASK_RAN)
    assert receipt.authority_hash == judged["block_hash"]
    assert receipt.input_commitment == judged["input_commitment"]
    assert receipt.transcript == digest(ran["transcript"])
    assert receipt.party == ME


def test_a_task_delivered_twice_runs_once(world):
    world.engine.during = lambda: world.deliver()  # the second message comes while the first runs
    world.deliver()
    world.deliver()
    assert len(world.runs) == 1
    assert world.ledger.acts == ["start", "finish"]


def test_the_worker_is_given_back_while_another_party_has_not_started(world):
    world.ledger.on_start = None
    world.deliver()
    assert world.runs == []
    assert world.store.task(world.task).lease is None
    world.ledger.other_starts()
    world.deliver_until_over()
    assert world.ledger.state is TaskState.COMPLETED


def test_a_task_that_others_never_start_expires_and_is_closed(world):
    world.ledger.on_start = None
    world.deliver()
    world.now += 3600
    world.deliver_until_over()
    assert world.last(Kind.TASK_STOPPED)["state"] == "EXPIRED"
    assert world.runs == []


# --- what is refused


@pytest.mark.parametrize(
    ("change", "denial"),
    [
        ({"revoked": True}, Denial.GRANT_REVOKED),
        ({"uses_left": 0}, Denial.GRANT_EXHAUSTED),
        ({"expires_at": 1}, Denial.GRANT_EXPIRED),
        ({"requester": OTHER}, Denial.WRONG_REQUESTER),
        ({"purpose": KEY}, Denial.WRONG_PURPOSE),
        ({"dataset": KEY}, Denial.WRONG_DATASET),
        ({"algorithm": KEY}, Denial.WRONG_ALGORITHM),
        ({"owner": OTHER}, Denial.WRONG_OWNER),
    ],
)
def test_what_the_grant_does_not_allow_is_refused_on_chain_with_the_reason(world, change, denial):
    world.set_grant(**change)
    assert refused(world) is denial


def test_a_task_with_a_suspended_party_is_refused(world):
    world.set_node(OTHER, NodeStatus.SUSPENDED)
    assert refused(world) is Denial.PARTY_NOT_ACTIVE


def with_facts(kind, found):
    def change(world):
        world.facts = replace(world.facts, **{kind: found(getattr(world.facts, kind))})

    return change


def altered(**changes):
    return lambda found: {key: replace(each, **changes) for key, each in found.items()}


def without(*keys):
    return lambda found: {key: each for key, each in found.items() if key not in keys}


OUT_OF_USE = {
    "a withdrawn dataset": (
        with_facts("datasets", altered(status=DatasetStatus.WITHDRAWN)),
        Denial.DATASET_NOT_ACTIVE,
    ),
    "an unknown dataset": (with_facts("datasets", lambda _: {}), Denial.DATASET_NOT_ACTIVE),
    "a suspended algorithm": (
        with_facts("algorithms", altered(status=AlgorithmStatus.SUSPENDED)),
        Denial.ALGORITHM_NOT_ACTIVE,
    ),
    "a revoked algorithm": (
        with_facts("algorithms", altered(status=AlgorithmStatus.REVOKED)),
        Denial.ALGORITHM_NOT_ACTIVE,
    ),
    "an unknown algorithm": (with_facts("algorithms", lambda _: {}), Denial.ALGORITHM_NOT_ACTIVE),
    "an unknown grant": (with_facts("grants", lambda _: {}), Denial.UNKNOWN_GRANT),
    "an unknown party": (with_facts("nodes", without(OTHER)), Denial.PARTY_NOT_ACTIVE),
    "a retired party": (lambda world: world.set_node(OTHER, NodeStatus.RETIRED), Denial.PARTY_NOT_ACTIVE),
    "a suspended requester": (
        lambda world: world.set_node(LAB, NodeStatus.SUSPENDED),
        Denial.REQUESTER_NOT_ACTIVE,
    ),
    "a retired requester": (
        lambda world: world.set_node(LAB, NodeStatus.RETIRED),
        Denial.REQUESTER_NOT_ACTIVE,
    ),
    "a window not yet open": (
        lambda world: world.set_grant(not_before=world.now + 600),
        Denial.GRANT_NOT_YET_VALID,
    ),
    "a protection not granted": (
        lambda world: world.set_grant(protections=Protection.PSI_ECDH),
        Denial.PROTECTION_NOT_ALLOWED,
    ),
}


@pytest.mark.parametrize("what", OUT_OF_USE)
def test_what_is_unknown_or_out_of_use_is_refused_and_no_use_is_spent(world, what):
    change, denial = OUT_OF_USE[what]
    change(world)
    assert refused(world) is denial
    assert world.ledger.acts == [f"refuse {denial.name}"]
    assert all(grant.uses_left == 3 for grant in world.facts.grants.values())
    assert not (world.folder / "jobs" / world.task[2:]).exists()
    assert world.scheduler.outputs == {}


def test_a_suspended_node_can_refuse_nothing_and_runs_nothing(world):
    world.set_node(ME, NodeStatus.SUSPENDED)
    world.deliver()
    assert world.runs == []
    assert world.ledger.acts == []
    assert world.last(Kind.TASK_JUDGED)["denial"] == Denial.PARTY_NOT_ACTIVE
    assert "NodeNotActive" in world.store.task(world.task).note


def test_a_dataset_altered_after_registration_is_refused(world):
    world.table.write_text("id,age\n1,31\n2,40\n")
    assert refused(world) is Denial.DATASET_ALTERED


def test_an_altered_dataset_that_is_also_malformed_is_called_altered(world):
    world.engine.bad_table = "duplicate_ids"
    world.table.write_text("id,id\n")
    assert refused(world) is Denial.DATASET_ALTERED


def test_a_missing_dataset_is_refused(world):
    world.table.unlink()
    assert refused(world) is Denial.DATASET_MISSING


def test_an_altered_bundle_is_refused(world):
    world.bundles.altered = True
    assert refused(world) is Denial.BUNDLE_ALTERED


def test_a_missing_bundle_is_refused(world):
    world.bundles.missing = True
    assert refused(world) is Denial.BUNDLE_MISSING


def test_a_malformed_table_is_refused_before_a_use_is_spent(world):
    world.engine.bad_table = "malformed_csv: row 2 has 3 cells, not 2"
    assert refused(world) is Denial.INPUT_INVALID
    assert world.facts.grants[GRANT].uses_left == 3


def test_parameters_that_the_algorithm_does_not_take_are_refused_before_a_use_is_spent(world):
    world.engine.bad_steps = Denial.SPEC_MISMATCH, "min_group: at least 5"
    assert refused(world) is Denial.SPEC_MISMATCH
    assert world.ledger.acts == ["refuse SPEC_MISMATCH"]
    assert world.facts.grants[GRANT].uses_left == 3
    assert "min_group" in world.last(Kind.TASK_REFUSED)["detail"]


def test_no_code_of_an_altered_bundle_is_asked_anything(world):
    world.bundles.altered, world.engine.bad_steps = True, (Denial.SPEC_MISMATCH, "said by altered code")
    assert refused(world) is Denial.BUNDLE_ALTERED


def test_what_the_engine_cannot_do_is_refused(world):
    world.engine.unable = Denial.PROTOCOL_UNSUPPORTED
    assert refused(world) is Denial.PROTOCOL_UNSUPPORTED


def test_a_specification_that_says_other_terms_than_the_chain_is_refused(world):
    world.spec = world.spec.model_copy(update={"purpose": "another purpose"})
    world.introduce()
    assert refused(world) is Denial.SPEC_MISMATCH


def test_a_result_is_sealed_to_no_key_but_the_one_on_chain(world):
    nodes = dict(world.facts.nodes)
    lab = world.spec.requester
    world.facts = type(world.facts)(
        world.facts.grants,
        {**nodes, lab: type(nodes[lab])(lab, nodes[lab].status, nodes[lab].roles, KEY, ALGORITHM)},
        world.facts.datasets,
        world.facts.algorithms,
    )
    assert refused(world) is Denial.SPEC_MISMATCH


def with_a_helper(world, roles):
    """The other party brings no data, and computes."""
    kept = [each for each in world.spec.inputs if each.party == ME]
    steps = [
        step.model_copy(
            update={
                "inputs": [each.name for each in kept],
                "grants": {each.name: step.grants[each.name] for each in kept},
            }
        )
        for step in world.spec.steps
    ]
    world.spec = world.spec.model_copy(update={"inputs": kept, "steps": steps})
    nodes = {**world.facts.nodes, OTHER: replace(world.facts.nodes[OTHER], roles=roles)}
    return world.spec, replace(world.facts, nodes=nodes)


@pytest.mark.parametrize(("roles", "denied"), [(Role.OWNER, True), (Role.COMPUTE, False)])
def test_a_party_without_data_computes_only_where_it_was_admitted_to_that(world, roles, denied):
    spec, facts = with_a_helper(world, roles)
    found = why_mismatched(Introduction(spec, ()), spec.terms(), facts)
    assert (found is not None and "was not admitted to compute" in found) == denied


def test_a_task_without_a_specification_is_refused_after_the_wait_and_not_before(world):
    with world.store.engine.begin() as connection:
        connection.exec_driver_sql("update tasks set spec = null")
    world.deliver()
    assert world.ledger.acts == []
    world.now += 301
    assert refused(world) is Denial.SPEC_UNAVAILABLE


def test_a_denial_by_the_chain_at_the_start_is_refused_with_the_chains_reason(world):
    original = world.ledger._start

    def revoked_meanwhile():
        world.set_grant(revoked=True)
        original()

    world.ledger._start = revoked_meanwhile
    assert refused(world) is Denial.GRANT_REVOKED


# --- approval


def test_a_grant_that_asks_for_approval_waits_in_the_inbox_until_the_operator_agrees(world):
    world.ledger.state, world.ledger.approved = TaskState.CREATED, 0b10
    world.deliver()
    assert world.store.task(world.task).approval == "wanted"
    assert world.ledger.acts == []
    world.store.give_approval(world.task)
    world.deliver_until_over()
    assert world.ledger.acts == ["approve", "start", "finish"]
    assert world.kinds()["task.approved"] == 1


def test_a_task_the_operator_refuses_is_refused_on_chain(world):
    world.ledger.state, world.ledger.approved = TaskState.CREATED, 0b10
    world.store.want_stop(world.task)
    assert refused(world) is Denial.OPERATOR_REFUSED


# --- while it runs


def test_an_owner_stops_a_running_task(world):
    def stop():
        world.store.want_stop(world.task)
        world.beat()

    world.engine.during = stop
    world.deliver_until_over()
    assert world.ledger.state is TaskState.CANCELLED
    assert world.last(Kind.TASK_STOPPED)["by"] == "owner"
    assert world.sessions.left == ["stopped by its owner"]
    assert world.scheduler.outputs == {}


def test_a_task_cancelled_by_its_requester_ends_the_run_and_is_wiped(world):
    def cancel():
        world.ledger.state = TaskState.CANCELLED
        world.beat()

    world.engine.during = cancel
    world.deliver_until_over()
    stopped = world.last(Kind.TASK_STOPPED)
    assert (stopped["by"], stopped["state"]) == ("others", "CANCELLED")
    assert world.kinds()["task.wiped"] == 1
    assert world.scheduler.outputs == {}


def test_a_worker_that_lost_its_lease_does_nothing_more(world):
    def lapse():
        world.now += 100
        world.store.lease(world.task, 1000)
        world.beat()

    world.engine.during = lapse
    world.deliver()
    assert world.ledger.acts == ["start"]


@pytest.mark.parametrize("reason", list(Failure))
def test_a_failed_run_is_reported_with_its_reason_and_blame(world, reason):
    world.engine.outcome = RunFailed(reason, Blame.PARTY, OTHER, "said so")
    assert failed(world) == (reason, Blame.PARTY)
    assert world.last(Kind.TASK_FAILED)["blamed"] == OTHER
    assert len(world.runs) == 1


def test_a_dataset_changed_while_the_task_runs_spoils_the_run(world):
    world.engine.during = lambda: world.table.write_text("id,age\n1,30\n2,40\n")  # same bytes, but written
    assert failed(world) == (Failure.INPUT_INVALID, Blame.REPORTER)


def test_a_result_that_the_scheduler_never_takes_fails_the_task(world):
    world.scheduler.error = Undeliverable("another output is there already")
    assert failed(world) == (Failure.RESULT_UNDELIVERABLE, Blame.NOBODY)


def test_a_scheduler_that_is_down_is_tried_again_without_a_second_run(world):
    world.scheduler.error = SchedulerUnavailable("no answer")
    with pytest.raises(SchedulerUnavailable):
        world.deliver()
    world.scheduler.error = None
    world.deliver_until_over()
    assert len(world.runs) == 1
    assert world.ledger.state is TaskState.COMPLETED


def test_a_session_the_gateway_refuses_fails_the_task_before_the_engine_begins(world):
    world.sessions.refuse = "not the certificate on the chain"
    assert failed(world) == (Failure.SESSION_REVOKED, Blame.NOBODY)
    assert world.runs == []


def test_a_chain_that_is_down_is_named_and_the_task_left_for_later(world):
    world.ledger.down = True
    with pytest.raises(ChainUnavailable):
        world.deliver()
    row = world.store.task(world.task)
    assert "ChainUnavailable" in row.note
    assert row.lease is None
    world.ledger.down = False
    world.deliver_until_over()
    assert world.ledger.state is TaskState.COMPLETED


# --- crashes


def ticks_of_a_whole_life(folder):
    world, fuse = World(folder), Fuse()
    world.deliver(fuse)
    return fuse.count


def test_killed_at_any_line_it_never_starts_or_runs_twice_and_tells_the_truth(tmp_path):
    """1. never two starts; 2. never two runs; 3. completed only with the share delivered and on record;
    4. failed only when the engine had begun and left nothing whole, and then by this node's own account;
    5. every kind of record once; 6. nothing of the job left. Both ends are right; hanging is not."""
    (tmp_path / "whole").mkdir()
    ends = set()
    for ticks in range(ticks_of_a_whole_life(tmp_path / "whole")):
        (tmp_path / str(ticks)).mkdir()
        world = World(tmp_path / str(ticks))
        with pytest.raises(Killed):
            world.deliver(Fuse(ticks))
        world.deliver_until_over()
        assert world.ledger.acts.count("start") == 1, ticks
        assert len(world.runs) <= 1, ticks
        assert set(world.kinds().values()) == {1}, (ticks, world.kinds())
        assert not (world.folder / "jobs" / world.task[2:]).exists(), ticks
        ends.add(world.ledger.state)
        if world.ledger.state is TaskState.COMPLETED:
            assert len(world.runs) == 1, ticks
            assert world.scheduler.outputs == {world.task: b"sealed share"}, ticks
            assert {"task.started", "task.ran", "task.finished", "task.wiped"} <= set(world.kinds()), ticks
        else:
            assert world.ledger.acts == ["start", "fail INTERRUPTED REPORTER"], ticks
            assert "task.ran" not in world.kinds(), ticks
            assert {"task.started", "task.failed", "task.wiped"} <= set(world.kinds()), ticks
    assert ends == {TaskState.COMPLETED, TaskState.FAILED}


def test_killed_at_any_line_a_completed_task_has_registered_its_part_and_no_other_has(tmp_path):
    (tmp_path / "whole").mkdir()
    world, fuse = World(tmp_path / "whole"), Fuse()
    leaves_a_part(world)
    world.deliver(fuse)
    world.ledger.other_finishes()
    world.now += 30
    world.deliver(fuse)
    for ticks in range(0, fuse.count, 3):
        (tmp_path / str(ticks)).mkdir()
        world = World(tmp_path / str(ticks))
        kept = leaves_a_part(world)
        with suppress(Killed):
            world.deliver(Fuse(ticks))
        world.deliver_until_over()
        completed = world.ledger.state is TaskState.COMPLETED
        assert list(world.registry.added) == ([kept] if completed else []), f"killed at tick {ticks}"
        assert kept.exists() == completed


def test_killed_at_any_line_of_a_refusal_it_refuses_once_and_records_it_once(tmp_path):
    (tmp_path / "whole").mkdir()
    world, fuse = World(tmp_path / "whole"), Fuse()
    world.bundles.altered = True
    world.deliver(fuse)
    for ticks in range(fuse.count):
        (tmp_path / str(ticks)).mkdir()
        world = World(tmp_path / str(ticks))
        world.bundles.altered = True
        with pytest.raises(Killed):
            world.deliver(Fuse(ticks))
        assert refused(world) is Denial.BUNDLE_ALTERED
        assert world.ledger.acts == ["refuse BUNDLE_ALTERED"], ticks
        assert set(world.kinds().values()) == {1}, (ticks, world.kinds())


def test_a_denial_that_no_final_block_shows_yet_is_taken_at_the_chains_word(world):
    def expired_by_the_pending_blocks_time():
        raise Reverted("Denied", "GRANT_EXPIRED", Denial.GRANT_EXPIRED)

    world.ledger._start = expired_by_the_pending_blocks_time
    assert refused(world) is Denial.GRANT_EXPIRED
    assert world.last(Kind.TASK_JUDGED)["block_number"] is None


def test_an_act_that_comes_too_late_closes_the_task_as_expired(world):
    def late():
        raise Reverted("TaskExpired", "at 1")

    world.ledger._finish = late
    world.deliver()
    assert world.store.task(world.task).stage == "expired"
    assert world.kinds()["task.wiped"] == 1


# --- a full disk


def test_a_judgement_that_cannot_be_recorded_starts_nothing(world):
    world.full_at = "task.judged"
    with pytest.raises(DiskFull):
        world.deliver()
    assert world.ledger.acts == []
    assert "DiskFull" in world.store.task(world.task).note
    world.full_at = None
    world.deliver_until_over()
    assert world.ledger.state is TaskState.COMPLETED


@pytest.mark.parametrize("kind", ["task.started", "task.ran"])
def test_a_run_that_cannot_be_recorded_fails_openly(world, kind):
    world.full_at = kind
    for _ in range(2):  # the first may end before it is known that all have started
        world.now += 30
        with suppress(DiskFull):
            world.deliver()
    assert world.ledger.state is TaskState.FAILED
    world.full_at = None
    world.deliver_until_over()
    assert Failure(world.last(Kind.TASK_FAILED)["reason"]) is Failure.DISK_FULL
    assert world.scheduler.outputs == {}


@pytest.mark.parametrize("kind", ["task.finished", "task.wiped"])
def test_a_result_that_is_on_chain_is_recorded_once_there_is_room(world, kind):
    world.full_at = kind
    with pytest.raises(DiskFull):
        world.deliver()
    world.full_at = None
    world.deliver_until_over()
    assert world.ledger.state is TaskState.COMPLETED
    assert world.kinds() == {f"task.{each}": 1 for each in ("judged", "started", "ran", "finished", "wiped")}
