"""Algorithms that are one JAX function over declared columns: everything around it is done here.

A manifest with a ``function`` declares columns and outputs; the entry module defines ``compute``, whose
arguments are the columns by name and whose result is a dictionary of the outputs. See docs/algorithms.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

if TYPE_CHECKING:
    from types import ModuleType

ColumnName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
MAX_CATEGORIES = 256
RING_BITS = {"FM64": 64, "FM128": 128}


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Arithmetic(_Document):
    """How an MPC program's numbers are held, where the program does not choose: ring and fraction bits."""

    field: Literal["FM64", "FM128"]
    fraction_bits: Annotated[int, Field(ge=8, le=60)]

    @property
    def largest(self) -> float:
        """See :func:`largest_number`."""
        return largest_number(self.field, self.fraction_bits)


def largest_number(field: str, fraction_bits: int) -> float:
    """The largest number that may be multiplied by one: the ring holds products with twice the bits."""
    return math.ldexp(1.0, RING_BITS[field] - 2 - 2 * fraction_bits)


class DeclaredColumn(_Document):
    """A column that the function takes.

    A ``number`` lies within ``low`` and ``high``; an ``indicator`` is 1 where the cell is the text that the
    task names, else 0; a ``category`` comes as one column of 0 and 1 for each value that the task lists.
    """

    kind: Literal["number", "indicator", "category"]
    low: float | None = None
    high: float | None = None
    description: str = ""

    @property
    def span(self) -> tuple[float, float]:
        """The least and the largest number that the function gets of it."""
        return (0.0, 1.0) if self.low is None or self.high is None else (self.low, self.high)

    @model_validator(mode="after")
    def _bounded(self) -> DeclaredColumn:
        numbers = self.low is not None and self.high is not None and self.low <= self.high
        if numbers != (self.kind == "number"):
            raise ValueError("numbers, and they alone, have low and high, low not above high")
        return self


class Function(_Document):
    """The declaration of a function: its columns, its outputs in words, and the fewest rows it runs on."""

    columns: dict[ColumnName, DeclaredColumn] = Field(min_length=1, max_length=64)
    outputs: dict[ColumnName, str] = Field(min_length=1, max_length=64)
    min_rows: Annotated[int, Field(ge=2)]

    def why_out_of_range(self, arithmetic: Arithmetic) -> str | None:
        """The first column whose bounds the arithmetic cannot hold, in words."""
        for name, column in self.columns.items():
            if max(map(abs, column.span)) > arithmetic.largest:
                return f"column {name}: its bounds are beyond {arithmetic.largest:g}, the most that fits"
        return None


class Unfit(ValueError):
    """A column does not fit what the algorithm declares of it. Names the row, never the value."""

    def __init__(self, reason: str, column: str, row: int, what: str) -> None:
        super().__init__(f"column {column!r}, row {row + 1}: {what}")
        self.reason = reason


