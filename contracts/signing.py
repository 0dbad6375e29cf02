"""Acts signed off chain, as EIP-712 typed data; who signs, and who submits, may be two.

What is signed is computed here from values that the signer holds, never fetched from an endpoint. The
functions give the whole typed data, so that a hardware wallet can show it and sign it.

Source: EIP-712 (typed data), ERC-2098 (short signatures).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eth_account.messages import encode_typed_data

from sealtrace.contracts.terms import task_id
from sealtrace.protocol.accounts import Account
from sealtrace.protocol.identifiers import Address, Hex32, UnixSeconds, raw
from sealtrace.protocol.records import GrantTerms, TaskTerms

HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
"""Half the order of secp256k1: the contracts take no signature with a greater ``s`` (EIP-2)."""

_GRANT = (
    ("dataset", "bytes32"),
    ("algorithm", "bytes32"),
    ("requester", "address"),
    ("purpose", "bytes32"),
    ("uses", "uint32"),
    ("notBefore", "uint40"),
    ("expiresAt", "uint40"),
    ("protections", "uint16"),
    ("approvalRequired", "bool"),
    ("epsilon", "uint48"),
    ("participants", "address[]"),
    ("serial", "uint32"),
    ("validUntil", "uint40"),
)
_TASK, _UNTIL = ("task", "bytes32"), ("validUntil", "uint40")


class MalformedSignature(ValueError):
    """A signature is not 65 bytes r, s, v with a low s: sign again with a wallet that follows EIP-2."""


@dataclass(frozen=True, slots=True)
class Place:
    """The contract a signature is for: a chain, and an address on it."""

    chain_id: int
    contract: Address


@dataclass(frozen=True, slots=True)
class TypedData:
    """What is to be signed, and until when it may be submitted."""

    domain: Mapping[str, Any]
    types: Mapping[str, Sequence[Mapping[str, str]]]
    primary: str
    message: Mapping[str, Any]
    valid_until: UnixSeconds

    def document(self) -> dict[str, Any]:
        """The typed data as wallets take it (``eth_signTypedData_v4``)."""
        domain_type = [
            {"name": "name", "type": "string"},
            {"name": "version", "type": "string"},
            {"name": "chainId", "type": "uint256"},
            {"name": "verifyingContract", "type": "address"},
        ]
        return {
            "types": {"EIP712Domain": domain_type, **self.types},
            "primaryType": self.primary,
            "domain": dict(self.domain),
            "message": dict(self.message),
        }

    def sign(self, private_key: bytes) -> Signed:
        """Sign with a key that is at hand."""
        message = encode_typed_data(dict(self.domain), dict(self.types), dict(self.message))
        found = Account.from_key(private_key).sign_message(message)
        return Signed.read(bytes(found.signature), self.valid_until)


@dataclass(frozen=True, slots=True)
class Signed:
    """A signature in the short form the contracts take."""

    valid_until: UnixSeconds
    r: bytes
    vs: bytes

    @classmethod
    def read(cls, signature: bytes, valid_until: UnixSeconds) -> Signed:
        """From the 65 bytes r, s, v that wallets give.

        Raises:
            MalformedSignature: it is not that.
        """
        if len(signature) != 65 or signature[64] not in (0, 1, 27, 28):
            raise MalformedSignature("a signature is 65 bytes: r, s and v")
        s, odd = int.from_bytes(signature[32:64]), signature[64] in (1, 28)
        if s > HALF_ORDER:
            raise MalformedSignature("a signature has its s in the lower half of the order")
        return cls(valid_until, signature[:32], (s | odd << 255).to_bytes(32))

    def words(self) -> tuple[int, bytes, bytes]:
        """The signature as the ABI takes it."""
        return self.valid_until, self.r, self.vs


def grant(place: Place, terms: GrantTerms, serial: int, valid_until: UnixSeconds) -> TypedData:
    """A grant that its owner signs under its running serial (``serialOf`` of the registry)."""
    message = {
        "dataset": raw(terms.dataset),
        "algorithm": raw(terms.algorithm),
        "requester": terms.requester,
        "purpose": raw(terms.purpose),
        "uses": terms.uses,
        "notBefore": terms.not_before,
        "expiresAt": terms.expires_at,
        "protections": int(terms.protections),
        "approvalRequired": terms.approval_required,
        "epsilon": terms.epsilon_millionths,
        "participants": list(terms.participants),
        "serial": serial,
    }
    return _typed("Sealtrace GrantRegistry", place, "Grant", _GRANT, message, valid_until)


def revocation(place: Place, grant: Hex32, valid_until: UnixSeconds) -> TypedData:
    """The end of a grant."""
    fields = (("grant", "bytes32"), _UNTIL)
    return _typed("Sealtrace GrantRegistry", place, "Revocation", fields, {"grant": raw(grant)}, valid_until)


def approval(place: Place, terms: TaskTerms, valid_until: UnixSeconds) -> TypedData:
    """A party's consent to a task."""
    return _of_task(place, terms, "Approval", (_TASK, _UNTIL), {}, valid_until)


def start(place: Place, terms: TaskTerms, input_commitment: Hex32, valid_until: UnixSeconds) -> TypedData:
    """A party's start."""
    fields = (_TASK, ("inputCommitment", "bytes32"), _UNTIL)
    said = {"inputCommitment": raw(input_commitment)}
    return _of_task(place, terms, "Start", fields, said, valid_until)


def refusal(place: Place, terms: TaskTerms, reason: int, valid_until: UnixSeconds) -> TypedData:
    """A party's refusal."""
    fields = (_TASK, ("reason", "uint8"), _UNTIL)
    return _of_task(place, terms, "Refusal", fields, {"reason": int(reason)}, valid_until)


def receipt(
    place: Place, terms: TaskTerms, receipt: Hex32, result: Hex32, valid_until: UnixSeconds
) -> TypedData:
    """A party's receipt."""
    fields = (_TASK, ("receipt", "bytes32"), ("result", "bytes32"), _UNTIL)
    said = {"receipt": raw(receipt), "result": raw(result)}
    return _of_task(place, terms, "Receipt", fields, said, valid_until)


def _of_task(
    place: Place,
    terms: TaskTerms,
    primary: str,
    fields: Sequence[tuple[str, str]],
    said: Mapping[str, Any],
    valid_until: UnixSeconds,
) -> TypedData:
    task = task_id(place.chain_id, place.contract, terms)
    return _typed("Sealtrace TaskLedger", place, primary, fields, {"task": raw(task), **said}, valid_until)


def _typed(
    name: str,
    place: Place,
    primary: str,
    fields: Sequence[tuple[str, str]],
    message: Mapping[str, Any],
    valid_until: UnixSeconds,
) -> TypedData:
    domain = {"name": name, "version": "1", "chainId": place.chain_id, "verifyingContract": place.contract}
    types = {primary: [{"name": field, "type": type_} for field, type_ in fields]}
    return TypedData(domain, types, primary, {**message, "validUntil": valid_until}, valid_until)
