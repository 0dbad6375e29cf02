"""What a block's header commits to, recomputed: its hash, its receipts' root, its bloom filter.

RLP and the Merkle-Patricia trie are written out here (Ethereum yellow paper, appendices B and D), so that
nothing of the proof rests on code that also speaks to the endpoint.
"""

from __future__ import annotations

import itertools
import os
import re
from binascii import unhexlify
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from typing import Any, Final

import msgspec

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
_bare = itemgetter(slice(2, None))
"""The digits after ``0x``."""
_DIGITS, _CAPITALS = b"0123456789abcdef", b"ABCDEF"
_BLOOM_HEAD, _TOPIC_HEAD, _ADDRESS_HEAD = "b90100", "a0", "94"
"""What stands before 256, 32 and 20 bytes in RLP."""
_QUANTITY = re.compile(r"0x[0-9a-fA-F]{1,64}")
MAX_TOPICS: Final = 4

Json = Mapping[str, Any]
Nibbles = Sequence[int]


class MalformedBlock(ValueError):
    """A block, receipt or log lacks a field, or has one that is not hexadecimal: use another endpoint."""


class Emitted(msgspec.Struct, frozen=True, gc=False):
    """A log in a receipt, as JSON-RPC shows it; what the endpoint says of its place is not read."""

    address: str
    topics: tuple[str, ...]
    data: str


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """A receipt as JSON-RPC shows it: what its block commits to, and whose it is."""

    transactionHash: str  # noqa: N815 - its name in JSON
    status: str
    cumulativeGasUsed: str  # noqa: N815
    logsBloom: str  # noqa: N815
    logs: tuple[Emitted, ...]
    type: str = "0x0"


class ToldLog(msgspec.Struct, frozen=True, gc=False):
    """A log as ``eth_getLogs`` shows it."""

    address: str
    topics: tuple[str, ...]
    data: str
    blockNumber: str  # noqa: N815
    logIndex: str  # noqa: N815
    transactionHash: str  # noqa: N815


