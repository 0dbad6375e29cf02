"""``sealtrace registrar``: admit, suspend, reinstate and retire nodes; suspend an algorithm."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Annotated, Any

import sqlalchemy
import typer
from rich.console import Console
from rich.table import Column, Table

from sealtrace.contracts import calls
from sealtrace.contracts.calls import Call
from sealtrace.contracts.cli import TIMEOUT_S, Json, KeyPath, signing_key
from sealtrace.contracts.client import Chain, ChainSettings
from sealtrace.contracts.link import Link, number
from sealtrace.contracts.options import Contracts, Rpc
from sealtrace.contracts.sender import Mined, Sender
from sealtrace.protocol.canonical import NotCanonical, parse, sha256
from sealtrace.protocol.identifiers import Address, Hex32, MalformedIdentifier, address, hex32
from sealtrace.protocol.records import Node, Role

MAX_CARD_BYTES = 64 << 10


class CardUnreadable(ValueError):
    """A file is not the card of a member: the member makes it with ``node card`` or ``task init``."""


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
    call = calls.admit(node, read_roles(roles), tls, encryption_key)
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
    chain = _connect(rpc, contracts)
    at = chain.finalized()
    record = shown(chain.node(address(node), at=at)) | {"block": at.number}
    if as_json:
        typer.echo(json.dumps(record))
        return
    table = Table("field", Column("value", overflow="fold"), show_header=False)
    for name, value in record.items():
        table.add_row(name, ", ".join(value) if isinstance(value, list) else str(value))
    Console().print(table)


def read_card(path: Path) -> tuple[Address, Hex32, Hex32]:
    """Address, TLS fingerprint (zero for who opens no port) and encryption key of a member.

    Raises:
        CardUnreadable: the file is not a card.
    """
    try:
        card = parse(path.read_bytes(), limit_bytes=MAX_CARD_BYTES)
        return address(card["address"]), hex32(card["tls_fingerprint"]), hex32(card["encryption_key"])
    except OSError as cause:
        raise CardUnreadable(f"{path}: {cause.strerror}") from cause
    except (NotCanonical, MalformedIdentifier, KeyError, TypeError, AttributeError) as cause:
        raise CardUnreadable(f"{path} is not a member's card ({cause}): have it made anew") from cause


def read_roles(words: str) -> Role:
    """Roles from their names.

    Raises:
        typer.BadParameter: a name is no role.
    """
    roles = Role(0)
    for word in words.split(","):
        try:
            roles |= Role[word.strip().upper()]
        except KeyError:
            known = ", ".join(str(role.name).lower() for role in Role)
            raise typer.BadParameter(f"{word.strip()!r} is no role; there are {known}") from None
    return roles


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
    """Send one transaction. Its outbox lies beside the key, so that a crash is found by the next command."""
    engine = sqlalchemy.create_engine(f"sqlite:///{key.with_suffix('.outbox.db')}")
    try:
        sender = Sender(_connect(rpc, directory), signing_key(key).private_key, engine)
        sender.pump()
        mined = sender.send(f"{call.function}:{secrets.token_hex(8)}", call)
    finally:
        engine.dispose()
    names = ", ".join(event.name for event in mined.events)
    words = f"{names} in block {mined.block.number}, transaction {mined.transaction}"
    typer.echo(json.dumps(_outcome(mined)) if as_json else words)


def _outcome(mined: Mined) -> dict[str, Any]:
    events = [{"name": event.name, "args": dict(event.args)} for event in mined.events]
    return {"transaction": mined.transaction, "block": mined.block.number, "events": events}


def _connect(rpc: str, directory: str) -> Chain:
    chain_id = number(Link.http(rpc, TIMEOUT_S).request("eth_chainId"))
    return Chain.connect(ChainSettings(rpc, chain_id, address(directory)))
