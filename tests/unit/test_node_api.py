"""The node's API: tokens and roles, problems, documented errors, and what each route does."""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import replace

import enclave_fakes
import pytest
from eth_account import Account
from fastapi.testclient import TestClient
from node_world import ALGORITHM, GRANT, LAB, OTHER, World
from scheduler_fakes import h as digest_of
from typer.testing import CliRunner

from sealtrace.algorithms.bundles import load, shipped
from sealtrace.auditor.statements import Folder, collect
from sealtrace.contracts.events import ChainEvent
from sealtrace.contracts.sender import Mined
from sealtrace.node import cli
from sealtrace.node.api.app import build
from sealtrace.node.directory import Layout
from sealtrace.node.errors import ChainUnavailable, NodeError
from sealtrace.node.evidence import EvidenceLog
from sealtrace.node.gateway.certificates import create_certificate, pem_to_der
from sealtrace.node.gateway.control import GatewayUnavailable
from sealtrace.node.operations import Operations, TokenRole
from sealtrace.node.policies import policy_of_body
from sealtrace.node.ports import Done, Reverted
from sealtrace.node.settings import ChainSection, Settings
from sealtrace.node.wiring import Node
from sealtrace.protocol.attestation.policy import MAX_POLICY_BYTES, read_policy
from sealtrace.protocol.canonical import canonical, sha256
from sealtrace.protocol.identifiers import Address, UnixSeconds
from sealtrace.protocol.lifecycle import TaskState
from sealtrace.protocol.records import BlockRef, Checkpoint, GrantStatus, protections_of
from sealtrace.protocol.security import in_words
from sealtrace.protocol.statements import Signed, signer_of

KEY = b"\x02" * 32
ME = Address(Account.from_key(KEY).address.lower())
BLOCK = BlockRef(7, sha256(b"7"), UnixSeconds(1_000_000))


class FakeChain:
    def __init__(self, world):
        self.world, self.down = world, False

    def __getattr__(self, name):
        if self.down:
            raise ChainUnavailable("no answer")
        return getattr(self.world.ledger, name)

    def grant(self, grant, *, at):
        return self.world.facts.grants[GRANT]

    def checkpoint(self, node, *, at):
        return Checkpoint(ME, 0, sha256(b""))

    def node(self, node, *, at):
        return replace(next(iter(self.world.facts.nodes.values())), address=node)


class FakeActs:
    def __init__(self):
        self.sent, self.error = [], None

    def send(self, intent, call):
        if self.error is not None:
            raise self.error
        self.sent.append(call.function)
        event = ChainEvent(
            name="GrantIssued",
            contract="GrantRegistry",
            address=ME,
            args={"grant": GRANT},
            block_number=7,
            block_hash=BLOCK.hash,
            timestamp=None,
            transaction=sha256(b"tx"),
            log_index=0,
        )
        return Mined(sha256(b"tx"), BLOCK, 1, [event])

    def stop(self, task, terms):
        self.sent.append("stop")
        return Done(sha256(b"tx"), BLOCK)


class NoGateway:
    def close(self, task, *, left=None):
        raise GatewayUnavailable("not running")


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


@pytest.fixture
def node(world, tmp_path):
    settings = Settings(
        name="bank",
        address=ME,
        scheduler_url="http://127.0.0.1:1",
        redis_url="redis://127.0.0.1:1/0",
        data_dirs=[tmp_path / "data"],
        chain=ChainSection(rpc_url="http://127.0.0.1:1", chain_id=1, directory=ME),
    )
    (tmp_path / "node").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "node" / "bundles").mkdir()
    (tmp_path / "node" / "vault").mkdir()
    found = Node(Layout(tmp_path / "node"), settings)
    vars(found).update(  # what cached properties would have made
        key=KEY,
        store=world.store,
        chain=FakeChain(world),
        acts=FakeActs(),
        gateway=NoGateway(),
        evidence=EvidenceLog(tmp_path / "log", ME),
    )
    return found


@pytest.fixture
def client(node):
    return TestClient(build(Operations(node)), raise_server_exceptions=False)


@pytest.fixture
def operator(node):
    return bearer(Operations(node).add_token("ops", TokenRole.OPERATOR))


