"""Run a bundle's program in one process: every party is a thread, and the tables lie side by side.

For trying a program out on data that one may see. Nothing is secret here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sealtrace.algorithms.bundles import Bundle
from sealtrace.algorithms.compiling import arithmetic, compiled, engine_config
from sealtrace.algorithms.shares import Computation
from sealtrace.algorithms.values import Value, array_names, gives, with_taken

PARTIES = {"ABY3": 3, "CHEETAH": 2, "SEMI2K": 2}


class CannotSimulate(ValueError):
    """The program cannot run on these tables with these parameters; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Simulated:
    """What the requester would open, how it was computed, and what is handed on: in the clear, here."""

    result: dict[str, Any]
    computation: Computation
    rows: int
    given: Mapping[str, tuple[Value, list[Any]]]


def simulate(
    bundle: Bundle,
    params: Mapping[str, Any],
    tables: Mapping[str, Mapping[str, Any]],
    protocol: str,
    taken: Mapping[str, tuple[Value, list[Any]]] | None = None,
) -> Simulated:
    """Run the program over ``tables``: columns by input and name, as an owner's table is read.

    ``taken`` are values that earlier steps gave, by role: ``{"model": earlier.given["model"]}``.

    Raises:
        CannotSimulate: the program refuses parameters, columns, values or rows.
    """
    if protocol not in PARTIES or protocol not in bundle.manifest.protocols:
        raise CannotSimulate(f"{bundle.manifest.name} runs under {', '.join(bundle.manifest.protocols)}")
    program, taken = bundle.program, taken or {}
    held = {name: len(next(iter(table.values()), ())) for name, table in tables.items()}
    try:
        program.check(params, list(tables))
        params = with_taken(program, params, {role: value for role, (value, _) in taken.items()})
        rows = program.rows(params, held)
        how = arithmetic(bundle, params, rows, protocol)
        executable = compiled(program, params, held)
        made: dict[str, Any] = {}
        for name, table in tables.items():
            made |= program.prepare(params, name, table, held)
    except ValueError as error:
        raise CannotSimulate(str(error)) from error
    more = [array for role in sorted(taken) for array in taken[role][1]]
    opened = _run(executable, how, [*(made[name] for name, *_ in program.arrays(params, held)), *more])
    given = {
        name: (value, [opened[each] for each in array_names(name, value)])
        for name, value in gives(program, params, held).items()
    }
    return Simulated(program.finish(params, rows, opened), how, rows, given)


def _run(executable: Any, how: Computation, arrays: list[Any]) -> dict[str, Any]:
    from spu.utils.simulation import Simulator

    found = Simulator(PARTIES[how.protocol], engine_config(how))(executable, *arrays)
    return dict(zip(executable.output_names, found, strict=True))
