"""One function per transaction: what is said to which contract. Nothing is sent here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sealtrace.contracts.abi import encode_call
from sealtrace.contracts.governance import Office, Rules
from sealtrace.contracts.signing import Signed
from sealtrace.contracts.terms import grant_terms_tuple, task_key_tuple, task_terms_tuple
from sealtrace.protocol.identifiers import NOBODY, Address, Hex32, raw
from sealtrace.protocol.outcome import Blame
from sealtrace.protocol.records import DataClass, GrantTerms, Role, TaskTerms


@dataclass(frozen=True, slots=True)
class Call:
    """A function of one of our contracts with its arguments, as the ABI takes them."""

    contract: str
    function: str
    args: tuple[Any, ...]

    def data(self) -> bytes:
        """The call data.

        Raises:
            MalformedCall: an argument is not of its type.
        """
        return encode_call(self.contract, self.function, self.args)


# The life of a task; the manual is ITaskLedger.sol.


def create(terms: TaskTerms) -> Call:
    """Put a task on record, as its requester."""
    return Call("TaskLedger", "create", (task_terms_tuple(terms),))


def approve(terms: TaskTerms) -> Call:
    """Agree, as a party, to a task whose grant asks for that."""
    return Call("TaskLedger", "approve", (task_key_tuple(terms),))


def approve_signed(terms: TaskTerms, party: int, signed: Signed) -> Call:
    """Submit the approval that the party at index ``party`` signed."""
    return Call("TaskLedger", "approveSigned", (task_key_tuple(terms), party, signed.words()))


def start(terms: TaskTerms, input_commitment: Hex32) -> Call:
    """Start a party's part: spends one use of each of its grants that the task names."""
    return Call("TaskLedger", "start", (task_terms_tuple(terms), raw(input_commitment)))


def start_signed(terms: TaskTerms, starts: Sequence[tuple[int, Hex32, Signed]]) -> Call:
    """Submit starts that parties signed: index, input commitment and signature of each."""
    words = [(party, raw(commitment), signed.words()) for party, commitment, signed in starts]
    return Call("TaskLedger", "startSigned", (task_terms_tuple(terms), words))


def refuse(terms: TaskTerms, reason: int) -> Call:
    """Decline as a party. ``reason`` is a :class:`~sealtrace.protocol.outcome.Denial`."""
    return Call("TaskLedger", "refuse", (task_key_tuple(terms), int(reason)))


def refuse_signed(terms: TaskTerms, party: int, reason: int, signed: Signed) -> Call:
    """Submit the refusal that the party at index ``party`` signed."""
    return Call("TaskLedger", "refuseSigned", (task_key_tuple(terms), party, int(reason), signed.words()))


def progress(terms: TaskTerms, step: int, permille: int) -> Call:
    """Say, as a party of a running task, how far its step is, in thousandths."""
    return Call("TaskLedger", "progress", (task_key_tuple(terms), step, permille))


def finish(terms: TaskTerms, receipt: Hex32, result: Hex32) -> Call:
    """Report a party's part done: the digest of its receipt, and the result digest all agree on."""
    return Call("TaskLedger", "finish", (task_key_tuple(terms), raw(receipt), raw(result)))


def finish_signed(terms: TaskTerms, receipts: Sequence[tuple[int, Hex32, Hex32, Signed]]) -> Call:
    """Submit receipts that parties signed: index, receipt, result and signature of each."""
    words = [(party, raw(receipt), raw(result), said.words()) for party, receipt, result, said in receipts]
    return Call("TaskLedger", "finishSigned", (task_key_tuple(terms), words))


def fail(terms: TaskTerms, reason: int, blame: Blame = Blame.NOBODY, blamed: Address | None = None) -> Call:
    """Report a running task failed. ``blamed`` is given with ``Blame.PARTY`` and no other."""
    return Call("TaskLedger", "fail", (task_key_tuple(terms), int(reason), int(blame), blamed or NOBODY))


def cancel(terms: TaskTerms) -> Call:
    """Give a task up, as its requester."""
    return Call("TaskLedger", "cancel", (task_key_tuple(terms),))


