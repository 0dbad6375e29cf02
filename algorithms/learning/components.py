"""Principal components of secret-shared rows.

The covariance is squared again and again, so that its largest eigenvalue outgrows the others: 2^12 powers in
12 products, where power iteration would take thousands of steps. What is left is the outer product of one
eigenvector with itself; its column with the largest diagonal is that vector, with its largest entry positive.
The component is then projected out, and the next one found.
"""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax import lax

from .choosing import largest

SQUARINGS = 12
TINY = 2.0**-30


@dataclass(frozen=True)
class Components:
    """What :func:`fit` returns: ``mean`` (d,), ``axes`` (d, k), ``variance`` (k,), and the ``total`` ().

    Axes have length 1 and their largest entry positive; variances divide by the rows less one. Where there is
    no variance left, axis and variance are 0.
    """

    mean: Any
    axes: Any
    variance: Any
    total: Any


def fit(matrix: Any, count: int) -> Components:
    """The first ``count`` principal components of ``matrix`` (n, d), largest variance first."""
    rows, features = matrix.shape
    mean = jnp.sum(matrix, axis=0) * (1.0 / rows)
    centred = matrix - mean
    covariance = (centred.T @ centred) * (1.0 / (rows - 1))
    total = jnp.trace(covariance)
    scaled = covariance * (1.0 / (total + TINY))

    def component(at: Any, state: Any) -> Any:
        left, axes, shares = state
        axis = _dominant(left)
        image = left @ axis
        share = axis @ image
        crossed = axis[:, None] * image[None, :]
        left = left - crossed - crossed.T + share * (axis[:, None] * axis[None, :])
        return left, axes.at[at].set(axis), shares.at[at].set(share)

    start = (scaled, jnp.zeros((count, features)), jnp.zeros(count))
    _, axes, shares = lax.fori_loop(0, count, component, start)
    return Components(mean, axes.T, shares * total, total)


def projected(matrix: Any, mean: Any, axes: Any) -> Any:
    """The components of each row of ``matrix`` (n, d): (n, k)."""
    return (matrix - mean) @ axes


def _dominant(matrix: Any) -> Any:
    """The eigenvector of the largest eigenvalue, of length 1; zeros where the matrix is 0."""

    def square(_: Any, power: Any) -> Any:
        power = power * (1.0 / (jnp.trace(power) + TINY))
        return power @ power

    power = lax.fori_loop(0, SQUARINGS, square, matrix)
    column = power @ largest(jnp.diagonal(power))
    column = column * _inverse_root(jnp.sum(column * column) + TINY)
    return column * _inverse_root(jnp.sum(column * column) + TINY)


def _inverse_root(value: Any) -> Any:
    found = lax.rsqrt(value)
    return found * (1.5 - 0.5 * value * found * found)
