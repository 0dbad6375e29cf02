"""The auditor's service without a chain: its settings, tokens, audits, limits and daily schedule."""

import asyncio
import base64
import hashlib
import json
import stat
import subprocess
import sys
import threading
import time

import pytest
from auditor_story import honest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from sealtrace.auditor import carrying
from sealtrace.auditor.api import READS_HEADER, create_app
from sealtrace.auditor.audit import audit
from sealtrace.auditor.carrying import AUDITS, AuditDied, in_process
from sealtrace.auditor.cli import app
from sealtrace.auditor.inquiry import Stage
from sealtrace.auditor.jobs import OPEN, ArtefactAltered, AuditNotFound, Jobs, State, Wanted
from sealtrace.auditor.reads import LOG, head, stored
from sealtrace.auditor.schedule import DAY_S, MAX_TRIES, Daily, due, latest, seconds_of
from sealtrace.auditor.service import ServiceRunning, opened
from sealtrace.auditor.settings import READS, ChainTable, SettingsUnusable, create, read_settings
from sealtrace.auditor.tokens import TokenNameUnusable, TokenNotFound, Tokens, TokensUnreadable
from sealtrace.protocol.identifiers import hex32
from sealtrace.protocol.merkle import BadProof, verify_consistency

CHAIN = ChainTable(rpc_url="http://127.0.0.1:1", chain_id=7, directory="0x" + "d0" * 20)


# settings


def test_settings_are_created_once_and_hold_no_token(tmp_path):
    token = create(tmp_path, CHAIN)
    written = "".join(path.read_text() for path in tmp_path.iterdir())
    assert token not in written
    assert read_settings(tmp_path).chain == CHAIN
    with pytest.raises(SettingsUnusable, match="there already"):
        create(tmp_path, CHAIN)


@pytest.mark.parametrize("text", ["", "[chain]\nport = 1", "colour = 'red'", "[", "\xff"])
def test_malformed_settings_are_named(tmp_path, text):
    (tmp_path / "auditor.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(SettingsUnusable):
        read_settings(tmp_path)


@pytest.mark.parametrize("at", ["24:00", "3:30", "03:60", "03:30:00", "noon"])
def test_a_time_of_day_that_is_none_is_named(tmp_path, at):
    create(tmp_path, CHAIN)
    with (tmp_path / "auditor.toml").open("a") as file:
        file.write(f'[schedule]\nat = "{at}"\n')
    with pytest.raises(SettingsUnusable, match="at"):
        read_settings(tmp_path)


def test_missing_settings_say_what_to_do(tmp_path):
    with pytest.raises(SettingsUnusable, match="audit init"):
        read_settings(tmp_path / "none")


# tokens


def test_each_regulator_has_a_token_and_a_revoked_one_is_nobodys(tmp_path):
    tokens = Tokens(tmp_path, clock=lambda: 5)
    secrets = {name: tokens.add(name) for name in ("north", "south")}
    assert {tokens.who(secret) for secret in secrets.values()} == {"north", "south"}
    tokens.revoke("north")
    assert [tokens.who(secrets[name]) for name in ("north", "south")] == [None, "south"]
    assert [each.revoked_at for each in tokens.all()] == [5, None]


def test_a_tokens_file_holds_digests_and_is_its_owners_alone(tmp_path):
    secret = Tokens(tmp_path).add("north")
    path = tmp_path / "tokens.json"
    assert secret not in path.read_text()
    assert hashlib.sha256(secret.encode()).hexdigest() in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_name_is_given_once_even_after_it_was_revoked(tmp_path):
    tokens = Tokens(tmp_path)
    tokens.add("north")
    tokens.revoke("north")
    for name in ("north", "schedule", "service", "", "a b", "../x", "x" * 65, "new\nline"):
        with pytest.raises(TokenNameUnusable):
            tokens.add(name)
    assert [each.name for each in tokens.all()] == ["north"]
    with pytest.raises(TokenNotFound):
        tokens.revoke("nobody")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"tokens":[{"name":"a"}]}', '{"tokens":[],"tokens":[]}'])
def test_a_spoilt_tokens_file_admits_nobody(tmp_path, text):
    (tmp_path / "tokens.json").write_text(text)
    with pytest.raises(TokensUnreadable):
        Tokens(tmp_path).who("anything")


