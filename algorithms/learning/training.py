"""What training steps have in common: they read settings, take ``features`` and give a ``model``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MOST_NUMBERS = 1 << 27
Params = Mapping[str, Any]


@dataclass(frozen=True)
class Within:
    """A setting that is a number from ``low`` to ``high``, whole unless ``real``."""

    low: float
    high: float
    default: float
    real: bool = False

    def read(self, given: Any, where: str) -> Any:
        """Return the number, or refuse it by ``ValueError``."""
        kinds = int | float if self.real else int
        if isinstance(given, bool) or not isinstance(given, kinds) or not self.low <= given <= self.high:
            what = "a number" if self.real else "a whole number"
            raise ValueError(f"{where}: {what} from {self.low:g} to {self.high:g}")
        return float(given) if self.real else given


@dataclass(frozen=True)
class OneOf:
    """A setting that is one of some texts, the first where it is left out."""

    texts: Sequence[str]

    @property
    def default(self) -> str:
        """What it is where it is left out."""
        return self.texts[0]

    def read(self, given: Any, where: str) -> Any:
        """Return the text, or refuse it by ``ValueError``."""
        if given not in self.texts:
            raise ValueError(f"{where}: one of {', '.join(self.texts)}")
        return given


def settings(params: Params, known: Mapping[str, Within | OneOf]) -> dict[str, Any]:
    """Read a step's settings; what is left out has its default.

    Raises:
        ValueError: one is not known, or not in its range.
    """
    given = {name: each for name, each in params.items() if name != "taken"}
    if strange := sorted(set(given) - set(known)):
        raise ValueError(f"params.{strange[0]} is not known; there are {', '.join(known)}")
    return {name: each.read(given.get(name, each.default), name) for name, each in known.items()}


def features(params: Params) -> Mapping[str, Any]:
    """What is public of the features that the step takes."""
    facts: Mapping[str, Any] = params["taken"]["features"]["about"]
    return facts


def unweighted_rows(params: Params, least: int, numbers: int) -> int:
    """The number of training rows, for a model without weights.

    ``numbers`` is how many secret numbers the step holds of each row at once.

    Raises:
        ValueError: rows weigh differently, there are fewer than ``least``, or too many to hold.
    """
    if features(params)["weighted"]:
        raise ValueError(
            "the features are weighted, this model takes no weights; leave weight and balance out"
        )
    return enough_rows(params, least, numbers)


def enough_rows(params: Params, least: int, numbers: int) -> int:
    """The number of training rows; ``numbers`` is how many secret numbers the step holds of each row at once.

    Raises:
        ValueError: there are fewer training rows than ``least``, or too many rows to hold.
    """
    facts = features(params)
    train: int = facts["train"]
    if train < least:
        raise ValueError(f"there are {train} training rows, {least} are needed")
    if facts["rows"] * numbers > MOST_NUMBERS:
        fit = MOST_NUMBERS // numbers
        raise ValueError(f"there are {facts['rows']} rows; with these settings {fit} fit in memory")
    return train


def by_name(params: Params, arrays: Sequence[Any]) -> dict[str, Any]:
    """The arrays of the features taken, by name."""
    taken = params["taken"]["features"]["arrays"]
    return dict(zip((name for name, *_ in taken), arrays, strict=True))


def carried(params: Params) -> list[list[Any]]:
    """The features' arrays that a model keeps, to encode new rows alike."""
    taken = params["taken"]["features"]["arrays"]
    return [list(each) for each in taken if each[0] in ("shift", "scale", "woe")]


def model(params: Params, own: Mapping[str, Any], shapes: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """What a training step gives: ``own`` facts and arrays, then those to encode new rows."""
    facts = {name: each for name, each in features(params).items() if name not in ("rows", "train")}
    arrays = [[name, list(shape), "float64"] for name, shape in shapes.items()]
    value = {"kind": "model", "about": {**own, "features": facts}, "arrays": [*arrays, *carried(params)]}
    return {"model": value}
