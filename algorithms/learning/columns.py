"""The columns of a joint model: declared once, read strictly, named as features.

Reading refuses what makes no sense by ``ValueError``, which says where it stands and what would be right.
Columns are taken in the order of their names: JSON does not keep any other.
"""

import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
MAX_COLUMNS, MAX_KEYS, MAX_FEATURES, MAX_EDGES = 64, 64, 256, 64
MAX_NUMBER, MAX_COUNT = 2.0**200, 1000.0
LEAST_ROWS, MOST_ROWS = 10, 1 << 20


@dataclass(frozen=True)
class Place:
    """Where a column is: its input (``None``: in every input, one below the other) and its name there."""

    name: str
    kind: str
    input: str | None
    column: str
    missing: bool

    @property
    def reads(self) -> str:
        """How the owner's table reads it."""
        read = "category" if self.kind in ("category", "indicator") else "number"
        return f"nullable_{read}" if self.missing else read


@dataclass(frozen=True)
class Column(Place):
    """A declared column and all that is public of its values."""

    low: float = 0.0
    high: float = 1.0
    positive: str = ""
    keys: tuple[str, ...] = ()
    edges: tuple[float, ...] = ()
    open_ends: bool = False
    woe: bool = False

    @property
    def middle(self) -> float:
        """What a number is encoded as 0 at."""
        return (self.low + self.high) / 2

    @property
    def half(self) -> float:
        """How far a number is from the middle where it is encoded as 1."""
        return (self.high - self.low) / 2

    def features(self, drop_first: bool) -> list[str]:
        """The names of the features it makes, one of each column of the matrix."""
        if self.woe or not self.keys:
            return [self.name]
        return [f"{self.name}={key}" for key in self.keys[drop_first:]]

    def public(self) -> dict[str, Any]:
        """What is declared of its values, as JSON, without its place."""
        own: dict[str, Any] = {"kind": self.kind}
        if self.kind in ("number", "count"):
            own |= {"low": self.low, "high": self.high}
        elif self.kind == "indicator":
            own["positive"] = self.positive
        elif self.kind == "bins":
            own |= {"edges": list(self.edges), "open_ends": self.open_ends}
        else:
            own["categories"] = list(self.keys)
        own |= {"woe": True} if self.woe else {}
        return {**own, "missing": "middle"} if self.missing else own


Fields = Mapping[str, Any]


def fields(given: Any, where: str, required: set[str], optional: set[str]) -> Fields:
    """Return ``given``, an object with all of ``required`` and none but these and ``optional``."""
    if not isinstance(given, Mapping):
        raise ValueError(f"{where}: an object")  # noqa: TRY004
    if missing := required - set(given):
        raise ValueError(f"{where}: {', '.join(sorted(missing))} is missing")
    if strange := set(given) - required - optional:
        known = ", ".join(sorted(required | optional))
        raise ValueError(f"{where}: {', '.join(sorted(map(str, strange)))} is not known; there are {known}")
    return given


