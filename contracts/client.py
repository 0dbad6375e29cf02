"""What the chain says, each answer at a block that the caller names.

A read names its block by hash where the endpoint allows it (EIP-1898), so that a block replaced meanwhile
is an error and not another answer; in process (eth-tester) by number.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeVar

from sealtrace.contracts import abi
from sealtrace.contracts.blocks import ENDPOINT_FINALIZED, Finality, block_at, block_from
from sealtrace.contracts.errors import (
    ChainUnreachable,
    MalformedAnswer,
    RequestRefused,
    UnknownBlock,
    WrongChain,
    WrongContracts,
)
from sealtrace.contracts.events import ChainEvent, Query, queries, read_log
from sealtrace.contracts.governance import Consortium, Office, Proposal, ProposalStatus, Rules
from sealtrace.contracts.link import Ask, Failure, Link, ProviderLink, content, hexadecimal, number
from sealtrace.contracts.reverts import read_revert
from sealtrace.contracts.terms import grant_id, task_id
from sealtrace.protocol.authorization import Facts
from sealtrace.protocol.identifiers import NOBODY, Address, Hex32, UnixSeconds, address, hex32, raw
from sealtrace.protocol.lifecycle import TaskState, at_time
from sealtrace.protocol.records import (
    Algorithm,
    AlgorithmStatus,
    BlockRef,
    Checkpoint,
    DataClass,
    Dataset,
    DatasetStatus,
    Grant,
    GrantTerms,
    Node,
    NodeStatus,
    Protection,
    Role,
    TaskTerms,
)

if TYPE_CHECKING:
    from web3 import Web3

__all__ = ["CONFLICT", "ENDPOINT_FINALIZED", "Chain", "ChainSettings", "TaskRecord", "View"]

CONFLICT = "0x" + "ff" * 16
"""``TaskRecord.agreed`` once two parties reported different digests."""

MAX_BLOCKS_PER_QUERY = 10_000
MAX_GENERATIONS = 256
_LIMIT_WORDS = ("limit", "more than", "too many", "exceed", "range", "response size")

V = TypeVar("V")


_LINKS = (
    ("NodeRegistry", "consortium", "Consortium"),
    ("DatasetRegistry", "nodes", "NodeRegistry"),
    ("AlgorithmRegistry", "consortium", "Consortium"),
    ("AlgorithmRegistry", "nodes", "NodeRegistry"),
    ("GrantRegistry", "nodes", "NodeRegistry"),
    ("GrantRegistry", "datasets", "DatasetRegistry"),
    ("GrantRegistry", "algorithms", "AlgorithmRegistry"),
    ("GrantRegistry", "ledger", "TaskLedger"),
    ("TaskLedger", "consortium", "Consortium"),
    ("TaskLedger", "nodes", "NodeRegistry"),
    ("TaskLedger", "grants", "GrantRegistry"),
    ("EvidenceAnchor", "nodes", "NodeRegistry"),
    ("Directory", "consortium", "Consortium"),
)
"""Who must name whom. The directory's constructor asks the same, but code on a chain does not prove that
its constructor ran: whoever deploys may return our code from another."""


@dataclass(frozen=True, slots=True)
class ChainSettings:
    """Which chain, at which endpoints, and which contracts.

    ``rpc_url`` may name several endpoints, separated by commas: what one cannot answer, the next is asked.
    ``confirmations`` is how many blocks must follow one that is final: 0 where blocks are final at once
    (QBFT, the embedded chain), -1 to take the endpoint's ``finalized``. ``timeout_s`` bounds every request.
    """

    rpc_url: str
    chain_id: int
    directory: Address
    confirmations: int = 0
    timeout_s: float = 10


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """A task as it stands at a block; ``state`` is derived at that block's time.

    The masks ``approved``, ``started`` and ``finished`` have one bit for each party, by its index.
    ``agreed`` is the beginning, 16 bytes, of the digest the parties agree on so far: zero before the
    first, :data:`CONFLICT` once two differ; the events hold whole digests.
    """

    id: Hex32
    state: TaskState
    deadline: UnixSeconds
    approved: int
    started: int
    finished: int
    agreed: str
    acknowledged: bool


@dataclass(frozen=True, slots=True)
class View:
    """One read of one contract."""

    contract: str
    function: str
    args: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Generation:
    """The eight contracts of a generation, and the block it was announced in."""

    addresses: Mapping[str, Address]
    since: int


@dataclass(frozen=True, slots=True)
class Named:
    """What a directory names: every generation, the last one in use."""

    generations: tuple[Generation, ...]

    @property
    def current(self) -> Mapping[str, Address]:
        """The contracts in use."""
        return self.generations[-1].addresses

    @property
    def every(self) -> dict[Address, str]:
        """All contracts there ever were, by address."""
        return {where: name for each in self.generations for name, where in each.addresses.items()}


class Chain:
    """A chain and our contracts on it, read only. Safe to use from several threads.

    ``addresses`` are the contracts in use, by name; ``contracts`` all of every generation, by address.

    Every read can raise ``ChainUnreachable``, ``MalformedAnswer`` and, where it names a block,
    ``UnknownBlock``.
    """

    def __init__(self, link: Link, settings: ChainSettings, named: Named) -> None:
        self.link = link
        self.settings = settings
        self.named = named
        self.addresses = dict(named.current)
        self.contracts = dict(named.every)
        self.deployed_at = named.generations[0].since
        self.finality = Finality(link, settings.confirmations)

    @classmethod
    def connect(cls, settings: ChainSettings) -> Self:
        """Reach the endpoint and make sure that it serves our chain and our contracts.

        Of several endpoints each is held to the same before it is first used, and after each failure.

        Raises:
            ChainUnreachable: it does not answer in time (``NoEndpointUsable``: of several, none does).
            WrongChain: it serves another chain.
            WrongContracts: the code at the directory, or at a contract it names, is not ours.
        """
        link = Link.http(settings.rpc_url, settings.timeout_s, lambda one: _found_ours(one, settings))
        return cls._checked(link, settings)

    @classmethod
    def over(cls, w3: Web3, settings: ChainSettings) -> Self:
        """The same over a provider of the caller's, such as eth-tester's. Raises as :meth:`connect`."""
        return cls._checked(ProviderLink(w3), settings)

    @classmethod
    def _checked(cls, link: Link, settings: ChainSettings) -> Self:
        return cls(link, settings, _found_ours(link, settings))

    def generations(self) -> list[Self]:
        """The same chain as each generation's contracts have it, the one in use last.

        What a former generation recorded is read from its contracts; events are read from all at once.
        """
        return [
            type(self)(self.link, self.settings, Named(self.named.generations[: i + 1]))
            for i in range(len(self.named.generations))
        ]

    # blocks

    def head(self) -> BlockRef:
        """The newest block."""
        return block_at(self.link, "latest")

    def finalized(self) -> BlockRef:
        """The newest block that is final under the settings; never an older one than before.

        Raises:
            FinalBlockReplaced: the endpoint shows another block in a final one's place.
        """
        return self.finality.newest()

    def block(self, number: int) -> BlockRef:
        """The block at a height.

        Raises:
            UnknownBlock: there is none.
        """
        return block_at(self.link, hexadecimal(number))

    # records

    def node(self, node: Address, *, at: BlockRef) -> Node:
        """An organisation's record; status ``NONE`` if it was never admitted."""
        (found,) = self.read([View("NodeRegistry", "nodeOf", (node,))], at)
        return _node(node, found)

    def dataset(self, id: Hex32, *, at: BlockRef) -> Dataset | None:
        """A dataset's record."""
        (found,) = self.read([View("DatasetRegistry", "datasetOf", (raw(id),))], at)
        return _dataset(id, found)

    def algorithm(self, digest: Hex32, *, at: BlockRef) -> Algorithm | None:
        """An algorithm's record."""
        (found,) = self.read([View("AlgorithmRegistry", "algorithmOf", (raw(digest),))], at)
        return _algorithm(digest, found)

    def grant(self, id: Hex32, *, at: BlockRef) -> Grant | None:
        """A grant as it stands."""
        (found,) = self.read([View("GrantRegistry", "grantOf", (raw(id),))], at)
        return _grant(id, found)

    def serial(self, owner: Address, *, at: BlockRef) -> int:
        """The serial that the next grant of ``owner`` will carry."""
        (found,) = self.read([View("GrantRegistry", "serialOf", (owner,))], at)
        return int(found)

    def task(self, id: Hex32, *, at: BlockRef) -> TaskRecord | None:
        """A task as it stands."""
        (found,) = self.read([View("TaskLedger", "taskOf", (raw(id),))], at)
        return _task(id, found, at.timestamp)

    def checkpoint(self, node: Address, *, at: BlockRef) -> Checkpoint | None:
        """The last anchored checkpoint of a node's evidence log."""
        (found,) = self.read([View("EvidenceAnchor", "checkpointOf", (node,))], at)
        size, _, root = found
        return Checkpoint(node, size, hex32(root)) if size else None

    def proposal(self, id: Hex32, *, at: BlockRef) -> Proposal | None:
        """What members were asked, as it stands."""
        views = [View("Consortium", name, (raw(id),)) for name in ("proposalOf", "statusOf")]
        (proposer, _, yes, no, _, _), status = self.read(views, at)
        if proposer == NOBODY:
            return None
        return Proposal(id, Address(proposer), ProposalStatus(status), yes, no)

    def consortium(self, *, at: BlockRef) -> Consortium:
        """Who decides, and how."""
        names = ("members", "rules", "votesNeeded", "electorate")
        members, rules, needed, electorate = self.read([View("Consortium", name) for name in names], at)
        return Consortium(tuple(map(address, members)), Rules(*rules), needed, electorate)

    def holds(self, office: Office, account: Address, *, at: BlockRef) -> bool:
        """Whether ``account`` holds ``office``."""
        (found,) = self.read([View("Consortium", "hasRole", (raw(office.id), account))], at)
        return bool(found)

    def closed(self, *, at: BlockRef) -> bool:
        """Whether the ledger takes no new task."""
        (found,) = self.read([View("TaskLedger", "closed")], at)
        return bool(found)

    def facts(self, terms: TaskTerms, *, at: BlockRef) -> Facts:
        """Everything ``why_denied`` needs about what the terms name, in one round trip."""
        nodes = list(dict.fromkeys((*terms.parties, terms.requester)))
        grants = list(dict.fromkeys(use.grant for use in terms.uses))
        datasets = list(dict.fromkeys(use.dataset for use in terms.uses))
        algorithms = list(dict.fromkeys(use.algorithm for use in terms.uses))
        found = iter(
            self.read(
                [
                    *(View("NodeRegistry", "nodeOf", (each,)) for each in nodes),
                    *(View("GrantRegistry", "grantOf", (raw(each),)) for each in grants),
                    *(View("DatasetRegistry", "datasetOf", (raw(each),)) for each in datasets),
                    *(View("AlgorithmRegistry", "algorithmOf", (raw(each),)) for each in algorithms),
                ],
                at,
            )
        )
        return Facts(
            nodes={each: _node(each, next(found)) for each in nodes},
            grants=_present((each, _grant(each, next(found))) for each in grants),
            datasets=_present((each, _dataset(each, next(found))) for each in datasets),
            algorithms=_present((each, _algorithm(each, next(found))) for each in algorithms),
        )

    def task_id(self, terms: TaskTerms) -> Hex32:
        """The id of the task with these terms; computed here, the same as the ledger's ``idOf``."""
        return task_id(self.settings.chain_id, self.addresses["TaskLedger"], terms)

    def grant_id(self, owner: Address, serial: int, terms: GrantTerms) -> Hex32:
        """The id of the grant that ``owner`` issues under ``serial``; the same as the registry's ``idOf``."""
        return grant_id(self.settings.chain_id, self.addresses["GrantRegistry"], owner, serial, terms)

    def read(self, views: Sequence[View], at: BlockRef) -> list[Any]:
        """Several reads at one block in one round trip; a function with one output gives its value.

        Raises:
            UnknownBlock: the endpoint does not have the block's state.
            Reverted: a read was refused by its contract.
        """
        where = {"blockHash": at.hash} if self.link.by_hash else hexadecimal(at.number)
        asks = [_ask_at(self.addresses[view.contract], view, where) for view in views]
        return [_read(view, result, at) for view, result in zip(views, self.link.batch(asks), strict=True)]

    # events

    def events(
        self,
        first: int,
        last: int,
        *,
        names: Collection[str] | None = None,
        task: Hex32 | None = None,
        party: Address | None = None,
    ) -> list[ChainEvent]:
        """The contracts' events of the blocks ``first`` to ``last``, both included, in the chain's order.

        ``names`` chooses by name. ``task`` and ``party`` choose those that carry the value in a topic of
        that name (every event about the task; what the party did or was named in).

        Raises:
            UnknownBlock: the endpoint has no block ``last`` yet, or it was replaced meanwhile: an endpoint
                that is behind would leave events out without a word.
        """
        asked = queries(self.contracts, names, task, party)
        ends: set[Hex32] = set()  # the last block, as it stood with each part of the answer
        logs = [log for query in asked for log in self._logs(query, first, last, ends)]
        if len(ends) > 1:
            raise UnknownBlock(f"{last}, which was replaced while its events were read")
        found = [event for log in logs if (event := read_log(log, self.contracts)) is not None]
        return sorted(found, key=lambda event: (event.block_number, event.log_index))

    def _logs(self, query: Query, first: int, last: int, ends: set[Hex32]) -> list[Mapping[str, Any]]:
        """Ask for a range, in halves where the endpoint finds it too much."""
        found: list[Mapping[str, Any]] = []
        for begin in range(first, last + 1, MAX_BLOCKS_PER_QUERY):
            until = min(last, begin + MAX_BLOCKS_PER_QUERY - 1)
            found += self._logs_between(query, begin, until, last, ends)
        return found

    def _logs_between(
        self, query: Query, first: int, until: int, last: int, ends: set[Hex32]
    ) -> list[Mapping[str, Any]]:
        topics = [list(topic) if isinstance(topic, tuple) else topic for topic in query.topics]
        wanted = {
            "fromBlock": hexadecimal(first),
            "toBlock": hexadecimal(until),
            "address": list(query.addresses),
            "topics": topics,
        }
        asks = [Ask("eth_getBlockByNumber", [hexadecimal(last), False]), Ask("eth_getLogs", [wanted])]
        end, found = self.link.batch(asks)  # the block first: whoever has it has the logs up to it
        ends.add(block_from(self.link, hexadecimal(last), end).hash)
        if not isinstance(found, Failure):
            return list(found)
        if first == until or not any(word in found.message.lower() for word in _LIMIT_WORDS):
            raise found.error()
        middle = (first + until) // 2
        lower = self._logs_between(query, first, middle, last, ends)
        return [*lower, *self._logs_between(query, middle + 1, until, last, ends)]


