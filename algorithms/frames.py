"""Documents with blobs: magic, length of a header (4 bytes, big-endian), the header in canonical JSON, blobs.

Secret values are written so: each is the engine's own description, then its chunks, whose lengths the header
gives. Everything is read strictly; what does not add up to the last byte is malformed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sealtrace.protocol.canonical import NotCanonical, canonical, parse_canonical

MAX_HEADER_BYTES = 4 << 20
MAX_BLOB_BYTES = 1 << 30
Length = Annotated[int, Field(ge=0, le=MAX_BLOB_BYTES)]


class BadShare(ValueError):
    """A share is malformed, or does not belong with the others."""


class Document(BaseModel):
    """A header, read strictly."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


_D = TypeVar("_D", bound=Document)


class Blobs(Document):
    """The lengths of one secret value's parts: the engine's description, then its chunks."""

    name: str
    meta: Length
    chunks: list[Length] = Field(max_length=1 << 16)


@dataclass(frozen=True, slots=True)
class SecretValue:
    """One party's part of one secret value, in the engine's own form."""

    name: str
    meta: bytes
    chunks: tuple[bytes, ...]

    @property
    def blobs(self) -> Blobs:
        """The lengths of its parts."""
        return Blobs(name=self.name, meta=len(self.meta), chunks=[len(chunk) for chunk in self.chunks])

    @property
    def parts(self) -> tuple[bytes, ...]:
        """Its parts in order."""
        return (self.meta, *self.chunks)


def framed(magic: bytes, header: Document, blobs: Sequence[bytes]) -> bytes:
    """Return one document as bytes."""
    text = canonical(header.model_dump(mode="json"))
    return b"".join([magic, len(text).to_bytes(4, "big"), text, *blobs])


def header_end(magic: bytes, start: bytes) -> int:
    """Return where the header ends, from the document's first bytes: magic and length.

    Raises:
        BadShare: it is no such document.
    """
    length = int.from_bytes(start[len(magic) : len(magic) + 4], "big")
    if not start.startswith(magic) or len(start) < len(magic) + 4 or length > MAX_HEADER_BYTES:
        raise BadShare("not a share: magic or header length is wrong")
    return len(magic) + 4 + length


def unframed(magic: bytes, model: type[_D], data: bytes) -> tuple[_D, int]:
    """Read a document's header; return it, and where its blobs begin.

    Raises:
        BadShare: it is no such document, or its header is malformed.
    """
    end = header_end(magic, data)
    if len(data) < end:
        raise BadShare("not a share: its header is cut off")
    try:
        return model.model_validate(parse_canonical(data[len(magic) + 4 : end])), end
    except NotCanonical as error:
        raise BadShare(f"the header is {error}") from error
    except ValidationError as error:
        raise BadShare(f"the header has {error.error_count()} faults") from error


class Holding(Document):
    """A header of secret values, whose lengths it gives."""

    values: list[Blobs] = Field(default_factory=list, max_length=4096)


_H = TypeVar("_H", bound=Holding)


def holding(magic: bytes, header: Holding, values: Sequence[SecretValue]) -> bytes:
    """Return one document of secret values as bytes; ``header.values`` is filled in from ``values``."""
    full = header.model_copy(update={"values": [value.blobs for value in values]})
    return framed(magic, full, [part for value in values for part in value.parts])


def held(magic: bytes, model: type[_H], data: bytes) -> tuple[_H, tuple[SecretValue, ...]]:
    """Read :func:`holding` strictly.

    Raises:
        BadShare: the bytes are no such document.
    """
    header, at = unframed(magic, model, data)
    return header, secret_values(data, at, header.values)


def secret_values(data: bytes, at: int, blobs: Sequence[Blobs]) -> tuple[SecretValue, ...]:
    """Read the secret values that fill ``data`` from ``at`` on.

    Raises:
        BadShare: the lengths do not add up.
    """
    lengths = [length for each in blobs for length in (each.meta, *each.chunks)]
    pieces = iter(cut(data, at, lengths))
    return tuple(
        SecretValue(each.name, next(pieces), tuple(next(pieces) for _ in each.chunks)) for each in blobs
    )


def cut(data: bytes, at: int, lengths: Sequence[int]) -> Iterator[bytes]:
    """Cut what follows ``at`` into pieces of these lengths, which use it up.

    Raises:
        BadShare: they do not.
    """
    if at + sum(lengths) != len(data):
        raise BadShare("the lengths in the header do not add up to the share's")
    return _pieces(data, at, lengths)


def _pieces(data: bytes, at: int, lengths: Sequence[int]) -> Iterator[bytes]:
    for length in lengths:
        yield data[at : at + length]
        at += length
