"""The report as a workbook: controls, findings, tasks, what is undetermined, and what was not checked.

A cell holds text or a number and never a formula, whatever the text begins with: what a node or a requester
wrote is read by whoever opens the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

from sealtrace.auditor.language import Language, Words, words
from sealtrace.auditor.report import Json
from sealtrace.auditor.times import moment, utc

Cell = str | int | None

MAX_CELL: Final = 32_767
"""Characters that a cell can hold (Excel specifications and limits)."""

MAX_ROWS: Final = 1_048_575
"""Rows that a sheet can hold below its header (Excel specifications and limits)."""

_EXACT: Final = 2**53
"""A cell's number is a double: larger integers are written as text."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table: its columns with their widths in characters, and its rows."""

    name: str
    columns: tuple[tuple[str, int], ...]
    rows: Sequence[Sequence[Cell]]


def to_xlsx(report: Json, language: Language = Language.ENGLISH) -> bytes:
    """The workbook of a report."""
    told = words(language)
    title = told.message("Sealtrace audit report")
    return workbook(sheets(report, told), title, report["scope"]["time"], told)


def workbook(tables: Iterable[Sheet], title: str, time: int, told: Words) -> bytes:
    """A workbook of tables, dated with a block's ``time``. A text too long for a cell is cut and says so; a
    table too long for a sheet goes on in the next, named alike with a number. ``told`` names sheets and
    columns.
    """
    import xlsxwriter

    target = BytesIO()
    options = {"in_memory": True, "strings_to_formulas": False, "strings_to_urls": False}
    book = xlsxwriter.Workbook(target, options)
    book.set_properties({"title": title, "created": moment(time)})
    formats = (
        book.add_format({"bold": True, "bottom": 1, "valign": "top"}),
        book.add_format({"text_wrap": True, "valign": "top"}),
        book.add_format({"valign": "top"}),
    )
    for sheet in (part for each in tables for part in _parts(_named(each, told))):
        _write(book.add_worksheet(sheet.name), sheet, *formats)
    book.close()
    return target.getvalue()


def sheets(report: Json, told: Words | None = None) -> Iterator[Sheet]:
    """The tables of a report, in the order of the workbook."""
    told = told or words()
    say = told.sentence
    yield Sheet("Summary", (("what", 28), ("value", 100)), list(_summary(report, told)))
    yield Sheet("Controls", _CONTROL, [_row(each, _CONTROL, told) for each in report["controls"]])
    yield Sheet("Findings", _FINDING, [_row(each, _FINDING, told) for each in report["findings"]])
    yield Sheet("Tasks", _TASK, [_task(each, told) for each in report["tasks"]])
    yield Sheet("Task events", _EVENT, list(_events(report, told)))
    yield Sheet("Undetermined", _MISSING, list(_undetermined(report, told)))
    yield Sheet("Not checked", (("what", 120),), [[say(each)] for each in report["not_checked"]])


def _named(sheet: Sheet, told: Words) -> Sheet:
    columns = tuple((told.message(name.replace("_", " ")), width) for name, width in sheet.columns)
    return Sheet(told.message(sheet.name), columns, sheet.rows)


_TERMS: Final = frozenset({"severity", "state", "event"})
_SENTENCES: Final = frozenset({"explanation", "sentence", "says"})


def _row(values: Json, columns: Sequence[tuple[str, int]], told: Words) -> Sequence[Cell]:
    return [_cell(name, values[name], told) for name, _ in columns]


def _cell(name: str, value: Any, told: Words) -> Cell:
    if name == "frameworks":
        return "\n".join(f"{framework} {', '.join(clauses)}" for framework, clauses in value.items())
    if name in _TERMS:
        return told.message(value)
    return told.sentence(value) if name in _SENTENCES else value


_FINDING: Final = (
    ("rule", 10),
    ("severity", 10),
    ("explanation", 60),
    ("expected", 40),
    ("observed", 40),
    ("object", 30),
    ("task", 24),
    ("node", 24),
    ("block", 10),
    ("transaction", 24),
    ("log_index", 10),
    ("evidence", 24),
    ("sentence", 50),
    ("recheck", 50),
    ("id", 24),
)
_CONTROL: Final = (
    ("rule", 10),
    ("severity", 10),
    ("sentence", 90),
    ("satisfied", 11),
    ("violated", 11),
    ("undetermined", 14),
    ("frameworks", 50),
)
_MISSING: Final = (("rule", 10), ("severity", 10), ("count", 10), ("what", 110))
_TASK: Final = (
    ("id", 30),
    ("state", 12),
    ("requester", 30),
    ("purpose", 30),
    ("spec", 30),
    ("deadline", 24),
    ("acknowledged", 14),
    ("parties", 46),
    ("protections", 30),
    ("uses", 80),
)
_EVENT: Final = (
    ("task", 30),
    ("event", 14),
    ("who", 30),
    ("state", 12),
    ("time", 24),
    ("block", 10),
    ("log_index", 10),
    ("transaction", 30),
    ("says", 80),
)


