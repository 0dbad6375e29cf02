"""``sealtrace algorithm seal-config`` and ``open-config``: secret values that a manifest commits to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sealtrace.protocol.identifiers import hex32
from sealtrace.requester.options import AsJson, print_json, say
from sealtrace.requester.secret_configs import seal_values, write_opening


def seal_config(
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="The bundle's folder.")],
    values: Annotated[
        Path, typer.Option(exists=True, dir_okay=False, help="A JSON object: a name and a value for each.")
    ],
    out: Annotated[Path, typer.Option(dir_okay=False, help="The values with their salts; keep it secret.")],
    as_json: AsJson = False,
) -> None:
    """Commit to secret values in the manifest of an enclave's algorithm.

    The manifest gets a salted commitment of each value, so the algorithm's digest covers them all. The values
    with their salts go to a new file outside the bundle: register it at your node, and lose it never.
    """
    bundle, config = seal_values(folder, values, out)
    commitments = config.commitments()
    if as_json:
        print_json({"digest": bundle.digest, "secret_config": commitments, "secrets": str(out)})
        return
    for name, commitment in commitments.items():
        say(f"{name}  {commitment}")
    say(f"digest {bundle.digest}\nthe values and salts are in {out}: without it nothing runs and none opens")


def open_config(
    name: Annotated[str, typer.Argument(help="The value to open.")],
    secrets: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="What seal-config wrote.")],
    algorithm: Annotated[str, typer.Option(help="The algorithm's digest.")],
    out: Annotated[Path, typer.Option(dir_okay=False, help="The opening, to hand to a regulator.")],
    as_json: AsJson = False,
) -> None:
    """Open one secret value, and no other, to somebody who holds the bundle.

    `sealtrace audit config` holds the opening to the bundle's manifest and digest.
    """
    opened = write_opening(secrets, hex32(algorithm), name, out)
    if as_json:
        print_json({"algorithm": opened.algorithm, "name": opened.name, "opening": str(out)})
        return
    say(f"{out} opens {opened.name} of {opened.algorithm} to whoever has it, and nothing else")
