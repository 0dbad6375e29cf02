"""Which ids all tables have: sets inside the enclave. No cryptography between owners is needed there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..enclave.joining import common_ids


def run(inputs: Any, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the outputs; see the manifest."""
    if set(params) - {"result"} or params.get("result", "count") not in ("count", "ids"):
        raise ValueError("result: count or ids")
    if len(inputs.tables) < 2:
        raise ValueError("an intersection is of two tables at least")
    found = common_ids(inputs.tables)
    if params.get("result") == "ids":
        return {"ids": found}
    return {"count": len(found) if len(found) >= inputs.min_group else None}
