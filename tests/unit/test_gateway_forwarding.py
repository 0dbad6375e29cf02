"""What goes to a peer, over real sockets without TLS: the order of messages, and of their replies."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sealtrace.node.gateway import forwarding, wire
from sealtrace.node.gateway.forwarding import (
    ACKNOWLEDGEMENT_BYTES,
    MAX_HELD,
    Forwarder,
    PeerDown,
    PeerGarbled,
    Result,
)
from sealtrace.node.gateway.heads import END
from sealtrace.node.gateway.wire import Code, Reply

PIN = b"p" * 32
pytestmark = pytest.mark.timeout(20)
ACK, DATA = b"ack", b"data that is longer than any acknowledgement"


class PlainForwarder(Forwarder):
    """Leaves TLS away, and takes whoever answers for the peer."""

    def __init__(self, port: int) -> None:
        super().__init__(f"https://127.0.0.1:{port}", PIN, None, connect_timeout_s=1.0, reply_timeout_s=1.0)

    async def _connect(self):
        connection = await self._reach()
        self._connections.append(connection)
        return connection


class Peer:
    """Reads messages from one connection after another and replies what it is told to."""

    def __init__(self, *answers: bytes) -> None:
        self.bodies: list[bytes] = []
        self.connections = 0
        self._answers = list(answers)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while True:
            head = await reader.readuntil(END)
            length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
            self.bodies.append(await reader.readexactly(length))
            answer = self._answers.pop(0) if self._answers else answered(Code.OK)
            if answer == b"":
                writer.close()
                return
            writer.write(answer)


def answered(code: Code, message: str = "") -> bytes:
    body = wire.encode(code, message=message)
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def told(story, *answers: bytes) -> Any:
    """Run ``story(forwarder, peer)``."""

    async def run() -> Any:
        peer = Peer(*answers)
        server = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
        forwarder = PlainForwarder(server.sockets[0].getsockname()[1])
        try:
            return await story(forwarder, peer)
        finally:
            forwarder.close()
            server.close()

    return asyncio.run(run())


def sent(forwarder: Forwarder, body: bytes) -> asyncio.Future[Result]:
    future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
    forwarder.send(wire.INVOKE, forwarder.fields({}), body, future.set_result, sequence=0)
    return future


async def warm(forwarder: Forwarder) -> None:
    await sent(forwarder, DATA)


def test_an_acknowledgement_rides_behind_the_next_message():
    async def story(forwarder, peer):
        await warm(forwarder)
        await asyncio.gather(sent(forwarder, ACK), sent(forwarder, DATA))
        return peer.bodies[1:], peer.connections

    assert len(ACK) <= ACKNOWLEDGEMENT_BYTES < len(DATA)
    assert told(story) == ([DATA, ACK], 1)


def test_an_acknowledgement_that_nothing_follows_goes_alone():
    async def story(forwarder, peer):
        await warm(forwarder)
        reply = await sent(forwarder, ACK)
        return reply, peer.bodies[1:]

    assert told(story) == (Reply(Code.OK), [ACK])


def test_many_acknowledgements_do_not_wait_for_a_message(monkeypatch):
    monkeypatch.setattr(forwarding, "HOLD_S", 60.0)

    async def story(forwarder, peer):
        await warm(forwarder)
        async with asyncio.timeout(5):
            await asyncio.gather(*(sent(forwarder, ACK) for _ in range(MAX_HELD)))
        return peer.bodies[1:]

    assert told(story) == [ACK] * MAX_HELD


def test_every_message_hears_its_own_reply_although_one_overtook_another():
    async def story(forwarder, peer):
        await warm(forwarder)
        return await asyncio.gather(sent(forwarder, ACK), sent(forwarder, DATA))

    for_ack, for_data = told(
        story, answered(Code.OK), answered(Code.QUEUE_FULL, "data"), answered(Code.MESSAGE, "ack")
    )
    assert (for_ack.message, for_data.message) == ("ack", "data")


def test_what_a_connection_that_was_closed_under_us_carried_is_sent_once_more():
    async def story(forwarder, peer):
        await warm(forwarder)
        replies = await asyncio.gather(sent(forwarder, DATA), sent(forwarder, DATA + b"2"))
        return replies, peer.bodies[1:], peer.connections

    replies, bodies, connections = told(story, answered(Code.OK), b"")
    assert replies == [Reply(Code.OK)] * 2
    assert bodies[-2:] == [DATA, DATA + b"2"]
    assert connections == 2


def test_what_fails_on_a_fresh_connection_is_told_and_not_repeated():
    async def story(forwarder, peer):
        return await sent(forwarder, DATA), peer.connections

    result, connections = told(story, b"")
    assert isinstance(result, PeerDown)
    assert connections == 1


def test_a_reply_in_pieces_is_one_reply():
    async def story(forwarder, peer):
        return await sent(forwarder, DATA)

    class Slow(Peer):
        async def serve(self, reader, writer):
            await reader.readuntil(END)
            for byte in answered(Code.MESSAGE, "slowly"):
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0)
            await reader.read()

    async def run():
        server = await asyncio.start_server(Slow().serve, "127.0.0.1", 0)
        forwarder = PlainForwarder(server.sockets[0].getsockname()[1])
        try:
            return await sent(forwarder, DATA)
        finally:
            forwarder.close()
            server.close()

    assert asyncio.run(run()).message == "slowly"


def test_a_reply_to_nothing_ends_the_connection_and_garbage_is_named():
    async def story(forwarder, peer):
        await warm(forwarder)
        await asyncio.sleep(0.05)
        first = await sent(forwarder, DATA)
        return first, await sent(forwarder, DATA), peer.connections

    first, second, connections = told(story, answered(Code.OK) * 2, b"garbage" + END, answered(Code.OK))
    assert isinstance(first, PeerGarbled)
    assert (second, connections) == (Reply(Code.OK), 3)


def test_a_peer_that_takes_a_message_and_says_nothing_is_down_in_time():
    async def story(forwarder, peer):
        return await asyncio.wait_for(sent(forwarder, DATA), 3)

    result = told(story, b" ")
    assert isinstance(result, PeerDown)
    assert "no reply in time" in str(result)


def test_what_waits_for_a_connection_ends_when_the_session_does():
    async def story(forwarder, peer):
        waiting = sent(forwarder, DATA)
        forwarder.close("revoked")
        return await waiting

    assert isinstance(told(story), PeerDown)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "https://", "nonsense"])
def test_a_gateways_address_is_one_of_https(url):
    with pytest.raises(ValueError, match="https"):
        Forwarder(url, PIN, None, connect_timeout_s=1, reply_timeout_s=1)


def test_an_error_of_our_own_still_ends_what_waited():
    async def run():
        forwarder = PlainForwarder(1)
        forwarder._reach = None
        logged: list[dict] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, told: logged.append(told))
        result = await asyncio.wait_for(sent(forwarder, DATA), 3)
        await asyncio.sleep(0)
        return result, logged

    result, logged = asyncio.run(run())
    assert isinstance(result, PeerDown)
    assert "our own error" in str(result)
    assert isinstance(logged[0]["exception"], TypeError)
