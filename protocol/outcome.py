"""Why a task did not run, why it failed, and how far the blame reaches.

The codes are the ones on the chain: ``Denial`` 1 to 31 are judged by the contracts and by every node alike,
from 32 on by the node alone. They are never renumbered.
"""

from __future__ import annotations

from enum import IntEnum


class Denial(IntEnum):
    """The first reason why a task may not run, in the order in which they are looked for."""

    UNKNOWN_GRANT = 1
    WRONG_OWNER = 2
    WRONG_DATASET = 3
    WRONG_ALGORITHM = 4
    WRONG_REQUESTER = 5
    WRONG_PURPOSE = 6
    GRANT_REVOKED = 7
    GRANT_NOT_YET_VALID = 8
    GRANT_EXPIRED = 9
    GRANT_EXHAUSTED = 10
    PROTECTION_NOT_ALLOWED = 11
    REQUESTER_NOT_ACTIVE = 12
    DATASET_NOT_ACTIVE = 13
    ALGORITHM_NOT_ACTIVE = 14
    PARTY_NOT_ACTIVE = 15
    EPSILON_NOT_COVERED = 16
    PARTICIPANT_NOT_ALLOWED = 17

    SPEC_MISMATCH = 32
    SPEC_UNAVAILABLE = 33
    DATASET_ALTERED = 34
    DATASET_MISSING = 35
    BUNDLE_ALTERED = 36
    BUNDLE_MISSING = 37
    INPUT_INVALID = 38
    ENGINE_UNAVAILABLE = 39
    OPERATOR_REFUSED = 40
    OUT_OF_RESOURCES = 41
    PROTOCOL_UNSUPPORTED = 42
    ATTESTATION_REFUSED = 43
    ENCLAVE_LOST = 44
    OTHERS_ABSENT = 45

    @property
    def seen_on_chain(self) -> bool:
        """Whether anybody can check this reason against the chain, not the refusing node alone."""
        return self < 32


class Failure(IntEnum):
    """Why a running task failed, as the party that reports it saw it."""

    ENGINE_CRASHED = 1
    TIMED_OUT = 2
    PEER_UNREACHABLE = 3
    PROGRAM_MISMATCH = 4
    INPUT_INVALID = 5
    EMPTY_INTERSECTION = 6
    DISK_FULL = 7
    INTERRUPTED = 8
    PROTOCOL_VIOLATED = 9
    RESULT_UNDELIVERABLE = 10
    SESSION_REVOKED = 11
    ATTESTATION_FAILED = 12
    OUTPUT_FORBIDDEN = 13


class Blame(IntEnum):
    """How far the blame for a failure reaches."""

    NOBODY = 0
    REPORTER = 1
    PARTY = 2
    SOME_PARTY = 3
