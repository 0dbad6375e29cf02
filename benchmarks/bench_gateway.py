"""Round trips and bytes a second between two engines through two gateways, against SPU's direct link.

*Through gateways* is what a node's engine has: plain HTTP on loopback to its own gateway, mutual TLS 1.3
between the gateways, every message counted and digested. *Direct* is SPU's link from process to process over
plain TCP. A round trip is a message of 32 bytes there and one back; the stream is one way, acknowledged once.
Both sides take turns, and each turn of gateways is held against the direct one before it: on a shared machine
the median of these pairs says more than the best turns do, and CPU time more than the clock.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from measuring import machine, options, progress, report, table, workplace
from node_gateways import NODES, TASK, gateways, open_session
from rich.table import Table

from sealtrace.deploy.ports import free_ports
from sealtrace.node.engines.job import Job, JobInput, JobStep
from sealtrace.node.engines.link import CHUNK_BYTES, Link, connect
from sealtrace.protocol.identifiers import Hex32

PING = bytes(32)
RECEIVE_MS = 120_000
SIDES = ("direct", "gateways")
RATES = ("round_trips_s", "mb_s")
COSTS = ("engine_cpu_ms", "gateway_cpu_ms")  # of one round trip, in one engine and one gateway


@dataclass(frozen=True, slots=True)
class Load:
    """What is sent: round trips after a warm-up, and a stream of messages of 1 MiB."""

    round_trips: int
    mebibytes: int


def main() -> None:
    """Measure, print, clean up."""
    parser = options(__doc__)
    parser.add_argument("--round-trips", type=int, default=2000, help="of one turn (default: 2000)")
    parser.add_argument("--mib", type=int, default=256, help="MiB streamed in one turn (default: 256)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each side (default: 3)")
    arguments = parser.parse_args()
    load, about = Load(arguments.round_trips, arguments.mib), machine()
    with workplace() as folder:
        turns = [_turn(side, load, folder) for _ in range(arguments.rounds) for side in SIDES]
    result = summary(turns) | {"machine": about}
    report(result, [_table(result)], as_json=arguments.json)


def _table(result: dict[str, Any]) -> Table:
    columns = ["", "round trips/s", "MB/s", "CPU ms of an engine", "of a gateway"]
    rows = [[f"{side}, best", *(result[side][key] for key in RATES + COSTS)] for side in SIDES]
    rows.append(["share of the best", result["ratio_round_trips"], result["ratio_mb"], "", ""])
    rows.append(["share, median pair", result["median_round_trips"], result["median_mb"], "", ""])
    return table("between two engines; CPU time of a round trip (median of the turns)", columns, rows)


def summary(turns: list[dict[str, Any]]) -> dict[str, Any]:
    """The best of each side, its median CPU time, and gateways as a share of direct: of the best turns,
    and in the median of the pairs."""
    result: dict[str, Any] = {"benchmark": "gateway", "baseline": "SPU's direct link over plain TCP"}
    for side in SIDES:
        own = [turn for turn in turns if turn["side"] == side]
        result[side] = {key: round(max(turn[key] for turn in own), 1) for key in RATES}
        result[side] |= {key: round(statistics.median(turn[key] for turn in own), 3) for key in COSTS}
    for name, key in zip(("round_trips", "mb"), RATES, strict=True):
        rates = {side: [turn[key] for turn in turns if turn["side"] == side] for side in SIDES}
        shares = [ours / bare for bare, ours in zip(rates["direct"], rates["gateways"], strict=True)]
        result[f"ratio_{name}"] = round(result["gateways"][key] / result["direct"][key], 3)
        result[f"median_{name}"] = round(statistics.median(shares), 3)
    return result


def _turn(side: str, load: Load, folder: Path) -> dict[str, Any]:
    progress(f"{side}: {load.round_trips} round trips, {load.mebibytes} MiB")
    if side == "direct":
        hosts = [f"127.0.0.1:{port}" for port in free_ports(2)]
        return _measured(side, load, [("", "", hosts)] * 2)
    with gateways(folder) as controls:
        running = [each.pid for each in multiprocessing.active_children()]
        tokens = [open_session(controls, me) for me in range(2)]
        ways = [(control.url, token, []) for (control, _, _), token in zip(controls, tokens, strict=True)]
        return _measured(side, load, ways, running)


def _measured(
    side: str, load: Load, ways: list[tuple[str, str, list[str]]], running: Sequence[int | None] = ()
) -> dict[str, Any]:
    """Two engine processes, the first of which measures; ``running`` are the gateways' processes."""
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    started = [
        context.Process(target=_engine, args=(rank, way, load, answer, running), daemon=True)
        for rank, way in enumerate(ways)
    ]
    try:
        for process in started:
            process.start()
        measured: dict[str, Any] = answer.get(timeout=300)
    finally:
        for process in started:
            process.kill()
            process.join()
    return {"side": side} | measured


