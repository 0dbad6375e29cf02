"""An endpoint of a chain without a chain: made-up blocks, and answers to what an auditor asks of them."""

from __future__ import annotations

import json

import httpx

from sealtrace.auditor.headers import header_rlp, keccak
from sealtrace.auditor.rpc import Rpc
from sealtrace.protocol.identifiers import hex32

SIZES = {
    "parentHash": 32,
    "sha3Uncles": 32,
    "miner": 20,
    "stateRoot": 32,
    "transactionsRoot": 32,
    "receiptsRoot": 32,
    "logsBloom": 256,
    "extraData": 0,
    "mixHash": 32,
    "nonce": 8,
}
NUMBERS = ("difficulty", "number", "gasLimit", "gasUsed", "timestamp")


def block(number, parent, time, **fields):
    """A block whose header is zeros but for what is given, with its hash."""
    made = {name: "0x" + bytes(size).hex() for name, size in SIZES.items()} | dict.fromkeys(NUMBERS, "0x0")
    made |= {"number": hex(number), "parentHash": parent, "timestamp": hex(time)} | fields
    return made | {"hash": hex32(keccak(header_rlp(made)))}


class FakeEndpoint:
    """Answers each question of a post by ``result``, which says the part of the answer beyond its id."""

    def rpc(self, name="story"):
        return Rpc(f"http://{name}", transport=httpx.MockTransport(self.answer))

    def answer(self, request):
        asked = json.loads(request.content)
        told = [self.one(each) for each in asked] if isinstance(asked, list) else self.one(asked)
        return httpx.Response(200, json=told)

    def one(self, asked):
        return {"jsonrpc": "2.0", "id": asked["id"]} | self.result(asked["method"], asked["params"])
