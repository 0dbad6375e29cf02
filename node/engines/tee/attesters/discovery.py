"""Which attesters this host offers, and how to get the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sealtrace.node.engines.tee.attesters import dstack, gramine, tsm
from sealtrace.node.engines.tee.attesters.dstack import Dstack
from sealtrace.node.engines.tee.attesters.gramine import Gramine
from sealtrace.node.engines.tee.attesters.port import Attester
from sealtrace.node.engines.tee.attesters.tsm import ConfigfsTsm

UNTRIED = "not run on TEE hardware by us"


@dataclass(frozen=True, slots=True)
class Found:
    """One attester that we know, whether this host offers it or not."""

    attester: Attester
    available: bool
    how_to_have_it: str

    @property
    def name(self) -> str:
        """The attester's name."""
        return self.attester.name


def hardware() -> tuple[tuple[Attester, str], ...]:
    """The attesters with hardware behind them, the most specific first, and how to have each."""
    return (
        (Gramine(), gramine.HOW_TO_HAVE_IT),
        (Dstack(), dstack.HOW_TO_HAVE_IT),
        (ConfigfsTsm(), tsm.HOW_TO_HAVE_IT),
    )


def discover(known: Sequence[tuple[Attester, str]] | None = None) -> tuple[Found, ...]:
    """All hardware attesters that we know. The simulated one is never found: it is chosen in words."""
    return tuple(
        Found(each, each.available(), how) for each, how in (known if known is not None else hardware())
    )
