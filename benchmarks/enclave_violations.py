"""Tasks in enclaves that violate one rule each: what the enclave, its party or an owner does otherwise."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any, Final

from auditor_story import ALGORITHM, DATASETS, OWNERS, h
from enclave_keys import KEYS
from enclave_story import DATA_OWNERS, HOST, SGX, EnclaveTask

from sealtrace.protocol.attestation import eventlog
from sealtrace.protocol.attestation.appraisal import Stage
from sealtrace.protocol.attestation.evidence import Kind
from sealtrace.protocol.attestation.policy import Image, Platform
from sealtrace.protocol.receipt import input_commitment, result_digest
from sealtrace.protocol.records import Protection

A = OWNERS[0]


class _NotJudged(EnclaveTask):
    def judged(self, owner: str) -> Any:
        return {} if owner == A else super().judged(owner)


class _EndNotJudged(EnclaveTask):
    def judged_final(self, owner: str) -> Any:
        return {} if owner == A else super().judged_final(owner)


class _BindsNothing(EnclaveTask):
    def bound(self, party: str) -> Any:
        return input_commitment(self.task, {}, [ALGORITHM]) if party == HOST else super().bound(party)


class _OwnerBindsAnother(EnclaveTask):
    def bound(self, party: str) -> Any:
        other = input_commitment(self.task, {DATASETS[A]: h("other")}, [ALGORITHM], self.first.digest)
        return other if party == A else super().bound(party)


class _StartsLast(EnclaveTask):
    def order(self) -> list[str]:
        return [*DATA_OWNERS, HOST]


class _OfAnotherTask(EnclaveTask):
    def challenge(self, stage: Stage) -> Any:
        return replace(super().challenge(stage), task=h("another task"))


class _OfAnotherBlock(EnclaveTask):
    def challenge(self, stage: Stage) -> Any:
        return replace(super().challenge(stage), block=h("another block"))


class _Stale(EnclaveTask):
    def create(self) -> None:
        super().create()
        self.issued = self.story.block(self.story.number - 10)


class _OtherSpecification(EnclaveTask):
    def begun(self) -> Any:
        runtime, algorithm, _, *policies = super().begun()
        return (runtime, algorithm, eventlog.config(h("another specification")), *policies)


class _NotDestroyed(EnclaveTask):
    def ended(self) -> Any:
        return super().ended()[:-1]


class _OneKept(EnclaveTask):
    def ended(self) -> Any:
        *before, given, _ = super().ended()
        opened = [event for event in before if event.subject != DATASETS[A]]
        return (*opened, given, eventlog.destroyed([DATASETS[o] for o in DATA_OWNERS if o != A]))


class _AnotherEnclave(EnclaveTask):
    def challenge(self, stage: Stage) -> Any:
        honest = super().challenge(stage)
        return replace(honest, key=hashlib.sha256(stage.encode()).digest())


class _OtherOutput(EnclaveTask):
    def ended(self) -> Any:
        *before, _, destroyed = super().ended()
        return (*before, eventlog.gave_output(h(f"other {self.word}")), destroyed)


class _ResultWithout(EnclaveTask):
    def result(self) -> Any:
        return result_digest(self.outputs())


class _SignedByAnother(EnclaveTask):
    def signed(self, claims: Any, owner: str) -> Any:
        return super().signed(claims, HOST if owner == A else owner)


class _Flattering(EnclaveTask):
    def signed(self, claims: Any, owner: str) -> Any:
        if owner == A:
            (module,) = claims["submods"].values()
            module["ear.status"] = "affirming"
            module["ear.trustworthiness-vector"] = dict.fromkeys(module["ear.trustworthiness-vector"], 2)
        return super().signed(claims, owner)


HARDWARE_ONLY: Final = {
    "protection": Protection.TEE_HARDWARE,
    "allowed": int(Protection.TEE_HARDWARE),
    "policy": {"platforms": (Platform.HARDWARE,), "images": (SGX,)},
}
_OTHER_IMAGE: Final = Image(kind=Kind.SOFTWARE, measurements={"runtime": "00" * 32})

ENCLAVE_FAULTS: Final[dict[str, tuple[str, type[EnclaveTask], dict[str, Any]]]] = {
    "enclave not judged": ("EV-E01", _NotJudged, {}),
    "enclave's end not judged": ("EV-E01", _EndNotJudged, {}),
    "enclave's start binds no statement": ("EV-E02", _BindsNothing, {}),
    "owner's start binds other input": ("EV-E02", _OwnerBindsAnother, {}),
    "enclave started last": ("EV-E02", _StartsLast, {}),
    "simulated where hardware is due": ("EV-E03", EnclaveTask, HARDWARE_ONLY),
    "image that no policy takes": ("EV-E03", EnclaveTask, {"policy": {"images": (_OTHER_IMAGE,)}}),
    "stale evidence": ("EV-E03", _Stale, {"policy": {"max_age_blocks": 5}}),
    "forged evidence": ("EV-E03", EnclaveTask, {"signer": KEYS[A]}),
    "evidence of another task": ("EV-E03", _OfAnotherTask, {}),
    "evidence of another block": ("EV-E03", _OfAnotherBlock, {}),
    "enclave over another specification": ("EV-E03", _OtherSpecification, {}),
    "destruction not recorded": ("EV-E04", _NotDestroyed, {}),
    "input not destroyed": ("EV-E04", _OneKept, {}),
    "enclave replaced": ("EV-E04", _AnotherEnclave, {}),
    "output not the enclave's": ("EV-E05", _OtherOutput, {}),
    "result without the statement": ("EV-E05", _ResultWithout, {}),
    "attestation result of another": ("EV-E06", _SignedByAnother, {}),
    "flattering attestation result": ("EV-E06", _Flattering, {}),
}
"""By name: the rule that is broken, and the task that breaks it."""
