"""Asking an Ethereum endpoint, which may lie, dawdle or talk nonsense: bounded in time and size.

Answers are read straight into the type that the caller names, and what it does not name is skipped: most of
an answer's bytes are never made into values.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from functools import cache
from typing import Any, Final, Generic, Protocol, Self, TypeVar, overload

import httpx
import msgspec
from msgspec import UNSET, UnsetType

from sealtrace.auditor.plain_http import is_this_machine, transport_to
from sealtrace.protocol.accounts import RECURSION_LIMIT
from sealtrace.protocol.canonical import NotCanonical, parse

METHOD_NOT_FOUND: Final = (-32601, -32600, -32004)
MAX_ANSWER_BYTES: Final = 64 << 20

T = TypeVar("T")


class EndpointUnreachable(ConnectionError):
    """The endpoint does not answer, or not in time: see whether it runs, and whether the URL is right."""


class EndpointTalksNonsense(ValueError):
    """The endpoint's answer is not JSON-RPC, or not what was asked for: use another endpoint."""


class AnswerTooLarge(EndpointTalksNonsense):
    """The endpoint's answer is larger than any that is read: it sends what was not asked for."""


class EndpointRefused(ValueError):
    """The endpoint answered with an error; ``code`` is JSON-RPC's."""

    def __init__(self, method: str, code: int, message: str) -> None:
        super().__init__(f"{method}: {message} ({code}); another endpoint may allow it")
        self.code = code

    @property
    def unknown_method(self) -> bool:
        """Whether the endpoint does not have the method at all."""
        return self.code in METHOD_NOT_FOUND


class Asking(Protocol):
    """One endpoint or several: see :class:`Rpc` for what the two raise. Safe to use from several threads."""

    @overload
    def ask(self, method: str, *params: object) -> Any: ...
    @overload
    def ask(self, method: str, *params: object, kind: type[T]) -> T: ...
    @overload
    def ask_all(self, method: str, params: Sequence[Sequence[object]]) -> list[Any]: ...
    @overload
    def ask_all(self, method: str, params: Sequence[Sequence[object]], kind: type[T]) -> list[T]: ...


class _Answer(msgspec.Struct, Generic[T]):
    """One answer. An error comes with no result, or with a null one."""

    id: int | str | None = None
    result: T | UnsetType | None = UNSET
    error: object = None


