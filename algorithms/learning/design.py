"""From owners' encoded columns to features, on shares: evidence, missing cells, scaling, weights."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from . import elementary
from .columns import Plan

LEAST_VARIANCE = 1e-9
"""Below it a column counts as constant and gets scale 0."""
Pieces = Mapping[tuple[str, str], Any]


def parts(plan: Plan) -> list[str]:
    """The arrays of features made by ``plan``, in order."""
    found = ["matrix"]
    found += ["target"] if plan.target else []
    found += ["weight"] if plan.weighted else []
    found += ["shift", "scale"] if plan.standardise else []
    found += ["woe"] if plan.bins else []
    return found + (["edges", "below"] if plan.edges else [])


def shapes(plan: Plan, rows: int) -> list[tuple[str, tuple[int, ...]]]:
    """Each array of ``parts`` with its shape."""
    width = len(plan.names)
    known: dict[str, tuple[int, ...]] = {
        "matrix": (rows, width), "target": (rows,), "weight": (rows,), "shift": (width,), "scale": (width,),
        "woe": (plan.bins,), "edges": (width, plan.edges), "below": (rows, width, plan.edges),
    }  # fmt: skip
    return [(part, known[part]) for part in parts(plan)]


def features(
    plan: Plan, pieces: Pieces, held: Mapping[str, int], fitted: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """All arrays of ``parts``, from each input's arrays by (part, input).

    ``fitted`` holds a model's ``shift``, ``scale`` and ``woe``, as far as it has them: new rows are encoded
    by these, and nothing is learnt of them.
    """
    joined = _Joined(plan, pieces, held)
    made: dict[str, Any] = dict(fitted or {})
    made |= {part: joined.whole(part) for part in ("target", "weight") if joined.has(part)}
    train = joined.train
    if plan.bins and "woe" not in made:
        made["woe"] = evidence(plan, joined.whole("bins")[:train], made["target"][:train])
    matrix = joined.spread("matrix")
    if plan.bins:
        matrix = matrix + joined.spread("bins", made["woe"])
    if joined.has("known"):
        matrix = _filled(joined, matrix, made.get("shift"))
    if plan.standardise and "shift" not in made:
        made["shift"], made["scale"] = scaling(matrix[:train])
    made["matrix"] = (matrix - made["shift"]) * made["scale"] if plan.standardise else matrix
    if plan.weighted:
        made["weight"] = weights(made.get("weight"), made.get("target"), plan.balance, train)
    if plan.edges:
        made |= {part: joined.ordered(part) for part in ("edges", "below")}
    return {part: made[part] for part in parts(plan)}


class _Joined:
    """The owners' arrays, put side by side or below each other: training rows first."""

    def __init__(self, plan: Plan, pieces: Pieces, held: Mapping[str, int]) -> None:
        self.plan, self._pieces = plan, pieces
        self._trained = {name: plan.trained(held[name]) for name in plan.inputs}
        rows = list(self._trained.values())
        self.train = sum(rows) if plan.horizontal else rows[0]

    def has(self, part: str) -> bool:
        """Whether any input shares it."""
        return any((part, name) in self._pieces for name in self.plan.inputs)

    def whole(self, part: str) -> Any:
        """All rows of one part, columns in the order of inputs."""
        found = {name: self._pieces[part, name] for name in self.plan.inputs if (part, name) in self._pieces}
        if not self.plan.horizontal or part == "edges":
            return jnp.concatenate(list(found.values()), axis=int(part not in ("target", "weight", "edges")))
        first = [each[: self._trained[name]] for name, each in found.items()]
        rest = [each[self._trained[name] :] for name, each in found.items()]
        return jnp.concatenate([*first, *(each for each in rest if each.shape[0])])

    def spread(self, part: str, values: Any = None) -> Any:
        """(rows, features): each column of the part at its feature, times its value, the other ones zero."""
        at = self.places(part)
        if not at:
            return 0.0
        where = np.asarray(at)[:, None] == np.arange(len(self.plan.names))[None, :]
        spread = where.astype(np.float64) if values is None else where * self._by_input(values)[:, None]
        return self.whole(part) @ spread

    def ordered(self, part: str) -> Any:
        """A part of all features, in the features' order."""
        axis = 0 if part == "edges" else 1
        whole, order = self.whole(part), np.argsort(self.places("matrix"))
        pieces = [whole[at : at + 1] if axis == 0 else whole[:, at : at + 1] for at in map(int, order)]
        return jnp.concatenate(pieces, axis=axis)

    def places(self, part: str) -> list[int]:
        """Which feature each column of a part belongs to, in the order in which inputs share them."""
        names, drop = self.plan.names, self.plan.drop_first
        found: list[int] = []
        for name in [self.plan.inputs[0]] if self.plan.horizontal else self.plan.inputs:
            for each in self.plan.held(name):
                if part == "bins" and each.woe:
                    found += [names.index(each.name)] * len(each.keys)
                elif (part == "matrix" and not each.woe) or (part == "known" and each.missing):
                    found += [names.index(feature) for feature in each.features(drop)]
        return found

    def _by_input(self, values: Any) -> Any:
        """Weights of evidence, from the order of columns into that in which inputs share bins."""
        return jnp.concatenate([values[start:stop] for start, stop in _bins_by_input(self.plan)])


