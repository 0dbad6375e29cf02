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
from sealtrace.protocol.attestation.appraisal import Stage
from sealtrace.protocol.attestation.statement import MAX_STATEMENT_BYTES
from sealtrace.protocol.canonical import NotCanonical, canonical, parse, sha256
from sealtrace.protocol.identifiers import Address, Hex32, MalformedIdentifier, hex32
from sealtrace.protocol.spec import MAX_SPEC_BYTES
from sealtrace.protocol.statements import Signed, Statement, sign

AUDIENCE = "scheduler"
MAX_ANSWER_BYTES = max(2 * MAX_SPEC_BYTES + (1 << 20), MAX_STATEMENT_BYTES)
_TIMEOUT = httpx.Timeout(20, connect=5)


class SchedulerClient:
    """:class:`sealtrace.node.ports.Scheduler`, and the heartbeat. Signs with the node's key."""

    def __init__(
        self,
        url: str,
        me: Address,
        key: bytes,
        clock: Callable[[], float],
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._url, self._me, self._key, self._clock = url.rstrip("/"), me, key, clock
        self._transport = transport
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
        text = self._get("introduction", f"/v1/tasks/{task}/introduction", httpx.codes.CONFLICT)
        if text is None:
            return None
        try:
            found = parse(text, limit_bytes=MAX_ANSWER_BYTES)
        except NotCanonical as cause:
            raise SchedulerUnavailable(f"the introduction is {cause}") from cause
        return found if isinstance(found, dict) else {}

    def upload(self, task: Hex32, output: Path) -> None:
        """Hand over this party's sealed share. Idempotent.

        Raises:
            SchedulerUnavailable: not now.
            Undeliverable: never.
        """
        signed = self._signed("task.output", {"task": task, "digest": _digest(output)})
        path, size = f"/v1/tasks/{task}/outputs/{self._me}", output.stat().st_size
        self._put("the sealed share", path, signed, size, _chunks(output))

    def put_statement(self, task: Hex32, document: bytes) -> None:
        """Hand over what the enclave that runs here shows. Idempotent.

        Raises:
            SchedulerUnavailable: not now.
            Undeliverable: never.
        """
        digest = sha256(document)
        signed = self._signed("task.statement", {"task": task, "digest": digest})
        path = f"/v1/tasks/{task}/statements/{digest}"
        self._put("the enclave's statement", path, signed, len(document), document)

    def statement(self, task: Hex32, stage: Stage) -> bytes | None:
        """What the task's enclave shows at ``stage``, unjudged; ``None`` while there is none.

        Raises:
            SchedulerUnavailable: no usable answer.
        """
        listed = self._get("list of statements", f"/v1/tasks/{task}/statements", httpx.codes.GONE)
        if listed is None or (digest := _digest_of(stage, listed)) is None:
            return None
        document = self._get("statement", f"/v1/tasks/{task}/statements/{digest}", httpx.codes.GONE)
        if document is not None and sha256(document) != digest:
            raise SchedulerUnavailable(f"the enclave's statement {digest} came as {sha256(document)}")
        return document

    def put_metrics(self, task: Hex32, number: int, sealed: bytes) -> None:
        """Hand over message ``number`` of metrics, from 0 without gaps. Idempotent.

        Raises:
            SchedulerUnavailable: not now.
            Undeliverable: never.
        """
        body = {"task": task, "number": number, "digest": sha256(sealed)}
        path = f"/v1/tasks/{task}/metrics/{number}"
        self._put("the metrics", path, self._signed("task.metrics", body), len(sealed), sealed)

    def _get(self, what: str, path: str, absent: int) -> bytes | None:
        """What is at ``path``; ``None`` where nothing is found, or the status ``absent`` says as much."""
        answer = self._request("GET", path)
        if answer.status_code in (httpx.codes.NOT_FOUND, absent):
            return None
        if answer.status_code != httpx.codes.OK:
            raise SchedulerUnavailable(f"no {what}: {_problem(answer)}")
        return answer.content

    def _put(self, what: str, path: str, signed: Signed, size: int, content: bytes | Iterator[bytes]) -> None:
        statement = canonical(signed.model_dump(mode="json"))
        headers = {
            "content-type": "application/octet-stream",
            "content-length": str(size),
            "x-sealtrace-statement": base64.urlsafe_b64encode(statement).decode(),
        }
        answer = self._request("PUT", path, headers=headers, content=content)
        if answer.status_code in (408, 425, 429, 507) or answer.status_code >= 500:
            raise SchedulerUnavailable(f"{what} is not taken now: {_problem(answer)}")
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
                httpx.Client(
                    timeout=_TIMEOUT, trust_env=False, verify=self._tls, transport=self._transport
                ) as client,
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


def _digest_of(stage: Stage, listed: bytes) -> Hex32 | None:
    """The digest of the statement of ``stage`` in the scheduler's list of them."""
    try:
        found = parse(listed, limit_bytes=MAX_ANSWER_BYTES)
        return next((hex32(each["digest"]) for each in found if each["stage"] == stage), None)
    except (NotCanonical, MalformedIdentifier, KeyError, TypeError) as cause:
        raise SchedulerUnavailable(f"its list of statements is malformed: {cause}") from cause


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            yield part


def _digest(path: Path) -> str:
    hasher = hashlib.sha256()
    for part in _chunks(path):
        hasher.update(part)
    return "0x" + hasher.hexdigest()
