"""A made-up network's history: events and evidence logs, honest unless it is bent on the way.

``bend(name, args)`` sees every event before it happens and ``twist(node, kind, body)`` every record before it
is written; each returns what happens instead, or ``None`` for nothing.
"""

from __future__ import annotations

import hashlib

from sealtrace.auditor.case import Case, Level, Parameters, Proof, Snapshot, StoredTask
from sealtrace.auditor.events import Event
from sealtrace.auditor.evidence import Held, read_log
from sealtrace.auditor.replay import REGISTRAR, REGULATOR, replay
from sealtrace.protocol.canonical import digest
from sealtrace.protocol.evidence import Kind, Record
from sealtrace.protocol.identifiers import NOBODY, hex32
from sealtrace.protocol.lifecycle import TaskState
from sealtrace.protocol.merkle import MerkleTree, leaf_hash
from sealtrace.protocol.receipt import Receipt, input_commitment, result_digest
from sealtrace.protocol.records import BlockRef, Checkpoint, Protection

CHAIN_ID = 7
DIRECTORY = "0x" + "d0" * 20


def h(text):
    return hex32(hashlib.sha256(text.encode()).digest())


OWNERS = ["0x" + c * 40 for c in "123"]
REQUESTER, OFFICE, REGULATOR_KEY = "0x" + "4" * 40, "0x" + "8" * 40, "0x" + "9" * 40
ALGORITHM, OTHER_ALGORITHM, PURPOSE = h("algorithm"), h("other algorithm"), h("purpose")
DATASETS = {owner: h("dataset" + owner) for owner in OWNERS}
GRANTS = {owner: h("grant" + owner) for owner in OWNERS}
COMPLETED, REFUSED, FAILED = h("task completed"), h("task refused"), h("task failed")
GENESIS_TIME, DAY = 1_700_000_000, 86_400


