"""Sample MPC steps at a few small sizes: all parties simulated in a child process that is given so long.

``python -m sealtrace.algorithms.sampling FOLDER`` is that child: steps as JSON on its standard input, a line
of JSON for each sample on its standard output. What it computes on is made up; no party's data is here.
"""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from sealtrace.algorithms.bundles import Bundle, load
from sealtrace.algorithms.compiling import arithmetic, compiled, engine_config
from sealtrace.algorithms.estimating import COMPILE, COMPUTE, PROGRAM, TURNS, Sample, shares_of
from sealtrace.algorithms.frames import SecretValue
from sealtrace.algorithms.shares import Computation, encode_value
from sealtrace.algorithms.values import Value, arguments, gives, with_taken
from sealtrace.protocol.identifiers import Hex32, Hex32Field

LARGEST, SMALLEST, APART = 20_000, 512, 4
"""Rows of the largest and the smallest sample, and how many times larger each is than the one before."""
STATISTICS_S = 5.0
_LINK = re.compile(
    r"Link details: total send bytes (\d+), recv bytes \d+, send actions \d+, recv actions (\d+)"
)


class EngineSilent(RuntimeError):
    """The engine printed no statistics of its link: another release of it than sealtrace is made for."""


class SampledStep(BaseModel):
    """An MPC step to be sampled. ``inputs`` are rows by name, ``uses`` the step and value for each role."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    id: str
    bundle: str
    algorithm: Hex32Field
    protocol: str
    computing: int = Field(ge=2, le=16)
    inputs: dict[str, int]
    uses: dict[str, tuple[str, str]] = Field(default_factory=dict)
    params: dict[str, Any]

    @property
    def rows(self) -> int:
        """Rows of the largest input, by which samples of the step are told apart."""
        return max(self.inputs.values())


_STEPS = TypeAdapter(list[SampledStep])


@dataclass(frozen=True, slots=True)
class Sampled:
    """The samples of each step in ascending order of rows, and why a step has none or no more."""

    samples: Mapping[str, Sequence[Sample]]
    why: Mapping[str, str]


def sampled(steps: Sequence[SampledStep], limit_s: float) -> Sampled:
    """Sample ``steps`` for at most ``limit_s`` seconds, each at growing sizes up to its own.

    A task's steps in their order, those included whose values others use. Runs code of the bundles.
    """
    if not steps:
        return Sampled({}, {})
    with tempfile.TemporaryDirectory(prefix="sealtrace-plan-") as folder:
        said, left = _child(_STEPS.dump_json(list(steps)), folder, limit_s)
    return collected([step.id for step in steps], said, left)


def _child(steps: bytes, folder: str, limit_s: float) -> tuple[bytes, str]:
    """What the child said before it ended or its time was up, and why it said no more."""
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", "sealtrace.algorithms.sampling", folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=folder,
    )
    try:
        said, _ = child.communicate(steps, timeout=limit_s)
        return said, "" if child.returncode == 0 else "the process that samples it died"
    except subprocess.TimeoutExpired:
        child.kill()
        said, _ = child.communicate()
        return said, f"it could not be sampled within {limit_s:g} s"
    finally:
        child.kill()


def collected(steps: Sequence[str], said: bytes, left: str) -> Sampled:
    """What a child said, line by line; ``left`` is why steps that it said nothing of have no samples."""
    samples: dict[str, list[Sample]] = {}
    why: dict[str, str] = {}
    for line in said.splitlines(keepends=True):
        if not line.endswith(b"\n"):
            continue  # it was stopped in the middle of it
        found = json.loads(line)
        if "why" in found:
            why[found["step"]] = found["why"]
        else:
            samples.setdefault(found["step"], []).append(Sample(found["rows"], found["seen"]))
    silent = {step: left for step in steps if left and step not in samples}
    return Sampled(samples, silent | why)


def sizes(rows: int) -> list[int]:
    """Rows of the samples for so many: the number itself where it is small enough, and quarters of it."""
    top = rows
    while top > LARGEST:
        top = math.ceil(top / 2)
    found = [top]
    while found[-1] / APART >= SMALLEST:
        found.append(math.ceil(found[-1] / APART))
    return found[::-1]


def main(folder: Path) -> None:
    """The child, which may write into ``folder``.

    All steps at the smallest size first, so that every one has a sample before any has many.
    """
    out = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # whatever bundles and libraries print
    steps = _STEPS.validate_json(sys.stdin.buffer.read())
    for line in _lines(steps, folder / "engine.log"):
        _say(out, line)


def _say(out: TextIO, line: Mapping[str, Any]) -> None:
    out.write(json.dumps(line) + "\n")
    out.flush()


def _lines(steps: Sequence[SampledStep], log: Path) -> Iterator[dict[str, Any]]:
    try:
        _set_up(log)
    except ImportError:
        missing = "the engine is not installed here: pip install 'sealtrace[mpc]'"
        yield from ({"step": step.id, "why": missing} for step in steps)
        return
    bundles = {step.id: load(Path(step.bundle), expected=Hex32(step.algorithm)) for step in steps}
    whole = max(step.rows for step in steps)
    full = _Chain(steps, bundles, 1.0)
    yield from ({"step": step, "why": why} for step, why in full.why.items())
    for rows in sizes(whole):
        chain = full if rows == whole else _Chain(steps, bundles, rows / whole)
        for step in steps:
            if step.id in full.params and step.id in chain.params:
                yield _line(step, bundles[step.id], chain, full.how[step.id], log)


def _line(step: SampledStep, bundle: Bundle, chain: _Chain, how: Computation, log: Path) -> dict[str, Any]:
    held = chain.held[step.id]
    try:
        seen = _seen(bundle, chain.params[step.id], held, how, step.computing, log)
    except Exception as error:  # whatever code that is not ours makes of it: the plan says so
        why = str(error).strip().partition("\n")[0]
        return {"step": step.id, "why": f"at {max(held.values()):,} rows: {why or type(error).__name__}"}
    return {"step": step.id, "rows": max(held.values()), "seen": seen}


class _Chain:
    """The public facts of all steps at ``share`` of their rows: what each takes is what earlier ones give.

    Steps that refuse so few rows, or use what is not there, are left out, with the reason in ``why``.
    """

    def __init__(self, steps: Sequence[SampledStep], bundles: Mapping[str, Bundle], share: float) -> None:
        self.params: dict[str, dict[str, Any]] = {}
        self.held: dict[str, dict[str, int]] = {}
        self.how: dict[str, Computation] = {}
        self.why: dict[str, str] = {}
        given: dict[tuple[str, str], Value] = {}
        for step in steps:
            held = {name: max(1, math.ceil(rows * share)) for name, rows in step.inputs.items()}
            try:
                self._add(step, bundles[step.id], held, given)
            except (ValueError, TypeError, KeyError) as error:
                self.why[step.id] = f"at {max(held.values()):,} rows: {error}"

    def _add(
        self,
        step: SampledStep,
        bundle: Bundle,
        held: dict[str, int],
        given: dict[tuple[str, str], Value],
    ) -> None:
        if missing := [source for source in step.uses.values() if source not in given]:
            raise ValueError(f"it uses {'.'.join(missing[0])}, which could not be planned")
        taken = {role: given[source] for role, source in step.uses.items()}
        params = with_taken(bundle.program, step.params, taken)
        rows = bundle.program.rows(params, held)
        self.how[step.id] = arithmetic(bundle, params, rows, step.protocol)
        for name, value in gives(bundle.program, params, held).items():
            given[step.id, name] = value
        self.params[step.id], self.held[step.id] = params, held


def _set_up(log: Path) -> None:
    import jax  # noqa: F401 - so that no sample counts it
    from spu import libspu

    options = libspu.logging.LogOptions()
    options.log_level = libspu.logging.LogLevel.INFO
    options.enable_console_logger = False
    options.system_log_path = str(log)
    libspu.logging.setup_logging(options)


def _seen(
    bundle: Bundle,
    params: Mapping[str, Any],
    held: Mapping[str, int],
    how: Computation,
    computing: int,
    log: Path,
) -> dict[str, float]:
    """Compile and run once, all parties side by side; return what one of them did, and what owners send."""
    import spu

    began = time.process_time()
    executable = compiled(bundle.program, params, held)
    compiling = time.process_time() - began
    config = engine_config(how)
    config.enable_pphlo_profile = True
    io = spu.Io(computing, config)
    made = [_made_up(shape, kind) for _, shape, kind in arguments(bundle.program, params, held)]
    shares = [io.make_shares(each, spu.Visibility.VIS_SECRET) for each in made]
    owned = bundle.program.arrays(params, held)
    start = log.stat().st_size if log.exists() else 0
    began = time.process_time()
    _run(executable, config, shares, computing)
    working = time.process_time() - began
    sent, turns = _statistics(log, start, computing)
    seen = {PROGRAM: sent / computing, TURNS: turns, COMPUTE: working / computing, COMPILE: compiling}
    for name in held:
        sent_by = [
            _octets(each, parts)
            for (each, owner, *_), parts in zip(owned, shares, strict=False)
            if owner == name
        ]
        seen[shares_of(name)] = float(sum(sent_by))
    return seen


def _made_up(shape: Sequence[int], kind: str) -> Any:
    """An array of harmless values: the programs take the same way whatever they are given."""
    import numpy as np

    if kind == "int64":
        return np.ones(tuple(shape), dtype=np.int64)
    return np.ascontiguousarray(np.random.default_rng(len(shape)).uniform(0.25, 1.0, size=tuple(shape)))


def _octets(name: str, parts: Sequence[Any]) -> int:
    """Bytes of one party's share of an array, as it is sent."""
    share = parts[0]
    return len(encode_value(SecretValue(name, bytes(share.meta), tuple(map(bytes, share.share_chunks)))))


