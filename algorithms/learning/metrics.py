"""How good secret scores are against secret targets: sums on shares, to be divided once they are opened.

All functions take (n,) arrays and run in the clear and on shares alike; ``weight`` is ``None`` where rows
count alike. Small groups are set to zero here, before anybody could open them. Sums fit for up to
2^20 rows with weights of mean 1, in ``FM128`` with 40 fraction bits.
"""

import itertools
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax

STEPS = 2.0**20  # scores that round to the same multiple of 1/STEPS are ties
LEAST = 2.0**-20  # a probability, or a rate, below counts as this much in a logarithm
REFINEMENTS = 2  # Newton steps on the engine's reciprocal: from about 1e-4 to below 1e-9, relative

Parts = dict[str, Any]


class Classes(NamedTuple):
    """Rows of two classes: 0 and 1 in ``positive`` (n,); what each counts in ``events`` and ``others``."""

    positive: Any
    events: Any
    others: Any

    @property
    def totals(self) -> tuple[Any, Any]:
        """What all events count, and all others."""
        return jnp.sum(self.events), jnp.sum(self.others)


class Ranking(NamedTuple):
    """Classes by falling score; ``score`` (n,) is in whole multiples of 1/STEPS."""

    score: Any
    classes: Classes


def classes(target: Any, weight: Any) -> Classes:
    """Read an indicator. Without weights all counts are whole, and so exact."""
    positive = (target > 0.5).astype(jnp.int64)
    if weight is None:
        return Classes(positive, positive, 1 - positive)
    events = positive * weight
    return Classes(positive, events, weight - events)


def both_classes(found: Classes, min_group: int) -> Any:
    """One where both classes have at least ``min_group`` rows, else zero."""
    positives = jnp.sum(found.positive)
    return enough(positives, min_group) * enough(found.positive.shape[0] - positives, min_group)


def enough(count: Any, min_group: int) -> Any:
    """One where a count reaches ``min_group``, else zero."""
    return (count >= min_group).astype(jnp.int64)


def none_small(counts: Any, min_group: int) -> Any:
    """One where no count of the last axis lies between 1 and ``min_group`` - 1, else zero."""
    small = (counts > 0).astype(jnp.int64) * (1 - enough(counts, min_group))
    return (jnp.sum(small, axis=-1) < 1).astype(jnp.int64)


def ranked(score: Any, found: Classes) -> Ranking:
    """Sort by falling score; the order among ties is that of the rows."""
    steps = jnp.floor(score * STEPS + 0.5).astype(jnp.int64)
    weighted = found.events.dtype != found.positive.dtype
    carried = [found.positive, found.events, found.others] if weighted else [found.positive]
    falling, *sorted_ = lax.sort([-steps, *carried], num_keys=1)
    first = sorted_[0]
    events, others = sorted_[1:] if weighted else (first, 1 - first)
    return Ranking(-falling, Classes(first, events, others))


def area_and_gap(ranking: Ranking) -> tuple[Any, Any]:
    """Twice the area under the ROC curve, and its largest distance from the diagonal, both x events x others.

    Ties are one step of the curve, as in scikit-learn.
    """
    _, events, others = ranking.classes
    ends = jnp.concatenate(
        [(ranking.score[1:] != ranking.score[:-1]).astype(jnp.int64), jnp.ones(1, jnp.int64)]
    )
    curve = running_sum(jnp.stack([events, others]))
    starts = jnp.concatenate([jnp.zeros((2, 1), curve.dtype), latest(curve, ends)[:, :-1]], axis=1)
    area = jnp.sum((curve[1] - starts[1]) * (curve[0] + starts[0]) * ends)
    gap = jnp.max(jnp.abs(curve[0] * curve[1, -1] - curve[1] * curve[0, -1]) * ends)
    return area, gap


def running_sum(values: Any) -> Any:
    """Sum up to each place of the last axis, in log2(n) additions (jax's own compiles to n)."""
    reach, length = 1, values.shape[-1]
    while reach < length:
        values = values + _shifted(values, reach)
        reach *= 2
    return values


