"""Packing an audit so that it can be checked far from any network: see docs/audit-bundle.md for the format.

A plain ustar archive, never compressed: what a verifier reads is as long as it says. Nothing in it comes from
a clock, a path or an owner of files, so that the same audit gives the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, Final

from sealtrace.auditor.material import Material, MaterialTooLarge
from sealtrace.auditor.report import to_json
from sealtrace.protocol.canonical import canonical, sha256
from sealtrace.protocol.identifiers import Hex32, hex32

VERSION: Final = "sealtrace.audit-bundle/1"
MAX_REPORT_BYTES: Final = 64 << 20
_BLOCK: Final = 512


class BundleUnwritable(OSError):
    """The bundle cannot be written where it was asked for: name a file in a folder that takes it."""


@contextmanager
def gathering() -> Iterator[Material]:
    """A place for what an audit is based on, until it is packed."""
    with TemporaryDirectory(prefix="sealtrace-audit-") as folder, Material(Path(folder)) as material:
        yield material


def pack(report: dict[str, Any], material: Material, out: Path) -> Hex32:
    """Write the bundle of an audit to ``out`` and return its SHA-256.

    Raises:
        BundleUnwritable: the file cannot be written.
        MaterialTooLarge: no verifier would read the report.
    """
    text = to_json(report)
    if len(text) > MAX_REPORT_BYTES:
        raise MaterialTooLarge(f"a report of {len(text)} bytes: audit a shorter range of blocks")
    kept = material.members(log["node"] for log in report["annex"]["logs"])
    entries = [_entry("report.json", sha256(text), len(text))]
    entries += [_entry(name, _digest(path), path.stat().st_size) for name, path in kept]
    manifest = canonical(_manifest(report, material, entries))
    part = out.with_name(out.name + ".part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as target:
            _add(target, "manifest.json", len(manifest), io.BytesIO(manifest))
            _add(target, "report.json", len(text), io.BytesIO(text))
            for name, path in kept:
                with path.open("rb") as source:
                    _add(target, name, path.stat().st_size, source)
            target.write(bytes(2 * _BLOCK))
        digest = _digest(part)
        part.replace(out)
    except OSError as cause:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise BundleUnwritable(f"{out}: {cause.strerror}") from cause
    return digest


def tar_header(name: str, size: int) -> bytes:
    """The one header that a member of this name and size has (POSIX.1-1988, ustar)."""
    before = name.encode("ascii").ljust(100, b"\0") + b"0000644\0" + 2 * b"0000000\0"
    before += b"%011o\0" % size + b"00000000000\0"
    after = b"0" + bytes(100) + b"ustar\x0000" + bytes(64) + 2 * b"0000000\0" + bytes(167)
    total = sum(before) + 8 * ord(" ") + sum(after)
    return before + b"%06o\0 " % total + after


def _manifest(report: dict[str, Any], material: Material, members: list[dict[str, Any]]) -> dict[str, Any]:
    scope, proof = report["scope"], report["proof"]
    return {
        "version": VERSION,
        "tool": report["tool"],
        "chain_id": scope["chain_id"],
        "directory": scope["directory"],
        "blocks": {
            "first": proof["first_block"],
            "last": proof["last_block"],
            "last_hash": scope["last_hash"],
        },
        "scope": {"first_block": scope["first_block"], "last_block": scope["last_block"]},
        "contracts": [
            {"address": address, "name": name} for address, name in sorted(material.contracts.items())
        ],
        "members": members,
    }


def _entry(name: str, digest: Hex32, size: int) -> dict[str, Any]:
    return {"name": name, "sha256": digest, "size": size}


def _digest(path: Path) -> Hex32:
    with path.open("rb") as stream:
        return hex32(hashlib.file_digest(stream, "sha256").digest())


def _add(target: IO[bytes], name: str, size: int, source: IO[bytes]) -> None:
    target.write(tar_header(name, size))
    shutil.copyfileobj(source, target)
    target.write(bytes(-size % _BLOCK))
