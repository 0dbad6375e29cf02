"""The routes. Each parses, calls the node's operations, replies; and knows which role it needs."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import socket
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import uvicorn
from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response, Security
from fastapi.responses import StreamingResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import Field

from sealtrace import __version__
from sealtrace.algorithms.bundles import SHIPPED
from sealtrace.node.api import models
from sealtrace.node.api.problems import BodyTooLarge, BodyTooSlow, install, problem, problems
from sealtrace.node.datasets import allowed
from sealtrace.node.errors import (
    BundleInvalid,
    ChainRefused,
    ChainUnavailable,
    DatasetNotFound,
    DatasetUnreadable,
    DiskFull,
    GrantNotFound,
    InvalidRequest,
    NotAllowed,
    NotAuthenticated,
    PathNotAllowed,
    PortTaken,
    RecordNotFound,
    StatementNotFound,
    TaskNotFound,
    TaskOver,
)
from sealtrace.node.operations import GrantOrder, Operations, TokenRole, UnknownProtection
from sealtrace.node.policies import (
    PolicyDiffers,
    PolicyInvalid,
    PolicyMismatch,
    PolicyMissing,
    PolicyNotNeeded,
    policy_of_body,
)
from sealtrace.protocol.canonical import canonical
from sealtrace.protocol.identifiers import Hex32, Hex32Field
from sealtrace.protocol.records import DataClass

CHECKPOINT_HEADER = "X-Sealtrace-Checkpoint"
MAX_BODY_BYTES = 1 << 20
BODY_SECONDS = 30.0
"""How long a client may take to send its request."""

_bearer = HTTPBearer(auto_error=False, description="A token of this node: sealtrace node token add")


def _operations(request: Request) -> Operations:
    operations: Operations = request.app.state.operations
    return operations


OperationsDep = Annotated[Operations, Depends(_operations)]
BearerDep = Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]


def reader(operations: OperationsDep, bearer: BearerDep) -> str:
    """The name of whoever asks; any token will do."""
    if bearer is None:
        raise NotAuthenticated("no bearer token was sent")
    return operations.who(bearer.credentials)[0]


def operator(operations: OperationsDep, bearer: BearerDep) -> str:
    """The name of an operator who asks."""
    if bearer is None:
        raise NotAuthenticated("no bearer token was sent")
    name, role = operations.who(bearer.credentials)
    if role is not TokenRole.OPERATOR:
        raise NotAllowed(f"the token {name!r} may read, not act")
    return name


ReaderDep = Annotated[str, Depends(reader)]
OperatorDep = Annotated[str, Depends(operator)]
RecordIndex = Annotated[int, Field(ge=0, lt=2**53)]
"""A place in the log; the log is canonical JSON, whose integers end there (RFC 8785 §3.2.2.3)."""
_READ = (NotAuthenticated, ChainUnavailable)
_ACT = (NotAuthenticated, NotAllowed, InvalidRequest, ChainUnavailable, ChainRefused, DiskFull)
_POLICIES = (PolicyInvalid, PolicyMissing, PolicyNotNeeded, PolicyMismatch, PolicyDiffers)

router = APIRouter(prefix="/v1")


@router.get("/health", tags=["node"])
def health(operations: OperationsDep) -> models.Health:
    """Tell whether what the node needs answers. Asked without a token, it says no more than that."""
    found = operations.health()
    parts = {name: {"ok": part["ok"]} for name, part in found["parts"].items()}
    return models.Health(status=found["status"], parts=parts)


@router.get("/node", tags=["node"], responses=problems(*_READ))
def about(operations: OperationsDep, _: ReaderDep) -> models.About:
    """Show the node's public face, and how it stands on the chain."""
    return models.About(**operations.about())


@router.get("/datasets", tags=["datasets"], responses=problems(NotAuthenticated))
def list_datasets(operations: OperationsDep, _: ReaderDep) -> list[models.Dataset]:
    """List all datasets, withdrawn ones included."""
    return [models.Dataset(**each) for each in operations.datasets()]


@router.post(
    "/datasets",
    status_code=201,
    tags=["datasets"],
    responses=problems(*_ACT, PathNotAllowed, DatasetUnreadable, DatasetNotFound),
)
def add_dataset(body: models.AddDataset, operations: OperationsDep, _: OperatorDep) -> models.Dataset:
    """Fingerprint a table on the node's disk and put its salted commitment on the chain.

    The path must lie under one of ``data_dirs``. The table is not copied unless ``copy_in`` says so. Added
    again unchanged, it is the same dataset. With ``supersedes`` it is that dataset's next version.
    """
    path = allowed(Path(body.path), operations.node.settings.data_dirs)
    data_class = DataClass[body.data_class.upper()]
    added = operations.add_dataset(path, body.name, data_class, copy=body.copy_in, supersedes=body.supersedes)
    return models.Dataset(**added)


