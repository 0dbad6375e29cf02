"""The report as a workbook, a ledger, assessment results and pages, without a chain."""

import hashlib
import json
import re
import time
import zipfile
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from xml.etree import ElementTree

import pyarrow.parquet
import pypdf
import pytest
from asn1crypto import x509 as asn1
from auditor_story import OWNERS, honest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, pkcs12
from cryptography.x509.oid import NameOID
from fastapi.testclient import TestClient
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign.validation import validate_pdf_signature
from pyhanko_certvalidator import ValidationContext
from trestle.oscal.assessment_results import Model
from typer.testing import CliRunner

from sealtrace.auditor import carrying
from sealtrace.auditor.api import create_app
from sealtrace.auditor.audit import audit
from sealtrace.auditor.cli import app
from sealtrace.auditor.exports import formats as forms
from sealtrace.auditor.exports.formats import (
    Format,
    FormatUnavailable,
    NothingToSign,
    UnknownFormat,
    formats,
    write,
)
from sealtrace.auditor.exports.oscal import markup, to_oscal
from sealtrace.auditor.exports.parquet import columns, to_parquet
from sealtrace.auditor.exports.pdf import to_pdf, visible
from sealtrace.auditor.exports.signing import CannotSign, Signing, sign
from sealtrace.auditor.exports.xlsx import MAX_CELL, Sheet, _parts, fitting, to_xlsx
from sealtrace.auditor.jobs import OPEN
from sealtrace.auditor.report import document, to_json
from sealtrace.auditor.service import opened
from sealtrace.auditor.settings import ChainTable, SigningTable, create, read_settings
from sealtrace.auditor.times import LAST, moment, utc
from sealtrace.contracts import abi

DOCS = Path(__file__).parents[2] / "docs"

HOSTILE = [
    '=HYPERLINK("http://evil.example","open")',
    "+1+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(1)",
    "\tleading tab",
    "{=1+1}",
    "http://evil.example",
    "bell \x07 null \x00 escape \x1b[31m",
    "_x0041_ is no A",
    "right\u202eto left\u202c \u200f",
    "<w:p/>&amp;<script>alert(1)</script>]]>",
    '](https://evil.example) `#panic()` #eval("1") $x$ \\',
    "two\nlines\r\nand a third",
    "汉字 and 𝒜",
    "\ufffe\uffff",
    " ends with a space ",
]


def spoilt(node, text):
    return text.replace(b'"removed":4', b'"removed":5') if node == OWNERS[0] else text


@pytest.fixture(scope="module")
def done():
    return audit(honest().case(spoil=spoilt, nodes=OWNERS[:2]))


@pytest.fixture
def report(done):
    return document(done)


@pytest.fixture
def hostile(report):
    """The report with a finding, an undetermined verdict and a task's event for each hostile text."""
    (finding,), task = report["findings"], report["tasks"][0]
    report["findings"] = [
        finding
        | {"id": f"0x{n:064x}", "explanation": text, "expected": text, "observed": text, "object": text}
        for n, text in enumerate(HOSTILE)
    ]
    report["controls"][0]["missing"] = [{"what": text, "count": 1} for text in HOSTILE]
    task["events"] = [task["events"][0] | {"says": text} for text in HOSTILE]
    report["not_checked"] += HOSTILE
    return report


@pytest.mark.parametrize("form", list(Format))
def test_the_same_history_gives_the_same_bytes_in_every_format(tmp_path, form):
    made = []
    for name in "ab":
        again = audit(honest().case(spoil=spoilt, nodes=OWNERS[:2]))
        paths = write(document(again), again.case.events, tmp_path / name, [form])
        made.append(paths[form].read_bytes())
    assert made[0] == made[1]
    assert made[0]


# the workbook

MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


def unescaped(text):
    """A text as Excel reads it (ECMA-376 part 1, 22.9.2.19)."""
    return re.sub("_x([0-9A-Fa-f]{4})_", lambda found: chr(int(found[1], 16)), text)


