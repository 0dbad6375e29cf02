"""``sealtrace node``: make a node, run its processes, and do at it what its operator may do.

Operator commands work on the node's directory, by the same functions as the API.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sealtrace.algorithms.bundles import located
from sealtrace.contracts.keys import KeyFile
from sealtrace.contracts.options import ChainId, Contracts, Rpc, Scheduler
from sealtrace.node import directory as directories
from sealtrace.node import processes
from sealtrace.node.api.app import serve
from sealtrace.node.checkpoints import write_checkpoint
from sealtrace.node.doctor import Finding, examine
from sealtrace.node.engines.tee.measuring import runtime_digest
from sealtrace.node.operations import GrantOrder, Operations, TokenRole
from sealtrace.node.policies import policy_of_file
from sealtrace.node.policy_templates import comments, template
from sealtrace.node.settings import ApiSection, ChainSection, GatewaySection, Settings
from sealtrace.node.wiring import Node
from sealtrace.node.worker import run_worker
from sealtrace.protocol.attestation.evidence import Kind as Attested
from sealtrace.protocol.attestation.words import in_words
from sealtrace.protocol.canonical import canonical
from sealtrace.protocol.identifiers import address, hex32
from sealtrace.protocol.opening import statement_digest
from sealtrace.protocol.records import DataClass, names_of
from sealtrace.protocol.statements import MAX_AUDIENCE

app = typer.Typer(no_args_is_help=True, help="Run a data owner's or compute provider's node.")
token_app = typer.Typer(no_args_is_help=True, help="Bearer tokens of the API.")
dataset_app = typer.Typer(no_args_is_help=True, help="Datasets of this node.")
grant_app = typer.Typer(no_args_is_help=True, help="Who may use them.")
policy_app = typer.Typer(no_args_is_help=True, help="Which enclaves may open them.")
task_app = typer.Typer(no_args_is_help=True, help="Tasks that name this node.")
algorithm_app = typer.Typer(no_args_is_help=True, help="Algorithm bundles held here.")
evidence_app = typer.Typer(no_args_is_help=True, help="The evidence log.")
statements_app = typer.Typer(no_args_is_help=True, help="What enclaves stated.")
for name, group in {
    "token": token_app,
    "dataset": dataset_app,
    "grant": grant_app,
    "policy": policy_app,
    "task": task_app,
    "algorithm": algorithm_app,
    "evidence": evidence_app,
    "statements": statements_app,
}.items():
    app.add_typer(group, name=name)

Dir = Annotated[Path, typer.Option("--dir", help="The node's directory.", envvar="SEALTRACE_NODE_DIR")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
OnlyId = Annotated[bool, typer.Option("--id", help="Print the id alone, for scripts.")]
DatasetId = Annotated[str, typer.Argument(help="The dataset's id.")]
Out = Annotated[Path, typer.Option(help="A folder to write to.")]
GrantId = Annotated[str, typer.Argument(help="The grant's id.")]
TaskId = Annotated[str, typer.Argument(help="The task's id.")]
HERE = Path()
READER = "the command line"
_UNBOUNDED = 10_000
"""Columns: wider than any table of ours."""
_TIMES = frozenset(
    {"at", "seen_at", "created_at", "added_at", "issued_at", "not_before", "expires_at", "deadline"}
)


def _operations(directory: Path) -> Operations:
    return Operations(Node.open(directory))


def _show(found: Any, as_json: bool, columns: Sequence[str] = ()) -> None:
    """Print as JSON, or as a table of ``columns`` (a list) or of all fields (one object)."""
    if as_json:
        typer.echo(json.dumps(found, indent=1))
    elif isinstance(found, Mapping):
        _fields(found)
    else:
        _rows(found, columns)


def _made(found: Mapping[str, Any], identifier: str, only_id: bool, as_json: bool) -> None:
    typer.echo(identifier) if only_id else _show(found, as_json)


def _rows(found: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """A table where it fits the terminal, else a block for each row: an identifier is never cut off."""
    table = Table(*columns, box=None, header_style="bold")
    for each in found:
        table.add_row(*(escape(_cell(column, each.get(column))) for column in columns))
    console = Console()
    if console.measure(table, options=console.options.update(width=_UNBOUNDED)).maximum <= console.width:
        console.print(table)
        return
    for each in found:
        _fields({column: each.get(column) for column in columns})
        typer.echo()


def _promises(found: Iterable[Mapping[str, Any]]) -> None:
    """What each protection named in a list promises, once, below it."""
    named = {name: words for each in found for name, words in each["security"].items()}
    if named:
        typer.echo()
        _fields({"security": named})


def _fields(found: Mapping[str, Any]) -> None:
    width = 2 + max(map(len, found), default=0)
    for key, value in found.items():
        typer.echo(f"{key:<{width}}" + _cell(key, value).rstrip().replace("\n", "\n" + " " * width))


def _cell(name: str, value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: ""}[value]
    if name in _TIMES and value:
        return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    if name == "security" and isinstance(value, dict):
        return "\n".join(f"{protection}: {words}" for protection, words in value.items())
    if isinstance(value, dict | list):
        return json.dumps(value)
    return str(value)


def _diagnosis(found: Iterable[Finding]) -> None:
    """One line for each thing looked at, and what to do below what is wrong."""
    for each in found:
        typer.echo(f"{'ok' if each.ok else 'wrong':<7}{each.name:<13}{each.seen}")
        if each.todo:
            typer.echo(f"{'':<20}{each.todo}")


def _say(text: str) -> None:
    typer.echo(text, err=True)


# --- making and running a node


@app.command()
def init(
    directory: Dir,
    name: Annotated[str, typer.Option(help="A short name, such as bank.")],
    rpc: Rpc,
    chain_id: ChainId,
    contracts: Contracts,
    scheduler: Scheduler,
    redis: Annotated[
        str, typer.Option(help="A Redis database of this organisation's own.")
    ] = "redis://127.0.0.1:6379/0",
    gateway_host: Annotated[str, typer.Option(help="Where peers reach the gateway.")] = "127.0.0.1",
    gateway_port: Annotated[int, typer.Option(help="The gateway's port for peers.")] = 8610,
    local_port: Annotated[int, typer.Option(help="The gateway's port for own engines.")] = 8611,
    api_port: Annotated[int, typer.Option(help="The REST API's port, on loopback.")] = 8600,
    key: Annotated[Path | None, typer.Option(help="Use this key file instead of a new key.")] = None,
    data_dir: Annotated[list[Path] | None, typer.Option(help="The API may add datasets from here.")] = None,
    as_json: Json = False,
) -> None:
    """Make a node's directory: keys, certificate, node.toml. Prints the card for the registrar."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    held = KeyFile.load(key) if key else None
    fresh = directories.fresh_key() if held is None else held.private_key
    settings = Settings(
        name=name,
        address=directories.address_of(fresh),
        scheduler_url=scheduler,
        redis_url=redis,
        data_dirs=[each.resolve() for each in data_dir or []],
        chain=ChainSection(rpc_url=rpc, chain_id=chain_id, directory=address(contracts)),
        api=ApiSection(port=api_port),
        gateway=GatewaySection(host=gateway_host, port=gateway_port, local_port=local_port),
    )
    _show(asdict(directories.init(directory, settings, fresh)), as_json)


