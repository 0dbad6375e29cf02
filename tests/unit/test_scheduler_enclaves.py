"""What the scheduler keeps of an enclave, over its API and through the node's client."""

from __future__ import annotations

import base64

import httpx
import pytest
from enclave_fakes import HOST, begun, ended, shown, tee_document, tee_spec
from fastapi.testclient import TestClient
from scheduler_fakes import LAB, NOW, PARTIES, STRANGER, Record, h, header, make_chain, problem

from sealtrace.node.errors import SchedulerUnavailable
from sealtrace.node.ports import Undeliverable
from sealtrace.node.scheduling import SchedulerClient
from sealtrace.protocol.attestation.appraisal import Stage
from sealtrace.protocol.attestation.statement import MAX_STATEMENT_BYTES, read_statement
from sealtrace.protocol.canonical import canonical, sha256
from sealtrace.protocol.identifiers import UnixSeconds
from sealtrace.protocol.lifecycle import TaskState
from sealtrace.protocol.statements import Signed, signer_of
from sealtrace.scheduler import chase, enclaves
from sealtrace.scheduler.api import build
from sealtrace.scheduler.sealed_files import SealedFiles
from sealtrace.scheduler.settings import ChainSection, Limits, Settings, Times
from sealtrace.scheduler.store import Store
from sealtrace.scheduler.tasks import MAX_METRICS_BYTES
from sealtrace.scheduler.wiring import Scheduler

OWNER = PARTIES[0]
SPEC = tee_spec()


class World:
    """A scheduler that has taken one task with an enclave."""

    def __init__(self, folder):
        self.chain = make_chain()
        settings = Settings(
            chain=ChainSection(rpc_url="http://x", chain_id=1, directory="0x" + "00" * 20),
            limits=Limits(metrics_bytes=128 << 10),
        )
        self.scheduler = Scheduler(
            settings=settings,
            store=Store.open(f"sqlite:///{folder}/scheduler.db"),
            files=SealedFiles(folder / "outputs", 4096),
            connect=lambda: self.chain,
            now=lambda: NOW,
        )
        self.http = TestClient(build(self.scheduler), raise_server_exceptions=False)
        for each in PARTIES:
            self.http.post("/v1/nodes", content=canonical(each.hello().model_dump(mode="json")))
        submission = LAB.says("task.submit", {"spec": tee_document()})
        answer = self.http.post("/v1/tasks", content=canonical(submission.model_dump(mode="json")))
        assert answer.status_code == 202, answer.text
        self.task = answer.json()["task"]
        self.path = f"/v1/tasks/{self.task}"

    def statement(self, stage=Stage.RELEASE, **changes):
        events = begun(SPEC) if stage is Stage.RELEASE else ended(SPEC, h(5))
        return shown(changes.pop("task", self.task), SPEC, events, stage=stage, **changes).document()

    def put(self, content, by=HOST, **body):
        signed = by.says("task.statement", {"task": self.task, "digest": sha256(content), **body})
        path = f"{self.path}/statements/{sha256(content)}"
        return self.http.put(path, content=content, headers=header(signed))

    def put_metrics(self, number, /, sealed=b"sealed", by=HOST, **body):
        words = {"task": self.task, "number": number, "digest": sha256(sealed), **body}
        signed = by.says("task.metrics", words)
        return self.http.put(f"{self.path}/metrics/{number}", content=sealed, headers=header(signed))

    def metrics(self, by=LAB, after=None):
        query = {} if after is None else {"after": after}
        signed = by.says("task.fetch", {"task": self.task})
        return self.http.get(f"{self.path}/metrics", params=query, headers=header(signed))

    def client(self, by=HOST, alter=lambda answer: answer):
        def carry(request):
            answer = self.http.request(
                request.method, request.url.raw_path.decode(), content=request.read(), headers=request.headers
            )
            return alter(httpx.Response(answer.status_code, content=answer.content))

        return SchedulerClient(
            "http://scheduler", by.address, by.key, lambda: NOW, httpx.MockTransport(carry)
        )

    def end(self):
        self.chain.tasks[self.task] = Record(TaskState.CANCELLED)
        chase.chase(self.scheduler.store, self.chain, Times(), NOW)
        later = UnixSeconds(NOW + 31 * 86_400)
        chase.purge(self.scheduler.store, self.scheduler.files, Times(), later)


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    world.scheduler.store.close()


# Statements


