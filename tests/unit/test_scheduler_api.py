from __future__ import annotations

import base64
import errno
import os

import pytest
from fastapi.testclient import TestClient
from scheduler_fakes import (
    LAB,
    NOW,
    PARTIES,
    STRANGER,
    Record,
    document,
    h,
    header,
    make_chain,
    make_spec,
    problem,
    suspended,
)

from sealtrace.contracts.errors import ChainUnreachable
from sealtrace.protocol.canonical import canonical, sha256
from sealtrace.protocol.identifiers import UnixSeconds
from sealtrace.protocol.lifecycle import TaskState
from sealtrace.protocol.records import NodeStatus
from sealtrace.protocol.spec import read_spec
from sealtrace.protocol.statements import Signed
from sealtrace.scheduler import chase
from sealtrace.scheduler.api import build
from sealtrace.scheduler.sealed_files import SealedFiles
from sealtrace.scheduler.settings import ChainSection, Limits, Settings, Times
from sealtrace.scheduler.store import Store
from sealtrace.scheduler.wiring import Scheduler

BANK = PARTIES[0]
SEALED = b"sealed output of the bank"


class World:
    """A scheduler over a fake chain, whose clock stands still unless moved."""

    def __init__(self, folder):
        self.folder = folder
        self.chain = make_chain()
        self.now = NOW
        self.sync = os.fsync
        self.limits = {}
        self.restart()

    def restart(self):
        limits = Limits(**{"output_bytes": 4096, **self.limits})
        chain = ChainSection(rpc_url="http://x", chain_id=1, directory="0x" + "00" * 20)
        self.scheduler = Scheduler(
            settings=Settings(chain=chain, limits=limits, times=Times()),
            store=Store.open(f"sqlite:///{self.folder}/scheduler.db"),
            files=SealedFiles(self.folder / "outputs", limits.output_bytes, sync=self._sync),
            connect=lambda: self.chain,
            now=lambda: UnixSeconds(self.now),
        )
        self.client = TestClient(build(self.scheduler), raise_server_exceptions=False)

    def _sync(self, descriptor):
        self.sync(descriptor)

    def post(self, path, signed):
        body = signed.model_dump(mode="json") if isinstance(signed, Signed) else signed
        return self.client.post(path, content=canonical(body))

    def hello_all(self):
        for each in PARTIES:
            assert self.post("/v1/nodes", each.hello(at=self.now)).status_code == 200

    def submit(self, spec=None, by=LAB):
        body = {"spec": spec if spec is not None else document()}
        return self.post("/v1/tasks", by.says("task.submit", body, at=self.now))

    def put(self, content=SEALED, by=BANK, party=BANK, task=None, **body):
        task = task or self.task
        signed = by.says("task.output", {"task": task, "digest": sha256(content), **body}, at=self.now)
        return self.client.put(
            f"/v1/tasks/{task}/outputs/{party.address}", content=content, headers=header(signed)
        )

    def get(self, by=LAB, party=BANK, task=None):
        task = task or self.task
        signed = by.says("task.fetch", {"task": task}, at=self.now)
        return self.client.get(f"/v1/tasks/{task}/outputs/{party.address}", headers=header(signed))

    @property
    def task(self):
        return self.chain.task_id(make_spec().terms())

    def files(self):
        return [path for path in (self.folder / "outputs").rglob("*") if path.is_file()]


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    world.scheduler.store.close()


@pytest.fixture
def submitted(world):
    world.hello_all()
    assert world.submit().status_code == 202
    return world


# Heartbeats


def test_a_node_that_the_chain_knows_is_heard(world):
    world.hello_all()
    assert all(each["alive"] for each in world.client.get("/v1/nodes").json())
    world.now += 31
    assert not any(each["alive"] for each in world.client.get("/v1/nodes").json())


def test_a_heartbeat_of_somebody_never_admitted_is_refused(world):
    assert problem(world.post("/v1/nodes", STRANGER.hello())) == (422, "PartyUnknown")
    assert world.scheduler.store.presences() == []


