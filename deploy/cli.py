"""``sealtrace demo`` and ``sealtrace net``."""

from __future__ import annotations

import json
import os
import shlex
import signal
import time
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from sealtrace.deploy.network import Network
from sealtrace.deploy.plan import ORGANISATIONS
from sealtrace.deploy.processes import Status

if TYPE_CHECKING:
    from sealtrace.deploy.stage import Narrator

net_app = typer.Typer(no_args_is_help=True, help="The one-machine network: up, status, down.")
demo_app = typer.Typer(help="Run the whole story on this machine, and audit it.")
console = Console(highlight=False)

DATA = Path(__file__).resolve().parent.parent / "examples" / "german_credit.csv"

DirectoryOption = Annotated[
    Path | None,
    typer.Option("--dir", help="Where the network lives (default: below the user's state directory)."),
]
RedisOption = Annotated[
    str | None,
    typer.Option("--redis", help="A Redis server to use instead of the bundled one, without a database."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


class StoryName(StrEnum):
    """The stories that ``sealtrace demo`` tells."""

    MPC = "mpc"
    TEE = "tee"


class StoppedBySignal(KeyboardInterrupt):
    """SIGTERM, taken like Ctrl-C: everything that was started is stopped."""


@demo_app.callback(invoke_without_command=True)
def demo(
    directory: DirectoryOption = None,
    story: Annotated[
        StoryName,
        typer.Option(
            help="mpc: joint statistics by three nodes; tee: models trained in a simulated enclave."
        ),
    ] = StoryName.MPC,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the network up and print its addresses.")
    ] = False,
    data: Annotated[Path, typer.Option(help="The German Credit table.")] = DATA,
    redis: RedisOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a joint computation of three organisations under on-chain authorization, and audit it."""
    from sealtrace.deploy.stage import Narrator

    run, organisations = _told(story)
    signal.signal(signal.SIGTERM, _stop)
    where = directory or _state() / time.strftime("demo-%Y%m%d-%H%M%S")
    network = Network.open_or_create(where, redis, organisations)
    narrator = Narrator(console, as_json=as_json)
    finished = False
    try:
        finished = run(network, data, narrator)
    finally:
        if not (keep and finished):
            network.down()
    if keep:
        _print_statuses(network, as_json=as_json)
        console.print(f"stop it with: sealtrace net down --dir {where}", soft_wrap=True)
    raise typer.Exit(0 if finished else 1)


@net_app.command()
def up(directory: DirectoryOption = None, redis: RedisOption = None, as_json: JsonOption = False) -> None:
    """Start the network, or what of it does not run."""
    network = Network.open_or_create(directory or _state() / "network", redis)
    try:
        network.up(lambda line: None if as_json else console.print(line))
    except BaseException:
        network.down()
        raise
    _print_statuses(network, as_json=as_json)


@net_app.command()
def status(directory: DirectoryOption = None, as_json: JsonOption = False) -> None:
    """Show every process and address; exit code 1 when one that should run does not."""
    network = Network(directory or _state() / "network")
    _print_statuses(network, as_json=as_json)
    raise typer.Exit(0 if all(each.alive for each in network.statuses()) else 1)


@net_app.command()
def env(directory: DirectoryOption = None, as_json: JsonOption = False) -> None:
    """Print what other commands need to use this network, for eval in a shell."""
    values = Network(directory or _state() / "network").environment()
    lines = (f"export {name}={shlex.quote(value)}" for name, value in values.items())
    typer.echo(json.dumps(values) if as_json else "\n".join(lines))


@net_app.command()
def down(directory: DirectoryOption = None, as_json: JsonOption = False) -> None:
    """Stop every process. Keys, databases and the chain stay."""
    network = Network(directory or _state() / "network")
    stopped = [each.name for each in network.statuses() if each.alive]
    network.down()
    typer.echo(json.dumps({"stopped": stopped}) if as_json else f"stopped {len(stopped)} processes")


def _told(story: StoryName) -> tuple[Callable[[Network, Path, Narrator], bool], Sequence[str]]:
    """What tells a story, and the organisations of its network."""
    if story is StoryName.TEE:
        from sealtrace.deploy import tee_story

        return tee_story.run, tee_story.PARTIES
    from sealtrace.deploy import story as mpc_story

    return mpc_story.run, ORGANISATIONS


def _print_statuses(network: Network, *, as_json: bool) -> None:
    statuses = network.statuses()
    if as_json:
        typer.echo(json.dumps(_as_json(network, statuses)))
        return
    if not statuses:
        console.print(f"nothing runs; start it: sealtrace net up --dir {network.directory}", soft_wrap=True)
        return
    table = Table(box=None)
    for column in ("process", "pid", "state", "memory", "address"):
        table.add_column(column, justify="right" if column in ("pid", "memory") else "left")
    for each in statuses:
        state = "[green]runs[/]" if each.alive else "[red]ended[/]"
        memory = f"{each.memory_bytes >> 20} MiB" if each.alive else ""
        table.add_row(each.name, str(each.pid or ""), state, memory, network.address_of(each.name) or "")
    console.print(table)
    console.print(f"directory {network.directory}", soft_wrap=True)


def _as_json(network: Network, statuses: list[Status]) -> dict[str, object]:
    return {
        "directory": str(network.directory),
        "contracts": network.plan.directory,
        "chain_id": network.plan.chain_id,
        "addresses": network.plan.addresses,
        "processes": [
            {"name": s.name, "pid": s.pid, "alive": s.alive, "memory_bytes": s.memory_bytes}
            | {"url": network.address_of(s.name)}
            for s in statuses
        ],
    }


def _state() -> Path:
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "sealtrace"


def _stop(number: int, frame: FrameType | None) -> None:
    raise StoppedBySignal
