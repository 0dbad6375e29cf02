"""The watcher follows the chain block by block, and sees to it that nothing is forgotten.

Each round: take in new final blocks; fetch introductions; queue open tasks that nobody holds; say to the
scheduler that the node is there; anchor the evidence log; send again what was not mined. Every part is safe
to repeat, so a watcher that was killed only begins the round again.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog

from sealtrace.contracts.events import ChainEvent
from sealtrace.node import terms as stored_terms
from sealtrace.node.chain import NAMING
from sealtrace.node.checkpoints import Anchorer
from sealtrace.node.errors import ChainRewritten, Unavailable
from sealtrace.node.introduction import BadIntroduction, read_introduction, to_stored
from sealtrace.node.ports import Scheduler
from sealtrace.node.settings import Limits
from sealtrace.node.store import Sighting, Store, TaskRow
from sealtrace.protocol.identifiers import Address, Hex32
from sealtrace.protocol.lifecycle import TaskEvent
from sealtrace.protocol.records import BlockRef, Node, TaskTerms

CURSOR = "watcher.cursor"
BLOCKS_AT_ONCE = 2000
_NOTHING_TO_DO = (TaskEvent.CREATED, TaskEvent.FINISHED, TaskEvent.PROGRESS, TaskEvent.ACKNOWLEDGED)
_WAKING = frozenset(event.value for event in TaskEvent if event not in _NOTHING_TO_DO)
_log = structlog.get_logger("watcher")


class FollowedChain(Protocol):
    """What the watcher asks of the chain; see :class:`sealtrace.node.chain.ChainReader`."""

    def finalized(self) -> BlockRef: ...  # noqa: D102
    def block(self, number: int) -> BlockRef: ...  # noqa: D102
    def node(self, node: Address, *, at: BlockRef) -> Node: ...  # noqa: D102
    def terms(self, named: Sequence[ChainEvent]) -> Mapping[Hex32, TaskTerms]: ...  # noqa: D102
    def events(  # noqa: D102
        self,
        first: int,
        last: int,
        *,
        names: frozenset[str],
        party: Address | None = None,
        task: Hex32 | None = None,
    ) -> list[ChainEvent]: ...


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last block that was taken in."""

    number: int
    hash: Hex32 | None


