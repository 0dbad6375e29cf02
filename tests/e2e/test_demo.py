"""The demo, as a new user runs it: whole, interrupted, and where it cannot run."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from sealtrace.deploy import tee_story
from sealtrace.deploy.network import Network
from sealtrace.deploy.plan import Plan
from sealtrace.deploy.processes import Processes, Program
from sealtrace.node.engines.tee.confinement import needed, probe
from sealtrace.protocol.outcome import Denial
from sealtrace.requester.enclaves import SIMULATED_WARNING
from tests.e2e.conftest import DATA, ROOT, command, interrupted, left_behind, wait_for

pytestmark = pytest.mark.timeout(420)


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """The lines of one whole demo, and its directory."""
    return whole(tmp_path_factory.mktemp("demo"))


def whole(directory, *options):
    done = ran("demo", *options, "--dir", str(directory), seconds=400)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    return [json.loads(line) for line in done.stdout.splitlines()], directory


def ran(*arguments, seconds=120, **settings):
    wanted = command(*arguments, "--json")
    return subprocess.run(wanted, capture_output=True, timeout=seconds, check=False, **settings)


def failed(*arguments, **settings):
    """The last line of a command that ends with exit code 1: the error."""
    done = ran(*arguments, **settings)
    assert done.returncode == 1
    return json.loads(done.stdout.splitlines()[-1])


def test_the_joint_result_is_the_plain_result(told):
    lines, _ = told
    (opened,) = (line for line in lines if "difference" in line)
    assert opened["difference"] < 1e-6
    assert opened["joint"]["rows"] == opened["plain"]["rows"] > 600
    assert len(opened["joint"]["linked"]["columns"]) == 5


def test_each_refusal_is_recorded_on_chain_with_its_reason(told):
    lines, _ = told
    assert [Denial(line["denial"]) for line in lines if "denial" in line] == [
        Denial.GRANT_EXHAUSTED,
        Denial.WRONG_REQUESTER,
        Denial.BUNDLE_ALTERED,
        Denial.DATASET_ALTERED,
        Denial.PARTY_NOT_ACTIVE,
        Denial.GRANT_REVOKED,
    ]


def test_the_audit_has_no_findings_until_a_byte_is_flipped(told):
    lines, directory = told
    (counts,) = (line["counts"] for line in lines if "counts" in line)
    assert (counts["tasks"], counts["ran"], counts["states"]["refused"], counts["findings"]) == (9, 3, 6, 0)
    assert [line["rule"] for line in lines if "rule" in line] == ["EV-L01"]
    report = json.loads((directory / "report" / "report.json").read_text())
    assert report["proof"]["level"] == 2
    page = (directory / "report" / "report.html").read_text()
    assert "http://" not in page.replace("http://127.0.0.1", "")
    assert "src=" not in page


def test_the_first_screen_of_the_readme_is_what_the_demo_says(told):
    """Identifiers, block numbers, which of several refusing nodes was first, and how many records lie between
    two anchors differ from run to run.
    """
    lines, _ = told
    said = {shape(line["what"]) for line in lines}
    block = re.findall(r"```console\n\$ make demo\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[0]
    shown = [match[1] for match in re.findall(r"^([a-z]+) {2,}(.+)$", block, re.MULTILINE)]
    assert len(shown) > 15
    assert [words for words in shown if shape(words) not in said] == []


def shape(words: str) -> str:
    without = re.sub(r"0x[0-9a-f]{40}|\b[0-9a-f]{8}\b|\b\d+(\.\d+)?(e-\d+)?\b", "#", words)
    return without.replace("one of the records # to #", "record #")


def test_nothing_runs_after_the_demo(told):
    _, directory = told
    assert left_behind(directory) == []


def test_no_share_and_no_result_lies_open_on_any_disk(told):
    """A mean that only the opened result holds must not be found outside what the lab was shown."""
    lines, directory = told
    (opened,) = (line for line in lines if "difference" in line)
    mean = opened["joint"]["by_employment"][0]["amount"]["mean"]
    for path in directory.rglob("*"):
        if path.is_file() and path.stat().st_size < 64 << 20:
            assert str(mean).encode() not in path.read_bytes(), path
    assert list((directory / "nodes").rglob("output.sealed")) == []


@pytest.fixture(scope="module")
def told_of_enclaves(tmp_path_factory):
    """The lines of one whole demo of models trained in an enclave, and its directory."""
    if lacking := probe().missing(needed()):
        pytest.skip(f"this host gives no {', '.join(lacking)}")
    return whole(tmp_path_factory.mktemp("enclaves"), "--story", "tee")


def test_it_says_first_and_last_that_the_enclave_is_simulated(told_of_enclaves):
    lines, _ = told_of_enclaves
    assert [line["what"] for line in (lines[0], lines[-1])] == [SIMULATED_WARNING] * 2


def test_models_of_the_enclave_are_as_good_as_those_of_the_pooled_table(told_of_enclaves):
    lines, _ = told_of_enclaves
    opened = {line["algorithm"]: line for line in lines if "difference" in line}
    assert list(opened) == list(tee_story.ALGORITHMS)
    for line in opened.values():
        assert line["rows"] > 600
        for half in ("train", "test"):
            assert line["enclave"][half] == pytest.approx(line["plain"][half], abs=tee_story.TOLERANCE)
            assert line["enclave"][half] > 0.7


def test_training_is_followed_round_by_round(told_of_enclaves):
    lines, _ = told_of_enclaves
    rounds = [line for line in lines if "round" in line]
    boosted, fitted = rounds[:10], rounds[10:]
    assert [line["round"] for line in boosted] == list(range(10))
    assert boosted[-1]["metrics"]["loss"] < boosted[0]["metrics"]["loss"]
    assert [line["round"] for line in fitted] == list(range(len(fitted)))
    assert len(fitted) > 2


def test_each_refusal_about_an_enclave_is_recorded_on_chain_with_its_reason(told_of_enclaves):
    lines, _ = told_of_enclaves
    refusals = [(line["who"], Denial(line["denial"])) for line in lines if "denial" in line]
    assert refusals[:2] == [("cloud", Denial.BUNDLE_ALTERED), ("bank", Denial.ATTESTATION_REFUSED)]
    assert [denial for _, denial in refusals[2:]] == [
        Denial.PROTECTION_NOT_ALLOWED,
        Denial.ATTESTATION_REFUSED,
        Denial.ATTESTATION_REFUSED,
    ]
    measurement, stale, replayed = (line["detail"] for line in lines if "detail" in line)
    assert "measurement-unknown" in measurement
    assert "too-old" in stale
    assert "of another task" in replayed


def test_the_audit_of_tasks_in_enclaves_has_no_findings(told_of_enclaves):
    lines, directory = told_of_enclaves
    (counts,) = (line["counts"] for line in lines if "counts" in line)
    assert (counts["tasks"], counts["ran"], counts["states"]["refused"], counts["findings"]) == (7, 2, 5, 0)
    assert [line["rule"] for line in lines if "rule" in line] == ["EV-L01"]
    assert left_behind(directory) == []


def test_where_there_is_no_sandbox_the_story_says_what_to_install_and_starts_nothing(tmp_path):
    nowhere = {**os.environ, "PATH": str(tmp_path)}  # no bubblewrap is found there
    said = failed("demo", "--story", "tee", "--dir", str(tmp_path / "net"), env=nowhere)
    assert said["error"] == "SandboxUnavailable"
    assert "apt install bubblewrap" in said["message"]
    assert left_behind(tmp_path) == []


def test_a_directory_of_one_story_is_not_taken_for_another(tmp_path):
    Plan.fresh(None).save(tmp_path)
    said = failed("demo", "--story", "tee", "--dir", str(tmp_path))
    assert said["error"] == "AnotherNetwork"
    assert "bank, registry, carrier, cloud" in said["message"]


def test_ctrl_c_stops_everything_that_was_started(tmp_path):
    with (tmp_path / "out").open("wb") as said:
        demo = subprocess.Popen(
            command("demo", "--dir", str(tmp_path / "net")),
            stdout=said,
            stderr=said,
            start_new_session=True,
            # A shell that runs the tests in the background has its children ignore Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    wait_for(
        lambda: b"starting three nodes" in (tmp_path / "out").read_bytes(), 120, "the start of the nodes"
    )
    assert interrupted(demo, 60) != 0
    assert left_behind(tmp_path) == []


def test_a_demo_without_its_table_says_so_and_starts_nothing(tmp_path):
    missing = str(tmp_path / "nothing.csv")
    said = failed("demo", "--dir", str(tmp_path / "net"), "--data", missing)
    assert said["error"] == "SampleMissing"
    assert left_behind(tmp_path) == []


def test_a_port_that_another_program_holds_is_named(tmp_path):
    plan = Plan.fresh(None)
    plan.save(tmp_path)
    with socket.create_server(("127.0.0.1", plan.scheduler_port)):
        said = failed("net", "up", "--dir", str(tmp_path))
    assert said["error"] == "PortTaken"
    assert str(plan.scheduler_port) in said["message"]
    assert left_behind(tmp_path) == []


def test_a_directory_without_a_network_is_no_network(tmp_path):
    for verb in ("status", "down"):
        assert failed("net", verb, "--dir", str(tmp_path))["error"] == "NotANetwork"


def test_what_is_left_behind_would_be_seen(tmp_path):
    sleeper = subprocess.Popen(["/bin/sh", "-c", "sleep 30; :", str(tmp_path)])
    try:
        assert len(left_behind(tmp_path)) == 1
    finally:
        sleeper.kill()
        sleeper.wait()


def test_a_process_that_dies_at_once_is_shown_with_the_end_of_its_log(tmp_path):
    Plan.fresh(None).save(tmp_path)
    network = Network(tmp_path)
    network.processes.start(Program("chain", ("/bin/sh", "-c", "echo no such chain; exit 3"), {}))
    wait_for(lambda: not any(each.alive for each in network.statuses()), 60, "the death")
    assert "no such chain" in Processes(tmp_path).tail("chain")


def test_the_table_of_the_demo_is_the_real_one():
    assert len(Path(DATA).read_text().splitlines()) == 1_001
