"""Models trained in a simulated enclave on a real network, by owners' policies, and what is refused."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from sealtrace.algorithms.bundles import load, shipped
from sealtrace.algorithms.template import create
from sealtrace.auditor.inquiry import examine
from sealtrace.auditor.jobs import Wanted
from sealtrace.auditor.secret_values import why_not_opened
from sealtrace.auditor.settings import read_settings
from sealtrace.deploy import samples, stage
from sealtrace.deploy.operator import OperatorRefused
from sealtrace.node.engines.tee.confinement import needed, probe
from sealtrace.node.engines.tee.measuring import runtime_digest
from sealtrace.protocol.attestation.appraisal import Stage
from sealtrace.protocol.attestation.statement import read_statement
from sealtrace.protocol.identifiers import Hex32
from sealtrace.protocol.lifecycle import TaskState
from sealtrace.protocol.outcome import Denial, Failure
from sealtrace.protocol.secret_config import open_value, read_secret_config
from sealtrace.requester.errors import SchedulerRefused
from sealtrace.requester.secret_configs import seal_values
from tests.e2e.conftest import register, uses_left, wait_for

LACKING = probe().missing(needed())
pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(bool(LACKING), reason=f"this host gives no {', '.join(LACKING)}"),
]
ALGORITHM = "tee-xgboost"
COLUMNS = {
    "bank": ["credit_amount", "duration_in_month", "creditability"],
    "registry": ["age_in_years"],
}
HOST = "carrier"
PURPOSE = "credit risk in an enclave"
PARAMS = {
    "mode": "train",
    "join": "vertical",
    "features": [{"column": c} for c in ("credit_amount", "duration_in_month", "age_in_years")],
    "target": {"column": "creditability", "positive": "bad"},
    "train": {"rounds": 20},
}


def policy(**changes: Any) -> dict[str, Any]:
    image = {"kind": "software", "measurements": {"runtime": runtime_digest()[2:]}}
    return {
        "platforms": ["tee-simulated"],
        "images": [image],
        "max_age_s": 3600,
        "max_age_blocks": 10_000,
        **changes,
    }


@pytest.fixture(scope="module")
def granted(world):
    """The lab registers the algorithm; all take it in; bank and registry grant their tables, by policy."""
    register(world, ALGORITHM)
    return world, {name: allow(world, name) for name in COLUMNS}


def allow(world: stage.Story, owner: str, **changes: Any) -> tuple[Hex32, Hex32]:
    """The grant, and the digest of its policy."""
    operator = world.operators[owner]
    grant = operator.grant(
        changes.pop("dataset", world.datasets[owner]),
        changes.pop("algorithm", load(shipped()[ALGORITHM]).digest),
        world.lab.address,
        purpose=PURPOSE,
        uses=9,
        days=1,
        protections=changes.pop("protections", ["TEE_SIMULATED"]),
        policy=policy(**changes),
    )
    (shown,) = (each for each in operator.grants() if each["id"] == grant)
    return grant, Hex32(shown["policy_digest"])


def asked(world: stage.Story, grants: dict[str, tuple[Hex32, Hex32]], **more: Any) -> dict[str, Any]:
    inputs = {
        name: {"dataset": world.datasets[name], "id": samples.ID, "columns": columns}
        for name, columns in COLUMNS.items()
    }
    step = {
        "algorithm": ALGORITHM,
        "protocol": "SIMULATED",
        "grants": {name: grant for name, (grant, _) in grants.items()},
        "policies": {name: digest for name, (_, digest) in grants.items()},
        "params": PARAMS,
    }
    return {
        "purpose": PURPOSE,
        "deadline": "20m",
        "inputs": inputs,
        "compute": [HOST],
        "steps": {"train": step},
        **more,
    }


def ended(world: stage.Story, task: Hex32) -> Any:
    *_, seen = world.lab.watch(task, 150)
    return seen


def test_a_model_is_trained_in_the_enclave_and_the_requester_opens_it(granted):
    world, grants = granted
    task = world.lab.submit(world.lab.build_spec(asked(world, grants))).task
    seen = ended(world, task)
    assert seen.state is TaskState.COMPLETED, seen
    result = world.lab.result(task, 60)
    assert result.value["measures"]["train"]["auc"] > 0.7
    for name in (HOST, *COLUMNS):
        ran = [r for r in world.operators[name].task(task)["evidence"] if r["kind"] == "task.ran"]
        assert ran[0]["body"]["transcript"]["statements"]["final"]


def test_an_auditor_judges_the_enclave_again_from_what_the_nodes_serve(granted):
    world, grants = granted
    task = world.lab.submit(world.lab.build_spec(asked(world, grants))).task
    assert ended(world, task).state is TaskState.COMPLETED
    wait_for(
        lambda: all(anchored(world, each, task) for each in (HOST, *COLUMNS)), 120, "an anchor is missing"
    )
    settings = read_settings(world.network.members.root / "auditor")
    done = examine(settings.inquiry(Wanted()))
    assert [(each.rule, each.expected, each.observed) for each in done.findings] == []
    rows = {row.check.rule: row for row in done.rows}
    for rule in ("EV-E01", "EV-E02", "EV-E03", "EV-E04", "EV-E05", "EV-E06", "EV-X01", "EV-X02", "EV-X03"):
        assert (rows[rule].satisfied > 0, rows[rule].missing) == (True, ()), rule


def anchored(world: stage.Story, name: str, task: Hex32) -> bool:
    """Whether the node has put a root over all that it recorded of the task on the chain."""
    chain = world.network.chain()
    checkpoint = chain.checkpoint(world.network.plan.addresses[name], at=chain.head())
    records = world.operators[name].task(task)["evidence"]
    wiped = any(each["kind"] == "task.wiped" for each in records)
    return wiped and checkpoint is not None and checkpoint.size > max(each["index"] for each in records)


def refused(world: stage.Story, task: Hex32, by: str) -> tuple[Denial, str]:
    """Why the node of ``by`` refused the task: on chain, and in its own words."""
    seen = ended(world, task)
    assert seen.state is TaskState.REFUSED, seen
    assert seen.ending.args["party"] == world.network.plan.addresses[by]
    wait_for(lambda: "task.refused" in kinds(world, by, task), 30, f"the record of {by}'s refusal")
    (record,) = (r for r in world.operators[by].task(task)["evidence"] if r["kind"] == "task.refused")
    return Denial(seen.ending.args["reason"]), record["body"]["detail"]


def submitted(world: stage.Story, grants: dict[str, tuple[Hex32, Hex32]], **more: Any) -> Hex32:
    return world.lab.submit(world.lab.build_spec(asked(world, grants, **more))).task


def enclaves(world: stage.Story) -> list[psutil.Process]:
    """The enclaves' processes that are alive."""
    marks = ("sealtrace.node.engines.tee.enclave", str(world.network.directory))
    found = []
    for each in psutil.process_iter(["cmdline", "status"]):
        line = " ".join(each.info["cmdline"] or [])
        if each.info["status"] != psutil.STATUS_ZOMBIE and all(mark in line for mark in marks):
            found.append(each)
    return found


