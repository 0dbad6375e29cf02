"""What a statistics step asks for: columns, declared once, and requests that name them.

Reading refuses what makes no sense by ``ValueError``, which says where it stands and what would be right.
"""

import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
RESERVED = {"rows"}
MAX_COLUMNS, MAX_REQUESTS, MAX_KEYS, MAX_GROUPS = 64, 32, 256, 1024
STATISTICS = ("mean", "sum", "variance", "deviation", "min", "max")
QUANTILE_STEPS = 10_000
MAX_NUMBER = 2.0**200


@dataclass(frozen=True)
class Column:
    """A declared column. ``input`` is ``None`` where every input holds it (horizontal partition)."""

    name: str
    kind: str
    input: str | None
    column: str
    nulls: bool
    low: float | None = None
    high: float | None = None
    keys: tuple[str, ...] = ()
    edges: tuple[float, ...] = ()
    open_ends: bool = False
    positive: str = ""

    @property
    def is_key(self) -> bool:
        """Whether it sorts rows into groups."""
        return bool(self.keys)

    @property
    def is_bounded(self) -> bool:
        """Whether its bounds are public, so that its scale needs not be shared."""
        return self.kind == "indicator" or self.low is not None

    @property
    def reads(self) -> str | None:
        """How the owner's table reads it, or ``None`` where it reads nothing."""
        if self.kind == "input":
            return None
        read = "number" if self.kind in ("number", "bins") else "category"
        return f"nullable_{read}" if self.nulls else read


@dataclass(frozen=True)
class Request:
    """One measure over columns. What a measure does not take is empty."""

    name: str
    measure: str
    of: tuple[str, ...]
    by: tuple[str, ...] = ()
    statistics: tuple[str, ...] = ()
    quantiles: tuple[float, ...] = ()
    between: str = ""
    pair: tuple[str, ...] = ()
    event: str = ""
    smoothing: float = 0.0
    equal_variances: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns it names."""
        named = (*self.of, *self.by, self.between, self.event)
        return tuple(dict.fromkeys(each for each in named if each))


@dataclass(frozen=True)
class Plan:
    """A step's parameters, read. ``horizontal`` lists the inputs whose rows are put below each other."""

    min_group: int
    horizontal: tuple[str, ...]
    columns: Mapping[str, Column]
    requests: Mapping[str, Request]

    def held_by(self, column: Column) -> tuple[str, ...]:
        """The inputs that hold ``column``, in the order of their rows."""
        return self.horizontal if column.input is None else (column.input,)

    def standardised(self, request: Request) -> bool:
        """Whether owners scale the columns of ``request`` to mean 0 and deviation 1 themselves."""
        return request.measure == "correlation" and not self.horizontal

    def secrets(self, column: Column) -> list[str]:
        """What the owner shares of ``column``, in order."""
        if column.is_key:
            return ["hot"]
        using = [each for each in self.requests.values() if column.name in each.columns]
        found = []
        if any(not self.standardised(each) for each in using):
            found += ["code"] if column.is_bounded else ["code", "exponent"]
        if any(self.standardised(each) for each in using):
            found.append("standard")
        return [*found, "valid"] if column.nulls else found

    def parts(self, request: Request) -> list[str]:
        """What the joint function returns of ``request``, in order."""
        if request.measure == "summary":
            return _parts_of_summary(self, request)
        if request.measure in ("covariance", "correlation"):
            nulls = any(self.columns[each].nulls for each in request.of)
            return ["centred", "rows", "spread"] if nulls else ["centred"]
        return list(PARTS[request.measure])

    def unbounded(self) -> list[str]:
        """Columns whose scale the requester is told along with the results."""
        return [each.name for each in self.columns.values() if "exponent" in self.secrets(each)]


PARTS = {
    "histogram": ("rows",),
    "chi_square": ("rows", "degrees", "statistic"),
    "t_test": ("rows", "sum", "centred"),
    "stability": ("rows",),
    "woe": ("rows", "events"),
    "distinct": ("rows", "distinct"),
    "nulls": ("rows",),
}


