"""Do the tests notice when the contracts are wrong? ``make mutants``

A mutant is our Solidity with one small fault. It is put under the contracts' tests on revm, and killed by
the first test that fails; only tests that run the faulty statement are tried, the quickest first. A mutant
that survives is either a test that is missing, or no fault: then ``equivalent.toml`` says why.

Compiling takes longer than testing, so many mutants are compiled as one: each fault stands beside what it
replaces, and a constant, set in the code afterwards, chooses. With none chosen all tests must pass.

The faults:

1. *condition*: an ``if``'s condition negated; never true (its refusal is gone), or always true.
2. *comparison*: ``<`` for ``<=`` and its opposite, ``==`` for ``!=`` and so on.
3. *connective*: ``&&`` for ``||`` and back, each operand alone; a negation dropped.
4. *arithmetic*: ``+`` for ``-``, ``&`` for ``|``, ``++`` for ``--`` and so on, also in ``+=``.
5. *constant*: a number one higher, ``true`` for ``false`` and back, an enum's next value, a second later.
6. *dropped*: an assignment, a call made for its effect, an emit, a ``delete``, a refusal, a modifier.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from executed import (
    BUILDING,
    MAP,
    NOT_OF_THIS_BUILD,
    Build,
    own_files,
    sources_of_contracts,
    state_of,
    suite,
    use_artifacts,
)
from solidity import Compiler, DoesNotCompile, Node, Place, artifact, place, read_sources, walk

HERE = Path(__file__).resolve().parent
REPORT = HERE.parent.parent / "build" / "mutants.txt"
KNOWN = REPORT.with_suffix(".json")
EQUIVALENT = HERE / "equivalent.toml"
GOAL = 95.0
PROCESSES = 2
LIMIT_S = 180

_COMPARISONS = {
    "<": ("<=", ">="),
    "<=": ("<", ">"),
    ">": (">=", "<="),
    ">=": (">", "<"),
    "==": ("!=",),
    "!=": ("==",),
}
_ARITHMETIC = {
    "+": "-",
    "-": "+",
    "*": "/",
    "/": "*",
    "%": "*",
    "&": "|",
    "|": "&",
    "^": "&",
    "<<": ">>",
    ">>": "<<",
    "++": "--",
    "--": "++",
}
GAS_TEST = "test_the_greatest_task_fits_a_block"
"""Choosing costs gas, so what asks for little gas is no judge."""

_values: dict[str, list[str]] = {}
_WANTED = ("abi", "evm.bytecode.object", "evm.deployedBytecode")

Replacement = tuple[str, Place, str]
"""The fault's kind, the place it is put, and what is written there."""


