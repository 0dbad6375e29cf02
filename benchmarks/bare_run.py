"""A job's parties run bare: one process each, linked directly, nothing between them and nothing around."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bare_party import CONNECTING, HOSTS
from places import HERE, Place

from sealtrace.deploy.ports import free_ports
from sealtrace.node.engines.intersection import STREAMS
from sealtrace.node.engines.job import Job
from sealtrace.node.engines.workplace import JOB, PARENT, SCRATCH, TRANSCRIPT
from sealtrace.protocol.canonical import canonical

LOG = "engine.log"
TRACE = re.compile(r"Trace has been written to (/tmp/psi_[\w-]+\.trace)")
PROGRAM = Path(__file__).with_name("bare_party.py")


class BareRunFailed(RuntimeError):
    """A party did not come to its end; the message has what it printed."""


@dataclass(frozen=True, slots=True)
class BareRun:
    """How long all parties took together, from the first process started to the last one ended.

    What the direct links took to connect is kept apart and not in ``seconds``: it is up to a second for each,
    by chance, and a baseline should be the best there could be.
    """

    seconds: float
    connecting_s: float
    cpu_s: float
    """Of all parties."""
    steps: Sequence[Mapping[str, Any]]


def run(jobs: Sequence[Job], folder: Path, timeout_s: float, where: Sequence[Place] | None = None) -> BareRun:
    """Run all parties of one job at once, each at its place of ``where``.

    Raises:
        BareRunFailed: one ended otherwise than with a result, or all took longer than ``timeout_s``.
    """
    where = where or [HERE] * len(jobs)
    hosts = _hosts(jobs[0], where)
    places = [_place(job, folder / str(job.rank), hosts) for job in jobs]
    busy, began = _cpu_s(), time.perf_counter()
    with _processes(places, where) as started:
        for process, place in zip(started, places, strict=True):
            _require_done(process, place, began + timeout_s - time.perf_counter())
        seconds, cpu_s = time.perf_counter() - began, _cpu_s() - busy
    # the first party has a part in every link, one after the other
    connecting_s = sum(json.loads((places[0] / CONNECTING).read_bytes()).values())
    steps: list[Mapping[str, Any]] = json.loads((places[0] / TRANSCRIPT).read_bytes())["steps"]
    return BareRun(seconds - connecting_s, connecting_s, cpu_s, steps)


def _cpu_s() -> float:
    """CPU seconds of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _hosts(job: Job, where: Sequence[Place]) -> dict[str, dict[str, str]]:
    """A port for every end of every link that the engines make, by the link's label."""
    everybody = range(len(job.parties))
    links: dict[str, Sequence[int]] = {"control": everybody}
    for step in job.steps:
        if step.protocol in ("RR22", "KKRT"):
            for other in everybody[1:]:
                links |= dict.fromkeys(_labels(f"{step.id}.{other}"), (0, other))
        else:
            links[step.id] = everybody
    ports = iter(free_ports(sum(len(ranks) for ranks in links.values())))
    return {
        label: {str(rank): f"{where[rank].address}:{next(ports)}" for rank in ranks}
        for label, ranks in links.items()
    }


def _labels(pair: str) -> list[str]:
    """The links of a pair of parties: more than one where they have many keys."""
    return [pair, *(f"{pair}.{number}" for number in range(1, STREAMS))]


def _place(job: Job, folder: Path, hosts: Mapping[str, Mapping[str, str]]) -> Path:
    (folder / SCRATCH).mkdir(parents=True)
    (folder / JOB).write_bytes(canonical(job.model_dump(mode="json")))
    (folder / HOSTS).write_text(json.dumps(hosts))
    return folder


@contextmanager
def _processes(places: Sequence[Path], where: Sequence[Place]) -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    try:
        for place, at in zip(places, where, strict=True):
            started.append(_start(place, at))
        yield started
    finally:
        for process in started:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        for place in places:
            _wipe_traces(place / LOG)


def _wipe_traces(log: Path) -> None:
    """Remove what the engine leaves outside of its directory."""
    if log.exists():
        for trace in TRACE.findall(log.read_text(errors="replace")):
            Path(trace).unlink(missing_ok=True)


def _start(place: Path, at: Place) -> subprocess.Popen[bytes]:
    own = {PARENT: str(os.getpid()), "JAX_PLATFORMS": "cpu", "TMPDIR": str(place / SCRATCH)}
    with (place / LOG).open("wb") as log:
        return subprocess.Popen(
            at.command([sys.executable, str(PROGRAM), str(place)]),
            env={**os.environ, **own},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _require_done(process: subprocess.Popen[bytes], place: Path, left_s: float) -> None:
    with suppress(subprocess.TimeoutExpired):
        if process.wait(max(0.0, left_s)) == 0:
            return
    said = (place / LOG).read_text(errors="replace")[-1500:]
    raise BareRunFailed(f"party {place.name} ended with {process.returncode}:\n{said}")
