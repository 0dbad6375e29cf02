"""Choose among secret values: the choice stays secret too, as ones and zeros."""

from typing import Any

import jax.numpy as jnp


def least(values: Any) -> Any:
    """Ones where the last axis has its least value, else zeros; of equal ones the first.

    A tournament: values are compared in pairs, and on the way back each winner keeps the one that its
    pair was given. That takes one comparison and two products for each value, and no secret index.
    """
    count = values.shape[-1]
    if count == 1:
        return jnp.ones_like(values)
    pairs = count // 2
    left, right = values[..., 0 : 2 * pairs : 2], values[..., 1 : 2 * pairs : 2]
    first = left <= right
    best = jnp.where(first, left, right)
    given = least(jnp.concatenate([best, values[..., 2 * pairs :]], axis=-1))
    to_left = jnp.where(first, given[..., :pairs], 0.0)
    both = jnp.stack([to_left, given[..., :pairs] - to_left], axis=-1)
    spread = jnp.reshape(both, (*values.shape[:-1], 2 * pairs))
    return jnp.concatenate([spread, given[..., pairs:]], axis=-1)


def largest(values: Any) -> Any:
    """Ones where the last axis has its largest value, else zeros; of equal ones the first."""
    return least(-values)
