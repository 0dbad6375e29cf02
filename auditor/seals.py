"""Commit seals: whether a quorum of the validators signed each block of a QBFT or IBFT 2.0 chain.

The extra data of such a header is the RLP of ``[vanity, [validators], vote, round, [seals]]``; a seal is
``r || s || v`` in 65 bytes. QBFT writes no vote as an empty list and the round as a number, IBFT 2.0 no vote
as an empty string and the round as four bytes. Three things are hashed of one header: the validators sign
it without the seals; the block's hash is that of a header without the seals and of round zero; neither is the
Keccak-256 of the header as it stands. (Hyperledger Besu: ``QbftExtraDataCodec``, ``IbftExtraDataCodec``,
``BftBlockHashing``, ``BftCommitSealsValidationRule``.)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from coincurve import PublicKey
from eth_hash.auto import keccak

from sealtrace.auditor.case import ProofProblem, Seals, ValidatorChange
from sealtrace.auditor.headers import Header, rlp_bytes, rlp_list
from sealtrace.auditor.rlp import MalformedRlp, content, is_list, items
from sealtrace.protocol.identifiers import Address, Hex32, hex32

MAX_VALIDATORS: Final = 1_000
MAX_PROBLEMS: Final = 100
"""So many blocks are told whose seals do not hold; those after them are not looked at."""

NOT_PINNED: Final = (
    "commit seals were not checked: name the validators of the first block that is read, learnt from the "
    "consortium, by --validators"
)
NOT_SEALED: Final = "the blocks carry no commit seals of QBFT or IBFT 2.0"

_EXTRA: Final = 12
_ADD, _DROP = b"\xff", (b"", b"\x00")


class MalformedSeals(ValueError):
    """The extra data is not that of a QBFT or IBFT 2.0 block: this chain seals its blocks in another way."""


class ValidatorsInContract(ValueError):
    """A header lists no validators, because the chain takes them from a contract: audit without
    ``--validators``, to proof level 2."""


class Scheme(StrEnum):
    """How a block is sealed."""

    QBFT = "QBFT"
    IBFT2 = "IBFT 2.0"


@dataclass(frozen=True, slots=True)
class Vote:
    """A proposer's vote, in a block's header, on one address."""

    address: Address
    add: bool

    def on(self, validators: frozenset[Address]) -> frozenset[Address]:
        """The validators if this vote is the one that decides."""
        return validators | {self.address} if self.add else validators - {self.address}


@dataclass(frozen=True, slots=True)
class Sealed:
    """A sealed header: its hash on the chain, and what its validators signed and who they say they are."""

    scheme: Scheme
    hash: Hex32
    message: bytes
    validators: tuple[Address, ...]
    vote: Vote | None
    seals: tuple[bytes, ...]


def read_sealed(encoded: bytes) -> Sealed:
    """Read a header, as RLP and with its seals.

    Raises:
        MalformedSeals: it is not one of QBFT or IBFT 2.0.
    """
    try:
        fields = items(encoded)
        parts = items(content(fields[_EXTRA]))
        if len(parts) != 5 or len(content(parts[0])) != 32:
            raise MalformedSeals("the extra data has not the five parts of a sealed block")
        vanity, listed, vote, round_, seals = parts
        if max(len(items(listed)), len(items(seals))) > MAX_VALIDATORS:
            raise MalformedSeals(f"more than {MAX_VALIDATORS} validators or seals")
        scheme = _scheme(vote, content(round_))
        head = [vanity, listed, vote]
        return Sealed(
            scheme=scheme,
            hash=hex32(_hashed(fields, _without_round(scheme, head))),
            message=_hashed(fields, _without_seals(scheme, [*head, round_])),
            validators=tuple(map(_address, items(listed))),
            vote=_vote(scheme, vote),
            seals=tuple(map(content, items(seals))),
        )
    except (MalformedRlp, IndexError) as cause:
        raise MalformedSeals(f"the extra data is no sealed block's: {cause}") from cause


def on_chain(header: Header) -> Header:
    """The header with its hash as the chain computes it: of a sealed block, without the seals."""
    if not header.qbft:
        return header
    try:
        return replace(header, computed=read_sealed(header.encoded).hash)
    except MalformedSeals:
        return header


def quorum(validators: int) -> int:
    """How many must seal: two thirds, rounded up."""
    return -(-2 * validators // 3)


def signer(message: bytes, seal: bytes) -> Address | None:
    """Who made a seal; ``None`` where nobody can have."""
    if len(seal) != 65:
        return None
    try:
        key = PublicKey.from_signature_and_message(seal, message, hasher=None)
    except ValueError:
        return None
    return Address("0x" + keccak(key.format(compressed=False)[1:])[12:].hex())


def why_not_sealed(block: Sealed, validators: frozenset[Address]) -> tuple[str, str] | None:
    """What is expected and observed where ``validators`` did not seal the block by a quorum."""
    signers = [signer(block.message, seal) for seal in block.seals]
    known = [each for each in signers if each is not None]
    if len(known) < len(signers):
        return "seals that recover to an address", f"{len(signers) - len(known)} that do not"
    if len(set(known)) < len(known):
        return "one seal of each validator", f"two of {next(a for a in known if known.count(a) > 1)}"
    if strangers := set(known) - validators:
        return f"seals of {_listed(validators)}", f"seals of {_listed(strangers)}"
    needed = quorum(len(validators))
    if len(known) < needed:
        return f"seals of {needed} of {len(validators)} validators", f"seals of {len(known)}"
    return None


@dataclass(slots=True)
class Follower:
    """Follows the validators from block to block, from a set that is known from elsewhere.

    The list in a header counts only where it is the set after the block before: the same as there, or changed
    by the one vote which that block carries. How many had voted so before is not counted again: a block that
    acts on too few votes would not be sealed by a quorum of the set it leads to, of which fewer than a third
    are dishonest. So one change at most is taken from block to block, and each needs the new set's seals.
    """

    pinned: frozenset[Address]
    validators: frozenset[Address] = frozenset()
    vote: Vote | None = None
    blocks: int = 0
    schemes: set[Scheme] = field(default_factory=set)
    changes: list[ValidatorChange] = field(default_factory=list)
    problems: list[ProofProblem] = field(default_factory=list)
    unsealed: bool = False

    def __post_init__(self) -> None:
        self.validators = self.validators or self.pinned

    def take(self, header: Header) -> None:
        """Take the next block.

        Raises:
            ValidatorsInContract: it lists no validators.
        """
        if not header.qbft:
            self.unsealed = True
        if not self.pinned or len(self.problems) >= MAX_PROBLEMS:
            return
        try:
            block = read_sealed(header.encoded)
        except MalformedSeals as cause:
            self._problem(header, "a block with commit seals", str(cause))
            return
        why = self._follow(header.number, block)
        self.vote = block.vote
        self.schemes.add(block.scheme)
        if why is None and header.number:  # the genesis is not sealed
            why = why_not_sealed(block, self.validators)
            self.blocks += why is None
        if why is not None:
            self._problem(header, *why)

    def _follow(self, number: int, block: Sealed) -> tuple[str, str] | None:
        """Take over the list of a block, or tell what is expected and observed instead."""
        listed = frozenset(block.validators)
        if not listed:
            raise ValidatorsInContract(f"block {number} lists no validators")
        if len(listed) < len(block.validators):
            return "each validator once", "one that is listed twice"
        if listed == self.validators:
            return None
        if self.vote is None or self.vote.on(self.validators) != listed:
            return f"validators {_listed(self.validators)}", _listed(listed)
        added, removed = sorted(listed - self.validators), sorted(self.validators - listed)
        self.changes.append(ValidatorChange(number, tuple(added), tuple(removed)))
        self.validators = listed
        return None

    def _problem(self, header: Header, expected: str, observed: str) -> None:
        self.problems.append(ProofProblem(header.number, expected, observed))

    def found(self) -> Seals:
        """What came of it."""
        if not self.pinned:
            return Seals(missing=NOT_SEALED if self.unsealed else NOT_PINNED, sealed=not self.unsealed)
        return Seals(
            pinned=tuple(sorted(self.pinned)),
            sealed=True,
            schemes=tuple(sorted(self.schemes)),
            blocks=self.blocks,
            last=tuple(sorted(self.validators)),
            changes=tuple(self.changes),
            problems=tuple(self.problems),
        )


def _scheme(vote: bytes, round_: bytes) -> Scheme:
    """A QBFT round of four bytes would be one beyond the sixteen millionth."""
    scheme = Scheme.IBFT2 if len(round_) == 4 else Scheme.QBFT
    if scheme is Scheme.QBFT and (len(round_) > 4 or round_[:1] == b"\0" or not is_list(vote)):
        raise MalformedSeals("the round or the vote is written as neither QBFT nor IBFT 2.0 does")
    return scheme


def _without_seals(scheme: Scheme, parts: Sequence[bytes]) -> bytes:
    return rlp_list([*parts, *([rlp_list([])] if scheme is Scheme.QBFT else [])])


def _without_round(scheme: Scheme, parts: Sequence[bytes]) -> bytes:
    return rlp_list([*parts, *([rlp_bytes(b""), rlp_list([])] if scheme is Scheme.QBFT else [])])


def _hashed(fields: Sequence[bytes], extra: bytes) -> bytes:
    return bytes(keccak(rlp_list([*fields[:_EXTRA], rlp_bytes(extra), *fields[_EXTRA + 1 :]])))


def _vote(scheme: Scheme, vote: bytes) -> Vote | None:
    if not is_list(vote):
        if scheme is Scheme.QBFT or content(vote):
            raise MalformedSeals("the vote is none")
        return None
    parts = items(vote)
    if not parts and scheme is Scheme.QBFT:
        return None
    if len(parts) != 2 or content(parts[1]) not in (_ADD, *_DROP):
        raise MalformedSeals("the vote is none")
    return Vote(_address(parts[0]), content(parts[1]) == _ADD)


def _address(encoded: bytes) -> Address:
    found = content(encoded)
    if len(found) != 20:
        raise MalformedSeals("an address that has not 20 bytes")
    return Address("0x" + found.hex())


def _listed(addresses: Iterable[Address]) -> str:
    return ", ".join(sorted(addresses)) or "nobody"
