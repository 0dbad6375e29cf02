"""What each role learns from a task, in the words of the algorithms' manifests."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from sealtrace.algorithms.bundles import Manifest
from sealtrace.protocol.identifiers import Hex32
from sealtrace.protocol.spec import TaskSpec, source_of

UNOPENED = (
    "how many rows the step ran on, and what is public about what it hands on where an opened step "
    "uses that: its own result is not opened"
)


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
        for role, what in _said(manifest, step.protocol, opened=step in spec.opened):
            yield Learns(step.id, f"{manifest.name} {manifest.version}", step.protocol, role, what)
    for name in spec.keep:
        yield _kept(spec, name)


def _said(manifest: Manifest, protocol: str, *, opened: bool) -> Iterator[tuple[str, str]]:
    """The manifest's sentences that concern a step; its requester gets nothing of one that is not opened."""
    for role, what in manifest.learns.items():
        if not _applies(role, protocol, manifest.protocols):
            continue
        if opened or not role.startswith("requester"):
            yield role, what
        elif role == "requester":
            yield role, UNOPENED


def _kept(spec: TaskSpec, name: str) -> Learns:
    step, value = source_of(name, spec.keep[name])
    maker = spec.step(step)
    keepers = spec.keepers(name)
    what = (
        f"nothing, now: {len(keepers)} parties keep a part of {step}.{value} as a dataset of theirs "
        f"({', '.join(keepers)}), and no part alone says anything of it. A later task uses it only where "
        f"each of them grants that; {len(spec.computing)} of the parts hold its shares"
    )
    return Learns(step, f"keep {name}", maker.protocol, "those who keep it", what)


def _applies(role: str, protocol: str, protocols: Sequence[str]) -> bool:
    """Whether a sentence about ``role`` concerns ``protocol``: if it names protocols, then this one."""
    named = [each for each in protocols if re.search(rf"\b{re.escape(each)}\b", role)]
    return not named or protocol in named
