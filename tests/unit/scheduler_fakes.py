"""A small world for the scheduler's tests: a chain of dictionaries, three nodes and a requester."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.x509.oid import NameOID
from eth_account import Account

from sealtrace.protocol.authorization import Facts
from sealtrace.protocol.canonical import canonical, digest, sha256
from sealtrace.protocol.identifiers import NOBODY, Address, Hex32, UnixSeconds, address, hex32
from sealtrace.protocol.lifecycle import TaskState, at_time
from sealtrace.protocol.records import (
    Algorithm,
    AlgorithmStatus,
    BlockRef,
    DataClass,
    Dataset,
    DatasetStatus,
    Grant,
    Node,
    NodeStatus,
    Protection,
    Role,
    TaskTerms,
)
from sealtrace.protocol.spec import TaskSpec, purpose_hash
from sealtrace.protocol.statements import Signed, Statement, sign

NOW = UnixSeconds(1_800_000_000)
LATEST = UnixSeconds(2**32 - 1)
PURPOSE = "credit risk statistics"
ALL = Protection(255)


def h(number: int) -> Hex32:
    return Hex32(f"0x{number:064x}")


@dataclass(frozen=True)
class Person:
    """An organisation: its key, its certificate and its encryption key."""

    key: bytes
    address: Address
    certificate: str
    fingerprint: Hex32
    hpke: X25519PrivateKey
    tls: ec.EllipticCurvePrivateKey

    @property
    def encryption_key(self) -> Hex32:
        return hex32(self.hpke.public_key().public_bytes_raw())

    def says(self, kind: str, body: dict[str, Any], *, at: int = NOW, audience: str = "scheduler") -> Signed:
        statement = Statement(kind=kind, speaker=self.address, audience=audience, at=at, body=body)
        return sign(statement, self.key)

    def hello(self, *, at: int = NOW, certificate: str | None = None) -> Signed:
        body = {
            "gateway_url": "https://127.0.0.1:7443",
            "certificate_pem": certificate or self.certificate,
            "engines": ["mpc", "psi"],
            "version": "0.1.0",
        }
        return self.says("node.hello", body, at=at)


@cache
def person(name: str) -> Person:
    key = hashlib.sha256(name.encode()).digest()
    tls = ec.generate_private_key(ec.SECP256R1())
    certificate = _certificate(name, tls)
    der = certificate.public_bytes(serialization.Encoding.DER)
    pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
    hpke = X25519PrivateKey.from_private_bytes(hashlib.sha256(b"hpke" + name.encode()).digest())
    return Person(key, address(Account.from_key(key).address), pem, sha256(der), hpke, tls)


def _certificate(name: str, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + dt.timedelta(days=36500))
        .sign(key, hashes.SHA256())
    )


PARTIES = sorted((person(name) for name in ("bank", "registry", "carrier")), key=lambda each: each.address)
LAB = person("lab")
STRANGER = person("stranger")


def header(signed: Signed) -> dict[str, str]:
    """The header in which a request's statement travels."""
    text = canonical(signed.model_dump(mode="json"))
    return {"X-Sealtrace-Statement": base64.urlsafe_b64encode(text).decode()}