def computes(enclave: psutil.Process) -> bool:
    """Whether the algorithm runs, in the sandbox of this enclave."""
    try:
        return any("sealtrace_tee" in " ".join(each.cmdline()) for each in enclave.children(recursive=True))
    except psutil.NoSuchProcess:
        return False


def kinds(world: stage.Story, name: str, task: Hex32) -> list[str]:
    try:
        return [each["kind"] for each in world.operators[name].task(task)["evidence"]]
    except OperatorRefused:  # it has not heard of the task yet
        return []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"images": [{"kind": "software", "measurements": {"runtime": "00" * 32}}]}, "measurement-unknown"),
        ({"runtimes": ["0x" + "11" * 32]}, "wrong-runtime"),
        ({"configs": ["0x" + "11" * 32]}, "wrong-config"),
    ],
)
def test_what_an_owners_policy_does_not_take_is_refused_and_no_use_is_spent(granted, changes, reason):
    world, grants = granted
    strict = {**grants, "bank": allow(world, "bank", **changes)}
    before = uses_left(world)
    denial, detail = refused(world, submitted(world, strict), "bank")
    assert denial is Denial.ATTESTATION_REFUSED
    assert reason in detail
    now = uses_left(world)
    assert now[strict["bank"][0]] == before[strict["bank"][0]]
    wait_for(lambda: enclaves(world) == [], 30, "the end of the enclave")


