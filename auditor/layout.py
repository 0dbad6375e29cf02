"""Where our contracts keep their records in storage, and the records read from there.

Solidity gives each state variable a slot in the order of inheritance and declaration, packs what fits into
one from its low end, and puts the value of a mapping at ``keccak256(key . slot)`` (Solidity documentation,
"Layout of State Variables in Storage"). Random walks hold what is read here to what the contracts' own
functions answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from eth_hash.auto import keccak

from sealtrace.contracts.abi import GENERATION
from sealtrace.contracts.client import TaskRecord
from sealtrace.contracts.governance import Consortium, Office, Proposal, ProposalStatus, Rules
from sealtrace.protocol.identifiers import NOBODY, Address, Hex32, UnixSeconds, hex32, raw
from sealtrace.protocol.lifecycle import TaskState, at_time
from sealtrace.protocol.records import (
    Algorithm,
    AlgorithmStatus,
    BlockRef,
    Checkpoint,
    DataClass,
    Dataset,
    DatasetStatus,
    Grant,
    Node,
    NodeStatus,
    Protection,
    Role,
)

ROLES, ELECTORATE, RULES, MEMBERS, PROPOSALS = 0, 1, 2, 3, 5
NODES, DATASETS, ALGORITHMS, CHECKPOINTS, GENERATIONS = 1, 0, 0, 0, 0
METERS, TERMS, PARTICIPANTS, SERIALS = 2, 3, 4, 5  # two slots before them are EIP712's
CLOSED, TASKS = 2, 3

MAX_ENTRIES: Final = 256
_APPROVAL_REQUIRED, _REVOKED = 4, 8


class Words(Protocol):
    """Storage as it is kept."""

    def word(self, contract: Address, slot: int) -> int:
        """The 32 bytes at a slot."""
        ...


@dataclass(frozen=True, slots=True)
class StoredRecords:
    """The records of one generation of contracts, from ``words`` of one block."""

    addresses: Mapping[str, Address]
    words: Words

    def consortium(self, *, at: BlockRef) -> Consortium:
        """Who decides, and how."""
        rules = Rules(*_unpacked(self._word("Consortium", RULES), 8, 32, 32, 8))
        electorate = self._word("Consortium", ELECTORATE) & 0xFFFFFFFF
        members = self._members()
        return Consortium(members, rules, len(members) * rules.quorum_percent // 100 + 1, electorate)

    def holds(self, office: Office, account: Address, *, at: BlockRef) -> bool:
        """Whether the account holds the office."""
        return bool(self._word("Consortium", _at(_at(ROLES, office.id), account)) & 0xFF)

    def proposal(self, id: Hex32, *, at: BlockRef) -> Proposal | None:
        """What members were asked, as it stands."""
        slot = _at(PROPOSALS, id)
        first, second = (self._word("Consortium", slot + i) for i in range(2))
        proposer, created, yes, no, executed = _unpacked(first, 160, 40, 16, 16, 8)
        if not proposer:
            return None
        mine = bool(executed), second & 0xFFFFFFFF, created, yes, no
        return Proposal(id, _address(proposer), self._status(*mine, at=at), yes, no)

    def _status(
        self, executed: bool, electorate: int, created: int, yes: int, no: int, *, at: BlockRef
    ) -> ProposalStatus:
        now = self.consortium(at=at)
        closes = created + now.rules.voting_s
        if executed:
            return ProposalStatus.EXECUTED
        if electorate != now.electorate:
            return ProposalStatus.STALE
        if yes >= now.votes_needed:
            passed = at.timestamp < closes + now.rules.execution_s
            return ProposalStatus.PASSED if passed else ProposalStatus.EXPIRED
        if len(now.members) - no < now.votes_needed:
            return ProposalStatus.REJECTED
        return ProposalStatus.OPEN if at.timestamp < closes else ProposalStatus.EXPIRED

    def node(self, node: Address, *, at: BlockRef) -> Node:
        """The organisation's record."""
        first, tls, key = self._words("NodeRegistry", _at(NODES, node), 3)
        status, roles, _, held, version = _unpacked(first, 8, 8, 40, 8, 32)
        return Node(node, NodeStatus(status), Role(roles), _hex(tls), _hex(key), version, bool(held))

    def dataset(self, id: Hex32, *, at: BlockRef) -> Dataset | None:
        """The dataset's record."""
        first, commitment, schema = self._words("DatasetRegistry", _at(DATASETS, id), 3)
        owner, status, kind, _, version = _unpacked(first, 160, 8, 8, 40, 32)
        if not status:
            return None
        standing = DatasetStatus(status), DataClass(kind)
        return Dataset(id, _address(owner), *standing, _hex(commitment), _hex(schema), version)

    def algorithm(self, digest: Hex32, *, at: BlockRef) -> Algorithm | None:
        """The algorithm's record."""
        (word,) = self._words("AlgorithmRegistry", _at(ALGORITHMS, digest), 1)
        provider, status, held, superseded, _, asked, agreed = _unpacked(word, 160, 8, 8, 8, 40, 8, 8)
        if not status:
            return None
        marks = bool(superseded), bool(held)
        return Algorithm(digest, _address(provider), AlgorithmStatus(status), *marks, asked, agreed)

    def grant(self, id: Hex32, *, at: BlockRef) -> Grant | None:
        """The grant's record."""
        (meter,) = self._words("GrantRegistry", _at(METERS, id), 1)
        _, left, begins, ends, protections, epsilon_left, _, flags = _unpacked(
            meter, 32, 32, 40, 40, 16, 48, 32, 8
        )
        if not ends:
            return None
        first, dataset, algorithm, purpose = self._words("GrantRegistry", _at(TERMS, id), 4)
        requester, uses, epsilon = _unpacked(first, 160, 32, 48)
        (owner,) = self._words("DatasetRegistry", _at(DATASETS, _hex(dataset)), 1)
        return Grant(
            id=id,
            owner=_address(owner % (1 << 160)),
            dataset=_hex(dataset),
            algorithm=_hex(algorithm),
            requester=_address(requester),
            purpose=_hex(purpose),
            uses_left=left,
            not_before=UnixSeconds(begins),
            expires_at=UnixSeconds(ends),
            protections=Protection(protections),
            approval_required=bool(flags & _APPROVAL_REQUIRED),
            revoked=bool(flags & _REVOKED),
            epsilon_millionths=epsilon,
            uses=uses,
            epsilon_left=epsilon_left,
            participants=self._array("GrantRegistry", _at(PARTICIPANTS, id)),
        )

    def serial(self, owner: Address, *, at: BlockRef) -> int:
        """The serial of the owner's next grant."""
        return self._word("GrantRegistry", _at(SERIALS, owner)) & 0xFFFFFFFF

    def task(self, id: Hex32, *, at: BlockRef) -> TaskRecord | None:
        """The task's record."""
        word = self._word("TaskLedger", _at(TASKS, id))
        fields = _unpacked(word, 128, 32, 32, 8, 8, 16, 16, 16)
        agreed, _, deadline, status, acknowledged, approved, started, finished = fields
        if not status:
            return None
        until = UnixSeconds(deadline)
        state = at_time(TaskState(status), until, at.timestamp)
        mark = "0x" + agreed.to_bytes(16, "big").hex()
        return TaskRecord(id, state, until, approved, started, finished, mark, bool(acknowledged))

    def closed(self, *, at: BlockRef) -> bool:
        """Whether the ledger takes no new task."""
        return bool(self._word("TaskLedger", CLOSED) >> 32 & 0xFF)

    def checkpoint(self, node: Address, *, at: BlockRef) -> Checkpoint | None:
        """The last checkpoint."""
        first, root = self._words("EvidenceAnchor", _at(CHECKPOINTS, node), 2)
        size = first & 0xFFFFFFFFFFFFFFFF
        return Checkpoint(node, size, _hex(root)) if size else None

    def named(self, count: int) -> tuple[tuple[Address, ...], ...]:
        """The contracts of the first ``count`` generations that the directory names, of those it has."""
        known = min(count, self._word("Directory", GENERATIONS))
        first = int.from_bytes(keccak(GENERATIONS.to_bytes(32, "big")), "big")
        size = len(GENERATION)
        slots = (range(first + i * size, first + (i + 1) * size) for i in range(known))
        return tuple(tuple(self._addresses("Directory", each)) for each in slots)

    def _members(self) -> tuple[Address, ...]:
        return self._array("Consortium", MEMBERS)

    def _array(self, name: str, slot: int) -> tuple[Address, ...]:
        length = min(self._word(name, slot), MAX_ENTRIES)
        first = int.from_bytes(keccak(slot.to_bytes(32, "big")), "big")
        return tuple(self._addresses(name, range(first, first + length)))

    def _addresses(self, name: str, slots: Iterable[int]) -> list[Address]:
        return [_address(self._word(name, slot) % (1 << 160)) for slot in slots]

    def _words(self, name: str, slot: int, count: int) -> list[int]:
        return [self._word(name, slot + i) for i in range(count)]

    def _word(self, name: str, slot: int) -> int:
        return self.words.word(self.addresses[name], slot % (1 << 256))


def _at(slot: int, key: str) -> int:
    """Where a mapping at ``slot`` keeps the value of an address or of 32 bytes."""
    return int.from_bytes(keccak(raw(key).rjust(32, b"\0") + slot.to_bytes(32, "big")), "big")


def _unpacked(word: int, *bits: int) -> list[int]:
    """The values packed into a slot, from its low end."""
    found = []
    for width in bits:
        found.append(word & ((1 << width) - 1))
        word >>= width
    return found


def _address(value: int) -> Address:
    return Address("0x" + value.to_bytes(20, "big").hex()) if value else NOBODY


def _hex(value: int) -> Hex32:
    return hex32(value.to_bytes(32, "big"))
