"""``sealtrace scheduler``: introduce parties and carry ciphertext."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console
from rich.table import Table

from sealtrace.contracts.options import ChainId, Contracts, Rpc
from sealtrace.protocol.identifiers import address
from sealtrace.scheduler.errors import SettingsInvalid
from sealtrace.scheduler.settings import FILE_NAME, checked, load, save

app = typer.Typer(no_args_is_help=True, help="Introduce parties and carry ciphertext.")

Directory = Annotated[
    Path, typer.Option("--dir", envvar="SEALTRACE_SCHEDULER_DIR", help="The scheduler's directory.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def init(
    directory: Directory,
    rpc: Rpc,
    chain_id: ChainId,
    contracts: Contracts,
    redis: Annotated[
        str, typer.Option(help="A Redis database of the scheduler's own.")
    ] = "redis://127.0.0.1:6379/0",
    database_url: Annotated[str, typer.Option(help="SQLAlchemy URL; empty means SQLite in --dir.")] = "",
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free port.")] = 8500,
    confirmations: Annotated[int, typer.Option(help="Blocks to wait where the chain can fork.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Write scheduler.toml; refuse to overwrite another one."""
    chain = {
        "rpc_url": rpc,
        "chain_id": chain_id,
        "directory": address(contracts),
        "confirmations": confirmations,
    }
    values = {"redis_url": redis, "database_url": database_url, "host": host, "port": port}
    settings = checked({"chain": chain, **values}, "the command line")
    if (directory / FILE_NAME).exists() and load(directory) != settings:
        raise SettingsInvalid(f"{directory / FILE_NAME} exists and says otherwise; edit it instead")
    path = save(directory, settings)
    typer.echo(json.dumps({"settings": str(path)}) if as_json else f"wrote {path}")


@app.command()
def api(directory: Directory, as_json: AsJson = False) -> None:
    """Serve the HTTP API until stopped."""
    from sealtrace.scheduler.api import serve
    from sealtrace.scheduler.wiring import wiring

    def announce(url: str) -> None:
        print(json.dumps({"url": url}) if as_json else f"scheduler at {url}", flush=True)

    serve(wiring(directory), announce)


@app.command()
def worker(directory: Directory) -> None:
    """Chase open tasks and delete outputs in time, until stopped."""
    from sealtrace.scheduler.worker import run

    run(directory)


@app.command()
def status(
    directory: Directory,
    url: Annotated[str | None, typer.Option(help="Where the API is, if not as in the settings.")] = None,
    as_json: AsJson = False,
) -> None:
    """Ask the running API how it is, and who is there. Exit code 1 when it cannot do its work."""
    settings = load(directory)
    found = _ask(url or f"http://{settings.host}:{settings.port}")
    if as_json:
        typer.echo(json.dumps(found))
    else:
        _print(found)
    raise typer.Exit(0 if found["health"]["ok"] else 1)


def _ask(url: str) -> dict[str, Any]:
    try:
        with httpx.Client(base_url=url, timeout=5, trust_env=False) as client:
            health, nodes = client.get("/v1/health").json(), client.get("/v1/nodes").json()
    except (httpx.HTTPError, ValueError) as error:
        health, nodes = {"ok": False, "api": f"{url} does not answer: {error}"}, []
    return {"health": health, "nodes": nodes}


def _print(found: dict[str, Any]) -> None:
    console = Console()
    for key, value in found["health"].items():
        console.print(f"{key}: {value}", highlight=False)
    table = Table("node", "gateway", "alive")
    for node in found["nodes"]:
        table.add_row(node["address"], node["gateway_url"], "yes" if node["alive"] else "no")
    console.print(table)
