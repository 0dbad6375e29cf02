"""The evidence log: what is appended is on disk, what is torn is cut, what was rewritten does not open."""

from __future__ import annotations

import errno
import multiprocessing
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealtrace.node.errors import DiskFull, EvidenceTampered, RecordNotFound
from sealtrace.node.evidence import EvidenceLog
from sealtrace.node.lines import Entry, line
from sealtrace.protocol.canonical import NotCanonical
from sealtrace.protocol.evidence import Kind, Record, read_record
from sealtrace.protocol.identifiers import Address, Hex32, raw
from sealtrace.protocol.merkle import leaf_hash, verify_consistency, verify_inclusion
from sealtrace.protocol.records import Checkpoint

ME = Address("0x" + "a" * 40)
TASK, OTHER = Hex32("0x" + "1" * 64), Hex32("0x" + "2" * 64)


def opened(folder, **options):
    return EvidenceLog(folder, ME, clock=lambda: 1000, **options)


def test_a_record_is_read_back_by_another_process_as_it_was_written(tmp_path):
    log = opened(tmp_path)
    log.append(Kind.TASK_STARTED, {"transaction": "0x1"}, TASK)
    again = opened(tmp_path)
    assert again.last(TASK, Kind.TASK_STARTED).body == {"transaction": "0x1"}
    assert again.root() == log.root()
    assert [read_record(line.rstrip(b"\n")).index for line in again.lines()] == [0, 1]


def test_a_kind_of_record_is_written_once_for_a_task_and_for_each_task(tmp_path):
    log = opened(tmp_path)
    first = log.append_once(Kind.TASK_RAN, {"n": 1}, TASK)
    assert log.append_once(Kind.TASK_RAN, {"n": 2}, TASK) == first
    assert log.append_once(Kind.TASK_RAN, {"n": 2}, OTHER).index == first.index + 1


def test_two_open_logs_see_each_others_records(tmp_path):
    one, other = opened(tmp_path), opened(tmp_path)
    one.append(Kind.TASK_STARTED, {}, TASK)
    other.append(Kind.TASK_RAN, {}, TASK)
    assert [record.kind for record in one.of_task(TASK)] == ["task.started", "task.ran"]
    assert one.checkpoint() == other.checkpoint()


def append_many(folder):
    log = opened(folder)
    for number in range(30):
        log.append(Kind.TASK_JUDGED, {"n": number}, TASK)


