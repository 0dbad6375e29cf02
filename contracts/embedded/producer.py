"""The producer: the one owner of a chain's directory. Accepts transactions and makes blocks.

Not thread-safe: the server calls it from one thread. Time arrives as an argument.
"""

import fcntl
import json
import logging
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import rlp
from eth.abc import BlockAPI, BlockHeaderAPI, StateAPI
from eth.constants import BLANK_ROOT_HASH
from eth.vm.interrupt import EVMMissingData
from eth_hash.auto import keccak

from . import genesis as genesis_file
from .errors import (
    DirectoryLocked,
    DirectoryUnusable,
    GenesisInvalid,
    GenesisMismatch,
    PoisonTransaction,
    StoreCorrupted,
    refused,
)
from .genesis import Genesis
from .machine import (
    BlockBuilder,
    BuiltBlock,
    Dropped,
    Executed,
    Transaction,
    ZeroFeeChain,
    create_chain,
    decode_transaction,
    fill,
    gas_target,
    open_chain,
    state_at,
)
from .pool import Pending, Pool, Rules, Sender, why_malformed, why_refused
from .reading import Reading
from .store import Store, StoredBlock, StoredLog, StoredPending, StoredTransaction, open_store
from .views import receipt_json, receipt_logs

LOCK_NAME = "producer.lock"
MIN_BLOCK_INTERVAL = 1
"""Seconds. Timestamps are whole and must rise, so faster blocks would run ahead of the clock."""

BUILD_SECONDS = 0.8
"""How long a block takes on transactions before new ones are accepted; no rule, only manners."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Mined:
    """What one round of mining came to."""

    number: int | None
    transactions: int
    dropped: tuple[Dropped, ...]


class Producer(Reading):
    """An open chain, and the one who may add to it. Use :func:`open_producer`."""

    def __init__(self, genesis: Genesis, store: Store, chain: ZeroFeeChain, lock: IO[str]) -> None:
        super().__init__(genesis, store, chain)
        self.pool = Pool()
        self._lock = lock
        self._rules = Rules(genesis.chain_id, gas_target(self.head()))
        self._at_head: tuple[bytes, StateAPI] | None = None
        self._reload_pool()

    def close(self) -> None:
        """Close the database and let another producer have the directory."""
        self.store.close()
        self._lock.close()

    def sender(self, address: bytes, header: BlockHeaderAPI | None = None) -> Sender:
        """Return an account's nonce and balance, by default at the head; what was read there is kept."""
        if header is not None:
            return super().sender(address, header)
        state = self._head_state()
        return Sender(state.get_nonce(address), state.get_balance(address))  # type: ignore[arg-type]

    def _head_state(self) -> StateAPI:
        head = self.head()
        if self._at_head is None or self._at_head[0] != head.hash:
            self._at_head = (head.hash, state_at(self.chain, head))
        return self._at_head[1]

    # accepting

    def submit(self, raw: bytes) -> bytes:
        """Accept a signed transaction and return its hash; it is on disk when this returns.

        The same transaction again is accepted again. Raises :class:`RpcError` with the reason
        when it is refused, and :class:`StoreFull` when the disk is.
        """
        transaction = decode_transaction(raw)
        known = transaction.hash in self.pool.by_hash
        if known or self.store.transaction(transaction.hash):
            return transaction.hash
        self._require_acceptable(transaction)
        with self.store.atomically():
            arrival = self.store.put_pending(
                StoredPending(transaction.hash, raw, transaction.sender, transaction.nonce)
            )
        self.pool.add(Pending(arrival, transaction))
        return transaction.hash

    def _require_acceptable(self, transaction: Transaction) -> None:
        if reason := why_malformed(transaction, self._rules):
            raise refused(reason)
        if reason := why_refused(transaction, self.sender(transaction.sender), self.pool):
            raise refused(reason)

    def _reload_pool(self) -> None:
        for arrival, raw in self.store.pending():
            self.pool.add(Pending(arrival, decode_transaction(raw)))
        waiting = ((p.arrival, p.transaction) for p in self.pool.by_hash.values())
        with self.store.atomically():
            self.store.name_senders((arrival, each.sender, each.nonce) for arrival, each in waiting)

    # making blocks

    def ready(self) -> Iterator[Transaction]:
        """Return the transactions that can be mined now, in order."""
        return self.pool.ready(self._head_state().get_nonce)  # type: ignore[arg-type]

    def has_ready(self) -> bool:
        """Tell whether anything can be mined now."""
        return next(self.ready(), None) is not None

    def mine(self, now: int, *, empty: bool = False) -> Mined:
        """Make the next block of what is ready; without anything ready, only if ``empty``.

        ``now`` is in unix seconds; the block's time is at least one second after its parent's.
        A transaction that turns out invalid is dropped with its reason, and the rest goes on.
        """
        dropped: tuple[Dropped, ...] = ()
        while True:
            try:
                with self.store.atomically():
                    built = self._build(now, empty)
                    self._record(built)
            except PoisonTransaction as poison:
                log.error("%s", poison)  # noqa: TRY400 - the cause is in the sentence
                poisoned = Dropped(poison.transaction, poison.reason)
                self._drop([poisoned])
                dropped += (poisoned,)
            except EVMMissingData as missing:
                raise StoreCorrupted(f"a piece of the state is missing ({missing})") from missing
            else:
                self._forget(built)
                return _summary(built, dropped)

    def _build(self, now: int, empty: bool) -> BuiltBlock:
        parent = self.head()
        builder = BlockBuilder(self.chain, parent, max(now, parent.timestamp + 1))
        enough = time.monotonic() + BUILD_SECONDS
        dropped = fill(builder, self.ready(), lambda: time.monotonic() > enough)
        block = builder.seal() if builder.executed or empty else None
        return BuiltBlock(block, tuple(builder.executed), dropped)

    def _record(self, built: BuiltBlock) -> None:
        for dropped in built.dropped:
            self.store.put_dropped(dropped.hash, dropped.reason)
        if built.block is not None:
            record_block(self.store, built.block, built.executed)
            self.store.remove_pending(e.transaction.hash for e in built.executed)

    def _forget(self, built: BuiltBlock) -> None:
        for executed in built.executed:
            self.pool.remove(executed.transaction.hash)
        for dropped in built.dropped:
            log.warning("dropped transaction 0x%s: %s", dropped.hash.hex(), dropped.reason)
            self.pool.remove(dropped.hash)

    def _drop(self, dropped: Sequence[Dropped]) -> None:
        with self.store.atomically():
            for one in dropped:
                self.store.put_dropped(one.hash, one.reason)
        for one in dropped:
            self.pool.remove(one.hash)


