"""What each role learns from a task, in the words of the algorithms' manifests."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from sealtrace.algorithms.bundles import Manifest
from sealtrace.protocol.identifiers import Hex32
from sealtrace.protocol.spec import TaskSpec


@dataclass(frozen=True, slots=True)
class Learns:
    """One sentence about one step: who learns what."""

    step: str
    algorithm: str
    protocol: str
    role: str
    what: str


def disclosure(spec: TaskSpec, find: Callable[[Hex32], Manifest | None]) -> Iterator[Learns]:
    """Who learns what in each step; a bundle that is not here is said to be unknown, never passed over."""
    for step in spec.steps:
        manifest = find(step.algorithm)
        if manifest is None:
            unknown = "unknown: the bundle is not on this machine, ask its provider"
            yield Learns(step.id, step.algorithm, step.protocol, "anybody", unknown)
            continue
        for role, what in manifest.learns.items():
            if not _applies(role, step.protocol, manifest.protocols):
                continue
            yield Learns(step.id, f"{manifest.name} {manifest.version}", step.protocol, role, what)


def _applies(role: str, protocol: str, protocols: Sequence[str]) -> bool:
    """Whether a sentence about ``role`` concerns ``protocol``: if it names protocols, then this one."""
    named = [each for each in protocols if re.search(rf"\b{re.escape(each)}\b", role)]
    return not named or protocol in named
