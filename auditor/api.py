"""The auditor as a service: a regulator asks for audits and fetches what they found, with a bearer token.

Whatever a token's bearer is given is first entered in the log of reads (:mod:`reads`).
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any

import structlog
from fastapi import Depends, FastAPI, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sealtrace import __version__
from sealtrace.auditor.checks import UnknownRule, known_rule
from sealtrace.auditor.exports.fonts import FontMissing
from sealtrace.auditor.exports.formats import FormatUnavailable, available
from sealtrace.auditor.exports.signing import CannotSign
from sealtrace.auditor.inquiry import EmptyRange, RangeTooLong
from sealtrace.auditor.jobs import (
    ARTEFACTS,
    ArtefactAltered,
    AuditNotFound,
    AuditUnderWay,
    Entry,
    State,
    TooManyAudits,
    Wanted,
)
from sealtrace.auditor.reads import ReadLog, ReadNotFound, ReadsTampered, ReadsUnwritable
from sealtrace.auditor.service import Service
from sealtrace.auditor.settings import TokenUnreadable, signing_of
from sealtrace.auditor.tokens import TokensUnreadable
from sealtrace.protocol.canonical import sha256
from sealtrace.protocol.faults import first_fault
from sealtrace.protocol.identifiers import Hex32

MAX_BODY_BYTES = 4096
BODY_SECONDS = 10.0
"""How long a client may take to send its request."""
READS_HEADER = "X-Sealtrace-Reads"
"""Size and root of the log of reads once this answer is in it; keep one, and hold the log to it later."""
_DIGEST = "content-digest"
_BEARER = HTTPBearer(auto_error=False, description="A regulator's token: sealtrace audit token add")
_log = structlog.get_logger("auditor.api")


class NotAdmitted(PermissionError):
    """The request has no token, or one that is not known here: send Authorization: Bearer."""


class BodyTooLarge(ValueError):
    """The request's body is larger than any route needs, or does not say how large it is."""


class BodyTooSlow(TimeoutError):
    """The request's body did not arrive in time."""


class Artefact(BaseModel):
    """Digest and size of a file that an audit wrote."""

    sha256: str
    size: int


class Progress(BaseModel):
    """The stage that an audit is at, and which of how many it is."""

    stage: str
    step: int
    of: int


class Taken(BaseModel):
    """An audit as it was asked for, and its state.

    Where it is done there are ``result``, ``sentence``, ``counts``, ``last_block``, ``last_hash`` and
    ``artefacts``; where it is broken or was interrupted by a stop of the service, ``detail`` says why.
    """

    model_config = ConfigDict(extra="allow")

    id: str
    state: State
    asked_at: int
    asked_by: str
    progress: Progress | None = None
    detail: str | None = None
    artefacts: dict[str, Artefact] | None = None


class Consistency(BaseModel):
    """The proof (RFC 9162 §2.1.4.1) that the first ``old`` reads are a prefix of the first ``size``."""

    old: int
    size: int
    root: str
    proof: list[str]


class Problem(BaseModel):
    """What went wrong (RFC 9457), and in ``next`` what to do."""

    type: str
    title: str
    status: int
    detail: str
    next: str


