"""What a task's enclave shows while the task runs: its statements, and sealed metrics for the requester.

A statement holds no secret: whoever knows the task may read it, and judges it without us. Metrics are sealed
to the requester, who alone is given them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sealtrace.protocol.attestation.refusals import EvidenceRefused
from sealtrace.protocol.attestation.statement import Statement, read_statement
from sealtrace.protocol.canonical import canonical, sha256
from sealtrace.protocol.identifiers import Hex32, UnixSeconds
from sealtrace.protocol.spec import TaskSpec, read_spec
from sealtrace.protocol.statements import Signed
from sealtrace.scheduler.delivery import known, requested, require_kept
from sealtrace.scheduler.errors import (
    EnclaveStatementNotFound,
    EnclaveStatementRefused,
    MalformedRequest,
    MetricsChanged,
    MetricsOutOfOrder,
    NotTheSpeaker,
    OutputDigestWrong,
    TooManyMetrics,
)
from sealtrace.scheduler.intake import trusted
from sealtrace.scheduler.store import Store
from sealtrace.scheduler.tasks import EnclaveStatement, Metrics

MAX_MESSAGES: Final = 10_000
"""Messages of metrics that one task may leave here."""
MAX_MESSAGES_TOLD: Final = 64
"""Messages in one answer: with the largest ones, 4 MiB of sealed bytes."""


def take_statement(
    task: Hex32, digest: Hex32, content: bytes, signed: Signed, store: Store, now: UnixSeconds
) -> EnclaveStatement:
    """Keep what the enclave of ``task`` shows: of each stage the last, for one whose process died before its
    party's start is begun anew. Which one counts is on the chain.

    Raises:
        StatementRefused, MalformedRequest, NotTheSpeaker: it is not the word of the enclave's party.
        TaskNotFound, TaskOver: there is no such task here, or it is done with.
        OutputDigestWrong, EnclaveStatementRefused: the bytes are not what they are said to be.
    """
    spec = _spec_of(task, signed, "task.statement", {"digest": digest}, store, now)
    if (observed := sha256(content)) != digest:
        raise OutputDigestWrong(digest, observed)
    found = EnclaveStatement(task, _read(content, task, spec).stage, digest, content, now)
    store.add_statement(found)
    return found


def statements(task: Hex32, store: Store) -> list[EnclaveStatement]:
    """What the enclave of ``task`` has shown so far.

    Raises:
        TaskNotFound, TaskOver: there is no such task here, or it is done with.
    """
    require_kept(known(task, store))
    return store.statements(task)


def statement(task: Hex32, digest: Hex32, store: Store) -> EnclaveStatement:
    """The statement ``digest`` of the enclave of ``task``.

    Raises:
        TaskNotFound, TaskOver, EnclaveStatementNotFound: it is not here.
    """
    for each in statements(task, store):
        if each.digest == digest:
            return each
    raise EnclaveStatementNotFound(task, digest)


def take_metrics(
    task: Hex32, number: int, sealed: bytes, signed: Signed, store: Store, limit_bytes: int, now: UnixSeconds
) -> Metrics:
    """Keep the sealed message ``number`` of ``task``. The same bytes may come again.

    Raises:
        StatementRefused, MalformedRequest, NotTheSpeaker: it is not the word of the enclave's party for it.
        TaskNotFound, TaskOver: there is no such task here, or it is done with.
        MetricsOutOfOrder, MetricsChanged, TooManyMetrics: it is not kept.
    """
    digest = sha256(sealed)
    _spec_of(task, signed, "task.metrics", {"number": number, "digest": digest}, store, now)
    message = Metrics(task, number, digest, sealed, canonical(signed.model_dump(mode="json")), now)
    count, size = store.metrics_extent(task)
    if number > count:
        raise MetricsOutOfOrder(number, count)
    if number == count and (count >= MAX_MESSAGES or size + len(sealed) > limit_bytes):
        raise TooManyMetrics(f"task {task} has {count} messages of {size} bytes here")
    if store.add_metrics(message):
        return message
    (kept,) = store.metrics(task, number - 1, 1)
    if kept.digest != digest:
        raise MetricsChanged(task, number, kept.digest)
    return kept


def metrics(task: Hex32, after: int, signed: Signed, store: Store, now: UnixSeconds) -> list[Metrics]:
    """The next messages whose number is above ``after``, for the requester of ``task``.

    Raises:
        StatementRefused, MalformedRequest, NotTheSpeaker: the statement is not the requester's wish.
        TaskNotFound, TaskOver: there is no such task here, or it is done with.
    """
    require_kept(requested(task, signed, store, now))
    return store.metrics(task, after, MAX_MESSAGES_TOLD)


def _spec_of(
    task: Hex32, signed: Signed, kind: str, about: Mapping[str, Any], store: Store, now: UnixSeconds
) -> TaskSpec:
    """The specification of ``task``, whose enclave's party says ``about`` in a statement of ``kind``."""
    speaker, body = trusted(signed, kind, now)
    found = known(task, store)
    spec = read_spec(found.spec)
    if speaker != spec.enclave:
        raise NotTheSpeaker(f"{speaker} runs no enclave of task {task}")
    if canonical(dict(body)) != canonical({"task": task, **about}):  # in which 1 is not True
        raise MalformedRequest(f"the body of a {kind} names the task, {' and '.join(about)} of what is sent")
    require_kept(found)
    return spec


def _read(content: bytes, task: Hex32, spec: TaskSpec) -> Statement:
    try:
        found = read_statement(content)
    except EvidenceRefused as cause:
        raise EnclaveStatementRefused(str(cause)) from cause
    said = (found.challenge.task, found.party, found.challenge.algorithm)
    if said != (task, spec.enclave, spec.steps[0].algorithm):
        raise EnclaveStatementRefused("it is of another task, party or algorithm than it is brought for")
    return found
