"""Messages waiting for this node's engine, one queue per sender and topic, bounded per session."""

from __future__ import annotations

import asyncio
from collections import deque

from sealtrace.node.gateway.wire import Code, Refused

MAX_TOPICS = 512


class _Queue:
    __slots__ = ("messages", "waiter")

    def __init__(self) -> None:
        self.messages: deque[bytes] = deque()
        self.waiter: asyncio.Future[None] | None = None

    def wake(self) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)


class Mailbox:
    """All inbound queues of one session. ``capacity`` is the sum of their bytes."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._held = 0
        self._queues: dict[tuple[str, str], _Queue] = {}

    def put(self, sender: str, topic: str, payload: bytes) -> None:
        """Queue one message.

        Raises:
            Refused: the session holds as many bytes, or topics, as it may.
        """
        if self._held and self._held + len(payload) > self._capacity:
            raise Refused(Code.QUEUE_FULL, "this session's queue is full; try again")
        queue = self._queue(sender, topic)
        queue.messages.append(payload)
        self._held += len(payload)
        queue.wake()

    def take(self, sender: str, topic: str) -> bytes | None:
        """Return the oldest message from ``sender`` on ``topic``, or ``None``."""
        queue = self._queue(sender, topic)
        if not queue.messages:
            return None
        payload = queue.messages.popleft()
        self._held -= len(payload)
        return payload

    async def wait(self, sender: str, topic: str, timeout_s: float) -> None:
        """Return when a message may be there, when woken, or after ``timeout_s``."""
        queue = self._queue(sender, topic)
        loop = asyncio.get_running_loop()
        queue.wake()  # an engine asks once per topic: an older question was given up
        waiter = queue.waiter = loop.create_future()
        timer = loop.call_later(timeout_s, queue.wake)
        try:
            await waiter
        finally:
            timer.cancel()

    def wake_all(self) -> None:
        """Let every waiting pop look again: the session's standing has changed."""
        for queue in self._queues.values():
            queue.wake()

    def clear(self) -> None:
        """Forget all messages."""
        for queue in self._queues.values():
            queue.messages.clear()
        self._held = 0
        self.wake_all()

    def _queue(self, sender: str, topic: str) -> _Queue:
        queue = self._queues.get((sender, topic))
        if queue is None:
            if len(self._queues) >= MAX_TOPICS:
                raise Refused(Code.MESSAGE, "too many topics in this session")
            queue = self._queues[sender, topic] = _Queue()
        return queue