def create_app(service: Service) -> FastAPI:
    """The API of ``service``, which is closed with it."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(service.close)

    def admitted(
        request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]
    ) -> None:
        name = service.tokens.who(credentials.credentials) if credentials else None
        if name is None:
            raise NotAdmitted("no token, or one that is not known here")
        request.state.who = name

    app = FastAPI(
        title="Sealtrace auditor",
        version=__version__,
        lifespan=lifespan,
        description="Audits for regulators. Each answer to a token's bearer is entered in the log of reads "
        f"before it goes out; {READS_HEADER} tells the log's size and root.",
    )
    guarded = [Depends(admitted)]
    jobs = service.jobs

    @app.get("/v1/health")
    def health() -> dict[str, str]:
        """Whether the service answers; open to all."""
        return {"status": "ok", "version": __version__}

    @app.post(
        "/v1/audits",
        status_code=202,
        dependencies=guarded,
        response_model=Taken,
        responses=_may(401, 409, 422, 429, 501),
    )
    def ask(wanted: Wanted, request: Request) -> Entry:
        """Queue an audit. One of the same blocks that waits or runs is not begun a second time."""
        pages = service.settings.pages(wanted.language)
        available(wanted.formats, signing_of(service.settings, wanted), pages)
        known_rule(wanted.rule)
        inquiry = service.settings.inquiry(wanted)
        if wanted.first is not None and wanted.last is not None:
            inquiry.bounds(wanted.first, wanted.last)  # before it waits for its turn
        return jobs.begin(wanted, request.state.who)

    @app.get("/v1/audits", dependencies=guarded, response_model=list[Taken], responses=_may(401, 422))
    def every(limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> list[Entry]:
        """The newest audits, the newest first, whoever asked for them."""
        return jobs.all()[:limit]

    @app.get("/v1/audits/{identity}", dependencies=guarded, response_model=Taken, responses=_may(401, 404))
    def one(identity: str) -> Entry:
        """One audit, and how far it is."""
        return jobs.one(identity)

    @app.get(
        "/v1/audits/{identity}/{name}",
        dependencies=guarded,
        response_class=FileResponse,
        responses=_may(401, 404, 500),
    )
    def artefact(identity: str, name: str) -> FileResponse:
        """A file that the audit wrote: `report.html`, `report.json`, `audit.tar`, or another that was asked
        for. Its digest is compared first with the one that the audit noted."""
        path, digest, _ = jobs.artefact(identity, name)
        headers = {"X-Content-Type-Options": "nosniff", _DIGEST: _content_digest(digest)}
        return FileResponse(path, media_type=ARTEFACTS[name], headers=headers)

    @app.get("/v1/reads/consistency", dependencies=guarded, responses=_may(401, 404, 422))
    def consistency(old: Annotated[int, Query(ge=1)]) -> Consistency:
        """The proof that the log of reads still begins with the `old` reads that a former answer told of."""
        head, proof = service.reads.consistency(old)
        return Consistency(old=old, size=head.size, root=head.root, proof=list(proof))

    _answer_problems(app)
    app.add_middleware(_Logged, reads=service.reads)
    app.add_middleware(_Bounded)
    return app


_UNLOGGED = (ReadsUnwritable, ReadsTampered)
"""Why an answer could not be entered, so that it was not given."""


class _Logged:
    """Enters every answer to a token's bearer in the log of reads before its first byte goes out."""

    def __init__(self, app: ASGIApp, reads: ReadLog) -> None:
        self._app = app
        self._reads = reads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # Parts of an artefact are not given: the digest that is logged is of the whole.
        headers = [(name, value) for name, value in scope["headers"] if name not in (b"range", b"if-range")]
        scope = {**scope, "headers": headers}
        state: dict[str, Any] = scope.setdefault("state", {})
        begun: list[Message] = []

        async def entered(message: Message) -> None:
            if "who" not in state or (message["type"] != "http.response.start" and not begun):
                await send(message)
            elif message["type"] == "http.response.start":
                begun.append(message)
            else:
                start = begun.pop()
                await self._enter(scope, state["who"], start, message)
                await send(start)
                await send(message)

        try:
            await self._app(scope, receive, entered)
        except _UNLOGGED as error:
            _log.error(str(error))
            await (await _ours(Request(scope), error))(scope, receive, send)

    async def _enter(self, scope: Scope, who: str, start: Message, first: Message) -> None:
        headers = MutableHeaders(raw=start["headers"])
        if _DIGEST in headers:
            digest, size = _digest_in(headers[_DIGEST]), int(headers["content-length"])
        else:
            digest, size = sha256(first.get("body", b"")), len(first.get("body", b""))
            headers[_DIGEST] = _content_digest(digest)
        what = f"{scope['method']} {_target(scope)}"
        head = await run_in_threadpool(self._reads.append, who, what, start["status"], digest, size)
        headers[READS_HEADER] = str(head)
        start["headers"] = headers.raw


def _target(scope: Scope) -> str:
    query = scope.get("query_string", b"")
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    return (raw + (b"?" + query if query else b"")).decode("latin-1")


def _content_digest(digest: Hex32) -> str:
    """As RFC 9530 writes it."""
    return f"sha-256=:{base64.b64encode(bytes.fromhex(digest[2:])).decode()}:"


def _digest_in(header: str) -> Hex32:
    return Hex32("0x" + base64.b64decode(header.removeprefix("sha-256=:").removesuffix(":")).hex())


