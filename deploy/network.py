"""The one-machine network: every role as its own process, its state in one directory.

``up`` is safe to repeat: what exists is kept, what does not run is started. Keys, databases and the chain
survive ``down`` and ``up``.
"""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx

from sealtrace.contracts import calls
from sealtrace.contracts.client import Chain, ChainSettings
from sealtrace.contracts.deployment import deploy
from sealtrace.contracts.keys import KeyFile
from sealtrace.contracts.sender import Sender
from sealtrace.deploy import plan as plans
from sealtrace.deploy import redis
from sealtrace.deploy.members import Members
from sealtrace.deploy.plan import LAB, ORGANISATIONS, Plan
from sealtrace.deploy.ports import require_free
from sealtrace.deploy.processes import Processes, Program, Status, undivided, wait_until
from sealtrace.protocol.records import NodeStatus, Role

START_SECONDS = 120.0
_IN_WORDS = {len(ORGANISATIONS): "three", len(ORGANISATIONS) + 1: "four"}
OFFICERS = ("deployer", "registrar", "regulator")
NODE_PROCESSES = ("api", "gateway", "worker", "watcher")

Report = Callable[[str], None]


class NetworkBusy(RuntimeError):
    """Another command is bringing this network up or down."""


class Network:
    """The network in ``directory``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.plan = plans.load(directory)  # first: nothing is made where no network is
        self.processes = Processes(directory)
        self.members = Members(directory, self.plan)

    @classmethod
    def open_or_create(
        cls, directory: Path, redis_url: str | None = None, organisations: Sequence[str] | None = None
    ) -> Network:
        """The network in ``directory``, made on free ports when there is none.

        Raises:
            AnotherNetwork: there is one, and not of the ``organisations`` that are named.
        """
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (directory / plans.FILE).exists():
            Plan.fresh(redis_url, organisations or ORGANISATIONS).save(directory)
        network = cls(directory)
        if organisations is not None and set(organisations) != set(network.plan.nodes):
            raise plans.AnotherNetwork(
                f"{directory} holds a network of {', '.join(network.plan.nodes)}, and this needs one of "
                f"{', '.join(organisations)}: name another directory"
            )
        return network

    def up(self, report: Report) -> None:
        """Start everything that does not run, and wait until all of it answers.

        Raises:
            PortTaken: another program holds one of the network's ports.
            ProcessDied, NotHealthy: a process ended or did not become ready; the message has its log.
            NetworkBusy: another command is at it.
        """
        with self._alone():
            self._require_ports()
            self._start_ground(report)
            self._deploy(report)
            self._admit(report)
            self._start_roles(report)

    def down(self) -> None:
        """Stop every process. State stays. Another Ctrl-C does not leave it half done."""
        with undivided():
            self.processes.stop()

    def require_alive(self) -> None:
        """Raise :class:`ProcessDied`, with the end of its log, when a process that was started is gone."""
        for status in self.statuses():
            self.processes.require_alive(status.name)

    def statuses(self) -> list[Status]:
        """Every process that was started."""
        return self.processes.statuses()

    def address_of(self, process: str) -> str | None:
        """Where a process answers, or ``None`` where it listens to nobody."""
        name, _, part = process.partition("-")
        if name in self.plan.nodes:
            ports = self.plan.nodes[name]
            found = {"api": f"http://127.0.0.1:{ports.api}", "gateway": f"https://127.0.0.1:{ports.gateway}"}
            return found.get(part)
        others = {"chain": self.plan.rpc_url, "redis": self.plan.broker(0)}
        others |= {"scheduler-api": self.plan.scheduler_url, "auditor": self.plan.auditor_url}
        return others.get(process)

    def environment(self) -> dict[str, str]:
        """The environment variables by which commands find this network and its keys."""
        if self.plan.directory is None:
            raise plans.NotANetwork("the contracts are not deployed yet: sealtrace net up")
        return {
            "SEALTRACE_RPC": self.plan.rpc_url,
            "SEALTRACE_CHAIN_ID": str(self.plan.chain_id),
            "SEALTRACE_CONTRACTS": self.plan.directory,
            "SEALTRACE_SCHEDULER": self.plan.scheduler_url,
            "SEALTRACE_AUDITOR": self.plan.auditor_url,
            "SEALTRACE_REDIS": self.plan.broker(redis.DATABASES - 1),
            "SEALTRACE_REGISTRAR_KEY": str(self._key("registrar").resolve()),
            "SEALTRACE_REGULATOR_KEY": str(self._key("regulator").resolve()),
            "SEALTRACE_REQUESTER_DIR": str(self.members.directory(LAB).resolve()),
        }

    def chain(self) -> Chain:
        """A client of this network's chain and contracts."""
        if self.plan.directory is None:
            raise plans.NotANetwork("the contracts are not deployed yet: sealtrace net up")
        return Chain.connect(self.chain_settings())

    def chain_settings(self) -> ChainSettings:
        """Which chain and contracts this network uses."""
        if self.plan.directory is None:
            raise plans.NotANetwork("the contracts are not deployed yet: sealtrace net up")
        return ChainSettings(self.plan.rpc_url, self.plan.chain_id, self.plan.directory)

    def sender(self, officer: str) -> Sender:
        """The registrar's or the regulator's sender."""
        key = KeyFile.load(self._key(officer))
        return Sender(self.chain(), key.private_key, self.members.outbox(officer))

    def _require_ports(self) -> None:
        if not any(status.alive for status in self.processes.statuses()):
            require_free(self.plan.listening())

    def _start_ground(self, report: Report) -> None:
        report("starting the chain and Redis")
        ready: dict[str, Callable[[], bool]] = {"chain": lambda: _answers(self.plan.rpc_url)}
        if self.plan.redis_url is None:
            self.processes.start(redis.program(self.directory / "redis", self.plan.redis_port))
            ready["redis"] = lambda: redis.answers(self.plan.broker(0))
        arguments = ["chain", "serve", "--dir", str(self.directory / "chain")]
        arguments += ["--port", str(self.plan.chain_port), "--chain-id", str(self.plan.chain_id)]
        self._start("chain", arguments)
        wait_until(ready, self.processes, timeout_s=START_SECONDS)

    def _deploy(self, report: Report) -> None:
        if self.plan.directory is not None:
            return
        report("deploying the contracts")
        keys = {name: self._officer(name) for name in OFFICERS}
        deployment = deploy(
            self.plan.rpc_url,
            self.plan.chain_id,
            keys["deployer"].private_key,
            registrar=keys["registrar"].address,
            regulator=keys["regulator"].address,
        )
        self.plan.directory = deployment.directory
        self.plan.save(self.directory)

    def _admit(self, report: Report) -> None:
        """Make the members' directories and have the registrar admit them, each once."""
        if self.plan.ready:
            return
        report("making keys and certificates; the registrar admits the members")
        chain, registrar = self.chain(), self.sender("registrar")
        roles = {name: _role(name) for name in self.plan.nodes}
        roles[LAB] = Role.REQUESTER | Role.PROVIDER
        for name, role in roles.items():
            card = self.members.card(name, self.chain_settings())
            self.plan.addresses[name] = card.address
            if chain.node(card.address, at=chain.head()).status is NodeStatus.NONE:
                call = calls.admit(card.address, role, card.tls_fingerprint, card.encryption_key)
                registrar.submit(f"admit:{card.address}", call)
        for name in roles:
            registrar.wait(f"admit:{self.plan.addresses[name]}")
        self.members.scheduler(self.chain_settings())
        self.members.auditor(self.chain_settings())
        self.plan.ready = True
        self.plan.save(self.directory)

    def _start_roles(self, report: Report) -> None:
        report(f"starting {_IN_WORDS[len(self.plan.nodes)]} nodes, the scheduler and the auditor")
        ready = {"scheduler-api": partial(_answers, f"{self.plan.scheduler_url}/v1/health")}
        ready["auditor"] = partial(_answers, f"{self.plan.auditor_url}/v1/health")
        for process in ("api", "worker"):
            self._start(
                f"scheduler-{process}", ["scheduler", process, "--dir", str(self.directory / "scheduler")]
            )
        self._start("auditor", ["audit", "serve", "--dir", str(self.directory / "auditor")])
        for name in self.plan.nodes:
            for process in NODE_PROCESSES:
                self._start(
                    f"{name}-{process}", ["node", process, "--dir", str(self.members.directory(name))]
                )
            well = partial(_answers, f"{self.plan.api_url(name)}/v1/health", ok=True)
            ready |= {f"{name}-{process}": well for process in NODE_PROCESSES}
        wait_until(ready, self.processes, timeout_s=START_SECONDS)
        self.require_alive()

    def _start(self, name: str, arguments: list[str]) -> None:
        environment = {"ETH_HASH_BACKEND": "pysha3", "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
        self.processes.start(Program(name, (sys.executable, "-m", "sealtrace", *arguments), environment))

    def _officer(self, name: str) -> KeyFile:
        path = self._key(name)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        return KeyFile.load(path) if path.exists() else KeyFile.create(path)

    def _key(self, name: str) -> Path:
        return self.directory / "consortium" / f"{name}.json"

    @contextmanager
    def _alone(self) -> Iterator[None]:
        lock = os.open(self.directory / "network.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError as cause:
            raise NetworkBusy(f"another command works on {self.directory}: wait for it to end") from cause
        finally:
            os.close(lock)


def _role(name: str) -> Role:
    return Role.OWNER | Role.COMPUTE if name in ORGANISATIONS else Role.COMPUTE


def _answers(url: str, *, ok: bool = False) -> bool:
    """Whether ``url`` answers; with ``ok``, whether what answers also says that it is well."""
    try:
        answer = httpx.get(url, timeout=2, trust_env=False)
        return answer.status_code < 400 and (not ok or answer.json()["status"] == "ok")
    except (httpx.HTTPError, ValueError, KeyError):
        return False
