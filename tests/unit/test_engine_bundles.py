from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealtrace.algorithms.bundles import BundleAltered, BundleMissing, load, shipped
from sealtrace.algorithms.frames import BadShare, SecretValue
from sealtrace.algorithms.opening import opened, read_shares
from sealtrace.algorithms.shares import (
    MAGIC,
    Header,
    decode_share,
    decode_value,
    encode_share,
    encode_value,
)
from sealtrace.protocol.bundle import BadBundle, Member, pack, tar
from sealtrace.protocol.canonical import canonical

TASK = "0x" + "ab" * 32


def open_result(shares, bundle, params):
    return opened(read_shares(shares), bundle, params)


def test_the_digest_does_not_depend_on_the_order_of_files():
    members = [Member("b", b"2"), Member("a", b"1", executable=True)]
    assert pack(members, {}).digest == pack(reversed(members), {}).digest


@pytest.mark.parametrize(
    "other",
    [
        [Member("a", b"2")],
        [Member("b", b"1")],
        [Member("a", b"1", executable=True)],
        [Member("a", b"1"), Member("b", b"")],
    ],
)
def test_the_digest_changes_with_every_byte_name_and_mode(other):
    assert pack(other, {}).digest != pack([Member("a", b"1")], {}).digest


def test_the_digest_changes_with_the_config():
    assert pack([Member("a", b"1")], {"k": 1}).digest != pack([Member("a", b"1")], {}).digest


def test_the_layer_is_a_plain_tar_without_owners_or_times():
    layer = tar([Member("d/a", b"1"), Member("b", b"22", executable=True)])
    with tarfile.open(fileobj=io.BytesIO(layer)) as archive:
        found = [(e.name, e.size, e.mode, e.mtime, e.uid, e.isreg()) for e in archive]
    assert found == [("b", 2, 0o755, 0, 0, True), ("d/a", 1, 0o644, 0, 0, True)]


def test_the_manifest_is_an_oci_image_manifest_of_its_blobs():
    packed = pack([Member("a", b"1")], {"k": 1})
    manifest = json.loads(packed.manifest)
    assert manifest["schemaVersion"] == 2
    assert manifest["config"]["size"] == len(packed.config)
    assert manifest["layers"][0]["size"] == len(packed.layer)
    assert packed.oci_digest == "sha256:" + packed.digest[2:]


@pytest.mark.parametrize(
    "path",
    ["../a", "/a", "a/../b", "", "a//b", "./a", "a\\b", "a\nb", unicodedata.normalize("NFD", "é"), "x" * 101],
)
def test_a_path_that_is_not_clean_is_refused(path):
    with pytest.raises(BadBundle):
        tar([Member(path, b"")])


def test_paths_that_differ_in_letter_case_only_are_refused():
    with pytest.raises(BadBundle):
        tar([Member("A", b""), Member("a", b"")])


PARAMS = {
    "columns": {"age": {"input": "a", "kind": "number"}},
    "requests": {"ages": {"measure": "summary", "of": "age", "statistics": ["mean"]}},
    "min_group": 2,
}


@pytest.fixture
def copied(tmp_path):
    folder = tmp_path / "statistics"
    shutil.copytree(shipped()["statistics"], folder)
    return folder


def test_the_shipped_bundles_load_and_state_what_each_role_learns():
    for name, folder in shipped().items():
        manifest = load(folder).manifest
        assert manifest.name == name
        assert {"party", "requester", "scheduler", "assumption"} <= set(manifest.learns)


def test_a_copy_has_the_same_digest_and_an_altered_copy_is_named(copied):
    digest = load(shipped()["statistics"]).digest
    assert load(copied, expected=digest).digest == digest
    (copied / "program.py").write_bytes((copied / "program.py").read_bytes() + b"\n")
    with pytest.raises(BundleAltered) as altered:
        load(copied, expected=digest)
    assert altered.value.expected == digest


def test_compiled_leftovers_are_no_part_of_a_bundle(copied):
    digest = load(copied).digest
    (copied / "__pycache__").mkdir()
    (copied / "__pycache__" / "x.pyc").write_bytes(b"x")
    assert load(copied).digest == digest


