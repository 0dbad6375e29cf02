"""The report, the catalogue, the settings and the service, without a chain."""

import json
import re
from dataclasses import replace
from html import unescape
from pathlib import Path
from xml.etree import ElementTree

import pytest
from auditor_story import MEMBER, OFFICE, OWNERS, Story, honest
from typer.testing import CliRunner

from sealtrace.algorithms.bundles import load, shipped, write
from sealtrace.auditor.audit import audit
from sealtrace.auditor.case import Level, OtherCode, Proof
from sealtrace.auditor.catalogue import markdown
from sealtrace.auditor.charts import LABEL, ROOM, Bar, chart
from sealtrace.auditor.checks import catalogue
from sealtrace.auditor.cli import app
from sealtrace.auditor.disclosures import known
from sealtrace.auditor.frameworks import _CLAUSES, NAMES, frameworks
from sealtrace.auditor.report import document, to_html, to_json
from sealtrace.protocol.records import Protection
from sealtrace.protocol.security import SECURITY

DIRECTORY = "0x" + "d0" * 20
DOCS = Path(__file__).parents[2] / "docs"


def spoilt(node, text):
    return text.replace(b'"removed":4', b'"removed":5') if node == OWNERS[0] else text


def test_the_same_history_gives_the_same_bytes():
    pages = [document(audit(honest().case(spoil=spoilt, nodes=OWNERS[:2]))) for _ in range(2)]
    assert to_json(pages[0]) == to_json(pages[1])
    assert to_html(pages[0]) == to_html(pages[1])


def test_the_page_needs_nothing_from_elsewhere():
    page = to_html(document(audit(honest().case(spoil=spoilt))))
    assert not re.search(r"<script|<link|<img|src=|@import|url\(|https?://", page)


def test_the_sections_come_in_their_order():
    page = to_html(document(audit(honest().case(spoil=spoilt))))
    names = ("proof", "controls", "findings", "tasks", "disclosures", "not-checked", "annex")
    places = [page.index(each) for each in ("verdict", *(f'id="{name}"' for name in names))]
    assert places == sorted(places)


def test_the_page_says_what_each_task_asked_to_use_and_how_to_read_it():
    report = document(audit(honest().case()))
    page = to_html(report)
    assert all(task["purpose"] in page for task in report["tasks"])
    assert all(use["grant"] in page for task in report["tasks"] for use in task["uses"])
    assert {p["name"]: p["promises"] for task in report["tasks"] for p in task["protections"]} == {
        "mpc_aby3": SECURITY[Protection.MPC_ABY3].words
    }
    assert SECURITY[Protection.MPC_ABY3].words in page
    assert page.index('id="reading"') < page.index('id="proof"')


def test_the_report_prints_what_the_algorithms_of_its_tasks_disclose():
    case = audit(honest().case())
    (unknown,) = document(case)["disclosures"]
    assert (unknown["name"], unknown["learns"]) == (None, None)
    assert "Its bundle was not at hand" in to_html(document(case))
    manifest = load(shipped()["statistics"]).manifest
    report = document(case, {unknown["algorithm"]: manifest})
    (known,) = report["disclosures"]
    assert {each["role"]: each["what"] for each in known["learns"]} == manifest.learns
    page = unescape(to_html(report))
    assert all(what in page for what in manifest.learns.values())


def test_the_bundles_that_ship_are_known_by_their_digests_and_others_by_their_folder(tmp_path):
    statistics = load(shipped()["statistics"])
    other = tmp_path / "other"
    write(statistics, other)
    (other / "note.txt").write_text("another version")
    assert known()[statistics.digest] == statistics.manifest
    digest = load(other).digest
    assert digest not in known()
    assert known([other])[digest] == statistics.manifest


def test_a_verdict_counts_what_is_undetermined_apart():
    clean, unsure = document(audit(honest().case())), document(audit(honest().case(nodes=[])))
    assert clean["verdict"]["sentence"].startswith("No finding in 3 tasks up to block")
    assert "none is undetermined" in clean["verdict"]["sentence"]
    assert unsure["verdict"]["result"] == "cannot_tell"
    assert "undetermined" in unsure["verdict"]["sentence"]


