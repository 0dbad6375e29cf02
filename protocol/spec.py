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
from sealtrace.protocol.identifiers import Address, AddressField, Hex32, Hex32Field, UnixSeconds
from sealtrace.protocol.records import Protection, TaskTerms, Use

VERSION: Final = "sealtrace.task/1"
MAX_SPEC_BYTES = 256 << 10

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]

Source = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,62}(\.[a-z][a-z0-9_-]{0,62})?$")]
"""A value of an earlier step: ``step.value``, or ``step`` where the value is called like the role it has; or
the value whose parts are inputs, by the name that they give in ``part_of``."""

Epsilon = dict[Name, Annotated[int, Field(gt=0, lt=2**48)]]
"""What is spent of privacy budgets, by input, in millionths."""

PROTECTIONS: dict[tuple[str, str], Protection] = {
    ("mpc", "ABY3"): Protection.MPC_ABY3,
    ("mpc", "CHEETAH"): Protection.MPC_CHEETAH,
    ("mpc", "SEMI2K"): Protection.MPC_SEMI2K_TRUSTED_FIRST_PARTY,
    ("psi", "RR22"): Protection.PSI_RR22,
    ("psi", "ECDH"): Protection.PSI_ECDH,
    ("psi", "KKRT"): Protection.PSI_KKRT,
    ("tee", "HARDWARE"): Protection.TEE_HARDWARE,
    ("tee", "SIMULATED"): Protection.TEE_SIMULATED,
}

PARTIES: dict[str, tuple[int, int]] = {
    "ABY3": (3, 3),
    "CHEETAH": (2, 2),
    "SEMI2K": (2, 16),
    "RR22": (2, 16),
    "KKRT": (2, 16),
    "ECDH": (2, 3),
    "HARDWARE": (1, 1),
    "SIMULATED": (1, 1),
}
"""Fewest and most parties that a step runs among. ABY3 is three-party by construction and Cheetah two-party;
RR22 and KKRT run in pairs, one after the other, ECDH among two or three at once; an enclave is at one."""


class InvalidSpec(ValueError):
    """A task specification is malformed or contradicts itself; the message names the place."""


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, ser_json_inf_nan="constants")


class Input(_Document):
    """A dataset of one party, by the name the steps use for it.

    A table: ``columns`` are the columns the steps may read, ``id_column`` the one that names a subject. Or,
    with ``part_of``, the party's part of a value that an earlier task left shared: it has neither. Nor has
    an input of kind ``config``: the secret values to which the manifest of an enclave's algorithm commits.
    """

    name: Name
    party: AddressField
    dataset: Hex32Field
    id_column: str = Field(default="", max_length=128)
    columns: list[Annotated[str, StringConstraints(min_length=1, max_length=128)]] = Field(
        default_factory=list, max_length=4096
    )
    part_of: Name | None = None
    kind: Literal["table", "config"] = Field(default="table", exclude_if=lambda kind: kind == "table")
    """Left out of the canonical form where it is ``table``: those specifications keep their digests."""

    @property
    def is_table(self) -> bool:
        """Whether it has rows."""
        return self.part_of is None and self.kind == "table"


class StepOutline(_Document):
    """One algorithm over some inputs, after other steps; under which protocol, its kinds say.

    ``uses`` names the shared value of an earlier step for each role it has here; the inputs whose data is in
    such a value are inputs of this step too. ``grants`` names the grant for each input, ``epsilon`` what is
    spent of its privacy budget, in millionths. ``policies`` names, in a step in an enclave, the attestation
    policy under which the owner of each input releases it, by its digest.
    """

    id: Name
    algorithm: Hex32Field
    engine: Literal["psi", "mpc", "tee"]
    inputs: list[Name] = Field(min_length=1, max_length=16)
    after: list[Name] = Field(default_factory=list, max_length=16)
    uses: dict[Name, Source] = Field(default_factory=dict, max_length=16)
    grants: dict[Name, Hex32Field]
    policies: dict[Name, Hex32Field] = Field(default_factory=dict, max_length=16)
    epsilon: Epsilon = Field(default_factory=dict)
    params: dict[str, Any] = Field(default_factory=dict)


class Step(StepOutline):
    """A step of a whole task."""

    protocol: str

    @property
    def protection(self) -> Protection:
        """How this step protects its inputs."""
        return PROTECTIONS[self.engine, self.protocol]


