"""The chain on disk: py-evm's key-value pairs and our own tables in one SQLite file.

One connection, used by one thread at a time. Everything that belongs together is written in one
SQL transaction (``Store.atomically``) and synced to disk before it is acknowledged.
"""

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from eth.db.backends.base import BaseDB

from .errors import StoreCorrupted, StoreFull, StoreUnavailable

FILE_NAME = "chain.sqlite3"
SCHEMA_VERSION = 2
READABLE_VERSIONS = (1, 2)
"""Version 1 did not say whose a pending transaction is; all that readers of blocks look at is the same."""
DROPPED_KEPT = 10_000
"""How many reasons of dropped transactions are kept, the latest."""

SCHEMA: Final = """
create table kv (k blob primary key, v blob not null) without rowid;
create table genesis (only_row integer primary key check (only_row = 1), content text not null);
create table blocks (
  number integer primary key, hash blob not null unique, time integer not null, raw blob not null
);
create table transactions (
  hash blob primary key, number integer not null, position integer not null, receipt text not null
) without rowid;
create unique index transactions_by_place on transactions (number, position);
create table logs (
  number integer not null, position integer not null, tx blob not null, tx_position integer not null,
  address blob not null, t0 blob, t1 blob, t2 blob, t3 blob, data blob not null,
  primary key (number, position)
) without rowid;
create index logs_by_address on logs (address, number);
create index logs_by_topic on logs (t0, number);
create table pool (
  arrival integer primary key, hash blob not null unique, raw blob not null, sender blob, nonce integer
);
create index pool_by_sender on pool (sender, nonce);
create table dropped (
  n integer primary key autoincrement, hash blob not null unique, reason text not null
);
"""


UPGRADES: Final = {
    1: """
alter table pool add column sender blob;
alter table pool add column nonce integer;
create index pool_by_sender on pool (sender, nonce);
"""
}
"""From each earlier version to the next. Who sent what was pending is filled in by the producer."""


@dataclass(frozen=True, slots=True)
class StoredBlock:
    """A mined block: its RLP and what it is found by. ``time`` is in unix seconds."""

    number: int
    hash: bytes
    time: int
    raw: bytes


@dataclass(frozen=True, slots=True)
class StoredLog:
    """One event as a contract emitted it, and its place in the chain."""

    number: int
    position: int
    transaction: bytes
    transaction_position: int
    address: bytes
    topics: tuple[bytes, ...]
    data: bytes


@dataclass(frozen=True, slots=True)
class StoredTransaction:
    """Where a transaction was mined, and its receipt as JSON text."""

    hash: bytes
    number: int
    position: int
    receipt: str


@dataclass(frozen=True, slots=True)
class StoredPending:
    """An accepted transaction on its way into the pool's table."""

    hash: bytes
    raw: bytes
    sender: bytes
    nonce: int


@dataclass(frozen=True, slots=True)
class LogFilter:
    """Which logs are asked for. Block numbers inclusive; an empty choice means any."""

    first: int
    last: int
    addresses: tuple[bytes, ...] = ()
    topics: tuple[tuple[bytes, ...], ...] = ()


