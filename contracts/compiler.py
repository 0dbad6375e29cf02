"""Compile the contracts with py-solc-x, offline, to the artifacts that are committed.

This is also the one place where npm is driven: what it brings besides is anvil, a chain for tests.

``solc`` is published for Node.js only where no download is allowed, so ``py-solc-x`` is pointed at an
executable of the expected name that runs that build under ``node``. The output is the same bytecode.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CONTRACTS = (
    "AlgorithmRegistry",
    "Consortium",
    "DatasetRegistry",
    "Directory",
    "EvidenceAnchor",
    "GrantRegistry",
    "NodeRegistry",
    "TaskLedger",
)
HERE = Path(__file__).resolve().parent
ARTIFACTS = HERE / "artifacts"
COMPILER: Mapping[str, Any] = json.loads((HERE / "solc.json").read_text())
"""The compiler's version and settings, in the one file that says them."""

SOLC_VERSION: str = COMPILER["version"]

# The import callback reads below two roots only: our sources and the pinned OpenZeppelin package.
_SHIM = """#!{node}
const fs = require("fs"), path = require("path");
const real = process.stdout.write.bind(process.stdout);
process.stdout.write = () => true;
const solc = require({solc});
process.stdout.write = real;
const roots = {roots};
function load(name) {{
  for (const root of roots) {{
    const file = path.join(root, name);
    if (file.startsWith(root) && fs.existsSync(file)) return {{ contents: fs.readFileSync(file, "utf8") }};
  }}
  return {{ error: "not found below the source roots: " + name }};
}}
if (process.argv.includes("--version")) {{
  const version = solc.version().replace(".Emscripten.clang", ".Linux.g++");
  console.log("solc, the solidity compiler\\nVersion: " + version);
}} else {{
  real(solc.compile(fs.readFileSync(0, "utf8"), {{ import: load }}));
}}
"""


class CompilerMissing(RuntimeError):
    """The pinned compiler is not installed: run ``make contracts``, which installs it from npm."""


class CompilationFailed(RuntimeError):
    """``solc`` refused the sources; the message carries its first errors."""


def install(into: Path = HERE) -> None:
    """Install what ``package-lock.json`` pins below ``into`` with ``npm ci``, unless it is there.

    Raises:
        CompilerMissing: ``npm`` is absent or could not install the packages.
    """
    if _installed(into):
        return
    npm = shutil.which("npm", path=_search_path())
    if npm is None:
        raise CompilerMissing("npm was not found: pip install 'sealtrace[dev]' brings one")
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
    done = subprocess.run(command, cwd=into, env=_environment(), capture_output=True, check=False)
    if done.returncode:
        raise CompilerMissing(f"npm ci failed in {into}: {done.stderr.decode()[-400:]}")


def compile_all(sources: Path = HERE / "src", packages: Path = HERE) -> dict[str, dict[str, Any]]:
    """Compile every contract and return its artifact by name.

    Raises:
        CompilerMissing: the npm packages are not installed.
        CompilationFailed: a source does not compile.
    """
    import solcx

    _provide_solc(sources, packages)
    try:
        output = solcx.compile_standard(_standard_input(sources), solc_version=SOLC_VERSION)
    except solcx.exceptions.SolcError as failure:
        raise CompilationFailed(failure.message[:2000]) from failure
    return {name: _artifact(name, output["contracts"][f"{name}.sol"][name]) for name in CONTRACTS}


def anvil(packages: Path = HERE) -> Path | None:
    """The ``anvil`` that npm brought for this platform; ``None`` where there is none for it."""
    install(packages)
    found = sorted((packages / "node_modules" / "@foundry-rs").glob("anvil-*/bin/anvil*"))
    return found[0] if found else None


def render(artifact: Mapping[str, Any]) -> str:
    """The committed text of an artifact: sorted keys, so that a rebuild gives the same bytes."""
    return json.dumps(artifact, indent=1, sort_keys=True) + "\n"


def write(artifacts: Mapping[str, Mapping[str, Any]], into: Path = ARTIFACTS) -> None:
    """Write one JSON file per contract."""
    into.mkdir(exist_ok=True)
    for name, artifact in artifacts.items():
        (into / f"{name}.json").write_text(render(artifact))


def stale(artifacts: Mapping[str, Mapping[str, Any]], committed: Path = ARTIFACTS) -> list[str]:
    """The names of the contracts whose committed artifact differs from a fresh compilation."""
    return [
        name
        for name, artifact in artifacts.items()
        if not (committed / f"{name}.json").is_file()
        or (committed / f"{name}.json").read_text() != render(artifact)
    ]


def _installed(into: Path) -> bool:
    """Whether the packages below ``into`` are the ones the lock file pins.

    One that is pinned for several platforms is there for this one at most.
    """
    modules = into / "node_modules"
    pinned = json.loads((into / "package-lock.json").read_text())["packages"]
    return all(
        _is_there(_version(into / place / "package.json"), package)
        for place, package in pinned.items()
        if place.startswith(modules.name)
    )


def _is_there(found: str | None, package: Mapping[str, Any]) -> bool:
    return found == package["version"] or (found is None and "os" in package)


def _version(manifest: Path) -> str | None:
    return str(json.loads(manifest.read_text())["version"]) if manifest.is_file() else None


def _artifact(name: str, output: Mapping[str, Any]) -> dict[str, Any]:
    evm = output["evm"]
    return {
        "contractName": name,
        "compiler": dict(COMPILER),
        "abi": output["abi"],
        "bytecode": "0x" + evm["bytecode"]["object"],
        "deployedBytecode": "0x" + evm["deployedBytecode"]["object"],
        "immutableReferences": evm["deployedBytecode"].get("immutableReferences", {}),
    }


def _standard_input(sources: Path) -> dict[str, Any]:
    wanted = ["abi", "evm.bytecode.object", "evm.deployedBytecode"]
    return {
        "language": "Solidity",
        "sources": {f"{name}.sol": {"content": (sources / f"{name}.sol").read_text()} for name in CONTRACTS},
        "settings": {
            **COMPILER["settings"],
            "outputSelection": {f"{name}.sol": {name: wanted} for name in CONTRACTS},
        },
    }


def _provide_solc(sources: Path, packages: Path) -> None:
    modules = packages / "node_modules"
    node = shutil.which("node", path=_search_path())
    if node is None or not (modules / "solc" / "soljson.js").is_file():
        raise CompilerMissing("solc is not installed: run make contracts")
    shim = modules / ".solc" / f"solc-v{SOLC_VERSION}"
    shim.parent.mkdir(exist_ok=True)
    roots = json.dumps([f"{sources}/", f"{modules}/"])
    shim.write_text(_SHIM.format(node=node, solc=json.dumps(str(modules / "solc")), roots=roots))
    shim.chmod(shim.stat().st_mode | stat.S_IXUSR)
    os.environ["SOLCX_BINARY_PATH"] = str(shim.parent)


def _search_path() -> str:
    """The environment's own scripts first: the ``dev`` extra brings node and npm there."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def _environment() -> dict[str, str]:
    return {**os.environ, "PATH": _search_path()}
