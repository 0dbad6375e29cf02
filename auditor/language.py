"""What the pages say in a language: one catalogue for each, keyed by the English that it translates.

The record stays as it is: ``report.json`` is in English, and a page in another language reads it out. What
the catalogue does not know stands as it was written, so a sentence that changed is shown in English rather
than under a translation that no longer says the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, Final

_FOLDER: Final = Path(__file__).parent / "languages"
_HOLE: Final = re.compile(r"\{([_#]?\w+)\}")
_DEPTH: Final = 3


class Language(StrEnum):
    """A language that pages are made in, by its code (BCP 47)."""

    ENGLISH = "en"
    CHINESE = "zh"

    @property
    def tag(self) -> str:
        """What an HTML page calls it."""
        return "zh-Hans" if self is Language.CHINESE else self.value


class UnknownLanguage(ValueError):
    """There are no pages in such a language: choose among those the message lists."""


@dataclass(frozen=True, slots=True)
class _Pattern:
    """A sentence with holes, as the text between them; and how it is said in the other language.

    A text is taken apart from left to right, each piece at its first place: in a time that grows with the
    text alone, whatever a party wrote into it.
    """

    pieces: tuple[str, ...]
    holes: tuple[str, ...]
    translation: str

    def found_in(self, text: str) -> Mapping[str, str] | None:
        """What stands in the holes of ``text``, or ``None`` where it is another sentence."""
        first, *middle, last = self.pieces
        end = len(text) - len(last)
        if not text.startswith(first) or not text.endswith(last):
            return None
        found, at = [], len(first)
        for piece in middle:
            place = text.find(piece, at, end)
            if place < 0:
                return None
            found.append(text[at:place])
            at = place + len(piece)
        told = dict(zip(self.holes, [*found, text[at:end]], strict=True))
        fits = at <= end and all(value.isdecimal() for name, value in told.items() if name[0] == "#")
        return told if fits else None


@dataclass(frozen=True, slots=True)
class Words:
    """One language's catalogue: ``messages`` of the pages, and ``sentences`` of the report.

    A hole of a sentence (``{node}``) keeps what stands in it; ``{#block}`` is for a number alone, and what
    stands in ``{_why}`` is a sentence itself.
    """

    language: Language
    messages: Mapping[str, str]
    sentences: Mapping[str, str]
    patterns: Sequence[_Pattern]

    def message(self, english: str, **values: Any) -> str:
        """A text of the pages, with ``%(name)s`` replaced by the values."""
        told = self.messages.get(english, english)
        return told % values if values else told

    def sentence(self, english: str, depth: int = _DEPTH) -> str:
        """A sentence of the report; English where the catalogue does not know it."""
        if english in self.sentences or not depth:
            return self.sentences.get(english, english)
        for pattern in self.patterns:
            found = pattern.found_in(english)
            if found is not None:
                said = {n: self.sentence(t, depth - 1) if n[0] == "_" else t for n, t in found.items()}
                return _HOLE.sub(lambda hole, said=said: said[hole[1]], pattern.translation)  # type: ignore[misc]
        return english


def language(code: str) -> Language:
    """The language of a code.

    Raises:
        UnknownLanguage: there is none.
    """
    try:
        return Language(code)
    except ValueError as cause:
        raise UnknownLanguage(f"{code}: choose among {', '.join(Language)}") from cause


@cache
def words(chosen: Language = Language.ENGLISH) -> Words:
    """The catalogue of a language; that of English is empty."""
    if chosen is Language.ENGLISH:
        return Words(chosen, {}, {}, ())
    read = json.loads((_FOLDER / f"{chosen}.json").read_text("utf-8"))
    holed = {key: value for key, value in read["sentences"].items() if _HOLE.search(key)}
    patterns = [
        _Pattern(tuple(_HOLE.split(key)[::2]), tuple(_HOLE.findall(key)), value)
        for key, value in holed.items()
    ]
    patterns.sort(key=lambda each: -sum(map(len, each.pieces)))
    return Words(chosen, read["messages"], read["sentences"], tuple(patterns))
