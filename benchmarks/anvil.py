"""Where anvil is, and one running: the development chain of Foundry, in Rust, with its state in memory."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sealtrace.contracts.errors import ChainUnreachable
from sealtrace.contracts.link import Link

INSTALLED = Path(__file__).parents[1] / "contracts" / "node_modules" / ".bin" / "anvil"
GAS_LIMIT = 200_000_000
"""Blocks never fill half of it, so that the base fee stays 0 (EIP-1559)."""
START_SECONDS = 20.0


class AnvilNotFound(RuntimeError):
    """There is no anvil here."""

    def __init__(self) -> None:
        super().__init__(f"no anvil at {INSTALLED} nor on the PATH; `npm ci` in contracts/ installs it")


def find() -> Path:
    """The program, as installed with the contracts' tools or found on the PATH.

    Raises:
        AnvilNotFound: it is in neither place.
    """
    found = INSTALLED if INSTALLED.exists() else shutil.which("anvil")
    if found is None:
        raise AnvilNotFound
    return Path(found)


@contextmanager
def serving(chain_id: int, block_seconds: int = 1) -> Iterator[str]:
    """A fresh chain without fees; gives its URL, and ends it afterwards.

    Raises:
        AnvilNotFound: see :func:`find`.
    """
    port = _free_port()
    options = {
        "--port": port,
        "--chain-id": chain_id,
        "--block-time": block_seconds,
        "--gas-limit": GAS_LIMIT,
        "--block-base-fee-per-gas": 0,
        "--gas-price": 0,
        "--hardfork": "prague",
        "--accounts": 1,
    }
    words = [str(word) for pair in options.items() for word in pair]
    process = subprocess.Popen([str(find()), *words, "--silent", "--disable-min-priority-fee"])
    try:
        yield _answering(f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait(20)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _answering(url: str) -> str:
    until = time.monotonic() + START_SECONDS
    while True:
        try:
            Link.http(url, 2).request("eth_chainId")
        except ChainUnreachable:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
        else:
            return url
