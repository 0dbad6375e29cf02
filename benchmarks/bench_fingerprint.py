"""How fast a file is fingerprinted, against ``sha256sum`` of the same file.

The file lies in memory (``/dev/shm``) or wherever ``--dir`` says; it is read once before anything is
measured, so all sides read from the page cache. They take turns; the best of each counts. Where there is an
``openssl``, its ``dgst -sha256`` is shown too: unlike coreutils it uses the processor's SHA instructions.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from measuring import machine, options, progress, report, table, workplace

from sealtrace.node.fingerprints import fingerprint_file

MEMORY = Path("/dev/shm")
CHUNK = 16 << 20


def main() -> None:
    """Measure, print, clean up."""
    parser = options(__doc__)
    parser.add_argument("--gib", type=float, default=1.0, help="size of the file (default: 1)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each side (default: 3)")
    parser.add_argument("--dir", type=Path, default=MEMORY, help=f"where the file lies (default: {MEMORY})")
    arguments = parser.parse_args()
    about = machine()
    with workplace(arguments.dir) as folder:
        path = make(folder / "table", round(arguments.gib * 2**30))
        result = measure(path, arguments.rounds) | {"machine": about}
    columns = ["", "seconds", "GB/s"]
    rows: list[list[object]] = [
        ["sha256sum (baseline)", result["sha256sum_s"], result["sha256sum_gb_s"]],
        *([["openssl dgst", result["openssl_s"], result["openssl_gb_s"]]] if "openssl_s" in result else []),
        ["fingerprint, one thread", result["one_thread_s"], result["one_thread_gb_s"]],
        ["fingerprint, as nodes do", result["fingerprint_s"], result["fingerprint_gb_s"]],
    ]
    ratio = f"{result['ratio']:.2f} times sha256sum (goal: 1 or more)"
    title = f"{arguments.gib:g} GiB in the page cache"
    report(result, [table(title, columns, rows), ratio], as_json=arguments.json)


def make(path: Path, size: int) -> Path:
    """A file of ``size`` random bytes."""
    with path.open("wb") as file:
        for first in range(0, size, CHUNK):
            file.write(os.urandom(min(CHUNK, size - first)))
    return path


def measure(path: Path, rounds: int) -> dict[str, object]:
    """Each side's best of ``rounds``, in turns, after each has read the file once."""
    sides: dict[str, Callable[[], object]] = {
        "sha256sum": lambda: subprocess.run(["sha256sum", str(path)], check=True, capture_output=True),
        "fingerprint": lambda: fingerprint_file(path),
        "one_thread": lambda: fingerprint_file(path, threads=1),
    }
    if shutil.which("openssl"):
        command = ["openssl", "dgst", "-sha256", str(path)]
        sides["openssl"] = lambda: subprocess.run(command, check=True, capture_output=True)
    best = dict.fromkeys(sides, float("inf"))
    for turn in range(rounds + 1):
        for name, act in sides.items():
            progress(f"{name}, turn {turn}" if turn else f"{name}, warming")
            began = time.perf_counter()
            act()
            if turn:
                best[name] = min(best[name], time.perf_counter() - began)
    size = path.stat().st_size
    result: dict[str, object] = {"benchmark": "fingerprint", "baseline": "sha256sum", "bytes": size}
    for name, seconds in best.items():
        result |= {f"{name}_s": round(seconds, 4), f"{name}_gb_s": round(size / seconds / 1e9, 3)}
    return result | {"ratio": round(best["sha256sum"] / best["fingerprint"], 3)}


if __name__ == "__main__":
    main()
