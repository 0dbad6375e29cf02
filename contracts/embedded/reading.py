"""What a chain holds, read from its directory: by its producer, and by any number of readers beside it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from eth.abc import BlockAPI, BlockHeaderAPI
from eth.exceptions import HeaderNotFound

from . import genesis as genesis_file
from .genesis import Genesis
from .machine import Transaction, ZeroFeeChain, decode_block, decode_transaction, open_chain, state_at
from .pool import Sender
from .store import Store, StoredBlock, open_copy


class Reading:
    """An open chain. Every answer comes from the disk, so all who read it give the same."""

    def __init__(self, genesis: Genesis, store: Store, chain: ZeroFeeChain) -> None:
        self.genesis = genesis
        self.store = store
        self.chain = chain

    def head(self) -> BlockHeaderAPI:
        """Return the header of the latest block."""
        return self.chain.get_canonical_head()

    def header(self, number: int) -> BlockHeaderAPI | None:
        """Return the header at this height, if there is one."""
        try:
            return self.chain.get_canonical_block_header_by_number(number)  # type: ignore[arg-type]
        except HeaderNotFound:
            return None

    def block(self, number: int) -> tuple[BlockAPI, StoredBlock] | None:
        """Return the block at this height, decoded and as stored."""
        stored = self.store.block(number)
        return None if stored is None else (decode_block(stored.raw), stored)

    def sender(self, address: bytes, header: BlockHeaderAPI | None = None) -> Sender:
        """Return an account's nonce and balance, by default at the head."""
        state = state_at(self.chain, header or self.head())
        return Sender(state.get_nonce(address), state.get_balance(address))  # type: ignore[arg-type]

    def next_nonce(self, address: bytes) -> int:
        """Return the nonce of an account's next transaction, pending ones counted."""
        free = self.sender(address).nonce
        for nonce in self.store.pending_nonces(address):
            if nonce > free:
                break
            free += nonce == free
        return free

    def pending(self, transaction_hash: bytes) -> Transaction | None:
        """Return an accepted transaction that waits for its block."""
        raw = self.store.pending_raw(transaction_hash)
        return None if raw is None else decode_transaction(raw)


@contextlib.contextmanager
def open_reading(directory: Path) -> Iterator[Reading]:
    """Open the chain in a directory for reading, while its producer writes to it.

    Raises :class:`NoChainHere`, :class:`StoreCorrupted` or :class:`StoreUnavailable`.
    """
    genesis = genesis_file.read(directory)
    store = open_copy(directory)
    try:
        yield Reading(genesis, store, open_chain(genesis, store.kv))
    finally:
        store.close()
