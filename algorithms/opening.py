"""The requester's side: put all parties' shares together and name what comes out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sealtrace.algorithms.alignments import aligned
from sealtrace.algorithms.bundles import Bundle
from sealtrace.algorithms.compiling import engine_config
from sealtrace.algorithms.frames import BadShare, SecretValue
from sealtrace.algorithms.shares import (
    ENCLAVE_OUTPUTS,
    Header,
    ResultShare,
    decode_output,
    decode_share,
)
from sealtrace.algorithms.values import ValueMismatch, read_values, with_taken
from sealtrace.protocol.canonical import parse_canonical
from sealtrace.protocol.identifiers import Address, Hex32
from sealtrace.protocol.spec import Step, TaskSpec


class EngineMissing(ImportError):
    """Opening an MPC result needs the engine's library: ``pip install 'sealtrace[mpc]'``."""


def open_outputs(
    task: Hex32, spec: TaskSpec, outputs: Mapping[Address, bytes], find: Callable[[Hex32], Bundle]
) -> dict[str, Any]:
    """Return the result of each step that the task opens, by step, from all parties' unsealed outputs.

    ``find`` returns the bundle of a digest. Values are JSON.

    Raises:
        BadShare: an output is malformed or missing, they do not belong together, or a step did not run as
            the specification says.
        EngineMissing: the ``mpc`` extra is not installed.
    """
    said = {party: decode_output(outputs[party]) for party in spec.parties}
    found = {}
    for step in spec.opened:
        parties = spec.parties_of(step)
        if lacking := [party for party in parties if step.id not in said[party]]:
            raise BadShare(f"the output of {lacking[0]} has no share of step {step.id}")
        parts = read_shares(said[party][step.id] for party in parties)
        _check_as_asked(task, step, len(parties), parts)
        if step.engine == "tee":
            found[step.id] = enclave_outputs(parts)
        else:
            found[step.id] = opened(parts, find(step.algorithm), step.params)
    return found


def read_shares(shares: Iterable[bytes]) -> list[ResultShare]:
    """Read the unsealed shares of one step, in the order of their ranks.

    Raises:
        BadShare: one is malformed.
    """
    return sorted(map(decode_share, shares), key=lambda part: part.header.rank)


def opened(parts: Sequence[ResultShare], bundle: Bundle, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the result of one step from its shares; ``bundle`` and ``params`` are those of the step.

    Values are JSON.

    Raises:
        BadShare: a share is missing, or they do not belong together.
        EngineMissing: the ``mpc`` extra is not installed.
    """
    _check_together(parts)
    if parts[0].header.kind == "psi":
        return aligned(parts)
    values = _reconstruct(parts)
    header = parts[0].header
    try:
        params = with_taken(bundle.program, params, read_values(header.taken))
    except ValueMismatch as error:
        raise BadShare(f"the shares say that other values were worked on: {error}") from error
    return bundle.program.finish(params, header.rows, values)


def enclave_outputs(parts: Sequence[ResultShare]) -> dict[str, Any]:
    """Return what an enclave gave, from its one share: its outputs, by name.

    Raises:
        BadShare: there is another number of shares, or it is not of that form.
    """
    _check_together(parts)
    try:
        (value,) = parts[0].values
        (text,) = value.chunks
        found = parse_canonical(text, limit_bytes=len(text), large=True)
    except ValueError as error:
        raise BadShare(f"the enclave's share holds no outputs: {error}") from error
    if value.name != ENCLAVE_OUTPUTS or not isinstance(found, dict):
        raise BadShare("the enclave's share holds no outputs by name")
    return found


def _check_as_asked(task: Hex32, step: Step, world: int, parts: Sequence[ResultShare]) -> None:
    """A share says of itself what ran; it must be what was asked for."""
    for part in parts:
        header = part.header
        protocol = header.computation.protocol if header.computation else None
        if (header.task, header.step, header.kind, header.world) != (task, step.id, step.engine, world):
            raise BadShare(f"a share of step {step.id} says that it is of another step or task")
        if step.engine == "mpc" and protocol != step.protocol:
            raise BadShare(f"step {step.id} ran under {protocol}, and {step.protocol} was asked for")


def _check_together(parts: Sequence[ResultShare]) -> None:
    if not parts:
        raise BadShare("there are no shares")
    first = parts[0].header
    if [part.header.rank for part in parts] != list(range(first.world)):
        raise BadShare(f"one share of each of the {first.world} parties is needed, and no other")
    for part in parts:
        if _common(part.header) != _common(first):
            raise BadShare(f"the share of party {part.header.rank} is of another run")
        if [value.name for value in part.values] != [value.name for value in parts[0].values]:
            raise BadShare(f"the share of party {part.header.rank} holds other values")


def _common(header: Header) -> Header:
    """What all parties' headers say alike. Of an alignment not every party may know how many rows it has."""
    rows = {"rows": 0} if header.kind == "psi" else {}
    return header.model_copy(update={"rank": 0, "values": [], **rows})


def _reconstruct(parts: Sequence[ResultShare]) -> dict[str, Any]:
    try:
        import spu
        from spu import libspu
    except ImportError as error:
        raise EngineMissing("opening needs the engine: pip install 'sealtrace[mpc]'") from error
    header = parts[0].header
    how = header.computation
    if how is None:
        raise BadShare("the shares do not say how they were made")
    io = spu.Io(header.world, engine_config(how))

    def share(value: SecretValue) -> Any:
        made = libspu.Share()
        made.meta = value.meta
        made.share_chunks = list(value.chunks)
        return made

    columns = zip(*(part.values for part in parts), strict=True)
    return {column[0].name: io.reconstruct([share(value) for value in column]) for column in columns}