@given(st.text(max_size=2000))
def test_no_other_text_is_a_token(tmp_path_factory, text):
    folder = tmp_path_factory.getbasetemp() / "tokens"
    folder.mkdir(exist_ok=True)
    tokens = Tokens(folder)
    if not tokens.all():
        tokens.add("north")
    assert tokens.who(text) is None


def test_tokens_are_made_listed_and_revoked_by_the_command(tmp_path):
    create(tmp_path, CHAIN, "north")
    call = lambda *words: CliRunner().invoke(app, ["token", *words, "--dir", str(tmp_path), "--json"])  # noqa: E731
    secret = json.loads(call("add", "south").output)["token"]
    assert Tokens(tmp_path).who(secret) == "south"
    assert [each["name"] for each in json.loads(call("list").output)] == ["north", "south"]
    assert call("revoke", "south").exit_code == 0
    assert Tokens(tmp_path).who(secret) is None
    refused = call("add", "south")
    assert (refused.exit_code, json.loads(refused.output)["error"]) == (3, "TokenNameUnusable")


# the service


class Played:
    """A service whose audits look at a made-up history, once they are let."""

    def __init__(self, root, monkeypatch):
        self.root, self.let, self.asked = root, threading.Event(), []
        self.secrets = {"north": create(root, CHAIN, "north"), "south": Tokens(root).add("south")}
        self.settings = read_settings(root)
        monkeypatch.setattr(carrying, "examine", self.examine)

    def run(self, folder, stop):
        while not self.let.is_set():
            if stop.wait(0.01):
                raise AuditDied("cut short")
        carrying.carry_out(self.root, folder.name)

    def examine(self, inquiry, material, told):
        told(Stage.JUDGING)
        self.asked.append(inquiry)
        if inquiry.first == 13:
            raise ConnectionError("the chain is gone")
        return audit(honest().case())

    def headers(self, name="north"):
        return {"Authorization": f"Bearer {self.secrets[name]}"}


@pytest.fixture
def played(tmp_path, monkeypatch):
    return Played(tmp_path / "auditor", monkeypatch)


@pytest.fixture
def service(played):
    with opened(played.root, played.settings, played.run) as made, TestClient(create_app(made)) as client:
        client.headers.update(played.headers())
        yield client, made, played


def wait_for(jobs, identity):
    for _ in range(1000):
        if (found := jobs.one(identity))["state"] not in OPEN:
            return found
        time.sleep(0.01)
    raise AssertionError(found)


def reads_of(played):
    return stored(played.root / READS)[1]


def test_a_regulator_asks_for_an_audit_and_fetches_its_report(service):
    client, made, played = service
    taken = client.post("/v1/audits", json={"first": 3})
    assert (taken.status_code, taken.json()["first"], taken.json()["asked_by"]) == (202, 3, "north")
    path = f"/v1/audits/{taken.json()['id']}"
    assert client.get(f"{path}/report.html").json()["title"] == "AuditNotFound"
    played.let.set()
    done = wait_for(made.jobs, taken.json()["id"])
    assert (done["result"], sorted(done["artefacts"])) == ("clean", ["report.html", "report.json"])
    report = client.get(f"{path}/report.json")
    assert report.json()["verdict"]["result"] == "clean"
    assert done["artefacts"]["report.json"]["sha256"] == "0x" + hashlib.sha256(report.content).hexdigest()
    assert client.get(f"{path}/report.html").headers["x-content-type-options"] == "nosniff"
    assert [each["id"] for each in client.get("/v1/audits").json()] == [taken.json()["id"]]


def test_an_audit_is_asked_for_with_its_options(service):
    client, made, played = service
    played.let.set()
    asked = {"first": 2, "last": 9, "checkpoint_blocks": 5, "rule": "ST-T01", "object": "blocks"}
    wait_for(made.jobs, client.post("/v1/audits", json=asked).json()["id"])
    (inquiry,) = played.asked
    parameters = inquiry.parameters
    assert (inquiry.first, inquiry.last) == (2, 9)
    assert (parameters.checkpoint_blocks, parameters.rule, parameters.object) == (5, "ST-T01", "blocks")


