"""The log of reads: what is written stands, and whatever is done to it is found out."""

import json
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from sealtrace.auditor.cli import app
from sealtrace.auditor.reads import (
    CHECKPOINT,
    LOG,
    MAX_LINE_BYTES,
    CheckpointMalformed,
    Head,
    ReadLog,
    ReadNotFound,
    ReadsTampered,
    ReadsUnwritable,
    head,
    lines_of,
    stored,
    verified,
)
from sealtrace.auditor.settings import READS, ChainTable, create
from sealtrace.protocol.canonical import sha256

GIVEN = sha256(b"given")
CHAIN = ChainTable(rpc_url="http://127.0.0.1:1", chain_id=7, directory="0x" + "d0" * 20)


def written(folder, count=6):
    log = ReadLog(folder, clock=lambda: 1_700_000_000)
    heads = [log.append("north", f"GET /v1/audits/{number}", 200, GIVEN, number) for number in range(count)]
    return log, heads


def test_a_log_is_as_it_was_written(tmp_path):
    log, heads = written(tmp_path)
    now, reads = stored(tmp_path, heads)
    assert now == heads[-1] == log.head()
    assert [(each.index, each.who, each.size) for each in reads] == [(n, "north", n) for n in range(6)]
    assert ReadLog(tmp_path).append("south", "GET /v1/audits", 200, GIVEN, 1).size == 7


def changed(lines):
    return [lines[0], lines[1].replace(b"north", b"south"), *lines[2:]]


TAMPERED = {
    "an entry changed": changed,
    "an entry left out": lambda lines: [*lines[:2], *lines[3:]],
    "the last cut off": lambda lines: lines[:-1],
    "all gone": lambda lines: [],
    "two swapped": lambda lines: [lines[1], lines[0], *lines[2:]],
    "one invented": lambda lines: [*lines, lines[-1]],
    "not canonical": lambda lines: [lines[0].replace(b":", b": ", 1), *lines[1:]],
    "a key twice": lambda lines: [lines[0].replace(b"{", b'{"at":1,', 1), *lines[1:]],
    "bad UTF-8": lambda lines: [lines[0].replace(b"north", b"\xff\xfe"), *lines[1:]],
    "an endless line": lambda lines: [b"x" * (MAX_LINE_BYTES + 100)],
    "deep nesting": lambda lines: [b"[" * 10_000 + b"\n"],
}


@pytest.mark.parametrize("how", TAMPERED)
def test_a_log_that_was_tampered_with_is_not_shown_and_not_continued(tmp_path, how):
    written(tmp_path)
    lines = TAMPERED[how](list(lines_of(tmp_path / LOG)))
    (tmp_path / LOG).write_bytes(b"".join(lines))
    with pytest.raises(ReadsTampered):
        stored(tmp_path)
    if how != "an endless line":  # which looks like one torn by a crash, and is cut: then others are missing
        with pytest.raises(ReadsTampered):
            ReadLog(tmp_path)
    else:
        with pytest.raises(ReadsTampered, match="has 0 reads, and had 6"):
            ReadLog(tmp_path)


def test_a_log_rewritten_together_with_its_checkpoint_is_found_out_by_who_kept_an_answer(tmp_path):
    _, heads = written(tmp_path / "true")
    log = ReadLog(tmp_path / "false", clock=lambda: 1_700_000_000)
    for number in range(6):
        log.append("north" if number != 2 else "south", f"GET /v1/audits/{number}", 200, GIVEN, number)
    assert stored(tmp_path / "false")[0].size == 6
    assert stored(tmp_path / "false", heads[:2])[0].size == 6
    for each in heads[2:]:
        with pytest.raises(ReadsTampered, match="have the root"):
            stored(tmp_path / "false", [each])


