"""What runs beside a TEE algorithm, and the library that the shipped ones share."""

from __future__ import annotations

import json
import math
import mmap
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealtrace.algorithms.bundles import Manifest, load, shipped
from sealtrace.algorithms.enclave import features, joining, measures, modelling
from sealtrace.algorithms.output_policy import _SHAPED, OutputPolicy, Reason, _places_among
from sealtrace.algorithms.template import create
from sealtrace.node.engines.tee.execution import INSIDE, laid_out
from sealtrace.node.engines.tee.inside import columns, inputs
from sealtrace.node.engines.tee.inside.columns import Column
from sealtrace.node.engines.tee.inside.frames import METRICS, OUTPUTS, BadFrame, Frames, frame
from sealtrace.node.engines.tee.inside.inputs import (
    Inputs,
    Model,
    Table,
    TableUnfit,
    read_table,
    split_table,
)
from sealtrace.node.engines.tee.opened import Opened
from sealtrace.node.engines.tee.sandbox import _ran_out_of_memory
from sealtrace.node.engines.tee.tabled import tabled
from sealtrace.protocol.bundle import BadBundle

TEE = sorted(name for name, folder in shipped().items() if load(folder).manifest.engine == "tee")


# --- frames


@settings(deadline=None)
@given(st.lists(st.binary(max_size=50), max_size=4), st.binary(max_size=200), st.integers(1, 30))
def test_frames_come_out_whole_however_they_are_cut(metrics, outputs, piece):
    sent = b"".join(frame(METRICS, each) for each in metrics) + frame(OUTPUTS, outputs)
    reading = Frames(200)
    found = [each for at in range(0, len(sent), piece) for each in reading.feed(sent[at : at + piece])]
    assert found == [*((METRICS, each) for each in metrics), (OUTPUTS, outputs)]


@pytest.mark.parametrize(
    "sent",
    [b"hello world", frame(b"X", b""), frame(OUTPUTS, bytes(201)), frame(METRICS, bytes(70_000)),
     frame(OUTPUTS, b"") + b"more", frame(OUTPUTS, b"") + frame(OUTPUTS, b"")],
)  # fmt: skip
def test_what_is_no_frame_is_refused(sent):
    with pytest.raises(BadFrame):
        list(Frames(200).feed(sent))


# --- tables


def test_a_table_gives_texts_numbers_and_ids():
    table = read_table(b'\xef\xbb\xbfid,age,home\r\na,30,"own, rent"\r\nb,,rent\r\n', "id")
    assert table.ids == ["a", "b"]
    assert table.rows == 2
    assert table.texts("home") == ["own, rent", "rent"]
    assert table.numbers("age")[0] == 30
    assert math.isnan(table.numbers("age")[1])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no header"),
        (b"a,a\n1,2\n", "name twice"),
        (b"a,b\n1\n", "row 1 has not as many"),
        (b"\xff\xfe", "no UTF-8"),
        (b"a\n1\n", "no id column 'id'"),
        (b"id\n1\n1\n", "has an id twice"),
    ],
)
def test_what_is_no_table_is_refused(content, words):
    with pytest.raises(TableUnfit, match=words):
        read_table(content, "id")


def test_a_cell_that_is_no_number_is_named_by_its_place_alone():
    table = Table({"age": ["30", "secret"]})
    with pytest.raises(TableUnfit, match="column 'age', row 2 is no number") as refused:
        table.numbers("age")
    assert "secret" not in str(refused.value)
    with pytest.raises(TableUnfit, match="no column 'name'"):
        table.texts("name")


CELL = st.one_of(
    st.sampled_from(
        ["", " ", "0", "-1.5", "1e5", "1_000", "nan", "inf", "+7", "0x1", "1e999", "rent", "é", "\t"]
    ),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.integers(-(10**30), 10**30).map(str),
    st.text(st.characters(exclude_characters=",", codec="utf-8"), max_size=3),
)


