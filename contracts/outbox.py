"""The transactions of one account, stored before they are sent, shared by all processes of a node.

Uniqueness is the database's: one row for each intent, one for each nonce. Nothing is ever deleted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import IntegrityError

from sealtrace.contracts.tables import create_tables
from sealtrace.protocol.identifiers import Address, Hex32
from sealtrace.protocol.records import BlockRef

SQLITE_BUSY_MS = 30_000
MAX_ATTEMPTS = 200

_metadata = sa.MetaData()
_outbox = sa.Table(
    "outbox",
    _metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("chain_id", sa.BigInteger, nullable=False),
    sa.Column("account", sa.String(42), nullable=False),
    sa.Column("intent", sa.String(200), nullable=False),
    sa.Column("contract", sa.String(64), nullable=False),
    sa.Column("nonce", sa.BigInteger, nullable=False),
    sa.Column("raw", sa.LargeBinary, nullable=False),
    sa.Column("hash", sa.String(66), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("block", sa.BigInteger),
    sa.Column("block_hash", sa.String(66)),
    sa.Column("included_as", sa.String(66)),
    sa.Column("waits_since", sa.Float),
    sa.Column("reason", sa.Text),
    sa.UniqueConstraint("chain_id", "account", "intent", name="outbox_intent"),
    sa.UniqueConstraint("chain_id", "account", "nonce", name="outbox_nonce"),
)
_replaced = sa.Table(
    "outbox_replaced",
    _metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("outbox_id", sa.Integer, sa.ForeignKey("outbox.id"), nullable=False),
    sa.Column("nonce", sa.BigInteger, nullable=False),
    sa.Column("hash", sa.String(66), nullable=False),
    sa.Column("taken_by", sa.String(66), nullable=False),
)
_superseded = sa.Table(
    "outbox_superseded",
    _metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("outbox_id", sa.Integer, sa.ForeignKey("outbox.id"), nullable=False),
    sa.Column("nonce", sa.BigInteger, nullable=False),
    sa.Column("hash", sa.String(66), nullable=False),
)
_undone = sa.Table(
    "outbox_undone",
    _metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("outbox_id", sa.Integer, sa.ForeignKey("outbox.id"), nullable=False),
    sa.Column("hash", sa.String(66), nullable=False),
    sa.Column("block", sa.BigInteger, nullable=False),
    sa.Column("block_hash", sa.String(66), nullable=False),
)


class State(StrEnum):
    """How far a stored transaction has come. The last three are final.

    ``INCLUDED`` is in a block that may still be undone; then it is ``SENT`` again. ``NEEDLESS`` closed a gap
    in the nonces that another program's transaction had closed.
    """

    QUEUED = "queued"
    SENT = "sent"
    INCLUDED = "included"
    MINED = "mined"
    REVERTED = "reverted"
    NEEDLESS = "needless"


OPEN = (State.QUEUED, State.SENT, State.INCLUDED)


@dataclass(frozen=True, slots=True)
class Stored:
    """A transaction as it is stored.

    ``hash`` is of ``raw``, the version with the highest fee. ``block`` is where it was last found, under
    the hash ``included_as``, which may be an earlier version's. ``waits_since`` is when ``raw`` was signed,
    or was last seen to have left a block.
    """

    id: int
    intent: str
    contract: str
    nonce: int
    raw: bytes
    hash: Hex32
    state: State
    block: int | None
    block_hash: Hex32 | None
    included_as: Hex32 | None
    waits_since: float

    @property
    def is_over(self) -> bool:
        """Whether nothing can happen to it any more."""
        return self.state not in OPEN

    @property
    def transaction(self) -> Hex32:
        """The hash it is on the chain under, or is to be."""
        return self.included_as or self.hash


@dataclass(frozen=True, slots=True)
class Replaced:
    """A transaction that lost its nonce to another program's ``taken_by``, and was signed again."""

    intent: str
    nonce: int
    hash: Hex32
    taken_by: Hex32


@dataclass(frozen=True, slots=True)
class Undone:
    """An inclusion in a block that a reorganisation took back."""

    intent: str
    transaction: Hex32
    block: int
    block_hash: Hex32


Signer = Callable[[int], tuple[bytes, Hex32]]
"""Signs the transaction with a nonce: its raw bytes and its hash."""


