"""Selective disclosure: one dataset's commitment opened to the regulator, recorded, and held to the chain."""

import json
import stat
from dataclasses import replace

import pytest
from auditor_story import COMMITMENTS, DATASETS, OWNERS, Story, h, honest
from typer.testing import CliRunner

from sealtrace.auditor.audit import audit
from sealtrace.auditor.cli import app
from sealtrace.auditor.openings import MAX_OPENINGS, Opened, OpeningUnreadable, fits, read_file, read_openings
from sealtrace.auditor.report import document, to_html, to_json
from sealtrace.contracts.terms import dataset_id
from sealtrace.node.cli import app as node_app
from sealtrace.protocol.accounts import Account
from sealtrace.protocol.canonical import canonical
from sealtrace.protocol.evidence import Kind
from sealtrace.protocol.fingerprint import commitment, fingerprint, pieces_of
from sealtrace.protocol.identifiers import address
from sealtrace.protocol.opening import (
    MAX_BYTES,
    BadOpening,
    Opening,
    is_signed,
    read_opening,
    statement,
    statement_digest,
)
from sealtrace.protocol.statements import Statement, sign

KEY = b"\x07" * 32
OWNER = address(Account.from_key(KEY).address)
SALT, DATA = b"\x05" * 32, b"id,age\n1,30\n"
ROOT = fingerprint(pieces_of(DATA))
DATASET = dataset_id(OWNER, commitment(ROOT, SALT))
OPENING = Opening(dataset=DATASET, root=ROOT, salt="0x" + SALT.hex())
A, B, _ = OWNERS


def text(opening=OPENING, *, key=KEY, to="regulator", at=1_700_000_000):
    return canonical(sign(statement(opening, OWNER, to, at), key).model_dump(mode="json")) + b"\n"


@pytest.fixture
def opened(tmp_path):
    (tmp_path / "openings").mkdir()
    (tmp_path / "openings" / "one.json").write_bytes(text())
    return tmp_path / "openings"


# the statement


def test_an_opening_opens_what_the_chain_holds_and_names_to_whom():
    signed, opening = read_opening(text())
    assert opening.commitment == commitment(ROOT, SALT)
    assert (signed.statement.audience, signed.statement.speaker) == ("regulator", OWNER)
    assert is_signed(signed)


def test_a_salt_is_not_shown_by_accident():
    assert SALT.hex() not in repr(OPENING)


def test_the_digest_that_the_log_holds_tells_neither_salt_nor_root():
    said = statement(OPENING, OWNER, "regulator", 1)
    assert statement_digest(said) not in (ROOT, "0x" + SALT.hex())
    assert statement_digest(said) != statement_digest(statement(OPENING, OWNER, "another", 1))


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        b" " * (MAX_BYTES + 1),
        canonical(
            sign(Statement(kind="other", speaker=OWNER, audience="x", at=1, body={}), KEY).model_dump(
                mode="json"
            )
        ),
        text().replace(b'"salt":"0x05', b'"salt":"0x'),
        text().replace(b'"root"', b'"rot"'),
    ],
)
def test_what_is_no_opening_is_refused(wrong, tmp_path):
    with pytest.raises(BadOpening):
        read_opening(wrong)
    (tmp_path / "a.json").write_bytes(wrong)
    with pytest.raises(OpeningUnreadable, match=r"a\.json"):
        read_openings(tmp_path)


# the files


def test_what_is_read_for_an_audit_holds_neither_salt_nor_root(opened):
    (found,) = read_openings(opened)
    assert (found.dataset, found.signed, found.to) == (DATASET, True, "regulator")
    assert found.commitment == commitment(ROOT, SALT)
    assert SALT.hex() not in repr(found)
    assert ROOT not in repr(found)


def test_an_opening_signed_by_another_key_is_read_and_said_to_be(tmp_path):
    (tmp_path / "a.json").write_bytes(text(key=b"\x08" * 32))
    assert not read_file(tmp_path / "a.json").signed
    signature = read_opening(text())[0].signature.encode()
    (tmp_path / "a.json").write_bytes(text().replace(signature, b"0x" + b"ff" * 65))
    assert not read_file(tmp_path / "a.json").signed
    (tmp_path / "a.json").write_bytes(text().replace(signature, b"0xff"))
    with pytest.raises(OpeningUnreadable):
        read_file(tmp_path / "a.json")


def test_a_folder_that_is_none_and_one_with_too_many_files_are_refused(tmp_path, monkeypatch):
    with pytest.raises(OpeningUnreadable, match="is no folder"):
        read_openings(tmp_path / "none")
    assert MAX_OPENINGS == 10_000
    monkeypatch.setattr("sealtrace.auditor.openings.MAX_OPENINGS", 1)
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_bytes(text())
    with pytest.raises(OpeningUnreadable, match="2 files"):
        read_openings(tmp_path)


def test_a_copy_of_the_data_is_held_to_the_opening(opened, tmp_path):
    (tmp_path / "same.csv").write_bytes(DATA)
    (tmp_path / "other.csv").write_bytes(DATA + b"2,31\n")
    assert fits(opened / "one.json", tmp_path / "same.csv")
    assert not fits(opened / "one.json", tmp_path / "other.csv")
    with pytest.raises(OpeningUnreadable):
        fits(opened / "one.json", tmp_path / "none.csv")