def test_an_audit_that_could_not_be_carried_out_says_why(service):
    client, made, played = service
    played.let.set()
    broken = wait_for(made.jobs, client.post("/v1/audits", json={"first": 13}).json()["id"])
    assert (broken["state"], broken["detail"]) == ("broken", "ConnectionError: the chain is gone")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/audits/../../etc/passwd", 404),
        ("GET", "/v1/audits/" + "0" * 32, 404),
        ("GET", "/v1/audits/" + "0" * 32 + "/..%2F..%2Ftokens.json", 404),
        ("GET", "/v1/nothing", 404),
        ("PUT", "/v1/audits", 405),
        ("GET", "/v1/reads/consistency?old=99", 404),
        ("GET", "/v1/reads/consistency", 422),
        ("GET", "/v1/audits?limit=0", 422),
    ],
)
def test_what_is_not_there_is_a_problem_document(service, method, path, status):
    answer = service[0].request(method, path)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert answer.json()["next"]


@pytest.mark.parametrize("name", ["audit.json", "progress.json", "outcome.json", "process.log"])
def test_only_artefacts_are_handed_out(service, name):
    client, made, played = service
    played.let.set()
    identity = client.post("/v1/audits", json={}).json()["id"]
    wait_for(made.jobs, identity)
    assert client.get(f"/v1/audits/{identity}/{name}").status_code == 404


def test_an_artefact_that_was_changed_is_not_handed_out(service):
    client, made, played = service
    played.let.set()
    identity = client.post("/v1/audits", json={}).json()["id"]
    wait_for(made.jobs, identity)
    path = played.root / AUDITS / identity / "report.json"
    path.write_bytes(path.read_bytes().replace(b"clean", b"CLEAN", 1))
    answer = client.get(f"/v1/audits/{identity}/report.json")
    assert (answer.status_code, answer.json()["title"]) == (500, "ArtefactAltered")
    path.unlink()
    with pytest.raises(ArtefactAltered):
        made.jobs.artefact(identity, "report.json")


@pytest.mark.parametrize(
    ("asked", "title"),
    [
        ({"colour": 1}, "MalformedRequest"),
        ({"first": -1}, "MalformedRequest"),
        ({"first": 1 << 60}, "MalformedRequest"),
        ({"formats": ["docx"]}, "MalformedRequest"),
        ({"language": "fr"}, "MalformedRequest"),
        ({"first": 9, "last": 3}, "EmptyRange"),
        ({"first": 0, "last": 10_000_000}, "RangeTooLong"),
        ({"rule": "ST-X99"}, "UnknownRule"),
    ],
)
def test_an_audit_that_cannot_be_is_refused_before_it_waits(service, asked, title):
    client, made, _ = service
    answer = client.post("/v1/audits", json=asked)
    assert (answer.status_code, answer.json()["title"]) == (422, title)
    assert made.jobs.all() == []


def test_who_has_no_token_or_a_revoked_one_learns_nothing(service):
    client, made, played = service
    for header in ("Bearer wrong", "Basic bm8=", ""):
        answer = client.get("/v1/audits", headers={"Authorization": header})
        assert (answer.status_code, answer.json()["title"]) == (401, "NotAdmitted")
        assert answer.headers["www-authenticate"] == "Bearer"
    assert client.get("/v1/health", headers={"Authorization": ""}).status_code == 200
    made.tokens.revoke("north")
    assert client.get("/v1/audits").status_code == 401
    assert client.get("/v1/audits", headers=played.headers("south")).status_code == 200


def test_a_body_that_no_route_needs_is_not_read(service):
    for body in (b"x" * 5000, iter([b"x"])):
        answer = service[0].post("/v1/audits", content=body)
        assert (answer.status_code, answer.json()["title"]) == (413, "BodyTooLarge")


def test_a_body_that_does_not_come_is_not_waited_for(service, monkeypatch):
    monkeypatch.setattr("sealtrace.auditor.api.BODY_SECONDS", 0.05)
    scope = {"type": "http", "method": "POST", "path": "/v1/audits", "headers": [(b"content-length", b"9")]}
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(service[0].app(scope, asyncio.Event().wait, send))
    assert (sent[0]["status"], json.loads(sent[1]["body"])["title"]) == (408, "BodyTooSlow")


def test_audits_waiting_are_bounded(service):
    client, _, _ = service
    answers = [client.post("/v1/audits", json={"first": each}).status_code for each in range(18)]
    assert answers == [202] * 16 + [429] * 2


