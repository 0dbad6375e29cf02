"""What every benchmark does alike: work in a place that is gone afterwards, name the machine, print."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import FrameType

import psutil
from rich.console import Console
from rich.table import Table

console = Console(highlight=False, stderr=False)
notes = Console(highlight=False, stderr=True)


class Stopped(KeyboardInterrupt):
    """SIGTERM, taken like Ctrl-C: what was started is stopped, what was written is removed."""


def options(description: str | None) -> argparse.ArgumentParser:
    """A parser with what all benchmarks take."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    return parser


@contextmanager
def workplace(within: Path | None = None) -> Iterator[Path]:
    """A fresh directory, removed whatever happens."""
    signal.signal(signal.SIGTERM, _stop)
    folder = Path(tempfile.mkdtemp(prefix="sealtrace-bench-", dir=within))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def machine() -> dict[str, object]:
    """What the figures depend on; the load is what ran here before the benchmark did."""
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "load_before": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        **{name: _version(name) for name in ("sealtrace", "spu")},
    }


def report(result: Mapping[str, object], tables: Sequence[Table | str], *, as_json: bool) -> None:
    """Print the result as one JSON object, or the tables with a line about the machine."""
    if as_json:
        console.print(json.dumps(result), soft_wrap=True, markup=False)
        return
    for table in tables:
        console.print(table)
    said = ", ".join(f"{name} {value}" for name, value in machine().items())
    console.print(f"[dim]{said}[/]", soft_wrap=True)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """A plain table, its first column to the left and numbers to the right."""
    made = Table(title=title, title_justify="left", box=None)
    for place, name in enumerate(columns):
        made.add_column(name, justify="right" if place else "left")
    for row in rows:
        made.add_row(*(each if isinstance(each, str) else f"{each:,.2f}" for each in row))
    return made


def progress(line: str) -> None:
    """Say what is being measured, apart from the result."""
    notes.print(f"[dim]{line}[/]", soft_wrap=True)


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stopped
