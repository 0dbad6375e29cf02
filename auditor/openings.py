"""Commitments that owners opened to the regulator, as files of one folder. Their salts go into no report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sealtrace.protocol.fingerprint import PIECE_BYTES, fingerprint
from sealtrace.protocol.identifiers import Address, Hex32
from sealtrace.protocol.opening import MAX_BYTES, BadOpening, is_signed, read_opening, statement_digest
from sealtrace.protocol.statements import BadStatement, Signed

MAX_OPENINGS: Final = 10_000


class OpeningUnreadable(ValueError):
    """A file is no signed opening of a dataset; the message names it."""


@dataclass(frozen=True, slots=True)
class Opened:
    """An opening without what must not be told on: ``commitment`` is what its salt and root hash to."""

    dataset: Hex32
    speaker: Address
    signed: bool
    to: str
    at: int
    commitment: Hex32
    statement: Hex32

    @property
    def name(self) -> str:
        """The object that verdicts on it name."""
        return f"{self.dataset}/{self.statement}"


def read_openings(folder: Path) -> tuple[Opened, ...]:
    """The openings in the files ``*.json`` of ``folder``, by their names.

    Raises:
        OpeningUnreadable: it is no folder, a file is no opening, or there are too many.
    """
    if not folder.is_dir():
        raise OpeningUnreadable(
            f"{folder} is no folder: put the files of sealtrace node dataset open into one"
        )
    files = sorted(folder.glob("*.json"))
    if len(files) > MAX_OPENINGS:
        raise OpeningUnreadable(f"{folder} has {len(files)} files; one audit reads {MAX_OPENINGS}")
    return tuple(map(read_file, files))


def read_file(path: Path) -> Opened:
    """The opening in one file.

    Raises:
        OpeningUnreadable: there is none.
    """
    try:
        with path.open("rb") as file:
            signed, opening = read_opening(file.read(MAX_BYTES + 1))
        said = signed.statement
        return Opened(
            dataset=opening.dataset,
            speaker=said.speaker,
            signed=_is_signed(signed),
            to=said.audience,
            at=said.at,
            commitment=opening.commitment,
            statement=statement_digest(said),
        )
    except (OSError, BadOpening) as cause:
        raise OpeningUnreadable(f"{path}: {cause}") from cause


def fits(path: Path, data: Path) -> bool:
    """Whether ``data`` is the file whose fingerprint the opening at ``path`` has.

    Raises:
        OpeningUnreadable: one of the two cannot be read.
    """
    try:
        _, opening = read_opening(path.read_bytes())
        return fingerprint(_pieces(data)) == opening.root
    except (OSError, BadOpening) as cause:
        raise OpeningUnreadable(f"{path}, {data}: {cause}") from cause


def _is_signed(signed: Signed) -> bool:
    try:
        return is_signed(signed)
    except BadStatement:
        return False


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield piece
