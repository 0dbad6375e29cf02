"""JSON-RPC 2.0 over an open chain: the method table, single requests and batches.

All but the methods in :data:`WRITES` are answered from the disk, by whoever has it open.

``latest``, ``safe`` and ``finalized`` name the head: with one producer a block is final when it
is written. ``pending`` names the head too, except that ``eth_getTransactionCount`` counts the
pool. A call at ``latest`` or ``pending`` sees the clock in ``block.timestamp`` (never before the
head's), so that what expires with time is seen to expire without a new block; a call at a number
or a hash sees exactly that block.
"""

import json
import sqlite3
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import rlp
from eth.abc import BlockHeaderAPI
from eth.vm.interrupt import EVMMissingData
from eth_hash.auto import keccak

from . import genesis as genesis_file
from . import machine, params, shallow_json, views
from .errors import (
    DISK_FULL,
    INTERNAL_ERROR,
    INVALID_REQUEST,
    LIMIT_EXCEEDED,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    EmbeddedChainError,
    RpcError,
    StoreFull,
    invalid_params,
    refused,
)
from .machine import CallRequest
from .params import LATEST, AtHash, AtNumber, AtTag, BlockRef, LogRequest
from .producer import Producer, log
from .reading import Reading
from .store import LogFilter, StoredBlock

MAX_BODY_BYTES = 5 * 1024 * 1024
MAX_BATCH = 1_000
MAX_LOGS = 10_000
MAX_FEE_HISTORY = 1_024

Clock = Callable[[], float]
"""Unix seconds."""


def client_version() -> str:
    """Return this program's name and version, and the machine's."""
    return f"sealtrace-embedded/{version('sealtrace')}/py-evm-{version('py-evm')}"


@dataclass(frozen=True, slots=True)
class Context:
    """What a method works on."""

    chain: Reading
    clock: Clock = time.time

    def resolve(self, ref: BlockRef) -> BlockHeaderAPI:
        """Return the header of a block that must exist; raises :class:`RpcError`."""
        header = self.find(ref)
        if header is None:
            raise refused(f"header not found: {ref}")
        return header

    def find(self, ref: BlockRef) -> BlockHeaderAPI | None:
        """Return the header of a block, or ``None``."""
        match ref:
            case AtTag("earliest"):
                return self.chain.header(0)
            case AtTag():
                return self.chain.head()
            case AtNumber(number):
                return self.chain.header(number) if number < 2**63 else None
            case AtHash(block_hash):
                found = self.chain.store.number_of(block_hash)
                return None if found is None else self.chain.header(found)

    def executing(self, ref: BlockRef) -> BlockHeaderAPI:
        """Return the header a call at ``ref`` executes under."""
        header = self.resolve(ref)
        if ref not in (LATEST, AtTag("pending")):
            return header
        return header.copy(timestamp=max(int(self.clock()), header.timestamp))


# network


def _client_version(context: Context) -> str:
    return client_version()


def _net_version(context: Context) -> str:
    return str(context.chain.genesis.chain_id)


def _listening(context: Context) -> bool:
    return True


def _zero(context: Context) -> str:
    return "0x0"


def _one(context: Context) -> str:
    return "0x1"  # the least EIP-4844 knows; no blobs are taken here


def _none_here(context: Context) -> list[str]:
    return []


def _not_syncing(context: Context) -> bool:
    return False


def _chain_id(context: Context) -> str:
    return views.quantity(context.chain.genesis.chain_id)


def _block_number(context: Context) -> str:
    return views.quantity(context.chain.head().block_number)


def _fee_history(
    context: Context, count: int, newest: BlockRef, percentiles: tuple[float, ...] | None = None
) -> views.Json:
    last = context.resolve(newest).block_number
    first = max(0, last - min(count, MAX_FEE_HISTORY) + 1)
    headers = [context.resolve(AtNumber(n)) for n in range(first, last + 1)]
    history: views.Json = {
        "oldestBlock": views.quantity(first),
        "baseFeePerGas": ["0x0"] * (len(headers) + 1),
        "gasUsedRatio": [header.gas_used / header.gas_limit for header in headers],
    }
    rewards = [["0x0"] * len(percentiles or ())] * len(headers)
    return history | ({"reward": rewards} if percentiles else {})


# state


def _balance(context: Context, address: bytes, ref: BlockRef = LATEST) -> str:
    return views.quantity(context.chain.sender(address, context.resolve(ref)).balance)


