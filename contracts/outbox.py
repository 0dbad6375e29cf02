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

from sealtrace.protocol.identifiers import Address, Hex32

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


class State(StrEnum):
    """How far a stored transaction has come. ``MINED`` and ``REVERTED`` are final."""

    QUEUED = "queued"
    SENT = "sent"
    MINED = "mined"
    REVERTED = "reverted"


OPEN = (State.QUEUED, State.SENT)


@dataclass(frozen=True, slots=True)
class Stored:
    """A transaction as it is stored."""

    id: int
    intent: str
    contract: str
    nonce: int
    raw: bytes
    hash: Hex32
    state: State


@dataclass(frozen=True, slots=True)
class Replaced:
    """A transaction that lost its nonce to another program's ``taken_by``, and was signed again."""

    intent: str
    nonce: int
    hash: Hex32
    taken_by: Hex32


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
        _create_tables(engine)

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

    def add(self, intent: str, contract: str, chain_nonce: int, sign: Signer) -> Stored:
        """Store a transaction under the next free nonce, or find the one the intent has already."""
        for _ in range(MAX_ATTEMPTS):
            raw, hash = sign(nonce := self._next(chain_nonce))
            values = {"nonce": nonce, "raw": raw, "hash": hash, "state": State.QUEUED}
            try:
                with self._engine.begin() as db:
                    db.execute(
                        sa.insert(_outbox), self._owner | {"intent": intent, "contract": contract} | values
                    )
            except IntegrityError:  # another process took the nonce, or has the intent
                if (found := self.find(intent)) is not None:
                    return found
                continue
            return self._known(intent)
        raise RuntimeError(f"no free nonce in {MAX_ATTEMPTS} attempts")

    def renumber(self, row: Stored, taken_by: Hex32, chain_nonce: int, sign: Signer) -> Stored:
        """Store the transaction anew under the next free nonce; what it was stays recorded."""
        for _ in range(MAX_ATTEMPTS):
            raw, hash = sign(nonce := self._next(chain_nonce))
            values = {"nonce": nonce, "raw": raw, "hash": hash, "state": State.QUEUED}
            lost = {"outbox_id": row.id, "nonce": row.nonce, "hash": row.hash, "taken_by": taken_by}
            unchanged = sa.and_(_outbox.c.id == row.id, _outbox.c.nonce == row.nonce)
            try:
                with self._engine.begin() as db:
                    if db.execute(sa.update(_outbox).where(unchanged).values(**values)).rowcount:
                        db.execute(sa.insert(_replaced), lost)
            except IntegrityError:
                continue
            return self._known(row.intent)
        raise RuntimeError(f"no free nonce in {MAX_ATTEMPTS} attempts")

    def mark(self, row: Stored, state: State, block: int | None = None, reason: str | None = None) -> None:
        """Record how far a transaction has come; a final state is never left."""
        where = sa.and_(_outbox.c.id == row.id, _outbox.c.hash == row.hash, _outbox.c.state.in_(OPEN))
        with self._engine.begin() as db:
            db.execute(sa.update(_outbox).where(where).values(state=state, block=block, reason=reason))

    def _known(self, intent: str) -> Stored:
        found = self.find(intent)
        assert found is not None  # noqa: S101
        return found

    def _next(self, chain_nonce: int) -> int:
        with self._engine.connect() as db:
            highest = db.execute(sa.select(sa.func.max(_outbox.c.nonce)).where(self._mine)).scalar()
        return chain_nonce if highest is None else max(chain_nonce, highest + 1)


def _create_tables(engine: sa.Engine) -> None:
    for last in (False, True):
        try:
            _metadata.create_all(engine)
            return
        except sa.exc.DBAPIError:  # another process created them between the look and the act
            if last:
                raise


def _patient(connection: Any, _record: Any) -> None:
    """Writers of other processes are waited for, and readers never block one."""
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={SQLITE_BUSY_MS}")
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.close()


def _stored(row: Any) -> Stored:
    return Stored(
        row.id, row.intent, row.contract, row.nonce, bytes(row.raw), Hex32(row.hash), State(row.state)
    )
