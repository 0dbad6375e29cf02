"""A long development chain, made up and served over HTTP: lives of tasks on our contracts, block after block.

Nothing executes: events are written down as the contracts emit them, in receipts, blooms, receipts roots and
headers that are those of a chain with these events, each header linked to the one before. A replay of it has
no irregularity; the benchmark asserts that.
"""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from violations import CONSORTIUM, DAY, GENESIS_TIME, OWNERS, REQUESTER, Story, usual_uses  # isort: skip
from auditor_story import CHAIN_ID, DIRECTORY, contract, h, terms_of

from sealtrace.auditor.headers import (
    Emitted,
    Receipt,
    bloom_mask,
    header_rlp,
    keccak,
    receipts_rlp,
    receipts_root,
)
from sealtrace.contracts import abi
from sealtrace.contracts.abi import GENERATION
from sealtrace.contracts.terms import task_id
from sealtrace.protocol.identifiers import NOTHING, hex32
from sealtrace.protocol.receipt import result_digest

BLOCK_SECONDS: Final = 2
EVENTS_PER_LIFE: Final = 17
TRANSACTIONS_PER_LIFE: Final = 4
_EVENTS: Final = {event.name: (name, event) for name in abi.CONTRACTS for event in abi.events(name).values()}

Args = dict[str, Any]
Transaction = list[tuple[str, Args]]

CONTRACTS: Final = {DIRECTORY: "Directory", CONSORTIUM: "Consortium"} | {contract(n): n for n in GENERATION}
USES: Final = 1 << 31
LIFETIME_S: Final = 20_000 * DAY


@dataclass(frozen=True, slots=True)
class Block:
    """A block as it is served: its header, its logs one by one, and what surrounds them in its receipts."""

    header: bytes
    logs: list[tuple[str, str, bytes]]
    """Address, first topic, JSON."""
    receipts: list[tuple[bytes, int]]
    """The beginning of each receipt's JSON, up to its logs, and how many it has."""

    def told(self, addresses: frozenset[str], topic: str | None) -> list[bytes]:
        """The logs of ``addresses``, all or those that begin with ``topic``."""
        return [log for where, first, log in self.logs if where in addresses and topic in (None, first)]

    def receipts_json(self) -> bytes:
        """All receipts."""
        parts, place = [], 0
        for head, count in self.receipts:
            logs = b",".join([log for _, _, log in self.logs[place : place + count]])
            parts.append(head + logs + b"]}")
            place += count
        return b"[" + b",".join(parts) + b"]"


def blocks(lives_per_block: int, events: int) -> Iterator[Block]:
    """A chain of at least ``events`` events: the founding, then lives of tasks, ``lives_per_block`` begun in
    each block, each in four transactions of four blocks in a row."""
    parent, written = NOTHING, 0
    for number, transactions in enumerate(_transactions(lives_per_block)):
        block, parent = _block(number, parent, transactions)
        yield block
        written += len(block.logs)
        if written >= events:
            return