class SqliteKV(BaseDB):
    """py-evm's database interface over the table ``kv``."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __getitem__(self, key: bytes) -> bytes:
        row = self._connection.execute("select v from kv where k = ?", (key,)).fetchone()
        if row is None:
            raise KeyError(key)
        return bytes(row[0])

    def __setitem__(self, key: bytes, value: bytes) -> None:
        self._connection.execute("insert or replace into kv values (?, ?)", (key, value))

    def __delitem__(self, key: bytes) -> None:
        self._connection.execute("delete from kv where k = ?", (key,))

    def __bool__(self) -> bool:
        return True  # an empty database is still a database; py-evm tests truth

    def _exists(self, key: bytes) -> bool:
        query = "select 1 from kv where k = ?"
        return self._connection.execute(query, (key,)).fetchone() is not None


class Store:
    """The open database of one chain."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.kv = SqliteKV(connection)

    @contextlib.contextmanager
    def atomically(self) -> Iterator[None]:
        """Keep all that is written inside, synced, or nothing. Raises StoreFull, StoreCorrupted."""
        with named_errors():
            self.connection.execute("begin immediate")
            try:
                yield
                self.connection.execute("commit")
            except BaseException:
                if self.connection.in_transaction:  # a full disk has rolled back already
                    self.connection.execute("rollback")
                raise

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """Let every read inside see one moment, whatever a producer writes meanwhile."""
        self.connection.execute("begin")
        try:
            yield
        finally:
            if self.connection.in_transaction:
                self.connection.execute("rollback")

    def close(self) -> None:
        """Close the file; what was acknowledged is on disk already."""
        self.connection.close()

    # genesis

    def genesis(self) -> str | None:
        """Return the genesis the database was created with, as JSON text."""
        row = self.connection.execute("select content from genesis").fetchone()
        return None if row is None else str(row[0])

    def put_genesis(self, content: str) -> None:
        """Remember the genesis; once."""
        self.connection.execute("insert into genesis values (1, ?)", (content,))

    # blocks

    def put_block(
        self,
        block: StoredBlock,
        transactions: Iterable[StoredTransaction],
        logs: Iterable[StoredLog],
    ) -> None:
        """Add a block with its receipts and logs. Call it inside ``atomically``."""
        row = (block.number, block.hash, block.time, block.raw)
        self.connection.execute("insert into blocks values (?, ?, ?, ?)", row)
        rows = ((t.hash, t.number, t.position, t.receipt) for t in transactions)
        self.connection.executemany("insert into transactions values (?, ?, ?, ?)", rows)
        self.connection.executemany(
            "insert into logs values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", map(_log_row, logs)
        )

    def head_number(self) -> int | None:
        """Return the highest block number, or ``None`` before genesis."""
        number = self.connection.execute("select max(number) from blocks").fetchone()[0]
        return None if number is None else int(number)

    def block(self, number: int) -> StoredBlock | None:
        """Return the block at this height."""
        query = "select number, hash, time, raw from blocks where number = ?"
        row = self.connection.execute(query, (number,)).fetchone()
        return None if row is None else StoredBlock(*row)

    def blocks(self) -> Iterator[StoredBlock]:
        """Return every block from genesis on, in order."""
        query = "select number, hash, time, raw from blocks order by number"
        return (StoredBlock(*row) for row in self.connection.execute(query))

    def number_of(self, block_hash: bytes) -> int | None:
        """Return the height of a block."""
        query = "select number from blocks where hash = ?"
        row = self.connection.execute(query, (block_hash,)).fetchone()
        return None if row is None else int(row[0])

    def transaction(self, transaction_hash: bytes) -> StoredTransaction | None:
        """Return a mined transaction's place and receipt."""
        query = "select hash, number, position, receipt from transactions where hash = ?"
        row = self.connection.execute(query, (transaction_hash,)).fetchone()
        return None if row is None else StoredTransaction(*row)

    def receipts(self, number: int) -> list[str]:
        """Return the receipts of a block as JSON texts, in order."""
        query = "select receipt from transactions where number = ? order by position"
        return [row[0] for row in self.connection.execute(query, (number,))]

    def logs(self, wanted: LogFilter, limit: int) -> list[tuple[StoredLog, bytes, int]]:
        """Return the first ``limit`` logs that match, in chain order, with block hash and time."""
        where, values = _conditions(wanted)
        query = (
            "select hash, time, number, position, tx, tx_position, address, t0, t1, t2, t3, data "  # noqa: S608
            f"from logs join blocks using (number) where {where} order by number, position limit ?"
        )
        rows = self.connection.execute(query, (*values, limit))
        return [(_log(rest), block_hash, time) for block_hash, time, *rest in rows]

    # the pool

    def put_pending(self, accepted: StoredPending) -> int:
        """Keep an accepted transaction; returns its place in the order of arrival."""
        self.connection.execute("delete from dropped where hash = ?", (accepted.hash,))
        insert = "insert into pool (hash, raw, sender, nonce) values (?, ?, ?, ?)"
        row = (accepted.hash, accepted.raw, accepted.sender, accepted.nonce)
        return int(self.connection.execute(insert, row).lastrowid or 0)

    def pending(self) -> list[tuple[int, bytes]]:
        """Return arrival and raw bytes of every accepted transaction not yet mined."""
        query = "select arrival, raw from pool order by arrival"
        return self.connection.execute(query).fetchall()

    def pending_raw(self, transaction_hash: bytes) -> bytes | None:
        """Return a pending transaction's bytes."""
        row = self.connection.execute("select raw from pool where hash = ?", (transaction_hash,)).fetchone()
        return None if row is None else bytes(row[0])

    def pending_count(self) -> int:
        """Return how many accepted transactions wait."""
        return int(self.connection.execute("select count(*) from pool").fetchone()[0])

    def pending_nonces(self, sender: bytes) -> Iterator[int]:
        """Return the nonces of a sender's pending transactions, the lowest first."""
        query = "select nonce from pool where sender = ? order by nonce"
        return (int(row[0]) for row in self.connection.execute(query, (sender,)))

    def name_senders(self, senders: Iterable[tuple[int, bytes, int]]) -> None:
        """Fill in sender and nonce, by arrival, where version 1 had none."""
        rows = ((sender, nonce, arrival) for arrival, sender, nonce in senders)
        update = "update pool set sender = ?, nonce = ? where arrival = ? and sender is null"
        self.connection.executemany(update, rows)

    def remove_pending(self, hashes: Iterable[bytes]) -> None:
        """Forget pending transactions, because they are mined or dropped."""
        self.connection.executemany("delete from pool where hash = ?", ((h,) for h in hashes))

    def put_dropped(self, transaction_hash: bytes, reason: str) -> None:
        """Record why an accepted transaction will not be mined."""
        self.remove_pending([transaction_hash])
        insert = "insert or replace into dropped (hash, reason) values (?, ?)"
        self.connection.execute(insert, (transaction_hash, reason))
        self.connection.execute(
            "delete from dropped where n <= (select max(n) from dropped) - ?", (DROPPED_KEPT,)
        )

    def dropped_reason(self, transaction_hash: bytes) -> str | None:
        """Return why a transaction was dropped, if it was."""
        query = "select reason from dropped where hash = ?"
        row = self.connection.execute(query, (transaction_hash,)).fetchone()
        return None if row is None else str(row[0])