class Rpc:
    """One endpoint over kept connections. ``timeout_s`` bounds each request as a whole, however steadily its
    answer trickles."""

    def __init__(
        self, url: str, *, timeout_s: float = 30, transport: httpx.BaseTransport | None = None
    ) -> None:
        try:
            proxies = not is_this_machine(url)  # a proxy from the environment has no way back to here
            self._client = httpx.Client(
                base_url=url,
                timeout=timeout_s,
                transport=transport or transport_to(url),
                trust_env=proxies,
                headers={"Content-Type": "application/json", "Accept-Encoding": "identity"},
            )
        except (httpx.InvalidURL, ValueError) as cause:
            raise EndpointUnreachable(f"{url!r} is no http or https address: {cause}") from cause
        self.url = url
        self._timeout_s = timeout_s

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    @overload
    def ask(self, method: str, *params: object) -> Any: ...
    @overload
    def ask(self, method: str, *params: object, kind: type[T]) -> T: ...
    def ask(self, method: str, *params: object, kind: Any = Any) -> Any:
        """The result of one call, a ``kind``.

        Raises:
            EndpointUnreachable: no answer in time.
            EndpointTalksNonsense: an answer that is none, to another question, or no ``kind``
                (``AnswerTooLarge``: beyond 64 MiB).
            EndpointRefused: an error.
        """
        answer = self._read(self._post(_request(method, params, 0)), _one(kind))
        return self._result(method, answer, 0, kind)

    @overload
    def ask_all(self, method: str, params: Sequence[Sequence[object]]) -> list[Any]: ...
    @overload
    def ask_all(self, method: str, params: Sequence[Sequence[object]], kind: type[T]) -> list[T]: ...
    def ask_all(self, method: str, params: Sequence[Sequence[object]], kind: Any = Any) -> list[Any]:
        """The results of many calls in one request, in order, each a ``kind``. Where the answer would be too
        large, in several requests.

        Raises:
            EndpointUnreachable, EndpointTalksNonsense, EndpointRefused: as :meth:`ask`.
        """
        if not params:
            return []
        try:
            answers = self._read(self._post(_requests(method, params)), _many(kind))
        except AnswerTooLarge:
            if len(params) == 1:
                raise
            half = len(params) // 2
            return self.ask_all(method, params[:half], kind) + self.ask_all(method, params[half:], kind)
        if not isinstance(answers, list):
            return [self.ask(method, *each, kind=kind) for each in params]  # it takes no batches
        by_id = {answer.id: answer for answer in answers}
        if len(answers) != len(params) or set(by_id) != set(range(len(params))):
            raise EndpointTalksNonsense(f"{self.url}: {len(params)} questions, {len(by_id)} answers to them")
        return [self._result(method, by_id[i], i, kind) for i in range(len(params))]

    def _post(self, content: bytes) -> bytearray:
        try:
            return self._posted(content)
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
            pass  # a kept connection that the endpoint closed meanwhile: a fresh one, once
        except _TROUBLE as cause:
            raise self._unreachable(cause) from cause
        try:
            return self._posted(content)
        except _TROUBLE as cause:
            raise self._unreachable(cause) from cause

    def _posted(self, content: bytes) -> bytearray:
        until = time.monotonic() + self._timeout_s
        body = bytearray()
        with self._client.stream("POST", "", content=content) as response:
            for part in response.iter_bytes():
                body += part
                if len(body) > MAX_ANSWER_BYTES:
                    raise AnswerTooLarge(f"{self.url}: an answer over {MAX_ANSWER_BYTES} bytes")
                if time.monotonic() > until:
                    raise httpx.ReadTimeout(f"the answer did not end in {self._timeout_s:g} s")
        if response.is_success or body.startswith((b"{", b"[")):
            return body
        raise httpx.RemoteProtocolError(f"HTTP status {response.status_code}")

    def _unreachable(self, cause: Exception) -> EndpointUnreachable:
        return EndpointUnreachable(f"{self.url}: {cause or type(cause).__name__}")

    def _read(self, body: bytearray, decoder: msgspec.json.Decoder[Any]) -> Any:
        try:
            if sys.getrecursionlimit() > RECURSION_LIMIT:  # the stack may end before the limit does
                parse(bytes(body), limit_bytes=MAX_ANSWER_BYTES)
            return decoder.decode(body)
        except (msgspec.DecodeError, NotCanonical, UnicodeDecodeError, RecursionError) as cause:
            raise EndpointTalksNonsense(f"{self.url}: {cause}") from cause

    def _result(self, method: str, answer: _Answer[Any], identity: int, kind: Any) -> Any:
        error = answer.error
        if isinstance(error, dict) and answer.id in (identity, None):
            code = error.get("code")
            raise EndpointRefused(method, code if type(code) is int else 0, str(error.get("message"))[:200])
        if answer.id != identity:
            raise EndpointTalksNonsense(f"{self.url}: an answer to another question than {method}")
        if answer.result is UNSET or error is not None:
            raise EndpointTalksNonsense(f"{self.url}: the answer to {method} has no result")
        if answer.result is None and kind is not Any:
            raise EndpointTalksNonsense(f"{self.url}: the answer to {method} is null")
        return answer.result


_TROUBLE = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError)


@cache
def _one(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(_Answer[kind])


@cache
def _many(kind: Any) -> msgspec.json.Decoder[Any]:
    """For a batch: one answer for each, or one for all, to say that there are no batches here."""
    return msgspec.json.Decoder(list[_Answer[kind]] | _Answer[Any])


def _requests(method: str, params: Sequence[Sequence[object]]) -> bytes:
    return b"[%s]" % b",".join([_request(method, each, i) for i, each in enumerate(params)])


def _request(method: str, params: Sequence[object], identity: int) -> bytes:
    return msgspec.json.encode({"jsonrpc": "2.0", "id": identity, "method": method, "params": list(params)})