@app.command()
def card(
    directory: Dir = HERE,
    as_json: Json = False,
    only_address: Annotated[bool, typer.Option("--address", help="Print the address alone.")] = False,
) -> None:
    """Print what the registrar needs to admit this node. Nothing secret."""
    node = Node.open(directory)
    found = directories.card(node.layout, node.settings.address)
    _made(asdict(found), found.address, only_address, as_json)


@app.command()
def api(directory: Dir = HERE) -> None:
    """Serve the REST API."""
    serve(_operations(directory), lambda url: _say(f"the API listens at {url}"))


@app.command()
def worker(directory: Dir = HERE) -> None:
    """Serve the queue: run tasks."""
    run_worker(directory)


@app.command()
def watcher(directory: Dir = HERE) -> None:
    """Follow the chain: find tasks, queue them, anchor evidence."""
    processes.watch(directory, _say)


@app.command()
def gateway(directory: Dir = HERE) -> None:
    """Serve peers over mutual TLS, and own engines on loopback."""
    processes.gateway(directory, _say)


@app.command()
def relay(
    to: Annotated[list[str], typer.Option(help="A gateway it goes to, as host:port. Give it once for each.")],
    host: Annotated[str, typer.Option(help="Interface that gateways reach.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Its port; 0 takes a free one.")] = 8620,
) -> None:
    """Carry ciphertext between gateways that do not reach each other. Needs no node, and holds no key."""
    for each in to:
        if not re.fullmatch(r"[!-~]+:[0-9]{1,5}", each):
            raise typer.BadParameter(f"a gateway is named as host:port, not {each!r}")
    processes.relay(to, host, port, _say)


