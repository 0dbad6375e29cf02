"""What was measured between nodes, for plans. One table, made by one command::

    python benchmarks/bench_plan.py --constants

It prints what the figures below are of: bytes as they stand; turns of whole tasks, of which those of the
meeting are taken off here. See docs/planning.md for the machine and how often what was measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sends:
    """Bytes that a party of an alignment sends: so many, and so many for each row.

    Rows are its own, its peers', those of the largest table, and those that are common and told to a peer.
    """

    fixed: float
    own: float = 0.0
    other: float = 0.0
    largest: float = 0.0
    common: float = 0.0

    def bytes(self, own: float, other: float, common: float) -> float:
        """Bytes for so many rows."""
        rows = self.own * own + self.other * other + self.largest * max(own, other) + self.common * common
        return max(0.0, self.fixed + rows)


@dataclass(frozen=True, slots=True)
class Pair:
    """An alignment of two: what the party that learns first sends and its peer, turns of messages, and CPU
    seconds of the busier party for each million rows of the larger table."""

    receiver: Sends
    sender: Sends
    turns: int
    seconds: float


@dataclass(frozen=True, slots=True)
class RingSends:
    """Bytes that a party of an alignment of three sends: so many, for each row of each party by rank, and for
    each common row."""

    fixed: float
    rows: tuple[float, float, float]
    common: float = 0.0

    def bytes(self, rows: Sequence[float], common: float) -> float:
        """Bytes where the parties have so many rows."""
        return self.fixed + sum(a * b for a, b in zip(self.rows, rows, strict=True)) + self.common * common


@dataclass(frozen=True, slots=True)
class Ring:
    """An alignment of three at once: what each sends by its rank, and as for :class:`Pair`."""

    sends: tuple[RingSends, RingSends, RingSends]
    turns: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Engine:
    """What an engine costs beside its protocols: CPU seconds, turns and bytes to each peer until it has met
    them, the same for each MPC step's own link, and for each turn bytes of head and acknowledgement and the
    seconds that engines and gateways need for it (of benchmarks/bench_gateway.py)."""

    start_s: float
    start_turns: int
    start_bytes: float
    step_turns: int
    step_bytes: float
    turn_bytes: float
    turn_s: float


ENGINE = Engine(
    start_s=0.9,
    start_turns=10,
    start_bytes=280,
    step_turns=10,
    step_bytes=550,
    turn_bytes=45,
    turn_s=0.0013,
)
PAIRS: Mapping[str, Pair] = {
    "RR22": Pair(
        receiver=Sends(928_943, largest=21.82, common=4.17),
        sender=Sends(129_967, own=10.0, largest=0.14),
        turns=24,
        seconds=8.7,
    ),
    "KKRT": Pair(
        receiver=Sends(-47_849, own=83.95, common=46.17),
        sender=Sends(9_737, own=30.04),
        turns=16,
        seconds=15.8,
    ),
    "ECDH": Pair(
        receiver=Sends(1_106, own=32.0, other=12.0),
        sender=Sends(1_184, own=32.0, other=12.0),
        turns=6,
        seconds=22.9,
    ),
}
RING = Ring(
    sends=(
        RingSends(1_984, rows=(32.02, 0.0, 0.0), common=92.01),
        RingSends(2_417, rows=(32.02, 32.02, 0.0), common=32.02),
        RingSends(2_410, rows=(12.01, 32.02, 32.02)),
    ),
    turns=30,
    seconds=30.0,
)
