"""The committed artifacts, and calls, events and errors encoded and decoded by them.

Values are in our spelling: addresses and ``bytes32`` as lower-case hexadecimal, integers and booleans as
themselves. Decoding is strict: a text that is not exactly what the ABI says is refused.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

os.environ.setdefault("ETH_HASH_BACKEND", "pysha3")  # five times the default backend's speed

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError, EncodingError
from eth_hash.auto import keccak

from sealtrace.contracts.errors import MalformedAnswer, MalformedCall

ARTIFACTS = Path(__file__).resolve().parent / "artifacts"
GENERATION = (
    "NodeRegistry",
    "DatasetRegistry",
    "AlgorithmRegistry",
    "GrantRegistry",
    "TaskLedger",
    "EvidenceAnchor",
)
"""The contracts of a generation, in the order in which the directory names them."""
SEVEN = ("Consortium", *GENERATION)
CONTRACTS = (*SEVEN, "Directory")
"""All of a generation, in the order in which they are deployed."""

Value = Any
"""A decoded value: ``str``, ``int``, ``bool``, or a tuple of these for a struct."""


@dataclass(frozen=True, slots=True)
class Function:
    """A contract's function: its selector and the types it takes and gives."""

    selector: bytes
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A named value of an event or an error; ``meaning`` is its Solidity type, such as ``enum Denial``."""

    name: str
    type: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Event:
    """An event: its first topic, the values in its further topics, the values in its data."""

    name: str
    topic: str
    indexed: tuple[Parameter, ...]
    data: tuple[Parameter, ...]

    def position(self, parameter: str) -> int | None:
        """Which topic (1 to 3) carries ``parameter``, or ``None`` when none does."""
        names = [each.name for each in self.indexed]
        return names.index(parameter) + 1 if parameter in names else None


@dataclass(frozen=True, slots=True)
class Error:
    """A custom error and the contracts that declare it."""

    name: str
    parameters: tuple[Parameter, ...]
    contracts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Artifact:
    """What the compiler made of one contract."""

    name: str
    abi: tuple[Mapping[str, Any], ...]
    bytecode: bytes
    deployed: bytes
    immutables: tuple[tuple[int, int], ...]

    def is_code(self, code: bytes) -> bool:
        """Whether ``code``, as a chain holds it, is this contract whatever its immutables are."""
        return self._masked(code) == self._masked(self.deployed)

    def _masked(self, code: bytes) -> bytes:
        masked = bytearray(code)
        for start, length in self.immutables:
            masked[start : start + length] = bytes(length)
        return bytes(masked)


@cache
def artifact(name: str) -> Artifact:
    """The committed artifact of a contract."""
    return read_artifact(json.loads((ARTIFACTS / f"{name}.json").read_text()))


def read_artifact(content: Mapping[str, Any]) -> Artifact:
    """An artifact from the JSON of its file."""
    places = [place for found in content["immutableReferences"].values() for place in found]
    return Artifact(
        content["contractName"],
        tuple(content["abi"]),
        bytes.fromhex(content["bytecode"][2:]),
        bytes.fromhex(content["deployedBytecode"][2:]),
        tuple((place["start"], place["length"]) for place in places),
    )


@cache
def function(contract: str, name: str) -> Function:
    """A function by its name; none of ours is overloaded."""
    (entry,) = [e for e in artifact(contract).abi if e["type"] == "function" and e["name"] == name]
    return Function(_selector(entry), _types(entry["inputs"]), _types(entry["outputs"]))


@cache
def events(contract: str) -> Mapping[str, Event]:
    """A contract's events by first topic."""
    found = [_event(entry) for entry in artifact(contract).abi if entry["type"] == "event"]
    return {event.topic: event for event in found}


@cache
def errors() -> Mapping[bytes, Error]:
    """Every custom error of every contract, by its selector."""
    found: dict[bytes, Error] = {}
    for contract in CONTRACTS:
        for entry in artifact(contract).abi:
            if entry["type"] == "error":
                selector = _selector(entry)
                known = found[selector].contracts if selector in found else ()
                found[selector] = Error(entry["name"], _parameters(entry["inputs"]), (*known, contract))
    return found


def encode_call(contract: str, name: str, args: Sequence[Value]) -> bytes:
    """The call data of a function.

    Raises:
        MalformedCall: an argument is not of its type.
    """
    found = function(contract, name)
    try:
        return found.selector + encode(found.inputs, args)
    except (EncodingError, ValueError, TypeError) as cause:
        raise MalformedCall(contract, name, str(cause)) from cause


def encode_constructor(contract: str, args: Sequence[Value]) -> bytes:
    """The creation code of a contract with its arguments."""
    constructors = [e for e in artifact(contract).abi if e["type"] == "constructor"]
    types = _types(constructors[0]["inputs"]) if constructors else ()
    return artifact(contract).bytecode + encode(types, args)


def decode_result(contract: str, name: str, data: bytes) -> tuple[Value, ...]:
    """What a function answered.

    Raises:
        MalformedAnswer: it is not what the function gives.
    """
    return decode_values(function(contract, name).outputs, data, f"{contract}.{name}")


def decode_values(types: Sequence[str], data: bytes, what: str) -> tuple[Value, ...]:
    """Values of ``types`` in our spelling; ``what`` names them in the message.

    Raises:
        MalformedAnswer: ``data`` is not these.
    """
    try:
        return tuple(plain(value) for value in decode(types, data))
    except (DecodingError, ValueError, OverflowError) as cause:
        raise MalformedAnswer(what, str(cause)) from cause


def plain(value: Value) -> Value:
    """A decoded value in our spelling."""
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, tuple | list):
        return tuple(plain(each) for each in value)
    return value.lower() if isinstance(value, str) else value


def _event(entry: Mapping[str, Any]) -> Event:
    indexed = [each for each in entry["inputs"] if each["indexed"]]
    rest = [each for each in entry["inputs"] if not each["indexed"]]
    topic = "0x" + keccak(_signature(entry).encode()).hex()
    return Event(entry["name"], topic, _parameters(indexed), _parameters(rest))


def _selector(entry: Mapping[str, Any]) -> bytes:
    return keccak(_signature(entry).encode())[:4]


def _signature(entry: Mapping[str, Any]) -> str:
    return f"{entry['name']}({','.join(_types(entry['inputs']))})"


def _parameters(inputs: Sequence[Mapping[str, Any]]) -> tuple[Parameter, ...]:
    return tuple(
        Parameter(each["name"], type_, each["internalType"])
        for each, type_ in zip(inputs, _types(inputs), strict=True)
    )


def _types(inputs: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    return tuple(_spelled(inputs))


def _spelled(inputs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for each in inputs:
        if each["type"].startswith("tuple"):
            yield f"({','.join(_types(each['components']))}){each['type'][5:]}"
        else:
            yield each["type"]
