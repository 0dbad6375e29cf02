"""Logs to events, strictly, by decoders that are generated from the committed ABI.

All values of our events are words of 32 bytes. A decoder is one function for one event, written out at the
first use: it takes topics and data as hexadecimal text, holds each word to what its type leaves zero, and
slices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from sys import intern
from typing import NamedTuple

from sealtrace.auditor.events import Decoded, Event, Value
from sealtrace.auditor.headers import RawLog
from sealtrace.contracts import abi
from sealtrace.protocol.identifiers import Address, Hex32
from sealtrace.protocol.records import BlockRef

UNREADABLE = "Unreadable"
"""The name of an event that is none of its contract's, or whose values are not what its ABI declares."""

WORD = 64
"""Hexadecimal digits of 32 bytes."""

Values = dict[str, Value]
Reader = Callable[[Sequence[str], str], Values]
"""From an event's topics and data to its values."""


class NotAsDeclared(ValueError):
    """A log is not what its contract's ABI declares: the chain at that address runs other code than ours."""


class Decoder(NamedTuple):
    """One event's: its name, how many topics and hexadecimal digits of data it has, and its values."""

    name: str
    topics: int
    digits: int
    values: Reader


def decode(log: RawLog, block: BlockRef, contracts: Mapping[Address, str]) -> Event:
    """The event that ``log`` is. One that cannot be read becomes an event of its own kind, and a finding:
    it must neither stop an audit nor be passed over."""
    address = log.address
    try:
        name, args = read(log, contracts[address])
    except NotAsDeclared:
        name, args = UNREADABLE, {}
    return Decoded(name, Address(intern(address)), args, block, Hex32(intern(log.transaction)), log.index)


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
    return name, values(topics, data)


@cache
def decoders(contract: str) -> Mapping[str, Decoder]:
    """The decoders of a contract's events by first topic."""
    return {topic: _decoder(event) for topic, event in abi.events(contract).items()}


def _decoder(event: abi.Event) -> Decoder:
    values = generate(event.name, event.indexed, event.data)
    return Decoder(event.name, 1 + len(event.indexed), WORD * len(event.data), values)


def generate(name: str, indexed: Sequence[abi.Parameter], data: Sequence[abi.Parameter]) -> Reader:
    """A function from an event's topics and data to its values; it raises :class:`NotAsDeclared`. That there
    are as many topics and words as it reads is for its caller to see to."""
    found: dict[str, Reader] = {}
    names = {"_refuse": _refuser(name), "_one": intern}
    exec(_source(indexed, data), names, found)  # noqa: S102 - made of our own ABI's names and of numbers
    return found["values"]


def _source(indexed: Sequence[abi.Parameter], data: Sequence[abi.Parameter]) -> str:
    checks, values = [], []
    for each, word in _words(indexed, data):
        zeros, value = _type(each.type, word)
        if zeros:
            checks.append(f" if {word.part(0, zeros)} != {'0' * zeros!r}: _refuse({each.name!r}, {word})")
        if each.type == "bool":
            checks.append(f" if {word.part(WORD - 1)} not in '01': _refuse({each.name!r}, {word})")
        values.append(f"{each.name!r}: {value}")
    return "\n".join(["def values(t, d):", *checks, f" return {{{', '.join(values)}}}"])


class _Word(NamedTuple):
    """Where a word stands: in which text, after ``0x``, and whether it is all of that text."""

    text: str
    start: int
    alone: bool

    def __str__(self) -> str:
        """The expression of all of it, with its ``0x``."""
        return self.text if self.alone else f"'0x' + {self.part(0)}"

    def part(self, first: int, last: int = WORD) -> str:
        """The expression of its digits from ``first`` up to ``last``."""
        return f"{self.text}[{self.start + first}:{self.start + last}]"


def _words(
    indexed: Sequence[abi.Parameter], data: Sequence[abi.Parameter]
) -> Iterator[tuple[abi.Parameter, _Word]]:
    for place, each in enumerate(indexed, 1):
        yield each, _Word(f"t[{place}]", 2, alone=True)
    for place, each in enumerate(data):
        yield each, _Word("d", 2 + WORD * place, alone=len(data) == 1)


def _type(kind: str, word: _Word) -> tuple[int, str]:
    """How many digits of its word a value's type leaves zero, and the expression that reads it."""
    if kind == "bytes32":
        return 0, f"_one({word})"
    if kind == "address":
        return WORD - 40, f"_one('0x' + {word.part(WORD - 40)})"
    if kind == "bool":
        return WORD - 1, f"{word.part(WORD - 1)} == '1'"
    if kind.startswith("uint") and kind[4:].isdigit():
        digits = int(kind[4:]) // 4
        return WORD - digits, f"int({word.part(WORD - digits)}, 16)"
    raise NotImplementedError(f"no event of ours had a {kind} when this was written")


def _refuser(event: str) -> Callable[[str, str], None]:
    def refuse(name: str, word: str) -> None:
        raise NotAsDeclared(f"{event}.{name} is {word}, which its type does not have")

    return refuse
