"""The one place where the scheduler's ports meet their adapters."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sealtrace.contracts.client import Chain as ContractsChain
from sealtrace.contracts.client import ChainSettings
from sealtrace.protocol.identifiers import UnixSeconds
from sealtrace.scheduler.intake import Rules
from sealtrace.scheduler.ports import Chain
from sealtrace.scheduler.sealed_files import SealedFiles
from sealtrace.scheduler.settings import ChainSection, Settings, load
from sealtrace.scheduler.store import Store


def clock() -> UnixSeconds:
    """This machine's time."""
    return UnixSeconds(int(time.time()))


@dataclass(slots=True)
class Scheduler:
    """Everything a request or a job needs. The chain is met on first use, and again after a failure."""

    settings: Settings
    store: Store
    files: SealedFiles
    connect: Callable[[], Chain]
    now: Callable[[], UnixSeconds] = clock
    _chain: Chain | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def chain(self) -> Chain:
        """The chain.

        Raises:
            ChainError: it is unreachable, or another one.
        """
        with self._lock:
            if self._chain is None:
                self._chain = self.connect()
            return self._chain

    @property
    def rules(self) -> Rules:
        """What intake goes by."""
        return Rules(self.settings.times.presence_s, self.settings.limits.open_tasks_per_requester)


def wiring(directory: Path) -> Scheduler:
    """The scheduler of ``directory``.

    Raises:
        SettingsInvalid: its settings are missing or malformed.
    """
    settings = load(directory)
    return Scheduler(
        settings=settings,
        store=Store.open(settings.database(directory)),
        files=SealedFiles(directory / "outputs", settings.limits.output_bytes),
        connect=lambda: ContractsChain.connect(chain_settings(settings.chain)),
    )


def chain_settings(section: ChainSection) -> ChainSettings:
    """The chain client's settings from ours."""
    return ChainSettings(**section.model_dump())
