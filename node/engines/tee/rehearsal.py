"""Rehearse a TEE algorithm on tables that one may see, in the real sandbox behind the real guard.

Nothing is secret here: no key, no evidence, no chain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from sealtrace.algorithms.bundles import Bundle
from sealtrace.algorithms.checking import why_config_unfit
from sealtrace.node.engines.errors import BadInput, BadJob, SandboxFailed
from sealtrace.node.engines.tee.configs import held_values, read_config
from sealtrace.node.engines.tee.execution import Executed, Given, Report, execute, looked_for, policy_of
from sealtrace.node.engines.tee.inside.inputs import TableUnfit
from sealtrace.node.engines.tee.job import CONFIG
from sealtrace.node.engines.tee.limits import Limits
from sealtrace.node.engines.tee.opened import Opened
from sealtrace.node.engines.tee.tabled import Tabled, tabled
from sealtrace.protocol.attestation.policy import Narrowing
from sealtrace.protocol.canonical import canonical
from sealtrace.protocol.secret_config import ConfigUnfit

TABLE = ".csv"


def rehearse(
    bundle: Bundle,
    params: Mapping[str, Any],
    files: Mapping[str, Path],
    id_column: str | None,
    *,
    narrowings: tuple[Narrowing, ...] = (),
    report: Report = lambda number, metrics: None,
    shown: Callable[[bytes], None] = lambda log: None,
    limits: Limits | None = None,
    config: Path | None = None,
) -> Executed:
    """Run ``bundle`` on plain files: ``.csv`` is a table, anything else a model of an earlier run.

    ``id_column`` names the ids of every table that has it. ``shown`` is given what the algorithm printed,
    which of tables that one may not see stays at the node. ``config`` is where the algorithm's secret values
    lie, with their salts.

    Raises:
        BadInput: a file cannot be read, or is no table; a secret value is not the committed one.
        BadJob: the bundle has secret values and none are given, or the other way round.
        EngineError: what :func:`~sealtrace.node.engines.tee.execution.execute` raises.
    """
    policy_of(bundle, narrowings)  # no file is read for what cannot run
    secret = _secret(bundle, files, config)
    with ExitStack() as stack:

        def held_here(content: bytes) -> Opened:
            taken = Opened.of(content)
            stack.callback(taken.erase)
            return taken

        taken = {name: held_here(_read(name, path)) for name, path in files.items()}
        tables = {
            name: _tabled(name, each, id_column, bundle)
            for name, each in taken.items()
            if files[name].suffix == TABLE
        }
        for each in tables.values():
            stack.callback(each.erase)
        held = looked_for(bundle, narrowings, {name: each.table for name, each in tables.items()}, secret)
        inputs = {
            **{name: Given(each.descriptor, "model") for name, each in taken.items()},
            **{name: each.given for name, each in tables.items()},
            **{
                name: Given(held_here(canonical(values)).descriptor, CONFIG)
                for name, values in secret.items()
            },
        }
        return _shown(
            lambda: execute(
                bundle, params, inputs, held, narrowings=narrowings, report=report, limits=limits
            ),
            shown,
        )


def _secret(bundle: Bundle, files: Mapping[str, Path], config: Path | None) -> dict[str, dict[str, Any]]:
    """The secret values under the name of their input; nothing where there are none."""
    if why := why_config_unfit(bundle.manifest, given=config is not None):
        raise BadJob(why)
    if config is None:
        return {}
    if CONFIG in files:
        raise BadJob(f"an input is called {CONFIG!r}, as the secret values are; call it otherwise")
    try:
        return {CONFIG: held_values(read_config(config), bundle.manifest)}
    except ConfigUnfit as error:
        raise BadInput("config_unfit", f"{config.name}: {error}") from error


def _shown(executed: Callable[[], Executed], shown: Callable[[bytes], None]) -> Executed:
    try:
        done = executed()
    except SandboxFailed as failed:
        shown(failed.log)
        raise
    shown(done.log)
    return done


def _read(name: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput("unreadable", f"input {name}: {error}") from error


def _tabled(name: str, taken: Opened, id_column: str | None, bundle: Bundle) -> Tabled:
    try:
        return tabled(taken, id_column, bundle, needs_ids=False)
    except TableUnfit as error:
        raise BadInput("table_unfit", f"input {name}: {error}") from error