@settings(deadline=None)  # it waits for the disk
@given(st.data())
def test_any_byte_that_differs_is_found_out(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("reads")
    _, heads = written(folder, 3)
    text = (folder / LOG).read_bytes()
    place, bit = data.draw(st.integers(0, len(text) - 1)), data.draw(st.integers(0, 7))
    (folder / LOG).write_bytes(text[:place] + bytes([text[place] ^ 1 << bit]) + text[place + 1 :])
    with pytest.raises(ReadsTampered):
        stored(folder, heads)


def test_a_log_without_its_checkpoint_is_tampered_with(tmp_path):
    written(tmp_path)
    (tmp_path / CHECKPOINT).unlink()
    with pytest.raises(ReadsTampered, match="is gone"):
        stored(tmp_path)
    (tmp_path / CHECKPOINT).write_text("{}")
    with pytest.raises(ReadsTampered, match="no checkpoint"):
        ReadLog(tmp_path)


def test_a_line_torn_by_a_crash_is_cut_and_the_cut_is_an_entry(tmp_path):
    _, heads = written(tmp_path)
    with (tmp_path / LOG).open("ab") as file:
        file.write(b'{"at":17')
    assert stored(tmp_path)[0] == heads[-1]
    ReadLog(tmp_path)
    now, reads = stored(tmp_path, heads)
    assert now.size == 7
    assert (reads[-1].who, reads[-1].what) == ("service", "cut 8 bytes torn by a crash")
    assert reads[-1].sha256 == sha256(b'{"at":17')


def test_an_entry_whose_checkpoint_a_crash_left_behind_stays(tmp_path):
    written(tmp_path)
    before = (tmp_path / CHECKPOINT).read_bytes()
    ReadLog(tmp_path).append("north", "GET /", 200, GIVEN, 1)
    (tmp_path / CHECKPOINT).write_bytes(before)
    assert ReadLog(tmp_path).head().size == 7


def test_what_cannot_be_written_is_refused_and_leaves_the_log_as_it_was(tmp_path, monkeypatch):
    log, heads = written(tmp_path)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sealtrace.auditor.reads.os.fsync", full)
    with pytest.raises(ReadsUnwritable, match="No space"):
        log.append("north", "GET /", 200, GIVEN, 1)
    monkeypatch.undo()
    assert stored(tmp_path)[0] == heads[-1] == log.head()
    assert log.append("north", "GET /", 200, GIVEN, 1).size == 7


def test_a_proof_is_given_from_sizes_that_there_were(tmp_path):
    log, _ = written(tmp_path)
    assert log.consistency(6)[1] == []
    for old in (0, 7):
        with pytest.raises(ReadNotFound):
            log.consistency(old)


def test_a_long_request_is_kept_to_its_first_characters(tmp_path):
    log, _ = written(tmp_path, 0)
    log.append("north", "GET /" + "\x01" * 100_000, 200, GIVEN, 1)
    assert len(stored(tmp_path)[1][0].what) == 2000


def test_an_endless_log_is_refused_in_bounded_memory(tmp_path):
    path = tmp_path / LOG
    with path.open("wb") as file:
        file.truncate(10 << 30)  # ten gigabytes of zeros that take no room
    tracemalloc.start()
    try:
        with pytest.raises(ReadsTampered, match="read 0"):
            verified(lines_of(path))
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "text", ["", "5", "5:", "x:" + GIVEN, "-1:" + GIVEN, "9" * 99 + ":" + GIVEN, "5:0x12"]
)
def test_a_head_that_is_none_is_named(text):
    with pytest.raises(CheckpointMalformed):
        head(text)


def test_a_head_is_read_as_it_is_written():
    assert head(str(Head(5, GIVEN))) == Head(5, GIVEN)


# the command


def call(*words):
    return CliRunner().invoke(app, ["reads", *words, "--json"])


@pytest.fixture
def folder(tmp_path):
    create(tmp_path, CHAIN)
    written(tmp_path / READS)
    return tmp_path


def test_reads_are_shown_by_token_and_held_to_an_answer(folder):
    ReadLog(folder / READS).append("south", "GET /v1/audits", 200, GIVEN, 1)
    shown = json.loads(call("--dir", str(folder), "--who", "south").output)
    assert ([each["index"] for each in shown["reads"]], shown["size"]) == ([6], 7)
    assert call("--dir", str(folder), "--held", f"7:{shown['root']}").exit_code == 0
    wrong = call("--dir", str(folder), "--held", f"6:{shown['root']}")
    assert (wrong.exit_code, json.loads(wrong.output)["error"]) == (3, "ReadsTampered")
    assert "7 reads, verified" in CliRunner().invoke(app, ["reads", "--dir", str(folder)]).output


def test_an_exported_log_is_verified_where_it_lies(folder, tmp_path):
    out = tmp_path / "exported.jsonl"
    told = json.loads(call("--dir", str(folder), "--export", str(out)).output)
    held = f"{told['size']}:{told['root']}"
    assert call("--file", str(out), "--held", held).exit_code == 0
    out.write_bytes(b"".join(list(lines_of(out))[:-1]))
    assert call("--file", str(out)).exit_code == 0  # alone, a shorter log is a log
    assert json.loads(call("--file", str(out), "--held", held).output)["error"] == "ReadsTampered"


def test_a_wrong_option_is_named(folder):
    for words in ([], ["--dir", str(folder), "--file", "x"], ["--file", str(folder / "none")]):
        assert json.loads(call(*words).output)["error"] == "WrongArgument"
    assert json.loads(call("--dir", str(folder), "--held", "5").output)["error"] == "CheckpointMalformed"
