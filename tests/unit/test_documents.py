"""What the documents say of the code is what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from sealtrace.contracts.embedded.rpc import METHODS, NOT_HERE
from sealtrace.deploy import documents
from sealtrace.deploy.documents import DOCS, DOCUMENTS, FILES, Undescribed

ROOT = Path(__file__).resolve().parents[2]
EMBEDDED = DOCS / "embedded.md"
FOLDERS = (
    "protocol",
    "contracts",
    "algorithms",
    "node",
    "scheduler",
    "auditor",
    "requester",
    "deploy",
    "src/sealtrace",
)


def sources():
    written = [
        *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")),
        *(ROOT / "contracts" / "src").rglob("*.sol"),
        *DOCS.rglob("*.md"),
        *(ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md")),
    ]
    return [path for path in written if "node_modules" not in path.parts]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_drawn_from_the_code_is_up_to_date(name):
    assert (DOCS / name).read_text() == DOCUMENTS[name](), "run make docs"


def test_every_process_that_reads_settings_has_them_listed():
    listed = re.findall(r"^## (.*)$", (DOCS / "settings.md").read_text(), re.MULTILINE)
    assert listed == list(FILES)
    assert listed == ["node.toml", "scheduler.toml", "requester.toml", "auditor.toml"]


def test_every_method_of_the_embedded_chain_is_in_its_document():
    named = set(re.findall(r"`((?:web3|net|eth|debug|txpool|personal|sealtrace)_\w+)`", EMBEDDED.read_text()))
    assert named == {*METHODS, *NOT_HERE}


def test_a_setting_that_nobody_described_is_no_document(monkeypatch):
    class Section(BaseModel):
        model_config = ConfigDict(use_attribute_docstrings=True)

        known: int = 1
        """This one is described."""
        unknown: int = 2

    class Settings(BaseModel):
        section: Section = Section()

    monkeypatch.setattr(documents, "FILES", {"some.toml": Settings})
    with pytest.raises(Undescribed, match=r"section\.unknown"):
        documents.settings()


def test_an_endpoint_that_nobody_described_is_no_document(monkeypatch):
    router = APIRouter()
    router.get("/v1/secret")(lambda: None)
    monkeypatch.setattr(documents, "_services", lambda: iter([("node", router.routes)]))
    with pytest.raises(Undescribed, match="GET /v1/secret"):
        documents.api()


def test_an_error_that_nobody_described_is_no_document():
    with pytest.raises(Undescribed):
        documents._sentence(type("Unexplained", (ValueError,), {}))


def test_every_document_that_code_or_message_names_exists():
    named = {
        (path.relative_to(ROOT), name)
        for path in sources()
        for name in re.findall(r"docs/[\w/-]+\.md", path.read_text(encoding="utf-8"))
    }
    assert named
    assert [each for each in sorted(named) if not (ROOT / each[1]).is_file()] == []


def test_every_link_between_documents_leads_somewhere():
    links = [
        (path, link)
        for path in DOCS.rglob("*.md")
        for link in re.findall(r"\]\((?!https?://)([^)#\s]+)", path.read_text(encoding="utf-8"))
    ]
    assert [(path.name, link) for path, link in links if not (path.parent / link).exists()] == []