def test_an_empty_report_still_lists_every_check_and_what_was_not_checked():
    report = document(audit(honest().case()))
    assert report["findings"] == []
    assert [row["rule"] for row in report["controls"]] == [each.rule for each in catalogue()]
    assert any("Commit seals" in line for line in report["not_checked"])


def test_the_level_that_was_not_reached_is_given_with_its_reason():
    proof = Proof(Level.RPC_TRUSTED, "the endpoint gives no receipts", 0, 9)
    report = document(audit(honest().case(proof=proof)))
    assert report["proof"]["level"] == 1
    assert "That nothing was left out of the events: the endpoint gives no receipts." in report["not_checked"]


def test_contracts_with_other_code_are_named_among_what_was_not_checked():
    other = OtherCode(0, "TaskLedger", "0xc0 holds other code")
    report = document(audit(replace(honest().case(), other_code=(other,))))
    told = "TaskLedger of generation 0: 0xc0 holds other code"
    assert any(told in line for line in report["not_checked"])


def test_the_annex_shows_who_decides_and_what_was_used():
    annex = document(audit(honest().case()))["annex"]
    assert annex["consortium"]["members"] == sorted([OFFICE, MEMBER])
    assert {each["office"] for each in annex["consortium"]["offices"]} == {"registrar", "regulator"}
    assert [each["status"] for each in annex["proposals"]] == ["executed"]
    assert {(each["uses"], each["uses_left"]) for each in annex["grants"]} == {(3, 1)}


def test_a_task_shows_its_progress_and_its_acknowledgement():
    story = Story().found()
    task = story.create("it")
    story.start_all(task)
    story.progress(task, OWNERS[0], 250).progress(task, OWNERS[0], 750)
    story.acknowledge(story.complete())
    (begun, done) = document(audit(story.case()))["tasks"]
    assert [each["permille"] for each in begun["progress"]] == [750]
    assert (begun["acknowledged"], done["acknowledged"]) == (False, True)
    assert done["events"][-1]["event"] == "acknowledged"


def test_a_node_that_anchors_an_absurd_size_does_not_stop_the_report():
    story = honest()
    last = [e for e in story.events if e.name == "CheckpointAnchored" and e.args["node"] == OWNERS[0]][-1]
    absurd = {"size": 2**64 - 1, "root": last.args["root"], "previousSize": last.args["size"]}
    story.mine().emit("CheckpointAnchored", node=OWNERS[0], **absurd)
    report = document(audit(story.case()))
    assert [(f["rule"], f["node"]) for f in report["findings"]] == [("EV-L02", OWNERS[0])]
    assert b'"18446744073709551615"' in to_json(report)
    assert "18446744073709551615" in to_html(report)


def test_every_check_speaks_to_a_clause_of_every_framework_and_no_clause_is_of_a_check_that_is_none():
    for each in catalogue():
        assert list(frameworks(each.rule)) == list(NAMES), f"auditor/frameworks.py lacks {each.rule}"
        assert all(all(clauses) for clauses in frameworks(each.rule).values())
    assert set(_CLAUSES) == {each.rule for each in catalogue()}
    page = unescape(to_html(document(audit(honest().case()))))
    assert "GDPR 5(1)(e), 28(3)(g) · PIPL 19, 21, 47 · ISO 27001 A.8.10" in page


def test_the_page_has_charts_that_count_what_the_report_counts():
    report = document(audit(honest().case(spoil=spoilt, nodes=OWNERS[:2])))
    drawn = re.findall(r"<figure>.*?</figure>", to_html(report), re.DOTALL)
    told = {}
    for figure in drawn:
        name, svg = re.fullmatch(
            r"<figure><figcaption>(.*?)</figcaption>(<svg.*</svg>)</figure>", figure
        ).groups()
        texts = [each.text for each in ElementTree.fromstring(svg).iter("text")]
        told[name] = dict(zip(texts[::2], map(int, texts[1::2]), strict=True))
    counts = report["counts"]
    assert told["Verdicts by outcome"] == counts["verdicts"]
    assert told["Tasks by state"] == counts["states"]
    assert told["Findings by severity"] == counts["severities"]
    assert sum(told["Tasks by the block of their first event"].values()) == counts["tasks"]