def test_an_owner_that_requires_hardware_is_denied_by_the_chain_itself(granted):
    world, grants = granted
    image = {"kind": "tdx", "measurements": dict.fromkeys(("mr_td", "rt_mr1", "rt_mr2"), "ab" * 48)}
    changes = {"platforms": ["tee-hardware"], "images": [image], "protections": ["TEE_HARDWARE"]}
    hard = {**grants, "bank": allow(world, "bank", **changes)}
    spec = world.lab.build_spec(asked(world, grants))
    step = spec.steps[0].model_copy(
        update={
            "grants": {n: g for n, (g, _) in hard.items()},
            "policies": {n: p for n, (_, p) in hard.items()},
        }
    )
    harder = spec.model_copy(update={"steps": [step]})
    with pytest.raises(SchedulerRefused, match="ProtocolUnsuitable"):
        world.lab.submit(harder)
    seen = ended(world, stage.past_the_scheduler(world, harder))
    assert seen.state is TaskState.REFUSED
    assert Denial(seen.ending.args["reason"]) is Denial.PROTECTION_NOT_ALLOWED


def test_an_enclave_that_dies_before_the_owners_start_spends_no_use_of_theirs(granted):
    world, grants = granted
    for name in COLUMNS:
        world.network.processes.kill(f"{name}-worker")
    before = uses_left(world)
    task = submitted(world, grants)
    wait_for(lambda: "task.started" in kinds(world, HOST, task), 60, "the start of the enclave's party")
    (enclave,) = enclaves(world)
    os.kill(enclave.pid, signal.SIGKILL)
    assert refused(world, task, HOST)[0] is Denial.ENCLAVE_LOST
    world.network.up(lambda line: None)
    assert uses_left(world) == before


def slow(**more: Any) -> dict[str, Any]:
    """A training that takes long enough to be interrupted."""
    return {"rounds": 9_000, "depth": 6, **more}


def test_an_enclave_that_dies_while_it_trains_fails_openly_and_leaves_no_row_behind(granted, tmp_path):
    world, grants = granted
    marked = marked_table(world, tmp_path)
    task = submitted(world, {**grants, "bank": marked}, **long_run(world, {**grants, "bank": marked}))
    wait_for(lambda: any(map(computes, enclaves(world))), 90, "the sandbox")
    time.sleep(1)
    (enclave,) = enclaves(world)
    os.kill(enclave.pid, signal.SIGKILL)
    seen = ended(world, task)
    assert seen.state is TaskState.FAILED
    assert Failure(seen.ending.args["reason"]) in (Failure.ENGINE_CRASHED, Failure.PEER_UNREACHABLE)
    wait_for(lambda: enclaves(world) == [], 30, "the end of the enclave")
    assert found(world, MARKER) == {marked_file(world)}


MARKER = "739182.5"
"""A number that stands in the bank's own table, once, and nowhere else."""


def marked_file(world: stage.Story) -> Path:
    return world.network.members.data("bank") / "marked.csv"


def marked_table(world: stage.Story, folder: Path) -> tuple[Hex32, Hex32]:
    """The bank's table with one amount that can be looked for, registered and granted."""
    lines = world.tables["bank"].read_text().splitlines()
    at = lines[0].split(",").index("credit_amount")
    cells = lines[1].split(",")
    cells[at] = MARKER
    marked_file(world).write_text("\n".join([lines[0], ",".join(cells), *lines[2:]]) + "\n")
    world.datasets["bank"] = world.operators["bank"].add_dataset(marked_file(world), "marked")
    return allow(world, "bank")


def long_run(world: stage.Story, grants: dict[str, tuple[Hex32, Hex32]]) -> dict[str, Any]:
    step = asked(world, grants)["steps"]["train"]
    return {"steps": {"train": {**step, "params": {**PARAMS, "train": slow()}}}}


def found(world: stage.Story, text: str) -> set[Path]:
    """The files of the whole network in which ``text`` stands, in the clear or in hexadecimal."""
    marks = (text.encode(), text.encode().hex().encode())
    files = (each for each in world.network.directory.rglob("*") if each.is_file())
    return {each for each in files if any(mark in each.read_bytes() for mark in marks)}


def test_a_killed_worker_takes_its_enclave_along_and_the_task_fails_openly(granted):
    world, grants = granted
    grants = {**grants, "bank": allow(world, "bank")}
    task = submitted(world, grants, **long_run(world, grants))
    wait_for(lambda: any(map(computes, enclaves(world))), 90, "the sandbox")
    world.network.processes.kill(f"{HOST}-worker")
    wait_for(lambda: enclaves(world) == [], 30, "the end of the enclave")
    world.network.up(lambda line: None)
    seen = ended(world, task)
    assert seen.state is TaskState.FAILED
    chain = world.network.chain()
    starts = chain.events(chain.deployed_at, chain.head().number, names={"TaskStarted"}, task=task)
    assert len(starts) == len(COLUMNS) + 1


