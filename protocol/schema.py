"""The schema of a table: its columns and their kinds, and the hash the chain holds."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from sealtrace.protocol.canonical import digest
from sealtrace.protocol.identifiers import Hex32


class ColumnKind(StrEnum):
    """What a column holds, as far as joint computation cares."""

    NUMBER = "number"
    TEXT = "text"


class Column(BaseModel):
    """One column of a table."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: ColumnKind


class Schema(BaseModel):
    """The columns of a table in their order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: str
    columns: tuple[Column, ...]

    def hash(self) -> Hex32:
        """SHA-256 of the canonical JSON of this schema."""
        return digest(self.model_dump(mode="json"))
