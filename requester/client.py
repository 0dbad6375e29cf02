"""The requester's SDK: write a task, submit it, watch it on the chain, open its result.

.. code-block:: python

    lab = Requester.open(Path("lab"))
    task = lab.submit(lab.build_spec(Path("task.yaml"))).task
    for seen in lab.watch(task):
        print(seen.state.name)
    print(lab.result(task).value)
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import create_engine

from sealtrace.algorithms.disclosure import Learns, disclosure
from sealtrace.algorithms.frames import BadShare
from sealtrace.algorithms.opening import EngineMissing, open_outputs
from sealtrace.contracts import calls
from sealtrace.contracts.client import Chain as ContractsChain
from sealtrace.contracts.client import ChainSettings
from sealtrace.contracts.errors import MalformedAnswer, Reverted
from sealtrace.contracts.sender import Sender as ContractsSender
from sealtrace.protocol.attestation.appraisal import Stage
from sealtrace.protocol.canonical import sha256
from sealtrace.protocol.identifiers import Address, Hex32, UnixSeconds, hex32
from sealtrace.protocol.lifecycle import TaskState
from sealtrace.protocol.records import Algorithm, Grant, GrantStatus
from sealtrace.protocol.spec import TaskSpec, purpose_hash
from sealtrace.protocol.statements import Signed, Statement, sign
from sealtrace.requester import drafts, enclaves, results, task_files
from sealtrace.requester.directory import Directory, Keys, Settings
from sealtrace.requester.enclaves import Round
from sealtrace.requester.errors import (
    EnclaveStatementMissing,
    NotInEnclave,
    RequesterError,
    ResultMissing,
    ResultTampered,
    SchedulerMisbehaved,
    TaskNotOver,
    TaskUnknown,
    WrongKey,
)
from sealtrace.requester.expectations import Assumed, Expected, expected
from sealtrace.requester.known_algorithms import KnownAlgorithms
from sealtrace.requester.ports import Accepted, Chain, Delivered, Scheduler, Sender
from sealtrace.requester.progress import Progress, ending_of, progress, why_no_result
from sealtrace.requester.results import Result
from sealtrace.requester.scheduler_api import HttpScheduler
from sealtrace.requester.step_checks import check_steps
from sealtrace.requester.task_files import Located

T = TypeVar("T")

__all__ = ["EngineMissing", "Plan", "Progress", "Requester", "Result", "Waiting"]

AUDIENCE = "scheduler"


@dataclass(frozen=True, slots=True)
class Waiting:
    """How to wait: ``poll_s`` between looks at the chain, ``outputs_s`` for outputs of a finished task."""

    poll_s: float = 1.0
    outputs_s: float = 30.0
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True, slots=True)
class Plan:
    """What would be submitted, what owners may refuse it for, and who learns what."""

    spec: TaskSpec
    task: Hex32
    warnings: tuple[str, ...]
    learns: tuple[Learns, ...]


class Requester:
    """One who asks. The scheduler is used and not believed; the chain is what counts."""

    def __init__(
        self,
        keys: Keys,
        chain: Chain,
        sender: Sender,
        scheduler: Scheduler,
        files: Directory,
        names: Mapping[str, Address],
        waiting: Waiting | None = None,
    ) -> None:
        self.keys = keys
        self.chain = chain
        self.scheduler = scheduler
        self.files = files
        self.book = dict(names)
        self._sender = sender
        self._waiting = waiting or Waiting()

    @classmethod
    def open(cls, directory: Path) -> Requester:
        """The requester of ``directory``, connected to its chain.

        Raises:
            NoDirectory, SettingsInvalid: there is none, or it is damaged.
            ChainError: the chain cannot be reached, or is another one.
        """
        files = Directory(directory)
        settings, keys = files.settings(), files.keys()
        chain = ContractsChain.connect(chain_settings(settings))
        sender = ContractsSender(chain, keys.signing.private_key, create_engine(files.outbox_url()))
        return cls(keys, chain, sender, HttpScheduler(settings.scheduler_url), files, settings.parties)

    @property
    def address(self) -> Address:
        """Who the requester is on chain."""
        return self.keys.address

    @property
    def names(self) -> dict[Address, str]:
        """The address book, read the other way."""
        return {address: name for name, address in self.book.items()}

    @property
    def algorithms(self) -> KnownAlgorithms:
        """The bundles on this machine."""
        return KnownAlgorithms(self.files.bundles())

    # Writing a task

    def build_spec(self, task: Path | Mapping[str, Any]) -> TaskSpec:
        """The specification of a task file, or of the same as a value. Raises as :meth:`plan`."""
        return self.plan(task).spec

    def plan(self, task: Path | Mapping[str, Any]) -> Plan:
        """Everything about a task before it is submitted. Nothing is kept and nothing sent to the chain.

        Protocols that the task leaves open are chosen by the scheduler. Steps' parameters are held to what
        their algorithms take.

        Raises:
            SpecInvalid, GrantNotFound: the task is wrong, or nobody allows it.
            SchedulerUnreachable, SchedulerRefused, SchedulerMisbehaved: no protocol could be chosen.
        """
        located = _located(task)
        draft = drafts.read_task(located, self._asker())
        warnings: tuple[str, ...] = ()
        if _is_draft(draft) and not drafts.settled(draft):
            draft, warnings = self._planned(draft)
        spec = drafts.specification(draft, located)
        warnings = (*warnings, *check_steps(spec, located, self.algorithms))
        learns = tuple(disclosure(spec, self.algorithms.manifest))
        return Plan(spec, self.chain.task_id(spec.terms()), warnings, learns)

    def expect(self, spec: TaskSpec, assumed: Assumed | None = None) -> Expected:
        """Bytes, turns and time to expect of a task. Simulates its MPC steps on made-up data, so long.

        Raises:
            RowsUnknown: what is assumed does not fit the task.
        """
        return expected(spec, self.algorithms, assumed or Assumed())

    def grants(self) -> list[Grant]:
        """The grants that were ever issued to this requester, as they stand now."""
        at = self.chain.finalized()
        issued = self.chain.events(self.chain.deployed_at, at.number, names={"GrantIssued"})
        mine = [hex32(each.args["grant"]) for each in issued if each.args["requester"] == self.address]
        return [grant for grant in (self.chain.grant(id, at=at) for id in mine) if grant is not None]

    def algorithm(self, digest: Hex32) -> Algorithm | None:
        """An algorithm as the chain has it now."""
        return self.chain.algorithm(digest, at=self.chain.finalized())

    def send(self, intent: str, call: calls.Call) -> None:
        """Send one transaction under the requester's key, once for each ``intent``."""
        self._sender.send(intent, call)

    # Submitting

    def submit(self, spec: TaskSpec) -> Accepted:
        """Hand the specification to the scheduler, then put the task on chain.

        The same specification is the same task: submitting it again sends nothing twice.

        Raises:
            WrongKey: the specification names other keys than are here or on chain.
            SchedulerUnreachable, SchedulerRefused, SchedulerMisbehaved: nothing is on chain then.
            ChainError: the scheduler has it, the chain does not; submit again.
        """
        self._require_own(spec)
        task = self.chain.task_id(spec.terms())
        self.files.keep(task, spec)
        accepted = self.scheduler.submit(self._says("task.submit", {"spec": spec.model_dump(mode="json")}))
        if accepted.task != task:
            raise SchedulerMisbehaved(self.scheduler.url, f"it calls task {task} {accepted.task}")
        self._create(task, spec)
        return accepted

    def cancel(self, task: Hex32) -> None:
        """Give the task up.

        Raises:
            TaskUnknown: there is no such task.
            Reverted: it is over already, or another requester's.
            SchedulerUnreachable, SchedulerRefused, SchedulerMisbehaved: its specification is not here,
                and could not be had.
        """
        if self.chain.task(task, at=self.chain.finalized()) is None:
            raise TaskUnknown(task)
        self._sender.send(f"task.cancel:{task}", calls.cancel(self.spec(task).terms()))

    # Watching

    def look(self, task: Hex32) -> Progress:
        """The task at the chain's newest final block.

        Raises:
            TaskUnknown: there is no such task.
            SchedulerUnreachable, SchedulerRefused, SchedulerMisbehaved: its specification is not here,
                and could not be had.
        """
        return self._look(task, self.spec(task))

    def watch(self, task: Hex32, timeout_s: float | None = None) -> Iterator[Progress]:
        """The task at each block at which something about it is new, until it is over.

        Raises:
            TaskNotOver: ``timeout_s`` went by first.
            TaskUnknown: see :meth:`look`.
        """
        spec = self.spec(task)
        started = self._waiting.clock()
        last: Progress | None = None
        while True:
            seen = self._look(task, spec)
            if not seen.same_as(last):
                yield seen
            if seen.over:
                return
            last = seen
            if timeout_s is not None and self._waiting.clock() - started >= timeout_s:
                raise TaskNotOver(task, timeout_s, seen.state.name.lower())
            self._waiting.sleep(self._waiting.poll_s)

    # Results

    def result(self, task: Hex32, timeout_s: float | None = None) -> Result:
        """Wait until the task is done, fetch its sealed outputs, check them against the chain, open them.

        Raises:
            TaskRefused, TaskFailed, TaskExpired, TaskCancelled, ResultDisputed: there is no result.
            ResultMissing: outputs are not at the scheduler.
            EnclaveStatementMissing: the enclave's last statement is not at the scheduler.
            EnclaveStatementWrong: it does not vouch for the result.
            ResultTampered: an output is not what the parties recorded.
            WrongKey: the key here does not open them.
            EngineMissing: opening shares needs the ``mpc`` extra.
            AlgorithmUnknownHere: the bundle of the last step is not on this machine.
            TaskNotOver: ``timeout_s`` went by first.
        """
        spec = self.spec(task)
        if spec.requester_key != self.keys.encryption_key:
            raise WrongKey(
                f"task {task} seals its result to {spec.requester_key}, hpke.key here is "
                f"{self.keys.encryption_key}: use the directory the task was submitted from"
            )
        *_, seen = self.watch(task, timeout_s)
        if error := why_no_result(seen, self.names):
            raise error
        delivered = self._fetch(task, spec)
        recorded = hex32(str(seen.result))
        last = self._last_statement(task) if spec.enclave else None
        agreed = sha256(last) if last else None
        digests = results.checked(task, delivered, recorded, self.names, agreed)
        attested = enclaves.vouching(last, task, spec, digests[spec.computing[0]]) if last else None
        shares = results.opened(task, delivered, self.keys.hpke, self.names)
        return Result(task, self._reconstruct(task, spec, shares), digests, recorded, attested)

    def statements(self, task: Hex32) -> list[bytes]:
        """What the task's enclave has shown so far, each by the digest that the scheduler lists.

        Raises:
            NotInEnclave: there is none.
            EnclaveStatementWrong: one is not of this task, or says otherwise than its specification.
            SchedulerUnreachable, SchedulerRefused, SchedulerMisbehaved: they cannot be had.
        """
        spec, _ = self._in_enclave(task)
        found = []
        for digest, stage in self.scheduler.statements(task):
            text = self.scheduler.statement(task, digest)
            enclaves.stated(text, task, spec, stage)
            found.append(text)
        return found

    def metrics(self, task: Hex32, *, follow: bool = False) -> Iterator[Round]:
        """What the enclave told of its training so far; with ``follow`` until the task is over.

        Raises:
            NotInEnclave: there is none.
            MetricsUnreadable: a message is not the enclave's, or not for the key here.
            SchedulerUnreachable, SchedulerRefused, SchedulerMisbehaved: they cannot be had.
            TaskUnknown: see :meth:`look`.
        """
        spec, enclave = self._in_enclave(task)
        last = -1
        while True:
            over = not follow or self._look(task, spec).over  # asked first: what comes last is then there
            while told := self.scheduler.metrics(task, last, self._says("task.fetch", {"task": task})):
                for message in told:
                    yield from enclaves.rounds_in(message, task, enclave, self.keys.hpke)
                last = told[-1].number
            if over:
                return
            self._waiting.sleep(self._waiting.poll_s)

    def acknowledge(self, result: Result) -> None:
        """Say on the chain, once, that this result was opened; the parties have it in writing then.

        Raises:
            ChainError: not now; acknowledge again.
        """
        call = calls.acknowledge(self.spec(result.task).terms(), result.digest)
        try:
            self._sender.send(f"task.acknowledge:{result.task}", call)
        except Reverted as reverted:
            if reverted.name != "AlreadyAcknowledged":
                raise

    def spec(self, task: Hex32) -> TaskSpec:
        """The specification of ``task``: the one kept here, or the scheduler's if the id vouches for it.

        Raises:
            SchedulerUnreachable, SchedulerRefused: it is not to be had.
            SchedulerMisbehaved: the scheduler's is of another task.
        """
        kept = self.files.spec(task)
        if kept is not None and self._is_of(kept, task):
            return kept
        spec = self.scheduler.spec(task)
        if not self._is_of(spec, task):
            raise SchedulerMisbehaved(self.scheduler.url, f"its specification is not that of task {task}")
        return spec

    def _is_of(self, spec: TaskSpec, task: Hex32) -> bool:
        return self.chain.task_id(spec.terms()) == task

    def _reconstruct(self, task: Hex32, spec: TaskSpec, shares: Mapping[Address, bytes]) -> Mapping[str, Any]:
        try:
            found = open_outputs(task, spec, shares, self.algorithms.bundle)
        except BadShare as cause:
            raise ResultTampered(None, f"they are as recorded, but do not make a result: {cause}") from cause
        return found if spec.results else found[spec.steps[-1].id]

    def _in_enclave(self, task: Hex32) -> tuple[TaskSpec, Address]:
        """The specification of a task, and the party whose enclave runs it."""
        spec = self.spec(task)
        if spec.enclave is None:
            raise NotInEnclave(task)
        return spec, spec.enclave

    def _last_statement(self, task: Hex32) -> bytes:
        """The enclave's last statement."""

        def look() -> bytes | None:
            listed = self.scheduler.statements(task)
            final = next((digest for digest, stage in listed if stage is Stage.FINAL), None)
            return None if final is None else self.scheduler.statement(task, final)

        return self._arrived(look, lambda: EnclaveStatementMissing(task))

    def _fetch(self, task: Hex32, spec: TaskSpec) -> dict[Address, Delivered]:
        """All outputs."""
        found: dict[Address, Delivered] = {}

        def missing() -> list[Address]:
            return [party for party in spec.parties if party not in found]

        def look() -> dict[Address, Delivered] | None:
            for party in missing():
                wish = self._says("task.fetch", {"task": task, "party": party})
                if (output := self.scheduler.output(task, party, wish)) is not None:
                    found[party] = output
            return None if missing() else found

        return self._arrived(
            look, lambda: ResultMissing([self.names.get(party, party) for party in missing()])
        )

    def _arrived(self, look: Callable[[], T | None], absent: Callable[[], RequesterError]) -> T:
        """What ``look`` finds; a party may have finished on chain a moment before it arrived."""
        until = self._waiting.clock() + self._waiting.outputs_s
        while (found := look()) is None:
            if self._waiting.clock() >= until:
                raise absent()
            self._waiting.sleep(self._waiting.poll_s)
        return found

    def _look(self, task: Hex32, spec: TaskSpec) -> Progress:
        at = self.chain.finalized()
        record = self.chain.task(task, at=at)
        if record is None:
            raise TaskUnknown(task)
        clock = UnixSeconds(int(self._waiting.clock()))
        seen = progress(task, record, spec.parties, self.names, at, clock)
        if not seen.over:
            return seen
        ending = ending_of(self.chain.events(self.chain.deployed_at, at.number, task=task))
        over = replace(seen, ending=ending)
        if seen.state is TaskState.COMPLETED and not str(over.result).startswith(record.agreed):
            why = f"the parties agreed on {record.agreed}..., the event TaskCompleted says {over.result}"
            raise MalformedAnswer(f"the result of task {task}", why)
        return over

    def _create(self, task: Hex32, spec: TaskSpec) -> None:
        if self.chain.task(task, at=self.chain.finalized()) is not None:
            return
        try:
            self._sender.send(f"task.create:{task}", calls.create(spec.terms()))
        except Reverted as reverted:
            if reverted.name != "TaskAlreadyKnown":
                raise

    def _planned(self, draft: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
        planned, warnings = self.scheduler.plan(draft)
        if _open_again(planned, draft) != draft:
            raise SchedulerMisbehaved(self.scheduler.url, "its plan changes more than the open protocols")
        return planned, warnings

    def _require_own(self, spec: TaskSpec) -> None:
        if spec.requester != self.address:
            raise WrongKey(f"the specification is {spec.requester}'s, the key here is {self.address}'s")
        on_chain = self.chain.node(self.address, at=self.chain.finalized()).encryption_key
        if not spec.requester_key == self.keys.encryption_key == on_chain:
            raise WrongKey(
                f"results would be sealed to {spec.requester_key}; hpke.key here is "
                f"{self.keys.encryption_key}, the chain has {on_chain}: have the registrar admit "
                "this key, or rotate it on chain"
            )

    def _asker(self) -> drafts.Asker:
        cache: list[Grant] = []

        def find_grant(owner: Address, dataset: Hex32, algorithm: Hex32, purpose: str) -> Hex32 | None:
            if not cache:
                cache.extend(self.grants())
            return best_grant(cache, owner, dataset, algorithm, purpose_hash(purpose), self._now())

        return drafts.Asker(
            address=self.address,
            encryption_key=self.keys.encryption_key,
            now=self._now(),
            nonce=hex32(secrets.token_bytes(32)),
            book=self.book,
            find_algorithm=self.algorithms.find,
            find_grant=find_grant,
        )

    def _says(self, kind: str, body: dict[str, Any]) -> Signed:
        statement = Statement(kind=kind, speaker=self.address, audience=AUDIENCE, at=self._now(), body=body)
        return sign(statement, self.keys.signing.private_key)

    def _now(self) -> UnixSeconds:
        return UnixSeconds(int(self._waiting.clock()))


def best_grant(
    grants: Sequence[Grant],
    owner: Address,
    dataset: Hex32,
    algorithm: Hex32,
    purpose: Hex32,
    now: UnixSeconds,
) -> Hex32 | None:
    """Of the grants in force that cover this use, the one that ends last."""
    fitting = [
        each
        for each in grants
        if (each.owner, each.dataset, each.algorithm, each.purpose) == (owner, dataset, algorithm, purpose)
        and each.status(now) is GrantStatus.ACTIVE
    ]
    return max(fitting, key=lambda each: each.expires_at).id if fitting else None


def chain_settings(settings: Settings) -> ChainSettings:
    """The chain client's settings from ours."""
    return ChainSettings(**settings.chain.model_dump())


def _located(task: Path | Mapping[str, Any]) -> Located:
    if isinstance(task, Path):
        return task_files.read_file(task)
    return Located("task", dict(task), {})


def _is_draft(draft: Mapping[str, Any]) -> bool:
    steps = draft.get("steps")
    return isinstance(steps, list) and all(isinstance(step, dict) for step in steps)


def _open_again(planned: Mapping[str, Any], draft: Mapping[str, Any]) -> dict[str, Any]:
    """``planned`` without the protocols that ``draft`` left open, to be compared with it."""
    steps = planned.get("steps")
    if not isinstance(steps, list) or len(steps) != len(draft["steps"]):
        return {}
    opened = []
    for step, asked in zip(steps, draft["steps"], strict=True):
        left = dict(step) if isinstance(step, dict) else {}
        if asked.get("protocol") is None:
            left.pop("protocol", None)
        opened.append(left)
    return {**planned, "steps": opened}
