"""Proposals to the consortium, written in a file that members pass among themselves.

The chain holds the hash of what is proposed; the file is what a member reads before it votes, and the
proposal's id is computed from it, so nobody votes on other words than he read.

.. code-block:: yaml

    why: The hospital applied on 3 March; minutes 12 have its security review.
    actions:
      - admit: {card: hospital.json, roles: [owner, compute]}
      - rules: {quorum: 66, voting_hours: 72, execution_hours: 72, reviews: 2}
      - add-member: "0x..."
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sealtrace.contracts import calls
from sealtrace.contracts.acting import UnknownRole, read_card, roles_of
from sealtrace.contracts.calls import Action, Call
from sealtrace.contracts.governance import Office, Rules, proposal_id
from sealtrace.protocol.canonical import sha256
from sealtrace.protocol.faults import first_fault
from sealtrace.protocol.identifiers import Address, AddressField, Hex32, Hex32Field, MalformedIdentifier

MAX_FILE_BYTES = 256 << 10


class ProposalUnreadable(ValueError):
    """A file is no proposal: see ``docs/consortium.md`` for what it holds."""


class _Words(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _Admission(_Words):
    card: str
    roles: list[str] = Field(min_length=1)


class _Reasoned(_Words):
    reason: str = Field(min_length=1)


class _NodeReasoned(_Reasoned):
    node: AddressField


class _AlgorithmReasoned(_Reasoned):
    algorithm: Hex32Field


class _Rules(_Words):
    quorum: int = Field(ge=50, le=99)
    voting_hours: int = Field(gt=0, le=24 * 365)
    execution_hours: int = Field(gt=0, le=24 * 365)
    reviews: int = Field(ge=0, le=8)


class _Holder(_Words):
    office: str = Field(pattern="^(registrar|regulator)$")
    account: AddressField


class _Generation(_Words):
    ledger: AddressField
    evidence: AddressField


class _File(_Words):
    why: str = Field(min_length=1, max_length=65_536)
    actions: list[dict[str, Any]] = Field(min_length=1, max_length=64)


class _Account(_Words):
    of: AddressField


@dataclass(frozen=True, slots=True)
class Proposal:
    """What is proposed: calls in their order, and the hash of the reasons."""

    why: str
    calls: tuple[Call, ...]

    @property
    def description(self) -> Hex32:
        """SHA-256 of the reasons in words."""
        return sha256(self.why.encode())

    def actions(self, addresses: Mapping[str, Address]) -> list[Action]:
        """The calls as the consortium makes them, on contracts at ``addresses``."""
        return [Action(addresses[call.contract], call.data()) for call in self.calls]

    def id(self, addresses: Mapping[str, Address], electorate: int) -> Hex32:
        """Its id under an electorate."""
        actions = [(each.target, each.data) for each in self.actions(addresses)]
        return proposal_id(actions, self.description, electorate)


def read_proposal(path: Path) -> Proposal:
    """Read a proposal's file. Cards are looked for beside it.

    Raises:
        ProposalUnreadable: it is no proposal; with the place.
        CardUnreadable: a card it names is none.
    """
    try:
        content = path.read_bytes()
    except OSError as cause:
        raise ProposalUnreadable(f"{path}: {cause.strerror}") from cause
    if len(content) > MAX_FILE_BYTES:
        raise ProposalUnreadable(f"{path} is longer than {MAX_FILE_BYTES} bytes")
    try:
        words = _File.model_validate(yaml.safe_load(content))
        return Proposal(words.why, tuple(_call(each, i, path) for i, each in enumerate(words.actions)))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as cause:
        raise ProposalUnreadable(f"{path}: {str(cause)[:200]}") from cause
    except ValidationError as cause:
        raise ProposalUnreadable(f"{path}: {first_fault(cause.errors(), 'file')}") from cause


def _call(entry: Mapping[str, Any], index: int, path: Path) -> Call:
    if len(entry) != 1:
        raise ProposalUnreadable(f"{path}: actions.{index}: an action is one word with what it takes")
    ((word, given),) = entry.items()
    if word not in _MAKERS:
        raise ProposalUnreadable(f"{path}: actions.{index}: {word!r} is none of {', '.join(_MAKERS)}")
    try:
        return _MAKERS[word](given, path.parent)
    except ValidationError as cause:
        fault = first_fault(cause.errors(), "action", "actions", index, word)
        raise ProposalUnreadable(f"{path}: {fault}") from cause
    except (MalformedIdentifier, UnknownRole) as cause:
        raise ProposalUnreadable(f"{path}: actions.{index}.{word}: {cause}") from cause


def _admit(given: Any, beside: Path) -> Call:
    words = _Admission.model_validate(given)
    node, tls, encryption_key = read_card(beside / words.card)
    return calls.admit(node, roles_of(words.roles), tls, encryption_key)


def _suspend(given: Any, _: Path) -> Call:
    words = _NodeReasoned.model_validate(given)
    return calls.suspend_node(words.node, sha256(words.reason.encode()))


def _suspend_algorithm(given: Any, _: Path) -> Call:
    words = _AlgorithmReasoned.model_validate(given)
    return calls.suspend_algorithm(words.algorithm, sha256(words.reason.encode()))


def _rules(given: Any, _: Path) -> Call:
    words = _Rules.model_validate(given)
    return calls.set_rules(
        Rules(words.quorum, words.voting_hours * 3600, words.execution_hours * 3600, words.reviews)
    )


def _holder(make: Callable[[Office, Address], Call]) -> Callable[[Any, Path], Call]:
    def made(given: Any, _: Path) -> Call:
        words = _Holder.model_validate(given)
        return make(Office[words.office.upper()], words.account)

    return made


def _account(make: Callable[[Address], Call]) -> Callable[[Any, Path], Call]:
    return lambda given, _: make(_Account.model_validate({"of": given}).of)


def _digest(make: Callable[[Hex32], Call]) -> Callable[[Any, Path], Call]:
    class Words(_Words):
        of: Hex32Field

    return lambda given, _: make(Words.model_validate({"of": given}).of)


def _announce(given: Any, _: Path) -> Call:
    words = _Generation.model_validate(given)
    return calls.announce(words.ledger, words.evidence)


def _close(given: Any, _: Path) -> Call:
    _Words.model_validate(given or {})
    return calls.close_ledger()


_MAKERS: Mapping[str, Callable[[Any, Path], Call]] = {
    "admit": _admit,
    "retire": _account(calls.retire_node),
    "suspend": _suspend,
    "reinstate": _account(calls.reinstate_node),
    "suspend-algorithm": _suspend_algorithm,
    "reinstate-algorithm": _digest(calls.reinstate_algorithm),
    "add-member": _account(calls.add_member),
    "remove-member": _account(calls.remove_member),
    "rules": _rules,
    "appoint": _holder(calls.appoint),
    "dismiss": _holder(calls.dismiss),
    "announce": _announce,
    "close-ledger": _close,
    "serve-ledger": _account(calls.serve_ledger),
}

ACTIONS: Sequence[str] = tuple(_MAKERS)
"""The words an action can begin with."""
