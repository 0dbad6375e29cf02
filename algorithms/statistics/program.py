"""Joint statistics: counts, means and rates by group, and a correlation matrix.

Sums and products run in MPC, divisions after opening: a mean is a sum over a count, both of which the
requester gets anyway. Groups smaller than ``min_group`` are set to zero inside the computation.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Column = Mapping[str, Any]
Params = Mapping[str, Any]

KNOWN = {"group", "means", "rates", "correlation", "min_group"}
MAX_CATEGORIES = 256
MAX_COLUMNS = 64


def check(params: Params, inputs: Sequence[str]) -> None:
    """Refuse parameters that make no sense, by ``ValueError``."""
    if unknown := set(params) - KNOWN:
        raise ValueError(f"unknown parameter {min(unknown)!r}")
    if not _is_int(params.get("min_group")) or params["min_group"] < 2:
        raise ValueError("min_group is a whole number of at least 2")
    group: Any = params.get("group")
    _check_column(group, {"categories"}, inputs)
    categories = group.get("categories")
    if not isinstance(categories, list) or not 1 <= len(categories) <= MAX_CATEGORIES:
        raise ValueError(f"group.categories lists 1 to {MAX_CATEGORIES} values")
    if not all(isinstance(each, str) for each in categories) or _repeats(categories):
        raise ValueError("group.categories are distinct texts")
    for each in _listed(params, "means"):
        _check_column(each, {"scale"}, inputs)
        if not _power_of_two(each.get("scale", 1)):
            raise ValueError("scale is a power of two from 1 to 2^40")
    for each in _listed(params, "rates"):
        _check_column(each, {"positive"}, inputs)
        if not isinstance(each.get("positive"), str):
            raise ValueError("a rate names the positive value as text")  # noqa: TRY004 - one kind
    for each in _listed(params, "correlation"):
        _check_column(each, set(), inputs)
    if _repeats([_name(each) for each in _listed(params, "correlation")]):
        raise ValueError("a correlation column is given twice")


def columns(params: Params, name: str) -> list[tuple[str, str]]:
    """Return (column, kind) of what is read of input ``name``."""
    group = params["group"]
    used = [(group, "category")]
    used += [(each, "number") for each in _listed(params, "means")]
    used += [(each, "category") for each in _listed(params, "rates")]
    used += [(each, "number") for each in _listed(params, "correlation")]
    return list(dict.fromkeys((each["column"], kind) for each, kind in used if each["input"] == name))


def arrays(params: Params, rows: int) -> list[tuple[str, str, tuple[int, ...]]]:
    """Return (array, input, shape) in the order of the joint function's arguments."""
    group = params["group"]
    found: list[tuple[str, str, tuple[int, ...]]] = []
    found.append(("group", group["input"], (rows, len(group["categories"]))))
    for kind in ("means", "rates", "correlation"):
        for index, each in enumerate(_listed(params, kind)):
            found.append((f"{kind}.{index}", each["input"], (rows,)))
    return found


def prepare(params: Params, name: str, table: Mapping[str, Any]) -> dict[str, Any]:
    """Turn one owner's columns into its arrays, locally."""
    made: dict[str, Any] = {}
    group = params["group"]
    if group["input"] == name:
        made["group"] = _one_hot(table[group["column"]], group["categories"])
    for index, each in _owned(params, "means", name):
        made[f"means.{index}"] = _numbers(table[each["column"]]) / each.get("scale", 1)
    for index, each in _owned(params, "rates", name):
        made[f"rates.{index}"] = _is_positive(table[each["column"]], each["positive"])
    for index, each in _owned(params, "correlation", name):
        made[f"correlation.{index}"] = _standardised(table[each["column"]])
    return made


def program(params: Params, rows: int) -> Callable[..., Any]:
    """Return the joint function. All of its arguments and results are secret."""
    import jax.numpy as jnp  # only compute parties need it: opening a result does not

    targets = len(_listed(params, "means")) + len(_listed(params, "rates"))
    least = params["min_group"] - 0.5  # counts are whole numbers

    def statistics(group: Any, *others: Any) -> tuple[Any, ...]:
        counts = jnp.sum(group, axis=0)
        kept = jnp.where(counts > least, 1.0, 0.0)
        found = [counts * kept]
        if targets:
            sums = jnp.matmul(group.T, jnp.stack(others[:targets], axis=1))
            found.append(sums * kept[:, None])
        if len(others) > targets:
            block = jnp.stack(others[targets:], axis=1)
            found.append(jnp.matmul(block.T, block))
        return tuple(found)

    if rows < params["min_group"]:
        raise ValueError("there are fewer rows than min_group")
    return statistics


