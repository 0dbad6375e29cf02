"""A task's terms as text, for the store."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sealtrace.protocol.canonical import canonical, parse
from sealtrace.protocol.records import Protection, TaskTerms, Use


def to_text(terms: TaskTerms) -> str:
    """Canonical JSON of ``terms``."""
    return canonical({**asdict(terms), "protections": int(terms.protections)}).decode()


def from_text(text: str) -> TaskTerms:
    """The terms that :func:`to_text` wrote."""
    value: dict[str, Any] = parse(text.encode())
    return TaskTerms(
        requester=value["requester"],
        spec=value["spec"],
        purpose=value["purpose"],
        protections=Protection(value["protections"]),
        deadline=value["deadline"],
        parties=tuple(value["parties"]),
        uses=tuple(Use(**use) for use in value["uses"]),
    )