@router.delete("/datasets/{dataset}", tags=["datasets"], responses=problems(*_ACT, DatasetNotFound))
def withdraw_dataset(dataset: Hex32Field, operations: OperationsDep, _: OperatorDep) -> models.Dataset:
    """Withdraw a dataset: no task starts on it from then on. The file stays where it is."""
    return models.Dataset(**operations.withdraw_dataset(dataset))


@router.get("/grants", tags=["grants"], responses=problems(*_READ))
def list_grants(operations: OperationsDep, _: ReaderDep) -> list[models.Grant]:
    """List the grants this node issued, as they stand on the chain."""
    return [models.Grant(**each) for each in operations.grants()]


@router.post(
    "/grants",
    status_code=201,
    tags=["grants"],
    responses=problems(*_ACT, DatasetNotFound, GrantNotFound, UnknownProtection, *_POLICIES),
)
def issue_grant(body: models.IssueGrant, operations: OperationsDep, _: OperatorDep) -> models.Grant:
    """Issue a grant and wait until the chain has it. The same ``reference`` again is the same grant.

    ``participants`` are the only ones who may be parties beside this node; ``replaces`` ends another grant in
    the same step. ``policy`` says which enclave is taken for one, where the protections allow any.
    """
    words = body.model_dump(exclude={"reference", "replaces", "protections", "participants", "policy"})
    words["policy"] = None if body.policy is None else policy_of_body(body.policy)
    words |= {"protections": tuple(body.protections), "participants": tuple(body.participants)}
    order = GrantOrder(**words)
    return models.Grant(**operations.issue_grant(order, body.reference, body.replaces))


@router.post("/grants/{grant}/revoke", tags=["grants"], responses=problems(*_ACT, GrantNotFound))
def revoke_grant(grant: Hex32Field, operations: OperationsDep, _: OperatorDep) -> models.Grant:
    """End a grant at once. A task that has started is not stopped by it: stop the task."""
    return models.Grant(**operations.revoke_grant(grant))