def _run(executable: Any, config: Any, shares: Sequence[Any], computing: int) -> None:
    import spu

    description = spu.link.Desc()
    for rank in range(computing):
        description.add_party(f"party-{rank}", f"thread-{rank}")
    failed: list[Exception] = []

    def party(rank: int) -> None:
        try:
            runtime = spu.Runtime(spu.link.create_mem(description, rank), config)
            for name, each in zip(executable.input_names, shares, strict=True):
                runtime.set_var(name, each[rank])
            runtime.run(executable)
        except Exception as error:  # told by the thread that waits
            failed.append(error)

    threads = [threading.Thread(target=party, args=(rank,), daemon=True) for rank in range(computing)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    if failed:
        raise failed[0]


def _statistics(log: Path, start: int, computing: int) -> tuple[int, int]:
    """Bytes that all parties sent, and the messages that the party with most of them waited for.

    Raises:
        EngineSilent: the engine did not write them.
    """
    until = time.monotonic() + STATISTICS_S
    while time.monotonic() < until:
        found = _LINK.findall(log.read_bytes()[start:].decode(errors="replace")) if log.exists() else []
        if len(found) == computing:
            return sum(int(sent) for sent, _ in found), max(int(waited) for _, waited in found)
        time.sleep(0.02)
    raise EngineSilent("the engine printed no statistics of its link")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