@dataclass(frozen=True)
class Mutant:
    """One fault. Its name stays when lines move. ``form`` says how it can stand beside what it replaces."""

    name: str
    kind: str
    place: Place
    replacement: str
    line: int
    form: str = "expression"


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant: ``killed``, ``survived``, or ``invalid``: no code, or no other code."""

    mutant: Mutant
    outcome: str
    by: str
    seconds: float


# making mutants


def mutants(build: Build) -> list[Mutant]:
    """Every mutant of our sources, in the order of the text."""
    _values.update(_enums(build))
    found = [each for file in own_files(build.sources) for each in _of_file(build, file)]
    return sorted(found, key=lambda each: (each.place.file, each.place.start, each.replacement))


def mutated(build: Build, mutant: Mutant) -> dict[str, str]:
    """The sources with the fault."""
    text = build.sources[mutant.place.file].encode()
    changed = text[: mutant.place.start] + mutant.replacement.encode() + text[mutant.place.end :]
    return {**build.sources, mutant.place.file: changed.decode()}


def _of_file(build: Build, file: str) -> Iterator[Mutant]:
    text = build.sources[file].encode()
    seen: Counter[str] = Counter()
    done: set[tuple[Place, str]] = set()
    for node, above in walk(build.tree(file)):
        for kind, where, written in _faults(node, above, file, text):
            if (where, written) in done:
                continue
            done.add((where, written))
            name = f"{_function(above, file)}: {_short(_said(text, where))} -> {_short(written)}"
            seen[name] += 1
            name = f"{name} #{seen[name]}" if seen[name] > 1 else name
            yield Mutant(name, kind, where, written, build.line(where), _form(node, above, where))


def _faults(node: Node, above: tuple[Node, ...], file: str, text: bytes) -> Iterator[Replacement]:
    if any(each["nodeType"] in ("ErrorDefinition", "EventDefinition", "ImportDirective") for each in above):
        return
    maker = _MAKERS.get(node["nodeType"])
    if maker is not None:
        yield from maker(node, above, file, text)


def _of_if(node: Node, above: tuple[Node, ...], file: str, text: bytes) -> Iterator[Replacement]:
    where = place(node["condition"], file)
    if node["condition"].get("operator") not in _COMPARISONS:  # whose opposite is a comparison of its own
        yield "condition", where, f"!({_said(text, where)})"
    yield "condition", where, "false"
    if not _only_refuses(node["trueBody"]):
        yield "condition", where, "true"


def _of_conditional(node: Node, above: tuple[Node, ...], file: str, text: bytes) -> Iterator[Replacement]:
    where = place(node["condition"], file)
    yield "condition", where, f"!({_said(text, where)})"


def _of_binary(node: Node, above: tuple[Node, ...], file: str, text: bytes) -> Iterator[Replacement]:
    where = place(node, file)
    left, right = (_said(text, place(node[side], file)) for side in ("leftExpression", "rightExpression"))
    operator = node["operator"]
    for other in _COMPARISONS.get(operator, ()):
        yield "comparison", where, f"({left} {other} {right})"
    if operator in ("&&", "||"):
        yield "connective", where, f"({left} {'||' if operator == '&&' else '&&'} {right})"
        yield "connective", where, f"({left})"
        yield "connective", where, f"({right})"
    if operator in _ARITHMETIC:
        yield "arithmetic", where, f"({left} {_ARITHMETIC[operator]} {right})"


def _of_unary(node: Node, above: tuple[Node, ...], file: str, text: bytes) -> Iterator[Replacement]:
    where, inner = place(node, file), _said(text, place(node["subExpression"], file))
    operator = node["operator"]
    if operator in ("!", "~"):
        yield "connective", where, inner
    if operator in ("++", "--"):
        other = _ARITHMETIC[operator]
        yield "arithmetic", where, f"{other}{inner}" if node["prefix"] else f"{inner}{other}"


def _of_assignment(node: Node, above: tuple[Node, ...], file: str, text: bytes) -> Iterator[Replacement]:
    operator = node["operator"].removesuffix("=")
    if operator in _ARITHMETIC:
        sides = (place(node[side], file) for side in ("leftHandSide", "rightHandSide"))
        left, right = (_said(text, side) for side in sides)
        yield "arithmetic", place(node, file), f"{left} {_ARITHMETIC[operator]}= {right}"
        yield "arithmetic", place(node, file), f"{left} = {right}"


def _of_statement(node: Node, above: tuple[Node, ...], file: str, text: bytes) -> Iterator[Replacement]:
    if above[-1]["nodeType"] == "ForStatement":
        return  # without its step a loop does not end
    where = place(node, file)
    yield "dropped", Place(file, where.start, where.length + 1), "{}"


def _of_refusal(node: Node, above: tuple[Node, ...], file: str, text: bytes) -> Iterator[Replacement]:
    inside = above[-1] if above[-1]["nodeType"] != "Block" else above[-2]
    if inside["nodeType"] != "IfStatement" or inside.get("falseBody") is not None:
        yield from _of_statement(node, above, file, text)


def _of_modifier(node: Node, above: tuple[Node, ...], file: str, text: bytes) -> Iterator[Replacement]:
    if node.get("kind") == "modifierInvocation":
        yield "dropped", place(node, file), ""


def _of_literal(node: Node, above: tuple[Node, ...], file: str, text: bytes) -> Iterator[Replacement]:
    where = place(node, file)
    if node["kind"] == "bool":
        yield "constant", where, "false" if node["value"] == "true" else "true"
    elif node["kind"] == "number" and not node.get("subdenomination") and node["value"].isdigit():
        yield "constant", where, str(int(node["value"]) + 1)


def _of_member(node: Node, above: tuple[Node, ...], file: str, text: bytes) -> Iterator[Replacement]:
    where, said = place(node, file), _said(text, place(node, file))
    meaning = node["expression"].get("typeDescriptions", {}).get("typeString", "")
    if said == "block.timestamp":
        yield "constant", where, "(block.timestamp + 1)"
    elif meaning.startswith("type(enum "):
        names = _values[meaning.removeprefix("type(enum ").removesuffix(")").rsplit(".", 1)[-1]]
        other = names[(names.index(node["memberName"]) + 1) % len(names)]
        yield "constant", where, f"{_said(text, place(node['expression'], file))}.{other}"


_MAKERS: Mapping[str, Callable[[Node, tuple[Node, ...], str, bytes], Iterator[Replacement]]] = {
    "IfStatement": _of_if,
    "Conditional": _of_conditional,
    "BinaryOperation": _of_binary,
    "UnaryOperation": _of_unary,
    "Assignment": _of_assignment,
    "ExpressionStatement": _of_statement,
    "EmitStatement": _of_statement,
    "RevertStatement": _of_refusal,
    "ModifierInvocation": _of_modifier,
    "Literal": _of_literal,
    "MemberAccess": _of_member,
}


def _enums(build: Build) -> dict[str, list[str]]:
    """The values of every enum, by its name."""
    return {
        node["name"]: [member["name"] for member in node["members"]]
        for file in build.sources
        for node, _ in walk(build.tree(file))
        if node["nodeType"] == "EnumDefinition"
    }


def _form(node: Node, above: tuple[Node, ...], where: Place) -> str:
    """``statement`` where a whole one is replaced, ``alone`` where nothing can stand beside it."""
    if node["nodeType"] == "ModifierInvocation":
        return "alone"
    if node["nodeType"] == "Assignment":
        return "assignment" if above[-1]["nodeType"] == "ExpressionStatement" else "alone"
    return (
        "statement"
        if node["nodeType"].endswith("Statement") and where.end > place(node, where.file).end
        else "expression"
    )


def _only_refuses(body: Node) -> bool:
    statements = body.get("statements", [body]) if body["nodeType"] == "Block" else [body]
    return all(each["nodeType"] == "RevertStatement" for each in statements)


def _function(above: Sequence[Node], file: str) -> str:
    names = [each.get("name") or "constructor" for each in above if each["nodeType"] == "FunctionDefinition"]
    return ".".join([file.removesuffix(".sol"), *names[-1:]])


def _said(text: bytes, where: Place) -> str:
    return text[where.start : where.end].decode()


def _short(words: str) -> str:
    flat = " ".join(words.split())
    return flat if len(flat) <= 70 else f"{flat[:40]} ... {flat[-25:]}"


# many mutants in one build

MARK = int.from_bytes(hashlib.sha256(b"the mutant that is chosen").digest())
"""As long as can be, and nothing that the compiler could write shorter."""

_CHOICE = "Choice.sol"
_CHOOSING = f"""// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;
uint256 constant CHOSEN = 0x{MARK:064x};
"""


@dataclass
class Batch:
    """Mutants of one file none of which is inside another; a mutant's number is its place in the list."""

    file: str
    mutants: list[Mutant] = field(default_factory=list)

    def takes(self, mutant: Mutant) -> bool:
        return all(
            each.place == mutant.place or each.place.end <= mutant.place.start for each in self.mutants[-1:]
        )

    def sources(self, build: Build) -> tuple[dict[str, str], dict[Place, Place]]:
        """The sources with all faults, each where ``CHOSEN`` is its number; and where each place went."""
        text = build.sources[self.file].encode()
        written, done, went = b"", 0, {}
        for where, group in groupby(enumerate(self.mutants, 1), lambda each: each[1].place):
            written += text[done : where.start]
            choice = _choice(list(group), _said(text, where)).encode()
            went[where] = Place(self.file, len(written), len(choice))
            written, done = written + choice, where.end
        whole = (written + text[done:]).decode() + f'\nimport {{CHOSEN}} from "./{_CHOICE}";\n'
        return {**build.sources, self.file: whole, _CHOICE: _CHOOSING}, went

    def parts(self, refused: DoesNotCompile, went: Mapping[Place, Place]) -> list[Batch]:
        """Smaller batches, where the compiler refused this: without those it names, or halves."""
        bad = {where for where, new in went.items() if any(map(new.meets, refused.places))}
        good = [each for each in self.mutants if each.place not in bad]
        if bad and good:
            return [Batch(self.file, good)]
        half = len(self.mutants) // 2
        halves = (self.mutants[:half], self.mutants[half:])
        return [Batch(self.file, each) for each in halves if half and each] if not bad else []


