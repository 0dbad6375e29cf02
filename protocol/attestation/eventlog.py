"""The event log of a measured run, and the one value that evidence commits to it by.

The rule is that of a TPM's or TDX's extendable register, over canonical JSON:
``head = SHA384(head ‖ SHA384(JCS(event)))``, beginning with 48 zero bytes. On TDX the same digests extend
RTMR3, which then holds the head itself (Intel TDX Module ABI, TDG.MR.RTMR.EXTEND).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from sealtrace.protocol.canonical import canonical
from sealtrace.protocol.identifiers import Hex32, strict_hex32

START: Final = bytes(48)
MAX_EVENTS: Final = 4096


class EventKind(StrEnum):
    """What an enclave records, in the order in which it may."""

    RUNTIME = "runtime"
    ALGORITHM = "algorithm"
    CONFIG = "config"
    POLICY = "policy"
    INPUT = "input"
    OUTPUT = "output"
    DESTROY = "destroy"


class BrokenLog(ValueError):
    """An event log is not one that a run can have written; the message names the event and the rule."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event. ``subject`` is the dataset of an input, ``erased`` the inputs and keys of a destruction."""

    kind: EventKind
    digest: Hex32 | None = None
    subject: Hex32 | None = None
    erased: tuple[Hex32, ...] = ()

    def document(self) -> dict[str, Any]:
        """The event as it is hashed: of each kind exactly the fields that :data:`FIELDS` names."""
        known = {"digest": self.digest, "subject": self.subject, "erased": list(self.erased)}
        return {"event": self.kind, **{name: known[name] for name in FIELDS[self.kind]}}

    def measured(self) -> bytes:
        """SHA-384 of the canonical JSON: what extends the head, and a platform's register."""
        return hashlib.sha384(canonical(self.document())).digest()


FIELDS: Mapping[EventKind, tuple[str, ...]] = {
    EventKind.RUNTIME: ("digest",),
    EventKind.ALGORITHM: ("digest",),
    EventKind.CONFIG: ("digest",),
    EventKind.POLICY: ("digest",),
    EventKind.INPUT: ("subject", "digest"),
    EventKind.OUTPUT: ("digest",),
    EventKind.DESTROY: ("erased",),
}


def runtime(digest: Hex32) -> Event:
    """The runtime that was measured before anything ran in it."""
    return Event(EventKind.RUNTIME, digest)


def algorithm(digest: Hex32) -> Event:
    """The bundle that was loaded, by the digest that the chain holds."""
    return Event(EventKind.ALGORITHM, digest)


def config(digest: Hex32) -> Event:
    """The parameters and limits of the run."""
    return Event(EventKind.CONFIG, digest)


def policy(digest: Hex32) -> Event:
    """One data owner's policy that the run obeys; one event for each owner."""
    return Event(EventKind.POLICY, digest)


def took_input(dataset: Hex32, digest: Hex32) -> Event:
    """A dataset was opened, and these were its bytes."""
    return Event(EventKind.INPUT, digest, dataset)


def gave_output(digest: Hex32) -> Event:
    """A sealed output left the enclave."""
    return Event(EventKind.OUTPUT, digest)


def destroyed(erased: Iterable[Hex32]) -> Event:
    """These inputs and keys were erased; nothing comes after it."""
    return Event(EventKind.DESTROY, erased=tuple(sorted(set(erased))))


def extend(head: bytes, event: Event) -> bytes:
    """Return the head (48 bytes) after ``event``."""
    return hashlib.sha384(head + event.measured()).digest()


def head_of(events: Iterable[Event]) -> bytes:
    """Return the head (48 bytes) of a log from its beginning."""
    head = START
    for event in events:
        head = extend(head, event)
    return head


def event_of(document: Mapping[str, Any]) -> Event:
    """Read an event as it is hashed.

    Raises:
        BrokenLog: it is of no kind, or has not exactly the fields of its kind.
    """
    try:
        kind = EventKind(document["event"])
        if set(document) != {"event", *FIELDS[kind]}:
            raise ValueError(f"its fields are not {', '.join(FIELDS[kind])}")
        read = {name: _READERS[name](document[name]) for name in FIELDS[kind]}
        event = Event(kind, **read)
    except (ValueError, KeyError, TypeError, AttributeError) as cause:
        raise BrokenLog(f"not an event ({str(cause)[:80]}): ask for the log as it was written") from cause
    if event.document() != document:
        raise BrokenLog("an event is not in the one spelling of its kind: ask for the log as it was written")
    return event


def check_order(events: Sequence[Event]) -> None:
    """Hold a log to the order of a run: what is measured, then inputs, then outputs, then destruction.

    Runtime, algorithm and configuration come exactly once each, policies at least once, each input and policy
    once; a destruction erases every input that was opened, and ends the log.

    Raises:
        BrokenLog: it is not so.
    """
    if len(events) > MAX_EVENTS:
        raise BrokenLog(f"{len(events)} events, more than the {MAX_EVENTS} of any run")
    ranks = [_ORDER.index(event.kind) for event in events]
    if ranks != sorted(ranks):
        raise BrokenLog(f"the events are not in the order {', '.join(_ORDER)}")
    for kind in (EventKind.RUNTIME, EventKind.ALGORITHM, EventKind.CONFIG):
        if ranks.count(_ORDER.index(kind)) != 1:
            raise BrokenLog(f"the event {kind} must come exactly once")
    if EventKind.POLICY not in {event.kind for event in events}:
        raise BrokenLog("there is no event policy")
    _check_distinct(events)
    _check_destruction(events)


def is_destroyed(events: Sequence[Event]) -> bool:
    """Whether the log ends in the destruction of all that was opened."""
    return bool(events) and events[-1].kind is EventKind.DESTROY


def digests_of(events: Iterable[Event], kind: EventKind) -> frozenset[Hex32]:
    """The digests that the events of ``kind`` name."""
    return frozenset(event.digest for event in events if event.kind is kind and event.digest)


_ORDER: Sequence[EventKind] = tuple(EventKind)


def _check_distinct(events: Sequence[Event]) -> None:
    opened = [event.subject for event in events if event.kind is EventKind.INPUT]
    policies = [event.digest for event in events if event.kind is EventKind.POLICY]
    if len(set(opened)) != len(opened) or len(set(policies)) != len(policies):
        raise BrokenLog("an input or a policy comes twice")


def _check_destruction(events: Sequence[Event]) -> None:
    ends = [event for event in events if event.kind is EventKind.DESTROY]
    if len(ends) > 1:
        raise BrokenLog("there is more than one destruction")
    opened = {event.subject for event in events if event.kind is EventKind.INPUT}
    if ends and not opened <= set(ends[0].erased):
        raise BrokenLog("the destruction does not name every input that was opened")


def _hex32s(value: Any) -> tuple[Hex32, ...]:
    read = tuple(map(strict_hex32, value))
    if list(read) != sorted(set(read)):
        raise ValueError("what was erased is listed once each, in ascending order")
    return read


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "digest": strict_hex32,
    "subject": strict_hex32,
    "erased": _hex32s,
}
