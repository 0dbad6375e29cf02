"""Joint models of three parties through gateways, against the same compiled programs on bare SPU.

Each task aligns by RR22, turns columns into features and trains one model under ABY3. *Node* is engine
processes as nodes run them, with mutual TLS between their gateways, from their start to their sealed shares.
*Bare* is the same engine code over SPU's direct links on plain TCP, without the time that these links take to
connect. Both sides run in turn on the same tables, and have to come to the same rows and the same programs.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import alone
import bare_run
import bench_psi
import numpy as np
from alone import OWNERS
from bench_links import GOAL_S, GOAL_SHARE, SIDES, best_turns, goal_met
from measuring import machine, options, progress, report, table, workplace
from places import HERE

from sealtrace.node.engines.job import Job

FEATURES = ("a0", "a1", "b0", "b1", "c0", "c1")
HELD = {"bank": ("a0", "a1", "bad"), "registry": ("b0", "b1"), "carrier": ("c0", "c1")}
SEED = 20_240_601
COMMON = 0.9


@dataclass(frozen=True, slots=True)
class Model:
    """What is trained: rows a party by default, the model's parameters, what its features are like."""

    rows: int
    algorithm: str
    params: Mapping[str, Any]
    features: Mapping[str, Any]


MODELS = {
    "glm": Model(10_000, "glm", {"family": "logistic", "l2": 0.001}, {"target": "bad"}),
    "trees": Model(2_000, "boosted-trees", {"trees": 3, "depth": 3}, {"target": "bad", "edges": 7}),
    "k-means": Model(5_000, "k-means", {"clusters": 4, "iterations": 8, "starts": 2}, {}),
}


@dataclass(frozen=True, slots=True)
class Turn:
    """One run of one side: seconds and CPU seconds of all parties; ``ran`` must be alike on both sides."""

    program: str
    side: str
    rows: int
    seconds: float
    cpu_s: float
    ran: object


def main() -> None:
    """Measure, print, clean up."""
    parser = options(__doc__)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--rows", type=int, help="rows a party (default: each model's own)")
    parser.add_argument("--rounds", type=int, default=1, help="turns of each side (default: 1)")
    arguments = parser.parse_args()
    about = machine()
    with workplace() as folder:
        turns = [
            _turn(name, side, arguments.rows or MODELS[name].rows, folder)
            for name in arguments.models
            for _ in range(arguments.rounds)
            for side in SIDES
        ]
    result = summary(turns) | {"machine": about}
    columns = ["", "bare s", "node s", "node / bare", "bare CPU s", "node CPU s", "goal"]
    rows = [
        [
            f"{each['model']} {each['rows']:,}",
            each["bare"]["seconds"],
            each["node"]["seconds"],
            each["ratio"],
            each["bare"]["cpu_s"],
            each["node"]["cpu_s"],
            "met" if each["goal_met"] else "missed",
        ]
        for each in result["models"]
    ]
    said = f"goal: within {GOAL_SHARE:.0%} plus {GOAL_S:g} s of bare"
    report(result, [table("joint models of three parties", columns, rows), said], as_json=arguments.json)


def summary(turns: Sequence[Turn]) -> dict[str, Any]:
    """The best turn of each side by model and size, their ratio, and whether that meets the goal.

    Raises:
        NotTheSame: the turns of one model and size did not all run the same.
    """
    found = []
    for model, rows, best in best_turns(turns):
        bare, node = (best[side].seconds for side in SIDES)
        figures = {
            side: {"seconds": round(turn.seconds, 2), "cpu_s": round(turn.cpu_s, 1)}
            for side, turn in best.items()
        }
        found.append(
            {
                "model": model,
                "rows": rows,
                **figures,
                "ratio": round(node / bare, 2),
                "cost_s": round(node - bare, 2),
                "goal_met": goal_met(bare, node),
            }
        )
    return {
        "benchmark": "models",
        "baseline": "the same compiled programs between the same parties on bare SPU's direct links",
        "goal": {"share_of_bare": GOAL_SHARE, "and_s": GOAL_S},
        "models": found,
    }


def _turn(name: str, side: str, rows: int, folder: Path) -> Turn:
    progress(f"{side}: {name}, {rows:,} rows a party")
    place = folder / f"{name}-{side}-{time.monotonic_ns()}"
    place.mkdir()
    paths = make(rows, place)
    jobs = [job_of(MODELS[name], me, paths[me]) for me in range(len(OWNERS))]
    if side == "bare":
        done = bare_run.run(jobs, place, bench_psi.LONGEST_S)
        return _told(Turn(name, side, rows, done.seconds, done.cpu_s, done.steps))
    said = alone.through_gateways(jobs, [HERE] * len(jobs), place)
    seconds, cpu_s = max(each["seconds"] for each in said), sum(each["cpu_s"] for each in said)
    return _told(Turn(name, side, rows, seconds, cpu_s, said[0]["steps"]))


def _told(turn: Turn) -> Turn:
    """The turn, said at once as well: a run that is broken off is not all lost."""
    progress(f"{turn.side}: {turn.program}: {turn.seconds:.2f} s, {turn.cpu_s:.1f} CPU s")
    return turn


def job_of(model: Model, rank: int, path: Path) -> Job:
    """One party's job: align, prepare, train."""
    columns: dict[str, Any] = {
        column: {"input": name, "kind": "number", "low": -4, "high": 4}
        for name, held in HELD.items()
        for column in held
        if column in FEATURES
    }
    if "target" in model.features:
        columns["bad"] = {"input": "bank", "kind": "indicator", "positive": "y"}
    step = alone.step_of
    steps = (
        step("align", "psi", "RR22"),
        step("prepared", "features", params={"columns": columns, **model.features}, after=("align",)),
        step(
            "train",
            model.algorithm,
            params=dict(model.params),
            after=("prepared",),
            uses={"features": "prepared"},
        ),
    )
    return alone.job_of(rank, steps, path, [HELD[name] for name in OWNERS])


def make(rows: int, into: Path) -> list[Path]:
    """Write each owner's table, nine ids of ten common to all; same bytes for same rows."""
    chance = np.random.default_rng(SEED)
    cells = {name: np.clip(chance.normal(size=rows), -4, 4).round(4) for name in FEATURES}
    score = cells["a0"] - cells["b1"] + 0.5 * cells["c0"]
    event = chance.uniform(size=rows) < 1 / (1 + np.exp(-score))
    texts = {name: list(map(repr, each.tolist())) for name, each in cells.items()}
    texts["bad"] = np.where(event, "y", "n").tolist()
    common, made = round(COMMON * rows), []
    for name in OWNERS:
        order = chance.permutation(rows).tolist()
        lines = [
            ",".join([_id(at, common, name), *(texts[column][at] for column in HELD[name])]) for at in order
        ]
        path = into / f"{name}.csv"
        path.write_text("\n".join([",".join(["id", *HELD[name]]), *lines, ""]), encoding="ascii")
        made.append(path)
    return made


def _id(at: int, common: int, name: str) -> str:
    return f"A{at:08d}" if at < common else f"{name}{at:08d}"


if __name__ == "__main__":
    main()
