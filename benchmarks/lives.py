"""Whole lives of tasks as signed transactions: what the benchmarks of chains send.

Everything that depends on what the contracts are asked is here. Each client has its own lab and three data
owners with a standing grant each; a life is a creation, three starts that spend a use, three receipts.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from eth_hash.auto import keccak
from eth_keys.datatypes import PrivateKey

from sealtrace.contracts import calls
from sealtrace.contracts.calls import Call
from sealtrace.contracts.client import Chain, ChainSettings
from sealtrace.contracts.deployment import deploy
from sealtrace.contracts.link import Ask, Failure, Link, number
from sealtrace.contracts.terms import dataset_id
from sealtrace.protocol.accounts import Account
from sealtrace.protocol.identifiers import Address, Hex32, UnixSeconds, address, hex32, raw
from sealtrace.protocol.lifecycle import TaskState
from sealtrace.protocol.records import DataClass, GrantTerms, Protection, Role, TaskTerms, Use

OWNERS = ("alice", "bob", "carol")
DAY = 86_400
GAS = 600_000
PER_LIFE = 1 + 2 * len(OWNERS)
WAIT_SECONDS = 120.0
LOOK_SECONDS = 0.2


class NotAsMeant(RuntimeError):
    """A transaction of the benchmark was refused, reverted or not mined in time."""


def digest(words: str) -> Hex32:
    """A digest that stands for something."""
    return hex32(hashlib.sha256(words.encode()).digest())


ALGORITHM, PURPOSE = digest("algorithm"), digest("purpose")


@dataclass(slots=True)
class Signer:
    """A key that counts its own transactions: nobody else sends with it."""

    key: bytes
    chain_id: int
    nonce: int = 0

    @property
    def address(self) -> Address:
        """Its account."""
        return address(PrivateKey(self.key).public_key.to_address())

    def sign(self, to: Address, data: bytes, gas: int = GAS) -> Signed:
        """The next transaction of this key, without fees."""
        said = {
            "type": 2,
            "chainId": self.chain_id,
            "nonce": self.nonce,
            "to": raw(to),
            "value": 0,
            "data": "0x" + data.hex(),
            "gas": gas,
            "maxFeePerGas": 0,
            "maxPriorityFeePerGas": 0,
        }
        made = bytes(Account.from_key(self.key).sign_transaction(said).raw_transaction)
        self.nonce += 1
        return Signed(made, hex32(keccak(made)))


@dataclass(frozen=True, slots=True)
class Signed:
    """A transaction ready to be sent."""

    raw: bytes
    hash: Hex32


Phase = Sequence[Signed]
"""Transactions that may share a block. The next phase is sent once all of them are mined."""


@dataclass
class Client:
    """One lab and its data owners on a chain with our contracts."""

    name: str
    chain: Chain
    lives: int = 0
    begun: int = field(default_factory=lambda: int(time.time()))
    signers: dict[str, Signer] = field(default_factory=dict)
    grants: dict[str, Hex32] = field(default_factory=dict)
    """Each owner's, once :meth:`published`."""

    def __post_init__(self) -> None:
        for who in ("lab", *OWNERS):
            key = hashlib.sha256(f"{self.name} {who}".encode()).digest()
            self.signers[who] = Signer(key, self.chain.settings.chain_id)

    def phases(self, lives: int) -> list[Phase]:
        """Whole lives beside each other, signed in the order in which they are sent."""
        each = [self._life() for _ in range(lives)]
        return [[self.signed(*act) for life in each for act in life[phase]] for phase in range(3)]

    def task(self, life: int) -> Hex32:
        """The id of the task of a life."""
        return self.chain.task_id(self._terms(life))

    def _life(self) -> list[list[tuple[str, Call]]]:
        """Who says what, phase by phase."""
        terms = self._terms(self.lives)
        result = digest(f"result {self.lives}")
        self.lives += 1
        return [
            [("lab", calls.create(terms))],
            [(who, calls.start(terms, digest("input"))) for who in OWNERS],
            [(who, calls.finish(terms, digest("receipt"), result)) for who in OWNERS],
        ]

    def _terms(self, life: int) -> TaskTerms:
        return TaskTerms(
            requester=self.signers["lab"].address,
            spec=digest(f"{self.name} spec {life}"),
            purpose=PURPOSE,
            protections=Protection.MPC_ABY3,
            deadline=UnixSeconds(self.begun + DAY // 2),
            parties=tuple(sorted(self.signers[who].address for who in OWNERS)),
            uses=tuple(Use(i, self.dataset(who), ALGORITHM, self.grants[who]) for i, who in self._ranks()),
        )

    def _ranks(self) -> Iterator[tuple[int, str]]:
        return enumerate(sorted(OWNERS, key=lambda who: self.signers[who].address))

    def dataset(self, who: str) -> Hex32:
        """The id of an owner's dataset."""
        return dataset_id(self.signers[who].address, digest(f"table of {self.name} {who}"))

    def signed(self, who: str, call: Call) -> Signed:
        """A call signed by one of this client's."""
        return self.signers[who].sign(self.chain.addresses[call.contract], call.data())

    def published(self) -> list[Signed]:
        """What the owners say before the first task: a dataset and a grant each."""
        now = int(time.time())
        head = self.chain.head()
        said: list[Signed] = []
        for who in OWNERS:
            commitment = digest(f"table of {self.name} {who}")
            said.append(
                self.signed(who, calls.register_dataset(commitment, digest("schema"), DataClass.GENERAL))
            )
            terms = GrantTerms(
                dataset=self.dataset(who),
                algorithm=ALGORITHM,
                requester=self.signers["lab"].address,
                purpose=PURPOSE,
                uses=1_000_000,
                not_before=UnixSeconds(now - DAY),
                expires_at=UnixSeconds(now + DAY),
                protections=Protection.MPC_ABY3,
            )
            owner = self.signers[who].address
            self.grants[who] = self.chain.grant_id(owner, self.chain.serial(owner, at=head), terms)
            said.append(self.signed(who, calls.issue_grant(terms)))
        return said


def set_up(url: str, chain_id: int, clients: int) -> list[Client]:
    """Deploy the contracts, admit everybody, and publish; everything is mined when this returns."""
    registrar = Signer(hashlib.sha256(b"registrar").digest(), chain_id)
    deployer = hashlib.sha256(b"deployer").digest()
    made = deploy(url, chain_id, deployer, registrar.address, address("0x" + "22" * 20))
    chain = Chain.connect(ChainSettings(url, chain_id, made.directory, timeout_s=60))
    found = [Client(f"client {i}", chain) for i in range(clients)]
    provider = Signer(hashlib.sha256(b"provider").digest(), chain_id)
    members = {provider.address: Role.PROVIDER}
    for client in found:
        members |= {client.signers["lab"].address: Role.REQUESTER}
        members |= {client.signers[who].address: Role.OWNER | Role.COMPUTE for who in OWNERS}
    admitted = [calls.admit(who, role, digest(f"tls {who}"), digest("key")) for who, role in members.items()]
    mine(chain.link, [registrar.sign(chain.addresses[call.contract], call.data()) for call in admitted])
    algorithm = calls.register_algorithm(ALGORITHM)
    mine(chain.link, [provider.sign(chain.addresses[algorithm.contract], algorithm.data())])
    mine(chain.link, [each for client in found for each in client.published()])
    return found


def mine(link: Link, phase: Phase) -> None:
    """Send transactions one by one and wait until all are mined; raises what these raise."""
    send(link, phase)
    wait(link, phase)


def send(link: Link, phase: Phase) -> None:
    """Send transactions, one request each.

    Raises:
        NotAsMeant: one was not taken.
    """
    for each in phase:
        answer = link.attempt("eth_sendRawTransaction", "0x" + each.raw.hex())
        if isinstance(answer, Failure):
            raise NotAsMeant(f"{each.hash}: {answer.message}")


def wait(link: Link, phase: Phase) -> None:
    """Wait until all are mined, and read every receipt.

    Raises:
        NotAsMeant: one failed, or was not mined in time.
    """
    until, missing = time.monotonic() + WAIT_SECONDS, list(phase)
    while missing:
        if link.request("eth_getTransactionReceipt", missing[-1].hash) is not None:
            missing = _unmined(link, missing)
            continue
        if time.monotonic() > until:
            raise NotAsMeant(f"{len(missing)} transactions not mined after {WAIT_SECONDS:.0f} s")
        time.sleep(LOOK_SECONDS)


def _unmined(link: Link, sent: Phase) -> list[Signed]:
    receipts = link.batch([Ask("eth_getTransactionReceipt", [each.hash]) for each in sent])
    for each, receipt in zip(sent, receipts, strict=True):
        if receipt is not None and number(receipt["status"]) != 1:
            raise NotAsMeant(f"{each.hash} was mined and failed")
    return [each for each, receipt in zip(sent, receipts, strict=True) if receipt is None]


def require_completed(client: Client) -> None:
    """Make sure that the last task of a client has ended as it should.

    Raises:
        NotAsMeant: it has not.
    """
    task = client.chain.task(client.task(client.lives - 1), at=client.chain.head())
    if task is None or task.state is not TaskState.COMPLETED:
        raise NotAsMeant(f"the last task of {client.name} is {task and task.state.name}")
