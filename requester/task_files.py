"""Task files in YAML or JSON, read strictly, every value with its line.

Only what JSON can say is taken: texts, numbers, true, false, null, lists and maps. A value that looks like
``0x12ab`` or ``2026-01-01`` is a text, whatever YAML would make of it. Anchors and tags are refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from sealtrace.requester.errors import SpecInvalid

MAX_BYTES = 256 << 10
MAX_DEPTH = 32
Place = tuple[str | int, ...]

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_NUMBER = re.compile(r"[-+]?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_WORDS: Mapping[str, object] = {"true": True, "false": False, "null": None, "~": None, "": None}


@dataclass(frozen=True, slots=True)
class Located:
    """A value and the line (from 1) of everything in it. ``source`` names the file in messages."""

    source: str
    value: Any
    lines: Mapping[Place, int]

    def line(self, place: Place) -> int | None:
        """The line of ``place``, or of the nearest thing around it."""
        for length in range(len(place), -1, -1):
            if (found := self.lines.get(place[:length])) is not None:
                return found
        return None

    def wrong(self, place: Place, why: str) -> SpecInvalid:
        """An error that points at ``place``."""
        words = ".".join(str(part) for part in place)
        return SpecInvalid(self.source, self.line(place), f"{words}: {why}" if words else why)

    def invalid(self, cause: ValidationError) -> SpecInvalid:
        """The first of a model's complaints as an error that points at its place."""
        first = cause.errors(include_url=False, include_input=False)[0]
        place = tuple(part for part in first["loc"] if part != "[key]")
        return self.wrong(place, first["msg"].removeprefix("Value error, "))


def read_file(path: Path) -> Located:
    """Read one file; see :func:`read`."""
    try:
        return read(path.read_bytes(), str(path))
    except OSError as cause:
        raise SpecInvalid(str(path), None, f"cannot be read: {cause.strerror}") from cause


def read(text: bytes, source: str) -> Located:
    """Read one document.

    Raises:
        SpecInvalid: it is too large, too deep, not YAML or JSON, or uses what is refused; with the line.
    """
    if len(text) > MAX_BYTES:
        raise SpecInvalid(source, None, f"{len(text)} bytes, more than {MAX_BYTES}")
    try:
        decoded = text.decode("utf-8")
        _refuse_tricks(decoded, source)
        node = yaml.compose(decoded, Loader=yaml.SafeLoader)
    except UnicodeDecodeError as cause:
        raise SpecInvalid(source, None, "not UTF-8") from cause
    except yaml.MarkedYAMLError as cause:
        mark = cause.problem_mark
        raise SpecInvalid(source, mark.line + 1 if mark else None, str(cause.problem)) from cause
    except yaml.YAMLError as cause:
        raise SpecInvalid(source, None, str(cause)) from cause
    if node is None:
        raise SpecInvalid(source, 1, "the file is empty")
    lines: dict[Place, int] = {}
    return Located(source, _value(node, (), lines, source), lines)


def _refuse_tricks(text: str, source: str) -> None:
    """Refuse, before anything recursive runs, what makes small files large or readers disagree."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise SpecInvalid(source, line, "anchors and aliases are not taken: write it out")
        if getattr(event, "tag", None) is not None:
            raise SpecInvalid(source, line, f"tags such as {event.tag} are not taken: quote a text instead")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise SpecInvalid(source, line, f"nested deeper than {MAX_DEPTH}")


def _value(node: yaml.Node, place: Place, lines: dict[Place, int], source: str) -> Any:
    lines[place] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, place, lines, source)
    if isinstance(node, yaml.SequenceNode):
        return [_value(each, (*place, index), lines, source) for index, each in enumerate(node.value)]
    return _scalar(node)


def _mapping(node: yaml.MappingNode, place: Place, lines: dict[Place, int], source: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise SpecInvalid(source, line, "a key is a text")
        if key.value in found:
            raise SpecInvalid(source, line, f"{key.value!r} is given twice")
        found[key.value] = _value(value, (*place, key.value), lines, source)
        lines[*place, key.value] = line
    return found


def _scalar(node: yaml.Node) -> object:
    text: str = node.value
    if getattr(node, "style", None) is not None:  # quoted, or a block: a text
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text) and len(text) < 20:
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else text
