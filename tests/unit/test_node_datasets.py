"""Datasets: fingerprints, schemas, salts, and what may be added."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import pytest

from sealtrace.node.datasets import DatasetKeeper, allowed, infer_schema
from sealtrace.node.errors import ChainUnavailable, DatasetUnreadable, DiskFull, PathNotAllowed
from sealtrace.node.evidence import EvidenceLog
from sealtrace.node.fingerprints import FileChanged, fingerprint_file, identity
from sealtrace.node.ports import Done
from sealtrace.node.store import Store, open_engine
from sealtrace.node.vault import SaltLost, Vault
from sealtrace.protocol.evidence import Kind
from sealtrace.protocol.fingerprint import PIECE_BYTES, commitment, fingerprint, pieces_of
from sealtrace.protocol.identifiers import Address, Hex32
from sealtrace.protocol.opening import Opening, statement_digest
from sealtrace.protocol.records import BlockRef, DataClass

ME = Address("0x" + "a" * 40)
TX = Hex32("0x" + "f" * 64)


@dataclass
class FakeActs:
    sent: list[str] = field(default_factory=list)
    error: Exception | None = None

    def send(self, intent, call):
        if self.error is not None:
            raise self.error
        self.sent.append(f"{intent.split(':')[0]} {call.function}")
        return Done(TX, BlockRef(1, TX, 1))


@pytest.fixture
def keeper(tmp_path):
    (tmp_path / "vault").mkdir()
    return DatasetKeeper(
        me=ME,
        store=Store(open_engine(f"sqlite:///{tmp_path}/node.db")),
        vault=Vault(tmp_path / "vault"),
        acts=FakeActs(),
        evidence=EvidenceLog(tmp_path / "evidence", ME),
        copies=tmp_path / "data",
    )


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("id,age,town\n1,30,Ulm\n2,41.5,Bonn\n")
    return path


@pytest.mark.parametrize(
    "size", [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES, 3 * PIECE_BYTES + 5]
)
@pytest.mark.parametrize("threads", [1, 3])
def test_a_file_has_the_fingerprint_of_its_bytes_on_any_number_of_threads(tmp_path, size, threads):
    data = os.urandom(size)
    (tmp_path / "file").write_bytes(data)
    root, found = fingerprint_file(tmp_path / "file", threads)
    assert root == fingerprint(pieces_of(data))
    assert found.bytes == size


def test_a_file_that_is_written_again_with_the_same_bytes_has_another_identity(table):
    before = identity(table)
    table.write_bytes(table.read_bytes())
    os.utime(table, (1, 1))
    assert identity(table) != before


def test_a_file_that_shrinks_while_it_is_read_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"x" * 100)
    monkeypatch.setattr(os, "pread", lambda *_: b"")
    with pytest.raises(FileChanged):
        fingerprint_file(tmp_path / "file")


@pytest.mark.parametrize("name", ["missing.csv", "."])
def test_a_file_that_cannot_be_read_is_named(tmp_path, name):
    with pytest.raises(DatasetUnreadable):
        fingerprint_file(tmp_path / name)


def test_a_column_is_a_number_when_all_its_filled_cells_are(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("id,age,town,empty\n1,30,Ulm,\n2,,Bonn,\n")
    kinds = {column.name: column.kind.value for column in infer_schema(path).columns}
    assert kinds == {"id": "number", "age": "number", "town": "text", "empty": "text"}


def test_a_parquet_table_has_the_schema_of_its_columns(tmp_path):
    arrow = pytest.importorskip("pyarrow", exc_type=ImportError)
    parquet = pytest.importorskip("pyarrow.parquet", exc_type=ImportError)
    parquet.write_table(arrow.table({"id": ["a"], "age": [1], "rate": [0.5]}), tmp_path / "t.parquet")
    schema = infer_schema(tmp_path / "t.parquet")
    assert schema.format == "parquet"
    assert [c.kind.value for c in schema.columns] == ["text", "number", "number"]


@pytest.mark.parametrize(
    "content", [b"", b"id,id\n1,2\n", b"id,\n1,2\n", b"id,age\n1\n", b"\xff\xfe\n", b'id\n"1', b"PAR1 no"]
)
def test_what_is_no_table_is_not_added(keeper, tmp_path, content):
    (tmp_path / "bad.csv").write_bytes(content)
    with pytest.raises(DatasetUnreadable):
        keeper.add(tmp_path / "bad.csv", "bad", DataClass.GENERAL)
    assert keeper.acts.sent == []
    assert list((tmp_path / "vault").iterdir()) == []


def test_a_dataset_is_committed_to_with_a_salt_that_is_kept_in_the_vault(keeper, table):
    row = keeper.add(table, "people", DataClass.IMPORTANT)
    salt = keeper.vault.salt(row.commitment)
    assert row.commitment == commitment(fingerprint(pieces_of(table.read_bytes())), salt)
    assert keeper.acts.sent == ["dataset register"]
    assert row.path == table  # it was not copied
    (vaulted,) = (keeper.vault._folder).iterdir()
    assert vaulted.stat().st_mode & 0o077 == 0


def test_two_owners_of_one_table_cannot_be_told_by_their_commitments(keeper, table, tmp_path):
    first = keeper.add(table, "a", DataClass.GENERAL)
    copy = tmp_path / "copy.csv"
    copy.write_bytes(table.read_bytes())
    assert keeper.add(copy, "b", DataClass.GENERAL).commitment != first.commitment


def test_a_dataset_added_twice_is_one_also_when_the_chain_was_down_at_first(keeper, table):
    keeper.acts.error = ChainUnavailable("no answer")
    with pytest.raises(ChainUnavailable):
        keeper.add(table, "people", DataClass.GENERAL)
    keeper.acts.error = None
    first = keeper.add(table, "people", DataClass.GENERAL)
    assert keeper.add(table, "people", DataClass.GENERAL) == first
    assert len(keeper.store.datasets()) == 1
    assert [keeper.evidence.record(i).kind for i in range(len(keeper.evidence))] == [
        "node.opened",
        "dataset.added",
    ]


def test_a_changed_table_is_another_dataset(keeper, table):
    first = keeper.add(table, "people", DataClass.GENERAL)
    table.write_text("id,age,town\n1,31,Ulm\n")
    assert keeper.add(table, "people", DataClass.GENERAL).id != first.id


def test_a_table_is_copied_when_asked_for_only(keeper, table, tmp_path):
    row = keeper.add(table, "people", DataClass.GENERAL, copy=True)
    assert row.path.parent == tmp_path / "data"
    assert row.path.read_bytes() == table.read_bytes()


def test_a_withdrawn_dataset_stays_known(keeper, table):
    row = keeper.add(table, "people", DataClass.GENERAL)
    assert keeper.withdraw(row.id).withdrawn
    assert keeper.acts.sent == ["dataset register", "dataset-withdraw withdraw"]


def test_a_lost_salt_is_named(tmp_path):
    with pytest.raises(SaltLost):
        Vault(tmp_path).salt(TX)


def test_the_api_reads_no_path_outside_its_directories_not_even_by_a_link(tmp_path):
    inside = tmp_path / "data"
    inside.mkdir()
    (tmp_path / "secret.csv").write_text("id\n1\n")
    (inside / "link.csv").symlink_to(tmp_path / "secret.csv")
    (inside / "table.csv").write_text("id\n1\n")
    assert allowed(inside / "table.csv", [inside]) == inside / "table.csv"
    for bad in (inside / "link.csv", inside / ".." / "secret.csv", tmp_path / "secret.csv"):
        with pytest.raises(PathNotAllowed):
            allowed(bad, [inside])


def test_what_is_no_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    for bad in (tmp_path / "pipe.csv", tmp_path / "\0", tmp_path / ("a" * 5000), tmp_path / "circle"):
        with pytest.raises(PathNotAllowed):
            allowed(bad, [tmp_path])


def test_one_dataset_is_opened_for_one_reader_and_it_is_recorded_before(keeper, table, tmp_path):
    row = keeper.add(table, "table", DataClass.GENERAL)
    other = tmp_path / "other.csv"
    other.write_text("id\n1\n")
    second = keeper.add(other, "other", DataClass.GENERAL)
    before = len(keeper.evidence)
    said = keeper.open(row.id, "the regulator")
    opening = Opening.model_validate(said.body)
    assert (said.speaker, said.audience, opening.commitment) == (ME, "the regulator", row.commitment)
    assert opening.commitment != second.commitment
    record = keeper.evidence.record(before)
    assert (record.kind, len(keeper.evidence)) == (Kind.DATASET_OPENED, before + 1)
    assert record.body == {"dataset": row.id, "to": "the regulator", "statement": statement_digest(said)}
    assert keeper.vault.salt(row.commitment).hex() not in record.line().decode()


def test_a_dataset_whose_opening_cannot_be_recorded_is_not_opened(keeper, table, monkeypatch):
    row = keeper.add(table, "table", DataClass.GENERAL)

    def full(*_):
        raise DiskFull("no room")

    monkeypatch.setattr(keeper.evidence, "append", full)
    with pytest.raises(DiskFull):
        keeper.open(row.id, "the regulator")
