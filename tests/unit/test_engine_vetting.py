"""Bundles asked, in a process of their own, whether they take a task's steps."""

from __future__ import annotations

import json
import shutil
import time

import pytest

from sealtrace.algorithms.bundles import load, shipped
from sealtrace.node.engines.errors import BadJob, BundleRefused
from sealtrace.node.engines.job import Job
from sealtrace.node.engines.vetting import vet
from sealtrace.protocol.identifiers import Hex32

A, B = ("0x" + d * 40 for d in "12")
TASK = Hex32("0x" + "ab" * 32)
PARAMS = {
    "columns": {"age": {"input": "a", "column": "age", "kind": "number"}},
    "requests": {"ages": {"measure": "summary", "of": "age", "statistics": ["mean"]}},
    "min_group": 5,
}


@pytest.fixture
def bundle(tmp_path):
    return shutil.copytree(shipped()["statistics"], tmp_path / "statistics")


def job(bundle, protocol="CHEETAH", engine="mpc", **params):
    inputs = (
        {"name": "a", "party": A, "id_column": "id", "columns": ("age",), "path": "/nowhere.csv"},
        {"name": "b", "party": B, "id_column": "id"},
    )
    step = {
        "id": "stats",
        "algorithm": load(bundle).digest,
        "bundle": str(bundle),
        "engine": engine,
        "protocol": protocol,
        "inputs": ("a", "b"),
        "params": params,
    }
    words = {"task": TASK, "party": A, "parties": (A, B), "computing": (A, B), "results": ("stats",)}
    words |= {"requester_key": TASK, "inputs": inputs}
    return Job.model_validate(
        {**words, "gateway_url": "http://127.0.0.1:9", "gateway_token": "t", "steps": (step,)}
    )


def vetted(job, limit_s=60.0):
    vet(job, limit_s=limit_s)


def add_to_check(bundle, line):
    """Let the bundle's code do something when it is loaded; its digest is taken after that."""
    program = bundle / "program.py"
    program.write_text(program.read_text() + f"\n{line}\n")


def test_parameters_that_the_algorithm_takes_pass(bundle):
    vetted(job(bundle, **PARAMS))


def test_parameters_that_it_does_not_take_are_refused_in_its_own_words(bundle):
    with pytest.raises(BadJob, match=r"step stats: .*min_group"):
        vetted(job(bundle, **{**PARAMS, "min_group": 1}))


def test_a_column_that_the_inputs_do_not_name_is_refused(bundle):
    columns = {"age": {**PARAMS["columns"]["age"], "column": "income"}}
    with pytest.raises(BadJob, match="income"):
        vetted(job(bundle, **{**PARAMS, "columns": columns}))


def test_a_protocol_that_is_not_in_the_manifest_is_refused(bundle):
    manifest = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps({**manifest, "protocols": ["ABY3"]}))
    with pytest.raises(BadJob, match="does not run under CHEETAH"):
        vetted(job(bundle, **PARAMS))


def test_a_result_that_an_alignment_does_not_give_is_refused_by_its_manifest(tmp_path):
    psi = shipped()["psi"]
    vetted(job(psi, "RR22", "psi", result="count"))
    with pytest.raises(BadJob, match="not rows"):
        vetted(job(psi, "RR22", "psi", result="rows"))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("import no_such_module", "no_such_module"),
        ("import os; os._exit(9)", "exit code 9"),
        ("import os; os.kill(os.getpid(), 11)", "exit code -11"),
        ("open('error.json', 'w').write('[]'); import os; os._exit(0)", "no readable answer"),
    ],
)
def test_a_bundle_that_comes_to_no_answer_is_refused_and_harms_nobody(bundle, line, words):
    add_to_check(bundle, line)
    with pytest.raises(BundleRefused, match=words):
        vetted(job(bundle, **PARAMS))


def test_a_bundle_that_never_answers_is_given_up_at_the_limit(bundle):
    add_to_check(bundle, "import time; time.sleep(600)")
    began = time.monotonic()
    with pytest.raises(BundleRefused, match="more than 2 s"):
        vetted(job(bundle, **PARAMS), 2)
    assert time.monotonic() - began < 10


def test_a_bundles_code_sees_nothing_secret_of_the_nodes_environment(bundle, monkeypatch):
    monkeypatch.setenv("SEALTRACE_SECRET", "a passphrase")
    add_to_check(bundle, "import os\nif 'a passphrase' in os.environ.values(): os._exit(3)")
    vetted(job(bundle, **PARAMS))
