"""A random walk through everything the contracts can be asked, each step compared with the reference.

Actors, arguments and times are drawn; most acts are meant well, some are not. What may happen and what must
be refused is the reference's to say. What the invariants look at is the chain's own: its events, and its
records before and after each step.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, NamedTuple

from chain_world import PEOPLE, RESULT, World, bare, h
from engines import Revm
from reference import Act, Proposal, Reasons, Reference, together

from sealtrace.contracts import abi, calls, signing
from sealtrace.contracts.calls import Action, Call
from sealtrace.contracts.client import Chain, ChainSettings
from sealtrace.contracts.deployment import deploy_over
from sealtrace.contracts.events import ChainEvent
from sealtrace.contracts.governance import Office, ProposalStatus, Rules, proposal_id
from sealtrace.contracts.reverts import read_revert
from sealtrace.contracts.terms import dataset_id
from sealtrace.protocol.identifiers import NOBODY, NOTHING, Address, Hex32, UnixSeconds, address, hex32, raw
from sealtrace.protocol.lifecycle import OPEN_STATES, TaskState
from sealtrace.protocol.outcome import Blame, Denial
from sealtrace.protocol.records import (
    AlgorithmStatus,
    DataClass,
    DatasetStatus,
    GrantStatus,
    GrantTerms,
    NodeStatus,
    Protection,
    Role,
    TaskTerms,
    Use,
)

FOUNDED = {
    "alice": Role.OWNER | Role.COMPUTE,
    "bob": Role.OWNER | Role.REQUESTER,
    "carol": Role.OWNER,
    "lab": Role.REQUESTER,
    "provider": Role.PROVIDER,
}
OWNERS = ("alice", "bob", "carol")
PAPER = [address("0x" + f"{n:02x}" * 20) for n in (0xA1, 0xA2, 0xA3, 0xA4, 0xA5, 0xA6)]
"""Organisations that are there to be admitted, suspended and retired; the first three are admitted."""
VOTING = Rules(50, 3_000, 3_000, 0)
PURPOSES = (h("purpose"), h("another purpose"))
MPC, PSI = Protection.MPC_ABY3, Protection.PSI_RR22
CONFLICT_WORD = (1 << 128) - 1

Key = tuple[str, Any]
"""A record: its kind and its id."""

NODE_STATES = ("NONE", "ACTIVE", "SUSPENDED", "HELD", "RETIRED")
ALGORITHM_STATES = ("NONE", "PROPOSED", "ACTIVE", "SUPERSEDED", "SUSPENDED", "HELD", "REVOKED", "REJECTED")

TABLES: dict[str, tuple[tuple[str, ...], dict[str, set[str]]]] = {
    "task": (
        tuple(state.name for state in TaskState),
        {
            "create": {"NONE"},
            "approve": {"CREATED"},
            "start": {"AUTHORIZED"},
            "refuse": {"CREATED", "AUTHORIZED"},
            "progress": {"RUNNING"},
            "finish": {"RUNNING"},
            "fail": {"RUNNING"},
            "cancel": {state.name for state in OPEN_STATES},
            "stop": {"RUNNING"},
            "acknowledge": {"COMPLETED"},
        },
    ),
    "node": (
        NODE_STATES,
        {
            "admit": {"NONE"},
            "suspend, registrar": {"ACTIVE"},
            "suspend, regulator": {"ACTIVE", "SUSPENDED"},
            "reinstate, registrar": {"SUSPENDED"},
            "reinstate, regulator": {"SUSPENDED", "HELD"},
            "retire": {"ACTIVE", "SUSPENDED", "HELD"},
            "rotate keys": {"ACTIVE"},
        },
    ),
    "algorithm": (
        ALGORITHM_STATES,
        {
            "register": {"NONE"},
            "propose": {"NONE"},
            "review": {"PROPOSED"},
            "supersede": {"ACTIVE"},
            "suspend, registrar": {"ACTIVE", "SUPERSEDED"},
            "suspend, regulator": {"ACTIVE", "SUPERSEDED", "SUSPENDED"},
            "reinstate, registrar": {"SUSPENDED"},
            "reinstate, regulator": {"SUSPENDED", "HELD"},
            "revoke": {"PROPOSED", "ACTIVE", "SUPERSEDED", "SUSPENDED", "HELD"},
        },
    ),
    "dataset": (
        tuple(state.name for state in DatasetStatus),
        {"register": {"NONE"}, "supersede": {"ACTIVE"}, "withdraw": {"ACTIVE", "SUPERSEDED"}},
    ),
    "grant": (
        tuple(state.name for state in GrantStatus),
        {
            "start": {"ACTIVE"},
            "revoke": {"PENDING", "ACTIVE", "EXPIRED", "EXHAUSTED"},
            "replace": {"PENDING", "ACTIVE", "EXPIRED", "EXHAUSTED"},
        },
    ),
    "proposal": (
        tuple(state.name for state in ProposalStatus),
        {"propose": {"NONE"}, "vote": {"OPEN"}, "execute": {"PASSED"}},
    ),
}
"""By kind of record: its states, and by act the states in which it may happen, from the manuals."""

NEVER_ASKED = {("proposal", "STALE", "propose")}
"""The same words under another electorate are another proposal."""

_STATE_ALONE = """
    UnknownTask TaskExpired IllegalTransition TaskAlreadyKnown DeadlinePassed AlreadyAcknowledged
    AlreadyApproved AlreadyStarted AlreadyFinished ResultDiffers
    UnknownNode NodeAlreadyKnown NodeNotActive NodeNotSuspended NodeAlreadyRetired NodeHeld
    UnknownDataset DatasetAlreadyKnown DatasetNotActive DatasetAlreadyWithdrawn
    UnknownAlgorithm AlgorithmAlreadyKnown AlgorithmNotActive AlgorithmNotProposed AlgorithmNotSuspended
    AlgorithmAlreadyRevoked AlgorithmIsRejected AlgorithmHeld AlgorithmAlreadySuperseded NotAskedToReview
    UnknownGrant GrantAlreadyRevoked
    UnknownProposal AlreadyProposed ProposalNotOpen AlreadyVoted ProposalNotPassed
"""
STATE_ALONE = frozenset(_STATE_ALONE.split()) | {f"Denied {Denial(n).name}" for n in (1, 7, 8, 9, 10)}
"""Reasons that lie in the state of what is acted on, not in who acts or what he says."""


class TaskSeen(NamedTuple):
    status: int
    acknowledged: bool
    agreed: int
    approved: int
    started: int
    finished: int


class NodeSeen(NamedTuple):
    status: int
    roles: int
    held: bool
    version: int
    tls: Hex32
    key: Hex32
    former: tuple[int, Hex32, Hex32] | None


class DatasetSeen(NamedTuple):
    owner: Address
    status: int
    version: int


class AlgorithmSeen(NamedTuple):
    provider: Address
    status: int
    held: bool
    superseded: bool
    asked: int
    agreed: int


class GrantSeen(NamedTuple):
    owner: Address
    requester: Address
    uses: int
    uses_left: int
    approval_required: bool
    revoked: bool
    epsilon: int
    epsilon_left: int
    participants: tuple[Address, ...]


@dataclass
class Tally:
    """What was tried in all walks."""

    steps: int = 0
    replayed: int = 0
    acts: Counter[tuple[str, str, str, bool]] = field(default_factory=Counter)
    """Kind, state, act, done: only where the state alone decides."""
    errors: Counter[str] = field(default_factory=Counter)
    reached: Counter[tuple[str, str]] = field(default_factory=Counter)


@dataclass(frozen=True)
class Step:
    """One transaction, as the chain shows it. ``refused`` is the error's name."""

    by: Address
    at: int
    call: Call
    refused: str | None
    events: list[ChainEvent]
    before: dict[Key, Any]
    after: dict[Key, Any]