@dataclass
class Watcher:
    """One node's watcher; :meth:`round` is one turn of it.

    ``deployed_at`` is the block from which on there is something to see; ``enqueue`` queues a task's id.
    """

    me: Address
    chain: FollowedChain
    store: Store
    scheduler: Scheduler
    anchorer: Anchorer
    limits: Limits
    deployed_at: int
    enqueue: Callable[[Hex32], None]
    hello: Callable[[], None]
    pump: Callable[[], None]
    clock: Callable[[], float] = time.time
    _next: dict[str, float] = field(default_factory=dict)
    _troubles: dict[str, str] = field(default_factory=dict)

    def run(self, over: threading.Event) -> None:
        """Turn until ``over`` is set.

        Raises:
            Compromised: the chain or the log is not what it was; nothing more is done.
        """
        while not over.is_set():
            self.round()
            over.wait(self.limits.poll_s)

    def round(self) -> None:
        """One turn. What the world does not answer now is tried in a later turn; the rest goes on.

        Raises:
            ChainRewritten, EvidenceTampered: see there.
        """
        with self._noted("following the chain"):
            self.follow()
        with self._noted("fetching introductions"):
            self.introduce()
        with self._noted("queueing tasks"):
            self.queue_due()
        if self._is_time("hello", self.limits.heartbeat_s):
            with self._noted("saying hello to the scheduler"):
                self.hello()
        with self._noted("anchoring the evidence log"):
            self.anchorer.anchor_if_due()
        if self._is_time("pump", self.limits.requeue_s):
            with self._noted("sending stored transactions again"):
                self.pump()

    def follow(self) -> None:
        """Take in the final blocks since the cursor.

        Raises:
            ChainRewritten: the block at the cursor is another than it was.
        """
        cursor, last = self._cursor(), self.chain.finalized()
        if cursor.hash is not None and cursor.number <= last.number:
            self._require_same(cursor)
        while cursor.number < last.number:
            until = self.chain.block(min(cursor.number + BLOCKS_AT_ONCE, last.number))
            self._take_in(cursor.number + 1, until)
            cursor = Cursor(until.number, until.hash)

    def introduce(self) -> None:
        """Fetch the introductions that are missing, each checked against the chain before it is kept."""
        for row in self.store.tasks(open_only=True):
            if row.spec is None and self._is_time(f"introduce {row.id}", 2 * self.limits.poll_s):
                self._introduce(row)

    def queue_due(self) -> None:
        """Queue every open task that nobody holds; that is how a killed worker's tasks go on."""
        for row in self.store.due():
            if row.spec is None and self._waits_for_introduction(row):
                continue
            self.enqueue(row.id)
            self.store.queued(row.id, self.limits.requeue_s)

    def _take_in(self, first: int, until: BlockRef) -> None:
        """What happened from ``first`` to ``until``, and the cursor with it: kept together or not at all."""
        named = self.chain.events(first, until.number, names=NAMING, party=self.me)
        found = [
            Sighting(task, terms.requester, stored_terms.to_text(terms), terms.deadline)
            for task, terms in self.chain.terms(named).items()
        ]
        events = self.chain.events(first, until.number, names=_WAKING)
        woken = {Hex32(str(event.args["task"])) for event in events}  # others' too: the store knows ours
        cursor = json.dumps({"number": until.number, "hash": until.hash})
        for task in self.store.take_in(found, woken, {CURSOR: cursor}):
            _log.info("task named this node", task=task)

    def _introduce(self, row: TaskRow) -> None:
        given = self.scheduler.introduction(row.id)
        if given is None:
            return
        terms, at = stored_terms.from_text(row.terms), self.chain.finalized()
        nodes = {party: self.chain.node(party, at=at) for party in terms.parties}
        try:
            spec, parties = to_stored(read_introduction(given, terms, nodes))
        except BadIntroduction as cause:
            self.store.note(row.id, "seen", f"the introduction is not usable: {cause}")
            return
        self.store.introduce(row.id, spec, json.dumps(parties))
        _log.info("task introduced", task=row.id)

    def _waits_for_introduction(self, row: TaskRow) -> bool:
        """A task is judged without its specification only to refuse it, when the wait is over or it expired.

        An operator's refusal needs none, and neither does a denial that the chain alone shows: the worker
        looks once when the task is new.
        """
        waited = self.clock() - row.seen_at
        over = waited >= self.limits.introduction_wait_s or self.clock() >= row.deadline
        return not over and row.queued > 0 and not row.stop_wanted

    def _cursor(self) -> Cursor:
        kept = self.store.mark(CURSOR)
        if kept is None:
            return Cursor(max(0, self.deployed_at - 1), None)
        value: Mapping[str, Any] = json.loads(kept)
        return Cursor(int(value["number"]), Hex32(value["hash"]))

    def _require_same(self, cursor: Cursor) -> None:
        if (observed := self.chain.block(cursor.number).hash) != cursor.hash:
            raise ChainRewritten(
                f"block {cursor.number} was {cursor.hash} and is {observed}: a final block was replaced"
            )

    @contextmanager
    def _noted(self, doing: str) -> Iterator[None]:
        """Go on with the rest of the round; say what does not work once, and when it works again."""
        try:
            yield
        except Unavailable as cause:
            if self._troubles.get(doing) != str(cause):
                _log.warning(f"{doing}: {cause}", error=type(cause).__name__)
            self._troubles[doing] = str(cause)
        else:
            if self._troubles.pop(doing, None):
                _log.info(f"{doing}: works again")

    def _is_time(self, what: str, every_s: float) -> bool:
        now = self.clock()
        if now < self._next.get(what, 0.0):
            return False
        self._next[what] = now + every_s
        return True
