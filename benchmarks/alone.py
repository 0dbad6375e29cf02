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


def steps_of(*words: tuple[str, str, str, str, Sequence[str], dict[str, Any]]) -> tuple[JobStep, ...]:
    """Steps from (id, bundle's name, engine, protocol, ids of earlier steps, parameters), over all inputs."""
    folders = shipped()
    return tuple(
        JobStep(
            id=id_,
            algorithm=load(folders[name]).digest,
            bundle=str(folders[name]),
            engine=engine,  # type: ignore[arg-type]
            protocol=protocol,  # type: ignore[arg-type]
            inputs=OWNERS,
            after=tuple(after),
            params=params,
        )
        for id_, name, engine, protocol, after, params in words
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
    with gateways(folder, there) as known:
        jobs = [_job(rank, steps, paths, columns) for rank in range(len(paths))]
        work = [(place, known, jobs[me], folder / str(me)) for me, place in enumerate(there)]
        said = bench_psi.together(_party, work)
    said.sort(key=lambda each: each["rank"])
    return Observed(
        sent=tuple(each["sent"] for each in said),
        messages=tuple(each["messages"] for each in said),
        cpu_s=tuple(round(each["cpu_s"], 2) for each in said),
        seconds=round(max(each["seconds"] for each in said), 2),
        common=said[0]["common"],
    )


def _party(place: Place, known: Sequence[Known], job: Job, folder: Path) -> dict[str, Any]:
    """One party's driver, at its place: the session, then the engine."""
    place.enter()
    control, token = known[job.rank][0], open_session(known, job.rank)
    ready = job.model_copy(update={"gateway_url": control.url, "gateway_token": token})
    done = run_job(ready, folder, deadline_s=bench_psi.LONGEST_S, gateway=control)
    peers = done.transcript["traffic"]
    return {
        "rank": job.rank,
        "common": done.transcript["steps"][0].get("common"),
        "sent": sum(each["sent_bytes"] for each in peers),
        "messages": sum(each["sent_messages"] for each in peers),
    }


def _job(rank: int, steps: Sequence[JobStep], paths: Sequence[Path], columns: Sequence[Sequence[str]]) -> Job:
    names, nodes = OWNERS[: len(paths)], NODES[: len(paths)]
    inputs = tuple(
        JobInput(
            name=name,
            party=node,
            id_column=ID,
            columns=tuple(columns[at]),
            path=str(paths[at]) if at == rank else None,
        )
        for at, (name, node) in enumerate(zip(names, nodes, strict=True))
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
