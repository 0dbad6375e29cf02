"""Reading a node's evidence log as it was handed over, and holding it to the checkpoints on the chain.

The bytes come from the party under audit: every line is bounded and read strictly, and the first thing that
does not fit ends the reading with one :class:`Fault`. What lies before the last checkpoint that fits may be
relied on; nothing after it.
"""

from __future__ import annotations

import base64
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import IO, Protocol, Self

import httpx
from pydantic import ValidationError

from sealtrace.auditor.plain_http import is_this_machine
from sealtrace.protocol.canonical import NotCanonical, parse, sha256
from sealtrace.protocol.evidence import MAX_RECORD_BYTES, BadRecord, Record, read_record
from sealtrace.protocol.identifiers import Address, Hex32, MalformedIdentifier, hex32
from sealtrace.protocol.merkle import MerkleTree, leaf_hash
from sealtrace.protocol.statements import BadStatement, Signed, signer_of

MAX_RECORDS = 2_000_000
MAX_LOG_BYTES = 1 << 30
FETCH_SECONDS, FETCH_TOTAL_SECONDS = 20.0, 600.0
CHECKPOINT_KIND, CHECKPOINT_HEADER = "evidence.checkpoint", "X-Sealtrace-Checkpoint"
_SEGMENTS, _CHECKPOINT = "[0-9]*.jsonl", "checkpoint.json"
MAX_SEGMENTS = 10_000


class EvidenceUnreadable(OSError):
    """An evidence log cannot be opened or fetched; the message says what to do."""


class EvidenceTooLarge(ValueError):
    """An evidence log is beyond what one audit reads: hand it over in a release that splits it."""


@dataclass(frozen=True, slots=True)
class Held:
    """A size and a root that the log must have; ``where`` tells who holds it to that."""

    size: int
    root: Hex32
    where: str = "the chain"


@dataclass(frozen=True, slots=True)
class Fault:
    """The first thing in a log that does not fit.

    ``first`` and ``past`` bound the records among which it lies; ``size``, ``expected`` and ``observed``
    are the checkpoint that shows it, where there is one.
    """

    problem: str
    first: int
    past: int
    size: int | None = None
    expected: Hex32 | None = None
    observed: Hex32 | None = None
    line: Hex32 | None = None

    @property
    def records(self) -> str:
        """Which records, in words."""
        if self.past - self.first == 1:
            return f"record {self.first}"
        return f"one of the records {self.first} to {self.past - 1}"


@dataclass(frozen=True, slots=True)
class NodeLog:
    """A node's log as far as it may be relied on.

    ``records`` are those; ``size`` is how many lines were handed over; ``fitting`` the sizes at which the
    root was rebuilt and found as anchored; ``short_of`` the sizes anchored beyond what was handed over.
    """

    node: Address
    records: tuple[Record, ...]
    size: int
    fitting: tuple[int, ...] = ()
    short_of: tuple[int, ...] = ()
    fault: Fault | None = None
    by_task: Mapping[Hex32, tuple[Record, ...]] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        """Whether everything that is anchored was handed over and fits."""
        return self.fault is None and not self.short_of

    @property
    def unanchored(self) -> int:
        """How many records no checkpoint holds yet."""
        return self.size - max(self.fitting, default=0) if self.fault is None else 0

    def of(self, task: Hex32, kind: str) -> list[Record]:
        """The records of ``kind`` about ``task`` that may be relied on."""
        return [record for record in self.by_task.get(task, ()) if record.kind == kind]

    def why_silent(self) -> str:
        """Why the absence of a record proves nothing."""
        if self.fault is not None:
            return f"the log of {self.node} differs from its checkpoints at {self.fault.records}"
        return f"the log of {self.node} was handed over only up to record {self.size}"


def read_log(node: Address, lines: Iterable[bytes], held: Sequence[Held]) -> NodeLog:
    """Read ``lines`` (with their line ends) as the log of ``node`` and hold them to ``held``.

    Raises:
        EvidenceTooLarge: more records than one audit reads.
    """
    reader = _Reader(node, sorted(set(held), key=lambda each: each.size))
    for line in lines:
        if not reader.take(line):
            break
    return reader.done()


