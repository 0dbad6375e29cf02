"""Begin an enclave's process and hold it until its task runs, or does not."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sealtrace.node.engines.errors import EngineCrashed, EngineError, EngineTimeout, Stopped
from sealtrace.node.engines.process import Begun, begin_process, bury, reported
from sealtrace.node.engines.tee.job import STATEMENT, EnclaveJob
from sealtrace.protocol.attestation.refusals import EvidenceRefused
from sealtrace.protocol.attestation.statement import Statement, read_statement

MODULE: Final = "sealtrace.node.engines.tee.enclave"
_POLL_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Hosted:
    """An enclave that has stated what it is, and waits. It ends with the process that holds it."""

    job: EnclaveJob
    folder: Path
    begun: Begun
    statement: Statement

    @property
    def alive(self) -> bool:
        """Whether its process, and with it its key, is still there."""
        return self.begun.process.poll() is None

    def go(self, url: str, token: str) -> Begun:
        """Tell it that the task runs, and where this node's gateway is; return its process."""
        pipe = self.begun.process.stdin
        with contextlib.suppress(BrokenPipeError):  # it died: whoever watches it will say so
            if pipe is not None:
                pipe.write(json.dumps({"url": url, "token": token}).encode() + b"\n")
                pipe.close()
        return self.begun

    def end(self) -> None:
        """Kill it, where nobody has yet: a process that was waited for is gone, and its number another's."""
        if self.begun.process.returncode is None:
            bury(self.begun)
        if self.begun.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.begun.process.stdin.close()


def host(job: EnclaveJob, folder: Path, *, limit_s: float, stop: threading.Event | None = None) -> Hosted:
    """Begin the enclave of ``job`` in ``folder`` and wait for its statement.

    Raises:
        EngineError: it could not be begun, or gave none in ``limit_s``; its process is gone by then.
    """
    begun = begin_process(MODULE, job, folder, stdin=subprocess.PIPE)
    try:
        return Hosted(job, folder, begun, _stated(begun, folder, time.monotonic() + limit_s, stop))
    except BaseException:
        bury(begun)
        raise


def _stated(begun: Begun, folder: Path, give_up: float, stop: threading.Event | None) -> Statement:
    while not (folder / STATEMENT).exists():
        if stop is not None and stop.is_set():
            raise Stopped("the enclave was stopped at this node")
        if (status := begun.process.poll()) is not None:
            raise _died(folder, status)
        if time.monotonic() > give_up:
            raise EngineTimeout("the enclave did not state what it is in time")
        time.sleep(_POLL_S)
    try:
        return read_statement((folder / STATEMENT).read_bytes())
    except EvidenceRefused as error:
        raise EngineCrashed(f"the enclave's statement is none: {error}") from error


def _died(folder: Path, status: int) -> EngineError:
    return reported(folder) or EngineCrashed(f"the enclave's process ended with status {status}: see its log")
