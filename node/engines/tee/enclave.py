"""The process of a task's enclave: ``python -m sealtrace.node.engines.tee.enclave JOBDIR``.

It makes a fresh key, states what it is, and waits. Once the task runs it opens the owners' inputs in memory,
runs the measured bundle in the sandbox, seals what the policies let out for the requester, erases the inputs
and states what it did. It leaves ``output.sealed`` and ``transcript.json``, or ``error.json``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sealtrace.algorithms.bundles import Bundle
from sealtrace.algorithms.pads import pads_of, value_of_pads
from sealtrace.algorithms.shares import encode_enclave_share, encode_output
from sealtrace.node.engines.errors import (
    BadJob,
    ProtocolViolated,
    SessionCut,
)
from sealtrace.node.engines.tee.ahead import ReceivingAhead
from sealtrace.node.engines.tee.channel import Channel
from sealtrace.node.engines.tee.configs import held_values
from sealtrace.node.engines.tee.confinement import Confinement, probe
from sealtrace.node.engines.tee.evidencing import Witness
from sealtrace.node.engines.tee.execution import Executed, Given, execute, looked_for
from sealtrace.node.engines.tee.inside.inputs import TableUnfit
from sealtrace.node.engines.tee.job import (
    CONFIG,
    FINAL,
    METRICS,
    STATEMENT,
    EnclaveInput,
    EnclaveJob,
    read_tee_job,
)
from sealtrace.node.engines.tee.limits import MIB, Limits
from sealtrace.node.engines.tee.measuring import runtime_digest
from sealtrace.node.engines.tee.memory import harden
from sealtrace.node.engines.tee.opened import Opened, opened
from sealtrace.node.engines.tee.sealing import is_last
from sealtrace.node.engines.tee.tabled import Tabled, tabled
from sealtrace.node.engines.tee.tasks import check_enclave_step, hold_to_specification
from sealtrace.node.engines.tee.telling import Telling
from sealtrace.node.engines.tee.words import DATA, HELLO, OFFER, PART, WORD, return_nonce
from sealtrace.node.engines.workplace import CONNECTING, OUTPUT, TRANSCRIPT, live, tell, write
from sealtrace.protocol.attestation import eventlog
from sealtrace.protocol.attestation.appraisal import Stage
from sealtrace.protocol.attestation.eventlog import Event
from sealtrace.protocol.attestation.policy import AttestationPolicy, read_policy
from sealtrace.protocol.attestation.statement import Statement
from sealtrace.protocol.canonical import canonical, sha256
from sealtrace.protocol.envelope import seal
from sealtrace.protocol.identifiers import Address, Hex32, hex32, raw
from sealtrace.protocol.sealed_stream import Header
from sealtrace.protocol.secret_config import BadSecretConfig, ConfigUnfit, read_secret_config


@dataclass(slots=True)
class Enclave:
    """An enclave under way."""

    job: EnclaveJob
    folder: Path
    bundle: Bundle
    key: X25519PrivateKey
    confinement: Confinement
    witness: Witness
    events: list[Event]
    first: Statement | None = None
    policies: dict[str, AttestationPolicy] = field(default_factory=dict)
    """The owners' policies, by input."""
    inputs: dict[str, Opened] = field(default_factory=dict)

    def state(self, stage: Stage) -> Statement:
        """What the platform's evidence says of the run so far."""
        return self.witness.state(stage, tuple(self.events))


def run(folder: Path) -> None:
    """Carry one enclave to its end.

    1. Make a key, and state what will run: the statement is left in the folder.
    2. Wait for the word that the task runs, and where this node's gateway is.
    3. Ask each owner for its inputs, and open them in memory.
    4. Run the bundle in the sandbox; hold what comes out to the policies; seal it for the requester.
    5. Erase the inputs; state what was done; tell every owner, with its part of what the task keeps.

    Raises:
        EngineError: one of its kinds.
    """
    job = read_tee_job(folder, EnclaveJob)
    harden()
    enclave = _begun(job, folder)
    enclave.first = enclave.state(Stage.RELEASE)
    write(folder / STATEMENT, enclave.first.document())
    gateway = _told_to_go()
    tell(folder, CONNECTING)
    with Channel(gateway["url"], gateway["token"], job.task, job.party, job.timeouts) as channel:
        outputs = {owner: _greeted(channel, job, owner) for owner in job.owners}
        tell(folder, "opening", job.step)
        for each in job.inputs:
            _open(enclave, channel, each)
        tell(folder, "running", job.step)
        given, kept, account = _computed(enclave)
        tell(folder, "sealing")
        _finish(enclave, channel, outputs, given, kept, account)
    tell(folder, "done")


