"""A data owner's policy: which evidence its keys are released to, and what may come out.

It is off chain. The owner's evidence log has its digest from the grant on, the task's specification names it,
and so does the event log of every enclave that works under it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from sealtrace.protocol.attestation.evidence import Feature, Kind, TcbStatus
from sealtrace.protocol.canonical import NotCanonical, canonical, parse_canonical, sha256
from sealtrace.protocol.faults import first_fault
from sealtrace.protocol.identifiers import Hex32, Hex32Field
from sealtrace.protocol.records import Protection

VERSION: Final = "sealtrace.attestation-policy/1"
EVENT_LOG: Final = "event-log"
"""In place of ``rt_mr3``: the register holds the head of the event log, so nothing else extended it."""
MAX_POLICY_BYTES: Final = 64 << 10
MAX_DECIMALS: Final = 12


class BadPolicy(ValueError):
    """A text is not an attestation policy; the message says which field is wrong."""


class Platform(StrEnum):
    """What an owner accepts: each in words, none by default. The names are those of grants' protections."""

    HARDWARE = "tee-hardware"
    SIMULATED = "tee-simulated"

    @property
    def protection(self) -> Protection:
        """What a grant must allow for evidence of this platform, beside the policy."""
        return Protection.TEE_HARDWARE if self is Platform.HARDWARE else Protection.TEE_SIMULATED


ENCLAVES: Final = Platform.HARDWARE.protection | Platform.SIMULATED.protection
"""The protections of a grant that an owner's policy stands behind."""

REQUIRED: Final[Mapping[Kind, tuple[str, ...]]] = {
    Kind.SGX: ("mr_enclave",),
    Kind.TDX: ("mr_td", "rt_mr1", "rt_mr2"),
    Kind.SEV_SNP: ("measurement",),
    Kind.NITRO: ("pcr0",),
    Kind.SOFTWARE: ("runtime",),
}
"""What an accepted image names at least. MRTD alone would leave the kernel (RTMR1, RTMR2) open."""

IMPLIED: Final[Mapping[Kind, Mapping[str, str]]] = {
    Kind.SGX: {},
    Kind.TDX: {},
    Kind.SEV_SNP: {"vmpl": "00"},
    Kind.NITRO: {},
    Kind.SOFTWARE: {},
}
"""What holds unless the image says otherwise: a report is from VMPL 0, the most privileged software."""


_HEX: Final = re.compile(r"(?:[0-9a-f]{2})+")


def _lower_hex(text: str) -> str:
    if text != EVENT_LOG and not _HEX.fullmatch(text):
        raise ValueError("give lower-case hexadecimal")
    return text


HexText = Annotated[str, AfterValidator(_lower_hex)]


class Image(BaseModel):
    """One accepted image: measurements that must be as given, security versions that must be at least so."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    kind: Kind
    """What it runs on."""
    measurements: dict[str, HexText]
    """By the names in docs/attestation.md; at least those that identify an image of this kind."""
    minimum_versions: dict[str, Annotated[int, Field(ge=0, le=65535)]] = {}
    """SGX ``isv_svn``; SEV-SNP ``bootloader``, ``tee``, ``snp``, ``microcode`` and, on Turin, ``fmc``."""

    @model_validator(mode="after")
    def _names_an_image(self) -> Self:
        missing = [name for name in REQUIRED[self.kind] if name not in self.measurements]
        if missing:
            raise ValueError(f"an image of {self.kind} also names {', '.join(missing)}")
        logged = [name for name, value in self.measurements.items() if value == EVENT_LOG]
        if logged not in ([], ["rt_mr3"]):
            raise ValueError(f"only rt_mr3 can be {EVENT_LOG!r}")
        return self

    def expected(self) -> dict[str, str]:
        """All measurements that must be as given, with those that are implied."""
        return {**IMPLIED[self.kind], **self.measurements}


class Narrowing(BaseModel):
    """What an owner takes away from an algorithm's output policy. ``None`` takes nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    outputs: list[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]] | None = None
    """The only outputs that may leave."""
    max_bytes: Annotated[int, Field(gt=0)] | None = None
    """The most bytes of each output."""
    decimals: Annotated[int, Field(ge=0, le=MAX_DECIMALS)] | None = None
    """The most places of every number."""
    min_group: Annotated[int, Field(ge=1)] | None = None
    """The fewest rows that a count may be about."""
    min_rows: Annotated[int, Field(ge=1)] | None = None
    """The fewest rows of each input table."""
    metrics: bool = True
    """Whether measures may be told while an algorithm trains."""


