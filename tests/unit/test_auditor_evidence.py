"""Evidence logs as they are handed over: altered, torn, hostile."""

import gzip
import io
import os
import random
import subprocess
import sys
import tracemalloc
from pathlib import Path

import httpx
import pytest
from auditor_story import OWNERS, Story, h, honest
from eth_account import Account

from sealtrace.auditor.audit import audit
from sealtrace.auditor.evidence import (
    EvidenceTooLarge,
    EvidenceUnreadable,
    Held,
    open_lines,
    read_file,
    read_log,
    read_url,
    signed_checkpoint,
)
from sealtrace.node.evidence import EvidenceLog
from sealtrace.protocol.evidence import MAX_RECORD_BYTES, Kind, Record
from sealtrace.protocol.identifiers import address, hex32
from sealtrace.protocol.merkle import MerkleTree, leaf_hash
from sealtrace.protocol.statements import Statement, sign

A, B, C = OWNERS


def text_of(story, node=A):
    return b"".join(line + b"\n" for line in story.lines[node])


def findings(story, change):
    return audit(story.case(spoil=lambda node, text: change(text) if node == A else text)).findings


def flipped(text, place, bit):
    return text[:place] + bytes([text[place] ^ 1 << bit]) + text[place + 1 :]


def test_one_flipped_bit_anywhere_is_exactly_one_finding():
    """Every byte of a log of some twenty records, one bit of it at a time."""
    story = honest()
    text, chosen = text_of(story), random.Random(7)
    places = chosen.sample(range(len(text)), 150)
    for place in places:
        changed = flipped(text, place, chosen.randrange(8))
        (found,) = findings(story, lambda _, changed=changed: changed)
        index = text[:place].count(b"\n")
        assert (found.rule, found.node) == ("EV-L01", A)
        assert str(index) in found.observed or "one of the records" in found.observed
        assert "root 0x" in found.expected


def test_a_flip_that_leaves_a_canonical_record_names_the_interval_and_both_roots():
    story = honest()
    sizes = [e.args["size"] for e in story.events if e.name == "CheckpointAnchored" and e.args["node"] == A]
    roots = [e.args["root"] for e in story.events if e.name == "CheckpointAnchored" and e.args["node"] == A]
    change = lambda text: text.replace(b'"denial":34', b'"denial":35', 1)  # noqa: E731
    (found,) = findings(story, change)
    assert found.expected == f"root {roots[1]} at size {sizes[1]}"
    assert f"one of the records {sizes[0]} to {sizes[1] - 1}" in found.observed
    lines = change(text_of(story)).splitlines()[: sizes[1]]
    assert hex32(MerkleTree(map(leaf_hash, lines)).root()) in found.observed


def test_a_record_that_cannot_be_read_is_named_by_its_index():
    (found,) = findings(honest(), lambda text: text.replace(b'"kind":"task.ran"', b'"kind":"task_ran"', 1))
    assert "record 3:" in found.observed
    assert found.evidence is not None


@pytest.mark.parametrize(
    ("name", "change"),
    {
        "repeated": lambda lines: [*lines[:4], lines[3], *lines[4:]],
        "left out": lambda lines: [*lines[:4], *lines[5:]],
        "swapped": lambda lines: [*lines[:4], lines[5], lines[4], *lines[6:]],
        "of another node": lambda lines: [lines[0].replace(A.encode(), B.encode()), *lines[1:]],
        "torn": lambda lines: [*lines[:-1], lines[-1][:20]],
        "not canonical": lambda lines: [lines[0].replace(b'"index":0', b'"index": 0'), *lines[1:]],
    }.items(),
)
def test_a_log_that_is_not_in_order_is_one_finding(name, change):
    def spoil(text):
        return b"".join(line + b"\n" for line in change(text.splitlines()))

    (found,) = findings(honest(), spoil)
    assert found.rule == "EV-L01"


def test_records_after_a_fault_are_not_relied_on():
    story = honest()
    log = read_log(A, [flipped(text_of(story), 5, 0)], story.held(story.world(), A))
    assert (log.records, log.whole) == ((), False)


def test_a_log_may_go_on_after_its_last_checkpoint():
    story = honest()
    story.record(A, Kind.EVIDENCE_READ, {"by": "auditor"})
    case = story.case()
    assert case.logs[A].unanchored == 1
    assert audit(case).findings == ()


KEY = Account.create()


def signed(node, lines, kind="evidence.checkpoint"):
    """A checkpoint of ``lines`` as a node exports it."""
    tree = MerkleTree(map(leaf_hash, lines))
    body = {"size": len(tree), "root": hex32(tree.root()), "head_number": 3, "head_hash": h("head")}
    statement = Statement(kind=kind, speaker=node, audience="anybody", at=1, body=body)
    return sign(statement, bytes(KEY.key))


def lines_of(node, count=4):
    bodies = [{"cut_bytes": number} for number in range(count)]
    return [
        Record(index=index, at=1, node=node, kind=Kind.NODE_OPENED.value, body=body).line()
        for index, body in enumerate(bodies)
    ]


