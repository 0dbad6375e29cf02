"""What may leave an enclave: a policy's shapes, and the guard that holds a result to them. Pure.

The guard runs in another process than the algorithm. It passes what is declared, rounds it, and refuses the
rest; a refusal names the place by declared names and positions, and quotes nothing. It limits what comes
out. It cannot tell an honest number from one that hides another, so owners approve code by its digest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, Literal, Protocol, TypeAlias, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sealtrace.protocol.attestation.policy import MAX_DECIMALS, Narrowing
from sealtrace.protocol.canonical import NotCanonical, canonical

MAX_OUTPUT_BYTES = 64 << 20
TELLING_CELLS = 3
"""Only a row with so many different cells besides 0, 1 and nothing is looked for in outputs."""
ID_DIGITS = 5
"""Only ids of so many digits are looked for among numbers."""
IDS_AMONG_NUMBERS = 3
"""So many different ones in one output are refused; fewer are chance."""

_SAMPLE, _SPARSE, _BATCH = 1000, 16, 10_000

Decimals = Annotated[int, Field(ge=0, le=MAX_DECIMALS)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]


class Reason(StrEnum):
    """Which rule refuses an output."""

    NOT_A_RESULT = "not_a_result"
    UNDECLARED = "undeclared"
    MISSING = "missing"
    WRONG_SHAPE = "wrong_shape"
    OUT_OF_RANGE = "out_of_range"
    FREE_TEXT = "free_text"
    GROUP_TOO_SMALL = "group_too_small"
    TOO_LARGE = "too_large"
    TOO_FEW_ROWS = "too_few_rows"
    ROW_IN_OUTPUT = "row_in_output"
    ID_IN_OUTPUT = "id_in_output"
    METRIC_ORDER = "metric_order"


NEXT_STEP = {
    Reason.NOT_A_RESULT: "run must return a dictionary of numbers, lists, dictionaries and declared words",
    Reason.UNDECLARED: "declare it in output_policy, or do not return it",
    Reason.MISSING: "return it, or declare it optional",
    Reason.WRONG_SHAPE: "return what output_policy declares there",
    Reason.OUT_OF_RANGE: "return a finite number within the declared bounds",
    Reason.FREE_TEXT: "return only words that output_policy lists or the job says publicly",
    Reason.GROUP_TOO_SMALL: "return null for groups below min_group, and for what is computed of them",
    Reason.TOO_LARGE: "return less, or ask the owners for a policy that allows more",
    Reason.TOO_FEW_ROWS: "bring more rows: the policy's min_rows protects the few",
    Reason.ROW_IN_OUTPUT: "return aggregates: a row of an input is in the output as it stands",
    Reason.ID_IN_OUTPUT: "return no ids, or declare them with kind id and have owners approve it",
    Reason.METRIC_ORDER: "report rounds in ascending order, and no more than max_rounds",
}


class OutputRefused(ValueError):
    """The output policy refuses what an algorithm gave; the message says where, by which rule, what to do."""

    def __init__(self, reason: Reason, where: str) -> None:
        super().__init__(f"{where}: {reason.value}; {NEXT_STEP[reason]}")
        self.reason = reason
        self.where = where
        self.next_step = NEXT_STEP[reason]


class PolicyWidened(ValueError):
    """A grant's limits allow what the algorithm's policy does not; a grant may only take away."""


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Number(_Document):
    """A finite number, rounded to ``decimals`` places."""

    kind: Literal["number"]
    decimals: Decimals
    low: float | None = None
    high: float | None = None
    nullable: bool = False


class Count(_Document):
    """How many rows something is about: at least the policy's ``min_group``, else it must be null."""

    kind: Literal["count"]


class Word(_Document):
    """One of the listed words; with ``public`` also any text that the job says publicly."""

    kind: Literal["word"]
    of: list[str] = Field(default_factory=list)
    public: bool = False


class Id(_Document):
    """An id of an input, as it stands. Owners read this before they approve."""

    kind: Literal["id"]


class ListOf(_Document):
    """At most ``max_items`` of one shape."""

    kind: Literal["list"]
    of: Shape
    max_items: Annotated[int, Field(gt=0, le=10_000_000)]


