"""The report as PDF/A-3b, with report.json inside it.

Typst sets it with the fonts that come with it, which cover European scripts. A character that they may lack,
or that changes what its neighbours look like, is shown by its number (``\\u{202e}``): the attachment has it
as it was written.
"""

from __future__ import annotations

import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from sealtrace.auditor.report import Json, to_json
from sealtrace.auditor.times import moment, utc
from sealtrace.protocol.canonical import canonical

STANDARD: Final = "a-3b"

MAX_TEXT: Final = 2_000
"""Characters of a text that are shown; the attachment has all."""

MAX_ITEMS: Final = 1_000
"""Findings, tasks, and lines of any other list that are shown: a page takes 1 MB of memory to make."""

_LISTS: Final = ("controls", "findings", "not_checked", "tasks", "disclosures")
_TEMPLATE: Final = Path(__file__).parent.parent / "templates" / "report.typ"
_SHOWN: Final = re.compile(r"[^\n\x20-\x7e\xa0-\xac\xae-\xff–—‘’“”…]")


def to_pdf(report: Json) -> bytes:
    """The report's pages. What is too long for them is cut, says so, and is whole in the attachment."""
    import typst

    time = moment(report["scope"]["time"])
    with TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "report.json").write_bytes(to_json(report))
        (root / "shown.json").write_bytes(canonical(visible(_told(report))))
        (root / "report.typ").write_bytes(_TEMPLATE.read_bytes())
        made: bytes = typst.compile(
            root / "report.typ",
            root=root,
            ignore_system_fonts=True,
            pdf_standards=STANDARD,
            timestamp=time,
        )
    return made


def visible(value: Any) -> Any:
    """``value`` with every text as it can be shown."""
    if isinstance(value, str):
        shown = _SHOWN.sub(lambda found: f"\\u{{{ord(found[0]):x}}}", value[:MAX_TEXT])
        return shown if len(value) <= MAX_TEXT else f"{shown} … ({len(value)} characters in report.json)"
    if isinstance(value, list):
        return [visible(each) for each in value]
    if isinstance(value, dict):
        return {key: visible(each) for key, each in value.items()}
    return value


def _told(report: Json) -> Json:
    """The report with its times in words, and of every list what is shown and how much is left out."""
    time = moment(report["scope"]["time"])
    left_out = {name: max(0, len(report[name]) - MAX_ITEMS) for name in _LISTS}
    report = report | {name: report[name][:MAX_ITEMS] for name in _LISTS}
    tasks = [
        task
        | {
            "until": utc(task["deadline"]),
            "uses": task["uses"][:MAX_ITEMS],
            "parties": task["parties"][:MAX_ITEMS],
            "events": [event | {"at": utc(event["time"])} for event in task["events"][:MAX_ITEMS]],
            "events_left_out": max(0, len(task["events"]) - MAX_ITEMS),
        }
        for task in report["tasks"]
    ]
    date = [time.year, time.month, time.day, time.hour, time.minute, time.second]
    controls = [each | {"missing": each["missing"][:MAX_ITEMS]} for each in report["controls"]]
    missing = sum(len(each["missing"]) for each in report["controls"])
    left_out["missing"] = missing - sum(len(each["missing"]) for each in controls)
    more = {"controls": controls, "left_out": left_out}
    return report | more | {"tasks": tasks, "as_of": utc(report["scope"]["time"]), "date": date}