@pytest.fixture
def reader(node):
    return bearer(Operations(node).add_token("eyes", TokenRole.READER))


def bearer(token):
    return {"authorization": f"Bearer {token}"}


def is_problem(answer, status, name):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert set(body) == {"type", "title", "status", "detail", "next"}
    assert body["type"] == f"urn:sealtrace:problem:{name}"
    assert body["next"]


def test_health_says_what_does_not_answer_and_needs_no_token(client):
    body = client.get("/v1/health").json()
    assert body["status"] == "degraded"
    assert body["parts"]["redis"] == {"ok": False}
    assert body["parts"]["chain"] == {"ok": True}


def routes(app):
    for path, methods in app.openapi()["paths"].items():
        for method, route in methods.items():
            yield method.upper(), path, route


def test_no_route_but_health_answers_without_a_token_or_with_a_wrong_one(client):
    for method, path, _ in routes(client.app):
        if path == "/v1/health":
            continue
        where = path.replace("{index}", "0").replace("{task}", LAB).replace("{", "").replace("}", "")
        for headers in ({}, bearer("st_wrong"), {"authorization": "Basic x"}):
            is_problem(client.request(method, where, headers=headers, json={}), 401, "NotAuthenticated")


def test_a_reader_acts_on_nothing(client, reader, world):
    for method, path, _ in routes(client.app):
        if method != "GET":
            where = path
            for name in ("task", "grant", "dataset"):
                where = where.replace("{" + name + "}", world.task)
            is_problem(client.request(method, where, headers=reader, json={}), 403, "NotAllowed")


def test_every_route_documents_its_errors_and_every_act_has_an_example(client):
    for method, path, route in routes(client.app):
        if path == "/v1/health":
            continue
        assert "401" in route["responses"], path
        for status, answer in route["responses"].items():
            if status.startswith(("4", "5")) and status != "422":
                assert "application/problem+json" in answer["content"], (path, status)
        if method != "GET":
            assert "403" in route["responses"], path
    schemas = client.app.openapi()["components"]["schemas"]
    for name in ("AddDataset", "IssueGrant", "AddAlgorithm"):
        assert schemas[name]["examples"], name


def test_every_error_of_the_node_has_a_status_a_sentence_and_a_next_step():
    def all_of(kind):
        yield kind
        for each in kind.__subclasses__():
            yield from all_of(each)

    for kind in all_of(NodeError):
        assert kind.__doc__, kind
        assert kind.next_step, kind
        assert 400 <= kind.status < 600, kind


def test_a_dataset_is_added_listed_and_withdrawn(client, operator, reader, tmp_path, node):
    (tmp_path / "data" / "people.csv").write_text("id,age\n1,30\n")
    body = {"path": str(tmp_path / "data" / "people.csv"), "name": "people", "data_class": "core"}
    added = client.post("/v1/datasets", json=body, headers=operator)
    assert added.status_code == 201, added.text
    assert added.json()["schema"]["columns"][1] == {"name": "age", "kind": "number"}
    assert added.json()["data_class"] == "core"
    assert added.json()["id"] in [each["id"] for each in client.get("/v1/datasets", headers=reader).json()]
    gone = client.delete(f"/v1/datasets/{added.json()['id']}", headers=operator)
    assert gone.json()["withdrawn"]
    assert node.acts.sent == ["register", "withdraw"]


def test_bad_datasets_are_named(client, operator, tmp_path):
    (tmp_path / "data" / "bad.csv").write_text("id,id\n1,2\n")
    for path, status, name in (
        ("/etc/passwd", 403, "PathNotAllowed"),
        ("people.csv", 403, "PathNotAllowed"),
        (str(tmp_path / "data" / "missing.csv"), 422, "DatasetUnreadable"),
        (str(tmp_path / "data" / "bad.csv"), 422, "DatasetUnreadable"),
    ):
        answer = client.post("/v1/datasets", json={"path": path}, headers=operator)
        is_problem(answer, status, name)


def order(world, **changes):
    return {
        "dataset": world.dataset,
        "algorithm": ALGORITHM,
        "requester": LAB,
        "purpose": "credit study",
        "uses": 3,
        "expires_at": 2_000_000_000,
        "protections": ["PSI_RR22"],
    } | changes


