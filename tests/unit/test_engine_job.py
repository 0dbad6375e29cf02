from __future__ import annotations

import errno
import json
import threading
import time

import numpy as np
import pytest

from sealtrace.node.engines import party, process, workplace
from sealtrace.node.engines.alignment import _kept, _mask
from sealtrace.node.engines.errors import (
    BadJob,
    DiskFull,
    EngineCrashed,
    EngineMissing,
    EngineTimeout,
    PeerFailed,
    PeerIncompatible,
    PeerUnreachable,
    ProgramMismatch,
    ProtocolViolated,
    SessionCut,
    Stopped,
)
from sealtrace.node.engines.intersection import _read, _write, positions
from sealtrace.node.engines.job import Job, read_job
from sealtrace.node.engines.link import explain
from sealtrace.node.engines.process import run_job

A, B, C = ("0x" + d * 40 for d in "123")
TASK = "0x" + "ab" * 32


def job(**changes):
    psi = {"id": "align", "algorithm": TASK, "bundle": "/b", "engine": "psi", "protocol": "RR22"}
    base = {
        "task": TASK,
        "party": A,
        "parties": (A, B),
        "computing": (A, B),
        "results": ("align",),
        "requester_key": TASK,
        "gateway_url": "http://127.0.0.1:9",
        "gateway_token": "t",
        "inputs": (
            {"name": "a", "party": A, "id_column": "id", "path": "/a.csv"},
            {"name": "b", "party": B, "id_column": "id"},
        ),
        "steps": ({**psi, "inputs": ("a", "b")},),
    }
    return Job.model_validate({**base, **changes})


def with_step(**changes):
    (step,) = job().model_dump()["steps"]
    return {"steps": ({**step, **changes},)}


def with_inputs(*changes):
    inputs = job().model_dump()["inputs"]
    return {"inputs": tuple({**i, **c} for i, c in zip(inputs, changes, strict=True))}


@pytest.mark.parametrize(
    "change",
    [
        {"party": C},
        {"parties": (A, A)},
        {"gateway_url": "http://10.0.0.1:9"},
        {"surprise": 1},
        with_inputs({}, {"name": "a"}),
        with_inputs({}, {"party": C}),
        with_inputs({"path": None}, {}),
        with_inputs({}, {"path": "/b.csv"}),
        with_step(inputs=("a",)),
        with_step(inputs=("a", "z")),
        with_step(protocol="ABY3"),
        with_step(engine="mpc", protocol="ABY3"),
        with_step(after=("later",)),
        with_step(params={"result": "everything"}),
        with_step(params={"key": [{"columns": {"a": "phone", "b": "phone"}}]}),
        {"timeouts": {"connect_ms": 0}},
    ],
)
def test_a_job_that_contradicts_itself_is_refused(change):
    with pytest.raises(ValueError, match=r"."):
        job(**change)


def test_a_job_reads_as_it_was_written(tmp_path):
    (tmp_path / "job.json").write_text(json.dumps(job().model_dump(mode="json")))
    assert read_job(tmp_path / "job.json") == job()


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"task": 1, "task": 2}', "nan"])
def test_a_malformed_job_is_refused_by_name(tmp_path, text):
    (tmp_path / "job.json").write_text(text)
    with pytest.raises(BadJob):
        read_job(tmp_path / "job.json")


def test_parties_agree_on_all_but_what_is_their_own():
    mine = job()
    theirs = job(party=B, gateway_token="other", **with_inputs({"path": None}, {"path": "/b.csv"}))
    assert mine.agreement() == theirs.agreement()
    assert mine.agreement() != job(**with_step(params={"result": "ids"})).agreement()
    assert mine.agreement() != job(requester_key="0x" + "cd" * 32).agreement()


def test_engines_that_would_do_it_in_another_way_do_not_agree(monkeypatch):
    mine = job().agreement()
    monkeypatch.setattr("sealtrace.node.engines.job.VERSION", "sealtrace.job/1")
    assert job().agreement() != mine


def test_the_token_is_not_shown():
    assert "gateway_token" not in repr(job())


def tokens(*names: str):
    return np.array(sorted(name.encode().ljust(16, b"\0") for name in names), dtype="S16")


def test_the_first_partys_mask_keeps_exactly_the_common_rows():
    shared = tokens(*(f"{i:02}" for i in range(19)))
    kept = tokens("00", "07", "08", "18")
    assert _kept(shared, _mask(shared, kept)).tolist() == kept.tolist()


def test_a_mask_over_other_rows_is_a_mismatch():
    with pytest.raises(ProgramMismatch):
        _kept(tokens("a"), _mask(tokens("a", "b"), tokens("a")))


@pytest.mark.parametrize("message", [b"", b"[]", b"{}", b'{"of": 1, "bits": "!"}'])
def test_a_malformed_mask_is_a_violation(message):
    with pytest.raises(ProtocolViolated):
        _kept(tokens("a"), message)


