"""``sealtrace registrar``: admit, suspend, reinstate and retire nodes; suspend an algorithm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from sealtrace.contracts import calls
from sealtrace.contracts.acting import act, connect, read_card, roles_of, tell
from sealtrace.contracts.calls import Call
from sealtrace.contracts.cli import Json, KeyPath
from sealtrace.contracts.options import Contracts, Rpc
from sealtrace.protocol.canonical import sha256
from sealtrace.protocol.identifiers import address, hex32
from sealtrace.protocol.records import Node, Role

app = typer.Typer(
    no_args_is_help=True,
    help="Admit, suspend, reinstate and retire nodes, as a registrar or the regulator.",
)

NodeAddress = Annotated[str, typer.Argument(help="The node's address.")]
CardFile = Annotated[
    Path, typer.Argument(help="The member's card: what node card --json or task init --json printed.")
]
Algorithm = Annotated[str, typer.Argument(help="The algorithm's digest.")]
Reason = Annotated[
    str, typer.Option("--reason", help="Why, in words. The chain holds their SHA-256: keep the words.")
]


@app.command()
def admit(
    card: CardFile,
    rpc: Rpc,
    contracts: Contracts,
    key: KeyPath,
    roles: Annotated[
        str, typer.Option(help="owner, compute, requester, provider, scheduler; comma-separated.")
    ],
    as_json: Json = False,
) -> None:
    """Admit an organisation for good under one address, by the card it made itself."""
    node, tls, encryption_key = read_card(card)
    call = calls.admit(node, roles_of(roles.split(",")), tls, encryption_key)
    _act(call, rpc, contracts, key, as_json=as_json)


@app.command()
def suspend(
    node: NodeAddress,
    rpc: Rpc,
    contracts: Contracts,
    key: KeyPath,
    reason: Reason,
    as_json: Json = False,
) -> None:
    """Take a node out of all use until it is reinstated."""
    call = calls.suspend_node(address(node), sha256(reason.encode()))
    _act(call, rpc, contracts, key, as_json=as_json)


@app.command()
def reinstate(node: NodeAddress, rpc: Rpc, contracts: Contracts, key: KeyPath, as_json: Json = False) -> None:
    """End a node's suspension. What the regulator suspended only the regulator reinstates."""
    _act(calls.reinstate_node(address(node)), rpc, contracts, key, as_json=as_json)


@app.command()
def retire(node: NodeAddress, rpc: Rpc, contracts: Contracts, key: KeyPath, as_json: Json = False) -> None:
    """End a node's membership for good."""
    _act(calls.retire_node(address(node)), rpc, contracts, key, as_json=as_json)


@app.command("suspend-algorithm")
def suspend_algorithm(
    digest: Algorithm,
    rpc: Rpc,
    contracts: Contracts,
    key: KeyPath,
    reason: Reason,
    as_json: Json = False,
) -> None:
    """Take an algorithm out of use until it is reinstated."""
    call = calls.suspend_algorithm(hex32(digest), sha256(reason.encode()))
    _act(call, rpc, contracts, key, as_json=as_json)


@app.command("reinstate-algorithm")
def reinstate_algorithm(
    digest: Algorithm, rpc: Rpc, contracts: Contracts, key: KeyPath, as_json: Json = False
) -> None:
    """End an algorithm's suspension."""
    _act(calls.reinstate_algorithm(hex32(digest)), rpc, contracts, key, as_json=as_json)


@app.command()
def show(node: NodeAddress, rpc: Rpc, contracts: Contracts, as_json: Json = False) -> None:
    """Show a node's record at the newest final block."""
    chain = connect(rpc, contracts)
    at = chain.finalized()
    record = shown(chain.node(address(node), at=at)) | {"block": at.number}
    if as_json:
        typer.echo(json.dumps(record))
        return
    table = Table("field", Column("value", overflow="fold"), show_header=False)
    for name, value in record.items():
        table.add_row(name, ", ".join(value) if isinstance(value, list) else str(value))
    Console().print(table)


def shown(node: Node) -> dict[str, Any]:
    """A node's record for a reader."""
    return {
        "address": node.address,
        "status": node.status.name.lower(),
        "roles": [str(role.name).lower() for role in Role if role in node.roles],
        "tls_fingerprint": node.tls_fingerprint,
        "encryption_key": node.encryption_key,
    }


def _act(call: Call, rpc: str, directory: str, key: Path, *, as_json: bool) -> None:
    tell(act(call, connect(rpc, directory), key), as_json=as_json)
