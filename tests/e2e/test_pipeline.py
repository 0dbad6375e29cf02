"""A joint model from grants to its judgement, on a real network: what no grant covers does not run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from sealtrace.algorithms.bundles import load, shipped
from sealtrace.deploy import samples, stage, story
from sealtrace.protocol.lifecycle import TaskState
from sealtrace.protocol.outcome import Denial
from sealtrace.protocol.spec import TaskSpec
from sealtrace.requester.errors import GrantNotFound
from tests.e2e.conftest import register, uses_left, wait_for

pytestmark = pytest.mark.timeout(300)
STEPS: dict[str, dict[str, Any]] = {
    "align": {"algorithm": "psi", "protocol": "RR22"},
    "prepared": {"algorithm": "features", "params": {"columns": {}, "target": "bad"}},
    "train": {"algorithm": "glm", "uses": {"features": "prepared"}, "params": {"family": "logistic"}},
    "scores": {
        "algorithm": "predict",
        "uses": {"features": "prepared", "model": "train"},
        "params": {"rows": "all", "reveal": "nothing"},
    },
    "quality": {
        "algorithm": "evaluate",
        "uses": {"scores": "scores"},
        "params": {"metrics": ["auc"], "min_group": 10},
    },
}
COLUMNS = {
    "amount": ("bank", "credit_amount", 0, 20_000),
    "age": ("registry", "age_in_years", 18, 80),
    "credits": ("carrier", "number_of_existing_credits_at_this_bank", 0, 8),
}


def model(world: stage.Story) -> dict[str, Any]:
    """The task file; grants are looked up on the chain."""
    asked = story.words(world, story.PURPOSE)
    columns = {
        name: {"input": owner, "column": column, "kind": "number", "low": low, "high": high}
        for name, (owner, column, low, high) in COLUMNS.items()
    }
    columns["bad"] = {"input": "bank", "column": "creditability", "kind": "indicator", "positive": "bad"}
    prepared = {**STEPS["prepared"], "params": {"columns": columns, "target": "bad"}}
    return {**asked, "steps": {**STEPS, "prepared": prepared}}


def provide(world: stage.Story, name: str, owners: Iterable[str]) -> None:
    """Register an algorithm; every node takes it in, ``owners`` grant its use."""
    register(world, name)
    for owner in owners:
        allow(world, owner, world.datasets[owner], name)


def allow(world: stage.Story, owner: str, dataset: str, algorithm: str) -> None:
    """An owner grants the lab the use of one of its datasets, table or part, by one algorithm."""
    world.operators[owner].grant(
        dataset,
        load(shipped()[algorithm]).digest,
        world.lab.address,
        purpose=story.PURPOSE,
        uses=5,
        days=1,
        protections=story.PROTECTIONS,
    )


@pytest.fixture(scope="module")
def granted(world):
    """Every owner grants preparing, training and applying."""
    for name in ("features", "glm", "predict"):
        provide(world, name, world.operators)
    return world


def without(asked: dict[str, Any], *steps: str) -> dict[str, Any]:
    return {**asked, "steps": {name: each for name, each in asked["steps"].items() if name not in steps}}


def altered(spec: TaskSpec, step: str, **params: Any) -> TaskSpec:
    """What a requester sends who circumvents its own check: one step with other parameters."""
    steps = [
        each.model_copy(update={"params": {**each.params, **params}}) if each.id == step else each
        for each in spec.steps
    ]
    return spec.model_copy(update={"steps": steps})


def refusal(world: stage.Story, party: str, task: str, folder: Path) -> str:
    """Why the node of ``party`` refused ``task``, from its evidence log: written once the chain has it."""
    (name,) = (name for name, address in world.network.plan.addresses.items() if address == party)
    operator = world.operators[name]
    wait_for(
        lambda: any(each["kind"] == "task.refused" for each in operator.task(task)["evidence"]),
        30,
        f"the record of {name}'s refusal",
    )
    lines = operator.evidence(folder / "evidence.jsonl").read_text().splitlines()
    return next(line for line in lines if '"task.refused"' in line and task in line)


@pytest.mark.parametrize(
    ("step", "params", "words"),
    [
        ("train", {"family": "probit"}, "family: one of logistic"),
        ("prepared", {"target": "nobody"}, "target: one of the declared columns"),
    ],
)
def test_what_an_algorithm_does_not_take_is_refused_on_chain_and_no_use_is_spent(
    granted, tmp_path, step, params, words
):
    asked = without(model(granted), "scores", "quality")
    wrong = altered(granted.lab.build_spec(asked), step, **params)
    before = uses_left(granted)
    task = granted.lab.submit(wrong).task
    *_, seen = granted.lab.watch(task, 100)
    assert seen.state is TaskState.REFUSED
    assert Denial(seen.ending.args["reason"]) is Denial.SPEC_MISMATCH
    assert uses_left(granted) == before
    chain = granted.network.chain()
    assert not chain.events(chain.deployed_at, chain.head().number, names={"TaskStarted"}, task=task)
    assert words in refusal(granted, seen.ending.args["party"], task, tmp_path)


@pytest.fixture(scope="module")
def trained(granted):
    """A task that trains a model, judges it, opens both, and leaves the model with its owners."""
    world = granted
    provide(world, "evaluate", ("bank", "registry"))
    asked = {**model(world), "results": ["train", "quality"], "keep": {"risk": "train.model"}}
    with pytest.raises(GrantNotFound, match="quality"):
        world.lab.build_spec(asked)
    allow(world, "carrier", world.datasets["carrier"], "evaluate")
    task = stage.submit(world, world.lab, None, asked)
    *_, seen = world.lab.watch(task, 200)
    assert seen.state is TaskState.COMPLETED, seen
    return task, dict(world.lab.result(task, 60).value)


def test_a_model_is_trained_and_judged_under_a_grant_for_every_step(world, trained):
    _, found = trained
    assert set(found) == {"train", "quality"}
    assert found["train"]["converged"]
    assert found["quality"]["rows"] == len(samples.common(world.rows, world.tables))
    assert 0.5 < found["quality"]["auc"] < 0.75


def parts_of(world: stage.Story, task: str) -> dict[str, str]:
    """Each owner's part of the kept model, by owner, once its node has registered it on the chain."""
    name, chain = f"risk (train.model of {task[:10]})", world.network.chain()

    def registered() -> set[str]:
        events = chain.events(chain.deployed_at, chain.head().number, names={"DatasetRegistered"})
        return {str(each.args["dataset"]) for each in events}

    def found() -> dict[str, str]:
        known = registered()
        rows = {owner: operator.datasets() for owner, operator in world.operators.items()}
        parts = {owner: each["id"] for owner, held in rows.items() for each in held if each["name"] == name}
        return {owner: part for owner, part in parts.items() if part in known}

    wait_for(lambda: len(found()) == len(world.operators), 60, "registration of the model's parts")
    return found()


