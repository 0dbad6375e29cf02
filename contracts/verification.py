"""Proof that the contracts on a chain are ours: their code, what they name, and how they came to be.

Code on a chain says nothing of the constructor that returned it, which may have filled the storage first.
So the transactions that created the contracts are looked at too: their input must be our creation code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sealtrace.contracts import abi
from sealtrace.contracts.client import Generation, named_by, why_not_one_set, why_not_ours
from sealtrace.contracts.deployment import Founding, constructor_arguments, created
from sealtrace.contracts.errors import MalformedAnswer
from sealtrace.contracts.governance import Rules
from sealtrace.contracts.link import Ask, Failure, Link, content, hexadecimal, number
from sealtrace.protocol.identifiers import Address, Hex32, address, hex32

LOOK_BACK_BLOCKS = 2_000
_CHUNK = 50
_FOUNDING = ("address[]", "address", "address", "(uint8,uint32,uint32,uint8)")


@dataclass(frozen=True, slots=True)
class Examined:
    """One contract: where it is, who created it, and what is wrong with it (``None``: nothing).

    ``created_by`` is the transaction that created it, or ``None`` if none was found in the blocks looked at.
    """

    generation: int
    name: str
    address: Address
    created_by: Hex32 | None
    problem: str | None


@dataclass(frozen=True, slots=True)
class Examination:
    """What was found. ``founding`` is what the consortium began with, where its creation was found."""

    contracts: tuple[Examined, ...]
    founding: Founding | None

    @property
    def proven(self) -> bool:
        """Whether every contract is ours, and its creation was seen."""
        return all(each.problem is None and each.created_by for each in self.contracts)


def examine(link: Link, directory: Address, look_back: int = LOOK_BACK_BLOCKS) -> Examination:
    """Look at a directory and at the contracts it names, of every generation.

    Raises:
        ChainUnreachable: the endpoint does not answer.
        WrongContracts: there is no directory of ours.
    """
    named = named_by(link, directory)
    examined: dict[Address, Examined] = {}
    founding: Founding | None = None
    for number_, generation in enumerate(named.generations):
        fresh = {
            name: generation.addresses[name]
            for name in abi.CONTRACTS
            if generation.addresses[name] not in examined
        }
        seen = _Creations.of(link, fresh, generation.since, look_back)
        founding = founding or seen.founding()
        for each in _examined(link, number_, generation, fresh, seen, founding):
            examined[each.address] = each
    return Examination(tuple(examined.values()), founding)


@dataclass(frozen=True, slots=True)
class _Creations:
    """The transactions that created contracts, by the contract's name, and the blocks looked at."""

    found: Mapping[str, Mapping[str, Any]]
    first: int
    last: int

    @classmethod
    def of(cls, link: Link, contracts: Mapping[str, Address], newest: int, look_back: int) -> _Creations:
        """Look from the newest block backwards."""
        names = {where: name for name, where in contracts.items()}
        first = max(0, newest - look_back)
        found: dict[str, Mapping[str, Any]] = {}
        for transaction in _transactions(link, newest, first):
            if transaction.get("to"):
                continue
            where = created(address(transaction["from"]), number(transaction["nonce"]))
            if where in names:
                found.setdefault(names[where], transaction)
            if len(found) == len(names):
                break
        return cls(found, first, newest)

    def founding(self) -> Founding | None:
        """What the consortium's constructor was given, if it was this one's."""
        if "Consortium" not in self.found:
            return None
        arguments = _creation_code(self.found["Consortium"])[len(abi.artifact("Consortium").bytecode) :]
        try:
            members, registrar, regulator, rules = abi.decode_values(_FOUNDING, arguments, "the founding")
        except MalformedAnswer:
            return None
        return Founding(tuple(map(Address, members)), Address(registrar), Address(regulator), Rules(*rules))


def _examined(
    link: Link,
    number_: int,
    generation: Generation,
    fresh: Mapping[str, Address],
    seen: _Creations,
    founding: Founding | None,
) -> Iterator[Examined]:
    wrong = why_not_ours(link, fresh) or why_not_one_set(link, generation.addresses)
    for name, where in fresh.items():
        transaction = seen.found.get(name)
        problem = wrong.get(name) or _why_other_creation(name, transaction, generation.addresses, founding)
        if transaction is None:
            problem = problem or (
                f"its creation is not in the blocks {seen.first} to {seen.last}, the one it was announced in"
            )
        yield Examined(number_, name, where, _hash(transaction), problem)


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


def _why_other_creation(
    name: str,
    transaction: Mapping[str, Any] | None,
    addresses: Mapping[str, Address],
    founding: Founding | None,
) -> str | None:
    if transaction is None:
        return None
    if founding is None:
        return "it was created by other code" if name == "Consortium" else None
    if _creation_code(transaction) != abi.encode_constructor(
        name, constructor_arguments(addresses, founding)[name]
    ):
        return "it was created by other code"
    return None


def _creation_code(transaction: Mapping[str, Any]) -> bytes:
    return content(transaction["input"] if "input" in transaction else transaction["data"])


def _hash(transaction: Mapping[str, Any] | None) -> Hex32 | None:
    return None if transaction is None else hex32(content(transaction["hash"]))
