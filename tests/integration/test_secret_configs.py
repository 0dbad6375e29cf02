"""Secret values of an algorithm in a simulated enclave, between real processes and in the real sandbox."""

from __future__ import annotations

import csv
import json
import re
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from enclave_network import Task, dataset, result
from engine_network import network
from typer.testing import CliRunner

from sealtrace.algorithms.bundles import load
from sealtrace.algorithms.template import create
from sealtrace.auditor.secret_values import why_not_opened
from sealtrace.cli import build
from sealtrace.node.engines.errors import BadJob, EngineError, OutputForbidden, ProtocolViolated
from sealtrace.node.engines.tee.confinement import needed, probe
from sealtrace.node.engines.tee.job import FINAL
from sealtrace.protocol.attestation.eventlog import EventKind
from sealtrace.protocol.attestation.statement import read_statement
from sealtrace.protocol.identifiers import Hex32
from sealtrace.protocol.secret_config import open_value, read_secret_config
from sealtrace.requester.secret_configs import seal_values

LACKING = probe().missing(needed())
pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.skipif(bool(LACKING), reason=f"this host gives no {', '.join(LACKING)}"),
]
ROOT = Path(__file__).parents[2]
OVER = """
def run(inputs, params):
    owed = [cell for table in inputs.tables.values() for cell in table.numbers("owed")]
    return {"found": sum(each > inputs.config["limit"] for each in owed)}
"""
TELLS = """
def run(inputs, params):
    return {"found": inputs.config["partner"]}
"""
NUMBER = {"kind": "number", "decimals": 2}
WORD = {"kind": "word", "of": ["south"], "public": True}


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    with network(tmp_path_factory.mktemp("net")) as made:
        yield made


@pytest.fixture
def tables(tmp_path):
    path = tmp_path / "bank.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("id", "owed"), *((f"p{at}", at) for at in range(100))])
    return {"bank": (1, path, ["owed"])}


@pytest.fixture
def made(tmp_path):
    """Makes a bundle of a body, and its secrets."""

    def made(body: str, shape: dict, limit: float):
        folder = create("mine", tmp_path / f"limit-{limit}", "tee")
        (folder / "program.py").write_text(body)
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["output_policy"]["outputs"] = {"found": {"shape": shape, "max_bytes": 100}}
        (folder / "manifest.json").write_text(json.dumps({**manifest, "params": {}}))
        values, secrets = folder.with_name("values.json"), folder.with_name("secrets.json")
        values.write_text(json.dumps({"limit": limit, "partner": "north"}))
        seal_values(folder, values, secrets)
        return folder, secrets

    return made


def test_a_result_depends_on_a_secret_value_that_a_regulator_may_see_alone(net, tables, made):
    for limit, expected in ((69.5, 30), (89.5, 10)):
        folder, secrets = made(OVER, NUMBER, limit)
        task = Task(net, folder, {}, tables, configs={"secrets": (2, secrets)})
        assert result(net, task.run())["found"] == expected
        final = read_statement((task.folder(2) / FINAL).read_bytes())
        bundle = load(folder)
        opened = open_value(read_secret_config(secrets.read_bytes()), bundle.digest, "limit")
        assert why_not_opened(opened, bundle, final) is None
        assert "the statement says that" in str(why_not_opened(opened, bundle, _of_another(final)))
        inputs = {each.subject for each in final.evidence.events if each.kind is EventKind.INPUT}
        assert inputs == {dataset("bank"), dataset("secrets")}
        assert dataset("secrets") in final.evidence.events[-1].erased


def _of_another(final):
    return replace(final, challenge=replace(final.challenge, algorithm=Hex32("0x" + "3" * 64)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda values: values["limit"].update(value=1), "secret value limit is not the one"),
        (lambda values: values.pop("limit"), "secret value limit is missing"),
        (lambda values: values.update(more=values["limit"]), "secret value more is not in the manifest"),
        (lambda values: values["limit"].pop("salt"), "values.limit.salt"),
    ],
)
def test_an_enclave_blames_the_owner_of_values_that_the_manifest_does_not_commit_to(
    net, tables, made, change, words
):
    folder, secrets = made(OVER, NUMBER, 69.5)
    document = json.loads(secrets.read_text())
    change(document["values"])
    secrets.write_text(json.dumps(document))
    task = Task(net, folder, {}, tables, configs={"secrets": (2, secrets)})
    ended = task.run()
    assert isinstance(ended[0], ProtocolViolated)
    assert (words in str(ended[0]), ended[0].peer) == (True, task.members[2].address)
    assert all(isinstance(each, EngineError) for each in ended)


def test_an_enclave_does_not_begin_without_the_secret_values(net, tables, made):
    folder, _ = made(OVER, NUMBER, 69.5)
    task = Task(net, folder, {}, {**tables, "more": (2, tables["bank"][1], ["owed"])})
    with pytest.raises(BadJob, match="bring its values as an input of kind config"), task.hosted():
        pass


def test_a_secret_text_does_not_come_out(net, tables, made):
    folder, secrets = made(TELLS, WORD, 1.5)
    ended = Task(net, folder, {}, tables, configs={"secrets": (2, secrets)}).run()
    assert isinstance(ended[0], OutputForbidden)
    assert "free_text" in str(ended[0])
    assert "north" not in str(ended[0])


def test_the_commands_of_the_document_seal_run_open_and_check(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "tee-algorithms.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```console\n(.*?)```", text, re.DOTALL)
    lines = [line[2:] for line in block.replace("\\\n", " ").splitlines() if line.startswith("$ ")]
    said = ""
    for line in lines:
        called, *words = shlex.split(line)
        if called != "sealtrace":
            subprocess.run(line, shell=True, check=True, cwd=tmp_path)
            continue
        words = [load(Path("owes")).digest if word.startswith("0x") else word for word in words]
        done = CliRunner().invoke(build(words[0]), words, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        said += done.output
    assert "1 outputs passed the output policy" in said
    assert f"times is 0.42: the manifest of {load(Path('owes')).digest} commits to it" in said
