"""Large tables without quotation marks, split and converted by Arrow. What it cannot tell is read by cells.

It never decides what a table is: where it is in doubt it gives ``None``, and the reader of the standard
library says what the table holds, or what is wrong with it. So both come to the same cells, the same numbers
and the same refusals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

ARROW = {"numpy", "pyarrow"}
"""What a bundle's lock has to name for large tables to be read by it."""
LEAST_BYTES = 1 << 20
"""Below this, loading Arrow costs more than it saves."""
_PIECE_BYTES = 1 << 20
_BLOCK_BYTES = 1 << 20
_LONGEST_CELL = 131_072
"""What the reader of the standard library takes (``csv.field_size_limit``)."""


class Column(Sequence[str]):
    """The cells of one column, in Arrow's memory: their bytes and 4 bytes each."""

    def __init__(self, cells: Any) -> None:
        self._cells = cells

    def __len__(self) -> int:
        return len(self._cells)

    def __getitem__(self, at: Any) -> Any:
        return self._cells[at].as_py() if isinstance(at, int) else Column(self._cells[at])

    def __iter__(self) -> Iterator[str]:
        for chunk in self._cells.chunks:
            yield from chunk.to_pylist()

    @property
    def cells(self) -> Any:
        """They as Arrow holds them."""
        return self._cells

    def all_different(self) -> bool:
        """Whether no cell is empty and none is there twice."""
        import pyarrow.compute as compute

        shortest = compute.min(compute.binary_length(self._cells)).as_py()
        return shortest != 0 and len(compute.unique(self._cells)) == len(self._cells)

    def places(self, among: Sequence[int], wanted: Callable[[str], bool]) -> list[int]:
        """Those places of ``among``, which ascend, whose cell is ``wanted``: it is asked once for each
        different one."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as compute

        whole = len(among) == len(self._cells)
        cells = self._cells if whole else self._cells.take(pa.array(among, pa.int64()))
        known = [cell for cell in compute.unique(cells).to_pylist() if wanted(cell)]
        found = np.flatnonzero(compute.is_in(cells, value_set=pa.array(known, pa.string())).to_numpy())
        places = found if whole else np.asarray(among)[found]
        return list(places.tolist())

    def floats(self) -> Any:
        """The cells as an array of doubles, NaN where empty; ``None`` where one is no plain finite number.

        Arrow rounds correctly, as Python does: the same text gives the same double.
        """
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as compute

        cells = self._cells
        empty = compute.invert(compute.cast(compute.binary_length(cells), pa.bool_()))
        if compute.any(empty).as_py():
            cells = compute.if_else(empty, pa.nulls(1, pa.string())[0], cells)
        try:
            found = compute.cast(cells, pa.float64())
        except pa.ArrowInvalid:
            return None
        made = found.to_numpy()
        return made if np.isfinite(made).sum() == len(made) - found.null_count else None


def arrow_is_here() -> bool:
    """Whether this process could read by it. A bundle's lock says whether its own may."""
    return find_spec("numpy") is not None and find_spec("pyarrow") is not None


def columns_of(content: Any) -> dict[str, Column] | None:
    """The columns of a CSV file with a header; ``None`` where it has quotation marks, or anything unusual."""
    import pyarrow as pa
    import pyarrow.csv as arrow_csv

    view = memoryview(content)
    names = _header(view)
    if names is None or not _plain(view):
        return None
    pa.set_memory_pool(pa.system_memory_pool())  # others reserve address space, which is limited
    try:
        table = arrow_csv.read_csv(
            pa.py_buffer(view),
            read_options=arrow_csv.ReadOptions(block_size=_BLOCK_BYTES),
            parse_options=arrow_csv.ParseOptions(quote_char=False, ignore_empty_lines=True),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid:
        return None
    if table.column_names != names or _long(table):
        return None
    return {name: Column(table.column(at)) for at, name in enumerate(names)}


def written(columns: Mapping[str, Column], sink: Any) -> None:
    """Write columns as an Arrow file, which :func:`columns_from` reads where it lies."""
    import pyarrow as pa

    table = pa.table({name: each.cells for name, each in columns.items()})
    with pa.ipc.new_file(sink, table.schema) as file:
        file.write_table(table)


def columns_from(content: Any) -> dict[str, Column]:
    """The columns in what :func:`written` wrote. Their cells stay in ``content``, mapped memory."""
    import pyarrow as pa

    table = pa.ipc.open_file(pa.py_buffer(memoryview(content))).read_all()
    return {name: Column(table.column(at)) for at, name in enumerate(table.column_names)}


def _header(view: memoryview) -> list[str] | None:
    line = bytes(view[:_PIECE_BYTES]).partition(b"\n")[0]
    try:
        names = line.decode("utf-8-sig").removesuffix("\r").split(",")
    except UnicodeDecodeError:
        return None
    return names if len(set(names)) == len(names) and any(names) else None


def _plain(view: memoryview) -> bool:
    """No quotation mark and no zero byte; each carriage return before a line feed."""
    alone = 0
    for at in range(0, len(view), _PIECE_BYTES):
        piece = bytes(view[at : at + _PIECE_BYTES])
        if b'"' in piece or b"\0" in piece:
            return False
        if b"\r" in piece:
            alone += piece.count(b"\r") - piece.count(b"\r\n")
            alone -= piece.endswith(b"\r") and bytes(view[at + _PIECE_BYTES :][:1]) == b"\n"
    return not alone


def _long(table: Any) -> bool:
    import pyarrow.compute as compute

    lengths = (compute.max(compute.binary_length(each)).as_py() for each in table.columns)
    return any(length is not None and length > _LONGEST_CELL for length in lengths)
