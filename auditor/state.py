"""Contract storage proven against a block's state root by ``eth_getProof`` (EIP-1186).

The proof of an account leads from the state root to the account, whose storage root the proof of a slot
begins at; both are walks down a Merkle-Patricia trie (Ethereum yellow paper, appendix D). What the endpoint
says beside its proofs is not looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from eth_hash.auto import keccak

from sealtrace.auditor.rlp import MalformedRlp, content, is_list, items
from sealtrace.auditor.rpc import Asking
from sealtrace.protocol.identifiers import Address, Hex32, hex32, raw

SLOTS_PER_REQUEST: Final = 100
_NOTHING: Final = b"\x80"
_STATE_ROOT: Final = 3


class BadProof(ValueError):
    """A proof does not lead from its root to what it is asked for: use another endpoint."""


def state_root_of(header: bytes) -> Hex32:
    """The state root in a header's RLP."""
    return hex32(content(items(header)[_STATE_ROOT]))


def proven(root: bytes, key: bytes, proof: Sequence[bytes]) -> bytes | None:
    """What the trie of ``root`` holds at ``key``; ``None`` if the proof shows that it holds nothing.

    ``proof`` are the nodes on the way down, in any order.

    Raises:
        BadProof: they do not show either.
    """
    nodes = {keccak(node): node for node in proof}
    path = keccak(key).hex()
    try:
        return _found(nodes, root, path)
    except (MalformedRlp, IndexError) as cause:
        raise BadProof(f"a node of the proof is none: {cause}") from cause


def _found(nodes: Mapping[bytes, bytes], root: bytes, path: str) -> bytes | None:
    node = _named(nodes, root)
    while node != _NOTHING:
        parts = items(node)
        if len(parts) == 17:
            below, path = parts[int(path[0], 16)], path[1:]
        elif len(parts) == 2:
            ahead, leaf = _path(content(parts[0]))
            if not path.startswith(ahead) or (leaf and path != ahead):
                return None
            if leaf:
                return content(parts[1])
            if not ahead:
                raise BadProof("an extension of no length")
            below, path = parts[1], path[len(ahead) :]
        else:
            raise BadProof(f"a node of {len(parts)} parts")
        node = below if is_list(below) or below == _NOTHING else _named(nodes, content(below))
    return None


def _named(nodes: Mapping[bytes, bytes], digest: bytes) -> bytes:
    if digest == keccak(_NOTHING):
        return _NOTHING
    if digest not in nodes:
        raise BadProof(f"the node 0x{digest.hex()} is missing")
    return nodes[digest]


def _path(packed: bytes) -> tuple[str, bool]:
    """The hexadecimal digits of a node's own path, and whether it is a leaf."""
    digits = packed.hex()
    if not digits or digits[0] not in "0123" or (digits[0] in "02" and digits[1] != "0"):
        raise BadProof("a path that is none")
    return digits[1 if digits[0] in "13" else 2 :], digits[0] in "23"


@dataclass(slots=True)
class ProvenSlots:
    """Slots of contracts at one block, each proven before it is given.

    A slot that is not here yet reads as zero and is kept in mind: read all, :meth:`fetch`, and read again
    until there was nothing to fetch.
    """

    rpc: Asking
    block: int
    state_root: Hex32
    known: dict[tuple[Address, int], int] = field(default_factory=dict)
    _wanted: dict[Address, dict[int, None]] = field(default_factory=dict)

    def word(self, contract: Address, slot: int) -> int:
        """The 32 bytes at ``slot``, or zero where they are still to be fetched."""
        if (contract, slot) not in self.known:
            self._wanted.setdefault(contract, {})[slot] = None
        return self.known.get((contract, slot), 0)

    def fetch(self) -> bool:
        """Prove what was asked for and is not here yet; whether there was any.

        Raises:
            BadProof: the endpoint's proof is none.
            EndpointUnreachable, EndpointTalksNonsense, EndpointRefused: it gives none.
        """
        wanted, self._wanted = self._wanted, {}
        for contract, slots in wanted.items():
            every = list(slots)
            for at in range(0, len(every), SLOTS_PER_REQUEST):
                self._prove(contract, every[at : at + SLOTS_PER_REQUEST])
        return bool(wanted)

    def _prove(self, contract: Address, slots: Sequence[int]) -> None:
        keys = [slot.to_bytes(32, "big") for slot in slots]
        asked = ["0x" + key.hex() for key in keys]
        answer = self.rpc.ask("eth_getProof", contract, asked, hex(self.block))
        root = _storage_root(raw(self.state_root), contract, answer)
        told = answer.get("storageProof")
        if not isinstance(told, list) or len(told) != len(slots):
            raise BadProof(f"{len(slots)} slots of {contract} were asked for, and not as many were proven")
        for slot, key, each in zip(slots, keys, told, strict=True):
            value = proven(root, key, _nodes(each, "proof"))
            self.known[contract, slot] = _word(value)


def _storage_root(state_root: bytes, contract: Address, answer: object) -> bytes:
    account = proven(state_root, raw(contract), _nodes(answer, "accountProof"))
    if account is None:
        raise BadProof(f"there is no account {contract} under the state root")
    try:
        return content(items(account)[2])
    except (MalformedRlp, IndexError) as cause:
        raise BadProof(f"the account {contract} is none: {cause}") from cause


def _nodes(answer: object, name: str) -> list[bytes]:
    told = answer.get(name) if isinstance(answer, dict) else None
    try:
        return [bytes.fromhex(node.removeprefix("0x")) for node in told]  # type: ignore[union-attr]
    except (TypeError, AttributeError, ValueError) as cause:
        raise BadProof(f"{name} is no list of nodes in hexadecimal") from cause


def _word(value: bytes | None) -> int:
    if value is None:
        return 0
    try:
        found = content(value)
    except MalformedRlp as cause:
        raise BadProof(f"a slot that is none: {cause}") from cause
    if len(found) > 32:
        raise BadProof("a slot of more than 32 bytes")
    return int.from_bytes(found, "big")
