"""PSI steps: which keys all parties hold, in one order for all.

Keys reach the engine's files only as tokens; where all parties learn the final set it is compared by digest
before anything uses it, because a misaligned row would be wrong silently.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sealtrace.node.engines.errors import EmptyIntersection, ProgramMismatch, ProtocolViolated
from sealtrace.node.engines.intersection import intersect, positions
from sealtrace.node.engines.job import Job, JobStep
from sealtrace.node.engines.keys import Keys
from sealtrace.node.engines.link import Link, connect
from sealtrace.protocol.identifiers import Hex32

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Tokens = NDArray[np.bytes_]

Tell = Callable[[Sequence[int]], None]
"""Told the ranks of those who are about to intersect: the engine may die of their silence wordlessly."""


def align(
    job: Job, step: JobStep, control: Link, keys: Keys, scratch: Path, tell: Tell
) -> NDArray[np.int64] | None:
    """Return which of this party's keys all parties of the step have, in the order common to all.

    ``control`` is a link among just these. ``None`` where the step names another party as the only one to
    learn it.

    Raises:
        EmptyIntersection: there are none, and a later step would compute on them.
        ProgramMismatch: the parties came to different sets.
        PeerUnreachable: a peer was silent.
    """
    only = receiver(job, step)
    if step.protocol == "ECDH":
        common = _together(job, step, keys.tokens, scratch, tell, only)
    else:
        common = _in_pairs(job, step, control, keys.tokens, scratch, tell, only)
    if common is None:
        return None
    if only is None:
        _agree(job.task, control, common)
    if not len(common) and job.reads_later(step):
        raise EmptyIntersection("no row is common to all parties")
    return positions(keys.tokens, common)


def receiver(job: Job, step: JobStep) -> int | None:
    """Return the rank of the only party that learns the common keys, or ``None`` where all do."""
    named = step.alignment.receivers
    return job.rank_of(named[0]) if named is not None and len(named) < len(step.inputs) else None


def _together(
    job: Job, step: JobStep, tokens: Tokens, scratch: Path, tell: Tell, only: int | None
) -> Tokens | None:
    everybody = job.ranks_of(step)
    tell(everybody)
    link = connect(job, step.id, everybody, receive_ms=job.timeouts.receive_ms)
    protocol = "PROTOCOL_ECDH" if len(everybody) == 2 else "PROTOCOL_ECDH_3PC"
    return intersect(link, None, protocol, tokens, scratch / step.id, only)


def _in_pairs(
    job: Job, step: JobStep, control: Link, tokens: Tokens, scratch: Path, tell: Tell, only: int | None
) -> Tokens | None:
    """Intersect with one party after the other: the only receiver, or the first, which then tells each
    what remained."""
    hub = job.ranks_of(step)[0] if only is None else only
    if job.rank != hub:
        control.receive(hub)  # our turn: it may be busy with others for long
        mine = _pair(job, step, hub, job.rank, tokens, scratch, tell, only)
        return None if mine is None else _kept(mine, control.receive(hub))
    others = [rank for rank in job.ranks_of(step) if rank != hub]
    shared: dict[int, Tokens] = {}
    current = tokens
    for other in others:
        control.send(other, b"{}")
        found = _pair(job, step, hub, other, current, scratch, tell, only)
        if found is None:
            raise ProtocolViolated("the engine did not give this party the common keys")
        current = shared[other] = found
    if only is None:
        for other in others:
            control.send(other, _mask(shared[other], current))
    return current


def _pair(
    job: Job, step: JobStep, hub: int, other: int, tokens: Tokens, scratch: Path, tell: Tell, only: int | None
) -> Tokens | None:
    pair, label = sorted((hub, other)), f"{step.id}.{other}"
    tell(pair)
    link = connect(job, label, pair, receive_ms=job.timeouts.receive_ms)

    def another(number: int) -> Link:
        return connect(job, f"{label}.{number}", pair, receive_ms=job.timeouts.receive_ms)

    return intersect(link, another, f"PROTOCOL_{step.protocol}", tokens, scratch / label, only)


def _mask(shared: Tokens, kept: Tokens) -> bytes:
    import numpy as np

    flags = np.zeros(len(shared), dtype=np.bool_)
    flags[positions(shared, kept)] = True
    bits = np.packbits(flags, bitorder="little").tobytes()
    return json.dumps({"of": len(shared), "bits": base64.b64encode(bits).decode()}).encode()


def _kept(shared: Tokens, message: bytes) -> Tokens:
    """Read the first party's word on which of the rows we share with it all others hold too."""
    import numpy as np

    try:
        said: Any = json.loads(message)
        bits = base64.b64decode(said["bits"], validate=True)
        size = said["of"]
    except (ValueError, KeyError, TypeError) as error:
        raise ProtocolViolated("the first party's list of common rows is malformed") from error
    if size != len(shared) or len(bits) != (len(shared) + 7) // 8:
        raise ProgramMismatch("the first party and this one came to different common rows")
    flags = np.unpackbits(np.frombuffer(bits, dtype=np.uint8), count=len(shared), bitorder="little")
    return shared[flags.astype(np.bool_)]


def _agree(task: Hex32, control: Link, common: Tokens) -> None:
    mine = [len(common), hashlib.sha256(task.encode() + common.tobytes()).hexdigest()]
    if any(said != mine for said in control.gather(mine)):
        raise ProgramMismatch("the parties came to different common rows")
