"""What an alignment hands to the requester, and what a party keeps, from files without any engine."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

from sealtrace.node.engines import handover
from sealtrace.node.engines.errors import BadJob
from sealtrace.node.engines.handover import RECEIVED, Found, receive, values
from sealtrace.node.engines.keys import KeyRule, read_keys, rule_for
from sealtrace.protocol.alignment import read_alignment

TASK = "0x" + "ab" * 32
TABLE = "id,amount,city\nb,1,Ulm\nA,2,Bonn\na,3,K\u00f6ln\nc,4,\n"


def found(tmp_path, params, common=("a", "b"), name="bank", **changes):
    """The view of a party after an alignment in which the keys ``common`` were found."""
    path = tmp_path / "t.csv"
    path.write_text(TABLE, encoding="utf-8")
    alignment = read_alignment({"key": [{"rules": ["case"]}], "duplicates": "first", **params})
    rule = rule_for(alignment, name, "id")
    keys = read_keys(path, rule, TASK)
    first_rows = {"b": 0, "a": 1, "c": 3}
    chosen = np.flatnonzero(np.isin(keys.first(), [first_rows[each] for each in common]))
    whole = {
        "name": name,
        "path": path,
        "rule": rule,
        "alignment": alignment,
        "inputs": ("bank", "registry"),
        "gives": ("amount", "city"),
        "rows": 4,
        "keys": keys,
        "chosen": chosen,
    }
    return Found(**{**whole, **changes})


def chunks(value):
    return [each for chunk in value.chunks for each in json.loads(chunk)]


def test_a_count_is_all_that_a_count_hands_over(tmp_path):
    (value,) = values(found(tmp_path, {}))
    assert (value.name, value.chunks) == ("aligned", (b'{"rows":2}',))


def test_ids_are_keys_as_their_rules_write_them_in_the_order_of_their_hashes(tmp_path):
    view = found(tmp_path, {"result": "ids"})
    _, ids = values(view)
    in_order = {"b": 0, "a": 1}
    assert chunks(ids) == sorted(in_order, key=lambda key: view.keys.first().tolist().index(in_order[key]))


def test_one_who_was_not_told_hands_over_nothing_and_keeps_nothing(tmp_path):
    view = found(tmp_path, {"result": "ids", "keep": True}, chosen=None)
    assert [(value.name, value.chunks) for value in values(view)] == [("aligned", ()), ("ids", ())]
    assert receive(view, tmp_path) is None
    assert not (tmp_path / RECEIVED).exists()


def rows(view):
    _, value = values(view)
    return sorted(chunks(value), key=str)


def test_a_join_gives_the_first_row_of_each_common_key(tmp_path):
    params = {"result": "rows", "key": [{"rules": ["case"]}]}
    assert [row[1:] for row in rows(found(tmp_path, params))] in (
        [["b", "1", "Ulm"], ["a", "2", "Bonn"]],
        [["a", "2", "Bonn"], ["b", "1", "Ulm"]],
    )


def test_a_join_of_all_rows_gives_every_row_of_a_common_key(tmp_path):
    given = rows(found(tmp_path, {"result": "rows", "duplicates": "all"}))
    assert sorted(row[2] for row in given) == ["1", "2", "3"]
    assert len({row[0] for row in given if row[1] == "a"}) == 1


def test_a_left_join_gives_the_left_inputs_other_rows_without_a_place(tmp_path):
    given = rows(found(tmp_path, {"result": "rows", "left": "bank"}))
    assert [row for row in given if row[0] is None] == [[None, "c", "4", ""]]
    assert len(given) == 3  # the second row of a is left out


def test_only_one_party_shows_the_keys(tmp_path):
    given = rows(found(tmp_path, {"result": "rows", "left": "bank"}, name="registry"))
    assert sorted(row[1:] for row in given) == [["1", "Ulm"], ["2", "Bonn"]]


def test_a_receiver_keeps_its_own_cells_of_its_common_rows(tmp_path):
    account = receive(found(tmp_path, {"keep": True}, common=("a",)), tmp_path)
    written = (tmp_path / RECEIVED).read_bytes()
    assert written.decode().split() == ["id", "A", "a"]
    assert account == {"rows": 2, "digest": "0x" + hashlib.sha256(written).hexdigest()}
    assert (tmp_path / RECEIVED).stat().st_mode & 0o777 == 0o600


def test_without_keep_a_receiver_keeps_nothing(tmp_path):
    assert receive(found(tmp_path, {}), tmp_path) is None
    assert not (tmp_path / RECEIVED).exists()


def test_many_rows_are_handed_over_in_pieces_and_in_order(tmp_path):
    path = tmp_path / "many.csv"
    path.write_text("id\n" + "".join(f"r{number}\n" for number in range(20_000)))
    keys = read_keys(path, KeyRule(("id",), ((),), distinct=True), TASK)
    everything = np.arange(20_000)
    view = found(tmp_path, {"result": "ids"}, path=path, rows=20_000, keys=keys, chosen=everything)
    _, ids = values(view)
    assert len(ids.chunks) == 3
    assert chunks(ids) == [f"r{row}" for row in keys.first()]


def test_a_result_beyond_what_a_share_holds_is_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(handover, "MAX_BLOB_BYTES", 2)
    with pytest.raises(BadJob, match="ask for a count"):
        values(found(tmp_path, {"result": "ids"}))


@pytest.mark.parametrize("result", ["count", "ids", "rows"])
def test_nothing_common_is_a_result_too(tmp_path, result):
    params = {"result": result, "duplicates": "first"}
    first, *more = values(found(tmp_path, params, common=()))
    assert first.chunks == (b'{"rows":0}',)
    assert all(value.chunks == () for value in more)