def _found_ours(link: Link, settings: ChainSettings) -> Named:
    """Our contracts, of every generation; raises as :meth:`Chain.connect`."""
    require_chain(link, settings.chain_id)
    named = named_by(link, Address(settings.directory.lower()))
    for each in named.generations:
        if wrong := why_not_ours(link, each.addresses) or why_not_one_set(link, each.addresses):
            raise WrongContracts(wrong)
    return named


def require_chain(link: Link, chain_id: int) -> None:
    """Make sure that an endpoint serves the chain ``chain_id``.

    Raises:
        ChainUnreachable: it does not answer, or is no JSON-RPC endpoint.
        WrongChain: it serves another.
    """
    try:
        observed = number(link.request("eth_chainId"))
    except (MalformedAnswer, RequestRefused, ValueError, TypeError) as cause:
        raise ChainUnreachable(link.url, f"it is no Ethereum JSON-RPC endpoint ({cause})") from cause
    if observed != chain_id:
        raise WrongChain(link.url, chain_id, observed)


def why_not_ours(link: Link, addresses: Mapping[str, Address]) -> dict[str, str]:
    """What is wrong with the code at each address that should hold the contract of that name."""
    asks = [Ask("eth_getCode", [where, "latest"]) for where in addresses.values()]
    wrong: dict[str, str] = {}
    for (name, where), code in zip(addresses.items(), link.batch(asks), strict=True):
        if isinstance(code, Failure):
            raise code.error()
        if not content(code):
            wrong[name] = f"there is no contract at {where}"
        elif not abi.artifact(name).is_code(content(code)):
            wrong[name] = f"{where} holds other code"
    return wrong


