"""PSI steps: which rows all parties hold, in one order for all.

Ids reach the engine's files only as hashes; the final set is compared by digest before anything uses
it, because a misaligned row would be wrong silently.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sealtrace.node.engines.errors import EmptyIntersection, ProgramMismatch, ProtocolViolated
from sealtrace.node.engines.job import Job, JobStep
from sealtrace.node.engines.link import Link, connect, translated

TOKEN_BYTES = 16
HEADER = "token"

Tell = Callable[[Sequence[int]], None]
"""Told the ranks of those who are about to intersect: the engine may die of their silence wordlessly."""


def token(task: str, identity: str) -> str:
    """Return what stands for an id in this task's alignment: 128 bits of SHA-256, hex."""
    text = f"sealtrace.psi.id.1\0{task}\0{identity}".encode()
    return hashlib.sha256(text).digest()[:TOKEN_BYTES].hex()


def align(job: Job, step: JobStep, control: Link, ids: Sequence[str], scratch: Path, tell: Tell) -> list[int]:
    """Return the numbers of this party's rows that all parties hold, in the order common to all.

    Raises:
        EmptyIntersection: there are none.
        ProgramMismatch: the parties came to different sets.
        PeerUnreachable: a peer was silent.
    """
    rows = {token(job.task, each): number for number, each in enumerate(ids)}
    tokens = sorted(rows)
    if step.protocol == "ECDH":
        common = _together(job, step, tokens, scratch, tell)
    else:
        common = _in_pairs(job, step, control, tokens, scratch, tell)
    _agree(job, control, common)
    try:
        return [rows[each] for each in common]
    except KeyError as error:
        raise ProtocolViolated("the common rows hold one that this party never gave") from error


def _together(job: Job, step: JobStep, tokens: list[str], scratch: Path, tell: Tell) -> list[str]:
    everybody = range(len(job.parties))
    tell(everybody)
    link = connect(job, step.id, everybody, receive_ms=job.timeouts.receive_ms)
    protocol = "PROTOCOL_ECDH" if len(everybody) == 2 else "PROTOCOL_ECDH_3PC"
    return _intersect(link, protocol, tokens, scratch / f"{step.id}")


def _in_pairs(
    job: Job, step: JobStep, control: Link, tokens: list[str], scratch: Path, tell: Tell
) -> list[str]:
    """Intersect with the first party, one after the other; it then tells each what remained."""
    others = range(1, len(job.parties))
    if job.rank != 0:
        control.receive(0)  # our turn: the first party may be busy with others for long
        mine = _pair(job, step, job.rank, tokens, scratch, tell)
        return _kept(mine, control.receive(0))
    shared: dict[int, list[str]] = {}
    current = tokens
    for other in others:
        control.send(other, b"{}")
        current = shared[other] = _pair(job, step, other, current, scratch, tell)
    for other in others:
        control.send(other, _mask(shared[other], set(current)))
    return current


def _pair(job: Job, step: JobStep, other: int, tokens: list[str], scratch: Path, tell: Tell) -> list[str]:
    tell((0, other))
    link = connect(job, f"{step.id}.{other}", (0, other), receive_ms=job.timeouts.receive_ms)
    if 0 in link.gather(len(tokens)):
        link.finish()
        return []
    return _intersect(link, f"PROTOCOL_{step.protocol}", tokens, scratch / f"{step.id}.{other}")


def _intersect(link: Link, protocol: str, tokens: list[str], folder: Path) -> list[str]:
    from spu import psi

    folder.mkdir(mode=0o700)
    given, found = folder / "in.csv", folder / "out.csv"
    _write(given, tokens)
    config = psi.PsiExecuteConfig(
        psi.PsiProtocolConfig(
            protocol=psi.parse_protocol(protocol),
            receiver_rank=0,
            broadcast_result=True,
            ecdh_params=psi.EcdhParams(curve=psi.parse_curve_type("CURVE_25519")),
            rr22_params=psi.Rr22Rarams(low_comm_mode=False),
        ),
        psi.InputParams(path=str(given), selected_keys=[HEADER], keys_unique=True),
        psi.OutputParams(path=str(found), disable_alignment=False),
    )
    link.barrier()  # without it the engine aborts now and then
    with translated(link.parties):
        psi.psi_execute(config, link.context)
    link.finish()
    return sorted(_read(found))


def _write(path: Path, tokens: Sequence[str]) -> None:
    with path.open("w", encoding="ascii", newline="") as file:
        file.write(HEADER + "\n")
        file.writelines(each + "\n" for each in tokens)


def _read(path: Path) -> list[str]:
    with path.open(encoding="ascii") as file:
        return [line.strip().strip('"') for line in file][1:]


def _mask(shared: Sequence[str], kept: set[str]) -> bytes:
    bits = bytearray((len(shared) + 7) // 8)
    for index, each in enumerate(shared):
        if each in kept:
            bits[index >> 3] |= 1 << (index & 7)
    return json.dumps({"of": len(shared), "bits": base64.b64encode(bits).decode()}).encode()


def _kept(shared: Sequence[str], message: bytes) -> list[str]:
    """Read the first party's word on which of the rows we share with it all others hold too."""
    try:
        said: Any = json.loads(message)
        bits = base64.b64decode(said["bits"], validate=True)
        size = said["of"]
    except (ValueError, KeyError, TypeError) as error:
        raise ProtocolViolated("the first party's list of common rows is malformed") from error
    if size != len(shared) or len(bits) != (len(shared) + 7) // 8:
        raise ProgramMismatch("the first party and this one came to different common rows")
    return [each for index, each in enumerate(shared) if bits[index >> 3] >> (index & 7) & 1]


def _agree(job: Job, control: Link, common: Sequence[str]) -> None:
    text = job.task + "".join(common)
    mine = [len(common), hashlib.sha256(text.encode()).hexdigest()]
    if any(said != mine for said in control.gather(mine)):
        raise ProgramMismatch("the parties came to different common rows")
    if not common:
        raise EmptyIntersection("no row is common to all parties")
