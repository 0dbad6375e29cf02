"""Reading a range of the chain and proving it: every header linked, every block excluded or fully read."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from operator import attrgetter
from typing import Final

from sealtrace.auditor.case import Level, Proof, ProofProblem, Replaced, Seals
from sealtrace.auditor.fetching import Fetching, Window
from sealtrace.auditor.headers import (
    Header,
    RawLog,
    Receipt,
    ToldLog,
    bloom_mask,
    in_form,
    logs_of,
    may_hold,
    read_logs,
    receipts_rlp,
    receipts_root,
)
from sealtrace.auditor.material import Material
from sealtrace.auditor.rpc import Asking, EndpointTalksNonsense
from sealtrace.auditor.seals import Follower
from sealtrace.auditor.state import state_root_of
from sealtrace.protocol.identifiers import NOTHING, Address, Hex32, UnixSeconds, hex32, raw
from sealtrace.protocol.records import BlockRef

_index = attrgetter("index")

TRUSTED: Final = "the auditor chose to take the endpoint's word"


class Blocks:
    """The hash and time of every block read, 40 bytes for each."""

    def __init__(self, first: int) -> None:
        self.first = first
        self._hashes = bytearray()
        self._times = array("Q")

    def __len__(self) -> int:
        return len(self._times)

    def add(self, block: BlockRef) -> None:
        """Add the next block."""
        self._hashes += raw(block.hash)
        self._times.append(block.timestamp)

    def ref(self, number: int) -> BlockRef | None:
        """The block of that number, if it was read."""
        place = number - self.first
        if not 0 <= place < len(self._times):
            return None
        digest = bytes(self._hashes[32 * place : 32 * place + 32])
        return BlockRef(number, hex32(digest), UnixSeconds(self._times[place]))


@dataclass(slots=True)
class Standing:
    """How far a reading has come and what it found: all that the next block is held to. Kept in a checkpoint,
    it goes on as if it had never stopped."""

    first: int
    trusting: bool = False
    """Whether the endpoint's logs are taken as they are told."""
    parent: Hex32 | None = None
    headers: int = 0
    rebuilt: int = 0
    excluded: int = 0
    lacking: str | None = None
    """Why headers are not proven."""
    no_receipts: str | None = None
    """Why receipts are looked at no more."""
    chain_problems: list[ProofProblem] = field(default_factory=list)
    log_problems: list[ProofProblem] = field(default_factory=list)
    replaced: list[Replaced] = field(default_factory=list)
    seals: Follower = field(default_factory=lambda: Follower(frozenset()))
    """Who seals, and what was found of it."""
    state_root: Hex32 = NOTHING
    """What the last block says that the state is."""

    @property
    def next(self) -> int:
        """The first block that was not read yet."""
        return self.first + self.headers

    def proof(self) -> Proof:
        """What is proven by now."""
        troubled = "what the endpoint told differs from what the blocks commit to: see the findings"
        reason = self.no_receipts or self.lacking
        reason = reason or (troubled if self.chain_problems or self.log_problems else "")
        seals = self.seals.found()
        level, reason = _level(TRUSTED if self.trusting else reason, seals)
        return Proof(
            level=level,
            reason=reason,
            first=self.first,
            last=self.next - 1,
            headers=self.headers,
            receipts_rebuilt=self.rebuilt,
            excluded_by_bloom=self.excluded,
            chain_problems=tuple(self.chain_problems),
            log_problems=tuple(sorted(self.log_problems, key=_place)),
            replaced=tuple(self.replaced),
            seals=seals,
        )


def _level(reason: str, seals: Seals) -> tuple[Level, str]:
    """The level that was reached, and why not the next."""
    if reason:
        return Level.RPC_TRUSTED, reason
    if seals.blocks and not seals.problems:
        return Level.SEALS_CHECKED, ""
    return Level.RECEIPTS_COMPLETE, seals.missing or "seals are missing, or do not hold: see the findings"