@pytest.mark.parametrize("status", [NodeStatus.SUSPENDED, NodeStatus.RETIRED])
def test_a_heartbeat_of_a_suspended_or_retired_node_is_refused(world, status):
    suspended(world.chain, BANK, status)
    assert problem(world.post("/v1/nodes", BANK.hello())) == (422, "PartyNotActive")


def test_a_heartbeat_with_another_certificate_than_the_chain_has_is_refused(world):
    hello = BANK.hello(certificate=STRANGER.certificate)
    assert problem(world.post("/v1/nodes", hello)) == (403, "CertificateMismatch")


def test_a_heartbeat_with_two_certificates_or_none_is_refused(world):
    for text in (BANK.certificate * 2, "no certificate"):
        assert problem(world.post("/v1/nodes", BANK.hello(certificate=text))) == (400, "MalformedRequest")


def test_a_heartbeat_signed_by_another_key_is_refused(world):
    genuine = BANK.hello()
    forged = genuine.model_copy(update={"signature": STRANGER.hello().signature})
    assert problem(world.post("/v1/nodes", forged)) == (401, "StatementRefused")


@pytest.mark.parametrize("seconds", [-301, 301])
def test_a_heartbeat_from_long_ago_or_from_the_future_is_refused(world, seconds):
    assert problem(world.post("/v1/nodes", BANK.hello(at=NOW + seconds))) == (401, "StatementRefused")


def test_a_statement_for_another_audience_is_refused(world):
    replayed = BANK.says("node.hello", dict(BANK.hello().statement.body), audience="auditor")
    assert problem(world.post("/v1/nodes", replayed)) == (401, "StatementRefused")


def test_a_recorded_heartbeat_does_not_keep_a_dead_node_alive(world):
    old = BANK.hello()
    world.post("/v1/nodes", old)
    world.now += 20
    world.post("/v1/nodes", old)
    world.now += 11
    (shown,) = world.client.get("/v1/nodes").json()
    assert not shown["alive"]


def test_an_older_heartbeat_does_not_replace_a_newer_one(world):
    world.post("/v1/nodes", BANK.hello(at=NOW))
    assert problem(world.post("/v1/nodes", BANK.hello(at=NOW - 1))) == (409, "HeartbeatStale")


# Submissions


def test_a_task_is_taken_and_its_parties_introduced(submitted):
    introduction = submitted.client.get(f"/v1/tasks/{submitted.task}/introduction").json()
    assert read_spec(introduction["spec"].encode()) == make_spec()
    assert [each["address"] for each in introduction["parties"]] == [each.address for each in PARTIES]
    assert introduction["parties"][0]["certificate_pem"] == BANK.certificate


def test_two_submissions_of_one_specification_are_one_task(submitted):
    again = submitted.submit()
    assert (again.status_code, again.json()["task"]) == (202, submitted.task)
    assert len(submitted.scheduler.store.open_tasks()) == 1


def test_a_task_is_known_again_after_its_parties_have_gone(submitted):
    submitted.now += 100
    assert submitted.submit().status_code == 202


def test_a_task_survives_a_restart_between_submission_and_introduction(submitted):
    submitted.restart()
    assert submitted.client.get(f"/v1/tasks/{submitted.task}/introduction").status_code == 200


def test_an_unknown_task_has_no_introduction(world):
    assert problem(world.client.get(f"/v1/tasks/{h(3)}/introduction")) == (404, "TaskNotFound")
    assert problem(world.client.get(f"/v1/tasks/{h(3)}")) == (404, "TaskNotFound")


def test_a_task_with_an_unknown_party_is_refused(world):
    world.hello_all()
    del world.chain.nodes[BANK.address]
    assert problem(world.submit()) == (422, "PartyUnknown")
    assert world.scheduler.store.open_tasks() == []


