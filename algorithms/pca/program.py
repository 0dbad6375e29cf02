"""Principal components of features of several parties.

``learning/components`` finds them on shares; here settings are read and what was opened is named.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..learning import training

Params = Mapping[str, Any]
MODEL = ("mean", "axes", "variance")
LEAST_ROWS = 10
MOST_PRODUCTS = 1 << 29
SETTINGS: dict[str, training.Within | training.OneOf] = {
    "components": training.Within(1, 64, 2),
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
    """Return the number of training rows; refuse features that have no such components."""
    asked, features = training.settings(params, SETTINGS), len(training.features(params)["names"])
    if asked["components"] > features:
        raise ValueError(f"components: there are {features} features, and no more components")
    if features**3 * asked["components"] > MOST_PRODUCTS:
        raise ValueError(f"components: too much work with {features} features; ask for fewer of either")
    return training.unweighted_rows(params, LEAST_ROWS, features)


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
    from ..learning import components  # only compute parties need jax: opening a result does not

    facts, asked = training.features(params), training.settings(params, SETTINGS)

    def joint(*arrays: Any) -> tuple[Any, ...]:
        taken = training.by_name(params, arrays)
        found = components.fit(taken["matrix"][: facts["train"]], asked["components"])
        kept = [taken[name] for name, *_ in training.carried(params)]
        return (*(getattr(found, each) for each in [*outputs(params), *MODEL]), *kept)

    return joint


def outputs(params: Params) -> list[str]:
    """Return the names of what the requester opens."""
    revealed = training.settings(params, SETTINGS)["reveal"] == "model"
    return ["variance", "total", *(["mean", "axes"] if revealed else [])]


def gives(params: Params, held: Mapping[str, int]) -> dict[str, Any]:
    """Return what is handed on: mean, axes and variances."""
    count, features = (
        training.settings(params, SETTINGS)["components"],
        len(training.features(params)["names"]),
    )
    shapes = dict(zip(MODEL, ([features], [features, count], [count]), strict=True))
    return training.model(params, {"family": "pca", "link": None}, shapes)


def finish(params: Params, rows: int, opened: Mapping[str, Any]) -> dict[str, Any]:
    """Name what was opened; a share is of the variance of all features."""
    names = training.features(params)["names"]
    total = float(opened["total"])
    variances = [float(each) for each in opened["variance"]]
    shares = [each / total if total > 0 else 0.0 for each in variances]
    found: dict[str, Any] = {"rows": rows, "variance": variances, "share": shares, "total_variance": total}
    if "axes" in opened:
        found["mean"] = dict(zip(names, opened["mean"].tolist(), strict=True))
        found["axes"] = [dict(zip(names, axis, strict=True)) for axis in opened["axes"].T.tolist()]
    return found
