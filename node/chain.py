"""The chain in the gate's words: adapters over the chain's client and the one sender of this node's key."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache

from sealtrace.contracts import calls
from sealtrace.contracts.calls import Call
from sealtrace.contracts.client import Chain as Client
from sealtrace.contracts.client import ChainSettings
from sealtrace.contracts.errors import ChainError, FinalBlockReplaced, WrongChain, WrongContracts
from sealtrace.contracts.errors import Reverted as ContractReverted
from sealtrace.contracts.events import ChainEvent
from sealtrace.contracts.sender import Mined, Sender
from sealtrace.node.errors import ChainRewritten, ChainUnavailable, GrantNotFound, NodeError, WrongNetwork
from sealtrace.node.ports import Done, Reverted, Standing
from sealtrace.protocol.authorization import Facts
from sealtrace.protocol.identifiers import Address, Hex32, UnixSeconds
from sealtrace.protocol.outcome import Blame, Denial, Failure
from sealtrace.protocol.records import BlockRef, Checkpoint, Grant, Node, Protection, TaskTerms, Use

REMEMBERED = 256
"""How many reads of nodes, and how many of tasks, are kept."""
NAMING = frozenset({"TaskUseNamed", "TaskPartyNamed"})
"""The events that name a party of a new task: with a dataset of its own, or without any."""

CREATION = NAMING | {"TaskCreated"}


class TermsNotFound(NodeError):
    """The chain's events about a task do not make up the terms whose hash the ledger holds."""

    next_step = "See whether the endpoint serves all logs: sealtrace node doctor."


@contextmanager
def named_errors() -> Iterator[None]:
    """Turn the client's errors into ours: what is unreachable is retried, what is wrong is not."""
    try:
        yield
    except ContractReverted:
        raise
    except (WrongChain, WrongContracts) as cause:
        raise WrongNetwork(str(cause)) from cause
    except FinalBlockReplaced as cause:
        raise ChainRewritten(str(cause)) from cause
    except ChainError as cause:  # whatever else an endpoint does or does not say is worth another try
        raise ChainUnavailable(str(cause)) from cause


class ChainReader:
    """:class:`sealtrace.node.ports.Chain`, and what the watcher asks besides.

    While no block is made the same is asked of the same block many times a second: what was read of a node or
    a task at a block stays so, and is read once.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self._node = lru_cache(REMEMBERED)(client.node)
        self._task = lru_cache(REMEMBERED)(client.task)

    def finalized(self) -> BlockRef:
        """The last block that stays."""
        with named_errors():
            return self.client.finalized()

    def head(self) -> BlockRef:
        """The newest block."""
        with named_errors():
            return self.client.head()

    def block(self, number: int) -> BlockRef:
        """The block with this number."""
        with named_errors():
            return self.client.block(number)

    def node(self, node: Address, *, at: BlockRef) -> Node:
        """The organisation's record."""
        with named_errors():
            return self._node(node, at=at)

    def task(self, task: Hex32, *, at: BlockRef) -> Standing | None:
        """The task, its state derived at that block's time."""
        with named_errors():
            found = self._task(task, at=at)
        if found is None:
            return None
        return Standing(
            task=task,
            state=found.state,
            deadline=UnixSeconds(found.deadline),
            approved=found.approved,
            started=found.started,
            finished=found.finished,
        )

    def facts(self, terms: TaskTerms, *, at: BlockRef) -> Facts:
        """What the chain says of everything the terms name."""
        with named_errors():
            return self.client.facts(terms, at=at)

    def grant(self, grant: Hex32, *, at: BlockRef) -> Grant:
        """The grant as it stands.

        Raises:
            GrantNotFound: the chain has none.
        """
        with named_errors():
            found = self.client.grant(grant, at=at)
        if found is None:
            raise GrantNotFound(f"the chain has no grant {grant}")
        return found

    def checkpoint(self, node: Address, *, at: BlockRef) -> Checkpoint | None:
        """The last checkpoint that ``node`` anchored."""
        with named_errors():
            return self.client.checkpoint(node, at=at)

    def task_id(self, terms: TaskTerms) -> Hex32:
        """The id of the task with these terms."""
        return self.client.task_id(terms)

    def events(
        self,
        first: int,
        last: int,
        *,
        names: Collection[str],
        party: Address | None = None,
        task: Hex32 | None = None,
    ) -> list[ChainEvent]:
        """Events in blocks ``first`` to ``last``, in order."""
        with named_errors():
            return self.client.events(first, last, names=names, party=party, task=task)

    def start_of(self, task: Hex32, party: Address, since: int, *, at: BlockRef) -> Hex32 | None:
        """What ``party`` bound by its start of the task, where that is in blocks ``since`` to ``at``."""
        found = self.events(since, at.number, names={"TaskStarted"}, task=task)
        bound = [each.args["inputCommitment"] for each in found if each.args["party"] == party]
        return Hex32(str(bound[0])) if bound else None

    def terms(self, named: Sequence[ChainEvent]) -> dict[Hex32, TaskTerms]:
        """The terms of the tasks that ``named`` (of :data:`NAMING`) speak of, from the events beside them.

        One read covers all of their blocks.

        Raises:
            TermsNotFound: a task's are not the terms that its id commits to.
        """
        if not named:
            return {}
        blocks = [event.block_number for event in named]
        creations: dict[Hex32, list[ChainEvent]] = defaultdict(list)
        for event in self.events(min(blocks), max(blocks), names=CREATION):
            creations[_task_of(event)].append(event)
        return {task: self._checked(task, creations.get(task, ())) for task in map(_task_of, named)}

    def _checked(self, task: Hex32, creation: Sequence[ChainEvent]) -> TaskTerms:
        terms = terms_from(creation)
        if terms is None or self.task_id(terms) != task:
            raise TermsNotFound(f"task {task}: the events of its creation are not its terms")
        return terms


