"""How long a node's watcher takes to catch up with missed events, against web3.py reading the same events.

Whole lives of tasks fill an embedded chain with events; then each side reads them all over HTTP. The watcher
of a *party* was named in every task, so it rebuilds and stores each one's terms; that of a *bystander* was
named in none. The baseline asks ``eth_getLogs`` through web3.py for all of the contracts' events and decodes
each.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lives
import structlog
from bench_chain import CHAIN_ID, embedded
from lives import Client
from measuring import machine, options, progress, report, table, workplace
from web3 import HTTPProvider, Web3

from sealtrace.contracts import abi
from sealtrace.contracts.client import Chain
from sealtrace.node.chain import ChainReader
from sealtrace.node.settings import Limits
from sealtrace.node.store import Store, open_engine
from sealtrace.node.watcher import Watcher
from sealtrace.protocol.identifiers import Address

WAVE = 100
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))


def main() -> None:
    """Measure, print, clean up."""
    parser = options(__doc__)
    parser.add_argument("--events", type=int, default=10_000, help="missed events (default: 10,000)")
    arguments = parser.parse_args()
    about = machine()
    with workplace() as folder, embedded(folder / "chain") as url:
        result = measure(url, folder, arguments.events) | {"machine": about}
    report(result, _tables(result), as_json=arguments.json)


def measure(url: str, folder: Path, events: int) -> dict[str, Any]:
    """Fill a chain with events, then let each side read them."""
    progress("setting up")
    party, bystander = lives.set_up(url, CHAIN_ID, 2)
    progress(f"making {events} events")
    tasks = _fill(party, events)
    chain, head = party.chain, party.chain.head().number
    sides: dict[str, Callable[[], object]] = {
        "web3": lambda: _by_web3(url, chain, head),
        "client": lambda: chain.events(0, head),
        "bystander": lambda: _catch_up(folder / "bystander.db", chain, bystander),
        "party": lambda: _catch_up(folder / "party.db", chain, party),
    }
    seconds = {}
    for name, act in sides.items():
        progress(f"reading: {name}")
        began = time.perf_counter()
        found = act()
        seconds[name] = time.perf_counter() - began
        _require(name, found, len(chain.events(0, head)) if name in ("web3", "client") else None, tasks)
    return summary(len(chain.events(0, head)), tasks, head, seconds)


def _fill(client: Client, events: int) -> int:
    """Carry lives of tasks through until there are so many events; returns how many lives."""
    while len(client.chain.events(0, client.chain.head().number)) < events:
        for phase in client.phases(WAVE):
            lives.mine(client.chain.link, phase)
    return client.lives


def _catch_up(database: Path, chain: Chain, client: Client) -> int:
    """One watcher's way from the deployment to the head; returns how many tasks it knows then."""
    store = Store(open_engine(f"sqlite:///{database}"))
    me: Address = client.signers["alice"].address
    unasked: Any = None  # following asks the chain and the store, and nobody else
    watcher = Watcher(
        me=me,
        chain=ChainReader(chain),
        store=store,
        scheduler=unasked,
        anchorer=unasked,
        limits=Limits(),
        deployed_at=chain.deployed_at,
        enqueue=unasked,
        hello=unasked,
        pump=unasked,
    )
    watcher.follow()
    return len(store.tasks())


def _by_web3(url: str, chain: Chain, head: int) -> list[Any]:
    web3 = Web3(HTTPProvider(url, request_kwargs={"timeout": 60}))
    decoders = {}
    for name, address in chain.addresses.items():
        contract = web3.eth.contract(abi=list(abi.artifact(name).abi))
        for topic, event in abi.events(name).items():
            decoders[address, topic] = contract.events[event.name]()
    found: list[Any] = []
    addresses: Any = [Web3.to_checksum_address(each) for each in chain.addresses.values()]
    for first in range(0, head + 1, 10):  # few enough blocks for the endpoint's limit on results
        wanted: Any = {"fromBlock": first, "toBlock": min(first + 9, head), "address": addresses}
        for log in web3.eth.get_logs(wanted):
            decoder = decoders[Address(log["address"].lower()), log["topics"][0].to_0x_hex()]
            found.append(decoder.process_log(log))
    return found


def _require(name: str, found: Any, events: int | None, tasks: int) -> None:
    expected = events if events is not None else (tasks if name == "party" else 0)
    observed = len(found) if isinstance(found, list) else found
    if observed != expected:
        raise lives.NotAsMeant(f"{name} found {observed} and should have found {expected}")


def summary(events: int, tasks: int, blocks: int, seconds: dict[str, float]) -> dict[str, Any]:
    """The result for machines."""
    return {
        "benchmark": "catchup",
        "baseline": "web3.py: eth_getLogs and process_log over the same events, in the same run",
        "events": events,
        "tasks": tasks,
        "blocks": blocks,
        "seconds": {name: round(each, 2) for name, each in seconds.items()},
        "events_s": {name: round(events / each) for name, each in seconds.items()},
        "ratio": {name: round(seconds["web3"] / each, 2) for name, each in seconds.items()},
    }


NAMES = {
    "web3": "web3.py, get_logs and process_log (baseline)",
    "client": "our client, all events decoded",
    "bystander": "watcher of a node that no task names",
    "party": "watcher of a node that every task names",
}


def _tables(result: dict[str, Any]) -> list[Any]:
    rows = [
        [said, result["seconds"][name], f"{result['events_s'][name]:,}", result["ratio"][name]]
        for name, said in NAMES.items()
    ]
    title = f"{result['events']:,} events of {result['tasks']:,} tasks in {result['blocks']:,} blocks"
    return [table(title, ["", "seconds", "events/s", "times the baseline"], rows)]


if __name__ == "__main__":
    main()
