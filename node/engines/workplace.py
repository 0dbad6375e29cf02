"""What every process of a job has: its folder and the files in it, how it tells of itself, how it ends."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as _installed
from pathlib import Path
from typing import Never

from sealtrace.node.engines.errors import (
    DiskFull,
    EmptyIntersection,
    EngineError,
    ProgramMismatch,
    to_report,
)
from sealtrace.protocol.canonical import canonical
from sealtrace.protocol.identifiers import Address

JOB, OUTPUT, TRANSCRIPT, ERROR = "job.json", "output.sealed", "transcript.json", "error.json"
PROGRESS, SCRATCH = "progress.jsonl", "scratch"
KEPT = "kept"
"""The folder of a job in which it leaves the parts that the party keeps."""
CONNECTING = "connecting"
FAILED = 70  # EX_SOFTWARE: error.json says what happened
PARENT = "SEALTRACE_PARENT"
SHARED = (EmptyIntersection, ProgramMismatch)
"""Outcomes that every party sees for itself, from the same exchange."""
LAST_WORD_S = 1.0  # so that our part of that exchange leaves the process before it ends


def live(arguments: Sequence[str], carry: Callable[[Path], None]) -> Never:
    """Let ``carry`` do the job in the given directory, and end the process without unwinding the engine.

    The engine's threads have no clean way to stop while a peer is silent, so nothing waits for them.
    """
    folder = Path(arguments[0])
    try:
        status = _attempt(folder, carry)
    except BaseException:  # whatever it was: the log gets it, and nothing waits for the engine
        traceback.print_exc()
        status = 1
    shutil.rmtree(folder / SCRATCH, ignore_errors=True)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _attempt(folder: Path, carry: Callable[[Path], None]) -> int:
    try:
        die_with_parent()
        carry(folder)
    except EngineError as error:
        write(folder / ERROR, canonical(to_report(error)))
        if isinstance(error, SHARED):
            time.sleep(LAST_WORD_S)
        return FAILED
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        _report_full_disk(folder)
        return FAILED
    return 0


def tell(folder: Path, phase: str, step: str | None = None, parties: Sequence[Address] | None = None) -> None:
    """Add a line for the parent: the phase, and with whom alone it is where that is not with all."""
    with (folder / PROGRESS).open("a", encoding="ascii") as file:
        file.write(json.dumps({"phase": phase, "step": step, "parties": parties}) + "\n")


def write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(path.name + ".part")
    with partial.open("wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)


def die_with_parent() -> None:
    """Ask the kernel to kill this process when the worker that started it is gone (Linux)."""
    if (parent := os.environ.get(PARENT)) is None:
        return
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != int(parent):
        os._exit(FAILED)


def version(distribution: str) -> str:
    """The installed version of a distribution, or ``unknown``."""
    try:
        return _installed(distribution)
    except PackageNotFoundError:
        return "unknown"


def _report_full_disk(folder: Path) -> None:
    """Say it where there may be no room to say it: scratch goes first."""
    shutil.rmtree(folder / SCRATCH, ignore_errors=True)
    (folder / (OUTPUT + ".part")).unlink(missing_ok=True)
    print("sealtrace: no space left on device", file=sys.stderr, flush=True)
    write(folder / ERROR, canonical(to_report(DiskFull("no space left for the job's files"))))
