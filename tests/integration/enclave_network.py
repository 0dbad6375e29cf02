"""An enclave and two owners as real processes over real gateways, for tests without a chain."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from engine_network import Network

from sealtrace.algorithms.bundles import load, located
from sealtrace.node.engines.errors import EngineError
from sealtrace.node.engines.job import Timeouts
from sealtrace.node.engines.process import JobResult, begin_process, run_job
from sealtrace.node.engines.tee.hosting import Hosted, host
from sealtrace.node.engines.tee.job import Platform
from sealtrace.node.engines.tee.measuring import runtime_digest
from sealtrace.node.engines.tee.tasks import enclave_job, owner_job
from sealtrace.node.runner import OWNER
from sealtrace.protocol.attestation.evidence import Kind
from sealtrace.protocol.attestation.policy import AttestationPolicy, Image
from sealtrace.protocol.attestation.policy import Platform as Accepted
from sealtrace.protocol.identifiers import Address, Hex32, UnixSeconds
from sealtrace.protocol.records import BlockRef
from sealtrace.protocol.spec import TaskSpec

TIMEOUTS = Timeouts(receive_ms=20_000, connect_ms=20_000, wait_ms=60_000)
BLOCK = BlockRef(number=7, hash=Hex32("0x" + "7" * 64), timestamp=UnixSeconds(1_790_000_000))
GRANT = "0x" + "9" * 64


def policy(**changes: Any) -> AttestationPolicy:
    """Takes this installation's simulated enclave."""
    image = Image(kind=Kind.SOFTWARE, measurements={"runtime": runtime_digest()[2:]})
    base: dict[str, Any] = {"platforms": (Accepted.SIMULATED,), "images": (image,)}
    return AttestationPolicy(**{**base, "max_age_s": 600, "max_age_blocks": 100, **changes})


@dataclass
class Task:
    """One task at the first node's enclave, with inputs of the others."""

    net: Network
    algorithm: str | Path
    """The name of a bundle that ships with us, or a folder."""
    params: dict[str, Any]
    tables: dict[str, tuple[int, Path, list[str]]]
    """By input: whose it is, where it lies, which columns are granted. The id is ``id``."""
    parts: dict[str, tuple[int, Path, str]] = field(default_factory=dict)
    configs: dict[str, tuple[int, Path]] = field(default_factory=dict)
    """Secret values of the algorithm, by input: whose they are and where they lie."""
    uses: dict[str, str] = field(default_factory=dict)
    keep: dict[str, str] = field(default_factory=dict)
    policies: dict[str, AttestationPolicy] = field(default_factory=dict)
    count: int = 3

    def __post_init__(self) -> None:
        self.task = Hex32(self.net.new_task(count=self.count))
        names = [*self.tables, *self.parts, *self.configs]
        self.policies = {**dict.fromkeys(names, policy()), **self.policies}

    def address(self, me: int) -> Address:
        return Address(self.net.nodes[me].address)

    @property
    def spec(self) -> TaskSpec:
        bundle = load(located(Path(self.algorithm)))
        inputs = [
            {"name": n, "party": self.address(i), "dataset": dataset(n), "id_column": "id", "columns": c}
            for n, (i, _, c) in self.tables.items()
        ] + [
            {"name": n, "party": self.address(i), "dataset": dataset(n), "part_of": value}
            for n, (i, _, value) in self.parts.items()
        ]
        inputs += [
            {"name": n, "party": self.address(i), "dataset": dataset(n), "kind": "config"}
            for n, (i, _) in self.configs.items()
        ]
        names = [each["name"] for each in inputs]
        step = {
            "id": "train",
            "algorithm": bundle.digest,
            "engine": "tee",
            "protocol": "SIMULATED",
            "inputs": names,
            "uses": self.uses,
            "grants": {name: "0x" + f"{at + 1:064x}" for at, name in enumerate(names)},
            "policies": {name: self.policies[name].digest() for name in names},
            "params": self.params,
        }
        document = {
            "version": "sealtrace.task/1",
            "nonce": "0x" + "1" * 64,
            "requester": "0x" + "e" * 40,
            "requester_key": "0x" + self.net.key.public_key().public_bytes_raw().hex(),
            "purpose": "a test",
            "deadline": 1_800_000_000,
            "parties": [self.address(i) for i in range(self.count)],
            "compute": [self.address(0)],
            "inputs": inputs,
            "keep": self.keep,
            "steps": [step],
        }
        return TaskSpec.model_validate(document)

    def folder(self, me: int) -> Path:
        return self.net.folder / "jobs" / self.task / str(me)

    @contextlib.contextmanager
    def hosted(self) -> Iterator[Hosted]:
        node = self.net.nodes[0]
        platform = Platform(
            simulated=True, certificate=str(node.folder / "tls.pem"), key=str(node.folder / "tls.key")
        )
        job = enclave_job(
            self.spec,
            self.task,
            located(Path(self.algorithm)),
            BLOCK,
            platform,
            memory_mib=2048,
            timeouts=TIMEOUTS,
        )
        enclave = host(job, self.folder(0), limit_s=60)
        try:
            yield enclave
        finally:
            enclave.end()

    def run_enclave(self, enclave: Hosted) -> JobResult | EngineError:
        token = self.net.open(self.task, 0, self.count)
        go = partial(enclave.go, f"http://127.0.0.1:{self.net.nodes[0].local_port}", token)
        return self._run(0, enclave.job, go)

    def run_owner(self, me: int, enclave: Hosted) -> JobResult | EngineError:
        token = self.net.open(self.task, me, self.count)
        brought = {**self.tables, **self.parts, **self.configs}
        given = {n: path for n, (i, path, *_) in brought.items() if i == me}
        job = owner_job(
            self.spec,
            self.task,
            self.address(me),
            given,
            self.policies,
            enclave.statement.document(),
            (f"http://127.0.0.1:{self.net.nodes[me].local_port}", token),
            TIMEOUTS,
        )
        return self._run(me, job, partial(begin_process, OWNER, job, self.folder(me)))

    def _run(self, me: int, job: Any, begin: Any) -> JobResult | EngineError:
        gateway = self.net.nodes[me].control
        try:
            return run_job(job, self.folder(me), deadline_s=90, gateway=gateway, begin=begin)
        except EngineError as error:
            return error

    def run(self) -> list[JobResult | EngineError]:
        with self.hosted() as enclave, ThreadPoolExecutor(self.count) as pool:
            owners = [pool.submit(self.run_owner, me, enclave) for me in range(1, self.count)]
            return [self.run_enclave(enclave), *(each.result() for each in owners)]


def dataset(name: str) -> Hex32:
    return Hex32("0x" + name.encode().hex().rjust(64, "0"))
