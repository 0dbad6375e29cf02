"""Fonts for pages in Chinese: found where they are installed, or in a folder that is named. We ship none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

PLACES: Final = (
    Path("/usr/share/fonts"),
    Path("/usr/local/share/fonts"),
    Path("/Library/Fonts"),
    Path("/System/Library/Fonts"),
)
"""Where systems keep fonts."""

_KNOWN: Final = (
    ("NotoSansCJK-Regular.ttc", "NotoSansCJK-Bold.ttc", "Noto Sans CJK SC"),
    ("NotoSansCJKsc-Regular.otf", "NotoSansCJKsc-Bold.otf", "Noto Sans CJK SC"),
    ("NotoSansSC-Regular.otf", "NotoSansSC-Bold.otf", "Noto Sans SC"),
    ("SourceHanSansSC-Regular.otf", "SourceHanSansSC-Bold.otf", "Source Han Sans SC"),
    ("NotoSerifCJK-Regular.ttc", "NotoSerifCJK-Bold.ttc", "Noto Serif CJK SC"),
    ("DroidSansFallbackFull.ttf", "", "Droid Sans Fallback"),
)
"""Files of each family that is known to cover simplified Chinese, the best first."""


class FontMissing(RuntimeError):
    """Pages in Chinese need a font with its characters: ``apt install fonts-noto-cjk``, or name a folder."""


@dataclass(frozen=True, slots=True)
class Font:
    """A family, and the files that it is in."""

    family: str
    files: tuple[Path, ...]


def chinese(folder: Path | None = None) -> Font:
    """The best known font with simplified Chinese in ``folder``, or where the system keeps its fonts.

    Raises:
        FontMissing: there is none.
    """
    places = PLACES if folder is None else (folder,)
    for regular, bold, family in _KNOWN:
        found = next((path for place in places for path in sorted(place.rglob(regular))), None)
        if found is not None:
            heavy = found.with_name(bold) if bold else found
            return Font(family, (found, heavy) if heavy != found and heavy.is_file() else (found,))
    looked = ", ".join(map(str, places))
    known = ", ".join(regular for regular, _, _ in _KNOWN)
    raise FontMissing(
        f"no font with Chinese characters in {looked}: apt install fonts-noto-cjk, or name a folder that has "
        f"one of {known} with --fonts, or as fonts in auditor.toml"
    )