def read(content, *, arrow):
    """What a reader comes to: cells, and each column's doubles bit by bit, or the words of the refusal."""
    try:
        table = read_table(content, "id", arrow=arrow)
    except TableUnfit as refused:
        return str(refused)
    found = {}
    for name in table.columns:
        try:
            found[name] = np.asarray(table.floats(name)).tobytes()
        except TableUnfit as refused:
            found[name] = str(refused)
    return table.ids, {name: table.texts(name) for name in table.columns}, found, table.rows


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.lists(CELL, min_size=2, max_size=2), max_size=6),
    st.sampled_from(["\n", "\r\n", "\n\n", "\r"]),
    st.sampled_from(["id,a,b", "id,a,a", "a,b", "", "\ufeffid,a,b", "id,a,b\n\nid,1", 'id,"a",b']),
)
def test_both_readers_come_to_the_same_cells_numbers_and_refusals(rows, end, header):
    lines = [header, *(",".join([f"r{at}", *row]) for at, row in enumerate(rows))]
    content = end.join([*lines, ""]).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inputs, "LEAST_BYTES", 0)
        assert read(content, arrow=True) == read(content, arrow=False)


@given(
    st.lists(st.lists(st.sampled_from(["", "1", "1.0", "01", "2", "x", "é"]), max_size=4), max_size=3),
    st.sets(st.sampled_from([1.0, 2.0, "", "x"])),
    st.data(),
)
def test_a_column_finds_the_same_places_as_a_list_of_its_cells(chunks, cells, data):
    texts = [text for chunk in chunks for text in chunk]
    column = Column(pa.chunked_array(chunks, pa.string()))
    among = sorted(data.draw(st.sets(st.sampled_from(range(len(texts)))))) if texts else []
    for left in (range(len(texts)), among):
        assert _places_among(column, left, cells) == _places_among(texts, left, cells)


def test_a_large_table_without_quotation_marks_is_read_by_arrow_and_one_with_them_is_not():
    rows = [f"person-{at},{at / 7},{at % 5 or ''}" for at in range(60_000)]
    for text, kind in [("\n".join(["id,x,y", *rows]), Column), ("\n".join(['id,"x",y', *rows]), list)]:
        table = read_table(text.encode(), "id", arrow=True)
        assert type(table.columns["x"]) is kind
        assert table.ids[-1] == "person-59999"
        assert table.numbers("x")[7] == 1.0
        assert math.isnan(table.numbers("y")[5])


def test_a_table_is_read_where_it_lies_and_stays_when_that_is_erased():
    rows = [f"person-{at},{at / 7}" for at in range(100_000)]
    taken = Opened.of("\n".join(["id,x", *rows]).encode())
    for _ in range(20):  # Arrow's threads let go of what they read a moment after it is read
        with taken.mapped() as content:
            table = read_table(content, "id", arrow=True)
    taken.erase()
    assert type(table.columns["x"]) is Column
    assert table.texts("x")[-1] == repr(99_999 / 7)
    with Opened().mapped() as content, pytest.raises(TableUnfit):
        read_table(content, "id", arrow=True)


def test_a_table_that_was_split_is_the_table_that_was_read():
    rows = [f"person-{at},{at / 7},{at % 5 or ''},é{at % 3}" for at in range(60_000)]
    content = "\n".join(["id,x,y,z", *rows]).encode()
    taken = Opened.of(content)
    done = tabled(taken, "id", load(shipped()["tee-statistics"]))
    whole = read_table(content, "id")
    assert (done.given.kind, done.given.id_column) == ("split", "id")
    with os.fdopen(os.dup(done.given.descriptor), "rb") as file:
        inside = split_table(file.read(), "id")
    for table in (done.table, inside):
        assert (table.rows, table.ids) == (60_000, whole.ids)
        assert {name: table.texts(name) for name in table.columns} == whole.columns
        assert np.asarray(table.floats("y")).tobytes() == np.asarray(whole.floats("y")).tobytes()
    done.erase()
    taken.erase()


def test_what_the_guard_reads_with_the_sandbox_nobody_can_change_until_it_is_erased():
    taken = Opened.of(b"kept" * 2000)
    taken.freeze()
    seen, path = taken.lasting(), f"/proc/self/fd/{taken.descriptor}"
    again = os.open(path, os.O_RDWR)
    for change in (
        lambda: os.pwrite(again, b"x", 0),
        lambda: mmap.mmap(again, 8000),
        lambda: os.truncate(path, 0),
        lambda: os.posix_fallocate(again, 0, 1 << 20),
    ):
        with pytest.raises(PermissionError):
            change()
    assert seen[:4] == b"kept"
    taken.erase()
    assert seen[:] == bytes(8000)
    os.close(again)


