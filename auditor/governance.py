"""Who decides, how, and what was asked of them: the consortium's state as its events tell it."""

from __future__ import annotations

from dataclasses import dataclass, field

from sealtrace.auditor.events import Event
from sealtrace.contracts.governance import Consortium, Office, Proposal, ProposalStatus, Rules
from sealtrace.protocol.identifiers import NOBODY, Address, Hex32, UnixSeconds


@dataclass(slots=True)
class ProposalHistory:
    """What members were asked, what each said, and whether it was done."""

    id: Hex32
    proposed: Event
    proposer: Address
    electorate: int
    votes: dict[Address, Event] = field(default_factory=dict)
    executed: Event | None = None

    @property
    def yes(self) -> int:
        """How many agreed."""
        return sum(vote.flag("yes") for vote in self.votes.values())

    @property
    def no(self) -> int:
        """How many did not."""
        return len(self.votes) - self.yes


@dataclass(slots=True)
class Governance:
    """The consortium at the place the replay has come to.

    ``electorate`` counts the changes of members and rules: a proposal made under another is stale.
    ``executing`` is the last transaction that executed a proposal; what is done by vote stands in one.
    """

    address: Address = NOBODY
    founded: Hex32 | None = None
    members: set[Address] = field(default_factory=set)
    rules: Rules = field(default_factory=Rules)
    electorate: int = 0
    offices: set[tuple[Hex32, Address]] = field(default_factory=set)
    ever: set[tuple[Hex32, Address]] = field(default_factory=set)
    offers: dict[tuple[Hex32, Address], Address] = field(default_factory=dict)
    proposals: dict[Hex32, ProposalHistory] = field(default_factory=dict)
    executing: Hex32 | None = None

    def is_registrar(self, who: Address) -> bool:
        """Whether ``who`` holds the office of registrar."""
        return (Office.REGISTRAR.id, who) in self.offices

    def is_regulator(self, who: Address) -> bool:
        """Whether ``who`` holds the office of regulator."""
        return (Office.REGULATOR.id, who) in self.offices

    def by_vote(self, event: Event) -> bool:
        """Whether ``event`` stands in a transaction that executes a proposal."""
        return event.transaction == self.executing

    def founding(self, event: Event) -> bool:
        """Whether ``event`` stands in the transaction that put the consortium on the chain."""
        return event.transaction == self.founded

    def prevails(self, event: Event) -> bool:
        """Whether the one it was done ``by`` suspends what a registrar may not reinstate."""
        by = event.who("by")
        return self.is_regulator(by) or (by == self.address and self.by_vote(event))

    def supervises(self, event: Event) -> bool:
        """Whether the one it was done ``by`` may suspend and reinstate."""
        return self.prevails(event) or self.is_registrar(event.who("by"))

    @property
    def votes_needed(self) -> int:
        """How many votes a proposal needs."""
        return len(self.members) * self.rules.quorum_percent // 100 + 1

    def status(self, proposal: ProposalHistory, now: UnixSeconds) -> ProposalStatus:
        """Where ``proposal`` stands at block time ``now``; the first that applies, as the contract has it."""
        if proposal.executed is not None:
            return ProposalStatus.EXECUTED
        if proposal.electorate != self.electorate:
            return ProposalStatus.STALE
        closes = proposal.proposed.time + self.rules.voting_s
        if proposal.yes >= self.votes_needed:
            in_time = now < closes + self.rules.execution_s
            return ProposalStatus.PASSED if in_time else ProposalStatus.EXPIRED
        if len(self.members) - proposal.no < self.votes_needed:
            return ProposalStatus.REJECTED
        return ProposalStatus.OPEN if now < closes else ProposalStatus.EXPIRED

    def as_stored(self) -> Consortium:
        """Who decides and how, as the contract should show it."""
        members = tuple(sorted(self.members))
        return Consortium(members, self.rules, self.votes_needed, self.electorate)

    def proposal_as_stored(self, proposal: ProposalHistory, now: UnixSeconds) -> Proposal:
        """A proposal as the contract should show it."""
        status = self.status(proposal, now)
        return Proposal(proposal.id, proposal.proposer, status, proposal.yes, proposal.no)
