"""Two parties' alignment as a node runs it, against the same protocol on bare SPU and against other programs.

*Node* is the engine process of a party from its start to its sealed output: the table read as a stream, keys
checked and hashed, mutual TLS between two gateways. *Bare* is SPU's own call on the same two tables, ids and
all, linked directly over plain TCP, from the process's start to its end but for the time its link takes to
connect. Both leave the common rows to both parties. The others, plain ECDH in
Python and OpenMined's PSI where it is installed, run in one process, at sizes of their own, and are compared
by their seconds a row. Peak memory is that of one party's engine process, without its gateway.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openmined
import plain_ecdh
from bare_run import TRACE
from measuring import machine, options, progress, report, table, workplace
from node_gateways import NODES, TASK, gateways, open_session
from places import HERE, Place

from sealtrace.algorithms.bundles import load, shipped
from sealtrace.deploy.ports import free_ports
from sealtrace.node.engines.job import Job, JobInput, JobStep, Timeouts
from sealtrace.node.engines.process import run_job
from sealtrace.node.gateway.control import GatewayControl

NAMES = ("bank", "registry")
PROTOCOLS = ("RR22", "KKRT", "ECDH")
SIDES = ("bare", "node")
BARE = Path(__file__).with_name("bare_psi.py")
SEED = 20_240_601
COMMON_SHARE = 0.5
WRITTEN_AT_ONCE = 1 << 17
LONGEST_S = 3_000.0
TIMEOUTS = Timeouts(receive_ms=1_200_000, connect_ms=120_000, wait_ms=3_600_000)


@dataclass(frozen=True, slots=True)
class Turn:
    """One run of one side: the slower party's seconds, the larger one's peak, both parties' CPU seconds."""

    side: str
    protocol: str
    rows: int
    seconds: float
    cpu_s: float
    peak_mib: float
    sent_mb: float | None


@dataclass(frozen=True, slots=True)
class Other:
    """Another program's run, of so many rows a party."""

    name: str
    rows: int
    seconds: float


def main() -> None:
    """Measure, print, clean up."""
    parser = options(__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000], help="rows a party")
    parser.add_argument("--protocols", nargs="+", choices=PROTOCOLS, default=["RR22"])
    parser.add_argument("--rounds", type=int, default=1, help="turns of each side (default: 1)")
    parser.add_argument("--plain-rows", type=int, default=20_000, help="rows of plain ECDH (default: 20000)")
    parser.add_argument(
        "--openmined-rows", type=int, default=20_000, help="rows of OpenMined's PSI (default: 20000)"
    )
    parser.add_argument("--within", type=Path, help="a directory on the disk to use")
    arguments = parser.parse_args()
    about = machine()
    with workplace(arguments.within) as folder:
        others = [other("plain ECDH", plain_ecdh.intersect, arguments.plain_rows)]
        if openmined.installed():
            others.append(other("OpenMined", openmined.intersect, arguments.openmined_rows))
        turns = [
            _turn(side, protocol, rows, tables, folder)
            for rows, tables in _sizes(arguments.rows, folder)
            for protocol in arguments.protocols
            for _ in range(arguments.rounds)
            for side in SIDES
        ]
    result = summary(turns, others) | {"machine": about}
    columns = ["", "bare s", "node s", "node / bare", "bare MiB", "node MiB", "MB sent", "best other / node"]
    rows = [
        [
            f"{each['protocol']} {each['rows']:,}",
            each["bare"]["seconds"],
            each["node"]["seconds"],
            each["ratio"],
            each["bare"]["peak_mib"],
            each["node"]["peak_mib"],
            each["sent_mb"],
            each["times_best"],
        ]
        for each in result["sizes"]
    ]
    said = (
        "; ".join(f"{each.name}: {each.seconds:.2f} s for {each.rows:,} rows a party" for each in others)
        + ("; " if openmined.installed() else f"; no OpenMined: {openmined.INSTALL}; ")
        + f"memory a row of node: {result['bytes_a_row'] or 'needs two sizes'}"
    )
    report(result, [table("an alignment of two parties", columns, rows), said], as_json=arguments.json)


