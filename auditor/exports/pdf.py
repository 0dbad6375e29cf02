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

from sealtrace.auditor.report import to_json
from sealtrace.auditor.times import moment, utc
from sealtrace.protocol.canonical import canonical

Json = dict[str, Any]

STANDARD: Final = "a-3b"

_TEMPLATE: Final = Path(__file__).parent.parent / "templates" / "report.typ"
_SHOWN: Final = re.compile(r"[^\n\x20-\x7e\xa0-\xac\xae-\xff–—‘’“”…]")


def to_pdf(report: Json) -> bytes:
    """The report's pages. Needs about 1 MB of memory for each page."""
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
        return _SHOWN.sub(lambda found: f"\\u{{{ord(found[0]):x}}}", value)
    if isinstance(value, list):
        return [visible(each) for each in value]
    if isinstance(value, dict):
        return {key: visible(each) for key, each in value.items()}
    return value


def _told(report: Json) -> Json:
    """The report with its times in words."""
    time = moment(report["scope"]["time"])
    tasks = [
        task
        | {
            "until": utc(task["deadline"]),
            "events": [event | {"at": utc(event["time"])} for event in task["events"]],
        }
        for task in report["tasks"]
    ]
    date = [time.year, time.month, time.day, time.hour, time.minute, time.second]
    return report | {"tasks": tasks, "as_of": utc(report["scope"]["time"]), "date": date}
