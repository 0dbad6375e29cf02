"""Introductions, and carrying sealed outputs from parties to the requester."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sealtrace.protocol.canonical import canonical
from sealtrace.protocol.identifiers import Address, Hex32, MalformedIdentifier, UnixSeconds, hex32
from sealtrace.protocol.statements import Signed
from sealtrace.scheduler.errors import (
    MalformedRequest,
    NotTheSpeaker,
    OutputChanged,
    OutputNotFound,
    PartyNotAlive,
    TaskNotFound,
    TaskOver,
)
from sealtrace.scheduler.intake import trusted
from sealtrace.scheduler.sealed_files import Incoming, SealedFiles
from sealtrace.scheduler.store import Store
from sealtrace.scheduler.tasks import Output, Task


@dataclass(frozen=True, slots=True)
class Offer:
    """A delivery that may be received: who brings what for which task."""

    task: Hex32
    party: Address
    digest: Hex32
    statement: bytes


def known(task: Hex32, store: Store) -> Task:
    """The task ``task``.

    Raises:
        TaskNotFound: it was never submitted here.
    """
    found = store.task(task)
    if found is None:
        raise TaskNotFound(task)
    return found


def introduction(task: Hex32, store: Store) -> dict[str, Any]:
    """The specification and where each party is to be met. Readers check all of it against the chain.

    Raises:
        TaskNotFound: it was never submitted here.
        PartyNotAlive: a party has never been heard of.
    """
    found = known(task, store)
    met = {each.node: each for each in store.presences()}
    if missing := [party for party in found.parties if party not in met]:
        raise PartyNotAlive(missing)
    return {
        "spec": found.spec.decode(),
        "parties": [
            {
                "address": party,
                "gateway_url": met[party].gateway_url,
                "certificate_pem": met[party].certificate_pem,
            }
            for party in found.parties
        ],
    }


def offered(task: Hex32, party: Address, signed: Signed, store: Store, now: UnixSeconds) -> Offer | None:
    """What a party offers to deliver, or ``None`` when the very same was delivered before.

    Raises:
        StatementRefused, MalformedRequest, NotTheSpeaker: the statement is not the party's word for it.
        TaskNotFound, TaskOver: there is no such task here, or it is done with.
        OutputChanged: other bytes were delivered before.
    """
    speaker, body = trusted(signed, "task.output", now)
    found = known(task, store)
    if speaker != party or party not in found.parties:
        raise NotTheSpeaker(f"{speaker} is not the party {party} of task {task}")
    if set(body) != {"task", "digest"} or body["task"] != task or not _is_digest(body["digest"]):
        raise MalformedRequest("the body of a task.output names this task and the digest of the bytes")
    require_kept(found)
    digest = Hex32(body["digest"])
    kept = store.output(task, party)
    if kept is not None and kept.digest != digest:
        raise OutputChanged(task, party, kept.digest)
    return None if kept else Offer(task, party, digest, canonical(signed.model_dump(mode="json")))


def deliver(offer: Offer, incoming: Incoming, files: SealedFiles, store: Store, now: UnixSeconds) -> None:
    """Keep what was received: the file first, then the record of it.

    Raises:
        OutputDigestWrong, StorageFull: nothing is kept.
        OutputChanged: another delivery of the same party came first.
    """
    path = files.path(offer.task, offer.party, offer.digest)
    incoming.keep(path, offer.digest)
    output = Output(offer.task, offer.party, offer.digest, incoming.size, offer.statement, now)
    if store.add_output(output):
        return
    kept = store.output(offer.task, offer.party)
    if kept is not None and kept.digest != offer.digest:
        path.unlink(missing_ok=True)
        raise OutputChanged(offer.task, offer.party, kept.digest)


def fetch(
    task: Hex32, party: Address, signed: Signed, files: SealedFiles, store: Store, now: UnixSeconds
) -> tuple[Output, bytes]:
    """A sealed output for the requester of its task, with the statement its party signed.

    Raises:
        StatementRefused, MalformedRequest, NotTheSpeaker: the statement is not the requester's wish.
        TaskNotFound, OutputNotFound, TaskOver: it is not here.
        OutputDamaged: it is, but altered.
    """
    found = requested(task, signed, store, now)
    output = store.output(task, party)
    if output is None:
        require_kept(found)
        raise OutputNotFound(task, party)
    content = files.read(task, party, output.digest)
    store.mark_fetched(task, party, now)
    return output, content


def requested(task: Hex32, signed: Signed, store: Store, now: UnixSeconds) -> Task:
    """The task whose requester asks, by ``signed``, for what was left here for it.

    Raises:
        StatementRefused, MalformedRequest, NotTheSpeaker: the statement is not the requester's wish.
        TaskNotFound: it was never submitted here.
    """
    speaker, body = trusted(signed, "task.fetch", now)
    found = known(task, store)
    if speaker != found.requester:
        raise NotTheSpeaker(f"{speaker} is not the requester of task {task}")
    if body.get("task") != task:
        raise MalformedRequest("the body of a task.fetch names this task")
    return found


def require_kept(task: Task) -> None:
    """Refuse what is asked of, or brought for, a task whose outputs were deleted.

    Raises:
        TaskOver: they were.
    """
    if task.purged_at is not None:
        raise TaskOver(f"task {task.id} ended and its outputs were deleted at {task.purged_at}")


def summary(task: Task, outputs: Iterable[Output]) -> dict[str, Any]:
    """A task as it is shown: what the chain said when last asked, and which outputs are here."""
    seen = task.observed
    here = {each.party: each.digest for each in outputs}
    return {
        "task": task.id,
        "requester": task.requester,
        "state": seen.state.name.lower() if seen else "none",
        "block": seen.block if seen else None,
        "deadline": task.deadline,
        "over": task.over_at is not None,
        "parties": [
            {
                "address": party,
                "approved": bool(seen and seen.approved >> index & 1),
                "started": bool(seen and seen.started >> index & 1),
                "finished": bool(seen and seen.finished >> index & 1),
                "output": here.get(party),
            }
            for index, party in enumerate(task.parties)
        ],
        "warnings": list(task.warnings),
        "late": list(task.late),
        "purged": task.purged_at is not None,
    }


def _is_digest(value: object) -> bool:
    try:
        return isinstance(value, str) and hex32(value) == value
    except MalformedIdentifier:
        return False
