"""Features of a joint model: owners' declared columns, encoded, weighed and scaled; they stay shared."""

from collections.abc import Callable, Mapping
from typing import Any

from ..learning import columns as declared

Params = Mapping[str, Any]
MAX_NUMBERS = 1 << 26


def check(params: Params, inputs: list[str]) -> None:
    """Refuse parameters that make no sense, by ``ValueError``."""
    if _applies(params):
        declared.places(params, inputs)
    else:
        declared.read(params, inputs)


def takes(params: Params) -> dict[str, str]:
    """Return the values of earlier steps that are worked on: with ``apply``, a model."""
    return {"fitted": "model"} if _applies(params) else {}


def columns(params: Params, name: str) -> list[tuple[str, str]]:
    """Return (column, kind) of what is read of input ``name``."""
    own = _own(params)
    if _applies(params):
        found = list(declared.places(own).values())
    else:
        plan = declared.read(own)
        found = [*plan.columns.values(), *(each for each in (plan.target, plan.weight) if each)]
    return list(dict.fromkeys((each.column, each.reads) for each in found if each.input in (None, name)))


def rows(params: Params, held: Mapping[str, int]) -> int:
    """Return the joint number of rows; refuse too few, too many, or such as do not fit together."""
    plan = _plan(params)
    if not plan.horizontal and len(set(held.values())) != 1:
        raise ValueError(
            "the inputs do not have equally many rows; align them first, or list them in horizontal"
        )
    found = sum(held.values()) if plan.horizontal else next(iter(held.values()))
    if (train := _trained(plan, held)) < plan.min_rows:
        raise ValueError(f"there are {train} rows for training, fewer than min_rows ({plan.min_rows})")
    if found > declared.MOST_ROWS or found * len(plan.names) * max(1, plan.edges) > MAX_NUMBERS:
        raise ValueError("too many rows, features or edges: at most 2^20 rows and 2^26 numbers fit")
    return found


def arithmetic(_params: Params, _rows: int) -> tuple[str, int]:
    """Return the field and the fraction bits, alike in all steps of a joint model."""
    return "FM128", 40


def arrays(params: Params, held: Mapping[str, int]) -> list[tuple[str, str, tuple[int, ...], str]]:
    """Return (array, input, shape, type) in the order of the joint function's arguments."""
    from ..learning import encoding

    plan = _plan(params)
    shapes = [
        (part, name, shape)
        for name in plan.inputs
        for part, shape in encoding.parts(plan, name, held[name]).items()
    ]
    return [(f"{part}@{name}", name, shape, "float64") for part, name, shape in shapes]


def prepare(params: Params, name: str, table: Mapping[str, Any], held: Mapping[str, int]) -> dict[str, Any]:
    """Turn one owner's columns into its arrays, locally; refuse what does not fit, by a named reason."""
    from ..learning import encoding

    plan = _plan(params)
    if name not in plan.inputs:
        return {}
    made = encoding.encoded(plan, name, table, held[name])
    return {f"{part}@{name}": array for part, array in made.items()}


def program(params: Params, held: Mapping[str, int]) -> Callable[..., tuple[Any, ...]]:
    """Return the joint function. All of its arguments and results are secret."""
    from ..learning import design

    plan = _plan(params)
    keys = [(array.partition("@")[0], name) for array, name, *_ in arrays(params, held)]
    model = [each[0] for each in params["taken"]["fitted"]["arrays"]] if plan.fitted else []

    def features(*given: Any) -> tuple[Any, ...]:
        pieces = dict(zip(keys, given[: len(keys)], strict=True))
        fitted = dict(zip(model, given[len(keys) :], strict=True))
        kept = {part: fitted[part] for part in ("shift", "scale", "woe") if part in fitted}
        return tuple(design.features(plan, pieces, held, kept).values())

    return features


def outputs(_params: Params) -> list[str]:
    """Return the names of what is opened: nothing."""
    return []


def gives(params: Params, held: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    """Return what is handed on, still shared."""
    from ..learning import design

    plan, count = _plan(params), rows(params, held)
    shapes = [[part, list(shape), "float64"] for part, shape in design.shapes(plan, count)]
    about = declared.about(plan, count, _trained(plan, held))
    return {"features": {"kind": "features", "about": about, "arrays": shapes}}


def finish(params: Params, rows: int, _opened: Mapping[str, Any]) -> dict[str, Any]:
    """Say how many rows there are, and how the features are called."""
    return {"rows": rows, "features": _plan(params).names}


def _applies(params: Params) -> bool:
    return declared.truth(params.get("apply", False), "apply")


def _own(params: Params) -> dict[str, Any]:
    return {key: each for key, each in params.items() if key != "taken"}


def _plan(params: Params) -> declared.Plan:
    if _applies(params):
        return declared.fitted(_own(params), params["taken"]["fitted"]["about"]["features"])
    return declared.read(_own(params))


def _trained(plan: declared.Plan, held: Mapping[str, int]) -> int:
    found = [plan.trained(held[name]) for name in plan.inputs]
    return sum(found) if plan.horizontal else found[0]
