"""A made-up network's history: events and evidence logs, honest unless it is bent on the way.

``bend(name, args)`` sees every event before it happens and ``twist(node, kind, body)`` every record before it
is written; each returns what happens instead, or ``None`` for nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from enclave_keys import FINGERPRINTS

from sealtrace.auditor.case import (
    Case,
    Execution,
    Level,
    Parameters,
    Proof,
    Seals,
    Snapshot,
    StorageProof,
    StoredTask,
)
from sealtrace.auditor.events import Event
from sealtrace.auditor.evidence import Held, read_log
from sealtrace.auditor.replay import replay
from sealtrace.auditor.seals import NOT_SEALED
from sealtrace.auditor.world import Key
from sealtrace.contracts import abi
from sealtrace.contracts.abi import GENERATION
from sealtrace.contracts.governance import Office
from sealtrace.contracts.terms import dataset_id, grant_id, task_id
from sealtrace.protocol.canonical import digest
from sealtrace.protocol.evidence import Kind, Record
from sealtrace.protocol.identifiers import NOBODY, NOTHING, UnixSeconds, hex32
from sealtrace.protocol.lifecycle import TaskState
from sealtrace.protocol.merkle import MerkleTree, leaf_hash
from sealtrace.protocol.receipt import Receipt, input_commitment, result_digest
from sealtrace.protocol.records import BlockRef, Checkpoint, GrantTerms, Protection, TaskTerms, Use

CHAIN_ID = 7
DIRECTORY, CONSORTIUM = "0x" + "d0" * 20, "0x" + "cc" * 20


def h(text):
    return hex32(hashlib.sha256(text.encode()).digest())


def contract(name, generation=0):
    """Where a contract of a generation is."""
    common = {"Directory": DIRECTORY, "Consortium": CONSORTIUM}
    return common.get(name) or f"0x{generation:02x}c" + f"{GENERATION.index(name)}" + "00" * 18


EMITTER = {event.name: name for name in abi.CONTRACTS for event in abi.events(name).values()}
ARGUMENTS = {
    event.name: {each.name for each in (*event.indexed, *event.data)}
    for name in abi.CONTRACTS
    for event in abi.events(name).values()
}

OWNERS = ["0x" + c * 40 for c in "123"]
REQUESTER, OFFICE, REGULATOR_KEY = "0x" + "4" * 40, "0x" + "8" * 40, "0x" + "9" * 40
MEMBER, THIRD, OUTSIDER = ("0x" + c * 40 for c in "756")
ALGORITHM, OTHER_ALGORITHM, PURPOSE = h("algorithm"), h("other algorithm"), h("purpose")
COMMITMENTS = {owner: h("commitment" + owner) for owner in OWNERS}
DATASETS = {owner: dataset_id(owner, COMMITMENTS[owner]) for owner in OWNERS}
GENESIS_TIME, DAY = 1_700_000_000, 86_400
WEEK = 7 * DAY


def grant_of(owner, serial=0, generation=0, **changes):
    """The id of a grant on the usual terms, or on changed ones."""
    said = {"dataset": DATASETS[owner], "algorithm": ALGORITHM, "requester": REQUESTER, "purpose": PURPOSE}
    said |= {key: value for key, value in changes.items() if key in said}
    terms = GrantTerms(
        **said, uses=1, not_before=UnixSeconds(0), expires_at=UnixSeconds(0), protections=Protection(0)
    )
    return grant_id(CHAIN_ID, contract("GrantRegistry", generation), owner, serial, terms)


GRANTS = {owner: grant_of(owner) for owner in OWNERS}


def usual_uses(grants=None, epsilon=0):
    """Each owner's dataset under its own grant."""
    grants = GRANTS | (grants or {})
    return [(i, DATASETS[o], ALGORITHM, grants[o], epsilon) for i, o in enumerate(OWNERS)]


def terms_of(
    word,
    *,
    deadline=GENESIS_TIME + DAY,
    uses=None,
    requester=REQUESTER,
    protections=Protection.MPC_ABY3,
):
    """The terms of the task called ``word``."""
    return TaskTerms(
        requester=requester,
        spec=h("spec" + word),
        purpose=PURPOSE,
        protections=protections,
        deadline=UnixSeconds(deadline),
        parties=tuple(OWNERS),
        uses=tuple(Use(*each) for each in uses or usual_uses()),
    )


