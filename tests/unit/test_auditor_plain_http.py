"""The auditor's own transport, against an endpoint that keeps, cuts and closes connections as it likes."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager, suppress

import httpx
import pytest

from sealtrace.auditor.plain_http import PlainHttp, transport_to
from sealtrace.auditor.rpc import AnswerTooLarge, EndpointUnreachable, Rpc

SEVEN = b'{"id":0,"result":7}'


def http(body, *headers, status=b"200 OK"):
    told = (b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *headers)
    return b"\r\n".join(told) + b"\r\n\r\n" + body


def chunked(*parts):
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (*parts, b""))


@contextmanager
def endpoint(*connections):
    """Serves one connection after the other: each a row of answers, after the last of which it is closed.
    Gives the URL, and which connection each request came by."""
    listening, came = socket.create_server(("127.0.0.1", 0)), []

    def serve():
        for number, answers in enumerate(connections):
            taken, _ = listening.accept()
            with taken, suppress(ConnectionError):
                for answer in answers:
                    if not _request(taken):
                        break
                    came.append(number)
                    for part in [answer] if isinstance(answer, bytes) else answer:
                        taken.sendall(part)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", came
    finally:
        listening.close()


def _request(taken):
    """One request, its head and as much body as the head says."""
    told = b""
    while b"\r\n\r\n" not in told:
        if not (part := taken.recv(1 << 16)):
            return b""
        told += part
    head, _, body = told.partition(b"\r\n\r\n")
    (length,) = [
        int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
    ]
    while len(body) < length:
        body += taken.recv(1 << 16)
    return told


def test_a_connection_is_kept_for_the_next_request():
    with endpoint([http(SEVEN), chunked(SEVEN[:5], SEVEN[5:]), http(SEVEN)]) as (url, came), Rpc(url) as rpc:
        assert [rpc.ask("eth_x") for _ in range(3)] == [7, 7, 7]
    assert came == [0, 0, 0]


def test_a_kept_connection_that_the_endpoint_closed_is_not_used_again():
    with endpoint([http(SEVEN)], [http(SEVEN)]) as (url, came), Rpc(url) as rpc:
        assert rpc.ask("eth_x") == 7
        time.sleep(0.1)
        assert rpc.ask("eth_x") == 7
    assert came == [0, 1]


def test_a_connection_that_is_to_be_closed_is_closed():
    last = http(SEVEN, b"Connection: close")
    with endpoint([last, http(SEVEN)], [http(SEVEN)]) as (url, came), Rpc(url) as rpc:
        assert [rpc.ask("eth_x"), rpc.ask("eth_x")] == [7, 7]
    assert came == [0, 1]


CUT = {
    "in its length": http(SEVEN)[:-1],
    "in a chunk": chunked(SEVEN)[:-8],
    "in its head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "before it began": b"",
    "no HTTP": b"SSH-2.0-OpenSSH_9.6\r\n",
    "a status that is none": http(SEVEN, status=b"2x0 OK"),
    "a head without end": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1_000,
}


@pytest.mark.parametrize("name", CUT)
def test_an_answer_that_was_cut_is_asked_for_once_more_and_never_taken_for_whole(name):
    with endpoint([CUT[name]], [http(SEVEN)]) as (url, came), Rpc(url) as rpc:
        assert rpc.ask("eth_x") == 7
    assert came == [0, 1]
    with endpoint([CUT[name]], [CUT[name]]) as (url, _), Rpc(url) as rpc, pytest.raises(EndpointUnreachable):
        rpc.ask("eth_x")


def test_headers_that_are_no_text_are_no_trouble():
    with endpoint([http(SEVEN, b"X-Name: \xff\xfe\x00caf\xe9")]) as (url, _), Rpc(url) as rpc:
        assert rpc.ask("eth_x") == 7


def test_an_answer_that_trickles_or_never_ends_is_given_up():
    def trickle():
        yield b"HTTP/1.1 200 OK\r\n\r\n"
        while True:
            time.sleep(0.02)
            yield b" "

    def endless():
        yield b"HTTP/1.1 200 OK\r\n\r\n"
        while True:
            yield b" " * (1 << 20)

    began = time.monotonic()
    with (
        endpoint([trickle()]) as (url, _),
        Rpc(url, timeout_s=0.3) as rpc,
        pytest.raises(EndpointUnreachable),
    ):
        rpc.ask("eth_x")
    assert time.monotonic() - began < 5
    with endpoint([endless()]) as (url, _), Rpc(url) as rpc, pytest.raises(AnswerTooLarge):
        rpc.ask("eth_x")


def test_silence_is_given_up_in_time():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with Rpc(url, timeout_s=0.2) as rpc, pytest.raises(EndpointUnreachable, match="timed out"):
            rpc.ask("eth_x")


def test_what_is_encrypted_or_behind_a_proxy_is_left_to_httpx(monkeypatch):
    assert isinstance(transport_to("http://node:8545"), PlainHttp)
    assert transport_to("https://node:8545") is None
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    assert transport_to("http://node:8545") is None
    assert isinstance(transport_to("http://localhost:8545"), PlainHttp)


def test_a_name_that_nobody_has_is_not_reached():
    with httpx.Client(transport=PlainHttp()) as client, pytest.raises(httpx.ConnectError):
        client.post("http://" + "x" * 64 + ".invalid/")
