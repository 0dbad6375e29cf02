"""The options by which every command names a network; each can come from the environment."""

from __future__ import annotations

from typing import Annotated

import typer

Rpc = Annotated[
    str,
    typer.Option(
        "--rpc", envvar="SEALTRACE_RPC", help="The chain's JSON-RPC endpoint; several separated by commas."
    ),
]
ChainId = Annotated[int, typer.Option("--chain-id", envvar="SEALTRACE_CHAIN_ID", help="The chain's id.")]
Contracts = Annotated[
    str, typer.Option("--contracts", envvar="SEALTRACE_CONTRACTS", help="Address of the Directory contract.")
]
Scheduler = Annotated[
    str, typer.Option("--scheduler", envvar="SEALTRACE_SCHEDULER", help="URL of the scheduler.")
]
