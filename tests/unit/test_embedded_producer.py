"""The embedded chain's producer, store and verification in one process, without a network."""

import json
import shutil
import sqlite3
import sys
from pathlib import Path

import pytest
import rlp
from eth_account import Account
from eth_hash.auto import keccak
from eth_utils import to_checksum_address

from sealtrace.contracts.embedded import machine, rpc
from sealtrace.contracts.embedded.errors import (
    BlockRejected,
    DirectoryLocked,
    GenesisMismatch,
    NoChainHere,
    RpcError,
    StoreCorrupted,
    StoreFull,
)
from sealtrace.contracts.embedded.genesis import Genesis, Wei
from sealtrace.contracts.embedded.machine import BlockBuilder, decode_block
from sealtrace.contracts.embedded.producer import create, open_producer
from sealtrace.contracts.embedded.reading import open_reading
from sealtrace.contracts.embedded.rpc import Context, answer_body, answer_request
from sealtrace.contracts.embedded.store import FILE_NAME
from sealtrace.contracts.embedded.verify import RawBlock, reexecute, verify_directory

PROBE = json.loads((Path(__file__).parent / "embedded_probe.json").read_text())
RICH = Account.from_key(b"\x07" * 32)
GENESIS = Genesis(7, 1_700_000_000, alloc={RICH.address.lower(): Wei(10_000_000)})
NOW = 1_700_000_100


@pytest.fixture
def directory(tmp_path):
    create(tmp_path, GENESIS)
    return tmp_path


@pytest.fixture
def producer(directory):
    opened = open_producer(directory)
    yield opened
    opened.close()


def signed(account, nonce, **fields):
    base = {"chainId": 7, "nonce": nonce, "value": 0, "gas": 500_000, "data": "0x"}
    free = {"maxFeePerGas": 0, "maxPriorityFeePerGas": 0}
    return account.sign_transaction({**base, **free, **fields}).raw_transaction


def deploy(producer, account):
    producer.submit(signed(account, 0, data=PROBE["initcode"]))
    assert producer.mine(NOW).transactions == 1
    receipt = json.loads(producer.store.receipts(producer.head().block_number)[0])
    return to_checksum_address(receipt["contractAddress"])


def ask(producer, method, *params, now=NOW):
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
    return answer_request(Context(producer, lambda: now), request)


def raw_blocks(producer):
    return [RawBlock(b.raw, b.hash) for b in producer.store.blocks()]


def test_a_block_takes_the_time_of_the_clock_but_never_one_before_its_parent(producer):
    producer.mine(NOW, empty=True)
    assert producer.head().timestamp == NOW
    producer.mine(NOW - 50, empty=True)
    assert producer.head().timestamp == NOW + 1


def test_nothing_pending_makes_no_block(producer):
    assert producer.mine(NOW).number is None
    assert producer.head().block_number == 0


def test_a_transaction_that_became_invalid_is_dropped_with_its_reason_and_the_rest_goes_on(
    producer,
):
    to = Account.create().address
    for nonce in range(3):  # each affordable, all three not
        producer.submit(signed(RICH, nonce, to=to, value=4_000_000))
    other = producer.submit(signed(Account.create(), 0, to=to))
    mined = producer.mine(NOW)
    assert mined.transactions == 3
    (dropped,) = mined.dropped
    assert "balance" in producer.store.dropped_reason(dropped.hash)
    assert ask(producer, "sealtrace_droppedReason", "0x" + dropped.hash.hex())["result"]
    assert producer.store.transaction(other) is not None
    assert producer.pool.by_hash == {}


def test_a_transaction_that_breaks_the_machine_is_dropped_and_the_rest_goes_on(producer, monkeypatch):
    broken = producer.submit(signed(Account.create(), 0, to=RICH.address))
    sound = producer.submit(signed(Account.create(), 0, to=RICH.address))
    apply = machine.PragueVM.apply_transaction

    def fails_on_one(self, header, transaction):
        if transaction.hash == broken:
            raise ZeroDivisionError("a bug in the machine")
        return apply(self, header, transaction)

    monkeypatch.setattr(machine.PragueVM, "apply_transaction", fails_on_one)
    mined = producer.mine(NOW)
    assert [d.hash for d in mined.dropped] == [broken]
    assert "a bug in the machine" in producer.store.dropped_reason(broken)
    assert producer.store.transaction(sound).number == mined.number