def named_by(link: Link, directory: Address) -> Named:
    """What a directory names.

    Raises:
        WrongContracts: there is no directory of ours.
    """
    if wrong := why_not_ours(link, {"Directory": directory}):
        raise WrongContracts(wrong)
    views = [View("Directory", "consortium"), View("Directory", "generations")]
    consortium, count = _latest(link, [(directory, view) for view in views])
    if not 0 < count <= MAX_GENERATIONS:
        raise MalformedAnswer("Directory.generations", f"{count} generations")
    asks = [(directory, View("Directory", "generationOf", (i,))) for i in range(count)]
    common = {"Consortium": address(consortium), "Directory": directory}
    found = (
        Generation(common | dict(zip(abi.GENERATION, map(address, six), strict=True)), int(since))
        for *six, since in _latest(link, asks)
    )
    return Named(tuple(found))


def why_not_one_set(link: Link, addresses: Mapping[str, Address]) -> dict[str, str]:
    """Which contract names another than the directory does."""
    found = _latest(link, [(addresses[name], View(name, getter)) for name, getter, _ in _LINKS])
    return {
        name: f"its {other} is {observed}, the directory's is {addresses[other]}"
        for (name, _, other), observed in zip(_LINKS, found, strict=True)
        if address(observed) != addresses[other]
    }


