from __future__ import annotations

import json
import sys
from dataclasses import replace

import httpx
import pytest
from requester_world import BOOK, World
from scheduler_fakes import LAB, NOW, PARTIES, Event, Record, document, h, make_spec

from sealtrace.algorithms.frames import SecretValue
from sealtrace.algorithms.shares import Computation, Header, encode_output, encode_share
from sealtrace.contracts.keys import KeyFile
from sealtrace.protocol.canonical import canonical
from sealtrace.protocol.envelope import seal
from sealtrace.protocol.identifiers import UnixSeconds, raw
from sealtrace.protocol.lifecycle import TaskState
from sealtrace.protocol.outcome import Blame, Denial, Failure
from sealtrace.protocol.spec import TaskSpec
from sealtrace.requester.client import EngineMissing, best_grant
from sealtrace.requester.directory import Keys
from sealtrace.requester.errors import (
    AlgorithmUnknownHere,
    ResultDisputed,
    ResultMissing,
    ResultTampered,
    SchedulerMisbehaved,
    SchedulerRefused,
    SchedulerUnreachable,
    SpecInvalid,
    TaskCancelled,
    TaskExpired,
    TaskFailed,
    TaskNotOver,
    TaskRefused,
    TaskUnknown,
    WrongKey,
)
from sealtrace.requester.known_algorithms import KnownAlgorithms

PSI = KnownAlgorithms({}).find("psi").digest


def psi_spec(**changes) -> TaskSpec:
    """A specification whose only step is one that needs no engine to be opened."""
    value = document(3, **changes)
    value["steps"] = [{**value["steps"][0], "algorithm": PSI}]
    return TaskSpec.model_validate(value)


def output(task, party, *, rows=42, key=None, bound_to=None, kind="psi", step="align"):
    rank = PARTIES.index(party)
    how = Computation(protocol="ABY3", field="FM64", fraction_bits=18) if kind == "mpc" else None
    words = {"kind": kind, "task": task, "step": step, "rank": rank, "world": 3, "rows": rows}
    header = Header(**words, computation=how, values=[])
    share = encode_share(header, [SecretValue("aligned", b"", (canonical({"rows": rows}),))])
    bound = {"task": bound_to or task, "party": party.address, "kind": "share"}
    return seal(encode_output({step: share}), raw(key or LAB.encryption_key), bound)


class PsiWorld(World):
    """Tasks whose one step is an alignment."""

    def submit(self, **changes):
        return self.requester.submit(psi_spec(**changes)).task

    def deliver(self, task, sealed=None, parties=PARTIES):
        return super().deliver(
            task, sealed or {each.address: output(task, each) for each in PARTIES}, parties
        )


@pytest.fixture
def world(tmp_path):
    world = PsiWorld(tmp_path)
    yield world
    world.scheduler.store.close()


def test_a_result_is_fetched_checked_and_opened(world):
    task = world.submit()
    digest = world.deliver(task)
    world.end(task, TaskState.COMPLETED, digest)
    found = world.requester.result(task)
    assert (found.value, found.digest) == ({"rows": 42}, digest)
    assert set(found.outputs) == set(BOOK.values())


def test_two_submissions_of_one_specification_send_one_transaction(world):
    first, second = world.submit(), world.submit()
    assert first == second
    assert world.sender.sent == [f"task.create:{first}"]
    assert len(world.scheduler.store.open_tasks()) == 1


def test_a_task_that_another_process_created_meanwhile_is_the_same_task(world):
    spec = psi_spec()
    task = world.chain.task_id(spec.terms())
    world.chain.tasks[task] = Record(TaskState.RUNNING)
    assert world.requester.submit(spec).task == task
    assert world.sender.sent == []


def test_nothing_is_on_chain_when_the_scheduler_refuses(world):
    world.now += 100
    with pytest.raises(SchedulerRefused, match="PartyNotAlive") as caught:
        world.submit()
    assert caught.value.name == "PartyNotAlive"
    assert world.sender.sent == []


def test_nothing_is_on_chain_when_the_scheduler_is_down(world):
    def refuse(request):
        raise httpx.ConnectError("refused", request=request)

    requester = world.make_requester(world.folder / "lab", transport=httpx.MockTransport(refuse))
    with pytest.raises(SchedulerUnreachable, match="http://scheduler"):
        requester.submit(psi_spec())
    assert world.sender.sent == []


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(202, content=b"{}"),
        httpx.Response(202, content=b"<html>"),
        httpx.Response(202, content=b'{"task":"0x12","warnings":[]}'),
        httpx.Response(202, content=canonical({"task": h(1), "warnings": []})),
        httpx.Response(500, content=b"oops"),
        httpx.Response(202, content=b" " * (3 << 20)),
    ],
)
def test_a_scheduler_that_talks_nonsense_is_not_believed(world, answer):
    world.alter = lambda _: answer
    with pytest.raises(SchedulerMisbehaved):
        world.submit()
    assert world.sender.sent == []