def test_a_checkpoint_that_the_node_signed_holds_what_no_anchor_holds_yet(tmp_path):
    node = address(KEY.address)
    lines = lines_of(node)
    (tmp_path / "checkpoint.json").write_text(signed(node, lines).model_dump_json())
    altered = b"\n".join(lines).replace(b'"cut_bytes":3', b'"cut_bytes":4') + b"\n"
    (tmp_path / "000000.jsonl").write_bytes(altered)
    fault = read_file(node, tmp_path, [Held(3, hex32(MerkleTree(map(leaf_hash, lines[:3])).root()))]).fault
    assert (fault.first, fault.past, fault.size) == (3, 4, 4)
    assert "the checkpoint it signed" in fault.problem


@pytest.mark.parametrize("text", [b"", b"{}", b"[1]", b"\xff", signed(A, []).model_dump_json().encode()])
def test_a_checkpoint_that_is_none_or_not_the_nodes_holds_nothing(text):
    assert signed_checkpoint(A, text) == []


def test_a_statement_of_another_kind_is_no_checkpoint():
    node = address(KEY.address)
    text = signed(node, [], kind="node.hello").model_dump_json().encode()
    assert signed_checkpoint(node, text) == []


def test_a_log_in_segments_is_one_log(tmp_path):
    story = honest()
    lines = [line + b"\n" for line in story.lines[A]]
    for number in range(0, len(lines), 4):
        (tmp_path / f"{number // 4:06d}.jsonl").write_bytes(b"".join(lines[number : number + 4]))
    assert read_file(A, tmp_path, story.held(story.world(), A)).whole


class Zeros(io.RawIOBase):
    """Ten gigabytes of zeros, made as they are asked for."""

    left = 10 << 30

    def readline(self, limit=-1):
        given = min(limit, self.left)
        self.left -= given
        return bytes(given)


