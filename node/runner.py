"""The engines in the gate's words: a plan becomes a job, an engine's error a failure with its blame."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

from sealtrace.node.engines import errors as engine
from sealtrace.node.engines.job import Job, JobInput, JobKeep, JobStep, Timeouts
from sealtrace.node.engines.keeping import check_part, givers
from sealtrace.node.engines.keys import check_table, rules_of
from sealtrace.node.engines.process import AnyJob, Begun, SessionView, begin_process, run_job
from sealtrace.node.engines.tee.hosting import Hosted, host
from sealtrace.node.engines.tee.job import CONFIG, Platform
from sealtrace.node.engines.tee.tasks import (
    check_config,
    check_enclave_step,
    check_pad,
    enclave_job,
    owner_job,
)
from sealtrace.node.engines.vetting import vet
from sealtrace.node.engines.workplace import OUTPUT, TRANSCRIPT
from sealtrace.node.ports import LocalGateway, OwnInput, Plan, Ran, RunFailed, RunStopped
from sealtrace.protocol.canonical import NotCanonical, parse, sha256
from sealtrace.protocol.identifiers import NOTHING, Address, Hex32, address
from sealtrace.protocol.outcome import Blame, Denial, Failure
from sealtrace.protocol.records import BlockRef
from sealtrace.protocol.spec import Input, Step, TaskSpec, source_of

STATE_S = 60.0
"""How long an enclave may take to state what it is."""
OWNER = "sealtrace.node.engines.tee.owner"
CHECK_S = 60.0
"""How long the bundles of a task may take, all together, to judge its parameters."""

_FAILURES: dict[type[engine.EngineError], tuple[Failure, Blame]] = {
    engine.BadInput: (Failure.INPUT_INVALID, Blame.REPORTER),
    engine.BadJob: (Failure.PROGRAM_MISMATCH, Blame.NOBODY),
    engine.BundleRefused: (Failure.PROGRAM_MISMATCH, Blame.REPORTER),
    engine.EngineMissing: (Failure.ENGINE_CRASHED, Blame.REPORTER),
    engine.DiskFull: (Failure.DISK_FULL, Blame.REPORTER),
    engine.EngineCrashed: (Failure.ENGINE_CRASHED, Blame.REPORTER),
    engine.EngineTimeout: (Failure.TIMED_OUT, Blame.NOBODY),
    engine.SandboxFailed: (Failure.ENGINE_CRASHED, Blame.NOBODY),
    engine.OutputForbidden: (Failure.OUTPUT_FORBIDDEN, Blame.NOBODY),
    engine.SandboxUnavailable: (Failure.ENGINE_CRASHED, Blame.REPORTER),
    engine.AttesterUnavailable: (Failure.ENGINE_CRASHED, Blame.REPORTER),
    engine.AttesterFailed: (Failure.ENGINE_CRASHED, Blame.REPORTER),
    engine.RuntimeMismatch: (Failure.ENGINE_CRASHED, Blame.REPORTER),
    engine.OutputFlood: (Failure.ENGINE_CRASHED, Blame.NOBODY),
    engine.MemoryExceeded: (Failure.ENGINE_CRASHED, Blame.NOBODY),
    engine.ProcessesExceeded: (Failure.ENGINE_CRASHED, Blame.NOBODY),
    engine.TimeExceeded: (Failure.TIMED_OUT, Blame.NOBODY),
    engine.CpuExceeded: (Failure.TIMED_OUT, Blame.NOBODY),
    engine.PeerUnreachable: (Failure.PEER_UNREACHABLE, Blame.SOME_PARTY),
    engine.PeerFailed: (Failure.PEER_UNREACHABLE, Blame.SOME_PARTY),
    engine.ProgramMismatch: (Failure.PROGRAM_MISMATCH, Blame.SOME_PARTY),
    engine.ProtocolViolated: (Failure.PROTOCOL_VIOLATED, Blame.SOME_PARTY),
    engine.PeerIncompatible: (Failure.PROTOCOL_VIOLATED, Blame.NOBODY),
    engine.EmptyIntersection: (Failure.EMPTY_INTERSECTION, Blame.NOBODY),
    engine.SessionCut: (Failure.SESSION_REVOKED, Blame.NOBODY),
}


@dataclass(frozen=True, slots=True)
class Hosting:
    """What an enclave at this node is given: the node's TLS certificate and key, where Intel's collateral is
    fetched, and how much memory its algorithm may use, in MiB."""

    certificate: str
    key: str
    pccs_url: str = ""
    memory_mib: int = 2048


class EngineProcesses:
    """:class:`sealtrace.node.ports.Engine` over one process for each job."""

    def __init__(
        self,
        gateway: SessionView,
        protocols: Collection[str],
        timeouts: Timeouts,
        jobs: Path,
        free_bytes: int,
        hosting: Hosting,
    ) -> None:
        self._gateway = gateway
        self._jobs = jobs
        self._protocols = frozenset(protocols)
        self._timeouts = timeouts
        self._free_bytes = free_bytes
        self._hosting = hosting

    def why_unable(self, spec: TaskSpec) -> Denial | None:
        """Why this node cannot run ``spec`` at all, or ``None``."""
        if spec.enclave is None and importlib.util.find_spec("spu") is None:
            return Denial.ENGINE_UNAVAILABLE
        asked = {f"{step.engine}/{step.protocol}" for step in spec.steps}
        if not asked <= self._protocols or (spec.enclave is None and not _is_a_job(spec)):
            return Denial.PROTOCOL_UNSUPPORTED
        free = shutil.disk_usage(self._jobs).free
        return Denial.OUT_OF_RESOURCES if free < self._free_bytes else None

    def check(self, own: OwnInput, spec: TaskSpec, bundles: Mapping[Hex32, Path]) -> str | None:
        """What is wrong with the input, in words without a cell of it, or ``None``."""
        if own.part_of is not None and spec.enclave is not None:
            return check_pad(own.path, spec.input(own.name).party, givers(spec.inputs, own.part_of))
        if own.part_of is not None:
            party = spec.input(own.name).party
            return check_part(own.path, party, givers(spec.inputs, own.part_of), spec.computing)
        if spec.input(own.name).kind == CONFIG:
            return check_config(own.path, bundles[spec.steps[0].algorithm])
        try:
            check_table(own.path, own.columns, rules_of(spec.steps, own.name, own.id_column))
        except engine.BadInput as bad:
            return str(bad)
        return None

    def check_steps(self, spec: TaskSpec, bundles: Mapping[Hex32, Path]) -> tuple[Denial, str] | None:
        """Why an algorithm does not take its step as it is written, or ``None``."""
        try:
            if spec.enclave is not None:
                check_enclave_step(spec, bundles[spec.steps[0].algorithm])
                return None
            vet(_nowhere(spec, {digest: str(path) for digest, path in bundles.items()}), limit_s=CHECK_S)
        except engine.BadJob as bad:
            return Denial.SPEC_MISMATCH, str(bad)
        except engine.BundleRefused as bad:
            return Denial.ENGINE_UNAVAILABLE, str(bad)
        return None

    def run(self, plan: Plan, stop: Event, on_step: Callable[[int], None]) -> Ran:
        """Run to the end, or kill what runs when ``stop`` is set or the time is over.

        Raises:
            RunFailed: it ended without a result.
            RunStopped: ``stop`` was set.
        """
        steps = [step.id for step in plan.spec.steps]

        def on_progress(_phase: str, step: str | None) -> None:
            if step is not None:
                on_step(steps.index(step))

        job, begin = self._begun(plan)
        try:
            done = run_job(
                job,
                plan.folder,
                deadline_s=plan.deadline_s,
                gateway=self._gateway,
                stop=stop,
                on_progress=on_progress,
                begin=begin,
            )
        except engine.Stopped as cause:
            raise RunStopped from cause
        except engine.EngineError as cause:
            raise failure_of(cause) from cause
        return Ran(done.output, done.output_digest, done.result_digest, done.transcript)

    def host(
        self,
        spec: TaskSpec,
        task: Hex32,
        bundles: Mapping[Hex32, Path],
        block: BlockRef,
        folder: Path,
        stop: Event,
    ) -> Hosted:
        """Begin the enclave of ``spec``, its evidence bound to ``block``, and wait for its statement.

        Raises:
            RunFailed: it cannot be begun here.
        """
        how = self._hosting
        job = enclave_job(
            spec,
            task,
            bundles[spec.steps[0].algorithm],
            block,
            Platform(
                certificate=how.certificate,
                key=how.key,
                pccs_url=how.pccs_url,
            ),
            memory_mib=how.memory_mib,
            timeouts=self._timeouts,
        )
        try:
            return host(job, folder, limit_s=STATE_S, stop=stop)
        except engine.EngineError as cause:
            raise failure_of(cause) from cause

    def _begun(self, plan: Plan) -> tuple[AnyJob, Callable[[], Begun] | None]:
        """The job of ``plan``, and how its process begins where that is not an MPC or PSI party's."""
        url, token = plan.gateway.url, plan.gateway.token
        if isinstance(plan.enclave, Hosted):
            return plan.enclave.job, partial(plan.enclave.go, url, token)
        if plan.release is None:
            return self.job(plan), None
        paths = {own.name: own.path for own in plan.inputs}
        text, policies = plan.release.statement.document(), plan.release.policies
        job = owner_job(plan.spec, plan.task, plan.party, paths, policies, text, (url, token), self._timeouts)
        return job, partial(begin_process, OWNER, job, plan.folder)

    def left_behind(self, folder: Path) -> Ran | None:
        """What a run that ended while nobody watched has left whole, or ``None``."""
        output, transcript = folder / OUTPUT, folder / TRANSCRIPT
        if not (output.is_file() and transcript.is_file()):
            return None
        try:
            said: dict[str, Any] = parse(transcript.read_bytes())
            return Ran(output, sha256(output.read_bytes()), Hex32(said["result"]), said)
        except (NotCanonical, KeyError, TypeError):
            return None

    def job(self, plan: Plan) -> Job:
        """The job of ``plan``.

        Raises:
            RunFailed: the specification asks for what no engine does.
        """
        paths = {own.name: str(own.path) for own in plan.inputs}
        bundles = {digest: str(path) for digest, path in plan.bundles.items()}
        try:
            return _job(plan.spec, plan.task, plan.party, plan.gateway, paths, bundles, self._timeouts)
        except ValueError as cause:
            raise RunFailed(Failure.PROGRAM_MISMATCH, Blame.NOBODY, None, str(cause)[:300]) from cause


