"""A consortium in this process: officers, three data owners, a lab that asks, and somebody from outside.

Every act is a transaction in a block of its own, signed where the engine looks at signatures. Time is the
blocks' time. The engine is eth-tester, or revm where ``SEALTRACE_ENGINE`` says so (see :mod:`engines`).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from engines import Engine, EthTester, Revm
from eth_keys.datatypes import PrivateKey

from sealtrace.contracts import calls
from sealtrace.contracts.calls import Call
from sealtrace.contracts.client import Chain, ChainSettings, TaskRecord
from sealtrace.contracts.deployment import deploy_over
from sealtrace.contracts.errors import Reverted
from sealtrace.contracts.events import ChainEvent, read_log
from sealtrace.contracts.link import ProviderLink
from sealtrace.contracts.reverts import read_revert
from sealtrace.contracts.terms import dataset_id
from sealtrace.protocol.identifiers import Address, Hex32, UnixSeconds, address, hex32
from sealtrace.protocol.records import DataClass, GrantTerms, Protection, Role, TaskTerms, Use

PEOPLE = ("deployer", "registrar", "regulator", "alice", "bob", "carol", "lab", "provider", "outsider")
OWNERS = ("alice", "bob", "carol")
DAY = 86_400
ENGINE = os.environ.get("SEALTRACE_ENGINE", "eth-tester")


def h(words: str) -> Hex32:
    """A digest for a test."""
    return hex32(hashlib.sha256(words.encode()).digest())


ALGORITHM, PURPOSE, RESULT = h("algorithm"), h("purpose"), h("result")
PROTECTIONS = Protection.MPC_ABY3 | Protection.PSI_RR22


@dataclass(frozen=True)
class Done:
    """A transaction that did what it should."""

    events: list[ChainEvent]
    gas_used: int
    at: UnixSeconds

    @property
    def names(self) -> list[str]:
        return [event.name for event in self.events]

    def value(self, name: str) -> Any:
        """A value of the first event."""
        return self.events[0].args[name]


@dataclass(repr=False)
class World:
    """The consortium, its chain and its client."""

    engine: Engine
    chain: Chain
    keys: dict[str, bytes]
    grants: dict[str, Hex32] = field(default_factory=dict)
    asked: int = 0

    # who

    def of(self, name: str) -> Address:
        return address(PrivateKey(self.keys[name]).public_key.to_address())

    def who(self, account: Address) -> str:
        return next(name for name in PEOPLE if self.of(name) == account)

    @property
    def parties(self) -> tuple[Address, ...]:
        return tuple(sorted(self.of(name) for name in OWNERS))

    @property
    def ranks(self) -> list[str]:
        """The owners by their index in every task."""
        return [self.who(party) for party in self.parties]

    def dataset(self, name: str, number: int = 0) -> Hex32:
        return dataset_id(self.of(name), h(f"commitment of {name} {number}"))

    # acting

    @property
    def link(self) -> ProviderLink:
        return self.engine.link

    @property
    def now(self) -> UnixSeconds:
        """The time of the last block."""
        return UnixSeconds(self.engine.now)

    def travel(self, to: int) -> None:
        """Make the next block's time ``to``, which is later than the last block's."""
        self.engine.travel(to)

    def attempt(self, call: Call, by: str) -> Done | Reverted:
        """Send a transaction in a block of its own."""
        outcome = self.engine.transact(self.keys[by], self.chain.addresses[call.contract], call.data())
        at = UnixSeconds(outcome.at)
        if outcome.refusal is not None:
            refusal = read_revert(outcome.refusal, call.contract)
            refusal.at = at  # type: ignore[attr-defined]
            return refusal
        return Done(self._events(outcome.logs), outcome.gas_used, at)

    def do(self, call: Call, by: str) -> Done:
        """Send a transaction that must succeed."""
        done = self.attempt(call, by)
        if isinstance(done, Reverted):
            raise done
        return done

    def refused(self, call: Call, by: str) -> Reverted:
        """Send a transaction that must be refused."""
        refusal = self.attempt(call, by)
        assert isinstance(refusal, Reverted), f"{call.function} by {by} was not refused"
        return refusal

    def _events(self, logs: Sequence[Any]) -> list[ChainEvent]:
        return [event for log in logs if (event := read_log(log, self.chain.contracts)) is not None]

    # the usual story

    def grant_terms(self, name: str, **changed: Any) -> GrantTerms:
        """The grant ``name`` usually gives: three uses for a day."""
        usual = GrantTerms(
            dataset=self.dataset(name),
            algorithm=ALGORITHM,
            requester=self.of("lab"),
            purpose=PURPOSE,
            uses=3,
            not_before=UnixSeconds(self.now),
            expires_at=UnixSeconds(self.now + DAY),
            protections=PROTECTIONS,
        )
        return replace(usual, **changed)

    def issue(self, name: str, **changed: Any) -> Hex32:
        return self.do(calls.issue_grant(self.grant_terms(name, **changed)), name).value("grant")

    def terms(self, grants: dict[str, Hex32] | None = None, **changed: Any) -> TaskTerms:
        """A fresh task over all three owners' datasets."""
        self.asked += 1
        grants = self.grants | (grants or {})
        uses = tuple(Use(i, self.dataset(name), ALGORITHM, grants[name]) for i, name in enumerate(self.ranks))
        usual = TaskTerms(
            requester=self.of("lab"),
            spec=h(f"spec {self.asked}"),
            purpose=PURPOSE,
            protections=Protection.MPC_ABY3,
            deadline=UnixSeconds(self.now + 3600),
            parties=self.parties,
            uses=uses,
        )
        return replace(usual, **changed)

    def create(self, terms: TaskTerms) -> Hex32:
        self.do(calls.create(terms), "lab")
        return self.chain.task_id(terms)

    def task(self, id: Hex32) -> TaskRecord | None:
        return self.chain.task(id, at=self.chain.head())

    def uses_left(self, grant: Hex32) -> int:
        found = self.chain.grant(grant, at=self.chain.head())
        assert found is not None
        return found.uses_left

    def start_all(self, terms: TaskTerms) -> list[Done]:
        return [self.do(calls.start(terms, h("input")), name) for name in self.ranks]

    def finish_all(self, terms: TaskTerms, result: Hex32 = RESULT) -> list[Done]:
        return [self.do(calls.finish(terms, h(f"receipt {n}"), result), n) for n in self.ranks]