def _choice(group: Sequence[tuple[int, Mutant]], usual: str) -> str:
    if group[0][1].form == "expression":
        choices = "".join(f"CHOSEN == {number} ? {each.replacement} : " for number, each in group)
        return f"({choices}{usual})"
    if group[0][1].form == "assignment":  # its semicolon follows
        parts = "".join(f"if (CHOSEN == {number}) {{ {each.replacement}; }} else " for number, each in group)
        return f"{parts}{usual}"
    parts = "".join(f"if (CHOSEN == {number}) {{}} else " for number, _ in group)
    return f"{{ {parts}{{ {usual} }} }}"


def batches(wanted: Iterable[Mutant]) -> list[Batch]:
    """The fewest batches that a greedy choice finds; a mutant that must be alone is in none."""
    found: list[Batch] = []
    fitting = [each for each in wanted if each.form != "alone"]
    for mutant in sorted(fitting, key=lambda each: (each.place.file, each.place.start, each.place.end)):
        mine = (each for each in found if each.file == mutant.place.file and each.takes(mutant))
        batch = next(mine, None)
        if batch is None:
            found.append(batch := Batch(mutant.place.file))
        batch.mutants.append(mutant)
    return found


# judging them


class Chosen:
    """A pytest plugin: only these tests, in this order; the first that fails is kept."""

    def __init__(self, tests: Sequence[str]) -> None:
        self._rank = {name: i for i, name in enumerate(tests)}
        self.failed = ""

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items[:] = sorted((i for i in items if i.nodeid in self._rank), key=lambda i: self._rank[i.nodeid])

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed and not self.failed:
            self.failed = report.nodeid