def workbook(content):
    """Each sheet's rows of values, and all elements that are in the sheets."""
    book = zipfile.ZipFile(BytesIO(content))
    strings = [
        unescaped("".join(part.text or "" for part in each.iter(f"{MAIN}t")))
        for each in ElementTree.fromstring(book.read("xl/sharedStrings.xml"))
    ]
    names = [
        each.get("name") for each in ElementTree.fromstring(book.read("xl/workbook.xml")).iter(f"{MAIN}sheet")
    ]
    sheets, kinds = {}, set()
    for number, name in enumerate(names, 1):
        page = ElementTree.fromstring(book.read(f"xl/worksheets/sheet{number}.xml"))
        kinds |= {each.tag.removeprefix(MAIN) for each in page.iter()}
        sheets[name] = [cells(row, strings) for row in page.iter(f"{MAIN}row")]
    return sheets, kinds


def cells(row, strings):
    """The values of a row by their column's letter."""
    told = {}
    for cell in row:
        found = cell.find(f"{MAIN}v")
        if found is not None:
            text = cell.get("t") == "s"
            told[cell.get("r").rstrip("0123456789")] = strings[int(found.text)] if text else float(found.text)
    return told


def column(rows, name):
    (place,) = [letter for letter, found in rows[0].items() if found == name]
    return [row.get(place, "") for row in rows[1:]]


def test_the_pages_have_their_sections_in_order(report):
    outline = pypdf.PdfReader(BytesIO(to_pdf(report))).outline
    assert [each.title for each in outline if not isinstance(each, list)] == [
        "Proof level 2 of 3 was reached",
        "Controls",
        "Findings",
        "Tasks",
        "What was disclosed",
        "What could not be determined",
        "What was not checked",
        "Annex",
    ]


def test_a_workbook_has_what_the_report_has(report):
    sheets, _ = workbook(to_xlsx(report))
    assert list(sheets) == [
        "Summary", "Controls", "Findings", "Tasks", "Task events", "Undetermined", "Not checked",
    ]  # fmt: skip
    assert {"A": "in one sentence", "B": report["verdict"]["sentence"]} in sheets["Summary"]
    for name in ("rule", "expected", "observed", "recheck", "block"):
        assert column(sheets["Findings"], name) == [f[name] for f in report["findings"]]
    for name in ("rule", "sentence", "satisfied", "violated", "undetermined"):
        assert column(sheets["Controls"], name) == [c[name] for c in report["controls"]]
    assert sum(column(sheets["Undetermined"], "count")) == sum(c["undetermined"] for c in report["controls"])
    assert column(sheets["Tasks"], "id") == [t["id"] for t in report["tasks"]]
    assert column(sheets["Task events"], "says") == [e["says"] for t in report["tasks"] for e in t["events"]]
    assert column(sheets["Not checked"], "what") == report["not_checked"]


def test_what_a_party_wrote_is_never_a_formula_or_a_link(hostile):
    sheets, kinds = workbook(to_xlsx(hostile))
    assert column(sheets["Findings"], "observed") == HOSTILE
    assert column(sheets["Undetermined"], "what")[: len(HOSTILE)] == HOSTILE
    assert column(sheets["Task events"], "says")[: len(HOSTILE)] == HOSTILE
    assert not kinds & {"f", "hyperlink"}


def test_headers_stay_in_sight_and_every_sheet_can_be_filtered(report):
    book = zipfile.ZipFile(BytesIO(to_xlsx(report)))
    for number in range(1, 8):
        page = book.read(f"xl/worksheets/sheet{number}.xml").decode()
        assert 'state="frozen"' in page
        assert "<autoFilter" in page
    assert "2023-11-14" in book.read("docProps/core.xml").decode()