HOSTILE = {
    "one endless line": Zeros(),
    "a line too long": io.BytesIO(b"x" * (MAX_RECORD_BYTES + 9) + b"\n"),
    "deep nesting": io.BytesIO(b'{"body":' + b"[" * 200_000 + b"]" * 50 + b"}\n"),
    "bad UTF-8": io.BytesIO(b'{"body":{"a":"\xff\xfe"}}\n'),
    "a key given twice": io.BytesIO(b'{"at":1,"at":2}\n'),
    "a huge number": io.BytesIO(b'{"at":' + b"9" * 100_000 + b"}\n"),
    "blank lines": io.BytesIO(b"\n" * 100_000),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_log_is_refused_in_bounded_memory(name):
    tracemalloc.start()
    try:
        log = read_log(A, open_lines(HOSTILE[name]), [Held(5, h("root"))])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert log.fault is not None
    assert (log.fault.first, log.records) == (0, ())
    assert peak < 16 << 20


def test_more_records_than_held_to_anything_are_bounded(monkeypatch):
    from sealtrace.auditor import evidence

    monkeypatch.setattr(evidence, "MAX_RECORDS", 3)
    with pytest.raises(evidence.EvidenceTooLarge, match="more than 3"):
        read_log(A, [line + b"\n" for line in honest().lines[A]], [])
    monkeypatch.setattr(evidence, "MAX_LOG_BYTES", 100)
    with pytest.raises(evidence.EvidenceTooLarge):
        list(open_lines(io.BytesIO(b"x\n" * 60)))


def test_a_line_that_is_still_being_written_is_left_for_the_next_audit():
    story = honest()
    lines = [*text_of(story).splitlines(keepends=True), b'{"at":17000']
    log = read_log(A, lines, story.held(story.world(), A))
    assert (log.whole, log.size) == (True, len(lines) - 1)


def test_the_folder_that_a_node_keeps_is_read_as_it_lies(tmp_path):
    node = EvidenceLog(tmp_path, A)
    for number in range(5):
        node.append(Kind.EVIDENCE_READ, {"by": f"reader {number}"})
    checkpoint = node.checkpoint()
    node.append(Kind.EVIDENCE_READ, {"by": "a later one"})
    log = read_file(A, tmp_path, [Held(checkpoint.size, checkpoint.root)])
    assert (log.whole, log.size, log.unanchored) == (True, len(node), 1)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(EvidenceUnreadable, match="export the log"):
        read_file(A, tmp_path / "none", [])
    with pytest.raises(EvidenceUnreadable, match="holds no segment"):
        read_file(A, tmp_path, [])


@pytest.mark.parametrize("name", ["000000.jsonl", "checkpoint.json"])
@pytest.mark.parametrize("kind", ["a link", "a link to a device", "a pipe", "a folder"])
def test_what_is_handed_over_leads_nowhere_else_and_keeps_nobody_waiting(tmp_path, name, kind):
    secret = tmp_path / "secret"
    secret.write_bytes(text_of(honest()))
    folder = tmp_path / "handed over"
    folder.mkdir()
    (folder / "000000.jsonl").write_bytes(b"")
    (folder / name).unlink(missing_ok=True)
    make = {
        "a link": lambda path: path.symlink_to(secret),
        "a link to a device": lambda path: path.symlink_to("/dev/zero"),
        "a pipe": os.mkfifo,
        "a folder": Path.mkdir,
    }
    make[kind](folder / name)
    if name == "checkpoint.json":  # it holds the log to nothing
        assert read_file(A, folder, []).size == 0
        return
    with pytest.raises(EvidenceUnreadable):
        read_file(A, folder, [])


def test_names_that_are_no_segments_are_not_opened(tmp_path):
    for name in ("0..jsonl.bak", "notes.txt", ".000001.jsonl", "a0.jsonl"):
        (tmp_path / name).write_bytes(b"\xff")
    with pytest.raises(EvidenceUnreadable, match="holds no segment"):
        read_file(A, tmp_path, [])


def test_a_log_of_too_many_segments_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("sealtrace.auditor.evidence.MAX_SEGMENTS", 3)
    for number in range(4):
        (tmp_path / f"{number:06d}.jsonl").write_bytes(b"")
    with pytest.raises(EvidenceTooLarge, match="segments"):
        read_file(A, tmp_path, [])


LIMITED = """if True:
    import resource, sys
    from pathlib import Path
    from sealtrace.auditor import evidence
    limit = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize() + (96 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        log = evidence.read_file("0x" + "1" * 40, Path(sys.argv[1]), [evidence.Held(5, "0x" + "00" * 32)])
        print(log.fault.problem)
    except evidence.EvidenceTooLarge as refused:
        print(refused)
"""
"""Reads a log with 96 MiB beyond what the program itself takes."""


def zeros(path):
    with path.open("wb") as file:
        file.truncate(10 << 30)


def many_lines(path):
    with path.open("wb") as file:
        file.write(b"x\n" * (32 << 20))


ENORMOUS = {
    "10 GB of zeros": (zeros, "longer than 262144 bytes"),
    "deep JSON": (lambda p: p.write_bytes(b'{"a":' * 20_000 + b"1" + b"}" * 20_000 + b"\n"), "not a record"),
    "bad UTF-8": (lambda p: p.write_bytes(b"\xff\xfe" * 100_000 + b"\n"), "not a record"),
    "a key given many times": (lambda p: p.write_bytes(b"{" + b'"at":1,' * 30_000 + b'"at":1}\n'), "not a"),
    "32 million lines": (many_lines, "not a record"),
}


@pytest.mark.parametrize("name", ENORMOUS)
def test_a_log_is_refused_by_a_process_that_may_take_little_memory(tmp_path, name):
    make, problem = ENORMOUS[name]
    make(tmp_path / "000000.jsonl")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert problem in done.stdout


def test_an_answer_that_unpacks_itself_is_not_unpacked(monkeypatch):
    bomb = bytes(64 << 20)
    for _ in range(3):
        bomb = gzip.compress(bomb)
    headers = {"content-encoding": "gzip, gzip, gzip"}
    served(monkeypatch, lambda request: httpx.Response(200, headers=headers, stream=httpx.ByteStream(bomb)))
    tracemalloc.start()
    try:
        with pytest.raises(EvidenceUnreadable, match="compressed"):
            read_url(A, "https://node.example/v1/evidence", None, [])
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def served(monkeypatch, answer):
    """Whatever is fetched is answered by ``answer``."""
    client = httpx.Client(transport=httpx.MockTransport(answer))
    stream = lambda method, url, *, trust_env, **more: client.stream(method, url, **more)  # noqa: E731
    monkeypatch.setattr(httpx, "stream", stream)


@pytest.mark.parametrize("size", [0, 1, 2, 5, 7, 8, 9])
@pytest.mark.parametrize("root", ["other", "of fewer", "of more"])
def test_a_checkpoint_with_a_wrong_root_is_a_fault_at_every_size(size, root):
    lines = lines_of(A, 10)
    roots = {"other": h("other"), "of fewer": root_of(lines[: max(size - 1, 0)]), "of more": root_of(lines)}
    wrong = Held(size, h("empty") if size == 0 else roots[root])
    log = read_log(A, [line + b"\n" for line in lines], [wrong, Held(10, root_of(lines))])
    assert (log.fault.size, log.fitting) == (size, ())


def root_of(lines):
    return hex32(MerkleTree(map(leaf_hash, lines)).root())


def test_a_token_does_not_go_over_a_plain_connection():
    with pytest.raises(EvidenceUnreadable, match="https"):
        read_url(A, "http://node.example/v1/evidence", "secret", [])


def test_a_log_is_read_from_a_nodes_api(monkeypatch):
    story = Story().found()
    story.complete()
    text, seen = text_of(story), []

    def answer(request):
        seen.append(request.headers["authorization"])
        return httpx.Response(200, content=text)

    served(monkeypatch, answer)
    log = read_url(A, "https://node.example/v1/evidence", "secret", story.held(story.world(), A))
    assert log.whole
    assert (log.size, seen) == (text.count(b"\n"), ["Bearer secret"])
