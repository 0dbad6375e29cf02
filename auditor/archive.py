"""The audits a service has carried out, each a folder with its state and its reports."""

from __future__ import annotations

import json
import re
import secrets
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from sealtrace.auditor.audit import Audit
from sealtrace.auditor.exports.formats import USUAL, Format, write
from sealtrace.auditor.exports.signing import Signing
from sealtrace.auditor.report import counts, document, sentence

ARTEFACTS: Final = {each.file: each.media_type for each in Format}
"""The reports that an audit may have, and what each is."""
MAX_WAITING: Final = 16
_ID = re.compile(r"[0-9a-f]{32}")
_STATE = "audit.json"


class AuditNotFound(LookupError):
    """There is no audit of that id, or it has no such artefact yet: list them with GET /v1/audits."""


class TooManyAudits(RuntimeError):
    """Too many audits are waiting: fetch those under way first, then ask again."""


class Archive:
    """Audits under ``folder``, carried out one after the other by one thread."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._clock = clock
        self._lock = threading.Lock()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="audit")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for each in self.all():
            if each["state"] in ("waiting", "running"):
                self._put(each | {"state": "broken", "detail": "the service was stopped; ask again"})

    def begin(
        self,
        request: dict[str, Any],
        work: Callable[[], Audit],
        wanted: Collection[Format] = USUAL,
        signing: Signing | None = None,
    ) -> dict[str, Any]:
        """Take an audit in and carry it out when its turn comes; ``wanted`` are the reports it is to have, of
        which the pages are signed by ``signing``.

        Raises:
            TooManyAudits: sixteen are waiting.
        """
        if sum(each["state"] in ("waiting", "running") for each in self.all()) >= MAX_WAITING:
            raise TooManyAudits(f"{MAX_WAITING} audits are waiting")
        entry = {"id": secrets.token_hex(16), "state": "waiting", "asked_at": int(self._clock()), **request}
        self._put(entry)
        self._worker.submit(self._carry_out, entry, work, wanted, signing)
        return entry

    def all(self) -> list[dict[str, Any]]:
        """Every audit, the newest first."""
        found = [self._get(path.parent.name) for path in self._folder.glob(f"*/{_STATE}")]
        return sorted(found, key=lambda each: (-each["asked_at"], each["id"]))

    def one(self, identity: str) -> dict[str, Any]:
        """One audit's state.

        Raises:
            AuditNotFound: there is none.
        """
        return self._get(identity)

    def artefact(self, identity: str, name: str) -> Path:
        """Where a report lies.

        Raises:
            AuditNotFound: there is none, or not yet.
        """
        self._get(identity)
        path = self._folder / identity / name
        if name not in ARTEFACTS or not path.exists():
            raise AuditNotFound(f"audit {identity} has no {name[:40]}")
        return path

    def close(self) -> None:
        """Take no more work, and wait for what is under way."""
        self._worker.shutdown(cancel_futures=True)

    def _carry_out(
        self,
        entry: dict[str, Any],
        work: Callable[[], Audit],
        wanted: Collection[Format],
        signing: Signing | None,
    ) -> None:
        self._put(entry | {"state": "running"})
        try:
            done = work()
            write(document(done), done.case.events, self._folder / str(entry["id"]), wanted, signing)
        except Exception as cause:  # whatever it was, the one who asked must learn of it
            self._put(entry | {"state": "broken", "detail": f"{type(cause).__name__}: {cause}"[:500]})
            return
        told = {"result": done.result.name.lower(), "sentence": sentence(done), "counts": counts(done)}
        self._put(entry | {"state": "done", **told})

    def _get(self, identity: str) -> dict[str, Any]:
        if not _ID.fullmatch(identity):
            raise AuditNotFound(f"{identity[:40]!r} is no audit's id")
        try:
            with self._lock:
                found: dict[str, Any] = json.loads((self._folder / identity / _STATE).read_text("utf-8"))
            return found
        except FileNotFoundError as cause:
            raise AuditNotFound(f"there is no audit {identity}") from cause

    def _put(self, entry: dict[str, Any]) -> None:
        folder = self._folder / str(entry["id"])
        folder.mkdir(mode=0o700, exist_ok=True)
        fresh = folder / (_STATE + ".part")
        with self._lock:
            fresh.write_text(json.dumps(entry), "utf-8")
            fresh.replace(folder / _STATE)
