"""The report as PDF/A-3b, with report.json inside it.

Typst sets it with the fonts that come with it, which cover European scripts, and with one for Chinese where
it is asked to. A character that they may lack, or that changes what its neighbours look like, is shown by its
number (``\\u{202e}``): the attachment has it as it was written.
"""

from __future__ import annotations

import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from sealtrace.auditor.case import Level
from sealtrace.auditor.exports.fonts import Font, chinese
from sealtrace.auditor.language import Language, Words, words
from sealtrace.auditor.report import Json, to_json
from sealtrace.auditor.times import moment, utc
from sealtrace.protocol.canonical import canonical

STANDARD: Final = "a-3b"

MAX_TEXT: Final = 2_000
"""Characters of a text that are shown; the attachment has all."""

MAX_ITEMS: Final = 1_000
"""Findings, tasks, and lines of any other list that are shown: a page takes 1 MB of memory to make."""

MAX_ANNEX: Final = 200
"""Lines of a list in the annex that are shown: a long table takes more to set than pages of text do."""

_LISTS: Final = ("controls", "findings", "not_checked", "tasks", "disclosures")
_ANNEX: Final = ("nodes", "datasets", "grants", "checkpoints")
_TEMPLATE: Final = Path(__file__).parent.parent / "templates" / "report.typ"
_EUROPEAN: Final = r"\n\x20-\x7e\xa0-\xac\xae-\xff–—‘’“”…"
_CHINESE: Final = r"\u3001-\u3003\u3008-\u3011\u4e00-\u9fa5\uff01-\uff5e"
"""CJK punctuation, the ideographs of Unicode 1.1, and full-width forms: in every font that is known."""

_UNSHOWN: Final = re.compile(f"[^{_EUROPEAN}]")
_UNSHOWN_IN_CHINESE: Final = re.compile(f"[^{_EUROPEAN}{_CHINESE}]")


def to_pdf(report: Json, language: Language = Language.ENGLISH, fonts: Path | None = None) -> bytes:
    """The report's pages. What is too long for them is cut, says so, and is whole in the attachment.

    ``fonts`` is a folder with a font that has Chinese; English pages do without where none is named.

    Raises:
        FontMissing: the pages are in Chinese, or a folder is named, and no font is there.
    """
    import typst

    font = chinese(fonts) if fonts is not None or language is Language.CHINESE else None
    told, time = words(language), moment(report["scope"]["time"])
    with TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "report.json").write_bytes(to_json(report))
        shown = visible(_told(report, told), with_chinese=font is not None)
        (root / "shown.json").write_bytes(canonical(shown))
        (root / "words.json").write_bytes(canonical(_words(told, font)))
        (root / "report.typ").write_bytes(_TEMPLATE.read_bytes())
        made: bytes = typst.compile(
            root / "report.typ",
            root=root,
            font_paths=[_gathered(root / "fonts", font)] if font else [],
            ignore_system_fonts=True,
            pdf_standards=STANDARD,
            timestamp=time,
        )
    return made


def _words(told: Words, font: Font | None) -> Json:
    fonts = [font.family] if font else []
    return {"language": told.language.value, "messages": dict(told.messages), "fonts": fonts}


def _gathered(folder: Path, font: Font) -> Path:
    """A folder with the files of ``font`` and no other: what else lies beside them must not change a page."""
    folder.mkdir()
    for file in font.files:
        (folder / file.name).symlink_to(file.resolve())
    return folder


def visible(value: Any, *, with_chinese: bool = False) -> Any:
    """``value`` with every text as it can be shown."""
    if isinstance(value, str):
        unshown = _UNSHOWN_IN_CHINESE if with_chinese else _UNSHOWN
        shown = unshown.sub(lambda found: f"\\u{{{ord(found[0]):x}}}", value[:MAX_TEXT])
        return shown if len(value) <= MAX_TEXT else f"{shown} … ({len(value)} characters in report.json)"
    if isinstance(value, list):
        return [visible(each, with_chinese=with_chinese) for each in value]
    if isinstance(value, dict):
        return {key: visible(each, with_chinese=with_chinese) for key, each in value.items()}
    return value


def _told(report: Json, told: Words) -> Json:
    """The report with its sentences in the pages' language, its times in words, and of every list what is
    shown and how much is left out."""
    report, left_out = _bounded(report)
    time = moment(report["scope"]["time"])
    say = told.sentence
    report["verdict"] |= {"sentence": say(report["verdict"]["sentence"])}
    report["proof"] |= {name: say(report["proof"][name]) for name in ("meaning", "why_not_more")}
    report["proof"] |= {
        name: report["proof"][name] | {"says": say(report["proof"][name]["says"])}
        for name in ("seals", "storage", "execution")
    }
    report["not_checked"] = [say(each) for each in report["not_checked"]]
    report["findings"] = [
        each | {name: say(each[name]) for name in ("explanation", "sentence")} for each in report["findings"]
    ]
    report["controls"] = [
        each
        | {"sentence": say(each["sentence"])}
        | {"missing": [line | {"what": say(line["what"])} for line in each["missing"]]}
        for each in report["controls"]
    ]
    date = [time.year, time.month, time.day, time.hour, time.minute, time.second]
    more = {"left_out": left_out, "as_of": utc(report["scope"]["time"]), "date": date}
    return report | more | {"highest": int(max(Level))}


def _bounded(report: Json) -> tuple[Json, dict[str, int]]:
    """A copy of the report with as much of each list as is shown, and how much of which is left out."""
    left_out = {name: max(0, len(report[name]) - MAX_ITEMS) for name in _LISTS}
    left_out |= {name: max(0, len(report["annex"][name]) - MAX_ANNEX) for name in _ANNEX}
    controls = [each | {"missing": each["missing"][:MAX_ITEMS]} for each in report["controls"][:MAX_ITEMS]]
    missing = sum(len(each["missing"]) for each in report["controls"])
    left_out["missing"] = missing - sum(len(each["missing"]) for each in controls)
    bounded = report | {name: report[name][:MAX_ITEMS] for name in _LISTS}
    bounded |= {
        "verdict": dict(report["verdict"]),
        "proof": dict(report["proof"]),
        "annex": {name: report["annex"][name][:MAX_ANNEX] for name in _ANNEX},
        "controls": controls,
        "tasks": [_task(each) for each in bounded["tasks"]],
    }
    return bounded, left_out


def _task(task: Json) -> Json:
    return task | {
        "until": utc(task["deadline"]),
        "uses": task["uses"][:MAX_ITEMS],
        "parties": task["parties"][:MAX_ITEMS],
        "events": [event | {"at": utc(event["time"])} for event in task["events"][:MAX_ITEMS]],
        "events_left_out": max(0, len(task["events"]) - MAX_ITEMS),
    }
