"""JSON-RPC to one endpoint: single requests and batches, bounded in time, size and depth.

web3's own provider waits for an endpoint that trickles, holds whatever it sends, and parses it under a
recursion limit that its libraries raise so far that a deeply nested answer overflows the C stack and takes
the process with it. So the few lines that post and parse are ours. Answers are raw JSON: decoding is done
once, by those who know what they asked for.
"""

from __future__ import annotations

import ast
import itertools
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from sealtrace.contracts.abi import plain
from sealtrace.contracts.embedded import shallow_json
from sealtrace.contracts.errors import ChainUnreachable, MalformedAnswer, RequestRefused

if TYPE_CHECKING:
    from web3 import Web3

MAX_BATCH = 200
MAX_ANSWER_BYTES = 64 << 20
MAX_DEPTH = 16
POOL_SIZE = 32
_READ_BYTES = 1 << 16
_IN_PROCESS = "the chain in this process"


class Ask(NamedTuple):
    """One request."""

    method: str
    params: Sequence[Any]


@dataclass(frozen=True, slots=True)
class Failure:
    """An endpoint's error answer. ``data`` is revert data, where there is any."""

    method: str
    code: int
    message: str
    data: bytes | None

    def error(self) -> RequestRefused:
        """The failure as an exception."""
        return RequestRefused(self.method, self.code, self.message)


class Link(ABC):
    """A connection to an endpoint."""

    url: str
    by_hash: bool
    """Whether a state can be named by its block's hash (EIP-1898)."""

    @staticmethod
    def http(urls: str, timeout_s: float, check: Callable[[Link], object] | None = None) -> Link:
        """A link over HTTP that keeps its connections. No answer takes longer than ``timeout_s``.

        ``urls`` may name several endpoints, separated by commas; ``check`` raises where one of several is
        not to be used.
        """
        from sealtrace.contracts.endpoints import Endpoints

        several = each_url(urls)
        if len(several) < 2:
            return HttpLink(urls.strip(" ,"), timeout_s)
        return Endpoints.over_http(several, timeout_s, check or (lambda _: None))

    def request(self, method: str, *params: Any) -> Any:
        """The result of one request.

        Raises:
            ChainUnreachable, MalformedAnswer: no answer, or no JSON-RPC.
            RequestRefused: an error answer.
        """
        result = self.attempt(method, *params)
        if isinstance(result, Failure):
            raise result.error()
        return result

    def attempt(self, method: str, *params: Any) -> Any:
        """The result of one request, or a :class:`Failure`.

        Raises:
            ChainUnreachable, MalformedAnswer: no answer, or no JSON-RPC.
        """
        return self.batch([Ask(method, params)])[0]

    def everywhere(self, method: str, *params: Any) -> list[Any]:
        """What every endpoint answers that does, each a result or a :class:`Failure`; one at least.

        Raises:
            ChainUnreachable, MalformedAnswer: no answer, or no JSON-RPC.
        """
        return [self.attempt(method, *params)]

    @abstractmethod
    def batch(self, asks: Sequence[Ask]) -> list[Any]:
        """The results of many requests, in order, each a result or a :class:`Failure`.

        Raises:
            ChainUnreachable, MalformedAnswer: no answer, or no JSON-RPC.
        """


class HttpLink(Link):
    """A link over HTTP. Safe to use from several threads."""

    by_hash = True

    def __init__(self, url: str, timeout_s: float) -> None:
        self.url = _without_password(url)
        self._url = url
        self._timeout_s = timeout_s
        self._session = requests.Session()
        # A proxy or a netrc of the environment has no business between a node and its own chain.
        self._session.trust_env = url.startswith("https:")
        self._session.headers.update({"Content-Type": "application/json", "Accept-Encoding": "identity"})
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_connections=1, pool_maxsize=POOL_SIZE))

    def batch(self, asks: Sequence[Ask]) -> list[Any]:
        """See :meth:`Link.batch`; at most 200 requests go in one post."""
        return [result for chunk in _chunks(asks) for result in self._answered(chunk)]

    def _answered(self, asks: Sequence[Ask]) -> list[Any]:
        said = [
            {"jsonrpc": "2.0", "id": i, "method": ask.method, "params": list(ask.params)}
            for i, ask in enumerate(asks)
        ]
        body = json.dumps(said if len(said) > 1 else said[0]).encode()
        return _in_order(asks, self._parsed(self._posted(body)))

    def _posted(self, body: bytes) -> bytes:
        try:
            return self._post(body)
        except requests.ConnectionError:
            pass  # a kept connection that the endpoint closed meanwhile: a fresh one, once
        except _TROUBLE as cause:
            raise ChainUnreachable(self.url, _reason(cause)) from cause
        try:
            return self._post(body)
        except _TROUBLE as cause:
            raise ChainUnreachable(self.url, _reason(cause)) from cause

    def _post(self, body: bytes) -> bytes:
        until = time.monotonic() + self._timeout_s
        with self._session.post(
            self._url, data=body, timeout=self._timeout_s, stream=True, allow_redirects=False
        ) as response:
            response.raise_for_status()
            if response.status_code != requests.codes.ok:
                raise requests.HTTPError(f"HTTP status {response.status_code}")
            return _read(response.raw, until)

    def _parsed(self, body: bytes) -> Any:
        try:
            return shallow_json.loads(body, MAX_DEPTH)
        except ValueError as cause:
            raise ChainUnreachable(self.url, f"it is no JSON-RPC endpoint ({str(cause)[:120]})") from cause


