"""What each role learns from an algorithm, in its manifest's words, for the algorithms that tasks used.

The chain names an algorithm by its digest, which covers its manifest: a bundle that has the digest says what
its provider registered, wherever the bundle is from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from sealtrace.algorithms.bundles import Manifest, load, shipped
from sealtrace.protocol.identifiers import Hex32

Manifests = Mapping[Hex32, Manifest]


def known(folders: Iterable[Path] = ()) -> Manifests:
    """The manifests of the bundles that ship with us and of those in ``folders``, by digest.

    Raises:
        BundleMissing, BadBundle: a folder holds no bundle.
    """
    return {**_shipped(), **{each.digest: each.manifest for each in map(load, folders)}}


@cache
def _shipped() -> Manifests:
    return {each.digest: each.manifest for each in map(load, shipped().values())}


def disclosures(used: Iterable[Hex32], manifests: Manifests) -> list[dict[str, Any]]:
    """Who learns what from each algorithm of ``used``; ``None`` where its bundle is not here."""
    found = []
    for digest in sorted(set(used)):
        manifest = manifests.get(digest)
        learns = None if manifest is None else [{"role": r, "what": w} for r, w in manifest.learns.items()]
        name = None if manifest is None else f"{manifest.name} {manifest.version}"
        found.append({"algorithm": digest, "name": name, "learns": learns})
    return found
