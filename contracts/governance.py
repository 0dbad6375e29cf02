"""The consortium's offices and rules as values, and the ids it gives to proposals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum

from eth_abi.abi import encode
from eth_hash.auto import keccak

from sealtrace.protocol.identifiers import Address, Hex32, hex32, raw


class Office(StrEnum):
    """An office, by the name its id is the hash of."""

    REGISTRAR = "REGISTRAR"
    REGULATOR = "REGULATOR"

    @property
    def id(self) -> Hex32:
        """The office as the contracts name it."""
        return hex32(keccak(self.value.encode()))


class ProposalStatus(IntEnum):
    """Where a proposal stands at a block's time."""

    NONE = 0
    OPEN = 1
    PASSED = 2
    REJECTED = 3
    EXECUTED = 4
    EXPIRED = 5
    STALE = 6


@dataclass(frozen=True, slots=True)
class Rules:
    """How the consortium decides.

    More than ``quorum_percent`` of the members must agree within ``voting_s`` seconds; what they agreed to
    is done within ``execution_s`` more. ``reviews`` is how many reviewers an algorithm needs.
    """

    quorum_percent: int = 50
    voting_s: int = 7 * 86_400
    execution_s: int = 7 * 86_400
    reviews: int = 0

    def words(self) -> tuple[int, ...]:
        """The rules as the ABI takes them."""
        return self.quorum_percent, self.voting_s, self.execution_s, self.reviews


@dataclass(frozen=True, slots=True)
class Proposal:
    """What members were asked, as it stands at a block."""

    id: Hex32
    proposer: Address
    status: ProposalStatus
    yes: int
    no: int


@dataclass(frozen=True, slots=True)
class Consortium:
    """Who decides and how, at a block. ``electorate`` counts the changes of members and rules."""

    members: tuple[Address, ...]
    rules: Rules
    votes_needed: int
    electorate: int


def proposal_id(actions: Sequence[tuple[Address, bytes]], description: Hex32, electorate: int) -> Hex32:
    """The id of a proposal: ``keccak256(abi.encode(actions, description, electorate))``."""
    types = ["(address,bytes)[]", "bytes32", "uint32"]
    return hex32(keccak(encode(types, [list(actions), raw(description), electorate])))