def test_a_table_is_split_only_for_a_bundle_that_can_read_it_and_only_where_it_has_what_it_should():
    rows = [f"{at // 2},{at}" for at in range(200_000)]
    taken = Opened.of("\n".join(["id,x", *rows]).encode())
    statistics = load(shipped()["tee-statistics"])
    lock = b"numpy==1.26.4\n"
    without = replace(statistics, members={**statistics.members, "requirements.txt": lock})
    assert tabled(taken, "x", statistics).given.kind == "split"
    assert tabled(taken, "x", without).given.kind == "table"
    with pytest.raises(TableUnfit, match="twice"):
        tabled(taken, "id", statistics)
    with pytest.raises(TableUnfit, match="no id column"):
        tabled(taken, "name", statistics)
    assert tabled(taken, "name", statistics, needs_ids=False).table.ids is None
    small = Opened.of(b"id,x\n1,2\n")
    assert tabled(small, "id", statistics).given.kind == "table"


@pytest.mark.parametrize("piece", [1, 7, 8])
def test_line_ends_are_told_apart_wherever_a_piece_of_the_file_ends(monkeypatch, piece):
    monkeypatch.setattr(columns, "_PIECE_BYTES", piece)
    assert columns._plain(memoryview(b"a,b\r\n1,2\r\n3,4\r\n"))
    assert not columns._plain(memoryview(b"a,b\r\n1,2\r3,4\r\n"))


def test_inputs_are_told_apart_and_metrics_are_handed_on():
    told = []
    model = Model(b'{"bias": 1}')
    given = Inputs({"t": Table({"a": ["1"]}), "m": model}, {"split": 1}, lambda *each: told.append(each), 7)
    given.report(3, {"loss": np.float32(0.5)})
    assert (list(given), len(given), list(given.tables)) == (["t", "m"], 2, ["t"])
    assert model.value() == {"bias": 1}
    assert (told, given.min_group, given.seeds) == ([(3, {"loss": 0.5})], 7, {"split": 1})


@pytest.mark.parametrize(
    "printed",
    [
        b"pyarrow.lib.ArrowMemoryError: malloc of size 800000 failed",
        b"ImportError: /packages/1/x.so: failed to map segment from shared object",
        b"numpy.core._exceptions._ArrayMemoryError: Unable to allocate 3.00 GiB",
    ],
)
def test_what_libraries_print_when_memory_ends_is_known(printed):
    assert _ran_out_of_memory(b"Traceback\n" + printed + b"\n")
    assert not _ran_out_of_memory(b"ValueError: a cell is empty: give the feature a fill")


# --- joins, features, measures


BANK = Table({"age": ["30", "40", "50"], "owed": ["1", "2", "3"]}, ["a", "b", "c"])
SHOP = Table({"age": ["31", "51"], "spent": ["8", "9"]}, ["c", "a"])


def test_a_vertical_join_aligns_by_id_and_tells_like_names_apart():
    joined = joining.join({"bank": BANK, "shop": SHOP}, "vertical")
    assert joined.ids == ["a", "c"]
    assert joined.numbers("spent") == [9, 8]
    assert joined.numbers("bank.age") == [30, 50]
    assert joined.numbers("shop.age") == [51, 31]
    with pytest.raises(ValueError, match=r"write input\.column"):
        joined.texts("age")


def test_a_horizontal_join_puts_rows_below_each_other():
    other = Table({"owed": ["4"], "age": ["60"]}, ["d"])
    joined = joining.join({"b": other, "a": BANK}, "horizontal")
    assert (joined.rows, joined.ids, joined.numbers("owed")) == (4, ["a", "b", "c", "d"], [1, 2, 3, 4])


def test_tables_that_do_not_fit_are_not_joined():
    for tables, how, words in [
        ({"a": BANK, "b": SHOP}, "horizontal", "same columns"),
        ({"a": BANK, "b": BANK}, "horizontal", "different ids"),
        ({"a": BANK, "b": SHOP}, "none", "single table"),
        ({"a": BANK, "b": Table({"x": ["1"]})}, "vertical", "no ids"),
    ]:
        with pytest.raises(ValueError, match=words):
            joining.join(tables, how)


