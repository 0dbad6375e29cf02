"""One party's part of a value that stays shared after its task, as the file that the party keeps.

Whoever computed keeps its share. Whoever's data is in the value and did not compute keeps a part without one:
registered like the others, it is a say in the value's later use. One part alone says nothing of the value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from sealtrace.algorithms.frames import (
    BadShare,
    Holding,
    SecretValue,
    header_end,
    held,
    holding,
    unframed,
)
from sealtrace.algorithms.shares import Computation
from sealtrace.algorithms.values import Value, ValueMismatch, read_values
from sealtrace.protocol.identifiers import AddressField, Hex32Field

MAGIC = b"sealtrace.part/1\n"
SUFFIX = ".part"
PAD = "pad"
"""What a part of an enclave's value holds."""


class PartHeader(Holding):
    """What a part says of itself.

    ``source`` is the value in the words of its task, ``public`` what everybody may know of it. ``keepers``
    are all who keep a part, ``holders`` those of them that hold a share, in the order of their ranks.
    ``computation`` is ``None`` where an enclave made the value (:mod:`sealtrace.algorithms.pads`).
    """

    task: Hex32Field
    source: str
    party: AddressField
    keepers: list[AddressField] = Field(min_length=1, max_length=16)
    holders: list[AddressField] = Field(min_length=1, max_length=16)
    computation: Computation | None
    public: dict[str, Any]

    @property
    def common(self) -> dict[str, Any]:
        """What all parts of one value say alike."""
        return self.model_dump(mode="json", exclude={"party", "values"})

    @property
    def arrays(self) -> tuple[str, ...]:
        """The names of what each holder's part holds.

        Raises:
            BadShare: what is said of the value is malformed.
        """
        return (PAD,) if self.computation is None else tuple(self.value.names)

    @property
    def value(self) -> Value:
        """What is public about the value.

        Raises:
            BadShare: it is malformed.
        """
        return value_of(self.common)


@dataclass(frozen=True, slots=True)
class Part:
    """A party's part of a kept value."""

    header: PartHeader
    values: tuple[SecretValue, ...]


def value_of(common: Mapping[str, Any]) -> Value:
    """What is public about the value whose parts all say ``common``.

    Raises:
        BadShare: it is malformed.
    """
    try:
        return read_values({"value": common["public"]})["value"]
    except (ValueMismatch, KeyError) as error:
        raise BadShare(f"the part does not say what it is of: {error}") from error


def encode_part(header: PartHeader, values: Sequence[SecretValue]) -> bytes:
    """Return a part as bytes; ``header.values`` is filled in from ``values``."""
    return holding(MAGIC, header, values)


def decode_part(data: bytes) -> Part:
    """Read :func:`encode_part` strictly.

    Raises:
        BadShare: the bytes are not one part, or it holds a share though it should not, or the reverse.
    """
    header, values = held(MAGIC, PartHeader, data)
    part = Part(header, values)
    wanted = list(header.arrays) if header.party in header.holders else []
    if [each.name for each in part.values] != wanted:
        raise BadShare("the part does not hold the arrays of its value")
    return part


def read_header(path: Path) -> PartHeader:
    """Read what the part at ``path`` says of itself, and nothing of its share.

    Raises:
        BadShare: it is none.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(len(MAGIC) + 4)
        rest = file.read(max(0, header_end(MAGIC, start) - len(start)))
    header, _ = unframed(MAGIC, PartHeader, start + rest)
    return header


def is_part(path: Path) -> bool:
    """Whether the file at ``path`` begins like a part."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def why_unusable(header: PartHeader, keepers: Sequence[str], computing: Sequence[str]) -> str | None:
    """Why a part does not fit where ``keepers`` give parts and ``computing`` compute, or ``None``."""
    if header.computation is None:
        return "it is a part of what an enclave made: name it in a step of engine tee"
    if list(keepers) != header.keepers:
        return f"its parts are kept by {', '.join(header.keepers)}: name an input of each, and of no other"
    if list(computing) != header.holders:
        return f"its shares are held by {', '.join(header.holders)}: these must compute, and no other"
    return None
