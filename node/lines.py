"""Many records of an evidence log at once: the same bytes as :meth:`Record.line`, made quickly.

A record's form is canonical JSON (RFC 8785). Most bodies hold only texts in ASCII and whole numbers, for
which its rules are few and are followed here; everything else goes the long way.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from json.encoder import encode_basestring
from types import NoneType
from typing import Any, Final

from sealtrace.protocol.canonical import MAX_DEPTH
from sealtrace.protocol.evidence import VERSION, Kind, Record
from sealtrace.protocol.identifiers import Address, Hex32

EXACT: Final = 2**53 - 1
_TASK = re.compile(r"0x[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True)
class Entry:
    """What a record is to say."""

    kind: Kind
    body: dict[str, Any]
    task: Hex32 | None = None


class _Elaborate(Exception):
    """A value that RFC 8785 writes in a way of its own."""


def lines(entries: Sequence[Entry], *, first: int, at: int, node: Address) -> list[bytes]:
    """The lines of the records that say ``entries``, from index ``first`` on, all written at ``at``.

    Raises:
        NotCanonical, ValidationError, ValueError: one has no line, as in :class:`Record`.
    """
    Record(index=first, at=at, node=node, kind=Kind.NODE_OPENED.value, body={}).line()  # refuses for all
    head = f'{{"at":{at},"body":'
    tail = f'","node":"{node}","task":'
    end = f',"version":"{VERSION}"}}'
    made = []
    for index, entry in enumerate(entries, first):
        try:
            if type(entry.body) is not dict:
                raise _Elaborate
            body, task = _object(entry.body), _task(entry.task)
            if body.count("[") + body.count("{") > MAX_DEPTH:
                raise _Elaborate
            text = f'{head}{body},"index":{index},"kind":"{entry.kind}{tail}{task}{end}'
            made.append(text.encode("ascii"))
        except (KeyError, _Elaborate, RecursionError, UnicodeEncodeError):
            made.append(_strictly(entry, index, at, node))
    return made


def _strictly(entry: Entry, index: int, at: int, node: Address) -> bytes:
    kind = entry.kind.value
    return Record(index=index, at=at, node=node, kind=kind, task=entry.task, body=entry.body).line()


def _task(task: Hex32 | None) -> str:
    if task is None:
        return "null"
    if not _TASK.match(task):
        raise _Elaborate
    return f'"{task}"'


def _object(value: dict[Any, Any]) -> str:
    """The text of ``value``; canonical where it is ASCII.

    Raises:
        _Elaborate: it holds a number beyond 2^53 or a key that is no text.
        KeyError: it holds something that is not in :data:`_WRITERS`, such as a number with a fraction.
    """
    members = [f"{name}{_WRITERS[type(each := value[key])](each)}" for key, name in _names(tuple(value))]
    return "{" + ",".join(members) + "}"


@lru_cache(maxsize=256)
def _names(keys: tuple[Any, ...]) -> list[tuple[str, str]]:
    """Each key and the text before its value, in order; in ASCII, code points and UTF-16 sort alike."""
    if any(type(key) is not str for key in keys):
        raise _Elaborate
    return [(key, f"{encode_basestring(key)}:") for key in sorted(keys)]


def _array(value: list[Any]) -> str:
    return "[" + ",".join([_WRITERS[type(each)](each) for each in value]) + "]"


def _integer(value: int) -> str:
    if not -EXACT <= value <= EXACT:
        raise _Elaborate
    return str(value)


_WRITERS: Final[dict[type, Callable[[Any], str]]] = {
    str: encode_basestring,
    int: _integer,
    bool: {False: "false", True: "true"}.__getitem__,
    NoneType: {None: "null"}.__getitem__,
    list: _array,
    dict: _object,
}
