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
    """The statistics of the bundle ``statistics`` over one plain table, by the standard library alone.

    Nothing of the bundle's own code is used: what agrees was computed twice.
    """
    group = params["group"]
    held = {category: [r for r in rows if r[group["column"]] == category] for category in group["categories"]}
    groups = [_group(category, held[category], params) for category in group["categories"]]
    columns = params.get("correlation", [])
    values = [[float(row[each["column"]]) for row in rows] for each in columns]
    matrix = [[statistics.correlation(one, other) for other in values] for one in values]
    correlation = {"columns": [_name(each) for each in columns], "matrix": matrix}
    return {"rows": len(rows), "groups": groups, "correlation": correlation}


def _group(category: str, rows: Sequence[Mapping[str, str]], params: Mapping[str, Any]) -> dict[str, Any]:
    if len(rows) < params["min_group"]:
        return {"category": category, "count": 0, "suppressed": True}
    means = {_name(c): statistics.fmean(float(r[c["column"]]) for r in rows) for c in params["means"]}
    rates = {
        _name(c): statistics.fmean(r[c["column"]] == c["positive"] for r in rows) for c in params["rates"]
    }
    return {"category": category, "count": len(rows), "suppressed": False, "means": means, "rates": rates}


def _name(column: Mapping[str, Any]) -> str:
    return f"{column['input']}.{column['column']}"
