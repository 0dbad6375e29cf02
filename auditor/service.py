"""What the auditor's service is made of, put together over its folder."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sealtrace.auditor.carrying import AUDITS, in_process
from sealtrace.auditor.jobs import Jobs, Run, Wanted
from sealtrace.auditor.reads import ReadLog
from sealtrace.auditor.schedule import Daily
from sealtrace.auditor.settings import READS, Settings
from sealtrace.auditor.tokens import Tokens


class ServiceRunning(RuntimeError):
    """Another service runs over this folder: stop it first, or choose another folder."""


@dataclass(frozen=True, slots=True)
class Service:
    """All parts of one service."""

    settings: Settings
    jobs: Jobs
    tokens: Tokens
    reads: ReadLog
    daily: Daily | None

    def close(self) -> None:
        """Begin nothing more, and cut short what is under way."""
        if self.daily is not None:
            self.daily.close()
        self.jobs.close()


@contextmanager
def opened(
    root: Path, settings: Settings, run: Run | None = None, clock: Callable[[], float] = time.time
) -> Iterator[Service]:
    """The service over ``root``, which no other may be over at the same time.

    Raises:
        ServiceRunning: another is.
        ReadsTampered: the log of reads is not as it was written.
    """
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (root / "service.lock").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as cause:
            raise ServiceRunning(f"{root} is in use") from cause
        service = _made(root, settings, run, clock)
        if service.daily is not None:
            service.daily.start()
        try:
            yield service
        finally:
            service.close()


def _made(root: Path, settings: Settings, run: Run | None, clock: Callable[[], float]) -> Service:
    limits, plan = settings.service, settings.schedule
    reads = ReadLog(root / READS, clock)
    jobs = Jobs(
        root / AUDITS,
        run or in_process(root, limits.audit_timeout_s),
        concurrent=limits.concurrent,
        waiting=limits.waiting,
        clock=clock,
    )
    wanted = Wanted(formats=list(plan.formats), language=plan.language, bundle=plan.bundle) if plan else None
    daily = Daily(jobs, plan.at, wanted, clock) if plan and wanted else None
    return Service(settings, jobs, Tokens(root, clock), reads, daily)
