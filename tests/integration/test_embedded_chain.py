"""The embedded chain as its clients meet it: a process of its own, reached with web3."""

import json
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
import rlp
from eth_account import Account
from trie import HexaryTrie
from web3 import HTTPProvider, Web3
from web3.exceptions import ContractCustomError, Web3RPCError

from sealtrace.contracts.embedded.verify import verify_directory, verify_endpoint

PROBE = json.loads((Path(__file__).parents[1] / "unit" / "embedded_probe.json").read_text())
CHAIN_ID = 7
STARTUP_SECONDS = 60
RECEIPT_SECONDS = 60


class Chain:
    """A serving process and a client of it."""

    def __init__(self, directory: Path, *options: str):
        self.directory = directory
        self.process = start(directory, *options)
        line = self.process.stdout.readline()
        if not line.startswith("chain "):
            self.process.kill()
            raise AssertionError(self.process.stderr.read())
        threading.Thread(target=self.process.stderr.read, daemon=True).start()
        self.url = line.split(" at ")[1].split(",")[0]
        self.web3 = Web3(HTTPProvider(self.url, request_kwargs={"timeout": 60}))

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(20)

    def stop(self):
        self.process.terminate()
        return self.process.wait(20)

    def rpc(self, method, *params):
        return self.post({"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)})

    def post(self, content):
        return httpx.post(self.url, json=content, timeout=60).json()

    def send(self, account, nonce, **fields):
        return self.web3.eth.send_raw_transaction(signed(account, nonce, **fields))

    def receipt(self, transaction):
        return self.web3.eth.wait_for_transaction_receipt(transaction, RECEIPT_SECONDS, 0.1)


def start(directory, *options):
    command = [sys.executable, "-m", "sealtrace.contracts.embedded", "serve"]
    fixed = ["--dir", str(directory), "--chain-id", str(CHAIN_ID)]
    port = [] if "--port" in options else ["--port", "0"]
    return subprocess.Popen(
        [*command, *fixed, *port, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def serving(directory, *options):
    chain = Chain(directory, *options)
    try:
        yield chain
    finally:
        chain.kill()


def signed(account, nonce, **fields):
    base = {
        "chainId": CHAIN_ID,
        "nonce": nonce,
        "to": None,
        "value": 0,
        "gas": 300_000,
        "maxFeePerGas": 0,
        "maxPriorityFeePerGas": 0,
        "data": "0x",
    }
    chosen = {k: v for k, v in {**base, **fields}.items() if v is not None}
    if "gasPrice" in chosen:
        del chosen["maxFeePerGas"], chosen["maxPriorityFeePerGas"]
    return account.sign_transaction(chosen).raw_transaction


def words(*numbers):
    return b"".join(n.to_bytes(32, "big") for n in numbers)


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("chain")) as running:
        yield running


@pytest.fixture(scope="module")
def probe(chain):
    return deploy(chain, Account.create())


@pytest.fixture
def account():
    return Account.create()


def deploy(chain, account):
    sent = chain.send(account, 0, data=PROBE["initcode"], gas=1_000_000)
    receipt = chain.receipt(sent)
    assert receipt["status"] == 1
    return receipt["contractAddress"]


def test_an_account_without_funds_sends_every_kind_of_transaction(chain, probe, account):
    sent = [
        chain.send(account, 0, to=probe),
        chain.send(account, 1, to=probe, gasPrice=0),
        chain.send(account, 2, to=probe, gasPrice=0, type=1, accessList=[]),
    ]
    receipts = [chain.receipt(one) for one in sent]
    assert [r["status"] for r in receipts] == [1, 1, 1]
    assert [r["type"] for r in receipts] == [2, 0, 1]
    assert {r["effectiveGasPrice"] for r in receipts} == {0}
    assert chain.web3.eth.get_balance(account.address) == 0
    for one, receipt in zip(sent, receipts, strict=True):
        shown = chain.web3.eth.get_transaction(one)
        assert (shown["hash"], shown["from"]) == (one, account.address)
        assert shown["blockHash"] == receipt["blockHash"]


def test_the_base_fee_stays_zero_and_timestamps_rise(chain, probe):
    head = chain.web3.eth.block_number
    blocks = [chain.web3.eth.get_block(n) for n in range(head + 1)]
    assert {b["baseFeePerGas"] for b in blocks} == {0}
    assert all(a["timestamp"] < b["timestamp"] for a, b in pairwise(blocks))


def test_a_revert_keeps_its_data(chain, probe):
    error = bytes.fromhex("deadbeef") + words(42)
    request = {"to": probe, "data": b"\x01" + error}
    with pytest.raises(ContractCustomError) as caught:
        chain.web3.eth.call(request)
    assert caught.value.data == "0x" + error.hex()
    with pytest.raises(ContractCustomError):
        chain.web3.eth.estimate_gas(request)
    answer = chain.rpc("eth_call", {"to": probe, "data": "0x01" + error.hex()}, "latest")
    assert answer["error"] == {
        "code": 3,
        "message": "execution reverted",
        "data": "0x" + error.hex(),
    }


def test_a_call_gets_no_more_gas_than_a_block(chain):
    gas_left = {"data": "0x5a60005260206000f3", "gas": "0xffffffffffff"}
    assert 29_000_000 < int(chain.rpc("eth_call", gas_left, "latest")["result"], 16) < 30_000_000


def test_a_failed_transaction_is_mined_with_its_revert_data(chain, probe, account):
    sent = chain.send(account, 0, to=probe, data=b"\x01\xde\xad\xbe\xef")
    receipt = chain.receipt(sent)
    assert receipt["status"] == 0
    shown = chain.rpc("eth_getTransactionReceipt", "0x" + sent.hex())["result"]
    assert shown["revertReason"] == "0xdeadbeef"


def test_an_invalid_opcode_is_no_revert(chain, probe):
    with pytest.raises(Web3RPCError, match="InvalidInstruction"):
        chain.web3.eth.call({"to": probe, "data": "0x03", "gas": 100_000})


def test_a_call_at_latest_sees_the_clock_and_one_at_a_block_sees_the_block(chain, probe):
    head = chain.web3.eth.get_block("latest")
    time.sleep(max(0.0, head["timestamp"] + 2.1 - time.time()))
    asked = int(time.time())
    at_latest = chain.web3.eth.call({"to": probe, "data": "0x02"})
    answered = time.time()
    at_block = chain.web3.eth.call({"to": probe, "data": "0x02"}, head["number"])
    assert asked <= int.from_bytes(at_latest[:32]) <= answered + 1
    assert at_block == words(head["timestamp"], head["number"], int(head["mixHash"].hex(), 16), CHAIN_ID)


def test_logs_are_found_as_by_brute_force(chain, probe, account):
    first = chain.web3.eth.block_number + 1
    topics = [words(n) for n in (1, 2, 3)]
    sent = [
        chain.send(account, n, to=probe, data=b"\x05" + topics[n % 3] + topics[n % 2] + words(n, 7))
        for n in range(12)
    ]
    receipts = [chain.receipt(one) for one in sent]
    every = [log for r in receipts for log in r["logs"]]
    last = chain.web3.eth.block_number
    filters = [
        [topics[0]],
        [None, topics[1]],
        [[topics[0], topics[2]], topics[0]],
        [None, None, words(5)],
        [],
        [None, None, None, None],
        [topics[2], [topics[0], topics[1]], None, words(7)],
    ]
    for wanted in filters:
        asked = {"fromBlock": first, "toBlock": last, "address": probe, "topics": wanted}
        expected = [log for log in every if matches(log, wanted)]
        found = chain.web3.eth.get_logs(asked)
        assert sorted(map(place, found)) == sorted(map(place, expected))
        assert [place(log) for log in found] == sorted(place(log) for log in found)
    block_hash = receipts[0]["blockHash"]
    in_block = chain.web3.eth.get_logs({"blockHash": block_hash, "address": probe})
    assert {log["blockHash"] for log in in_block} == {block_hash}
    other = {"fromBlock": first, "toBlock": last, "address": account.address}
    assert chain.web3.eth.get_logs(other) == []


def place(log):
    return log["blockNumber"], log["logIndex"], bytes(log["data"]), tuple(log["topics"])


def matches(log, wanted):
    def fits(choice, topic):
        return choice is None or bytes(topic) in (choice if isinstance(choice, list) else [choice])

    topics = log["topics"]
    return len(topics) >= len(wanted) and all(map(fits, wanted, topics))


def test_a_batch_is_answered_in_order_and_notifications_are_not(chain):
    asked = [
        {"jsonrpc": "2.0", "id": "a", "method": "eth_chainId", "params": []},
        {"jsonrpc": "2.0", "method": "eth_chainId"},
        {"jsonrpc": "2.0", "id": 2, "method": "eth_nope", "params": []},
        17,
        {"jsonrpc": "2.0", "id": 3, "method": "eth_getBalance", "params": ["0x12"]},
    ]
    answers = chain.post(asked)
    assert answers[0] == {"jsonrpc": "2.0", "id": "a", "result": hex(CHAIN_ID)}
    assert [a["error"]["code"] for a in answers[1:]] == [-32601, -32600, -32602]
    with chain.web3.batch_requests() as batch:
        batch.add(chain.web3.eth.get_block(0))
        batch.add(chain.web3.eth.get_block("latest"))
        first, _ = batch.execute()
    assert first["number"] == 0


def test_bodies_that_are_no_request_are_refused(chain):
    def post(body, kind="application/json"):
        return httpx.post(chain.url, content=body, headers={"content-type": kind}, timeout=30)

    assert post(b"{").json()["error"]["code"] == -32700
    assert post(b"[]").json()["error"]["code"] == -32600
    assert post(b'{"jsonrpc":"2.0","id":1}').json()["error"]["code"] == -32600
    assert post(json.dumps([{}] * 1001).encode()).json()["error"]["code"] == -32600
    assert post(b"[" * 100_000).json()["error"]["code"] == -32700
    assert post(b" " * (5 * 1024 * 1024 + 1)).status_code == 413
    assert post(b"{}", "text/plain").status_code == 415
    assert httpx.put(chain.url, timeout=30).status_code == 405
    assert httpx.get(chain.url + "/x", timeout=30).status_code == 404


def test_health_names_chain_and_head(chain):
    health = httpx.get(chain.url, timeout=30).json()
    assert health["chainId"] == CHAIN_ID
    assert health["head"]["number"] >= 0
    assert health["clientVersion"] == chain.web3.client_version


def test_the_header_hash_follows_from_the_block_as_shown(chain, probe):
    for number in (0, chain.web3.eth.block_number):
        block = chain.rpc("eth_getBlockByNumber", hex(number), False)["result"]
        encoded = rlp.encode([field(block[name]) for name in HEADER_FIELDS])
        assert Web3.keccak(encoded).to_0x_hex() == block["hash"]
        assert chain.rpc("debug_getRawHeader", hex(number))["result"] == "0x" + encoded.hex()


HEADER_FIELDS = {
    "parentHash": 32, "sha3Uncles": 32, "miner": 20, "stateRoot": 32, "transactionsRoot": 32,
    "receiptsRoot": 32, "logsBloom": 256, "difficulty": 0, "number": 0, "gasLimit": 0,
    "gasUsed": 0, "timestamp": 0, "extraData": 1, "mixHash": 32, "nonce": 8, "baseFeePerGas": 0,
    "withdrawalsRoot": 32, "blobGasUsed": 0, "excessBlobGas": 0, "parentBeaconBlockRoot": 32,
    "requestsHash": 32,
}  # fmt: skip
QUANTITIES = {name for name, size in HEADER_FIELDS.items() if size == 0}


def field(value):
    """Encode a header field: quantities without leading zeros, data as it is."""
    digits = value[2:]
    is_data = len(digits) in (16, 40, 64, 512) or digits == "" or digits.startswith("7365616c")
    if is_data:
        return bytes.fromhex(digits)
    number = int(value, 16)
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def test_the_receipts_root_follows_from_the_receipts_as_shown(chain, probe, account):
    sent = [
        chain.send(account, 0, to=probe),
        chain.send(account, 1, to=probe, gasPrice=0),
        chain.send(account, 2, to=probe, data=b"\x01"),
        chain.send(account, 3, to=probe, data=b"\x05" + words(1, 2, 3, 4) + b"payload"),
    ]
    for number in {chain.receipt(one)["blockNumber"] for one in sent}:
        block = chain.rpc("eth_getBlockByNumber", hex(number), False)["result"]
        receipts = chain.rpc("eth_getBlockReceipts", hex(number))["result"]
        trie = HexaryTrie({})
        for i, receipt in enumerate(receipts):
            trie[rlp.encode(i)] = encoded_receipt(receipt)
        assert trie.root_hash.hex() == block["receiptsRoot"][2:]
        assert sum(int(r["gasUsed"], 16) for r in receipts) == int(block["gasUsed"], 16)


def encoded_receipt(shown):
    def data(value):
        return bytes.fromhex(value[2:])

    logs = [
        [data(log["address"]), [data(t) for t in log["topics"]], data(log["data"])] for log in shown["logs"]
    ]
    used = field_quantity(shown["cumulativeGasUsed"])
    body = rlp.encode([field_quantity(shown["status"]), used, data(shown["logsBloom"]), logs])
    kind = int(shown["type"], 16)
    return bytes([kind]) + body if kind else body


def field_quantity(value):
    number = int(value, 16)
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def test_a_storage_proof_leads_from_the_state_root_to_the_value(chain, probe, account):
    chain.receipt(chain.send(account, 0, to=probe))
    head = chain.web3.eth.get_block("latest")
    proof = chain.rpc("eth_getProof", probe, ["0x0", "0x9"], hex(head["number"]))["result"]

    def proven(root, key, nodes):
        opened = [rlp.decode(bytes.fromhex(node[2:])) for node in nodes]
        return HexaryTrie.get_from_proof(root, Web3.keccak(key), opened)

    account_rlp = proven(head["stateRoot"], bytes.fromhex(probe[2:]), proof["accountProof"])
    nonce, balance, storage_root, code_hash = rlp.decode(account_rlp)
    assert (nonce, balance) == (b"\x01", b"")
    assert storage_root.hex() == proof["storageHash"][2:]
    assert Web3.keccak(chain.web3.eth.get_code(probe)) == code_hash
    set_slot, unset_slot = proof["storageProof"]
    assert rlp.decode(proven(storage_root, words(0), set_slot["proof"])) == field_quantity(set_slot["value"])
    stored = chain.web3.eth.get_storage_at(probe, 0, head["number"])
    assert int(set_slot["value"], 16) == int.from_bytes(stored) > 0
    assert proven(storage_root, words(9), unset_slot["proof"]) == b""


def test_estimated_gas_is_enough_and_close(chain, probe, account):
    for nonce, data in enumerate((b"", b"\x05" + words(1, 2, 3, 4), b"\x06", b"\x00" * 5000)):
        request = {"from": account.address, "to": probe, "data": data}
        gas = chain.web3.eth.estimate_gas(request)
        receipt = chain.receipt(chain.send(account, nonce, to=probe, data=data, gas=gas))
        assert receipt["status"] == 1
        if data != b"\x06":  # which uses whatever it is given
            assert receipt["gasUsed"] <= gas <= receipt["gasUsed"] * 1.1 + 5_000


def test_what_is_no_valid_transaction_is_refused_with_the_reason(chain, probe, account):
    chain.receipt(chain.send(account, 0, to=probe))
    good = signed(account, 1, to=probe)
    cases = {
        "nonce too low": signed(account, 0, to=probe, data=b"\x02"),
        "invalid chain id": signed(account, 1, to=probe, chainId=8),
        "intrinsic gas too low": signed(account, 1, to=probe, gas=20_000),
        "exceeds block gas limit": signed(account, 1, to=probe, gas=30_000_001),
        "insufficient funds": signed(account, 1, to=probe, value=1),
        "nonce too far ahead": signed(account, 5_000, to=probe),
        "priority fee": signed(account, 1, to=probe, maxPriorityFeePerGas=1),
        "oversized data": signed(account, 1, to=probe, data=b"\1" * 140_000, gas=6_000_000),
        "replay-protected": signed(account, 1, to=probe, gasPrice=0, chainId=None),
        "cannot decode": good[:-1],
        "initcode": signed(account, 1, data=b"\1" * 50_000, gas=3_000_000),
    }
    for reason, raw in cases.items():
        with pytest.raises(Web3RPCError, match=reason):
            chain.web3.eth.send_raw_transaction(raw)
    assert chain.receipt(chain.web3.eth.send_raw_transaction(good))["status"] == 1


def test_the_same_transaction_again_is_the_same_hash(chain, probe, account):
    raw = signed(account, 0, to=probe)
    first = chain.web3.eth.send_raw_transaction(raw)
    assert chain.web3.eth.send_raw_transaction(raw) == first
    chain.receipt(first)
    assert chain.web3.eth.send_raw_transaction(raw) == first
    assert chain.web3.eth.get_transaction_count(account.address) == 1


def test_a_gap_in_the_nonces_waits_and_a_pending_nonce_is_not_replaced(chain, probe, account):
    later = chain.send(account, 1, to=probe)
    with pytest.raises(Web3RPCError, match="replacement transaction underpriced"):
        chain.send(account, 1, to=probe, data=b"\x02")
    assert chain.web3.eth.get_transaction(later)["blockHash"] is None
    assert chain.web3.eth.get_transaction_count(account.address, "pending") == 0
    first = chain.send(account, 0, to=probe)
    assert chain.web3.eth.get_transaction_count(account.address, "pending") == 2
    assert chain.receipt(first)["blockNumber"] <= chain.receipt(later)["blockNumber"]


def test_deep_recursion_neither_kills_nor_hangs_the_producer(chain, probe, account):
    receipt = chain.receipt(chain.send(account, 0, to=probe, data=b"\x06", gas=30_000_000))
    assert receipt["gasUsed"] > 1024 * 100  # a warm call per level, down to the limit
    assert chain.receipt(chain.send(account, 1, to=probe))["status"] == 1


def test_bad_parameters_are_refused(chain, probe):
    cases = [
        ("eth_getBalance", []),
        ("eth_getBalance", [probe, "latest", "more"]),
        ("eth_getBalance", [probe, "newest"]),
        ("eth_getBalance", [probe, "0x01"]),
        ("eth_getBalance", [probe[:-1], "latest"]),
        ("eth_getBalance", [probe, {"blockHash": "0x12"}]),
        ("eth_getBalance", [probe, {"blockNumber": "0x0", "blockHash": "0x" + "00" * 32}]),
        ("eth_call", [{"to": probe, "colour": "red"}, "latest"]),
        ("eth_call", [{"to": probe, "data": "0x1"}, "latest"]),
        ("eth_call", [{"to": probe, "data": "0x11", "input": "0x12"}, "latest"]),
        ("eth_getLogs", [{"blockHash": "0x" + "00" * 32, "fromBlock": "0x0"}]),
        ("eth_getLogs", [{"topics": [None] * 5}]),
        ("eth_getLogs", [{"fromBlock": "0x1", "toBlock": "0x0"}]),
        ("eth_getBlockByNumber", ["latest", "yes"]),
    ]
    for method, params in cases:
        answer = chain.rpc(method, *params)
        assert answer["error"]["code"] == -32602, (method, params, answer)
    unknown = chain.rpc("eth_getBalance", probe, hex(10**9))
    assert unknown["error"]["code"] == -32000
    assert chain.rpc("eth_getBlockByNumber", hex(10**9), False)["result"] is None


def test_blocks_are_named_by_number_hash_and_tag(chain, probe):
    block = chain.web3.eth.get_block(1)
    by_hash = {"blockHash": block["hash"].to_0x_hex(), "requireCanonical": True}
    at = [{"blockNumber": "0x1"}, by_hash, "0x1"]
    assert len({chain.rpc("eth_getCode", probe, ref)["result"] for ref in at}) == 1
    assert chain.rpc("eth_getCode", probe, "earliest")["result"] == "0x"
    for tag in ("latest", "pending", "safe", "finalized"):
        assert chain.web3.eth.get_block(tag)["number"] == chain.web3.eth.block_number


def test_fee_history_fits_a_network_without_fees(chain, probe):
    history = chain.web3.eth.fee_history(2, "latest", [50])
    assert history["baseFeePerGas"] == [0, 0, 0]
    assert history["reward"] == [[0], [0]]
    assert chain.web3.eth.gas_price == chain.web3.eth.max_priority_fee == 0


def test_an_auditor_reaches_the_same_head_over_the_wire_and_from_the_directory(chain, probe):
    number = chain.receipt(chain.send(Account.create(), 0, to=probe, data=b"\x04"))["blockNumber"]
    head = chain.web3.eth.get_block(number)["hash"].to_0x_hex()
    assert verify_endpoint(chain.url).head_hash == head
    assert verify_directory(chain.directory).head_hash == head


def test_kill_9_loses_no_acknowledged_transaction(tmp_path):
    accounts = [Account.create() for _ in range(5)]
    acknowledged = []
    with serving(tmp_path) as chain:
        probe = deploy(chain, Account.create())
        killer = threading.Timer(1.2, chain.kill)
        raws = [signed(a, n, to=probe) for n in range(60) for a in accounts]
        for raw in raws:
            try:
                acknowledged.append(chain.web3.eth.send_raw_transaction(raw))
            except Exception:  # whatever a killed server makes of the connection
                break
            if len(acknowledged) == 1:
                killer.start()
            time.sleep(0.05)
        killer.join()
    assert 0 < len(acknowledged) < len(raws)
    with serving(tmp_path) as chain:
        receipts = [chain.receipt(one) for one in acknowledged]
        assert all(r["status"] == 1 for r in receipts)
        for account in accounts:
            count = chain.web3.eth.get_transaction_count(account.address)
            assert count >= sum(r["from"] == account.address for r in receipts)
        head = chain.web3.eth.get_block("latest")
        for number in range(1, head["number"] + 1):
            block, parent = chain.web3.eth.get_block(number), chain.web3.eth.get_block(number - 1)
            assert block["parentHash"] == parent["hash"]
        assert verify_directory(tmp_path).head_hash == head["hash"].to_0x_hex()
        assert chain.stop() == 0
    assert not (tmp_path / "endpoint.json").exists()


def test_a_second_producer_is_refused_the_directory_and_a_taken_port(tmp_path):
    with serving(tmp_path / "one") as chain:
        second = start(tmp_path / "one")
        _, complaint = second.communicate(timeout=STARTUP_SECONDS)
        assert second.returncode == 2
        assert "DirectoryLocked" in complaint
        assert str(chain.process.pid) in complaint
        port = chain.url.rsplit(":", 1)[1]
        third = start(tmp_path / "two", "--port", port)
        _, complaint = third.communicate(timeout=STARTUP_SECONDS)
        assert third.returncode == 2
        assert f"127.0.0.1:{port} is in use" in complaint
    other = start(tmp_path / "one", "--chain-id", "8")
    _, complaint = other.communicate(timeout=STARTUP_SECONDS)
    assert other.returncode == 2
    assert "GenesisMismatch" in complaint


def test_a_heartbeat_lets_time_pass_on_chain(tmp_path):
    with serving(tmp_path, "--heartbeat", "1") as chain:
        deadline = time.monotonic() + STARTUP_SECONDS
        while chain.web3.eth.block_number < 2:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert chain.web3.eth.get_block(2)["transactions"] == []
        verified = verify_endpoint(chain.url)
        assert verified.blocks >= 2