def test_a_block_uses_at_most_half_its_gas_limit_so_the_base_fee_stays_zero(producer):
    probe = deploy(producer, Account.create())
    for account in (Account.create() for _ in range(3)):
        producer.submit(signed(account, 0, to=probe, data=b"\x03", gas=12_000_000))
    sizes = [producer.mine(NOW + n).transactions for n in range(2, 5)]
    assert sizes == [2, 1, 0]
    assert producer.head().base_fee_per_gas == 0
    assert producer.header(2).gas_used == 24_000_000


def test_pending_transactions_and_nonces_survive_a_restart(directory):
    account = Account.create()
    producer = open_producer(directory)
    probe = deploy(producer, account)
    sent = [producer.submit(signed(account, n, to=probe)) for n in (1, 2)]
    producer.close()
    producer = open_producer(directory)
    assert producer.next_nonce(bytes.fromhex(account.address[2:])) == 3
    assert producer.mine(NOW + 2).transactions == 2
    assert [producer.store.transaction(h).position for h in sent] == [0, 1]
    producer.close()


def test_whatever_the_moment_of_a_crash_what_was_acknowledged_is_there_once(directory, tmp_path_factory):
    """The files are copied before every single statement: what kill -9 would leave at that moment."""
    crashes = tmp_path_factory.mktemp("crashes")
    acknowledged: list[bytes] = []
    moments: list[tuple[Path, list[bytes]]] = []

    def crash(_statement):
        moments.append((Path(shutil.copytree(directory, crashes / str(len(moments)))), list(acknowledged)))

    producer = open_producer(directory)
    account = Account.create()
    producer.store.connection.set_trace_callback(crash)
    acknowledged.append(producer.submit(signed(account, 0, data=PROBE["initcode"])))
    acknowledged.append(producer.submit(signed(RICH, 0, to=account.address, value=1)))
    producer.mine(NOW)
    acknowledged.append(producer.submit(signed(account, 1, to=RICH.address)))
    producer.mine(NOW + 1)
    producer.store.connection.set_trace_callback(None)
    producer.close()
    assert len(moments) > 100
    for files, known in moments:
        found = open_producer(files)
        pending = [machine.decode_transaction(raw).hash for _, raw in found.store.pending()]
        for each in known:
            assert (found.store.transaction(each) is not None) + pending.count(each) == 1
        assert found.mine(NOW + 2).transactions == len(pending)
        assert verify_directory(files).head_hash == found.head().hex_hash
        found.close()
        shutil.rmtree(files)


def test_a_directory_of_the_first_layout_is_taken_over(directory):
    producer = open_producer(directory)
    account = Account.create()
    sent = [producer.submit(signed(account, n, to=RICH.address)) for n in (0, 1, 3)]
    producer.close()
    with sqlite3.connect(directory / FILE_NAME) as connection:
        connection.executescript(
            "drop index pool_by_sender; alter table pool drop column sender;"
            "alter table pool drop column nonce; pragma user_version = 1"
        )
    connection.close()
    assert verify_directory(directory).blocks == 0
    producer = open_producer(directory)
    assert producer.next_nonce(bytes.fromhex(account.address[2:])) == 2
    assert producer.pending(sent[2]).nonce == 3
    assert producer.mine(NOW).transactions == 2
    producer.close()


def test_a_directory_of_a_later_layout_is_refused(directory):
    open_producer(directory).close()
    with sqlite3.connect(directory / FILE_NAME) as connection:
        connection.execute("pragma user_version = 99")
    connection.close()
    with pytest.raises(StoreCorrupted, match="version 99"):
        open_producer(directory)
    with pytest.raises(StoreCorrupted, match="version 99"):
        verify_directory(directory)