def stop(terms: TaskTerms) -> Call:
    """Stop a running task, as a party of it."""
    return Call("TaskLedger", "stop", (task_key_tuple(terms),))


def acknowledge(terms: TaskTerms, result: Hex32) -> Call:
    """Say, as the requester, that the result was opened."""
    return Call("TaskLedger", "acknowledge", (task_key_tuple(terms), raw(result)))


def close_ledger() -> Call:
    """Take no new tasks; the consortium's act."""
    return Call("TaskLedger", "close", ())


def serve_ledger(ledger: Address) -> Call:
    """Tell ``ledger`` too of every suspension, withdrawal and revocation; the consortium's act."""
    return Call("NodeRegistry", "serve", (ledger,))


def together(acts: Sequence[Call]) -> Call:
    """Several acts on one contract in one transaction: all of them or none.

    Raises:
        ValueError: there is none, or they are on different contracts.
    """
    contracts = {act.contract for act in acts}
    if len(contracts) != 1:
        raise ValueError(f"acts of one transaction are on one contract, not on {sorted(contracts)}")
    return Call(contracts.pop(), "multicall", ([act.data() for act in acts],))


# Datasets, grants, algorithms.


def register_dataset(commitment: Hex32, schema_hash: Hex32, data_class: DataClass) -> Call:
    """Publish a dataset's salted commitment."""
    return Call("DatasetRegistry", "register", (raw(commitment), raw(schema_hash), int(data_class)))


def supersede_dataset(previous: Hex32, commitment: Hex32, schema_hash: Hex32, data_class: DataClass) -> Call:
    """Publish the next version of a dataset."""
    words = (raw(previous), raw(commitment), raw(schema_hash), int(data_class))
    return Call("DatasetRegistry", "supersede", words)


def withdraw_dataset(dataset: Hex32) -> Call:
    """Take a dataset out of all future use."""
    return Call("DatasetRegistry", "withdraw", (raw(dataset),))


def issue_grant(terms: GrantTerms) -> Call:
    """Let a requester use a dataset of the caller's. Its id is in the event ``GrantIssued``."""
    return Call("GrantRegistry", "issue", (grant_terms_tuple(terms),))


def issue_grant_signed(owner: Address, terms: GrantTerms, signed: Signed) -> Call:
    """Submit the grant that ``owner`` signed."""
    return Call("GrantRegistry", "issueSigned", (owner, grant_terms_tuple(terms), signed.words()))


def replace_grant(grant: Hex32, terms: GrantTerms) -> Call:
    """End a grant and issue another in one step."""
    return Call("GrantRegistry", "replace", (raw(grant), grant_terms_tuple(terms)))


def revoke_grant(grant: Hex32) -> Call:
    """End a grant at once."""
    return Call("GrantRegistry", "revoke", (raw(grant),))


def revoke_grant_signed(grant: Hex32, signed: Signed) -> Call:
    """Submit the revocation that a grant's owner signed."""
    return Call("GrantRegistry", "revokeSigned", (raw(grant), signed.words()))


def pass_serial() -> Call:
    """Make the grant void that the caller signed and nobody submitted."""
    return Call("GrantRegistry", "passSerial", ())


def register_algorithm(digest: Hex32) -> Call:
    """Register a bundle by its digest, where no review is asked for."""
    return Call("AlgorithmRegistry", "register", (raw(digest),))


def propose_algorithm(digest: Hex32, reviewers: Sequence[Address]) -> Call:
    """Propose a bundle to reviewers."""
    return Call("AlgorithmRegistry", "propose", (raw(digest), sorted(reviewers)))


def review_algorithm(digest: Hex32, report: Hex32, *, agreed: bool) -> Call:
    """Say, as a named reviewer, whether an algorithm may be used. ``report`` is the review's SHA-256."""
    return Call("AlgorithmRegistry", "review", (raw(digest), agreed, raw(report)))


def supersede_algorithm(previous: Hex32, digest: Hex32) -> Call:
    """Say that ``digest`` takes the place of ``previous``."""
    return Call("AlgorithmRegistry", "supersede", (raw(previous), raw(digest)))


