"""Datasets of this node: taken by their path, fingerprinted, committed to with a salt; not copied unasked."""

from __future__ import annotations

import csv
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from sealtrace.algorithms.frames import BadShare
from sealtrace.algorithms.kept import is_part, read_header
from sealtrace.contracts import calls
from sealtrace.contracts.terms import dataset_id
from sealtrace.node.chain import ChainActs
from sealtrace.node.errors import ChainRefused, DatasetUnreadable, DiskFull, PathNotAllowed
from sealtrace.node.evidence import EvidenceLog
from sealtrace.node.fingerprints import fingerprint_file
from sealtrace.node.ports import Reverted
from sealtrace.node.store import DatasetRow, Store
from sealtrace.node.vault import Vault
from sealtrace.protocol.evidence import Kind
from sealtrace.protocol.fingerprint import commitment
from sealtrace.protocol.identifiers import Address, Hex32
from sealtrace.protocol.opening import Opening, statement, statement_digest
from sealtrace.protocol.records import DataClass
from sealtrace.protocol.schema import Column, ColumnKind, Schema
from sealtrace.protocol.secret_config import (
    MAX_DOCUMENT_BYTES,
    VERSION,
    BadSecretConfig,
    is_object,
    read_secret_config,
)
from sealtrace.protocol.statements import Statement

SAMPLED_ROWS = 10_000
_PARQUET = b"PAR1"


class ParquetUnsupported(DatasetUnreadable):
    """Reading a Parquet file's schema needs pyarrow, which is not installed."""

    next_step = "pip install pyarrow, or give the table as CSV."


