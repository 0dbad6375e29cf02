"""A task in an enclave at the third owner's node, on the network of :mod:`auditor_story`.

Honest as it stands; a subclass, or a changed field, does one thing otherwise.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import Any

from auditor_story import ALGORITHM, COMMITMENTS, DATASETS, DAY, OWNERS, Story, h
from enclave_keys import CERTIFICATES, FINGERPRINTS, KEYS
from simulated_enclave import measured, stated, worked

from sealtrace.auditor.statements import Statements
from sealtrace.protocol.attestation.appraisal import Stage
from sealtrace.protocol.attestation.binding import Challenge, Moment
from sealtrace.protocol.attestation.evidence import Kind
from sealtrace.protocol.attestation.policy import AttestationPolicy, Image, Platform
from sealtrace.protocol.attestation.results import VerifierId, result_claims, sign_result
from sealtrace.protocol.attestation.statement import Statement
from sealtrace.protocol.canonical import digest, sha256
from sealtrace.protocol.evidence import Kind as Recorded
from sealtrace.protocol.receipt import Receipt, input_commitment, result_digest
from sealtrace.protocol.records import Protection
from sealtrace.protocol.security import of_step

DATA_OWNERS, HOST = OWNERS[:2], OWNERS[2]
RUNTIME = h("runtime")
SIMULATED = Image(kind=Kind.SOFTWARE, measurements={"runtime": RUNTIME[2:]})
ALL_CERTIFICATES = tuple(CERTIFICATES.values())
SGX = Image(kind=Kind.SGX, measurements={"mr_enclave": "00" * 32})


def policy_of(owner, **changes):
    """What an owner's grants accept, each owner's another one."""
    usual = {"platforms": (Platform.SIMULATED,), "images": (SIMULATED,), "max_age_blocks": 100}
    return AttestationPolicy(**{**usual, "max_age_s": 3000 + OWNERS.index(owner), **changes})


@dataclass
class EnclaveTask:
    """One task in an enclave while it is made up. ``kept`` takes what the enclave states, by digest."""

    story: Story
    word: str
    kept: dict[Any, Statement] = field(default_factory=dict)
    protection: Protection = Protection.TEE_SIMULATED
    allowed: int = 128
    """What the grants allow."""
    policy: dict[str, Any] = field(default_factory=dict)
    signer: Any = KEYS[HOST]
    grant: dict[str, Any] = field(default_factory=dict)
    task: Any = None
    grants: dict[str, Any] = field(default_factory=dict)

    def policies(self):
        return {owner: policy_of(owner, **self.policy) for owner in DATA_OWNERS}

    def bring_keys_back(self):
        """Whoever's keys were rotated rotates them to those that this module has."""
        for node, fingerprint in FINGERPRINTS.items():
            events = [each for each in self.story.events if each.name == "NodeKeysRotated"]
            before = [each for each in events if each.args["node"] == node]
            if before and before[-1].args["tlsFingerprint"] != fingerprint:
                keys = {"tlsFingerprint": fingerprint, "encryptionKey": h(f"enc of {self.word} {node}")}
                self.story.mine().emit("NodeKeysRotated", node=node, version=len(before) + 1, **keys)

    def issue(self):
        """A grant of each owner's own, with its policy in the owner's log."""
        self.bring_keys_back()
        for owner, policy in self.policies().items():
            grant = self.story.grant(owner, protections=self.allowed, **self.grant)
            said = {"policy": policy.digest(), "policy_text": policy.text().decode()}
            body = {"grant": grant, "transaction": self.story.transaction, **said}
            self.story.record(owner, Recorded.GRANT_ISSUED, body)
            self.grants[owner] = grant

    def create(self):
        uses = [(i, DATASETS[o], ALGORITHM, self.grants[o], 0) for i, o in enumerate(DATA_OWNERS)]
        deadline = self.story.block().timestamp + DAY
        how = {"uses": uses, "deadline": deadline, "protections": self.protection}
        self.task = self.story.create(self.word, **how)
        self.issued = self.story.block()

    # what the enclave states

    def begun(self):
        named = [policy.digest() for policy in self.policies().values()]
        return measured(RUNTIME, ALGORITHM, self.story.terms[self.task].spec, named)

    def ended(self):
        opened = {DATASETS[owner]: h(f"opened {owner} {self.word}") for owner in DATA_OWNERS}
        return (*self.begun(), *worked(opened, self.outputs()[HOST]))

    def challenge(self, stage):
        key = hashlib.sha256(f"key {self.word}".encode()).digest()
        moment = Moment(self.issued.timestamp, self.issued.number)
        return Challenge(self.task, self.issued.hash, moment, key, ALGORITHM)

    def stated(self, stage):
        """What the enclave states at a stage; it is kept."""
        events = self.begun() if stage is Stage.RELEASE else self.ended()
        challenge = self.challenge(stage)
        made = stated(stage, HOST, self.signer, CERTIFICATES[HOST], challenge, events, RUNTIME)
        self.kept[made.digest] = made
        return made

    # what parties do and record

    def outputs(self):
        return {each: h(f"share {self.word} {each}") for each in OWNERS}

    def bound(self, party):
        """What a party's start binds."""
        inputs = {DATASETS[party]: COMMITMENTS[party]} if party in DATA_OWNERS else {}
        return input_commitment(self.task, inputs, [ALGORITHM], self.first.digest)

    def appraised(self, owner, statement):
        """What an owner records of a judgement at the present block."""
        block, policy = self.story.block(), self.policies()[owner]
        appraisal = statement.judged(policy, Moment(block.timestamp, block.number))
        claims = result_claims(appraisal, statement.challenge, VerifierId(owner, "sealtrace test"))
        said = {"policy": policy.digest(), "kind": appraisal.kind, "result": self.signed(claims, owner)}
        return {f"p{OWNERS.index(owner)}": said}

    def signed(self, claims, owner):
        return sign_result(claims, KEYS[owner])

    def order(self):
        """In which parties start."""
        return [HOST, *DATA_OWNERS]

    def judge(self, party):
        block = self.story.block()
        body = {"block_number": block.number, "block_hash": block.hash, "denial": None}
        if party in DATA_OWNERS:
            body |= self.judged(party)
        self.story.record(party, Recorded.TASK_JUDGED, body, self.task)
        return block

    def judged(self, owner):
        """What an owner's judgement says of the enclave."""
        return {"attested": self.first.digest, "appraisals": self.appraised(owner, self.first)}

    def judged_final(self, owner):
        """What an owner's record of the run says of the enclave."""
        said = {"appraisals": self.appraised(owner, self.final), "block_number": self.story.number}
        return {"attestation": said}

    def start(self, party, last=False):
        authority = self.judge(party)
        self.story.mine()
        self.story.spend(self.task, party)
        self.story.emit("TaskStarted", task=self.task, party=party, inputCommitment=self.bound(party))
        if last:
            self.story.emit("TaskRunning", task=self.task)
        body = {"transaction": self.story.transaction, "input_commitment": self.bound(party)}
        self.story.record(party, Recorded.TASK_STARTED, body, self.task)
        return authority

    def step(self):
        protocol = "HARDWARE" if self.protection is Protection.TEE_HARDWARE else "SIMULATED"
        said = {"step": "train", "engine": "tee", "algorithm": ALGORITHM, "protocol": protocol}
        return {**said, "security": of_step("tee", protocol).words}

    def transcript(self, party):
        return {
            "task": self.task,
            "party": party,
            "parties": list(OWNERS),
            "steps": [self.step()],
            "outputs": self.outputs(),
            "statements": {"release": self.first.digest, "final": self.final.digest},
            "result": self.result(),
        }

    def result(self):
        return result_digest(self.outputs(), self.final.digest)

    def receipt(self, party, authority):
        return Receipt(
            task=self.task,
            party=party,
            authority_number=authority.number,
            authority_hash=authority.hash,
            input_commitment=self.bound(party),
            transcript=digest(self.transcript(party)),
            output=self.outputs()[party],
            result=self.result(),
        )

    def run(self, party, authority):
        told = self.receipt(party, authority).model_dump(mode="json")
        body = {"transcript": self.transcript(party), "receipt": told, "traffic": self.story.traffic(party)}
        if party in DATA_OWNERS:
            body |= self.judged_final(party)
        self.story.record(party, Recorded.TASK_RAN, body, self.task)

    def finish(self, party, authority):
        receipt = self.receipt(party, authority)
        self.story.mine()
        said = {"receipt": receipt.digest(), "result": receipt.result}
        self.story.emit("TaskFinished", task=self.task, party=party, **said)
        body = {"receipt": receipt.model_dump(mode="json"), "receipt_digest": receipt.digest()}
        self.story.record(
            party, Recorded.TASK_FINISHED, {**body, "transaction": self.story.transaction}, self.task
        )

    def carry_out(self):
        """From the grants to the end; returns the task's id."""
        self.issue()
        self.create()
        self.first = self.stated(Stage.RELEASE)
        order = self.order()
        authorities = {party: self.start(party, party == order[-1]) for party in order}
        self.story.mine(5)
        self.final = self.stated(Stage.FINAL)
        for party in OWNERS:
            self.run(party, authorities[party])
        for party in OWNERS:
            self.finish(party, authorities[party])
        self.story.emit("TaskCompleted", task=self.task, result=self.result())
        self.story.wipe(self.task)
        return self.task


def with_statements(case, kept, certificates=ALL_CERTIFICATES):
    """The case of an auditor who was handed what enclaves stated, beside what it had."""
    known = {sha256(text): text for text in certificates}
    return replace(case, statements=Statements({**case.statements.found, **kept}, {}, known))