Code = Mapping[str, Mapping[str, Any]]


class Judge:
    """Compiles mutants and puts them under the tests, one at a time."""

    def __init__(self, build: Build, tests: Callable[[Mutant], list[str]]) -> None:
        self._build = build
        self._tests = tests
        self._solc = Compiler().__enter__()
        self._usual = build.artifacts

    def build(self, batch: Batch) -> list[tuple[Batch, Code]]:
        """The code of a batch, or of its parts; left is what cannot be built so or fails a test unmutated."""
        sources, went = batch.sources(self._build)
        try:
            code = self._code(sources, batch.file)
        except DoesNotCompile as refused:
            return [built for part in batch.parts(refused, went) for built in self.build(part)]
        if not any(f"{MARK:064x}" in each["bytecode"] for each in code.values()):
            print(f"{batch.file}: the compiler has chosen; {len(batch.mutants)} mutants are built alone")
            return []
        tests = list(dict.fromkeys(test for each in batch.mutants for test in self._tests(each)))
        outcome, by = tried(chosen(code, 0), tests) if tests else ("survived", "")
        if outcome != "survived":
            print(f"{batch.file}: {len(batch.mutants)} mutants fail {by} unmutated; each is built alone")
        return [(batch, code)] if outcome == "survived" else []

    def judge(self, mutant: Mutant, code: Code | None) -> Verdict:
        """``code`` is the mutant's, or none, and it is compiled alone."""
        began = time.monotonic()
        outcome, by = self._outcome(mutant, code)
        return Verdict(mutant, outcome, by, time.monotonic() - began)

    def _outcome(self, mutant: Mutant, code: Code | None) -> tuple[str, str]:
        if code is None:
            try:
                code = self._code(mutated(self._build, mutant), mutant.place.file)
            except DoesNotCompile as refused:
                return "invalid", str(refused).splitlines()[0]
            if all(code[name]["bytecode"] == usual["bytecode"] for name, usual in self._usual.items()):
                return "invalid", "it is the same code"
        tests = self._tests(mutant)
        return tried(code, tests) if tests else ("survived", "no test runs it")

    def _code(self, sources: Mapping[str, str], file: str) -> dict[str, dict[str, Any]]:
        """All contracts; only those that hold the faulty file are compiled again."""
        holders = [name for name, parts in self._build.parts.items() if file in parts]
        again = {name: artifact(name, self._solc.build(sources, name, _WANTED)) for name in holders}
        return self._usual | again


