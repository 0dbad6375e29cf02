"""The scheduler's HTTP API. A route parses, calls, replies; errors are ``application/problem+json``."""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import socket
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import uvicorn
from fastapi import APIRouter, Depends, FastAPI, Header, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

from sealtrace.contracts.errors import ChainError
from sealtrace.protocol.attestation.appraisal import Stage
from sealtrace.protocol.attestation.statement import MAX_STATEMENT_BYTES
from sealtrace.protocol.canonical import NotCanonical, parse
from sealtrace.protocol.faults import first_fault
from sealtrace.protocol.identifiers import AddressField, Hex32Field
from sealtrace.protocol.statements import Signed
from sealtrace.scheduler import chase, delivery, enclaves, intake, planning
from sealtrace.scheduler.errors import (
    ChainUnavailable,
    MalformedRequest,
    NoSuchRoute,
    PortTaken,
    SchedulerError,
    TooManyRequests,
)
from sealtrace.scheduler.limits import Buckets, pieces, whole
from sealtrace.scheduler.tasks import MAX_METRICS_BYTES, Metrics, Output
from sealtrace.scheduler.wiring import Scheduler

STATEMENT_HEADER = "X-Sealtrace-Statement"
MAX_STATEMENT_CHARACTERS = 8 << 10
PROBLEM = "application/problem+json"

router = APIRouter(prefix="/v1")


def _scheduler(request: Request) -> Scheduler:
    scheduler: Scheduler = request.app.state.scheduler
    return scheduler


SchedulerDep = Annotated[Scheduler, Depends(_scheduler)]


async def _document(request: Request, scheduler: SchedulerDep) -> Any:
    """The request's body as strict JSON."""
    limits = scheduler.settings.limits
    text = await whole(request, limits.document_bytes, limits.body_timeout_s)
    try:
        return parse(text, limit_bytes=limits.document_bytes)
    except NotCanonical as cause:
        raise MalformedRequest(f"the body is {cause}") from cause


DocumentDep = Annotated[Any, Depends(_document)]


def _signed_body(document: DocumentDep) -> Signed:
    return _signed(document)


def _signed_header(
    statement: Annotated[str, Header(alias=STATEMENT_HEADER, max_length=MAX_STATEMENT_CHARACTERS)],
) -> Signed:
    """The statement that comes as base64url of its JSON."""
    try:
        text = base64.b64decode(statement.encode("ascii"), altchars=b"-_", validate=True)
        return _signed(parse(text, limit_bytes=MAX_STATEMENT_CHARACTERS))
    except (binascii.Error, ValueError) as cause:
        raise MalformedRequest(f"the header {STATEMENT_HEADER} is not base64url of JSON: {cause}") from cause


SignedBody = Annotated[Signed, Depends(_signed_body)]
SignedHeader = Annotated[Signed, Depends(_signed_header)]


class Heard(BaseModel):
    """A heartbeat was taken; send the next well before ``ttl_seconds`` are over."""

    node: str
    ttl_seconds: float


class TaskAccepted(BaseModel):
    """A task is on the scheduler's books. Its requester creates it on chain under this id."""

    task: str
    warnings: list[str]


class Planned(BaseModel):
    """A draft made into a specification; ``warnings`` is what owners' nodes may refuse it for."""

    spec: dict[str, Any]
    task: str
    warnings: list[str]


class PartyIntroduced(BaseModel):
    """Where a party is met. Check the certificate against the chain before you trust it."""

    address: str
    gateway_url: str
    certificate_pem: str


class Introduction(BaseModel):
    """The canonical text of the specification, and its parties."""

    spec: str
    parties: list[PartyIntroduced]


class PartyShown(BaseModel):
    """How far a party is, by the chain; ``output`` is the digest of what it delivered here."""

    address: str
    approved: bool
    started: bool
    finished: bool
    output: str | None


class TaskShown(BaseModel):
    """A task by the chain's last word. ``fresh`` is false when the chain could not be asked just now."""

    task: str
    requester: str
    state: str
    block: int | None
    deadline: int
    over: bool
    parties: list[PartyShown]
    warnings: list[str]
    late: list[str]
    purged: bool
    fresh: bool


class OutputKept(BaseModel):
    """A sealed output is here."""

    task: str
    party: str
    digest: str


