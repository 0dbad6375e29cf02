"""What a block's header commits to, recomputed: its hash, its receipts' root, its bloom filter.

RLP and the Merkle-Patricia trie are written out here (Ethereum yellow paper, appendices B and D), so that
nothing of the proof rests on code that also speaks to the endpoint.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

os.environ.setdefault("ETH_HASH_BACKEND", "pysha3")

from eth_hash.auto import keccak

from sealtrace.protocol.identifiers import Address, Hex32, UnixSeconds, hex32

QBFT_MIX: Final = "0x63746963616c2062797a616e74696e65206661756c7420746f6c6572616e6365"

_BYTES, _NUMBER = False, True
_FIELDS: Final = (  # in the order of the header's RLP; what later forks added may be absent
    ("parentHash", _BYTES),
    ("sha3Uncles", _BYTES),
    ("miner", _BYTES),
    ("stateRoot", _BYTES),
    ("transactionsRoot", _BYTES),
    ("receiptsRoot", _BYTES),
    ("logsBloom", _BYTES),
    ("difficulty", _NUMBER),
    ("number", _NUMBER),
    ("gasLimit", _NUMBER),
    ("gasUsed", _NUMBER),
    ("timestamp", _NUMBER),
    ("extraData", _BYTES),
    ("mixHash", _BYTES),
    ("nonce", _BYTES),
    ("baseFeePerGas", _NUMBER),
    ("withdrawalsRoot", _BYTES),
    ("blobGasUsed", _NUMBER),
    ("excessBlobGas", _NUMBER),
    ("parentBeaconBlockRoot", _BYTES),
    ("requestsHash", _BYTES),
)
_REQUIRED = 15

Json = Mapping[str, Any]
Nibbles = Sequence[int]


class MalformedBlock(ValueError):
    """A block, receipt or log lacks a field, or has one that is not hexadecimal: use another endpoint."""


@dataclass(frozen=True, slots=True)
class RawLog:
    """A log exactly as emitted, and its place."""

    block: int
    index: int
    transaction: Hex32
    address: Address
    topics: tuple[str, ...]
    data: str


@dataclass(frozen=True, slots=True)
class Header:
    """What is needed of a header. ``claimed`` is the hash the endpoint gives, ``computed`` the real one, that
    of ``encoded``."""

    number: int
    parent: Hex32
    timestamp: UnixSeconds
    receipts_root: Hex32
    bloom: bytes
    claimed: Hex32
    computed: Hex32
    encoded: bytes
    qbft: bool


def read_header(block: object) -> Header:
    """Read a block as JSON-RPC shows it, and hash its header.

    Raises:
        MalformedBlock: it is none.
    """
    if not isinstance(block, dict):
        raise MalformedBlock(f"a block was asked for, and {type(block).__name__} came")
    if max(number(block, "timestamp"), number(block, "number")) >= 2**53:  # what JSON carries exactly
        raise MalformedBlock("a block from beyond the end of time")
    encoded = header_rlp(block)
    return Header(
        number=number(block, "number"),
        parent=hex32(octets(block, "parentHash")),
        timestamp=UnixSeconds(number(block, "timestamp")),
        receipts_root=hex32(octets(block, "receiptsRoot")),
        bloom=octets(block, "logsBloom"),
        claimed=hex32(octets(block, "hash")),
        computed=hex32(keccak(encoded)),
        encoded=encoded,
        qbft=block.get("mixHash") == QBFT_MIX,
    )


def header_rlp(block: Json) -> bytes:
    """The header of ``block`` as it is hashed: the block's hash is its Keccak-256.

    Raises:
        MalformedBlock: a field that every header has is missing.
    """
    fields = []
    for place, (name, numeric) in enumerate(_FIELDS):
        if block.get(name) is None and place >= _REQUIRED:
            continue
        value = _minimal(number(block, name)) if numeric else octets(block, name)
        fields.append(rlp_bytes(value))
    return rlp_list(fields)


def receipts_root(receipts: Sequence[Json]) -> Hex32:
    """The root of the trie of ``receipts``, all of one block and in order.

    Raises:
        MalformedBlock: one of them is none.
    """
    items = sorted((_nibbles(rlp_bytes(_minimal(i))), receipt_rlp(each)) for i, each in enumerate(receipts))
    return hex32(keccak(_trie(items, 0) if items else b"\x80"))


def logs_of(receipts: Sequence[Json], block: int) -> list[RawLog]:
    """The logs of a block's receipts, numbered as they come: what the endpoint calls them is not asked.

    Raises:
        MalformedBlock: one of them is none.
    """
    pairs = [(receipt, log) for receipt in receipts for log in _logs(receipt)]
    return [
        _raw_log(log, block, index, hex32(octets(receipt, "transactionHash")))
        for index, (receipt, log) in enumerate(pairs)
    ]


def read_log(log: object) -> RawLog:
    """Read a log as ``eth_getLogs`` shows it.

    Raises:
        MalformedBlock: it is none.
    """
    if not isinstance(log, dict):
        raise MalformedBlock("a log is no object")
    transaction = hex32(octets(log, "transactionHash"))
    return _raw_log(log, number(log, "blockNumber"), number(log, "logIndex"), transaction)


def may_hold(bloom: bytes, masks: Sequence[int]) -> bool:
    """Whether a bloom filter allows for any of what the ``masks`` stand for; it never wrongly excludes."""
    bits = int.from_bytes(bloom, "big")
    return any(bits & mask == mask for mask in masks)


def bloom_mask(item: bytes) -> int:
    """The three bits that ``item`` sets in a block's bloom filter (yellow paper, 4.3.1)."""
    digest = keccak(item)
    places = (int.from_bytes(digest[i : i + 2], "big") & 2047 for i in (0, 2, 4))
    mask = 0
    for place in places:
        mask |= 1 << place
    return mask


