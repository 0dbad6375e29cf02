"""Carrying out one audit of a service, in a process of its own.

What an audit reads comes from those who are audited: if it takes all memory or all time, the process dies and
the service lives. The process ends with the service too: its standard input is a pipe that closes then.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

from sealtrace.auditor.bundle import gathering, pack
from sealtrace.auditor.exports.formats import write
from sealtrace.auditor.inquiry import Stage, examine
from sealtrace.auditor.jobs import (
    BUNDLE,
    OUTCOME,
    PROGRESS,
    STATE,
    Run,
    Wanted,
    described,
    read_json,
    write_json,
)
from sealtrace.auditor.report import counts, document, sentence
from sealtrace.auditor.settings import Settings, read_settings, signing_of

LOG: Final = "process.log"
AUDITS: Final = "audits"
_LOOK_EVERY_S: Final = 0.1
_CUT_SHORT: Final = 4


class AuditDied(RuntimeError):
    """The process of an audit ended without a result; process.log in the audit's folder may say why."""


def in_process(root: Path, timeout_s: float) -> Run:
    """How audits of the auditor's folder ``root`` are carried out, none for longer than ``timeout_s``."""

    def run(folder: Path, stop: threading.Event) -> None:
        command = [sys.executable, "-m", "sealtrace", "audit", "carry-out", "--dir", str(root)]
        ends = time.monotonic() + timeout_s
        with (
            (folder / LOG).open("wb") as log,
            subprocess.Popen(
                [*command, "--id", folder.name],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            ) as process,
        ):
            while process.poll() is None:
                if stop.wait(_LOOK_EVERY_S) or time.monotonic() > ends:
                    process.kill()
                    process.wait()
                    raise AuditDied("cut short" if stop.is_set() else f"it took over {timeout_s:g} s")
        if not (folder / OUTCOME).exists():
            raise AuditDied(f"its process ended with {process.returncode}")

    return run


def end_with_the_service() -> None:
    """End this process at once when its standard input closes."""

    def watch() -> None:
        sys.stdin.buffer.read()
        os._exit(_CUT_SHORT)

    threading.Thread(target=watch, daemon=True).start()


def carry_out(root: Path, identity: str) -> None:
    """Carry out the audit ``identity`` of the folder ``root``, and leave what came of it in its folder."""
    folder = root / AUDITS / identity
    try:
        entry = read_json(folder / STATE)
        wanted = Wanted.model_validate({name: entry[name] for name in Wanted.model_fields if name in entry})
        outcome = _audited(folder, wanted, read_settings(root))
    except Exception as cause:  # whatever it was, the one who asked must learn of it
        outcome = {"detail": f"{type(cause).__name__}: {cause}"[:500]}
    write_json(folder / OUTCOME, outcome)


def _audited(folder: Path, wanted: Wanted, settings: Settings) -> dict[str, Any]:
    told = _teller(folder)
    with gathering() if wanted.bundle else nullcontext() as material:
        done = examine(settings.inquiry(wanted), material, told)
        told(Stage.WRITING)
        report = document(done)
        signing, pages = signing_of(settings, wanted), settings.pages(wanted.language)
        paths = write(report, done.case.events, folder, wanted.formats, signing, pages)
        names = [path.name for path in paths.values()]
        if material is not None:
            pack(report, material, folder / BUNDLE)
            names.append(BUNDLE)
    return {
        "result": done.result.name.lower(),
        "sentence": sentence(done),
        "counts": counts(done),
        "last_block": done.case.last.number,
        "last_hash": done.case.last.hash,
        "artefacts": {name: described(folder / name) for name in names},
    }


def _teller(folder: Path) -> Callable[[Stage], None]:
    stages = list(Stage)

    def told(stage: Stage) -> None:
        step = stages.index(stage) + 1
        write_json(folder / PROGRESS, {"stage": stage, "step": step, "of": len(stages)})

    return told
