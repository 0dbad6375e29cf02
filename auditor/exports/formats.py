"""Which formats there are, what each file is called, and what must be installed for it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from sealtrace.auditor.events import Event
from sealtrace.auditor.exports.oscal import to_oscal
from sealtrace.auditor.exports.parquet import to_parquet
from sealtrace.auditor.exports.pdf import to_pdf
from sealtrace.auditor.exports.signing import Signing, read_signer, sign
from sealtrace.auditor.exports.xlsx import to_xlsx
from sealtrace.auditor.report import Json, to_html, to_json


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


def available(wanted: Collection[Format], signing: Signing | None = None) -> None:
    """Look for what ``wanted`` and a signature need, before an audit is carried out for nothing.

    Raises:
        FormatUnavailable: it is not installed.
        NothingToSign: no pages are wanted.
        CannotSign: the key cannot be used.
    """
    needed = [(str(each), _NEEDS[each]) for each in wanted if each in _NEEDS]
    needed += [("a signature", "pyhanko")] if signing else []
    for what, library in needed:
        if find_spec(library) is None:
            raise FormatUnavailable(f"{what} needs {library}: pip install 'sealtrace[auditor]'")
    if signing and Format.PDF not in wanted:
        raise NothingToSign("a signature needs report.pdf: add pdf to the formats")
    if signing:
        read_signer(signing)


def write(
    report: Json,
    events: Sequence[Event],
    folder: Path,
    wanted: Collection[Format] = USUAL,
    signing: Signing | None = None,
) -> dict[Format, Path]:
    """Write the files of ``wanted`` into ``folder``, the pages signed by ``signing``, and return their paths.

    Raises:
        FormatUnavailable, NothingToSign, CannotSign: as :func:`available` says.
    """
    available(wanted, signing)
    folder.mkdir(parents=True, exist_ok=True)
    makers = _makers(report, events, signing)
    written = {}
    for each in Format:
        if each in wanted:
            written[each] = folder / each.file
            written[each].write_bytes(makers[each]())
    return written


def _makers(
    report: Json, events: Sequence[Event], signing: Signing | None
) -> Mapping[Format, Callable[[], bytes]]:
    return {
        Format.HTML: lambda: to_html(report).encode(),
        Format.JSON: lambda: to_json(report),
        Format.XLSX: lambda: to_xlsx(report),
        Format.PARQUET: lambda: to_parquet(report, events),
        Format.OSCAL: lambda: to_oscal(report),
        Format.PDF: lambda: sign(to_pdf(report), signing) if signing else to_pdf(report),
    }