class Record(_Document):
    """Named fields, each of its shape. Those that are ``optional`` may be left out."""

    kind: Literal["record"]
    fields: dict[Name, Shape]
    optional: list[Name] = Field(default_factory=list)


class Table(_Document):
    """Columns of equal length by name, each cell of its column's shape."""

    kind: Literal["table"]
    columns: dict[Name, Annotated[Number | Count | Word | Id, Field(discriminator="kind")]]
    max_rows: Annotated[int, Field(gt=0, le=10_000_000)]


class Model(_Document):
    """A trained model as JSON: numbers, lists, dictionaries; keys and texts are ``words`` or public."""

    kind: Literal["model"]
    decimals: Decimals
    words: list[str]


Shape: TypeAlias = Annotated[
    Number | Count | Word | Id | ListOf | Record | Table | Model, Field(discriminator="kind")
]


class Output(_Document):
    """One declared output."""

    shape: Shape
    max_bytes: Annotated[int, Field(gt=0, le=MAX_OUTPUT_BYTES)]
    """Of its canonical JSON, after rounding."""
    optional: bool = False


class Metrics(_Document):
    """Numbers that are told while an algorithm trains."""

    max_rounds: Annotated[int, Field(gt=0, le=10_000)]
    names: dict[Name, Number]


class OutputPolicy(_Document):
    """All that may leave the enclave; what it does not name stays."""

    outputs: Annotated[dict[Name, Output], Field(min_length=1, max_length=32)]
    metrics: Metrics | None = None
    min_group: Annotated[int, Field(ge=1)]
    """The fewest rows that a count may be about."""
    min_rows: Annotated[int, Field(ge=1)]
    """The fewest rows of each input table; fewer are refused before anything runs."""

    @model_validator(mode="after")
    def _bounds(self) -> OutputPolicy:
        if self.min_rows < self.min_group:
            raise ValueError("min_rows is below min_group: an input is a group too")
        return self


def narrow(policy: OutputPolicy, by: Narrowing) -> OutputPolicy:
    """The policy with what a grant takes away; narrowing by several grants gives what all of them allow.

    An output that is taken away is refused if the algorithm gives it all the same.

    Raises:
        PolicyWidened: the grant names an output that the policy does not have.
    """
    kept = set(policy.outputs) if by.outputs is None else set(by.outputs)
    if unknown := kept - set(policy.outputs):
        raise PolicyWidened(f"the algorithm has no output {', '.join(sorted(unknown))}; leave it out")
    document = policy.model_dump()
    document["outputs"] = {name: each for name, each in document["outputs"].items() if name in kept}
    for each in document["outputs"].values():
        each["max_bytes"] = min(each["max_bytes"], by.max_bytes or each["max_bytes"])
    if by.decimals is not None:
        _coarsen(document, by.decimals)
    if not by.metrics:
        document["metrics"] = None
    document["min_group"] = max(policy.min_group, by.min_group or 1)
    document["min_rows"] = max(policy.min_rows, by.min_rows or 1, document["min_group"])
    if not kept:
        raise PolicyWidened("the grant leaves no output; name one at least")
    return OutputPolicy.model_validate(document)


def _coarsen(document: Any, decimals: int) -> None:
    """Lower every ``decimals`` of shapes. Names of fields and columns are keys beside a shape's own."""
    if isinstance(document, dict):
        if isinstance(document.get("kind"), str) and isinstance(document.get("decimals"), int):
            document["decimals"] = min(document["decimals"], decimals)
        for each in document.values():
            _coarsen(each, decimals)


@dataclass(frozen=True)
class Held:
    """What the guard knows of the inputs, to find them in an output."""

    listed: tuple[Sequence[str], ...] = ()
    """Each table's ids."""
    tables: tuple[Sequence[Sequence[str]], ...] = ()
    """Each table's columns without the id, as texts."""
    rows: frozenset[tuple[object, ...]] = frozenset()
    """What is looked for like rows, and is of no table."""

    @cached_property
    def ids(self) -> frozenset[str]:
        """All of them, made when first asked for: few outputs have anything like an id."""
        return frozenset(id for ids in self.listed for id in ids)

    def rows_among(self, cells: AbstractSet[object]) -> frozenset[tuple[object, ...]]:
        """``rows``, and the tables' telling rows whose every cell is one of ``cells``: no other row can stand
        in an output of these.

        An output is small and a table large, so this goes from the one to the other: a column at a time, and
        only the rows that are left.
        """
        return self.rows.union(row for columns in self.tables for row in _rows_among(columns, cells))


