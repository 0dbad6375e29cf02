"""From a task file in a user's words to a draft: names become addresses, digests and grants.

.. code-block:: yaml

    purpose: credit risk statistics
    deadline: 2h                      # or Unix seconds, or 2026-01-01T12:00:00Z
    parties: {bank: 0x..., registry: 0x...}      # added to the address book of requester.toml
    inputs:
      bank: {dataset: 0x..., id: applicant, columns: [amount]}     # party: bank, unless it says otherwise
    steps:
      align: {algorithm: psi}         # after all steps above it, over all inputs, unless it says otherwise
      stats: {algorithm: statistics, protocol: ABY3, params: {...}}      # and epsilon: {bank: 0.5}
      train: {algorithm: glm, uses: {features: prepared}, params: {...}}  # of step prepared, still shared
    compute: [bank, registry, lab]    # who computes, if not all; of more than three, the first three
    results: [stats, train]           # what the requester opens, if not the last step
    keep: {credit: train.model}       # what stays shared among its owners, for tasks to come

A step in an enclave is the only one of its task. It names the digest of the attestation policy under which
each input is released, and ``compute`` the party that runs the enclave, which brings no data:

.. code-block:: yaml

    steps:
      train: {algorithm: tee-xgboost, policies: {bank: 0x..., registry: 0x...}, params: {mode: train, ...}}
    compute: [host]
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sealtrace.protocol.canonical import NotCanonical, canonical
from sealtrace.protocol.identifiers import Address, AddressField, Hex32, Hex32Field, UnixSeconds
from sealtrace.protocol.spec import VERSION, InvalidSpec, Name, Source, TaskSpec, read_spec, why_unfit
from sealtrace.requester.errors import AlgorithmUnknownHere, GrantNotFound
from sealtrace.requester.task_files import Located

_UNITS: Mapping[str, int] = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
MOST_TOGETHER = 3
Text = Annotated[str, Field(min_length=1, max_length=1024)]


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class InputWords(_Document):
    """A dataset. ``party`` is a name in the address book, by default the input's own name.

    A table has an ``id``; a part of a kept value has ``part_of``, a name for that value in this task; the
    secret values of an enclave's algorithm have the ``kind`` config.
    """

    dataset: Hex32Field
    id: str = Field(default="", max_length=128)
    columns: list[str] = Field(default_factory=list)
    part_of: Name | None = None
    kind: Literal["table", "config"] = "table"
    party: str | None = None


class StepWords(_Document):
    """A step. ``algorithm`` is the name of a bundle known here, or a digest."""

    algorithm: str
    engine: Literal["psi", "mpc", "tee"] | None = None
    protocol: str | None = None
    inputs: list[Name] | None = None
    after: list[Name] | None = None
    uses: dict[Name, Source] = Field(default_factory=dict)
    grants: dict[Name, Hex32Field] = Field(default_factory=dict)
    policies: dict[Name, Hex32Field] = Field(default_factory=dict)
    epsilon: dict[Name, float] = Field(default_factory=dict)
    params: dict[str, Any] = Field(default_factory=dict)


class TaskWords(_Document):
    """A whole task file. Without a ``nonce`` each submission is a new task."""

    purpose: Text
    deadline: str | int
    engine_seconds: int = 600
    nonce: Hex32Field | None = None
    parties: dict[Name, AddressField] = Field(default_factory=dict)
    inputs: dict[Name, InputWords] = Field(min_length=1)
    steps: dict[Name, StepWords] = Field(min_length=1)
    compute: list[Name] = Field(default_factory=list, max_length=16)
    results: list[Name] = Field(default_factory=list, max_length=16)
    keep: dict[Name, Source] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class KnownAlgorithm:
    """What a step needs to know of a bundle."""

    digest: Hex32
    engine: Literal["psi", "mpc", "tee"]


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks, when and with which nonce, and how names are looked up.

    ``find_grant`` takes owner, dataset, algorithm and purpose.
    """

    address: Address
    encryption_key: Hex32
    now: UnixSeconds
    nonce: Hex32
    book: Mapping[str, Address]
    find_algorithm: Callable[[str], KnownAlgorithm]
    find_grant: Callable[[Address, Hex32, Hex32, str], Hex32 | None]


