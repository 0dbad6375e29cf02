"""Try an algorithm out on tables that one may see: simulated parties, and the same function in the clear."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sealtrace.algorithms.bundles import Bundle, Program
from sealtrace.algorithms.functions import FunctionProgram
from sealtrace.algorithms.headroom import Headroom, headroom
from sealtrace.algorithms.simulation import CannotSimulate, Simulated, simulate

SEED, DRAWS = 1, 8
Tables = dict[str, dict[str, Any]]


class TableUnfit(ValueError):
    """A table for a trial is missing a column, or a cell is not what the algorithm reads; mend the table."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What a trial showed. ``plain`` and ``room`` are of algorithms that are one declared function."""

    simulated: Simulated
    plain: dict[str, Any] | None
    room: Headroom | None


def attempt(bundle: Bundle, params: Mapping[str, Any], tables: Tables, protocol: str) -> Trial:
    """Simulate the algorithm; run a declared function in the clear as well, over data and over its bounds.

    Raises:
        CannotSimulate: the program refuses parameters, columns or rows.
        NumbersTooLarge: a number inside the function leaves the ring, here or at the declared bounds.
    """
    simulated = simulate(bundle, params, tables, protocol)
    program = bundle.program
    if not isinstance(program, FunctionProgram):
        return Trial(simulated, None, None)
    held = {name: len(next(iter(table.values()))) for name, table in tables.items()}
    joint = program.program(params, held)
    made = {
        k: v for name, table in tables.items() for k, v in program.prepare(params, name, table, held).items()
    }
    arrays = [made[name] for name, *_ in program.arrays(params, held)]
    tried = [headroom(joint, each, simulated.computation) for each in (arrays, *_extremes(program, arrays))]
    found = dict(zip(program.outputs(params), map(_array, joint(*arrays)), strict=True))
    plain = program.finish(params, simulated.rows, found)
    return Trial(simulated, plain, max(tried, key=lambda each: each.largest))


def read_tables(
    program: Program, params: Mapping[str, Any], paths: Mapping[str, Path], id_column: str | None
) -> Tables:
    """Read what the program reads of each input's CSV file; with ``id_column`` only the common rows, aligned.

    Raises:
        CannotSimulate: the program refuses the parameters.
        TableUnfit: a column is missing, or a cell is not what it must be.
    """
    try:
        program.check(params, list(paths))
    except ValueError as error:
        raise CannotSimulate(str(error)) from error
    frames = {name: _frame(path, id_column) for name, path in paths.items()}
    if id_column:
        common = sorted(set.intersection(*(set(each.index) for each in frames.values())))
        frames = {name: each.loc[common] for name, each in frames.items()}
    return {
        name: {
            column: _cells(frame, paths[name], column, kind) for column, kind in program.columns(params, name)
        }
        for name, frame in frames.items()
    }


def _frame(path: Path, id_column: str | None) -> Any:
    import pandas as pd

    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise TableUnfit(f"{path}: {error}") from error
    if id_column is None:
        return frame
    if id_column not in frame or frame[id_column].duplicated().any():
        raise TableUnfit(f"{path}: {id_column!r} is no column of distinct ids")
    return frame.set_index(id_column)


def _cells(frame: Any, path: Path, column: str, kind: str) -> Any:
    if column not in frame:
        raise TableUnfit(f"{path}: there is no column {column!r}")
    texts: list[str] = frame[column].tolist()
    if "" in texts and not kind.startswith("nullable_"):
        raise TableUnfit(f"{path}: column {column!r}, row {texts.index('') + 1} is empty")
    return [_number(path, column, at, text) for at, text in enumerate(texts)] if "number" in kind else texts


def _number(path: Path, column: str, at: int, text: str) -> float:
    try:
        value = float(text) if text else math.nan
    except ValueError as error:
        raise TableUnfit(f"{path}: column {column!r}, row {at + 1} is no number") from error
    if text and not math.isfinite(value):
        raise TableUnfit(f"{path}: column {column!r}, row {at + 1} is not finite")
    return value


def _extremes(program: FunctionProgram, arrays: Sequence[Any]) -> list[list[Any]]:
    """Arrays of the same shapes at the declared bounds: all low, all high, and some drawn cell by cell."""
    import numpy as np

    chance = np.random.default_rng(SEED)
    bounds = [column.span for _, column in sorted(program.function.columns.items())]
    found = [[np.full(a.shape, b[side]) for a, b in zip(arrays, bounds, strict=True)] for side in (0, 1)]
    for _ in range(DRAWS):
        found.append([chance.choice(b, size=a.shape) for a, b in zip(arrays, bounds, strict=True)])
    return found


def _array(value: Any) -> Any:
    import numpy as np

    return np.asarray(value)
