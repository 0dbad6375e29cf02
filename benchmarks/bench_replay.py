"""How fast the auditor reads and replays a long chain, against web3.py's `get_logs` on the same chain.

One chain of made-up lives of tasks on our contracts (long_chain.py), served over HTTP by another process.
Each side runs in a process of its own, whose CPU seconds are counted, all its threads together: what the
server takes is nobody's. web3.py reads a part of it: `contract.events.X.get_logs` of each event in ranges of
100 blocks, which decodes; and `eth.get_logs`, which does not.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import long_chain
from long_chain import CONTRACTS, Served, serve
from measuring import machine, options, progress, report, table

from sealtrace.auditor.decoding import decode
from sealtrace.auditor.events import Event
from sealtrace.auditor.reading import Standing, read_blocks
from sealtrace.auditor.replay import replay
from sealtrace.auditor.rpc import Rpc
from sealtrace.contracts import abi

GOAL = {"unverified": 40.0, "verified": 25.0}
RANGE = 100
Side = Callable[[str, int], int]


def main() -> None:
    """Make the chain, measure each side, print."""
    parser = options(__doc__)
    parser.add_argument("--events", type=int, default=1_000_000, help="of the chain (default: 1,000,000)")
    parser.add_argument(
        "--lives", type=int, default=12, help="lives of tasks begun in each block (default: 12)"
    )
    parser.add_argument("--sample", type=int, default=20_000, help="events for web3.py (default: 20,000)")
    arguments = parser.parse_args()
    about = machine()
    progress(f"making a chain of {arguments.events:,} events")
    chain = Served(list(long_chain.blocks(arguments.lives, arguments.events)))
    counts = [len(block.logs) for block in chain.chain]
    last = len(counts) - 1
    part = next((n for n in range(last) if sum(counts[: n + 1]) >= arguments.sample), last)
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    server = context.Process(target=_serve, args=(chain, theirs), daemon=True)
    server.start()
    url = ours.recv()
    del chain
    try:
        sides = {
            "web3.py, contract.events.X.get_logs": _measured(web3_events, url, part),
            "web3.py, eth.get_logs (no decoding)": _measured(web3_logs, url, part),
            "unverified": _measured(_unverified, url, last),
            "unverified, a tenth of the chain": _measured(_unverified, url, last // 10),
            "verified": _measured(_verified, url, last),
            "verified, a tenth of the chain": _measured(_verified, url, last // 10),
            "unverified, with the state machine": _measured(_unverified_replay, url, last),
            "verified, with the state machine": _measured(_verified_replay, url, last),
        }
    finally:
        server.terminate()
    assert sides["verified"]["events"] == sum(counts)
    result = summary(sides, len(counts)) | {"machine": about}
    report(result, _tables(result), as_json=arguments.json)


def _serve(chain: Served, to: Connection) -> None:
    server = serve(chain)
    to.send(f"http://127.0.0.1:{server.server_port}")
    server.serve_forever()


def _measured(side: Side, url: str, last: int) -> dict[str, float]:
    """A side in a process of its own: what it read, its CPU seconds, and its memory at the most."""
    progress(f"{side.__name__.strip('_')} to block {last:,}")
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(side, url, last, theirs))
    process.start()
    events, seconds, before, most = ours.recv()
    process.join()
    progress(f"{events:,} events in {seconds:.2f} CPU s")
    return {
        "events": events,
        "cpu_s": round(seconds, 2),
        "events_per_cpu_s": round(events / seconds),
        "grew_mib": round((most - before) / 1024),
    }


def _run(side: Side, url: str, last: int, to: Connection) -> None:
    side(url, min(last, 20))  # imports and caches are warm
    Path("/proc/self/clear_refs").write_text("5")  # the peak is what it is now
    before, began = _peak_kib(), time.process_time()
    events = side(url, last)
    to.send((events, time.process_time() - began, before, _peak_kib()))


def _peak_kib() -> int:
    """The memory this process had at the most; what ``getrusage`` says begins with the parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def web3_events(url: str, last: int) -> int:
    """Every event of every contract, decoded by web3.py."""
    from web3 import Web3

    w3, found = Web3(Web3.HTTPProvider(url)), 0
    for address, name in CONTRACTS.items():
        contract = w3.eth.contract(address=w3.to_checksum_address(address), abi=abi.artifact(name).abi)
        for event in abi.events(name).values():
            for first in range(0, last + 1, RANGE):
                to = min(first + RANGE - 1, last)
                found += len(contract.events[event.name].get_logs(from_block=first, to_block=to))
    return found