class _Reader:
    """Takes line after line; after a line that cannot be read, only its bytes still count."""

    def __init__(self, node: Address, held: Sequence[Held]) -> None:
        self._node = node
        self._waiting = list(reversed(held))
        self._tree = MerkleTree()
        self._records: list[Record] = []
        self._fitting: list[int] = []
        self._broken: Fault | None = None
        self._fault: Fault | None = None
        self._check_roots()

    def take(self, line: bytes) -> bool:
        """Read one line; False once nothing more can be learnt."""
        index = len(self._tree)
        if index >= MAX_RECORDS:
            raise EvidenceTooLarge(f"more than {MAX_RECORDS} records in the log of {self._node}")
        content = line.removesuffix(b"\n")
        if self._broken is None:
            self._broken = self._read(index, content)
            if self._broken is not None and self._is_being_written(line):
                self._broken = None
                return False
        self._tree.extend([leaf_hash(content)])
        if self._broken is not None and (len(content) > MAX_RECORD_BYTES or not self._waiting):
            return False
        self._check_roots()
        return self._fault is None

    def _is_being_written(self, line: bytes) -> bool:
        """Whether ``line`` is the torn end of a log that is still growing, beyond all that it is held to."""
        return not line.endswith(b"\n") and len(line) <= MAX_RECORD_BYTES and not self._waiting

    def _read(self, index: int, content: bytes) -> Fault | None:
        try:
            if len(content) > MAX_RECORD_BYTES:
                raise BadRecord(f"longer than {MAX_RECORD_BYTES} bytes")
            record = read_record(content)
        except BadRecord as problem:
            return Fault(str(problem), index, index + 1, line=sha256(content[:MAX_RECORD_BYTES]))
        if record.index != index:
            return Fault(f"it says it is record {record.index}", index, index + 1, line=sha256(content))
        if record.node != self._node:
            return Fault(f"it says it is of node {record.node}", index, index + 1, line=sha256(content))
        self._records.append(record)
        return None

    def _check_roots(self) -> None:
        while self._waiting and self._waiting[-1].size <= len(self._tree) and self._fault is None:
            held = self._waiting.pop()
            observed = hex32(self._tree.root(held.size))
            if observed != held.root:
                self._fault = self._mismatch(held, observed)
            elif self._broken is None:
                self._fitting.append(held.size)

    def _mismatch(self, held: Held, observed: Hex32) -> Fault:
        if self._broken is not None:
            broken = self._broken
            return Fault(
                broken.problem, broken.first, broken.past, held.size, held.root, observed, broken.line
            )
        since = max(self._fitting, default=0)
        problem = f"the root differs from the one held by {held.where}"
        return Fault(problem, since, held.size, held.size, held.root, observed)

    def done(self) -> NodeLog:
        """What may be relied on."""
        fault = self._fault or self._unfinished()
        sound = len(self._records) if fault is None else max(self._fitting, default=0)
        records = tuple(self._records[:sound])
        by_task: dict[Hex32, list[Record]] = {}
        for record in records:
            if record.task is not None:
                by_task.setdefault(record.task, []).append(record)
        return NodeLog(
            self._node,
            records,
            len(self._tree),
            tuple(self._fitting),
            tuple(sorted(each.size for each in self._waiting)) if fault is None else (),
            fault,
            {task: tuple(found) for task, found in by_task.items()},
        )

    def _unfinished(self) -> Fault | None:
        """A line that could not be read, where the log ended before the next checkpoint."""
        if self._broken is None or not self._waiting:
            return self._broken
        held, broken = self._waiting[-1], self._broken
        return Fault(broken.problem, broken.first, broken.past, held.size, held.root, None, broken.line)


# where the bytes come from


Seen = Callable[[Iterator[bytes]], Iterator[bytes]]
"""What the lines of a log pass through on their way to the reader."""


def unseen(lines: Iterator[bytes]) -> Iterator[bytes]:
    """The lines as they are: nobody looks on."""
    return lines


class Lines(Protocol):
    """What is read line by line, no further than asked."""

    def readline(self, limit: int, /) -> bytes:
        """The next line, at most ``limit`` bytes of it; empty at the end."""
        ...


def open_lines(stream: Lines) -> Iterator[bytes]:
    """The lines of ``stream``, none read further than one record may be long.

    Raises:
        EvidenceTooLarge: more than a gigabyte in all.
    """
    total = 0
    while line := stream.readline(MAX_RECORD_BYTES + 2):
        total += len(line)
        if total > MAX_LOG_BYTES:
            raise EvidenceTooLarge(f"more than {MAX_LOG_BYTES} bytes of evidence")
        yield line


def read_file(node: Address, path: Path, held: Sequence[Held], seen: Seen = unseen) -> NodeLog:
    """Read the log of ``node``: one file of records, or a folder of segments (``000000.jsonl``, ...).

    A signed ``checkpoint.json`` in the folder holds the log to its size and root as the chain's do.

    Raises:
        EvidenceUnreadable: it cannot be opened, or the folder holds no segment.
        EvidenceTooLarge: it is beyond what one audit reads.
    """
    own = _own_checkpoint(node, path / _CHECKPOINT) if path.is_dir() else []
    try:
        segments = _segments(path) if path.is_dir() else [path.resolve()]
        if not segments:
            raise EvidenceUnreadable(f"{path} holds no segment; give the folder 'evidence' of {node}")
        with _Joined(segments) as stream:
            return read_log(node, seen(open_lines(stream)), [*held, *own])
    except EvidenceUnreadable:
        raise
    except OSError as cause:
        raise EvidenceUnreadable(f"{path}: {cause.strerror}; export the log of {node} again") from cause


