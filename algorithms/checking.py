"""Whether an algorithm takes a step's parameters, and reads no other columns than the task names.

Of one that runs in an enclave no code runs here: its manifest says what it takes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sealtrace.algorithms.bundles import Bundle, Manifest
from sealtrace.algorithms.params_schema import why_not
from sealtrace.algorithms.values import TAKEN, takes


class ParamsRefused(ValueError):
    """An algorithm does not take a step's parameters; the message says where and what would be right."""


def check_params(
    bundle: Bundle, params: Mapping[str, Any], columns: Mapping[str, Collection[str]], uses: Collection[str]
) -> None:
    """Refuse parameters that the algorithm does not take; ``columns`` are those the task names of each input,
    ``uses`` the roles for which it names values of earlier steps.

    Raises:
        ParamsRefused: with the program's own words.
        BadBundle: the program does not load.
    """
    program = bundle.program
    try:
        program.check(params, list(columns))
        wanted = takes(program, params)
        used = [(name, column) for name in columns for column, _ in program.columns(params, name)]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ParamsRefused(str(error)) from error
    if TAKEN in params:
        raise ParamsRefused(f"{TAKEN}: is filled in when the task runs: leave it out")
    if set(uses) != set(wanted):
        words = ", ".join(f"{role}: a step that gives {kind}" for role, kind in sorted(wanted.items()))
        raise ParamsRefused(f"the algorithm uses {{{words}}} and nothing else: say so in the step's uses")
    for name, column in used:
        if column not in columns[name]:
            raise ParamsRefused(f"input {name} does not name the column {column!r}: add it to its columns")


def check_enclave_step(
    manifest: Manifest,
    protocol: str,
    params: Mapping[str, Any],
    kept: Collection[str],
    *,
    config: bool = False,
) -> None:
    """Refuse a step that an enclave's algorithm does not take, as far as its manifest tells; ``kept`` are the
    outputs that stay with the owners, ``config`` whether an input brings secret values.

    Raises:
        ParamsRefused: in words, led by the place in ``params`` where there is one.
    """
    if manifest.engine != "tee" or protocol not in manifest.protocols:
        raise ParamsRefused(f"{manifest.name} does not run in an enclave under {protocol}")
    if why := why_not(params, manifest.params):
        raise ParamsRefused(why)
    if why := why_config_unfit(manifest, given=config):
        raise ParamsRefused(why)
    given = manifest.output_policy.outputs if manifest.output_policy else {}
    if stray := sorted(set(kept) - set(given)):
        raise ParamsRefused(f"{manifest.name} has no output {stray[0]!r} that could be kept")


def why_config_unfit(manifest: Manifest, *, given: bool) -> str | None:
    """Why secret values are needed that are not ``given``, or not taken where they are; or ``None``."""
    if manifest.secret_config and not given:
        return f"{manifest.name} has a secret_config: bring its values as an input of kind config"
    if given and not manifest.secret_config:
        return f"{manifest.name} has no secret_config: leave out the input of kind config"
    return None
