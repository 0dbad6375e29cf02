"""The statements of enclaves that this node keeps, for those who look at its evidence."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sealtrace.node.errors import StatementNotFound
from sealtrace.protocol.canonical import sha256
from sealtrace.protocol.identifiers import Hex32, MalformedIdentifier, hex32


@dataclass(frozen=True, slots=True)
class StatementList:
    """What is kept, by digest and size in bytes, and the node's certificate (DER)."""

    certificate: bytes
    kept: tuple[tuple[Hex32, int], ...]


def listed(folder: Path) -> tuple[tuple[Hex32, int], ...]:
    """Digest and size in bytes of each statement in ``folder``, by digest."""
    return tuple(sorted((_digest(path), path.stat().st_size) for path in _files(folder)))


def kept_text(folder: Path, digest: Hex32) -> bytes:
    """The statement of that digest, as it was written.

    Raises:
        StatementNotFound: there is none.
    """
    try:
        return (folder / f"{hex32(digest)}.json").read_bytes()
    except FileNotFoundError as cause:
        raise StatementNotFound(digest) from cause


def export(folder: Path, certificate: bytes, out: Path) -> list[Path]:
    """Copy all statements and write the certificate, each under its digest; return the statements' paths."""
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{sha256(certificate)}.der").write_bytes(certificate)
    written = []
    for path in _files(folder):
        target = out / path.name
        target.write_bytes(path.read_bytes())
        written.append(target)
    return written


def _files(folder: Path) -> list[Path]:
    """What is named by a digest: a file that is just being written has another name."""
    return sorted(path for path in folder.glob("0x*.json") if _is_digest(path.stem))


def _is_digest(text: str) -> bool:
    try:
        return hex32(text) == text
    except MalformedIdentifier:
        return False


def _digest(path: Path) -> Hex32:
    return Hex32(path.stem)
