"""Whether an algorithm takes a step's parameters, and reads no other columns than the task names."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sealtrace.algorithms.bundles import Bundle


class ParamsRefused(ValueError):
    """An algorithm does not take a step's parameters; the message says where and what would be right."""


def check_params(bundle: Bundle, params: Mapping[str, Any], columns: Mapping[str, Collection[str]]) -> None:
    """Refuse parameters that the algorithm does not take; ``columns`` are those the task names of each input.

    Raises:
        ParamsRefused: with the program's own words.
        BadBundle: the program does not load.
    """
    program = bundle.program
    try:
        program.check(params, list(columns))
        used = [(name, column) for name in columns for column, _ in program.columns(params, name)]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ParamsRefused(str(error)) from error
    for name, column in used:
        if column not in columns[name]:
            raise ParamsRefused(f"input {name} does not name the column {column!r}: add it to its columns")