def test_the_command_says_who_opened_what_and_whether_the_data_fits(opened, tmp_path):
    (tmp_path / "same.csv").write_bytes(DATA)
    (tmp_path / "other.csv").write_bytes(b"x")
    one = str(opened / "one.json")
    told = CliRunner().invoke(app, ["opening", one, "--data", str(tmp_path / "same.csv"), "--json"])
    assert (told.exit_code, json.loads(told.output)["data_fits"]) == (0, True)
    assert SALT.hex() not in told.output
    assert CliRunner().invoke(app, ["opening", one]).exit_code == 0
    other = CliRunner().invoke(app, ["opening", one, "--data", str(tmp_path / "other.csv")])
    assert (other.exit_code, "data_fits   no" in other.output) == (1, True)
    broken = CliRunner().invoke(app, ["opening", str(tmp_path / "same.csv"), "--json"])
    assert (broken.exit_code, json.loads(broken.output)["error"]) == (3, "OpeningUnreadable")


# the check


def told_by(case, *openings):
    done = audit(replace(case, openings=openings))
    row = next(each for each in done.rows if each.check.rule == "EV-O01")
    return done, row


OPENED = Opened(DATASETS[A], A, True, "regulator", 1_700_000_020, COMMITMENTS[A], h("statement"))


def recorded():
    """A history in which A recorded the opening, and anchored later."""
    story = Story().found()
    body = {"dataset": DATASETS[A], "to": "regulator", "statement": OPENED.statement}
    story.record(A, Kind.DATASET_OPENED, body)
    story.complete()
    return story


def test_an_opening_that_is_the_owners_and_recorded_is_satisfied():
    done, row = told_by(recorded().case(), OPENED)
    assert (row.satisfied, row.violated, row.undetermined) == (1, 0, 0)
    assert done.findings == ()


@pytest.mark.parametrize(
    ("changes", "observed"),
    [
        ({"commitment": h("other")}, f"commitment {h('other')}"),
        ({"speaker": B}, f"one of {B}"),
        ({"signed": False}, "none that fits"),
        ({"dataset": h("nothing")}, f"one of {A}"),
    ],
)
def test_an_opening_that_does_not_fit_is_a_finding_with_a_command_to_look_again(changes, observed):
    done, _ = told_by(recorded().case(), replace(OPENED, **changes))
    (finding,) = done.findings
    assert (finding.rule, finding.observed, finding.evidence) == ("EV-O01", observed, OPENED.statement)
    assert "--openings OPENINGS" in finding.recheck


def test_an_opening_that_the_owner_did_not_record_is_a_finding_once_the_log_has_gone_on():
    story = Story().found()
    story.wait(600)
    story.complete()
    done, _ = told_by(story.case(), OPENED)
    (finding,) = done.findings
    assert finding.explanation == f"Node {A} opened a dataset and did not record it."
    late = replace(OPENED, at=story.block().timestamp)
    done, row = told_by(story.case(), late)
    assert (done.findings, row.undetermined) == ((), 1)


def test_an_opening_by_one_whose_log_is_not_there_cannot_be_told():
    _, row = told_by(honest().case(nodes=[B]), OPENED)
    assert [what for what, _ in row.missing] == [f"the log of {A} was not handed over"]


def test_the_report_names_openings_and_holds_no_salt_and_no_fingerprint(opened):
    report = document(audit(replace(recorded().case(), openings=(*read_openings(opened), OPENED))))
    told, page = to_json(report), to_html(report)
    assert [each["opened_to"] for each in report["annex"]["openings"]] == ["regulator"] * 2
    assert DATASET in page
    for secret in (SALT.hex(), ROOT):
        assert secret.encode() not in told
        assert secret not in page


# the node's command


def test_a_node_opens_no_dataset_over_a_file_that_is_there(tmp_path):
    (tmp_path / "out.json").write_text("mine")
    fixed = ["dataset", "open", DATASET, "--to", "regulator", "--dir", str(tmp_path)]
    refused = CliRunner().invoke(node_app, [*fixed, "--out", str(tmp_path / "out.json")])
    assert refused.exit_code == 2
    assert (tmp_path / "out.json").read_text() == "mine"
    for name in ("", "x" * 129):
        wrong = [
            "dataset",
            "open",
            DATASET,
            "--to",
            name,
            "--dir",
            str(tmp_path),
            "--out",
            str(tmp_path / "new"),
        ]
        assert CliRunner().invoke(node_app, wrong).exit_code == 2


def test_what_a_node_opens_is_for_its_reader_alone_and_fits(tmp_path, monkeypatch):
    class Operations:
        def open_dataset(self, dataset, to):
            return sign(statement(OPENING, OWNER, to, 5), KEY)

    monkeypatch.setattr("sealtrace.node.cli._operations", lambda directory: Operations())
    out = tmp_path / "for" / "regulator.json"
    fixed = ["dataset", "open", DATASET, "--to", "the regulator", "--out", str(out), "--json"]
    told = CliRunner().invoke(node_app, fixed)
    assert told.exit_code == 0, told.output
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    found = read_file(out)
    assert (found.to, found.signed, found.statement) == (
        "the regulator",
        True,
        json.loads(told.output)["statement"],
    )
    assert SALT.hex() not in told.output
