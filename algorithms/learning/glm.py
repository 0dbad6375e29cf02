"""Generalised linear models, fitted on shares: logistic, linear and Poisson regression.

The objective is the (weighted) mean loss over the training rows + l2 / 2 x the sum of squared weights
without the intercept: scikit-learn's LogisticRegression(C=1 / (l2 rows)), Ridge(alpha=l2 rows) and
PoissonRegressor(alpha=l2).
Nothing secret decides how long it runs: once it has converged, its state stays as it is.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax

from . import elementary, linear

LARGEST_EXPONENT = 8.0
"""A Poisson mean is at most e^8; counts are at most 1000."""
LEAST_SHARE = 1e-6
"""Fewer events, or fewer others, are none: one row of the 2^20 that fit is about as many."""
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
    matrix: Any
    target: Any
    weight: Any


class _State(NamedTuple):
    beta: Any
    loss: Any
    step: Any
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
    weight = jnp.ones(rows, dtype=matrix.dtype) if weight is None else weight
    training = _Rows(full[:train], target[:train], weight[:train])
    held = _Rows(full[train:], target[train:], weight[train:])
    if how.best:
        state = _best_of_descent(training, held, how)
    else:
        state = (_newton if how.method == "irls" else _descent)(training, how)
    loss = _loss(training, state.beta, how.family)
    held_out = _loss(held, state.beta, how.family) if train < rows else jnp.zeros_like(loss)
    fits = (loss < _null_loss(training, how.family)).astype(loss.dtype)
    stopped = 1.0 - state.active
    return Fitted(state.beta[:-1], state.beta[-1:], loss, held_out, state.iterations, stopped, fits)


# --- families


def _mean_and_loss(family: str, score: Any, target: Any) -> tuple[Any, Any, Any]:
    """What each row's score predicts, its derivative, and each row's loss."""
    if family == "logistic":
        chance, integral = elementary.sigmoid_and_softplus(score)
        return chance, chance * (1.0 - chance), integral - target * score
    if family == "poisson":
        cut = jnp.clip(score, -LARGEST_EXPONENT, LARGEST_EXPONENT)
        mean = elementary.exp(cut)
        return mean, mean, mean - target * cut
    apart = score - target
    return score, jnp.ones_like(score), 0.5 * apart * apart


def _averaged(values: Any, weight: Any) -> Any:
    return jnp.sum(values * weight) / weight.shape[0]


def _loss(rows: _Rows, beta: Any, family: str) -> Any:
    _, _, losses = _mean_and_loss(family, rows.matrix @ beta, rows.target)
    share = _averaged(jnp.ones_like(losses), rows.weight)
    return _averaged(losses, rows.weight) * elementary.reciprocal(share)


def _null_loss(rows: _Rows, family: str) -> Any:
    """The least loss that an intercept alone reaches; below all others where events are of one class."""
    share = _averaged(jnp.ones_like(rows.target), rows.weight)
    mean = _averaged(rows.target, rows.weight) * elementary.reciprocal(share)
    if family == "logistic":
        both = ((mean > LEAST_SHARE) & (mean < 1.0 - LEAST_SHARE)).astype(mean.dtype)
        mean = jnp.clip(mean, LEAST_SHARE, 1.0 - LEAST_SHARE)
        entropy = -mean * jnp.log(mean) - (1.0 - mean) * jnp.log(1.0 - mean)
        return both * (1.0 + entropy) - 1.0
    if family == "poisson":
        return mean - mean * jnp.log(jnp.maximum(mean, 1e-6))
    apart = rows.target - mean
    return 0.5 * _averaged(apart * apart, rows.weight) * elementary.reciprocal(share)


def _start(rows: _Rows, family: str) -> Any:
    """All weights zero; a Poisson intercept at the logarithm of the mean."""
    beta = 0.0 * rows.matrix[0]
    if family != "poisson":
        return beta
    mean = jnp.maximum(_averaged(rows.target, rows.weight), 1e-3)
    at_intercept = jnp.arange(rows.matrix.shape[1]) == rows.matrix.shape[1] - 1
    return beta + at_intercept.astype(beta.dtype) * jnp.log(mean)


def _penalty(rows: _Rows, l2: float) -> Any:
    """The penalty of each place of beta: none for the intercept, which comes last."""
    places = jnp.arange(rows.matrix.shape[1]) < rows.matrix.shape[1] - 1
    return l2 * places.astype(rows.matrix.dtype)


# --- methods


def _newton(rows: _Rows, how: Settings) -> _State:
    """Newton's steps (reweighted least squares); a step that would raise the loss is quartered."""
    penalty = _penalty(rows, how.l2)

    def objective(beta: Any) -> Any:
        _, _, losses = _mean_and_loss(how.family, rows.matrix @ beta, rows.target)
        return _averaged(losses, rows.weight) + 0.5 * jnp.sum(penalty * beta * beta)

    def turn(_turn: Any, state: _State) -> _State:
        mean, slope, _ = _mean_and_loss(how.family, rows.matrix @ state.beta, rows.target)
        gradient = _gradient(rows, mean) + penalty * state.beta
        weighed = rows.matrix * (slope * rows.weight)[:, None]
        curvature = rows.matrix.T @ weighed / rows.matrix.shape[0] + jnp.diag(penalty)
        change = linear.solved(curvature, gradient)
        tried = state.beta - state.step * change
        loss = objective(tried)
        better = (loss < state.loss).astype(loss.dtype)
        step = better + (1.0 - better) * 0.25 * state.step
        tried = state.beta + better * (tried - state.beta)
        moves = (jnp.max(jnp.abs(change)) > how.tolerance).astype(loss.dtype)
        return _kept(state, tried, state.loss + better * (loss - state.loss), step, moves)

    return _repeated(turn, _start(rows, how.family), objective, how.iterations)


