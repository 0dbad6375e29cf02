"""A real network on this machine, and what a test does to it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from sealtrace.algorithms.bundles import load, shipped
from sealtrace.contracts import calls
from sealtrace.deploy import samples, stage, story
from sealtrace.deploy.network import Network
from sealtrace.protocol.identifiers import Hex32

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "examples" / "german_credit.csv"


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "sealtrace", *arguments]


def left_behind(directory: Path) -> list[str]:
    """Command lines of other processes that still speak of ``directory``."""
    ours = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    others = [each for each in psutil.process_iter(["cmdline", "status"]) if each.pid not in ours]
    alive = [each for each in others if each.info["status"] != psutil.STATUS_ZOMBIE]
    lines = [" ".join(each.info["cmdline"] or []) for each in alive]
    return [line for line in lines if str(directory) in line]


def wait_for(done: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds} s"
        time.sleep(0.2)


def register(world: stage.Story, algorithm: str | Path) -> Hex32:
    """The lab registers an algorithm that ships or lies in a folder, and every node takes it in."""
    folder = algorithm if isinstance(algorithm, Path) else shipped()[algorithm]
    digest = load(folder).digest
    world.lab.send(f"algorithm:{digest}", calls.register_algorithm(digest))
    for owner, operator in world.operators.items():
        assert operator.add_algorithm(stage.handed_over(world, owner, folder)) == digest
    return digest


def uses_left(world: stage.Story) -> dict[str, int]:
    return {grant.id: grant.uses_left for grant in world.lab.grants()}


def interrupted(process: subprocess.Popen[bytes], seconds: float) -> int:
    """Ctrl-C, and the exit code."""
    process.send_signal(signal.SIGINT)
    return process.wait(seconds)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stage.Story]:
    """A network with tables registered and granted, ready for tasks."""
    network = Network.open_or_create(tmp_path_factory.mktemp("net"))
    narrator = stage.Narrator(Console(), as_json=True)
    try:
        network.up(lambda line: None)
        begun = stage.begin(network, samples.read(DATA), narrator)
        stage.register(begun, story.ALGORITHMS)
        story.grant(begun, story.PURPOSE, 50)
        yield begun
    finally:
        network.down()
    assert left_behind(network.directory) == []