def applied(world: stage.Story, parts: dict[str, str]) -> dict[str, Any]:
    """A task that scores the same owners' rows by the kept model."""
    asked = story.words(world, story.PURPOSE)
    columns = {
        name: {"input": place[0], "column": place[1], "kind": "number"} for name, place in COLUMNS.items()
    }
    kept = {
        f"risk_{owner}": {"party": owner, "dataset": id, "part_of": "risk"} for owner, id in parts.items()
    }
    tables = list(asked["inputs"])
    return {
        **asked,
        "inputs": {**asked["inputs"], **kept},
        "steps": {
            "align": {**STEPS["align"], "inputs": tables},
            "fresh": {
                "algorithm": "features",
                "uses": {"fitted": "risk"},
                "params": {"columns": columns, "apply": True},
            },
            "scores": {
                "algorithm": "predict",
                "uses": {"features": "fresh", "model": "risk"},
                "params": {"rows": "all", "reveal": "scores"},
            },
        },
    }


def test_a_kept_model_is_applied_only_where_each_owner_of_a_part_allows_it(world, trained):
    parts = parts_of(world, trained[0])
    for owner, part in parts.items():
        for algorithm in ("features", "predict"):
            if (owner, algorithm) != ("carrier", "predict"):
                allow(world, owner, part, algorithm)
    with pytest.raises(GrantNotFound, match="scores"):
        world.lab.build_spec(applied(world, parts))
    allow(world, "carrier", parts["carrier"], "predict")
    task = stage.submit(world, world.lab, None, applied(world, parts))
    *_, seen = world.lab.watch(task, 200)
    assert seen.state is TaskState.COMPLETED, seen
    scores = world.lab.result(task, 60).value["scores"]
    common = samples.common(world.rows, world.tables)
    assert len(scores) == len(common)
    bad = sum(row["creditability"] == "bad" for row in common) / len(common)
    assert sum(scores) / len(scores) == pytest.approx(bad, abs=0.01)  # as a logistic model's scores are
