"""Which lines and branches of the contracts the contracts' tests run: ``make coverage``.

The tests run on eth-tester over a build that is not optimized, whose jumps stand where the source has its
branches. Every instruction that py-evm takes is noted, under the test that made it run; the compiler's source
maps say which statement it belongs to.

A statement is covered when an instruction of it ran. An ``if``, a ``?:``, a loop and each ``&&`` or ``||``
have two outcomes, jump or no jump, and each counts as a branch.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import eth.vm.forks.shanghai.computation as shanghai
import eth.vm.forks.spurious_dragon.computation as spurious_dragon
import pytest
from eth.vm.code_stream import CodeStream
from solidity import Compiler, Node, Place, artifact, place, read_sources, walk

from sealtrace.contracts import abi, compiler

HERE = Path(__file__).resolve().parent
SUITE = HERE.parent / "contract"
REPORT = HERE.parent.parent / "build" / "coverage.txt"
MAP = REPORT.with_suffix(".json")
WANTED = (
    "abi",
    "evm.bytecode.object",
    "evm.bytecode.sourceMap",
    "evm.deployedBytecode",
)
OUTSIDE = ("test_act_files.py", "test_gas.py", "test_sender.py", "test_engines.py", "test_random_walks.py")
"""Tests that ask nothing of the contracts that others do not, or not of this build."""
NOT_OF_THIS_BUILD = "not committed_artifacts and not fits_the_limit and not says_what_the_code_says"
BUILDING = ""
"""The name under which is noted what runs while the world of all tests is built."""

_STATEMENTS = (
    "ExpressionStatement",
    "VariableDeclarationStatement",
    "Return",
    "IfStatement",
    "ForStatement",
    "WhileStatement",
    "EmitStatement",
    "RevertStatement",
    "InlineAssembly",
    "TryStatement",
)
_DECIDING = ("IfStatement", "Conditional", "ForStatement", "WhileStatement")
_PUSH1, _PUSH32, _STOP, _JUMPI = 0x60, 0x7F, 0x00, 0x57

Outcome = tuple[Place, bool]


@dataclass(eq=False)
class Notes:
    """What ran: by test, by code, the places of instructions, and whether each conditional jump jumped."""

    test: str = BUILDING
    ran: dict[str, dict[bytes, set[int]]] = field(default_factory=dict)
    jumps: dict[bytes, set[tuple[int, bool]]] = field(default_factory=lambda: defaultdict(set))
    seconds: dict[str, float] = field(default_factory=dict)

    def of(self, code: bytes) -> set[int]:
        return self.ran.setdefault(self.test, {}).setdefault(code, set())

    # as a pytest plugin

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.test, began = item.nodeid, time.monotonic()
        try:
            return (yield)
        finally:
            self.seconds[item.nodeid] = time.monotonic() - began
            self.test = BUILDING

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Iterator[None]:
        before = self.test
        if fixturedef.scope != "function":
            self.test = BUILDING
        try:
            return (yield)
        finally:
            self.test = before


def note_instructions(notes: Notes) -> None:
    """Make py-evm tell ``notes`` each instruction that it takes."""

    def instructions(self: Any) -> Iterator[int]:
        code = self._raw_code_bytes
        ran, jumps, length = notes.of(code).add, notes.jumps[code].add, len(code)
        while (at := self.program_counter) < length:
            self.program_counter = at + 1
            ran(at)
            yield code[at]
            if code[at] == _JUMPI:
                jumps((at, self.program_counter != at + 1))
        yield _STOP

    CodeStream.__iter__ = instructions


@dataclass(frozen=True)
class Build:
    """The sources with their syntax trees, and each contract compiled as close to its text as can be."""

    sources: Mapping[str, str]
    trees: Mapping[str, Any]
    contracts: Mapping[str, Any]

    @classmethod
    def of(cls, sources: Mapping[str, str], solc: Compiler) -> Self:
        """Compile everything."""
        contracts = {name: solc.build(sources, name, WANTED) for name in compiler.CONTRACTS}
        return cls(sources, solc.trees(sources), contracts)

    @property
    def artifacts(self) -> dict[str, dict[str, Any]]:
        return {name: artifact(name, found) for name, found in self.contracts.items()}

    @cached_property
    def codes(self) -> dict[str, abi.Artifact]:
        """What a chain holds once these are deployed."""
        return {name: abi.read_artifact(found) for name, found in self.artifacts.items()}

    @cached_property
    def files(self) -> dict[int, str]:
        return {found["id"]: name for name, found in self.trees.items() if name in self.sources}

    def tree(self, file: str) -> Node:
        found: Node = self.trees[file]["ast"]
        return found

    @cached_property
    def parts(self) -> dict[str, set[str]]:
        """By contract, the files whose code is in it: its own and those of what it inherits."""
        made = {
            node["id"]: (file, node)
            for file in self.sources
            for node, _ in walk(self.tree(file))
            if node["nodeType"] == "ContractDefinition"
        }
        return {
            node["name"]: {made[each][0] for each in node["linearizedBaseContracts"] if each in made}
            for _, node in made.values()
            if node["name"] in compiler.CONTRACTS
        }

    @cached_property
    def statements(self) -> dict[str, list[Place]]:
        """By file, each statement's place, in order; none of an interface."""
        return {
            file: sorted(
                (place(node, file) for node, _ in walk(self.tree(file)) if node["nodeType"] in _STATEMENTS),
                key=lambda each: (each.start, -each.length),
            )
            for file in own_files(self.sources)
        }

    @cached_property
    def deciders(self) -> dict[Place, Place]:
        """By the place that a conditional jump of a branch has in the code, the branch it decides.

        By way of Yul, a loop's jump stands at its condition.
        """
        found: dict[Place, Place] = {}
        for file in own_files(self.sources):
            for node, _ in walk(self.tree(file)):
                where = place(node, file)
                if node["nodeType"] in ("ForStatement", "WhileStatement") and node["condition"]:
                    found.setdefault(place(node["condition"], file), where)
                if node["nodeType"] in _DECIDING or node.get("operator") in ("&&", "||"):
                    found[where] = where
        return found

    def statement_of(self, where: Place) -> Place | None:
        """The innermost statement that holds ``where``."""
        known = self.statements.get(where.file, [])
        for each in reversed(known[: bisect_right(known, where.start, key=lambda one: one.start)]):
            if each.holds(where):
                return each
        return None

    def line(self, where: Place) -> int:
        return self.sources[where.file].encode()[: where.start].count(b"\n") + 1

    def instructions(self, contract: str, part: str) -> dict[int, Place]:
        """The place of each instruction of the code, or of its creation, that is of our sources."""
        code = self.contracts[contract]["evm"][part]
        spans = _spans(code["sourceMap"])
        return {
            at: Place(self.files[file], start, length)
            for at, (start, length, file) in zip(_starts(bytes.fromhex(code["object"])), spans, strict=False)
            if file in self.files
        }


