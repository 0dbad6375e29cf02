"""How often one address may ask, and how much it may send at once."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from starlette.requests import ClientDisconnect, Request

from sealtrace.scheduler.errors import BodyTooSlow, MalformedRequest, RequestTooLarge

MAX_ADDRESSES = 10_000


@dataclass(frozen=True, slots=True)
class Bucket:
    """Requests left for one address, and when that was last computed (seconds of any clock)."""

    tokens: float
    at: float


def take(bucket: Bucket, now: float, *, per_second: float, burst: int) -> tuple[Bucket, bool]:
    """The bucket after one request at ``now``, and whether the request is allowed."""
    tokens = min(float(burst), bucket.tokens + max(0.0, now - bucket.at) * per_second)
    if tokens < 1:
        return Bucket(tokens, now), False
    return Bucket(tokens - 1, now), True


class Buckets:
    """A bucket for each address that asked lately; the longest silent are forgotten first."""

    def __init__(self, per_second: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._burst = burst
        self._clock = clock
        self._known: OrderedDict[str, Bucket] = OrderedDict()

    def allow(self, address: str) -> bool:
        """Whether ``address`` may ask once more now."""
        now = self._clock()
        bucket = self._known.pop(address, Bucket(self._burst, now))
        self._known[address], allowed = take(bucket, now, per_second=self._per_second, burst=self._burst)
        if len(self._known) > MAX_ADDRESSES:
            self._known.popitem(last=False)
        return allowed


async def pieces(request: Request, limit_bytes: int, timeout_s: float) -> AsyncIterator[bytes]:
    """The body of ``request`` piece by piece.

    Raises:
        RequestTooLarge: it is, or says it will be, larger than ``limit_bytes``.
        BodyTooSlow: it did not arrive whole within ``timeout_s``.
    """
    declared = request.headers.get("content-length", "0")
    if not declared.isdecimal() or int(declared) > limit_bytes:
        raise RequestTooLarge(limit_bytes)
    received = 0
    try:
        async with asyncio.timeout(timeout_s):
            async for piece in request.stream():
                received += len(piece)
                if received > limit_bytes:
                    raise RequestTooLarge(limit_bytes)
                yield piece
    except TimeoutError as cause:
        raise BodyTooSlow(f"{received} bytes in {timeout_s:g} s") from cause
    except ClientDisconnect as cause:
        raise MalformedRequest(f"the connection ended after {received} bytes") from cause


async def whole(request: Request, limit_bytes: int, timeout_s: float) -> bytes:
    """The body of ``request``; see :func:`pieces`."""
    return b"".join([piece async for piece in pieces(request, limit_bytes, timeout_s)])
