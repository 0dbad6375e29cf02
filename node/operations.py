"""What an operator does at a node: one function for each act, behind the API and the command line alike."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from sealtrace.algorithms.disclosure import disclosure
from sealtrace.contracts import calls
from sealtrace.node import terms as stored_terms
from sealtrace.node.bundles import Held
from sealtrace.node.checkpoints import signed_checkpoint
from sealtrace.node.datasets import shown
from sealtrace.node.errors import ChainRefused, GrantNotFound, Misuse, NotAuthenticated, TaskOver, Unavailable
from sealtrace.node.gateway.certificates import pem_to_der
from sealtrace.node.policies import PolicyDiffers, require_fit
from sealtrace.node.ports import Reverted
from sealtrace.node.sessions import GatewaySessions
from sealtrace.node.stated import StatementList, export, kept_text, listed
from sealtrace.node.store import GrantRow, TaskRow
from sealtrace.node.wiring import Node
from sealtrace.node.worker import ping
from sealtrace.protocol.attestation.policy import AttestationPolicy
from sealtrace.protocol.evidence import Kind
from sealtrace.protocol.identifiers import Address, Hex32, UnixSeconds
from sealtrace.protocol.lifecycle import TaskState
from sealtrace.protocol.records import (
    Checkpoint,
    DataClass,
    GrantTerms,
    NodeStatus,
    NoSuchProtection,
    names_of,
    protections_of,
)
from sealtrace.protocol.security import in_words
from sealtrace.protocol.spec import purpose_hash, read_spec
from sealtrace.protocol.statements import Signed, sign


class TokenRole(StrEnum):
    """What the bearer of a token may do: everything, or look only."""

    OPERATOR = "operator"
    READER = "reader"


class UnknownProtection(Misuse):
    """There is no protection of this name."""

    next_step = "Use names such as MPC_ABY3 or PSI_RR22."
    status = 422


@dataclass(frozen=True, slots=True)
class GrantOrder:
    """A grant to issue. ``purpose`` is in words, the chain gets its hash; times are Unix seconds.

    ``policy`` is which enclave is taken for one, where ``protections`` allow any: it stays with the owner.
    """

    dataset: Hex32
    algorithm: Hex32
    requester: Address
    purpose: str
    uses: int
    not_before: int
    expires_at: int
    protections: tuple[str, ...]
    approval_required: bool = False
    epsilon_millionths: int = 0
    participants: tuple[Address, ...] = ()
    policy: AttestationPolicy | None = None

    def terms(self) -> GrantTerms:
        """What the chain is told.

        Raises:
            UnknownProtection: a name is none.
            PolicyMissing, PolicyNotNeeded, PolicyMismatch: the policy is not for these protections.
        """
        try:
            protections = protections_of(self.protections)
        except NoSuchProtection as cause:
            raise UnknownProtection(str(cause)) from cause
        require_fit(self.policy, protections)
        return GrantTerms(
            dataset=self.dataset,
            algorithm=self.algorithm,
            requester=self.requester,
            purpose=purpose_hash(self.purpose),
            uses=self.uses,
            not_before=UnixSeconds(self.not_before),
            expires_at=UnixSeconds(self.expires_at),
            protections=protections,
            approval_required=self.approval_required,
            epsilon_millionths=self.epsilon_millionths,
            participants=tuple(sorted(self.participants)),
        )


class Operations:
    """Everything an operator, or a reader, can ask of ``node``."""

    def __init__(self, node: Node) -> None:
        self.node = node

    # --- datasets

    def add_dataset(
        self,
        path: Path,
        name: str | None,
        data_class: DataClass,
        *,
        copy: bool = False,
        supersedes: Hex32 | None = None,
    ) -> dict[str, Any]:
        """Add the table at ``path``; see :meth:`DatasetKeeper.add`."""
        keeper = self.node.datasets
        return shown(keeper.add(path, name or path.stem, data_class, copy=copy, supersedes=supersedes))

    def datasets(self) -> list[dict[str, Any]]:
        """All datasets, withdrawn ones included."""
        return [shown(row) for row in self.node.store.datasets()]

    def withdraw_dataset(self, dataset: Hex32) -> dict[str, Any]:
        """Withdraw a dataset; see :meth:`DatasetKeeper.withdraw`."""
        return shown(self.node.datasets.withdraw(dataset))

    def open_dataset(self, dataset: Hex32, to: str) -> Signed:
        """Open one dataset's commitment to ``to``, and no other's; see :meth:`DatasetKeeper.open`."""
        return sign(self.node.datasets.open(dataset, to), self.node.key)

    # --- grants

    def issue_grant(
        self, order: GrantOrder, reference: str | None = None, replaces: Hex32 | None = None
    ) -> dict[str, Any]:
        """Issue a grant and wait until the chain has it. The same ``reference`` again is the same grant.

        With ``replaces`` that grant ends in the same step.

        Raises:
            GrantNotFound: this node issued no grant to replace.
            UnknownProtection, PolicyMissing, PolicyNotNeeded, PolicyMismatch: see :meth:`GrantOrder.terms`.
            PolicyDiffers: the grant of this reference was issued under another policy.
            ChainRefused: for instance not our dataset, an unknown algorithm, a window that is over.
            ChainUnavailable: not now; ask again with the same reference.
        """
        self.node.store.dataset(order.dataset)
        if replaces:
            self._own_grant(replaces)
        terms, intent = order.terms(), f"grant:{reference or secrets.token_hex(16)}"
        call = calls.replace_grant(replaces, terms) if replaces else calls.issue_grant(terms)
        mined = self._send(intent, call)
        if replaces:
            body = {"grant": replaces, "transaction": mined.transaction}
            self._record_once(f"revoked:{replaces[2:34]}", Kind.GRANT_REVOKED, body)
        (issued,) = (event for event in mined.events if event.name == "GrantIssued")
        grant = Hex32(str(issued.args["grant"]))
        row = GrantRow(grant, _plain(order), time.time())
        self.node.store.keep_grant(row, order.policy)
        self._require_policy(grant, order.policy)
        body = {"grant": grant, "transaction": mined.transaction, **row.terms, **_named(order.policy)}
        self._record_once(f"granted:{grant[2:34]}", Kind.GRANT_ISSUED, body)
        return self._grant(row)

    def grants(self) -> list[dict[str, Any]]:
        """All grants this node issued, as they stand on the chain now."""
        return [self._grant(row) for row in self.node.store.grants()]

    def revoke_grant(self, grant: Hex32) -> dict[str, Any]:
        """End a grant at once. A task that has started is not stopped by it: stop the task.

        Raises:
            GrantNotFound: this node issued no such grant.
            ChainRefused, ChainUnavailable: see there.
        """
        row = self._own_grant(grant)
        mined = self._send(f"grant-revoke:{grant}", calls.revoke_grant(grant))
        body = {"grant": grant, "transaction": mined.transaction}
        self._record_once(f"revoked:{grant[2:34]}", Kind.GRANT_REVOKED, body)
        return self._grant(row)

    def _require_policy(self, grant: Hex32, policy: AttestationPolicy | None) -> None:
        kept = self.node.store.policy_of(grant)
        if kept != policy:
            was, now = ("none" if each is None else each.digest() for each in (kept, policy))
            raise PolicyDiffers(f"grant {grant} was issued under the policy {was}, not {now}")

    def _own_grant(self, grant: Hex32) -> GrantRow:
        row = next((row for row in self.node.store.grants() if row.id == grant), None)
        if row is None:
            raise GrantNotFound(f"this node issued no grant {grant}")
        return row

    # --- tasks

    def tasks(self, *, open_only: bool = False, limit: int = 100) -> list[dict[str, Any]]:
        """The newest tasks that the chain names this node for, the newest first."""
        return [_task(row) for row in self.node.store.tasks(open_only=open_only, limit=limit)]

    def task(self, task: Hex32) -> dict[str, Any]:
        """One task: where it stands here and on the chain, and every record of it in the evidence log.

        ``learns`` is what each role learns from it, in the words of its algorithms.

        Raises:
            TaskNotFound: this node knows no such task.
        """
        row = self.node.store.task(task)
        records = [record.model_dump(mode="json") for record in self.node.evidence.of_task(task)]
        known = {
            "spec": json.loads(row.spec) if row.spec else None,
            "learns": self._learns(row.spec),
            "evidence": records,
        }
        return {**_task(row), "on_chain": self._standing(task), **known}

    def approve(self, task: Hex32) -> dict[str, Any]:
        """Let a waiting task run, as far as this node goes.

        Raises:
            TaskNotFound, TaskOver: there is nothing to approve.
        """
        self._open(task)
        self.node.store.give_approval(task)
        return _task(self.node.store.task(task))

    def refuse(self, task: Hex32) -> dict[str, Any]:
        """Refuse a task that has not begun; one that runs is stopped.

        Raises:
            TaskNotFound, TaskOver: there is nothing to refuse.
        """
        return self.stop(task)

    def stop(self, task: Hex32) -> dict[str, Any]:
        """End a task on this node's data now: the chain told, traffic cut, the engine killed.

        A running task is stopped on the chain from here, so that a stop needs no worker. The chain comes
        first: peers that see us go before it knows why would report a failure. Whatever it answers, nothing
        goes on here.

        Raises:
            TaskNotFound, TaskOver: there is nothing to stop.
            ChainUnavailable: the run is being ended; the chain is told when it answers.
        """
        row = self._open(task)
        self.node.store.want_stop(task)
        try:
            self._stop_on_chain(row)
        finally:
            with suppress(Unavailable):  # no gateway, no traffic
                GatewaySessions(self.node.gateway).close(task, left="stopped by its owner")
        return _task(self.node.store.task(task))

    # --- algorithms

    def add_algorithm(self, source: Path, expected: Hex32 | None = None) -> Held:
        """Take in a bundle; see :meth:`sealtrace.node.bundles.BundleStore.add`."""
        return self.node.bundles.add(source, expected)

    def algorithms(self) -> list[Held]:
        """The bundles here, each re-hashed now."""
        return self.node.bundles.list()

    # --- evidence

    def read_evidence(self, reader: str, first: int = 0) -> tuple[Signed, Iterator[bytes]]:
        """A signed checkpoint and the lines up to it. That it was read is itself recorded, before it is.

        Raises:
            DiskFull: the reading cannot be recorded, so there is none.
        """
        evidence = self.node.evidence
        self._record_reading(reader, first=first)
        checkpoint = evidence.checkpoint()
        return self.sign(checkpoint), evidence.lines(first, checkpoint.size)

    def evidence_proof(self, index: int, reader: str) -> dict[str, Any]:
        """One record with the proof that it is in the log, and nothing of the others.

        Raises:
            RecordNotFound: the log is not that long.
        """
        evidence = self.node.evidence
        record = evidence.record(index)
        self._record_reading(reader, index=index)
        checkpoint = evidence.checkpoint()
        return {
            "record": record.line().decode(),
            "index": index,
            "inclusion": evidence.inclusion(index, checkpoint.size),
            "checkpoint": self.sign(checkpoint).model_dump(mode="json"),
        }

    def read_statements(self, reader: str) -> StatementList:
        """Which enclaves' statements are kept here, and this node's certificate. The reading is recorded.

        Raises:
            DiskFull: the reading cannot be recorded, so there is none.
        """
        self._record_reading(reader, statements="all")
        return StatementList(self._certificate(), listed(self.node.layout.statements))

    def read_statement(self, digest: Hex32, reader: str) -> bytes:
        """One enclave's statement as it is kept. The reading is recorded.

        Raises:
            StatementNotFound: there is none of this digest.
            DiskFull: the reading cannot be recorded, so there is none.
        """
        text = kept_text(self.node.layout.statements, digest)
        self._record_reading(reader, statements=digest)
        return text

    def export_statements(self, reader: str, out: Path) -> list[Path]:
        """Write all statements kept here, each named by its digest, and this node's certificate, named by
        its fingerprint, to the folder ``out``. The reading is recorded.

        Raises:
            DiskFull: the reading cannot be recorded, so there is none.
        """
        self._record_reading(reader, statements="all")
        return export(self.node.layout.statements, self._certificate(), out)

    def _certificate(self) -> bytes:
        return pem_to_der(self.node.layout.tls_certificate.read_text())

    def _record_reading(self, reader: str, **what: str | int) -> None:
        self.node.evidence.append(Kind.EVIDENCE_READ, {"by": reader[:64], **what})

    def sign(self, checkpoint: Checkpoint) -> Signed:
        """The checkpoint as this node's word, with the chain's head it followed."""
        return signed_checkpoint(checkpoint, self.node.chain.finalized(), self.node.key, time.time())

    # --- tokens

    def add_token(self, name: str, role: TokenRole) -> str:
        """Make a bearer token. It is shown once; only its hash is kept."""
        token = "st_" + secrets.token_urlsafe(32)
        self.node.store.add_token(_token_hash(token), name, role)
        return token

    def who(self, token: str) -> tuple[str, TokenRole]:
        """The name and role of a token.

        Raises:
            NotAuthenticated: it is none of ours.
        """
        found = self.node.store.token(_token_hash(token))
        if found is None:
            raise NotAuthenticated("this token is not one of this node's")
        return found[0], TokenRole(found[1])

    # --- health

    def health(self) -> dict[str, Any]:
        """Whether what this node needs answers; never fails itself."""
        parts = {
            "chain": lambda: self.node.chain.finalized().number,
            "redis": lambda: ping(self.node.settings),
            "store": lambda: len(self.node.store.tasks(open_only=True)),
            "evidence": lambda: len(self.node.evidence),
        }
        found = {name: _answer(ask) for name, ask in parts.items()}
        return {"status": "ok" if all(f["ok"] for f in found.values()) else "degraded", "parts": found}

    def about(self) -> dict[str, Any]:
        """The node's public face, and how it stands on the chain."""
        settings = self.node.settings
        at = self.node.chain.finalized()
        found = self.node.chain.node(settings.address, at=at)
        return {
            "name": settings.name,
            "address": settings.address,
            "gateway_url": settings.gateway.url,
            "protocols": settings.engine.protocols,
            "status": NodeStatus(found.status).name.lower(),
            "tls_fingerprint": found.tls_fingerprint,
            "encryption_key": found.encryption_key,
            "block": at.number,
            "evidence_size": len(self.node.evidence),
        }

    # --- how it is done

    def _send(self, intent: str, call: calls.Call) -> Any:
        try:
            return self.node.acts.send(intent, call)
        except Reverted as reverted:
            raise ChainRefused(reverted.name, str(reverted)) from reverted

    def _record_once(self, mark: str, kind: Kind, body: dict[str, Any]) -> None:
        if self.node.store.mark(mark) is None:
            record = self.node.evidence.append(kind, body)
            self.node.store.set_mark(mark, str(record.index))

    def _grant(self, row: GrantRow) -> dict[str, Any]:
        at = self.node.chain.finalized()
        found = self.node.chain.grant(row.id, at=at)
        policy = self.node.store.policy_of(row.id)
        standing = {
            "policy": None if policy is None else policy.model_dump(mode="json"),
            "policy_digest": None if policy is None else policy.digest(),
            "uses_left": found.uses_left,
            "epsilon_left": found.epsilon_left,
            "status": found.status(at.timestamp).name.lower(),
            "security": in_words(found.protections),
        }
        return {"id": row.id, "issued_at": int(row.issued_at), **row.terms, **standing}

    def _learns(self, spec: str | None) -> list[dict[str, Any]]:
        """Empty as long as the specification is not here."""
        if spec is None:
            return []
        return [asdict(each) for each in disclosure(read_spec(spec.encode()), self.node.bundles.manifest)]

    def _standing(self, task: Hex32) -> dict[str, Any] | None:
        at = self.node.chain.finalized()
        standing = self.node.chain.task(task, at=at)
        if standing is None:
            return None
        return {
            "state": standing.state.name.lower(),
            "block": at.number,
            "approved": standing.approved,
            "started": standing.started,
            "finished": standing.finished,
        }

    def _open(self, task: Hex32) -> TaskRow:
        row = self.node.store.task(task)
        if row.over:
            raise TaskOver(f"task {task} is over: {row.stage}")
        return row

    def _stop_on_chain(self, row: TaskRow) -> None:
        """Stop what runs. What does not run yet is refused by the gate, which records why."""
        node = self.node
        standing = node.chain.task(row.id, at=node.chain.finalized())
        if standing is None or standing.state is not TaskState.RUNNING:
            return
        with suppress(Reverted):  # it ended meanwhile: the gate looks at it next
            node.acts.stop(row.id, stored_terms.from_text(row.terms))


