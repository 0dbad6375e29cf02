"""Boosted trees of second order (as in SecureBoost and XGBoost's ``hist``), on secret-shared rows.

Owners compare their features with their thresholds before sharing, so that training needs no comparison of
values: ``below`` is 1 where a row's feature is below a threshold. Gradients are summed by products with it,
a node's split is chosen by a tournament over all thresholds, and neither the split nor who goes where is
known to anybody.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from .choosing import largest

LEAST_GAIN = 1e-6
"""What a split must gain at the least, however small ``gamma``: below it is rounding."""


@dataclass(frozen=True)
class Growth:
    """How trees grow. ``penalty`` is XGBoost's ``lambda``; ``patience`` 0 means that no tree is left out."""

    link: str
    trees: int
    depth: int
    rate: float
    penalty: float
    gamma: float
    least_weight: float
    patience: int


@dataclass(frozen=True)
class Forest:
    """What :func:`fit` returns; the shapes are those of ``boosted_trees`` in docs/models.md.

    ``loss`` (T + 1,): the mean squared error of the held-out rows (of probabilities under ``logit``: Brier's
    score) with 0, 1, … T trees, zeros where no row is held out. ``gain`` (d,): what each feature's splits
    gained. ``used``: how many trees are not left out.
    """

    selector: Any
    threshold: Any
    leaf: Any
    base: Any
    loss: Any
    gain: Any
    used: Any


def fit(below: Any, edges: Any, target: Any, weight: Any, train: int, growth: Growth) -> Forest:
    """Grow trees on the first ``train`` rows; the others say when to stop.

    ``below`` (n, d, m) is 1 where a row's feature is below the threshold in ``edges`` (d, m), else 0;
    ``target`` and ``weight`` are (n,), ``weight`` may be ``None``. A tree's splits do not depend on trees
    after it: once ``patience`` trees in a row did not lower the loss, all later ones get leaves of 0.
    """
    rows, features, steps = below.shape
    sides = jnp.reshape(below, (rows, features * steps))
    weight = jnp.ones(rows) if weight is None else weight
    base = _base(target[:train], weight[:train], growth.link)
    start = (jnp.broadcast_to(base, (rows,)), _Progress.start())

    def grow(carry: Any, _: Any) -> Any:
        margin, progress = carry
        guess = _guess(margin, growth.link)
        loss = _loss(guess, target, weight, train)
        progress = progress.after(loss, growth.patience if train < rows else 0)
        slope = weight * (guess - target)
        bend = weight * guess * (1.0 - guess) if growth.link == "logit" else weight
        tree = _tree(sides, edges, jnp.stack([slope, bend], axis=1), train, growth)
        leaf = tree.leaf * progress.going
        margin = margin + tree.member @ leaf
        gain = tree.gain * progress.going
        return (margin, progress), (tree.selector, tree.threshold, leaf, gain, loss, progress.going)

    (margin, _), (selector, threshold, leaf, gain, loss, going) = lax.scan(
        grow, start, None, length=growth.trees
    )
    last = _loss(_guess(margin, growth.link), target, weight, train)
    losses = jnp.concatenate([loss, jnp.reshape(last, (1,))])
    return Forest(
        selector, threshold, leaf, jnp.reshape(base, (1,)), losses, jnp.sum(gain, axis=0), jnp.sum(going)
    )


def margin(matrix: Any, selector: Any, threshold: Any, leaf: Any, base: Any) -> Any:
    """What the trees say of each row of ``matrix`` (n, d): (n,), before the link."""
    trees, inner, features = selector.shape
    chosen = matrix @ jnp.reshape(selector, (trees * inner, features)).T
    left = (chosen < jnp.reshape(threshold, (trees * inner,))).astype(jnp.float64)
    left = jnp.reshape(left, (-1, trees, inner))
    member = jnp.ones((matrix.shape[0], trees, 1))
    while member.shape[2] <= inner:
        first = member.shape[2] - 1
        member = _divided(member, left[:, :, first : 2 * first + 1])
    return base[0] + jnp.reshape(member, (matrix.shape[0], -1)) @ jnp.reshape(leaf, (-1,))


# --- one tree


@dataclass(frozen=True)
class _Tree:
    selector: Any
    threshold: Any
    leaf: Any
    member: Any
    gain: Any


