"""JSON-RPC to one endpoint: single requests and batches, with a deadline, and errors of ours.

Answers are raw JSON: decoding is done once, by those who know what they asked for. A provider that takes
no batch (eth-tester, in process) is asked one by one.
"""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import requests
from requests.adapters import HTTPAdapter
from web3 import Web3
from web3.exceptions import Web3Exception
from web3.providers.rpc import HTTPProvider
from web3.types import RPCEndpoint

from sealtrace.contracts.abi import plain
from sealtrace.contracts.errors import ChainUnreachable, MalformedAnswer, RequestRefused

MAX_BATCH = 200
POOL_SIZE = 32
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


class Link:
    """A connection to an endpoint. Safe to use from several threads."""

    def __init__(self, w3: Web3, url: str = _IN_PROCESS) -> None:
        self.w3 = w3
        self.url = _without_password(url)
        self.by_hash = isinstance(w3.provider, HTTPProvider)
        """Whether a state can be named by its block's hash (EIP-1898)."""

    @classmethod
    def http(cls, url: str, timeout_s: float) -> Link:
        """A link over HTTP that keeps its connections. No request takes longer than ``timeout_s``."""
        session = requests.Session()
        # A proxy or a netrc of the environment has no business between a node and its own chain.
        session.trust_env = url.startswith("https:")
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(pool_connections=1, pool_maxsize=POOL_SIZE))
        provider = HTTPProvider(
            url,
            request_kwargs={"timeout": timeout_s, "allow_redirects": False},
            session=session,
            exception_retry_configuration=None,
        )
        return cls(Web3(provider, middleware=[]), url)

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
        if self.by_hash:
            return _result(method, self._posted([Ask(method, params)])[0])
        return self._in_process(Ask(method, params))

    def batch(self, asks: Sequence[Ask]) -> list[Any]:
        """The results of many requests, in order, each a result or a :class:`Failure`.

        Raises:
            ChainUnreachable, MalformedAnswer: no answer, or no JSON-RPC.
        """
        if not self.by_hash:
            return [self._in_process(ask) for ask in asks]
        return [result for chunk in _chunks(asks) for result in self._batched(chunk)]

    def _batched(self, asks: Sequence[Ask]) -> list[Any]:
        answers = self._posted(asks)
        return [_result(ask.method, answer) for ask, answer in zip(asks, answers, strict=True)]

    def _posted(self, asks: Sequence[Ask]) -> Sequence[Any]:
        try:
            return self._post(asks)
        except requests.ConnectionError:
            pass  # a kept connection that the endpoint closed meanwhile: a fresh one, once
        except (requests.RequestException, Web3Exception, OSError) as cause:
            raise ChainUnreachable(self.url, _reason(cause)) from cause
        try:
            return self._post(asks)
        except (requests.RequestException, Web3Exception, OSError) as cause:
            raise ChainUnreachable(self.url, _reason(cause)) from cause

    def _post(self, asks: Sequence[Ask]) -> Sequence[Any]:
        provider = self.w3.provider
        assert isinstance(provider, HTTPProvider)  # noqa: S101
        try:
            if len(asks) == 1:
                return [provider.make_request(RPCEndpoint(asks[0].method), asks[0].params)]
            answer: Any = provider.make_batch_request([(RPCEndpoint(a.method), a.params) for a in asks])
        except (ValueError, KeyError, TypeError, AttributeError) as cause:
            if isinstance(cause, requests.RequestException | OSError):
                raise
            raise MalformedAnswer(asks[0].method, f"not JSON-RPC: {cause}") from cause
        if not isinstance(answer, list) or len(answer) != len(asks):
            error = answer.get("error") if isinstance(answer, dict) else None
            raise MalformedAnswer(f"a batch of {len(asks)}", str(error or "another number of answers"))
        return answer

    def _in_process(self, ask: Ask) -> Any:
        """eth-tester raises where an endpoint answers with an error, and hides revert data in causes."""
        provider: Any = self.w3.provider
        try:
            send = provider.request_func(self.w3, self.w3.middleware_onion)
            return _result(ask.method, send(ask.method, list(ask.params)))
        except Exception as cause:
            if type(cause).__module__.startswith("sealtrace."):
                raise
            return Failure(ask.method, 3, str(cause), _hidden_data(cause))


def hexadecimal(number: int) -> str:
    """A number as JSON-RPC writes it."""
    return hex(number)


def number(value: Any) -> int:
    """A number of an answer, whichever way the endpoint writes it."""
    return int(value, 16) if isinstance(value, str) else int(value)


def content(value: Any) -> bytes:
    """Bytes of an answer, whichever way the endpoint writes them."""
    return bytes.fromhex(plain(value).removeprefix("0x"))


def _result(method: str, answer: Any) -> Any:
    if not isinstance(answer, Mapping) or ("result" not in answer and "error" not in answer):
        raise MalformedAnswer(method, "neither a result nor an error")
    error = answer.get("error")
    if error is None:
        return answer["result"]
    if not isinstance(error, Mapping):
        return Failure(method, 0, str(error), None)
    return Failure(method, int(error.get("code", 0)), str(error.get("message", "")), _revert_data(error))


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