class Outbox:
    """The stored transactions of ``account`` on the chain ``chain_id``."""

    def __init__(self, engine: sa.Engine, chain_id: int, account: Address) -> None:
        self._engine = engine
        self._mine = sa.and_(_outbox.c.chain_id == chain_id, _outbox.c.account == account)
        self._owner = {"chain_id": chain_id, "account": account}
        if engine.dialect.name == "sqlite" and not event.contains(engine, "connect", _patient):
            event.listen(engine, "connect", _patient)
        create_tables(_metadata, engine)
        _add_columns(engine)

    def find(self, intent: str) -> Stored | None:
        """The transaction of an intent."""
        with self._engine.connect() as db:
            found = db.execute(sa.select(_outbox).where(self._mine, _outbox.c.intent == intent)).first()
        return None if found is None else _stored(found)

    def unfinished(self) -> list[Stored]:
        """What is not final, in the order of nonces."""
        query = sa.select(_outbox).where(self._mine, _outbox.c.state.in_(OPEN)).order_by(_outbox.c.nonce)
        with self._engine.connect() as db:
            return [_stored(row) for row in db.execute(query)]

    def replaced(self) -> list[Replaced]:
        """Every transaction that was signed again under another nonce."""
        columns = (_outbox.c.intent, _replaced.c.nonce, _replaced.c.hash, _replaced.c.taken_by)
        query = sa.select(*columns).join_from(_replaced, _outbox).where(self._mine).order_by(_replaced.c.id)
        with self._engine.connect() as db:
            return [Replaced(i, n, Hex32(h), Hex32(t)) for i, n, h, t in db.execute(query)]

    def superseded(self, row: Stored) -> list[Hex32]:
        """The versions with lower fees that were sent under the same nonce; any of them may be mined."""
        same = sa.and_(_superseded.c.outbox_id == row.id, _superseded.c.nonce == row.nonce)
        query = sa.select(_superseded.c.hash).where(same).order_by(_superseded.c.id)
        with self._engine.connect() as db:
            return [Hex32(hash) for (hash,) in db.execute(query)]

    def undone(self) -> list[Undone]:
        """Every inclusion that a reorganisation took back."""
        columns = (_outbox.c.intent, _undone.c.hash, _undone.c.block, _undone.c.block_hash)
        query = sa.select(*columns).join_from(_undone, _outbox).where(self._mine).order_by(_undone.c.id)
        with self._engine.connect() as db:
            return [Undone(i, Hex32(h), n, Hex32(b)) for i, h, n, b in db.execute(query)]

    def newest_final(self) -> Stored | None:
        """The one that is final under the highest nonce, and whose block is known."""
        final = sa.and_(self._mine, _outbox.c.state.not_in(OPEN), _outbox.c.block_hash.is_not(None))
        query = sa.select(_outbox).where(final).order_by(_outbox.c.nonce.desc()).limit(1)
        with self._engine.connect() as db:
            found = db.execute(query).first()
        return None if found is None else _stored(found)

    def highest_nonce(self) -> int | None:
        """The highest nonce that was ever given out."""
        with self._engine.connect() as db:
            return db.execute(sa.select(sa.func.max(_outbox.c.nonce)).where(self._mine)).scalar()

    # storing

    def add(self, intent: str, contract: str, chain_nonce: int, sign: Signer, now: float) -> Stored:
        """Store a transaction under the next free nonce, or find the one the intent has already."""
        for _ in range(MAX_ATTEMPTS):
            if (found := self._added(intent, contract, self._next(chain_nonce), sign, now)) is not None:
                return found
        raise RuntimeError(f"no free nonce in {MAX_ATTEMPTS} attempts")

    def fill(self, intent: str, contract: str, nonce: int, sign: Signer, now: float) -> Stored | None:
        """Store a transaction under this very nonce; ``None`` where the nonce is in use."""
        return self._added(intent, contract, nonce, sign, now)

    def _added(self, intent: str, contract: str, nonce: int, sign: Signer, now: float) -> Stored | None:
        raw, hash = sign(nonce)
        values = {"intent": intent, "contract": contract, "nonce": nonce, "raw": raw, "hash": hash}
        try:
            with self._engine.begin() as db:
                db.execute(
                    sa.insert(_outbox),
                    {**self._owner, **values, "state": State.QUEUED, "waits_since": now},
                )
        except IntegrityError:  # another process took the nonce, or has the intent
            return self.find(intent)
        return self._known(intent)

    def renumber(self, row: Stored, taken_by: Hex32, chain_nonce: int, sign: Signer, now: float) -> Stored:
        """Store the transaction anew under the next free nonce; what it was stays recorded."""
        lost = {"outbox_id": row.id, "nonce": row.nonce, "hash": row.hash, "taken_by": taken_by}
        for _ in range(MAX_ATTEMPTS):
            raw, hash = sign(nonce := self._next(chain_nonce))
            values = {"nonce": nonce, "raw": raw, "hash": hash, "state": State.QUEUED, "waits_since": now}
            try:
                with self._engine.begin() as db:
                    if db.execute(sa.update(_outbox).where(_same(row)).values(**values)).rowcount:
                        db.execute(sa.insert(_replaced), lost)
            except IntegrityError:
                continue
            return self._known(row.intent)
        raise RuntimeError(f"no free nonce in {MAX_ATTEMPTS} attempts")

    def supersede(self, row: Stored, sign: Signer, now: float) -> Stored:
        """Store a version with other fees under the same nonce; what it was stays recorded."""
        raw, hash = sign(row.nonce)
        unchanged = sa.and_(_same(row), _outbox.c.hash == row.hash)
        values = {"raw": raw, "hash": hash, "waits_since": now}
        with self._engine.begin() as db:
            if db.execute(sa.update(_outbox).where(unchanged).values(**values)).rowcount:
                earlier = {"outbox_id": row.id, "nonce": row.nonce, "hash": row.hash}
                db.execute(sa.insert(_superseded), earlier)
        return self._known(row.intent)

    # recording how far it came; a final state is never left

    def sent(self, row: Stored) -> Stored:
        """An endpoint has it."""
        queued = sa.and_(_same(row), _outbox.c.hash == row.hash, _outbox.c.state == State.QUEUED)
        with self._engine.begin() as db:
            db.execute(sa.update(_outbox).where(queued).values(state=State.SENT))
        return self._known(row.intent)

    def included(self, row: Stored, transaction: Hex32, block: BlockRef) -> None:
        """It is in a block that is not final yet; if it was in another, that one was undone."""
        if (row.block_hash, row.included_as) == (block.hash, transaction):
            return  # as recorded
        if row.state is State.INCLUDED:
            row = self.taken_back(row, row.waits_since)
        self._found(row, State.INCLUDED, transaction, block, None)

    def final(
        self, row: Stored, state: State, transaction: Hex32, block: BlockRef, reason: str | None = None
    ) -> None:
        """It is in a final block."""
        if row.state is State.INCLUDED and row.block_hash != block.hash:
            row = self.taken_back(row, row.waits_since)
        self._found(row, state, transaction, block, reason)

    def _found(
        self, row: Stored, state: State, transaction: Hex32, block: BlockRef, reason: str | None
    ) -> None:
        values = {"state": state, "block": block.number, "block_hash": block.hash, "reason": reason}
        with self._engine.begin() as db:
            db.execute(sa.update(_outbox).where(_same(row)).values(**values, included_as=transaction))

    def taken_back(self, row: Stored, now: float) -> Stored:
        """The block it was in is gone: it is sent again, as stored."""
        there = sa.and_(_same(row), _outbox.c.state == State.INCLUDED, _outbox.c.block_hash == row.block_hash)
        values = {"state": State.SENT, "block": None, "block_hash": None, "included_as": None}
        undone = {"hash": row.included_as, "block": row.block, "block_hash": row.block_hash}
        with self._engine.begin() as db:
            if db.execute(sa.update(_outbox).where(there).values(**values, waits_since=now)).rowcount:
                db.execute(sa.insert(_undone), {"outbox_id": row.id, **undone})
        return self._known(row.intent)

    def needless(self, row: Stored, taken_by: Hex32) -> Stored:
        """The nonce it was to fill is used by another program's transaction."""
        values = {"state": State.NEEDLESS, "reason": f"nonce used by {taken_by}"}
        with self._engine.begin() as db:
            db.execute(sa.update(_outbox).where(_same(row)).values(**values))
        return self._known(row.intent)

    def _known(self, intent: str) -> Stored:
        found = self.find(intent)
        assert found is not None  # noqa: S101
        return found

    def _next(self, chain_nonce: int) -> int:
        highest = self.highest_nonce()
        return chain_nonce if highest is None else max(chain_nonce, highest + 1)


