#!/usr/bin/env python3
"""Check a Sealtrace audit bundle: without Sealtrace, without a network, with Python 3.11 alone.

    python3 -I verify_report.py BUNDLE.tar --anchor BLOCKHASH
    python3 -I verify_report.py BUNDLE.tar --validators ADDRESS,ADDRESS,...

BLOCKHASH is the hash of the last block of the bundle, learnt from somebody other than who made the bundle.
On a chain that its validators seal (QBFT, IBFT 2.0), the addresses of those of the bundle's first block serve
as well: then the seals of every block are checked, and who seals is followed from block to block.
Where the package pycryptodome (or safe-pysha3) is installed, hashing is some fifty times faster; with
coincurve, checking seals is.

Exit code 0: proved. 1: something contradicts something. 2: nothing does, but not all could be proved.
3: this is no bundle that can be read.

How it goes: the archive is read once, front to back. Every block's header is hashed and must be the parent
that the next one names, up to BLOCKHASH; where seals are checked, it must be sealed by two thirds. Every
block either excludes the contracts by its bloom filter, or its receipts are there and rebuild the header's
receipts root. From the events in these receipts the tasks are counted again, step by step, and held against
the report, both ways. Every evidence log's Merkle root is rebuilt at each size that its node anchored on the
chain.

The bundle may come from an enemy: every size, number and depth is bounded before memory is spent on it.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import itertools
import json
import math
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Final, Never

VERSION: Final = "sealtrace.audit-bundle/1"
REPORT_VERSION: Final = "sealtrace.report/1"

MAX_MANIFEST, MAX_REPORT, MAX_STATEMENT = 8 << 20, 64 << 20, 2 << 20  # bytes
MAX_BLOCK, MAX_LOG, MAX_RECORD = 32 << 20, 1 << 30, 256 << 10  # bytes
MAX_RECORDS = 2_000_000  # lines of one log
MAX_LIST = 200_000  # entries of one RLP list
MAX_DEPTH, MAX_COMMAS, MAX_NESTS = 64, 2_000_000, 1_000_000  # of one JSON text
MAX_KEPT = 1_000_000  # facts of tasks and checkpoints held in memory
MAX_CONTRACTS, MAX_MEMBERS = 1_000, 22_000
MAX_VALIDATORS, MAX_UNSEALED = (
    1_000,
    20,
)  # of one block; blocks whose seals do not hold, until none is checked
MAX_TOLD = 20  # contradictions written out; the others are counted


class Unreadable(Exception):
    """This is no bundle of an audit, or one beyond what is read: ask who made it for another."""


# Keccak-256 (the Keccak submission's padding, not that of SHA3-256) --------------------------------------

_MASK = (1 << 64) - 1


def _constants() -> list[int]:
    found, state = [], 1
    for _ in range(24):
        word = 0
        for j in range(7):
            if state & 1:
                word |= 1 << ((1 << j) - 1)
            state = (state << 1) ^ (0x171 if state & 0x80 else 0)
        found.append(word)
    return found


_CONSTANTS = _constants()


def _permuted(a: list[int]) -> list[int]:
    """Keccak-f[1600] on 25 words, the word (x, y) at x + 5 y."""
    for constant in _CONSTANTS:
        c = [a[x] ^ a[x + 5] ^ a[x + 10] ^ a[x + 15] ^ a[x + 20] for x in range(5)]
        d = [c[x - 1] ^ _turned(c[(x + 1) % 5], 1) for x in range(5)]
        a = [word ^ d[i % 5] for i, word in enumerate(a)]
        x, y, moving = 1, 0, a[1]
        for t in range(24):
            x, y = y, (2 * x + 3 * y) % 5
            a[x + 5 * y], moving = _turned(moving, (t + 1) * (t + 2) // 2 % 64), a[x + 5 * y]
        rows = [a[i : i + 5] for i in range(0, 25, 5)]
        a = [row[i] ^ (~row[(i + 1) % 5] & _MASK & row[(i + 2) % 5]) for row in rows for i in range(5)]
        a[0] ^= constant
    return a


def _turned(word: int, by: int) -> int:
    return (word << by | word >> (64 - by)) & _MASK


def slow_keccak(data: bytes) -> bytes:
    """Keccak-256, written out."""
    padded = bytearray(data + bytes(136 - len(data) % 136))
    padded[len(data)] ^= 0x01
    padded[-1] ^= 0x80
    state = [0] * 25
    for start in range(0, len(padded), 136):
        for i in range(17):
            state[i] ^= int.from_bytes(padded[start + 8 * i : start + 8 * i + 8], "little")
        state = _permuted(state)
    return b"".join(word.to_bytes(8, "little") for word in state[:4])


def _fastest() -> Callable[[bytes], bytes]:
    try:
        new = importlib.import_module("sha3").keccak_256
        return lambda data: bytes(new(data).digest())
    except (ImportError, AttributeError):
        pass
    try:
        crypto = importlib.import_module("Crypto.Hash.keccak")
        return lambda data: bytes(crypto.new(digest_bits=256, data=data).digest())
    except (ImportError, AttributeError):
        return slow_keccak


keccak = _fastest()


# RLP, the trie of receipts, bloom filters (Ethereum yellow paper, appendices B and D, 4.3.1) --------------


def rlp_head(data: bytes, at: int = 0) -> tuple[bool, int, int]:
    """Whether the item at ``at`` is a list, where its content begins, and where it ends."""
    if at >= len(data):
        raise Unreadable("RLP that ends too early")
    first = data[at]
    if first < 0x80:
        return False, at, at + 1
    is_list = first >= 0xC0
    short = first - (0xC0 if is_list else 0x80)
    if short < 56:
        begin, length = at + 1, short
    else:
        begin = at + 1 + short - 55
        written = data[at + 1 : begin]
        length = int.from_bytes(written, "big")
        if len(written) != short - 55 or length < 56 or written[0] == 0:
            raise Unreadable("RLP with a length not written in the shortest way")
    if begin + length > len(data):
        raise Unreadable("RLP that ends too early")
    if not is_list and length == 1 and data[begin] < 0x80:
        raise Unreadable("RLP of one byte not written in the shortest way")
    return is_list, begin, begin + length


def rlp_items(encoded: bytes, what: str) -> list[bytes]:
    """The items of a list, each still encoded."""
    is_list, at, end = rlp_head(encoded)
    if not is_list or end != len(encoded):
        raise Unreadable(f"{what}: no RLP list")
    found = []
    while at < end:
        after = rlp_head(encoded, at)[2]
        found.append(encoded[at:after])
        at = after
        if len(found) > MAX_LIST:
            raise Unreadable(f"{what}: more than {MAX_LIST} entries")
    return found


def rlp_string(encoded: bytes, what: str, size: int | None = None) -> bytes:
    """The content of a byte string, of ``size`` bytes where that is given."""
    is_list, begin, end = rlp_head(encoded)
    if is_list or end != len(encoded) or size not in (None, end - begin):
        raise Unreadable(f"{what}: not the bytes that belong there")
    return encoded[begin:end]


def rlp_number(encoded: bytes, what: str) -> int:
    """A number as a header has it."""
    content = rlp_string(encoded, what)
    if len(content) > 8 or content[:1] == b"\0":
        raise Unreadable(f"{what}: no number")
    return int.from_bytes(content, "big")


def rlp(content: bytes, offset: int = 0x80) -> bytes:
    """The RLP of a byte string; with ``offset`` 0xC0, of a list whose items are joined in ``content``."""
    if offset == 0x80 and len(content) == 1 and content[0] < 0x80:
        return content
    if len(content) < 56:
        return bytes([offset + len(content)]) + content
    length = len(content).to_bytes((len(content).bit_length() + 7) // 8, "big")
    return bytes([offset + 55 + len(length)]) + length + content


def receipts_root(receipts: list[bytes]) -> bytes:
    """The root of the trie that holds the receipts under the RLP of their places."""
    if not receipts:
        return keccak(rlp(b""))
    keys = (rlp(i.to_bytes((i.bit_length() + 7) // 8, "big")) for i in range(len(receipts)))
    return keccak(_node(sorted((key.hex(), value) for key, value in zip(keys, receipts, strict=True)), 0))


def _node(pairs: list[tuple[str, bytes]], depth: int) -> bytes:
    """The trie node of ``pairs``, whose keys agree in their first ``depth`` hexadecimal digits."""
    first, last = pairs[0][0], pairs[-1][0]
    if len(pairs) == 1:
        return rlp(rlp(_path(first[depth:], leaf=True)) + rlp(pairs[0][1]), 0xC0)
    same = depth
    while first[same] == last[same]:  # no key of a place begins another
        same += 1
    if same > depth:
        return rlp(rlp(_path(first[depth:same], leaf=False)) + _child(pairs, same), 0xC0)
    children = {
        digit: _child(list(group), depth + 1)
        for digit, group in itertools.groupby(pairs, key=lambda pair: pair[0][depth])
    }
    return rlp(b"".join(children.get(digit, rlp(b"")) for digit in "0123456789abcdef") + rlp(b""), 0xC0)


def _child(pairs: list[tuple[str, bytes]], depth: int) -> bytes:
    node = _node(pairs, depth)
    return node if len(node) < 32 else rlp(keccak(node))


def _path(digits: str, *, leaf: bool) -> bytes:
    odd = len(digits) % 2
    return bytes.fromhex(f"{2 * leaf + odd:x}" + ("" if odd else "0") + digits)


def bloom_bits(address: bytes) -> int:
    """The three bits that an address sets in a block's bloom filter of 2048."""
    digest = keccak(address)
    bits = 0
    for i in (0, 2, 4):
        bits |= 1 << (int.from_bytes(digest[i : i + 2], "big") % 2048)
    return bits