@app.command()
def run(directory: Dir = HERE) -> None:
    """Run all four processes of the node, until one ends."""
    processes.run_all(directory, _say)


@app.command()
def doctor(
    directory: Dir = HERE,
    as_json: Json = False,
    wait: Annotated[float, typer.Option(help="Look again for so many seconds, until all is well.")] = 0,
) -> None:
    """Look at everything the node needs, and say what to do. Exit code 1 where something is wrong."""
    give_up = time.monotonic() + wait
    while True:
        found = list(examine(Node.open(directory)))
        if all(each.ok for each in found) or time.monotonic() >= give_up:
            break
        time.sleep(1)
    _show([asdict(each) for each in found], as_json=True) if as_json else _diagnosis(found)
    if not all(each.ok for each in found):
        raise typer.Exit(1)


# --- tokens


@token_app.command("add")
def token_add(
    name: Annotated[str, typer.Argument(help="Whose it is.")],
    role: Annotated[TokenRole, typer.Option(help="An operator may act, a reader look.")] = TokenRole.READER,
    directory: Dir = HERE,
    as_json: Json = False,
) -> None:
    """Make a bearer token for the API. It is shown once."""
    token = _operations(directory).add_token(name, role)
    _show({"name": name, "role": role.value, "token": token}, as_json)


@token_app.command("list")
def token_list(directory: Dir = HERE, as_json: Json = False) -> None:
    """List tokens by name; never the tokens themselves."""
    _show(Node.open(directory).store.tokens(), as_json, ("name", "role", "created_at"))


# --- datasets


@dataset_app.command("add")
def dataset_add(
    path: Annotated[Path, typer.Argument(help="A CSV or Parquet file with a header, or secret values.")],
    name: Annotated[str | None, typer.Option(help="For people; default: the file's name.")] = None,
    data_class: Annotated[str, typer.Option(help="general, important or core (GB/T 43697).")] = "general",
    copy: Annotated[bool, typer.Option(help="Copy the file into the node's directory.")] = False,
    supersedes: Annotated[
        str | None, typer.Option(help="The dataset whose next version this is: it gets no new grants.")
    ] = None,
    directory: Dir = HERE,
    as_json: Json = False,
    only_id: OnlyId = False,
) -> None:
    """Fingerprint a table and put its salted commitment on the chain."""
    if data_class.upper() not in DataClass.__members__:
        raise typer.BadParameter("general, important or core", param_hint="--data-class")
    previous = None if supersedes is None else hex32(supersedes)
    row = _operations(directory).add_dataset(
        path, name, DataClass[data_class.upper()], copy=copy, supersedes=previous
    )
    _made(row, row["id"], only_id, as_json)


@dataset_app.command("list")
def dataset_list(directory: Dir = HERE, as_json: Json = False) -> None:
    """List datasets, withdrawn ones included."""
    _show(_operations(directory).datasets(), as_json, ("id", "name", "data_class", "withdrawn", "path"))


@dataset_app.command("withdraw")
def dataset_withdraw(dataset: DatasetId, directory: Dir = HERE, as_json: Json = False) -> None:
    """Withdraw a dataset: no task starts on it from then on."""
    _show(_operations(directory).withdraw_dataset(hex32(dataset)), as_json)


