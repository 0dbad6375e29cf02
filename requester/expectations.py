"""What to expect of a task before it is submitted: who takes part, bytes, turns and time of each step.

Estimates for a line and for row counts that are said with them; where nothing is known the reason stands
instead of a guess. See docs/planning.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from sealtrace.algorithms.estimating import Cost, Line, TooFewSamples, meeting, mpc_cost, psi_cost
from sealtrace.algorithms.sampling import Sampled, SampledStep, sampled
from sealtrace.protocol.alignment import read_alignment
from sealtrace.protocol.bundle import BadBundle
from sealtrace.protocol.identifiers import Address
from sealtrace.protocol.spec import Step, TaskSpec, source_of
from sealtrace.requester.errors import AlgorithmUnknownHere, RowsUnknown
from sealtrace.requester.known_algorithms import KnownAlgorithms

ROWS = 10_000
SAMPLING_S = 60.0
CELL_BYTES = 8
"""Taken for a cell of an input to an enclave, which is sent as it lies in its file."""
NO_TIME = "how long an enclave computes is not estimated: try it with `sealtrace algorithm test`"

Sampler = Callable[[Sequence[SampledStep], float], Sampled]


@dataclass(frozen=True, slots=True)
class Assumed:
    """What a plan takes for granted: rows by table (others have :data:`ROWS`), rows left after an alignment
    (by default those of the smallest input), the line between parties, seconds for sampling."""

    rows: Mapping[str, int] = field(default_factory=dict)
    common: int | None = None
    line: Line = field(default_factory=Line)
    sampling_s: float = SAMPLING_S


@dataclass(frozen=True, slots=True)
class StepExpected:
    """A step: its parties in the order of ``cost.sent``, and its cost or why that is unknown.

    ``inputs`` is what each party sends of a step in an enclave, of which no time is known.
    """

    step: Step
    parties: tuple[Address, ...]
    cost: Cost | None
    why: str | None
    inputs: tuple[int, ...] | None = None

    @property
    def sent(self) -> tuple[int, ...] | None:
        """Bytes that each party sends, as far as they are known."""
        return self.cost.sent if self.cost else self.inputs


@dataclass(frozen=True, slots=True)
class Expected:
    """A task: rows of each input and after alignments, its steps, and what meeting costs before them."""

    assumed: Assumed
    rows: Mapping[str, int]
    common: int
    steps: tuple[StepExpected, ...]
    meeting: Cost

    @property
    def unknown(self) -> tuple[str, ...]:
        """The steps of which no cost is known: totals leave them out, but for the inputs of enclaves."""
        return tuple(each.step.id for each in self.steps if each.cost is None)

    @property
    def costs(self) -> tuple[Cost, ...]:
        """What is known: the cost of meeting, then those of the known steps."""
        return (self.meeting, *(each.cost for each in self.steps if each.cost))

    @property
    def total(self) -> int:
        """Bytes that all parties send in all known steps."""
        return self.meeting.total + sum(sum(each.sent or ()) for each in self.steps)

    @property
    def turns(self) -> int:
        """Turns of all known steps, and of meeting before them."""
        return sum(each.turns for each in self.costs)

    @property
    def seconds(self) -> float:
        """Seconds of all known steps, one after the other, and of meeting before them."""
        return sum(each.seconds(self.assumed.line) for each in self.costs)


def expected(
    spec: TaskSpec, algorithms: KnownAlgorithms, assumed: Assumed, sampler: Sampler = sampled
) -> Expected:
    """What to expect of ``spec``. MPC steps are sampled, which runs code of their bundles on made-up data.

    Raises:
        RowsUnknown: rows are given for an input that the task has not, or are not positive.
    """
    rows = _rows(spec, assumed)
    common = assumed.common if assumed.common is not None else min(rows.values(), default=ROWS)
    known, why = samplable(spec, algorithms, rows, common)
    found = sampler(known, assumed.sampling_s)
    sampled_steps = {each.id: each for each in known}
    makers: Mapping[str, Callable[[Step], StepExpected]] = {
        "psi": lambda step: _psi(spec, step, rows, common),
        "mpc": lambda step: _mpc(spec, step, sampled_steps, found, why),
        "tee": lambda step: _tee(spec, step, rows),
    }
    steps = tuple(makers[step.engine](step) for step in spec.steps)
    return Expected(assumed, rows, common, steps, meeting(len(spec.parties)))


def _rows(spec: TaskSpec, assumed: Assumed) -> dict[str, int]:
    names = [each.name for each in spec.inputs if each.is_table]
    if strange := set(assumed.rows) - set(names):
        raise RowsUnknown(f"--rows {min(strange)}: the task's tables are {', '.join(names)}")
    rows = {name: assumed.rows.get(name, ROWS) for name in names}
    if min(rows.values(), default=1) < 1 or (assumed.common is not None and assumed.common < 1):
        raise RowsUnknown("--rows and --common are at least 1")
    return rows


def _held(spec: TaskSpec, step: Step, rows: Mapping[str, int], common: int) -> dict[str, int]:
    """Rows of the step's tables: what remained where an alignment before it took the table."""
    aligned = {
        name for each in spec.steps if each.engine == "psi" and each.id in step.after for name in each.inputs
    }
    return {name: common if name in aligned else rows[name] for name in step.inputs if name in rows}


