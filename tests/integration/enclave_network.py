"""An enclave and two owners as real processes over real gateways, for tests without a chain."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from engine_network import Network, output

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from enclaves import EnclaveTask, Party, dataset, policy

from sealtrace.algorithms.opening import read_shares
from sealtrace.node.engines.errors import EngineError
from sealtrace.node.engines.process import JobResult
from sealtrace.protocol.identifiers import Address, Hex32

__all__ = ["Task", "dataset", "policy", "result"]


def Task(  # noqa: N802 - a kind of task, for those who read the tests
    net: Network,
    algorithm: str | Path,
    params: dict[str, Any],
    tables: dict[str, tuple[int, Path, list[str]]],
    parts: dict[str, tuple[int, Path, str]] | None = None,
    *,
    count: int = 3,
    **more: Any,
) -> EnclaveTask:
    """One task at the first node's enclave, with inputs of the others."""
    task = Hex32(net.new_task(count=count))
    members = [
        Party(
            Address(node.address),
            node.control,
            node.folder / "tls.pem",
            node.folder / "tls.key",
            partial(net.open, task, me, count),
        )
        for me, node in enumerate(net.nodes[:count])
    ]
    key = Hex32("0x" + net.key.public_key().public_bytes_raw().hex())
    return EnclaveTask(
        members, task, key, net.folder / "jobs", algorithm, params, tables, parts or {}, **more
    )


def result(net: Network, ended: Sequence[JobResult | EngineError]) -> Any:
    """What the requester opens of a task that every party carried to its end."""
    for each in ended:
        if isinstance(each, EngineError):
            raise each
    (share,) = output(net, ended[0]).values()
    return json.loads(b"".join(read_shares([share])[0].values[0].chunks))
