"""Revert data read as the contracts' custom errors."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any

from sealtrace.contracts.abi import Error, decode_values, errors
from sealtrace.contracts.errors import MalformedAnswer, Reverted
from sealtrace.protocol.lifecycle import TaskState
from sealtrace.protocol.outcome import Blame, Denial
from sealtrace.protocol.records import AlgorithmStatus, DatasetStatus, GrantStatus, NodeStatus

_ERROR = bytes.fromhex("08c379a0")
_PANIC = bytes.fromhex("4e487b71")
_ENUMS: Mapping[str, type[IntEnum]] = {
    "enum AlgorithmStatus": AlgorithmStatus,
    "enum Blame": Blame,
    "enum DatasetStatus": DatasetStatus,
    "enum Denial": Denial,
    "enum GrantStatus": GrantStatus,
    "enum NodeStatus": NodeStatus,
    "enum TaskStatus": TaskState,
}


def read_revert(data: bytes, contract: str) -> Reverted:
    """The refusal that ``data`` says, whichever of our contracts it came from; ``contract`` was called.

    Data that is no error of ours gives ``Unexplained`` with the data in hexadecimal.
    """
    selector, body = data[:4], data[4:]
    try:
        if (error := errors().get(selector)) is not None:
            return _custom(error, body, contract)
        if selector == _ERROR:
            (words,) = decode_values(["string"], body, "a revert")
            return Reverted("Error", {"words": words}, contract, words=words[:300])
        if selector == _PANIC:
            (code,) = decode_values(["uint256"], body, "a panic")
            return Reverted("Panic", {"code": code}, contract, words=hex(code))
    except MalformedAnswer:
        pass  # a selector of ours with other data: it says nothing we could trust
    return unexplained("0x" + data.hex(), contract)


def unexplained(reason: str, contract: str) -> Reverted:
    """A refusal whose reason we cannot read."""
    return Reverted("Unexplained", {"data": reason}, contract, words=reason[:300])


def _custom(error: Error, body: bytes, contract: str) -> Reverted:
    decoded = decode_values([each.type for each in error.parameters], body, error.name)
    values = {each.name: value for each, value in zip(error.parameters, decoded, strict=True)}
    named = (_word(each.meaning, values[each.name]) for each in error.parameters)
    words = ", ".join(f"{each.name} {word}" for each, word in zip(error.parameters, named, strict=True))
    # The contract that declares the error and was reached through the one called says more.
    return Reverted(
        error.name, values, contract if contract in error.contracts else error.contracts[0], words=words
    )


def _word(meaning: str, value: Any) -> str:
    enum = _ENUMS.get(meaning)
    if enum is None:
        return str(value)
    return enum(value).name.lower() if value in list(enum) else str(value)
