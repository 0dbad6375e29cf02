"""Put the tables of several owners together: below each other, or beside each other by their ids."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Floats = Any


class Table(Protocol):
    """What is read of an input table."""

    @property
    def columns(self) -> Mapping[str, Sequence[str]]:
        """Cells by column, without the id."""

    @property
    def ids(self) -> Sequence[str] | None:
        """One for each row, all different."""


@dataclass(frozen=True)
class Joined:
    """Rows of all owners together. A name that two tables have is told apart by its input: ``bank.age``."""

    columns: Mapping[str, Sequence[str]]
    ids: Sequence[str] | None
    rows: int

    def texts(self, name: str) -> list[str]:
        """The cells of a column; refuses an unknown name by ``ValueError``."""
        if name not in self.columns:
            raise ValueError(f"no column {name!r}, or more than one: write input.column")
        return list(self.columns[name])

    def numbers(self, name: str) -> list[float]:
        """The cells of a column as numbers, NaN where empty; refuses others by ``ValueError``."""
        found = [float(each) if each.strip() else math.nan for each in self.texts(name)]
        if any(math.isinf(each) for each in found):
            raise ValueError(f"column {name!r} has a cell that is not finite")
        return found


def common_ids(tables: Mapping[str, Table]) -> list[str]:
    """The ids that every table has, in ascending order."""
    return sorted(set.intersection(*(set(_ids(name, table)) for name, table in tables.items())))


def join(tables: Mapping[str, Table], how: str) -> Joined:
    """Join by ``vertical`` (the same people, other columns), ``horizontal`` (other people, the same columns),
    or ``none`` (one table).

    Raises:
        ValueError: another word; tables that do not fit together.
    """
    if how == "none" and len(tables) == 1:
        ((_, table),) = tables.items()
        return Joined(dict(table.columns), table.ids, _rows(table))
    if how == "vertical":
        return _vertical(tables)
    if how == "horizontal":
        return _horizontal(tables)
    raise ValueError("join: vertical, horizontal, or none for a single table")


def _vertical(tables: Mapping[str, Table]) -> Joined:
    common = common_ids(tables)
    names = [name for table in tables.values() for name in table.columns]
    columns: dict[str, Sequence[str]] = {}
    for input_name, table in tables.items():
        place = {id: at for at, id in enumerate(_ids(input_name, table))}
        order = [place[each] for each in common]
        for name, cells in table.columns.items():
            picked = [cells[at] for at in order]
            columns[f"{input_name}.{name}"] = picked
            if names.count(name) == 1:
                columns[name] = picked
    return Joined(columns, common, len(common))


def _horizontal(tables: Mapping[str, Table]) -> Joined:
    ordered = [tables[name] for name in sorted(tables)]
    names = sorted(ordered[0].columns)
    if any(sorted(each.columns) != names for each in ordered):
        raise ValueError("a horizontal join needs the same columns in every table")
    columns = {name: [cell for each in ordered for cell in each.columns[name]] for name in names}
    held = [each.ids for each in ordered]
    ids = [id for each in held if each is not None for id in each] if None not in held else None
    if ids is not None and len(set(ids)) != len(ids):
        raise ValueError("a horizontal join needs different ids in every table")
    return Joined(columns, ids, sum(map(_rows, ordered)))


def _ids(name: str, table: Table) -> Sequence[str]:
    if table.ids is None:
        raise ValueError(f"input {name} has no ids to align by")
    return table.ids


def _rows(table: Table) -> int:
    return len(next(iter(table.columns.values()))) if table.columns else len(table.ids or ())
