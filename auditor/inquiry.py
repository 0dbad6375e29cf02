"""One audit from end to end: reach the chain, read and prove, replay, read the logs, judge."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from sealtrace.auditor.audit import Audit, audit
from sealtrace.auditor.case import Case, Level, Parameters, Proof, ProofProblem, Snapshot
from sealtrace.auditor.decoding import decode
from sealtrace.auditor.endpoints import Endpoints
from sealtrace.auditor.events import Event
from sealtrace.auditor.evidence import (
    EvidenceTooLarge,
    EvidenceUnreadable,
    Held,
    NodeLog,
    read_file,
    read_url,
    unseen,
)
from sealtrace.auditor.material import Material
from sealtrace.auditor.reading import Blocks, Reading, first_log, read_range
from sealtrace.auditor.replay import replay
from sealtrace.auditor.rpc import Rpc
from sealtrace.auditor.statements import Folder, Place, Statements, collect, place_beside, wanted_by
from sealtrace.auditor.storage import read_snapshot
from sealtrace.auditor.world import World
from sealtrace.contracts.client import Chain, ChainSettings, why_not_ours
from sealtrace.contracts.errors import ChainError
from sealtrace.contracts.link import each_url
from sealtrace.protocol.evidence import Kind
from sealtrace.protocol.identifiers import Address
from sealtrace.protocol.records import BlockRef


class EmptyRange(ValueError):
    """The blocks asked for are none: the first is after the last, or the last before the contracts."""


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
    statements: tuple[Path, ...] = ()
    """Folders of enclaves' statements, beside those that are beside the logs."""


def examine(inquiry: Inquiry, material: Material | None = None) -> Audit:
    """Carry out one audit, and keep in ``material`` what it was based on.

    Raises:
        ChainError, EndpointUnreachable, EndpointTalksNonsense, EndpointRefused: the chain cannot be read.
        EndpointsDisagree: two endpoints show different chains.
        StatementsUnreadable: a folder of statements is none.
        EvidenceUnreadable: a log's file cannot be opened. A node's API that does not answer is no error: its
            log counts as not handed over.
        EmptyRange: there is nothing to look at.
    """
    chain = Chain.connect(inquiry.chain)
    last = chain.finalized() if inquiry.last is None else chain.block(inquiry.last)
    with ExitStack() as stack:
        rpcs = [stack.enter_context(Rpc(url)) for url in each_url(inquiry.chain.rpc_url)]
        rpc = rpcs[0] if len(rpcs) == 1 else Endpoints(rpcs, last)
        begin = first_log(rpc, chain.addresses["Consortium"], chain.deployed_at)
        first = begin if inquiry.first is None else inquiry.first
        if first > last.number or begin > last.number:
            raise EmptyRange(f"blocks {first} to {last.number}: the contracts begin at block {begin}")
        contracts = _contracts(chain, last)
        reading = read_range(rpc, list(contracts), begin, last.number, material)
    if material is not None:
        material.contracts = contracts
    events = tuple(events_of(reading, contracts))
    world = replay(events)
    logs, unread = _read_logs(inquiry.sources, world, material)
    statements = _statements(inquiry, logs, material)
    snapshot, no_snapshot = _snapshot(chain, world, last)
    case = Case(
        chain_id=inquiry.chain.chain_id,
        directory=inquiry.chain.directory,
        first=first,
        last=last,
        world=world,
        proof=_same_end(reading, last),
        snapshot=snapshot,
        no_snapshot=no_snapshot,
        logs=logs,
        unread=unread,
        cited=_cited(logs.values(), statements, reading.blocks),
        other_code=_other_code(chain, last),
        parameters=inquiry.parameters,
        events=events,
        statements=statements,
    )
    return audit(case)


def _contracts(chain: Chain, last: BlockRef) -> dict[Address, str]:
    """All contracts that the directory had named by ``last``, of every generation. One that it names later
    is not looked at: nothing that was to be trusted at ``last`` is there."""
    known = [each for each in chain.named.generations if each.since <= last.number]
    return {where: name for each in known for name, where in each.addresses.items()}


def _other_code(chain: Chain, last: BlockRef) -> tuple[str, ...]:
    """What is at the addresses of former generations and is not our code; that of the present one the client
    has refused."""
    known = [each for each in chain.named.generations[:-1] if each.since <= last.number]
    wrong = [why_not_ours(chain.link, each.addresses) for each in known]
    return tuple(
        f"{name} of generation {number}: {why}"
        for number, found in enumerate(wrong)
        for name, why in sorted(found.items())
    )


def events_of(reading: Reading, contracts: Mapping[Address, str]) -> list[Event]:
    """The events in a reading, in the order of the chain."""
    blocks = {log.block: reading.blocks.ref(log.block) for log in reading.logs}
    pairs = [(log, blocks[log.block]) for log in reading.logs]
    return [decode(log, block, contracts) for log, block in pairs if block is not None]


def _same_end(reading: Reading, last: BlockRef) -> Proof:
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


def _statements(inquiry: Inquiry, logs: Mapping[Address, NodeLog], material: Material | None) -> Statements:
    """What enclaves stated: from the folders that were given, then from beside each log that was read."""
    places: list[Place] = [Folder(each) for each in inquiry.statements]
    beside = [place_beside(each.where, each.token) for each in inquiry.sources if each.node in logs]
    places += [place for place in beside if place is not None]
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