def _place(problem: ProofProblem) -> tuple[int, int]:
    return problem.block, -1 if problem.log_index is None else problem.log_index


@dataclass(frozen=True, slots=True)
class Reading:
    """The logs of our contracts in the range, in order, the blocks, and what is proven of them."""

    logs: tuple[RawLog, ...]
    blocks: Blocks
    proof: Proof
    state_root: Hex32 = NOTHING
    """What the last block says that the state is."""


def read_range(
    rpc: Asking,
    contracts: Sequence[Address],
    first: int,
    last: int,
    material: Material | None = None,
    validators: Collection[Address] = (),
    *,
    trusting: bool = False,
) -> Reading:
    """Read the blocks ``first`` to ``last`` and hold all of them in memory; see :func:`read_blocks`.

    ``validators`` are those of the block ``first``, known from elsewhere.
    """
    standing = Standing(first, trusting, seals=Follower(frozenset(validators)))
    blocks, logs = Blocks(first), list[RawLog]()
    for block, found in read_blocks(rpc, contracts, standing, last, material):
        blocks.add(block)
        logs += found
    return Reading(tuple(logs), blocks, standing.proof(), standing.state_root)


def read_blocks(
    rpc: Asking, contracts: Sequence[Address], standing: Standing, last: int, material: Material | None = None
) -> Iterator[tuple[BlockRef, list[RawLog]]]:
    """Read on from ``standing`` up to the block ``last`` and prove as much as the endpoint allows; keep what
    proves it in ``material``. Every block is given with the logs of our contracts in it, once ``standing``
    has taken it in; no more than a few windows of blocks are held in memory.

    Where a block's receipts rebuild its root, the logs are taken from them, whatever ``eth_getLogs`` said.

    Raises:
        EndpointUnreachable, EndpointTalksNonsense, EndpointRefused: nothing can be said.
        ValidatorsInContract: validators are known, and the chain does not list its own in its headers.
    """
    prover = _Prover(contracts, standing, material)
    fetching = Fetching(rpc, contracts, receipts=not standing.trusting and standing.no_receipts is None)
    for window in fetching.windows(standing.next, last):
        yield from prover.take(window)


