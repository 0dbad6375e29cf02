"""Several endpoints of one chain behind one link.

Each is checked before it is first used, and again after it failed. Who fails, lags or lacks what a question
is about is passed over, and the next is asked. A batch is answered by one endpoint, so what is asked together
was seen together. Endpoints are trusted to be of the consortium, and not to be there: one that lies in
well-formed answers is for the auditor to find.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from sealtrace.contracts.errors import ChainError, NoEndpointUsable
from sealtrace.contracts.link import Ask, Failure, HttpLink, Link, number

FIRST_REST_S = 5.0
LONGEST_REST_S = 120.0
COMPARE_EVERY_S = 5.0
PROBE_S = 2.0
MAX_LAG_BLOCKS = 2
"""Blocks need a moment from one endpoint to the next: so far behind is not called lagging yet."""

_ENOUGH = 0
_LACKS = 1 << 62
"""More than any head can be behind."""

_log = structlog.get_logger("endpoints")


@dataclass(eq=False)
class Endpoint:
    """One endpoint, and what became of it. ``probe`` reaches the same one and waits less long."""

    link: Link
    probe: Link
    checked: bool = False
    failures: int = 0
    rests_until: float = 0.0
    why: str = "not asked yet"


class Endpoints(Link):
    """A link over several endpoints. Safe to use from several threads.

    ``check`` raises a ``ChainError`` where an endpoint is not of our chain.
    """

    by_hash = True

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        check: Callable[[Link], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.url = ", ".join(each.link.url for each in endpoints)
        self._all = list(endpoints)
        self._check = check
        self._clock = clock
        self._preferred = self._all[0]
        self._newest = 0
        self._compared_at = -COMPARE_EVERY_S
        self._lock = threading.Lock()

    @classmethod
    def over_http(
        cls,
        urls: Sequence[str],
        timeout_s: float,
        check: Callable[[Link], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> Endpoints:
        """Over HTTP; no answer of one endpoint takes longer than ``timeout_s``."""
        probe_s = min(timeout_s, PROBE_S)
        return cls([Endpoint(HttpLink(url, timeout_s), HttpLink(url, probe_s)) for url in urls], check, clock)

    def batch(self, asks: Sequence[Ask]) -> list[Any]:
        """See :meth:`Link.batch`. Where no endpoint has all that is asked for, the nearest answer.

        Raises:
            NoEndpointUsable: none answers, or none is of our chain.
        """
        self._compare()
        nearest: tuple[int, list[Any]] | None = None
        for endpoint in self._in_turn():
            newest = self._newest  # before it is asked: what others saw later is no lag
            if (found := self._answers(endpoint, asks)) is None:
                continue
            answers, head = found
            lack = _LACKS if _is_missing(asks, answers) else max(_ENOUGH, newest - head) if head else _ENOUGH
            if lack == _ENOUGH:
                self._preferred = endpoint
                self._newest = max(self._newest, head)
                return answers
            if nearest is None or lack < nearest[0]:
                nearest = lack, answers
        if nearest is None:
            raise NoEndpointUsable({each.link.url: each.why for each in self._all})
        return nearest[1]

    def everywhere(self, method: str, *params: Any) -> list[Any]:
        """See :meth:`Link.everywhere`: who rests is not asked, unless all do."""
        ask = [Ask(method, params)]
        awake = [each for each in self._all if not self._rests(each)] or self._all
        answers = [found for each in awake if (found := self._answers(each, ask)) is not None]
        if not answers:
            raise NoEndpointUsable({each.link.url: each.why for each in self._all})
        return [answer for (answer,), _ in answers]

    def _in_turn(self) -> Iterator[Endpoint]:
        """The preferred one, the others, and those that rest only where nobody else answered."""
        order = sorted(self._all, key=lambda each: each is not self._preferred)
        resting = [each for each in order if self._rests(each)]
        answered = False
        for each in order:
            if each not in resting:
                yield each
                answered = answered or not self._rests(each)
        if not answered:
            yield from resting

    def _answers(self, endpoint: Endpoint, asks: Sequence[Ask]) -> tuple[list[Any], int] | None:
        """What an endpoint answers, and the head it shows by that (0 where none was asked for)."""
        try:
            self._ready(endpoint)
            answers = endpoint.link.batch(asks)
            head = _head(asks, answers)
        except ChainError as cause:
            self._rest(endpoint, str(cause))
            return None
        self._restored(endpoint)
        return answers, head

    def _ready(self, endpoint: Endpoint) -> None:
        if not endpoint.checked:
            self._check(endpoint.link)
            endpoint.checked = True

    def _rests(self, endpoint: Endpoint) -> bool:
        return self._clock() < endpoint.rests_until

    def _rest(self, endpoint: Endpoint, why: str) -> None:
        """Pass an endpoint over for a while, longer each time, and check it anew when it comes back."""
        with self._lock:
            told, endpoint.why = endpoint.why == why, why
            endpoint.checked = False
            endpoint.failures += 1
            pause = min(LONGEST_REST_S, FIRST_REST_S * 2 ** min(endpoint.failures - 1, 10))
            endpoint.rests_until = self._clock() + pause
        if not told:
            _log.warning(f"{endpoint.link.url} is passed over: {why}")

    def _restored(self, endpoint: Endpoint) -> None:
        with self._lock:
            restored, endpoint.failures = endpoint.failures > 0, 0
            endpoint.rests_until, endpoint.why = 0.0, "it answers"
        if restored:
            _log.info(f"{endpoint.link.url} is used again")

    # heads

    def _compare(self) -> None:
        """Now and then, see who lags: an endpoint that stands still is not noticed by asking it alone."""
        with self._lock:
            if self._clock() < self._compared_at + COMPARE_EVERY_S:
                return
            self._compared_at = self._clock()
        heads = {each: self._head_of(each) for each in self._all if not self._rests(each)}
        newest = max((head for head in heads.values() if head is not None), default=0)
        for endpoint, head in heads.items():
            if head is None or head >= newest - MAX_LAG_BLOCKS:
                continue
            again = self._head_of(endpoint)  # the others were asked later, and may have seen more by that
            if again is not None and again < newest - MAX_LAG_BLOCKS:
                self._rest(endpoint, f"it is at block {again}, and another at block {newest}")
        self._newest = newest

    def _head_of(self, endpoint: Endpoint) -> int | None:
        try:
            head = number(endpoint.probe.request("eth_blockNumber"))  # first: the check waits longer
            self._ready(endpoint)
            return head
        except ChainError as cause:
            self._rest(endpoint, str(cause))
            return None


def _is_missing(asks: Sequence[Ask], answers: Sequence[Any]) -> bool:
    """An error other than a contract's, and no block where one was named, may be better elsewhere."""
    return any(
        answer.data is None
        if isinstance(answer, Failure)
        else answer is None and ask.method in ("eth_getBlockByNumber", "eth_getBlockByHash")
        for ask, answer in zip(asks, answers, strict=True)
    )


def _head(asks: Sequence[Ask], answers: Sequence[Any]) -> int:
    """The newest head among the answers; 0 where none was asked for."""
    heads = [0]
    for ask, answer in zip(asks, answers, strict=True):
        if ask.method == "eth_getBlockByNumber" and ask.params[0] == "latest" and isinstance(answer, Mapping):
            heads.append(number(answer.get("number")))
        elif ask.method == "eth_blockNumber" and not isinstance(answer, Failure):
            heads.append(number(answer))
    return max(heads)
