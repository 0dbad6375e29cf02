"""Apply a model to features, both of earlier steps; the requester gets the scores only if the task says so.

``declared`` reads what is asked for and holds model and features to each other.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from . import declared

Params = Mapping[str, Any]
Array = tuple[str, str, tuple[int, ...], str]


def check(params: Params, inputs: Sequence[str]) -> None:
    """Refuse parameters that make no sense, by ``ValueError``."""
    declared.read(params)


def takes(params: Params) -> dict[str, str]:
    """Return the kinds of what is taken of earlier steps."""
    return {"features": "features", "model": "model"}


def columns(params: Params, name: str) -> list[tuple[str, str]]:
    """Return nothing: no table is read."""
    return []


def rows(params: Params, held: Mapping[str, int]) -> int:
    """Return how many rows get a score; refuse a model that does not fit the features."""
    return declared.read(params).scored(params).count


def arithmetic(params: Params, rows: int) -> tuple[str, int]:
    """Return the field and fraction bits of all joint models."""
    return "FM128", 40


def arrays(params: Params, held: Mapping[str, int]) -> list[Array]:
    """Return nothing: owners share nothing in this step."""
    return []


def prepare(params: Params, name: str, table: Mapping[str, Any], held: Mapping[str, int]) -> dict[str, Any]:
    """Return nothing: owners share nothing in this step."""
    return {}


def program(params: Params, held: Mapping[str, int]) -> Callable[..., Any]:
    """Return the joint function of the features' arrays and the model's."""
    from .joint import joint  # only compute parties need jax: opening a result does not

    plan = declared.read(params)
    return joint(plan, plan.scored(params))


def outputs(params: Params) -> list[str]:
    """Return the names of what the requester may open."""
    return ["score"] if declared.read(params).reveal else []


def gives(params: Params, held: Mapping[str, int]) -> dict[str, Any]:
    """Return what is handed on: the scores, beside the targets and weights of the same rows."""
    return {"scores": declared.read(params).scored(params).scores()}


def finish(params: Params, rows: int, opened: Mapping[str, Any]) -> dict[str, Any]:
    """Name the scores; they were rounded before they were opened."""
    plan = declared.read(params)
    scored = plan.scored(params)
    found: dict[str, Any] = {
        "rows": rows,
        "of": scored.of,
        "revealed": "scores" if plan.reveal else "nothing",
    }
    if plan.reveal:
        found["order"] = f"the {plan.rows} rows in the order of the alignment"
        found["scores"] = (opened["score"] / 10**plan.digits).tolist()
    return found