def own_files(sources: Iterable[str]) -> list[str]:
    """The sources that hold code."""
    return [name for name in sources if not name.startswith("interfaces/")]


def _starts(code: bytes) -> Iterator[int]:
    at = 0
    while at < len(code):
        yield at
        at += 1 + (code[at] - _PUSH1 + 1 if _PUSH1 <= code[at] <= _PUSH32 else 0)


def _spans(source_map: str) -> Iterator[tuple[int, int, int]]:
    """The compiler's compressed source map: an empty field is the one before."""
    last = ["0", "0", "-1"]
    for entry in source_map.split(";"):
        fields = entry.split(":")[:3]
        last = [new or old for new, old in zip([*fields, "", "", ""][:3], last, strict=True)]
        yield int(last[0]), int(last[1]), int(last[2])


@dataclass(frozen=True)
class Coverage:
    """What ran, in places of the sources."""

    build: Build
    statements: Mapping[str, set[Place]]
    """By test."""
    outcomes: set[Outcome]
    decided: set[Place]
    """The branches that the build has; what the compiler dropped is no branch."""
    seconds: Mapping[str, float]

    @cached_property
    def all_statements(self) -> set[Place]:
        return {each for found in self.statements.values() for each in found}


def measure(arguments: list[str]) -> tuple[Coverage, int]:
    """Run the tests that ``arguments`` name over a fresh build and say what ran, and pytest's exit code."""
    sources = read_sources()
    with Compiler() as solc:
        build = Build.of(sources, solc)
    notes = Notes()
    note_instructions(notes)
    spurious_dragon.EIP170_CODE_SIZE_LIMIT = 1 << 20  # a build without the optimizer is long
    shanghai.MAX_INITCODE_SIZE = 1 << 21
    with tempfile.TemporaryDirectory() as folder:
        use_artifacts(build.artifacts, Path(folder))
        code = pytest.main(["-q", "-n", "0", "-k", NOT_OF_THIS_BUILD, *arguments], plugins=[notes])
    return understood(build, notes), int(code)


def suite() -> list[str]:
    """The files of tests that run the contracts."""
    return [str(file) for file in sorted(SUITE.glob("test_*.py")) if file.name not in OUTSIDE]


def use_artifacts(found: Mapping[str, Mapping[str, Any]], folder: Path) -> None:
    """Make this process deploy other code than the committed."""
    compiler.write(found, folder)
    abi.ARTIFACTS = folder
    abi.artifact.cache_clear()


