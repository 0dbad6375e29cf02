"""Checkpoints of the evidence log: signed with the node's key, and anchored on the chain."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from sealtrace.node.errors import NotAdmitted
from sealtrace.node.evidence import EvidenceLog
from sealtrace.node.ports import Reverted
from sealtrace.node.store import Store
from sealtrace.protocol.evidence import Kind
from sealtrace.protocol.records import BlockRef, Checkpoint
from sealtrace.protocol.statements import Signed, Statement, sign

MARK = "evidence.anchored"
KIND = "evidence.checkpoint"
_PROMPT = frozenset(
    {
        Kind.TASK_FINISHED.value,
        Kind.TASK_REFUSED.value,
        Kind.TASK_FAILED.value,
        Kind.TASK_STOPPED.value,
        Kind.TASK_WIPED.value,
    }
)

Send = Callable[[Checkpoint], None]
"""Anchors a checkpoint on the chain and returns when it is mined."""


def signed_checkpoint(checkpoint: Checkpoint, head: BlockRef, key: bytes, now: float) -> Signed:
    """The checkpoint as the node's own word, with the head of the chain it followed: two histories told to
    two nodes would show in their checkpoints."""
    body = {
        "size": checkpoint.size,
        "root": checkpoint.root,
        "head_number": head.number,
        "head_hash": head.hash,
    }
    statement = Statement(kind=KIND, speaker=checkpoint.node, audience="anybody", at=int(now), body=body)
    return sign(statement, key)


class Anchorer:
    """Anchors the log when a task ended here, or when it grew and some time went by."""

    def __init__(
        self,
        evidence: EvidenceLog,
        store: Store,
        send: Send,
        every_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._evidence = evidence
        self._store = store
        self._send = send
        self._every_s = every_s
        self._clock = clock

    def anchored_size(self) -> int:
        """The size of the last checkpoint this node knows to be on the chain."""
        return int(self._store.mark(MARK) or 0)

    def anchor_if_due(self) -> Checkpoint | None:
        """Anchor when there is reason to; returns what was anchored.

        Raises:
            ChainUnavailable: not now.
        """
        checkpoint, old = self._evidence.checkpoint(), self.anchored_size()
        if checkpoint.size <= old or not self._is_due(old):
            return None
        return self.anchor(checkpoint)

    def anchor(self, checkpoint: Checkpoint) -> Checkpoint | None:
        """Anchor ``checkpoint``, unless the chain has one at least as long.

        Raises:
            ChainUnavailable: not now.
            NotAdmitted: not yet.
        """
        try:
            self._send(checkpoint)
        except Reverted as reverted:
            if reverted.name == "UnknownNode":
                raise NotAdmitted(str(reverted)) from reverted
            if reverted.name != "LogDidNotGrow":
                raise
        self._store.set_mark(MARK, str(checkpoint.size))
        self._store.set_mark(MARK + ".at", str(self._clock()))
        return checkpoint

    def _is_due(self, old: int) -> bool:
        since = float(self._store.mark(MARK + ".at") or 0)
        if self._clock() - since >= self._every_s:
            return True
        return any(record.kind in _PROMPT for record in self._evidence.since(old))


def write_checkpoint(path: Path, signed: Signed) -> None:
    """Write ``checkpoint.json``: size and root for readers, the signed statement beside them."""
    body = signed.statement.body
    document = {"size": body["size"], "root": body["root"], "signed": signed.model_dump(mode="json")}
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="ascii")