def test_a_reader_sees_one_moment_and_then_the_next(directory, producer):
    with open_reading(directory) as reading:
        with reading.store.snapshot():
            before = reading.head().hash
            producer.mine(NOW, empty=True)
            assert reading.head().hash == before
        assert reading.head().hash == producer.head().hash


def test_a_reader_takes_no_transaction(directory, producer):
    with open_reading(directory) as reading:
        raw = "0x" + signed(Account.create(), 0, to=RICH.address).hex()
        assert ask(reading, "eth_sendRawTransaction", raw)["error"]["code"] == -32603
        assert ask(reading, "txpool_status")["result"]["pending"] == "0x0"


@pytest.mark.parametrize("chosen", [{"address": RICH.address}, {"topics": ["0x" + "11" * 32]}])
def test_logs_of_an_address_or_a_topic_are_found_by_an_index(producer, chosen):
    asked: list[str] = []
    producer.store.connection.set_trace_callback(asked.append)
    ask(producer, "eth_getLogs", {"fromBlock": "0x0", "toBlock": "latest", **chosen})
    producer.store.connection.set_trace_callback(None)
    (query,) = (each for each in asked if "from logs" in each)
    plan = producer.store.connection.execute(f"explain query plan {query}").fetchall()
    assert any("USING INDEX logs_by_" in row[3] for row in plan), plan


def test_a_full_disk_keeps_nothing_of_a_transaction_and_says_so(producer):
    size = producer.store.connection.execute("pragma page_count").fetchone()[0]
    producer.store.connection.execute(f"pragma max_page_count = {size}")
    account = Account.create()
    raw = signed(account, 0, data=b"\1" * 40_000, gas=5_000_000)
    with pytest.raises(StoreFull):
        producer.submit(raw)
    answer = ask(producer, "eth_sendRawTransaction", "0x" + raw.hex())
    assert answer["error"]["code"] == -32003
    assert "disk" in answer["error"]["message"]
    assert producer.pool.by_hash == {}
    producer.store.connection.execute("pragma max_page_count = 1000000")
    producer.submit(raw)
    assert producer.mine(NOW).transactions == 1


def test_a_disk_that_fills_while_mining_leaves_the_chain_as_it_was(producer):
    probe = deploy(producer, Account.create())
    before = producer.head().hash
    for n in range(30):
        producer.submit(signed(RICH, n, to=probe, data=b"\x05" + bytes(128) + b"x" * 4_000))
    size = producer.store.connection.execute("pragma page_count").fetchone()[0]
    producer.store.connection.execute(f"pragma max_page_count = {size}")
    with pytest.raises(StoreFull):
        producer.mine(NOW + 2)
    assert producer.head().hash == before
    producer.store.connection.execute("pragma max_page_count = 1000000")
    assert producer.mine(NOW + 2).transactions == 30
    assert reexecute(GENESIS, raw_blocks(producer)).head_hash == producer.head().hex_hash


def test_one_directory_has_one_producer(directory, producer):
    with pytest.raises(DirectoryLocked):
        open_producer(directory)


def test_a_directory_keeps_its_genesis(directory):
    open_producer(directory).close()
    with pytest.raises(GenesisMismatch, match="chainId"):
        create(directory, Genesis(8, GENESIS.timestamp, alloc=GENESIS.alloc))
    content = json.loads((directory / "genesis.json").read_text())
    content["gasLimit"] += 1
    (directory / "genesis.json").write_text(json.dumps(content))
    with pytest.raises(GenesisMismatch, match="gasLimit"):
        open_producer(directory)


def test_a_chain_whose_state_is_empty_opens_again_and_proves_absence(tmp_path):
    create(tmp_path, Genesis(7, GENESIS.timestamp))
    producer = open_producer(tmp_path)
    producer.mine(NOW, empty=True)
    producer.close()
    producer = open_producer(tmp_path)
    proof = ask(producer, "eth_getProof", RICH.address, ["0x0"])["result"]
    assert (proof["nonce"], proof["storageProof"][0]["value"]) == ("0x0", "0x0")
    assert ask(producer, "eth_getLogs", {"fromBlock": "0x9"})["result"] == []
    assert verify_directory(tmp_path).head_hash == producer.head().hex_hash
    producer.close()


