"""Descriptive statistics of joined columns, of all rows and by declared groups; small groups are left out."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np

from ..enclave.joining import join

STATISTICS = ("mean", "deviation", "lower_quartile", "median", "upper_quartile")
KEYS = {"join", "columns", "by", "correlations"}


def run(inputs: Any, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the outputs; see the manifest."""
    if set(params) - KEYS or not params.get("columns"):
        raise ValueError("columns: name one at least; beside it join, by and correlations")
    joined = join(inputs.tables, params.get("join", "none"))
    numbers = {name: joined.floats(name) for name in params["columns"]}
    everybody = np.ones(joined.rows, dtype=bool)
    found = {
        "columns": [_described(name, each, everybody, inputs.min_group) for name, each in numbers.items()]
    }
    if "by" in params:
        found["groups"] = _groups(joined, params["by"], numbers, inputs.min_group)
    if params.get("correlations"):
        found["correlations"] = [
            _correlated(pair, numbers, inputs.min_group) for pair in combinations(numbers, 2)
        ]
    return found


def _described(name: Any, values: Any, chosen: Any, min_group: Any) -> dict[str, Any]:
    held = values[chosen & ~np.isnan(values)]
    if len(held) < min_group:
        return {"column": name, "count": None, **dict.fromkeys(STATISTICS)}
    told = [held.mean(), held.std(ddof=1), *np.quantile(held, [0.25, 0.5, 0.75])]
    return {"column": name, "count": len(held), **dict(zip(STATISTICS, map(float, told), strict=True))}


def _groups(joined: Any, by: Any, numbers: Any, min_group: Any) -> list[dict[str, Any]]:
    """Every declared group of every column. Where one alone is too small, others are left out too: the whole
    less the others would tell.
    """
    texts = np.array(joined.texts(by["column"]))
    chosen = {name: texts == name for name in by["categories"]}
    found = []
    for column, values in numbers.items():
        sizes = {name: int((each & ~np.isnan(values)).sum()) for name, each in chosen.items()}
        hidden = _hidden(sizes, int((~np.isnan(values)).sum()), min_group)
        for name, each in chosen.items():
            least = joined.rows + 1 if name in hidden else min_group
            found.append({"group": name, **_described(column, values, each, least)})
    return found


def _hidden(sizes: Mapping[str, int], everybody: int, min_group: int) -> set[str]:
    """Which groups are not shown; those shown leave nobody, or ``min_group`` at least, of everybody."""
    order = sorted(sizes, key=lambda name: sizes[name])
    hidden = {name for name in order if sizes[name] < min_group}
    for name in order:
        if not 0 < everybody - sum(sizes[each] for each in order if each not in hidden) < min_group:
            break
        hidden.add(name)
    return hidden


def _correlated(pair: Any, numbers: Any, min_group: Any) -> dict[str, Any]:
    first, second = (numbers[name] for name in pair)
    held = ~np.isnan(first) & ~np.isnan(second)
    told = held.sum() >= min_group and first[held].std() > 0 and second[held].std() > 0
    value = float(np.corrcoef(first[held], second[held])[0, 1]) if told else None
    return {"first": pair[0], "second": pair[1], "value": value}