def held_of(tables: Iterable[tuple[Sequence[str], Sequence[Sequence[str]]]]) -> Held:
    """From each table's ids, and its columns without the id, as texts."""
    found = list(tables)
    return Held(tuple(ids for ids, _ in found), tuple(columns for _, columns in found))


def _rows_among(columns: Sequence[Sequence[str]], cells: AbstractSet[object]) -> Iterator[tuple[object, ...]]:
    left: Sequence[int] = range(len(columns[0])) if columns else ()
    for column in sorted(columns, key=lambda each: _share_among(each, cells)):
        left = _places_among(column, left, cells)
    for start in range(0, len(left), _BATCH):
        some = left[start : start + _BATCH]
        first, behind = some[0], some[-1] + 1
        places = [at - first for at in some]
        for row in zip(*(_taken(each[first:behind], places) for each in columns), strict=True):
            if _telling(made := tuple(map(_cell, row))):
                yield made


@runtime_checkable
class Searchable(Protocol):
    """A column that finds its cells faster than one by one."""

    def places(self, among: Sequence[int], wanted: Callable[[str], bool]) -> Sequence[int]:
        """Those places of ``among`` whose cell is ``wanted``, which is asked once for each different one."""


def _places_among(column: Sequence[str], left: Sequence[int], cells: AbstractSet[object]) -> Sequence[int]:
    if isinstance(column, Searchable):
        return column.places(left, lambda text: _cell(text) in cells)
    texts = _taken(column, left)
    known = {text for text in set(texts) if _cell(text) in cells}
    return [at for at, text in zip(left, texts, strict=True) if text in known]


def _taken(column: Sequence[str], places: Sequence[int]) -> list[str]:
    """The cells at ``places``. Where these are many, all are read: one by one takes longer."""
    if len(places) * _SPARSE < len(column):
        return [column[at] for at in places]
    every = list(column)
    return every if len(places) == len(every) else [every[at] for at in places]


def _share_among(column: Sequence[str], cells: AbstractSet[object]) -> float:
    """How many of the column's first cells are among ``cells``: the rarest column rules out most rows."""
    return sum(_cell(each) in cells for each in column[:_SAMPLE])


def holding(held: Held, secret: Mapping[str, Any]) -> Held:
    """``held`` and every list and record of the ``secret`` values, looked for like rows of an input.

    Their texts need no search: a text leaves only where a policy lists it, the job says it, or it is an id.
    """
    found = (tuple(map(_cell, _scalars(each))) for each in _containers(secret))
    return replace(held, rows=held.rows | {row for row in found if _telling(row)})


def why_too_few_rows(policy: OutputPolicy, rows: Mapping[str, int]) -> OutputRefused | None:
    """The refusal of the first input table with fewer rows than the policy asks for."""
    few = next((name for name, count in sorted(rows.items()) if count < policy.min_rows), None)
    return OutputRefused(Reason.TOO_FEW_ROWS, f"input {few}") if few is not None else None


def public_words(*said: Any) -> frozenset[str]:
    """Every text in public JSON values, keys included."""
    return frozenset(word for each in said for word in _texts(each))


def passed(outputs: Any, policy: OutputPolicy, public: frozenset[str], held: Held) -> dict[str, Any]:
    """The outputs as they may leave: every one declared, rounded, within its size.

    Raises:
        OutputRefused: one is not.
    """
    if not isinstance(outputs, dict):
        raise OutputRefused(Reason.NOT_A_RESULT, "outputs")
    if set(outputs) - set(policy.outputs):
        raise OutputRefused(Reason.UNDECLARED, "outputs")
    found: dict[str, Any] = {}
    rules = _Rules(policy.min_group, public, held)
    for name, declared in policy.outputs.items():
        if name in outputs:
            found[name] = _one(name, outputs[name], declared, rules)
        elif not declared.optional:
            raise OutputRefused(Reason.MISSING, name)
    return found


