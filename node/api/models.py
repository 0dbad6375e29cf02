"""What the API takes and gives. Unknown fields are refused."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from sealtrace.protocol.identifiers import AddressField, Hex32Field

_DATASET = "0x" + "1f" * 32
_ALGORITHM = "0x" + "2e" * 32
_REQUESTER = "0x" + "3d" * 20


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class AddDataset(_Body):
    """A table that lies on the node's own disk, by its path."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"path": "/srv/data/applicants.csv", "name": "applicants", "data_class": "general"}]
        },
    )

    path: Annotated[str, Field(min_length=1, max_length=4096)]
    name: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    data_class: Literal["general", "important", "core"] = "general"
    copy_in: bool = False
    supersedes: Hex32Field | None = None


class Dataset(BaseModel):
    """A dataset of this node."""

    id: str
    name: str
    path: str
    bytes: int
    commitment: str
    schema_: dict[str, Any] = Field(alias="schema")
    data_class: str
    withdrawn: bool
    added_at: int


class IssueGrant(_Body):
    """Who may use which dataset, with which algorithm, for what, how often and until when (Unix seconds)."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "dataset": _DATASET,
                    "algorithm": _ALGORITHM,
                    "requester": _REQUESTER,
                    "purpose": "default rates by employment class",
                    "uses": 3,
                    "not_before": 1767225600,
                    "expires_at": 1767312000,
                    "protections": ["MPC_ABY3", "PSI_RR22"],
                }
            ]
        },
    )

    dataset: Hex32Field
    algorithm: Hex32Field
    requester: AddressField
    purpose: Annotated[str, Field(min_length=1, max_length=1024)]
    uses: Annotated[int, Field(gt=0, lt=2**32)]
    not_before: Annotated[int, Field(ge=0, lt=2**40)] = 0
    expires_at: Annotated[int, Field(gt=0, lt=2**40)]
    protections: Annotated[list[str], Field(min_length=1, max_length=16)]
    approval_required: bool = False
    epsilon_millionths: Annotated[int, Field(ge=0, lt=2**48)] = 0
    participants: Annotated[list[AddressField], Field(max_length=16)] = Field(default_factory=list)
    policy: dict[str, Any] | None = None
    replaces: Hex32Field | None = None
    reference: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")] | None = None


class Grant(BaseModel):
    """A grant as given, and as it stands on the chain; ``security`` says what each protection promises.

    ``policy`` is the owner's attestation policy, where the grant allows an enclave: it is not on the chain.
    """

    id: str
    issued_at: int
    dataset: str
    algorithm: str
    requester: str
    purpose: str
    uses: int
    uses_left: int
    not_before: int
    expires_at: int
    protections: list[str]
    approval_required: bool
    epsilon_millionths: int
    epsilon_left: int
    participants: list[str] = Field(default_factory=list)
    policy: dict[str, Any] | None = None
    policy_digest: str | None = None
    status: str
    security: dict[str, str]


class Task(BaseModel):
    """A task that the chain names this node for. ``stage`` and ``note`` are for people.

    ``security`` says what each of its protections promises.
    """

    id: str
    requester: str
    parties: list[str]
    protections: list[str]
    security: dict[str, str]
    deadline: int
    stage: str
    note: str
    approval: str
    over: bool
    seen_at: int


class Learns(BaseModel):
    """What one role learns from one step, in the words of the algorithm's manifest."""

    step: str
    algorithm: str
    protocol: str
    role: str
    what: str


class TaskWhole(Task):
    """A task with its standing on the chain, its specification, who learns what, and its records."""

    on_chain: dict[str, Any] | None
    spec: dict[str, Any] | None
    learns: list[Learns]
    evidence: list[dict[str, Any]]


class AddAlgorithm(_Body):
    """A bundle on the node's own disk: a folder, or a tar of it. ``digest`` is what it must have."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"path": "/srv/bundles/statistics", "digest": _ALGORITHM}]},
    )

    path: Annotated[str, Field(min_length=1, max_length=4096)]
    digest: Hex32Field | None = None


class Algorithm(BaseModel):
    """A bundle here; ``intact`` is whether its bytes still have the digest."""

    digest: str
    name: str
    version: str
    intact: bool


class Health(BaseModel):
    """Whether what the node needs answers."""

    status: Literal["ok", "degraded"]
    parts: dict[str, dict[str, Any]]


class About(BaseModel):
    """The node's public face, and how it stands on the chain."""

    name: str
    address: str
    gateway_url: str
    protocols: list[str]
    status: str
    tls_fingerprint: str
    encryption_key: str
    block: int
    evidence_size: int


class Checkpoint(BaseModel):
    """Size and root of the evidence log, and the node's signature over them."""

    size: int
    root: str
    signed: dict[str, Any]


class KeptStatement(BaseModel):
    """An enclave's statement kept here: its digest and its size."""

    digest: str
    bytes: int


class Statements(BaseModel):
    """The statements kept here, and the certificate (DER, hexadecimal) that results are signed under."""

    certificate: str
    statements: list[KeptStatement]


class RecordProof(BaseModel):
    """One record (its canonical text), and the proof that it is in the log (RFC 9162 §2.1.3)."""

    record: str
    index: int
    inclusion: list[str]
    checkpoint: dict[str, Any]