def _parts_of_summary(plan: Plan, request: Request) -> list[str]:
    asked = set(request.statistics)
    parts = ["rows"]
    if any(plan.columns[each].nulls for each in request.of):
        parts.append("known")
    if asked & {"sum", "mean"}:
        parts.append("sum")
    if asked & {"variance", "deviation"}:
        parts.append("centred")
    parts += [each for each in ("min", "max") if each in asked]
    return [*parts, "quantiles"] if request.quantiles else parts


def read(params: Mapping[str, Any], inputs: Sequence[str] | None = None) -> Plan:
    """Read a step's parameters; ``inputs`` are the step's, where they are known.

    Raises:
        ValueError: they make no sense, with the place and what would be right.
    """
    known = _fields(params, "params", {"min_group", "columns", "requests"}, {"horizontal"})
    least = known["min_group"]
    if not _is_whole(least) or not 2 <= least <= 1 << 20:
        raise ValueError("min_group: a whole number from 2 to 2^20")
    horizontal = _inputs(known.get("horizontal"), inputs)
    columns = {
        name: _column(name, each, horizontal, inputs)
        for name, each in _named(known["columns"], "columns", MAX_COLUMNS)
    }
    requests = {
        name: _request(name, each, columns)
        for name, each in _named(known["requests"], "requests", MAX_REQUESTS)
    }
    used = {each for request in requests.values() for each in request.columns}
    for name in columns:
        if name not in used:
            raise ValueError(f"columns.{name}: no request uses it; leave it out, so that it is not shared")
    return Plan(least, horizontal, columns, requests)


# --- columns


def _inputs(given: Any, inputs: Sequence[str] | None) -> tuple[str, ...]:
    if given is None:
        return ()
    found = _texts(given, "horizontal")
    if len(found) < 2 or (inputs is not None and sorted(found) != sorted(inputs)):
        raise ValueError("horizontal: lists all of the step's inputs, of which there are two or more")
    return found


def _column(name: str, given: Any, horizontal: tuple[str, ...], inputs: Sequence[str] | None) -> Column:
    where = f"columns.{name}"
    kind = given.get("kind") if isinstance(given, Mapping) else None
    if kind not in KINDS:
        raise ValueError(f"{where}.kind: one of {', '.join(KINDS)}")
    own, optional, read_more = KINDS[kind]
    place = set() if horizontal else {"input"}
    fields = _fields(given, where, {"kind", *own, *place}, {"column", "nulls", *optional})
    if kind == "input" and not horizontal:
        raise ValueError(f"{where}.kind: 'input' tells the rows of a horizontal partition apart")
    if not horizontal and not _is_input(fields["input"], inputs):
        raise ValueError(f"{where}.input: one of the step's inputs: {', '.join(inputs or ())}")
    column, nulls = fields.get("column", name), fields.get("nulls", False)
    if not isinstance(column, str) or not column:
        raise ValueError(f"{where}.column: the column's name in its table")
    if not isinstance(nulls, bool):
        raise ValueError(f"{where}.nulls: true where cells may be empty, else false")  # noqa: TRY004
    more = {"keys": horizontal} if kind == "input" else read_more(fields, where)
    if kind == "number" and horizontal and "low" not in more:
        raise ValueError(f"{where}: give low and high; parties of a horizontal partition share one scale")
    return Column(name, kind, fields.get("input"), column, nulls, **more)


def _is_input(value: Any, inputs: Sequence[str] | None) -> bool:
    return isinstance(value, str) and (inputs is None or value in inputs)


def _number(fields: Mapping[str, Any], where: str) -> dict[str, Any]:
    if ("low" in fields) != ("high" in fields):
        raise ValueError(f"{where}: give both low and high, or neither")
    if "low" not in fields:
        return {}
    low, high = fields["low"], fields["high"]
    if not _is_number(low) or not _is_number(high) or not low <= high:
        raise ValueError(f"{where}: low and high are numbers below 2^200, low not above high")
    return {"low": float(low), "high": float(high)}


