"""Records of processing: what the chain knows, what it cannot know is marked, and nothing is a formula."""

import csv
import hashlib
import json
import re
from io import StringIO
from xml.etree import ElementTree
from zipfile import ZipFile

import pytest
from auditor_story import ALGORITHM, DATASETS, GRANTS, OWNERS, REQUESTER, Story, honest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from sealtrace.algorithms.bundles import load, shipped
from sealtrace.auditor.audit import audit
from sealtrace.auditor.cli import app
from sealtrace.auditor.exports.records import Table, _harmless, to_csv, to_html, write
from sealtrace.auditor.language import Language, words
from sealtrace.auditor.processing import (
    COLUMNS,
    COMPUTES,
    OWNER,
    TO_FILL,
    OrganisationUnknown,
    ReportUnreadable,
    organisations,
    processing,
    read_report,
)
from sealtrace.auditor.processing import REQUESTER as REQUESTS
from sealtrace.auditor.report import document, to_json
from sealtrace.auditor.report import to_html as report_page
from sealtrace.protocol.spec import purpose_hash

ENGLISH = words()
A, B, C = OWNERS


@pytest.fixture(scope="module")
def report():
    return document(audit(honest().case()))


def rows(record, role):
    return [each for each in record["rows"] if each["role"] == role]


def test_an_owner_finds_each_grant_with_its_terms_and_the_tasks_under_it(report):
    (row,) = rows(processing(report, A), OWNER)
    assert row["basis"] == [GRANTS[A]]
    assert row["dataset"] == [DATASETS[A]]
    assert row["data_class"] == ["general"]
    assert row["processing"] == [ALGORITHM]
    assert row["recipients"] == sorted([REQUESTER, B, C])
    assert row["security"] == ["mpc_aby3", "psi_rr22"]
    assert row["time_limits"][1] == "2 of 3 uses spent"
    assert [each.split(": ")[1].split(",")[0] for each in row["activities"]] == [
        "completed",
        "refused",
        "failed",
    ]


def test_a_requester_finds_the_grants_given_to_it(report):
    record = processing(report, REQUESTER)
    assert {row["role"] for row in record["rows"]} == {REQUESTS}
    assert sorted(row["basis"][0] for row in record["rows"]) == sorted(GRANTS.values())
    assert sorted(row["on_behalf_of"][0] for row in record["rows"]) == sorted(OWNERS)


def test_a_party_finds_the_tasks_in_which_it_computed_on_data_of_others(report):
    found = rows(processing(report, A), COMPUTES)
    assert len(found) == len(report["tasks"])
    assert all(row["on_behalf_of"] == [B, C] for row in found)
    assert all(DATASETS[A] not in row["dataset"] for row in found)


def test_what_the_chain_cannot_know_is_an_empty_column_that_says_whose_it_is(report):
    record = processing(report, A)
    unknown = {each.name for each in COLUMNS if not each.known}
    assert (
        set(record["to_be_filled"]) == unknown >= {"legal_basis", "data_subjects", "transfers", "retention"}
    )
    assert all(row[name] is None for row in record["rows"] for name in unknown)
    table = list(csv.reader(StringIO(to_csv(record, ENGLISH).decode("utf-8-sig"))))
    for column, cells in zip(COLUMNS, zip(*table[1:], strict=True), strict=True):
        assert column.known == (TO_FILL not in cells)


def test_every_row_has_every_column(report):
    for who in organisations(report):
        for row in processing(report, who)["rows"]:
            assert set(row) == {each.name for each in COLUMNS}


def test_a_purpose_is_in_words_only_where_the_chain_has_the_hash_of_these_words(report):
    digest = report["annex"]["grants"][0]["purpose"]
    assert rows(processing(report, A, ["another purpose"]), OWNER)[0]["purpose"] == f"SHA-256 {digest}"
    said = "how many patients both hospitals share"
    grants = [each | {"purpose": purpose_hash(said)} for each in report["annex"]["grants"]]
    changed = report | {"annex": report["annex"] | {"grants": grants}}
    assert rows(processing(changed, A, [said]), OWNER)[0]["purpose"] == said


def test_who_learns_what_is_in_the_record_where_the_bundle_is_known():
    manifest = load(shipped()["statistics"]).manifest
    report = document(audit(honest().case()), {ALGORITHM: manifest})
    (row,) = rows(processing(report, A), OWNER)
    assert row["discloses"] == [f"{role}: {what}" for role, what in manifest.learns.items()]


def test_destruction_is_claimed_only_where_every_log_shows_it(report):
    told = [each.split(": ")[1] for each in rows(processing(report, A), OWNER)[0]["destruction"]]
    assert told == ["recorded by every party", "nothing ran", "recorded by every party"]
    unread = document(audit(honest().case(nodes=[A])))
    assert "cannot be told" in rows(processing(unread, A), OWNER)[0]["destruction"][0]
    story = Story(twist=lambda node, kind, body: None if kind == "task.wiped" and node == B else body).found()
    story.complete()
    kept = document(audit(story.case()))
    assert {f["rule"] for f in kept["findings"]} >= {"EV-D01"}
    assert "not recorded by every party" in rows(processing(kept, A), OWNER)[0]["destruction"][0]