class StatementShown(BaseModel):
    """A statement of a task's enclave is here, under the SHA-256 of its bytes."""

    digest: str
    stage: Stage


class MetricsKept(BaseModel):
    """A sealed message of metrics is here."""

    task: str
    number: int
    digest: str


class MetricsShown(BaseModel):
    """A message of metrics, sealed to the requester (base64), and the statement that its party signed."""

    number: int
    sealed: str
    statement: dict[str, Any]


class NodeShown(BaseModel):
    """A node's last heartbeat."""

    address: str
    gateway_url: str
    engines: list[str]
    version: str
    heard_at: int
    alive: bool


class Health(BaseModel):
    """Whether the scheduler can do its work. ``chain`` is ``ok`` or what is wrong."""

    ok: bool
    chain: str
    block: int | None
    nodes_alive: int
    open_tasks: int


def _statement_body(description: str) -> dict[str, Any]:
    """How OpenAPI shows a body that is read by our own strict decoder."""
    schema = {"type": "object", "required": ["statement", "signature"], "description": description}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


_BYTES_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.post("/nodes", openapi_extra=_statement_body("A signed statement of kind node.hello"))
def hear_node(signed: SignedBody, scheduler: SchedulerDep) -> Heard:
    """Take a node's heartbeat: a signed ``node.hello`` for the audience ``scheduler``."""
    heard = intake.take_heartbeat(signed, scheduler.store, scheduler.chain, scheduler.now())
    return Heard(node=heard.node, ttl_seconds=scheduler.settings.times.presence_s)


@router.get("/nodes")
def list_nodes(scheduler: SchedulerDep) -> list[NodeShown]:
    """Show who was heard of, and who still counts as there."""
    now, presence_s = scheduler.now(), scheduler.settings.times.presence_s
    return [
        NodeShown(
            address=each.node,
            gateway_url=each.gateway_url,
            engines=list(each.engines),
            version=each.version,
            heard_at=each.heard_at,
            alive=each.alive(now, presence_s),
        )
        for each in scheduler.store.presences()
    ]


@router.post("/plans", openapi_extra=_statement_body("An object with one key, draft"))
def plan(document: DocumentDep, scheduler: SchedulerDep) -> Planned:
    """Choose protocols for a draft. Nothing is kept; compare the answer with what you asked."""
    if not isinstance(document, dict) or set(document) != {"draft"}:
        raise MalformedRequest("the body is an object with one key, draft")
    draft = planning.read_draft(document["draft"])
    chain = scheduler.chain
    at = chain.finalized()
    found = {id: chain.grant(id, at=at) for id in sorted(draft.grant_ids())}
    spec = planning.plan(draft, {id: grant for id, grant in found.items() if grant is not None})
    facts = chain.facts(spec.terms(), at=at)
    return Planned(
        spec=spec.model_dump(mode="json"),
        task=chain.task_id(spec.terms()),
        warnings=list(intake.warnings_of(spec, facts, at.timestamp)),
    )


@router.post(
    "/tasks", status_code=202, openapi_extra=_statement_body("A signed statement of kind task.submit")
)
def submit_task(signed: SignedBody, scheduler: SchedulerDep) -> TaskAccepted:
    """Take a specification. This authorizes nothing: owners' nodes and the chain decide."""
    accepted = intake.take_task(signed, scheduler.store, scheduler.chain, scheduler.rules, scheduler.now())
    return TaskAccepted(task=accepted.task.id, warnings=list(accepted.task.warnings))


@router.get("/tasks/{task}/introduction")
def introduce(task: Hex32Field, scheduler: SchedulerDep) -> Introduction:
    """Show a task's specification and where its parties are met."""
    return Introduction.model_validate(delivery.introduction(task, scheduler.store))


@router.get("/tasks/{task}")
def show_task(task: Hex32Field, scheduler: SchedulerDep) -> TaskShown:
    """Show where a task stands on the chain, and which outputs are here."""
    found = delivery.known(task, scheduler.store)
    fresh = True
    try:
        found = chase.refresh(
            found, scheduler.store, scheduler.chain, scheduler.settings.times, scheduler.now()
        )
    except ChainError:
        fresh = False  # shown as last seen, with the block it was seen at
    shown = delivery.summary(found, scheduler.store.outputs(task))
    return TaskShown(**shown, fresh=fresh)