@dataset_app.command("open")
def dataset_open(
    dataset: DatasetId,
    to: Annotated[str, typer.Option(help="Who may look, such as the regulator's name.")],
    out: Annotated[Path, typer.Option(help="The file to write, for them alone.", dir_okay=False)],
    directory: Dir = HERE,
    as_json: Json = False,
) -> None:
    """Open one dataset's commitment to a regulator: its salt and fingerprint, signed. It is recorded."""
    if out.exists():
        raise typer.BadParameter(f"{out} is there already", param_hint="--out")
    if not 0 < len(to) <= MAX_AUDIENCE:
        raise typer.BadParameter(f"1 to {MAX_AUDIENCE} characters", param_hint="--to")
    out.parent.mkdir(parents=True, exist_ok=True)
    signed = _operations(directory).open_dataset(hex32(dataset), to)
    directories.write_private(out, canonical(signed.model_dump(mode="json")) + b"\n")
    told = {"file": str(out), "dataset": dataset, "to": to, "statement": statement_digest(signed.statement)}
    _show(told, as_json)


# --- grants


@grant_app.command("issue")
def grant_issue(
    dataset: Annotated[str, typer.Option(help="The dataset's id.")],
    algorithm: Annotated[str, typer.Option(help="The algorithm's digest.")],
    requester: Annotated[str, typer.Option(help="The requester's address.")],
    purpose: Annotated[str, typer.Option(help="In words; the chain gets its hash.")],
    protection: Annotated[list[str], typer.Option(help="Such as MPC_ABY3; give each that is allowed.")],
    uses: Annotated[int, typer.Option(help="How many task starts it is good for.")] = 1,
    hours: Annotated[float, typer.Option(help="Valid from now on for this long.")] = 24.0,
    approval: Annotated[bool, typer.Option(help="Ask the operator for each task.")] = False,
    epsilon: Annotated[
        float, typer.Option(help="Privacy budget; each task says what it spends. 0: none is set.")
    ] = 0.0,
    participant: Annotated[
        list[str] | None, typer.Option(help="Who may be a party beside this node; repeated. None: anybody.")
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(help="Which enclave may open the dataset, as JSON; TEE protections need it."),
    ] = None,
    replaces: Annotated[str | None, typer.Option(help="A grant that ends in the same step.")] = None,
    reference: Annotated[str | None, typer.Option(help="The same one again is the same grant.")] = None,
    directory: Dir = HERE,
    as_json: Json = False,
    only_id: OnlyId = False,
) -> None:
    """Let a requester use a dataset with an algorithm, for one purpose, so often and so long."""
    now = int(time.time())
    order = GrantOrder(
        dataset=hex32(dataset),
        algorithm=hex32(algorithm),
        requester=address(requester),
        purpose=purpose,
        uses=uses,
        not_before=0,
        expires_at=now + int(hours * 3600),
        protections=tuple(protection),
        approval_required=approval,
        epsilon_millionths=round(epsilon * 1_000_000),
        participants=tuple(address(each) for each in participant or ()),
        policy=None if policy is None else policy_of_file(policy),
    )
    ended = None if replaces is None else hex32(replaces)
    issued = _operations(directory).issue_grant(order, reference, ended)
    _made(issued, issued["id"], only_id, as_json)


@grant_app.command("list")
def grant_list(directory: Dir = HERE, as_json: Json = False) -> None:
    """List grants as they stand on the chain."""
    columns = ("id", "status", "uses_left", "requester", "dataset", "algorithm", "expires_at", "protections")
    found = _operations(directory).grants()
    _show(found, as_json, (*columns, "policy_digest"))
    if not as_json:
        _promises(found)


@grant_app.command("revoke")
def grant_revoke(grant: GrantId, directory: Dir = HERE, as_json: Json = False) -> None:
    """End a grant at once."""
    _show(_operations(directory).revoke_grant(hex32(grant)), as_json)


# --- policies


@policy_app.command("template")
def policy_template(
    kind: Annotated[Attested, typer.Option(help="What the enclave runs on.")] = Attested.SOFTWARE,
) -> None:
    """Print a policy to start from, with the runtime of this installation; what each field is for goes to
    standard error."""
    typer.echo(json.dumps(template(kind, runtime_digest()), indent=2))
    for name, said in comments().items():
        _say(f"{name}: {said}")