def _transaction_count(context: Context, address: bytes, ref: BlockRef = LATEST) -> str:
    if ref == AtTag("pending"):
        return views.quantity(context.chain.next_nonce(address))
    return views.quantity(context.chain.sender(address, context.resolve(ref)).nonce)


def _code(context: Context, address: bytes, ref: BlockRef = LATEST) -> str:
    state = machine.state_at(context.chain.chain, context.resolve(ref))
    return views.data(state.get_code(address))  # type: ignore[arg-type]


def _storage_at(context: Context, address: bytes, slot: int, ref: BlockRef = LATEST) -> str:
    state = machine.state_at(context.chain.chain, context.resolve(ref))
    return views.data(views.word(state.get_storage(address, slot)))  # type: ignore[arg-type]


def _proof(context: Context, address: bytes, slots: tuple[int, ...], ref: BlockRef = LATEST) -> views.Json:
    header = context.resolve(ref)
    proof = machine.prove(context.chain.chain, header, address, slots)
    return views.proof_json(address, proof)


def _call(context: Context, request: CallRequest, ref: BlockRef = LATEST) -> str:
    return views.data(machine.call(context.chain.chain, context.executing(ref), request))


def _estimate_gas(context: Context, request: CallRequest, ref: BlockRef = LATEST) -> str:
    header = context.executing(ref)
    return views.quantity(machine.estimate_gas(context.chain.chain, header, request))


# transactions


def _send_raw_transaction(context: Context, raw: bytes) -> str:
    if not isinstance(context.chain, Producer):
        raise RpcError(INTERNAL_ERROR, "internal error: a reader was given a transaction")
    return views.data(context.chain.submit(raw))


def _transaction_by_hash(context: Context, transaction_hash: bytes) -> views.Json | None:
    if pending := context.chain.pending(transaction_hash):
        return views.transaction_json(pending)
    if (place := context.chain.store.transaction(transaction_hash)) is None:
        return None
    found = context.chain.block(place.number)
    if found is None:
        return None
    transaction = found[0].transactions[place.position]
    return views.transaction_json(transaction, (found[0].header, place.position))


def _receipt(context: Context, transaction_hash: bytes) -> views.Json | None:
    place = context.chain.store.transaction(transaction_hash)
    return None if place is None else json.loads(place.receipt)


def _health(context: Context) -> views.Json:
    """Return what ``GET /`` shows."""
    head = context.chain.head()
    return {
        "chainId": context.chain.genesis.chain_id,
        "head": {"number": head.block_number, "hash": head.hex_hash, "time": head.timestamp},
        "pending": context.chain.store.pending_count(),
        "clientVersion": client_version(),
    }


def _dropped(context: Context, transaction_hash: bytes) -> str | None:
    return context.chain.store.dropped_reason(transaction_hash)


def _transaction_at(context: Context, ref: BlockRef, position: int) -> views.Json | None:
    header = context.find(ref)
    found = None if header is None else context.chain.block(header.block_number)
    if found is None or position >= len(found[0].transactions):
        return None
    return views.transaction_json(found[0].transactions[position], (found[0].header, position))


def _transaction_at_hash(context: Context, block_hash: bytes, position: int) -> views.Json | None:
    return _transaction_at(context, AtHash(block_hash), position)


def _raw_transaction(context: Context, transaction_hash: bytes) -> str | None:
    if pending := context.chain.pending(transaction_hash):
        return views.data(pending.encode())
    if (place := context.chain.store.transaction(transaction_hash)) is None:
        return None
    found = context.chain.block(place.number)
    return None if found is None else views.data(found[0].transactions[place.position].encode())


def _pool_status(context: Context) -> views.Json:
    return {"pending": views.quantity(context.chain.store.pending_count()), "queued": "0x0"}


# blocks


def _block(context: Context, ref: BlockRef, full: bool) -> views.Json | None:
    header = context.find(ref)
    found = None if header is None else context.chain.block(header.block_number)
    return None if found is None else views.block_json(*found, full=full)


def _block_by_hash(context: Context, block_hash: bytes, full: bool) -> views.Json | None:
    return _block(context, AtHash(block_hash), full)


def _count(context: Context, ref: BlockRef) -> str | None:
    header = context.find(ref)
    if header is None:
        return None
    return views.quantity(len(context.chain.store.receipts(header.block_number)))


