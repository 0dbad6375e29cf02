"""Opening one dataset's commitment to somebody: its salt and its root, in a statement that its owner signs.

Whoever has salt and root can hold a copy of the data to what the chain holds, and can also test guesses of
the content of a small table. So one dataset is opened at a time, to one whom the statement names, and opening
one says nothing of any other.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sealtrace.protocol.canonical import digest
from sealtrace.protocol.faults import first_fault
from sealtrace.protocol.fingerprint import commitment
from sealtrace.protocol.identifiers import Address, Hex32, Hex32Field, raw
from sealtrace.protocol.statements import Signed, Statement, signer_of

KIND = "dataset.opening"
MAX_BYTES = 16 << 10


class BadOpening(ValueError):
    """A text is no signed opening of a dataset: ask its owner for sealtrace node dataset open."""


class Opening(BaseModel):
    """What opens a commitment: ``SHA-256(salt ‖ root)`` is what the chain holds for ``dataset``."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    dataset: Hex32Field
    root: Hex32Field
    salt: str = Field(pattern=r"^0x[0-9a-f]{64}$", repr=False)

    @property
    def commitment(self) -> Hex32:
        """What it opens."""
        return commitment(self.root, raw(Hex32(self.salt)))


def statement(opening: Opening, owner: Address, to: str, at: int) -> Statement:
    """What ``owner`` signs: the opening, for ``to``, at Unix second ``at`` of its clock."""
    return Statement(kind=KIND, speaker=owner, audience=to, at=at, body=opening.model_dump(mode="json"))


def statement_digest(said: Statement) -> Hex32:
    """What the owner's evidence log names an opening by; it tells neither salt nor root."""
    return digest(said.model_dump(mode="json"))


def read_opening(text: bytes) -> tuple[Signed, Opening]:
    """A signed opening and what it opens. Its age does not matter: a commitment never changes.

    Raises:
        BadOpening: it is malformed, or another statement. Whether it is signed is for :func:`is_signed`.
    """
    if len(text) > MAX_BYTES:
        raise BadOpening(f"an opening has at most {MAX_BYTES} bytes, this has {len(text)}")
    try:
        signed = Signed.model_validate_json(text)
        if signed.statement.kind != KIND:
            raise BadOpening(f"this is a statement of the kind {signed.statement.kind}, not {KIND}")
        return signed, Opening.model_validate(signed.statement.body)
    except ValidationError as cause:
        raise BadOpening(first_fault(cause.errors(), "opening")) from cause


def is_signed(signed: Signed) -> bool:
    """Whether the one who is named as its speaker signed it.

    Raises:
        BadStatement: the signature cannot be read.
    """
    return signer_of(signed) == signed.statement.speaker