def test_a_symbolic_link_is_refused(copied):
    os.symlink("/etc/hostname", copied / "link")
    with pytest.raises(BadBundle, match="symbolic"):
        load(copied)


def test_a_special_file_is_refused(copied):
    os.mkfifo(copied / "pipe")
    with pytest.raises(BadBundle, match="regular"):
        load(copied)


def test_a_folder_without_a_bundle_is_named(tmp_path):
    with pytest.raises(BundleMissing):
        load(tmp_path / "nowhere")
    with pytest.raises(BundleMissing):
        load(tmp_path)


def test_code_changed_after_loading_does_not_run(copied):
    bundle = load(copied)
    for path in copied.glob("*.py"):
        path.write_text("raise SystemExit('altered')")
    assert bundle.program.outputs(PARAMS) == ["ages/rows", "ages/sum", "scale/age"]


def test_two_versions_of_a_bundle_do_not_mix(copied):
    first = load(copied)
    joint = copied / "declared.py"
    joint.write_text(joint.read_text().replace("def read(", "LATER = True\n\n\ndef read("))
    second = load(copied)
    assert not hasattr(first.program.declared, "LATER")
    assert second.program.declared.LATER


def test_a_bundle_that_does_not_load_says_why(copied):
    (copied / "ranges.py").write_text("import no_such_thing")
    with pytest.raises(BadBundle, match="no_such_thing"):
        _ = load(copied).program


@given(
    st.lists(
        st.tuples(st.text(max_size=8), st.binary(max_size=30), st.lists(st.binary(max_size=9), max_size=3))
    )
)
def test_a_share_reads_as_it_was_written(parts):
    values = tuple(SecretValue(name, meta, tuple(chunks)) for name, meta, chunks in parts)
    header = Header(kind="mpc", task=TASK, step="s", rank=1, world=3, rows=5, values=[])
    again = decode_share(encode_share(header, values))
    assert again.values == values
    assert (again.header.rank, again.header.rows) == (1, 5)


@given(st.binary(max_size=80))
def test_any_bytes_are_a_share_or_refused_by_name(data):
    with pytest.raises(BadShare):
        decode_value(MAGIC + data)


def test_a_share_with_a_byte_too_many_is_refused():
    with pytest.raises(BadShare):
        decode_value(encode_value(SecretValue("a", b"m", (b"c",))) + b"x")


def psi_share(rank: int, text: bytes = b'{"rows":5}', world: int = 2, task: str = TASK) -> bytes:
    header = Header(kind="psi", task=task, step="s", rank=rank, world=world, rows=5, values=[])
    return encode_share(header, [SecretValue("aligned", b"", (text,))])


def test_an_alignment_opens_to_what_all_parties_say():
    assert open_result([psi_share(1), psi_share(0)], load(shipped()["psi"]), {}) == {"rows": 5}


@pytest.mark.parametrize(
    "shares",
    [
        [],
        [psi_share(0)],
        [psi_share(0), psi_share(0)],
        [psi_share(0), psi_share(1, b'{"rows":6}')],
        [psi_share(0), psi_share(1, task="0x" + "cd" * 32)],
    ],
)
def test_shares_that_do_not_belong_together_are_refused(shares):
    with pytest.raises(BadShare):
        open_result(shares, load(shipped()["psi"]), {})


def one_who_was_told_nothing(rank: int, *names: str) -> bytes:
    header = Header(kind="psi", task=TASK, step="s", rank=rank, world=2, rows=0, values=[])
    return encode_share(header, [SecretValue(name, b"", ()) for name in ("aligned", *names)])


def test_an_alignment_opens_to_what_its_only_receiver_says():
    shares = [one_who_was_told_nothing(0), psi_share(1)]
    assert open_result(shares, load(shipped()["psi"]), {}) == {"rows": 5}


def test_an_alignment_of_which_nobody_was_told_is_refused():
    with pytest.raises(BadShare, match="do not agree"):
        open_result([one_who_was_told_nothing(0), one_who_was_told_nothing(1)], load(shipped()["psi"]), {})