@dataclass
class Ballot:
    """A proposal as the walk knows it: what is to be done, in words of both sides."""

    actions: list[tuple[Address, bytes]]
    description: Hex32
    acts: list[tuple[str, tuple[Any, ...]]]
    touched: list[Key]


@dataclass
class Start:
    """A world at its beginning, gone back to for each walk."""

    world: World
    engine: Revm
    reference: Reference
    snapshot: Any
    seen: dict[Key, Any]


class Walk:
    """One walk. ``step`` sends one transaction and compares; the draws decide which."""

    def __init__(self, start: Start, tally: Tally, luck: Random) -> None:
        self.world, self.engine = start.world, start.engine
        self.engine.revert_to_snapshot(start.snapshot)
        self.reference = start.reference.copy()
        self.seen = dict(start.seen)
        self.tally = tally
        self.last: Step | None = None
        self.luck = luck
        self.count = 0
        self.sought = {kind: luck.choice(states) for kind, (states, _) in TABLES.items()}
        self.tried: Counter[tuple[str, str, str]] = Counter()
        self._grant_states: dict[Key, str] = {}
        self.terms: dict[Hex32, TaskTerms] = {}
        self.commitments = {
            dataset_id(self.of(n), h(f"commitment {n}")): h(f"commitment {n}") for n in OWNERS
        }
        self.doomed: set[Hex32] = set()
        self.ballots: list[Ballot] = []
        self.signed: list[tuple[Call, list[tuple[str, tuple[Any, ...]]], list[Key]]] = []
        self.addresses = self.world.chain.addresses
        self.everybody = [*map(self.world.of, PEOPLE), *PAPER]

    # one step

    def step(
        self,
        call: Call,
        by: Address,
        acts: Sequence[Act],
        touched: Sequence[Key],
        told: tuple[str, str, Key] | None = None,
    ) -> Reasons:
        """Send ``call`` and compare what comes of it with what the reference says of ``acts``.

        ``told`` is the kind, the act and the record under which the step is counted.
        """
        at = self.engine.now + self._seconds()
        self.engine.travel(at)
        self.reference.at = at
        state = self.state(told[2]) if told else ""
        reasons = self.reference.do(*acts)
        outcome = self.engine.send(by, self.addresses[call.contract], call.data())
        refused = None if outcome.refusal is None else _named(outcome.refusal, call.contract)
        if refused is None:
            assert not reasons, f"{call.function} was done in spite of {sorted(reasons)}"
        else:
            assert refused in reasons, f"{call.function}: {refused}, expected {sorted(reasons) or 'success'}"
        events = self.world._events(outcome.logs)
        touched = [*touched, *(key for event in events for key in _named_in(event))]
        before = {key: self.seen.get(key) for key in touched}
        after = {key: self.found(key) for key in touched}
        self.seen.update(after)
        self.last = Step(by, at, call, refused, events, before, after)
        self._count(told, state, reasons, refused)
        for key, record in after.items():
            assert record == self.expected(key), f"after {call.function}: {key}"
        return reasons

    def _count(
        self, told: tuple[str, str, Key] | None, state: str, reasons: Reasons, refused: str | None
    ) -> None:
        self.tally.steps += 1
        self.tally.errors[refused or "done"] += 1
        if told:
            self.tally.reached[told[0], state] += 1
            if reasons <= STATE_ALONE:
                self.tally.acts[told[0], state, told[1], not reasons] += 1
                self.tried[told[0], state, told[1]] += 1

    def _seconds(self) -> int:
        return self.luck.choice((*(1,) * 15, 7, 60, 60, 300, 1_200))

    def finish(self) -> None:
        """Nothing else changed on the way: every record is what the reference says."""
        self.reference.at = self.engine.now
        for key in list(self.seen):
            assert self.found(key) == self.expected(key), f"at the end: {key}"

    # records, as the chain and as the reference have them

    def view(self, contract: str, function: str, *args: Any) -> Any:
        data = abi.encode_call(contract, function, args)
        values = abi.decode_result(contract, function, self.engine.call(self.addresses[contract], data))
        return values[0] if len(values) == 1 else values

    def found(self, key: Key) -> Any:
        kind, id = key
        return getattr(self, f"_found_{kind}")(id)

    def expected(self, key: Key) -> Any:
        kind, id = key
        return getattr(self, f"_expected_{kind}")(id)

    def _found_task(self, id: Hex32) -> Any:
        agreed, _, _, status, acknowledged, *masks = self.view("TaskLedger", "taskOf", raw(id))
        return TaskSeen(status, acknowledged, agreed, *masks)

    def _expected_task(self, id: Hex32) -> Any:
        found = self.reference.tasks.get(id)
        if found is None:
            return 0, False, 0, 0, 0, 0
        digests = {int(result[:34], 16) for result in found.results.values()}
        agreed = 0 if not digests else digests.pop() if len(digests) == 1 else CONFLICT_WORD
        groups = (found.approved, found.started, set(found.results))
        masks = (sum(1 << i for i, p in enumerate(found.terms.parties) if p in group) for group in groups)
        return int(found.state), found.acknowledged, agreed, *masks

    def _found_node(self, id: Address) -> Any:
        status, roles, _, held, version, *keys = self.view("NodeRegistry", "nodeOf", id)
        former = self.view("NodeRegistry", "formerKeysOf", id, version - 1) if version else None
        return NodeSeen(status, roles, held and status == NodeStatus.SUSPENDED, version, *keys, former)

    def _expected_node(self, id: Address) -> Any:
        found = self.reference.nodes.get(id)
        if found is None:
            return 0, 0, False, 0, NOTHING, NOTHING, None
        held = found.held and found.status is NodeStatus.SUSPENDED
        former = found.former[-1] if found.former else None
        return int(found.status), found.roles, held, len(found.former), *found.keys, former

    def _found_dataset(self, id: Hex32) -> Any:
        owner, status, _, _, version, *_ = self.view("DatasetRegistry", "datasetOf", raw(id))
        return DatasetSeen(owner, status, version)

    def _expected_dataset(self, id: Hex32) -> Any:
        found = self.reference.datasets.get(id)
        return (found.owner, int(found.status), found.version) if found else (NOBODY, 0, 0)

    def _found_algorithm(self, id: Hex32) -> Any:
        provider, status, held, superseded, _, asked, agreed = self.view(
            "AlgorithmRegistry", "algorithmOf", raw(id)
        )
        held = held and status == AlgorithmStatus.SUSPENDED
        return AlgorithmSeen(provider, status, held, superseded, asked, agreed)

    def _expected_algorithm(self, id: Hex32) -> Any:
        a = self.reference.algorithms.get(id)
        if a is None:
            return NOBODY, 0, False, False, 0, 0
        held = a.held and a.status is AlgorithmStatus.SUSPENDED
        return a.provider, int(a.status), held, a.superseded, len(a.asked), len(a.agreed)

    def _found_grant(self, id: Hex32) -> Any:
        owner, *_, participants = record = self.view("GrantRegistry", "grantOf", raw(id))
        requester, uses, left, approval, revoked, epsilon, epsilon_left = record[4:11]
        spent = (uses, left, approval, revoked, epsilon, epsilon_left)
        return GrantSeen(owner, requester, *spent, participants)

    def _expected_grant(self, id: Hex32) -> Any:
        g = self.reference.grants.get(id)
        if g is None:
            return NOBODY, NOBODY, 0, 0, False, False, 0, 0, ()
        t = g.terms
        spent = (t.uses, g.uses_left, t.approval_required, g.revoked, t.epsilon_millionths, g.epsilon_left)
        return g.owner, t.requester, *spent, t.participants

    def _found_proposal(self, id: Hex32) -> Any:
        proposer, _, yes, no, executed, _ = self.view("Consortium", "proposalOf", raw(id))
        return proposer != NOBODY, yes, no, executed

    def _expected_proposal(self, id: Hex32) -> Any:
        found = self.reference.proposals.get(id)
        return (True, len(found.yes), len(found.no), found.executed) if found else (False, 0, 0, False)

    def _found_consortium(self, _: None) -> Any:
        names = ("members", "rules", "electorate", "votesNeeded")
        members, rules, electorate, needed = (self.view("Consortium", name) for name in names)
        return sorted(members), rules, electorate, needed

    def _expected_consortium(self, _: None) -> Any:
        r = self.reference
        needed = next(n for n in range(99) if n * 100 > r.rules.quorum_percent * len(r.members))
        return sorted(r.members), r.rules.words(), r.electorate, needed

    def _found_office(self, office: Office) -> Any:
        return [a for a in self.everybody if self.view("Consortium", "hasRole", raw(office.id), a)]

    def _expected_office(self, office: Office) -> Any:
        return [a for a in self.everybody if a in self.reference.offices[office]]

    def _found_serial(self, owner: Address) -> Any:
        return self.view("GrantRegistry", "serialOf", owner)

    def _expected_serial(self, owner: Address) -> Any:
        return self.reference.serials.get(owner, 0)

    def _found_checkpoint(self, node: Address) -> Any:
        size, _, root = self.view("EvidenceAnchor", "checkpointOf", node)
        return size, root

    def _expected_checkpoint(self, node: Address) -> Any:
        return self.reference.checkpoints.get(node, (0, NOTHING))

    def _found_closed(self, _: None) -> Any:
        return self.view("TaskLedger", "closed")

    def _expected_closed(self, _: None) -> Any:
        return self.reference.closed

    def state(self, key: Key) -> str:
        """The state of a record at the time of the next block, as the tables name it."""
        kind, id = key
        r = self.reference
        if kind == "task":
            return r.tasks[id].now(r.at).name if id in r.tasks else "NONE"
        if kind == "proposal":
            return r.proposal_status(id).name
        record: Any = getattr(r, f"{kind}s").get(id)
        if record is None:
            return "NONE"
        if kind == "grant":
            return str(record.status(r.at).name)
        if record.status.name == "SUSPENDED" and record.held:
            return "HELD"
        if kind == "algorithm" and record.status is AlgorithmStatus.ACTIVE and record.superseded:
            return "SUPERSEDED"
        return str(record.status.name)

    # draws

    def chance(self, percent: int) -> bool:
        return self.luck.random() * 100 < percent

    def fresh(self, words: str) -> Hex32:
        self.count += 1
        return h(f"{words} {self.count}")

    def someone(self, usual: Address, percent: int = 85) -> Address:
        """``usual``, mostly; nobody is no sender."""
        return usual if usual != NOBODY and self.chance(percent) else self.luck.choice(self.everybody)

    def of(self, name: str) -> Address:
        return self.world.of(name)

    def officer(self, office: Office) -> Address:
        return self.someone(self.luck.choice(sorted(self.reference.offices[office]) or [NOBODY]), 90)

    def supervisor(self, act: str) -> tuple[Address, str]:
        """Who would do ``act`` as its office says, mostly, and as what the act is told."""
        office = Office.REGULATOR if act.endswith("regulator") else Office.REGISTRAR
        by = self.officer(office)
        return by, "regulator" if self.reference.prevails(by) else "registrar"

    def member(self) -> Address:
        return self.someone(self.luck.choice(sorted(self.reference.members)), 90)

    def by_state(self, kind: str, known: Sequence[Any], percent_none: int = 6) -> Any:
        """A record, rare states as often as common ones, the one that this walk seeks more often; now and
        then one that is not there.
        """
        if not known or self.chance(percent_none):
            return None
        self.reference.at = self.engine.now + 1
        states: dict[str, list[Any]] = {}
        for id in known:
            states.setdefault(self.state((kind, id)), []).append(id)
        sought = self.sought[kind] in states and self.chance(50)
        return self.luck.choice(states[self.sought[kind] if sought else self.luck.choice(sorted(states))])

    def seldom(self, kind: str, id: Any) -> str:
        """One of the acts on a record that this walk tried least in its state; what ends it comes later.

        What was refused for another reason than the state counts half.
        """
        state = self.state((kind, id)) if id else "NONE"
        acts = [act for act in TABLES[kind][1] if act != "create"]
        if self.chance(50):
            acts = [act for act in acts if act not in ("retire", "revoke")]
        least = min(self.tried[kind, state, act] for act in acts)
        act = self.luck.choice([act for act in acts if self.tried[kind, state, act] == least])
        self.tried[kind, state, act] += 1
        return act

    def until(self) -> UnixSeconds:
        return UnixSeconds(self.engine.now + (20_000 if self.chance(95) else 0))

    # acts of the consortium, directly by anybody or by vote

    def _of_consortium(self) -> tuple[Call, str, tuple[Any, ...], list[Key]]:
        """Something that members may vote for: the call, the reference's act and what it touches."""
        account, office = self.luck.choice(self.everybody), self.luck.choice(list(Office))
        paper, algorithm = self.luck.choice(PAPER), self.some_algorithm()
        holders = sorted(self.reference.offices[office]) or [account]
        holder = self.someone(self.luck.choice(holders), 80)
        rules = replace(VOTING, quorum_percent=self.luck.choice((50, 60, 75, 99, 49, 100)))
        rules = replace(rules, reviews=self.luck.choice((0, 0, 0, 1, 2)))
        keys = (self.fresh("tls"), self.fresh("key"))
        reason = h("a vote")
        choices: list[tuple[int, Call, str, tuple[Any, ...], list[Key]]] = [
            (6, calls.add_member(account), "add_member", (account,), [("consortium", None)]),
            (5, calls.remove_member(account), "remove_member", (account,), [("consortium", None)]),
            (3, calls.set_rules(rules), "set_rules", (rules,), [("consortium", None)]),
            (3, calls.appoint(office, account), "appoint", (office, account), [("office", office)]),
            (2, calls.dismiss(office, holder), "dismiss", (office, holder), [("office", office)]),
            (6, calls.admit(paper, Role(3), *keys), "admit", (paper, 3, *keys), [("node", paper)]),
            (2, calls.suspend_node(paper, reason), "suspend_node", (paper, reason), [("node", paper)]),
            (2, calls.reinstate_node(paper), "reinstate_node", (paper,), [("node", paper)]),
            (3, calls.retire_node(paper), "retire_node", (paper,), [("node", paper)]),
            (
                1,
                calls.suspend_algorithm(algorithm, reason),
                "suspend_algorithm",
                (algorithm, reason),
                [("algorithm", algorithm)],
            ),
        ]
        if self.chance(2):
            choices.append((30, calls.close_ledger(), "close", (), [("closed", None)]))
        (chosen,) = self.luck.choices(choices, [each[0] for each in choices])
        return chosen[1:]

    def governs(self) -> None:
        """Propose, vote, execute, hand over; or try what only the consortium may."""
        act = self.luck.choices(
            ("propose", "vote", "execute", "direct", "offer", "accept", "seize", "renounce"),
            (12, 26, 16, 4, 3, 4, 2, 1),
        )[0]
        getattr(self, f"_{act}")()

    def _ballot_id(self, ballot: Ballot) -> Hex32:
        return proposal_id(ballot.actions, ballot.description, self.reference.electorate)

    def _known_ballot(self) -> Ballot | None:
        """One of the last, or of any state under the present electorate."""
        if not self.ballots or self.chance(30):
            return self.luck.choice(self.ballots[-12:]) if self.ballots else None
        known = {self._ballot_id(each): each for each in self.ballots[-30:]}
        rare = [id for id in known if self.state(("proposal", id)) == "REJECTED"]
        return known[self.by_state("proposal", rare if rare and self.chance(30) else list(known), 0)]

    def _propose(self) -> None:
        ballot = self._known_ballot() if self.chance(50) else None
        if ballot is None:
            drawn = [self._of_consortium() for _ in range(self.luck.choice((1, 1, 1, 2)))]
            actions = [(self.addresses[call.contract], call.data()) for call, *_ in drawn]
            acts = [(name, args) for _, name, args, _ in drawn]
            touched = [key for *_, keys in drawn for key in keys]
            ballot = Ballot(actions, self.fresh("because"), acts, touched)
        by = self.member()
        id = self._ballot_id(ballot)
        call = calls.propose([Action(*each) for each in ballot.actions], ballot.description)
        acts_ = [self.reference.propose(by, ballot.actions, ballot.description)]
        if not self.step(call, by, acts_, [("proposal", id)], ("proposal", "propose", ("proposal", id))):
            self.ballots.append(ballot)

    def _vote(self) -> None:
        known = list(self.reference.proposals)[-30:]
        if (votable := [id for id in known if self.state(("proposal", id)) == "OPEN"]) and self.chance(70):
            known = votable
        id = self.by_state("proposal", known) or self.fresh("no proposal")
        found = self.reference.proposals.get(id)
        waiting = self._not_yet(found)
        by = self.luck.choice(waiting) if waiting and self.chance(80) else self.member()
        yes = self.chance(10 if self.sought["proposal"] == "REJECTED" else 50)
        call = calls.vote(id, yes=yes)
        key = ("proposal", id)
        self.step(call, by, [self.reference.vote(by, id, yes)], [key], ("proposal", "vote", key))

    def _not_yet(self, found: Proposal | None) -> list[Address]:
        return sorted(self.reference.members - (found.yes | found.no)) if found else []

    def _execute(self) -> None:
        ballot = self._known_ballot()
        if ballot is None:
            return self._propose()
        by = self.luck.choice(self.everybody)
        r = self.reference
        id = self._ballot_id(ballot)
        stale = [
            each
            for each in r.proposals
            if r.proposals[each].electorate != r.electorate and not r.proposals[each].executed
        ]
        counted = id if id in r.proposals or not stale else stale[-1]
        acts = [r.execute(by, id), *(getattr(r, name)(r.consortium, *args) for name, args in ballot.acts)]
        call = calls.execute([Action(*each) for each in ballot.actions], ballot.description)
        touched = [("proposal", id), *ballot.touched]
        return self._ignoring(
            self.step(call, by, acts, touched, ("proposal", "execute", ("proposal", counted)))
        )

    @staticmethod
    def _ignoring(_: Reasons) -> None:
        return None

    def _direct(self) -> None:
        call, name, args, touched = self._of_consortium()
        by = self.luck.choice(self.everybody)
        self.step(call, by, [getattr(self.reference, name)(by, *args)], touched)

    def _offer(self) -> None:
        office, to = self.luck.choice(list(Office)), self.luck.choice(self.everybody)
        by = self.officer(office)
        self.step(calls.offer_office(office, to), by, [self.reference.offer_office(by, office, to)], [])

    def _accept(self) -> None:
        office = self.luck.choice(list(Office))
        offered = [(holder, to) for (each, holder), to in self.reference.offers.items() if each is office]
        holder, to = self.luck.choice(sorted(offered)) if offered else (self.officer(office), NOBODY)
        by = self.someone(to, 80)
        call = calls.accept_office(office, holder)
        self.step(call, by, [self.reference.accept_office(by, office, holder)], [("office", office)])

    def _seize(self) -> None:
        office, by = self.luck.choice(list(Office)), self.luck.choice(self.everybody)
        function = self.luck.choice(("grantRole", "revokeRole"))
        call = Call("Consortium", function, (raw(office.id), self.luck.choice(self.everybody)))
        self.step(call, by, [self.reference.seize(by)], [("office", office)])

    def _renounce(self) -> None:
        office = self.luck.choice(list(Office))
        if len(self.reference.offices[office]) < 2:
            return self._accept()
        by = self.luck.choice(sorted(self.reference.offices[office]))
        call = Call("Consortium", "renounceRole", (raw(office.id), by))
        return self._ignoring(
            self.step(call, by, [self.reference.renounce(by, office)], [("office", office)])
        )

    # nodes

    def supervises(self) -> None:
        """Admit, suspend, reinstate, retire, rotate."""
        r = self.reference
        node = self.by_state("node", PAPER, 0) if self.chance(94) else self.of(self.luck.choice([*FOUNDED]))
        act = self.seldom("node", node)
        if node not in r.nodes and self.chance(50):
            act = "admit"
        key = ("node", node)
        reason = NOTHING if self.chance(4) else h("why")
        tls, secret = (NOTHING if self.chance(5) else self.fresh(each) for each in ("tls", "key"))
        by, side = self.supervisor(act)
        if act == "admit":
            roles = self.luck.choice((1, 2, 3, 4, 8, 16, 31, 0, 32))
            by = self.officer(Office.REGISTRAR)
            call = Call("NodeRegistry", "admit", (node, roles, raw(tls), raw(secret)))
            self.step(call, by, [r.admit(by, node, roles, tls, secret)], [key], ("node", "admit", key))
        elif act.startswith("suspend"):
            call, acts = calls.suspend_node(node, reason), [r.suspend_node(by, node, reason)]
            self.step(call, by, acts, [key], ("node", f"suspend, {side}", key))
        elif act.startswith("reinstate"):
            told = ("node", f"reinstate, {side}", key)
            self.step(calls.reinstate_node(node), by, [r.reinstate_node(by, node)], [key], told)
        elif act == "retire":
            node = node if node in PAPER else self.luck.choice(PAPER)  # the others would not come back
            key, by = ("node", node), self.officer(Office.REGISTRAR)
            self.step(calls.retire_node(node), by, [r.retire_node(by, node)], [key], ("node", "retire", key))
        else:
            call = calls.rotate_keys(tls, secret)
            self.step(call, node, [r.rotate_keys(node, tls, secret)], [key], ("node", "rotate keys", key))

    # datasets

    def publishes(self) -> None:
        """Register, supersede, withdraw."""
        r = self.reference
        act = self.luck.choices(("register", "supersede", "withdraw"), (3, 3, 2))[0]
        known = self.by_state("dataset", list(r.datasets)[-40:])
        owner = r.datasets[known].owner if known else self.of(self.luck.choice(OWNERS))
        by = self.someone(owner, 90)
        schema = NOTHING if self.chance(3) else h("schema")
        if act == "register":
            commitment = (
                self.commitments.get(known or "", NOTHING) if self.chance(40) else self.fresh("commitment")
            )
            id = dataset_id(by, commitment)
            call = calls.register_dataset(commitment, schema, DataClass.GENERAL)
            acts = [r.register_dataset(by, commitment, schema)]
        elif act == "supersede":
            commitment = self.fresh("commitment")
            id = known or self.fresh("no dataset")
            call = calls.supersede_dataset(id, commitment, schema, DataClass.CORE)
            acts = [r.supersede_dataset(by, id, commitment, schema)]
        else:
            commitment, id = NOTHING, known or self.fresh("no dataset")
            call, acts = calls.withdraw_dataset(id), [r.withdraw_dataset(by, id)]
        self.commitments[dataset_id(by, commitment)] = commitment
        key = ("dataset", id)
        self.step(call, by, acts, [key], ("dataset", act, key))

    # algorithms

    def some_algorithm(self) -> Hex32:
        found: Hex32 | None = self.by_state("algorithm", list(self.reference.algorithms)[-30:])
        return found or self.fresh("algorithm")

    def offers(self) -> None:
        """Register, propose, review, supersede, suspend, reinstate, revoke an algorithm."""
        r, of = self.reference, self.luck.choice
        digest = self.fresh("algorithm") if self.chance(15) else self.some_algorithm()
        act = self.seldom("algorithm", digest)
        if digest not in r.algorithms and self.chance(75):
            act = of(("register", "propose"))
        elif self.state(("algorithm", digest)) == "PROPOSED" and self.chance(30):
            act = "review"
        key = ("algorithm", digest)
        found = r.algorithms.get(digest)
        by = self.someone(found.provider if found else self.of("provider"), 92)
        officer, side = self.supervisor(act)
        report = NOTHING if self.chance(4) else self.fresh("report")
        if act == "register":
            call, acts = calls.register_algorithm(digest), [r.register_algorithm(by, digest)]
        elif act == "propose":
            names = self.luck.sample(["alice", "bob", "carol", "lab"], self.luck.choice((0, 1, 1, 2, 2, 3)))
            chosen = sorted(map(self.of, names))
            if self.chance(6):
                chosen = of(
                    ([*chosen[::-1]], [*chosen, by], sorted({*chosen, by}), [*chosen, NOBODY], chosen * 2)
                )
            call = Call("AlgorithmRegistry", "propose", (raw(digest), chosen))
            acts = [r.propose_algorithm(by, digest, chosen)]
        elif act == "review":
            waiting = [a for a in found.asked if a not in found.agreed | found.declined] if found else []
            by = self.someone(of(waiting), 90) if waiting else of(self.everybody)
            agreed = self.chance(10 if self.sought["algorithm"] == "REJECTED" else 70)
            call = calls.review_algorithm(digest, report, agreed=agreed)
            acts = [r.review_algorithm(by, digest, agreed, report)]
        elif act == "supersede":
            mine = [id for id in r.algorithms if self.state(("algorithm", id)) == "ACTIVE" and id != digest]
            other = of(mine[-4:]) if mine and self.chance(80) else self.some_algorithm()
            call = calls.supersede_algorithm(digest, other)
            acts = [r.supersede_algorithm(by, digest, other)]
        elif act.startswith("suspend"):
            by, act = officer, f"suspend, {side}"
            call, acts = calls.suspend_algorithm(digest, report), [r.suspend_algorithm(by, digest, report)]
        elif act.startswith("reinstate"):
            by, act = officer, f"reinstate, {side}"
            call, acts = calls.reinstate_algorithm(digest), [r.reinstate_algorithm(by, digest)]
        else:
            call, acts = calls.revoke_algorithm(digest), [r.revoke_algorithm(by, digest)]
        self.step(call, by, acts, [key], ("algorithm", act, key))

    # grants

    def grant_terms(self, owner: Address) -> GrantTerms:
        r, now = self.reference, self.engine.now
        mine = [id for id, d in r.datasets.items() if d.owner == owner and d.status is DatasetStatus.ACTIVE]
        usable = [
            id for id, a in r.algorithms.items() if a.status is AlgorithmStatus.ACTIVE and not a.superseded
        ]
        dataset = self.luck.choice(mine) if mine and self.chance(93) else self.some_dataset()
        algorithm = self.luck.choice(usable[-3:]) if usable and self.chance(94) else self.some_algorithm()
        begins = now + self.luck.choice((0, 0, 0, 0, 0, 8_000))
        people = sorted(map(self.of, OWNERS))
        participants = self.luck.choice(((), (), (), tuple(people), tuple(people[:2])))
        lasting = self.luck.choice((600, 6_000, 40_000, 40_000, 40_000))
        return GrantTerms(
            dataset=dataset,
            algorithm=algorithm,
            requester=self.someone(self.of("lab"), 90),
            purpose=NOTHING if self.chance(2) else self.luck.choice(PURPOSES),
            uses=self.luck.choice((1, 1, 2, 3)) if self.chance(96) else 0,
            not_before=UnixSeconds(begins),
            expires_at=UnixSeconds(begins + (lasting if self.chance(96) else 0)),
            protections=self.luck.choice((MPC, MPC | PSI)) if self.chance(96) else Protection(0),
            approval_required=self.chance(40),
            epsilon_millionths=self.luck.choice((0, 0, 10, 25)),
            participants=participants if self.chance(96) else tuple(people[::-1]),
        )

    def some_dataset(self) -> Hex32:
        found: Hex32 | None = self.by_state("dataset", list(self.reference.datasets)[-30:])
        return found or self.fresh("no dataset")

    def grants(self) -> None:
        """Issue, replace, revoke, directly or signed; pass a serial; try to spend."""
        act = self.luck.choices(
            ("issue", "issue_signed", "replace", "revoke", "revoke_signed", "pass_serial", "consume"),
            (10, 4, 5, 5, 2, 1, 1),
        )[0]
        getattr(self, f"_{act}")()

    def _granted(self, owner: Address, terms: GrantTerms) -> list[Key]:
        id = self.reference.grant_id(owner, self.reference.serials.get(owner, 0), terms)
        return [("grant", id), ("serial", owner)]

    def _issue(self) -> None:
        owner = self.someone(self.of(self.luck.choice(OWNERS)), 95)
        terms = self.grant_terms(owner)
        touched = self._granted(owner, terms)
        self.step(calls.issue_grant(terms), owner, [self.reference.issue_grant(owner, terms)], touched)

    def _issue_signed(self) -> None:
        owner = self.luck.choice(OWNERS)
        signer = owner if self.chance(85) else self.luck.choice(PEOPLE)
        serial = self.reference.serials.get(self.of(owner), 0)
        terms = self.grant_terms(self.of(owner))
        said = terms if self.chance(90) else replace(terms, uses=terms.uses + 1)
        under = serial if self.chance(90) else serial + 1
        until = self.until()
        place = signing.Place(self.engine.chain_id, self.addresses["GrantRegistry"])
        signed = signing.grant(place, said, under, until).sign(self.world.keys[signer])
        call = calls.issue_grant_signed(self.of(owner), terms, signed)
        genuine = (signer, said, under) == (owner, terms, serial)
        acts = [("issue_signed", (self.of(owner), terms, until, genuine and serial))]
        self._submitted(call, acts, self._granted(self.of(owner), terms), genuine)

    def _known_grant(self) -> tuple[Hex32, Address]:
        id = self.by_state("grant", list(self.reference.grants)[-40:]) or self.fresh("no grant")
        found = self.reference.grants.get(id)
        return id, found.owner if found else self.of(self.luck.choice(OWNERS))

    def _replace(self) -> None:
        id, owner = self._known_grant()
        by = self.someone(owner, 92)
        terms = self.grant_terms(by)
        acts = [together(self.reference.revoke_grant(by, id), self.reference.issue_grant(by, terms))]
        touched = [("grant", id), *self._granted(by, terms)]
        self.step(calls.replace_grant(id, terms), by, acts, touched, ("grant", "replace", ("grant", id)))

    def _revoke(self) -> None:
        id, owner = self._known_grant()
        by, key = self.someone(owner, 92), ("grant", id)
        acts = [self.reference.revoke_grant(by, id)]
        self.step(calls.revoke_grant(id), by, acts, [key], ("grant", "revoke", key))

    def _revoke_signed(self) -> None:
        id, owner = self._known_grant()
        signer = self.luck.choice(PEOPLE) if self.chance(15) else self.world.who(owner)
        until = self.until()
        place = signing.Place(self.engine.chain_id, self.addresses["GrantRegistry"])
        signed = signing.revocation(place, id, until).sign(self.world.keys[signer])
        acts = [("revoke_signed", (owner, id, until, self.of(signer) == owner))]
        self._submitted(
            calls.revoke_grant_signed(id, signed), acts, [("grant", id)], self.of(signer) == owner
        )

    def _pass_serial(self) -> None:
        by = self.luck.choice(self.everybody)
        self.step(calls.pass_serial(), by, [self.reference.pass_serial(by)], [("serial", by)])

    def _consume(self) -> None:
        by = self.luck.choice(self.everybody)
        if self.chance(40):
            registry = self.luck.choice(("NodeRegistry", "TaskLedger"))
            self.step(Call(registry, "lapse", ()), by, [self.reference.lapse(registry)], [])
            return
        id, owner = self._known_grant()
        found = self.reference.grants.get(id)
        terms = found.terms if found else self.grant_terms(owner)
        request = (
            owner,
            raw(terms.dataset),
            raw(terms.algorithm),
            terms.requester,
            raw(terms.purpose),
            int(terms.protections),
            terms.epsilon_millionths,
        )
        call = Call("GrantRegistry", "consume", (raw(id), request, [owner], raw(h("task")), 1))
        self.step(call, by, [self.reference.consume(by)], [("grant", id)])

    # what others signed

    def _submitted(
        self, call: Call, acts: list[tuple[str, tuple[Any, ...]]], touched: list[Key], genuine: bool
    ) -> Reasons:
        """Submit, as anybody, and keep what was taken: it must not be taken again."""
        reasons = self.step(
            call, self.luck.choice(self.everybody), [self._act(*each) for each in acts], touched
        )
        if not reasons:
            assert genuine
            self.signed.append((call, acts, touched))
        return reasons

    def _act(self, name: str, args: tuple[Any, ...]) -> Act:
        r = self.reference
        if name == "issue_signed":
            owner, terms, until, serial = args
            genuine = serial is not False and serial == r.serials.get(owner, 0)
            return together(r.signed(until, genuine), r.issue_grant(owner, terms))
        if name == "revoke_signed":
            owner, id, until, genuine = args
            return together(r.signed(until, genuine), r.revoke_grant(owner, id))
        until, genuine, *rest = args
        return together(r.signed(until, genuine), getattr(r, name)(*rest))

    def replays(self) -> None:
        """Submit once more what was signed for one time."""
        if not self.signed:
            return self._issue_signed()
        call, acts, touched = self.luck.choice(self.signed)
        by = self.luck.choice(self.everybody)
        reasons = self.step(call, by, [self._act(*each) for each in acts], touched)
        assert reasons, f"{call.function} was taken twice"
        return None

    # tasks

    def task_terms(self) -> TaskTerms:
        r = self.reference
        requester = self.of("lab")
        good = self._usable()
        every = list(r.grants.items())
        purpose = self.luck.choice([g.terms.purpose for _, g in good] or [*PURPOSES])
        good = [(id, g) for id, g in good if g.terms.purpose == purpose]
        drawn = self.luck.sample(good, min(len(good), self.luck.choice((1, 2, 3, 3)))) if good else []
        if every and (not drawn or self.chance(30)):
            odd = self.by_state("grant", list(r.grants), 0)
            drawn = [*(drawn if self.chance(40) else ()), (odd, r.grants[odd])]
            purpose = r.grants[odd].terms.purpose
        parties = tuple(sorted({g.owner for _, g in drawn} | ({self.of("alice")} if not drawn else set())))
        if self.chance(50):
            parties = tuple(sorted({*parties, self.of(self.luck.choice(OWNERS))}))
        uses = [self._use(parties, id, g.owner, g.terms) for id, g in drawn]
        if not uses or self.chance(2):
            uses.append(Use(0, h("d"), h("a"), self.fresh("no grant")))
        terms = TaskTerms(
            requester=self.someone(requester, 96),
            spec=NOTHING if self.chance(1) else self.fresh("spec"),
            purpose=purpose if self.chance(96) else self.luck.choice((*PURPOSES, NOTHING)),
            protections=MPC if self.chance(95) else PSI,
            deadline=UnixSeconds(self.engine.now + self.luck.choice((900, 4_000, 4_000, 9_000))),
            parties=parties,
            uses=tuple(uses),
        )
        return self._spoiled(terms) if self.chance(4) else terms

    def _use(self, parties: tuple[Address, ...], id: Hex32, owner: Address, terms: GrantTerms) -> Use:
        epsilon = self.luck.choice((1, 5, 5, 11, 0)) if terms.epsilon_millionths else 0
        dataset = terms.dataset if self.chance(97) else self.some_dataset()
        algorithm = terms.algorithm if self.chance(97) else self.some_algorithm()
        party = parties.index(owner) if self.chance(98) else 0
        return Use(party, dataset, algorithm, id, epsilon)

    def _spoiled(self, terms: TaskTerms) -> TaskTerms:
        return self.luck.choice(
            (
                replace(terms, parties=terms.parties[::-1]),
                replace(terms, parties=(NOBODY, *terms.parties)),
                replace(terms, parties=(), uses=()),
                replace(terms, uses=terms.uses * 2),
                replace(terms, uses=()),
                replace(terms, uses=(replace(terms.uses[0], party=9),)),
                replace(terms, deadline=UnixSeconds(self.engine.now)),
                replace(terms, parties=tuple(sorted(address("0x" + f"{n:040x}") for n in range(1, 18)))),
            )
        )

    def creates(self) -> None:
        """Put a new task on record, or one that is there."""
        if not self._usable() and self.chance(85):
            return self._issue()
        if len(self._open()) > 2 and self.chance(80):
            return self.drives()
        old = self.by_state("task", list(self.terms), 0) if self.chance(35) and self.terms else None
        terms = self.terms[old] if old else self.task_terms()
        by = self.someone(terms.requester, 96)
        id = self.reference.task_id(terms)
        key = ("task", id)
        if not self.step(
            calls.create(terms), by, [self.reference.create(by, terms)], [key], ("task", "create", key)
        ):
            self.terms[id] = terms
        return None

    def _now_in(self, *states: TaskState) -> list[Hex32]:
        """The tasks that will be in one of these states in the next block."""
        self.reference.at = at = self.engine.now + 1
        return [id for id in self.terms if self.reference.tasks[id].now(at) in states]

    def _open(self) -> list[Hex32]:
        """The tasks that may still come to something: of which no start was refused."""
        ways = self._now_in(TaskState.CREATED, TaskState.AUTHORIZED, TaskState.RUNNING)
        return [id for id in ways if id not in self.doomed]

    def _usable(self) -> list[tuple[Hex32, Any]]:
        """The grants in force that a new task can rest on."""
        r, now, lab = self.reference, self.engine.now + 1, self.of("lab")
        return [
            (id, g)
            for id, g in r.grants.items()
            if g.terms.requester == lab
            and g.status(now) is GrantStatus.ACTIVE
            and r.algorithms[g.terms.algorithm].status is AlgorithmStatus.ACTIVE
            and (not g.terms.epsilon_millionths or g.epsilon_left)
        ]

    def drives(self) -> None:
        """What a task needs next, by who owes it."""
        r = self.reference
        ways = self._open()
        if (halfway := [id for id in ways if r.tasks[id].results]) and self.chance(50):
            ways = halfway
        elif not ways or self.chance(20):
            ways = self._now_in(TaskState.CREATED, TaskState.AUTHORIZED, TaskState.RUNNING)
        if not ways:
            return self.creates()
        id = self.luck.choice(ways[-4:])
        task = r.tasks[id]
        done: set[Address] = {
            TaskState.CREATED: task.approved,
            TaskState.AUTHORIZED: task.started,
            TaskState.RUNNING: set(task.results),
        }[task.state]
        owing = [party for party in task.terms.parties if party not in done]
        act = {"CREATED": "approve", "AUTHORIZED": "start", "RUNNING": "finish"}[task.state.name]
        if self.chance(18):
            act = self.luck.choice(
                [each for each, states in TABLES["task"][1].items() if task.state.name in states]
            )
        by = task.terms.requester if act == "cancel" else self.luck.choice(owing)
        return self._on_task(act, id, task.terms, by)

    def meddles(self) -> None:
        """Any act on any task; those that few tasks come to are sought out."""
        if not self.terms and self.chance(75):
            return self.creates()
        rare = self._now_in(TaskState.DISPUTED) if self.chance(60) else []
        rare = rare or self._now_in(TaskState.RUNNING, TaskState.FAILED, TaskState.DISPUTED)
        id = self.by_state("task", rare if rare and self.chance(60) else list(self.terms))
        act = self.seldom("task", id)
        terms = self.terms[id] if id else self.task_terms()
        id = id or self.reference.task_id(terms)
        party = self.someone(self.luck.choice(terms.parties or (NOBODY,)), 92)
        if act in ("cancel", "acknowledge"):
            party = self.someone(terms.requester, 92)
        return self._on_task(act, id, terms, party)

    def _on_task(self, act: str, id: Hex32, terms: TaskTerms, by: Address) -> None:
        r, key = self.reference, ("task", id)
        touched: list[Key] = [key]
        told = ("task", act, key)
        reason = 0 if self.chance(3) else self.luck.randrange(1, 50)
        if act in ("approve", "start", "refuse", "finish") and self.chance(12) and by in terms.parties:
            return self._on_task_signed(act, terms, by, touched)
        if act == "approve":
            call, acts = calls.approve(terms), [r.approve(by, terms)]
        elif act == "start":
            commitment = NOTHING if self.chance(2) else h("input")
            call, acts = calls.start(terms, commitment), [r.start(by, terms, commitment)]
            grants: list[Key] = [("grant", use.grant) for use in _uses_of(terms, by)]
            touched += grants
            self._tell_grant(grants)
        elif act == "refuse":
            call, acts = calls.refuse(terms, reason), [r.refuse(by, terms, reason)]
        elif act == "progress":
            permille = self.luck.choice((0, 500, 1000, 1001))
            call, acts = calls.progress(terms, 1, permille), [r.progress(by, terms, permille)]
        elif act == "finish":
            receipt, result = self._receipt()
            if id in r.tasks and r.tasks[id].results and self.chance(75):
                result = h("another")
            call, acts = calls.finish(terms, receipt, result), [r.finish(by, terms, receipt, result)]
        elif act == "fail":
            blame = self.luck.choice(list(Blame)) if self.chance(50) else Blame.NOBODY
            blamed = self.luck.choice((*terms.parties, by)) if blame is Blame.PARTY else NOBODY
            blamed = blamed if self.chance(92) else self.luck.choice(self.everybody)
            call = calls.fail(terms, reason, blame, blamed)
            acts = [r.fail(by, terms, reason, blame, blamed)]
        elif act == "cancel":
            call, acts = calls.cancel(terms), [r.cancel(by, terms)]
        elif act == "stop":
            call, acts = calls.stop(terms), [r.stop(by, terms)]
        else:
            result = RESULT if self.chance(90) else h("another")
            call, acts = calls.acknowledge(terms, result), [r.acknowledge(by, terms, result)]
        before = dict(self._grant_states)
        self._grant_states.clear()
        reasons = self.step(call, by, acts, touched, told)
        if act == "start" and reasons:
            self.doomed.add(id)
        self._count_grants(before, reasons)
        return None

    def _tell_grant(self, grants: list[Key]) -> None:
        """Where a start rests on a single grant, that grant's state is counted too."""
        if len(grants) == 1:
            self._grant_states = {grants[0]: ""}

    def _count_grants(self, grants: dict[Key, str], reasons: Reasons) -> None:
        denied = all(reason.startswith("Denied") for reason in reasons)
        for key in grants:
            if denied and reasons <= STATE_ALONE and (not reasons or self.state(key) != "ACTIVE"):
                state = self.state(key) if reasons else "ACTIVE"
                self.tally.acts["grant", state, "start", not reasons] += 1

    def _receipt(self) -> tuple[Hex32, Hex32]:
        receipt = NOTHING if self.chance(2) else self.fresh("receipt")
        odd = (*(h("another"),) * 8, NOTHING, hex32("0x" + "ff" * 32), hex32("0x" + "ff" * 16 + "00" * 16))
        return receipt, RESULT if self.chance(80) else self.luck.choice(odd)

    def _on_task_signed(self, act: str, terms: TaskTerms, by: Address, touched: list[Key]) -> None:
        """The same act, signed by the party (or by another) and submitted by anybody."""
        place = signing.Place(self.engine.chain_id, self.addresses["TaskLedger"])
        index = terms.parties.index(by)
        signer = self.world.who(by) if by not in PAPER and self.chance(88) else self.luck.choice(PEOPLE)
        genuine = by not in PAPER and self.of(signer) == by
        key, until = self.world.keys[signer], self.until()
        if act == "approve":
            signed = signing.approval(place, terms, until).sign(key)
            call, rest = calls.approve_signed(terms, index, signed), (by, terms)
        elif act == "refuse":
            signed = signing.refusal(place, terms, 40, until).sign(key)
            call, rest = calls.refuse_signed(terms, index, 40, signed), (by, terms, 40)
        elif act == "start":
            commitment = self.fresh("input")
            signed = signing.start(place, terms, commitment, until).sign(key)
            call, rest = calls.start_signed(terms, [(index, commitment, signed)]), (by, terms, commitment)
            touched += [("grant", use.grant) for use in _uses_of(terms, by)]
        else:
            receipt, result = self._receipt()
            signed = signing.receipt(place, terms, receipt, result, until).sign(key)
            call = calls.finish_signed(terms, [(index, receipt, result, signed)])
            rest = (by, terms, receipt, result)
        self._submitted(call, [(act, (until, genuine, *rest))], touched, genuine)

    def relays(self) -> None:
        """All parties' signatures of one stage in one transaction: all are taken or none."""
        r = self.reference
        ways = self._now_in(TaskState.AUTHORIZED, TaskState.RUNNING)
        if not ways:
            return self.drives()
        id = self.luck.choice(ways[-5:])
        task = r.tasks[id]
        starting = task.state is TaskState.AUTHORIZED
        done = task.started if starting else set(task.results)
        owing = [party for party in task.terms.parties if party not in done and party not in PAPER]
        if self.chance(10):
            owing = [*owing, *owing[:1]]
        return self._relayed(id, task.terms, owing, starting)

    def _relayed(self, id: Hex32, terms: TaskTerms, parties: list[Address], starting: bool) -> None:
        place = signing.Place(self.engine.chain_id, self.addresses["TaskLedger"])
        words: list[tuple[Any, ...]] = []
        acts: list[tuple[str, tuple[Any, ...]]] = []
        until = self.until()
        for party in parties:
            index, key = terms.parties.index(party), self.world.keys[self.world.who(party)]
            if starting:
                said = self.fresh("input")
                signed = signing.start(place, terms, said, until).sign(key)
                words.append((index, said, signed))
                acts.append(("start", (until, True, party, terms, said)))
            else:
                receipt, result = self.fresh("receipt"), RESULT if self.chance(60) else h("another")
                signed = signing.receipt(place, terms, receipt, result, until).sign(key)
                words.append((index, receipt, result, signed))
                acts.append(("finish", (until, True, party, terms, receipt, result)))
        call = calls.start_signed(terms, words) if starting else calls.finish_signed(terms, words)
        touched: list[Key] = [("task", id), *(("grant", use.grant) for use in terms.uses)]
        if not acts:
            return self.drives()
        self._submitted(call, acts, touched, True)
        return None

    # evidence

    def anchors(self) -> None:
        """Anchor a log that grew, or did not."""
        by = self.luck.choice(self.everybody)
        size = self.reference.checkpoints.get(by, (0, NOTHING))[0] + self.luck.choice((1, 2, 50, 0, -1))
        root = NOTHING if self.chance(10) else self.fresh("root")
        call = calls.anchor(max(size, 0), root)
        self.step(call, by, [self.reference.anchor(by, max(size, 0), root)], [("checkpoint", by)])