def _is_a_job(spec: TaskSpec) -> bool:
    """Whether engines could take ``spec`` at all, for instance by the number of its parties."""
    try:
        _nowhere(spec, {step.algorithm: "/" for step in spec.steps})
    except ValueError:
        return False
    return True


def _nowhere(spec: TaskSpec, bundles: Mapping[Hex32, str]) -> Job:
    """The job of ``spec`` as far as all parties' jobs are alike: with no table, no task and no gateway."""
    party = spec.parties[0]
    paths = {each.name: "/" for each in spec.inputs if each.party == party}
    return _job(spec, NOTHING, party, LocalGateway("http://127.0.0.1:1", ""), paths, bundles, Timeouts())


def _job(
    spec: TaskSpec,
    task: Hex32,
    party: Address,
    gateway: LocalGateway,
    paths: Mapping[str, str],
    bundles: Mapping[Hex32, str],
    timeouts: Timeouts,
) -> Job:
    """What no step uses is left out: nobody granted its use."""
    used = {name for step in spec.steps for name in step.inputs}
    return Job(
        task=task,
        party=party,
        parties=tuple(spec.parties),
        computing=spec.computing,
        requester_key=spec.requester_key,
        gateway_url=gateway.url,
        gateway_token=gateway.token,
        inputs=tuple(_input(each, paths) for each in spec.inputs if each.name in used),
        steps=tuple(_step(each, bundles[each.algorithm]) for each in spec.steps),
        results=tuple(each.id for each in spec.opened),
        keep={name: _keep(spec, name) for name in spec.keep},
        timeouts=timeouts,
    )


