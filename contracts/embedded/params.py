"""Strict decoders of JSON-RPC parameters. Each raises :class:`RpcError` -32602 on anything else."""

import re
from dataclasses import dataclass
from typing import Literal

from .errors import invalid_params
from .machine import CallRequest

QUANTITY = re.compile(r"0x(?:0|[1-9a-fA-F][0-9a-fA-F]{0,63})\Z")
HEX = re.compile(r"0x(?:[0-9a-fA-F]{2})*\Z")
SLOT = re.compile(r"0x[0-9a-fA-F]{1,64}\Z")
TAGS = ("latest", "pending", "safe", "finalized", "earliest")
MAX_CHOICES = 1_000
"""Addresses of a filter, choices of a topic, slots of a proof."""
CALL_FIELDS = {"from", "to", "gas", "value", "data", "input"}
IGNORED_CALL_FIELDS = {
    "gasPrice", "maxFeePerGas", "maxPriorityFeePerGas", "nonce", "type", "chainId", "accessList",
}  # fmt: skip
"""Taken and not looked at: gas costs nothing, and a call has no place in an order."""

Tag = Literal["latest", "pending", "safe", "finalized", "earliest"]


@dataclass(frozen=True, slots=True)
class AtTag:
    """A block by its name."""

    tag: Tag


@dataclass(frozen=True, slots=True)
class AtNumber:
    """A block by its height."""

    number: int


@dataclass(frozen=True, slots=True)
class AtHash:
    """A block by its hash."""

    hash: bytes


BlockRef = AtTag | AtNumber | AtHash
LATEST = AtTag("latest")


@dataclass(frozen=True, slots=True)
class LogRequest:
    """What ``eth_getLogs`` asks for. Empty choices mean any."""

    first: BlockRef
    last: BlockRef
    addresses: tuple[bytes, ...]
    topics: tuple[tuple[bytes, ...], ...]


def quantity(value: object) -> int:
    """Decode a number of up to 256 bits: hex without leading zeros."""
    if not isinstance(value, str) or not QUANTITY.match(value):
        raise invalid_params(f"expected a hex quantity such as 0x1f, got {_short(value)}")
    return int(value, 16)


def hex_data(value: object) -> bytes:
    """Decode bytes: an even number of hex digits after 0x."""
    if not isinstance(value, str) or not HEX.match(value):
        raise invalid_params(f"expected 0x and an even number of hex digits, got {_short(value)}")
    return bytes.fromhex(value[2:])


def address(value: object) -> bytes:
    """Decode an address: 20 bytes."""
    return _sized(value, 20, "an address")


def hash32(value: object) -> bytes:
    """Decode a hash: 32 bytes."""
    return _sized(value, 32, "a hash")


def slot(value: object) -> int:
    """Decode a storage slot, given as a quantity or as 32 bytes."""
    if not isinstance(value, str) or not SLOT.match(value):
        raise invalid_params(f"expected a storage slot of up to 32 bytes, got {_short(value)}")
    return int(value, 16)


def slots(value: object) -> tuple[int, ...]:
    """Decode a list of storage slots."""
    return tuple(slot(item) for item in _listed(value))


def flag(value: object) -> bool:
    """Decode true or false."""
    if not isinstance(value, bool):
        raise invalid_params(f"expected true or false, got {_short(value)}")
    return value


def count(value: object) -> int:
    """Decode a small number, as a quantity or (as some clients write it) a JSON integer."""
    return value if type(value) is int and value >= 0 else quantity(value)


def percentiles(value: object) -> tuple[float, ...]:
    """Decode the rising percentiles of ``eth_feeHistory``."""
    items = _listed(value)
    if not all(type(item) in (int, float) and 0 <= item <= 100 for item in items):  # type: ignore[operator]
        raise invalid_params("percentiles are numbers from 0 to 100")
    if items != sorted(items):  # type: ignore[type-var]
        raise invalid_params("percentiles must not fall")
    return tuple(items)  # type: ignore[arg-type]