def is_number(value: Any) -> bool:
    """Whether it is a number, of a size that fits."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < MAX_NUMBER


def whole(given: Any, where: str, low: int, high: int) -> int:
    """A whole number from ``low`` to ``high``."""
    if not isinstance(given, int) or isinstance(given, bool) or not low <= given <= high:
        raise ValueError(f"{where}: a whole number from {low} to {high}")
    return given


def number(given: Any, where: str, low: float, high: float) -> float:
    """A number from ``low`` to ``high``."""
    if not is_number(given) or not low <= given <= high:
        raise ValueError(f"{where}: a number from {low:g} to {high:g}")
    return float(given)


def truth(given: Any, where: str) -> bool:
    """True or false."""
    if not isinstance(given, bool):
        raise ValueError(f"{where}: true or false")  # noqa: TRY004
    return given


def one_of(given: Any, where: str, known: Sequence[str]) -> str:
    """One of the texts ``known``."""
    if not isinstance(given, str) or given not in known:
        raise ValueError(f"{where}: one of {', '.join(known)}")
    return given


def texts(given: Any, where: str) -> tuple[str, ...]:
    """A list of distinct texts, none empty."""
    if not isinstance(given, list | tuple) or not all(isinstance(each, str) and each for each in given):
        raise ValueError(f"{where}: a list of texts")
    if len(set(given)) != len(given):
        raise ValueError(f"{where}: each text once")
    return tuple(given)


def named(given: Any, where: str) -> list[tuple[str, Any]]:
    """The members of an object of columns, by name."""
    if not isinstance(given, Mapping) or not 1 <= len(given) <= MAX_COLUMNS:
        raise ValueError(f"{where}: an object of 1 to {MAX_COLUMNS} columns")
    for name in given:
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise ValueError(f"{where}: {name!r} is no name; use a-z, 0-9 and _, 32 at the most")
    return sorted(given.items())


def horizontal_inputs(given: Any, inputs: Sequence[str] | None) -> tuple[str, ...]:
    """The inputs whose rows are put below each other, in that order; none in a vertical partition."""
    if given is None:
        return ()
    found = texts(given, "horizontal")
    if len(found) < 2 or (inputs is not None and sorted(found) != sorted(inputs)):
        raise ValueError("horizontal: lists all of the step's inputs, of which there are two or more")
    return found


def place(name: str, given: Any, horizontal: Sequence[str], inputs: Sequence[str] | None) -> Place:
    """Read where a column is; other fields are left alone."""
    where = f"columns.{name}"
    if not isinstance(given, Mapping):
        raise ValueError(f"{where}: an object with kind, and where the column is")  # noqa: TRY004
    kind = one_of(given.get("kind"), f"{where}.kind", list(KINDS))
    held = given.get("input")
    if horizontal and held is not None:
        raise ValueError(f"{where}.input: every input of a horizontal partition holds it; leave it out")
    if not horizontal and (not isinstance(held, str) or (inputs is not None and held not in inputs)):
        raise ValueError(f"{where}.input: one of the step's inputs: {', '.join(inputs or ())}")
    column, missing = given.get("column", name), given.get("missing")
    if not isinstance(column, str) or not column:
        raise ValueError(f"{where}.column: the column's name in its table")
    if missing is not None and (missing != "middle" or kind != "number"):
        raise ValueError(f"{where}.missing: 'middle', and of a number; other kinds have no missing cells")
    return Place(name, kind, held, column, missing is not None)


PLACE = {"input", "column", "missing"}


def column(name: str, given: Any, horizontal: Sequence[str], inputs: Sequence[str] | None) -> Column:
    """Read a whole declaration."""
    at = place(name, given, horizontal, inputs)
    required, optional, reader = KINDS[at.kind]
    known = fields(given, f"columns.{name}", {"kind", *required}, {*PLACE, *optional})
    return Column(at.name, at.kind, at.input, at.column, at.missing, **reader(known, f"columns.{name}"))


def _number(known: Fields, where: str) -> dict[str, Any]:
    low, high = known["low"], known["high"]
    if not is_number(low) or not is_number(high) or not low < high:
        raise ValueError(f"{where}: low and high are numbers below 2^200, low below high")
    return {"low": float(low), "high": float(high)}


def _count(known: Fields, where: str) -> dict[str, Any]:
    low = number(known.get("low", 0), f"{where}.low", 0, MAX_COUNT)
    return {"low": low, "high": number(known["high"], f"{where}.high", max(1.0, low), MAX_COUNT)}


def _indicator(known: Fields, where: str) -> dict[str, Any]:
    if not isinstance(known["positive"], str) or not known["positive"]:
        raise ValueError(f"{where}.positive: the value that counts as one, as text")
    return {"positive": known["positive"]}


def _category(known: Fields, where: str) -> dict[str, Any]:
    keys = texts(known["categories"], f"{where}.categories")
    if not 2 <= len(keys) <= MAX_KEYS:
        raise ValueError(f"{where}.categories: 2 to {MAX_KEYS} values")
    return {"keys": keys, "woe": truth(known.get("woe", False), f"{where}.woe")}


def _bins(known: Fields, where: str) -> dict[str, Any]:
    edges = known["edges"]
    if not isinstance(edges, list) or not all(is_number(each) for each in edges):
        raise ValueError(f"{where}.edges: a list of numbers below 2^200")
    if not 3 <= len(edges) <= MAX_KEYS + 1 or sorted(set(edges)) != edges:
        raise ValueError(f"{where}.edges: 3 to {MAX_KEYS + 1} numbers, each above the one before")
    opened = truth(known.get("open_ends", False), f"{where}.open_ends")
    woe = truth(known.get("woe", False), f"{where}.woe")
    return {
        "edges": tuple(map(float, edges)),
        "open_ends": opened,
        "keys": _intervals(edges, opened),
        "woe": woe,
    }


def _intervals(edges: Sequence[float], opened: bool) -> tuple[str, ...]:
    """Bins as texts: closed on the left, the last one on both sides."""
    shown: Sequence[Any] = ["-inf", *edges[1:-1], "inf"] if opened else edges
    ends = [each if isinstance(each, str) else repr(float(each)).removesuffix(".0") for each in shown]
    found = [f"[{low}, {high})" for low, high in itertools.pairwise(ends)]
    return (*found[:-1], found[-1] if opened else found[-1][:-1] + "]")


Reader = Callable[[Fields, str], dict[str, Any]]
KINDS: dict[str, tuple[set[str], set[str], Reader]] = {
    "number": ({"low", "high"}, set(), _number),
    "count": ({"high"}, {"low"}, _count),
    "indicator": ({"positive"}, set(), _indicator),
    "category": ({"categories"}, {"woe"}, _category),
    "bins": ({"edges"}, {"open_ends", "woe"}, _bins),
}


# --- the whole step


@dataclass(frozen=True)
class Plan:
    """A features step's parameters, read. ``fitted``: rows are encoded as a model's were."""

    horizontal: tuple[str, ...]
    columns: Mapping[str, Column]
    target: Column | None
    weight: Column | None
    balance: bool
    train: float
    min_rows: int
    standardise: bool
    drop_first: bool
    edges: int
    smoothing: float
    fitted: bool = False

    @property
    def inputs(self) -> tuple[str, ...]:
        """All inputs that hold a column."""
        found = [*self.columns.values(), *(each for each in (self.target, self.weight) if each)]
        return self.horizontal or tuple(sorted({each.input for each in found if each.input}))

    def held(self, name: str) -> list[Column]:
        """The features' columns that input ``name`` holds."""
        return [each for each in self.columns.values() if each.input in (None, name)]

    @property
    def names(self) -> list[str]:
        """All features, in the order of the matrix."""
        return [name for each in self.columns.values() for name in each.features(self.drop_first)]

    @property
    def weighted(self) -> bool:
        """Whether rows weigh differently."""
        return self.weight is not None or self.balance

    @property
    def bins(self) -> int:
        """How many weights of evidence there are."""
        return sum(len(each.keys) for each in self.columns.values() if each.woe)

    def trained(self, rows: int) -> int:
        """How many of so many rows are for training: the first ones."""
        return rows if self.fitted else min(rows, math.floor(self.train * rows + 0.5))