@router.put("/tasks/{task}/outputs/{party}", openapi_extra=_BYTES_BODY)
async def put_output(
    task: Hex32Field, party: AddressField, request: Request, signed: SignedHeader, scheduler: SchedulerDep
) -> OutputKept:
    """Take a party's sealed output. The same bytes may come again; other bytes are refused."""
    now = scheduler.now()
    try:
        offer = await run_in_threadpool(delivery.offered, task, party, signed, scheduler.store, now)
    except SchedulerError:
        await _drain(request, scheduler)
        raise
    await (_drain(request, scheduler) if offer is None else _receive(offer, request, scheduler))
    return OutputKept(task=task, party=party, digest=signed.statement.body["digest"])


async def _drain(request: Request, scheduler: Scheduler) -> None:
    """Read and drop the body: a sender that is cut off while it sends would not see the answer."""
    limits = scheduler.settings.limits
    async for _ in pieces(request, limits.output_bytes, limits.body_timeout_s):
        pass


async def _receive(offer: delivery.Offer, request: Request, scheduler: Scheduler) -> None:
    limits = scheduler.settings.limits
    with scheduler.files.receive() as incoming:
        async for piece in pieces(request, limits.output_bytes, limits.body_timeout_s):
            await run_in_threadpool(incoming.write, piece)
        await run_in_threadpool(
            delivery.deliver, offer, incoming, scheduler.files, scheduler.store, scheduler.now()
        )


@router.get(
    "/tasks/{task}/outputs/{party}",
    response_class=Response,
    responses={200: {"content": {"application/octet-stream": {}}}},
)
def get_output(
    task: Hex32Field, party: AddressField, signed: SignedHeader, scheduler: SchedulerDep
) -> Response:
    """Hand a sealed output to the task's requester, with the statement its party signed."""
    output, content = delivery.fetch(task, party, signed, scheduler.files, scheduler.store, scheduler.now())
    return Response(content, media_type="application/octet-stream", headers=_output_headers(output))


def _output_headers(output: Output) -> dict[str, str]:
    return {STATEMENT_HEADER: base64.urlsafe_b64encode(output.statement).decode()}


@router.put("/tasks/{task}/statements/{digest}", openapi_extra=_BYTES_BODY)
async def put_statement(
    task: Hex32Field, digest: Hex32Field, request: Request, signed: SignedHeader, scheduler: SchedulerDep
) -> StatementShown:
    """Take a statement of the task's enclave from its party: one of each stage. It may come again."""
    content = await whole(request, MAX_STATEMENT_BYTES, scheduler.settings.limits.body_timeout_s)
    kept = await run_in_threadpool(
        enclaves.take_statement, task, digest, content, signed, scheduler.store, scheduler.now()
    )
    return StatementShown(digest=kept.digest, stage=kept.stage)


@router.get("/tasks/{task}/statements")
def list_statements(task: Hex32Field, scheduler: SchedulerDep) -> list[StatementShown]:
    """List what the task's enclave has shown so far: the stage and the digest of each statement."""
    kept = enclaves.statements(task, scheduler.store)
    return [StatementShown(digest=each.digest, stage=each.stage) for each in kept]


@router.get("/tasks/{task}/statements/{digest}", response_class=Response)
def get_statement(task: Hex32Field, digest: Hex32Field, scheduler: SchedulerDep) -> Response:
    """Hand out a statement of the task's enclave, in the bytes that its digest is of."""
    kept = enclaves.statement(task, digest, scheduler.store)
    return Response(kept.document, media_type="application/json")


MessageNumber = Annotated[int, Path(ge=0, lt=enclaves.MAX_MESSAGES)]


@router.put("/tasks/{task}/metrics/{number}", openapi_extra=_BYTES_BODY)
async def put_metrics(
    task: Hex32Field, number: MessageNumber, request: Request, signed: SignedHeader, scheduler: SchedulerDep
) -> MetricsKept:
    """Take the next sealed message of metrics from the task's enclave. The same bytes may come again."""
    limits = scheduler.settings.limits
    sealed = await whole(request, MAX_METRICS_BYTES, limits.body_timeout_s)
    kept = await run_in_threadpool(
        enclaves.take_metrics,
        *(task, number, sealed, signed, scheduler.store),
        *(limits.metrics_bytes, scheduler.now()),
    )
    return MetricsKept(task=task, number=number, digest=kept.digest)


