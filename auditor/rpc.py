"""Asking an Ethereum endpoint, which may lie, dawdle or talk nonsense: bounded in time and size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol, Self
from urllib.parse import urlsplit

import httpx

from sealtrace.protocol.canonical import NotCanonical, parse

METHOD_NOT_FOUND: Final = (-32601, -32600, -32004)
MAX_ANSWER_BYTES: Final = 64 << 20


class EndpointUnreachable(ConnectionError):
    """The endpoint does not answer, or not in time: see whether it runs, and whether the URL is right."""


class EndpointTalksNonsense(ValueError):
    """The endpoint's answer is not JSON-RPC, or not what was asked for: use another endpoint."""


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
    """One endpoint or several: see :class:`Rpc` for what the two raise."""

    def ask(self, method: str, *params: object) -> Any: ...  # noqa: D102
    def ask_all(self, method: str, params: Sequence[Sequence[object]]) -> list[Any]: ...  # noqa: D102


class Rpc:
    """One endpoint over one kept connection. ``timeout_s`` bounds each request as a whole."""

    def __init__(
        self, url: str, *, timeout_s: float = 30, transport: httpx.BaseTransport | None = None
    ) -> None:
        try:
            proxies = not is_this_machine(url)  # a proxy from the environment has no way back to here
            self._client = httpx.Client(
                base_url=url, timeout=timeout_s, transport=transport, trust_env=proxies
            )
        except (httpx.InvalidURL, ValueError) as cause:
            raise EndpointUnreachable(f"{url!r} is no http or https address: {cause}") from cause
        self.url = url

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def ask(self, method: str, *params: object) -> Any:
        """The result of one call.

        Raises:
            EndpointUnreachable: no answer in time.
            EndpointTalksNonsense: an answer that is none.
            EndpointRefused: an error.
        """
        return self._result(method, self._post(_request(method, params, 0)))

    def ask_all(self, method: str, params: Sequence[Sequence[object]]) -> list[Any]:
        """The results of many calls in one request, in order.

        Raises:
            EndpointUnreachable, EndpointTalksNonsense, EndpointRefused: as :meth:`ask`.
        """
        if not params:
            return []
        answers = self._post([_request(method, each, i) for i, each in enumerate(params)])
        if not isinstance(answers, list):
            return [self.ask(method, *each) for each in params]  # it takes no batches
        by_id = {answer.get("id"): answer for answer in answers if isinstance(answer, dict)}
        if len(by_id) != len(params) or set(by_id) != set(range(len(params))):
            raise EndpointTalksNonsense(f"{self.url}: {len(params)} questions, {len(by_id)} answers")
        return [self._result(method, by_id[i]) for i in range(len(params))]

    def _post(self, content: object) -> Any:
        try:
            with self._client.stream("POST", "", json=content) as response:
                body = bytearray()
                for part in response.iter_bytes():
                    body += part
                    if len(body) > MAX_ANSWER_BYTES:
                        raise EndpointTalksNonsense(f"{self.url}: an answer over {MAX_ANSWER_BYTES} bytes")
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as cause:
            raise EndpointUnreachable(f"{self.url}: {cause or type(cause).__name__}") from cause
        try:
            return parse(bytes(body), limit_bytes=MAX_ANSWER_BYTES)
        except (NotCanonical, RecursionError) as cause:
            raise EndpointTalksNonsense(f"{self.url}: HTTP {response.status_code}, {cause}") from cause

    def _result(self, method: str, answer: object) -> Any:
        if not isinstance(answer, dict):
            raise EndpointTalksNonsense(f"{self.url}: the answer to {method} is no object")
        error = answer.get("error")
        if isinstance(error, dict):
            code = error.get("code")
            raise EndpointRefused(method, code if type(code) is int else 0, str(error.get("message"))[:200])
        if "result" not in answer:
            raise EndpointTalksNonsense(f"{self.url}: the answer to {method} has no result")
        return answer["result"]


def is_this_machine(url: str) -> bool:
    """Whether ``url`` is on the loopback interface."""
    return urlsplit(url).hostname in ("127.0.0.1", "::1", "localhost")


def _request(method: str, params: Sequence[object], identity: int) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": identity, "method": method, "params": list(params)}
