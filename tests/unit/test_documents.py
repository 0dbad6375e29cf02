"""What the documents say of the code is what the code says."""

from __future__ import annotations

import pytest

from sealtrace.deploy.documents import DOCS, DOCUMENTS


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_drawn_from_the_code_is_up_to_date(name):
    assert (DOCS / name).read_text() == DOCUMENTS[name](), "run make docs"