def _indicator(fields: Mapping[str, Any], where: str) -> dict[str, Any]:
    if not isinstance(fields["positive"], str) or not fields["positive"]:
        raise ValueError(f"{where}.positive: the value that counts as one, as text")
    return {"positive": fields["positive"]}


def _category(fields: Mapping[str, Any], where: str) -> dict[str, Any]:
    keys = _texts(fields["categories"], f"{where}.categories")
    if not 1 <= len(keys) <= MAX_KEYS:
        raise ValueError(f"{where}.categories: 1 to {MAX_KEYS} values")
    return {"keys": keys}


def _bins(fields: Mapping[str, Any], where: str) -> dict[str, Any]:
    edges, opened = fields["edges"], fields.get("open_ends", False)
    if not isinstance(edges, list) or not all(_is_number(each) for each in edges):
        raise ValueError(f"{where}.edges: a list of numbers below 2^200")
    if not 2 <= len(edges) <= MAX_KEYS + 1 or sorted(set(edges)) != edges:
        raise ValueError(f"{where}.edges: 2 to {MAX_KEYS + 1} numbers, each above the one before")
    if not isinstance(opened, bool):
        raise ValueError(f"{where}.open_ends: true where values may lie beyond the edges, else false")  # noqa: TRY004
    return {"edges": tuple(map(float, edges)), "open_ends": opened, "keys": _intervals(edges, opened)}


def _intervals(edges: Sequence[float], opened: bool) -> tuple[str, ...]:
    """Bins as texts: closed on the left, the last one on both sides, as numpy's."""
    texts = [f"[{low:g}, {high:g})" for low, high in itertools.pairwise(edges)]
    texts[-1] = texts[-1][:-1] + "]"
    if opened:
        texts[-1] = f"[{edges[-2]:g}, inf)"
        texts[0] = f"(-inf, {edges[1]:g})" if len(edges) > 2 else "(-inf, inf)"
    if len(set(texts)) != len(texts):  # edges closer than six digits tell apart
        texts = [f"{text} #{at}" for at, text in enumerate(texts, start=1)]
    return tuple(texts)


Reader = Callable[[Mapping[str, Any], str], dict[str, Any]]
KINDS: dict[str, tuple[set[str], set[str], Reader]] = {
    "number": (set(), {"low", "high"}, _number),
    "indicator": ({"positive"}, set(), _indicator),
    "category": ({"categories"}, set(), _category),
    "bins": ({"edges"}, {"open_ends"}, _bins),
    "input": (set(), set(), lambda _fields, _where: {}),
}


# --- requests


def _request(name: str, given: Any, columns: Mapping[str, Column]) -> Request:
    where = f"requests.{name}"
    measure = given.get("measure") if isinstance(given, Mapping) else None
    if measure not in MEASURES:
        raise ValueError(f"{where}.measure: one of {', '.join(MEASURES)}")
    required, optional, read_more = MEASURES[measure]
    fields = _fields(given, where, {"measure", *required}, optional)
    of = _chosen(fields.get("of", []), f"{where}.of", columns)
    return Request(name, measure, of, **read_more(fields, where, of, columns))


Columns = Mapping[str, Column]


def _summary(fields: Mapping[str, Any], where: str, of: tuple[str, ...], columns: Columns) -> dict[str, Any]:
    _require(of, f"{where}.of", columns, "number", "indicator")
    by = _groups(fields.get("by", []), where, columns)
    asked = _texts(fields.get("statistics", []), f"{where}.statistics")
    for each in asked:
        if each not in STATISTICS:
            raise ValueError(f"{where}.statistics: {each!r} is none of {', '.join(STATISTICS)}")
    quantiles = fields.get("quantiles", [])
    if not isinstance(quantiles, list) or not all(map(_is_quantile, quantiles)) or len(quantiles) > 64:
        raise ValueError(f"{where}.quantiles: at most 64 numbers between 0 and 1, of at most 4 decimals")
    if of and not asked and not quantiles:
        raise ValueError(f"{where}: say which statistics or quantiles of {', '.join(of)}")
    if not of and not by:
        raise ValueError(f"{where}: groups need keys in by, or columns in of")
    if not of and (asked or quantiles):
        raise ValueError(f"{where}: statistics and quantiles are of columns: name them in of")
    return {"by": by, "statistics": asked, "quantiles": tuple(map(float, quantiles))}