def test_a_text_too_long_for_a_cell_is_cut_and_says_so(report):
    report["findings"][0]["observed"] = "x" * 100_000
    (cell,) = column(workbook(to_xlsx(report))[0]["Findings"], "observed")
    assert len(cell) == MAX_CELL
    assert cell.endswith("(100000 characters, all of them in report.json)")
    assert fitting("x" * MAX_CELL) == "x" * MAX_CELL
    wide = fitting("𝒜" * MAX_CELL)
    assert len(wide.encode("utf-16-le")) // 2 <= MAX_CELL


def test_a_number_that_a_cell_would_round_is_text(report):
    report["findings"][0]["block"] = 2**53 + 1
    assert column(workbook(to_xlsx(report))[0]["Findings"], "block") == [str(2**53 + 1)]


def test_a_table_too_long_for_a_sheet_goes_on_in_the_next(monkeypatch):
    monkeypatch.setattr("sealtrace.auditor.exports.xlsx.MAX_ROWS", 2)
    parts = list(_parts(Sheet("Tasks", (("id", 9),), [[n] for n in range(5)])))
    assert [part.name for part in parts] == ["Tasks", "Tasks 2", "Tasks 3"]
    assert [row for part in parts for row in part.rows] == [[n] for n in range(5)]


# the ledger


def ledger(report, events):
    return pyarrow.parquet.read_table(BytesIO(to_parquet(report, events)))


def test_the_ledger_has_every_event_with_its_place(done, report):
    table = ledger(report, done.case.events).to_pylist()
    assert len(table) == len(done.case.events) == report["scope"]["events"]
    for row, event in zip(table, done.case.events, strict=True):
        assert (row["block"], row["log_index"]) == (event.block.number, event.log_index)
        assert (row["block_hash"], row["transaction"]) == (event.block.hash, event.transaction)
        assert (row["contract"], row["event"]) == (event.contract, event.name)
        assert row["timestamp"] == event.block.timestamp
        assert row["time"] == datetime.fromtimestamp(event.block.timestamp, UTC)


def test_the_ledger_has_every_argument_in_a_column_of_its_type(done, report):
    table = ledger(report, done.case.events)
    for row, event in zip(table.to_pylist(), done.case.events, strict=True):
        told = {name: found for name, found in row.items() if found is not None}
        for name, expected in event.args.items():
            found = told.get(f"{name}_number", told.get(name))
            assert found == expected or found == str(expected), (event.name, name)
    kinds = {field.name: str(field.type) for field in table.schema}
    assert (kinds["time"], kinds["approvalRequired"], kinds["usesLeft"], kinds["party"]) == (
        "timestamp[ms, tz=UTC]", "bool", "uint32", "string",
    )  # fmt: skip


def test_the_columns_come_from_the_abi_and_each_is_there_once(done, report):
    names = [name for name, _ in columns()]
    assert len(set(names)) == len(names)
    for contract in abi.CONTRACTS:
        for event in abi.events(contract).values():
            for each in (*event.indexed, *event.data):
                assert {each.name, f"{each.name}_number"} & set(names)
    assert ledger(report, done.case.events).schema.names == names == ledger(report, ()).schema.names


def test_the_ledger_tells_what_lay_in_the_range_and_which_report_it_belongs_to(done, report):
    report["scope"]["first_block"] = 20
    table = ledger(report, done.case.events)
    assert [row["judged"] for row in table.to_pylist()] == [e.block.number >= 20 for e in done.case.events]
    told = {key.decode(): found.decode() for key, found in table.schema.metadata.items()}
    assert told["sealtrace.last_hash"] == report["scope"]["last_hash"]
    assert told["sealtrace.report_sha256"] == "0x" + hashlib.sha256(to_json(report)).hexdigest()


