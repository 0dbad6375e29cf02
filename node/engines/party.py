"""One party's engine process: ``python -m sealtrace.node.engines.party JOBDIR``.

Runs all steps of ``job.json`` and leaves ``output.sealed`` and ``transcript.json``, or ``error.json``.
No result and no share touches the disk unsealed; what PSI writes lies in ``scratch`` and is wiped.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sealtrace.algorithms.bundles import Bundle, BundleAltered, BundleMissing, load
from sealtrace.algorithms.shares import Header, encode_output, encode_share
from sealtrace.node.engines import handover
from sealtrace.node.engines.alignment import align
from sealtrace.node.engines.computation import Computed, Held, check_params, compute, used_columns
from sealtrace.node.engines.errors import (
    BadJob,
    BundleRefused,
    ProgramMismatch,
    ProtocolViolated,
)
from sealtrace.node.engines.job import Job, JobInput, JobStep, own_inputs, read_job
from sealtrace.node.engines.keeping import meet_parts, parts_to_keep, read_parts
from sealtrace.node.engines.keys import Keys, check_table, read_keys, rule_for, rules_of
from sealtrace.node.engines.link import Link, connect
from sealtrace.node.engines.loading import keep_heaps_few, load_engine
from sealtrace.node.engines.tables import Table, load_table
from sealtrace.node.engines.workplace import (
    CONNECTING,
    JOB,
    KEPT,
    OUTPUT,
    SCRATCH,
    TRANSCRIPT,
    live,
    tell,
    version,
    write,
)
from sealtrace.protocol.bundle import BadBundle
from sealtrace.protocol.canonical import canonical, sha256
from sealtrace.protocol.envelope import seal
from sealtrace.protocol.identifiers import Address, Hex32, hex32, raw
from sealtrace.protocol.receipt import result_digest
from sealtrace.protocol.security import of_step
from sealtrace.protocol.spec import source_of


@dataclass(slots=True)
class Run:
    """A job under way at this party."""

    job: Job
    folder: Path
    bundles: dict[str, Bundle]
    tables: dict[str, Table]
    keys: dict[str, Keys]
    """Of this party's input, by alignment step."""
    control: Link
    kept: dict[str, Held] = field(default_factory=dict)
    """Values of earlier tasks, by name."""
    steps: list[dict[str, Any]] = field(default_factory=list)
    shared: dict[tuple[str, str], Held] = field(default_factory=dict)
    """Values that steps handed on, by step and name."""
    shares: dict[str, bytes] = field(default_factory=dict)
    """This party's shares of the steps that are opened, by step."""


def run(folder: Path) -> None:
    """Carry one job to its end.

    1. Read the job, the bundles and this party's tables; refuse what does not fit.
    2. Meet the peers and compare what everybody was told.
    3. Run the steps in order.
    4. Keep this party's parts of the values that the task keeps.
    5. Seal this party's shares of the steps that are opened for the requester.
    6. Exchange the digests of what was sealed.

    Raises:
        EngineError: one of its kinds.
    """
    job = read_job(folder / JOB)
    bundles = checked_bundles(job)
    if any(step.engine == "psi" for step in job.steps):
        keep_heaps_few()
    _require_engine(folder)
    keys = _keys(job)
    own = [each for each in own_inputs(job) if each.part_of is None]
    tables = {each.name: _table(job, each, bundles, keys) for each in own}
    parts = read_parts(job)
    tell(folder, CONNECTING)
    state = Run(job, folder, bundles, tables, keys, _meet(job))
    state.kept = meet_parts(job, state.control, parts)
    for step in job.steps:
        tell(folder, "running", step.id)
        _step(state, step)
    kept = _keep(state)
    tell(folder, "sealing")
    output = _seal(job, encode_output({id: state.shares[id] for id in job.results if id in state.shares}))
    write(folder / OUTPUT, output)
    outputs = _exchange(state, sha256(output))
    state.control.finish()
    write(folder / TRANSCRIPT, canonical(_transcript(state, outputs, kept)))
    tell(folder, "done")


def checked_bundles(job: Job) -> dict[str, Bundle]:
    """Load each step's bundle and hold the step to what it takes. Runs code of the bundles.

    Raises:
        BadJob: a bundle does not take its step.
        BundleRefused: a bundle is not what the step names, or does not load.
    """
    bundles = {step.id: _bundle(step) for step in job.steps}
    for step in job.steps:
        _check_step(job, step, bundles[step.id])
    return bundles


