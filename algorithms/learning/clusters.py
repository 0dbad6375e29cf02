"""k-means on secret-shared rows: nobody learns who is in which cluster.

Centres start as in k-means++: each is a row, drawn with a chance that grows with its squared distance from
those drawn before. The draws are public numbers, but which row they hit is secret. Several starts run side
by side, and the one that ends with the least inertia is kept.
"""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from .choosing import least


@dataclass(frozen=True)
class Grouping:
    """How rows are grouped. ``tolerance``: stop once centres moved by less, in squared distance summed."""

    clusters: int
    iterations: int
    starts: int
    seed: int
    tolerance: float


@dataclass(frozen=True)
class Clusters:
    """What :func:`fit` returns: ``centres`` (k, d), ``sizes`` (k,) in rows, ``inertia`` and ``used`` ().

    ``inertia`` is the sum of rows' squared distances from their centres, ``used`` the number of iterations
    after which the kept start stood still.
    """

    centres: Any
    sizes: Any
    inertia: Any
    used: Any


def fit(matrix: Any, grouping: Grouping) -> Clusters:
    """Group the rows of ``matrix`` (n, d). An empty cluster keeps its centre."""
    squares = jnp.sum(matrix * matrix, axis=1)
    centres = _start(matrix, squares, grouping)

    def step(_: Any, state: Any) -> Any:
        centres, going, used = state
        moved = _moved(matrix, centres, _member(_distances(matrix, squares, centres)))
        far = jnp.sum((moved - centres) ** 2, axis=(1, 2)) >= grouping.tolerance
        centres = jnp.where(going[:, None, None] > 0.5, moved, centres)
        return centres, going * far.astype(jnp.float64), used + going

    going = jnp.ones(grouping.starts)
    centres, _, used = lax.fori_loop(0, grouping.iterations, step, (centres, going, jnp.zeros_like(going)))
    distances = _distances(matrix, squares, centres)
    member = _member(distances)
    inertia = jnp.sum(member * distances, axis=(0, 2))
    best = least(inertia)
    sizes = jnp.sum(member, axis=0)
    return Clusters(
        jnp.tensordot(best, centres, axes=1), best @ sizes, jnp.sum(best * inertia), jnp.sum(best * used)
    )


def membership(matrix: Any, centres: Any) -> Any:
    """(n, k): 1 at the nearest of ``centres`` (k, d), of equally near ones at the first, else 0."""
    squares = jnp.sum(matrix * matrix, axis=1)
    return _member(_distances(matrix, squares, centres[None]))[:, 0]


def assigned(matrix: Any, centres: Any) -> Any:
    """The number of each row's cluster, from 0: (n,)."""
    return membership(matrix, centres) @ jnp.arange(centres.shape[0], dtype=jnp.float64)


def _distances(matrix: Any, squares: Any, centres: Any) -> Any:
    """(n, starts, k): squared distances."""
    flat = jnp.reshape(centres, (-1, matrix.shape[1]))
    apart = squares[:, None] - 2.0 * (matrix @ flat.T) + jnp.sum(flat * flat, axis=1)
    return jnp.reshape(apart, (-1, *centres.shape[:2]))


def _member(distances: Any) -> Any:
    return least(distances)


def _moved(matrix: Any, centres: Any, member: Any) -> Any:
    """Each cluster's mean; sums are divided by n first, so that they stay small."""
    share = 1.0 / matrix.shape[0]
    flat = jnp.reshape(member, (matrix.shape[0], -1))
    sums = jnp.reshape((flat.T @ matrix) * share, centres.shape)
    rows = jnp.sum(member, axis=0)
    empty = (rows < 0.5).astype(jnp.float64)
    means = sums / (rows * share + empty)[:, :, None]
    return jnp.where(empty[:, :, None] > 0.5, centres, means)


# --- the start


def _start(matrix: Any, squares: Any, grouping: Grouping) -> Any:
    """(starts, k, d): rows, drawn one after the other."""
    draws = np.random.Generator(np.random.PCG64(grouping.seed)).random((grouping.clusters, grouping.starts))
    rows = np.minimum((draws[0] * matrix.shape[0]).astype(int), matrix.shape[0] - 1)
    centres = [jnp.stack([matrix[row] for row in rows])]
    nearest = _distances(matrix, squares, centres[0][:, None])[:, :, 0]
    for draw in draws[1:]:
        centres.append(_drawn(nearest, draw) @ matrix)
        nearest = jnp.minimum(nearest, _distances(matrix, squares, centres[-1][:, None])[:, :, 0])
    return jnp.stack(centres, axis=1)


def _drawn(chances: Any, draw: Any) -> Any:
    """(starts, n): 1 at the row where the running sum of its chances first exceeds its share of the total."""
    running = _running_sum(chances / chances.shape[0])
    passed = (running >= running[-1] * np.asarray(draw)).astype(jnp.float64)
    return jnp.concatenate([passed[:1], passed[1:] - passed[:-1]]).T


def _running_sum(values: Any) -> Any:
    """Sums of the first 1, 2, … rows; within blocks first, so that the work is not rows times rows."""
    rows = values.shape[0]
    block = max(1, int(np.sqrt(rows)))
    blocks = -(-rows // block)
    padded = jnp.concatenate([values, jnp.zeros((blocks * block - rows, values.shape[1]))])
    parted = jnp.reshape(padded, (blocks, block, -1))
    flat = jnp.reshape(jnp.transpose(parted, (1, 0, 2)), (block, -1))
    within = jnp.reshape(np.tri(block) @ flat, (block, blocks, -1))
    before = np.tri(blocks, k=-1) @ within[-1]
    whole = jnp.transpose(within + before[None], (1, 0, 2))
    return jnp.reshape(whole, (blocks * block, -1))[:rows]
