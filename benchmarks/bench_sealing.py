"""Sealing and opening a dataset of 1 GiB in chunks, against age on the same file.

Every side is a process of its own from start to end, reading one file and writing another on the same disk:
*ours* is ``protocol.sealed_stream``; *age* is the program, in Go; *pyrage* is age in Rust behind Python. What
is not installed is left out and named. age knows nothing of tasks: it binds no header. Each turn is one run;
the best turn counts. Afterwards what was opened is compared with what was sealed.
"""

from __future__ import annotations

import filecmp
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measuring import machine, options, progress, report, table, workplace

SEALERS = Path(__file__).with_name("sealers.py")
INSTALL = {"age": "on Debian: apt install age", "pyrage": "pip install 'sealtrace[bench]'"}
GOAL_RATIO = 1.0
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Turn:
    """One run of one side."""

    side: str
    what: str
    seconds: float
    cpu_s: float
    peak_mib: float


def main() -> None:
    """Measure, print, clean up."""
    parser = options(__doc__)
    parser.add_argument("--mib", type=int, default=1024, help="size of the dataset (default: 1024)")
    parser.add_argument("--rounds", type=int, default=2, help="turns of each side (default: 2)")
    parser.add_argument("--within", type=Path, help="a directory on the disk to use")
    arguments = parser.parse_args()
    about = machine()
    sides = ["ours", *(name for name in INSTALL if installed(name))]
    with workplace(arguments.within) as folder:
        plain = folder / "plain"
        progress(f"writing {arguments.mib} MiB of random bytes")
        _write(plain, arguments.mib)
        for side in sides:
            _make_key(side, folder)
        turns = [
            turn for _ in range(arguments.rounds) for side in sides for turn in _turns(side, plain, folder)
        ]
    missing = [f"{name} is not installed ({how})" for name, how in INSTALL.items() if name not in sides]
    result = summary(turns, arguments.mib) | {"missing": missing, "machine": about}
    report(result, _tables(result), as_json=arguments.json)


def installed(side: str) -> bool:
    """Whether a peer is there."""
    return bool(shutil.which("age")) if side == "age" else importlib.util.find_spec(side) is not None


def _write(path: Path, mib: int) -> None:
    with path.open("wb") as file:
        for _ in range(mib):
            file.write(os.urandom(_MIB))


def _make_key(side: str, folder: Path) -> None:
    key = folder / f"{side}.key"
    if side == "age":
        subprocess.run(["age-keygen", "-o", key], check=True, capture_output=True)
    else:
        subprocess.run([sys.executable, SEALERS, side, "key", key], check=True)


def _turns(side: str, plain: Path, folder: Path) -> list[Turn]:
    sealed, opened = folder / "sealed", folder / "opened"
    turns = []
    for what, source, target in (("seal", plain, sealed), ("open", sealed, opened)):
        progress(f"{side}: {what}")
        turns.append(_turn(side, what, command(side, what, folder / f"{side}.key", source, target)))
    if not filecmp.cmp(plain, opened, shallow=False):
        raise SystemExit(f"{side} opened something else than it sealed")
    sealed.unlink()
    opened.unlink()
    return turns


def command(side: str, what: str, key: Path, source: Path, target: Path) -> list[str]:
    """The command line of one run."""
    if side != "age":
        return [sys.executable, *map(str, (SEALERS, side, what, key, source, target))]
    how = ["-e"] if what == "seal" else ["-d"]
    return ["age", *how, "-i", str(key), "-o", str(target), str(source)]


def _turn(side: str, what: str, line: Sequence[str]) -> Turn:
    began = time.perf_counter()
    process = subprocess.Popen(line)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{side} cannot {what}: status {process.returncode}")
    seconds = time.perf_counter() - began
    return Turn(side, what, seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def summary(turns: Sequence[Turn], mib: int) -> dict[str, Any]:
    """The best turn of each side, and ours against the best other one."""
    rows = []
    for side, what in dict.fromkeys((turn.side, turn.what) for turn in turns):
        best = min((t for t in turns if (t.side, t.what) == (side, what)), key=lambda t: t.seconds)
        rows.append(
            {
                "side": side,
                "what": what,
                "seconds": round(best.seconds, 2),
                "cpu_s": round(best.cpu_s, 2),
                "mib_s": round(mib / best.seconds),
                "peak_mib": round(best.peak_mib, 1),
            }
        )
    ratios, cpu_ratios = (
        {what: _ratio(rows, what, unit) for what in ("seal", "open")} for unit in ("seconds", "cpu_s")
    )
    met = [ratio <= GOAL_RATIO for ratio in ratios.values() if ratio is not None]
    return {
        "benchmark": "sealing",
        "baseline": "age (Go), pyrage (Rust): the faster of those installed",
        "mib": mib,
        "turns": rows,
        "ratio": ratios,
        "cpu_ratio": cpu_ratios,
        "met": all(met) if met else None,
    }


def _ratio(rows: Sequence[dict[str, Any]], what: str, unit: str) -> float | None:
    own = [row[unit] for row in rows if (row["side"], row["what"]) == ("ours", what)]
    others = [row[unit] for row in rows if row["side"] != "ours" and row["what"] == what]
    return round(own[0] / min(others), 2) if own and others else None


def _tables(result: dict[str, Any]) -> list[Any]:
    columns = ["", "seconds", "CPU s", "MiB/s", "peak MiB"]
    rows = [
        [f"{row['side']}, {row['what']}", row["seconds"], row["cpu_s"], row["mib_s"], row["peak_mib"]]
        for row in result["turns"]
    ]
    both = f"ours / the best other, by the clock: {result['ratio']}, by CPU: {result['cpu_ratio']}; "
    said = both + "; ".join(result["missing"])
    return [table(f"{result['mib']} MiB", columns, rows), said.rstrip("; ")]


if __name__ == "__main__":
    main()