def _bins_by_input(plan: Plan) -> list[tuple[int, int]]:
    """Where the weights of each column's bins are, in the order in which inputs share the columns."""
    starts, at = {}, 0
    for name, each in plan.columns.items():
        if each.woe:
            starts[name] = (at, at + len(each.keys))
            at += len(each.keys)
    names = [plan.inputs[0]] if plan.horizontal else plan.inputs
    return [starts[each.name] for name in names for each in plan.held(name) if each.woe]


def evidence(plan: Plan, bins: Any, target: Any) -> Any:
    """(k,) weights of evidence: ln(share of events / share of others) of each bin, in columns' order.

    ``smoothing`` is added to every count. ``bins`` (rows, k) has columns in the order of inputs.
    """
    events = target @ bins
    others = jnp.sum(bins, axis=0) - events
    found: dict[int, Any] = {}
    at = 0
    for start, stop in _bins_by_input(plan):
        width = stop - start
        both = [each[at : at + width] + plan.smoothing for each in (events, others)]
        odds = [jnp.log(each) - jnp.log(jnp.sum(each)) for each in both]
        found[start], at = odds[0] - odds[1], at + width
    return jnp.concatenate([found[start] for start in sorted(found)])


def _filled(joined: _Joined, matrix: Any, shift: Any) -> Any:
    """Missing cells, which are zero so far, at the mean of the known training rows, or at ``shift``."""
    known, train = joined.whole("known"), joined.train
    where = np.asarray(joined.places("known"))[:, None] == np.arange(matrix.shape[1])[None, :]
    picked = where.astype(np.float64)
    if shift is None:
        share = jnp.sum(known[:train], axis=0) / train
        means = picked @ (jnp.sum(matrix[:train], axis=0) / train) * elementary.reciprocal(share)
    else:
        means = picked @ shift
    return matrix + ((1.0 - known) * means) @ picked


def scaling(matrix: Any) -> tuple[Any, Any]:
    """(d,) means and (d,) inverse deviations of training rows; a constant column's is 0."""
    shift = jnp.sum(matrix, axis=0) / matrix.shape[0]
    apart = matrix - shift
    variance = jnp.sum(apart * apart, axis=0) / matrix.shape[0]
    varies = (variance > LEAST_VARIANCE).astype(matrix.dtype)
    return shift, varies * elementary.inverse_root(variance + (1.0 - varies))


def weights(weight: Any, target: Any, balance: bool, train: int) -> Any:
    """(rows,) sample weights of mean 1 over the training rows; with ``balance`` both classes weigh alike."""
    found = weight
    if balance:
        own = jnp.ones_like(target) if weight is None else weight
        events, all_ = jnp.sum((own * target)[:train]) / train, jnp.sum(own[:train]) / train
        ratio = _halved(events), _halved(all_ - events)
        found = own * (target * ratio[0] + (1.0 - target) * ratio[1])
    return found * elementary.reciprocal(jnp.sum(found[:train]) / train)


def _halved(share: Any) -> Any:
    return 0.5 * elementary.reciprocal(jnp.maximum(share, 1e-4))
