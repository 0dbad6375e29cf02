"""The keys of a party's own table: checked before anything leaves the party, then 128 bits for each.

A file of any length is read as a stream. What stays is 16 bytes for a key and 8 for a row.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sealtrace.node.engines.errors import BadInput
from sealtrace.node.engines.tables import Cells, places, read_header, table_columns, table_rows
from sealtrace.protocol.alignment import Alignment, read_alignment
from sealtrace.protocol.keys import (
    DIGEST_BYTES,
    TOKEN_BYTES,
    UnfitKey,
    digests_of_one_part,
    encode_key,
    rewriter,
    tokens_of,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TOKENS = f"S{TOKEN_BYTES}"

Key = tuple[str, ...]


class _Step(Protocol):
    @property
    def engine(self) -> str: ...
    @property
    def inputs(self) -> Sequence[str]: ...
    @property
    def params(self) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class KeyRule:
    """How a step makes a key of a row: columns in their order, each with its rules."""

    columns: tuple[str, ...]
    rules: tuple[tuple[str, ...], ...]
    distinct: bool
    """Whether two rows of one key are refused."""


@dataclass(frozen=True, slots=True)
class TableFacts:
    """What a check found: rows below the header."""

    rows: int
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Keys:
    """The distinct keys of some rows, as tokens in ascending order, and the rows that have each.

    ``rows`` are places in the file, grouped by token, ascending within a group; group ``i`` is
    ``rows[starts[i]:starts[i + 1]]``.
    """

    tokens: NDArray[np.bytes_]
    rows: NDArray[np.uint32]
    starts: NDArray[np.uint32]

    def first(self) -> NDArray[np.uint32]:
        """Return the first row of each key."""
        first: NDArray[np.uint32] = self.rows[self.starts[:-1]]
        return first

    def group_of_row(self, count: int, chosen: NDArray[np.int64]) -> NDArray[np.int32]:
        """Return, for each of a file's ``count`` rows, which of the keys ``chosen`` it has, or -1."""
        import numpy as np

        sizes = np.diff(self.starts.astype(np.int64))
        groups = np.full(len(sizes), -1, dtype=np.int32)
        groups[chosen] = np.arange(len(chosen), dtype=np.int32)
        found = np.full(count, -1, dtype=np.int32)
        found[self.rows] = np.repeat(groups, sizes)
        return found

    def only(self, numbers: NDArray[np.uint32]) -> Keys:
        """Return the keys of the rows at these places of the file alone."""
        import numpy as np

        wanted = np.zeros(int(self.rows.max()) + 1, dtype=np.bool_)
        wanted[numbers] = True
        kept = wanted[self.rows]
        tokens = np.repeat(self.tokens, np.diff(self.starts.astype(np.int64)))
        return _grouped(tokens[kept], self.rows[kept])


def rule_for(alignment: Alignment, name: str, id_column: str) -> KeyRule:
    """Return how ``alignment`` makes keys of the input ``name``."""
    return KeyRule(
        columns=alignment.key_columns(name, id_column),
        rules=tuple(tuple(part.rules) for part in alignment.key),
        distinct=alignment.duplicates == "refuse",
    )


def rules_of(steps: Sequence[_Step], name: str, id_column: str) -> list[KeyRule]:
    """Return the rules of all PSI steps that read the input ``name``; with none, ids are distinct."""
    reading = [step for step in steps if step.engine == "psi" and name in step.inputs]
    alignments = [read_alignment(step.params) for step in reading] or [Alignment()]
    return [rule_for(each, name, id_column) for each in alignments]


def check_table(path: Path, columns: Sequence[str], rules: Sequence[KeyRule]) -> TableFacts:
    """Read a CSV file once and refuse what no job could use.

    Streams: memory is 8 bytes a row and rule for the hashes of keys, twice that while they are sorted.

    Raises:
        BadInput: as :func:`~sealtrace.node.engines.tables.table_rows`, and ``missing_column``,
            ``empty_id``, ``unfit_id``, ``duplicate_ids``.
    """
    header = read_header(path)
    places(header, columns)
    hashes = [array("q") for _ in rules]
    names = list(dict.fromkeys(name for rule in rules for name in rule.columns))
    readers = [_keys_reader(rule) for rule in rules]
    for first, cells in table_columns(path, names):
        own = dict(zip(names, cells, strict=True))
        for rule, read, found in zip(rules, readers, hashes, strict=True):
            # 64 bits, keyed anew in each process (PEP 456)
            found.extend(map(hash, zip(*read([own[name] for name in rule.columns], first), strict=True)))
    if not hashes[0]:
        raise BadInput("empty_file", f"{path.name} has no rows below its header")
    for rule, found in zip(rules, hashes, strict=True):
        if rule.distinct and (suspects := _repeated(found)):
            _confirm_duplicates(path, rule, suspects)
    return TableFacts(len(hashes[0]), tuple(header))


def read_keys(path: Path, rule: KeyRule, task: str, columns: Sequence[str] = ()) -> Keys:
    """Read the keys of a CSV file as tokens of ``task``. ``columns`` must be there too.

    Raises:
        BadInput: as :func:`check_table`.
    """
    import numpy as np

    places(read_header(path), columns)
    found = bytearray()
    read = _tokens_reader(rule, task)
    for first, cells in table_columns(path, rule.columns):
        found += read(cells, first)
    if not found:
        raise BadInput("empty_file", f"{path.name} has no rows below its header")
    tokens = np.frombuffer(found, dtype=TOKENS)
    order = _sorted(tokens)
    keys = _grouped(tokens[order], order)
    if rule.distinct and len(keys.tokens) < len(keys.rows):
        at = int(np.argmax(np.diff(keys.starts) > 1))
        first, second = (int(row) + 1 for row in keys.rows[keys.starts[at] :][:2])
        raise BadInput("duplicate_ids", f"rows {first} and {second} have one id")
    return keys