def _engine(
    rank: int, way: tuple[str, str, list[str]], load: Load, answer: Any, running: Sequence[int]
) -> None:
    url, token, hosts = way
    link = _direct(rank, hosts) if hosts else _through_gateway(rank, url, token)
    peer, piece = 1 - rank, bytes(1 << 20)
    _round_trips(link, peer, load.round_trips // 10)
    began, ours, theirs = time.perf_counter(), time.process_time(), _cpu_s(running)
    _round_trips(link, peer, load.round_trips)
    between, ours, theirs = time.perf_counter(), time.process_time() - ours, _cpu_s(running) - theirs
    for _ in range(load.mebibytes):
        link.send(peer, piece) if rank == 0 else link.receive(peer)
    link.send(peer, PING) if rank == 1 else link.receive(peer)
    ended = time.perf_counter()
    if rank == 0:
        rates = load.round_trips / (between - began), load.mebibytes * len(piece) / 1e6 / (ended - between)
        costs = (1e3 * seconds / load.round_trips for seconds in (ours, theirs / max(1, len(running))))
        answer.put(dict(zip(RATES + COSTS, (*rates, *costs), strict=True)))
    time.sleep(60)  # an engine's link is not taken down while the other may still use it


def _cpu_s(running: Sequence[int]) -> float:
    """CPU seconds that these processes have used."""
    times = [psutil.Process(each).cpu_times() for each in running]
    return sum(each.user + each.system for each in times)


def _round_trips(link: Link, peer: int, count: int) -> None:
    for _ in range(count):
        if link.me == 0:
            link.send(peer, PING)
            link.receive(peer)
        else:
            link.receive(peer)
            link.send(peer, PING)


def _direct(rank: int, hosts: list[str]) -> Link:
    import spu

    description = spu.link.Desc()
    description.recv_timeout_ms = RECEIVE_MS
    description.http_max_payload_size = CHUNK_BYTES  # as our own links; a larger piece is faster
    for at, host in enumerate(hosts):
        description.add_party(str(at), host)
    return Link(spu.link.create_brpc(description, rank), NODES[:2], (0, 1), rank)


def _through_gateway(rank: int, url: str, token: str) -> Link:
    return connect(_job(rank, url, token), "bench", (0, 1), receive_ms=RECEIVE_MS)


def _job(rank: int, url: str, token: str) -> Job:
    """A job that is never run: a link only takes the parties, the gateway and the time-outs from it."""
    step = JobStep(
        id="none",
        algorithm=Hex32("0x" + "00" * 32),
        bundle="/",
        engine="psi",
        protocol="RR22",
        inputs=("a", "b"),
    )
    inputs = tuple(
        JobInput(name=name, party=party, id_column="id", path="/" if party == NODES[rank] else None)
        for name, party in zip(("a", "b"), NODES[:2], strict=True)
    )
    return Job(
        task=TASK,
        party=NODES[rank],
        parties=NODES[:2],
        computing=NODES[:2],
        requester_key=Hex32("0x" + "22" * 32),
        gateway_url=url,
        gateway_token=token,
        inputs=inputs,
        steps=(step,),
        results=(step.id,),
    )


if __name__ == "__main__":
    main()
