"""The chains that the client is held to, each with the contracts on it: one suite runs against all of them.

eth-tester in this process, the embedded chain and anvil over HTTP, and whatever endpoint
``SEALTRACE_TEST_RPC`` names, such as a Besu network (docs/besu.md), with ``SEALTRACE_TEST_KEY`` holding funds
there if it asks fees.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from eth_keys.datatypes import PrivateKey

from sealtrace.contracts import calls, compiler
from sealtrace.contracts.client import Chain, ChainSettings
from sealtrace.contracts.deployment import Deployment, deploy_over
from sealtrace.contracts.link import Link, ProviderLink, number
from sealtrace.contracts.sender import Sender
from sealtrace.protocol.identifiers import Address, Hex32, address, hex32
from sealtrace.protocol.records import BlockRef, NodeStatus, Role

CHAIN_ID = 4242
NAMES = ["eth-tester", "embedded", "anvil"] + (["external"] if os.environ.get("SEALTRACE_TEST_RPC") else [])


def h(words: str) -> Hex32:
    return hex32(hashlib.sha256(words.encode()).digest())


def account_of(key: bytes) -> Address:
    return address(PrivateKey(key).public_key.to_address())


# What the tests do on the chain, in one place: an act that changes something and that anybody can count.


def act(what: str) -> calls.Call:
    """Admit an organisation that nobody else admits."""
    return calls.admit(subject(what), Role.OWNER, h("tls"), h("key"))


def calldata_of(what: str) -> str:
    return "0x" + act(what).data().hex()


def is_done(chain: Chain, what: str, at: BlockRef) -> bool:
    return chain.node(subject(what), at=at).status is NodeStatus.ACTIVE


def impossible() -> calls.Call:
    """What the contracts refuse, with ``REFUSAL``."""
    return calls.retire_node(subject("never admitted"))


ACT, REFUSAL, TWICE = "NodeAdmitted", ("UnknownNode", "NodeRegistry"), "NodeAlreadyKnown"


def subject(what: str) -> Address:
    return Address("0x" + h(what)[2:42])


@dataclass
class Ground:
    """A chain to stand on. ``link`` reaches it directly, whatever stands in a client's way."""

    name: str
    url: str
    link: Link
    settings: ChainSettings
    key: bytes
    mine: Callable[[], None]
    begins: int
    process: subprocess.Popen[str] | None = None
    engines: list[sa.Engine] = field(default_factory=list)

    @property
    def account(self) -> Address:
        return account_of(self.key)

    def chain(self, link: Link | None = None, **changed: Any) -> Chain:
        """A client, over another link or with other settings where they are given."""
        settings = replace(self.settings, **changed)
        if link is None and self.url:
            return Chain.connect(settings)
        return Chain._checked(link or self.link, settings)

    def sender(self, folder: Path, chain: Chain | None = None, **options: Any) -> Sender:
        """The registrar's sender, over the outbox in ``folder``."""
        engine = sa.create_engine(f"sqlite:///{folder / 'outbox.db'}")
        self.engines.append(engine)
        return Sender(chain or self.chain(), self.key, engine, **options)

    def head(self) -> int:
        return number(self.link.request("eth_blockNumber"))

    def record(self, first: int | None = None) -> dict[str, list[tuple[str, int]]]:
        """The calldata of every transaction of our account on the chain: hashes and status. The truth."""
        found: dict[str, list[tuple[str, int]]] = {}
        for height in range(self.begins if first is None else first, self.head() + 1):
            block = self.link.request("eth_getBlockByNumber", hex(height), True)
            for each in block["transactions"]:
                if str(each["from"]).lower() == self.account:
                    receipt = self.link.request("eth_getTransactionReceipt", each["hash"])
                    data = str(each.get("input") or each.get("data"))
                    found.setdefault(data, []).append((each["hash"], number(receipt["status"])))
        return found

    def close(self) -> None:
        for engine in self.engines:
            engine.dispose()
        if self.process is not None:
            stop(self.process)