@dataclass(frozen=True, slots=True)
class DatasetKeeper:
    """Adds and withdraws datasets of the node ``me``; copies go to ``copies``, and only when asked for."""

    me: Address
    store: Store
    vault: Vault
    acts: ChainActs
    evidence: EvidenceLog
    copies: Path

    def add(
        self,
        path: Path,
        name: str,
        data_class: DataClass,
        *,
        copy: bool = False,
        supersedes: Hex32 | None = None,
        kept_from: Mapping[str, str] | None = None,
    ) -> DatasetRow:
        """Fingerprint the table or part at ``path`` and put its salted commitment on the chain.

        With ``supersedes`` it is the next version of that dataset, over which no grant is issued any more;
        those in being still run where its bytes are still there. Added again unchanged, it is the same
        dataset: a crash in between leaves nothing that a second call does not finish. The salt is safe before
        the commitment is told, and the row before the chain. ``kept_from`` is the task and the value that a
        part is of.

        Raises:
            DatasetUnreadable: it is no table that can be read.
            DatasetNotFound: the one it should supersede is not this node's.
            DiskFull: no room for the salt or the record.
            ChainRefused, ChainUnavailable: the chain does not take it, or not now.
        """
        if supersedes:
            self.store.dataset(supersedes)
        path = path.resolve()
        root, found = fingerprint_file(path)
        row = self._known(path, root) or self._new(path, name, root, found.bytes, data_class, copy=copy)
        schema_hash = Schema.model_validate(row.schema).hash()
        said = (row.commitment, schema_hash, DataClass(row.data_class))
        call = calls.supersede_dataset(supersedes, *said) if supersedes else calls.register_dataset(*said)
        transaction = self._send(f"dataset:{row.id}", call)
        body = {
            "dataset": row.id,
            "commitment": row.commitment,
            "schema_hash": schema_hash,
            "data_class": row.data_class,
            "transaction": transaction,
            **({"supersedes": supersedes} if supersedes else {}),
            **({"kept_from": dict(kept_from)} if kept_from else {}),
        }
        self._record(Kind.DATASET_ADDED, row.id, body)
        return row

    def withdraw(self, dataset: Hex32) -> DatasetRow:
        """Withdraw a dataset: no task starts on it from then on. The file stays.

        Raises:
            DatasetNotFound, ChainRefused, ChainUnavailable: see there.
        """
        row = self.store.dataset(dataset)
        transaction = self._send(f"dataset-withdraw:{dataset}", calls.withdraw_dataset(dataset))
        self.store.withdraw(dataset)
        self._record(Kind.DATASET_WITHDRAWN, dataset, {"dataset": dataset, "transaction": transaction})
        return self.store.dataset(row.id)

    def open(self, dataset: Hex32, to: str) -> Statement:
        """What opens the commitment of one dataset to ``to``, once the evidence log says that it was opened.

        Raises:
            DatasetNotFound: it is not this node's.
            SaltLost: there is nothing that opens it.
            DiskFull: the opening cannot be recorded, so there is none.
        """
        row = self.store.dataset(dataset)
        salt = self.vault.salt(row.commitment)
        opening = Opening(dataset=row.id, root=row.root, salt="0x" + salt.hex())
        said = statement(opening, self.me, to, int(time.time()))
        body = {"dataset": row.id, "to": to, "statement": statement_digest(said)}
        self.evidence.append(Kind.DATASET_OPENED, body)
        return said

    def _known(self, path: Path, root: Hex32) -> DatasetRow | None:
        same = (row for row in self.store.datasets() if row.path == path and row.root == root)
        return next((row for row in same if not row.withdrawn), None)

    def _new(
        self, path: Path, name: str, root: Hex32, size: int, data_class: DataClass, *, copy: bool
    ) -> DatasetRow:
        schema = infer_schema(path)
        salt = self.vault.new_salt()
        bound = commitment(root, salt)
        row = DatasetRow(
            id=dataset_id(self.me, bound),
            name=name,
            path=_copied(path, self.copies / f"{root[2:]}{path.suffix}") if copy else path,
            bytes=size,
            root=root,
            commitment=bound,
            schema=schema.model_dump(mode="json"),
            data_class=int(data_class),
            withdrawn=False,
            added_at=time.time(),
        )
        self.vault.keep(bound, salt)
        self.store.keep_dataset(row)
        return row

    def _send(self, intent: str, call: calls.Call) -> Hex32:
        try:
            return self.acts.send(intent, call).transaction
        except Reverted as reverted:
            raise ChainRefused(reverted.name, str(reverted)) from reverted

    def _record(self, kind: Kind, dataset: Hex32, body: dict[str, Any]) -> None:
        """Once: the mark is set after the record, so that a crash in between repeats it and loses nothing."""
        mark = f"{kind.value}:{dataset[2:34]}"
        if self.store.mark(mark) is None:
            record = self.evidence.append(kind, body)
            self.store.set_mark(mark, str(record.index))


def allowed(path: Path, directories: Sequence[Path]) -> Path:
    """``path`` without links, where it lies under one of ``directories``.

    Raises:
        PathNotAllowed: it does not.
    """
    try:
        real = path.resolve()
        special = real.exists() and not (real.is_file() or real.is_dir())
    except (OSError, RuntimeError, ValueError) as cause:  # too long, links in a circle, or a NUL in it
        raise PathNotAllowed(f"this is no path: {cause}") from cause
    if not path.is_absolute() or not any(real.is_relative_to(each.resolve()) for each in directories):
        raise PathNotAllowed(f"{path} is not under a directory that the API may read")
    if special:  # opening a pipe waits for whoever writes to it
        raise PathNotAllowed(f"{path} is neither a file nor a directory")
    return real


