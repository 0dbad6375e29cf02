"""Values that stay shared after a task: written as parts at its end, read as parts by later tasks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sealtrace.algorithms.frames import BadShare
from sealtrace.algorithms.kept import (
    SUFFIX,
    Part,
    PartHeader,
    decode_part,
    encode_part,
    read_header,
    value_of,
    why_unusable,
)
from sealtrace.algorithms.shares import Computation
from sealtrace.node.engines.computation import Held
from sealtrace.node.engines.errors import BadInput, BadJob, ProgramMismatch, ProtocolViolated
from sealtrace.node.engines.job import Job, JobInput, JobKeep, own_inputs
from sealtrace.node.engines.link import Link
from sealtrace.protocol.identifiers import Address
from sealtrace.protocol.spec import Input


@dataclass(frozen=True, slots=True)
class Written:
    """A part that was written: its file, and what the transcript says of it."""

    path: Path
    content: bytes
    words: dict[str, Any]


def read_parts(job: Job) -> dict[str, Part]:
    """Read this party's parts of kept values, by the value's name in the task.

    Raises:
        BadInput: ``not_a_part`` where a file is none, or does not fit the task.
    """
    found = {}
    for own in own_inputs(job):
        if own.part_of is not None:
            found[own.part_of] = _read(job, own.part_of, Path(own.path or ""))
    return found


def _read(job: Job, value: str, path: Path) -> Part:
    try:
        part = decode_part(path.read_bytes())
    except OSError as error:
        raise BadInput("missing_file", f"{path.name}: {error.strerror}") from error
    except BadShare as error:
        raise BadInput("not_a_part", f"{path.name}: {error}") from error
    if why := _why_unfit(part.header, job.party, givers(job.inputs, value), job.computing):
        raise BadInput("not_a_part", f"{value}: {why}")
    return part


def givers(inputs: Iterable[Input | JobInput], value: str) -> list[Address]:
    """Return the parties that give a part of ``value``, ascending."""
    return sorted(each.party for each in inputs if each.part_of == value)


def check_part(path: Path, party: str, keepers: Sequence[str], computing: Sequence[str]) -> str | None:
    """Say what is wrong with the part at ``path`` for such a task, or ``None``; its share is not read."""
    try:
        return _why_unfit(read_header(path), party, keepers, computing)
    except (BadShare, OSError) as error:
        return f"{path.name}: {error}"


def _why_unfit(
    header: PartHeader, party: str, keepers: Sequence[str], computing: Sequence[str]
) -> str | None:
    if header.party != party:
        return f"this is the part of {header.party}"
    return why_unusable(header, keepers, computing)


def meet_parts(job: Job, control: Link, parts: Mapping[str, Part]) -> dict[str, Held]:
    """Compare parts with all parties; return what this party holds of each value, which all know of then.

    Raises:
        ProgramMismatch: parts are not of one value.
        ProtocolViolated: a peer says nothing of its part, or speaks of others.
    """
    values = sorted({each.part_of for each in job.inputs if each.part_of is not None})
    if not values:
        return {}
    said = control.gather({name: part.header.common for name, part in parts.items()})
    for rank, spoken in enumerate(said):
        owned = {each.part_of for each in job.inputs if each.part_of and job.rank_of(each.name) == rank}
        if not isinstance(spoken, dict) or set(spoken) != owned:
            raise ProtocolViolated("not what its parts of kept values say", peer=job.parties[rank])
    return {name: _one(job, name, said, parts.get(name)) for name in values}


def _one(job: Job, name: str, said: list[Any], mine: Part | None) -> Held:
    spoken = [(rank, words[name]) for rank, words in enumerate(said) if name in words]
    common = mine.header.common if mine is not None else spoken[0][1]
    others = [job.parties[rank] for rank, words in spoken if words != common]
    if others:
        raise ProgramMismatch(
            f"{name}: not parts of one value at {', '.join(others)}: name datasets of one task",
            peer=others[0] if mine is not None and len(others) == 1 else None,  # else: who is to be believed?
        )
    try:
        how = Computation.model_validate(common["computation"])
        return Held(value_of(common), mine.values if mine else (), how)
    except (ValueError, KeyError, TypeError) as error:
        raise ProtocolViolated(f"{name}: what the parts say is malformed: {error}") from error


def parts_to_keep(job: Job, folder: Path, shared: Mapping[tuple[str, str], Held]) -> list[Written]:
    """Return this party's parts of the values that the task keeps, still to be written into ``folder``.

    Raises:
        BadJob: a step gives no such value.
    """
    found = []
    for name, keep in job.keep.items():
        if keep.place not in shared:
            raise BadJob(f"keep.{name}: step {keep.place[0]} gives no {keep.place[1]!r}")
        if job.party in keep.keepers:
            found.append(_written(job, keep, shared[keep.place], folder / f"{name}{SUFFIX}"))
    return found


def _written(job: Job, keep: JobKeep, held: Held, path: Path) -> Written:
    header = PartHeader(
        task=job.task,
        source=keep.source,
        party=job.party,
        keepers=list(keep.keepers),
        holders=list(job.computing),
        computation=held.computation,
        public=held.value.model_dump(mode="json"),
    )
    shares = [replace(each, name=name) for each, name in zip(held.shares, held.value.names, strict=False)]
    content = encode_part(header, shares)
    words = {
        "of": header.source,
        "kind": held.value.kind,
        "digest": f"0x{hashlib.sha256(content).hexdigest()}",
        "holds_share": bool(held.shares),
        "keepers": list(keep.keepers),
    }
    return Written(path, content, words)
