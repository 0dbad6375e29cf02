"""A multi-layer perceptron: ReLU layers, Adam, an L2 penalty. Its start and its batches come from a seed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..enclave import modelling
from ..enclave.measures import sigmoid

KEYS = {"layers", "rounds", "rate", "batch", "penalty"}
FIRST, SECOND, TINY = 0.9, 0.999, 1e-8
"""Adam's constants (Kingma and Ba, 2015)."""


def run(inputs: Any, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the outputs; see the manifest."""
    return modelling.run(modelling.Kind("mlp", fit, scores), inputs, params)


def fit(matrix: Any, truth: Any, asked: modelling.Asked) -> tuple[dict[str, Any], None]:
    """Train, and return the model as a JSON value."""
    if set(asked.own) - KEYS:
        raise ValueError("a perceptron has layers, rounds, rate, batch and penalty")
    sizes = [matrix.shape[1], *map(int, asked.own.get("layers", [16])), 1]
    layers = [_start(sizes[at], sizes[at + 1], asked.chance) for at in range(len(sizes) - 1)]
    moments = [[np.zeros_like(each), np.zeros_like(each)] for layer in layers for each in layer]
    steps, batch = 0, int(asked.own.get("batch", 32))
    for number in range(int(asked.own.get("rounds", 50))):
        order = asked.chance.permutation(len(truth))
        for at in range(0, len(truth), batch):
            rows = order[at : at + batch]
            slopes = _slopes(
                layers, matrix[rows], truth[rows], asked.classes, float(asked.own.get("penalty", 1e-4))
            )
            steps += 1
            _adam(layers, slopes, moments, steps, float(asked.own.get("rate", 0.01)))
        asked.told(number, _forward(layers, matrix[asked.watched], asked.classes)[-1][:, 0])
    found = [{"weights": each.tolist(), "bias": bias.tolist()} for each, bias in layers]
    return {"layers": found, "classes": asked.classes}, None


def scores(fitted: Mapping[str, Any], matrix: Any) -> Any:
    """Score each row of the matrix."""
    layers = [(np.array(each["weights"]), np.array(each["bias"])) for each in fitted["layers"]]
    return _forward(layers, matrix, fitted["classes"])[-1][:, 0]


def _start(inside: Any, outside: Any, chance: Any) -> Any:
    """Glorot and Bengio's uniform start (2010)."""
    bound = np.sqrt(6.0 / (inside + outside))
    return [chance.uniform(-bound, bound, (inside, outside)), np.zeros(outside)]


def _forward(layers: Any, matrix: Any, classes: bool) -> Any:
    found = [matrix]
    for at, (weights, bias) in enumerate(layers):
        value = found[-1] @ weights + bias
        last = at == len(layers) - 1
        found.append((sigmoid(value) if classes else value) if last else np.maximum(value, 0.0))
    return found


def _slopes(layers: Any, matrix: Any, truth: Any, classes: bool, penalty: Any) -> Any:
    """Gradients of the mean loss: of log loss by the sigmoid, and of half the squared error, alike."""
    found = _forward(layers, matrix, classes)
    error = (found[-1] - truth[:, None]) / len(truth)
    slopes: list[Any] = []
    for at in reversed(range(len(layers))):
        weights = layers[at][0]
        slopes[:0] = [found[at].T @ error + penalty * weights / len(truth), error.sum(axis=0)]
        error = (error @ weights.T) * (found[at] > 0)
    return slopes


def _adam(layers: Any, slopes: Any, moments: Any, steps: Any, rate: Any) -> None:
    places = [each for layer in layers for each in layer]
    for value, slope, (first, second) in zip(places, slopes, moments, strict=True):
        first += (1 - FIRST) * (slope - first)
        second += (1 - SECOND) * (slope**2 - second)
        value -= rate * (first / (1 - FIRST**steps)) / (np.sqrt(second / (1 - SECOND**steps)) + TINY)
