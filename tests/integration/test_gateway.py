"""A gateway's ports, attacked over real TLS by peers and engines that lie."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPSConnection

import httpx
import pytest
from engine_network import FileAuthority, Network, network

from sealtrace.node.gateway import wire
from sealtrace.node.gateway.certificates import create_certificate
from sealtrace.node.gateway.control import GatewayControl, GatewayRefused, GatewayUnavailable, Introduction
from sealtrace.node.gateway.server import GatewayConfig, PortTaken, control_token, serve
from sealtrace.node.gateway.wire import Code, Reply, decode

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    limits = {"message_bytes": 1 << 20, "connect_timeout_s": 1.0, "reply_timeout_s": 1.5}
    with network(tmp_path_factory.mktemp("gateways"), **limits) as made:
        yield made


def as_node(net: Network, sender: int) -> ssl.SSLContext:
    """A client's side of TLS towards node 0, with the certificate of node ``sender``."""
    node, target = net.nodes[sender], net.nodes[0]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=target.certificate)
    context.load_cert_chain(node.folder / "tls.pem", node.folder / "tls.key")
    return context


def invoke(
    net: Network, sender: int, task: str, *, body: bytes = b"x", path: str = wire.INVOKE, **changes: str
):
    """Post to node 0's peer port with the certificate of node ``sender``."""
    node, target = net.nodes[sender], net.nodes[0]
    context = as_node(net, sender)
    headers = {
        wire.SESSION: task,
        wire.TOPIC: "b-a",
        wire.SOURCE: node.address,
        wire.TARGET: target.address,
        wire.SEQUENCE: "0",
        wire.VERSION: wire.SPOKEN,
    }
    connection = HTTPSConnection("127.0.0.1", target.peer_port, context=context, timeout=5)
    try:
        connection.request("POST", path, body=body, headers={**headers, **changes})
        return decode(connection.getresponse().read())
    finally:
        connection.close()


def engine(
    net: Network, me: int, task: str, token: str, path: str, body: bytes = b"", **changes: str
) -> Reply:
    """Post to node ``me``'s loopback port, towards or about node 1 (or 0)."""
    peer = net.nodes[1 if me == 0 else 0]
    headers = {
        wire.SESSION: task,
        wire.TOKEN: token,
        wire.TOPIC: "b-a",
        wire.SOURCE: net.nodes[me].address,
        wire.TARGET: peer.address,
        **changes,
    }
    request = urllib.request.Request(
        f"http://127.0.0.1:{net.nodes[me].local_port}{path}", data=body, headers=headers, method="POST"
    )
    with urllib.request.urlopen(request, timeout=45) as response:
        return decode(response.read())


def both_open(net: Network, **options: bool) -> tuple[str, str, str]:
    task = net.new_task(**options)
    return task, net.open(task, 0), net.open(task, 1)


def test_a_message_travels_from_engine_to_engine(net):
    task, here, there = both_open(net)
    assert engine(net, 1, task, there, wire.PUSH, b"hello").ok
    got = engine(net, 0, task, here, wire.POP + "?timeout=1")
    assert (got.ok, got.payload) == (True, b"hello")


def test_an_empty_pop_is_held_for_its_timeout(net):
    task, here, _ = both_open(net)
    start = time.monotonic()
    got = engine(net, 0, task, here, wire.POP + "?timeout=1")
    assert got == Reply(Code.OK)
    assert 0.8 < time.monotonic() - start < 15


def test_a_certificate_that_nobody_pins_does_not_get_past_the_handshake(net, tmp_path):
    task, _, _ = both_open(net)
    pem, key = create_certificate(net.nodes[1].address)
    (tmp_path / "tls.pem").write_bytes(pem)
    (tmp_path / "tls.key").write_bytes(key)
    liar = type(net.nodes[1])(net.nodes[1].address, pem.decode(), tmp_path)
    other = Network(net.folder, [net.nodes[0], liar])
    with pytest.raises((ssl.SSLError, ConnectionError)):
        invoke(other, 1, task)


def test_a_caller_without_a_certificate_does_not_get_past_the_handshake(net):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=net.nodes[0].certificate)
    connection = HTTPSConnection("127.0.0.1", net.nodes[0].peer_port, context=context, timeout=5)

    def ask() -> None:
        connection.request("POST", wire.INVOKE, body=b"x")
        connection.getresponse()

    with pytest.raises((ssl.SSLError, ConnectionError)):
        ask()