def _input(given: Input, paths: Mapping[str, str]) -> JobInput:
    return JobInput(
        name=given.name,
        party=given.party,
        id_column=given.id_column,
        columns=tuple(given.columns),
        part_of=given.part_of,
        path=paths.get(given.name),
    )


def _keep(spec: TaskSpec, name: str) -> JobKeep:
    source = ".".join(source_of(name, spec.keep[name]))
    return JobKeep(source=source, keepers=spec.keepers(name))


def _step(step: Step, bundle: str) -> JobStep:
    words = {
        "id": step.id,
        "algorithm": step.algorithm,
        "bundle": bundle,
        "engine": step.engine,
        "protocol": step.protocol,
        "inputs": tuple(step.inputs),
        "after": tuple(step.after),
        "uses": dict(step.uses),
        "params": step.params,
    }
    return JobStep.model_validate(words)


def failure_of(error: engine.EngineError) -> RunFailed:
    """The failure to report. A party is blamed by name only where the error names it."""
    reason, blame = _FAILURES.get(type(error), (Failure.ENGINE_CRASHED, Blame.REPORTER))
    if blame is Blame.SOME_PARTY and error.peer is not None:
        return RunFailed(reason, Blame.PARTY, address(error.peer), str(error))
    return RunFailed(reason, blame, None, str(error))
