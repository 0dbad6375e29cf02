"""MPC steps: compile the bundle's program, agree on it, share the columns, run, keep our share."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sealtrace.algorithms import checking
from sealtrace.algorithms.bundles import Bundle, Program
from sealtrace.algorithms.compiling import arithmetic, compiled, engine_config
from sealtrace.algorithms.frames import BadShare, SecretValue
from sealtrace.algorithms.shares import Computation, decode_value, encode_value
from sealtrace.algorithms.values import TAKEN, Value, array_names, gives, with_taken
from sealtrace.node.engines.errors import BadInput, BadJob, ProgramMismatch, ProtocolViolated
from sealtrace.node.engines.job import Job, JobStep
from sealtrace.node.engines.link import Link, connect, translated
from sealtrace.node.engines.tables import Table


@dataclass(frozen=True, slots=True)
class Held:
    """This party's part of a value that stays shared between steps; no shares where it does not compute."""

    value: Value
    shares: tuple[SecretValue, ...]
    computation: Computation


@dataclass(frozen=True, slots=True)
class Computed:
    """One party's part of a step's result, what it hands on, and what ran.

    ``values`` is empty at a party that only shared its columns in.
    """

    values: tuple[SecretValue, ...]
    given: Mapping[str, Held]
    taken: Mapping[str, Any]
    computation: Computation
    program: str
    rows: int


def compute(
    job: Job,
    step: JobStep,
    bundle: Bundle,
    control: Link,
    tables: Mapping[str, Table],
    taken: Mapping[str, Held],
) -> Computed:
    """Run one MPC step, or share this party's columns into it where others compute.

    Every party learns and checks what runs; those who do not compute hold no share of what comes out.
    ``tables`` holds this party's own inputs, aligned; ``taken`` what earlier steps gave.

    Raises:
        BadInput: this party's columns do not fit the program.
        BadJob: what is asked for does not fit so many rows.
        ProgramMismatch: the parties would run different programs.
        PeerUnreachable: a peer was silent.
    """
    if step.protocol not in bundle.manifest.protocols:
        raise BadJob(f"step {step.id}: the bundle does not run under {step.protocol}")
    held = _row_counts(job, step, control, tables)
    try:
        params = with_taken(bundle.program, step.params, {role: each.value for role, each in taken.items()})
        step = step.model_copy(update={"params": params})
        rows = _joint_rows(step, bundle.program, held)
        how = arithmetic(bundle, step.params, rows, step.protocol)
        executable = compiled(bundle.program, step.params, held)
        given = gives(bundle.program, step.params, held)
    except ValueError as error:
        raise BadJob(f"step {step.id}: {error}") from error
    for role, each in taken.items():
        if each.computation != how:
            raise BadJob(f"step {step.id}: {role} is not held as this step computes: {how}")
    own = _prepare(step, bundle.program, tables, held)
    program = hashlib.sha256(executable.code).hexdigest()
    _agree(job, control, {"step": step.id, "program": program, "how": how.model_dump(mode="json")})
    exchange = _Exchange(job, step, bundle.program, held)
    columns = exchange.columns(own, how)
    made = _run(exchange, executable, columns, taken, how)
    exchange.finish()
    outputs = tuple(made[name] for name in bundle.program.outputs(step.params) if made)
    return Computed(outputs, _handed_on(given, made, how), step.params.get(TAKEN, {}), how, program, rows)


def _handed_on(
    given: Mapping[str, Value], made: Mapping[str, SecretValue], how: Computation
) -> dict[str, Held]:
    return {
        name: Held(value, tuple(made[each] for each in array_names(name, value) if made), how)
        for name, value in given.items()
    }


def check_params(job: Job, step: JobStep, bundle: Bundle) -> None:
    """Refuse a step whose parameters the program does not accept, or that reads other columns
    than the inputs name.

    Raises:
        BadJob: with the program's own words.
    """
    try:
        named = {name: job.input(name).columns for name in job.tables_of(step)}
        checking.check_params(bundle, step.params, named, step.uses)
    except checking.ParamsRefused as error:
        raise BadJob(f"step {step.id}: {error}") from error


def _row_counts(job: Job, step: JobStep, control: Link, tables: Mapping[str, Table]) -> dict[str, int]:
    """Return how many rows each of the step's tables has, as its owner says, in the step's order."""
    said = control.gather({name: table.rows for name, table in tables.items()})
    for rank, counts in enumerate(said):
        owned = {name for name in job.tables_of(step) if job.rank_of(name) == rank}
        if not isinstance(counts, dict) or set(counts) != owned or not all(map(_is_count, counts.values())):
            raise ProtocolViolated(
                f"step {step.id}: not the row counts of its inputs", peer=job.parties[rank]
            )
    return {name: said[job.rank_of(name)][name] for name in job.tables_of(step)}


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _joint_rows(step: JobStep, program: Program, held: Mapping[str, int]) -> int:
    try:
        return program.rows(step.params, held)
    except ValueError as error:
        raise ProgramMismatch(f"step {step.id}: {error}") from error


