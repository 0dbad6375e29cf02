"""Run one measured command where it can reach its inputs and its output, and nothing else.

bubblewrap makes the walls and waits; this process then puts the one inside into its control groups, sets its
limits and lets it go. Nothing runs in the child between fork and exec, so it is safe in a process with
threads. The measured command finds the numbers of its descriptors in the variable ``SEALTRACE_DESCRIPTORS``:
``{"inputs": {name: n}, "output": n}``.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import resource
import selectors
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from sealtrace.node.engines.errors import (
    BadJob,
    CpuExceeded,
    MemoryExceeded,
    OutputFlood,
    ProcessesExceeded,
    SandboxFailed,
    SandboxUnavailable,
    Stopped,
    TimeExceeded,
)
from sealtrace.node.engines.tee import cgroups, filter
from sealtrace.node.engines.tee.cgroups import Groups
from sealtrace.node.engines.tee.confinement import Barrier, Confinement, bubblewrap, needed, probe
from sealtrace.node.engines.tee.inside import DESCRIPTORS
from sealtrace.node.engines.tee.limits import Limits
from sealtrace.node.engines.tee.runtime import Runtime, this_python
from sealtrace.node.engines.tee.walls import Descriptors, options_of

START_S = 30.0
"""How long bubblewrap may take to make the walls."""
_TICK_S = 0.2
_READ_BYTES = 1 << 16
_COUNTED = 0.5
"""RLIMIT_CPU counts by ticks: on a busy machine a process is killed after less than it really used."""
_LOOSE_ADDRESS_SPACE = 4
"""Where a control group counts memory, address space may be this many times more: libraries reserve much."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What is to run: its command and code are measured by the caller."""

    command: Sequence[str]
    code: Path
    """A folder, seen read-only as ``/code``."""
    runtime: Runtime = field(default_factory=this_python)
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run that ended well gave."""

    output: bytes
    log: bytes
    """What it printed, at most ``log_bytes``. It may quote inputs: it stays at this node."""
    seconds: float
    cpu_s: float
    confinement: Confinement
    """The barriers that were in force for this run."""


def run(
    measured: Measured,
    inputs: Mapping[str, int],
    limits: Limits | None = None,
    *,
    offer: Confinement | None = None,
    required: Iterable[Barrier] | None = None,
    stopped: Callable[[], bool] = lambda: False,
    heard: Callable[[bytes], None] = lambda _: None,
) -> Outcome:
    """Run ``measured`` with ``inputs`` (descriptors open for reading: files or pipes) and return its output.

    ``heard`` is given its output piece by piece while it runs; what it raises ends the run.

    ``required`` is :func:`needed` unless a policy says otherwise. ``offer`` is what :func:`probe` said;
    without it the host is asked. The caller keeps and closes ``inputs``.

    Raises:
        SandboxUnavailable: a barrier of ``required`` cannot be had, or the walls cannot be made.
        BadJob: an input is not a file or pipe open for reading only.
        OutputFlood, MemoryExceeded, ProcessesExceeded, TimeExceeded, CpuExceeded: a limit was reached.
        SandboxFailed: it ended with another status than 0.
        Stopped: ``stopped()`` became true.
    """
    limits = limits or Limits()
    offer = offer or probe()
    required = needed() if required is None else frozenset(required)
    offer.require(required)
    for name, descriptor in inputs.items():
        _check_input(name, descriptor)
    with ExitStack() as stack:
        place = _place(offer)
        held = stack.enter_context(cgroups.groups(place, limits.memory_bytes, limits.processes))
        confinement = _in_force(offer, held)
        confinement.require(required)
        run = stack.enter_context(_started(measured, inputs, limits, confinement, held))
        run.release(held, limits, confinement)
        run.watch(limits, stopped, heard)
        run.judge(held, limits)
        return Outcome(bytes(run.output), bytes(run.log), run.seconds, run.cpu_s, confinement)


def _place(offer: Confinement) -> cgroups.Place:
    found = cgroups.find()
    memory = found.memory if Barrier.CGROUP_MEMORY in offer.barriers else None
    pids = found.pids if Barrier.CGROUP_PROCESSES in offer.barriers else None
    return replace(found, memory=memory, pids=pids)


def _in_force(offer: Confinement, held: Groups) -> Confinement:
    """What is left of the offer once the groups are made."""
    lost = set()
    if held.memory is None:
        lost.add(Barrier.CGROUP_MEMORY)
    if held.pids is None:
        lost.add(Barrier.CGROUP_PROCESSES)
    version = held.place.version if held.memory or held.pids else 0
    return replace(offer, barriers=offer.barriers - lost, cgroup_version=version)


def _check_input(name: str, descriptor: int) -> None:
    """A folder would be a way out by ``..``, a socket a way to others, and a file could be written."""
    try:
        kind = os.fstat(descriptor).st_mode
        flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    except OSError as error:
        raise BadJob(f"input {name} is not open: {error}") from error
    if descriptor <= 2:
        raise BadJob(f"input {name} is a standard stream of this process; open it anew")
    if not (stat.S_ISREG(kind) or stat.S_ISFIFO(kind)):
        raise BadJob(f"input {name} is neither a file nor a pipe; write it to one of them")
    if flags & os.O_ACCMODE != os.O_RDONLY or flags & os.O_PATH:
        raise BadJob(f"input {name} is open for more than reading; open it with O_RDONLY")


class _Run:
    """One run: bubblewrap, the process inside, and what it has written so far."""

    def __init__(self, process: subprocess.Popen[bytes], go: int, readers: tuple[int, int]) -> None:
        self.process = process
        self.inside = 0
        self.handle: int | None = None
        """A descriptor of the process inside: unlike its number it never comes to mean another process."""
        self._go = go
        self._output, self._log = readers
        self.output = bytearray()
        self.log = bytearray()
        self.began = time.monotonic()
        self.seconds = 0.0
        self.cpu_s = 0.0
        self.status: int | None = None
        self.cause: SandboxFailed | Stopped | None = None

    def release(self, held: Groups, limits: Limits, confinement: Confinement) -> None:
        """Put the one inside under its limits, then let it go."""
        try:
            held.join(self.inside)
            for kind, value in _rlimits(limits, confinement).items():
                resource.prlimit(self.inside, kind, (value, value))
        except OSError as error:
            raise SandboxUnavailable(
                f"limits cannot be set: {error}. Look: sealtrace node doctor."
            ) from error
        with contextlib.suppress(BrokenPipeError):  # it died already: its status will say so
            os.write(self._go, b"go")
        self.began = time.monotonic()

    def watch(self, limits: Limits, stopped: Callable[[], bool], heard: Callable[[bytes], None]) -> None:
        """Read until all has ended, or a limit is reached; nothing inside is alive afterwards."""
        with selectors.DefaultSelector() as waiting:
            for reader in (self._output, self._log):
                waiting.register(reader, selectors.EVENT_READ)
            while waiting.get_map():
                for key, _ in waiting.select(_TICK_S):
                    if not self._take(key.fd, limits, heard):
                        waiting.unregister(key.fd)
                self._hold(limits, stopped)
        self._bury(limits, stopped)
        self.seconds = time.monotonic() - self.began

    def _take(self, reader: int, limits: Limits, heard: Callable[[bytes], None]) -> bool:
        """Take in what was written; ``False`` at the end."""
        chunk = os.read(reader, _READ_BYTES)
        if reader == self._output:
            kept = chunk[: limits.output_bytes + 1 - len(self.output)]
            self.output += kept
            if kept and self.cause is None:
                heard(kept)
        else:
            self.log += chunk[: limits.log_bytes - len(self.log)]
        return bool(chunk)

    def _hold(self, limits: Limits, stopped: Callable[[], bool]) -> None:
        """Kill it once a limit is reached or the node stops it; the first cause is the one that is told."""
        if self.cause is None and (cause := self._over(limits, stopped)):
            self.cause = cause
            self.kill()

    def _over(self, limits: Limits, stopped: Callable[[], bool]) -> SandboxFailed | Stopped | None:
        if len(self.output) > limits.output_bytes:
            return OutputFlood(f"more than {limits.output_bytes} bytes of output", log=bytes(self.log))
        if time.monotonic() - self.began > limits.wall_s:
            return TimeExceeded(f"not done after {limits.wall_s} s", log=bytes(self.log))
        return Stopped("the run was stopped from this node") if stopped() else None

    def _bury(self, limits: Limits, stopped: Callable[[], bool]) -> None:
        """Wait for the end: a command may close its output long before it is done."""
        pause_s = 0.001
        while not self._reap(os.WNOHANG):
            self._hold(limits, stopped)
            time.sleep(pause_s)
            pause_s = min(_TICK_S, pause_s * 1.5)

    def _reap(self, options: int = 0) -> bool:
        if self.status is None:
            pid, status, used = os.wait4(self.process.pid, options)
            if pid == 0:
                return False
            self.status = self.process.returncode = os.waitstatus_to_exitcode(status)
            self.cpu_s = used.ru_utime + used.ru_stime
        return True

    def judge(self, held: Groups, limits: Limits) -> None:
        """Say why it did not end well, if it did not.

        Raises:
            SandboxFailed, Stopped: the reason.
        """
        if self.cause is not None:
            raise self.cause
        if self.status == 0:
            return
        log = bytes(self.log)
        if held.killed_for_memory() or _ran_out_of_memory(log):
            raise MemoryExceeded(f"more than {limits.memory_bytes} bytes of memory were asked for", log=log)
        if self.cpu_s >= limits.cpu_s * _COUNTED and self.status == 128 + signal.SIGKILL:
            raise CpuExceeded(f"{limits.cpu_s} s of CPU time were used up", log=log)
        if held.refused_processes():
            raise ProcessesExceeded(f"more than {limits.processes} processes were asked for", log=log)
        raise SandboxFailed(f"the measured command ended with status {self.status}", log=log)

    def kill(self) -> None:
        """Kill everything inside; the kernel takes the whole namespace with its first process."""
        if self.status is None:
            with contextlib.suppress(ProcessLookupError):
                if self.handle is not None:
                    signal.pidfd_send_signal(self.handle, signal.SIGKILL)
                else:
                    os.kill(self.process.pid, signal.SIGKILL)

    def end(self) -> None:
        """Leave nothing behind, whatever happened."""
        self.kill()
        with contextlib.suppress(ProcessLookupError):
            if self.status is None:
                os.kill(self.process.pid, signal.SIGKILL)
        self._reap()


_NO_MEMORY = (
    b"MemoryError",
    b"std::bad_alloc",
    b"Cannot allocate memory",
    b"failed to map segment from shared object",  # no room for a library
)


def _ran_out_of_memory(log: bytes) -> bool:
    """Without a group that counts, the refusal of an allocation is the only sign, and it prints this."""
    end = log[-4096:]
    return any(sign in end for sign in _NO_MEMORY)


def _rlimits(limits: Limits, confinement: Confinement) -> dict[int, int]:
    """The limits of each process. RLIMIT_NPROC does not hold for the host's root (setrlimit(2))."""
    counted = Barrier.CGROUP_MEMORY in confinement.barriers
    return {
        resource.RLIMIT_AS: limits.memory_bytes * (_LOOSE_ADDRESS_SPACE if counted else 1),
        resource.RLIMIT_CPU: limits.cpu_s,
        resource.RLIMIT_NOFILE: limits.open_files,
        resource.RLIMIT_NPROC: limits.processes,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_CORE: 0,
    }