def _descent(rows: _Rows, how: Settings) -> _State:
    """Gradient descent until no weight moves any more."""
    epoch = _epoch(rows, how)

    def objective(beta: Any) -> Any:
        return _loss(rows, beta, how.family)

    def turn(_turn: Any, state: _State) -> _State:
        beta, speed = epoch(state.beta, state.step)
        moves = (jnp.max(jnp.abs(beta - state.beta)) > how.tolerance).astype(beta.dtype)
        return _kept(state, beta, state.loss, speed, moves)

    return _repeated(turn, _start(rows, how.family), objective, how.iterations, step=0.0 * rows.matrix[0])


def _best_of_descent(rows: _Rows, held: _Rows, how: Settings) -> _State:
    """Gradient descent through all epochs; what stays are the weights with the least loss over ``held``.

    The start counts as well. Which epoch it was is a secret, compared and selected on shares.
    """
    epoch, start = _epoch(rows, how), _start(rows, how.family)

    def turn(_turn: Any, state: _Kept) -> _Kept:
        beta, speed = epoch(state.beta, state.speed)
        loss = _loss(held, beta, how.family)
        better = (loss < state.loss) & (loss > LEAST_LOSS)
        return _Kept(beta, speed, jnp.where(better, beta, state.best), jnp.where(better, loss, state.loss))

    first = _Kept(start, 0.0 * start, start, _loss(held, start, how.family))
    found: _Kept = lax.fori_loop(0, how.iterations, turn, first)
    nothing = 0.0 * found.loss
    return _State(found.best, found.loss, nothing, nothing + how.iterations, nothing + 1.0)


def _epoch(rows: _Rows, how: Settings) -> Callable[[Any, Any], tuple[Any, Any]]:
    """One pass of gradient descent with momentum over batches of rows in their order: weights and speed."""
    batch, penalty = min(how.batch, rows.matrix.shape[0]), _penalty(rows, how.l2)
    batches = -(-rows.matrix.shape[0] // batch)
    pieces = _Rows(*(_in_batches(each, batches, batch) for each in rows))
    share = rows.matrix.shape[0] / batches

    def step(at: Any, moving: tuple[Any, Any]) -> tuple[Any, Any]:
        beta, speed = moving
        part = _Rows(*(lax.dynamic_index_in_dim(each, at, keepdims=False) for each in pieces))
        mean, _, _ = _mean_and_loss(how.family, part.matrix @ beta, part.target)
        gradient = _gradient(part, mean) * (batch / share) + penalty * beta
        speed = how.momentum * speed - how.learning_rate * gradient
        return beta + speed, speed

    def epoch(beta: Any, speed: Any) -> tuple[Any, Any]:
        found: tuple[Any, Any] = lax.fori_loop(0, batches, step, (beta, speed))
        return found

    return epoch


def _gradient(rows: _Rows, mean: Any) -> Any:
    return rows.matrix.T @ ((mean - rows.target) * rows.weight) / rows.matrix.shape[0]


def _in_batches(values: Any, batches: int, batch: int) -> Any:
    """The rows in batches; rows of zeros, which weigh nothing, fill the last one."""
    missing = batches * batch - values.shape[0]
    filled = jnp.concatenate([values, jnp.zeros((missing, *values.shape[1:]), dtype=values.dtype)])
    return jnp.reshape(filled, (batches, batch, *values.shape[1:]))


def _kept(state: _State, beta: Any, loss: Any, step: Any, moves: Any) -> _State:
    """The next state while it is active, else the one it had."""
    active = state.active
    return _State(
        state.beta + active * (beta - state.beta),
        state.loss + active * (loss - state.loss),
        state.step + active * (step - state.step),
        state.iterations + active,
        active * moves,
    )


def _repeated(
    turn: Callable[[Any, _State], _State],
    beta: Any,
    objective: Callable[[Any], Any],
    times: int,
    step: Any = 1.0,
) -> _State:
    loss = objective(beta)
    nothing = 0.0 * loss
    start = _State(beta, loss, step + nothing, nothing, nothing + 1.0)
    found: _State = lax.fori_loop(0, times, turn, start)
    return found