@router.get("/tasks", tags=["tasks"], responses=problems(NotAuthenticated))
def list_tasks(
    operations: OperationsDep,
    _: ReaderDep,
    open_only: bool = False,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> list[models.Task]:
    """List the newest tasks that the chain names this node for, the newest first."""
    return [models.Task(**each) for each in operations.tasks(open_only=open_only, limit=limit)]


@router.get("/tasks/{task}", tags=["tasks"], responses=problems(*_READ, TaskNotFound))
def show_task(task: Hex32Field, operations: OperationsDep, _: ReaderDep) -> models.TaskWhole:
    """Show one task: its standing, its specification, and every record of it in the evidence log."""
    return models.TaskWhole(**operations.task(task))


@router.post(
    "/tasks/{task}/approve",
    status_code=202,
    tags=["tasks"],
    responses=problems(*_ACT, TaskNotFound, TaskOver),
)
def approve_task(task: Hex32Field, operations: OperationsDep, _: OperatorDep) -> models.Task:
    """Let a waiting task run, as far as this node goes. The worker tells the chain."""
    return models.Task(**operations.approve(task))


@router.post(
    "/tasks/{task}/refuse", status_code=202, tags=["tasks"], responses=problems(*_ACT, TaskNotFound, TaskOver)
)
def refuse_task(task: Hex32Field, operations: OperationsDep, _: OperatorDep) -> models.Task:
    """Refuse a task that has not begun; one that runs is stopped."""
    return models.Task(**operations.refuse(task))


@router.post(
    "/tasks/{task}/stop", status_code=202, tags=["tasks"], responses=problems(*_ACT, TaskNotFound, TaskOver)
)
def stop_task(task: Hex32Field, operations: OperationsDep, _: OperatorDep) -> models.Task:
    """End a task on this node's data now: the chain told, traffic cut, the engine killed."""
    return models.Task(**operations.stop(task))


@router.get("/algorithms", tags=["algorithms"], responses=problems(NotAuthenticated))
def list_algorithms(operations: OperationsDep, _: ReaderDep) -> list[models.Algorithm]:
    """List the bundles here, each re-hashed now."""
    return [models.Algorithm(**asdict(each)) for each in operations.algorithms()]


@router.post(
    "/algorithms",
    status_code=201,
    tags=["algorithms"],
    responses=problems(*_ACT, PathNotAllowed, BundleInvalid),
)
def add_algorithm(body: models.AddAlgorithm, operations: OperationsDep, _: OperatorDep) -> models.Algorithm:
    """Take in an algorithm bundle from the node's disk; its digest is computed, and compared where given.

    The path must lie under one of ``data_dirs``, or be a bundle that ships with this distribution.
    """
    path = allowed(Path(body.path), [*operations.node.settings.data_dirs, SHIPPED])
    return models.Algorithm(**asdict(operations.add_algorithm(path, body.digest)))


@router.get(
    "/evidence",
    tags=["evidence"],
    response_class=StreamingResponse,
    responses={200: {"content": {"application/jsonl": {}}}, **problems(*_READ, DiskFull)},
)
def export_evidence(operations: OperationsDep, name: ReaderDep, first: RecordIndex = 0) -> StreamingResponse:
    """Stream the evidence log, one canonical record a line, from ``first`` on. The reading is recorded.

    The header ``X-Sealtrace-Checkpoint`` is the signed checkpoint up to which it goes: base64url of
    canonical JSON.
    """
    signed, lines = operations.read_evidence(name, first)
    text = base64.urlsafe_b64encode(canonical(signed.model_dump(mode="json"))).decode()
    return StreamingResponse(lines, media_type="application/jsonl", headers={CHECKPOINT_HEADER: text})


@router.get("/evidence/checkpoint", tags=["evidence"], responses=problems(*_READ))
def show_checkpoint(operations: OperationsDep, _: ReaderDep) -> models.Checkpoint:
    """Show size and root of the evidence log, signed."""
    checkpoint = operations.node.evidence.checkpoint()
    signed = operations.sign(checkpoint).model_dump(mode="json")
    return models.Checkpoint(size=checkpoint.size, root=checkpoint.root, signed=signed)


@router.get("/evidence/{index}", tags=["evidence"], responses=problems(*_READ, RecordNotFound, DiskFull))
def prove_record(index: RecordIndex, operations: OperationsDep, name: ReaderDep) -> models.RecordProof:
    """Show one record with the proof that it is in the log, and nothing of the others."""
    return models.RecordProof(**operations.evidence_proof(index, name))


@router.get("/statements", tags=["evidence"], responses=problems(*_READ, DiskFull))
def list_statements(operations: OperationsDep, name: ReaderDep) -> models.Statements:
    """List the statements of enclaves kept here, with this node's certificate. The reading is recorded."""
    found = operations.read_statements(name)
    kept = [models.KeptStatement(digest=digest, bytes=size) for digest, size in found.kept]
    return models.Statements(certificate=found.certificate.hex(), statements=kept)


@router.get(
    "/statements/{digest}",
    tags=["evidence"],
    response_class=Response,
    responses={
        200: {"content": {"application/json": {}}},
        **problems(*_READ, StatementNotFound, InvalidRequest, DiskFull),
    },
)
def show_statement(digest: Hex32Field, operations: OperationsDep, name: ReaderDep) -> Response:
    """Give one statement of an enclave, byte for byte as its digest is over it. The reading is recorded."""
    return Response(operations.read_statement(Hex32(digest), name), media_type="application/json")


class _Bounded:
    """Refuses bodies that no route needs, before they are read, and those that do not come."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            body = await _body(scope, receive)
        except (BodyTooLarge, BodyTooSlow) as error:
            await problem(error)(scope, receive, send)
            return
        await self._app(scope, _first(body, receive), send)


async def _body(scope: Any, receive: Any) -> Any:
    """The whole body as one message, or that the client left."""
    if not _small(dict(scope.get("headers", ()))):
        raise BodyTooLarge(f"a body has at most {MAX_BODY_BYTES} bytes, and its length is told")
    parts: list[bytes] = []
    message: dict[str, Any] = {"more_body": True}
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while message.get("more_body"):
                message = await receive()
                parts.append(message.get("body", b""))
    except TimeoutError as cause:
        raise BodyTooSlow(f"the body took over {BODY_SECONDS:g} s") from cause
    return {**message, "body": b"".join(parts)}


def _first(message: Any, receive: Any) -> Any:
    """``receive``, with ``message`` before all others."""
    waiting = [message]

    async def next_message() -> Any:
        return waiting.pop() if waiting else await receive()

    return next_message


def _small(headers: dict[bytes, bytes]) -> bool:
    length = headers.get(b"content-length", b"0")
    chunked = b"transfer-encoding" in headers
    return not chunked and length.isdigit() and int(length) <= MAX_BODY_BYTES


def build(operations: Operations) -> FastAPI:
    """The application."""
    app = FastAPI(
        title="Sealtrace node",
        version=__version__,
        description="What an operator's own systems ask of a node. Acts need a token of the role operator.",
    )
    app.state.operations = operations
    app.add_middleware(_Bounded)
    app.include_router(router)
    install(app)
    return app


def serve(operations: Operations, announce: Callable[[str], None]) -> None:
    """Serve until told to end; ``announce`` gets the URL once the port is held.

    Raises:
        PortTaken: somebody else listens there.
    """
    where = operations.node.settings.api
    with contextlib.closing(_listen(where.host, where.port)) as listener:
        announce(f"http://{where.host}:{listener.getsockname()[1]}")
        config = uvicorn.Config(
            build(operations), log_level="warning", server_header=False, timeout_graceful_shutdown=5
        )
        uvicorn.Server(config).run([listener])


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError as cause:
        listener.close()
        raise PortTaken(f"cannot listen at {host}:{port}: {cause}") from cause
    return listener
