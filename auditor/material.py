"""What an audit is based on, kept as it was read: headers, receipts and the nodes' logs, on disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from sealtrace.auditor.headers import Header, rlp_bytes, rlp_list
from sealtrace.protocol.attestation.statement import Statement
from sealtrace.protocol.identifiers import Address, Hex32

MAX_BLOCK_BYTES: Final = 32 << 20
MAX_BLOCKS_BYTES: Final = 8 << 30
_NO_RECEIPTS: Final = rlp_bytes(b"")


class MaterialTooLarge(ValueError):
    """A block, or all of them, are beyond what a verifier reads: audit a shorter range of blocks."""


class Material:
    """Files under ``folder``, which is empty at the start; closed by ``with``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._blocks = (folder / "blocks.rlp").open("wb")
        self._size = 0
        self._stated: tuple[Hex32, ...] = ()
        self.contracts: Mapping[Address, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._blocks.close()

    def block(self, header: Header, receipts: Sequence[bytes] | None) -> None:
        """Keep the next block: its header and, where its bloom filter excludes nothing, all its receipts as
        the trie holds them.

        Raises:
            MaterialTooLarge: no verifier would read it.
        """
        proof = _NO_RECEIPTS if receipts is None else rlp_list([rlp_bytes(each) for each in receipts])
        entry = rlp_list([header.encoded, proof])
        self._size += len(entry)
        if len(entry) > MAX_BLOCK_BYTES or self._size >= MAX_BLOCKS_BYTES:
            raise MaterialTooLarge(f"block {header.number}: {len(entry)} bytes of {self._size} in all")
        self._blocks.write(entry)

    def lines(self, node: Address, lines: Iterator[bytes]) -> Iterator[bytes]:
        """Pass on the lines of a node's log, and keep those that were asked for."""
        with (self._folder / f"{node}.jsonl").open("wb") as kept:
            for line in lines:
                kept.write(line)
                yield line

    def statements(self, found: Mapping[Hex32, Statement]) -> None:
        """Keep what enclaves stated, each under its digest."""
        for digest, statement in found.items():
            (self._folder / f"{digest}.json").write_bytes(statement.document())
        self._stated = tuple(sorted(found))

    def members(self, nodes: Iterable[str]) -> list[tuple[str, Path]]:
        """The names and paths of the blocks, of the logs of ``nodes`` and of statements, in the order of a
        bundle: a log that could not be fetched to its end is not among what the audit is based on."""
        self._blocks.flush()
        logs = [(f"logs/{node}.jsonl", self._folder / f"{node}.jsonl") for node in sorted(nodes)]
        stated = [(f"statements/{each}.json", self._folder / f"{each}.json") for each in self._stated]
        return [("blocks.rlp", self._folder / "blocks.rlp"), *logs, *stated]
