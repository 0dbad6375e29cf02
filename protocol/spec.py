"""The task specification: what a requester asks for, from which everything on chain follows.

The chain holds the SHA-256 of its canonical JSON, and the terms (:class:`TaskTerms`) are derived from it by
one function, so a node that has the specification can check every word of it against the chain.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from sealtrace.protocol.alignment import BadAlignment, contradictions, read_alignment
from sealtrace.protocol.canonical import NotCanonical, canonical, digest, parse_canonical, sha256
from sealtrace.protocol.faults import first_fault
from sealtrace.protocol.identifiers import AddressField, Hex32, Hex32Field, UnixSeconds
from sealtrace.protocol.records import Protection, TaskTerms, Use

VERSION: Final = "sealtrace.task/1"
MAX_SPEC_BYTES = 256 << 10

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]

Source = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,62}(\.[a-z][a-z0-9_-]{0,62})?$")]
"""A value of an earlier step: ``step.value``, or ``step`` where the value is called like the role it has."""

Epsilon = dict[Name, Annotated[int, Field(gt=0, lt=2**48)]]
"""What is spent of privacy budgets, by input, in millionths."""

PROTECTIONS: dict[tuple[str, str], Protection] = {
    ("mpc", "ABY3"): Protection.MPC_ABY3,
    ("mpc", "CHEETAH"): Protection.MPC_CHEETAH,
    ("mpc", "SEMI2K"): Protection.MPC_SEMI2K_TRUSTED_FIRST_PARTY,
    ("psi", "RR22"): Protection.PSI_RR22,
    ("psi", "ECDH"): Protection.PSI_ECDH,
    ("psi", "KKRT"): Protection.PSI_KKRT,
}

PARTIES: dict[str, tuple[int, int]] = {
    "ABY3": (3, 3),
    "CHEETAH": (2, 2),
    "SEMI2K": (2, 16),
    "RR22": (2, 3),
    "KKRT": (2, 3),
    "ECDH": (2, 3),
}
"""Fewest and most parties. ABY3 is three-party by construction and Cheetah two-party; RR22 and KKRT run
in pairs, ECDH among two or three at once."""


class InvalidSpec(ValueError):
    """A task specification is malformed or contradicts itself; the message names the place."""


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, ser_json_inf_nan="constants")


class Input(_Document):
    """A dataset of one party, by the name the steps use for it.

    ``columns`` are the columns the steps may read, ``id_column`` the one that names a subject.
    """

    name: Name
    party: AddressField
    dataset: Hex32Field
    id_column: str = Field(min_length=1, max_length=128)
    columns: list[Annotated[str, StringConstraints(min_length=1, max_length=128)]] = Field(max_length=4096)


class Step(_Document):
    """One algorithm over some inputs, after other steps.

    ``uses`` names the shared value of an earlier step for each role it has here; the inputs whose data is in
    such a value are inputs of this step too. ``grants`` names the grant for each input, ``epsilon`` what is
    spent of its privacy budget, in millionths.
    """

    id: Name
    algorithm: Hex32Field
    engine: Literal["psi", "mpc"]
    protocol: str
    inputs: list[Name] = Field(min_length=1, max_length=16)
    after: list[Name] = Field(default_factory=list, max_length=16)
    uses: dict[Name, Source] = Field(default_factory=dict, max_length=16)
    grants: dict[Name, Hex32Field]
    epsilon: Epsilon = Field(default_factory=dict)
    params: dict[str, Any] = Field(default_factory=dict)

    @property
    def protection(self) -> Protection:
        """How this step protects its inputs."""
        return PROTECTIONS[self.engine, self.protocol]


class TaskSpec(_Document):
    """A whole task. ``nonce`` tells two tasks of the same words apart."""

    version: Literal["sealtrace.task/1"] = VERSION
    nonce: Hex32Field
    requester: AddressField
    requester_key: Hex32Field
    purpose: str = Field(min_length=1, max_length=1024)
    deadline: int = Field(gt=0, lt=2**32)
    engine_seconds: int = Field(default=600, gt=0, le=86_400)
    parties: list[AddressField] = Field(min_length=1, max_length=16)
    inputs: list[Input] = Field(min_length=1, max_length=64)
    steps: list[Step] = Field(min_length=1, max_length=16)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for problem in _contradictions(self):
            raise ValueError(problem)
        return self

    def canonical(self) -> bytes:
        """The canonical JSON, what is passed around and hashed."""
        return canonical(self.model_dump(mode="json"))

    def digest(self) -> Hex32:
        """The digest the chain holds."""
        return digest(self.model_dump(mode="json"))

    def input(self, name: str) -> Input:
        """The input called ``name``."""
        return next(each for each in self.inputs if each.name == name)

    def terms(self) -> TaskTerms:
        """What the chain is told; the only way from a specification to the chain."""
        protections = Protection(0)
        for step in self.steps:
            protections |= step.protection
        return TaskTerms(
            requester=self.requester,
            spec=self.digest(),
            purpose=purpose_hash(self.purpose),
            protections=protections,
            deadline=UnixSeconds(self.deadline),
            parties=tuple(self.parties),
            uses=tuple(dict.fromkeys(self._uses())),
        )

    def _uses(self) -> Iterator[Use]:
        for step in self.steps:
            for name in step.inputs:
                given = self.input(name)
                party = self.parties.index(given.party)
                spent = step.epsilon.get(name, 0)
                yield Use(party, given.dataset, step.algorithm, step.grants[name], spent)


def read_spec(text: bytes) -> TaskSpec:
    """Read a specification that must be in canonical form.

    Raises:
        InvalidSpec: it is not, or it contradicts itself.
    """
    try:
        return TaskSpec.model_validate(parse_canonical(text, limit_bytes=MAX_SPEC_BYTES))
    except NotCanonical as cause:
        raise InvalidSpec(f"the specification is {cause}") from cause
    except ValidationError as cause:
        raise InvalidSpec(first_fault(cause.errors(), "specification")) from cause


def purpose_hash(purpose: str) -> Hex32:
    """SHA-256 of the purpose in words, as UTF-8."""
    return sha256(purpose.encode())


def _contradictions(spec: TaskSpec) -> Iterator[str]:
    names = [each.name for each in spec.inputs]
    if spec.parties != sorted(set(spec.parties)):
        yield "parties must be distinct and in ascending order"
    if len(set(names)) != len(names):
        yield "two inputs share a name"
    for each in spec.inputs:
        if each.party not in spec.parties:
            yield f"input {each.name}: its party is not among the parties"
    done: set[str] = set()
    for step in spec.steps:
        yield from _step_contradictions(step, set(names), done)
        if step.engine == "psi" and not set(step.inputs) - set(names):
            yield from _alignment_contradictions(spec, step)
        done.add(step.id)
        yield from _use_contradictions(spec, step)
    yield from _shared_grants(spec)


def source_of(role: str, source: str) -> tuple[str, str]:
    """The step and the value that ``source`` names for ``role``."""
    step, _, value = source.partition(".")
    return step, value or role


def _use_contradictions(spec: TaskSpec, step: Step) -> Iterator[str]:
    """A value is used after it was made, under its own protocol, and under grants for all that is in it."""
    before = {each.id: each for each in spec.steps[: spec.steps.index(step)]}
    for role, source in step.uses.items():
        maker = before.get(source_of(role, source)[0])
        if maker is None or maker.id not in step.after:
            yield f"step {step.id}: uses.{role} is of no step that it comes after: {source}"
        elif (maker.engine, maker.protocol) != (step.engine, step.protocol) or step.engine != "mpc":
            yield f"step {step.id}: uses.{role} is shared under another protocol than {step.protocol}"
        elif missing := set(maker.inputs) - set(step.inputs):
            yield f"step {step.id}: uses.{role} holds data of {min(missing)!r}, so that is an input of it too"


def _shared_grants(spec: TaskSpec) -> Iterator[str]:
    """A grant is for one dataset and one algorithm and is spent once: the ledger takes it for no two."""
    named: dict[str, tuple[str, str, int]] = {}
    for step in spec.steps:
        for each in spec.inputs:
            grant = step.grants.get(each.name)
            use = (each.dataset, step.algorithm, step.epsilon.get(each.name, 0))
            if grant and named.setdefault(grant, use) != use:
                yield f"step {step.id}: grant {grant} is named for two datasets, algorithms or epsilons"


def _step_contradictions(step: Step, names: set[str], done: set[str]) -> Iterator[str]:
    if step.id in done:
        yield f"step {step.id} is given twice"
    if (step.engine, step.protocol) not in PROTECTIONS:
        yield f"step {step.id}: {step.engine} knows no protocol {step.protocol!r}"
    if unknown := set(step.inputs) - names:
        yield f"step {step.id}: there is no input {min(unknown)!r}"
    if len(set(step.inputs)) != len(step.inputs):
        yield f"step {step.id}: an input is given twice"
    if set(step.grants) != set(step.inputs):
        yield f"step {step.id}: grants must name each of its inputs, and nothing else"
    if stray := set(step.epsilon) - set(step.inputs):
        yield f"step {step.id}: epsilon names {min(stray)!r}, which is no input of it"
    if late := set(step.after) - done:
        yield f"step {step.id}: {min(late)!r} does not come before it"


def _alignment_contradictions(spec: TaskSpec, step: Step) -> Iterator[str]:
    given = {name: spec.input(name) for name in step.inputs}
    columns = {name: [each.id_column, *each.columns] for name, each in given.items()}
    read_later = any(step.id in later.after and set(later.inputs) & set(given) for later in spec.steps)
    try:
        found = contradictions(read_alignment(step.params), columns, read_later=read_later)
        yield from (f"step {step.id}: {problem}" for problem in found)
    except BadAlignment as cause:
        yield f"step {step.id}: {cause}"


def why_unfit(protocol: str, parties: int) -> str | None:
    """Why ``protocol`` cannot run among so many parties, in words, or ``None``."""
    least, most = PARTIES[protocol]
    if least <= parties <= most:
        return None
    among = f"exactly {least}" if least == most else f"{least} to {most}"
    return f"{protocol} runs among {among} parties, not {parties}"
