"""What evidence is bound to: the 64 bytes that a platform signs on an enclave's behalf."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from sealtrace.protocol.attestation.eventlog import Event, head_of
from sealtrace.protocol.canonical import canonical
from sealtrace.protocol.identifiers import Hex32, UnixSeconds

DOMAIN: Final = b"sealtrace.tee.v1"
REPORT_DATA_BYTES: Final = 64


@dataclass(frozen=True, slots=True)
class Moment:
    """A block as a time: its timestamp and its number."""

    time: UnixSeconds
    number: int


@dataclass(frozen=True, slots=True)
class Challenge:
    """What evidence has to be about: who asks for it fixes this before there is any.

    ``block`` is the hash of a recent block, mined at ``issued``: the caller has looked it up on the chain.
    ``key`` is the enclave's fresh public key, raw, that data keys will be sealed to.
    """

    task: Hex32
    block: Hex32
    issued: Moment
    key: bytes
    algorithm: Hex32


def report_data(challenge: Challenge, events: tuple[Event, ...] = ()) -> bytes:
    """The 64 bytes that bind evidence to a task, a block, a key, an algorithm and the event log so far.

    ``SHA-512("sealtrace.tee.v1" ‖ JCS{algorithm, block, key, log, task})``; ``key`` and ``log`` (the head)
    are lower-case hexadecimal, the others in the spelling of the chain.
    """
    body = {
        "task": challenge.task,
        "block": challenge.block,
        "key": challenge.key.hex(),
        "algorithm": challenge.algorithm,
        "log": head_of(events).hex(),
    }
    return hashlib.sha512(DOMAIN + canonical(body)).digest()
