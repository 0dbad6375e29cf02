"""How long a measured command takes to start and end in the sandbox, against the same command as a plain
subprocess.

*Plain* is ``subprocess.run``. *Sandbox* is our ``run``: bubblewrap, the seccomp filter, control groups where
the host gives them, limits, pipes read to their end. Turns alternate; figures are medians. The command does
nothing, so all is start and end. The host is probed once, before, as a node does.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from measuring import machine, options, progress, report, table, workplace

from sealtrace.node.engines.tee import runtime
from sealtrace.node.engines.tee.confinement import Confinement, probe
from sealtrace.node.engines.tee.runtime import Runtime
from sealtrace.node.engines.tee.sandbox import Measured, run

GOAL_ADDED_MS = 100
TRUE = Path("/usr/bin/true")


@dataclass(frozen=True, slots=True)
class Turn:
    """One start and end: by the clock, and in CPU time of this process and all that it started."""

    seconds: float
    cpu_s: float


Turns: TypeAlias = tuple[list[Turn], list[Turn]]


def main() -> None:
    """Measure, print."""
    parser = options(__doc__)
    parser.add_argument("--rounds", type=int, default=30, help="turns of each side (default: 30)")
    arguments = parser.parse_args()
    about = machine()
    began = time.perf_counter()
    offer = probe()
    probing_ms = (time.perf_counter() - began) * 1000
    with workplace() as folder:
        turns = {
            name: measure(command, found, folder, offer, arguments.rounds)
            for name, (command, found) in commands().items()
        }
    result = summary(turns, probing_ms) | {"machine": about, "confinement": offer.values()}
    report(result, _tables(result, offer), as_json=arguments.json)


def commands() -> dict[str, tuple[Sequence[str], Runtime]]:
    """What is started: nothing at all, and Python without a program."""
    python = runtime.this_python([])
    return {
        "true": ([str(TRUE.resolve())], runtime.program(TRUE)),
        "python": (python.python("-c", "pass"), python),
    }


def measure(command: Sequence[str], found: Runtime, folder: Path, offer: Confinement, rounds: int) -> Turns:
    """The turns of both sides: plain, in the sandbox."""
    progress(f"starting {Path(command[0]).name} {rounds} times on each side")
    measured = Measured(command, folder, found)
    plain, inside = [], []
    for _ in range(rounds + 1):
        plain.append(_timed(lambda: subprocess.run(command, check=True, stdin=subprocess.DEVNULL)))
        inside.append(_timed(lambda: run(measured, {}, offer=offer)))
    return plain[1:], inside[1:]  # the first turn of each warms the caches


def _timed(what: Callable[[], object]) -> Turn:
    began, busy = time.perf_counter(), _cpu_s()
    what()
    return Turn(time.perf_counter() - began, _cpu_s() - busy)


def _cpu_s() -> float:
    """CPU seconds of this process and of all that it started and saw end."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in both)


def summary(turns: Mapping[str, Turns], probing_ms: float) -> dict[str, Any]:
    """Medians of time and means of CPU time in milliseconds, the medians' ratio, and what the sandbox
    adds."""
    rows = []
    for name, sides in turns.items():
        plain_ms, inside_ms = (statistics.median(each.seconds for each in side) * 1000 for side in sides)
        plain_cpu, inside_cpu = (statistics.mean(each.cpu_s for each in side) * 1000 for side in sides)
        rows.append(
            {
                "command": name,
                "plain_ms": round(plain_ms, 1),
                "sandbox_ms": round(inside_ms, 1),
                "ratio": round(inside_ms / plain_ms, 1),
                "added_ms": round(inside_ms - plain_ms, 1),
                "plain_cpu_ms": round(plain_cpu, 1),
                "sandbox_cpu_ms": round(inside_cpu, 1),
            }
        )
    return {
        "benchmark": "sandbox",
        "baseline": "subprocess.run of the same command",
        "commands": rows,
        "probe_ms": round(probing_ms, 1),
        "met": all(row["added_ms"] <= GOAL_ADDED_MS for row in rows),
    }


def _tables(result: dict[str, Any], offer: Confinement) -> list[Any]:
    columns = ["", "plain ms", "sandbox ms", "ratio", "added ms", "plain CPU ms", "sandbox CPU ms"]
    rows = [list(each.values()) for each in result["commands"]]
    missing = ", ".join(offer.missing()) or "nothing"
    said = f"goal: at most {GOAL_ADDED_MS} ms added; probing the host once: {result['probe_ms']} ms"
    return [table("start and end of a command", columns, rows), f"{said}; missing here: {missing}"]


if __name__ == "__main__":
    main()
