"""The full ledger as a Parquet table: one row for each event, one column for each argument that any has.

The columns come from the committed ABI, so that every ledger has the same ones; an event leaves empty what it
does not have. The file's metadata names the chain, the range and the report it belongs to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from io import BytesIO
from typing import Final

from sealtrace.auditor.events import Event, Value
from sealtrace.auditor.report import Json, to_json
from sealtrace.auditor.times import LAST
from sealtrace.contracts import abi
from sealtrace.protocol.canonical import sha256

_PLACE: Final = (
    ("block", "uint64"),
    ("block_hash", "string"),
    ("timestamp", "uint64"),
    ("time", "time"),
    ("transaction", "string"),
    ("log_index", "uint64"),
    ("contract", "string"),
    ("event", "string"),
    ("judged", "bool"),
)
"""Columns that every event has. ``timestamp`` is the block's, in seconds after 1970, ``time`` the same where
a calendar has it; ``judged`` tells whether the event lies in the range that the checks looked at."""

ROW_GROUP: Final = 50_000
"""Rows that are made at once, and held together in the file."""


def to_parquet(report: Json, events: Sequence[Event]) -> bytes:
    """The events, in the order of the chain, as one Parquet file (zstd)."""
    import pyarrow as pa
    from pyarrow import parquet

    kinds = {"time": pa.timestamp("s", tz="UTC"), "bool": pa.bool_(), "string": pa.string()}
    typed = [(name, kinds.get(kind) or getattr(pa, kind)()) for name, kind in columns()]
    metadata = {f"sealtrace.{key}": value for key, value in _metadata(report).items()}
    schema = pa.schema(typed, metadata=metadata)
    first = int(report["scope"]["first_block"])
    target = BytesIO()
    with parquet.ParquetWriter(target, schema, compression="zstd") as writer:
        for start in range(0, len(events), ROW_GROUP):
            rows = [_row(event, first) for event in events[start : start + ROW_GROUP]]
            arrays = [pa.array([row.get(name) for row in rows], kind) for name, kind in typed]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
    return target.getvalue()


@cache
def columns() -> tuple[tuple[str, str], ...]:
    """Every column's name and type, those of arguments in alphabetical order."""
    kinds: dict[str, set[str]] = {}
    for declared in _declared().values():
        for name, kind in declared.values():
            kinds.setdefault(name, set()).add(kind)
    return (*_PLACE, *((name, _widest(found)) for name, found in sorted(kinds.items())))


@cache
def _declared() -> Mapping[str, Mapping[str, tuple[str, str]]]:
    """For each event and argument, the argument's column and type. Where one name is text in one event and a
    number in another, the numbers have a column of their own."""
    found = {
        event.name: {each.name: _kind(each.type) for each in (*event.indexed, *event.data)}
        for contract in abi.CONTRACTS
        for event in abi.events(contract).values()
    }
    text = {name for args in found.values() for name, kind in args.items() if kind == "string"}
    return {
        event: {
            name: (f"{name}_number" if name in text and kind != "string" else name, kind)
            for name, kind in args.items()
        }
        for event, args in found.items()
    }


def _kind(solidity: str) -> str:
    """The column type of an ABI type: text for identifiers and for integers beyond 64 bits."""
    if solidity == "bool":
        return "bool"
    bits = int(solidity[4:]) if solidity.startswith("uint") else 256
    return "string" if bits > 64 else f"uint{next(size for size in (8, 16, 32, 64) if bits <= size)}"


def _widest(kinds: set[str]) -> str:
    return max(kinds, key=lambda kind: (len(kind), kind))


def _row(event: Event, first: int) -> dict[str, Value | None]:
    args = _declared().get(event.name, {})
    return dict(_place(event, first)) | {
        column: str(event.args[name]) if kind == "string" else event.args[name]
        for name, (column, kind) in args.items()
        if name in event.args
    }


def _place(event: Event, first: int) -> Iterator[tuple[str, Value | None]]:
    yield "block", event.block.number
    yield "block_hash", event.block.hash
    yield "timestamp", event.block.timestamp
    yield "time", event.block.timestamp if event.block.timestamp <= LAST else None
    yield "transaction", event.transaction
    yield "log_index", event.log_index
    yield "contract", event.contract
    yield "event", event.name
    yield "judged", event.block.number >= first


def _metadata(report: Json) -> dict[str, str]:
    scope = report["scope"]
    told = {name: str(scope[name]) for name in ("chain_id", "directory", "last_block", "last_hash")}
    return told | {"proof_level": str(report["proof"]["level"]), "report_sha256": sha256(to_json(report))}
