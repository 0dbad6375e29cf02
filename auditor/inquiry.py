"""One audit from end to end: reach the chain, read and prove, replay, read the logs, judge."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from pathlib import Path

from sealtrace.auditor.audit import Audit, audit
from sealtrace.auditor.case import (
    Case,
    Execution,
    Level,
    OtherCode,
    Parameters,
    Proof,
    ProofProblem,
    Snapshot,
)
from sealtrace.auditor.endpoints import Endpoints
from sealtrace.auditor.evidence import (
    EvidenceTooLarge,
    EvidenceUnreadable,
    Held,
    NodeLog,
    read_file,
    read_url,
    unseen,
)
from sealtrace.auditor.execution import execute_again
from sealtrace.auditor.fetching import first_log
from sealtrace.auditor.following import ChainRead, ChainSource, Notice, go_on, read_all, unnoticed
from sealtrace.auditor.kept import KeptReading, Subject
from sealtrace.auditor.material import Material
from sealtrace.auditor.openings import Opened
from sealtrace.auditor.reading import Blocks
from sealtrace.auditor.replay import replay
from sealtrace.auditor.rpc import Rpc
from sealtrace.auditor.statements import Folder, Place, Statements, collect, place_beside, wanted_by
from sealtrace.auditor.storage import prove_snapshot, read_snapshot
from sealtrace.auditor.world import World
from sealtrace.contracts.client import Chain, ChainSettings, named_by, require_chain, why_not_ours
from sealtrace.contracts.errors import ChainError
from sealtrace.contracts.link import Link, each_url
from sealtrace.protocol.evidence import Kind
from sealtrace.protocol.identifiers import Address
from sealtrace.protocol.records import BlockRef

TIMEOUT_S = 30.0
"""How long one answer of an endpoint may take."""


class EmptyRange(ValueError):
    """The blocks asked for are none: the first is after the last, or the last before the contracts."""


class HeadTooOld(ValueError):
    """The newest final block is older than the auditor allows: the endpoint has stopped following the chain,
    or hides its end. Use another endpoint."""


class RangeTooLong(ValueError):
    """More blocks are asked for than one audit may judge here: ask for several shorter ranges."""


class Stage(StrEnum):
    """How far an audit is, in the order in which it goes."""

    CONNECTING = "connecting to the chain"
    READING = "reading blocks"
    REPLAYING = "replaying events"
    LOGS = "reading the nodes' logs"
    STORAGE = "reading contract storage"
    JUDGING = "judging"
    WRITING = "writing reports"


def untold(stage: Stage) -> None:
    """Nobody is told how far the audit is."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a node's log is: a file, a folder of segments, or a URL of its API with a reader's token."""

    node: Address
    where: str
    token: str | None = None

    @property
    def remote(self) -> bool:
        """Whether it is fetched over the network."""
        return self.where.startswith(("http://", "https://"))


@dataclass(frozen=True, slots=True)
class Inquiry:
    """What to audit. ``first`` and ``last`` default to the contracts' first block and the last final one."""

    chain: ChainSettings
    first: int | None = None
    last: int | None = None
    sources: tuple[Source, ...] = ()
    parameters: Parameters = field(default_factory=Parameters)
    max_blocks: int | None = None
    validators: tuple[Address, ...] = ()
    """Who seals the first block that is read, known from elsewhere; none: seals are not checked."""
    reexecute: bool = False
    """Whether an embedded chain is executed again from its genesis."""
    genesis: Path | None = None
    """The genesis file for that; by default the endpoint's own."""
    openings: tuple[Opened, ...] = ()
    """The commitments that owners opened to the regulator."""
    trusting: bool = False
    """Take the endpoint's word for the logs: proof level 1, and a third of the work."""
    kept: Path | None = None
    """The folder of a kept reading, to go on from and to keep what is read."""
    head_age_s: int | None = None
    """How old the last final block may be where ``last`` is not given."""
    statements: tuple[Path, ...] = ()
    """Folders of enclaves' statements, beside those that are beside the logs."""

    def bounds(self, begin: int, end: int) -> int:
        """The first block to judge, where the contracts begin at ``begin`` and the last block is ``end``.

        Raises:
            EmptyRange: there is nothing to look at.
            RangeTooLong: there are more than ``max_blocks``.
        """
        first = begin if self.first is None else self.first
        if first > end or begin > end:
            raise EmptyRange(f"blocks {first} to {end}: the contracts begin at block {begin}")
        if self.max_blocks is not None and end - max(first, begin) >= self.max_blocks:
            raise RangeTooLong(f"blocks {first} to {end}: at most {self.max_blocks} at once")
        return first