class TaskOutline(_Document):
    """What a task and a draft of one have in common. ``nonce`` tells two tasks of the same words apart.

    ``compute`` are the parties among which MPC steps run, all where it is empty; the others only share their
    columns into them. A step in an enclave runs at the one party that ``compute`` names. ``results`` are the
    steps that the requester opens, the last one where it is empty.
    ``keep`` names shared values that stay with the parties after the task: whoever computed keeps its share,
    and whoever's data is in the value a say in its later use.
    """

    version: Literal["sealtrace.task/1"] = VERSION
    nonce: Hex32Field
    requester: AddressField
    requester_key: Hex32Field
    purpose: str = Field(min_length=1, max_length=1024)
    deadline: int = Field(gt=0, lt=2**32)
    engine_seconds: int = Field(default=600, gt=0, le=86_400)
    parties: list[AddressField] = Field(min_length=1, max_length=16)
    compute: list[AddressField] = Field(default_factory=list, max_length=16)
    inputs: list[Input] = Field(min_length=1, max_length=64)
    results: list[Name] = Field(default_factory=list, max_length=16)
    keep: dict[Name, Source] = Field(default_factory=dict, max_length=16)

    @property
    def computing(self) -> tuple[Address, ...]:
        """The parties among which MPC steps run, ascending: a party's place is its rank there."""
        return tuple(self.compute or self.parties)

    def parties_of(self, step: StepOutline) -> tuple[Address, ...]:
        """The parties among which ``step`` runs, ascending: who computes, or whose inputs are aligned."""
        if step.engine != "psi":
            return self.computing
        return tuple(sorted({each.party for each in self.inputs if each.name in step.inputs}))


class TaskSpec(TaskOutline):
    """A whole task."""

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

    def step(self, id: str) -> Step:
        """The step called ``id``."""
        return next(each for each in self.steps if each.id == id)

    @property
    def helpers(self) -> tuple[Address, ...]:
        """The parties that compute and bring data to no step: the registrar must have admitted them to it."""
        owners = {self.input(name).party for step in self.steps for name in step.inputs}
        return tuple(each for each in self.computing if each not in owners)

    @property
    def enclave(self) -> Address | None:
        """The party at which the task's one step runs in an enclave; ``None`` where it is no such task."""
        return self.computing[0] if self.steps[0].engine == "tee" else None

    @property
    def opened(self) -> tuple[Step, ...]:
        """The steps whose results the requester opens."""
        return tuple(map(self.step, self.results)) or (self.steps[-1],)

    def keepers(self, name: str) -> tuple[Address, ...]:
        """Those who keep a part of ``keep[name]``, ascending: whose data is in it, and who computes.

        An enclave keeps nothing.
        """
        maker = self.step(source_of(name, self.keep[name])[0])
        owners = {self.input(each).party for each in maker.inputs}
        return tuple(sorted(owners if maker.engine == "tee" else {*self.computing, *owners}))

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
    yield from _party_contradictions(spec)
    if len(set(names)) != len(names):
        yield "two inputs share a name"
    yield from _input_contradictions(spec)
    done: set[str] = set()
    for step in spec.steps:
        yield from _step_contradictions(step, set(names), done)
        if not set(step.inputs) - set(names):
            yield from _kind_contradictions(spec, step)
            yield from _config_contradictions(spec, step)
        done.add(step.id)
        yield from _use_contradictions(spec, step)
    yield from _enclave_contradictions(spec)
    yield from _shared_grants(spec)
    yield from _end_contradictions(spec)


def _party_contradictions(spec: TaskSpec) -> Iterator[str]:
    if spec.parties != sorted(set(spec.parties)):
        yield "parties must be distinct and in ascending order"
    if spec.compute != sorted(set(spec.compute)) or set(spec.compute) - set(spec.parties):
        yield "compute must name parties, distinct and in ascending order"
    for idle in sorted(set(spec.parties) - set(spec.computing) - {each.party for each in spec.inputs}):
        yield f"party {idle} neither brings an input nor computes"


def _input_contradictions(spec: TaskSpec) -> Iterator[str]:
    parts: set[tuple[str, str]] = set()
    for each in spec.inputs:
        if each.party not in spec.parties:
            yield f"input {each.name}: its party is not among the parties"
        if each.is_table and not each.id_column:
            yield f"input {each.name}: a table needs the column that names a subject"
        if each.kind == "config" and (each.id_column or each.columns or each.part_of is not None):
            yield f"input {each.name}: a config has no columns, and is no part of a kept value"
        if each.part_of is None:
            continue
        if each.id_column or each.columns:
            yield f"input {each.name}: a part of a kept value has no columns"
        if (each.part_of, each.party) in parts:
            yield f"input {each.name}: its party gives two parts of {each.part_of}"
        if each.part_of in {step.id for step in spec.steps}:
            yield f"input {each.name}: part_of is the name of a step: choose another"
        parts.add((each.part_of, each.party))