def _transactions(lives_per_block: int) -> Iterator[list[Transaction]]:
    story = Story().found(uses=USES, expiresAt=GENESIS_TIME + LIFETIME_S)
    for number in range(story.number + 1):
        said = [(event.name, dict(event.args)) for event in story.events if event.block.number == number]
        yield [said] if said else []
    number = story.number + 1
    lives = (_life(index, number + index // lives_per_block) for index in range(1 << 40))
    under_way: list[list[list[Transaction]]] = []
    while True:
        under_way = [each for each in under_way if each[0]]
        under_way.append([next(lives) for _ in range(lives_per_block)])
        yield [life.pop(0) for wave in under_way for life in wave]


def _life(index: int, block: int) -> list[Transaction]:
    """A task's four transactions: created, started by all parties, finished by all, acknowledged."""
    terms = terms_of(f"life {index}", deadline=GENESIS_TIME + BLOCK_SECONDS * block + DAY)
    task = task_id(CHAIN_ID, contract("TaskLedger"), terms)
    result = result_digest({owner: h("share" + task + owner) for owner in OWNERS})
    created = {
        "task": task,
        "requester": REQUESTER,
        "spec": terms.spec,
        "purpose": terms.purpose,
        "protections": int(terms.protections),
        "deadline": terms.deadline,
        "parties": 3,
        "uses": 3,
        "approved": 7,
    }
    uses = [
        {
            "task": task,
            "party": OWNERS[party],
            "epsilon": epsilon,
            "dataset": dataset,
            "algorithm": algorithm,
            "grant": grant,
        }
        for party, dataset, algorithm, grant, epsilon in usual_uses()
    ]
    started: Transaction = []
    for use in uses:
        left = {"usesLeft": USES - index - 1, "epsilonLeft": 0}
        started.append(("GrantConsumed", {"grant": use["grant"], "task": task, **left}))
        commitment = {"inputCommitment": h(f"input {task} {use['party']}")}
        started.append(("TaskStarted", {"task": task, "party": use["party"], **commitment}))
    finished: Transaction = [
        ("TaskFinished", {"task": task, "party": owner, "receipt": h(task + owner), "result": result})
        for owner in OWNERS
    ]
    return [
        [
            ("TaskCreated", created),
            *(("TaskUseNamed", use) for use in uses),
            ("TaskAuthorized", {"task": task}),
        ],
        [*started, ("TaskRunning", {"task": task})],
        [*finished, ("TaskCompleted", {"task": task, "result": result})],
        [("TaskAcknowledged", {"task": task, "requester": REQUESTER, "result": result})],
    ]


def _log(name: str, args: Args) -> Emitted:
    where, event = _EVENTS[name]
    topics = (event.topic, *("0x" + _word(args[each.name], each.type) for each in event.indexed))
    data = "0x" + "".join([_word(args[each.name], each.type) for each in event.data])
    return Emitted(_ADDRESS[where], topics, data)


_ADDRESS: Final = {name: address for address, name in CONTRACTS.items()}


def _word(value: Any, kind: str) -> str:
    if isinstance(value, str):
        return value[2:].rjust(64, "0") if kind == "address" else value[2:]
    return f"{int(value):064x}"


@lru_cache(maxsize=1 << 16)
def _mask(item: str) -> int:
    return bloom_mask(bytes.fromhex(item[2:]))


def _block(number: int, parent: str, transactions: Sequence[Transaction]) -> tuple[Block, str]:
    receipts, bloom, gas = [], 0, 0
    for place, transaction in enumerate(transactions):
        logs = tuple(_log(name, args) for name, args in transaction)
        own = 0
        for log in logs:
            for item in (log.address, *log.topics):
                own |= _mask(item)
        bloom |= own
        gas += 21_000 + 8_000 * len(logs)
        hash_ = "0x" + hashlib.sha256(b"%d %d" % (number, place)).hexdigest()
        receipts.append(Receipt(hash_, "0x1", hex(gas), _bloom(own), logs, "0x2"))
    root = receipts_root(receipts_rlp(receipts))
    header = _header(number, parent, root, _bloom(bloom), gas)
    return _served(header, receipts), header["hash"]


def _bloom(bits: int) -> str:
    return f"0x{bits:0512x}"


def _header(number: int, parent: str, root: str, bloom: str, gas: int) -> dict[str, Any]:
    header: dict[str, Any] = {
        "parentHash": parent,
        "sha3Uncles": "0x1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347",
        "miner": REQUESTER,
        "stateRoot": h(f"state {number}"),
        "transactionsRoot": h(f"transactions {number}"),
        "receiptsRoot": root,
        "logsBloom": bloom,
        "difficulty": "0x0",
        "number": hex(number),
        "gasLimit": hex(30_000_000),
        "gasUsed": hex(gas),
        "timestamp": hex(GENESIS_TIME + BLOCK_SECONDS * number),
        "extraData": "0x",
        "mixHash": NOTHING,
        "nonce": "0x" + "00" * 8,
        "baseFeePerGas": "0x0",
    }
    return header | {"hash": hex32(keccak(header_rlp(header)))}


def _served(header: dict[str, Any], receipts: Sequence[Receipt]) -> Block:
    block = f'"blockNumber":"{header["number"]}","blockHash":"{header["hash"]}"'
    logs, told = [], []
    for at, receipt in enumerate(receipts):
        where = f'{block},"transactionHash":"{receipt.transactionHash}","transactionIndex":"{hex(at)}"'
        for log in receipt.logs:
            what = f'"address":"{log.address}","topics":{json.dumps(log.topics)},"data":"{log.data}"'
            place = f'"logIndex":"{hex(len(logs))}","blockTimestamp":"{header["timestamp"]}"'
            said = f'{{{what},{where},{place},"removed":false}}'
            logs.append((log.address, log.topics[0], said.encode()))
        said = f'{{"type":"0x2","status":"0x1","cumulativeGasUsed":"{receipt.cumulativeGasUsed}",{where}'
        said += f',"gasUsed":"0x5208","effectiveGasPrice":"0x0","from":"{REQUESTER}","to":"{CONSORTIUM}"'
        said += f',"contractAddress":null,"logsBloom":"{receipt.logsBloom}","logs":['
        told.append((said.encode(), len(receipt.logs)))
    extra = {"transactions": [each.transactionHash for each in receipts], "uncles": [], "size": "0x400"}
    return Block(json.dumps(header | extra).encode(), logs, told)


@dataclass(slots=True)
class Served:
    """The chain, and the answers to what is asked of it."""

    chain: list[Block] = field(default_factory=list)

    def answer(self, body: bytes) -> bytes:
        """The answer to one request or to a batch."""
        asked = json.loads(body)
        if isinstance(asked, list):
            return b"[" + b",".join(map(self._one, asked)) + b"]"
        return self._one(asked)

    def _one(self, asked: dict[str, Any]) -> bytes:
        result = self._result(asked["method"], asked["params"])
        return b'{"jsonrpc":"2.0","id":%s,"result":%s}' % (json.dumps(asked["id"]).encode(), result)

    def _result(self, method: str, params: list[Any]) -> bytes:
        if method == "eth_getBlockByNumber":
            return self.chain[int(params[0], 16)].header
        if method == "eth_getBlockReceipts":
            return self.chain[int(params[0], 16)].receipts_json()
        if method == "eth_getLogs":
            return self._logs(params[0])
        if method == "eth_chainId":
            return b'"%s"' % hex(CHAIN_ID).encode()
        raise NotImplementedError(method)

    def _logs(self, wanted: dict[str, Any]) -> bytes:
        first, last = int(wanted["fromBlock"], 16), int(wanted["toBlock"], 16)
        given = wanted["address"]
        addresses = frozenset([given.lower()] if isinstance(given, str) else map(str.lower, given))
        topics = wanted.get("topics") or [None]
        topic = topics[0][0] if isinstance(topics[0], list) else topics[0]
        found = [log for block in self.chain[first : last + 1] for log in block.told(addresses, topic)]
        return b"[" + b",".join(found) + b"]"


def serve(chain: Served) -> ThreadingHTTPServer:
    """A server of ``chain`` on a free port of this machine; ``serve_forever`` runs it."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1

        def setup(self) -> None:
            super().setup()
            self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def do_POST(self) -> None:
            told = chain.answer(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(told)))
            self.end_headers()
            self.wfile.write(told)

        def log_message(self, format: str, *args: object) -> None:
            pass

    return ThreadingHTTPServer(("127.0.0.1", 0), Handler)
