"""Gateways that reach each other through a relay, honest or not."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading

import pytest
from engine_network import Network, network
from test_gateway import both_open, engine

from sealtrace.node.gateway import wire
from sealtrace.node.gateway.relay import Relay
from sealtrace.node.gateway.wire import Code

pytestmark = pytest.mark.timeout(60)
SECRET = b"the payload that only the two engines may know " * 8


class Tap:
    """Stands before the relay at ``port`` and keeps all bytes that pass, both ways."""

    def __init__(self, port: int) -> None:
        self.seen = bytearray()
        self._relay_port = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near = self._server.accept()[0]
                far = socket.create_connection(("127.0.0.1", self._relay_port))
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=self._copy, args=(source, target), daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                self.seen += piece
                target.sendall(piece)
        target.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):  # closed before
            self._server.shutdown(socket.SHUT_RDWR)  # or the thread that accepts would keep it open
        self._server.close()


@contextlib.contextmanager
def relay_to(goes: set[str]):
    """A relay in a thread, that goes to what ``goes`` holds at the time; yields its port."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(Relay(goes, 1.0).start("127.0.0.1", 0), loop).result(5)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)


@pytest.fixture
def relayed(tmp_path):
    """Gateways that reach each other through a tapped relay alone."""
    goes: set[str] = set()
    with relay_to(goes) as port:
        tap = Tap(port)
        url = f"http://127.0.0.1:{tap.port}"
        with network(tmp_path, relay=url, connect_timeout_s=2.0) as net:
            goes.update(f"127.0.0.1:{node.peer_port}" for node in net.nodes)
            yield net, tap, goes
        tap.close()


def pushed(net: Network, task: str, token: str):
    return engine(net, 1, task, token, wire.PUSH, SECRET)


def test_a_message_through_a_relay_arrives_and_the_relay_saw_ciphertext_only(relayed):
    net, tap, _ = relayed
    task, here, there = both_open(net)
    assert pushed(net, task, there).ok
    assert engine(net, 0, task, here, wire.POP + "?timeout=1").payload == SECRET
    assert f"CONNECT 127.0.0.1:{net.nodes[0].peer_port} ".encode() in tap.seen
    assert len(tap.seen) > len(SECRET)
    for known in (SECRET[:16], task[2:].encode(), there.encode(), wire.INVOKE.encode()):
        assert known not in tap.seen


def test_a_relay_that_connects_to_another_node_gets_nothing(relayed):
    """The relay leads every connection to node 2."""
    net, tap, _ = relayed
    task, _, there = both_open(net)
    with relay_to(set()) as nowhere:
        tap._relay_port = nowhere
        assert pushed(net, task, there).code == Code.UNREACHABLE

    with misled(net.nodes[2].peer_port) as elsewhere:
        tap._relay_port = elsewhere
        assert pushed(net, task, there).code == Code.CERTIFICATE
    assert SECRET[:16] not in tap.seen


@contextlib.contextmanager
def misled(port: int):
    """A relay that says yes to everything and goes to ``port``."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                near = server.accept()[0]
                near.recv(4096)
                near.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                far = socket.create_connection(("127.0.0.1", port))
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=_copy, args=(source, target), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    yield server.getsockname()[1]
    server.close()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(65536):
            target.sendall(piece)
    target.close()


def test_a_relay_that_does_not_go_there_is_named_with_its_answer(relayed):
    net, _, goes = relayed
    task, _, there = both_open(net)
    goes.clear()
    reply = pushed(net, task, there)
    assert (reply.code, "403 This relay does not go there" in reply.message) == (Code.UNREACHABLE, True)


def test_a_peer_that_is_not_there_is_told_apart_from_the_relay(relayed):
    net, _, _ = relayed
    task, _, there = both_open(net)
    net.nodes[0].process.kill()
    net.nodes[0].process.join(5)
    reply = pushed(net, task, there)
    assert (reply.code, "502 That gateway does not answer" in reply.message) == (Code.UNREACHABLE, True)


def test_a_relay_that_is_gone_is_named(relayed):
    net, tap, _ = relayed
    task, _, there = both_open(net)
    tap.close()
    reply = pushed(net, task, there)
    assert (reply.code, "the relay http://" in reply.message) == (Code.UNREACHABLE, True)
    (peer,) = [p for p in net.nodes[1].control.report(task)["peers"] if p["down"] is not None]
    assert peer["blamed"] is False


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"400 "),
        (b"CONNECT 127.0.0.1 HTTP/1.1\r\n\r\n", b"400 "),
        (b"CONNECT 127.0.0.1:22 HTTP/1.1\r\n\r\n", b"403 "),
        (b"\x16\x03\x01\r\n\r\n", b"400 "),
        (b"x" * 70_000, b""),
    ],
)
def test_a_relay_goes_nowhere_else(asked, status):
    with relay_to({"127.0.0.1:1"}) as port, socket.create_connection(("127.0.0.1", port), 5) as line:
        line.sendall(asked)
        said = b""
        with contextlib.suppress(ConnectionError):
            while piece := line.recv(4096):
                said += piece
    assert said.startswith(b"HTTP/1.1 " + status if status else b"")
    assert said or not status