def _count_by_hash(context: Context, block_hash: bytes) -> str | None:
    return _count(context, AtHash(block_hash))


def _block_receipts(context: Context, ref: BlockRef) -> list[views.Json] | None:
    header = context.find(ref)
    if header is None:
        return None
    return [json.loads(text) for text in context.chain.store.receipts(header.block_number)]


def _raw_block(context: Context, ref: BlockRef) -> str:
    return views.data(_stored(context, ref).raw)


def _raw_header(context: Context, ref: BlockRef) -> str:
    return views.data(rlp.encode(context.resolve(ref)))


def _raw_receipts(context: Context, ref: BlockRef) -> list[str]:
    block = context.chain.block(context.resolve(ref).block_number)
    if block is None:
        raise refused(f"header not found: {ref}")
    return [views.data(receipt.encode()) for receipt in block[0].get_receipts(context.chain.chain.chaindb)]


def _no_uncles(context: Context, ref: BlockRef) -> str | None:
    return None if context.find(ref) is None else "0x0"


def _no_uncles_by_hash(context: Context, block_hash: bytes) -> str | None:
    return _no_uncles(context, AtHash(block_hash))


def _no_uncle(context: Context, ref: BlockRef, position: int) -> None:
    return None


def _no_uncle_by_hash(context: Context, block_hash: bytes, position: int) -> None:
    return None


def _genesis(context: Context) -> views.Json:
    return genesis_file.to_json(context.chain.genesis)


def _stored(context: Context, ref: BlockRef) -> StoredBlock:
    stored = context.chain.store.block(context.resolve(ref).block_number)
    if stored is None:
        raise refused(f"header not found: {ref}")
    return stored


# logs


def _logs(context: Context, request: LogRequest) -> list[views.Json]:
    first, last = _height(context, request.first), _height(context, request.last)
    if first > last and AtTag not in (type(request.first), type(request.last)):
        raise invalid_params(f"fromBlock {first} is after toBlock {last}")
    wanted = LogFilter(first, last, request.addresses, request.topics)
    found = context.chain.store.logs(wanted, MAX_LOGS + 1)
    if len(found) > MAX_LOGS:
        raise RpcError(LIMIT_EXCEEDED, _too_many(first, found[-1][0].number))
    return [views.log_json(*one) for one in found]


def _too_many(first: int, exceeded: int) -> str:
    advice = (
        f"blocks {first} to {exceeded - 1} fit: ask for them, then go on from {exceeded}"
        if exceeded > first
        else f"already in block {first}: filter by address or topic"
    )
    return f"query returned more than {MAX_LOGS} results; {advice}"


def _height(context: Context, ref: BlockRef) -> int:
    """Return the height a range ends at; a number beyond the head is taken as it is."""
    if isinstance(ref, AtNumber):
        return min(ref.number, 2**63 - 1)
    return context.resolve(ref).block_number


# the table

Handler = Callable[..., Any]
Decoder = Callable[[object], Any]


@dataclass(frozen=True, slots=True)
class Method:
    """A method: what answers it, how each parameter is decoded, and how many it must have."""

    handler: Handler
    decoders: Sequence[Decoder] = ()
    required: int = 0

    def __call__(self, context: Context, given: object) -> Any:
        """Decode the parameters strictly and answer; raises :class:`RpcError`."""
        if not isinstance(given, list):
            raise invalid_params("params must be a list")
        if not self.required <= len(given) <= len(self.decoders):
            raise invalid_params(
                f"expected {self.required} to {len(self.decoders)} parameters, got {len(given)}"
            )
        decoded = [decode(value) for decode, value in zip(self.decoders, given, strict=False)]
        return self.handler(context, *decoded)


_REF, _ADDRESS, _HASH = params.block_ref, params.address, params.hash32

