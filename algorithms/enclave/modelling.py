"""Train on joined tables and predict with what was trained: the same words for every kind of model.

Parameters of ``mode: train`` are ``join``, ``features``, ``target`` (``column``, and ``positive`` for two
classes), ``test_share`` and ``train``, the model's own. ``mode: predict`` reads an input ``model``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import features, measures
from .joining import Joined, join

TRAIN, PREDICT = "train", "predict"
WATCHED = 50_000
"""The metrics of a round are of so many training rows at most: of all of them they would cost more than a
round."""
KEYS = {
    TRAIN: {"mode", "join", "features", "target", "test_share", "train"},
    PREDICT: {"mode", "join"},
}


@dataclass(frozen=True)
class Asked:
    """What a training is told beside its rows."""

    own: Mapping[str, Any]
    """The model's own parameters."""
    classes: bool
    """Whether the target is 0 and 1."""
    min_group: int
    chance: Any
    """A seeded generator of numpy."""
    watched: Any
    """Which of the rows trained on are looked at while it trains (indices, or a slice of all)."""
    told: Callable[[int, Any], None]
    """To be called after each round with the scores of these rows."""


@dataclass(frozen=True)
class Kind:
    """One kind of model. ``missing`` lets its numbers be NaN; ``single`` says that it reads them in single
    precision."""

    name: str
    fit: Callable[[Any, Any, Asked], Any]
    """Of matrix, target and what is asked; gives a JSON value, and the scores of the rows trained on or
    ``None``."""
    scores: Callable[[Any, Any], Any]
    """Of that JSON value and a matrix."""
    missing: bool = False
    single: bool = False


def run(kind: Kind, inputs: Any, params: Mapping[str, Any]) -> dict[str, Any]:
    """Train or predict, and return the outputs.

    Raises:
        ValueError: the parameters make no sense, or the tables do not hold what they name.
    """
    mode = params.get("mode")
    if mode not in KEYS or set(params) - KEYS[mode]:
        raise ValueError("mode: train or predict, and only the parameters of that mode")
    joined = join(inputs.tables, params.get("join", "none"))
    if joined.rows < inputs.min_group:
        raise ValueError("fewer joint rows than the smallest group")
    return _train(kind, inputs, params, joined) if mode == TRAIN else _predict(kind, inputs, joined)


def _train(kind: Kind, inputs: Any, params: Mapping[str, Any], joined: Joined) -> dict[str, Any]:
    chance = np.random.default_rng(inputs.seeds["training"])
    train, test = _split(joined, float(params.get("test_share", 0.0)), inputs.seeds["split"])
    truth, classes = _target(joined, params["target"])
    if min(len(train), len(test) or len(train)) < inputs.min_group:
        raise ValueError("fewer rows to train or test on than the smallest group")
    learned = features.learn(joined, params["features"], train)
    made = features.matrix(joined, learned, missing=kind.missing, single=kind.single)

    own, own_truth = (made[train], truth[train]) if len(test) else (made, truth)
    watched = _watched(len(train), inputs.seeds["split"])

    def told(number: int, scores: Any) -> None:
        loss, held = measures.log_loss if classes else measures.squared_error, own_truth[watched]
        told = {"loss": loss(held, scores)}
        inputs.report(number, {**told, "auc": measures.auc(held, scores)} if classes else told)

    asked = Asked(params.get("train", {}), classes, inputs.min_group, chance, watched, told)
    fitted, scores = kind.fit(own, own_truth, asked)
    model = {"kind": kind.name, "classes": classes, "features": learned, "fitted": fitted}
    scores = kind.scores(fitted, own) if scores is None else scores
    found = {"train": _measured(scores, own_truth, classes)}
    if len(test):
        found["test"] = _measured(kind.scores(fitted, made[test]), truth[test], classes)
    return {"model": model, "measures": found, "rows": joined.rows}


def _watched(rows: int, seed: int) -> Any:
    if rows <= WATCHED:
        return slice(None)
    return np.sort(np.random.default_rng(seed).choice(rows, WATCHED, replace=False))


def _measured(scores: Any, truth: Any, classes: bool) -> dict[str, Any]:
    if not classes:
        return {"rows": len(truth), "loss": measures.squared_error(truth, scores)}
    return {
        "rows": len(truth),
        "loss": measures.log_loss(truth, scores),
        "auc": measures.auc(truth, scores),
        "accuracy": measures.accuracy(truth, scores),
    }


def _predict(kind: Kind, inputs: Any, joined: Joined) -> dict[str, Any]:
    model = inputs["model"].value()
    if model.get("kind") != kind.name:
        raise ValueError(f"the model is no {kind.name}")
    if joined.ids is None:
        raise ValueError("predictions are named by ids, and a table has none")
    made = features.matrix(joined, model["features"], missing=kind.missing, single=kind.single)
    scores = kind.scores(model["fitted"], made)
    return {"predictions": {"id": list(joined.ids), "score": scores.tolist()}}


def _split(joined: Joined, share: float, seed: int) -> tuple[Any, Any]:
    if not 0 <= share < 1:
        raise ValueError("test_share: from 0 to below 1")
    order = np.random.default_rng(seed).permutation(joined.rows)
    held = round(share * joined.rows)
    return np.sort(order[held:]), np.sort(order[:held])


def _target(joined: Joined, target: Mapping[str, Any]) -> tuple[Any, bool]:
    """The target as numbers, and whether they are classes."""
    if "positive" in target:
        positive = target["positive"]
        return np.array([each == positive for each in joined.texts(target["column"])], dtype=float), True
    values = np.array(joined.numbers(target["column"]))
    if np.isnan(values).any():
        raise ValueError("the target has an empty cell")
    return values, False