def _same(row: Stored) -> sa.ColumnElement[bool]:
    """The row, while it is open and has this nonce."""
    return sa.and_(_outbox.c.id == row.id, _outbox.c.nonce == row.nonce, _outbox.c.state.in_(OPEN))


def _add_columns(engine: sa.Engine) -> None:
    """An outbox of an earlier version lacks some; what it holds stays as it is."""
    there = _columns(engine)
    for column in _outbox.columns:
        if column.name not in there:
            kind = column.type.compile(engine.dialect)
            try:
                with engine.begin() as db:
                    db.execute(sa.text(f"ALTER TABLE {_outbox.name} ADD COLUMN {column.name} {kind}"))
            except sa.exc.DBAPIError:  # another process may have added it since we looked
                if column.name not in _columns(engine):
                    raise


def _columns(engine: sa.Engine) -> set[str]:
    return {column["name"] for column in sa.inspect(engine).get_columns(_outbox.name)}


def _patient(connection: Any, _record: Any) -> None:
    """Writers of other processes are waited for, and readers never block one."""
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={SQLITE_BUSY_MS}")
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.close()


def _stored(row: Any) -> Stored:
    return Stored(
        id=row.id,
        intent=row.intent,
        contract=row.contract,
        nonce=row.nonce,
        raw=bytes(row.raw),
        hash=Hex32(row.hash),
        state=State(row.state),
        block=row.block,
        block_hash=row.block_hash and Hex32(row.block_hash),
        included_as=row.included_as and Hex32(row.included_as),
        waits_since=row.waits_since or 0.0,
    )
