"""The joint function: apply the model to the chosen rows, on shares."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from ..learning import apply
from .declared import Plan, Scored


def joint(plan: Plan, scored: Scored) -> Callable[..., tuple[Any, ...]]:
    """The function of the features' arrays, then the model's."""
    names = [scored.names(each) for each in (scored.features, scored.model)]

    def predict(*arrays: Any) -> tuple[Any, ...]:
        features = dict(zip(names[0], arrays[: len(names[0])], strict=True))
        model = dict(zip(names[1], arrays[len(names[0]) :], strict=True))
        rows = slice(scored.first, scored.end)
        matrix = features["matrix"][rows]
        if "shift" in model:
            matrix = apply.as_in_training(matrix, features, model)
        score = apply.applied(scored.model["about"], model, matrix)
        carried = [features[each][rows] for each in scored.carried()]
        return (*([_rounded(plan, scored, score)] if plan.reveal else []), score, *carried)

    return predict


def _rounded(plan: Plan, scored: Scored, score: Any) -> Any:
    """Whole multiples of 10^-digits: rounded on shares, so that no more digits can be opened."""
    middle, half = scored.span
    size = 10.0**plan.digits
    return jnp.floor(score * (half * size) + (middle * size + 0.5)).astype(jnp.int64)
