"""Messages of a stream go out, and come in, while what is before or behind them is worked on.

One thread each, which does nothing but that: the order stays, and so does what is raised. A process that
ends does not wait for them.
"""

from __future__ import annotations

from collections.abc import Callable
from queue import Queue
from threading import Thread
from typing import Final

AHEAD: Final = 4
"""How many messages wait at most: of a mebibyte each, where they carry a sealed input."""


class SendingAhead:
    """Sends what it is given, in order, while the caller makes the next."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send
        self._waiting: Queue[bytes | None] = Queue(AHEAD)
        self._failed: BaseException | None = None
        self._thread = Thread(target=self._run, name="sending", daemon=True)
        self._thread.start()

    def send(self, message: bytes) -> None:
        """Take ``message`` to be sent; wait where too many are.

        Raises:
            BaseException: what ``send`` raised for this message's forerunners. Nothing is sent after that.
        """
        if self._failed is not None:
            raise self._failed
        self._waiting.put(message)

    def finish(self) -> None:
        """Wait until all is sent.

        Raises:
            BaseException: as :meth:`send`.
        """
        self._waiting.put(None)
        self._thread.join()
        if self._failed is not None:
            raise self._failed

    def _run(self) -> None:
        while (message := self._waiting.get()) is not None:
            if self._failed is None:
                try:
                    self._send(message)
                except BaseException as error:
                    self._failed = error


class ReceivingAhead:
    """Receives messages up to the ``last`` one, while the caller works on those before."""

    def __init__(self, receive: Callable[[], bytes], last: Callable[[bytes], bool]) -> None:
        self._receive, self._last = receive, last
        self._waiting: Queue[bytes | BaseException] = Queue(AHEAD)
        Thread(target=self._run, name="receiving", daemon=True).start()

    def receive(self) -> bytes:
        """The next message. Not to be called after the last.

        Raises:
            BaseException: what ``receive`` raised where this message should have come.
        """
        got = self._waiting.get()
        if isinstance(got, BaseException):
            raise got
        return got

    def _run(self) -> None:
        try:
            while not self._last(message := self._receive()):
                self._waiting.put(message)
            self._waiting.put(message)
        except BaseException as error:
            self._waiting.put(error)
