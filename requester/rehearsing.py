"""What ``sealtrace algorithm test`` asks of whoever can run a TEE algorithm; the command line brings it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from sealtrace.algorithms.bundles import Bundle
from sealtrace.requester.errors import RequesterError
from sealtrace.requester.whole_files import write_whole


class NoSandbox(RequesterError):
    """A TEE algorithm is tried in a node's sandbox, which this process was not given; use ``sealtrace``."""


class Rehearsed(Protocol):
    """What a rehearsal gave."""

    @property
    def outputs(self) -> dict[str, Any]:
        """What the output policy lets out."""

    @property
    def seconds(self) -> float:
        """How long the algorithm ran."""


class Rehearse(Protocol):
    """Runs a bundle on plain files in a sandbox; ``report`` hears its metrics, ``shown`` what it prints.

    ``config`` are its secret values with their salts, where it has any.
    """

    def __call__(
        self,
        bundle: Bundle,
        params: Mapping[str, Any],
        files: Mapping[str, Path],
        id_column: str | None,
        *,
        report: Callable[[int, Mapping[str, float]], None],
        shown: Callable[[bytes], None],
        config: Path | None,
    ) -> Rehearsed:
        """Run it, and return what may leave."""


def asked(given: object) -> Rehearse:
    """What the command line brought.

    Raises:
        NoSandbox: nothing.
    """
    if not callable(given):
        raise NoSandbox("a TEE algorithm runs in a sandbox: call it as `sealtrace algorithm test`")
    found: Rehearse = given
    return found


def save(outputs: Mapping[str, Any], folder: Path) -> None:
    """Write each output as ``NAME.json`` into ``folder``, such as a model for the next rehearsal."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in outputs.items():
        write_whole(folder / f"{name}.json", json.dumps(value).encode())