def revoke_algorithm(digest: Hex32) -> Call:
    """Take an algorithm out of use for good, as its provider."""
    return Call("AlgorithmRegistry", "revoke", (raw(digest),))


def suspend_algorithm(digest: Hex32, reason: Hex32) -> Call:
    """Take an algorithm out of use for a time. ``reason`` is the SHA-256 of the reason in words."""
    return Call("AlgorithmRegistry", "suspend", (raw(digest), raw(reason)))


def reinstate_algorithm(digest: Hex32) -> Call:
    """End an algorithm's suspension."""
    return Call("AlgorithmRegistry", "reinstate", (raw(digest),))


# How the consortium decides; the manual is IConsortium.sol.


@dataclass(frozen=True, slots=True)
class Action:
    """A call that the consortium makes once its members agree: on a contract at an address."""

    target: Address
    data: bytes


def propose(actions: Sequence[Action], description: Hex32) -> Call:
    """Propose, as a member. ``description`` is the SHA-256 of the reasons in words."""
    return Call("Consortium", "propose", (_actions(actions), raw(description)))


def vote(proposal: Hex32, *, yes: bool) -> Call:
    """Vote, as a member."""
    return Call("Consortium", "vote", (raw(proposal), yes))


def execute(actions: Sequence[Action], description: Hex32) -> Call:
    """Do what was decided."""
    return Call("Consortium", "execute", (_actions(actions), raw(description)))


def add_member(account: Address) -> Call:
    """Add a member; the consortium's act."""
    return Call("Consortium", "addMember", (account,))


def remove_member(account: Address) -> Call:
    """Remove a member; the consortium's act."""
    return Call("Consortium", "removeMember", (account,))


def set_rules(rules: Rules) -> Call:
    """Change how the consortium decides; the consortium's act."""
    return Call("Consortium", "setRules", (rules.words(),))


def appoint(office: Office, account: Address) -> Call:
    """Give an office; the consortium's act."""
    return Call("Consortium", "appoint", (raw(office.id), account))


def dismiss(office: Office, account: Address) -> Call:
    """Take an office; the consortium's act."""
    return Call("Consortium", "dismiss", (raw(office.id), account))


def offer_office(office: Office, to: Address) -> Call:
    """Offer the caller's office."""
    return Call("Consortium", "offerOffice", (raw(office.id), to))


def accept_office(office: Office, holder: Address) -> Call:
    """Take over an office that ``holder`` offered."""
    return Call("Consortium", "acceptOffice", (raw(office.id), holder))


def announce(ledger: Address, evidence: Address) -> Call:
    """Name the contracts of a new generation; the consortium's act."""
    return Call("Directory", "announce", (ledger, evidence))


def _actions(actions: Sequence[Action]) -> list[tuple[Address, bytes]]:
    return [(action.target, action.data) for action in actions]


# Members of the consortium.


def admit(node: Address, roles: Role, tls_fingerprint: Hex32, encryption_key: Hex32) -> Call:
    """Admit an organisation, as a registrar."""
    return Call("NodeRegistry", "admit", (node, int(roles), raw(tls_fingerprint), raw(encryption_key)))


def suspend_node(node: Address, reason: Hex32) -> Call:
    """Take a node out of all use. ``reason`` is the SHA-256 of the reason in words."""
    return Call("NodeRegistry", "suspend", (node, raw(reason)))


def reinstate_node(node: Address) -> Call:
    """End a node's suspension."""
    return Call("NodeRegistry", "reinstate", (node,))


def retire_node(node: Address) -> Call:
    """End a node's membership for good, as a registrar."""
    return Call("NodeRegistry", "retire", (node,))


def rotate_keys(tls_fingerprint: Hex32, encryption_key: Hex32) -> Call:
    """Replace the caller's TLS fingerprint and encryption key."""
    return Call("NodeRegistry", "rotateKeys", (raw(tls_fingerprint), raw(encryption_key)))


def anchor(size: int, root: Hex32) -> Call:
    """Anchor the caller's evidence log at ``size`` records with ``root``."""
    return Call("EvidenceAnchor", "anchor", (size, raw(root)))