def terms_from(events: Sequence[ChainEvent]) -> TaskTerms | None:
    """The terms that the events of one task's creation, in order, make up; ``None`` where one is missing."""
    created = next((event for event in events if event.name == "TaskCreated"), None)
    if created is None:
        return None
    parties = sorted({Address(str(e.args["party"])) for e in events if e.name in NAMING})
    return TaskTerms(
        requester=Address(str(created.args["requester"])),
        spec=Hex32(str(created.args["spec"])),
        purpose=Hex32(str(created.args["purpose"])),
        protections=Protection(int(created.args["protections"])),
        deadline=UnixSeconds(int(created.args["deadline"])),
        parties=tuple(parties),
        uses=tuple(_use(e, parties) for e in events if e.name == "TaskUseNamed"),
    )


def _task_of(event: ChainEvent) -> Hex32:
    return Hex32(str(event.args["task"]))


def _use(event: ChainEvent, parties: Sequence[Address]) -> Use:
    args = event.args
    dataset, algorithm, grant = (Hex32(str(args[name])) for name in ("dataset", "algorithm", "grant"))
    return Use(parties.index(Address(str(args["party"]))), dataset, algorithm, grant, int(args["epsilon"]))


class ChainActs:
    """:class:`sealtrace.node.ports.Acts`: each act has one intent for each task, so it happens once."""

    def __init__(self, sender: Sender, timeout_s: float) -> None:
        self._sender = sender
        self._timeout_s = timeout_s

    def start(self, task: Hex32, terms: TaskTerms, commitment: Hex32) -> Done:
        """Spend the uses and bind the input."""
        return self._act(f"{task}:start", lambda: calls.start(terms, commitment))

    def approve(self, task: Hex32, terms: TaskTerms) -> Done:
        """Agree to this one task."""
        return self._act(f"{task}:approve", lambda: calls.approve(terms))

    def refuse(self, task: Hex32, terms: TaskTerms, denial: Denial) -> Done:
        """Decline, and say why."""
        return self._act(f"{task}:refuse", lambda: calls.refuse(terms, denial))

    def finish(self, task: Hex32, terms: TaskTerms, receipt: Hex32, result: Hex32) -> Done:
        """Report this party's part done."""
        return self._act(f"{task}:finish", lambda: calls.finish(terms, receipt, result))

    def fail(self, task: Hex32, terms: TaskTerms, reason: Failure, blame: Blame, blamed: Address) -> Done:
        """Report that the run failed."""
        return self._act(f"{task}:fail", lambda: calls.fail(terms, reason, blame, blamed))

    def stop(self, task: Hex32, terms: TaskTerms) -> Done:
        """End a running task."""
        return self._act(f"{task}:stop", lambda: calls.stop(terms))

    def progress(self, task: Hex32, terms: TaskTerms, step: int) -> None:
        """Say that the step with this index has begun; the watcher sees to it that it is mined."""
        with named_errors():
            self._sender.submit(f"{task}:progress:{step}", calls.progress(terms, step, 0))

    def send(self, intent: str, call: Call) -> Mined:
        """Send any other call of this node and wait until it is mined.

        Raises:
            Reverted: the chain does not take it.
            ChainUnavailable: it is not known to be mined; the sender sends it again.
        """
        try:
            with named_errors():
                return self._sender.send(intent, call, timeout_s=self._timeout_s)
        except ContractReverted as cause:
            raise Reverted(cause.name, str(cause), cause.denial) from cause

    def pump(self) -> None:
        """Send again what is stored and not mined."""
        with named_errors():
            self._sender.pump()

    def _act(self, intent: str, call: Callable[[], Call]) -> Done:
        mined = self.send(intent, call())
        return Done(mined.transaction, mined.block)


def connect(settings: ChainSettings) -> ChainReader:
    """Connect to the configured chain and contracts.

    Raises:
        ChainUnavailable: no answer.
        WrongNetwork: another chain, or other contracts.
    """
    with named_errors():
        return ChainReader(Client.connect(settings))
