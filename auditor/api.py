"""The auditor as a service: a regulator asks for audits and fetches reports, with a bearer token."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from sealtrace import __version__
from sealtrace.auditor.archive import ARTEFACTS, Archive, AuditNotFound, TooManyAudits
from sealtrace.auditor.audit import Audit
from sealtrace.auditor.inquiry import Inquiry, examine
from sealtrace.auditor.settings import Settings

_bearer = HTTPBearer(auto_error=False)


class NotAdmitted(PermissionError):
    """The request has no token, or one that is not known here: send Authorization: Bearer."""


class Wanted(BaseModel):
    """Which blocks to audit; by default all, from the contracts' first to the last that is final."""

    model_config = ConfigDict(extra="forbid", strict=True)

    first: int | None = Field(default=None, ge=0)
    last: int | None = Field(default=None, ge=0)


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
        inquiry = settings.inquiry(wanted.first, wanted.last)
        return archive.begin(wanted.model_dump(), lambda: work(inquiry))

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
        """A report: ``report.html`` or ``report.json``."""
        path = archive.artefact(identity, name)
        return FileResponse(path, media_type=ARTEFACTS[name], headers={"X-Content-Type-Options": "nosniff"})

    _answer_problems(app)
    return app


_PROBLEMS: dict[type[Exception], tuple[int, str]] = {
    NotAdmitted: (401, "Send the regulator's token as Authorization: Bearer."),
    AuditNotFound: (404, "List the audits with GET /v1/audits."),
    TooManyAudits: (429, "Wait until some are done."),
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
    first = error.errors()[0] if isinstance(error, RequestValidationError) else {"loc": (), "msg": str(error)}
    place = ".".join(str(part) for part in first["loc"])
    return _problem(422, "MalformedRequest", f"{place}: {first['msg']}", "See /docs for what is expected.")


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
