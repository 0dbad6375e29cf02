"""Several endpoints of one chain, read as one: who fails is passed over, who contradicts ends the audit.

Before anything is read, each must show the last block of the audit with one hash. That hash leads through the
headers' parents to all that came before, so it does not matter which endpoint a part is read from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar, overload

from sealtrace.auditor.headers import read_header
from sealtrace.auditor.rpc import EndpointRefused, EndpointTalksNonsense, EndpointUnreachable, Rpc
from sealtrace.protocol.records import BlockRef

T = TypeVar("T")

TROUBLE: Final = (EndpointUnreachable, EndpointTalksNonsense, EndpointRefused)


class EndpointsDisagree(ValueError):
    """Two endpoints show different blocks at one height: learn from the consortium which history stands, and
    audit each endpoint alone to see what differs."""


class Endpoints:
    """What the auditor asks of an endpoint, answered by the first of several that can.

    Raises:
        EndpointsDisagree: on construction, one shows another block than ``last`` at its height.
        EndpointUnreachable: on construction, none shows one.
    """

    def __init__(self, rpcs: Sequence[Rpc], last: BlockRef) -> None:
        self._asked = _agreeing(rpcs, last)

    @overload
    def ask(self, method: str, *params: object) -> Any: ...
    @overload
    def ask(self, method: str, *params: object, kind: type[T]) -> T: ...
    def ask(self, method: str, *params: object, kind: Any = Any) -> Any:
        """As :meth:`Rpc.ask`; raises what the last endpoint that was asked gave for a reason."""
        return self._first(lambda rpc: rpc.ask(method, *params, kind=kind))

    @overload
    def ask_all(self, method: str, params: Sequence[Sequence[object]]) -> list[Any]: ...
    @overload
    def ask_all(self, method: str, params: Sequence[Sequence[object]], kind: type[T]) -> list[T]: ...
    def ask_all(self, method: str, params: Sequence[Sequence[object]], kind: Any = Any) -> list[Any]:
        """As :meth:`Rpc.ask_all`, all of it from one endpoint."""
        return self._first(lambda rpc: rpc.ask_all(method, params, kind))

    def _first(self, question: Callable[[Rpc], T]) -> T:
        *others, last = self._asked
        for rpc in others:
            try:
                found = question(rpc)
            except EndpointRefused:
                continue  # it may serve everything else
            except TROUBLE:
                self._asked = [*(each for each in self._asked if each is not rpc), rpc]
                continue
            return found
        return question(last)


def _agreeing(rpcs: Sequence[Rpc], last: BlockRef) -> list[Rpc]:
    """Those that show ``last``; one that is behind it or does not answer is left out."""
    found, troubles = [], []
    for rpc in rpcs:
        try:
            header = read_header(rpc.ask("eth_getBlockByNumber", hex(last.number), False))
        except (*TROUBLE, ValueError) as cause:
            troubles.append(f"{rpc.url}: {cause}")
            continue
        if header.claimed != last.hash:
            raise EndpointsDisagree(
                f"block {last.number} is {last.hash} elsewhere and {header.claimed} at {rpc.url}"
            )
        found.append(rpc)
    if not found:
        raise EndpointUnreachable(f"no endpoint shows block {last.number}: {'; '.join(troubles)}")
    return found