def test_a_model_that_is_kept_predicts_under_new_grants_of_all_its_owners(granted):
    world, grants = granted
    grants = {**grants, "bank": allow(world, "bank")}
    task = submitted(world, grants, keep={"risk": "train.model"})
    assert ended(world, task).state is TaskState.COMPLETED
    assert "model" not in world.lab.result(task, 60).value
    parts = {name: part_of(world, name) for name in COLUMNS}
    both = {**grants, **{f"{name}-part": allow(world, name, dataset=parts[name]) for name in COLUMNS}}
    inputs = asked(world, grants)["inputs"]
    inputs |= {f"{name}-part": {"party": name, "dataset": parts[name], "part_of": "risk"} for name in COLUMNS}
    step = asked(world, both)["steps"]["train"]
    predict = {**step, "params": {"mode": "predict", "join": "vertical"}, "uses": {"model": "risk"}}
    later = submitted(world, both, inputs=inputs, steps={"predict": predict})
    assert ended(world, later).state is TaskState.COMPLETED
    assert len(world.lab.result(later, 60).value["predictions"]["score"]) > 500


def part_of(world: stage.Story, name: str) -> Hex32:
    """The part that ``name`` keeps, once the chain has it too."""
    chain = world.network.chain()

    def parts() -> list[Hex32]:
        listed = [Hex32(each["id"]) for each in world.operators[name].datasets() if is_part(each)]
        return [each for each in listed if chain.dataset(each, at=chain.head()) is not None]

    wait_for(lambda: parts() != [], 60, f"the part of {name}")
    (part,) = parts()
    return part


def is_part(dataset: dict[str, Any]) -> bool:
    return str(dataset["name"]).startswith("risk ")


OVER = """
def run(inputs, params):
    return {"found": sum(each > inputs.config["limit"] for each in inputs["bank"].numbers("credit_amount"))}
"""


def test_secret_values_of_an_algorithm_come_under_their_owner_s_grant_and_a_regulator_may_see_one(
    granted, tmp_path
):
    world, _ = granted
    folder, secrets = secretive(tmp_path, limit=2_500.5)
    digest = register(world, folder)
    held = shutil.copy(secrets, world.network.members.data("registry"))
    dataset = world.operators["registry"].add_dataset(Path(held), "limits")
    grants = {
        "bank": allow(world, "bank", algorithm=digest),
        "limits": allow(world, "registry", algorithm=digest, dataset=dataset),
    }
    bank = {"dataset": world.datasets["bank"], "id": samples.ID, "columns": ["credit_amount"]}
    task = submitted(
        world,
        grants,
        inputs={"bank": bank, "limits": {"party": "registry", "dataset": dataset, "kind": "config"}},
        steps={
            "count": {
                **asked(world, grants)["steps"]["train"],
                "algorithm": digest,
                "engine": "tee",
                "params": {},
            }
        },
    )
    assert ended(world, task).state is TaskState.COMPLETED
    table = marked_file(world) if marked_file(world).exists() else world.tables["bank"]
    with table.open(newline="") as file:
        amounts = [float(row["credit_amount"]) for row in csv.DictReader(file)]
    assert world.lab.result(task, 60).value["found"] == sum(each > 2_500.5 for each in amounts)
    (final,) = (each for each in map(read_statement, world.lab.statements(task)) if each.stage is Stage.FINAL)
    opened = open_value(read_secret_config(secrets.read_bytes()), digest, "limit")
    assert why_not_opened(opened, load(folder), final) is None


def secretive(within: Path, limit: float) -> tuple[Path, Path]:
    """An algorithm with a secret limit, and where its values lie."""
    folder = create("over", within, "tee")
    (folder / "program.py").write_text(OVER)
    manifest = json.loads((folder / "manifest.json").read_text())
    shape = {"kind": "number", "decimals": 0}
    manifest["output_policy"]["outputs"] = {"found": {"shape": shape, "max_bytes": 100}}
    (folder / "manifest.json").write_text(json.dumps({**manifest, "params": {}}))
    values, secrets = within / "values.json", within / "secrets.json"
    values.write_text(json.dumps({"limit": limit}))
    seal_values(folder, values, secrets)
    return folder, secrets
