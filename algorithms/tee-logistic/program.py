"""Logistic regression with an L2 penalty, by Newton's method: the minimum of scikit-learn's objective."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..enclave import modelling
from ..enclave.measures import log_loss, sigmoid

KEYS = {"penalty", "rounds", "tolerance"}


def run(inputs: Any, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the outputs; see the manifest."""
    return modelling.run(modelling.Kind("logistic", fit, scores), inputs, params)


def fit(matrix: Any, truth: Any, asked: modelling.Asked) -> tuple[dict[str, Any], None]:
    """Minimise penalty/2 |w|² + the sum of log losses; the bias is not penalised."""
    if not asked.classes or set(asked.own) - KEYS:
        raise ValueError("a logistic regression has a positive class, and penalty, rounds and tolerance")
    penalty = float(asked.own.get("penalty", 1.0))
    design = np.hstack([matrix, np.ones((len(matrix), 1))])
    held = np.append(np.full(matrix.shape[1], penalty), 0.0)
    weights = np.zeros(design.shape[1])
    for number in range(int(asked.own.get("rounds", 50))):
        scored = sigmoid(design @ weights)
        gradient = design.T @ (scored - truth) + held * weights
        curvature = (design * (scored * (1 - scored))[:, None]).T @ design + np.diag(held + 1e-12)
        step = np.linalg.solve(curvature, gradient)
        weights = _shorter(design, truth, held, weights, step, gradient)
        asked.told(number, sigmoid(design[asked.watched] @ weights))
        if np.abs(gradient).max() < float(asked.own.get("tolerance", 1e-9)) * len(truth):
            break
    return {"weights": weights[:-1].tolist(), "bias": float(weights[-1])}, None


def scores(fitted: Mapping[str, Any], matrix: Any) -> Any:
    """Score each row of the matrix."""
    return sigmoid(matrix @ np.array(fitted["weights"]) + fitted["bias"])


def _shorter(design: Any, truth: Any, held: Any, weights: Any, step: Any, gradient: Any) -> Any:
    """Halve the step until it goes down (Armijo's rule)."""
    now, slope, length = _objective(design, truth, held, weights), gradient @ step, 1.0
    while (
        _objective(design, truth, held, weights - length * step) > now - 1e-4 * length * slope
        and length > 1e-8
    ):
        length /= 2
    return weights - length * step


def _objective(design: Any, truth: Any, held: Any, weights: Any) -> float:
    return len(truth) * log_loss(truth, sigmoid(design @ weights)) + 0.5 * float(held @ weights**2)
