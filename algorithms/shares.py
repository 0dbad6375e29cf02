"""One party's shares of a task's results, as the bytes that are sealed for the requester.

One party's shares alone say nothing about the results' values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from sealtrace.algorithms.frames import (
    BadShare,
    Blobs,
    Document,
    Holding,
    Length,
    SecretValue,
    cut,
    framed,
    held,
    holding,
    secret_values,
    unframed,
)
from sealtrace.protocol.canonical import canonical
from sealtrace.protocol.identifiers import Hex32, Hex32Field

MAGIC = b"sealtrace.share/1\n"
OUTPUT_MAGIC = b"sealtrace.output/1\n"
ENCLAVE_OUTPUTS: Final = "outputs"
"""The one value in an enclave's share: its outputs in canonical JSON."""


class Computation(Document):
    """How the shares were made; equal in all parties' headers."""

    protocol: Literal["ABY3", "CHEETAH", "SEMI2K"]
    field: Literal["FM64", "FM128"]
    fraction_bits: Annotated[int, Field(ge=0, le=60)]


class Header(Holding):
    """What a share says of itself. ``kind`` is ``mpc`` (secret shares), ``psi`` or ``tee`` (both plain).

    ``rank`` and ``world`` are those of the step: among who computed, or whose inputs were aligned. ``taken``
    is what is public about the values of earlier steps that were worked on, by role.
    """

    kind: Literal["mpc", "psi", "tee"]
    task: Hex32Field
    step: str
    rank: Annotated[int, Field(ge=0, le=15)]
    world: Annotated[int, Field(ge=1, le=16)]
    rows: Annotated[int, Field(ge=0)]
    computation: Computation | None = None
    taken: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ResultShare:
    """One party's part of a result."""

    header: Header
    values: tuple[SecretValue, ...]


class _Part(Document):
    step: str
    bytes: Length


class _Contents(Document):
    """The steps of which an output holds shares, in the order in which they follow."""

    shares: list[_Part] = Field(max_length=16)


def encode_value(value: SecretValue) -> bytes:
    """Return one secret value as bytes, to be sent to the party that shall hold it."""
    return framed(MAGIC, value.blobs, value.parts)


def decode_value(data: bytes) -> SecretValue:
    """Read :func:`encode_value` strictly.

    Raises:
        BadShare: the bytes are not one value.
    """
    blobs, at = unframed(MAGIC, Blobs, data)
    (value,) = secret_values(data, at, [blobs])
    return value


def encode_share(header: Header, values: Sequence[SecretValue]) -> bytes:
    """Return a result share as bytes; ``header.values`` is filled in from ``values``."""
    return holding(MAGIC, header, values)


def encode_enclave_share(task: Hex32, step: str, rows: int, outputs: Mapping[str, Any]) -> bytes:
    """Return what an enclave gives of ``step`` as the one share of its result.

    ``rows`` are those of all its tables, ``outputs`` JSON values that its output policy let out.
    """
    header = Header(kind="tee", task=task, step=step, rank=0, world=1, rows=rows, values=[])
    return encode_share(header, [SecretValue(ENCLAVE_OUTPUTS, b"", (canonical(dict(outputs)),))])


def decode_share(data: bytes) -> ResultShare:
    """Read :func:`encode_share` strictly.

    Raises:
        BadShare: the bytes are not one result share.
    """
    return ResultShare(*held(MAGIC, Header, data))


def encode_output(shares: Mapping[str, bytes]) -> bytes:
    """Return a party's whole output: its shares, by step. It has none of steps that it took no part in."""
    contents = _Contents(shares=[_Part(step=step, bytes=len(share)) for step, share in shares.items()])
    return framed(OUTPUT_MAGIC, contents, list(shares.values()))


def decode_output(data: bytes) -> dict[str, bytes]:
    """Read :func:`encode_output` strictly.

    Raises:
        BadShare: the bytes are not one output, or hold two shares of a step.
    """
    contents, at = unframed(OUTPUT_MAGIC, _Contents, data)
    pieces = cut(data, at, [each.bytes for each in contents.shares])
    found = dict(zip([each.step for each in contents.shares], pieces, strict=True))
    if len(found) != len(contents.shares):
        raise BadShare("an output holds two shares of one step")
    return found
