"""The node's memory between processes: tasks with their leases, datasets, grants, tokens, cursors.

SQLite by default, any database SQLAlchemy knows otherwise. It is a memory and not an authority: the chain
says what happened, the evidence log what this node vouched for. Times are this host's Unix seconds.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Engine,
    Float,
    Integer,
    MetaData,
    RowMapping,
    String,
    Table,
    Text,
    create_engine,
    event,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError, OperationalError

from sealtrace.contracts.tables import create_tables
from sealtrace.node.errors import DatasetNotFound, DiskFull, StoreBusy, TaskNotFound
from sealtrace.protocol.attestation.policy import AttestationPolicy, read_policy
from sealtrace.protocol.identifiers import Address, Hex32, UnixSeconds

BUSY_TIMEOUT_S = 30
IDS_AT_ONCE = 500
_meta = MetaData()

_tasks = Table(
    "tasks",
    _meta,
    Column("id", String(66), primary_key=True),
    Column("requester", String(42), nullable=False),
    Column("terms", Text, nullable=False),
    Column("deadline", Integer, nullable=False),
    Column("seen_at", Float, nullable=False),
    Column("spec", Text),
    Column("parties", Text),
    Column("approval", String(16), nullable=False, default=""),
    Column("stop_wanted", Boolean, nullable=False, default=False),
    Column("run", String(32)),
    Column("run_at", Float),
    Column("failure", Text),
    Column("stage", String(16), nullable=False, default="seen"),
    Column("note", Text, nullable=False, default=""),
    Column("over", Boolean, nullable=False, default=False),
    Column("lease", String(32)),
    Column("lease_until", Float, nullable=False, default=0.0),
    Column("next_at", Float, nullable=False, default=0.0, index=True),
    Column("queued", Integer, nullable=False, default=0),
)
_datasets = Table(
    "datasets",
    _meta,
    Column("id", String(66), primary_key=True),
    Column("name", String(128), nullable=False),
    Column("path", Text, nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("root", String(66), nullable=False),
    Column("commitment", String(66), nullable=False),
    Column("schema", Text, nullable=False),
    Column("data_class", Integer, nullable=False),
    Column("withdrawn", Boolean, nullable=False, default=False),
    Column("added_at", Float, nullable=False),
)
_grants = Table(
    "grants",
    _meta,
    Column("id", String(66), primary_key=True),
    Column("terms", Text, nullable=False),
    Column("issued_at", Float, nullable=False),
)
_policies = Table(
    "grant_policies", _meta, Column("id", String(66), primary_key=True), Column("text", Text, nullable=False)
)
_tokens = Table(
    "tokens",
    _meta,
    Column("sha256", String(66), primary_key=True),
    Column("name", String(64), nullable=False),
    Column("role", String(16), nullable=False),
    Column("created_at", Float, nullable=False),
)
_marks = Table(
    "marks", _meta, Column("name", String(64), primary_key=True), Column("value", Text, nullable=False)
)


@dataclass(frozen=True, slots=True)
class TaskRow:
    """What the node remembers of one task. ``stage`` is for people; decisions ask the chain.

    ``approval`` is ``""``, ``"wanted"`` (in the inbox) or ``"given"``; ``run`` is set once, for good, when
    the engine is about to begin; ``failure`` is the failure that is to be reported, as JSON.
    """

    id: Hex32
    requester: Address
    terms: str
    deadline: UnixSeconds
    seen_at: float
    spec: str | None
    parties: str | None
    approval: str
    stop_wanted: bool
    run: str | None
    run_at: float | None
    failure: str | None
    stage: str
    note: str
    over: bool
    lease: str | None
    lease_until: float
    next_at: float
    queued: int


@dataclass(frozen=True, slots=True)
class Sighting:
    """A task that the chain names this node for, as it is first seen."""

    id: Hex32
    requester: Address
    terms: str
    deadline: UnixSeconds


@dataclass(frozen=True, slots=True)
class DatasetRow:
    """A dataset this node holds: where, and what it committed to. The salt is in the vault."""

    id: Hex32
    name: str
    path: Path
    bytes: int
    root: Hex32
    commitment: Hex32
    schema: dict[str, Any]
    data_class: int
    withdrawn: bool
    added_at: float


@dataclass(frozen=True, slots=True)
class GrantRow:
    """A grant this node issued, with its terms as given."""

    id: Hex32
    terms: dict[str, Any]
    issued_at: float


def open_engine(url: str) -> Engine:
    """An SQLAlchemy engine with bounded waits; for SQLite a write-ahead log and a busy timeout."""
    arguments = {"timeout": BUSY_TIMEOUT_S} if url.startswith("sqlite") else {}
    engine = create_engine(url, connect_args=arguments, pool_pre_ping=True)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _sqlite_pragmas)
    return engine


def _sqlite_pragmas(connection: Any, _: object) -> None:
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


class Store:
    """The tables, and what is done to them. Safe for several processes at once."""

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.time) -> None:
        self.engine = engine
        self._clock = clock
        with _named_errors():
            create_tables(_meta, engine)

    # --- tasks

    def take_in(
        self, named: Sequence[Sighting], woken: Collection[Hex32] = (), marks: Mapping[str, str] | None = None
    ) -> list[Hex32]:
        """Remember ``named``, look again at once at the open ones of ``woken``, and keep ``marks``.

        All of it or nothing: a process that dies meanwhile leaves the tables as they were. Returns the tasks
        that were not known before.

        Raises:
            StoreBusy: another process remembered one of them at the same moment; nothing was changed.
        """
        try:
            with self._write() as connection:
                known = set(_known(connection, [each.id for each in named]))
                new = {each.id: each for each in named if each.id not in known}
                if new:
                    rows = [asdict(each) | {"seen_at": self._clock()} for each in new.values()]
                    connection.execute(insert(_tasks), rows)
                for some in _portions(list(woken)):
                    again = update(_tasks).where(_tasks.c.id.in_(some), _tasks.c.over.is_(False))
                    connection.execute(again.values(next_at=0.0, queued=0))
                for name, value in (marks or {}).items():
                    _set_mark(connection, name, value)
        except IntegrityError as cause:
            raise StoreBusy("another process of this node takes in the same blocks") from cause
        return list(new)

    def task(self, task: Hex32) -> TaskRow:
        """The task's row.

        Raises:
            TaskNotFound: there is none.
        """
        with self._read() as connection:
            row = connection.execute(select(_tasks).where(_tasks.c.id == task)).mappings().first()
        if row is None:
            raise TaskNotFound(f"this node knows no task {task}")
        return TaskRow(**row)

    def tasks(self, *, open_only: bool = False, limit: int | None = None) -> list[TaskRow]:
        """The newest ``limit`` tasks (default: all), the newest first."""
        query = select(_tasks).order_by(_tasks.c.seen_at.desc()).limit(limit)
        query = query.where(_tasks.c.over.is_(False)) if open_only else query
        return [TaskRow(**row) for row in self._rows(query)]

    def introduce(self, task: Hex32, spec: str, parties: str) -> None:
        """Keep the checked introduction."""
        self._set(task, spec=spec, parties=parties, next_at=0.0)

    def note(self, task: Hex32, stage: str, note: str = "") -> None:
        """Say where the task stands, for people."""
        self._set(task, stage=stage, note=note[:2000])

    def want_approval(self, task: Hex32) -> None:
        """Put it in the inbox."""
        self._set(task, approval="wanted", stage="inbox", note="a grant asks for approval of this task")

    def give_approval(self, task: Hex32) -> None:
        """Take it out of the inbox, approved."""
        self._set(task, approval="given", next_at=0.0)

    def want_stop(self, task: Hex32) -> None:
        """Ask whoever runs the task to end it now."""
        self._set(task, stop_wanted=True, next_at=0.0)

    def begin_run(self, task: Hex32) -> bool:
        """Mark that the engine is about to begin. True once for each task, and never again."""
        run = secrets.token_hex(16)
        query = update(_tasks).where(_tasks.c.id == task, _tasks.c.run.is_(None))
        with self._write() as connection:
            done = connection.execute(query.values(run=run, run_at=self._clock()))
        return done.rowcount == 1

    def decide_failure(self, task: Hex32, failure: str) -> str:
        """Keep the failure to report; the first one stays. Returns the one kept."""
        query = update(_tasks).where(_tasks.c.id == task, _tasks.c.failure.is_(None))
        with self._write() as connection:
            connection.execute(query.values(failure=failure))
        return self.task(task).failure or failure

    def end(self, task: Hex32, stage: str) -> None:
        """The task is over and nothing is left to do."""
        self._set(task, over=True, stage=stage, note="")

    def due(self) -> list[TaskRow]:
        """Open tasks that nobody holds and whose time to be looked at has come."""
        now = self._clock()
        query = select(_tasks).where(
            _tasks.c.over.is_(False), _tasks.c.lease_until <= now, _tasks.c.next_at <= now
        )
        return [TaskRow(**row) for row in self._rows(query)]

    def queued(self, task: Hex32, requeue_s: float) -> None:
        """Note that the task was queued; each time in a row the next waits twice as long, up to a minute."""
        row = self.task(task)
        wait = min(60.0, requeue_s * 2 ** min(row.queued, 6))
        self._set(task, queued=row.queued + 1, next_at=self._clock() + wait)

    # --- leases

    def lease(self, task: Hex32, seconds: float) -> str | None:
        """Take the task for ``seconds``; ``None`` while somebody else holds it."""
        now, token = self._clock(), secrets.token_hex(16)
        free = or_(_tasks.c.lease.is_(None), _tasks.c.lease_until <= now)
        query = update(_tasks).where(_tasks.c.id == task, free)
        with self._write() as connection:
            done = connection.execute(query.values(lease=token, lease_until=now + seconds, queued=0))
        return token if done.rowcount == 1 else None

    def renew(self, task: Hex32, token: str, seconds: float) -> bool:
        """Hold on to the task; False when the lease was lost to somebody else."""
        query = update(_tasks).where(_tasks.c.id == task, _tasks.c.lease == token)
        with self._write() as connection:
            done = connection.execute(query.values(lease_until=self._clock() + seconds))
        return done.rowcount == 1

    def release(self, task: Hex32, token: str, next_in_s: float) -> None:
        """Give the task back, to be looked at again in ``next_in_s``."""
        query = update(_tasks).where(_tasks.c.id == task, _tasks.c.lease == token)
        values = {"lease": None, "lease_until": 0.0, "next_at": self._clock() + next_in_s}
        with self._write() as connection:
            connection.execute(query.values(**values))

    # --- datasets, grants, tokens, marks

    def keep_dataset(self, row: DatasetRow) -> None:
        """Remember a registered dataset; again changes nothing."""
        values = {
            "id": row.id,
            "name": row.name,
            "path": str(row.path),
            "bytes": row.bytes,
            "root": row.root,
            "commitment": row.commitment,
            "schema": json.dumps(row.schema),
            "data_class": row.data_class,
            "withdrawn": row.withdrawn,
            "added_at": row.added_at,
        }
        self._insert_once((_datasets, values))

    def dataset(self, dataset: Hex32) -> DatasetRow:
        """The dataset's row.

        Raises:
            DatasetNotFound: there is none.
        """
        for row in self._rows(select(_datasets).where(_datasets.c.id == dataset)):
            return _dataset(row)
        raise DatasetNotFound(f"this node holds no dataset {dataset}")

    def datasets(self) -> list[DatasetRow]:
        """All datasets, withdrawn ones included, in the order they were added."""
        return [_dataset(row) for row in self._rows(select(_datasets).order_by(_datasets.c.added_at))]

    def withdraw(self, dataset: Hex32) -> None:
        """Note that the dataset is withdrawn."""
        with self._write() as connection:
            connection.execute(update(_datasets).where(_datasets.c.id == dataset).values(withdrawn=True))

    def keep_grant(self, row: GrantRow, policy: AttestationPolicy | None = None) -> None:
        """Remember an issued grant with the policy it was issued under; again changes nothing."""
        rows = [(_grants, {"id": row.id, "terms": json.dumps(row.terms), "issued_at": row.issued_at})]
        if policy is not None:
            rows.append((_policies, {"id": row.id, "text": policy.text().decode()}))
        self._insert_once(*rows)

    def policy_of(self, grant: Hex32) -> AttestationPolicy | None:
        """The policy under which a grant of this node was issued; ``None`` where it has none."""
        for row in self._rows(select(_policies.c.text).where(_policies.c.id == grant)):
            return read_policy(row["text"].encode())
        return None

    def grants(self) -> list[GrantRow]:
        """All grants this node issued, in that order."""
        rows = self._rows(select(_grants).order_by(_grants.c.issued_at))
        return [GrantRow(Hex32(r["id"]), json.loads(r["terms"]), r["issued_at"]) for r in rows]

    def add_token(self, sha256: Hex32, name: str, role: str) -> None:
        """Keep a bearer token's hash."""
        values = {"sha256": sha256, "name": name, "role": role, "created_at": self._clock()}
        self._insert_once((_tokens, values))

    def token(self, sha256: Hex32) -> tuple[str, str] | None:
        """The name and the role of the token with this hash, or ``None``."""
        for row in self._rows(select(_tokens).where(_tokens.c.sha256 == sha256)):
            return row["name"], row["role"]
        return None

    def tokens(self) -> list[dict[str, Any]]:
        """Names, roles and times; never a hash."""
        columns = (_tokens.c.name, _tokens.c.role, _tokens.c.created_at)
        return [dict(row) for row in self._rows(select(*columns).order_by(_tokens.c.created_at))]

    def mark(self, name: str) -> str | None:
        """A single value kept under ``name``, such as the watcher's cursor."""
        for row in self._rows(select(_marks.c.value).where(_marks.c.name == name)):
            return str(row["value"])
        return None

    def set_mark(self, name: str, value: str) -> None:
        """Keep ``value`` under ``name``."""
        with self._write() as connection:
            _set_mark(connection, name, value)

    # --- how it is done

    def _set(self, task: Hex32, **values: Any) -> None:
        with self._write() as connection:
            connection.execute(update(_tasks).where(_tasks.c.id == task).values(**values))

    def _insert_once(self, *rows: tuple[Table, dict[str, Any]]) -> None:
        """Insert all of ``rows``, or nothing where one is there already."""
        with suppress(IntegrityError), self._write() as connection:
            for table, values in rows:
                connection.execute(insert(table).values(**values))

    def _rows(self, query: Any) -> Sequence[RowMapping]:
        with self._read() as connection:
            return connection.execute(query).mappings().all()

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with _named_errors(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        with _named_errors(), self.engine.begin() as connection:
            yield connection


@contextmanager
def _named_errors() -> Iterator[None]:
    try:
        yield
    except OperationalError as cause:
        text = str(cause.orig)
        if "full" in text or "No space" in text:
            raise DiskFull(f"the database cannot be written: {text}") from cause
        raise StoreBusy(f"the database does not answer: {text}") from cause


def _known(connection: Connection, tasks: Sequence[Hex32]) -> Iterator[str]:
    for some in _portions(tasks):
        yield from connection.execute(select(_tasks.c.id).where(_tasks.c.id.in_(some))).scalars()


def _portions(values: Sequence[Hex32]) -> Iterator[Sequence[Hex32]]:
    """As many at a time as every database takes in one statement."""
    for first in range(0, len(values), IDS_AT_ONCE):
        yield values[first : first + IDS_AT_ONCE]


def _set_mark(connection: Connection, name: str, value: str) -> None:
    done = connection.execute(update(_marks).where(_marks.c.name == name).values(value=value))
    if done.rowcount == 0:
        connection.execute(insert(_marks).values(name=name, value=value))


def _dataset(row: RowMapping) -> DatasetRow:
    return DatasetRow(
        **{**row, "path": Path(row["path"]), "schema": json.loads(row["schema"])},
    )
