"""The evidence log: what a node records about itself, and the checkpoints it is held to.

Each record is one canonical JSON object; the log is an RFC 9162 tree over them. A record is written
before the step it speaks of is relied on, and it holds hashes and identifiers, never data.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sealtrace.protocol.canonical import NotCanonical, canonical, parse_canonical
from sealtrace.protocol.identifiers import AddressField, Hex32Field

VERSION: Final = "sealtrace.evidence/1"
MAX_RECORD_BYTES = 256 << 10


class Kind(StrEnum):
    """What a record speaks of."""

    NODE_OPENED = "node.opened"
    DATASET_ADDED = "dataset.added"
    DATASET_WITHDRAWN = "dataset.withdrawn"
    DATASET_OPENED = "dataset.opened"
    GRANT_ISSUED = "grant.issued"
    GRANT_REVOKED = "grant.revoked"
    TASK_JUDGED = "task.judged"
    TASK_APPROVED = "task.approved"
    TASK_STARTED = "task.started"
    TASK_RAN = "task.ran"
    TASK_FINISHED = "task.finished"
    TASK_REFUSED = "task.refused"
    TASK_FAILED = "task.failed"
    TASK_STOPPED = "task.stopped"
    TASK_WIPED = "task.wiped"
    EVIDENCE_READ = "evidence.read"


class BadRecord(ValueError):
    """A line of an evidence log is not a record."""


class Record(BaseModel):
    """One entry. ``index`` is its place in the log, ``at`` the node's clock in Unix seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, ser_json_inf_nan="constants")

    version: Literal["sealtrace.evidence/1"] = VERSION
    index: int = Field(ge=0)
    at: int
    node: AddressField
    kind: str = Field(pattern=r"^[a-z]+\.[a-z]+$")
    task: Hex32Field | None = None
    body: dict[str, Any]

    def line(self) -> bytes:
        """The canonical bytes of this record, the leaf of the log's tree."""
        return canonical(self.model_dump(mode="json"))


def read_record(line: bytes) -> Record:
    """Read one line of a log.

    Raises:
        BadRecord: it is not a record in canonical form.
    """
    try:
        return Record.model_validate(parse_canonical(line, limit_bytes=MAX_RECORD_BYTES))
    except (NotCanonical, ValidationError) as cause:
        raise BadRecord(f"not a record: {str(cause)[:200]}") from cause