def test_what_an_enclave_shows_is_there_for_all_who_know_the_task_byte_by_byte(world):
    texts = {stage: world.statement(stage) for stage in Stage}
    for text in texts.values():
        assert world.put(text).status_code == 200
    assert world.http.get(f"{world.path}/statements").json() == [
        {"digest": sha256(text), "stage": stage} for stage, text in texts.items()
    ]
    found = world.http.get(f"{world.path}/statements/{sha256(texts[Stage.FINAL])}")
    assert (found.content, found.headers["content-type"]) == (texts[Stage.FINAL], "application/json")
    assert read_statement(found.content).digest == sha256(texts[Stage.FINAL])


def test_the_same_statement_may_come_twice(world):
    assert [world.put(world.statement()).status_code for _ in range(2)] == [200, 200]
    assert len(world.http.get(f"{world.path}/statements").json()) == 1


@pytest.mark.parametrize("stage", Stage)
def test_of_each_stage_the_last_statement_is_kept(world, stage):
    world.put(world.statement(stage))
    anew = world.statement(stage, key=b"\1" * 32)
    assert world.put(anew).status_code == 200
    assert [each["digest"] for each in world.http.get(f"{world.path}/statements").json()] == [sha256(anew)]


def test_only_the_party_of_the_enclave_shows_a_statement(world):
    for other in (OWNER, LAB, STRANGER):
        assert problem(world.put(world.statement(), by=other)) == (403, "NotTheSpeaker")
    assert world.http.get(f"{world.path}/statements").json() == []


@pytest.mark.parametrize("change", [{"task": h(3)}, {"by": OWNER}, {"algorithm": h(3)}])
def test_a_statement_of_another_task_party_or_algorithm_is_refused(world, change):
    assert problem(world.put(world.statement(**change))) == (422, "EnclaveStatementRefused")
    assert world.http.get(f"{world.path}/statements").json() == []


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"no statement"])
def test_bytes_that_are_no_statement_of_an_enclave_are_refused(world, content):
    assert problem(world.put(content)) == (422, "EnclaveStatementRefused")


def test_a_statement_that_is_not_what_its_party_signed_is_refused(world):
    text = world.statement()
    assert problem(world.put(text, digest=h(5))) == (400, "MalformedRequest")
    signed = HOST.says("task.statement", {"task": world.task, "digest": h(5)})
    answer = world.http.put(f"{world.path}/statements/{h(5)}", content=text, headers=header(signed))
    assert problem(answer) == (422, "OutputDigestWrong")
    assert problem(world.put(text, task=h(3))) == (400, "MalformedRequest")


def test_a_statement_larger_than_any_is_refused(world):
    assert problem(world.put(b"x" * (MAX_STATEMENT_BYTES + 1))) == (413, "RequestTooLarge")


def test_a_statement_that_was_never_shown_is_not_found(world):
    assert problem(world.http.get(f"{world.path}/statements/{h(5)}")) == (404, "EnclaveStatementNotFound")
    assert problem(world.http.get(f"/v1/tasks/{h(5)}/statements")) == (404, "TaskNotFound")


# Metrics


def test_metrics_reach_the_requester_in_their_order_with_their_partys_word(world):
    for number in range(3):
        assert world.put_metrics(number, b"round %d" % number).status_code == 200
    told = world.metrics().json()
    assert [(each["number"], base64.b64decode(each["sealed"])) for each in told] == [
        (0, b"round 0"),
        (1, b"round 1"),
        (2, b"round 2"),
    ]
    said = Signed.model_validate(told[2]["statement"])
    assert signer_of(said) == HOST.address
    assert said.statement.body == {"task": world.task, "number": 2, "digest": sha256(b"round 2")}
    assert [each["number"] for each in world.metrics(after=1).json()] == [2]


def test_one_answer_holds_so_many_messages_and_the_next_goes_on(world):
    for number in range(enclaves.MAX_MESSAGES_TOLD + 3):
        world.put_metrics(number)
    assert len(world.metrics().json()) == enclaves.MAX_MESSAGES_TOLD
    assert len(world.metrics(after=enclaves.MAX_MESSAGES_TOLD - 1).json()) == 3


def test_the_same_message_may_come_again_and_another_under_its_number_may_not(world):
    assert [world.put_metrics(0).status_code for _ in range(2)] == [200, 200]
    assert problem(world.put_metrics(0, b"another")) == (409, "MetricsChanged")
    assert len(world.metrics().json()) == 1


def test_metrics_with_a_gap_are_refused(world):
    assert problem(world.put_metrics(1)) == (409, "MetricsOutOfOrder")
    assert world.metrics().json() == []


def test_only_the_party_of_the_enclave_brings_metrics_and_only_the_requester_gets_them(world):
    assert problem(world.put_metrics(0, by=OWNER)) == (403, "NotTheSpeaker")
    world.put_metrics(0)
    for other in (OWNER, HOST, STRANGER):
        assert problem(world.metrics(by=other)) == (403, "NotTheSpeaker")


