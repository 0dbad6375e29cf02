"""What a PSI step's parameters say: which columns make a key, who learns what, what the requester gets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from sealtrace.protocol.keys import rule

ColumnName = Annotated[str, Field(min_length=1, max_length=128)]


class BadAlignment(ValueError):
    """The parameters of a PSI step are malformed or contradict the step; the message names the place."""


def _known(name: str) -> str:
    rule(name)
    return name


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class KeyPart(_Document):
    """One column of a key. ``columns`` names it for each input, or for none: then it is the id column."""

    columns: dict[str, ColumnName] = Field(default_factory=dict)
    rules: list[Annotated[str, AfterValidator(_known)]] = Field(default_factory=list, max_length=8)


class Alignment(_Document):
    """A PSI step's parameters.

    ``duplicates`` says what happens to rows of one key: refused, all but the first left out, or all joined.
    ``receivers`` are the inputs whose parties come to know which of their rows are common, by default all;
    with ``keep`` they also keep a file of them. ``left`` makes a join keep all rows of that input.
    """

    result: Literal["count", "ids", "rows"] = "count"
    key: list[KeyPart] = Field(default_factory=lambda: [KeyPart()], min_length=1, max_length=16)
    duplicates: Literal["refuse", "first", "all"] = "refuse"
    receivers: list[str] | None = Field(default=None, min_length=1)
    keep: bool = False
    left: str | None = None

    def key_columns(self, name: str, id_column: str) -> tuple[str, ...]:
        """The columns that make the key of the input ``name``, in their order."""
        return tuple(part.columns.get(name, id_column) for part in self.key)

    def receives(self, name: str) -> bool:
        """Whether the party of input ``name`` comes to know which of its rows are common."""
        return self.receivers is None or name in self.receivers


def read_alignment(params: Mapping[str, Any]) -> Alignment:
    """Read the parameters of a PSI step.

    Raises:
        BadAlignment: they are malformed.
    """
    try:
        return Alignment.model_validate(dict(params))
    except ValidationError as cause:
        first = cause.errors(include_url=False, include_input=False)[0]
        place = ".".join(["params", *map(str, first["loc"])])
        said = first["msg"].removeprefix("Value error, ")
        raise BadAlignment(f"{place}: {said}") from cause


def contradictions(
    alignment: Alignment, columns: Mapping[str, Sequence[str]], *, read_later: bool
) -> Iterator[str]:
    """What in ``alignment`` does not fit its step.

    ``columns`` has, for each input of the step, its id column and then the others it names;
    ``read_later`` says whether a later step computes on the aligned rows.
    """
    yield from _key_contradictions(alignment, columns)
    receivers = alignment.receivers
    if receivers is not None:
        if set(receivers) - set(columns) or len(set(receivers)) != len(receivers):
            yield "params.receivers are distinct and among the step's inputs"
        if 1 < len(receivers) < len(columns):
            yield "params.receivers names one input or all of them"
        if read_later and len(receivers) < len(columns):
            yield "a later step computes on the aligned rows, so every input is among params.receivers"
    if alignment.result != "rows":
        if alignment.duplicates == "all":
            yield "params.duplicates: all is for result: rows; elsewhere a key counts once: say first"
        if alignment.left is not None:
            yield "params.left is for result: rows"
        return
    if receivers is not None and len(receivers) < len(columns):
        yield "for result: rows every party gives its own columns, so every input is among params.receivers"
    if alignment.duplicates == "all" and read_later:
        yield "a later step computes on one row for each key: params.duplicates is first or refuse"
    if alignment.left is not None and alignment.left not in columns:
        yield "params.left is one of the step's inputs"


def _key_contradictions(alignment: Alignment, columns: Mapping[str, Sequence[str]]) -> Iterator[str]:
    for at, part in enumerate(alignment.key):
        if part.columns and set(part.columns) != set(columns):
            yield f"params.key.{at}.columns names a column for each of the step's inputs, or for none"
    for name, (id_column, *others) in columns.items():
        used = alignment.key_columns(name, id_column)
        if strange := set(used) - {id_column, *others}:
            yield f"params.key: input {name} does not name the column {min(strange)!r}"
        if len(set(used)) != len(used):
            yield f"params.key: one column of input {name} is given twice"