def task_of(word, generation=0, **changes):
    """The id of the task called ``word``."""
    return task_id(CHAIN_ID, contract("TaskLedger", generation), terms_of(word, **changes))


COMPLETED, REFUSED, FAILED = task_of("completed"), task_of("refused"), task_of("failed")


class Story:
    """Blocks of one transaction each, two seconds apart, and one evidence log for each owner."""

    def __init__(self, bend=None, twist=None):
        self.bend = bend or (lambda name, args: args)
        self.twist = twist or (lambda node, kind, body: body)
        self.events, self.lines = [], {owner: [] for owner in OWNERS}
        self.number, self.log_index, self.waits = 0, 0, []
        self.generation, self.electorate = 0, 0
        self.clock = 0  # how far the recording node's is ahead of the chain's
        self.members, self.serials, self.meters, self.terms = [], {}, {}, {}

    # chain

    def block(self, number=None):
        number = self.number if number is None else number
        waited = sum(seconds for since, seconds in self.waits if number >= since)
        return BlockRef(number, h(f"block {number}"), GENESIS_TIME + 2 * number + waited)

    def wait(self, seconds):
        """Let the next block come ``seconds`` later."""
        self.waits.append((self.number + 1, seconds))

    @property
    def transaction(self):
        return h(f"transaction {self.number}")

    def mine(self, blocks=1):
        self.number, self.log_index = self.number + blocks, 0
        return self

    def emit(self, name, *, by_contract=None, **args):
        assert set(args) == ARGUMENTS[name], f"{name} has {ARGUMENTS[name]}"
        bent = self.bend(name, args)
        if bent is not None:
            emitter = by_contract or contract(EMITTER[name], self.generation)
            self.events.append(Event(name, emitter, bent, self.block(), self.transaction, self.log_index))
            self.log_index += 1
        return self

    # evidence

    def record(self, node, kind, body, task=None):
        body = self.twist(node, kind.value, body)
        if body is not None:
            index = len(self.lines[node])
            at = self.block().timestamp + self.clock
            record = Record(index=index, at=at, node=node, kind=kind.value, task=task, body=body)
            self.lines[node].append(record.line())

    def anchor(self, node):
        tree = MerkleTree(leaf_hash(line) for line in self.lines[node])
        here = contract("EvidenceAnchor", self.generation)
        anchors = [e.args for e in self.events if e.name == "CheckpointAnchored" and e.contract == here]
        past = [args["size"] for args in anchors if args["node"] == node]
        args = {"size": len(tree), "root": hex32(tree.root()), "previousSize": past[-1] if past else 0}
        self.mine().emit("CheckpointAnchored", node=node, **args)

    # the consortium

    def change_electorate(self, name, **args):
        self.electorate += 1
        return self.emit(name, electorate=self.electorate, **args)

    def rules(self, **changes):
        usual = {"quorum": 50, "votingPeriod": WEEK, "executionPeriod": WEEK, "reviews": 0}
        return self.change_electorate("RulesChanged", **(usual | changes))

    def join(self, who):
        self.members.append(who)
        return self.change_electorate("MemberAdded", member=who)

    def propose(self, word, by=OFFICE):
        proposal = h("proposal" + word)
        said = {"actions": h("actions" + word), "description": h("why" + word)}
        self.mine().emit("Proposed", proposal=proposal, proposer=by, **said)
        self.emit("Voted", proposal=proposal, member=by, yes=True)
        return proposal

    def vote(self, proposal, by, yes=True):
        self.mine().emit("Voted", proposal=proposal, member=by, yes=yes)

    def execute(self, proposal, by=OUTSIDER):
        return self.mine().emit("Executed", proposal=proposal, by=by)

    def decide(self, word):
        """As many members agree as must; what follows in this block is what they agreed to."""
        proposal = self.propose(word)
        for member in self.members[1 : len(self.members) // 2 + 1]:  # no more than are needed
            self.vote(proposal, member)
        return self.execute(proposal)

    # the network

    def found(self, *, members=1, uses=3, **grant):
        self.join(OFFICE).rules()
        for office, holder in ((Office.REGISTRAR, OFFICE), (Office.REGULATOR, REGULATOR_KEY)):
            self.emit("RoleGranted", role=office.id, account=holder, sender=OUTSIDER)
        self.mine().announce(0)
        self.equip()
        for owner in OWNERS:
            self.record(owner, Kind.NODE_OPENED, {"cut_bytes": 0})
            self.grant(owner, uses=uses, **grant)
        for number, who in enumerate([MEMBER, THIRD][: members - 1], 1):
            self.decide(f"member {number}").join(who)
        return self

    def announce(self, generation):
        fields = ("nodes", "datasets", "algorithms", "grants", "ledger", "evidence")
        six = [contract(name, generation) for name in GENERATION]
        return self.emit("GenerationAnnounced", generation=generation, **dict(zip(fields, six, strict=True)))

    def equip(self):
        """Admit everybody and register everything at the present generation."""
        for node, roles in [*((owner, 3) for owner in OWNERS), (REQUESTER, 12)]:
            self.mine().admit(node, roles)
        for algorithm in (ALGORITHM, OTHER_ALGORITHM):
            self.mine().emit("AlgorithmRegistered", algorithm=algorithm, provider=REQUESTER)
        for owner in OWNERS:
            self.mine().dataset(DATASETS[owner], owner, COMMITMENTS[owner])

    def admit(self, node, roles=3, **changes):
        keys = {"tlsFingerprint": FINGERPRINTS.get(node) or h("tls" + node), "encryptionKey": h("enc" + node)}
        return self.emit("NodeAdmitted", node=node, roles=roles, **(keys | changes))

    def dataset(self, key, owner, commitment):
        said = {"commitment": commitment, "schemaHash": h("schema"), "class": 0}
        return self.emit("DatasetRegistered", dataset=key, owner=owner, **said)

    def grant(self, owner, participants=(), **changes):
        """Issue a grant in a block of its own, and return its id."""
        self.mine()
        return self.grant_here(owner, participants, **changes)

    def grant_here(self, owner, participants=(), **changes):
        terms = {
            "dataset": DATASETS[owner],
            "algorithm": ALGORITHM,
            "requester": REQUESTER,
            "purpose": PURPOSE,
            "uses": 3,
            "notBefore": GENESIS_TIME,
            "expiresAt": GENESIS_TIME + DAY,
            "protections": 9,
            "approvalRequired": False,
            "epsilon": 0,
        } | changes
        serial = self.serials.get((self.generation, owner), 0)
        self.serials[self.generation, owner] = serial + 1
        key = grant_of(owner, serial, self.generation, **terms)
        self.meters[key] = [terms["uses"], terms["epsilon"]]
        self.emit("GrantIssued", grant=key, owner=owner, participants=len(participants), **terms)
        for each in participants:
            self.emit("GrantParticipant", grant=key, participant=each)
        return key

    def create(self, word, *, approved=7, here=False, id=None, **changes):
        """Create the task called ``word``, and return its id."""
        terms = terms_of(word, **changes)
        task = id or task_of(word, self.generation, **changes)
        self.terms[task] = terms
        self.mine(0 if here else 1).emit(
            "TaskCreated",
            task=task,
            requester=terms.requester,
            spec=terms.spec,
            purpose=terms.purpose,
            protections=int(terms.protections),
            deadline=terms.deadline,
            parties=3,
            uses=len(terms.uses),
            approved=approved,
        )
        for use in terms.uses:
            self.emit(
                "TaskUseNamed",
                task=task,
                party=OWNERS[use.party],
                epsilon=use.epsilon_millionths,
                dataset=use.dataset,
                algorithm=use.algorithm,
                grant=use.grant,
            )
        for index, owner in enumerate(OWNERS):
            if all(use.party != index for use in terms.uses):
                self.emit("TaskPartyNamed", task=task, party=owner)
        if approved == 7:
            self.emit("TaskAuthorized", task=task)
        return task

    def judge(self, task, owner, denial=None):
        body = {"block_number": self.number, "block_hash": self.block().hash, "denial": denial}
        self.record(owner, Kind.TASK_JUDGED, body, task)

    def commitment(self, task, owner):
        return input_commitment(task, {DATASETS[owner]: COMMITMENTS[owner]}, [ALGORITHM])

    def spend(self, task, owner):
        """What the ledger asks of the grants at a start."""
        for use in self.terms[task].uses_of(owner):
            meter = self.meters.setdefault(use.grant, [3, 0])
            meter[0] -= 1
            meter[1] -= use.epsilon_millionths if meter[1] else 0
            left = {"usesLeft": meter[0], "epsilonLeft": meter[1]}
            self.emit("GrantConsumed", grant=use.grant, task=task, **left)

    def start(self, task, owner, last=False):
        self.judge(task, owner)
        self.mine()
        self.spend(task, owner)
        self.emit("TaskStarted", task=task, party=owner, inputCommitment=self.commitment(task, owner))
        if last:
            self.emit("TaskRunning", task=task)
        body = {"transaction": self.transaction, "input_commitment": self.commitment(task, owner)}
        self.record(owner, Kind.TASK_STARTED, body, task)

    def start_all(self, task):
        for owner in OWNERS:
            self.start(task, owner, last=owner == OWNERS[-1])

    def transcript(self, task, owner):
        step = {"step": "sum", "engine": "mpc", "algorithm": ALGORITHM, "protocol": "ABY3", "rows": 10}
        return {"task": task, "party": owner, "steps": [{**step, "program": h("program")}]}

    def traffic(self, owner):
        def flow(a, b):
            return {"messages": 3, "bytes": 100 + int(a[2]) * 10 + int(b[2]), "digest": h(a + b)[2:]}

        return {
            "peers": [
                {"address": peer, "left": None}
                | {f"sent_{k}": v for k, v in flow(owner, peer).items()}
                | {f"received_{k}": v for k, v in flow(peer, owner).items()}
                for peer in OWNERS
                if peer != owner
            ]
        }

    def run(self, task, owner):
        body = {"transcript": self.transcript(task, owner), "traffic": self.traffic(owner)}
        self.record(owner, Kind.TASK_RAN, body, task)

    def finish(self, task, owner, authority, result=None):
        outputs = {each: h("share" + task + each) for each in OWNERS}
        receipt = Receipt(
            task=task,
            party=owner,
            authority_number=authority.number,
            authority_hash=authority.hash,
            input_commitment=self.commitment(task, owner),
            transcript=digest(self.transcript(task, owner)),
            output=outputs[owner],
            result=result or result_digest(outputs),
        )
        self.mine()
        self.emit("TaskFinished", task=task, party=owner, receipt=receipt.digest(), result=receipt.result)
        body = {"receipt": receipt.model_dump(mode="json"), "receipt_digest": receipt.digest()}
        self.record(owner, Kind.TASK_FINISHED, {**body, "transaction": self.transaction}, task)
        return receipt.result

    def complete(self, word="completed", *, before=(), after=(), results=None, **changes):
        """A task from its creation to its result. ``before`` happens before the starts, ``after`` after."""
        task = self.create(word, **changes)
        self.carry_out(task, before=before, after=after, results=results)
        return task

    def carry_out(self, task, *, before=(), after=(), results=None):
        authority = self.block()
        for name, args in before:
            self.mine().emit(name, **args)
        self.start_all(task)
        for name, args in after:
            self.mine().emit(name, **args)
        for owner in OWNERS:
            self.run(task, owner)
        reported = [self.finish(task, o, authority, (results or {}).get(o)) for o in OWNERS]
        if len(set(reported)) == 1:
            self.emit("TaskCompleted", task=task, result=reported[0])
        else:
            self.emit("TaskDisputed", task=task)
        self.wipe(task)
        return reported[0]

    def acknowledge(self, task, by=REQUESTER, result=None):
        result = result or result_digest({each: h("share" + task + each) for each in OWNERS})
        return self.mine().emit("TaskAcknowledged", task=task, requester=by, result=result)

    def progress(self, task, by, permille=500):
        return self.mine().emit("TaskProgress", task=task, party=by, step=0, permille=permille)

    def wipe(self, task):
        for owner in OWNERS:
            self.record(owner, Kind.TASK_WIPED, {"removed": 4}, task)
            self.anchor(owner)

    def refuse(self, word="refused", reason=34, *, before=()):
        task, owner = self.create(word), OWNERS[0]
        for name, args in before:
            self.mine().emit(name, **args)
        self.judge(task, owner, reason)
        self.mine().emit("TaskRefused", task=task, party=owner, reason=reason)
        body = {"reason": reason, "transaction": self.transaction}
        self.record(owner, Kind.TASK_REFUSED, body, task)
        self.anchor(owner)

    def fail(self, word="failed"):
        task, owner = self.create(word), OWNERS[1]
        self.start_all(task)
        self.mine().emit("TaskFailed", task=task, party=owner, reason=2, blame=0, blamed=NOBODY)
        body = {"reason": 2, "blame": 0, "blamed": None, "transaction": self.transaction}
        self.record(owner, Kind.TASK_FAILED, body, task)
        self.wipe(task)

    # what the auditor is given

    def world(self):
        return replay(self.events)

    def held(self, world, node):
        return [Held(each.size, each.root) for each in world.anchors_of(node)]

    def logs(self, world, *, nodes=OWNERS, spoil=None):
        spoil = spoil or (lambda node, text: text)
        texts = {n: spoil(n, b"".join(line + b"\n" for line in self.lines[n])) for n in nodes}
        return {
            node: read_log(node, text.splitlines(keepends=True), self.held(world, node))
            for node, text in texts.items()
        }

    def proof(self):
        """What is proven of a chain that nobody seals."""
        return Proof(
            Level.RECEIPTS_COMPLETE,
            NOT_SEALED,
            0,
            self.number,
            headers=self.number,
            seals=Seals(missing=NOT_SEALED),
            storage=STORED,
        )

    def whole_proof(self):
        """All that can be proven: as of a chain that its validators seal, and that was executed again."""
        seals = Seals(sealed=True, pinned=(OFFICE,), blocks=self.number, last=(OFFICE,))
        execution = Execution(why="", genesis_hash=NOTHING, blocks=self.number)
        return replace(self.proof(), level=Level.SEALS_CHECKED, reason="", seals=seals, execution=execution)

    def case(self, *, nodes=OWNERS, spoil=None, snapshot=True, proof=None, after=40, **parameters):
        self.mine(after)
        world = self.world()
        return Case(
            chain_id=CHAIN_ID,
            directory=DIRECTORY,
            first=0,
            last=self.block(),
            world=world,
            proof=proof or self.proof(),
            snapshot=snapshot_of(world, self.block()) if snapshot is True else snapshot,
            logs=self.logs(world, nodes=nodes, spoil=spoil),
            cited={n: self.block(n) for n in range(self.number + 1)},
            parameters=Parameters(**({"checkpoint_blocks": 20} | parameters)),
            events=tuple(self.events),
        )


STORED = StorageProof(why="", state_root=NOTHING, slots=1)
"""That contract storage was proven, of a chain that has none."""


def snapshot_of(world, last):
    """Contract storage that is exactly what the events add up to."""

    def stored(task):
        if task.state is TaskState.NONE:
            return None
        masks = task.approved, task.mask(task.starts), task.mask(task.finishes)
        state = task.state_at(last.timestamp)
        return StoredTask(state, task.deadline, *masks, task.agreed(), task.acknowledged is not None)

    governance = world.governance
    return Snapshot(
        consortium=governance.as_stored(),
        offices=frozenset(governance.offices),
        proposals={
            key: governance.proposal_as_stored(each, last.timestamp)
            for key, each in governance.proposals.items()
        },
        generations=tuple(each.contracts for each in world.generations),
        nodes={key: line.last for key, line in world.nodes.items()},
        datasets={key: line.last for key, line in world.datasets.items()},
        algorithms={key: line.last for key, line in world.algorithms.items()},
        grants={key: line.last for key, line in world.grants.items()},
        serials=dict(world.serials),
        tasks={key: stored(task) for key, task in world.tasks.items()},
        closed={each.ledger: each.ledger in world.closed for each in world.generations},
        checkpoints={
            key: Checkpoint(key.id, anchors[-1].size, anchors[-1].root)
            for key, anchors in world.anchors.items()
            if anchors
        },
    )


def at(name, id, generation=0):
    """What the replay knows an object by."""
    return Key(contract(name, generation), id)


def honest(bend=None, twist=None):
    """A network of two members in which one task completed and was acknowledged, one was refused and one
    failed."""
    story = Story(bend, twist).found(members=2)
    story.acknowledge(story.complete())
    story.refuse()
    story.fail()
    return story
