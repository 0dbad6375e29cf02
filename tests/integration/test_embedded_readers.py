"""The embedded chain's readers as its clients meet them: nobody's read is paid by anybody else."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import psutil
import pytest
from eth_account import Account
from test_embedded_chain import deploy, serving, signed, words

from sealtrace.contracts.embedded.rpc import METHODS, NOT_HERE
from sealtrace.contracts.embedded.verify import verify_directory

FOR_EVER = {"data": "0x5b" + "5a50" * 200 + "600056", "gas": hex(30_000_000)}
WAIT_SECONDS = 90


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("chain"), "--heartbeat", "1", "--read-seconds", "4") as running:
        yield running


@pytest.fixture(scope="module")
def probe(chain):
    return deploy(chain, Account.create())


@pytest.fixture(scope="module")
def threads():
    with ThreadPoolExecutor(16) as made:
        yield made


def ask(method, *params, id=1):
    return {"jsonrpc": "2.0", "id": id, "method": method, "params": list(params)}


def until(holds, what):
    deadline = time.monotonic() + WAIT_SECONDS
    while not (found := holds()):
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
    return found


def answering(chain):
    """The reader processes: those that a process which only forks has forked."""
    return [each for child in psutil.Process(chain.process.pid).children() for each in child.children()]


def test_a_call_that_never_ends_stops_neither_the_blocks_nor_other_readers(chain, probe, threads):
    busy = threads.submit(chain.rpc, "eth_call", FOR_EVER, "latest")
    before = chain.web3.eth.block_number
    sent = chain.send(Account.create(), 0, to=probe)
    until(lambda: chain.web3.eth.block_number >= before + 2, "no blocks beside a busy reader")
    assert chain.receipt(sent)["status"] == 1
    assert chain.web3.eth.call({"to": probe, "data": "0x02"})
    assert not busy.done()
    assert busy.result(WAIT_SECONDS)["error"]["code"] == -32005


def test_readers_that_all_run_for_ever_give_way_to_who_waits(chain, probe, threads):
    busy = [threads.submit(chain.rpc, "eth_call", FOR_EVER, "latest") for _ in range(8)]
    until(lambda: any(each.running() for each in busy), "nobody asks")
    assert chain.web3.eth.block_number  # what is no call does not wait for calls
    assert chain.rpc("eth_call", {"to": probe, "data": "0x02"}, "latest")["result"]
    assert {each.result(2 * WAIT_SECONDS)["error"]["code"] for each in busy} == {-32005}


def test_a_request_that_is_ended_says_what_to_do_and_spoils_no_other_of_its_batch(chain, probe):
    block = ask("eth_blockNumber", id="last")
    answers = chain.post([ask("eth_call", {"to": probe, "data": "0x02"}), ask("eth_call", FOR_EVER), block])
    assert "error" not in answers[0]
    assert answers[1]["error"]["code"] == -32005
    assert "ask for less" in answers[1]["error"]["message"]
    assert answers[2]["id"] == "last"
    assert int(answers[2]["result"], 16) > 0


def test_a_batch_is_answered_in_order_whoever_answers_its_parts(chain, probe):
    account = Account.create()
    raw = ["0x" + signed(account, n, to=probe).hex() for n in range(2)]
    count = ("eth_getTransactionCount", account.address, "pending")
    answers = chain.post(
        [
            ask(*count),
            ask("eth_sendRawTransaction", raw[0]),
            ask(*count),
            ask("eth_sendRawTransaction", raw[1]),
            ask(*count),
        ]
    )
    assert [answers[i]["result"] for i in (0, 2, 4)] == ["0x0", "0x1", "0x2"]


def test_a_reader_that_dies_is_replaced(chain, probe):
    for each in answering(chain):
        each.kill()
    for _ in range(5):  # as many as there are readers may have been asked and be gone
        answer = chain.rpc("eth_chainId")
    assert answer["result"] == "0x7"


def test_readers_end_with_a_producer_killed_by_kill_9(tmp_path):
    with serving(tmp_path) as chain:
        assert chain.web3.eth.block_number == 0
        readers = until(lambda: answering(chain), "no readers")
        chain.kill()
        _, alive = psutil.wait_procs(readers, timeout=WAIT_SECONDS)
        assert alive == []


def test_what_is_not_done_here_is_refused_by_name_with_what_to_do_instead(chain):
    for method, instead in NOT_HERE.items():
        error = chain.rpc(method)["error"]
        assert (error["code"], error["message"]) == (
            -32601,
            f"the method {method} does not exist here: {instead}",
        )
    assert chain.rpc("eth_nope")["error"]["code"] == -32601


def test_a_transaction_is_found_by_its_place_in_a_block(chain, probe):
    receipt = chain.receipt(chain.send(Account.create(), 0, to=probe))
    number, position = hex(receipt["blockNumber"]), hex(receipt["transactionIndex"])
    block_hash, transaction = receipt["blockHash"].to_0x_hex(), receipt["transactionHash"].to_0x_hex()
    shown = chain.rpc("eth_getTransactionByHash", transaction)["result"]
    assert chain.rpc("eth_getTransactionByBlockNumberAndIndex", number, position)["result"] == shown
    assert chain.rpc("eth_getTransactionByBlockHashAndIndex", block_hash, position)["result"] == shown
    assert chain.rpc("eth_getTransactionByBlockNumberAndIndex", number, "0xff")["result"] is None
    assert chain.rpc("eth_getTransactionByBlockHashAndIndex", "0x" + "11" * 32, "0x0")["result"] is None
    assert chain.rpc("eth_getUncleCountByBlockNumber", number)["result"] == "0x0"
    assert chain.rpc("eth_getUncleCountByBlockHash", block_hash)["result"] == "0x0"
    assert chain.rpc("eth_getUncleByBlockNumberAndIndex", number, "0x0")["result"] is None
    assert chain.rpc("eth_getUncleByBlockHashAndIndex", block_hash, "0x0")["result"] is None


def test_raw_transactions_and_receipts_are_what_the_header_commits_to(chain, probe):
    import rlp
    from trie import HexaryTrie

    receipt = chain.receipt(chain.send(Account.create(), 0, to=probe, data=b"\x05" + words(1, 2, 3, 4)))
    number = hex(receipt["blockNumber"])
    block = chain.rpc("eth_getBlockByNumber", number, False)["result"]
    receipts = chain.rpc("debug_getRawReceipts", number)["result"]
    transactions = [chain.rpc("debug_getRawTransaction", each)["result"] for each in block["transactions"]]
    for items, root in ((receipts, block["receiptsRoot"]), (transactions, block["transactionsRoot"])):
        trie = HexaryTrie({})
        for i, item in enumerate(items):
            trie[rlp.encode(i)] = bytes.fromhex(item[2:])
        assert "0x" + trie.root_hash.hex() == root
    waiting = Account.create()
    raw = "0x" + signed(waiting, 5, to=probe).hex()  # nonces 0 to 4 are missing
    pending = chain.rpc("eth_sendRawTransaction", raw)["result"]
    assert chain.rpc("eth_getRawTransactionByHash", pending)["result"] == raw
    assert chain.rpc("txpool_status")["result"]["pending"] != "0x0"
    assert chain.rpc("eth_getRawTransactionByHash", "0x" + "11" * 32)["result"] is None


def test_every_method_answers_or_refuses_and_none_fails_inside(chain):
    for method in METHODS:
        for params in ([], ["0x0"], ["0x" + "00" * 32], ["latest", "0x0"], [{}], [{}, "latest", "0x1"]):
            error = chain.rpc(method, *params).get("error")
            assert error is None or error["code"] in (-32602, -32000, 3), (method, params, error)


def test_the_proof_of_an_account_that_is_not_there_proves_that(chain, probe):
    import rlp
    from trie import HexaryTrie
    from web3 import Web3

    nobody = Account.create().address
    head = chain.web3.eth.get_block("latest")
    proof = chain.rpc("eth_getProof", nobody, [], hex(head["number"]))["result"]
    opened = [rlp.decode(bytes.fromhex(node[2:])) for node in proof["accountProof"]]
    key = Web3.keccak(bytes.fromhex(nobody[2:]))
    assert HexaryTrie.get_from_proof(head["stateRoot"], key, opened) == b""


def test_kill_9_again_and_again_under_load_loses_no_acknowledged_transaction(tmp_path):
    accounts = [Account.create() for _ in range(4)]
    acknowledged: set[bytes] = set()
    moments = random.Random(3)
    for _ in range(4):
        with serving(tmp_path) as chain:
            counts = [chain.web3.eth.get_transaction_count(each.address, "pending") for each in accounts]
            killer = threading.Timer(0.3 + 1.5 * moments.random(), chain.kill)
            killer.start()
            clients = [
                threading.Thread(target=send_until_killed, args=(chain, *each, acknowledged))
                for each in zip(accounts, counts, strict=True)
            ]
            for client in clients:
                client.start()
            for thread in (*clients, killer):
                thread.join()
    assert acknowledged
    with serving(tmp_path) as chain:
        receipts = [chain.receipt(each) for each in acknowledged]
        assert {receipt["status"] for receipt in receipts} == {1}
        blocks = [chain.web3.eth.get_block(n) for n in range(chain.web3.eth.block_number + 1)]
        assert all(a["timestamp"] < b["timestamp"] for a, b in pairwise(blocks))
        assert blocks[-1]["timestamp"] <= time.time() + 1
        assert verify_directory(tmp_path).head_hash == blocks[-1]["hash"].to_0x_hex()


def send_until_killed(chain, account, nonce, acknowledged):
    while True:
        raw = "0x" + signed(account, nonce, to=account.address).hex()
        try:
            acknowledged.add(bytes.fromhex(chain.rpc("eth_sendRawTransaction", raw)["result"][2:]))
        except Exception:  # whatever a killed server makes of the connection
            return
        nonce += 1
