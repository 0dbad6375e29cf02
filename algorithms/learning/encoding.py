"""What an owner does with its own columns, in the clear, before anything is shared: check and encode."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from .columns import Column, Plan

Table = Mapping[str, Any]
LEAST_DEVIATION = 1e-4
"""Of a number, as a part of half its declared range: what varies less is lost in rounding."""


class Unfit(ValueError):
    """A column does not fit what the task declares of it. Names a row at the most, never a value."""

    def __init__(self, reason: str, where: str, what: str) -> None:
        super().__init__(f"{where}: {what}")
        self.reason = reason


def parts(plan: Plan, name: str, rows: int) -> dict[str, tuple[int, ...]]:
    """The arrays that input ``name`` shares of its ``rows`` rows, with their shapes."""
    held = plan.held(name)
    width = sum(len(each.features(plan.drop_first)) for each in held if not each.woe)
    bins = sum(len(each.keys) for each in held if each.woe)
    known = sum(each.missing for each in held) if plan.standardise else 0
    found: dict[str, tuple[int, ...]] = {}
    found |= {"matrix": (rows, width)} if width else {}
    found |= {"bins": (rows, bins)} if bins else {}
    found |= {"known": (rows, known)} if known else {}
    found |= {"target": (rows,)} if _holds(plan.target, name) else {}
    found |= {"weight": (rows,)} if _holds(plan.weight, name) else {}
    if plan.edges and width:
        first = not plan.horizontal or plan.horizontal[0] == name
        found |= {"edges": (width, plan.edges)} if first else {}
        found |= {"below": (rows, width, plan.edges)}
    return found


def _holds(column: Column | None, name: str) -> bool:
    return column is not None and column.input in (None, name)


def encoded(plan: Plan, name: str, table: Table, rows: int) -> dict[str, Any]:
    """The arrays of input ``name``, as ``parts`` says; rows of a horizontal partition are shuffled.

    Raises:
        Unfit: by reason: ``too_few_rows``, ``out_of_range``, ``unknown_category``, ``not_finite``,
            ``missing_value``, ``all_null``, ``constant_column``, ``one_class``, ``no_weight``.
    """
    if rows < plan.min_rows:
        raise Unfit("too_few_rows", f"input {name}", f"fewer rows than min_rows ({plan.min_rows})")
    order = _order(plan, rows)
    train = plan.trained(rows)
    matrices, bins, known = [], [], []
    for column in plan.held(name):
        values, filled = _values(column, table, order)
        if not plan.fitted:
            _refuse_useless(plan, column, values[:train], filled[:train])
        if column.woe:
            bins.append(values)
        else:
            matrices.append(values[:, int(plan.drop_first and bool(column.keys)) :])
        if column.missing:
            known.append(filled[:, None].astype(np.float64))
    made = {"matrix": matrices, "bins": bins, "known": known}
    found = {part: np.concatenate(each, axis=1) for part, each in made.items() if each}
    found |= _labels(plan, name, table, order, train)
    if plan.edges and matrices:
        found["edges"] = _edges(plan, found["matrix"][:train], _binary(plan, name))
        found["below"] = (found["matrix"][:, :, None] < found["edges"][None]).astype(np.float64)
    return {part: found[part] for part in parts(plan, name, rows)}


def _order(plan: Plan, rows: int) -> Any:
    """Aligned rows stay; an owner's own rows are shuffled, so that the first ones are not of one kind."""
    if plan.horizontal and not plan.fitted:
        return np.random.default_rng(rows).permutation(rows)
    return np.arange(rows)


