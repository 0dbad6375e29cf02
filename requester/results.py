"""From sealed outputs to the result: what was delivered is held against the chain before it is opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from sealtrace.protocol.canonical import sha256
from sealtrace.protocol.envelope import BadEnvelope, unseal
from sealtrace.protocol.identifiers import Address, Hex32, hex32
from sealtrace.protocol.receipt import result_digest
from sealtrace.protocol.statements import BadStatement, Signed, signer_of
from sealtrace.requester.enclaves import Attested
from sealtrace.requester.errors import ResultTampered, WrongKey
from sealtrace.requester.ports import Delivered


@dataclass(frozen=True, slots=True)
class Result:
    """What a task came to: JSON values, and the digests by which the chain vouches for them.

    ``attested`` is what the enclave stated of its run, where the task ran in one.
    """

    task: Hex32
    value: Mapping[str, Any]
    outputs: Mapping[Address, Hex32]
    digest: Hex32
    attested: Attested | None = None


def checked(
    task: Hex32,
    delivered: Mapping[Address, Delivered],
    recorded: Hex32,
    names: Mapping[Address, str],
    attested: Hex32 | None = None,
) -> dict[Address, Hex32]:
    """The digest of each output, after all of them match the result digest on chain.

    Each output is first held against its party's own signed word, so that an output changed on the way
    is told from a party that delivered other bytes than it agreed on. ``attested`` is the digest of what was
    handed over as the last statement of the task's enclave: the parties agreed on that as well.

    Raises:
        ResultTampered: naming the party where one output can be told from the others.
    """
    digests = {party: sha256(each.content) for party, each in delivered.items()}
    if (observed := result_digest(digests, attested)) == recorded:
        return digests
    for party, each in delivered.items():
        if why := _why_not_the_partys(task, party, digests[party], each.statement):
            raise ResultTampered(names.get(party, party), why)
    also = "" if attested is None else f", or the enclave's last statement is not {attested}"
    raise ResultTampered(
        None,
        f"each is what its party signed, but together they are {observed} and the chain "
        f"has {recorded}: a party delivered other bytes than it agreed on{also}",
    )


def opened(
    task: Hex32, delivered: Mapping[Address, Delivered], key: X25519PrivateKey, names: Mapping[Address, str]
) -> dict[Address, bytes]:
    """The shares inside checked outputs, by party.

    Raises:
        WrongKey: they are sealed to another key.
        ResultTampered: an output is bound to another task or party.
    """
    return {party: _open(task, party, each, key, names) for party, each in delivered.items()}


def public_key(key: X25519PrivateKey) -> Hex32:
    """The public half of ``key``, as the chain and the specification write it."""
    return hex32(key.public_key().public_bytes_raw())


def _why_not_the_partys(task: Hex32, party: Address, digest: Hex32, signed: Signed | None) -> str | None:
    if signed is None or not _is_word_of(signed, task, party):
        return "it came without a statement of its party that can be verified"
    if signed.statement.body.get("digest") != digest:
        return f"its party signed {signed.statement.body.get('digest')}, these bytes have {digest}"
    return None


def _is_word_of(signed: Signed, task: Hex32, party: Address) -> bool:
    """Whether ``party`` said this; how long ago does not matter, for one output is sealed once."""
    said = signed.statement
    if (said.kind, said.speaker, said.body.get("task")) != ("task.output", party, task):
        return False
    try:
        return signer_of(signed) == party
    except BadStatement:
        return False


def _open(
    task: Hex32, party: Address, each: Delivered, key: X25519PrivateKey, names: Mapping[Address, str]
) -> bytes:
    try:
        envelope = unseal(each.content, key)
    except BadEnvelope as cause:
        raise WrongKey(
            f"the output of {names.get(party, party)} is as recorded, but hpke.key does not open it "
            f"({cause}): use the key the task was submitted with"
        ) from cause
    if (envelope.header.get("task"), envelope.header.get("party")) != (task, party):
        raise ResultTampered(names.get(party, party), "it was sealed for another task or by another party")
    return envelope.plaintext