@policy_app.command("check")
def policy_check(
    file: Annotated[Path, typer.Argument(help="A policy as JSON, in any spelling.")],
    as_json: Json = False,
) -> None:
    """Say in words what a policy accepts, and its digest."""
    policy = policy_of_file(file)
    protections, accepts = names_of(policy.protections), in_words(policy)
    found = {"digest": policy.digest(), "protections": protections, "accepts": accepts}
    if as_json:
        _show(found, as_json)
        return
    _fields({"digest": found["digest"], "grants": "--protection " + " --protection ".join(protections)})
    typer.echo()
    for sentence in accepts:
        typer.echo(f"- {sentence}")


# --- tasks


@task_app.command("list")
def task_list(
    open_only: Annotated[bool, typer.Option("--open", help="Only those not over.")] = False,
    directory: Dir = HERE,
    as_json: Json = False,
) -> None:
    """List tasks, the newest first."""
    columns = ("id", "stage", "approval", "requester", "protections", "note")
    found = _operations(directory).tasks(open_only=open_only)
    _show(found, as_json, columns)
    if not as_json:
        _promises(each for each in found if not each["over"])


@task_app.command("show")
def task_show(task: TaskId, directory: Dir = HERE, as_json: Json = False) -> None:
    """Show one task, who learns what from it, and what this node recorded; with --json all of it."""
    found = _operations(directory).task(hex32(task))
    if as_json:
        _show(found, as_json)
        return
    _fields({key: value for key, value in found.items() if key not in ("spec", "learns", "evidence")})
    typer.echo()
    for each in found["learns"]:
        typer.echo(f"{each['step']}: {each['role']} learns: {each['what']}")
    typer.echo()
    _rows(found["evidence"], ("index", "at", "kind"))


@task_app.command("approve")
def task_approve(task: TaskId, directory: Dir = HERE, as_json: Json = False) -> None:
    """Let a waiting task run."""
    _show(_operations(directory).approve(hex32(task)), as_json)


@task_app.command("refuse")
def task_refuse(task: TaskId, directory: Dir = HERE, as_json: Json = False) -> None:
    """Refuse a task that has not begun."""
    _show(_operations(directory).refuse(hex32(task)), as_json)


@task_app.command("stop")
def task_stop(task: TaskId, directory: Dir = HERE, as_json: Json = False) -> None:
    """End a task on this node's data now."""
    _show(_operations(directory).stop(hex32(task)), as_json)


# --- algorithms and evidence


@algorithm_app.command("add")
def algorithm_add(
    path: Annotated[
        Path, typer.Argument(help="A bundle's folder, a tar of it, or the name of one that ships with us.")
    ],
    digest: Annotated[str | None, typer.Option(help="The digest it must have.")] = None,
    directory: Dir = HERE,
    as_json: Json = False,
    only_id: OnlyId = False,
) -> None:
    """Take in an algorithm bundle."""
    expected = hex32(digest) if digest else None
    held = asdict(_operations(directory).add_algorithm(located(path), expected))
    _made(held, held["digest"], only_id, as_json)


@algorithm_app.command("list")
def algorithm_list(directory: Dir = HERE, as_json: Json = False) -> None:
    """List the bundles here, each re-hashed now."""
    found = [asdict(each) for each in _operations(directory).algorithms()]
    _show(found, as_json, ("digest", "name", "version", "intact"))


@evidence_app.command("export")
def evidence_export(
    out: Out,
    directory: Dir = HERE,
    as_json: Json = False,
) -> None:
    """Write the evidence log and a signed checkpoint of it, for an auditor. The reading is recorded."""
    operations = _operations(directory)
    signed, lines = operations.read_evidence(READER)
    out.mkdir(parents=True, exist_ok=True)
    with (out / "000000.jsonl").open("wb") as file:
        file.writelines(lines)
    body = signed.statement.body
    write_checkpoint(out / "checkpoint.json", signed)
    _show({"folder": str(out), "records": body["size"], "root": body["root"]}, as_json)


@statements_app.command("export")
def statements_export(
    out: Out,
    directory: Dir = HERE,
    as_json: Json = False,
) -> None:
    """Write the statements of enclaves kept here, and this node's certificate, for an auditor. The reading is
    recorded."""
    written = _operations(directory).export_statements(READER, out)
    _show({"folder": str(out), "statements": len(written)}, as_json)
