"""What an owner does with its own columns, in the clear, before anything is shared: check, scale, encode."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .declared import Column, Plan
from .ranges import Ranges, exponent_above, scale_exponent

Table = Mapping[str, Any]


class Unfit(ValueError):
    """A column does not fit what the task declares of it. Names the row, never the value."""

    def __init__(self, reason: str, column: Column, row: int, what: str) -> None:
        super().__init__(f"column {column.column!r}, row {row + 1}: {what}")
        self.reason = reason


def encoded(plan: Plan, ranges: Ranges, column: Column, held: str, table: Table, rows: int) -> dict[str, Any]:
    """The secret arrays of ``column`` at input ``held``, by part; ``rows`` is the input's number of rows.

    Raises:
        Unfit: a value is out of the declared range, or none of the declared categories.
    """
    if column.is_key:
        return {"hot": _hot(column, _places(column, held, table, rows))}
    values, known = _numbers(column, table)
    made: dict[str, Any] = {"valid": known.astype(np.int64)}
    secrets = plan.secrets(column)
    if "code" in secrets:
        made |= _coded(column, ranges, values, known)
    if "standard" in secrets:
        made["standard"] = _standardised(values, known, ranges.standard_bits)
    return {part: made[part] for part in secrets}


def _numbers(column: Column, table: Table) -> tuple[Any, Any]:
    """Values, zero where there is none, and where there is one."""
    if column.kind == "indicator":
        texts = np.asarray(table[column.column])
        return (texts == column.positive).astype(np.float64), texts != ""
    values = np.asarray(table[column.column], dtype=np.float64)
    known = ~np.isnan(values)
    return np.where(known, values, 0.0), known


def _coded(column: Column, ranges: Ranges, values: Any, known: Any) -> dict[str, Any]:
    if column.kind == "indicator":
        return {"code": (values * known).astype(np.int64)}
    if column.low is None or column.high is None:
        exponent = exponent_above(float(np.abs(values).max(initial=0.0)))
        codes = np.rint(np.ldexp(values, ranges.code_bits - exponent))
        return {"code": codes.astype(np.int64), "exponent": np.array([exponent], dtype=np.int64)}
    outside = known & ((values < column.low) | (values > column.high))
    if outside.any():
        raise Unfit(
            "out_of_range", column, int(np.argmax(outside)),
            f"outside of {column.low:g} to {column.high:g}; widen low and high in columns.{column.name}",
        )  # fmt: skip
    codes = np.rint(np.ldexp(values - column.low, ranges.code_bits - scale_exponent(column)))
    return {"code": np.where(known, codes, 0.0).astype(np.int64)}


def _standardised(values: Any, known: Any, bits: int) -> Any:
    """Mean 0 and deviation 1 over the known values; all zeros where they are all alike."""
    held = values[known]
    deviation = held.std() if held.size else 0.0
    if not deviation > 1e-12 * np.abs(held).max(initial=0.0):
        return np.zeros(len(values), dtype=np.int64)
    standard = np.where(known, (values - held.mean()) / deviation, 0.0)
    return np.rint(np.ldexp(standard, bits)).astype(np.int64)


def _places(column: Column, held: str, table: Table, rows: int) -> Any:
    """The number of each row's key, -1 where the cell is empty."""
    if column.kind == "input":
        return np.full(rows, column.keys.index(held))
    if column.kind == "bins":
        return _binned(column, np.asarray(table[column.column], dtype=np.float64))
    found, places = np.unique(np.asarray(table[column.column]), return_inverse=True)
    known = {key: at for at, key in enumerate(column.keys)} | {"": -1}
    numbers = np.array([known.get(str(each), -2) for each in found])[places]
    return _refuse_strangers(
        column, numbers, "unknown_category", "its value is none of columns.{}.categories"
    )


def _binned(column: Column, values: Any) -> Any:
    edges = np.asarray(column.edges)
    last = len(column.keys) - 1
    places = np.searchsorted(edges, values, side="right") - 1
    if column.open_ends:
        places = np.clip(places, 0, last)
    else:
        places = np.where(values == edges[-1], last, places)
        places = np.where((places < 0) | (places > last), -2, places)
    places = np.where(np.isnan(values), -1, places)
    what = "outside of columns.{0}.edges; widen them or set columns.{0}.open_ends"
    return _refuse_strangers(column, places, "out_of_range", what)


def _refuse_strangers(column: Column, places: Any, reason: str, what: str) -> Any:
    if (strange := places == -2).any():
        raise Unfit(reason, column, int(np.argmax(strange)), what.format(column.name))
    return places


def _hot(column: Column, places: Any) -> Any:
    keys: Sequence[str] = column.keys
    return (places[:, None] == np.arange(len(keys))[None, :]).astype(np.int64)