def test_a_specification_of_somebody_else_is_not_submitted(world):
    with pytest.raises(WrongKey, match="the specification is"):
        world.requester.submit(psi_spec(requester=PARTIES[0].address))
    assert world.sender.sent == []


def test_a_specification_that_seals_to_another_key_is_not_submitted(world):
    with pytest.raises(WrongKey, match="results would be sealed"):
        world.submit(requester_key=h(5))
    node = world.chain.nodes[LAB.address]
    world.chain.nodes[LAB.address] = replace(node, encryption_key=h(5))
    with pytest.raises(WrongKey, match="the chain has"):
        world.submit()


# Plans


def words(**changes):
    steps = {"align": {"algorithm": "psi", "grants": {f"p{i}": h(1000 + i) for i in range(3)}}}
    inputs = {f"p{i}": {"party": name, "dataset": h(100 + i), "id": "id"} for i, name in enumerate(BOOK)}
    return {"purpose": "credit", "deadline": "1h", "inputs": inputs, "steps": steps, **changes}


def test_protocols_left_open_are_chosen_by_the_scheduler(world):
    planned = world.requester.plan(words())
    assert planned.spec.steps[0].protocol == "ECDH"
    assert any("will refuse: wrong algorithm" in each for each in planned.warnings)
    assert world.chain.tasks == {}


def test_a_plan_says_who_learns_what(world):
    learns = world.requester.plan(words()).learns
    assert {"party", "requester", "scheduler"} <= {each.role for each in learns}
    assert all(each.step == "align" and each.protocol == "ECDH" for each in learns)
    assert any("ECDH" in each.role for each in learns)
    assert not any("RR22" in each.role for each in learns)


def statistics_words(**requests):
    """A task file over one step of joint statistics, with the columns that its inputs name."""
    task = words()
    task["inputs"]["p0"]["columns"] = ["amount"]
    task["steps"]["align"]["protocol"] = "ECDH"
    task["steps"]["stats"] = {
        "algorithm": "statistics",
        "protocol": "ABY3",
        "grants": {f"p{i}": h(2000 + i) for i in range(3)},
        "params": {
            "min_group": 5,
            "columns": {"amount": {"input": "p0", "kind": "number"}},
            "requests": {"means": {"measure": "summary", "of": "amount", "statistics": ["mean"]}, **requests},
        },
    }
    return task


def planned_from_file(world, task):
    file = world.folder / "task.yaml"
    file.write_text(json.dumps(task, indent=1))
    return world.requester.plan(file)


def test_parameters_that_the_algorithm_takes_pass(world):
    assert "not checked" not in str(planned_from_file(world, statistics_words()).warnings)


def test_parameters_that_the_algorithm_does_not_take_are_refused_with_their_line(world):
    wrong = {"measure": "summary", "of": "amuont", "statistics": ["mean"]}
    with pytest.raises(SpecInvalid) as refused:
        planned_from_file(world, statistics_words(more=wrong))
    line = (world.folder / "task.yaml").read_text().splitlines()[refused.value.line - 1]
    assert '"of": "amuont"' in line
    assert "steps.stats.params.requests.more.of: there is no column 'amuont'" in str(refused.value)
    assert world.chain.tasks == {}


def test_a_column_that_the_input_does_not_name_is_refused(world):
    task = statistics_words()
    task["inputs"]["p0"]["columns"] = ["age"]
    with pytest.raises(SpecInvalid, match="input p0 does not name the column 'amount'"):
        planned_from_file(world, task)


def test_parameters_of_an_algorithm_that_is_not_here_are_said_to_be_unchecked(world):
    task = statistics_words()
    task["steps"]["stats"] |= {"algorithm": h(77), "engine": "mpc"}
    warned = planned_from_file(world, task).warnings
    assert any("step stats: its parameters were not checked here" in each for each in warned)


def test_a_plan_that_changes_what_was_asked_is_not_believed(world):
    def widen(response):
        planned = response.json()
        planned["spec"]["inputs"][0]["columns"] = ["name"]
        return httpx.Response(200, content=canonical(planned))

    world.alter = widen
    with pytest.raises(SchedulerMisbehaved, match="more than the open protocols"):
        world.requester.plan(words())