def chosen(code: Code, number: int) -> Code:
    """The code of a batch with one of its mutants chosen."""
    mark, wanted = f"{MARK:064x}", f"{number:064x}"
    return {
        name: {
            **each,
            **{part: each[part].replace(mark, wanted) for part in ("bytecode", "deployedBytecode")},
        }
        for name, each in code.items()
    }


def tried(code: Code, tests: Sequence[str]) -> tuple[str, str]:
    """Run ``tests`` over ``code`` in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "failed"
        child = os.fork()
        if child == 0:
            _run_and_leave(code, tests, Path(folder), told)
        status = _waited(child)
        if status is None:
            return "killed", "the tests did not end"
        failed = told.read_text() if told.is_file() else ""
        if status == 0:
            return "survived", f"{len(tests)} tests"
        if status == 1 and failed:
            return "killed", failed
        raise RuntimeError(f"the tests ended with {status}")


def _run_and_leave(code: Code, tests: Sequence[str], folder: Path, told: Path) -> None:
    status = 70
    try:
        import pytest

        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        use_artifacts(code, folder)
        chosen = Chosen(tests)
        files = sorted({name.split("::")[0] for name in tests})
        status = int(pytest.main(["-q", "-x", "-n", "0", "--no-header", "--tb=no", *files], plugins=[chosen]))
        told.write_text(chosen.failed)
    finally:
        os._exit(status)


def _waited(child: int) -> int | None:
    until = time.monotonic() + LIMIT_S
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def what_runs(build: Build) -> Callable[[Mutant], list[str]]:
    """Which tests run a mutant's place, from the map that ``make coverage`` leaves.

    A test of a file that changed since is taken to run everything.
    """
    if not MAP.is_file() or json.loads(MAP.read_text())["contracts"] != state_of(sources_of_contracts()):
        subprocess.run([sys.executable, str(HERE / "executed.py")], check=True)
    known = json.loads(MAP.read_text())
    fresh = {file for file in suite() if known["tests"].get(Path(file).name) == state_of([Path(file)])}
    everywhere = [test for test in _collected() if _file_of(test) not in {Path(each).name for each in fresh}]
    ran = {
        test: {Place(file, start, length) for file, spans in found.items() for start, length in spans}
        for test, found in known["ran"].items()
    }
    quick = [test for test in sorted(known["seconds"], key=known["seconds"].get) if GAS_TEST not in test]

    def tests(mutant: Mutant) -> list[str]:
        where = build.statement_of(Place(mutant.place.file, mutant.place.start, 1))
        found = {
            test
            for test, places in ran.items()
            if (where in places if where else any(each.file == mutant.place.file for each in places))
        }
        some = [test for test in quick if test in found and test not in everywhere]
        return [*(some or (quick[:1] if BUILDING in found else [])), *everywhere]

    return tests


def _file_of(test: str) -> str:
    return Path(test.split("::")[0]).name


def _collected() -> list[str]:
    """All tests of the suite. The modules of the tests are imported here once, and not by each child."""
    import pytest

    class Names:
        def __init__(self) -> None:
            self.found: list[str] = []

        def pytest_collection_modifyitems(self, items: list[Any]) -> None:
            self.found = [item.nodeid for item in items]

    names = Names()
    options = ["-q", "--collect-only", "-n", "0", "-k", NOT_OF_THIS_BUILD]  # imports them, too
    with open(os.devnull, "w") as sink, redirect_stdout(sink):
        pytest.main([*options, *suite()], plugins=[names])
    return names.found


_judge: Judge | None = None
_codes: dict[str, tuple[Code, int]] = {}


def _begin(build: Build, codes: dict[str, tuple[Code, int]]) -> None:
    global _judge, _codes
    os.environ["SEALTRACE_ENGINE"] = "revm"
    _judge, _codes = Judge(build, what_runs(build)), codes


def _built(batch: Batch) -> list[tuple[Batch, Code]]:
    assert _judge is not None
    return _judge.build(batch)


def _judged(mutant: Mutant) -> Verdict:
    assert _judge is not None
    code = _codes.get(mutant.name)
    return _judge.judge(mutant, chosen(*code) if code else None)


# telling


def known_verdicts(every: Iterable[Mutant]) -> dict[str, Verdict]:
    """What the last run over these contracts said, by name."""
    told = json.loads(KNOWN.read_text()) if KNOWN.is_file() else {}
    if told.get("contracts") != state_of(sources_of_contracts()):
        return {}
    by_name = {each.name: each for each in every}
    return {
        name: Verdict(by_name[name], outcome, by, 0.0) for name, (outcome, by) in told["verdicts"].items()
    }


def keep(verdicts: Mapping[str, Verdict]) -> None:
    """Leave the verdicts for a run over the survivors."""
    said = {name: (each.outcome, each.by) for name, each in verdicts.items()}
    KNOWN.write_text(json.dumps({"contracts": state_of(sources_of_contracts()), "verdicts": said}))


def equivalents() -> dict[str, str]:
    """Mutants that are no fault, and why."""
    found = tomllib.loads(EQUIVALENT.read_text())["mutant"] if EQUIVALENT.is_file() else []
    return {each["name"]: " ".join(each["because"].split()) for each in found}


def report(verdicts: Iterable[Verdict]) -> tuple[str, bool]:
    """The report, and whether the goal is met and every survivor explained."""
    known = equivalents()
    verdicts = sorted(verdicts, key=lambda each: (each.mutant.place.file, each.mutant.place.start))
    judged = [each for each in verdicts if each.outcome != "invalid"]
    killed = [each for each in judged if each.outcome == "killed"]
    survived = [each for each in judged if each.outcome == "survived"]
    open_ = [each for each in survived if each.mutant.name not in known]
    share = 100 * len(killed) / len(judged) if judged else 100.0
    rows = [f"{'source':26} {'mutants':>8} {'killed':>8} {'equivalent':>11} {'survived':>9}"]
    for file in dict.fromkeys(each.mutant.place.file for each in judged):
        rows.append(
            _row(
                file,
                *(
                    [e for e in group if e.mutant.place.file == file]
                    for group in (judged, killed, survived, open_)
                ),
            )
        )
    rows.append(_row("all", judged, killed, survived, open_))
    rows.append("")
    for kind in sorted({each.mutant.kind for each in judged}):
        of = [each for each in judged if each.mutant.kind == kind]
        rows.append(f"{kind:26} {len(of):8} {sum(each.outcome == 'killed' for each in of):8}")
    invalid = len(verdicts) - len(judged)
    rows += [
        "",
        f"{share:.1f} % killed of {len(judged)}; {invalid} more did not compile or changed no code.",
        "",
    ]
    rows += ["Survived, and nobody says why:", *map(_line, open_), ""] if open_ else []
    explained = [each for each in survived if each.mutant.name in known]
    rows += ["Survived, and no fault:", *(f"{_line(e)}\n      {known[e.mutant.name]}" for e in explained), ""]
    names = {each.mutant.name for each in survived}
    if stale := sorted(set(known) - names):
        rows += ["In equivalent.toml, and killed, gone or not judged:", *(f"  {each}" for each in stale), ""]
    return "\n".join(rows), share >= GOAL and not open_


def _row(
    name: str, judged: list[Verdict], killed: list[Verdict], survived: list[Verdict], open_: list[Verdict]
) -> str:
    counts = (len(judged), len(killed), len(survived) - len(open_), len(open_))
    return f"{name:26} {counts[0]:8} {counts[1]:8} {counts[2]:11} {counts[3]:9}"


def _line(each: Verdict) -> str:
    return (
        f"  {each.mutant.place.file}:{each.mutant.line} [{each.mutant.kind}] {each.mutant.name} ({each.by})"
    )


def _all_built(build: Build, wanted: list[Mutant]) -> dict[str, tuple[Code, int]]:
    """By a mutant's name, the code it is in and its number there."""
    found: dict[str, tuple[Code, int]] = {}
    began = time.monotonic()
    with multiprocessing.get_context("fork").Pool(PROCESSES, _begin, (build, {})) as pool:
        for built in pool.imap_unordered(_built, batches(wanted)):
            for batch, code in built:
                found |= {each.name: (code, number) for number, each in enumerate(batch.mutants, 1)}
    print(f"{len(found)} of {len(wanted)} mutants built together in {time.monotonic() - began:.0f} s")
    return found