METHODS: dict[str, Method] = {
    "web3_clientVersion": Method(_client_version),
    "web3_sha3": Method(lambda _, content: views.data(keccak(content)), (params.hex_data,), 1),
    "net_version": Method(_net_version),
    "net_listening": Method(_listening),
    "net_peerCount": Method(_zero),
    "eth_chainId": Method(_chain_id),
    "eth_accounts": Method(_none_here),
    "eth_blockNumber": Method(_block_number),
    "eth_syncing": Method(_not_syncing),
    "eth_gasPrice": Method(_zero),
    "eth_maxPriorityFeePerGas": Method(_zero),
    "eth_blobBaseFee": Method(_one),
    "eth_feeHistory": Method(_fee_history, (params.count, params.number_or_tag, params.percentiles), 2),
    "eth_getBalance": Method(_balance, (_ADDRESS, _REF), 1),
    "eth_getTransactionCount": Method(_transaction_count, (_ADDRESS, _REF), 1),
    "eth_getCode": Method(_code, (_ADDRESS, _REF), 1),
    "eth_getStorageAt": Method(_storage_at, (_ADDRESS, params.slot, _REF), 2),
    "eth_getProof": Method(_proof, (_ADDRESS, params.slots, _REF), 2),
    "eth_call": Method(_call, (params.call_request, _REF), 1),
    "eth_estimateGas": Method(_estimate_gas, (params.call_request, _REF), 1),
    "eth_sendRawTransaction": Method(_send_raw_transaction, (params.hex_data,), 1),
    "eth_getTransactionByHash": Method(_transaction_by_hash, (_HASH,), 1),
    "eth_getTransactionByBlockNumberAndIndex": Method(
        _transaction_at, (params.number_or_tag, params.quantity), 2
    ),
    "eth_getTransactionByBlockHashAndIndex": Method(_transaction_at_hash, (_HASH, params.quantity), 2),
    "eth_getRawTransactionByHash": Method(_raw_transaction, (_HASH,), 1),
    "eth_getTransactionReceipt": Method(_receipt, (_HASH,), 1),
    "eth_getBlockByNumber": Method(_block, (params.number_or_tag, params.flag), 2),
    "eth_getBlockByHash": Method(_block_by_hash, (_HASH, params.flag), 2),
    "eth_getBlockTransactionCountByNumber": Method(_count, (params.number_or_tag,), 1),
    "eth_getBlockTransactionCountByHash": Method(_count_by_hash, (_HASH,), 1),
    "eth_getUncleCountByBlockNumber": Method(_no_uncles, (params.number_or_tag,), 1),
    "eth_getUncleCountByBlockHash": Method(_no_uncles_by_hash, (_HASH,), 1),
    "eth_getUncleByBlockNumberAndIndex": Method(_no_uncle, (params.number_or_tag, params.quantity), 2),
    "eth_getUncleByBlockHashAndIndex": Method(_no_uncle_by_hash, (_HASH, params.quantity), 2),
    "eth_getBlockReceipts": Method(_block_receipts, (_REF,), 1),
    "eth_getLogs": Method(_logs, (params.log_request,), 1),
    "debug_getRawBlock": Method(_raw_block, (_REF,), 1),
    "debug_getRawHeader": Method(_raw_header, (_REF,), 1),
    "debug_getRawReceipts": Method(_raw_receipts, (_REF,), 1),
    "debug_getRawTransaction": Method(_raw_transaction, (_HASH,), 1),
    "txpool_status": Method(_pool_status),
    "sealtrace_genesis": Method(_genesis),
    "sealtrace_health": Method(_health),
    "sealtrace_droppedReason": Method(_dropped, (_HASH,), 1),
}


_SIGN_YOURSELF = "this chain holds no keys; sign the transaction yourself and use eth_sendRawTransaction"
_ASK_AGAIN = "nothing is kept between requests here; ask eth_getLogs for the blocks since your last one"
_RUN_AGAIN = (
    "nothing is traced here; execute the blocks again with the genesis file (`sealtrace chain verify`)"
)
NOT_HERE: Mapping[str, str] = {
    **dict.fromkeys(
        ("eth_sendTransaction", "eth_signTransaction", "eth_sign", "personal_sign"), _SIGN_YOURSELF
    ),
    **dict.fromkeys(
        (
            "eth_subscribe",
            "eth_unsubscribe",
            "eth_newFilter",
            "eth_newBlockFilter",
            "eth_newPendingTransactionFilter",
            "eth_getFilterChanges",
            "eth_getFilterLogs",
            "eth_uninstallFilter",
        ),
        _ASK_AGAIN,
    ),
    **dict.fromkeys(
        ("debug_traceTransaction", "debug_traceCall", "debug_traceBlockByNumber", "debug_traceBlockByHash"),
        _RUN_AGAIN,
    ),
}
"""What Ethereum clients may ask for and this chain does not do, each with what to do instead."""

