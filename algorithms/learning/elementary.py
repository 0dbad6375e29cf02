"""Exponential, sigmoid, logarithm's partners and reciprocals, to about 1e-7 on shares.

The engine's own exponential is off by a quarter at e^-12, its sigmoid by 9e-4 and its inverse root by 8e-5,
so they are put together here from sums and products. Logarithm and reciprocal of the engine are right to
1e-7 and used as they are, but not for every row: each takes as many rounds as twenty products.
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

STEEPEST = 16.0
"""Beyond it a sigmoid is 0 or 1 to seven digits; exponents are cut there."""
EXPONENTIAL = (
    1.0, 0.99999999961962, 0.49999999996208, 0.16666668695017, 0.041666668691606, 0.0083330413848444,
    0.001388859727639, 0.00019996809068188, 2.4957013212972e-05,
)  # fmt: skip
"""e^x on [-1/2, 1/2], relative error 4e-11. All polynomials here interpolate at Chebyshev's points."""
ROOT = 0.6065306597126334
"""e^-1/2."""
ONE_OVER = (
    0.99999999977671, -0.99999992430599, 0.99999569794809, -0.99990271806768, 0.99884009062093,
    -0.99161422211525, 0.96008315163516, -0.86791538578102, 0.6835798151968, -0.43057016018205,
    0.19620328126117, -0.056191876996309, 0.0074922511210808,
)  # fmt: skip
"""1 / (1 + x) on [0, 1], error 3e-10."""
LOGARITHM = (
    2.3693380590828e-11, 0.99999999197017, -0.4999995442575, 0.33332305414315, -0.24987792773701,
    0.19912259468135, -0.16252512660545, 0.12931850640206, -0.09314104450711, 0.055280892102299,
    -0.024233374789429, 0.0067659521547075, -0.00088679303343479,
)  # fmt: skip
"""ln(1 + x) on [0, 1], error 3e-11."""


def exp(values: Any) -> Any:
    """e^x for x from -16 to 16, relative error below 1e-5 (2e-8 from -8 on); cut others first."""
    return _squared(_polynomials([EXPONENTIAL], values * 2.0**-5)[0], 5)


def _squared(values: Any, times: int) -> Any:
    for _ in range(times):
        values = values * values
    return values


def sigmoid(values: Any) -> Any:
    """1 / (1 + e^-x), absolute error below 1e-6 for every x."""
    positive, tail = _sign_and_tail(values)
    (larger,) = _polynomials([ONE_OVER], tail)
    return jnp.where(positive, larger, 1.0 - larger)


def logistic(values: Any, target: Any) -> tuple[Any, Any, Any]:
    """Of s = 1 / (1 + e^-x): s - target, s (1 - s), and ln(1 + e^x) - target x; errors below 1e-6."""
    positive, tail = _sign_and_tail(values)
    larger, logarithm = _polynomials([ONE_OVER, LOGARITHM], tail)
    slope, share = jnp.stack([larger, target]) * jnp.stack([1.0 - larger, values])
    whole = jnp.where(positive, jnp.stack([larger, values]), jnp.stack([1.0 - larger, 0.0 * values]))
    return whole[0] - target, slope, whole[1] + logarithm - share


def _sign_and_tail(values: Any) -> tuple[Any, Any]:
    """Whether x > 0, and e^-|x|, with |x| cut at ``STEEPEST``. All comparisons are made at once."""
    small = values / STEEPEST
    positive, above, below = jnp.stack([small, small - 1.0, -1.0 - small]) > 0
    negative = jnp.where(above | below, -1.0, jnp.where(positive, -small, small))
    centred = [ROOT * each for each in EXPONENTIAL]
    return positive, _squared(_polynomials([centred], negative + 0.5)[0], 4)


def _polynomials(coefficients: Sequence[Sequence[float]], values: Any) -> Any:
    """Polynomials of the same values, all of one degree that 4 divides, coefficients ascending.

    The powers are made in as few rounds as there are, each a product of many numbers at once: x^2, then x^3
    and x^4, then all higher ones. Their sum is one product with a public matrix.
    """
    table = np.array(coefficients)
    flat = jnp.reshape(values, (1, -1))
    two = jnp.concatenate([flat, flat * flat])
    four = jnp.concatenate([two, two[1:] * two])
    steps = [jnp.ones_like(flat), four[3:]]
    while 4 * len(steps) < table.shape[1] - 1:
        steps.append(steps[-1] * four[3:])
    powers = jnp.reshape(jnp.stack(steps) * four[None], (-1, flat.shape[1]))
    found = jnp.tensordot(table[:, 1:], powers, 1) + table[:, :1]
    return jnp.reshape(found, (len(table), *values.shape))


def reciprocal(values: Any) -> Any:
    """1 / x for x > 0, relative error below 1e-7 for x from 1e-3 to 1e4."""
    return 1.0 / values


def inverse_root(values: Any) -> Any:
    """1 / sqrt(x) for x from 1e-6 to 1e4, relative error of about 1e-7, at 1e-6 of 1e-6."""
    found = 1.0 / jnp.sqrt(values)
    return found * (1.5 - 0.5 * (values * found) * found)