def outputs(params: Params) -> list[str]:
    """Return the names of the joint function's results."""
    names = ["counts"]
    if _listed(params, "means") or _listed(params, "rates"):
        names.append("sums")
    if _listed(params, "correlation"):
        names.append("products")
    return names


def finish(params: Params, rows: int, opened: Mapping[str, Any]) -> dict[str, Any]:
    """Divide, scale and name the opened results."""
    counts = [round(float(count)) for count in opened["counts"]]
    groups = []
    for index, category in enumerate(params["group"]["categories"]):
        sums = opened["sums"][index] if "sums" in opened else []
        groups.append(_group(params, category, counts[index], sums))
    result: dict[str, Any] = {"rows": rows, "groups": groups}
    if "products" in opened:
        names = [_name(each) for each in params["correlation"]]
        result["correlation"] = {"columns": names, "matrix": _matrix(opened["products"] / rows)}
    return result


def plaintext(frame: Mapping[str, Any], params: Params) -> dict[str, Any]:
    """Compute the same in the clear from one joined table of columns."""
    rows = len(frame[params["group"]["column"]])
    tables = {each["input"]: frame for each in _all(params)}
    values = {key: value for name in tables for key, value in prepare(params, name, frame).items()}
    group = values["group"]
    counts = group.sum(axis=0)
    kept = counts >= params["min_group"]
    opened = {"counts": counts * kept}
    kinds = ("means", "rates")
    targets = [values[f"{k}.{i}"] for k in kinds for i, _ in enumerate(_listed(params, k))]
    if targets:
        opened["sums"] = (group.T @ np.stack(targets, axis=1)) * kept[:, None]
    if _listed(params, "correlation"):
        block = [values[f"correlation.{i}"] for i, _ in enumerate(params["correlation"])]
        opened["products"] = np.stack(block, axis=1).T @ np.stack(block, axis=1)
    return finish(params, rows, opened)


def _group(params: Params, category: str, count: int, sums: Any) -> dict[str, Any]:
    means, rates = _listed(params, "means"), _listed(params, "rates")
    found: dict[str, Any] = {"category": category, "count": count, "suppressed": count == 0}
    if count:
        scaled = zip(means, sums[: len(means)], strict=True)
        found["means"] = {_name(m): float(s) * m.get("scale", 1) / count for m, s in scaled}
        counted = zip(rates, sums[len(means) :], strict=True)
        found["rates"] = {_name(r): float(s) / count for r, s in counted}
    return found


def _matrix(products: Any) -> list[list[float | None]]:
    varies = np.diag(products) > 0.5
    known = np.logical_and.outer(varies, varies)
    size = range(len(varies))
    return [[float(products[i][j]) if known[i][j] else None for j in size] for i in size]


def _one_hot(values: Sequence[str], categories: Sequence[str]) -> Any:
    index = {category: at for at, category in enumerate(categories)}
    hot = np.zeros((len(values), len(categories)))
    for row, value in enumerate(values):
        if value not in index:
            raise ValueError(f"row {row + 1}: the group is not among params.group.categories")
        hot[row, index[value]] = 1.0
    return hot


def _is_positive(values: Sequence[str], positive: str) -> Any:
    return np.fromiter((value == positive for value in values), dtype=np.float64, count=len(values))


def _numbers(values: Any) -> Any:
    return np.asarray(values, dtype=np.float64)


def _standardised(values: Any) -> Any:
    numbers = _numbers(values)
    deviation = numbers.std()
    return (numbers - numbers.mean()) / deviation if deviation > 0 else np.zeros_like(numbers)


def _listed(params: Params, kind: str) -> list[Any]:
    found = params.get(kind, [])
    if not isinstance(found, list) or len(found) > MAX_COLUMNS:
        raise ValueError(f"{kind} lists at most {MAX_COLUMNS} columns")
    return found


def _owned(params: Params, kind: str, name: str) -> list[tuple[int, Column]]:
    return [(i, each) for i, each in enumerate(_listed(params, kind)) if each["input"] == name]


def _all(params: Params) -> list[Column]:
    kinds = ("means", "rates", "correlation")
    return [params["group"], *(each for kind in kinds for each in _listed(params, kind))]


def _name(each: Column) -> str:
    return f"{each['input']}.{each['column']}"


def _check_column(each: Any, more: set[str], inputs: Sequence[str]) -> None:
    if not isinstance(each, dict) or set(each) - {"input", "column"} - more:
        raise ValueError("a column is named by input and column")
    if not isinstance(each.get("column"), str) or each.get("input") not in inputs:
        raise ValueError("a column's input is one of the step's inputs")


def _repeats(values: Sequence[str]) -> bool:
    return len(set(values)) != len(values)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _power_of_two(value: Any) -> bool:
    return _is_int(value) and 1 <= value <= 2**40 and value & (value - 1) == 0