def passed_metrics(
    number: Any, metrics: Any, policy: OutputPolicy, last: int, told: int
) -> tuple[int, dict[str, float]]:
    """A round and its metrics as they may leave; ``last`` is the round before (-1), ``told`` how many so far.

    Raises:
        OutputRefused: they may not.
    """
    allowed = policy.metrics
    if allowed is None:
        raise OutputRefused(Reason.UNDECLARED, "metrics")
    if type(number) is not int or not last < number < 2**31 or told >= allowed.max_rounds:
        raise OutputRefused(Reason.METRIC_ORDER, "metrics")
    if not isinstance(metrics, dict) or set(metrics) - set(allowed.names):
        raise OutputRefused(Reason.UNDECLARED, "metrics")
    return number, {
        name: _number(metrics[name], shape, f"metrics.{name}")
        for name, shape in allowed.names.items()
        if name in metrics
    }


@dataclass(frozen=True, slots=True)
class _Rules:
    min_group: int
    public: frozenset[str]
    held: Held


def _one(name: str, value: Any, declared: Output, rules: _Rules) -> Any:
    found = _shaped(value, declared.shape, name, rules)
    try:
        size = len(canonical(found))
    except NotCanonical as error:
        raise OutputRefused(Reason.WRONG_SHAPE, name) from error
    if size > declared.max_bytes:
        raise OutputRefused(Reason.TOO_LARGE, name)
    both = (value, found)  # rounding may make a row of one that is none, and hide one that is
    rows = rules.held.rows_among({_cell(each) for each in _scalars(both)})
    for each in both:
        if _row_in(each, rows):
            raise OutputRefused(Reason.ROW_IN_OUTPUT, name)
        if _ids_in(each, rules.held):
            raise OutputRefused(Reason.ID_IN_OUTPUT, name)
    return found


def _shaped(value: Any, shape: Any, where: str, rules: _Rules) -> Any:
    return _SHAPED[type(shape)](value, shape, where, rules)


def _a_number(value: Any, shape: Number, where: str, _: _Rules) -> Any:
    return None if value is None and shape.nullable else _number(value, shape, where)


def _number(value: Any, shape: Number, where: str) -> float:
    if type(value) not in (int, float):
        raise OutputRefused(Reason.WRONG_SHAPE, where)
    low = -math.inf if shape.low is None else shape.low
    high = math.inf if shape.high is None else shape.high
    if not math.isfinite(value) or not low <= value <= high:
        raise OutputRefused(Reason.OUT_OF_RANGE, where)
    return _rounded(value, shape.decimals)


def _rounded(value: float, decimals: int) -> float:
    return round(value, decimals) + 0  # no minus zero


def _a_count(value: Any, _: Count, where: str, rules: _Rules) -> Any:
    if value is None:
        return None
    if type(value) is not int:
        raise OutputRefused(Reason.WRONG_SHAPE, where)
    if value < rules.min_group:
        raise OutputRefused(Reason.GROUP_TOO_SMALL, where)
    return value


def _a_word(value: Any, shape: Word, where: str, rules: _Rules) -> Any:
    if not isinstance(value, str):
        raise OutputRefused(Reason.WRONG_SHAPE, where)
    if value not in shape.of and not (shape.public and value in rules.public):
        raise OutputRefused(Reason.FREE_TEXT, where)
    return value


def _an_id(value: Any, _: Id, where: str, rules: _Rules) -> Any:
    if not isinstance(value, str) or value not in rules.held.ids:
        raise OutputRefused(Reason.FREE_TEXT, where)
    return value


def _a_list(value: Any, shape: ListOf, where: str, rules: _Rules) -> Any:
    if not isinstance(value, list):
        raise OutputRefused(Reason.WRONG_SHAPE, where)
    return _each(value, shape.of, shape.max_items, where, rules)


def _each(values: list[Any], shape: Any, most: int, where: str, rules: _Rules) -> list[Any]:
    if len(values) > most:
        raise OutputRefused(Reason.TOO_LARGE, where)
    return [_shaped(each, shape, f"{where}[{at}]", rules) for at, each in enumerate(values)]


def _a_record(value: Any, shape: Record, where: str, rules: _Rules) -> Any:
    found = _fields(value, shape.fields, where, optional=frozenset(shape.optional))
    return {name: _shaped(each, shape.fields[name], f"{where}.{name}", rules) for name, each in found.items()}


