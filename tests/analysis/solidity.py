"""The pinned compiler kept running: many compilations of the contracts, each with the sources it is given."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sealtrace.contracts import compiler

SOURCES = compiler.HERE / "src"
Node = Mapping[str, Any]

_SERVER = """
const fs = require("fs"), path = require("path");
const real = process.stdout.write.bind(process.stdout);
process.stdout.write = () => true;
const solc = require(process.argv[2] + "/solc");
function load(name) {
  const file = path.join(process.argv[2], name);
  if (file.startsWith(process.argv[2] + "/") && fs.existsSync(file))
    return { contents: fs.readFileSync(file, "utf8") };
  return { error: "not found: " + name };
}
require("readline").createInterface({ input: process.stdin }).on("line", (line) =>
  real(JSON.stringify(JSON.parse(solc.compile(line, { import: load }))) + "\\n"));
"""


class DoesNotCompile(ValueError):
    """The compiler refused the sources: its first error, and where all of them are."""

    def __init__(self, errors: Sequence[Mapping[str, Any]]) -> None:
        super().__init__(errors[0]["formattedMessage"])
        found = [each["sourceLocation"] for each in errors if each.get("sourceLocation")]
        self.places = [Place(at["file"], at["start"], at["end"] - at["start"]) for at in found]


@dataclass(frozen=True)
class Place:
    """A stretch of a source, in bytes of UTF-8."""

    file: str
    start: int
    length: int

    @property
    def end(self) -> int:
        return self.start + self.length

    def meets(self, other: Place) -> bool:
        return self.file == other.file and self.start < other.end and other.start < self.end

    def holds(self, other: Place) -> bool:
        return self.file == other.file and self.start <= other.start and other.end <= self.end


class Compiler:
    """One process of ``solc`` under ``node``, told its input line by line."""

    def __init__(self) -> None:
        self._deep: set[str] = set()

    def __enter__(self) -> Self:
        node = shutil.which("node", path=compiler._search_path())
        modules = compiler.HERE / "node_modules"
        if node is None or not (modules / "solc").is_dir():
            raise compiler.CompilerMissing("solc is not installed: run make contracts")
        command = [node, "-e", _SERVER, "--", "server", str(modules)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def trees(self, sources: Mapping[str, str]) -> Mapping[str, Any]:
        """The syntax tree of every source, by its name, with the index that source maps give it.

        Raises:
            DoesNotCompile: there is an error.
        """
        return self._asked(sources, {"*": {"": ["ast"]}}, {})["sources"]

    def build(self, sources: Mapping[str, str], contract: str, wanted: Sequence[str]) -> Mapping[str, Any]:
        """One contract, as close to its text as the compiler can: straight, or where that takes more than
        the stack gives, by way of Yul; not optimized.

        Raises:
            DoesNotCompile: there is an error.
        """
        selection = {f"{contract}.sol": {contract: list(wanted)}}
        plain = {"optimizer": {"enabled": False}}
        if contract not in self._deep:
            try:
                output = self._asked(sources, selection, plain | {"viaIR": False})
                return output["contracts"][f"{contract}.sol"][contract]
            except DoesNotCompile as refused:
                if "Stack too deep" not in str(refused):
                    raise
                self._deep.add(contract)
        output = self._asked(sources, selection, plain | {"viaIR": True})
        return output["contracts"][f"{contract}.sol"][contract]

    def _asked(
        self, sources: Mapping[str, str], selection: Mapping[str, Any], settings: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        contents = {name: {"content": text} for name, text in sources.items()}
        settings = {**compiler.COMPILER["settings"], **settings, "outputSelection": selection}
        output = self._said({"language": "Solidity", "sources": contents, "settings": settings})
        if errors := [each for each in output.get("errors", ()) if each["severity"] == "error"]:
            raise DoesNotCompile(errors)
        return output

    def _said(self, told: Mapping[str, Any]) -> Mapping[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(told).encode() + b"\n")
        self._process.stdin.flush()
        answer: Mapping[str, Any] = json.loads(self._process.stdout.readline())
        return answer


def read_sources(root: Path = SOURCES) -> dict[str, str]:
    """Every source of ours by its name below ``root``."""
    return {str(file.relative_to(root)): file.read_text() for file in sorted(root.rglob("*.sol"))}


def artifact(contract: str, output: Mapping[str, Any]) -> dict[str, Any]:
    """A contract's artifact as ``contracts/artifacts`` holds it."""
    return compiler._artifact(contract, output)


def walk(node: Any, above: tuple[Node, ...] = ()) -> Iterator[tuple[Node, tuple[Node, ...]]]:
    """Every node of a syntax tree with those above it, the nearest last."""
    if isinstance(node, list):
        for each in node:
            yield from walk(each, above)
    elif isinstance(node, dict):
        if "nodeType" in node:
            yield node, above
            above = (*above, node)
        for each in node.values():
            if isinstance(each, dict | list):
                yield from walk(each, above)


def place(node: Node, file: str) -> Place:
    start, length, _ = map(int, node["src"].split(":"))
    return Place(file, start, length)
