"""``sealtrace consortium``: who decides, proposals and votes, offices handed over."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from sealtrace.contracts import calls
from sealtrace.contracts.act_files import printable
from sealtrace.contracts.acting import act, connect, tell
from sealtrace.contracts.calls import Action, Call
from sealtrace.contracts.cli import Json, KeyPath
from sealtrace.contracts.client import Chain
from sealtrace.contracts.events import ChainEvent
from sealtrace.contracts.governance import Office, ProposalStatus
from sealtrace.contracts.options import Contracts, Rpc
from sealtrace.contracts.proposals import Proposal, read_proposal
from sealtrace.protocol.identifiers import Hex32, address, hex32
from sealtrace.protocol.records import BlockRef

app = typer.Typer(
    no_args_is_help=True,
    help="Decide together: members, proposals and votes, offices. See docs/consortium.md.",
)

ProposalFile = Annotated[Path, typer.Argument(help="The proposal's file, as it is passed among members.")]
OfficeName = Annotated[Office, typer.Argument(help="The office.", case_sensitive=False)]


@app.command()
def show(rpc: Rpc, contracts: Contracts, as_json: Json = False) -> None:
    """Show members, officers, rules and proposals at the newest final block."""
    found = _shown(connect(rpc, contracts))
    if as_json:
        typer.echo(json.dumps(found))
        return
    table = Table("", Column(overflow="fold"), show_header=False)
    for member in found["members"]:
        table.add_row("member", member)
    for office, holders in found["offices"].items():
        table.add_row(office, ", ".join(holders) or "nobody")
    for name, value in found["rules"].items():
        table.add_row(name.replace("_", " "), str(value))
    for each in found["proposals"]:
        table.add_row(f"proposal, {each['status']}", f"{each['id']}\n{each['yes']} for, {each['no']} against")
    Console().print(table)


@app.command()
def status(file: ProposalFile, rpc: Rpc, contracts: Contracts, as_json: Json = False) -> None:
    """Show what a file proposes, its id, and where it stands."""
    chain, proposal = connect(rpc, contracts), read_proposal(file)
    found = _standing(chain, proposal)
    if as_json:
        typer.echo(json.dumps(found))
        return
    console = Console(soft_wrap=True)
    console.print(escape(proposal.why))
    for call in proposal.calls:
        console.print(
            f"  {call.contract}.{call.function} {escape(str(printable(call.args)))}", highlight=False
        )
    votes = f"{found['yes']} for, {found['no']} against, {found['needed']} needed"
    console.print(f"proposal {found['id']}: {found['status']}, {votes}", highlight=False)


@app.command()
def propose(file: ProposalFile, rpc: Rpc, contracts: Contracts, key: KeyPath, as_json: Json = False) -> None:
    """Propose what a file says, as a member; it counts as a vote for it."""
    _act_on(file, calls.propose, rpc, contracts, key, as_json=as_json)


@app.command()
def vote(
    file: ProposalFile,
    rpc: Rpc,
    contracts: Contracts,
    key: KeyPath,
    yes: Annotated[bool, typer.Option("--yes/--no", help="For or against.")],
    as_json: Json = False,
) -> None:
    """Vote on what a file says, as a member, once."""
    chain, proposal = connect(rpc, contracts), read_proposal(file)
    electorate = chain.consortium(at=chain.head()).electorate
    call = calls.vote(proposal.id(chain.addresses, electorate), yes=yes)
    tell(act(call, chain, key), as_json=as_json)


@app.command()
def execute(file: ProposalFile, rpc: Rpc, contracts: Contracts, key: KeyPath, as_json: Json = False) -> None:
    """Do what was decided: all of it, or nothing. Any key will do."""
    _act_on(file, calls.execute, rpc, contracts, key, as_json=as_json)


@app.command()
def offer(
    office: OfficeName,
    to: Annotated[str, typer.Argument(help="Who shall have it; the zero address takes an offer back.")],
    rpc: Rpc,
    contracts: Contracts,
    key: KeyPath,
    as_json: Json = False,
) -> None:
    """Offer an office, as its holder. It passes when it is accepted."""
    tell(act(calls.offer_office(office, address(to)), connect(rpc, contracts), key), as_json=as_json)


@app.command()
def accept(
    office: OfficeName,
    holder: Annotated[str, typer.Argument(help="Who offered it.")],
    rpc: Rpc,
    contracts: Contracts,
    key: KeyPath,
    as_json: Json = False,
) -> None:
    """Take over an office that its holder offered."""
    tell(act(calls.accept_office(office, address(holder)), connect(rpc, contracts), key), as_json=as_json)


def _act_on(
    file: Path,
    make: Callable[[Sequence[Action], Hex32], Call],
    rpc: str,
    contracts: str,
    key: Path,
    *,
    as_json: bool,
) -> None:
    chain, proposal = connect(rpc, contracts), read_proposal(file)
    call = make(proposal.actions(chain.addresses), proposal.description)
    tell(act(call, chain, key), as_json=as_json)


def _shown(chain: Chain) -> dict[str, Any]:
    at = chain.finalized()
    found = chain.consortium(at=at)
    rules = found.rules
    names = {"RoleGranted", "RoleRevoked", "Proposed"}
    events = chain.events(0, at.number, names=names)
    return {
        "block": at.number,
        "members": list(found.members),
        "offices": {office.name.lower(): _holders(events, office) for office in Office},
        "rules": {
            "quorum_percent": rules.quorum_percent,
            "votes_needed": found.votes_needed,
            "voting_hours": rules.voting_s / 3600,
            "execution_hours": rules.execution_s / 3600,
            "reviews": rules.reviews,
        },
        "proposals": list(_proposals(chain, events, at)),
    }


def _holders(events: list[ChainEvent], office: Office) -> list[str]:
    holders: dict[str, None] = {}
    for event in events:
        if event.args.get("role") == office.id:
            account = str(event.args["account"])
            if event.name == "RoleGranted":
                holders[account] = None
            else:
                holders.pop(account, None)
    return list(holders)


def _proposals(chain: Chain, events: list[ChainEvent], at: BlockRef) -> list[dict[str, Any]]:
    ids = (hex32(str(event.args["proposal"])) for event in events if event.name == "Proposed")
    found = (chain.proposal(id, at=at) for id in ids)
    return [
        {"id": each.id, "status": each.status.name.lower(), "yes": each.yes, "no": each.no}
        for each in found
        if each is not None
    ]


def _standing(chain: Chain, proposal: Proposal) -> dict[str, Any]:
    at = chain.head()
    consortium = chain.consortium(at=at)
    id = proposal.id(chain.addresses, consortium.electorate)
    found = chain.proposal(id, at=at)
    status = ProposalStatus.NONE if found is None else found.status
    votes = (0, 0) if found is None else (found.yes, found.no)
    return {
        "id": id,
        "status": "not proposed" if status is ProposalStatus.NONE else status.name.lower(),
        "yes": votes[0],
        "no": votes[1],
        "needed": consortium.votes_needed,
    }
