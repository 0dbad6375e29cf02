"""Messages to and from other parties of a task, through this node's gateway.

The words are those of the interconnection transport that the gateway speaks with every engine: ``push`` and
``pop`` on topics. What is pushed was taken by the peer's gateway when the call returns.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, Final

import httpx

from sealtrace.node.engines.errors import EngineError, PeerUnreachable, ProtocolViolated, SessionCut
from sealtrace.node.engines.job import Timeouts
from sealtrace.node.gateway import wire
from sealtrace.node.gateway.control import NO_TLS
from sealtrace.node.gateway.wire import Code, MalformedReply
from sealtrace.protocol.canonical import NotCanonical, canonical, parse
from sealtrace.protocol.identifiers import Address, Hex32

MAX_WORD_BYTES: Final = 4 << 20
_POP_S: Final = 5.0
_AGAIN_S: Final = 0.2
_CUT: Final = {Code.FORBIDDEN, Code.TOKEN, Code.NOT_FOUND}


class Channel:
    """One engine's end. ``url`` and ``token`` are of its node's gateway, for this task alone."""

    def __init__(self, url: str, token: str, task: Hex32, me: Address, timeouts: Timeouts) -> None:
        self._timeouts = timeouts
        self._headers = {wire.SESSION: task, wire.TOKEN: token, wire.SOURCE: me}
        limits = httpx.Timeout(timeouts.request_ms / 1000 + _POP_S, connect=10)
        self._client = httpx.Client(base_url=url, timeout=limits, trust_env=False, verify=NO_TLS)

    def __enter__(self) -> Channel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def push(self, peer: Address, topic: str, payload: bytes | memoryview) -> None:
        """Hand ``payload`` to ``peer``'s gateway, again and again where that is full or away for a while.

        Raises:
            PeerUnreachable: it was so for the job's silence timeout.
            SessionCut: the chain does not authorise the session, or no longer.
        """
        give_up = time.monotonic() + self._timeouts.receive_ms / 1000
        while True:
            reply = self._asked(wire.PUSH, peer, topic, content=bytes(payload))
            if reply.ok:
                return
            if reply.code in _CUT:
                raise SessionCut(reply.message or "the gateway takes nothing for this task")
            if time.monotonic() > give_up:
                raise PeerUnreachable(f"{peer} takes no message: {reply.message}", peer=peer)
            time.sleep(_AGAIN_S)

    def pop(self, peer: Address, topic: str, *, wait_ms: int | None = None) -> bytes:
        """The next message of ``peer`` on ``topic``; empty messages are never sent.

        Raises:
            PeerUnreachable: none came in ``wait_ms`` (the job's silence timeout).
            PeerFailed, SessionCut: the gateway knows that none will come.
        """
        give_up = time.monotonic() + (wait_ms or self._timeouts.receive_ms) / 1000
        while True:
            reply = self._asked(wire.POP, peer, topic, params={"timeout": str(_POP_S)})
            if reply.ok and reply.payload:
                return reply.payload
            if not reply.ok and (ended := _ended(reply, peer)) is not None:
                raise ended
            if time.monotonic() > give_up:
                raise PeerUnreachable(f"{peer} was silent for too long", peer=peer)
            if not reply.ok:
                time.sleep(_AGAIN_S)

    def say(self, peer: Address, topic: str, word: Any) -> None:
        """Push a JSON value."""
        self.push(peer, topic, canonical(word))

    def hear(self, peer: Address, topic: str, *, wait_ms: int | None = None) -> Any:
        """Pop a JSON object.

        Raises:
            ProtocolViolated: it is none. And what :meth:`pop` raises.
        """
        try:
            word = parse(self.pop(peer, topic, wait_ms=wait_ms), limit_bytes=MAX_WORD_BYTES)
        except NotCanonical as error:
            raise ProtocolViolated(f"{peer} sent what is no JSON", peer=peer) from error
        if not isinstance(word, dict):
            raise ProtocolViolated(f"{peer} sent what is no message", peer=peer)
        return word

    def _asked(self, path: str, peer: Address, topic: str, **more: Any) -> wire.Reply:
        headers = {**self._headers, wire.TARGET: peer, wire.TOPIC: topic}
        try:
            answer = self._client.post(path, headers=headers, **more)
            return wire.decode(answer.content)
        except (httpx.HTTPError, MalformedReply) as error:
            return wire.Reply(Code.UNREACHABLE, f"this node's gateway does not answer: {error}")


def _ended(reply: wire.Reply, peer: Address) -> EngineError | None:
    """What a refusal of ``pop`` means; ``None`` where it may be over soon.

    Who has left, and why, is the supervising process's to say: it asks the gateway too.
    """
    if reply.code == Code.NOT_CONNECTED:
        return PeerUnreachable(reply.message, peer=peer)
    if reply.code in _CUT:
        return SessionCut(reply.message or "the gateway gives nothing for this task")
    return None
