"""Enclaves' statements as they are handed over: missing, altered, hostile."""

from __future__ import annotations

import json
import os

import httpx
import pytest
from enclave_fakes import begun, shown, tee_spec
from scheduler_fakes import h

from sealtrace.auditor import statements
from sealtrace.auditor.statements import (
    Api,
    Folder,
    StatementsUnreadable,
    collect,
    place_beside,
    wanted_by,
)
from sealtrace.protocol.attestation.statement import MAX_STATEMENT_BYTES
from sealtrace.protocol.canonical import sha256

STATED = shown(h(5), tee_spec(), begun(tee_spec()))
TEXT, NAME = STATED.document(), STATED.digest


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "statements"
    path.mkdir()
    return path


def why_refused(folder, wanted=NAME):
    found = collect([wanted], [Folder(folder)])
    assert not found.found
    return found.why_missing(wanted)


def test_a_statement_is_taken_by_its_digest_with_the_certificate_that_signed_it(folder):
    (folder / f"{NAME}.json").write_bytes(TEXT)
    (folder / "0xabc.der").write_bytes(b"a certificate")
    found = collect([NAME], [Folder(folder)])
    assert (found.found, found.refused) == ({NAME: STATED}, {})
    own = STATED.collateral
    assert found.certificates == {
        own.fingerprint: own.certificate,
        sha256(b"a certificate"): b"a certificate",
    }


def test_a_statement_that_is_not_there_was_not_handed_over(folder):
    assert why_refused(folder) == f"the statement {NAME} was not handed over"


@pytest.mark.parametrize("text", [b"", b"{}", TEXT[:-1], TEXT + b" ", TEXT.replace(b"release", b"final")])
def test_what_has_another_digest_is_refused(folder, text):
    (folder / f"{NAME}.json").write_bytes(text)
    assert "is given as bytes of the digest" in why_refused(folder)


@pytest.mark.parametrize("text", [b"", b"\xff", b"[" * 100_000, b'{"version":1,"version":2}', b"{}"])
def test_what_is_no_statement_is_refused_though_its_digest_is_named(folder, text):
    (folder / f"{sha256(text)}.json").write_bytes(text)
    assert why_refused(folder, sha256(text)).endswith("is none: malformed")


def test_a_file_of_endless_zeros_is_read_no_further_than_a_statement_may_be(folder):
    with (folder / f"{NAME}.json").open("wb") as file:
        file.truncate(10 << 30)
    assert f"more than {MAX_STATEMENT_BYTES} bytes" in why_refused(folder)


def test_a_link_a_pipe_and_a_folder_are_refused(folder):
    path = folder / f"{NAME}.json"
    path.symlink_to("/etc/hostname")
    assert "cannot be opened" in why_refused(folder)
    path.unlink()
    os.mkfifo(path)
    assert "no plain file" in why_refused(folder)
    path.unlink()
    path.mkdir()
    assert "cannot be opened" in why_refused(folder)


def test_what_one_place_refuses_another_may_have(folder, tmp_path):
    (folder / f"{NAME}.json").write_bytes(b"{}")
    other = tmp_path / "other"
    other.mkdir()
    (other / f"{NAME}.json").write_bytes(TEXT)
    assert collect([NAME], [Folder(folder), Folder(other)]).found == {NAME: STATED}


def test_all_statements_together_are_bounded(folder, monkeypatch):
    (folder / f"{NAME}.json").write_bytes(TEXT)
    monkeypatch.setattr(statements, "MAX_STATEMENTS_BYTES", MAX_STATEMENT_BYTES)
    later = "0x" + "f" * 64
    found = collect([NAME, later], [Folder(folder)])
    assert set(found.found) == {NAME}
    assert "audit fewer blocks" in found.why_missing(later)


def test_a_folder_that_is_none_is_said_to_be_none(tmp_path):
    with pytest.raises(StatementsUnreadable, match="export"):
        Folder(tmp_path / "none")


def test_nothing_is_asked_for_where_no_log_names_a_statement(folder):
    (folder / "0xabc.der").write_bytes(b"a certificate")
    assert wanted_by([]) == []
    assert collect([], [Folder(folder)]).certificates == {}


def test_statements_are_looked_for_beside_a_log(folder):
    (folder.parent / "evidence").mkdir()
    assert isinstance(place_beside(str(folder.parent / "evidence"), None), Folder)
    assert isinstance(place_beside("https://node.example/v1/evidence", "secret"), Api)
    assert place_beside("https://node.example/log.jsonl", None) is None
    assert place_beside(str(folder / "evidence"), None) is None


@pytest.fixture
def answered(monkeypatch):
    """What a node's API answers, by path; and what it was asked."""
    answers, asked = {}, []

    def answer(request):
        asked.append((request.url.path, request.headers.get("authorization")))
        return answers.get(request.url.path, httpx.Response(404))

    def stream(method, url, *, trust_env, **more):
        return httpx.Client(transport=httpx.MockTransport(answer)).stream(method, url, **more)

    monkeypatch.setattr(httpx, "stream", stream)
    return answers, asked


def from_api():
    return collect([NAME], [Api("https://node.example/v1/evidence", "secret")])


def test_a_statement_is_fetched_from_beside_the_evidence_with_the_same_token(answered):
    answers, asked = answered
    listed = json.dumps({"certificate": b"a certificate".hex(), "statements": []})
    answers["/v1/statements"] = httpx.Response(200, text=listed)
    answers[f"/v1/statements/{NAME}"] = httpx.Response(200, content=TEXT)
    found = from_api()
    assert found.found == {NAME: STATED}
    assert found.certificates[sha256(b"a certificate")] == b"a certificate"
    assert asked == [(f"/v1/statements/{NAME}", "Bearer secret"), ("/v1/statements", "Bearer secret")]


@pytest.mark.parametrize(
    "listed", ["", "[]", "{}", '{"certificate":7}', '{"certificate":"zz"}', "[" * 10_000]
)
def test_a_list_that_is_none_gives_no_certificate(answered, listed):
    answers, _ = answered
    answers["/v1/statements"] = httpx.Response(200, text=listed)
    assert from_api().certificates == {}


def test_a_node_that_refuses_or_sends_too_much_gives_no_statement(answered):
    answers, _ = answered
    assert from_api().why_missing(NAME) == f"the statement {NAME} was not handed over"
    answers[f"/v1/statements/{NAME}"] = httpx.Response(403)
    assert "answers 403" in from_api().why_missing(NAME)
    answers[f"/v1/statements/{NAME}"] = httpx.Response(200, content=bytes(MAX_STATEMENT_BYTES + 2))
    assert f"more than {MAX_STATEMENT_BYTES} bytes" in from_api().why_missing(NAME)


def test_a_node_that_does_not_answer_in_time_gives_no_statement(answered, monkeypatch):
    monkeypatch.setattr(statements, "FETCH_TOTAL_SECONDS", -1.0)
    assert "could not be fetched within" in from_api().why_missing(NAME)


def test_a_node_that_breaks_off_gives_no_statement(monkeypatch):
    def stream(method, url, **more):
        raise httpx.ConnectError("gone")

    monkeypatch.setattr(httpx, "stream", stream)
    assert "could not be fetched (ConnectError)" in from_api().why_missing(NAME)
