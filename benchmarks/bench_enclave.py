"""XGBoost through an enclave's whole path, against bare XGBoost on the same CSV file in one process.

*Enclave* is real processes and gateways with mutual TLS: owners seal their columns to the (simulated)
enclave's key and push them through; it opens them, runs the bundle in the sandbox, guards and seals what
comes out, and states what it did. No chain and no scheduler are asked, and statements are not judged: that
costs milliseconds. *Bare* reads the whole table with pyarrow, the fastest reader installed, and trains with
the same parameters, rows and threads. Its process and imports count on both sides. Both have to come to the
same loss.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from enclaves import ID, EnclaveTask, Party
from measuring import machine, options, progress, report, table, workplace
from node_gateways import NODES, TASK, Known, gateways, open_session
from places import HERE

from sealtrace.algorithms.opening import enclave_outputs, read_shares
from sealtrace.algorithms.shares import decode_output
from sealtrace.node.engines.errors import EngineError
from sealtrace.node.engines.job import Timeouts
from sealtrace.node.engines.process import Begun, JobResult, Progress
from sealtrace.protocol.envelope import unseal
from sealtrace.protocol.identifiers import Hex32

GOAL_SHARE, GOAL_S = 0.05, 8.0
ROWS, COLUMNS = 1_000_000, 50
ROUNDS, DEPTH = 50, 6
MIN_GROUP = 20
"""The bundle's smallest group: no leaf is of fewer rows, so bare trains with the same least weight."""
SEED = 20_240_601
DECIMALS = 4
LONGEST_S = 3_600
TIMEOUTS = Timeouts(receive_ms=600_000, connect_ms=60_000, wait_ms=3_600_000)
NAMES = [f"x{at}" for at in range(COLUMNS)]
TARGET = "y"
SAME = 2e-5


class NotTheSame(RuntimeError):
    """The two sides came to different models."""