class _Bounded:
    """Refuses bodies that no route needs, before they are read, and those that do not come."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            waiting = [await _body(scope, receive)]
        except (BodyTooLarge, BodyTooSlow) as error:
            await (await _ours(Request(scope), error))(scope, receive, send)
            return

        async def next_message() -> Message:
            return waiting.pop() if waiting else await receive()

        await self._app(scope, next_message, send)


async def _body(scope: Scope, receive: Receive) -> Message:
    """The whole body as one message, or that the client left."""
    headers = dict(scope["headers"])
    length = headers.get(b"content-length", b"0")
    if b"transfer-encoding" in headers or not length.isdigit() or int(length) > MAX_BODY_BYTES:
        raise BodyTooLarge(f"a body has at most {MAX_BODY_BYTES} bytes, and its length is told")
    parts: list[bytes] = []
    message: Message = {"more_body": True}
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while message.get("more_body"):
                message = await receive()
                parts.append(message.get("body", b""))
    except TimeoutError as cause:
        raise BodyTooSlow(f"the body took over {BODY_SECONDS:g} s") from cause
    return {**message, "body": b"".join(parts)}


_PROBLEMS: Mapping[type[Exception], tuple[int, str]] = {
    NotAdmitted: (401, "Send the regulator's token as Authorization: Bearer."),
    AuditNotFound: (404, "List the audits with GET /v1/audits."),
    ReadNotFound: (404, "Ask from a size that an answer told of."),
    AuditUnderWay: (409, "Fetch that one, or ask again when it is over."),
    EmptyRange: (422, "Ask for blocks that there are."),
    RangeTooLong: (422, "Ask for several shorter ranges."),
    UnknownRule: (422, "See docs/checks.md for the rules."),
    TooManyAudits: (429, "Wait until some are done."),
    BodyTooLarge: (413, "Send less, with a Content-Length."),
    BodyTooSlow: (408, "Send it again over a better connection."),
    ArtefactAltered: (500, "Ask for the audit anew, and find out who changed the file."),
    CannotSign: (500, "Mend [signing] in auditor.toml, or ask for other formats than pdf."),
    ReadsTampered: (500, "Keep the auditor's folder as it is, and run sealtrace audit reads."),
    TokenUnreadable: (500, "Mend [[evidence]] in auditor.toml."),
    TokensUnreadable: (500, "Mend tokens.json, or remove it and make new tokens."),
    FontMissing: (501, "Install a font that has Chinese, or name a folder as fonts in auditor.toml."),
    FormatUnavailable: (501, "Have sealtrace[auditor] installed here, or ask for html and json."),
    ReadsUnwritable: (507, "Have room made on the auditor's disk."),
}


def _may(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """How OpenAPI shows the problems that a route may answer with."""
    named = {
        each: sorted(kind.__name__ for kind, (status, _) in _PROBLEMS.items() if status == each)
        for each in statuses
    }
    named[422] = ["MalformedRequest", *named.get(422, [])]
    return {
        each: {"description": ", ".join(names), "model": Problem}
        for each, names in named.items()
        if each in statuses
    }


def _answer_problems(app: FastAPI) -> None:
    """Every error as application/problem+json (RFC 9457)."""
    for kind in _PROBLEMS:
        if kind not in _UNLOGGED:
            app.exception_handler(kind)(_ours)
    app.exception_handler(RequestValidationError)(_malformed)
    app.exception_handler(HTTPException)(_theirs)


async def _ours(request: Request, error: Exception) -> JSONResponse:
    status, then = _PROBLEMS[type(error)]
    return _problem(status, type(error).__name__, str(error), then)


async def _malformed(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - the handler is registered for these only
    fault = first_fault(error.errors(), "request")
    return _problem(422, "MalformedRequest", fault, "See /docs for what is expected.")


async def _theirs(request: Request, error: Exception) -> JSONResponse:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return _problem(
        status, "NoSuchThing", str(getattr(error, "detail", error)), "See /docs for what there is."
    )


def _problem(status: int, name: str, detail: str, then: str) -> JSONResponse:
    content = {"type": f"urn:sealtrace:problem:{name}", "title": name, "status": status, "detail": detail}
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return JSONResponse(
        {**content, "next": then}, status, headers=headers, media_type="application/problem+json"
    )
