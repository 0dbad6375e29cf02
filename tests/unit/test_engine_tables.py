from __future__ import annotations

import pytest

from sealtrace.node.engines.errors import BadInput, EngineError, PeerFailed, from_report, to_report
from sealtrace.node.engines.tables import check_table, load_table

GOOD = "id,amount,city\nb,1.5,Ulm\na,-2e3,Bonn\n"


@pytest.fixture
def table(tmp_path):
    def write(text: str | bytes):
        path = tmp_path / "table.csv"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write


def test_a_sound_table_is_counted(table):
    facts = check_table(table(GOOD), ["amount"], "id")
    assert (facts.rows, facts.columns) == (2, ("id", "amount", "city"))


def test_columns_are_read_by_kind_in_the_order_of_the_file(table):
    loaded = load_table(table(GOOD), [("amount", "number"), ("city", "category")], "id")
    assert loaded.ids == ["b", "a"]
    assert list(loaded.columns["amount"]) == [1.5, -2000.0]
    taken = loaded.take([1])
    assert (taken.ids, list(taken.columns["amount"]), taken.columns["city"]) == (["a"], [-2000.0], ["Bonn"])


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
        lambda: check_table(path, ["amount"], "id"),
        lambda: load_table(path, [("amount", "number")], "id"),
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
        load_table(table(f"id,amount\na,1\nb,{cell}\n"), [("amount", "number")], "id")
    assert refused.value.reason == reason
    assert "row 2" in str(refused.value)


def test_a_refusal_quotes_no_cell(table):
    with pytest.raises(BadInput) as refused:
        check_table(table("id,amount\nsecret,1\nsecret,2\n"), ["amount"], "id")
    assert "secret" not in str(refused.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BadInput, match="missing_file"):
        check_table(tmp_path / "nothing.csv", [], "id")


def test_a_byte_order_mark_is_no_part_of_the_first_name(table):
    assert check_table(table(b"\xef\xbb\xbfid,amount\na,1\n"), ["amount"], "id").rows == 1


@pytest.mark.parametrize("error", [BadInput("empty_file", "no rows"), PeerFailed("gone", peer="0x1")])
def test_an_error_survives_the_way_from_process_to_parent(error):
    again = from_report(to_report(error))
    assert type(again) is type(error)
    assert (str(again), again.peer) == (str(error), error.peer)


def test_an_unknown_code_is_a_crash():
    assert isinstance(from_report({"code": "?", "detail": "x"}), EngineError)