def _histogram(
    fields: Mapping[str, Any], where: str, of: tuple[str, ...], columns: Columns
) -> dict[str, Any]:
    _require(of, f"{where}.of", columns, "bins", exactly=1)
    by = _chosen(fields.get("by", []), f"{where}.by", columns)
    return {"by": _groups([*by, *of], where, columns)}


def _matrix(_fields: Mapping[str, Any], where: str, of: tuple[str, ...], columns: Columns) -> dict[str, Any]:
    _require(of, f"{where}.of", columns, "number", "indicator")
    if len(of) < 2:
        raise ValueError(f"{where}.of: two columns or more")
    return {}


def _chi_square(
    _fields: Mapping[str, Any], where: str, of: tuple[str, ...], columns: Columns
) -> dict[str, Any]:
    _require(of, f"{where}.of", columns, *GROUPING, exactly=2)
    return {}


def _t_test(fields: Mapping[str, Any], where: str, of: tuple[str, ...], columns: Columns) -> dict[str, Any]:
    _require(of, f"{where}.of", columns, "number", "indicator", exactly=1)
    between = _between(fields, where, columns)
    pair = _texts(fields.get("groups", list(between.keys)), f"{where}.groups")
    equal = fields.get("equal_variances", False)
    if len(pair) != 2 or not set(pair) <= set(between.keys):
        raise ValueError(f"{where}.groups: two of {', '.join(between.keys)}")
    if not isinstance(equal, bool):
        raise ValueError(f"{where}.equal_variances: true for Student's test, false for Welch's")  # noqa: TRY004
    return {"between": between.name, "pair": pair, "equal_variances": equal}


def _stability(
    fields: Mapping[str, Any], where: str, of: tuple[str, ...], columns: Columns
) -> dict[str, Any]:
    _require(of, f"{where}.of", columns, *GROUPING, exactly=1)
    between = _between(fields, where, columns)
    pair = (fields["expected"], fields["actual"])
    if pair[0] == pair[1] or not all(each in between.keys for each in pair):
        raise ValueError(f"{where}: expected and actual are two of {', '.join(between.keys)}")
    return {"between": between.name, "pair": pair}


def _woe(fields: Mapping[str, Any], where: str, of: tuple[str, ...], columns: Columns) -> dict[str, Any]:
    _require(of, f"{where}.of", columns, *GROUPING, exactly=1)
    (event,) = _require(
        _chosen(fields["event"], f"{where}.event", columns), f"{where}.event", columns, "indicator", exactly=1
    )
    smoothing = fields.get("smoothing", 0)
    if not _is_number(smoothing) or not 0 <= smoothing <= 1000:
        raise ValueError(f"{where}.smoothing: a number from 0 to 1000, added to every count")
    return {"event": event, "smoothing": float(smoothing)}


def _any(_fields: Mapping[str, Any], where: str, of: tuple[str, ...], columns: Columns) -> dict[str, Any]:
    _require(of, f"{where}.of", columns, *KINDS)
    if not of:
        raise ValueError(f"{where}.of: one column or more")
    return {}


def _nulls(fields: Mapping[str, Any], where: str, of: tuple[str, ...], columns: Columns) -> dict[str, Any]:
    for each in of:
        if not columns[each].nulls:
            raise ValueError(f"{where}.of: {each} has no nulls unless columns.{each}.nulls is true")
    return _any(fields, where, of, columns)


