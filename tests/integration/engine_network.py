"""Three nodes' gateways in processes of their own, for tests that run real engines."""

from __future__ import annotations

import contextlib
import csv
import json
import multiprocessing
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from sealtrace.algorithms.bundles import load, shipped
from sealtrace.algorithms.opening import opened as opened_shares
from sealtrace.algorithms.opening import read_shares
from sealtrace.algorithms.shares import decode_output
from sealtrace.node.engines.errors import EngineError
from sealtrace.node.engines.job import Job, JobInput, JobStep, Timeouts
from sealtrace.node.engines.process import JobResult, run_job
from sealtrace.node.gateway.authority import Party, Session
from sealtrace.node.gateway.certificates import create_certificate, fingerprint, pem_to_der
from sealtrace.node.gateway.control import GatewayControl, Introduction
from sealtrace.node.gateway.server import Gateway, GatewayConfig, Limits, run
from sealtrace.protocol.envelope import unseal

CREDIT = Path(__file__).parents[2] / "examples" / "german_credit.csv"
NAMES = ("bank", "registry", "carrier")
CONTROL = "control-token-of-the-test"
COLUMNS = {
    "bank": ["credit_amount", "duration_in_month", "creditability"],
    "registry": ["present_employment_since", "age_in_years"],
    "carrier": ["present_residence_since", "number_of_existing_credits_at_this_bank"],
}
ID = "applicant"
PATIENT = Timeouts(receive_ms=60_000, connect_ms=20_000, wait_ms=60_000)
"""A busy machine may compile a program for many seconds before a party says anything."""


