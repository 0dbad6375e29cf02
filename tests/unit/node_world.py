"""A small world around the gate: a ledger that obeys the lifecycle, an engine that leaves files, a fuse."""

from __future__ import annotations

import errno
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sealtrace.node import terms as stored_terms
from sealtrace.node.errors import ChainUnavailable
from sealtrace.node.evidence import EvidenceLog
from sealtrace.node.fingerprints import fingerprint_file
from sealtrace.node.gate import run_task
from sealtrace.node.hold import Ports
from sealtrace.node.introduction import to_stored
from sealtrace.node.ports import (
    Done,
    Introduction,
    LocalGateway,
    Peer,
    Ran,
    Reverted,
    RunStopped,
    SessionRefused,
    Standing,
    Undeliverable,
)
from sealtrace.node.preparing import BundleDiffers, BundleGone, Holdings
from sealtrace.node.seats import Seats
from sealtrace.node.settings import Limits
from sealtrace.node.store import DatasetRow, Sighting, Store, open_engine
from sealtrace.node.vault import Vault
from sealtrace.protocol.attestation.appraisal import Stage
from sealtrace.protocol.attestation.statement import read_statement
from sealtrace.protocol.authorization import Facts, why_denied
from sealtrace.protocol.canonical import sha256
from sealtrace.protocol.evidence import Kind
from sealtrace.protocol.fingerprint import commitment
from sealtrace.protocol.identifiers import NOBODY, Address, Hex32, UnixSeconds
from sealtrace.protocol.lifecycle import TaskState, at_time
from sealtrace.protocol.outcome import Blame, Denial, Failure
from sealtrace.protocol.receipt import result_digest
from sealtrace.protocol.records import (
    Algorithm,
    AlgorithmStatus,
    BlockRef,
    DataClass,
    Dataset,
    DatasetStatus,
    Grant,
    Node,
    NodeStatus,
    Protection,
    Role,
    TaskTerms,
)
from sealtrace.protocol.spec import Input, Step, TaskSpec, purpose_hash

ME, OTHER, LAB = (Address("0x" + c * 40) for c in "abc")
ALGORITHM, GRANT, OTHER_GRANT, OTHER_DATASET = (Hex32("0x" + c * 64) for c in "1234")
KEY = Hex32("0x" + "5" * 64)
NOW = 1_000_000
DEADLINE = NOW + 3600


class Killed(BaseException):
    """The process is gone: kill -9."""


class Fuse:
    """Kills at the n-th tick, and lets nothing happen in that process afterwards."""

    def __init__(self, ticks: int | None = None) -> None:
        self.left = ticks
        self.count = 0

    def tick(self) -> None:
        self.count += 1
        if self.left is not None and self.count > self.left:
            raise Killed


