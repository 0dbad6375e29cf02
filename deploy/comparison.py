"""The joint result beside the plain one: the same statistics over the pooled table, and their distance."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def largest_difference(joint: Mapping[str, Any], plain: Mapping[str, Any]) -> float:
    """The largest relative difference over all numbers of two results of one shape.

    Numbers below one in absolute value are compared absolutely.

    Raises:
        ValueError: the two do not have the same shape.
    """
    one, other = list(numbers(joint)), list(numbers(plain))
    if [path for path, _ in one] != [path for path, _ in other]:
        raise ValueError("the two results do not have the same shape")
    pairs = zip(one, other, strict=True)
    return max((abs(a - b) / max(1.0, abs(b)) for (_, a), (_, b) in pairs), default=0.0)


def numbers(value: object, path: str = "") -> Iterator[tuple[str, float]]:
    """Every number inside a JSON value, with where it stands."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return
    if isinstance(value, int | float):
        yield path, float(value)
    elif isinstance(value, Mapping):
        for key in sorted(value):
            yield from numbers(value[key], f"{path}/{key}")
    elif isinstance(value, list | tuple):
        for place, each in enumerate(value):
            yield from numbers(each, f"{path}/{place}")


def pooled(rows: Sequence[Mapping[str, str]], params: Mapping[str, Any]) -> dict[str, Any]:
    """Means by one key, and correlations, over one plain table, by the standard library alone.

    Nothing of the bundle's own code is used: what agrees was computed twice.
    """
    columns, least = params["columns"], params["min_group"]
    values = {name: [_value(row, each) for row in rows] for name, each in columns.items()}
    found: dict[str, Any] = {"rows": len(rows)}
    for name, request in params["requests"].items():
        found[name] = (
            _correlation(values, request) if "by" not in request else _means(values, columns, request, least)
        )
    return found


def _value(row: Mapping[str, str], column: Mapping[str, Any]) -> Any:
    cell = row[column["column"]]
    if column["kind"] == "indicator":
        return float(cell == column["positive"])
    return float(cell) if column["kind"] == "number" else cell


def _correlation(values: Mapping[str, Any], request: Mapping[str, Any]) -> dict[str, Any]:
    names = request["of"]
    matrix = [[statistics.correlation(values[one], values[other]) for other in names] for one in names]
    return {"columns": names, "matrix": matrix}


def _means(
    values: Mapping[str, Any], columns: Mapping[str, Any], request: Mapping[str, Any], least: int
) -> list[dict[str, Any]]:
    (key,) = request["by"]
    found = []
    for category in columns[key]["categories"]:
        places = [at for at, value in enumerate(values[key]) if value == category]
        shown = len(places) >= least
        group: dict[str, Any] = {"by": {key: category}, "count": len(places) if shown else None}
        for name in request["of"]:
            group[name] = {"mean": statistics.fmean(values[name][at] for at in places)} if shown else None
        found.append({**group, "suppressed": not shown})
    return found