def begin(members: Sequence[str] = ()) -> Start:
    """A consortium of one member with its nodes, datasets and algorithms, built by compared steps.

    ``members`` join it by vote.
    """
    engine, keys = bare("revm")
    assert isinstance(engine, Revm)
    accounts = {name: address(_account(key)) for name, key in keys.items()}
    officers = (accounts["registrar"], accounts["regulator"])
    deployed = deploy_over(engine.link, engine.chain_id, keys["deployer"], *officers, rules=VOTING)
    settings = ChainSettings("in process", engine.chain_id, deployed.directory)
    world = World(engine, Chain.over(engine.link.w3, settings), keys)
    walk = Walk(
        Start(world, engine, _empty(world, officers), engine.take_snapshot(), {}), Tally(), Random("founding")
    )
    for key in (("consortium", None), ("closed", None), *(("office", office) for office in Office)):
        walk.seen[key] = walk.found(key)
        assert walk.seen[key] == walk.expected(key)
    for reasons in (*_founding(walk), *(each for name in members for each in _joining(walk, name))):
        assert not reasons
    return Start(world, engine, walk.reference, engine.take_snapshot(), dict(walk.seen))


def _founding(walk: Walk) -> Iterator[Reasons]:
    r, registrar = walk.reference, walk.of("registrar")
    for name, role in FOUNDED.items():
        node, tls, key = walk.of(name), h(f"tls {name}"), h(f"key {name}")
        call = calls.admit(node, role, tls, key)
        yield walk.step(call, registrar, [r.admit(registrar, node, int(role), tls, key)], [("node", node)])
    for node in PAPER[:3]:
        tls, key = h(f"tls {node}"), h(f"key {node}")
        call = calls.admit(node, Role(3), tls, key)
        yield walk.step(call, registrar, [r.admit(registrar, node, 3, tls, key)], [("node", node)])
    for name in OWNERS:
        by, commitment, schema = walk.of(name), h(f"commitment {name}"), h("schema")
        call = calls.register_dataset(commitment, schema, DataClass.GENERAL)
        yield walk.step(call, by, [r.register_dataset(by, commitment, schema)], [])
    provider = walk.of("provider")
    for words in ("algorithm", "algorithm 2"):
        call = calls.register_algorithm(h(words))
        yield walk.step(call, provider, [r.register_algorithm(provider, h(words))], [])