class Mortal:
    """A port whose every call may be the process's last, before its effect or after it."""

    def __init__(self, inner: Any, fuse: Fuse) -> None:
        self._inner, self._fuse = inner, fuse

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not callable(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            self._fuse.tick()
            answer = found(*args, **kwargs)
            self._fuse.tick()
            return answer

        return call


@dataclass
class Ledger:
    """The chain: blocks follow the clock, acts are mined at once and known by their intent."""

    world: World
    state: TaskState = TaskState.AUTHORIZED
    approved: int = 0b11
    started: int = 0
    finished: int = 0
    down: bool = False
    acts: list[str] = field(default_factory=list)
    intents: dict[str, Done] = field(default_factory=dict)
    told: list[tuple[int, float]] = field(default_factory=list)  # steps, and when they were told
    on_start: Any = None  # what the other party does when we have started

    def finalized(self) -> BlockRef:
        if self.down:
            raise ChainUnavailable("no answer")
        now = int(self.world.now)
        return BlockRef(now - NOW + 1 + len(self.acts), sha256(str(now).encode()), UnixSeconds(now))

    def task(self, task: Hex32, *, at: BlockRef) -> Standing | None:
        if task != self.world.task:
            return None
        state = at_time(self.state, UnixSeconds(DEADLINE), at.timestamp)
        terms = self.world.terms
        return Standing(
            task,
            state,
            terms.deadline,
            self.approved,
            self.started,
            self.finished,
        )

    def facts(self, terms: TaskTerms, *, at: BlockRef) -> Facts:
        return self.world.facts

    def node(self, node: Address, *, at: BlockRef) -> Node:
        return self.world.facts.nodes[node]

    def task_id(self, terms: TaskTerms) -> Hex32:
        return sha256(stored_terms.to_text(terms).encode())

    # --- acts of ME

    def start(self, task: Hex32, terms: TaskTerms, bound: Hex32) -> Done:
        return self._act("start", self._start, terms)

    def approve(self, task: Hex32, terms: TaskTerms) -> Done:
        return self._act("approve", self._approve, terms)

    def refuse(self, task: Hex32, terms: TaskTerms, denial: Denial) -> Done:
        allowed = {TaskState.CREATED, TaskState.AUTHORIZED}
        return self._act(f"refuse {denial.name}", lambda: self._end(allowed, TaskState.REFUSED), terms)

    def finish(self, task: Hex32, terms: TaskTerms, receipt: Hex32, result: Hex32) -> Done:
        return self._act("finish", self._finish, terms)

    def fail(self, task: Hex32, terms: TaskTerms, reason: Failure, blame: Blame, blamed: Address) -> Done:
        assert (blame is Blame.PARTY) == (blamed != NOBODY)
        return self._act(
            f"fail {reason.name} {blame.name}",
            lambda: self._end({TaskState.RUNNING}, TaskState.FAILED),
            terms,
        )

    def stop(self, task: Hex32, terms: TaskTerms) -> Done:
        return self._act("stop", lambda: self._end({TaskState.RUNNING}, TaskState.CANCELLED), terms)

    def progress(self, task: Hex32, terms: TaskTerms, step: int) -> None:
        if self.down:
            raise ChainUnavailable("no answer")
        self.told.append((step, self.world.now - NOW))

    def _act(self, name: str, effect: Any, terms: TaskTerms) -> Done:
        if self.down:
            raise ChainUnavailable("no answer")
        intent = name.split()[0]
        if intent in self.intents:
            return self.intents[intent]
        if terms != self.world.terms:
            raise Reverted("UnknownTask", "other terms are another task")
        if self.world.facts.nodes[ME].status is not NodeStatus.ACTIVE and intent != "stop":
            raise Reverted("NodeNotActive", ME)
        effect()
        self.acts.append(name)
        self.intents[intent] = Done(sha256(intent.encode()), self.finalized())
        return self.intents[intent]

    def _start(self) -> None:
        self._require({TaskState.AUTHORIZED})
        terms, now = self.world.terms, self.finalized().timestamp
        if denial := why_denied(terms, ME, self.world.facts, now):
            raise Reverted("Denied", denial.name, denial)
        self.world.spend()
        self.started |= self.world.mine
        if self.on_start is not None:
            self.on_start()

    def _approve(self) -> None:
        self._require({TaskState.CREATED})
        self.approved |= self.world.mine
        if self.approved == 0b11:
            self.state = TaskState.AUTHORIZED

    def _finish(self) -> None:
        self._require({TaskState.RUNNING})
        self.finished |= self.world.mine
        if self.finished == 0b11:
            self.state = TaskState.COMPLETED

    def _end(self, allowed: set[TaskState], to: TaskState) -> None:
        self._require(allowed)
        self.state = to

    def _require(self, allowed: set[TaskState]) -> None:
        if self.state not in allowed:
            raise Reverted("IllegalTransition", self.state.name)

    def other_starts(self) -> None:
        self.started |= 0b11 ^ self.world.mine
        if self.started == 0b11:
            self.state = TaskState.RUNNING

    def other_finishes(self) -> None:
        self.finished |= 0b11 ^ self.world.mine
        if self.finished == 0b11:
            self.state = TaskState.COMPLETED


class FakeEngine:
    """Leaves the sealed share and the transcript, one after the other, as the real one does."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.fuse = Fuse()
        self.unable: Denial | None = None
        self.bad_table: str | None = None
        self.bad_steps: tuple[Denial, str] | None = None
        self.outcome: Exception | None = None
        self.during: Any = None
        self.before: Any = None
        self.steps: list[float] = []  # how long each lasts, with a beat at its end

    def why_unable(self, spec: TaskSpec) -> Denial | None:
        return self.unable

    def check(self, own: Any, spec: Any, bundles: Any) -> str | None:
        return self.bad_table

    def check_steps(self, spec: TaskSpec, bundles: Any) -> tuple[Denial, str] | None:
        return self.bad_steps

    def run(self, plan: Any, stop: threading.Event, on_step: Any) -> Ran:
        self.world.runs.append(plan)
        plan.folder.mkdir(parents=True)
        if self.before is not None:
            self.before()
        for index, seconds in enumerate(self.steps):
            on_step(index)
            self.world.now += seconds
            self.world.beat()
        if self.during is not None:
            self.during()
        if stop.is_set():
            raise RunStopped
        if self.outcome is not None:
            raise self.outcome
        self.fuse.tick()
        (plan.folder / "output.sealed").write_bytes(b"sealed share")
        self.fuse.tick()
        (plan.folder / "transcript.json").write_text(json.dumps({"engine": "fake"}))
        self.fuse.tick()
        return self._ran(plan.folder)

    def left_behind(self, folder: Path) -> Ran | None:
        return self._ran(folder) if (folder / "transcript.json").exists() else None

    def _ran(self, folder: Path) -> Ran:
        output = sha256((folder / "output.sealed").read_bytes())
        result = result_digest({ME: output, OTHER: ALGORITHM})
        return Ran(folder / "output.sealed", output, result, {"engine": "fake"})


class FakeSessions:
    def __init__(self) -> None:
        self.open_tasks: dict[Hex32, tuple[Peer, ...]] = {}
        self.refuse: str | None = None
        self.left: list[str | None] = []

    def open(self, task: Hex32, peers: tuple[Peer, ...]) -> LocalGateway:
        if self.refuse:
            raise SessionRefused(self.refuse)
        self.open_tasks[task] = peers
        return LocalGateway("http://127.0.0.1:1", "token")

    def close(self, task: Hex32, *, left: str | None = None) -> dict[str, Any]:
        if self.open_tasks.pop(task, None) is not None:
            self.left.append(left)
        return {}


class FakeScheduler:
    def __init__(self) -> None:
        self.outputs: dict[Hex32, bytes] = {}
        self.statements: dict[tuple[Hex32, Stage], bytes] = {}
        self.metrics: dict[Hex32, list[bytes]] = {}
        self.error: Exception | None = None

    def introduction(self, task: Hex32) -> None:
        return None

    def upload(self, task: Hex32, output: Path) -> None:
        if self.error is not None:
            raise self.error
        self.outputs[task] = output.read_bytes()

    def put_statement(self, task: Hex32, document: bytes) -> None:
        if self.error is not None:
            raise self.error
        self.statements[task, read_statement(document).stage] = document

    def statement(self, task: Hex32, stage: Stage) -> bytes | None:
        if self.error is not None:
            raise self.error
        return self.statements.get((task, stage))

    def put_metrics(self, task: Hex32, number: int, sealed: bytes) -> None:
        if self.error is not None:
            raise self.error
        kept = self.metrics.setdefault(task, [])
        if number == len(kept):
            kept.append(sealed)
        elif number > len(kept) or kept[number] != sealed:
            raise Undeliverable(f"message {number} is not the next, or another than before")


class FakeBundles:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.altered = self.missing = False

    def verified(self, algorithm: Hex32) -> Path:
        if self.missing:
            raise BundleGone(algorithm)
        if self.altered:
            raise BundleDiffers(algorithm)
        return self.folder


class FakeRegistry:
    """Takes in datasets; the same file again is the same dataset."""

    def __init__(self) -> None:
        self.added: dict[Path, tuple[Any, ...]] = {}

    def add(self, path: Path, *words: Any) -> None:
        assert path.exists()
        self.added[path] = words


class World:
    """Everything that outlives a process, and :meth:`deliver`, which is one process handling one message."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.now, self.runs = folder, float(NOW), []
        self.policies: dict[Hex32, Any] = {}
        self.seats = Seats(2)
        self.full_at: str | None = None  # the kind of record for which there is no room
        self.mine = 0b01
        self.limits = Limits(wait_for_others_s=5, poll_s=1)
        self.table = folder / "table.csv"
        self.table.write_text("id,age\n1,30\n2,40\n")
        self.vault = Vault(folder / "vault")
        (folder / "vault").mkdir()
        salt = self.vault.new_salt()
        root, _ = fingerprint_file(self.table)
        self.commitment = commitment(root, salt)
        self.vault.keep(self.commitment, salt)
        self.dataset = Hex32(self.commitment)
        self.spec = self._spec()
        self.terms = self.spec.terms()
        self.facts = self._facts()
        self.ledger = Ledger(self)
        self.ledger.on_start = self.ledger.other_starts
        self.task = self.ledger.task_id(self.terms)
        self.engine, self.sessions, self.scheduler = FakeEngine(self), FakeSessions(), FakeScheduler()
        self.bundles = FakeBundles(folder)
        self.registry = FakeRegistry()
        self.store = Store(open_engine(f"sqlite:///{folder}/node.db"), lambda: self.now)
        self.store.keep_dataset(
            DatasetRow(
                self.dataset,
                "table",
                self.table,
                1,
                root,
                self.commitment,
                {},
                0,
                withdrawn=False,
                added_at=0,
            )
        )
        self.store.take_in([Sighting(self.task, LAB, stored_terms.to_text(self.terms), self.terms.deadline)])
        self.introduce()

    def introduce(self) -> None:
        parties = tuple(Peer(p, "https://peer:1", "pem") for p in (ME, OTHER))
        spec, stored = to_stored(Introduction(self.spec, parties))
        self.store.introduce(self.task, spec, json.dumps(stored))

    def log(self) -> EvidenceLog:
        return EvidenceLog(self.folder / "evidence", ME, clock=lambda: self.now, write=self._write)

    def _write(self, file: Any, line: bytes) -> None:
        if self.full_at is not None and f'"kind":"{self.full_at}"'.encode() in line:
            raise OSError(errno.ENOSPC, "No space left on device")
        file.write(line)
        file.flush()

    def kinds(self) -> Counter[str]:
        return Counter(record.kind for record in self.log().of_task(self.task))

    def last(self, kind: Kind) -> dict[str, Any]:
        found = self.log().last(self.task, kind)
        assert found is not None, f"no {kind} on record"
        return found.body

    def deliver(self, fuse: Fuse | None = None) -> None:
        fuse = fuse or Fuse()
        self.engine.fuse = fuse
        run_task(self.task, self.ports(fuse))

    def deliver_until_over(self, *, rounds: int = 12) -> None:
        """The watcher: delivers again, each time when the last lease has lapsed."""
        for _ in range(rounds):
            self.now += 30
            self.deliver()
            if self.store.task(self.task).over:
                return
            if self.ledger.finished == self.mine:
                self.ledger.other_finishes()
        raise AssertionError(f"not over: {self.store.task(self.task)}")

    def ports(self, fuse: Fuse) -> Ports:
        return Ports(
            me=ME,
            store=Mortal(self.store, fuse),
            chain=Mortal(self.ledger, fuse),
            acts=Mortal(self.ledger, fuse),
            sessions=Mortal(self.sessions, fuse),
            scheduler=Mortal(self.scheduler, fuse),
            evidence=Mortal(self.log(), fuse),
            holdings=Holdings(self.store, self.vault, self.bundles, Mortal(self.engine, fuse)),
            jobs=lambda task: self.folder / "jobs" / task[2:],
            limits=self.limits,
            received=lambda task: self.folder / "received" / f"{task[2:]}.csv",
            parts=lambda task: self.folder / "parts" / task[2:],
            register=Mortal(self.registry, fuse).add,
            longest_run_s=600,
            clock=lambda: self.now,
            sleep=self._sleep,
            pulse=self._pulse,
            aside=lambda act: act(),
            statements=self.folder / "statements",
            policy_of=lambda grant: self.policies.get(grant),
            sign_result=lambda claims: json.dumps(claims, sort_keys=True),
            build="sealtrace test",
            seats=self.seats,
        )

    def spend(self) -> None:
        grant = self.facts.grants[GRANT]
        self.facts = replace(
            self.facts, grants={**self.facts.grants, GRANT: replace(grant, uses_left=grant.uses_left - 1)}
        )

    def set_node(self, node: Address, status: NodeStatus) -> None:
        changed = replace(self.facts.nodes[node], status=status)
        self.facts = replace(self.facts, nodes={**self.facts.nodes, node: changed})

    def set_grant(self, **changes: Any) -> None:
        changed = replace(self.facts.grants[GRANT], **changes)
        self.facts = replace(self.facts, grants={**self.facts.grants, GRANT: changed})

    def _sleep(self, seconds: float) -> None:
        self.now += seconds

    @contextmanager
    def _pulse(self, beat: Any) -> Iterator[None]:
        self.beat = beat  # tests call it where another thread would
        yield

    def _spec(self) -> TaskSpec:
        step = Step(
            id="align",
            algorithm=ALGORITHM,
            engine="psi",
            protocol="RR22",
            inputs=["mine", "theirs"],
            grants={"mine": GRANT, "theirs": OTHER_GRANT},
        )
        return TaskSpec(
            nonce=KEY,
            requester=LAB,
            requester_key=KEY,
            purpose="credit study",
            deadline=DEADLINE,
            parties=[ME, OTHER],
            inputs=[
                Input(name="mine", party=ME, dataset=self.dataset, id_column="id", columns=["age"]),
                Input(name="theirs", party=OTHER, dataset=OTHER_DATASET, id_column="id", columns=["age"]),
            ],
            steps=[step],
        )

    def _facts(self) -> Facts:
        grant = Grant(
            id=GRANT,
            owner=ME,
            dataset=self.dataset,
            algorithm=ALGORITHM,
            requester=LAB,
            purpose=purpose_hash("credit study"),
            uses_left=3,
            not_before=UnixSeconds(0),
            expires_at=UnixSeconds(DEADLINE),
            protections=Protection.PSI_RR22,
            approval_required=False,
            revoked=False,
            epsilon_millionths=0,
            uses=3,
            epsilon_left=0,
        )
        nodes = {a: Node(a, NodeStatus.ACTIVE, Role(31), KEY, KEY) for a in (ME, OTHER, LAB)}
        dataset = Dataset(self.dataset, ME, DatasetStatus.ACTIVE, DataClass.GENERAL, self.commitment, KEY)
        algorithm = Algorithm(ALGORITHM, LAB, AlgorithmStatus.ACTIVE)
        return Facts({GRANT: grant}, nodes, {self.dataset: dataset}, {ALGORITHM: algorithm})
