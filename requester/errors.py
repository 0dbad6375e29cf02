"""What can go wrong for a requester, grouped by whose problem it is; each message says what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sealtrace.protocol.identifiers import Address, Hex32
from sealtrace.protocol.outcome import Blame, Denial, Failure


class RequesterError(Exception):
    """Anything that keeps a requester from its result."""


# The requester's own problem: files, keys, what was asked.


class NoDirectory(RequesterError):
    """There is no requester here."""

    def __init__(self, directory: Path, why: str) -> None:
        super().__init__(f"{directory} is not a requester's directory ({why}): run `sealtrace task init`")


class SettingsInvalid(RequesterError):
    """``requester.toml`` is malformed; the message names the setting."""


class RowsUnknown(RequesterError):
    """A plan is asked for rows that cannot be; the message says which."""


class FileUnwritable(RequesterError):
    """A file cannot be written; what was there before is still there."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path} cannot be written ({why}): free space or choose another place, try again")


class SpecInvalid(RequesterError):
    """A task file is wrong; the message names file, line and reason."""

    def __init__(self, source: str, line: int | None, why: str) -> None:
        super().__init__(f"{source}:{line}: {why}" if line is not None else f"{source}: {why}")
        self.line = line


class GrantNotFound(RequesterError):
    """No owner's grant covers what a step asks."""

    def __init__(self, step: str, input: str, owner: Address) -> None:
        super().__init__(
            f"step {step}: {owner} has no grant in force for input {input}, this algorithm, purpose and "
            "requester; ask the owner for one, or name a grant under the step's grants"
        )


class WrongKey(RequesterError):
    """The keys here are not those that the task or the chain names."""


class AlgorithmUnknownHere(RequesterError):
    """The bundle of an algorithm is not on this machine."""

    def __init__(self, algorithm: str) -> None:
        super().__init__(
            f"no bundle {algorithm} on this machine; get its folder from its provider and run "
            "`sealtrace algorithm add DIR --local`"
        )


class TaskUnknown(RequesterError):
    """No such task is on the chain."""

    def __init__(self, task: Hex32) -> None:
        super().__init__(f"there is no task {task} on the chain: check the id, or submit its specification")


class NotInEnclave(RequesterError):
    """The task runs in no enclave, which could state or tell anything."""

    def __init__(self, task: Hex32) -> None:
        super().__init__(f"task {task} runs in no enclave: there are no statements and no metrics of it")


class TaskNotOver(RequesterError):
    """The wait for a task ended before the task did."""

    def __init__(self, task: Hex32, waited_s: float, state: str) -> None:
        super().__init__(f"task {task} is still {state} after {waited_s:g} s: wait longer, or cancel it")


class ConfigNotTaken(RequesterError):
    """An algorithm cannot have secret values; the message says why."""


class SecretsInBundle(RequesterError):
    """A file with secret values lies, or would lie, in a bundle's folder, which everybody is given."""

    def __init__(self, path: Path, folder: Path) -> None:
        super().__init__(
            f"{path} is inside the bundle {folder}, and all that is there is handed out with the algorithm: "
            "name a place outside of it"
        )


class SecretsThere(RequesterError):
    """Secret values with their salts are in the file already; without them nothing can be opened again."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} is there already, and is not overwritten: name another file, or move it")


# A party's problem: the task ended otherwise than hoped.


class TaskRefused(RequesterError):
    """A party declined the task and recorded why."""

    def __init__(self, task: Hex32, party: str, denial: Denial | None, code: int) -> None:
        reason = in_words(denial.name) if denial is not None else f"reason {code}"
        super().__init__(f"{party} refused task {task}: {reason}; ask the owner, then submit a new task")
        self.party = party
        self.denial = denial


class TaskFailed(RequesterError):
    """A party reported that the run failed."""

    def __init__(
        self, task: Hex32, party: str, failure: Failure | None, code: int, blame: Blame, blamed: str | None
    ) -> None:
        reason = in_words(failure.name) if failure is not None else f"reason {code}"
        super().__init__(
            f"task {task} failed: {party} reports {reason}, blaming {blamed or in_words(blame.name)}; "
            "the uses it started are spent, a new task needs new ones"
        )
        self.party = party
        self.failure = failure
        self.blame = blame
        self.blamed = blamed


class TaskExpired(RequesterError):
    """The deadline passed before the task was done."""

    def __init__(self, task: Hex32, missing: Sequence[str]) -> None:
        whom = f" while waiting for {', '.join(missing)}" if missing else ""
        super().__init__(f"task {task} expired{whom}; submit a new one with a later deadline")
        self.missing = tuple(missing)


class TaskCancelled(RequesterError):
    """Its requester gave the task up, or a data owner stopped it."""

    def __init__(self, task: Hex32, by: str) -> None:
        super().__init__(f"task {task} was ended by {by}; submit a new one if you still need it")
        self.by = by


class ResultDisputed(RequesterError):
    """The parties do not agree on the result; none of it can be relied on."""

    def __init__(self, task: Hex32) -> None:
        super().__init__(
            f"the parties of task {task} reported different result digests: do not use any output; ask "
            "the regulator to compare the parties' evidence"
        )


class ResultTampered(RequesterError):
    """What was delivered is not what the parties recorded. ``party`` is whose output it is, if one's."""

    def __init__(self, party: str | None, why: str) -> None:
        whose = f"the output of {party}" if party else "the set of outputs"
        super().__init__(f"{whose} was altered: {why}; do not use it, keep the files and tell the regulator")
        self.party = party


class ResultMissing(RequesterError):
    """The task completed, but some outputs are not at the scheduler."""

    def __init__(self, parties: Sequence[str]) -> None:
        super().__init__(f"no output of {', '.join(parties)} at the scheduler: try again, or ask them")
        self.parties = tuple(parties)


class EnclaveStatementMissing(RequesterError):
    """The task completed, but its enclave's last statement is not at the scheduler."""

    def __init__(self, task: Hex32) -> None:
        super().__init__(
            f"the last statement of the enclave of task {task} is not at the scheduler: try again, or have "
            "the party of the enclave or an owner hand it over"
        )


class EnclaveStatementWrong(RequesterError):
    """What the enclave states does not vouch for the result; the message says what differs."""

    def __init__(self, task: Hex32, why: str) -> None:
        super().__init__(
            f"the enclave's statement does not vouch for the result of task {task}: {why}; do not use the "
            "result, keep the files and tell the regulator"
        )


class MetricsUnreadable(RequesterError):
    """A message of metrics is not one that this task's enclave sealed for the key here."""

    def __init__(self, task: Hex32, number: int, why: str) -> None:
        super().__init__(
            f"message {number} of the metrics of task {task} cannot be read ({why}): use the directory the "
            "task was submitted from; if it is that one, do not rely on this scheduler. The result is not "
            "concerned"
        )


# The world's problem: the scheduler.


class SchedulerUnreachable(RequesterError):
    """The scheduler does not answer."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(f"{url} does not answer ({why}): check its address, try again; nothing was changed")


class SchedulerRefused(RequesterError):
    """The scheduler answered with a named problem."""

    def __init__(self, name: str, status: int, detail: str, next: str) -> None:
        super().__init__(f"{name}: {detail}. {next}".strip())
        self.name = name
        self.status = status


class SchedulerMisbehaved(RequesterError):
    """The scheduler's answer is not what it must be; nothing it said was used."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(f"{url}: {why}; do not rely on this scheduler, and tell its operator")


def in_words(name: str) -> str:
    """A reason as it is spoken: ``grant exhausted``."""
    return name.lower().replace("_", " ")
