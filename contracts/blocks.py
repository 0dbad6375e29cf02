"""Blocks as an endpoint shows them, and which of them stay."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from sealtrace.contracts.errors import FinalBlockReplaced, MalformedAnswer, UnknownBlock
from sealtrace.contracts.link import Ask, Failure, Link, content, hexadecimal, number
from sealtrace.protocol.identifiers import UnixSeconds, hex32
from sealtrace.protocol.records import BlockRef

ENDPOINT_FINALIZED = -1
"""For ``ChainSettings.confirmations``: take the endpoint's own ``finalized`` block."""


def block_ref(found: Mapping[str, Any]) -> BlockRef:
    """A block's reference from its JSON."""
    try:
        hash = hex32(content(found["hash"]))
        return BlockRef(number(found["number"]), hash, UnixSeconds(number(found["timestamp"])))
    except (KeyError, ValueError, TypeError) as cause:
        raise MalformedAnswer("a block", str(cause)) from cause


def block_at(link: Link, tag: str) -> BlockRef:
    """The block that an endpoint shows at a height (hexadecimal) or under a name.

    Raises:
        UnknownBlock: there is none.
    """
    return block_from(link, tag, link.attempt("eth_getBlockByNumber", tag, False))


def block_from(link: Link, tag: str, answer: Any) -> BlockRef:
    """The same from an answer that was asked for with others."""
    if answer is None or (isinstance(answer, Failure) and not link.by_hash):
        raise UnknownBlock(tag)
    if isinstance(answer, Failure):
        raise answer.error()
    return block_ref(answer)


class Finality:
    """Which block is final under a policy. It never goes back. Safe to use from several threads.

    An endpoint whose head goes backwards makes no final block unfinal: it is behind, and what was final
    stays. One that shows another block in a final one's place is never followed.
    """

    def __init__(self, link: Link, confirmations: int) -> None:
        self._link = link
        self._confirmations = confirmations
        self._newest: BlockRef | None = None
        self._lock = threading.Lock()

    @property
    def known(self) -> BlockRef | None:
        """The newest block that was found final so far, without asking anybody."""
        return self._newest

    def newest(self) -> BlockRef:
        """The newest final block.

        Raises:
            FinalBlockReplaced: the endpoint shows another in the place of one that was final.
        """
        before = self._newest
        found, shown = self._asked(before)
        if before is not None and shown is None:
            return before  # the endpoint is behind it, so nothing it says is newer
        if before is not None and shown is not None:
            _require_same(before, shown)
        return self._advanced(found)

    def require(self, final: BlockRef) -> None:
        """Make sure that a block which was final, perhaps for an earlier process, still is.

        Raises:
            FinalBlockReplaced: the endpoint shows another.
            UnknownBlock: it shows none there; it may be behind.
        """
        _require_same(final, block_at(self._link, hexadecimal(final.number)))

    def _asked(self, before: BlockRef | None) -> tuple[BlockRef, BlockRef | None]:
        """The newest final block as the endpoint has it, and what it shows in the place of the last one."""
        tag = "finalized" if self._confirmations == ENDPOINT_FINALIZED else "latest"
        heights = [] if before is None else [hexadecimal(before.number)]
        asks = [Ask("eth_getBlockByNumber", [each, False]) for each in (tag, *heights)]
        found, *shown = self._link.batch(asks)
        newest = block_from(self._link, tag, found)
        if self._confirmations > 0:
            newest = block_at(self._link, hexadecimal(max(0, newest.number - self._confirmations)))
        return newest, block_ref(shown[0]) if shown and isinstance(shown[0], Mapping) else None

    def _advanced(self, found: BlockRef) -> BlockRef:
        with self._lock:
            if self._newest is None or found.number > self._newest.number:
                self._newest = found
            elif found.number == self._newest.number:
                _require_same(self._newest, found)
            return self._newest


def _require_same(final: BlockRef, shown: BlockRef) -> None:
    if shown.hash != final.hash:
        raise FinalBlockReplaced(final.number, final.hash, shown.hash)