WRITES = frozenset({"eth_sendRawTransaction"})
"""What only the producer answers."""
EXECUTIONS = frozenset({"eth_call", "eth_estimateGas"})
"""What takes as long as whoever asks wants it to."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The requests of one HTTP body, each still to be checked."""

    requests: list[object]
    is_batch: bool


def read_body(body: bytes) -> Asked:
    """Return the requests of an HTTP body; raises :class:`RpcError` when it holds none, or too many."""
    try:
        content = shallow_json.loads(body)
    except ValueError as error:
        raise RpcError(PARSE_ERROR, f"parse error: {error}") from error
    if not isinstance(content, list):
        return Asked([content], is_batch=False)
    if not 0 < len(content) <= MAX_BATCH:
        problem = f"a batch has 1 to {MAX_BATCH} requests, this one {len(content)}"
        raise RpcError(INVALID_REQUEST, problem)
    return Asked(content, is_batch=True)


def write_body(asked: Asked, answers: Sequence[bytes]) -> bytes | None:
    """Return the HTTP body of the answers (empty for notifications); ``None`` when there is none."""
    given = [answer for answer in answers if answer]
    if not given:
        return None
    return b"[" + b",".join(given) + b"]" if asked.is_batch else given[0]


def is_one_of(methods: Collection[str], request: object) -> bool:
    """Tell whether a request, well formed or not, is for one of ``methods``."""
    return isinstance(request, dict) and request.get("method") in methods


def answer(context: Context, request: object) -> bytes:
    """Answer one request in JSON; empty for a notification."""
    answer = answer_request(context, request)
    return b"" if answer is None else _encode(answer)


def error_answer(request: object, error: RpcError) -> bytes:
    """Return the answer to a request that ended before it was answered; empty for a notification."""
    if isinstance(request, dict) and "id" not in request:
        return b""
    return _encode(_error(request.get("id") if isinstance(request, dict) else None, error))


def answer_body(context: Context, body: bytes) -> bytes | None:
    """Answer one HTTP body: a request or a batch; ``None`` when only notifications came."""
    try:
        asked = read_body(body)
    except RpcError as error:
        return error_answer(None, error)
    return write_body(asked, [answer(context, request) for request in asked.requests])


def answer_request(context: Context, request: object) -> views.Json | None:
    """Answer one request; ``None`` for a notification (a request without an id)."""
    if not isinstance(request, dict):
        return _error(None, RpcError(INVALID_REQUEST, "invalid request: not an object"))
    if problem := _why_no_request(request):
        return _error(None, RpcError(INVALID_REQUEST, f"invalid request: {problem}"))
    identity = request.get("id")
    try:
        result = _dispatch(context, request["method"], request.get("params", []))
    except RpcError as error:
        answer = _error(identity, error)
    else:
        answer = {"jsonrpc": "2.0", "id": identity, "result": result}
    return answer if "id" in request else None


def _dispatch(context: Context, name: str, given: object) -> object:
    method = METHODS.get(name)
    if method is None:
        instead = NOT_HERE.get(name, "docs/embedded.md lists those that do")
        raise RpcError(METHOD_NOT_FOUND, f"the method {name[:80]} does not exist here: {instead}")
    try:
        return method(context, given)
    except RpcError:
        raise
    except StoreFull as error:
        raise RpcError(DISK_FULL, str(error)) from error
    except (EmbeddedChainError, sqlite3.Error, EVMMissingData) as error:
        log.error("%s failed: %s", name, error)
        raise RpcError(INTERNAL_ERROR, f"internal error: {error}") from error
    except Exception as error:
        log.exception("%s failed", name)
        kind = type(error).__name__
        raise RpcError(INTERNAL_ERROR, f"internal error ({kind}); see the producer's log") from error


def _why_no_request(request: dict[str, object]) -> str | None:
    if request.get("jsonrpc") != "2.0":
        return 'jsonrpc must be "2.0"'
    if not isinstance(request.get("method"), str):
        return "method must be a string"
    if not isinstance(request.get("id"), str | int | float | None):
        return "id must be a string, a number or null"
    return None


def _error(identity: object, error: RpcError) -> views.Json:
    shown: views.Json = {"code": error.code, "message": error.message}
    if error.data is not None:
        shown["data"] = error.data
    return {"jsonrpc": "2.0", "id": identity, "error": shown}


def _encode(answer: object) -> bytes:
    return json.dumps(answer, separators=(",", ":")).encode()