@contextmanager
def _started(
    measured: Measured, inputs: Mapping[str, int], limits: Limits, confinement: Confinement, held: Groups
) -> Iterator[_Run]:
    """bubblewrap with its walls made, waiting. Descriptors of ours are closed in it and here."""
    with ExitStack() as ours:
        theirs = ours.enter_context(ExitStack())
        output, writes = _pipe(ours, theirs)
        log, prints = _pipe(ours, theirs)
        told, info = _pipe(ours, theirs)
        block, go = os.pipe()
        theirs.callback(os.close, block)
        ours.callback(os.close, go)
        rules = _prefilled(theirs, filter.program()) if Barrier.SECCOMP in confinement.barriers else None
        options, walls = os.pipe()
        theirs.callback(os.close, options)
        ours_alone = ours.enter_context(ExitStack())
        ours_alone.callback(os.close, walls)
        words = options_of(
            code=measured.code,
            runtime=measured.runtime,
            environment=_environment(measured, inputs, writes),
            tmp_bytes=limits.tmp_bytes,
            descriptors=Descriptors(rules, info, block, go),
            user_namespace=Barrier.USER_NAMESPACE in confinement.barriers,
        )
        passed = [options, info, block, go, writes, *inputs.values(), *([] if rules is None else [rules])]
        process = _popen([str(bubblewrap()), "--args", str(options), "--", *measured.command], prints, passed)
        theirs.close()
        run = _Run(process, go, (output, log))
        ours.callback(run.end)
        _join(held, process.pid)
        _give(walls, words)
        ours_alone.close()
        run.inside = _inside(told, log)
        run.handle = os.pidfd_open(run.inside)
        ours.callback(os.close, run.handle)
        ours.callback(run.end)  # before its handle is closed
        _wait_for_walls(run.inside)
        yield run


