"""Putting the contracts on a chain, as one set behind one directory."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import rlp
from eth_hash.auto import keccak

from sealtrace.contracts import abi
from sealtrace.contracts.client import require_chain
from sealtrace.contracts.errors import DeploymentFailed
from sealtrace.contracts.governance import Rules
from sealtrace.contracts.link import Failure, Link, number
from sealtrace.contracts.sender import Fees, offered
from sealtrace.protocol.accounts import Account
from sealtrace.protocol.identifiers import Address, address, raw

GAS_PER_BYTE = 600
GAS_BESIDE = 600_000


@dataclass(frozen=True, slots=True)
class Deployment:
    """Where the contracts are. ``block`` is the directory's, from which a replay starts."""

    chain_id: int
    directory: Address
    addresses: Mapping[str, Address]
    block: int

    def to_json(self) -> dict[str, Any]:
        """The deployment as a JSON object."""
        return {
            "chain_id": self.chain_id,
            "directory": self.directory,
            "addresses": dict(self.addresses),
            "block": self.block,
        }


@dataclass(frozen=True, slots=True)
class Founding:
    """Whom a consortium begins with."""

    members: tuple[Address, ...]
    registrar: Address
    regulator: Address
    rules: Rules

    def words(self) -> tuple[Any, ...]:
        """What the consortium's constructor takes."""
        return list(self.members), self.registrar, self.regulator, self.rules.words()


def deploy(
    rpc_url: str,
    chain_id: int,
    deployer_key: bytes,
    registrar: Address,
    regulator: Address,
    *,
    members: Sequence[Address] = (),
    rules: Rules | None = None,
    timeout_s: float = 120,
) -> Deployment:
    """Deploy the eight contracts. ``members`` decide by vote; the registrar alone, if none is named.

    Raises:
        ChainUnreachable, WrongChain: the endpoint, as in ``Chain.connect``.
        DeploymentFailed: a contract could not be put on chain; nothing uses a set without its directory.
    """
    link = Link.http(rpc_url, 10)
    officers = (registrar, regulator)
    return deploy_over(
        link, chain_id, deployer_key, *officers, members=members, rules=rules, timeout_s=timeout_s
    )


def deploy_over(
    link: Link,
    chain_id: int,
    deployer_key: bytes,
    registrar: Address,
    regulator: Address,
    *,
    members: Sequence[Address] = (),
    rules: Rules | None = None,
    timeout_s: float = 120,
) -> Deployment:
    """The same over a link of the caller's."""
    require_chain(link, chain_id)
    account = Account.from_key(deployer_key)
    deployer = address(account.address)
    first = number(link.request("eth_getTransactionCount", deployer, "pending"))
    addresses = {name: created(deployer, first + i) for i, name in enumerate(abi.CONTRACTS)}
    founding = Founding(tuple(members) or (registrar,), registrar, regulator, rules or Rules())
    args = constructor_arguments(addresses, founding)
    fees = offered(link, link.request("eth_getBlockByNumber", "latest", False))
    hashes = {
        name: _send(link, account, chain_id, first + i, name, args[name], fees)
        for i, name in enumerate(abi.CONTRACTS)
    }
    blocks = [_mined(link, name, hashes[name], timeout_s) for name in abi.CONTRACTS]
    return Deployment(chain_id, addresses["Directory"], addresses, blocks[-1])


def created(deployer: Address, nonce: int) -> Address:
    """The address of the contract that ``deployer`` creates with ``nonce``."""
    return address("0x" + keccak(rlp.encode([raw(deployer), nonce]))[12:].hex())


def constructor_arguments(at: Mapping[str, Address], founding: Founding) -> dict[str, tuple[Any, ...]]:
    """The ledger and the grants name each other, so the ledger's address is told before it exists."""
    nodes = at["NodeRegistry"]
    return {
        "Consortium": founding.words(),
        "NodeRegistry": (at["Consortium"], at["DatasetRegistry"], at["AlgorithmRegistry"], at["TaskLedger"]),
        "DatasetRegistry": (nodes,),
        "AlgorithmRegistry": (at["Consortium"], nodes),
        "GrantRegistry": (nodes, at["DatasetRegistry"], at["AlgorithmRegistry"], at["TaskLedger"]),
        "TaskLedger": (at["Consortium"], nodes, at["GrantRegistry"]),
        "EvidenceAnchor": (nodes,),
        "Directory": (at["TaskLedger"], at["EvidenceAnchor"]),
    }


def _send(
    link: Link, account: Any, chain_id: int, nonce: int, name: str, args: tuple[Any, ...], fees: Fees
) -> str:
    code = abi.encode_constructor(name, args)
    signed = account.sign_transaction(
        {
            "type": 2,
            "chainId": chain_id,
            "nonce": nonce,
            "value": 0,
            "data": "0x" + code.hex(),
            "gas": GAS_BESIDE + GAS_PER_BYTE * len(code),
            "maxFeePerGas": fees.most,
            "maxPriorityFeePerGas": fees.tip,
        }
    )
    raw_transaction = bytes(signed.raw_transaction)
    answer = link.attempt("eth_sendRawTransaction", "0x" + raw_transaction.hex())
    if isinstance(answer, Failure):
        raise DeploymentFailed(name, answer.message)
    return "0x" + keccak(raw_transaction).hex()


def _mined(link: Link, name: str, hash: str, timeout_s: float) -> int:
    until = time.monotonic() + timeout_s
    while (receipt := link.request("eth_getTransactionReceipt", hash)) is None:
        if time.monotonic() > until:
            raise DeploymentFailed(name, f"transaction {hash} was not mined within {timeout_s:g} seconds")
        time.sleep(0.1)
    if number(receipt["status"]) != 1:
        raise DeploymentFailed(name, f"transaction {hash} was refused by the machine")
    return number(receipt["blockNumber"])
