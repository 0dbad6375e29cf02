"""One party's share of a result, as the bytes that are sealed for the requester.

Layout: magic, length of the header (4 bytes, big-endian), the header in canonical JSON, then the blobs
whose lengths the header gives. One share alone says nothing about the result's values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sealtrace.protocol.canonical import NotCanonical, canonical, parse_canonical
from sealtrace.protocol.identifiers import Hex32Field

MAGIC = b"sealtrace.share/1\n"
MAX_HEADER_BYTES = 4 << 20
MAX_SHARE_BYTES = 1 << 30
_D = TypeVar("_D", bound=BaseModel)
Length = Annotated[int, Field(ge=0, le=MAX_SHARE_BYTES)]


class BadShare(ValueError):
    """A share is malformed, or does not belong with the others."""


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Blobs(_Document):
    """The lengths of one secret value's parts: the engine's description, then its chunks."""

    name: str
    meta: Length
    chunks: list[Length] = Field(max_length=1 << 16)


class Computation(_Document):
    """How the shares were made; equal in all parties' headers."""

    protocol: Literal["ABY3", "CHEETAH", "SEMI2K"]
    field: Literal["FM64", "FM128"]
    fraction_bits: Annotated[int, Field(ge=0, le=60)]


class Header(_Document):
    """What a share says of itself. ``kind`` is ``mpc`` (secret shares) or ``psi`` (plain).

    ``taken`` is what is public about the values of earlier steps that were worked on, by role.
    """

    kind: Literal["mpc", "psi"]
    task: Hex32Field
    step: str
    rank: Annotated[int, Field(ge=0, le=15)]
    world: Annotated[int, Field(ge=1, le=16)]
    rows: Annotated[int, Field(ge=0)]
    computation: Computation | None = None
    taken: dict[str, Any] = Field(default_factory=dict)
    values: list[Blobs] = Field(max_length=4096)


@dataclass(frozen=True, slots=True)
class SecretValue:
    """One party's part of one secret value, in the engine's own form."""

    name: str
    meta: bytes
    chunks: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class ResultShare:
    """One party's part of a result."""

    header: Header
    values: tuple[SecretValue, ...]


def encode_value(value: SecretValue) -> bytes:
    """Return one secret value as bytes, to be sent to the party that shall hold it."""
    blobs = _blobs(value).model_dump(mode="json")
    return _frame(canonical(blobs), _parts([value]))


def decode_value(data: bytes) -> SecretValue:
    """Read :func:`encode_value` strictly.

    Raises:
        BadShare: the bytes are not one value.
    """
    header, at = _header(data)
    (value,) = _values(data, at, [_read(Blobs, header)])
    return value


def encode_share(header: Header, values: Sequence[SecretValue]) -> bytes:
    """Return a result share as bytes; ``header.values`` is filled in from ``values``."""
    full = header.model_copy(update={"values": [_blobs(value) for value in values]})
    return _frame(canonical(full.model_dump(mode="json")), _parts(values))


def decode_share(data: bytes) -> ResultShare:
    """Read :func:`encode_share` strictly.

    Raises:
        BadShare: the bytes are not one result share.
    """
    text, at = _header(data)
    header = _read(Header, text)
    return ResultShare(header, tuple(_values(data, at, header.values)))


def _blobs(value: SecretValue) -> Blobs:
    return Blobs(name=value.name, meta=len(value.meta), chunks=[len(chunk) for chunk in value.chunks])


def _parts(values: Sequence[SecretValue]) -> list[bytes]:
    return [part for value in values for part in (value.meta, *value.chunks)]


def _frame(header: bytes, parts: Sequence[bytes]) -> bytes:
    return b"".join([MAGIC, len(header).to_bytes(4, "big"), header, *parts])


def _header(data: bytes) -> tuple[Any, int]:
    start = len(MAGIC) + 4
    length = int.from_bytes(data[len(MAGIC) : start], "big")
    end = start + length
    if not data.startswith(MAGIC) or length > MAX_HEADER_BYTES or len(data) < end:
        raise BadShare("not a share: magic or header length is wrong")
    try:
        return parse_canonical(data[start:end]), end
    except NotCanonical as error:
        raise BadShare(f"the header is {error}") from error


def _read(model: type[_D], value: object) -> _D:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise BadShare(f"the header has {error.error_count()} faults") from error


def _values(data: bytes, at: int, blobs: Sequence[Blobs]) -> Iterator[SecretValue]:
    if at + sum(each.meta + sum(each.chunks) for each in blobs) != len(data):
        raise BadShare("the lengths in the header do not add up to the share's")
    for each in blobs:
        parts = []
        for length in (each.meta, *each.chunks):
            parts.append(data[at : at + length])
            at += length
        yield SecretValue(each.name, parts[0], tuple(parts[1:]))
