"""The machine: py-evm's Prague rules, building blocks and executing calls.

Pure of policy: what is pending, when a block is due and who may ask is decided elsewhere.
Timestamps are unix seconds, and arrive as arguments.
"""

import contextlib
import sqlite3
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import rlp
from eth.abc import BlockAPI, BlockHeaderAPI, ReceiptAPI, SignedTransactionAPI, StateAPI, VirtualMachineAPI
from eth.chains.base import Chain
from eth.consensus.applier import ConsensusApplier
from eth.consensus.noproof import NoProofConsensus
from eth.constants import BLANK_ROOT_HASH, EMPTY_SHA3, ZERO_ADDRESS
from eth.db.atomic import AtomicDB
from eth.exceptions import Revert
from eth.rlp.accounts import Account
from eth.vm.forks.prague import PragueVM
from eth.vm.forks.prague.blocks import PragueBlock
from eth.vm.forks.prague.transactions import PragueTransactionBuilder
from eth.vm.interrupt import EVMMissingData
from eth.vm.spoof import SpoofTransaction
from eth_hash.auto import keccak
from eth_utils.exceptions import ValidationError
from trie.hexary import HexaryTrie

from .errors import EXECUTION_REVERTED, PoisonTransaction, RpcError, StoreCorrupted, refused
from .genesis import Genesis
from .quick import QuickVM
from .store import SqliteKV

GAS_ELASTICITY = 2
"""EIP-1559: the base fee does not rise while a block uses at most its limit over this."""
MAX_TRANSACTION_BYTES = 128 * 1024
"""As large as other Ethereum clients relay."""
HEAD_KEY: Final = b"v1:canonical_head_hash"
RECURSION_LIMIT = 10_240
"""As py-evm sets it when it is imported, and other modules of a process may set it back: contracts may call
each other 1,024 deep, and each call is several of Python's."""
ERROR_STRING: Final = bytes.fromhex("08c379a0")
"""Selector of ``Error(string)``, what ``require(..., "text")`` reverts with."""

Header = BlockHeaderAPI
Transaction = SignedTransactionAPI


def _without_seal(machine: type[VirtualMachineAPI]) -> Any:
    return ConsensusApplier(NoProofConsensus).amend_vm_configuration(((0, machine),))


class ZeroFeeChain(Chain):
    """Prague rules without a seal, a constant gas limit, and the base fee the rules give."""

    vm_configuration = _without_seal(QuickVM)

    def create_header_from_parent(self, parent_header: Header, **params: Any) -> Header:
        """Keep the parent's gas limit: 1024ths up or down would change what a block may use."""
        fixed = {**params, "gas_limit": parent_header.gas_limit}
        return super().create_header_from_parent(parent_header, **fixed)


class AuditedChain(ZeroFeeChain):
    """The same rules in py-evm's own loop: what a verification executes with."""

    vm_configuration = _without_seal(PragueVM)


@dataclass(frozen=True, slots=True)
class Executed:
    """A transaction in a block, and what came of it. ``output`` is the revert data on failure."""

    transaction: Transaction
    receipt: ReceiptAPI
    gas_used: int
    output: bytes


@dataclass(frozen=True, slots=True)
class Dropped:
    """A pending transaction that can never be mined as things stand, and why."""

    hash: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class BuiltBlock:
    """A block ready to be recorded, and the transactions that fell out on the way."""

    block: BlockAPI | None
    executed: tuple[Executed, ...]
    dropped: tuple[Dropped, ...]


@dataclass(frozen=True, slots=True)
class CallRequest:
    """A message to execute without a transaction. ``to`` is empty for a contract creation."""

    sender: bytes = ZERO_ADDRESS
    to: bytes = b""
    gas: int | None = None
    value: int = 0
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Proof:
    """An account and some of its slots with the trie nodes that prove them (EIP-1186)."""

    balance: int
    nonce: int
    code_hash: bytes
    storage_root: bytes
    nodes: tuple[bytes, ...]
    slots: tuple[tuple[int, int, tuple[bytes, ...]], ...]


