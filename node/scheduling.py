"""The scheduler over HTTP, in the node's words. It is believed in nothing; the chain is asked."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx

from sealtrace.node.errors import SchedulerUnavailable
from sealtrace.node.ports import Undeliverable
from sealtrace.protocol.canonical import NotCanonical, canonical, parse
from sealtrace.protocol.identifiers import Address, Hex32
from sealtrace.protocol.spec import MAX_SPEC_BYTES
from sealtrace.protocol.statements import Signed, Statement, sign

AUDIENCE = "scheduler"
MAX_ANSWER_BYTES = 2 * MAX_SPEC_BYTES + (1 << 20)
_TIMEOUT = httpx.Timeout(20, connect=5)


class SchedulerClient:
    """:class:`sealtrace.node.ports.Scheduler`, and the heartbeat. Signs with the node's key."""

    def __init__(self, url: str, me: Address, key: bytes, clock: Callable[[], float]) -> None:
        self._url, self._me, self._key, self._clock = url.rstrip("/"), me, key, clock
        # once: reading the authorities' certificates costs 20 ms of CPU
        self._tls = httpx.create_ssl_context(trust_env=False)

    def hello(self, body: Mapping[str, Any]) -> None:
        """Say that this node is there.

        Raises:
            SchedulerUnavailable: it was not taken; the message has the reason.
        """
        signed = self._signed("node.hello", body)
        answer = self._request("POST", "/v1/nodes", json=signed.model_dump(mode="json"))
        if answer.status_code >= httpx.codes.BAD_REQUEST:
            raise SchedulerUnavailable(f"the scheduler refuses the heartbeat: {_problem(answer)}")

    def introduction(self, task: Hex32) -> Mapping[str, Any] | None:
        """The introduction as given; ``None`` while the scheduler knows none.

        Raises:
            SchedulerUnavailable: no usable answer.
        """
        answer = self._request("GET", f"/v1/tasks/{task}/introduction")
        if answer.status_code in (httpx.codes.NOT_FOUND, httpx.codes.CONFLICT):
            return None
        if answer.status_code != httpx.codes.OK:
            raise SchedulerUnavailable(f"no introduction: {_problem(answer)}")
        try:
            found = parse(answer.content, limit_bytes=MAX_ANSWER_BYTES)
        except NotCanonical as cause:
            raise SchedulerUnavailable(f"the introduction is {cause}") from cause
        return found if isinstance(found, dict) else {}

    def upload(self, task: Hex32, output: Path) -> None:
        """Hand over this party's sealed share. Idempotent.

        Raises:
            SchedulerUnavailable: not now.
            Undeliverable: never.
        """
        body = {"task": task, "digest": _digest(output)}
        statement = canonical(self._signed("task.output", body).model_dump(mode="json"))
        headers = {
            "content-type": "application/octet-stream",
            "content-length": str(output.stat().st_size),
            "x-sealtrace-statement": base64.urlsafe_b64encode(statement).decode(),
        }
        path = f"/v1/tasks/{task}/outputs/{self._me}"
        answer = self._request("PUT", path, headers=headers, content=_chunks(output))
        if answer.status_code in (408, 425, 429, 507) or answer.status_code >= 500:
            raise SchedulerUnavailable(f"the sealed share is not taken now: {_problem(answer)}")
        if answer.status_code >= httpx.codes.BAD_REQUEST:
            raise Undeliverable(_problem(answer))

    def _signed(self, kind: str, body: Mapping[str, Any]) -> Signed:
        at = int(self._clock())
        statement = Statement(kind=kind, speaker=self._me, audience=AUDIENCE, at=at, body=dict(body))
        return sign(statement, self._key)

    def _request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        url = self._url + path
        try:
            with (
                httpx.Client(timeout=_TIMEOUT, trust_env=False, verify=self._tls) as client,
                client.stream(method, url, **arguments) as answer,
            ):
                content = _bounded(answer)
                return httpx.Response(answer.status_code, headers=answer.headers, content=content)
        except httpx.HTTPError as cause:
            raise SchedulerUnavailable(f"{method} {url}: {cause or type(cause).__name__}") from cause


def _bounded(answer: httpx.Response) -> bytes:
    content = b""
    for part in answer.iter_bytes():
        content += part
        if len(content) > MAX_ANSWER_BYTES:
            raise SchedulerUnavailable(f"an answer of more than {MAX_ANSWER_BYTES} bytes")
    return content


def _problem(answer: httpx.Response) -> str:
    """What an ``application/problem+json`` (RFC 9457) says, or the status alone."""
    try:
        body = json.loads(answer.content)
        return f"{answer.status_code} {body['title']}: {body['detail']}"[:500]
    except (ValueError, KeyError, TypeError):
        return f"HTTP status {answer.status_code}"


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            yield part


def _digest(path: Path) -> str:
    hasher = hashlib.sha256()
    for part in _chunks(path):
        hasher.update(part)
    return "0x" + hasher.hexdigest()
