"""Run one TEE algorithm in the sandbox, and let out only what its output policy allows.

The algorithm shares a process with what reads its inputs and writes its outputs. This process, which holds
the policy, shares nothing with it but pipes.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from sealtrace.algorithms.bundles import Bundle
from sealtrace.algorithms.importing import LIBRARIES, OWN, SUFFIX
from sealtrace.algorithms.output_policy import (
    Held,
    OutputPolicy,
    OutputRefused,
    PolicyWidened,
    Reason,
    held_of,
    holding,
    narrow,
    passed,
    passed_metrics,
    public_words,
    why_too_few_rows,
)
from sealtrace.node.engines.errors import (
    BadJob,
    BundleRefused,
    OutputForbidden,
    RuntimeMismatch,
    SandboxFailed,
)
from sealtrace.node.engines.tee import inside
from sealtrace.node.engines.tee.confinement import Confinement
from sealtrace.node.engines.tee.inside import JOB
from sealtrace.node.engines.tee.inside.frames import METRICS, RUNTIME, BadFrame, Frames
from sealtrace.node.engines.tee.inside.inputs import Table
from sealtrace.node.engines.tee.limits import Limits
from sealtrace.node.engines.tee.runtime import Runtime, this_python
from sealtrace.node.engines.tee.sandbox import Measured, run
from sealtrace.protocol.attestation.policy import Narrowing
from sealtrace.protocol.bundle import BadBundle
from sealtrace.protocol.canonical import NotCanonical, parse

INSIDE = "sealtrace_tee"
"""The name of our package in the sandbox."""

Report = Callable[[int, Mapping[str, float]], None]
Kind = Literal["table", "split", "model", "config"]


@dataclass(frozen=True, slots=True)
class Given:
    """One input: a descriptor open for reading, and how it is read."""

    descriptor: int
    kind: Kind
    id_column: str | None = None


@dataclass(frozen=True, slots=True)
class Executed:
    """What a run let out, and how it went."""

    outputs: dict[str, Any]
    rounds: int
    """How many rounds of metrics were told."""
    seconds: float
    cpu_s: float
    log: bytes
    """What it printed: it stays at this node."""
    confinement: Confinement


def execute(
    bundle: Bundle,
    params: Mapping[str, Any],
    inputs: Mapping[str, Given],
    held: Held,
    *,
    narrowings: tuple[Narrowing, ...] = (),
    report: Report = lambda number, metrics: None,
    limits: Limits | None = None,
    runtime: Runtime | None = None,
    offer: Confinement | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Executed:
    """Run ``bundle`` on ``inputs`` and return what the policy lets out; ``held`` is what is looked for in it.

    ``narrowings`` are the grants' limits, ``offer`` is what this host was found to give. The caller has
    compared rows with the policy's ``min_rows``.

    Raises:
        BadJob: the bundle is no TEE algorithm, or an input has the name of the job.
        BundleRefused: its entry or its lock file is not there.
        OutputForbidden: the policy refuses an output or a metric. Nothing more of it left.
        RuntimeMismatch: the locked packages are not here.
        SandboxUnavailable, SandboxFailed, Stopped: see :func:`~sealtrace.node.engines.tee.sandbox.run`.
    """
    policy = policy_of(bundle, narrowings)
    try:
        job = _job(bundle, params, inputs, policy.min_group)
    except BadBundle as bad:
        raise BundleRefused(str(bad)) from bad
    public = public_words(params, *({name: given.id_column} for name, given in inputs.items()))
    limits = limits or Limits()
    hearing = _Hearing(policy, public, held, report, limits.output_bytes)
    python = runtime or this_python()
    with laid_out(bundle) as code, _described(job) as description:
        measured = Measured(python.python("-m", INSIDE), code, python)
        descriptors = {JOB: description, **{name: each.descriptor for name, each in inputs.items()}}
        try:
            done = run(measured, descriptors, limits, offer=offer, stopped=stopped, heard=hearing.heard)
        except SandboxFailed as failed:
            if hearing.mismatch is None:
                raise
            raise RuntimeMismatch(hearing.mismatch) from failed
    return Executed(hearing.released(), hearing.rounds, done.seconds, done.cpu_s, done.log, done.confinement)


def policy_of(bundle: Bundle, narrowings: tuple[Narrowing, ...] = ()) -> OutputPolicy:
    """The bundle's output policy, less what grants take away.

    Raises:
        BadJob: it is no TEE algorithm.
        OutputForbidden: a grant names what the algorithm does not have.
    """
    policy = bundle.manifest.output_policy
    if bundle.manifest.engine != "tee" or policy is None:
        raise BadJob(f"{bundle.manifest.name} is no TEE algorithm: its engine is {bundle.manifest.engine}")
    try:
        for each in narrowings:
            policy = narrow(policy, each)
    except PolicyWidened as error:
        raise OutputForbidden(f"a policy does not fit the algorithm: {error}") from error
    return policy


def looked_for(
    bundle: Bundle,
    narrowings: tuple[Narrowing, ...],
    tables: Mapping[str, Table],
    secret: Mapping[str, Mapping[str, Any]],
) -> Held:
    """What the guard looks for in what comes out: of ``tables`` the ids and rows, and ``secret`` values.

    Raises:
        BadJob, OutputForbidden: as :func:`policy_of`, and where a table has fewer rows than the policy takes.
    """
    policy = policy_of(bundle, narrowings)
    if few := why_too_few_rows(policy, {name: table.rows for name, table in tables.items()}):
        raise OutputForbidden(str(few))
    held = held_of((each.id_cells, list(each.columns.values())) for each in tables.values())
    return holding(held, secret)


@contextmanager
def laid_out(bundle: Bundle) -> Iterator[Path]:
    """A folder with the digested bytes of a bundle and our package beside it, as ``/code`` shows it.

    The bundle is the package ``algorithm.bundle``, each library a package beside it: ``from ..enclave import
    joining`` finds it there, as in every other bundle.
    """
    with tempfile.TemporaryDirectory(prefix="sealtrace-tee-") as made:
        folder = Path(made)
        for path, content in bundle.members.items():
            place = path if path.startswith(f"{LIBRARIES}/") else f"{OWN}/{path}"
            _write(folder / "algorithm" / place.removeprefix(f"{LIBRARIES}/"), content)
        for part in resources.files(inside).iterdir():
            if part.name.endswith(SUFFIX):
                _write(folder / INSIDE / part.name, part.read_bytes())
        yield folder


def _write(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


def _job(bundle: Bundle, params: Mapping[str, Any], inputs: Mapping[str, Given], min_group: int) -> bytes:
    manifest = bundle.manifest
    if JOB in inputs:
        raise BadJob(f"an input is called {JOB!r}, which names the job itself; call it otherwise")
    if manifest.entry is None or manifest.entry not in bundle.members or manifest.runtime is None:
        raise BadBundle(f"bundle {manifest.name} has no program to run")
    described = {
        "entry": manifest.entry.removesuffix(SUFFIX).replace("/", "."),
        "params": dict(params),
        "seeds": manifest.seeds or {},
        "min_group": min_group,
        "runtime": {"python": manifest.runtime.python, "packages": bundle.pins},
        "inputs": {name: {"kind": each.kind, "id": each.id_column} for name, each in inputs.items()},
    }
    return json.dumps(described).encode()


@contextmanager
def _described(job: bytes) -> Iterator[int]:
    """The job in a nameless file that is open for reading only."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(job)
        file.flush()
        descriptor = os.open(file.name, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


class _Hearing:
    """Takes what comes from inside; metrics go on at once, outputs when the run has ended well."""

    def __init__(
        self,
        policy: OutputPolicy,
        public: frozenset[str],
        held: Held,
        report: Report,
        limit_bytes: int,
    ) -> None:
        self._policy, self._public, self._held, self._report = policy, public, held, report
        self._frames = Frames(limit_bytes)
        self._last, self.rounds = -1, 0
        self._outputs: bytes | None = None
        self.mismatch: str | None = None

    def heard(self, chunk: bytes) -> None:
        """Take a piece of the output.

        Raises:
            OutputForbidden: it is no frame, or metrics that the policy refuses.
        """
        with _named():
            for kind, body in self._frames.feed(chunk):
                if kind == METRICS:
                    self._metrics(_value(body, "metrics"))
                elif kind == RUNTIME:
                    self.mismatch = (
                        "the locked Python or packages are not installed: see the bundle's lock file"
                    )
                else:
                    self._outputs = body

    def released(self) -> dict[str, Any]:
        """The outputs as they may leave.

        Raises:
            OutputForbidden: they may not.
        """
        with _named():
            if self._outputs is None:
                raise OutputRefused(Reason.NOT_A_RESULT, "outputs")
            return passed(_value(self._outputs, "outputs"), self._policy, self._public, self._held)

    def _metrics(self, said: Any) -> None:
        if not isinstance(said, dict) or set(said) != {"round", "metrics"}:
            raise OutputRefused(Reason.NOT_A_RESULT, "metrics")
        number, metrics = said["round"], said["metrics"]
        self._last, told = passed_metrics(number, metrics, self._policy, self._last, self.rounds)
        self.rounds += 1
        self._report(self._last, told)


@contextlib.contextmanager
def _named() -> Iterator[None]:
    try:
        yield
    except OutputRefused as refused:
        raise OutputForbidden(str(refused)) from refused
    except BadFrame as broken:
        raise OutputForbidden(str(OutputRefused(Reason.NOT_A_RESULT, "outputs"))) from broken


def _value(body: bytes, where: str) -> Any:
    try:
        return parse(body, limit_bytes=len(body))
    except NotCanonical:  # its message could quote the value
        raise OutputRefused(Reason.NOT_A_RESULT, where) from None