class FunctionProgram:
    """The :class:`~sealtrace.algorithms.bundles.Program` of a declared function."""

    def __init__(self, function: Function, arithmetic: Arithmetic, module: Callable[[], ModuleType]) -> None:
        self.function = function
        self._arithmetic = arithmetic
        self._module = module

    def check(self, params: Mapping[str, Any], inputs: Sequence[str]) -> None:
        """Refuse parameters that do not say of every declared column where it is."""
        _fields(params, "params", {"columns"})
        columns = params["columns"]
        _fields(columns, "columns", set(self.function.columns))
        for name, declared in self.function.columns.items():
            _check_place(f"columns.{name}", declared, columns[name], inputs)

    def columns(self, params: Mapping[str, Any], name: str) -> list[tuple[str, str]]:
        """Return (column, kind) of what is read of input ``name``."""
        return list(
            dict.fromkeys(
                (params["columns"][each]["column"], "number" if declared.kind == "number" else "category")
                for each, declared in self._held(params, name)
            )
        )

    def rows(self, params: Mapping[str, Any], held: Mapping[str, int]) -> int:
        """Return the common number of rows."""
        if len(set(held.values())) != 1:
            raise ValueError("the inputs do not have equally many rows; align them first")
        return next(iter(held.values()))

    def arithmetic(self, params: Mapping[str, Any], rows: int) -> tuple[str, int]:
        """Return what the manifest says; refuse fewer rows than it allows."""
        if rows < self.function.min_rows:
            raise ValueError(f"there are {rows} rows, fewer than the algorithm's {self.function.min_rows}")
        return self._arithmetic.field, self._arithmetic.fraction_bits

    def arrays(
        self, params: Mapping[str, Any], held: Mapping[str, int]
    ) -> list[tuple[str, str, tuple[int, ...], str]]:
        """Return one array of each declared column, in the order of the manifest."""
        found: list[tuple[str, str, tuple[int, ...], str]] = []
        for name, declared in sorted(self.function.columns.items()):
            place = params["columns"][name]
            shape: tuple[int, ...] = (held[place["input"]],)
            shape += (len(place["categories"]),) if declared.kind == "category" else ()
            found.append((name, place["input"], shape, "float64"))
        return found

    def prepare(
        self, params: Mapping[str, Any], name: str, table: Mapping[str, Any], held: Mapping[str, int]
    ) -> dict[str, Any]:
        """Hold an owner's columns to what is declared, and return them as arrays."""
        return {
            each: _array(declared, params["columns"][each], table[params["columns"][each]["column"]])
            for each, declared in self._held(params, name)
        }

    def program(self, params: Mapping[str, Any], held: Mapping[str, int]) -> Callable[..., Any]:
        """Return the bundle's ``compute``, taking arrays in order and giving outputs in order."""
        compute = self._module().compute
        names = [name for name, *_ in self.arrays(params, held)]
        outputs = self.outputs(params)

        def joint(*arrays: Any) -> tuple[Any, ...]:
            found = compute(**dict(zip(names, arrays, strict=True)))
            if not isinstance(found, dict) or sorted(found) != outputs:
                raise ValueError(
                    f"compute returns a dictionary of {', '.join(outputs)}, as the manifest says"
                )
            return tuple(found[each] for each in outputs)

        return joint

    def outputs(self, params: Mapping[str, Any]) -> list[str]:
        """Return the declared outputs, sorted."""
        return sorted(self.function.outputs)

    def finish(self, params: Mapping[str, Any], rows: int, opened: Mapping[str, Any]) -> dict[str, Any]:
        """Return the opened outputs as JSON: numbers, or lists of them."""
        return {"rows": rows, **{name: opened[name].tolist() for name in self.outputs(params)}}

    def _held(self, params: Mapping[str, Any], name: str) -> list[tuple[str, DeclaredColumn]]:
        declared = sorted(self.function.columns.items())
        return [(each, column) for each, column in declared if params["columns"][each]["input"] == name]


def _check_place(where: str, declared: DeclaredColumn, place: Any, inputs: Sequence[str]) -> None:
    more = {"category": {"categories"}, "indicator": {"positive"}, "number": set()}[declared.kind]
    _fields(place, where, {"input", "column", *more})
    if place["input"] not in inputs:
        raise ValueError(f"{where}.input: one of the step's inputs: {', '.join(inputs)}")
    for name in {"column", *more} - {"categories"}:
        if not isinstance(place[name], str) or not place[name]:
            raise ValueError(f"{where}.{name}: a text")
    if declared.kind == "category" and not _are_categories(place["categories"]):
        raise ValueError(f"{where}.categories: 1 to {MAX_CATEGORIES} distinct texts")


def _are_categories(given: Any) -> bool:
    if not isinstance(given, list) or not 1 <= len(given) <= MAX_CATEGORIES:
        return False
    return all(isinstance(each, str) and each for each in given) and len(set(given)) == len(given)


def _fields(given: Any, where: str, names: set[str]) -> None:
    if not isinstance(given, dict) or set(given) != names:
        raise ValueError(f"{where}: an object with {', '.join(sorted(names))}, and nothing else")


def _array(declared: DeclaredColumn, place: Mapping[str, Any], cells: Any) -> Any:
    import numpy as np

    if declared.kind == "indicator":
        return (np.asarray(cells) == place["positive"]).astype(np.float64)
    if declared.kind == "category":
        hot = np.asarray(cells)[:, None] == np.asarray(place["categories"])[None, :]
        _refuse(~hot.any(axis=1), "unknown_category", place, "its value is none of the task's categories")
        return hot.astype(np.float64)
    values = np.asarray(cells, dtype=np.float64)
    low, high = declared.span
    outside = (values < low) | (values > high)
    what = f"outside of {low:g} to {high:g}, which the algorithm declares"
    _refuse(outside, "out_of_range", place, what)
    return values


def _refuse(wrong: Any, reason: str, place: Mapping[str, Any], what: str) -> None:
    if wrong.any():
        raise Unfit(reason, place["column"], int(wrong.argmax()), what)
