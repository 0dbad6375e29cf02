"""Reading a range of the chain and proving it: every header linked, every block excluded or fully read."""

from __future__ import annotations

import itertools
from array import array
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sealtrace.auditor.case import Level, Proof, ProofProblem, Seals
from sealtrace.auditor.headers import (
    Header,
    RawLog,
    bloom_mask,
    logs_of,
    may_hold,
    read_header,
    read_log,
    receipts_root,
)
from sealtrace.auditor.material import Material
from sealtrace.auditor.rpc import Asking, EndpointRefused, EndpointTalksNonsense
from sealtrace.auditor.seals import Follower, on_chain
from sealtrace.auditor.state import state_root_of
from sealtrace.protocol.identifiers import NOTHING, Address, Hex32, UnixSeconds, hex32, raw
from sealtrace.protocol.records import BlockRef

HEADERS_PER_REQUEST = 100
BLOCKS_PER_LOG_REQUEST = 5_000


class Blocks:
    """The hash and time of every block read, 40 bytes for each."""

    def __init__(self, first: int) -> None:
        self._first = first
        self._hashes = bytearray()
        self._times = array("Q")

    def add(self, header: Header) -> None:
        """Add the next block."""
        self._hashes += raw(header.claimed)
        self._times.append(header.timestamp)

    def ref(self, number: int) -> BlockRef | None:
        """The block of that number, if it was read."""
        place = number - self._first
        if not 0 <= place < len(self._times):
            return None
        digest = bytes(self._hashes[32 * place : 32 * place + 32])
        return BlockRef(number, hex32(digest), UnixSeconds(self._times[place]))


@dataclass(frozen=True, slots=True)
class Reading:
    """The logs of our contracts in the range, in order, the blocks, and what is proven of them."""

    logs: tuple[RawLog, ...]
    blocks: Blocks
    proof: Proof
    state_root: Hex32
    """That of the last block."""


def read_range(
    rpc: Asking,
    contracts: Sequence[Address],
    first: int,
    last: int,
    material: Material | None = None,
    validators: Collection[Address] = (),
) -> Reading:
    """Read the blocks ``first`` to ``last`` and prove as much as the endpoint allows; keep what proves it in
    ``material``. ``validators`` are those of the block ``first``, known from elsewhere.

    Where a block's receipts rebuild its root, the logs are taken from them, whatever ``eth_getLogs`` said.

    Raises:
        EndpointUnreachable, EndpointTalksNonsense, EndpointRefused: nothing can be said.
        ValidatorsInContract: the validators were given, and the chain does not list them in its headers.
    """
    told = _by_block(_told_logs(rpc, contracts, first, last))
    prover = _Prover(rpc, contracts, first, told, material, Follower(frozenset(validators)))
    for header in _headers(rpc, first, last):
        prover.take(header)
    for number in sorted(set(told) - set(range(first, last + 1))):
        prover.problem(number, "no log outside the range", "a log of that block")
    return prover.done(last)


