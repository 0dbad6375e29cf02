"""Two machines under the contracts' tests: eth-tester, the frame's own, and revm, a hundred times as fast.

Both answer the JSON-RPC that our client asks, keep blocks of one transaction each, and go back to where
they were. ``SEALTRACE_ENGINE=revm`` runs ``tests/contract`` on revm: for mutants and long random walks.
Gas is eth-tester's to tell: revm goes back only within one journal, which keeps warm what was touched.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Protocol

import eth_tester.backends.pyevm.main as pyevm_main
import rlp
from eth.exceptions import HeaderNotFound
from eth.exceptions import TransactionNotFound as UnknownTransaction
from eth.vm.forks.prague.transactions import PragueTransactionBuilder
from eth_hash.auto import keccak
from eth_keys.datatypes import PrivateKey
from eth_tester import EthereumTester
from eth_tester.backends.pyevm import PyEVMBackend
from eth_tester.exceptions import TransactionNotFound
from pyrevm import EVM, AccountInfo, BlockEnv, CfgEnv, Env
from web3 import EthereumTesterProvider, Web3

from sealtrace.contracts.link import ProviderLink, content, number
from sealtrace.protocol.identifiers import Address, UnixSeconds, address, hex32, raw
from sealtrace.protocol.records import BlockRef

GAS = 6_000_000
DEPLOYING = 1 << 32  # what is not optimized costs more to put there than any test offers
GENESIS_TIME = 4_000_000_000  # beyond any clock, so that every run has the same blocks to the byte
CHAIN_ID = 131277322940537  # eth-tester's
NOT_FOUND = -32001
PADDING = 33  # zeros that revm keeps behind every code, so that it can read past its end


@dataclass(frozen=True)
class Outcome:
    """What a transaction did. ``refusal`` is revert data; ``None`` where it succeeded."""

    logs: list[dict[str, Any]]
    gas_used: int
    at: int
    refusal: bytes | None


class Engine(Protocol):
    """A chain in this process, every transaction in a block of its own."""

    link: ProviderLink
    chain_id: int

    @property
    def now(self) -> int:
        """The time of the last block."""

    def travel(self, to: int) -> None:
        """Make the next block's time ``to``, which is later than the last block's."""

    def mine_blocks(self) -> None:
        """Add an empty block."""

    def transact(self, key: bytes, to: Address, data: bytes) -> Outcome:
        """Send a transaction."""

    def take_snapshot(self) -> Any:
        """Remember this place. It can be gone back to more than once."""

    def revert_to_snapshot(self, snapshot: Any) -> None:
        """Go back to a place; places remembered later are forgotten."""


def _find_transaction(chain: Any, wanted: bytes) -> Any:
    """eth-tester looks through every block for each log; the index knows the block."""
    head = chain.get_block()
    for i, transaction in enumerate(head.transactions):
        if transaction.hash == wanted:
            return head, transaction, i
    try:
        number, i = chain.chaindb.get_transaction_index(wanted)
        block = chain.get_canonical_block_by_number(number)
        if number < head.number and block.transactions[i].hash == wanted:
            return block, block.transactions[i], i
    except (KeyError, IndexError, LookupError, HeaderNotFound, UnknownTransaction):
        pass  # the index keeps what a snapshot took back
    raise TransactionNotFound("0x" + bytes(wanted).hex())


pyevm_main._get_transaction_by_hash = _find_transaction


class EthTester:
    """py-evm under eth-tester, without fees."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        usual = PyEVMBackend.generate_genesis_params()
        parameters = {**usual, "base_fee_per_gas": 0, "timestamp": GENESIS_TIME}
        rich = {"balance": 10**30, "nonce": 0, "code": b"", "storage": {}}
        state = {PrivateKey(key).public_key.to_canonical_address(): dict(rich) for key in keys}
        state[bytes(20)] = dict(rich)  # eth-tester charges for calls
        self.tester = EthereumTester(PyEVMBackend(parameters, state))
        self.link = ProviderLink(Web3(EthereumTesterProvider(self.tester)))
        self.chain_id = int(self._evm.chain_id)
        self.mine_blocks = self.tester.backend.mine_blocks
        self.take_snapshot = self.tester.backend.take_snapshot
        self.revert_to_snapshot = self.tester.backend.revert_to_snapshot

    @property
    def _evm(self) -> Any:
        return self.tester.backend.chain

    @property
    def now(self) -> int:
        return int(self._evm.get_canonical_head().timestamp)

    def travel(self, to: int) -> None:
        self._evm.header = self._evm.header.copy(timestamp=to)

    def transact(self, key: bytes, to: Address, data: bytes) -> Outcome:
        signed = self._transaction(PrivateKey(key), raw(to), data)
        at = int(self._evm.header.timestamp)
        _, receipt, computation = self._evm.apply_transaction(signed)
        used = receipt.gas_used
        self.mine_blocks()
        if computation.is_error:
            assert not receipt.logs
            return Outcome([], used, at, bytes(computation.output))
        return Outcome(self._shown(receipt.logs, bytes(signed.hash)), used, at, None)

    def _transaction(self, key: PrivateKey, to: bytes, data: bytes) -> Any:
        vm = self._evm.get_vm()
        unsigned = vm.get_transaction_builder().new_unsigned_dynamic_fee_transaction(
            chain_id=self.chain_id,
            nonce=vm.state.get_nonce(key.public_key.to_canonical_address()),
            max_priority_fee_per_gas=0,
            max_fee_per_gas=0,
            gas=GAS,
            to=to,
            value=0,
            data=data,
            access_list=(),
        )
        return unsigned.as_signed_transaction(key)

    def _shown(self, logs: Sequence[Any], transaction: bytes) -> list[dict[str, Any]]:
        head = self._evm.get_canonical_head()
        return [
            {
                "address": "0x" + log.address.hex(),
                "topics": [topic.to_bytes(32) for topic in log.topics],
                "data": log.data,
                "blockNumber": head.block_number,
                "blockHash": head.hash,
                "transactionHash": transaction,
                "logIndex": i,
            }
            for i, log in enumerate(logs)
        ]


