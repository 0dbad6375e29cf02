"""One task's steps at parties of this machine, through gateways: what each sent, and how long it took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bench_psi
from node_gateways import NODES, TASK, Known, gateways, open_session
from places import HERE, Place

from sealtrace.algorithms.bundles import load, shipped
from sealtrace.node.engines.job import Job, JobInput, JobStep
from sealtrace.node.engines.process import run_job
from sealtrace.protocol.canonical import sha256
from sealtrace.protocol.spec import Input, Step, TaskSpec

OWNERS = ("bank", "registry", "carrier")
ID = "id"
NOWHERE = "http://127.0.0.1:1"


@dataclass(frozen=True, slots=True)
class Observed:
    """Bytes, messages and CPU seconds by party's rank, and the slowest one's seconds, of a task."""

    sent: tuple[int, ...]
    messages: tuple[int, ...]
    cpu_s: tuple[float, ...]
    seconds: float
    common: int | None


def step_of(id: str, algorithm: str, protocol: Any = "ABY3", **more: Any) -> JobStep:
    """A step by a bundle that ships with us, over all owners' inputs."""
    bundle = load(shipped()[algorithm])
    return JobStep(
        id=id,
        algorithm=bundle.digest,
        bundle=str(bundle.folder),
        engine=bundle.manifest.engine,
        protocol=protocol,
        inputs=OWNERS,
        **more,
    )


def observed(
    steps: Sequence[JobStep],
    paths: Sequence[Path],
    columns: Sequence[Sequence[str]],
    folder: Path,
    places: Sequence[Place] = (),
) -> Observed:
    """Run ``steps`` among as many parties as there are tables in ``paths``, one each, at ``places``."""
    folder.mkdir()
    there = places[: len(paths)] or (HERE,) * len(paths)
    jobs = [job_of(rank, steps, path, columns) for rank, path in enumerate(paths)]
    said = through_gateways(jobs, there, folder)
    return Observed(
        sent=tuple(each["sent"] for each in said),
        messages=tuple(each["messages"] for each in said),
        cpu_s=tuple(round(each["cpu_s"], 2) for each in said),
        seconds=round(max(each["seconds"] for each in said), 2),
        common=said[0]["steps"][0].get("common"),
    )


def through_gateways(jobs: Sequence[Job], places: Sequence[Place], folder: Path) -> list[dict[str, Any]]:
    """Run all parties of a task, each at its place; what each measured and told of its steps, by rank."""
    with gateways(folder, places) as known:
        work = [(place, known, job, folder / str(job.rank)) for place, job in zip(places, jobs, strict=True)]
        said = bench_psi.together(_party, work)
    return sorted(said, key=lambda each: each["rank"])


def _party(place: Place, known: Sequence[Known], job: Job, folder: Path) -> dict[str, Any]:
    """One party's driver, at its place: the session, then the engine."""
    place.enter()
    control, token = known[job.rank][0], open_session(known, job.rank)
    ready = job.model_copy(update={"gateway_url": control.url, "gateway_token": token})
    done = run_job(ready, folder, deadline_s=bench_psi.LONGEST_S, gateway=control)
    peers = done.transcript["traffic"]
    return {
        "rank": job.rank,
        "steps": done.transcript["steps"],
        "sent": sum(each["sent_bytes"] for each in peers),
        "messages": sum(each["sent_messages"] for each in peers),
    }


def job_of(rank: int, steps: Sequence[JobStep], path: Path, columns: Sequence[Sequence[str]]) -> Job:
    """The job of party ``rank``, whose table is at ``path``; ``columns`` are those of each party's table."""
    names, nodes = OWNERS[: len(columns)], NODES[: len(columns)]
    inputs = tuple(
        JobInput(
            name=name,
            party=node,
            id_column=ID,
            columns=tuple(own),
            path=str(path) if node == nodes[rank] else None,
        )
        for name, node, own in zip(names, nodes, columns, strict=True)
    )
    return Job(
        task=TASK,
        party=nodes[rank],
        parties=nodes,
        computing=nodes,
        results=(steps[-1].id,),
        requester_key=TASK,
        gateway_url=NOWHERE,
        gateway_token="",
        inputs=inputs,
        steps=tuple(each.model_copy(update={"inputs": names}) for each in steps),
        timeouts=bench_psi.TIMEOUTS,
    )


def spec_of(steps: Sequence[JobStep], columns: Sequence[Sequence[str]]) -> TaskSpec:
    """The specification of a task of these steps, as a requester would plan it."""
    names, nodes = OWNERS[: len(columns)], NODES[: len(columns)]
    words = [
        {
            "id": step.id,
            "algorithm": step.algorithm,
            "engine": step.engine,
            "protocol": step.protocol,
            "inputs": list(names),
            "after": list(step.after),
            "uses": dict(step.uses),
            "params": dict(step.params),
            "grants": {name: sha256(f"{name} {step.algorithm}".encode()) for name in names},
        }
        for step in steps
    ]
    inputs = [
        {"name": name, "party": node, "dataset": TASK, "id_column": ID, "columns": list(own)}
        for name, node, own in zip(names, nodes, columns, strict=True)
    ]
    return TaskSpec(
        nonce=TASK,
        requester=NODES[0],
        requester_key=TASK,
        purpose="a plan held against a run",
        deadline=1,
        parties=list(nodes),
        inputs=[Input.model_validate(each) for each in inputs],
        steps=[Step.model_validate(each) for each in words],
    )
