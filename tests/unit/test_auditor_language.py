"""Reports in Chinese: nothing is left untranslated, nothing is read into what a party wrote."""

import ast
import json
import re
import sys
from io import BytesIO
from pathlib import Path

import pypdf
import pytest
from auditor_story import OWNERS, honest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from violations import FAULTS, LAST, history

from sealtrace.auditor import case as cases
from sealtrace.auditor.audit import Result, audit
from sealtrace.auditor.checks import catalogue
from sealtrace.auditor.cli import app
from sealtrace.auditor.exports import fonts
from sealtrace.auditor.exports.fonts import FontMissing, chinese
from sealtrace.auditor.exports.formats import Format, Pages, available, write
from sealtrace.auditor.exports.pdf import to_pdf, visible
from sealtrace.auditor.exports.records import to_csv
from sealtrace.auditor.exports.xlsx import sheets, to_xlsx
from sealtrace.auditor.findings import Outcome, Severity
from sealtrace.auditor.language import Language, UnknownLanguage, language, words
from sealtrace.auditor.processing import COLUMNS, organisations, processing
from sealtrace.auditor.report import LEVELS, document, to_html, to_json
from sealtrace.auditor.timelines import _TONES
from sealtrace.contracts.governance import Office
from sealtrace.protocol.lifecycle import TaskState
from sealtrace.protocol.outcome import Blame, Denial, Failure
from sealtrace.protocol.records import (
    AlgorithmStatus,
    DataClass,
    DatasetStatus,
    GrantStatus,
    NodeStatus,
    Role,
)
from sealtrace.protocol.security import SECURITY

ROOT = Path(__file__).parents[2]
AUDITOR = ROOT / "auditor"
CHINESE = words(Language.CHINESE)
HAN = re.compile(r"[\u4e00-\u9fa5]")
SAME_IN_BOTH = {"Epsilon / 10⁻⁶", "%(left)s of %(uses)s"}


def catalogue_file():
    return json.loads((AUDITOR / "languages" / "zh.json").read_text("utf-8"))


def told(text):
    """Whether a sentence of the report is said in Chinese."""
    return HAN.search(CHINESE.sentence(text)) is not None


def messages():
    """Every text that a page, a workbook or a chart asks for."""
    html = re.compile(r"\b_\(\s*(?:'([^']*)'|\"([^\"]*)\")")
    typst = re.compile(r'\bt\(\s*"((?:[^"\\]|\\.)*)"')
    for each in (AUDITOR / "templates").glob("*.html"):
        yield from (one or other for one, other in html.findall(each.read_text("utf-8")))
    pages = (AUDITOR / "templates" / "report.typ").read_text("utf-8")
    yield from (text.replace("\\\\", "\\") for text in typst.findall(pages))
    yield from re.findall(r'^ +\("([^"]+)", .*\),$', pages, re.MULTILINE)  # the facts' names
    for heads in re.findall(r'^ +\(("[^"]+"(?:, "[^"]+")+)\),$', pages, re.MULTILINE):  # the tables' heads
        yield from ast.literal_eval(f"[{heads}]")
    for each in (AUDITOR / "charts.py", AUDITOR / "timelines.py", AUDITOR / "exports" / "xlsx.py"):
        yield from re.findall(r'(?:said|message)\(\s*"([^"]+)"', each.read_text("utf-8"))
    yield from re.findall(r'yield "([a-z ]+)"', (AUDITOR / "exports" / "xlsx.py").read_text("utf-8"))
    for sheet in sheets(document(audit(honest().case()))):
        yield sheet.name
        yield from (name.replace("_", " ") for name, _ in sheet.columns)
    yield from (each.heading for each in COLUMNS)


@pytest.mark.parametrize("message", sorted(set(messages())))
def test_every_text_of_the_pages_has_its_chinese(message):
    said = CHINESE.message(message)
    assert HAN.search(said) or message in SAME_IN_BOTH, message
    assert sorted(re.findall(r"%\(\w+\)s|%%", said)) == sorted(re.findall(r"%\(\w+\)s|%%", message))