def _pipe(ours: ExitStack, theirs: ExitStack) -> tuple[int, int]:
    reader, writer = os.pipe()
    ours.callback(os.close, reader)
    theirs.callback(os.close, writer)
    return reader, writer


def _prefilled(theirs: ExitStack, content: bytes) -> int:
    """A pipe that holds ``content``, which must fit it (64 KiB)."""
    reader, writer = os.pipe()
    theirs.callback(os.close, reader)
    with os.fdopen(writer, "wb") as file:
        file.write(content)
    return reader


def _give(walls: int, words: Sequence[str]) -> None:
    """Give bubblewrap its options, for which it waits before it makes any process.

    So all of them are born into its groups. Without options, were we to die now, it makes an empty root: the
    command is not found in it.
    """
    with contextlib.suppress(BrokenPipeError):  # it died already: its status will say so
        os.write(walls, b"".join(word.encode() + b"\0" for word in words))


def _environment(measured: Measured, inputs: Mapping[str, int], output: int) -> dict[str, str]:
    """Nothing of this process's environment."""
    named = json.dumps({"inputs": dict(inputs), "output": output})
    own = {"HOME": "/tmp", "TMPDIR": "/tmp", "LANG": "C.UTF-8", DESCRIPTORS: named}  # noqa: S108
    return {**own, **measured.runtime.environment, **measured.environment}


