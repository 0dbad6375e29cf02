"""How many transactions a second the embedded chain carries through whole lives of tasks, against anvil.

Several client processes, each with a lab and three data owners, put tasks through their lives: create, three
starts that spend a use each, three receipts. A phase is sent one transaction at a time once the phase before
is mined, and every receipt is read. Everything is signed before the clock starts; blocks come every second.
Plain transfers on the embedded chain, sent in the same way, show what the contracts cost.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import anvil
import lives
from anvil import AnvilNotFound
from lives import PER_LIFE, Phase, Signer
from measuring import machine, options, progress, report, table, workplace

from sealtrace.contracts.link import Link

CHAIN_ID = 420_042
GOAL_TX_S = 150.0
Plan = Sequence[Phase]


def main() -> None:
    """Measure, print, clean up."""
    parser = options(__doc__)
    parser.add_argument("--clients", type=int, default=4, help="client processes (default: 4)")
    parser.add_argument(
        "--lives", type=int, default=180, help="lives of tasks for each client (default: 180)"
    )
    parser.add_argument(
        "--wave", type=int, default=60, help="lives a client has in hand at once (default: 60)"
    )
    arguments = parser.parse_args()
    about = machine()
    waves = [arguments.wave] * (arguments.lives // arguments.wave)
    with workplace() as folder:
        sides = {
            "embedded": _lives(partial(embedded, folder / "lives"), arguments.clients, waves),
            "transfers": _transfers(partial(embedded, folder / "transfers"), arguments.clients, waves),
        }
        try:
            sides["anvil"] = _lives(partial(anvil.serving, CHAIN_ID), arguments.clients, waves)
        except AnvilNotFound as absent:
            progress(str(absent))
    result = summary(sides, arguments.clients) | {"machine": about}
    report(result, _tables(sides, result), as_json=arguments.json)


@contextmanager
def embedded(folder: Path) -> Iterator[str]:
    """A fresh embedded chain in a process of its own."""
    command = [sys.executable, "-m", "sealtrace.contracts.embedded", "serve", "--dir", str(folder)]
    process = subprocess.Popen(
        [*command, "--chain-id", str(CHAIN_ID), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split(" at ")[1].split(",")[0]
    finally:
        process.terminate()
        process.wait(20)


Serving = Callable[[], AbstractContextManager[str]]


def _lives(serving: Serving, clients: int, waves: Sequence[int]) -> dict[str, float]:
    with serving() as url:
        progress(f"setting up {clients} clients at {url}")
        found = lives.set_up(url, CHAIN_ID, clients)
        progress(f"signing {sum(waves) * clients} lives")
        plans = [[phase for wave in waves for phase in client.phases(wave)] for client in found]
        measured = _driven(url, plans)
        for client in found:
            lives.require_completed(client)
    return measured | {"lives_min": round(60 * sum(waves) * clients / measured["seconds"], 1)}


def _transfers(serving: Serving, clients: int, waves: Sequence[int]) -> dict[str, float]:
    with serving() as url:
        plans = [_transfer_phases(f"client {i}", waves) for i in range(clients)]
        return _driven(url, plans)


def _transfer_phases(name: str, waves: Sequence[int]) -> Plan:
    """As many transactions in the same phases, each of nothing to nobody."""
    signer = Signer(lives.hashlib.sha256(name.encode()).digest(), CHAIN_ID)
    to = signer.address
    sizes = [size * part for size in waves for part in (1, 3, 3)]
    return [[signer.sign(to, b"", gas=21_000) for _ in range(size)] for size in sizes]


def _driven(url: str, plans: Sequence[Plan]) -> dict[str, float]:
    """Let every client carry out its plan in a process of its own, all at once."""
    sent = sum(len(phase) for plan in plans for phase in plan)
    with ProcessPoolExecutor(len(plans), mp_context=get_context("spawn")) as pool:
        list(pool.map(time.sleep, [0.5] * len(plans)))  # every process has started
        progress(f"sending {sent} transactions")
        began = time.perf_counter()
        list(pool.map(_carry_out, [url] * len(plans), plans))
        seconds = time.perf_counter() - began
    return {"transactions": sent, "seconds": round(seconds, 2), "tx_s": round(sent / seconds, 1)}


def _carry_out(url: str, plan: Plan) -> None:
    link = Link.http(url, 60)
    for phase in plan:
        lives.mine(link, phase)


def summary(sides: dict[str, dict[str, float]], clients: int) -> dict[str, Any]:
    """The result for machines."""
    rate = sides["embedded"]["tx_s"]
    return {
        "benchmark": "chain",
        "baseline": "the same transactions on anvil, and as many plain transfers on the embedded chain",
        "goal": {"tx_s": GOAL_TX_S},
        "clients": clients,
        "transactions_per_life": PER_LIFE,
        "sides": sides,
        "ratio_transfers": round(rate / sides["transfers"]["tx_s"], 3),
        **({"ratio_anvil": round(rate / sides["anvil"]["tx_s"], 3)} if "anvil" in sides else {}),
    }


NAMES = {
    "embedded": "lives of tasks, embedded chain",
    "transfers": "plain transfers, embedded chain",
    "anvil": "lives of tasks, anvil",
}


def _tables(sides: dict[str, dict[str, float]], result: dict[str, Any]) -> list[Any]:
    rows: list[list[object]] = [
        [NAMES[name], side["tx_s"], side.get("lives_min", "") or "", side["seconds"]]
        for name, side in sides.items()
    ]
    title = f"{sides['embedded']['transactions']:,.0f} transactions from {result['clients']} clients"
    columns = ["", "transactions/s", "lives a minute", "seconds"]
    said = f"{result['ratio_transfers']:.2f} of plain transfers"
    said += (
        f", {result['ratio_anvil']:.2f} of anvil" if "ratio_anvil" in result else ", anvil is not installed"
    )
    return [table(title, columns, rows), f"{said} (goal: {GOAL_TX_S:.0f} transactions/s)"]


if __name__ == "__main__":
    main()