OPTIONS = {
    "target",
    "weight",
    "balance",
    "train",
    "min_rows",
    "standardise",
    "drop_first",
    "edges",
    "smoothing",
}


def read(params: Mapping[str, Any], inputs: Sequence[str] | None = None) -> Plan:
    """Read the parameters of a features step; ``inputs`` are the step's, where they are known.

    Raises:
        ValueError: they make no sense, with the place and what would be right.
    """
    known = fields(params, "params", {"columns"}, {"horizontal", "apply", *OPTIONS})
    horizontal = horizontal_inputs(known.get("horizontal"), inputs)
    found = {
        name: column(name, each, horizontal, inputs) for name, each in named(known["columns"], "columns")
    }
    target = _taken(known, "target", found, ("indicator", "number", "count"))
    weight = _taken(known, "weight", found, ("number",))
    edges = whole(known.get("edges", 0), "edges", 0, MAX_EDGES)
    plan = Plan(
        horizontal, found, target, weight,
        balance=truth(known.get("balance", False), "balance"),
        train=number(known.get("train", 1), "train", 0.05, 1),
        min_rows=whole(known.get("min_rows", LEAST_ROWS), "min_rows", LEAST_ROWS, MOST_ROWS),
        standardise=truth(known.get("standardise", not edges), "standardise"),
        drop_first=truth(known.get("drop_first", False), "drop_first"),
        edges=edges,
        smoothing=number(known.get("smoothing", 0.5), "smoothing", 0.01, 1000),
    )  # fmt: skip
    _refuse_contradictions(plan)
    return plan


def _taken(known: Fields, role: str, found: dict[str, Column], kinds: Sequence[str]) -> Column | None:
    """The column that ``role`` names, taken out of the features; ``None`` where it names none."""
    if (name := known.get(role)) is None:
        return None
    if not isinstance(name, str) or name not in found:
        raise ValueError(f"{role}: one of the declared columns that are left: {', '.join(found)}")
    if found[name].kind not in kinds or found[name].missing:
        raise ValueError(f"{role}: {name} is to be of kind {' or '.join(kinds)}, without missing cells")
    return found.pop(name)


