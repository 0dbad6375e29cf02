"""An owner's process of a task in an enclave: ``python -m sealtrace.node.engines.tee.owner JOBDIR``.

Its node has judged the enclave's statement. It seals the inputs to the key in that statement, when it is
asked for them, and takes the last statement, what the task keeps and what all parties deliver. It leaves
``output.sealed`` (which holds no share), ``transcript.json`` and the last statement, or ``error.json``.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sealtrace.algorithms.frames import BadShare
from sealtrace.algorithms.kept import SUFFIX, read_header
from sealtrace.algorithms.pads import why_no_pad
from sealtrace.algorithms.shares import encode_output
from sealtrace.node.engines.errors import BadInput, BadJob, ProtocolViolated
from sealtrace.node.engines.tables import places, table_rows
from sealtrace.node.engines.tee.ahead import SendingAhead
from sealtrace.node.engines.tee.channel import Channel
from sealtrace.node.engines.tee.job import FINAL, OwnerInput, OwnerJob, read_tee_job
from sealtrace.node.engines.tee.sealing import Blinded, Blinding, Pushed, Secrets, fresh_prefix
from sealtrace.node.engines.tee.words import DATA, HELLO, OFFER, PART, WORD, return_nonce
from sealtrace.node.engines.workplace import CONNECTING, KEPT, OUTPUT, TRANSCRIPT, live, tell, write
from sealtrace.protocol.attestation.appraisal import Stage
from sealtrace.protocol.attestation.eventlog import EventKind
from sealtrace.protocol.attestation.refusals import EvidenceRefused
from sealtrace.protocol.attestation.statement import Statement, read_statement, why_another
from sealtrace.protocol.canonical import canonical, sha256
from sealtrace.protocol.envelope import seal
from sealtrace.protocol.identifiers import Address, Hex32, hex32, raw
from sealtrace.protocol.sealed_stream import Header, Source
from sealtrace.protocol.sealed_stream import seal as seal_stream


def run(folder: Path) -> None:
    """Carry one owner's part to its end.

    Raises:
        EngineError: one of its kinds.
    """
    job = read_tee_job(folder, OwnerJob)
    first = _first(job)
    share = {"task": job.task, "party": job.party, "kind": "share"}
    sealed = seal(encode_output({}), raw(job.requester_key), share)
    tell(folder, CONNECTING)
    with Channel(job.gateway_url, job.gateway_token, job.task, job.party, job.timeouts) as channel:
        channel.say(job.enclave, HELLO, {"output": sha256(sealed)})
        sent, said = _served(channel, job, first, folder)
        final = _final(job, first, said, sent)
        outputs = _outputs(job, final, said, sha256(sealed))
        kept = _take_parts(channel, job, said, sent, folder)
    write(folder / FINAL, final.document())
    write(folder / OUTPUT, sealed)
    write(folder / TRANSCRIPT, canonical(_transcript(job, first, final, sent, outputs, kept)))
    tell(folder, "done")


class _Sent:
    """What was sealed for the enclave: the digest in its log, and the key under which parts come back."""

    def __init__(self, secrets: Secrets) -> None:
        self.secrets = secrets
        self.blinded = Blinded(secrets.nonce)


def _first(job: OwnerJob) -> Statement:
    try:
        return read_statement(job.statement.encode())
    except EvidenceRefused as error:
        raise BadJob(f"the enclave's statement: {error}") from error


def _served(
    channel: Channel, job: OwnerJob, first: Statement, folder: Path
) -> tuple[dict[str, _Sent], Mapping[str, Any]]:
    """Send each input that the enclave asks for, once; return what it says at its end."""
    own, sent = {each.name: each for each in job.inputs}, dict[str, _Sent]()
    while True:
        said = channel.hear(job.enclave, WORD, wait_ms=job.timeouts.wait_ms)
        if "send" not in said:
            return sent, said
        name = said["send"]
        if not isinstance(name, str) or name not in own or name in sent:
            raise ProtocolViolated("the enclave asks for what it was not granted, or twice", peer=job.enclave)
        tell(folder, "sending", job.step)
        sent[name] = _send(channel, job, first, own[name])
        tell(folder, "waiting", job.step)


def _send(channel: Channel, job: OwnerJob, first: Statement, given: OwnerInput) -> _Sent:
    header = Header(job.task, given.dataset, job.algorithm, first.digest)
    sent = _Sent(Secrets.fresh())
    wrapped = sent.secrets.wrapped(first.challenge.key, header)
    channel.say(job.enclave, OFFER, {"policy": given.policy_text, "wrapped": wrapped.hex()})
    sending = SendingAhead(lambda piece: channel.push(job.enclave, DATA, piece))
    target = Pushed(sending.send)
    with _granted(given) as source:
        seal_stream(Blinding(source, sent.blinded), target, sent.secrets.data_key, fresh_prefix(), header)
    target.end()
    sending.finish()
    return sent


@contextmanager
def _granted(given: OwnerInput) -> Iterator[Source]:
    """What the task may read of the input: its id column and the columns that it names, and no other.

    A table of which all columns are named goes as it stands, and so does what is no table.
    """
    path = Path(given.path)
    wanted = [*([given.id_column] if given.id_column else []), *given.columns]
    try:
        if not given.is_table or _header(path) == sorted(wanted):
            with path.open("rb") as file:
                yield file
        else:
            yield _Projection(path, wanted)
    except OSError as error:
        raise BadInput("unreadable", f"{path.name}: {error.strerror}") from error


def _header(path: Path) -> list[str]:
    with table_rows(path) as (header, _):
        return sorted(header)


class _Projection(io.RawIOBase):
    """Some columns of a table, as CSV, made row by row as it is read."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self._lines = self._written(path, columns)
        self._left = memoryview(b"")

    def readinto(self, target: Any, /) -> int:
        """Read at most ``len(target)`` bytes; 0 at the end."""
        if not self._left:
            self._left = memoryview(next(self._lines, b""))
        got = min(len(target), len(self._left))
        memoryview(target)[:got] = self._left[:got]
        self._left = self._left[got:]
        return got

    @staticmethod
    def _written(path: Path, columns: Sequence[str]) -> Iterator[bytes]:
        with table_rows(path) as (header, rows):
            at = places(header, columns)
            text = io.StringIO(newline="")
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(columns)
            for _, row in rows:
                writer.writerow([row[each] for each in at])
                if text.tell() > 1 << 18:
                    yield text.getvalue().encode()
                    text.seek(0)
                    text.truncate()
            yield text.getvalue().encode()