def understood(build: Build, notes: Notes) -> Coverage:
    """The notes in places of the sources."""
    maps = _Maps(build)
    statements = {
        test: {s for code, ran in codes.items() for s in maps.statements(code, ran)}
        for test, codes in notes.ran.items()
    }
    outcomes = {
        (build.deciders[where], jumped)
        for code, jumps in notes.jumps.items()
        for at, jumped in jumps
        if (where := maps.places(code).get(at)) in build.deciders and where is not None
    }
    return Coverage(build, statements, outcomes, maps.decided(), notes.seconds)


class _Maps:
    """The place of each instruction of whatever code ran."""

    def __init__(self, build: Build) -> None:
        self._build = build
        self._known: dict[bytes, Mapping[int, Place]] = {}
        self._innermost: dict[Place, Place | None] = {}

    def places(self, code: bytes) -> Mapping[int, Place]:
        if code not in self._known:
            self._known[code] = self._found(code)
        return self._known[code]

    def statements(self, code: bytes, ran: set[int]) -> Iterator[Place]:
        places = self.places(code)
        for where in {places[at] for at in ran if at in places}:
            if where not in self._innermost:
                self._innermost[where] = self._build.statement_of(where)
            if (statement := self._innermost[where]) is not None:
                yield statement

    def decided(self) -> set[Place]:
        """The branches that some contract's code has."""
        return {
            self._build.deciders[where]
            for name in self._build.contracts
            for part in ("bytecode", "deployedBytecode")
            for at, where in self._build.instructions(name, part).items()
            if where in self._build.deciders and self._opcode(name, part, at) == _JUMPI
        }

    def _opcode(self, contract: str, part: str, at: int) -> int:
        code = self._build.contracts[contract]["evm"][part]["object"]
        return int(code[2 * at : 2 * at + 2], 16)

    def _found(self, code: bytes) -> Mapping[int, Place]:
        for name, made in self._build.codes.items():
            if len(code) == len(made.deployed) and made.is_code(code):
                return self._build.instructions(name, "deployedBytecode")
            if code.startswith(made.bytecode):
                return self._build.instructions(name, "bytecode")
        return {}


def table(coverage: Coverage) -> str:
    """One line for each source: statements and branches covered, and what is not."""
    head = f"{'source':26} {'statements':>14} {'branches':>14}  not run"
    rows = [head, "-" * len(head)]
    sums = [0, 0, 0, 0]
    for file, known in coverage.build.statements.items():
        if not known:
            continue
        ran = [each for each in known if each in coverage.all_statements]
        branches = [(each, way) for each in coverage.decided if each.file == file for way in (True, False)]
        taken = [each for each in branches if each in coverage.outcomes]
        counts = [len(ran), len(known), len(taken), len(branches)]
        sums = [a + b for a, b in zip(sums, counts, strict=True)]
        missed = {each for each in known if each not in coverage.all_statements}
        missed |= {each for each, way in branches if (each, way) not in coverage.outcomes}
        lines = ", ".join(map(str, sorted({coverage.build.line(each) for each in missed})))
        rows.append(f"{file:26} {_share(*counts[:2]):>14} {_share(*counts[2:]):>14}  {lines}".rstrip())
    return "\n".join([*rows, f"{'all':26} {_share(*sums[:2]):>14} {_share(*sums[2:]):>14}", ""])


def sources_of_contracts() -> list[Path]:
    """The files of the contracts."""
    return sorted((compiler.HERE / "src").rglob("*.sol"))


def state_of(files: Iterable[Path]) -> str:
    """A digest of what files hold."""
    return hashlib.sha256(b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files)).hexdigest()


def write_map(coverage: Coverage) -> None:
    """Leave for the mutants which test runs what, and how long it takes."""
    ran: dict[str, dict[str, list[tuple[int, int]]]] = {}
    for test, places in coverage.statements.items():
        for each in places:
            ran.setdefault(test, {}).setdefault(each.file, []).append((each.start, each.length))
    known = {
        "contracts": state_of(sources_of_contracts()),
        "tests": {Path(file).name: state_of([Path(file)]) for file in suite()},
        "seconds": coverage.seconds,
        "ran": ran,
    }
    MAP.write_text(json.dumps(known))


def _share(part: int, whole: int) -> str:
    return f"{part}/{whole} {100 * part / whole if whole else 100:5.1f}%"


def main() -> int:
    """Measure, print and write the table."""
    os.environ["SEALTRACE_ENGINE"] = "eth-tester"  # revm does not say which instructions it takes
    coverage, code = measure(suite())
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(table(coverage))
    write_map(coverage)
    print(REPORT.read_text())
    print(f"written to {REPORT.relative_to(Path.cwd()) if REPORT.is_relative_to(Path.cwd()) else REPORT}")
    return code


if __name__ == "__main__":
    sys.exit(main())