def test_tls_1_2_is_refused(net):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    connection = HTTPSConnection("127.0.0.1", net.nodes[0].peer_port, context=context, timeout=5)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        connection.connect()


def test_a_party_that_claims_to_be_another_is_refused(net):
    task, _, _ = both_open(net)
    reply = invoke(net, 2, task, **{wire.SOURCE: net.nodes[1].address})
    assert reply.code == Code.CERTIFICATE


def test_a_node_that_is_no_party_is_refused(net):
    task = net.new_task(count=2)
    both_open(net)  # node 0 pins node 2 for another task
    net.open(task, 0, 2)
    assert invoke(net, 2, task).code == Code.FORBIDDEN


def test_a_message_for_another_node_is_refused(net):
    task, _, _ = both_open(net)
    assert invoke(net, 1, task, **{wire.TARGET: net.nodes[2].address}).code == Code.BAD_REQUEST


def test_a_session_that_is_not_open_here_is_refused(net):
    both_open(net)
    assert invoke(net, 1, "0x" + "ee" * 32).code == Code.NOT_CONNECTED


def test_a_session_that_does_not_run_is_refused(net):
    task, _, there = both_open(net, running=False)
    assert invoke(net, 1, task).code == Code.FORBIDDEN
    assert engine(net, 1, task, there, wire.PUSH, b"x").code == Code.FORBIDDEN


def test_a_message_over_the_limit_is_refused(net):
    task, _, there = both_open(net)
    big = bytes((1 << 20) + 1)
    assert invoke(net, 1, task, body=big).code == Code.MESSAGE
    assert engine(net, 1, task, there, wire.PUSH, big).code == Code.MESSAGE


@pytest.mark.parametrize(
    ("header", "value"),
    [(wire.SEQUENCE, "-1"), (wire.SEQUENCE, ""), (wire.TOPIC, ""), (wire.TOPIC, "x" * 300)],
)
def test_malformed_headers_are_refused(net, header, value):
    task, _, _ = both_open(net)
    assert invoke(net, 1, task, **{header: value}).code == Code.BAD_REQUEST


def test_an_engine_with_another_jobs_token_is_refused(net):
    task, here, _ = both_open(net)
    _, other, _ = both_open(net)
    assert engine(net, 0, task, other, wire.PUSH, b"x").code == Code.TOKEN
    assert engine(net, 0, task, here, wire.PUSH, b"x", **{wire.SOURCE: net.nodes[2].address}).code == (
        Code.BAD_REQUEST
    )


def test_a_revoked_session_is_cut_while_an_engine_waits(net):
    task, here, _ = both_open(net)
    net.write(task, running=False)
    start = time.monotonic()
    assert engine(net, 0, task, here, wire.POP + "?timeout=40").code == Code.FORBIDDEN
    assert time.monotonic() - start < 15
    assert invoke(net, 1, task).code == Code.FORBIDDEN
    assert net.nodes[0].control.report(task)["state"] == "cut"


def test_a_peer_that_is_down_is_an_answer_within_the_connect_timeout(net):
    task = net.new_task()
    introductions = [
        Introduction(i.address, "https://127.0.0.1:1", i.certificate) for i in net.introductions(0)
    ]
    token = net.nodes[0].control.open(task, introductions)
    start = time.monotonic()
    reply = engine(net, 0, task, token, wire.PUSH, b"x")
    assert reply.code == Code.UNREACHABLE
    assert time.monotonic() - start < 15
    down = {p["address"]: p["down"] for p in net.nodes[0].control.report(task)["peers"]}
    assert down[net.nodes[1].address] is not None


def test_a_host_that_answers_with_another_certificate_gets_nothing(net):
    """Node 2 sits at node 1's address: the message must not reach it."""
    task = net.new_task()
    wrong = f"https://127.0.0.1:{net.nodes[2].peer_port}"
    introductions = [Introduction(i.address, wrong, i.certificate) for i in net.introductions(0)]
    token = net.nodes[0].control.open(task, introductions)
    assert engine(net, 0, task, token, wire.PUSH, b"x").code == Code.CERTIFICATE