# Signatures over secp256k1 (SEC 1, 4.1.6): from a signature to who made it --------------------------------

_P = 2**256 - 2**32 - 977
_N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_G = (
    0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
    0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8,
)
Point = tuple[int, int, int]  # (x, y, z) stands for (x / z^2, y / z^3); z = 0 is the point at infinity


def _doubled(p: Point) -> Point:
    x, y, z = p
    a, b = y * y % _P, 3 * x * x % _P
    c = 4 * x * a % _P
    x2 = (b * b - 2 * c) % _P
    return x2, (b * (c - x2) - 8 * a * a) % _P, 2 * y * z % _P


def _added(p: Point, q: Point) -> Point:
    if not p[2] or not q[2]:
        return q if not p[2] else p
    zp, zq = p[2] * p[2] % _P, q[2] * q[2] % _P
    a, b = p[0] * zq % _P, q[0] * zp % _P
    c, d = p[1] * zq * q[2] % _P, q[1] * zp * p[2] % _P
    if a == b:
        return _doubled(p) if c == d else (1, 1, 0)
    h, r = b - a, d - c
    h2 = h * h % _P
    h3, v = h * h2 % _P, a * h2 % _P
    x = (r * r - h3 - 2 * v) % _P
    return x, (r * (v - x) - c * h3) % _P, h * p[2] * q[2] % _P


def slow_recovery(message: bytes, signature: bytes) -> bytes | None:
    """The public key, 64 bytes, that signed ``message`` with ``r || s || v``, written out; or none."""
    r, s = (int.from_bytes(signature[i : i + 32], "big") for i in (0, 32))
    odd, beyond = signature[64] & 1, signature[64] >> 1
    x = r + _N * beyond
    if not (0 < r < _N and 0 < s < _N) or signature[64] > 3 or x >= _P:
        return None
    square = (pow(x, 3, _P) + 7) % _P
    y = pow(square, (_P + 1) // 4, _P)
    if y * y % _P != square:
        return None
    first, second = (x, y if y & 1 == odd else _P - y, 1), (*_G, 1)
    inverse = pow(r, -1, _N)
    u, v = s * inverse % _N, -int.from_bytes(message, "big") * inverse % _N
    both, sum_ = _added(first, second), (1, 1, 0)
    for bit in range(255, -1, -1):
        sum_ = _doubled(sum_)
        each = (u >> bit & 1) + 2 * (v >> bit & 1)
        if each:
            sum_ = _added(sum_, (first, second, both)[each - 1])
    if not sum_[2]:
        return None
    z = pow(sum_[2], -1, _P)
    return b"".join(n.to_bytes(32, "big") for n in (sum_[0] * z * z % _P, sum_[1] * z * z * z % _P))


def _fastest_recovery() -> Callable[[bytes, bytes], bytes | None]:
    try:
        key = importlib.import_module("coincurve").PublicKey
    except (ImportError, AttributeError):
        return slow_recovery

    def recovered(message: bytes, signature: bytes) -> bytes | None:
        try:
            return bytes(key.from_signature_and_message(signature, message, hasher=None).format(False)[1:])
        except ValueError:
            return None

    return recovered


recover = _fastest_recovery()


# JSON that no two readers can take differently ------------------------------------------------------------

_TEXTS = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)', re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def read_json(text: bytes, what: str) -> dict[str, Any]:
    """An object, from text of bounded depth and number of values."""
    if text.count(b",") > MAX_COMMAS or text.count(b"[") + text.count(b"{") > MAX_NESTS:
        raise Unreadable(f"{what}: more than {MAX_COMMAS} values, or {MAX_NESTS} objects and lists")
    depth = 0
    for bracket in _TEXTS.sub(b"", text).translate(None, _NO_BRACKETS):
        depth += 1 if bracket in b"[{" else -1
        if depth > MAX_DEPTH:
            raise Unreadable(f"{what}: nested deeper than {MAX_DEPTH}")
    try:
        found = json.loads(
            text.decode("utf-8"),
            object_pairs_hook=_distinct,
            parse_constant=_no_constant,
            parse_int=_exact,
            parse_float=_finite,
        )
    except UnicodeDecodeError as cause:
        raise Unreadable(f"{what}: not UTF-8 at byte {cause.start}") from cause
    except (ValueError, RecursionError) as cause:
        raise Unreadable(f"{what}: not JSON: {shown(cause)}") from cause
    if not isinstance(found, dict):
        raise Unreadable(f"{what}: not a JSON object")
    return found


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise Unreadable("JSON: an object gives one key twice")
    return value


def _no_constant(name: str) -> Never:
    raise Unreadable(f"JSON: {name} is no value")


def _exact(digits: str) -> int:
    if len(digits) > 17 or abs(int(digits)) >= 2**53:
        raise Unreadable("JSON: a number beyond 2^53")
    return int(digits)


def _finite(digits: str) -> float:
    if len(digits) > 40 or not math.isfinite(float(digits)):
        raise Unreadable("JSON: a number without an exact value")
    return float(digits)


def part(document: Any, path: str, kind: type) -> Any:
    """What a document holds at a dotted path, which must be a ``kind``."""
    found = document
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    if type(found) is not kind:
        raise Unreadable(f"{path}: {shown(found)} is not what belongs there")
    return found


def shown(value: object) -> str:
    """Any value as short, plain text: what comes from a bundle must not reach a terminal as it is."""
    text = str(value)
    return plain(text[:160]) + ("..." if len(text) > 160 else "")


def plain(text: str) -> str:
    """Text of printable ASCII."""
    return "".join(c if " " <= c <= "~" else "?" for c in text)