def test_a_grant_is_issued_recorded_listed_and_revoked(client, operator, reader, world, node):
    issued = client.post("/v1/grants", json=order(world), headers=operator)
    assert issued.status_code == 201, issued.text
    assert issued.json()["id"] == GRANT
    (listed,) = client.get("/v1/grants", headers=reader).json()
    for shown in (issued.json(), listed):
        assert shown["security"] == in_words(world.facts.grants[GRANT].protections)
        assert all("semi-honest" in words for words in shown["security"].values())
    assert listed["status"] == GrantStatus.ACTIVE.name.lower()
    assert client.post(f"/v1/grants/{GRANT}/revoke", headers=operator).status_code == 200
    assert node.acts.sent == ["issue", "revoke"]
    assert [node.evidence.record(i).kind for i in (1, 2)] == ["grant.issued", "grant.revoked"]


def test_a_grant_takes_the_place_of_another_in_one_step(client, operator, world, node):
    client.post("/v1/grants", json=order(world), headers=operator)
    more = {"replaces": GRANT, "participants": [OTHER], "epsilon_millionths": 5}
    again = client.post("/v1/grants", json=order(world, **more), headers=operator)
    assert again.status_code == 201, again.text
    assert (again.json()["participants"], again.json()["epsilon_millionths"]) == ([OTHER], 5)
    assert node.acts.sent == ["issue", "replace"]
    revoked = node.evidence.record(2)
    assert (revoked.kind, revoked.body["grant"]) == ("grant.revoked", GRANT)


@pytest.mark.parametrize(
    ("change", "status", "name"),
    [
        ({"replaces": "0x" + "77" * 32}, 404, "GrantNotFound"),
        ({"participants": ["bob"]}, 422, "InvalidRequest"),
        ({"protections": ["MAGIC"]}, 422, "UnknownProtection"),
        ({"protections": []}, 422, "InvalidRequest"),
        ({"uses": 0}, 422, "InvalidRequest"),
        ({"requester": "0xABC"}, 422, "InvalidRequest"),
        ({"more": 1}, 422, "InvalidRequest"),
        ({"dataset": GRANT}, 404, "DatasetNotFound"),
    ],
)
def test_bad_grants_are_named(client, operator, world, change, status, name):
    is_problem(client.post("/v1/grants", json=order(world, **change), headers=operator), status, name)


POLICY = {
    "platforms": ["tee-simulated"],
    "images": [{"kind": "software", "measurements": {"runtime": "41" * 32}}],
    "max_age_s": 600,
    "max_age_blocks": 50,
}
ENCLAVE = {"protections": ["PSI_RR22", "TEE_SIMULATED"], "policy": POLICY}


def test_a_grant_for_enclaves_carries_the_owners_policy(client, operator, reader, world, node):
    issued = client.post("/v1/grants", json=order(world, **ENCLAVE), headers=operator)
    assert issued.status_code == 201, issued.text
    kept = node.store.policy_of(GRANT)
    assert kept == policy_of_body(POLICY)
    (listed,) = client.get("/v1/grants", headers=reader).json()
    for shown in (issued.json(), listed):
        assert shown["policy_digest"] == kept.digest()
        assert policy_of_body(shown["policy"]) == kept


def test_the_evidence_log_has_the_policy_whole_and_by_its_digest_from_the_grant_on(
    client, operator, world, node
):
    client.post("/v1/grants", json=order(world, **ENCLAVE), headers=operator)
    body = node.evidence.record(1).body
    assert body["policy"] == sha256(body["policy_text"].encode())
    assert read_policy(body["policy_text"].encode()) == node.store.policy_of(GRANT)


def test_the_longest_policy_fits_into_its_grants_record(client, operator, world, node):
    advisories = ['"\\' * 100] * 150
    long = POLICY | {"refused_advisories": advisories}
    issued = client.post("/v1/grants", json=order(world, **ENCLAVE | {"policy": long}), headers=operator)
    assert issued.status_code == 201, issued.text
    assert len(node.evidence.record(1).body["policy_text"]) > MAX_POLICY_BYTES * 0.9
    longer = POLICY | {"refused_advisories": advisories * 2}
    answer = client.post("/v1/grants", json=order(world, **ENCLAVE | {"policy": longer}), headers=operator)
    is_problem(answer, 422, "PolicyInvalid")


