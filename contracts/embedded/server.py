"""The producing process: JSON-RPC over HTTP, and the loop that makes blocks.

One worker thread owns the producer; what changes nothing is answered by reader processes; the event
loop only carries bytes. HTTP is a few lines of ASGI: ``GET /`` answers the chain's health, ``POST /``
takes JSON-RPC.
"""

import asyncio
import contextlib
import errno
import json
import logging
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import uvicorn

from . import rpc
from .errors import INVALID_REQUEST, AddressUnusable, PortTaken, RpcError
from .machine import deep_calls
from .producer import MIN_BLOCK_INTERVAL, Producer, open_producer
from .readers import STACK_BYTES, Limits, Readers

ENDPOINT_NAME = "endpoint.json"
COLLECT_SECONDS = 0.05
"""How long the first transaction of a block waits for others that come with it."""
RETRY_SECONDS = 5.0
"""How long the producer pauses after a failure such as a full disk."""
BODY_SECONDS = 30.0
"""How long a client may take to send its request."""
SHUTDOWN_SECONDS = 3

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Announce = Callable[[str, int, int], None]
"""Told the URL, the chain id and the head's number."""

P = ParamSpec("P")
T = TypeVar("T")

Send = Callable[[Message], Awaitable[None]]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Settings:
    """Where and how to serve. Seconds; ``heartbeat`` 0 makes no empty blocks."""

    directory: Path
    host: str = "127.0.0.1"
    port: int = 0
    block_interval: int = MIN_BLOCK_INTERVAL
    heartbeat: int = 0
    limits: Limits = field(default_factory=Limits)


@dataclass(slots=True)
class Pace:
    """When the next block is due. All times in seconds."""

    interval: int
    heartbeat: int
    last_made: float
    """On the monotonic clock; keeps the pace when the wall clock was set back."""

    def is_due(self, head_time: int, now: float, monotonic: float) -> bool:
        """Tell whether a block may follow a head of ``head_time``."""
        return now >= head_time + self.interval or monotonic >= self.last_made + self.interval

    def is_heartbeat(self, head_time: int, now: float, monotonic: float) -> bool:
        """Tell whether an empty block is due so that time passes on chain."""
        if not self.heartbeat:
            return False
        return now >= head_time + self.heartbeat or monotonic >= self.last_made + self.heartbeat


