"""How long ``sealtrace demo`` takes and how much memory, against its network alone.

The baseline is ``sealtrace net up`` and ``sealtrace net down`` of the same network in the same run: every
process of the demo, and no story. Memory is that of the whole tree of processes, sampled: RSS counts shared
pages in every process that maps them, PSS once.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from measuring import machine, options, progress, report, table, workplace

from sealtrace.deploy.network import Network

SAMPLE_EVERY_S = 0.25
PSS_EVERY = 4  # the kernel walks every page for it
TIMEOUT_S = 600.0


class CommandFailed(RuntimeError):
    """A command of ``sealtrace`` did not succeed; the message has what it said."""


@dataclass
class Peak:
    """The most memory that the processes of the network in ``folder``, and our own children, held at once.

    A network's processes outlive the command that starts them: they are known by their pid files.
    """

    folder: Path
    rss: int = 0
    pss: int = 0
    processes: int = 0
    _over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Peak:
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(10)

    def _follow(self) -> None:
        turn = 0
        while not self._over.wait(SAMPLE_EVERY_S):
            self._sample(with_pss=turn % PSS_EVERY == 0)
            turn += 1

    def _sample(self, *, with_pss: bool) -> None:
        tree = _tree(self.folder)
        self.processes = max(self.processes, len(tree))
        self.rss = max(self.rss, sum(_memory(tree, "rss")))
        if with_pss:
            self.pss = max(self.pss, sum(_memory(tree, "pss")))


def main() -> None:
    """Measure, print, clean up."""
    arguments = options(__doc__).parse_args()
    about = machine()
    with workplace() as folder:
        sides = {"net up and down": _net(folder / "net"), "demo": _demo(folder / "demo")}
    baseline, demo = sides["net up and down"], sides["demo"]
    result = {
        "benchmark": "demo",
        "baseline": "net up and down",
        "sides": sides,
        "ratio_seconds": round(demo["seconds"] / baseline["seconds"], 2),
        "ratio_pss": round(demo["peak_pss_mib"] / baseline["peak_pss_mib"], 2),
        "machine": about,
    }
    columns = ["", "seconds", "peak RSS MiB", "peak PSS MiB", "processes"]
    rows = [[name, *(f"{value:,.0f}" for value in side.values())] for name, side in sides.items()]
    report(result, [table("the demo, and its network alone", columns, rows)], as_json=arguments.json)


def _net(folder: Path) -> dict[str, float]:
    with _measured(folder) as found:
        _run(["net", "up", "--dir", str(folder)])
        _run(["net", "down", "--dir", str(folder)])
    return found


def _demo(folder: Path) -> dict[str, float]:
    with _measured(folder) as found:
        _run(["demo", "--dir", str(folder)])
    return found


@contextmanager
def _measured(folder: Path) -> Iterator[dict[str, float]]:
    """Seconds and peaks of the block, entered when it is over; nothing of ``folder`` runs on."""
    found: dict[str, float] = {}
    began = time.perf_counter()
    try:
        with Peak(folder) as peak:
            yield found
    finally:
        if (folder / "network.json").exists():
            Network(folder).down()
    found["seconds"] = round(time.perf_counter() - began, 2)
    found["peak_rss_mib"], found["peak_pss_mib"] = round(peak.rss / 2**20), round(peak.pss / 2**20)
    found["processes"] = peak.processes


def _run(arguments: Sequence[str]) -> None:
    progress("sealtrace " + " ".join(arguments[: 1 + (arguments[0] == "net")]))
    command = [sys.executable, "-m", "sealtrace", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode:
        raise CommandFailed(
            f"{arguments[0]} ended with {done.returncode}:\n{done.stdout[-1000:]}{done.stderr}"
        )


def _tree(folder: Path) -> list[psutil.Process]:
    roots = [psutil.Process()]
    for file in (folder / "run").glob("*.pid"):
        with suppress(psutil.NoSuchProcess, OSError, ValueError, KeyError):
            roots.append(psutil.Process(json.loads(file.read_text())["pid"]))
    found = {each for root in roots[1:] for each in (root, *_children(root))}
    return list(found | set(_children(roots[0])))


def _children(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return list(process.children(recursive=True))
    return []


def _memory(tree: Sequence[psutil.Process], kind: str) -> Iterator[int]:
    for process in tree:
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            info = process.memory_full_info() if kind == "pss" else process.memory_info()
            yield int(getattr(info, kind))


if __name__ == "__main__":
    main()
