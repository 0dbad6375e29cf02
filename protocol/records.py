"""The chain's records as values: what a node, a requester and an auditor read, at one block."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum, IntFlag

from sealtrace.protocol.identifiers import Address, Hex32, UnixSeconds


class NodeStatus(IntEnum):
    """Where a node stands in the consortium."""

    NONE = 0
    ACTIVE = 1
    SUSPENDED = 2
    RETIRED = 3


class DatasetStatus(IntEnum):
    """Whether a dataset may be used."""

    NONE = 0
    ACTIVE = 1
    WITHDRAWN = 2
    SUPERSEDED = 3


class DataClass(IntEnum):
    """The grades of GB/T 43697-2024."""

    GENERAL = 0
    IMPORTANT = 1
    CORE = 2


class AlgorithmStatus(IntEnum):
    """Whether an algorithm may be used."""

    NONE = 0
    ACTIVE = 1
    SUSPENDED = 2
    REVOKED = 3
    PROPOSED = 4
    REJECTED = 5


class ReviewStatus(IntEnum):
    """What a reviewer said of an algorithm."""

    NONE = 0
    ASKED = 1
    AGREED = 2
    DECLINED = 3


class GrantStatus(IntEnum):
    """Where a grant stands at a block's time."""

    NONE = 0
    PENDING = 1
    ACTIVE = 2
    EXPIRED = 3
    EXHAUSTED = 4
    REVOKED = 5


class Role(IntFlag):
    """What a node was admitted to do."""

    OWNER = 1
    COMPUTE = 2
    REQUESTER = 4
    PROVIDER = 8
    SCHEDULER = 16


class Protection(IntFlag):
    """How data is protected while it is computed on. A grant names all it accepts, one by one."""

    MPC_ABY3 = 1
    MPC_CHEETAH = 2
    MPC_SEMI2K_TRUSTED_FIRST_PARTY = 4
    PSI_RR22 = 8
    PSI_ECDH = 16
    PSI_KKRT = 32
    TEE_HARDWARE = 64
    TEE_SIMULATED = 128


class NoSuchProtection(ValueError):
    """A word names no protection; the message lists those there are."""


def protections_of(names: Iterable[str]) -> Protection:
    """All the protections that are named, in any letter case.

    Raises:
        NoSuchProtection: a name is none.
    """
    found = Protection(0)
    for name in names:
        if name.upper() not in Protection.__members__:
            raise NoSuchProtection(f"{name!r} is no protection: give {', '.join(Protection.__members__)}")
        found |= Protection[name.upper()]
    return found


def names_of(protections: Protection) -> list[str]:
    """The names of all in ``protections``: what :func:`protections_of` reads."""
    return [str(each.name) for each in Protection if each in protections]


@dataclass(frozen=True, slots=True)
class BlockRef:
    """The block a fact was read at."""

    number: int
    hash: Hex32
    timestamp: UnixSeconds


@dataclass(frozen=True, slots=True)
class Node:
    """An organisation's record. ``status`` is ``NONE`` when it was never admitted.

    ``version`` counts its keys; ``held`` says that a registrar may not lift its suspension.
    """

    address: Address
    status: NodeStatus
    roles: Role
    tls_fingerprint: Hex32
    encryption_key: Hex32
    version: int = 0
    held: bool = False

    def may(self, role: Role) -> bool:
        """Whether the node is active and holds ``role``."""
        return self.status is NodeStatus.ACTIVE and role in self.roles


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset's record: hashes only."""

    id: Hex32
    owner: Address
    status: DatasetStatus
    data_class: DataClass
    commitment: Hex32
    schema_hash: Hex32
    version: int = 0

    @property
    def usable(self) -> bool:
        """Whether tasks may use it; a former version may still be used under the grants in being."""
        return self.status in (DatasetStatus.ACTIVE, DatasetStatus.SUPERSEDED)


@dataclass(frozen=True, slots=True)
class Algorithm:
    """An algorithm's record, by the digest of its bundle.

    ``asked`` and ``agreed`` count its reviewers; ``held`` says that a registrar may not lift its suspension.
    """

    digest: Hex32
    provider: Address
    status: AlgorithmStatus
    superseded: bool = False
    held: bool = False
    asked: int = 0
    agreed: int = 0


@dataclass(frozen=True, slots=True)
class GrantTerms:
    """What an owner allows. Times are block times, ``epsilon_millionths`` 0 sets no budget."""

    dataset: Hex32
    algorithm: Hex32
    requester: Address
    purpose: Hex32
    uses: int
    not_before: UnixSeconds
    expires_at: UnixSeconds
    protections: Protection
    approval_required: bool = False
    epsilon_millionths: int = 0
    participants: tuple[Address, ...] = ()


@dataclass(frozen=True, slots=True)
class Grant:
    """A grant as it stands at a block.

    ``epsilon_left`` is what is left of the budget, ``epsilon_millionths`` what was granted (0: no budget).
    ``participants`` are those who may be parties beside the owner; none: anybody.
    """

    id: Hex32
    owner: Address
    dataset: Hex32
    algorithm: Hex32
    requester: Address
    purpose: Hex32
    uses_left: int
    not_before: UnixSeconds
    expires_at: UnixSeconds
    protections: Protection
    approval_required: bool
    revoked: bool
    epsilon_millionths: int
    uses: int
    epsilon_left: int
    participants: tuple[Address, ...] = ()

    def status(self, now: UnixSeconds) -> GrantStatus:
        """Where the grant stands at block time ``now``; the first that applies."""
        if self.revoked:
            return GrantStatus.REVOKED
        if self.uses_left == 0:
            return GrantStatus.EXHAUSTED
        if now >= self.expires_at:
            return GrantStatus.EXPIRED
        return GrantStatus.PENDING if now < self.not_before else GrantStatus.ACTIVE


@dataclass(frozen=True, slots=True)
class Use:
    """One dataset put under one algorithm, by the party at index ``party``, under one grant.

    ``epsilon_millionths`` is what it spends of the grant's privacy budget, where the grant sets one.
    """

    party: int
    dataset: Hex32
    algorithm: Hex32
    grant: Hex32
    epsilon_millionths: int = 0


class PartyNotNamed(ValueError):
    """A use is of a party that the task's terms do not name: get the terms that the task was created with."""


@dataclass(frozen=True, slots=True)
class TaskTerms:
    """What a task is. Its id commits to all of it; the ledger keeps none, callers hand it back."""

    requester: Address
    spec: Hex32
    purpose: Hex32
    protections: Protection
    deadline: UnixSeconds
    parties: tuple[Address, ...]
    uses: tuple[Use, ...]

    def uses_of(self, party: Address) -> tuple[Use, ...]:
        """The uses that ``party`` answers for.

        Raises:
            PartyNotNamed: a use is of a party that the terms do not name.
        """
        for number, use in enumerate(self.uses):
            if not 0 <= use.party < len(self.parties):
                raise PartyNotNamed(
                    f"use {number} is of party {use.party}, but the terms name {len(self.parties)} parties, "
                    "counted from 0: no ledger takes such a task"
                )
        return tuple(use for use in self.uses if self.parties[use.party] == party)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The size and root of a node's evidence log as anchored."""

    node: Address
    size: int
    root: Hex32