class Service:
    """One producer behind one event loop: an ASGI application with a mining task."""

    def __init__(self, producer: Producer, settings: Settings) -> None:
        self._producer = producer
        self._context = rpc.Context(producer)
        self._readers = Readers(settings.directory, settings.limits)
        self._reading = ThreadPoolExecutor(settings.limits.readers, thread_name_prefix="reader")
        self._executions = asyncio.Semaphore(settings.limits.executions)
        self._awaiting = 0
        self._pace = Pace(settings.block_interval, settings.heartbeat, time.monotonic())
        threading.stack_size(STACK_BYTES)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="chain")
        self._wake = asyncio.Event()

    # HTTP

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection event (ASGI)."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:
            await send({"type": "websocket.close"})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["method"], scope["path"]:
            case "GET", "/":
                await _reply(send, 200, await self._health())
            case "POST", "/":
                await self._post(scope, receive, send)
            case _, "/":
                await _reply(send, 405, _problem("use POST with JSON-RPC, or GET for health"))
            case _:
                await _reply(send, 404, _problem("JSON-RPC is served at /"))

    async def _post(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not _is_json(scope):  # a web page may send other types here without being asked
            await _reply(send, 415, _problem("send Content-Type: application/json"))
            return
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await _read(receive)
        except TimeoutError:
            await _reply(send, 408, _problem(f"the body took over {BODY_SECONDS:g} s"))
            return
        if body is None:
            await _reply(send, 413, _problem(f"a body has at most {rpc.MAX_BODY_BYTES} bytes"))
            return
        answer = await self._answer_body(body)
        await _reply(send, 204 if answer is None else 200, answer or b"")

    async def _answer_body(self, body: bytes) -> bytes | None:
        try:
            asked = rpc.read_body(body)
        except RpcError as error:
            return rpc.error_answer(None, error)
        answers: list[bytes] = []
        for is_write, run in groupby(asked.requests, partial(rpc.is_one_of, rpc.WRITES)):
            answer = self._write if is_write else self._read
            answers += await answer(list(run))
        return rpc.write_body(asked, answers)

    async def _write(self, requests: list[object]) -> list[bytes]:
        answers = await self._in_worker(lambda: [rpc.answer(self._context, each) for each in requests])
        self._wake.set()
        return answers

    async def _read(self, requests: list[object]) -> list[bytes]:
        if not any(rpc.is_one_of(rpc.EXECUTIONS, each) for each in requests):
            return await self._by_reader(requests, lambda: False)
        self._awaiting += 1
        try:
            await self._executions.acquire()
        finally:
            self._awaiting -= 1
        try:
            return await self._by_reader(requests, lambda: self._awaiting > 0)
        finally:
            self._executions.release()

    async def _by_reader(self, requests: list[object], is_awaited: Callable[[], bool]) -> list[bytes]:
        loop = asyncio.get_running_loop()
        answering = loop.run_in_executor(self._reading, self._readers.answer, requests, is_awaited)
        return await asyncio.shield(answering)  # the reader is busy, even if who asked has left

    async def _health(self) -> bytes:
        (answer,) = await self._read([{"jsonrpc": "2.0", "id": 1, "method": "sealtrace_health"}])
        return json.dumps(json.loads(answer).get("result")).encode()

    async def _in_worker(self, work: Callable[P, T], *arguments: P.args, **_: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, work, *arguments)

    # blocks

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        async with self._mining():
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    @contextlib.asynccontextmanager
    async def _mining(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._produce())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            self._worker.shutdown(wait=True)
            self._readers.close()
            self._reading.shutdown(wait=False, cancel_futures=True)

    async def _produce(self) -> None:
        """Make blocks for as long as the service runs; a failure is logged and tried again."""
        self._wake.set()  # for what was pending when the last process died
        while True:
            pause = await self._produce_once()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            self._wake.clear()
            await asyncio.sleep(COLLECT_SECONDS)

    async def _produce_once(self) -> float | None:
        """Make a block if one is due; return the seconds until it is worth looking again."""
        try:
            return await self._in_worker(self._mine_if_due)
        except Exception:
            log.exception("no block made; next attempt in %g s", RETRY_SECONDS)
            await asyncio.sleep(RETRY_SECONDS)
            return 0.0

    def _mine_if_due(self) -> float | None:
        now, monotonic = time.time(), time.monotonic()
        head_time = self._producer.head().timestamp
        heartbeat = self._pace.is_heartbeat(head_time, now, monotonic)
        waiting = self._producer.has_ready()
        if heartbeat or (waiting and self._pace.is_due(head_time, now, monotonic)):
            mined = self._producer.mine(int(now), empty=heartbeat)
            self._pace.last_made = monotonic
            log.info("block %s with %d transactions", mined.number, mined.transactions)
            return 0.0
        if waiting:
            return max(0.01, min(head_time + self._pace.interval - now, self._pace.interval))
        return float(MIN_BLOCK_INTERVAL) if self._pace.heartbeat else None


def serve(settings: Settings, announce: Announce) -> None:
    """Hold the chain's directory and serve it until SIGTERM or SIGINT.

    ``announce`` is called once connections are accepted; ``endpoint.json`` in the
    directory says the same while the process lives. Raises what
    :func:`~.producer.open_producer` raises, :class:`PortTaken` or :class:`AddressUnusable`.
    """
    producer = open_producer(settings.directory)
    try:
        with deep_calls(), listening(settings.host, settings.port) as listener:
            _run(producer, settings, listener, announce)
    finally:
        producer.close()


def _run(
    producer: Producer,
    settings: Settings,
    listener: socket.socket,
    announce: Announce,
) -> None:
    url = f"http://{_shown_host(settings.host)}:{listener.getsockname()[1]}"
    with _endpoint(settings.directory, url, producer):
        announce(url, producer.genesis.chain_id, producer.head().block_number)
        asyncio.run(_serve(producer, settings, listener))


async def _serve(producer: Producer, settings: Settings, listener: socket.socket) -> None:
    config = uvicorn.Config(
        Service(producer, settings),
        lifespan="on",
        log_level="warning",
        access_log=False,
        limit_concurrency=1_000,
        timeout_keep_alive=60,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    await _Server(config).serve(sockets=[listener])


class _Server(uvicorn.Server):
    """uvicorn, except that a signal ends the serving and not the process: files are closed after."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield


@contextlib.contextmanager
def _endpoint(directory: Path, url: str, producer: Producer) -> Iterator[None]:
    """Say in the directory where its chain is served, for as long as it is."""
    path = directory / ENDPOINT_NAME
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps({"url": url, "chainId": producer.genesis.chain_id}) + "\n")
    draft.replace(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def listening(host: str, port: int) -> socket.socket:
    """Return a listening socket; raises :class:`PortTaken` or :class:`AddressUnusable`."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, OverflowError) as error:
        raise AddressUnusable(host, port, str(error)) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(host, port) from error
        raise AddressUnusable(host, port, str(error)) from error
    return listener


def _shown_host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


async def _read(receive: Receive) -> bytes | None:
    """Return the body, or ``None`` when it is larger than allowed or the client left."""
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part = message.get("body", b"")
        size += len(part)
        if size > rpc.MAX_BODY_BYTES:
            return None
        parts.append(part)
        if not message.get("more_body"):
            return b"".join(parts)


def _is_json(scope: Scope) -> bool:
    kinds = [value for name, value in scope["headers"] if name == b"content-type"]
    return len(kinds) == 1 and kinds[0].split(b";")[0].strip().lower() == b"application/json"


def _problem(message: str) -> bytes:
    error = {"code": INVALID_REQUEST, "message": message}
    return json.dumps({"jsonrpc": "2.0", "id": None, "error": error}).encode()


async def _reply(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
