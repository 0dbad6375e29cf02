"""What the requester makes of an opened model: named coefficients, on both scales, and a scorecard."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..learning import columns
from .asked import Asked, Points

NUMBERS = ("loss", "fits", "iterations", "converged", "held_out")
Facts = Mapping[str, Any]


def finished(asked: Asked, about: Facts, opened: Mapping[str, Any]) -> dict[str, Any]:
    """The summary, and where they were asked for and the model is of use, coefficients and points."""
    numbers = {name: float(np.ravel(opened[name])[0]) for name in opened if name in NUMBERS}
    fits, unit = numbers["fits"] > 0.5, _loss_unit(about["target"])
    found: dict[str, Any] = {
        "rows": about["rows"],
        "train": about["train"],
        "family": asked.how.family,
        "iterations": round(numbers.get("iterations", asked.how.iterations)),
        "loss": numbers["loss"] * unit,
    }
    if "held_out" in opened:
        found["held_out_loss"] = numbers["held_out"] * unit
    stopped = numbers.get("converged", 1.0) > 0.5
    if "converged" in opened:
        found["converged"] = stopped and fits
    if not (stopped and fits):
        found["reason"] = "iterations_used_up" if fits else "no_better_than_an_intercept"
    if not asked.coefficients or not fits:
        return found
    weights, intercept, encoded = _encoded(about, opened)
    found |= _coefficients(about, weights, intercept, encoded)
    if asked.points:
        found["scorecard"] = scorecard(asked.points, about, *encoded, np.asarray(opened["woe"]))
    return found


def _loss_unit(target: Facts) -> float:
    """A number's half squared error, in halves of its range, becomes a mean squared error."""
    return float(2.0 * ((target["high"] - target["low"]) / 2) ** 2) if target["kind"] == "number" else 1.0


def _encoded(about: Facts, opened: Mapping[str, Any]) -> tuple[Any, float, tuple[Any, float]]:
    """Weights and intercept as they were fitted, and those of the features before they were standardised."""
    weights, intercept = np.asarray(opened["weights"]), float(np.ravel(opened["intercept"])[0])
    if not about["standardise"]:
        return weights, intercept, (weights, intercept)
    scaled = weights * np.asarray(opened["scale"])
    return weights, intercept, (scaled, intercept - float(scaled @ np.asarray(opened["shift"])))


def _coefficients(about: Facts, weights: Any, intercept: float, encoded: tuple[Any, float]) -> dict[str, Any]:
    """Coefficients as fitted, and in the units of the columns, and of the target if it is a number."""
    known, target = columns.declared(about), about["target"]
    own = {name: each for name, each in known.items() if each.kind == "number"}
    middles = np.array([own[name].middle if name in own else 0.0 for name in about["names"]])
    halves = np.array([own[name].half if name in own else 1.0 for name in about["names"]])
    numeric = target["kind"] == "number"
    unit = (target["high"] - target["low"]) / 2 if numeric else 1.0
    zero = (target["high"] + target["low"]) / 2 if numeric else 0.0
    original = encoded[0] / halves
    constant = encoded[1] - float(original @ middles)
    rows = zip(about["names"], weights.tolist(), (original * unit).tolist(), strict=True)
    return {
        "coefficients": [{"feature": name, "fitted": one, "original": other} for name, one, other in rows],
        "intercept": {"fitted": intercept, "original": zero + unit * constant},
    }


def scorecard(points: Points, about: Facts, weights: Any, intercept: float, woe: Any) -> dict[str, Any]:
    """Points of every bin, and those that everybody has; more points say that the event is less likely."""
    table, at = [], 0
    for (name, each), weight in zip(columns.declared(about).items(), weights.tolist(), strict=True):
        for key, evidence in zip(each.keys, woe[at : at + len(each.keys)].tolist(), strict=True):
            row = {"column": name, "bin": key, "woe": evidence, "points": -points.factor * weight * evidence}
            table.append(row)
        at += len(each.keys)
    return {"base_points": points.offset - points.factor * intercept, "bins": table}
