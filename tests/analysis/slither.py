"""Let slither look for weaknesses in the contracts: ``make analyse``

slither (AGPL-3.0) is a tool that runs beside us, in an environment of its own, because it needs an older
web3; nothing of ours imports it or is shipped with it. Every finding is either mended or explained in
``findings.toml``; an open finding, or an explanation of what is found no more, fails the run.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from solidity import SOURCES

from sealtrace.contracts import compiler

VERSION = "0.11.6"
HERE = Path(__file__).resolve().parent
ENVIRONMENT = HERE.parent.parent / "build" / "slither"
EXPLAINED = HERE / "findings.toml"
REPORT = HERE.parent.parent / "build" / "slither.txt"

# slither asks solc the old way; the answer is taken from the standard one.
_SHIM = """#!{node}
const fs = require("fs");
const real = process.stdout.write.bind(process.stdout);
process.stdout.write = () => true;
const solc = require({modules} + "/solc");
process.stdout.write = real;
const args = process.argv.slice(2);
function load(name) {{
  if (!fs.existsSync(name)) return {{ error: "not found: " + name }};
  return {{ contents: fs.readFileSync(name, "utf8") }};
}}
if (args.includes("--version")) {{
  const version = solc.version().replace(".Emscripten.clang", ".Linux.g++");
  real("solc, the solidity compiler\\nVersion: " + version + "\\n");
}} else {{
  const name = args.find((each) => each.endsWith(".sol"));
  const output = JSON.parse(solc.compile(JSON.stringify({{
    language: "Solidity",
    sources: {{ [name]: {{ content: fs.readFileSync(name, "utf8") }} }},
    settings: {{ ...{settings}, outputSelection: {{ "*": {{ "": ["ast"], "*": 
      ["abi", "userdoc", "devdoc", "evm.methodIdentifiers"] }} }} }},
  }}), {{ import: load }}));
  const wrong = (output.errors || []).filter((each) => each.severity === "error");
  if (wrong.length) {{ console.error(wrong[0].formattedMessage); process.exit(1); }}
  const contracts = {{}}, sources = {{}};
  for (const [file, found] of Object.entries(output.contracts))
    for (const [contract, made] of Object.entries(found))
      contracts[file + ":" + contract] = {{
        abi: made.abi, userdoc: made.userdoc, devdoc: made.devdoc, hashes: made.evm.methodIdentifiers,
        bin: "", srcmap: "", "bin-runtime": "", "srcmap-runtime": "", // it reads the tree
      }};
  for (const [file, found] of Object.entries(output.sources)) sources[file] = {{ AST: found.ast }};
  const sourceList = Object.entries(output.sources).sort((a, b) => a[1].id - b[1].id).map((each) => each[0]);
  real(JSON.stringify({{ contracts, sources, sourceList, version: solc.version() }}));
}}
"""


class SlitherMissing(RuntimeError):
    """slither could not be installed: see pip's message, or install it yourself into ``build/slither``."""


@dataclass(frozen=True)
class Finding:
    """What slither holds against a function, a variable or a contract."""

    check: str
    impact: str
    where: str
    words: str


def install() -> Path:
    """The command of slither, in an environment of its own.

    Raises:
        SlitherMissing: pip could not install it.
    """
    command = ENVIRONMENT / "bin" / "slither"
    if not command.is_file():
        subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True)
        pip = [str(ENVIRONMENT / "bin" / "pip"), "install", "--quiet", f"slither-analyzer=={VERSION}"]
        done = subprocess.run(pip, capture_output=True, check=False)
        if done.returncode:
            raise SlitherMissing(done.stderr.decode()[-600:])
    return command


def findings(command: Path) -> list[Finding]:
    """Everything that slither finds in our sources, none of OpenZeppelin's."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder) / "src"
        shutil.copytree(SOURCES, work)
        packages = compiler.HERE / "node_modules" / "@openzeppelin"
        (work / packages.name).symlink_to(packages)
        every = "".join(f'import "./{name}.sol";\n' for name in compiler.CONTRACTS)
        (work / "Every.sol").write_text(
            f"// SPDX-License-Identifier: Apache-2.0\npragma solidity ^0.8.37;\n{every}"
        )
        shim = Path(folder) / "solc"
        shim.write_text(_shim())
        shim.chmod(0o755)
        options = ["--solc", str(shim), "--filter-paths", "openzeppelin", "--json", "-"]
        environment = {**os.environ, "PATH": os.pathsep.join([str(command.parent), os.environ["PATH"]])}
        run = [str(command), "Every.sol", *options]
        done = subprocess.run(run, cwd=work, env=environment, capture_output=True, check=False)
    try:
        told = json.loads(done.stdout)
    except ValueError as cause:
        raise SystemExit(f"slither did not answer: {done.stderr.decode()[-2000:]}") from cause
    if not told["success"]:
        raise SystemExit(f"slither failed: {told['error'][:2000]}")
    return [_finding(each) for each in told["results"].get("detectors", ())]


def _shim() -> str:
    node = shutil.which("node", path=compiler._search_path())
    if node is None:
        raise compiler.CompilerMissing("solc is not installed: run make contracts")
    modules = json.dumps(str(compiler.HERE / "node_modules"))
    return _SHIM.format(node=node, modules=modules, settings=json.dumps(compiler.COMPILER["settings"]))


def _finding(told: Mapping[str, Any]) -> Finding:
    return Finding(
        told["check"], told["impact"], _where(told["elements"]), " ".join(told["description"].split())
    )


def _where(elements: Sequence[Mapping[str, Any]]) -> str:
    """``Contract.function`` of the first element, or what stands for it."""
    names: list[str] = []
    each = elements[0] if elements else None
    while each is not None and not each["name"].endswith(".sol"):
        names += [] if each["type"] == "node" else [each["name"]]
        each = each.get("type_specific_fields", {}).get("parent")
    return ".".join(reversed(names)) or "everywhere"


def explanations() -> dict[tuple[str, str], str]:
    """Why what is found is no weakness: by check and place."""
    told = tomllib.loads(EXPLAINED.read_text())["finding"]
    return {
        (check, where): each["because"]
        for each in told
        for check in [each["check"]]
        for where in each["where"]
    }


def report(found: Sequence[Finding]) -> tuple[str, bool]:
    """What was found and why it is none, and whether nothing is open."""
    known = explanations()
    open_ = [each for each in found if (each.check, each.where) not in known]
    stale = sorted(set(known) - {(each.check, each.where) for each in found})
    rows = [
        f"slither {VERSION}: {len(found)} findings, {len(found) - len(open_)} explained, {len(open_)} open"
    ]
    for check, count in sorted(Counter((each.impact, each.check) for each in found).items()):
        rows.append(f"  {check[0]:14} {check[1]:28} {count:3}")
    rows += [f"open: [{each.impact}] {each.check} at {each.where}: {each.words}" for each in open_]
    rows += [f"explained, and found no more: {check} at {where}" for check, where in stale]
    return "\n".join([*rows, ""]), not open_ and not stale


def main() -> int:
    """Analyse, print and write the report."""
    text, good = report(findings(install()))
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(text)
    print(text)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