def ids_share(rank: int, *chunks: bytes, rows: int = 2) -> bytes:
    header = Header(kind="psi", task=TASK, step="s", rank=rank, world=2, rows=rows, values=[])
    counted = SecretValue("aligned", b"", (b'{"rows":%d}' % rows,))
    return encode_share(header, [counted, SecretValue("ids", b"", chunks)])


def test_ids_come_in_pieces_and_all_who_know_them_say_the_same():
    psi = load(shipped()["psi"])
    pieces = (b'["a"]', b'[["b","c"]]')
    both = [ids_share(0, *pieces), ids_share(1, *pieces)]
    assert open_result(both, psi, {}) == {"rows": 2, "ids": ["a", ["b", "c"]]}
    one = [ids_share(0, *pieces), one_who_was_told_nothing(1, "ids")]
    assert open_result(one, psi, {})["ids"] == ["a", ["b", "c"]]
    assert open_result([ids_share(0, rows=0), ids_share(1, rows=0)], psi, {}) == {"rows": 0, "ids": []}


@pytest.mark.parametrize(
    "shares",
    [
        [ids_share(0, b'["a","b"]'), ids_share(1, b'["a","c"]')],
        [ids_share(0, b'["a","b"]'), ids_share(1)],
        [ids_share(0, b'["a"]'), ids_share(1, b'["a"]')],
        [ids_share(0, b"{}"), ids_share(1, b"{}")],
        [ids_share(0, b"["), ids_share(1, b"[")],
        [ids_share(0, b'["a","b"]'), psi_share(1)],
    ],
)
def test_ids_that_parties_do_not_agree_on_are_refused(shares):
    with pytest.raises(BadShare):
        open_result(shares, load(shipped()["psi"]), {})


def rows_share(rank: int, rows: object, *, keys: bool, count: int = 2, columns=("c",)) -> bytes:
    header = Header(kind="psi", task=TASK, step="s", rank=rank, world=2, rows=count, values=[])
    words = canonical({"input": "ab"[rank], "columns": list(columns), "keys": keys})
    counted = SecretValue("aligned", b"", (b'{"rows":%d}' % count,))
    return encode_share(header, [counted, SecretValue("rows", words, (json.dumps(rows).encode(),))])


def test_rows_are_joined_by_key_every_one_with_every_one():
    left = rows_share(0, [[0, "x", "1"], [0, "x", "2"], [1, "y", "3"], [None, "z", "4"]], keys=True)
    right = rows_share(1, [[0, "5"], [1, "6"], [1, "7"]], keys=False)
    assert open_result([left, right], load(shipped()["psi-join"]), {}) == {
        "rows": 2,
        "columns": ["key", "a.c", "b.c"],
        "table": [["x", "1", "5"], ["x", "2", "5"], ["y", "3", "6"], ["y", "3", "7"], ["z", "4", None]],
    }


GOOD_LEFT = [[0, "x", "1"], [1, "y", "3"]]


@pytest.mark.parametrize(
    ("left", "right", "keys"),
    [
        ([[0, "x", "1"]], [[0, "5"], [1, "6"]], False),  # nothing for the second key
        ([[0, "x"], [1, "y", "3"]], [[0, "5"], [1, "6"]], False),
        ([[2, "x", "1"], *GOOD_LEFT], [[0, "5"], [1, "6"]], False),
        ([[True, "x", "1"], *GOOD_LEFT], [[0, "5"], [1, "6"]], False),
        ("rows", [[0, "5"], [1, "6"]], False),
        (GOOD_LEFT, [[0, "x", "5"], [1, "y", "6"]], True),  # two show the keys
    ],
)
def test_rows_that_do_not_join_are_refused(left, right, keys):
    shares = [rows_share(0, left, keys=True), rows_share(1, right, keys=keys)]
    with pytest.raises(BadShare):
        open_result(shares, load(shipped()["psi-join"]), {})


def test_a_party_must_say_what_columns_it_gives():
    bad = rows_share(1, [[0, "5"], [1, "6"]], keys=False, columns=(1,))
    with pytest.raises(BadShare, match="which columns"):
        open_result([rows_share(0, GOOD_LEFT, keys=True), bad], load(shipped()["psi-join"]), {})
