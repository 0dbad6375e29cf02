"""Logs to events, strictly, by decoders that are generated from the committed ABI.

All values of our events are words of 32 bytes. A decoder is one function for one event, written out at the
first use: it takes the words as hexadecimal text, holds each to what its type leaves zero, and slices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import NamedTuple

from sealtrace.auditor.events import Decoded, Event, Value
from sealtrace.auditor.headers import RawLog
from sealtrace.contracts import abi
from sealtrace.protocol.identifiers import Address
from sealtrace.protocol.records import BlockRef

UNREADABLE = "Unreadable"
"""The name of an event that is none of its contract's, or whose values are not what its ABI declares."""

WORD = 64
"""Hexadecimal digits of 32 bytes."""

Values = dict[str, Value]


class NotAsDeclared(ValueError):
    """A log is not what its contract's ABI declares: the chain at that address runs other code than ours."""


class Decoder(NamedTuple):
    """One event's: its name, how many topics and hexadecimal digits of data it has, and its values."""

    name: str
    topics: int
    digits: int
    values: Callable[[str], Values]


def decode(log: RawLog, block: BlockRef, contracts: Mapping[Address, str]) -> Event:
    """The event that ``log`` is. One that cannot be read becomes an event of its own kind, and a finding:
    it must neither stop an audit nor be passed over."""
    address = log.address
    try:
        name, args = read(log, contracts[address])
    except NotAsDeclared:
        name, args = UNREADABLE, {}
    return Decoded(name, address, args, block, log.transaction, log.index)


def read(log: RawLog, contract: str) -> tuple[str, Values]:
    """The name of the event and its values, in our spelling.

    Raises:
        NotAsDeclared: the contract has no such event, or it has more or less data, or a value has bits that
            its type does not have.
    """
    topics = log.topics
    data = log.data
    found = decoders(contract).get(topics[0]) if topics else None
    if found is None:
        raise NotAsDeclared(f"{contract} has no event {topics[0] if topics else 'without topics'}")
    name, count, digits, values = found
    if len(topics) != count or len(data) != digits + 2:
        raise NotAsDeclared(f"{name} has {len(topics)} topics and {len(data) // 2 - 1} bytes of data")
    return name, values("".join(topics[1:]).replace("0x", "") + data[2:])


@cache
def decoders(contract: str) -> Mapping[str, Decoder]:
    """The decoders of a contract's events by first topic."""
    return {topic: _decoder(event) for topic, event in abi.events(contract).items()}


def _decoder(event: abi.Event) -> Decoder:
    values = generate(event.name, (*event.indexed, *event.data))
    return Decoder(event.name, 1 + len(event.indexed), WORD * len(event.data), values)


def generate(name: str, parameters: Sequence[abi.Parameter]) -> Callable[[str], Values]:
    """A function from the words of an event, as text, to its values; it raises :class:`NotAsDeclared`."""
    found: dict[str, Callable[[str], Values]] = {}
    names = {"_refuse": _refuser(name)}
    exec(_source(parameters), names, found)  # noqa: S102 - made of our own ABI's names and of numbers
    return found["values"]


def _source(parameters: Sequence[abi.Parameter]) -> str:
    checks, values = [], []
    for place, each in enumerate(parameters):
        start, end = WORD * place, WORD * (place + 1)
        used, value = _type(each.type, end)
        if used < WORD:
            zeros = f"{'0' * (WORD - used)!r}"
            checks.append(f" if t[{start}:{end - used}] != {zeros}: _refuse({each.name!r}, t[{start}:{end}])")
        if each.type == "bool":
            checks.append(f" if t[{end - 1}] not in '01': _refuse({each.name!r}, t[{start}:{end}])")
        values.append(f"{each.name!r}: {value}")
    return "\n".join(["def values(t):", *checks, f" return {{{', '.join(values)}}}"])


def _type(kind: str, end: int) -> tuple[int, str]:
    """How many digits of its word a value takes, at the end, and the expression that reads it."""
    if kind == "bytes32":
        return WORD, f"'0x' + t[{end - WORD}:{end}]"
    if kind == "address":
        return 40, f"'0x' + t[{end - 40}:{end}]"
    if kind == "bool":
        return 1, f"t[{end - 1}] == '1'"
    if kind.startswith("uint") and kind[4:].isdigit():
        return int(kind[4:]) // 4, f"int(t[{end - int(kind[4:]) // 4}:{end}], 16)"
    raise NotImplementedError(f"no event of ours had a {kind} when this was written")


def _refuser(event: str) -> Callable[[str, str], None]:
    def refuse(name: str, word: str) -> None:
        raise NotAsDeclared(f"{event}.{name} is {word}, which its type does not have")

    return refuse