def test_a_long_ledger_is_written_in_parts(monkeypatch, done, report):
    whole = ledger(report, done.case.events).to_pylist()
    monkeypatch.setattr("sealtrace.auditor.exports.parquet.ROW_GROUP", 10)
    content = to_parquet(report, done.case.events)
    assert pyarrow.parquet.ParquetFile(BytesIO(content)).num_row_groups == 7
    assert pyarrow.parquet.read_table(BytesIO(content)).to_pylist() == whole


# assessment results


def results(report):
    """The results, which the model has accepted."""
    content = json.loads(to_oscal(report))
    Model.model_validate(content)
    return content["assessment-results"]["results"][0]


def plain(text):
    return re.sub(r"\\(.)", r"\1", text)


def properties(thing):
    return {each["name"]: each["value"] for each in thing.get("props", ())}


def test_every_finding_is_a_finding_that_is_not_satisfied(report):
    found = results(report)
    seen = {each["uuid"]: each for each in found["observations"]}
    failed = [each for each in found["findings"] if each["target"]["status"]["state"] == "not-satisfied"]
    assert [plain(each["description"]) for each in failed] == [f["explanation"] for f in report["findings"]]
    for each, finding in zip(failed, report["findings"], strict=True):
        assert each["target"]["target-id"] == finding["rule"] + "_obj"
        related = [seen[to["observation-uuid"]] for to in each["related-observations"]]
        told = properties(related[1])
        assert (told["id"], told["block"], told["severity"]) == (
            finding["id"], str(finding["block"]), finding["severity"],
        )  # fmt: skip
        assert f"Observed: {finding['observed']}" in plain(related[1]["remarks"])


def test_what_could_not_be_determined_is_never_a_pass(report):
    found = results(report)
    passed = {
        each["target"]["target-id"]
        for each in found["findings"]
        if each["target"]["status"]["state"] == "satisfied"
    }
    unsure = {c["rule"] + "_obj" for c in report["controls"] if c["undetermined"] or c["violated"]}
    idle = {c["rule"] + "_obj" for c in report["controls"] if not c["satisfied"]}
    assert unsure
    assert not passed & (unsure | idle)
    related = {to["observation-uuid"] for each in found["findings"] for to in each["related-observations"]}
    told = [each for each in found["observations"] if each["types"] == ["undetermined"]]
    assert len(told) == sum(len(c["missing"]) for c in report["controls"])
    assert not related & {each["uuid"] for each in told}


def test_every_check_is_a_reviewed_control(report):
    (selection,) = results(report)["reviewed-controls"]["control-selections"]
    assert [each["control-id"] for each in selection["include-controls"]] == [
        c["rule"] for c in report["controls"]
    ]


def test_hostile_texts_stay_texts_in_the_assessment_results(hostile):
    found = results(hostile)
    failed = [each for each in found["findings"] if each["target"]["status"]["state"] == "not-satisfied"]
    assert [plain(each["description"]) for each in failed] == HOSTILE
    assert markup("[a](https://evil.example) <b>") == r"\[a\](https://evil.example) \<b\>"


def test_a_report_without_findings_is_valid_too():
    found = results(document(audit(honest().case())))
    assert {each["target"]["status"]["state"] for each in found["findings"]} == {"satisfied"}
    assert "local-definitions" not in found


# pages


def pages(content):
    reader = pypdf.PdfReader(BytesIO(content))
    return reader, " ".join(" ".join(page.extract_text() for page in reader.pages).split())


def test_the_pages_are_marked_as_archival_and_hold_the_report(report):
    reader, text = pages(to_pdf(report))
    marks = reader.trailer["/Root"]["/Metadata"].get_data().decode()
    assert "<pdfaid:part>3</pdfaid:part>" in marks
    assert "<pdfaid:conformance>B</pdfaid:conformance>" in marks
    assert reader.attachments["report.json"] == [to_json(report)]
    assert report["verdict"]["sentence"] in text
    assert report["scope"]["last_hash"] in text
    for each in report["findings"]:
        assert each["id"] in text
        assert each["explanation"].split(" ")[0] in text
    assert all(control["rule"] in text for control in report["controls"])


