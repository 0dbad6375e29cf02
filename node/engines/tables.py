"""A party's own table: checks that a node makes before it starts, and the columns an engine reads.

Errors name rows and columns, never a cell: they travel into logs.
"""

from __future__ import annotations

import csv
import math
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sealtrace.node.engines.errors import BadInput

Kind = Literal["category", "number", "nullable_category", "nullable_number"]
MAX_CELL = 64 << 10
MAX_COLUMNS = 16_384


@dataclass(frozen=True, slots=True)
class TableFacts:
    """What a check found: rows below the header."""

    rows: int
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """The columns that a job reads. ``ids`` and all columns have the same length and order."""

    ids: list[str]
    columns: dict[str, list[str] | array[float]]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.ids)

    def take(self, order: Sequence[int]) -> Table:
        """Return the rows numbered in ``order``, in that order."""
        return Table([self.ids[i] for i in order], {n: _take(c, order) for n, c in self.columns.items()})


def check_table(path: Path, columns: Sequence[str], id_column: str) -> TableFacts:
    """Read a CSV file once and refuse what no job could use.

    Streams: memory is 8 bytes a row for the hashes of ids, twice that while they are sorted.

    Raises:
        BadInput: ``missing_file``, ``empty_file``, ``not_utf8``, ``malformed_csv``,
            ``duplicate_column``, ``missing_column``, ``empty_id``, ``duplicate_ids``.
    """
    hashes = array("q")
    with _rows(path) as (header, rows):
        at = _places(header, [id_column, *columns])[0]
        for number, row in rows:
            hashes.append(hash(_id(row[at], number)))  # 64 bits, keyed anew in each process (PEP 456)
    if not hashes:
        raise BadInput("empty_file", f"{path.name} has no rows below its header")
    if suspects := _repeated(hashes):
        _confirm_duplicates(path, id_column, suspects)
    return TableFacts(len(hashes), tuple(header))


def load_table(path: Path, columns: Sequence[tuple[str, Kind]], id_column: str) -> Table:
    """Read the ids and ``columns`` (name and kind) of a CSV file into memory.

    An empty cell of a nullable column is NaN, or an empty text.

    Raises:
        BadInput: as :func:`check_table`, and ``not_a_number``, ``not_finite``, ``empty_cell``.
    """
    kinds = dict(columns)
    if len(kinds) != len(set(columns)):
        raise BadInput(
            "column_kind",
            "a column is asked for in two ways: as number and as category, or with nulls and without",
        )
    table = Table([], {n: array("d") if k.endswith("number") else [] for n, k in kinds.items()})
    with _rows(path) as (header, rows):
        id_at, *places = _places(header, [id_column, *kinds])
        readers = [
            (at, name, *_reader(kind, table.columns[name]))
            for at, (name, kind) in zip(places, kinds.items(), strict=True)
        ]
        for number, row in rows:
            table.ids.append(_id(row[id_at], number))
            for at, name, read, append in readers:
                append(read(row[at], name, number))
    if not table.ids:
        raise BadInput("empty_file", f"{path.name} has no rows below its header")
    if len(set(table.ids)) != len(table.ids):
        raise BadInput("duplicate_ids", f"column {id_column}: an id is given twice")
    return table


@contextmanager
def _rows(path: Path) -> Iterator[tuple[list[str], Iterator[tuple[int, list[str]]]]]:
    try:
        file = path.open(encoding="utf-8-sig", newline="")
    except OSError as error:
        raise BadInput("missing_file", f"{path.name}: {error.strerror}") from error
    with file:
        previous = csv.field_size_limit(MAX_CELL)
        reader = csv.reader(file, strict=True)
        try:
            header = _header(reader, path)
            yield header, _numbered(reader, len(header))
        except csv.Error as error:
            raise BadInput("malformed_csv", f"line {reader.line_num}: {error}") from error
        except UnicodeDecodeError as error:
            raise BadInput("not_utf8", f"near line {reader.line_num}") from error
        finally:
            csv.field_size_limit(previous)


def _header(reader: Iterator[list[str]], path: Path) -> list[str]:
    header = next(reader, None)
    if header is None:
        raise BadInput("empty_file", f"{path.name} is empty")
    if len(header) > MAX_COLUMNS:
        raise BadInput("malformed_csv", f"more than {MAX_COLUMNS} columns")
    if len(set(header)) != len(header):
        raise BadInput("duplicate_column", "two columns share a name")
    return header


def _numbered(reader: Iterator[list[str]], width: int) -> Iterator[tuple[int, list[str]]]:
    for number, row in enumerate(reader, start=1):
        if len(row) != width:
            raise BadInput("malformed_csv", f"row {number} has {len(row)} cells, not {width}")
        yield number, row


def _places(header: list[str], names: Sequence[str]) -> list[int]:
    for name in names:
        if name not in header:
            raise BadInput("missing_column", f"there is no column {name!r}")
    return [header.index(name) for name in names]


def _reader(
    kind: Kind, column: list[str] | array[float]
) -> tuple[Callable[[str, str, int], Any], Callable[[Any], None]]:
    return _READERS[kind], column.append


def _id(cell: str, number: int) -> str:
    if not cell:
        raise BadInput("empty_id", f"row {number} has no id")
    return cell


def _text(cell: str, name: str, number: int) -> str:
    if not cell:
        raise BadInput("empty_cell", f"column {name!r}, row {number}")
    return cell


def _number(cell: str, name: str, number: int) -> float:
    try:
        value = float(cell)
    except ValueError as error:
        raise BadInput("not_a_number", f"column {name!r}, row {number}") from error
    if not math.isfinite(value):
        raise BadInput("not_finite", f"column {name!r}, row {number}")
    return value


def _text_or_null(cell: str, _name: str, _number: int) -> str:
    return cell


def _number_or_null(cell: str, name: str, number: int) -> float:
    return _number(cell, name, number) if cell else math.nan


_READERS: dict[Kind, Callable[[str, str, int], Any]] = {
    "category": _text,
    "number": _number,
    "nullable_category": _text_or_null,
    "nullable_number": _number_or_null,
}


def _take(column: list[str] | array[float], order: Sequence[int]) -> list[str] | array[float]:
    if isinstance(column, array):
        return array("d", [column[i] for i in order])
    return [column[i] for i in order]


def _repeated(hashes: array[int]) -> set[int]:
    import numpy as np  # where tables are checked there is an engine, which brings it along

    ordered = np.sort(np.frombuffer(hashes, dtype=np.int64))
    return set(ordered[1:][ordered[1:] == ordered[:-1]].tolist())


def _confirm_duplicates(path: Path, id_column: str, suspects: set[int]) -> None:
    """Look again at the few ids whose hashes are equal: a hash alone accuses nobody."""
    seen: dict[str, int] = {}
    with _rows(path) as (header, rows):
        at = header.index(id_column)
        for number, row in rows:
            if hash(row[at]) in suspects:
                first = seen.setdefault(row[at], number)
                if first != number:
                    raise BadInput("duplicate_ids", f"rows {first} and {number} have one id")
