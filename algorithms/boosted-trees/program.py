"""Boosted trees on features of several parties: neither splits nor leaves are known to anybody.

``learning/trees`` grows them on shares; here the step's settings are read and what was opened is named.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..learning import training

Params = Mapping[str, Any]
LINKS = {"indicator": "logit", "number": "identity"}
MODEL = ("selector", "threshold", "leaf", "base")
LEAST_ROWS = 10
SETTINGS: dict[str, training.Within | training.OneOf] = {
    "trees": training.Within(1, 50, 20),
    "depth": training.Within(1, 4, 3),
    "rate": training.Within(0.01, 1, 0.3, real=True),
    "lambda": training.Within(0.01, 1000, 1, real=True),
    "gamma": training.Within(0, 10_000, 0, real=True),
    "min_child_weight": training.Within(0.01, 1_000_000, 1, real=True),
    "patience": training.Within(0, 50, 0),
    "reveal": training.OneOf(("summary", "model")),
}


def check(params: Params, inputs: Sequence[str]) -> None:
    """Refuse parameters that make no sense, by ``ValueError``."""
    training.settings(params, SETTINGS)


def takes(params: Params) -> dict[str, str]:
    """Return the kinds of what is taken of earlier steps."""
    return {"features": "features"}


def columns(params: Params, name: str) -> list[tuple[str, str]]:
    """Return nothing: no table is read."""
    return []


def rows(params: Params, held: Mapping[str, int]) -> int:
    """Return the number of training rows; refuse features that trees cannot grow on."""
    facts, asked = training.features(params), training.settings(params, SETTINGS)
    if not facts["edges"]:
        raise ValueError("trees need thresholds: set edges in the step that makes the features")
    if facts["target"] is None or facts["target"]["kind"] not in LINKS:
        raise ValueError("trees need a target that is an indicator or a number: set it in the features' step")
    if asked["patience"] and facts["train"] == facts["rows"]:
        raise ValueError("patience needs rows that are held out: set train below 1 in the features' step")
    return training.enough_rows(params, LEAST_ROWS, len(facts["names"]) * facts["edges"])


def arithmetic(params: Params, rows: int) -> tuple[str, int]:
    """Return the field and fraction bits of all joint models."""
    return "FM128", 40


def arrays(params: Params, held: Mapping[str, int]) -> list[tuple[str, str, tuple[int, ...], str]]:
    """Return nothing: owners share nothing in this step."""
    return []


def prepare(params: Params, name: str, table: Mapping[str, Any], held: Mapping[str, int]) -> dict[str, Any]:
    """Return nothing: owners share nothing in this step."""
    return {}


def program(params: Params, held: Mapping[str, int]) -> Callable[..., Any]:
    """Return the joint function of the features' arrays."""
    from ..learning import trees  # only compute parties need jax: opening a result does not

    facts, asked = training.features(params), training.settings(params, SETTINGS)
    growth = trees.Growth(
        _link(params), asked["trees"], asked["depth"], asked["rate"], asked["lambda"], asked["gamma"],
        asked["min_child_weight"], asked["patience"],
    )  # fmt: skip

    def joint(*arrays: Any) -> tuple[Any, ...]:
        taken = training.by_name(params, arrays)
        below, edges, target = (taken[name] for name in ("below", "edges", "target"))
        forest = trees.fit(below, edges, target, taken.get("weight"), facts["train"], growth)
        kept = [taken[name] for name, *_ in training.carried(params)]
        return (*(getattr(forest, each) for each in [*outputs(params), *_shapes(params)]), *kept)

    return joint


def outputs(params: Params) -> list[str]:
    """Return the names of what the requester opens."""
    revealed = training.settings(params, SETTINGS)["reveal"] == "model"
    return ["used", "loss", "gain", *(MODEL if revealed else ())]


def gives(params: Params, held: Mapping[str, int]) -> dict[str, Any]:
    """Return what is handed on: the trees."""
    asked = training.settings(params, SETTINGS)
    own = {"family": "trees", "link": _link(params)}
    own |= {name: asked[name] for name in ("trees", "depth", "rate")}
    return training.model(params, own, _shapes(params))


def finish(params: Params, rows: int, opened: Mapping[str, Any]) -> dict[str, Any]:
    """Name what was opened; a loss is in the squared unit of a number target."""
    facts = training.features(params)
    target, names = facts["target"], facts["names"]
    half = (target["high"] - target["low"]) / 2 if target["kind"] == "number" else 1.0
    total = max(float(sum(opened["gain"])), 1e-9)
    held_out = [float(each) * half**2 for each in opened["loss"]]
    found: dict[str, Any] = {
        "rows": rows,
        "trees": round(float(opened["used"])),
        "held_out_loss": held_out if facts["train"] < facts["rows"] else None,
        "importance": {name: float(each) / total for name, each in zip(names, opened["gain"], strict=True)},
    }
    if "leaf" in opened:
        found["model"] = {"base": float(opened["base"][0]), "trees": _shown(names, opened)}
    return found


def _link(params: Params) -> str:
    return LINKS[training.features(params)["target"]["kind"]]


def _shapes(params: Params) -> dict[str, list[int]]:
    """The model's arrays, in order."""
    asked, features = training.settings(params, SETTINGS), len(training.features(params)["names"])
    trees, inner = asked["trees"], 2 ** asked["depth"] - 1
    shapes = ([trees, inner, features], [trees, inner], [trees, inner + 1], [1])
    return dict(zip(MODEL, shapes, strict=True))


def _shown(names: Sequence[str], opened: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each tree's nodes, level by level, ``None`` where all rows go left; and its leaves."""
    found = []
    for selector, threshold, leaf in zip(
        opened["selector"], opened["threshold"], opened["leaf"], strict=True
    ):
        nodes = [
            {"feature": names[int(row.argmax())], "below": float(edge)} if row.max() > 0.5 else None
            for row, edge in zip(selector, threshold, strict=True)
        ]
        found.append({"nodes": nodes, "leaves": leaf.tolist()})
    return found
