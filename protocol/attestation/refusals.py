"""Why evidence is refused: one code for one reason, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Refusal(StrEnum):
    """The reasons, those of verification first; codes are never renamed."""

    MALFORMED = "malformed"
    UNSUPPORTED = "unsupported"
    COLLATERAL_MISSING = "collateral-missing"
    COLLATERAL_MISMATCH = "collateral-mismatch"
    UNKNOWN_ROOT = "unknown-root"
    CHAIN_BROKEN = "chain-broken"
    NOT_YET_VALID = "not-yet-valid"
    EXPIRED = "expired"
    REVOKED = "revoked"
    SIGNATURE_INVALID = "signature-invalid"
    DEBUG = "debug"
    UNSAFE_SETTINGS = "unsafe-settings"

    PROTECTION_NOT_ALLOWED = "protection-not-allowed"
    NOT_BOUND = "not-bound"
    TOO_OLD = "too-old"
    FROM_THE_FUTURE = "from-the-future"
    MEASUREMENT_UNKNOWN = "measurement-unknown"
    TCB_STATUS = "tcb-status"
    TCB_BEHIND = "tcb-behind"
    ADVISORY = "advisory"
    COLLATERAL_OUTDATED = "collateral-outdated"
    FEATURE_NOT_ALLOWED = "feature-not-allowed"
    REVOCATION_UNKNOWN = "revocation-unknown"
    LOG_BROKEN = "log-broken"
    WRONG_RUNTIME = "wrong-runtime"
    WRONG_ALGORITHM = "wrong-algorithm"
    WRONG_CONFIG = "wrong-config"
    WRONG_POLICY = "wrong-policy"
    NOT_DESTROYED = "not-destroyed"


NEXT_STEPS: Mapping[Refusal, str] = {
    Refusal.MALFORMED: "ask for the evidence again, byte for byte as the platform gave it",
    Refusal.UNSUPPORTED: "ask for evidence of a kind and version that docs/attestation.md lists",
    Refusal.COLLATERAL_MISSING: "give what the vendor publishes for this platform beside the evidence",
    Refusal.COLLATERAL_MISMATCH: "fetch the collateral of this very platform: it speaks of another one",
    Refusal.UNKNOWN_ROOT: "do not use it: its chain ends in a root that is no vendor's",
    Refusal.CHAIN_BROKEN: "fetch the platform's certificates again from the vendor",
    Refusal.NOT_YET_VALID: "judge it at a later block, or fetch collateral that was valid at this one",
    Refusal.EXPIRED: "fetch fresh collateral, or judge it at a block at which it was valid",
    Refusal.REVOKED: "do not use this platform: its vendor has withdrawn its key",
    Refusal.SIGNATURE_INVALID: "do not use it: the platform did not sign these bytes",
    Refusal.DEBUG: "have the enclave started without debugging: in debug mode its host reads its memory",
    Refusal.UNSAFE_SETTINGS: "start the TD with the attributes that docs/attestation.md lists",
    Refusal.PROTECTION_NOT_ALLOWED: "run on a TEE that the policy names, or ask the owner to name this one",
    Refusal.NOT_BOUND: "ask for fresh evidence over this task, block, key, algorithm and event log",
    Refusal.TOO_OLD: "ask for fresh evidence over a recent block",
    Refusal.FROM_THE_FUTURE: "judge it at a block after the one that it is bound to",
    Refusal.MEASUREMENT_UNKNOWN: "run the image that the policy names, or ask the owner to accept this one",
    Refusal.TCB_STATUS: "update the platform's firmware, or ask the owner to accept this status",
    Refusal.TCB_BEHIND: "update the platform's firmware to the version that the policy asks for",
    Refusal.ADVISORY: "mend what the advisory describes, or ask the owner to accept it",
    Refusal.COLLATERAL_OUTDATED: "fetch the vendor's current TCB information",
    Refusal.FEATURE_NOT_ALLOWED: "switch the feature off, or ask the owner to allow it",
    Refusal.REVOCATION_UNKNOWN: "give the vendor's revocation list beside the certificates",
    Refusal.LOG_BROKEN: "ask for the whole event log, in its order",
    Refusal.WRONG_RUNTIME: "run in a runtime that the policy names",
    Refusal.WRONG_ALGORITHM: "run the algorithm that the task names",
    Refusal.WRONG_CONFIG: "run with a configuration that the policy names",
    Refusal.WRONG_POLICY: "start the enclave under the policy of every owner whose data it asks for",
    Refusal.NOT_DESTROYED: "ask for the last evidence, whose log ends in the destruction of every input",
}
"""What to do about each reason. A test holds that every reason is here."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason against evidence: its code, and the values that it was seen by."""

    code: Refusal
    detail: str

    @property
    def next_step(self) -> str:
        """What to do about it."""
        return NEXT_STEPS[self.code]

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}; {self.next_step}"


class EvidenceRefused(ValueError):
    """Evidence is not genuine at the time it is judged at; ``reason`` and the message say why."""

    def __init__(self, reason: Refusal, detail: str) -> None:
        super().__init__(str(Reason(reason, detail)))
        self.reason = reason
        self.detail = detail
