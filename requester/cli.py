"""``sealtrace task`` and ``sealtrace algorithm``: ask for computations, open their results."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from sealtrace.algorithms.bundles import Bundle, load, located
from sealtrace.algorithms.disclosure import Learns
from sealtrace.algorithms.estimating import Line
from sealtrace.algorithms.template import create
from sealtrace.algorithms.trial import Trial, attempt, read_tables
from sealtrace.contracts import calls
from sealtrace.contracts.options import ChainId, Contracts, Rpc, Scheduler
from sealtrace.protocol.canonical import canonical, sha256
from sealtrace.protocol.identifiers import NOTHING, Hex32, address, hex32
from sealtrace.protocol.records import Algorithm
from sealtrace.protocol.spec import TaskSpec
from sealtrace.requester import config_cli, enclave_cli
from sealtrace.requester.client import Plan, Requester
from sealtrace.requester.directory import Directory, Keys, checked
from sealtrace.requester.enclaves import SIMULATED_WARNING, Attested
from sealtrace.requester.errors import RowsUnknown, SettingsInvalid, TaskUnknown
from sealtrace.requester.expectation_tables import expected_json, expected_lines, expected_table
from sealtrace.requester.expectations import ROWS, SAMPLING_S, Assumed, Expected
from sealtrace.requester.known_algorithms import KnownAlgorithms
from sealtrace.requester.options import AsJson, Dir, TaskId, print_json, say, warn
from sealtrace.requester.progress import Progress, why_no_result
from sealtrace.requester.rehearsing import Rehearse, asked
from sealtrace.requester.rehearsing import save as save_outputs
from sealtrace.requester.results import Result
from sealtrace.requester.security_words import security_json, security_table
from sealtrace.requester.task_files import read_file
from sealtrace.requester.whole_files import write_whole

task_app = typer.Typer(no_args_is_help=True, help="Ask for computations and open their results.")
algorithm_app = typer.Typer(no_args_is_help=True, help="Register algorithm bundles by digest.")

SHOWN_BYTES = 4096
"""What is larger is not printed by a rehearsal, but saved where asked."""

OnlyId = Annotated[bool, typer.Option("--id", help="Print the id alone, for scripts.")]
TaskFile = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="The task in YAML or JSON.")]
Timeout = Annotated[float | None, typer.Option(help="Give up waiting after so many seconds.")]


@task_app.command()
def init(
    rpc: Rpc,
    chain_id: ChainId,
    contracts: Contracts,
    scheduler: Scheduler,
    directory: Dir,
    party: Annotated[
        list[str] | None, typer.Option(help="NAME=ADDRESS for the address book. Repeatable.")
    ] = None,
    confirmations: Annotated[int, typer.Option(help="Blocks to wait where the chain can fork.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Make the requester's directory and keys; print what the registrar needs to admit them."""
    chain = {
        "rpc_url": rpc,
        "chain_id": chain_id,
        "directory": address(contracts),
        "confirmations": confirmations,
    }
    values = {"scheduler_url": scheduler, "chain": chain, "parties": _book(party or [])}
    settings = checked(values, "the command line")
    made = {"directory": str(directory), **_card(Directory(directory).create(settings))}
    if as_json:
        print_json(made)
    else:
        for name, value in made.items():
            say(f"{name:<16}{value}")
        say("Give all but the directory to the registrar, who admits requesters.")


@task_app.command()
def whoami(directory: Dir, as_json: AsJson = False) -> None:
    """Print the requester's address; with --json the card that the registrar admits it by."""
    keys = Directory(directory).keys()
    print_json(_card(keys)) if as_json else say(keys.address)


@task_app.command()
def plan(
    file: TaskFile,
    directory: Dir,
    out: Annotated[Path | None, typer.Option(help="Write the exact specification here.")] = None,
    rows: Annotated[
        list[str] | None, typer.Option(help=f"INPUT=N, rows to expect of it, else {ROWS:,}. Repeatable.")
    ] = None,
    common: Annotated[
        int | None, typer.Option(help="Rows that remain after an alignment.", show_default="smallest input")
    ] = None,
    rtt_ms: Annotated[float, typer.Option(min=0, help="Milliseconds of a round trip.")] = Line().rtt_ms,
    mbit: Annotated[float, typer.Option(min=0.001, help="Mbit/s that a party sends.")] = Line().mbit,
    sample_s: Annotated[float, typer.Option(min=0, help="Seconds for simulating steps.")] = SAMPLING_S,
    as_json: AsJson = False,
) -> None:
    """Show what would be submitted: protocols, bytes and time to expect, who learns what, what owners
    would refuse. Bytes and time are estimates.
    """
    requester = Requester.open(directory)
    planned = requester.plan(file)
    if out is not None:
        write_whole(out, planned.spec.canonical())
    assumed = Assumed(_row_counts(rows or []), common, Line(rtt_ms, mbit), sample_s)
    found = requester.expect(planned.spec, assumed)
    if as_json:
        print_json({**_plan_json(planned), "expected": expected_json(found, requester.names)})
    else:
        _print_plan(requester, planned, found)