def test_a_vertical_join_is_by_whole_ids_in_ascending_order_of_three_tables_too():
    one = Table({"x": ["1", "2", "3", "4"]}, ["b\0", "b", "é", "a"])
    two = Table({"y": ["5", "6", "7"]}, ["é", "b", "a"])
    three = Table({"z": ["8", "9", "10", "11"]}, ["z", "a", "b\0", "é"])
    joined = joining.join({"one": one, "two": two, "three": three}, "vertical")
    assert joined.ids == ["a", "é"]
    assert [joined.numbers(each) for each in "xyz"] == [[4, 3], [7, 5], [9, 11]]
    assert joining.join({"one": one}, "vertical").ids == ["a", "b", "b\0", "é"]


@given(st.lists(st.sets(st.text(max_size=3)), min_size=1, max_size=3))
def test_common_ids_are_those_of_sets(held):
    tables = {str(at): Table({}, list(each)) for at, each in enumerate(held)}
    assert joining.common_ids(tables) == sorted(set.intersection(*held))


@given(st.lists(st.permutations("abcd"), min_size=1, max_size=3), st.sampled_from([2, 4]))
def test_a_vertical_join_gives_each_id_its_own_cells(orders, most):
    held = [list(each) if at else list(each)[:most] for at, each in enumerate(orders)]
    tables = {f"t{at}": Table({f"x{at}": [id * 2 for id in ids]}, ids) for at, ids in enumerate(held)}
    joined = joining.join(tables, "vertical")
    assert joined.ids == sorted(set.intersection(*map(set, held)))
    for at in range(len(held)):
        assert joined.texts(f"x{at}") == [id * 2 for id in joined.ids]


def made(cells, feature, train=None):
    joined = joining.join({"t": Table(cells)}, "none")
    learned = features.learn(joined, [feature], np.arange(joined.rows) if train is None else train)
    assert json.loads(json.dumps(learned)) == learned
    matrix = features.matrix(joined, learned)
    assert matrix.shape[1] == len(features.names(learned))
    return matrix.tolist()


@pytest.mark.parametrize(
    ("cells", "feature", "expected"),
    [
        (["1", "3"], {"scale": "standardise"}, [[-1], [1]]),
        (["1", "3", "2"], {"scale": "normalise"}, [[0], [1], [0.5]]),
        (["5", "5"], {"scale": "standardise"}, [[0], [0]]),
        (["1", "", "2", "6"], {"fill": "mean"}, [[1], [3], [2], [6]]),
        (["1", "", "2", "6"], {"fill": "median"}, [[1], [2], [2], [6]]),
        (["1", "", "1", "6"], {"fill": "mode"}, [[1], [1], [1], [6]]),
        (["", "2"], {"fill": 9}, [[9], [2]]),
        (["1", "3", "5"], {"bins": [3]}, [[1, 0], [0, 1], [0, 1]]),
        (["a", "b", "z"], {"categories": ["a", "b"]}, [[1, 0], [0, 1], [0, 0]]),
        (["a", "", "a"], {"categories": ["b", "a"], "fill": "mode"}, [[0, 1], [0, 1], [0, 1]]),
    ],
)
def test_each_feature_step_makes_its_numbers(cells, feature, expected):
    assert made({"x": cells}, {"column": "x", **feature}) == expected


def test_features_learn_of_the_training_rows_alone():
    matrix = made({"x": ["1", "3", "1000"]}, {"column": "x", "scale": "standardise"}, np.array([0, 1]))
    assert matrix == [[-1], [1], [998]]


