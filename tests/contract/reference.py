"""What the contracts promise, in plain Python: from docs/architecture.md and the manual on their interfaces.

Each act is a generator. It yields every sentence that may forbid it, with whether that sentence is broken,
then ``CHANGE``, and after that does what the manual says. So an act is refused for a *set* of reasons: which
of them a contract names first is its own affair. Nothing here is taken from the contracts' bodies.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sealtrace.contracts.governance import Office, ProposalStatus, Rules, proposal_id
from sealtrace.protocol.identifiers import NOBODY, NOTHING, Address, Hex32
from sealtrace.protocol.lifecycle import OPEN_STATES, TaskState, at_time
from sealtrace.protocol.outcome import Blame, Denial
from sealtrace.protocol.records import (
    AlgorithmStatus,
    DatasetStatus,
    GrantStatus,
    GrantTerms,
    NodeStatus,
    Role,
    TaskTerms,
)

Sentence = tuple[str, bool]
Act = Iterator[Sentence]
Reasons = frozenset[str]
CHANGE: Sentence = ("", False)
MAX_REVIEWERS, MAX_PARTICIPANTS, MAX_PARTIES, MAX_USES = 8, 16, 16, 64


@dataclass
class Node:
    roles: int
    keys: tuple[Hex32, Hex32]
    status: NodeStatus = NodeStatus.ACTIVE
    held: bool = False
    former: list[tuple[int, Hex32, Hex32]] = field(default_factory=list)


@dataclass
class Dataset:
    owner: Address
    version: int
    status: DatasetStatus = DatasetStatus.ACTIVE


@dataclass
class Algorithm:
    provider: Address
    status: AlgorithmStatus
    asked: tuple[Address, ...] = ()
    agreed: set[Address] = field(default_factory=set)
    declined: set[Address] = field(default_factory=set)
    held: bool = False
    superseded: bool = False


@dataclass
class Grant:
    owner: Address
    terms: GrantTerms
    serial: int
    uses_left: int
    epsilon_left: int
    revoked: bool = False

    def status(self, now: int) -> GrantStatus:
        if self.revoked:
            return GrantStatus.REVOKED
        if not self.uses_left:
            return GrantStatus.EXHAUSTED
        if now >= self.terms.expires_at:
            return GrantStatus.EXPIRED
        return GrantStatus.PENDING if now < self.terms.not_before else GrantStatus.ACTIVE


@dataclass
class Task:
    terms: TaskTerms
    state: TaskState
    approved: set[Address]
    started: set[Address] = field(default_factory=set)
    results: dict[Address, Hex32] = field(default_factory=dict)
    acknowledged: bool = False

    def now(self, at: int) -> TaskState:
        return at_time(self.state, self.terms.deadline, at)  # type: ignore[arg-type]


@dataclass
class Proposal:
    electorate: int
    created_at: int
    yes: set[Address]
    no: set[Address] = field(default_factory=set)
    executed: bool = False


@dataclass
class Reference:
    """Everything on record. ``at`` is the time of the block that the next act is in."""

    consortium: Address
    grant_id: Callable[[Address, int, GrantTerms], Hex32]
    task_id: Callable[[TaskTerms], Hex32]
    dataset_id: Callable[[Address, Hex32], Hex32]
    members: set[Address]
    electorate: int
    rules: Rules
    offices: dict[Office, set[Address]]
    at: int = 0
    closed: bool = False
    offers: dict[tuple[Office, Address], Address] = field(default_factory=dict)
    proposals: dict[Hex32, Proposal] = field(default_factory=dict)
    nodes: dict[Address, Node] = field(default_factory=dict)
    datasets: dict[Hex32, Dataset] = field(default_factory=dict)
    algorithms: dict[Hex32, Algorithm] = field(default_factory=dict)
    grants: dict[Hex32, Grant] = field(default_factory=dict)
    serials: dict[Address, int] = field(default_factory=dict)
    tasks: dict[Hex32, Task] = field(default_factory=dict)
    checkpoints: dict[Address, tuple[int, Hex32]] = field(default_factory=dict)

    def do(self, *acts: Act) -> Reasons:
        """Do all of ``acts`` or none; the reasons of the first that is refused, none where all are done."""
        before = copy.deepcopy(self.__dict__, self._uncopied()) if len(acts) > 1 else None
        for act in acts:
            if reasons := self._run(act):
                if before is not None:
                    self.__dict__.update(before)
                return reasons
        return frozenset()

    def _run(self, act: Act) -> Reasons:
        reasons: set[str] = set()
        changed = False
        for sentence, broken in act:
            changed = not sentence
            if changed and reasons:
                break
            if broken:
                reasons.add(sentence)
        assert reasons or changed, "an act ends in a refusal or in a change"
        return frozenset(reasons)

    def _uncopied(self) -> dict[int, Any]:
        return {id(each): each for each in (self.grant_id, self.task_id, self.dataset_id)}

    def copy(self) -> Reference:
        """The same state, apart."""
        return copy.deepcopy(self, self._uncopied())

    # who may what

    def active(self, node: Address, role: int = 0) -> Act:
        found = self.nodes.get(node)
        yield "UnknownNode", found is None
        yield "NodeNotActive", found is not None and found.status is not NodeStatus.ACTIVE
        yield "MissingRole", found is not None and found.roles & role != role

    def is_active(self, node: Address, role: int = 0) -> bool:
        return not any(broken for _, broken in self.active(node, role))

    def admission(self, by: Address) -> Act:
        if by != self.consortium:
            yield "OnlyRegistrar", by not in self.offices[Office.REGISTRAR]
            yield "VoteDue", len(self.members) > 1

    def prevails(self, by: Address) -> bool:
        return by == self.consortium or by in self.offices[Office.REGULATOR]

    def supervision(self, by: Address) -> Act:
        yield "OnlyRegistrarOrRegulator", not (self.prevails(by) or by in self.offices[Office.REGISTRAR])

    # the consortium

    def proposal_status(self, id: Hex32) -> ProposalStatus:
        found = self.proposals.get(id)
        if found is None:
            return ProposalStatus.NONE
        if found.executed:
            return ProposalStatus.EXECUTED
        if found.electorate != self.electorate:
            return ProposalStatus.STALE
        closes = found.created_at + self.rules.voting_s
        if self._carries(len(found.yes)):
            in_time = self.at < closes + self.rules.execution_s
            return ProposalStatus.PASSED if in_time else ProposalStatus.EXPIRED
        if not self._carries(len(self.members) - len(found.no)):
            return ProposalStatus.REJECTED
        return ProposalStatus.OPEN if self.at < closes else ProposalStatus.EXPIRED

    def _carries(self, votes: int) -> bool:
        return votes * 100 > self.rules.quorum_percent * len(self.members)

    def propose(self, by: Address, actions: Sequence[tuple[Address, bytes]], description: Hex32) -> Act:
        id = proposal_id(actions, description, self.electorate)
        yield "OnlyMember", by not in self.members
        yield "NoActions", not actions
        yield "AlreadyProposed", id in self.proposals
        yield CHANGE
        self.proposals[id] = Proposal(self.electorate, self.at, {by})

    def vote(self, by: Address, id: Hex32, yes: bool) -> Act:
        status = self.proposal_status(id)
        yield "OnlyMember", by not in self.members
        yield "UnknownProposal", status is ProposalStatus.NONE
        yield "ProposalNotOpen", status is not ProposalStatus.OPEN
        found = self.proposals.get(id)
        yield "AlreadyVoted", found is not None and by in found.yes | found.no
        yield CHANGE
        assert found is not None
        (found.yes if yes else found.no).add(by)

    def execute(self, by: Address, id: Hex32) -> Act:
        """Only that it may be; the actions are acts of the consortium."""
        status = self.proposal_status(id)
        yield "UnknownProposal", status is ProposalStatus.NONE
        yield "ProposalNotPassed", status is not ProposalStatus.PASSED
        yield CHANGE
        self.proposals[id].executed = True

    def only_consortium(self, by: Address) -> Act:
        yield "OnlyConsortium", by != self.consortium

    def add_member(self, by: Address, account: Address) -> Act:
        yield from self.only_consortium(by)
        yield "NotAMember", account == NOBODY
        yield "AlreadyMember", account in self.members
        yield CHANGE
        self.members.add(account)
        self.electorate += 1

    def remove_member(self, by: Address, account: Address) -> Act:
        yield from self.only_consortium(by)
        yield "NotAMember", account not in self.members
        yield "LastMember", self.members == {account}
        yield CHANGE
        self.members.remove(account)
        self.electorate += 1

    def set_rules(self, by: Address, rules: Rules) -> Act:
        yield from self.only_consortium(by)
        sound = 50 <= rules.quorum_percent <= 99 and rules.voting_s > 0 and rules.execution_s > 0
        yield "InvalidRules", not sound
        yield CHANGE
        self.rules = rules
        self.electorate += 1

    def appoint(self, by: Address, office: Office, account: Address) -> Act:
        yield from self.only_consortium(by)
        yield CHANGE
        self.offices[office].add(account)

    def dismiss(self, by: Address, office: Office, account: Address) -> Act:
        yield from self.only_consortium(by)
        yield "NotTheHolder", account not in self.offices[office]
        yield CHANGE
        self._leave(office, account)

    def offer_office(self, by: Address, office: Office, to: Address) -> Act:
        yield "NotTheHolder", by not in self.offices[office]
        yield CHANGE
        self.offers[office, by] = to

    def accept_office(self, by: Address, office: Office, holder: Address) -> Act:
        yield "NotTheHolder", holder not in self.offices[office]
        yield "NotOffered", self.offers.get((office, holder)) != by
        yield CHANGE
        self._leave(office, holder)
        self.offices[office].add(by)

    def seize(self, by: Address) -> Act:
        """Give or take a role past the consortium: nobody can."""
        yield "AccessControlUnauthorizedAccount", True

    def renounce(self, by: Address, office: Office) -> Act:
        yield CHANGE
        self._leave(office, by)

    def _leave(self, office: Office, account: Address) -> None:
        self.offices[office].discard(account)
        self.offers.pop((office, account), None)

    # nodes

    def admit(self, by: Address, node: Address, roles: int, tls: Hex32, key: Hex32) -> Act:
        yield from self.admission(by)
        yield "NodeAlreadyKnown", node in self.nodes
        yield "InvalidRoles", not 1 <= roles <= 31
        yield "EmptyKey", self._keys_missing(roles, tls, key)
        yield CHANGE
        self.nodes[node] = Node(roles, (tls, key))

    @staticmethod
    def _keys_missing(roles: int, tls: Hex32, key: Hex32) -> bool:
        return key == NOTHING or (bool(roles & (Role.OWNER | Role.COMPUTE)) and tls == NOTHING)

    def suspend_node(self, by: Address, node: Address, reason: Hex32) -> Act:
        yield from self.supervision(by)
        found = self.nodes.get(node)
        active = found is not None and found.status is NodeStatus.ACTIVE
        light = found is not None and found.status is NodeStatus.SUSPENDED and not found.held
        yield "NodeNotActive", not active and not (light and self.prevails(by))
        yield "ReasonMissing", reason == NOTHING
        yield CHANGE
        assert found is not None
        found.status, found.held = NodeStatus.SUSPENDED, self.prevails(by)

    def reinstate_node(self, by: Address, node: Address) -> Act:
        yield from self.supervision(by)
        found = self.nodes.get(node)
        yield "NodeNotSuspended", found is None or found.status is not NodeStatus.SUSPENDED
        yield "NodeHeld", found is not None and found.held and not self.prevails(by)
        yield CHANGE
        assert found is not None
        found.status, found.held = NodeStatus.ACTIVE, False

    def retire_node(self, by: Address, node: Address) -> Act:
        yield from self.admission(by)
        found = self.nodes.get(node)
        yield "UnknownNode", found is None
        yield "NodeAlreadyRetired", found is not None and found.status is NodeStatus.RETIRED
        yield CHANGE
        assert found is not None
        found.status = NodeStatus.RETIRED

    def rotate_keys(self, by: Address, tls: Hex32, key: Hex32) -> Act:
        yield from self.active(by)
        found = self.nodes.get(by)
        yield "EmptyKey", found is not None and self._keys_missing(found.roles, tls, key)
        yield CHANGE
        assert found is not None
        found.former.append((self.at, *found.keys))
        found.keys = (tls, key)

    # datasets

    def register_dataset(self, by: Address, commitment: Hex32, schema: Hex32) -> Act:
        id = self.dataset_id(by, commitment)
        yield from self._registrable(by, id, commitment, schema)
        yield CHANGE
        self.datasets[id] = Dataset(by, 0)

    def supersede_dataset(self, by: Address, previous: Hex32, commitment: Hex32, schema: Hex32) -> Act:
        id = self.dataset_id(by, commitment)
        found = self.datasets.get(previous)
        yield "UnknownDataset", found is None
        yield "NotDatasetOwner", found is not None and found.owner != by
        yield "DatasetNotActive", found is not None and found.status is not DatasetStatus.ACTIVE
        yield from self._registrable(by, id, commitment, schema)
        yield CHANGE
        assert found is not None
        found.status = DatasetStatus.SUPERSEDED
        self.datasets[id] = Dataset(by, found.version + 1)

    def _registrable(self, by: Address, id: Hex32, commitment: Hex32, schema: Hex32) -> Act:
        yield from self.active(by, Role.OWNER)
        yield "EmptyCommitment", NOTHING in (commitment, schema)
        yield "DatasetAlreadyKnown", id in self.datasets

    def withdraw_dataset(self, by: Address, id: Hex32) -> Act:
        found = self.datasets.get(id)
        yield "UnknownDataset", found is None
        yield "NotDatasetOwner", found is not None and found.owner != by
        yield "DatasetAlreadyWithdrawn", found is not None and found.status is DatasetStatus.WITHDRAWN
        yield CHANGE
        assert found is not None
        found.status = DatasetStatus.WITHDRAWN

    # algorithms

    def register_algorithm(self, by: Address, digest: Hex32) -> Act:
        yield "WrongNumberOfReviewers", self.rules.reviews > 0
        yield from self._new_algorithm(by, digest)
        yield CHANGE
        self.algorithms[digest] = Algorithm(by, AlgorithmStatus.ACTIVE)

    def propose_algorithm(self, by: Address, digest: Hex32, reviewers: Sequence[Address]) -> Act:
        count = len(reviewers)
        yield "WrongNumberOfReviewers", not max(1, self.rules.reviews) <= count <= MAX_REVIEWERS
        yield from self._new_algorithm(by, digest)
        yield "ReviewersNotAscending", list(reviewers) != sorted(set(reviewers) - {NOBODY})
        yield "NotIndependent", by in reviewers
        for each in reviewers:
            yield from self.active(each)
        yield CHANGE
        self.algorithms[digest] = Algorithm(by, AlgorithmStatus.PROPOSED, tuple(reviewers))

    def _new_algorithm(self, by: Address, digest: Hex32) -> Act:
        yield from self.active(by, Role.PROVIDER)
        yield "EmptyDigest", digest == NOTHING
        yield "AlgorithmAlreadyKnown", digest in self.algorithms

    def review_algorithm(self, by: Address, digest: Hex32, agreed: bool, report: Hex32) -> Act:
        yield from self.active(by)
        found = self.algorithms.get(digest)
        said = found is not None and by in found.agreed | found.declined
        yield "NotAskedToReview", found is None or by not in found.asked or said
        yield "AlgorithmNotProposed", found is None or found.status is not AlgorithmStatus.PROPOSED
        yield "ReasonMissing", report == NOTHING
        yield CHANGE
        assert found is not None
        (found.agreed if agreed else found.declined).add(by)
        if found.agreed == set(found.asked):
            found.status = AlgorithmStatus.ACTIVE
        if not agreed:
            found.status = AlgorithmStatus.REJECTED

    def supersede_algorithm(self, by: Address, previous: Hex32, digest: Hex32) -> Act:
        old, new = self.algorithms.get(previous), self.algorithms.get(digest)
        for found in (old, new):
            yield "UnknownAlgorithm", found is None
            yield "NotAlgorithmProvider", found is not None and found.provider != by
            yield "AlgorithmNotActive", found is not None and found.status is not AlgorithmStatus.ACTIVE
            yield "AlgorithmAlreadySuperseded", found is not None and found.superseded
        yield "AlgorithmAlreadySuperseded", previous == digest
        yield CHANGE
        assert old is not None
        old.superseded = True

    def suspend_algorithm(self, by: Address, digest: Hex32, reason: Hex32) -> Act:
        yield from self.supervision(by)
        found = self.algorithms.get(digest)
        active = found is not None and found.status is AlgorithmStatus.ACTIVE
        light = found is not None and found.status is AlgorithmStatus.SUSPENDED and not found.held
        yield "AlgorithmNotActive", not active and not (light and self.prevails(by))
        yield "ReasonMissing", reason == NOTHING
        yield CHANGE
        assert found is not None
        found.status, found.held = AlgorithmStatus.SUSPENDED, self.prevails(by)

    def reinstate_algorithm(self, by: Address, digest: Hex32) -> Act:
        yield from self.supervision(by)
        found = self.algorithms.get(digest)
        yield "AlgorithmNotSuspended", found is None or found.status is not AlgorithmStatus.SUSPENDED
        yield "AlgorithmHeld", found is not None and found.held and not self.prevails(by)
        yield CHANGE
        assert found is not None
        found.status, found.held = AlgorithmStatus.ACTIVE, False

    def revoke_algorithm(self, by: Address, digest: Hex32) -> Act:
        found = self.algorithms.get(digest)
        yield "UnknownAlgorithm", found is None
        yield "NotAlgorithmProvider", found is not None and found.provider != by
        yield "AlgorithmAlreadyRevoked", found is not None and found.status is AlgorithmStatus.REVOKED
        yield "AlgorithmIsRejected", found is not None and found.status is AlgorithmStatus.REJECTED
        yield CHANGE
        assert found is not None
        found.status = AlgorithmStatus.REVOKED

    # grants

    def issue_grant(self, owner: Address, terms: GrantTerms) -> Act:
        yield from self.active(owner)
        dataset = self.datasets.get(terms.dataset)
        yield "NotOwnDataset", dataset is None or dataset.owner != owner
        yield "DatasetUnusable", dataset is None or dataset.status is not DatasetStatus.ACTIVE
        algorithm = self.algorithms.get(terms.algorithm)
        grantable = algorithm is not None and algorithm.status is AlgorithmStatus.ACTIVE
        yield "AlgorithmUnusable", not grantable or (algorithm is not None and algorithm.superseded)
        yield "RequesterUnusable", not self.is_active(terms.requester, Role.REQUESTER)
        yield "InvalidWindow", terms.expires_at <= max(terms.not_before, self.at)
        yield "NoUses", terms.uses == 0
        yield "NoProtection", not terms.protections
        yield "EmptyPurpose", terms.purpose == NOTHING
        yield "TooManyParticipants", len(terms.participants) > MAX_PARTICIPANTS
        ascending = list(terms.participants) == sorted(set(terms.participants) - {NOBODY})
        yield "ParticipantsNotAscending", not ascending
        yield CHANGE
        serial = self.serials.get(owner, 0)
        self.serials[owner] = serial + 1
        id = self.grant_id(owner, serial, terms)
        self.grants[id] = Grant(owner, terms, serial, terms.uses, terms.epsilon_millionths)

    def signed(self, until: int, genuine: bool) -> Act:
        """A signature that may be submitted until ``until``; ``genuine``: of him, over this, for here."""
        yield "SignatureLapsed", self.at > until
        yield "WrongSigner", not genuine

    def revoke_grant(self, by: Address, id: Hex32) -> Act:
        found = self.grants.get(id)
        yield "UnknownGrant", found is None
        yield "NotGrantOwner", found is not None and found.owner != by
        yield "GrantAlreadyRevoked", found is not None and found.revoked
        yield CHANGE
        assert found is not None
        found.revoked = True

    def pass_serial(self, by: Address) -> Act:
        yield CHANGE
        self.serials[by] = self.serials.get(by, 0) + 1

    def consume(self, by: Address) -> Act:
        """Only the ledger spends, and it is none of those who act here."""
        yield "OnlyTaskLedger", True

    def lapse(self, registry: str) -> Act:
        """Only the registries tell of a lapse, and they are none of those who act here."""
        yield {"NodeRegistry": "OnlyRegistry", "TaskLedger": "OnlyNodeRegistry"}[registry], True

    def denials(self, terms: TaskTerms, party: Address) -> Act:
        """Every reason why the party's grants do not cover the task at this block."""
        for use in terms.uses:
            if terms.parties[use.party : use.party + 1] != (party,):
                continue
            grant = self.grants.get(use.grant)
            if grant is None:
                yield _denied(Denial.UNKNOWN_GRANT), True
                continue
            allowed, status = grant.terms, grant.status(self.at)
            yield _denied(Denial.WRONG_OWNER), grant.owner != party
            yield _denied(Denial.WRONG_DATASET), allowed.dataset != use.dataset
            yield _denied(Denial.WRONG_ALGORITHM), allowed.algorithm != use.algorithm
            yield _denied(Denial.WRONG_REQUESTER), allowed.requester != terms.requester
            yield _denied(Denial.WRONG_PURPOSE), allowed.purpose != terms.purpose
            yield _denied(Denial.GRANT_REVOKED), grant.revoked
            yield _denied(Denial.GRANT_NOT_YET_VALID), self.at < allowed.not_before
            yield _denied(Denial.GRANT_EXPIRED), self.at >= allowed.expires_at
            yield _denied(Denial.GRANT_EXHAUSTED), status is GrantStatus.EXHAUSTED or not grant.uses_left
            asked = int(terms.protections)
            yield _denied(Denial.PROTECTION_NOT_ALLOWED), not asked or bool(asked & ~int(allowed.protections))
            covered = 0 < use.epsilon_millionths <= grant.epsilon_left or not allowed.epsilon_millionths
            yield _denied(Denial.EPSILON_NOT_COVERED), not covered
            others = set(terms.parties) - {party}
            strange = bool(allowed.participants) and not others <= set(allowed.participants)
            yield _denied(Denial.PARTICIPANT_NOT_ALLOWED), strange
            yield from self._standing_denials(terms, use.dataset, use.algorithm)

    def _standing_denials(self, terms: TaskTerms, dataset: Hex32, algorithm: Hex32) -> Act:
        usable = (DatasetStatus.ACTIVE, DatasetStatus.SUPERSEDED)
        data, code = self.datasets.get(dataset), self.algorithms.get(algorithm)
        yield _denied(Denial.REQUESTER_NOT_ACTIVE), not self.is_active(terms.requester, Role.REQUESTER)
        yield _denied(Denial.DATASET_NOT_ACTIVE), data is None or data.status not in usable
        yield _denied(Denial.ALGORITHM_NOT_ACTIVE), code is None or code.status is not AlgorithmStatus.ACTIVE

    # tasks

    def create(self, by: Address, terms: TaskTerms) -> Act:
        id, parties, uses = self.task_id(terms), terms.parties, terms.uses
        yield "ClosedForNewTasks", self.closed
        yield from self.active(by, Role.REQUESTER)
        yield "EmptyTerms", NOTHING in (terms.spec, terms.purpose) or not terms.protections
        yield "DeadlinePassed", terms.deadline <= self.at
        yield "WrongNumberOfParties", not 1 <= len(parties) <= MAX_PARTIES
        yield "PartiesNotAscending", list(parties) != sorted(set(parties) - {NOBODY})
        yield "WrongNumberOfUses", not 1 <= len(uses) <= MAX_USES
        yield "NoSuchParty", any(use.party >= len(parties) for use in uses)
        yield "GrantNamedTwice", len({use.grant for use in uses}) < len(uses)
        yield "NotTheRequester", by != terms.requester
        yield "TaskAlreadyKnown", id in self.tasks
        yield CHANGE
        standing = {party for i, party in enumerate(parties) if self._stands(terms, i)}
        authorized = standing == set(parties)
        state = TaskState.AUTHORIZED if authorized else TaskState.CREATED
        self.tasks[id] = Task(terms, state, standing)

    def _stands(self, terms: TaskTerms, party: int) -> bool:
        grants = [self.grants.get(use.grant) for use in terms.uses if use.party == party]
        return all(g and g.uses_left and not g.revoked and not g.terms.approval_required for g in grants)

    def _party(self, terms: TaskTerms, party: Address) -> tuple[Act, Task | None]:
        """What every act of a party on an open task needs."""
        found = self.tasks.get(self.task_id(terms))

        def sentences() -> Act:
            yield from self._on_record(found)
            yield "NotAParty", party not in terms.parties

        return sentences(), found

    def _on_record(self, found: Task | None) -> Act:
        yield "UnknownTask", found is None
        yield "TaskExpired", found is not None and found.now(self.at) is TaskState.EXPIRED

    def approve(self, party: Address, terms: TaskTerms) -> Act:
        sentences, found = self._party(terms, party)
        yield from sentences
        yield from self.active(party)
        yield "AlreadyApproved", found is not None and party in found.approved
        yield "IllegalTransition", found is not None and found.state is not TaskState.CREATED
        yield CHANGE
        assert found is not None
        found.approved.add(party)
        if found.approved == set(terms.parties):
            found.state = TaskState.AUTHORIZED

    def start(self, party: Address, terms: TaskTerms, commitment: Hex32) -> Act:
        sentences, found = self._party(terms, party)
        yield from sentences
        yield "PartyNotActive", not all(map(self.is_active, terms.parties))
        yield "AlreadyStarted", found is not None and party in found.started
        yield "IllegalTransition", found is not None and found.state is not TaskState.AUTHORIZED
        yield "EmptyTerms", commitment == NOTHING
        yield from self.denials(terms, party)
        yield CHANGE
        assert found is not None
        for use in terms.uses_of(party):
            grant = self.grants[use.grant]
            grant.uses_left -= 1
            grant.epsilon_left -= use.epsilon_millionths if grant.terms.epsilon_millionths else 0
        found.started.add(party)
        if found.started == set(terms.parties):
            found.state = TaskState.RUNNING

    def refuse(self, party: Address, terms: TaskTerms, reason: int) -> Act:
        sentences, found = self._party(terms, party)
        yield from sentences
        yield from self.active(party)
        waiting = (TaskState.CREATED, TaskState.AUTHORIZED)
        yield "IllegalTransition", found is not None and found.state not in waiting
        yield "ReasonMissing", reason == 0
        yield CHANGE
        assert found is not None
        found.state = TaskState.REFUSED

    def progress(self, party: Address, terms: TaskTerms, permille: int) -> Act:
        sentences, found = self._party(terms, party)
        yield from sentences
        yield from self.active(party)
        yield "IllegalTransition", found is not None and found.state is not TaskState.RUNNING
        yield "InvalidProgress", permille > 1000
        yield CHANGE

    def finish(self, party: Address, terms: TaskTerms, receipt: Hex32, result: Hex32) -> Act:
        sentences, found = self._party(terms, party)
        yield from sentences
        yield from self.active(party)
        yield "AlreadyFinished", found is not None and party in found.results
        yield "IllegalTransition", found is not None and found.state is not TaskState.RUNNING
        yield "EmptyTerms", receipt == NOTHING or result[:34] in (NOTHING[:34], "0x" + "ff" * 16)
        yield CHANGE
        assert found is not None
        found.results[party] = result
        if set(found.results) == set(terms.parties):
            agreed = len(set(found.results.values())) == 1
            found.state = TaskState.COMPLETED if agreed else TaskState.DISPUTED

    def fail(self, party: Address, terms: TaskTerms, reason: int, blame: Blame, blamed: Address) -> Act:
        sentences, found = self._party(terms, party)
        yield from sentences
        yield from self.active(party)
        yield "IllegalTransition", found is not None and found.state is not TaskState.RUNNING
        yield "AlreadyFinished", found is not None and party in found.results
        yield "ReasonMissing", reason == 0
        if blame is Blame.PARTY:
            yield "NotAParty", blamed not in terms.parties
            yield "BlameMismatch", blamed == party
        else:
            yield "BlameMismatch", blamed != NOBODY
        yield CHANGE
        assert found is not None
        found.state = TaskState.FAILED

    def cancel(self, by: Address, terms: TaskTerms) -> Act:
        found = self.tasks.get(self.task_id(terms))
        yield from self._on_record(found)
        yield "IllegalTransition", found is not None and found.state not in OPEN_STATES
        yield "NotTheRequester", by != terms.requester
        yield CHANGE
        assert found is not None
        found.state = TaskState.CANCELLED

    def stop(self, party: Address, terms: TaskTerms) -> Act:
        sentences, found = self._party(terms, party)
        yield from sentences
        yield "IllegalTransition", found is not None and found.state is not TaskState.RUNNING
        yield CHANGE
        assert found is not None
        found.state = TaskState.CANCELLED

    def acknowledge(self, by: Address, terms: TaskTerms, result: Hex32) -> Act:
        found = self.tasks.get(self.task_id(terms))
        yield "UnknownTask", found is None
        yield "NotTheRequester", by != terms.requester
        yield "IllegalTransition", found is not None and found.state is not TaskState.COMPLETED
        yield "AlreadyAcknowledged", found is not None and found.acknowledged
        yield "ResultDiffers", found is not None and {result} != set(found.results.values())
        yield CHANGE
        assert found is not None
        found.acknowledged = True

    def close(self, by: Address) -> Act:
        yield from self.only_consortium(by)
        yield "ClosedForNewTasks", self.closed
        yield CHANGE
        self.closed = True

    # evidence

    def anchor(self, by: Address, size: int, root: Hex32) -> Act:
        yield "UnknownNode", by not in self.nodes
        yield "LogDidNotGrow", size <= self.checkpoints.get(by, (0, NOTHING))[0]
        yield "EmptyRoot", root == NOTHING
        yield CHANGE
        self.checkpoints[by] = (size, root)


def _denied(reason: Denial) -> str:
    return f"Denied {reason.name}"


def together(*acts: Act) -> Act:
    """Sentences of several acts that are one: all are said before any of them changes anything."""
    for act in acts:
        for sentence in act:
            if sentence is CHANGE:
                break
            yield sentence
    yield CHANGE
    for act in acts:
        for _ in act:
            pass
