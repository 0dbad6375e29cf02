"""What is asked of scores, and whether they are of a kind that it can be asked of. Nothing here is secret."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAX_ROWS = 1 << 20
TABLES = ("gains", "calibration")
RANKS = ("auc", "ks", *TABLES)
FOR_INDICATORS = (*RANKS, "confusion", "log_loss")
FOR_NUMBERS = ("rmse", "mae", "r2")
METRICS = (*FOR_INDICATORS, *FOR_NUMBERS, "poisson_deviance")

Public = Mapping[str, Any]
PARTS = {
    "auc": ("area",),
    "ks": ("gap",),
    "confusion": ("cells",),
    "log_loss": ("log_loss",),
    "rmse": ("squared",),
    "mae": ("absolute",),
    "r2": ("squared", "spread"),
    "poisson_deviance": ("deviance",),
}


@dataclass(frozen=True)
class Scores:
    """The public facts of the scores; ``half`` is what a number's difference of 1 stands for."""

    rows: int
    of_classes: bool
    weighted: bool
    half: float


@dataclass(frozen=True)
class Plan:
    """A step's parameters, read."""

    metrics: tuple[str, ...]
    min_group: int
    threshold: float
    bins: int

    @property
    def ranks(self) -> bool:
        """Whether scores have to be sorted."""
        return any(each in RANKS for each in self.metrics)

    @property
    def tables(self) -> tuple[str, ...]:
        """Which tables by bins are asked for."""
        return tuple(each for each in TABLES if each in self.metrics)

    def edges(self, rows: int) -> list[int]:
        """Where bins of nearly equally many ranked rows begin, and the end."""
        return [round(at * rows / self.bins) for at in range(self.bins + 1)]

    def parts(self, scores: Scores) -> list[str]:
        """What the joint function returns, in order."""
        found = ["events", "others"] if scores.of_classes else ["weight"] if scores.weighted else []
        for each in self.metrics:
            found += PARTS.get(each, ())
        if self.tables:
            found += ["bin_kept", "bin_events", "bin_others"]
            found += ["bin_scores"] if "calibration" in self.tables else []
        return list(dict.fromkeys(found))

    def held_to(self, about: Public) -> Scores:
        """Hold the metrics to the scores.

        Raises:
            ValueError: there is no target or no row, too few or too many of them, or a metric does not apply.
        """
        rows, target = about["rows"], about["target"]
        if not target:
            raise ValueError(
                "scores: they came without a target, so there is nothing to measure them against"
            )
        if not rows:
            raise ValueError("scores: there is no row to measure; let features hold some out")
        if not self.min_group <= rows <= MAX_ROWS:
            raise ValueError(f"scores: {rows} rows; at least min_group ({self.min_group}), at most 2^20")
        for each in self.metrics:
            if why := _why_not(each, about["of"], target["kind"]):
                raise ValueError(f"metrics: {each} {why}")
        if self.tables and rows // self.bins < self.min_group:
            raise ValueError(f"bins: {rows} rows make bins of fewer than min_group; ask for fewer bins")
        half = (target["high"] - target["low"]) / 2 if target["kind"] == "number" else 1.0
        return Scores(rows, target["kind"] == "indicator", about["weighted"], half)


def _why_not(metric: str, of: str, target: str) -> str | None:
    if metric in FOR_INDICATORS:
        if target != "indicator" or of not in ("probability", "points"):
            return "is for probabilities or points of an indicator"
        if metric in ("log_loss", "calibration") and of != "probability":
            return "is for probabilities"
    elif of != "number" or target == "indicator":
        return "is for predicted numbers of a number or a count"
    elif metric == "poisson_deviance" and target != "count":
        return "is for a count"
    return None


def read(params: Public) -> Plan:
    """Read a step's parameters.

    Raises:
        ValueError: they make no sense, with the place and what would be right.
    """
    given = {name: each for name, each in params.items() if name != "taken"}
    if unknown := sorted(set(given) - {"metrics", "min_group", "threshold", "bins"}):
        raise ValueError(f"params.{unknown[0]}: evaluate takes metrics, min_group, threshold and bins")
    metrics, threshold = given.get("metrics"), given.get("threshold", 0.5)
    if not isinstance(metrics, list) or not metrics or len(set(map(str, metrics))) != len(metrics):
        raise ValueError(f"metrics: a list of some of {', '.join(METRICS)}")
    for each in metrics:
        if each not in METRICS:
            raise ValueError(f"metrics: {each!r} is none of {', '.join(METRICS)}")
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not abs(threshold) < 1e6:
        raise ValueError("threshold: a number")
    least = _whole(given, "min_group", None, 2, 1 << 20)
    return Plan(tuple(metrics), least, float(threshold), _whole(given, "bins", 10, 2, 100))


def _whole(given: Public, name: str, default: int | None, low: int, high: int) -> int:
    found = given.get(name, default)
    if not isinstance(found, int) or isinstance(found, bool) or not low <= found <= high:
        raise ValueError(f"{name}: a whole number from {low} to {high}")
    return found