@dataclass(slots=True)
class _Prover:
    """Takes header after header; holds each block's logs to what its header commits to."""

    rpc: Asking
    contracts: Sequence[Address]
    first: int
    told: Mapping[int, list[RawLog]]
    material: Material | None = None
    seals: Follower = field(default_factory=lambda: Follower(frozenset()))
    blocks: Blocks = field(init=False)
    masks: tuple[int, ...] = field(init=False)
    logs: list[RawLog] = field(default_factory=list)
    chain_problems: list[ProofProblem] = field(default_factory=list)
    log_problems: list[ProofProblem] = field(default_factory=list)
    parent: Hex32 | None = None
    last: Header | None = None
    rebuilt: int = 0
    excluded: int = 0
    count: int = 0
    lacking: str | None = None

    def __post_init__(self) -> None:
        self.blocks = Blocks(self.first)
        self.masks = tuple(bloom_mask(raw(address)) for address in self.contracts)

    def take(self, header: Header) -> None:
        self._link(header)
        self.seals.take(header)
        self.last = header
        self.blocks.add(header)
        told = self.told.get(header.number, [])
        if may_hold(header.bloom, self.masks):
            self.logs += self._proven(header, told)
            return
        self.excluded += 1
        self._keep(header, None)
        for log in told:
            self.problem(header.number, "no log: the bloom filter excludes our contracts", "one", log)

    def problem(self, number: int, expected: str, observed: str, log: RawLog | None = None) -> None:
        place = (log.transaction, log.index) if log else (None, None)
        self.log_problems.append(ProofProblem(number, expected, observed, *place))

    def _link(self, header: Header) -> None:
        if header.computed != header.claimed:
            if header.qbft:
                self.lacking = (
                    "the chain seals its blocks in a way whose hashes this version does not recompute"
                )
            else:
                told = f"block hash {header.claimed}"
                problem = ProofProblem(header.number, f"header hash {header.computed}", told)
                self.chain_problems.append(problem)
        if self.parent not in (None, header.parent):
            told = f"parent {header.parent}"
            self.chain_problems.append(ProofProblem(header.number, f"parent {self.parent}", told))
        self.parent = header.claimed
        self.count += 1

    def _keep(self, header: Header, receipts: list[dict[str, object]] | None) -> None:
        if self.material is not None:
            self.material.block(header, receipts)

    def _proven(self, header: Header, told: list[RawLog]) -> list[RawLog]:
        """The block's logs of our contracts, from receipts that rebuild its root."""
        receipts = self._receipts(header.number)
        logs = None if receipts is None else self._rebuilt(header, receipts)
        self._keep(header, None if logs is None else receipts)
        if logs is None:
            return told
        self.rebuilt += 1
        ours = [log for log in logs if log.address in self.contracts]
        self._compare(header.number, ours, told)
        return ours

    def _rebuilt(self, header: Header, receipts: list[dict[str, object]]) -> list[RawLog] | None:
        """All logs of ``receipts``, if they rebuild the header's root."""
        try:
            root, found = receipts_root(receipts), logs_of(receipts, header.number)
        except ValueError as cause:
            self.problem(header.number, "receipts as every block has them", str(cause))
            return None
        if root != header.receipts_root:
            self.problem(header.number, f"receipts root {header.receipts_root}", f"receipts root {root}")
            return None
        return found

    def _receipts(self, number: int) -> list[dict[str, object]] | None:
        if self.lacking is not None and "eth_getBlockReceipts" in self.lacking:
            return None
        try:
            receipts = self.rpc.ask("eth_getBlockReceipts", hex(number))
        except EndpointRefused as refused:
            self.lacking = f"the endpoint gives no receipts by eth_getBlockReceipts: {refused}"
            return None
        if not isinstance(receipts, list):
            raise EndpointTalksNonsense(f"the receipts of block {number} are no list")
        return receipts

    def _compare(self, number: int, proven: list[RawLog], told: list[RawLog]) -> None:
        by_index = {log.index: log for log in told}
        for log in proven:
            given = by_index.pop(log.index, None)
            if given != log:
                observed = "left out" if given is None else f"told otherwise: {_shown(given)}"
                self.problem(number, _shown(log), observed, log)
        for log in by_index.values():
            self.problem(number, "no such log in the block's receipts", _shown(log), log)

    def done(self, last: int) -> Reading:
        troubled = "what the endpoint told differs from what the blocks commit to: see the findings"
        reason = self.lacking or (troubled if self.chain_problems or self.log_problems else "")
        seals = self.seals.found()
        level, reason = _level(reason, seals)
        proof = Proof(
            level=level,
            reason=reason,
            first=self.first,
            last=last,
            headers=self.count,
            receipts_rebuilt=self.rebuilt,
            excluded_by_bloom=self.excluded,
            chain_problems=tuple(self.chain_problems),
            log_problems=tuple(self.log_problems),
            seals=seals,
        )
        root = state_root_of(self.last.encoded) if self.last else NOTHING
        return Reading(tuple(self.logs), self.blocks, proof, root)


def _level(reason: str, seals: Seals) -> tuple[Level, str]:
    """The level that was reached, and why not the next."""
    if reason:
        return Level.RPC_TRUSTED, reason
    if seals.blocks and not seals.problems:
        return Level.SEALS_CHECKED, ""
    return Level.RECEIPTS_COMPLETE, seals.missing or "seals are missing, or do not hold: see the findings"


def _shown(log: RawLog) -> str:
    return f"log {log.index} of {log.address} with topics {', '.join(log.topics)} and data {log.data}"


def _by_block(logs: Iterator[RawLog]) -> dict[int, list[RawLog]]:
    found: dict[int, list[RawLog]] = defaultdict(list)
    for log in logs:
        found[log.block].append(log)
    return {number: sorted(each, key=lambda log: log.index) for number, each in found.items()}


def _told_logs(rpc: Asking, contracts: Sequence[Address], first: int, last: int) -> Iterator[RawLog]:
    """What ``eth_getLogs`` says, in ranges that are halved where the endpoint finds them too long."""
    width = BLOCKS_PER_LOG_REQUEST
    while first <= last:
        end = min(first + width - 1, last)
        wanted = {"fromBlock": hex(first), "toBlock": hex(end), "address": sorted(contracts)}
        try:
            answer = rpc.ask("eth_getLogs", wanted)
        except EndpointRefused:
            if width == 1:
                raise
            width //= 2
            continue
        if not isinstance(answer, list):
            raise EndpointTalksNonsense("the answer to eth_getLogs is no list")
        yield from map(_strict_log, answer)
        first = end + 1


def _strict_log(log: object) -> RawLog:
    try:
        return read_log(log)
    except ValueError as cause:
        raise EndpointTalksNonsense(f"a log that is none: {cause}") from cause


def _headers(rpc: Asking, first: int, last: int) -> Iterator[Header]:
    numbers = iter(range(first, last + 1))
    while batch := list(itertools.islice(numbers, HEADERS_PER_REQUEST)):
        blocks = rpc.ask_all("eth_getBlockByNumber", [(hex(number), False) for number in batch])
        for number, block in zip(batch, blocks, strict=True):
            yield _strict_header(number, block)


def _strict_header(number: int, block: object) -> Header:
    try:
        header = on_chain(read_header(block))
    except ValueError as cause:
        raise EndpointTalksNonsense(f"block {number}: {cause}") from cause
    if header.number != number:
        raise EndpointTalksNonsense(f"block {number} was asked for, and {header.number} came")
    return header


def first_log(rpc: Asking, consortium: Address, deployed_at: int) -> int:
    """The block of the consortium's first event, from its constructor: no other contract is older.

    Raises:
        EndpointUnreachable, EndpointTalksNonsense, EndpointRefused: it cannot be read.
    """
    found = [log.block for log in _told_logs(rpc, [consortium], 0, deployed_at)]
    return min([deployed_at, *found])
