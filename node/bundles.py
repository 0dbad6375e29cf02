"""The algorithm bundles this node holds: unpacked, each in a folder named by its digest."""

from __future__ import annotations

import io
import os
import shutil
import stat
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from sealtrace.algorithms.bundles import Bundle, BundleAltered, BundleMissing, Manifest, load, write
from sealtrace.node.errors import BundleInvalid
from sealtrace.node.preparing import BundleDiffers, BundleGone
from sealtrace.protocol.bundle import MAX_BYTES, MAX_MEMBERS, BadBundle
from sealtrace.protocol.identifiers import Hex32, MalformedIdentifier, hex32


@dataclass(frozen=True, slots=True)
class Held:
    """A bundle in the store. ``intact`` says whether its bytes are still those of the digest."""

    digest: Hex32
    name: str
    version: str
    intact: bool


class BundleStore:
    """Folders ``<digest>/`` under ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def verified(self, algorithm: Hex32) -> Path:
        """The bundle's folder, every byte of it re-hashed now.

        Raises:
            BundleGone: it is not here.
            BundleDiffers: its bytes have another digest, or are no bundle any more.
        """
        path = self._path(algorithm)
        try:
            load(path, expected=algorithm)
        except BundleMissing as cause:
            if path.is_dir():
                raise BundleDiffers(str(cause)) from cause
            raise BundleGone(f"this node holds no bundle {algorithm}") from cause
        except (BundleAltered, BadBundle, OSError) as cause:
            raise BundleDiffers(str(cause)) from cause
        return path

    def add(self, source: Path, expected: Hex32 | None = None) -> Held:
        """Take in a bundle from a folder, or from a tar of one, and return it.

        Raises:
            BundleInvalid: it is no bundle, or not of the ``expected`` digest.
        """
        with tempfile.TemporaryDirectory(dir=self._folder, prefix=".incoming-") as scratch:
            place = Path(scratch) / "bundle"
            _unpack(source, place)
            bundle = _loaded(place, expected)
            target = self._path(bundle.digest)
            if target.exists():
                shutil.rmtree(target)  # what is there may have been altered: this copy was just digested
            os.rename(place, target)
        return _held(bundle)

    def manifest(self, algorithm: Hex32) -> Manifest | None:
        """The manifest of a bundle that is here and intact."""
        try:
            return load(self._path(algorithm), expected=algorithm).manifest
        except (BundleAltered, BundleMissing, BadBundle, OSError):
            return None

    def list(self) -> list[Held]:
        """All bundles here, by digest."""
        folders = sorted(each for each in self._folder.iterdir() if not each.name.startswith("."))
        return [held for each in folders if (held := self._look(each)) is not None]

    def _look(self, folder: Path) -> Held | None:
        try:
            digest = hex32(folder.name)
        except MalformedIdentifier:
            return None
        try:
            return _held(load(folder, expected=digest))
        except (BundleAltered, BundleMissing, BadBundle, OSError):
            return Held(digest, "?", "?", intact=False)

    def _path(self, algorithm: Hex32) -> Path:
        return self._folder / algorithm[2:]


def _held(bundle: Bundle) -> Held:
    return Held(bundle.digest, bundle.manifest.name, bundle.manifest.version, intact=True)


def _loaded(place: Path, expected: Hex32 | None) -> Bundle:
    try:
        return load(place, expected=expected)
    except (BundleAltered, BundleMissing, BadBundle, OSError) as cause:
        raise BundleInvalid(str(cause)) from cause


def _unpack(source: Path, place: Path) -> None:
    try:
        if source.is_dir():
            write(_loaded(source, None), place)
        else:
            _untar(source, place)
    except (OSError, tarfile.TarError) as cause:
        raise BundleInvalid(f"{source.name}: {cause}") from cause


def _untar(source: Path, place: Path) -> None:
    """Regular files only, by names under ``place`` only, and no more than a bundle may hold."""
    if source.stat().st_size > 2 * MAX_BYTES:
        raise BundleInvalid(f"{source.name} is larger than a bundle may be")
    place.mkdir()
    left = MAX_BYTES
    with tarfile.open(fileobj=io.BytesIO(source.read_bytes()), mode="r:") as archive:
        for count, entry in enumerate(archive):
            if entry.isdir():
                continue
            left -= entry.size
            if not entry.isreg() or left < 0 or count > MAX_MEMBERS:
                raise BundleInvalid(f"{entry.name!r}: not a regular file, or the bundle is too large")
            archive.extract(entry, place, filter="data")
            mode = 0o755 if entry.mode & stat.S_IXUSR else 0o644
            (place / entry.name).chmod(mode)
