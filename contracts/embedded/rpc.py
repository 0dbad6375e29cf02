"""JSON-RPC 2.0 over a producer: the method table, single requests and batches.

``latest``, ``safe`` and ``finalized`` name the head: with one producer a block is final when it
is written. ``pending`` names the head too, except that ``eth_getTransactionCount`` counts the
pool. A call at ``latest`` or ``pending`` sees the clock in ``block.timestamp`` (never before the
head's), so that what expires with time is seen to expire without a new block; a call at a number
or a hash sees exactly that block.
"""

import json
import sqlite3
import time
from collections.abc import Callable, Sequence
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

    producer: Producer
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
                return self.producer.header(0)
            case AtTag():
                return self.producer.head()
            case AtNumber(number):
                return self.producer.header(number) if number < 2**63 else None
            case AtHash(block_hash):
                found = self.producer.store.number_of(block_hash)
                return None if found is None else self.producer.header(found)

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
    return str(context.producer.genesis.chain_id)


def _listening(context: Context) -> bool:
    return True


def _zero(context: Context) -> str:
    return "0x0"


def _none_here(context: Context) -> list[str]:
    return []


def _not_syncing(context: Context) -> bool:
    return False


def _chain_id(context: Context) -> str:
    return views.quantity(context.producer.genesis.chain_id)


def _block_number(context: Context) -> str:
    return views.quantity(context.producer.head().block_number)


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
    return views.quantity(context.producer.sender(address, context.resolve(ref)).balance)


def _transaction_count(context: Context, address: bytes, ref: BlockRef = LATEST) -> str:
    if ref == AtTag("pending"):
        return views.quantity(context.producer.next_nonce(address))
    return views.quantity(context.producer.sender(address, context.resolve(ref)).nonce)


def _code(context: Context, address: bytes, ref: BlockRef = LATEST) -> str:
    state = machine.state_at(context.producer.chain, context.resolve(ref))
    return views.data(state.get_code(address))  # type: ignore[arg-type]


def _storage_at(context: Context, address: bytes, slot: int, ref: BlockRef = LATEST) -> str:
    state = machine.state_at(context.producer.chain, context.resolve(ref))
    return views.data(views.word(state.get_storage(address, slot)))  # type: ignore[arg-type]


def _proof(context: Context, address: bytes, slots: tuple[int, ...], ref: BlockRef = LATEST) -> views.Json:
    header = context.resolve(ref)
    proof = machine.prove(context.producer.chain, header, address, slots)
    return views.proof_json(address, proof)


def _call(context: Context, request: CallRequest, ref: BlockRef = LATEST) -> str:
    return views.data(machine.call(context.producer.chain, context.executing(ref), request))


def _estimate_gas(context: Context, request: CallRequest, ref: BlockRef = LATEST) -> str:
    header = context.executing(ref)
    return views.quantity(machine.estimate_gas(context.producer.chain, header, request))


# transactions


def _send_raw_transaction(context: Context, raw: bytes) -> str:
    return views.data(context.producer.submit(raw))


def _transaction_by_hash(context: Context, transaction_hash: bytes) -> views.Json | None:
    if pending := context.producer.pool.by_hash.get(transaction_hash):
        return views.transaction_json(pending.transaction)
    if (place := context.producer.store.transaction(transaction_hash)) is None:
        return None
    found = context.producer.block(place.number)
    if found is None:
        return None
    transaction = found[0].transactions[place.position]
    return views.transaction_json(transaction, (found[0].header, place.position))


def _receipt(context: Context, transaction_hash: bytes) -> views.Json | None:
    place = context.producer.store.transaction(transaction_hash)
    return None if place is None else json.loads(place.receipt)


def _dropped(context: Context, transaction_hash: bytes) -> str | None:
    return context.producer.store.dropped_reason(transaction_hash)


# blocks


def _block(context: Context, ref: BlockRef, full: bool) -> views.Json | None:
    header = context.find(ref)
    found = None if header is None else context.producer.block(header.block_number)
    return None if found is None else views.block_json(*found, full=full)


def _block_by_hash(context: Context, block_hash: bytes, full: bool) -> views.Json | None:
    return _block(context, AtHash(block_hash), full)


def _count(context: Context, ref: BlockRef) -> str | None:
    header = context.find(ref)
    if header is None:
        return None
    return views.quantity(len(context.producer.store.receipts(header.block_number)))


def _count_by_hash(context: Context, block_hash: bytes) -> str | None:
    return _count(context, AtHash(block_hash))


def _block_receipts(context: Context, ref: BlockRef) -> list[views.Json] | None:
    header = context.find(ref)
    if header is None:
        return None
    return [json.loads(text) for text in context.producer.store.receipts(header.block_number)]


def _raw_block(context: Context, ref: BlockRef) -> str:
    return views.data(_stored(context, ref).raw)


def _raw_header(context: Context, ref: BlockRef) -> str:
    return views.data(rlp.encode(context.resolve(ref)))


def _genesis(context: Context) -> views.Json:
    return genesis_file.to_json(context.producer.genesis)


def _stored(context: Context, ref: BlockRef) -> StoredBlock:
    stored = context.producer.store.block(context.resolve(ref).block_number)
    if stored is None:
        raise refused(f"header not found: {ref}")
    return stored


# logs


def _logs(context: Context, request: LogRequest) -> list[views.Json]:
    first, last = _height(context, request.first), _height(context, request.last)
    if first > last and AtTag not in (type(request.first), type(request.last)):
        raise invalid_params(f"fromBlock {first} is after toBlock {last}")
    wanted = LogFilter(first, last, request.addresses, request.topics)
    found = context.producer.store.logs(wanted, MAX_LOGS + 1)
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
    "eth_getTransactionReceipt": Method(_receipt, (_HASH,), 1),
    "eth_getBlockByNumber": Method(_block, (params.number_or_tag, params.flag), 2),
    "eth_getBlockByHash": Method(_block_by_hash, (_HASH, params.flag), 2),
    "eth_getBlockTransactionCountByNumber": Method(_count, (params.number_or_tag,), 1),
    "eth_getBlockTransactionCountByHash": Method(_count_by_hash, (_HASH,), 1),
    "eth_getBlockReceipts": Method(_block_receipts, (_REF,), 1),
    "eth_getLogs": Method(_logs, (params.log_request,), 1),
    "debug_getRawBlock": Method(_raw_block, (_REF,), 1),
    "debug_getRawHeader": Method(_raw_header, (_REF,), 1),
    "sealtrace_genesis": Method(_genesis),
    "sealtrace_droppedReason": Method(_dropped, (_HASH,), 1),
}


def answer_body(context: Context, body: bytes) -> bytes | None:
    """Answer one HTTP body: a request or a batch; ``None`` when only notifications came."""
    try:
        content = shallow_json.loads(body)
    except ValueError as error:
        return _encode(_error(None, RpcError(PARSE_ERROR, f"parse error: {error}")))
    if not isinstance(content, list):
        answer = answer_request(context, content)
        return None if answer is None else _encode(answer)
    if not 0 < len(content) <= MAX_BATCH:
        problem = f"a batch has 1 to {MAX_BATCH} requests, this one {len(content)}"
        return _encode(_error(None, RpcError(INVALID_REQUEST, problem)))
    answers = [a for request in content if (a := answer_request(context, request)) is not None]
    return _encode(answers) if answers else None


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
        raise RpcError(METHOD_NOT_FOUND, f"the method {name[:80]} does not exist here")
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
