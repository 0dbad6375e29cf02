"""What one party's engine process is told: ``job.json``, read strictly.

The node makes it from the task's specification: inputs and steps carry over name by name; paths,
bundle folders and the gateway's address are the node's own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sealtrace.node.engines.errors import BadJob
from sealtrace.protocol.alignment import Alignment, BadAlignment, contradictions, read_alignment
from sealtrace.protocol.canonical import NotCanonical, digest, parse
from sealtrace.protocol.faults import first_fault
from sealtrace.protocol.identifiers import Address, AddressField, Hex32, Hex32Field
from sealtrace.protocol.spec import PROTECTIONS, source_of, why_unfit

VERSION = "sealtrace.job/4"
"""Of all that parties' engines must do alike and that no specification says, such as how keys become tokens:
one that differs would find nothing in common, and nothing would tell. Raised with any change of it."""

Milliseconds = Annotated[int, Field(gt=0, le=86_400_000)]


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Timeouts(_Document):
    """Milliseconds. ``receive_ms`` is how long a peer may be silent inside a protocol,
    ``wait_ms`` how long between steps, where peers may be busy with each other."""

    connect_ms: Milliseconds = 30_000
    receive_ms: Milliseconds = 60_000
    wait_ms: Milliseconds = 1_800_000
    request_ms: Milliseconds = 20_000


class JobInput(_Document):
    """A dataset by its name in the specification. ``path`` is given for this party's own only.

    With ``part_of`` it is no table, but its party's part of that kept value.
    """

    name: str
    party: AddressField
    id_column: str = ""
    columns: tuple[str, ...] = ()
    part_of: str | None = None
    path: str | None = None


class JobStep(_Document):
    """One algorithm: the folder of its bundle and the digest the chain holds for it."""

    id: str
    algorithm: Hex32Field
    bundle: str
    engine: Literal["psi", "mpc"]
    protocol: Literal["RR22", "KKRT", "ECDH", "ABY3", "CHEETAH", "SEMI2K"]
    inputs: tuple[str, ...] = Field(min_length=1)
    after: tuple[str, ...] = ()
    uses: dict[str, str] = Field(default_factory=dict)
    params: dict[str, Any] = Field(default_factory=dict)

    @property
    def alignment(self) -> Alignment:
        """The parameters of a PSI step."""
        return read_alignment(self.params)


class JobKeep(_Document):
    """A value of which ``keepers`` keep their parts: where it is from, as ``step.value``."""

    source: str
    keepers: tuple[AddressField, ...]

    @property
    def place(self) -> tuple[str, str]:
        """The step and the value."""
        return source_of("", self.source)


class Job(_Document):
    """One party's whole job. Parties are ordered by rank (ascending addresses).

    ``computing`` are those among which MPC steps run, ``results`` the steps that are sealed for the
    requester, ``keep`` the values of which parties keep their parts.
    """

    task: Hex32Field
    party: AddressField
    parties: tuple[AddressField, ...] = Field(min_length=2, max_length=16)
    computing: tuple[AddressField, ...] = Field(min_length=1, max_length=16)
    requester_key: Hex32Field
    gateway_url: Annotated[str, Field(pattern=r"^http://127\.0\.0\.1:[0-9]{1,5}$")]
    gateway_token: str = Field(repr=False)
    inputs: tuple[JobInput, ...] = Field(min_length=1, max_length=64)
    steps: tuple[JobStep, ...] = Field(min_length=1, max_length=16)
    results: tuple[str, ...] = Field(min_length=1, max_length=16)
    keep: dict[str, JobKeep] = Field(default_factory=dict)
    timeouts: Timeouts = Timeouts()

    @property
    def rank(self) -> int:
        """This party's number in the protocols."""
        return self.parties.index(self.party)

    def input(self, name: str) -> JobInput:
        """Return the input called ``name``."""
        return next(each for each in self.inputs if each.name == name)

    def rank_of(self, name: str) -> int:
        """Return the rank of the party that holds input ``name``."""
        return self.parties.index(self.input(name).party)

    @property
    def computes(self) -> bool:
        """Whether this party takes part in computing MPC steps, or only shares its columns into them."""
        return self.party in self.computing

    def ranks_of(self, step: JobStep) -> tuple[int, ...]:
        """Return the ranks of those among which ``step`` runs: who computes, or whose inputs are aligned."""
        if step.engine == "psi":
            return tuple(sorted(map(self.rank_of, step.inputs)))
        return tuple(map(self.parties.index, self.computing))

    def tables_of(self, step: JobStep) -> list[str]:
        """Return the step's inputs that are tables, in its order."""
        return [name for name in step.inputs if self.input(name).part_of is None]

    def reads_later(self, step: JobStep) -> bool:
        """Whether a later step computes on the rows that ``step`` aligned."""
        inputs = set(step.inputs)
        return any(step.id in later.after and inputs & set(later.inputs) for later in self.steps)

    def agreement(self) -> Hex32:
        """Digest of all that every party's job must say alike, compared before anything runs."""
        common = {"task", "parties", "computing", "requester_key", "results", "keep"}
        words = self.model_dump(mode="json", include=common)
        inputs = [each.model_dump(mode="json", exclude={"path"}) for each in self.inputs]
        steps = [step.model_dump(mode="json", exclude={"bundle"}) for step in self.steps]
        return digest({**words, "version": VERSION, "inputs": inputs, "steps": steps})

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for problem in _contradictions(self):
            raise ValueError(problem)
        return self


