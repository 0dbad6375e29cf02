"""An auditor judges again what enclaves stated, and finds each thing that was not as owners allowed."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from auditor_story import OWNERS, Story, honest, usual_uses

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from enclave_story import DATA_OWNERS, HOST, EnclaveTask, with_statements
from enclave_violations import ENCLAVE_FAULTS

from sealtrace.auditor.audit import Result, audit
from sealtrace.auditor.checks import catalogue
from sealtrace.auditor.language import Language
from sealtrace.auditor.report import document, to_html
from sealtrace.auditor.statements import Statements
from sealtrace.protocol.records import Protection

RULES = [each.rule for each in catalogue() if each.rule.startswith("EV-E")]


def made(kind=EnclaveTask, twist=None, **how):
    """The case of one enclave task, and the task."""
    story = Story(twist=twist).found(members=2)
    task = kind(story, "enclave", **how)
    task.carry_out()
    return with_statements(story.case(), task.kept), task


def rules(case):
    return sorted({each.rule for each in audit(case).findings})


def undetermined(case):
    return {row.check.rule for row in audit(case).rows if row.undetermined}


def test_an_honest_task_in_an_enclave_has_no_finding_and_nothing_undetermined():
    case, _ = made()
    done = audit(case)
    assert [(each.rule, each.expected, each.observed) for each in done.findings] == []
    assert [(row.check.rule, row.missing) for row in done.rows if row.undetermined] == []
    assert done.result is Result.CLEAN
    assert all(row.satisfied for row in done.rows if row.check.rule in RULES)


@pytest.mark.parametrize("name", ENCLAVE_FAULTS)
def test_each_thing_that_is_not_as_owners_allowed_is_found_as_what_it_is(name):
    rule, kind, how = ENCLAVE_FAULTS[name]
    case, _ = made(kind, **how)
    assert rules(case) == [rule]


def test_the_report_says_that_no_hardware_stands_behind_a_simulated_enclave():
    case, _ = made()
    told = document(audit(case))
    (task,) = told["tasks"]
    assert task["enclave"].startswith(f"Runs in a simulated enclave at {HOST}: no hardware stands behind it")
    assert any("1 task in simulated enclaves" in each for each in told["not_checked"])
    assert "no hardware stands behind it" in to_html(told)
    assert "背后没有硬件" in to_html(told, Language.CHINESE)


def test_the_report_does_not_say_so_where_hardware_is_named_or_there_is_no_enclave():
    _, kind, how = ENCLAVE_FAULTS["simulated where hardware is due"]
    told = document(audit(made(kind, **how)[0]))
    assert told["tasks"][0]["enclave"] == f"Runs in an enclave at {HOST} that hardware is to stand behind."
    told = document(audit(honest().case()))
    assert {task["enclave"] for task in told["tasks"]} == {None}
    assert not any("simulated" in each for each in told["not_checked"])


def test_a_task_that_names_an_enclave_at_no_party_of_its_own_is_a_finding():
    story = Story().found(members=2)
    grants = {owner: story.grant(owner, protections=128) for owner in OWNERS}
    story.carry_out(story.create("idle", uses=usual_uses(grants), protections=Protection.TEE_SIMULATED))
    done = audit(story.case())
    assert "EV-E01" in {each.rule for each in done.findings}
    (told, *_) = document(done)["tasks"]
    assert "a party that is not known" in told["enclave"]


def test_without_statements_nothing_is_satisfied_that_rests_on_them():
    case, task = made()
    bare = replace(case, statements=Statements())
    done = audit(bare)
    assert done.findings == ()
    assert undetermined(bare) == {"EV-E03", "EV-E04", "EV-E05", "EV-E06"}
    assert done.result is Result.CANNOT_TELL
    missing = {what for row in done.rows for what, _ in row.missing}
    assert f"the statement {task.first.digest} was not handed over" in missing


def test_an_attestation_result_whose_certificate_is_not_at_hand_is_undetermined():
    case, task = made()
    assert undetermined(with_statements(case, task.kept, certificates=())) == {"EV-E06"}


def test_a_log_that_is_not_handed_over_leaves_its_owners_judgement_undetermined():
    story = Story().found(members=2)
    task = EnclaveTask(story, "enclave")
    task.carry_out()
    case = with_statements(story.case(nodes=(HOST,)), task.kept)
    assert rules(case) == []
    assert {"EV-E01", "EV-E02", "EV-E05"} <= undetermined(case)


def test_a_grant_whose_policy_is_not_on_record_is_undetermined():
    def forget(node, kind, body):
        return {k: v for k, v in body.items() if k != "policy_text"} if kind == "grant.issued" else body

    case, _ = made(twist=forget)
    assert undetermined(case) == {"EV-E03", "EV-E06"}


@pytest.mark.parametrize("text", ["{}", "no JSON"])
def test_a_policy_that_is_none_or_is_not_the_one_named_is_found(text):
    def bend(node, kind, body):
        changed = body | {"policy_text": text}
        return changed if kind == "grant.issued" and node == DATA_OWNERS[0] else body

    assert rules(made(twist=bend)[0]) == ["EV-E03"]


@pytest.mark.parametrize("value", [None, 7, "", [], {}, [1], {"a": {}}, {"p0": []}, {"p0": {"policy": []}}])
@pytest.mark.parametrize("field", ["attested", "appraisals", "block_number"])
def test_whatever_a_judgement_says_the_auditor_goes_on(field, value):
    def bend(node, kind, body):
        return body | {field: value} if kind == "task.judged" and node == DATA_OWNERS[0] else body

    case, _ = made(twist=bend)
    assert {"EV-E01", "EV-E02", "EV-E03", "EV-E06"} & {*rules(case), *undetermined(case)}


@pytest.mark.parametrize("value", [None, 7, "", [], {}, {"release": []}, {"steps": [], "outputs": {"a": 1}}])
@pytest.mark.parametrize("field", ["transcript", "attestation", "receipt"])
def test_whatever_a_record_of_a_run_says_the_auditor_goes_on(field, value):
    def bend(node, kind, body):
        return body | {field: value} if kind == "task.ran" and node == DATA_OWNERS[0] else body

    case, _ = made(twist=bend)
    audit(case)
    assert case.logs[DATA_OWNERS[0]].whole
