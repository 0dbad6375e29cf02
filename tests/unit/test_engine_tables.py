from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealtrace.node.engines import tables
from sealtrace.node.engines.errors import BadInput, EngineError, PeerFailed, from_report, to_report
from sealtrace.node.engines.keys import KeyRule, Keys, check_table, read_keys
from sealtrace.node.engines.tables import load_table, table_columns, table_rows

TASK = "0x" + "ab" * 32
PLAIN = KeyRule(("id",), ((),), distinct=True)
GOOD = "id,amount,city\nb,1.5,Ulm\na,-2e3,Bonn\n"


@pytest.fixture
def table(tmp_path):
    def write(text: str | bytes):
        path = tmp_path / "table.csv"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write


def test_a_sound_table_is_counted(table):
    facts = check_table(table(GOOD), ["amount"], [PLAIN])
    assert (facts.rows, facts.columns) == (2, ("id", "amount", "city"))


def test_columns_are_read_by_kind_in_the_order_of_the_file(table):
    loaded = load_table(table(GOOD), [("amount", "number"), ("city", "category")], 2)
    assert list(loaded.columns["amount"]) == [1.5, -2000.0]
    taken = loaded.take(np.array([1], dtype=np.uint32))
    assert (list(taken.columns["amount"]), taken.columns["city"]) == ([-2000.0], ["Bonn"])
    assert taken.take(np.array([1], dtype=np.uint32)).columns["city"] == ["Bonn"]


def test_a_table_that_changed_between_two_readings_is_noticed(table):
    with pytest.raises(BadInput, match="altered"):
        load_table(table(GOOD), [("amount", "number")], 3)


CHECKED = [
    ("empty_file", ""),
    ("empty_file", "id,amount\n"),
    ("not_utf8", b"id,amount\n\xff,1\n"),
    ("malformed_csv", "id,amount\na,1,2\n"),
    ("malformed_csv", "id,amount\na\n"),
    ("malformed_csv", 'id,amount\n"a,1\n'),
    ("malformed_csv", "id,amount\na," + "9" * 70_000 + "\n"),
    ("duplicate_column", "id,amount,id\na,1,2\n"),
    ("missing_column", "id,cost\na,1\n"),
    ("missing_column", "key,amount\na,1\n"),
    ("empty_id", "id,amount\n,1\n"),
    ("duplicate_ids", "id,amount\na,1\nb,1\na,2\n"),
]


@pytest.mark.parametrize(("reason", "text"), CHECKED)
def test_what_no_job_could_use_is_refused_by_name(table, reason, text):
    path = table(text)
    for read in (
        lambda: check_table(path, ["amount"], [PLAIN]),
        lambda: read_keys(path, PLAIN, TASK, ["amount"]),
    ):
        with pytest.raises(BadInput) as refused:
            read()
        assert refused.value.reason == reason


@pytest.mark.parametrize(
    ("reason", "cell"),
    [("not_a_number", "many"), ("not_a_number", ""), ("not_finite", "nan"), ("not_finite", "1e999")],
)
def test_a_number_is_a_finite_number(table, reason, cell):
    with pytest.raises(BadInput) as refused:
        load_table(table(f"id,amount\na,1\nb,{cell}\n"), [("amount", "number")], 2)
    assert refused.value.reason == reason
    assert "row 2" in str(refused.value)


def test_a_refusal_quotes_no_cell(table):
    with pytest.raises(BadInput) as refused:
        check_table(table("id,amount\nsecret,1\nsecret,2\n"), ["amount"], [PLAIN])
    assert "secret" not in str(refused.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BadInput, match="missing_file"):
        check_table(tmp_path / "nothing.csv", [], [PLAIN])


def test_a_byte_order_mark_is_no_part_of_the_first_name(table):
    assert check_table(table(b"\xef\xbb\xbfid,amount\na,1\n"), ["amount"], [PLAIN]).rows == 1


CELLS = st.text(st.sampled_from(["a", "b", "ü", "\u2028", '"', ",", "\n", "\r", "\0", " "]), max_size=4)
LINES = st.lists(st.lists(CELLS, min_size=1, max_size=3).map(",".join), max_size=12)


@settings(max_examples=300)
@given(LINES, st.sampled_from(["\n", "\r\n"]), st.booleans(), st.integers(1, 40))
def test_a_file_is_cut_into_the_cells_that_parsing_it_finds(tmp_path_factory, lines, end, ends, block):
    path = tmp_path_factory.mktemp("cut") / "t.csv"
    path.write_bytes(("id,amount" + end + end.join(lines) + end * ends).encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "BLOCK_BYTES", block)
        cut = tried(lambda: by_columns(path))
    assert cut == tried(lambda: by_rows(path))


