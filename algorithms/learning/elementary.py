"""Exponential, sigmoid, logarithm's partners and reciprocals, to about 1e-7 on shares.

The engine's own exponential is off by a quarter at e^-12, its sigmoid by 9e-4 and its inverse root by 8e-5,
so they are put together here from sums and products, and refined by Newton's steps. Logarithm and
reciprocal of the engine are right to 1e-7 and used as they are.
"""

from typing import Any

import jax.numpy as jnp

SQUARINGS = 6
STEEPEST = 16.0
"""Beyond it a sigmoid is 0 or 1 to seven digits; exponents are cut there."""
TAYLOR = (1 / 720, 1 / 120, 1 / 24, 1 / 6, 1 / 2, 1.0, 1.0)


def exp(values: Any) -> Any:
    """e^x for x from -16 to 16, relative error below 1e-5 (1e-8 from -8 on); cut others first."""
    small = values * 2.0**-SQUARINGS
    found = jnp.full_like(small, TAYLOR[0])
    for each in TAYLOR[1:]:
        found = found * small + each
    for _ in range(SQUARINGS):
        found = found * found
    return found


def sigmoid(values: Any) -> Any:
    """1 / (1 + e^-x), absolute error below 1e-6 for every x."""
    return _sigmoid_and_tail(values)[0]


def sigmoid_and_softplus(values: Any) -> tuple[Any, Any]:
    """1 / (1 + e^-x) and ln(1 + e^x), absolute errors below 1e-6 for every x."""
    chance, positive, tail = _sigmoid_and_tail(values)
    return chance, values * positive + jnp.log(1.0 + tail)


def _sigmoid_and_tail(values: Any) -> tuple[Any, Any, Any]:
    """The sigmoid, 1.0 where x > 0, and e^-|x|."""
    positive = (values > 0).astype(values.dtype)
    size = values * (2.0 * positive - 1.0)
    tail = exp(-jnp.minimum(size, STEEPEST))
    larger = _reciprocal_from_one_to_two(1.0 + tail)
    return 1.0 - larger + positive * (2.0 * larger - 1.0), positive, tail


def _reciprocal_from_one_to_two(values: Any) -> Any:
    found = 24.0 / 17.0 - 8.0 / 17.0 * values
    for _ in range(3):
        found = found * (2.0 - values * found)
    return found


def reciprocal(values: Any) -> Any:
    """1 / x for x > 0, relative error below 1e-7 for x from 1e-3 to 1e4."""
    return 1.0 / values


def inverse_root(values: Any) -> Any:
    """1 / sqrt(x) for x from 1e-6 to 1e4, relative error of about 1e-7, at 1e-6 of 1e-6."""
    found = 1.0 / jnp.sqrt(values)
    return found * (1.5 - 0.5 * (values * found) * found)
