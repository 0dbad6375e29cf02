"""One party's engine without a node: ``python bare_party.py JOBDIR``.

The very code of :mod:`sealtrace.node.engines.party`, but its links are SPU's own, from process to process
over plain TCP, as ``hosts.json`` names them: no gateway, no TLS, no chain. A direct link that finds its peer
not listening yet loses a second, at random; so that this is not counted as a merit of governance, the parties
wait for each other before they connect, and say in ``connecting.json`` how long connecting took.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from sealtrace.node.engines import alignment, computation, party
from sealtrace.node.engines.job import Job
from sealtrace.node.engines.link import CHUNK_BYTES, Link, translated
from sealtrace.node.engines.workplace import live

HOSTS, CONNECTING = "hosts.json", "connecting.json"
MEET_EVERY_S = 0.002
_OPEN: list[object] = []
_took: dict[str, float] = {}


def direct(job: Job, label: str, ranks: Sequence[int], *, receive_ms: int) -> Link:
    """Make SPU's direct link among ``ranks``, with pieces as large as our own links send."""
    import spu

    hosts: dict[str, str] = json.loads((Path(sys.argv[1]) / HOSTS).read_text())[label]
    description = spu.link.Desc()
    description.id = f"{job.task}.{label}"
    description.recv_timeout_ms = receive_ms
    description.http_max_payload_size = CHUNK_BYTES
    description.connect_retry_times = job.timeouts.connect_ms // description.connect_retry_interval_ms
    for rank in ranks:
        description.add_party(f"{rank}", hosts[str(rank)])
    _meet(label, job.rank, ranks)
    began = time.perf_counter()
    with translated(job.parties):
        context = spu.link.create_brpc(description, list(ranks).index(job.rank))
    _OPEN.append(context)
    link = Link(context, job.parties, tuple(ranks), job.rank)
    link.barrier()
    _took[label] = time.perf_counter() - began
    (Path(sys.argv[1]) / CONNECTING).write_text(json.dumps(_took))
    return link


def _meet(label: str, me: int, ranks: Sequence[int]) -> None:
    """Wait until all have come here; the parties' directories lie side by side."""
    together = Path(sys.argv[1]).parent
    (together / f"{label}.{me}").touch()
    while not all((together / f"{label}.{rank}").exists() for rank in ranks):
        time.sleep(MEET_EVERY_S)


if __name__ == "__main__":
    for module in (party, alignment, computation):
        module.connect = direct  # type: ignore[attr-defined]
    live(sys.argv[1:], party.run)
