"""A specification's enclave step as the jobs of its parties, and what speaks against it beforehand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from sealtrace.algorithms import checking
from sealtrace.algorithms.bundles import Bundle, BundleAltered, BundleMissing, load
from sealtrace.algorithms.frames import BadShare
from sealtrace.algorithms.kept import read_header
from sealtrace.algorithms.pads import why_no_pad
from sealtrace.node.engines.errors import BadInput, BadJob, BundleRefused
from sealtrace.node.engines.job import Timeouts
from sealtrace.node.engines.tee.configs import held_values, read_config
from sealtrace.node.engines.tee.job import (
    CONFIG,
    Block,
    EnclaveInput,
    EnclaveJob,
    OwnerInput,
    OwnerJob,
    Platform,
)
from sealtrace.protocol.attestation.policy import AttestationPolicy
from sealtrace.protocol.bundle import BadBundle
from sealtrace.protocol.identifiers import Address, Hex32, UnixSeconds
from sealtrace.protocol.records import BlockRef
from sealtrace.protocol.secret_config import ConfigUnfit
from sealtrace.protocol.spec import TaskSpec, read_spec, source_of


def enclave_job(
    spec: TaskSpec,
    task: Hex32,
    bundle: Path,
    block: BlockRef,
    platform: Platform,
    *,
    memory_mib: int,
    timeouts: Timeouts,
) -> EnclaveJob:
    """The job of the party at which the enclave of ``spec`` runs; evidence is bound to ``block``."""
    step = spec.steps[0]
    return EnclaveJob(
        task=task,
        spec=spec.digest(),
        specification=spec.canonical().decode(),
        party=spec.computing[0],
        parties=tuple(spec.parties),
        requester_key=spec.requester_key,
        step=step.id,
        algorithm=step.algorithm,
        bundle=str(bundle),
        protocol=step.protocol,  # type: ignore[arg-type]  # the specification has held it to its engine
        params=step.params,
        inputs=tuple(EnclaveInput(**_input(spec, name)) for name in step.inputs),  # type: ignore[arg-type]
        uses=dict(step.uses),
        keep=_keep(spec),
        block=Block(number=block.number, hash=block.hash, timestamp=block.timestamp),
        platform=platform,
        memory_mib=memory_mib,
        timeouts=timeouts,
    )


def hold_to_specification(job: EnclaveJob) -> TaskSpec:
    """The specification of a job, which must be what that makes of it: whoever wrote it is not trusted.

    Raises:
        BadJob: it is not.
    """
    block = BlockRef(job.block.number, job.block.hash, UnixSeconds(job.block.timestamp))
    how = {"memory_mib": job.memory_mib, "timeouts": job.timeouts}
    try:
        spec = read_spec(job.specification.encode())
        meant = enclave_job(spec, job.task, Path(job.bundle), block, job.platform, **how)  # type: ignore[arg-type]
    except ValueError as error:
        raise BadJob(f"the specification is none of a task in an enclave: {error}") from error
    if meant != job:
        raise BadJob("the job is not what its specification says")
    return spec


def owner_job(
    spec: TaskSpec,
    task: Hex32,
    party: Address,
    paths: Mapping[str, Path],
    policies: Mapping[str, AttestationPolicy],
    statement: bytes,
    gateway: tuple[str, str],
    timeouts: Timeouts,
) -> OwnerJob:
    """The job of ``party``, an owner: its inputs lie at ``paths``; ``gateway`` is its URL and token."""
    step = spec.steps[0]
    own = [name for name in step.inputs if spec.input(name).party == party]
    return OwnerJob(
        task=task,
        party=party,
        parties=tuple(spec.parties),
        enclave=spec.computing[0],
        requester_key=spec.requester_key,
        step=step.id,
        algorithm=step.algorithm,
        protocol=step.protocol,  # type: ignore[arg-type]  # see above
        inputs=tuple(
            OwnerInput(
                **_input(spec, name),  # type: ignore[arg-type]
                path=str(paths[name]),
                policy_text=policies[name].text().decode(),
            )
            for name in own
        ),
        keep=_keep(spec),
        statement=statement.decode(),
        gateway_url=gateway[0],
        gateway_token=gateway[1],
        timeouts=timeouts,
    )


def check_enclave_step(spec: TaskSpec, folder: Path) -> Bundle:
    """Hold the step to its bundle's manifest; no code of the bundle runs.

    Raises:
        BadJob: the bundle does not take the step.
        BundleRefused: it is not what was granted.
    """
    step = spec.steps[0]
    try:
        bundle = load(folder, expected=step.algorithm)
    except (BundleMissing, BundleAltered, BadBundle, OSError) as error:
        raise BundleRefused(f"step {step.id}: {error}") from error
    config = any(spec.input(name).kind == CONFIG for name in step.inputs)
    kept = _keep(spec).values()
    try:
        checking.check_enclave_step(bundle.manifest, step.protocol, step.params, kept, config=config)
    except checking.ParamsRefused as error:
        raise BadJob(f"step {step.id}: {error}") from error
    return bundle


def check_pad(path: Path, party: Address, keepers: Sequence[Address]) -> str | None:
    """Say what is wrong with the part at ``path`` for an enclave, or ``None``; its pad is not read."""
    try:
        return why_no_pad(read_header(path), party, keepers)
    except (BadShare, OSError) as error:
        return f"{path.name}: {error}"


def check_config(path: Path, folder: Path) -> str | None:
    """Say which secret value at ``path`` the bundle in ``folder`` does not commit to, or ``None``; none is
    quoted."""
    try:
        held_values(read_config(path), load(folder).manifest)
    except (BadInput, ConfigUnfit) as error:
        return str(error)
    return None


def _keep(spec: TaskSpec) -> dict[str, str]:
    """The outputs that are kept, by what they are called afterwards."""
    return {name: source_of(name, source)[1] for name, source in spec.keep.items()}


def _input(spec: TaskSpec, name: str) -> dict[str, object]:
    given, step = spec.input(name), spec.steps[0]
    return {
        "name": given.name,
        "party": given.party,
        "dataset": given.dataset,
        "policy": step.policies[name],
        "id_column": given.id_column,
        "columns": tuple(given.columns),
        "part_of": given.part_of,
        "kind": given.kind,
    }