def test_a_piece_that_needs_parsing_does_not_spoil_those_before_it(table, monkeypatch):
    monkeypatch.setattr(tables, "BLOCK_BYTES", 8)
    path = table('id,amount\naa,1\nbb,2\ncc,3\n"d,d",4\nee,5\n')
    pieces = [(first, ids.texts()) for first, (ids,) in table_columns(path, ["id"])]
    assert pieces == [(1, ["aa", "bb"]), (3, ["cc", "d,d", "ee"])]
    assert [each for _, ids in pieces for each in ids] == ["aa", "bb", "cc", "d,d", "ee"]
    path.write_bytes(path.read_bytes() + b"f,6,7\n")
    with pytest.raises(BadInput, match="row 6 has 3 cells"):
        list(table_columns(path, ["id"]))
    path.write_bytes(b"id,amount\naa,1\nbb,2\ncc,3\ndd,\xff\n")
    with pytest.raises(BadInput, match="not_utf8"):
        list(table_columns(path, ["id"]))


def by_rows(path):
    with table_rows(path) as (header, rows):
        return header, [[number, *row] for number, row in rows]


def by_columns(path):
    found = []
    for first, columns in table_columns(path, ["id", "amount"]):
        texts = [cells.texts() for cells in columns]
        assert [[part.decode() for part in cells.parts()] for cells in columns] == texts
        assert [cells.filled for cells in columns] == list(map(all, texts))
        found += [[number, *row] for number, row in enumerate(zip(*texts, strict=True), start=first)]
    return ["id", "amount"], found


def tried(read):
    try:
        return read()
    except BadInput as refused:
        return str(refused)


@pytest.mark.parametrize("error", [BadInput("empty_file", "no rows"), PeerFailed("gone", peer="0x1")])
def test_an_error_survives_the_way_from_process_to_parent(error):
    again = from_report(to_report(error))
    assert type(again) is type(error)
    assert (str(again), again.peer) == (str(error), error.peer)


def test_an_unknown_code_is_a_crash():
    assert isinstance(from_report({"code": "?", "detail": "x"}), EngineError)


PHONES = KeyRule(("name", "phone"), (("trim", "case"), ("phone:86",)), distinct=True)
PEOPLE = "name,phone\n Li ,139 1234 5678\nWANG,+86 138-0000-0000\n"


def test_keys_of_two_columns_follow_their_rules(table):
    written_otherwise = "name,phone\nwang,008613800000000\nLI,13912345678\n"
    one, other = (read_keys(table(text), PHONES, TASK) for text in (PEOPLE, written_otherwise))
    assert one.tokens.tolist() == other.tokens.tolist()
    assert one.first().tolist() == [1 - row for row in other.first().tolist()]


KEYS = [
    ("unfit_id", "name,phone\nli,none\n"),
    ("empty_id", "name,phone\n  ,139 1234 5678\n"),
    ("empty_id", "name,phone\nli,\n"),
    ("missing_column", "name,fax\nli,1\n"),
    ("duplicate_ids", "name,phone\nLi,13912345678\nli,139-1234-5678\n"),
]


@pytest.mark.parametrize(("reason", "text"), KEYS)
def test_a_key_that_its_rules_refuse_is_named_before_anything_leaves(table, reason, text):
    path = table(text)
    for read in (lambda: check_table(path, [], [PHONES]), lambda: read_keys(path, PHONES, TASK)):
        with pytest.raises(BadInput) as refused:
            read()
        assert refused.value.reason == reason
        assert "13912345678" not in str(refused.value)


def test_rows_of_one_key_stay_together_in_the_order_of_the_file(table):
    keys = read_keys(table("id\na\nb\na\na\n"), KeyRule(("id",), ((),), distinct=False), TASK)
    groups = np.split(keys.rows, keys.starts[1:-1])
    assert sorted(group.tolist() for group in groups) == [[0, 2, 3], [1]]
    assert sorted(keys.first().tolist()) == [0, 1]
    assert check_table(table("id\na\na\n"), [], [KeyRule(("id",), ((),), distinct=False)]).rows == 2


@given(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=20), st.data())
def test_the_keys_of_some_rows_are_those_of_a_table_of_these_rows(tmp_path_factory, cells, data):
    path = tmp_path_factory.mktemp("keys") / "t.csv"
    path.write_text("id\n" + "".join(f"{each}\n" for each in cells))
    rule = KeyRule(("id",), ((),), distinct=False)
    chosen = data.draw(st.sets(st.integers(0, len(cells) - 1), min_size=1))
    some = read_keys(path, rule, TASK).only(np.array(sorted(chosen), dtype=np.uint32))
    assert as_cells(some, cells) == as_groups(cells, chosen)


def as_cells(keys: Keys, cells):
    groups = np.split(keys.rows, keys.starts[1:-1])
    return {cells[group[0]]: group.tolist() for group in groups}


def as_groups(cells, chosen):
    return {cell: [i for i in sorted(chosen) if cells[i] == cell] for cell in {cells[i] for i in chosen}}
