"""HTTP/1.1 without encryption to an endpoint whose answers are long.

httpx's own transport cuts an answer into small parts and copies each several times, which takes as long as
half of the decoding. This one is the standard library's, and hands on what comes as it comes.
"""

from __future__ import annotations

import select
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies

import httpx

PART_BYTES: Final = 1 << 18


def transport_to(url: str) -> httpx.BaseTransport | None:
    """The transport for ``url``; ``None``, which is httpx's own, where it is encrypted or behind a proxy."""
    plain = url.startswith("http://")
    return PlainHttp() if plain and (is_this_machine(url) or not getproxies()) else None


def is_this_machine(url: str) -> bool:
    """Whether ``url`` is on the loopback interface."""
    return urlsplit(url).hostname in ("127.0.0.1", "::1", "localhost")


class PlainHttp(httpx.BaseTransport):
    """Kept connections, as many as there are requests at a time. Safe to use from several threads."""

    def __init__(self) -> None:
        self._idle: list[HTTPConnection] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send ``request``; raises as httpx's own transport does."""
        seconds = request.extensions["timeout"]["read"]
        connection = self._kept(seconds) or _connected(request.url, seconds)
        try:
            with _in_words_of_httpx(httpx.WriteError):
                target, headers = request.url.raw_path.decode("ascii"), dict(request.headers)
                connection.request(request.method, target, request.read(), headers)
            with _in_words_of_httpx(httpx.ReadError):
                answer = connection.getresponse()
        except BaseException:
            connection.close()
            raise
        headers_told = [
            (name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.getheaders()
        ]
        body = _Body(connection, answer, self._idle)
        return httpx.Response(answer.status, headers=headers_told, stream=body)

    def close(self) -> None:
        """Close what is kept."""
        while self._idle:
            self._idle.pop().close()

    def _kept(self, seconds: float) -> HTTPConnection | None:
        """A connection from before that the endpoint did not close meanwhile."""
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            if not _has_ended(connection):
                connection.sock.settimeout(seconds)
                return connection
            connection.close()


class _Body(httpx.SyncByteStream):
    """The body of an answer; read to its end, the connection is kept for the next request."""

    def __init__(self, connection: HTTPConnection, answer: HTTPResponse, idle: list[HTTPConnection]) -> None:
        self._connection, self._answer, self._idle = connection, answer, idle
        self._whole = False

    def __iter__(self) -> Iterator[bytes]:
        came = False
        while part := self._part():
            came = True
            yield part
        if self._answer.length:
            raise httpx.RemoteProtocolError(f"{self._answer.length} bytes of the answer did not come")
        if not came and self._answer.will_close:  # a head that was cut reads as one that ends
            raise httpx.RemoteProtocolError("the connection ended before an answer")
        self._whole = True

    def _part(self) -> bytes:
        with _in_words_of_httpx(httpx.ReadError):
            return self._answer.read1(PART_BYTES)

    def close(self) -> None:
        keep = self._whole and not self._answer.will_close
        self._answer.close()
        if keep:
            self._idle.append(self._connection)
        else:
            self._connection.close()


def _connected(url: httpx.URL, seconds: float) -> HTTPConnection:
    connection = HTTPConnection(url.raw_host.decode("ascii"), url.port or 80, timeout=seconds)
    with _in_words_of_httpx(httpx.ConnectError):
        connection.connect()
    return connection


def _has_ended(connection: HTTPConnection) -> bool:
    """Whether an idle connection has something to read: its end, or what nobody asked for."""
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return bool(poll.poll(0))


@contextmanager
def _in_words_of_httpx(broken: type[httpx.NetworkError]) -> Iterator[None]:
    try:
        yield
    except HTTPException as cause:
        raise httpx.RemoteProtocolError(str(cause) or type(cause).__name__) from cause
    except TimeoutError as cause:
        slow = httpx.ConnectTimeout if broken is httpx.ConnectError else httpx.ReadTimeout
        raise slow(str(cause)) from cause
    except (OSError, UnicodeError) as cause:
        raise broken(str(cause)) from cause