def _joining(walk: Walk, name: str) -> Iterator[Reasons]:
    r, account = walk.reference, walk.of(name)
    add = calls.add_member(account)
    actions = [(walk.addresses["Consortium"], add.data())]
    reason, registrar = h(f"{name} joins"), walk.of("registrar")
    id = proposal_id(actions, reason, r.electorate)
    said = [Action(*each) for each in actions]
    touched: list[Key] = [("proposal", id), ("consortium", None)]
    others = sorted(r.members - {registrar})
    yield walk.step(calls.propose(said, reason), registrar, [r.propose(registrar, actions, reason)], touched)
    for other in others:
        yield walk.step(calls.vote(id, yes=True), other, [r.vote(other, id, True)], touched)
    acts = [r.execute(registrar, id), r.add_member(r.consortium, account)]
    yield walk.step(calls.execute(said, reason), registrar, acts, touched)


def _empty(world: World, officers: tuple[Address, Address]) -> Reference:
    chain = world.chain
    return Reference(
        consortium=chain.addresses["Consortium"],
        grant_id=chain.grant_id,
        task_id=chain.task_id,
        dataset_id=dataset_id,
        members={officers[0]},
        electorate=chain.consortium(at=chain.head()).electorate,
        rules=VOTING,
        offices={Office.REGISTRAR: {officers[0]}, Office.REGULATOR: {officers[1]}},
    )


def _account(key: bytes) -> str:
    from eth_keys.datatypes import PrivateKey

    return str(PrivateKey(key).public_key.to_address())


def _uses_of(terms: TaskTerms, party: Address) -> list[Use]:
    """As ``TaskTerms.uses_of``, of terms that no task may have too."""
    return [use for use in terms.uses if terms.parties[use.party : use.party + 1] == (party,)]


def _named(refusal: bytes, contract: str) -> str:
    found = read_revert(refusal, contract)
    return f"Denied {found.denial.name}" if found.denial and found.name == "Denied" else found.name


def _named_in(event: ChainEvent) -> Iterator[Key]:
    """The records that an event is about."""
    kinds = {"task": "task", "grant": "grant", "dataset": "dataset", "algorithm": "algorithm", "node": "node"}
    for name, kind in kinds.items():
        if isinstance(event.args.get(name), str):
            yield kind, event.args[name]