def summary(turns: Sequence[Turn], others: Sequence[Other]) -> dict[str, Any]:
    """The best turn of each side by protocol and size, their ratio, and how much faster than others."""
    sizes = []
    for protocol, rows in dict.fromkeys((turn.protocol, turn.rows) for turn in turns):
        own = [turn for turn in turns if (turn.protocol, turn.rows) == (protocol, rows)]
        best = {side: min((t for t in own if t.side == side), key=lambda t: t.seconds) for side in SIDES}
        words = {
            side: {k: getattr(t, k) for k in ("seconds", "cpu_s", "peak_mib")} for side, t in best.items()
        }
        times = {
            each.name: round(each.seconds / each.rows * rows / best["node"].seconds, 1) for each in others
        }
        sizes.append(
            {
                "protocol": protocol,
                "rows": rows,
                **words,
                "ratio": round(best["node"].seconds / best["bare"].seconds, 2),
                "cpu_ratio": round(best["node"].cpu_s / best["bare"].cpu_s, 2),
                "sent_mb": best["node"].sent_mb,
                "times": times,
                "times_best": min(times.values()),
            }
        )
    return {
        "benchmark": "psi",
        "baseline": "SPU's psi_execute over its direct link; plain ECDH in Python; OpenMined's PSI",
        "others": {each.name: {"rows": each.rows, "seconds": round(each.seconds, 2)} for each in others},
        "sizes": sizes,
        "bytes_a_row": {name: growth(sizes, name) for name in PROTOCOLS if growth(sizes, name) is not None},
    }


def growth(sizes: Sequence[dict[str, Any]], protocol: str) -> int | None:
    """By how many bytes a party's peak memory grows with each row, from the smallest to the largest size."""
    own = sorted((each for each in sizes if each["protocol"] == protocol), key=lambda each: each["rows"])
    if len(own) < 2:
        return None
    first, last = own[0], own[-1]
    more = (last["node"]["peak_mib"] - first["node"]["peak_mib"]) * 2**20
    return round(more / (last["rows"] - first["rows"]))