def read_task(located: Located, asker: Asker) -> dict[str, Any]:
    """The draft a task file stands for. A file that is a whole specification is taken as it is.

    Raises:
        SpecInvalid: it is wrong; with the line.
        GrantNotFound: no grant covers a step that names none.
    """
    if isinstance(located.value, dict) and located.value.get("version") == VERSION:
        return located.value
    try:
        words = TaskWords.model_validate(located.value)
    except ValidationError as cause:
        raise located.invalid(cause) from cause
    book = {**asker.book, **words.parties}
    owners = _owners(words, located, book)
    steps = _steps(words, located, asker, owners)
    compute = _compute(words, located, book, owners, steps)
    return {
        "version": VERSION,
        "nonce": words.nonce or asker.nonce,
        "requester": asker.address,
        "requester_key": asker.encryption_key,
        "purpose": words.purpose,
        "deadline": _deadline(words.deadline, located, asker.now),
        "engine_seconds": words.engine_seconds,
        "parties": sorted({*owners.values(), *compute}),
        "compute": compute,
        "inputs": [
            {
                "name": name,
                "party": owners[name],
                "dataset": each.dataset,
                "id_column": each.id,
                "columns": each.columns,
                "part_of": each.part_of,
                **({"kind": each.kind} if each.kind != "table" else {}),
            }
            for name, each in words.inputs.items()
        ],
        "steps": steps,
        "results": words.results,
        "keep": words.keep,
    }


def settled(draft: Mapping[str, Any]) -> bool:
    """Whether every step names its protocol, so that the draft is a specification already."""
    return all(step.get("protocol") is not None for step in draft["steps"])


def specification(draft: Mapping[str, Any], located: Located | None = None) -> TaskSpec:
    """The specification of a settled draft.

    Raises:
        SpecInvalid: it contradicts itself, or a protocol does not run among so many parties.
        InvalidSpec: the same, when there is no file to point at.
    """
    try:
        spec = read_spec(canonical(dict(draft)))
        _require_suitable(spec)
        return spec
    except (InvalidSpec, NotCanonical) as cause:
        if located is None:
            raise
        why = str(cause).removeprefix("specification: Value error, ")
        raise located.wrong(_place(why), why) from cause


def _require_suitable(spec: TaskSpec) -> None:
    for step in spec.steps:
        if unfit := why_unfit(step.protocol, len(spec.parties_of(step))):
            raise InvalidSpec(f"step {step.id}: {unfit}")


def _owners(words: TaskWords, located: Located, book: Mapping[str, Address]) -> dict[str, Address]:
    owners = {}
    for name, each in words.inputs.items():
        party = each.party or name
        if party not in book:
            why = f"no party {party!r} in the address book: add it under parties, or say party: NAME"
            raise located.wrong(("inputs", name), why)
        owners[name] = book[party]
    return owners


def _compute(
    words: TaskWords,
    located: Located,
    book: Mapping[str, Address],
    owners: Mapping[str, Address],
    steps: Sequence[Mapping[str, Any]],
) -> list[Address]:
    """Those named; where nobody is, and more than three bring data, the first three of them by address.

    ABY3, the protocol for more than two, computes among exactly three: the others share their columns in. An
    enclave is at one party, which is named.
    """
    for at, name in enumerate(words.compute):
        if name not in book:
            why = f"no party {name!r} in the address book: add it under parties"
            raise located.wrong(("compute", at), why)
    named = sorted({book[name] for name in words.compute})
    if within := [each["id"] for each in steps if each["engine"] == "tee"]:
        return _enclave(words, located, owners, named, within[0])
    if named or len(set(owners.values())) <= MOST_TOGETHER:
        return named
    return sorted(set(owners.values()))[:MOST_TOGETHER]


