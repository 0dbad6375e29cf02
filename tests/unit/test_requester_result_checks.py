"""A share that was made otherwise than the specification asks is no part of its result."""

from __future__ import annotations

from typing import Any

import pytest
from scheduler_fakes import PARTIES, h, make_spec

from sealtrace.algorithms.shares import Computation, Header
from sealtrace.requester.errors import ResultNotAsAsked
from sealtrace.requester.result_checks import require_as_asked

SPEC = make_spec(3, mpc="ABY3")
TASK, STEP = h(7), SPEC.steps[-1].id
ABY3 = Computation(protocol="ABY3", field="FM128", fraction_bits=40)
NAMES = dict(zip(SPEC.parties, ("one", "two", "three"), strict=True))


def headers(**changes: Any) -> list[Header]:
    """What honest parties say; the second says otherwise."""
    said = [
        Header(kind="mpc", task=TASK, step=STEP, rank=at, world=3, rows=9, computation=ABY3, values=[])
        for at in range(len(PARTIES))
    ]
    said[1] = said[1].model_copy(update=changes)
    return said


def test_shares_of_what_was_asked_pass():
    require_as_asked(TASK, SPEC, headers(), NAMES)


@pytest.mark.parametrize(
    ("what", "changes"),
    [
        ("protocol", {"computation": ABY3.model_copy(update={"protocol": "SEMI2K"})}),
        ("protocol", {"computation": None}),
        ("task", {"task": h(8)}),
        ("step", {"step": "other"}),
        ("party number", {"rank": 2}),
        ("number of parties", {"world": 2}),
        ("engine", {"kind": "psi"}),
    ],
)
def test_a_share_that_says_otherwise_is_refused_with_the_partys_name(what, changes):
    with pytest.raises(ResultNotAsAsked, match=f"the share of two says {what}") as refused:
        require_as_asked(TASK, SPEC, headers(**changes), NAMES)
    assert (refused.value.party, refused.value.what) == ("two", what)


def test_all_parties_together_cannot_run_another_protocol_either():
    cheap = ABY3.model_copy(update={"protocol": "SEMI2K"})
    said = [each.model_copy(update={"computation": cheap}) for each in headers()]
    with pytest.raises(ResultNotAsAsked, match="protocol SEMI2K, the task asks for ABY3"):
        require_as_asked(TASK, SPEC, said, NAMES)


def test_an_alignment_has_no_computation_to_compare():
    spec = SPEC.model_copy(update={"steps": SPEC.steps[:1]})
    said = [
        each.model_copy(update={"kind": "psi", "step": spec.steps[0].id, "computation": None})
        for each in headers()
    ]
    require_as_asked(TASK, spec, said, NAMES)
