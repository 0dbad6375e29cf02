"""Reader processes: what reads cost is not taken from the blocks.

Each reader opens the chain's database for reading only and answers one request at a time. One that
takes too long over a request is killed, whatever it is busy with, and another is started: no call,
however it is written, holds a reader for good. A reader ends when its producer does, even by kill -9.
"""

import json
import queue
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from . import rpc
from .errors import INTERNAL_ERROR, LIMIT_EXCEEDED, RpcError
from .machine import deep_calls
from .reading import open_reading

DEFAULT_READERS = 3
REQUEST_SECONDS = 5.0
SHARE_SECONDS = 1.0
BATCH_SECONDS = 30.0
LOOK_SECONDS = 0.25
STACK_BYTES = 128 * 1024 * 1024
"""Address space, not memory: contracts may call each other 1,024 deep."""

_processes = get_context("forkserver")  # a fresh reader costs a fork, and inherits no thread and no lock


@dataclass(frozen=True, slots=True)
class Limits:
    """How many readers there are, and how long they may take. Seconds.

    A request has ``request`` while nobody waits for its reader, and ``share`` when somebody does;
    ``batch`` is for all reads of one HTTP body together.
    """

    readers: int = DEFAULT_READERS
    request: float = REQUEST_SECONDS
    share: float = SHARE_SECONDS
    batch: float = BATCH_SECONDS

    @property
    def executions(self) -> int:
        """How many readers may execute calls at once; one is left for what is quickly answered."""
        return max(1, self.readers - 1)


class Readers:
    """The readers of one directory. Safe to use from as many threads as there are readers."""

    def __init__(self, directory: Path, limits: Limits) -> None:
        _processes.set_forkserver_preload([__name__])
        self._directory = directory
        self._limits = limits
        self._idle: queue.SimpleQueue[_Reader] = queue.SimpleQueue()
        for _ in range(limits.readers):
            self._idle.put(_Reader(directory))

    def answer(self, requests: Sequence[object], is_awaited: Callable[[], bool]) -> list[bytes]:
        """Answer each request in JSON, in order; blocks until a reader is free and done.

        What takes longer than the limits is answered with an error that says so. ``is_awaited`` tells
        whether somebody else waits for the reader.
        """
        reader = self._idle.get()
        try:
            until = time.monotonic() + self._limits.batch
            answers = []
            for request in requests:
                if reader.is_gone:
                    reader = _Reader(self._directory)
                answers.append(self._one(reader, request, until, is_awaited))
            return answers
        finally:
            self._idle.put(_Reader(self._directory) if reader.is_gone else reader)

    def close(self) -> None:
        """End the readers that are idle; the others end with this process."""
        while not self._idle.empty():
            self._idle.get().end()

    def _one(self, reader: "_Reader", request: object, until: float, is_awaited: Callable[[], bool]) -> bytes:
        began = time.monotonic()
        if began >= until:
            return rpc.error_answer(request, _batch_too_long(self._limits.batch))

        def is_late() -> bool:
            now = time.monotonic()
            taken = now - began
            return (
                taken >= self._limits.request
                or now >= until
                or (taken >= self._limits.share and is_awaited())
            )

        answer = reader.ask(request, is_late)
        return rpc.error_answer(request, answer) if isinstance(answer, RpcError) else answer


class _Reader:
    """One reader process, seen from the producer's."""

    def __init__(self, directory: Path) -> None:
        self.is_gone = False
        self._link, theirs = _processes.Pipe()
        self._process: BaseProcess = _processes.Process(target=read, args=(theirs, directory), daemon=True)
        self._process.start()
        theirs.close()

    def ask(self, request: object, is_late: Callable[[], bool]) -> bytes | RpcError:
        """Return the reader's answer, or why there is none; the reader is then gone."""
        began = time.monotonic()
        try:
            self._link.send_bytes(json.dumps(request).encode())
            while not is_late():
                if self._link.poll(LOOK_SECONDS):
                    return self._link.recv_bytes()
        except (EOFError, OSError):
            self.end()
            return RpcError(INTERNAL_ERROR, "internal error: the reader ended; ask again")
        self.end()
        return _too_long(time.monotonic() - began)

    def end(self) -> None:
        """Kill the process; it has nothing to lose."""
        self.is_gone = True
        self._process.kill()
        self._process.join()
        self._link.close()


def read(link: Connection, directory: Path) -> None:
    """Answer requests until the other end of ``link`` is closed. The body of a reader process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for the producer
    threading.stack_size(STACK_BYTES)
    answering = threading.Thread(target=_answer_all, args=(link, directory))
    answering.start()
    answering.join()


def _answer_all(link: Connection, directory: Path) -> None:
    with deep_calls(), open_reading(directory) as chain:
        context = rpc.Context(chain)
        while True:
            try:
                request = json.loads(link.recv_bytes())
            except EOFError:
                return
            with chain.store.snapshot():
                answer = rpc.answer(context, request)
            link.send_bytes(answer)


def _too_long(seconds: float) -> RpcError:
    return RpcError(
        LIMIT_EXCEEDED,
        f"the request was ended after {seconds:.2g} s, longer than it may take while others wait, or at all; "
        "ask for less: a call with less gas, logs of fewer blocks",
    )


def _batch_too_long(seconds: float) -> RpcError:
    return RpcError(
        LIMIT_EXCEEDED, f"the batch took over {seconds:.3g} s, the limit here; send the rest as another batch"
    )