def hexed(data: bytes) -> str:
    """Bytes as the report writes them."""
    return "0x" + data.hex()


# The archive: ustar, of members known by name, nothing else -----------------------------------------------

_NAME = re.compile(
    rb"manifest\.json|report\.json|blocks\.rlp|logs/0x[0-9a-f]{40}\.jsonl"
    rb"|statements/0x[0-9a-f]{64}\.json"
)


def tar_header(name: str, size: int) -> bytes:
    """The one header that a member of this name and size may have."""
    before = name.encode("ascii").ljust(100, b"\0") + b"0000644\0" + 2 * b"0000000\0"
    before += b"%011o\0" % size + b"00000000000\0"
    after = b"0" + bytes(100) + b"ustar\x0000" + bytes(64) + 2 * b"0000000\0" + bytes(167)
    return before + b"%06o\0 " % (sum(before) + 8 * ord(" ") + sum(after)) + after


class Member:
    """One file of the archive, read from its front, hashed on the way."""

    def __init__(self, stream: IO[bytes]) -> None:
        header = stream.read(512)
        name = header[:100].rstrip(b"\0")
        if not _NAME.fullmatch(name):
            raise Unreadable(f"a member that no bundle has: {shown(name)}")
        written = header[124:135]
        if not re.fullmatch(rb"[0-7]{11}", written):
            raise Unreadable(f"{shown(name)}: no size")
        self.name, self.size = name.decode("ascii"), int(written, 8)
        if header != tar_header(self.name, self.size):
            raise Unreadable(f"{self.name}: not a plain file, or a header that no bundle has")
        self._stream, self.left, self._hash = stream, self.size, hashlib.sha256()

    def _took(self, data: bytes) -> bytes:
        self.left -= len(data)
        self._hash.update(data)
        return data

    def read(self, count: int) -> bytes:
        """Exactly so many bytes; ask for no more than there is memory for."""
        data = self._stream.read(count) if count <= self.left else b""
        if len(data) != count:
            raise Unreadable(f"{self.name} ends too early")
        return self._took(data)

    def whole(self, limit: int) -> bytes:
        """All of it, if that is not more than ``limit``."""
        if self.size > limit:
            raise Unreadable(f"{self.name}: {self.size} bytes, more than {limit}")
        return self.read(self.size)

    def rlp_item(self) -> bytes:
        """The next RLP list, at most ``MAX_BLOCK`` long."""
        head = self.read(1)
        if head[0] < 0xC0:
            raise Unreadable(f"{self.name}: no RLP list")
        length = head[0] - 0xC0
        if length >= 56:
            head += self.read(length - 55)
            length = int.from_bytes(head[1:], "big")
        if length > MAX_BLOCK:
            raise Unreadable(f"{self.name}: a block of {length} bytes, more than {MAX_BLOCK}")
        return head + self.read(length)

    def lines(self) -> Iterator[bytes]:
        """Its lines with their ends, cut where one is longer than a record may be."""
        while self.left:
            line = self._stream.readline(min(MAX_RECORD + 2, self.left))
            if not line:
                raise Unreadable(f"{self.name} ends too early")
            yield self._took(line)

    def done(self) -> str:
        """Pass over the padding, and say the digest."""
        if self.left or self._stream.read(-self.size % 512) != bytes(-self.size % 512):
            raise Unreadable(f"{self.name}: more than belongs there")
        return hexed(self._hash.digest())


# What comes of it -----------------------------------------------------------------------------------------


class Judgement:
    """What was proved and what not, in words."""

    def __init__(self) -> None:
        self.proved: list[str] = []
        self.trusted: list[str] = []
        self.unchecked: list[str] = []
        self.missing: list[str] = []
        self.contradictions: list[str] = []
        self.count = 0
        self.excused = ""  # why the report itself does not claim that the chain's part holds

    def against(self, text: str) -> None:
        """Something contradicts something."""
        self.count += 1
        if self.count <= MAX_TOLD:
            self.contradictions.append(text)

    def chain(self, text: str) -> None:
        """What the report says of the chain does not follow, be it that the report says so itself."""
        if not self.excused:
            self.against(text)
        elif len(self.missing) < MAX_TOLD:
            self.missing.append(text)

    def same(self, what: str, told: object, found: object) -> None:
        """Hold what the report tells against what was found."""
        if told != found or type(told) is not type(found):
            self.chain(f"{what}: the report says {shown(told)}, the blocks say {shown(found)}")

    def code(self) -> int:
        """The exit code."""
        return 1 if self.count else 2 if self.missing else 0

    def told(self) -> str:
        """All of it, for a reader."""
        parts = [
            ("Fits together" if self.missing else "Proved", self.proved if not self.count else []),
            ("Taken on trust", self.trusted),
            ("Not checked", self.unchecked),
            ("Could not be proved", self.missing),
            ("Contradicted", self.contradictions),
        ]
        lines = [
            line
            for title, texts in parts
            if texts
            for line in (f"{title}:", *(f"  - {plain(t)}" for t in texts))
        ]
        if self.count > MAX_TOLD:
            lines.append(f"  - and {self.count - MAX_TOLD} more")
        results = {
            0: "PROVED: the report follows from the chain and the logs, as far as said above.",
            1: f"CONTRADICTION: {self.count} found. Do not rely on this bundle.",
            2: "NOT PROVED: nothing contradicts the report, but it does not follow from what is here.",
        }
        return "\n".join([*lines, results[self.code()]])


# The contracts' events ------------------------------------------------------------------------------------

STEPS: Final = {  # the ledger's events that are steps of a task. '!' marks a topic; the second is who acted
    "created": "TaskCreated(bytes32!,address!,bytes32,bytes32,uint16,uint32,uint8,uint8,uint16)",
    "approved": "TaskApproved(bytes32!,address!)",
    "authorized": "TaskAuthorized(bytes32!)",
    "started": "TaskStarted(bytes32!,address!,bytes32)",
    "running": "TaskRunning(bytes32!)",
    "finished": "TaskFinished(bytes32!,address!,bytes32,bytes32)",
    "completed": "TaskCompleted(bytes32!,bytes32)",
    "disputed": "TaskDisputed(bytes32!)",
    "refused": "TaskRefused(bytes32!,address!,uint8)",
    "failed": "TaskFailed(bytes32!,address!,uint8,uint8,address)",
    "cancelled": "TaskCancelled(bytes32!,address!)",
    "acknowledged": "TaskAcknowledged(bytes32!,address!,bytes32)",
}
OTHERS: Final = {
    "use": "TaskUseNamed(bytes32!,address!,uint48,bytes32,bytes32,bytes32)",
    "party": "TaskPartyNamed(bytes32!,address!)",
    "anchored": "CheckpointAnchored(address!,uint64,bytes32,uint64)",
    "announced": "GenerationAnnounced(uint256!,address,address,address,address,address,address)",
    "member": "MemberAdded(address!,uint32)",
    "rules": "RulesChanged(uint8,uint32,uint32,uint8,uint32)",
}
TOPICS: Final = {  # an event's name and declaration by its first topic
    keccak(each[1].replace("!", "").encode()): each for each in (STEPS | OTHERS).items()
}
GENERATION: Final = (
    "NodeRegistry",
    "DatasetRegistry",
    "AlgorithmRegistry",
    "GrantRegistry",
    "TaskLedger",
    "EvidenceAnchor",
)
AFTER: Final = {  # the life of a task: state, step, state
    "none": {"created": "created"},
    "created": {
        "approved": "created",
        "authorized": "authorized",
        "refused": "refused",
        "cancelled": "cancelled",
    },
    "authorized": {
        "started": "authorized",
        "running": "running",
        "refused": "refused",
        "cancelled": "cancelled",
    },
    "running": {
        "finished": "running",
        "completed": "completed",
        "disputed": "disputed",
        "failed": "failed",
        "cancelled": "cancelled",
    },
    "completed": {"acknowledged": "completed"},
}