TERMS = [
    *(
        each.name
        for kind in (TaskState, NodeStatus, DatasetStatus, AlgorithmStatus, GrantStatus)
        for each in kind
    ),
    *(each.name or "" for each in Role),
    *(each.name for each in DataClass),
    *(each.value for kind in (Severity, Outcome, Office) for each in kind),
    *(each.name for each in Result),
    *_TONES,
]


@pytest.mark.parametrize("term", sorted({each.lower() for each in TERMS}))
def test_every_state_status_role_and_verdict_has_its_chinese(term):
    assert HAN.search(CHINESE.message(term))


@pytest.mark.parametrize("check", catalogue(), ids=lambda each: each.rule)
def test_every_check_has_its_chinese(check):
    assert told(check.sentence), f"auditor/languages/zh.json lacks the sentence of {check.rule}"


@pytest.mark.parametrize("code", [*Denial, *Failure, *Blame], ids=lambda each: each.name.lower())
def test_every_reason_has_its_chinese(code):
    assert told(code.name.lower())


def test_every_proof_level_and_every_protection_has_its_chinese():
    assert set(LEVELS) == set(cases.Level)
    assert all(told(each) for each in LEVELS.values())
    assert all(told(each.words) for each in SECURITY.values())


@pytest.mark.parametrize("kind", [*FAULTS, *LAST])
def test_whatever_is_found_is_said_in_chinese(kind):
    report = document(audit(history(1, 14, 2 if kind in FAULTS else 0, only=kind).case))
    sentences = [
        report["verdict"]["sentence"],
        report["proof"]["why_not_more"],
        *report["not_checked"],
        *(line["what"] for control in report["controls"] for line in control["missing"]),
        *(each["explanation"] for each in report["findings"]),
        *(event["says"] for task in report["tasks"] for event in task["events"] if event["says"]),
    ]
    assert [each for each in sentences if not told(each)] == []


@pytest.mark.parametrize("nodes", [[], OWNERS[:1]])
def test_a_verdict_that_cannot_be_told_is_said_in_chinese(nodes):
    report = document(audit(honest().case(nodes=nodes)))
    assert "无法断定" in CHINESE.sentence(report["verdict"]["sentence"])
    assert all(map(told, report["not_checked"]))


def test_a_translation_has_the_holes_of_its_sentence_and_no_other():
    hole = re.compile(r"\{[_#]?\w+\}")
    for english, said in catalogue_file()["sentences"].items():
        assert sorted(set(hole.findall(said))) == sorted(set(hole.findall(english))), english


def test_no_translation_is_of_a_sentence_twice_told():
    """A key that is given twice would hide one of the two."""
    pairs = json.loads(
        (AUDITOR / "languages" / "zh.json").read_text("utf-8"), object_pairs_hook=lambda found: found
    )
    for _, group in pairs:
        keys = [key for key, _ in group]
        assert len(keys) == len(set(keys))


@given(st.text(max_size=200))
def test_what_a_party_wrote_is_left_as_it_is_inside_a_sentence(text):
    said = CHINESE.sentence(f"node {text} recorded no transcript")
    assert said == f"节点 {text} 未记录运行副本"


def test_a_sentence_of_many_pieces_takes_no_long_time():
    assert CHINESE.sentence("in " * 400_000).startswith("in in")


def test_what_the_catalogue_does_not_know_stays_in_english():
    assert CHINESE.sentence("A sentence of the next version.") == "A sentence of the next version."
    assert CHINESE.sentence("learns of 3 findings") == "learns of 3 findings"


def test_a_language_that_is_none_is_refused():
    with pytest.raises(UnknownLanguage, match="en, zh"):
        language("de")
    fixed = ["run", "--rpc", "http://127.0.0.1:1", "--chain-id", "7", "--out", "x", "--json"]
    result = CliRunner().invoke(app, [*fixed, "--contracts", "0x" + "d0" * 20, "--language", "de"])
    assert (result.exit_code, json.loads(result.output)["error"]) == (3, "UnknownLanguage")


# pages


