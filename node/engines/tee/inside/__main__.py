"""Read the job and the inputs from inherited descriptors, call ``run``, hand its outputs out.

What this or the algorithm raises is printed to the log, which stays at the node. Nothing here is trusted by
the process outside: it shares its memory with the algorithm.
"""

from __future__ import annotations

import json
import mmap
import os
import random
import stat
import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from . import DESCRIPTORS, JOB
from .columns import ARROW
from .frames import METRICS, OUTPUTS, RUNTIME, frame
from .inputs import Inputs, Model, Table, read_table, split_table

MISMATCH = 3
TABLE, SPLIT, CONFIG = "table", "split", "config"
"""Kinds of inputs: CSV, a table that is split into columns already, secret values. Others are models."""


def main() -> int:
    """Do one job; the status is 0, or 3 where the runtime is not the locked one."""
    descriptors = json.loads(os.environ[DESCRIPTORS])
    out = os.fdopen(descriptors["output"], "wb")
    given = descriptors["inputs"]
    job = json.loads(_content(given[JOB]))
    if wrong := _other_versions(job["runtime"]):
        _give(out, RUNTIME, wrong)
        return MISMATCH
    _seed(job["seeds"])
    arrow = set(job["runtime"]["packages"]) >= ARROW
    inputs = Inputs(
        {
            name: _input(given[name], how, arrow)
            for name, how in job["inputs"].items()
            if how["kind"] != CONFIG
        },
        job["seeds"],
        lambda number, metrics: _give(out, METRICS, {"round": number, "metrics": metrics}),
        job["min_group"],
        _config(given, job["inputs"]),
    )
    entry = import_module(f"algorithm.bundle.{job['entry']}")
    _give(out, OUTPUTS, entry.run(inputs, job["params"]))
    return 0


def _content(descriptor: int) -> bytes:
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def _input(descriptor: int, how: Mapping[str, Any], arrow: bool) -> Table | Model:
    if how["kind"] == SPLIT:
        return split_table(_mapped(descriptor), how["id"])
    if how["kind"] != TABLE:
        return Model(_content(descriptor))
    about = os.fstat(descriptor)
    if not stat.S_ISREG(about.st_mode) or not about.st_size:
        return read_table(_content(descriptor), how["id"], arrow=arrow)
    return read_table(_mapped(descriptor), how["id"], arrow=arrow)


def _mapped(descriptor: int) -> mmap.mmap:
    with os.fdopen(descriptor, "rb"):
        return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)  # closed with the last who reads it


def _config(given: Mapping[str, int], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The secret values; none where the job has no input of them."""
    found: dict[str, Any] = {}
    for name, how in inputs.items():
        if how["kind"] == CONFIG:
            found |= json.loads(_content(given[name]))
    return found


def _other_versions(runtime: Mapping[str, Any]) -> list[str]:
    """The names of what is not here in the version that the bundle is locked to."""
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    wrong = [] if own == runtime["python"] else ["python"]
    return wrong + [name for name, wanted in sorted(runtime["packages"].items()) if _version(name) != wanted]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _seed(seeds: Mapping[str, int]) -> None:
    """Seed the generators that code may use without saying so."""
    if "global" not in seeds:
        return
    random.seed(seeds["global"])
    try:
        import numpy as np
    except ModuleNotFoundError:
        return
    np.random.seed(seeds["global"])


def _give(out: Any, kind: bytes, value: Any) -> None:
    out.write(frame(kind, json.dumps(value, default=_plain).encode()))
    out.flush()


def _plain(value: Any) -> Any:
    """Arrays and numbers of numpy as JSON values."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"an output holds a {type(value).__name__}, which is no JSON value")


if __name__ == "__main__":
    sys.exit(main())