def samplable(
    spec: TaskSpec, algorithms: KnownAlgorithms, rows: Mapping[str, int], common: int
) -> tuple[list[SampledStep], dict[str, str]]:
    """The MPC steps as they are to be sampled, and why others cannot be."""
    found, why = [], {}
    for step in spec.steps:
        if step.engine != "mpc":
            continue
        held = _held(spec, step, rows, common)
        if len(held) < len(step.inputs):
            why[step.id] = "it works on a kept value, and what that is like is known to its parties alone"
            continue
        try:
            bundle = algorithms.bundle(step.algorithm)
        except (AlgorithmUnknownHere, BadBundle) as error:
            why[step.id] = str(error)
            continue
        made = SampledStep(
            id=step.id,
            bundle=str(bundle.folder.resolve()),
            algorithm=step.algorithm,
            protocol=step.protocol,
            computing=len(spec.parties_of(step)),
            inputs=held,
            uses={role: source_of(role, source) for role, source in step.uses.items()},
            params=step.params,
        )
        found.append(made)
    return found, why


def _mpc(
    spec: TaskSpec,
    step: Step,
    known: Mapping[str, SampledStep],
    found: Sampled,
    why: Mapping[str, str],
) -> StepExpected:
    computing = spec.parties_of(step)
    owners = {name: spec.input(name).party for name in step.inputs}
    parties = (*computing, *sorted(set(owners.values()) - set(computing)))
    samples = found.samples.get(step.id)
    if not samples:
        reason = why.get(step.id) or found.why.get(step.id) or "it was not sampled"
        return StepExpected(step, parties, None, reason)
    senders = {name: parties.index(owner) for name, owner in owners.items()}
    try:
        cost = mpc_cost(known[step.id].rows, samples, senders, len(computing))
    except TooFewSamples as error:
        return StepExpected(step, parties, None, found.why.get(step.id) or str(error))
    return StepExpected(step, parties, cost, None)


def _psi(spec: TaskSpec, step: Step, rows: Mapping[str, int], common: int) -> StepExpected:
    parties = spec.parties_of(step)
    held = _held(spec, step, rows, common)
    by_party = {spec.input(name).party: count for name, count in held.items()}
    receivers = read_alignment(step.params).receivers
    only = None
    if receivers is not None and len(receivers) < len(step.inputs):
        only = parties.index(spec.input(receivers[0]).party)
    cost = psi_cost(step.protocol, [by_party[party] for party in parties], common, only)
    return StepExpected(step, parties, cost, None)


def _tee(spec: TaskSpec, step: Step, rows: Mapping[str, int]) -> StepExpected:
    """What owners send is their inputs, whole and sealed; what the enclave then does is not estimated.

    Secret values of the algorithm are small beside tables, and not counted.
    """
    owners = sorted({spec.input(name).party for name in step.inputs})
    parties = (*spec.parties_of(step), *owners)
    if any(spec.input(name).part_of is not None for name in step.inputs):
        return StepExpected(step, parties, None, f"it takes a kept value, whose size is not known; {NO_TIME}")
    sent = dict.fromkeys(parties, 0)
    for name in (each for each in step.inputs if each in rows):
        given = spec.input(name)
        sent[given.party] += rows[name] * (1 + len(given.columns)) * CELL_BYTES
    why = f"bytes are the inputs at {CELL_BYTES} a cell, an assumption; {NO_TIME}"
    return StepExpected(step, parties, None, why, tuple(sent.values()))