def test_metrics_that_are_not_what_their_party_signed_are_refused(world):
    for change in ({"digest": h(5)}, {"number": 1}, {"number": False}, {"task": h(3)}):
        assert problem(world.put_metrics(0, **change)) == (400, "MalformedRequest")


def test_metrics_have_a_largest_size_and_a_largest_number(world):
    assert problem(world.put_metrics(0, b"x" * (MAX_METRICS_BYTES + 1))) == (413, "RequestTooLarge")
    assert problem(world.put_metrics(10_000)) == (400, "MalformedRequest")


def test_the_metrics_of_one_task_do_not_fill_the_disk(world, monkeypatch):
    large = b"x" * MAX_METRICS_BYTES
    assert [world.put_metrics(number, large).status_code for number in range(2)] == [200, 200]
    assert problem(world.put_metrics(2)) == (413, "TooManyMetrics")
    assert world.put_metrics(1, large).status_code == 200
    monkeypatch.setattr(enclaves, "MAX_MESSAGES", 2)
    assert problem(world.put_metrics(2, b"")) == (413, "TooManyMetrics")


def test_what_an_enclave_showed_goes_with_the_outputs_of_its_task(world):
    text = world.statement()
    world.put(text)
    world.put_metrics(0)
    world.end()
    for answer in (
        world.http.get(f"{world.path}/statements"),
        world.http.get(f"{world.path}/statements/{sha256(text)}"),
        world.metrics(),
        world.put(text),
        world.put_metrics(0),
    ):
        assert problem(answer) == (410, "TaskOver")
    store = world.scheduler.store
    assert (store.statements(world.task), store.metrics_extent(world.task)) == ([], (0, 0))


# The node's client


def test_a_node_tells_an_introduction_that_is_not_there_yet_from_no_answer(world):
    for status, found in ((404, None), (409, None), (200, {})):
        answer = httpx.Response(status, content=b"{}")
        assert world.client(alter=lambda _, answer=answer: answer).introduction(world.task) == found
    for status in (410, 500):
        gone = httpx.Response(status)
        with pytest.raises(SchedulerUnavailable, match=f"no introduction: HTTP status {status}"):
            world.client(alter=lambda _, gone=gone: gone).introduction(world.task)
    with pytest.raises(SchedulerUnavailable, match="the introduction is"):
        world.client(alter=lambda answer: replace_content(answer, b"{")).introduction(world.task)


def test_a_node_hands_over_a_statement_and_another_reads_it(world):
    assert world.client(OWNER).statement(world.task, Stage.RELEASE) is None
    assert world.client(OWNER).statement(h(5), Stage.RELEASE) is None
    world.client().put_statement(world.task, world.statement())
    assert world.client(OWNER).statement(world.task, Stage.RELEASE) == world.statement()
    assert world.client(OWNER).statement(world.task, Stage.FINAL) is None


def test_a_node_hands_over_metrics(world):
    for number in (0, 1, 1):
        world.client().put_metrics(world.task, number, b"round")
    assert len(world.metrics().json()) == 2


def test_what_the_scheduler_will_never_take_is_told_from_what_it_does_not_take_now(world):
    with pytest.raises(Undeliverable, match="403"):
        world.client(OWNER).put_statement(world.task, world.statement())
    with pytest.raises(Undeliverable, match="number 1 came where 0 is expected"):
        world.client().put_metrics(world.task, 1, b"round")
    busy = world.client(alter=lambda _answer: httpx.Response(503))
    for call in (
        lambda: busy.put_statement(world.task, world.statement()),
        lambda: busy.put_metrics(world.task, 0, b"round"),
        lambda: busy.statement(world.task, Stage.RELEASE),
    ):
        with pytest.raises(SchedulerUnavailable, match="503"):
            call()


def test_a_statement_that_was_altered_on_its_way_is_not_taken_for_the_one_listed(world):
    world.client().put_statement(world.task, world.statement())

    def alter(answer):
        return replace_content(answer, b"altered") if b"evidence" in answer.content else answer

    with pytest.raises(SchedulerUnavailable, match="came as"):
        world.client(OWNER, alter).statement(world.task, Stage.RELEASE)


@pytest.mark.parametrize("listed", [b"{", b"[1]", b'[{"stage": "release", "digest": "0x12"}]', b"1"])
def test_a_list_of_statements_that_cannot_be_read_is_no_answer(world, listed):
    client = world.client(alter=lambda answer: replace_content(answer, listed))
    with pytest.raises(SchedulerUnavailable, match="malformed"):
        client.statement(world.task, Stage.RELEASE)


def replace_content(answer, content):
    return httpx.Response(answer.status_code, content=content)