def examine(
    inquiry: Inquiry,
    material: Material | None = None,
    told: Callable[[Stage], None] = untold,
    notice: Notice = unnoticed,
    clock: Callable[[], float] = time.time,
) -> Audit:
    """Carry out one audit, keep in ``material`` what it was based on, and tell ``told`` each stage and
    ``notice`` how far the reading is.

    Raises:
        ChainError, EndpointUnreachable, EndpointTalksNonsense, EndpointRefused: the chain cannot be read.
        EndpointsDisagree: two endpoints show different chains.
        StatementsUnreadable: a folder of statements is none.
        EvidenceUnreadable: a log's file cannot be opened. A node's API that does not answer is no error: its
            log counts as not handed over.
        EmptyRange, RangeTooLong: as :meth:`Inquiry.bounds` says.
        ValidatorsInContract: validators were given, and the chain takes its own from a contract.
        CannotExecute: blocks were to be executed again, and cannot be here.
        HeadTooOld: the last final block is older than allowed.
        ReadingDamaged, ReadingOfAnother, ReadingInUse, BehindReading: a kept reading cannot be gone on with.
    """
    folders = [Folder(each) for each in inquiry.statements]
    told(Stage.CONNECTING)
    chain = connected(inquiry.chain)
    last = _last(chain, inquiry, clock)
    with ExitStack() as stack:
        rpcs = [stack.enter_context(Rpc(url, timeout_s=TIMEOUT_S)) for url in each_url(inquiry.chain.rpc_url)]
        rpc = rpcs[0] if len(rpcs) == 1 else Endpoints(rpcs, last)
        contracts = _contracts(chain, last)
        kept = _kept(inquiry, contracts, stack)
        standing = None if kept is None else kept.standing
        if standing is None:
            begin = first_log(rpc, chain.addresses["Consortium"], chain.deployed_at)
        else:
            begin = standing.first
        first = inquiry.bounds(begin, last.number)
        told(Stage.READING)
        source = ChainSource(rpc, contracts, last, material, notice)
        if kept is None or standing is None:
            read = read_all(source, begin, kept, trusting=inquiry.trusting, validators=inquiry.validators)
        else:
            read = go_on(source, kept)
        told(Stage.REPLAYING)
        world = replay(read.events)
        addresses = [each.addresses for each in chain.named.generations]
        snapshot, storage = prove_snapshot(rpc, addresses, world, last, read.state_root)
    if material is not None:
        material.contracts = contracts
    told(Stage.LOGS)
    logs, unread = _read_logs(inquiry.sources, world, material)
    statements = _statements(folders, inquiry.sources, logs, material)
    told(Stage.STORAGE)
    no_snapshot = ""
    if snapshot is None:
        snapshot, no_snapshot = _snapshot(chain, world, last)
    case = Case(
        chain_id=inquiry.chain.chain_id,
        directory=inquiry.chain.directory,
        first=first,
        last=last,
        world=world,
        proof=replace(_same_end(read, last), storage=storage, execution=_execution(inquiry, last)),
        snapshot=snapshot,
        no_snapshot=no_snapshot,
        logs=logs,
        unread=unread,
        openings=inquiry.openings,
        cited=_cited(logs.values(), statements, read.blocks),
        other_code=_other_code(chain, last),
        parameters=inquiry.parameters,
        events=read.events,
        statements=statements,
    )
    told(Stage.JUDGING)
    return audit(case)


def _last(chain: Chain, inquiry: Inquiry, clock: Callable[[], float]) -> BlockRef:
    if inquiry.last is not None:
        return chain.block(inquiry.last)
    last = chain.finalized()
    age = int(clock()) - last.timestamp
    if inquiry.head_age_s is not None and age > inquiry.head_age_s:
        told = f"block {last.number} is {age} s old, and {inquiry.head_age_s} s are allowed"
        raise HeadTooOld(f"{told}: the endpoint may hide newer ones")
    return last


def _kept(inquiry: Inquiry, contracts: Mapping[Address, str], stack: ExitStack) -> KeptReading | None:
    """The kept reading to go on from, where one is wanted; it may be empty."""
    if inquiry.kept is None:
        return None
    subject = Subject(inquiry.chain.chain_id, inquiry.chain.directory, inquiry.trusting, inquiry.validators)
    return stack.enter_context(KeptReading(inquiry.kept, subject, contracts))


def _contracts(chain: Chain, last: BlockRef) -> dict[Address, str]:
    """All contracts that the directory had named by ``last``, of every generation. One that it names later
    is not looked at: nothing that was to be trusted at ``last`` is there."""
    known = [each for each in chain.named.generations if each.since <= last.number]
    return {where: name for each in known for name, where in each.addresses.items()}


