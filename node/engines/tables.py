"""A party's own table: the rows of a CSV file as a stream, and the columns that an engine reads.

Errors name rows and columns, never a cell: they travel into logs. Rows count from 1 in words, from 0 in
arrays.
"""

from __future__ import annotations

import csv
import io
import math
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from sealtrace.node.engines.errors import BadInput

if TYPE_CHECKING:  # where there is an engine it brings numpy along; a node without one must still start
    import numpy as np
    from numpy.typing import NDArray

Kind = Literal["category", "number", "nullable_category", "nullable_number"]
MAX_CELL = 64 << 10
MAX_COLUMNS = 16_384
MAX_ROWS = 2**31 - 1
BLOCK_BYTES = 1 << 20
ROWS_AT_ONCE = 8192


@dataclass(frozen=True, slots=True)
class Table:
    """The columns that a job reads of some rows of a file; all have the same length and order.

    ``numbers`` are the rows' places in the file, 4 bytes each.
    """

    numbers: NDArray[np.uint32]
    columns: dict[str, list[str] | array[float]]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.numbers)

    def take(self, numbers: NDArray[np.uint32]) -> Table:
        """Return the rows that have these places in the file, in that order; all are in the table."""
        import numpy as np

        where = np.zeros(int(self.numbers.max()) + 1, dtype=np.uint32)
        where[self.numbers] = np.arange(self.rows, dtype=np.uint32)
        order = where[numbers]
        return Table(numbers, {name: _take(column, order) for name, column in self.columns.items()})


@dataclass(frozen=True, slots=True)
class Cells:
    """Some cells of one column: cell ``i`` is ``octets[starts[i]:ends[i]]``, in UTF-8."""

    octets: bytes
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]

    @classmethod
    def of(cls, texts: Sequence[str]) -> Cells:
        """Return cells of these texts."""
        import numpy as np

        parts = [text.encode() for text in texts]
        ends = np.cumsum(np.fromiter(map(len, parts), dtype=np.int64, count=len(parts)))
        return cls(b"".join(parts), np.concatenate([np.zeros(1, dtype=np.int64), ends[:-1]]), ends)

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def filled(self) -> bool:
        """Whether none is empty."""
        return bool((self.ends > self.starts).all())

    def texts(self) -> list[str]:
        """Return each as text."""
        text = self.octets.decode()
        if len(text) == len(self.octets):
            return [text[start:end] for start, end in self._spans()]
        return [self.octets[start:end].decode() for start, end in self._spans()]

    def parts(self) -> list[bytes]:
        """Return each as it stands in the file: at once where all are of one size, as ids often are."""
        import numpy as np

        sizes = self.ends - self.starts
        size = int(sizes[0])
        if not size or (sizes != size).any():
            return [self.octets[start:end] for start, end in self._spans()]
        window = len(self.octets) - size + 1
        from_each: NDArray[np.void] = np.ndarray(window, f"V{size}", self.octets, strides=(1,))
        found: list[bytes] = from_each[self.starts].tolist()
        return found

    def _spans(self) -> Iterator[tuple[int, int]]:
        return zip(self.starts.tolist(), self.ends.tolist(), strict=True)


def load_table(path: Path, columns: Sequence[tuple[str, Kind]], rows: int) -> Table:
    """Read ``columns`` (name and kind) of a CSV file of ``rows`` rows into memory.

    An empty cell of a nullable column is NaN, or an empty text.

    Raises:
        BadInput: as :func:`table_rows`, and ``missing_column``, ``column_kind``, ``empty_cell``,
            ``not_a_number``, ``not_finite``, ``altered`` where there are more or fewer rows.
    """
    import numpy as np

    kinds = dict(columns)
    if len(kinds) != len(set(columns)):
        raise BadInput(
            "column_kind",
            "a column is asked for in two ways: as number and as category, or with nulls and without",
        )
    made: dict[str, list[str] | array[float]] = {
        n: array("d") if k.endswith("number") else [] for n, k in kinds.items()
    }
    table = Table(np.arange(rows, dtype=np.uint32), made)
    if not kinds:
        return table
    found = 0
    with table_rows(path) as (header, lines):
        readers = [
            (at, name, *_reader(kind, table.columns[name]))
            for at, (name, kind) in zip(places(header, list(kinds)), kinds.items(), strict=True)
        ]
        for found, row in lines:
            for at, name, read, append in readers:
                append(read(row[at], name, found))
    if found != rows:
        raise BadInput("altered", f"{path.name} had {rows} rows when its ids were read, and has {found} now")
    return table


@contextmanager
def table_rows(path: Path) -> Iterator[tuple[list[str], Iterator[tuple[int, list[str]]]]]:
    """Open a CSV file: its header, and its rows one by one with their numbers from 1.

    Raises:
        BadInput: ``missing_file``, ``empty_file``, ``not_utf8``, ``malformed_csv``, ``duplicate_column``.
    """
    with _opened(path) as file, _parsed(file, 0) as reader:
        header = _header(reader, path)
        yield header, _numbered(reader, len(header), 0)


def read_header(path: Path) -> list[str]:
    """Return the names of a CSV file's columns.

    Raises:
        BadInput: as :func:`table_rows`.
    """
    with table_rows(path) as (header, _):
        return header