def _bundle(step: JobStep) -> Bundle:
    try:
        return load(Path(step.bundle), expected=step.algorithm)
    except (BundleMissing, BundleAltered, BadBundle, OSError) as error:
        raise BundleRefused(f"step {step.id}: {error}") from error


def _check_step(job: Job, step: JobStep, bundle: Bundle) -> None:
    if bundle.manifest.engine != step.engine or step.protocol not in bundle.manifest.protocols:
        raise BadJob(f"step {step.id}: the bundle does not run under {step.protocol}")
    if step.engine == "mpc":
        try:
            check_params(job, step, bundle)
        except BadBundle as error:
            raise BundleRefused(f"step {step.id}: {error}") from error
    elif step.alignment.result not in bundle.manifest.results:
        raise BadJob(
            f"step {step.id}: {bundle.manifest.name} gives {', '.join(bundle.manifest.results)}, "
            f"not {step.alignment.result}: name an algorithm whose manifest lists it"
        )


def _keys(job: Job) -> dict[str, Keys]:
    """Read the keys of this party's input of every alignment, which refuses a table that does not fit."""
    found = {}
    for step in job.steps:
        for own in own_inputs(job):
            if step.engine == "psi" and own.name in step.inputs:
                rule = rule_for(step.alignment, own.name, own.id_column)
                found[step.id] = read_keys(Path(own.path or ""), rule, job.task, own.columns)
    return found


def _table(job: Job, own: JobInput, bundles: dict[str, Bundle], keys: dict[str, Keys]) -> Table:
    path = Path(own.path or "")
    used = [
        column
        for step in job.steps
        if own.name in step.inputs
        for column in used_columns(step, bundles[step.id], own.name)
    ]
    aligned = [step for step in job.steps if step.id in keys and own.name in step.inputs]
    if aligned:
        rows = len(keys[aligned[0].id].rows)
    else:
        rows = check_table(path, [], rules_of(job.steps, own.name, own.id_column)).rows
    return load_table(path, list(dict.fromkeys(used)), rows)  # type: ignore[arg-type]


def _require_engine(folder: Path) -> None:
    libspu = load_engine()
    options = libspu.logging.LogOptions()
    options.log_level = libspu.logging.LogLevel.WARN  # it reports each empty second otherwise
    options.enable_console_logger = True
    options.system_log_path = str(folder / SCRATCH / "spu.log")
    libspu.logging.setup_logging(options)


def _meet(job: Job) -> Link:
    control = connect(job, "control", range(len(job.parties)), receive_ms=job.timeouts.wait_ms)
    mine = job.agreement()
    others = [job.parties[rank] for rank, said in enumerate(control.gather(mine)) if said != mine]
    if others:
        raise ProgramMismatch(
            f"not told the same as {', '.join(others)}; compare specifications",
            peer=others[0] if len(others) == 1 else None,
        )
    return control


def _step(state: Run, step: JobStep) -> None:
    """Run this party's part of one step."""
    if step.engine == "mpc":
        _compute(state, step)
    elif state.job.rank in state.job.ranks_of(step):
        _align(state, step)
    else:
        state.steps.append({**_words(step), "part": "none", "common": None})


def _compute(state: Run, step: JobStep) -> None:
    tables = {name: _rows(state, step, name) for name in step.inputs if name in state.tables}
    taken = {role: _taken(state, step, role) for role in step.uses}
    done = compute(state.job, step, state.bundles[step.id], state.control, tables, taken)
    state.shared |= {(step.id, name): each for name, each in done.given.items()}
    uses = {"uses": dict(step.uses)} if step.uses else {}
    part = {} if state.job.computes else {"part": "shares in"}
    state.steps.append(_account(step, done.rows, program=done.program, done=done, **uses, **part))
    if state.job.computes and step.id in state.job.results:
        more = {"computation": done.computation, "taken": dict(done.taken)}
        header = _header(state.job, step, done.rows).model_copy(update=more)
        state.shares[step.id] = encode_share(header, done.values)


