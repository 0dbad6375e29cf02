"""A bundle of an audit with an enclave in it: its statements are held to the logs and to the chain."""

from __future__ import annotations

import io
import json
import tarfile

import pytest
from auditor_story import Story
from bundle_story import packed
from enclave_story import EnclaveTask

from sealtrace.auditor.bundle import tar_header
from sealtrace.auditor.statements import MAX_STATEMENT_BYTES, MAX_STATEMENTS
from sealtrace.auditor.verify_report import MAX_MEMBERS, MAX_STATEMENT, Unreadable, over, verify
from sealtrace.protocol.canonical import canonical, sha256
from sealtrace.protocol.receipt import result_digest


@pytest.fixture(scope="module")
def enclave():
    story = Story().found(members=2)
    task = EnclaveTask(story, "enclave")
    task.carry_out()
    return task


@pytest.fixture
def bundle(enclave, tmp_path):
    path = tmp_path / "bundle.tar"
    anchor = packed(enclave.story, path, stated=enclave.kept)
    return path.read_bytes(), anchor


def with_member(text, change):
    """The archive with the statements changed, and a manifest that fits it."""
    with tarfile.open(fileobj=io.BytesIO(text)) as archive:
        members = [(each.name, archive.extractfile(each).read()) for each in archive]
    manifest, rest = json.loads(members[0][1]), members[1:]
    rest = [each for each in rest if not each[0].startswith("statements/")] + change(
        [each for each in rest if each[0].startswith("statements/")]
    )
    manifest["members"] = [{"name": n, "sha256": sha256(t), "size": len(t)} for n, t in rest]
    made = b""
    for name, content in [("manifest.json", canonical(manifest)), *rest]:
        made += tar_header(name, len(content)) + content + bytes(-len(content) % 512)
    return made + bytes(1024)


def told(text, anchor):
    judged = verify(io.BytesIO(text), anchor)
    return judged.code(), judged.told()


def test_statements_are_packed_and_the_last_one_is_held_to_the_result_on_the_chain(enclave, bundle):
    text, anchor = bundle
    with tarfile.open(fileobj=io.BytesIO(text)) as archive:
        names = archive.getnames()
    assert names[-2:] == [f"statements/{digest}.json" for digest in sorted(enclave.kept)]
    code, said = told(text, anchor)
    assert code == 0
    assert "Last statements of enclaves: 1 are those that results on the chain are over." in said
    assert "2 statements of enclaves: whether their evidence is genuine" in said


def test_an_altered_statement_contradicts_though_the_manifest_fits_it(bundle):
    text, anchor = bundle
    altered = with_member(text, lambda found: [(found[0][0], found[0][1] + b" "), found[1]])
    code, said = told(altered, anchor)
    assert code == 1
    assert "a statement's name is its SHA-256" in said


def test_a_statement_that_no_log_names_contradicts(bundle):
    text, anchor = bundle
    strange = (f"statements/{sha256(b'{}')}.json", b"{}")
    code, said = told(with_member(text, lambda found: [*found, strange]), anchor)
    assert code == 1
    assert "no log names this statement" in said


def test_a_statement_given_twice_contradicts(bundle):
    text, anchor = bundle
    assert told(with_member(text, lambda found: [*found, found[0]]), anchor)[0] == 1


def test_a_statement_beyond_any_size_is_refused(bundle):
    text, anchor = bundle
    large = (f"statements/{sha256(b'')}.json", bytes(MAX_STATEMENT + 1))
    with pytest.raises(Unreadable):
        verify(io.BytesIO(with_member(text, lambda found: [*found, large])), anchor)


def test_the_program_knows_the_result_as_parties_report_it(enclave):
    outputs, final = enclave.outputs(), enclave.final.digest
    assert over(outputs, final) == result_digest(outputs, final)


def test_no_more_statements_are_packed_than_the_program_reads():
    assert MAX_STATEMENT_BYTES <= MAX_STATEMENT
    assert MAX_STATEMENTS < MAX_MEMBERS
