"""Many records of an evidence log at once: the same bytes as :meth:`Record.line`, made quickly.

A record's form is canonical JSON (RFC 8785). Most bodies hold only texts in ASCII and whole numbers, for
which its rules are few and are followed here; everything else goes the long way.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Final

from sealtrace.protocol.evidence import VERSION, Kind, Record
from sealtrace.protocol.identifiers import Address, Hex32

EXACT: Final = 2**53 - 1
_TASK = re.compile(r"0x[0-9a-f]{64}\Z")
_WORDS: Final = {None: "null", False: "false", True: "true"}
_quoted = json.JSONEncoder(ensure_ascii=False).encode


@dataclass(frozen=True, slots=True)
class Entry:
    """What a record is to say."""

    kind: Kind
    body: dict[str, Any]
    task: Hex32 | None = None


class _Elaborate(Exception):
    """A value that RFC 8785 writes in a way of its own."""


def line(entry: Entry, *, index: int, at: int, node: Address) -> bytes:
    """The line of the record that says ``entry``.

    Raises:
        NotCanonical, ValidationError: it has no line, as in :class:`Record`.
    """
    task = "null" if entry.task is None else f'"{entry.task}"'
    try:
        if entry.task is not None and not _TASK.match(entry.task):
            raise _Elaborate
        return (
            f'{{"at":{at},"body":{_plain(entry.body)},"index":{index},"kind":"{entry.kind}",'
            f'"node":"{node}","task":{task},"version":"{VERSION}"}}'
        ).encode()
    except _Elaborate:
        kind = entry.kind.value
        return Record(index=index, at=at, node=node, kind=kind, task=entry.task, body=entry.body).line()


def _plain(value: Any) -> str:
    """The canonical text of ``value``, where it is what anybody would write.

    Raises:
        _Elaborate: it holds a number with a fraction or beyond 2^53, a text or key beyond ASCII, or no JSON.
    """
    kind = type(value)
    if kind is str and value.isascii():
        return _quoted(value)
    if kind is int and -EXACT <= value <= EXACT:
        return str(value)
    if kind is dict:
        return _plain_object(value)
    if kind is list:
        return "[" + ",".join([_plain(each) for each in value]) + "]"
    if value is None or kind is bool:
        return _WORDS[value]
    raise _Elaborate


def _plain_object(value: dict[Any, Any]) -> str:
    for key in value:
        if type(key) is not str or not key.isascii():
            raise _Elaborate
    return "{" + ",".join([f"{_quoted(key)}:{_plain(value[key])}" for key in sorted(value)]) + "}"
