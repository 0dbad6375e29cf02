"""How good scores are: log loss, area under the ROC curve, accuracy, squared error."""

from __future__ import annotations

from typing import Any

import numpy as np

SMALLEST = 1e-15


def log_loss(truth: Any, scores: Any) -> float:
    """Mean negative log-likelihood of labels 0 and 1 under probabilities."""
    held = np.clip(scores, SMALLEST, 1 - SMALLEST)
    return float(-np.mean(truth * np.log(held) + (1 - truth) * np.log(1 - held)))


def auc(truth: Any, scores: Any) -> float:
    """Area under the ROC curve, ties counted half; 0.5 where there is one class only."""
    positive = int(np.sum(truth == 1))
    negative = len(truth) - positive
    if not positive or not negative:
        return 0.5
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return float((ranks[truth == 1].sum() - positive * (positive + 1) / 2) / (positive * negative))


def accuracy(truth: Any, scores: Any) -> float:
    """Share of labels that a threshold of one half gets right."""
    return float(np.mean((scores >= 0.5) == (truth == 1)))


def squared_error(truth: Any, scores: Any) -> float:
    """Mean squared error."""
    return float(np.mean((truth - scores) ** 2))


def sigmoid(values: Any) -> Any:
    """1 / (1 + exp(-x)), without overflow."""
    return np.exp(-np.logaddexp(0.0, -values))
