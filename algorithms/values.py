"""Values that a step hands on to later steps while they stay shared, and what is public about them.

A program that takes or gives such values defines ``takes`` and ``gives`` beside what
:class:`~sealtrace.algorithms.bundles.Program` lists. Public facts about what it takes reach it in its
parameters, under :data:`TAKEN`, which no task may write.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sealtrace.algorithms.bundles import Program

TAKEN = "taken"
MAX_ARRAYS = 64

ArrayWords = tuple[str, tuple[Annotated[int, Field(ge=0, le=2**31)], ...], Literal["float64", "int64"]]


class ValueMismatch(ValueError):
    """A step is given another value than its program takes; connect the steps by ``uses`` as it says."""


class Value(BaseModel):
    """What is public about a shared value: its kind, facts its kind defines, and its arrays in order."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: Annotated[str, Field(pattern=r"^[a-z][a-z-]{0,31}$")]
    about: dict[str, Any]
    arrays: tuple[ArrayWords, ...] = Field(min_length=1, max_length=MAX_ARRAYS)

    @property
    def names(self) -> list[str]:
        """The arrays' names."""
        return [name for name, *_ in self.arrays]


def takes(program: Program, params: Mapping[str, Any]) -> dict[str, str]:
    """Return the kind of each value that the program takes, by the role it has there."""
    found = getattr(program, "takes", None)
    return dict(found(params)) if found is not None else {}


def gives(program: Program, params: Mapping[str, Any], held: Mapping[str, int]) -> dict[str, Value]:
    """Return what is public about each value that the program hands on, by name in ascending order.

    Raises:
        ValueError: what the program says is malformed.
    """
    found = getattr(program, "gives", None)
    return read_values(found(params, held)) if found is not None else {}


def read_values(said: Mapping[str, Any]) -> dict[str, Value]:
    """Read values as JSON has them.

    Raises:
        ValueMismatch: they are malformed.
    """
    try:
        return {name: Value.model_validate_json(_text(said[name])) for name in sorted(said)}
    except (ValidationError, TypeError) as error:
        raise ValueMismatch(f"a value is not described as it must be: {error}") from error


def with_taken(program: Program, params: Mapping[str, Any], given: Mapping[str, Value]) -> dict[str, Any]:
    """Return the parameters with the public facts of ``given``, the values by role.

    Raises:
        ValueMismatch: the program takes others.
    """
    if TAKEN in params:
        raise ValueMismatch(f"params.{TAKEN} is made of the steps' values: leave it out")
    wanted = takes(program, params)
    if {role: each.kind for role, each in given.items()} != wanted:
        needs = ", ".join(f"{role} ({kind})" for role, kind in sorted(wanted.items())) or "nothing"
        has = ", ".join(f"{role} ({each.kind})" for role, each in sorted(given.items())) or "nothing"
        raise ValueMismatch(f"the algorithm uses {needs}, and the step gives it {has}")
    if not wanted:
        return dict(params)
    return {**params, TAKEN: {role: each.model_dump(mode="json") for role, each in given.items()}}


def arguments(
    program: Program, params: Mapping[str, Any], held: Mapping[str, int]
) -> list[tuple[str, tuple[int, ...], str]]:
    """Return (name, shape, type) of all arguments of the joint function: owners' arrays, then taken ones.

    ``params`` are those of :func:`with_taken`.
    """
    own = [(name, tuple(shape), kind) for name, _, shape, kind in program.arrays(params, held)]
    taken = read_values(params.get(TAKEN, {}))
    more = [
        (f"{role}.{name}", shape, kind) for role, each in taken.items() for name, shape, kind in each.arrays
    ]
    return [*own, *more]


def results(program: Program, params: Mapping[str, Any], held: Mapping[str, int]) -> list[str]:
    """Return the names of all results of the joint function: outputs, then the arrays of what it gives."""
    given = gives(program, params, held)
    return [
        *program.outputs(params),
        *(f"{name}.{each}" for name, value in given.items() for each in value.names),
    ]


def array_names(role: str, value: Value) -> list[str]:
    """The names that a taken or given value's arrays have among arguments and results."""
    return [f"{role}.{each}" for each in value.names]


def _text(value: object) -> bytes:
    return json.dumps(value).encode()