@contextlib.contextmanager
def deep_calls() -> Iterator[None]:
    """Let Python recurse as deep as the machine must, for as long as it executes."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, RECURSION_LIMIT))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def chain_class(chain_id: int, kind: type[ZeroFeeChain] = ZeroFeeChain) -> type[ZeroFeeChain]:
    """Return the chain type that executes with this chain id."""
    return type("SealtraceChain", (kind,), {"chain_id": chain_id})


def create_chain(genesis: Genesis, kv: SqliteKV | None = None) -> ZeroFeeChain:
    """Write the genesis into ``kv`` and return the chain on it; in memory, for an audit, without ``kv``."""
    params = {
        "coinbase": ZERO_ADDRESS,
        "difficulty": 0,
        "extra_data": genesis.extra_data,
        "gas_limit": genesis.gas_limit,
        "timestamp": genesis.timestamp,
        "base_fee_per_gas": 0,
    }
    alloc = {
        bytes.fromhex(account[2:]): {"balance": int(wei), "nonce": 0, "code": b"", "storage": {}}
        for account, wei in genesis.alloc.items()
    }
    kind: Any = chain_class(genesis.chain_id, AuditedChain if kv is None else ZeroFeeChain)
    database = AtomicDB() if kv is None else AtomicDB(kv)
    chain: ZeroFeeChain = kind.from_genesis(database, params, alloc)
    return chain


def open_chain(genesis: Genesis, kv: SqliteKV) -> ZeroFeeChain:
    """Return the chain that ``kv`` holds; raises :class:`StoreCorrupted` when it holds none."""
    if HEAD_KEY not in kv:
        raise StoreCorrupted("it names no head block")
    return chain_class(genesis.chain_id)(AtomicDB(kv))


def decode_transaction(raw: bytes) -> Transaction:
    """Decode a signed transaction; raises :class:`RpcError` unless ``raw`` is its only form."""
    if len(raw) > MAX_TRANSACTION_BYTES:
        raise refused(f"oversized data: {len(raw)} bytes, the limit is {MAX_TRANSACTION_BYTES}")
    try:
        transaction = PragueTransactionBuilder.decode(raw)
        canonical = transaction.encode() == raw
    except Exception as error:  # the decoders raise a dozen kinds, none of them ours
        reason = f"{type(error).__name__}: {error}"[:200]
        raise refused(f"cannot decode the transaction: {reason}") from error
    if not canonical:
        raise refused("cannot decode the transaction: not in canonical RLP")
    return transaction


def decode_block(raw: bytes) -> BlockAPI:
    """Decode a block's RLP; raises :class:`ValueError` when it is none."""
    try:
        block: BlockAPI = rlp.decode(raw, sedes=PragueBlock)
    except Exception as error:
        raise ValueError(f"not a block: {error}") from error
    return block


def gas_target(header: Header) -> int:
    """Return the gas one block may use so that the base fee stays 0."""
    return header.gas_limit // GAS_ELASTICITY


def next_header(chain: Chain, parent: Header, timestamp: int) -> Header:
    """Return the header a block after ``parent`` starts from.

    PREVRANDAO (``mix_hash``) is the parent's hash hashed: no choice is left to the producer.
    """
    return chain.create_header_from_parent(
        parent,
        timestamp=timestamp,
        coinbase=ZERO_ADDRESS,
        mix_hash=keccak(parent.hash),
    )