def _taken(state: Run, step: JobStep, role: str) -> Held:
    """The shared value that ``step`` uses as ``role``."""
    source = step.uses[role]
    if source in state.kept:
        return state.kept[source]
    place = source_of(role, source)
    if place not in state.shared:
        raise BadJob(f"step {step.id}: uses.{role}: step {place[0]} gives no {place[1]!r}")
    return state.shared[place]


def _keep(state: Run) -> dict[str, Any]:
    """Write this party's parts of what the task keeps; return what the transcript says of them."""
    folder = state.folder / KEPT
    written = parts_to_keep(state.job, folder, state.shared)
    if written:
        folder.mkdir(mode=0o700)
    for each in written:
        write(each.path, each.content)
    return {each.path.stem: each.words for each in written}


def _align(state: Run, step: JobStep) -> None:
    (name,) = (each for each in step.inputs if each in state.tables)
    own, table, keys = state.job.input(name), _rows(state, step, name), state.keys[step.id]
    rows = state.tables[name].rows
    if table.rows < rows:
        keys = keys.only(table.numbers)

    def with_whom(ranks: Sequence[int]) -> None:
        tell(state.folder, "aligning", step.id, [state.job.parties[rank] for rank in ranks])

    ranks = state.job.ranks_of(step)
    among = state.control
    if len(ranks) < len(state.job.parties):
        among = connect(state.job, f"{step.id}.control", ranks, receive_ms=state.job.timeouts.wait_ms)
    chosen = align(state.job, step, among, keys, state.folder / SCRATCH, with_whom)
    if among is not state.control:
        among.finish()
    found = handover.Found(
        name=name,
        path=Path(own.path or ""),
        rule=rule_for(step.alignment, name, own.id_column),
        alignment=step.alignment,
        inputs=step.inputs,
        gives=own.columns,
        rows=rows,
        keys=keys,
        chosen=chosen,
    )
    more: dict[str, Any] = {"common": None if chosen is None else len(chosen)}
    if chosen is not None:
        state.tables[f"{step.id}/{name}"] = table.take(keys.first()[chosen])
    if (received := handover.receive(found, state.folder)) is not None:
        more["received"] = received
    state.steps.append(_account(step, table.rows, **more))
    if step.id in state.job.results:
        header = _header(state.job, step, more["common"] or 0)
        state.shares[step.id] = encode_share(header, handover.values(found))


def _rows(state: Run, step: JobStep, name: str) -> Table:
    """Return input ``name`` as the last alignment before this step left it."""
    for before in reversed(step.after):
        if (aligned := state.tables.get(f"{before}/{name}")) is not None:
            return aligned
    return state.tables[name]


def _header(job: Job, step: JobStep, rows: int) -> Header:
    ranks = job.ranks_of(step)
    return Header(
        kind=step.engine,
        task=job.task,
        step=step.id,
        rank=ranks.index(job.rank),
        world=len(ranks),
        rows=rows,
        values=[],
    )


def _account(step: JobStep, rows: int, **more: Any) -> dict[str, Any]:
    done: Computed | None = more.pop("done", None)
    account = {**_words(step), "rows": rows, **more}
    if done is not None:
        account |= {"field": done.computation.field, "fraction_bits": done.computation.fraction_bits}
    return account


def _words(step: JobStep) -> dict[str, Any]:
    return {
        "step": step.id,
        "engine": step.engine,
        "algorithm": step.algorithm,
        "protocol": step.protocol,
        "security": of_step(step.engine, step.protocol).words,
    }


def _seal(job: Job, share: bytes) -> bytes:
    header = {"task": job.task, "party": job.party, "kind": "share"}
    return seal(share, raw(job.requester_key), header)


def _exchange(state: Run, mine: Hex32) -> dict[Address, Hex32]:
    said = state.control.gather(mine)
    try:
        return {party: hex32(said[rank]) for rank, party in enumerate(state.job.parties)}
    except (ValueError, AttributeError) as error:
        raise ProtocolViolated("a peer's digest of its sealed share is malformed") from error


def _transcript(state: Run, outputs: dict[Address, Hex32], kept: dict[str, Any]) -> dict[str, Any]:
    return {
        "engine": f"spu {version('spu')}",
        "task": state.job.task,
        "party": state.job.party,
        "parties": list(state.job.parties),
        "steps": state.steps,
        "outputs": outputs,
        "result": result_digest(outputs),
        **({"kept": kept} if kept else {}),
    }


if __name__ == "__main__":
    live(sys.argv[1:], run)