class Story:
    """Blocks of one transaction each, two seconds apart, and one evidence log for each owner."""

    def __init__(self, bend=None, twist=None):
        self.bend = bend or (lambda name, args: args)
        self.twist = twist or (lambda node, kind, body: body)
        self.events, self.lines = [], {owner: [] for owner in OWNERS}
        self.number, self.log_index, self.time = 0, 0, GENESIS_TIME
        self.approving = frozenset()

    # chain

    def block(self, number=None):
        number = self.number if number is None else number
        return BlockRef(number, h(f"block {number}"), GENESIS_TIME + 2 * number)

    @property
    def transaction(self):
        return h(f"transaction {self.number}")

    def mine(self, blocks=1):
        self.number, self.log_index = self.number + blocks, 0
        return self

    def emit(self, name, **args):
        bent = self.bend(name, args)
        if bent is not None:
            event = Event(name, "0x" + "c0" * 20, bent, self.block(), self.transaction, self.log_index)
            self.events.append(event)
            self.log_index += 1
        return self

    # evidence

    def record(self, node, kind, body, task=None):
        body = self.twist(node, kind.value, body)
        if body is not None:
            index = len(self.lines[node])
            record = Record(
                index=index, at=self.block().timestamp, node=node, kind=kind.value, task=task, body=body
            )
            self.lines[node].append(record.line())

    def anchor(self, node):
        tree = MerkleTree(leaf_hash(line) for line in self.lines[node])
        anchors = [e.args for e in self.events if e.name == "CheckpointAnchored"]
        past = [args["size"] for args in anchors if args["node"] == node]
        args = {"size": len(tree), "root": hex32(tree.root()), "previousSize": past[-1] if past else 0}
        self.mine().emit("CheckpointAnchored", node=node, **args)

    # the network

    def found(self, uses=3, **grant):
        self.emit("RoleGranted", role=REGISTRAR, account=OFFICE, sender=OFFICE)
        self.emit("RoleGranted", role=REGULATOR, account=REGULATOR_KEY, sender=OFFICE)
        for node, roles in [*((owner, 3) for owner in OWNERS), (REQUESTER, 12)]:
            self.mine().emit(
                "NodeAdmitted",
                node=node,
                roles=roles,
                tlsFingerprint=h("tls" + node),
                encryptionKey=h("enc" + node),
            )
        for algorithm in (ALGORITHM, OTHER_ALGORITHM):
            self.mine().emit("AlgorithmRegistered", algorithm=algorithm, provider=REQUESTER)
        for owner in OWNERS:
            self.record(owner, Kind.NODE_OPENED, {"cut_bytes": 0})
            self.mine().emit(
                "DatasetRegistered",
                dataset=DATASETS[owner],
                owner=owner,
                commitment=h("commitment" + owner),
                schemaHash=h("schema"),
                **{"class": 0},
            )
            self.grant(owner, uses=uses, **grant)
        return self

    def grant(self, owner, key=None, **changes):
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
        }
        key = key or GRANTS[owner]
        self.mine().emit("GrantIssued", grant=key, owner=owner, **(terms | changes))

    def create(self, task, deadline=GENESIS_TIME + DAY, uses=None, approved=7):
        uses = uses or [(i, DATASETS[o], ALGORITHM, GRANTS[o]) for i, o in enumerate(OWNERS)]
        self.mine().emit(
            "TaskCreated",
            task=task,
            requester=REQUESTER,
            spec=h("spec" + task),
            purpose=PURPOSE,
            protections=int(Protection.MPC_ABY3),
            deadline=deadline,
            parties=3,
            uses=len(uses),
            approved=approved,
        )
        for index, owner in enumerate(OWNERS):
            self.emit("TaskPartyNamed", task=task, party=owner, index=index)
        for index, (party, dataset, algorithm, grant) in enumerate(uses):
            self.emit(
                "TaskUseNamed",
                task=task,
                index=index,
                party=party,
                dataset=dataset,
                algorithm=algorithm,
                grant=grant,
            )
        if approved == 7:
            self.emit("TaskAuthorized", task=task)

    def judge(self, task, owner, denial=None):
        body = {"block_number": self.number, "block_hash": self.block().hash, "denial": denial}
        self.record(owner, Kind.TASK_JUDGED, body, task)

    def commitment(self, task, owner):
        return input_commitment(task, {DATASETS[owner]: h("commitment" + owner)}, [ALGORITHM])

    def start(self, task, owner, last=False):
        self.judge(task, owner)
        self.mine()
        past = [e for e in self.events if e.name == "GrantConsumed" and e.args["grant"] == GRANTS[owner]]
        self.emit("GrantConsumed", grant=GRANTS[owner], task=task, usesLeft=2 - len(past))
        self.emit("TaskStarted", task=task, party=owner, inputCommitment=self.commitment(task, owner))
        if last:
            self.emit("TaskRunning", task=task)
        body = {"transaction": self.transaction, "input_commitment": self.commitment(task, owner)}
        self.record(owner, Kind.TASK_STARTED, body, task)

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

    def complete(self, task=COMPLETED, results=None):
        self.create(task)
        authority = self.block()
        for owner in OWNERS:
            self.start(task, owner, last=owner == OWNERS[-1])
        for owner in OWNERS:
            self.run(task, owner)
        reported = [self.finish(task, o, authority, (results or {}).get(o)) for o in OWNERS]
        if len(set(reported)) == 1:
            self.emit("TaskCompleted", task=task, result=reported[0])
        else:
            self.emit("TaskDisputed", task=task)
        self.wipe(task)

    def wipe(self, task):
        for owner in OWNERS:
            self.record(owner, Kind.TASK_WIPED, {"removed": 4}, task)
            self.anchor(owner)

    def refuse(self, task=REFUSED, reason=34):
        self.create(task)
        owner = OWNERS[0]
        self.judge(task, owner, reason)
        self.mine().emit("TaskRefused", task=task, party=owner, reason=reason)
        body = {"reason": reason, "transaction": self.transaction}
        self.record(owner, Kind.TASK_REFUSED, body, task)
        self.anchor(owner)

    def fail(self, task=FAILED):
        self.create(task)
        for owner in OWNERS:
            self.start(task, owner, last=owner == OWNERS[-1])
        owner = OWNERS[1]
        self.mine().emit("TaskFailed", task=task, party=owner, reason=2, blame=0, blamed=NOBODY)
        body = {"reason": 2, "blame": 0, "blamed": None, "transaction": self.transaction}
        self.record(owner, Kind.TASK_FAILED, body, task)
        self.wipe(task)

    # what the auditor is given

    def world(self):
        return replay(self.events)

    def held(self, world, node):
        return [Held(each.size, each.root) for each in world.anchors.get(node, ())]

    def logs(self, world, *, nodes=OWNERS, spoil=None):
        spoil = spoil or (lambda node, text: text)
        texts = {n: spoil(n, b"".join(line + b"\n" for line in self.lines[n])) for n in nodes}
        return {
            node: read_log(node, text.splitlines(keepends=True), self.held(world, node))
            for node, text in texts.items()
        }

    def case(self, *, nodes=OWNERS, spoil=None, snapshot=True, proof=None, after=40, **parameters):
        self.mine(after)
        world = self.world()
        return Case(
            chain_id=CHAIN_ID,
            directory=DIRECTORY,
            first=0,
            last=self.block(),
            world=world,
            proof=proof or Proof(Level.RECEIPTS_COMPLETE, "", 0, self.number, headers=self.number),
            snapshot=snapshot_of(world, self.block()) if snapshot is True else snapshot,
            logs=self.logs(world, nodes=nodes, spoil=spoil),
            cited={n: self.block(n) for n in range(self.number + 1)},
            parameters=Parameters(**({"checkpoint_blocks": 20} | parameters)),
        )


def snapshot_of(world, last):
    """Contract storage that is exactly what the events add up to."""

    def stored(task):
        if task.state is TaskState.NONE:
            return None
        fake = h("terms" + task.id)
        masks = task.approved, task.mask(task.starts), task.mask(task.finishes)
        state = task.state_at(last.timestamp)
        return StoredTask(task.requester, state, task.deadline, *masks, task.agreed(), fake, fake)

    return Snapshot(
        nodes={key: line.last for key, line in world.nodes.items()},
        datasets={key: line.last for key, line in world.datasets.items()},
        algorithms={key: line.last for key, line in world.algorithms.items()},
        grants={key: line.last for key, line in world.grants.items()},
        tasks={key: stored(task) for key, task in world.tasks.items()},
        checkpoints={
            key: Checkpoint(key, anchors[-1].size, anchors[-1].root)
            for key, anchors in world.anchors.items()
            if anchors
        },
    )


def honest(bend=None, twist=None):
    """A network in which one task completed, one was refused and one failed."""
    story = Story(bend, twist).found()
    story.complete()
    story.refuse()
    story.fail()
    return story
