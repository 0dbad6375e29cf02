"""What the requester's commands have in common: their options, and how they speak."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from sealtrace.protocol.canonical import canonical
from sealtrace.requester.directory import DIRECTORY_VARIABLE, default_directory

Dir = Annotated[
    Path,
    typer.Option("--dir", envvar=DIRECTORY_VARIABLE, default_factory=default_directory,
                 help="The requester's directory.", show_default="~/.local/state/sealtrace/requester"),
]  # fmt: skip
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
TaskId = Annotated[str, typer.Argument(help="The task's id.")]


def print_json(value: object) -> None:
    """Print ``value`` as one line of canonical JSON."""
    print(canonical(value).decode(), flush=True)


def say(text: str) -> None:
    """Print a line in rich's markup, unwrapped."""
    Console(highlight=False, soft_wrap=True).print(text)


def warn(text: str) -> None:
    """Print a warning in a line of its own."""
    say(f"[yellow]warning[/] {escape(text)}")
