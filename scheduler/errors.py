"""What the scheduler refuses or cannot do, grouped by whose problem it is; each knows its HTTP status."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from sealtrace.protocol.identifiers import Address, Hex32


class SchedulerError(Exception):
    """Anything the scheduler answers with. ``next`` says what the reader can do."""

    status: ClassVar[int] = 500
    next: ClassVar[str] = "Report it to the scheduler's operator with the time of the request."

    def problem(self) -> dict[str, Any]:
        """The body of an ``application/problem+json`` answer (RFC 9457)."""
        name = type(self).__name__
        return {
            "type": f"urn:sealtrace:problem:{name}",
            "title": (type(self).__doc__ or name).splitlines()[0],
            "status": self.status,
            "detail": str(self),
            "next": self.next,
        }


# The caller's problem: what was sent.


class MalformedRequest(SchedulerError):
    """The request is not what this address takes."""

    status = 400
    next = "Compare the request with the API's description at /openapi.json."


class NoSuchRoute(SchedulerError):
    """The scheduler has no such address, or does not take this method there."""

    status = 404
    next = "Compare the address and the method with the API's description at /openapi.json."


class RequestTooLarge(SchedulerError):
    """The request's body is larger than allowed here."""

    status = 413
    next = "Send less, or ask the operator to raise the limit in scheduler.toml."

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"more than the {limit_bytes} bytes allowed here")


class BodyTooSlow(SchedulerError):
    """The request's body did not arrive in time."""

    status = 408
    next = "Send it again over a better connection."


class TooManyRequests(SchedulerError):
    """This address asks too often."""

    status = 429
    next = "Wait a second and ask less often."


class StatementRefused(SchedulerError):
    """The statement is not the speaker's, not for us, or stale."""

    status = 401
    next = "Sign it anew with the node's key for the audience 'scheduler', and check both clocks."


class NotTheSpeaker(SchedulerError):
    """The statement is genuine, but this is not the speaker's to say or to ask for."""

    status = 403
    next = "Use the key of the party or requester that the task names."


class SpecRefused(SchedulerError):
    """The task specification is malformed or contradicts itself."""

    status = 422
    next = "Correct the place named and submit again; nothing was kept."


class SpecExpired(SchedulerError):
    """The deadline of the specification has passed."""

    status = 422
    next = "Give a later deadline and submit again."

    def __init__(self, deadline: int, now: int) -> None:
        super().__init__(f"the deadline {deadline} is not after {now}, the time of the last block")


class ProtocolUnsuitable(SchedulerError):
    """A step's protocol does not fit its parties or what the grants allow."""

    status = 422
    next = "Leave the protocol out of the draft and let POST /v1/plans choose one, or name another."

    def __init__(self, step: str, why: str) -> None:
        super().__init__(f"step {step}: {why}")


class TooManyOpenTasks(SchedulerError):
    """This requester has as many open tasks as the scheduler takes from one."""

    status = 429
    next = "Wait until some are over, or cancel them."

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} tasks are open already")


class TaskNotFound(SchedulerError):
    """The scheduler has not been told of this task."""

    status = 404
    next = "Submit its specification here first; a task that is only on the chain cannot be introduced."

    def __init__(self, task: Hex32) -> None:
        super().__init__(f"no task {task}")


class OutputNotFound(SchedulerError):
    """This party's sealed output is not here."""

    status = 404
    next = "Wait until the party has delivered, or see the task's state; outputs are kept for a limited time."

    def __init__(self, task: Hex32, party: Address) -> None:
        super().__init__(f"no output of {party} for task {task}")


class OutputDigestWrong(SchedulerError):
    """The bytes received are not those the statement names."""

    status = 422
    next = "Send the file again; if it fails again, seal the output anew."

    def __init__(self, said: Hex32, observed: Hex32) -> None:
        super().__init__(f"the statement says {said}, the bytes have {observed}")


class OutputChanged(SchedulerError):
    """This party delivered other bytes before."""

    status = 409
    next = "The first delivery stands; a party seals its output once. Look for a run that happened twice."

    def __init__(self, task: Hex32, party: Address, kept: Hex32) -> None:
        super().__init__(f"{party} delivered {kept} for task {task} before")


class EnclaveStatementRefused(SchedulerError):
    """The document is no statement of this task's enclave."""

    status = 422
    next = "Hand over the statement of this task as its enclave wrote it, byte by byte."


