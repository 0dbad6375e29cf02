"""Apply a model of any family to a matrix of features, both secret."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from . import clusters, components, elementary, trees

Arrays = Mapping[str, Any]

TIE = 2.0**-30  # sharing moves numbers by about 2^-39: a feature this close to a threshold is not below it
LARGEST_EXPONENT = 16.0


def applied(about: Mapping[str, Any], model: Arrays, matrix: Any) -> Any:
    """The model's scores of ``matrix`` (n, d): (n,), of ``pca`` (n, k)."""
    family = about["family"]
    if family == "k-means":
        return clusters.assigned(matrix, model["centres"])
    if family == "pca":
        return components.projected(matrix, model["mean"], model["axes"])
    return linked(about["link"], _margin(family, model, matrix))


def _margin(family: str, model: Arrays, matrix: Any) -> Any:
    if family == "glm":
        return matrix @ model["weights"] + model["intercept"][0]
    return trees.margin(matrix, model["selector"], model["threshold"] - TIE, model["leaf"], model["base"])


def linked(link: str, margin: Any) -> Any:
    """From the sum of effects to a probability (``logit``), a rate (``log``) or a number (``identity``)."""
    if link == "logit":
        return elementary.sigmoid(margin)
    if link == "log":
        return elementary.exp(jnp.minimum(jnp.maximum(margin, -LARGEST_EXPONENT), LARGEST_EXPONENT))
    return margin


def as_in_training(matrix: Any, own: Arrays, model: Arrays) -> Any:
    """Standardise ``matrix`` (n, d) as the model's training rows were.

    ``own`` holds ``shift`` and ``scale`` if the matrix is standardised by itself; that is undone. A column
    that does not vary here is at its shift; one that did not vary in training is 0.
    """
    if "shift" not in own:
        return (matrix - model["shift"]) * model["scale"]
    varies = (own["scale"] > 0).astype(jnp.float64)
    width = varies * elementary.reciprocal(own["scale"] + 1.0 - varies)
    return matrix * (width * model["scale"]) + (own["shift"] - model["shift"]) * model["scale"]