def stop(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait(20)


@contextmanager
def ground(name: str, *options: str) -> Iterator[Ground]:
    """One of the chains, with the contracts on it."""
    kinds = {"eth-tester": _eth_tester, "embedded": _embedded, "anvil": _anvil, "external": _external}
    with tempfile.TemporaryDirectory() as folder:
        made = kinds[name](Path(folder), *options)
        try:
            yield made
        finally:
            made.close()


def _with_contracts(
    name: str, url: str, link: Link, chain_id: int, key: bytes, mine: Callable[[], None], **kept: Any
) -> Ground:
    """The same key deploys and is registrar, so that an external chain needs to fund one account only."""
    registrar = account_of(key)
    deployed: Deployment = deploy_over(link, chain_id, key, registrar, account_of(b"\2" * 32))
    settings = ChainSettings(url or "in process", chain_id, deployed.directory, timeout_s=5)
    return Ground(name, url, link, settings, key, mine, deployed.block + 1, **kept)


def _eth_tester(_: Path) -> Ground:
    from eth_tester import EthereumTester
    from eth_tester.backends.pyevm import PyEVMBackend
    from web3 import EthereumTesterProvider, Web3

    key = secrets.token_bytes(32)
    parameters = {**PyEVMBackend.generate_genesis_params(), "base_fee_per_gas": 0}
    rich = {"balance": 10**30, "nonce": 0, "code": b"", "storage": {}}
    state = {PrivateKey(key).public_key.to_canonical_address(): dict(rich), bytes(20): dict(rich)}
    tester = EthereumTester(PyEVMBackend(parameters, state))
    chain_id = int(tester.backend.chain.chain_id)
    link = ProviderLink(Web3(EthereumTesterProvider(tester)))
    return _with_contracts("eth-tester", "", link, chain_id, key, lambda: tester.mine_block() and None)


def _embedded(folder: Path) -> Ground:
    command = [sys.executable, "-m", "sealtrace.contracts.embedded", "serve", "--dir", str(folder / "chain")]
    process, url = started([*command, "--chain-id", str(CHAIN_ID), "--port", "0"], r"^chain .* at (\S+),")
    link, key = Link.http(url, 30), secrets.token_bytes(32)

    def mine() -> None:
        """A block is made when there is something to put into it: a transaction of a stranger's."""
        before = number(link.request("eth_blockNumber"))
        send_nothing(link, CHAIN_ID, secrets.token_bytes(32))
        wait_until(lambda: number(link.request("eth_blockNumber")) > before)

    return _with_contracts("embedded", url, link, CHAIN_ID, key, mine, process=process)


def _anvil(folder: Path, *options: str) -> Ground:
    if (binary := compiler.anvil()) is None:
        pytest.skip("there is no anvil for this platform; CI's has one")
    free = () if options else ("--base-fee", "0", "--gas-price", "0")
    command = [str(binary), "--port", "0", "--chain-id", str(CHAIN_ID), "--hardfork", "cancun"]
    command += ["--gas-limit", "200000000"]
    process, url = started([*command, *free, *options], r"^Listening on (\S+)$")
    link, key = Link.http(f"http://{url}", 30), secrets.token_bytes(32)
    link.request("anvil_setBalance", account_of(key), hex(10**24))

    def mine() -> None:
        link.request("evm_mine")

    return _with_contracts("anvil", f"http://{url}", link, CHAIN_ID, key, mine, process=process)


def _external(_: Path) -> Ground:
    url = os.environ["SEALTRACE_TEST_RPC"]
    key = bytes.fromhex(os.environ.get("SEALTRACE_TEST_KEY", secrets.token_hex(32)).removeprefix("0x"))
    link = Link.http(url, 30)
    chain_id = number(link.request("eth_chainId"))

    def mine() -> None:
        """Others make the blocks here."""
        before = number(link.request("eth_blockNumber"))
        wait_until(lambda: number(link.request("eth_blockNumber")) > before)

    return _with_contracts("external", url, link, chain_id, key, mine)


def started(command: list[str], says: str) -> tuple[subprocess.Popen[str], str]:
    """A program, and what it says where it listens."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(says, line.strip()):
            # What it goes on saying is read, or it would stop when the pipe is full.
            threading.Thread(target=process.stdout.read, daemon=True).start()
            return process, found[1]
    process.kill()
    raise AssertionError(f"{command[0]} did not start")


def send_nothing(link: Link, chain_id: int, key: bytes, nonce: int = 0, fee: int = 0) -> str:
    """A transaction that does nothing, from whoever has ``key``."""
    from sealtrace.protocol.accounts import Account

    transaction = {"type": 2, "chainId": chain_id, "nonce": nonce, "value": 0, "gas": 30_000, "data": "0x"}
    transaction |= {"maxFeePerGas": fee, "maxPriorityFeePerGas": 0, "to": "0x" + "11" * 20}
    signed = Account.from_key(key).sign_transaction(transaction)
    return str(link.request("eth_sendRawTransaction", "0x" + bytes(signed.raw_transaction).hex()))


def wait_until(holds: Callable[[], bool], seconds: float = 90) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.02)


class Between(Link):
    """A link in whose way a test can stand: ``rules`` answer in the endpoint's place, by method."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self.url, self.by_hash = link.url, link.by_hash
        self.rules: dict[str, Callable[..., Any]] = {}
        self.sent: list[str] = []

    def batch(self, asks: Any) -> list[Any]:
        return [self._one(ask.method, *ask.params) for ask in asks]

    def _one(self, method: str, *params: Any) -> Any:
        if method == "eth_sendRawTransaction":
            self.sent.append(params[0])
        if method in self.rules:
            return self.rules[method](*params)
        return self._link.attempt(method, *params)