def test_an_approval_and_a_budget_are_among_the_terms():
    story = Story().found()
    grant = story.grant(A, approvalRequired=True, epsilon=5, uses=9, expiresAt=2_000_000_000)
    record = processing(document(audit(story.case())), A)
    (row,) = [each for each in rows(record, OWNER) if each["basis"][0] == grant]
    assert row["basis"] == [grant, "approval of each task"]
    assert "privacy budget of 5 millionths, 5 left" in row["security"]
    assert row["activities"] == row["destruction"] == []


def test_an_organisation_that_the_report_does_not_know_is_refused(report):
    with pytest.raises(OrganisationUnknown, match="annex"):
        processing(report, "0x" + "ee" * 20)


# tables

FORMULAS = ["=1+1", "+1", "-2", "@SUM(1)", "\t=1", "\r=1", " =1", "\n-1", "＝1", "\x00=1", "\tx"]


@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_of_a_csv_file_begins_like_a_formula(report, text):
    hostile = report | {
        "disclosures": [{"algorithm": ALGORITHM, "name": "x", "learns": [{"role": text, "what": "y"}]}]
    }
    table = list(
        csv.reader(StringIO(to_csv(processing(hostile, A, ()), ENGLISH).decode("utf-8-sig"), newline=""))
    )
    cells = [cell for row in table for cell in row]
    assert any(cell.startswith("'") and text in cell for cell in cells)
    assert not any(re.match(r"[\s\x00]*[=+\-@＝＋－＠]", cell) for cell in cells)


@given(st.text(max_size=30))
def test_a_harmless_cell_stays_as_it_is_and_every_other_is_only_marked(text):
    said = _harmless(text)
    assert said in (text, f"'{text}")
    assert not said.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))


def test_a_workbook_of_the_record_has_no_formula_and_says_which_clauses_ask(report, tmp_path):
    path = write(processing(report, A), tmp_path, Table.XLSX)
    with ZipFile(path) as book:
        sheet = book.read("xl/worksheets/sheet1.xml").decode()
        texts = ElementTree.fromstring(book.read("xl/sharedStrings.xml")).itertext()
    assert "<f>" not in sheet
    assert {"GDPR 30(1)(b); PIPL 6", "Purpose", TO_FILL} <= set(texts)


def test_a_page_of_the_record_needs_nothing_and_takes_no_markup(report):
    hostile = report | {
        "disclosures": [
            {"algorithm": ALGORITHM, "name": "x", "learns": [{"role": "<script>", "what": "<img>"}]}
        ]
    }
    page = to_html(processing(hostile, A), ENGLISH).decode()
    assert not re.search(r"<script|<img|<link|src=|https?://", page)
    assert page.count(TO_FILL) == len(processing(hostile, A)["rows"]) * len(
        processing(hostile, A)["to_be_filled"]
    )


def test_the_report_has_the_record_of_every_organisation_in_its_annex(report):
    page = report_page(report)
    annex = page[page.index('id="processing"') :]
    assert len(organisations(report)) >= 4
    assert all(f'<summary><span class="hex">{who}</span>' in annex for who in organisations(report))


def test_a_page_shows_the_first_rows_of_a_long_record_and_says_how_many_are_left_out(report, monkeypatch):
    monkeypatch.setattr("sealtrace.auditor.report._MOST_ROWS", 1)
    assert "And 3 more rows, which sealtrace audit processing writes." in report_page(report)


def test_the_command_writes_the_record_from_a_report_alone(report, tmp_path):
    source = tmp_path / "report.json"
    source.write_bytes(to_json(report))
    fixed = ["processing", "--organisation", A, "--report", str(source), "--out", str(tmp_path), "--json"]
    for each in Table:
        done = CliRunner().invoke(app, [*fixed, "--format", each, "--language", "zh"])
        assert (done.exit_code, json.loads(done.output)["rows"]) == (0, 4)
        assert (tmp_path / each.file).stat().st_size > 500
    assert json.loads((tmp_path / "processing.json").read_text())["version"] == "sealtrace.processing/1"
    text = (tmp_path / "processing.csv").read_bytes()
    assert text.startswith(b"\xef\xbb\xbf")
    assert "由机构填写" in text.decode()
    assert text == to_csv(processing(report, A), words(Language.CHINESE))


@pytest.mark.parametrize(
    "text", [b"", b"{}", b'{"version":"other"}', b"[]", b'{"a":1,"a":2}', b"\xff", b"[" * 10_000]
)
def test_what_is_no_report_is_refused(tmp_path, text):
    source = tmp_path / "report.json"
    source.write_bytes(text)
    with pytest.raises(ReportUnreadable, match=r"report\.json"):
        read_report(source)
    fixed = ["processing", "--organisation", A, "--out", str(tmp_path), "--json"]
    result = CliRunner().invoke(app, [*fixed, "--report", str(source)])
    assert (result.exit_code, json.loads(result.output)["error"]) == (3, "ReportUnreadable")


def test_a_report_larger_than_any_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("sealtrace.auditor.processing.MAX_REPORT_BYTES", 10)
    (tmp_path / "report.json").write_bytes(b"x" * 11)
    with pytest.raises(ReportUnreadable, match="more than 10 bytes"):
        read_report(tmp_path / "report.json")


def test_a_record_names_the_report_it_is_made_from(report):
    assert processing(report, A)["report_sha256"] == "0x" + hashlib.sha256(to_json(report)).hexdigest()