def _task(row: TaskRow) -> dict[str, Any]:
    terms = stored_terms.from_text(row.terms)
    return {
        "id": row.id,
        "requester": row.requester,
        "parties": list(terms.parties),
        "protections": names_of(terms.protections),
        "security": in_words(terms.protections),
        "deadline": row.deadline,
        "stage": row.stage,
        "note": row.note,
        "approval": row.approval,
        "over": row.over,
        "seen_at": int(row.seen_at),
    }


def _plain(order: GrantOrder) -> dict[str, Any]:
    plain = asdict(order)
    del plain["policy"]
    return plain | {"protections": list(order.protections), "participants": list(order.participants)}


def _named(policy: AttestationPolicy | None) -> dict[str, str]:
    """A policy in the record of its grant: by its digest, and whole, so that an auditor can judge by it.

    The text has at most 64 KiB and a record 256 KiB: quoted inside it, the text fits.
    """
    return {} if policy is None else {"policy": policy.digest(), "policy_text": policy.text().decode()}


def _token_hash(token: str) -> Hex32:
    # A token has 256 random bits: a plain hash cannot be searched, and needs no salt.
    return Hex32("0x" + hashlib.sha256(token.encode()).hexdigest())


def _answer(ask: Any) -> Mapping[str, Any]:
    try:
        found = ask()
    except Exception as cause:  # health tells of everything, ours and the libraries'
        return {"ok": False, "error": type(cause).__name__, "detail": str(cause)[:300]}
    return {"ok": True} if found is None else {"ok": True, "at": found}
