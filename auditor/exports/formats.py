"""Which formats there are, what each file is called, and what must be installed for it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from sealtrace.auditor.events import Event
from sealtrace.auditor.exports.fonts import chinese
from sealtrace.auditor.exports.oscal import to_oscal
from sealtrace.auditor.exports.parquet import to_parquet
from sealtrace.auditor.exports.pdf import to_pdf
from sealtrace.auditor.exports.signing import Signing, read_signer, sign
from sealtrace.auditor.exports.xlsx import to_xlsx
from sealtrace.auditor.language import Language
from sealtrace.auditor.report import Json, to_html, to_json


@dataclass(frozen=True, slots=True)
class Pages:
    """How pages and tables are made: in which language, and with fonts from which folder."""

    language: Language = Language.ENGLISH
    fonts: Path | None = None


PLAIN: Final = Pages()
"""Pages in English, with the fonts that come with typst."""


class Format(StrEnum):
    """A form of the report; docs/reports.md says which is for whom."""

    HTML = "html"
    JSON = "json"
    XLSX = "xlsx"
    PARQUET = "parquet"
    OSCAL = "oscal"
    PDF = "pdf"

    @property
    def file(self) -> str:
        """The name of its file."""
        return _FILES[self][0]

    @property
    def media_type(self) -> str:
        """What its file is, as HTTP names it."""
        return _FILES[self][1]


_FILES: Final = {
    Format.HTML: ("report.html", "text/html; charset=utf-8"),
    Format.JSON: ("report.json", "application/json"),
    Format.XLSX: ("report.xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    Format.PARQUET: ("ledger.parquet", "application/vnd.apache.parquet"),
    Format.OSCAL: ("assessment-results.json", "application/oscal+json"),
    Format.PDF: ("report.pdf", "application/pdf"),
}

USUAL: Final = (Format.HTML, Format.JSON)
"""What is written where nothing else is asked for; these need no extra."""

_NEEDS: Final = {Format.XLSX: "xlsxwriter", Format.PARQUET: "pyarrow", Format.PDF: "typst"}


class UnknownFormat(ValueError):
    """There is no such format: choose among those the message lists."""


class FormatUnavailable(RuntimeError):
    """The library that a format needs is not installed: install ``sealtrace[auditor]``."""


class NothingToSign(ValueError):
    """A signature was asked for, and no pages to carry it: ask for the format ``pdf``."""


def formats(text: str) -> tuple[Format, ...]:
    """The formats in a list such as ``html,json``, each once, in the order of the enumeration.

    Raises:
        UnknownFormat: one is none, or there are none.
    """
    names = [each.strip() for each in text.split(",") if each.strip()]
    wrong = [each for each in names if each not in list(Format)]
    if wrong or not names:
        raise UnknownFormat(f"{', '.join(wrong) or 'nothing'}: choose among {', '.join(Format)}")
    return tuple(each for each in Format if each in names)


def available(wanted: Collection[Format], signing: Signing | None = None, pages: Pages = PLAIN) -> None:
    """Look for what ``wanted``, a signature and ``pages`` need, before an audit is carried out for nothing.

    Raises:
        FormatUnavailable: it is not installed.
        NothingToSign: no pages are wanted.
        FontMissing: pages in Chinese are wanted, or a folder of fonts is named, and no font is there.
        CannotSign: the key cannot be used.
    """
    needed = [(str(each), _NEEDS[each]) for each in wanted if each in _NEEDS]
    needed += [("a signature", "pyhanko")] if signing else []
    for what, library in needed:
        if find_spec(library) is None:
            raise FormatUnavailable(f"{what} needs {library}: pip install 'sealtrace[auditor]'")
    if signing and Format.PDF not in wanted:
        raise NothingToSign("a signature needs report.pdf: add pdf to the formats")
    if Format.PDF in wanted and (pages.fonts is not None or pages.language is Language.CHINESE):
        chinese(pages.fonts)
    if signing:
        read_signer(signing)


def write(
    report: Json,
    events: Sequence[Event],
    folder: Path,
    wanted: Collection[Format] = USUAL,
    signing: Signing | None = None,
    pages: Pages = PLAIN,
) -> dict[Format, Path]:
    """Write the files of ``wanted`` into ``folder``, the pages signed by ``signing``, and return their paths.

    Raises:
        FormatUnavailable, NothingToSign, FontMissing, CannotSign: as :func:`available` says.
    """
    available(wanted, signing, pages)
    folder.mkdir(parents=True, exist_ok=True)
    makers = _makers(report, events, signing, pages)
    written = {}
    for each in Format:
        if each in wanted:
            written[each] = folder / each.file
            written[each].write_bytes(makers[each]())
    return written


def _makers(
    report: Json, events: Sequence[Event], signing: Signing | None, pages: Pages
) -> Mapping[Format, Callable[[], bytes]]:
    return {
        Format.HTML: lambda: to_html(report, pages.language).encode(),
        Format.JSON: lambda: to_json(report),
        Format.XLSX: lambda: to_xlsx(report, pages.language),
        Format.PARQUET: lambda: to_parquet(report, events),
        Format.OSCAL: lambda: to_oscal(report),
        Format.PDF: lambda: _pdf(report, signing, pages),
    }


def _pdf(report: Json, signing: Signing | None, pages: Pages) -> bytes:
    made = to_pdf(report, pages.language, pages.fonts)
    return sign(made, signing) if signing else made