def test_grants_are_found_by_what_a_step_asks(world):
    for grant in world.chain.grants.values():
        world.chain.happened.append(Event("GrantIssued", {"grant": grant.id, "requester": LAB.address}))
    grants = world.requester.grants()
    assert len(grants) == 6
    party, purpose = PARTIES[1].address, grants[0].purpose
    assert best_grant(grants, party, h(101), h(2), purpose, NOW) == h(2001)
    assert best_grant(grants, party, h(101), h(2), purpose, UnixSeconds(NOW + 86_400)) is None
    assert best_grant(grants, party, h(100), h(2), purpose, NOW) is None
    assert best_grant(grants, party, h(101), h(2), h(1), NOW) is None


# Watching


def test_each_new_thing_is_shown_once(world):
    task = world.submit()
    seen = world.requester.watch(task)
    assert next(seen).state is TaskState.CREATED
    world.chain.tasks[task] = Record(TaskState.AUTHORIZED, 7, 1)
    assert [each.started for each in next(seen).parties] == [True, False, False]
    world.end(task, TaskState.COMPLETED)
    assert [each.state for each in seen] == [TaskState.COMPLETED]


def test_parties_are_shown_by_their_names(world):
    (seen, *_) = (next(world.requester.watch(world.submit())),)
    assert [each.name for each in seen.parties] == ["one", "two", "three"]


def test_a_watch_ends_by_its_timeout(world):
    task = world.submit()
    with pytest.raises(TaskNotOver, match="still created after 3 s"):
        list(world.requester.watch(task, 3))


def test_a_watch_ends_by_the_deadline_even_if_the_chain_makes_no_block(world):
    task = world.submit()
    world.chain.tasks[task] = Record(TaskState.CREATED, deadline=UnixSeconds(NOW + 10))
    world.requester._waiting = replace(
        world.requester._waiting, sleep=lambda s: setattr(world, "now", world.now + s)
    )
    assert [each.state for each in world.requester.watch(task)] == [TaskState.CREATED, TaskState.EXPIRED]


def test_a_task_nobody_created_is_unknown(world):
    task = world.submit()
    del world.chain.tasks[task]
    with pytest.raises(TaskUnknown):
        world.requester.look(task)
    with pytest.raises(TaskUnknown):
        world.requester.cancel(task)


# Tasks without a result


def test_a_refusal_is_told_with_who_and_why(world):
    task = world.submit()
    args = {"party": PARTIES[1].address, "reason": int(Denial.GRANT_EXHAUSTED)}
    world.end(task, TaskState.REFUSED, event="TaskRefused", **args)
    with pytest.raises(TaskRefused, match=r"two refused .* grant exhausted") as caught:
        world.requester.result(task)
    assert (caught.value.party, caught.value.denial) == ("two", Denial.GRANT_EXHAUSTED)


def test_a_refusal_for_a_reason_we_do_not_know_is_told_by_its_number(world):
    task = world.submit()
    world.end(task, TaskState.REFUSED, event="TaskRefused", party=PARTIES[1].address, reason=200)
    with pytest.raises(TaskRefused, match="reason 200"):
        world.requester.result(task)


def test_a_failure_is_told_with_its_blame(world):
    task = world.submit()
    args = {"party": PARTIES[0].address, "reason": 3, "blame": 2, "blamed": PARTIES[2].address}
    world.end(task, TaskState.FAILED, event="TaskFailed", **args)
    with pytest.raises(TaskFailed, match="one reports peer unreachable, blaming three") as caught:
        world.requester.result(task)
    assert (caught.value.failure, caught.value.blame) == (Failure.PEER_UNREACHABLE, Blame.PARTY)


def test_an_expired_task_names_who_had_not_finished(world):
    task = world.submit()
    world.chain.tasks[task] = Record(TaskState.RUNNING, 7, 7, 5, deadline=UnixSeconds(NOW + 5))
    with pytest.raises(TaskExpired, match="waiting for two"):
        world.requester.result(task)


def test_a_stopped_task_names_who_stopped_it(world):
    task = world.submit()
    world.end(task, TaskState.CANCELLED, event="TaskCancelled", by=PARTIES[2].address)
    with pytest.raises(TaskCancelled, match="ended by three"):
        world.requester.result(task)


def test_a_disputed_result_is_not_opened(world):
    task = world.submit()
    world.deliver(task)
    world.end(task, TaskState.DISPUTED)
    with pytest.raises(ResultDisputed):
        world.requester.result(task)


# Results that are not what they should be


def completed(world, sealed=None, **how):
    task = world.submit()
    digest = world.deliver(task, sealed and sealed(task), **how)
    world.end(task, TaskState.COMPLETED, digest)
    return task


def flip(response):
    if response.headers["content-type"] != "application/octet-stream":
        return response
    content = response.content[:-1] + bytes([response.content[-1] ^ 1])
    return httpx.Response(200, content=content, headers=response.headers)