def number(document: Json, name: str) -> int:
    """The quantity ``name`` of a JSON-RPC object.

    Raises:
        MalformedBlock: it is none.
    """
    value = document.get(name)
    try:
        if isinstance(value, str) and value.startswith("0x") and len(value) <= 66:
            return int(value, 16)
    except ValueError:
        pass
    raise MalformedBlock(f"{name} is {str(value)[:40]!r}, not a quantity")


def octets(document: Json, name: str) -> bytes:
    """The bytes ``name`` of a JSON-RPC object.

    Raises:
        MalformedBlock: they are none.
    """
    return _octets(document.get(name), name)


def _octets(value: object, name: str) -> bytes:
    try:
        if isinstance(value, str) and value.startswith("0x"):
            return bytes.fromhex(value[2:])
    except ValueError:
        pass
    raise MalformedBlock(f"{name} is {str(value)[:40]!r}, not bytes in hexadecimal")


def rlp_bytes(content: bytes) -> bytes:
    """The RLP of a byte string."""
    return content if len(content) == 1 and content[0] < 128 else _headed(content, 128)


def rlp_list(items: Sequence[bytes]) -> bytes:
    """The RLP of a list of encoded items."""
    return _headed(b"".join(items), 192)


def _headed(content: bytes, kind: int) -> bytes:
    if len(content) < 56:
        return bytes([kind + len(content)]) + content
    length = _minimal(len(content))
    return bytes([kind + 55 + len(length)]) + length + content


def _minimal(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def _nibbles(content: bytes) -> tuple[int, ...]:
    return tuple(nibble for byte in content for nibble in (byte >> 4, byte & 15))


def receipt_rlp(receipt: object) -> bytes:
    """A receipt as the trie holds it (EIP-2718: one that is typed begins with its type).

    Raises:
        MalformedBlock: it is none.
    """
    if not isinstance(receipt, dict):
        raise MalformedBlock("a receipt is no object")
    logs = [_log(log) for log in _logs(receipt)]
    fields = [
        rlp_bytes(_minimal(number(receipt, "status"))),
        rlp_bytes(_minimal(number(receipt, "cumulativeGasUsed"))),
        rlp_bytes(octets(receipt, "logsBloom")),
        rlp_list(logs),
    ]
    kind = number(receipt, "type") if "type" in receipt else 0
    if kind > 127:
        raise MalformedBlock(f"a receipt of type {kind}")
    return (bytes([kind]) if kind else b"") + rlp_list(fields)


def _log(log: Json) -> bytes:
    topics = [rlp_bytes(_octets(topic, "topic")) for topic in _topics(log)]
    return rlp_list([rlp_bytes(octets(log, "address")), rlp_list(topics), rlp_bytes(octets(log, "data"))])


def _logs(receipt: Json) -> list[Json]:
    logs = receipt.get("logs")
    if not isinstance(logs, list) or not all(isinstance(log, dict) for log in logs):
        raise MalformedBlock("a receipt's logs are no list of objects")
    return logs


def _topics(log: Json) -> list[object]:
    topics = log.get("topics")
    if not isinstance(topics, list) or len(topics) > 4:
        raise MalformedBlock("a log's topics are no list of at most four")
    return topics


def _raw_log(log: Json, block: int, index: int, transaction: Hex32) -> RawLog:
    address = octets(log, "address")
    if len(address) != 20:
        raise MalformedBlock("a log's address has not 20 bytes")
    topics = tuple("0x" + _octets(topic, "topic").hex() for topic in _topics(log))
    data = "0x" + octets(log, "data").hex()
    return RawLog(block, index, transaction, Address("0x" + address.hex()), topics, data)


def _trie(items: list[tuple[tuple[int, ...], bytes]], depth: int) -> bytes:
    """The RLP of the trie node that holds ``items``, sorted, whose keys agree up to ``depth``."""
    if len(items) == 1:
        return rlp_list([rlp_bytes(_path(items[0][0][depth:], leaf=True)), rlp_bytes(items[0][1])])
    shared = _common(items[0][0], items[-1][0], depth)
    if shared > depth:
        extension = _path(items[0][0][depth:shared], leaf=False)
        return rlp_list([rlp_bytes(extension), _reference(_trie(items, shared))])
    value = rlp_bytes(items.pop(0)[1]) if len(items[0][0]) == depth else b"\x80"
    children = [b"\x80"] * 16
    for nibble, group in itertools.groupby(items, key=lambda item: item[0][depth]):
        children[nibble] = _reference(_trie(list(group), depth + 1))
    return rlp_list([*children, value])


def _common(first: Nibbles, last: Nibbles, depth: int) -> int:
    while depth < min(len(first), len(last)) and first[depth] == last[depth]:
        depth += 1
    return depth


def _path(nibbles: Nibbles, *, leaf: bool) -> bytes:
    odd = len(nibbles) & 1
    flag = 2 * leaf + odd
    padded = [flag, *nibbles] if odd else [flag, 0, *nibbles]
    return bytes(padded[i] << 4 | padded[i + 1] for i in range(0, len(padded), 2))


def _reference(node: bytes) -> bytes:
    return node if len(node) < 32 else b"\xa0" + keccak(node)
