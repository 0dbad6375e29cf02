"""What can go wrong between us and a chain, grouped by whose problem it is.

:data:`ERROR_HELP` has one sentence for every custom error of the contracts: what to do about it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sealtrace.protocol.outcome import Denial


class ChainError(Exception):
    """Anything this package reports about a chain."""


# The world's: try again, or look after the endpoint.


class ChainUnreachable(ChainError):
    """The endpoint does not answer, or not as an Ethereum JSON-RPC endpoint does."""

    def __init__(self, url: str, cause: str) -> None:
        super().__init__(
            f"the chain at {url} does not answer: {cause}; check that it runs, that the URL is right "
            "and that this machine may reach it"
        )
        self.url = url
        self.cause = cause


class NoEndpointUsable(ChainUnreachable):
    """None of the endpoints configured for the chain can be used now; each is named, and why."""

    def __init__(self, why: Mapping[str, str]) -> None:
        self.why = dict(why)
        super().__init__(", ".join(why), "; ".join(f"{url}: {cause}" for url, cause in why.items()))


class EndpointBehind(ChainError):
    """The endpoint has not seen a block that is known to be final, so its word on what may be done is old."""

    def __init__(self, seen: int, final: int) -> None:
        super().__init__(
            f"the chain's endpoint is at block {seen}, and block {final} is known to be final: wait until it "
            "has caught up, or name a second endpoint in rpc_url, separated by a comma"
        )
        self.seen = seen
        self.final = final


class MalformedAnswer(ChainError):
    """The endpoint answered something that is not what was asked for."""

    def __init__(self, what: str, cause: str) -> None:
        super().__init__(
            f"the chain's answer for {what} cannot be read: {cause[:300]}; check that the endpoint is one "
            "of the consortium's chain and is in sync"
        )


class RequestRefused(ChainError):
    """The endpoint refused a request, for a reason that is not a contract's."""

    def __init__(self, method: str, code: int, message: str) -> None:
        super().__init__(
            f"the chain's endpoint refused {method}: {message[:400]} (code {code}); if it names a limit, "
            "raise it at the endpoint, otherwise check the endpoint's version and log"
        )
        self.method = method
        self.code = code
        self.message = message


class UnknownBlock(ChainError):
    """The endpoint does not have this block, or no longer its state."""

    def __init__(self, block: str) -> None:
        super().__init__(
            f"the chain's endpoint does not know block {block}: it is not there yet, was replaced, or "
            "its state is no longer kept; read the head anew, or use an endpoint that keeps all states"
        )
        self.block = block


class NotMined(ChainError):
    """A transaction was not mined, or not buried deep enough, within the time given."""

    def __init__(self, transaction: str, seconds: float, state: str) -> None:
        super().__init__(
            f"transaction {transaction} is not final after {seconds:g} seconds ({state}); it stays stored "
            "and is sent again by pump(), so wait for the same intent once more, and check that the "
            "chain makes blocks"
        )
        self.transaction = transaction


class NotAccepted(ChainError):
    """The endpoint does not take a signed transaction."""

    def __init__(self, transaction: str, reason: str) -> None:
        super().__init__(
            f"the chain's endpoint does not take transaction {transaction}: {reason[:300]}; it stays stored: "
            "remove the cause (funds, fees, permissions of the account) and it is sent as it is by pump()"
        )
        self.transaction = transaction
        self.reason = reason


class NonceTaken(ChainError):
    """Another program used this account's nonce, and the endpoint cannot show which transaction did."""

    def __init__(self, account: str, nonce: int, reason: str) -> None:
        super().__init__(
            f"nonce {nonce} of {account} is used and the transaction that used it cannot be found "
            f"({reason}); nothing was sent twice: give this key to one program only, and use an endpoint "
            "that keeps all blocks"
        )


class NonceDoubtful(ChainError):
    """The endpoint names a nonce for this account that is far above what can be."""

    def __init__(self, account: str, named: int, plausible: int) -> None:
        super().__init__(
            f"the chain's endpoint says that {account} has used {named} nonces, and about {plausible} can "
            "be; nothing was stored or sent: use another endpoint, and give this key to one program only"
        )


# The chain's: what it was agreed never to do.


