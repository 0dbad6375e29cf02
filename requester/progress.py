"""How far a task is, by the chain alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sealtrace.protocol.identifiers import NOBODY, Address, Hex32, UnixSeconds, hex32
from sealtrace.protocol.lifecycle import OPEN_STATES, TaskState, at_time
from sealtrace.protocol.outcome import Blame, Denial, Failure
from sealtrace.protocol.records import BlockRef
from sealtrace.requester.errors import (
    RequesterError,
    ResultDisputed,
    TaskCancelled,
    TaskExpired,
    TaskFailed,
    TaskRefused,
)
from sealtrace.requester.ports import EventOnChain, TaskOnChain

# A chain that makes blocks on demand shows no time passing while nobody sends. After this many seconds
# by our own clock nothing a party sends can be in a block before the deadline any more.
CLOCK_GRACE_SECONDS = 60

ENDINGS = frozenset({"TaskCompleted", "TaskDisputed", "TaskRefused", "TaskFailed", "TaskCancelled"})


@dataclass(frozen=True, slots=True)
class PartyProgress:
    """What one party has sent so far."""

    address: Address
    name: str
    approved: bool
    started: bool
    finished: bool


@dataclass(frozen=True, slots=True)
class Ending:
    """The event that ended a task, by its name and arguments."""

    event: str
    args: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Progress:
    """A task at one block. ``result`` is the digest that all parties reported, once it is completed."""

    task: Hex32
    state: TaskState
    block: BlockRef
    deadline: UnixSeconds
    parties: tuple[PartyProgress, ...]
    ending: Ending | None = None

    @property
    def result(self) -> Hex32 | None:
        """The digest over all sealed outputs, as every party reported it."""
        if self.ending is None or self.ending.event != "TaskCompleted":
            return None
        return hex32(self.ending.args["result"])

    @property
    def over(self) -> bool:
        """Whether nothing can happen to the task any more."""
        return self.state not in OPEN_STATES

    def same_as(self, other: Progress | None) -> bool:
        """Whether nothing but the block is new since ``other``."""
        return other is not None and (self.state, self.parties) == (other.state, other.parties)


def progress(
    task: Hex32,
    record: TaskOnChain,
    parties: Sequence[Address],
    names: Mapping[Address, str],
    block: BlockRef,
    clock: UnixSeconds,
) -> Progress:
    """Put the chain's record at ``block`` into words. ``clock`` is this machine's time."""
    now = UnixSeconds(max(block.timestamp, clock - CLOCK_GRACE_SECONDS))
    return Progress(
        task=task,
        state=at_time(record.state, record.deadline, now),
        block=block,
        deadline=record.deadline,
        parties=tuple(
            PartyProgress(
                address=party,
                name=names.get(party, party),
                approved=bool(record.approved >> index & 1),
                started=bool(record.started >> index & 1),
                finished=bool(record.finished >> index & 1),
            )
            for index, party in enumerate(parties)
        ),
    )


def ending_of(events: Sequence[EventOnChain]) -> Ending | None:
    """The event that ended the task, if one is among ``events``."""
    found = [Ending(each.name, each.args) for each in events if each.name in ENDINGS]
    return found[-1] if found else None


def why_no_result(seen: Progress, names: Mapping[Address, str]) -> RequesterError | None:
    """Why a task that is over has no result, or ``None`` when it completed."""
    if seen.state is TaskState.COMPLETED:
        return None
    if seen.state is TaskState.DISPUTED:
        return ResultDisputed(seen.task)
    if seen.state is TaskState.EXPIRED:
        return TaskExpired(seen.task, [each.name for each in seen.parties if not each.finished])
    args = seen.ending.args if seen.ending else {}
    if seen.state is TaskState.REFUSED:
        return _refused(seen.task, args, names)
    if seen.state is TaskState.FAILED:
        return _failed(seen.task, args, names)
    return TaskCancelled(seen.task, _named(args.get("by"), names))


def _refused(task: Hex32, args: Mapping[str, Any], names: Mapping[Address, str]) -> TaskRefused:
    code = int(args.get("reason", 0))
    denial = Denial(code) if code in set(Denial) else None
    return TaskRefused(task, _named(args.get("party"), names), denial, code)


def _failed(task: Hex32, args: Mapping[str, Any], names: Mapping[Address, str]) -> TaskFailed:
    code = int(args.get("reason", 0))
    failure = Failure(code) if code in set(Failure) else None
    blamed = args.get("blamed", NOBODY)
    return TaskFailed(
        task,
        _named(args.get("party"), names),
        failure,
        code,
        Blame(int(args.get("blame", 0))),
        None if blamed == NOBODY else _named(blamed, names),
    )


def _named(party: Any, names: Mapping[Address, str]) -> str:
    return names.get(party, str(party)) if party else "a party"
