"""Generalised linear models, fitted on shares: logistic, linear and Poisson regression.

The objective is the (weighted) mean loss over the training rows + l2 / 2 x the sum of squared weights
without the intercept: scikit-learn's LogisticRegression(C=1 / (l2 rows)), Ridge(alpha=l2 rows) and
PoissonRegressor(alpha=l2).
Nothing secret decides how long it runs: once it has converged, its state stays as it is.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from . import elementary, linear

LARGEST_EXPONENT = 8.0
"""A Poisson mean is at most e^8; counts are at most 1000."""
LEAST_SHARE = 1e-6
"""Fewer events, or fewer others, are none: one row of the 2^20 that fit is about as many."""
ROUNDING = 1e-9
"""An objective that rises by less does not rise: it is known to about a hundredth of that. Close to the best
weights a right step lowers it by less than is known, and would be taken by chance alone."""
LEAST_LOSS = -1e-5
"""A mean loss is not negative but for rounding; one that is has left the range of numbers."""


@dataclass(frozen=True)
class Settings:
    """How to fit. ``iterations`` are Newton's steps (irls), or epochs (sgd).

    ``best`` (sgd): keep the weights after the epoch with the least loss over the held-out rows.
    """

    family: str
    method: str
    iterations: int
    l2: float = 0.0
    tolerance: float = 1e-5
    learning_rate: float = 0.1
    momentum: float = 0.9
    batch: int = 64
    best: bool = False


class Fitted(NamedTuple):
    """What fitting gives; all secret. ``fits``: the loss is below that of an intercept alone.

    No model fits events of one class. Where the best weights are kept, ``iterations`` is what was asked for,
    and ``converged`` 0: nothing says which epoch it was.
    """

    weights: Any
    intercept: Any
    loss: Any
    held_out: Any
    iterations: Any
    converged: Any
    fits: Any


class _Rows(NamedTuple):
    """``weight`` is ``None`` where all rows weigh the same."""

    matrix: Any
    target: Any
    weight: Any


class _Point(NamedTuple):
    """Weights, and what follows of them over the training rows.

    ``loss`` is the mean of the losses, ``objective`` twice that and the penalty, of which ``gradient`` and
    ``curvature`` are the halves of the derivatives.
    """

    beta: Any
    loss: Any
    objective: Any
    gradient: Any
    curvature: Any


class _Ended(NamedTuple):
    """How a method ended; ``active``: it would have gone on, a truth value."""

    beta: Any
    loss: Any
    iterations: Any
    active: Any


class _Kept(NamedTuple):
    """A descent under way, and the best weights so far."""

    beta: Any
    speed: Any
    best: Any
    loss: Any


def fit(matrix: Any, target: Any, weight: Any, train: int, how: Settings) -> Fitted:
    """Fit on the first ``train`` rows of ``matrix`` (n, d), ``target`` (n,), ``weight`` (n,) or ``None``.

    ``weights`` is (d,), ``intercept`` (1,); losses (of the rows that are not for training, where there are
    any), the number of iterations, and whether it converged are numbers. Losses are without the penalty.
    """
    rows = matrix.shape[0]
    full = jnp.concatenate([matrix, jnp.ones((rows, 1), dtype=matrix.dtype)], axis=1)
    training = _Rows(full[:train], target[:train], None if weight is None else weight[:train])
    held = _Rows(full[train:], target[train:], None if weight is None else weight[train:])
    if how.best:
        ended = _best_of_descent(training, held, how)
    else:
        ended = (_newton if how.method == "irls" else _descent)(training, how)
    beta, loss = ended.beta, ended.loss
    held_out = _loss(held, beta, how.family) if train < rows else jnp.zeros_like(loss)
    fits = (loss < _null_loss(training, how.family)).astype(loss.dtype)
    stopped = jnp.logical_not(ended.active).astype(loss.dtype)
    return Fitted(beta[:-1], beta[-1:], loss, held_out, ended.iterations, stopped, fits)


# --- families


def _scored(family: str, rows: _Rows, beta: Any) -> tuple[Any, Any, Any]:
    """What each row predicts beyond its target, the derivative of that by its score, its loss; weighted."""
    score = rows.matrix @ beta
    if family == "logistic":
        found = elementary.logistic(score, rows.target)
    elif family == "poisson":
        above, below = jnp.stack([score - LARGEST_EXPONENT, -LARGEST_EXPONENT - score]) > 0
        cut = jnp.where(above, LARGEST_EXPONENT, jnp.where(below, -LARGEST_EXPONENT, score))
        mean = elementary.exp(cut)
        found = mean - rows.target, mean, mean - rows.target * cut
    else:
        apart = score - rows.target
        found = apart, jnp.ones_like(apart), 0.5 * apart * apart
    if rows.weight is None:
        return found
    apart, slope, loss = jnp.stack(found) * rows.weight
    return apart, slope, loss


def _per_weight(rows: _Rows, mean: Any) -> Any:
    """A weighted sum over the number of rows, as one over the sum of weights."""
    return mean if rows.weight is None else mean * elementary.reciprocal(_averaged(rows.weight))


def _averaged(values: Any) -> Any:
    return jnp.sum(values) / values.shape[0]


def _loss(rows: _Rows, beta: Any, family: str) -> Any:
    return _per_weight(rows, _averaged(_scored(family, rows, beta)[2]))


def _null_loss(rows: _Rows, family: str) -> Any:
    """The least loss that an intercept alone reaches; below all others where events are of one class."""
    target = rows.target if rows.weight is None else rows.target * rows.weight
    mean = _per_weight(rows, _averaged(target))
    if family == "logistic":
        both = (mean > LEAST_SHARE) & (mean < 1.0 - LEAST_SHARE)
        shares = jnp.clip(jnp.stack([mean, 1.0 - mean]), LEAST_SHARE, 1.0 - LEAST_SHARE)
        return jnp.where(both, -jnp.sum(shares * jnp.log(shares)), -1.0)
    if family == "poisson":
        return mean - mean * jnp.log(jnp.maximum(mean, 1e-6))
    apart = rows.target - mean
    squares = apart * apart if rows.weight is None else apart * apart * rows.weight
    return 0.5 * _per_weight(rows, _averaged(squares))


def _start(rows: _Rows, family: str) -> Any:
    """All weights zero; a Poisson intercept at the logarithm of the mean."""
    beta = 0.0 * rows.matrix[0]
    if family != "poisson":
        return beta
    target = rows.target if rows.weight is None else rows.target * rows.weight
    mean = jnp.maximum(_averaged(target), 1e-3)
    at_intercept = jnp.arange(rows.matrix.shape[1]) == rows.matrix.shape[1] - 1
    return beta + at_intercept.astype(beta.dtype) * jnp.log(mean)


def _penalty(rows: _Rows, l2: float) -> Any:
    """The penalty of each place of beta: none for the intercept, which comes last."""
    places = jnp.arange(rows.matrix.shape[1]) < rows.matrix.shape[1] - 1
    return l2 * places.astype(rows.matrix.dtype)


# --- methods


def _newton(rows: _Rows, how: Settings) -> _Ended:
    """Newton's steps (reweighted least squares); a step that would raise the loss is quartered.

    Every point is looked at once, and what is known of it kept until there is a better one. The slope of a
    logistic or linear mean is nowhere larger than at the start, and so is no curvature: the scale of the
    first one does for all.
    """
    first = _point(rows, _start(rows, how.family), how)
    scale = linear.scale_of(first.curvature)

    def turn(_turn: Any, now: tuple[_Point, Any, Any, Any]) -> tuple[_Point, Any, Any, Any]:
        point, step, iterations, active = now
        own = linear.scale_of(point.curvature) if how.family == "poisson" else scale
        change = linear.solved(point.curvature, point.gradient, own)
        tried = _point(rows, point.beta - step * change, how)
        falls = point.objective - tried.objective + ROUNDING
        larger = jnp.concatenate([_moves(change, how.tolerance), falls[None]]) > 0
        moves, better = jnp.any(larger[:-1]), larger[-1]
        point, step = _chosen(active & better, (tried, jnp.ones_like(step)), (point, 0.25 * step))
        return point, step, jnp.where(active, iterations + 1.0, iterations), active & moves

    nothing = 0.0 * first.loss
    start = (first, nothing + 1.0, nothing, nothing == 0.0)
    point, _, iterations, active = lax.fori_loop(0, how.iterations, turn, start)
    return _Ended(point.beta, _per_weight(rows, point.loss), iterations, active)


def _point(rows: _Rows, beta: Any, how: Settings) -> _Point:
    apart, slope, losses = _scored(how.family, rows, beta)
    curvature = rows.matrix.T @ (rows.matrix * slope[:, None])
    sums = rows.matrix.T @ jnp.stack([apart, losses], axis=1)  # the column of the intercept adds losses up
    found = jnp.concatenate([curvature, sums], axis=1) / rows.matrix.shape[0]
    penalty, loss = _penalty(rows, how.l2), found[-1, -1]
    shrinking = penalty * beta
    return _Point(
        beta,
        loss,
        loss + loss + shrinking @ beta,
        found[:, -2] + shrinking,
        found[:, :-2] + jnp.diag(penalty),
    )


def _chosen(first: Any, one: Any, other: Any) -> Any:
    """``one`` where ``first`` is true, else ``other``: nests of arrays, chosen in one round."""
    ones, shape = jax.tree_util.tree_flatten(one)
    others = jax.tree_util.tree_leaves(other)
    flat = [jnp.concatenate([jnp.ravel(each) for each in given]) for given in (ones, others)]
    chosen, at, found = jnp.where(first, *flat), 0, []
    for each in ones:
        found.append(jnp.reshape(chosen[at : at + each.size], each.shape))
        at += each.size
    return jax.tree_util.tree_unflatten(shape, found)


def _moves(change: Any, tolerance: float) -> Any:
    """Numbers above zero where a weight changes by more than ``tolerance``, up or down."""
    return jnp.concatenate([change, -change]) - tolerance


def _descent(rows: _Rows, how: Settings) -> _Ended:
    """Gradient descent until no weight moves any more."""
    epoch, start = _epoch(rows, how), _start(rows, how.family)

    def turn(_turn: Any, now: tuple[Any, Any, Any, Any]) -> tuple[Any, Any, Any, Any]:
        beta, speed, iterations, active = now
        after = epoch(beta, speed)
        moves = jnp.any(_moves(after[0] - beta, how.tolerance) > 0)
        chosen = _chosen(active, (*after, iterations + 1.0), (beta, speed, iterations))
        return *chosen, active & moves

    nothing = 0.0 * start[0]
    begun = (start, 0.0 * start, nothing, nothing == 0.0)
    beta, _, iterations, active = lax.fori_loop(0, how.iterations, turn, begun)
    return _Ended(beta, _loss(rows, beta, how.family), iterations, active)


def _best_of_descent(rows: _Rows, held: _Rows, how: Settings) -> _Ended:
    """Gradient descent through all epochs; what stays are the weights with the least loss over ``held``.

    The start counts as well. Which epoch it was is a secret, compared and selected on shares.
    """
    epoch, start = _epoch(rows, how), _start(rows, how.family)

    def turn(_turn: Any, state: _Kept) -> _Kept:
        beta, speed = epoch(state.beta, state.speed)
        loss = _loss(held, beta, how.family)
        better = jnp.all(jnp.stack([state.loss - loss, loss - LEAST_LOSS]) > 0)
        return _Kept(beta, speed, *_chosen(better, (beta, loss), (state.best, state.loss)))

    first = _Kept(start, 0.0 * start, start, _loss(held, start, how.family))
    found: _Kept = lax.fori_loop(0, how.iterations, turn, first)
    nothing = 0.0 * found.loss
    loss = _loss(rows, found.best, how.family)
    return _Ended(found.best, loss, nothing + how.iterations, nothing == 0.0)


def _epoch(rows: _Rows, how: Settings) -> Callable[[Any, Any], tuple[Any, Any]]:
    """One pass of gradient descent with momentum over batches of rows in their order: weights and speed."""
    batch, penalty = min(how.batch, rows.matrix.shape[0]), _penalty(rows, how.l2)
    batches = -(-rows.matrix.shape[0] // batch)
    pieces = _Rows(*(_in_batches(each, batches, batch) for each in rows))
    share = rows.matrix.shape[0] / batches

    def step(at: Any, moving: tuple[Any, Any]) -> tuple[Any, Any]:
        beta, speed = moving
        part = jax.tree_util.tree_map(lambda each: lax.dynamic_index_in_dim(each, at, keepdims=False), pieces)
        apart, _, _ = _scored(how.family, part, beta)
        gradient = part.matrix.T @ apart / share + penalty * beta
        speed = how.momentum * speed - how.learning_rate * gradient
        return beta + speed, speed

    def epoch(beta: Any, speed: Any) -> tuple[Any, Any]:
        found: tuple[Any, Any] = lax.fori_loop(0, batches, step, (beta, speed))
        return found

    return epoch


def _in_batches(values: Any, batches: int, batch: int) -> Any:
    """The rows in batches; rows of zeros, which change no gradient, fill the last one."""
    if values is None:
        return None
    missing = batches * batch - values.shape[0]
    filled = jnp.concatenate([values, jnp.zeros((missing, *values.shape[1:]), dtype=values.dtype)])
    return jnp.reshape(filled, (batches, batch, *values.shape[1:]))
