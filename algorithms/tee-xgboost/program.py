"""Boosted trees by XGBoost. The model leaves as plain trees, which a prediction walks without XGBoost."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..enclave import modelling
from ..enclave.measures import sigmoid

THREADS = 32
"""At most; the sandbox counts threads."""
ROWS_AT_ONCE = 16_384
"""A prediction walks so many rows at a time: they fit the processor's cache."""
KEYS = {"rounds", "depth", "rate", "penalty", "min_weight", "sample", "columns"}


def run(inputs: Any, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the outputs; see the manifest."""
    return modelling.run(modelling.Kind("xgboost", fit, scores, missing=True, single=True), inputs, params)


def fit(matrix: Any, truth: Any, asked: modelling.Asked) -> tuple[dict[str, Any], Any]:
    """Train, and return the model as a JSON value, with the scores of the rows trained on."""
    import xgboost

    if set(asked.own) - KEYS:
        raise ValueError("boosted trees have rounds, depth, rate, penalty, min_weight, sample and columns")
    mean = float(np.clip(truth.mean(), 1e-6, 1 - 1e-6)) if asked.classes else float(truth.mean())
    settings = {
        "objective": "binary:logistic" if asked.classes else "reg:squarederror",
        "base_score": mean,
        "max_depth": int(asked.own.get("depth", 4)),
        "eta": float(asked.own.get("rate", 0.3)),
        "lambda": float(asked.own.get("penalty", 1.0)),
        "min_child_weight": max(float(asked.own.get("min_weight", 1.0)), _least(asked)),
        "subsample": float(asked.own.get("sample", 1.0)),
        "colsample_bytree": float(asked.own.get("columns", 1.0)),
        "tree_method": "hist",
        "seed": int(asked.chance.integers(2**31)),
        "nthread": min(len(os.sched_getaffinity(0)), THREADS),
    }
    held = xgboost.DMatrix(matrix, label=truth, nthread=settings["nthread"])
    few = isinstance(asked.watched, slice)  # all rows are looked at
    looked = held if few else xgboost.DMatrix(matrix[asked.watched], nthread=settings["nthread"])
    booster = xgboost.Booster(settings, [held] if few else [held, looked])
    for number in range(int(asked.own.get("rounds", 50))):
        booster.update(held, number)
        asked.told(number, booster.predict(looked))
    trees = json.loads(bytes(booster.save_raw("json")))["learner"]["gradient_booster"]["model"]["trees"]
    margin = float(np.log(mean / (1 - mean))) if asked.classes else mean
    fitted = {"classes": asked.classes, "margin": margin, "trees": [_plain(each) for each in trees]}
    return fitted, booster.predict(held).astype(float)


def scores(fitted: Mapping[str, Any], matrix: Any) -> Any:
    """XGBoost compares in single precision, so this does."""
    total = np.full(len(matrix), fitted["margin"])
    for at in range(0, len(matrix), ROWS_AT_ONCE):
        cells = matrix[at : at + ROWS_AT_ONCE].astype(np.float32, copy=False)
        for tree in fitted["trees"]:
            total[at : at + ROWS_AT_ONCE] += _walk(tree, cells)
    return sigmoid(total) if fitted["classes"] else total


def _least(asked: modelling.Asked) -> float:
    """The weight under which a leaf could be of fewer rows than the smallest group.

    A row weighs p (1 - p), a quarter at most, with two classes; 1 with numbers.
    """
    return asked.min_group / 4 if asked.classes else float(asked.min_group)


def _plain(tree: Any) -> dict[str, Any]:
    """The children of each node (-1 at a leaf), what it asks, and at a leaf what it adds."""
    return {
        "left": tree["left_children"],
        "right": tree["right_children"],
        "feature": tree["split_indices"],
        "value": tree["split_conditions"],
        "missing": [bool(each) for each in tree["default_left"]],
    }


def _walk(tree: Any, cells: Any) -> Any:
    left, right, feature = (np.array(tree[name]) for name in ("left", "right", "feature"))
    value, missing = np.array(tree["value"], dtype=np.float32), np.array(tree["missing"], dtype=bool)
    at, rows = np.zeros(len(cells), dtype=int), np.arange(len(cells))
    while (inner := left[at] >= 0).any():
        cell = cells[rows, feature[at]]
        goes_left = np.where(np.isnan(cell), missing[at], cell < value[at])
        at = np.where(inner, np.where(goes_left, left[at], right[at]), at)
    return value[at].astype(float)