def test_tokens_that_begin_alike_are_found_each_at_its_own_place():
    mine = tokens("samesame1", "samesame2", "samesame3", "z")
    assert positions(mine, tokens("samesame2", "samesame3", "z")).tolist() == [1, 2, 3]


@pytest.mark.parametrize("strange", ["samesame4", "a", "zz", "{"])
def test_a_common_row_that_this_party_never_gave_is_a_violation(strange):
    with pytest.raises(ProtocolViolated):
        positions(tokens("samesame1", "samesame3", "z"), tokens(strange))


@pytest.mark.parametrize("count", [0, 1, 70_000])
def test_what_the_engine_is_given_of_tokens_reads_as_it_was_written(tmp_path, count):
    given = np.sort(
        np.random.default_rng(1).integers(0, 256, (count, 11), dtype=np.uint8).view("S11").ravel()
    )
    _write(tmp_path / "in.csv", given)
    assert (tmp_path / "in.csv").stat().st_size == len("token\n") + 16 * count
    assert _read(tmp_path / "in.csv").tobytes() == given.tobytes()


def test_the_engines_quotes_are_no_part_of_a_token_and_no_file_is_no_row(tmp_path):
    (tmp_path / "out.csv").write_text('"token"\n"//////////////8"\n"CgoKCgoKCgoKCgo"\n')
    assert _read(tmp_path / "out.csv").tobytes() == b"\x0a" * 11 + b"\xff" * 11
    assert len(_read(tmp_path / "nothing.csv")) == 0


def test_silence_is_blamed_on_the_party_that_was_awaited():
    text = "[io] Get data timeout, key=align.2@0-2:P2P-4:1->0"
    assert explain(text, (A, B, C)).peer == C


@pytest.mark.parametrize("text", ["Get data timeout, key=connect_1", "connect to mesh failed, rank=1"])
def test_a_peer_that_never_came_is_unreachable(text):
    assert isinstance(explain(text, (A, B)), PeerUnreachable)


def test_an_engines_message_is_told_by_its_first_line_that_says_something():
    found = explain("what: \n\n  \tGet data timeout, key=root-0:P2P\nStacktrace:\n#0 x", (A, B))
    assert str(found) == "the link failed: Get data timeout, key=root-0:P2P"
    assert str(explain("what:\n", (A, B))) == "the engine gave up: without a word"


class View:
    """A gateway's control interface with one peer, set by the test."""

    def __init__(self, **peer) -> None:
        self.state, self.reason, self.left = "running", "", "unset"
        self.peer = {
            "address": B,
            "left": None,
            "down": None,
            "blamed": True,
            "broke": None,
            "speaks": None,
            "received_messages": 1,
            "silent_s": 0.0,
            **peer,
        }

    def report(self, task):
        return {"state": self.state, "reason": self.reason, "peers": [self.peer]}

    def close(self, task, *, left=None):
        self.left = left
        return self.report(task)


@pytest.fixture
def child(monkeypatch):
    """Replace the engine by a few lines of Python; returns a function that sets them."""

    def use(code: str) -> None:
        original = process.subprocess.Popen

        def start(arguments, **options):
            python, _, _, folder = arguments
            return original([python, "-c", code, folder], **options)

        monkeypatch.setattr(process.subprocess, "Popen", start)

    monkeypatch.setattr(process.importlib.util, "find_spec", lambda _name: object())
    return use


SLEEP = "import time; time.sleep(60)"


def ends_with(kind, tmp_path, view=None, **options):
    start = time.monotonic()
    with pytest.raises(kind) as ended:
        run_job(job(), tmp_path / "job", **{"deadline_s": 20, "gateway": view, **options})
    assert time.monotonic() - start < 10
    assert not (tmp_path / "job" / "scratch").exists()
    return ended.value


def test_a_job_over_its_deadline_is_killed_and_the_peers_are_told(child, tmp_path):
    child(SLEEP)
    view = View()
    ends_with(EngineTimeout, tmp_path, view, deadline_s=0.3)
    assert view.left == "engine_timeout"


def test_a_stopped_job_ends_at_once(child, tmp_path):
    child(SLEEP)
    stop = threading.Event()
    stop.set()
    ends_with(Stopped, tmp_path, stop=stop)


def test_a_killed_job_takes_its_children_along(child, tmp_path):
    child(f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SLEEP!r}]); {SLEEP}")
    ends_with(EngineTimeout, tmp_path, deadline_s=0.5)


def test_a_cut_session_ends_the_job(child, tmp_path):
    child(SLEEP)
    view = View()
    view.state, view.reason = "cut", "revoked"
    assert "revoked" in str(ends_with(SessionCut, tmp_path, view))


def test_a_peer_that_left_is_named(child, tmp_path):
    child(SLEEP)
    assert ends_with(PeerFailed, tmp_path, View(left="bad_input")).peer == B


def test_a_peer_that_ended_because_another_was_silent_is_named_and_not_blamed(child, tmp_path, monkeypatch):
    monkeypatch.setattr(process, "FOLLOWED_PATIENCE_S", 0.1)
    child("import time; time.sleep(30)")
    error = ends_with(PeerFailed, tmp_path, View(left="peer_unreachable"))
    assert error.peer is None
    assert B in str(error)