@task_app.command()
def submit(
    file: TaskFile,
    directory: Dir,
    watch: Annotated[bool, typer.Option("--watch", help="Follow the task until it is over.")] = False,
    timeout: Timeout = None,
    as_json: AsJson = False,
    only_id: OnlyId = False,
) -> None:
    """Submit a task. The same specification (see ``plan --out``) submitted again is the same task."""
    requester = Requester.open(directory)
    planned = requester.plan(file)
    if not (as_json or only_id):
        Console().print(security_table(planned.spec))
        _print_learns(planned.learns)
    accepted = requester.submit(planned.spec)
    warnings = list(dict.fromkeys((*planned.warnings, *accepted.warnings)))
    if as_json:
        print_json({"task": accepted.task, "warnings": warnings, "learns": _learns_json(planned.learns)})
    elif only_id:
        say(accepted.task)
    else:
        _print_warnings(requester, warnings)
        say(f"task {accepted.task}")
    if watch:
        _watch(requester, accepted.task, timeout, as_json=as_json)


@task_app.command(name="watch")
def watch_task(task: TaskId, directory: Dir, timeout: Timeout = None, as_json: AsJson = False) -> None:
    """Follow a task on the chain until it is over. Exit code 1 unless it completed."""
    _watch(Requester.open(directory), hex32(task), timeout, as_json=as_json)


@task_app.command()
def result(
    task: TaskId,
    directory: Dir,
    out: Annotated[Path | None, typer.Option(help="Write the result here as JSON.")] = None,
    acknowledge: Annotated[
        bool, typer.Option(help="Say on the chain that the result was opened, once.")
    ] = True,
    timeout: Timeout = None,
    as_json: AsJson = False,
) -> None:
    """Wait for the result, check every output against the chain, open it, show it, and acknowledge it."""
    requester = Requester.open(directory)
    found = requester.result(hex32(task), timeout)
    if out is not None:
        write_whole(out, json.dumps(_result_json(found), indent=1).encode() + b"\n")
    if found.attested is not None and found.attested.simulated and not as_json:
        warn(SIMULATED_WARNING)
    if as_json:
        print_json(_result_json(found))
    elif out is not None:
        say(f"wrote {out}; the chain vouches for it by {found.digest}")
    else:
        _print_result(found)
    if acknowledge:
        requester.acknowledge(found)


@task_app.command()
def cancel(task: TaskId, directory: Dir, as_json: AsJson = False) -> None:
    """Give a task up on the chain."""
    Requester.open(directory).cancel(hex32(task))
    if as_json:
        print_json({"task": task, "state": "cancelled"})
    else:
        say(f"task {task} is cancelled")


@task_app.command(name="list")
def list_tasks(directory: Dir, as_json: AsJson = False) -> None:
    """List the tasks submitted from here and where the chain has them."""
    requester = Requester.open(directory)
    rows = [_row(requester, task, spec) for task, spec in requester.files.tasks()]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        say(f"{row['task']}  {row['state']:<13}  {escape(row['purpose'])} ({', '.join(row['parties'])})")


task_app.command(name="metrics")(enclave_cli.metrics)
task_app.command(name="statements")(enclave_cli.statements)


@algorithm_app.command()
def add(
    source: Annotated[Path, typer.Argument(help="A bundle's folder, or the name of one that ships with us.")],
    directory: Dir,
    local: Annotated[
        bool, typer.Option("--local", help="Remember it here only, do not register it.")
    ] = False,
    as_json: AsJson = False,
    only_id: OnlyId = False,
) -> None:
    """Compute a bundle's digest, register it on the chain unless it is, and remember where it is."""
    folder = located(source)
    bundle = load(folder)
    Directory(directory).settings()
    Directory(directory).add_bundle(bundle.digest, folder)
    status = "local" if local else _register(Requester.open(directory), bundle.digest)
    if only_id:
        say(bundle.digest)
    elif as_json:
        print_json({**_bundle_json(bundle), "status": status})
    else:
        say(f"{bundle.manifest.name} {bundle.manifest.version}  {bundle.digest}  {status}")


