"""Transactions that are accepted and not yet mined, and the rules to be accepted."""

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from eth.constants import SECPK1_N
from eth.vm.forks.shanghai.constants import MAX_INITCODE_SIZE
from eth_utils.exceptions import ValidationError

from .machine import Transaction, floor_gas

MAX_PENDING = 10_000
MAX_PENDING_PER_SENDER = 1_000
MAX_NONCE = 2**64 - 2
"""EIP-2681."""
SUPPORTED_TYPES = (None, 1, 2)
"""Legacy, access list (EIP-2930), dynamic fee (EIP-1559)."""

NonceOf = Callable[[bytes], int]


@dataclass(frozen=True, slots=True)
class Rules:
    """What the network asks of every transaction. ``gas_target`` is a block's room."""

    chain_id: int
    gas_target: int


@dataclass(frozen=True, slots=True)
class Sender:
    """A sender's account at the head, in wei."""

    nonce: int
    balance: int


@dataclass(frozen=True, slots=True)
class Pending:
    """An accepted transaction and its place in the order of arrival."""

    arrival: int
    transaction: Transaction


@dataclass(slots=True)
class Pool:
    """The pending transactions: by hash, and by sender and nonce."""

    by_hash: dict[bytes, Pending] = field(default_factory=dict)
    by_sender: dict[bytes, dict[int, Pending]] = field(default_factory=dict)

    def add(self, pending: Pending) -> None:
        """Take a transaction that was accepted."""
        transaction = pending.transaction
        self.by_hash[transaction.hash] = pending
        self.by_sender.setdefault(transaction.sender, {})[transaction.nonce] = pending

    def remove(self, transaction_hash: bytes) -> None:
        """Forget a transaction; one that is not here is no error."""
        pending = self.by_hash.pop(transaction_hash, None)
        if pending is None:
            return
        queue = self.by_sender[pending.transaction.sender]
        del queue[pending.transaction.nonce]
        if not queue:
            del self.by_sender[pending.transaction.sender]

    def ready(self, nonce_of: NonceOf) -> Iterator[Transaction]:
        """Return what can be mined now: in order of arrival, each sender's in order of nonce."""
        heads = [
            (first.arrival, first.transaction.nonce, sender)
            for sender, queue in self.by_sender.items()
            if (first := queue.get(nonce_of(sender)))
        ]
        heapq.heapify(heads)
        while heads:
            _, nonce, sender = heapq.heappop(heads)
            yield self.by_sender[sender][nonce].transaction
            if following := self.by_sender[sender].get(nonce + 1):
                heapq.heappush(heads, (following.arrival, nonce + 1, sender))


def why_malformed(transaction: Transaction, rules: Rules) -> str | None:
    """Return the first reason the transaction can never be valid here, whoever sends it."""
    if transaction.type_id not in SUPPORTED_TYPES:
        return f"transaction type {transaction.type_id} not supported here; use type 2"
    if transaction.chain_id is None:
        return "only replay-protected (EIP-155) transactions are taken; sign with the chain id"
    if transaction.chain_id != rules.chain_id:
        return f"invalid chain id for signer: have {transaction.chain_id}, want {rules.chain_id}"
    return _why_malformed_signature(transaction) or _why_malformed_gas(transaction, rules)


def why_refused(transaction: Transaction, sender: Sender, pool: Pool) -> str | None:
    """Return the first reason the transaction is not taken into ``pool`` now."""
    queue = pool.by_sender.get(transaction.sender, {})
    if transaction.nonce < sender.nonce:
        return f"nonce too low: next nonce {sender.nonce}, tx nonce {transaction.nonce}"
    if transaction.nonce in queue:
        return "replacement transaction underpriced: this nonce is pending, and is not replaced"
    if transaction.nonce >= sender.nonce + MAX_PENDING_PER_SENDER:
        return f"nonce too far ahead: next nonce {sender.nonce}, tx nonce {transaction.nonce}"
    cost = transaction.gas * transaction.max_fee_per_gas + transaction.value
    if cost > sender.balance:
        return f"insufficient funds for gas * price + value: have {sender.balance}, want {cost}"
    if len(pool.by_hash) >= MAX_PENDING:
        return f"txpool is full: {MAX_PENDING} transactions wait; send it again later"
    return None


def _why_malformed_signature(transaction: Transaction) -> str | None:
    if not 0 < transaction.s <= SECPK1_N // 2 or not 0 < transaction.r < SECPK1_N:
        return "invalid transaction v, r, s values"
    try:
        transaction.check_signature_validity()
        transaction.validate()
    except (ValidationError, ValueError) as error:
        if str(error) == "Insufficient gas":
            return None  # said with numbers below
        return f"invalid transaction: {error}"
    return None


def _why_malformed_gas(transaction: Transaction, rules: Rules) -> str | None:
    needed = max(transaction.intrinsic_gas, floor_gas(transaction.data))
    if transaction.gas < needed:
        return f"intrinsic gas too low: have {transaction.gas}, want {needed}"
    if transaction.gas > rules.gas_target:
        return f"exceeds block gas limit: have {transaction.gas}, a block uses {rules.gas_target}"
    if transaction.max_priority_fee_per_gas > transaction.max_fee_per_gas:
        return "max priority fee per gas higher than max fee per gas"
    if transaction.nonce > MAX_NONCE:
        return "nonce has no successor (EIP-2681)"
    if not transaction.to and len(transaction.data) > MAX_INITCODE_SIZE:
        return f"max initcode size exceeded: {len(transaction.data)}, limit {MAX_INITCODE_SIZE}"
    return None
