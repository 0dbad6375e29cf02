"""k-means over features of several parties: nobody learns who is in which cluster.

``learning/clusters`` groups on shares; here settings are read, small clusters suppressed, results named.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..learning import training

Params = Mapping[str, Any]
SETTINGS: dict[str, training.Within | training.OneOf] = {
    "clusters": training.Within(2, 32, 3),
    "iterations": training.Within(1, 100, 20),
    "starts": training.Within(1, 10, 3),
    "seed": training.Within(0, 2**32 - 1, 0),
    "tolerance": training.Within(0, 1, 1e-4, real=True),
    "min_group": training.Within(2, 1 << 20, 10),
    "reveal": training.OneOf(("summary", "centres")),
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
    """Return the number of training rows; refuse features that cannot be grouped."""
    asked = training.settings(params, SETTINGS)
    numbers = max(asked["clusters"] * asked["starts"], len(training.features(params)["names"]))
    return training.unweighted_rows(params, max(asked["clusters"], asked["min_group"]), numbers)


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
    from ..learning import clusters  # only compute parties need jax: opening a result does not

    facts, asked = training.features(params), training.settings(params, SETTINGS)
    names = ("clusters", "iterations", "starts", "seed", "tolerance")
    grouping = clusters.Grouping(*(asked[name] for name in names))

    def joint(*arrays: Any) -> tuple[Any, ...]:
        taken = training.by_name(params, arrays)
        found = clusters.fit(taken["matrix"][: facts["train"]], grouping)
        enough = (found.sizes >= asked["min_group"] - 0.5).astype(found.sizes.dtype)
        shown = {
            "sizes": found.sizes * enough,
            "inertia": found.inertia,
            "used": found.used,
            "centres": found.centres * enough[:, None],
        }
        kept = [taken[name] for name, *_ in training.carried(params)]
        return (*(shown[each] for each in outputs(params)), found.centres, *kept)

    return joint


def outputs(params: Params) -> list[str]:
    """Return the names of what the requester opens."""
    revealed = training.settings(params, SETTINGS)["reveal"] == "centres"
    return ["sizes", "inertia", "used", *(["centres"] if revealed else [])]


def gives(params: Params, held: Mapping[str, int]) -> dict[str, Any]:
    """Return what is handed on: the centres, those of small clusters as well."""
    asked = training.settings(params, SETTINGS)
    shape = [asked["clusters"], len(training.features(params)["names"])]
    return training.model(params, {"family": "k-means", "link": None}, {"centres": shape})


def finish(params: Params, rows: int, opened: Mapping[str, Any]) -> dict[str, Any]:
    """Name what was opened; of clusters of fewer than ``min_group`` rows it is nothing."""
    names = training.features(params)["names"]
    found = []
    for at, size in enumerate(opened["sizes"]):
        count = round(float(size))
        cluster: dict[str, Any] = {"rows": count or None, "suppressed": count == 0}
        if "centres" in opened:
            centre = dict(zip(names, opened["centres"][at].tolist(), strict=True))
            cluster["centre"] = centre if count else None
        found.append(cluster)
    inertia, iterations = float(opened["inertia"]), round(float(opened["used"]))
    return {"rows": rows, "clusters": found, "inertia": inertia, "iterations": iterations}