def test_pages_are_in_the_language_that_is_asked_for(service):
    client, made, played = service
    played.let.set()
    asked = {"formats": ["html", "json"], "language": "zh"}
    identity = client.post("/v1/audits", json=asked).json()["id"]
    assert wait_for(made.jobs, identity)["language"] == "zh"
    assert 'lang="zh-Hans"' in client.get(f"/v1/audits/{identity}/report.html").text
    assert client.get(f"/v1/audits/{identity}/report.json").json()["verdict"]["sentence"].isascii()


def test_pages_for_which_there_is_no_font_are_refused_before_the_audit_waits(played, tmp_path):
    settings = played.settings.model_copy(update={"fonts": str(tmp_path)})
    with opened(played.root, settings, played.run) as made:
        client = TestClient(create_app(made), headers=played.headers("north"))
        answer = client.post("/v1/audits", json={"formats": ["pdf"], "language": "zh"})
        assert (answer.status_code, answer.json()["title"]) == (501, "FontMissing")
        assert made.jobs.all() == []


def test_two_audits_of_the_same_blocks_do_not_run_at_once(service):
    client, made, played = service
    first = client.post("/v1/audits", json={"last": 9}).json()["id"]
    again = client.post("/v1/audits", json={"last": 9, "formats": ["json"]})
    assert (again.status_code, again.json()["title"]) == (409, "AuditUnderWay")
    assert first in again.json()["detail"]
    played.let.set()
    wait_for(made.jobs, first)
    assert client.post("/v1/audits", json={"last": 9}).status_code == 202


def test_the_interface_describes_itself_with_its_problems(service):
    described = service[0].get("/openapi.json").json()
    post = described["paths"]["/v1/audits"]["post"]
    assert "AuditUnderWay" in post["responses"]["409"]["description"]
    assert set(post["responses"]) == {"202", "401", "409", "422", "429", "501"}
    assert {"HTTPBearer": []} in post["security"]
    wanted = described["components"]["schemas"]["Wanted"]["properties"]
    assert set(wanted) == set(Wanted.model_fields)
    assert all(each["description"] for each in wanted.values())


# every read is logged


def test_every_read_is_logged_with_who_what_and_the_digest_of_what_was_given(service):
    client, made, played = service
    played.let.set()
    identity = client.post("/v1/audits", json={}).json()["id"]
    wait_for(made.jobs, identity)
    path = f"/v1/audits/{identity}/report.html"
    given = client.get(path, headers=played.headers("south"))
    missing = client.get("/v1/audits/none?x=1")
    asked, read, failed = reads_of(played)
    assert (asked.who, asked.what, asked.status) == ("north", "POST /v1/audits", 202)
    assert (read.who, read.what, read.status) == ("south", f"GET {path}", 200)
    assert (read.sha256, read.size) == (hex32(hashlib.sha256(given.content).digest()), len(given.content))
    assert (failed.what, failed.status) == ("GET /v1/audits/none?x=1", 404)
    assert failed.sha256 == hex32(hashlib.sha256(missing.content).digest())
    value = base64.b64encode(hashlib.sha256(given.content).digest()).decode()
    assert given.headers["content-digest"] == f"sha-256=:{value}:"


def test_a_part_of_an_artefact_is_never_given_for_the_whole(service):
    client, made, played = service
    played.let.set()
    identity = client.post("/v1/audits", json={}).json()["id"]
    wait_for(made.jobs, identity)
    path = f"/v1/audits/{identity}/report.json"
    part, whole = client.get(path, headers={"Range": "bytes=0-9"}), client.get(path)
    assert (part.status_code, part.content) == (200, whole.content)


def test_who_was_not_admitted_is_given_nothing_and_fills_no_log(service):
    client, _, played = service
    client.get("/v1/audits", headers={"Authorization": "Bearer wrong"})
    client.get("/v1/health")
    assert reads_of(played) == []


