"""The daily audit: one for each day's moment, also for one that was missed, never two at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Final

import structlog

from sealtrace.auditor.jobs import AuditUnderWay, Entry, Jobs, State, TooManyAudits, Wanted
from sealtrace.protocol.identifiers import UnixSeconds

DAY_S: Final = 86_400
LOOK_EVERY_S: Final = 15.0
MAX_TRIES: Final = 3
"""How often the audit of one moment is begun that stops of the service cut short."""
WHO: Final = "schedule"
"""Who asked for a daily audit; no regulator's token is called that."""
_log = structlog.get_logger("schedule")


def seconds_of(at: str) -> int:
    """The seconds since midnight of ``HH:MM``."""
    hours, minutes = at.split(":")
    return int(hours) * 3600 + int(minutes) * 60


def latest(at: str, now: UnixSeconds) -> UnixSeconds:
    """The last moment, not after ``now``, at which it was ``at`` (``HH:MM``, UTC)."""
    return UnixSeconds(now - (now - seconds_of(at)) % DAY_S)


def due(at: str, now: UnixSeconds, audits: Iterable[Entry]) -> UnixSeconds | None:
    """The moment whose audit is to be begun, or ``None``.

    Of several moments that were missed only the last counts. An audit that was interrupted is begun again, up
    to three times.
    """
    moment = latest(at, now)
    begun = [each for each in audits if each.get("scheduled_for", -1) >= moment]
    over = any(each["state"] != State.INTERRUPTED for each in begun)
    return None if over or len(begun) >= MAX_TRIES else moment


class Daily:
    """A thread that begins ``wanted`` each day at ``at``; ``close`` ends it."""

    def __init__(self, jobs: Jobs, at: str, wanted: Wanted, clock: Callable[[], float] = time.time) -> None:
        self._jobs = jobs
        self._at = at
        self._wanted = wanted
        self._clock = clock
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="schedule", daemon=True)

    def start(self) -> None:
        """Begin to look at the clock."""
        self._thread.start()

    def look(self) -> Entry | None:
        """Begin the audit that is due; one that cannot be taken in now is begun at the next look."""
        moment = due(self._at, UnixSeconds(int(self._clock())), self._jobs.all())
        if moment is None:
            return None
        try:
            return self._jobs.begin(self._wanted, WHO, moment)
        except (AuditUnderWay, TooManyAudits) as cause:
            _log.info(f"the daily audit waits: {cause}")
            return None

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.look()
            except OSError as cause:  # a full disk today is no reason to audit nothing tomorrow
                _log.error(f"the daily audit cannot be begun: {cause}")
            self._stop.wait(LOOK_EVERY_S)
