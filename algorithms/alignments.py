"""The result of an alignment, from what its parties put into their shares: a count, ids, or joined rows.

The parties that learned the common keys say the same of them, or nothing is opened.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from sealtrace.algorithms.frames import BadShare, SecretValue
from sealtrace.algorithms.shares import ResultShare
from sealtrace.protocol.canonical import NotCanonical, parse_canonical

Row = list[Any]


class _Words(BaseModel):
    """What a party says of the rows it gives: its input, its columns, and whether a row shows its key."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    input: str
    columns: list[str]
    keys: bool


@dataclass(frozen=True, slots=True)
class _Part:
    """One party's rows by the place of their key, and those without one."""

    words: _Words
    matched: list[list[Row]]
    alone: list[Row]


def aligned(parts: Sequence[ResultShare]) -> dict[str, Any]:
    """Return the opened result of an alignment, from all of its parties' shares in the order of ranks.

    ``rows`` is the number of common keys; ``ids`` are the keys, in the order of their hashes; ``columns`` and
    ``table`` are the joined rows, the key first.

    Raises:
        BadShare: a share is malformed, or the parties do not agree.
    """
    named = {value.name for value in parts[0].values}
    rows = _count(_one_word(parts, "aligned"))
    result: dict[str, Any] = {"rows": rows}
    if "ids" in named:
        result["ids"] = _listed(_one_word(parts, "ids"))
        if len(result["ids"]) != rows:
            raise BadShare("there are more or fewer ids than common keys")
    if "rows" in named:
        result |= _joined([_part(_value(each, "rows"), rows) for each in parts])
    return result


def _value(part: ResultShare, name: str) -> SecretValue:
    found = [value for value in part.values if value.name == name]
    if len(found) != 1:
        raise BadShare(f"party {part.header.rank} does not give {name} once")
    return found[0]


def _one_word(parts: Sequence[ResultShare], name: str) -> tuple[bytes, ...]:
    """What the parties say that learned the common keys; the others say nothing."""
    said = {_value(part, name).chunks for part in parts if _value(part, "aligned").chunks}
    if len(said) != 1:
        raise BadShare("the parties do not agree on the common rows")
    return said.pop()


def _count(chunks: tuple[bytes, ...]) -> int:
    try:
        (text,) = chunks
        said = parse_canonical(text)
    except (ValueError, NotCanonical) as error:
        raise BadShare("the number of common rows is not canonical JSON") from error
    rows = said.get("rows") if isinstance(said, dict) and len(said) == 1 else None
    if type(rows) is not int or rows < 0:
        raise BadShare("the number of common rows is none")
    return rows


def _listed(chunks: Sequence[bytes]) -> list[Any]:
    found: list[Any] = []
    for chunk in chunks:
        try:
            piece = json.loads(chunk)
        except ValueError as error:
            raise BadShare("a list of rows is not JSON") from error
        if not isinstance(piece, list):
            raise BadShare("a list of rows is none")
        found += piece
    return found


def _part(value: SecretValue, count: int) -> _Part:
    try:
        words = _Words.model_validate(parse_canonical(value.meta))
    except (ValidationError, NotCanonical) as error:
        raise BadShare("a party does not say which columns it gives") from error
    part = _Part(words, [[] for _ in range(count)], [])
    width = 1 + words.keys + len(words.columns)
    for row in _listed(value.chunks):
        if not isinstance(row, list) or len(row) != width:
            raise BadShare(f"a row of {words.input} has not {width} cells")
        place = row[0]
        if place is None:
            part.alone.append(row[1:])
        elif type(place) is int and 0 <= place < count:
            part.matched[place].append(row[1:])
        else:
            raise BadShare(f"a row of {words.input} is of no common key")
    if not all(part.matched):
        raise BadShare(f"{words.input} gives no row for a common key")
    return part


def _joined(parts: Sequence[_Part]) -> dict[str, Any]:
    if sum(part.words.keys for part in parts) != 1:
        raise BadShare("one party shows the keys, and no other")
    columns = [f"{part.words.input}.{name}" for part in parts for name in part.words.columns]
    return {"columns": ["key", *columns], "table": list(_joined_rows(parts))}


def _joined_rows(parts: Sequence[_Part]) -> Iterator[Row]:
    for rows in zip(*(part.matched for part in parts), strict=True):
        for combination in product(*rows):
            yield _line(parts, combination)
    for left in parts:
        for row in left.alone:
            yield _line(parts, [row if part is left else None for part in parts])


def _line(parts: Sequence[_Part], rows: Sequence[Row | None]) -> Row:
    """The key, then every party's cells, or nulls where it has no row."""
    key: list[Any] = []
    cells: Row = []
    for part, row in zip(parts, rows, strict=True):
        if row is None:
            cells += [None] * len(part.words.columns)
        elif part.words.keys:
            key = row[:1]
            cells += row[1:]
        else:
            cells += row
    return key + cells
