"""The auditor as a service: a regulator asks for audits and fetches reports, with a bearer token."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sealtrace import __version__
from sealtrace.auditor.archive import ARTEFACTS, Archive, AuditNotFound, TooManyAudits
from sealtrace.auditor.audit import Audit
from sealtrace.auditor.exports.formats import USUAL, Format, FormatUnavailable, available
from sealtrace.auditor.exports.signing import CannotSign
from sealtrace.auditor.inquiry import Inquiry, examine
from sealtrace.auditor.settings import Settings
from sealtrace.protocol.faults import first_fault

MAX_BODY_BYTES = 4096
BODY_SECONDS = 10.0
"""How long a client may take to send its request."""

_bearer = HTTPBearer(auto_error=False)


class NotAdmitted(PermissionError):
    """The request has no token, or one that is not known here: send Authorization: Bearer."""


class BodyTooLarge(ValueError):
    """The request's body is larger than any route needs, or does not say how large it is."""


class BodyTooSlow(TimeoutError):
    """The request's body did not arrive in time."""


class Wanted(BaseModel):
    """Which blocks to audit; by default all, from the contracts' first to the last that is final."""

    model_config = ConfigDict(extra="forbid", strict=True)

    first: int | None = Field(default=None, ge=0)
    last: int | None = Field(default=None, ge=0)
    formats: list[Annotated[Format, Field(strict=False)]] = Field(default=list(USUAL), min_length=1)
    """The reports to make; docs/reports.md says which is for whom."""


class Taken(BaseModel):
    """An audit's state: ``waiting``, ``running``, ``done`` or ``broken`` (then ``detail`` says why)."""

    model_config = ConfigDict(extra="allow")

    id: str
    state: str
    asked_at: int


def create_app(settings: Settings, archive: Archive, work: Callable[[Inquiry], Audit] = examine) -> FastAPI:
    """The service over ``archive``."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        archive.close()

    def admitted(
        credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    ) -> None:
        if credentials is None or not settings.admits(credentials.credentials):
            raise NotAdmitted("no token, or one that is not known here")

    app = FastAPI(title="Sealtrace auditor", version=__version__, lifespan=lifespan)
    guarded = [Depends(admitted)]

    @app.get("/v1/health")
    def health() -> dict[str, str]:
        """Whether the service answers; open to all."""
        return {"status": "ok", "version": __version__}

    @app.post("/v1/audits", status_code=202, dependencies=guarded, response_model=Taken)
    def ask(wanted: Wanted) -> dict[str, Any]:
        """Queue an audit."""
        signing = settings.signing.signing() if settings.signing and Format.PDF in wanted.formats else None
        available(wanted.formats, signing)
        inquiry = settings.inquiry(wanted.first, wanted.last)
        return archive.begin(wanted.model_dump(mode="json"), lambda: work(inquiry), wanted.formats, signing)

    @app.get("/v1/audits", dependencies=guarded, response_model=list[Taken])
    def every() -> list[dict[str, Any]]:
        """All audits, the newest first."""
        return archive.all()

    @app.get("/v1/audits/{identity}", dependencies=guarded, response_model=Taken)
    def one(identity: str) -> dict[str, Any]:
        """One audit."""
        return archive.one(identity)

    @app.get("/v1/audits/{identity}/{name}", dependencies=guarded, response_class=FileResponse)
    def artefact(identity: str, name: str) -> FileResponse:
        """A report: `report.html`, `report.json`, or another that was asked for."""
        path = archive.artefact(identity, name)
        return FileResponse(path, media_type=ARTEFACTS[name], headers={"X-Content-Type-Options": "nosniff"})

    _answer_problems(app)
    app.add_middleware(_Bounded)
    return app


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


_PROBLEMS: dict[type[Exception], tuple[int, str]] = {
    NotAdmitted: (401, "Send the regulator's token as Authorization: Bearer."),
    AuditNotFound: (404, "List the audits with GET /v1/audits."),
    CannotSign: (500, "Mend [signing] in auditor.toml, or ask for other formats than pdf."),
    FormatUnavailable: (501, "Have sealtrace[auditor] installed here, or ask for html and json."),
    TooManyAudits: (429, "Wait until some are done."),
    BodyTooLarge: (413, "Send less, with a Content-Length."),
    BodyTooSlow: (408, "Send it again over a better connection."),
}


def _answer_problems(app: FastAPI) -> None:
    """Every error as application/problem+json (RFC 9457)."""
    for kind in _PROBLEMS:
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