def _final(job: OwnerJob, first: Statement, said: Mapping[str, Any], sent: Mapping[str, _Sent]) -> Statement:
    """The enclave's last statement, of this run, over exactly what this owner sent.

    Whether its evidence is genuine and accepted is judged by the node, at a block.
    """
    try:
        final = read_statement(str(said["statement"]).encode())
    except (KeyError, ValueError) as error:
        raise ProtocolViolated(f"the enclave's last statement: {error}", peer=job.enclave) from error
    if why := why_another(final, first):
        raise ProtocolViolated(f"the enclave's last statement: {why}", peer=job.enclave)
    if final.stage is not Stage.FINAL:
        raise ProtocolViolated("the enclave ends without its last statement", peer=job.enclave)
    logged = {event.subject: event.digest for event in final.evidence.events if event.kind is EventKind.INPUT}
    for each in job.inputs:
        if each.name not in sent or logged.get(each.dataset) != sent[each.name].blinded.digest():
            raise ProtocolViolated(
                f"the enclave's log does not have {each.name} as it was sent", peer=job.enclave
            )
    return final


def _outputs(job: OwnerJob, final: Statement, said: Mapping[str, Any], mine: Hex32) -> dict[Address, Hex32]:
    """What every party delivers, as far as this one can tell: its own, and what the log says was sealed."""
    try:
        outputs = {party: hex32(said["outputs"][party]) for party in job.parties}
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise ProtocolViolated("the enclave does not say what is delivered", peer=job.enclave) from error
    given = [event.digest for event in final.evidence.events if event.kind is EventKind.OUTPUT]
    if outputs[job.party] != mine or given != [outputs[job.enclave]]:
        raise ProtocolViolated("the enclave says that something else is delivered", peer=job.enclave)
    return outputs


def _take_parts(
    channel: Channel, job: OwnerJob, said: Mapping[str, Any], sent: Mapping[str, _Sent], folder: Path
) -> dict[str, Any]:
    """Keep this owner's part of each value that the task keeps; return what the transcript says of them."""
    named = said.get("parts")
    if named != sorted(job.keep):
        raise ProtocolViolated("the enclave keeps other values than the task", peer=job.enclave)
    if named:
        (folder / KEPT).mkdir(mode=0o700)
    cipher, kept = AESGCM(sent[job.inputs[0].name].secrets.return_key), {}
    for number, name in enumerate(named):
        sealed = channel.pop(job.enclave, PART)
        path = folder / KEPT / f"{name}{SUFFIX}"
        try:
            write(path, cipher.decrypt(return_nonce(number), sealed, None))
            header = read_header(path)
        except (InvalidTag, BadShare) as error:
            raise ProtocolViolated(f"the part of {name} is none", peer=job.enclave) from error
        owners = [each for each in job.parties if each != job.enclave]
        source = f"{job.step}.{job.keep[name]}"
        if why := why_no_pad(header, job.party, owners):
            raise ProtocolViolated(f"the part of {name}: {why}", peer=job.enclave)
        if (header.task, header.source) != (job.task, source):
            raise ProtocolViolated(f"the part of {name} is of another value", peer=job.enclave)
        kept[name] = {
            "of": header.source,
            "kind": "enclave",
            "digest": sha256(path.read_bytes()),
            "holds_share": True,
            "keepers": list(header.keepers),
        }
    return kept


def _transcript(
    job: OwnerJob,
    first: Statement,
    final: Statement,
    sent: Mapping[str, _Sent],
    outputs: Mapping[Address, Hex32],
    kept: Mapping[str, Any],
) -> dict[str, Any]:
    octets = {name: each.blinded.octets for name, each in sent.items()}
    said = job.transcript({"part": "releases", "sent": octets}, outputs, first, final)
    return {**said, **({"kept": dict(kept)} if kept else {})}


if __name__ == "__main__":
    live(sys.argv[1:], run)