def why_not_ours(header: Header, parent: Header) -> tuple[str, str] | None:
    """Return (expected, observed) of the first rule of this network the header breaks.

    These come on top of the rules of Ethereum, which the re-execution checks.
    """
    rules = (
        ("gas limit", parent.gas_limit, header.gas_limit),
        ("base fee", 0, header.base_fee_per_gas),
        ("coinbase", ZERO_ADDRESS.hex(), header.coinbase.hex()),
        ("extra data", "", header.extra_data.hex()),
        ("PREVRANDAO", keccak(parent.hash).hex(), header.mix_hash.hex()),
    )
    for name, expected, observed in rules:
        if expected != observed:
            return f"{name} {expected}", f"{name} {observed}"
    return None


class BlockBuilder:
    """One block under construction: apply transactions, then seal."""

    def __init__(self, chain: Chain, parent: Header, timestamp: int) -> None:
        self._chain = chain
        self._header = next_header(chain, parent, timestamp)
        self._vm = chain.get_vm(self._header)
        self._executor = self._vm.state.get_transaction_executor()
        self._target = gas_target(parent)
        self.executed: list[Executed] = []

    def has_room(self, transaction: Transaction) -> bool:
        """Tell whether the block can take the transaction's gas."""
        return self._header.gas_used + transaction.gas <= self._target

    def why_invalid(self, transaction: Transaction) -> str | None:
        """Return why the transaction cannot be applied to the state as it is now."""
        try:
            self._executor.validate_transaction(transaction)
        except ValidationError as error:
            return str(error)
        return None

    def apply(self, transaction: Transaction) -> None:
        """Execute a valid transaction.

        Raises :class:`PoisonTransaction` when the machine fails; the builder is then spoilt.
        """
        before = self._header.gas_used
        try:
            receipt, computation = self._vm.apply_transaction(self._header, transaction)
        except (sqlite3.Error, EVMMissingData, MemoryError):
            raise  # the store's problem, not the transaction's
        except Exception as error:
            raise PoisonTransaction(transaction.hash, error) from error
        self._header = self._vm.add_receipt_to_header(self._header, receipt)
        used = self._header.gas_used - before
        output = computation.output if computation.is_error else b""
        self.executed.append(Executed(transaction, receipt, used, output))

    def seal(self) -> BlockAPI:
        """Finish the block, and make it the head of the chain."""
        filled = self._vm.set_block_transactions_and_withdrawals(
            self._vm.get_block(),
            self._header,
            tuple(e.transaction for e in self.executed),
            tuple(e.receipt for e in self.executed),
        )
        block = self._vm.mine_block(filled).block
        self._chain.persist_block(block)
        return block


def fill(
    builder: BlockBuilder, candidates: Iterable[Transaction], is_late: Callable[[], bool]
) -> tuple[Dropped, ...]:
    """Apply what fits, in order, until ``is_late``; returns what is invalid.

    Once a sender's transaction is left out, its later ones wait: their nonces would not fit.
    """
    dropped: list[Dropped] = []
    waiting: set[bytes] = set()
    for transaction in candidates:
        if is_late():
            break
        if transaction.sender in waiting:
            continue
        if not builder.has_room(transaction):
            waiting.add(transaction.sender)
        elif reason := builder.why_invalid(transaction):
            waiting.add(transaction.sender)
            dropped.append(Dropped(transaction.hash, reason))
        else:
            builder.apply(transaction)
    return tuple(dropped)


def state_at(chain: Chain, header: Header) -> StateAPI:
    """Return the state after ``header``'s block, with that block's number and time."""
    return chain.get_vm(header).state


def call(chain: Chain, header: Header, request: CallRequest) -> bytes:
    """Execute a call and return its output; changes nothing.

    Whatever gas was asked for, a call gets no more than a block: it holds up the blocks while it runs.

    Raises :class:`RpcError`: code 3 with the revert data, or -32000 for any other failure.
    """
    return _execute(chain, header, request, _allowance(header, request))[0]