def _prepare(
    step: JobStep, program: Program, tables: Mapping[str, Table], held: Mapping[str, int]
) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, table in tables.items():
        try:
            made |= program.prepare(step.params, name, table.columns, held)
        except ValueError as error:
            raise BadInput(getattr(error, "reason", "unfit_column"), f"input {name}: {error}") from error
    return made


def _agree(job: Job, control: Link, mine: Mapping[str, Any]) -> None:
    said = control.gather(mine)
    others = [job.parties[rank] for rank in control.ranks if said[rank] != mine]
    if others:
        raise ProgramMismatch(
            f"step {mine['step']}: not the same program at {', '.join(others)}; compare the "
            "bundles' digests and the engines' versions",
            peer=others[0] if len(others) == 1 else None,
        )


class _Exchange:
    """How columns become shares: over the engine's link where all compute, else over one among all."""

    def __init__(self, job: Job, step: JobStep, program: Program, held: Mapping[str, int]) -> None:
        self._job = job
        self._owners = [(name, job.rank_of(owner)) for name, owner, *_ in program.arrays(step.params, held)]
        self._computing = job.ranks_of(step)
        wait_ms = job.timeouts.receive_ms
        everybody = tuple(range(len(job.parties)))
        outside = any(rank not in self._computing for _, rank in self._owners)
        self.engine = connect(job, step.id, self._computing, receive_ms=wait_ms) if job.computes else None
        self._among = connect(job, f"{step.id}.in", everybody, receive_ms=wait_ms) if outside else self.engine

    def columns(self, own: Mapping[str, Any], how: Computation) -> dict[str, Any]:
        """Share ``own`` arrays out among those who compute; return this party's shares of all arrays.

        A party that does not compute gets none, and is not kept waiting while the others compute.
        """
        import spu

        if self._among is None:
            return {}
        link, me, shares = self._among, self._job.rank, {}
        with translated(link.parties):
            io = spu.Io(len(self._computing), engine_config(how))
        for name, rank in self._owners:
            if rank == me:
                shares[name] = _share_out(link, self._computing, io, name, own[name])
        for name, rank in self._owners:
            if rank != me and self.engine is not None:
                shares[name] = _share_in(link, rank, name)
        if link is not self.engine:
            link.finish()
        return shares if self.engine is not None else {}

    def finish(self) -> None:
        """Wait until all that the engine sent has arrived."""
        if self.engine is not None:
            self.engine.finish()


def _run(
    exchange: _Exchange,
    executable: Any,
    columns: dict[str, Any],
    taken: Mapping[str, Held],
    how: Computation,
) -> dict[str, SecretValue]:
    """Run the program and return this party's shares of all that it makes: none where it does not compute."""
    import spu

    link = exchange.engine
    if link is None:
        return {}
    with translated(link.parties):
        runtime = spu.Runtime(link.context, engine_config(how))
        for name in list(columns):
            runtime.set_var(name, columns.pop(name))
        for role, each in taken.items():
            for name, share in zip(array_names(role, each.value), each.shares, strict=True):
                runtime.set_var(name, _share(share))
        runtime.run(executable)
        return {name: _secret(name, runtime.get_var(name)) for name in executable.output_names}


def _share_out(link: Link, computing: Sequence[int], io: Any, name: str, column: Any) -> Any:
    """Split one array into a share for each that computes, send the others theirs, and return ours."""
    import numpy as np
    import spu

    with translated(link.parties):
        shares = io.make_shares(np.ascontiguousarray(column), spu.Visibility.VIS_SECRET)
    for rank, share in zip(computing, shares, strict=True):
        if rank != link.me:
            link.send(rank, encode_value(_secret(name, share)))
    return shares[computing.index(link.me)] if link.me in computing else None


def _share_in(link: Link, rank: int, name: str) -> Any:
    try:
        value = decode_value(link.receive(rank))
    except BadShare as error:
        said = f"a peer's share of {name} is malformed: {error}"
        raise ProtocolViolated(said, peer=link.parties[rank]) from error
    if value.name != name:
        raise ProtocolViolated(f"a peer sent {value.name[:64]!r} instead of {name}", peer=link.parties[rank])
    return _share(value)


def _share(value: SecretValue) -> Any:
    from spu import libspu

    share = libspu.Share()
    share.meta = value.meta
    share.share_chunks = list(value.chunks)
    return share


def _secret(name: str, share: Any) -> SecretValue:
    return SecretValue(name, bytes(share.meta), tuple(bytes(chunk) for chunk in share.share_chunks))


def used_columns(step: JobStep, bundle: Bundle, name: str) -> Sequence[tuple[str, str]]:
    """Return the columns that ``step`` reads of input ``name``."""
    return bundle.program.columns(step.params, name) if step.engine == "mpc" else ()
