"""Start, watch and stop the network's processes; each has a log file and a pid file.

The pid file carries the process's creation time, so that a number the kernel has given to somebody else since
is never taken for ours.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

STOP_SECONDS = 15.0


class ProcessDied(RuntimeError):
    """A process of the network ended by itself; the message shows the end of its log."""


class NotHealthy(RuntimeError):
    """A process runs but did not become ready in time."""


@dataclass(frozen=True, slots=True)
class Program:
    """How to start one process: a name, an argument list, and what it needs in its environment."""

    name: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Status:
    """What is known of one process."""

    name: str
    pid: int | None
    alive: bool
    memory_bytes: int


class Processes:
    """The processes of one network directory, known by their pid files in ``run/``."""

    def __init__(self, directory: Path) -> None:
        self.run = directory / "run"
        self.logs = directory / "logs"
        self.run.mkdir(parents=True, exist_ok=True)
        self.logs.mkdir(parents=True, exist_ok=True)

    def start(self, program: Program) -> None:
        """Start ``program`` unless it runs already."""
        if self._process(program.name) is not None:
            return
        with undivided(), (self.logs / f"{program.name}.log").open("ab") as log:
            child = subprocess.Popen(
                program.arguments,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **program.environment},
                start_new_session=True,
            )
            created = psutil.Process(child.pid).create_time()
            known = json.dumps({"pid": child.pid, "created": created})
            self._pid_file(program.name).write_text(known)

    def require_alive(self, name: str) -> None:
        """Raise :class:`ProcessDied` with the end of its log when ``name`` is gone."""
        if self._process(name) is None:
            raise ProcessDied(
                f"{name} ended; the end of its log ({self.logs}/{name}.log):\n{self.tail(name)}"
            )

    def tail(self, name: str, lines: int = 12) -> str:
        """The last ``lines`` lines of the log of ``name``."""
        log = self.logs / f"{name}.log"
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.is_file() else ""

    def statuses(self) -> list[Status]:
        """All processes that were started and not stopped, by name."""
        return [self._status(each.stem) for each in sorted(self.run.glob("*.pid"))]

    def stop(self, names: Iterable[str] | None = None) -> None:
        """Ask the processes (default: all) to end, and kill with their children what has not after 15 s."""
        wanted = list(names) if names is not None else [each.stem for each in self.run.glob("*.pid")]
        found = [each for each in map(self._process, wanted) if each is not None]
        tree = [*found, *(child for each in found for child in _children(each))]
        _signal(found, signal.SIGTERM)
        _, alive = psutil.wait_procs(tree, timeout=STOP_SECONDS)
        _signal(alive, signal.SIGKILL)
        psutil.wait_procs(alive, timeout=STOP_SECONDS)
        for name in wanted:
            self._pid_file(name).unlink(missing_ok=True)

    def kill(self, name: str) -> None:
        """Kill ``name`` at once, as a crash would."""
        process = self._process(name)
        if process is not None:
            process.kill()
            process.wait(STOP_SECONDS)
        self._pid_file(name).unlink(missing_ok=True)

    def memory_bytes(self) -> int:
        """The resident memory of all processes and their children, shared pages counted each time."""
        return sum(each.memory_bytes for each in self.statuses())

    def _status(self, name: str) -> Status:
        process = self._process(name)
        if process is None:
            return Status(name, None, alive=False, memory_bytes=0)
        return Status(name, process.pid, alive=True, memory_bytes=_memory(process))

    def _process(self, name: str) -> psutil.Process | None:
        try:
            known = json.loads(self._pid_file(name).read_text())
            process = psutil.Process(known["pid"])
            same = abs(process.create_time() - known["created"]) < 1
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except (FileNotFoundError, psutil.NoSuchProcess, ValueError, KeyError):
            return None

    def _pid_file(self, name: str) -> Path:
        return self.run / f"{name}.pid"


@contextmanager
def undivided() -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM back until the block is done, so that no process is started and forgotten."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    kept = {
        number: signal.signal(number, lambda got, frame: came.append(got))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
    for got in came[:1]:
        signal.raise_signal(got)


def wait_until(ready: Mapping[str, object], processes: Processes, *, timeout_s: float) -> None:
    """Wait until every check in ``ready`` (process name to a callable) answers true.

    Raises:
        ProcessDied: one of the processes ended meanwhile.
        NotHealthy: some are not ready after ``timeout_s``.
    """
    deadline = time.monotonic() + timeout_s
    waiting = dict(ready)
    while waiting:
        for name, check in list(waiting.items()):
            processes.require_alive(name)
            if callable(check) and check():
                del waiting[name]
        if waiting and time.monotonic() > deadline:
            name = min(waiting)
            raise NotHealthy(f"{name} is not ready after {timeout_s:.0f} s:\n{processes.tail(name)}")
        time.sleep(0.1)


def _children(process: psutil.Process) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return list(process.children(recursive=True))
    return []


def _signal(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _memory(process: psutil.Process) -> int:
    total = 0
    for each in (process, *_children(process)):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += each.memory_info().rss
    return total