def test_hostile_texts_are_shown_and_change_nothing_on_the_page(hostile):
    hostile["findings"][0]["observed"] = "long " + "x" * 50_000
    reader, text = pages(to_pdf(hostile))
    assert reader.attachments["report.json"] == [to_json(hostile)]
    assert '=HYPERLINK("http://evil.example","open")' in text
    assert "right\\u{202e}to left\\u{202c}" in text
    assert '#eval("1")' in text
    assert not re.search(r"[\u202e\x07\x00\u200b]", text)
    assert "(50005 characters in report.json)" in text
    assert not [link for page in reader.pages for link in page.get("/Annots") or ()]


def test_a_character_that_a_font_may_lack_is_shown_by_its_number():
    assert visible({"a": ["汉", "é", "\x07", "\u202e", "\U0001f600"]}) == {
        "a": ["\\u{6c49}", "é", "\\u{7}", "\\u{202e}", "\\u{1f600}"]
    }


def test_a_chain_that_claims_an_absurd_time_does_not_stop_the_report(tmp_path, done, report):
    report["scope"]["time"] = report["tasks"][0]["deadline"] = 2**48 - 1
    for path in write(report, done.case.events, tmp_path, list(Format)).values():
        assert path.stat().st_size
    assert utc(2**48 - 1) == f"{2**48 - 1} s after 1970"
    assert moment(LAST + 1) == moment(LAST)


def test_a_report_too_long_for_pages_says_what_is_in_the_attachment_alone(monkeypatch, report):
    monkeypatch.setattr("sealtrace.auditor.exports.pdf.MAX_ITEMS", 2)
    report["findings"] *= 5
    _, text = pages(to_pdf(report))
    told = [len(report[name]) - 2 for name in ("findings", "not_checked", "tasks")]
    assert [f"And {number} more, in the attached report.json." in text for number in told] == [True] * 3
    assert text.count(report["findings"][0]["id"]) == 2


# which formats


def test_formats_are_named_in_a_list():
    assert formats("pdf, html,pdf") == (Format.HTML, Format.PDF)
    with pytest.raises(UnknownFormat, match="docx: choose among html, json, xlsx, parquet, oscal, pdf"):
        formats("html,docx")
    with pytest.raises(UnknownFormat):
        formats(",")


@pytest.mark.parametrize("form", ["xlsx", "parquet", "pdf"])
def test_a_format_whose_library_is_missing_names_the_extra_before_anything_is_written(
    tmp_path, monkeypatch, done, report, form
):
    monkeypatch.setattr(forms, "find_spec", lambda name: None)
    with pytest.raises(FormatUnavailable, match=r"sealtrace\[auditor\]"):
        write(report, done.case.events, tmp_path / "out", [Format.HTML, Format(form)])
    assert not (tmp_path / "out").exists()
    assert write(report, done.case.events, tmp_path / "out")[Format.HTML].exists()


@pytest.mark.parametrize(("wanted", "error"), [("docx", "UnknownFormat"), ("pdf", "FormatUnavailable")])
def test_the_command_refuses_a_format_before_it_asks_the_chain(tmp_path, monkeypatch, wanted, error):
    monkeypatch.setattr(forms, "find_spec", lambda name: None)
    fixed = ["run", "--rpc", "http://127.0.0.1:1", "--chain-id", "7", "--contracts", "0x" + "d0" * 20]
    result = CliRunner().invoke(app, [*fixed, "--out", str(tmp_path / "out"), "--json", "--format", wanted])
    assert (result.exit_code, json.loads(result.output)["error"]) == (3, error)


# signatures


