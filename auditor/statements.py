"""Enclaves' statements as nodes kept them, fetched by what the logs name: each is known by its content.

The bytes come from the party under audit, or from whoever handed over a folder. Only what a log names by its
digest is asked for, so no name of a file is ever taken from outside; what has another digest, or is no
statement, is refused with the reason, and what it would have shown stays undetermined.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final, Protocol

import httpx

from sealtrace.auditor.evidence import FETCH_SECONDS, FETCH_TOTAL_SECONDS, NodeLog
from sealtrace.auditor.plain_http import is_this_machine
from sealtrace.protocol.attestation.appraisal import Stage
from sealtrace.protocol.attestation.evidence import SoftwareCollateral
from sealtrace.protocol.attestation.refusals import EvidenceRefused
from sealtrace.protocol.attestation.statement import MAX_STATEMENT_BYTES, Statement, read_statement
from sealtrace.protocol.canonical import NotCanonical, parse, sha256
from sealtrace.protocol.evidence import Kind, Record
from sealtrace.protocol.identifiers import Hex32, MalformedIdentifier, hex32

MAX_STATEMENTS, MAX_STATEMENTS_BYTES = 20_000, 512 << 20
"""All that one audit takes."""
MAX_CERTIFICATE_BYTES: Final = 16 << 10
MAX_CERTIFICATES: Final = 1_000
MAX_LIST_BYTES: Final = 16 << 20
EVIDENCE_ROUTE, STATEMENTS_ROUTE = "/v1/evidence", "/v1/statements"


class StatementsUnreadable(OSError):
    """A folder of statements cannot be opened: name the one that sealtrace node statements export made."""


@dataclass(frozen=True, slots=True)
class Statements:
    """What was read. ``refused`` says of a digest why there is no statement for it; ``certificates`` are
    nodes' certificates (DER) by their SHA-256, which the chain holds."""

    found: Mapping[Hex32, Statement] = field(default_factory=dict)
    refused: Mapping[Hex32, str] = field(default_factory=dict)
    certificates: Mapping[Hex32, bytes] = field(default_factory=dict)

    def why_missing(self, digest: Hex32) -> str:
        """Why the statement ``digest`` is not there."""
        return self.refused.get(digest, f"the statement {digest} was not handed over")


class Place(Protocol):
    """Where statements may be."""

    def statement(self, digest: Hex32) -> bytes | None:
        """What is there under ``digest``, at most a byte more than a statement may have; ``None`` if nothing.

        Raises:
            Refused: it cannot be taken from there.
        """
        ...

    def certificates(self) -> Iterator[bytes]:
        """The certificates that are there, DER."""
        ...


class Refused(Exception):
    """Why a place does not give a statement, in words without the place's address."""


def named_in(record: Record) -> Mapping[Stage, Hex32]:
    """The statements that a record of a judgement or of a run names, by stage."""
    if record.kind == Kind.TASK_JUDGED:
        named: Mapping[Stage, Any] = {Stage.RELEASE: record.body.get("attested")}
    elif record.kind == Kind.TASK_RAN:
        transcript = record.body.get("transcript")
        told = transcript.get("statements") if isinstance(transcript, dict) else None
        named = {stage: told.get(stage.value) for stage in Stage} if isinstance(told, dict) else {}
    else:
        return {}
    return {stage: Hex32(each) for stage, each in named.items() if _is_digest(each)}


def wanted_by(logs: Iterable[NodeLog]) -> list[Hex32]:
    """The digests of all statements that ``logs`` name, ascending."""
    records = (record for log in logs for record in log.records)
    return sorted({digest for record in records for digest in named_in(record).values()})


def collect(wanted: Sequence[Hex32], places: Sequence[Place]) -> Statements:
    """Take each of ``wanted`` from the first place that has it as it should be."""
    found: dict[Hex32, Statement] = {}
    refused: dict[Hex32, str] = {}
    left = MAX_STATEMENTS_BYTES
    for digest in wanted:
        if left < MAX_STATEMENT_BYTES or len(found) == MAX_STATEMENTS:
            most = f"{MAX_STATEMENTS} statements or {MAX_STATEMENTS_BYTES >> 20} MiB"
            refused[digest] = f"more than {most} of them: audit fewer blocks"
            continue
        read = _first(digest, places)
        if isinstance(read, Statement):
            found[digest] = read
            left -= len(read.document())
        elif read is not None:
            refused[digest] = read
    given = [each.collateral for each in found.values()]
    texts = [each.certificate for each in given if isinstance(each, SoftwareCollateral)]
    texts += [text for place in places for text in place.certificates()] if wanted else []
    return Statements(found, refused, {sha256(text): text for text in texts})


