"""A JSON-RPC proxy before a real chain that does what endpoints do on a bad day.

``fault`` chooses what; it is changed while clients talk to it. Everything else passes unchanged.
"""

from __future__ import annotations

import json
import random
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from eth_hash.auto import keccak

from sealtrace.contracts.link import Failure, HttpLink, number


class Fault(StrEnum):
    NONE = "none"
    ERRORS = "answers every request with an error"
    UNAVAILABLE = "answers HTTP 503"
    GARBAGE = "answers bytes that are no JSON"
    NONSENSE = "answers JSON of the wrong kind"
    HANG = "takes the request and says nothing"
    HALT = "closes every connection"
    STALE = "stands still at the block where the fault began"
    LOW_NONCE = "names a nonce that is too low"
    HIGH_NONCE = "names a nonce that is too high"
    DROP = "acknowledges transactions and forgets them"
    LOSE_ANSWER = "passes transactions on and loses the answer"
    SEND_TWICE = "passes transactions on twice"


NONSENSE: list[Any] = [None, 7, "0xzz", [], {"a": 1}, "hello", True, {"hash": "0x1"}]


class Dropped(Exception):
    """The connection is closed without an answer."""


class Faulty:
    """What stands before the chain at ``url``. ``hang_s`` is longer than a client waits."""

    def __init__(self, url: str, seed: int = 0, hang_s: float = 1.0) -> None:
        self._link = HttpLink(url, 30)
        self._chance = random.Random(seed)
        self._hang_s = hang_s
        self._over = threading.Event()
        self._fault, self._height = Fault.NONE, 0
        self.posts = 0
        self.url = ""

    @property
    def fault(self) -> Fault:
        return self._fault

    @fault.setter
    def fault(self, fault: Fault) -> None:
        self._height = number(self._link.request("eth_blockNumber"))
        self._fault = fault

    def answer(self, body: bytes) -> bytes:
        """The answer to one post.

        Raises:
            Dropped: there is none.
        """
        self.posts += 1
        if self._fault is Fault.HALT:
            raise Dropped
        if self._fault is Fault.HANG:
            self._over.wait(self._hang_s)
            raise Dropped
        if self._fault is Fault.GARBAGE:
            return self._chance.randbytes(40)
        asked = json.loads(body)
        answers = [self._one(each) for each in (asked if isinstance(asked, list) else [asked])]
        return json.dumps(answers if isinstance(asked, list) else answers[0]).encode()

    def _one(self, asked: dict[str, Any]) -> dict[str, Any]:
        found = self._result(asked["method"], asked["params"])
        said: dict[str, Any] = {"jsonrpc": "2.0", "id": asked["id"]}
        if isinstance(found, Failure):
            error = {"code": found.code, "message": found.message}
            return said | {"error": error | ({"data": "0x" + found.data.hex()} if found.data else {})}
        return said | {"result": found}

    def _result(self, method: str, params: list[Any]) -> Any:
        fault = self._fault
        if fault is Fault.ERRORS:
            return Failure(method, -32603, "Internal error", None)
        if fault is Fault.NONSENSE:
            return self._chance.choice(NONSENSE)
        if method == "eth_sendRawTransaction":
            return self._sent(params[0])
        if fault is Fault.STALE:
            return self._stale(method, params)
        found = self._link.attempt(method, *params)
        if method == "eth_getTransactionCount" and fault in (Fault.LOW_NONCE, Fault.HIGH_NONCE):
            step = -2 if fault is Fault.LOW_NONCE else 3
            return hex(max(0, number(found) + step))
        return found

    def _sent(self, raw: str) -> Any:
        if self._fault is Fault.DROP:
            return "0x" + keccak(bytes.fromhex(raw[2:])).hex()
        answer = self._link.attempt("eth_sendRawTransaction", raw)
        if self._fault is Fault.LOSE_ANSWER:
            raise Dropped
        if self._fault is Fault.SEND_TWICE:
            return self._link.attempt("eth_sendRawTransaction", raw)
        return answer

    def _stale(self, method: str, params: list[Any]) -> Any:
        """As the chain was at the height where the fault began."""
        height = self._height
        params = [hex(height) if each in ("latest", "pending", "finalized") else each for each in params]
        if method == "eth_blockNumber":
            return hex(height)
        if method == "eth_getBlockByNumber" and number(params[0]) > height:
            return None
        if method == "eth_call" and isinstance(params[-1], dict) and "blockHash" in params[-1]:
            block = self._link.attempt("eth_getBlockByHash", params[-1]["blockHash"], False)
            if not block or number(block["number"]) > height:
                return Failure(method, -32000, "header not found", None)
        found = self._link.attempt(method, *params)
        if method in ("eth_getTransactionReceipt", "eth_getTransactionByHash"):
            there = isinstance(found, dict) and number(found.get("blockNumber") or 0) <= height
            return found if there else None
        if method == "eth_getLogs":
            return [each for each in found if number(each["blockNumber"]) <= height]
        return found


@contextmanager
def faulty(url: str, **options: Any) -> Iterator[Faulty]:
    """Serve it at ``Faulty.url``."""
    proxy = Faulty(url, **options)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            try:
                answer = proxy.answer(body)
            except Dropped:
                self.close_connection = True
                with suppress(OSError):
                    self.connection.shutdown(socket.SHUT_RDWR)
                return
            self.send_response(503 if proxy.fault is Fault.UNAVAILABLE else 200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            with suppress(OSError):
                self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    proxy.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield proxy
    finally:
        proxy._over.set()
        server.shutdown()
        server.server_close()