@algorithm_app.command()
def new(
    name: Annotated[str, typer.Argument(help="Small letters, digits and hyphens.")],
    into: Annotated[Path, typer.Option(help="The folder to make it in.")] = Path(),
    engine: Annotated[Literal["mpc", "tee"], typer.Option(help="What it runs on.")] = "mpc",
    as_json: AsJson = False,
) -> None:
    """Make a bundle to start from, and tables to try it on.

    For mpc it is one JAX function over declared columns, for tee a Python script with a policy of what may
    leave the enclave.
    """
    folder = create(name, into, engine)
    trial = folder.with_name(f"{name}-trial")
    if as_json:
        print_json({"bundle": str(folder), "trial": str(trial)})
        return
    say(f"made {folder} and {trial}; try it:")
    tables = " ".join(f"--table {each}={trial}/{each}.csv" for each in ("bank", "employer"))
    say(f"  sealtrace algorithm test {folder} --params {trial}/params.yaml {tables} --id id")


@algorithm_app.command(name="test")
def try_out(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(help="A bundle's folder, or the name of one that ships with us.")],
    params: Annotated[
        Path, typer.Option(exists=True, dir_okay=False, help="The step's params, YAML or JSON.")
    ],
    table: Annotated[list[str], typer.Option(help="INPUT=FILE.csv for each input. Repeatable.")],
    id_column: Annotated[
        str | None, typer.Option("--id", help="Align the tables by this column; else rows belong together.")
    ] = None,
    protocol: Annotated[str | None, typer.Option(help="By default the first that the bundle names.")] = None,
    save: Annotated[Path | None, typer.Option(help="tee: write outputs into this folder.")] = None,
    config: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="tee: the secret values that seal-config wrote."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Simulate an algorithm on tables that you may see, all parties in this process, and show the result.

    Nothing is secret here. Of a bundle that is one function, the same in the clear stands beside it, and how
    far the largest number inside is from overflowing, over the tables and over the declared bounds. A TEE
    algorithm runs in a node's sandbox, behind the guard that holds it to its output policy; an input that is
    no .csv is a model of an earlier run.
    """
    bundle = load(located(source))
    words = read_file(params).value
    if bundle.manifest.engine == "tee":
        files = _tables(table)
        _rehearse(asked(context.obj), bundle, words, files, id_column, save, config, as_json=as_json)
        return
    tables = read_tables(bundle.program, words, _tables(table), id_column)
    tried = attempt(bundle, words, tables, protocol or bundle.manifest.protocols[0])
    print_json(_trial_json(tried)) if as_json else _print_trial(tried)


@algorithm_app.command()
def show(
    which: Annotated[str, typer.Argument(help="A digest, a name, or a bundle's folder.")],
    directory: Dir,
    as_json: AsJson = False,
) -> None:
    """Show a bundle: its digest, who learns what, and its standing on the chain if that is configured."""
    bundle = load(Path(which)) if Path(which).is_dir() else _known(directory, which)
    shown = {**_bundle_json(bundle), "chain": _standing(directory, bundle.digest)}
    if as_json:
        print_json(shown)
        return
    manifest = bundle.manifest
    say(f"[bold]{manifest.name} {manifest.version}[/]  {escape(manifest.title)}")
    say(f"digest     {bundle.digest}\noci        {bundle.packed.oci_digest}\nchain      {shown['chain']}")
    say(f"engine     {manifest.engine} ({', '.join(manifest.protocols)})")
    for role, what in manifest.learns.items():
        say(f"[bold]{escape(role)}[/]: {escape(what)}")
    for name, commitment in (manifest.secret_config or {}).items():
        say(f"secret     {name}, committed to as {commitment}")


algorithm_app.command(name="seal-config")(config_cli.seal_config)
algorithm_app.command(name="open-config")(config_cli.open_config)


@algorithm_app.command(name="list")
def list_algorithms(directory: Dir, as_json: AsJson = False) -> None:
    """List the bundles on this machine."""
    files = Directory(directory)
    bundles = KnownAlgorithms(files.bundles()).bundles.values()
    if as_json:
        print_json([_bundle_json(each) for each in bundles])
        return
    for each in bundles:
        manifest = each.manifest
        say(f"{each.digest}  {manifest.engine:<5}  {manifest.name} {manifest.version}")


@algorithm_app.command()
def propose(
    which: Annotated[str, typer.Argument(help="A digest, a name, or a bundle's folder.")],
    reviewer: Annotated[list[str], typer.Option(help="Address of a reviewer; repeated.")],
    directory: Dir,
    as_json: AsJson = False,
) -> None:
    """Propose a bundle to reviewers; it is active when all of them have agreed."""
    digest = _digest(directory, which)
    requester = Requester.open(directory)
    call = calls.propose_algorithm(digest, [address(each) for each in reviewer])
    requester.send(f"algorithm.propose:{digest}", call)
    _tell(requester, digest, as_json=as_json)


@algorithm_app.command()
def review(
    digest: Annotated[str, typer.Argument(help="The algorithm's digest.")],
    report: Annotated[Path, typer.Option(help="The review in words; the chain gets its SHA-256.")],
    agree: Annotated[bool, typer.Option("--agree/--decline", help="Whether it may be used.")],
    directory: Dir,
    as_json: AsJson = False,
) -> None:
    """Say, as a reviewer its provider named, whether an algorithm may be used. Once, and not undone."""
    requester = Requester.open(directory)
    call = calls.review_algorithm(hex32(digest), sha256(report.read_bytes()), agreed=agree)
    requester.send(f"algorithm.review:{digest}", call)
    _tell(requester, hex32(digest), as_json=as_json)


@algorithm_app.command()
def supersede(
    previous: Annotated[str, typer.Argument(help="The digest that gets no new grants.")],
    successor: Annotated[str, typer.Argument(help="The digest that takes its place.")],
    directory: Dir,
    as_json: AsJson = False,
) -> None:
    """Say, as the provider of both, that an algorithm takes the place of another."""
    requester = Requester.open(directory)
    call = calls.supersede_algorithm(hex32(previous), hex32(successor))
    requester.send(f"algorithm.supersede:{previous}", call)
    _tell(requester, hex32(previous), as_json=as_json)


@algorithm_app.command()
def revoke(
    digest: Annotated[str, typer.Argument(help="The algorithm's digest.")],
    directory: Dir,
    as_json: AsJson = False,
) -> None:
    """Take an algorithm out of use for good, as its provider."""
    requester = Requester.open(directory)
    requester.send(f"algorithm.revoke:{digest}", calls.revoke_algorithm(hex32(digest)))
    _tell(requester, hex32(digest), as_json=as_json)


def _row_counts(given: list[str]) -> dict[str, int]:
    found = {}
    for each in given:
        name, _, count = each.partition("=")
        if not name or not count.isdecimal():
            raise RowsUnknown(f"--rows {each}: give INPUT=N")
        found[name] = int(count)
    return found


def _tables(given: list[str]) -> dict[str, Path]:
    found = {}
    for each in given:
        name, said, file = each.partition("=")
        if not said or not name or not file:
            raise SettingsInvalid(f"--table {each}: give INPUT=FILE.csv")
        found[name] = Path(file)
    return found


def _trial_json(tried: Trial) -> dict[str, Any]:
    room = tried.room
    return {
        **tried.simulated.computation.model_dump(mode="json"),
        "result": tried.simulated.result,
        "plain": tried.plain,
        "largest_number": room and {"is": room.largest, "by": room.operation, "fits": room.limit},
    }


def _print_trial(tried: Trial) -> None:
    how = tried.simulated.computation
    say(f"{how.protocol}, {how.field} with {how.fraction_bits} fraction bits; {tried.simulated.rows} rows")
    if tried.plain is None:
        for name, value in tried.simulated.result.items():
            for shown in _shown(name, value):
                Console().print(shown)
        return
    rows = [
        {"output": name, "joint": value, "in the clear": tried.plain[name]}
        for name, value in tried.simulated.result.items()
    ]
    Console().print(_rows_table("simulated", rows))
    if (room := tried.room) is not None:
        left = f"{room.largest:.3g} ({room.operation}); up to {room.limit:.3g} fits"
        say(f"largest number inside, here and at the declared bounds: {left}")


def _rehearse(
    rehearse: Rehearse,
    bundle: Bundle,
    params: Mapping[str, Any],
    files: Mapping[str, Path],
    id_column: str | None,
    folder: Path | None,
    config: Path | None,
    *,
    as_json: bool,
) -> None:
    """Run a TEE algorithm; its metrics as they come and what it prints go to standard error."""
    error = Console(stderr=True, highlight=False, soft_wrap=True)
    done = rehearse(
        bundle,
        params,
        files,
        id_column,
        report=lambda number, told: error.print(f"round {number}  {_measures(told)}"),
        shown=lambda log: error.print(escape(log.decode("utf-8", "replace")), end=""),
        config=config,
    )
    if folder is not None:
        save_outputs(done.outputs, folder)
    if as_json:
        print_json({"outputs": done.outputs, "seconds": done.seconds})
        return
    say(f"{done.seconds:.2f} s in the sandbox; {len(done.outputs)} outputs passed the output policy")
    for name, value in done.outputs.items():
        size = len(canonical(value))
        for shown in _shown(name, value) if size <= SHOWN_BYTES else (f"{name}: {size} bytes",):
            Console().print(shown)


def _measures(told: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value}" for name, value in told.items())


def _digest(directory: Path, which: str) -> Hex32:
    return load(Path(which)).digest if Path(which).is_dir() else _known(directory, which).digest


def _tell(requester: Requester, digest: Hex32, *, as_json: bool) -> None:
    status = _status(requester.algorithm(digest))
    if as_json:
        print_json({"digest": digest, "status": status})
    else:
        say(f"{digest}  {status}")


def _register(requester: Requester, digest: Hex32) -> str:
    if requester.algorithm(digest) is None:
        requester.send(f"algorithm.register:{digest}", calls.register_algorithm(digest))
    known = requester.algorithm(digest)
    return _status(known)


def _standing(directory: Path, digest: Hex32) -> str:
    if not (directory / "requester.toml").exists():
        return "not asked: no requester's directory"
    return _status(Requester.open(directory).algorithm(digest))


def _status(known: Algorithm | None) -> str:
    if known is None:
        return "not registered"
    return known.status.name.lower() + (", superseded" if known.superseded else "")


def _known(directory: Path, which: str) -> Bundle:
    known = KnownAlgorithms(Directory(directory).bundles())
    return known.bundle(known.find(which).digest)


def _card(keys: Keys) -> dict[str, str]:
    """What the registrar admits a requester by: it opens no port, so it has no certificate."""
    return {"address": keys.address, "encryption_key": keys.encryption_key, "tls_fingerprint": NOTHING}


def _book(entries: list[str]) -> dict[str, Any]:
    book = {}
    for entry in entries:
        name, found, given = entry.partition("=")
        if not found:
            raise SettingsInvalid(f"--party {entry}: give NAME=ADDRESS")
        book[name] = address(given)
    return book


def _watch(requester: Requester, task: Hex32, timeout: float | None, *, as_json: bool) -> None:
    seen: Progress | None = None
    if as_json:
        for seen in requester.watch(task, timeout):
            print_json(_progress_json(seen))
    else:
        with Live(auto_refresh=False) as live:
            for seen in requester.watch(task, timeout):
                live.update(_progress_table(seen), refresh=True)
    if seen is not None and (error := why_no_result(seen, requester.names)):
        raise error


def _progress_table(seen: Progress) -> Table:
    table = Table(
        "party", "approved", "started", "finished",
        title=f"task {seen.task}", caption=f"{seen.state.name.lower()} at block {seen.block.number}",
    )  # fmt: skip
    for each in seen.parties:
        table.add_row(each.name, *(_mark(done) for done in (each.approved, each.started, each.finished)))
    return table


def _mark(done: bool) -> str:
    return "[green]yes[/]" if done else "[dim]-[/]"


def _progress_json(seen: Progress) -> dict[str, Any]:
    return {
        "task": seen.task,
        "state": seen.state.name.lower(),
        "block": seen.block.number,
        "parties": [
            {
                "address": each.address,
                "name": each.name,
                "approved": each.approved,
                "started": each.started,
                "finished": each.finished,
            }
            for each in seen.parties
        ],
    }


def _row(requester: Requester, task: Hex32, spec: TaskSpec) -> dict[str, Any]:
    try:
        state = requester.look(task).state.name.lower()
    except TaskUnknown:
        state = "not on chain"
    names = [requester.names.get(party, party) for party in spec.parties]
    return {"task": task, "state": state, "purpose": spec.purpose, "parties": names}


def _bundle_json(bundle: Bundle) -> dict[str, Any]:
    manifest = bundle.manifest
    return {
        "name": manifest.name,
        "version": manifest.version,
        "engine": manifest.engine,
        "protocols": manifest.protocols,
        "digest": bundle.digest,
        "oci_digest": bundle.packed.oci_digest,
        "learns": manifest.learns,
        "secret_config": dict(manifest.secret_config or {}),
        "folder": str(bundle.folder),
    }


def _plan_json(planned: Plan) -> dict[str, Any]:
    return {
        "task": planned.task,
        "spec": planned.spec.model_dump(mode="json"),
        "warnings": list(planned.warnings),
        "learns": _learns_json(planned.learns),
        "security": security_json(planned.spec),
    }


def _learns_json(learns: tuple[Learns, ...]) -> list[dict[str, str]]:
    return [
        {
            "step": each.step,
            "algorithm": each.algorithm,
            "protocol": each.protocol,
            "role": each.role,
            "learns": each.what,
        }
        for each in learns
    ]


def _print_plan(requester: Requester, planned: Plan, found: Expected) -> None:
    table = Table("step", "engine", "protocol", "inputs", "after", title=escape(planned.spec.purpose))
    for step in planned.spec.steps:
        table.add_row(step.id, step.engine, step.protocol, ", ".join(step.inputs), ", ".join(step.after))
    Console().print(table)
    Console().print(expected_table(found, requester.names))
    for each in expected_lines(found):
        say(escape(each))
    Console().print(security_table(planned.spec))
    _print_learns(planned.learns)
    _print_warnings(requester, list(planned.warnings))
    say(f"would be task {planned.task}")


def _print_learns(learns: tuple[Learns, ...]) -> None:
    table = Table("step", "who", "learns", title="what each role learns", show_lines=True)
    for each in learns:
        table.add_row(f"{each.step}\n{each.protocol}", escape(each.role), escape(each.what))
    Console().print(table)


def _print_warnings(requester: Requester, warnings: list[str]) -> None:
    for each in warnings:
        for party, name in requester.names.items():
            each = each.replace(party, name)
        warn(each)


def _result_json(found: Result) -> dict[str, Any]:
    return {
        "task": found.task,
        "result": dict(found.value),
        "outputs": dict(found.outputs),
        "digest": found.digest,
        "enclave": found.attested and _attested_json(found.attested),
    }


def _attested_json(attested: Attested) -> dict[str, Any]:
    return {
        "statement": attested.statement,
        "evidence": attested.kind,
        "simulated": attested.simulated,
    }


def _print_result(found: Result) -> None:
    for name, value in found.value.items():
        for shown in _shown(name, value):
            Console().print(shown)
    say(f"every output matches the chain: {found.digest}")
    if found.attested is not None:
        say(f"the enclave's last statement is {found.attested.statement} ({found.attested.kind})")


def _shown(name: str, value: Any) -> Iterator[Table | str]:
    """A list of alike objects as a table, a matrix as one, other objects part by part, the rest as a line."""
    if isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
        yield _rows_table(name, [_flat(each) for each in value])
    elif isinstance(value, dict) and {"columns", "matrix"} <= set(value):
        rows = [
            {"": column, **dict(zip(value["columns"], row, strict=True))}
            for column, row in zip(value["columns"], value["matrix"], strict=True)
        ]
        yield _rows_table(name, rows)
    elif isinstance(value, dict):
        for part, each in value.items():
            yield from _shown(f"{name} {part}", each)
    else:
        yield f"{escape(name)}: {escape(json.dumps(value))}"


def _rows_table(name: str, rows: list[dict[str, Any]]) -> Table:
    keys = list(dict.fromkeys(key for row in rows for key in row))
    # what is suppressed in one row has parts in others: it needs no column of its own
    columns = [key for key in keys if not any(each.startswith(f"{key} ") for each in keys)]
    table = Table(*(escape(each) for each in columns), title=escape(name))
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in columns))
    return table


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in row.items():
        flat |= (
            {f"{key} {name}": each for name, each in value.items()}
            if isinstance(value, dict)
            else {key: value}
        )
    return flat


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else escape(str(value))
