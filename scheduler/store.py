"""The scheduler's database: presence, tasks and what they carry, in any SQL database SQLAlchemy speaks to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Integer,
    LargeBinary,
    MetaData,
    RowMapping,
    String,
    Table,
    Text,
    create_engine,
    delete,
    event,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError, OperationalError

from sealtrace.contracts.tables import create_tables
from sealtrace.protocol.attestation.appraisal import Stage
from sealtrace.protocol.attestation.statement import MAX_STATEMENT_BYTES
from sealtrace.protocol.identifiers import Address, Hex32, UnixSeconds
from sealtrace.protocol.lifecycle import TaskState
from sealtrace.scheduler.errors import StorageFull
from sealtrace.scheduler.presence import Presence
from sealtrace.scheduler.tasks import (
    MAX_METRICS_BYTES,
    EnclaveStatement,
    Metrics,
    Observation,
    Output,
    Task,
)

_metadata = MetaData()  # times are BigInteger: a deadline may lie beyond 2038

_presence = Table(
    "presence",
    _metadata,
    Column("node", String(42), primary_key=True),
    Column("gateway_url", Text, nullable=False),
    Column("certificate_pem", Text, nullable=False),
    Column("fingerprint", String(66), nullable=False),
    Column("engines", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("said_at", BigInteger, nullable=False),
    Column("heard_at", BigInteger, nullable=False),
)

_tasks = Table(
    "tasks",
    _metadata,
    Column("id", String(66), primary_key=True),
    Column("requester", String(42), nullable=False, index=True),
    Column("spec", LargeBinary, nullable=False),
    Column("parties", Text, nullable=False),
    Column("deadline", BigInteger, nullable=False),
    Column("engine_seconds", BigInteger, nullable=False),
    Column("accepted_at", BigInteger, nullable=False),
    Column("warnings", Text, nullable=False),
    Column("observed", Text),
    Column("running_since", BigInteger),
    Column("over_at", BigInteger, index=True),
    Column("purged_at", BigInteger),
    Column("late", Text, nullable=False),
)

_outputs = Table(
    "outputs",
    _metadata,
    Column("task", String(66), primary_key=True),
    Column("party", String(42), primary_key=True),
    Column("digest", String(66), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("statement", LargeBinary, nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Column("fetched_at", BigInteger),
)

_statements = Table(
    "enclave_statements",
    _metadata,
    Column("task", String(66), primary_key=True),
    Column("stage", String(16), primary_key=True),
    Column("digest", String(66), nullable=False),
    Column("document", LargeBinary(MAX_STATEMENT_BYTES), nullable=False),
    Column("received_at", BigInteger, nullable=False),
)

_metrics = Table(
    "metrics",
    _metadata,
    Column("task", String(66), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("digest", String(66), nullable=False),
    Column("size", Integer, nullable=False),
    Column("sealed", LargeBinary(MAX_METRICS_BYTES), nullable=False),
    Column("statement", LargeBinary, nullable=False),
    Column("received_at", BigInteger, nullable=False),
)


class Store:
    """What must survive a restart. Safe to use from several threads and processes."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        create_tables(_metadata, engine)

    @classmethod
    def open(cls, url: str) -> Store:
        """Open the database at ``url`` and create what is missing in it."""
        engine = create_engine(url, pool_pre_ping=True)
        if engine.dialect.name == "sqlite":
            event.listen(engine, "connect", _prepare_sqlite)
        return cls(engine)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def presence(self, node: Address) -> Presence | None:
        """The last heartbeat of ``node``."""
        with self._read() as connection:
            row = connection.execute(select(_presence).where(_presence.c.node == node)).mappings().first()
        return _to_presence(row) if row else None

    def presences(self) -> list[Presence]:
        """The last heartbeats of all nodes."""
        with self._read() as connection:
            rows = connection.execute(select(_presence).order_by(_presence.c.node)).mappings().all()
        return [_to_presence(row) for row in rows]

    def remember(self, presence: Presence) -> None:
        """Keep ``presence`` as the node's last heartbeat, unless a later one was kept meanwhile."""
        values = _from_presence(presence)
        newer = (_presence.c.node == presence.node) & (_presence.c.said_at <= presence.said_at)
        with self._write() as connection:
            if connection.execute(update(_presence).where(newer).values(values)).rowcount == 0:
                _insert_unless_there(connection, _presence, values)

    def add_task(self, task: Task) -> bool:
        """Keep a new task; false when it is there already, which is left as it is."""
        with self._write() as connection:
            return _insert_unless_there(connection, _tasks, _from_task(task))

    def task(self, id: Hex32) -> Task | None:
        """The task ``id``."""
        with self._read() as connection:
            row = connection.execute(select(_tasks).where(_tasks.c.id == id)).mappings().first()
        return _to_task(row) if row else None

    def open_tasks(self) -> list[Task]:
        """All tasks that are not known to be over, oldest first."""
        return self._tasks_where(_tasks.c.over_at.is_(None))

    def tasks_to_purge(self) -> list[Task]:
        """All tasks that are over and whose outputs were not deleted yet."""
        return self._tasks_where(_tasks.c.over_at.is_not(None) & _tasks.c.purged_at.is_(None))

    def count_open(self, requester: Address) -> int:
        """How many tasks of ``requester`` are not over."""
        mine = (_tasks.c.requester == requester) & _tasks.c.over_at.is_(None)
        with self._read() as connection:
            return int(connection.execute(select(func.count()).select_from(_tasks).where(mine)).scalar_one())

    def update_task(self, task: Task) -> None:
        """Replace what was observed of a task; what was submitted never changes.

        A task that is over stays over, though a slower process may have looked before its end.
        """
        values = _from_task(task)
        changing = {key: values[key] for key in ("observed", "running_since", "over_at", "purged_at", "late")}
        still = _tasks.c.id == task.id
        if task.purged_at is None:
            still &= _tasks.c.over_at.is_(None)
        with self._write() as connection:
            connection.execute(update(_tasks).where(still).values(changing))

    def add_output(self, output: Output) -> bool:
        """Keep a new output; false when the party's is there already, which is left as it is."""
        with self._write() as connection:
            return _insert_unless_there(connection, _outputs, asdict(output))

    def output(self, task: Hex32, party: Address) -> Output | None:
        """The output of ``party`` for ``task``."""
        return next((each for each in self.outputs(task) if each.party == party), None)

    def outputs(self, task: Hex32) -> list[Output]:
        """All outputs for ``task``, by party."""
        query = select(_outputs).where(_outputs.c.task == task).order_by(_outputs.c.party)
        with self._read() as connection:
            return [Output(**row) for row in connection.execute(query).mappings().all()]

    def mark_fetched(self, task: Hex32, party: Address, at: UnixSeconds) -> None:
        """Note the first time the requester fetched an output."""
        first = (_outputs.c.task == task) & (_outputs.c.party == party) & _outputs.c.fetched_at.is_(None)
        with self._write() as connection:
            connection.execute(update(_outputs).where(first).values(fetched_at=at))

    def add_statement(self, statement: EnclaveStatement) -> None:
        """Keep an enclave's statement, in place of an earlier one of its stage."""
        same = (_statements.c.task == statement.task) & (_statements.c.stage == statement.stage)
        with self._write() as connection:
            connection.execute(delete(_statements).where(same))
            connection.execute(insert(_statements).values(**asdict(statement)))

    def statements(self, task: Hex32) -> list[EnclaveStatement]:
        """The statements of a task's enclave, in the order of their stages."""
        query = select(_statements).where(_statements.c.task == task)
        with self._read() as connection:
            rows = connection.execute(query).mappings().all()
        found = [EnclaveStatement(**{**row, "stage": Stage(row["stage"])}) for row in rows]
        return sorted(found, key=lambda each: list(Stage).index(each.stage))

    def add_metrics(self, metrics: Metrics) -> bool:
        """Keep a message of metrics; false when there is one of its number, which is left as it is."""
        values = {**asdict(metrics), "size": len(metrics.sealed)}
        with self._write() as connection:
            return _insert_unless_there(connection, _metrics, values)

    def metrics_extent(self, task: Hex32) -> tuple[int, int]:
        """How many messages of metrics are kept for ``task``, and how many bytes they have."""
        query = select(func.count(), func.coalesce(func.sum(_metrics.c.size), 0))
        with self._read() as connection:
            count, size = connection.execute(query.where(_metrics.c.task == task)).one()
        return int(count), int(size)

    def metrics(self, task: Hex32, after: int, limit: int) -> list[Metrics]:
        """At most ``limit`` messages of metrics of ``task`` whose number is above ``after``, ascending."""
        wanted = (_metrics.c.task == task) & (_metrics.c.number > after)
        columns = [_metrics.c[each.name] for each in fields(Metrics)]
        query = select(*columns).where(wanted).order_by(_metrics.c.number).limit(limit)
        with self._read() as connection:
            return [Metrics(**row) for row in connection.execute(query).mappings().all()]

    def forget_carried(self, task: Hex32) -> None:
        """Drop the rows of a task's outputs, and what its enclave said."""
        with self._write() as connection:
            for table in (_outputs, _statements, _metrics):
                connection.execute(delete(table).where(table.c.task == task))

    def _tasks_where(self, condition: Any) -> list[Task]:
        query = select(_tasks).where(condition).order_by(_tasks.c.accepted_at, _tasks.c.id)
        with self._read() as connection:
            return [_to_task(row) for row in connection.execute(query).mappings().all()]

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except OperationalError as cause:
            if "full" in str(cause.orig).lower() or "no space" in str(cause.orig).lower():
                raise StorageFull("the database has no room") from cause
            raise


