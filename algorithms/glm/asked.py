"""What a glm step asks for, read strictly."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..learning import columns, glm

ITERATIONS = {"logistic": 10, "linear": 3, "poisson": 12}
EPOCHS = 20
TARGETS = {"logistic": "indicator", "linear": "number", "poisson": "count"}
KNOWN = {"family", "method", "iterations", "l2", "tolerance", "learning_rate", "momentum", "batch", "keep"}


@dataclass(frozen=True)
class Points:
    """A scorecard's scale: ``base`` points at ``odds`` against the event, ``double`` more at twice that."""

    base: float
    odds: float
    double: float

    @property
    def factor(self) -> float:
        """Points of one unit of log-odds."""
        return self.double / math.log(2)

    @property
    def offset(self) -> float:
        """Points at even odds."""
        return self.base - self.factor * math.log(self.odds)


@dataclass(frozen=True)
class Asked:
    """A step's parameters, read."""

    how: glm.Settings
    coefficients: bool
    points: Points | None


def read(params: Mapping[str, Any]) -> Asked:
    """Read a step's parameters.

    Raises:
        ValueError: they make no sense, with the place and what would be right.
    """
    known = columns.fields(params, "params", {"family"}, {*KNOWN, "reveal", "points"})
    family = columns.one_of(known["family"], "family", list(ITERATIONS))
    method = columns.one_of(known.get("method", "irls"), "method", ["irls", "sgd"])
    keep = columns.one_of(known.get("keep", "last"), "keep", ["last", "best"])
    if keep == "best" and method != "sgd":
        raise ValueError("keep: best is of the epochs of method: sgd; the last step of irls is its best")
    turns = EPOCHS if method == "sgd" else ITERATIONS[family]
    how = glm.Settings(
        family, method, columns.whole(known.get("iterations", turns), "iterations", 1, 1000),
        l2=columns.number(known.get("l2", 0), "l2", 0, 1000),
        tolerance=columns.number(known.get("tolerance", 1e-5), "tolerance", 1e-6, 1),
        learning_rate=columns.number(known.get("learning_rate", 0.05), "learning_rate", 1e-6, 10),
        momentum=columns.number(known.get("momentum", 0.9), "momentum", 0, 0.99),
        batch=columns.whole(known.get("batch", 64), "batch", 1, 1 << 16),
        best=keep == "best",
    )  # fmt: skip
    reveal = columns.one_of(known.get("reveal", "summary"), "reveal", ["summary", "coefficients"])
    return Asked(how, reveal == "coefficients", _points(known, family, reveal))


def _points(known: Mapping[str, Any], family: str, reveal: str) -> Points | None:
    if known.get("points") is None:
        return None
    given = columns.fields(known["points"], "points", {"base", "odds", "double"}, set())
    if family != "logistic" or reveal != "coefficients":
        raise ValueError("points: a scorecard is of family logistic, and needs reveal: coefficients")
    return Points(
        columns.number(given["base"], "points.base", -1e6, 1e6),
        columns.number(given["odds"], "points.odds", 1e-6, 1e6),
        columns.number(given["double"], "points.double", 1e-3, 1e6),
    )


def check_features(asked: Asked, about: Mapping[str, Any]) -> None:
    """Refuse features that the family cannot learn from, by ``ValueError``."""
    target, family = about["target"], asked.how.family
    if target is None or target["kind"] != TARGETS[family]:
        raise ValueError(
            f"features: family {family} learns from features whose target is of kind {TARGETS[family]}"
        )
    if about["edges"]:
        raise ValueError("features: those with edges are for trees; leave out edges")
    if len(about["names"]) >= about["train"]:
        raise ValueError("features: as many features as training rows, or more; leave some out")
    if asked.how.best and about["train"] == about["rows"]:
        raise ValueError("keep: best needs rows that are held out; set train below 1 in the features' step")
    if asked.points and not all(each.get("woe") for each in about["columns"].values()):
        raise ValueError("points: every column of a scorecard is a category or bins with woe: true")