def estimate_gas(chain: Chain, header: Header, request: CallRequest) -> int:
    """Return a gas limit that lets the call succeed, at most 1.5 % above the least.

    Raises :class:`RpcError` when no limit up to the block's does.
    """
    high = _allowance(header, request)
    _, used = _execute(chain, header, request, high)
    if _succeeds(chain, header, request, used):
        return used
    low = used  # calls keep a 64th back (EIP-150), so more is needed than is used
    while (high - low) * 66 > high:
        middle = min((low + high) // 2, low * 2)
        if _succeeds(chain, header, request, middle):
            high = middle
        else:
            low = middle
    return high


def _allowance(header: Header, request: CallRequest) -> int:
    return min(request.gas or gas_target(header), gas_target(header))


def floor_gas(data: bytes) -> int:
    """Return the least a transaction with this data pays (EIP-7623)."""
    zeros = data.count(0)
    return 21_000 + 10 * (zeros + 4 * (len(data) - zeros))


def prove(chain: Chain, header: Header, address: bytes, slots: Iterable[int]) -> Proof:
    """Return an account and its ``slots`` with Merkle proofs against the state root."""
    database: Any = chain.chaindb.db
    states = HexaryTrie(database, header.state_root)
    encoded = states[keccak(address)]
    account = rlp.decode(encoded, sedes=Account) if encoded else Account()
    storage = HexaryTrie(database, account.storage_root)
    return Proof(
        balance=account.balance,
        nonce=account.nonce,
        code_hash=account.code_hash if encoded else EMPTY_SHA3,
        storage_root=account.storage_root if encoded else BLANK_ROOT_HASH,
        nodes=_nodes(states, keccak(address)),
        slots=tuple(_prove_slot(storage, slot) for slot in slots),
    )


def _prove_slot(storage: HexaryTrie, slot: int) -> tuple[int, int, tuple[bytes, ...]]:
    key = keccak(slot.to_bytes(32, "big"))
    encoded = storage[key]
    value = rlp.decode(encoded, sedes=rlp.sedes.big_endian_int) if encoded else 0
    return slot, value, _nodes(storage, key)


def _nodes(trie: Any, key: bytes) -> tuple[bytes, ...]:
    return tuple(rlp.encode(node) for node in trie.get_proof(key))


def _succeeds(chain: Chain, header: Header, request: CallRequest, gas: int) -> bool:
    try:
        _execute(chain, header, request, gas)
    except RpcError:
        return False
    return True


def _execute(chain: Chain, header: Header, request: CallRequest, gas: int) -> tuple[bytes, int]:
    """Return output and gas used before refunds, never below the floor."""
    vm = chain.get_vm(header)
    unsigned = vm.create_unsigned_transaction(
        nonce=vm.state.get_nonce(request.sender),  # type: ignore[arg-type]
        gas_price=0,
        gas=gas,
        to=request.to,  # type: ignore[arg-type]
        value=request.value,
        data=request.data,
    )
    if gas < (needed := max(unsigned.intrinsic_gas, floor_gas(request.data))):
        raise refused(f"intrinsic gas too low: have {gas}, want {needed}")
    try:
        spoofed: Any = SpoofTransaction(unsigned, from_=request.sender)
        computation = vm.state.costless_execute_transaction(spoofed)
    except ValidationError as error:
        raise refused(str(error)) from error
    if computation.is_error:
        raise _failure(computation.error, computation.output, gas)
    return computation.output, max(gas - computation.get_gas_remaining(), needed)


def _failure(error: Exception, output: bytes, gas: int) -> RpcError:
    if isinstance(error, Revert):
        return RpcError(EXECUTION_REVERTED, _revert_message(output), "0x" + output.hex())
    kind = type(error).__name__
    return refused(f"execution failed: {kind}: {error} (gas limit {gas})")


def _revert_message(output: bytes) -> str:
    """Return the sentence Ethereum clients use, with the reason when it is plain text."""
    if output[:4] != ERROR_STRING or len(output) < 68:
        return "execution reverted"
    length = int.from_bytes(output[36:68], "big")
    return f"execution reverted: {output[68 : 68 + length].decode(errors='replace')}"
