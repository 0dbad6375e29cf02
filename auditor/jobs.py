"""The audits of a service: asked for, carried out in their turn, and kept in a folder each.

``audit.json`` in an audit's folder is its state, which the service alone writes. Whoever carries the audit
out writes ``progress.json``, the artefacts and, at its end, ``outcome.json``.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from sealtrace.auditor.exports.formats import USUAL, Format
from sealtrace.auditor.language import Language
from sealtrace.protocol.identifiers import Hex32, hex32

BUNDLE: Final = "audit.tar"
ARTEFACTS: Final = {each.file: each.media_type for each in Format} | {BUNDLE: "application/x-tar"}
"""What an audit may leave, and what each is."""
STATE, PROGRESS, OUTCOME = "audit.json", "progress.json", "outcome.json"
_ID = re.compile(r"[0-9a-f]{32}\Z")
_STOPPED = "the service was stopped; ask again"

Entry = dict[str, Any]
Run = Callable[[Path, threading.Event], None]
"""Carries out the audit of a folder, or ends early once the event is set; see :mod:`carrying`."""


class AuditNotFound(LookupError):
    """There is no audit of that id, or it has no such artefact yet: list them with GET /v1/audits."""


class TooManyAudits(RuntimeError):
    """Too many audits are waiting: fetch those under way first, then ask again."""


class AuditUnderWay(RuntimeError):
    """An audit of the same blocks is waiting or running: fetch that one, or ask again when it is over."""


class ArtefactAltered(RuntimeError):
    """An artefact is not the one that the audit wrote, so it is not handed out: ask for the audit anew."""


class State(StrEnum):
    """How far an audit is; ``broken`` and ``interrupted`` come with a ``detail``."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    BROKEN = "broken"
    INTERRUPTED = "interrupted"


OPEN: Final = frozenset({State.WAITING, State.RUNNING})


