"""Models trained in a simulated enclave on a real network, by owners' policies, and what is refused."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from sealtrace.algorithms.bundles import load, shipped
from sealtrace.contracts import calls
from sealtrace.deploy import samples, story
from sealtrace.node.engines.tee.confinement import needed, probe
from sealtrace.node.engines.tee.measuring import runtime_digest
from sealtrace.protocol.identifiers import Hex32
from sealtrace.protocol.lifecycle import TaskState

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
    provide(world)
    return world, {name: allow(world, name) for name in COLUMNS}


def provide(world: story.Story) -> None:
    digest = load(shipped()[ALGORITHM]).digest
    world.lab.send(f"algorithm:{digest}", calls.register_algorithm(digest))
    for owner, operator in world.operators.items():
        into = world.network.members.data(owner) / "bundles" / ALGORITHM
        shutil.copytree(shipped()[ALGORITHM], into, ignore=shutil.ignore_patterns("__pycache__"))
        assert operator.add_algorithm(into) == digest


def allow(world: story.Story, owner: str, **changes: Any) -> tuple[Hex32, Hex32]:
    """The grant, and the digest of its policy."""
    operator = world.operators[owner]
    grant = operator.grant(
        world.datasets[owner],
        load(shipped()[ALGORITHM]).digest,
        world.lab.address,
        purpose=PURPOSE,
        uses=9,
        days=1,
        protections=changes.pop("protections", ["TEE_SIMULATED"]),
        policy=policy(**changes),
    )
    (shown,) = (each for each in operator.grants() if each["id"] == grant)
    return grant, Hex32(shown["policy_digest"])


def asked(world: story.Story, grants: dict[str, tuple[Hex32, Hex32]], **more: Any) -> dict[str, Any]:
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


def ended(world: story.Story, task: Hex32) -> Any:
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