def test_an_output_the_scheduler_altered_is_found_and_its_party_named(world):
    task = completed(world)
    world.alter = lambda answer: flip(answer) if world.requests() == 2 else answer
    count = iter(range(1, 99))
    world.requests = lambda: next(count)
    with pytest.raises(ResultTampered, match="the output of two was altered: its party signed") as caught:
        world.requester.result(task)
    assert caught.value.party == "two"


def test_an_output_without_its_partys_word_that_does_not_match_is_found(world):
    task = completed(world)

    def strip(answer):
        answer = flip(answer)
        answer.headers.pop("X-Sealtrace-Statement", None)
        return answer

    world.alter = strip
    with pytest.raises(ResultTampered, match="without a statement"):
        world.requester.result(task)


def test_a_party_that_delivers_other_bytes_than_it_agreed_on_is_found(world):
    task = completed(world)
    world.end(task, TaskState.COMPLETED, h(77))
    with pytest.raises(ResultTampered, match="a party delivered other bytes") as caught:
        world.requester.result(task)
    assert caught.value.party is None


def test_an_output_sealed_for_another_task_is_found(world):
    def sealed(task):
        bound = {PARTIES[0].address: h(5)}
        return {p.address: output(task, p, bound_to=bound.get(p.address)) for p in PARTIES}

    with pytest.raises(ResultTampered, match="sealed for another task"):
        world.requester.result(completed(world, sealed))


def test_outputs_that_do_not_belong_together_are_found(world):
    def sealed(task):
        return {p.address: output(task, p, rows=PARTIES.index(p)) for p in PARTIES}

    with pytest.raises(ResultTampered, match="do not make a result"):
        world.requester.result(completed(world, sealed))


def test_outputs_sealed_to_another_key_are_told_from_altered_ones(world):
    def sealed(task):
        key = PARTIES[0].encryption_key
        return {p.address: output(task, p, key=key) for p in PARTIES}

    with pytest.raises(WrongKey, match=r"as recorded, but hpke\.key does not open it"):
        world.requester.result(completed(world, sealed))


def test_a_requester_with_another_key_is_told_before_anything_is_fetched(world):
    task = completed(world)
    keys = Keys(KeyFile(LAB.address, LAB.key), PARTIES[0].hpke)
    with pytest.raises(WrongKey, match="use the directory the task was submitted from"):
        world.make_requester(world.folder / "other", keys).result(task)


def test_a_missing_output_is_waited_for_and_then_named(world):
    task = completed(world, parties=[PARTIES[0], PARTIES[2]])
    before = world.now
    with pytest.raises(ResultMissing, match="no output of two"):
        world.requester.result(task)
    assert world.now - before == pytest.approx(5, abs=1)


def test_somebody_elses_result_is_not_handed_out(world):
    task = completed(world)
    keys = Keys(KeyFile(PARTIES[0].address, PARTIES[0].key), LAB.hpke)
    with pytest.raises(SchedulerRefused, match="NotTheSpeaker"):
        world.make_requester(world.folder / "other", keys).result(task)


def test_a_result_is_opened_elsewhere_with_the_same_keys(world):
    task = completed(world)
    assert world.make_requester(world.folder / "laptop").result(task).value == {"rows": 42}


def test_a_specification_of_another_task_is_not_believed(world):
    task = completed(world)
    other = make_spec(nonce=h(99)).canonical().decode()
    world.alter = lambda _: httpx.Response(200, content=canonical({"spec": other, "parties": []}))
    with pytest.raises(SchedulerMisbehaved, match="not that of task"):
        world.make_requester(world.folder / "laptop").result(task)


def test_without_the_engine_a_result_in_shares_is_not_opened_and_the_extra_is_named(world, monkeypatch):
    statistics = KnownAlgorithms({}).find("statistics").digest
    value = document(3)
    value["steps"][0]["algorithm"], value["steps"][1]["algorithm"] = PSI, statistics
    spec = TaskSpec.model_validate(value)
    task = world.requester.submit(spec).task
    sealed = {p.address: output(task, p, kind="mpc", step="stats") for p in PARTIES}
    world.end(task, TaskState.COMPLETED, world.deliver(task, sealed))
    monkeypatch.setitem(sys.modules, "spu", None)
    with pytest.raises(EngineMissing, match="pip install"):
        world.requester.result(task)


def test_a_bundle_that_is_not_here_is_named(world):
    task = world.requester.submit(make_spec()).task
    sealed = {p.address: output(task, p, kind="mpc", step="stats") for p in PARTIES}
    world.end(task, TaskState.COMPLETED, world.deliver(task, sealed))
    with pytest.raises(AlgorithmUnknownHere, match="algorithm add DIR"):
        world.requester.result(task)
