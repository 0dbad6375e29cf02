"""``sealtrace contracts``: build, check, deploy and verify the contracts."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from sealtrace.contracts import compiler
from sealtrace.contracts.acting import PASSWORD_VARIABLE, TIMEOUT_S, signing_key
from sealtrace.contracts.deployment import deploy as put_on_chain
from sealtrace.contracts.governance import Rules
from sealtrace.contracts.link import Link, number
from sealtrace.contracts.options import Contracts, Rpc
from sealtrace.contracts.verification import Examination, examine
from sealtrace.protocol.identifiers import address

app = typer.Typer(no_args_is_help=True, help="Build, check, deploy and verify the contracts.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
KeyPath = Annotated[
    Path, typer.Option("--key", help=f"Key file to sign with; {PASSWORD_VARIABLE} opens an encrypted one.")
]


@app.command()
def build(as_json: Json = False) -> None:
    """Install the pinned compiler, compile, and write the artifacts that are committed."""
    compiler.install()
    artifacts = compiler.compile_all()
    changed = compiler.stale(artifacts)
    compiler.write(artifacts)
    _say({"changed": changed}, f"changed: {', '.join(changed) or 'nothing'}", as_json=as_json)


@app.command()
def check(as_json: Json = False) -> None:
    """Compile again and compare with the committed artifacts. Exit code 1 if they are stale."""
    compiler.install()
    stale = compiler.stale(compiler.compile_all())
    words = (
        f"stale: {', '.join(stale)}; run make contracts and commit the artifacts" if stale else "up to date"
    )
    _say({"stale": stale}, words, as_json=as_json)
    raise typer.Exit(bool(stale))


@app.command()
def deploy(
    rpc: Rpc,
    key: KeyPath,
    registrar: Annotated[str, typer.Option(help="Address that admits members.")],
    regulator: Annotated[str, typer.Option(help="Address that supervises.")],
    member: Annotated[
        list[str] | None, typer.Option(help="Address that votes, repeated; the registrar alone.")
    ] = None,
    quorum: Annotated[int, typer.Option(help="Per cent of the members that must be exceeded.")] = 50,
    voting_hours: Annotated[int, typer.Option(help="How long a vote is open.")] = 168,
    execution_hours: Annotated[int, typer.Option(help="How long a decision may be carried out.")] = 168,
    reviews: Annotated[int, typer.Option(help="Reviewers that an algorithm needs.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Write the deployment to this JSON file.")] = None,
    as_json: Json = False,
) -> None:
    """Deploy the contracts as one set, and print the directory's address."""
    if out is not None and out.exists():
        raise typer.BadParameter(f"{out} exists: a deployment is never overwritten")
    private_key = signing_key(key).private_key
    chain_id = number(Link.http(rpc, TIMEOUT_S).request("eth_chainId"))
    done = put_on_chain(
        rpc,
        chain_id,
        private_key,
        address(registrar),
        address(regulator),
        members=[address(each) for each in member or ()],
        rules=Rules(quorum, voting_hours * 3600, execution_hours * 3600, reviews),
    )
    if out is not None:
        out.write_text(json.dumps(done.to_json(), indent=1) + "\n")
    words = f"directory {done.directory} on chain {chain_id}, block {done.block}"
    _say(done.to_json(), words, as_json=as_json)


@app.command()
def verify(rpc: Rpc, contracts: Contracts, as_json: Json = False) -> None:
    """Prove that the code on a chain is ours and that our constructors made it. Exit code 1 if not."""
    found = examine(Link.http(rpc, TIMEOUT_S), address(contracts))
    if as_json:
        typer.echo(json.dumps({"proven": found.proven, **asdict(found)}))
    else:
        _show(found)
    raise typer.Exit(not found.proven)


def _show(found: Examination) -> None:
    identifiers = (Column(name, overflow="fold") for name in ("address", "created by"))
    table = Table("generation", "contract", *identifiers, "verdict")
    for each in found.contracts:
        verdict = f"[red]{each.problem}[/]" if each.problem else "[green]ours[/]"
        table.add_row(str(each.generation), each.name, each.address, each.created_by or "not found", verdict)
    console = Console()
    console.print(table)
    if found.founding is None:
        return
    for office in ("registrar", "regulator"):
        console.print(f"{office:<10} {getattr(found.founding, office)}, from the beginning", highlight=False)
    for member in found.founding.members:
        console.print(f"{'member':<10} {member}, from the beginning", highlight=False)
    console.print("what changed since: sealtrace consortium show", highlight=False)


def _say(content: dict[str, Any], words: str, *, as_json: bool) -> None:
    typer.echo(json.dumps(content) if as_json else words)