def judged(build: Build, wanted: list[Mutant]) -> Iterator[Verdict]:
    """Judge them all, two at a time, with a mark for each."""
    os.environ["SEALTRACE_ENGINE"] = "revm"
    what_runs(build)  # once, before there are two processes
    codes = _all_built(build, wanted)
    with multiprocessing.get_context("fork").Pool(PROCESSES, _begin, (build, codes)) as pool:
        for count, verdict in enumerate(pool.imap_unordered(_judged, wanted), 1):
            mark = {"killed": ".", "survived": "S", "invalid": "-"}[verdict.outcome]
            print(mark, end="" if count % 100 else f" {count}/{len(wanted)}\n", flush=True)
            yield verdict


def main() -> int:
    """Judge all mutants, those whose name holds the words that are given, or the last run's survivors."""
    parser = argparse.ArgumentParser(description="Do the tests notice when the contracts are wrong?")
    parser.add_argument("words", nargs="*", help="only mutants whose name holds one of these")
    parser.add_argument("--list", action="store_true", help="name the mutants and stop")
    parser.add_argument(
        "--survivors",
        action="store_true",
        help="only those that survived; tests were added, none was changed",
    )
    given = parser.parse_args()
    with Compiler() as solc:
        build = Build.of(read_sources(), solc)
    every = mutants(build)
    wanted = [each for each in every if not given.words or any(word in each.name for word in given.words)]
    known = known_verdicts(every) if given.survivors or given.words else {}
    if given.survivors:
        wanted = [e for e in wanted if e.name not in known or known[e.name].outcome == "survived"]
    if given.list:
        print("\n".join(f"{each.place.file}:{each.line} [{each.kind}] {each.name}" for each in wanted))
        return 0
    fresh = {verdict.mutant.name: verdict for verdict in judged(build, wanted)}
    text, good = report(fresh.values() if given.words else (known | fresh).values())
    REPORT.parent.mkdir(exist_ok=True)
    keep(known | fresh)
    REPORT.write_text(text)
    print(f"\n{text}written to {REPORT}")
    return 0 if good or given.words else 1


if __name__ == "__main__":
    sys.exit(main())