def certificate(folder):
    """A self-signed certificate, and the files that hold its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "The regulator")])
    usage = dict.fromkeys(
        (
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "key_cert_sign",
            "crl_sign",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(x509.KeyUsage(digital_signature=True, content_commitment=True, **usage), critical=True)
        .sign(key, hashes.SHA256())
    )
    sealed = pkcs12.serialize_key_and_certificates(
        b"auditor", key, made, None, BestAvailableEncryption(b"secret words")
    )
    signing = Signing(folder / "auditor.p12", folder / "passphrase")
    signing.pkcs12.write_bytes(sealed)
    signing.passphrase_file.write_bytes(b"secret words\n")
    return signing, made


def judged(content, trusted):
    """What a checker who trusts ``trusted`` says of the one signature."""
    (found,) = PdfFileReader(BytesIO(content)).embedded_signatures
    root = asn1.Certificate.load(trusted.public_bytes(Encoding.DER))
    return validate_pdf_signature(found, ValidationContext(trust_roots=[root], allow_fetching=False))


def test_a_signed_report_is_the_unsigned_one_and_a_signature(tmp_path, done, report):
    signing, made = certificate(tmp_path)
    paths = write(report, done.case.events, tmp_path / "out", [Format.PDF], signing)
    content = paths[Format.PDF].read_bytes()
    assert content.startswith(to_pdf(report))
    status = judged(content, made)
    assert status.bottom_line
    assert status.signer_reported_dt
    assert pages(content)[0].attachments["report.json"] == [to_json(report)]
    (tmp_path / "other").mkdir()
    assert not judged(content, certificate(tmp_path / "other")[1]).bottom_line


def test_one_changed_byte_breaks_the_signature(tmp_path, done, report):
    signing, made = certificate(tmp_path)
    content = bytearray(sign(to_pdf(report), signing))
    place = content.index(b"Sealtrace audit report")
    content[place] ^= 1
    assert not judged(bytes(content), made).intact


def test_a_key_that_cannot_be_used_is_named_before_the_audit(tmp_path, done, report):
    signing, made = certificate(tmp_path)
    signing.passphrase_file.write_text("other words")
    with pytest.raises(CannotSign, match=r"auditor\.p12: no PKCS#12 file"):
        forms.available([Format.PDF], signing)
    keyless = pkcs12.serialize_key_and_certificates(
        None, None, made, None, BestAvailableEncryption(b"other words")
    )
    signing.pkcs12.write_bytes(keyless)
    with pytest.raises(CannotSign, match="no key with its certificate"):
        forms.available([Format.PDF], signing)
    signing.pkcs12.write_bytes(b"no key")
    with pytest.raises(CannotSign, match=r"auditor\.p12"):
        forms.available([Format.PDF], signing)
    signing.passphrase_file.unlink()
    with pytest.raises(CannotSign, match="passphrase: No such file"):
        write(report, done.case.events, tmp_path / "out", [Format.PDF], signing)
    assert not (tmp_path / "out").exists()


def test_a_signature_without_pages_is_refused(tmp_path):
    with pytest.raises(NothingToSign, match="add pdf"):
        forms.available([Format.HTML], certificate(tmp_path)[0])


def test_the_command_takes_the_certificate_from_the_auditors_settings(tmp_path):
    folder = tmp_path / "auditor"
    create(folder, ChainTable(rpc_url="http://127.0.0.1:1", chain_id=7, directory="0x" + "d0" * 20))
    chain = ["--rpc", "http://127.0.0.1:1", "--chain-id", "7", "--contracts", "0x" + "d0" * 20]
    command = [
        "run",
        *chain,
        "--out",
        str(tmp_path / "out"),
        "--format",
        "pdf",
        "--sign",
        str(folder),
        "--json",
    ]
    told = json.loads(CliRunner().invoke(app, command).output)
    assert (told["error"], "[signing]" in told["message"]) == ("CannotSign", True)
    signing, _ = certificate(tmp_path)
    with (folder / "auditor.toml").open("a") as file:
        file.write(f'[signing]\npkcs12 = "{signing.pkcs12}"\npassphrase_file = "{signing.passphrase_file}"\n')
    assert read_settings(folder).signing.signing() == signing
    assert json.loads(CliRunner().invoke(app, command).output)["error"] == "ChainUnreachable"


# the service


@pytest.fixture
def service(tmp_path, done, monkeypatch):
    """A regulator's client, the certificate, and the audits behind the service."""
    folder = tmp_path / "auditor"
    chain = ChainTable(rpc_url="http://127.0.0.1:1", chain_id=7, directory="0x" + "d0" * 20)
    token = create(folder, chain)
    signing, _ = certificate(tmp_path)
    table = SigningTable(pkcs12=str(signing.pkcs12), passphrase_file=str(signing.passphrase_file))
    settings = read_settings(folder).model_copy(update={"signing": table})
    monkeypatch.setattr(carrying, "read_settings", lambda root: settings)
    monkeypatch.setattr(carrying, "examine", lambda inquiry, material, told: done)
    run = lambda audit, stop: carrying.carry_out(folder, audit.name)  # noqa: E731
    with opened(folder, settings, run) as made, TestClient(create_app(made)) as client:
        client.headers["Authorization"] = f"Bearer {token}"
        yield client, signing, made.jobs


