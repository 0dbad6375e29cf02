"""Measure scores of an earlier step against the targets that came with them.

``declared`` reads what is asked for, ``joint`` runs on shares, and ``finish`` divides what was opened.
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
    return {"scores": "scores"}


def columns(params: Params, name: str) -> list[tuple[str, str]]:
    """Return nothing: no table is read."""
    return []


def rows(params: Params, held: Mapping[str, int]) -> int:
    """Return how many rows are measured; refuse scores that the metrics are not for."""
    return declared.read(params).held_to(params["taken"]["scores"]["about"]).rows


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
    """Return the joint function of the scores' arrays."""
    from .joint import joint  # only compute parties need jax: opening a result does not

    plan = declared.read(params)
    return joint(plan, plan.held_to(params["taken"]["scores"]["about"]))


def outputs(params: Params) -> list[str]:
    """Return the names of what the requester opens."""
    plan = declared.read(params)
    return plan.parts(plan.held_to(params["taken"]["scores"]["about"]))


def finish(params: Params, rows: int, opened: Mapping[str, Any]) -> dict[str, Any]:
    """Divide the opened sums and name the metrics."""
    from .finish import finished

    plan = declared.read(params)
    return finished(plan, plan.held_to(params["taken"]["scores"]["about"]), opened)
