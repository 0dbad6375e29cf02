"""An endpoint that answers with garbage, with too much, too slowly, or to another question."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import httpx
import pytest

from sealtrace.auditor.headers import Receipt
from sealtrace.auditor.rpc import (
    MAX_ANSWER_BYTES,
    AnswerTooLarge,
    EndpointRefused,
    EndpointTalksNonsense,
    EndpointUnreachable,
    Rpc,
)


def answering(content, status=200):
    """An endpoint that always says the same; ``content`` may be made of the request."""

    def answer(request):
        said = content(json.loads(request.content)) if callable(content) else content
        return httpx.Response(status, content=said)

    return Rpc("http://endpoint", transport=httpx.MockTransport(answer))


NONSENSE = {
    "nothing": b"",
    "no JSON": b"<html>",
    "half of it": b'{"jsonrpc":"2.0","id":0,"resu',
    "not UTF-8": b'{"id":0,"result":"\xff"}',
    "a list": b"[]",
    "a number": b"7",
    "no result": b'{"id":0}',
    "an error and a result": b'{"id":0,"result":1,"error":"both"}',
    "another id": b'{"id":1,"result":1}',
    "no id": b'{"result":1}',
    "an id that is no id": b'{"id":[0],"result":1}',
    "another's error": b'{"id":9,"error":{"code":1,"message":"x"}}',
    "deep": b'{"id":0,"result":' + b"[" * 1_000_000,
    "deep where nobody looks": b'{"id":0,"x":' + b'{"x":' * 1_000_000,
}


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_is_named_as_such(name):
    with answering(NONSENSE[name]) as rpc, pytest.raises(EndpointTalksNonsense):
        rpc.ask("eth_chainId")


@pytest.mark.parametrize("result", [b"null", b"1", b'"0x"', b"{}", b"[1]", b'[{"status":"0x1"}]'])
def test_what_is_not_of_the_kind_that_was_asked_for_is_nonsense(result):
    said = b'{"id":0,"result":%s}' % result
    with answering(said) as rpc, pytest.raises(EndpointTalksNonsense):
        rpc.ask("eth_getBlockReceipts", "0x1", kind=list[Receipt])


def test_a_batch_is_put_in_order_and_answers_to_other_questions_are_nonsense():
    def reversed_(asked):
        return json.dumps([{"id": each["id"], "result": each["params"][0]} for each in asked][::-1]).encode()

    with answering(reversed_) as rpc:
        assert rpc.ask_all("eth_x", [["a"], ["b"], ["c"]]) == ["a", "b", "c"]
    for ids in ([0, 0], [0], [0, 1, 2], [1, 2], [0, "1"]):
        said = json.dumps([{"id": each, "result": 1} for each in ids]).encode()
        with answering(said) as rpc, pytest.raises(EndpointTalksNonsense):
            rpc.ask_all("eth_x", [["a"], ["b"]])


def test_an_endpoint_without_batches_is_asked_one_by_one():
    def answer(asked):
        if isinstance(asked, list):
            return b'{"id":null,"error":{"code":-32600,"message":"no batches"}}'
        return json.dumps({"id": asked["id"], "result": asked["params"][0]}).encode()

    with answering(answer) as rpc:
        assert rpc.ask_all("eth_x", [["a"], ["b"]]) == ["a", "b"]


def test_an_answer_beyond_all_measure_is_not_read_to_its_end():
    read = 0

    def endless():
        nonlocal read
        while True:
            read += 1 << 20
            yield b" " * (1 << 20)

    transport = httpx.MockTransport(lambda request: httpx.Response(200, content=endless()))
    with Rpc("http://endpoint", transport=transport) as rpc, pytest.raises(AnswerTooLarge):
        rpc.ask("eth_getLogs", {})
    assert read <= MAX_ANSWER_BYTES + (2 << 20)


def test_a_batch_whose_answer_is_too_large_is_asked_in_halves(monkeypatch):
    monkeypatch.setattr("sealtrace.auditor.rpc.MAX_ANSWER_BYTES", 100)

    def answer(asked):
        answers = [{"id": each["id"], "result": "x" * 40} for each in asked]
        return json.dumps(answers).encode()

    with answering(answer) as rpc:
        assert rpc.ask_all("eth_x", [[]] * 5) == ["x" * 40] * 5


def test_an_answer_that_trickles_is_given_up_in_time():
    def trickle():
        while True:
            time.sleep(0.02)
            yield b" "

    transport = httpx.MockTransport(lambda request: httpx.Response(200, content=trickle()))
    began = time.monotonic()
    with (
        Rpc("http://endpoint", timeout_s=0.3, transport=transport) as rpc,
        pytest.raises(EndpointUnreachable),
    ):
        rpc.ask("eth_chainId")
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("status", [301, 429, 500, 503])
def test_an_endpoint_that_is_overloaded_is_not_reached(status):
    with answering(b"busy", status) as rpc, pytest.raises(EndpointUnreachable, match=str(status)):
        rpc.ask("eth_chainId")


def test_an_error_is_told_with_its_code_whatever_the_status():
    said = b'{"id":0,"result":null,"error":{"code":-32601,"message":"unknown"}}'
    with answering(said, 400) as rpc, pytest.raises(EndpointRefused, match="unknown") as caught:
        rpc.ask("eth_x")
    assert caught.value.unknown_method


def test_a_kept_connection_that_was_closed_meanwhile_is_opened_again_once():
    calls = []

    def answer(request):
        calls.append(request)
        if len(calls) == 1:
            raise httpx.RemoteProtocolError("Server disconnected without sending a response.")
        return httpx.Response(200, content=b'{"id":0,"result":7}')

    with Rpc("http://endpoint", transport=httpx.MockTransport(answer)) as rpc:
        assert rpc.ask("eth_x") == 7
    assert len(calls) == 2


def test_deep_json_does_not_end_the_process_even_under_a_raised_recursion_limit():
    program = """if True:
        import sys, httpx
        from sealtrace.auditor.rpc import EndpointTalksNonsense, Rpc
        sys.setrecursionlimit(1_000_000)
        body = b'{"id":0,"x":' + b'[' * 5_000_000
        answer = httpx.MockTransport(lambda request: httpx.Response(200, content=body))
        try:
            Rpc("http://endpoint", transport=answer).ask("eth_x")
        except EndpointTalksNonsense:
            print("refused")
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, timeout=60)
    assert done.stdout.strip() == b"refused"