def test_a_regulator_fetches_the_formats_that_were_asked_for_and_no_other(service, tmp_path):
    client, _, jobs = service
    wanted = ["xlsx", "parquet", "oscal", "pdf"]
    taken = client.post("/v1/audits", json={"formats": wanted}).json()
    assert taken["formats"] == wanted
    while jobs.one(taken["id"])["state"] in OPEN:
        time.sleep(0.01)
    path = f"/v1/audits/{taken['id']}"
    for form in map(Format, wanted):
        answer = client.get(f"{path}/{form.file}")
        assert (answer.status_code, answer.headers["content-type"]) == (200, form.media_type)
    content = client.get(f"{path}/report.pdf").content
    assert len(PdfFileReader(BytesIO(content)).embedded_signatures) == 1
    assert client.get(f"{path}/report.html").status_code == 404


@pytest.mark.parametrize("wanted", [["docx"], [], "pdf", [1]])
def test_the_service_refuses_formats_that_are_none(service, wanted):
    assert service[0].post("/v1/audits", json={"formats": wanted}).status_code == 422


def test_the_service_says_what_it_lacks_before_it_takes_an_audit(service, monkeypatch):
    client, signing, jobs = service
    signing.passphrase_file.unlink()
    assert client.post("/v1/audits", json={"formats": ["pdf"]}).json()["title"] == "CannotSign"
    monkeypatch.setattr(forms, "find_spec", lambda name: None)
    answer = client.post("/v1/audits", json={"formats": ["parquet"]})
    assert (answer.status_code, answer.json()["title"]) == (501, "FormatUnavailable")
    assert jobs.all() == []
    assert client.post("/v1/audits", json={}).status_code == 202


# docs/reports.md


def snippets():
    return re.findall(r"```python\n(.*?)```", (DOCS / "reports.md").read_text("utf-8"), re.DOTALL)


def test_what_the_page_tells_to_run_runs(tmp_path, monkeypatch, capsys, done, report):
    signing, made = certificate(tmp_path)
    write(report, done.case.events, tmp_path / "report", [Format.PARQUET, Format.PDF], signing)
    (tmp_path / "auditor.pem").write_bytes(made.public_bytes(Encoding.PEM))
    monkeypatch.chdir(tmp_path)
    for each in snippets():
        exec(compile(each, "docs/reports.md", "exec"), {})
    assert capsys.readouterr().out.split() == ["1", "True"]


def test_the_page_names_every_format_and_its_file():
    page = (DOCS / "reports.md").read_text("utf-8")
    assert all(f"| `{each}` | `{each.file}` |" in page for each in Format)
