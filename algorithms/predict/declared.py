"""What a prediction asks for, and whether model and features fit together. No number here is secret."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..learning.families import kind_of_scores

ROWS = ("held-out", "train", "all")
REVEAL = ("scores", "nothing")
MAX_DIGITS, LARGEST = 9, 2.0**40

Public = Mapping[str, Any]


@dataclass(frozen=True)
class Scored:
    """Which rows of which features get scores of which model; ``span`` maps a score to its number's unit."""

    features: Public
    model: Public
    first: int
    end: int
    of: str
    span: tuple[float, float]

    @property
    def count(self) -> int:
        """How many rows get a score."""
        return self.end - self.first

    def names(self, taken: Public) -> list[str]:
        """The arrays of what is taken, in order."""
        return [name for name, *_ in taken["arrays"]]

    def carried(self) -> list[str]:
        """What of the features goes on beside the scores."""
        return [each for each in ("target", "weight") if each in self.names(self.features)]

    def scores(self) -> dict[str, Any]:
        """The public description of the scores."""
        about = self.features["about"]
        shape = [self.count]
        if self.of == "components":
            shape.append(next(shape[1] for name, shape, _ in self.model["arrays"] if name == "axes"))
        made = [["score", shape, "float64"], *([each, [self.count], "float64"] for each in self.carried())]
        facts = {
            "rows": self.count,
            "of": self.of,
            "target": about["target"],
            "weighted": "weight" in self.carried(),
        }
        return {"kind": "scores", "about": facts, "arrays": made}


@dataclass(frozen=True)
class Plan:
    """A step's parameters, read."""

    rows: str
    reveal: bool
    digits: int

    def scored(self, params: Public) -> Scored:
        """Hold the model to the features.

        Raises:
            ValueError: the model was made of other features, or there are no such rows.
        """
        features, model = (params["taken"][role] for role in ("features", "model"))
        about, trained = features["about"], model["about"]["features"]
        if why := why_unlike(trained, about):
            raise ValueError(why)
        total, train = about["rows"], about["train"]
        first, end = {"held-out": (train, total), "train": (0, train), "all": (0, total)}[self.rows]
        if first >= end:
            raise ValueError(f"rows: there are no {self.rows} rows in the features; ask for others")
        of = kind_of_scores(model["about"])
        span = _span(trained["target"]) if of == "number" else (0.0, 1.0)
        if self.reveal and (abs(span[0]) + span[1]) * 10**self.digits > LARGEST:
            raise ValueError("digits: too many for a target of such bounds; ask for fewer")
        return Scored(features, model, first, end, of, span)


def _span(target: Public) -> tuple[float, float]:
    """The middle and half of a number's bounds; counts are themselves."""
    if target["kind"] != "number":
        return 0.0, 1.0
    return (target["low"] + target["high"]) / 2, (target["high"] - target["low"]) / 2


def why_unlike(trained: Public, given: Public) -> str | None:
    """The first difference between a model's features and those given, in words."""
    for at, (name, other) in enumerate(zip(trained["names"], given["names"], strict=False), start=1):
        if name != other:
            return f"feature {at} is {name!r} in the model and {other!r} in the features"
    if len(trained["names"]) != len(given["names"]):
        return f"the model has {len(trained['names'])} features, {len(given['names'])} are given"
    for name, column in trained["columns"].items():
        if name not in given["columns"] or _filled(given["columns"][name]) != _filled(column):
            return f"column {name!r} is declared as {column} in the model, not as in the features"
    if more := sorted(set(given["columns"]) - set(trained["columns"])):
        return f"the model does not know the column {more[0]!r} of the features"
    if given["standardise"] and not trained["standardise"]:
        return "the features are standardised, the model's were not: leave standardise out"
    if given["target"] and trained["target"] and given["target"] != trained["target"]:
        return f"the model's target is {trained['target']}, that of the features {given['target']}"
    return None


def _filled(column: Public) -> dict[str, Any]:
    """A column's declaration but for what stands in empty cells: new rows may have none."""
    return {key: each for key, each in column.items() if key != "missing"}


def read(params: Public) -> Plan:
    """Read a step's parameters.

    Raises:
        ValueError: they make no sense, with the place and what would be right.
    """
    given = {name: each for name, each in params.items() if name != "taken"}
    if unknown := sorted(set(given) - {"rows", "reveal", "digits"}):
        raise ValueError(f"params.{unknown[0]}: predict takes rows, reveal and digits")
    rows, reveal, digits = given.get("rows"), given.get("reveal"), given.get("digits", 4)
    if rows not in ROWS:
        raise ValueError(f"rows: one of {', '.join(ROWS)}")
    if reveal not in REVEAL:
        raise ValueError(f"reveal: one of {', '.join(REVEAL)}")
    if not isinstance(digits, int) or isinstance(digits, bool) or not 0 <= digits <= MAX_DIGITS:
        raise ValueError(f"digits: a whole number from 0 to {MAX_DIGITS}")
    return Plan(rows, reveal == "scores", digits)