def test_a_grant_for_no_enclave_has_no_policy_and_its_record_names_none(client, operator, world, node):
    issued = client.post("/v1/grants", json=order(world), headers=operator)
    assert issued.json()["policy"] is issued.json()["policy_digest"] is None
    assert node.store.policy_of(GRANT) is None
    assert not {"policy", "policy_text"} & set(node.evidence.record(1).body)


HARDWARE = POLICY | {
    "platforms": ["tee-hardware"],
    "images": [{"kind": "sgx", "measurements": {"mr_enclave": "41" * 32}}],
}
BOTH = POLICY | {"platforms": ["tee-simulated", "tee-hardware"]}


@pytest.mark.parametrize(
    ("protections", "policy", "name"),
    [
        (["TEE_SIMULATED"], None, "PolicyMissing"),
        (["TEE_HARDWARE", "MPC_ABY3"], None, "PolicyMissing"),
        (["PSI_RR22"], POLICY, "PolicyNotNeeded"),
        (["TEE_HARDWARE"], POLICY, "PolicyMismatch"),
        (["TEE_SIMULATED"], HARDWARE, "PolicyMismatch"),
        (["TEE_HARDWARE"], BOTH, "PolicyMismatch"),
        (["TEE_SIMULATED", "TEE_HARDWARE"], POLICY, "PolicyMismatch"),
        (["TEE_SIMULATED"], {}, "PolicyInvalid"),
        (["TEE_SIMULATED"], POLICY | {"platforms": []}, "PolicyInvalid"),
        (["TEE_HARDWARE"], POLICY | {"platforms": ["tee-hardware"]}, "PolicyInvalid"),
        (["TEE_SIMULATED"], POLICY | {"allow_debug": True}, "PolicyInvalid"),
        (["TEE_SIMULATED"], POLICY | {"max_age_s": "600"}, "PolicyInvalid"),
        (["TEE_SIMULATED"], [POLICY], "InvalidRequest"),
        (["TEE"], POLICY, "UnknownProtection"),
    ],
)
def test_a_policy_that_is_not_for_its_grant_is_named_and_nothing_is_sent(
    client, operator, world, node, protections, policy, name
):
    asked = order(world, protections=protections, policy=policy)
    is_problem(client.post("/v1/grants", json=asked, headers=operator), 422, name)
    assert (node.acts.sent, node.store.grants(), len(node.evidence)) == ([], [], 1)


def test_a_grant_keeps_the_policy_it_was_issued_under(client, operator, world, node):
    first = client.post("/v1/grants", json=order(world, **ENCLAVE, reference="a"), headers=operator)
    again = client.post("/v1/grants", json=order(world, **ENCLAVE, reference="a"), headers=operator)
    assert first.json() == again.json() | {"issued_at": first.json()["issued_at"]}
    other = ENCLAVE | {"policy": POLICY | {"max_age_s": 60}, "reference": "a"}
    answer = client.post("/v1/grants", json=order(world, **other), headers=operator)
    is_problem(answer, 409, "PolicyDiffers")
    assert node.store.policy_of(GRANT) == policy_of_body(POLICY)
    assert len(node.evidence) == 2


def test_what_the_chain_refuses_is_told_with_the_contracts_error(client, operator, world, node):
    node.acts.error = Reverted("InvalidWindow", "0 to 1")
    answer = client.post("/v1/grants", json=order(world), headers=operator)
    is_problem(answer, 409, "ChainRefused")
    assert "InvalidWindow" in answer.json()["detail"]
    is_problem(client.post(f"/v1/grants/{GRANT}/revoke", headers=operator), 404, "GrantNotFound")


def test_a_chain_that_is_down_is_named(client, reader, node):
    node.chain.down = True
    is_problem(client.get("/v1/node", headers=reader), 503, "ChainUnavailable")


