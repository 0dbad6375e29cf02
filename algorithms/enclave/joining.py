"""Put the tables of several owners together: below each other, or beside each other by their ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

Array = Any


class Table(Protocol):
    """What is read of an input table."""

    @property
    def columns(self) -> Mapping[str, Sequence[str]]:
        """Cells by column, without the id."""

    @property
    def ids(self) -> Sequence[str] | None:
        """One for each row, all different."""

    def texts(self, name: str) -> list[str]:
        """The cells of a column."""

    def floats(self, name: str) -> Array:
        """They as doubles, NaN where empty; refuses others by ``ValueError``."""


@dataclass(frozen=True)
class Part:
    """One table's column, and which of its rows in what order; ``None``: as they are."""

    table: Table
    name: str
    order: Array = None

    def texts(self) -> list[str]:
        """The cells."""
        cells = self.table.texts(self.name)
        return cells if self.order is None else [cells[at] for at in self.order.tolist()]

    def floats(self) -> Array:
        """The cells as numbers."""
        values = np.asarray(self.table.floats(self.name))
        return values if self.order is None else values[self.order]


@dataclass(frozen=True)
class Joined:
    """Rows of all owners together. A name that two tables have is told apart by its input: ``bank.age``."""

    columns: Mapping[str, Sequence[Part]]
    """What stands below each other in a column."""
    ids: Sequence[str] | None
    rows: int

    def texts(self, name: str) -> list[str]:
        """The cells of a column; refuses an unknown name by ``ValueError``."""
        return [cell for part in self._parts(name) for cell in part.texts()]

    def numbers(self, name: str) -> list[float]:
        """The cells of a column as numbers, NaN where empty; refuses others by ``ValueError``."""
        return list(self.floats(name).tolist())

    def floats(self, name: str) -> Array:
        """The same as an array."""
        parts = self._parts(name)
        return parts[0].floats() if len(parts) == 1 else np.concatenate([each.floats() for each in parts])

    def _parts(self, name: str) -> Sequence[Part]:
        if name not in self.columns:
            raise ValueError(f"no column {name!r}, or more than one: write input.column")
        return self.columns[name]


def common_ids(tables: Mapping[str, Table]) -> list[str]:
    """The ids that every table has, in ascending order of code points."""
    return _common([_ids(name, table) for name, table in tables.items()])


def join(tables: Mapping[str, Table], how: str) -> Joined:
    """Join by ``vertical`` (the same people, other columns), ``horizontal`` (other people, the same columns),
    or ``none`` (one table).

    Raises:
        ValueError: another word; tables that do not fit together.
    """
    if how == "none" and len(tables) == 1:
        ((_, table),) = tables.items()
        return Joined({name: [Part(table, name)] for name in table.columns}, table.ids, _rows(table))
    if how == "vertical":
        return _vertical(tables)
    if how == "horizontal":
        return _horizontal(tables)
    raise ValueError("join: vertical, horizontal, or none for a single table")


def _vertical(tables: Mapping[str, Table]) -> Joined:
    held = {name: _ids(name, table) for name, table in tables.items()}
    common = _common(list(held.values()))
    names = [name for table in tables.values() for name in table.columns]
    columns: dict[str, Sequence[Part]] = {}
    for input_name, table in tables.items():
        order = _order(held[input_name], common)
        for name in table.columns:
            columns[f"{input_name}.{name}"] = [Part(table, name, order)]
            if names.count(name) == 1:
                columns[name] = columns[f"{input_name}.{name}"]
    return Joined(columns, common, len(common))


def _horizontal(tables: Mapping[str, Table]) -> Joined:
    ordered = [tables[name] for name in sorted(tables)]
    names = sorted(ordered[0].columns)
    if any(sorted(each.columns) != names for each in ordered):
        raise ValueError("a horizontal join needs the same columns in every table")
    held = [each.ids for each in ordered]
    ids = [id for each in held if each is not None for id in each] if None not in held else None
    if ids is not None and len(set(ids)) != len(ids):
        raise ValueError("a horizontal join needs different ids in every table")
    columns = {name: [Part(each, name) for each in ordered] for name in names}
    return Joined(columns, ids, sum(map(_rows, ordered)))


def _common(held: Sequence[Sequence[str]]) -> list[str]:
    common = list(held[0])
    for each in held[1:]:
        if each != common:
            known = set(each)
            common = [id for id in common if id in known]
    return sorted(common)


def _order(ids: Sequence[str], common: Sequence[str]) -> Array:
    """Where the ``common`` ids stand in ``ids``; ``None``: they are all of them, as they stand."""
    if ids == common:
        return None
    places = dict(zip(ids, range(len(ids)), strict=True))
    return np.fromiter(map(places.__getitem__, common), dtype=np.intp, count=len(common))


def _ids(name: str, table: Table) -> Sequence[str]:
    if table.ids is None:
        raise ValueError(f"input {name} has no ids to align by")
    return list(table.ids)


def _rows(table: Table) -> int:
    return len(next(iter(table.columns.values()))) if table.columns else len(table.ids or ())