def test_a_session_with_a_certificate_that_is_not_on_the_chain_is_not_opened(net):
    task = net.new_task()
    forged = create_certificate(net.nodes[1].address)[0].decode()
    introductions = [Introduction(i.address, i.url, forged) for i in net.introductions(0)]
    with pytest.raises(GatewayRefused, match="not the certificate on the chain"):
        net.nodes[0].control.open(task, introductions)


def test_a_session_that_the_chain_does_not_know_is_not_opened(net):
    with pytest.raises(GatewayRefused, match="no such task"):
        net.nodes[0].control.open("0x" + "dd" * 32, net.introductions(0))


def test_a_session_with_other_parties_than_the_chains_is_not_opened(net):
    task = net.new_task()
    with pytest.raises(GatewayRefused, match="other parties"):
        net.nodes[0].control.open(task, net.introductions(0)[:1])


def test_a_session_opens_once(net):
    task = net.new_task()
    net.open(task, 0)
    with pytest.raises(GatewayRefused, match="open already"):
        net.open(task, 0)
    net.nodes[0].control.close(task)
    net.open(task, 0)


def test_control_needs_the_nodes_token(net):
    stranger = GatewayControl(net.nodes[0].control.url, "guess")
    with pytest.raises(GatewayRefused, match="control token"):
        stranger.report("0x" + "01" * 32)


def test_a_token_that_is_not_text_is_refused_like_any_other(net):
    task, *_ = both_open(net)
    url = net.nodes[0].control.url
    control = httpx.get(f"{url}/control/sessions/{task}", headers={"authorization": b"Bearer \xff"})
    assert (control.status_code, control.json()["code"]) == (401, Code.TOKEN)
    headers = {wire.SESSION: task, wire.TOKEN: b"\xff"}
    popped = httpx.post(f"{url}{wire.POP}", headers=headers)
    assert Code.TOKEN.encode() in popped.content


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"task": 1, "task": 2}',
        b"",
        b"[]",
        b'{"task": 1, "peers": []}',
        b'{"task": "0x00", "peers": []}',
    ],
)
def test_a_malformed_introduction_is_refused(net, body):
    request = urllib.request.Request(
        net.nodes[0].control.url + "/control/sessions",
        data=body,
        headers={"authorization": f"Bearer {net.nodes[0].control.token}"},
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=5)
    assert refused.value.code == 400
    assert "detail" in json.loads(refused.value.read())


def test_a_gateway_that_is_down_is_named(net):
    with pytest.raises(GatewayUnavailable):
        GatewayControl("http://127.0.0.1:1", "x", timeout_s=1).report("0x" + "01" * 32)


def test_a_peer_learns_that_the_other_left_early(net):
    task, here, _ = both_open(net)
    net.nodes[1].control.close(task, left="bad_input")
    assert engine(net, 0, task, here, wire.POP + "?timeout=40").code == Code.NOT_CONNECTED
    left = {p["address"]: p["left"] for p in net.nodes[0].control.report(task)["peers"]}
    assert left[net.nodes[1].address] == "bad_input"


def test_nobody_can_say_that_another_has_left(net):
    task, _, _ = both_open(net)
    reply = invoke(net, 2, task, path=wire.LEFT, body=b"gone", **{wire.SOURCE: net.nodes[1].address})
    assert reply.code == Code.CERTIFICATE


def held_against(net: Network, task: str, what: str) -> str | None:
    """What node 0 holds against node 1 in ``task``."""
    peers = {p["address"]: p for p in net.nodes[0].control.report(task)["peers"]}
    return peers[net.nodes[1].address][what]


def test_a_peer_that_sends_garbage_is_told_so_and_held_to_it(net):
    task, *_ = both_open(net)
    plain = socket.create_connection(("127.0.0.1", net.nodes[0].peer_port), timeout=5)
    with as_node(net, 1).wrap_socket(plain) as line:
        line.sendall(b"\x00\x01garbage\r\n\r\n")
        assert line.recv(4096).startswith(b"HTTP/1.1 400 ")
        assert line.recv(4096) == b""
    assert "no message" in held_against(net, task, "broke")
    assert invoke(net, 1, task).ok, "what is whole is still taken: the worker decides"


