"""What can go wrong in a run, by whose problem it is, each with the code a process reports it by."""

from __future__ import annotations

from typing import ClassVar


class EngineError(Exception):
    """A run ended without a result. ``code`` is stable; ``str()`` says what to do."""

    code: ClassVar[str] = "engine_error"

    def __init__(self, detail: str, *, peer: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.peer = peer
        """The party at fault, where one is known."""


# --- our own inputs and machine


class BadInput(EngineError):
    """This party's table does not fit the job. ``reason`` names the rule; no cell is quoted."""

    code = "bad_input"

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.explanation = detail


class BadJob(EngineError):
    """The job contradicts itself, or asks for what this engine cannot do."""

    code = "bad_job"


class BundleRefused(EngineError):
    """The algorithm bundle is missing, altered or malformed; fetch it again by its digest."""

    code = "bundle_refused"


class EngineMissing(EngineError):
    """The engine is not installed at this node."""

    code = "engine_missing"


class DiskFull(EngineError):
    """No space left for the job's files; free some and let the requester ask again."""

    code = "disk_full"


class EngineCrashed(EngineError):
    """The engine's process died; its log is in the job directory."""

    code = "engine_crashed"


class EngineTimeout(EngineError):
    """The job was not done at its deadline, and was killed."""

    code = "engine_timeout"


class Stopped(EngineError):
    """The job was stopped from this node: an operator, or the task's state on the chain."""

    code = "stopped"


class SandboxUnavailable(EngineError):
    """This host cannot confine a measured command as asked; the message says what to install or allow."""

    code = "sandbox_unavailable"


class AttesterUnavailable(EngineError):
    """The platform that should attest this node is not there or does not answer; the message says how to have
    it."""

    code = "attester_unavailable"


class AttesterFailed(EngineError):
    """The platform gave what cannot be evidence for what was asked; nothing of it is used."""

    code = "attester_failed"


# --- the measured command's


class SandboxFailed(EngineError):
    """The measured command ended with an error; what it printed stays at this node."""

    code = "sandbox_failed"

    def __init__(self, detail: str, *, peer: str | None = None, log: bytes = b"") -> None:
        super().__init__(detail, peer=peer)
        self.log = log
        """The first part of what it printed. It may quote inputs: never send it to a requester."""


class OutputForbidden(EngineError):
    """The output policy refuses what the algorithm gave; nothing of it left. The message says which rule."""

    code = "output_forbidden"


class RuntimeMismatch(EngineError):
    """This node has not the Python or the packages that the algorithm is locked to; install those."""

    code = "runtime_mismatch"


class OutputFlood(SandboxFailed):
    """The measured command wrote more than its output may be, and was killed."""

    code = "output_flood"


class MemoryExceeded(SandboxFailed):
    """The measured command asked for more memory than its limit; allow more, or give it less data."""

    code = "memory_exceeded"


class ProcessesExceeded(SandboxFailed):
    """The measured command asked for more processes than its limit, and failed."""

    code = "processes_exceeded"


class TimeExceeded(SandboxFailed):
    """The measured command was not done within its wall time, and was killed."""

    code = "time_exceeded"


class CpuExceeded(SandboxFailed):
    """The measured command used more CPU time than its limit, and was killed."""

    code = "cpu_exceeded"


# --- a peer's


class PeerUnreachable(EngineError):
    """A peer is gone or silent; ``peer`` names it where that is known."""

    code = "peer_unreachable"


class PeerFailed(EngineError):
    """A peer said that it ended without finishing."""

    code = "peer_failed"


class ProgramMismatch(EngineError):
    """The parties would not run the same program on equally many rows; nothing was shared."""

    code = "program_mismatch"


class ProtocolViolated(EngineError):
    """A peer sent something that the protocol does not allow."""

    code = "protocol_violated"


# --- nobody's


class PeerIncompatible(EngineError):
    """A peer's gateway speaks another version of the link; both nodes need the same release of sealtrace."""

    code = "peer_incompatible"


class EmptyIntersection(EngineError):
    """No row is common to all parties; every party knows that now, and nothing more ran."""

    code = "empty_intersection"


class SessionCut(EngineError):
    """The gateway cut the session: the chain does not authorise it, or no longer."""

    code = "session_cut"


_ERRORS: tuple[type[EngineError], ...] = (
    BadJob,
    BundleRefused,
    EngineMissing,
    DiskFull,
    EngineCrashed,
    EngineTimeout,
    Stopped,
    SandboxUnavailable,
    AttesterUnavailable,
    AttesterFailed,
    SandboxFailed,
    OutputForbidden,
    RuntimeMismatch,
    OutputFlood,
    MemoryExceeded,
    ProcessesExceeded,
    TimeExceeded,
    CpuExceeded,
    PeerUnreachable,
    PeerFailed,
    ProgramMismatch,
    ProtocolViolated,
    PeerIncompatible,
    EmptyIntersection,
    SessionCut,
)
_BY_CODE = {error.code: error for error in _ERRORS}


def to_report(error: EngineError) -> dict[str, str | None]:
    """Return an error as JSON values, for ``error.json``."""
    reason = error.reason if isinstance(error, BadInput) else None
    detail = error.explanation if isinstance(error, BadInput) else error.detail
    return {"code": error.code, "detail": detail, "reason": reason, "peer": error.peer}


def from_report(report: dict[str, str | None]) -> EngineError:
    """Return the error that a process reported; unknown codes are crashes."""
    detail = report.get("detail") or "no detail"
    if report.get("code") == BadInput.code:
        return BadInput(report.get("reason") or "unknown", detail)
    kind = _BY_CODE.get(report.get("code") or "", EngineCrashed)
    return kind(detail, peer=report.get("peer"))