@router.get("/tasks/{task}/metrics")
def list_metrics(
    task: Hex32Field,
    signed: SignedHeader,
    scheduler: SchedulerDep,
    after: Annotated[int, Query(ge=-1, lt=enclaves.MAX_MESSAGES)] = -1,
) -> list[MetricsShown]:
    """Hand the requester the next messages of metrics, at most 64, whose number is above `after`."""
    kept = enclaves.metrics(task, after, signed, scheduler.store, scheduler.now())
    return [_shown(each) for each in kept]


def _shown(message: Metrics) -> MetricsShown:
    return MetricsShown(
        number=message.number,
        sealed=base64.b64encode(message.sealed).decode(),
        statement=json.loads(message.statement),
    )


@router.get("/health")
def health(scheduler: SchedulerDep, response: Response) -> Health:
    """Say whether the scheduler can do its work; 503 when the chain cannot be asked."""
    now, presence_s = scheduler.now(), scheduler.settings.times.presence_s
    alive = sum(each.alive(now, presence_s) for each in scheduler.store.presences())
    chain, block = "ok", None
    try:
        block = scheduler.chain.finalized().number
    except ChainError as error:
        chain, response.status_code = f"{type(error).__name__}: {error}", 503
    return Health(
        ok=chain == "ok",
        chain=chain,
        block=block,
        nodes_alive=alive,
        open_tasks=len(scheduler.store.open_tasks()),
    )


def build(scheduler: Scheduler) -> FastAPI:
    """The application over ``scheduler``."""
    app = FastAPI(title="Sealtrace scheduler", version="1", summary=__doc__, docs_url=None, redoc_url=None)
    app.state.scheduler = scheduler
    limits = scheduler.settings.limits
    buckets = Buckets(limits.requests_per_second, limits.burst)

    @app.middleware("http")
    async def limit(request: Request, call: Callable[[Request], Awaitable[Response]]) -> Response:
        address = request.client.host if request.client else "unknown"
        if not buckets.allow(address):
            return _problem(TooManyRequests(f"{address} asks more than {limits.requests_per_second:g}/s"))
        return await call(request)

    app.add_exception_handler(SchedulerError, _on_own)
    app.add_exception_handler(ChainError, _on_chain)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_framework)
    app.include_router(router)
    return app


def serve(scheduler: Scheduler, announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; ``announce`` gets the URL once the port is held.

    Raises:
        PortTaken: somebody else listens there.
    """
    host, port = scheduler.settings.host, scheduler.settings.port
    with contextlib.closing(_listen(host, port)) as listener:
        announce(f"http://{host}:{listener.getsockname()[1]}")
        config = uvicorn.Config(
            build(scheduler), log_level="warning", server_header=False, timeout_graceful_shutdown=5
        )
        uvicorn.Server(config).run([listener])
    scheduler.store.close()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError as cause:
        listener.close()
        raise PortTaken(f"cannot listen at {host}:{port}: {cause}") from cause
    return listener


def _signed(document: Any) -> Signed:
    try:
        return Signed.model_validate(document)
    except ValidationError as cause:
        raise MalformedRequest(f"not a signed statement: {first_fault(cause.errors())}") from cause


def _problem(error: SchedulerError) -> JSONResponse:
    return JSONResponse(error.problem(), status_code=error.status, media_type=PROBLEM)


def _on_own(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, SchedulerError)  # noqa: S101 - the handler is registered for these only
    return _problem(error)


def _on_chain(_request: Request, error: Exception) -> JSONResponse:
    return _problem(ChainUnavailable(f"{type(error).__name__}: {error}"))


def _on_invalid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - see above
    return _problem(MalformedRequest(first_fault(error.errors(), "request")))


def _on_framework(_request: Request, error: Exception) -> JSONResponse:
    """What the framework raises before a route is reached: there is none, or it takes another method."""
    assert isinstance(error, HTTPException)  # noqa: S101 - see above
    body = {**NoSuchRoute(str(error.detail)).problem(), "status": error.status_code}
    return JSONResponse(body, error.status_code, headers=error.headers, media_type=PROBLEM)