def _latest(link: Link, wanted: Sequence[tuple[Address, View]]) -> list[Any]:
    """Values at the newest block, each the one output of its function."""
    asks = [_ask_at(to, view, "latest") for to, view in wanted]
    results = zip(wanted, link.batch(asks), strict=True)
    return [_value(view, result)[0] for (_, view), result in results]


def _ask_at(to: Address, view: View, where: Any) -> Ask:
    data = "0x" + abi.encode_call(view.contract, view.function, view.args).hex()
    return Ask("eth_call", [{"from": NOBODY, "to": to, "data": data}, where])


def _read(view: View, result: Any, at: BlockRef) -> Any:
    if isinstance(result, Failure) and result.data is None:
        raise UnknownBlock(f"{at.number} ({at.hash}): {result.message[:120]}")
    values = _value(view, result)
    return values[0] if len(values) == 1 else values


def _value(view: View, result: Any) -> tuple[Any, ...]:
    if isinstance(result, Failure):
        if result.data is not None:
            raise read_revert(result.data, view.contract)
        raise result.error()
    return abi.decode_result(view.contract, view.function, content(result))


def _present(pairs: Iterable[tuple[Hex32, V | None]]) -> dict[Hex32, V]:
    return {key: value for key, value in pairs if value is not None}


def _node(node: Address, found: tuple[Any, ...]) -> Node:
    status, roles, _, held, version, fingerprint, encryption_key = found
    keys = (hex32(fingerprint), hex32(encryption_key))
    return Node(node, NodeStatus(status), Role(roles), *keys, version, held)