def _segments(folder: Path) -> list[Path]:
    """The segments in a folder that was handed over, in their order.

    Raises:
        EvidenceTooLarge: more than a log of the greatest size has.
    """
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if fnmatch(entry.name, _SEGMENTS):
                found.append(folder / entry.name)
            if len(found) > MAX_SEGMENTS:
                raise EvidenceTooLarge(f"more than {MAX_SEGMENTS} segments in {folder}")
    return sorted(found)


def _opened(path: Path) -> IO[bytes]:
    """A plain file. A link in what was handed over would lead out of it, and a pipe would keep us waiting.

    Raises:
        EvidenceUnreadable: it is something else.
        OSError: it cannot be opened.
    """
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise EvidenceUnreadable(f"{path} is no plain file; export the log again")
    return file


class _Joined:
    """Segments as one stream of lines: a line never runs over two."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = list(reversed(paths))
        self._open: IO[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._open is not None:
            self._open.close()

    def readline(self, limit: int) -> bytes:
        """The next line, at most ``limit`` bytes of it; empty at the end of the last segment."""
        while True:
            if self._open is not None and (line := self._open.readline(limit)):
                return line
            if not self._paths:
                return b""
            if self._open is not None:
                self._open.close()
            self._open = _opened(self._paths.pop())


def _own_checkpoint(node: Address, path: Path) -> list[Held]:
    try:
        with _opened(path) as stream:
            return signed_checkpoint(node, stream.read(MAX_RECORD_BYTES))
    except OSError:
        return []


def signed_checkpoint(node: Address, text: bytes) -> list[Held]:
    """The checkpoint that ``node`` signed and handed over with its log, if this is one.

    It holds the log to what the chain does not anchor yet. One that cannot be read, or is not signed by the
    node, holds it to nothing: the chain's checkpoints do that anyway.
    """
    try:
        signed = Signed.model_validate(parse(text, limit_bytes=MAX_RECORD_BYTES))
        size, root = signed.statement.body.get("size"), signed.statement.body.get("root")
        genuine = signed.statement.kind == CHECKPOINT_KIND and signer_of(signed) == node
        if not genuine or type(size) is not int or size < 0 or not isinstance(root, str):
            return []
        return [Held(size, hex32(root), "the checkpoint it signed")]
    except (NotCanonical, ValidationError, BadStatement, MalformedIdentifier):
        return []


def read_url(
    node: Address, url: str, token: str | None, held: Sequence[Held], seen: Seen = unseen
) -> NodeLog:
    """Fetch the log of ``node`` from its API, which answers with one record on each line.

    Raises:
        EvidenceUnreadable: no answer in time, or not that; or a token would go over a plain connection.
        EvidenceTooLarge: it is beyond what one audit reads.
    """
    headers = {"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {token}"} if token else {})
    if token and not _is_private(url):
        raise EvidenceUnreadable(f"{url}: a token is sent over https or to this machine only")
    try:
        proxies = not is_this_machine(url)
        with httpx.stream("GET", url, headers=headers, timeout=FETCH_SECONDS, trust_env=proxies) as response:
            if response.status_code != 200:
                raise EvidenceUnreadable(f"{url} answers {response.status_code}: ask for a reader's token")
            if response.headers.get("content-encoding", "identity") != "identity":
                raise EvidenceUnreadable(f"{url} answers in a compressed form: have the log sent as it is")
            own = signed_checkpoint(node, _header_text(response.headers.get(CHECKPOINT_HEADER, "")))
            lines = seen(open_lines(_Streamed(response.iter_bytes(1 << 16))))
            return read_log(node, lines, [*held, *own])
    except (httpx.HTTPError, httpx.InvalidURL) as cause:
        raise EvidenceUnreadable(f"{url}: {cause or type(cause).__name__}; is the node's API up?") from cause


def _header_text(value: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(value)
    except ValueError:
        return b""


def _is_private(url: str) -> bool:
    return url.startswith("https://") or is_this_machine(url)


class _Streamed:
    """Bytes as they arrive, cut into lines."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts = parts
        self._rest = b""
        self._ends = time.monotonic() + FETCH_TOTAL_SECONDS

    def readline(self, limit: int) -> bytes:
        """The next line, at most ``limit`` bytes of it; empty at the end.

        Raises:
            EvidenceUnreadable: it takes too long in all.
        """
        while b"\n" not in self._rest and len(self._rest) < limit and (part := next(self._parts, b"")):
            self._rest += part
            if time.monotonic() > self._ends:
                raise EvidenceUnreadable(f"the log did not end in {FETCH_TOTAL_SECONDS} s")
        cut = min(self._rest.find(b"\n") + 1 or limit, limit)
        line, self._rest = self._rest[:cut], self._rest[cut:]
        return line
