"""What the chain says happened, one event at a time, and where in the chain it says so."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from sealtrace.protocol.identifiers import (
    NOBODY,
    NOTHING,
    Address,
    Hex32,
    MalformedIdentifier,
    UnixSeconds,
    address,
    hex32,
)
from sealtrace.protocol.records import BlockRef

Value = str | int | bool

_is_hex32 = re.compile(r"0x[0-9a-f]{64}").fullmatch
_is_address = re.compile(r"0x[0-9a-f]{40}").fullmatch
_HEX32_LENGTH, _ADDRESS_LENGTH = len(NOTHING), len(NOBODY)


class MalformedEvent(ValueError):
    """An event lacks an argument, or holds one of another type than its ABI says."""


class Position(msgspec.Struct, frozen=True, order=True, gc=False):
    """A place in the chain: the block's number and the log's index in that block."""

    block: int
    log: int

    @classmethod
    def end_of(cls, block: int) -> Position:
        """The place after everything in ``block``."""
        return cls(block + 1, -1)


class Event(msgspec.Struct, frozen=True, gc=False):
    """A decoded log of one of the contracts; ``contract`` is the address that emitted it."""

    name: str
    contract: Address
    args: Mapping[str, Value]
    block: BlockRef
    transaction: Hex32
    log_index: int

    @property
    def position(self) -> Position:
        """Where it stands; events are ordered by it."""
        return Position(self.block.number, self.log_index)

    @property
    def time(self) -> UnixSeconds:
        """The timestamp of its block."""
        return self.block.timestamp

    def hex(self, name: str) -> Hex32:
        """The 32-byte argument ``name``.

        Raises:
            MalformedEvent: there is none.
        """
        value = self.args.get(name)
        if type(value) is str and _is_hex32(value):  # as decoded
            return Hex32(value)
        try:
            return hex32(self._text(name))
        except MalformedIdentifier as cause:
            raise MalformedEvent(f"{self.name}.{name}: {cause}") from cause

    def who(self, name: str) -> Address:
        """The address argument ``name``.

        Raises:
            MalformedEvent: there is none.
        """
        value = self.args.get(name)
        if type(value) is str and _is_address(value):  # as decoded
            return Address(value)
        try:
            return address(self._text(name))
        except MalformedIdentifier as cause:
            raise MalformedEvent(f"{self.name}.{name}: {cause}") from cause

    def number(self, name: str) -> int:
        """The integer argument ``name``.

        Raises:
            MalformedEvent: there is none.
        """
        value = self.args.get(name)
        if type(value) is not int:
            raise MalformedEvent(f"{self.name}.{name} is {value!r}, not a number")
        return value

    def flag(self, name: str) -> bool:
        """The boolean argument ``name``.

        Raises:
            MalformedEvent: there is none.
        """
        value = self.args.get(name)
        if type(value) is not bool:
            raise MalformedEvent(f"{self.name}.{name} is {value!r}, not a truth value")
        return value

    def _text(self, name: str) -> str:
        value = self.args.get(name)
        if not isinstance(value, str):
            raise MalformedEvent(f"{self.name}.{name} is {value!r}, not hexadecimal text")
        return value


class Decoded(Event, frozen=True, gc=False):
    """An event whose text was all held to hexadecimal when it was decoded: an argument's length tells whether
    it is what is asked for."""

    def hex(self, name: str) -> Hex32:
        """As :meth:`Event.hex`."""
        value = self.args.get(name)
        if type(value) is str and len(value) == _HEX32_LENGTH:
            return value  # type: ignore[return-value]  # to say so by a call takes longer than all the rest
        raise self._unlike(name, "32 bytes")

    def who(self, name: str) -> Address:
        """As :meth:`Event.who`."""
        value = self.args.get(name)
        if type(value) is str and len(value) == _ADDRESS_LENGTH:
            return value  # type: ignore[return-value]
        raise self._unlike(name, "an address")

    def _unlike(self, name: str, wanted: str) -> MalformedEvent:
        return MalformedEvent(f"{self.name}.{name} is {self.args.get(name)!r}, not {wanted}")
