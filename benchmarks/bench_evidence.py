"""How many evidence records a second a node logs and anchors, against plain SHA-256 of the same records.

The node's own log: canonical lines, each batch synced to disk with one write, every record a leaf of the RFC
9162 tree. Each batch's checkpoint is anchored in a transaction of its own on an embedded chain with blocks
every second; the clock of the anchored figure stops when the last one is mined. The baseline hashes the same
lines, already made.
"""

from __future__ import annotations

import gc
import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lives
from bench_chain import CHAIN_ID, embedded
from lives import Client, Signed
from measuring import machine, options, progress, report, table, workplace

from sealtrace.contracts import calls
from sealtrace.node.evidence import EvidenceLog
from sealtrace.node.lines import Entry
from sealtrace.protocol.evidence import Kind

GOAL_RECORDS_S = 100_000
SINGLE = 300


def main() -> None:
    """Measure, print, clean up."""
    parser = options(__doc__)
    parser.add_argument("--batches", type=int, default=30, help="batches (default: 30)")
    parser.add_argument("--size", type=int, default=10_000, help="records in a batch (default: 10,000)")
    arguments = parser.parse_args()
    about = machine()
    with workplace() as folder:
        result = measure(folder, arguments.batches, arguments.size) | {"machine": about}
    report(result, _tables(result), as_json=arguments.json)


def measure(folder: Path, batches: int, size: int) -> dict[str, Any]:
    """Log and anchor on a chain of its own; then hash what was logged."""
    with embedded(folder / "chain") as url:
        progress("setting up a chain")
        (client,) = lives.set_up(url, CHAIN_ID, 1)
        log = EvidenceLog(folder / "evidence", client.signers["alice"].address)
        progress(f"logging {batches} batches of {size} records")
        entries = [_entries(i, size) for i in range(batches)]
        gc.freeze()  # a node does not hold what it has yet to log; its collector would not visit it
        logged, busy, anchored = _log_and_anchor(log, client, entries)
    progress("hashing the same lines")
    lines = [each.rstrip(b"\n") for each in log.lines(1)]
    hashed = _hash(lines)
    alone = _one_by_one(EvidenceLog(folder / "single", log.checkpoint().node))
    return summary(batches * size, sum(map(len, lines)), (logged, busy, anchored, hashed), alone)


def _entries(batch: int, size: int) -> list[Entry]:
    """Records as a node writes when it has judged a task."""
    return [_entry(batch * size + i) for i in range(size)]


def _entry(number: int) -> Entry:
    body = {
        "block": number,
        "denial": None,
        "party": number % 3,
        "grants": [lives.digest(f"grant {number % 50}")],
        "spec": lives.digest(f"spec {number}"),
    }
    return Entry(Kind.TASK_JUDGED, body, lives.digest(f"task {number // 4}"))


def _log_and_anchor(
    log: EvidenceLog, client: Client, batches: Sequence[Sequence[Entry]]
) -> tuple[float, float, float]:
    """Seconds and CPU seconds spent logging, and seconds until every batch's checkpoint is on the chain."""
    sent: list[Signed] = []
    logging, busy, began = 0.0, 0.0, time.perf_counter()
    for batch in batches:
        before, busy_before = time.perf_counter(), time.process_time()
        log.append_all(batch)
        checkpoint = log.checkpoint()
        logging += time.perf_counter() - before
        busy += time.process_time() - busy_before
        sent.append(client.signed("alice", calls.anchor(checkpoint.size, checkpoint.root)))
        lives.send(client.chain.link, sent[-1:])
    lives.wait(client.chain.link, sent)
    anchored = time.perf_counter() - began
    log.require(_on_chain(client, log))
    return logging, busy, anchored


def _on_chain(client: Client, log: EvidenceLog) -> Any:
    found = client.chain.checkpoint(client.signers["alice"].address, at=client.chain.head())
    if found is None or found.size != len(log):
        raise lives.NotAsMeant(f"the chain anchors {found}, the log has {len(log)} records")
    return found


def _hash(lines: Sequence[bytes]) -> float:
    sha256, began = hashlib.sha256, time.perf_counter()
    for each in lines:
        sha256(each).digest()
    return time.perf_counter() - began


def _one_by_one(log: EvidenceLog) -> float:
    """Records a second where each is on the disk before the next is made."""
    began = time.perf_counter()
    for number in range(SINGLE):
        entry = _entry(number)
        log.append(entry.kind, entry.body, entry.task)
    return SINGLE / (time.perf_counter() - began)


def summary(
    records: int, size: int, seconds: tuple[float, float, float, float], single: float
) -> dict[str, Any]:
    """The result for machines; ``seconds`` are of logging, its CPU, anchoring, and hashing."""
    logged_s, busy_s, anchored_s, hashed_s = seconds
    return {
        "benchmark": "evidence",
        "baseline": "SHA-256 of the same lines, one after the other, in the same process",
        "goal": {"records_s": GOAL_RECORDS_S},
        "records": records,
        "bytes_a_record": round(size / records),
        "sha256_records_s": round(records / hashed_s),
        "logged_records_s": round(records / logged_s),
        "logged_records_cpu_s": round(records / busy_s),
        "anchored_records_s": round(records / anchored_s),
        "one_by_one_records_s": round(single),
        "ratio": round(hashed_s / logged_s, 3),
    }


def _tables(result: dict[str, Any]) -> list[Any]:
    names = {
        "sha256_records_s": "SHA-256 alone (baseline)",
        "logged_records_s": "logged, hashed and synced, in batches",
        "logged_records_cpu_s": "the same for each CPU second",
        "anchored_records_s": "the same, each batch anchored and mined",
        "one_by_one_records_s": "logged one by one, each synced",
    }
    rows = [[said, f"{result[name]:,}"] for name, said in names.items()]
    title = f"{result['records']:,} records of {result['bytes_a_record']} bytes"
    goal = f"{result['ratio']:.2f} of SHA-256 alone (goal: {GOAL_RECORDS_S:,} records/s logged and hashed)"
    return [table(title, ["", "records/s"], rows), goal]


if __name__ == "__main__":
    main()