def test_a_task_with_a_suspended_party_is_refused(world):
    world.hello_all()
    suspended(world.chain, BANK)
    assert problem(world.submit()) == (422, "PartyNotActive")


def test_a_task_with_a_party_that_never_called_is_refused_by_its_name(world):
    for each in PARTIES[1:]:
        world.post("/v1/nodes", each.hello())
    refused = world.submit()
    assert problem(refused) == (503, "PartyNotAlive")
    assert BANK.address in refused.json()["detail"]


def test_a_task_with_a_party_that_fell_silent_is_refused(world):
    world.hello_all()
    world.now += 31
    assert problem(world.submit()) == (503, "PartyNotAlive")


def test_a_party_whose_certificate_was_rotated_since_its_heartbeat_counts_as_gone(world):
    world.hello_all()
    old = world.chain.nodes[BANK.address]
    world.chain.nodes[BANK.address] = type(old)(old.address, old.status, old.roles, h(9), h(9))
    assert problem(world.submit()) == (503, "PartyNotAlive")


def test_a_requester_without_the_role_is_refused(world):
    world.hello_all()
    spec = document(requester=BANK.address)
    assert problem(world.submit(spec, by=BANK)) == (403, "RequesterNotAdmitted")
    suspended(world.chain, LAB)
    assert problem(world.submit()) == (403, "RequesterNotAdmitted")


def test_nobody_submits_in_anothers_name(world):
    world.hello_all()
    assert problem(world.submit(by=BANK)) == (403, "NotTheSpeaker")


def test_a_task_past_its_deadline_is_refused(world):
    world.hello_all()
    assert problem(world.submit(document(deadline=NOW))) == (422, "SpecExpired")


def test_a_task_whose_protocol_does_not_fit_is_refused(world):
    world.hello_all()
    assert problem(world.submit(document(3, mpc="CHEETAH"))) == (422, "ProtocolUnsuitable")


@pytest.mark.parametrize(
    "change",
    [{"parties": []}, {"purpose": ""}, {"nonce": "0x12"}, {"colour": 1}, {"deadline": 1.5}],
)
def test_a_malformed_specification_is_refused(world, change):
    world.hello_all()
    assert problem(world.submit(document(**change))) == (422, "SpecRefused")


def test_what_owners_would_refuse_is_a_warning_and_not_a_refusal(world):
    world.hello_all()
    del world.chain.grants[h(1000)]
    world.chain.datasets.clear()
    accepted = world.submit()
    assert accepted.status_code == 202
    assert accepted.json()["warnings"] == [
        f"{BANK.address} will refuse: unknown grant",
        f"{PARTIES[1].address} will refuse: dataset not active",
        f"{PARTIES[2].address} will refuse: dataset not active",
    ]


def test_a_key_that_is_not_the_one_on_chain_is_a_warning(world):
    world.hello_all()
    (warning,) = world.submit(document(requester_key=h(5))).json()["warnings"]
    assert "not the one on chain" in warning


def test_one_requester_cannot_fill_the_books(world):
    world.limits = {"open_tasks_per_requester": 1}
    world.restart()
    world.hello_all()
    assert world.submit().status_code == 202
    assert problem(world.submit(document(nonce=h(8)))) == (429, "TooManyOpenTasks")
    assert world.submit().status_code == 202


def test_nothing_is_taken_while_the_chain_is_down(world):
    world.hello_all()
    world.chain.down = ChainUnreachable("http://x", "refused")
    assert problem(world.submit()) == (503, "ChainUnavailable")
    assert world.client.get("/v1/health").status_code == 503
    world.chain.down = None
    assert world.submit().status_code == 202


# Plans


def test_a_draft_is_planned_and_nothing_is_kept(world):
    planned = world.post("/v1/plans", {"draft": document(3, psi=None, mpc=None)}).json()
    assert [step["protocol"] for step in planned["spec"]["steps"]] == ["ECDH", "ABY3"]
    assert planned["warnings"] == []
    assert world.scheduler.store.open_tasks() == []


