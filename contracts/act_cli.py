"""``sealtrace act``: draft an act, sign it away from the chain with a key or a wallet, submit another's."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from sealtrace.contracts.act_files import Act, Drafted, read_act
from sealtrace.contracts.acting import act as send
from sealtrace.contracts.acting import connect, signing_key, tell
from sealtrace.contracts.cli import Json, KeyPath
from sealtrace.contracts.errors import WrongContracts
from sealtrace.contracts.options import Contracts, Rpc
from sealtrace.contracts.signing import Place
from sealtrace.protocol.identifiers import Address, UnixSeconds, address

app = typer.Typer(
    no_args_is_help=True,
    help="Sign acts away from the chain, and submit what others signed. See docs/signing.md.",
)

ActFile = Annotated[Path, typer.Argument(help="The drafted act.")]
Out = Annotated[Path | None, typer.Option(help="Write here; by default the file itself.")]


@app.command()
def draft(
    words: Annotated[Path, typer.Argument(help="The act in words, YAML.")],
    out: Annotated[Path, typer.Option(help="Write the draft here.")],
    signer: Annotated[str, typer.Option(help="Who is to sign.")],
    rpc: Annotated[str | None, typer.Option(envvar="SEALTRACE_RPC", help="The chain's endpoint.")] = None,
    contracts: Annotated[
        str | None, typer.Option(envvar="SEALTRACE_CONTRACTS", help="Address of the Directory.")
    ] = None,
    hours: Annotated[float, typer.Option(help="How long it may be submitted.")] = 24.0,
    offline: Annotated[
        str | None, typer.Option(help="Without a chain: its id and the contract's address, as ID:0x...")
    ] = None,
    serial: Annotated[int | None, typer.Option(help="Without a chain: the signer's running serial.")] = None,
    as_json: Json = False,
) -> None:
    """Draft an act: what its signature will bind, as typed data that a wallet shows."""
    said, who = read_act(words), address(signer)
    if offline:
        chain_id, _, where = offline.partition(":")
        if not chain_id.isdigit():
            raise typer.BadParameter("give ID:0x..., such as 20260:0x5fbd...", param_hint="--offline")
        place = Place(int(chain_id), address(where))
    elif rpc and contracts:
        place, serial = _place(said, who, rpc, contracts)
    else:
        raise typer.BadParameter("give --rpc and --contracts, or --offline")
    made = Drafted.make(said, who, place, UnixSeconds(int(time.time() + hours * 3600)), serial)
    made.write(out)
    typer.echo(json.dumps({"file": str(out)}) if as_json else f"wrote {out}, to be signed by {who}")


@app.command()
def sign(file: ActFile, key: KeyPath, out: Out = None, as_json: Json = False) -> None:
    """Sign a draft with a key file; needs no chain."""
    signed = Drafted.read(file).signed_with(signing_key(key).private_key)
    _keep(signed, out or file, as_json=as_json)


@app.command()
def attach(
    file: ActFile,
    signature: Annotated[str, typer.Argument(help="What the wallet gave: 65 bytes in hexadecimal.")],
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Put a wallet's signature of the typed data (eth_signTypedData_v4) to a draft; needs no chain."""
    _keep(Drafted.read(file).attached(signature), out or file, as_json=as_json)


@app.command()
def submit(file: ActFile, rpc: Rpc, contracts: Contracts, key: KeyPath, as_json: Json = False) -> None:
    """Submit what another signed. The effect is the signer's own; any key will do."""
    signed, chain = Drafted.read(file), connect(rpc, contracts)
    call = signed.call()
    found, meant = chain.addresses[call.contract], signed.file.contract
    if (chain.settings.chain_id, found) != (signed.file.chain_id, meant):
        raise WrongContracts({call.contract: f"it was signed for {meant} on chain {signed.file.chain_id}"})
    tell(send(call, chain, key), as_json=as_json)


def _place(said: Act, signer: Address, rpc: str, contracts: str) -> tuple[Place, int | None]:
    chain = connect(rpc, contracts)
    serial = chain.serial(signer, at=chain.finalized()) if said.grant else None
    return Place(chain.settings.chain_id, chain.addresses[said.contract]), serial


def _keep(signed: Drafted, path: Path, *, as_json: bool) -> None:
    signed.write(path)
    words = f"signed by {signed.file.signer}: {path}"
    typer.echo(json.dumps({"file": str(path), "signer": signed.file.signer}) if as_json else words)