def connected(settings: ChainSettings) -> Chain:
    """The chain, as its directory names the contracts; what their code is, is for the audit to say.

    Raises:
        ChainUnreachable, WrongChain: as :meth:`Chain.connect` says.
        WrongContracts: the directory itself is not ours.
    """
    link = Link.http(settings.rpc_url, settings.timeout_s, lambda one: require_chain(one, settings.chain_id))
    require_chain(link, settings.chain_id)
    return Chain(link, settings, named_by(link, Address(settings.directory.lower())))


def _other_code(chain: Chain, last: BlockRef) -> tuple[OtherCode, ...]:
    """What is at the addresses of each generation and is not our code."""
    known = [each for each in chain.named.generations if each.since <= last.number]
    wrong = [why_not_ours(chain.link, each.addresses) for each in known]
    return tuple(
        OtherCode(number, name, why)
        for number, found in enumerate(wrong)
        for name, why in sorted(found.items())
    )


def _same_end(reading: ChainRead, last: BlockRef) -> Proof:
    """The proof, with a problem more where storage would be read at another block than the events end at."""
    read = reading.blocks.ref(last.number)
    if read == last:
        return reading.proof
    problem = ProofProblem(
        last.number, f"block hash {last.hash}", f"block hash {read.hash if read else None}"
    )
    problems = (*reading.proof.chain_problems, problem)
    reason = "the endpoint gave two blocks for one number"
    return replace(reading.proof, level=Level.RPC_TRUSTED, reason=reason, chain_problems=problems)


def _execution(inquiry: Inquiry, last: BlockRef) -> Execution:
    if not inquiry.reexecute:
        return Execution()
    return execute_again(each_url(inquiry.chain.rpc_url)[0], last, inquiry.genesis)


def _snapshot(chain: Chain, world: World, last: BlockRef) -> tuple[Snapshot | None, str]:
    try:
        return read_snapshot(chain.generations(), world, last), ""
    except ChainError as cause:
        return None, f"contract storage at block {last.number}: {cause}"


def _read_logs(
    sources: Sequence[Source], world: World, material: Material | None
) -> tuple[dict[Address, NodeLog], dict[Address, str]]:
    logs: dict[Address, NodeLog] = {}
    unread: dict[Address, str] = {}
    for source in sources:
        held = [Held(each.size, each.root) for each in world.anchors_of(source.node)]
        try:
            logs[source.node] = _read_log(source, held, material)
        except EvidenceTooLarge as cause:
            unread[source.node] = str(cause)
        except EvidenceUnreadable as cause:
            if not source.remote:
                raise
            unread[source.node] = f"the log of {source.node} could not be fetched ({type(cause).__name__})"
    return logs, unread


def _read_log(source: Source, held: Sequence[Held], material: Material | None) -> NodeLog:
    seen = unseen if material is None else partial(material.lines, source.node)
    if source.remote:
        return read_url(source.node, source.where, source.token, held, seen)
    return read_file(source.node, Path(source.where), held, seen)


def _statements(
    folders: Sequence[Place],
    sources: Sequence[Source],
    logs: Mapping[Address, NodeLog],
    material: Material | None,
) -> Statements:
    """What enclaves stated: from the folders that were given, then from beside each log that was read."""
    beside = [place_beside(each.where, each.token) for each in sources if each.node in logs]
    places = [*folders, *(place for place in beside if place is not None)]
    found = collect(wanted_by(logs.values()), places)
    if material is not None:
        material.statements(found.found)
    return found


def _cited(logs: Iterable[NodeLog], statements: Statements, blocks: Blocks) -> dict[int, BlockRef]:
    """The blocks that records cite as what a judgement or a receipt rests on, and that statements are bound
    to."""
    numbers = {
        number for log in logs for record in log.records for number in _numbers(record.kind, record.body)
    }
    numbers |= {each.challenge.issued.number for each in statements.found.values()}
    found = {number: blocks.ref(number) for number in sorted(numbers)}
    return {number: block for number, block in found.items() if block is not None}


def _numbers(kind: str, body: Mapping[str, object]) -> list[int]:
    receipt, attestation = body.get("receipt"), body.get("attestation")
    given = [body.get("block_number")] if kind == Kind.TASK_JUDGED else []
    given += [receipt.get("authority_number")] if isinstance(receipt, dict) else []
    given += [attestation.get("block_number")] if isinstance(attestation, dict) else []
    return [number for number in given if type(number) is int and number >= 0]