def _begun(job: EnclaveJob, folder: Path) -> Enclave:
    bundle = check_enclave_step(hold_to_specification(job), Path(job.bundle))
    key = X25519PrivateKey.generate()
    confinement, runtime = probe(), runtime_digest()
    events = [eventlog.runtime(runtime), eventlog.algorithm(bundle.digest), eventlog.config(job.spec)]
    events += [eventlog.policy(each) for each in sorted({each.policy for each in job.inputs})]
    witness = Witness(job, key.public_key().public_bytes_raw(), runtime, confinement)
    return Enclave(job, folder, bundle, key, confinement, witness, events)


def _told_to_go() -> dict[str, str]:
    """The word of the node that the task runs: a line on standard input, before it ends.

    Raises:
        SessionCut: the task does not come to run.
    """
    line = sys.stdin.readline()
    if not line:
        raise SessionCut("the task did not come to run")
    said: dict[str, str] = json.loads(line)
    return said


def _greeted(channel: Channel, job: EnclaveJob, owner: Address) -> Hex32:
    """The digest of what ``owner`` delivers to the requester."""
    said = channel.hear(owner, HELLO, wait_ms=job.timeouts.connect_ms)
    try:
        return hex32(said["output"])
    except (KeyError, ValueError, AttributeError) as error:
        raise ProtocolViolated(f"{owner} does not say what it delivers", peer=owner) from error


def _open(enclave: Enclave, channel: Channel, given: EnclaveInput) -> None:
    """Ask the owner for one input, and open it."""
    job = enclave.job
    assert enclave.first is not None  # noqa: S101 - nothing is opened before it was stated
    channel.say(given.party, WORD, {"send": given.name})
    offer = channel.hear(given.party, OFFER)
    header = Header(job.task, given.dataset, job.algorithm, enclave.first.digest)
    enclave.policies[given.name] = _policy(offer, given)
    receiving = ReceivingAhead(lambda: channel.pop(given.party, DATA), is_last)
    taken = opened(
        offer,
        receiving.receive,
        enclave.key,
        header,
        given.party,
        job.memory_mib * MIB,
    )
    enclave.inputs[given.name] = taken
    enclave.events.append(eventlog.took_input(given.dataset, taken.digest))


def _policy(offer: Mapping[str, Any], given: EnclaveInput) -> AttestationPolicy:
    """The owner's policy, which must be the one that the evidence names."""
    try:
        policy = read_policy(str(offer["policy"]).encode())
    except (KeyError, ValueError) as error:
        raise ProtocolViolated(f"{given.party} sent no policy: {error}", peer=given.party) from error
    if policy.digest() != given.policy:
        raise ProtocolViolated(f"{given.party} sent another policy than the task names", peer=given.party)
    return policy


@dataclass(frozen=True, slots=True)
class _Account:
    """What the transcript says of the run."""

    rows: dict[str, int]
    done: Executed


def _computed(enclave: Enclave) -> tuple[dict[str, Any], dict[str, bytes], _Account]:
    """Run the bundle: what the requester is given, what is kept, and how it went."""
    job = enclave.job
    secret = {each.name: _values(enclave, each) for each in job.inputs if each.kind == CONFIG}
    with ThreadPoolExecutor() as threads:
        read = [(each.name, threads.submit(_tabled, enclave, each)) for each in job.inputs if each.is_table]
    held_tables = {name: each.result() for name, each in read}
    tables = {name: each.table for name, each in held_tables.items()}
    narrowings = tuple(each.narrowing for each in enclave.policies.values())
    held = looked_for(enclave.bundle, narrowings, tables, secret)
    models = {role: _model(enclave, value) for role, value in job.uses.items()}
    plain = {name: Opened.of(canonical(values)) for name, values in secret.items()}
    telling = Telling(enclave.folder / METRICS, job.task, job.party, job.requester_key)
    done = execute(
        enclave.bundle,
        job.params,
        {
            **{name: each.given for name, each in held_tables.items()},
            **{role: Given(model.descriptor, "model") for role, model in models.items()},
            **{name: Given(values.descriptor, CONFIG) for name, values in plain.items()},
        },
        held,
        narrowings=narrowings,
        report=telling.report,
        limits=Limits(memory_bytes=job.memory_mib * MIB),
        offer=enclave.confinement,
    )
    telling.flush()
    rows = {name: table.rows for name, table in tables.items()}
    for made in (*models.values(), *plain.values()):
        made.erase()
    for each in held_tables.values():
        each.erase()
    return done.outputs, _withheld(job, done.outputs), _Account(rows, done)