BLAME_PARTY: Final = 2
_NAMED = re.compile(r"\w+ \((\d+)\)|code (\d+)")


def says_of(name: str, words: list[bytes]) -> str:
    """What the report says of a step beyond who and when, with codes as numbers only."""
    if name == "refused":
        return f"reason: {int.from_bytes(words[0], 'big')}"
    if name == "failed":
        reason, blame = (int.from_bytes(word, "big") for word in words[:2])
        return f"{reason}; blame: {blame}" + (f", {hexed(words[2][12:])}" if blame == BLAME_PARTY else "")
    if name == "finished":
        return f"receipt {hexed(words[0])}, result {hexed(words[1])}"
    if name == "started":
        return f"input {hexed(words[0])}"
    return f"result {hexed(words[0])}" if name in ("completed", "acknowledged") else ""


def without_names(says: str) -> str:
    """A report's words with every ``name (code)`` as its code."""
    return _NAMED.sub(lambda found: found[1] or found[2], says)


def state_at(state: str, deadline: int, now: int) -> str:
    """The state at a block's time: an open task is expired from its deadline on."""
    return "expired" if state in ("created", "authorized", "running") and now >= deadline else state


class Task:
    """A task as the events alone tell it."""

    def __init__(self, ledger: bytes, deadline: int, terms: list[str]) -> None:
        self.ledger, self.deadline, self.terms = ledger, deadline, terms
        self.state, self.last = "none", 0
        self.uses: list[tuple[object, ...]] = []
        self.parties: set[str] = set()
        self.results: set[str] = set()
        self.acknowledged = False


class Recount:
    """Counts the chain's events again and holds the report to them."""

    def __init__(self, report: dict[str, Any], judge: Judgement, names: dict[bytes, str]) -> None:
        self.judge, self.names = judge, names
        self.events = self.kept = self.matched = self.starts = self.generations = 0
        self.from_the_start = False
        self.announced: dict[bytes, str] = {}
        self.tasks: dict[str, Task] = {}
        self.anchors: dict[str, dict[int, set[str]]] = {}
        self.first = part(report, "scope.first_block", int)
        self.told = {str(part(each, "id", str)): each for each in part(report, "tasks", list)}
        if len(self.told) != len(report["tasks"]):
            judge.against("the report tells a task twice")
        self.excused = {place_of(each) for each in findings_of(report)}
        self.steps: dict[tuple[int, int], tuple[object, ...]] = {}
        for key, task in self.told.items():
            for step in part(task, "events", list):
                place = part(step, "block", int), part(step, "log_index", int)
                if place in self.steps:
                    judge.against(f"the report tells two events at log {place[1]} of block {place[0]}")
                said = (part(step, "event", str), step.get("who"), part(step, "time", int))
                says = without_names(part(step, "says", str))
                self.steps[place] = (key, *said, says, part(step, "state", str))
        self.checkpoints = Counter(
            (part(a, "node", str), str(a.get("size")), part(a, "root", str), part(a, "block", int))
            for a in part(report, "annex.checkpoints", list)
        )

    def keep(self) -> None:
        """Count one more fact that stays in memory."""
        self.kept += 1
        if self.kept > MAX_KEPT:
            raise Unreadable(f"blocks.rlp: more than {MAX_KEPT} facts")

    def event(self, place: tuple[int, int], time: int, who: bytes, topics: list[bytes], data: bytes) -> None:
        """Take the next event of one of the contracts."""
        self.events += 1
        declared = TOPICS.get(topics[0]) if topics else None
        if declared is None:
            return
        name, text = declared
        contract = self.names[who]
        words = [data[i : i + 32] for i in range(0, len(data), 32)]
        indexed, values = text.count("!"), text.count(",") + 1
        if len(topics) != 1 + indexed or len(data) != 32 * (values - indexed):
            self.unexpected(place, name, "values that its contract does not declare")
        elif contract == "TaskLedger" and (name in STEPS or name in ("use", "party")):
            self.of_task(place, time, who, name, topics, words)
        elif contract == "EvidenceAnchor" and name == "anchored":
            self.anchor(place, topics, words)
        elif contract == "Directory" and name == "announced":
            if int.from_bytes(topics[1], "big") != self.generations:
                self.judge.chain(f"generation {self.generations} of the contracts was not announced here")
            self.generations += 1
            for kind, word in zip(GENERATION, words, strict=True):
                self.keep()
                self.announced[word[12:]] = kind
        elif contract == "Consortium" and name in ("member", "rules"):
            self.from_the_start |= int.from_bytes(words[-1], "big") == 1

    def unexpected(self, place: tuple[int, int], name: str, why: str) -> None:
        """An event that the report does not tell: then one of its findings must."""
        if place not in self.excused:
            self.judge.chain(f"'{name}' at log {place[1]} of block {place[0]}: {why}, and no finding says so")

    def of_task(
        self,
        place: tuple[int, int],
        time: int,
        who: bytes,
        name: str,
        topics: list[bytes],
        words: list[bytes],
    ) -> None:
        """An event of the ledger."""
        key, actor = hexed(topics[1]), hexed(topics[2][12:]) if len(topics) > 2 else None
        task = self.tasks.get(key)
        if name == "created" and task is None:
            self.keep()
            terms = [str(actor), hexed(words[0]), hexed(words[1])]
            task = self.tasks[key] = Task(who, int.from_bytes(words[3], "big"), terms)
        if task is None or task.ledger != who:
            self.unexpected(place, name, "its task was never created there")
        elif name in ("use", "party"):
            self.name_part(place, task, name, str(actor), words)
        else:
            self.step(place, time, task, (key, name, actor, time, says_of(name, words)))

    def name_part(
        self, place: tuple[int, int], task: Task, name: str, actor: str, words: list[bytes]
    ) -> None:
        """A party or a use named at a task's creation; what was named later is a finding."""
        if place in self.excused:
            return
        self.keep()
        task.parties.add(actor)
        if name == "use":
            dataset, algorithm, grant = map(hexed, words[1:4])
            task.uses.append((actor, dataset, algorithm, grant, int.from_bytes(words[0], "big")))

    def step(self, place: tuple[int, int], time: int, task: Task, found: tuple[object, ...]) -> None:
        """A step of a task, told by the report or by a finding; or its task is none of the report's."""
        key, name = str(found[0]), str(found[1])
        after = AFTER.get(state_at(task.state, task.deadline, time), {}).get(name)
        told = self.steps.pop(place, None)
        if told is None and (place in self.excused or after is None):
            self.unexpected(place, name, f"not allowed to a task that is {task.state}")
            return
        task.last = place[0]
        if told is None and key in self.told:
            self.judge.chain(
                f"{key}: '{name}' at log {place[1]} of block {place[0]} is missing in the report"
            )
        elif told is not None and told != (*found, after):
            where = f"log {place[1]} of block {place[0]}"
            self.judge.chain(
                f"{where}: the report tells {shown(told)}, the receipts {shown((*found, after))}"
            )
        self.matched += told is not None
        self.starts += name == "started" and told is not None
        task.state = after or task.state
        if name == "finished":
            self.keep()
            task.results.add(str(found[4]).rpartition(" ")[2])
        task.acknowledged |= name == "acknowledged"

    def anchor(self, place: tuple[int, int], topics: list[bytes], words: list[bytes]) -> None:
        """A checkpoint of a node's log."""
        node, size, root = hexed(topics[1][12:]), int.from_bytes(words[0], "big"), hexed(words[1])
        told = (node, str(size), root, place[0])
        if not self.checkpoints[told]:
            self.unexpected(place, "anchored", f"the checkpoint of {node} at {size} is missing in the report")
            return
        self.checkpoints[told] -= 1
        self.keep()
        self.anchors.setdefault(node, {}).setdefault(size, set()).add(root)

    def finish(self, report: dict[str, Any], now: int) -> None:
        """What the report tells beyond what there is, and its sums."""
        chain = self.judge.chain
        for (block, index), told in self.steps.items():
            chain(f"{shown(told[0])}: no '{shown(told[1])}' is at log {index} of block {block}")
        for node, size, root, block in +self.checkpoints:
            chain(f"no checkpoint of {shown(node)} at {shown(size)} with {shown(root)} is in block {block}")
        for key, task in self.tasks.items():
            if key not in self.told and task.last >= self.first:
                chain(f"task {key}: missing in the report")
        states: Counter[str] = Counter()
        for key, told in self.told.items():
            found = self.tasks.get(key)
            if found is None:
                chain(f"task {shown(key)}: never created")
                continue
            state = state_at(found.state, found.deadline, now)
            states[state] += 1
            self.judge.same(f"{key}: state", told.get("state"), state)
            self.terms(key, told, found)
        counts = part(report, "counts", dict)
        self.judge.same("tasks", counts.get("tasks"), sum(states.values()))
        self.judge.same("tasks by state", counts.get("states"), dict(states))
        self.judge.same("tasks that ran", counts.get("ran"), states["completed"] + states["disputed"])
        self.judge.same("events", part(report, "scope", dict).get("events"), self.events)

    def terms(self, key: str, told: dict[str, Any], found: Task) -> None:
        """What a task was created for."""
        same = self.judge.same
        requester, spec, purpose = found.terms
        same(f"{key}: requester", told.get("requester"), requester)
        same(f"{key}: specification", told.get("spec"), spec)
        same(f"{key}: purpose", told.get("purpose"), purpose)
        same(f"{key}: deadline", told.get("deadline"), found.deadline)
        same(f"{key}: acknowledged", told.get("acknowledged"), found.acknowledged)
        same(f"{key}: parties", told.get("parties"), sorted(found.parties))
        names = ("party", "dataset", "algorithm", "grant", "epsilon_millionths")
        uses = [tuple(part({"use": u}, "use", dict).get(n) for n in names) for u in part(told, "uses", list)]
        same(f"{key}: uses", uses, found.uses)


