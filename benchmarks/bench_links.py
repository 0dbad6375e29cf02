"""Alignments and statistics between parties far apart: through gateways, against the same on bare SPU.

Every party has a network namespace of its own, in which its engine and its gateway run; what it sends passes
an emulated line (by default 100 Mbit/s, 5 ms each way: a round trip of 10 ms). *Node* is engine processes as
nodes run them, with mutual TLS between their gateways. *Bare* is, for an alignment, SPU's own call on the
same tables, and for statistics the same engine code, both over SPU's direct links on plain TCP, without the
time that those links take to connect. Bytes are those of all IP packets of all parties. Needs root, Linux.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import alone
import bare_run
import bench_psi
import numpy as np
from alone import NOWHERE, OWNERS
from links import Line, Lines, LinksUnavailable, lines, require_able
from measuring import machine, options, progress, report, table, workplace
from places import Place

from sealtrace.deploy.ports import free_ports
from sealtrace.node.engines.job import Job

GOAL_SHARE, GOAL_S = 0.02, 5.0
SIDES = ("bare", "node")
SEED = 20_240_601
STATISTICS = {
    "min_group": 5,
    "columns": {name: {"kind": "number", "input": name, "column": "amount"} for name in OWNERS},
    "requests": {
        "linked": {"measure": "correlation", "of": list(OWNERS)},
        "each": {"measure": "summary", "of": list(OWNERS), "statistics": ["mean", "variance"]},
    },
}


class NotTheSame(RuntimeError):
    """The two sides came to different rows, or ran different programs."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One run of one side. ``sent`` are bytes of all parties; ``ran`` is what must be alike on both sides."""

    program: str
    side: str
    rows: int
    seconds: float
    sent: int
    ran: object


Ran = tuple[float, object]


def main() -> None:
    """Measure, print, clean up."""
    parser = options(__doc__)
    parser.add_argument("--programs", nargs="+", choices=PROGRAMS, default=list(PROGRAMS))
    parser.add_argument("--rows", type=int, help="rows a party (default: each program's own)")
    parser.add_argument("--rounds", type=int, default=1, help="turns of each side (default: 1)")
    parser.add_argument("--delay-ms", type=float, default=5.0, help="one way (default: 5)")
    parser.add_argument("--mbit", type=float, default=100.0, help="Mbit/s that a party sends (default: 100)")
    arguments = parser.parse_args()
    line, about = Line(arguments.delay_ms / 1000, arguments.mbit), machine()
    try:
        require_able()
        with workplace() as folder, lines(len(OWNERS), line) as up:
            turns = [
                _turn(up, program, side, arguments.rows or PROGRAMS[program].rows, folder)
                for program in arguments.programs
                for _ in range(arguments.rounds)
                for side in SIDES
            ]
            _, emulation_cpu_s = up.sent()
    except LinksUnavailable as error:
        sys.exit(f"LinksUnavailable: {error}")
    result = summary(turns, line) | {"emulation_cpu_s": round(emulation_cpu_s, 1), "machine": about}
    report(result, _tables(result), as_json=arguments.json)


def summary(turns: Sequence[Turn], line: Line) -> dict[str, Any]:
    """The best turn of each side by program and size, what gateways cost, and whether that meets the goal.

    Raises:
        NotTheSame: the turns of one program and size did not all run the same.
    """
    found = []
    for program, rows, best in best_turns(turns):
        bare, node = best["bare"], best["node"]
        found.append(
            {
                "program": program,
                "rows": rows,
                "bare_s": round(bare.seconds, 2),
                "node_s": round(node.seconds, 2),
                "ratio": round(node.seconds / bare.seconds, 2),
                "cost_s": round(node.seconds - bare.seconds, 2),
                "goal_met": goal_met(bare.seconds, node.seconds),
                **{f"{side}_mb": round(turn.sent / 1e6, 1) for side, turn in best.items()},
                **{f"{side}_bytes_a_row": round(turn.sent / rows, 1) for side, turn in best.items()},
            }
        )
    return {
        "benchmark": "links",
        "baseline": "bare SPU over its direct link, on the same lines in the same run",
        "line": {"round_trip_ms": line.round_trip_ms, "mbit_s": line.mbit_s, "queue": line.queue_packets},
        "goal": {"share_of_bare": GOAL_SHARE, "and_s": GOAL_S},
        "programs": found,
    }


