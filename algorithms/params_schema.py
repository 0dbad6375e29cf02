"""Whether a value is what a manifest's ``params`` say: a part of JSON Schema (2020-12), and no more.

Understood are ``type``, ``enum``, ``properties``, ``required``, ``additionalProperties`` where it is false,
``items``, ``minItems``, ``maxItems``, ``minimum``, ``maximum``, ``exclusiveMinimum``, ``exclusiveMaximum``.
Other words, such as ``description``, are for people: what they say is for the algorithm itself to check.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

_TYPES: Final[Mapping[str, Callable[[Any], bool]]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "integer": lambda value: type(value) is int or (isinstance(value, float) and value.is_integer()),
}
_BOUNDS: Final[Mapping[str, tuple[Callable[[Any, Any], bool], str]]] = {
    "minimum": (operator.ge, "at least"),
    "maximum": (operator.le, "at most"),
    "exclusiveMinimum": (operator.gt, "more than"),
    "exclusiveMaximum": (operator.lt, "less than"),
}


def why_not(value: Any, schema: Mapping[str, Any], place: str = "") -> str | None:
    """The first thing that ``schema`` has against ``value``, led by its place, or ``None``."""
    return next(_faults(value, schema, place), None)


def _faults(value: Any, schema: Mapping[str, Any], place: str) -> Iterator[str]:
    led = f"{place}: " if place else ""
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(_TYPES[kind](value) for kind in kinds if kind in _TYPES):
        yield f"{led}must be {' or '.join(kinds)}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{led}must be one of {', '.join(map(str, schema['enum']))}"
    if _TYPES["number"](value):
        for word, (holds, said) in _BOUNDS.items():
            if word in schema and not holds(value, schema[word]):
                yield f"{led}must be {said} {schema[word]}"
    if isinstance(value, list):
        yield from _list_faults(value, schema, place, led)
    if isinstance(value, dict):
        yield from _object_faults(value, schema, place, led)


def _list_faults(value: list[Any], schema: Mapping[str, Any], place: str, led: str) -> Iterator[str]:
    if len(value) < schema.get("minItems", 0):
        yield f"{led}needs at least {schema['minItems']} entries"
    if len(value) > schema.get("maxItems", len(value)):
        yield f"{led}has more than {schema['maxItems']} entries"
    for at, each in enumerate(value):
        yield from _faults(each, schema.get("items", {}), _within(place, at))


def _object_faults(value: dict[str, Any], schema: Mapping[str, Any], place: str, led: str) -> Iterator[str]:
    known = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{led}{name!r} is missing"
    for name, each in value.items():
        if name in known:
            yield from _faults(each, known[name], _within(place, name))
        elif schema.get("additionalProperties") is False:
            yield f"{_within(place, name)}: there is no such parameter; there are {', '.join(known)}"


def _within(place: str, name: str | int) -> str:
    return f"{place}.{name}" if place else str(name)
