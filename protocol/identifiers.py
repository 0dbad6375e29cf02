"""Identifiers and units, each its own type, each in one spelling."""

from __future__ import annotations

import re
from typing import Annotated, NewType

from pydantic import AfterValidator

Address = NewType("Address", str)
"""A node's address: ``0x`` and 40 lower-case hexadecimal digits."""

Hex32 = NewType("Hex32", str)
"""32 bytes: ``0x`` and 64 lower-case hexadecimal digits. Digests, ids, keys and fingerprints."""

UnixSeconds = NewType("UnixSeconds", int)
"""Seconds since 1970-01-01T00:00:00Z. Where a rule needs a time, it is a block's, never a clock's."""

NOTHING = Hex32("0x" + "00" * 32)
NOBODY = Address("0x" + "00" * 20)

_ADDRESS = re.compile(r"0x[0-9a-f]{40}")
_HEX32 = re.compile(r"0x[0-9a-f]{64}")


class MalformedIdentifier(ValueError):
    """A text is not an address or a 32-byte value in our spelling: lower-case hex after ``0x``."""


def address(text: str) -> Address:
    """Read an address in any letter case.

    Raises:
        MalformedIdentifier: it is not ``0x`` and 40 hexadecimal digits.
    """
    lower = text.lower()
    if not _ADDRESS.fullmatch(lower):
        raise MalformedIdentifier(f"{text!r} is not an address: give 0x and 40 hexadecimal digits")
    return Address(lower)


def hex32(value: str | bytes) -> Hex32:
    """Read 32 bytes, given raw or as hexadecimal text with or without ``0x``.

    Raises:
        MalformedIdentifier: it is not 32 bytes.
    """
    text = "0x" + value.hex() if isinstance(value, bytes) else value.lower()
    text = text if text.startswith("0x") else "0x" + text
    if not _HEX32.fullmatch(text):
        raise MalformedIdentifier(f"{value!r} is not 32 bytes: give 0x and 64 hexadecimal digits")
    return Hex32(text)


def strict_hex32(text: str) -> Hex32:
    """Read 32 bytes in our spelling alone, so that one value has one digest.

    Raises:
        MalformedIdentifier: it is in another spelling, or not 32 bytes.
    """
    if not _HEX32.fullmatch(text):
        raise MalformedIdentifier("give 0x and 64 lower-case hexadecimal digits")
    return Hex32(text)


def raw(value: str) -> bytes:
    """The bytes of an :class:`Address` or a :class:`Hex32`."""
    return bytes.fromhex(value[2:])


def _strict_address(text: str) -> str:
    if not _ADDRESS.fullmatch(text):
        raise ValueError("give 0x and 40 lower-case hexadecimal digits")
    return text


AddressField = Annotated[Address, AfterValidator(_strict_address)]
"""An :class:`Address` in a document: any other spelling is refused, so one value has one digest."""

Hex32Field = Annotated[Hex32, AfterValidator(strict_hex32)]
"""A :class:`Hex32` in a document."""