def _popen(line: list[str], prints: int, passed: Sequence[int]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            line,
            stdin=subprocess.DEVNULL,
            stdout=prints,
            stderr=prints,
            env={},
            pass_fds=passed,
            close_fds=True,
            cwd="/",
        )
    except OSError as error:
        raise SandboxUnavailable(
            f"bubblewrap does not start: {error}. Look: sealtrace node doctor."
        ) from error


def _join(held: Groups, pid: int) -> None:
    """bubblewrap is in the groups too, so that the next run finds and ends what a killed node left behind."""
    try:
        held.join(pid)
    except OSError as error:
        raise SandboxUnavailable(
            f"its groups take no process: {error}. Look: sealtrace node doctor."
        ) from error


def _wait_for_walls(inside: int) -> None:
    """Wait until its root is not ours: only by then has bubblewrap asked to be killed when this process
    dies."""
    root = os.stat("/")
    give_up = time.monotonic() + START_S
    with contextlib.suppress(OSError):  # it is gone, and its status will say why
        while os.path.samestat(os.stat(f"/proc/{inside}/root"), root) and time.monotonic() < give_up:
            time.sleep(0.001)


def _inside(told: int, log: int) -> int:
    """The process inside, as bubblewrap tells it once there are walls."""
    said = bytearray()
    give_up = time.monotonic() + START_S
    with selectors.DefaultSelector() as waiting:
        waiting.register(told, selectors.EVENT_READ)
        while time.monotonic() < give_up:
            if waiting.select(_TICK_S):
                chunk = os.read(told, _READ_BYTES)
                said += chunk
                if not chunk:
                    break
    try:
        return int(json.loads(said)["child-pid"])
    except (ValueError, KeyError, TypeError) as error:
        os.set_blocking(log, False)
        with contextlib.suppress(OSError):
            said += os.read(log, _READ_BYTES)
        why = said.decode("utf-8", "replace").strip()[:500] or "it said nothing"
        raise SandboxUnavailable(f"no walls: {why}. Look: sealtrace node doctor.") from error