class FileAuthority:
    """A chain of two files: the parties, and the tasks that run now."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def session(self, task: str) -> Session | None:
        path = self.folder / f"{task}.json"
        if not path.exists():
            return None
        said = json.loads(path.read_text())
        parties = tuple(Party(a, bytes.fromhex(f)) for a, f in said["parties"])
        return Session(parties, said["running"])


@dataclass
class Node:
    address: str
    certificate: str
    folder: Path
    process: Any = None
    peer_port: int = 0
    local_port: int = 0

    @property
    def control(self) -> GatewayControl:
        return GatewayControl(f"http://127.0.0.1:{self.local_port}", CONTROL)


@dataclass
class Network:
    """Gateways of ``count`` nodes and the chain they ask."""

    folder: Path
    nodes: list[Node]
    key: X25519PrivateKey = field(default_factory=X25519PrivateKey.generate)
    tasks: int = 0

    def new_task(self, *, count: int = 3, running: bool = True) -> str:
        self.tasks += 1
        task = "0x" + f"{self.tasks:064x}"
        self.write(task, running=running, count=count)
        return task

    def write(self, task: str, *, running: bool, count: int = 3) -> None:
        parties = [[n.address, fingerprint(pem_to_der(n.certificate)).hex()] for n in self.nodes[:count]]
        partial = self.folder / "chain" / f"{task}.part"
        partial.write_text(json.dumps({"parties": parties, "running": running}))
        partial.rename(self.folder / "chain" / f"{task}.json")

    def introductions(self, me: int, count: int = 3) -> list[Introduction]:
        return [
            Introduction(n.address, f"https://127.0.0.1:{n.peer_port}", n.certificate)
            for i, n in enumerate(self.nodes[:count])
            if i != me
        ]

    def open(self, task: str, me: int, count: int = 3) -> str:
        return self.nodes[me].control.open(task, self.introductions(me, count))


@contextlib.contextmanager
def network(folder: Path, count: int = 3, relay: str | None = None, **limits: float) -> Iterator[Network]:
    (folder / "chain").mkdir()
    nodes = [_node(folder, i) for i in range(count)]
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    for node in nodes:
        node.process = context.Process(target=_serve, args=(folder, node, queue, limits, relay), daemon=True)
        node.process.start()
    by_address = {n.address: n for n in nodes}
    try:
        for _ in nodes:
            address, peer_port, local_port = queue.get(timeout=60)
            by_address[address].peer_port, by_address[address].local_port = peer_port, local_port
        yield Network(folder, nodes)
    finally:
        for node in nodes:
            node.process.kill()
            node.process.join(5)


def _node(folder: Path, index: int) -> Node:
    address = "0x" + f"{index + 1:02x}" * 20
    home = folder / address
    home.mkdir()
    certificate, key = create_certificate(address)
    (home / "tls.pem").write_bytes(certificate)
    (home / "tls.key").write_bytes(key)
    return Node(address, certificate.decode(), home)


def _serve(folder: Path, node: Node, queue: Any, limits: dict[str, float], relay: str | None) -> None:
    config = GatewayConfig(
        node=node.address,
        certificate=node.folder / "tls.pem",
        private_key=node.folder / "tls.key",
        control_token=CONTROL,
        relay=relay,
        limits=Limits(**{"poll_interval_s": 0.2, **limits}),
    )

    def ready(gateway: Gateway) -> None:
        queue.put((node.address, gateway.peer_port, gateway.local_port))

    run(config, FileAuthority(folder / "chain"), ready)


def split_credit(folder: Path, seed: int = 7) -> dict[str, Path]:
    """Split the credit table by columns; each owner holds 850 shuffled applicants of 1000."""
    rows = credit()
    paths = {}
    for index, (name, columns) in enumerate(COLUMNS.items()):
        held = rows.copy()
        random.Random(seed + index).shuffle(held)
        paths[name] = folder / f"{name}.csv"
        write_csv(paths[name], [ID, *columns], [[r[c] for c in [ID, *columns]] for r in held[:850]])
    return paths


def credit() -> list[dict[str, str]]:
    with CREDIT.open(encoding="utf-8", newline="") as file:
        return [{ID: f"applicant-{i:04}", **row} for i, row in enumerate(csv.DictReader(file))]


def write_csv(path: Path, header: list[str], rows: list[list[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def statistics_params() -> dict[str, Any]:
    categories = sorted({row["present_employment_since"] for row in credit()})
    numbers = {"amount": ("bank", "credit_amount"), "months": ("bank", "duration_in_month")}
    numbers |= {"age": ("registry", "age_in_years"), "residence": ("carrier", COLUMNS["carrier"][0])}
    numbers |= {"credits": ("carrier", COLUMNS["carrier"][1])}
    columns = {name: {"input": i, "column": c, "kind": "number"} for name, (i, c) in numbers.items()}
    key = {"input": "registry", "column": "present_employment_since", "kind": "category"}
    indicator = {"input": "bank", "column": "creditability", "kind": "indicator", "positive": "bad"}
    means = {"measure": "summary", "of": ["amount", "bad"], "by": ["employed"], "statistics": ["mean"]}
    return {
        "columns": {"employed": {**key, "categories": categories}, "bad": indicator, **columns},
        "requests": {"groups": means, "linked": {"measure": "correlation", "of": list(numbers)}},
        "min_group": 45,
    }


def job_step(
    id: str, algorithm: str, protocol: str = "ABY3", names: tuple[str, ...] = NAMES, **more: Any
) -> JobStep:
    """One step by a bundle that ships with us."""
    bundle = load(shipped()[algorithm])
    return JobStep(
        id=id,
        algorithm=bundle.digest,
        bundle=str(bundle.folder),
        engine=bundle.manifest.engine,
        protocol=protocol,
        inputs=names,
        **more,
    )


def steps(psi: str = "RR22", mpc: str = "ABY3", names: tuple[str, ...] = NAMES) -> tuple[JobStep, ...]:
    params = statistics_params()
    return (
        job_step("align", "psi", psi, names),
        job_step("stats", "statistics", mpc, names, after=("align",), params=params),
    )


def make_job(net: Network, task: str, me: int, token: str, paths: dict[str, Path], **changes: Any) -> Job:
    count, columns = changes.pop("count", 3), changes.pop("columns", COLUMNS)
    parties = tuple(n.address for n in net.nodes[:count])
    tables = [(name, i, tuple(columns[name])) for i, name in enumerate(NAMES[:count])]
    inputs = tuple(
        JobInput(
            name=name,
            party=parties[i],
            id_column=ID,
            columns=named,
            path=str(paths[name]) if i == me else None,
        )
        for name, i, named in changes.pop("tables", tables)
    ) + tuple(
        JobInput(name=name, party=parties[i], part_of=value, path=str(paths[name]) if i == me else None)
        for name, i, value in changes.pop("parts", ())
    )
    made = changes.pop("steps", None) or steps()
    base: dict[str, Any] = {
        "task": task,
        "party": parties[me],
        "parties": parties,
        "requester_key": "0x" + net.key.public_key().public_bytes_raw().hex(),
        "gateway_url": f"http://127.0.0.1:{net.nodes[me].local_port}",
        "gateway_token": token,
        "computing": parties,
        "inputs": inputs,
        "steps": made,
        "results": (made[-1].id,),
        "timeouts": Timeouts(receive_ms=8_000, connect_ms=20_000, wait_ms=40_000),
    }
    return Job(**{**base, **changes})


@dataclass
class Party3:
    """All parties' runs of one task, side by side."""

    net: Network
    task: str
    paths: dict[str, Path]
    count: int = 3
    changes: dict[int, dict[str, Any]] = field(default_factory=dict)
    common: dict[str, Any] = field(default_factory=dict)
    stops: list[threading.Event] = field(default_factory=lambda: [threading.Event() for _ in range(5)])
    deadline_s: float = 60.0
    progress: list[tuple[int, str, str | None]] = field(default_factory=list)

    def folder(self, me: int) -> Path:
        return self.net.folder / "jobs" / self.task / str(me)

    def run_one(self, me: int) -> JobResult | EngineError:
        token = self.net.open(self.task, me, self.count)
        changes = {**self.common, **self.changes.get(me, {}), "count": self.count}
        job = make_job(self.net, self.task, me, token, self.paths, **changes)
        try:
            return run_job(
                job,
                self.folder(me),
                deadline_s=self.deadline_s,
                gateway=self.net.nodes[me].control,
                stop=self.stops[me],
                on_progress=lambda phase, step: self.progress.append((me, phase, step)),
            )
        except EngineError as error:
            return error

    def run(self) -> list[JobResult | EngineError]:
        with ThreadPoolExecutor(self.count) as pool:
            return list(pool.map(self.run_one, range(self.count)))


def opened(net: Network, results: list[Any], step: JobStep) -> dict[str, Any]:
    for result in results:
        if isinstance(result, EngineError):
            raise result
    outputs = [output(net, result) for result in results]
    shares = [each[step.id] for each in outputs if step.id in each]
    return opened_shares(read_shares(shares), load(Path(step.bundle)), step.params)


def output(net: Network, result: JobResult) -> dict[str, bytes]:
    """One party's shares, by step."""
    return decode_output(unseal(result.output.read_bytes(), net.key).plaintext)
