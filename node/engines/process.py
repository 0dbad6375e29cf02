"""Start, watch and end one party's engine process; whatever happens comes back as one named error.

The process has its own group, a minimal environment and its job directory. Nothing waits longer than
the deadline, and whoever dies takes the whole group along.
"""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, Protocol

from sealtrace.node.engines.errors import (
    BadJob,
    DiskFull,
    EngineCrashed,
    EngineError,
    EngineMissing,
    EngineTimeout,
    PeerFailed,
    PeerIncompatible,
    PeerUnreachable,
    ProtocolViolated,
    SessionCut,
    Stopped,
    from_report,
)
from sealtrace.node.engines.job import Timeouts
from sealtrace.node.engines.link import explain
from sealtrace.node.engines.workplace import (
    CONNECTING,
    ERROR,
    JOB,
    OUTPUT,
    PARENT,
    PROGRESS,
    SCRATCH,
    SHARED,
    TRANSCRIPT,
)
from sealtrace.protocol.canonical import NotCanonical, canonical, parse, sha256
from sealtrace.protocol.identifiers import Address, Hex32

LOG, MAX_LOG_BYTES = "engine.log", 1 << 20
MAX_REPORT_BYTES = 1 << 20
MAX_OUTPUT_BYTES = 1 << 30
POLL_S = 0.05
GATEWAY_POLL_S = 0.5
GATEWAY_PATIENCE_S = 10.0
DOWN_PATIENCE_S = 10.0
FOLLOWED_PATIENCE_S = 3.0
_NOT_ITS_OWN = {kind.code for kind in (PeerFailed, PeerUnreachable, SessionCut, EngineTimeout, *SHARED)}
_TRACE = re.compile(r"Trace has been written to (/tmp/psi_[\w-]+\.trace)")
_INHERITED = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "PYTHONPATH")


class SessionView(Protocol):
    """What the parent asks of its own gateway about a session (see ``GatewayControl``)."""

    def report(self, task: str) -> dict[str, Any]:
        """Return state, reason and counters by peer."""
        ...

    def close(self, task: str, *, left: str | None = None) -> dict[str, Any]:
        """Close the session, telling the peers where we leave early; return the last report."""
        ...


@dataclass(frozen=True, slots=True)
class JobResult:
    """What a finished job leaves. ``output`` is sealed for the requester."""

    output: Path
    output_digest: Hex32
    result_digest: Hex32
    transcript: Mapping[str, Any]
    """The engine's account, with ``traffic`` by peer from the gateway's counters."""


Progress = Callable[[str, str | None], None]


class AnyJob(Protocol):
    """What is asked of a job while its process runs."""

    @property
    def task(self) -> Hex32:
        """The task."""
        ...

    @property
    def party(self) -> Address:
        """This party."""
        ...

    @property
    def parties(self) -> tuple[Address, ...]:
        """All parties, in the order of their ranks."""
        ...

    @property
    def timeouts(self) -> Timeouts:
        """How long peers may be silent."""
        ...

    def model_dump(self, *, mode: str) -> dict[str, Any]:
        """The job as JSON has it, where ``mode`` is ``json``."""
        ...


@dataclass(frozen=True, slots=True)
class Begun:
    """A job's process, and the thread that keeps what it prints."""

    process: subprocess.Popen[bytes]
    log: threading.Thread


def run_job(
    job: AnyJob,
    folder: Path,
    *,
    deadline_s: float,
    gateway: SessionView | None = None,
    stop: threading.Event | None = None,
    on_progress: Progress | None = None,
    begin: Callable[[], Begun] | None = None,
) -> JobResult:
    """Run this party's part of ``job`` in ``folder`` and return what it left.

    ``deadline_s`` is seconds from now. ``gateway`` must have the session open; it is closed here, and
    the peers are told when we end early. ``stop`` ends the job at once. ``on_progress`` is called with
    a phase and a step, from this thread. ``begin`` gives the process where it is not that of an MPC or PSI
    job.

    Raises:
        EngineError: one of its kinds; the process group is gone and scratch is wiped by then.
    """
    watch = _Watch(job, folder, time.monotonic() + deadline_s, gateway, stop, on_progress)
    left: str | None = "its node failed"
    try:
        transcript = _supervised(watch, begin or partial(_begin_party, job, folder))
        left = None
    except EngineError as error:
        left = error.code
        raise
    finally:
        traffic = watch.close_session(left)
    result = {**transcript, "traffic": traffic}
    output = folder / OUTPUT
    digest = sha256(output.read_bytes())
    if digest != transcript["outputs"][job.party]:
        raise EngineCrashed("the sealed output is not the one that the engine digested")
    return JobResult(output, digest, Hex32(transcript["result"]), result)