@contextlib.contextmanager
def named_errors() -> Iterator[None]:
    """Turn SQLite's complaints into StoreFull, StoreCorrupted and StoreUnavailable."""
    try:
        yield
    except sqlite3.Error as error:
        code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF  # without the extension
        if code == sqlite3.SQLITE_FULL:
            raise StoreFull from error
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR):
            raise StoreCorrupted(str(error)) from error
        raise StoreUnavailable(str(error)) from error


def open_store(directory: Path) -> Store:
    """Open the database for the one producer, and create it if absent.

    Raises :class:`StoreCorrupted`, :class:`StoreUnavailable` or :class:`StoreFull`.
    """
    with named_errors():
        connection = sqlite3.connect(directory / FILE_NAME, isolation_level=None, check_same_thread=False)
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = full")  # acknowledged means on disk
        connection.execute("pragma cache_size = -32768")  # 32 MiB
        _require_schema(connection)
    return Store(connection)


def open_copy(directory: Path) -> Store:
    """Open the database for reading only, also while a producer writes to it.

    Raises :class:`StoreCorrupted` or :class:`StoreUnavailable`.
    """
    path = (directory / FILE_NAME).resolve()
    with named_errors():
        connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None)
        _refuse_other_version(connection, READABLE_VERSIONS)
        connection.execute("pragma mmap_size = 1073741824")  # each commit empties a reader's own cache
    return Store(connection)


def _require_schema(connection: sqlite3.Connection) -> None:
    if _version(connection) == 0:
        _run(connection, SCHEMA, SCHEMA_VERSION)
    while (version := _version(connection)) in UPGRADES:
        _run(connection, UPGRADES[version], version + 1)
    _refuse_other_version(connection, (SCHEMA_VERSION,))


def _run(connection: sqlite3.Connection, script: str, version: int) -> None:
    connection.executescript(f"begin; {script} pragma user_version = {version}; commit;")


def _refuse_other_version(connection: sqlite3.Connection, known: Sequence[int]) -> None:
    if (version := _version(connection)) not in known:
        raise StoreCorrupted(f"its layout is version {version}, this program's {SCHEMA_VERSION}")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("pragma user_version").fetchone()[0])


def _log_row(log: StoredLog) -> tuple[object, ...]:
    topics = (*log.topics, None, None, None, None)[:4]
    place = (log.number, log.position, log.transaction, log.transaction_position)
    return (*place, log.address, *topics, log.data)


def _log(row: Sequence[object]) -> StoredLog:
    number, position, transaction, place, address, *topics, data = row
    given = tuple(t for t in topics if t is not None)
    return StoredLog(number, position, transaction, place, address, given, data)  # type: ignore[arg-type]


def _conditions(wanted: LogFilter) -> tuple[str, list[object]]:
    """Return the SQL condition and its values; only placeholders come from the caller."""
    parts: list[str] = ["number between ? and ?"]
    values: list[object] = [wanted.first, wanted.last]
    choices = [("address", wanted.addresses)]
    choices += [(f"t{i}", choice) for i, choice in enumerate(wanted.topics)]
    for column, choice in choices:
        if choice:
            parts.append(f"{column} in ({', '.join('?' * len(choice))})")
            values.extend(choice)
    if wanted.topics:  # a position asked for must exist, even when any topic will do
        parts.append(f"t{len(wanted.topics) - 1} is not null")
    return " and ".join(parts), values