def _withheld(job: EnclaveJob, outputs: dict[str, Any]) -> dict[str, bytes]:
    """Take what the task keeps out of ``outputs``."""
    if missing := set(job.keep.values()) - set(outputs):
        raise BadJob(f"step {job.step} gives no {min(missing)!r}, which the task keeps")
    return {name: canonical(outputs.pop(source)) for name, source in job.keep.items()}


def _tabled(enclave: Enclave, given: EnclaveInput) -> Tabled:
    try:
        return tabled(enclave.inputs[given.name], given.id_column or None, enclave.bundle)
    except TableUnfit as error:
        raise ProtocolViolated(f"input {given.name}: {error}", peer=given.party) from error


def _values(enclave: Enclave, given: EnclaveInput) -> dict[str, Any]:
    """The secret values that the owner sent, held to what the measured manifest commits to."""
    try:
        config = read_secret_config(enclave.inputs[given.name].content())
        return held_values(config, enclave.bundle.manifest)
    except (BadSecretConfig, ConfigUnfit) as error:
        raise ProtocolViolated(f"input {given.name}: {error}", peer=given.party) from error


def _model(enclave: Enclave, value: str) -> Opened:
    """A kept value, put together from all its parts."""
    parts = {
        each.party: enclave.inputs[each.name].content()
        for each in enclave.job.inputs
        if each.part_of == value
    }
    try:
        return Opened.of(value_of_pads(parts))
    except ValueError as error:
        raise ProtocolViolated(f"{value}: {error}") from error


def _finish(
    enclave: Enclave,
    channel: Channel,
    outputs: dict[Address, Hex32],
    given: Mapping[str, Any],
    kept: Mapping[str, bytes],
    account: _Account,
) -> None:
    """Seal, erase, state, and tell everybody.

    What is sealed names no statement, and the last statement names what was sealed: so the requester, who has
    both, holds one to the other.
    """
    job = enclave.job
    share = encode_enclave_share(job.task, job.step, sum(account.rows.values()), given)
    header = {"task": job.task, "party": job.party, "kind": "share"}
    sealed = seal(encode_output({job.step: share}), raw(job.requester_key), header)
    outputs = {**outputs, job.party: sha256(sealed)}
    enclave.events.append(eventlog.gave_output(outputs[job.party]))
    parts = {
        name: pads_of(value, job.task, f"{job.step}.{job.keep[name]}", job.owners)
        for name, value in kept.items()
    }
    enclave.events.append(eventlog.destroyed(each.dataset for each in job.inputs))
    for each in enclave.inputs.values():
        each.erase()
    final = enclave.state(Stage.FINAL)
    write(enclave.folder / FINAL, final.document())
    for owner in job.owners:
        own = _parts(enclave, owner, parts)
        word = {"statement": final.document().decode(), "outputs": outputs, "parts": list(own)}
        channel.say(owner, WORD, word)
        for part in own.values():
            channel.push(owner, PART, part)
    write(enclave.folder / OUTPUT, sealed)
    said = {
        "rows": account.rows,
        "barriers": sorted(account.done.confinement.barriers),
        "rounds": account.done.rounds,
    }
    assert enclave.first is not None  # noqa: S101 - nothing was opened before it was stated
    write(enclave.folder / TRANSCRIPT, canonical(job.transcript(said, outputs, enclave.first, final)))


def _parts(
    enclave: Enclave, owner: Address, parts: Mapping[str, Mapping[Address, bytes]]
) -> dict[str, bytes]:
    """The owner's parts of what is kept, each under a key that this owner alone knows beside the enclave."""
    name = next(each.name for each in enclave.job.inputs if each.party == owner)
    cipher = AESGCM(enclave.inputs[name].return_key)
    return {
        value: cipher.encrypt(return_nonce(number), each[owner], None)
        for number, (value, each) in enumerate(sorted(parts.items()))
    }


if __name__ == "__main__":
    live(sys.argv[1:], run)