def _steps(
    words: TaskWords, located: Located, asker: Asker, owners: Mapping[str, Address]
) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    for id, step in words.steps.items():
        known = _algorithm(id, step, located, asker)
        inputs = step.inputs if step.inputs is not None else list(words.inputs)
        for name in inputs:
            if name not in words.inputs:
                raise located.wrong(("steps", id, "inputs"), f"there is no input {name!r}")
        engine = step.engine or known.engine
        _check_policies(located, id, step, engine, inputs)
        after = step.after if step.after is not None else [each["id"] for each in made]
        entry = {
            "id": id,
            "algorithm": known.digest,
            "engine": engine,
            "inputs": inputs,
            "after": after,
            "uses": step.uses,
            "grants": {name: _grant(words, id, step, name, known, asker, owners) for name in inputs},
            "policies": step.policies,
            "epsilon": {name: round(spent * 1_000_000) for name, spent in step.epsilon.items()},
            "params": step.params,
        }
        made.append(entry if step.protocol is None else {**entry, "protocol": step.protocol})
    return made


def _check_policies(located: Located, id: str, step: StepWords, engine: str, inputs: Sequence[str]) -> None:
    """A step in an enclave names the policy of each of its inputs; no other step names any."""
    place = ("steps", id, "policies")
    for name in step.policies:
        if engine != "tee":
            raise located.wrong((*place, name), "policies are for a step in an enclave")
        if name not in inputs:
            raise located.wrong((*place, name), f"{name!r} is no input of this step")
    if lacking := [name for name in inputs if engine == "tee" and name not in step.policies]:
        why = f"give the digest of the attestation policy for {', '.join(lacking)}: its owner tells it"
        raise located.wrong(place, why)


def _enclave(
    words: TaskWords, located: Located, owners: Mapping[str, Address], named: list[Address], id: str
) -> list[Address]:
    """The one party of the enclave in which the step ``id`` runs."""
    if len(words.steps) > 1:
        raise located.wrong(("steps", id), "an enclave runs one bundle: it must be the only step of its task")
    if len(named) != 1:
        raise located.wrong(("compute",), f"name the one party of the enclave in which {id} runs")
    if named[0] in owners.values():
        raise located.wrong(("compute", 0), "it brings data: name another party for the enclave")
    return named


def _algorithm(id: str, step: StepWords, located: Located, asker: Asker) -> KnownAlgorithm:
    """The bundle known here by this name or digest; a digest with its engine needs no bundle here."""
    try:
        return asker.find_algorithm(step.algorithm)
    except AlgorithmUnknownHere as cause:
        if step.engine is not None and is_hex32(step.algorithm):
            return KnownAlgorithm(Hex32(step.algorithm), step.engine)
        raise located.wrong(("steps", id, "algorithm"), str(cause)) from cause


def is_hex32(text: str) -> bool:
    """Whether ``text`` is a digest in our spelling."""
    return re.fullmatch(r"0x[0-9a-f]{64}", text) is not None


def _grant(
    words: TaskWords,
    id: str,
    step: StepWords,
    name: str,
    known: KnownAlgorithm,
    asker: Asker,
    owners: Mapping[str, Address],
) -> Hex32:
    if name in step.grants:
        return step.grants[name]
    found = asker.find_grant(owners[name], words.inputs[name].dataset, known.digest, words.purpose)
    if found is None:
        raise GrantNotFound(id, name, owners[name])
    return found


def _deadline(given: str | int, located: Located, now: UnixSeconds) -> int:
    if isinstance(given, int):
        return given
    if match := re.fullmatch(r"([1-9][0-9]{0,6})\s*([smhd])", given):
        return now + int(match[1]) * _UNITS[match[2]]
    try:
        moment = dt.datetime.fromisoformat(given)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        why = "give 30m, 2h, 1d, Unix seconds, or a time with its zone such as 2026-01-01T12:00:00Z"
        raise located.wrong(("deadline",), why)
    return int(moment.timestamp())


def _place(message: str) -> tuple[str | int, ...]:
    """Where in a task file a complaint about its specification points, as far as its words tell."""
    found = re.match(r".*?\b(step|input) ([a-z][a-z0-9_-]*)", message)
    return (found[1] + "s", found[2]) if found else ()
