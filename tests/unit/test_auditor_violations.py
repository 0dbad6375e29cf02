"""Violations at seeded places of long histories: each is found as what it is, and nothing else is found."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from violations import FAULTS, HONEST, LAST, history

from sealtrace.auditor.audit import Result, audit
from sealtrace.auditor.checks import catalogue


def judged(made):
    """What was not found, and what nothing explains."""
    findings = audit(made.case).findings
    return made.missed(findings), made.unexplained(findings)


def test_honest_histories_of_all_kinds_have_no_finding_and_nothing_undetermined():
    made = history(7, 20 * len(HONEST), 0)
    done = audit(made.case)
    assert done.findings == ()
    assert done.result is Result.CLEAN
    assert [row.check.rule for row in done.rows if row.undetermined] == []
    assert made.tasks > 100


@pytest.mark.parametrize("kind", [*FAULTS, *LAST])
def test_each_kind_of_violation_is_found_wherever_it_is(kind):
    for seed in range(3):
        made = history(seed, 14, 3 if kind in FAULTS else 0, only=kind)
        assert [each.name for each in made.injected] == [kind] * (3 if kind in FAULTS else 1)
        assert judged(made) == ([], [])


def test_every_check_but_those_of_lost_logs_has_a_kind_of_violation():
    seeded = {fault.rule for fault in FAULTS.values()} | set(LAST.values())
    assert {each.rule for each in catalogue()} == seeded


@settings(max_examples=12, deadline=None)
@given(st.integers(min_value=0, max_value=2**32), st.integers(min_value=0, max_value=25))
def test_whatever_comes_together_all_of_it_is_found_and_nothing_else(seed, faults):
    assert judged(history(seed, 60, faults)) == ([], [])


def test_a_violation_is_not_found_by_a_finding_elsewhere():
    made = history(3, 20, 2, only="revoked grant")
    one, other = made.injected
    for finding in audit(made.case).findings:
        assert not (one.explains(finding) and other.explains(finding))