def _first(digest: Hex32, places: Sequence[Place]) -> Statement | str | None:
    why: str | None = None
    for place in places:
        try:
            text = place.statement(digest)
            if text is not None:
                return _read(digest, text)
        except Refused as cause:
            why = why or f"the statement {digest} {cause}"
    return why


def _read(digest: Hex32, text: bytes) -> Statement:
    if len(text) > MAX_STATEMENT_BYTES:
        raise Refused(f"is given as more than {MAX_STATEMENT_BYTES} bytes")
    if sha256(text) != digest:
        raise Refused(f"is given as bytes of the digest {sha256(text)}")
    try:
        return read_statement(text)
    except EvidenceRefused as cause:
        raise Refused(f"is none: {cause.reason}") from cause


def _is_digest(value: object) -> bool:
    try:
        return isinstance(value, str) and hex32(value) == value
    except MalformedIdentifier:
        return False


class Folder:
    """A folder of ``<digest>.json`` and ``<fingerprint>.der``, as a node exports it."""

    def __init__(self, path: Path) -> None:
        """
        Raises:
            StatementsUnreadable: it is no folder.
        """
        if not path.is_dir():
            raise StatementsUnreadable(f"{path} is no folder of statements; export them again")
        self._path = path

    def statement(self, digest: Hex32) -> bytes | None:
        """The file of that name."""
        return _plain(self._path / f"{digest}.json", MAX_STATEMENT_BYTES)

    def certificates(self) -> Iterator[bytes]:
        """The certificates in the folder, of which no more are read than a network has nodes."""
        for path in sorted(islice(self._path.glob("0x*.der"), MAX_CERTIFICATES)):
            try:
                yield _plain(path, MAX_CERTIFICATE_BYTES) or b""
            except Refused:
                continue


def _plain(path: Path, most: int) -> bytes | None:
    """A plain file, a byte more of it than it may have. A link would lead elsewhere, and a pipe would keep
    us waiting."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise Refused("is given as something that is no plain file")
            return file.read(most + 1)
    except FileNotFoundError:
        return None
    except OSError as cause:
        raise Refused(f"cannot be opened ({cause.strerror})") from cause


class Api:
    """A node's API, asked with a reader's token: each reading is recorded there."""

    def __init__(self, evidence_url: str, token: str | None) -> None:
        """``evidence_url`` is where its log is; the statements are beside it."""
        self._url = evidence_url.removesuffix(EVIDENCE_ROUTE) + STATEMENTS_ROUTE
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._proxies = not is_this_machine(evidence_url)
        self._ends = time.monotonic() + FETCH_TOTAL_SECONDS

    def statement(self, digest: Hex32) -> bytes | None:
        """What the node has under that digest."""
        return self._get(f"{self._url}/{digest}", MAX_STATEMENT_BYTES)

    def certificates(self) -> Iterator[bytes]:
        """The node's own certificate, where it tells it."""
        try:
            told = parse(self._get(self._url, MAX_LIST_BYTES) or b"", limit_bytes=MAX_LIST_BYTES)
            yield bytes.fromhex(told["certificate"])[:MAX_CERTIFICATE_BYTES]
        except (Refused, NotCanonical, ValueError, KeyError, TypeError):
            return

    def _get(self, url: str, most: int) -> bytes | None:
        if time.monotonic() > self._ends:
            raise Refused(f"could not be fetched within {FETCH_TOTAL_SECONDS:g} s")
        asked: dict[str, Any] = {
            "headers": self._headers,
            "timeout": FETCH_SECONDS,
            "trust_env": self._proxies,
        }
        try:
            with httpx.stream("GET", url, **asked) as response:
                if response.status_code == 404:
                    return None
                if response.status_code != 200:
                    raise Refused(f"could not be fetched: the node answers {response.status_code}")
                return _bounded(response.iter_bytes(1 << 16), most, self._ends)
        except (httpx.HTTPError, httpx.InvalidURL) as cause:
            raise Refused(f"could not be fetched ({type(cause).__name__})") from cause


def _bounded(parts: Iterator[bytes], most: int, ends: float) -> bytes:
    read = b""
    while len(read) <= most and (part := next(parts, b"")):
        read += part
        if time.monotonic() > ends:
            raise Refused(f"could not be fetched within {FETCH_TOTAL_SECONDS:g} s")
    return read[: most + 1]


def place_beside(evidence: str, token: str | None) -> Place | None:
    """Where the statements are that belong to the log at ``evidence``: beside it, at a URL as on a disk.

    ``None`` where nothing is. A token goes over https or to this machine only; so says the reader of logs,
    which was asked before.
    """
    if evidence.startswith(("http://", "https://")):
        return Api(evidence, token) if evidence.endswith(EVIDENCE_ROUTE) else None
    beside = Path(evidence).resolve().parent / "statements"
    return Folder(beside) if beside.is_dir() else None
