"""The requester's side: put all parties' shares together and name what comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sealtrace.algorithms.alignments import aligned
from sealtrace.algorithms.bundles import Bundle
from sealtrace.algorithms.compiling import engine_config
from sealtrace.algorithms.shares import BadShare, Header, ResultShare, SecretValue, decode_share
from sealtrace.algorithms.values import ValueMismatch, read_values, with_taken


class EngineMissing(ImportError):
    """Opening an MPC result needs the engine's library: ``pip install 'sealtrace[mpc]'``."""


def open_result(shares: Sequence[bytes], bundle: Bundle, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the result of the last step, from the unsealed shares of all its parties.

    ``bundle`` and ``params`` are those of the task's last step. Values are JSON.

    Raises:
        BadShare: a share is malformed or missing, or they do not belong together.
        EngineMissing: the ``mpc`` extra is not installed.
    """
    parts = sorted((decode_share(share) for share in shares), key=lambda part: part.header.rank)
    _check_together(parts)
    if parts[0].header.kind == "psi":
        return aligned(parts)
    opened = _reconstruct(parts)
    header = parts[0].header
    try:
        params = with_taken(bundle.program, params, read_values(header.taken))
    except ValueMismatch as error:
        raise BadShare(f"the shares say that other values were worked on: {error}") from error
    return bundle.program.finish(params, header.rows, opened)


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