def number_or_tag(value: object) -> BlockRef:
    """Decode a block number or a tag."""
    if isinstance(value, str) and value in TAGS:
        return AtTag(value)  # type: ignore[arg-type]
    return AtNumber(quantity(value))


def block_ref(value: object) -> BlockRef:
    """Decode a block number, a tag, or an object naming one block (EIP-1898)."""
    if not isinstance(value, dict):
        return number_or_tag(value)
    keys = set(value) - {"requireCanonical"}
    if keys == {"blockNumber"}:
        return number_or_tag(value["blockNumber"])
    if keys == {"blockHash"}:
        flag(value.get("requireCanonical", False))  # every block here is canonical
        return AtHash(hash32(value["blockHash"]))
    raise invalid_params("a block is named by either blockNumber or blockHash (EIP-1898)")


def call_request(value: object) -> CallRequest:
    """Decode the transaction object of ``eth_call`` and ``eth_estimateGas``."""
    fields = _object(value, CALL_FIELDS | IGNORED_CALL_FIELDS)
    given = {name: item for name, item in fields.items() if item is not None}
    return CallRequest(
        sender=address(given.get("from", "0x" + "00" * 20)),
        to=address(given["to"]) if given.get("to", "0x") != "0x" else b"",
        gas=quantity(given["gas"]) if "gas" in given else None,
        value=quantity(given.get("value", "0x0")),
        data=_call_data(given),
    )


def log_request(value: object) -> LogRequest:
    """Decode the filter of ``eth_getLogs``."""
    fields = _object(value, {"fromBlock", "toBlock", "address", "topics", "blockHash"})
    given = {name: item for name, item in fields.items() if item is not None}
    first, last = _range(given)
    return LogRequest(first, last, _addresses(given.get("address")), _topics(given.get("topics")))


def _range(given: dict[str, object]) -> tuple[BlockRef, BlockRef]:
    if "blockHash" not in given:
        first = number_or_tag(given.get("fromBlock", "latest"))
        return first, number_or_tag(given.get("toBlock", "latest"))
    if "fromBlock" in given or "toBlock" in given:
        raise invalid_params("blockHash excludes fromBlock and toBlock")
    block = AtHash(hash32(given["blockHash"]))
    return block, block


def _addresses(value: object) -> tuple[bytes, ...]:
    if value is None:
        return ()
    return tuple(address(a) for a in _listed(value)) if isinstance(value, list) else (address(value),)


def _topics(value: object) -> tuple[tuple[bytes, ...], ...]:
    items = [] if value is None else _listed(value)
    if len(items) > 4:
        raise invalid_params("a log has at most 4 topics")
    return tuple(_topic(item) for item in items)


def _topic(value: object) -> tuple[bytes, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        return (hash32(value),)
    if any(item is None for item in value):
        return ()  # any of these, or any at all
    return tuple(hash32(item) for item in _listed(value))


def _call_data(given: dict[str, object]) -> bytes:
    sent = [hex_data(given[name]) for name in ("input", "data") if name in given]
    if len(set(sent)) > 1:
        raise invalid_params("input and data differ; send one")
    return sent[0] if sent else b""


def _object(value: object, known: set[str]) -> dict[str, object]:
    if not isinstance(value, dict):
        raise invalid_params(f"expected an object, got {_short(value)}")
    if unknown := set(value) - known:
        raise invalid_params(f"unknown fields {sorted(unknown)}")
    return value


def _listed(value: object) -> list[object]:
    if not isinstance(value, list) or len(value) > MAX_CHOICES:
        raise invalid_params(f"expected a list of at most {MAX_CHOICES}, got {_short(value)}")
    return value


def _sized(value: object, size: int, what: str) -> bytes:
    decoded = hex_data(value)
    if len(decoded) != size:
        raise invalid_params(f"expected {what} of {size} bytes, got {len(decoded)}")
    return decoded


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
