"""PSI steps: which keys all parties hold, in one order for all.

Keys reach the engine's files only as tokens; where all parties learn the final set it is compared by digest
before anything uses it, because a misaligned row would be wrong silently.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sealtrace.node.engines.errors import BadJob, EmptyIntersection, ProgramMismatch, ProtocolViolated
from sealtrace.node.engines.job import Job, JobStep
from sealtrace.node.engines.keys import Keys, numbers_at
from sealtrace.node.engines.link import Link, connect, translated
from sealtrace.protocol.identifiers import Hex32
from sealtrace.protocol.keys import TOKEN_BYTES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Tokens = NDArray[np.bytes_]

HEADER = "token"
GIVEN_BYTES = 11
"""What the engine is given of each token. Its time and memory grow with each character of a key; with 88 bits
the chance that two different keys of 10M rows a party meet is 2^-41, about that of its own protocols to err.
Where all parties learn the result they compare whole tokens, so that even then they would notice."""
DIGITS = 15
"""Of so many bytes in base64, unfilled."""
GIVEN = f"S{GIVEN_BYTES}"
WRITTEN_AT_ONCE = 1 << 16
READ_AT_ONCE = 1 << 22

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
    return _positions(keys.tokens, common)


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
    return _intersect(link, protocol, tokens, scratch / f"{step.id}", only)


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
    pair = sorted((hub, other))
    tell(pair)
    link = connect(job, f"{step.id}.{other}", pair, receive_ms=job.timeouts.receive_ms)
    if 0 in link.gather(len(tokens)):
        link.finish()
        return tokens[:0] if only in (None, job.rank) else None
    return _intersect(link, f"PROTOCOL_{step.protocol}", tokens, scratch / f"{step.id}.{other}", only)


def _intersect(link: Link, protocol: str, tokens: Tokens, folder: Path, only: int | None) -> Tokens | None:
    from spu import psi

    folder.mkdir(mode=0o700)
    given, found = folder / "in.csv", folder / "out.csv"
    _write(given, _shortened(tokens))  # it is made again afterwards: memory is short while the engine runs
    config = psi.PsiExecuteConfig(
        psi.PsiProtocolConfig(
            protocol=psi.parse_protocol(protocol),
            receiver_rank=0 if only is None else link.ranks.index(only),
            broadcast_result=only is None,
            ecdh_params=psi.EcdhParams(curve=psi.parse_curve_type("CURVE_25519")),
            rr22_params=psi.Rr22Rarams(low_comm_mode=False),
        ),
        psi.InputParams(path=str(given), selected_keys=[HEADER], keys_unique=True),
        psi.OutputParams(path=str(found), disable_alignment=True),  # in the order of the input: ascending
    )
    link.barrier()  # without it the engine aborts now and then
    with translated(link.parties):
        psi.psi_execute(config, link.context)
    link.finish()
    return tokens[_positions(_shortened(tokens), _read(found))] if only in (None, link.me) else None


def _shortened(tokens: Tokens) -> Tokens:
    """Return what the engine is given of tokens, which ascend.

    Raises:
        BadJob: two of them are given alike, and it would mistake one for the other.
    """
    import numpy as np

    whole = np.frombuffer(tokens.tobytes(), dtype=np.uint8).reshape(-1, TOKEN_BYTES)
    shortened = np.frombuffer(whole[:, :GIVEN_BYTES].tobytes(), dtype=GIVEN)
    if (shortened[1:] == shortened[:-1]).any():
        raise BadJob(
            "two ids of this party's table stand for the same in this task, by rare chance: ask for it again"
        )
    return shortened


def _write(path: Path, tokens: Tokens) -> None:
    with path.open("wb") as file:
        file.write(HEADER.encode() + b"\n")
        for start in range(0, len(tokens), WRITTEN_AT_ONCE):
            file.write(_lines(tokens[start : start + WRITTEN_AT_ONCE]))


def _lines(tokens: Tokens) -> bytes:
    """Return a line of base64 for each: 12 bytes, of which the last one is zero, make 16 digits."""
    import numpy as np

    filled = np.zeros((len(tokens), GIVEN_BYTES + 1), dtype=np.uint8)
    filled[:, :GIVEN_BYTES] = np.frombuffer(tokens.tobytes(), dtype=np.uint8).reshape(-1, GIVEN_BYTES)
    digits = binascii.b2a_base64(filled.tobytes(), newline=False)
    lines = np.frombuffer(digits, dtype=np.uint8).reshape(-1, DIGITS + 1).copy()
    lines[:, DIGITS] = ord("\n")
    return lines.tobytes()


def _read(path: Path) -> Tokens:
    """Read the engine's output; it writes none where nothing is common.

    Raises:
        ProtocolViolated: there is another line than a token.
    """
    import numpy as np

    found = bytearray()
    if path.exists():
        with path.open("rb") as file:
            file.readline()
            while lines := file.readlines(READ_AT_ONCE):
                found += _of_lines(b"".join(lines))
    tokens = np.frombuffer(found, dtype=GIVEN)
    return tokens if bool((tokens[1:] > tokens[:-1]).all()) else np.sort(tokens)


def _of_lines(lines: bytes) -> bytes:
    """Return the beginnings of tokens of whole lines of base64, in quotation marks or not."""
    import numpy as np

    digits = lines.replace(b'"', b"").replace(b"\n", b"")
    if len(digits) % DIGITS:
        raise ProtocolViolated("the engine's common rows are no tokens")
    count = len(digits) // DIGITS
    filled = np.full((count, DIGITS + 1), ord("A"), dtype=np.uint8)
    filled[:, :DIGITS] = np.frombuffer(digits, dtype=np.uint8).reshape(-1, DIGITS)
    try:
        whole = binascii.a2b_base64(filled.tobytes(), strict_mode=True)
    except binascii.Error as error:
        raise ProtocolViolated("the engine's common rows are no tokens") from error
    return np.frombuffer(whole, dtype=np.uint8).reshape(-1, GIVEN_BYTES + 1)[:, :GIVEN_BYTES].tobytes()


def _positions(mine: Tokens, common: Tokens) -> NDArray[np.int64]:
    """Return where in ``mine`` each of ``common`` stands; both ascend.

    Raises:
        ProtocolViolated: one does not stand there.
    """
    import numpy as np

    high, wanted = numbers_at(mine, 0), numbers_at(common, 0)
    at = np.searchsorted(high, wanted)
    apart = np.flatnonzero(mine[np.minimum(at, len(mine) - 1)] != common)
    while len(apart):  # tokens whose first 8 bytes are equal stand side by side
        at[apart] += 1
        if (at[apart] >= len(mine)).any() or (high[at[apart]] != wanted[apart]).any():
            raise ProtocolViolated("the common rows hold one that this party never gave")
        apart = apart[mine[at[apart]] != common[apart]]
    return at


def _mask(shared: Tokens, kept: Tokens) -> bytes:
    import numpy as np

    flags = np.zeros(len(shared), dtype=np.bool_)
    flags[_positions(shared, kept)] = True
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