class FinalBlockReplaced(ChainError):
    """A block that was final under the settings is no longer on the chain. Nothing is sent after that."""

    def __init__(self, number: int, expected: str, observed: str) -> None:
        super().__init__(
            f"block {number} was final as {expected} and the endpoint now shows {observed}: either the "
            "endpoint is not of this chain, or the chain broke its promise. Do not restart to silence this: "
            "compare the block with other members' endpoints, and if the chain can fork, set confirmations "
            "to a depth it does not undo"
        )
        self.number = number
        self.expected = expected
        self.observed = observed


# The operator's: settings.


class WrongChain(ChainError):
    """The endpoint serves another chain than the one configured."""

    def __init__(self, url: str, expected: int, observed: int) -> None:
        super().__init__(
            f"{url} serves chain {observed}, and chain {expected} is configured; correct the URL or "
            "the chain id"
        )
        self.expected = expected
        self.observed = observed


class WrongContracts(ChainError):
    """The configured directory, or a contract it names, is not this version's code."""

    def __init__(self, wrong: Mapping[str, str]) -> None:
        named = "; ".join(f"{name}: {problem}" for name, problem in wrong.items())
        super().__init__(
            f"these are not the contracts of this version: {named}; check the directory's address and the "
            "version of sealtrace, or deploy with `sealtrace contracts deploy`"
        )
        self.wrong = dict(wrong)


class KeyUnusable(ChainError):
    """A key file is missing, damaged, readable by others, or locked by another password."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"the key file {path} cannot be used: {problem}")


class KeyExists(ChainError):
    """There is a key already, and none is ever overwritten."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path} holds a key already: load it, or choose another path")


class DeploymentFailed(ChainError):
    """A contract could not be put on the chain."""

    def __init__(self, contract: str, cause: str) -> None:
        super().__init__(
            f"{contract} could not be deployed: {cause}; nothing uses what was put on chain so far, so "
            "remove the cause and deploy the whole set again"
        )


# The caller's: what was asked is not allowed, or is no request.


class MalformedCall(ChainError):
    """An argument is not of the type the contract takes."""

    def __init__(self, contract: str, function: str, cause: str) -> None:
        super().__init__(
            f"{contract}.{function} cannot be called like this: {cause[:300]}; correct the argument"
        )


class Reverted(ChainError):
    """A contract refused. ``name`` and ``values`` are its custom error's.

    ``contract`` is the contract called, and ``transaction`` the transaction's hash when it was mined
    (what reverts changes nothing).
    """

    def __init__(
        self,
        name: str,
        values: Mapping[str, Any],
        contract: str,
        transaction: str | None = None,
        words: str = "",
    ) -> None:
        where = f" (transaction {transaction})" if transaction else ""
        super().__init__(f"{contract} refused{where}: {name}({words}). {ERROR_HELP.get(name, _NO_HELP)}")
        self.name = name
        self.values = dict(values)
        self.contract = contract
        self.transaction = transaction
        self.words = words

    @property
    def denial(self) -> Denial | None:
        """The reason, where a start was denied."""
        if self.name == "PartyNotActive":
            return Denial.PARTY_NOT_ACTIVE
        return Denial(self.values["reason"]) if self.name == "Denied" else None

    def mined_as(self, transaction: str) -> Reverted:
        """The same refusal, of a transaction that is on the chain."""
        return Reverted(self.name, self.values, self.contract, transaction, self.words)


_NO_HELP = (
    "The contracts of this version name no such error: compare versions with `sealtrace contracts verify`."
)

