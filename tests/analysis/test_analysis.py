"""The mutator puts faults where it should, and a fault is noticed; the coverage knows what ran."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest
from executed import BUILDING, WANTED, Build, Notes, understood
from mutation import Mutant, Verdict, batches, chosen, mutants, mutated, report
from solidity import Compiler, DoesNotCompile, Place, artifact, read_sources

from sealtrace.contracts import compiler

SOURCES = read_sources()


@pytest.fixture(scope="module")
def solc() -> Iterator[Compiler]:
    try:
        running = Compiler().__enter__()
    except compiler.CompilerMissing:
        pytest.skip("the compiler is not installed: run make contracts")
    yield running
    running.__exit__(None, None, None)


@pytest.fixture(scope="module")
def anchor(solc: Compiler) -> Build:
    """The smallest contract alone, with the tree of every source."""
    return Build(SOURCES, solc.trees(SOURCES), {})


@cache
def every() -> list[Mutant]:
    with Compiler() as running:
        return mutants(Build(SOURCES, running.trees(SOURCES), {}))


def of(words: str) -> list[Mutant]:
    return [each for each in every() if words in each.name]


def test_a_refusal_is_dropped_turned_and_moved_by_one(solc: Compiler) -> None:
    found = {each.replacement for each in of("EvidenceAnchor.anchor: size <= previous")}
    assert found == {"false", "(size < previous)", "(size > previous)"}


def test_an_event_an_assignment_and_a_time_are_mutated(solc: Compiler) -> None:
    kinds = {(each.kind, each.replacement) for each in of("EvidenceAnchor.anchor")}
    assert ("dropped", "{}") in kinds
    assert ("constant", "(block.timestamp + 1)") in kinds
    assert ("constant", "NodeStatus.Active") in kinds  # for NodeStatus.None


def test_interfaces_and_declarations_have_no_mutants(solc: Compiler) -> None:
    assert not [each for each in every() if "interfaces/" in each.place.file]


def test_a_mutants_name_is_given_once(solc: Compiler) -> None:
    names = [each.name for each in every()]
    assert len(names) == len(set(names)) > 500


def test_a_mutant_is_one_change_in_one_file_and_compiles_to_other_code(solc: Compiler, anchor: Build) -> None:
    wanted = ("abi", "evm.bytecode.object", "evm.deployedBytecode")
    usual = solc.build(SOURCES, "EvidenceAnchor", wanted)
    for mutant in of("EvidenceAnchor.anchor: size <= previous"):
        sources = mutated(anchor, mutant)
        assert [name for name in sources if sources[name] != SOURCES[name]] == ["EvidenceAnchor.sol"]
        assert solc.build(sources, "EvidenceAnchor", wanted)["evm"] != usual["evm"]


def test_mutants_that_are_built_together_are_chosen_one_by_one(solc: Compiler, anchor: Build) -> None:
    (batch, *_) = batches(of("EvidenceAnchor.anchor"))
    sources, _ = batch.sources(anchor)
    made = artifact("EvidenceAnchor", solc.build(sources, "EvidenceAnchor", WANTED))
    codes = [chosen({"EvidenceAnchor": made}, n)["EvidenceAnchor"] for n in range(len(batch.mutants) + 1)]
    assert len(batch.mutants) > 3
    assert len({each["deployedBytecode"] for each in codes}) == len(codes)


def test_what_does_not_compile_is_no_mutant_to_be_killed(solc: Compiler) -> None:
    broken = {**SOURCES, "EvidenceAnchor.sol": SOURCES["EvidenceAnchor.sol"].replace("root == 0", "root = x")}
    with pytest.raises(DoesNotCompile, match="EvidenceAnchor"):
        solc.build(broken, "EvidenceAnchor", ("abi",))


def test_survivors_that_nobody_explains_fail_the_run() -> None:
    mutant = Mutant("X.f: a -> b", "condition", Place("X.sol", 0, 1), "b", 7)
    text, good = report([Verdict(mutant, "survived", "3 tests", 1.0)])
    assert not good
    assert "X.sol:7 [condition] X.f: a -> b (3 tests)" in text
    killed = [Verdict(mutant, "killed", "a test", 1.0)] * 20
    assert report(killed)[1]


def test_only_what_ran_is_covered_and_each_outcome_of_a_branch_by_itself(
    solc: Compiler, anchor: Build
) -> None:
    made = solc.build(SOURCES, "EvidenceAnchor", WANTED)
    build = Build(SOURCES, anchor.trees, {"EvidenceAnchor": made})
    refusal, emit = (
        next(each for each in build.statements["EvidenceAnchor.sol"] if words in text(each))
        for words in ("if (root == 0)", "emit CheckpointAnchored")
    )
    places = build.instructions("EvidenceAnchor", "deployedBytecode")
    code = build.codes["EvidenceAnchor"].deployed
    jump = next(at for at, where in places.items() if where == refusal and code[at] == 0x57)
    notes = Notes()
    notes.of(code).update(at for at, where in places.items() if emit.holds(where))
    notes.jumps[code].add((jump, True))

    coverage = understood(build, notes)

    assert coverage.statements[BUILDING] == {emit}
    assert coverage.outcomes == {(refusal, True)}
    assert {each for each in coverage.decided if each.file == "EvidenceAnchor.sol"} >= {refusal}


def text(where: Place) -> str:
    return SOURCES[where.file].encode()[where.start : where.end].decode()