@dataclass(frozen=True, slots=True)
class Side:
    """One run of one side."""

    seconds: float
    cpu_s: float
    peak_mib: int
    loss: float
    stages: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Seconds and CPU seconds of all processes, by what the enclave was doing."""
    processes: Mapping[str, float] = field(default_factory=dict)
    """CPU seconds by what used them."""


def main() -> None:
    """Measure, print, clean up."""
    parser = options(__doc__)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--owners", type=int, choices=(1, 2), default=2, help="of the columns (default: 2)")
    parser.add_argument("--memory-mib", type=int, default=8192, help="enclave_memory_mib (default: 8192)")
    parser.add_argument("--within", type=Path, help="a directory on the disk to use")
    arguments = parser.parse_args()
    about = machine()
    with workplace(arguments.within) as folder:
        progress(f"writing {arguments.rows:,} rows")
        whole, tables = make(arguments.rows, arguments.owners, folder)
        octets = sum(path.stat().st_size for _, path, _ in tables.values())
        progress("bare")
        bare = run_bare(whole)
        progress(f"bare: {bare.seconds:.2f} s, {bare.cpu_s:.1f} CPU s")
        whole.unlink()
        progress("enclave")
        enclave = run_enclave(tables, folder, arguments.memory_mib)
        progress(f"enclave: {enclave.seconds:.2f} s, {enclave.cpu_s:.1f} CPU s")
    result = summary(arguments.rows, arguments.owners, octets, bare, enclave) | {"machine": about}
    report(result, _tables(result), as_json=arguments.json)


def summary(rows: int, owners: int, octets: int, bare: Side, enclave: Side) -> dict[str, Any]:
    """Both sides, their ratio, and whether that meets the goal.

    Raises:
        NotTheSame: they came to different losses.
    """
    if abs(bare.loss - enclave.loss) > SAME:
        raise NotTheSame(f"bare came to a loss of {bare.loss}, the enclave to {enclave.loss}")
    sides = {
        name: {"seconds": round(s.seconds, 2), "cpu_s": round(s.cpu_s, 1), "peak_mib": s.peak_mib}
        for name, s in (("bare", bare), ("enclave", enclave))
    }
    return {
        "benchmark": "enclave",
        "baseline": "pyarrow and XGBoost in one process, the same parameters and threads",
        "goal": {"share_of_bare": GOAL_SHARE, "and_s": GOAL_S},
        "rows": rows,
        "columns": COLUMNS,
        "owners": owners,
        "input_mb": round(octets / 1e6, 1),
        **sides,
        "stages": {
            name: {"seconds": round(s, 2), "cpu_s": round(c, 1)} for name, (s, c) in enclave.stages.items()
        },
        "processes": {name: round(each, 1) for name, each in enclave.processes.items()},
        "loss": enclave.loss,
        "ratio": round(enclave.seconds / bare.seconds, 2),
        "cost_s": round(enclave.seconds - bare.seconds, 2),
        "cost_cpu_s": round(enclave.cpu_s - bare.cpu_s, 2),
        "goal_met": enclave.seconds - bare.seconds <= GOAL_SHARE * bare.seconds + GOAL_S,
    }


def _tables(result: Mapping[str, Any]) -> list[Any]:
    sides = [[name, *result[name].values()] for name in ("bare", "enclave")]
    stages = [[name, *each.values()] for name, each in result["stages"].items()]
    title = f"{result['rows']:,} x {result['columns']}, {result['owners']} owners, {result['input_mb']} MB"
    goal = result["goal"]
    said = "met" if result["goal_met"] else "missed"
    return [
        table(title, ["", "s", "CPU s", "peak MiB"], sides),
        table("where the enclave's seconds go", ["", "s", "CPU s"], stages),
        table("who uses CPU", ["", "CPU s"], [[*each] for each in result["processes"].items()]),
        f"ratio {result['ratio']}, cost {result['cost_s']} s and {result['cost_cpu_s']} CPU s; "
        f"goal of {goal['share_of_bare']:.0%} plus {goal['and_s']:g} s: {said}",
    ]


# --- tables


def make(rows: int, owners: int, folder: Path) -> tuple[Path, dict[str, tuple[int, Path, list[str]]]]:
    """Write the whole table for bare, and each owner's columns of it; the same bytes for the same rows."""
    whole, held = folder / "whole.csv", [*NAMES, TARGET]
    cuts = [held] if owners == 1 else [held[: COLUMNS // 2], held[COLUMNS // 2 :]]
    paths = [folder / f"owner-{at}.csv" for at in range(owners)]
    with ExitStack() as stack:
        files = [
            (stack.enter_context(path.open("w", encoding="ascii", newline="")), [ID, *columns])
            for path, columns in [(whole, held), *zip(paths, cuts, strict=True)]
        ]
        for texts in _blocks(rows):
            for file, columns in files:
                lines = zip(*(texts[name] for name in columns), strict=True)
                file.write("\n".join(map(",".join, lines)) + "\n")
    return whole, {f"owner_{at}": (at + 1, paths[at], cut) for at, cut in enumerate(cuts)}


def _blocks(rows: int) -> Iterator[dict[str, list[str]]]:
    """The header, then many rows at a time: texts by column."""
    yield {name: [name] for name in [ID, *NAMES, TARGET]}
    chance = np.random.default_rng(SEED)
    for start in range(0, rows, 50_000):
        count = min(50_000, rows - start)
        values = chance.standard_normal((count, COLUMNS)).round(DECIMALS)
        score = values[:, 0] - values[:, 1] * values[:, 30] + 0.5 * values[:, 49]
        texts = {name: list(map(repr, values[:, at].tolist())) for at, name in enumerate(NAMES)}
        texts[TARGET] = (score + chance.standard_normal(count) > 0).astype(int).astype(str).tolist()
        yield {ID: [f"A{at:08d}" for at in range(start, start + count)], **texts}


# --- bare


def run_bare(whole: Path) -> Side:
    """Read and train in a process of its own."""
    began = time.monotonic()
    command = [sys.executable, __file__, "--bare", str(whole)]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE) as process,
        watched({"bare": [process.pid]}) as seen,
    ):
        said = json.loads(process.communicate()[0])
    return Side(time.monotonic() - began, said["cpu_s"], seen.peak_mib, said["loss"])


def bare(path: Path) -> None:
    """What a data scientist would write: the whole table into one matrix, and training."""
    import pyarrow.csv
    import xgboost

    table = pyarrow.csv.read_csv(path)
    matrix = np.empty((table.num_rows, COLUMNS), dtype=np.float32)
    for at, name in enumerate(NAMES):
        matrix[:, at] = table.column(name).to_numpy()
    truth = table.column(TARGET).to_numpy().astype(float)
    del table
    held = xgboost.DMatrix(matrix, label=truth)
    settings = {
        "objective": "binary:logistic",
        "base_score": float(truth.mean()),
        "max_depth": DEPTH,
        "eta": 0.3,
        "min_child_weight": MIN_GROUP / 4,
        "tree_method": "hist",
    }
    scores = xgboost.train(settings, held, ROUNDS).predict(held).clip(1e-15, 1 - 1e-15).astype(float)
    loss = float(-np.mean(truth * np.log(scores) + (1 - truth) * np.log(1 - scores)))
    print(json.dumps({"loss": round(loss, 6), "cpu_s": time.process_time()}))