def infer_schema(path: Path) -> Schema:
    """The columns of a CSV or Parquet table, the arrays of a kept part, or the names of secret values.

    A CSV column is a number when every filled cell of its first 10,000 rows is one.

    Raises:
        DatasetUnreadable: it is none of these, or a name is empty or given twice.
    """
    try:
        with path.open("rb") as file:
            parquet = file.read(4) == _PARQUET
        if is_part(path):
            return _part(path)
        if (secret := _secret_config(path)) is not None:
            return secret
        schema = _parquet(path) if parquet else _csv(path)
    except (BadShare, BadSecretConfig) as cause:
        raise DatasetUnreadable(f"{path.name}: {cause}") from cause
    except (OSError, UnicodeDecodeError, csv.Error) as cause:
        raise DatasetUnreadable(f"{path.name}: not a table in UTF-8 CSV: {cause}") from cause
    names = [column.name for column in schema.columns]
    if not all(names) or len(set(names)) != len(names):
        raise DatasetUnreadable(f"{path.name}: every column needs a name of its own")
    return schema


def _csv(path: Path) -> Schema:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        header = next(reader, None)
        if not header:
            raise DatasetUnreadable(f"{path.name} has no header line")
        text = [False] * len(header)
        filled = [False] * len(header)
        for number, row in enumerate(islice(reader, SAMPLED_ROWS), start=1):
            if len(row) != len(header):
                raise DatasetUnreadable(f"{path.name}: row {number} has {len(row)} cells, not {len(header)}")
            for at, cell in enumerate(row):
                filled[at] = filled[at] or bool(cell)
                text[at] = text[at] or (bool(cell) and not _is_number(cell))
    kinds = [ColumnKind.TEXT if t or not f else ColumnKind.NUMBER for t, f in zip(text, filled, strict=True)]
    return Schema(
        format="csv",
        columns=tuple(Column(name=n, kind=k) for n, k in zip(header, kinds, strict=True)),
    )


def _part(path: Path) -> Schema:
    arrays = read_header(path).arrays
    columns = tuple(Column(name=each, kind=ColumnKind.NUMBER) for each in arrays)
    return Schema(format="sealtrace.part/1", columns=columns)


def _secret_config(path: Path) -> Schema | None:
    """The names of secret values, and nothing of what they are; ``None`` where the file is no JSON object.

    Raises:
        BadSecretConfig: it is another object: as a table its values would be the names of columns.
    """
    with path.open("rb") as file:
        text = file.read(MAX_DOCUMENT_BYTES + 1)
    if not text.lstrip().startswith(b"{") or not is_object(text):
        return None
    names = sorted(read_secret_config(text).values)
    columns = tuple(Column(name=each, kind=ColumnKind.TEXT) for each in names)
    return Schema(format=VERSION, columns=columns)


def _parquet(path: Path) -> Schema:
    try:
        from pyarrow import ArrowException, types
        from pyarrow.parquet import read_schema
    except ImportError as cause:
        raise ParquetUnsupported(f"{path.name} is a Parquet file") from cause
    try:
        fields = list(read_schema(path))
    except ArrowException as cause:
        raise DatasetUnreadable(f"{path.name}: not a Parquet file: {cause}") from cause
    return Schema(
        format="parquet",
        columns=tuple(
            Column(
                name=f.name,
                kind=ColumnKind.NUMBER
                if types.is_integer(f.type) or types.is_floating(f.type)
                else ColumnKind.TEXT,
            )
            for f in fields
        ),
    )


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _copied(source: Path, target: Path) -> Path:
    target.parent.mkdir(mode=0o700, exist_ok=True)
    try:
        shutil.copyfile(source, target)
    except OSError as cause:
        target.unlink(missing_ok=True)
        raise DiskFull(f"{source.name} cannot be copied into the node's directory: {cause}") from cause
    return target


def shown(row: DatasetRow) -> dict[str, Any]:
    """A dataset as it is shown to its operator: no salt, no root."""
    return {
        "id": row.id,
        "name": row.name,
        "path": str(row.path),
        "bytes": row.bytes,
        "commitment": row.commitment,
        "schema": json.loads(json.dumps(row.schema)),
        "data_class": DataClass(row.data_class).name.lower(),
        "withdrawn": row.withdrawn,
        "added_at": int(row.added_at),
    }