class RawLog(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A log exactly as emitted, in lower-case hexadecimal, and its place."""

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


def read_receipts(receipts: object) -> list[Receipt]:
    """Read a block's receipts from the JSON of an answer; they are in form.

    Raises:
        MalformedBlock: they are none.
    """
    try:
        return in_form(msgspec.convert(receipts, list[Receipt]))
    except msgspec.ValidationError as cause:
        raise MalformedBlock(f"receipts were asked for: {cause}") from cause


def in_form(receipts: list[Receipt]) -> list[Receipt]:
    """A block's receipts in lower-case hexadecimal, each part of the size it must have.

    Raises:
        MalformedBlock: a part is not hexadecimal, or of another size.
    """
    logs = [log for receipt in receipts for log in receipt.logs]
    hashes = [receipt.transactionHash for receipt in receipts]
    if _hold_to_form(logs, hashes, [receipt.logsBloom for receipt in receipts]):
        return receipts
    return msgspec.convert(_lower(msgspec.to_builtins(receipts)), list[Receipt])


def receipts_root(encoded: Sequence[bytes]) -> Hex32:
    """The root of the trie of receipts, as :func:`receipts_rlp` gives them, all of one block and in order."""
    items = sorted((_place(i), each) for i, each in enumerate(encoded))
    return hex32(keccak(_trie(items, 0) if items else b"\x80"))


def logs_of(receipts: Sequence[Receipt], block: int, ours: Container[str]) -> list[RawLog]:
    """The logs of the contracts ``ours`` in a block's receipts, numbered as they come among all of the block:
    what the endpoint calls them is not asked. The receipts are :func:`in_form`."""
    found, before = [], 0
    for receipt in receipts:
        transaction = Hex32(receipt.transactionHash)
        for index, log in enumerate(receipt.logs, before):
            if log.address in ours:
                found.append(RawLog(block, index, transaction, Address(log.address), log.topics, log.data))
        before += len(receipt.logs)
    return found


def read_logs(logs: Sequence[ToldLog]) -> list[RawLog]:
    """What ``eth_getLogs`` shows, in our spelling.

    Raises:
        MalformedBlock: a part of it is not hexadecimal, or of another size.
    """
    if not _hold_to_form(logs, [log.transactionHash for log in logs], []):
        logs = msgspec.convert(_lower(msgspec.to_builtins(logs)), list[ToldLog])
    blocks = quantities([log.blockNumber for log in logs], "blockNumber")
    indexes = quantities([log.logIndex for log in logs], "logIndex")
    return [
        RawLog(block, index, Hex32(log.transactionHash), Address(log.address), log.topics, log.data)
        for block, index, log in zip(blocks, indexes, logs, strict=True)
    ]


def _lower(value: Any) -> Any:
    """JSON with every text in it in lower case."""
    if isinstance(value, str):
        return value.lower()
    if isinstance(value, dict):
        return {name: _lower(each) for name, each in value.items()}
    return [_lower(each) for each in value]


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
    return quantity(document.get(name), name)


@lru_cache(maxsize=4096)
def _quantity(text: str) -> int | None:
    return int(text, 16) if _QUANTITY.fullmatch(text) else None


def quantity(value: object, name: str) -> int:
    """The number that ``value``, called ``name``, is in JSON-RPC.

    Raises:
        MalformedBlock: it is none.
    """
    found = _quantity(value) if isinstance(value, str) else None
    if found is None:
        raise MalformedBlock(f"{name} is {str(value)[:40]!r}, not a quantity")
    return found


def quantities(texts: Sequence[str], name: str) -> list[int]:
    """Many numbers, each as :func:`quantity` reads it."""
    found = [each for each in map(_quantity, texts) if each is not None]
    return found if len(found) == len(texts) else [quantity(text, name) for text in texts]


def octets(document: Json, name: str) -> bytes:
    """The bytes ``name`` of a JSON-RPC object.

    Raises:
        MalformedBlock: they are none.
    """
    return _octets(document.get(name), name)


def _octets(value: object, name: str) -> bytes:
    try:
        if isinstance(value, str) and value.startswith("0x"):
            found = bytes.fromhex(value[2:])
            if 2 * len(found) == len(value) - 2:  # it skips spaces
                return found
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
    return _head_octets(len(content), kind) + content


@lru_cache(maxsize=4096)
def _head_octets(size: int, kind: int) -> bytes:
    return bytes.fromhex(_head(size, kind))


@lru_cache(maxsize=4096)
def _head(size: int, kind: int) -> str:
    """What stands before a string or a list of that size, in hexadecimal."""
    if size < 56:
        return f"{kind + size:02x}"
    length = _minimal(size)
    return f"{kind + 55 + len(length):02x}{length.hex()}"


def _minimal(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def _nibbles(content: bytes) -> tuple[int, ...]:
    return tuple(nibble for byte in content for nibble in (byte >> 4, byte & 15))


def receipts_rlp(receipts: Sequence[Receipt]) -> list[bytes]:
    """Receipts as the trie holds them (EIP-2718: one that is typed begins with its type). They are text until
    here, and most of their RLP is that text: it is put together as text. They are :func:`in_form`.

    Raises:
        MalformedBlock: a number of theirs is none.
    """
    return [_receipt_rlp(each) for each in receipts]


def _receipt_rlp(receipt: Receipt) -> bytes:
    kind = quantity(receipt.type, "type")
    if kind > 127:
        raise MalformedBlock(f"a receipt of type {kind}")
    logs = "".join([_log_in_hex(log) for log in receipt.logs])
    fields = (
        _number_in_hex(quantity(receipt.status, "status")),
        _number_in_hex(quantity(receipt.cumulativeGasUsed, "cumulativeGasUsed")),
        _BLOOM_HEAD,
        receipt.logsBloom[2:],
        _head(len(logs) // 2, 192),
        logs,
    )
    text = "".join(fields)
    return unhexlify((f"{kind:02x}" if kind else "") + _head(len(text) // 2, 192) + text)


def _log_in_hex(log: Emitted) -> str:
    topics, data = log.topics, log.data
    whole, listed, told = _heads(len(topics), len(data) // 2 - 1, data if len(data) == 4 else "")
    return f"{whole}{log.address[2:]}{listed}{_TOPIC_HEAD.join(map(_bare, topics))}{told}{data[2:]}"


@lru_cache(maxsize=1024)
def _heads(topics: int, size: int, byte: str) -> tuple[str, str, str]:
    """What stands before a log's address, its first topic and its data. It depends on their lengths alone,
    but for data of one ``byte``, which may stand without."""
    told = "" if byte and int(byte, 16) < 128 else _head(size, 128)
    listed = _head(33 * topics, 192)
    whole = 21 + len(listed) // 2 + 33 * topics + len(told) // 2 + size
    return _head(whole, 192) + _ADDRESS_HEAD, listed + (_TOPIC_HEAD if topics else ""), told


def _number_in_hex(value: int) -> str:
    """The RLP of a number."""
    if value < 128:
        return f"{value:02x}" if value else "80"
    digits = f"{value:x}"
    padded = "0" + digits if len(digits) & 1 else digits
    return _head(len(padded) // 2, 128) + padded


def _hold_to_form(logs: Sequence[Emitted | ToldLog], hashes: Sequence[str], blooms: Sequence[str]) -> bool:
    """Hold all parts of many logs at once to being ``0x`` and hexadecimal, each of the size it must have;
    whether all is in lower case already. What is told many times, as most topics are, is looked at once."""
    addresses = {log.address for log in logs}
    topics = {topic for log in logs for topic in log.topics}
    topics.update(hashes)
    data = [log.data for log in logs]
    sizes = (("addresses", addresses, 42), ("topics or hashes", topics, 66), ("blooms", blooms, 514))
    for name, parts, size in sizes:
        if set(map(len, parts)) - {size}:
            raise MalformedBlock(f"{name} that are not all of {size // 2 - 1} bytes")
    if max([len(log.topics) for log in logs], default=0) > MAX_TOPICS:
        raise MalformedBlock(f"a log with more than {MAX_TOPICS} topics")
    lower = _in_lower_hexadecimal([*addresses, *topics, *blooms, *data])
    if any(size % 2 for size in set(map(len, data))):
        raise MalformedBlock("a log whose data ends in half a byte")
    return lower


def _in_lower_hexadecimal(parts: Sequence[str]) -> bool:
    """Whether no letter in ``parts`` is upper case; each must be ``0x`` and hexadecimal digits. All are
    looked at in one go: each begins with ``0x``, and all digits taken away, one x is left of each.

    Raises:
        MalformedBlock: a part is something else.
    """
    text, left = "".join(parts), b"x" * len(parts)
    if text.isascii() and {part[:2] for part in parts} <= {"0x"}:
        found = text.encode().translate(None, _DIGITS)
        if found == left:
            return True
        if found.translate(None, _CAPITALS) == left:
            return False
    raise MalformedBlock("a log or a receipt of which a part is not 0x and hexadecimal")


@lru_cache(maxsize=4096)
def _place(index: int) -> tuple[int, ...]:
    """Where the trie has the receipt of that index."""
    return _nibbles(rlp_bytes(_minimal(index)))


def _trie(items: list[tuple[tuple[int, ...], bytes]], depth: int) -> bytes:
    """The RLP of the trie node that holds ``items``, sorted, whose keys agree up to ``depth``."""
    if len(items) == 1:
        return rlp_list([_path(items[0][0][depth:], leaf=True), rlp_bytes(items[0][1])])
    shared = _common(items[0][0], items[-1][0], depth)
    if shared > depth:
        extension = _path(items[0][0][depth:shared], leaf=False)
        return rlp_list([extension, _reference(_trie(items, shared))])
    value = rlp_bytes(items.pop(0)[1]) if len(items[0][0]) == depth else b"\x80"
    children = [b"\x80"] * 16
    for nibble, group in itertools.groupby(items, key=lambda item: item[0][depth]):
        children[nibble] = _reference(_trie(list(group), depth + 1))
    return rlp_list([*children, value])


def _common(first: Nibbles, last: Nibbles, depth: int) -> int:
    while depth < min(len(first), len(last)) and first[depth] == last[depth]:
        depth += 1
    return depth


@lru_cache(maxsize=4096)
def _path(nibbles: tuple[int, ...], *, leaf: bool) -> bytes:
    """The RLP of the nibbles that a leaf or an extension has for itself."""
    odd = len(nibbles) & 1
    flag = 2 * leaf + odd
    padded = [flag, *nibbles] if odd else [flag, 0, *nibbles]
    return rlp_bytes(bytes(padded[i] << 4 | padded[i + 1] for i in range(0, len(padded), 2)))


def _reference(node: bytes) -> bytes:
    return node if len(node) < 32 else b"\xa0" + keccak(node)