def web3_logs(url: str, last: int) -> int:
    """Every log of every contract, as web3.py shows it."""
    from web3 import Web3

    w3, found = Web3(Web3.HTTPProvider(url)), 0
    addresses = [w3.to_checksum_address(each) for each in CONTRACTS]
    for first in range(0, last + 1, RANGE):
        asked: Any = {"fromBlock": first, "toBlock": min(first + RANGE - 1, last), "address": addresses}
        found += len(w3.eth.get_logs(asked))
    return found


def _read(url: str, last: int, standing: Standing, take: Callable[[list[Event]], object]) -> Standing:
    with Rpc(url) as rpc:
        for block, logs in read_blocks(rpc, list(CONTRACTS), standing, last):
            take([decode(log, block, CONTRACTS) for log in logs])
    assert not standing.log_problems
    assert not standing.chain_problems
    return standing


def _count(url: str, last: int, *, trusting: bool) -> int:
    """Read and decode; what was read is let go."""
    events = 0

    def take(read: list[Event]) -> None:
        nonlocal events
        events += len(read)

    standing = _read(url, last, Standing(0, trusting), take)
    assert standing.proof().level == (1 if trusting else 2)
    return events


def _replayed(url: str, last: int, *, trusting: bool) -> int:
    """Read, decode, and replay into the state of everything, with its history, which is kept."""
    events: list[Event] = []
    _read(url, last, Standing(0, trusting), events.extend)
    world = replay(events)
    assert not world.irregular, world.irregular[0]
    return len(events)


def _unverified(url: str, last: int) -> int:
    return _count(url, last, trusting=True)


def _verified(url: str, last: int) -> int:
    return _count(url, last, trusting=False)


def _unverified_replay(url: str, last: int) -> int:
    return _replayed(url, last, trusting=True)


def _verified_replay(url: str, last: int) -> int:
    return _replayed(url, last, trusting=False)


def summary(sides: dict[str, dict[str, float]], blocks: int) -> dict[str, Any]:
    """The result for machines."""
    base = next(iter(sides.values()))["events_per_cpu_s"]
    ratios = {name: round(side["events_per_cpu_s"] / base, 1) for name, side in sides.items()}
    return {
        "benchmark": "replay",
        "baseline": "web3.py, contract.events.X.get_logs, by events a CPU second of the reading process",
        "goal": GOAL,
        "blocks": blocks,
        "sides": sides,
        "ratios": ratios,
        "met": {name: ratios[name] >= goal for name, goal in GOAL.items()},
    }


def _tables(result: dict[str, Any]) -> list[Any]:
    rows = [
        [
            name,
            f"{side['events']:,}",
            side["cpu_s"],
            f"{side['events_per_cpu_s']:,}",
            result["ratios"][name],
            f"{side['grew_mib']:,}",
        ]
        for name, side in result["sides"].items()
    ]
    columns = ["", "events", "CPU s", "events a CPU s", "times web3.py", "MiB more"]
    said = ", ".join(f"{name} at least {goal:.0f} times" for name, goal in GOAL.items())
    return [table(f"A chain of {result['blocks']:,} blocks", columns, rows), f"goal: {said}"]


if __name__ == "__main__":
    sys.exit(main())