def _values(column: Column, table: Table, order: Any) -> tuple[Any, Any]:
    """(rows, width) encoded, and for which rows it is known."""
    cells = np.asarray(table[column.column])[order]
    known = np.ones(len(order), dtype=bool)
    if column.kind == "indicator":
        _refuse(column, cells == "", "missing_value", "is empty")
        return (cells == column.positive).astype(np.float64)[:, None], known
    if column.kind == "category":
        _refuse(column, cells == "", "missing_value", "is empty")
        hot = cells[:, None] == np.asarray(column.keys)[None, :]
        _refuse(column, ~hot.any(axis=1), "unknown_category", "is none of the declared categories")
        return hot.astype(np.float64), known
    numbers, known = _numbers(column, cells)
    if column.kind == "bins":
        return _binned(column, numbers), known
    outside = known & ((numbers < column.low) | (numbers > column.high))
    _refuse(column, outside, "out_of_range", f"is outside of {column.low:g} to {column.high:g}; widen them")
    shift, unit = (0.0, 1.0) if column.kind == "count" else (column.middle, column.half)
    return np.where(known, (numbers - shift) / unit, 0.0)[:, None], known


def _numbers(column: Column, cells: Any) -> tuple[Any, Any]:
    numbers = cells.astype(np.float64)
    _refuse(column, np.isinf(numbers), "not_finite", "is infinite")
    known = ~np.isnan(numbers)
    if not column.missing:
        _refuse(column, ~known, "missing_value", "is no number; numbers may say missing: middle")
    return np.where(known, numbers, 0.0), known


def _binned(column: Column, numbers: Any) -> Any:
    edges, last = np.asarray(column.edges), len(column.keys) - 1
    places = np.searchsorted(edges, numbers, side="right") - 1
    if column.open_ends:
        places = np.clip(places, 0, last)
    else:
        places = np.where(numbers == edges[-1], last, places)
        outside = (places < 0) | (places > last)
        _refuse(column, outside, "out_of_range", "is outside of the edges; widen them or set open_ends")
    return (places[:, None] == np.arange(last + 1)[None, :]).astype(np.float64)


def _refuse(column: Column, wrong: Any, reason: str, what: str) -> None:
    if wrong.any():
        where = f"column {column.column!r}, row {int(np.argmax(wrong)) + 1}"
        raise Unfit(reason, where, f"its value {what}")


def _refuse_useless(plan: Plan, column: Column, values: Any, known: Any) -> None:
    """Of the training rows. One owner of several may well have rows that are all alike, but not none."""
    where = f"column {column.column!r}"
    if not known.any():
        raise Unfit("all_null", where, "no training row knows it; leave it out")
    if not plan.horizontal and values[known].std(axis=0).max() < LEAST_DEVIATION:
        raise Unfit("constant_column", where, "(almost) the same in all training rows; leave it out")


def _labels(plan: Plan, name: str, table: Table, order: Any, train: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if (target := plan.target) is not None and _holds(target, name):
        found["target"] = _values(target, table, order)[0][:, 0]
        if not plan.fitted and not plan.horizontal and np.ptp(found["target"][:train]) == 0:
            reason = "one_class" if target.kind == "indicator" else "constant_column"
            raise Unfit(reason, f"column {target.column!r}", "the target is alike in all training rows")
    if (weight := plan.weight) is not None and _holds(weight, name):
        found["weight"] = (_values(weight, table, order)[0][:, 0] * weight.half + weight.middle) / weight.high
        if not found["weight"][:train].any():
            raise Unfit("no_weight", f"column {weight.column!r}", "all training rows weigh nothing")
    return found


def _binary(plan: Plan, name: str) -> list[bool]:
    """Which columns of an input's matrix hold 0 and 1 alone."""
    return [each.kind != "number" for each in plan.held(name) for _ in each.features(plan.drop_first)]


def _edges(plan: Plan, matrix: Any, binary: list[bool]) -> Any:
    """(width, edges): quantiles of the owner's training rows, or equal steps in a horizontal partition."""
    shares = np.arange(1, plan.edges + 1) / (plan.edges + 1)
    steps = np.tile(2.0 * shares - 1.0, (len(binary), 1))
    found = steps if plan.horizontal else np.quantile(matrix, shares, axis=0).T
    halves = np.where(np.arange(plan.edges) == 0, 0.5, 2.0)
    return np.where(np.asarray(binary)[:, None], halves[None, :], found)