def problem(response: Any) -> tuple[int, str]:
    """The status and the kind of a refusal, which has the form of all of them."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    body = response.json()
    assert set(body) == {"type", "title", "status", "detail", "next"}
    assert body["status"] == response.status_code
    return response.status_code, body["type"].removeprefix("urn:sealtrace:problem:")


@dataclass(frozen=True)
class Record:
    """A task on the fake chain."""

    state: TaskState
    approved: int = 0
    started: int = 0
    finished: int = 0
    agreed: str = "0x" + "00" * 16
    deadline: UnixSeconds = LATEST
    requester: Address = NOBODY


@dataclass(frozen=True)
class Event:
    """An event on the fake chain."""

    name: str
    args: dict[str, Any]


@dataclass
class FakeChain:
    """The chain as dictionaries."""

    nodes: dict[str, Node] = field(default_factory=dict)
    grants: dict[str, Grant] = field(default_factory=dict)
    datasets: dict[str, Dataset] = field(default_factory=dict)
    algorithms: dict[str, Algorithm] = field(default_factory=dict)
    tasks: dict[str, Record] = field(default_factory=dict)
    happened: list[Event] = field(default_factory=list)
    deployed_at: int = 1
    number: int = 10
    time: UnixSeconds = NOW
    down: Exception | None = None

    def finalized(self) -> BlockRef:
        if self.down:
            raise self.down
        return BlockRef(self.number, h(self.number), self.time)

    def node(self, address: Address, *, at: BlockRef) -> Node:
        return self.nodes.get(address, Node(address, NodeStatus.NONE, Role(0), h(0), h(0)))

    def grant(self, id: Hex32, *, at: BlockRef) -> Grant | None:
        return self.grants.get(id)

    def facts(self, terms: TaskTerms, *, at: BlockRef) -> Facts:
        return Facts(self.grants, self.nodes, self.datasets, self.algorithms)  # type: ignore[arg-type]

    def task(self, id: Hex32, *, at: BlockRef) -> Record | None:
        record = self.tasks.get(id)
        if record is None:
            return None
        return replace(record, state=at_time(record.state, record.deadline, at.timestamp))

    def head(self) -> BlockRef:
        return self.finalized()

    def algorithm(self, digest: Hex32, *, at: BlockRef) -> Algorithm | None:
        return self.algorithms.get(digest)

    def events(self, first: int, last: int, *, names: Any = None, task: Hex32 | None = None) -> list[Event]:
        return [
            each
            for each in self.happened
            if (names is None or each.name in names) and task in (None, each.args.get("task"))
        ]

    def task_id(self, terms: TaskTerms) -> Hex32:
        return digest([terms.requester, terms.spec])

    def tick(self, seconds: int = 1) -> None:
        self.number, self.time = self.number + 1, UnixSeconds(self.time + seconds)


def suspended(chain: FakeChain, who: Person, status: NodeStatus = NodeStatus.SUSPENDED) -> None:
    chain.nodes[who.address] = replace(chain.nodes[who.address], status=status)


def make_chain() -> FakeChain:
    chain = FakeChain()
    for each in (*PARTIES, LAB):
        role = Role.REQUESTER if each is LAB else Role.OWNER | Role.COMPUTE
        chain.nodes[each.address] = Node(
            each.address, NodeStatus.ACTIVE, role, each.fingerprint, each.encryption_key
        )
    for algorithm in (h(1), h(2)):
        chain.algorithms[algorithm] = Algorithm(algorithm, LAB.address, AlgorithmStatus.ACTIVE)
    for index, party in enumerate(PARTIES):
        dataset = h(100 + index)
        chain.datasets[dataset] = Dataset(
            dataset, party.address, DatasetStatus.ACTIVE, DataClass.GENERAL, h(5), h(6)
        )
        for algorithm in (1, 2):
            grant = _grant(h(1000 * algorithm + index), party, dataset, h(algorithm))
            chain.grants[grant.id] = grant
    return chain


def _grant(id: Hex32, owner: Person, dataset: Hex32, algorithm: Hex32) -> Grant:
    return Grant(
        id=id,
        owner=owner.address,
        dataset=dataset,
        algorithm=algorithm,
        requester=LAB.address,
        purpose=purpose_hash(PURPOSE),
        uses_left=3,
        not_before=UnixSeconds(NOW - 100),
        expires_at=UnixSeconds(NOW + 86_400),
        protections=ALL & ~Protection.MPC_SEMI2K_TRUSTED_FIRST_PARTY,
        approval_required=False,
        revoked=False,
        epsilon_millionths=0,
        uses=3,
        epsilon_left=0,
    )


def document(count: int = 3, psi: str | None = "RR22", mpc: str | None = "ABY3", **changes: Any) -> Any:
    """A specification among ``count`` parties as JSON; a protocol of ``None`` is left open."""
    names = [f"p{index}" for index in range(count)]
    steps = [
        {"id": "align", "algorithm": h(1), "engine": "psi", "protocol": psi, "after": [], "uses": {}},
        {"id": "stats", "algorithm": h(2), "engine": "mpc", "protocol": mpc, "after": ["align"], "uses": {}},
    ]
    for number, step in enumerate(steps, 1):
        step["inputs"] = names
        step["grants"] = {name: h(1000 * number + index) for index, name in enumerate(names)}
        step["policies"] = {}
        step["epsilon"] = {}
        step["params"] = {}
        if step["protocol"] is None:
            del step["protocol"]
    return {
        "version": "sealtrace.task/1",
        "nonce": h(7),
        "requester": LAB.address,
        "requester_key": LAB.encryption_key,
        "purpose": PURPOSE,
        "deadline": NOW + 3600,
        "engine_seconds": 600,
        "parties": [each.address for each in PARTIES[:count]],
        "inputs": [
            {
                "name": name,
                "party": PARTIES[index].address,
                "dataset": h(100 + index),
                "id_column": "id",
                "columns": ["amount"],
                "part_of": None,
            }
            for index, name in enumerate(names)
        ],
        "compute": [],
        "steps": steps,
        "results": [],
        "keep": {},
        **changes,
    }


def make_spec(count: int = 3, **changes: Any) -> TaskSpec:
    return TaskSpec.model_validate(document(count, **changes))