def test_a_draft_no_protocol_fits_is_refused(world):
    world.chain.grants.clear()
    answer = world.post("/v1/plans", {"draft": document(3, psi=None, mpc=None)})
    assert problem(answer) == (422, "ProtocolUnsuitable")


# Sealed outputs


def test_an_output_reaches_the_requester_unchanged_with_its_partys_word(submitted):
    assert submitted.put().status_code == 200
    fetched = submitted.get()
    assert fetched.content == SEALED
    statement = base64.urlsafe_b64decode(fetched.headers["X-Sealtrace-Statement"])
    assert Signed.model_validate_json(statement).statement.body["digest"] == sha256(SEALED)


def test_the_same_output_may_come_twice(submitted):
    assert [submitted.put().status_code for _ in range(2)] == [200, 200]
    assert len(submitted.files()) == 1


def test_another_output_of_the_same_party_is_refused_and_the_first_kept(submitted):
    submitted.put()
    assert problem(submitted.put(b"something else")) == (409, "OutputChanged")
    assert submitted.get().content == SEALED


def test_an_output_of_somebody_who_is_no_party_is_refused(submitted):
    assert problem(submitted.put(by=LAB, party=LAB)) == (403, "NotTheSpeaker")
    assert problem(submitted.put(by=STRANGER, party=BANK)) == (403, "NotTheSpeaker")
    assert submitted.files() == []


def test_an_output_for_another_task_than_its_statement_says_is_refused(submitted):
    assert problem(submitted.put(digest="0x12")) == (400, "MalformedRequest")
    assert problem(submitted.put(task=h(3))) == (404, "TaskNotFound")


def test_an_output_that_is_not_what_its_statement_says_leaves_nothing(submitted):
    assert problem(submitted.put(digest=h(5))) == (422, "OutputDigestWrong")
    assert submitted.files() == []
    assert submitted.put().status_code == 200


def test_an_output_that_is_too_large_leaves_nothing(submitted):
    assert problem(submitted.put(b"x" * 4097)) == (413, "RequestTooLarge")
    assert submitted.files() == []
    assert submitted.put(b"x" * 4096).status_code == 200


def test_an_output_that_says_no_length_is_cut_at_the_limit(submitted):
    task = submitted.task
    signed = BANK.says("task.output", {"task": task, "digest": sha256(b"x" * 5000)})
    answer = submitted.client.put(
        f"/v1/tasks/{task}/outputs/{BANK.address}",
        content=(b"x" * 1000 for _ in range(5)),
        headers=header(signed),
    )
    assert problem(answer) == (413, "RequestTooLarge")
    assert submitted.files() == []