# --- through the enclave


@dataclass
class Watch:
    """CPU seconds and memory of groups of processes, and of those they started."""

    groups: dict[str, list[int]]
    peak_mib: int = 0
    cpu: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def look(self) -> float:
        """Look at all of them; the CPU seconds of all together."""
        resident = 0
        for name, heads in self.groups.items():
            used = 0.0
            for each in _running(heads):
                with suppress(psutil.Error):
                    used += sum(each.cpu_times()[:4])
                    resident += each.memory_info().rss
            self.cpu[name] = max(self.cpu[name], used)
        self.peak_mib = max(self.peak_mib, resident >> 20)
        return sum(self.cpu.values())


def _running(heads: Sequence[int]) -> Iterator[psutil.Process]:
    """Those of ``heads`` that are still there, and what they started."""
    for head in heads:
        with suppress(psutil.Error):
            process = psutil.Process(head)
            yield from [process, *process.children(recursive=True)]


@contextmanager
def watched(groups: dict[str, list[int]]) -> Iterator[Watch]:
    """Look five times a second."""
    watch, over = Watch(groups), threading.Event()

    def looking() -> None:
        while not over.wait(0.2):
            watch.look()

    thread = threading.Thread(target=looking)
    thread.start()
    try:
        yield watch
    finally:
        over.set()
        thread.join()


def run_enclave(tables: dict[str, tuple[int, Path, list[str]]], folder: Path, memory_mib: int) -> Side:
    """Run the task, from the start of the enclave's process to the end of the last party's.

    Raises:
        EngineError: it failed.
    """
    key = X25519PrivateKey.generate()
    count = 1 + len(tables)
    with gateways(folder, [HERE] * count) as known:
        own = psutil.Process().children()
        groups = {"gateways": [each.pid for each in own], "enclave": [], "owners": []}
        before = sum(sum(each.cpu_times()[:2]) for each in own)
        began, marks = time.monotonic(), [("stating", time.monotonic(), 0.0)]
        with watched(groups) as watch:

            def begun(me: int, process: Begun) -> None:
                groups["owners" if me else "enclave"].append(process.process.pid)

            def told(me: int) -> Progress | None:
                return None if me else lambda phase, _: marks.append((phase, time.monotonic(), watch.look()))

            task = EnclaveTask(
                [_party(known, me, folder) for me in range(count)],
                TASK,
                Hex32("0x" + key.public_key().public_bytes_raw().hex()),
                folder / "jobs",
                "tee-xgboost",
                params(len(tables)),
                tables,
                memory_mib=memory_mib,
                timeouts=TIMEOUTS,
                deadline_s=LONGEST_S,
                begun=begun,
                progress=told,
            )
            ended = task.run()
            for me, each in enumerate(ended):
                if isinstance(each, EngineError):
                    progress(f"party {me}: {each}: {(task.folder(me) / 'engine.log').read_text()[-2000:]}")
            seconds, used = time.monotonic() - began, watch.look() - before
    marks.append(("end", began + seconds, used + before))
    stages: dict[str, tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))
    for (name, at, cpu), (_, then, cpu_then) in pairwise(marks):
        stages[name] = (stages[name][0] + then - at, stages[name][1] + cpu_then - max(cpu, before))
    watch.cpu["gateways"] -= before
    return Side(seconds, used, watch.peak_mib, _loss(ended, key), stages, watch.cpu)


def _party(known: Sequence[Known], me: int, folder: Path) -> Party:
    node = NODES[me]
    certificate, key = folder / f"{node}.crt", folder / f"{node}.key"
    return Party(node, known[me][0], certificate, key, partial(open_session, known, me))


def params(owners: int) -> dict[str, Any]:
    """What the requester asks for."""
    return {
        "mode": "train",
        "join": "vertical" if owners > 1 else "none",
        "features": [{"column": name} for name in NAMES],
        "target": {"column": TARGET, "positive": "1"},
        "train": {"rounds": ROUNDS, "depth": DEPTH},
    }


def _loss(ended: Sequence[JobResult | EngineError], key: X25519PrivateKey) -> float:
    """What the requester opens."""
    for each in ended:
        if isinstance(each, EngineError):
            raise each
    first = ended[0]
    assert isinstance(first, JobResult)
    (share,) = decode_output(unseal(first.output.read_bytes(), key).plaintext).values()
    loss: float = enclave_outputs(read_shares([share]))["measures"]["train"]["loss"]
    return loss


if __name__ == "__main__":
    if sys.argv[1:2] == ["--bare"]:
        bare(Path(sys.argv[2]))
    else:
        main()
