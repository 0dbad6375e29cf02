"""What lies at this node must be what the chain holds fingerprints of: checked before every start and run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from sealtrace.node.errors import DatasetNotFound, DatasetUnreadable
from sealtrace.node.fingerprints import Identity, fingerprint_file, identity
from sealtrace.node.judging import own_algorithms
from sealtrace.node.ports import Engine, Introduction, OwnInput
from sealtrace.node.store import DatasetRow
from sealtrace.node.vault import SaltLost
from sealtrace.protocol.authorization import Facts
from sealtrace.protocol.fingerprint import commitment
from sealtrace.protocol.identifiers import Address, Hex32
from sealtrace.protocol.outcome import Denial
from sealtrace.protocol.receipt import input_commitment


class Datasets(Protocol):
    """Where this node's own datasets are."""

    def dataset(self, dataset: Hex32) -> DatasetRow:
        """The row, or :class:`DatasetNotFound`."""
        ...


class Salts(Protocol):
    """The vault, as far as checking goes."""

    def salt(self, commitment: Hex32) -> bytes:
        """The salt, or :class:`~sealtrace.node.vault.SaltLost`."""
        ...


class Bundles(Protocol):
    """The bundles this node holds."""

    def verified(self, algorithm: Hex32) -> Path:
        """The folder, re-hashed now; raises :class:`BundleGone` or :class:`BundleDiffers`."""
        ...


class BundleGone(Exception):
    """This node holds no bundle of that digest."""


class BundleDiffers(Exception):
    """What lies in the bundle's folder has another digest."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything a run needs from this node, as just checked."""

    inputs: tuple[OwnInput, ...]
    bundles: Mapping[Hex32, Path]
    commitments: Mapping[Hex32, Hex32]
    commitment: Hex32
    files: Mapping[Path, Identity]

    def attesting(self, task: Hex32, statement: Hex32 | None) -> Prepared:
        """The same, with a start that also binds the enclave's statement, where there is one."""
        if statement is None:
            return self
        bound = input_commitment(task, dict(self.commitments), tuple(self.bundles), statement)
        return replace(self, commitment=bound)

    def changed(self) -> Path | None:
        """An input file that is no longer the one that was checked, or ``None``."""
        for path, known in self.files.items():
            try:
                if identity(path) != known:
                    return path
            except DatasetUnreadable:
                return path
        return None


class Unfit(Exception):
    """What lies here does not fit what the chain holds, or cannot be run; ``denial`` says how."""

    def __init__(self, denial: Denial, detail: str) -> None:
        super().__init__(f"{denial.name}: {detail}")
        self.denial = denial
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Holdings:
    """The node's own things."""

    datasets: Datasets
    salts: Salts
    bundles: Bundles
    engine: Engine


def prepare(
    task: Hex32, me: Address, introduction: Introduction, facts: Facts, holdings: Holdings
) -> Prepared:
    """Check everything of ``me`` that the task touches; in order: engine, datasets, bundles, steps, tables.

    The bytes come before the table's form: a file that was altered is called altered, not malformed.
    No code of a bundle runs before its bytes were found to be those that the chain names.

    Raises:
        Unfit: the first thing that does not fit.
    """
    if denial := holdings.engine.why_unable(introduction.spec):
        raise Unfit(denial, "this node's engines do not run such a task")
    inputs: list[OwnInput] = []
    files: dict[Path, Identity] = {}
    commitments: dict[Hex32, Hex32] = {}
    used = {name for step in introduction.spec.steps for name in step.inputs}
    for given in introduction.spec.inputs:
        if given.party != me or given.name not in used:  # what no step uses, no grant was spent on
            continue
        row = _row(given.dataset, holdings)
        if row.path not in files:
            files[row.path] = _rehash(row, facts, holdings.salts)
        commitments[row.id] = row.commitment
        words = (given.id_column, tuple(given.columns), given.part_of)
        inputs.append(OwnInput(given.name, row.id, row.path, *words))
    algorithms = own_algorithms(introduction)
    bundles = {each: _bundle(each, holdings.bundles) for each in algorithms}
    if refusal := holdings.engine.check_steps(introduction.spec, bundles):
        raise Unfit(*refusal)
    for own in inputs:
        if problem := holdings.engine.check(own, introduction.spec, bundles):
            raise Unfit(Denial.INPUT_INVALID, f"input {own.name}: {problem}")
    bound = input_commitment(task, commitments, algorithms)
    return Prepared(tuple(inputs), bundles, commitments, bound, files)


def _row(dataset: Hex32, holdings: Holdings) -> DatasetRow:
    try:
        return holdings.datasets.dataset(dataset)
    except DatasetNotFound as cause:
        raise Unfit(Denial.DATASET_MISSING, str(cause)) from cause


def _rehash(row: DatasetRow, facts: Facts, salts: Salts) -> Identity:
    recorded = facts.datasets[row.id].commitment
    try:
        root, found = fingerprint_file(row.path)
        observed = commitment(root, salts.salt(recorded))
    except (DatasetUnreadable, SaltLost) as cause:
        raise Unfit(Denial.DATASET_MISSING, str(cause)) from cause
    if observed != recorded:
        raise Unfit(Denial.DATASET_ALTERED, f"dataset {row.id}: its bytes have another commitment")
    return found


def _bundle(algorithm: Hex32, bundles: Bundles) -> Path:
    try:
        return bundles.verified(algorithm)
    except BundleGone as cause:
        raise Unfit(Denial.BUNDLE_MISSING, str(cause)) from cause
    except BundleDiffers as cause:
        raise Unfit(Denial.BUNDLE_ALTERED, str(cause)) from cause