def _kind_contradictions(spec: TaskSpec, step: Step) -> Iterator[str]:
    """An alignment aligns one table of each of its parties; whatever a step is given, it is given whole."""
    parts = [name for name in step.inputs if spec.input(name).part_of is not None]
    if step.engine == "psi" and parts:
        yield f"step {step.id}: {parts[0]!r} is a part of a kept value, which has no rows to align"
    elif step.engine == "psi" and len(spec.parties_of(step)) != len(step.inputs):
        yield f"step {step.id}: an alignment takes one input of each of its parties"
    elif step.engine == "psi":
        yield from _alignment_contradictions(spec, step)
    for name in parts:
        missing = set(_parts_of(spec, spec.input(name).part_of)) - set(step.inputs)
        if missing:
            yield f"step {step.id}: {name!r} is of no use without {min(missing)!r}: name all parts"


def _config_contradictions(spec: TaskSpec, step: Step) -> Iterator[str]:
    """Secret values are for an algorithm in an enclave, whose manifest commits to them: all in one input."""
    configs = [name for name in step.inputs if spec.input(name).kind == "config"]
    if configs and step.engine != "tee":
        yield f"step {step.id}: {configs[0]!r} is a config, which only a step in an enclave takes"
    elif len(configs) > 1:
        yield f"step {step.id}: it takes one config, not {len(configs)}: name one"


def _parts_of(spec: TaskSpec, value: str | None) -> list[str]:
    """The inputs that together are the kept ``value``."""
    return [each.name for each in spec.inputs if each.part_of == value]


def source_of(role: str, source: str) -> tuple[str, str]:
    """The step and the value that ``source`` names for ``role``."""
    step, _, value = source.partition(".")
    return step, value or role


def _use_contradictions(spec: TaskSpec, step: Step) -> Iterator[str]:
    """A value is used after it was made, under its own protocol, and under grants for all that is in it."""
    before = {each.id: each for each in spec.steps[: spec.steps.index(step)]}
    kept = {each.part_of for each in spec.inputs if each.part_of is not None}
    for role, source in step.uses.items():
        maker = before.get(source_of(role, source)[0])
        inside = maker.inputs if maker else _parts_of(spec, source)
        if source not in kept and (maker is None or maker.id not in step.after):
            yield f"step {step.id}: uses.{role} is of no step that it comes after: {source}"
        elif step.engine == "psi" or (
            maker and (maker.engine, maker.protocol) != (step.engine, step.protocol)
        ):
            yield f"step {step.id}: uses.{role} is shared under another protocol than {step.protocol}"
        elif missing := set(inside) - set(step.inputs):
            yield f"step {step.id}: uses.{role} holds data of {min(missing)!r}, so that is an input of it too"


def _end_contradictions(spec: TaskSpec) -> Iterator[str]:
    """What is opened and what is kept is of steps that there are."""
    order = [step.id for step in spec.steps]
    if unknown := set(spec.results) - set(order):
        yield f"results: there is no step {min(unknown)!r}"
    elif spec.results != sorted(set(spec.results), key=order.index):
        yield "results: name each step once, in the order of the steps"
    made = {step.id: step for step in spec.steps}
    for name, source in spec.keep.items():
        maker = made.get(source_of(name, source)[0])
        if maker is None or maker.engine == "psi":
            yield f"keep.{name} is of no step that computes: {source}"


def _enclave_contradictions(spec: TaskSpec) -> Iterator[str]:
    """An enclave runs one measured bundle at one party, which brings no data, under every owner's policy."""
    for step in spec.steps:
        if step.engine != "tee" and step.policies:
            yield f"step {step.id}: policies are for a step in an enclave"
    within = [step for step in spec.steps if step.engine == "tee"]
    if not within:
        return
    step = within[0]
    if len(spec.steps) > 1:
        yield f"step {step.id}: an enclave runs one bundle: it must be the only step of its task"
    if len(spec.compute) != 1:
        yield f"step {step.id}: name the one party of its enclave in compute"
    elif spec.compute[0] in {each.party for each in spec.inputs}:
        yield f"step {step.id}: the party of the enclave brings no data: name another in compute"
    if set(step.policies) != set(step.inputs):
        yield f"step {step.id}: policies must name each of its inputs, and nothing else"


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