def test_a_full_disk_is_named_and_leaves_nothing(submitted):
    def full(_descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    submitted.sync = full
    assert problem(submitted.put()) == (507, "StorageFull")
    assert submitted.files() == []
    assert submitted.scheduler.store.outputs(submitted.task) == []
    submitted.sync = os.fsync
    assert submitted.put().status_code == 200


def test_an_output_altered_on_disk_is_not_served(submitted):
    submitted.put()
    (path,) = submitted.files()
    path.write_bytes(SEALED[:-1] + b"!")
    assert problem(submitted.get()) == (500, "OutputDamaged")


def test_only_the_requester_fetches(submitted):
    submitted.put()
    assert problem(submitted.get(by=BANK)) == (403, "NotTheSpeaker")
    assert problem(submitted.get(by=STRANGER)) == (403, "NotTheSpeaker")


def test_an_output_that_has_not_come_is_not_found(submitted):
    assert problem(submitted.get()) == (404, "OutputNotFound")


def test_outputs_survive_a_restart(submitted):
    submitted.put()
    submitted.restart()
    assert submitted.get().content == SEALED


def test_nothing_is_delivered_or_fetched_after_the_outputs_were_deleted(submitted):
    submitted.put()
    submitted.chain.tasks[submitted.task] = Record(TaskState.CANCELLED)
    scheduler = submitted.scheduler
    chase.chase(scheduler.store, submitted.chain, Times(), NOW)
    chase.purge(scheduler.store, scheduler.files, Times(), UnixSeconds(NOW + 31 * 86_400))
    assert problem(submitted.get()) == (410, "TaskOver")
    assert problem(submitted.put()) == (410, "TaskOver")


# What is shown


def test_a_task_is_shown_as_the_chain_has_it(submitted):
    submitted.put()
    submitted.chain.tasks[submitted.task] = Record(TaskState.RUNNING, 7, 7, 1)
    shown = submitted.client.get(f"/v1/tasks/{submitted.task}").json()
    assert (shown["state"], shown["fresh"], shown["over"]) == ("running", True, False)
    assert [each["finished"] for each in shown["parties"]] == [True, False, False]
    assert shown["parties"][0]["output"] == sha256(SEALED)


def test_a_task_is_shown_as_last_seen_while_the_chain_is_down(submitted):
    submitted.chain.tasks[submitted.task] = Record(TaskState.RUNNING)
    submitted.client.get(f"/v1/tasks/{submitted.task}")
    submitted.chain.down = ChainUnreachable("http://x", "refused")
    shown = submitted.client.get(f"/v1/tasks/{submitted.task}").json()
    assert (shown["state"], shown["fresh"]) == ("running", False)


# Requests that are no requests


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'{"a":1,"a":2}', b"[" * 70 + b"]" * 70, b'{"statement": NaN}', b"\xff"],
)
def test_bytes_that_are_no_statement_are_refused(world, body):
    for path in ("/v1/nodes", "/v1/tasks", "/v1/plans"):
        assert problem(world.client.post(path, content=body)) == (400, "MalformedRequest")


def test_a_document_that_is_too_large_is_refused(world):
    answer = world.client.post("/v1/tasks", content=b"x" * (600 << 10))
    assert problem(answer) == (413, "RequestTooLarge")


@pytest.mark.parametrize("path", ["/v1/tasks/0xAB", "/v1/tasks/..%2F..%2Fetc/outputs/x", "/v1/tasks/0x12"])
def test_an_address_that_names_no_task_is_refused(world, path):
    assert world.client.get(path).status_code in (400, 404)


@pytest.mark.parametrize("text", [None, "", "!!!", "e30=", "x" * 9000])
def test_a_delivery_without_a_readable_statement_is_refused(submitted, text):
    headers = {} if text is None else {"X-Sealtrace-Statement": text}
    answer = submitted.client.put(
        f"/v1/tasks/{submitted.task}/outputs/{BANK.address}", content=b"x", headers=headers
    )
    assert problem(answer) == (400, "MalformedRequest")


def test_who_asks_too_often_is_told_to_wait(world):
    world.limits = {"requests_per_second": 0.001, "burst": 2}
    world.restart()
    assert [world.client.get("/v1/nodes").status_code for _ in range(3)] == [200, 200, 429]


def test_every_address_is_in_the_description(world):
    paths = world.client.get("/openapi.json").json()["paths"]
    assert {
        "/v1/nodes",
        "/v1/plans",
        "/v1/tasks",
        "/v1/tasks/{task}",
        "/v1/tasks/{task}/introduction",
        "/v1/tasks/{task}/outputs/{party}",
        "/v1/tasks/{task}/statements",
        "/v1/tasks/{task}/statements/{digest}",
        "/v1/tasks/{task}/metrics",
        "/v1/tasks/{task}/metrics/{number}",
        "/v1/health",
    } <= set(paths)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 404), ("GET", "/v1/tasks/a%2Fb%2Fc%2Fd", 404), ("DELETE", "/v1/health", 405)],
)
def test_an_address_or_method_that_is_not_served_is_a_problem(world, method, path, status):
    answer = world.client.request(method, path)
    assert problem(answer) == (status, "NoSuchRoute")
    assert answer.json()["status"] == status
    assert answer.json()["next"]
