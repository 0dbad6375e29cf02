"""Plans held against runs: bytes and seconds that `sealtrace task plan` expects, and what gateways counted.

Each case is planned as a requester would, then run: engine processes as nodes run them, mutual TLS between
their gateways. Bytes are those that gateways count for the task, of all parties. With ``--lines`` parties are
joined by emulated lines of 100 Mbit/s and a round trip of 10 ms, which the plan assumes (root, Linux); else
they share this machine, and seconds are not compared. ``--constants`` measures what algorithms/measured.py
holds instead.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import alone
import bench_links
import bench_psi
import numpy as np
from links import Line as EmulatedLine
from links import lines
from measuring import machine, options, progress, report, table, workplace
from places import Place

from sealtrace.algorithms.estimating import PROGRAM, TURNS, Line
from sealtrace.algorithms.sampling import sampled
from sealtrace.node.engines.job import JobStep
from sealtrace.requester.expectations import Assumed, Expected, expected, samplable
from sealtrace.requester.known_algorithms import KnownAlgorithms

LINE = Line(rtt_ms=10.0, mbit=100.0)
NEAR, FAR = 0.001, 0.151
"""Seconds one way, of the two lines by which turns are told from work."""
SMALL_ROWS = 1_000
PAIR_SIZES = (
    ((100_000, 100_000), 50_000),
    ((200_000, 200_000), 100_000),
    ((200_000, 100_000), 50_000),
    ((100_000, 200_000), 50_000),
    ((100_000, 100_000), 10_000),
)
RING_SIZES = (
    ((50_000, 50_000, 50_000), 25_000),
    ((100_000, 50_000, 50_000), 25_000),
    ((50_000, 100_000, 50_000), 25_000),
    ((50_000, 50_000, 100_000), 25_000),
    ((50_000, 50_000, 50_000), 5_000),
)
WORK_ROWS, TIMES = 500_000, 2
MORE = 31
"""Rows that an owner holds beside those that all hold."""

Tables = tuple[list[Path], list[list[str]]]


@dataclass(frozen=True, slots=True)
class Case:
    """A task: its steps, how its tables are made, their rows, and the common ones."""

    steps: tuple[JobStep, ...]
    tables: Callable[[Path], Tables]
    rows: int
    common: int


@dataclass(frozen=True, slots=True)
class Compared:
    """A case planned and run. Bytes by rank; ``planning_s`` is what the plan itself took."""

    name: str
    rows: int
    planned: tuple[int, ...]
    observed: tuple[int, ...]
    planned_s: float
    observed_s: float
    planning_s: float
    basis: tuple[str, ...]

    @property
    def ratio(self) -> float:
        """Bytes of all parties, planned to observed."""
        return sum(self.planned) / sum(self.observed)

    @property
    def furthest(self) -> float:
        """The ratio of the party for which it is furthest from 1."""
        ratios = (a / b for a, b in zip(self.planned, self.observed, strict=True))
        return max(ratios, key=lambda ratio: abs(ratio - 1))


def main() -> None:
    """Measure, print, clean up."""
    parser = options(__doc__)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES)[:3])
    parser.add_argument("--lines", action="store_true", help="emulate the line that plans assume (root)")
    parser.add_argument("--constants", action="store_true", help="measure algorithms/measured.py (root)")
    arguments = parser.parse_args()
    about = machine()
    with workplace() as folder:
        if arguments.constants:
            found: dict[str, Any] = {"benchmark": "plan", "constants": constants(folder), "machine": about}
            report(found, [f"{k} {v}" for k, v in found["constants"].items()], as_json=arguments.json)
            return
        with _places(LINE.rtt_ms / 2000 if arguments.lines else None) as places:
            compared = [_compared(name, folder / str(at), places) for at, name in enumerate(arguments.cases)]
    result = summary(compared, with_seconds=arguments.lines) | {"machine": about}
    report(result, _shown(result), as_json=arguments.json)


def summary(compared: Sequence[Compared], *, with_seconds: bool) -> dict[str, Any]:
    """The cases as they are reported."""
    cases = []
    for each in compared:
        case: dict[str, Any] = {
            "case": each.name,
            "rows": each.rows,
            "planned_bytes": sum(each.planned),
            "observed_bytes": sum(each.observed),
            "ratio": round(each.ratio, 3),
            "furthest_party": round(each.furthest, 3),
            "planning_s": round(each.planning_s, 1),
            "basis": list(each.basis),
        }
        if with_seconds:
            case |= {"planned_s": round(each.planned_s, 1), "observed_s": round(each.observed_s, 1)}
        cases.append(case)
    line = {"rtt_ms": LINE.rtt_ms, "mbit": LINE.mbit} if with_seconds else None
    return {"benchmark": "plan", "baseline": "what gateways counted", "line": line, "cases": cases}


def constants(folder: Path) -> dict[str, Any]:
    """All figures of algorithms/measured.py."""
    found: dict[str, Any] = {}
    places = itertools.count()

    def run(protocol: str, sizes: Sequence[int], common: int) -> alone.Observed:
        progress(f"{protocol}, {sizes} rows, {common} common")
        place = folder / str(next(places))
        paths = keyed(sizes, common, place.with_suffix(".tables"))
        return alone.observed(_psi(protocol), paths, [[]] * len(sizes), place)

    for protocol in bench_psi.PROTOCOLS:
        found[protocol] = fitted(PAIR_SIZES, [run(protocol, *size) for size in PAIR_SIZES], pair=True)
        found[protocol]["seconds"] = _work(run, protocol, 2)
        progress(f"{protocol}: {found[protocol]}")
    found["ECDH among three"] = fitted(RING_SIZES, [run("ECDH", *size) for size in RING_SIZES], pair=False)
    found["ECDH among three"]["seconds"] = _work(run, "ECDH", 3)
    progress(f"ECDH among three: {found['ECDH among three']}")
    return found | turns(folder) | {"bytes a message": message_bytes(folder)}


def message_bytes(folder: Path) -> float:
    """What gateways count for a turn beyond what the engine says that it sends: heads, acknowledgements."""
    sent, said, waited = [], [], []
    for epochs in (1, 4):
        progress(f"descent of {epochs} epochs")
        case = _glm(method="sgd", iterations=epochs)
        place = _made(folder / f"descent-{epochs}")
        paths, columns = case.tables(place)
        sent.append(sum(alone.observed(case.steps, paths, columns, place / "run").sent))
        known, _ = samplable(
            alone.spec_of(case.steps, columns),
            KnownAlgorithms({}),
            dict.fromkeys(alone.OWNERS, case.rows),
            case.common,
        )
        (seen,) = sampled(known, 600.0).samples["fit"]
        said.append(seen.seen[PROGRAM] * len(paths))
        waited.append(seen.seen[TURNS] * len(paths))
    return round((sent[1] - sent[0] - (said[1] - said[0])) / (waited[1] - waited[0]), 1)


def turns(folder: Path) -> dict[str, Any]:
    """Turns by what a longer line adds, the best of some runs each; and the engine's own bytes."""
    seen: dict[str, list[list[alone.Observed]]] = {}
    for delay in (NEAR, FAR):
        with _places(delay) as places:
            for name, (steps, count) in _small().items():
                seen.setdefault(name, []).append([])
                for at in range(TIMES):
                    progress(f"{name}, {delay * 1000:g} ms one way")
                    place = folder / f"{name}-{delay}-{at}".replace(" ", "-")
                    tables = place.with_suffix(".tables")
                    if steps[0].engine == "psi":
                        paths = keyed((SMALL_ROWS,) * count, SMALL_ROWS // 2, tables)
                        seen[name][-1].append(alone.observed(steps, paths, [[]] * count, place, places))
                        continue
                    paths = bench_links.amounts(SMALL_ROWS, _made(tables))
                    seen[name][-1].append(alone.observed(steps, paths, [["amount"]] * count, place, places))
    found: dict[str, Any] = {}
    for name, (near, far) in seen.items():
        more = min(each.seconds for each in far) - min(each.seconds for each in near)
        progress(f"{name}: {near[0].sent}, {more / (2 * (FAR - NEAR)):.1f} turns")
        found[name] = {
            "turns": round(more / (2 * (FAR - NEAR)), 1),
            "cpu_s": min(max(each.cpu_s) for each in near),
            "sent": near[0].sent,
            "messages": near[0].messages,
        }
    return found


def keyed(sizes: Sequence[int], common: int, folder: Path) -> list[Path]:
    """Write a table of shuffled ids for each party, ``common`` of them in all and the others in no two."""
    _made(folder)
    paths, used = [], common
    for at, rows in enumerate(sizes):
        ids = [*range(common), *range(used, used + rows - common)]
        used += rows - common
        random.Random(at).shuffle(ids)
        paths.append(folder / f"{at}.csv")
        paths[-1].write_text("id\n" + "".join([f"A{each:09d}\n" for each in ids]))
    return paths


def _small() -> dict[str, tuple[tuple[JobStep, ...], int]]:
    once = alone.step_of("one", "statistics", params=bench_links.STATISTICS)
    twice = (once, once.model_copy(update={"id": "two", "after": ("one",)}))
    groups = {f"{protocol} turns": (_psi(protocol), 2) for protocol in bench_psi.PROTOCOLS}
    return groups | {
        "ECDH among three turns": (_psi("ECDH"), 3),
        "one step": ((once,), 3),
        "two steps": (twice, 3),
    }


def _psi(protocol: str) -> tuple[JobStep, ...]:
    return (alone.step_of("align", "psi", protocol),)


def fitted(
    sizes: Sequence[tuple[Sequence[int], int]], seen: Sequence[alone.Observed], *, pair: bool
) -> dict[str, Any]:
    """Bytes by rank as so many for each row and a constant.

    Of a pair the rows are its own, its peer's, those of the larger table and the common ones; else those of
    each party and the common ones.
    """
    found = {}
    for rank in range(len(sizes[0][0])):
        names = ["fixed", *(["own", "other", "largest"] if pair else map(str, range(3))), "common"]
        terms = [
            [1.0, *([rows[rank], rows[1 - rank], max(rows)] if pair else rows), common]
            for rows, common in sizes
        ]
        sent = np.array([each.sent[rank] for each in seen], dtype=float)
        values, *_ = np.linalg.lstsq(np.array(terms, dtype=float), sent, rcond=None)
        found[str(rank)] = {name: round(float(value), 2) for name, value in zip(names, values, strict=True)}
    return found


def _work(run: Callable[..., alone.Observed], protocol: str, count: int) -> float:
    """CPU seconds of the busiest party for a million rows, beyond those of a run of few."""
    few = run(protocol, (1_000,) * count, 500)
    many = run(protocol, (WORK_ROWS,) * count, WORK_ROWS // 2)
    return round((max(many.cpu_s) - max(few.cpu_s)) / WORK_ROWS * 1e6, 1)


def _compared(name: str, folder: Path, places: Sequence[Place]) -> Compared:
    case = CASES[name]()
    paths, columns = case.tables(_made(folder))
    count = len(paths)
    progress(f"{name}: planning")
    began = time.perf_counter()
    owners = alone.OWNERS[:count]
    assumed = Assumed(dict.fromkeys(owners, case.rows), case.common, LINE)
    plan = expected(alone.spec_of(case.steps, columns), KnownAlgorithms({}), assumed)
    planning = time.perf_counter() - began
    progress(f"{name}: running")
    seen = alone.observed(case.steps, paths, columns, folder / "run", places)
    basis = tuple(f"{each.step.id}: {each.cost.basis}" for each in plan.steps if each.cost)
    return Compared(name, case.rows, sent(plan), seen.sent, plan.seconds, seen.seconds, planning, basis)


def sent(plan: Expected) -> tuple[int, ...]:
    """Bytes that each party is expected to send in the whole task, by rank.

    Raises:
        RuntimeError: a step's bytes are unknown.
    """
    if plan.unknown:
        raise RuntimeError(f"unknown: {[(each.step.id, each.why) for each in plan.steps if each.why]}")
    return tuple(map(sum, zip(*(each.sent for each in plan.costs), strict=True)))


@contextmanager
def _places(delay_s: float | None) -> Iterator[Sequence[Place]]:
    if delay_s is None:
        yield ()
        return
    with lines(len(alone.OWNERS), EmulatedLine(delay_s, LINE.mbit)) as up:
        yield up.places


def _shown(result: Mapping[str, Any]) -> list[Any]:
    columns = ["", "planned MB", "observed MB", "ratio", "furthest party", "planned s", "observed s"]
    rows = [
        [
            f"{each['case']}, {each['rows']:,} rows",
            each["planned_bytes"] / 1e6,
            each["observed_bytes"] / 1e6,
            each["ratio"],
            each["furthest_party"],
            each.get("planned_s", ""),
            each.get("observed_s", ""),
        ]
        for each in result["cases"]
    ]
    said = [f"{each['case']}, {line}" for each in result["cases"] for line in each["basis"]]
    return [table("bytes of all parties, and seconds", columns, rows), *said]


def _statistics(rows: int, protocol: str = "ABY3") -> Case:
    def tables(folder: Path) -> Tables:
        return bench_links.amounts(rows, folder), [["amount"]] * len(alone.OWNERS)

    step = alone.step_of("statistics", "statistics", protocol, params=bench_links.STATISTICS)
    return Case((step,), tables, rows, rows)


def _glm(**params: Any) -> Case:
    """Breast cancer (569 rows, 30 features, ten at each owner): aligned, prepared, fitted.

    Each owner holds some rows more: of equal sets of keys the engine sends next to nothing.
    """
    from sklearn.datasets import load_breast_cancer

    values, target = load_breast_cancer(return_X_y=True)
    shares = [range(10), range(10, 20), range(20, 30)]
    columns = [[f"f{at}" for at in share] for share in shares]
    declared: dict[str, Any] = {
        f"f{at}": {
            "kind": "number",
            "input": owner,
            "low": float(values[:, at].min()) - 1,
            "high": float(values[:, at].max()) + 1,
        }
        for owner, share in zip(alone.OWNERS, shares, strict=True)
        for at in share
    }
    declared["bad"] = {"kind": "indicator", "input": "bank", "positive": "0"}

    def tables(folder: Path) -> Tables:
        paths = []
        for name, share in zip(alone.OWNERS, shares, strict=True):
            own = name == "bank"
            lines = [",".join(["id", *(f"f{at}" for at in share), *(["bad"] if own else [])])]
            for key, row in [*((f"A{row}", row) for row in range(len(values))), *_more(name)]:
                cells = [key, *(repr(float(values[row, at])) for at in share)]
                lines.append(",".join([*cells, *([str(target[row])] if own else [])]))
            paths.append(folder / f"{name}.csv")
            paths[-1].write_text("\n".join(lines) + "\n")
        return paths, [[*columns[0], "bad"], *columns[1:]]

    step = alone.step_of
    align = step("align", "psi", "RR22")
    prepared = step("prepared", "features", after=("align",), params={"columns": declared, "target": "bad"})
    fit = step(
        "fit",
        "glm",
        after=("prepared",),
        uses={"features": "prepared"},
        params={"family": "logistic", "l2": 0.01, **params},
    )
    return Case((align, prepared, fit), tables, len(values) + MORE, len(values))


def _more(name: str) -> list[tuple[str, int]]:
    """Keys of one owner alone, and the rows that they repeat."""
    return [(f"{name}{row}", row) for row in range(MORE)]


def _alignment(protocol: str, rows: int, count: int = 2) -> Case:
    def tables(folder: Path) -> Tables:
        return keyed((rows,) * count, rows // 2, folder), [[]] * count

    return Case(_psi(protocol), tables, rows, rows // 2)


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


CASES: Mapping[str, Callable[[], Case]] = {
    "statistics": lambda: _statistics(20_000),
    "logistic regression": _glm,
    "RR22": lambda: _alignment("RR22", 200_000),
    "statistics of more rows": lambda: _statistics(100_000),
    "stochastic gradient descent": lambda: _glm(method="sgd", iterations=2),
    "KKRT": lambda: _alignment("KKRT", 200_000),
    "ECDH": lambda: _alignment("ECDH", 100_000),
    "ECDH among three": lambda: _alignment("ECDH", 50_000, 3),
    "RR22 among three": lambda: _alignment("RR22", 100_000, 3),
}


if __name__ == "__main__":
    main()
