"""Messages waiting for this node's engine, one queue per sender and topic, bounded per session."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from sealtrace.node.gateway.wire import Code, Refused

MAX_TOPICS = 512
Message = bytes | bytearray


class Queue:
    """What waits from one sender on one topic, and who waits for it."""

    __slots__ = ("_waiter", "messages")

    def __init__(self) -> None:
        self.messages: deque[Message] = deque()
        self._waiter: Callable[[], None] | None = None

    def wait(self, waiter: Callable[[], None]) -> None:
        """Call ``waiter``, once, when a message may be there."""
        self.wake()  # an engine asks once per topic: an older question was given up
        self._waiter = waiter

    def forget(self, waiter: Callable[[], None]) -> None:
        """Take the wish of ``waiter`` back."""
        if self._waiter is waiter:
            self._waiter = None

    def wake(self) -> None:
        """Let whoever waits look again."""
        if self._waiter is not None:
            waiter, self._waiter = self._waiter, None
            waiter()


class Mailbox:
    """All inbound queues of one session. ``capacity`` is the sum of their bytes."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._held = 0
        self._queues: dict[tuple[str, str], Queue] = {}

    def put(self, sender: str, topic: str, payload: Message) -> None:
        """Queue one message.

        Raises:
            Refused: the session holds as many bytes, or topics, as it may.
        """
        if self._held and self._held + len(payload) > self._capacity:
            raise Refused(Code.QUEUE_FULL, "this session's queue is full; try again")
        queue = self.queue(sender, topic)
        queue.messages.append(payload)
        self._held += len(payload)
        queue.wake()

    def take(self, queue: Queue) -> Message | None:
        """Return the oldest message of one of these queues, or ``None``."""
        if not queue.messages:
            return None
        payload = queue.messages.popleft()
        self._held -= len(payload)
        return payload

    def wake_all(self) -> None:
        """Let every waiting pop look again: the session's standing has changed."""
        for queue in list(self._queues.values()):
            queue.wake()

    def clear(self) -> None:
        """Forget all messages."""
        for queue in self._queues.values():
            queue.messages.clear()
        self._held = 0
        self.wake_all()

    def queue(self, sender: str, topic: str) -> Queue:
        """Return the queue of what ``sender`` sends on ``topic``.

        Raises:
            Refused: the session has as many topics as it may.
        """
        queue = self._queues.get((sender, topic))
        if queue is None:
            if len(self._queues) >= MAX_TOPICS:
                raise Refused(Code.MESSAGE, "too many topics in this session")
            queue = self._queues[sender, topic] = Queue()
        return queue