def _summary(report: Json, told: Words) -> Iterator[Sequence[Cell]]:
    for name, value in _facts(report, told):
        yield [told.message(name), value]


def _facts(report: Json, told: Words) -> Iterator[tuple[str, Cell]]:
    scope, proof = report["scope"], report["proof"]
    yield "verdict", told.message(report["verdict"]["result"])
    yield "in one sentence", told.sentence(report["verdict"]["sentence"])
    yield "chain", scope["chain_id"]
    yield "directory", scope["directory"]
    yield "first block", scope["first_block"]
    yield "last block", scope["last_block"]
    yield "hash of the last block", scope["last_hash"]
    yield "time of the last block", utc(scope["time"])
    yield "events replayed", scope["events"]
    yield "narrowed to the rule", scope["parameters"]["rule"]
    yield "narrowed to the object", scope["parameters"]["object"]
    yield "proof level", proof["level"]
    yield "which means", told.sentence(proof["meaning"])
    yield "why not more", told.sentence(proof["why_not_more"])
    yield "tool", f"{report['tool']['name']} {report['tool']['version']}"


def _undetermined(report: Json, told: Words) -> Iterator[Sequence[Cell]]:
    for control in report["controls"]:
        for missing in control["missing"]:
            severity, what = told.message(control["severity"]), told.sentence(missing["what"])
            yield [control["rule"], severity, missing["count"], what]


def _task(task: Json, told: Words) -> Sequence[Cell]:
    return [
        task["id"],
        told.message(task["state"]),
        task["requester"],
        task["purpose"],
        task["spec"],
        utc(task["deadline"]),
        told.message("yes" if task["acknowledged"] else "no"),
        "\n".join(task["parties"]),
        "\n".join(each["name"] for each in task["protections"]),
        "\n".join(_use(each, told) for each in task["uses"]),
    ]


def _use(use: Json, told: Words) -> str:
    said = told.message("%(party)s: dataset %(dataset)s, algorithm %(algorithm)s, grant %(grant)s", **use)
    epsilon = use["epsilon_millionths"]
    return said + (told.message(", epsilon %(epsilon)s millionths", epsilon=epsilon) if epsilon else "")


def _events(report: Json, told: Words) -> Iterator[Sequence[Cell]]:
    for task in report["tasks"]:
        for event in task["events"]:
            values = event | {"task": task["id"], "time": utc(event["time"])}
            yield _row(values, _EVENT, told)


def _parts(sheet: Sheet) -> Iterator[Sheet]:
    yield Sheet(sheet.name, sheet.columns, sheet.rows[:MAX_ROWS])
    for number, start in enumerate(range(MAX_ROWS, len(sheet.rows), MAX_ROWS), 2):
        yield Sheet(f"{sheet.name} {number}", sheet.columns, sheet.rows[start : start + MAX_ROWS])


def _write(page: Any, sheet: Sheet, head: Any, wrapped: Any, plain: Any) -> None:
    for index, (name, width) in enumerate(sheet.columns):
        page.set_column(index, index, width)
        page.write_string(0, index, name, head)
    page.freeze_panes(1, 0)
    page.autofilter(0, 0, max(1, len(sheet.rows)), len(sheet.columns) - 1)
    page.set_landscape()
    page.repeat_rows(0)
    page.fit_to_pages(1, 0)
    for number, row in enumerate(sheet.rows, 1):
        for index, value in enumerate(row):
            if isinstance(value, int) and -_EXACT < value < _EXACT:
                page.write_number(number, index, value, plain)
            elif value is not None:
                page.write_string(number, index, fitting(str(value)), wrapped)


def fitting(text: str) -> str:
    """``text``, or as much of it as a cell can hold and how much is left out."""
    if _units(text) <= MAX_CELL:
        return text
    note = f" … ({len(text)} characters, all of them in report.json)"
    room = MAX_CELL - len(note)
    start = text[:room]
    return (start if _units(start) <= room else text[: room // 2]) + note


def _units(text: str) -> int:
    """Its length as Excel counts it, in UTF-16 units."""
    return len(text.encode("utf-16-le")) // 2
