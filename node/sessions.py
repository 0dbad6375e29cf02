"""The gateway in the gate's words, and the chain in the gateway's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sealtrace.node import terms as stored_terms
from sealtrace.node.errors import ChainUnavailable, GatewayDown, StoreBusy, TaskNotFound
from sealtrace.node.gateway.authority import AuthorityUnavailable, Party, Session
from sealtrace.node.gateway.control import GatewayControl, GatewayRefused, GatewayUnavailable, Introduction
from sealtrace.node.gateway.wire import Code
from sealtrace.node.ports import Chain, LocalGateway, Peer, SessionRefused
from sealtrace.node.store import Store
from sealtrace.protocol.identifiers import Hex32, raw
from sealtrace.protocol.lifecycle import TaskState
from sealtrace.protocol.records import NodeStatus


class GatewaySessions:
    """:class:`sealtrace.node.ports.Sessions` over the gateway's control interface."""

    def __init__(self, control: GatewayControl) -> None:
        self.control = control

    def open(self, task: Hex32, peers: tuple[Peer, ...]) -> LocalGateway:
        """Open the task's session afresh.

        Raises:
            GatewayDown: no answer, or the gateway cannot ask the chain now.
            SessionRefused: the chain or a certificate is against it.
        """
        self.close(task)
        introduced = [Introduction(p.address, p.gateway_url, p.certificate_pem) for p in peers]
        try:
            token = self.control.open(task, introduced)
        except GatewayUnavailable as cause:
            raise GatewayDown(str(cause)) from cause
        except GatewayRefused as cause:
            if cause.code in (Code.UNREACHABLE, Code.TOKEN):
                raise GatewayDown(str(cause)) from cause
            raise SessionRefused(str(cause)) from cause
        return LocalGateway(self.control.url, token)

    def close(self, task: Hex32, *, left: str | None = None) -> Mapping[str, Any]:
        """Close it where it is open.

        Raises:
            GatewayDown: no answer.
        """
        try:
            return self.control.close(task, left=left)
        except GatewayUnavailable as cause:
            raise GatewayDown(str(cause)) from cause
        except GatewayRefused as cause:
            if cause.code == Code.NOT_FOUND:
                return {}
            raise GatewayDown(str(cause)) from cause


class ChainAuthority:
    """:class:`sealtrace.node.gateway.authority.SessionAuthority`: the chain decides who may talk.

    Which parties a task has is taken from the node's store, and held to its id, which commits to them.
    """

    def __init__(self, chain: Chain, store: Store) -> None:
        self._chain = chain
        self._store = store

    def session(self, task: str) -> Session | None:
        """The task's standing at the last final block.

        Raises:
            AuthorityUnavailable: the chain does not answer.
        """
        try:
            terms = stored_terms.from_text(self._store.task(Hex32(task)).terms)
            if self._chain.task_id(terms) != task:
                return None
            at = self._chain.finalized()
            standing = self._chain.task(Hex32(task), at=at)
            nodes = [self._chain.node(party, at=at) for party in terms.parties]
        except TaskNotFound:
            return None
        except (ChainUnavailable, StoreBusy) as cause:
            raise AuthorityUnavailable(str(cause)) from cause
        if standing is None:
            return None
        active = all(node.status is NodeStatus.ACTIVE for node in nodes)
        parties = tuple(Party(node.address, raw(node.tls_fingerprint)) for node in nodes)
        return Session(parties, running=active and standing.state is TaskState.RUNNING)