def _tree(sides: Any, edges: Any, slopes: Any, train: int, growth: Growth) -> _Tree:
    """One tree on ``slopes`` (n, 2): first and second derivatives of the loss. Levels are unrolled."""
    features, steps = edges.shape
    member = jnp.ones((sides.shape[0], 1))
    below, totals = _sums(sides[:train], member[:train], slopes[:train])
    selectors, thresholds, gained = [], [], jnp.zeros(features)
    for level in range(growth.depth):
        split, gain = _split(below, totals, growth)
        features_of = jnp.sum(jnp.reshape(split, (-1, features, steps)), axis=2)
        selectors.append(features_of)
        # a node that does not split chooses no feature: 0 is below 1, so all of its rows go left
        thresholds.append(split @ jnp.reshape(edges, (-1,)) + 1.0 - jnp.sum(split, axis=1))
        gained = gained + gain @ features_of
        left = sides @ split.T + 1.0 - jnp.sum(split, axis=1)
        halves = member * left
        member = _divided(member, left)
        known = _sums(sides[:train], halves[:train], slopes[:train], level + 1 < growth.depth)
        below, totals = (_children(whole, part) for whole, part in zip((below, totals), known, strict=True))
    leaf = -growth.rate * totals[:, 0] / (totals[:, 1] + growth.penalty)
    return _Tree(jnp.concatenate(selectors), jnp.concatenate(thresholds), leaf, member, gained)


def _sums(sides: Any, member: Any, slopes: Any, with_below: bool = True) -> tuple[Any, Any]:
    """The derivatives' sums in each node: below each threshold (nodes, thresholds, 2), and all (nodes, 2)."""
    parted = member[:, :, None] * slopes[:, None, :]
    totals = jnp.sum(parted, axis=0)
    if not with_below:
        return jnp.zeros((member.shape[1], 0, 2)), totals
    flat = jnp.reshape(parted, (parted.shape[0], -1))
    below = jnp.reshape(sides.T @ flat, (-1, *totals.shape))
    return jnp.transpose(below, (1, 0, 2)), totals


def _children(whole: Any, left: Any) -> Any:
    """A node's sums become its children's: the right one has what the left one lacks."""
    whole = whole[:, : left.shape[1]]
    return jnp.reshape(jnp.stack([left, whole - left], axis=1), (2 * left.shape[0], *left.shape[1:]))


def _split(below: Any, totals: Any, growth: Growth) -> tuple[Any, Any]:
    """The best threshold of each node (nodes, thresholds), all zeros where none is good; and its gain."""
    right = totals[:, None, :] - below
    parts = jnp.concatenate([below, right, totals[:, None, :]], axis=1)
    worth = parts[..., 0] * (parts[..., 0] / (parts[..., 1] + growth.penalty))
    count = below.shape[1]
    gains = worth[:, :count] + worth[:, count : 2 * count] - worth[:, 2 * count :]
    heavy = (parts[:, : 2 * count, 1] >= growth.least_weight).astype(jnp.float64)
    gains = gains * (heavy[:, :count] * heavy[:, count:])
    chosen = largest(gains)
    gain = jnp.sum(chosen * gains, axis=1)
    good = (gain > max(growth.gamma, LEAST_GAIN)).astype(jnp.float64)
    return chosen * good[:, None], gain * good


def _divided(member: Any, left: Any) -> Any:
    """Who is in which child: the last axis of ``member`` doubles, each node's left child before its right."""
    halves = member * left
    both = jnp.stack([halves, member - halves], axis=-1)
    return jnp.reshape(both, (*member.shape[:-1], 2 * member.shape[-1]))


# --- loss and progress


def _base(target: Any, weight: Any, link: str) -> Any:
    """Where trees start: the mean, under ``logit`` one Newton step from 0 (as XGBoost)."""
    mean = jnp.sum(target * weight) / jnp.sum(weight)
    return 4.0 * mean - 2.0 if link == "logit" else mean


def _guess(margin: Any, link: str) -> Any:
    return jax.nn.sigmoid(margin) if link == "logit" else margin


def _loss(guess: Any, target: Any, weight: Any, train: int) -> Any:
    if train == target.shape[0]:
        return jnp.zeros(())
    apart = guess[train:] - target[train:]
    return jnp.sum(weight[train:] * apart * apart) / jnp.sum(weight[train:])


class _Progress(NamedTuple):
    """The least loss so far, how many trees ago it was, and 1 while trees are added, else 0."""

    best: Any
    since: Any
    going: Any

    @staticmethod
    def start() -> "_Progress":
        return _Progress(jnp.full((), 1e6), jnp.zeros(()), jnp.ones(()))

    def after(self, loss: Any, patience: int) -> "_Progress":
        if not patience:
            return self
        better = loss < self.best
        since = jnp.where(better, 0.0, self.since + 1.0)
        going = self.going * (since < patience).astype(jnp.float64)
        return _Progress(jnp.where(better, loss, self.best), since, going)
