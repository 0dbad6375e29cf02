"""Proof that the contracts on a chain are ours: their code, what they name, and how they came to be.

Code on a chain says nothing of the constructor that returned it, which may have filled the storage first.
So the transactions that created the contracts are looked at too: their input must be our creation code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sealtrace.contracts import abi
from sealtrace.contracts.client import named_by, why_not_one_set, why_not_ours
from sealtrace.contracts.deployment import ORDER, constructor_arguments, created
from sealtrace.contracts.errors import MalformedAnswer
from sealtrace.contracts.link import Ask, Failure, Link, content, hexadecimal, number
from sealtrace.protocol.identifiers import Address, Hex32, address, hex32

LOOK_BACK_BLOCKS = 2_000
_CHUNK = 50
_OFFICERS = ("admin", "registrar", "regulator")


@dataclass(frozen=True, slots=True)
class Examined:
    """One contract: where it is, who created it, and what is wrong with it (``None``: nothing).

    ``created_by`` is the transaction that created it, or ``None`` if none was found in the blocks looked at.
    """

    name: str
    address: Address
    created_by: Hex32 | None
    problem: str | None


@dataclass(frozen=True, slots=True)
class Examination:
    """What was found. ``officers`` are those the consortium began with, where its creation was found."""

    contracts: tuple[Examined, ...]
    officers: Mapping[str, Address]
    first_block: int
    last_block: int

    @property
    def proven(self) -> bool:
        """Whether every contract is ours, and its creation was seen."""
        return all(each.problem is None and each.created_by for each in self.contracts)


def examine(link: Link, directory: Address, look_back: int = LOOK_BACK_BLOCKS) -> Examination:
    """Look at a directory and at the seven contracts it names.

    Raises:
        ChainUnreachable: the endpoint does not answer.
        WrongContracts: there is no directory of ours.
    """
    seven, deployed_at = named_by(link, directory)
    addresses = {**seven, "Directory": directory}
    wrong = why_not_ours(link, addresses) or why_not_one_set(link, addresses)
    first = max(0, deployed_at - look_back)
    span = f"the blocks {first} to {deployed_at}, the one the directory says it was made in"
    found = _creations(link, {where: name for name, where in addresses.items()}, deployed_at, first)
    officers = _officers(found.get("Consortium", {}))
    for name, transaction in found.items():
        if problem := _why_other_creation(name, transaction, addresses, officers):
            wrong.setdefault(name, problem)
    examined = (
        Examined(name, addresses[name], _hash(found.get(name)), wrong.get(name, _missing(name, found, span)))
        for name in ORDER
    )
    return Examination(tuple(examined), officers, first, deployed_at)


def _missing(name: str, found: Mapping[str, Any], span: str) -> str | None:
    return None if name in found else f"its creation is not in {span}"


def _creations(
    link: Link, names: Mapping[Address, str], newest: int, oldest: int
) -> dict[str, Mapping[str, Any]]:
    """The transactions that created the contracts, looked for from the newest block backwards."""
    found: dict[str, Mapping[str, Any]] = {}
    for transaction in _transactions(link, newest, oldest):
        if transaction.get("to"):
            continue
        where = created(address(transaction["from"]), number(transaction["nonce"]))
        if where in names:
            found.setdefault(names[where], transaction)
        if len(found) == len(names):
            break
    return found


def _transactions(link: Link, newest: int, oldest: int) -> Iterator[Mapping[str, Any]]:
    for last in range(newest, oldest - 1, -_CHUNK):
        heights = range(last, max(oldest, last - _CHUNK + 1) - 1, -1)
        asks = [Ask("eth_getBlockByNumber", [hexadecimal(height), True]) for height in heights]
        for height, block in zip(heights, link.batch(asks), strict=True):
            if isinstance(block, Failure):
                raise block.error()
            if block is None:
                raise MalformedAnswer(f"block {height}", "there is none")
            yield from block["transactions"]


def _officers(consortium: Mapping[str, Any]) -> dict[str, Address]:
    if not consortium:
        return {}
    arguments = _creation_code(consortium)[len(abi.artifact("Consortium").bytecode) :]
    try:
        values = abi.decode_values(["address"] * 3, arguments, "the consortium's officers")
    except MalformedAnswer:
        return {}
    return {office: Address(value) for office, value in zip(_OFFICERS, values, strict=True)}


def _why_other_creation(
    name: str,
    transaction: Mapping[str, Any],
    addresses: Mapping[str, Address],
    officers: Mapping[str, Address],
) -> str | None:
    if name == "Consortium" and not officers:
        return "it was created by other code"
    offices = [officers.get(office, address("0x" + "00" * 20)) for office in _OFFICERS]
    arguments = constructor_arguments(addresses, *offices)[name]
    if _creation_code(transaction) != abi.encode_constructor(name, arguments):
        return "it was created by other code"
    return None


def _creation_code(transaction: Mapping[str, Any]) -> bytes:
    return content(transaction["input"] if "input" in transaction else transaction["data"])


def _hash(transaction: Mapping[str, Any] | None) -> Hex32 | None:
    return None if transaction is None else hex32(content(transaction["hash"]))
