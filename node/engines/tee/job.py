"""What the processes of a task in an enclave are told: the enclave's at one party, and each owner's.

Both are read strictly from ``job.json`` in the process's folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sealtrace.node.engines.errors import BadJob
from sealtrace.node.engines.job import Timeouts
from sealtrace.node.engines.workplace import JOB, version
from sealtrace.protocol.attestation.binding import Moment
from sealtrace.protocol.attestation.statement import Statement
from sealtrace.protocol.canonical import NotCanonical, parse
from sealtrace.protocol.faults import first_fault
from sealtrace.protocol.identifiers import Address, AddressField, Hex32, Hex32Field, UnixSeconds
from sealtrace.protocol.receipt import result_digest
from sealtrace.protocol.security import of_step

ENGINE = "tee"
STATEMENT, FINAL = "statement.json", "final.json"
"""What an enclave states before anything is released, and at its end."""
METRICS = "metrics"
"""The folder in which an enclave leaves rounds of metrics, each sealed for the requester."""
CONFIG: Final = "config"
"""The kind of an input that brings the algorithm's secret values."""


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class EnclaveInput(_Document):
    """An input by its name, whose it is, and the policy under which it is released."""

    name: str
    party: AddressField
    dataset: Hex32Field
    policy: Hex32Field
    id_column: str = ""
    columns: tuple[str, ...] = ()
    part_of: str | None = None
    kind: Literal["table", "config"] = "table"

    @property
    def is_table(self) -> bool:
        """Whether it has rows."""
        return self.part_of is None and self.kind != CONFIG


class Block(_Document):
    """The block that evidence is bound to."""

    number: Annotated[int, Field(ge=0)]
    hash: Hex32Field
    timestamp: Annotated[int, Field(ge=0)]

    @property
    def moment(self) -> Moment:
        """The block as a time."""
        return Moment(UnixSeconds(self.timestamp), self.number)


class Platform(_Document):
    """What an enclave's evidence is made with: in a simulated one the node's word, signed with its TLS key.

    ``pccs_url`` is where Intel's collateral is fetched, for SGX and TDX.
    """

    certificate: str = ""
    key: str = ""
    pccs_url: str = ""


class TeeJob(_Document):
    """What every process of a task in an enclave is told alike. ``keep`` are the outputs that are kept by the
    owners and not given out, by what they are called afterwards."""

    task: Hex32Field
    party: AddressField
    parties: tuple[AddressField, ...] = Field(min_length=2, max_length=16)
    requester_key: Hex32Field
    step: str
    algorithm: Hex32Field
    protocol: Literal["HARDWARE", "SIMULATED"]
    keep: dict[str, str] = Field(default_factory=dict)
    timeouts: Timeouts = Timeouts()

    def transcript(
        self,
        account: Mapping[str, Any],
        outputs: Mapping[Address, Hex32],
        first: Statement,
        final: Statement,
    ) -> dict[str, Any]:
        """A party's transcript, with its ``account`` of the step: what all parties say alike is here."""
        step = {
            "step": self.step,
            "engine": ENGINE,
            "algorithm": self.algorithm,
            "protocol": self.protocol,
            "security": of_step(ENGINE, self.protocol).words,
        }
        return {
            "engine": f"sealtrace {version('sealtrace')} {final.evidence.kind}",
            "task": self.task,
            "party": self.party,
            "parties": list(self.parties),
            "steps": [{**step, **account}],
            "outputs": dict(outputs),
            "statements": {"release": first.digest, "final": final.digest},
            "result": result_digest(outputs, final.digest),
        }


class EnclaveJob(TeeJob):
    """All that an enclave's process is told. Where its node's gateway is, it hears when the task runs.

    ``specification`` is the canonical text, and everything else that the specification says must be as it
    says: the enclave compares, for its host is not trusted. ``spec`` is its digest, in the event log.
    """

    spec: Hex32Field
    specification: str
    bundle: str
    params: dict[str, Any] = Field(default_factory=dict)
    inputs: tuple[EnclaveInput, ...] = Field(min_length=1, max_length=16)
    uses: dict[str, str] = Field(default_factory=dict)
    block: Block
    platform: Platform
    memory_mib: Annotated[int, Field(gt=0)]

    @property
    def owners(self) -> tuple[Address, ...]:
        """The parties that release inputs, ascending."""
        return tuple(sorted({each.party for each in self.inputs}))


class OwnerInput(EnclaveInput):
    """An input of this owner: where it lies, and the text of its policy."""

    path: str
    policy_text: str


class OwnerJob(TeeJob):
    """All that an owner's process is told.

    ``statement`` is the enclave's first statement, which this owner's node has judged.
    """

    enclave: AddressField
    inputs: tuple[OwnerInput, ...] = Field(min_length=1, max_length=16)
    statement: str
    gateway_url: Annotated[str, Field(pattern=r"^http://127\.0\.0\.1:[0-9]{1,5}$")]
    gateway_token: str = Field(repr=False)


_J = TypeVar("_J", EnclaveJob, OwnerJob)


def read_tee_job(folder: Path, kind: type[_J]) -> _J:
    """Read ``job.json`` in ``folder``.

    Raises:
        BadJob: it is missing or malformed.
    """
    try:
        text = (folder / JOB).read_bytes()
        parse(text)  # refuses duplicate keys, NaN and the like, which pydantic's reader lets pass
        return kind.model_validate_json(text)
    except (OSError, NotCanonical) as error:
        raise BadJob(f"{JOB}: {error}") from error
    except ValidationError as error:
        raise BadJob(first_fault(error.errors(), "job")) from error