@dataclass(frozen=True)
class _Said:
    """A transaction as revm is told it; ``to`` is empty where it creates a contract."""

    hash: str
    sender: str
    nonce: int
    to: str
    data: bytes
    gas: int


@dataclass(frozen=True)
class _Block:
    number: int
    hash: str
    parent: str
    timestamp: int
    said: _Said | None = None
    logs: list[dict[str, Any]] = field(default_factory=list)
    gas_used: int = 0
    refusal: bytes | None = None
    created: str | None = None


class _RpcError(Exception):
    def __init__(self, code: int, message: str, data: bytes | None = None) -> None:
        super().__init__(message)
        self.said = {"code": code, "message": message}
        if data is not None:
            self.said["data"] = "0x" + data.hex()


@dataclass
class _Place:
    checkpoint: Any
    blocks: int
    nonces: dict[str, int]


class Revm:
    """revm behind as much JSON-RPC as our client asks, in the shape of a web3 object.

    revm keeps one state and neither blocks nor nonces: those are kept here. An older state is asked for
    seldom, and is made by running the transactions again.
    """

    middleware_onion = None

    def __init__(self, chain_id: int = CHAIN_ID) -> None:
        self.chain_id = chain_id
        self.provider = self
        self.link = ProviderLink(self)  # type: ignore[arg-type]
        self._evm = _machine(chain_id)
        self._blocks = [_Block(0, _hash(b"genesis"), "0x" + "00" * 32, GENESIS_TIME)]
        self._by_hash: dict[str, _Block] = {}
        self._nonces: dict[str, int] = {}
        self._next: int | None = None
        self._places: list[_Place] = []

    # an engine

    @property
    def _head(self) -> _Block:
        return self._blocks[-1]

    @property
    def now(self) -> int:
        return self._head.timestamp

    def travel(self, to: int) -> None:
        self._next = to

    def mine_blocks(self) -> None:
        self._blocks.append(self._header())

    def transact(self, key: bytes, to: Address, data: bytes) -> Outcome:
        return self.send(_account(key), to, data)

    def send(self, sender: str, to: str, data: bytes) -> Outcome:
        """A transaction of any account, which signs nothing here."""
        nonce = self._nonces.get(sender, 0)
        hash = _hash(rlp.encode([raw(Address(sender)), nonce, raw(Address(to)), data]))
        block = self._mine(_Said(hash, sender, nonce, to, data, GAS))
        return Outcome(block.logs, block.gas_used, block.timestamp, block.refusal)

    def take_snapshot(self) -> _Place:
        if self._places and self._places[-1].blocks == len(self._blocks):
            return self._places[-1]  # revm counts its checkpoints, and refuses to run above 1024
        place = _Place(self._evm.snapshot(), len(self._blocks), dict(self._nonces))
        self._places.append(place)
        return place

    def revert_to_snapshot(self, snapshot: _Place) -> None:
        while True:
            last = self._places.pop()
            self._evm.revert(last.checkpoint)
            if last is snapshot:
                break
        snapshot.checkpoint = self._evm.snapshot()
        self._places.append(snapshot)
        for block in self._blocks[snapshot.blocks :]:
            if block.said is not None:
                self._by_hash.pop(block.said.hash, None)
        del self._blocks[snapshot.blocks :]
        self._nonces, self._next = dict(snapshot.nonces), None

    def call(self, to: str, data: bytes, sender: str = "0x" + "00" * 20) -> bytes:
        """What a view answers at the head.

        Raises:
            RuntimeError: it refuses.
        """
        return _called(self._evm, self._head, sender, to, data)

    def word(self, contract: str, slot: int) -> int:
        """What a contract keeps in a slot at the head."""
        return int(self._evm.storage(contract, slot))

    def logs(self) -> Iterator[tuple[BlockRef, dict[str, Any]]]:
        """Every log up to the head, with its block."""
        for block in self._blocks:
            ref = _ref(block)
            yield from ((ref, log) for log in block.logs)

    @property
    def head(self) -> BlockRef:
        """The last block."""
        return _ref(self._head)

    # blocks

    def _header(self) -> _Block:
        number, parent = self._head.number + 1, self._head.hash
        timestamp = self._next if self._next is not None else self._head.timestamp + 1
        self._next = None
        return _Block(number, _hash(bytes.fromhex(parent[2:]) + timestamp.to_bytes(8)), parent, timestamp)

    def _mine(self, said: _Said) -> _Block:
        block = self._header()
        done = _executed(self._evm, block, said)
        self._nonces[said.sender] = said.nonce + 1
        self._blocks.append(done)
        self._by_hash[said.hash] = done
        return done

    def _state_at(self, number: int) -> EVM:
        if number == self._head.number:
            return self._evm
        machine = _machine(self.chain_id)
        for block in self._blocks[1 : number + 1]:
            if block.said is not None:
                _executed(machine, block, block.said)
        return machine

    def _at(self, tag: Any) -> _Block:
        if tag in ("latest", "pending", "finalized", "safe"):
            return self._head
        height = number(tag)
        if height >= len(self._blocks):
            raise _RpcError(NOT_FOUND, f"no block {tag}")
        return self._blocks[height]

    # JSON-RPC

    def request_func(self, w3: Any, onion: Any) -> Callable[[str, list[Any]], dict[str, Any]]:
        """What ``ProviderLink`` asks of a provider."""
        return self._answered

    def _answered(self, method: str, params: list[Any]) -> dict[str, Any]:
        answer = getattr(self, f"_{method}", None)
        if answer is None:
            return {"error": {"code": -32601, "message": f"no method {method}"}}
        try:
            return {"result": answer(*params)}
        except _RpcError as refused:
            return {"error": refused.said}

    def _eth_chainId(self) -> str:  # noqa: N802
        return hex(self.chain_id)

    def _eth_blockNumber(self) -> str:  # noqa: N802
        return hex(self._head.number)

    def _eth_getCode(self, where: str, tag: Any) -> str:  # noqa: N802
        code = self._state_at(self._at(tag).number).get_code(where) or b""
        return "0x" + bytes(code)[:-PADDING].hex()

    def _eth_call(self, call: Mapping[str, Any], tag: Any) -> str:
        block = self._at(tag)
        machine = self._state_at(block.number)
        try:
            found = _called(machine, block, _sender(call), call["to"], content(call.get("data", "0x")))
        except RuntimeError as refused:
            data = _revert_data(refused)
            raise _RpcError(3, "execution reverted", data) from refused
        return "0x" + found.hex()

    def _eth_estimateGas(self, call: Mapping[str, Any], tag: Any = "latest") -> str:  # noqa: N802
        """What a creation used; for a call a quarter more, which what it calls may need to be given."""
        said = _Said("", _sender(call), 0, str(call.get("to") or ""), content(call.get("data", "0x")), GAS)
        mark = self._evm.snapshot()
        block = _executed(self._evm, _Block(self._head.number + 1, "", "", self.now + 1), said)
        self._evm.revert(mark)
        if block.refusal is not None:
            raise _RpcError(3, "execution reverted", block.refusal)
        return hex(block.gas_used * 5 // 4 if said.to else block.gas_used)

    def _eth_getBlockByNumber(self, tag: Any, full: bool) -> dict[str, Any] | None:  # noqa: N802
        try:
            block = self._at(tag)
        except _RpcError:
            return None
        return {
            "number": hex(block.number),
            "hash": block.hash,
            "parentHash": block.parent,
            "timestamp": hex(block.timestamp),
            "baseFeePerGas": "0x0",
            "transactions": [_transaction(block) if full else block.said.hash] if block.said else [],
        }

    def _eth_getTransactionCount(self, account: str, tag: Any) -> str:  # noqa: N802
        height = self._at(tag).number
        if height == self._head.number:
            return hex(self._nonces.get(account.lower(), 0))
        sent = (b for b in self._blocks[: height + 1] if b.said and b.said.sender == account.lower())
        return hex(sum(1 for _ in sent))

    def _eth_getTransactionByHash(self, hash: str) -> dict[str, Any] | None:  # noqa: N802
        block = self._by_hash.get(hash)
        return None if block is None else _transaction(block)

    def _eth_getTransactionReceipt(self, hash: str) -> dict[str, Any] | None:  # noqa: N802
        block = self._by_hash.get(hash)
        if block is None:
            return None
        return {
            "status": hex(block.refusal is None),
            "blockNumber": hex(block.number),
            "blockHash": block.hash,
            "transactionHash": hash,
            "contractAddress": block.created,
            "gasUsed": hex(block.gas_used),
            "logs": block.logs,
        }

    def _eth_sendRawTransaction(self, signed: str) -> str:  # noqa: N802
        transaction = PragueTransactionBuilder.decode(content(signed))
        sender = "0x" + transaction.sender.hex()
        hash = "0x" + transaction.hash.hex()
        if hash in self._by_hash:
            raise _RpcError(-32000, "already known")
        if transaction.nonce != self._nonces.get(sender, 0):
            raise _RpcError(-32000, f"nonce too low: {transaction.nonce} of {self._nonces.get(sender, 0)}")
        to = "0x" + transaction.to.hex() if transaction.to else ""
        said = _Said(hash, sender, transaction.nonce, to, bytes(transaction.data), transaction.gas)
        self._mine(said)
        return hash

    def _eth_getLogs(self, wanted: Mapping[str, Any]) -> list[dict[str, Any]]:  # noqa: N802
        first, last = self._at(wanted["fromBlock"]).number, self._at(wanted["toBlock"]).number
        addresses = {each.lower() for each in wanted["address"]}
        logs = (log for block in self._blocks[first : last + 1] for log in block.logs)
        return [log for log in logs if log["address"] in addresses and _fits(log, wanted["topics"])]


def _machine(chain_id: int) -> EVM:
    limit = 1 << 20  # the mutants and the coverage are compiled without the optimizer
    return EVM(env=Env(cfg=CfgEnv(chain_id=chain_id, limit_contract_code_size=limit)), spec_id="PRAGUE")


def _executed(machine: EVM, block: _Block, said: _Said) -> _Block:
    """``block`` with what ``said`` does in it."""
    machine.set_block_env(BlockEnv(number=block.number, timestamp=block.timestamp, gas_limit=1 << 40))
    created, refusal = None, None
    try:
        if said.to:
            machine.message_call(said.sender, said.to, calldata=said.data, gas=said.gas)
        else:
            machine.insert_account_info(said.sender, AccountInfo(nonce=said.nonce))
            created = machine.deploy(said.sender, said.data, gas=DEPLOYING).lower()
    except RuntimeError as refused:
        refusal = _revert_data(refused) or b""
        used = int(_GAS.search(str(refused)).group(1))  # type: ignore[union-attr]
    else:
        used = machine.result.gas_used
    machine.reset_transient_storage()
    logs = [] if refusal is not None else list(_logs(machine, block, said.hash))
    return _Block(block.number, block.hash, block.parent, block.timestamp, said, logs, used, refusal, created)


def _called(machine: EVM, block: _Block, sender: str, to: str, data: bytes) -> bytes:
    machine.set_block_env(BlockEnv(number=block.number, timestamp=block.timestamp, gas_limit=1 << 40))
    mark = machine.snapshot()
    try:
        return bytes(machine.message_call(sender, to, calldata=data, gas=GAS * 10))
    finally:
        machine.reset_transient_storage()
        machine.revert(mark)


_GAS = re.compile(r"gas_used: (\d+)")
_OUTPUT = re.compile(r"output: 0x([0-9a-f]*)")


def _revert_data(refused: RuntimeError) -> bytes | None:
    found = _OUTPUT.search(str(refused))
    return bytes.fromhex(found.group(1)) if found else None


def _logs(machine: EVM, block: _Block, transaction: str) -> Iterator[dict[str, Any]]:
    for i, log in enumerate(machine.result.logs or ()):
        yield {
            "address": log.address.lower(),
            "topics": log.topics,
            "data": "0x" + bytes(log.data[1]).hex(),
            "blockNumber": hex(block.number),
            "blockHash": block.hash,
            "transactionHash": transaction,
            "logIndex": hex(i),
        }


def _transaction(block: _Block) -> dict[str, Any]:
    said = block.said
    assert said is not None
    return {
        "hash": said.hash,
        "from": said.sender,
        "nonce": hex(said.nonce),
        "to": said.to or None,
        "input": "0x" + said.data.hex(),
        "blockNumber": hex(block.number),
    }


def _fits(log: Mapping[str, Any], topics: Sequence[Any]) -> bool:
    for place, wanted in enumerate(topics):
        if wanted is None:
            continue
        if place >= len(log["topics"]):
            return False
        if log["topics"][place] not in ([wanted] if isinstance(wanted, str) else wanted):
            return False
    return True


def _ref(block: _Block) -> BlockRef:
    return BlockRef(block.number, hex32(block.hash), UnixSeconds(block.timestamp))


def _sender(call: Mapping[str, Any]) -> str:
    return str(call.get("from", "0x" + "00" * 20)).lower()


@cache
def _account(key: bytes) -> str:
    return address(PrivateKey(key).public_key.to_address())


def _hash(content: bytes) -> str:
    return "0x" + keccak(content).hex()
