"""Fetching a range of blocks in windows, some windows ahead of who takes them.

A window is as many blocks as give answers of a few megabytes: while one is proven, the next ones are on their
way. There are never more than a few in memory, however long the chain is.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

from sealtrace.auditor.headers import (
    Header,
    MalformedBlock,
    Receipt,
    ToldLog,
    bloom_mask,
    may_hold,
    quantity,
    read_header,
)
from sealtrace.auditor.rpc import AnswerTooLarge, Asking, EndpointRefused, EndpointTalksNonsense
from sealtrace.auditor.seals import on_chain
from sealtrace.protocol.identifiers import Address, raw

HEADERS_PER_REQUEST: Final = 100
RECEIPTS_PER_REQUEST: Final = 20
"""Blocks' receipts in one request."""
AHEAD: Final = 3
"""Windows on their way at once, each by a thread of its own."""
NARROWEST: Final = 100
WIDEST: Final = 1_000
"""Blocks of a window."""
FEW_LOGS, MANY_LOGS = 1_000, 4_000
"""A window with fewer is followed by a wider one, with more by a narrower one."""

Told = dict[int, list[ToldLog]]


@dataclass(slots=True)
class Window:
    """What the endpoint tells of some blocks in a row. ``receipts`` are of the blocks whose bloom filters
    allow for logs of ours, up to the first that the endpoint refused to give."""

    headers: list[Header]
    told: Told
    receipts: dict[int, list[Receipt]] = field(default_factory=dict)
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class Fetching:
    """Where to read and what. Without ``receipts`` only logs are read beside the headers."""

    rpc: Asking
    contracts: Sequence[Address]
    receipts: bool = True

    def windows(self, first: int, last: int) -> Iterator[Window]:
        """The blocks from ``first`` to ``last``, in order.

        Raises:
            EndpointUnreachable, EndpointTalksNonsense, EndpointRefused: they cannot be read.
        """
        width, coming = NARROWEST, deque[Future[Window]]()
        pool = ThreadPoolExecutor(AHEAD, thread_name_prefix="fetch")
        try:
            while first <= last or coming:
                while first <= last and len(coming) < AHEAD:
                    end = min(first + width - 1, last)
                    coming.append(pool.submit(self.window, first, end))
                    first = end + 1
                window = coming.popleft().result()
                width = _next_width(window)  # before it is given away: who takes it takes it apart
                yield window
        finally:
            pool.shutdown(cancel_futures=True)

    def window(self, first: int, last: int) -> Window:
        """The blocks from ``first`` to ``last`` at once. Raises as :meth:`windows`."""
        told = by_block(self.logs(first, last))
        window = Window(list(self._headers(first, last)), told)
        if self.receipts:
            masks = tuple(bloom_mask(raw(address)) for address in self.contracts)
            wanted = [each.number for each in window.headers if may_hold(each.bloom, masks)]
            self._add_receipts(window, wanted)
        return window

    def logs(self, first: int, last: int) -> list[ToldLog]:
        """What ``eth_getLogs`` says, by halves where the endpoint finds the range too long or the answer
        would be too large."""
        wanted = {"fromBlock": hex(first), "toBlock": hex(last), "address": sorted(self.contracts)}
        try:
            return self.rpc.ask("eth_getLogs", wanted, kind=list[ToldLog])
        except (EndpointRefused, AnswerTooLarge):
            if first == last:
                raise
        middle = (first + last) // 2
        return self.logs(first, middle) + self.logs(middle + 1, last)

    def _headers(self, first: int, last: int) -> Iterator[Header]:
        for start in range(first, last + 1, HEADERS_PER_REQUEST):
            batch = range(start, min(start + HEADERS_PER_REQUEST, last + 1))
            blocks = self.rpc.ask_all("eth_getBlockByNumber", [(hex(number), False) for number in batch])
            for number, block in zip(batch, blocks, strict=True):
                yield _strict_header(number, block)

    def _add_receipts(self, window: Window, numbers: Sequence[int]) -> None:
        for start in range(0, len(numbers), RECEIPTS_PER_REQUEST):
            batch = numbers[start : start + RECEIPTS_PER_REQUEST]
            try:
                found = self._receipts(batch)
            except EndpointRefused:
                self._add_one_by_one(window, batch)
            else:
                window.receipts.update(zip(batch, found, strict=True))
            if window.refused is not None:
                return

    def _add_one_by_one(self, window: Window, numbers: Sequence[int]) -> None:
        """Which block is the first that the endpoint refuses does not depend on what it is asked with."""
        for number in numbers:
            try:
                (window.receipts[number],) = self._receipts([number])
            except EndpointRefused as refused:
                window.refused = str(refused)
                return

    def _receipts(self, numbers: Sequence[int]) -> list[list[Receipt]]:
        asked = [(hex(number),) for number in numbers]
        return self.rpc.ask_all("eth_getBlockReceipts", asked, kind=list[Receipt])


def by_block(logs: Sequence[ToldLog]) -> Told:
    """Logs by the number of their block.

    Raises:
        EndpointTalksNonsense: a number is none.
    """
    spelt: dict[str, list[ToldLog]] = defaultdict(list)
    for log in logs:
        spelt[log.blockNumber].append(log)
    found: Told = {}
    try:
        for number, each in spelt.items():
            found.setdefault(quantity(number, "blockNumber"), []).extend(each)
    except MalformedBlock as cause:
        raise EndpointTalksNonsense(f"a log that is none: {cause}") from cause
    return found


def _next_width(window: Window) -> int:
    width, logs = len(window.headers), sum(map(len, window.told.values()))
    if logs > MANY_LOGS:
        return max(width // 2, 1)
    return min(width * 2, WIDEST) if logs < FEW_LOGS else width


def _strict_header(number: int, block: Any) -> Header:
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
    return min([deployed_at, *by_block(Fetching(rpc, [consortium]).logs(0, deployed_at))])
