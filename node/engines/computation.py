"""MPC steps: compile the bundle's program, agree on it, share the columns, run, keep our share."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sealtrace.algorithms.bundles import Bundle, Program
from sealtrace.algorithms.shares import BadShare, Computation, SecretValue, decode_value, encode_value
from sealtrace.node.engines.errors import BadInput, BadJob, ProgramMismatch, ProtocolViolated
from sealtrace.node.engines.job import Job, JobStep
from sealtrace.node.engines.link import Link, connect, translated
from sealtrace.node.engines.tables import Table


@dataclass(frozen=True, slots=True)
class Computed:
    """One party's part of a step's result, and what ran."""

    values: tuple[SecretValue, ...]
    computation: Computation
    program: str
    rows: int


def compute(job: Job, step: JobStep, bundle: Bundle, control: Link, tables: Mapping[str, Table]) -> Computed:
    """Run one MPC step. ``tables`` holds this party's own inputs, aligned.

    Raises:
        BadInput: this party's columns do not fit the program.
        ProgramMismatch: the parties would run different programs.
        PeerUnreachable: a peer was silent.
    """
    arithmetic = bundle.manifest.arithmetic
    if arithmetic is None or step.protocol not in bundle.manifest.protocols:
        raise BadJob(f"step {step.id}: the bundle does not run under {step.protocol}")
    how = Computation(
        protocol=step.protocol,  # type: ignore[arg-type]
        field=arithmetic.field,
        fraction_bits=arithmetic.fraction_bits,
    )
    rows = _common_rows(control, tables)
    own = _prepare(step, bundle.program, tables)
    executable = _compile(step, bundle.program, rows)
    program = hashlib.sha256(executable.code).hexdigest()
    _agree(job, control, {"step": step.id, "program": program, "how": how.model_dump(mode="json")})
    link = connect(job, step.id, range(len(job.parties)), receive_ms=job.timeouts.receive_ms)
    with translated(link.parties):
        values = _run(job, step, bundle.program, link, executable, own, rows, how)
    link.finish()
    return Computed(values, how, program, rows)


def check_params(job: Job, step: JobStep, bundle: Bundle) -> None:
    """Refuse a step whose parameters the program does not accept, or that reads other columns
    than the inputs name.

    Raises:
        BadJob: with the program's own words.
    """
    try:
        bundle.program.check(step.params, step.inputs)
        for name in step.inputs:
            named = set(job.input(name).columns)
            for column, _kind in bundle.program.columns(step.params, name):
                if column not in named:
                    raise ValueError(f"input {name} does not name the column {column!r}")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadJob(f"step {step.id}: {error}") from error


def _common_rows(control: Link, tables: Mapping[str, Table]) -> int:
    """Return how many rows all inputs have; a party without input follows the others."""
    said = control.gather(sorted({table.rows for table in tables.values()}))
    counts = {count for each in said for count in each}
    if len(counts) != 1:
        raise ProgramMismatch("the inputs do not have equally many rows; align them first")
    return int(counts.pop())


def _prepare(step: JobStep, program: Program, tables: Mapping[str, Table]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, table in tables.items():
        try:
            made |= program.prepare(step.params, name, table.columns)
        except ValueError as error:
            raise BadInput("unfit_column", f"input {name}: {error}") from error
    return made


def _compile(step: JobStep, program: Program, rows: int) -> Any:
    import jax
    import numpy as np
    import spu
    from spu.utils import frontend

    jax.config.update("jax_enable_x64", True)  # type: ignore[no-untyped-call]
    specs = program.arrays(step.params, rows)
    make: Any = jax.ShapeDtypeStruct
    shapes = [make(shape, np.float64) for _, _, shape in specs]
    try:
        function = program.program(step.params, rows)
    except ValueError as error:
        raise BadJob(f"step {step.id}: {error}") from error
    executable, _ = frontend.compile(
        frontend.Kind.JAX,
        function,
        shapes,
        {},
        [name for name, _, _ in specs],
        [spu.Visibility.VIS_SECRET] * len(specs),
        lambda _outputs: list(program.outputs(step.params)),
    )
    return executable


def _agree(job: Job, control: Link, mine: Mapping[str, Any]) -> None:
    said = control.gather(mine)
    others = [job.parties[rank] for rank in control.ranks if said[rank] != mine]
    if others:
        raise ProgramMismatch(
            f"step {mine['step']}: not the same program at {', '.join(others)}; compare the "
            "bundles' digests and the engines' versions",
            peer=others[0] if len(others) == 1 else None,
        )


def _run(
    job: Job,
    step: JobStep,
    program: Program,
    link: Link,
    executable: Any,
    own: Mapping[str, Any],
    rows: int,
    how: Computation,
) -> tuple[SecretValue, ...]:
    import spu

    config = spu.RuntimeConfig(
        protocol=spu.parse_protocol_kind(how.protocol),
        field=spu.parse_field_type(how.field),
        fxp_fraction_bits=how.fraction_bits,
    )
    runtime = spu.Runtime(link.context, config)
    io = spu.Io(len(job.parties), config)
    owners = [(name, job.rank_of(owner)) for name, owner, _ in program.arrays(step.params, rows)]
    mine = {name: _share_out(link, io, name, own[name]) for name, rank in owners if rank == job.rank}
    for name, rank in owners:
        runtime.set_var(name, mine.pop(name) if rank == job.rank else _share_in(link, rank, name))
    runtime.run(executable)
    return tuple(_secret(name, runtime.get_var(name)) for name in executable.output_names)


def _share_out(link: Link, io: Any, name: str, column: Any) -> Any:
    """Split one array into a share for each party, send the others theirs, and return ours."""
    import numpy as np
    import spu

    shares = io.make_shares(np.ascontiguousarray(column), spu.Visibility.VIS_SECRET)
    for rank in link.ranks:
        if rank != link.me:
            link.send(rank, encode_value(_secret(name, shares[rank])))
    return shares[link.rank]


def _share_in(link: Link, rank: int, name: str) -> Any:
    from spu import libspu

    try:
        value = decode_value(link.receive(rank))
    except BadShare as error:
        raise ProtocolViolated(f"a peer's share of {name} is malformed: {error}") from error
    if value.name != name:
        raise ProtocolViolated(f"a peer sent {value.name[:64]!r} instead of {name}")
    share = libspu.Share()
    share.meta = value.meta
    share.share_chunks = list(value.chunks)
    return share


def _secret(name: str, share: Any) -> SecretValue:
    return SecretValue(name, bytes(share.meta), tuple(bytes(chunk) for chunk in share.share_chunks))


def used_columns(step: JobStep, bundle: Bundle, name: str) -> Sequence[tuple[str, str]]:
    """Return the columns that ``step`` reads of input ``name``."""
    return bundle.program.columns(step.params, name) if step.engine == "mpc" else ()
