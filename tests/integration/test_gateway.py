"""A gateway's ports, attacked over real TLS by peers and engines that lie."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
import urllib.error
import urllib.request
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
    with network(tmp_path_factory.mktemp("gateways"), message_bytes=1 << 20, connect_timeout_s=1.0) as made:
        yield made


def invoke(
    net: Network, sender: int, task: str, *, body: bytes = b"x", path: str = wire.INVOKE, **changes: str
):
    """Post to node 0's peer port with the certificate of node ``sender``."""
    node, target = net.nodes[sender], net.nodes[0]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=target.certificate)
    context.load_cert_chain(node.folder / "tls.pem", node.folder / "tls.key")
    headers = {
        wire.SESSION: task,
        wire.TOPIC: "b-a",
        wire.SOURCE: node.address,
        wire.TARGET: target.address,
        wire.SEQUENCE: "0",
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
