"""From a chain to its events: read from the start, or on from where an earlier reading ended.

What was final stays final. So before a kept reading is gone on with, the chain must still have the last block
of it; where it has another, that is a finding, and everything is read anew.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sealtrace.auditor.case import Proof, Replaced
from sealtrace.auditor.decoding import decode
from sealtrace.auditor.events import Event
from sealtrace.auditor.headers import RawLog, read_header
from sealtrace.auditor.kept import KeptReading
from sealtrace.auditor.material import Material
from sealtrace.auditor.reading import Blocks, Reading, Standing, read_blocks
from sealtrace.auditor.rpc import Asking, EndpointTalksNonsense
from sealtrace.auditor.seals import Follower
from sealtrace.protocol.identifiers import Address, Hex32
from sealtrace.protocol.records import BlockRef

BLOCKS_PER_SAVE: Final = 10_000

Notice = Callable[[int, int, int], None]
"""Hears of the block that was read, the last one that will be, and how many events there are so far."""


class BehindReading(ValueError):
    """The chain ends before what was read of it already: the endpoint shows an old state, or hides the newest
    blocks. Use another endpoint, or ask for a later last block."""


def unnoticed(block: int, last: int, events: int) -> None:
    """Nobody listens."""


@dataclass(frozen=True, slots=True)
class ChainSource:
    """What is read, up to ``last``, and who is told."""

    rpc: Asking
    contracts: Mapping[Address, str]
    last: BlockRef
    material: Material | None = None
    notice: Notice = unnoticed


@dataclass(frozen=True, slots=True)
class ChainRead:
    """All events of our contracts, in the order of the chain, the blocks, and what is proven of them."""

    events: tuple[Event, ...]
    blocks: Blocks
    proof: Proof
    state_root: Hex32
    """What the last block says that the state is."""


def read_all(
    source: ChainSource,
    first: int,
    kept: KeptReading | None = None,
    *,
    trusting: bool = False,
    validators: Collection[Address] = (),
) -> ChainRead:
    """Read from the block ``first`` on, and keep it where that is wanted. Raises as :func:`read_blocks`.

    ``validators`` are those of the block ``first``; of a kept reading they are in its subject.
    """
    if kept is None:
        standing = Standing(first, trusting, seals=Follower(frozenset(validators)))
        return _read(source, standing, Blocks(first), [])
    kept.restart(first, [])
    return _read_on(source, kept)


def go_on(source: ChainSource, kept: KeptReading) -> ChainRead:
    """Read on from where the kept reading ends.

    Raises:
        BehindReading: the chain ends before that.
        EndpointUnreachable, EndpointTalksNonsense, EndpointRefused: as :func:`read_blocks`.
    """
    standing, end = kept.standing, kept.last
    assert standing is not None  # noqa: S101 - a reading has begun
    if end is not None and source.last.number < end.number:
        raise BehindReading(f"the last block is {source.last.number}, and {end.number} was read already")
    replaced = None if end is None else _replaced(source.rpc, kept.blocks, end)
    if replaced is not None:
        kept.restart(standing.first, [*standing.replaced, replaced])
    elif not kept.complete:  # contracts were announced since, and logs of theirs may lie far back
        kept.restart(standing.first, standing.replaced)
    return _read_on(source, kept)


def _read_on(source: ChainSource, kept: KeptReading) -> ChainRead:
    standing = kept.standing
    assert standing is not None  # noqa: S101 - a reading has begun
    events: list[Event] = []
    for logs in kept.logs():
        events += events_in(logs, kept.blocks, source.contracts)
    return _read(source, standing, kept.blocks, events, kept)


def _read(
    source: ChainSource,
    standing: Standing,
    blocks: Blocks,
    events: list[Event],
    kept: KeptReading | None = None,
) -> ChainRead:
    add = _add_to(blocks) if kept is None else kept.add
    addresses = list(source.contracts)
    for block, logs in read_blocks(source.rpc, addresses, standing, source.last.number, source.material):
        add(block, logs)
        events += [decode(log, block, source.contracts) for log in logs]
        source.notice(block.number, source.last.number, len(events))
        if kept is not None and block.number % BLOCKS_PER_SAVE == 0:
            kept.save()
    if kept is not None:
        kept.save()
    return ChainRead(tuple(events), blocks, standing.proof(), standing.state_root)


def _add_to(blocks: Blocks) -> Callable[[BlockRef, Sequence[RawLog]], None]:
    return lambda block, _: blocks.add(block)


def _replaced(rpc: Asking, blocks: Blocks, end: BlockRef) -> Replaced | None:
    """The first block that the chain no longer has as it was read. With a block all after it are replaced, so
    it is found by halving."""
    if _hash_at(rpc, end.number) == end.hash:
        return None
    first, last = blocks.first, end.number
    while first < last:
        middle = (first + last) // 2
        same = _hash_at(rpc, middle) == _known(blocks, middle)
        first, last = (middle + 1, last) if same else (first, middle)
    return Replaced(first, end.number, _known(blocks, first), _hash_at(rpc, first))


def _known(blocks: Blocks, number: int) -> Hex32:
    found = blocks.ref(number)
    assert found is not None  # noqa: S101 - it was read
    return found.hash


def _hash_at(rpc: Asking, number: int) -> Hex32:
    block = rpc.ask("eth_getBlockByNumber", hex(number), False)
    try:
        return read_header(block).claimed
    except ValueError as cause:
        raise EndpointTalksNonsense(f"block {number}: {cause}") from cause


def events_in(logs: Iterable[RawLog], blocks: Blocks, contracts: Mapping[Address, str]) -> list[Event]:
    """The events that ``logs`` are; logs of one block are next to each other."""
    found: list[Event] = []
    block: BlockRef | None = None
    for log in logs:
        if block is None or block.number != log.block:
            block = blocks.ref(log.block)
        if block is not None:
            found.append(decode(log, block, contracts))
    return found


def events_of(reading: Reading, contracts: Mapping[Address, str]) -> list[Event]:
    """The events in a reading, in the order of the chain."""
    return events_in(reading.logs, reading.blocks, contracts)
