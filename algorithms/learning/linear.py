"""Symmetric systems of equations on shares."""

from typing import Any

import jax.numpy as jnp
from jax import lax

from . import elementary

DOUBLINGS = 26


def solved(matrix: Any, right: Any) -> Any:
    """x with matrix @ x = right; (d, d) symmetric and not negative, right (d,), both of size about 1.

    The inverse is found by Newton's and Schulz's iteration, X <- X (2 I - A X), on the matrix over its trace:
    two products of matrices a turn and no division, so a hundred rounds rather than thousands. It is right
    for eigenvalues down to about 2^-24 of the trace; smaller ones, of columns that say the same, are left
    near zero in the solution, where elimination would divide by zero.
    """
    size = matrix.shape[0]
    identity = jnp.eye(size)
    smaller = elementary.reciprocal(jnp.trace(matrix))
    scaled = matrix * smaller

    def doubled(_turn: Any, found: Any) -> Any:
        return found @ (2.0 * identity - scaled @ found)

    inverse = lax.fori_loop(0, DOUBLINGS, doubled, identity + 0.0 * scaled)
    return inverse @ (right * smaller)