class EnclaveStatementNotFound(SchedulerError):
    """No such statement of this task's enclave is here."""

    status = 404
    next = "See /v1/tasks/{task}/statements for those that are; they are kept as long as the task's outputs."

    def __init__(self, task: Hex32, digest: Hex32) -> None:
        super().__init__(f"no statement {digest} for task {task}")


class MetricsOutOfOrder(SchedulerError):
    """A message of metrics is not the next one."""

    status = 409
    next = "Send the message with the number named first: numbers ascend from 0 without gaps."

    def __init__(self, number: int, expected: int) -> None:
        super().__init__(f"number {number} came where {expected} is expected")


class MetricsChanged(SchedulerError):
    """Other bytes came under this number before."""

    status = 409
    next = "The first message stands; an enclave seals each once. Look for a run that happened twice."

    def __init__(self, task: Hex32, number: int, kept: Hex32) -> None:
        super().__init__(f"message {number} of task {task} is {kept}")


class TooManyMetrics(SchedulerError):
    """A task has as many messages of metrics as are kept, or as many bytes of them."""

    status = 413
    next = "Report fewer rounds; the result is not concerned. The operator sets limits.metrics_bytes."


class TaskOver(SchedulerError):
    """The task is over and its outputs are no longer kept."""

    status = 410
    next = "Submit a new task."


# A party's problem: who it is, and whether it is there.


class PartyUnknown(SchedulerError):
    """An address the chain never admitted."""

    status = 422
    next = "Check the address; the registrar admits organisations."

    def __init__(self, party: Address) -> None:
        super().__init__(f"{party} is not a member of the consortium")


class PartyNotActive(SchedulerError):
    """A member that is suspended or retired."""

    status = 422
    next = "Ask the registrar why, or leave the party out."

    def __init__(self, party: Address, standing: str) -> None:
        super().__init__(f"{party} is {standing}")


class HelperNotAdmitted(SchedulerError):
    """A party that would compute without data of its own, and was not admitted to compute."""

    status = 422
    next = "Have the registrar admit it as compute provider, or name another under compute."

    def __init__(self, party: Address) -> None:
        super().__init__(f"{party} brings no data and is no compute provider")


class PartyNotAlive(SchedulerError):
    """A party that has not been heard of lately."""

    status = 503
    next = "Ask the party to start its node, then submit again."

    def __init__(self, parties: Sequence[Address]) -> None:
        super().__init__(f"no heartbeat from {', '.join(parties)}")
        self.parties = tuple(parties)


class RequesterNotAdmitted(SchedulerError):
    """The speaker may not ask for computations."""

    status = 403
    next = "Ask the registrar for the role of requester."

    def __init__(self, requester: Address) -> None:
        super().__init__(f"{requester} is not an active member with the role of requester")


class CertificateMismatch(SchedulerError):
    """The certificate in a heartbeat is not the one on chain."""

    status = 403
    next = "Serve the certificate whose fingerprint is on chain, or rotate the keys on chain first."

    def __init__(self, expected: Hex32, observed: Hex32) -> None:
        super().__init__(f"the chain has {expected}, the certificate {observed}")


class HeartbeatStale(SchedulerError):
    """A heartbeat older than one already heard."""

    status = 409
    next = "Send the newest; if it is the newest, set the node's clock."

    def __init__(self, said_at: int, last: int) -> None:
        super().__init__(f"said at {said_at}, but one of {last} was heard")


# The world's problem: the chain, the disk.


class ChainUnavailable(SchedulerError):
    """The chain could not be asked."""

    status = 503
    next = "Try again later; nothing was changed."


class StorageFull(SchedulerError):
    """The scheduler's disk is full."""

    status = 507
    next = "Nothing of this request was kept; free space on the scheduler's disk and send it again."


class OutputDamaged(SchedulerError):
    """A stored output no longer has the digest it came with."""

    status = 500
    next = "The scheduler's disk is damaged or was tampered with: ask the parties to deliver again."

    def __init__(self, task: Hex32, party: Address) -> None:
        super().__init__(f"the output of {party} for task {task} was altered on disk")


# The operator's problem: settings and the machine.


class SettingsInvalid(SchedulerError):
    """``scheduler.toml`` is missing, malformed, or names a setting that does not exist."""

    next = "Correct the file, or create one with `sealtrace scheduler init`."


class PortTaken(SchedulerError):
    """Another process listens where the scheduler should."""

    next = "Choose another port in scheduler.toml (0 takes a free one) or stop that process."