def test_a_chart_without_anything_to_show_is_left_out():
    case = honest().case()
    page = to_html(document(audit(replace(case, first=case.last.number))))
    assert "Tasks by state" not in page
    assert "Findings by severity" not in page


def test_bars_keep_to_their_room_however_uneven_they_are():
    drawn = chart(
        "one", [Bar("most", [("good", 10**9), ("bad", 1)]), Bar("none", []), Bar("one", [("bad", 1)])]
    )
    for rect in ElementTree.fromstring(drawn).iter("rect"):
        assert int(rect.get("x")) + int(rect.get("width")) <= LABEL + ROOM + 1
        assert int(rect.get("width")) >= 1


def test_findings_controls_and_tasks_can_be_narrowed_without_a_script():
    report = document(audit(honest().case(spoil=spoilt, nodes=OWNERS[:2])))
    page = to_html(report)
    style = page[page.index("<style>") : page.index("</style>")]
    inputs = re.findall(r'<input type="radio" name="(\w+)" id="[\w-]+" class="only-(\w+)">', page)
    assert {name for name, _ in inputs} == {"controls", "findings", "tasks"}
    assert {value for name, value in inputs if name == "tasks"} == set(report["counts"]["states"])
    for _, value in inputs:
        hidden = f".filtered > .only-{value}:checked ~ .item:not(.is-{value})"
        assert f"{hidden}, .filtered > .only-{value}:checked ~ .scroll .item:not(.is-{value})" in style
        assert re.search(rf'class="[^"]*item[^"]*is-{value}', page) or value in ("violated", "undetermined")
    shown = re.findall(r'<article class="\w+ item is-(\w+)"', page)
    assert shown == [each["severity"] for each in report["findings"]]


def test_what_a_party_wrote_cannot_become_markup():
    story = honest()
    attack = lambda node, text: text.replace(b"\n", b"<script>alert(1)</script>\n", 1)  # noqa: E731
    page = to_html(document(audit(story.case(spoil=attack))))
    assert "<script" not in page


def test_the_catalogue_page_is_what_the_docstrings_say():
    assert (DOCS / "checks.md").read_text("utf-8") == markdown(), "run: sealtrace audit checks --markdown"


def test_every_check_has_a_sentence_a_severity_and_a_need():
    assert len(catalogue()) >= 14
    for each in catalogue():
        assert re.fullmatch(r"(ST|EV|PR)-[A-Z]\d\d|PR-\d\d", each.rule)
        assert each.sentence.endswith(".")
        assert each.needs


def test_checks_are_listed_by_the_command():
    told = json.loads(CliRunner().invoke(app, ["checks", "--json"]).output)
    assert [row["rule"] for row in told] == [each.rule for each in catalogue()]


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["--contracts", "0x12"], "MalformedIdentifier"),
        (["--evidence", "nonsense"], "WrongArgument"),
        (["--evidence", f"{OWNERS[0]}=a", "--evidence", f"{OWNERS[0]}=b"], "WrongArgument"),
        (["--evidence", f"{OWNERS[0]}=a", "--evidence-token", f"{OWNERS[0]}=/none"], "TokenUnreadable"),
        (["--rule", "ST-Z99"], "UnknownRule"),
    ],
)
def test_a_wrong_option_is_an_error_and_no_result(tmp_path, arguments, name):
    fixed = ["run", "--rpc", "http://127.0.0.1:1", "--chain-id", "7", "--out", str(tmp_path), "--json"]
    result = CliRunner().invoke(app, [*fixed, "--contracts", DIRECTORY, *arguments])
    assert result.exit_code == 3
    assert json.loads(result.output)["error"] == name