def _prepare_sqlite(connection: Any, _record: object) -> None:
    """Let the API and the worker write side by side, and lose nothing that was acknowledged."""
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=15000"):
        connection.execute(f"PRAGMA {pragma}")


def _insert_unless_there(connection: Connection, table: Table, values: dict[str, Any]) -> bool:
    try:
        with connection.begin_nested():
            connection.execute(table.insert().values(values))
    except IntegrityError:
        return False
    return True


def _from_presence(presence: Presence) -> dict[str, Any]:
    return {
        "node": presence.node,
        "gateway_url": presence.gateway_url,
        "certificate_pem": presence.certificate_pem,
        "fingerprint": presence.fingerprint,
        "engines": json.dumps(presence.engines),
        "version": presence.version,
        "said_at": presence.said_at,
        "heard_at": presence.heard_at,
    }


def _to_presence(row: RowMapping) -> Presence:
    return Presence(**{**row, "engines": tuple(json.loads(row["engines"]))})


def _from_task(task: Task) -> dict[str, Any]:
    seen = task.observed
    observed = None
    if seen is not None:
        observed = json.dumps(
            [int(seen.state), seen.block, seen.at, seen.approved, seen.started, seen.finished]
        )
    return {
        "id": task.id,
        "requester": task.requester,
        "spec": task.spec,
        "parties": json.dumps(task.parties),
        "deadline": task.deadline,
        "engine_seconds": task.engine_seconds,
        "accepted_at": task.accepted_at,
        "warnings": json.dumps(task.warnings),
        "observed": observed,
        "running_since": task.running_since,
        "over_at": task.over_at,
        "purged_at": task.purged_at,
        "late": json.dumps(task.late),
    }


def _to_task(row: RowMapping) -> Task:
    observed = None
    if row["observed"]:
        state, *rest = json.loads(row["observed"])
        observed = Observation(TaskState(state), *rest)
    lists = {key: tuple(json.loads(row[key])) for key in ("parties", "warnings", "late")}
    return Task(**{**row, **lists, "observed": observed})
