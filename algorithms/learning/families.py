"""What a model of each family says of a row."""

from collections.abc import Mapping
from typing import Any

UNLINKED = {"k-means": "cluster", "pca": "components"}


def kind_of_scores(about: Mapping[str, Any]) -> str:
    """What a model says of a row: ``probability``, ``number``, ``cluster`` or ``components``.

    Raises:
        ValueError: its family is not known.
    """
    family = about.get("family")
    if family in ("glm", "trees"):
        return "probability" if about.get("link") == "logit" else "number"
    if family not in UNLINKED:
        raise ValueError(f"the model's family {family!r} is none of glm, trees, {', '.join(UNLINKED)}")
    return UNLINKED[family]
