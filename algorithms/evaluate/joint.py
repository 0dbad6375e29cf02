"""The joint function: the sums that the metrics are made of, on shares."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from ..learning import metrics
from .declared import Plan, Scores


def joint(plan: Plan, scores: Scores) -> Callable[..., tuple[Any, ...]]:
    """The function of score, target and, where there are, weights: (n,) each."""

    def evaluate(score: Any, target: Any, weight: Any = None) -> tuple[Any, ...]:
        made = (_of_classes if scores.of_classes else _of_numbers)(plan, score, target, weight)
        return tuple(made[each] for each in plan.parts(scores))

    return evaluate


def _of_classes(plan: Plan, score: Any, target: Any, weight: Any) -> metrics.Parts:
    """All is zero where one of the classes has fewer than ``min_group`` rows."""
    found = metrics.classes(target, weight)
    made: metrics.Parts = dict(zip(("events", "others"), found.totals, strict=True))
    if "confusion" in plan.metrics:
        made["cells"] = metrics.confusion(score, found, plan.threshold, plan.min_group)
    if "log_loss" in plan.metrics:
        made["log_loss"] = metrics.log_loss(score, found)
    if plan.ranks:
        made |= _of_ranks(plan, metrics.ranked(score, found))
    kept = metrics.both_classes(found, plan.min_group)
    return {name: each * kept for name, each in made.items()}


def _of_ranks(plan: Plan, ranking: metrics.Ranking) -> metrics.Parts:
    made: metrics.Parts = {}
    if {"auc", "ks"} & set(plan.metrics):
        made["area"], made["gap"] = metrics.area_and_gap(ranking)
    if plan.tables:
        table = metrics.table(ranking, plan.edges(ranking.score.shape[0]), plan.min_group)
        made |= {f"bin_{name}": each for name, each in table.items()}
    return made


def _of_numbers(plan: Plan, score: Any, target: Any, weight: Any) -> metrics.Parts:
    made: metrics.Parts = {} if weight is None else {"weight": jnp.sum(weight)}
    if {"rmse", "r2"} & set(plan.metrics):
        made["squared"] = metrics.squared_error(score, target, weight)
    if "mae" in plan.metrics:
        made["absolute"] = metrics.absolute_error(score, target, weight)
    if "r2" in plan.metrics:
        made["spread"] = metrics.spread(target, weight)
    if "poisson_deviance" in plan.metrics:
        made["deviance"] = metrics.poisson_deviance(score, target, weight)
    return made