def _fields(
    value: Any, declared: Mapping[str, Any], where: str, *, optional: frozenset[str] = frozenset()
) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise OutputRefused(Reason.WRONG_SHAPE, where)
    if set(value) - set(declared):
        raise OutputRefused(Reason.UNDECLARED, where)
    if lacking := sorted(set(declared) - set(value) - optional):
        raise OutputRefused(Reason.MISSING, f"{where}.{lacking[0]}")
    return {name: value[name] for name in declared if name in value}


def _a_table(value: Any, shape: Table, where: str, rules: _Rules) -> Any:
    found = _fields(value, shape.columns, where)
    if not all(isinstance(each, list) for each in found.values()) or len({*map(len, found.values())}) > 1:
        raise OutputRefused(Reason.WRONG_SHAPE, where)
    return {
        name: _each(cells, shape.columns[name], shape.max_rows, f"{where}.{name}", rules)
        for name, cells in found.items()
    }


def _a_model(value: Any, shape: Model, where: str, rules: _Rules) -> Any:
    number = Number(kind="number", decimals=shape.decimals)
    return _within_model(value, number, rules.public.union(shape.words), where)


def _within_model(value: Any, number: Number, words: frozenset[str], where: str) -> Any:
    if isinstance(value, dict):
        if set(value) - words:
            raise OutputRefused(Reason.FREE_TEXT, where)
        return {name: _within_model(each, number, words, where) for name, each in value.items()}
    if isinstance(value, list):
        return [_within_model(each, number, words, where) for each in value]
    if isinstance(value, str):
        if value not in words:
            raise OutputRefused(Reason.FREE_TEXT, where)
        return value
    if value is None or isinstance(value, bool):
        return value
    return _number(value, number, where)


_SHAPED: Mapping[type[Any], Callable[[Any, Any, str, _Rules], Any]] = {
    Number: _a_number,
    Count: _a_count,
    Word: _a_word,
    Id: _an_id,
    ListOf: _a_list,
    Record: _a_record,
    Table: _a_table,
    Model: _a_model,
}


def _row_in(value: Any, rows: frozenset[tuple[object, ...]]) -> bool:
    """Whether one of ``rows`` stands in the output's cells, one after the other.

    A table's cells are read by rows and by columns.
    """
    firsts, widths = {row[0] for row in rows}, {len(row) for row in rows}
    return bool(rows) and any(
        tuple(cells[at : at + width]) in rows
        for cells in _orders(value)
        for at, cell in enumerate(cells)
        if cell in firsts
        for width in widths
    )


def _ids_in(value: Any, held: Held) -> bool:
    """Whether ids stand among the numbers: texts are words or declared ids already."""
    whole = {int(each) for each in _scalars(value) if _whole(each)}
    like_ids = {str(each) for each in whole if len(str(abs(each))) >= ID_DIGITS}
    return len(like_ids) >= IDS_AMONG_NUMBERS and len(like_ids & held.ids) >= IDS_AMONG_NUMBERS


def _whole(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and value == int(value)


def _orders(value: Any) -> Iterator[list[object]]:
    yield [_cell(each) for each in _scalars(value)]
    for columns in _nests(value):
        yield [_cell(each) for row in zip(*columns, strict=False) for each in row]


def _nests(value: Any) -> Iterator[list[list[Any]]]:
    """Where several lists of scalars stand beside each other: their rows are read across them."""
    if not isinstance(value, dict | list):
        return
    inside = list(value.values()) if isinstance(value, dict) else value
    lists = [each for each in inside if isinstance(each, list)]
    flat = [each for each in lists if not any(isinstance(cell, dict | list) for cell in each)]
    if len(flat) > 1:
        yield flat
    for each in inside:
        yield from _nests(each)


def _scalars(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for each in value.values():
            yield from _scalars(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _scalars(each)
    else:
        yield value


def _containers(value: Any) -> Iterator[Any]:
    """Every list and dictionary in a value, itself included."""
    if isinstance(value, Mapping | list):
        yield value
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from _containers(each)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield from value
        value = list(value.values())
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)


def _cell(value: Any) -> object:
    """A cell to compare by: a number where it is one, whatever its notation."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return value
    return float(value) if isinstance(value, int | float) else value


def _telling(row: tuple[object, ...]) -> bool:
    return len(set(row) - {0.0, 1.0, ""}) >= TELLING_CELLS