def _dataset(id: Hex32, found: tuple[Any, ...]) -> Dataset | None:
    owner, status, data_class, _, version, commitment, schema_hash = found
    if status == DatasetStatus.NONE:
        return None
    standing = (DatasetStatus(status), DataClass(data_class))
    return Dataset(id, Address(owner), *standing, hex32(commitment), hex32(schema_hash), version)


def _algorithm(digest: Hex32, found: tuple[Any, ...]) -> Algorithm | None:
    provider, status, held, superseded, _, asked, agreed = found
    if status == AlgorithmStatus.NONE:
        return None
    return Algorithm(digest, Address(provider), AlgorithmStatus(status), superseded, held, asked, agreed)


def _grant(id: Hex32, found: tuple[Any, ...]) -> Grant | None:
    owner, not_before, expires_at, protections, requester, *counts, participants = found
    uses, uses_left, approval, revoked, epsilon, epsilon_left, *hashes = counts
    if owner == NOBODY:
        return None
    dataset, algorithm, purpose = map(hex32, hashes)
    return Grant(
        id=id,
        owner=Address(owner),
        dataset=dataset,
        algorithm=algorithm,
        requester=Address(requester),
        purpose=purpose,
        uses_left=uses_left,
        not_before=UnixSeconds(not_before),
        expires_at=UnixSeconds(expires_at),
        protections=Protection(protections),
        approval_required=approval,
        revoked=revoked,
        epsilon_millionths=epsilon,
        uses=uses,
        epsilon_left=epsilon_left,
        participants=tuple(map(Address, participants)),
    )


def _task(id: Hex32, found: tuple[Any, ...], now: UnixSeconds) -> TaskRecord | None:
    agreed, _, deadline, status, acknowledged, approved, started, finished = found
    if status == TaskState.NONE:
        return None
    state = at_time(TaskState(status), UnixSeconds(deadline), now)
    masks = (approved, started, finished)
    return TaskRecord(
        id, state, UnixSeconds(deadline), *masks, "0x" + int(agreed).to_bytes(16).hex(), acknowledged
    )
