"""Run functions and training steps of joint models on shares, in one process, on made-up features."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import numpy as np

from sealtrace.algorithms.compiling import engine_config
from sealtrace.algorithms.shares import Computation
from sealtrace.algorithms.simulation import PARTIES


def on_shares(function: Callable[..., Any], *arrays: Any, protocol: str = "ABY3") -> Any:
    """What ``function`` returns when its arguments are secret."""
    import jax
    from spu.utils.simulation import Simulator, sim_jax

    jax.config.update("jax_enable_x64", True)
    how = Computation.model_validate({"protocol": protocol, "field": "FM128", "fraction_bits": 40})
    return sim_jax(Simulator(PARTIES[protocol], engine_config(how)), function)(*arrays)


def program(name: str) -> Any:
    return import_module(f"sealtrace.algorithms.{name}.program")


def taken(train: int, about_target: Mapping[str, Any] | None = None, /, **arrays: Any) -> dict[str, Any]:
    """Parameters with features as an earlier step gives them; ``arrays`` in their order."""
    rows, features = arrays["matrix"].shape
    about = {
        "rows": rows, "train": train, "names": [f"f{at}" for at in range(features)], "columns": {},
        "standardise": "shift" in arrays, "target": about_target, "weighted": "weight" in arrays,
        "edges": arrays["edges"].shape[1] if "edges" in arrays else 0,
    }  # fmt: skip
    shapes = [[name, list(each.shape), "float64"] for name, each in arrays.items()]
    return {"taken": {"features": {"kind": "features", "about": about, "arrays": shapes}}}


def train(name: str, params: dict[str, Any], **arrays: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The requester's result of a training step, and the model's arrays by name."""
    step = program(name)
    step.check({key: each for key, each in params.items() if key != "taken"}, [])
    rows = step.rows(params, {})
    assert step.arithmetic(params, rows) == ("FM128", 40)
    found = [np.asarray(each) for each in on_shares(step.program(params, {}), *arrays.values())]
    opened = step.outputs(params)
    shapes = step.gives(params, {})["model"]["arrays"]
    assert [list(each.shape) for each in found[len(opened) :]] == [shape for _, shape, _ in shapes]
    given = dict(zip([name for name, *_ in shapes], found[len(opened) :], strict=True))
    return step.finish(params, rows, dict(zip(opened, found, strict=False))), given


def run(program: Any, params: dict[str, Any], tables: dict[str, Any], taken: dict[str, Any]) -> Any:
    """Run one step: check as everybody does, prepare as owners do, compute on shares, open and name."""
    program.check(params, list(tables))
    assert set(program.takes(params)) == set(taken)
    params = params | {"taken": {role: given["facts"] for role, given in taken.items()}}
    held = {name: len(next(iter(table.values()))) for name, table in tables.items()}
    rows = program.rows(params, held)
    made: dict[str, Any] = {}
    for name, table in tables.items():
        read = {column for column, _ in program.columns(params, name)}
        made |= program.prepare(params, name, {column: table[column] for column in read}, held)
    arrays = [made[name] for name, *_ in program.arrays(params, held)]
    assert [array.shape for array in arrays] == [shape for *_, shape, _ in program.arrays(params, held)]
    arrays += [array for _, given in sorted(taken.items()) for array in given["arrays"]]
    field, bits = program.arithmetic(params, rows)
    assert (field, bits) == ("FM128", 40)
    found = on_shares(program.program(params, held), *arrays)
    opened = dict(zip(program.outputs(params), found, strict=False))
    left, given_on = list(found[len(opened) :]), {}
    gives = program.gives(params, held) if hasattr(program, "gives") else {}
    for name, facts in sorted(gives.items()):
        kept = [left.pop(0) for _ in facts["arrays"]]
        assert [list(array.shape) for array in kept] == [shape for _, shape, _ in facts["arrays"]]
        given_on[name] = {"facts": facts, "arrays": kept}
    assert not left
    return program.finish(params, rows, opened), given_on


def number(name: str, where: str, values: Any) -> dict[str, Any]:
    return {name: {"kind": "number", "input": where, "low": float(values.min()), "high": float(values.max())}}