class ProviderLink(Link):
    """A link over a web3 provider of the caller's, asked one by one. As safe as the provider.

    For eth-tester in process: it raises where an endpoint answers with an error, and hides revert data.
    """

    by_hash = False

    def __init__(self, w3: Web3, url: str = _IN_PROCESS) -> None:
        self.w3 = w3
        self.url = url

    def batch(self, asks: Sequence[Ask]) -> list[Any]:
        """See :meth:`Link.batch`."""
        return [self._one(ask) for ask in asks]

    def _one(self, ask: Ask) -> Any:
        provider: Any = self.w3.provider
        try:
            send = provider.request_func(self.w3, self.w3.middleware_onion)
            answer = send(ask.method, list(ask.params))
        except Exception as cause:  # eth-tester raises a dozen kinds
            return Failure(ask.method, 3, str(cause), _hidden_data(cause))
        return _result(ask.method, answer)


_TROUBLE = (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError)


def hexadecimal(number: int) -> str:
    """A number as JSON-RPC writes it."""
    return hex(number)


def number(value: Any) -> int:
    """A number of an answer, whichever way the endpoint writes it.

    Raises:
        MalformedAnswer: it is none.
    """
    try:
        return int(value, 16) if isinstance(value, str) else int(value)
    except (ValueError, TypeError) as cause:
        raise MalformedAnswer("a number", str(value)[:80]) from cause


def content(value: Any) -> bytes:
    """Bytes of an answer, whichever way the endpoint writes them.

    Raises:
        MalformedAnswer: they are none.
    """
    try:
        return bytes.fromhex(plain(value).removeprefix("0x"))
    except (ValueError, TypeError, AttributeError) as cause:
        raise MalformedAnswer("bytes", str(value)[:80]) from cause


def each_url(urls: str) -> tuple[str, ...]:
    """The endpoints that a setting names, separated by commas."""
    return tuple(url for each in urls.split(",") if (url := each.strip()))


def _read(raw: urllib3.BaseHTTPResponse, until: float) -> bytes:
    """The whole body, unless it takes too long, however steadily it trickles, or is too much."""
    body = bytearray()
    while chunk := raw.read1(_READ_BYTES, decode_content=False):
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise requests.RequestException(f"an answer of more than {MAX_ANSWER_BYTES} bytes")
        if time.monotonic() > until:
            raise requests.Timeout("the answer did not end in time")
    return bytes(body)


def _in_order(asks: Sequence[Ask], answer: Any) -> list[Any]:
    """The results in the order of the requests, whatever order the endpoint took."""
    if len(asks) == 1:
        return [_result(asks[0].method, answer)]
    if not isinstance(answer, list):
        return [_result(ask.method, answer) for ask in asks]  # one error for the whole batch
    by_id = {each.get("id"): each for each in answer if isinstance(each, Mapping)}
    return [_result(ask.method, by_id.get(i)) for i, ask in enumerate(asks)]


def _result(method: str, answer: Any) -> Any:
    if not isinstance(answer, Mapping) or not {"result", "error"} & set(answer):
        raise MalformedAnswer(method, "neither a result nor an error")
    error = answer.get("error")
    if error is None:
        return answer["result"]
    if not isinstance(error, Mapping):
        return Failure(method, 0, str(error), None)
    code = error.get("code")
    words = str(error.get("message", ""))
    return Failure(method, code if isinstance(code, int) else 0, words, _revert_data(error))


def _revert_data(error: Mapping[str, Any]) -> bytes | None:
    data = error.get("data")
    if isinstance(data, Mapping):  # some endpoints wrap it once more
        data = data.get("data")
    if not isinstance(data, str):
        return None
    text = data.rsplit("0x", 1)[-1]  # "Reverted 0x...", as others write it
    try:
        return bytes.fromhex(text)
    except ValueError:
        return None


def _hidden_data(cause: BaseException | None) -> bytes | None:
    seen = 0
    while cause is not None and seen < 8:
        for argument in cause.args:
            found = argument.args[0] if isinstance(argument, Exception) and argument.args else argument
            if isinstance(found, str) and found[:2] in ("b'", 'b"'):
                found = ast.literal_eval(found)  # bytes, as a text shows them
            if isinstance(found, bytes):
                return found
        cause = cause.__cause__ or cause.__context__
        seen += 1
    return None


def _chunks(asks: Sequence[Ask]) -> Iterator[Sequence[Ask]]:
    for first in itertools.count(0, MAX_BATCH):
        if first >= len(asks):
            return
        yield asks[first : first + MAX_BATCH]


def _reason(cause: Exception) -> str:
    inner = getattr(cause.args[0], "reason", None) if cause.args else None
    return f"{type(cause).__name__}: {str(inner or cause)[:200]}"


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return url
    return urlunsplit(parts._replace(netloc="***@" + parts.netloc.rsplit("@", 1)[1]))