def test_tasks_are_listed_shown_approved_and_stopped(client, operator, reader, world, node):
    assert [row["id"] for row in client.get("/v1/tasks", headers=reader).json()] == [world.task]
    whole = client.get(f"/v1/tasks/{world.task}", headers=reader).json()
    assert whole["on_chain"]["state"] == "authorized"
    assert whole["security"] == in_words(protections_of(whole["protections"]))
    assert whole["security"]
    assert whole["spec"]["purpose"] == "credit study"
    assert [each["role"] for each in whole["learns"]] == [
        "anybody"
    ]  # the bundle is not here, and that is said
    assert "unknown" in whole["learns"][0]["what"]
    assert client.post(f"/v1/tasks/{world.task}/approve", headers=operator).json()["approval"] == "given"
    world.ledger.state = TaskState.RUNNING
    assert client.post(f"/v1/tasks/{world.task}/stop", headers=operator).status_code == 202
    assert node.acts.sent == ["stop"]
    assert world.store.task(world.task).stop_wanted


def test_an_owner_sees_who_learns_what_in_the_words_of_the_bundle_it_holds(client, operator, reader, world):
    bundle = load(shipped()["psi"])
    client.post("/v1/algorithms", json={"path": str(bundle.folder)}, headers=operator)
    spec = json.loads(world.store.task(world.task).spec)
    for step in spec["steps"]:
        step |= {"algorithm": bundle.digest, "engine": "psi", "protocol": "RR22"}
    world.store.introduce(world.task, canonical(spec).decode(), "[]")
    said = client.get(f"/v1/tasks/{world.task}", headers=reader).json()["learns"]
    assert {each["role"]: each["what"] for each in said}["requester"] == bundle.manifest.learns["requester"]
    assert not any("ECDH" in each["role"] for each in said)


def test_a_task_that_is_unknown_or_over_is_named(client, operator, world):
    is_problem(client.post(f"/v1/tasks/{GRANT}/stop", headers=operator), 404, "TaskNotFound")
    world.store.end(world.task, "completed")
    is_problem(client.post(f"/v1/tasks/{world.task}/stop", headers=operator), 409, "TaskOver")


def test_the_evidence_is_exported_with_a_signed_checkpoint_and_the_reading_is_recorded(client, reader, node):
    answer = client.get("/v1/evidence", headers=reader)
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["kind"] for line in lines] == ["node.opened", "evidence.read"]
    assert lines[1]["body"]["by"] == "eyes"
    signed = Signed.model_validate_json(base64.urlsafe_b64decode(answer.headers["x-sealtrace-checkpoint"]))
    assert signer_of(signed) == ME
    assert signed.statement.body["size"] == 2
    assert signed.statement.body["root"] == node.evidence.root(2)


def test_one_record_is_shown_with_its_proof(client, reader):
    body = client.get("/v1/evidence/0", headers=reader).json()
    assert json.loads(body["record"])["index"] == 0
    assert len(body["inclusion"]) == 1
    is_problem(client.get("/v1/evidence/99", headers=reader), 404, "RecordNotFound")


def test_bundles_are_added_and_listed(client, operator, reader):
    folder = shipped()["psi"]
    added = client.post("/v1/algorithms", json={"path": str(folder)}, headers=operator)
    assert added.status_code == 201, added.text
    assert added.json()["digest"] == load(folder).digest
    assert client.get("/v1/algorithms", headers=reader).json()[0]["intact"]
    bad = client.post("/v1/algorithms", json={"path": str(folder), "digest": GRANT}, headers=operator)
    is_problem(bad, 422, "BundleInvalid")


def test_a_token_is_not_in_the_database(node, world):
    token = Operations(node).add_token("ops", TokenRole.OPERATOR)
    with world.store.engine.connect() as connection:
        rows = connection.exec_driver_sql("select * from tokens").fetchall()
    assert token not in str(rows)


def test_a_body_that_no_route_needs_is_not_read(client, operator):
    answer = client.post("/v1/grants", content=b"x" * (2 << 20), headers=operator)
    is_problem(answer, 413, "BodyTooLarge")
    endless = client.post("/v1/grants", content=iter([b"x"]), headers=operator)
    is_problem(endless, 413, "BodyTooLarge")


def test_a_body_that_does_not_come_is_not_waited_for(client, monkeypatch):
    monkeypatch.setattr("sealtrace.node.api.app.BODY_SECONDS", 0.05)
    scope = {"type": "http", "method": "POST", "path": "/v1/grants", "headers": [(b"content-length", b"9")]}
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(client.app(scope, asyncio.Event().wait, send))
    assert sent[0]["status"] == 408
    assert json.loads(sent[1]["body"])["type"] == "urn:sealtrace:problem:BodyTooSlow"


