"""Sums over the rows that all parties hold: of one party's column, or of a product of two parties' columns.

An owner adds up its own column over the common rows and shares the sum alone; a product is multiplied and
added up in MPC, row by row. Only the requester can open a sum.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Params = Mapping[str, Any]

FRACTION_BITS = 40
MAX_SUMS = 64
MAX_SUM = 2.0**60
MAX_NORM = 2.0**23
"""Of each factor's column. By Cauchy and Schwarz a sum of products then stays below 2^46, which with twice 40
fraction bits fits the ring of 128; and every owner can check its own half."""


def check(params: Params, inputs: Sequence[str]) -> None:
    """Refuse parameters that make no sense, by ``ValueError``."""
    if unknown := set(params) - {"sums", "min_group"}:
        raise ValueError(f"unknown parameter {min(unknown)!r}")
    if not _is_int(params.get("min_group")) or params["min_group"] < 2:
        raise ValueError("min_group is a whole number of at least 2")
    sums: Any = params.get("sums")
    if not isinstance(sums, list) or not 1 <= len(sums) <= MAX_SUMS:
        raise ValueError(f"sums lists 1 to {MAX_SUMS} columns")
    for each in sums:
        _check_column(each, {"times"}, inputs)
        if "times" in each:
            _check_column(each["times"], set(), inputs)
            if each["times"]["input"] == each["input"]:
                raise ValueError("a product is of two inputs: multiply one party's columns in its table")


def columns(params: Params, name: str) -> list[tuple[str, str]]:
    """Return (column, kind) of what is read of input ``name``."""
    return list(dict.fromkeys((each["column"], "number") for each in _all(params) if each["input"] == name))


def rows(params: Params, held: Mapping[str, int]) -> int:
    """Return the number of aligned rows; refuse other lengths and too few rows by ``ValueError``."""
    if len(set(held.values())) != 1:
        raise ValueError("the inputs do not have equally many rows; align them first")
    common = next(iter(held.values()))
    if common < params["min_group"]:
        raise ValueError("fewer rows are common than min_group")
    return common


def arithmetic(params: Params, rows: int) -> tuple[str, int]:
    """Return field and fraction bits: a ring of 128 bits, whatever the number of rows."""
    return "FM128", FRACTION_BITS


def arrays(params: Params, held: Mapping[str, int]) -> list[tuple[str, str, tuple[int, ...], str]]:
    """Return (array, input, shape, type): one number for a sum, a column for each factor of a product."""
    length = rows(params, held)
    return [
        (name, each["input"], (length,) if factor else (1,), "float64")
        for name, each, factor in _named(params)
    ]


def prepare(params: Params, name: str, table: Mapping[str, Any], held: Mapping[str, int]) -> dict[str, Any]:
    """Turn one owner's columns into its arrays, locally."""
    made = {}
    for array, each, factor in _named(params):
        if each["input"] == name:
            values = np.asarray(table[each["column"]], dtype=np.float64)
            made[array] = _factor(each, values) if factor else _sum(each, values)
    return made


def program(params: Params, held: Mapping[str, int]) -> Callable[..., Any]:
    """Return the joint function. All of its arguments and results are secret."""
    import jax.numpy as jnp  # only compute parties need it: opening a result does not

    def sums(*given: Any) -> tuple[Any, ...]:
        left = iter(given)
        return tuple(
            jnp.sum(next(left) * next(left), keepdims=True) if "times" in each else next(left)
            for each in params["sums"]
        )

    return sums


def outputs(params: Params) -> list[str]:
    """Return the names of the joint function's results."""
    return [f"sums.{index}" for index in range(len(params["sums"]))]


def finish(params: Params, rows: int, opened: Mapping[str, Any]) -> dict[str, Any]:
    """Scale and name the opened sums."""
    found = []
    for index, each in enumerate(params["sums"]):
        scale = each.get("times", {}).get("scale", 1) * (each.get("scale", 1) if "times" in each else 1)
        found.append({"of": _name(each), "sum": float(opened[f"sums.{index}"][0]) * scale})
    return {"rows": rows, "sums": found}


def _sum(each: Mapping[str, Any], values: Any) -> Any:
    total = float(values.sum())
    if not abs(total) < MAX_SUM:
        raise ValueError(f"the sum of column {each['column']!r} is beyond 2^60")
    return np.array([total])


def _factor(each: Mapping[str, Any], values: Any) -> Any:
    scaled = values / each.get("scale", 1)
    if not (norm := float(np.linalg.norm(scaled))) <= MAX_NORM:
        least = each.get("scale", 1) * 2 ** int(np.ceil(np.log2(norm / MAX_NORM)))
        raise ValueError(
            f"column {each['column']!r} is too large to be multiplied: give it a scale of {least}"
        )
    return scaled


def _named(params: Params) -> list[tuple[str, Mapping[str, Any], bool]]:
    """Every array: its name, its column, and whether it is a factor of a product."""
    found: list[tuple[str, Mapping[str, Any], bool]] = []
    for index, each in enumerate(params["sums"]):
        found.append((f"sums.{index}", each, "times" in each))
        if "times" in each:
            found.append((f"sums.{index}.times", each["times"], True))
    return found


def _all(params: Params) -> list[Mapping[str, Any]]:
    return [each for _, each, _ in _named(params)]


def _name(each: Mapping[str, Any]) -> str:
    own = f"{each['input']}.{each['column']}"
    return f"{own} * {_name(each['times'])}" if "times" in each else own


def _check_column(each: Any, more: set[str], inputs: Sequence[str]) -> None:
    if not isinstance(each, dict) or set(each) - {"input", "column", "scale"} - more:
        raise ValueError("a column is named by input and column")
    if not isinstance(each.get("column"), str) or each.get("input") not in inputs:
        raise ValueError("a column's input is one of the step's inputs")
    scale = each.get("scale", 1)
    if not _is_int(scale) or not 1 <= scale <= 2**40 or scale & (scale - 1):
        raise ValueError("scale is a power of two from 1 to 2^40")


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