def read_job(path: Path) -> Job:
    """Read ``job.json``.

    Raises:
        BadJob: it is missing, malformed or contradicts itself.
    """
    try:
        return Job.model_validate_json(_canonical_text(path))
    except (OSError, NotCanonical) as error:
        raise BadJob(f"job.json: {error}") from error
    except ValidationError as error:
        raise BadJob(first_fault(error.errors(), "job")) from error


def own_inputs(job: Job) -> tuple[JobInput, ...]:
    """Return the inputs of this party."""
    return tuple(each for each in job.inputs if each.party == job.party)


def address_of(job: Job, rank: int) -> Address:
    """Return the party of ``rank``."""
    return job.parties[rank]


def _canonical_text(path: Path) -> bytes:
    text = path.read_bytes()
    parse(text)  # refuses duplicate keys, NaN and the like, which pydantic's reader lets pass
    return text


def _contradictions(job: Job) -> list[str]:
    names = [each.name for each in job.inputs]
    found = []
    ids = {step.id for step in job.steps}
    if set(job.computing) - set(job.parties) or list(job.computing) != sorted(set(job.computing)):
        return ["those who compute are parties, distinct and ascending"]
    if set(job.results) - ids or {each.place[0] for each in job.keep.values()} - ids:
        found.append("what is opened and what is kept is of the job's steps")
    if job.party not in job.parties or len(set(job.parties)) != len(job.parties):
        found.append("the parties are distinct, and this party is one of them")
    if len(set(names)) != len(names):
        found.append("two inputs share a name")
    for each in job.inputs:
        if each.party not in job.parties:
            found.append(f"input {each.name}: its party is none of the parties")
        if (each.path is not None) != (each.party == job.party):
            found.append(f"input {each.name}: exactly this party's own inputs have a path")
    done: set[str] = set()
    for step in job.steps:
        found += _step_contradictions(job, step, set(names), done)
        done.add(step.id)
    return found


def _step_contradictions(job: Job, step: JobStep, names: set[str], done: set[str]) -> list[str]:
    if (step.engine, step.protocol) not in PROTECTIONS:
        return [f"step {step.id}: {step.engine} knows no protocol {step.protocol}"]
    found = []
    if set(step.inputs) - names or len(set(step.inputs)) != len(step.inputs):
        found.append(f"step {step.id}: its inputs are distinct and among the job's")
    elif {job.input(name).party for name in step.inputs} - set(job.parties):
        pass  # said of the input
    elif step.engine == "psi" and not _one_table_each(job, step):
        found.append(f"step {step.id}: alignment takes one table of each of its parties")
    elif unfit := why_unfit(step.protocol, len(job.ranks_of(step))):
        found.append(f"step {step.id}: {unfit}")
    elif step.engine == "psi":
        found += _alignment_contradictions(job, step)
    if step.id in done or set(step.after) - done:
        found.append(f"step {step.id}: its name is new, and it comes after those it names")
    return found


def _one_table_each(job: Job, step: JobStep) -> bool:
    tables = job.tables_of(step)
    return len(tables) == len(step.inputs) == len(set(job.ranks_of(step)))


def _alignment_contradictions(job: Job, step: JobStep) -> list[str]:
    given = map(job.input, step.inputs)
    columns = {each.name: [each.id_column, *each.columns] for each in given}
    try:
        problems = contradictions(step.alignment, columns, read_later=job.reads_later(step))
        return [f"step {step.id}: {problem}" for problem in problems]
    except BadAlignment as cause:
        return [f"step {step.id}: {cause}"]
