"""Blocks, transactions, receipts and logs as Ethereum's JSON-RPC shows them."""

from typing import Any

from eth._utils.address import generate_contract_address
from eth.abc import BlockAPI, BlockHeaderAPI, LogAPI

from .machine import Executed, Proof, Transaction
from .store import StoredBlock, StoredLog

Json = dict[str, Any]


def quantity(number: int) -> str:
    """Return a number as JSON-RPC writes it: hex without leading zeros."""
    return hex(number)


def data(content: bytes) -> str:
    """Return bytes as JSON-RPC writes them."""
    return "0x" + content.hex()


def word(number: int) -> bytes:
    """Return a 256-bit number as 32 bytes."""
    return number.to_bytes(32, "big")


def header_json(header: BlockHeaderAPI) -> Json:
    """Return every field of a Prague header, so that its hash can be recomputed."""
    prague: Any = header  # py-evm types the later forks' fields as optional
    return {
        "parentHash": data(header.parent_hash),
        "sha3Uncles": data(header.uncles_hash),
        "miner": data(header.coinbase),
        "stateRoot": data(header.state_root),
        "transactionsRoot": data(header.transaction_root),
        "receiptsRoot": data(header.receipt_root),
        "logsBloom": data(header.bloom.to_bytes(256, "big")),
        "difficulty": quantity(header.difficulty),
        "number": quantity(header.block_number),
        "gasLimit": quantity(header.gas_limit),
        "gasUsed": quantity(header.gas_used),
        "timestamp": quantity(header.timestamp),
        "extraData": data(header.extra_data),
        "mixHash": data(header.mix_hash),
        "nonce": data(header.nonce),
        "baseFeePerGas": quantity(prague.base_fee_per_gas),
        "withdrawalsRoot": data(prague.withdrawals_root),
        "blobGasUsed": quantity(prague.blob_gas_used),
        "excessBlobGas": quantity(prague.excess_blob_gas),
        "parentBeaconBlockRoot": data(prague.parent_beacon_block_root),
        "requestsHash": data(prague.requests_hash),
        "hash": data(header.hash),
    }


def block_json(block: BlockAPI, stored: StoredBlock, *, full: bool) -> Json:
    """Return a block, with whole transactions or only their hashes."""
    shown = [
        transaction_json(transaction, (block.header, position)) if full else data(transaction.hash)
        for position, transaction in enumerate(block.transactions)
    ]
    rest = {"size": quantity(len(stored.raw)), "uncles": [], "withdrawals": []}
    return {**header_json(block.header), **rest, "transactions": shown}


def transaction_json(transaction: Transaction, place: tuple[BlockHeaderAPI, int] | None = None) -> Json:
    """Return a transaction; without ``place`` it is pending."""
    shown: Json = {
        **_place_json(place),
        "hash": data(transaction.hash),
        "type": quantity(transaction.type_id or 0),
        "chainId": quantity(transaction.chain_id or 0),
        "from": data(transaction.sender),
        "to": data(transaction.to) if transaction.to else None,
        "nonce": quantity(transaction.nonce),
        "gas": quantity(transaction.gas),
        "gasPrice": quantity(effective_gas_price(transaction)),
        "value": quantity(transaction.value),
        "input": data(transaction.data),
        "r": quantity(transaction.r),
        "s": quantity(transaction.s),
    }
    return shown | _of_its_type(transaction)


def effective_gas_price(transaction: Transaction) -> int:
    """Return what a unit of gas costs the sender, in wei; the base fee is always 0."""
    return min(transaction.max_fee_per_gas, transaction.max_priority_fee_per_gas)


def receipt_json(block: BlockAPI, executed: Executed, position: int, first_log: int) -> Json:
    """Return a receipt. ``revertReason`` (as Besu has it) keeps a failed call's error data."""
    transaction, receipt = executed.transaction, executed.receipt
    logs = receipt_logs(block, executed, position, first_log)
    shown: Json = {
        "transactionHash": data(transaction.hash),
        "transactionIndex": quantity(position),
        "blockHash": data(block.hash),
        "blockNumber": quantity(block.number),
        "from": data(transaction.sender),
        "to": data(transaction.to) if transaction.to else None,
        "contractAddress": _created(transaction),
        "cumulativeGasUsed": quantity(receipt.gas_used),
        "gasUsed": quantity(executed.gas_used),
        "effectiveGasPrice": quantity(effective_gas_price(transaction)),
        "type": quantity(transaction.type_id or 0),
        "status": quantity(len(receipt.state_root)),  # EIP-658: 0x01 or empty
        "logsBloom": data(receipt.bloom.to_bytes(256, "big")),
        "logs": [log_json(log, block.hash, block.header.timestamp) for log in logs],
    }
    return shown | ({"revertReason": data(executed.output)} if executed.output else {})


def receipt_logs(block: BlockAPI, executed: Executed, position: int, first_log: int) -> list[StoredLog]:
    """Return a receipt's logs with their places in the block."""
    return [
        _stored(log, block.number, executed.transaction.hash, position, first_log + i)
        for i, log in enumerate(executed.receipt.logs)
    ]


def log_json(log: StoredLog, block_hash: bytes, timestamp: int) -> Json:
    """Return a log; ``timestamp`` is its block's, in unix seconds."""
    return {
        "address": data(log.address),
        "topics": [data(topic) for topic in log.topics],
        "data": data(log.data),
        "blockNumber": quantity(log.number),
        "blockHash": data(block_hash),
        "blockTimestamp": quantity(timestamp),
        "transactionHash": data(log.transaction),
        "transactionIndex": quantity(log.transaction_position),
        "logIndex": quantity(log.position),
        "removed": False,
    }


def proof_json(address: bytes, proof: Proof) -> Json:
    """Return an account proof as EIP-1186 has it."""
    return {
        "address": data(address),
        "balance": quantity(proof.balance),
        "nonce": quantity(proof.nonce),
        "codeHash": data(proof.code_hash),
        "storageHash": data(proof.storage_root),
        "accountProof": [data(node) for node in proof.nodes],
        "storageProof": [
            {"key": data(word(slot)), "value": quantity(value), "proof": [data(n) for n in nodes]}
            for slot, value, nodes in proof.slots
        ],
    }


def _place_json(place: tuple[BlockHeaderAPI, int] | None) -> Json:
    if place is None:
        return {"blockHash": None, "blockNumber": None, "transactionIndex": None}
    header, position = place
    return {
        "blockHash": data(header.hash),
        "blockNumber": quantity(header.block_number),
        "transactionIndex": quantity(position),
    }


def _of_its_type(transaction: Transaction) -> Json:
    if transaction.type_id is None:
        return {"v": quantity(transaction.v)}  # type: ignore[attr-defined]
    shown: Json = {
        "v": quantity(transaction.y_parity),
        "yParity": quantity(transaction.y_parity),
        "accessList": [
            {"address": data(account), "storageKeys": [data(word(key)) for key in keys]}
            for account, keys in transaction.access_list
        ],
    }
    if transaction.type_id == 2:
        shown["maxFeePerGas"] = quantity(transaction.max_fee_per_gas)
        shown["maxPriorityFeePerGas"] = quantity(transaction.max_priority_fee_per_gas)
    return shown


def _created(transaction: Transaction) -> str | None:
    if transaction.to:
        return None
    return data(generate_contract_address(transaction.sender, transaction.nonce))


def _stored(log: LogAPI, number: int, transaction: bytes, place: int, position: int) -> StoredLog:
    topics = tuple(word(topic) for topic in log.topics)
    return StoredLog(number, position, transaction, place, log.address, topics, log.data)
