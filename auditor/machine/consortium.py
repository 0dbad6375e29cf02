"""Members, rules, proposals and offices: how the consortium decides, and who acts for it."""

from __future__ import annotations

from collections.abc import Mapping

from sealtrace.auditor.events import Event
from sealtrace.auditor.governance import ProposalHistory
from sealtrace.auditor.machine.part import Handler, Part
from sealtrace.auditor.world import Topic, World
from sealtrace.contracts.governance import Office, ProposalStatus, Rules
from sealtrace.protocol.identifiers import NOBODY, Address, Hex32

MAX_MEMBERS = 256
_OFFICES = {office.id: office for office in Office}


class ConsortiumPart(Part):
    """Holds every change of members, rules and offices to a vote, or to what else allows it."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._taken_over: set[tuple[Hex32, Hex32, Address]] = set()

    def handlers(self) -> Mapping[str, Handler]:
        """The methods by the names of their events."""
        handlers: dict[str, Handler] = {
            "MemberAdded": self._member_added,
            "MemberRemoved": self._member_removed,
            "RulesChanged": self._rules_changed,
            "Proposed": self._proposed,
            "Voted": self._voted,
            "Executed": self._executed,
            "OfficeOffered": self._office_offered,
            "RoleGranted": self._role_granted,
            "RoleRevoked": self._role_revoked,
            "RoleAdminChanged": self._role_admin_changed,
        }
        return {name: self._from_the_one(handler) for name, handler in handlers.items()}

    def finish(self) -> None:
        """Who proposes votes for it in the same breath."""
        for proposal in self.governance.proposals.values():
            own = proposal.votes.get(proposal.proposer)
            if own is None or own.transaction != proposal.proposed.transaction or not own.flag("yes"):
                expected = f"the vote of {proposal.proposer} for it, in the same transaction"
                self.irregular(Topic.PROPOSALS, proposal.id, proposal.proposed, expected, "none")

    def _from_the_one(self, handler: Handler) -> Handler:
        """The consortium is the contract that speaks first; its first transaction founds it."""

        def handle(event: Event) -> None:
            if self.governance.founded is None:
                self.governance.address, self.governance.founded = event.contract, event.transaction
            handler(event)

        return handle

    # members and rules

    def _member_added(self, event: Event) -> None:
        who, members = event.who("member"), self.governance.members
        if who in members or who == NOBODY or len(members) == MAX_MEMBERS:
            expected = f"a member who is none yet, one of at most {MAX_MEMBERS}"
            self.irregular(Topic.MEMBERS, who, event, expected, "a member already" if who in members else who)
            return
        self._by_decision(event, who)
        members.add(who)
        self._next_electorate(event, who)

    def _member_removed(self, event: Event) -> None:
        who, members = event.who("member"), self.governance.members
        if who not in members or len(members) == 1:
            observed = "the last one" if who in members else "no member"
            self.irregular(Topic.MEMBERS, who, event, "a member, and not the last, is removed", observed)
            return
        self._by_decision(event, who)
        members.remove(who)
        self._next_electorate(event, who)

    def _rules_changed(self, event: Event) -> None:
        names = ("quorum", "votingPeriod", "executionPeriod", "reviews")
        rules = Rules(*map(event.number, names))
        if not 50 <= rules.quorum_percent <= 99 or not rules.voting_s or not rules.execution_s:
            expected = "a quorum of 50 to 99 percent, and time to vote and to execute"
            self.irregular(Topic.MEMBERS, "rules", event, expected, str(rules))
        self._by_decision(event, "rules")
        self.governance.rules = rules
        self._next_electorate(event, "rules")

    def _by_decision(self, event: Event, thing: str) -> None:
        if not self.governance.by_vote(event) and not self.governance.founding(event):
            expected = "in a transaction that executes a proposal"
            self.irregular(Topic.MEMBERS, thing, event, expected, f"none is executed in {event.transaction}")

    def _next_electorate(self, event: Event, thing: str) -> None:
        self.governance.electorate += 1
        expected, told = self.governance.electorate, event.number("electorate")
        if told != expected:
            self.irregular(Topic.MEMBERS, thing, event, f"electorate {expected}", f"electorate {told}")

    # proposals

    def _proposed(self, event: Event) -> None:
        key, proposer = event.hex("proposal"), event.who("proposer")
        if key in self.governance.proposals:
            self.irregular(Topic.PROPOSALS, key, event, "a proposal is made once", "made again")
            return
        if proposer not in self.governance.members:
            self.irregular(Topic.PROPOSALS, key, event, "proposed by a member", proposer)
        electorate = self.governance.electorate
        self.governance.proposals[key] = ProposalHistory(key, event, proposer, electorate)

    def _voted(self, event: Event) -> None:
        key, member = event.hex("proposal"), event.who("member")
        event.flag("yes")  # so that what counts the votes later cannot stumble over one
        proposal, status = self._standing(event)
        if proposal is None or status is not ProposalStatus.OPEN:
            self.irregular(Topic.PROPOSALS, key, event, "a vote on an open proposal", status.name)
        elif member not in self.governance.members:
            self.irregular(Topic.PROPOSALS, key, event, "a vote of a member", member)
        elif member in proposal.votes:
            self.irregular(Topic.PROPOSALS, key, event, f"one vote of {member}", "a second one")
        else:
            proposal.votes[member] = event

    def _executed(self, event: Event) -> None:
        proposal, status = self._standing(event)
        self.governance.executing = event.transaction
        if status is not ProposalStatus.PASSED:
            told = f"{status.name}, {proposal.yes} for it" if proposal else status.name
            expected = f"an execution of what passed with {self.governance.votes_needed} votes"
            self.irregular(Topic.PROPOSALS, event.hex("proposal"), event, expected, told)
        if proposal is not None:
            proposal.executed = event

    def _standing(self, event: Event) -> tuple[ProposalHistory | None, ProposalStatus]:
        proposal = self.governance.proposals.get(event.hex("proposal"))
        if proposal is None:
            return None, ProposalStatus.NONE
        return proposal, self.governance.status(proposal, event.time)

    # offices

    def _office_offered(self, event: Event) -> None:
        office, holder, to = event.hex("office"), event.who("holder"), event.who("to")
        if (office, holder) not in self.governance.offices:
            self.irregular(Topic.OFFICES, _called(office), event, "offered by its holder", holder)
            return
        self.governance.offers[office, holder] = to

    def _role_granted(self, event: Event) -> None:
        office, account, by = event.hex("role"), event.who("account"), event.who("sender")
        if office not in _OFFICES:
            expected = "one of the two offices there are"
            self.irregular(Topic.OFFICES, _called(office), event, expected, f"granted to {account}")
        elif not self._may_grant(event, office, account, by):
            expected = "an office given by vote, or taken over from a holder who offered it"
            self.irregular(Topic.OFFICES, _called(office), event, expected, f"{account} by {by}")
        self.governance.offices.add((office, account))
        self.governance.ever.add((office, account))

    def _may_grant(self, event: Event, office: Hex32, account: Address, by: Address) -> bool:
        if self.governance.founding(event):
            return not any(each == office for each, _ in self.governance.offices)
        if by == self.governance.address:
            return self.governance.by_vote(event)
        return by == account and (event.transaction, office, account) in self._taken_over

    def _role_revoked(self, event: Event) -> None:
        office, account, by = event.hex("role"), event.who("account"), event.who("sender")
        if (office, account) not in self.governance.offices:
            self.irregular(Topic.OFFICES, _called(office), event, "taken from a holder", account)
            return
        offered = self.governance.offers.pop((office, account), NOBODY)
        dismissed = by == self.governance.address and self.governance.by_vote(event)
        if by == offered != NOBODY:
            self._taken_over.add((event.transaction, office, by))
        elif by != account and not dismissed:
            expected = "an office taken by vote, handed over to the one it was offered to, or laid down"
            self.irregular(Topic.OFFICES, _called(office), event, expected, f"from {account} by {by}")
        self.governance.offices.discard((office, account))

    def _role_admin_changed(self, event: Event) -> None:
        office = event.hex("role")
        expected = "offices that nobody administers"
        self.irregular(Topic.OFFICES, _called(office), event, expected, event.hex("newAdminRole"))


def _called(office: Hex32) -> str:
    return _OFFICES[office].value.lower() if office in _OFFICES else f"role {office}"