class Wanted(BaseModel):
    """Which blocks to audit (by default all, from the contracts' first to the last final one), and how."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)

    first: int | None = Field(default=None, ge=0, lt=1 << 53)
    """The first block to judge."""
    last: int | None = Field(default=None, ge=0, lt=1 << 53)
    """The last block to look at."""
    formats: list[Annotated[Format, Field(strict=False)]] = Field(default=list(USUAL), min_length=1)
    """The reports to make; docs/reports.md says which is for whom."""
    language: Annotated[Language, Field(strict=False)] = Language.ENGLISH
    """Of pages and tables; the record in report.json is in English."""
    bundle: bool = False
    """Whether to pack audit.tar, to be checked without the network (docs/audit-bundle.md)."""
    checkpoint_blocks: int | None = Field(default=None, gt=0, lt=1 << 53)
    """How many blocks after a task's end a node's log may stay unanchored; else as auditor.toml says."""
    rule: str | None = Field(default=None, max_length=16)
    """Apply this check alone."""
    object: str | None = Field(default=None, max_length=500)
    """Judge this object alone."""


class Jobs:
    """Audits under ``folder``; ``concurrent`` are carried out at once by ``run``, up to ``waiting`` are open.

    What a stop of the service cut short is marked as interrupted on construction: only one service may be
    over a folder at a time.
    """

    def __init__(
        self,
        folder: Path,
        run: Run,
        *,
        concurrent: int = 1,
        waiting: int = 16,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self._run = run
        self._waiting = waiting
        self._clock = clock
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._workers = ThreadPoolExecutor(concurrent, thread_name_prefix="audit")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._known = {each["id"]: each for each in _stored(folder)}
        self._interrupt_open()

    def begin(self, wanted: Wanted, who: str, scheduled_for: int | None = None) -> Entry:
        """Take an audit in for ``who`` and carry it out when its turn comes; ``scheduled_for`` is the moment
        of the daily schedule that it is of.

        Raises:
            AuditUnderWay: one of the same blocks is.
            TooManyAudits: as many as may are open.
        """
        with self._lock:
            under_way = [each for each in self._known.values() if each["state"] in OPEN]
            for each in under_way:
                if (each["first"], each["last"]) == (wanted.first, wanted.last):
                    raise AuditUnderWay(f"audit {each['id']} of these blocks is {each['state']}")
            if len(under_way) >= self._waiting:
                raise TooManyAudits(f"{len(under_way)} audits are waiting or running")
            entry = {"id": secrets.token_hex(16), "state": State.WAITING, "asked_at": int(self._clock())}
            entry |= {"asked_by": who, **wanted.model_dump(mode="json")}
            entry |= {} if scheduled_for is None else {"scheduled_for": scheduled_for}
            self._put(entry)
            self._workers.submit(self._carry_out, entry)
            return entry

    def all(self) -> list[Entry]:
        """Every audit, the newest first."""
        with self._lock:
            found = list(self._known.values())
        return sorted(found, key=lambda each: (-each["asked_at"], each["id"]))

    def one(self, identity: str) -> Entry:
        """One audit's state, with its progress while it runs.

        Raises:
            AuditNotFound: there is none.
        """
        with self._lock:
            found = self._known.get(identity)
        if found is None:
            raise AuditNotFound(f"there is no audit {identity[:40]!r}")
        running = found["state"] == State.RUNNING
        return found | {"progress": read_json(self._folder / identity / PROGRESS)} if running else found

    def artefact(self, identity: str, name: str) -> tuple[Path, Hex32, int]:
        """Where an artefact lies, with the digest and the size that it was found to have just now.

        Raises:
            AuditNotFound: there is none, or not yet.
            ArtefactAltered: it is not what the audit wrote.
        """
        written = self.one(identity).get("artefacts", {}).get(name)
        if written is None:
            raise AuditNotFound(f"audit {identity} has no {name[:40]!r}")
        path = self._folder / identity / name
        try:
            found = described(path)
        except OSError as cause:
            raise ArtefactAltered(f"{name} of audit {identity}: {cause.strerror}") from cause
        if found != written:
            raise ArtefactAltered(f"{name} of audit {identity} has another digest than it was written with")
        return path, hex32(found["sha256"]), found["size"]

    def close(self) -> None:
        """Take no more work and cut short what is under way."""
        self._stop.set()
        self._workers.shutdown(cancel_futures=True)
        self._interrupt_open()

    def _interrupt_open(self) -> None:
        with self._lock:
            for each in [each for each in self._known.values() if each["state"] in OPEN]:
                self._put(each | {"state": State.INTERRUPTED, "detail": _STOPPED})

    def _carry_out(self, entry: Entry) -> None:
        entry = entry | {"state": State.RUNNING, "began_at": int(self._clock())}
        self._put(entry)
        folder, died = self._folder / str(entry["id"]), "it ended without a word"
        try:
            self._run(folder, self._stop)
        except Exception as cause:  # whatever it was, the one who asked must learn of it
            died = f"{type(cause).__name__}: {cause}"[:500]
        outcome = read_json(folder / OUTCOME)
        if outcome is None and self._stop.is_set():
            self._put(entry | {"state": State.INTERRUPTED, "detail": _STOPPED})
            return
        state = State.DONE if outcome and "result" in outcome else State.BROKEN
        self._put(entry | {"state": state, "ended_at": int(self._clock())} | (outcome or {"detail": died}))

    def _put(self, entry: Entry) -> None:
        folder = self._folder / str(entry["id"])
        folder.mkdir(mode=0o700, exist_ok=True)
        with self._lock:
            write_json(folder / STATE, entry)
            self._known[str(entry["id"])] = entry


def read_json(path: Path) -> Any:
    """What a small file holds, ``None`` where it is not there."""
    with suppress(FileNotFoundError):
        return json.loads(path.read_text("utf-8"))
    return None


def write_json(path: Path, value: Any) -> None:
    """Put ``value`` into a file that is never seen half written."""
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def described(path: Path) -> dict[str, Any]:
    """Digest and size of a file."""
    with path.open("rb") as file:
        digest = hex32(hashlib.file_digest(file, "sha256").digest())
        return {"sha256": digest, "size": file.tell()}


def _stored(folder: Path) -> Iterator[Entry]:
    for path in folder.glob(f"*/{STATE}"):
        if _ID.match(path.parent.name):
            yield read_json(path)
