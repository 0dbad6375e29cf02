"""What a step is expected to cost, from samples of a few rows or from measured constants; pure functions.

Nothing here is a promise: bytes are close, seconds are for the line and the machine that are named with them.
See docs/planning.md for how far off they were.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sealtrace.algorithms.measured import ENGINE, PAIRS, RING

LAWS: Mapping[str, Callable[[float], float]] = {
    "rows": lambda rows: rows,
    "rows·log rows": lambda rows: rows * math.log2(rows + 1),
    "rows·log² rows": lambda rows: rows * math.log2(rows + 1) ** 2,
    "rows²": lambda rows: rows**2,
}
"""How a quantity may grow with the rows, a constant aside. The first is left for one that fits better."""
LINE_FITS = 0.02
"""Share of a held-back sample by which a straight line may miss it and still be taken."""

MEASURED = "constants measured between nodes"
PROGRAM = "program"
TURNS, COMPUTE, COMPILE = "turns", "compute_s", "compile_s"
"""Names of what a sample shows: bytes that the program makes a party send, its messages that one waits for,
its CPU seconds, and CPU seconds of compiling. What owners send is named by :func:`shares_of`."""


def shares_of(name: str) -> str:
    """The name that a sample has for the bytes of input ``name``'s shares, to one party."""
    return f"shares of {name}"


@dataclass(frozen=True, slots=True)
class Line:
    """What is assumed between any two parties: a round trip, and what a party can send."""

    rtt_ms: float = 10.0
    mbit: float = 100.0


@dataclass(frozen=True, slots=True)
class Sample:
    """What a step showed at so many rows."""

    rows: int
    seen: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Found:
    """A value at the rows asked for, the law it follows (``None``: it was sampled there) and by what share
    that law missed a sample that it was not fitted to (``None``: there was none)."""

    value: float
    law: str | None
    misfit: float | None


@dataclass(frozen=True, slots=True)
class Cost:
    """What a step costs: bytes each party sends, turns of messages that are waited for, seconds of work.

    Parties are in the order of their ranks. ``basis`` says where it comes from.
    """

    sent: tuple[int, ...]
    turns: int
    compute_s: float
    basis: str

    @property
    def total(self) -> int:
        """The bytes of all parties together."""
        return sum(self.sent)

    def seconds(self, line: Line) -> float:
        """Work, the bytes of the party that sends most over its line, and for each turn a round trip and what
        gateways need."""
        turn_s = line.rtt_ms / 1e3 + ENGINE.turn_s
        return self.compute_s + max(self.sent) * 8 / (line.mbit * 1e6) + self.turns * turn_s


class TooFewSamples(ValueError):
    """Only one size could be sampled in time, and not the size asked for: allow more seconds."""


def found_at(rows: int, samples: Sequence[tuple[int, float]], law: str | None = None) -> Found:
    """The value at ``rows`` from (rows, value) in ascending order, by ``law`` or by the law that fits best.

    Laws are fitted to the two samples before the last and judged by the last; the one that is taken is then
    fitted to the last two.

    Raises:
        TooFewSamples: there is one sample, of fewer rows.
    """
    last, seen = samples[-1]
    if last == rows:
        return Found(seen, None, 0.0)
    if len(samples) < 2:
        raise TooFewSamples(f"sampled at {last:,} rows only; allow more seconds for it")
    misfits = {name: _misfit(LAWS[name], samples) for name in LAWS} if len(samples) > 2 else {}
    chosen = law or _chosen(misfits)
    value = _through(LAWS[chosen], samples[-2], samples[-1], rows)
    return Found(max(value, seen), chosen, misfits.get(chosen))


def meeting(parties: int) -> Cost:
    """What it costs that so many parties' engines start and meet, before the first step."""
    sent = (round(ENGINE.start_bytes * (parties - 1)),) * parties
    return Cost(sent, ENGINE.start_turns, ENGINE.start_s, MEASURED)


def mpc_cost(rows: int, samples: Sequence[Sample], senders: Mapping[str, int], computing: int) -> Cost:
    """The cost of an MPC step at ``rows``: of ``computing`` parties, then of owners who only share in.

    ``senders`` has the rank of each input's owner; ranks from ``computing`` on do not compute. Computing
    parties are taken to send alike, as their roles change from operation to operation.

    Raises:
        TooFewSamples: see :func:`found_at`.
    """

    def at(name: str, law: str | None = None) -> Found:
        return found_at(rows, [(each.rows, each.seen[name]) for each in samples], law)

    program, turns = at(PROGRAM), at(TURNS)
    work = at(COMPUTE, program.law).value + samples[-1].seen[COMPILE]
    ranks = max(computing, *(rank + 1 for rank in senders.values()))
    own = program.value + ENGINE.step_bytes * (computing - 1) + ENGINE.turn_bytes * turns.value
    meeting_all = ENGINE.step_bytes * (ranks - 1) if ranks > computing else 0.0
    sent = [own + meeting_all] * computing + [meeting_all] * (ranks - computing)
    for name, rank in senders.items():
        sent[rank] += at(shares_of(name)).value * (computing - (rank < computing))
    return Cost(
        tuple(map(round, sent)), round(turns.value) + ENGINE.step_turns, work, _basis(rows, samples, program)
    )


def psi_cost(protocol: str, rows: Sequence[int], common: int, only: int | None) -> Cost:
    """The cost of an alignment of parties with so many ``rows``, by rank, ``only`` one of which learns it.

    Pairs are run one after the other, and the party that all meet is taken to be left with ``common`` rows
    after the first.
    """
    if protocol == "ECDH" and len(rows) > 2:
        ring = tuple(round(each.bytes(rows, common)) for each in RING.sends)
        return Cost(ring, RING.turns, max(rows) / 1e6 * RING.seconds, MEASURED)
    pair = PAIRS[protocol]
    hub = 0 if only is None else only
    sent_by, turns, work, current = [0.0] * len(rows), 0, 0.0, rows[hub]
    for other in (rank for rank in range(len(rows)) if rank != hub):
        told = common if only is None else 0
        sent_by[hub] += pair.receiver.bytes(current, rows[other], told)
        sent_by[other] += pair.sender.bytes(rows[other], current, told)
        work += max(current, rows[other]) / 1e6 * pair.seconds
        turns, current = turns + pair.turns, min(current, common)
    return Cost(tuple(map(round, sent_by)), turns, work, MEASURED)


def _chosen(misfits: Mapping[str, float]) -> str:
    line = next(iter(LAWS))
    if misfits.get(line, 0.0) <= LINE_FITS:
        return line
    return min(misfits, key=lambda name: misfits[name])


def _misfit(law: Callable[[float], float], samples: Sequence[tuple[int, float]]) -> float:
    rows, seen = samples[-1]
    return abs(_through(law, samples[-3], samples[-2], rows) - seen) / max(abs(seen), 1e-9)


def _through(
    law: Callable[[float], float], one: tuple[int, float], other: tuple[int, float], rows: int
) -> float:
    steep = (other[1] - one[1]) / (law(other[0]) - law(one[0]))
    return other[1] + steep * (law(rows) - law(other[0]))


def _basis(rows: int, samples: Sequence[Sample], found: Found) -> str:
    if found.law is None:
        return f"simulated at {rows:,} rows"
    sizes = ", ".join(f"{each.rows:,}" for each in samples[-3:])
    missed = "no sample held back" if found.misfit is None else f"misfit {found.misfit:.1%}"
    return f"simulated at {sizes} rows, carried on as {found.law} ({missed})"