def best_turns(turns: Sequence[Any]) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """The best turn of each side by program and size, of turns that have what :class:`Turn` has but bytes.

    Raises:
        NotTheSame: the turns of one program and size did not all run the same.
    """
    for program, rows in dict.fromkeys((turn.program, turn.rows) for turn in turns):
        own = [turn for turn in turns if (turn.program, turn.rows) == (program, rows)]
        if any(turn.ran != own[0].ran for turn in own):
            raise NotTheSame(f"{program}: {[(turn.side, turn.ran) for turn in own]}")
        best = {side: min((t for t in own if t.side == side), key=lambda t: t.seconds) for side in SIDES}
        yield program, rows, best


def goal_met(bare_s: float, node_s: float) -> bool:
    """Whether nodes cost no more than the goal allows."""
    return node_s - bare_s <= GOAL_SHARE * bare_s + GOAL_S


def _tables(result: Mapping[str, Any]) -> list[Any]:
    line = result["line"]
    title = f"round trip {line['round_trip_ms']:g} ms, {line['mbit_s']:g} Mbit/s a party"
    rows = [
        [
            f"{each['program']} {each['rows']:,}, {side}",
            each[f"{side}_s"],
            each["ratio"] if side == "node" else "",
            each[f"{side}_mb"],
            each[f"{side}_bytes_a_row"],
            ("met" if each["goal_met"] else "missed") if side == "node" else "",
        ]
        for each in result["programs"]
        for side in SIDES
    ]
    columns = ["", "seconds", "ratio", "MB", "bytes a row", "goal"]
    return [table(title, columns, rows), f"goal: within {GOAL_SHARE:.0%} plus {GOAL_S:g} s of bare"]


def _turn(up: Lines, program: str, side: str, rows: int, folder: Path) -> Turn:
    progress(f"{side}: {program}, {rows:,} rows a party")
    place = folder / f"{program}-{side}-{time.monotonic_ns()}"
    place.mkdir()
    tables = PROGRAMS[program].tables(rows, place)
    before, _ = up.sent()
    seconds, ran = PROGRAMS[program].sides[side](up.places[: len(tables)], tables, place)
    after, _ = up.sent()
    return Turn(program, side, rows, seconds, after - before, ran)


def _psi_bare(places: Sequence[Place], tables: Sequence[Path], folder: Path) -> Ran:
    ports = free_ports(len(places))
    hosts = [f"{place.address}:{port}" for place, port in zip(places, ports, strict=True)]
    work = [(me, hosts, "RR22", tables[me], folder, place) for me, place in enumerate(places)]
    said = bench_psi.together(bench_psi.bare, work)
    return max(each["seconds"] for each in said), {each["common"] for each in said}


def _psi_node(places: Sequence[Place], tables: Sequence[Path], folder: Path) -> Ran:
    jobs = [bench_psi.job_of(me, NOWHERE, "", "RR22", path) for me, path in enumerate(tables)]
    said = alone.through_gateways(jobs, places, folder)
    return max(each["seconds"] for each in said), {each["steps"][0]["common"] for each in said}


def _statistics_bare(places: Sequence[Place], tables: Sequence[Path], folder: Path) -> Ran:
    jobs = [_statistics(me, tables[me]) for me in range(len(tables))]
    done = bare_run.run(jobs, folder, bench_psi.LONGEST_S, places)
    return done.seconds, done.steps


def _statistics_node(places: Sequence[Place], tables: Sequence[Path], folder: Path) -> Ran:
    jobs = [_statistics(me, tables[me]) for me in range(len(tables))]
    said = alone.through_gateways(jobs, places, folder)
    return max(each["seconds"] for each in said), said[0]["steps"]


def _statistics(rank: int, path: Path) -> Job:
    step = alone.step_of("statistics", "statistics", params=STATISTICS)
    return alone.job_of(rank, (step,), path, [("amount",)] * len(OWNERS))


def amounts(rows: int, into: Path) -> list[Path]:
    """Write a table of ids and amounts for each owner, in one order for all; same bytes for same rows."""
    chance = np.random.default_rng(SEED)
    made = []
    for name in OWNERS:
        path = into / f"{name}.csv"
        cells = chance.integers(1, 1000, size=rows).tolist()
        path.write_text("id,amount\n" + "".join([f"A{at:08d},{cell}\n" for at, cell in enumerate(cells)]))
        made.append(path)
    return made


Tables = Callable[[int, Path], Sequence[Path]]


@dataclass(frozen=True, slots=True)
class Program:
    """What is run on both sides: how many rows by default, who makes the parties' tables."""

    rows: int
    tables: Tables
    sides: Mapping[str, Callable[[Sequence[Place], Sequence[Path], Path], Ran]]


PROGRAMS = {
    "psi": Program(1_000_000, bench_psi.make, {"bare": _psi_bare, "node": _psi_node}),
    "statistics": Program(100_000, amounts, {"bare": _statistics_bare, "node": _statistics_node}),
}


if __name__ == "__main__":
    main()