ERROR_HELP: Mapping[str, str] = {
    # the consortium
    "OnlyMember": "Sign with a member's key: `sealtrace consortium show` lists them.",
    "OnlyConsortium": "The members decide this by vote: `sealtrace consortium propose`.",
    "VoteDue": "With several members this is decided by vote: `sealtrace consortium propose`.",
    "AlreadyMember": "Nothing is left to do: the account is a member.",
    "NotAMember": "Name a member: `sealtrace consortium show` lists them.",
    "LastMember": "A consortium keeps one member: add another first.",
    "TooManyMembers": "A consortium has at most 256 members.",
    "InvalidRules": "Give a quorum of 50 to 99 per cent, and periods longer than zero.",
    "UnknownOffice": "There are two offices: REGISTRAR and REGULATOR.",
    "NotTheHolder": "Name who holds the office, and sign with the holder's key to offer it.",
    "NotOffered": "Have the holder offer the office to this account first.",
    "NoActions": "Propose at least one action.",
    "AlreadyProposed": "It is on record: vote on it, or give other reasons to propose it anew.",
    "UnknownProposal": "Check the actions and the reasons: they make the proposal's id, with the membership.",
    "ProposalNotOpen": "Voting is over: look at its status, and propose anew if it expired or is stale.",
    "ProposalNotPassed": "It lacks votes, or its time has passed: look at its status.",
    "AlreadyVoted": "Nothing is left to do: the vote is on record.",
    "UnknownGeneration": "Ask `generations` how many there are; the first is 0.",
    # offices
    "OnlyRegistrar": "Sign with a registrar's key.",
    "OnlyRegistry": "Nothing to do: the registries tell of what lapses by themselves.",
    "OnlyRegistrarOrRegulator": "Sign with a registrar's or the regulator's key.",
    "AccessControlUnauthorizedAccount": "Offices are given by vote and handed over by their holders.",
    "AccessControlBadConfirmation": "A role is renounced by its holder only: name your own account.",
    "NotOneSet": "These contracts were not deployed together: deploy a whole set and name its members.",
    # nodes
    "UnknownNode": "Ask a registrar to admit this node first: `sealtrace registrar admit`.",
    "NodeAlreadyKnown": "An address is admitted once: reinstate it if suspended, use a new key if retired.",
    "NodeNotActive": "Ask who suspended the node to reinstate it; a retired node needs a new key.",
    "NodeNotSuspended": "Only a suspended node is reinstated: look at it with `sealtrace registrar show`.",
    "NodeAlreadyRetired": "Nothing is left to do: the node is retired.",
    "NodeHeld": "The regulator or a vote suspended it: only they reinstate it.",
    "MissingRole": "This node was not admitted for that: a registrar admits a key with the role.",
    "EmptyKey": "Give the encryption key, and the TLS fingerprint of a data owner or compute node.",
    "InvalidRoles": "Give a mask of roles from 1 to 31.",
    # datasets
    "UnknownDataset": "Register the dataset first, and check its id.",
    "DatasetAlreadyKnown": "It is registered: use it, or register with a fresh salt.",
    "DatasetNotActive": "Only the latest version is superseded: name that one.",
    "DatasetAlreadyWithdrawn": "Nothing is left to do: the dataset is withdrawn.",
    "NotDatasetOwner": "Only the owner withdraws or supersedes a dataset: sign with its key.",
    "EmptyCommitment": "Give both the commitment and the schema hash.",
    # algorithms
    "UnknownAlgorithm": "Register the bundle first, and check its digest.",
    "AlgorithmAlreadyKnown": "It is registered: use it.",
    "AlgorithmNotActive": "Only an active algorithm is suspended or superseded: look at its status first.",
    "AlgorithmNotSuspended": "Only a suspended algorithm is reinstated: look at its status first.",
    "AlgorithmAlreadyRevoked": "Nothing is left to do: the algorithm is revoked.",
    "AlgorithmHeld": "The regulator or a vote suspended it: only they reinstate it.",
    "AlgorithmNotProposed": "The review is over: look at the algorithm's status.",
    "AlgorithmAlreadySuperseded": "Name two different algorithms, neither of which has a successor.",
    "AlgorithmIsRejected": "Nothing is left to do: its reviewers rejected it.",
    "WrongNumberOfReviewers": "Propose it with as many reviewers as the rules ask for, at most eight.",
    "ReviewersNotAscending": "Name every reviewer once, addresses in ascending order.",
    "NotIndependent": "A provider does not review its own algorithm: name others.",
    "NotAskedToReview": "Only a reviewer its provider named reviews an algorithm, once.",
    "NotAlgorithmProvider": "Only its provider revokes or supersedes an algorithm: sign with that key.",
    "EmptyDigest": "Give the digest of the bundle.",
    # grants
    "UnknownGrant": "Check the grant's id, and that it was issued on this chain.",
    "NotGrantOwner": "Only its owner revokes a grant: sign with that key.",
    "GrantAlreadyRevoked": "Nothing is left to do: the grant is revoked.",
    "NotOwnDataset": "Grant the use of a dataset registered under your own key.",
    "DatasetUnusable": "The dataset is withdrawn or superseded: grant its latest version.",
    "AlgorithmUnusable": "The algorithm is not active, or superseded: check its digest and status.",
    "RequesterUnusable": "The requester is not admitted as one, or suspended: check its address.",
    "InvalidWindow": "Give a window that ends after it begins and after the present block's time.",
    "NoUses": "Allow at least one use.",
    "NoProtection": "Name at least one protection that you accept.",
    "EmptyPurpose": "Give the hash of the purpose.",
    "TooManyParticipants": "Name at most 16 participants, or none to allow anybody.",
    "ParticipantsNotAscending": "Name every participant once, addresses in ascending order.",
    "OnlyTaskLedger": "Uses are spent by the start of a task and in no other way.",
    "Denied": "The grant does not cover this start: ask its owner for one that does, or correct the task.",
    # evidence
    "LogDidNotGrow": "Anchor a larger size: what is anchored stays, and a log only grows.",
    "EmptyRoot": "Give the root of the log.",
    # tasks
    "TaskAlreadyKnown": "These terms are on chain: follow that task, or ask anew with another nonce.",
    "UnknownTask": "No task has exactly these terms: hand back those it was created with, on the same chain.",
    "IllegalTransition": "The task has moved on: read its state and act on that.",
    "TaskExpired": "Its deadline has passed: create a new task with a later one.",
    "NotAParty": "Only the parties a task names act in it: sign with a party's key.",
    "NotTheRequester": "Only its requester creates, cancels or acknowledges a task; a party stops it.",
    "AlreadyApproved": "Nothing is left to do: the approval is on record.",
    "AlreadyStarted": "Nothing is left to do: the start is on record and its uses are spent.",
    "AlreadyFinished": "Nothing is left to do: the receipt is on record.",
    "AlreadyAcknowledged": "Nothing is left to do: the acknowledgement is on record.",
    "ResultDiffers": "Give the result digest that the parties agreed on.",
    "OnlyNodeRegistry": "Nothing to do: the node registry tells the ledger of lapses by itself.",
    "ClosedForNewTasks": "The consortium announced other contracts: reconnect, and create the task there.",
    "NothingSigned": "Submit at least one signed act.",
    "InvalidProgress": "Give thousandths, 0 to 1000.",
    "PartyNotActive": "A party of the task is suspended or retired: have it reinstated, or name another.",
    "WrongNumberOfParties": "Name 1 to 16 parties.",
    "PartiesNotAscending": "Name every party once, addresses in ascending order.",
    "WrongNumberOfUses": "Name 1 to 64 uses.",
    "GrantNamedTwice": "Name a grant once: one use of it serves every step that shares it.",
    "NoSuchParty": "A use names a party by its index in the list of parties.",
    "DeadlinePassed": "Give a deadline later than the present block's time.",
    "EmptyTerms": "A required value is zero: specification, purpose, protections, receipt or result.",
    "ReasonMissing": "Give a reason: a code of at least 1, or the SHA-256 of the reason in words.",
    "BlameMismatch": "Name another party with the blame `party`, and nobody with any other blame.",
    # the machine's own
    # signed acts
    "SignatureLapsed": "It was to be submitted earlier: have it signed again with a later `validUntil`.",
    "WrongSigner": "The party signed other words, or another key did: sign what this chain and contract say.",
    "InvalidShortString": "The contract's own name is malformed: it is not ours.",
    "StringTooLong": "The contract's own name is malformed: it is not ours.",
    "AddressEmptyCode": "An action of the proposal calls an address without a contract: propose it anew.",
    "InsufficientBalance": "The consortium holds no money: an action carries none.",
    "FailedCall": "An action of the proposal failed without a reason: look at what it calls.",
    "Error": "The contract gives its reason in words above.",
    "Panic": "The contract met a fault of its own: report it with the transaction.",
    "Unexplained": "No reason was given: check the gas limit, the account and the version of the contracts.",
}
"""What to do next, by custom error. The first words of a message name the error and its values."""
