"""Acts that are signed away from the chain, as files: drafted, signed by a key or a wallet, then submitted.

.. code-block:: yaml

    grant:
      dataset: "0x..."
      algorithm: "0x..."
      requester: "0x..."
      purpose: overlap study
      protections: [PSI_RR22]
      uses: 3
      expires_at: 2026-12-31T00:00:00Z

or ``revocation: {grant: "0x..."}``, or, beside the task's specification, ``approval: {spec: spec.json}``,
``start: {spec: ..., input_commitment: "0x..."}``, ``refusal: {spec: ..., reason: 40}``,
``receipt: {spec: ..., receipt: "0x...", result: "0x..."}``.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import yaml
from eth_account.messages import encode_typed_data
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sealtrace.contracts import calls, signing
from sealtrace.contracts.calls import Call
from sealtrace.contracts.signing import MalformedSignature, Place, Signed, TypedData
from sealtrace.protocol.accounts import Account
from sealtrace.protocol.canonical import NotCanonical, canonical
from sealtrace.protocol.faults import first_fault
from sealtrace.protocol.identifiers import Address, AddressField, Hex32Field, UnixSeconds, address
from sealtrace.protocol.records import GrantTerms, NoSuchProtection, TaskTerms, protections_of
from sealtrace.protocol.spec import InvalidSpec, purpose_hash, read_spec

MAX_FILE_BYTES = 1 << 20
VERSION: Final = "sealtrace.act/1"


class ActUnreadable(ValueError):
    """A file is no act to be signed: see ``docs/signing.md`` for what it holds."""


class NotSigned(ValueError):
    """An act's file carries no signature yet: sign it with ``act sign``, or attach a wallet's."""


class SignedByAnother(ValueError):
    """The signature is not the named signer's: have the right key sign exactly this file."""