def key_reader(rule: KeyRule, header: list[str]) -> Callable[[list[str], int], Key]:
    """Return the function of a row, and its number for errors, that gives its key."""
    parts = [
        (at, name, rewriter(rules) if rules else None)
        for at, name, rules in zip(places(header, rule.columns), rule.columns, rule.rules, strict=True)
    ]

    def read(row: list[str], number: int) -> Key:
        return tuple([_cell(row[at], name, number, rewrite) for at, name, rewrite in parts])

    def read_one(row: list[str], number: int) -> Key:
        return (row[at] if row[at] and rewrite is None else _cell(row[at], name, number, rewrite),)

    at, name, rewrite = parts[0]
    return read_one if len(parts) == 1 else read


def _keys_reader(rule: KeyRule) -> Callable[[list[Cells], int], list[list[str]]]:
    """Return the function of cells by column, and the number of their first row, that gives parts of keys."""
    parts = [
        (name, rewriter(rules) if rules else None)
        for name, rules in zip(rule.columns, rule.rules, strict=True)
    ]

    def read(columns: list[Cells], first: int) -> list[list[str]]:
        return [
            cells.texts()
            if rewrite is None and cells.filled
            else [
                _cell(cell, name, number, rewrite) for number, cell in enumerate(cells.texts(), start=first)
            ]
            for cells, (name, rewrite) in zip(columns, parts, strict=True)
        ]

    return read


def _tokens_reader(rule: KeyRule, task: str) -> Callable[[list[Cells], int], bytes]:
    """Return the function of cells by column, and the number of their first row, that gives keys' tokens."""
    read = _keys_reader(rule)
    if len(rule.columns) > 1:
        token = tokens_of(task)
        return lambda columns, first: b"".join(
            [token(encode_key(key)) for key in zip(*read(columns, first), strict=True)]
        )
    digests, rewritten = digests_of_one_part(task), any(rule.rules)

    def of_cells(columns: list[Cells], first: int) -> bytes:
        if rewritten or not columns[0].filled:
            return _cut(digests([cell.encode() for cell in read(columns, first)[0]]))
        return _cut(digests(columns[0].parts()))

    return of_cells


def _cut(digests: bytes) -> bytes:
    """Return the tokens that digests begin with."""
    import numpy as np

    form = np.dtype({"names": ["token"], "formats": [f"V{TOKEN_BYTES}"], "itemsize": DIGEST_BYTES})
    return np.frombuffer(digests, dtype=form)["token"].tobytes()


def _cell(cell: str, name: str, number: int, rewrite: Callable[[str], str] | None) -> str:
    if cell and rewrite is not None:
        try:
            cell = rewrite(cell)
        except UnfitKey as error:
            raise BadInput("unfit_id", f"column {name!r}, row {number} {error}") from error
    if not cell:
        raise BadInput("empty_id", f"column {name!r}, row {number}")
    return cell


def numbers_at(tokens: NDArray[np.bytes_], start: int) -> NDArray[np.uint64]:
    """Return the 8 bytes from ``start`` of each token as a number; numbers compare as these bytes do."""
    import numpy as np

    size = tokens.itemsize
    form = np.dtype({"names": ["number"], "formats": [">u8"], "offsets": [start], "itemsize": size})
    found: NDArray[np.uint64] = tokens.view(form)["number"].astype(np.uint64)
    return found


def _sorted(tokens: NDArray[np.bytes_]) -> NDArray[np.uint32]:
    import numpy as np

    high = numbers_at(tokens, 0)
    order = np.argsort(high)
    ordered = high[order]
    if (ordered[1:] == ordered[:-1]).any():  # a key given twice, or a rare coincidence
        order = np.lexsort((numbers_at(tokens, 8), high))
    return order.astype(np.uint32)


def _grouped(tokens: NDArray[np.bytes_], rows: NDArray[np.uint32]) -> Keys:
    """Group sorted tokens."""
    import numpy as np

    new = np.ones(len(tokens), dtype=np.bool_)
    new[1:] = tokens[1:] != tokens[:-1]
    if new.all():
        return Keys(tokens, rows, np.arange(len(tokens) + 1, dtype=np.uint32))
    starts = np.append(np.flatnonzero(new), len(tokens)).astype(np.uint32)
    return Keys(tokens[new], rows, starts)


def _repeated(hashes: array[int]) -> set[int]:
    import numpy as np

    ordered = np.sort(np.frombuffer(hashes, dtype=np.int64))
    return set(ordered[1:][ordered[1:] == ordered[:-1]].tolist())


def _confirm_duplicates(path: Path, rule: KeyRule, suspects: set[int]) -> None:
    """Look again at the few keys whose hashes are equal: a hash alone accuses nobody."""
    seen: dict[Key, int] = {}
    with table_rows(path) as (header, rows):
        read = key_reader(rule, header)
        for number, row in rows:
            key = read(row, number)
            if hash(key) in suspects:
                first = seen.setdefault(key, number)
                if first != number:
                    raise BadInput("duplicate_ids", f"rows {first} and {number} have one id")