def bare(engine: str = ENGINE) -> tuple[Engine, dict[str, bytes]]:
    """An empty chain without fees, and keys."""
    keys = {name: hashlib.sha256(name.encode()).digest() for name in PEOPLE}
    return Revm() if engine == "revm" else EthTester(list(keys.values())), keys


def build(engine_name: str = ENGINE) -> World:
    """A consortium whose members are admitted, with a dataset and a standing grant for each owner."""
    engine, keys = bare(engine_name)
    link, chain_id = engine.link, engine.chain_id
    accounts = {name: address(PrivateKey(key).public_key.to_address()) for name, key in keys.items()}
    deployment = deploy_over(link, chain_id, keys["deployer"], accounts["registrar"], accounts["regulator"])
    chain = Chain.over(link.w3, ChainSettings("in process", chain_id, deployment.directory))
    world = World(engine, chain, keys)
    roles = dict.fromkeys(OWNERS, Role.OWNER | Role.COMPUTE) | {
        "lab": Role.REQUESTER,
        "provider": Role.PROVIDER,
    }
    for name, role in roles.items():
        world.do(calls.admit(accounts[name], role, h(f"tls {name}"), h(f"key {name}")), "registrar")
    world.do(calls.register_algorithm(ALGORITHM), "provider")
    for name in OWNERS:
        commitment = h(f"commitment of {name} 0")
        world.do(calls.register_dataset(commitment, h("schema"), DataClass.GENERAL), name)
    world.grants = {name: world.issue(name) for name in OWNERS}
    return world