def table_columns(path: Path, names: Sequence[str]) -> Iterator[tuple[int, list[Cells]]]:
    """Read the columns ``names`` of a CSV file, thousands of rows at a time.

    Yields the number of the first of these rows, and their cells by column. What :func:`table_rows` would
    find is found: as long as there are no quotation marks and carriage returns, a cell is what stands between
    commas and line feeds, and the file is cut there; from the first other piece on it is parsed.

    Raises:
        BadInput: as :func:`table_rows`, and ``missing_column``.
    """
    header = read_header(path)
    at, rows = places(header, names), 0
    with _opened(path) as file:
        cut = len(first) if _is_plain(first := file.readline()) else 0
        while cut and (block := file.read(BLOCK_BYTES) + file.readline()):
            if (columns := _cut(block, len(header), at)) is None:
                break
            yield rows + 1, columns
            rows, cut = rows + len(columns[0]), cut + len(block)
        file.seek(cut)
        with _parsed(file, rows + 1 if cut else 0) as reader:
            if not cut:
                next(reader)
            numbered = _numbered(reader, len(header), rows)
            while piece := list(islice(numbered, ROWS_AT_ONCE)):
                yield piece[0][0], [Cells.of([row[each] for _, row in piece]) for each in at]


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise BadInput("missing_file", f"{path.name}: {error.strerror}") from error


@contextmanager
def _parsed(file: IO[bytes], lines: int) -> Iterator[Any]:
    """Parse what is left of a file of which so many lines were read."""
    text = io.TextIOWrapper(file, encoding="utf-8" if lines else "utf-8-sig", newline="")
    previous = csv.field_size_limit(MAX_CELL)
    reader = csv.reader(text, strict=True)
    try:
        yield reader
    except csv.Error as error:
        raise BadInput("malformed_csv", f"line {lines + reader.line_num}: {error}") from error
    except UnicodeDecodeError as error:
        raise BadInput("not_utf8", f"near line {lines + reader.line_num}") from error
    finally:
        csv.field_size_limit(previous)


def _is_plain(octets: bytes) -> bool:
    return not any(each in octets for each in (b'"', b"\r", b"\0"))


def _cut(block: bytes, width: int, at: Sequence[int]) -> list[Cells] | None:
    """Return the cells of the columns ``at`` of whole lines; ``None`` where parsing them is not that easy."""
    import numpy as np

    block = block if block.endswith(b"\n") else block + b"\n"
    octets = np.frombuffer(block, dtype=np.uint8)
    ends, commas = np.flatnonzero(octets == ord("\n")), np.flatnonzero(octets == ord(","))
    starts = np.concatenate([np.zeros(1, dtype=np.int64), ends[:-1] + 1])
    sizes = ends - starts
    if not _is_plain(block) or len(commas) != len(ends) * (width - 1):
        return None
    if sizes.min() == 0 or sizes.max() > MAX_CELL:
        return None
    bounds = np.column_stack([starts - 1, commas.reshape(len(ends), -1), ends])
    if (np.diff(bounds) < 1).any():  # a line has more commas, another one fewer
        return None
    if not block.isascii() and not _is_utf8(block):
        return None
    return [Cells(block, bounds[:, each] + 1, bounds[:, each + 1].copy()) for each in at]


def _is_utf8(octets: bytes) -> bool:
    try:
        octets.decode()
    except UnicodeDecodeError:
        return False
    return True


def places(header: list[str], names: Sequence[str]) -> list[int]:
    """Return where in the header each of ``names`` stands.

    Raises:
        BadInput: ``missing_column``.
    """
    for name in names:
        if name not in header:
            raise BadInput("missing_column", f"there is no column {name!r}")
    return [header.index(name) for name in names]


def _header(reader: Iterator[list[str]], path: Path) -> list[str]:
    header = next(reader, None)
    if header is None:
        raise BadInput("empty_file", f"{path.name} is empty")
    if len(header) > MAX_COLUMNS:
        raise BadInput("malformed_csv", f"more than {MAX_COLUMNS} columns")
    if len(set(header)) != len(header):
        raise BadInput("duplicate_column", "two columns share a name")
    return header


def _numbered(reader: Iterator[list[str]], width: int, before: int) -> Iterator[tuple[int, list[str]]]:
    for number, row in enumerate(reader, start=before + 1):
        if len(row) != width:
            raise BadInput("malformed_csv", f"row {number} has {len(row)} cells, not {width}")
        if number > MAX_ROWS:
            raise BadInput("too_many_rows", f"more than {MAX_ROWS}")
        yield number, row


def _reader(
    kind: Kind, column: list[str] | array[float]
) -> tuple[Callable[[str, str, int], Any], Callable[[Any], None]]:
    return _READERS[kind], column.append


def _text(cell: str, name: str, number: int) -> str:
    if not cell:
        raise BadInput("empty_cell", f"column {name!r}, row {number}")
    return cell


def _number(cell: str, name: str, number: int) -> float:
    try:
        value = float(cell)
    except ValueError as error:
        raise BadInput("not_a_number", f"column {name!r}, row {number}") from error
    if not math.isfinite(value):
        raise BadInput("not_finite", f"column {name!r}, row {number}")
    return value


def _text_or_null(cell: str, _name: str, _number: int) -> str:
    return cell


def _number_or_null(cell: str, name: str, number: int) -> float:
    return _number(cell, name, number) if cell else math.nan


_READERS: dict[Kind, Callable[[str, str, int], Any]] = {
    "category": _text,
    "number": _number,
    "nullable_category": _text_or_null,
    "nullable_number": _number_or_null,
}


def _take(column: list[str] | array[float], order: NDArray[np.uint32]) -> list[str] | array[float]:
    import numpy as np

    if isinstance(column, array):
        taken = array("d")
        taken.frombytes(np.frombuffer(column, dtype=np.float64)[order].tobytes())
        return taken
    return [column[i] for i in order.tolist()]