@pytest.mark.parametrize(
    ("feature", "words"),
    [
        ({}, "a cell is empty"),
        ({"fill": "most"}, "mean, median, mode"),
        ({"fill": 0, "scale": "squash"}, "standardise or normalise"),
        ({"fill": 0, "bins": [3, 1]}, "ascending"),
        ({"categories": []}, "name each once"),
        ({"categories": ["a"], "fill": "b"}, "one of the categories"),
        ({"colour": 1}, "a feature has column"),
    ],
)
def test_features_that_make_no_sense_are_refused(feature, words):
    with pytest.raises(ValueError, match=words):
        made({"x": ["1", ""]}, {"column": "x", **feature})


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0.0, 1.0]), st.sampled_from([0.1, 0.4, 0.5, 0.9])), min_size=2))
def test_measures_agree_with_scikit_learn(rows):
    metrics = pytest.importorskip("sklearn.metrics")
    truth, scores = (np.array(each) for each in zip(*rows, strict=True))
    assert measures.log_loss(truth, scores) == pytest.approx(metrics.log_loss(truth, scores, labels=[0, 1]))
    assert measures.accuracy(truth, scores) == pytest.approx(metrics.accuracy_score(truth, scores >= 0.5))
    both = 0 < truth.sum() < len(truth)
    expected = metrics.roc_auc_score(truth, scores) if both else 0.5
    assert measures.auc(truth, scores) == pytest.approx(expected)


def test_the_metrics_of_a_round_are_of_a_bounded_number_of_rows_that_the_seed_chooses():
    assert modelling._watched(modelling.WATCHED, 1) == slice(None)
    chosen = modelling._watched(modelling.WATCHED + 10_000, 1)
    assert len(set(chosen.tolist())) == modelling.WATCHED
    assert (chosen == modelling._watched(modelling.WATCHED + 10_000, 1)).all()


# --- bundles


def test_the_policy_of_the_document_is_one_and_its_kinds_and_rules_are_all():
    text = (Path(__file__).parents[2] / "docs" / "tee-algorithms.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    OutputPolicy.model_validate(json.loads(f"{{{block}}}")["output_policy"])
    assert all(f"`{each}`" in text for each in Reason)
    kinds = {each.model_fields["kind"].annotation.__args__[0] for each in _SHAPED}
    assert all(f"`{each}`" in text for each in kinds)
    assert all(f"`{name}`" in text for name in TEE)


def changed(tmp_path, **changes):
    manifest = json.loads((create("mine", tmp_path, "tee") / "manifest.json").read_text())
    return {key: each for key, each in {**manifest, **changes}.items() if each is not None}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"entry": None}, "names its entry"),
        ({"output_policy": None}, "names its output_policy"),
        ({"runtime": None, "seeds": None}, "names its runtime, seeds"),
        ({"protocols": ["ABY3"]}, "HARDWARE, SIMULATED"),
        ({"protocols": []}, "HARDWARE, SIMULATED"),
        ({"arithmetic": {"field": "FM64", "fraction_bits": 18}}, "no function and no arithmetic"),
        ({"engine": "mpc"}, "only a tee algorithm has runtime, seeds, output_policy"),
    ],
)
def test_a_manifest_of_a_tee_algorithm_is_whole(tmp_path, changes, words):
    with pytest.raises(ValueError, match=words):
        Manifest.model_validate(changed(tmp_path, **changes))


def test_a_lock_file_has_exact_versions_and_is_in_the_bundle(tmp_path):
    folder = create("mine", tmp_path, "tee")
    assert load(folder).pins == {}
    (folder / "requirements.txt").write_text("# exact\n\nnumpy==1.26.4\n")
    assert load(folder).pins == {"numpy": "1.26.4"}
    (folder / "requirements.txt").write_text("numpy>=1.26\n")
    with pytest.raises(BadBundle, match="no name==version"):
        _ = load(folder).pins
    (folder / "requirements.txt").unlink()
    with pytest.raises(BadBundle, match="its runtime names it"):
        _ = load(folder).pins


@pytest.mark.parametrize("name", TEE)
def test_a_tee_algorithm_does_not_run_in_the_node_s_own_process(name):
    with pytest.raises(BadBundle, match="in the sandbox only"):
        _ = load(shipped()[name]).program


@pytest.mark.parametrize("name", TEE)
def test_code_is_laid_out_from_the_digested_bytes(name):
    bundle = load(shipped()[name])
    with laid_out(bundle) as code:
        assert (code / "algorithm/bundle/program.py").read_bytes() == bundle.members["program.py"]
        library = bundle.members["libraries/enclave/joining.py"]
        assert (code / "algorithm/enclave/joining.py").read_bytes() == library
        assert (code / INSIDE / "__main__.py").is_file()
    assert not code.exists()