def latest(values: Any, marks: Any) -> Any:
    """At each place of the last axis the value at the last mark up to there; zero before the first."""
    reach, length = 1, values.shape[-1]
    found = values * marks
    while reach < length:
        unmarked = 1 - marks
        found = found + unmarked * _shifted(found, reach)
        marks = marks + unmarked * _shifted(marks, reach)
        reach *= 2
    return found


def _shifted(values: Any, places: int) -> Any:
    gap = jnp.zeros((*values.shape[:-1], places), values.dtype)
    return jnp.concatenate([gap, values[..., :-places]], axis=-1)


def confusion(score: Any, found: Classes, threshold: float, min_group: int) -> Any:
    """(2, 2): what rows below and from the threshold on count, others before events.

    All are zero where one of the four has rows, but fewer than ``min_group``.
    """
    above = (score >= threshold).astype(jnp.int64)
    rows = _cells(above, found.positive, 1 - found.positive)
    kept = none_small(jnp.ravel(rows), min_group)
    return kept * (rows if found.events is found.positive else _cells(above, found.events, found.others))


def _cells(above: Any, events: Any, others: Any) -> Any:
    both = jnp.stack([others, events])
    over = jnp.sum(both * above, axis=1)
    return jnp.stack([jnp.sum(both, axis=1) - over, over])


def table(ranking: Ranking, edges: list[int], min_group: int) -> Parts:
    """Of each bin of ranked rows: what events and others count, and the weighted sum of scores.

    Bin i begins at ``edges[i]`` and ends before ``edges[i + 1]``. ``kept`` is 0, and the rest as well, where
    it has events or others, but fewer than ``min_group``.
    """
    found = ranking.classes
    worth = found.events + found.others
    positives = _by_bin(found.positive, edges)
    rows = np.diff(np.array(edges))
    kept = none_small(jnp.stack([positives, rows - positives], axis=-1), min_group)
    scores = _by_bin(ranking.score * (1.0 / STEPS) * worth, edges)
    sums = {"events": _by_bin(found.events, edges), "others": _by_bin(found.others, edges), "scores": scores}
    return {"kept": kept, **{name: each * kept for name, each in sums.items()}}


def _by_bin(values: Any, edges: list[int]) -> Any:
    return jnp.stack([jnp.sum(values[low:high]) for low, high in itertools.pairwise(edges)])


def log_loss(score: Any, found: Classes) -> Any:
    """Sum of -ln of the probability that each row's score gave to what it is, at least LEAST."""
    given = jnp.where(found.positive > 0, score, 1.0 - score)
    given = jnp.minimum(jnp.maximum(given, LEAST), 1.0)
    return -jnp.sum(jnp.log(given) * (found.events + found.others))


def squared_error(score: Any, target: Any, weight: Any) -> Any:
    """Sum of squared differences."""
    return _sum((score - target) * (score - target), weight)


def absolute_error(score: Any, target: Any, weight: Any) -> Any:
    """Sum of absolute differences."""
    return _sum(jnp.abs(score - target), weight)


def spread(target: Any, weight: Any) -> Any:
    """Sum of squared differences of the target from its mean."""
    rows = target.shape[0]
    mean = _sum(target, weight) * (1.0 / rows)
    if weight is not None:
        mean = mean * reciprocal(jnp.sum(weight) * (1.0 / rows))
    return squared_error(mean, target, weight)


def poisson_deviance(score: Any, target: Any, weight: Any) -> Any:
    """Half of the sum of deviances; a rate below LEAST counts as LEAST, and a target is a whole number."""
    rate = jnp.maximum(score, LEAST)
    surprise = target * (jnp.log(jnp.maximum(target, 0.5)) - jnp.log(rate))
    return _sum(surprise - target + rate, weight)


def reciprocal(values: Any) -> Any:
    """1 / ``values``, for values near 1."""
    found = 1.0 / values
    for _ in range(REFINEMENTS):
        found = found * (2.0 - values * found)
    return found


def _sum(values: Any, weight: Any) -> Any:
    return jnp.sum(values if weight is None else values * weight)