def place_of(finding: dict[str, Any]) -> tuple[int, int] | None:
    """The event that a finding is about, if it is about one."""
    block, index = finding.get("block"), finding.get("log_index")
    return (block, index) if type(block) is int and type(index) is int else None


def findings_of(report: dict[str, Any]) -> list[dict[str, Any]]:
    """The findings of a report."""
    return [part({"finding": each}, "finding", dict) for each in part(report, "findings", list)]


# Commit seals of QBFT and IBFT 2.0 (as Hyperledger Besu makes and checks them) -----------------------------


class Sealed:
    """A sealed header. Its extra data are the RLP of ``[vanity, [validators], vote, round, [seals]]``; its
    hash is that without the seals and of round zero, and what is signed is without the seals."""

    def __init__(self, fields: list[bytes]) -> None:
        parts = rlp_items(rlp_string(fields[12], "extra data"), "extra data")
        if len(parts) != 5:
            raise Unreadable("extra data that are not a sealed block's")
        rlp_string(parts[0], "extra data", 32)
        listed, seals = rlp_items(parts[1], "validators"), rlp_items(parts[4], "seals")
        if max(len(listed), len(seals)) > MAX_VALIDATORS:
            raise Unreadable(f"more than {MAX_VALIDATORS} validators or seals")
        round_ = rlp_string(parts[3], "a round")
        four = len(round_) == 4  # IBFT 2.0 writes the round in four bytes and leaves out what is not hashed
        if not four and (len(round_) > 4 or round_[:1] == b"\0"):
            raise Unreadable("a round that is none")
        head = b"".join(parts[:3])
        self.validators = [rlp_string(each, "a validator", 20) for each in listed]
        self.seals = [rlp_string(each, "a seal") for each in seals]
        self.vote = self.voted(parts[2], four)
        nothing = b"" if four else rlp(b"", 0xC0)
        self.hash = self.hashed(fields, head + (b"" if four else rlp(b"")) + nothing)
        self.message = self.hashed(fields, head + parts[3] + nothing)

    def voted(self, vote: bytes, four: bool) -> tuple[bytes, bool] | None:
        """The address that the proposer voted on, and whether to add it."""
        if vote == (rlp(b"") if four else rlp(b"", 0xC0)):
            return None
        parts = rlp_items(vote, "a vote")
        says = rlp_string(parts[-1], "a vote") if len(parts) == 2 else b"?"
        if says not in (b"\xff", b"", b"\0"):
            raise Unreadable("a vote that is none")
        return rlp_string(parts[0], "a vote", 20), says == b"\xff"

    def hashed(self, fields: list[bytes], parts: bytes) -> bytes:
        """The hash of the header with these parts as its extra data."""
        return keccak(rlp(b"".join([*fields[:12], rlp(rlp(parts, 0xC0)), *fields[13:]]), 0xC0))

    def why_not_sealed(self, validators: set[bytes]) -> str:
        """Why ``validators`` did not seal it by two thirds; empty where they did."""
        signers = []
        for seal in self.seals:
            key = recover(self.message, seal) if len(seal) == 65 else None
            if key is None:
                return "a seal that is none"
            signers.append(keccak(key)[12:])
        if len(set(signers)) < len(signers):
            return "two seals of one validator"
        if set(signers) - validators:
            return "a seal of somebody who is no validator"
        needed = -(-2 * len(validators) // 3)
        return f"{len(signers)} seals, and {needed} are needed" if len(signers) < needed else ""


class Seals:
    """Follows who seals, from the validators of the first block on. The list in a header counts only where it
    is that of the block before, or that changed by the one vote which the block before carries."""

    def __init__(self, pinned: set[bytes]) -> None:
        self.pinned, self.validators = pinned, set(pinned)
        self.vote: tuple[bytes, bool] | None = None
        self.checked = 0
        self.changes: list[dict[str, Any]] = []
        self.problems: list[str] = []

    def take(self, number: int, block: Sealed | None) -> None:
        """The next block."""
        if not self.pinned or len(self.problems) >= MAX_UNSEALED:
            return
        if block is None:
            self.problems.append(f"block {number}: it carries no seals")
            return
        why = self.follow(number, block)
        self.vote = block.vote
        if why or not number:  # the genesis is not sealed
            self.problems += [f"block {number}: {why}"] if why else []
        elif why := block.why_not_sealed(self.validators):
            self.problems.append(f"block {number}: {why}")
        else:
            self.checked += 1

    def follow(self, number: int, block: Sealed) -> str:
        """Take over the list of a block if it may be; else say why not."""
        listed = set(block.validators)
        if not listed:
            return "it lists no validators: the chain takes them from a contract"
        if len(listed) < len(block.validators):
            return "it lists a validator twice"
        if listed == self.validators:
            return ""
        change = {self.vote[0]} if self.vote else set()
        after = self.validators | change if self.vote and self.vote[1] else self.validators - change
        if listed != after:
            return "it lists other validators than those after the block before"
        added, removed = (
            sorted(map(hexed, each)) for each in (listed - self.validators, self.validators - listed)
        )
        self.changes.append({"block": number, "added": added, "removed": removed})
        self.validators = listed
        return ""

    def hold(self, report: dict[str, Any], given: bool, judge: Judgement, first: int) -> bool:
        """Hold the report to what was found; whether the seals prove that these are the chain's blocks."""
        level = part(report, "proof.level", int)
        if not self.pinned:
            judge.unchecked.append(
                "Signatures: those of validators on blocks. Give --validators to check them."
            )
            return False
        own = any(each.get("rule") == "PR-03" for each in findings_of(report))
        for problem in self.problems:
            if own and level < 3:
                judge.missing.append(f"Seals, as a finding of the report says itself: {problem}.")
            else:
                judge.against(f"seals: {problem}")
        if level >= 3:
            told = part(report, "proof.seals", dict)
            judge.same("sealed blocks", told.get("blocks"), self.checked)
            judge.same("changes of validators", told.get("changes"), self.changes)
            judge.same("the last validators", told.get("last"), sorted(map(hexed, self.validators)))
        if self.problems:
            return False
        if not judge.excused:
            judge.proved.append(
                f"Seals: {self.checked} blocks, each sealed by two thirds of the validators: of the "
                f"{len(self.pinned)} of block {first}, and of those they voted in since "
                f"(changes: {len(self.changes)})."
            )
        who = "that you named" if given else "that the report names"
        judge.trusted.append(
            f"The validators {who}: that they seal block {first} of the consortium's chain, and fewer than a "
            "third of them cheat."
            + ("" if given else " Learn them from somebody else and give them as --validators.")
        )
        return given and self.checked > 0 and not judge.excused


# Blocks ---------------------------------------------------------------------------------------------------

QBFT_MIX: Final = bytes.fromhex("63746963616c2062797a616e74696e65206661756c7420746f6c6572616e6365")


class Blocks:
    """Takes block after block: links it, and excludes it or reads all of its receipts."""

    def __init__(self, judge: Judgement, recount: Recount, first: int, seals: Seals) -> None:
        self.judge, self.recount, self.seals = judge, recount, seals
        self.masks = [bloom_bits(address) for address in recount.names]
        self.next, self.time, self.count, self.rebuilt, self.excluded = first, 0, 0, 0, 0
        self.hash = b""

    def take(self, entry: bytes) -> None:
        """The next block: its header, and its receipts or an empty string."""
        pair = rlp_items(entry, "a block")
        if len(pair) != 2:
            raise Unreadable("a block that is no header with its receipts")
        fields = rlp_items(pair[0], "a header")
        if not 15 <= len(fields) <= 32:
            raise Unreadable("a header that has not the fields of one")
        number, self.time = (
            rlp_number(fields[8], "a block's number"),
            rlp_number(fields[11], "a block's time"),
        )
        if number != self.next:
            self.judge.against(f"block {number} stands where block {self.next} belongs")
        if self.count and rlp_string(fields[0], "a parent", 32) != self.hash:
            self.judge.chain(f"block {number} names another parent than the block before it")
        block = self.sealed(fields)
        self.seals.take(number, block)
        self.hash, self.next = block.hash if block else keccak(pair[0]), number + 1
        self.count += 1
        bloom = int.from_bytes(rlp_string(fields[6], "a bloom filter", 256), "big")
        root = rlp_string(fields[5], "a receipts root", 32)
        self.receipts(number, root, pair[1], any(bloom & mask == mask for mask in self.masks))

    def sealed(self, fields: list[bytes]) -> Sealed | None:
        """The header as a sealed one, if it is."""
        if rlp_string(fields[13], "a mix hash") != QBFT_MIX:
            return None
        try:
            return Sealed(fields)
        except Unreadable as why:
            self.judge.excused = self.judge.excused or f"the blocks are sealed in a way not known here: {why}"
            return None

    def receipts(self, number: int, root: bytes, given: bytes, needed: bool) -> None:
        """Either none are needed, or they are all there."""
        empty = given == rlp(b"")
        if not needed:
            self.excluded += 1
            if not empty:
                self.judge.against(f"block {number}: receipts where its bloom filter excludes the contracts")
            return
        if empty:
            self.judge.chain(f"block {number}: its receipts are not here, so events may be missing")
            return
        receipts = [rlp_string(each, "a receipt") for each in rlp_items(given, "receipts")]
        if receipts_root(receipts) != root:
            self.judge.chain(f"block {number}: its receipts do not rebuild the receipts root of its header")
            return
        self.rebuilt += 1
        index = 0
        for receipt in receipts:
            for log in self.logs(receipt):
                self.log((number, index), log)
                index += 1

    def logs(self, receipt: bytes) -> list[bytes]:
        """The logs of a receipt; one that is typed begins with its type (EIP-2718)."""
        fields = rlp_items(receipt[1:] if receipt[:1] < b"\x80" else receipt, "a receipt")
        if len(fields) != 4:
            raise Unreadable("a receipt that has not the fields of one")
        return rlp_items(fields[3], "logs")

    def log(self, place: tuple[int, int], log: bytes) -> None:
        """One log; those of other contracts are passed over."""
        fields = rlp_items(log, "a log")
        if len(fields) != 3:
            raise Unreadable("a log that has not the fields of one")
        address = rlp_string(fields[0], "an address", 20)
        if address in self.recount.names:
            topics = [rlp_string(topic, "a topic", 32) for topic in rlp_items(fields[1], "topics")]
            self.recount.event(place, self.time, address, topics, rlp_string(fields[2], "a log's data"))


# Evidence logs (RFC 9162, 2.1) ----------------------------------------------------------------------------


class Tree:
    """The Merkle tree over the lines so far, as the roots of its complete subtrees: never many."""

    def __init__(self) -> None:
        self.size = 0
        self._peaks: list[tuple[int, bytes]] = []

    def add(self, record: bytes) -> None:
        """One more leaf."""
        peak = (1, hashlib.sha256(b"\0" + record).digest())
        while self._peaks and self._peaks[-1][0] == peak[0]:
            peak = (2 * peak[0], hashlib.sha256(b"\1" + self._peaks.pop()[1] + peak[1]).digest())
        self._peaks.append(peak)
        self.size += 1

    def root(self) -> str:
        """The root of all leaves so far."""
        if not self._peaks:
            return hexed(hashlib.sha256(b"").digest())
        *left, (_, root) = self._peaks
        for _, peak in reversed(left):
            root = hashlib.sha256(b"\1" + peak + root).digest()
        return hexed(root)


class Stated:
    """What logs say of enclaves: which statements they name, and which results are over a last one."""

    def __init__(self, tasks: dict[str, Task]) -> None:
        self.named: set[str] = set()
        self.borne_out: set[str] = set()
        self._tasks = tasks

    def take(self, line: bytes) -> None:
        """Look at a record. One that cannot be read says nothing here."""
        if b'"attested"' not in line and b'"statements"' not in line:
            return
        try:
            record = read_json(line.removesuffix(b"\n"), "a record")
            body, task = part(record, "body", dict), self._tasks.get(str(record.get("task")))
            if record.get("kind") == "task.judged":
                self.named.add(part(body, "attested", str))
            elif record.get("kind") == "task.ran":
                named, outputs = (part(body, f"transcript.{x}", dict) for x in ("statements", "outputs"))
                self.named |= {part(named, stage, str) for stage in ("release", "final")}
                if task is not None and over(outputs, named["final"]) in task.results:
                    self.borne_out.add(named["final"])
        except Unreadable:
            return


def over(outputs: dict[str, Any], final: str) -> str:
    """The result of a task in an enclave: SHA-256 over what each party delivers and the last statement."""
    said = [{"digest": outputs[party], "party": party} for party in sorted(outputs)]
    text = json.dumps([*said, {"attested": final}], sort_keys=True, separators=(",", ":"))
    return hexed(hashlib.sha256(text.encode()).digest())


def check_log(
    member: Member,
    told: dict[str, Any],
    anchors: dict[int, set[str]],
    faulty: bool,
    judge: Judgement,
    stated: Stated,
) -> None:
    """Rebuild the roots of one node's log where the node anchored them."""
    node = part(told, "node", str)
    fitting = [part({"size": size}, "size", int) for size in part(told, "sizes_that_fit", list)]
    if member.size > MAX_LOG:
        raise Unreadable(f"{member.name}: {member.size} bytes, more than {MAX_LOG}")
    tree, roots, torn = Tree(), {}, False
    wanted = {*anchors, *fitting}
    for line in member.lines():
        tree.add(line.removesuffix(b"\n"))
        stated.take(line)
        torn = not line.endswith(b"\n")
        if tree.size in wanted:
            roots[tree.size] = tree.root()
        if tree.size > MAX_RECORDS:
            raise Unreadable(f"{member.name}: more than {MAX_RECORDS} records")
    if told.get("records") not in (tree.size, tree.size - torn):
        judge.against(f"log of {node}: {tree.size} lines, and the report says {shown(told.get('records'))}")
    for size, held in sorted(anchors.items()):
        if faulty:
            continue
        if size > tree.size:
            judge.missing.append(
                f"log of {node}: anchored up to {size} records, handed over up to {tree.size}"
            )
        elif held != {roots[size]} or size not in fitting:
            judge.chain(f"log of {node}: at {size} records it is not as anchored, and no finding says so")
    for size in fitting:
        if size in anchors and roots.get(size) not in anchors[size]:
            judge.chain(f"log of {node}: the report says that it fits at {shown(size)} records; it does not")
        elif size not in anchors:
            judge.trusted.append(f"Log of {node}: that the node itself signed its {shown(size)} records.")
    held_by_chain = max((size for size in fitting if size in anchors), default=0)
    if held_by_chain and not judge.excused:
        judge.proved.append(
            f"Log of {node}: its first {held_by_chain} records are those whose Merkle root the node put "
            "on the chain."
        )
    if faulty:
        judge.unchecked.append(
            f"Log of {node}: what a finding of rule EV-L01 holds against it, and the rest."
        )
    elif tree.size > held_by_chain:
        judge.unchecked.append(
            f"Log of {node}: {tree.size - held_by_chain} records no root on the chain holds."
        )


# All together ---------------------------------------------------------------------------------------------


class Bundle:
    """Reads an archive once, member after member in the order of its manifest."""

    def __init__(self, stream: IO[bytes], anchor: str | None, validators: set[bytes]) -> None:
        self.stream, self.anchor, self.judge = stream, anchor, Judgement()
        self.validators, self.is_sealed = validators, False
        self.manifest = self.read_manifest(Member(stream))
        self.waiting = part(self.manifest, "members", list)
        if len(self.waiting) > MAX_MEMBERS:
            raise Unreadable(f"more than {MAX_MEMBERS} members")
        self.waiting.reverse()

    def read_manifest(self, member: Member) -> dict[str, Any]:
        """The manifest, which must be in canonical form."""
        text = member.whole(MAX_MANIFEST)
        found = read_json(text, "manifest.json")
        member.done()
        try:
            plain = json.dumps(found, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(
                "utf-8"
            )
        except UnicodeEncodeError:
            plain = b""
        if member.name != "manifest.json" or plain != text:
            raise Unreadable("the first member is not a manifest in canonical form (RFC 8785)")
        if found.get("version") != VERSION:
            raise Unreadable(
                f"a bundle of version {shown(found.get('version'))}; this program reads {VERSION}"
            )
        return found

    def needed(self, name: str) -> Member:
        """The next member, as the manifest announces it; without one of this name there is no bundle."""
        if not self.waiting:
            raise Unreadable(f"there is no {name}")
        entry, member = part({"member": self.waiting.pop()}, "member", dict), Member(self.stream)
        if set(entry) != {"name", "sha256", "size"} or member.name != name:
            raise Unreadable(f"{member.name}: the members are not those of a bundle, in their order")
        if (entry["name"], entry["size"]) != (member.name, member.size):
            raise Unreadable(f"{member.name}, {member.size} bytes: the manifest says {shown(entry)}")
        self.digest = entry["sha256"]
        return member

    def close(self, member: Member) -> None:
        """Hold a member that was read to its digest in the manifest."""
        if member.done() != self.digest:
            self.judge.against(f"{member.name}: its SHA-256 is not the one in the manifest")

    def verify(self) -> Judgement:
        """All of it."""
        member = self.needed("report.json")
        report = read_json(member.whole(MAX_REPORT), "report.json")
        self.close(member)
        self.check_manifest(report)
        recount = Recount(report, self.judge, self.contracts(report))
        self.check_blocks(report, recount)
        self.check_logs(report, recount)
        if self.stream.read(1025) != bytes(1024):
            raise Unreadable("more after the last member than an archive's end")
        self.say(report, recount)
        return self.judge

    def check_manifest(self, report: dict[str, Any]) -> None:
        """Manifest and report speak of the same audit."""
        if report.get("version") != REPORT_VERSION:
            raise Unreadable(f"a report of version {shown(report.get('version'))}; known is {REPORT_VERSION}")
        scope, proof = part(report, "scope", dict), part(report, "proof", dict)
        expected = {
            "version": VERSION,
            "tool": part(report, "tool", dict),
            "chain_id": part(scope, "chain_id", int),
            "directory": part(scope, "directory", str),
            "blocks": {
                "first": part(proof, "first_block", int),
                "last": part(proof, "last_block", int),
                "last_hash": part(scope, "last_hash", str),
            },
            "scope": {name: part(scope, name, int) for name in ("first_block", "last_block")},
        }
        told = {name: value for name, value in self.manifest.items() if name not in ("members", "contracts")}
        if told != expected:
            self.judge.against("the manifest speaks of another audit than the report")
        level = part(proof, "level", int)
        if level < 2:
            why = shown(proof.get("why_not_more"))
            self.judge.excused = why
            self.judge.missing.append(f"The report itself claims only proof level {level}: {why}")
        found = findings_of(report)
        says = part(report, "verdict.result", str)
        known = ("findings",) if found else ("clean", "cannot_tell")
        if says not in known or part(report, "counts.findings", int) != len(found):
            self.judge.against(f"the verdict is '{shown(says)}', and there are {len(found)} findings")

    def contracts(self, report: dict[str, Any]) -> dict[bytes, str]:
        """The contracts of the manifest by their addresses."""
        listed, found = part(self.manifest, "contracts", list), {}
        if len(listed) > MAX_CONTRACTS:
            raise Unreadable(f"more than {MAX_CONTRACTS} contracts")
        for each in listed:
            text = part(each, "address", str)
            if not re.fullmatch("0x[0-9a-f]{40}", text) or set(each) != {"address", "name"}:
                raise Unreadable(f"{shown(text)} is no address")
            found[bytes.fromhex(text[2:])] = part(each, "name", str)
        ours = [hexed(address) for address, name in found.items() if name == "Directory"]
        if len(found) != len(listed) or ours != [part(report, "scope.directory", str)]:
            raise Unreadable("the manifest lists no contracts with the report's directory among them")
        return found

    def check_blocks(self, report: dict[str, Any], recount: Recount) -> None:
        """Headers, receipts, events."""
        proof, scope, judge = part(report, "proof", dict), part(report, "scope", dict), self.judge
        member = self.needed("blocks.rlp")
        seals = Seals(self.pinned(proof))
        blocks = Blocks(judge, recount, part(proof, "first_block", int), seals)
        while member.left:
            blocks.take(member.rlp_item())
        self.close(member)
        if judge.excused and part(proof, "level", int) >= 2:
            judge.missing.append(f"That the headers are the chain's: {judge.excused}.")
        judge.same("headers", proof.get("headers"), blocks.count)
        judge.same("blocks whose receipts were rebuilt", proof.get("receipts_rebuilt"), blocks.rebuilt)
        judge.same("blocks excluded by their bloom filter", proof.get("excluded_by_bloom"), blocks.excluded)
        judge.same("the last block", scope.get("last_block"), blocks.next - 1)
        judge.same("the last block that was read", proof.get("last_block"), blocks.next - 1)
        judge.same("the last block's hash", scope.get("last_hash"), hexed(blocks.hash))
        judge.same("the last block's time", scope.get("time"), blocks.time)
        if self.anchor is not None and self.anchor != hexed(blocks.hash):
            judge.against(
                f"the last block's hash is {hexed(blocks.hash)}, not the anchor {shown(self.anchor)}"
            )
        recount.finish(report, blocks.time)
        named = {a: name for a, name in recount.names.items() if name not in ("Directory", "Consortium")}
        if named != recount.announced or len(recount.names) != len(named) + 2:
            judge.chain("the contracts in the manifest are not those that the directory announced")
        if not recount.from_the_start:
            judge.missing.append(
                "That no event came before the first block: the consortium's first is not here."
            )
        self.is_sealed = seals.hold(report, bool(self.validators), judge, part(proof, "first_block", int))
        if judge.excused:
            return
        judge.proved.append(
            f"Blocks {part(proof, 'first_block', int)} to {blocks.next - 1}: {blocks.count} headers, each "
            f"the parent of the next. {blocks.excluded} exclude the contracts by their bloom filter; the "
            f"receipts of {blocks.rebuilt} are complete. No event of the contracts was left out, altered or "
            "added."
        )

    def pinned(self, proof: dict[str, Any]) -> set[bytes]:
        """Who seals the first block: as the reader says, else as the report does where it claims to have
        checked the seals."""
        seals = proof.get("seals")
        told = part(seals, "pinned", list) if isinstance(seals, dict) else []
        if not all(isinstance(each, str) and re.fullmatch("0x[0-9a-f]{40}", each) for each in told):
            raise Unreadable("proof.seals.pinned: no addresses")
        found = {bytes.fromhex(each[2:]) for each in told[:MAX_VALIDATORS]}
        if self.validators and found and found != self.validators:
            self.judge.against("the report was made with other validators than those that you named")
        if not found and part(proof, "level", int) >= 3:
            self.judge.against("the report claims that seals were checked, and names no validators")
        return self.validators or found

    def check_logs(self, report: dict[str, Any], recount: Recount) -> None:
        """The evidence logs that were handed over."""
        told = {str(part(each, "node", str)): each for each in part(report, "annex.logs", list)}
        faulty = [each.get("node") for each in findings_of(report) if each.get("rule") == "EV-L01"]
        stated = Stated(recount.tasks)
        for node, log in sorted(told.items()):
            member = self.needed(f"logs/{node}.jsonl")
            check_log(member, log, recount.anchors.get(node, {}), node in faulty, self.judge, stated)
            self.close(member)
        self.check_statements(stated)
        if self.waiting:
            raise Unreadable("the manifest lists more members than the report has logs")
        silent = sorted(set(recount.anchors) - set(told))
        if silent:
            self.judge.unchecked.append(
                f"Logs that were anchored and not handed over: {', '.join(silent[:20])}."
            )

    def check_statements(self, stated: Stated) -> None:
        """What enclaves stated: each is what a log names, a last one what a result on the chain is over."""
        digests = set()
        while self.waiting:
            name = part({"member": self.waiting[-1]}, "member.name", str)
            if not name.startswith("statements/"):
                break
            member = self.needed(name)
            found = hexed(hashlib.sha256(member.whole(MAX_STATEMENT)).digest())
            self.close(member)
            if member.name != f"statements/{found}.json" or found in digests:
                self.judge.against(f"{member.name}: a statement's name is its SHA-256, and it comes once")
            elif found not in stated.named:
                self.judge.against(f"{member.name}: no log names this statement")
            digests.add(found)
        final = digests & stated.borne_out
        if final and not self.judge.excused:
            self.judge.proved.append(
                f"Last statements of enclaves: {len(final)} are those that results on the chain are over."
            )
        if digests:
            self.judge.unchecked.append(
                f"{len(digests)} statements of enclaves: whether their evidence is genuine and acceptable."
            )

    def say(self, report: dict[str, Any], recount: Recount) -> None:
        """What follows, and what does not."""
        judge, proof = self.judge, part(report, "proof", dict)
        if not judge.excused:
            judge.proved.append(
                f"Tasks from block {recount.first} on: the {len(recount.told)} in the report are all there "
                f"were. Each of their {recount.matched} steps, of which {recount.starts} are starts, is in "
                "the receipts with the same actor, time, digests, codes and state, none missing or invented."
            )
        if self.anchor is None and not self.is_sealed:
            judge.missing.append(
                "That these blocks are the chain's: anybody can make up blocks that fit each other. Learn "
                f"the hash of block {proof.get('last_block')} from somebody else and give it as --anchor."
            )
        elif self.anchor is not None:
            judge.trusted.append("The anchor: that it is the hash of a block of the consortium's chain.")
        judge.trusted.append(
            f"Chain id {part(report, 'scope.chain_id', int)} and the directory "
            f"{shown(part(report, 'scope.directory', str))}: that they are the network's you mean, and that "
            "their code is Sealtrace's."
        )
        judge.unchecked += [
            "The report's verdicts and sentences: that its checks were applied rightly to these events and "
            "records. To apply them again, run 'sealtrace audit run' against the chain.",
            "Grants, datasets, algorithms, nodes and votes in the report's annex, beyond the events' number; "
            "protections and progress of tasks.",
            "Transactions' hashes: receipts do not hold them. Events are found by block and log index.",
            "Signatures of senders, and of nodes on their own checkpoints.",
            "Contract storage, and executing the blocks again: that is the report's word.",
            "What the engines computed, on which data: only digests are seen here.",
        ]


def verify(
    stream: IO[bytes], anchor: str | None = None, validators: frozenset[bytes] = frozenset()
) -> Judgement:
    """Check a bundle.

    Raises:
        Unreadable: it is none.
    """
    return Bundle(stream, anchor, set(validators)).verify()


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="Check a Sealtrace audit bundle, offline.")
    parser.add_argument("bundle", type=Path, help="the file that 'sealtrace audit bundle' wrote")
    parser.add_argument("--anchor", help="the hash of its last block, learnt from somebody else")
    parser.add_argument(
        "--validators", help="who seals its first block, by addresses with commas between, learnt likewise"
    )
    given = parser.parse_args(arguments)
    named = given.validators.lower().split(",") if given.validators else []
    if not all(re.fullmatch("0x[0-9a-f]{40}", each) for each in named):
        print(
            "UNREADABLE: --validators are addresses, each 0x and 40 hexadecimal digits, with commas between"
        )
        return 3
    anchor = given.anchor.lower() if given.anchor else None
    if anchor is not None and not re.fullmatch("0x[0-9a-f]{64}", anchor):
        print("UNREADABLE: --anchor is 0x and 64 hexadecimal digits")
        return 3
    try:
        with given.bundle.open("rb") as stream:
            judgement = verify(stream, anchor, frozenset(bytes.fromhex(each[2:]) for each in named))
    except (Unreadable, OSError) as cause:
        print(f"UNREADABLE: {shown(cause)}")
        return 3
    print(judgement.told())
    return judgement.code()


if __name__ == "__main__":
    sys.exit(main())
