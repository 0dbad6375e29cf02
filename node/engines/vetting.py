"""Whether the algorithms take the steps of a job, asked before a use is spent.

A bundle judges its parameters by its own code. That code is granted and digested, but it is code: it runs in
a process of its own, without this node's secrets in its environment, sees no table, and ends at a time limit.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from sealtrace.node.engines.errors import BadJob, BundleRefused, EngineError, from_report, to_report
from sealtrace.node.engines.job import Job, read_job
from sealtrace.node.engines.party import checked_bundles
from sealtrace.node.engines.process import environment
from sealtrace.node.engines.workplace import ERROR, JOB, die_with_parent
from sealtrace.protocol.canonical import NotCanonical, canonical, parse

MAX_REPORT_BYTES = 1 << 20


def vet(job: Job, *, limit_s: float) -> None:
    """Ask every step's bundle whether it takes the step. No more than ``limit_s`` seconds are spent on it.

    Raises:
        BadJob: it does not; in the bundle's own words.
        BundleRefused: the bundle is not what was granted, does not load, or came to no answer.
    """
    if all(step.engine == "psi" for step in job.steps):  # there the manifest says it all
        checked_bundles(job)
        return
    with tempfile.TemporaryDirectory(prefix="sealtrace-vetting-") as made:
        folder = Path(made)
        (folder / JOB).write_bytes(canonical(job.model_dump(mode="json")))
        ended = _run(folder, limit_s)
        _raise_reported(folder)
    if ended != 0:
        raise BundleRefused(f"a bundle's check of its parameters ended without an answer (exit code {ended})")


def _run(folder: Path, limit_s: float) -> int:
    process = subprocess.Popen(
        [sys.executable, "-m", "sealtrace.node.engines.vetting", str(folder)],
        cwd=folder,
        env=environment(folder),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        return process.wait(limit_s)
    except subprocess.TimeoutExpired as over:
        raise BundleRefused(f"a bundle's check of its parameters took more than {limit_s:g} s") from over
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _raise_reported(folder: Path) -> None:
    """Raise what the process reported. The file may come from a bundle's code, so its form is not trusted."""
    try:
        with (folder / ERROR).open("rb") as file:
            report = parse(file.read(MAX_REPORT_BYTES))
        said = from_report({key: report[key] for key in ("code", "detail")})
    except FileNotFoundError:
        return
    except (OSError, NotCanonical, KeyError, TypeError) as error:
        raise BundleRefused("a bundle's check of its parameters left no readable answer") from error
    raise said if isinstance(said, BadJob) else BundleRefused(said.detail)


def main(arguments: list[str]) -> int:
    """Vet the job in the given directory; what is refused is in ``error.json``."""
    die_with_parent()
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_REPORT_BYTES, MAX_REPORT_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    folder = Path(arguments[0])
    try:
        checked_bundles(read_job(folder / JOB))
    except EngineError as error:
        (folder / ERROR).write_bytes(canonical(to_report(error)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
