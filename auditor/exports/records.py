"""A record of processing as a table: CSV, a workbook, a page, or JSON.

A spreadsheet takes a cell of a CSV file that begins like a formula for one, whatever quotes are around it:
such a cell begins with an apostrophe here. A workbook needs none, its cells have a type.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from io import StringIO
from pathlib import Path
from typing import Any, Final

from sealtrace.auditor.exports.xlsx import Sheet, workbook
from sealtrace.auditor.language import Language, Words, words
from sealtrace.auditor.processing import COLUMNS, TO_FILL, Column, lines
from sealtrace.auditor.report import page
from sealtrace.protocol.canonical import canonical

Json = dict[str, Any]

_FORMULA: Final = re.compile(r"[\s\x00]*[=+\-@＝＋－＠]|[\t\r\n]")
_WIDTH: Final = 34


class Table(StrEnum):
    """A form of the record."""

    CSV = "csv"
    XLSX = "xlsx"
    HTML = "html"
    JSON = "json"

    @property
    def file(self) -> str:
        """The name of its file."""
        return f"processing.{self}"


def write(record: Json, folder: Path, wanted: Table, language: Language = Language.ENGLISH) -> Path:
    """Write a record of processing into ``folder`` and return the file's path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / wanted.file
    path.write_bytes(_MAKERS[wanted](record, words(language)))
    return path


def to_csv(record: Json, told: Words) -> bytes:
    """The rows as CSV (RFC 4180) in UTF-8 with a byte order mark, without which Excel misreads Chinese."""
    text = StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerow([_harmless(told.message(each.heading)) for each in COLUMNS])
    for row in record["rows"]:
        writer.writerow([_harmless(_cell(row, each, told)) for each in COLUMNS])
    return text.getvalue().encode("utf-8-sig")


def to_xlsx(record: Json, told: Words) -> bytes:
    """The rows as a workbook, and a second sheet that says of each column which clauses ask for it."""
    title = told.message("Record of processing")
    heads = tuple((each.heading, _WIDTH) for each in COLUMNS)
    rows = [[_cell(row, each, told) for each in COLUMNS] for row in record["rows"]]
    sources = [[told.message(each.heading), each.clauses, told.message(_source(each))] for each in COLUMNS]
    tables = [
        Sheet("Record of processing", heads, rows),
        Sheet("Columns", (("what", 60), ("clauses", 50), ("source", 40)), sources),
    ]
    return workbook(tables, title, record["scope"]["time"], told)


def to_html(record: Json, told: Words) -> bytes:
    """The rows as one page that needs nothing else."""
    template = page("processing.html", told.language)
    return template.render(p=record, columns=COLUMNS, source=_source, to_fill=TO_FILL).encode()


def to_json(record: Json, _: Words) -> bytes:
    """The record's canonical JSON (RFC 8785) and a newline; in English, like the report."""
    return canonical(record) + b"\n"


_MAKERS: Final[Mapping[Table, Callable[[Json, Words], bytes]]] = {
    Table.CSV: to_csv,
    Table.XLSX: to_xlsx,
    Table.HTML: to_html,
    Table.JSON: to_json,
}


def _source(column: Column) -> str:
    return "from the chain" if column.known else TO_FILL


def _cell(row: Json, column: Column, told: Words) -> str:
    if not column.known:
        return told.message(TO_FILL)
    return "\n".join(told.sentence(told.message(line)) for line in lines(row[column.name]))


def _harmless(text: str) -> str:
    return f"'{text}" if _FORMULA.match(text) else text
