"""The algorithm bundles on this machine: those that ship with us and those that were added."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from sealtrace.algorithms.bundles import Bundle, BundleAltered, BundleMissing, Manifest, load, shipped
from sealtrace.protocol.bundle import BadBundle
from sealtrace.protocol.identifiers import Hex32
from sealtrace.requester.drafts import KnownAlgorithm, is_hex32
from sealtrace.requester.errors import AlgorithmUnknownHere


class KnownAlgorithms:
    """Bundles by digest and by name. ``added`` are folders by digest; each is re-hashed when loaded."""

    def __init__(self, added: Mapping[Hex32, Path]) -> None:
        self._added = added

    @cached_property
    def bundles(self) -> dict[Hex32, Bundle]:
        """All bundles that are still what they were; an altered or missing folder is no bundle."""
        found = {bundle.digest: bundle for bundle in map(load, shipped().values())}
        for digest, folder in self._added.items():
            try:
                found[digest] = load(folder, expected=digest)
            except (BundleAltered, BundleMissing, BadBundle, OSError):
                continue
        return found

    def bundle(self, digest: Hex32) -> Bundle:
        """The bundle with ``digest``.

        Raises:
            AlgorithmUnknownHere: it is not on this machine, or was altered.
        """
        if digest not in self.bundles:
            raise AlgorithmUnknownHere(digest)
        return self.bundles[digest]

    def manifest(self, digest: Hex32) -> Manifest | None:
        """The manifest of the bundle with ``digest``, if it is on this machine."""
        found = self.bundles.get(digest)
        return found.manifest if found else None

    def find(self, name: str) -> KnownAlgorithm:
        """The bundle called ``name``, or with that digest; of several called so, the one added last.

        Raises:
            AlgorithmUnknownHere: there is none.
        """
        if is_hex32(name):
            bundle = self.bundle(Hex32(name))
            return KnownAlgorithm(bundle.digest, bundle.manifest.engine)
        named = [each for each in self.bundles.values() if each.manifest.name == name]
        if not named:
            raise AlgorithmUnknownHere(name)
        return KnownAlgorithm(named[-1].digest, named[-1].manifest.engine)
