"""What an alignment hands over: to the requester inside the sealed share, and to a party that keeps its rows.

The file is read once more, as a stream. What goes into the share is held as text, and 12 bytes a row.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sealtrace.algorithms.frames import MAX_BLOB_BYTES, SecretValue
from sealtrace.node.engines.errors import BadJob
from sealtrace.node.engines.keys import KeyRule, Keys, key_reader
from sealtrace.node.engines.tables import places, table_rows
from sealtrace.protocol.alignment import Alignment
from sealtrace.protocol.canonical import canonical

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RECEIVED = "received.csv"
LINES_AT_ONCE = 8192
UNMATCHED = -1
LEFT_OUT = -2


@dataclass(frozen=True, slots=True)
class Found:
    """One party's view of a finished alignment. ``chosen`` are the common keys, ``None`` where another
    party alone learns them. ``gives`` are the columns that this party puts into a joined result."""

    name: str
    path: Path
    rule: KeyRule
    alignment: Alignment
    inputs: Sequence[str]
    gives: Sequence[str]
    rows: int
    keys: Keys
    chosen: NDArray[np.int64] | None

    @property
    def shows_keys(self) -> bool:
        """Whether a joined result takes the keys from this party."""
        return self.name == (self.alignment.left or self.inputs[0])


def values(found: Found) -> list[SecretValue]:
    """Return this party's part of the step's result. What it does not know is a value without chunks."""
    result = found.alignment.result
    if found.chosen is None:
        return [SecretValue("aligned", b"", ()), *([SecretValue("ids", b"", ())] if result == "ids" else [])]
    made = [SecretValue("aligned", b"", (canonical({"rows": len(found.chosen)}),))]
    if result == "ids":
        made.append(SecretValue("ids", b"", tuple(_ids(found))))
    if result == "rows":
        words = {"input": found.name, "columns": list(found.gives), "keys": found.shows_keys}
        made.append(SecretValue("rows", canonical(words), tuple(_rows(found))))
    return made


def receive(found: Found, folder: Path) -> Mapping[str, Any] | None:
    """Write the cells of this party's own key columns, for its rows that are common, and return how many
    there are and the file's digest; ``None`` where the step has this party keep nothing."""
    if not found.alignment.keep or found.chosen is None:
        return None
    count, columns = 0, tuple(dict.fromkeys(found.rule.columns))
    place = _places(found, every=True)
    path = folder / RECEIVED
    with table_rows(found.path) as (header, rows), path.open("w", encoding="utf-8", newline="") as file:
        os.fchmod(file.fileno(), 0o600)
        at = places(header, columns)
        writer = csv.writer(file)
        writer.writerow(columns)
        for number, row in rows:
            if place[number - 1] >= 0:
                writer.writerow([row[each] for each in at])
                count += 1
    with path.open("rb") as written:
        digest = hashlib.file_digest(written, "sha256").hexdigest()
    return {"rows": count, "digest": f"0x{digest}"}


def _ids(found: Found) -> Iterator[bytes]:
    place = _places(found, every=False)
    lines = _Lines()
    with table_rows(found.path) as (header, rows):
        read = key_reader(found.rule, header)
        for number, row in rows:
            if (at := int(place[number - 1])) >= 0:
                lines.add(at, _key(read(row, number)))
    return lines.chunks()


def _rows(found: Found) -> Iterator[bytes]:
    """Rows as [place of the key among the common ones or null, key where this party shows it, cells...]."""
    place = _places(found, every=found.alignment.duplicates == "all")
    least = UNMATCHED if found.alignment.left == found.name else 0
    last = 0 if found.chosen is None else len(found.chosen)
    lines = _Lines()
    with table_rows(found.path) as (header, rows):
        read = key_reader(found.rule, header)
        given = places(header, found.gives)
        for number, row in rows:
            if (at := int(place[number - 1])) >= least:
                key = [_key(read(row, number))] if found.shows_keys else []
                cells = [row[each] for each in given]
                lines.add(last if at < 0 else at, [None if at < 0 else at, *key, *cells])
    return lines.chunks()


def _places(found: Found, *, every: bool) -> NDArray[np.int32]:
    """Return for each row of the file the place of its key among the common ones, or that it has none.

    Unless ``every`` row counts, those after the first of their key are left out.
    """
    import numpy as np

    chosen = found.chosen if found.chosen is not None else np.zeros(0, dtype=np.int64)
    grouped = found.keys.group_of_row(found.rows, chosen)
    counted = found.keys.rows if every else found.keys.first()
    place = np.full(found.rows, LEFT_OUT, dtype=np.int32)
    place[counted] = grouped[counted]
    return place


def _key(parts: Sequence[str]) -> Any:
    return parts[0] if len(parts) == 1 else list(parts)


class _Lines:
    """Short JSON texts, put in order when all are there."""

    def __init__(self) -> None:
        self._text = bytearray()
        self._ends = array("Q")
        self._places = array("i")

    def add(self, place: int, value: object) -> None:
        """Add a value; those of one place stay in the order in which they came.

        Raises:
            BadJob: all together are more than a share may hold.
        """
        if len(self._text) > MAX_BLOB_BYTES:
            raise BadJob(
                f"the rows of the result are beyond {MAX_BLOB_BYTES >> 20} MiB: "
                "ask for a count, for fewer columns, or in parts"
            )
        self._text += json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
        self._ends.append(len(self._text))
        self._places.append(place)

    def chunks(self) -> Iterator[bytes]:
        """Return JSON arrays of all values, some thousands each."""
        import numpy as np

        order = np.argsort(np.frombuffer(self._places, dtype=np.int32), kind="stable")
        ends = np.frombuffer(self._ends, dtype=np.uint64)
        starts = np.concatenate([np.zeros(1, dtype=np.uint64), ends[:-1]])
        for first in range(0, len(order), LINES_AT_ONCE):
            piece = order[first : first + LINES_AT_ONCE]
            spans = zip(starts[piece].tolist(), ends[piece].tolist(), strict=True)
            yield b"[" + b",".join([bytes(self._text[start:end]) for start, end in spans]) + b"]"
