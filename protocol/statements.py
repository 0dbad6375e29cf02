"""Statements that a node signs with the key it has on chain, for everything said off chain.

A statement is a JSON object; what is signed is its canonical form as an EIP-191 personal message, so that
wallets and hardware keys can sign it too. ``to`` and ``at`` keep one from being taken for another's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from sealtrace.protocol.accounts import Account, encode_defunct
from sealtrace.protocol.canonical import canonical
from sealtrace.protocol.identifiers import Address, AddressField, UnixSeconds, address

MAX_AGE_SECONDS = 300
MAX_AUDIENCE = 128


class BadStatement(ValueError):
    """A statement is not signed by the node it names, is for somebody else, or is stale."""


class Statement(BaseModel):
    """Who says what to whom, and when (Unix seconds of the speaker's clock).

    ``audience`` names the service spoken to, such as ``scheduler``; ``body`` is what is said.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, ser_json_inf_nan="constants")

    domain: str = Field(default="sealtrace.statement/1", pattern=r"^sealtrace\.statement/1$")
    kind: str = Field(max_length=64)
    speaker: AddressField
    audience: str = Field(max_length=MAX_AUDIENCE)
    at: int
    body: dict[str, Any]


class Signed(BaseModel):
    """A statement and its signature (65 bytes, hexadecimal)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, ser_json_inf_nan="constants")

    statement: Statement
    signature: str = Field(pattern=r"^0x[0-9a-f]{130}$")


def sign(statement: Statement, private_key: bytes) -> Signed:
    """Sign ``statement`` with a secp256k1 key (32 bytes)."""
    signed = Account.sign_message(_message(statement), private_key)
    return Signed(statement=statement, signature="0x" + signed.signature.hex().removeprefix("0x"))


def verified(
    signed: Signed, *, kind: str, audience: str, now: UnixSeconds
) -> tuple[Address, Mapping[str, Any]]:
    """The speaker and the body of a statement that is genuine, fresh and meant for us.

    Raises:
        BadStatement: wrong kind or audience, older or newer than 300 seconds, or a signature that
            is not the speaker's.
    """
    statement = signed.statement
    if statement.kind != kind or statement.audience != audience:
        raise BadStatement(
            f"a {statement.kind!r} for {statement.audience!r} was given where {kind!r} for "
            f"{audience!r} is expected"
        )
    if abs(now - statement.at) > MAX_AGE_SECONDS:
        raise BadStatement(f"said {now - statement.at} seconds ago: sign it anew, and check both clocks")
    if signer_of(signed) != statement.speaker:
        raise BadStatement(f"not signed by {statement.speaker}, who is named as its speaker")
    return statement.speaker, statement.body


def signer_of(signed: Signed) -> Address:
    """The address whose key made the signature.

    Raises:
        BadStatement: the signature is not one.
    """
    try:
        return address(Account.recover_message(_message(signed.statement), signature=signed.signature))
    except Exception as cause:  # the library raises several kinds for bytes that are no signature
        raise BadStatement(f"the signature cannot be read: {cause}") from cause


def _message(statement: Statement) -> Any:
    return encode_defunct(primitive=canonical(statement.model_dump(mode="json")))
