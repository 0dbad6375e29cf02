"""An algorithm bundle's bytes and digest: an OCI manifest over a deterministic tar and a config.

The digest is that of the OCI image manifest (image-spec 1.1, artifact usage), so registry tools show
the same one. GNU tar gives other bytes for the same files: this writer is normative.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from sealtrace.protocol.canonical import canonical
from sealtrace.protocol.identifiers import Hex32

MEDIA_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
MEDIA_CONFIG = "application/vnd.sealtrace.algorithm.config.v1+json"
MEDIA_LAYER = "application/vnd.oci.image.layer.v1.tar"
ARTIFACT_TYPE = "application/vnd.sealtrace.algorithm.v1"

MAX_MEMBERS = 1024
MAX_BYTES = 64 << 20
MAX_PATH_BYTES = 100  # what USTAR holds without splitting the path (POSIX.1-1988 ustar name)


class BadBundle(ValueError):
    """These files cannot be a bundle; the message names the file and the rule."""


@dataclass(frozen=True, slots=True)
class Member:
    """One regular file of a bundle; ``path`` is relative, with ``/`` between parts."""

    path: str
    content: bytes
    executable: bool = False


@dataclass(frozen=True, slots=True)
class PackedBundle:
    """The three blobs that make a bundle, as a registry would hold them."""

    layer: bytes
    config: bytes
    manifest: bytes

    @property
    def digest(self) -> Hex32:
        """SHA-256 of the manifest: what the chain holds."""
        return Hex32("0x" + hashlib.sha256(self.manifest).hexdigest())

    @property
    def oci_digest(self) -> str:
        """The same digest as registry tools write it: ``sha256:`` and 64 digits."""
        return "sha256:" + self.digest[2:]


def pack(members: Iterable[Member], config: object) -> PackedBundle:
    """Return the blobs of a bundle. The order of ``members`` does not matter.

    Raises:
        BadBundle: a path is not clean, is given twice, or the whole is too large.
        NotCanonical: ``config`` has no canonical JSON.
    """
    layer = tar(members)
    text = canonical(config)
    manifest = {
        "schemaVersion": 2,
        "mediaType": MEDIA_MANIFEST,
        "artifactType": ARTIFACT_TYPE,
        "config": _descriptor(MEDIA_CONFIG, text),
        "layers": [_descriptor(MEDIA_LAYER, layer)],
    }
    return PackedBundle(layer, text, canonical(manifest))


def tar(members: Iterable[Member]) -> bytes:
    """Return the USTAR archive of ``members``, ordered by the bytes of their paths.

    No directories, no owners, no times; mode 0755 for executables and 0644 for the rest.

    Raises:
        BadBundle: see :func:`pack`.
    """
    ordered = sorted(members, key=lambda member: member.path.encode())
    _check(ordered)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for member in ordered:
            entry = tarfile.TarInfo(member.path)
            entry.size = len(member.content)
            entry.mode = 0o755 if member.executable else 0o644
            archive.addfile(entry, io.BytesIO(member.content))
    return buffer.getvalue()


def _check(members: list[Member]) -> None:
    if not members:
        raise BadBundle("a bundle has at least one file")
    if len(members) > MAX_MEMBERS or sum(len(m.content) for m in members) > MAX_BYTES:
        raise BadBundle(f"a bundle has at most {MAX_MEMBERS} files and {MAX_BYTES} bytes")
    for member in members:
        _check_path(member.path)
    folded = [member.path.casefold() for member in members]
    if len(set(folded)) != len(folded):
        raise BadBundle("two paths are the same on a system that ignores letter case")


def _check_path(path: str) -> None:
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise BadBundle(f"{path!r}: a path is relative and has no empty, '.' or '..' part")
    if unicodedata.normalize("NFC", path) != path:
        raise BadBundle(f"{path!r}: a path is in Unicode normal form C")
    if not path.isprintable() or "\\" in path:
        raise BadBundle(f"{path!r}: a path has printable characters only, and no backslash")
    if len(path.encode()) > MAX_PATH_BYTES:
        raise BadBundle(f"{path!r}: a path has at most {MAX_PATH_BYTES} bytes")


def _descriptor(media_type: str, blob: bytes) -> dict[str, object]:
    digest = "sha256:" + hashlib.sha256(blob).hexdigest()
    return {"mediaType": media_type, "digest": digest, "size": len(blob)}
