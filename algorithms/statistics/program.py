"""Joint statistics over columns of different parties, or over rows of different parties.

``declared`` reads what is asked for, ``ranges`` chooses how numbers are held, ``owner`` encodes columns
before they are shared, ``joint`` runs on shares, and ``finish`` names what the requester opened.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from . import declared, owner, ranges
from . import finish as finishing

Params = Mapping[str, Any]


def check(params: Params, inputs: Sequence[str]) -> None:
    """Refuse parameters that make no sense, by ``ValueError``."""
    declared.read(params, inputs)


def columns(params: Params, name: str) -> list[tuple[str, str]]:
    """Return (column, kind) of what is read of input ``name``."""
    plan = declared.read(params)
    read = [(each.column, each.reads) for each in plan.columns.values() if name in plan.held_by(each)]
    return list(dict.fromkeys((column, kind) for column, kind in read if kind is not None))


def rows(params: Params, held: Mapping[str, int]) -> int:
    """Return the joint number of rows, from each input's."""
    if declared.read(params).horizontal:
        return sum(held.values())
    if len(set(held.values())) != 1:
        raise ValueError(
            "the inputs do not have equally many rows; align them first, or list them in horizontal"
        )
    return next(iter(held.values()))


def arithmetic(params: Params, rows: int) -> tuple[str, int]:
    """Return the field and the fraction bits for so many rows; refuse what would not fit."""
    chosen = ranges.chosen(declared.read(params), rows)
    return chosen.field, chosen.fraction_bits


def arrays(params: Params, held: Mapping[str, int]) -> list[tuple[str, str, tuple[int, ...], str]]:
    """Return (array, input, shape, type) in the order of the joint function's arguments."""
    plan = declared.read(params)
    found = []
    for column, part in _keys(plan):
        for name in plan.held_by(plan.columns[column]):
            shape: tuple[int, ...] = (1,) if part == "exponent" else (held[name],)
            shape += (len(plan.columns[column].keys),) if part == "hot" else ()
            found.append((f"{column}.{part}@{name}", name, shape, "int64"))
    return found


def prepare(params: Params, name: str, table: Mapping[str, Any], held: Mapping[str, int]) -> dict[str, Any]:
    """Turn one owner's columns into its arrays, locally; refuse values that are out of range."""
    plan = declared.read(params)
    chosen = ranges.chosen(plan, rows(params, held))
    made: dict[str, Any] = {}
    for column in plan.columns.values():
        if name in plan.held_by(column):
            parts = owner.encoded(plan, chosen, column, name, table, held[name])
            made |= {f"{column.name}.{part}@{name}": array for part, array in parts.items()}
    return made


def program(params: Params, held: Mapping[str, int]) -> Callable[..., Any]:
    """Return the joint function. All of its arguments and results are secret."""
    from .joint import joint  # only compute parties need jax: opening a result does not

    plan = declared.read(params)
    keys = [(column, part) for column, part in _keys(plan) for _ in plan.held_by(plan.columns[column])]
    return joint(plan, ranges.chosen(plan, rows(params, held)), keys)


def outputs(params: Params) -> list[str]:
    """Return the names of the joint function's results."""
    plan = declared.read(params)
    found = [f"{name}/{part}" for name, request in plan.requests.items() for part in plan.parts(request)]
    return [*found, *(f"scale/{each}" for each in plan.unbounded())]


def finish(params: Params, rows: int, opened: Mapping[str, Any]) -> dict[str, Any]:
    """Divide, scale and name the opened results."""
    plan = declared.read(params)
    return finishing.finished(plan, ranges.chosen(plan, rows), rows, opened)


def _keys(plan: declared.Plan) -> list[tuple[str, str]]:
    return [(name, part) for name, column in plan.columns.items() for part in plan.secrets(column)]
