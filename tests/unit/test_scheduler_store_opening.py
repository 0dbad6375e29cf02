"""The scheduler's processes open one database, all for the first time and at the same moment."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

from sealtrace.scheduler.store import Store

PROCESSES = 4


def open_store(url: str, together: Any, said: Any) -> None:
    together.wait(30)
    try:
        Store.open(url)
        said.put("")
    except Exception as error:
        said.put(f"{type(error).__name__}: {error}"[:200])


def test_processes_that_start_together_find_one_database(tmp_path: Path):
    context = multiprocessing.get_context("spawn")
    for number in range(3):
        together, said = context.Barrier(PROCESSES), context.Queue()
        where = (f"sqlite:///{tmp_path / f'{number}.db'}", together, said)
        started = [context.Process(target=open_store, args=where, daemon=True) for _ in range(PROCESSES)]
        try:
            for process in started:
                process.start()
            assert [said.get(timeout=60) for _ in started] == [""] * PROCESSES
        finally:
            for process in started:
                process.kill()
                process.join(10)