def test_an_empty_directory_holds_no_chain(tmp_path):
    with pytest.raises(NoChainHere):
        open_producer(tmp_path)
    with pytest.raises(NoChainHere):
        verify_directory(tmp_path)


def test_a_damaged_database_is_named(directory):
    producer = open_producer(directory)
    producer.mine(NOW, empty=True)
    root = producer.head().state_root
    producer.close()
    with sqlite3.connect(directory / FILE_NAME) as connection:
        connection.execute("delete from kv where k = ?", (root,))
    connection.close()
    with pytest.raises(StoreCorrupted, match="state of block"):
        open_producer(directory)
    for leftover in directory.glob(f"{FILE_NAME}*"):
        leftover.unlink()
    (directory / FILE_NAME).write_bytes(b"not a database, but long enough to be read as one" * 50)
    with pytest.raises(StoreCorrupted, match="not a database"):
        open_producer(directory)


def test_execution_gives_the_same_head_also_for_randomness_and_old_block_hashes(producer):
    probe = deploy(producer, RICH)
    producer.submit(signed(RICH, 1, to=probe, data=b"\x04"))
    number = producer.mine(NOW + 2).number
    stored = [int(ask(producer, "eth_getStorageAt", probe, hex(slot))["result"], 16) for slot in (1, 2, 3, 4)]
    parent = producer.header(number - 1)
    randao, old_hash = keccak(parent.hash), parent.hash
    assert stored == [
        int.from_bytes(randao),
        int.from_bytes(old_hash),
        producer.head().timestamp,
        number,
    ]
    verified = reexecute(GENESIS, raw_blocks(producer))
    assert verified.head_hash == producer.head().hex_hash
    assert (verified.blocks, verified.transactions) == (2, 2)


def test_a_chain_verifies_whatever_recursion_limit_another_module_has_set(producer):
    probe = deploy(producer, RICH)
    producer.submit(signed(RICH, 1, to=probe, data=b"\x06", gas=10_000_000))
    producer.mine(NOW + 2)
    before = sys.getrecursionlimit()
    try:
        sys.setrecursionlimit(1_000)
        verified = reexecute(GENESIS, raw_blocks(producer))
        assert sys.getrecursionlimit() == 1_000
    finally:
        sys.setrecursionlimit(before)
    assert verified.head_hash == producer.head().hex_hash


def altered(raw, **header_fields):
    block = decode_block(raw.raw)
    header = block.header.copy(**header_fields)
    return RawBlock(rlp.encode(block.copy(header=header)))


ALTERATIONS = {
    "state": {"state_root": b"\1" * 32},
    "receipts": {"receipt_root": b"\1" * 32},
    "gas": {"gas_used": 5},
    "gas limit": {"gas_limit": 60_000_001},
    "base fee": {"base_fee_per_gas": 1},
    "randomness": {"mix_hash": b"\1" * 32},
    "time": {"timestamp": 1_700_000_000},
    "parent": {"parent_hash": b"\1" * 32},
    "extra": {"extra_data": b"hello"},
    "coinbase": {"coinbase": b"\1" * 20},
    "transactions": {"transaction_root": b"\1" * 32},
}


@pytest.mark.parametrize("fields", ALTERATIONS.values(), ids=ALTERATIONS.keys())
def test_an_altered_block_is_rejected_by_number(producer, fields):
    deploy(producer, RICH)
    producer.mine(NOW + 2, empty=True)
    blocks = raw_blocks(producer)
    blocks[1] = altered(blocks[1], **fields)
    with pytest.raises(BlockRejected) as caught:
        reexecute(GENESIS, blocks)
    assert caught.value.number == 1
    assert caught.value.expected != caught.value.observed