def other(name: str, intersect: Callable[[list[str], list[str]], Sequence[str]], rows: int) -> Other:
    """Measure another program on two parties of so many rows, half of them common."""
    progress(f"{name}, {rows:,} rows")
    mine, theirs = ([f"A{at:09d}" for at in range(start, start + rows)] for start in (0, rows // 2))
    began = time.perf_counter()
    found = intersect(mine, theirs)
    seconds = time.perf_counter() - began
    if len(found) != rows - rows // 2:
        raise RuntimeError(f"{name} found other rows")
    return Other(name, rows, seconds)


def make(rows: int, into: Path) -> tuple[Path, Path]:
    """Write a table of shuffled ids and amounts for each party, half of the ids common to both."""
    chance = np.random.default_rng(SEED)
    common = round(COMMON_SHARE * rows)
    made = []
    for place, name in enumerate(NAMES):
        own = rows + place * (rows - common)
        numbers = np.concatenate([np.arange(common), np.arange(own, own + rows - common)]).astype(np.int64)
        chance.shuffle(numbers)
        path = into / f"{name}-{rows}.csv"
        with path.open("w", encoding="ascii") as file:
            file.write("id,amount\n")
            for start in range(0, rows, WRITTEN_AT_ONCE):
                piece = numbers[start : start + WRITTEN_AT_ONCE].tolist()
                file.write("".join([f"A{number:09d},{number % 977}\n" for number in piece]))
        made.append(path)
    return made[0], made[1]


def _sizes(sizes: Sequence[int], folder: Path) -> Iterator[tuple[int, tuple[Path, Path]]]:
    for rows in sizes:
        tables = make(rows, folder)
        yield rows, tables
        for each in tables:
            each.unlink()


def _turn(side: str, protocol: str, rows: int, tables: tuple[Path, Path], folder: Path) -> Turn:
    progress(f"{side}: {protocol}, {rows:,} rows a party")
    place = folder / f"{side}-{protocol}-{rows}-{time.monotonic_ns()}"
    place.mkdir()
    if side == "bare":
        hosts = [f"127.0.0.1:{port}" for port in free_ports(2)]
        said = together(bare, [(me, hosts, protocol, tables[me], place) for me in (0, 1)])
    else:
        with gateways(place) as known:
            tokens = [open_session(known, me) for me in (0, 1)]
            jobs = [job_of(me, known[me][0].url, tokens[me], protocol, tables[me]) for me in (0, 1)]
            said = together(_node, [(jobs[me], place / str(me), known[me][0]) for me in (0, 1)])
    common = round(COMMON_SHARE * rows)
    if {each["common"] for each in said} != {common}:
        raise RuntimeError(f"{side} found other rows than the {common} there are: {said}")
    return Turn(
        side,
        protocol,
        rows,
        round(max(each["seconds"] for each in said), 2),
        round(sum(each["cpu_s"] for each in said), 1),
        round(max(each["peak_mib"] for each in said), 1),
        round(sum(each["sent"] for each in said) / 1e6, 1) if side == "node" else None,
    )


def together(work: Any, arguments: Sequence[tuple[Any, ...]]) -> list[dict[str, Any]]:
    """Run all parties' work, each in a driver of its own, and return what they measured."""
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    started = [context.Process(target=_measured, args=(work, each, answers)) for each in arguments]
    try:
        for process in started:
            process.start()
        return [answers.get(timeout=LONGEST_S) for _ in started]
    finally:
        for process in started:
            process.kill()
            process.join()


def _measured(work: Any, arguments: tuple[Any, ...], answers: Any) -> None:
    """Run one party's engine as this driver's only child, so that the children's figures are its own."""
    began = time.perf_counter()
    said = work(*arguments)
    seconds = time.perf_counter() - began
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    answers.put(
        {
            "seconds": seconds - said.pop("connecting_s", 0.0),
            "cpu_s": used.ru_utime + used.ru_stime,
            "peak_mib": used.ru_maxrss / 1024,
            **said,
        }
    )


def _node(job: Job, folder: Path, control: GatewayControl) -> dict[str, Any]:
    done = run_job(job, folder, deadline_s=LONGEST_S, gateway=control)
    (peer,) = done.transcript["traffic"]
    return {"common": done.transcript["steps"][0]["common"], "sent": peer["sent_bytes"]}


def job_of(rank: int, url: str, token: str, protocol: str, path: Path) -> Job:
    """One party's job: the alignment alone."""
    bundle = shipped()["psi"]
    inputs = tuple(
        JobInput(name=name, party=party, id_column="id", path=str(path) if party == NODES[rank] else None)
        for name, party in zip(NAMES, NODES[:2], strict=True)
    )
    step = JobStep(
        id="align",
        algorithm=load(bundle).digest,
        bundle=str(bundle),
        engine="psi",
        protocol=protocol,  # type: ignore[arg-type]
        inputs=NAMES,
    )
    return Job(
        task=TASK,
        party=NODES[rank],
        parties=NODES[:2],
        computing=NODES[:2],
        requester_key=TASK,
        gateway_url=url,
        gateway_token=token,
        inputs=inputs,
        steps=(step,),
        results=(step.id,),
        timeouts=TIMEOUTS,
    )


def bare(
    me: int, hosts: Sequence[str], protocol: str, path: Path, folder: Path, place: Place = HERE
) -> dict[str, Any]:
    """Run one party on SPU alone at ``place``; ``hosts`` are where the parties' links listen."""
    command = [
        sys.executable,
        str(BARE),
        str(me),
        ",".join(hosts),
        protocol,
        str(path),
        str(folder),
    ]
    environment = {**os.environ, "TMPDIR": str(folder)}
    done = subprocess.run(
        place.command(command), env=environment, capture_output=True, text=True, timeout=LONGEST_S, check=True
    )
    for trace in TRACE.findall(done.stdout + done.stderr):
        Path(trace).unlink(missing_ok=True)
    found = re.search(r"common ([0-9]+) connecting ([0-9.]+)", done.stdout)
    if found is None:
        raise RuntimeError(f"party {me} said nothing of its result: {done.stdout[-500:]}")
    return {"common": int(found[1]), "connecting_s": float(found[2])}


if __name__ == "__main__":
    main()
