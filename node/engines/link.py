"""SPU links through this node's gateway: the engine opens no port and knows no peer's address.

The transport is set up by environment variables that SPU reads whenever a link is made, so several
links live in one process: each has its own label, which makes its party names and its topics.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sealtrace.node.engines.errors import EngineError, PeerUnreachable, ProtocolViolated
from sealtrace.node.engines.job import Job
from sealtrace.protocol.identifiers import Address

CHUNK_BYTES = 1 << 20
RETRY_MS = 300
_OPEN: list[Any] = []  # a link's destructor waits for its poll to end, a second each: keep them
_SILENT = re.compile(r"Get data timeout, key=\S*?@([0-9]+(?:-[0-9]+)*)\S*?([0-9]+)->([0-9]+)")
_CONNECT = re.compile(r"Get data timeout, key=connect_([0-9]+)")


@dataclass(frozen=True, slots=True)
class Link:
    """An SPU link among some of the job's parties; ``ranks`` are their ranks in the job."""

    context: Any
    parties: tuple[Address, ...]
    ranks: tuple[int, ...]
    me: int

    @property
    def rank(self) -> int:
        """This party's rank within the link."""
        return self.ranks.index(self.me)

    def gather(self, value: object) -> list[Any]:
        """Exchange one small JSON value with all; returned in the order of ``ranks``.

        Raises:
            PeerUnreachable: one was silent for the link's timeout.
            ProtocolViolated: one sent something that is not JSON.
        """
        with translated(self.parties):
            texts = self.context.all_gather(json.dumps(value))
        return [_parsed(text) for text in texts]

    def send(self, rank: int, data: bytes) -> None:
        """Queue ``data`` for the party of job rank ``rank``."""
        with translated(self.parties):
            self.context.send_async(self.ranks.index(rank), data)

    def receive(self, rank: int) -> bytes:
        """Return the next message of the party of job rank ``rank``.

        Raises:
            PeerUnreachable: it was silent for the link's timeout.
        """
        with translated(self.parties):
            return bytes(self.context.recv(self.ranks.index(rank)))

    def finish(self) -> None:
        """Wait until all that was sent, acknowledgements included, has arrived at both ends.

        So nobody's last message finds the session closed, and both gateways count the same. Nothing
        can be sent afterwards.
        """
        with translated(self.parties):
            self.context.stop_link()

    def barrier(self) -> None:
        """Wait until all have come here.

        Raises:
            PeerUnreachable: one has not, for the link's timeout.
        """
        with translated(self.parties):
            self.context.barrier()


class translated:  # noqa: N801 - reads as a clause
    """Turns the engine's exceptions about the link into ours; ``parties`` are the job's."""

    def __init__(self, parties: Sequence[Address]) -> None:
        self._parties = parties

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, RuntimeError):
            raise explain(str(error), self._parties) from error


def explain(text: str, parties: Sequence[Address]) -> EngineError:
    """Return what an engine's message about the link means, naming the peer where it can."""
    if found := _SILENT.search(text):
        ranks = [int(rank) for rank in found[1].split("-")]
        source = int(found[2])
        known = source < len(ranks) and ranks[source] < len(parties)
        peer = parties[ranks[source]] if known else None
        return PeerUnreachable("a peer was silent for too long", peer=peer)
    if _CONNECT.search(text) or "connect to mesh failed" in text:
        return PeerUnreachable("a peer did not come to the link in time")
    if "timeout" in text.lower() or "rpc failed" in text.lower() or "send" in text.lower():
        return PeerUnreachable(f"the link failed: {_gist(text)}")
    return ProtocolViolated(f"the engine gave up: {_gist(text)}")


def _gist(text: str) -> str:
    """The first line that says something: the engine's messages may begin with a bare ``what:``."""
    lines = (line.strip() for line in text.splitlines())
    return next((line[:200] for line in lines if line and line != "what:"), "without a word")


def connect(job: Job, label: str, ranks: Sequence[int], *, receive_ms: int) -> Link:
    """Make a link among ``ranks`` and wait until all are there.

    Raises:
        PeerUnreachable: one did not come within the job's connect timeout.
    """
    import spu

    label = f"{label}@{'-'.join(map(str, ranks))}"
    description = spu.link.Desc()
    description.id = label
    description.link_type = "blackbox"
    description.brpc_channel_protocol = "http"
    description.http_max_payload_size = CHUNK_BYTES
    description.http_timeout_ms = job.timeouts.request_ms
    description.recv_timeout_ms = receive_ms
    description.retry_opts.max_retry = 1  # the gateway tries again by itself
    description.retry_opts.retry_interval_ms = RETRY_MS
    description.connect_retry_interval_ms = RETRY_MS
    description.connect_retry_times = max(1, job.timeouts.connect_ms // RETRY_MS)
    for rank in ranks:
        name = f"{label}.{rank}"
        description.add_party(name, job.parties[rank])
        os.environ[f"config.inst_id.{name}"] = job.parties[rank]
    os.environ.update(_environment(job))
    with translated(job.parties):
        context = spu.link.create_brpc(description, list(ranks).index(job.rank))
    _OPEN.append(context)
    link = Link(context, job.parties, tuple(ranks), job.rank)
    link.barrier()
    return link


def _environment(job: Job) -> dict[str, str]:
    return {
        "system.transport": job.gateway_url,
        "config.trace_id": job.task,
        "config.token": job.gateway_token,
        "config.session_id": job.task,
    }


def _parsed(text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ProtocolViolated("a peer sent something that is not JSON") from error