def test_every_answer_tells_the_head_of_the_log_and_one_follows_from_the_other(service):
    client, _, played = service
    heads = [head(client.get("/v1/audits").headers[READS_HEADER]) for _ in range(5)]
    assert [each.size for each in heads] == [1, 2, 3, 4, 5]
    assert stored(played.root / READS, heads)[0] == heads[-1]
    proof = client.get("/v1/reads/consistency", params={"old": 3}).json()
    as_bytes = lambda text: bytes.fromhex(text[2:])  # noqa: E731
    nodes = [as_bytes(each) for each in proof["proof"]]
    verify_consistency(3, proof["size"], as_bytes(heads[2].root), as_bytes(proof["root"]), nodes)
    with pytest.raises(BadProof):
        verify_consistency(3, proof["size"], as_bytes(heads[1].root), as_bytes(proof["root"]), nodes)


def test_what_cannot_be_logged_is_not_given(service):
    client, _, played = service
    (played.root / READS / LOG).mkdir()
    answer = client.get("/v1/audits")
    assert (answer.status_code, answer.json()["title"]) == (507, "ReadsUnwritable")
    assert READS_HEADER not in answer.headers


def test_a_log_that_somebody_changed_meanwhile_stops_all_reading(service):
    client, _, played = service
    client.get("/v1/audits")
    with (played.root / READS / LOG).open("ab") as file:
        file.write(b"{}\n")
    answer = client.get("/v1/audits")
    assert (answer.status_code, answer.json()["title"]) == (500, "ReadsTampered")


# stops and restarts


def test_an_audit_cut_short_by_a_stop_is_said_to_be(played):
    with opened(played.root, played.settings, played.run) as made:
        running = made.jobs.begin(Wanted(), "north")["id"]
        waiting = made.jobs.begin(Wanted(first=1), "north")["id"]
        while made.jobs.one(running)["state"] != State.RUNNING:
            time.sleep(0.01)
    with opened(played.root, played.settings, played.run) as made:
        for identity in (running, waiting):
            found = made.jobs.one(identity)
            assert (found["state"], found["detail"]) == ("interrupted", "the service was stopped; ask again")
        with pytest.raises(AuditNotFound):
            made.jobs.one("../secret")


def test_an_audit_that_a_killed_service_left_running_is_marked_by_the_next(tmp_path):
    folder = tmp_path / ("a" * 32)
    folder.mkdir()
    entry = {"id": "a" * 32, "state": "running", "asked_at": 1, "first": None, "last": None}
    (folder / "audit.json").write_text(json.dumps(entry))
    (tmp_path / "not an audit").mkdir()
    jobs = Jobs(tmp_path, lambda folder, stop: None)
    assert [each["state"] for each in jobs.all()] == ["interrupted"]
    assert json.loads((folder / "audit.json").read_text())["state"] == "interrupted"
    jobs.close()


def test_one_folder_has_one_service(played):
    with (
        opened(played.root, played.settings, played.run),
        pytest.raises(ServiceRunning),
        opened(played.root, played.settings, played.run),
    ):
        pass
    with opened(played.root, played.settings, played.run):
        pass


def test_a_running_audit_tells_its_progress(played, monkeypatch):
    seen, go = threading.Event(), threading.Event()

    def examine(inquiry, material, told):
        told(Stage.READING)
        seen.set()
        go.wait(10)
        return audit(honest().case())

    monkeypatch.setattr(carrying, "examine", examine)
    played.let.set()
    with opened(played.root, played.settings, played.run) as made:
        identity = made.jobs.begin(Wanted(), "north")["id"]
        seen.wait(10)
        assert made.jobs.one(identity)["progress"] == {"stage": "reading blocks", "step": 2, "of": 7}
        go.set()
        assert "progress" not in wait_for(made.jobs, identity)


# a process of its own


def begun(root, wanted=None, **how):
    jobs = Jobs(root / AUDITS, in_process(root, how.get("timeout_s", 60)))
    return jobs, jobs.begin(wanted or Wanted(), "north")["id"]


def test_an_audit_runs_in_a_process_of_its_own_and_its_error_comes_back(tmp_path):
    create(tmp_path, CHAIN)
    jobs, identity = begun(tmp_path)
    found = wait_for(jobs, identity)
    assert found["state"] == "broken"
    assert found["detail"].startswith("ChainUnreachable: ")
    jobs.close()


def test_a_process_that_takes_too_long_is_ended(tmp_path):
    create(tmp_path, CHAIN)
    jobs, identity = begun(tmp_path, timeout_s=0.05)
    assert wait_for(jobs, identity)["detail"] == "AuditDied: it took over 0.05 s"
    jobs.close()