class AttestationPolicy(BaseModel):
    """What evidence must say before an owner releases a key, and before it believes that its data is gone.

    Debugging is refused always; there is no setting for it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    version: Literal["sealtrace.attestation-policy/1"] = VERSION
    platforms: Annotated[tuple[Platform, ...], Field(min_length=1)]
    """``tee-hardware``, ``tee-simulated`` or both, spelled out."""
    images: Annotated[tuple[Image, ...], Field(min_length=1)]
    """Any one of them."""
    max_age_s: Annotated[int, Field(gt=0)]
    """How long ago the block that evidence is bound to may be, in seconds."""
    max_age_blocks: Annotated[int, Field(gt=0)]
    """The same in blocks."""
    tcb_statuses: Annotated[tuple[TcbStatus, ...], Field(min_length=1)] = (TcbStatus.UP_TO_DATE,)
    """The vendor's words that are accepted, each spelled out: they have no order that all would agree on."""
    refused_advisories: tuple[str, ...] = ()
    """Advisories that must not apply, such as ``INTEL-SA-00615``."""
    features: tuple[Feature, ...] = ()
    """What weakens a platform and is accepted all the same."""
    minimum_evaluation: Annotated[int, Field(ge=0)] = 0
    """The least ``tcbEvaluationDataNumber`` of Intel's collateral: no older view of the platform is taken."""
    require_revocation_list: bool = True
    """Whether AMD's revocation list must come with the certificates. Intel's always does; AWS has none."""
    runtimes: tuple[Hex32Field, ...] = ()
    """Runtime digests that the event log may name; any where there is none."""
    configs: tuple[Hex32Field, ...] = ()
    """Configuration digests that the event log may name; any where there is none."""
    narrowing: Narrowing = Narrowing()
    """What may leave the enclave, less than the algorithm's own policy lets out. The enclave obeys it."""

    @model_validator(mode="after")
    def _can_be_met(self) -> Self:
        for image in self.images:
            if platform_of(image.kind) not in self.platforms:
                raise ValueError(
                    f"an image of {image.kind} is {platform_of(image.kind)}, which is not accepted"
                )
        return self

    @property
    def protections(self) -> Protection:
        """What a grant under this policy allows, of the protections in :data:`ENCLAVES`."""
        allowed = Protection(0)
        for platform in self.platforms:
            allowed |= platform.protection
        return allowed

    def text(self) -> bytes:
        """The canonical JSON of this policy."""
        return canonical(self.model_dump(mode="json"))

    def digest(self) -> Hex32:
        """SHA-256 of the canonical JSON with every default written out: its name in grant, log and result."""
        return sha256(self.text())

    def images_of(self, kind: Kind) -> Sequence[Image]:
        """The accepted images of one kind."""
        return [image for image in self.images if image.kind is kind]


def platform_of(kind: Kind) -> Platform:
    """What an owner must have accepted for evidence of ``kind``."""
    return Platform.HARDWARE if kind.is_hardware else Platform.SIMULATED


def read_policy(text: bytes) -> AttestationPolicy:
    """Read a policy in canonical JSON.

    Raises:
        BadPolicy: it is not one.
    """
    try:
        parse_canonical(text, limit_bytes=MAX_POLICY_BYTES)
        return AttestationPolicy.model_validate_json(text)
    except NotCanonical as cause:
        raise BadPolicy(f"not a policy: {cause}") from cause
    except ValidationError as cause:
        raise BadPolicy(f"not a policy: {first_fault(cause.errors(), 'policy')}") from cause