def test_a_peer_that_broke_the_protocol_is_named_although_the_session_is_cut(child, tmp_path):
    child(SLEEP)
    view = View(broke="sent what is no message")
    view.state, view.reason = "cut", "revoked"
    error = ends_with(ProtocolViolated, tmp_path, view)
    assert error.peer == B
    assert "sent what is no message" in str(error)


def test_a_peer_of_another_version_is_named(child, tmp_path):
    child(SLEEP)
    error = ends_with(PeerIncompatible, tmp_path, View(speaks="speaks version '2'"))
    assert error.peer == B
    assert "speaks version '2'" in str(error)


def test_a_crash_is_named_with_its_signal(child, tmp_path):
    child("import os; os.kill(os.getpid(), 11)")
    assert "SIGSEGV" in str(ends_with(EngineCrashed, tmp_path, View()))


def test_a_crash_while_a_peer_was_silent_is_the_peers(child, tmp_path):
    child("import os; os.abort()")
    assert ends_with(PeerUnreachable, tmp_path, View(silent_s=60.0)).peer == B


def test_a_crash_while_several_were_silent_is_nobodys(child, tmp_path):
    child("import os; os.abort()")

    class Views(View):
        def report(self, task):
            both = [self.peer, {**self.peer, "address": C}]
            return {"state": self.state, "reason": self.reason, "peers": both}

    both = job(parties=(A, B, C))
    with pytest.raises(PeerUnreachable) as caught:
        run_job(both, tmp_path / "job", deadline_s=20, gateway=Views(silent_s=60.0))
    assert caught.value.peer is None
    assert B in str(caught.value)
    assert C in str(caught.value)


def test_a_crash_while_a_peer_is_down_is_the_peers(child, tmp_path):
    child("import os; os.abort()")
    assert ends_with(PeerUnreachable, tmp_path, View(down="connection refused")).peer == B


def test_a_peer_that_a_relay_does_not_reach_is_named_and_not_blamed(child, tmp_path):
    child("import os; os.abort()")
    error = ends_with(PeerUnreachable, tmp_path, View(down="the relay is gone", blamed=False))
    assert error.peer is None
    assert B in str(error)


def test_a_reported_error_keeps_its_name(child, tmp_path):
    report = json.dumps({"code": "program_mismatch", "detail": "d", "reason": None, "peer": B})
    child(f"import sys; open(sys.argv[1] + '/error.json', 'w').write({report!r}); sys.exit(70)")
    assert ends_with(ProgramMismatch, tmp_path, View()).peer == B


def test_a_full_disk_is_told_from_the_log_when_nothing_else_could_be_written(child, tmp_path):
    child("import sys; print('sealtrace: no space left on device'); sys.exit(70)")
    ends_with(DiskFull, tmp_path, View())


def test_a_full_disk_leaves_a_report_and_no_half_output(monkeypatch, tmp_path):
    def full(_folder):
        (tmp_path / "output.sealed.part").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(party, "run", full)
    assert workplace._attempt(tmp_path, party.run) == workplace.FAILED
    assert {path.name for path in tmp_path.iterdir()} == {"error.json"}
    assert json.loads((tmp_path / "error.json").read_text())["code"] == "disk_full"


def test_a_process_that_talks_without_end_fills_no_disk(child, tmp_path, monkeypatch):
    monkeypatch.setattr(process, "MAX_LOG_BYTES", 1000)
    child("import sys; sys.stdout.write('x' * 1_000_000); sys.exit(3)")
    ends_with(EngineCrashed, tmp_path, View())
    assert (tmp_path / "job" / "engine.log").stat().st_size == 1000


def test_success_without_a_transcript_is_a_crash(child, tmp_path):
    child("pass")
    ends_with(EngineCrashed, tmp_path, View())


def test_a_job_directory_is_used_once(child, tmp_path):
    child(SLEEP)
    ends_with(EngineTimeout, tmp_path, deadline_s=0.2)
    ends_with(BadJob, tmp_path, deadline_s=0.2)


def test_a_node_without_the_engine_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setattr(process.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(EngineMissing, match="pip install"):
        run_job(job(), tmp_path / "job", deadline_s=1)


def test_the_engine_sees_no_secret_of_its_parent(child, tmp_path, monkeypatch):
    monkeypatch.setenv("SEALTRACE_KEY", "hunter2")
    child("import os, sys; print(dict(os.environ)); sys.exit(3)")
    ends_with(EngineCrashed, tmp_path, View())
    assert "hunter2" not in (tmp_path / "job" / "engine.log").read_text()


@pytest.mark.parametrize("line", ["short", "x" * 23, "!" * 22, "=" * 22])
def test_a_line_of_the_engines_file_that_is_no_token_is_refused(tmp_path, line):
    path = tmp_path / "tokens.csv"
    path.write_text(f"token\n{line}\n")
    with pytest.raises(ProtocolViolated, match="no tokens"):
        _read(path)
