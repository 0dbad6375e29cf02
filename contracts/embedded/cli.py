"""The command line of the embedded chain: ``init``, ``serve`` and ``verify``."""

import dataclasses
import json
import logging
import os
import time
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from . import genesis as genesis_file
from .errors import BlockRejected, EmbeddedChainError
from .genesis import Genesis

app = typer.Typer(
    no_args_is_help=True,
    help="A small single-producer chain behind standard JSON-RPC, for demos, trials and tests.",
)

os.environ.setdefault("ETH_HASH_BACKEND", "pysha3")  # five times the default backend's speed

ALLOC_WEI = str(10**24)
USAGE_ERROR = 2
DIFFERS = 1

Directory = Annotated[Path, typer.Option("--dir", help="The chain's directory.")]
ChainId = Annotated[int | None, typer.Option(help="Chain id, when the chain is created.")]
Alloc = Annotated[
    list[str] | None,
    typer.Option(
        help="Address to start with funds (0x...=WEI, or 10^24 wei), when the chain is created. "
        "Not needed to send transactions: they cost nothing. Repeatable."
    ),
]
GenesisFile = Annotated[
    Path | None, typer.Option("--genesis", help="Genesis file, instead of --chain-id and --alloc.")
]


@app.command()
def init(
    directory: Directory,
    chain_id: ChainId = None,
    alloc: Alloc = None,
    genesis: GenesisFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Create a chain's directory and its genesis file, and print the genesis hash."""
    try:
        _create(directory, chain_id, alloc, genesis)
        made = genesis_file.read(directory)
        found = {"chain_id": made.chain_id, "genesis_hash": _genesis_hash(made)}
        typer.echo(json.dumps(found) if as_json else found["genesis_hash"])
    except EmbeddedChainError as error:
        _fail(error)


@app.command()
def serve(
    directory: Directory,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free port.")] = 8545,
    chain_id: ChainId = None,
    alloc: Alloc = None,
    genesis: GenesisFile = None,
    block_interval: Annotated[int, typer.Option(min=1, help="Least seconds between blocks.")] = 1,
    heartbeat: Annotated[
        int, typer.Option(min=0, help="Seconds after which an empty block is made; 0 for never.")
    ] = 0,
    readers: Annotated[int, typer.Option(min=2, help="Processes that answer reads.")] = 3,
    read_seconds: Annotated[
        float, typer.Option(min=0.1, help="Seconds a read may take; what takes longer is ended.")
    ] = 5.0,
) -> None:
    """Hold the chain in a directory (created if absent) and serve its JSON-RPC."""
    logging.getLogger("eth").setLevel(logging.CRITICAL)  # it logs whole databases on failure
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    from .readers import Limits
    from .server import Settings
    from .server import serve as run

    try:
        _create(directory, chain_id, alloc, genesis)
        limits = Limits(readers, read_seconds)
        run(Settings(directory, host, port, block_interval, heartbeat, limits), _announce)
    except EmbeddedChainError as error:
        _fail(error)


@app.command()
def verify(
    directory: Annotated[
        Path | None, typer.Option("--dir", help="Verify the chain in this directory.")
    ] = None,
    rpc: Annotated[str | None, typer.Option(help="Verify the chain served at this URL.")] = None,
    genesis: Annotated[Path | None, typer.Option(help="With --rpc: the genesis file you hold.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Execute every block again from the genesis. Exit code 0 if all follow, 1 if one differs."""
    if (directory is None) == (rpc is None):
        typer.echo("give either --dir or --rpc", err=True)
        raise typer.Exit(USAGE_ERROR)
    try:
        found = _verify(directory, rpc, genesis)
    except BlockRejected as error:
        _report_rejected(error, as_json=as_json)
    except EmbeddedChainError as error:
        _fail(error)
    else:
        typer.echo(json.dumps({"ok": True, **found}) if as_json else _in_words(found))


def _create(directory: Path, chain_id: int | None, alloc: list[str] | None, file: Path | None) -> None:
    """Create the chain unless it is there; what was asked for must then be what it has."""
    from .producer import create

    if file is not None and (chain_id is not None or alloc):
        raise typer.BadParameter("--genesis already says what --chain-id and --alloc would")
    create(directory, genesis_file.read_file(file) if file else _asked(directory, chain_id, alloc))


def _asked(directory: Path, chain_id: int | None, alloc: list[str] | None) -> Genesis:
    """Return the genesis of the options; what they leave out is as it is here, or the default."""
    if (directory / genesis_file.FILE_NAME).exists():
        content = genesis_file.to_json(genesis_file.read(directory))
    else:
        fresh = Genesis(genesis_file.DEFAULT_CHAIN_ID, int(time.time()))
        content = genesis_file.to_json(fresh)
    if chain_id is not None:
        content["chainId"] = chain_id
    if alloc:
        pairs = (entry.lower().partition("=") for entry in alloc)
        content["alloc"] = {account: wei if sign else ALLOC_WEI for account, sign, wei in pairs}
    return genesis_file.from_json(content)


def _genesis_hash(genesis: Genesis) -> str:
    from .machine import create_chain

    return str(create_chain(genesis).get_canonical_head().hex_hash)


def _verify(directory: Path | None, rpc: str | None, genesis: Path | None) -> dict[str, object]:
    from .verify import verify_directory, verify_endpoint

    if directory is not None:
        return dataclasses.asdict(verify_directory(directory))
    held = genesis_file.read_file(genesis) if genesis else None
    return dataclasses.asdict(verify_endpoint(str(rpc), held))


def _in_words(found: dict[str, object]) -> str:
    return (
        f"executed {found['blocks']} blocks with {found['transactions']} transactions again: "
        f"the same head {found['head_hash']}\n"
        f"chain id {found['chain_id']}, genesis {found['genesis_hash']}"
    )


def _report_rejected(error: BlockRejected, *, as_json: bool) -> NoReturn:
    content = {
        "ok": False,
        "block": error.number,
        "expected": error.expected,
        "observed": error.observed,
    }
    typer.echo(json.dumps(content) if as_json else str(error), err=not as_json)
    raise typer.Exit(DIFFERS)


def _announce(url: str, chain_id: int, head: int) -> None:
    typer.echo(f"chain {chain_id} at {url}, head {head}")


def _fail(error: EmbeddedChainError) -> NoReturn:
    typer.echo(f"{type(error).__name__}: {error}", err=True)
    raise typer.Exit(USAGE_ERROR)