def record_block(store: Store, block: BlockAPI, executed: Sequence[Executed]) -> None:
    """Write a block into the tables that reads are answered from."""
    transactions: list[StoredTransaction] = []
    logs: list[StoredLog] = []
    for position, one in enumerate(executed):
        receipt = receipt_json(block, one, position, len(logs))
        logs += receipt_logs(block, one, position, len(logs))
        text = json.dumps(receipt, separators=(",", ":"))
        transactions.append(StoredTransaction(one.transaction.hash, block.number, position, text))
    stored = StoredBlock(block.number, block.hash, block.header.timestamp, rlp.encode(block))
    store.put_block(stored, transactions, logs)


def create(directory: Path, genesis: Genesis) -> None:
    """Create a chain's directory with its genesis file; one that is there must be the same.

    Raises :class:`GenesisMismatch` or :class:`DirectoryUnusable`.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DirectoryUnusable(directory, str(error)) from error
    if (directory / genesis_file.FILE_NAME).exists():
        _require_same("the genesis", genesis_file.read(directory), genesis)
    else:
        genesis_file.write(directory, genesis)


def open_producer(directory: Path) -> Producer:
    """Take hold of a chain's directory and open its chain.

    Raises :class:`NoChainHere`, :class:`DirectoryLocked`, :class:`GenesisMismatch`,
    :class:`StoreCorrupted` or :class:`StoreFull`.
    """
    genesis = genesis_file.read(directory)
    lock = _lock(directory)
    try:
        store = open_store(directory)
    except BaseException:
        lock.close()
        raise
    try:
        return Producer(genesis, store, _open_or_create(genesis, store), lock)
    except BaseException:
        store.close()
        lock.close()
        raise


def _open_or_create(genesis: Genesis, store: Store) -> ZeroFeeChain:
    if (kept := store.genesis()) is None:
        return _create_in(store, genesis)
    _require_same("the genesis", _kept_genesis(kept), genesis)
    chain = open_chain(genesis, store.kv)
    _require_sound(chain, store)
    return chain


def _kept_genesis(text: str) -> Genesis:
    try:
        return genesis_file.from_json(json.loads(text))
    except (ValueError, GenesisInvalid) as error:
        raise StoreCorrupted(f"its copy of the genesis is unreadable ({error})") from error


def _create_in(store: Store, genesis: Genesis) -> ZeroFeeChain:
    with store.atomically():
        chain = create_chain(genesis, store.kv)
        record_block(store, chain.get_block_by_header(chain.get_canonical_head()), ())
        store.put_genesis(json.dumps(genesis_file.to_json(genesis)))
    return chain


def _require_sound(chain: ZeroFeeChain, store: Store) -> None:
    """Check that the machine's head, our tables and the state agree."""
    try:
        head = chain.get_canonical_head()
    except Exception as error:  # whatever a damaged value makes of the decoder
        raise StoreCorrupted(f"the head block is unreadable ({error})") from error
    stored = store.block(head.block_number)
    if stored is None or stored.hash != head.hash or store.head_number() != head.block_number:
        raise StoreCorrupted("the head block and the block table disagree")
    known = head.state_root == BLANK_ROOT_HASH or head.state_root in store.kv
    if keccak(rlp.encode(head)) != head.hash or not known:
        raise StoreCorrupted(f"the state of block {head.block_number} is missing")


def _require_same(what: str, here: Genesis, asked: Genesis) -> None:
    old, new = genesis_file.to_json(here), genesis_file.to_json(asked)
    for name in old:
        if old[name] != new[name]:
            raise GenesisMismatch(f"{name} of {what}", old[name], new[name])


def _lock(directory: Path) -> IO[str]:
    """Lock the directory for as long as the file stays open; the kernel frees it on any death."""
    try:
        lock = (directory / LOCK_NAME).open("a+")
    except OSError as error:
        raise DirectoryUnusable(directory, str(error)) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.seek(0)
        holder = lock.read().strip() or "unknown"
        lock.close()
        raise DirectoryLocked(directory, holder) from error
    _sign(lock)
    return lock


def _sign(lock: IO[str]) -> None:
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()


def _summary(built: BuiltBlock, dropped: tuple[Dropped, ...]) -> Mined:
    number = None if built.block is None else built.block.number
    return Mined(number, len(built.executed), dropped + built.dropped)