def test_a_process_that_dies_leaves_no_audit_running(tmp_path, monkeypatch):
    create(tmp_path, CHAIN)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    jobs, identity = begun(tmp_path)
    assert wait_for(jobs, identity)["detail"] == "AuditDied: its process ended with 1"
    jobs.close()


def test_an_audits_process_ends_when_the_service_is_gone():
    program = "from sealtrace.auditor.carrying import *; end_with_the_service(); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE)
    process.stdin.close()
    assert process.wait(30) == 4


# the daily schedule


AT, MOMENT = "03:30", 20_000 * DAY_S + seconds_of("03:30")


def begun_at(moment, state="done"):
    return {"scheduled_for": moment, "state": state}


def test_a_daily_audit_is_due_once_for_each_day():
    assert due(AT, MOMENT - 1, [begun_at(MOMENT - DAY_S)]) is None
    assert due(AT, MOMENT, [begun_at(MOMENT - DAY_S)]) == MOMENT
    assert due(AT, MOMENT + 1, [begun_at(MOMENT)]) is None
    for state in State:
        expected = MOMENT if state is State.INTERRUPTED else None
        assert due(AT, MOMENT + 1, [begun_at(MOMENT, state)]) == expected


def test_of_many_missed_days_one_audit_is_made_up_for():
    assert due(AT, MOMENT + 9 * DAY_S + 5, [begun_at(MOMENT)]) == MOMENT + 9 * DAY_S
    assert due(AT, MOMENT + 9 * DAY_S + 5, [begun_at(MOMENT), begun_at(MOMENT + 9 * DAY_S)]) is None


def test_an_audit_that_every_restart_cuts_short_is_given_up_for_that_day():
    tries = [begun_at(MOMENT, "interrupted")] * MAX_TRIES
    assert due(AT, MOMENT + 60, tries) is None
    assert due(AT, MOMENT + DAY_S, tries) == MOMENT + DAY_S


@given(st.integers(0, 1 << 40), st.integers(0, 23), st.integers(0, 59))
def test_the_latest_moment_is_within_the_last_day_and_at_its_time(now, hour, minute):
    moment = latest(f"{hour:02}:{minute:02}", now)
    assert now - DAY_S < moment <= now
    assert moment % DAY_S == hour * 3600 + minute * 60


def test_the_daily_audit_survives_restarts_and_never_runs_beside_one_of_the_same_blocks(tmp_path):
    go, clock = threading.Event(), [MOMENT]

    def run(folder, stop):
        while not (go.is_set() or stop.wait(0.01)):
            pass
        if go.is_set():
            (folder / "outcome.json").write_text('{"result": "clean"}')

    def made():
        jobs = Jobs(tmp_path, run, clock=lambda: clock[0])
        return jobs, Daily(jobs, AT, Wanted(), clock=lambda: clock[0])

    jobs, daily = made()
    jobs.begin(Wanted(), "north")  # somebody asked for the same blocks: the daily one waits
    assert daily.look() is None
    jobs.close()
    jobs, daily = made()
    first = daily.look()
    assert (first["asked_by"], first["scheduled_for"]) == ("schedule", MOMENT)
    assert daily.look() is None
    jobs.close()
    clock[0] += 60
    jobs, daily = made()
    go.set()
    again = daily.look()
    assert again["scheduled_for"] == MOMENT  # the first was cut short
    wait_for(jobs, again["id"])
    clock[0] += DAY_S
    assert wait_for(jobs, daily.look()["id"])["scheduled_for"] == MOMENT + DAY_S
    jobs.close()


def test_a_service_with_a_schedule_begins_what_is_due_by_itself(played):
    with (played.root / "auditor.toml").open("a") as file:
        file.write('[schedule]\nat = "03:30"\nformats = ["json"]\nlanguage = "zh"\n')
    played.let.set()
    settings = read_settings(played.root)
    with opened(played.root, settings, played.run, clock=lambda: MOMENT + 7) as made:
        for _ in range(1000):
            if made.jobs.all():
                break
            time.sleep(0.01)
        (entry,) = made.jobs.all()
        done = wait_for(made.jobs, entry["id"])
    assert (done["scheduled_for"], list(done["artefacts"])) == (MOMENT, ["report.json"])
    assert done["language"] == "zh"