GROUPING = ("category", "bins", "input")
RequestReader = Callable[[Mapping[str, Any], str, tuple[str, ...], Columns], dict[str, Any]]
MEASURES: dict[str, tuple[set[str], set[str], RequestReader]] = {
    "summary": (set(), {"of", "by", "statistics", "quantiles"}, _summary),
    "histogram": ({"of"}, {"by"}, _histogram),
    "covariance": ({"of"}, set(), _matrix),
    "correlation": ({"of"}, set(), _matrix),
    "chi_square": ({"of"}, set(), _chi_square),
    "t_test": ({"of", "between"}, {"groups", "equal_variances"}, _t_test),
    "stability": ({"of", "between", "expected", "actual"}, set(), _stability),
    "woe": ({"of", "event"}, {"smoothing"}, _woe),
    "distinct": ({"of"}, set(), _any),
    "nulls": ({"of"}, set(), _nulls),
}


def _groups(given: Any, where: str, columns: Columns) -> tuple[str, ...]:
    by = _require(_chosen(given, f"{where}.by", columns), f"{where}.by", columns, *GROUPING)
    if (groups := math.prod(len(columns[each].keys) for each in by)) > MAX_GROUPS:
        raise ValueError(f"{where}.by: {groups} groups; at most {MAX_GROUPS}, so merge categories")
    return by


def _between(fields: Mapping[str, Any], where: str, columns: Columns) -> Column:
    place = f"{where}.between"
    (name,) = _require(_chosen(fields["between"], place, columns), place, columns, *GROUPING, exactly=1)
    return columns[name]


def _chosen(given: Any, where: str, columns: Columns) -> tuple[str, ...]:
    """The names of declared columns: one as text, or several in a list."""
    found = _texts([given] if isinstance(given, str) else given, where)
    for each in found:
        if each not in columns:
            raise ValueError(f"{where}: there is no column {each!r}; declared are {', '.join(columns)}")
    return found


def _require(
    of: tuple[str, ...], where: str, columns: Columns, *kinds: str, exactly: int | None = None
) -> tuple[str, ...]:
    for each in of:
        if columns[each].kind not in kinds:
            wanted = " or ".join(kinds)
            raise ValueError(f"{where}: {each} is declared as {columns[each].kind}, here it must be {wanted}")
    if exactly is not None and len(of) != exactly:
        raise ValueError(f"{where}: exactly {exactly} column{'s' if exactly > 1 else ''}")
    return of


# --- reading


def _fields(given: Any, where: str, required: set[str], optional: set[str]) -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        raise ValueError(f"{where}: an object with {', '.join(sorted(required))}")  # noqa: TRY004
    if missing := sorted(required - set(given)):
        raise ValueError(f"{where}: {missing[0]} is missing")
    if surplus := sorted(set(given) - required - optional):
        allowed = ", ".join(sorted(required | optional))
        raise ValueError(f"{where}: {surplus[0]!r} means nothing here; it takes {allowed}")
    return given


def _named(given: Any, where: str, most: int) -> list[tuple[str, Any]]:
    if not isinstance(given, Mapping) or not 1 <= len(given) <= most:
        raise ValueError(f"{where}: 1 to {most} of them, by name")
    for name in given:
        if not NAME.fullmatch(name) or name in RESERVED:
            raise ValueError(
                f"{where}: {name!r} is no name: small letters, digits and _, at most 32, not 'rows'"
            )
    return list(given.items())


def _texts(given: Any, where: str) -> tuple[str, ...]:
    if not isinstance(given, list | tuple) or not all(isinstance(each, str) and each for each in given):
        raise ValueError(f"{where}: a list of texts")
    if len(set(given)) != len(given):
        raise ValueError(f"{where}: one is given twice")
    return tuple(given)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return bool(abs(value) < MAX_NUMBER)


def _is_quantile(value: Any) -> bool:
    if not _is_number(value) or not 0 < value < 1:
        return False
    return bool(abs(value * QUANTILE_STEPS - round(value * QUANTILE_STEPS)) < 1e-9)
