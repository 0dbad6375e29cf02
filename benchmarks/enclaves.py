"""A task in a simulated enclave between real processes, through gateways that are up; no chain is there."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from sealtrace.algorithms.bundles import load, located
from sealtrace.node.engines.errors import EngineError
from sealtrace.node.engines.job import Timeouts
from sealtrace.node.engines.process import Begun, JobResult, Progress, begin_process, run_job
from sealtrace.node.engines.tee.hosting import Hosted, host
from sealtrace.node.engines.tee.job import Platform
from sealtrace.node.engines.tee.measuring import runtime_digest
from sealtrace.node.engines.tee.tasks import enclave_job, owner_job
from sealtrace.node.gateway.control import GatewayControl
from sealtrace.node.runner import OWNER
from sealtrace.protocol.attestation.evidence import Kind
from sealtrace.protocol.attestation.policy import AttestationPolicy, Image
from sealtrace.protocol.attestation.policy import Platform as Accepted
from sealtrace.protocol.identifiers import Address, Hex32, UnixSeconds
from sealtrace.protocol.records import BlockRef
from sealtrace.protocol.spec import TaskSpec

TIMEOUTS = Timeouts(receive_ms=20_000, connect_ms=20_000, wait_ms=60_000)
BLOCK = BlockRef(number=7, hash=Hex32("0x" + "7" * 64), timestamp=UnixSeconds(1_790_000_000))
ID = "id"


def policy(**changes: Any) -> AttestationPolicy:
    """Takes this installation's simulated enclave."""
    image = Image(kind=Kind.SOFTWARE, measurements={"runtime": runtime_digest()[2:]})
    base: dict[str, Any] = {"platforms": (Accepted.SIMULATED,), "images": (image,)}
    return AttestationPolicy(**{**base, "max_age_s": 600, "max_age_blocks": 100, **changes})


@dataclass(frozen=True, slots=True)
class Party:
    """A node of the task: its gateway, its TLS certificate and key, and how it opens the task's session."""

    address: Address
    control: GatewayControl
    certificate: Path
    key: Path
    open: Callable[[], str]


@dataclass
class EnclaveTask:
    """One task at the first party's enclave, with inputs of the others."""

    members: Sequence[Party]
    task: Hex32
    requester_key: Hex32
    within: Path
    algorithm: str | Path
    """The name of a bundle that ships with us, or a folder."""
    params: dict[str, Any]
    tables: Mapping[str, tuple[int, Path, list[str]]]
    """By input: whose it is, where it lies, which columns are granted. The id is ``id``."""
    parts: Mapping[str, tuple[int, Path, str]] = field(default_factory=dict)
    configs: Mapping[str, tuple[int, Path]] = field(default_factory=dict)
    """Secret values of the algorithm, by input: whose they are and where they lie."""
    uses: dict[str, str] = field(default_factory=dict)
    keep: dict[str, str] = field(default_factory=dict)
    policies: dict[str, AttestationPolicy] = field(default_factory=dict)
    memory_mib: int = 2048
    timeouts: Timeouts = TIMEOUTS
    deadline_s: float = 90
    begun: Callable[[int, Begun], None] = lambda me, process: None
    progress: Callable[[int], Progress | None] = lambda me: None

    def __post_init__(self) -> None:
        """Every input without a policy has one that takes this installation."""
        names = [*self.tables, *self.parts, *self.configs]
        self.policies = {**dict.fromkeys(names, policy()), **self.policies}

    def address(self, me: int) -> Address:
        """Who party ``me`` is."""
        return self.members[me].address

    @property
    def spec(self) -> TaskSpec:
        """The specification that the parties run by."""
        bundle = load(located(Path(self.algorithm)))
        parties = [each.address for each in self.members]
        inputs: list[dict[str, Any]] = [
            {"name": n, "party": parties[i], "dataset": dataset(n), "id_column": ID, "columns": c}
            for n, (i, _, c) in self.tables.items()
        ]
        inputs += [
            {"name": n, "party": parties[i], "dataset": dataset(n), "part_of": value}
            for n, (i, _, value) in self.parts.items()
        ]
        inputs += [
            {"name": n, "party": parties[i], "dataset": dataset(n), "kind": "config"}
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
            "requester_key": self.requester_key,
            "purpose": "no chain is asked",
            "deadline": 1_800_000_000,
            "parties": parties,
            "compute": [parties[0]],
            "inputs": inputs,
            "keep": self.keep,
            "steps": [step],
        }
        return TaskSpec.model_validate(document)

    def folder(self, me: int) -> Path:
        """Where the process of party ``me`` works."""
        return self.within / self.task / str(me)

    @contextlib.contextmanager
    def hosted(self) -> Iterator[Hosted]:
        """The enclave, once it has stated what it is."""
        own = self.members[0]
        platform = Platform(certificate=str(own.certificate), key=str(own.key))
        bundle = located(Path(self.algorithm))
        job = enclave_job(
            self.spec,
            self.task,
            bundle,
            BLOCK,
            platform,
            memory_mib=self.memory_mib,
            timeouts=self.timeouts,
        )
        enclave = host(job, self.folder(0), limit_s=60)
        try:
            yield enclave
        finally:
            enclave.end()

    def run_enclave(self, enclave: Hosted) -> JobResult | EngineError:
        """Tell the enclave that the task runs, and wait for its end."""
        go = partial(enclave.go, self.members[0].control.url, self.members[0].open())
        return self._run(0, enclave.job, go)

    def run_owner(self, me: int, enclave: Hosted) -> JobResult | EngineError:
        """Run the process of owner ``me`` to its end."""
        own = self.members[me]
        brought = {**self.tables, **self.parts, **self.configs}
        given = {n: path for n, (i, path, *_) in brought.items() if i == me}
        job = owner_job(
            self.spec,
            self.task,
            own.address,
            given,
            self.policies,
            enclave.statement.document(),
            (own.control.url, own.open()),
            self.timeouts,
        )
        return self._run(me, job, partial(begin_process, OWNER, job, self.folder(me)))

    def _run(self, me: int, job: Any, begin: Callable[[], Begun]) -> JobResult | EngineError:
        def told() -> Begun:
            begun = begin()
            self.begun(me, begun)
            return begun

        try:
            return run_job(
                job,
                self.folder(me),
                deadline_s=self.deadline_s,
                gateway=self.members[me].control,
                begin=told,
                on_progress=self.progress(me),
            )
        except EngineError as error:
            return error

    def run(self) -> list[JobResult | EngineError]:
        """All parties' parts, in the order of ``members``."""
        count = len(self.members)
        with self.hosted() as enclave, ThreadPoolExecutor(count) as pool:
            owners = [pool.submit(self.run_owner, me, enclave) for me in range(1, count)]
            return [self.run_enclave(enclave), *(each.result() for each in owners)]


def dataset(name: str) -> Hex32:
    """The dataset of an input of this name."""
    return Hex32("0x" + name.encode().hex().rjust(64, "0"))
