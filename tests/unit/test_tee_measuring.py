"""What an enclave without hardware says that it runs in: the installer's record, the same at every place."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import PathDistribution

import pytest

from sealtrace.node.engines.tee import measuring
from sealtrace.node.engines.tee.measuring import runtime_digest, runtime_document
from sealtrace.protocol.canonical import digest

BROUGHT = """some/__init__.py,sha256=aaaa,10
some/code.py,sha256=bbbb,20
"some/odd,name.py",sha256=cccc,30
some-1.0.dist-info/METADATA,sha256=dddd,40
"""
BY_THE_INSTALLER = """../../../bin/some,sha256=eeee,200
some/__pycache__/code.cpython-311.pyc,,
some-1.0.dist-info/INSTALLER,sha256=ffff,4
some-1.0.dist-info/REQUESTED,sha256=0000,0
some-1.0.dist-info/direct_url.json,sha256=1111,90
some-1.0.dist-info/RECORD,,
"""


def installed(folder, name="some", version="1.0", record=BROUGHT):
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    if record is not None:
        (info / "RECORD").write_text(record)
    return PathDistribution(info)


def packages(*distributions):
    return runtime_document(distributions)["packages"]


def test_a_runtime_has_one_digest_in_every_process():
    code = "from sealtrace.node.engines.tee.measuring import runtime_digest; print(runtime_digest())"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() == runtime_digest()


def test_the_digest_is_computed_once(monkeypatch):
    first = runtime_digest()
    monkeypatch.setattr(measuring, "distributions", pytest.fail)
    assert runtime_digest() == first


def test_the_installer_and_the_place_of_installation_change_nothing(tmp_path):
    bare = packages(installed(tmp_path / "a"))
    assert packages(installed(tmp_path / "b", record=BROUGHT + BY_THE_INSTALLER)) == bare
    shuffled = "".join(sorted(BROUGHT.splitlines(keepends=True), reverse=True))
    assert packages(installed(tmp_path / "c", record=shuffled)) == bare


@pytest.mark.parametrize("line", BROUGHT.splitlines(keepends=True))
def test_every_file_that_a_distribution_brought_counts(tmp_path, line):
    whole = packages(installed(tmp_path / "a"))
    assert packages(installed(tmp_path / "b", record=BROUGHT.replace(line, ""))) != whole
    other = line.replace("sha256=", "sha256=z")
    assert packages(installed(tmp_path / "c", record=BROUGHT.replace(line, other))) != whole


def test_the_version_and_the_set_of_distributions_count(tmp_path):
    one, other = installed(tmp_path / "a"), installed(tmp_path / "b", name="other")
    assert packages(one) != packages(installed(tmp_path / "c", version="1.1"))
    assert set(packages(one, other)) == {"some", "other"}
    assert digest(runtime_document([one, other])) == digest(runtime_document([other, one]))


def test_a_distribution_has_one_name_and_the_first_of_two_is_the_one_imported(tmp_path):
    first = installed(tmp_path / "a", name="Some_Thing")
    second = installed(tmp_path / "b", name="some.thing", version="2.0")
    assert packages(first, second)["some-thing"]["version"] == "1.0"


def test_a_distribution_without_a_record_is_named_without_one(tmp_path):
    assert packages(installed(tmp_path, record=None)) == {"some": {"version": "1.0", "record": None}}


def test_our_own_sources_are_hashed_themselves(tmp_path, monkeypatch):
    ours = installed(tmp_path / "a", name="sealtrace")
    assert packages(ours)["sealtrace"]["record"] is None
    before = runtime_document([])["sources"]
    patterns = [(module, "*.py") for module, _ in measuring._SOURCES]
    monkeypatch.setattr(measuring, "_SOURCES", patterns)
    assert runtime_document([])["sources"] != before


def test_a_changed_source_changes_the_digest(tmp_path, monkeypatch):
    class Module:
        __name__, __path__ = "ours", (str(tmp_path),)

    monkeypatch.setattr(measuring, "_SOURCES", [(Module, "**/*.py")])
    (tmp_path / "deeper").mkdir()
    found = set()
    for path, text in (("one.py", "1"), ("one.py", "2"), ("deeper/two.py", "2"), ("notes.md", "no source")):
        (tmp_path / path).write_text(text)
        found.add(runtime_document([])["sources"])
    assert len(found) == 3
