"""What is wrong with a document, in one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def first_fault(faults: Sequence[Mapping[str, Any]], whole: str = "document", *under: object) -> str:
    """The first of the ``faults`` that a model found: its place, then what is wrong there.

    ``under`` is the place of what the model was given; where there is no place at all, ``whole`` names it.
    """
    place = ".".join(map(str, (*under, *faults[0]["loc"]))) or whole
    return f"{place}: {faults[0]['msg']}"