def test_many_processes_append_to_one_log_and_lose_nothing(tmp_path):
    context = multiprocessing.get_context("spawn")
    children = [context.Process(target=append_many, args=(tmp_path,)) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    log = opened(tmp_path)
    assert len(log) == 91
    assert [log.record(index).index for index in range(91)] == list(range(91))


@pytest.mark.parametrize("torn", [b"{", b'{"at":1', b"\x00\xff"])
def test_a_line_torn_by_a_crash_is_cut_and_the_cut_is_recorded(tmp_path, torn):
    opened(tmp_path).append(Kind.TASK_RAN, {}, TASK)
    before = opened(tmp_path).checkpoint()
    with (tmp_path / "000000.jsonl").open("ab") as file:
        file.write(torn)
    log = opened(tmp_path)
    assert log.record(2).body["cut_bytes"] == len(torn)
    assert log.root(before.size) == before.root
    assert len(opened(tmp_path)) == 3  # cut once, not at every opening


def test_a_line_torn_by_another_process_while_we_run_is_cut_too(tmp_path):
    log = opened(tmp_path)
    with (tmp_path / "000000.jsonl").open("ab") as file:
        file.write(b'{"at"')
    log.append(Kind.TASK_RAN, {}, TASK)
    assert [log.record(index).kind for index in range(3)] == ["node.opened", "node.opened", "task.ran"]


def test_a_full_disk_is_named_and_the_log_stays_as_it_was(tmp_path):
    def full(file, line):
        file.write(line[: len(line) // 2])
        file.flush()
        raise OSError(errno.ENOSPC, "No space left on device")

    opened(tmp_path)
    before = (tmp_path / "000000.jsonl").read_bytes()
    with pytest.raises(DiskFull, match="no room"):
        opened(tmp_path, write=full).append(Kind.TASK_RAN, {}, TASK)
    assert (tmp_path / "000000.jsonl").read_bytes() == before
    opened(tmp_path).append(Kind.TASK_RAN, {}, TASK)


def test_a_log_that_is_shorter_than_anchored_does_not_open(tmp_path):
    log = opened(tmp_path)
    log.append(Kind.TASK_RAN, {}, TASK)
    anchored = log.checkpoint()
    path = tmp_path / "000000.jsonl"
    path.write_bytes(path.read_bytes().split(b"\n")[0] + b"\n")
    with pytest.raises(EvidenceTampered, match="1 records, the chain anchors 2"):
        opened(tmp_path, anchored=anchored)


def test_a_log_with_one_byte_changed_below_the_anchor_does_not_open(tmp_path):
    log = opened(tmp_path)
    log.append(Kind.TASK_RAN, {"rows": 1}, TASK)
    anchored = log.checkpoint()
    path = tmp_path / "000000.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"rows":1', b'"rows":2'))
    with pytest.raises(EvidenceTampered, match="have the root"):
        opened(tmp_path, anchored=anchored)


def test_a_log_that_grew_since_it_was_anchored_opens(tmp_path):
    log = opened(tmp_path)
    anchored = log.checkpoint()
    log.append(Kind.TASK_RAN, {}, TASK)
    assert len(opened(tmp_path, anchored=anchored)) == 2
    assert len(opened(tmp_path, anchored=Checkpoint(ME, 0, anchored.root))) == 2


@pytest.mark.parametrize("change", [b"not a record\n", b'{"index":7}\n'])
def test_a_foreign_line_in_the_log_does_not_open(tmp_path, change):
    opened(tmp_path)
    with (tmp_path / "000000.jsonl").open("ab") as file:
        file.write(change)
    with pytest.raises(EvidenceTampered, match="not record 1"):
        opened(tmp_path)


def test_a_record_of_another_nodes_log_does_not_open(tmp_path):
    EvidenceLog(tmp_path, Address("0x" + "b" * 40))
    with pytest.raises(EvidenceTampered, match="of this node"):
        opened(tmp_path)


def test_one_record_is_proven_without_the_others(tmp_path):
    log = opened(tmp_path)
    for number in range(20):
        log.append(Kind.TASK_RAN, {"n": number}, TASK)
    proof = [raw(each) for each in log.inclusion(7)]
    verify_inclusion(leaf_hash(log.record(7).line()), 7, 21, proof, raw(log.root()))
    proof = [raw(each) for each in log.consistency(9)]
    verify_consistency(9, 21, raw(log.root(9)), raw(log.root()), proof)


def test_a_record_that_is_not_there_is_named(tmp_path):
    log = opened(tmp_path)
    for ask in (log.record, log.inclusion):
        with pytest.raises(RecordNotFound):
            ask(1)


def test_a_long_log_is_cut_into_segments_and_read_as_one(tmp_path, monkeypatch):
    monkeypatch.setattr("sealtrace.node.evidence.SEGMENT_BYTES", 1000)
    log = opened(tmp_path)
    for number in range(20):
        log.append(Kind.TASK_RAN, {"n": number}, TASK)
    assert len(list(tmp_path.glob("*.jsonl"))) > 3
    again = opened(tmp_path)
    assert again.checkpoint() == log.checkpoint()
    assert len(b"".join(again.lines()).splitlines()) == 21


def test_the_log_is_for_the_nodes_user_only(tmp_path):
    opened(tmp_path / "evidence")
    assert os.stat(tmp_path / "evidence").st_mode & 0o077 == 0


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(
    st.dictionaries(st.text(), JSON, max_size=5),
    st.sampled_from(list(Kind)),
    st.none() | st.just(TASK),
)
def test_a_line_made_quickly_is_the_records_own(body, kind, task):
    own = Record(index=7, at=1000, node=ME, kind=kind.value, task=task, body=body).line()
    assert line(Entry(kind, body, task), index=7, at=1000, node=ME) == own


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 2**53])
def test_a_line_made_quickly_refuses_what_a_record_refuses(number):
    with pytest.raises(NotCanonical):
        line(Entry(Kind.TASK_RAN, {"n": [number]}), index=7, at=1000, node=ME)


def test_many_records_at_once_are_the_log_that_one_by_one_would_be(tmp_path):
    entries = [Entry(Kind.TASK_JUDGED, {"n": n, "é": 0.5}, TASK if n % 2 else None) for n in range(300)]
    together, single = opened(tmp_path / "together"), opened(tmp_path / "single")
    assert together.append_all(entries) == range(1, 301)
    for entry in entries:
        single.append(entry.kind, entry.body, entry.task)
    assert together.checkpoint() == single.checkpoint() == opened(tmp_path / "together").checkpoint()
    assert list(together.lines()) == list(single.lines())
    assert together.of_task(TASK) == single.of_task(TASK)
    verify_inclusion(
        leaf_hash(next(together.lines(5, 6)).rstrip(b"\n")),
        5,
        301,
        [raw(each) for each in together.inclusion(5)],
        raw(together.root()),
    )


def test_no_record_of_many_is_written_when_one_is_none(tmp_path):
    log = opened(tmp_path)
    for bad in (
        Entry(Kind.TASK_RAN, {"n": 2**60}),
        Entry(Kind.TASK_RAN, {"n": "\ud800"}),
        Entry(Kind.TASK_RAN, {}, Hex32("0x12")),
        Entry(Kind.TASK_RAN, {"n": "x" * (256 << 10)}),
    ):
        with pytest.raises(ValueError):
            log.append_all([Entry(Kind.TASK_RAN, {}), bad])
    assert len(log) == len(opened(tmp_path)) == 1
    assert log.append_all([]) == range(1, 1)


def test_a_full_disk_keeps_none_of_many_records(tmp_path):
    log = opened(tmp_path, write=full_after(3_000))
    before = log.checkpoint()
    with pytest.raises(DiskFull):
        log.append_all([Entry(Kind.TASK_RAN, {"n": n}) for n in range(100)])
    assert log.checkpoint() == before == opened(tmp_path).checkpoint()
    assert log.append_all([Entry(Kind.TASK_RAN, {})]) == range(1, 2)


def full_after(size):
    def write(file, content):
        file.write(content[:size])
        file.flush()
        if len(content) > size:
            raise OSError(errno.ENOSPC, "no space")

    return write


def test_a_crash_within_many_records_leaves_the_first_of_them_and_a_cut(tmp_path):
    log = opened(tmp_path)
    log.append_all([Entry(Kind.TASK_JUDGED, {"n": n}, TASK) for n in range(10)])
    file = next(tmp_path.glob("*.jsonl"))
    os.truncate(file, file.stat().st_size - 20)
    again = opened(tmp_path)
    assert [record.body["n"] for record in again.of_task(TASK)] == list(range(9))
    assert again.record(len(again) - 1).body["cut_bytes"] > 0
