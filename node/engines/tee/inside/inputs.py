"""What an algorithm's ``run(inputs, params)`` is given."""

from __future__ import annotations

import csv
import io
import json
import math
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from .columns import LEAST_BYTES, Column, columns_from, columns_of


class TableUnfit(ValueError):
    """A table is not what an algorithm can read; the message names column and row, never a cell."""


class Table:
    """One input table: its columns as texts by name, and its ids."""

    def __init__(self, columns: Mapping[str, Sequence[str]], ids: Sequence[str] | None = None) -> None:
        self.columns = dict(columns)
        """All columns but the id; cells as they stand in the file, empty where there is none."""
        self._ids = ids

    @property
    def id_cells(self) -> Sequence[str]:
        """The ids where they lie; none where the job names no id column."""
        return () if self._ids is None else self._ids

    @property
    def ids(self) -> list[str] | None:
        """One for each row, all different; ``None`` where the job names no id column."""
        if self._ids is not None and not isinstance(self._ids, list):
            self._ids = list(self._ids)
        return self._ids

    @property
    def rows(self) -> int:
        """How many rows it has."""
        if self._ids is not None:
            return len(self._ids)
        return len(next(iter(self.columns.values()))) if self.columns else 0

    def texts(self, name: str) -> list[str]:
        """The cells of a column.

        Raises:
            TableUnfit: there is no such column.
        """
        return list(self._cells(name))

    def numbers(self, name: str) -> list[float]:
        """The cells of a column as numbers; NaN where a cell is empty.

        Raises:
            TableUnfit: there is no such column, or a cell is no finite number.
        """
        found: list[float] = self.floats(name).tolist()
        return found

    def floats(self, name: str) -> Any:
        """The same as an array of doubles, which ``numpy.asarray`` takes without a copy.

        Raises:
            TableUnfit: as :meth:`numbers`.
        """
        cells = self._cells(name)
        found = cells.floats() if isinstance(cells, Column) else None
        if found is None:
            found = array("d", (_number(cell, name, at) for at, cell in enumerate(cells)))
        return found

    def _cells(self, name: str) -> Sequence[str]:
        if name not in self.columns:
            raise TableUnfit(f"there is no column {name!r}")
        return self.columns[name]


class Model:
    """One input that is no table: the bytes of what an earlier run gave."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def value(self) -> Any:
        """It as JSON."""
        return json.loads(self.content)


class Inputs(Mapping[str, "Table | Model"]):
    """The inputs by name, with the seeds of the measured manifest and a way to tell how training goes."""

    def __init__(
        self,
        named: Mapping[str, Table | Model],
        seeds: Mapping[str, int],
        told: Callable[[int, dict[str, float]], None] = lambda number, metrics: None,
        min_group: int = 1,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self._named, self.seeds, self._told = dict(named), dict(seeds), told
        self.min_group = min_group
        """The fewest rows that a count in an output may be about, by the policy and the grants."""
        self.config = dict(config or {})
        """The secret values by name, each the one that the manifest commits to."""

    def __getitem__(self, name: str) -> Table | Model:
        return self._named[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._named)

    def __len__(self) -> int:
        return len(self._named)

    def report(self, number: int, metrics: Mapping[str, float]) -> None:
        """Tell the requester the metrics of round ``number``. The output policy holds for them too."""
        self._told(int(number), {name: float(each) for name, each in metrics.items()})

    @property
    def tables(self) -> dict[str, Table]:
        """Those inputs that are tables."""
        return {name: each for name, each in self._named.items() if isinstance(each, Table)}


def read_table(content: Any, id_column: str | None, *, arrow: bool = False) -> Table:
    """Read CSV with a header: UTF-8, comma, double quotes (RFC 4180). ``content`` is bytes, or mapped memory.

    ``arrow``: pyarrow and numpy are here, to read large tables with. The table is the same.

    Raises:
        TableUnfit: it is not that; an id is given twice or empty.
    """
    columns = columns_of(content) if arrow and len(content) >= LEAST_BYTES else None
    table = Table(_columns(bytes(content)) if columns is None else columns)
    return table if id_column is None else with_ids(table, id_column)


def split_table(content: Any, id_column: str | None) -> Table:
    """The table that another process read and took for one, from what :func:`.columns.written` wrote."""
    columns = columns_from(content)
    return Table(columns) if id_column is None else Table(columns, columns.pop(id_column))


def _columns(content: bytes) -> dict[str, list[str]]:
    try:
        rows = list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise TableUnfit("the table is no UTF-8 CSV") from error
    rows = [row for row in rows if row]
    if not rows or len(set(rows[0])) != len(rows[0]):
        raise TableUnfit("the table has no header, or one with a name twice")
    header, body = rows[0], rows[1:]
    if odd := next((at for at, row in enumerate(body, 1) if len(row) != len(header)), 0):
        raise TableUnfit(f"row {odd} has not as many cells as the header")
    return {name: [row[at] for row in body] for at, name in enumerate(header)}


def with_ids(table: Table, id_column: str) -> Table:
    """The table with the cells of ``id_column`` as its ids.

    Raises:
        TableUnfit: there is no such column, or an id is given twice or empty.
    """
    columns = dict(table.columns)
    if id_column not in columns:
        raise TableUnfit(f"there is no id column {id_column!r}")
    ids = columns.pop(id_column)
    if not _all_different(ids):
        raise TableUnfit(f"column {id_column!r} is empty somewhere, or has an id twice")
    return Table(columns, ids)


def _all_different(ids: Sequence[str]) -> bool:
    """Whether none is empty and none is there twice."""
    if isinstance(ids, Column):
        return ids.all_different()
    return "" not in ids and len(set(ids)) == len(ids)


def _number(cell: str, name: str, at: int) -> float:
    if not cell.strip():
        return math.nan
    try:
        value = float(cell)
    except ValueError:
        value = math.inf
    if not math.isfinite(value):
        raise TableUnfit(f"column {name!r}, row {at + 1} is no number") from None
    return value