@pytest.fixture(scope="module")
def report():
    return document(audit(history(5, 20, 6).case))


def test_the_chinese_page_has_the_sections_and_sentences_in_chinese(report):
    page = to_html(report, Language.CHINESE)
    assert '<html lang="zh-Hans">' in page
    assert CHINESE.sentence(report["verdict"]["sentence"]) in page
    text = re.sub(r"<style>.*?</style>|<[^>]*>|\{\{.*?\}\}", " ", page, flags=re.DOTALL)
    for english in ("Controls", "Findings", "How to read this", "Uses left", "Satisfied"):
        assert not re.search(rf"\b{english}\b", text)


@pytest.mark.parametrize("chosen", Language)
def test_the_same_history_gives_the_same_bytes_in_each_language(report, chosen):
    again = document(audit(history(5, 20, 6).case))
    assert to_html(report, chosen) == to_html(again, chosen)
    assert to_xlsx(report, chosen) == to_xlsx(again, chosen)
    (who, *_) = organisations(report)
    told = words(chosen)
    assert to_csv(processing(report, who), told) == to_csv(processing(again, who), told)


def test_the_record_is_the_same_in_every_language(report, tmp_path):
    for chosen in Language:
        write(report, (), tmp_path / chosen, [Format.HTML, Format.JSON], None, Pages(chosen))
    first, second = (tmp_path / each / "report.json" for each in Language)
    assert first.read_bytes() == second.read_bytes() == to_json(report)


# fonts


def installed():
    try:
        return chinese()
    except FontMissing:
        return None


def test_pages_in_chinese_without_a_font_are_refused_before_the_audit(tmp_path, monkeypatch):
    monkeypatch.setattr(fonts, "PLACES", (tmp_path,))
    with pytest.raises(FontMissing, match="apt install fonts-noto-cjk"):
        available([Format.PDF], None, Pages(Language.CHINESE))
    available([Format.HTML, Format.XLSX], None, Pages(Language.CHINESE))
    available([Format.PDF])
    with pytest.raises(FontMissing, match=re.escape(str(tmp_path))):
        available([Format.PDF], None, Pages(fonts=tmp_path))


def test_a_font_is_found_where_the_system_keeps_it_and_where_one_says(tmp_path, monkeypatch):
    system, own = tmp_path / "system", tmp_path / "own"
    monkeypatch.setattr(fonts, "PLACES", (tmp_path / "none", system))
    for folder, names in (
        (system, ["NotoSansCJK-Regular.ttc", "NotoSansCJK-Bold.ttc", "NotoSerifCJK-Regular.ttc"]),
        (own, ["DroidSansFallbackFull.ttf"]),
    ):
        (folder / "deep").mkdir(parents=True)
        for name in names:
            (folder / "deep" / name).touch()
    found = chinese()
    assert (found.family, [each.name for each in found.files]) == (
        "Noto Sans CJK SC",
        ["NotoSansCJK-Regular.ttc", "NotoSansCJK-Bold.ttc"],
    )
    assert chinese(own).family == "Droid Sans Fallback"


def test_what_a_chinese_font_may_lack_still_stands_as_its_number():
    assert visible("汉字，（ok）\u202e𠀀", with_chinese=True) == "汉字，（ok）\\u{202e}\\u{20000}"
    assert visible("汉") == "\\u{6c49}"


@pytest.mark.skipif(
    installed() is None, reason="no font with Chinese is installed: apt install fonts-noto-cjk"
)
def test_pages_in_chinese_have_real_characters_and_the_english_record(report):
    made = to_pdf(report, Language.CHINESE)
    assert made == to_pdf(report, Language.CHINESE)
    reader = pypdf.PdfReader(BytesIO(made))
    text = "".join(page.extract_text() for page in reader.pages).replace("\n", "")
    assert CHINESE.sentence(report["verdict"]["sentence"]) in text
    assert "\\u{4" not in text.replace("\\u{202e}", "")
    assert reader.attachments["report.json"] == [to_json(report)]
    assert all(check in text for check in ("未检查事项", "证明级别", "控制项"))
