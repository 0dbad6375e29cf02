"""A made-up network's history as blocks of a chain, audited and packed as the auditor does it."""

from __future__ import annotations

from dataclasses import replace

from auditor_story import CHAIN_ID, CONSORTIUM, DIRECTORY, OWNERS, STORED, contract, honest, snapshot_of
from enclave_story import with_statements
from fake_endpoint import FakeEndpoint, block

from sealtrace.auditor.audit import audit
from sealtrace.auditor.bundle import gathering, pack
from sealtrace.auditor.case import Case, Parameters
from sealtrace.auditor.evidence import open_lines, read_log
from sealtrace.auditor.following import events_of
from sealtrace.auditor.headers import bloom_mask, read_receipts, receipts_rlp, receipts_root
from sealtrace.auditor.reading import read_range
from sealtrace.auditor.replay import replay
from sealtrace.auditor.report import document
from sealtrace.contracts import abi
from sealtrace.contracts.abi import GENERATION

CONTRACTS = {DIRECTORY: "Directory", CONSORTIUM: "Consortium"} | {contract(n): n for n in GENERATION}
SIGNATURES = {
    event.name: (topic, event) for name in abi.CONTRACTS for topic, event in abi.events(name).items()
}
NOBODYS = "0x" + "00" * 32


def word(value, kind):
    if isinstance(value, str):
        content = bytes.fromhex(value[2:])
        return content.rjust(32, b"\0") if kind == "address" else content.ljust(32, b"\0")
    return int(value).to_bytes(32, "big")


def log_of(event):
    topic, declared = SIGNATURES[event.name]
    topics = [topic, *("0x" + word(event.args[p.name], p.type).hex() for p in declared.indexed)]
    data = b"".join(word(event.args[p.name], p.type) for p in declared.data)
    return {"address": event.contract, "topics": topics, "data": "0x" + data.hex()}


def receipt_of(events, number):
    bloom = 0
    for each in {event.contract for event in events}:
        bloom |= bloom_mask(bytes.fromhex(each[2:]))
    return {
        "type": "0x2",
        "status": "0x1",
        "cumulativeGasUsed": hex(21_000 + number),
        "logsBloom": "0x" + bloom.to_bytes(256, "big").hex(),
        "logs": [log_of(each) for each in events],
        "transactionHash": events[0].transaction,
    }


def block_with(receipts, number, parent, time):
    bloom = {"logsBloom": receipts[0]["logsBloom"]} if receipts else {}
    root = receipts_root(receipts_rlp(read_receipts(receipts)))
    return block(number, parent, time, receiptsRoot=root, baseFeePerGas="0x7", **bloom)


class FakeChain(FakeEndpoint):
    """Serves the blocks of a story; ``seal`` may do something to each before the next names it."""

    def __init__(self, story, seal=lambda made: made):
        self.blocks, self.receipts, parent = [], [], NOBODYS
        for number in range(story.number + 1):
            events = [event for event in story.events if event.block.number == number]
            self.receipts.append([receipt_of(events, number)] if events else [])
            made = seal(block_with(self.receipts[-1], number, parent, story.block(number).timestamp))
            self.blocks.append(made)
            parent = made["hash"]

    def result(self, method, params):
        if method == "eth_getLogs":
            first, last = (int(params[0][name], 16) for name in ("fromBlock", "toBlock"))
            return {"result": [log for log in self.logs() if first <= int(log["blockNumber"], 16) <= last]}
        known = self.blocks if method == "eth_getBlockByNumber" else self.receipts
        return {"result": known[int(params[0], 16)]}

    def logs(self):
        return [
            log | {"blockNumber": hex(n), "logIndex": hex(i), "transactionHash": r["transactionHash"]}
            for n, receipts in enumerate(self.receipts)
            for r in receipts
            for i, log in enumerate(r["logs"])
        ]


def packed(
    story,
    out,
    *,
    nodes=OWNERS,
    spoil=None,
    chain=None,
    seal=None,
    validators=(),
    stated=None,
    **parameters,
):
    """Audit ``story`` from its blocks, pack it to ``out`` and return the last block's hash.

    ``seal`` is what is done to each block, ``validators`` who the auditor knows to seal the first.
    """
    story.mine(30)
    chain = chain or FakeChain(story, *([seal] if seal else []))
    spoil = spoil or (lambda node, text: text)
    with gathering() as material:
        with chain.rpc() as rpc:
            reading = read_range(rpc, list(CONTRACTS), 0, story.number, material, validators)
        material.contracts = CONTRACTS
        world = replay(events_of(reading, CONTRACTS))
        logs = {}
        for node in nodes:
            text = spoil(node, b"".join(line + b"\n" for line in story.lines[node]))
            (out.parent / "log").write_bytes(text)
            with (out.parent / "log").open("rb") as stream:
                lines = material.lines(node, open_lines(stream))
                logs[node] = read_log(node, lines, story.held(world, node))
        last = reading.blocks.ref(story.number)
        case = Case(
            chain_id=CHAIN_ID,
            directory=DIRECTORY,
            first=0,
            last=last,
            world=world,
            proof=replace(reading.proof, storage=STORED),
            snapshot=snapshot_of(world, last),
            logs=logs,
            cited={n: story.block(n) for n in range(story.number + 1)},
            parameters=Parameters(**parameters),
        )
        if stated is not None:
            case = with_statements(case, stated)
            material.statements(stated)
        report = document(audit(case))
        pack(report, material, out)
    return last.hash


__all__ = ["SIGNATURES", "FakeChain", "honest", "packed"]
