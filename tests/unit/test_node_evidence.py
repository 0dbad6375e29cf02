"""The evidence log: what is appended is on disk, what is torn is cut, what was rewritten does not open."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
from collections import OrderedDict
from unittest import mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sealtrace.node.errors import DiskFull, EvidenceTampered, RecordNotFound
from sealtrace.node.evidence import EvidenceLog
from sealtrace.node.lines import Entry, lines
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


@pytest.mark.parametrize("text", ["[" * 500, "\\[{" * 100])
def test_a_record_of_a_text_full_of_brackets_is_read_back(tmp_path, text):
    log = opened(tmp_path)
    log.append(Kind.TASK_FAILED, {"detail": text}, TASK)
    log.append_all([Entry(Kind.TASK_REFUSED, {"detail": text}, TASK)])
    assert [record.body["detail"] for record in opened(tmp_path).of_task(TASK)] == [text, text]


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


ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=20)  # surrogates and control characters too
NUMBERS = st.integers() | st.sampled_from([2**53 - 1, -(2**53) + 1, 2**53, -(2**53)]) | st.floats()
ODD = st.sampled_from([Kind.TASK_RAN, (1, "a"), b"a", b"\xff", {2}, OrderedDict(b=1, a=2), 1j, object()])
KEYS = ANY_TEXT | NUMBERS | st.none() | st.booleans() | st.sampled_from([Kind.TASK_RAN, (1, "a")])
ANY_VALUE = st.recursive(
    st.none() | st.booleans() | NUMBERS | ANY_TEXT | ODD,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.text(st.characters(max_codepoint=127)),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(max_codepoint=127)), inner),
    max_leaves=12,
)
BODIES = st.dictionaries(st.text(), PLAIN, max_size=5) | st.dictionaries(KEYS, ANY_VALUE, max_size=5)


def nested(levels, *, within=dict):
    value = 0
    for _ in range(levels):
        value = {"a": value} if within is dict else [value]
    return {"a": value}


def endless():
    value = {}
    value["a"] = value
    return value


def outcome(make):
    """What ``make`` returns, or the refusal it raises, as a value."""
    try:
        return make()
    except Exception as refusal:
        return type(refusal), str(refusal)


def strictly(entry, *, index=7, at=1000):
    return Record(index=index, at=at, node=ME, kind=entry.kind.value, task=entry.task, body=entry.body).line()


def quickly(entry, *, index=7, at=1000):
    (made,) = lines([entry], first=index, at=at, node=ME)
    return made


@given(BODIES, st.sampled_from(list(Kind)), st.none() | st.just(TASK))
@example({}, Kind.TASK_RAN, Hex32("0x12"))
@example({}, Kind.TASK_RAN, Hex32(TASK + "\n"))
@example({}, Kind.TASK_RAN, Hex32(TASK.replace("1", "A")))
@example({"n": {1: 2, "1": 3, False: 4, 1.5: 5, None: 6}}, Kind.TASK_RAN, None)
@example({"\U0001f600": 1, "\ufb33": 2, "%s": "%s", 'a"\\': "\x00\x7f\x1f\x85"}, Kind.TASK_RAN, TASK)
@example({"a": [2**53]}, Kind.TASK_RAN, None)
@example({"a": [-(2**53)]}, Kind.TASK_RAN, None)
@example({"a": float("nan")}, Kind.TASK_RAN, None)
@example({"a": "\ud800"}, Kind.TASK_RAN, None)
@example({"\ud800": "a"}, Kind.TASK_RAN, None)
@example(OrderedDict(b=1, a=2), Kind.TASK_RAN, None)
@example(["a"], Kind.TASK_RAN, None)
@example({"a": "[" * 65}, Kind.TASK_RAN, None)
def test_a_line_made_quickly_is_the_records_own_and_so_is_every_refusal(body, kind, task):
    entry = Entry(kind, body, task)
    assert outcome(lambda: quickly(entry)) == outcome(lambda: strictly(entry))


@pytest.mark.parametrize("levels", [60, 61, 62, 63, 64, 65, 200, 300, 5000])
@pytest.mark.parametrize("within", [dict, list])
def test_a_body_nested_too_deep_is_treated_like_a_records_own(levels, within):
    entry = Entry(Kind.TASK_RAN, nested(levels, within=within))
    assert outcome(lambda: quickly(entry)) == outcome(lambda: strictly(entry))


def test_a_body_that_holds_itself_is_refused_like_a_records_own():
    refused = outcome(lambda: quickly(Entry(Kind.TASK_RAN, endless())))
    assert refused == outcome(lambda: strictly(Entry(Kind.TASK_RAN, endless())))
    assert issubclass(refused[0], ValueError)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"block": 2**53 - 1, "denial": None, "grants": ["0x12", "0x34"], "spec": "0x56", "done": True},
        {"b%": {"n\n": [], "a": {}}, "a": 'a "quoted" \\ text\x00\x7f'},
    ],
)
def test_plain_bodies_go_the_quick_way(body):
    with mock.patch("sealtrace.node.lines._strictly", side_effect=AssertionError("the long way")):
        assert json.loads(quickly(Entry(Kind.TASK_RAN, body)))["body"] == body


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2**53, "\ud800"])
def test_a_line_made_quickly_refuses_what_has_no_canonical_form(value):
    with pytest.raises(NotCanonical):
        quickly(Entry(Kind.TASK_RAN, {"n": [value]}))


@pytest.mark.parametrize("place", [{"index": -1}, {"at": 1.5}, {"index": 2**53}])
def test_lines_made_quickly_are_of_a_place_and_time_that_a_record_could_have(place):
    entry = Entry(Kind.TASK_RAN, {})
    refused = outcome(lambda: strictly(entry, **place))
    assert issubclass(refused[0], ValueError)
    assert outcome(lambda: quickly(entry, **place))[0] is refused[0]


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