class _Words(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class GrantWords(_Words):
    """A grant in words. ``epsilon`` is in units, times are with their zone."""

    dataset: Hex32Field
    algorithm: Hex32Field
    requester: AddressField
    purpose: str = Field(min_length=1, max_length=1024)
    protections: list[str] = Field(min_length=1)
    uses: int = Field(default=1, gt=0, lt=2**32)
    not_before: dt.datetime | int = 0
    expires_at: dt.datetime | int
    approval_required: bool = False
    epsilon: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    participants: list[AddressField] = Field(default_factory=list, max_length=16)

    def terms(self) -> GrantTerms:
        """What the owner allows.

        Raises:
            ActUnreadable: a protection is none, or a time has no zone.
        """
        try:
            protections = protections_of(self.protections)
        except NoSuchProtection as cause:
            raise ActUnreadable(str(cause)) from cause
        return GrantTerms(
            dataset=self.dataset,
            algorithm=self.algorithm,
            requester=self.requester,
            purpose=purpose_hash(self.purpose),
            uses=self.uses,
            not_before=_moment(self.not_before),
            expires_at=_moment(self.expires_at),
            protections=protections,
            approval_required=self.approval_required,
            epsilon_millionths=round(self.epsilon * 1_000_000),
            participants=tuple(sorted(self.participants)),
        )


class _Revocation(_Words):
    grant: Hex32Field


class _OfTask(_Words):
    spec: str | dict[str, Any]


class _Start(_OfTask):
    input_commitment: Hex32Field


class _Refusal(_OfTask):
    reason: int = Field(gt=0, lt=256)


class _Receipt(_OfTask):
    receipt: Hex32Field
    result: Hex32Field


class Act(_Words):
    """One act; exactly one of its words is there."""

    grant: GrantWords | None = None
    revocation: _Revocation | None = None
    approval: _OfTask | None = None
    start: _Start | None = None
    refusal: _Refusal | None = None
    receipt: _Receipt | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise ValueError(f"an act is one of {', '.join(type(self).model_fields)}")
        return self

    @property
    def contract(self) -> str:
        """The contract that takes it."""
        return "GrantRegistry" if self.grant or self.revocation else "TaskLedger"


class File(_Words):
    """An act drafted for a signer, a place and a time; signed once ``signature`` is there.

    ``typed_data`` is what a wallet shows and signs; it is computed anew from the rest whenever it is read.
    """

    version: Literal["sealtrace.act/1"] = VERSION
    act: Act
    signer: AddressField
    chain_id: int
    contract: AddressField
    serial: int | None = None
    valid_until: int
    typed_data: dict[str, Any]
    signature: Annotated[str, Field(pattern="^0x[0-9a-f]{130}$")] | None = None


@dataclass(frozen=True, slots=True)
class Drafted:
    """An act with everything that its signature binds."""

    file: File

    @classmethod
    def make(
        cls, act: Act, signer: Address, place: Place, valid_until: UnixSeconds, serial: int | None
    ) -> Drafted:
        """Draft ``act``. A grant needs the signer's running serial.

        Raises:
            ActUnreadable: it is a grant without a serial, or its specification is none.
        """
        bare = File(
            act=act,
            signer=signer,
            chain_id=place.chain_id,
            contract=place.contract,
            serial=serial,
            valid_until=valid_until,
            typed_data={},
        )
        return cls(bare.model_copy(update={"typed_data": printable(_typed(bare).document())}))

    @classmethod
    def read(cls, path: Path) -> Drafted:
        """Read a drafted or signed act.

        Raises:
            ActUnreadable: it is none, or its typed data is not that of its words.
        """
        try:
            file = File.model_validate_json(_bytes(path))
        except ValidationError as cause:
            raise ActUnreadable(f"{path}: {first_fault(cause.errors(), 'file')}") from cause
        if file.typed_data != printable(_typed(file).document()):
            raise ActUnreadable(f"{path}: its typed data says something else than its act: draft it anew")
        return cls(file)

    def write(self, path: Path) -> None:
        """Write it for people and wallets."""
        path.write_text(self.file.model_dump_json(indent=1, exclude_unset=True) + "\n")

    def signed_with(self, key: bytes) -> Drafted:
        """Sign with a key that is at hand.

        Raises:
            SignedByAnother: it is not the signer's.
        """
        found = Account.from_key(key).sign_message(_message(self.file))
        return self.attached("0x" + bytes(found.signature).hex())

    def attached(self, signature: str) -> Drafted:
        """The same with a wallet's signature, 65 bytes r, s, v in hexadecimal.

        Raises:
            MalformedSignature, SignedByAnother: it is none, or another's.
        """
        try:
            raw = bytes.fromhex(signature.removeprefix("0x"))
        except ValueError as cause:
            raise MalformedSignature("a signature is 65 bytes in hexadecimal") from cause
        Signed.read(raw, UnixSeconds(self.file.valid_until))
        by = address(str(Account.recover_message(_message(self.file), signature=raw)))
        if by != self.file.signer:
            raise SignedByAnother(f"{by} signed it, not {self.file.signer}")
        return Drafted(self.file.model_copy(update={"signature": "0x" + raw.hex()}))

    def call(self) -> Call:
        """The call by which anybody submits it.

        Raises:
            NotSigned: there is no signature.
        """
        if self.file.signature is None:
            raise NotSigned("sign it first")
        signature = bytes.fromhex(self.file.signature[2:])
        return _call(self.file, Signed.read(signature, UnixSeconds(self.file.valid_until)))


def read_act(path: Path) -> Act:
    """Read an act in words; a specification it names is taken in.

    Raises:
        ActUnreadable: it is none; with the place.
    """
    try:
        words = yaml.safe_load(_bytes(path))
        act = Act.model_validate(words)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as cause:
        raise ActUnreadable(f"{path}: {str(cause)[:200]}") from cause
    except ValidationError as cause:
        raise ActUnreadable(f"{path}: {first_fault(cause.errors(), 'file')}") from cause
    (name,) = act.model_fields_set
    said = getattr(act, name)
    if not isinstance(said, _OfTask) or not isinstance(said.spec, str):
        return act
    try:
        spec = json.loads(_bytes(path.parent / said.spec))
    except (ValueError, RecursionError) as cause:
        raise ActUnreadable(f"{said.spec}: {str(cause)[:200]}") from cause
    return act.model_copy(update={name: said.model_copy(update={"spec": spec})})


def _typed(file: File) -> TypedData:
    place, until, act = Place(file.chain_id, file.contract), UnixSeconds(file.valid_until), file.act
    if act.grant:
        if file.serial is None:
            raise ActUnreadable("a grant is signed under the owner's running serial: give it")
        return signing.grant(place, act.grant.terms(), file.serial, until)
    if act.revocation:
        return signing.revocation(place, act.revocation.grant, until)
    if act.start:
        return signing.start(place, _terms(act.start), act.start.input_commitment, until)
    if act.refusal:
        return signing.refusal(place, _terms(act.refusal), act.refusal.reason, until)
    if act.receipt:
        said = act.receipt
        return signing.receipt(place, _terms(said), said.receipt, said.result, until)
    assert act.approval is not None  # noqa: S101 - one of the words is there
    return signing.approval(place, _terms(act.approval), until)


def _call(file: File, signed: Signed) -> Call:
    act = file.act
    if act.grant:
        return calls.issue_grant_signed(file.signer, act.grant.terms(), signed)
    if act.revocation:
        return calls.revoke_grant_signed(act.revocation.grant, signed)
    said = act.approval or act.start or act.refusal or act.receipt
    assert said is not None  # noqa: S101 - one of the words is there
    terms = _terms(said)
    if file.signer not in terms.parties:
        raise SignedByAnother(f"{file.signer} is no party of the task")
    party = terms.parties.index(file.signer)
    if act.start:
        return calls.start_signed(terms, [(party, act.start.input_commitment, signed)])
    if act.refusal:
        return calls.refuse_signed(terms, party, act.refusal.reason, signed)
    if act.receipt:
        return calls.finish_signed(terms, [(party, act.receipt.receipt, act.receipt.result, signed)])
    return calls.approve_signed(terms, party, signed)


def _message(file: File) -> Any:
    return encode_typed_data(full_message=_typed(file).document())


def _terms(said: _OfTask) -> TaskTerms:
    try:
        return read_spec(canonical(said.spec)).terms()
    except (InvalidSpec, NotCanonical) as cause:
        raise ActUnreadable(f"spec: {cause}") from cause


def _moment(given: dt.datetime | int) -> UnixSeconds:
    if isinstance(given, int):
        return UnixSeconds(given)
    if given.tzinfo is None:
        raise ActUnreadable(f"{given}: give a time with its zone, such as 2026-12-31T00:00:00Z")
    return UnixSeconds(int(given.timestamp()))


def printable(value: Any) -> Any:
    """``value`` with its bytes in hexadecimal and its sequences as lists, as JSON has them."""
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, Mapping):
        return {key: printable(each) for key, each in value.items()}
    return [printable(each) for each in value] if isinstance(value, list | tuple) else value


def _bytes(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as cause:
        raise ActUnreadable(f"{path}: {cause.strerror}") from cause
    if len(content) > MAX_FILE_BYTES:
        raise ActUnreadable(f"{path} is longer than {MAX_FILE_BYTES} bytes")
    return content
