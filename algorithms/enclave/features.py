"""Make numbers of columns: fill empty cells, standardise, normalise, bin, one-hot.

What is learned on the training rows is a JSON value, so that a model carries it and a prediction repeats it.
Each feature says::

    {column: age, fill: median, scale: standardise}           # or normalise; without scale as it is
    {column: age, bins: [30, 50]}                             # one 0 and 1 for each of the three bins
    {column: purpose, categories: [car, radio], fill: mode}   # one 0 and 1 for each; others are all 0
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from typing import Any

import numpy as np

from .joining import Joined

KEYS = {"column", "fill", "scale", "bins", "categories"}
THREADS = 4
"""At most, to make a matrix with."""
Learned = dict[str, Any]


def learn(joined: Joined, features: Sequence[Mapping[str, Any]], rows: Any) -> list[Learned]:
    """What each feature needs to know of the training ``rows`` (indices).

    Raises:
        ValueError: a feature makes no sense, or its column is not there.
    """
    if not features:
        raise ValueError("features: name one at least")
    return [_learn(joined, each, rows) for each in features]


def matrix(joined: Joined, learned: Sequence[Learned], *, missing: bool = False, single: bool = False) -> Any:
    """One row for each joined row, one column for each name of :func:`names`, in ``single`` precision or
    double.

    Raises:
        ValueError: a cell is empty and nothing fills it, unless ``missing`` lets numbers be NaN.
    """
    ends = list(accumulate(map(_width, learned)))
    found = np.empty((joined.rows, sum(map(_width, learned))), dtype=np.float32 if single else float)

    def fill(each: Learned, end: int) -> None:
        found[:, end - _width(each) : end] = _made(joined, each)

    with ThreadPoolExecutor(min(len(os.sched_getaffinity(0)), THREADS)) as threads:
        list(threads.map(fill, learned, ends))  # so that what one raises is raised here
    if not missing and np.isnan(found).any():
        raise ValueError("a cell is empty: give the feature a fill")
    return found


def names(learned: Sequence[Learned]) -> list[str]:
    """The column of each number, once for every one made of it."""
    return [each["column"] for each in learned for _ in range(_width(each))]


def _learn(joined: Joined, feature: Mapping[str, Any], rows: Any) -> Learned:
    if "column" not in feature or set(feature) - KEYS:
        raise ValueError(f"a feature has column and any of {', '.join(sorted(KEYS - {'column'}))}")
    if "categories" in feature:
        return _learn_category(joined, feature, rows)
    values = joined.floats(feature["column"])[rows] if _learns(feature) else np.empty(0)
    fill = _fill(values, feature.get("fill"))
    if "bins" in feature:
        edges = [float(each) for each in feature["bins"]]
        if edges != sorted(set(edges)):
            raise ValueError("bins: edges in ascending order, none twice")
        return {"column": feature["column"], "fill": fill, "edges": edges}
    filled = values if fill is None else np.where(np.isnan(values), fill, values)
    shift, scale = _scale(filled, feature.get("scale"))
    return {"column": feature["column"], "fill": fill, "shift": shift, "scale": scale}


def _learns(feature: Mapping[str, Any]) -> bool:
    """Whether a number's feature needs to see the rows: where not, they are read once, for the matrix."""
    return isinstance(feature.get("fill"), str) or feature.get("scale") is not None


def _learn_category(joined: Joined, feature: Mapping[str, Any], rows: Any) -> Learned:
    categories, fill = list(feature["categories"]), feature.get("fill")
    if not categories or len(set(categories)) != len(categories):
        raise ValueError("categories: name each once")
    if fill == "mode":
        texts = joined.texts(feature["column"])
        counts = Counter(texts[at] for at in rows)
        fill = max(categories, key=lambda each: counts[each])
    if fill is not None and fill not in categories:
        raise ValueError("fill of a category: mode, or one of the categories")
    return {"column": feature["column"], "fill": fill, "categories": categories}


def _fill(values: Any, how: Any) -> float | None:
    if how is None:
        return None
    if isinstance(how, int | float):
        return float(how)
    present = values[~np.isnan(values)]
    if how not in ("mean", "median", "mode") or not len(present):
        raise ValueError("fill of a number: mean, median, mode or a number, of a column with cells")
    if how == "mode":
        found, counts = np.unique(present, return_counts=True)
        return float(found[np.argmax(counts)])
    return float(np.mean(present) if how == "mean" else np.median(present))


def _scale(values: Any, how: Any) -> tuple[float, float]:
    """Shift and divisor; a column with one value is only shifted."""
    if how is None:
        return 0.0, 1.0
    if how == "standardise":
        shift, scale = np.nanmean(values), np.nanstd(values)
    elif how == "normalise":
        shift, scale = np.nanmin(values), np.nanmax(values) - np.nanmin(values)
    else:
        raise ValueError("scale: standardise or normalise")
    return float(shift), float(scale) or 1.0


def _made(joined: Joined, learned: Learned) -> Any:
    if "categories" in learned:
        place = {name: at for at, name in enumerate(learned["categories"])}
        texts = joined.texts(learned["column"])
        found = np.array([[place.get(each or learned["fill"], -1)] for each in texts])
        return (found == np.arange(len(place))).astype(float)
    values = joined.floats(learned["column"])
    if learned["fill"] is not None:
        values = np.where(np.isnan(values), learned["fill"], values)
    if "edges" not in learned:
        return ((values - learned["shift"]) / learned["scale"])[:, None]
    bins: Any = np.searchsorted(np.array(learned["edges"]), values, side="right")
    made = (bins[:, None] == np.arange(_width(learned))).astype(float)
    return np.where(np.isnan(values)[:, None], np.nan, made)


def _width(learned: Learned) -> int:
    if "categories" in learned:
        return len(learned["categories"])
    return len(learned["edges"]) + 1 if "edges" in learned else 1