@pytest.mark.parametrize("body", [b"[" * 100_000, b"\xff", b"1" * 5000])
def test_a_body_that_is_no_json_is_named_so(client, operator, body):
    headers = {**operator, "content-type": "application/json"}
    is_problem(client.post("/v1/grants", content=body, headers=headers), 422, "InvalidRequest")


def test_a_record_beyond_every_log_is_not_looked_for(client, reader):
    is_problem(client.get(f"/v1/evidence?first={10**22}", headers=reader), 422, "InvalidRequest")
    is_problem(client.get(f"/v1/evidence/{10**22}", headers=reader), 422, "InvalidRequest")


def test_an_unknown_address_is_a_problem_too(client):
    is_problem(client.get("/v1/nothing"), 404, "NoSuchRoute")
    is_problem(client.delete("/v1/health"), 405, "NoSuchRoute")


SPEC = enclave_fakes.tee_spec()
STATED = enclave_fakes.shown(digest_of(5), SPEC, enclave_fakes.begun(SPEC))


@pytest.fixture
def stating(node):
    """The node, which keeps one statement of an enclave, and one that is just being written."""
    pem, _ = create_certificate(ME)
    node.layout.tls_certificate.write_bytes(pem)
    node.layout.statements.mkdir()
    (node.layout.statements / f"{STATED.digest}.json").write_bytes(STATED.document())
    (node.layout.statements / f".{STATED.digest}.part").write_bytes(b"half")
    return pem_to_der(pem.decode())


def test_statements_of_enclaves_are_listed_and_given_and_each_reading_is_recorded(
    client, reader, node, stating
):
    listed = client.get("/v1/statements", headers=reader).json()
    size = len(STATED.document())
    assert listed == {
        "certificate": stating.hex(),
        "statements": [{"digest": STATED.digest, "bytes": size}],
    }
    given = client.get(f"/v1/statements/{STATED.digest}", headers=reader)
    assert given.content == STATED.document()
    said = [node.evidence.record(index) for index in (1, 2)]
    assert {each.kind for each in said} == {"evidence.read"}
    assert [each.body for each in said] == [
        {"by": "eyes", "statements": "all"},
        {"by": "eyes", "statements": STATED.digest},
    ]


def test_a_statement_that_is_not_kept_is_not_found_and_no_reading_is_recorded(client, reader, node, stating):
    is_problem(client.get(f"/v1/statements/{digest_of(9)}", headers=reader), 404, "StatementNotFound")
    is_problem(client.get("/v1/statements/..%2fkey", headers=reader), 404, "NoSuchRoute")
    is_problem(client.get("/v1/statements/key", headers=reader), 422, "InvalidRequest")
    assert len(node.evidence) == 1


def test_who_has_no_token_reads_no_statement(client, stating):
    is_problem(client.get("/v1/statements"), 401, "NotAuthenticated")
    is_problem(client.get(f"/v1/statements/{STATED.digest}"), 401, "NotAuthenticated")


def test_exported_statements_are_what_an_auditor_reads(node, stating, tmp_path):
    Operations(node).export_statements("the command line", tmp_path / "out")
    found = collect([STATED.digest], [Folder(tmp_path / "out")])
    assert found.found == {STATED.digest: STATED}
    assert found.certificates[sha256(stating)] == stating
    assert node.evidence.record(1).body == {"by": "the command line", "statements": "all"}


def test_the_command_line_exports_statements_and_says_where(node, stating, tmp_path, monkeypatch):
    monkeypatch.setattr(cli, "_operations", lambda directory: Operations(node))
    words = ["statements", "export", "--out", str(tmp_path / "out"), "--json"]
    done = CliRunner().invoke(cli.app, words, catch_exceptions=False)
    assert json.loads(done.output) == {"folder": str(tmp_path / "out"), "statements": 1}
    assert {each.name for each in (tmp_path / "out").iterdir()} == {
        f"{STATED.digest}.json",
        f"{sha256(stating)}.der",
    }
