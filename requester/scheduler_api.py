"""The scheduler over HTTP. Answers are read strictly, with bounded sizes and times."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Final

import httpx
from pydantic import ValidationError

from sealtrace.protocol.attestation.appraisal import Stage
from sealtrace.protocol.attestation.statement import MAX_STATEMENT_BYTES
from sealtrace.protocol.canonical import NotCanonical, canonical, parse, sha256
from sealtrace.protocol.identifiers import Address, Hex32, MalformedIdentifier, hex32
from sealtrace.protocol.spec import InvalidSpec, TaskSpec, read_spec
from sealtrace.protocol.statements import Signed
from sealtrace.requester.errors import SchedulerMisbehaved, SchedulerRefused, SchedulerUnreachable
from sealtrace.requester.ports import Accepted, Delivered, SealedMetrics

STATEMENT_HEADER: Final = "X-Sealtrace-Statement"
MAX_JSON_BYTES = 2 << 20
MAX_OUTPUT_BYTES = 1 << 30
MAX_METRICS_ANSWER_BYTES = 8 << 20
"""A scheduler tells 64 messages of at most 64 KiB at once, in base64 and with a statement each."""
_NOT_THERE = frozenset({"OutputNotFound"})


class HttpScheduler:
    """A scheduler at ``url``. Each request is given ``timeout_s`` per read and tried up to three times."""

    def __init__(self, url: str, timeout_s: float = 30, transport: httpx.BaseTransport | None = None) -> None:
        self.url = url.rstrip("/")
        # The environment's proxies are for the web, not for the consortium's services.
        transport = transport or httpx.HTTPTransport(retries=2)
        self._client = httpx.Client(
            base_url=self.url, timeout=timeout_s, transport=transport, trust_env=False
        )

    def submit(self, signed: Signed) -> Accepted:
        """Submit a signed specification.

        Raises:
            SchedulerUnreachable, SchedulerRefused, SchedulerMisbehaved: nothing was kept.
        """
        answer = self._json("POST", "/v1/tasks", canonical(signed.model_dump(mode="json")))
        try:
            return Accepted(hex32(answer["task"]), tuple(map(str, answer["warnings"])))
        except (KeyError, TypeError, AttributeError, MalformedIdentifier) as cause:
            raise self._misbehaved(f"its answer to a submission is malformed: {cause}") from cause

    def plan(self, draft: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
        """Have protocols chosen for ``draft``.

        Raises:
            SchedulerUnreachable, SchedulerRefused, SchedulerMisbehaved: no plan was made.
        """
        answer = self._json("POST", "/v1/plans", canonical({"draft": dict(draft)}))
        try:
            return dict(answer["spec"]), tuple(map(str, answer["warnings"]))
        except (KeyError, TypeError, ValueError) as cause:
            raise self._misbehaved(f"its plan is malformed: {cause}") from cause

    def spec(self, task: Hex32) -> TaskSpec:
        """The specification the scheduler introduces ``task`` with; not yet compared with anything.

        Raises:
            SchedulerUnreachable, SchedulerRefused, SchedulerMisbehaved: it is not to be had here.
        """
        answer = self._json("GET", f"/v1/tasks/{task}/introduction")
        try:
            return read_spec(answer["spec"].encode())
        except (KeyError, TypeError, AttributeError, InvalidSpec) as cause:
            raise self._misbehaved(f"its introduction is malformed: {cause}") from cause

    def output(self, task: Hex32, party: Address, signed: Signed) -> Delivered | None:
        """A party's sealed output, or nothing when the scheduler does not have it.

        Raises:
            SchedulerUnreachable, SchedulerRefused, SchedulerMisbehaved: it cannot be had.
        """
        try:
            content, headers = self._request(
                "GET",
                f"/v1/tasks/{task}/outputs/{party}",
                headers=_says(signed),
                limit_bytes=MAX_OUTPUT_BYTES,
            )
        except SchedulerRefused as refused:
            if refused.name in _NOT_THERE:
                return None
            raise
        return Delivered(content, _statement(headers.get(STATEMENT_HEADER, "")))

    def statements(self, task: Hex32) -> tuple[tuple[Hex32, Stage], ...]:
        """What the task's enclave has shown so far: digests and stages.

        Raises:
            SchedulerUnreachable, SchedulerRefused, SchedulerMisbehaved: it cannot be had.
        """
        listed = self._json("GET", f"/v1/tasks/{task}/statements")
        try:
            return tuple((hex32(each["digest"]), Stage(each["stage"])) for each in listed)
        except (KeyError, TypeError, ValueError) as cause:
            raise self._misbehaved(f"its list of statements is malformed: {cause}") from cause

    def statement(self, task: Hex32, digest: Hex32) -> bytes:
        """The statement ``digest`` of the task's enclave, whose bytes have that digest.

        Raises:
            SchedulerUnreachable, SchedulerRefused, SchedulerMisbehaved: it cannot be had.
        """
        path = f"/v1/tasks/{task}/statements/{digest}"
        content, _ = self._request("GET", path, limit_bytes=MAX_STATEMENT_BYTES)
        if (observed := sha256(content)) != digest:
            raise self._misbehaved(f"for the enclave's statement {digest} it gave bytes of {observed}")
        return content

    def metrics(self, task: Hex32, after: int, signed: Signed) -> tuple[SealedMetrics, ...]:
        """The next sealed messages of metrics whose number is above ``after``.

        Raises:
            SchedulerUnreachable, SchedulerRefused, SchedulerMisbehaved: they cannot be had.
        """
        told = self._json(
            "GET",
            f"/v1/tasks/{task}/metrics?after={after}",
            headers=_says(signed),
            limit_bytes=MAX_METRICS_ANSWER_BYTES,
        )
        try:
            found = [
                SealedMetrics(int(each["number"]), base64.b64decode(each["sealed"], validate=True))
                for each in told
            ]
        except (KeyError, TypeError, ValueError) as cause:
            raise self._misbehaved(f"its metrics are malformed: {cause}") from cause
        if [each.number for each in found] != list(range(after + 1, after + 1 + len(found))):
            raise self._misbehaved(f"its metrics do not follow number {after} one by one")
        return tuple(found)

    def _json(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        headers: dict[str, str] | None = None,
        limit_bytes: int = MAX_JSON_BYTES,
    ) -> Any:
        content, _ = self._request(method, path, content=body, headers=headers, limit_bytes=limit_bytes)
        try:
            return parse(content, limit_bytes=limit_bytes)
        except NotCanonical as cause:
            raise self._misbehaved(f"its answer is {cause}") from cause

    def _request(
        self,
        method: str,
        path: str,
        *,
        limit_bytes: int,
        content: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[bytes, httpx.Headers]:
        try:
            with self._client.stream(method, path, content=content, headers=headers) as response:
                received = self._read(response, limit_bytes)
        except (httpx.HTTPError, httpx.InvalidURL) as cause:
            why = f"{type(cause).__name__}: {cause}"
            raise SchedulerUnreachable(self.url, why) from cause
        if response.is_success:
            return received, response.headers
        raise self._refused(response.status_code, received)

    def _read(self, response: httpx.Response, limit_bytes: int) -> bytes:
        received = bytearray()
        for piece in response.iter_bytes():
            received += piece
            if len(received) > limit_bytes:
                raise self._misbehaved(f"its answer is larger than {limit_bytes} bytes")
        return bytes(received)

    def _refused(self, status: int, content: bytes) -> Exception:
        try:
            problem = parse(content, limit_bytes=MAX_JSON_BYTES)
            name = str(problem["type"]).rpartition(":")[2]
            return SchedulerRefused(name, status, str(problem["detail"]), str(problem.get("next", "")))
        except (NotCanonical, KeyError, TypeError, AttributeError):
            return self._misbehaved(f"it answered {status} without saying why")

    def _misbehaved(self, why: str) -> SchedulerMisbehaved:
        return SchedulerMisbehaved(self.url, why[:300])


def _says(signed: Signed) -> dict[str, str]:
    text = canonical(signed.model_dump(mode="json"))
    return {STATEMENT_HEADER: base64.urlsafe_b64encode(text).decode()}


def _statement(header: str) -> Signed | None:
    """The party's statement as the scheduler handed it over; unreadable ones count as none."""
    try:
        text = base64.b64decode(header.encode("ascii"), altchars=b"-_", validate=True)
        return Signed.model_validate(parse(text, limit_bytes=16 << 10))
    except (binascii.Error, UnicodeEncodeError, NotCanonical, ValidationError):
        return None