class _Prover:
    """Takes block after block; holds each block's logs to what its header commits to."""

    def __init__(self, contracts: Sequence[Address], standing: Standing, material: Material | None) -> None:
        self._contracts = frozenset(contracts)
        self._masks = tuple(bloom_mask(raw(address)) for address in contracts)
        self._standing = standing
        self._material = material

    def take(self, window: Window) -> Iterator[tuple[BlockRef, list[RawLog]]]:
        told = window.told
        for header in window.headers:
            logs = self._block(header, told.pop(header.number, []), window)
            yield BlockRef(header.number, header.claimed, header.timestamp), logs
        for log in _strict_logs([log for logs in told.values() for log in logs]):
            self._problem(log.block, "no log outside the range", "a log of that block", log)

    def _block(self, header: Header, told: list[ToldLog], window: Window) -> list[RawLog]:
        self._link(header)
        if self._standing.trusting:
            self._keep(header, None)
            return self._trusted(header.number, told)
        if may_hold(header.bloom, self._masks):
            return self._proven(header, told, window)
        self._standing.excluded += 1
        self._keep(header, None)
        for log in _strict_logs(told):
            expected = "no log: the bloom filter excludes our contracts"
            self._problem(header.number, expected, "one", log)
        return []

    def _trusted(self, number: int, told: list[ToldLog]) -> list[RawLog]:
        """What is told, where nothing shows whether it is so; two logs at one place it cannot be."""
        logs = [log for log in _strict_logs(told) if log.address in self._contracts]
        logs.sort(key=_index)
        for one, other in pairwise(logs):
            if one.index == other.index:
                self._problem(number, f"one log {one.index}", f"another: {_shown(other)}", other)
        return logs

    def _problem(self, number: int, expected: str, observed: str, log: RawLog | None = None) -> None:
        place = (log.transaction, log.index) if log else (None, None)
        self._standing.log_problems.append(ProofProblem(number, expected, observed, *place))

    def _link(self, header: Header) -> None:
        standing = self._standing
        if header.computed != header.claimed:
            if header.qbft:
                standing.lacking = (
                    "the chain seals its blocks in a way whose hashes this version does not recompute"
                )
            else:
                told = f"block hash {header.claimed}"
                problem = ProofProblem(header.number, f"header hash {header.computed}", told)
                standing.chain_problems.append(problem)
        if standing.parent not in (None, header.parent):
            told = f"parent {header.parent}"
            standing.chain_problems.append(ProofProblem(header.number, f"parent {standing.parent}", told))
        standing.seals.take(header)
        standing.parent, standing.state_root = header.claimed, state_root_of(header.encoded)
        standing.headers += 1

    def _keep(self, header: Header, receipts: Sequence[bytes] | None) -> None:
        if self._material is not None:
            self._material.block(header, receipts)

    def _proven(self, header: Header, told: list[ToldLog], window: Window) -> list[RawLog]:
        """The block's logs of our contracts, from receipts that rebuild its root."""
        receipts = self._receipts(header.number, window)
        proven = None if receipts is None else self._rebuilt(header, receipts)
        self._keep(header, None if proven is None else proven[1])
        if proven is None:
            return self._trusted(header.number, told)
        self._standing.rebuilt += 1
        ours = logs_of(proven[0], header.number, self._contracts)
        if not _told_alike(ours, told):
            self._compare(header.number, ours, told)
        return ours

    def _receipts(self, number: int, window: Window) -> list[Receipt] | None:
        """The receipts that were fetched; from the first refused on, none are looked at."""
        if self._standing.no_receipts is not None:
            return None
        found = window.receipts.get(number)
        if found is None:
            why = f"the endpoint gives no receipts by eth_getBlockReceipts: {window.refused}"
            self._standing.no_receipts = why
        return found

    def _rebuilt(self, header: Header, told: list[Receipt]) -> tuple[list[Receipt], list[bytes]] | None:
        """The receipts in form and as the trie holds them, if they rebuild the header's root."""
        try:
            receipts = in_form(told)
            encoded = receipts_rlp(receipts)
        except ValueError as cause:
            self._problem(header.number, "receipts as every block has them", str(cause))
            return None
        root = receipts_root(encoded)
        if root != header.receipts_root:
            self._problem(header.number, f"receipts root {header.receipts_root}", f"receipts root {root}")
            return None
        return receipts, encoded

    def _compare(self, number: int, proven: list[RawLog], told: list[ToldLog]) -> None:
        by_index = {log.index: log for log in _strict_logs(told)}
        for log in proven:
            given = by_index.pop(log.index, None)
            if given != log:
                observed = "left out" if given is None else f"told otherwise: {_shown(given)}"
                self._problem(number, _shown(log), observed, log)
        for log in by_index.values():
            self._problem(number, "no such log in the block's receipts", _shown(log), log)


def _told_alike(proven: list[RawLog], told: list[ToldLog]) -> bool:
    """Whether two tellings agree to the letter: how it is with an honest endpoint, and quickly seen."""
    return len(proven) == len(told) and all(map(_alike, proven, told))


def _alike(one: RawLog, other: ToldLog) -> bool:
    return (
        one.data == other.data
        and one.topics == other.topics
        and one.address == other.address
        and one.transaction == other.transactionHash
        and hex(one.index) == other.logIndex
    )


def _shown(log: RawLog) -> str:
    return f"log {log.index} of {log.address} with topics {', '.join(log.topics)} and data {log.data}"


def _strict_logs(logs: list[ToldLog]) -> list[RawLog]:
    try:
        return read_logs(logs)
    except ValueError as cause:
        raise EndpointTalksNonsense(f"a log that is none: {cause}") from cause