def test_a_peer_that_stops_in_the_middle_of_a_message_is_hung_up_on(net):
    both_open(net)
    plain = socket.create_connection(("127.0.0.1", net.nodes[0].peer_port), timeout=5)
    with as_node(net, 1).wrap_socket(plain) as line:
        line.sendall(b"POST /v1/interconn/chan/invoke HTTP/1.1\r\nContent-Le")
        start = time.monotonic()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            assert line.recv(4096) == b""
        assert time.monotonic() - start < 4


@pytest.mark.parametrize("spoken", ["2", ""])
def test_a_peer_that_speaks_another_version_is_refused_and_named(net, spoken):
    task, *_ = both_open(net)
    reply = invoke(net, 1, task, **{wire.VERSION: spoken})
    assert (reply.code, "version '1'" in reply.message) == (Code.VERSION, True)
    assert held_against(net, task, "speaks").startswith(f"speaks version {spoken!r}")
    assert held_against(net, task, "broke") is None


@contextlib.contextmanager
def impostor(net: Network, says: bytes | None, *, end: bool):
    """A program with node 1's key in place of its gateway: answers ``says``, and hangs up or not."""
    node = net.nodes[1]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(node.folder / "tls.pem", node.folder / "tls.key")
    server = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                line = context.wrap_socket(server.accept()[0], server_side=True)
                line.recv(65536)
                if says is not None:
                    line.sendall(says)
                if not end:
                    over.wait(10)
                line.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.getsockname()[1]}"
    finally:
        over.set()
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(5)


def _answer(code: Code, message: str = "") -> bytes:
    body = wire.encode(code, message=message)
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body


@pytest.mark.parametrize(
    ("says", "end", "code", "what"),
    [
        (None, False, Code.UNREACHABLE, "down"),
        (None, True, Code.UNREACHABLE, "down"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n\x12", True, Code.UNREACHABLE, "down"),
        (b"\xff\xfe\r\n\r\n", True, Code.UNREACHABLE, "broke"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n\xff\xff\xff", False, Code.UNREACHABLE, "broke"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n", False, Code.UNREACHABLE, "broke"),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", False, Code.UNREACHABLE, "broke"),
        (b"a" * 100_000, False, Code.UNREACHABLE, "broke"),
        (_answer(Code.VERSION, "7 only"), False, Code.VERSION, "speaks"),
    ],
)
def test_whatever_a_peers_gateway_answers_ends_by_name_in_time(net, says, end, code, what):
    task = net.new_task()
    with impostor(net, says, end=end) as url:
        introductions = [
            Introduction(i.address, url if i.address == net.nodes[1].address else i.url, i.certificate)
            for i in net.introductions(0)
        ]
        token = net.nodes[0].control.open(task, introductions)
        start = time.monotonic()
        reply = engine(net, 0, task, token, wire.PUSH, b"x")
    assert reply.code == code
    assert time.monotonic() - start < 4
    assert held_against(net, task, what)


def test_what_is_under_way_to_a_peer_ends_when_the_session_is_cut(net):
    task = net.new_task()
    with impostor(net, None, end=False) as url, ThreadPoolExecutor() as pool:
        introductions = [
            Introduction(i.address, url, i.certificate) if i.address == net.nodes[1].address else i
            for i in net.introductions(0)
        ]
        token = net.nodes[0].control.open(task, introductions)
        asked = pool.submit(engine, net, 0, task, token, wire.PUSH, b"x")
        time.sleep(0.3)
        net.write(task, running=False)
        start = time.monotonic()
        assert asked.result().code == Code.UNREACHABLE
        assert time.monotonic() - start < 1
    assert held_against(net, task, "down").endswith("runs no more")


def test_a_taken_port_is_named(net, tmp_path):
    node = net.nodes[0]
    config = GatewayConfig(
        node=node.address,
        certificate=node.folder / "tls.pem",
        private_key=node.folder / "tls.key",
        control_token="x",
        peer_port=node.peer_port,
    )
    with pytest.raises(PortTaken, match=str(node.peer_port)):
        asyncio.run(serve(config, FileAuthority(tmp_path), lambda _: None))


def test_the_control_token_is_made_once_for_this_user_only(tmp_path):
    token = control_token(tmp_path / "token")
    assert control_token(tmp_path / "token") == token
    assert len(token) > 40
    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600