def test_another_genesis_a_missing_block_and_rubbish_are_rejected(producer):
    producer.mine(NOW, empty=True)
    producer.mine(NOW + 1, empty=True)
    blocks = raw_blocks(producer)
    for number, cut in ((1, [blocks[0], blocks[2]]), (1, [blocks[0], RawBlock(b"\xc0")])):
        with pytest.raises(BlockRejected) as caught:
            reexecute(GENESIS, cut)
        assert caught.value.number == number
    with pytest.raises(BlockRejected) as caught:
        reexecute(Genesis(8, GENESIS.timestamp, alloc=GENESIS.alloc), blocks)
    assert caught.value.number == 0


def test_a_transaction_for_another_chain_in_a_block_is_rejected(producer):
    foreign = machine.decode_transaction(signed(RICH, 0, to=RICH.address, chainId=8))
    with producer.store.atomically():
        builder = BlockBuilder(producer.chain, producer.head(), NOW)
        builder.apply(foreign)
        block = builder.seal()
    genesis = raw_blocks(producer)[0]
    with pytest.raises(BlockRejected, match="chain 8"):
        reexecute(GENESIS, [genesis, RawBlock(rlp.encode(block))])


def test_too_many_logs_are_refused_with_a_range_that_fits(producer, monkeypatch):
    monkeypatch.setattr(rpc, "MAX_LOGS", 3)
    probe = deploy(producer, RICH)
    for n in range(1, 6):
        producer.submit(signed(RICH, n, to=probe))
        producer.mine(NOW + n + 1)
    answer = ask(producer, "eth_getLogs", {"fromBlock": "0x0", "toBlock": "latest"})
    assert answer["error"]["code"] == -32005
    assert "blocks 0 to 4 fit" in answer["error"]["message"]
    fits = ask(producer, "eth_getLogs", {"fromBlock": "0x0", "toBlock": "0x4"})
    assert len(fits["result"]) == 3


def test_a_call_without_a_new_block_sees_time_pass(producer):
    probe = deploy(producer, RICH)
    for now, seen in ((NOW + 500, NOW + 500), (NOW - 500, NOW)):
        answer = ask(producer, "eth_call", {"to": probe, "data": "0x02"}, now=now)
        assert int(answer["result"][:66], 16) == seen
    pinned = ask(producer, "eth_call", {"to": probe, "data": "0x02"}, "0x1", now=NOW + 500)
    assert int(pinned["result"][:66], 16) == NOW


def test_state_of_old_blocks_stays_readable(producer):
    probe = deploy(producer, RICH)
    for n in (1, 2, 3):
        producer.submit(signed(RICH, n, to=probe))
        producer.mine(NOW + n + 1)
    values = [
        int(ask(producer, "eth_getStorageAt", probe, "0x0", hex(block))["result"], 16) for block in range(5)
    ]
    assert values == [0, 0, 1, 2, 3]
    nonces = [
        int(ask(producer, "eth_getTransactionCount", RICH.address, hex(block))["result"], 16)
        for block in range(5)
    ]
    assert nonces == [0, 1, 2, 3, 4]


def test_an_internal_failure_is_an_answer_not_an_end(producer, monkeypatch):
    def fails(context):
        raise KeyError("x")

    monkeypatch.setitem(rpc.METHODS, "eth_chainId", rpc.Method(fails))
    assert ask(producer, "eth_chainId")["error"]["code"] == -32603
    assert ask(producer, "net_version")["result"] == "7"


def test_a_nested_raw_transaction_is_refused(producer):
    raw = b""
    for _ in range(20_000):
        raw = rlp.codec.length_prefix(len(raw), 0xC0) + raw
    with pytest.raises(RpcError, match="cannot decode"):
        producer.submit(raw)


def test_json_that_is_none_is_a_parse_error(producer):
    for body in (b'{"id":NaN}', b"[" * 33 + b"]" * 33, b'"\\', b"\xff"):
        assert json.loads(answer_body(Context(producer), body))["error"]["code"] == -32700
