"""Shares held to the specification before they are put together: a result is what was asked, or none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from sealtrace.algorithms.shares import Header
from sealtrace.protocol.identifiers import Address, Hex32
from sealtrace.protocol.spec import TaskSpec
from sealtrace.requester.errors import ResultNotAsAsked


def require_as_asked(
    task: Hex32, spec: TaskSpec, headers: Sequence[Header], names: Mapping[Address, str]
) -> None:
    """Hold each party's header to the last step of ``spec``; ``headers`` are in the order of its parties.

    A protocol is never replaced silently: an MPC share whose header names another than the step, or none, is
    refused, as is one of another task, step, party or kind of engine.

    Raises:
        ResultNotAsAsked: naming the first party whose share says otherwise, and in what.
    """
    for rank, (party, header) in enumerate(zip(spec.parties, headers, strict=True)):
        for what, asked, found in _pairs(task, spec, rank, header):
            if asked != found:
                raise ResultNotAsAsked(names.get(party, party), what, asked, found)


def _pairs(task: Hex32, spec: TaskSpec, rank: int, header: Header) -> Iterator[tuple[str, object, object]]:
    """What must be equal: in words, as asked, as found."""
    step = spec.steps[-1]
    yield "task", task, header.task
    yield "step", step.id, header.step
    yield "party number", rank, header.rank
    yield "number of parties", len(spec.parties), header.world
    yield "engine", step.engine, header.kind
    if step.engine == "mpc":
        yield "protocol", step.protocol, header.computation and header.computation.protocol