def _supervised(watch: _Watch, begin: Callable[[], Begun]) -> dict[str, Any]:
    begun = begin()
    try:
        failure = watch.until_over(begun.process)
    finally:
        bury(begun)
        _wipe(watch.folder)
    watch.progress()
    if failure is not None:
        raise failure
    return _outcome(watch, begun.process.returncode)


def _begin_party(job: AnyJob, folder: Path) -> Begun:
    if importlib.util.find_spec("spu") is None:
        raise EngineMissing("the engine is not installed: pip install 'sealtrace[mpc]'")
    return begin_process("sealtrace.node.engines.party", job, folder)


def bury(begun: Begun) -> None:
    """Kill a job's process with all that it started, and wait until it is gone."""
    _kill(begun.process)
    begun.log.join(timeout=5)


class _Watch:
    """The parent's view of a running job."""

    def __init__(
        self,
        job: AnyJob,
        folder: Path,
        deadline: float,
        gateway: SessionView | None,
        stop: threading.Event | None,
        on_progress: Progress | None,
    ) -> None:
        self.job = job
        self.folder = folder
        self._deadline = deadline
        self._gateway = gateway
        self._stop = stop
        self._on_progress = on_progress
        self._told = 0
        self._parties: Sequence[str] | None = None
        self._connecting_since: float | None = None
        self._next_look = 0.0
        self._answered = time.monotonic()
        self._down_since: dict[str, float] = {}
        self._followed_since = 0.0

    def until_over(self, process: subprocess.Popen[bytes]) -> EngineError | None:
        """Return when the process has ended, or with the reason to end it."""
        while process.poll() is None:
            if self._stop is not None and self._stop.is_set():
                return Stopped("the job was stopped at this node")
            if time.monotonic() >= self._deadline:
                return EngineTimeout("the job was not done at its deadline")
            if (trouble := self._look()) is not None:
                return trouble
            self.progress()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(POLL_S)
        return None

    def _look(self) -> EngineError | None:
        now = time.monotonic()
        if self._gateway is None or now < self._next_look:
            return None
        self._next_look = now + GATEWAY_POLL_S
        try:
            report = self._gateway.report(self.job.task)
        except Exception as error:
            if now - self._answered > GATEWAY_PATIENCE_S:
                return SessionCut(f"this node's gateway does not answer: {error}")
            return None
        self._answered = now
        return self.trouble(report)

    def trouble(self, report: Mapping[str, Any]) -> EngineError | None:
        """Return what the gateway knows against going on."""
        if (broken := _broken(report["peers"])) is not None:
            return broken
        if report["state"] == "cut":
            return SessionCut(str(report["reason"]))
        if (left := self._first_left(report["peers"])) is not None:
            said = f"{left['address']} ended early: {left['left']}"
            return PeerFailed(said, peer=None if left["left"] in _NOT_ITS_OWN else left["address"])
        for peer in report["peers"]:
            if self._down_for_long(peer):
                return _unreachable(peer)
        return self._never_came(report["peers"])

    def _never_came(self, peers: Sequence[Mapping[str, Any]]) -> EngineError | None:
        since, patience_s = self._connecting_since, self.job.timeouts.connect_ms / 1000
        if since is None or time.monotonic() - since < patience_s:
            return None
        absent = [peer for peer in peers if not peer["received_messages"]]
        names = ", ".join(peer["address"] for peer in absent) or "some peer"
        said = f"{names} did not come within {patience_s:g} s"
        return PeerUnreachable(said, peer=absent[0]["address"] if absent else None)

    def _first_left(self, peers: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
        """Return the peer that ended early for a reason of its own. One that only followed another,
        or saw what our engine is about to see, counts after a while, in case that word was lost."""
        left = [peer for peer in peers if peer["left"] is not None]
        own = [peer for peer in left if peer["left"] not in _NOT_ITS_OWN]
        if own or not left:
            return own[0] if own else None
        self._followed_since = self._followed_since or time.monotonic()
        return left[0] if time.monotonic() - self._followed_since > FOLLOWED_PATIENCE_S else None

    def _down_for_long(self, peer: Mapping[str, Any]) -> bool:
        """Whether a peer that was there is gone for longer than a hiccup. One that never came is
        the engine's to give up on, by the job's connect timeout."""
        if peer["down"] is None or not peer["received_messages"]:
            self._down_since.pop(peer["address"], None)
            return False
        since = self._down_since.setdefault(peer["address"], time.monotonic())
        return time.monotonic() - since > DOWN_PATIENCE_S

    def after_death(self) -> EngineError | None:
        """Return whether a peer or the gateway explains that the engine failed."""
        if self._gateway is None:
            return None
        with contextlib.suppress(Exception):
            report = self._gateway.report(self.job.task)
            if (found := self.trouble(report)) is not None:
                return found
            for peer in report["peers"]:
                if peer["down"] is not None:
                    return _unreachable(peer)
            return self._silent(report["peers"])
        return None

    def _silent(self, peers: Sequence[Mapping[str, Any]]) -> EngineError | None:
        """Some protocols abort without a word when a peer is silent for too long; the gateway knows
        for how long it was, and the engine's last word on progress, with whom it was busy.

        Where several are silent, they may all be waiting for one of them, and none is blamed.
        """
        patience_s = self.job.timeouts.receive_ms / 1000 * 0.9
        busy_with = self._parties or self.job.parties
        silent = [p for p in peers if p["address"] in busy_with and p["silent_s"] >= patience_s]
        if not silent:
            return None
        said = ", ".join(f"{peer['address']} was silent for {peer['silent_s']:.0f} s" for peer in silent)
        return PeerUnreachable(said, peer=silent[0]["address"] if len(silent) == 1 else None)

    def progress(self) -> None:
        """Take in what the process has told since last time, and pass it on."""
        with contextlib.suppress(OSError, ValueError, KeyError):
            lines = (self.folder / PROGRESS).read_text().splitlines()
            for line in lines[self._told :]:
                said = json.loads(line)
                self._told += 1
                self._parties = said["parties"]
                connecting = said["phase"] == CONNECTING
                self._connecting_since = time.monotonic() if connecting else None
                if self._on_progress is not None:
                    self._on_progress(said["phase"], said["step"])

    def close_session(self, left: str | None) -> list[dict[str, Any]]:
        """Close the session at the gateway and return the traffic by peer."""
        if self._gateway is None:
            return []
        try:
            report = self._gateway.close(self.job.task, left=left)
        except Exception:
            return []
        hidden = {"left", "down", "blamed", "broke", "speaks", "silent_s"}
        return [{k: v for k, v in peer.items() if k not in hidden} for peer in report["peers"]]


def _unreachable(peer: Mapping[str, Any]) -> PeerUnreachable:
    """Name a peer that is down, and blame it unless a relay may have done it."""
    blamed = peer["address"] if peer["blamed"] else None
    return PeerUnreachable(f"{peer['address']}: {peer['down']}", peer=blamed)


def _broken(peers: Sequence[Mapping[str, Any]]) -> EngineError | None:
    """What a peer's gateway did that no gateway of our version does."""
    for peer in peers:
        if peer["speaks"] is not None:
            return PeerIncompatible(f"{peer['address']} {peer['speaks']}", peer=peer["address"])
        if peer["broke"] is not None:
            return ProtocolViolated(f"{peer['address']} {peer['broke']}", peer=peer["address"])
    return None


def begin_process(module: str, job: AnyJob, folder: Path, *, stdin: int = subprocess.DEVNULL) -> Begun:
    """Write the job into ``folder`` and start the process that does it.

    Raises:
        BadJob: the folder held a job before.
        DiskFull, EngineCrashed: it cannot be started.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_private(folder / JOB, canonical(job.model_dump(mode="json")))
        (folder / SCRATCH).mkdir(mode=0o700)
        process = _spawn(module, folder, stdin)
    except FileExistsError as error:
        raise BadJob(f"{folder} held a job before; give every run a directory of its own") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull("no space left for the job's files") from error
        raise EngineCrashed(f"cannot start the engine: {error}") from error
    with contextlib.suppress(OSError):  # it may be over already
        resource.prlimit(process.pid, resource.RLIMIT_CORE, (0, 0))  # a core would hold shares
    log = threading.Thread(target=_keep_log, args=(process.stdout, folder / LOG), daemon=True)
    log.start()
    return Begun(process, log)


def _spawn(module: str, folder: Path, stdin: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", module, str(folder)],
        cwd=folder,
        env=environment(folder, SCRATCH),
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def environment(folder: Path, scratch: str = ".") -> dict[str, str]:
    """What an engine's process in ``folder`` gets of this one's: where programs are, and nothing secret.

    ``scratch`` is its place for temporary files, told from ``folder`` on: the engine hands it to a shell,
    unquoted.
    """
    kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    own = {"HOME": str(folder / scratch), "TMPDIR": scratch, PARENT: str(os.getpid())}
    return {**kept, **own, "PYTHONDONTWRITEBYTECODE": "1", "JAX_PLATFORMS": "cpu"}


def _write_private(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "wb") as file:
        file.write(content)


def _keep_log(pipe: IO[bytes] | None, path: Path) -> None:
    """Keep the first part of what the process prints; read on, so that it never blocks."""
    if pipe is None:
        return
    left = MAX_LOG_BYTES
    with pipe, path.open("wb") as log, contextlib.suppress(OSError):
        while chunk := os.read(pipe.fileno(), 65_536):
            log.write(chunk[:left])
            log.flush()
            left -= min(left, len(chunk))


def _wipe(folder: Path) -> None:
    """Remove what the engine wrote in the clear: scratch, and the traces it puts into /tmp."""
    shutil.rmtree(folder / SCRATCH, ignore_errors=True)
    with contextlib.suppress(OSError):
        for trace in _TRACE.findall((folder / LOG).read_text(errors="replace")):
            with contextlib.suppress(OSError):
                os.unlink(trace)


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _outcome(watch: _Watch, status: int) -> dict[str, Any]:
    """Return the transcript of a process that succeeded.

    Raises:
        EngineError: it did not.
    """
    if status == 0:
        return _read(watch.folder / TRANSCRIPT)
    said = reported(watch.folder)
    if said is not None and not isinstance(said, PeerUnreachable):
        raise said
    if (cause := watch.after_death()) is not None:
        raise cause
    raise said or _crash(watch, status)


def reported(folder: Path) -> EngineError | None:
    """What the process in ``folder`` said that it failed by, or ``None``."""
    if not (folder / ERROR).exists():
        return None
    return from_report(_read(folder / ERROR))


def _read(path: Path) -> dict[str, Any]:
    try:
        found = parse(path.read_bytes(), limit_bytes=MAX_REPORT_BYTES)
    except (OSError, NotCanonical) as error:
        raise EngineCrashed(f"{path.name}: {error}") from error
    if not isinstance(found, dict):
        raise EngineCrashed(f"{path.name} is not an object")
    return found


def _crash(watch: _Watch, status: int) -> EngineError:
    """Name a death without a word: the log's end may say that a peer was silent."""
    log = _tail(watch.folder / LOG)
    if "no space left on device" in log.lower():
        return DiskFull("no space left for the job's files")
    if "Get data timeout" in log or "connect to mesh failed" in log:
        return explain(log, watch.job.parties)
    how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
    return EngineCrashed(f"the engine's process died ({how}); see {LOG} in the job directory")


def _tail(path: Path, octets: int = 16_384) -> str:
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - octets))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""