def _refuse_contradictions(plan: Plan) -> None:
    if not plan.columns:
        raise ValueError("columns: one feature at the least, beside target and weight")
    for name, each in plan.columns.items():
        if each.kind == "count":
            raise ValueError(f"columns.{name}.kind: a count is a target; declare a feature as number")
    if len(plan.names) > MAX_FEATURES:
        raise ValueError(f"columns: they make {len(plan.names)} features, at most {MAX_FEATURES} fit")
    if (plan.balance or plan.bins) and (plan.target is None or plan.target.kind != "indicator"):
        raise ValueError("target: balance and weights of evidence need an indicator as target")
    if plan.weight is not None and plan.weight.low < 0:
        raise ValueError(f"columns.{plan.weight.name}.low: a weight is not negative")
    if plan.edges and (plan.standardise or plan.bins):
        raise ValueError("edges: they are of values as declared; leave out standardise and woe")


# --- what travels with the values


def about(plan: Plan, rows: int) -> dict[str, Any]:
    """The public facts of ``features`` made by ``plan``, without place of any column."""
    target = plan.target
    return {
        "rows": rows,
        "train": plan.trained(rows),
        "names": plan.names,
        "columns": {name: each.public() for name, each in plan.columns.items()},
        "standardise": plan.standardise,
        "drop_first": plan.drop_first,
        "target": None if target is None else {**_span(target), **target.public(), "name": target.name},
        "weighted": plan.weighted,
        "edges": plan.edges,
    }


def _span(target: Column) -> dict[str, Any]:
    return {"low": target.low, "high": target.high}


def declared(facts: Mapping[str, Any]) -> dict[str, Column]:
    """The columns of features, from their public facts; they have no place."""
    return {
        name: column(name, each, ("any", "other"), None) for name, each in sorted(facts["columns"].items())
    }


# --- new rows, encoded as a model's were


def places(params: Mapping[str, Any], inputs: Sequence[str] | None = None) -> dict[str, Place]:
    """Where the columns of new rows are: with ``apply``, all that the parameters say."""
    known = fields(params, "params", {"columns", "apply"}, {"horizontal", "target"})
    horizontal = horizontal_inputs(known.get("horizontal"), inputs)
    for name, each in named(known["columns"], "columns"):
        fields(each, f"columns.{name}", {"kind"}, PLACE)
    found = {name: place(name, each, horizontal, inputs) for name, each in named(known["columns"], "columns")}
    if (target := known.get("target")) is not None and target not in found:
        raise ValueError(f"target: one of the columns: {', '.join(found)}")
    return found


def fitted(params: Mapping[str, Any], facts: Mapping[str, Any]) -> Plan:
    """The plan of new rows, from their places and the public facts of the features that a model learnt from.

    Raises:
        ValueError: a column is missing, one too many, or of another kind than the model's.
    """
    given = places(params)
    asked = params.get("target")
    wanted = dict(facts["columns"])
    target = facts["target"]
    if asked is not None and (target is None or asked != target["name"]):
        named_so = "none" if target is None else target["name"]
        raise ValueError(f"target: {asked} is not the model's, which is {named_so}")
    if asked is not None:
        keys = {"indicator": ("kind", "positive")}.get(target["kind"], ("kind", "low", "high"))
        wanted[asked] = {key: target[key] for key in keys}
    if set(given) != set(wanted):
        raise ValueError(f"columns: exactly those of the model: {', '.join(sorted(wanted))}")
    horizontal = horizontal_inputs(params.get("horizontal"), None)
    found = {name: _refitted(given[name], wanted[name], horizontal) for name in sorted(wanted)}
    return Plan(
        horizontal, found, found.pop(asked, None) if asked else None, None, balance=False, train=1.0,
        min_rows=1, standardise=facts["standardise"], drop_first=facts["drop_first"], edges=0, smoothing=0.5,
        fitted=True,
    )  # fmt: skip


def _refitted(at: Place, public: Mapping[str, Any], horizontal: Sequence[str]) -> Column:
    if at.kind != public["kind"]:
        raise ValueError(f"columns.{at.name}.kind: the model's is {public['kind']}")
    if at.missing and "missing" not in public:
        raise ValueError(f"columns.{at.name}.missing: the model learnt from rows without missing cells")
    known = {key: value for key, value in public.items() if key != "missing"}
    known |= {"column": at.column} | ({} if horizontal else {"input": at.input})
    return column(at.name, {**known, "missing": "middle"} if at.missing else known, horizontal, None)
